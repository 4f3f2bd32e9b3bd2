"""A checkpoint in the original layout, written as one of the stock class."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from taid_vlm.common.errors import UserError
from taid_vlm.common.files import new_folder, require_space
from taid_vlm.models.native.internvl2.original import Original, read_original
from taid_vlm.models.native.internvl2.pictures import end_token, processor_of
from taid_vlm.models.native.internvl2.tensors import Plan, plan_tensors, set_dtype, stock_config
from taid_vlm.models.native.internvl2.tokenizer import CONTEXT, converted_tokenizer
from taid_vlm.models.native.internvl2.weights import WeightFiles, write_weights

FORMAT = 1  # of what is written; a change makes cached conversions anew


def convert_internvl2(
    source: Path, target: Path, *, weights: bool = True, progress: Callable[[int], None] = lambda _: None
) -> int:
    """Write ``target``, a folder that stock transformers opens, at once: it is complete, or it is not there.

    Args:
        weights: False writes configs, tokenizer and processor alone.
        progress: told of the bytes of each file of weights that is written.

    Returns:
        Parameters that were written.

    Raises:
        UserError: see :func:`read_original`, :func:`converted_tokenizer`, :func:`processor_of` and :func:`plan_tensors`; no space left.
    """
    original = read_original(source)
    tokenizer = converted_tokenizer(source, int(original.text.get("vocab_size", 0)))
    processor = processor_of(original, tokenizer)
    config = stock_config(original, tokenizer.convert_tokens_to_ids(CONTEXT))
    end = end_token(original, tokenizer)
    files, plan = _planned(original, config) if weights else (None, {})
    if files is not None:
        require_space(target, files.nbytes + (1 << 27), f"the converted {source.name}")
    with new_folder(target) as folder:
        processor.save_pretrained(folder)
        config.save_pretrained(folder)
        _generation(folder, end, tokenizer)
        if files is not None:
            write_weights(files, plan, folder, progress)
        for licence in source.glob("LICENSE*"):
            shutil.copy(licence, folder)
        (folder / "README.md").write_text(_card(original))
    return sum(_count(shape) for _, _, shape in plan.values())


def _planned(original: Original, config: Any) -> tuple[WeightFiles, Plan]:
    import torch

    files = WeightFiles(original.folder)
    plan = plan_tensors(original, files.shapes, config)
    head, embedding = "language_model.lm_head.weight", "language_model.model.embed_tokens.weight"
    if (
        config.tie_word_embeddings
        and head in files.shapes
        and not torch.equal(files.tensor(head), files.tensor(embedding))
    ):
        raise UserError("the checkpoint says that its head is its embedding (tie_word_embeddings), but has another one")
    kinds = [files.dtypes[name] for name, _, _ in plan.values()]
    set_dtype(config, max(dict.fromkeys(kinds), key=kinds.count))  # that of most weights, whatever the config says
    return files, plan


def _generation(folder: Path, end: int, tokenizer: Any) -> None:
    padding = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else end
    about = {"do_sample": False, "eos_token_id": end, "pad_token_id": padding}
    if tokenizer.bos_token_id is not None:
        about["bos_token_id"] = tokenizer.bos_token_id
    (folder / "generation_config.json").write_text(json.dumps(about, indent=2) + "\n")


def _card(original: Original) -> str:
    return (
        f"# {original.folder.name}, stock layout\n\nConverted by taid-vlm from the layout in which InternVL2 was released ({original.architecture} as "
        f"language model). The values are the same; the licence is that of the original.\n"
    )


def _count(shape: tuple[int, ...]) -> int:
    total = 1
    for side in shape:
        total *= side
    return total
