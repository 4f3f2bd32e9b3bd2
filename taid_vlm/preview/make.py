"""From a recipe to its preview."""

import random
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any, Literal

from taid_vlm.common.errors import UserError
from taid_vlm.data import Pair, Pairer, Record, read_records
from taid_vlm.data.pairing import Side, check_mismatches
from taid_vlm.data.screening import refuse_pictures
from taid_vlm.losses import LossSpec
from taid_vlm.planning.models import build_models
from taid_vlm.preview.measure import Measure, Progress
from taid_vlm.preview.pictures import picture_view
from taid_vlm.preview.schema import Figures, Preview, SampleView, SideView
from taid_vlm.preview.tokens import pieces_of
from taid_vlm.recipe.schema import Recipe

SAMPLE = 2000  # records that are measured when not all are
TRIES = 50  # records that are looked at for each sample that is shown
PICTURES = 8  # of a sample, that are shown

Split = Literal["train", "validation"]


def make_preview(
    recipe: Recipe,
    title: str,
    *,
    split: Split = "train",
    samples: int = 5,
    seed: int | None = None,
    scan: bool = False,
    progress: Progress = lambda done, total: None,
) -> Preview:
    """Render the records of a recipe for both models as training would; no weights are loaded.

    Args:
        title: names the recipe.
        split: data.train, or the held-out records of data.validation.
        samples: how many are shown.
        seed: draws them; the first of the data when left out.
        scan: measure all records, not a random part.
        progress: told how many records of how many are measured.

    Raises:
        UserError: what training would refuse before it looks at the samples: models, tokenizers, files; or no held-out sources.
    """
    sources = recipe.data.train if split == "train" else recipe.data.validation
    if not sources:
        raise UserError("the recipe has no held-out records to show: data.validation is empty; leave out --split")
    models = build_models(recipe, LossSpec.of(**recipe.loss.objective))
    processors: dict[str, Any] = {"student": models.processor}
    if models.teacher is not None:
        processors["teacher"] = models.teacher.processor
    records = read_records(sources, recipe.seed)
    refuse_pictures(records, recipe.student.vision_encoder is not None)
    draw = random.Random(recipe.seed if seed is None else seed)
    some = records if scan or len(records) <= SAMPLE else draw.sample(records, SAMPLE)
    measure = Measure(_pairer(recipe, processors))
    measure.add(some, progress)
    figures = measure.figures(len(records), len(some))
    tries = min(len(records), TRIES * samples)
    looked_at = records[:tries] if seed is None else draw.sample(records, tries)
    return Preview(
        title=title,
        description=recipe.description,
        split=split,
        chosen=f"the first of data.{split}" if seed is None else f"drawn from data.{split} with seed {seed}",
        figures=figures,
        samples=_samples(looked_at, samples, Measure(_pairer(recipe, processors)), processors),
        warnings=tuple(_warnings(recipe, split, figures, measure)),
    )


def _pairer(recipe: Recipe, processors: Mapping[str, Any]) -> Pairer:
    return Pairer.of(recipe.data, processors["student"], processors.get("teacher"))


def _samples(records: Iterable[Record], most: int, measure: Measure, processors: Mapping[str, Any]) -> list[SampleView]:
    found = (one for record in records for one in measure.usable(record))
    return [_view(pair, trimmed, processors) for pair, trimmed in islice(found, most)]


def _view(pair: Pair, trimmed: bool, processors: Mapping[str, Any]) -> SampleView:
    sides = {"student": pair.student} | ({"teacher": pair.teacher} if pair.teacher is not None else {})
    shown = pair.images[:PICTURES]
    return SampleView(
        id=pair.id,
        trimmed=trimmed,
        pictures=[picture_view(picture, processors, len(pair.images)) for picture in shown],
        more_pictures=len(pair.images) - len(shown),
        sides=[_side(name, side, processors[name]) for name, side in sides.items()],
    )


def _side(name: str, side: Side, processor: Any) -> SideView:
    pieces = pieces_of(side, processor.tokenizer, processor.image_token_id)
    return SideView(name, side.ids, len(side.rows), pieces)


def _warnings(recipe: Recipe, split: Split, figures: Figures, measure: Measure) -> list[str]:
    found, stops = [], "training would stop"
    bad = sum(dropped.count for dropped in figures.dropped) - len(measure.mismatches)
    if bad and recipe.data.on_bad_sample == "refuse":
        found.append(
            f"{stops}: {bad:,} of {figures.samples:,} samples cannot be used, and data.on_bad_sample is refuse"
        )
    if any(dropped.reason == "picture not found" for dropped in figures.dropped):
        found.append(
            "pictures are not found: their paths start at image_folder of the source, or at the folder of its file"
        )
    try:
        check_mismatches(measure.mismatches, figures.samples)
    except UserError as error:
        found.append(f"{stops}: {str(error).splitlines()[0].rstrip(':')}")
    if recipe.data.answers == "teacher" and split == "train":
        found.append("data.answers is teacher: training replaces the last answers that are shown here by the teacher's")
    if not figures.usable:
        found.append(f"{stops}: no sample is left")
    return [*found, *measure.pairer.notes()]
