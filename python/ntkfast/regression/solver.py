"""Solves (K(X, X) + ridge I) A = B."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ntkfast import places
from ntkfast.arrays import checks
from ntkfast.arrays.collections import Values
from ntkfast.kernels.base import Kernel, checked_kernel
from ntkfast.kernels.evaluation import Evaluation
from ntkfast.kernels.resident import ResidentEvaluation, evaluated
from ntkfast.regression import direct
from ntkfast.regression.checkpoint import Checkpoint, fingerprint, probe
from ntkfast.regression.conjugate_gradients import ConjugateGradients
from ntkfast.regression.preconditioner import prepared
from ntkfast.regression.repeated import VECTORS
from ntkfast.regression.solution import History, Solution, SolverWarning
from ntkfast.regression.stopping import OVER, Step, Validation, Watch
from ntkfast.regression.system import MEMORY, System, double
from ntkfast.support.progress import Bar
from ntkfast.support.randomness import RNG, root
from ntkfast.support.telling import goes_on, warn

METHODS = ("auto", "cholesky", "eigh", "cg")
DIRECT = 8192  # rows up to which a factorisation is the faster way
REFINEMENTS = 30  # steps that make up for a factor in float32
WANTED = (OVER, "callback said so")  # no reason to warn


def solve(
    kernel: Kernel,
    X: Any,
    B: ArrayLike,
    ridge: float | ArrayLike,
    *,
    method: str = "auto",
    memory: int | None = None,
    tol: float = 1e-6,
    max_iter: int = 1000,
    rank: int | None = None,
    start: ArrayLike | None = None,
    validation: tuple[Any, ArrayLike] | None = None,
    patience: int = 3,
    time_limit: float | None = None,
    callback: Callable[[Step], object] | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    rng: RNG = 0,
    engine: str | None = None,
    threads: int | None = None,
    client: Any = None,
    progress: bool | None = None,
) -> Solution:
    """Solve (K(X, X) + ridge I) A = B.

    The matrix is that of the rows in float64 whatever their type; residuals are those of this
    matrix, computed in float64, whatever the precision of the work.

    Parameters
    ----------
    kernel : Kernel
    X : (n, d) array, or other inputs of the kernel
        `numpy.memmap` of unit stride is not copied. With an array on a CUDA device `B`, `start` and
        `validation` lie there too, in its dtype: products are computed there, where rows stay
        from product to product, and vectors and the preconditioner on the host. Where
        ``engine="cuda"``, rows of the host go there once.
    B : (n,) or (n, c) array
    ridge : float or (n,) array
        Added to the diagonal, in absolute terms. One for each input is a ridge over its weight.
    method : {"auto", "cholesky", "eigh", "cg"}, default "auto"
        "cholesky": a factor in float64; in float32 with refinement if memory holds no other; else
        on disk, in the folder of temporary files. "eigh": the minimum-norm least-squares solution;
        eigenvalues of K + ridge I up to n eps times the largest one count as zero. "cg":
        conjugate gradients, preconditioned by randomly pivoted Cholesky. "auto": "cholesky" up to
        8,192 rows if memory holds the factor, "cg" for more, or with an argument that needs it.
    memory : int, optional
        Bytes that may be used beside the arguments; default 4 GiB. The Gram matrix is stored in
        float64 for rows in float64, else in float32, else recomputed in every product.
    tol : float, default 1e-6
        Largest residual of a column, over the norm of that column.
    max_iter : int, default 1000
        Steps of "cg".
    rank : int, optional
        Of the preconditioner of "cg"; default 10 sqrt(n), less if memory holds no more.
    start : array of the shape of B, optional
        Coefficients from which "cg" starts.
    validation : (Z, targets), optional
        "cg" stops when the error on it has not fallen for `patience` looks, one every four steps,
        and returns the coefficients that had the least one.
    patience : int, default 3
    time_limit : float, optional
        Seconds after which "cg" stops; the residual then takes one more product.
    callback : callable, optional
        Called with a `Step` after each step of "cg"; ends it by returning True.
    checkpoint : path, optional
        File in which "cg" keeps its state, and from which it goes on after any end, by `kill -9`
        too, with the best coefficients on a validation set. It stays; with another problem or
        damaged it is refused. With other settings it goes on from the coefficients alone.
    rng : int, Generator or None
        Of the preconditioner.
    engine, threads
        As for calling the kernel.
    client : distributed.Client or str, optional
        Its workers, or those of the scheduler at an address, compute products and the columns of
        the preconditioner, see `ntkfast.dask`; vectors stay here. Products of "cg" are recomputed
        then.
    progress : bool, optional
        Whether to show steps on a bar. Default: on a terminal, after some seconds.

    Returns
    -------
    Solution

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type, shape or range, or holds NaN or infinity, or memory is
        too small for the method.
    numpy.linalg.LinAlgError
        If a factorisation finds the matrix not positive definite to rounding.

    Warns
    -----
    SolverWarning
        If a residual is above the tolerance, unless a validation set or a callback ended it.

    Examples
    --------
    >>> import numpy as np, ntkfast as nf
    >>> X = np.random.default_rng(0).normal(size=(200, 5))
    >>> found = nf.regression.solve(nf.FullyConnected(2).ntk, X, X[:, 0], 0.1, method="cg")
    >>> found.converged, found.coefficients.shape
    (True, (200,))
    """
    began = time.perf_counter()
    iterative = {
        "start": start,
        "validation": validation,
        "time_limit": time_limit,
        "callback": callback,
        "checkpoint": checkpoint,
        "rank": rank,
    }
    beside = None
    if places.of(X) is not places.HOST:
        places.of(X).run(engine)  # says what it is no choice of
        if client is not None:
            raise ValueError("client: expected None with arrays on a CUDA device")
        arrays = {"X": X, "B": B, "start": start, "validation": validation}
        beside, copies = places.on_host(**arrays)
        X, B, start, validation = copies.values()
        engine = "cuda"
    evaluation = evaluation_on(client, checked_kernel(kernel), engine, threads, progress)
    inputs = kernel.collect(X)
    if beside is not None and isinstance(evaluation, ResidentEvaluation):
        evaluation.there.keep(inputs, beside)
    targets, vector = _columns("B", B, len(inputs))
    budget = MEMORY if memory is None else checks.count("memory", memory, least=1)
    method = _method(method, len(inputs), budget, iterative)
    system = System(evaluation, inputs, _ridge(ridge, len(inputs)))
    if not system.diagonal.any() and not np.any(system.ridge) and method != "eigh":
        raise direct.explained(np.linalg.LinAlgError("the matrix is zero"), 0.0)
    # Columns near 1 neither vanish nor overflow when they are squared or narrowed.
    scale = np.max(np.abs(targets), axis=0)
    scale[scale == 0] = 1
    work = _Work(system, targets / scale, scale, checks.number("tol", tol, above=0.0), began)
    with Bar(progress, "solve", None, "steps") as bar:
        if method == "eigh":
            found = work.by_eigenvalues(budget)
        elif method == "cholesky":
            found = work.by_cholesky(budget, bar)
        else:
            shape = "B", targets.shape[1]
            guess = None if start is None else _columns("start", start, len(inputs), shape)[0]
            watch = Watch(
                scale,
                checks.count("max_iter", max_iter, least=1),
                math.inf
                if time_limit is None
                else checks.number("time_limit", time_limit, above=0),
                began,
                None,
                callback,
                None,
                bar,
            )
            if rank is not None:
                rank = checks.count("rank", rank, least=0)
            if validation is not None:
                watch.validation = _validation(system, validation, shape, patience, budget)
            seed = root(rng)
            if checkpoint is not None:
                settings = f"{seed} {rank} {budget} {tol} {vector}"
                digest = fingerprint(inputs, targets, system.ridge)
                known = probe(evaluation, inputs)
                seen = ""
                if watch.validation is not None:
                    seen = fingerprint(watch.validation.Z, watch.validation.targets, 0.0)
                watch.checkpoint = Checkpoint(checkpoint, digest, known, settings, seen)
            found = work.by_iteration(budget, rank, guess, seed, watch)
    found = _told(found, vector, tol)
    if beside is None:
        return found
    columns = found.coefficients.reshape(len(inputs), -1)
    own = checks.narrowed("B", columns, beside.dtype).reshape(found.coefficients.shape)
    return replace(found, coefficients=places.placed_beside(beside, own))


def evaluation_on(
    client: Any, kernel: Kernel, engine: str | None, threads: int | None, progress: bool | None
) -> Evaluation:
    """Return a kernel that this process evaluates, or the workers of a client unless it is None."""
    if client is None:
        return evaluated(kernel, engine, threads, progress)
    from ntkfast.dask.evaluation import ClusterEvaluation
    from ntkfast.dask.session import Session

    return ClusterEvaluation(kernel, engine, threads, progress, session=Session(client))


@dataclass
class _Work:
    """One system, its scaled targets and the clock."""

    system: System
    targets: Values
    scale: Values
    tol: float
    began: float

    def by_eigenvalues(self, memory: int) -> Solution:
        """Solve by eigenvalues."""
        n = len(self.system)
        _require(32 * n * n, memory, "eigh", n)
        K = self.system.store()
        found, rank, condition = direct.by_eigenvalues(K.copy(), self.targets, self.system.ridge)
        missing = n - rank
        reason = "direct"
        if missing:
            reason = f"minimum norm: {missing} of {n} eigenvalues are zero to rounding"
        true = self._true(found)
        return self._solution(found, "eigh", true, reason, rank=rank, condition=condition, kept=16)

    def by_cholesky(self, memory: int, bar: Bar) -> Solution:
        """Solve by a factor, and refine by conjugate gradients what it leaves."""
        system, n = self.system, len(self.system)
        if 14 * n * n <= memory:  # then nothing is evaluated twice
            system.store()
        error: np.linalg.LinAlgError | None = None
        for dtype, on_disk in direct.choices(n, memory):
            try:
                factor = direct.factorised(system, dtype, on_disk, bar)
            except np.linalg.LinAlgError as caught:
                error = caught
                continue
            solver = ConjugateGradients(system, factor.solve, self.targets, self.tol, self.began)
            state, reason = solver.start(factor.solve(self.targets)), "direct"
            if np.any(state.true > self.tol):
                reason = ""
            while not reason:
                state, reason = solver.advance(state)
                if not reason and state.iterations >= REFINEMENTS:
                    reason = f"{REFINEMENTS} refinements"
            if np.all(state.true <= self.tol) or (dtype == np.float64):
                break
        else:
            raise direct.explained(error or np.linalg.LinAlgError("no factor"), system.ridge)
        condition = system.bound if on_disk else factor.condition()
        system.storage = f"{np.dtype(dtype)} factor {'on disk' if on_disk else 'in memory'}"
        system.memory += factor.memory
        return self._solution(
            state.found,
            "cholesky",
            state.true,
            "direct" if reason == "converged" else reason,
            condition=condition,
            iterations=state.iterations,
            history=History(state.history),
        )

    def by_iteration(
        self, memory: int, rank: int | None, guess: Values | None, seed: int, watch: Watch
    ) -> Solution:
        """Solve by preconditioned conjugate gradients."""
        system = self.system
        left = memory - VECTORS * self.targets.nbytes
        loaded = None if watch.checkpoint is None else watch.checkpoint.load()
        precondition, spent = prepared(system, rank, left, np.random.default_rng(seed))
        solver = ConjugateGradients(system, precondition, self.targets, self.tol, self.began)
        if loaded is not None and loaded[1]:
            state = loaded[0]
            if system.is_single and not state.single:
                system.give_up_single()
        elif loaded is not None:
            state = solver.start(loaded[0].found)
        else:
            state = solver.start(None if guess is None else guess / self.scale)
        if state.iterations and watch.checkpoint is not None:
            goes_on(watch.checkpoint.path, state.iterations, "iterations")
        if loaded is not None and watch.validation is not None:
            watch.validation.kept = loaded[2]
        watch.bar.skip(state.iterations)
        state, reason = watch.run(solver, state)
        best = None if watch.validation is None else watch.validation.kept.found
        found = state.found if best is None else best
        known = state.history and state.history[-1].exact and best is None
        true = state.true if known or reason == "converged" else self._true(found)
        least, most = float(np.min(system.ridge)), float(np.max(system.ridge))
        bound = (2 * precondition.top + most) / least if least > 0 else math.inf
        return self._solution(
            found,
            "cg",
            true,
            reason,
            rank=precondition.rank,
            condition=min(bound, system.bound),
            iterations=state.iterations,
            history=History(state.history),
            extra=precondition.memory + VECTORS * self.targets.nbytes,
            spent=spent,
        )

    def _true(self, found: Values) -> Values:
        """Return the relative residuals in float64."""
        residual = np.linalg.norm(self.targets - self.system.exact(found), axis=0)
        sizes = np.linalg.norm(self.targets, axis=0)
        return np.asarray(residual / np.where(sizes > 0, sizes, 1))

    def _solution(
        self,
        found: Values,
        method: str,
        true: Values,
        reason: str,
        *,
        rank: int = 0,
        condition: float,
        iterations: int = 0,
        history: History | None = None,
        kept: int = 0,
        extra: int = 0,
        spent: float = 0.0,
    ) -> Solution:
        system = self.system
        return Solution(
            found * self.scale,
            system.ridge,
            method,
            iterations,
            true,
            bool(np.all(true <= self.tol)),
            reason,
            system.products,
            rank,
            system.storage,
            system.memory + kept * len(system) ** 2 + extra,
            condition,
            time.perf_counter() - self.began,
            system.seconds,
            spent,
            history or History(),
        )


def _method(method: str, n: int, memory: int, iterative: Mapping[str, object]) -> str:
    """Choose a method, and refuse arguments that it does not know."""
    method = checks.choice("method", method, METHODS)
    given = [name for name, value in iterative.items() if value is not None]
    if method == "auto":
        fits = next(direct.choices(n, memory)) == (np.float64, False)
        return "cg" if given or n > DIRECT or not fits else "cholesky"
    if method != "cg" and given:
        raise ValueError(f'{given[0]}: expected method="cg" with it, got method="{method}"')
    return method


def _ridge(ridge: float | ArrayLike, n: int) -> float | Values:
    """Return a number, or one for each input where they differ."""
    if np.ndim(ridge) == 0:
        return checks.number("ridge", ridge, least=0.0)
    given = checks.real_array("ridge", np.asarray(ridge)).astype(np.float64)
    if given.shape != (n,):
        raise ValueError(f"ridge: expected a number or shape ({n},), got {given.shape}")
    if not np.all((given >= 0) & np.isfinite(given)):
        wrong = int(np.argmin((given >= 0) & np.isfinite(given)))
        raise ValueError(f"ridge: expected finite numbers >= 0, got {given[wrong]} at {wrong}")
    return given if np.ptp(given) else float(given[0])


def _columns(
    name: str, value: ArrayLike, count: int, like: tuple[str, int] | None = None
) -> tuple[Values, bool]:
    """Return columns in float64, as many as another argument has."""
    array, vector = checks.columns(name, value, count)
    if like is not None and array.shape[1] != like[1]:
        raise ValueError(f"{name}: expected {like[1]} columns like {like[0]}, got {array.shape[1]}")
    return array.astype(np.float64, copy=False), vector


def _validation(
    system: System, pair: Any, like: tuple[str, int], patience: int, memory: int
) -> Validation:
    """Check a validation set; a quarter of the memory may hold its kernel."""
    if not isinstance(pair, tuple) or len(pair) != 2:
        raise TypeError(f"validation: expected a pair (Z, targets), got {type(pair).__name__}")
    Z = system.evaluation.kernel.collect(pair[0])
    targets, _ = _columns("validation", pair[1], len(Z), like)
    patience = checks.count("patience", patience, least=1)
    X = system.inputs
    Z = Z.astype(X.dtype, copy=False) if X.dtype == np.float32 else double(Z)
    return Validation(system.evaluation, Z, X, targets, patience, memory // 4)


def _require(needed: int, memory: int, method: str, n: int) -> None:
    if needed > memory:
        raise ValueError(
            f'memory: expected at least {needed} bytes for method="{method}" and {n} inputs, got '
            f'{memory}; take method="cg"'
        )


def _told(found: Solution, vector: bool, tol: float) -> Solution:
    """Warn of a system that is not solved, and give the coefficients the shape of B."""
    if not found.converged and found.reason not in WANTED:
        count = int(np.sum(~(found.residuals <= tol)))
        warn(
            f"the system is not solved: {count} of {len(found.residuals)} columns have residuals "
            f"above tol = {tol:g}, the largest is {np.max(found.residuals):.2g} ({found.reason}); "
            + ("raise max_iter or rank" if found.method == "cg" else "raise the ridge"),
            SolverWarning,
        )
    if vector:
        return replace(found, coefficients=found.coefficients[:, 0])
    return found
