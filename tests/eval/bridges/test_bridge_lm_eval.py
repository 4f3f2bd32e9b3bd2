"""Our models in lm-evaluation-harness: item by item what its own model ``hf`` says of the same checkpoint.

Runs where the package lm_eval is installed: ``pip install lm-eval==0.4.13``, in an environment of its own with this one's packages.
"""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from taid_vlm.common.errors import UserError
from taid_vlm.models import build_student, save_student
from taid_vlm.models.specs import StudentSpec
from taid_vlm_eval.bridges.lm_eval import make, run
from taid_vlm_eval.models import open_model
from tests.eval.fakes import FakeModel
from tests.tiny.language_model import tiny_llama
from tests.tiny.tokenizers import family_tokenizer

lm_eval = pytest.importorskip("lm_eval", reason="lm-evaluation-harness is not installed")

WORDS = ["red", " blue", "the cat sat", "\n\nnext", "a longer ending of words", "zebra", "7 + 5 = 12"]
TASKS: dict[str, dict[str, Any]] = {
    "choose": {
        "output_type": "multiple_choice",
        "doc_to_text": "{{question}}",
        "doc_to_choice": "{{choices}}",
        "doc_to_target": "{{label}}",
        "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}],
    },
    "go_on": {
        "output_type": "generate_until",
        "doc_to_text": "{{question}}",
        "doc_to_target": "{{choices[0]}}",
        "generation_kwargs": {"until": ["e", "\n\n", " a"], "max_gen_toks": 12, "do_sample": False},
        "metric_list": [{"metric": "exact_match"}],
    },
    "whole": {
        "output_type": "loglikelihood_rolling",
        "doc_to_text": "",
        "doc_to_target": "{{long}}",
        "metric_list": [{"metric": "word_perplexity"}, {"metric": "byte_perplexity"}],
    },
}
# It opens a text itself, as Llama's do: a second opening token would be a mistake.
TEMPLATE = (
    "{% if bos_token %}{{ bos_token }}{% endif %}{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}[assistant] {% endif %}"
)


def save(family: str, tmp_path: Path) -> Path:
    """A random Llama with a tokenizer that merges over spaces (and puts one first, or opens every text)."""
    tokenizer = family_tokenizer(family)
    tiny_llama(vocabulary=len(tokenizer) + 8).save_pretrained(tmp_path / "model")
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    from lm_eval.tasks import TaskManager

    return TaskManager(include_path=str(write_tasks(tmp_path, monkeypatch)), include_defaults=False)


def write_tasks(root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HF_DATASETS_CACHE", str(root / "datasets"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    rows = [
        {
            "question": f"Question {index}: {WORDS[index % 7]} or what?" + " " * (index % 3),
            "choices": [f" {WORDS[(index + k) % 7]}" for k in range(3)],
            "label": index % 3,
            "long": " ".join(WORDS[(index * k) % 7] for k in range(8 + 60 * index)),
        }
        for index in range(6)
    ]
    (root / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = {"dataset_path": "json", "dataset_kwargs": {"data_files": {"test": str(root / "rows.jsonl")}}}
    (root / "tasks").mkdir()
    for name, content in TASKS.items():
        full = {"task": name, "test_split": "test", "num_fewshot": 0, **data, **content}
        (root / "tasks" / f"{name}.yaml").write_text(yaml.safe_dump(full))
    return root / "tasks"


def answers(model: Any, manager: Any, **options: Any) -> dict[str, list[Any]]:
    """What a model said to each item of each task, as the harness keeps it."""
    found = lm_eval.simple_evaluate(
        model, tasks=list(TASKS), task_manager=manager, log_samples=True, bootstrap_iters=0, **options
    )
    assert set(found["results"]) == set(TASKS)
    return {
        name: [one["resps"] for one in sorted(rows, key=lambda one: one["doc_id"])]
        for name, rows in found["samples"].items()
    }


def require_equal(ours: dict[str, list[Any]], theirs: dict[str, list[Any]]) -> None:
    assert ours["go_on"] == theirs["go_on"]
    for one, other in zip(ours["choose"], theirs["choose"], strict=True):
        for (value, greedy), (wanted, also) in zip((x[0] for x in one), (x[0] for x in other), strict=True):
            assert (float(value), str(greedy)) == (pytest.approx(float(wanted), abs=2e-4), str(also))
    flat = [[float(one[0][0]) for one in found["whole"]] for found in (ours, theirs)]
    assert flat[0] == pytest.approx(flat[1], rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "chat"), [("smollm2", False), ("llama2", False), ("llama3", False), ("llama3", True)]
)
def test_every_item_is_as_their_own_model_says(family: str, chat: bool, tmp_path: Path, manager: Any) -> None:
    from lm_eval.models.huggingface import HFLM

    folder = save(family, tmp_path)
    theirs = answers(
        HFLM(pretrained=str(folder), device="cpu", dtype="float32", batch_size=2), manager, apply_chat_template=chat
    )
    ours = answers(make(open_model(folder, device="cpu"), 4), manager, apply_chat_template=chat)
    require_equal(ours, theirs)
    assert chat or len({str(one) for one in ours["go_on"]}) > 1
    opened: Any = open_model(folder, device="cpu")
    assert len(opened.tokenizer.encode(" ".join(WORDS) * 40)) > opened.longest  # long texts take several windows


@pytest.mark.slow
def test_a_student_says_what_its_language_model_says(tmp_path: Path, manager: Any) -> None:
    from lm_eval.models.huggingface import HFLM

    tokenizer = family_tokenizer("smollm2")
    tiny_llama(vocabulary=len(tokenizer) + 8).save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    spec = StudentSpec.model_validate({"language_model": {"source": str(tmp_path / "base")}})
    save_student(*build_student(spec), spec, tmp_path / "student")
    theirs = answers(HFLM(pretrained=str(tmp_path / "base"), device="cpu", dtype="float32", batch_size=2), manager)
    require_equal(answers(make(open_model(tmp_path / "student", device="cpu"), 4), manager), theirs)


@pytest.mark.slow
def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    tokenizer = family_tokenizer("smollm2")
    tiny_llama(vocabulary=len(tokenizer) + 8).save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    include = write_tasks(tmp_path, monkeypatch)
    opened = open_model(tmp_path / "model", device="cpu")
    run(opened, ["choose", "go_on"], output=tmp_path / "out", include=include, limit=3)
    assert "choose" in capsys.readouterr().out
    state = json.loads((tmp_path / "out" / "results.json").read_text())
    assert set(state["results"]) == {"choose", "go_on"}
    assert state["model"] == opened.describe()
    rows = [json.loads(line) for line in (tmp_path / "out" / "samples_go_on.jsonl").read_text().splitlines()]
    assert len(rows) == 3
    with pytest.raises(UserError, match="lm-eval has no task 'chose'"):
        run(opened, ["chose"], include=include)


def test_a_model_without_logits_is_refused() -> None:
    with pytest.raises(UserError, match=r"fake shows neither its tokens nor its logits.*local-chat-completions"):
        make(FakeModel())
