"""The folder of a run that nobody named one for."""

from pathlib import Path

from taid_vlm.common.paths import recipes_folder
from taid_vlm.recipe.loading import find_recipe

RUNS = Path("runs")
SHORT = "quickstart"  # its recipes are known by their last word alone: runs/taid


def run_folder_for(recipe: str) -> Path:
    """``runs/NAME``: of a shipped recipe its whole name, joined by hyphens, for many end in the same word; of a file its own.

    Args:
        recipe: as ``load_recipe`` takes it.

    Raises:
        UserError: there is no such recipe.
    """
    file, shipped = find_recipe(recipe).resolve(), recipes_folder().resolve()
    if not file.is_relative_to(shipped):
        return RUNS / file.stem
    words = file.relative_to(shipped).with_suffix("").parts
    return RUNS / "-".join(words[1:] if words[0] == SHORT and len(words) > 1 else words)
