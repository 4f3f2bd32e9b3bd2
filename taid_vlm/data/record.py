"""One conversation with its pictures, before any model has seen it."""

import hashlib
import json
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

from taid_vlm.common.errors import UserError
from taid_vlm.data.pictures import Picture

Reason = Literal[
    "unreadable row",
    "missing column",
    "wrong type",
    "wrong roles",
    "broken text",
    "no answer",
    "image count",
    "picture by URL",
    "picture not found",
    "broken picture",
    "picture too large",
    "too long",
    "answers differ",
    "other",
]
REASONS: tuple[Reason, ...] = get_args(Reason)


class BadSampleError(UserError):
    """A sample that cannot be used: a broken picture, a missing answer, too many tokens.

    Args:
        reason: under which bad samples are counted.
    """

    def __init__(self, message: str, reason: Reason = "other") -> None:
        super().__init__(message)
        self.reason: Reason = reason


class Broken(NamedTuple):
    """Why a row of a source is no conversation, or a sample is missing in its batch."""

    reason: Reason
    message: str


def image_places(messages: list[dict[str, Any]]) -> int:
    """How many pictures a conversation asks for."""
    return sum(part["type"] == "image" for m in messages for part in m["content"] if isinstance(part, dict))


@dataclass(frozen=True)
class Record:
    """A conversation that ends with what the assistant should have said, or a text, or a row that is neither.

    Attributes:
        id: names the sample in messages and caches.
        messages: ``{"role", "content"}``; user content is text or a list of image and text parts. Empty for a text.
        images: pictures, in the order of the image parts.
        text: a document, or a block of one, of which every token is learnt (continued pre-training).
        continues: the document of ``text`` goes on in another record, so it does not end here.
        broken: what is wrong with the row; such a record keeps its place and is counted, never used.
    """

    id: str
    messages: list[dict[str, Any]]
    images: tuple[Picture, ...] = ()
    text: str | None = None
    continues: bool = False
    broken: Broken | None = None

    def check(self) -> None:
        """Raise :class:`BadSampleError` when the record is broken, teaches nothing, or its pictures do not add up."""
        if self.broken is not None:
            raise BadSampleError(self.broken.message, self.broken.reason)
        if self.text is not None:
            if not self.text.strip():
                raise BadSampleError(f"sample {self.id} has no text", "no answer")
            return
        answers = [m["content"] for m in self.messages if m["role"] == "assistant"]
        if not answers or not all(isinstance(a, str) and a.strip() for a in answers):
            raise BadSampleError(
                f"sample {self.id} has no answer: an assistant message with text was expected", "no answer"
            )
        places = image_places(self.messages)
        if places != len(self.images):
            raise BadSampleError(
                f"sample {self.id} has {places} image places and {len(self.images)} pictures", "image count"
            )

    def text_digest(self) -> str:
        """Hash of the words alone."""
        words: Any = self.messages if self.text is None else [self.text, self.continues]
        return hashlib.sha256(json.dumps(words, sort_keys=True).encode()).hexdigest()
