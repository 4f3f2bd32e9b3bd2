"""From a conversation to token ids and an answer mask: one rendering, one tokenisation.

The chat template marks what the assistant says with a generation block; the mask comes from the character offsets of that one tokenisation.
An image is one placeholder token repeated as often as the projector gives tokens, written into the text before it is tokenised.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor

from taid_vlm.common.errors import UserError, did_you_mean
from taid_vlm.models.images import to_pixel_values
from taid_vlm.models.vision_encoder import ImageInput

TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class ImageTokens:
    """How pictures enter a sequence: placeholder token, tokens per picture, and the encoder's preprocessing."""

    token: str
    per_image: int
    input: ImageInput


@dataclass(frozen=True)
class Rendered:
    """Token ids of a conversation, and which of them the assistant says (end-of-turn token included)."""

    ids: list[int]
    answer_mask: list[bool]


class Processor:
    """Tokenizer, chat template and image preprocessing of one model.

    Args:
        tokenizer: a fast tokenizer.
        template: the Jinja text of a chat template with ``{% generation %}`` blocks.
        images: None for a plain language model.

    Raises:
        UserError: the template has no generation block, or the placeholder is not one known token.
    """

    def __init__(self, tokenizer: Any, template: str, images: ImageTokens | None) -> None:
        if "generation -%}" not in template and "generation %}" not in template:
            raise UserError(
                "the chat template marks no answers: put what the assistant says into {% generation %} blocks"
            )
        self.tokenizer = tokenizer
        self.template = template
        self.images = images
        self.image_token_id: int | None = None
        if images is not None:
            ids = tokenizer.encode(images.token, add_special_tokens=False)
            if len(ids) != 1:
                raise UserError(
                    f"image_token {images.token!r} is {len(ids)} tokens in this tokenizer, expected one unused special token; "
                    f"special tokens it has: {', '.join(_special_tokens(tokenizer)[:20])}"
                )
            self.image_token_id = ids[0]
        self._typed_specials = [*_special_tokens(tokenizer), *([images.token] if images else [])]

    def render(self, messages: list[dict[str, Any]], add_generation_prompt: bool = False) -> Rendered:
        """Token ids and answer mask of a conversation.

        Args:
            messages: ``role`` and ``content``; user content may be a list of ``{"type": "image"}`` and
                ``{"type": "text", "text": ...}`` parts.
            add_generation_prompt: end with the opening of an answer.

        Raises:
            UserError: pictures in a conversation with a model that has no vision encoder.
        """
        image_count = sum(part["type"] == "image" for m in messages for part in m["content"] if isinstance(part, dict))
        if image_count and self.images is None:
            raise UserError("the conversation has pictures, but this model has no vision encoder")
        block = self.images.token * self.images.per_image if self.images else ""
        out = self.tokenizer.apply_chat_template(
            [self._with_plain_text(m) for m in messages],
            chat_template=self.template,
            add_generation_prompt=add_generation_prompt,
            image_blocks=[block] * image_count,
            tokenize=True,
            return_dict=True,
            return_assistant_tokens_mask=True,
        )
        return Rendered(list(out["input_ids"]), [bool(flag) for flag in out["assistant_masks"]])

    def pixel_values(self, images: list[Image.Image]) -> Tensor:
        """``[images, 3, size, size]`` as the vision encoder wants them."""
        if self.images is None:
            raise UserError("this model has no vision encoder, so it takes no pictures")
        return to_pixel_values(images, self.images.input)

    def identity(self) -> dict[str, Any]:
        """All that decides the ids of a conversation, apart from the tokenizer's vocabulary; for cache keys."""
        images = None if self.images is None else [self.images.token, self.images.per_image, repr(self.images.input)]
        return {"template": self.template, "images": images, "vocabulary": len(self.tokenizer)}

    def _with_plain_text(self, message: dict[str, Any]) -> dict[str, Any]:
        content = message["content"]
        if isinstance(content, str):
            return {**message, "content": self._neutral(content)}
        parts = [{**p, "text": self._neutral(p["text"])} if p["type"] == "text" else p for p in content]
        return {**message, "content": parts}

    def _neutral(self, text: str) -> str:
        # A control token typed by a user must stay text, or it would open a turn or ask for a picture.
        for token in self._typed_specials:
            if token in text:
                text = text.replace(token, token[0] + " " + token[1:])
        return text


def template_text(name: str) -> str:
    """One of the templates that ship with the package, or the text of a ``.jinja`` file.

    Raises:
        UserError: no such template.
    """
    if name.endswith(".jinja"):
        path = Path(name).expanduser()
        if not path.is_file():
            raise UserError(f"chat template not found: {path}")
        return path.read_text()
    path = TEMPLATES / f"{name}.jinja"
    if not path.is_file():
        raise UserError(
            f"unknown chat template {name!r}: {did_you_mean(name, (p.stem for p in TEMPLATES.glob('*.jinja')))}"
        )
    return path.read_text()


def _special_tokens(tokenizer: Any) -> list[str]:
    return [str(token) for token in tokenizer.get_added_vocab()]
