"""Places that a recipe names without saying where they are on a machine.

``asset:NAME/path`` lies in a pinned wheel, ``recipes:path`` beside the shipped recipes, ``cache:path`` in the user's
cache folder. A recipe that names them so is the same recipe on every machine, in every checkout.
"""

from collections.abc import Callable
from pathlib import Path

from taid_vlm.common.assets import PREFIX, asset_path, cache_folder
from taid_vlm.common.errors import UserError


def recipes_folder() -> Path:
    """Where the shipped recipes are: in a checkout beside the package, in a wheel inside it."""
    package = Path(__file__).resolve().parents[1]
    inside = package / "recipes"
    return inside if inside.is_dir() else package.parent / "recipes"


def resolve(source: str, say: Callable[[str], None] | None = None) -> str:
    """Replace ``asset:``, ``recipes:`` and ``cache:`` by the file or folder on this machine; anything else is returned unchanged.

    Args:
        say: told one line before an asset is downloaded.

    Raises:
        UserError: unknown asset, or a path that is not there.
    """
    if source.startswith(PREFIX):
        name, _, inside = source.removeprefix(PREFIX).partition("/")
        folder = asset_path(name, say)
    else:
        kind, _, inside = source.partition(":")
        if kind not in FOLDERS or not inside:
            return source
        name, folder = kind, FOLDERS[kind]()
    if not (folder / inside).exists():
        raise UserError(f"{source}: {name!r} holds no {inside!r}; look into {folder}")
    return str(folder / inside)


FOLDERS: dict[str, Callable[[], Path]] = {"recipes": recipes_folder, "cache": cache_folder}
