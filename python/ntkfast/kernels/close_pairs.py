"""What derivatives of close pairs share, of images and of sequences: differences that keep digits.

Two deviations n and m of a pair are compared by n^2 - c^2 m^2, c any float near their ratio: inputs
that are multiples of each other differ by nothing.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Doubles: TypeAlias = NDArray[np.float64]


def told_apart(v: Doubles, least: Any) -> Doubles:
    """Return 0 where a distance is rounding: what has a pole there would make numbers of it."""
    return np.where(v < least, 0, v)


def inverse(a: Doubles) -> Doubles:
    """Return 1 / a, and 0 of 0."""
    return np.where(a > 0, 1 / np.where(a > 0, a, 1), 0)


def ratio_of(n: Doubles, m: Doubles) -> Doubles:
    """Return ratios of deviations, and 1 where one vanishes."""
    both = (n > 0) & (m > 0)
    return np.where(both, n * inverse(m), 1)


def lost_at(lost: Any, before: Any, p: Any, ratio: Doubles) -> Doubles:
    """Return a difference of variances for one ratio from that for another.

    Parameters
    ----------
    lost, before : arrays
        The variance of the first input less that of the second times the square of `before`.
    p : array
        Variances of the second input.
    ratio : array
    """
    return np.asanyarray(lost + (before - ratio) * (before + ratio) * p)


def squared_distances(X: Doubles, Y: Doubles) -> Doubles:
    """Return |x - y|^2 for rows x and y of two matrices."""
    gap = X - Y
    return np.asarray(np.einsum("ij,ij->i", gap, gap))


def squared_chords(X: Doubles, n: Doubles, Y: Doubles, m: Doubles) -> Doubles:
    """Return |x/n - y/m|^2 for rows x and y of two matrices, and their norms.

    With e = x - t y this is (|e|^2 - (n - t m)^2) / (t n m), t any float near n / m: rows that are
    multiples of each other differ by nothing. What is rounding of |e|^2 counts as nothing, too.
    """
    ratio = ratio_of(n, m)
    value, rest = exact_product(ratio[:, None], Y)
    gap = ((X - value) - rest) / n[:, None]
    length = ratio * m
    along = np.einsum("ij,ij->i", gap, (X + value) / (n + length)[:, None])
    whole = np.einsum("ij,ij->i", gap, gap)
    squared = whole - along**2
    return told_apart(squared, 16 * np.finfo(whole.dtype).eps * whole) * (n / length)


def exact_product(a: Doubles, b: Doubles) -> tuple[Doubles, Doubles]:
    """Return a product and its rounding error: Dekker, Numerische Mathematik 18 (1971)."""
    value = a * b
    (one, two), (three, four) = (_halves(part) for part in (a, b))
    return value, two * four - (((value - one * three) - two * three) - one * four)


def _halves(a: Doubles) -> tuple[Doubles, Doubles]:
    kept = (np.finfo(a.dtype).nmant + 2) // 2  # half of the bits
    scaled = a.dtype.type(2**kept + 1) * a
    high = scaled - (scaled - a)
    return high, a - high
