"""Students of taid-vlm that were not exported. The one file of this package that knows the training side."""

import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from taid_vlm.common.errors import UserError
from taid_vlm_eval.models.identity import folder_fingerprint
from taid_vlm_eval.models.protocol import Request


class StudentModel:
    """A loaded student, from :func:`open_student` or handed over alive by a training loop.

    Args:
        student: what ``taid_vlm.models.load_student`` returns.
        name: shown in results.
        identity: text that changes whenever the weights do ("run-7 step 1200", a fingerprint). Without one, a run with this
            object is never resumed by another object, since nobody could tell whether the weights are the same.
    """

    def __init__(self, student: Any, name: str, identity: str | None = None) -> None:
        self.name = name
        self._student = student
        self._identity = identity or f"unknown-{uuid.uuid4().hex}"

    def describe(self) -> dict[str, str | int]:
        own = {str(key): _plain(value) for key, value in self._student.describe().items()}
        return own | {
            "adapter": "student",
            "name": self.name,
            "parameters": int(self._student.parameters_total),
            "identity": self._identity,
        }

    def generate(self, requests: Sequence[Request], max_new_tokens: int) -> list[str]:
        conversations = [[{"role": "user", "content": _content(request)}] for request in requests]
        answers = self._student.generate(conversations, [list(one.images) for one in requests], max_new_tokens)
        return [answer.strip() for answer in answers]


def _content(request: Request) -> list[dict[str, str]]:
    return [*({"type": "image"} for _ in request.images), {"type": "text", "text": request.prompt}]


def _plain(value: Any) -> str | int:
    return value if isinstance(value, str | int) else str(value)


def open_student(path: str, device: str | None = None, dtype: str | None = None) -> StudentModel:
    """Load the student saved in the folder ``path``, in the precision it loads with by itself.

    Raises:
        UserError: taid-vlm's training side is not installed, the folder does not load, unknown device, or a precision was asked for.
    """
    if dtype is not None:
        raise UserError(f"dtype {dtype!r} was asked for, but a student runs in the precision it loads in; leave it out")
    try:
        from taid_vlm.models import load_student
        from taid_vlm.models.fingerprint import fingerprint
    except ImportError as error:
        raise UserError(f"{path} is a student of taid-vlm, but taid_vlm.models does not import: {error}") from error
    from taid_vlm_eval.models.device import choose_device

    place = choose_device(device)
    folder = Path(path).expanduser()
    loaded = load_student(folder)
    # The folder alone does not tell: a student saved in its trained parts is completed from a base that lies elsewhere.
    identity = f"{folder_fingerprint(folder)[:16]} {fingerprint(loaded.student, loaded.processor)[:16]}"
    loaded.student.to(place)
    return StudentModel(loaded, folder.resolve().name, identity)
