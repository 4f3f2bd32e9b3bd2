"""Which charts a page of runs has, and what is drawn in them."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from taid_vlm.common.errors import UserError
from taid_vlm.losses import TAIDClock, linear_t
from taid_vlm.report.chart import Chart, Line
from taid_vlm.report.run_files import HIGH, LOW, Run

STEEP = 30  # times the smallest value, from which on a loss is drawn on a logarithmic axis
CLOCK = ("schedule", "t_start", "t_end", "alpha", "alpha_total", "beta", "set_point")


def charts(runs: Sequence[Run]) -> dict[str, list[Chart]]:
    """Charts by section of the page; a chart of which no run has figures names them all as missing."""
    return {
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
            _figure(runs, "memory_bytes", "Most memory so far", "GiB of the first process", rows=_timing, scale=2**-30),
        ],
    }


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
    lines, drawn = [], set()
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
            lines += [
                Line(f"linear{whose}", steps, linear(run), 7, style="dashed"),
                Line(f"exponential{whose}", steps, exponential(run), 7, style="dotted"),
            ]
        except (UserError, KeyError, TypeError):
            continue
    about = "0 is the student itself, 1 the teacher. Grey: the straight line, and the curve on which the momentum does nothing."
    return Chart(
        "t of the target", "from student to teacher", lines, about, bounds=(0.0, 1.05), missing=_missing(runs, "t")
    )


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
    lines = []
    for number, run in enumerate(runs):
        keys = [key for key in (run.steps[0] if run.steps else {}) if key.startswith("lr_")]
        groups: dict[tuple[float, ...], list[str]] = {}  # parts with one and the same rate share a line
        for key in keys:
            groups.setdefault(tuple(row.get(key, 0.0) for row in run.steps), []).append(key)
        for place, some in enumerate(groups.values()):
            name = " and ".join(key.removeprefix("lr_").replace("_", " ") for key in some)
            lines += _lines(run, number, some[0], len(runs), name=name, style=("solid", "dashed", "dotted")[place % 3])
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
            if result is not None and run.done:
                found.setdefault(run.done, [result[end] for end in ("value", "low", "high")])
            if found:
                values = [found[step] for step in sorted(found)]
                pairs = [(low, high) for _, low, high in values]
                lines.append(Line(run.name, sorted(found), [value for value, *_ in values], number, pairs))
        one = next((run.results[task] for run in runs if task in run.results), {})
        about = "Bars are 95 % intervals." + (
            f" Its {one['metric']}, at most {one['top']:g}." if "metric" in one else ""
        )
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
