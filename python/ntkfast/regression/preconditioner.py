"""An approximate inverse of K + diag(ridge) from a partial Cholesky factor."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from functools import cached_property

import numpy as np
from numpy.random import Generator
from scipy import linalg

from ntkfast.arrays.collections import FloatArray, Values
from ntkfast.arrays.panels import panels
from ntkfast.regression.system import System
from ntkfast.spectrum.gram.cholesky import Cholesky
from ntkfast.spectrum.gram.pivoted_cholesky import PivotedCholesky, pivoted_cholesky

RANK = 10.0  # times the root of the number of rows
CHUNK = 1 << 23  # bytes of a part of a float32 factor in float64


class Preconditioner:
    """(F F^T + diag(shift))^-1 with F of randomly pivoted Cholesky, by Woodbury's formula.

    The shift is the ridge and the mean of what F leaves of the diagonal. With the ridge alone, as
    in [1]_, F's range has the eigenvalue 1 and the rest of the space all above it, up to the norm
    of the remainder over the ridge; the mean puts the rest around 1, where few eigenvalues of the
    remainder of a neural kernel are far from their mean. It also hides that F may be in float32.

    Parameters
    ----------
    found : PivotedCholesky
    ridge : float or (n,) array

    Attributes
    ----------
    rank : int
    memory : int
        Bytes.
    top : float
        Largest eigenvalue of F F^T, near that of K; their sum where ridges differ.

    References
    ----------
    .. [1] M. Diaz, E. Epperly, Z. Frangella, J. Tropp, R. Webber, "Robust, randomized
       preconditioning for kernel ridge regression", 2023, arXiv:2304.12465.
    """

    def __init__(self, found: PivotedCholesky, ridge: float | Values) -> None:
        self._factor = found.factor
        n, self.rank = found.factor.shape
        trace = sum(float(np.vdot(part, part)) for _, part in self._parts())
        # The formula subtracts numbers that are larger than their difference by trace / shift.
        floor = max(16 * np.finfo(np.float64).eps * trace, np.finfo(np.float64).tiny)
        shift = np.maximum(ridge + float(np.mean(found.rest)), floor)
        self._weights = np.broadcast_to(1 / shift.reshape(-1, 1), (n, 1))
        inner = np.zeros((self.rank, self.rank))
        for rows, part in self._parts():
            inner += part.T @ (self._weights[rows] * part)
        self.top = trace if np.ndim(ridge) else _largest_eigenvalue(inner) * float(shift)
        np.einsum("ii->i", inner)[:] += 1
        self._matrix, self._inner = inner, Cholesky(inner.copy())
        self.memory = self.rank * (n * found.factor.itemsize + 16 * self.rank)

    def __call__(self, R: Values) -> Values:
        """Return the approximate solution for right-hand sides R, in float64 arithmetic."""
        result = self._weights * R
        if self.rank:
            inside = np.zeros((self.rank, R.shape[1]))
            for rows, part in self._parts():
                inside += part.T @ result[rows]
            solved = self._inner.solve(inside)
            for rows, part in self._parts():
                result[rows] -= self._weights[rows] * (part @ solved)
        return result

    @property
    def least_weight(self) -> float:
        """The reciprocal of the largest shift."""
        return float(self._weights.min())

    @property
    def log_determinant(self) -> float:
        """The logarithm of the determinant of F F^T + diag(shift)."""
        inner = float(np.sum(np.log(self._inner.pivots))) if self.rank else 0.0
        return inner - float(np.sum(np.log(self._weights)))

    @cached_property
    def _inverse_root(self) -> Values:
        """C with (1 + G G^T)^-1/2 = 1 - G C G^T, G = F over the root of the shift.

        Of an eigenvalue l of G^T G it has 1 / (1 + l + sqrt(1 + l)): no quotient by l.
        """
        values, vectors = linalg.eigh(self._matrix)  # 1 + l
        return np.asarray(vectors / (values + np.sqrt(values)) @ vectors.T)

    def root(self, R: Values) -> Values:
        """Return P^-1/2 R, of one shift: symmetric, and twice in a row the same as a call."""
        result = R.copy()
        if self.rank:
            inside = np.zeros((self.rank, R.shape[1]))
            for rows, part in self._parts():
                inside += part.T @ result[rows]
            solved = self._weights[0] * (self._inverse_root @ inside)
            for rows, part in self._parts():
                result[rows] -= part @ solved
        return np.asarray(np.sqrt(self._weights) * result)

    def _parts(self) -> Iterator[tuple[slice, Values]]:
        """Yield the factor in float64, part by part unless it is."""
        if self._factor.dtype == np.float64:
            yield slice(None), np.asarray(self._factor, np.float64)
            return
        for rows in panels(len(self._factor), 8 * max(self.rank, 1), CHUNK):
            yield rows, self._factor[rows].astype(np.float64)


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
        enough=float(np.min(system.ridge)),  # what is left is below the ridge then: nothing to gain
    )
    if is_double and not exact:  # products with it need no conversion then
        found = PivotedCholesky(found.pivots, found.factor.astype(np.float64), found.rest)
    return Preconditioner(found, system.ridge)


def prepared(
    system: System, rank: int | None, memory: int, generator: Generator
) -> tuple[Preconditioner, float]:
    """Make the preconditioner of a system, and let what memory is left choose its products.

    Returns
    -------
    preconditioner : Preconditioner
    seconds : float
        That it took.
    """
    clock = time.perf_counter()
    # A matrix that cannot be stored leaves its share to the preconditioner.
    is_stored = 4 * len(system) ** 2 <= memory // 2
    share = memory // 2 if is_stored else memory - system.copied
    found = build(system, rank, share, generator)
    spent = time.perf_counter() - clock
    system.prepare(system.plan(memory - found.memory), memory - found.memory)
    return found, spent


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
