"""A student as one folder: ``student.json`` (what it is made of), weights, tokenizer, template, model card.

``weights: full`` holds everything. ``weights: trained`` holds only what was trained (projector, adapters) and is completed from the pretrained
parts that its spec names, so that it stays small.
"""

import json
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from taid_vlm.common.errors import UserError
from taid_vlm.common.files import new_folder, require_space, sha256_of
from taid_vlm.common.remote_code import trusted
from taid_vlm.models.assemble import build_student, join
from taid_vlm.models.loaded import LoadedStudent
from taid_vlm.models.processor import Processor
from taid_vlm.models.specs import StudentSpec, TrainedParts
from taid_vlm.models.student import Student
from taid_vlm.models.trained_parts import merge_lora, trained_state
from taid_vlm.models.vision_encoder import build_vision_encoder

FORMAT = 1


def save_student(
    student: Student,
    processor: Processor,
    spec: StudentSpec,
    path: Path,
    *,
    weights: Literal["full", "trained"] = "full",
    card: str = "",
) -> None:
    """Write the folder at once: it is complete, or it is not there.

    Adapters are merged in ``full``, in place; ``trained`` keeps them apart.

    Raises:
        UserError: no space left.
    """
    if weights == "full":
        merge_lora(student)
        # The merged student stands alone: nothing of it is an adapter any more.
        spec = spec.model_copy(update={"train": TrainedParts()})
        tensors = _full_state(student)
    else:
        tensors = {name: tensor.detach() for name, tensor in trained_state(student).items()}
    tensors = {name: tensor.contiguous().cpu() for name, tensor in tensors.items()}
    require_space(path, 2 * sum(t.nbytes for t in tensors.values()), "the saved student")
    with new_folder(path) as folder:
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        about = {
            "format": FORMAT,
            "weights": weights,
            "sha256": sha256_of(folder / "model.safetensors"),
            "spec": spec.model_dump(mode="json"),
        }
        (folder / "student.json").write_text(json.dumps(about, indent=2) + "\n")
        (folder / "README.md").write_text(card or f"# {path.name}\n\nA student trained with taid-vlm.\n")
        if weights == "full":
            (folder / "chat_template.jinja").write_text(processor.template)
            processor.tokenizer.save_pretrained(folder / "tokenizer")
            language_model: Any = student.language_model
            language_model.config.save_pretrained(folder / "language_model")


def load_student(path: str | Path, *, merge: bool = True, trust_remote_code: bool = False) -> LoadedStudent:
    """Open a saved student, in evaluation mode and fp32.

    Args:
        merge: add adapters into the weights; False keeps them apart, to train on.
        trust_remote_code: let the language model's own code run, where the student was made of one that has it.

    Raises:
        UserError: not a student's folder, damaged weights, parameters that are missing or unknown, or code that is not allowed.
    """
    folder = Path(path).expanduser()
    about = read_about(folder)
    spec = allowed_spec(folder, about, trust_remote_code)
    tensors = _read_weights(folder, about["sha256"])
    if about["weights"] == "full":
        student, processor = _empty_student(folder, spec)
        _fill(student, tensors, set(_full_state(student)), folder)
    else:
        student, processor = build_student(spec)
        _fill(student, tensors, set(trained_state(student)), folder)
        if merge:
            merge_lora(student)
    student.requires_grad_(False) if merge else None
    return LoadedStudent(student.eval(), processor, spec, str(folder), about["sha256"])


def empty_student(path: str | Path, *, trust_remote_code: bool = False) -> tuple[Student, Processor, StudentSpec]:
    """A saved student without its weights, on the meta device, adapters left out; no weight file is read.

    Args:
        trust_remote_code: see :func:`load_student`.

    Raises:
        UserError: not a student's folder, parts that its spec names are not there, or code that is not allowed.
    """
    folder = Path(path).expanduser()
    about = read_about(folder)
    spec = allowed_spec(folder, about, trust_remote_code)
    if about["weights"] == "trained":
        student, processor = build_student(spec.model_copy(update={"train": TrainedParts()}), load_weights=False)
    else:
        with torch.device("meta"):
            student, processor = _empty_student(folder, spec)
    return student.requires_grad_(False).eval(), processor, spec


def allowed_spec(folder: Path, about: dict[str, Any], trust_remote_code: bool) -> StudentSpec:
    """The spec in ``student.json``. Who opens a student decides whether code may run, not who saved it.

    Raises:
        UserError: it names a language model with code of its own, and that is not allowed.
    """
    spec = StudentSpec.model_validate(about["spec"])
    if spec.language_model.trust_remote_code and not trust_remote_code:
        raise UserError(
            f"the student {folder} has a language model with code of its own, of {spec.language_model.source!r}, which was not run: read "
            f"that code, and allow it with --trust-remote-code, or of a teacher with teacher.trust_remote_code: true"
        )
    return spec


def read_about(folder: Path) -> dict[str, Any]:
    """The content of ``student.json``.

    Raises:
        UserError: the folder or the file is missing, unreadable, or of a later format.
    """
    file = folder / "student.json"
    if not file.is_file():
        what = "no such folder" if not folder.is_dir() else f"it holds {sorted(p.name for p in folder.iterdir())[:6]}"
        raise UserError(f"{folder} is not a saved student: {what}; a folder with student.json was expected")
    try:
        about = json.loads(file.read_text())
        StudentSpec.model_validate(about["spec"])
        found = about["format"]
        _ = about["weights"], about["sha256"]
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(str(part) for part in problem["loc"])
        what = "does not fit this installation" if problem["type"] == "value_error" else "is damaged"
        raise UserError(f"{file} {what}: {where}: {problem['msg'].removeprefix('Value error, ')}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{file} is damaged: {str(error).splitlines()[0]}") from error
    if found != FORMAT:
        raise UserError(f"{file} has format {found}, this version reads {FORMAT}; update taid-vlm")
    return about


def _read_weights(folder: Path, expected_sha256: str) -> dict[str, Tensor]:
    file = folder / "model.safetensors"
    if not file.is_file():
        raise UserError(f"{folder} holds no model.safetensors; the student is incomplete")
    found = sha256_of(file)
    if found != expected_sha256:
        raise UserError(
            f"wrong hash of {file}: found sha256 {found}, expected {expected_sha256}; the file is damaged or was replaced"
        )
    try:
        return load_file(file)
    except SafetensorError as error:
        raise UserError(f"{file} cannot be read: {error}") from error


def _empty_student(folder: Path, spec: StudentSpec) -> tuple[Student, Processor]:
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    trust = trusted(str(folder / "language_model"), None, spec.language_model.trust_remote_code)
    tokenizer = AutoTokenizer.from_pretrained(folder / "tokenizer", trust_remote_code=trust)
    config = AutoConfig.from_pretrained(folder / "language_model", trust_remote_code=trust)
    language_model = AutoModelForCausalLM.from_config(config, dtype=torch.float32, trust_remote_code=trust)
    encoder = build_vision_encoder(spec.vision_encoder, load_weights=False) if spec.vision_encoder else None
    return join(spec, language_model, tokenizer, encoder, (folder / "chat_template.jinja").read_text())


def _full_state(student: Student) -> dict[str, Tensor]:
    # A tensor that two names share (tied embeddings) is stored under the first.
    kept: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, tensor in student.state_dict().items():
        if tensor.data_ptr() not in seen or tensor.numel() == 0:
            kept[name] = tensor
        seen.add(tensor.data_ptr())
    return kept


def _fill(student: Student, tensors: dict[str, Tensor], expected: set[str], folder: Path) -> None:
    missing, unknown = sorted(expected - set(tensors)), sorted(set(tensors) - expected)
    if missing or unknown:
        raise UserError(
            f"the weights in {folder} do not fit: {len(missing)} missing {missing[:3]}, {len(unknown)} unknown {unknown[:3]}"
        )
    own = student.state_dict()
    wrong = [name for name, tensor in tensors.items() if own[name].shape != tensor.shape]
    if wrong:
        raise UserError(f"the weights in {folder} do not fit: another shape in {wrong[:3]}")
    with torch.no_grad():
        for name, tensor in tensors.items():
            own[name].copy_(tensor)
