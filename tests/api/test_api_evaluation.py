"""The examples of evaluation in docs/api.md, run word for word."""

import re
from pathlib import Path
from typing import Any

import pytest

from taid_vlm.models import build_student, save_student
from taid_vlm.models.specs import StudentSpec
from tests.eval.fakes import write_rows, write_task
from tests.tiny.data import write_chatterbot, write_easy_vqa
from tests.tiny.language_model import save_chatty_llama

DOCS = (Path(__file__).parents[2] / "docs" / "api.md").read_text(encoding="utf-8")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder as the page takes it to be."""
    small = save_chatty_llama(tmp_path / "models" / "small")
    content: dict[str, Any] = {"language_model": {"source": str(small)}, "projector": {"name": "mlp"}}
    content |= {"vision_encoder": {"library": "timm", "name": "test_resnet", "weights": "random", "image_size": 64}}
    spec = StudentSpec.model_validate({**content, "image_token": "<empty_output>"})
    save_student(*build_student(spec), spec, tmp_path / "runs" / "taid" / "student")
    write_easy_vqa(tmp_path / "cache" / "assets" / "easy-vqa-1.0", 1, 8)
    write_chatterbot(tmp_path / "cache" / "assets" / "chatterbot-corpus-1.3.3")
    (tmp_path / "tasks").mkdir()
    write_rows(tmp_path / "tasks", [{"question": "a?", "answer": "a"}])
    write_task(tmp_path / "tasks", name="own")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TAID_VLM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return tmp_path


@pytest.mark.parametrize("name", ["evaluation", "live evaluation"])
def test_the_example_runs(place: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    found = re.search(rf"<!-- {name} -->\n```python\n(.*?)```", DOCS, re.DOTALL)
    assert found is not None
    names: dict[str, Any] = {}
    exec(found[1], names)
    out = capsys.readouterr().out
    if name == "evaluation":
        assert names["results"].tasks == ["easy_vqa", "chatterbot"]
        assert "easy_vqa" in out
        assert not (place / "evaluation").exists()
    else:
        assert names["results"].tasks == ["chatterbot", "own"]
        assert (place / "evaluation" / "live" / "easy_vqa.result.json").is_file()
