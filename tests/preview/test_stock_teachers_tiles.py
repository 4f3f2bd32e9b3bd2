"""Stock vision-language teachers: their tiles are read back from what their own processors make."""

from pathlib import Path

import pytest
from PIL import Image

from taid_vlm.models.native.loading import open_native
from taid_vlm.models.native.processor import NativeProcessor
from taid_vlm.preview import make_preview
from taid_vlm.preview.native_tiles import native_tiles
from taid_vlm.recipe import Recipe
from tests.preview.records import talk, write_lines
from tests.tiny.native import MAKERS, PATCH, save_native, save_native_tokenizer_llama
from tests.tiny.recipes import tiny_recipe

COLOUR = (200, 40, 120)
PER_TILE = {"internvl": 4, "smolvlm": 4, "idefics3": 4, "gemma3": 4}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("natives")


def processor_of(folder: Path, family: str) -> NativeProcessor:
    if not (folder / family).exists():
        save_native(folder / family, family)
    return open_native(str(folder / family), "chatml", load_weights=False)[1]


@pytest.mark.parametrize("family", MAKERS)
def test_tiles_are_those_of_the_stock_processor(folder: Path, family: str) -> None:
    processor = processor_of(folder, family)
    tiles = native_tiles(processor, Image.new("RGB", (96, 48), COLOUR))
    for tile in tiles:
        assert tile.getpixel((tile.width // 2, tile.height // 2)) == pytest.approx(COLOUR, abs=2)
    parts = [{"type": "image"}, {"type": "text", "text": "?"}]
    messages = [{"role": "user", "content": parts}, {"role": "assistant", "content": "yes"}]
    tokens = processor.render(messages, sizes=[(96, 48)]).ids.count(processor.image_token_id)
    if family in PER_TILE:
        assert tokens == PER_TILE[family] * len(tiles)
    elif family.startswith("qwen"):
        assert [tile.width * tile.height for tile in tiles] == [4 * PATCH * PATCH * tokens]


def test_a_picture_in_company_is_cut_as_such(folder: Path) -> None:
    image = Image.new("RGB", (96, 48), COLOUR)
    onevision, internvl = (processor_of(folder, family) for family in ("llava_onevision", "internvl"))
    assert (len(native_tiles(onevision, image)), len(native_tiles(onevision, image, together=3))) == (3, 1)
    assert len(native_tiles(internvl, image)) == len(native_tiles(internvl, image, together=3))


def test_the_tiles_of_a_split_picture_are_its_parts(folder: Path) -> None:
    image = Image.new("RGB", (64, 64), "white")
    image.paste("black", (0, 0, 32, 32))
    tiles = native_tiles(processor_of(folder, "internvl"), image)
    centres = [tile.convert("L").getpixel((16, 16)) for tile in tiles[:4]]
    assert len(tiles) == 5
    assert centres[0] == pytest.approx(0, abs=3)
    assert centres[1:] == pytest.approx([255] * 3, abs=3)


def test_a_recipe_with_a_stock_teacher(folder: Path, tmp_path: Path, easy_vqa: Path) -> None:
    processor_of(folder, "internvl")
    save_native_tokenizer_llama(folder / "student", "internvl")
    Image.new("RGB", (96, 48), COLOUR).save(tmp_path / "wide.png")
    data = write_lines(tmp_path / "data.jsonl", [talk("what?", "a plane", ("wide.png",))])
    content = {
        "teacher": {"checkpoint": str(folder / "internvl"), "chat_template": "chatml"},
        "loss": {"name": "taid", "alpha_total": 20.0},
        "data": {"train": [{"kind": "jsonl", "path": str(data)}]},
    }
    recipe = Recipe.model_validate({**tiny_recipe(folder / "student", easy_vqa).model_dump(), **content})
    (sample,) = make_preview(recipe, "stock").samples
    student, teacher = sample.pictures[0].cuts
    assert (student.names, student.tiles, teacher.names, teacher.tiles) == (("student",), 1, ("teacher",), 3)
    assert teacher.text == "3 tiles in the order of their tokens, each 32 x 32 pixels"
    assert [(p.text, p.repeats) for p in sample.sides[1].pieces if p.kind == "image"] == [("<IMG_CONTEXT>", 12)]
