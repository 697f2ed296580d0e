"""A Gram matrix through its eigenvalues: one decomposition serves every ridge and every time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import linalg

from ntkfast.arrays.collections import Values
from ntkfast.arrays.panels import panels

EPS = float(np.finfo(np.float64).eps)


@dataclass(frozen=True, eq=False)
class Eigen:
    """K = U diag(w) U^T.

    Attributes
    ----------
    values : (n,) array
        Eigenvalues w, ascending; negative ones are rounding.
    vectors : (n, n) array
        Columns U.
    """

    values: Values
    vectors: Values

    @classmethod
    def of(cls, K: Values) -> Eigen:
        """Decompose a symmetric matrix, which is overwritten."""
        # LAPACK wants columns: the transpose of a symmetric matrix in rows needs no copy.
        K = K if K.flags.f_contiguous else K.T
        return cls(*linalg.eigh(K, overwrite_a=True, check_finite=False, driver="evd"))

    @property
    def cutoff(self) -> float:
        """What rounding makes of an eigenvalue 0: n eps times the largest."""
        return len(self.values) * EPS * max(float(self.values[-1]), 0.0)

    def inverse(self) -> Values:
        """Return 1 / w, and 0 where w is at most the cutoff: the pseudoinverse."""
        kept = self.values > self.cutoff
        return np.where(kept, 1 / np.where(kept, self.values, 1), 0)

    def inverse_diagonals(self, ridges: Values) -> Values:
        """Return the diagonals of (K + ridge I)^-1, one row for each ridge."""
        inverses = 1 / np.add.outer(self.values, ridges)
        found = np.empty(inverses.shape[::-1])
        for rows in panels(len(self.values), 8 * len(self.values)):
            found[:, rows] = (self.vectors[rows] ** 2 @ inverses).T
        return found

    def seen(self, B: Values) -> Values:
        """Return U^T B, which serves all products with the same B."""
        return np.asarray(self.vectors.T @ B)

    def times(self, factors: Values, seen: Values) -> Values:
        """Return U diag(factors) U^T B, of U^T B."""
        return np.asarray(self.vectors @ (factors[:, None] * seen))

    def shifted(self, ridges: Values, seen: Values) -> Values:
        """Return (K + ridge I)^-1 B of U^T B, (n, c) for each ridge, in one product."""
        inverses = 1 / np.add.outer(self.values, ridges)
        found = np.tensordot(self.vectors, inverses[:, :, None] * seen[:, None, :], axes=1)
        return np.ascontiguousarray(np.moveaxis(found, 1, 0))
