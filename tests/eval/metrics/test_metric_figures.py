"""Figures of several items: named ones, groups that are right only together, and clusters that go together."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taid_vlm_eval.metrics import METRICS, Estimate, Scored, bootstrap_interval, wilson_interval
from taid_vlm_eval.metrics.figures import estimate_figures, mean_figure
from taid_vlm_eval.metrics.groups import group_columns, join_clusters


def item(
    number: int, value: float, cluster: str, reading: str | None = None, truth: str = "", **facts: object
) -> Scored:
    return Scored(str(number), cluster, "", truth, value, reading=reading, facts=facts)


def values_of(estimate: Estimate) -> dict[str, float]:
    return {name: one.value for name, one in estimate.named.items()}


def test_old_callers_get_the_same_estimate() -> None:
    assert Estimate(0.5, 0.4, 0.6) == Estimate(0.5, 0.4, 0.6, named={}, top=1.0)
    assert Scored("1", "c", "a", "t", 1.0).facts == {}


@settings(deadline=None, max_examples=30)
@given(st.lists(st.tuples(st.floats(0, 1), st.sampled_from("abcdef")), min_size=2, max_size=20))
def test_a_mean_has_the_interval_of_the_plain_bootstrap(rows: list[tuple[float, str]]) -> None:
    values, clusters = [one[0] for one in rows], [one[1] for one in rows]
    columns = np.array([[value, 1.0] for value in values])
    found = estimate_figures({"mean": mean_figure(0, 1)}, columns.T, clusters, seed=3)["mean"]
    low, high = bootstrap_interval(values, clusters, seed=3)
    assert found.value == pytest.approx(sum(values) / len(values))
    if high - low > 1e-6:
        assert (found.low, found.high) == pytest.approx((low, high))
    assert found.low < found.high


def test_unequal_lengths_and_nothing_are_refused() -> None:
    for columns, clusters in ((np.zeros((0, 2)), []), (np.zeros((2, 2)), ["a"])):
        with pytest.raises(ValueError, match=r"at least one item|as many clusters as items"):
            estimate_figures({"mean": mean_figure(0, 1)}, columns.T, clusters)


def test_groups_are_right_only_together() -> None:
    right, count = group_columns([1.0, 1.0, 0.0, 1.0, 1.0, 0.5], ["x", "y", "x", None, "y", "z"])
    assert count.tolist() == [1, 1, 0, 0, 0, 1]
    assert right.tolist() == [0, 1, 0, 0, 0, 0]


def test_clusters_that_share_a_group_are_one() -> None:
    joined = join_clusters(["a", "b", "c", "d", "a"], ["q", None, "q", "r", "s"], [1, 2, 3, 3, 4])
    assert joined == [0, 1, 0, 0, 0]


def test_categories_in_the_order_of_the_alphabet_whatever_the_order_of_items() -> None:
    rows = [(1.0, "zoo"), (0.0, "arts"), (1.0, "arts"), (1.0, "zoo"), (0.0, "math"), (1.0, "zoo")]
    scored = [item(i, value, str(i), category=name) for i, (value, name) in enumerate(rows)]
    for order in (scored, scored[::-1]):
        for name, first in (("accuracy_by_category", 4 / 6), ("mean_of_categories", (1 + 0.5 + 0) / 3)):
            estimate = METRICS.get(name)(order, 0)
            assert estimate.value == pytest.approx(first)
            assert list(estimate.named) == [
                "overall",
                "category/arts",
                "category/math",
                "category/zoo",
                "mean_of_categories",
            ]
            assert estimate.named["category/arts"].value == 0.5
    # One item, or none that differs from another: Wilson's interval.
    math = METRICS.get("accuracy_by_category")(scored, 0).named["category/math"]
    assert (math.low, math.high) == pytest.approx(wilson_interval(0, 1))
    zoo = METRICS.get("accuracy_by_category")(scored, 0).named["category/zoo"]
    assert (zoo.low, zoo.high) == pytest.approx(wilson_interval(3, 3))


def test_without_categories_there_is_the_mean_alone() -> None:
    scored = [item(i, float(i % 2), str(i)) for i in range(4)]
    for name in ("accuracy_by_category", "mean_of_categories"):
        assert values_of(METRICS.get(name)(scored, 0)) == {"overall": 0.5}


def test_circular_counts_questions_that_are_right_in_every_rotation() -> None:
    rights = {"q1": [1, 1, 1, 1], "q2": [1, 1, 0, 1], "q3": [1, 1], "q4": [0, 0, 0]}
    scored = [
        item(i, float(value), f"image of {group}", group=group, category="LR" if group < "q3" else "AR")
        for i, (group, value) in enumerate((group, value) for group, many in rights.items() for value in many)
    ]
    estimate = METRICS.get("circular")(scored, 0)
    assert estimate.value == pytest.approx(2 / 4)
    assert values_of(estimate) == pytest.approx(
        {"overall": 0.5, "category/AR": 0.5, "category/LR": 0.5, "mean_of_categories": 0.5, "rotations": 9 / 13}
    )
    assert METRICS.get("circular")(scored[::-1], 0).value == pytest.approx(0.5)


def pope_items(rows: list[tuple[str | None, str]], category: str | None = None, start: int = 0) -> list[Scored]:
    facts = {} if category is None else {"category": category}
    return [
        item(start + i, float(said == wanted), f"image {(start + i) // 2}", said, wanted, **facts)
        for i, (said, wanted) in enumerate(rows)
    ]


POPE = [
    ("yes", "yes"),
    ("yes", "yes"),
    ("yes", "no"),
    ("no", "no"),
    ("no", "yes"),
    (None, "no"),
    (None, "yes"),
    ("no", "no"),
]


def test_pope_by_hand() -> None:
    estimate = METRICS.get("pope")(pope_items(POPE), 0)
    # 2 hits, 1 false alarm, 2 missed (one of them said neither), 4 of 8 right, 3 of 8 said yes.
    expected = {
        "accuracy": 4 / 8,
        "precision": 2 / 3,
        "recall": 2 / 4,
        "f1": 4 / 7,
        "yes_ratio": 3 / 8,
        "mean_f1": 4 / 7,
    }
    assert values_of(estimate) == pytest.approx(expected)
    assert estimate.value == pytest.approx(4 / 7)


def test_pope_yes_ratio_is_that_of_answers_and_not_of_truths() -> None:
    estimate = METRICS.get("pope")(pope_items([("no", "yes"), ("no", "yes"), ("no", "no")]), 0)
    assert estimate.named["yes_ratio"].value == 0.0


def test_pope_without_any_yes_has_figures() -> None:
    estimate = METRICS.get("pope")(pope_items([("no", "no"), (None, "no")]), 0)
    assert values_of(estimate) == {
        "accuracy": 0.5,
        "precision": 0.0,
        "recall": 0.0,
        "f1": 0.0,
        "yes_ratio": 0.0,
        "mean_f1": 0.0,
    }


def test_pope_means_f1_over_its_subsets() -> None:
    easy = pope_items([("yes", "yes"), ("no", "no")], "random")
    hard = pope_items([("yes", "no"), ("yes", "yes")], "adversarial", start=2)
    shared = pope_items([("yes", "yes")], "adversarial,random", start=4)
    estimate = METRICS.get("pope")(easy + hard + shared, 0)
    named = values_of(estimate)
    assert named["random/f1"] == 1.0
    assert named["adversarial/f1"] == pytest.approx(4 / 5)
    assert estimate.value == named["mean_f1"] == pytest.approx(0.9)
    assert named["accuracy"] == pytest.approx(5 / 6)  # the shared question counts in both
    assert named["adversarial/accuracy"] == pytest.approx(2 / 3)


def test_mme_by_hand() -> None:
    rows = [("existence", "a", 1, 1), ("existence", "b", 1, 0), ("OCR", "a", 0, 0), ("code_reasoning", "c", 1, 1)]
    scored = [
        item(2 * i + j, float(value), image, category=task)
        for i, (task, image, *both) in enumerate(rows)
        for j, value in enumerate(both)
    ]
    estimate = METRICS.get("mme")(scored, 0)
    named = values_of(estimate)
    assert named["existence/accuracy"] == 3 / 4
    assert named["existence/accuracy+"] == 1 / 2
    assert named["existence/points"] == pytest.approx(125)
    assert named["OCR/points"] == 0
    assert named["code_reasoning/points"] == 200
    assert (named["perception"], named["cognition"], named["total"]) == pytest.approx((125, 200, 325))
    assert (estimate.value, estimate.top) == (pytest.approx(325), 600)
    assert estimate.named["perception"].top == 400
    assert 0 <= estimate.low <= 325 <= estimate.high <= 600


def test_a_full_mme_has_two_thousand_and_eight_hundred_points() -> None:
    from taid_vlm_eval.metrics.mme import COGNITION, PERCEPTION

    scored = [
        item(2 * i + j, 1.0, task, category=task) for i, task in enumerate(PERCEPTION + COGNITION) for j in (0, 1)
    ]
    named = METRICS.get("mme")(scored, 0).named
    assert (named["perception"].value, named["cognition"].value) == (2000, 800)


def hallusion_items(rows: list[tuple[str, int, int, int, int]]) -> list[Scored]:
    return [
        item(i, float(value), f"{kind}-{group}-{figure}", category=kind, subcategory="x", set_id=str(group),
             figure_id=str(figure), question_id=str(question))
        for i, (kind, group, figure, question, value) in enumerate(rows)
    ]  # fmt: skip


def test_hallusion_bench_by_hand() -> None:
    rows = [
        ("VD", 0, 0, 0, 1), ("VD", 0, 0, 1, 1), ("VD", 0, 1, 0, 1), ("VD", 0, 1, 1, 0),
        ("VS", 0, 0, 0, 1), ("VS", 0, 1, 0, 1), ("VS", 0, 2, 0, 0),
    ]  # fmt: skip
    estimate = METRICS.get("hallusion_bench")(hallusion_items(rows), 0)
    # Figures: VD 0 right, VD 1 wrong, VS 1 right, VS 2 wrong; VS 0 has none. Questions: VD 0 right, VD 1 and VS 0 wrong.
    expected = {"aAcc": 5 / 7, "fAcc": 2 / 4, "qAcc": 1 / 3}
    expected["mean"] = sum(expected.values()) / 3
    assert values_of(estimate) == pytest.approx(expected)
    assert estimate.value == pytest.approx(expected["mean"])
    assert METRICS.get("hallusion_bench")(hallusion_items(rows)[::-1], 0).value == pytest.approx(expected["mean"])


def test_hallusion_bench_without_any_figure_says_what_it_can() -> None:
    estimate = METRICS.get("hallusion_bench")(hallusion_items([("VS", 0, 0, 0, 1), ("VS", 1, 0, 0, 0)]), 0)
    assert values_of(estimate) == {"aAcc": 0.5, "qAcc": 0.5}


def random_items(count: int, seed: int) -> list[Scored]:
    draw = np.random.default_rng(seed)
    scored = []
    for number in range(count):
        said = ["yes", "no", None][draw.integers(3)]
        wanted = ["yes", "no"][draw.integers(2)]
        scored.append(
            item(number, float(said == wanted), f"i{number // 3}", said, wanted, category=["VS", "VD"][draw.integers(2)],
                 group=f"g{number // 2}", set_id=str(number // 6), figure_id=str(number // 3 % 2), question_id=str(number % 3))
        )  # fmt: skip
    return scored


@pytest.mark.parametrize(
    "name", ["accuracy_by_category", "mean_of_categories", "circular", "pope", "mme", "hallusion_bench", "ocrbench"]
)
@pytest.mark.parametrize("count", [1, 2, 60])
def test_every_figure_lies_in_its_interval_and_repeats(name: str, count: int) -> None:
    scored = random_items(count, seed=count)
    estimate, again = (METRICS.get(name)(scored, 1) for _ in range(2))
    assert estimate == again
    for figure in (estimate, *estimate.named.values()):
        assert 0 <= figure.low <= figure.high <= figure.top * (1 + 1e-9)
        assert figure.low - 1e-9 <= figure.value <= figure.high + 1e-9 or count > 2
        assert figure.low < figure.high


def test_a_hundred_thousand_items_are_quick() -> None:
    import time

    scored = random_items(100_000, seed=0)
    start = time.process_time()
    METRICS.get("pope")(scored, 0)
    assert time.process_time() - start < 30
