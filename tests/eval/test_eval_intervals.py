"""Error bars beside other ways to compute them."""

import itertools
import random
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taid_vlm_eval.metrics import bootstrap_interval, intervals, wilson_interval

Z = NormalDist().inv_cdf(0.975)


@given(st.integers(1, 3000), st.floats(0, 1))
def test_wilson_bounds_solve_its_equation(trials: int, share: float) -> None:
    # Wilson: the bounds are the p at which the observed share lies just z standard errors (of p, not of the share) away.
    a, b, c = 1 + Z * Z / trials, -(2 * share + Z * Z / trials), share * share
    root = max(b * b - 4 * a * c, 0.0) ** 0.5
    low, high = wilson_interval(share * trials, trials)
    assert low == pytest.approx((-b - root) / (2 * a), abs=1e-9)
    assert high == pytest.approx((-b + root) / (2 * a), abs=1e-9)
    assert 0.0 <= low <= share + 1e-12
    assert share - 1e-12 <= high <= 1.0


def test_wilson_at_the_ends() -> None:
    # At zero successes the upper bound is z^2 / (n + z^2), in closed form.
    assert wilson_interval(0, 10) == (0.0, pytest.approx(Z * Z / (10 + Z * Z)))
    assert wilson_interval(10, 10) == (pytest.approx(10 / (10 + Z * Z)), 1.0)


@pytest.mark.parametrize(("successes", "trials"), [(0, 0), (-1, 5), (6, 5), (float("nan"), 5)])
def test_wilson_refuses_what_is_no_share(successes: float, trials: int) -> None:
    with pytest.raises(ValueError, match="successes"):
        wilson_interval(successes, trials)


def plain_bootstrap(values: list[float], clusters: list[str], resamples: int) -> tuple[float, float]:
    """Plain twin with random numbers of another generator."""
    groups: dict[str, list[float]] = {}
    for value, cluster in zip(values, clusters, strict=True):
        groups.setdefault(cluster, []).append(value)
    draw = random.Random(5)
    means = []
    for _ in range(resamples):
        drawn = [value for name in draw.choices(list(groups), k=len(groups)) for value in groups[name]]
        means.append(sum(drawn) / len(drawn))
    means.sort()
    return means[round(0.025 * resamples)], means[round(0.975 * resamples)]


def test_bootstrap_is_that_of_a_plain_loop() -> None:
    draw = random.Random(0)
    # Clusters of unequal size whose items agree within them, so that a mistake in either shows.
    values, clusters = [], []
    for index in range(40):
        mean = draw.random()
        for _ in range(draw.randint(1, 6)):
            values.append(float(draw.random() < mean))
            clusters.append(f"c{index}")
    ours = bootstrap_interval(values, clusters, resamples=20_000)
    assert ours == pytest.approx(plain_bootstrap(values, clusters, 20_000), abs=0.01)


def test_bootstrap_of_few_clusters_is_that_of_all_resamples() -> None:
    values, clusters = [0.0, 0.2, 1.0, 0.7, 0.4], ["a", "a", "b", "c", "d"]
    groups = {"a": [0.0, 0.2], "b": [1.0], "c": [0.7], "d": [0.4]}
    resamples = itertools.product(groups.values(), repeat=4)
    means = [np.mean([value for group in chosen for value in group]) for chosen in resamples]
    expected = np.quantile(means, [0.05, 0.95])
    assert bootstrap_interval(values, clusters, resamples=40_000, level=0.9) == pytest.approx(expected, abs=0.02)


def test_items_of_one_cluster_count_once() -> None:
    draw = random.Random(2)
    values = [float(draw.random() < 0.5) for _ in range(60)]
    four_each = [value for value in values for _ in range(4)]
    alone = bootstrap_interval(values, range(60))
    # Each item copied four times into its cluster is no news; taken as independent it would halve the bar.
    assert bootstrap_interval(four_each, [i // 4 for i in range(240)]) == pytest.approx(alone)
    independent = bootstrap_interval(four_each, range(240))
    assert independent[1] - independent[0] < 0.65 * (alone[1] - alone[0])


@given(st.lists(st.tuples(st.floats(0, 1), st.integers(0, 5)), min_size=1, max_size=30), st.integers(0, 99))
def test_bounds_lie_among_the_values_and_names_do_not_count(items: list[tuple[float, int]], seed: int) -> None:
    values, clusters = [v for v, _ in items], [c for _, c in items]
    low, high = bootstrap_interval(values, clusters, seed=seed, resamples=50)
    assert min(values) - 1e-9 <= low <= high <= max(values) + 1e-9
    named = [f"picture {c}.png" for c in clusters]
    assert bootstrap_interval(values, named, seed=seed, resamples=50) == (low, high)


@given(st.integers(0, 1000))
def test_the_seed_decides(seed: int) -> None:
    values = [((i * 37) % 11) / 11 for i in range(20)]
    once = bootstrap_interval(values, range(20), seed=seed, resamples=50)
    assert once == bootstrap_interval(values, range(20), seed=seed, resamples=50)
    others = {bootstrap_interval(values, range(20), seed=seed + 1 + i, resamples=50) for i in range(5)}
    assert len(others | {once}) > 1


def test_drawing_in_parts_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    values = [float(i % 3 == 0) for i in range(35)]
    whole = bootstrap_interval(values, range(35), resamples=101)
    monkeypatch.setattr(intervals, "_CELLS", 35 * 7)
    assert bootstrap_interval(values, range(35), resamples=101) == whole


@pytest.mark.parametrize(("values", "clusters"), [([], []), ([1.0], []), ([1.0, 0.0], ["a"])])
def test_bootstrap_refuses_nothing_and_unequal_lengths(values: list[float], clusters: list[str]) -> None:
    with pytest.raises(ValueError, match="as many clusters as values"):
        bootstrap_interval(values, clusters)
