"""What `rng` stands for (SPEC 7), where one argument serves many independent streams.

A function with one stream asks `numpy.random.default_rng`; here are those that repeat something.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

import numpy as np

RNG: TypeAlias = int | np.random.Generator | None


def root(rng: RNG) -> int:
    """Return the number from which streams are derived: `rng` itself, or one that it draws.

    Parameters
    ----------
    rng : int, Generator or None
        None draws fresh ones.
    """
    if isinstance(rng, (int, np.integer)):
        return int(rng)
    return int(np.random.default_rng(rng).integers(1 << 63))


def streams(root: int, *path: int, count: int) -> Iterator[np.random.Generator]:
    """Yield generators, each with numbers of its own that depend on the path and nothing else."""
    for number in range(count):
        yield np.random.default_rng([root, *path, number])
