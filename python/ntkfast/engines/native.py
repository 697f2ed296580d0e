"""The C++ engine: tile kernels compiled for several instruction sets, chosen at run time."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ntkfast.maps import (
    ANSWERS,
    NEURONS,
    FloatArray,
    ImagePlan,
    LayerMap,
    Map,
    NeuronMap,
    RadialMap,
    Rotation,
    Rows,
    ScaledImages,
    SequenceMap,
    SequenceSide,
    StructuredMap,
)

_core: Any = None
_reason = ""
try:
    _core = importlib.import_module("ntkfast._core")
except ImportError as error:
    _reason = f"the extension ntkfast._core is not there ({error})"

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
    return _forced.get() or os.environ.get("NTKFAST_ISA", "")


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


def _suffix(dtype: np.dtype[Any]) -> str:
    return "f32" if dtype == np.float32 else "f64"


def _call(name: str, dtype: np.dtype[Any], *arguments: object) -> Any:
    return getattr(_core, f"{name}_{_suffix(dtype)}")(*arguments)


def _compiled(plan: Map) -> Any:
    """Hand a map to C++: a copy of a few kilobytes."""
    if isinstance(plan, RadialMap):
        return _core.Radial(plan.c, plan.gamma, plan.euclidean, plan.degree)
    if isinstance(plan, LayerMap):
        return _core.Layers(plan.numbers, plan.refine, plan.scales)
    if isinstance(plan, NeuronMap):
        made = getattr(_core, f"Neuron{_suffix(plan.table.dtype)}")
        return made(NEURONS.index(plan.kind), plan.table, plan.scale, plan.degree)
    return getattr(_core, f"Profile{_suffix(plan.table.dtype)}")(
        plan.table,
        plan.sub_bits,
        plan.stretch,
        plan.base,
        plan.degree,
        plan.scale,
        plan.refine_below,
    )


def run(
    plan: Map,
    second: Map | None,
    X: Rows,
    Y: Rows | None,
    outs: tuple[FloatArray | None, FloatArray | None],
    threads: int,
) -> None:
    """Write one or two Gram matrices; those of a `LayerMap` are the NTK and the NNGP."""
    _call(
        "gram",
        X.data.dtype,
        X.data,
        X.norms,
        None if Y is None else Y.data,
        None if Y is None else Y.norms,
        _compiled(plan),
        None if second is None else _compiled(second),
        *outs,
        X.series,
        None if Y is None else Y.series,
        X.diagonal,
        threads,
        _isa(),
    )


def matmul(plan: Map, X: Rows, Y: Rows, V: FloatArray, out: FloatArray, threads: int) -> None:
    """Write K(X, Y) V to `out`."""
    _call(
        "matmul",
        X.data.dtype,
        X.data,
        X.norms,
        Y.data,
        Y.norms,
        _compiled(plan),
        V,
        out,
        isinstance(plan, LayerMap) and plan.second,
        X.series,
        Y.series,
        X.diagonal,
        threads,
        _isa(),
    )


def hadamard(
    X: FloatArray, out: FloatArray, signs: FloatArray | None, scale: float, threads: int
) -> None:
    """Write scale (X * signs) H to `out`, which may be X."""
    _call("hadamard", X.dtype, X, out, signs, scale, threads, _isa())


def sketch(
    X: FloatArray,
    Y: FloatArray | None,
    out: FloatArray,
    left: Rotation,
    right: Rotation | None,
    scale: float,
    threads: int,
    step: bool = False,
) -> None:
    """Write scale times the rotation of the rows of X, or its product with that of Y, to `out`."""
    second = (None, None) if right is None else (right.signs, right.index)
    arguments = (X, Y, out, left.signs, left.index, *second, step, scale, threads, _isa())
    _call("sketch", X.dtype, *arguments)


def structured(plan: StructuredMap, X: FloatArray, out: FloatArray, threads: int) -> None:
    """Write the answers of structured neurons."""
    answer = ANSWERS.index(plan.answer)
    arguments = (X, out, plan.flips, plan.lengths, answer, plan.scale, threads, _isa())
    _call("structured", X.dtype, *arguments)


def images(
    plan: ImagePlan,
    X: ScaledImages,
    Y: ScaledImages | None,
    outs: tuple[FloatArray | None, FloatArray | None],
    diagonal: bool,
    threads: int,
) -> None:
    """Write NTK and NNGP of images, or of images with themselves as one column."""
    net = _core.ImageNet(
        plan.steps,
        plan.levels,
        plan.channels,
        plan.circular,
        plan.weight_h,
        plan.weight_w,
        plan.trained,
        plan.bias,
    )
    right = (None,) * 3 if Y is None else (Y.data, Y.scale, Y.factor)
    left = X.data, X.scale, X.factor
    _call("images", X.data.dtype, net, *left, *right, diagonal, *outs, threads, _isa())


def sequences(
    plan: SequenceMap, X: SequenceSide, Y: SequenceSide | None, out: FloatArray, threads: int
) -> None:
    """Write the kernel of a recurrent network to an array of any strides."""
    _call(
        "sequences",
        X.dtype,
        list(X.numbers),
        X.layout,
        None if Y is None else list(Y.numbers),
        None if Y is None else Y.layout,
        plan.activation,
        plan.layers,
        plan.fixed,
        plan.channels,
        plan.every,
        plan.nngp,
        X.diagonal,
        out,
        threads,
        _isa(),
    )


def sequence_numbers(
    plan: SequenceMap,
    squares: list[float],
    values: FloatArray,
    layout: NDArray[np.int64],
    reverse: bool,
    threads: int,
) -> tuple[FloatArray, NDArray[np.float64]]:
    """Return what pairs of sequences multiply, and kernels of sequences with themselves."""
    result: tuple[FloatArray, NDArray[np.float64]] = _call(
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


def row_norms(X: FloatArray) -> FloatArray:
    """Return the Euclidean norms of rows."""
    norms: FloatArray = _call("row_norms", X.dtype, X)
    return norms
