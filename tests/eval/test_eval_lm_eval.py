"""The same log-likelihoods and figures as lm-evaluation-harness gives, from its own tasks on the same records.

Runs where the package lm_eval is installed: ``pip install lm-eval==0.4.13``, in an environment of its own with this one's packages.
"""

from pathlib import Path
from typing import Any

import pytest
import yaml

from taid_vlm_eval.asking import request_of
from taid_vlm_eval.data import load_items
from taid_vlm_eval.metrics import METRICS
from taid_vlm_eval.metrics.likelihood import likeliest
from taid_vlm_eval.models import open_model
from taid_vlm_eval.models.likelihood import log_likelihoods
from taid_vlm_eval.models.ways import asked
from taid_vlm_eval.scoring import score_items
from taid_vlm_eval.task_files import load_task
from tests.tiny.benchmark_files import write_benchmark
from tests.tiny.benchmarks import PARQUET
from tests.tiny.language_model import tiny_llama
from tests.tiny.tokenizers import family_tokenizer

lm_eval = pytest.importorskip("lm_eval", reason="lm-evaluation-harness is not installed")

TASKS = {
    "hellaswag": ("hellaswag/hellaswag.yaml", "Rowan/hellaswag", 0),
    "lambada_openai": ("lambada/lambada_openai.yaml", "EleutherAI/lambada_openai", 0),
    "arc_easy_likelihood": ("arc/arc_easy.yaml", "allenai/ai2_arc", 0),
    "mmlu_likelihood": ("mmlu/default/mmlu_anatomy.yaml", "cais/mmlu", 5),
}


@pytest.fixture(params=["smollm2", "llama2", "llama3"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A random Llama with a tokenizer that merges over spaces (and puts one first, or opens every text)."""
    tokenizer = family_tokenizer(request.param)
    tiny_llama(vocabulary=len(tokenizer) + 8).save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def theirs(name: str, folder: Path, cache: Path, tmp_path: Path) -> Any:
    """What their code finds in one of their tasks, with the records in place of the hub's."""
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    their_file, data_set, shots = TASKS[name]
    files = {}
    for file in PARQUET[name]:
        if file.startswith(data_set):
            split = "test" if name == "lambada_openai" else file.rsplit("/", 1)[-1].split("-0")[0]
            files[split] = str(cache / file)
    included = Path(lm_eval.__file__).parent / "tasks" / their_file
    change = {"task": "ours", "include": str(included), "dataset_path": "parquet", "dataset_name": None}
    change |= {"dataset_kwargs": {"data_files": files}, "training_split": None, "tag": None}
    if name != "hellaswag":
        change["validation_split"] = None
    (tmp_path / "lm_eval_tasks").mkdir()
    (tmp_path / "lm_eval_tasks" / "ours.yaml").write_text(yaml.safe_dump(change))
    model = HFLM(pretrained=str(folder), device="cpu", dtype="float32", batch_size=2)
    manager = TaskManager(include_path=str(tmp_path / "lm_eval_tasks"), include_defaults=False)
    return lm_eval.simple_evaluate(
        model, tasks=["ours"], num_fewshot=shots, task_manager=manager, log_samples=True, bootstrap_iters=0
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", TASKS)
def test_parity(name: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAID_VLM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "datasets"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    data = tmp_path / "cache" / "data"
    if name == "mmlu_likelihood":
        # Their task is one subject.
        anatomy = {
            file: [row | {"subject": "anatomy"} for row in rows] for file, rows in PARQUET["mmlu_likelihood"].items()
        }
        monkeypatch.setitem(PARQUET, name, anatomy)
    write_benchmark(name, data)
    found = theirs(name, folder, data, tmp_path)
    samples = sorted(found["samples"]["ours"], key=lambda one: one["doc_id"])
    task = load_task(name)
    items = load_items(task)
    model: Any = open_model(folder, device="cpu")
    requests = [request_of(item, task.task) for item in items]
    assert [request.prompt for request in requests] == [one["arguments"][0][0] for one in samples]
    texts = [[f" {text}" for text in request.texts] for request in requests]
    assert texts == [[arguments[1] for arguments in one["arguments"]] for one in samples]
    values = log_likelihoods(model, requests, texts)
    for several, sample in zip(values, samples, strict=True):
        wanted = [float(one[0][0]) for one in sample["resps"]]
        assert [one.log_probability for one in several] == pytest.approx(wanted, abs=2e-4)
    said = asked(model, task.task.asks).generate(requests, 1)
    answers = {item.id: {"id": item.id, "answer": text, "error": None} for item, text in zip(items, said, strict=True)}
    scored, _ = score_items(task.task, items, answers)
    results = found["results"]["ours"]
    if task.task.asks == "continuation":
        ours = METRICS.get("continuation")(scored, 0).named
        assert [one.greedy for several in values for one in several] == [one["acc"] == 1 for one in samples]
        assert ours["perplexity"].value == pytest.approx(results["perplexity,none"], rel=1e-3)
    metric = "acc_norm,none" if task.task.mode == "acc_norm" else "acc,none"
    assert sum(one.value for one in scored) / len(scored) == pytest.approx(results[metric])
    if task.task.asks == "options":
        chosen = [
            likeliest([one.log_probability for one in several], request.texts, norm="characters")
            for several, request in zip(values, requests, strict=True)
        ]
        right = [float("ABCD"[place] == item.answer) for place, item in zip(chosen, items, strict=True)]
        assert sum(right) / len(right) == pytest.approx(results["acc_norm,none"])
