"""How the weights of a recipe are stored, as far as it decides memory: read from configs, never from weight files."""

from dataclasses import dataclass
from pathlib import Path

import torch

from taid_vlm.common.paths import resolve
from taid_vlm.common.remote_code import trusted
from taid_vlm.models.language_model import checked_source, load_language_model
from taid_vlm.models.native.loading import native_config
from taid_vlm.models.native.model import NativeModel
from taid_vlm.models.saved import read_about
from taid_vlm.models.specs import LanguageModelSpec, StudentSpec
from taid_vlm.models.student import count_parameters
from taid_vlm.planning.models import Models
from taid_vlm.recipe.schema import Recipe

FP32 = 4


@dataclass(frozen=True)
class LoadedFrom:
    """Bytes that loading takes for a moment beyond the weights themselves.

    Attributes:
        student_extra, teacher_extra: the file's pages while they are converted, and layers that are cut off again.
        teacher_mapped: the teacher's weights are a view of their file, which stays until the last of them is dropped.
    """

    student_extra: int
    teacher_extra: int
    teacher_mapped: bool


def loaded_from(recipe: Recipe, models: Models) -> LoadedFrom:
    """What loading the models of a recipe takes."""
    student_extra = _extra(recipe.student.language_model, count_parameters(models.student.language_model))
    if models.teacher is None or recipe.teacher is None:
        return LoadedFrom(student_extra, 0, False)
    wanted: torch.dtype = getattr(torch, recipe.teacher.dtype)
    if isinstance(models.teacher.model, NativeModel):
        dtype = native_config(resolve(recipe.teacher.checkpoint or ""), recipe.teacher.revision).dtype or torch.float32
        copied = 0 if dtype == wanted else dtype.itemsize * count_parameters(models.teacher.model)
        return LoadedFrom(student_extra, copied, dtype == wanted)
    size = count_parameters(models.teacher.model.language_model)
    if recipe.teacher.language_model is not None:
        spec = recipe.teacher.language_model
    else:
        wanted = torch.float32
        about = read_about(Path(resolve(recipe.teacher.checkpoint or "")).expanduser())
        if about["weights"] == "full":
            return LoadedFrom(student_extra, FP32 * count_parameters(models.teacher.model), False)
        spec = StudentSpec.model_validate(about["spec"]).language_model
    return LoadedFrom(student_extra, _extra(spec, size, wanted), stored_dtype(spec) == wanted)


def stored_dtype(spec: LanguageModelSpec) -> torch.dtype:
    """What the checkpoint's config says its weights are; GGUF files are converted to fp32 before they are used."""
    from transformers import AutoConfig

    if spec.gguf_file is not None:
        return torch.float32
    source = checked_source(spec)
    trust = trusted(source, spec.revision, spec.trust_remote_code)
    config = AutoConfig.from_pretrained(source, revision=spec.revision, trust_remote_code=trust)
    dtype = getattr(config, "dtype", None)
    return dtype if isinstance(dtype, torch.dtype) else torch.float32


def _extra(spec: LanguageModelSpec, parameters: int, wanted: torch.dtype = torch.float32) -> int:
    # Stored as they are wanted the weights are views of the mapped file: nothing is copied, and what is cut off was never read.
    dtype = stored_dtype(spec)
    if dtype == wanted:
        return 0
    whole = parameters
    if spec.layers is not None:
        with torch.device("meta"):
            model, _ = load_language_model(spec.model_copy(update={"layers": None}), load_weights=False)
        whole = count_parameters(model)
    return wanted.itemsize * (whole - parameters) + dtype.itemsize * whole
