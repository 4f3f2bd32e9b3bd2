"""Code that comes with a checkpoint or a template runs where it was allowed, after a line that names it, and nowhere else."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from taid_vlm.common import remote_code
from taid_vlm.common.errors import UserError
from taid_vlm.models import build_student, load_student, save_student
from taid_vlm.models.encoders.from_transformers import transformers_source
from taid_vlm.models.native.loading import open_native
from taid_vlm.models.rendering import render_text
from taid_vlm.models.specs import StudentSpec, VisionEncoderSpec
from taid_vlm.models.teacher import teacher_from_checkpoint, teacher_without_weights
from taid_vlm.recipe import Recipe, dump_recipe
from taid_vlm.recipe.teacher_spec import TeacherSpec
from tests.security.commands import run
from tests.tiny.language_model import tiny_tokenizer

CODE = """from pathlib import Path
with open({target!r}, "a") as file:
    file.write("ran\\n")
from transformers import LlamaConfig, LlamaForCausalLM

class OwnConfig(LlamaConfig):
    model_type = "own_llama"

class OwnModel(LlamaForCausalLM):
    config_class = OwnConfig
"""


@pytest.fixture
def coded(tmp_path: Path, language_model: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tiny model whose class is in a file beside it, which leaves a line in ``ran`` whenever it is imported."""
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.setattr("sys.stdin", None)  # nobody is there to be asked
    remote_code._tell.cache_clear()
    # The name is that of the module that transformers makes of it, which Python keeps for the whole process.
    folder = shutil.copytree(language_model, tmp_path / f"coded_{tmp_path.name}")
    config = json.loads((folder / "config.json").read_text())
    own = {"AutoConfig": "own_code.OwnConfig", "AutoModelForCausalLM": "own_code.OwnModel"}
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "own_llama", "auto_map": own}))
    (folder / "own_code.py").write_text(CODE.format(target=str(tmp_path / "ran")))
    return folder


def recipe_of(folder: Path, coded: Path, **language_model: Any) -> str:
    (folder / "data.txt").write_text("some words to learn\n" * 20)
    content = {
        "student": {"language_model": {"source": str(coded), **language_model}},
        "data": {"train": [{"kind": "text", "path": str(folder / "data.txt")}], "max_length": 32},
        "loss": {"name": "sft"},
        "training": {"steps": 1, "batch_size": 1, "lr": 1e-4, "precision": "fp32"},
    }
    (folder / "r.yaml").write_text(yaml.safe_dump(content))
    return str(folder / "r.yaml")


@pytest.mark.slow
def test_a_recipe_runs_code_only_where_it_says_so(
    tmp_path: Path, coded: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for command in (("train", "--output", str(tmp_path / "run")), ("plan",), ("preview",)):
        assert run(monkeypatch, command[0], recipe_of(tmp_path, coded), *command[1:]) == 1
        said = capfd.readouterr().err
        assert (
            f"error: cannot load the language model '{coded}': it comes with code of its own, which was not run" in said
        )
        assert "allow it with trust_remote_code: true beside its source" in said
        assert "Do you wish" not in said
        assert not (tmp_path / "ran").exists()
    allowed = recipe_of(tmp_path, coded, trust_remote_code=True)
    assert run(monkeypatch, "train", allowed, "--output", str(tmp_path / "run")) == 0
    said = capfd.readouterr().err
    assert said.count(f"remote code: running code of {coded}: own_code; trust_remote_code allows it") == 1
    assert (tmp_path / "ran").read_text().startswith("ran")


def test_an_evaluation_runs_code_only_when_asked(
    tmp_path: Path, coded: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "small.jsonl").write_text(json.dumps({"question": "a?", "answer": "b"}) + "\n")
    task = {"name": "small", "description": "d", "data": {"source": "jsonl", "path": "small.jsonl"}}
    task |= {"generation": {"max_new_tokens": 2}, "scorer": "exact_match", "metric": "accuracy"}
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(task))
    asked = (
        "eval",
        str(coded),
        "--tasks",
        str(tmp_path / "small.yaml"),
        "--output",
        str(tmp_path / "out"),
        "--device",
        "cpu",
    )
    assert run(monkeypatch, *asked) == 1
    said = capfd.readouterr().err
    assert (
        "comes with code of its own, which was not run: read that code, and allow it with --trust-remote-code" in said
    )
    assert not (tmp_path / "ran").exists()
    assert run(monkeypatch, *asked, "--trust-remote-code") in (0, 1)  # 1: the tiny tokenizer has no chat template
    assert f"remote code: running code of {coded}: own_code;" in capfd.readouterr().err
    assert (tmp_path / "ran").exists()


@pytest.mark.slow
def test_who_opens_a_saved_student_decides_and_not_who_saved_it(
    tmp_path: Path, coded: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    spec = StudentSpec.model_validate({"language_model": {"source": str(coded), "trust_remote_code": True}})
    student, processor = build_student(spec)
    save_student(student, processor, spec, tmp_path / "full")
    save_student(student, processor, spec, tmp_path / "trained", weights="trained")
    (tmp_path / "ran").unlink()
    remote_code._tell.cache_clear()
    capfd.readouterr()
    for folder in (tmp_path / "full", tmp_path / "trained"):
        opened: list[Callable[[], Any]] = [
            lambda: load_student(folder),  # noqa: B023
            lambda: teacher_from_checkpoint(str(folder)),  # noqa: B023
            lambda: teacher_without_weights(str(folder), None, None),  # noqa: B023
        ]
        for open_it in opened:
            with pytest.raises(
                UserError, match=r"code of its own, of .*--trust-remote-code, or of a teacher with teacher\.trust"
            ):
                open_it()
        for command in (("chat", str(folder), "--prompt", "hello"), ("export", str(folder), str(tmp_path / "out"))):
            assert run(monkeypatch, *command) == 1
            assert "--trust-remote-code" in capfd.readouterr().err
        assert not (tmp_path / "ran").exists()
    assert load_student(tmp_path / "trained", trust_remote_code=True).parameters_total > 0
    assert f"remote code: running code of {coded}: own_code" in capfd.readouterr().err
    assert run(monkeypatch, "chat", str(tmp_path / "full"), "--prompt", "hello", "--trust-remote-code") == 0
    assert f"remote code: running code of {tmp_path / 'full' / 'language_model'}: own_code" in capfd.readouterr().err


def test_a_teacher_s_checkpoint_and_an_encoder_never_run_code(tmp_path: Path, coded: Path) -> None:
    with pytest.raises(
        UserError, match=r"cannot load the teacher .*own, which was not run: that cannot be allowed here"
    ):
        open_native(str(coded))
    spec = VisionEncoderSpec(library="transformers", name=str(coded), image_size=32)
    with pytest.raises(UserError, match=r"cannot load the vision encoder .*own, which was not run"):
        transformers_source(spec, "pretrained")
    assert not (tmp_path / "ran").exists()


def test_the_line_names_the_revision_of_a_repository(capfd: pytest.CaptureFixture[str]) -> None:
    remote_code._tell.cache_clear()
    for _ in range(2):
        assert remote_code.trusted("owner/name", "abc123", True)
        assert remote_code.trusted("owner/name", None, True)
        assert not remote_code.trusted("owner/other", None, False)
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 2  # once for each
    assert "under owner/name, revision abc123;" in lines[0]
    assert "revision main" in lines[1]


def test_one_process_of_several_tells(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    remote_code._tell.cache_clear()
    monkeypatch.setenv("RANK", "1")
    assert remote_code.trusted("owner/name", None, True)
    assert capfd.readouterr().err == ""


def test_the_key_of_a_teacher_is_written_down_only_where_it_is_set() -> None:
    """Recipes of runs that were begun without it are compared as texts."""
    assert "trust_remote_code" not in TeacherSpec(checkpoint="./a").model_dump(mode="json")
    content = {
        "student": {"language_model": {"source": "./lm"}},
        "teacher": {"checkpoint": "./a", "trust_remote_code": True},
        "data": {"train": [{"kind": "text", "path": "x.txt"}]},
        "loss": {"name": "kl"},
        "training": {"steps": 1, "batch_size": 1, "lr": 1e-4},
    }
    recipe = Recipe.model_validate(content)
    assert yaml.safe_load(dump_recipe(recipe))["teacher"]["trust_remote_code"] is True
    assert Recipe.model_validate(yaml.safe_load(dump_recipe(recipe))) == recipe


@pytest.mark.parametrize(
    "reach",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.__init__.__globals__ }}",
        "{{ cycler.__init__.__globals__.os.popen('true').read() }}",
        "{% set x = messages.append({}) %}",
        "{{ 1 / 0 }}",
        "{% include '/etc/passwd' %}",
        "{% for i in range(999999999) %}{% endfor %}",
    ],
)
def test_a_chat_template_reaches_nothing(reach: str) -> None:
    """Templates come with checkpoints, and are programs."""
    with pytest.raises(UserError, match="the chat template cannot write a conversation"):
        render_text(tiny_tokenizer(), reach, [{"role": "user", "content": "hello"}], add_generation_prompt=True)
