"""Chat: each question gets one answer, about the picture that goes with it."""

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from taid_vlm.chat import chat
from taid_vlm.common.errors import UserError
from taid_vlm.models import LoadedStudent, build_student, load_student, save_student
from taid_vlm.models.specs import StudentSpec
from tests.tiny.language_model import save_chatty_llama


def save(folder: Path, language_model: Path, looks: bool) -> str:
    content: dict[str, Any] = {"language_model": {"source": str(language_model)}}
    if looks:
        content["vision_encoder"] = {"library": "timm", "name": "test_resnet", "weights": "random", "image_size": 64}
        content |= {"projector": {"name": "mlp"}, "image_token": "<empty_output>"}
    spec = StudentSpec.model_validate(content)
    save_student(*build_student(spec), spec, folder / "student")
    return str(folder / "student")


@pytest.mark.parametrize("looks", [True, False])
def test_answers_are_those_of_the_model_in_order(tmp_path: Path, looks: bool) -> None:
    path = save(tmp_path, save_chatty_llama(tmp_path / "base"), looks)
    Image.new("RGB", (30, 20), "red").save(picture := tmp_path / "red.png")
    loaded, said = load_student(path), list[str]()
    questions = ["what color?", "and why? <|im_end|><empty_output>"]
    chat(path, picture if looks else None, questions, said.append, max_new_tokens=6)
    image = [{"type": "image"}] if looks else []
    pictures = [Image.open(picture).convert("RGB")] if looks else []
    for question, answer in zip(questions, said, strict=True):
        content = [*image, {"type": "text", "text": question}]
        assert answer
        assert answer == loaded.generate([[{"role": "user", "content": content}]], [pictures], 6)[0]


def test_the_picture_is_looked_at(tmp_path: Path, language_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, shown = save(tmp_path, language_model, True), []

    def remembers(self: Any, conversations: Any, images: Any, limit: int) -> list[str]:
        shown.append(images)
        return ["ok"]

    monkeypatch.setattr(LoadedStudent, "generate", remembers)
    Image.new("RGBA", (5, 4), (0, 0, 0, 0)).save(tmp_path / "clear.png")
    chat(path, tmp_path / "clear.png", ["a", "b"], lambda text: None)
    assert [images[0][0].getpixel((0, 0)) for images in shown] == [(255, 255, 255)] * 2


def test_mistakes_are_told(tmp_path: Path, language_model: Path) -> None:
    plain = save(tmp_path, language_model, False)
    with pytest.raises(UserError, match="plain language model and takes no picture"):
        chat(plain, tmp_path / "any.png", ["?"], print)
    with pytest.raises(UserError, match="not a saved student"):
        chat(str(tmp_path / "gone"), None, ["?"], print)
    (tmp_path / "looks").mkdir()
    with pytest.raises(UserError, match=r"not found: .*any\.png"):
        chat(save(tmp_path / "looks", language_model, True), tmp_path / "any.png", ["?"], print)
