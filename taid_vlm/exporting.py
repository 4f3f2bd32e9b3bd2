"""What ``taid-vlm export`` does: a run's student as a stock checkpoint, with what the run tells of it."""

import json
from pathlib import Path

from taid_vlm.common.errors import UserError
from taid_vlm.common.paths import resolve


def export_run(model: Path, target: Path | None = None, to: str = "auto", *, gguf: bool = False, push: str = "") -> str:
    """Export a student and say in lines for people what was written and proven.

    Args:
        model: folder of a run, or of a student.
        target: folder to write; ``export`` beside the student when left out.
        to: see :func:`taid_vlm.export.export_student`.
        gguf: also make llama.cpp's files, in ``target``/gguf.
        push: repository on the hub to upload to; empty for none.

    Raises:
        UserError: no student there, or anything that :func:`export_student` refuses; llama.cpp's converter is missing or
            does not know the class.
    """
    from taid_vlm.export.gguf_files import find_converter, write_gguf
    from taid_vlm.export.plan import gguf_refusal
    from taid_vlm.export.write import chosen_kind, export_student
    from taid_vlm.models import load_student

    place = Path(resolve(str(model)))
    if place != model and target is None:  # beside it is the package itself, or a cache
        raise UserError(
            f"{model} is no place to write beside; give the folder to write: taid-vlm export {model} FOLDER"
        )
    model = place
    student = model / "student" if (model / "student").is_dir() else model
    loaded = load_student(student)
    converter = None
    if gguf:  # what cannot be made is told before anything is written
        kind, facts = chosen_kind(loaded, to)
        if kind != "language_model" and (reason := gguf_refusal(kind, facts)):
            raise UserError(f"llama.cpp makes no GGUF files of this export: {reason}. Leave out --gguf")
        converter = find_converter()
    done = export_student(loaded, target or student.parent / "export", to, about=about_run(student))
    proof = done.proofs[0]
    lines = [
        f"{done.folder}: {proof.architecture}",
        f"reloaded in a fresh process: logits differ by {proof.difference:.1e}, greedy answers are equal",
        *done.notes,
    ]
    if converter is not None:
        written = write_gguf(converter, done.folder, done.folder / "gguf", sees=done.kind != "language_model")
        lines += [str(file) for file in written]
    if push:
        lines.append(_push(done.folder, push))
    return "\n".join(lines)


def export(model: str | Path, target: str | Path | None = None, to: str = "auto") -> Path:
    """Write a checkpoint that stock transformers loads, proven by reloading it in a fresh process.

    Args:
        model: folder of a run, or of a student.
        target: folder to write, which must not be there yet; ``export`` beside the student when left out.
        to: ``auto`` for the first class that fits, or the name of one; docs/export.md has the table.

    Returns:
        The folder that was written.

    Raises:
        UserError: no student there, the target exists, the class cannot hold the student, or the reloaded checkpoint answers
            otherwise; then nothing is left.
    """
    from taid_vlm.export.write import export_student
    from taid_vlm.models import load_student

    place = Path(resolve(str(model)))
    student = place / "student" if (place / "student").is_dir() else place
    loaded = load_student(student)
    return export_student(loaded, Path(target or student.parent / "export"), to, about=about_run(student)).folder


def about_run(student: Path) -> str:
    """Markdown for the card: what the student's own card tells of the run, and the scores beside it."""
    card = student / "README.md"
    text = card.read_text() if card.is_file() else ""
    body = text.split("---\n", 2)[2] if text.startswith("---\n") else text
    sections = body[body.find("\n## ") + 1 :] if "\n## " in body else ""
    return f"## Scores\n\n{_scores(student.parent / 'evaluation')}\n\n{sections}"


def _scores(folder: Path) -> str:
    rows = []
    for file in sorted(folder.glob("*.json")) if folder.is_dir() else []:
        try:
            found = json.loads(file.read_text())
            low, high = found["low"], found["high"]
            rows.append(
                f"| {found['task']} | {found['metric']} | {found['value']:.4f} ({low:.4f} to {high:.4f}) | {found['n']} |"
            )
        except (ValueError, KeyError, TypeError):
            continue  # another file than a result
    if not rows:
        return "None yet: `taid-vlm eval FOLDER --tasks NAME`."
    return "\n".join(["| task | metric | value (95 % interval) | items |", "|---|---|---|---|", *rows])


def _push(folder: Path, repository: str) -> str:
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

    try:
        api = HfApi()
        api.create_repo(repository, exist_ok=True)
        done = api.upload_folder(repo_id=repository, folder_path=folder)
    except (OSError, HfHubHTTPError, HFValidationError, OfflineModeIsEnabled) as error:
        raise UserError(
            f"the export is complete in {folder}, but was not uploaded to {repository}: {str(error).splitlines()[0]}. Log in with "
            f"'hf auth login', then: hf upload {repository} {folder}"
        ) from error
    return f"uploaded: {done}"
