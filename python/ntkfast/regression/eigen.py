"""A Gram matrix through its eigenvalues: one decomposition serves every ridge and every time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

Values = NDArray[np.float64]
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
        return cls(*linalg.eigh(K, overwrite_a=True, check_finite=False))

    @property
    def cutoff(self) -> float:
        """What rounding makes of an eigenvalue 0: n eps times the largest."""
        return len(self.values) * EPS * max(float(self.values[-1]), 0.0)

    def inverse(self, ridge: float = 0.0) -> Values:
        """Return 1 / (w + ridge), and 0 where that is at most the cutoff: the pseudoinverse."""
        shifted = self.values + ridge
        kept = shifted > self.cutoff
        return np.where(kept, 1 / np.where(kept, shifted, 1), 0)

    def inverse_diagonal(self, ridge: float) -> Values:
        """Return the diagonal of (K + ridge I)^-1."""
        return np.asarray(self.vectors**2 @ (1 / (self.values + ridge)))

    def times(self, factors: Values, B: Values) -> Values:
        """Return U diag(factors) U^T B."""
        return np.asarray(self.vectors @ (factors[:, None] * (self.vectors.T @ B)))
