"""A data set with good and bad records, and a recipe whose teacher sees tiles where the student sees none."""

from pathlib import Path

import pytest
from PIL import Image

from taid_vlm.models.assemble import build_student
from taid_vlm.models.chat_template import template_text
from taid_vlm.models.saved import save_student
from taid_vlm.recipe import Recipe
from tests.preview.records import HOSTILE, talk, write_lines
from tests.tiny.recipes import distil, tiny_recipe


@pytest.fixture(scope="session")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A jsonl file: six good records, and seven that cannot be used."""
    folder = tmp_path_factory.mktemp("mixed")
    for name, size in (("wide", (128, 64)), ("square", (16, 16))):
        image = Image.new("RGB", size, (200, 40, 40))
        image.paste((30, 60, 220), (0, 0, size[0] // 2, size[1]))
        image.save(folder / f"{name}.png")
    whole = (folder / "wide.png").read_bytes()
    (folder / "broken.png").write_bytes(whole[: len(whole) // 2])
    rows = [
        talk("what color?", "red", ("wide.png",)),
        talk("no picture?", "none"),
        talk("left, then right?", "blue and red", ("square.png", "wide.png")),
        talk(HOSTILE, HOSTILE + "<b>bold</b>"),
        talk("again?", "blue", ("square.png",)),
        talk("what color?", "red", ("wide.png",)),
        talk("no answer", " "),
        talk("no answer", ""),
        talk("long " * 100, "yes"),
        talk("missing", "yes", ("missing.png",)),
        talk("broken", "yes", ("broken.png",)),
        {**talk("two?", "yes", ("wide.png",)), "images": ["wide.png", "square.png"]},
        talk("trailing space", "the teacher trims "),
    ]
    return write_lines(folder / "mixed.jsonl", rows)


@pytest.fixture(scope="session")
def trimming_teacher(tmp_path_factory: pytest.TempPathFactory, language_model: Path, easy_vqa: Path) -> Path:
    """A saved teacher that cuts pictures into tiles, and whose template trims what the assistant says."""
    folder = tmp_path_factory.mktemp("teacher")
    template = template_text("chatml")
    trimming = template.replace("message['content'] + '<|im_end|>'", "message['content'] | trim + '<|im_end|>'")
    assert trimming != template
    (folder / "trimming.jinja").write_text(trimming)
    spec = tiny_recipe(language_model, easy_vqa).student.model_copy(
        update={"chat_template": str(folder / "trimming.jinja")}
    )
    tiled = type(spec).model_validate(
        {**spec.model_dump(), "images": {"tiling": "dynamic", "max_tiles": 4, "thumbnail": True}}
    )
    student, processor = build_student(tiled)
    save_student(student, processor, tiled, folder / "saved")
    return folder / "saved"


@pytest.fixture
def recipe(language_model: Path, easy_vqa: Path, mixed: Path, trimming_teacher: Path) -> Recipe:
    """Distillation on the mixed records, bad ones skipped."""
    data = {"train": [{"kind": "jsonl", "path": str(mixed)}], "on_bad_sample": "skip", "max_length": 400}
    return distil(language_model, easy_vqa, trimming_teacher, cache=False, data=data)
