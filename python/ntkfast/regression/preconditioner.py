"""An approximate inverse of K + ridge I from a partial Cholesky factor."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from ntkfast.arrays.collections import FloatArray
from ntkfast.arrays.panels import panels
from ntkfast.regression.system import System
from ntkfast.spectrum.gram.cholesky import Cholesky
from ntkfast.spectrum.gram.pivoted_cholesky import PivotedCholesky, pivoted_cholesky

Values = NDArray[np.float64]

RANK = 10.0  # times the root of the number of rows
CHUNK = 1 << 23  # bytes of a part of a float32 factor in float64


class Preconditioner:
    """(F F^T + shift I)^-1 with F of randomly pivoted Cholesky, by Woodbury's formula.

    The shift is the ridge and the mean of what F leaves of the diagonal. With the ridge alone, as
    in [1]_, F's range has the eigenvalue 1 and the rest of the space all above it, up to the norm
    of the remainder over the ridge; the mean puts the rest around 1, where few eigenvalues of the
    remainder of a neural kernel are far from their mean. It also hides that F may be in float32.

    Parameters
    ----------
    found : PivotedCholesky
    ridge : float

    Attributes
    ----------
    rank : int
    memory : int
        Bytes.
    top : float
        Largest eigenvalue of F F^T, near that of K.

    References
    ----------
    .. [1] M. Diaz, E. Epperly, Z. Frangella, J. Tropp, R. Webber, "Robust, randomized
       preconditioning for kernel ridge regression", 2023, arXiv:2304.12465.
    """

    def __init__(self, found: PivotedCholesky, ridge: float) -> None:
        self._factor = found.factor
        self.rank = found.factor.shape[1]
        inner = np.zeros((self.rank, self.rank))
        for part in self._parts():
            inner += part.T @ part
        # The formula subtracts numbers that are larger than their difference by trace / shift.
        rounding = 16 * np.finfo(np.float64).eps * float(np.trace(inner))
        self._shift = max(ridge + float(np.mean(found.rest)), rounding, np.finfo(np.float64).tiny)
        self.top = _largest_eigenvalue(inner)
        np.einsum("ii->i", inner)[:] += self._shift
        self._inner = Cholesky(inner)
        self.memory = self.rank * (len(found.factor) * found.factor.itemsize + 8 * self.rank)

    def __call__(self, R: Values) -> Values:
        """Return the approximate solution for right-hand sides R, in float64 arithmetic."""
        if not self.rank:
            return R / self._shift
        inside, first = np.zeros((self.rank, R.shape[1])), 0
        for part in self._parts():
            inside += part.T @ R[first : first + len(part)]
            first += len(part)
        weights, first = self._inner.solve(inside), 0
        result = R.copy()
        for part in self._parts():
            result[first : first + len(part)] -= part @ weights
            first += len(part)
        result /= self._shift
        return result

    def _parts(self) -> Any:
        """Yield the factor in float64, part by part unless it is."""
        if self._factor.dtype == np.float64:
            yield self._factor
            return
        for rows in panels(len(self._factor), 8 * max(self.rank, 1), CHUNK):
            yield self._factor[rows].astype(np.float64)


def default_rank(n: int) -> int:
    """Return the rank that balances building the factor with what it saves."""
    return min(n, math.ceil(RANK * math.sqrt(n)))


def build(system: System, rank: int | None, memory: int, generator: Generator) -> Preconditioner:
    """Make a preconditioner within a budget of memory.

    Parameters
    ----------
    system : System
    rank : int, optional
        Default: 10 sqrt(n), or what fits.
    memory : int
        Bytes for it.
    generator : Generator

    Raises
    ------
    ValueError
        If a rank that was asked for needs more memory.
    """
    n, wanted = len(system), default_rank(len(system)) if rank is None else min(rank, len(system))
    inner = 24 * wanted * wanted  # the small matrix, its factor, and what works on them
    is_double = 8 * n * wanted + inner <= memory
    if not is_double and 4 * n * wanted + inner > memory:
        if rank is not None:
            raise ValueError(
                f"memory: expected at least {4 * n * wanted + inner} bytes for a preconditioner of "
                f"rank {wanted}, got {memory}; lower the rank"
            )
        wanted = int(max(memory, 0) // (4 * n + 24 * wanted))
    exact = system.inputs.dtype == np.float64
    found = pivoted_cholesky(
        system.evaluation,
        system.inputs,
        wanted,
        generator,
        dtype=np.float64 if is_double and exact else np.float32,
        enough=system.ridge,  # what is left is below the ridge then: nothing to gain
    )
    if is_double and not exact:  # products with it need no conversion then
        found = PivotedCholesky(found.pivots, found.factor.astype(np.float64), found.rest)
    return Preconditioner(found, system.ridge)


def _largest_eigenvalue(A: FloatArray) -> float:
    """Return the largest eigenvalue of a semidefinite matrix, a little below it at worst."""
    if not len(A):
        return 0.0
    v = A.sum(axis=1)
    for _ in range(8):
        size = float(np.linalg.norm(v))
        if not size:
            return float(np.trace(A)) / len(A)
        v = A @ (v / size)
    return float(np.linalg.norm(v))
