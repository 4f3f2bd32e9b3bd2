"""Students and teachers: vision encoder + projector + language model, saved and loaded as one folder.

Names are loaded on first use, because recipes import :mod:`taid_vlm.models.specs` before torch is needed.
"""

from typing import TYPE_CHECKING, Any

__all__ = ["LoadedStudent", "Student", "build_student", "load_student", "save_student"]

if TYPE_CHECKING:
    from taid_vlm.models.assemble import build_student
    from taid_vlm.models.loaded import LoadedStudent
    from taid_vlm.models.saved import load_student, save_student
    from taid_vlm.models.student import Student

_HOMES = {
    "LoadedStudent": "loaded",
    "Student": "student",
    "build_student": "assemble",
    "load_student": "saved",
    "save_student": "saved",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(f"taid_vlm.models.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'taid_vlm.models' has no attribute {name!r}")
