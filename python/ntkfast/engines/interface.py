"""What an engine offers, and the choice of one."""

from __future__ import annotations

import importlib
import os
from types import ModuleType
from typing import NamedTuple, Protocol, cast

from ntkfast.arrays.collections import FloatArray, Rows
from ntkfast.engines.maps import (
    ImagePlan,
    LayerMap,
    Map,
    Rotation,
    ScaledImages,
    SequenceMap,
    SequenceSide,
    StructuredMap,
)

NAMES = ("native", "numba", "cuda")
AUTOMATIC = ("native", "numba")  # best first; a device is used by those who ask for it


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


class Run(NamedTuple):
    """How a call computes: by which engine, on how many threads."""

    engine: Engine
    threads: int


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


def gram(run: Run, plan: Map, X: Rows, Y: Rows | None, out: FloatArray) -> None:
    """Write K(X, Y) to `out`, whose rows have unit stride; Y = None is the symmetric case."""
    second = isinstance(plan, LayerMap) and plan.second
    run.engine.run(plan, None, X, Y, (None, out) if second else (out, None), run.threads)


def both(
    run: Run, plan: Map, second: Map, X: Rows, Y: Rows | None, outs: tuple[FloatArray, FloatArray]
) -> None:
    """Write two kernels in one pass: of two profiles, or NTK and NNGP of a `LayerMap`."""
    other = None if isinstance(plan, LayerMap) else second
    run.engine.run(plan, other, X, Y, outs, run.threads)
