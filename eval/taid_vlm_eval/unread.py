"""Which items of a batch are to blame when a model cannot read the batch."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from PIL import Image

from taid_vlm.common.errors import UserError
from taid_vlm_eval.models.faults import AnswerFault, UnaskableError
from taid_vlm_eval.models.protocol import Preparing, Request


def may_be_an_item(failure: Exception | None) -> bool:
    """Whether one item can be the reason: not of what the user is told, what ran out, or what the machine does not give."""
    if isinstance(failure, UserError):
        return isinstance(failure, UnaskableError)
    return failure is not None and not isinstance(failure, AnswerFault | MemoryError | OSError | ImportError)


def unread(
    model: Preparing, requests: Sequence[Request], known: bool, out_of_memory: Callable[[Exception], bool]
) -> dict[int, AnswerFault]:
    """Lasting faults of the requests that the model cannot read alone either, by place.

    Args:
        known: the model has read other requests of the task.
        out_of_memory: whether an exception says that memory ran out, which is raised.

    Raises:
        Exception: what the model raised, where it reads nothing else of the kind, so that no single item is to blame.
    """
    failures: dict[int, Exception] = {}
    for place, request in enumerate(requests):
        try:
            model.prepare([request])
        except Exception as error:
            if out_of_memory(error) or not may_be_an_item(error):
                raise
            failures[place] = error
    known = known or len(failures) < len(requests)
    for place, failure in failures.items():
        if not (known or isinstance(failure, UnaskableError) or _other_pictures_are_read(model, requests[place])):
            raise failure
    return {place: as_fault(failure) for place, failure in failures.items()}


def as_fault(error: Exception) -> AnswerFault:
    """Why an item is not asked; asking again would not help."""
    what = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
    return AnswerFault(f"the model cannot read it: {what}", lasting=True)


def _other_pictures_are_read(model: Preparing, request: Request) -> bool:
    """Whether the very question is read with square pictures."""
    if not request.images:
        return False
    square = Image.new("RGB", (64, 64), "gray")
    try:
        model.prepare([replace(request, images=[square for _ in request.images], keys=())])
    except Exception:
        return False
    return True
