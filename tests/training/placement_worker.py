"""One of two processes that share a teacher: writes down the hidden states that it gets for its batches."""

import sys
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from PIL import Image

import tests.tiny.timm_models  # noqa: F401  # adds the encoder to timm's registry
from taid_vlm.models.native.processor import NativeProcessor
from taid_vlm.models.student import ModelInputs
from taid_vlm.models.teacher import Teacher, teacher_from_checkpoint
from taid_vlm.recipe.teacher_spec import TeacherSpec
from taid_vlm.training.placement import place_teacher, share_teacher

LOOKS = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What?"}]}]
READS = [{"role": "user", "content": "Hello there, and a little more so that it is long"}]
SHORT = [{"role": "user", "content": "Hi"}]
# What each process is asked in its turns: conversations and how many pictures; None is a batch that was dropped.
TURNS: list[list[list[list[dict[str, Any]]] | None]] = [
    [[LOOKS, SHORT], [READS]],
    [[READS, SHORT], [LOOKS]],
    [None, [LOOKS, READS]],
    [[SHORT], None],
    [[READS], [READS]],
]


def inputs_of(teacher: Teacher, conversations: list[list[dict[str, Any]]]) -> Any:
    """A padded batch; all positions are answer rows. A teacher without an encoder is shown no picture."""
    processor: Any = teacher.processor
    if not teacher.sees:
        conversations = [READS if c is LOOKS else c for c in conversations]
    shown = [[Image.new("RGB", (40, 30), (i * 50, 90, 7))] if c is LOOKS else [] for i, c in enumerate(conversations)]
    rendered = [
        processor.render(c, add_generation_prompt=True, sizes=[p.size for p in pictures]).ids
        for c, pictures in zip(conversations, shown, strict=True)
    ]
    longest = max(len(ids) for ids in rendered)
    ids = torch.full((len(rendered), longest), processor.end_of_turn_id)
    mask = torch.zeros_like(ids)
    for row, own in enumerate(rendered):
        ids[row, : len(own)] = torch.tensor(own)
        mask[row, : len(own)] = 1
    rows = mask.flatten().nonzero().flatten()
    if isinstance(processor, NativeProcessor):
        return processor.inputs(ids, mask, rows, shown)
    flat = [picture for some in shown for picture in some]
    inputs = ModelInputs(ids, mask, rows)
    if not flat:
        return inputs
    tiles = tuple(processor.tiles_per_image(picture.size) for picture in flat)
    return ModelInputs(ids, mask, rows, processor.pixel_values(flat), tiles=tiles)


def main(*checkpoints: str) -> None:
    """Ask each teacher, shared, and save beside its checkpoint what it said."""
    accelerator = Accelerator(cpu=True)
    for checkpoint in checkpoints:
        found = said_by(checkpoint, accelerator)
        torch.save(found, Path(checkpoint) / f"rank{accelerator.process_index}.pt")
    accelerator.end_training()


def said_by(checkpoint: str, accelerator: Accelerator) -> dict[str, torch.Tensor]:
    """Hidden states by turn, and the share of the weights that this process holds."""
    teacher = teacher_from_checkpoint(checkpoint)
    whole = sum(p.numel() for p in teacher.model.parameters())
    spec = TeacherSpec(checkpoint=checkpoint, placement="sharded")
    device, world = accelerator.device, accelerator.num_processes
    place_teacher(teacher, spec, device, print)
    share_teacher(teacher, spec, device, world, print, looks=teacher.sees)
    found = {}
    for turn, by_rank in enumerate(TURNS * 14):  # more often than forwards are forgotten
        asked = by_rank[accelerator.process_index]
        if asked is None:
            teacher.idle()
        elif turn < len(TURNS):
            found[str(turn)] = teacher.hidden(inputs_of(teacher, asked))
        else:
            teacher.hidden(inputs_of(teacher, asked))
    held = sum(p.to_local().numel() if hasattr(p, "to_local") else p.numel() for p in teacher.model.parameters())
    found["share"] = torch.tensor(held / whole)
    assert type(teacher.head_weight.data) is torch.Tensor
    return found


if __name__ == "__main__":
    main(*sys.argv[1:])
