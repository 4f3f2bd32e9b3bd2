"""Items that a model cannot read are errors of their own; the others of their batch are answered."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from taid_vlm.common.errors import UserError
from taid_vlm_eval import open_model
from taid_vlm_eval.models.faults import UnaskableError
from taid_vlm_eval.models.protocol import Request
from taid_vlm_eval.runner import evaluate
from tests.eval.fakes import FakeModel, sees_colour, write_rows, write_task
from tests.tiny.native import save_native

TEMPLATE = "{% for m in messages %}{% for part in m.content %}{% if part.type == 'image' %}<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ part.text }}{% endif %}{% endfor %}{% endfor %}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_native(tmp_path_factory.mktemp("qwen2_vl"), "qwen2_vl", chat_template=TEMPLATE)


def answers_in(out: Path) -> dict[str, Any]:
    lines = [json.loads(line) for line in (out / "small.answers.jsonl").read_text().splitlines()[1:]]
    return {line["id"]: (line["answer"], line["error"]) for line in lines}


def rows_with(tmp_path: Path, *bad: dict[str, Any]) -> Path:
    Image.new("RGB", (40, 40), "red").save(tmp_path / "good.png")
    Image.new("RGB", (1000, 2), "red").save(tmp_path / "narrow.png")  # Qwen's processors refuse more than 200 to 1
    rows: list[dict[str, Any]] = [
        {"id": f"good{n}", "question": f"the cat {n}", "images": ["good.png"]} for n in range(3)
    ]
    write_rows(tmp_path, [{"answer": "x", **row} for row in [*rows, *bad]])
    return write_task(tmp_path)


NARROW = {"id": "narrow", "question": "q", "images": ["narrow.png"]}
MARKED = {"id": "marked", "question": "what is <|image_pad|> here", "images": ["good.png"]}


@pytest.mark.parametrize(("reuse", "batch_size"), [(True, 32), (True, 1), (False, 32)])
def test_a_checkpoint_answers_all_others(folder: Path, tmp_path: Path, reuse: bool, batch_size: int) -> None:
    task = rows_with(tmp_path, NARROW, MARKED)
    model: Any = open_model(folder, device="cpu", reuse_images=reuse)
    (result,) = evaluate(model, [task], output_dir=tmp_path / "out", batch_size=batch_size)
    said = answers_in(tmp_path / "out")
    assert (result.n, result.errors) == (5, 2)
    assert "aspect ratio" in said["narrow"][1]
    assert "more places for images" in said["marked"][1]
    alone = model.generate([Request("the cat 0", [Image.new("RGB", (40, 40), "red")])], 4)
    assert said["good0"] == (alone[0], None)
    if reuse:
        assert model.not_reused == ""  # one picture does not make all others be read anew


def test_a_narrow_picture_has_no_tokens(folder: Path) -> None:
    model: Any = open_model(folder, device="cpu")
    assert model.picture_tokens(1000, 2, None) == 0
    assert model.picture_tokens(40, 40, None) > 0


def test_a_run_of_narrow_pictures_alone_is_told_of_each_and_asks_none_again(folder: Path, tmp_path: Path) -> None:
    rows_with(tmp_path)
    write_rows(tmp_path, [{**NARROW, "id": f"n{n}", "answer": "x"} for n in range(2)])
    task, model = write_task(tmp_path), open_model(folder, device="cpu")
    (result,) = evaluate(model, [task], output_dir=tmp_path / "out")
    assert result.errors == 2
    before = (tmp_path / "out/small.answers.jsonl").read_bytes()
    evaluate(model, [task], output_dir=tmp_path / "out")
    assert (tmp_path / "out/small.answers.jsonl").read_bytes() == before


class Refuses(FakeModel):
    """Prepares what no rule refuses."""

    def __init__(self, failure: Exception, refused: Sequence[str] | None, memory: int = 1000) -> None:
        super().__init__(sees_colour, memory=memory)
        self.failure, self.refused = failure, refused

    def prepare(self, requests: Sequence[Request]) -> list[Request]:
        if self.refused is None or any(one.prompt in self.refused for one in requests):
            raise self.failure
        return list(requests)

    def answer(self, prepared: list[Request], max_new_tokens: int) -> list[str]:
        return FakeModel.generate(self, prepared, max_new_tokens)


@pytest.mark.parametrize("memory", [1000, 1])
def test_the_others_stay_a_batch_even_where_memory_runs_out(tmp_path: Path, memory: int) -> None:
    task = rows_with(tmp_path)
    model = Refuses(ValueError("too thin"), ["the cat 1"], memory)
    evaluate(model, [task], output_dir=tmp_path / "out")
    said = answers_in(tmp_path / "out")
    assert said["good1"] == ("", "the model cannot read it: ValueError: too thin")
    assert {said[one] for one in ("good0", "good2")} == {("red", None)}
    assert model.tried[0] == 2


@pytest.mark.parametrize("failure", [ValueError("broken"), RuntimeError("broken"), OSError("broken")])
def test_a_model_that_reads_nothing_is_no_fault_of_items(tmp_path: Path, failure: Exception) -> None:
    with pytest.raises(type(failure), match="broken"):
        evaluate(Refuses(failure, None), [rows_with(tmp_path)], output_dir=tmp_path / "out")


@pytest.mark.parametrize("failure", [UserError("no"), OSError("no"), MemoryError("no")])
def test_what_no_item_is_to_blame_for_is_raised(tmp_path: Path, failure: Exception) -> None:
    with pytest.raises((UserError, OSError)):
        evaluate(Refuses(failure, ["the cat 1"]), [rows_with(tmp_path)], output_dir=tmp_path / "out")


def test_a_model_that_prepares_nothing_names_the_item_too(tmp_path: Path) -> None:
    def rule(request: Request) -> str:
        if request.prompt == "the cat 1":
            raise UnaskableError("not this one")
        return "red"

    evaluate(FakeModel(rule), [rows_with(tmp_path)], output_dir=tmp_path / "out")
    said = answers_in(tmp_path / "out")
    assert said["good1"] == ("", "the model cannot read it: not this one")
    assert {said[one] for one in ("good0", "good2")} == {("red", None)}
