"""What a first recipe must know, from options or from questions on a terminal."""

import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from taid_vlm.common.errors import UserError

Ask = Callable[[str], str]


@dataclass(frozen=True)
class Answers:
    """Each is None where nobody has said it yet.

    Attributes:
        teacher: hub id or folder. student: the same of the student's language model.
        data: file, folder, hub id or asset. kind: how it is stored; by its name when None.
        images: whether the student sees pictures. gpus: of the run, 0 for the processor.
        encoder: LIBRARY:NAME of the vision encoder.
    """

    teacher: str | None = None
    student: str | None = None
    data: str | None = None
    kind: str | None = None
    images: bool | None = None
    gpus: int | None = None
    encoder: str | None = None


ENCODER = "transformers:google/siglip2-base-patch16-512"
TEACHERS = {True: "Qwen/Qwen3-VL-8B-Instruct", False: "Qwen/Qwen3-8B"}
STUDENT = "Qwen/Qwen3-0.6B"


def completed(given: Answers) -> Answers:
    """The answers, with what is missing asked for on a terminal.

    Raises:
        UserError: something is missing and there is no terminal to ask on.
    """
    missing = [f"--{name}" for name in ("teacher", "student", "data") if getattr(given, name) is None]
    if sys.stdin.isatty() and sys.stdout.isatty():
        return asked(given, input)
    if missing:
        raise UserError(
            f"{' and '.join(missing)} not given, and there is no terminal to ask on: give them, such as --teacher {TEACHERS[True]} "
            f"--student {STUDENT} --data train.jsonl"
        )
    gpus = _gpus_here() if given.gpus is None else given.gpus
    return replace(given, images=given.images is not False, gpus=gpus)


def asked(given: Answers, ask: Ask) -> Answers:
    """Five questions, of which those are left out that an option has answered; Enter takes what stands in brackets."""
    images = given.images
    if images is None:
        images = _yes(ask("1/5 Does the student see pictures? [yes] "))
    teacher = given.teacher or _or(ask(f"2/5 Teacher, hub id or folder [{TEACHERS[images]}]: "), TEACHERS[images])
    student = given.student or _or(ask(f"3/5 Language model of the student [{STUDENT}]: "), STUDENT)
    data = given.data
    while not data:
        data = ask("4/5 Data: file, folder or hub id (docs/data.md has the kinds): ").strip()
    gpus = given.gpus
    while gpus is None:
        said = _or(ask(f"5/5 GPUs, 0 for the processor [{_gpus_here()}]: "), str(_gpus_here()))
        gpus = int(said) if said.isdigit() else None
    return replace(given, images=images, teacher=teacher, student=student, data=data, gpus=gpus)


def as_places(answers: Answers) -> Answers:
    """The same with folders of this machine written as ./x, which tells them from hub ids."""
    return replace(answers, teacher=_place(answers.teacher), student=_place(answers.student))


def _place(name: str | None) -> str | None:
    if name is None or name.startswith((".", "/", "~")) or not Path(name).is_dir():
        return name
    return f"./{name}"


def _or(said: str, usual: str) -> str:
    return said.strip() or usual


def _yes(said: str) -> bool:
    return not said.strip().lower().startswith("n")


def _gpus_here() -> int:
    return 1 if shutil.which("nvidia-smi") else 0  # torch would know better, and take seconds to say so
