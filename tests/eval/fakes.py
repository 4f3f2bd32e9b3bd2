"""A model without weights, and tasks and data of a few lines."""

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml
from PIL import Image

from taid_vlm_eval.models.protocol import Request

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


class Killed(BaseException):
    """Stands for SIGKILL: nothing may catch it."""


class FakeModel:
    """Answers by a rule.

    Args:
        rule: from a request to its answer.
        memory: how many requests fit; more run out of memory as torch does.
        dies_after: how many calls succeed before :class:`Killed`.
    """

    def __init__(
        self,
        rule: Callable[[Request], str] = lambda request: "red",
        *,
        name: str = "fake",
        memory: int = 1000,
        dies_after: int = 1000,
    ) -> None:
        self.rule, self.name, self.memory, self.dies_after = rule, name, memory, dies_after
        self.tried: list[int] = []  # sizes of all batches, those that did not fit among them
        self.batches: list[list[Request]] = []

    def describe(self) -> dict[str, str | int]:
        return {"name": self.name, "parameters": 0}

    def generate(self, requests: Sequence[Request], max_new_tokens: int) -> list[str]:
        self.tried.append(len(requests))
        if len(self.batches) == self.dies_after:
            raise Killed
        if len(requests) > self.memory:
            raise RuntimeError("CUDA out of memory. Tried to allocate 20.00 GiB")
        self.batches.append(list(requests))
        return [self.rule(request) for request in requests]


def task_content(**changes: Any) -> dict[str, Any]:
    """All that a task file must hold; ``changes`` replace top-level keys."""
    content = {
        "name": "small",
        "description": "a few questions",
        "data": {"source": "jsonl", "path": "small.jsonl"},
        "generation": {"max_new_tokens": 4},
        "scorer": "exact_match",
        "metric": "accuracy",
    }
    return {**content, **changes}


def write_task(folder: Path, **changes: Any) -> Path:
    content = task_content(**changes)
    path = folder / f"{content['name']}.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def write_rows(folder: Path, rows: Sequence[Any], name: str = "small.jsonl") -> Path:
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def small_task(folder: Path, count: int = 10) -> Path:
    """A task about ``count`` pictures, every second one red; questions differ in length, so batches are reordered."""
    rows = []
    for index in range(count):
        colour = ("red", "blue")[index % 2]
        Image.new("RGB", (4, 4), colour).save(folder / f"{index}.png")
        rows.append(
            {"id": f"q{index}", "question": "?" * (index % 3 + 1), "answer": colour, "images": [f"{index}.png"]}
        )
    write_rows(folder, rows)
    return write_task(folder, cluster="image")


def sees_colour(request: Request) -> str:
    return "red" if request.images[0].getpixel((0, 0)) == (255, 0, 0) else "blue"


def without_speed(result: Path) -> dict[str, Any]:
    """A result file without the one figure that is a time."""
    content = json.loads(result.read_text())
    del content["answers_per_second"]
    return content


def with_chatml(checkpoint: Path, folder: Path) -> Path:
    """A copy of a language model's checkpoint that has a chat template."""
    shutil.copytree(checkpoint, folder)
    (folder / "chat_template.jinja").write_text(CHATML)
    return folder
