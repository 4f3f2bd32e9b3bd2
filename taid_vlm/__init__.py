"""taid-vlm: train compact vision-language models by distilling large ones.

Importing the package is cheap: the heavy parts are loaded when a name is first used.
"""

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["TAIDLoss", "__version__", "export", "load_recipe", "load_student", "plan", "train"]

if TYPE_CHECKING:
    from pathlib import Path

    from taid_vlm.exporting import export
    from taid_vlm.losses.module import TAIDLoss
    from taid_vlm.models import load_student
    from taid_vlm.planning import make_plan as plan
    from taid_vlm.recipe import load_recipe
    from taid_vlm.training import train

# Where each name lives, and what it is called there.
_HOMES = {
    "TAIDLoss": ("taid_vlm.losses.module", "TAIDLoss"),
    "load_recipe": ("taid_vlm.recipe", "load_recipe"),
    "load_student": ("taid_vlm.models", "load_student"),
    "plan": ("taid_vlm.planning", "make_plan"),
    "train": ("taid_vlm.training", "train"),
}


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name in _HOMES:
        module, inside = _HOMES[name]
        return getattr(import_module(module), inside)
    if name == "export":
        return import_module("taid_vlm.export")  # becomes callable when the package is told of it, below
    raise AttributeError(f"module 'taid_vlm' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _ExportModule(ModuleType):
    """``taid_vlm.export`` is a folder of modules and the name of a function: so the module can be called as that function."""

    def __call__(
        self, model: "str | Path", target: "str | Path | None" = None, to: str = "auto", **more: Any
    ) -> "Path":
        from taid_vlm.exporting import export as function

        return function(model, target, to, **more)


class _Package(ModuleType):
    def __setattr__(self, name: str, value: Any) -> None:
        if name == "export" and isinstance(value, ModuleType):  # the import system, once the folder is imported
            value.__class__ = _ExportModule
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
