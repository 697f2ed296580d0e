"""The engines that evaluate maps on pairs of rows, their choice, and the number of threads.

An engine is a module with the functions of `Engine`. ``native`` is the C++ extension, ``numba``
mirrors it for installations without one, ``cuda`` computes on a graphics card. The choice is made
once per call; an engine that is asked for by name and cannot run is an error, never replaced
silently.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import ModuleType
from typing import Protocol, cast

import numpy as np

from ntkfast.engines.card_array import CardArray
from ntkfast.inputs import count as _checked_count
from ntkfast.maps import (
    FloatArray,
    ImagePlan,
    LayerMap,
    Map,
    Rotation,
    Rows,
    ScaledImages,
    SequenceMap,
    SequenceSide,
    StructuredMap,
)

NAMES = ("native", "numba", "cuda")
AUTOMATIC = ("native", "numba")  # best first; a card is used by those who ask for it


class Engine(Protocol):
    """What an engine module offers."""

    def unavailable(self) -> str:
        """Return why the engine cannot run here, or an empty string."""

    def run(
        self,
        plan: Map,
        second: Map | None,
        X: Rows,
        Y: Rows | None,
        outs: tuple[FloatArray | None, FloatArray | None],
        threads: int,
    ) -> None:
        """Write Gram matrices to arrays whose rows have unit stride; Y = None is symmetric.

        Two profiles give two matrices; a `LayerMap` by itself gives NTK and NNGP, a `NeuronMap`
        the features of the directions and of their negatives.
        """

    def matmul(
        self, plan: Map, X: Rows, Y: Rows, V: FloatArray, out: FloatArray, threads: int
    ) -> None:
        """Write K(X, Y) V to `out`."""

    def hadamard(
        self, X: FloatArray, out: FloatArray, signs: FloatArray | None, scale: float, threads: int
    ) -> None:
        """Write scale (X * signs) H of 2^p columns to `out`, which may be X.

        H is the Hadamard matrix in natural order; rows of X and `out` have unit stride.
        """

    def sketch(
        self,
        X: FloatArray,
        Y: FloatArray | None,
        out: FloatArray,
        left: Rotation,
        right: Rotation | None,
        scale: float,
        threads: int,
        step: bool = False,
    ) -> None:
        """Write scale times the rotation of X, or its product with that of Y, to `out`.

        Rows have unit stride; one row of X or Y stands for as many as `out` has. With `step` the
        numbers of Y count as 1 where they are positive and as 0 elsewhere.
        """

    def structured(self, plan: StructuredMap, X: FloatArray, out: FloatArray, threads: int) -> None:
        """Write the answers of structured neurons; rows have unit stride."""

    def images(
        self,
        plan: ImagePlan,
        X: ScaledImages,
        Y: ScaledImages | None,
        outs: tuple[FloatArray | None, FloatArray | None],
        diagonal: bool,
        threads: int,
    ) -> None:
        """Write NTK and NNGP of images; Y = None is symmetric.

        With `diagonal` the kernels of images with themselves, to arrays of one column.
        """

    def sequences(
        self,
        plan: SequenceMap,
        X: SequenceSide,
        Y: SequenceSide | None,
        out: FloatArray,
        threads: int,
    ) -> None:
        """Write the kernel of a recurrent network to an array of any strides."""

    def row_norms(self, X: FloatArray) -> FloatArray:
        """Return Euclidean norms of rows: no overflow, NaN or inf if a row holds one."""


def load(name: str) -> Engine:
    """Return the engine module of this name, usable or not.

    Raises
    ------
    ValueError
        If there is none.
    """
    if name not in NAMES:
        known = ", ".join(repr(n) for n in NAMES)
        raise ValueError(f"engine: expected one of {known}; got {name!r}")
    module: ModuleType = importlib.import_module(f"ntkfast.engines.{name}")
    return cast(Engine, module)


def select(name: str | None = None) -> Engine:
    """Return the engine to use: the one named, that of NTKFAST_ENGINE, or the best that runs.

    Raises
    ------
    ValueError
        If there is no engine of that name.
    RuntimeError
        If the engine that was asked for, or every one, cannot run here.
    """
    name = name or os.environ.get("NTKFAST_ENGINE") or None
    if name is not None:
        engine = load(name)
        if reason := engine.unavailable():
            raise RuntimeError(f"engine: {name!r} cannot run here: {reason}")
        return engine
    reasons = []
    for candidate in AUTOMATIC:
        engine = load(candidate)
        reason = engine.unavailable()
        if not reason:
            return engine
        reasons.append(f"{candidate}: {reason}")
    raise RuntimeError(f"engine: none can run here ({'; '.join(reasons)})")


def home(array: object) -> str | None:
    """Return the name of the only engine that can read an array, if it lies on a card."""
    return "cuda" if isinstance(array, CardArray) else None


def gram(engine: Engine, plan: Map, X: Rows, Y: Rows | None, out: FloatArray, threads: int) -> None:
    """Write K(X, Y) to `out`, whose rows have unit stride; Y = None is the symmetric case."""
    second = isinstance(plan, LayerMap) and plan.second
    engine.run(plan, None, X, Y, (None, out) if second else (out, None), threads)


def both(
    engine: Engine,
    plan: Map,
    second: Map,
    X: Rows,
    Y: Rows | None,
    outs: tuple[FloatArray, FloatArray],
    threads: int,
) -> None:
    """Write two kernels in one pass: of two profiles, or NTK and NNGP of a `LayerMap`."""
    engine.run(plan, None if isinstance(plan, LayerMap) else second, X, Y, outs, threads)


def row_norms(X: FloatArray) -> FloatArray:
    """Euclidean norms of rows, by the best engine (all of them agree to rounding)."""
    if home(X) is not None:
        return load("cuda").row_norms(X)
    native = load("native")
    if not native.unavailable():
        return native.row_norms(X)
    return reference_row_norms(X)


def reference_row_norms(X: FloatArray) -> FloatArray:
    """Euclidean norms of rows in NumPy, by blocks, summed in float64 and scaled if need be."""
    norms = np.empty(len(X), np.float64)
    for first in range(0, len(X), 4096):
        block = X[first : first + 4096].astype(np.float64, copy=False)
        with np.errstate(over="ignore", invalid="ignore"):
            squares = np.einsum("ij,ij->i", block, block)
            odd = ~((squares > 1e-280) & (squares < 1e300))
            if odd.any():
                largest = np.max(np.abs(block[odd]), axis=1)
                safe = np.where((largest > 0) & np.isfinite(largest), largest, 1)
                scaled = block[odd] / safe[:, None]
                squares[odd] = np.einsum("ij,ij->i", scaled, scaled)
                root = np.sqrt(squares)
                root[odd] *= safe
                norms[first : first + 4096] = root
                continue
        norms[first : first + 4096] = np.sqrt(squares)
    with np.errstate(over="ignore"):
        return norms.astype(X.dtype)


# ---- threads ------------------------------------------------------------------------------------

_limit: ContextVar[int | None] = ContextVar("ntkfast_threads", default=None)
_default: int | None = None


def _available() -> int:
    """Processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def get_num_threads() -> int:
    """Return how many threads a call uses unless it says otherwise.

    In this order: the innermost `threadpool_limits`, `set_num_threads`, the environment variable
    NTKFAST_NUM_THREADS, the processors this process may use.
    """
    limit = _limit.get()
    if limit is not None:
        return limit
    if _default is not None:
        return _default
    text = os.environ.get("NTKFAST_NUM_THREADS", "").strip()
    if not text:
        return _available()
    if not text.isdecimal() or int(text) < 1:
        raise ValueError(f"NTKFAST_NUM_THREADS: expected a positive integer, got {text!r}")
    return int(text)


def set_num_threads(threads: int | None) -> None:
    """Set how many threads calls of this process use; None goes back to the default.

    Raises
    ------
    TypeError, ValueError
        If `threads` is no positive integer.
    """
    global _default
    _default = None if threads is None else _checked_count("threads", threads, least=1)


@contextmanager
def threadpool_limits(limits: int | None) -> Iterator[None]:
    """Limit the threads of calls inside a ``with`` block; None leaves them as they are.

    The limit holds for the current thread or task only, like `contextvars`. Those of
    ``threadpoolctl.threadpool_limits`` are honoured too, for the whole process.

    Examples
    --------
    >>> import ntkfast as nf
    >>> with nf.threadpool_limits(1):
    ...     nf.get_num_threads()
    1
    """
    wanted = None if limits is None else _checked_count("limits", limits, least=1)
    token = _limit.set(_limit.get() if wanted is None else wanted)
    try:
        yield
    finally:
        _limit.reset(token)


def count(threads: int | None) -> int:
    """Return the number of threads of a call."""
    return get_num_threads() if threads is None else _checked_count("threads", threads, least=1)


__all__ = [
    "Engine",
    "both",
    "count",
    "get_num_threads",
    "gram",
    "load",
    "row_norms",
    "select",
    "set_num_threads",
    "threadpool_limits",
]
