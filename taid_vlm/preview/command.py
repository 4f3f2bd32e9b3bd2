"""What ``taid-vlm preview`` does."""

import io
import json
import sys
from pathlib import Path

from taid_vlm.common.errors import UserError
from taid_vlm.common.files import write_atomic
from taid_vlm.common.progress import bar
from taid_vlm.preview.html_page import page
from taid_vlm.preview.make import Split, make_preview
from taid_vlm.preview.show import show
from taid_vlm.recipe.schema import Recipe


def preview_recipe(
    recipe: Recipe,
    title: str,
    *,
    split: Split = "train",
    samples: int = 5,
    seed: int | None = None,
    scan: bool = False,
    html: Path | None = None,
    as_json: bool = False,
) -> None:
    """Print the preview of a recipe, and write it as a page where one is asked for.

    Args:
        recipe, title, split, samples, seed, scan: see :func:`make_preview`.
        html: file to write.
        as_json: print the figures as JSON, and nothing else.

    Raises:
        UserError: see :func:`make_preview`; a page that cannot be written.
    """
    if html is not None and html.is_dir():
        raise UserError(f"--html {html} is a folder; give the name of a file, such as {html / 'preview.html'}")
    with bar("reading records") as progress:
        made = make_preview(recipe, title, split=split, samples=samples, seed=seed, scan=scan, progress=progress)
    if html is not None:
        write_atomic(html, page(made))
    if as_json:
        print(json.dumps(made.to_json(), indent=2))
        return
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # samples hold letters that an old terminal has not
    show(made)
    if html is not None:
        print(f"page: {html}")
