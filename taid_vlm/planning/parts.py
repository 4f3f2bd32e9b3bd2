"""Parts, pictures and lengths of a plan."""

from typing import Any

from taid_vlm.models.native.model import NativeModel
from taid_vlm.models.student import Student, count_parameters
from taid_vlm.models.trained_parts import PARTS, parameters_by_part
from taid_vlm.planning.models import Models
from taid_vlm.planning.samples import Samples, middle
from taid_vlm.planning.schema import LengthPlan, PartPlan, PicturePlan
from taid_vlm.recipe.schema import Recipe

SIZES = ((224, 224), (640, 480), (1280, 720), (1920, 1080), (1080, 1920), (4032, 3024))


def parts_of(recipe: Recipe, models: Models) -> tuple[PartPlan, ...]:
    """Each part of the student, and the teacher."""
    rows = []
    for name, (trained, total) in parameters_by_part(models.student).items():
        how = getattr(recipe.student.train, name)
        rate = (how.lr or recipe.training.lr) if trained else None
        rows.append(PartPlan(name, _kind(models.student, name), total, trained, how.mode, rate))
    if models.teacher is not None:
        model = models.teacher.model
        if isinstance(model, NativeModel):
            kind = model.kind
        else:
            kind = " + ".join(_kind(model, part) for part in PARTS if getattr(model, part) is not None)
        rows.append(PartPlan("teacher", kind, count_parameters(model), 0, "frozen", None))
    return tuple(rows)


def _kind(student: Student, part: str) -> str:
    module: Any = getattr(student, part)
    return type(module.backbone if part == "vision_encoder" else module).__name__


def pictures_of(models: Models) -> tuple[PicturePlan, ...]:
    """Tiles and tokens of pictures of common sizes; one line where the size changes nothing."""
    images = models.processor.images
    if images is None:
        return ()
    sizes = SIZES if models.processor.needs_sizes else SIZES[:1]
    counts = [(size, models.processor.tiles_per_image(size)) for size in sizes]
    return tuple(PicturePlan(size, tiles, tiles * images.per_tile) for size, tiles in counts)


def lengths_of(recipe: Recipe, models: Models, samples: Samples) -> LengthPlan:
    """Summary of the rendered samples."""
    config: Any = models.student.language_model.config
    lengths, answers = samples.lengths(), samples.answers()
    return LengthPlan(
        samples=samples.records,
        median=middle(lengths),
        longest=max(lengths),
        limit=recipe.data.max_length,
        context=getattr(config, "max_position_embeddings", None),
        answer_median=middle(answers),
        answer_longest=max(answers),
        refused=samples.bad,
        note=samples.note,
        estimated=samples.estimated,
    )
