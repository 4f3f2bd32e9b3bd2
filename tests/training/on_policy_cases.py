"""Small runs with student-written answers: some questions with a picture, some without, one of two turns."""

import json
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from PIL import Image
from torch import Tensor

from taid_vlm.data import PairedBatch, StepOrder, make_loader
from taid_vlm.models import build_student
from taid_vlm.models.saved import save_student
from taid_vlm.models.specs import StudentSpec
from taid_vlm.recipe import Recipe
from taid_vlm.training.on_policy import OnPolicy
from taid_vlm.training.setup import Setup, prepare
from taid_vlm.training.step import DistillationStep, loss_of
from tests.tiny.recipes import tiny_recipe

CPU = torch.device("cpu")
END, CONTROL, PLACEHOLDER, UNKNOWN = 2, 1, 3, 261  # of the tiny tokenizer, which has 260 tokens


def write_records(folder: Path, pictures: bool, count: int = 8) -> Path:
    """Rows of a jsonl source."""
    folder.mkdir(exist_ok=True)
    lines = []
    for index in range(count):
        asked: Any = f"what is {index}?" + " and so on" * (index % 3)
        row: dict[str, Any] = {"images": [], "id": f"r{index}"}
        if pictures and index % 2:
            Image.new("RGB", (16, 16), (30 * index, 20, 200)).save(folder / f"{index}.png")
            asked, row["images"] = [{"type": "image"}, {"type": "text", "text": asked}], [f"{index}.png"]
        row["messages"] = [{"role": "user", "content": asked}, {"role": "assistant", "content": f"it is {index}"}]
        if index == 2:
            row["messages"] += [{"role": "user", "content": "sure?"}, {"role": "assistant", "content": "yes"}]
        lines.append(json.dumps(row))
    (folder / "train.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def recipe_for(folder: Path, language_model: Path, pictures: bool = True, **changes: Any) -> Recipe:
    """Kl from a teacher that has 9 tokens for a picture where the student has 4; ``changes`` replace top-level keys, by dicts in part."""
    base = tiny_recipe(language_model, folder).model_dump()
    student = base["student"]
    if not pictures:
        student |= {"vision_encoder": None, "projector": None, "image_token": None}
        student["train"] |= {"projector": {"mode": "full"}}
    teacher = folder / ("teacher" if pictures else "text-teacher")
    if not teacher.exists():
        larger = json.loads(json.dumps(student))
        larger["language_model"]["layers"] = None
        if pictures:
            larger["vision_encoder"]["image_size"] = 96
        spec = StudentSpec.model_validate(larger)
        save_student(*build_student(spec, 5), spec, teacher)
    source = {"kind": "jsonl", "path": str(write_records(folder / f"records-{pictures}", pictures))}
    content: dict[str, Any] = {
        **base,
        "teacher": {"checkpoint": str(teacher)},
        "data": {"train": [source], "validation": [source], "cache_image_features": pictures, "max_length": 128},
        "loss": {"name": "kl", "mass_rows": 0},
        "on_policy": {"sampler": "mixed", "share": 1.0, "max_new_tokens": 12, "batch_size": 3},
        "training": {"steps": 10, "batch_size": 4, "lr": 1e-2, "precision": "fp32", "validate_every": 2},
    }
    for key, value in changes.items():
        content[key] = {**content[key], **value} if isinstance(value, dict) else value
    return Recipe.model_validate(content)


def setup_of(recipe: Recipe) -> Setup:
    """Its parts, without a run."""
    return prepare(recipe, Accelerator(cpu=True), None, "fp32", lambda text: None)


def batches_of(
    setup: Setup, on_policy: OnPolicy, step: int, micro: int = 4, rank: int = 0, world: int = 1
) -> list[PairedBatch]:
    """The micro-batches of a step of four samples, as the loader gives them."""
    order = StepOrder(len(setup.train), 4, micro, 0, step, step + 1, rank, world)
    return list(make_loader(setup.train, order, on_policy.join))


def answers(batches: list[PairedBatch]) -> dict[str, list[int]]:
    """Labels of each sample, by id; of padded batches."""
    found: dict[str, list[int]] = {}
    for batch in batches:
        counts = torch.bincount(batch.student.rows // batch.student.input_ids.shape[1], minlength=len(batch.ids))
        pieces = batch.labels.split(counts.tolist())
        found |= {name: piece.tolist() for name, piece in zip(batch.ids, pieces, strict=True)}
    return found


def written_rows(batch: PairedBatch) -> Tensor:
    """Which rows the student wrote."""
    return torch.zeros(len(batch.labels)).bool() if batch.student_written is None else batch.student_written


def on_policy_of(recipe: Recipe, setup: Setup, rank: int = 0, world: int = 1) -> OnPolicy:
    """What the recipe asks for, which is not nothing."""
    made = OnPolicy.of(recipe, setup, CPU, rank, world)
    assert made is not None
    return made


def changed(recipe: Recipe, **keys: Any) -> Recipe:
    """The recipe with other values in its on_policy."""
    return recipe.model_copy(update={"on_policy": recipe.on_policy.model_copy(update=keys)})


class SmallRun:
    """A loop of a few lines, with the interface of the real one to what is tested."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe, self.setup = recipe, setup_of(recipe)
        self.on_policy = OnPolicy.of(recipe, self.setup, CPU)
        assert self.on_policy is not None
        self.module = DistillationStep(self.setup.student, self.setup.spec, self.setup.vocabulary, recipe.loss)
        self.module.train()
        self.optimizer = torch.optim.SGD(self.setup.student.parameters(), lr=0.5)
        self.steps = 0
        self.seen: list[dict[str, list[int]]] = []
        self.figures: list[dict[str, float]] = []

    def go(self, steps: int) -> None:
        assert self.on_policy is not None
        for _ in range(steps):
            batches = self.on_policy.replaced(batches_of(self.setup, self.on_policy, self.steps, 2), self.steps)
            self.seen.append(answers(batches))
            self.figures.append(self.on_policy.figures(lambda values: values))
            rows = sum(len(batch.labels) for batch in batches)
            for batch in batches:
                (loss_of(self.setup, self.module, batch, CPU, 1.0).loss / rows).backward()
            self.optimizer.step()
            self.optimizer.zero_grad()
            self.steps += 1
            if self.steps % 2 == 0:  # a held-out loss that jumps about
                self.on_policy.validated({"cross_entropy": float(self.steps % 8)})

    def state(self) -> dict[str, Any]:
        assert self.on_policy is not None
        return {"student": self.setup.student.state_dict(), "on_policy": self.on_policy.state_dict()}

    def load(self, state: dict[str, Any], steps: int) -> None:
        assert self.on_policy is not None
        self.setup.student.load_state_dict(state["student"])
        self.on_policy.load_state_dict(state["on_policy"])
        self.steps = steps
