"""``taid-vlm study``: run the controlled study, or write its page from the records."""

from pathlib import Path
from typing import Annotated

import typer

study_app = typer.Typer(
    help="The controlled study of distillation methods: every run that is not finished, then its page.",
    invoke_without_command=True,
)

Out = Annotated[Path, typer.Option(help="folder of the runs and of their records")]
Results = Annotated[Path, typer.Option(help="folder with records.jsonl of finished runs, for the page and its figures")]
Only = Annotated[str, typer.Option(help="pairs (a, b) or names of settings, separated by commas [all]")]
Methods = Annotated[str, typer.Option(help="names of methods, separated by commas [all of each setting]")]
Seeds = Annotated[int | None, typer.Option(min=1, help="at most so many seeds of each setting")]
Jobs = Annotated[int, typer.Option(min=1, help="runs at a time")]

OUT, RESULTS = Path("runs/study"), Path("docs/results/study")


@study_app.callback()
def study(
    context: typer.Context,
    only: Only = "",
    methods: Methods = "",
    seeds: Seeds = None,
    out: Out = OUT,
    results: Results = RESULTS,
    jobs: Jobs = 1,
) -> None:
    """Finish the runs that are missing, then write the page."""
    if context.invoked_subcommand is None:
        run(only, methods, seeds, out, results, jobs)
        report(out, results)


@study_app.command()
def run(
    only: Only = "",
    methods: Methods = "",
    seeds: Seeds = None,
    out: Out = OUT,
    results: Results = RESULTS,
    jobs: Jobs = 1,
) -> None:
    """Finish the runs that are missing; a stopped one goes on. Started several times, the processes share the work."""
    from taid_vlm.study.go import Asked, run_study

    run_study(Asked(out, results, _names(only), _names(methods), seeds), jobs, lambda line: print(line, flush=True))


@study_app.command()
def prepare() -> None:
    """Make what the recipes under study/ start from, data and fine-tuned students, so that they can be trained by hand, too. ``run`` does it by itself."""
    from taid_vlm.recipe import load_recipe
    from taid_vlm.study.prepare import prepare as make_ready

    for name in ("study/charts/student", "study/text/student"):
        make_ready(load_recipe(name))


@study_app.command()
def status(
    only: Only = "", methods: Methods = "", seeds: Seeds = None, out: Out = OUT, results: Results = RESULTS
) -> None:
    """How many runs of each setting are finished."""
    from taid_vlm.study.go import Asked
    from taid_vlm.study.status import told

    print("\n".join(told(Asked(out, results, _names(only), _names(methods), seeds))))


@study_app.command()
def report(out: Out = OUT, results: Results = RESULTS) -> None:
    """Write records.jsonl and figures into RESULTS, and the page beside it, from all records; nothing is trained."""
    from taid_vlm.common.progress import waiting
    from taid_vlm.study.page import write_page

    with waiting("drawing"):
        page = write_page(out, results)
    print(page)


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())
