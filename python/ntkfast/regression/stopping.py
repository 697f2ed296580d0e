"""When an iteration ends before its residual says so, and who hears of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ntkfast.arrays.collections import Values
from ntkfast.kernels.evaluation import Evaluation
from ntkfast.regression.checkpoint import Checkpoint, Kept
from ntkfast.regression.conjugate_gradients import ConjugateGradients, State
from ntkfast.support.progress import Bar

OVER = "validation error rose"
EVERY = 4  # steps between two looks at a validation set


@dataclass(frozen=True, eq=False)
class Step:
    """What a callback is told.

    Attributes
    ----------
    iteration : int
    seconds : float
    residuals : (c,) array
        Relative residuals of the recurrence.
    coefficients : (n, c) array
        As they are now; a copy.
    """

    iteration: int
    seconds: float
    residuals: Values
    coefficients: Values


@dataclass(eq=False)
class Validation:
    """Errors on a validation set, and the coefficients that had the least one.

    Parameters
    ----------
    evaluation : Evaluation
    Z, X
        Inputs in float64, or in the type that they have in float32.
    targets : (m, c) array
    patience : int
        Looks in a row that may bring nothing.
    memory : int
        Bytes that K(Z, X) may take; more is computed anew at every look.
    """

    evaluation: Evaluation
    Z: Any
    X: Any
    targets: Values
    patience: int
    memory: int
    kept: Kept = field(default_factory=Kept)
    _stored: Any = field(default=None, init=False)

    def __post_init__(self) -> None:
        if len(self.Z) * len(self.X) * self.X.dtype.itemsize <= self.memory:
            self._stored = self.evaluation(self.Z, self.X)

    def look(self, found: Values, coefficients: Values) -> float:
        """Return the root mean square error over that of zero, and remember the best one."""
        if self._stored is None:
            predicted = self.evaluation.matmul(self.Z, self.X, coefficients)
        else:
            predicted = self._stored @ coefficients.astype(self._stored.dtype)
        scale = float(np.linalg.norm(self.targets)) or 1.0
        error = float(np.linalg.norm(predicted - self.targets)) / scale
        kept = self.kept
        better = error < kept.error
        self.kept = Kept(error, found) if better else replace(kept, bad=kept.bad + 1)
        return error

    @property
    def is_over(self) -> bool:
        """Whether patience is."""
        return self.kept.bad >= self.patience


@dataclass(eq=False)
class Watch:
    """All that looks at an iteration from outside.

    Attributes
    ----------
    scale : (c,) array
        What columns of the iteration are to be multiplied by.
    max_iter : int
        Largest number of steps, those before a checkpoint included.
    time_limit : float
        Seconds since the clock `began`.
    """

    scale: Values
    max_iter: int
    time_limit: float
    began: float
    validation: Validation | None
    callback: Callable[[Step], object] | None
    checkpoint: Checkpoint | None
    bar: Bar

    def run(self, solver: ConjugateGradients, state: State) -> tuple[State, str]:
        """Iterate until something says why not to go on."""
        reason = "max_iter reached" if state.iterations >= self.max_iter else ""
        if self.validation is not None and self.validation.is_over:  # before a checkpoint
            reason = OVER
        try:
            while not reason:
                new, reason = solver.advance(state)
                self.bar.update(new.iterations - state.iterations)
                state = new
                if reason:
                    break
                state, reason = self._seen(solver, state)
                if self.checkpoint is not None:
                    self.checkpoint.offer(state, self._kept)
        finally:  # also after Ctrl-C
            if self.checkpoint is not None:
                self.checkpoint.save(state, self._kept)
        return state, reason

    @property
    def _kept(self) -> Kept:
        return Kept() if self.validation is None else self.validation.kept

    def _seen(self, solver: ConjugateGradients, state: State) -> tuple[State, str]:
        """Return the state, with what a validation set says of it, and why to stop if so."""
        residuals = solver.estimates(state)
        worst = float(np.max(residuals, initial=0.0))
        self.bar.show("solve", worst)
        if not np.any(state.true > solver.tol):
            return state, "converged"
        if self.validation is not None and state.iterations % EVERY == 0:
            error = self.validation.look(state.found, state.found * self.scale)
            last = replace(state.history[-1], validation=error)
            state = replace(state, history=(*state.history[:-1], last))
            if self.validation.is_over:
                return state, OVER
        if self.callback is not None:
            seconds = time.perf_counter() - self.began
            step = Step(state.iterations, seconds, residuals, state.found * self.scale)
            if self.callback(step) is True:
                return state, "callback said so"
        if time.perf_counter() - self.began >= self.time_limit:
            return state, "time_limit reached"
        return state, "max_iter reached" if state.iterations >= self.max_iter else ""
