"""``taid-vlm report`` and ``taid-vlm runs``: parse, call one function, print."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

Ask = Callable[[Path, int], None]  # (folder of a run, items of each task): write down everybody's answers


def add_report_commands(app: typer.Typer, ask_examples: Ask) -> None:
    """Put both commands into the command line; ``ask_examples`` loads models, which the report itself never does."""

    @app.command()
    def report(
        folders: Annotated[
            list[Path], typer.Argument(metavar="RUN...", help="folders of runs; several are drawn together")
        ],
        html: Annotated[
            Path | None, typer.Option(help="the page [report.html in the run's folder, or here of several runs]")
        ] = None,
        ask: Annotated[
            int,
            typer.Option(
                min=0, help="first have the untrained student and the teacher answer so many items of each task"
            ),
        ] = 0,
    ) -> None:
        """Write one HTML page about one or more runs, finished or not. It needs no network and no script."""
        from taid_vlm.common.files import write_atomic
        from taid_vlm.common.progress import waiting
        from taid_vlm.report.page import page
        from taid_vlm.report.run_files import read_runs

        found = read_runs(folders)  # a folder that holds no run is told before models are loaded
        for folder in folders if ask else []:
            with waiting(f"asking the models of {folder}"):
                ask_examples(folder, ask)
        target = html or (folders[0] / "report.html" if len(folders) == 1 else Path("report.html"))
        with waiting("drawing"):
            write_atomic(target, page(read_runs(folders) if ask else found))
        print(target)

    @app.command()
    def runs(
        folder: Annotated[Path, typer.Argument(help="folder that runs are in, at any depth")] = Path("runs"),
        as_json: Annotated[bool, typer.Option("--json", help="print the lines as JSON")] = False,
    ) -> None:
        """List runs: recipe, loss, steps, state, last loss, evaluation, and how long ago each wrote something."""
        import json

        from taid_vlm.report.runs import as_json as plain
        from taid_vlm.report.runs import find_runs, table_of

        found = find_runs(folder)
        if as_json:
            print(json.dumps(plain(found), indent=2))
            return
        from rich.console import Console

        console = Console(soft_wrap=False)
        console.print(table_of(found, console.width))
