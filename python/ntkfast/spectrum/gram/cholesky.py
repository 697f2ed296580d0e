"""Cholesky factorisation of matrices of gigabytes, in place and block by block.

Upstream: DPOTRF, the parallel Cholesky factorisation of OpenBLAS, ends the process with a
segmentation fault. Seen with OpenBLAS 0.3.30, the one that comes with SciPy 1.17.1, on x86-64
(kernels SkylakeX) with two threads and 16,000 rows, called as ``scipy.linalg.cholesky(A,
lower=True)``; not with 8,000 rows, nor with one thread. No report of just this was found in the
tracker of OpenBLAS: issue 2562 has the same signs, large matrices on two threads and no other
number, and issues 352 and 1413 crash in the same routine; all three are closed. Small blocks and
matrix products do not crash, at about the same speed.

This file goes, and ``scipy.linalg.cho_factor`` comes in its place, when the oldest SciPy that the
package allows has an OpenBLAS that factorises 16,000 and 40,000 rows on two threads.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

Matrix = NDArray[np.float64]

BLOCK = 1024


class Cholesky:
    """The factor L of a symmetric positive definite matrix A = L L^T.

    Parameters
    ----------
    A : (n, n) array
        Its lower triangle is overwritten; it must not be used while the factor is.

    Raises
    ------
    numpy.linalg.LinAlgError
        If A is not positive definite to rounding.
    """

    def __init__(self, A: Matrix) -> None:
        self._A = A
        self._corners: list[Matrix] = []
        n = len(A)
        for block in self._blocks():
            corner = linalg.cholesky(A[block, block], lower=True, check_finite=False)
            self._corners.append(corner)
            below = slice(block.stop, n)
            if block.stop < n:
                A[below, block] = _solve(corner, A[below, block].T).T
            for first in range(block.stop, n, BLOCK):
                columns = slice(first, min(first + BLOCK, n))
                rest = slice(first, n)
                A[rest, columns] -= A[rest, block] @ A[columns, block].T

    @property
    def pivots(self) -> Matrix:
        """The squares of the diagonal of L, whose product is the determinant."""
        return np.concatenate([np.diagonal(corner) ** 2 for corner in self._corners])

    def forward(self, b: Matrix) -> Matrix:
        """Return L^-1 b for a vector or the columns of a matrix."""
        x = b.astype(np.float64)
        for block, corner in zip(self._blocks(), self._corners, strict=True):
            before = slice(0, block.start)
            x[block] = _solve(corner, x[block] - self._A[block, before] @ x[before])
        return x

    def solve(self, b: Matrix) -> Matrix:
        """Return A^-1 b for a vector or the columns of a matrix."""
        x = self.forward(b)
        for block, corner in reversed(list(zip(self._blocks(), self._corners, strict=True))):
            after = slice(block.stop, len(x))
            rest = x[block] - self._A[after, block].T @ x[after]
            x[block] = _solve(corner, rest, transposed=True)
        return x

    def _blocks(self) -> list[slice]:
        n = len(self._A)
        return [slice(first, min(first + BLOCK, n)) for first in range(0, n, BLOCK)]


def _solve(corner: Matrix, b: Matrix, transposed: bool = False) -> Matrix:
    return np.asarray(
        linalg.solve_triangular(corner, b, lower=True, trans=int(transposed), check_finite=False)
    )
