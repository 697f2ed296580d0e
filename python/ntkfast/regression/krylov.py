"""Gradient descent at any time from products with the kernel alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from scipy import linalg

from ntkfast.arrays.collections import Values
from ntkfast.regression.repeated import Repeated
from ntkfast.regression.solution import SolverWarning
from ntkfast.support.telling import warn

Product: TypeAlias = Callable[[Values], Values]  # of columns
Factors: TypeAlias = Callable[[Values], Values]  # of eigenvalues

CHECK = 5  # steps between looks at the error
STEPS = 400  # at most


class Space:
    """Krylov spaces of some columns b, which grow step by step.

    Lanczos' matrix T of b with basis V gives ``f(Theta) b`` as ``|b| V f(T) e``, which converges
    like the best polynomial for f on the spectrum, rounding included ([1]_): of an exponential the
    number of steps grows like the root of the largest eigenvalue times the time.

    References
    ----------
    .. [1] V. Druskin, L. Knizhnerman, "Error bounds in the simple Lanczos procedure for computing
       functions of symmetric matrices and eigenvalues", 1991.
    """

    def __init__(self, product: Product, B: Values) -> None:
        self._product, self._sizes = product, np.linalg.norm(B, axis=0)
        self._next = B / np.maximum(self._sizes, np.finfo(np.float64).tiny)
        self._basis: list[Values] = []
        self._alphas: list[Values] = []
        self._betas: list[Values] = []

    def __len__(self) -> int:
        return len(self._basis)

    def grow(self) -> None:
        """Take one step, which is one product."""
        V = self._next
        W = self._product(V)
        if self._basis:
            W = np.asarray(W - self._betas[-1] * self._basis[-1])
        self._alphas.append(np.sum(W * V, axis=0))
        W = W - self._alphas[-1] * V
        self._betas.append(np.linalg.norm(W, axis=0))
        self._basis.append(V)
        self._next = W / np.maximum(self._betas[-1], np.finfo(np.float64).tiny)

    def weights(self, factors: Factors) -> Values:
        """Return f(T) e for each column, (steps, c)."""
        alphas, betas = np.array(self._alphas), np.array(self._betas)
        found = [_first_column(a, b[:-1], factors) for a, b in zip(alphas.T, betas.T, strict=True)]
        return np.stack(found, axis=1)

    def combined(self, weights: Values) -> Values:
        """Return |b| V times weights."""
        found = np.zeros(self._next.shape)
        for V, own in zip(self._basis, weights * self._sizes, strict=True):
            found += V * own
        return found

    def applied(self, factors: Factors, tol: float) -> Values:
        """Return f(Theta) b; spaces grow until five more steps change it by no more than tol."""
        if not self:
            self.grow()
        weights = self.weights(factors)
        while True:
            done = len(weights)
            while len(self) < done + CHECK:
                self.grow()
            last, weights = weights, self.weights(factors)
            # Norms are those of the weights, as if the basis were orthonormal.
            change = np.linalg.norm(
                weights - np.pad(last, ((0, len(weights) - done), (0, 0))), axis=0
            )
            sizes = np.maximum(np.linalg.norm(weights, axis=0), np.finfo(np.float64).tiny)
            error = float(np.max(change / sizes))
            if error <= tol:
                break
            if len(self) >= STEPS:
                warn(
                    f"the answer is not known to tol = {tol:g}: the last of {len(self)} steps "
                    f"changed it by {error:.2g}; expected a shorter time, or a larger ridge",
                    SolverWarning,
                )
                break
        return self.combined(weights)


@dataclass(eq=False)
class Spaces:
    """Makes spaces within a budget of memory, and keeps the last one for other times.

    Parameters
    ----------
    product : function
        Returns Theta V.
    tol : float
        Of the change of a result, over its norm.
    memory : int
        Bytes of bases.
    """

    product: Product
    tol: float
    memory: int
    _last: tuple[Values, Space] | None = None

    def applied(self, factors: Factors, B: Values) -> Values:
        """Return f(Theta) B."""
        width = max(1, self.memory // (8 * len(B) * STEPS))
        if width >= B.shape[1]:
            if self._last is None or self._last[0] is not B:
                self._last = B, Space(self.product, B)
            return self._last[1].applied(factors, self.tol)
        self._last, found = None, np.empty_like(B)
        for first in range(0, B.shape[1], width):
            part = slice(first, first + width)
            found[:, part] = Space(self.product, B[:, part]).applied(factors, self.tol)
        return found


@dataclass(frozen=True, eq=False)
class Krylov:
    """A moment through Krylov spaces, given phi and q as functions of eigenvalues."""

    spaces: Spaces
    modes: Callable[[Values], tuple[Values, Values]]

    def phi(self, B: Values) -> Values:
        """Return phi(Theta) B."""
        return self.spaces.applied(lambda w: self.modes(w)[0], B)

    def both(self, B: Values) -> Values:
        """Return phi (1 + q) B."""

        def factors(w: Values) -> Values:
            phi, left = self.modes(w)
            return phi * (1 + left)

        return self.spaces.applied(factors, B)

    def rest(self, B: Values) -> Values:
        """Return q B."""
        return self.spaces.applied(lambda w: self.modes(w)[1], B)


def _first_column(a: Values, b: Values, factors: Callable[[Values], Values]) -> Values:
    """Return f(T) e_1 of a Jacobi matrix T; negative eigenvalues are rounding."""
    values, vectors = linalg.eigh_tridiagonal(a, b) if len(b) else (a, np.ones((1, 1)))
    return np.asarray(vectors @ (factors(np.maximum(values, 0)) * vectors[0]))


@dataclass(frozen=True, eq=False)
class SolvedByProducts:
    """The end of training, phi = 1 / w, by conjugate gradients."""

    repeated: Repeated

    def phi(self, B: Values) -> Values:
        """Return Theta^-1 B."""
        return self.repeated.solve(B)

    def both(self, B: Values) -> Values:
        """Return Theta^-1 B."""
        return self.repeated.solve(B)

    def rest(self, B: Values) -> Values:
        """Return zeros."""
        return np.zeros(B.shape)
