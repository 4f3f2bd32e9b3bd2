"""Results as a table on the terminal."""

from typing import TYPE_CHECKING

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from taid_vlm.common.telling import for_terminal
from taid_vlm.common.visible import on_one_line
from taid_vlm_eval.result import Result
from taid_vlm_eval.task import NO_SCORER

if TYPE_CHECKING:
    from taid_vlm_eval.protocols.averages import Average
    from taid_vlm_eval.results import Results

UNSCORED = "its score needs a judge; name one with --judge"


def print_table(results: "Results", console: Console | None = None) -> None:
    """One row per task: scorer and its mode, figure with 95 % interval, majority, parse rate, items, errors, speed.

    The named figures of a task follow it, indented. Tasks that have answers alone, and those that were not run, say so; the
    reasons stand below.
    """
    table = Table()
    for heading in ("task", "scorer", "metric"):
        table.add_column(heading)
    for heading in ("value (95 %)", "majority", "parsed", "n", "errors", "answers/s"):
        table.add_column(heading, justify="right")
    for result in results:
        table.add_row(
            Text(result.task),
            _scorer(result),
            result.metric,
            with_interval(result.value, result.low, result.high, result.top),
            "-" if result.majority is None else figure(result.majority, result.top),
            f"{result.parse_rate:.1%}",
            str(result.n),
            str(result.errors),
            "-" if result.answers_per_second is None else f"{result.answers_per_second:.1f}",
        )
        for name, one in result.named.items():
            table.add_row("", "", Text(f"  {on_one_line(name)}"), with_interval(**one))
    for task in results.answers_only:
        table.add_row(Text(task), "", "", "answers only")
    for task in results.not_run:
        table.add_row(Text(task), "", "", "not run")
    console = print_whole(table, console)
    for line in _below(results):
        console.print(for_terminal(line), markup=False, highlight=False, soft_wrap=True)


def _below(results: "Results") -> list[str]:
    errors = [(one.task, error) for one in results for error in one.first_errors]
    lines = [f"{task}: item {error['id']}: {error['error']}" for task, error in errors]
    lines += [_judge(result) for result in results if result.judge.get("asked")]
    lines += [f"{task}: answers only: {UNSCORED}" for task in results.answers_only]
    lines += [f"{task}: not run: {reason}" for task, reason in results.not_run.items()]
    lines += [f"answers and results: {results.folder}"] if results.folder is not None else []
    return lines + [_average(one) for one in results.averages.values()]


def _average(one: "Average") -> str:
    return (
        f"{one.average}: {with_interval(one.value, one.low, one.high, one.top)}, the mean of {' and '.join(one.parts)}"
    )


def _scorer(result: Result) -> str:
    by_rule = "" if result.scorer == NO_SCORER else f"{result.scorer} {result.mode}".strip()
    return " + ".join(filter(None, (by_rule, "judge" if result.judge.get("asked") else ""))) or "judge"


def _judge(result: Result) -> str:
    said = result.judge
    return (
        f"{result.task}: judge {said['name']} ({said['prompt']}) was asked about {said['asked']} of {result.n} answers, read "
        f"{said['parse_rate']:.1%} of them, {said['errors']} without a reply"
    )


def figure(value: float, top: float, sign: str = "") -> str:
    """A share with four decimals, points with one."""
    return f"{value:{sign}.1f}" if top > 10 else f"{value:{sign}.4f}"


def with_interval(value: float, low: float, high: float, top: float) -> str:
    """A figure and the bounds of its interval."""
    return f"{figure(value, top)} ({figure(low, top)} to {figure(high, top)})"


def print_whole(table: Table, console: Console | None = None) -> Console:
    """Print a table without cutting figures short, as rich would to fit; a line that is too long is better."""
    console, boundless = console or Console(), Console(width=1000)
    console.width = max(console.width, Measurement.get(boundless, boundless.options, table).maximum)
    console.print(table)
    return console
