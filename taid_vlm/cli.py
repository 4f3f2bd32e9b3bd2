"""The command line: parses, calls one function, prints."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from taid_vlm import __version__
from taid_vlm.common.errors import UserError
from taid_vlm.common.files import DENIED_ERRNO, FULL_ERRNO
from taid_vlm.common.stopping import RESUMABLE, StoppedError

app = typer.Typer(
    help="Train compact vision-language models by distilling large ones.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
recipes_app = typer.Typer(help="List, show and copy the shipped recipes.", no_args_is_help=True)
app.add_typer(recipes_app, name="recipes")

Overrides = Annotated[
    list[str] | None, typer.Argument(help="key.path=value over the recipe, for example training.steps=100")
]


@app.command()
def train(
    recipe: Annotated[str, typer.Argument(help="YAML file, or name of a shipped recipe such as quickstart/taid")],
    overrides: Overrides = None,
    output: Annotated[Path | None, typer.Option(help="folder of the run [runs/NAME]")] = None,
) -> None:
    """Train a student and evaluate it on the recipe's tasks. Started again after an interruption, it goes on to the same result."""
    from taid_vlm.recipe import load_recipe
    from taid_vlm.run import train_and_evaluate

    student = train_and_evaluate(load_recipe(recipe, overrides or []), output or Path("runs") / Path(recipe).stem)
    print(f"student: {student}")


@app.command()
def plan(
    recipe: Annotated[str, typer.Argument(help="YAML file, or name of a shipped recipe such as quickstart/taid")],
    overrides: Overrides = None,
    gpus: Annotated[int, typer.Option(min=1, help="processes of the run, each with a GPU of its own")] = 1,
    samples: Annotated[int, typer.Option(min=1, help="records that are rendered for their lengths")] = 2000,
    as_json: Annotated[bool, typer.Option("--json", help="print the plan as JSON")] = False,
) -> None:
    """Say what a run will take before it is started: parts, lengths, memory, arithmetic, exports. No weights are loaded."""
    import json

    import torch

    from taid_vlm.planning import make_plan, show
    from taid_vlm.recipe import load_recipe
    from taid_vlm.training.precision import choose_precision

    loaded = load_recipe(recipe, overrides or [])
    precision = choose_precision(loaded.training.precision, torch.device("cpu"))
    made = make_plan(loaded, gpus=gpus, samples=samples, cpu_precision=precision)
    print(json.dumps(made.to_json(), indent=2)) if as_json else show(made)


@app.command()
def preview(
    recipe: Annotated[str, typer.Argument(help="YAML file, or name of a shipped recipe such as quickstart/taid")],
    overrides: Overrides = None,
    samples: Annotated[int, typer.Option(min=0, help="how many are shown")] = 5,
    seed: Annotated[int | None, typer.Option(help="draw the samples with it; the first ones when left out")] = None,
    scan: Annotated[bool, typer.Option("--scan", help="figures of all records, not of 2,000")] = False,
    html: Annotated[Path | None, typer.Option(help="also write a page, with pictures and their tiles")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print the figures as JSON")] = False,
) -> None:
    """Show samples as both models will see them: tiles, tokens, supervised answers; lengths, and what is left out and why."""
    from taid_vlm.recipe import load_recipe

    loaded = load_recipe(recipe, overrides or [])
    from taid_vlm.preview import preview_recipe  # imports torch, which a mistake in the recipe need not wait for

    preview_recipe(loaded, recipe, samples=samples, seed=seed, scan=scan, html=html, as_json=as_json)


@app.command("eval")
def evaluate(
    model: Annotated[str, typer.Argument(help="folder of a student or of a transformers checkpoint, or a hub id")],
    tasks: Annotated[str, typer.Option(help="names or YAML files of tasks, separated by commas")],
    limit: Annotated[int | None, typer.Option(help="at most so many items of each task")] = None,
    batch_size: Annotated[int, typer.Option(help="questions answered together")] = 32,
    output: Annotated[Path | None, typer.Option(help="folder for answers and results [evaluation/NAME]")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print results as JSON")] = False,
) -> None:
    """Evaluate a student or any released checkpoint."""
    from taid_vlm_eval.cli import run

    names = [name.strip() for name in tasks.split(",") if name.strip()]
    run(model, names, limit=limit, batch_size=batch_size, output=output, as_json=as_json)


@app.command()
def chat(
    model: Annotated[str, typer.Argument(help="folder of a student")],
    image: Annotated[Path | None, typer.Option(help="picture that the questions are about")] = None,
    prompt: Annotated[str | None, typer.Option(help="one question; without it they are read line by line")] = None,
) -> None:
    """Ask a student questions."""
    from taid_vlm.chat import chat as answer

    answer(model, image, [prompt] if prompt is not None else _typed_questions(), print)


@app.command()
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
    push: Annotated[str, typer.Option(help="repository on the hub to upload to, such as me/my-student")] = "",
) -> None:
    """Write a checkpoint that stock transformers loads, proven by reloading it in a fresh process."""
    from taid_vlm.exporting import export_run

    print(export_run(model, target, to, gguf=gguf, push=push))


@app.command()
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
) -> None:
    """Distil a vision-language teacher into small students and compare them."""
    from taid_vlm.quickstart import quickstart as run

    run(output, overrides or [], train_teacher, restart)


@recipes_app.command("ls")
def recipes_ls() -> None:
    """Names of the shipped recipes."""
    from taid_vlm.recipe import list_recipes

    print("\n".join(list_recipes()))


@recipes_app.command("show")
def recipes_show(recipe: str, overrides: Overrides = None) -> None:
    """A recipe with its bases and overrides resolved."""
    from taid_vlm.recipe import dump_recipe, load_recipe

    print(dump_recipe(load_recipe(recipe, overrides or [])), end="")


@recipes_app.command("schema")
def recipes_schema() -> None:
    """JSON Schema of recipes, for editors."""
    import json

    from taid_vlm.recipe import Recipe

    print(json.dumps(Recipe.model_json_schema(), indent=2))


@recipes_app.command("cp")
def recipes_cp(recipe: str, target: Path) -> None:
    """Write a shipped recipe, resolved, to a file of your own."""
    from taid_vlm.common.files import write_atomic
    from taid_vlm.recipe import dump_recipe, load_recipe

    if target.exists():
        raise UserError(f"{target} exists; choose another name")
    write_atomic(target, dump_recipe(load_recipe(recipe)))
    print(target)


@app.command()
def version() -> None:
    """The installed version."""
    print(__version__)


def _typed_questions():  # type: ignore[no-untyped-def]
    while True:
        try:
            yield input("> " if sys.stdin.isatty() else "")
        except EOFError:
            return


def main() -> None:
    """Entry point: a user's mistake is one message and status 1, never a traceback."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if not sys.stderr.isatty():
        os.environ.setdefault("TQDM_DISABLE", "1")  # the libraries draw bars into log files, too
    try:
        app()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except OSError as error:
        # The last net, for writers outside our own file functions (trackers, downloads).
        if error.errno not in (*FULL_ERRNO, *DENIED_ERRNO):
            raise
        print(f"error: cannot write {error.filename or 'a file'}: {error.strerror}", file=sys.stderr)
        sys.exit(1)
    except StoppedError as stopped:
        print(f"stopped: {stopped}", file=sys.stderr)
        sys.exit(RESUMABLE)
    except KeyboardInterrupt:
        print("stopped; the same command goes on from the last checkpoint", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
