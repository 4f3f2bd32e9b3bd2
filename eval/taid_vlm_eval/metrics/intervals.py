"""Error bars: a bootstrap that respects clusters, and Wilson's interval for plain proportions.

Several questions on one image succeed or fail together. Treating them as independent makes an error bar too narrow, so whole
clusters (images) are resampled, never single questions.
"""

from collections.abc import Hashable, Sequence

import numpy as np

Z_95 = 1.959963984540054  # 97.5 % quantile of the normal distribution
RESAMPLES = 2000
_CELLS = 250_000  # drawn indices held at a time: 2 MB, and as much for each step that is made of them


def bootstrap_interval(
    values: Sequence[float],
    clusters: Sequence[Hashable],
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
    level: float = 0.95,
) -> tuple[float, float]:
    """Percentile interval of the mean of ``values``, by drawing whole clusters with replacement.

    The mean of a resample is its sum over its count, so clusters may differ in size. Equal inputs give equal intervals:
    only the seed decides the draws, and the names of the clusters do not matter. Below some 30 clusters it covers
    less than it says, as every percentile bootstrap does.

    Args:
        values: one score per item, [N].
        clusters: the group each item belongs to, [N].
        seed: of the draws.
        resamples: how many draws of all clusters.
        level: share of the resampled means inside the interval.

    Raises:
        ValueError: no values, or unequal lengths.
    """
    tail = (1 - level) / 2
    low, high = np.quantile(bootstrap_means(values, clusters, seed=seed, resamples=resamples), [tail, 1 - tail])
    return float(low), float(high)


def bootstrap_means(
    values: Sequence[float] | np.ndarray,
    clusters: Sequence[Hashable] | np.ndarray,
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> np.ndarray:
    """The mean in each draw, [R]; see :func:`bootstrap_interval`.

    Other values with the same clusters and seed are drawn alike, so means of two models can be compared draw by draw.
    """
    if len(values) == 0 or len(values) != len(clusters):
        raise ValueError(f"need as many clusters as values and at least one, got {len(clusters)} and {len(values)}")
    cluster_of_item_N = as_numbers(clusters)
    sums_C = np.bincount(cluster_of_item_N, weights=np.asarray(values, dtype=np.float64))
    counts_C = np.bincount(cluster_of_item_N)
    generator = np.random.default_rng(seed)
    means = []
    at_once = max(1, _CELLS // len(sums_C))
    for start in range(0, resamples, at_once):
        rows = min(at_once, resamples - start)
        drawn_RC = generator.integers(0, len(sums_C), size=(rows, len(sums_C)))
        means.append(sums_C[drawn_RC].sum(axis=1) / counts_C[drawn_RC].sum(axis=1))
    return np.concatenate(means)


def as_numbers(clusters: Sequence[Hashable] | np.ndarray) -> np.ndarray:
    """Clusters by the order in which they come first, [N]; an array is taken to hold such numbers already."""
    if isinstance(clusters, np.ndarray):
        return clusters
    index: dict[Hashable, int] = {}
    return np.array([index.setdefault(cluster, len(index)) for cluster in clusters])


def wilson_interval(successes: float, trials: int, z: float = Z_95) -> tuple[float, float]:
    """Wilson's score interval of a proportion; sensible also at 0 and 1, where a bootstrap has no width.

    E. B. Wilson, "Probable Inference, the Law of Succession, and Statistical Inference", 1927.

    Args:
        successes: how many trials succeeded; a fraction is allowed (a sum of scores in [0, 1]).
        trials: how many independent trials.
        z: normal quantile of the level.

    Raises:
        ValueError: no trials, or successes outside [0, trials].
    """
    if trials < 1 or not 0 <= successes <= trials:
        raise ValueError(f"need 0 <= successes <= trials and trials >= 1, got {successes} of {trials}")
    share = successes / trials
    scale = 1 + z * z / trials
    centre = (share + z * z / (2 * trials)) / scale
    half = z / scale * (share * (1 - share) / trials + z * z / (4 * trials * trials)) ** 0.5
    # Rounding may leave the interval on the wrong side of the share it describes when that is 0 or 1.
    return max(0.0, min(centre - half, share)), min(1.0, max(centre + half, share))
