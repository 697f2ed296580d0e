"""Cholesky factorisation of matrices of gigabytes, in place and block by block.

The parallel factorisation in the OpenBLAS that comes with SciPy 1.17 was seen to crash on large
matrices (two threads, 16,000 rows; not at 8,000, nor with one thread). Small blocks and matrix
products do not, at about the same speed.
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

    def solve(self, b: Matrix) -> Matrix:
        """Return A^-1 b for a vector or the columns of a matrix."""
        x = b.astype(np.float64)
        blocks = list(zip(self._blocks(), self._corners, strict=True))
        for block, corner in blocks:
            before = slice(0, block.start)
            x[block] = _solve(corner, x[block] - self._A[block, before] @ x[before])
        for block, corner in reversed(blocks):
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
