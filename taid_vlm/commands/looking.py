"""Commands that look ahead of a run, or prepare it: ``plan``, ``preview``, ``cache``, ``answers``."""

import json
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from taid_vlm.commands.arguments import Overrides, RecipeName, complete_strategies
from taid_vlm.commands.quiet import quietly

looking_app = typer.Typer()


@looking_app.command()
def plan(
    recipe: RecipeName,
    overrides: Overrides = None,
    gpus: Annotated[int, typer.Option(min=1, help="processes of the run on all nodes, each with a GPU of its own")] = 1,
    nodes: Annotated[int, typer.Option(min=1, help="machines over which they are spread")] = 1,
    strategy: Annotated[
        str | None,
        typer.Option(
            help="how the student is spread: ddp, fsdp2, zero2 or zero3 [the recipe's, or ddp]",
            autocompletion=complete_strategies,
        ),
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
    import torch

    from taid_vlm.common.progress import waiting
    from taid_vlm.planning import Cluster, Rates, make_plan, show
    from taid_vlm.recipe import load_recipe
    from taid_vlm.training.precision import choose_precision

    loaded = load_recipe(recipe, overrides or [])
    cluster = Cluster(nodes, strategy, card, network, disk, Rates(utilisation, hidden))
    options: dict[str, Any] = {"cluster": cluster, "compare": compare, "records": records}
    with waiting("planning"):
        precision = choose_precision(loaded.training.precision, torch.device("cpu"))
        made = make_plan(loaded, gpus=gpus, samples=samples, cpu_precision=precision, **options)
    print(json.dumps(made.to_json(), indent=2)) if as_json else show(made)


@looking_app.command()
def cache(
    recipe: RecipeName,
    overrides: Overrides = None,
    measure: Annotated[
        bool, typer.Option("--measure", help="only show what ways to keep the teacher cost and lose; nothing is stored")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="print only the folder of the cache")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print only what the cache holds, as JSON")] = False,
) -> None:
    """Run the teacher once over the data and keep what it says. Training then needs no teacher; see docs/teacher-cache.md."""
    from taid_vlm.recipe import load_recipe

    loaded = load_recipe(recipe, overrides or [])
    from taid_vlm.training.cache.command import fill_cache, held  # imports torch

    with quietly((quiet or as_json) and not measure):
        filled = fill_cache(loaded, measure=measure)
    if filled is not None and as_json:
        print(json.dumps(held(filled), indent=2))
    elif filled is not None and quiet:
        print(filled.folder)


@looking_app.command()
def answers(
    recipe: RecipeName,
    overrides: Overrides = None,
    output: Annotated[Path, typer.Option(help="folder to write; it must not be there yet")] = Path("answers"),
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="print only the folder")] = False,
) -> None:
    """Let the teacher answer the training questions. The answers are a data set to learn from and to share; see docs/teachers.md."""
    from taid_vlm.recipe import load_recipe

    loaded = load_recipe(recipe, overrides or [])
    from taid_vlm.training.answers_data import write_answers  # imports torch

    with quietly(quiet):
        written = write_answers(loaded, output, print)
    print(output if quiet else f"{output}: {written} records; README.md is its card")


class Split(Enum):
    """The parts of a recipe's data."""

    train = "train"
    validation = "validation"


@looking_app.command()
def preview(
    recipe: RecipeName,
    overrides: Overrides = None,
    split: Annotated[Split, typer.Option(help="records of data.train, or those of data.validation")] = Split.train,
    samples: Annotated[int, typer.Option(min=0, help="how many are shown")] = 5,
    seed: Annotated[int | None, typer.Option(help="draw the samples with it; the first ones when left out")] = None,
    scan: Annotated[bool, typer.Option("--scan", help="figures of all records, not of 2,000")] = False,
    html: Annotated[Path | None, typer.Option(help="also write a page, with pictures and their tiles")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print the figures as JSON")] = False,
) -> None:
    """Show samples as both models will see them. Tiles, tokens, supervised answers, lengths, and what is left out and why."""
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
