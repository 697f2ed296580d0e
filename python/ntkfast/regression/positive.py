"""Whether a Gram matrix can be solved with, and its factor if so."""

from __future__ import annotations

import numpy as np

from ntkfast.arrays.collections import Values
from ntkfast.regression.eigen import EPS
from ntkfast.spectrum.gram.cholesky import Cholesky

STEPS = 4  # of the inverse iteration: the smallest eigenvalue within a small factor


def factorised(A: Values) -> Cholesky | None:
    """Return the factor of a symmetric matrix, or None where it is singular to rounding.

    That is where the smallest eigenvalue is at most n eps times the largest.

    Parameters
    ----------
    A : (n, n) array
        Left as it is.
    """
    top = float(np.max(np.diagonal(A)))
    if not top > 0:
        return None
    # Norms of rows are at most the largest eigenvalue; over `top` no square of them overflows.
    least = len(A) * EPS * float(np.max(np.linalg.norm(A / top, axis=1)))
    try:
        factor = Cholesky(A.copy())
    except np.linalg.LinAlgError:
        return None
    if float(factor.pivots.min()) / top <= least:
        return None
    vector = np.random.default_rng(0).standard_normal(len(A))
    for _ in range(STEPS):
        vector = factor.solve(vector * (top / np.linalg.norm(vector)))
    return factor if np.linalg.norm(vector) * least < 1 else None


def symmetrised(C: Values) -> Values:
    """Return the symmetric part, symmetric to the bit."""
    return np.asarray((C + C.T) / 2)


def clipped(C: Values) -> Values:
    """Return covariances (..., m, m), changed in place: no variance is negative by rounding."""
    diagonal = np.einsum("...ii->...i", C)
    diagonal[...] = np.maximum(diagonal, 0)
    return C


def deviations(variances: Values) -> Values:
    """Return standard deviations of variances that rounding may have made negative."""
    return np.asarray(np.sqrt(np.maximum(variances, 0)))
