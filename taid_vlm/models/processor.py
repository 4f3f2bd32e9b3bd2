"""From a conversation to token ids and an answer mask.

A picture is one placeholder token repeated as often as the projector gives tokens for all its tiles, with the markers of its style, written
into the text before it is tokenised.
"""

from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from PIL import Image
from torch import Tensor

from taid_vlm.common.errors import UserError
from taid_vlm.models.chat_template import end_of_turn, template_text
from taid_vlm.models.control_text import ControlText, special_tokens
from taid_vlm.models.image_text import check_style, image_places, image_text, markers
from taid_vlm.models.images import to_pixel_values
from taid_vlm.models.rendering import Rendered, can_be_cut, render_text, tokenize
from taid_vlm.models.specs import ImagesSpec
from taid_vlm.models.tiling import Grid, Size, decides_pixels, grid_of, tiles_of
from taid_vlm.models.vision_encoder import ImageInput

ROLES = ("system", "user", "assistant")
__all__ = ["ImageTokens", "Processor", "Rendered", "template_text"]


@dataclass(frozen=True)
class ImageTokens:
    """How pictures enter a sequence.

    Attributes:
        token: the placeholder, one token of the tokenizer.
        per_tile: how many of them stand for a tile.
        input: the encoder's preprocessing; a tile is as large as its input.
        spec: tiles, and the text around them.
    """

    token: str
    per_tile: int
    input: ImageInput
    spec: ImagesSpec = field(default_factory=ImagesSpec)


class Processor:
    """Tokenizer, chat template and image preprocessing of one model.

    Args:
        tokenizer: a fast tokenizer.
        template: the Jinja text of a chat template with ``{% generation %}`` blocks.
        images: None for a plain language model.

    Attributes:
        end_of_turn_id: the token with which an answer ends.

    Raises:
        UserError: the template marks anything but the answer and its end of turn, which must be one token; the placeholder is not one
            known token; or tiles that no stock processor writes in the style asked for.
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
                    f"special tokens it has: {', '.join(special_tokens(tokenizer)[:20])}"
                )
            self.image_token_id = ids[0]
        around: tuple[str, ...] = ()
        if images is not None:
            # A square picture has the most rows and columns that splitting gives.
            largest = self._grid((1, 1))
            check_style(images.spec, images.token, largest)
            around = (images.token, *markers(images.spec.style, largest))
        self._control = ControlText(tokenizer, template, around)
        self._cut = can_be_cut(tokenizer)
        self.end_of_turn_id = end_of_turn(tokenizer, template)

    @property
    def needs_sizes(self) -> bool:
        """Whether the tokens of a picture depend on its size."""
        return self.images is not None and self.images.spec.tiling != "none"

    def render(
        self, messages: list[dict[str, Any]], add_generation_prompt: bool = False, sizes: list[Size] | None = None
    ) -> Rendered:
        """Token ids and answer mask of a conversation.

        Args:
            messages: ``role`` (system, user or assistant) and ``content``; user content may be a list of ``{"type": "image"}`` and
                ``{"type": "text", "text": ...}`` parts.
            add_generation_prompt: end with the opening of an answer.
            sizes: (width, height) of each picture in order, upright; needed where pictures are cut into tiles.

        Raises:
            UserError: an unknown role, pictures outside a user's turn or for a model that has no vision encoder, or sizes that are
                missing or do not add up.
        """
        return self.render_with(messages, self._image_blocks(image_places(messages), sizes), add_generation_prompt)

    def render_with(
        self, messages: list[dict[str, Any]], image_blocks: list[str], add_generation_prompt: bool = False
    ) -> Rendered:
        """As :meth:`render`, with the given texts in place of the pictures, one for each in order.

        Raises:
            UserError: an unknown role, a picture outside a user's turn, or texts that are not as many as the pictures.
        """
        messages = [self._with_plain_text(message) for message in messages]
        if len(image_blocks) != image_places(messages):
            raise UserError(
                f"a conversation with {image_places(messages)} pictures came with {len(image_blocks)} texts for them"
            )
        text, spans = render_text(
            self.tokenizer,
            self.template,
            messages,
            add_generation_prompt=add_generation_prompt,
            image_blocks=image_blocks,
        )
        return tokenize(self.tokenizer, text, spans, self._cut)

    def pixel_values(self, images: list[Image.Image]) -> Tensor:
        """``[tiles, 3, size, size]`` as the vision encoder wants them: all tiles of all pictures in order."""
        settings = self._with_pictures().input
        return to_pixel_values([tile for image in images for tile in self.tiles(image)], settings)

    def tiles(self, image: Image.Image) -> list[Image.Image]:
        """The tiles of an RGB picture, resized to the encoder's input, in the order of their tokens."""
        images = self._with_pictures()
        return tiles_of(image, images.input.size, images.input.interpolation, images.spec)

    def tiles_per_image(self, size: Size) -> int:
        """How many tiles a picture of (width, height) has."""
        return self._grid(size).tiles

    def identity(self) -> dict[str, Any]:
        """All that decides the ids of a conversation, apart from the tokenizer's vocabulary; for cache keys."""
        images: list[Any] | None = None
        if self.images is not None:
            images = [self.images.token, self.images.per_tile, repr(self.images.input), self.images.spec.style]
            images += decides_pixels(self.images.spec)
        return {"template": self.template, "images": images, "vocabulary": len(self.tokenizer)}

    def _with_pictures(self) -> ImageTokens:
        if self.images is None:
            raise UserError("this model has no vision encoder, so it takes no pictures")
        return self.images

    def _grid(self, size: Size) -> Grid:
        images = self._with_pictures()
        return grid_of(size, images.input.size, images.spec)

    def _image_blocks(self, count: int, sizes: list[Size] | None) -> list[str]:
        if count == 0 and not sizes:
            return []
        if self.images is None:
            raise UserError("the conversation has pictures, but this model has no vision encoder")
        if sizes is None:
            if self.needs_sizes:
                raise UserError(
                    f"pictures are cut into tiles (images.tiling {self.images.spec.tiling!r}), so their tokens depend on their "
                    f"sizes: pass sizes, (width, height) of each of the {count} pictures"
                )
            sizes = [(1, 1)] * count  # any size has the same tokens
        if len(sizes) != count:
            raise UserError(f"a conversation with {count} pictures came with {len(sizes)} sizes")
        tile = self.images.token * self.images.per_tile
        return [image_text(self.images.spec.style, tile, self._grid(size)) for size in sizes]

    def _with_plain_text(self, message: dict[str, Any]) -> dict[str, Any]:
        role, content = message["role"], message["content"]
        if role not in ROLES:
            raise UserError(f"a message has the role {role!r}, expected one of {', '.join(ROLES)}")
        plain = self._control.answer if role == "assistant" else self._control.neutral
        if isinstance(content, str):
            return {"role": role, "content": plain(content)}
        parts: list[dict[str, Any]] = []
        # Words side by side are joined first: two halves of a control token would make a whole one.
        for is_text, group in groupby(content, key=lambda part: part["type"] == "text"):
            if is_text:
                parts.append({"type": "text", "text": plain("".join(p["text"] for p in group))})
            else:
                parts.extend(group)
        if role == "user":
            return {"role": role, "content": parts}
        if any(part["type"] != "text" for part in parts):
            raise UserError(f"a message of the role {role} has a picture; only a user's message can")
        return {"role": role, "content": "".join(part["text"] for part in parts)}
