"""The sums that linear regression needs of any number of rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, cho_factor, cho_solve, eigh

Array = NDArray[np.float64]
LEAST_FREE = 1e-10  # share of rows that are not fitted, for a noise with some digits


class Posterior(NamedTuple):
    """What is uncertain: whitened features (m, m), noise variance (targets,), total weight."""

    mean: Array
    whiten: Array
    noise: Array
    weight: float

    def variances(self, F: NDArray[Any]) -> Array:
        """Return the variances (n, targets) of new targets at rows with these features."""
        spread = np.sum(((F - self.mean) @ self.whiten) ** 2, axis=1)
        return np.asarray((1 + 1 / self.weight + spread)[:, None] * self.noise)


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
    weight : float
        Sum of the weights of the rows, which multiply their squares.
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
    weight: float
    mean: Array
    target_mean: Array
    gram: Array
    cross: Array
    target_squares: Array

    @classmethod
    def empty(cls, size: int, targets: int) -> NormalEquations:
        """Return the sums over no rows."""
        shapes: tuple[Any, ...] = size, targets, (size, size), (size, targets), targets
        return cls(0, 0.0, *(np.zeros(shape) for shape in shapes))

    def add(self, F: NDArray[Any], y: NDArray[Any], weights: Array | None = None) -> None:
        """Add rows with positive weights, 1 by default."""
        # Products of float32 features lose what small penalties need: they are made in float64.
        size, targets = self.cross.shape
        G, z = np.empty((len(F) + 1, size)), np.empty((len(F) + 1, targets))
        mean, target_mean = _mean(F, weights), _mean(y, weights)
        np.subtract(F, mean, out=G[:-1])
        np.subtract(y, target_mean, out=z[:-1])
        if weights is not None:
            G[:-1] *= np.sqrt(weights)[:, None]
            z[:-1] *= np.sqrt(weights)[:, None]
        # What the two means differ by counts like one more row.
        weight = float(len(F)) if weights is None else float(weights.sum())
        G[-1], z[-1] = self._move(len(F), weight, mean, target_mean)
        self.gram += G.T @ G  # a symmetric product, of half the work
        self.cross += G.T @ z
        self.target_squares += np.sum(z * z, axis=0)

    def merge(self, other: NormalEquations) -> None:
        """Add the rows that `other` has seen."""
        f, t = self._move(other.rows, other.weight, other.mean, other.target_mean)
        for name in ("gram", "cross", "target_squares"):
            getattr(self, name)[...] += getattr(other, name)
        self.gram += np.outer(f, f)
        self.cross += np.outer(f, t)
        self.target_squares += t * t

    def _move(
        self, rows: int, weight: float, mean: Array, target_mean: Array
    ) -> tuple[Array, Array]:
        """Take in the means of more rows; return what the distance adds, as a row of sums."""
        total = self.weight + weight
        if not total:
            return np.zeros_like(mean), np.zeros_like(target_mean)
        f, t = mean - self.mean, target_mean - self.target_mean
        self.mean += f * (weight / total)
        self.target_mean += t * (weight / total)
        root = np.sqrt(self.weight * (weight / total))
        self.rows += rows
        self.weight = total
        return root * f, root * t

    def solve(self, alphas: Array) -> Solution:
        """Solve the equations with the penalty that has the best score.

        The score is that of generalised cross-validation, n |y - f|^2 / (n - 1 - tr H)^2 with the
        hat matrix H, a sum over targets: it needs no rows, only the eigenvalues of F^T F. Weights
        are taken as a multiple of weights with mean 1.
        """
        if len(alphas) == 1:
            best, scores = float(alphas[0]), np.zeros(0)
            found = self._coefficients(best)
        else:
            values, vectors, rotated = self._eigen()
            scores = np.array([self._score(alpha, values, rotated) for alpha in alphas])
            best = float(alphas[int(np.argmin(scores))])
            found = vectors @ (rotated / (values + best)[:, None])
        return Solution(found, self.target_mean - self.mean @ found, best, scores)

    def posterior(self, alpha: float) -> Posterior:
        """Return what targets at new rows vary by, with a prior of covariance noise / alpha I.

        The noise is |y - f|^2 / (n - 1 - tr H), target by target, of rows of weight 1.

        Raises
        ------
        ValueError
            If the features fit all rows to rounding, so that nothing tells the noise.
        """
        values, vectors, rotated = self._eigen()
        rest, free = self._rest(alpha, values, rotated)
        if not free > self.rows * LEAST_FREE:
            raise ValueError(
                f"alpha: expected one that leaves errors to tell the noise by, got {alpha:g}, with "
                f"which {len(values)} features fit {self.rows} rows"
            )
        return Posterior(self.mean, vectors / np.sqrt(values + alpha), rest / free, self.weight)

    def _eigen(self) -> tuple[Array, Array, Array]:
        """Return eigenvalues and vectors of F^T F, and F^T y in these."""
        values, vectors = eigh(self.gram)
        return np.maximum(values, 0), vectors, vectors.T @ self.cross

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

    def _rest(self, alpha: float, values: Array, rotated: Array) -> tuple[Array, float]:
        """Return |y - f|^2 for every target, and n - 1 - tr H."""
        shrunk = values + alpha
        # |y - f|^2 = y.y - 2 c.b + b.G b, with b = c / (values + alpha) in eigenvectors of G.
        squares = np.sum(rotated**2 * ((values + 2 * alpha) / shrunk**2)[:, None], axis=0)
        free = self.rows - 1 - float(np.sum(values / shrunk))
        return np.maximum(self.target_squares - squares, 0), free

    def _score(self, alpha: float, values: Array, rotated: Array) -> float:
        rest, free = self._rest(alpha, values, rotated)
        mean = float(np.sum(rest)) / self.weight
        return float(self.rows**2 * mean / free**2) if free > 0 else np.inf


def _mean(values: NDArray[Any], weights: Array | None) -> Array:
    """Return the mean of rows in float64."""
    if weights is None:
        return np.asarray(values.mean(axis=0, dtype=np.float64))
    return np.asarray(weights @ values / weights.sum(), np.float64)
