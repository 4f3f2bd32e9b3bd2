"""``doctor``, which looks at the installation, and ``new``, which writes a first recipe."""

from pathlib import Path
from typing import Annotated

import typer

checking_app = typer.Typer()


@checking_app.command()
def doctor(
    offline: Annotated[bool, typer.Option("--offline", help="do not try to reach the hub")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print what was found as JSON")] = False,
) -> None:
    """Look at this machine and say what it lacks. Versions, devices, speed of bf16, attention kernels, disk, optional packages."""
    from taid_vlm.doctor import examine

    examine(offline=offline, as_json=as_json)


@checking_app.command()
def new(
    out: Annotated[Path, typer.Argument(help="file to write; it must not be there yet")] = Path("recipe.yaml"),
    teacher: Annotated[str | None, typer.Option(help="hub id or folder of the model that teaches")] = None,
    student: Annotated[str | None, typer.Option(help="hub id or folder of the student's language model")] = None,
    data: Annotated[str | None, typer.Option(help="what is learnt from: file, folder, hub id or asset")] = None,
    kind: Annotated[str | None, typer.Option(help="how the data is stored [by its name]")] = None,
    images: Annotated[
        bool | None, typer.Option("--images/--text", help="a student that sees pictures, or a plain language model")
    ] = None,
    gpus: Annotated[int | None, typer.Option(min=0, help="GPUs of the run; 0 is the processor")] = None,
    encoder: Annotated[
        str | None, typer.Option(help="LIBRARY:NAME of the vision encoder [a SigLIP2 of transformers]")
    ] = None,
) -> None:
    """Write a first recipe, with a comment at each key. What no option says is asked on a terminal."""
    from taid_vlm.new import Answers, write_new

    print(write_new(out, Answers(teacher, student, data, kind, images, gpus, encoder)))
