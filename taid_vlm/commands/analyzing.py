"""``taid-vlm analyze``: theory made runnable, and what runs say about it."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from taid_vlm.commands.arguments import complete_recipes
from taid_vlm.common.errors import UserError
from taid_vlm.common.progress import Progress, bar, waiting
from taid_vlm.common.telling import tell

if TYPE_CHECKING:
    from taid_vlm.analysis.found import Found

analyze_app = typer.Typer(
    help="Theory made runnable, and what runs say about it: numbers, intervals and plots.", no_args_is_help=True
)

Json = Annotated[bool, typer.Option("--json", help="print the figures as JSON")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="print the tables alone, without sentences")]
Output = Annotated[Path | None, typer.Option(help="also write a page (PAGE.html) or the charts (CHARTS.svg)")]
Runs = Annotated[list[Path], typer.Argument(metavar="RUN...", help="folders of runs")]


@analyze_app.callback()
def analyze() -> None:
    """Theory made runnable, and what runs say about it: numbers, intervals and plots."""


@analyze_app.command()
def regression(
    rounds: Annotated[int, typer.Option(min=1, help="rounds after the first fit")] = 20,
    t_start: Annotated[float, typer.Option(help="t of TAID before the first round, from 0 to below 1")] = 0.4,
    tolerance: Annotated[float, typer.Option(help="mean squared error that a fit may have")] = 0.02,
    points: Annotated[int, typer.Option(min=2, help="labels")] = 50,
    noise: Annotated[float, typer.Option(help="standard deviation of the labels' noise")] = 0.3,
    kernel: Annotated[str, typer.Option(help="bridge, laplace or gaussian")] = "bridge",
    seed: Annotated[int, typer.Option(min=0, help="of the noise")] = 0,
    output: Output = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """The paper's regression model: self-distillation collapses, TAID does not; simulation beside bounds."""
    from taid_vlm.analysis.regression import Asked
    from taid_vlm.analysis.regression import regression as simulate

    _check(output)
    with _working("simulating", quiet):
        found = simulate(Asked(points, kernel, noise, tolerance, rounds, t_start, seed))
    _tell(found, output, as_json, quiet)


@analyze_app.command()
def mass(
    models: Annotated[
        list[str], typer.Argument(metavar="RUN|CHECKPOINT...", help="finished runs, saved students, or checkpoints")
    ],
    recipe: Annotated[
        str,
        typer.Option(help="whose data and teacher are used [those of the first run]", autocompletion=complete_recipes),
    ] = "",
    samples: Annotated[int, typer.Option(min=1, help="samples that are asked about")] = 64,
    output: Output = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Head and tail mass of the teacher and of students on held-out answers, as in Table 3 of the paper."""
    from taid_vlm.analysis.mass import mass as ask

    _check(output)
    with _working("loading and asking models", quiet), _bars() as progress:
        found = ask(models, recipe, samples, tell, progress)
    _tell(found, output, as_json, quiet)


@analyze_app.command()
def schedule(
    loss_curve: Annotated[str, typer.Option(help="folder of a run, or synthetic: a made-up loss")] = "synthetic",
    alpha: Annotated[
        str, typer.Option(help="rates per update, between commas [5e-4; of a run its own and others]")
    ] = "",
    beta: Annotated[str, typer.Option(help="decays of the momentum, between commas [0.99, or the run's]")] = "",
    t_start: Annotated[str, typer.Option(help="first values of t, between commas [0.4, or the run's]")] = "",
    steps: Annotated[str, typer.Option(help="updates of a made-up run, between commas [1000,4000,11700,100000]")] = "",
    noise: Annotated[float, typer.Option(help="relative noise of the made-up loss")] = 0.1,
    seed: Annotated[int, typer.Option(min=0, help="of that noise")] = 0,
    output: Output = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """The path of t under alpha, beta and t_start, and how far it is from a straight line."""
    from taid_vlm.analysis.replay import recorded
    from taid_vlm.analysis.schedule import Sweep, schedule_of_run, schedule_of_synthetic
    from taid_vlm.report.run_files import read_run

    _check(output)
    whole = None if not steps else [int(n) for n in _numbers(steps, "--steps", whole=True)]
    values = [
        _numbers(text, name) if text else None
        for text, name in ((alpha, "--alpha"), (beta, "--beta"), (t_start, "--t-start"))
    ]
    sweep = Sweep(values[0], values[1], values[2], whole, noise, seed)
    with _working("replaying schedules", quiet):
        if loss_curve == "synthetic":
            found = schedule_of_synthetic(sweep)
        else:
            found = schedule_of_run(recorded(read_run(Path(loss_curve))), sweep)
    _tell(found, output, as_json, quiet)


@analyze_app.command()
def variance(
    folders: Runs,
    windows: Annotated[int, typer.Option(min=1, help="into which the steps are cut")] = 5,
    skip: Annotated[int, typer.Option(min=0, help="first steps that are left out")] = 0,
    output: Output = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Noise of the loss and of the gradient norm from step to step: TAID's runs beside KL's."""
    from taid_vlm.analysis.variance import variance as compare
    from taid_vlm.report.run_files import read_runs

    _check(output)
    with _working("comparing steps", quiet):
        found = compare(read_runs(folders), windows, skip)
    _tell(found, output, as_json, quiet)


@analyze_app.command()
def gap(
    folders: Annotated[
        list[Path] | None, typer.Argument(metavar="[RUN...]", help="folders of runs [the study's records]")
    ] = None,
    figure: Annotated[str, typer.Option(help="of runs: an evaluated task [the first, or held-out cross-entropy]")] = "",
    out: Annotated[Path, typer.Option(help="of the study: folder of its runs")] = Path("runs/study"),
    results: Annotated[Path, typer.Option(help="of the study: folder with records.jsonl")] = Path("docs/results/study"),
    output: Output = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """The capacity gap: students by the size of their teacher and by method."""
    from taid_vlm.analysis.gap import gap as compare
    from taid_vlm.analysis.teacher_sizes import sizes_of_runs, sizes_of_study
    from taid_vlm.report.run_files import read_runs

    _check(output)
    sizes = sizes_of_runs(read_runs(folders), figure) if folders else sizes_of_study(out, results)
    with _working("comparing students", quiet):
        found = compare(sizes)
    _tell(found, output, as_json, quiet)


def _check(output: Path | None) -> None:
    from taid_vlm.analysis.output import check_name

    if output is not None:
        check_name(output)


def _tell(found: "Found", output: Path | None, as_json: bool, quiet: bool) -> None:
    from taid_vlm.analysis.found import as_json as plain
    from taid_vlm.analysis.found import as_text
    from taid_vlm.analysis.output import write

    print(plain(found) if as_json else as_text(found, sentences=not quiet))
    if output is not None:
        tell(str(write(found, output)))


def _numbers(text: str, option: str, whole: bool = False) -> Sequence[float]:
    kind = "whole numbers" if whole else "numbers"
    try:
        found = [float(part) for part in text.split(",")]
    except ValueError:
        raise UserError(f"{option} is {text!r}, expected {kind} between commas, such as 1000,4000") from None
    if whole and any(value != int(value) for value in found):
        raise UserError(f"{option} is {text!r}, expected {kind} between commas, such as 1000,4000")
    return found


@contextmanager
def _working(what: str, quiet: bool) -> Iterator[None]:
    from taid_vlm.commands.quiet import quietly

    with quietly(quiet, output=False), waiting(what):
        yield


@contextmanager
def _bars() -> Iterator[Callable[[str, int, int], None]]:
    """A bar for each model, from when it is first asked."""
    with ExitStack() as stack:
        lines: dict[str, Progress] = {}

        def progress(name: str, done: int, total: int) -> None:
            if name not in lines:
                lines[name] = stack.enter_context(bar(name))
            lines[name](done, total)

        yield progress
