"""InternVL2's words and tiles: ids, prompts and pixels are those of the original tokenizer, conversation form and tiling."""

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoProcessor

from taid_vlm.common.errors import UserError
from taid_vlm.models.native.internvl2.convert import convert_internvl2
from taid_vlm.models.native.internvl2.sentencepiece import fast_tokenizer, read_model
from taid_vlm.models.native.internvl2.tokenizer import converted_tokenizer
from taid_vlm.models.native.loading import open_native
from tests.tiny.internvl2 import SIDE, save_original
from tests.tiny.internvl2_tokenizers import INTERNLM2_TOKENS, PICTURE_TOKENS, sentencepiece_model

SYSTEM = "你是由上海人工智能实验室联合商汤科技开发的书生多模态大模型，英文名叫InternVL, 是一个有用无害的人工智能助手。"
TEXTS = [
    "what is the thing in this?",
    "  the  \n\nwhat\tis   this \n",
    "Naïve 你好 😀 \u00a0 The WHATIS",
    "",
    " ",
    "\n",
    "thethethe wh at is",
]


@pytest.fixture(scope="module")
def stock(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("internvl2")
    for kind in ("internlm2", "qwen2", "phi3"):
        save_original(folder / f"{kind}-original", kind)
        convert_internvl2(folder / f"{kind}-original", folder / kind)
    return {kind: folder / kind for kind in ("internlm2", "qwen2", "phi3")}


def original_ids(processor: Any, added: dict[str, int], text: str, bos: int) -> list[int]:
    """What a slow tokenizer does: cut at added tokens, longest first, and pass the rest to SentencePiece."""
    import re

    parts = re.split("(" + "|".join(re.escape(one) for one in sorted(added, key=len, reverse=True)) + ")", text)
    ids = [bos]
    for part in parts:
        ids += [added[part]] if part in added else processor.encode(part)
    return ids


@pytest.mark.parametrize("prefix", [False, True])
@pytest.mark.parametrize("extra_spaces", [False, True])
@pytest.mark.parametrize("ordered", [True, False])
def test_ids_are_those_of_sentencepiece(prefix: bool, extra_spaces: bool, ordered: bool) -> None:
    pieces = pytest.importorskip("sentencepiece", reason="the sentencepiece package is the original to compare with")
    proto = sentencepiece_model(dummy_prefix=prefix)
    proto.normalizer_spec.remove_extra_whitespaces = extra_spaces
    if not ordered:  # ids need not be in the order of scores, by which pieces are joined
        normal = [piece for piece in proto.pieces if piece.type == 1]
        for piece, score in zip(normal, random.Random(2).sample(range(len(normal)), len(normal)), strict=True):
            piece.score = -float(score)
    original = pieces.SentencePieceProcessor(model_proto=proto.SerializeToString())
    fast = fast_tokenizer(proto, {})
    generator = random.Random(0)
    letters = "thewas is \n Ix é好"
    texts = TEXTS + ["".join(generator.choices(letters, k=generator.randrange(1, 40))) for _ in range(200)]
    for text in texts:
        assert fast.encode(text).ids == original.encode(text), repr(text)
        if not extra_spaces and not prefix:
            assert fast.decode(fast.encode(text).ids) == text


def test_a_trained_model_is_read_alike(tmp_path: Path) -> None:
    pieces = pytest.importorskip("sentencepiece", reason="the sentencepiece package trains the model")
    words = [f"the answer to question {n} is {n * n} and what is the {n}th thing?" for n in range(300)]
    (tmp_path / "words.txt").write_text("\n".join(words))
    pieces.SentencePieceTrainer.train(
        input=str(tmp_path / "words.txt"),
        model_prefix=str(tmp_path / "tokenizer"),
        vocab_size=400,
        model_type="bpe",
        byte_fallback=True,
        character_coverage=1.0,
        add_dummy_prefix=False,
        remove_extra_whitespaces=False,
        normalization_rule_name="identity",
        split_by_whitespace=True,
        user_defined_symbols=["<sep>", "[UNUSED_TOKEN_0]"],
        minloglevel=2,
    )
    file = tmp_path / "tokenizer.model"
    original = pieces.SentencePieceProcessor(model_file=str(file))
    fast = fast_tokenizer(read_model(file), {})
    generator = random.Random(1)
    texts = [*TEXTS, *words[:50], "a<sep>b <sep>", "x[UNUSED_TOKEN_0]y"]
    texts += ["".join(generator.sample(list(words[generator.randrange(300)]), 12)) for _ in range(100)]
    for text in texts:
        assert fast.encode(text).ids == original.encode(text), repr(text)


def test_a_prompt_has_the_ids_of_the_original_class(stock: dict[str, Path]) -> None:
    pieces = pytest.importorskip("sentencepiece", reason="the sentencepiece package is the original to compare with")
    processor = AutoProcessor.from_pretrained(stock["internlm2"])
    folder = stock["internlm2"].parent / "internlm2-original"
    about = json.loads((folder / "tokenizer_config.json").read_text())
    added = {token["content"]: int(at) for at, token in about["added_tokens_decoder"].items()}
    original = pieces.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    prompt = f"<|im_start|>system\n{SYSTEM}<|im_end|><|im_start|>user\n<img><IMG_CONTEXT></img>\nwhat is  this?<|im_end|><|im_start|>assistant\n"
    expected = original_ids(original, added, prompt, 1)
    assert processor.tokenizer(prompt)["input_ids"] == expected
    assert processor.tokenizer.decode(expected[1:]) == prompt


def test_tokens_keep_their_ids(stock: dict[str, Path]) -> None:
    for kind, folder in stock.items():
        about = json.loads((folder.parent / f"{kind}-original" / "tokenizer_config.json").read_text())
        processor = AutoProcessor.from_pretrained(folder)
        for at, token in about["added_tokens_decoder"].items():
            assert processor.tokenizer.convert_tokens_to_ids(token["content"]) == int(at), token
            assert processor.tokenizer.encode(token["content"], add_special_tokens=False) == [int(at)], token
        rows = json.loads((folder / "config.json").read_text())["text_config"]["vocab_size"]
        assert len(processor.tokenizer) == rows - 5
        assert processor.image_token == "<IMG_CONTEXT>"
        assert processor.video_token == "<quad>"


FORMS = {
    "internlm2": "<s><|im_start|>system\n{system}<|im_end|><|im_start|>user\n<IMG_CONTEXT>\nWhat?<|im_end|><|im_start|>assistant\n",
    "qwen2": "<|im_start|>system\n{system}<|im_end|><|im_start|>user\n<IMG_CONTEXT>\nWhat?<|im_end|><|im_start|>assistant\n",
    "phi3": "<|system|>\n{system}<|end|><|user|>\n<IMG_CONTEXT>\nWhat?<|end|><|assistant|>\n",
}


@pytest.mark.parametrize("kind", FORMS)
def test_a_question_is_asked_in_the_original_form(kind: str, stock: dict[str, Path]) -> None:
    processor = AutoProcessor.from_pretrained(stock[kind])
    question = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What?"}]}
    assert processor.apply_chat_template([question], add_generation_prompt=True, tokenize=False) == FORMS[kind].format(
        system=SYSTEM
    )
    own = [{"role": "system", "content": "Be brief."}, question]
    assert processor.apply_chat_template(own, add_generation_prompt=True, tokenize=False) == FORMS[kind].format(
        system="Be brief."
    )


def original_tiles(image: Image.Image, side: int, fewest: int, most: int) -> list[Image.Image]:
    """The released preprocessing, from its description: nearest shape; of equals, the later one if the picture fills half of it."""
    width, height = image.size
    grids = {(i, j) for i in range(1, most + 1) for j in range(1, most + 1) if fewest <= i * j <= most}
    best, nearest = (1, 1), float("inf")
    for grid in sorted(grids, key=lambda one: one[0] * one[1]):
        away = abs(width / height - grid[0] / grid[1])
        if away < nearest or (away == nearest and width * height > 0.5 * side * side * grid[0] * grid[1]):
            best, nearest = grid, away
    whole = image.resize((side * best[0], side * best[1]))
    tiles = []
    for index in range(best[0] * best[1]):
        column, row = index % best[0], index // best[0]
        tiles.append(whole.crop((column * side, row * side, (column + 1) * side, (row + 1) * side)))
    return [*tiles, image.resize((side, side))] if len(tiles) > 1 else tiles


def picture(width: int, height: int) -> Image.Image:
    values = np.random.default_rng(width * 1000 + height).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(values)


def test_the_grid_of_any_size_is_the_originals(stock: dict[str, Path]) -> None:
    images = AutoProcessor.from_pretrained(stock["internlm2"]).image_processor
    generator = random.Random(0)
    sizes = [(w, h) for w in range(8, 200, 24) for h in range(8, 200, 24)]  # whole ratios, where grids tie
    sizes += [(generator.randrange(8, 400), generator.randrange(8, 400)) for _ in range(300)]
    blank = Image.new("L", (1, 1))
    for width, height in sizes:
        expected = len(original_tiles(blank.resize((width, height)), SIDE, 1, 12))
        assert images.get_number_of_image_patches(height, width, {"crop_to_patches": True}) == expected, (width, height)


@pytest.mark.parametrize(
    "size", [(32, 32), (33, 32), (64, 31), (100, 50), (50, 150), (200, 20), (97, 131), (160, 96), (9, 300)]
)
def test_tiles_have_the_originals_pixels(size: tuple[int, int], stock: dict[str, Path]) -> None:
    _, processor = open_native(str(stock["internlm2"]), load_weights=False)
    image = picture(*size)
    none = torch.zeros(1, 1, dtype=torch.long)
    found = processor.inputs(none, none, none, [[image]]).tensors["pixel_values"]
    mean, std = (np.array(values, dtype=np.float32) for values in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    expected = [(np.asarray(tile, dtype=np.float32) / 255 - mean) / std for tile in original_tiles(image, SIDE, 1, 12)]
    wanted = torch.from_numpy(np.stack(expected)).permute(0, 3, 1, 2)
    assert found.shape == wanted.shape
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-5)


def test_tokenizer_files_that_are_missing_or_disagree_are_told(tmp_path: Path) -> None:
    save_original(tmp_path / "original")
    with pytest.raises(UserError, match="embedding 5 rows"):
        converted_tokenizer(tmp_path / "original", 5)
    config = tmp_path / "original" / "tokenizer_config.json"
    about = json.loads(config.read_text())
    last = max(about["added_tokens_decoder"], key=int)
    about["added_tokens_decoder"][str(int(last) + 2)] = {"content": "<late>", "special": True}
    config.write_text(json.dumps(about))
    with pytest.raises(UserError, match="leave a gap"):
        converted_tokenizer(tmp_path / "original", 10_000)
    (tmp_path / "original" / "tokenizer.model").unlink()
    with pytest.raises(UserError, match=r"no tokenizer\.model"):
        converted_tokenizer(tmp_path / "original", 10_000)


def test_picture_tokens_are_behind_the_models_own(stock: dict[str, Path]) -> None:
    tokenizer = AutoProcessor.from_pretrained(stock["internlm2"]).tokenizer
    ids = [tokenizer.convert_tokens_to_ids(token) for token in (*INTERNLM2_TOKENS, *PICTURE_TOKENS)]
    assert ids == list(range(ids[0], ids[0] + len(ids)))  # 92538 and on, in the released ones
