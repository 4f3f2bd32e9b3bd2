"""Students that were not exported: same answers as the student itself, identified by their weights."""

from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from transformers import GenerationConfig

from taid_vlm.common.errors import UserError
from taid_vlm.models import build_student, load_student, save_student
from taid_vlm.models.specs import StudentSpec
from taid_vlm_eval import open_model
from taid_vlm_eval.models import Request
from taid_vlm_eval.models.student import StudentModel
from taid_vlm_eval.runner import evaluate
from tests.eval.fakes import small_task
from tests.tiny.language_model import save_chatty_llama, save_tiny_llama


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A student that sees and one that does not."""
    root = tmp_path_factory.mktemp("students")
    base: dict[str, Any] = {"language_model": {"source": str(save_chatty_llama(root / "base"))}}
    eyes = {"library": "timm", "name": "test_resnet", "weights": "random", "image_size": 64}
    sees = {**base, "vision_encoder": eyes, "projector": {"name": "mlp"}, "image_token": "<empty_output>"}
    for name, content in (("plain", base), ("sees", sees)):
        spec = StudentSpec.model_validate(content)
        save_student(*build_student(spec), spec, root / name / "student")
    return {name: root / name / "student" for name in ("plain", "sees")}


def test_answers_are_those_of_the_student_alone_or_together(folders: dict[str, Path]) -> None:
    model, student = open_model(folders["sees"], device="cpu"), load_student(folders["sees"])
    red, blue = (Image.new("RGB", (30, 20), colour) for colour in ("red", "blue"))
    requests = [Request("what color?", [red]), Request("a longer question: what color?", [blue]), Request("?", [red])]
    answers = model.generate(requests, 6)
    assert answers == [model.generate([request], 6)[0] for request in requests]
    for request, answer in zip(requests, answers, strict=True):
        content = [{"type": "image"}, {"type": "text", "text": request.prompt}]
        assert [answer] == student.generate([[{"role": "user", "content": content}]], [request.images], 6)
    assert len(set(answers)) == 3


def test_it_says_what_it_is(folders: dict[str, Path]) -> None:
    said = open_model(folders["plain"], device="cpu").describe()
    assert said == open_model(folders["plain"], device="cpu").describe()
    assert (said["adapter"], said["name"], said["vision_encoder"]) == ("student", "student", "none")
    assert said["identity"] != open_model(folders["sees"], device="cpu").describe()["identity"]


def test_trained_parts_over_another_base_are_another_model(tmp_path: Path) -> None:
    base = save_tiny_llama(tmp_path / "base")
    eyes = {"library": "timm", "name": "test_resnet", "weights": "random", "image_size": 64}
    content = {"vision_encoder": eyes, "projector": {"name": "mlp"}, "image_token": "<empty_output>"}
    frozen = {"language_model": {"mode": "frozen"}}
    spec = StudentSpec.model_validate({**content, "language_model": {"source": str(base)}, "train": frozen})
    save_student(*build_student(spec), spec, tmp_path / "student", weights="trained")
    said = [open_model(tmp_path / "student", device="cpu").describe() for _ in range(2)]
    save_tiny_llama(base, seed=1)
    other = open_model(tmp_path / "student", device="cpu").describe()
    assert said[0] == said[1]
    assert other["identity"] != said[0]["identity"]


def test_a_live_student_is_resumed_only_under_a_name_for_its_weights(folders: dict[str, Path]) -> None:
    student = load_student(folders["plain"])
    unnamed = [StudentModel(student, "live").describe() for _ in range(2)]
    assert unnamed[0] != unnamed[1]
    named = [StudentModel(student, "live", "run 7 step 12").describe() for _ in range(2)]
    assert named[0] == named[1]


def test_mistakes_are_told(folders: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="dtype 'float16' was asked for, but a student runs in the precision it loads"):
        open_model(folders["plain"], dtype="float16")
    with pytest.raises(UserError, match="device 'gpu' cannot be used"):
        open_model(folders["plain"], device="gpu")
    with pytest.raises(UserError, match="has no vision encoder"):
        evaluate(open_model(folders["plain"], device="cpu"), [small_task(tmp_path)], output_dir=tmp_path / "out")


def many() -> list[Request]:
    """Two pictures, many questions, some without a picture, with two, in turns, or with a begun answer."""
    one, two = Image.effect_noise((60, 40), 80).convert("RGB"), Image.new("RGB", (90, 30), "blue")
    turns = (("what is it?", "a cat"),)
    return [
        *(Request("what color? " * count, [one], ("one",)) for count in range(1, 4)),
        Request("no picture"),
        Request("what color?", [two], ("two",)),
        Request("which?", [one, two], ("one", "two")),
        Request("so?", [one], ("one",), earlier=turns),
        Request("before and after?", [one, two], ("one", "two"), layout=("before ", 1, " and ", 0, " after?")),
        Request("go", [two], ("two",), answer_start="It is"),
    ]


@pytest.fixture(scope="module")
def tiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A student whose pictures are cut into tiles."""
    root = tmp_path_factory.mktemp("tiled")
    content = {
        "language_model": {"source": str(save_chatty_llama(root / "base"))},
        "vision_encoder": {"library": "timm", "name": "test_resnet", "weights": "random", "image_size": 64},
        "projector": {"name": "mlp"},
        "image_token": "<empty_output>",
        "images": {"tiling": "dynamic", "max_tiles": 3},
    }
    spec = StudentSpec.model_validate(content)
    save_student(*build_student(spec), spec, root / "student")
    return root / "student"


def test_reused_pictures_change_no_answer(tiled: Path) -> None:
    plain, reused = open_model(tiled, device="cpu", reuse_images=False), open_model(tiled, device="cpu")
    asked = many()
    answers = [plain.generate([request], 6)[0] for request in asked]
    assert plain.generate(asked, 6) == answers
    assert reused.generate(asked, 6) == answers
    assert reused.generate(asked[::-1], 6) == answers[::-1]
    assert len(set(answers)) > 5


def test_each_picture_is_encoded_once(tiled: Path) -> None:
    model = open_model(tiled, device="cpu")
    assert isinstance(model, StudentModel)
    encoder = model._student.student.vision_encoder
    tiles: list[int] = []
    hook = encoder.register_forward_pre_hook(lambda _, inputs: tiles.append(len(inputs[0])))
    for _ in range(2):
        model.generate(many(), 2)
    hook.remove()
    assert len(tiles) == 2


def test_tiles_are_limited(tiled: Path) -> None:
    model, image = open_model(tiled, device="cpu"), Image.new("RGB", (90, 30), "blue")
    assert isinstance(model, StudentModel)
    lengths = [len(model.prepare([Request("?", [image], max_tiles=most)]).ids[0]) for most in (1, 2, None)]
    assert lengths[0] < lengths[1] < lengths[2]
    for most, length in zip((1, 2, None), lengths, strict=True):
        told = model.picture_tokens(90, 30, most)
        assert length - told == lengths[0] - model.picture_tokens(90, 30, 1)


@pytest.mark.parametrize("reuse", [True, False])
def test_what_the_base_says_on_generation_is_ignored_and_kept(folders: dict[str, Path], reuse: bool) -> None:
    model = open_model(folders["plain"], device="cpu", reuse_images=reuse)
    assert isinstance(model, StudentModel)
    requests = [
        Request("a common beginning of questions: what color?"),
        Request("a common beginning of questions: why?"),
    ]
    expected = model.generate(requests, 12)
    base = model._student.student.language_model
    wild = GenerationConfig(
        no_repeat_ngram_size=1, num_beams=3, repetition_penalty=3.0, suppress_tokens=list(range(40))
    )
    base.generation_config = wild
    assert model.generate(requests, 12) == expected
    assert base.generation_config is wild


def test_one_picture_under_two_limits_of_tiles_is_read_twice(tiled: Path) -> None:
    model, image = open_model(tiled, device="cpu"), Image.new("RGB", (90, 30), "blue")
    asked = [Request("what color?", [image], max_tiles=most) for most in (1, 3)]
    assert model.generate(asked, 6) == [model.generate([one], 6)[0] for one in asked]
