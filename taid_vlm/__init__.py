"""taid-vlm: train compact vision-language models by distilling large ones.

Importing the package is cheap: the heavy parts are loaded when a name is first used.
"""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["__version__", "load_recipe", "load_student", "train"]

if TYPE_CHECKING:
    from taid_vlm.models import load_student
    from taid_vlm.recipe import load_recipe
    from taid_vlm.training import train

_HOMES = {
    "load_recipe": "taid_vlm.recipe",
    "load_student": "taid_vlm.models",
    "train": "taid_vlm.training",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'taid_vlm' has no attribute {name!r}")
