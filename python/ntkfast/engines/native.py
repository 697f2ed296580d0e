"""The C++ engine: tile kernels compiled for several instruction sets, chosen at run time."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ntkfast.arrays.collections import FloatArray, Rows
from ntkfast.engines.codes import Kept
from ntkfast.engines.compiled import Engine
from ntkfast.engines.interface import variable
from ntkfast.engines.maps import LayerMap, Map, SequenceMap

_core: Any = None
_reason = ""
try:
    _core = importlib.import_module("ntkfast._core")
except ImportError as error:
    _reason = f"the extension ntkfast._core is not there ({error})"

KEPT = {"float32": Kept.SINGLE, "float16": Kept.HALF, "bfloat16": Kept.BRAIN}
_forced: ContextVar[str | None] = ContextVar("ntkfast_isa", default=None)


def unavailable() -> str:
    """Return why the engine cannot run here, or an empty string."""
    return _reason


def available_isas() -> list[str]:
    """Return the instruction sets that are compiled in and run here, best first."""
    return [] if _core is None else [name for name, usable in _core.isas() if usable]


def compiled_isas() -> list[str]:
    """Return all instruction sets that are compiled in, best first."""
    return [] if _core is None else [name for name, _ in _core.isas()]


def active_isa() -> str:
    """Return the instruction set in use: the best one, or the one that NTKFAST_ISA forces."""
    return str(_core.choose_isa(_isa()))


def _isa() -> str:
    name = _forced.get() or variable("NTKFAST_ISA")
    if name and name not in available_isas():
        known = ", ".join(available_isas())
        raise ValueError(f"NTKFAST_ISA: expected one of {known} on this machine, got {name!r}")
    return name


@contextmanager
def force_isa(name: str) -> Iterator[None]:
    """Use one instruction set inside a ``with`` block.

    Raises
    ------
    ValueError
        If it is not compiled in or this processor does not have it.
    """
    token = _forced.set(_core.choose_isa(name))
    try:
        yield
    finally:
        _forced.reset(token)


class _Native(Engine):
    """The engine of the host."""

    def rounded(self, plan: Map, X: Rows, Y: Rows | None, out: FloatArray, threads: int) -> bool:
        """Write a Gram matrix to an array of a smaller type; see `Engine.rounded`."""
        finite: bool = self._compute_rows(
            "rounded",
            plan,
            X,
            Y,
            out.view(f"u{out.itemsize}"),
            int(KEPT[out.dtype.name]),
            isinstance(plan, LayerMap) and plan.second,
            threads=threads,
        )
        return finite


engine = _Native(unavailable, lambda: _core, _isa)


def sequence_numbers(
    plan: SequenceMap,
    squares: list[float],
    values: FloatArray,
    layout: NDArray[np.int64],
    reverse: bool,
    threads: int,
) -> tuple[FloatArray, NDArray[np.float64]]:
    """Return what pairs of sequences multiply, and kernels of sequences with themselves."""
    result: tuple[FloatArray, NDArray[np.float64]] = engine.call(
        "sequence_numbers",
        values.dtype,
        values,
        layout,
        plan.activation,
        plan.layers,
        plan.fixed,
        squares,
        list(plan.weights),
        plan.mean,
        reverse,
        plan.nngp,
        threads,
    )
    return result


def measured_rows(X: object, Y: object) -> tuple[Any, ...] | None:
    """Return what `ntkfast.engines.measured_rows` does."""
    found: tuple[Any, ...] | None = _core.plain_rows(X, Y)
    return found


def measured_norms(X: FloatArray) -> tuple[FloatArray, float, float]:
    """Return the Euclidean norms of rows, the least and the largest one."""
    norms: tuple[FloatArray, float, float]
    norms = _core.row_norms_f32(X) if X.itemsize == 4 else _core.row_norms_f64(X)
    return norms


def values_at_equal(plan: LayerMap, norms: FloatArray) -> NDArray[np.float64]:
    """Return NTK and NNGP of rows with themselves, (n, 2), where all layers have closed forms."""
    values: NDArray[np.float64]
    values = engine.call("values_at_equal", norms.dtype, engine.handed(plan), norms)
    return values
