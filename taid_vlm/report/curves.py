"""Which charts a page of runs has, and what is drawn in them."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from taid_vlm.common.errors import UserError
from taid_vlm.losses import TAIDClock, linear_t
from taid_vlm.report.chart import Chart, Line
from taid_vlm.report.run_files import HIGH, LOW, Run

STEEP = 30  # times the smallest value, from which on a loss is drawn on a logarithmic axis
BOUNDS = ("value", "low", "high")  # of a result, see taid_vlm_eval
CLOCK = ("schedule", "t_start", "t_end", "alpha", "alpha_total", "beta", "set_point")


def charts(runs: Sequence[Run]) -> dict[str, list[Chart]]:
    """Charts by section of the page; a chart of which no run has figures names them all as missing."""
    found = {
        "Training": [*_loss(runs), *_entropy(runs)],
        "TAID": [
            _t(runs),
            _figure(runs, "momentum", "Momentum of the schedule", "relative change of the loss per step"),
        ]
        if any(run.part("loss").get("name") == "taid" for run in runs)
        else [],
        "Evaluation": list(_evaluations(runs)),
        "Optimizer": [
            _rates(runs),
            _figure(runs, "grad_norm", "Gradient norm", "before clipping", noisy=True, log=True),
        ],
        "Speed and memory": [
            _figure(
                runs, "tokens_per_second", "Throughput", "tokens per second, of all processes", noisy=True, rows=_timing
            ),
            _figure(
                runs,
                "memory_bytes",
                "Most memory so far",
                "GiB of the first process",
                "It begins anew where a run was interrupted and went on.",
                rows=_timing,
                scale=2**-30,
            ),
        ],
    }
    return {section: [_from_the_start(chart) for chart in some] for section, some in found.items()}


def _from_the_start(chart: Chart) -> Chart:
    """With an axis from step 0 on, so that charts of one run can be read below each other."""
    last = max((x for line in chart.lines for x in line.x), default=0)
    return replace(chart, x_bounds=(0, last)) if last else chart


def _loss(runs: Sequence[Run]) -> Iterator[Chart]:
    yield _figure(runs, "loss", "Loss", "objective of each run, per token", noisy=True, log=True)
    label = "nats per token"
    yield _figure(
        runs, "cross_entropy", "Cross-entropy on the labels", label, noisy=True, log=True, held_out="cross_entropy"
    )
    about = "KL from the teacher to the student at t = 1, whatever the objective is."
    yield _figure(runs, "kl_teacher", "KL to the teacher", label, about, noisy=True, log=True, held_out="kl_to_teacher")


def _entropy(runs: Sequence[Run]) -> Iterator[Chart]:
    lines = []
    for number, run in enumerate(runs):
        lines += _lines(run, number, "student_entropy", len(runs), noisy=True, name="student")
        lines += _lines(run, number, "teacher_entropy", len(runs), noisy=True, name="teacher", style="dashed")
    about = (
        "A student far above its teacher is unsure (mode averaging); one far below has dropped answers (mode collapse)."
    )
    yield Chart("Entropy", "nats per token", lines, about, missing=_missing(runs, "student_entropy"))
    for key, title, about in (
        ("head_mass", "Head mass", "Probability that the student gives to its ten likeliest tokens."),
        ("tail_mass", "Tail mass", "Probability that the student gives to the unlikeliest fifth of the vocabulary."),
    ):
        yield _figure(runs, key, title, "share of probability", about, noisy=True, log=key == "tail_mass")


def _t(runs: Sequence[Run]) -> Chart:
    lines, drawn, told = [], set(), []
    for number, run in enumerate(runs):
        if run.part("loss").get("name") != "taid":
            continue
        steps = list(range(1, max(run.total, run.done) + 1))
        own = _lines(run, number, "t", len(runs))
        lines += own
        settings = (*tuple(str(run.part("loss").get(key)) for key in CLOCK[1:5]), run.total)
        if not own or settings in drawn:
            continue
        drawn.add(settings)
        whose = f" of {run.name}" if len(runs) > 1 else ""
        try:
            beside = {"linear": linear(run), "exponential": exponential(run)}
        except (UserError, KeyError, TypeError):
            continue
        lines.append(Line(f"linear{whose}", steps, beside["linear"], 7, style="dashed"))
        lines.append(Line(f"exponential{whose}", steps, beside["exponential"], 7, style="dotted"))
        away = [f"{_away(own[0], schedule):.4f} from the {name} one" for name, schedule in beside.items()]
        told.append(f"t{whose} is at most {' and '.join(away)}.")
    about = ["0 is the student itself, 1 the teacher. The exponential schedule does not look at the loss.", *told]
    return Chart(
        "t of the target",
        "from student to teacher",
        lines,
        " ".join(about),
        bounds=(0.0, 1.05),
        missing=_missing(runs, "t"),
    )


def _away(line: Line, schedule: Sequence[float]) -> float:
    """The largest distance of a line from a schedule, of which step 1 is the first value."""
    return max(abs(t - schedule[int(step) - 1]) for step, t in zip(line.x, line.y, strict=True))


def linear(run: Run) -> list[float]:
    """t of the straight line at each step of a TAID run, by its recipe.

    Raises:
        KeyError: its recipe lacks what the line needs.
    """
    loss = run.part("loss")
    return [
        linear_t(max(0, step - 1), run.total, loss["t_start"], loss["t_end"])
        for step in range(max(run.total, run.done))
    ]


def exponential(run: Run) -> list[float]:
    """t of the same recipe with the schedule ``exponential``, at each step.

    Raises:
        UserError: the recipe's settings are none of a clock.
    """
    loss = run.part("loss")
    settings = {key: loss.get(key) for key in CLOCK[1:6]}
    clock = TAIDClock(run.total, schedule="exponential", **{k: v for k, v in settings.items() if v is not None})
    found = []
    for step in range(max(run.total, run.done)):
        found.append(clock.t)
        clock.update(1.0, step)
    return found


def _rates(runs: Sequence[Run]) -> Chart:
    """One line for parts with one and the same rate, and for runs with one and the same line."""
    shared: dict[tuple[str, tuple[tuple[int, float], ...]], list[tuple[int, str]]] = {}
    styles: dict[str, str] = {}
    for number, run in enumerate(runs):
        keys = [key for key in (run.steps[0] if run.steps else {}) if key.startswith("lr_")]
        groups: dict[tuple[tuple[int, float], ...], list[str]] = {}
        for key in keys:
            groups.setdefault(tuple((row["step"], row.get(key, 0.0)) for row in run.steps), []).append(key)
        for place, (points, some) in enumerate(groups.items()):
            parts = " and ".join(key.removeprefix("lr_").replace("_", " ") for key in some)
            shared.setdefault((parts, points), []).append((number, run.name))
            styles.setdefault(parts, ("solid", "dashed", "dotted")[place % 3])
    lines = []
    for (parts, points), whose in shared.items():
        name = parts if len(runs) == 1 else f"{' and '.join(name for _, name in whose)}, {parts}"
        colour = 7 if len(whose) > 1 else whose[0][0]
        lines.append(
            Line(name, [step for step, _ in points], [rate for _, rate in points], colour, style=styles[parts])
        )
    return Chart("Learning rate", "per optimizer step", lines, missing=[run.name for run in runs if not run.steps])


def _evaluations(runs: Sequence[Run]) -> Iterator[Chart]:
    tasks = {
        task: None
        for run in runs
        for row in run.evaluations
        for task in row
        if f"{task}{LOW}" in row and f"{task}{HIGH}" in row
    } | {task: None for run in runs for task in run.results}
    for task in tasks:
        lines = []
        for number, run in enumerate(runs):
            found = {
                row["step"]: [row[f"{task}{end}"] for end in ("", LOW, HIGH)] for row in run.evaluations if task in row
            }
            result = run.results.get(task)
            if result is not None and run.done and all(isinstance(result.get(end), (int, float)) for end in BOUNDS):
                found[run.done] = [result[end] for end in BOUNDS]
            if found:
                values = [found[step] for step in sorted(found)]
                pairs = [(low, high) for _, low, high in values]
                lines.append(Line(run.name, sorted(found), [value for value, *_ in values], number, pairs))
        one = next((run.results[task] for run in runs if task in run.results), {})
        about = "Bars are 95 % intervals. The last point of a finished run is of the student that it saved."
        if isinstance(one.get("top"), (int, float)):
            about += f" The best possible is {one['top']:g}."
        yield Chart(task, str(one.get("metric", "figure of the task")), lines, about, missing=_without(runs, lines))


def _figure(
    runs: Sequence[Run],
    key: str,
    title: str,
    unit: str,
    about: str = "",
    *,
    noisy: bool = False,
    log: bool = False,
    held_out: str = "",
    rows: Callable[[Run], list[dict[str, Any]]] | None = None,
    scale: float = 1.0,
) -> Chart:
    """One figure of every run; ``log`` where its values are steep enough."""
    lines = []
    for number, run in enumerate(runs):
        lines += _lines(run, number, key, len(runs), noisy=noisy, rows=rows, scale=scale)
        measured = [row for row in run.validations if held_out and held_out in row]
        if len(measured) > 1:
            name = "held out" if len(runs) == 1 else f"{run.name}, held out"
            steps, values = [row["step"] for row in measured], [row[held_out] for row in measured]
            lines.append(Line(name, steps, values, number, style="dashed"))
    values = [value for line in lines for value in line.y if value > 0]
    steep = log and bool(values) and max(values) > STEEP * min(values)
    return Chart(title, unit, lines, about, log=steep, missing=_missing(runs, key, rows))


def _lines(
    run: Run,
    number: int,
    key: str,
    of: int,
    *,
    noisy: bool = False,
    name: str = "",
    style: str = "solid",
    rows: Callable[[Run], list[dict[str, Any]]] | None = None,
    scale: float = 1.0,
) -> list[Line]:
    found = [row for row in (rows(run) if rows else run.steps) if isinstance(row.get(key), (int, float))]
    if not found:
        return []
    told = run.name if not name else name if of == 1 else f"{run.name}, {name}"
    values = [row[key] * scale for row in found]
    return [Line(told, [row["step"] for row in found], values, number, smoothed=noisy, style=style)]


def _timing(run: Run) -> list[dict[str, Any]]:
    return run.timing


def _missing(runs: Sequence[Run], key: str, rows: Callable[[Run], list[dict[str, Any]]] | None = None) -> list[str]:
    of_taid = key in ("t", "momentum")  # other methods have neither
    asked = [run for run in runs if not of_taid or run.part("loss").get("name") == "taid"]
    return [run.name for run in asked if not _lines(run, 0, key, 1, rows=rows)]


def _without(runs: Sequence[Run], lines: Sequence[Line]) -> list[str]:
    return [run.name for run in runs if run.name not in {line.name for line in lines}]
