"""Block conjugate gradients whose residuals are replaced by true ones."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from ntkfast.arrays.collections import Values
from ntkfast.regression.solution import Entry
from ntkfast.regression.system import System

GROUP = 16  # right-hand sides that share a Krylov space
REPLACE = 1e-3  # of the last true residual: further the recurrence is not trusted in float32
SAFE = 0.8  # times the tolerance: where the recurrence hands over to a true residual
ENOUGH = 0.5  # of the last true residual: less is a stall
PROGRESS = 0.1  # of the same: float32 that gains less, and says it gained ten times more, goes
SWOLLEN = 1e3  # times the last true residual: a recurrence that has lost its way
STALLS = 2  # float64 residuals without progress in a row: nothing more is to be had


@dataclass(frozen=True, eq=False)
class State:
    """An iteration between two steps; all that a checkpoint must hold.

    Attributes
    ----------
    found, residual : (n, c) arrays
        Solutions and residuals of the recurrence.
    directions, images : (n, k) arrays
        Last search directions, orthonormal group by group, and their products.
    owners : (k,) array of int
        The group of each direction.
    true, best : (c,) arrays
        Norms of the last and of the least true residuals, over those of the right-hand sides.
    single : bool
        Whether float32 is still trusted.
    stalls : int
    history : tuple of Entry
    """

    found: Values
    residual: Values
    directions: Values
    images: Values
    owners: NDArray[np.intp]
    true: Values
    best: Values
    single: bool
    stalls: int = 0
    history: tuple[Entry, ...] = ()

    @property
    def iterations(self) -> int:
        """Steps so far."""
        return self.history[-1].iteration if self.history else 0


class BreakdownError(ArithmeticError):
    """A direction along which the matrix is not positive."""


@dataclass
class ConjugateGradients:
    """Solves a system for many right-hand sides, preconditioned, with true residuals.

    Search directions of up to 16 right-hand sides form one block: each solution is the best one of
    the sum of their Krylov spaces. Directions are orthonormal, which keeps blocks stable that
    nearly lose rank ([1]_), and conjugate to the last ones explicitly, not by a ratio of
    residuals. So the residual may be replaced by a true one at any time without starting again
    ("reliable updates", [2]_), which is done where float32 products can no longer be trusted: each
    time it has fallen by 1e-3, and in the end.

    Parameters
    ----------
    system : System
    precondition : callable
    targets : (n, c) array
        Columns have norms near 1, or are zero.
    tol : float
    began : float
        Clock of the solver's start.

    References
    ----------
    .. [1] A. Dubrulle, "Retooling the method of block conjugate gradients", ETNA 12, 2001.
    .. [2] M. Clark, R. Babich, K. Barros, R. Brower, C. Rebbi, "Solving lattice QCD systems of
       equations using mixed precision solvers on GPUs", 2010, arXiv:0911.3191.
    """

    system: System
    precondition: Callable[[Values], Values]
    targets: Values
    tol: float
    began: float = field(default_factory=time.perf_counter)

    def __post_init__(self) -> None:
        sizes = np.linalg.norm(self.targets, axis=0)
        self._sizes = np.where(sizes > 0, sizes, 1)

    def start(self, found: Values | None) -> State:
        """Return the state before the first step, from zero or from a guess."""
        n, c = self.targets.shape
        none = np.empty((n, 0))
        state = State(
            np.zeros((n, c)) if found is None else found,
            self.targets.copy(),
            none,
            none,
            np.empty(0, np.intp),
            np.where(np.any(self.targets, axis=0), 1.0, 0.0),
            np.full(c, np.inf),
            self.system.is_single,
        )
        if found is not None:
            return self._replaced(state)
        return replace(state, best=state.true)

    def estimates(self, state: State) -> Values:
        """Return the relative residuals of the recurrence."""
        return np.asarray(np.linalg.norm(state.residual, axis=0) / self._sizes)

    def advance(self, state: State) -> tuple[State, str]:
        """Return the next state, or the same one and why there is none."""
        if not np.any(state.true > self.tol):
            return state, "converged"
        if state.stalls >= STALLS:
            return state, "stagnation: rounding lets the residual fall no further"
        try:
            return self._step(state), ""
        except BreakdownError:
            if not state.single:
                return state, "breakdown: the matrix is not positive definite to rounding"
            return self._replaced(self._without_single(self._fresh(state))), ""

    def _step(self, state: State) -> State:
        """Take one step, and a true residual where it is time for one."""
        open_ = np.flatnonzero((state.true > self.tol) & (self.estimates(state) > self._goal))
        directions, owners = self._directions(state, open_)
        images = self.system.fast(directions) if state.single else self.system.exact(directions)
        found, residual = state.found.copy(), state.residual.copy()
        for group in np.unique(owners):
            mine = owners == group
            P, Q = directions[:, mine], images[:, mine]
            # Columns that wait take part: it costs no product. Those that are done do not change.
            part = np.flatnonzero(state.true > self.tol)
            part = part[part // GROUP == group]
            steps = _solved(P.T @ Q, P.T @ residual[:, part])
            found[:, part] += P @ steps
            residual[:, part] -= Q @ steps
        state = replace(
            state,
            found=found,
            residual=residual,
            directions=directions,
            images=images,
            owners=owners,
        )
        estimates = self.estimates(state)
        entry = Entry(state.iterations + 1, self._seconds, estimates, False)
        state = replace(state, history=(*state.history, entry))
        left = state.true > self.tol
        reached = estimates[left] <= self._goal
        trusted = estimates[left] > REPLACE * state.true[left]
        lost = not np.all(estimates[left] <= SWOLLEN * state.true[left])  # also for NaN
        if reached.all() or lost or (state.single and not trusted[~reached].all()):
            return self._replaced(state)
        return state

    @property
    def _goal(self) -> float:
        return SAFE * self.tol if self.system.is_single else self.tol

    @property
    def _seconds(self) -> float:
        return time.perf_counter() - self.began

    def _directions(self, state: State, part: NDArray[np.intp]) -> tuple[Values, NDArray[np.intp]]:
        """Return search directions of these columns, orthonormal and conjugate to the last ones."""
        fresh = self.precondition(state.residual[:, part])
        groups = part // GROUP
        blocks, owners = [], []
        for group in np.unique(groups):
            Z, last = fresh[:, groups == group], state.owners == group
            Z = Z / np.maximum(np.linalg.norm(Z, axis=0), np.finfo(np.float64).tiny)
            if last.any():
                P, Q = state.directions[:, last], state.images[:, last]
                Z -= P @ _solved(P.T @ Q, Q.T @ Z)
            block = np.linalg.qr(Z)[0]
            blocks.append(block)
            owners.append(np.full(block.shape[1], group))
        return np.hstack(blocks), np.concatenate(owners)

    def _replaced(self, state: State) -> State:
        """Take the true residual, and judge the way since the last one by it."""
        left = state.true > self.tol
        residual, true = state.residual.copy(), state.true.copy()
        if state.found[:, left].any():
            residual[:, left] = self.targets[:, left] - self.system.exact(state.found[:, left])
            true[left] = np.linalg.norm(residual[:, left], axis=0) / self._sizes[left]
        entry = Entry(state.iterations, self._seconds, true, True)
        open_ = true > self.tol
        before, said = state.best[open_], self.estimates(state)[open_]
        gained = bool(np.all(true[open_] <= ENOUGH * before))
        honest = np.all((true[open_] <= PROGRESS * before) | (said > PROGRESS**2 * before))
        new = replace(state, residual=residual, true=true, history=(*state.history, entry))
        new = replace(new, best=np.minimum(state.best, true))
        if gained and (honest or not state.single):
            return replace(new, stalls=0)
        # Directions of a recurrence that was lost are worth nothing.
        new = self._fresh(new)
        return self._without_single(new) if state.single else replace(new, stalls=new.stalls + 1)

    def _without_single(self, state: State) -> State:
        """Compute in float64 from here on."""
        self.system.give_up_single()
        return replace(state, single=False, stalls=0)

    @staticmethod
    def _fresh(state: State) -> State:
        none = np.empty((len(state.found), 0))
        return replace(state, directions=none, images=none, owners=np.empty(0, np.intp))


def _solved(A: Values, B: Values) -> Values:
    """Return A^-1 B of a small positive definite matrix."""
    try:
        factor = linalg.cho_factor((A + A.T) / 2, lower=True)
    except (linalg.LinAlgError, ValueError) as error:  # not positive, not finite
        raise BreakdownError from error
    return np.asarray(linalg.cho_solve(factor, B))
