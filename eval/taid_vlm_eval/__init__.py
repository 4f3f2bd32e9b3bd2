"""taid_vlm_eval: score any vision-language or language model on question-answer tasks.

Importing the package is cheap: the heavy parts are loaded when a name is first used.
"""

from typing import TYPE_CHECKING, Any

__all__ = ["Results", "evaluate", "list_tasks", "load_task", "open_model"]

if TYPE_CHECKING:
    from taid_vlm_eval.evaluating import evaluate
    from taid_vlm_eval.models import open_model
    from taid_vlm_eval.results import Results
    from taid_vlm_eval.task_files import list_tasks, load_task

_HOMES = {
    "Results": "taid_vlm_eval.results",
    "evaluate": "taid_vlm_eval.evaluating",
    "list_tasks": "taid_vlm_eval.task_files",
    "load_task": "taid_vlm_eval.task_files",
    "open_model": "taid_vlm_eval.models",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'taid_vlm_eval' has no attribute {name!r}")
