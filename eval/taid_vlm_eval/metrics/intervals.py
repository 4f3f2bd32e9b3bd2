"""Error bars: a bootstrap that respects clusters, and Wilson's interval for plain proportions.

Several questions on one image succeed or fail together. Treating them as independent makes an error bar too narrow, so whole
clusters (images) are resampled, never single questions.
"""

from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from taid_vlm_eval.arrays import Floats, Integers

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
    values: Sequence[float] | Floats,
    clusters: Sequence[Hashable] | Integers,
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Floats:
    """The mean in each draw, [R]; see :func:`bootstrap_interval`.

    Other values with the same clusters and seed are drawn alike, so means of two models can be compared draw by draw.
    """
    if len(values) == 0 or len(values) != len(clusters):
        raise ValueError(f"need as many clusters as values and at least one, got {len(clusters)} and {len(values)}")
    numbers_N, values_N = as_numbers(clusters), np.asarray(values, dtype=np.float64)
    sums_R2 = drawn_sums(sums_of([values_N, np.ones(len(values_N))], numbers_N), seed=seed, resamples=resamples)
    means_R: Floats = sums_R2[:, 0] / sums_R2[:, 1]
    return means_R


@dataclass(frozen=True)
class ClusterSums:
    """Columns of numbers, each added up over the items of each cluster; only sums other than 0 are kept.

    Attributes:
        clusters: how many there are.
        columns: of each column, the clusters whose sum is not 0, and these sums.
    """

    clusters: int
    columns: list[tuple[Integers | slice, Floats]]

    def total(self) -> Floats:
        """The sums over all items, [K]."""
        return np.array([sums_c.sum() for _, sums_c in self.columns])

    def behind(self, columns: Iterable[int]) -> int:
        """How many clusters have a sum above 0 in any of the columns, which hold nothing below 0."""
        any_C = np.zeros(self.clusters, dtype=bool)
        for column in columns:
            places, sums_c = self.columns[column]
            any_C[places] |= sums_c > 0
        return int(any_C.sum())


def sums_of(columns: Iterable[Floats], numbers_N: Integers) -> ClusterSums:
    """Each column, [N], added up by cluster. Columns are looked at one at a time, so they may be made as they are wanted.

    Raises:
        ValueError: a column of another length.
    """
    clusters = int(numbers_N.max()) + 1
    kept: list[tuple[Integers | slice, Floats]] = []
    for column_N in columns:
        if len(column_N) != len(numbers_N):
            raise ValueError(f"need as many clusters as items, got {len(numbers_N)} and {len(column_N)}")
        sums_C: Floats = np.bincount(numbers_N, weights=column_N, minlength=clusters).astype(np.float64, copy=False)
        places = np.flatnonzero(sums_C).astype(np.int32)
        kept.append((slice(None), sums_C) if len(places) > clusters // 2 else (places, sums_C[places]))
    return ClusterSums(clusters, kept)


def drawn_sums(sums: ClusterSums, *, seed: int, resamples: int) -> Floats:
    """The sums of the columns in each draw of all clusters, [R, K]. Seed and number of clusters alone decide what is drawn."""
    drawn_RK = np.empty((resamples, len(sums.columns)))
    done = 0
    for times_rC in _draws(sums.clusters, seed, resamples):
        rows = slice(done, done := done + len(times_rC))
        for column, (places, sums_c) in enumerate(sums.columns):
            # Taking is twice as fast as indexing here.
            of_them = times_rC if isinstance(places, slice) else times_rC.take(places, axis=1)
            drawn_RK[rows, column] = of_them @ sums_c
    return drawn_RK


def _draws(clusters: int, seed: int, resamples: int) -> Iterator[Floats]:
    """How often each cluster is drawn, [r, C], a few draws at a time."""
    generator = np.random.default_rng(seed)
    at_once = max(1, _CELLS // clusters)
    for start in range(0, resamples, at_once):
        rows = min(at_once, resamples - start)
        drawn_rC = generator.integers(0, clusters, size=(rows, clusters))
        drawn_rC += np.arange(rows)[:, None] * clusters
        times = np.bincount(drawn_rC.ravel(), minlength=rows * clusters)
        yield times.reshape(rows, clusters).astype(np.float64)


def as_numbers(clusters: Sequence[Hashable] | Integers) -> Integers:
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
