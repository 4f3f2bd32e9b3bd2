"""One or several runs as one HTML page that needs nothing else: no network, no script."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from markupsafe import Markup, escape

from taid_vlm.common.files import open_plain
from taid_vlm.common.pages import data_uri, page_template
from taid_vlm.common.picture_bounds import max_pixels, opened
from taid_vlm.common.visible import visible
from taid_vlm.report.chart import STYLE, Chart, draw
from taid_vlm.report.curves import charts
from taid_vlm.report.recipes import Change, between, changes
from taid_vlm.report.run_files import Run
from taid_vlm.report.runs import Summary, long, summary
from taid_vlm.report.scale import short
from taid_vlm.report.trained import Trained, trained_parts

FOLDER = Path(__file__).parent
SHOWN = 256  # pixels that a small picture is shown with, so that one sees what is on it
BYTES = 48 << 20  # of all pictures of a page
WHO = {"before": "student before training", "after": "student after training", "teacher": "teacher"}
NOT_ASKED = "the student before training and the teacher were not asked; taid-vlm report RUN --ask 6 does"
LENGTH = 1000  # characters of a text


@dataclass(frozen=True)
class Drawn:
    """A chart with its place in the page; ``svg`` is empty where no run has the figures."""

    key: str
    chart: Chart
    svg: Markup


@dataclass(frozen=True)
class Split:
    """Where the time of a run's steps went: parts with their share, the largest first; ``data`` counts as waiting."""

    run: Run
    seconds: float
    parts: list[tuple[str, float, float, int]]  # name, seconds, share, colour


@dataclass(frozen=True)
class Told:
    """One run: its place in the page, its recipe, what was trained, and where it ran."""

    key: str
    number: int
    run: Run
    summary: Summary
    changes: list[Change] | None
    origin: dict[str, Any]
    recipe: str
    trained: Trained
    about: list[tuple[str, str]]


@dataclass(frozen=True)
class Example:
    """One item; ``answers`` are (who, text, score), and ``why`` says what is missing of its pictures."""

    task: str
    question: str
    truths: list[str]
    pictures: list[tuple[str, int, int]]
    why: str
    answers: list[tuple[str, str, float | None]]


def page(runs: Sequence[Run]) -> str:
    """The page; all text of runs is escaped in it."""
    told = [_told(number, run) for number, run in enumerate(runs)]
    sections = {
        name: [Drawn(f"chart-{place}-{at}", one, draw(one, f"chart-{place}-{at}")) for at, one in enumerate(some)]
        for place, (name, some) in enumerate(charts(runs).items())
        if some
    }
    filters: dict[str, Any] = {"short": short, "long": long, "clipped": _clipped, "breakable": _breakable}
    template = page_template(FOLDER, "run_page", filters, styles=(STYLE,))
    return template.render(
        runs=told,
        sections=sections,
        splits=[_split(run) for run in runs if run.timing],
        differences=between(runs) if len(runs) > 1 else [],
        examples=_examples(runs),
        asked=_notes(runs),
    )


def _told(number: int, run: Run) -> Told:
    origin = run.about.get("origin")
    versions = run.about.get("versions")
    about: list[tuple[str, str]] = [
        (name, str(run.about[name])) for name in ("device", "precision") if name in run.about
    ]
    about += [(name, str(value)) for name, value in (versions.items() if isinstance(versions, dict) else ())]
    recipe = yaml.safe_dump(run.recipe, sort_keys=False, allow_unicode=True)
    given = origin if isinstance(origin, dict) else {}
    trained = trained_parts(run)
    return Told(f"run-{number}", number % 8, run, summary(run), changes(run), given, recipe, trained, about)


def _split(run: Run) -> Split:
    """The first step is left out where there are more: it also warms up."""
    rows = run.timing[1:] or run.timing
    names = dict.fromkeys(key for row in rows for key in row if key.startswith("seconds_"))
    sums = {key.removeprefix("seconds_"): sum(row.get(key, 0.0) for row in rows) for key in names}
    whole = sum(sums.values())
    parts = [
        (name.replace("_", " "), seconds, seconds / whole if whole else 0.0, colour)
        for colour, (name, seconds) in enumerate(sums.items())
    ]
    return Split(run, whole, sorted(parts, key=lambda part: -part[1]))


def _examples(runs: Sequence[Run]) -> list[Example]:
    """Items that runs share are shown once, with the answers of all; equal answers are one."""
    found: dict[tuple[str, str], Example] = {}
    said_by: dict[tuple[str, str], dict[tuple[str, str, float | None], list[str]]] = {}
    left = BYTES
    for run in runs:
        for item in run.examples.get("items", []):
            key = (str(item.get("task")), str(item.get("id")))
            if key not in found:
                pictures, why = _pictures(run.folder / "examples", item.get("pictures", []), left)
                left -= sum(len(uri) for uri, *_ in pictures)
                truths = [str(truth) for truth in item.get("truths", [])]
                found[key] = Example(key[0], str(item.get("question", "")), truths, pictures, why, [])
            for who, said in item.get("answers", {}).items():
                text = f"(no answer: {said['error']})" if said.get("error") else str(said.get("text", ""))
                said_by.setdefault(key, {}).setdefault((who, text, said.get("score")), []).append(run.name)
    for key, answers in said_by.items():
        for (who, text, score), names in sorted(answers.items(), key=lambda one: [*WHO, one[0][0]].index(one[0][0])):
            name = WHO.get(who, who) if len(runs) == 1 else f"{', '.join(names)}: {WHO.get(who, who)}"
            found[key].answers.append((name, text, score))
    return list(found.values())


def _pictures(folder: Path, names: list[str], left: int) -> tuple[list[tuple[str, int, int]], str]:
    found, why = [], "" if names else "no picture"
    limit = max_pixels()
    for name in names:
        try:
            with open_plain(folder / Path(name).name) as stream, opened(stream, limit) as image:
                uri = data_uri(image.convert("RGB"))
                larger = max(1.0, SHOWN / max(image.size))
                size = [max(1, round(side * larger)) for side in image.size]
        except Exception:  # decoders raise many types
            why = f"the picture {name} could not be read"
            continue
        left -= len(uri)
        if left < 0:
            why = "a picture is left out, for this page has as many bytes of them as it may"
            continue
        found.append((uri, size[0], size[1]))
    return found, why


def _notes(runs: Sequence[Run]) -> list[str]:
    """Whose answers are missing, and why."""
    notes: dict[str, list[str]] = {}
    for run in runs:
        for who, why in run.examples.get("notes", {}).items():
            notes.setdefault(f"the {WHO.get(who, who)} was not asked: {why}", []).append(run.name)
        answered = {who for item in run.examples.get("items", []) for who in item.get("answers", {})}
        if run.examples and "before" not in answered:
            notes.setdefault(NOT_ASKED, []).append(run.name)
    if len(runs) == 1:
        return [note[0].upper() + note[1:] for note in notes]
    return [f"{', '.join(names)}: {note}" for note, names in notes.items()]


def _breakable(key: str) -> Markup:
    """A recipe's key that narrow tables break at its dots and underscores."""
    return Markup(str(escape(visible(key))).replace(".", ".<wbr/>").replace("_", "_<wbr/>"))


def _clipped(text: str) -> str:
    return text if len(text) <= LENGTH else f"{text[:LENGTH]} ... and {len(text) - LENGTH:,} characters"
