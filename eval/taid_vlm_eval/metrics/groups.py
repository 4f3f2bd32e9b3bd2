"""Groups of items that are right only together: rotations of a question, the questions of a figure or of an image.

A group may hold items of several clusters (one question on several figures). Then these clusters fall or stand together, and are
drawn as one.
"""

from collections.abc import Hashable, Sequence

import numpy as np

from taid_vlm_eval.arrays import Floats, Integers


def group_columns(values: Sequence[float], groups: Sequence[Hashable | None]) -> tuple[Floats, Floats]:
    """Which groups are all right, and how many there are, as columns.

    Both arrays, [N], are 0 but at the first item of a group: there, the first is 1 when every item of the group has the
    value 1, and the second is 1. Items whose group is None belong to none.
    """
    right_N, count_N = np.zeros(len(values)), np.zeros(len(values))
    first: dict[Hashable, int] = {}
    for place, (value, group) in enumerate(zip(values, groups, strict=True)):
        if group is None:
            continue
        head = first.setdefault(group, place)
        right_N[head] = float(value == 1.0) * (1.0 if head == place else right_N[head])
        count_N[head] = 1.0
    return right_N, count_N


def join_clusters(clusters: Sequence[Hashable] | Integers, *groupings: Sequence[Hashable | None]) -> list[int]:
    """Clusters joined wherever a group reaches over several of them, [N]."""
    clusters = clusters.tolist() if isinstance(clusters, np.ndarray) else clusters
    parent: dict[Hashable, Hashable] = {}

    def root(node: Hashable) -> Hashable:
        parent.setdefault(node, node)
        while parent[node] != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    for kind, groups in enumerate(groupings):
        for cluster, group in zip(clusters, groups, strict=True):
            if group is not None:
                parent[root((kind, group))] = root(("cluster", cluster))
    number: dict[Hashable, int] = {}
    return [number.setdefault(root(("cluster", cluster)), len(number)) for cluster in clusters]
