"""Pairs of rows that say something about the smallest eigenvalue, from one walk over all pairs."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from ntkfast.kernels.evaluation import Evaluation

Values = NDArray[np.float64]

PANEL = 512
CLOSE = 1e-10  # 1 - |cosine| below which rounding may hide the order of pairs
SAME = 8 * float(np.finfo(np.float64).eps)  # directions closer than this are equal


@dataclass(frozen=True, eq=False)
class Pairs:
    """What a walk over all pairs of rows finds.

    Attributes
    ----------
    minor, minor_rows
        Least eigenvalue of a 2 by 2 principal minor, and its rows.
    companion, companion_rows
        Least (K_ii + K_jj - 2 K_ij) / 2, and its rows.
    delta, delta_prime : float
        Least min(abs(x - y), abs(x + y)) and abs(x - y), x and y the directions of rows.
    angle : float
        Least angle between two rows.
    norms : (n,) array
    equal_norms : float or None
        The norm that all rows share to rounding, if they do.
    proportional, duplicates : tuples of tuples of int
        Groups of rows that are multiples of one another, and that are equal.
    """

    minor: float
    minor_rows: tuple[int, int]
    companion: float
    companion_rows: tuple[int, int]
    delta: float
    delta_prime: float
    angle: float
    norms: Values
    equal_norms: float | None
    proportional: tuple[tuple[int, ...], ...]
    duplicates: tuple[tuple[int, ...], ...]


def look(kernel: Evaluation, X: Values) -> Pairs:
    """Walk over all pairs of rows of X, panel by panel."""
    norms = np.linalg.norm(X, axis=1)
    directions = X / np.where(norms > 0, norms, 1)[:, None]
    diagonal = kernel.diag(X).astype(np.float64)
    least, companion = (np.inf, 0, 0), (np.inf, 0, 0)
    plus, minus = np.inf, np.inf
    close: list[tuple[int, int]] = []
    for start in range(0, len(X) - 1, PANEL):
        rows = np.arange(start, min(start + PANEL, len(X)))
        later = np.arange(start, len(X))[None, :] > rows[:, None]
        K = np.asarray(kernel(X[rows], X[start:]), np.float64)
        a, b = diagonal[rows][:, None], diagonal[start:][None, :]
        # The smaller root without cancellation: determinant over the larger root.
        large = (a + b) / 2 + np.hypot((a - b) / 2, K)
        product = np.sqrt(a * b)
        with np.errstate(invalid="ignore", divide="ignore"):
            small = (product - np.abs(K)) * (product + np.abs(K)) / large
        least = min(least, _least(np.where(later, np.nan_to_num(small), np.inf), start))
        gap = (a + b) / 2 - K
        companion = min(companion, _least(np.where(later, gap, np.inf), start))
        cosine = np.where(later, directions[rows] @ directions[start:].T, np.nan)
        plus = min(plus, _distance(directions, np.nan_to_num(cosine, nan=-2), start, 1))
        minus = min(minus, _distance(directions, np.nan_to_num(-cosine, nan=-2), start, -1))
        i, j = np.nonzero(np.abs(cosine) >= 1 - 4 * SAME)
        close += zip((i + start).tolist(), (j + start).tolist(), strict=True)
    zero = np.flatnonzero(norms == 0)
    close += pairwise(zero.tolist())
    proportional = _groups(directions, close)
    equal = float(norms.mean()) if np.ptp(norms) <= SAME * norms.max() else None
    return Pairs(
        float(least[0]),
        (int(least[1]), int(least[2])),
        float(companion[0]),
        (int(companion[1]), int(companion[2])),
        min(plus, minus),
        plus,
        2 * float(np.arcsin(min(plus / 2, 1.0))),
        norms,
        equal,
        proportional,
        _equal(X, proportional),
    )


def _least(values: Values, start: int) -> tuple[float, int, int]:
    i, j = np.unravel_index(int(np.argmin(values)), values.shape)
    return float(values[i, j]), int(i) + start, int(j) + start


def _distance(directions: Values, cosine: Values, start: int, sign: int) -> float:
    """Least distance of a direction from another (or its opposite), from their differences.

    Cosines near 1 are all the same number: those pairs are compared by their differences.
    """
    top = float(cosine.max())
    i, j = np.nonzero(cosine >= top - CLOSE)
    i, j = i[: PANEL * PANEL], j[: PANEL * PANEL]
    least = np.inf
    for part in range(0, len(i), PANEL):
        x, y = (
            directions[start + i[part : part + PANEL]],
            directions[start + j[part : part + PANEL]],
        )
        least = min(least, float(np.linalg.norm(x - sign * y, axis=1).min()))
    return least


def _groups(directions: Values, close: list[tuple[int, int]]) -> tuple[tuple[int, ...], ...]:
    """Join pairs of equal or opposite directions to groups."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    near = [
        (i, j)
        for i, j in close
        if min(
            np.abs(directions[i] - directions[j]).max(), np.abs(directions[i] + directions[j]).max()
        )
        <= SAME
    ]
    if not near:
        return ()
    n, (i, j) = len(directions), np.array(near).T
    labels = connected_components(coo_matrix((np.ones(len(i)), (i, j)), (n, n)), False)[1]
    counts = np.bincount(labels)
    members = [np.flatnonzero(labels == label) for label in np.flatnonzero(counts > 1)]
    return tuple(tuple(int(row) for row in group) for group in members)


def _equal(X: Values, groups: tuple[tuple[int, ...], ...]) -> tuple[tuple[int, ...], ...]:
    """Return the groups of equal rows within groups of proportional ones."""
    found = []
    for group in groups:
        same: dict[bytes, list[int]] = {}
        for row in group:
            same.setdefault((X[row] + 0.0).tobytes(), []).append(row)
        found += [tuple(rows) for rows in same.values() if len(rows) > 1]
    return tuple(found)
