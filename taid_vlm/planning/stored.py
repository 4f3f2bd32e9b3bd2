"""How the weights of a recipe are stored, as far as it decides memory: read from configs, never from weight files."""

from dataclasses import dataclass
from pathlib import Path

import torch

from taid_vlm.common.paths import resolve
from taid_vlm.models.language_model import checked_source, load_language_model
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
    size = count_parameters(models.teacher.model.language_model)
    if recipe.teacher.language_model is not None:
        spec = recipe.teacher.language_model
    else:
        about = read_about(Path(resolve(recipe.teacher.checkpoint or "")).expanduser())
        if about["weights"] == "full":
            return LoadedFrom(student_extra, FP32 * count_parameters(models.teacher.model), False)
        spec = StudentSpec.model_validate(about["spec"]).language_model
    return LoadedFrom(student_extra, _extra(spec, size), stored_dtype(spec) == torch.float32)


def stored_dtype(spec: LanguageModelSpec) -> torch.dtype:
    """What the checkpoint's config says its weights are; GGUF files are converted to fp32 before they are used."""
    from transformers import AutoConfig

    if spec.gguf_file is not None:
        return torch.float32
    config = AutoConfig.from_pretrained(
        checked_source(spec), revision=spec.revision, trust_remote_code=spec.trust_remote_code
    )
    dtype = getattr(config, "dtype", None)
    return dtype if isinstance(dtype, torch.dtype) else torch.float32


def _extra(spec: LanguageModelSpec, parameters: int) -> int:
    # Stored in fp32 the weights are views of the mapped file: nothing is copied, and what is cut off was never read.
    dtype = stored_dtype(spec)
    if dtype == torch.float32:
        return 0
    whole = parameters
    if spec.layers is not None:
        with torch.device("meta"):
            model, _ = load_language_model(spec.model_copy(update={"layers": None}), load_weights=False)
        whole = count_parameters(model)
    return FP32 * (whole - parameters) + dtype.itemsize * whole
