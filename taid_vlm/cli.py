"""The command line: parses, calls one function, prints."""

import os
import sys
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from taid_vlm import __version__
from taid_vlm.common.errors import UserError
from taid_vlm.common.files import DENIED_ERRNO, FULL_ERRNO
from taid_vlm.common.stopping import RESUMABLE, StoppedError
from taid_vlm.convert.command import convert_app
from taid_vlm.study.command import study_app

app = typer.Typer(
    help="Train compact vision-language models by distilling large ones.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
recipes_app = typer.Typer(help="List, show and copy the shipped recipes.", no_args_is_help=True)
app.add_typer(recipes_app, name="recipes")
app.add_typer(study_app, name="study")
app.add_typer(convert_app, name="convert")

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
    if os.environ.get("RANK", "0") == "0":  # of several processes one tells
        print(f"student: {student}")


@app.command()
def launch(
    recipe: Annotated[str, typer.Argument(help="YAML file, or name of a shipped recipe such as quickstart/taid")] = "",
    overrides: Overrides = None,
    gpus: Annotated[
        int | None, typer.Option(min=1, help="processes on this machine, each with a GPU of its own [all GPUs]")
    ] = None,
    nodes: Annotated[int, typer.Option(min=1, help="machines; start the same command on each")] = 1,
    main: Annotated[str | None, typer.Option(help="HOST:PORT where several machines meet")] = None,
    strategy: Annotated[str, typer.Option(help="how the student is spread: ddp, fsdp2, zero2 or zero3")] = "ddp",
    output: Annotated[Path | None, typer.Option(help="folder of the run [runs/NAME]")] = None,
    config: Annotated[
        str | None, typer.Option(help="only print where the shipped file for accelerate launch is: ddp, fsdp2, ...")
    ] = None,
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
    folder = ["--output", str(output)] if output else []
    start([recipe, *(overrides or []), *folder], processes=gpus, nodes=nodes, strategy=strategy, main=main)


@app.command()
def plan(
    recipe: Annotated[str, typer.Argument(help="YAML file, or name of a shipped recipe such as quickstart/taid")],
    overrides: Overrides = None,
    gpus: Annotated[int, typer.Option(min=1, help="processes of the run on all nodes, each with a GPU of its own")] = 1,
    nodes: Annotated[int, typer.Option(min=1, help="machines over which they are spread")] = 1,
    strategy: Annotated[
        str | None, typer.Option(help="how the student is spread: ddp, fsdp2, zero2 or zero3 [the recipe's, or ddp]")
    ] = None,
    compare: Annotated[
        bool, typer.Option("--compare", help="every strategy with every place of the teacher, and what to choose")
    ] = False,
    card: Annotated[str, typer.Option(help="GPU whose seconds are told, as in the table of cards")] = "H100 80 GB",
    network: Annotated[float, typer.Option(min=0.1, help="Gbit/s of each node, in each direction")] = 3200,
    utilisation: Annotated[float, typer.Option(min=0.01, max=1, help="share of its peak that a GPU reaches")] = 0.4,
    hidden: Annotated[
        float, typer.Option(min=0, max=1, help="share of the shorter of arithmetic and communication behind the other")
    ] = 0.5,
    records: Annotated[
        int | None, typer.Option(min=1, help="records of the whole set, where the recipe has a sample of it")
    ] = None,
    disk: Annotated[float, typer.Option(min=0, help="TB that a teacher cache may take to be recommended")] = 10,
    samples: Annotated[int, typer.Option(min=1, help="records that are rendered for their lengths")] = 2000,
    as_json: Annotated[bool, typer.Option("--json", help="print the plan as JSON")] = False,
) -> None:
    """Say what a run will take before it is started: parts, lengths, memory, arithmetic, traffic, exports. No weights are loaded."""
    import json

    import torch

    from taid_vlm.planning import Cluster, Rates, make_plan, show
    from taid_vlm.recipe import load_recipe
    from taid_vlm.training.precision import choose_precision

    loaded = load_recipe(recipe, overrides or [])
    precision = choose_precision(loaded.training.precision, torch.device("cpu"))
    cluster = Cluster(nodes, strategy, card, network, disk, Rates(utilisation, hidden))
    options: dict[str, Any] = {"cluster": cluster, "compare": compare, "records": records}
    made = make_plan(loaded, gpus=gpus, samples=samples, cpu_precision=precision, **options)
    print(json.dumps(made.to_json(), indent=2)) if as_json else show(made)


@app.command()
def cache(
    recipe: Annotated[str, typer.Argument(help="YAML file, or name of a shipped recipe such as quickstart/taid")],
    overrides: Overrides = None,
    measure: Annotated[
        bool, typer.Option("--measure", help="only show what ways to keep the teacher cost and lose; nothing is stored")
    ] = False,
) -> None:
    """Run the teacher once over the data and keep what it says, for training without it; see docs/teacher-cache.md."""
    from taid_vlm.recipe import load_recipe

    loaded = load_recipe(recipe, overrides or [])
    from taid_vlm.training.cache.command import fill_cache  # imports torch

    fill_cache(loaded, measure=measure)


class Split(Enum):
    """The parts of a recipe's data."""

    train = "train"
    validation = "validation"


@app.command()
def preview(
    recipe: Annotated[str, typer.Argument(help="YAML file, or name of a shipped recipe such as quickstart/taid")],
    overrides: Overrides = None,
    split: Annotated[Split, typer.Option(help="records of data.train, or those of data.validation")] = Split.train,
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

    shown: dict[str, Any] = {
        "split": split.value,
        "samples": samples,
        "seed": seed,
        "scan": scan,
        "html": html,
        "as_json": as_json,
    }
    preview_recipe(loaded, recipe, **shown)


@app.command("eval")
def evaluate(
    model: Annotated[
        str | None, typer.Argument(help="folder of a student or checkpoint, a hub id, openai:MODEL@URL or vllm:PATH")
    ] = None,
    tasks: Annotated[str, typer.Option(help="names or YAML files of tasks, separated by commas")] = "",
    suite: Annotated[
        str | None, typer.Option(help="openvlm, vqa, hallucination, documents, captions, language or smoke")
    ] = None,
    tasks_folder: Annotated[
        list[Path] | None, typer.Option(help="one more folder of tasks; may be given several times")
    ] = None,
    limit: Annotated[int | None, typer.Option(help="at most so many items of each task")] = None,
    batch_size: Annotated[int, typer.Option(help="questions answered together")] = 32,
    output: Annotated[Path | None, typer.Option(help="folder for answers and results [evaluation/NAME]")] = None,
    offline: Annotated[bool, typer.Option("--offline", help="fetch nothing: models and data must be here")] = False,
    protocol: Annotated[
        str, typer.Option(help="how to ask and to read: default, openvlm-2025-01 or openvlm-current")
    ] = "default",
    family: Annotated[str | None, typer.Option(help="of the model, for a protocol [by its class]")] = None,
    letters: Annotated[
        str, typer.Option(help="of options: generated, or by likelihood, one forward pass an item")
    ] = "generated",
    teacher: Annotated[
        str | None, typer.Option(help="model from which tasks such as kl_chatterbot measure the divergence")
    ] = None,
    judge: Annotated[
        str, typer.Option(help="reads answers that no rule can: rule (none), openai:MODEL@URL or local:PATH")
    ] = "rule",
    show_protocol: Annotated[str | None, typer.Option(help="print what a protocol asks of --family, and stop")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print results as JSON")] = False,
) -> None:
    """Evaluate a student or any released checkpoint."""
    from taid_vlm_eval.cli import go_offline, print_protocol, run

    if show_protocol is not None:
        print_protocol(show_protocol, family, tasks)
        return
    if model is None:
        raise UserError("a model is missing: the folder of a student or of a transformers checkpoint, or a hub id")
    if offline:
        go_offline()
    names = [name.strip() for name in tasks.split(",") if name.strip()]
    folders = tasks_folder or []
    run(
        model,
        names,
        suite=suite,
        tasks_folders=folders,
        limit=limit,
        batch_size=batch_size,
        output=output,
        as_json=as_json,
        protocol=protocol,
        family=family,
        letters=letters,
        teacher=teacher,
        judge=judge,
    )


@app.command()
def compare(
    folders: Annotated[
        list[Path], typer.Argument(help="folders that eval wrote; the first is compared with each other")
    ],
    tasks: Annotated[str, typer.Option(help="names of tasks, separated by commas [all that they share]")] = "",
    tasks_folder: Annotated[
        list[Path] | None, typer.Option(help="one more folder of tasks; may be given several times")
    ] = None,
    html: Annotated[
        Path | None, typer.Option(help="also write a page of the items that one gets right and the other wrong")
    ] = None,
    most: Annotated[int, typer.Option(min=0, help="items that the page shows of each kind")] = 100,
    as_json: Annotated[bool, typer.Option("--json", help="print the differences as JSON")] = False,
) -> None:
    """Paired differences of evaluations of the same items, with intervals."""
    from taid_vlm_eval.compare_command import run_compare

    names = [name.strip() for name in tasks.split(",") if name.strip()]
    run_compare(folders, tasks=names, tasks_folders=tasks_folder or [], html=html, most=most, as_json=as_json)


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
