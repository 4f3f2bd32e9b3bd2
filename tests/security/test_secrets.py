"""Secrets are neither written into a run, nor stated by an evaluation, nor told in a message."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from taid_vlm.cli import app
from taid_vlm.common.errors import UserError
from taid_vlm.common.secrets import hidden_in, secret_in, without_secrets
from taid_vlm.recipe.origin import origin_of
from taid_vlm_eval.task_files import load_task
from tests.eval.fakes import task_content
from tests.eval.servers import Reply, error, serving
from tests.security.commands import run
from tests.tiny.recipes import tiny_recipe

ENVIRONMENT = {
    "HF_TOKEN": "planted-hub-token-1",
    "WANDB_API_KEY": "0123456789abcdef0123456789abcdef01234567",
    "OPENAI_API_KEY": "planted-openai-key-2",
    "VLLM_API_KEY": "planted-vllm-key-3",
    "AWS_SECRET_ACCESS_KEY": "planted/aws+key=4",
    "DATABASE_PASSWORD": "planted-password-5",
}
HELD = [
    "hf_abcdefghijklmnopqrstuvwxyz",
    "sk-abcdefghijklmnopqrstuvwxyz",
    "sk-proj-abc_defghijklmnopqrst",
    "sk-ant-api03-aB3_dE6-gH9jK2lM5nO8pQ1rS4t",
    "ghp_abcdefghijklmnopqrstuvwxyz0123456789",
    "glpat-abcdefghijklmnopqrst",
    "nvapi-abcdefghijklmnopqrstuvw",
    "AKIAABCDEFGHIJKLMNOP",
    "Bearer abcdefgh12345678",
    "https://user:pass-word-6@host/path",
    "https://token-only-7@host/path",
    "s3://key:pass-word-8@bucket/path",
    "postgresql://user:pass-word-8@host/path",
    "https://host/path?token=in-the-query-9",
    "https://host/path?a=1&api_key=in-the-query-10&b=2",
    "https://bucket.example/x?X-Amz-Signature=abcdef11",
]
PARTS = ["pass-word-6", "token-only-7", "pass-word-8", "in-the-query", "abcdef11", "abcdefgh"]
PLAIN = [
    "runs/taid/student",
    "https://host:8000/v1",
    "owner/name@main",
    "openai:model@http://localhost:8000/v1",
    "http://host/a?page=2&keyword=x",
    "me@example.org",
    "task-force-of-many-people-in-the-world",
    "a/b@c",
    "data/cs-sk-parallel-corpus-v1-train.jsonl",
    "wiki-sk-20231101-articles-multistream",
    "the standard bearer certificates of 1990",
    "ssh://git@host/owner/name",
]


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)


def nowhere(folder: Path, *texts: str) -> None:
    """None of the planted values is in a file below the folder, in a name of one, or in what was printed."""
    values = [value.encode() for value in ENVIRONMENT.values()] + [part.encode() for part in PARTS]
    for value in values:
        for file in folder.rglob("*"):
            assert value not in str(file.relative_to(folder)).encode()
            if file.is_file():
                assert value not in file.read_bytes(), (value, file)
        for text in texts:
            assert value not in text.encode(), value


@pytest.mark.parametrize("text", HELD)
def test_each_is_found_and_hidden(text: str) -> None:
    assert secret_in(f"say {text} now")
    hidden = without_secrets(f"say {text} now")
    assert "[hidden]" in hidden
    assert hidden.startswith("say ")
    assert hidden.endswith(" now")
    assert not any(part in hidden for part in PARTS)
    assert without_secrets(hidden) == hidden


@pytest.mark.parametrize("text", PLAIN)
def test_none_of_these_is_one(text: str) -> None:
    assert secret_in(text) == ""
    assert without_secrets(text) == text


def test_values_of_the_environment(planted: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_API_KEY", "EMPTY")  # a word, and no secret
    monkeypatch.setenv("MONKEY", "not-a-secret-at-all")
    monkeypatch.setenv("EOS_TOKEN", "<|im_end|>")  # of a tokenizer
    monkeypatch.setenv("PAD_TOKEN", "[PADDING]")
    assert secret_in("<|im_end|> [PADDING]") == ""
    assert secret_in("x planted-hub-token-1 y") == "the value of the environment variable HF_TOKEN"
    assert without_secrets("x planted-hub-token-1 EMPTY not-a-secret-at-all") == "x [hidden] EMPTY not-a-secret-at-all"
    found = hidden_in({"a": ["planted-password-5", 1, None], "b": {"c": "https://u:pass-word-6@h"}})
    assert found == {"a": ["[hidden]", 1, None], "b": {"c": "https://[hidden]@h"}}


@pytest.mark.parametrize("text", HELD)
def test_a_recipe_and_a_task_that_hold_one_are_refused_without_repeating_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], text: str
) -> None:
    (tmp_path / "r.yaml").write_text(yaml.safe_dump({"description": f"by {text}"}))
    assert run(monkeypatch, "plan", str(tmp_path / "r.yaml")) == 1
    said = capfd.readouterr().err
    assert "description holds" in said
    content = task_content()
    content["data"]["path"] = text
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(UserError, match=r"data\.path holds") as told:
        load_task(tmp_path / "small.yaml")
    assert not any(part in said + str(told.value) for part in (*PARTS, text))


def test_a_replaced_override_and_a_base_are_written_down_without_theirs(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(yaml.safe_dump({"teacher": {"url": "https://u:pass-word-6@h"}}))
    (tmp_path / "r.yaml").write_text(yaml.safe_dump({"base": "base.yaml", "teacher": {"url": "https://h"}}))
    origin = origin_of(str(tmp_path / "r.yaml"), ["teacher.url=https://u:pass-word-8@h", "teacher.url=https://h"])
    assert not any(part in json.dumps(origin) for part in PARTS)
    assert origin["overrides"] == ["teacher.url=https://[hidden]@h", "teacher.url=https://h"]
    assert origin["changes"] == [["teacher.url", "https://[hidden]@h", "https://h"]]


@pytest.mark.slow
def test_a_run_holds_and_prints_none(
    tmp_path: Path,
    language_model: Path,
    easy_vqa: Path,
    planted: None,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    recipe = tiny_recipe(language_model, easy_vqa).model_dump(mode="json")
    recipe["training"] |= {"steps": 3, "trackers": ["tensorboard"]}
    (tmp_path / "base.yaml").write_text(yaml.safe_dump({**recipe, "description": "by https://u:pass-word-6@h"}))
    # What replaces the base's secret makes the recipe a good one; the run writes down what differs from its base.
    (tmp_path / "r.yaml").write_text(yaml.safe_dump({"base": "base.yaml", "description": "plain"}))
    replaced = ("description=https://u:pass-word-8@h", "description=plain")
    out = tmp_path / "out"
    assert run(monkeypatch, "train", str(tmp_path / "r.yaml"), *replaced, "--output", str(out)) == 0
    assert run(monkeypatch, "report", str(out)) == 0
    said = capfd.readouterr()
    assert (out / "run.json").is_file()
    assert (out / "checkpoints").is_dir()
    nowhere(out, said.out, said.err)


def test_an_evaluation_against_a_server_holds_and_prints_none(
    tmp_path: Path, planted: None, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The server repeats the key that it got, in answers and in refusals."""
    rows = [{"id": str(n), "question": f"question {n}?", "answer": "yes"} for n in range(4)]
    (tmp_path / "small.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(task_content()))
    key = ENVIRONMENT["OPENAI_API_KEY"]

    def rule(body: dict[str, Any]) -> str | Reply:
        return error(400, f"bad key {key}") if "question 3" in json.dumps(body) else f"your key is {key}"

    with serving(rule) as server:
        address, out = server.address, tmp_path / "out"
        assert run(monkeypatch, "eval", address, "--tasks", str(tmp_path / "small.yaml"), "--output", str(out)) == 0
        assert any(key in headers.get("Authorization", "") for headers in server.headers)
        assert (
            run(monkeypatch, "eval", address.replace("//", "//user:pass-word-6@"), "--tasks", "x", "--output", str(out))
            == 1
        )
        assert run(monkeypatch, "eval", f"{address}?api_key=in-the-query-9", "--tasks", "x", "--output", str(out)) == 1
    said = capfd.readouterr()
    assert "your key is [key]" in "".join(file.read_text() for file in out.glob("*.answers.jsonl"))
    nowhere(out, said.out, said.err)


def test_no_option_takes_a_secret() -> None:
    """They would stand in the shell's history and in the list of processes: variables have names instead."""
    import typer.main

    group = typer.main.get_command(app)

    def options(command: object, path: str = "") -> list[str]:
        inner = getattr(command, "commands", {})
        here = [f"{path} {name}" for one in command.params for name in one.opts]  # type: ignore[attr-defined]
        return here + [name for key, one in inner.items() for name in options(one, f"{path} {key}")]

    found = options(group)
    assert len(found) > 50
    named = [name for name in found if any(word in name for word in ("key", "token", "password", "secret", "header"))]
    assert all(name.endswith("-variable") for name in named), named
    assert len(named) == 2


def test_a_message_hides_what_it_quotes(
    planted: None, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for value in (*ENVIRONMENT.values(), *HELD):
        assert run(monkeypatch, "chat", f"/nowhere/{value}") == 1
        said = capfd.readouterr().err
        assert "[hidden]" in said
        assert not any(secret in said for secret in (*ENVIRONMENT.values(), *PARTS))
