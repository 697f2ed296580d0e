"""Kernels as power series in the cosine when the norms of the rows differ.

A kernel that is invariant under rotations is

    K(x, y) = r(|x|) r(|y|) sum_l b_l(|x|, |y|) u^l,    r(|x|)^2 = K(x, x), u the cosine,

and each b_l is a positive semidefinite function of the norms if K is one in every dimension
(Schoenberg). It is smooth, so that a few functions of the norm carry it: b_l = sum_j f_lj(|x|)
f_lj(|y|). For one hidden layer it is one function: the r_l of Han, Zandieh et al. (2022).
"""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import BarycentricInterpolator

from ntkfast.kernels.rows import RowKernel
from ntkfast.support.progress import track

Array = NDArray[np.float64]

CIRCLE, POINTS = 0.95, 1024  # Cauchy's integral: radius and number of points
MOST_POWERS = 200  # CIRCLE^-200 is 3e4: rounding stays below 1e-11
RANK = 8  # functions of the norm per degree, at most
NEGLIGIBLE = 1e-4  # share of a degree that may be left out
MARGIN = 2.0  # how far beyond the norms of the training rows the functions of the norm go
PAIRS = 16  # of norms that a bar counts as one
STEP = 0.05  # of the logarithm of the norm between two rows of a table


def nodes(norms: NDArray[Any]) -> tuple[Array, Array]:
    """Return Chebyshev nodes for the logarithms of norms like these, and a fine, even grid."""
    positive = norms[norms > 0].astype(np.float64)
    low, high = np.log(positive.min() / MARGIN), np.log(positive.max() * MARGIN)
    count = int(np.clip(10 + 3 * (high - low), 12, 48))
    angles = (np.arange(count) + 0.5) * (np.pi / count)
    rows = int(np.clip(np.ceil((high - low) / STEP) + 1, 2, 65))
    return (low + high) / 2 - (high - low) / 2 * np.cos(angles), np.linspace(low, high, rows)


def power_series(kernel: RowKernel, dim: int, logs: Array) -> Array:
    """Return b_l at pairs of norms, (MOST_POWERS + 1, n, n) for n logarithms of norms.

    Raises
    ------
    TypeError
        If the kernel is of a kind whose continuation to complex cosines is not known.
    """
    return _power_series(kernel, dim, logs.tobytes())


@lru_cache(maxsize=16)
def _power_series(kernel: RowKernel, dim: int, logs: bytes) -> Array:
    """Compute once what several draws for the same rows share."""
    radii = np.exp(np.frombuffer(logs))
    left, right = np.triu_indices(len(radii))
    u = CIRCLE * np.exp(2j * np.pi / POINTS * np.arange(POINTS // 2 + 1))
    values = np.empty((len(left), len(u)), np.complex128)
    for first in track(range(0, len(left), PAIRS), None, "power series", "parts"):
        part = slice(first, first + PAIRS)
        norms = radii[left[part], None], radii[right[part], None]
        values[part] = kernel.at_complex_cosines(dim, *norms, u[None, :])
    top = np.sqrt(np.asarray(kernel.diagonal_of(radii, dim), np.float64))
    values /= (top[left] * top[right])[:, None]
    # Coefficients are real, so that half of the circle is enough.
    found = np.fft.irfft(values.conj(), POINTS, axis=1)[:, : MOST_POWERS + 1]
    found *= CIRCLE ** -np.arange(MOST_POWERS + 1.0)
    result = np.empty((MOST_POWERS + 1, len(radii), len(radii)))
    result[:, left, right] = result[:, right, left] = found.T
    result.flags.writeable = False
    return result


def multiples(dim: int, count: int) -> Array:
    """Return c with u^l = sum_k c[l, k] P_k(u), all non-negative, for l <= MOST_POWERS, k < count.

    From u P_k = ((k + 2 lam) P_{k+1} + k P_{k-1}) / (2 (k + lam)), the recurrence of Gegenbauer
    polynomials with P_k(1) = 1 and lam = (dim - 2) / 2.
    """
    lam = (dim - 2) / 2
    k = np.arange(MOST_POWERS + 1)
    bottom = np.where(k + lam == 0, 1.0, 2 * (k + lam))
    up = np.where(k + lam == 0, 1.0, (k + 2 * lam) / bottom)
    result = np.zeros((MOST_POWERS + 1, MOST_POWERS + 1))
    result[0, 0] = 1
    for before, after in pairwise(result):
        after[1:] = (up * before)[:-1]
        after[:-1] += (k / bottom * before)[1:]
    return result[:, :count]


def functions(series: Array, logs: Array, grid: Array) -> tuple[list[Array], float]:
    """Factor symmetric positive semidefinite matrices over the norms: F F^T on the fine grid.

    Parameters
    ----------
    series : (degrees, n, n) array
        For the nodes `logs`.

    Returns
    -------
    factors : list of (rows, rank) arrays
        One for each degree, with ranks from 1 to RANK.
    missing : float
        The largest part of the diagonal sum, over the nodes, that was left out.

    Raises
    ------
    ValueError
        If a matrix has a negative eigenvalue: the kernel is not positive definite.
    """
    factors, lost = [], np.zeros(len(logs))
    for degree, matrix in enumerate(series):
        values, vectors = np.linalg.eigh(matrix)
        if values[0] < -1e-7 * len(logs):
            raise ValueError(
                f"kernel: expected a positive definite kernel, the coefficient of degree {degree} "
                f"has the eigenvalue {values[0]:.3g}"
            )
        kept = np.flatnonzero(values > max(NEGLIGIBLE * values[-1], 1e-12))[::-1][:RANK]
        kept = kept if len(kept) else np.array([len(values) - 1])
        root = vectors[:, kept] * np.sqrt(np.maximum(values[kept], 0))
        lost += np.maximum(np.diagonal(matrix) - np.sum(root**2, axis=1), 0)
        factors.append(np.asarray(BarycentricInterpolator(logs, root)(grid)))
    return factors, float(lost.max())
