"""What ``taid-vlm export`` does: a run's student as a stock checkpoint, with what the run tells of it, here and on the hub."""

import json
import shlex
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taid_vlm.common.errors import UserError
from taid_vlm.common.markdown import fenced, plain, read_card, table
from taid_vlm.common.paths import resolve
from taid_vlm.common.progress import waiting

if TYPE_CHECKING:
    from taid_vlm.export.card import About
    from taid_vlm.export.record import Exported


@dataclass(frozen=True)
class Wish:
    """What is asked of an export; see :func:`export`."""

    model: Path
    target: Path | None = None
    to: str = "auto"
    gguf: bool = False
    push: str = ""
    private: bool = False
    message: str = ""
    trust_remote_code: bool = False


def export(
    model: str | Path,
    target: str | Path | None = None,
    to: str = "auto",
    *,
    gguf: bool = False,
    push: str = "",
    private: bool = False,
    message: str = "",
    trust_remote_code: bool = False,
) -> Path:
    """Write a checkpoint that stock transformers loads, proven by reloading it in a fresh process.

    Args:
        model: folder of a run, or of a student.
        target: folder to write, ``export`` beside the student when left out. It must not be there yet, unless it is an export of this
            student that is to be uploaded: then that is, as it lies there.
        to: ``auto`` for the first class that fits, or the name of one; docs/export.md has the table.
        gguf: also make llama.cpp's files, in ``target``/gguf.
        push: repository on the hub to upload to, created where it is missing; empty for none.
        private: create it for its owner alone. One that exists and is public is refused.
        message: of the upload's commit.
        trust_remote_code: see :func:`taid_vlm.models.load_student`.

    Returns:
        The folder that was written or uploaded.

    Raises:
        UserError: no student there, the target exists, the class cannot hold the student, or the reloaded checkpoint answers
            otherwise: then nothing is left. The same if llama.cpp's converter is missing or does not know the class, or nobody may upload.
            If it was exported and not uploaded, the export stays.
    """
    place = None if target is None else Path(target)
    return _fulfil(Wish(Path(model), place, to, gguf, push, private, message, trust_remote_code))[0].folder


def export_run(wish: Wish) -> str:
    """The same, and what was written, proven and uploaded, in lines for people."""
    done, more = _fulfil(wish)
    proof = done.proofs[0]
    lines = [
        f"{done.folder}: {proof.architecture}",
        f"reloaded in a fresh process: logits differ by {proof.difference:.1e}, greedy answers are equal",
        *done.notes,
        *more,
    ]
    return "\n".join(lines)


def _fulfil(wish: Wish) -> tuple["Exported", list[str]]:
    """The export, and lines on what was made of it."""
    from taid_vlm.export.publish import full_name, publish
    from taid_vlm.models.saved import read_about

    if not wish.push and (wish.private or wish.message):
        raise UserError("private and message are of an upload: name its repository, such as push me/my-student")
    place = Path(resolve(str(wish.model)))
    if place != wish.model and wish.target is None:  # beside it is the package itself, or a cache
        raise UserError(
            f"{wish.model} is no place to write beside; give the folder to write: taid-vlm export {wish.model} FOLDER"
        )
    student = place / "student" if (place / "student").is_dir() else place
    about, target = read_about(student), wish.target or student.parent / "export"
    if target.exists() and not wish.push:
        raise UserError(f"{target} exists; choose another folder, or upload the export that it holds (push)")
    there = _made_before(about, target, wish) if target.exists() else None
    if not wish.push:
        return _made(student, target, wish)
    repository = full_name(wish.push)  # what cannot be done is told before anything is written
    done, lines = (there, []) if there else _made(student, target, wish)
    try:
        lines.append(publish(done.folder, repository, private=wish.private, message=wish.message))
    except KeyboardInterrupt as stopped:
        raise type(stopped)(f"the export is complete in {target}; the same command goes on with its upload") from None
    return done, lines


def _made_before(about: dict[str, Any], target: Path, wish: Wish) -> "Exported":
    """The export of a student that lies in ``target``. ``about`` is what its ``student.json`` holds.

    Raises:
        UserError: that is something else, or has not all that is wished for.
    """
    from taid_vlm.export.record import fingerprint, read_record
    from taid_vlm.models.specs import StudentSpec

    spec = StudentSpec.model_validate(about["spec"]).model_dump(mode="json")
    done = read_record(target, fingerprint(about["sha256"], spec), wish.to)
    if wish.gguf and not (target / "gguf").is_dir():
        raise UserError(
            f"{target} holds an export without GGUF files; delete it to export anew, or name another folder"
        )
    return done


def _made(student: Path, target: Path, wish: Wish) -> tuple["Exported", list[str]]:
    """A new export, and lines on what is beside it."""
    from taid_vlm.export.gguf_files import find_converter, write_gguf
    from taid_vlm.export.plan import gguf_refusal
    from taid_vlm.export.write import chosen_kind, export_student
    from taid_vlm.models import load_student

    with waiting("loading the student"):
        loaded = load_student(student, trust_remote_code=wish.trust_remote_code)
    if not wish.gguf:
        with waiting("writing, and reloading in a fresh process"):
            return export_student(loaded, target, wish.to, about=about_run(student)), []
    kind, facts = chosen_kind(loaded, wish.to)  # what cannot be made is told before anything is written
    if kind != "language_model" and (reason := gguf_refusal(kind, facts)):
        raise UserError(f"llama.cpp makes no GGUF files of this export: {reason}. Leave out --gguf")
    converter = find_converter()
    with waiting("writing, and reloading in a fresh process"):
        done = export_student(loaded, target, wish.to, about=about_run(student))
    with waiting("writing GGUF files"):
        written = write_gguf(converter, done.folder, done.folder / "gguf", sees=done.kind != "language_model")
    return done, [str(file) for file in written]


def about_run(student: Path) -> "About":
    """For the card: what the student's own card tells of the run, and the scores beside it."""
    from taid_vlm.export.card import About

    card = student / "README.md"
    fields, body = read_card(card.read_text(encoding="utf-8")) if card.is_file() else ({}, "")
    sections = body[body.find("\n## ") + 1 :] if "\n## " in body else ""
    # Cards of earlier versions have no fields that a hub reads.
    known = fields if isinstance(fields.get("tags"), list) else {}
    return About(known, f"## Scores\n\n{_scores(student.parent / 'evaluation')}\n\n{sections}")


def _scores(folder: Path) -> str:
    rows, commands = [], defaultdict[tuple[Any, ...], list[str]](list)
    for file in sorted(folder.glob("*.json")) if folder.is_dir() else []:
        try:
            found = json.loads(file.read_text())
            value = f"{found['value']:.4f} ({found['low']:.4f} to {found['high']:.4f})"
            rows.append((plain(found["task"]), plain(found["metric"]), value, f"{found['n']:d}"))
            asked = (found.get("protocol", "default"), found.get("limit"), found.get("seed", 0))
            commands[asked].append(found["task"])
        except (ValueError, KeyError, TypeError):
            continue  # another file than a result
    if not rows:
        return "None yet: `taid-vlm eval FOLDER --tasks NAME`."
    again = "\n".join(_command(asked, tasks) for asked, tasks in commands.items())
    return (
        f"{table(('task', 'metric', 'value (95 % interval)', 'items'), rows)}\n\nOf the student before its export. Of this checkpoint:\n\n"
        f"{fenced(again, 'sh')}"
    )


def _command(asked: tuple[Any, ...], tasks: list[str]) -> str:
    """What measures tasks as they were measured."""
    protocol, limit, seed = asked
    options = [] if protocol == "default" else ["--protocol", protocol]
    options += [] if limit is None else ["--limit", str(limit)]
    options += [] if seed == 0 else ["--seed", str(seed)]
    return shlex.join(["taid-vlm", "eval", "FOLDER", "--tasks", ",".join(tasks), *options])
