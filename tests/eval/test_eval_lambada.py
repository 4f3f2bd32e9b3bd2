"""LAMBADA: the last word by likelihood, its greedy accuracy and perplexity, each worked out a second time from the logits."""

import json
import math
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from taid_vlm.common.errors import UserError
from taid_vlm_eval import load_task, open_model
from taid_vlm_eval.compare import differences
from taid_vlm_eval.data import load_items
from taid_vlm_eval.metrics import METRICS, SCORERS, Scored
from taid_vlm_eval.metrics.continuation import TOP, read_continuation
from taid_vlm_eval.models import Request
from taid_vlm_eval.models.protocol import Likelihood
from taid_vlm_eval.runner import evaluate
from tests.eval.fakes import FakeModel
from tests.tiny.benchmark_files import write_benchmark
from tests.tiny.language_model import tiny_llama
from tests.tiny.tokenizers import family_tokenizer


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TAID_VLM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    write_benchmark("lambada_openai", tmp_path / "cache" / "data")
    return tmp_path


def said(value: float, greedy: bool) -> str:
    return json.dumps({"log_likelihood": value, "tokens": 2, "greedy": greedy})


def test_the_last_word_is_cut_at_the_last_space(cache: Path) -> None:
    items = load_items(load_task("lambada_openai"))
    assert [(item.question, item.answer) for item in items] == [
        ("He looked at the house, 0.  \nThen he opened the", "door"),
        ("What she saw, 1, was a", "cat"),
        ("A man, 2, met a man's", "dog"),
    ]


@pytest.mark.parametrize("family", ["smollm2", "llama2"])
def test_both_figures_are_those_of_the_logits(cache: Path, family: str) -> None:
    tokenizer = family_tokenizer(family)
    tiny_llama(vocabulary=len(tokenizer) + 8).save_pretrained(cache / "model")
    tokenizer.save_pretrained(cache / "model")
    model: Any = open_model(cache / "model", device="cpu")
    (result,) = evaluate(model, ["lambada_openai"], output_dir=cache / "out", batch_size=2)
    rows = [json.loads(line) for line in (cache / "out" / "lambada_openai.answers.jsonl").read_text().splitlines()[1:]]
    found = {row["id"]: json.loads(row["answer"]) for row in rows}
    values, right = [], []
    for item in load_items(load_task("lambada_openai")):
        before = tokenizer(item.question)["input_ids"]
        ids = tokenizer(f"{item.question} {item.answer}")["input_ids"]
        with torch.no_grad():
            log_q_LV = model._model(torch.tensor([ids])).logits[0].double().log_softmax(-1)
        word = range(len(before), len(ids))
        values.append(sum(log_q_LV[place - 1, ids[place]].item() for place in word))
        right.append(all(log_q_LV[place - 1].argmax().item() == ids[place] for place in word))
        assert found[item.id]["log_likelihood"] == pytest.approx(values[-1], abs=2e-4)
        assert (found[item.id]["tokens"], found[item.id]["greedy"]) == (len(word), right[-1])
    assert result.value == result.named["acc"]["value"] == sum(right) / 3
    assert result.named["perplexity"]["value"] == pytest.approx(math.exp(-sum(values) / 3), rel=1e-3)
    assert result.parse_rate == 1.0


def test_greedy_is_what_the_model_would_write(cache: Path) -> None:
    tokenizer = family_tokenizer("smollm2")
    tiny_llama(seed=3, vocabulary=len(tokenizer)).save_pretrained(cache / "model")
    tokenizer.save_pretrained(cache / "model")
    model: Any = open_model(cache / "model", device="cpu")
    tried = 0
    for prompt in ("The house of", "What she saw was", "1, 2, 3,", "A", "Then he opened the", "a b c", "the the the"):
        ids = tokenizer.encode(prompt)
        with torch.no_grad():
            best = model._model(torch.tensor([ids])).logits[0, -1].argmax().item()
        written = tokenizer.decode([best])
        if tokenizer.encode(prompt + written) != [*ids, best]:
            continue  # this token is cut otherwise behind the prompt
        tried += 1
        ((own, other),) = model.log_likelihoods([Request(prompt, plain=True)], [[written, written + " door"]])
        assert own.greedy
        assert not other.greedy
    assert tried


class Certain(FakeModel):
    """Finds one word certain and greedy, one impossible, one not a number."""

    def log_likelihoods(self, requests: Any, continuations: Any) -> list[list[Likelihood]]:
        values = {" door": (0.0, True), " cat": (-math.inf, False), " dog": (math.nan, False)}
        return [[Likelihood(values[text][0], 1, values[text][1]) for text in texts] for texts in continuations]


def test_impossible_words_and_words_without_a_number(cache: Path) -> None:
    (result,) = evaluate(Certain(), ["lambada_openai"], output_dir=cache / "out")
    assert (result.n, result.errors, result.parse_rate) == (3, 1, pytest.approx(2 / 3))
    assert result.value == pytest.approx(1 / 3)
    assert math.isfinite(result.named["perplexity"]["value"])  # what no file of JSON could hold is bounded
    assert result.named["perplexity"]["value"] > 1e300
    assert "NaN" not in (cache / "out" / "lambada_openai.result.json").read_text()


def test_a_model_that_gives_no_likelihoods_is_told(cache: Path) -> None:
    with pytest.raises(UserError, match="fake cannot tell how likely a text is, as tasks that ask for continuation"):
        evaluate(FakeModel(), ["lambada_openai"], output_dir=cache / "out")


@given(st.lists(st.tuples(st.floats(-30, 0), st.booleans(), st.integers(0, 5)), min_size=1, max_size=30))
def test_the_metric_is_its_definition(given_items: list[tuple[float, bool, int]]) -> None:
    scorer = SCORERS.get("continuation")
    scored = [
        Scored(str(n), str(cluster), text := said(value, greedy), "", scorer.score(text, "").value)
        for n, (value, greedy, cluster) in enumerate(given_items)
    ]
    found = METRICS.get("continuation")(scored, 0)
    acc, perplexity = found.named["acc"], found.named["perplexity"]
    assert found.value == acc.value == pytest.approx(np.mean([greedy for _, greedy, _ in given_items]))
    assert perplexity.value == pytest.approx(math.exp(-np.mean([value for value, _, _ in given_items])))
    assert 0 <= acc.low <= acc.high <= 1
    assert 1 - 1e-9 <= perplexity.low <= perplexity.high
    if len({cluster for _, _, cluster in given_items}) == 1:
        assert (perplexity.low, perplexity.high) == (1.0, max(TOP, perplexity.value))
    # Items without an answer are wrong, and change no perplexity.
    more = METRICS.get("continuation")([*scored, Scored("x", "0", "", "", 0.0)], 0)
    assert more.named["perplexity"].value == pytest.approx(perplexity.value)
    assert more.value == pytest.approx(acc.value * len(scored) / (len(scored) + 1))


def test_without_any_measured_item_there_is_no_perplexity() -> None:
    found = METRICS.get("continuation")([Scored("1", "1", "", "", 0.0)], 0)
    assert set(found.named) == {"acc"}
    assert found.value == 0.0


@pytest.mark.parametrize(
    "answer",
    ["", "door", "{}", "[]", "null", '{"log_likelihood": -1.0}', '{"log_likelihood": "x", "greedy": true}',
     '{"log_likelihood": -1.0, "greedy": 1}', '{"log_likelihood": NaN, "greedy": true}', '{"log_likelihood": true, "greedy": true}'],
)  # fmt: skip
def test_what_is_no_measurement_is_wrong(answer: str) -> None:
    assert read_continuation(answer) is None
    score = SCORERS.get("continuation").score(answer, "door")
    assert (score.value, score.how) == (0.0, "none" if answer else "empty")


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    draw, metric, inside = random.Random(0), METRICS.get("continuation"), 0
    for _ in range(60):
        scored = [Scored(str(n), str(n), said(-draw.expovariate(0.5), True), "", 1.0) for n in range(60)]
        one = metric(scored, 0).named["perplexity"]
        inside += one.low <= math.exp(2.0) <= one.high
    assert 50 <= inside <= 60


def test_two_models_are_compared_and_a_lower_perplexity_is_better() -> None:
    values = [(-1.0 - n % 3, n % 2 == 0) for n in range(20)]
    first = [Scored(str(n), str(n), said(*one), "", float(one[1])) for n, one in enumerate(values)]
    second = [replace(one, answer=said(values[n][0] - 1, False), value=0.0) for n, one in enumerate(first)]
    metric = METRICS.get("continuation")
    found = {one.figure: one for one in differences("continuation", metric(first, 0), metric(second, 0))}
    assert {name: one.lower_is_better for name, one in found.items()} == {
        "continuation": False,
        "acc": False,
        "perplexity": True,
    }
    assert found["acc"].difference == 0.5
    assert found["perplexity"].high < 0
