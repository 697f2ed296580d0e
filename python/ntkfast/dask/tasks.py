"""What a worker does: kernels of blocks of inputs, on one thread."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ntkfast.arrays.collections import FloatArray, Values
from ntkfast.arrays.ragged import joined
from ntkfast.kernels.base import Kernel
from ntkfast.kernels.group_products import of_groups, product, validated


def diagonal(kernel: Kernel, X: Any) -> FloatArray:
    """Return the kernel of each input with itself."""
    return kernel.diag(X)


def tile(kernel: Kernel, X: Any, Y: Any, engine: str | None) -> FloatArray:
    """Return K(X, Y), symmetric where Y is None."""
    return kernel(X, Y, engine=engine, threads=1)


def products(calls: Sequence[Sequence[Any]]) -> list[FloatArray]:
    """Return K(X, Y) V of blocks of X that follow each other, as one machine finds it.

    Calls are (kernel, X, Y, V, engine), alike but for X.
    """
    kernel, _, Y, V, engine = calls[0]
    blocks = [call[1] for call in calls]
    found = product(kernel, _one(blocks), _one(Y), _aligned(_one(V)), engine)
    return np.split(found, np.cumsum([len(block) for block in blocks[:-1]]))


def group_products(calls: Sequence[Sequence[Any]]) -> list[list[Values | None]]:
    """Return what pairs of groups add to K(X, X) V: to the rows of either, or of the only one.

    Calls are (kernel, X, V, groups, engine, pair), of all inputs or of two parts that are the
    groups; `pair` is their `BlockPair`. Where all that was added to a group so far was found here,
    the sums travel once: with the last call, and None with those before.
    """
    found: list[list[Values | None]] = []
    last: dict[int, tuple[list[Values | None], int]] = {}  # of groups that began here
    seen: list[Any] = []
    for kernel, X, V, groups, engine, pair in calls:
        if len(seen) != len(V) or any(one is not other for one, other in zip(seen, V, strict=True)):
            seen, factor = V, _aligned(_one(V))
        out = of_groups(kernel, validated(kernel, _one(X)), factor, groups, engine)
        parts: list[Values | None] = []
        both = (
            (pair.first, pair.turn_first, groups.rows),
            (pair.second, pair.turn_second, groups.columns),
        )
        for group, turn, rows in both[: 1 if pair.first == pair.second else 2]:
            part = out[rows]
            if group in last:
                before, place = last[group]
                part, before[place] = before[place] + part, None
            if group in last or turn == 0:
                last[group] = parts, len(parts)
            parts.append(part)
        found.append(parts)
    return found


def _aligned(V: FloatArray) -> FloatArray:
    """Return numbers that lie where compiled code may read them: messages do not care."""
    return np.require(V, requirements="A")


def _one(parts: Sequence[Any]) -> Any:
    return parts[0] if len(parts) == 1 else joined(parts)
