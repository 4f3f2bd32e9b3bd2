"""A stock processor behind the interface of ours: one rendering with an answer mask, and the pictures' tensors."""

from typing import Any

import torch
from PIL import Image
from torch import Tensor

from taid_vlm.common.errors import UserError
from taid_vlm.models.image_text import image_places
from taid_vlm.models.native.families import Family
from taid_vlm.models.native.model import NativeInputs
from taid_vlm.models.processor import Processor, Rendered
from taid_vlm.models.tiling import Size

SQUARE = (448, 448)
PROBE = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What is this?"}]}]


class NativeProcessor:
    """Tokenizer and image processor of a stock checkpoint, with one of our chat templates.

    The stock processor expands a placeholder after looking at the picture; here the expanded text is written from the picture's size, so
    that a conversation is rendered and tokenised once, before any picture is decoded, and its answer mask comes from that tokenisation.

    Args:
        stock: the checkpoint's own processor.
        template: the Jinja text of a chat template with ``{% generation %}`` blocks.

    Raises:
        UserError: the processor is not the family's, or the template marks no answers.
    """

    images = None  # none of our tilings

    def __init__(self, stock: Any, family: Family, template: str) -> None:
        if type(stock).__name__ != family.processor:
            raise UserError(
                f"the teacher's processor is {type(stock).__name__}, {family.processor} was expected: a checkpoint of this model_type with "
                f"another processor writes its pictures in a way that is not known here; choose another teacher"
            )
        self.stock, self.family = stock, family
        self.words = Processor(stock.tokenizer, template, None)
        self.tokenizer: Any = stock.tokenizer
        self.image_token_id: int | None = _image_token_id(stock)
        # The stock processor lets the tokenizer add what opens every text, unless the template has written it.
        alone = stock.tokenizer.encode("")
        self._opening: list[int] = alone if alone == [stock.tokenizer.bos_token_id] else []
        family.picture_texts(stock, [SQUARE])  # refuses what cannot be told from a size

    @property
    def template(self) -> str:
        """The chat template."""
        return self.words.template

    @property
    def end_of_turn_id(self) -> int:
        """The token with which an answer ends."""
        return self.words.end_of_turn_id

    @property
    def needs_sizes(self) -> bool:
        """Whether the tokens of a picture depend on its size."""
        return self.family.by_size

    def render(
        self, messages: list[dict[str, Any]], add_generation_prompt: bool = False, sizes: list[Size] | None = None
    ) -> Rendered:
        """Token ids and answer mask of a conversation; as :meth:`Processor.render`.

        Raises:
            UserError: sizes that are missing, do not add up, or are none that the stock processor takes.
        """
        texts = self._picture_texts(image_places(messages), sizes)
        out = self.words.render_with(messages, texts, add_generation_prompt)
        if self._opening and out.ids[:1] != self._opening:
            return Rendered(self._opening + out.ids, [False, *out.answer_mask])
        return out

    def _picture_texts(self, count: int, sizes: list[Size] | None) -> list[str]:
        if count == 0 and not sizes:
            return []
        if sizes is None:
            if self.needs_sizes:
                raise UserError(
                    f"the tokens of the teacher's pictures depend on their sizes: pass (width, height) of each of the {count} pictures"
                )
            sizes = [SQUARE] * count  # any size has the same tokens
        if len(sizes) != count:
            raise UserError(f"a conversation with {count} pictures came with {len(sizes)} sizes")
        try:
            return self.family.picture_texts(self.stock, sizes)
        except (ValueError, ZeroDivisionError) as error:  # as stock processors refuse a picture
            raise UserError(f"the teacher takes no pictures of {_pixels(sizes)} pixels: {error}") from error

    def inputs(
        self, input_ids: Tensor, attention_mask: Tensor, rows: Tensor, pictures: list[list[Image.Image]]
    ) -> NativeInputs:
        """What the model takes of a padded batch.

        Args:
            pictures: RGB pictures of each conversation, in order.
        """
        tensors: dict[str, Tensor] = {}
        seen = [some for some in pictures if some]
        if seen:
            out = self.stock.image_processor(seen, return_tensors="pt", **self.family.image_options)
            tensors = {name: torch.as_tensor(out[name]) for name in self.family.tensors if name in out}
        if self.family.token_types:
            tensors[self.family.token_types] = input_ids.eq(self.image_token_id or 0).long()
        return NativeInputs(input_ids, attention_mask, rows, tensors)

    def identity(self) -> dict[str, Any]:
        """All that decides the ids and pixels of a conversation, apart from the tokenizer's vocabulary; for cache keys."""
        plain = {k: v for k, v in vars(self.stock).items() if isinstance(v, (str, int, float, bool))}
        plain.pop("chat_template", None)
        pictures = self.stock.image_processor.to_json_string()
        return {"template": self.template, "images": [plain, pictures], "vocabulary": len(self.tokenizer)}


def check_template(processor: NativeProcessor, name: str) -> None:
    """Compare the prompt of our template with that of the checkpoint's own, where it has one.

    Raises:
        UserError: they differ, so the teacher would be asked in a form it was not trained on.
    """
    stock = processor.stock
    if not stock.chat_template:
        return
    theirs, ours = _asked(stock, processor.template)
    if theirs != ours:
        raise UserError(
            f"the teacher's own chat template asks {theirs!r}, our template {name!r} for it asks {ours!r}. Name the template to use in "
            f"teacher.chat_template: {name} to keep ours, another one, or a .jinja file with generation blocks"
        )


def asks_alike(stock: Any, template: str) -> bool:
    """Whether a checkpoint has a template of its own, and it asks as ``template`` does."""
    if not stock.chat_template:
        return False
    theirs, ours = _asked(stock, template)
    return theirs == ours


def _asked(stock: Any, template: str) -> tuple[str, str]:
    """The prompt of a checkpoint's own template, and that of ours."""
    theirs = stock.apply_chat_template(PROBE, add_generation_prompt=True, tokenize=False)
    ours = stock.tokenizer.apply_chat_template(
        PROBE, chat_template=template, image_blocks=[stock.image_token], add_generation_prompt=True, tokenize=False
    )
    if "<image>" not in ours:  # what early conversions of InternVL call a picture
        theirs = theirs.replace("<image>", stock.image_token)
    opening = stock.tokenizer.bos_token or ""
    theirs, ours = (text.removeprefix(opening).strip() for text in (theirs, ours))
    return theirs, ours


def _pixels(sizes: list[Size]) -> str:
    return ", ".join(f"{width} x {height}" for width, height in sizes)


def _image_token_id(stock: Any) -> int:
    # Gemma 3 calls the opening marker its image token; the tokens that features replace are the tokenizer's.
    named = getattr(stock.tokenizer, "image_token_id", None)
    return int(named if named is not None else stock.image_token_id)
