"""Extreme eigenpairs from block products alone: LOBPCG with one product per iteration.

SciPy has this method too. Where one product is a pass over all pairs of a large data set, three
things count that it does differently: it stops when every vector of the block has converged rather
than the ones asked for, by an absolute residual, and it spends extra products on start and end.

References
----------
.. [1] A. V. Knyazev, "Toward the optimal preconditioned eigensolver: locally optimal block
   preconditioned conjugate gradient method", SIAM J. Sci. Comput. 23 (2001).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

Vectors = NDArray[np.float64]
Operator = Callable[[Vectors], Vectors]


class Eigenpairs(NamedTuple):
    """Ritz values in the order asked for, their orthonormal vectors, and how they were reached."""

    values: NDArray[np.float64]
    vectors: Vectors
    iterations: int
    converged: bool


def lobpcg(
    apply: Operator,
    start: Vectors,
    k: int,
    *,
    precondition: Operator | None = None,
    largest: bool = False,
    tol: float,
    floor: float = 0.0,
    max_iterations: int,
    report: Callable[[float], None] = lambda residual: None,
) -> Eigenpairs:
    """Return the `k` smallest or largest eigenpairs of a symmetric operator.

    Parameters
    ----------
    apply : callable
        The operator, on blocks of vectors; called once per iteration, and once before the first.
    start : (n, b) array
        First guess of full rank, b >= k.
    k : int
    precondition : callable, optional
        Approximates the inverse of the operator.
    largest : bool, default False
    tol, floor : float
        Stop when each of the k residuals is at most tol times its eigenvalue, or at most floor.
    max_iterations : int
    report : callable
        Told the largest relative residual after each iteration.
    """
    side = slice(None, None, -1) if largest else slice(None)
    size = start.shape[1]
    S = linalg.qr(start, mode="economic")[0]
    KS = apply(S)
    values, C = _ritz(S, KS, side)
    X, KX, P, KP = S @ C, KS @ C, S[:, :0], S[:, :0]
    for iteration in range(max_iterations + 1):
        R = KX - X * values[:size]
        sizes, scale = np.linalg.norm(R[:, :k], axis=0), np.abs(values[:k])
        report(float(np.max(sizes / np.maximum(scale, np.finfo(float).tiny))))
        converged = bool(np.all(sizes <= np.maximum(tol * scale, floor)))
        if converged or iteration == max_iterations:
            break
        W = R if precondition is None else precondition(R)
        S, KS = _extended(np.hstack([X, P]), np.hstack([KX, KP]), W, apply)
        values, C = _ritz(S, KS, side)
        # The next directions are what the new vectors have outside the old ones.
        outside = C[:, :size].copy()
        outside[:size] = 0
        D = linalg.qr(np.hstack([C[:, :size], outside]), mode="economic")[0][:, size:]
        C = C[:, :size]
        X, KX, P, KP = S @ C, KS @ C, S @ D, KS @ D
    return Eigenpairs(values[:k], X[:, :k], iteration, converged)


def _ritz(S: Vectors, KS: Vectors, side: slice) -> tuple[NDArray[np.float64], Vectors]:
    """Best approximations of eigenpairs within the span of the orthonormal S."""
    T = S.T @ KS
    values, C = linalg.eigh((T + T.T) / 2)
    return values[side], C[:, side]


def _extended(B: Vectors, KB: Vectors, W: Vectors, apply: Operator) -> tuple[Vectors, Vectors]:
    """Orthonormal basis of [B, W], and its product, of which that with B is known.

    Householder's QR keeps the basis orthonormal even where W adds next to nothing, and undoes
    the drift of B, which would grow from iteration to iteration.
    """
    known = B.shape[1]
    W = W / np.linalg.norm(W, axis=0).clip(np.finfo(float).tiny)
    S, R = linalg.qr(np.hstack([B, W]), mode="economic")
    KB = linalg.solve_triangular(R[:known, :known], KB.T, trans="T").T
    return S, np.hstack([KB, apply(np.ascontiguousarray(S[:, known:]))])
