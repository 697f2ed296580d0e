"""The sums that linear regression needs of any number of rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh

Array = NDArray[np.float64]


class Solution(NamedTuple):
    """Coefficients (m, targets), the constant (targets,), and the penalties' scores."""

    coefficients: Array
    constant: Array
    alpha: float
    scores: Array


@dataclass
class NormalEquations:
    """Sums over rows with features F and targets y, in float64.

    Attributes
    ----------
    rows : int
    gram, cross : (m, m) and (m, targets) arrays
        F^T F and F^T y.
    sums, target_sums, target_squares : arrays
        Columns of F, of y and of y^2 added up.
    """

    rows: int
    gram: Array
    cross: Array
    sums: Array
    target_sums: Array
    target_squares: Array

    @classmethod
    def empty(cls, size: int, targets: int) -> NormalEquations:
        """Return the sums over no rows."""
        shapes: tuple[Any, ...] = (size, size), (size, targets), size, targets, targets
        return cls(0, *(np.zeros(shape) for shape in shapes))

    def add(self, F: NDArray[Any], y: NDArray[Any]) -> None:
        """Add rows."""
        # Products of float32 features lose what small penalties need: they are made in float64.
        F, y = F.astype(np.float64, copy=False), y.astype(np.float64, copy=False)
        self.gram += F.T @ F  # a symmetric product, of half the work
        self.cross += F.T @ y
        self.sums += F.sum(axis=0)
        self.target_sums += y.sum(axis=0)
        self.target_squares += np.sum(y * y, axis=0)
        self.rows += len(F)

    def merge(self, other: NormalEquations) -> None:
        """Add the rows that `other` has seen."""
        self.rows += other.rows
        for name in ("gram", "cross", "sums", "target_sums", "target_squares"):
            getattr(self, name)[...] += getattr(other, name)

    def solve(self, alphas: Array) -> Solution:
        """Solve the centred equations with the penalty that has the best score.

        The score is that of generalised cross-validation, n |y - f|^2 / (n - 1 - tr H)^2 with the
        hat matrix H, a sum over targets: it needs no rows, only the eigenvalues of F^T F.
        """
        mean, target_mean = self.sums / self.rows, self.target_sums / self.rows
        gram = self.gram - np.outer(self.sums, mean)
        cross = self.cross - np.outer(self.sums, target_mean)
        total = np.maximum(self.target_squares - self.target_sums * target_mean, 0)
        if len(alphas) == 1:
            from scipy.linalg import cho_factor, cho_solve

            gram[np.diag_indices_from(gram)] += alphas[0]
            found = cho_solve(cho_factor(gram, overwrite_a=True), cross)
            return Solution(found, target_mean - mean @ found, float(alphas[0]), np.zeros(0))
        values, vectors = eigh(gram, overwrite_a=True)
        values = np.maximum(values, 0)
        rotated = vectors.T @ cross
        scores = np.array([self._score(alpha, values, rotated, total) for alpha in alphas])
        best = float(alphas[int(np.argmin(scores))])
        found = vectors @ (rotated / (values + best)[:, None])
        return Solution(found, target_mean - mean @ found, best, scores)

    def _score(self, alpha: float, values: Array, rotated: Array, total: Array) -> float:
        shrunk = values + alpha
        # |y - f|^2 = y.y - 2 c.b + b.G b, with b = c / (values + alpha) in eigenvectors of G.
        squares = np.sum(rotated**2 * ((values + 2 * alpha) / shrunk**2)[:, None], axis=0)
        rest = float(np.sum(np.maximum(total - squares, 0)))
        free = self.rows - 1 - float(np.sum(values / shrunk))
        return self.rows * rest / free**2 if free > 0 else np.inf
