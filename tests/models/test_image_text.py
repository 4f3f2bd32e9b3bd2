"""The ids of a conversation with pictures are those of the stock processors."""

from typing import Any

import pytest
from PIL import Image
from transformers import (
    InternVLVideoProcessor,
    LlavaProcessor,
    PreTrainedTokenizerFast,
    SmolVLMVideoProcessor,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil
from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil
from transformers.models.idefics3.processing_idefics3 import Idefics3Processor
from transformers.models.internvl.processing_internvl import InternVLProcessor
from transformers.models.lfm2_vl.image_processing_lfm2_vl import Lfm2VlImageProcessor
from transformers.models.lfm2_vl.processing_lfm2_vl import Lfm2VlProcessor
from transformers.models.smolvlm import processing_smolvlm
from transformers.models.smolvlm.image_processing_pil_smolvlm import SmolVLMImageProcessorPil

from taid_vlm.common.errors import UserError
from taid_vlm.models.processor import ImageTokens, Processor, template_text
from taid_vlm.models.specs import ImagesSpec
from taid_vlm.models.vision_encoder import ImageInput
from tests.tiny.language_model import tiny_tokenizer

SIDE, TOKENS, PLACE = 32, 4, "<empty_output>"
MARKERS = {
    "plain": [],
    "internvl": ["<img>", "</img>"],
    "smolvlm": ["<fake_token_around_image>", "<global-img>", "<row_1_col_1>", "<row_1_col_2>", "<row_2_col_1>"],
    "lfm2_vl": ["<|image_start|>", "<|image_end|>"],
}
SQUARE = {"height": SIDE, "width": SIDE}
SPLIT = {"size": {"longest_edge": 3 * SIDE}, "max_image_size": {"longest_edge": SIDE}}
CASES = {
    "llava": ImagesSpec(),
    "internvl": ImagesSpec(style="internvl", tiling="dynamic"),
    "internvl, one tile": ImagesSpec(style="internvl"),
    "smolvlm": ImagesSpec(style="smolvlm", tiling="split", longest_edge=3 * SIDE),
    "smolvlm, one tile": ImagesSpec(style="smolvlm"),
    "idefics3": ImagesSpec(style="smolvlm", tiling="split", longest_edge=3 * SIDE),
    "lfm2_vl": ImagesSpec(style="lfm2_vl"),
}


def stock(case: str, tokenizer: Any, template: str) -> Any:
    """The processor that an export of the case is read with."""
    if case == "llava":
        image_processor = CLIPImageProcessorPil(size=SQUARE, do_center_crop=False)
        return LlavaProcessor(image_processor, tokenizer, SIDE // 2, "full", template, PLACE)
    if CASES[case].style == "internvl":
        for name, text in (("start_image", "<img>"), ("end_image", "</img>"), ("context_image", PLACE), ("video", "v")):
            setattr(tokenizer, f"{name}_token", text)
            setattr(tokenizer, f"{name}_token_id", tokenizer.convert_tokens_to_ids(text))
        most = 6 if case == "internvl" else 1
        image_processor = GotOcr2ImageProcessorPil(size=SQUARE, max_patches=most)
        return InternVLProcessor(image_processor, tokenizer, InternVLVideoProcessor(), TOKENS, template)
    tokenizer.image_token = PLACE
    if case == "idefics3":
        return Idefics3Processor(Idefics3ImageProcessorPil(**SPLIT), tokenizer, TOKENS, template)
    if case == "lfm2_vl":
        tokenizer.image_token_id = tokenizer.convert_tokens_to_ids(PLACE)
        four = {"encoder_patch_size": 8, "downsample_factor": 2, "min_image_tokens": 4, "max_image_tokens": 4}
        return Lfm2VlProcessor(Lfm2VlImageProcessor(do_image_splitting=False, **four), tokenizer, template)
    one_tile = {"do_resize": False, "do_image_splitting": False} if case != "smolvlm" else {}
    image_processor = SmolVLMImageProcessorPil(**SPLIT, **one_tile)
    return processing_smolvlm.SmolVLMProcessor(image_processor, tokenizer, SmolVLMVideoProcessor(), TOKENS, template)


def conversation(pictures: list[Image.Image]) -> list[dict[str, Any]]:
    """The first picture in the first turn, those that follow amid the text of the second."""
    first, *others = pictures
    words = {"type": "text", "text": "and here?"}
    later = [part for picture in others for part in (words, {"type": "image", "image": picture}, words)]
    return [
        {"role": "user", "content": [{"type": "image", "image": first}, {"type": "text", "text": "what is it?"}]},
        {"role": "assistant", "content": "a cat"},
        {"role": "user", "content": later or [words]},
        {"role": "assistant", "content": "two cats"},
    ]


def compared(case: str, tokenizer: PreTrainedTokenizerFast, place: str, sizes: list[tuple[int, int]]) -> None:
    template = template_text("chatml")
    native = stock(case, tokenizer, template.replace("image_blocks[state.image]", repr(place)))
    image = ImageInput(SIDE, (0.5,) * 3, (0.5,) * 3, "bicubic")
    made = Processor(tokenizer, template, ImageTokens(place, TOKENS, image, CASES[case]))
    messages = conversation([Image.new("RGB", size) for size in sizes])
    expected = native.apply_chat_template(
        messages, tokenize=True, return_dict=True, return_assistant_tokens_mask=True, processor_kwargs={}
    )
    found = made.render(messages, sizes=sizes)
    assert found.ids == list(expected["input_ids"][0])
    assert made.tokenizer.decode([i for i, said in zip(found.ids, found.answer_mask, strict=True) if said]) == (
        "a cat<|im_end|>two cats<|im_end|>"
    )
    assert found.ids.count(made.image_token_id) == TOKENS * sum(made.tiles_per_image(size) for size in sizes)


@pytest.mark.parametrize("sizes", [[(200, 130)], [(60, 200), (40, 40)], [(90, 30), (64, 64), (20, 70)]])
@pytest.mark.parametrize("special", [True, False], ids=["special tokens", "ordinary text"])
@pytest.mark.parametrize("case", sorted(set(CASES) - {"idefics3", "lfm2_vl"}))
def test_ids_are_the_stock_ones(
    case: str, special: bool, sizes: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processing_smolvlm, "num2words", str)  # only videos need the real one
    tokenizer = tiny_tokenizer()
    if special:
        tokenizer.add_special_tokens({"additional_special_tokens": [PLACE, *MARKERS[CASES[case].style]]})
    compared(case, tokenizer, PLACE, sizes)


def test_ids_are_those_of_idefics3_with_its_own_tokens() -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>", "<fake_token_around_image>"]})
    compared("idefics3", tokenizer, "<image>", [(60, 200), (40, 40)])


@pytest.mark.parametrize("special", [True, False], ids=["special tokens", "ordinary text"])
def test_ids_are_those_of_lfm2_vl_for_square_pictures(special: bool) -> None:
    tokenizer = tiny_tokenizer()
    if special:
        tokenizer.add_special_tokens({"additional_special_tokens": [PLACE, *MARKERS["lfm2_vl"]]})
    compared("lfm2_vl", tokenizer, PLACE, [(64, 64), (40, 40)])


def made(spec: ImagesSpec, token: str = PLACE, extra: tuple[str, ...] = ()) -> Processor:
    tokenizer = tiny_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": [*extra]})
    image = ImageInput(SIDE, (0.5,) * 3, (0.5,) * 3, "bicubic")
    return Processor(tokenizer, template_text("chatml"), ImageTokens(token, TOKENS, image, spec))


@pytest.mark.parametrize("special", [True, False], ids=["special tokens", "ordinary text"])
@pytest.mark.parametrize("style", ["internvl", "smolvlm", "lfm2_vl"])
def test_a_marker_that_a_user_types_opens_no_picture(style: str, special: bool) -> None:
    spec = ImagesSpec(style=style, tiling="split" if style == "smolvlm" else "none")
    processor = made(spec, extra=tuple(MARKERS[style]) if special else ())
    for marker in MARKERS[style]:
        ids = processor.render([{"role": "user", "content": f"x{marker}y"}]).ids
        text = processor.tokenizer.decode(ids)
        assert marker not in text
        assert marker[0] + " " + marker[1:] in text


def test_tiles_that_lfm2_vl_cannot_read_are_refused() -> None:
    with pytest.raises(UserError, match=r"tiling 'dynamic' does not go with style lfm2_vl.*style: internvl"):
        made(ImagesSpec(style="lfm2_vl", tiling="dynamic"))


def test_an_image_token_that_is_a_marker_is_refused() -> None:
    with pytest.raises(UserError, match=r"'<img>' is a marker of images\.style 'internvl' as well"):
        made(ImagesSpec(style="internvl"), "<img>", ("<img>",))
