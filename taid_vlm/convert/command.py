"""``taid-vlm convert``: parses, calls one function, prints."""

from pathlib import Path
from typing import Annotated

import typer

from taid_vlm.common.errors import UserError
from taid_vlm.common.progress import waiting

convert_app = typer.Typer(help="Convert checkpoints of other layouts.", no_args_is_help=True)


@convert_app.callback()
def convert() -> None:
    """Convert checkpoints of other layouts."""


@convert_app.command()
def internvl2(
    source: Annotated[
        Path, typer.Argument(help="folder of InternVL2 (or 2.5, 3) as it was released: model_type internvl_chat")
    ],
    target: Annotated[Path, typer.Argument(help="folder to write")],
) -> None:
    """Write InternVL2 as the stock class InternVL: the same values, no remote code."""
    from taid_vlm.models.native.internvl2.convert import convert_internvl2

    _not_there(target)
    written = 0

    def tell(more: int) -> None:
        nonlocal written
        written += more
        typer.echo(f"{written / 1e9:.2f} GB written", err=True)

    with waiting("converting"):
        count = convert_internvl2(source.expanduser(), target.expanduser(), progress=tell)
    print(f"{target}: {count / 1e6:.1f}M parameters, InternVLForConditionalGeneration")


@convert_app.command()
def student(
    source: Annotated[str, typer.Argument(help="folder or hub id of an InternVL, stock or as InternVL2 was released")],
    target: Annotated[Path, typer.Argument(help="folder to write")],
) -> None:
    """Take an InternVL apart, so that a recipe can train it on: base: TARGET/student.yaml."""
    from taid_vlm.models.native.parts import split_into_parts

    _not_there(target)
    with waiting("taking it apart"):
        split_into_parts(source, target.expanduser())
    print(f"{target / 'student.yaml'}: name it in a recipe as base")


def _not_there(target: Path) -> None:
    if target.expanduser().exists():
        raise UserError(f"{target} exists; choose another folder, or remove it")
