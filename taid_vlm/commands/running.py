"""Commands that train: ``train``, ``launch``, ``quickstart``; and ``export``, which ends a run."""

import os
from pathlib import Path
from typing import Annotated

import typer

from taid_vlm.commands.arguments import (
    RECIPE_HELP,
    Overrides,
    Quiet,
    RecipeName,
    TrustRemoteCode,
    complete_recipes,
    complete_strategies,
)
from taid_vlm.commands.quiet import quietly
from taid_vlm.common.errors import UserError

running_app = typer.Typer()
Output = Annotated[
    Path | None, typer.Option(help="folder of the run [runs/NAME, of paper/taid-vlm/kl runs/paper-taid-vlm-kl]")
]


@running_app.command()
def train(recipe: RecipeName, overrides: Overrides = None, output: Output = None, quiet: Quiet = False) -> None:
    """Train a student and evaluate it on the recipe's tasks. Started again after an interruption, it goes on to the same result."""
    from taid_vlm.recipe import load_recipe
    from taid_vlm.recipe.origin import origin_of
    from taid_vlm.recipe.run_names import run_folder_for
    from taid_vlm.run import train_and_evaluate

    with quietly(quiet):
        loaded, folder = load_recipe(recipe, overrides or []), output or run_folder_for(recipe)
        student = train_and_evaluate(loaded, folder, origin_of(recipe, overrides or []))
    if os.environ.get("RANK", "0") == "0":  # of several processes one tells
        print(student if quiet else f"student: {student}")


@running_app.command()
def launch(
    recipe: Annotated[str, typer.Argument(help=RECIPE_HELP, autocompletion=complete_recipes)] = "",
    overrides: Overrides = None,
    gpus: Annotated[
        int | None, typer.Option(min=1, help="processes on this machine, each with a GPU of its own [all GPUs]")
    ] = None,
    nodes: Annotated[int, typer.Option(min=1, help="machines; start the same command on each")] = 1,
    main: Annotated[str | None, typer.Option(help="HOST:PORT where several machines meet")] = None,
    strategy: Annotated[
        str,
        typer.Option(help="how the student is spread: ddp, fsdp2, zero2 or zero3", autocompletion=complete_strategies),
    ] = "ddp",
    output: Output = None,
    config: Annotated[
        str | None, typer.Option(help="only print where the shipped file for accelerate launch is: ddp, fsdp2, ...")
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Train on several processes. Started again after an interruption, it goes on to the same result."""
    from taid_vlm.launch import config_file
    from taid_vlm.launch import launch as start
    from taid_vlm.recipe import load_recipe

    if config is not None:
        print(config_file(config))
        return
    if not recipe:
        raise UserError("launch needs a recipe: a YAML file, or a name that taid-vlm recipes ls shows")
    load_recipe(recipe, overrides or [])  # a mistake in it is told once, not by every process
    options = [*(["--output", str(output)] if output else []), *(["--quiet"] if quiet else [])]
    start([recipe, *(overrides or []), *options], processes=gpus, nodes=nodes, strategy=strategy, main=main)


@running_app.command()
def quickstart(
    overrides: Overrides = None,
    output: Annotated[Path, typer.Option(help="folder of the runs and pictures")] = Path("runs/quickstart"),
    train_teacher: Annotated[
        bool,
        typer.Option(
            "--train-teacher",
            help="train the teacher too (about half an hour on 2 cores), and the students in OUTPUT/own-teacher",
        ),
    ] = False,
    restart: Annotated[bool, typer.Option("--restart", help="forget earlier runs in the output folder")] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="print only the table's file, OUTPUT/table.json")
    ] = False,
) -> None:
    """Distil a vision-language teacher into small students and compare them."""
    from taid_vlm.quickstart import quickstart as run

    with quietly(quiet):
        run(output, overrides or [], train_teacher, restart)
    if quiet:
        print((output / "own-teacher" if train_teacher else output) / "table.json")


@running_app.command()
def export(
    model: Annotated[Path, typer.Argument(help="folder of a run or of a student")],
    target: Annotated[Path | None, typer.Argument(help="folder to write [export, beside the student]")] = None,
    to: Annotated[
        str,
        typer.Option(
            help="auto, smolvlm, internvl, llava, deepseek_vl, fast_vlm, perception_lm, lfm2_vl, custom or language_model"
        ),
    ] = "auto",
    gguf: Annotated[
        bool, typer.Option("--gguf", help="also llama.cpp's files, by its converter in $LLAMA_CPP")
    ] = False,
    push: Annotated[
        str,
        typer.Option(
            help="repository on the hub to upload to, such as me/my-student; an export that is there goes as it is"
        ),
    ] = "",
    private: Annotated[bool, typer.Option("--private", help="create the repository for its owner alone")] = False,
    message: Annotated[str, typer.Option(help="of the upload's commit")] = "",
    trust_remote_code: TrustRemoteCode = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="print only FOLDER: CLASS")] = False,
) -> None:
    """Write a checkpoint that stock transformers loads, proven by reloading it in a fresh process."""
    from taid_vlm.exporting import Wish, export_run

    with quietly(quiet):
        told = export_run(Wish(model, target, to, gguf, push, private, message, trust_remote_code))
    print(told.splitlines()[0] if quiet else told)
