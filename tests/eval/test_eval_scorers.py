"""Scorers and metrics by name: ranges, readings, and the error bar where nothing varies."""

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taid_vlm.common.errors import UserError
from taid_vlm_eval.metrics import (
    METRICS,
    SCORERS,
    Scored,
    anls,
    bootstrap_interval,
    caption_rouge_l,
    choice,
    choice_or_text,
    exact_match,
    gqa_match,
    gsm8k,
    ifeval,
    mathvista_rule,
    mmmu_match,
    ocrbench,
    relaxed_accuracy,
    rouge_l,
    vqa_accuracy,
    wilson_interval,
    yes_no,
)

FUNCTIONS = {
    "anls": anls,
    "caption": caption_rouge_l,
    "choice": choice,
    "choice_or_text": choice_or_text,
    "exact_match": exact_match,
    "gqa": gqa_match,
    "gsm8k": gsm8k,
    "ifeval": ifeval,
    "mathvista_rule": mathvista_rule,
    "mmmu": mmmu_match,
    "ocrbench": ocrbench,
    "relaxed_accuracy": relaxed_accuracy,
    "rouge_l": rouge_l,
    "vqa_accuracy": vqa_accuracy,
    "yes_no": yes_no,
}
# Of several right ones the best counts; VQA accuracy counts annotators, and captions are compared with all at once.
BEST_OF_TRUTHS = sorted(set(FUNCTIONS) - {"vqa_accuracy", "caption", "choice_or_text"})


def test_every_scorer_has_its_function_tested_here() -> None:
    by_numbers = {
        "likelihood",
        "continuation",
        "divergence",
    }  # of what a model computed, not of what it said; tested with their tasks
    assert set(SCORERS) == set(FUNCTIONS) | by_numbers


@pytest.mark.parametrize("name", FUNCTIONS)
@given(answer=st.text(max_size=40), truths=st.lists(st.text(max_size=20), min_size=1, max_size=3))
def test_scores_are_in_range_and_their_readings_are_listed(name: str, answer: str, truths: list[str]) -> None:
    scorer = SCORERS.get(name)
    score = scorer.score(answer, truths)
    assert 0.0 <= score.value <= 1.0
    assert score.how in scorer.readings
    assert score.value == FUNCTIONS[name](answer, truths)
    if name in BEST_OF_TRUTHS:
        assert score.value == max(FUNCTIONS[name](answer, one) for one in truths)


@pytest.mark.parametrize("name", FUNCTIONS)
@given(answer=st.text(max_size=30), truth=st.text(max_size=10), rate=st.data())
def test_every_mode_gives_a_listed_reading(name: str, answer: str, truth: str, rate: st.DataObject) -> None:
    scorer = SCORERS.get(name)
    assert set(scorer.unparsed) <= set(scorer.readings)
    mode = rate.draw(st.sampled_from(scorer.modes)) if scorer.modes else None
    score = scorer.apply(answer, truth, {"options": ["a", "b c"], "unknown": 1}, mode)
    assert 0.0 <= score.value <= 1.0
    assert score.how in scorer.readings
    if not answer.strip() and mode != "pope":
        assert score.how == "empty"
    assert scorer.apply(answer, truth, {}, None) == scorer.score(answer, truth)


def test_the_parse_rate_is_the_share_in_which_something_was_found() -> None:
    assert SCORERS.get("choice").parse_rate({"strict": 5, "lenient": 2, "none": 2, "empty": 1, "error": 0}) == 0.7
    assert SCORERS.get("exact_match").parse_rate({"strict": 1, "none": 2, "empty": 0, "error": 1}) == 0.75
    assert SCORERS.get("choice").parse_rate({}) == 1.0


def test_modes_are_exact_names() -> None:
    with pytest.raises(UserError, match="unknown mode 'vlmevalkits': did you mean 'vlmevalkit'"):
        SCORERS.get("choice").apply("A", "A", {}, "vlmevalkits")
    with pytest.raises(UserError, match="this scorer has no modes"):
        SCORERS.get("exact_match").apply("A", "A", {}, "official")


def test_readings_tell_an_empty_answer_from_a_wrong_one() -> None:
    assert SCORERS.get("exact_match").score("", "red").how == "empty"
    assert SCORERS.get("exact_match").score("blue", "red").how == "none"
    assert SCORERS.get("rouge_l").score("...", "red").how == "empty"
    assert SCORERS.get("rouge_l").score("blue", "red").how == "words"


def test_names_are_exact() -> None:
    with pytest.raises(UserError, match="unknown scorer 'exact': did you mean 'exact_match'"):
        SCORERS.get("exact")
    with pytest.raises(UserError, match="unknown metric 'acuracy': did you mean 'accuracy'"):
        METRICS.get("acuracy")


def scored(values: list[float], clusters: list[str]) -> list[Scored]:
    return [Scored(str(i), c, "", "", v) for i, (v, c) in enumerate(zip(values, clusters, strict=True))]


@pytest.mark.parametrize("metric", ["accuracy", "rouge_l"])
def test_a_metric_is_the_mean_with_the_bootstrap_of_its_clusters(metric: str) -> None:
    values, clusters = [1.0, 0.0, 1.0, 1.0, 0.5, 0.0], ["a", "a", "b", "b", "c", "d"]
    estimate = METRICS.get(metric)(scored(values, clusters), 3)
    assert estimate.value == pytest.approx(3.5 / 6)
    assert (estimate.low, estimate.high) == bootstrap_interval(values, clusters, seed=3)


@pytest.mark.parametrize(("value", "clusters", "trials"), [(1.0, "abcd", 4), (0.0, "aabb", 2), (0.3, "aaaa", 1)])
def test_without_any_spread_the_interval_is_wilsons_over_clusters(value: float, clusters: str, trials: int) -> None:
    estimate = METRICS.get("accuracy")(scored([value] * 4, list(clusters)), 0)
    assert (estimate.low, estimate.high) == pytest.approx(wilson_interval(value * trials, trials))
    assert estimate.low < estimate.high


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_an_interval_always_has_a_width_and_stays_in_range(values: list[float]) -> None:
    estimate = METRICS.get("accuracy")(scored(values, [str(i) for i in range(len(values))]), 0)
    assert 0.0 <= estimate.low < estimate.high <= 1.0 + 1e-9


def test_scorers_need_no_torch() -> None:
    program = """
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "transformers", "PIL", "yaml", "timm", "datasets"):
            raise ImportError(f"{name} is blocked")
sys.meta_path.insert(0, Blocker())
from taid_vlm_eval.metrics import exact_match, rouge_l, bootstrap_interval
print(exact_match("Red.", "red"), rouge_l("a b", "a b"), "torch" in sys.modules)
try:
    import torch
except ImportError:
    print("blocked")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["1.0", "1.0", "False", "blocked"]
