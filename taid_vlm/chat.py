"""Ask a saved student questions."""

from collections.abc import Callable, Iterable
from pathlib import Path

from taid_vlm.common.errors import UserError
from taid_vlm.common.paths import resolve
from taid_vlm.common.progress import waiting


def chat(
    path: str,
    image: Path | None,
    questions: Iterable[str],
    say: Callable[[str], None],
    max_new_tokens: int = 64,
    *,
    trust_remote_code: bool = False,
) -> None:
    """Answer each question; a picture goes with every one of them.

    Args:
        trust_remote_code: see :func:`taid_vlm.models.load_student`.

    Raises:
        UserError: no student at ``path``, an unreadable picture, or a picture for a model without a vision encoder.
    """
    from taid_vlm.data.images import open_image
    from taid_vlm.models import load_student

    with waiting("loading the student"):
        loaded = load_student(resolve(path), trust_remote_code=trust_remote_code)
    if image is not None and loaded.processor.images is None:
        raise UserError(f"{path} is a plain language model and takes no picture; leave --image out")
    pictures = [open_image(image)] if image is not None else []
    for question in questions:
        content = [*({"type": "image"} for _ in pictures), {"type": "text", "text": question}]
        say(loaded.generate([[{"role": "user", "content": content}]], [pictures], max_new_tokens)[0])
