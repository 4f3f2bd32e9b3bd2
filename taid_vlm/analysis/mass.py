"""Head and tail mass of the teacher and of students, on the held-out answers of a recipe."""

import gc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from taid_vlm.analysis.found import Found, Table, between, number, signed
from taid_vlm.analysis.masses import FIGURES, Measured, beside, intervals, measure, usable
from taid_vlm.common.errors import UserError
from taid_vlm.data import Record, read_records
from taid_vlm.losses.figures import HEAD_TOKENS, TAIL_SHARE
from taid_vlm.models.teacher import Teacher, outline_of, teacher_from_checkpoint, teacher_without_weights
from taid_vlm.models.vocabulary import shared_vocabulary
from taid_vlm.recipe import Recipe, load_recipe
from taid_vlm.report.chart import Chart, Line
from taid_vlm.training.placement import place_teacher
from taid_vlm.training.precision import DTYPES, choose_precision
from taid_vlm.training.teachers import open_teacher

RANKS = 50  # of the likeliest tokens that a chart shows
TEACHER = "teacher"


@dataclass(frozen=True)
class Speaker:
    """A model to be asked; ``outline`` is the same without weights."""

    name: str
    outline: Teacher
    open: Callable[[], Teacher]


def mass(
    models: Sequence[str],
    recipe_name: str = "",
    samples: int = 64,
    say: Callable[[str], None] = lambda line: None,
    progress: Callable[[str, int, int], None] = lambda name, done, total: None,
) -> Found:
    """Ask the teacher and each model about the same samples.

    Args:
        models: folders of finished runs, of saved students, or checkpoints of transformers.
        recipe_name: whose data and teacher are used; those of the first run when left out.
        samples: of the recipe's held-out data, or of its training data where it holds none out.
        say: told what a person should know. progress: told by the name of a model how many samples of how many are done.

    Raises:
        UserError: no recipe, a run without a student, models of different tokenizers, or data that cannot be used.
    """
    recipe = load_recipe(recipe_name or _first_recipe(models))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    precision = choose_precision(recipe.training.precision, device) if device.type == "cuda" else "fp32"
    speakers = [*_teacher(recipe, device, precision, say), *(_student(name, device) for name in models)]
    first = speakers[0].outline
    vocabulary = min(_shared(first, one.outline) for one in speakers)
    records = usable(_records(recipe, 2 * samples), recipe, [one.outline.processor for one in speakers], samples)
    found = {}
    for one in speakers:
        model = one.open()
        found[one.name] = measure(model, records, recipe, vocabulary, precision, partial(progress, one.name))
        del model
        gc.collect()
    return _found(found, vocabulary, "held out" if recipe.data.validation else "of the training data")


def _first_recipe(models: Sequence[str]) -> Path:
    files = [Path(name).expanduser() / "recipe.yaml" for name in models]
    found = next((file for file in files if file.is_file()), None)
    if found is None:
        raise UserError(
            "no run is among the models, so a recipe must say whose data and teacher are used: --recipe NAME"
        )
    return found


def _teacher(recipe: Recipe, device: torch.device, precision: str, say: Callable[[str], None]) -> Iterator[Speaker]:
    spec = recipe.teacher
    if spec is None or spec.placement == "served":
        say(
            "note: the recipe has no teacher"
            if spec is None
            else "note: the teacher is on a server, which tells of its likeliest tokens alone; it is left out"
        )
        return

    def opened() -> Teacher:
        teacher = open_teacher(recipe, cached=False)
        place_teacher(teacher, spec, device, say, DTYPES[precision])
        teacher.model.to(device) if spec.placement == "sharded" else None
        return teacher

    yield Speaker(TEACHER, outline_of(spec), opened)


def _student(name: str, device: torch.device) -> Speaker:
    folder = Path(name).expanduser()
    if (folder / "run.json").is_file() or (folder / "recipe.yaml").is_file():
        if not (folder / "student" / "student.json").is_file():
            raise UserError(
                f"{folder} is a run without a student: it is not finished; taid-vlm train with the same recipe goes on"
            )
        folder = folder / "student"
    source = str(folder) if folder.is_dir() else name

    def opened() -> Teacher:
        model = teacher_from_checkpoint(source)
        model.model.to(device)
        return model

    return Speaker(name, teacher_without_weights(source, None, None), opened)


def _shared(first: Teacher, other: Teacher) -> int:
    rows = (first.head_weight.shape[0], other.head_weight.shape[0])
    return shared_vocabulary(first.processor.tokenizer, other.processor.tokenizer, *rows)


def _records(recipe: Recipe, most: int) -> list[Record]:
    """The first records of each source; no more are read than are needed."""
    sources = [
        source.model_copy(update={"limit": min(source.limit or most, most)})
        for source in recipe.data.validation or recipe.data.train
    ]
    return read_records(sources, recipe.seed)


def _found(found: dict[str, Measured], vocabulary: int, which: str) -> Found:
    teacher = found.get(TEACHER)
    rows, figures = [], {}
    for name, one in found.items():
        ends = intervals(one)
        gaps = beside(one, teacher) if teacher is not None and one is not teacher else None
        told = [number(one.means[figure]) + between(ends[figure]) for figure in FIGURES]
        rows.append([name, str(len(one.ids)), str(int(one.tokens.sum())), *told])
        figures[name] = {
            "samples": len(one.ids),
            "tokens": int(one.tokens.sum()),
            **one.means,
            "intervals": ends,
            "beside_the_teacher": gaps,
        }
    heads = ("model", "samples", "tokens", "head mass", "tail mass", "entropy, nats")
    title = f"Mass of the {HEAD_TOKENS} likeliest tokens and of the unlikeliest {TAIL_SHARE:.0%} of {vocabulary:,} (95 % intervals over samples)"
    said = [
        f"The samples are {which}. Tokens are ordered by each model's own probabilities, at the rows that say the answers.",
        *_told(figures),
    ]
    return Found(
        "Head and tail mass",
        [Table(title, heads, rows)],
        said,
        list(_charts(found, vocabulary)),
        {"vocabulary": vocabulary, "models": figures},
    )


def _told(figures: dict[str, Any]) -> Iterator[str]:
    for name, one in figures.items():
        gaps = one["beside_the_teacher"]
        if gaps is None:
            continue
        (head, *head_ends), (tail, *tail_ends), (entropy, *entropy_ends) = (gaps[figure] for figure in FIGURES)
        yield (
            f"{name}, beside the teacher: head {signed(head, (head_ends[0], head_ends[1]))}, tail times {number(tail)}"
            f"{between((tail_ends[0], tail_ends[1]))}, entropy {signed(entropy, (entropy_ends[0], entropy_ends[1]))}."
        )
        if tail_ends[0] > 1:
            yield f"{name} has a heavier tail than its teacher: it spreads over answers that the teacher does not give (mode averaging)."
        if entropy_ends[1] < 0:
            yield f"{name} has a lower entropy than its teacher: it is surer than the teacher is (mode collapse, where answers go missing)."


def _charts(found: dict[str, Measured], vocabulary: int) -> Iterator[Chart]:
    ranks = list(range(1, min(RANKS, vocabulary) + 1))
    lines = [
        Line(name, ranks, [float(p) for p in one.ranked[: len(ranks)]], place)
        for place, (name, one) in enumerate(found.items())
    ]
    yield Chart(
        "Probability by rank",
        "mean probability",
        lines,
        "Rank 1 is the token that a model finds likeliest.",
        log=True,
        x_title="rank",
    )
    percents = list(range(101))
    places = [min(vocabulary - 1, round(vocabulary * percent / 100)) for percent in percents]
    below = [
        Line(name, percents, [float(one.ranked[at:].sum()) for at in places], place)
        for place, (name, one) in enumerate(found.items())
    ]
    about = "What is left for the tokens behind this share of the vocabulary; the tail mass is the value at 80."
    yield Chart("Mass in the tail", "probability", below, about, log=True, x_title="percent of the vocabulary")
