"""The sums that linear regression needs of any number of rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, cho_factor, cho_solve, eigh

Array = NDArray[np.float64]


class Solution(NamedTuple):
    """Coefficients (m, targets), the constant (targets,), and the penalties' scores."""

    coefficients: Array
    constant: Array
    alpha: float
    scores: Array


@dataclass
class NormalEquations:
    """Means and centred sums over rows with features F and targets y, in float64.

    Sums around the mean, not around zero: the difference of two sums of squares would lose all
    digits where the mean is large beside the spread.

    Attributes
    ----------
    rows : int
    mean, target_mean : (m,) and (targets,) arrays
    gram, cross : (m, m) and (m, targets) arrays
        (F - mean)^T (F - mean) and (F - mean)^T (y - target_mean).
    target_squares : (targets,) array
        Sums of (y - target_mean)^2.

    References
    ----------
    .. [1] T. Chan, G. Golub, R. LeVeque, "Algorithms for computing the sample variance: analysis
       and recommendations", The American Statistician 37, 1983.
    """

    rows: int
    mean: Array
    target_mean: Array
    gram: Array
    cross: Array
    target_squares: Array

    @classmethod
    def empty(cls, size: int, targets: int) -> NormalEquations:
        """Return the sums over no rows."""
        shapes: tuple[Any, ...] = size, targets, (size, size), (size, targets), targets
        return cls(0, *(np.zeros(shape) for shape in shapes))

    def add(self, F: NDArray[Any], y: NDArray[Any]) -> None:
        """Add rows."""
        # Products of float32 features lose what small penalties need: they are made in float64.
        size, targets = self.cross.shape
        G, z = np.empty((len(F) + 1, size)), np.empty((len(F) + 1, targets))
        mean, target_mean = F.mean(axis=0, dtype=np.float64), y.mean(axis=0, dtype=np.float64)
        np.subtract(F, mean, out=G[:-1])
        np.subtract(y, target_mean, out=z[:-1])
        # What the two means differ by counts like one more row.
        G[-1], z[-1] = self._move(len(F), mean, target_mean)
        self.gram += G.T @ G  # a symmetric product, of half the work
        self.cross += G.T @ z
        self.target_squares += np.sum(z * z, axis=0)

    def merge(self, other: NormalEquations) -> None:
        """Add the rows that `other` has seen."""
        f, t = self._move(other.rows, other.mean, other.target_mean)
        for name in ("gram", "cross", "target_squares"):
            getattr(self, name)[...] += getattr(other, name)
        self.gram += np.outer(f, f)
        self.cross += np.outer(f, t)
        self.target_squares += t * t

    def _move(self, rows: int, mean: Array, target_mean: Array) -> tuple[Array, Array]:
        """Take in the means of more rows; return what the distance adds, as a row of sums."""
        total = self.rows + rows
        if not total:
            return np.zeros_like(mean), np.zeros_like(target_mean)
        f, t = mean - self.mean, target_mean - self.target_mean
        self.mean += f * (rows / total)
        self.target_mean += t * (rows / total)
        weight = np.sqrt(self.rows * (rows / total))
        self.rows = total
        return weight * f, weight * t

    def solve(self, alphas: Array) -> Solution:
        """Solve the equations with the penalty that has the best score.

        The score is that of generalised cross-validation, n |y - f|^2 / (n - 1 - tr H)^2 with the
        hat matrix H, a sum over targets: it needs no rows, only the eigenvalues of F^T F.
        """
        if len(alphas) == 1:
            best, scores = float(alphas[0]), np.zeros(0)
            found = self._coefficients(best)
        else:
            values, vectors = eigh(self.gram)
            values = np.maximum(values, 0)
            rotated = vectors.T @ self.cross
            scores = np.array([self._score(alpha, values, rotated) for alpha in alphas])
            best = float(alphas[int(np.argmin(scores))])
            found = vectors @ (rotated / (values + best)[:, None])
        return Solution(found, self.target_mean - self.mean @ found, best, scores)

    def _coefficients(self, alpha: float) -> Array:
        gram = self.gram.copy()
        gram[np.diag_indices_from(gram)] += alpha
        try:
            return np.asarray(cho_solve(cho_factor(gram, overwrite_a=True), self.cross))
        except LinAlgError:
            least = float(np.finfo(float).eps * np.trace(self.gram))
            raise LinAlgError(
                f"alpha: expected more than the rounding error of F^T F, about {least:.2g}, "
                f"got {alpha:g}"
            ) from None

    def _score(self, alpha: float, values: Array, rotated: Array) -> float:
        shrunk = values + alpha
        # |y - f|^2 = y.y - 2 c.b + b.G b, with b = c / (values + alpha) in eigenvectors of G.
        squares = np.sum(rotated**2 * ((values + 2 * alpha) / shrunk**2)[:, None], axis=0)
        rest = float(np.sum(np.maximum(self.target_squares - squares, 0)))
        free = self.rows - 1 - float(np.sum(values / shrunk))
        return self.rows * rest / free**2 if free > 0 else np.inf
