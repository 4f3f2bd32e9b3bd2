"""Folders of runs as training leaves them, with figures that are known."""

import json
import math
import random
from pathlib import Path
from typing import Any

from PIL import Image

from taid_vlm.losses import TAIDClock
from taid_vlm.recipe import Recipe, dump_recipe
from tests.tiny.recipes import tiny_recipe

PARTS = {
    "data": 0.05,
    "teacher": 0.3,
    "student_forward": 0.1,
    "loss": 0.15,
    "backward": 0.35,
    "optimizer": 0.03,
    "other": 0.02,
}


def recipe_of(method: str, steps: int, base: Path) -> Recipe:
    loss = {"name": method} | ({"alpha_total": 5.9} if method == "taid" else {})
    teacher = {"checkpoint": "recipes:quickstart/teacher"}
    training = {"steps": steps, "batch_size": 4, "lr": 5e-3, "trackers": []}
    return tiny_recipe(base, base, loss=loss, teacher=teacher, training=training)


def write_run(
    folder: Path, method: str = "taid", steps: int = 60, total: int = 60, *, finished: bool = True, seed: int = 0
) -> Path:
    """A run of ``steps`` steps; its loss is 3 / step with some noise, its KL half of that."""
    folder.mkdir(parents=True)
    recipe, draws = recipe_of(method, total, folder), random.Random(seed)
    about: dict[str, Any] = {
        "recipe": dump_recipe(recipe),
        "precision": "fp32",
        "device": "cpu",
        "versions": {"torch": "2.9.0"},
    }
    changes = [["loss.name", "kl", method], ["data.max_length", None, 128]]
    about["origin"] = {
        "recipe": f"quickstart/{method}",
        "overrides": ["training.lr=5e-3"],
        "base": "base.yaml",
        "changes": changes,
    }
    (folder / "run.json").write_text(json.dumps(about))
    (folder / "recipe.yaml").write_text(about["recipe"])
    (folder / "trained.txt").write_text("projector: 10 of 10 parameters are trained\n")
    clock = TAIDClock(total, alpha_total=5.9)
    metrics: list[dict[str, Any]] = []
    for step in range(1, steps + 1):
        loss = 3 / step * (1 + 0.2 * draws.random())
        row = {
            "step": step,
            "loss": loss,
            "cross_entropy": 1.2 * loss,
            "student_entropy": 1 / step,
            "teacher_entropy": 0.4,
        }
        row |= {"kl_teacher": loss / 2, "head_mass": 1 - 0.5 / step, "tail_mass": 10.0 ** (-9 - step / 20)}
        row |= {
            "grad_norm": 5 * draws.random() + 1,
            "lr_projector": 1e-3,
            "lr_language_model": 1e-3 * math.cos(step / total),
        }
        if method == "taid":
            row |= {"t": clock.t, "momentum": clock.momentum}
            clock.update(loss, step - 1)
        metrics.append(row)
        if step % 20 == 0:
            value = 0.3 + 0.3 * step / total
            scores = {"vqa": value, "vqa_low": value - 0.05, "vqa_high": value + 0.05}
            metrics.append({"step": step, **{f"evaluation_{name}": score for name, score in scores.items()}})
            metrics.append({"step": step, "validation_cross_entropy": loss, "validation_kl_to_teacher": loss / 2})
    timing = [
        {"step": step, "seconds": 0.5, "data_seconds": 0.02, "tokens_per_second": 1000 + 200 * draws.random()}
        | {f"seconds_{name}": 0.5 * share for name, share in PARTS.items()}
        | {"memory_bytes": 2.0**30 * min(3.0, 1 + step / 10)}
        for step in range(1, steps + 1)
    ]
    for name, rows in (("metrics", metrics), ("timing", timing)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    if finished:
        (folder / "student").mkdir()
        (folder / "student" / "student.json").write_text("{}")
        (folder / "evaluation").mkdir()
        result = {"task": "vqa", "metric": "accuracy", "value": 0.61, "low": 0.56, "high": 0.66, "top": 1.0}
        (folder / "evaluation" / "vqa.result.json").write_text(json.dumps(result))
    return folder


def write_examples(run: Path, texts: dict[str, str] | None = None, count: int = 4) -> None:
    """Pictures with an answer of everybody."""
    folder = run / "examples"
    folder.mkdir()
    items = []
    said = texts or {"before": "a b a b", "after": "circle", "teacher": "circle"}
    for number in range(count):
        colour = [(200, 30, 30), (30, 60, 200), (20, 140, 60), (230, 190, 20)][number % 4]
        Image.new("RGB", (64, 48), colour).save(folder / f"{number}.png")
        answers = {who: {"text": text, "error": None, "score": float(text == "circle")} for who, text in said.items()}
        item = {
            "task": "vqa",
            "id": f"q{number}",
            "question": f"Which shape is on picture {number}?",
            "truths": ["circle"],
        }
        items.append({**item, "pictures": [f"{number}.png"], "answers": answers})
    (folder / "examples.json").write_text(json.dumps({"notes": {}, "items": items}))
