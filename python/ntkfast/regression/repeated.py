"""Many systems with one matrix, by products alone: what they share is made once."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ntkfast.arrays.collections import Values
from ntkfast.kernels.evaluation import Evaluation
from ntkfast.regression.conjugate_gradients import GROUP, ConjugateGradients
from ntkfast.regression.preconditioner import Preconditioner, prepared
from ntkfast.regression.solution import SolverWarning
from ntkfast.regression.system import System
from ntkfast.spectrum.gram.quadrature import gauss, lanczos, radau
from ntkfast.support.telling import warn

VECTORS = 10  # arrays of the size of the right-hand sides that the iteration keeps
MAX_ITER = 1000
STEPS = 100  # of Lanczos, at most
WIDEST = 256  # right-hand sides at a time


@dataclass(eq=False)
class Repeated:
    """K + ridge I with its preconditioner and, where memory allows, its matrix.

    Attributes
    ----------
    system : System
    precondition : Preconditioner
    tol : float
        Largest relative residual of a solution; above it a `SolverWarning` is given.
    width : int
        Right-hand sides that are solved at a time.
    """

    system: System
    precondition: Preconditioner
    tol: float
    width: int

    @classmethod
    def of(
        cls,
        evaluation: Evaluation,
        inputs: Any,
        ridge: float,
        memory: int,
        tol: float,
        rank: int | None = None,
    ) -> Repeated:
        """Build the preconditioner and store the matrix, within a budget of bytes."""
        system = System(evaluation, inputs, ridge)
        most = memory // (4 * VECTORS * 8 * len(system))  # a quarter for the iteration
        width = max(GROUP, min(WIDEST, most // GROUP * GROUP))
        left = memory - VECTORS * 8 * len(system) * width
        precondition, _ = prepared(system, rank, left, np.random.default_rng(0))
        return cls(system, precondition, tol, width)

    def solve(self, B: Values) -> Values:
        """Return A with (K + ridge I) A = B."""
        found = np.empty_like(B)
        for part in self.parts(B.shape[1]):
            found[:, part] = self.solved(B[:, part])[0]
        return found

    def parts(self, columns: int) -> Iterator[slice]:
        """Yield columns that are solved at a time."""
        for first in range(0, columns, self.width):
            yield slice(first, min(first + self.width, columns))

    def solved(self, B: Values) -> tuple[Values, Values]:
        """Return A and the true residual B - (K + ridge I) A of a few columns."""
        scale = np.max(np.abs(B), axis=0)
        scale[scale == 0] = 1
        solver = ConjugateGradients(self.system, self.precondition, B / scale, self.tol)
        state, reason = solver.start(None), ""
        while not reason:
            state, reason = solver.advance(state)
            if not reason and state.iterations >= MAX_ITER:
                reason = f"{MAX_ITER} steps"
        if np.any(state.true > self.tol):
            warn(
                f"a system is not solved: residual {state.true.max():.2g} above tol = "
                f"{self.tol:g} ({reason}); expected a larger ridge or noise",
                SolverWarning,
            )
        return state.found * scale, state.residual * scale

    def log_determinant(self, count: int, random: np.random.Generator) -> tuple[float, float]:
        """Estimate log det (K + ridge I) from random signs.

        The determinant of the preconditioner P is known; of P^-1/2 (K + ridge I) P^-1/2, whose
        eigenvalues are near 1, the trace of the logarithm is estimated (Hutchinson) by Lanczos
        quadrature. Rules of Gauss and Radau bound each probe's form from both sides, as derivatives
        of the logarithm alternate.

        Returns
        -------
        value, error : float
            The standard error over the probes, and half the mean distance of both bounds.

        References
        ----------
        .. [1] J. Wenger, G. Pleiss, P. Hennig, J. Cunningham, J. Gardner, "Preconditioning for
           scalable Gaussian process hyperparameter optimization", ICML 2022.
        """
        n, P = len(self.system), self.precondition
        least = float(np.min(self.system.ridge)) * P.least_weight * (1 - 1e-6)
        found: list[Any] = []

        def log(nodes: Values) -> Values:
            return np.log(np.maximum(nodes, max(least, np.finfo(np.float64).tiny)))

        def is_enough(alphas: Values, betas: Values) -> bool:
            rules = np.array(
                [
                    (radau(a, b, log, least), gauss(a, b[:-1], log))
                    for a, b in zip(alphas.T, betas.T, strict=True)
                ]
            )
            forms = n * rules.mean(axis=1)
            truncation = n * float(np.mean(np.abs(rules[:, 1] - rules[:, 0]))) / 2
            spread = float(forms.std(ddof=1)) / math.sqrt(count)
            found[:] = float(forms.mean()), spread + truncation
            return truncation <= max(0.1 * spread, 1e-12 * n)

        def product(V: Values) -> Values:
            return P.root(self.system.exact(P.root(V)))

        signs = random.choice(np.array([-1.0, 1.0]), (n, count))
        is_enough(*lanczos(product, signs, STEPS, is_enough))
        return P.log_determinant + found[0], found[1]
