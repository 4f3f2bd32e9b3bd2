"""The keys of a first recipe: few, and such that it runs as it is."""

from pathlib import Path
from typing import Any

from taid_vlm.common.errors import UserError
from taid_vlm.new.answers import ENCODER, Answers
from taid_vlm.new.models_asked import chat_template_of, encoder_of, projector_of

KINDS = {
    ".jsonl": "jsonl",
    ".json": "json",
    ".parquet": "parquet",
    ".csv": "csv",
    ".tsv": "csv",
    ".tar": "webdataset",
    ".txt": "text",
}
NAMED = {
    "asset:easy-vqa": "easy_vqa",
    "asset:chatterbot": "chatterbot",
    "HuggingFaceM4/the_cauldron": "cauldron",
    "HuggingFaceH4/ultrachat_200k": "ultrachat",
}


def content_of(answers: Answers) -> tuple[dict[str, Any], list[str]]:
    """The recipe as plain values, and lines for people.

    Raises:
        UserError: data of a kind that its name does not tell, or a model that cannot be used.
    """
    assert answers.teacher is not None
    assert answers.student is not None
    assert answers.data is not None
    template, note = chat_template_of(answers.student)
    student: dict[str, Any] = {}
    if answers.images:
        encoder = encoder_of(answers.encoder or ENCODER)
        student = {"vision_encoder": encoder, "projector": projector_of(encoder)}
    student |= {"language_model": {"source": answers.student}, "chat_template": template}
    if answers.images:
        student |= {"image_token": "<image>", "added_tokens": ["<image>"]}
    content = {
        "description": f"{_short(answers.teacher)} teaches {_short(answers.student)}: TAID",
        "seed": 0,
        "student": student,
        "teacher": _teacher(answers),
        "data": {
            "train": [{"kind": answers.kind or kind_of(answers.data), "path": answers.data}],
            "on_bad_sample": "skip",
            "max_length": 2048 if answers.images else 1024,
            "too_long": "drop",
            "batching": "grouped",
        },
        "loss": {"name": "taid", "schedule": "adaptive", "t_start": 0.4, "t_end": 1.0, "alpha_total": 5.9},
        "training": _training(answers),
    }
    return content, [note] if note else []


def kind_of(data: str) -> str:
    """How data is stored, by its name.

    Raises:
        UserError: the name does not tell.
    """
    if data in NAMED:
        return NAMED[data]
    path = Path(data).expanduser()
    if kind := KINDS.get(path.suffix.lower()):
        return kind
    if path.is_dir():
        found = {kind for file in sorted(path.iterdir()) if (kind := KINDS.get(file.suffix.lower()))}
        if len(found) == 1:
            return found.pop()
    elif not path.exists() and data.count("/") == 1 and not data.startswith((".", "~", "/")):
        return "huggingface"
    raise UserError(f"the name {data!r} does not say how the data is stored: add --kind, one of those in docs/data.md")


def _teacher(answers: Answers) -> dict[str, Any]:
    assert answers.teacher is not None
    saved = (Path(answers.teacher).expanduser() / "student.json").is_file()
    if answers.images or saved:
        teacher: dict[str, Any] = {"checkpoint": answers.teacher}
    else:
        teacher = {"language_model": {"source": answers.teacher}}
    if answers.gpus and not saved:
        teacher["dtype"] = "bfloat16"
    return teacher


def _training(answers: Answers) -> dict[str, Any]:
    gpus = answers.gpus or 0
    if not gpus:
        size: dict[str, Any] = {"steps": 200, "batch_size": 8, "micro_batch_size": 2}
    else:
        size = {"steps": 2000, "batch_size": 32 * gpus, "micro_batch_size": 4}
    return {
        **size,
        "lr": 2e-5,
        "warmup_steps": size["steps"] // 20,
        "precision": "bf16" if gpus else "auto",
        "gradient_checkpointing": gpus > 0,
        "checkpoint_every": 100,
    }


def _short(source: str) -> str:
    return source.rstrip("/").rpartition("/")[2]
