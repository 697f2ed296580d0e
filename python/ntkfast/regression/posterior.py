"""The inverse of a covariance: a factor in memory, or products with its kernel alone."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from ntkfast.arrays.collections import Values
from ntkfast.kernels.evaluation import Evaluation
from ntkfast.regression.positive import factorised
from ntkfast.regression.repeated import Repeated
from ntkfast.spectrum.gram.cholesky import Cholesky

PROBES = 16  # of a determinant


class Inverse(Protocol):
    """A^-1 with A = scale K + noise I."""

    def solve(self, B: Values) -> Values:
        """Return A^-1 B."""

    def variances(self, B: Values) -> Values:
        """Return the diagonal of B^T A^-1 B."""

    def covariances(self, B: Values) -> Values:
        """Return B^T A^-1 B."""

    def log_determinant(self) -> tuple[float, float]:
        """Return log det A, and a standard error."""


@dataclass(frozen=True, eq=False)
class Factor:
    """By a Cholesky factor."""

    factor: Cholesky

    @classmethod
    def of(cls, evaluation: Evaluation, inputs: Any, scale: float, noise: float) -> Factor | None:
        """Factorise the covariance; None where it is singular to rounding."""
        factor = factorised(covariance(evaluation, inputs, scale, noise))
        return None if factor is None else cls(factor)

    def solve(self, B: Values) -> Values:
        """Return A^-1 B."""
        return self.factor.solve(B)

    def variances(self, B: Values) -> Values:
        """Return the diagonal of B^T A^-1 B."""
        known = self.factor.forward(B)
        return np.asarray(np.einsum("ij,ij->j", known, known))

    def covariances(self, B: Values) -> Values:
        """Return B^T A^-1 B."""
        known = self.factor.forward(B)
        return known.T @ known

    def log_determinant(self) -> tuple[float, float]:
        """Return log det A, which is exact."""
        return float(np.sum(np.log(self.factor.pivots))), 0.0


@dataclass(frozen=True, eq=False)
class Products:
    """By conjugate gradients.

    Quadratic forms b^T A^-1 b are those of the solution v with residual r, b^T v + v^T r: they fall
    short by r^T A^-1 r, so that a variance is never too small, and its error is of the square of
    the tolerance.
    """

    repeated: Repeated
    scale: float

    @classmethod
    def of(
        cls,
        evaluation: Evaluation,
        inputs: Any,
        scale: float,
        noise: float,
        memory: int,
        tol: float,
    ) -> Products:
        """Prepare K + noise / scale I."""
        return cls(Repeated.of(evaluation, inputs, noise / scale, memory, tol), scale)

    def solve(self, B: Values) -> Values:
        """Return A^-1 B."""
        return self.repeated.solve(B) / self.scale

    def variances(self, B: Values) -> Values:
        """Return the diagonal of B^T A^-1 B."""
        found = np.empty(B.shape[1])
        for part in self.repeated.parts(B.shape[1]):
            V, R = self.repeated.solved(B[:, part])
            found[part] = np.einsum("ij,ij->j", B[:, part] + R, V)
        return found / self.scale

    def covariances(self, B: Values) -> Values:
        """Return B^T A^-1 B."""
        V, R = np.empty((2, *B.shape))
        for part in self.repeated.parts(B.shape[1]):
            V[:, part], R[:, part] = self.repeated.solved(B[:, part])
        return np.asarray((B + R).T @ V / self.scale)

    def log_determinant(self) -> tuple[float, float]:
        """Return log det A, and the error of its estimate."""
        found, error = self.repeated.log_determinant(PROBES, np.random.default_rng(0))
        return len(self.repeated.system) * math.log(self.scale) + found, error


def covariance(evaluation: Evaluation, inputs: Any, scale: float, noise: float) -> Values:
    """Return scale K + noise I."""
    A = np.asarray(evaluation(inputs), np.float64)
    A *= scale
    np.einsum("ii->i", A)[:] += noise
    return A
