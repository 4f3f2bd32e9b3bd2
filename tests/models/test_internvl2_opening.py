"""InternVL2 as it was released, named as a teacher, in a plan and in an evaluation: converted once, then opened."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from taid_vlm.cli import app
from taid_vlm.common.assets import cache_folder
from taid_vlm.common.errors import UserError
from taid_vlm.data.collate import pad_sides
from taid_vlm.data.pairing import Side
from taid_vlm.models.native.internvl2 import cached
from taid_vlm.models.native.internvl2.cached import stock_source
from taid_vlm.models.native.loading import native_config
from taid_vlm.models.teacher import teacher_from_checkpoint, teacher_without_weights
from taid_vlm_eval.models import Request, open_model
from tests.models.internvl2_reference import reference_logits
from tests.tiny.internvl2 import save_original

QUESTION = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "what is this?"}]}
TALK = [QUESTION, {"role": "assistant", "content": "the thing"}]


def picture(width: int = 90, height: int = 40) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


@pytest.mark.parametrize("kind", ["internlm2", "qwen2", "phi3"])
def test_a_teacher_named_by_its_folder_says_what_the_original_does(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, tensors = save_original(tmp_path / "InternVL2", kind)
    teacher: Any = teacher_from_checkpoint(str(tmp_path / "InternVL2"))
    assert capsys.readouterr().err.splitlines()[0].startswith(f"converting {tmp_path / 'InternVL2'} ")
    image = picture()
    rendered = teacher.processor.render(TALK, sizes=[image.size])
    rows = [index - 1 for index, said in enumerate(rendered.answer_mask) if said]
    side = pad_sides([Side(rendered.ids, rows)], pad_id=0)
    inputs = teacher.processor.inputs(side.input_ids, side.attention_mask, side.rows, [[image]])
    token = teacher.processor.image_token_id
    assert rendered.ids.count(token) == 3 * 4  # two tiles and the thumbnail
    expected = reference_logits(config, tensors, side.input_ids[0], inputs.tensors["pixel_values"], token)[rows]
    found = teacher.hidden(inputs) @ teacher.head_weight.T
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    assert "书生" in teacher.processor.tokenizer.decode(rendered.ids)  # the system prompt it was trained with
    again: Any = teacher_from_checkpoint(str(tmp_path / "InternVL2"))
    assert "converting" not in capsys.readouterr().err
    assert again.fingerprint == teacher.fingerprint


def test_a_plan_reads_and_writes_no_weights(tmp_path: Path) -> None:
    save_original(tmp_path / "InternVL2")
    (tmp_path / "InternVL2" / "model.safetensors").unlink()
    teacher = teacher_without_weights(str(tmp_path / "InternVL2"), None, None)
    assert teacher.head_weight.is_meta
    assert native_config(str(tmp_path / "InternVL2")).dtype == torch.bfloat16
    assert not list(cache_folder().rglob("*.safetensors"))


def test_other_weights_are_converted_anew_and_stock_ones_never(tmp_path: Path) -> None:
    save_original(tmp_path / "a")
    first = stock_source(str(tmp_path / "a"))
    assert stock_source(first) == first
    assert stock_source("owner/not-there") == "owner/not-there"
    file = tmp_path / "a" / "model.safetensors"
    tensors = load_file(file)
    tensors["mlp1.3.bias"] += 1
    save_file(tensors, file, metadata={"format": "pt"})
    second = stock_source(str(tmp_path / "a"))
    assert second != first
    (tmp_path / "b").mkdir()
    for path in (tmp_path / "a").iterdir():
        (tmp_path / "b" / path.name).write_bytes(path.read_bytes())
    assert Path(stock_source(str(tmp_path / "b"))).name.rpartition("-")[2] == Path(second).name.rpartition("-")[2]


def test_a_hub_id_is_fetched_and_converted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    save_original(tmp_path / "snapshot")
    asked: dict[str, Any] = {}

    def fetch(name: str, revision: str | None = None, allow_patterns: Any = None) -> str:
        asked.update(name=name, revision=revision, patterns=list(allow_patterns))
        return str(tmp_path / "snapshot")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda *_, **__: str(tmp_path / "snapshot" / "config.json"))
    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    found = Path(stock_source("OpenGVLab/InternVL2-2B", "abc"))
    assert found.name.startswith("OpenGVLab--InternVL2-2B-")
    assert (asked["name"], asked["revision"]) == ("OpenGVLab/InternVL2-2B", "abc")
    assert not any(pattern.endswith(".py") for pattern in asked["patterns"])
    stock_source("OpenGVLab/InternVL2-2B", "abc", weights=False)
    assert "*.safetensors" not in asked["patterns"]

    def fails(*_: Any, **__: Any) -> str:
        raise ConnectionError("no route")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fails)
    with pytest.raises(UserError, match="no route"):
        stock_source("OpenGVLab/InternVL2-2B")


def test_a_conversion_that_was_cut_off_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_original(tmp_path / "a")

    def killed(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(cached, "convert_internvl2", killed)
        with pytest.raises(KeyboardInterrupt):
            stock_source(str(tmp_path / "a"))
    assert (Path(stock_source(str(tmp_path / "a"))) / "model.safetensors").is_file()


@pytest.mark.slow
def test_processes_that_start_together_convert_once(tmp_path: Path) -> None:
    save_original(tmp_path / "a")
    code = f"from taid_vlm.models.native.internvl2.cached import stock_source; print(stock_source({str(tmp_path / 'a')!r}))"
    started = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    said = [process.communicate(timeout=60) for process in started]
    assert said[0][0] == said[1][0] != ""
    assert sum("converting" in errors for _, errors in said) == 1


def test_an_evaluation_opens_it_and_answers_as_the_original(tmp_path: Path) -> None:
    # Beyond what was trained, dynamic scaling changes with each token, and keys that are kept were turned before: no recomputation is that.
    config, tensors = save_original(tmp_path / "InternVL2", text={"max_position_embeddings": 512})
    model: Any = open_model(tmp_path / "InternVL2", dtype="float32")
    about = model.describe()
    assert (about["class"], about["name"]) == ("InternVLForConditionalGeneration", "InternVL2")
    teacher: Any = teacher_from_checkpoint(str(tmp_path / "InternVL2"))  # renders and cuts pictures in its own way
    for image in (picture(), picture(30, 31)):
        ids = teacher.processor.render([QUESTION], add_generation_prompt=True, sizes=[image.size]).ids
        assert ids.count(teacher.processor.tokenizer.bos_token_id) == 1
        none = torch.zeros(1, 1, dtype=torch.long)
        pixels = teacher.processor.inputs(none, none, none, [[image]]).tensors["pixel_values"]
        said: list[int] = []
        while len(said) < 6 and teacher.processor.end_of_turn_id not in said:
            sequence = torch.tensor(ids + said)
            logits = reference_logits(config, tensors, sequence, pixels, teacher.processor.image_token_id)[-1]
            said.append(int(logits.argmax()))
        expected = teacher.processor.tokenizer.decode(said, skip_special_tokens=True).strip()
        assert model.generate([Request("what is this?", [image])], 6) == [expected]


def test_the_command_writes_a_folder_once(tmp_path: Path) -> None:
    save_original(tmp_path / "original")
    arguments = ["convert", "internvl2", str(tmp_path / "original"), str(tmp_path / "stock")]
    out = CliRunner().invoke(app, arguments)
    assert out.exit_code == 0, out.output
    assert "InternVLForConditionalGeneration" in out.output
    assert (tmp_path / "stock" / "model.safetensors").is_file()
    out = CliRunner().invoke(app, arguments)
    assert isinstance(out.exception, UserError)
    assert "exists" in str(out.exception)
