"""Randomly pivoted Cholesky: a Gram matrix as a few of its columns, drawn where they count."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import DTypeLike, NDArray
from scipy import linalg

from ntkfast.arrays.collections import FloatArray
from ntkfast.kernels.evaluation import Evaluation

Indices = NDArray[np.intp]

BLOCK = 64  # pivots proposed at a time
# A residual below so many roundings of the diagonal is noise: the factor holds it no better.
NOISE = 32


@dataclass(frozen=True, eq=False)
class PivotedCholesky:
    """K is about F F^T, exactly in the rows and columns of the pivots.

    Attributes
    ----------
    pivots : (k,) array of int
        Rows in the order in which they were accepted.
    factor : (n, k) array
        F.
    rest : (n,) array, float64
        Diagonal of K - F F^T.
    """

    pivots: Indices
    factor: FloatArray
    rest: NDArray[np.float64]


def pivoted_cholesky(
    kernel: Evaluation,
    X: Any,
    count: int,
    generator: Generator,
    *,
    dtype: DTypeLike = np.float64,
    enough: float = 0.0,
) -> PivotedCholesky:
    """Factorise K(X, X) by randomly pivoted Cholesky, a block of proposals at a time.

    Parameters
    ----------
    kernel : Evaluation
    X : (n, d) array, or other inputs that the kernel has collected
        Evaluated in their dtype.
    count : int
        Largest number of pivots.
    generator : Generator
    dtype : float64 or float32
        Of the factor.
    enough : float, default 0
        Trace of what is left at which it ends before.

    Returns
    -------
    PivotedCholesky
        With fewer pivots where nothing but rounding is left.

    Notes
    -----
    n count^2 operations, a matrix product mostly. Proposals are drawn with the probabilities of
    what is left of the diagonal and rejected as the block uses it up, which keeps the distribution
    of the method ([1]_, [2]_).

    References
    ----------
    .. [1] Y. Chen, E. Epperly, J. Tropp, R. Webber, "Randomly pivoted Cholesky", 2023.
    .. [2] E. Epperly, J. Tropp, R. Webber, "Embrace rejection: kernel matrix approximation by
       accelerated randomly pivoted Cholesky", 2024.
    """
    first = np.asarray(kernel.diag(X), np.float64)
    rest, factor = first.copy(), np.empty((len(X), count), dtype)
    rounding = max(np.finfo(factor.dtype).eps * NOISE, len(X) * np.finfo(np.float64).eps)
    if factor.dtype == X.dtype == np.float64:
        rounding = len(X) * np.finfo(np.float64).eps
    floor = rounding * first.max()
    chosen: list[int] = []
    while len(chosen) < count and rest.max() > floor and rest.sum() > enough:
        done = len(chosen)
        # What is below the floor is no pivot: none of the proposals should be wasted on it.
        weights = np.where(rest > floor, rest, 0)
        proposed = generator.choice(len(X), min(BLOCK, count), p=weights / weights.sum())
        known = factor[proposed, :done].astype(np.float64)
        residual = kernel(X[proposed].astype(np.float64)) - known @ known.T
        kept = _accept(residual, rest[proposed], floor, generator)[: count - done]
        if not kept:
            continue
        new = proposed[kept]
        root = linalg.cholesky(residual[np.ix_(kept, kept)], lower=True)
        columns = kernel(X, X[new]).astype(factor.dtype, copy=False)
        columns -= factor[:, :done] @ factor[new, :done].T
        part = slice(done, done + len(new))
        solved = linalg.solve_triangular(root.astype(factor.dtype), columns.T, lower=True)
        factor[:, part] = solved.T
        rest -= np.einsum("ij,ij->j", solved, solved, dtype=np.float64)
        chosen += new.tolist()
        rest[chosen] = 0
        np.maximum(rest, 0, out=rest)
    return PivotedCholesky(np.array(chosen, np.intp), factor[:, : len(chosen)], rest)


def _accept(
    residual: NDArray[np.float64], start: NDArray[np.float64], floor: float, generator: Generator
) -> list[int]:
    """Accept proposals with the probability that is left of the one they were drawn with."""
    left, kept = residual.copy(), []
    for i, uniform in enumerate(generator.random(len(left))):
        pivot = left[i, i]
        if pivot > floor and uniform * start[i] < pivot:
            kept.append(i)
            left -= np.outer(left[:, i], left[i]) / pivot
    return kept
