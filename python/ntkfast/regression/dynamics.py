"""Matrices of gradient descent on one training set, each made when it is first needed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from ntkfast.arrays.collections import Values
from ntkfast.kernels.base import Kernel
from ntkfast.kernels.evaluation import Evaluation
from ntkfast.regression.eigen import Eigen
from ntkfast.regression.krylov import Krylov, SolvedByProducts, Spaces
from ntkfast.regression.positive import factorised
from ntkfast.regression.repeated import Repeated
from ntkfast.regression.solution import SolverWarning
from ntkfast.regression.training_time import Descent, largest_eigenvalue
from ntkfast.spectrum.gram.cholesky import Cholesky
from ntkfast.support.telling import warn


class Moment(Protocol):
    """Where training stands: phi and q of the eigenvalues of the kernel, as functions of it."""

    def phi(self, B: Values) -> Values:
        """Return phi(Theta) B: of targets, the coefficients of the prediction."""

    def both(self, B: Values) -> Values:
        """Return phi (1 + q) B, what the variance has lost where Theta is its kernel."""

    def rest(self, B: Values) -> Values:
        """Return q(Theta) B, what is left of B."""


@dataclass(frozen=True, eq=False)
class Modes:
    """A moment through eigenvectors."""

    eigen: Eigen
    factors: Values
    left: Values

    def phi(self, B: Values) -> Values:
        """Return phi(Theta) B."""
        return self.eigen.times(self.factors, self.eigen.seen(B))

    def both(self, B: Values) -> Values:
        """Return phi (1 + q) B."""
        return self.eigen.times(self.factors * (1 + self.left), self.eigen.seen(B))

    def rest(self, B: Values) -> Values:
        """Return q B."""
        return self.eigen.times(self.left, self.eigen.seen(B))


@dataclass(frozen=True, eq=False)
class Solved:
    """The end of training, phi = 1 / w, through a Cholesky factor."""

    factor: Cholesky

    def phi(self, B: Values) -> Values:
        """Return Theta^-1 B."""
        return self.factor.solve(B)

    def both(self, B: Values) -> Values:
        """Return Theta^-1 B."""
        return self.factor.solve(B)

    def rest(self, B: Values) -> Values:
        """Return zeros."""
        return np.zeros(B.shape)


@dataclass(frozen=True, eq=False)
class Dynamics:
    """A network and what it is trained on.

    Attributes
    ----------
    network : network
    kind : {"ntk", "nngp"}
        Which kernel all goes by: all layers trained, or the last one alone.
    inputs : collection
    targets : (n, c) array
    ridge : float
        Added to the diagonals of both kernels.
    descent : Descent
    is_dense : bool
        Whether matrices of n x n numbers are made. If not, all are products with the kernel.
    memory : int
        Bytes for what those need.
    tol : float
        Of what they find, relative.
    """

    network: Any
    kind: str
    inputs: Any
    targets: Values
    ridge: float
    descent: Descent
    engine: str | None
    threads: int | None
    is_dense: bool
    memory: int
    tol: float

    @property
    def kernel(self) -> Kernel:
        """The kernel that training goes by."""
        kernel: Kernel = getattr(self.network, self.kind)
        return kernel

    def evaluate(self, kind: str) -> Evaluation:
        """Return one of the two kernels with the engine and the threads that were chosen."""
        return Evaluation(getattr(self.network, kind), self.engine, self.threads)

    def grams(self, X: Any, Y: Any = None) -> tuple[Values, Values]:
        """Return NNGP and the kernel of training between inputs, in one pass."""
        if self.kind == "nngp":
            nngp = theta = self.evaluate("nngp")(X, Y)
        elif hasattr(self.network, "both"):
            nngp, theta = self.network.both(X, Y, engine=self.engine, threads=self.threads)
        else:
            nngp, theta = self.evaluate("nngp")(X, Y), self.evaluate("ntk")(X, Y)
        return np.asarray(nngp, np.float64), np.asarray(theta, np.float64)

    def times(self, kind: str, B: Values) -> Values:
        """Return the matrix of a kernel with the ridge, times B."""
        if self.is_dense:
            return (self.theta if kind == self.kind else self.nngp) @ B
        found = self.evaluate(kind).matmul(self.inputs, None, B)
        return np.asarray(found, np.float64) + self.ridge * B

    @cached_property
    def largest(self) -> float:
        """The largest eigenvalue of training."""
        if self.is_dense:
            return largest_eigenvalue(self.theta)
        return largest_eigenvalue(
            self.kernel.operator(
                self.inputs, ridge=self.ridge, engine=self.engine, threads=self.threads
            )
        )

    @cached_property
    def spaces(self) -> Spaces:
        """Krylov spaces of the kernel of training."""
        return Spaces(lambda V: self.times(self.kind, V), self.tol, self.memory)

    @cached_property
    def theta(self) -> Values:
        """The Gram matrix of training with the ridge on its diagonal."""
        return self._ridged(self.evaluate(self.kind)(self.inputs))

    @cached_property
    def nngp(self) -> Values:
        """The covariance of the outputs before training, with the ridge."""
        if self.kind == "nngp":
            return self.theta
        if "theta" in self.__dict__ or not hasattr(self.network, "both"):
            return self._ridged(self.evaluate("nngp")(self.inputs))
        nngp, theta = self.grams(self.inputs)
        self.__dict__["theta"] = self._ridged(theta)
        return self._ridged(nngp)

    def _ridged(self, K: Any) -> Values:
        ridged: Values = np.asarray(K, np.float64)
        np.einsum("ii->i", ridged)[:] += self.ridge
        return ridged

    @cached_property
    def eigen(self) -> Eigen:
        """Eigenvalues and eigenvectors of `theta`."""
        return Eigen.of(self.theta.copy())

    @cached_property
    def end(self) -> Moment:
        """The end of training: solved, or of least norm if the matrix is singular to rounding."""
        if not self.is_dense:
            given = self.evaluate(self.kind), self.inputs, self.ridge, self.memory, self.tol
            return SolvedByProducts(Repeated.of(*given))
        factor = factorised(self.theta)
        if factor is not None:
            return Solved(factor)
        inverse = self.eigen.inverse()
        return Modes(self.eigen, inverse, np.where(inverse > 0, 0.0, 1.0))

    def moment(self, time: float | None, steps: int | None) -> Moment:
        """Return where training stands at a time, or after some steps.

        Raises
        ------
        ValueError
            If so many steps of this size diverge.
        """
        if time == np.inf:
            return self.end
        if not self.is_dense:
            return Krylov(self.spaces, lambda w: self._moved(w, time, steps))
        factors, left = self.modes(time, steps)
        return Modes(self.eigen, factors, left)

    def modes(self, time: float | None, steps: int | None) -> tuple[Values, Values]:
        """Return phi and q of each eigenvalue.

        Those that are 0 to rounding are taken as 0: phi grows with time, until it has the size that
        rounding errors of this size would give it; from then on the direction is left alone, as at
        the end of training.
        """
        values, cutoff = self.eigen.values, self.eigen.cutoff
        w = np.where(values > cutoff, values, 0)
        if time == np.inf and steps is None:
            inverse = self.eigen.inverse()
            return inverse, np.where(inverse > 0, 0.0, 1.0)
        factors, left = self._moved(w, time, steps)
        return np.where((w > 0) | (factors * cutoff <= 1), factors, 0), left

    def _moved(self, w: Values, time: float | None, steps: int | None) -> tuple[Values, Values]:
        """Return phi and q of eigenvalues that are not negative, before the end."""
        if steps is None:
            assert time is not None
            return self.descent.flow(w, time)
        factors, left = self.descent.steps(w, steps)
        if not (np.isfinite(factors).all() and np.isfinite(left).all()):
            raise ValueError(f"learning_rate: {steps} steps diverge and overflow, {self._beyond()}")
        if self.descent.rate * self.largest > self.descent.largest * (1 + 1e-9):
            warn(f"learning_rate: steps diverge, {self._beyond()}", SolverWarning)
        return factors, left

    def _beyond(self) -> str:
        limit = self.descent.largest * self.targets.size / self.largest
        return f"expected less than {limit:.6g}, got {self.descent.rate * self.targets.size:.6g}"
