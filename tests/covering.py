"""Which part of a grid of parameters stands for all of it."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Hashable, Mapping, Sequence


def covering(points: Sequence[Mapping[str, Hashable]], strength: int) -> set[int]:
    """Return which points of a grid have every combination of values of so many parameters.

    Greedy and deterministic: the point that adds the most combinations comes next, the first of
    equals. Gains only fall: an entry that stays in front when its gain is renewed has the largest.
    """
    parts = [
        set(itertools.combinations(sorted(point.items(), key=lambda item: item[0]), size))
        for point in points
        for size in [min(strength, len(point))]
    ]
    heap = [(-len(part), index) for index, part in enumerate(parts)]
    kept, covered = set(), set()
    while heap:
        _, index = heapq.heappop(heap)
        entry = (-len(parts[index] - covered), index)
        if entry[0] and heap and entry > heap[0]:
            heapq.heappush(heap, entry)
        elif entry[0]:
            kept.add(index)
            covered |= parts[index]
    return kept
