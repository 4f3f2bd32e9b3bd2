"""One conversation with its pictures, before any model has seen it."""

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from taid_vlm.common.errors import UserError
from taid_vlm.data.pictures import Picture


class BadSampleError(UserError):
    """A sample that cannot be used: a broken picture, a missing answer, too many tokens."""


@dataclass(frozen=True)
class Record:
    """A conversation that ends with what the assistant should have said.

    Attributes:
        id: names the sample in messages and caches.
        messages: ``{"role", "content"}``; user content is text or a list of image and text parts.
        images: pictures, in the order of the image parts.
    """

    id: str
    messages: list[dict[str, Any]]
    images: tuple[Picture, ...] = ()

    def check(self) -> None:
        """Raise :class:`BadSampleError` when the conversation teaches nothing or its pictures do not add up."""
        answers = [m["content"] for m in self.messages if m["role"] == "assistant"]
        if not answers or not all(isinstance(a, str) and a.strip() for a in answers):
            raise BadSampleError(f"sample {self.id} has no answer: an assistant message with text was expected")
        places = sum(p["type"] == "image" for m in self.messages for p in m["content"] if isinstance(p, dict))
        if places != len(self.images):
            raise BadSampleError(f"sample {self.id} has {places} image places and {len(self.images)} pictures")

    def text_digest(self) -> str:
        """Hash of the words alone."""
        return hashlib.sha256(json.dumps(self.messages, sort_keys=True).encode()).hexdigest()
