"""From a conversation to token ids and an answer mask: one rendering, one tokenisation.

The chat template marks what the assistant says with a generation block; the mask comes from the character offsets of that one tokenisation.
A picture is one placeholder token repeated as often as the projector gives tokens for all its tiles, with the markers of its style, written
into the text before it is tokenised.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor

from taid_vlm.common.errors import UserError, did_you_mean
from taid_vlm.models.image_text import check_style, image_text, markers
from taid_vlm.models.images import to_pixel_values
from taid_vlm.models.specs import ImagesSpec
from taid_vlm.models.tiling import Grid, Size, decides_pixels, grid_of, tiles_of
from taid_vlm.models.vision_encoder import ImageInput

TEMPLATES = Path(__file__).parent / "templates"


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
        UserError: the template has no generation block, the placeholder is not one known token, or tiles that no stock processor
            writes in the style asked for.
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
        self._typed_specials = _special_tokens(tokenizer)
        if images is not None:
            # A square picture has the most rows and columns that splitting gives.
            largest = self._grid((1, 1))
            check_style(images.spec, images.token, largest)
            self._typed_specials += [images.token, *markers(images.spec.style, largest)]

    @property
    def needs_sizes(self) -> bool:
        """Whether the tokens of a picture depend on its size."""
        return self.images is not None and self.images.spec.tiling != "none"

    def render(
        self, messages: list[dict[str, Any]], add_generation_prompt: bool = False, sizes: list[Size] | None = None
    ) -> Rendered:
        """Token ids and answer mask of a conversation.

        Args:
            messages: ``role`` and ``content``; user content may be a list of ``{"type": "image"}`` and
                ``{"type": "text", "text": ...}`` parts.
            add_generation_prompt: end with the opening of an answer.
            sizes: (width, height) of each picture in order, upright; needed where pictures are cut into tiles.

        Raises:
            UserError: pictures in a conversation with a model that has no vision encoder, or sizes that are missing or do not
                add up.
        """
        image_count = sum(part["type"] == "image" for m in messages for part in m["content"] if isinstance(part, dict))
        out = self.tokenizer.apply_chat_template(
            [self._with_plain_text(m) for m in messages],
            chat_template=self.template,
            add_generation_prompt=add_generation_prompt,
            image_blocks=self._image_blocks(image_count, sizes),
            tokenize=True,
            return_dict=True,
            return_assistant_tokens_mask=True,
        )
        return Rendered(list(out["input_ids"]), [bool(flag) for flag in out["assistant_masks"]])

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
