"""The mask covers exactly what the assistant says and its end-of-turn token."""

from typing import Any

import pytest
import torch
from PIL import Image

from taid_vlm.common.errors import UserError
from taid_vlm.models.processor import ImageTokens, Processor, template_text
from taid_vlm.models.specs import ImagesSpec
from taid_vlm.models.vision_encoder import ImageInput
from tests.tiny.language_model import tiny_tokenizer

IMAGE = ImageInput(8, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "bicubic")


def processor(template: str, images: bool = True) -> Processor:
    return Processor(
        tiny_tokenizer(), template_text(template), ImageTokens("<empty_output>", 5, IMAGE) if images else None
    )


@pytest.mark.parametrize("template", ["chatml", "smollm2"])
def test_mask_is_the_answers_of_all_turns(template: str) -> None:
    made = processor(template)
    messages = [
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "what?"}]},
        {"role": "assistant", "content": "a cat"},
        {"role": "user", "content": "sure?"},
        {"role": "assistant", "content": "yes"},
    ]
    out = made.render(messages)
    said = [i for i, flag in zip(out.ids, out.answer_mask, strict=True) if flag]
    assert made.tokenizer.decode(said) == "a cat<|im_end|>yes<|im_end|>"
    assert out.ids.count(made.image_token_id) == 5
    text = made.tokenizer.decode(out.ids)
    assert ("helpful AI assistant" in text) == (template == "smollm2")
    assert text.endswith("<|im_start|>assistant\nyes<|im_end|>\n")


def test_a_prompt_ends_where_the_answer_begins() -> None:
    made = processor("chatml")
    messages = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yo"}]
    whole, prompt = made.render(messages), made.render(messages[:1], add_generation_prompt=True)
    assert whole.ids[: len(prompt.ids)] == prompt.ids
    assert whole.answer_mask.index(True) == len(prompt.ids)


@pytest.mark.parametrize("typed", ["<empty_output>", "<|im_end|>", "<|im_start|>"])
def test_control_tokens_typed_by_a_user_stay_text(typed: str) -> None:
    made = processor("chatml")
    plain = made.render([{"role": "user", "content": "x"}], add_generation_prompt=True).ids
    out = made.render([{"role": "user", "content": f"x{typed}"}], add_generation_prompt=True).ids
    token = made.tokenizer.convert_tokens_to_ids(typed)
    assert out.count(token) == plain.count(token)


def test_pictures_for_a_plain_language_model_are_refused() -> None:
    with pytest.raises(UserError, match="no vision encoder"):
        processor("chatml", images=False).render([{"role": "user", "content": [{"type": "image"}]}])


def test_an_image_token_of_several_tokens_is_refused() -> None:
    with pytest.raises(UserError, match="unused special token"):
        Processor(tiny_tokenizer(), template_text("chatml"), ImageTokens("<image>", 5, IMAGE))


def test_an_unknown_template_lists_close_names() -> None:
    with pytest.raises(UserError, match="chatml"):
        template_text("chatlm")


TILED = ImagesSpec(tiling="dynamic", max_tiles=4)
LOOK = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "and "}, {"type": "image"}]}]


def tiled(spec: ImagesSpec = TILED) -> Processor:
    return Processor(tiny_tokenizer(), template_text("chatml"), ImageTokens("<empty_output>", 5, IMAGE, spec))


def test_pictures_in_tiles_have_the_tokens_of_their_shapes() -> None:
    made = tiled()
    assert made.needs_sizes
    assert not processor("chatml").needs_sizes
    sizes = [(16, 8), (8, 8)]
    assert [made.tiles_per_image(size) for size in sizes] == [3, 1]
    assert made.render(LOOK, sizes=sizes).ids.count(made.image_token_id) == 20
    wide, square = (Image.new("RGB", size, "red") for size in sizes)
    pixels = made.pixel_values([wide, square])
    assert pixels.shape == (4, 3, 8, 8)
    assert len(made.tiles(wide)) == 3
    assert torch.equal(pixels[3:], made.pixel_values([square]))
    assert made.pixel_values([]).shape == (0, 3, 8, 8)


@pytest.mark.parametrize("sizes", [None, [(16, 8)]])
def test_sizes_that_are_missing_or_too_few_are_asked_for(sizes: Any) -> None:
    found = "came with 1 sizes" if sizes else r"tiling 'dynamic'.*pass sizes.*each of the 2 pictures"
    with pytest.raises(UserError, match=found):
        tiled().render(LOOK, sizes=sizes)
    assert tiled().render([{"role": "user", "content": "no picture"}]).ids


def test_identity_changes_with_tiles_and_text_and_with_nothing_else() -> None:
    changes: list[dict[str, Any]] = [
        {},
        {"max_tiles": 5},
        {"thumbnail": False},
        {"style": "internvl"},
        {"tiling": "none"},
    ]
    found = [str(tiled(TILED.model_copy(update=change)).identity()) for change in changes]
    assert len(set(found)) == len(found)
    unused = tiled(ImagesSpec(max_tiles=9)).identity()
    assert unused == tiled(ImagesSpec()).identity()


def test_a_plain_language_model_cuts_no_pictures() -> None:
    with pytest.raises(UserError, match="takes no pictures"):
        processor("chatml", images=False).tiles_per_image((8, 8))
