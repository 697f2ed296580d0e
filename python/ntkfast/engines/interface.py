"""The choice of an engine, and what is asked of it most."""

from __future__ import annotations

import importlib
import os
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from ntkfast.arrays import checks
from ntkfast.arrays.collections import FloatArray, Rows
from ntkfast.engines.compiled import Engine
from ntkfast.engines.maps import LayerMap, Map
from ntkfast.support.telling import did_you_mean

if TYPE_CHECKING:
    from ntkfast.engines.groups import Groups

NAMES = ("native", "numba", "cuda")
AUTOMATIC = ("native", "numba")  # best first; a device is used by those who ask for it


class Run(NamedTuple):
    """How a call computes: by which engine, on how many threads.

    With `groups` a symmetric product is what two groups of its inputs add to it, in float64.
    """

    engine: Engine
    threads: int
    groups: Groups | None = None


@cache
def load(name: str) -> Engine:
    """Return the engine of this name, which is among `NAMES`, usable or not."""
    return cast(Engine, importlib.import_module(f"ntkfast.engines.{name}").engine)


def variable(name: str) -> str:
    """Return an environment variable, or an empty string: each call asks, they may change."""
    environment = os.environ
    try:  # an exception for a missing variable, or decoding, would take longer than all the rest
        value = environment._data.get(_key(name))  # type: ignore[attr-defined]
    except AttributeError:  # of what only looks like the environment
        return environment.get(name, "")
    return "" if value is None else _text(value)


@cache
def _key(name: str) -> object:
    """Return a name as the environment keeps it."""
    return os.environ.encodekey(name)


@lru_cache(maxsize=16)
def _text(value: Any) -> str:
    """Return a value that the environment keeps as such."""
    return str(os.environ.decodevalue(value))


def select(name: str | None = None) -> Engine:
    """Return the engine to use: the one named, that of NTKFAST_ENGINE, or the best that runs.

    Raises
    ------
    ValueError
        If there is no engine of that name.
    RuntimeError
        If the engine that was asked for, or every one, cannot run here.
    """
    source = "engine" if name else "NTKFAST_ENGINE"
    name = name or variable("NTKFAST_ENGINE")
    if name:
        if name not in NAMES:
            known = ", ".join(repr(n) for n in NAMES)
            meant = did_you_mean(name, NAMES)
            raise ValueError(f"{source}: expected one of {known}; got {name!r}{meant}")
        engine = load(name)
        if reason := engine.unavailable():
            raise RuntimeError(f"{source}: {name!r} cannot run here: {reason}")
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


def rounded(run: Run, plan: Map, X: Rows, Y: Rows | None, out: FloatArray) -> bool:
    """Write K(X, Y) to `out` of a smaller type, if the engine can; whether all of it is finite."""
    direct = checks.unit_stride(out) and out.flags.aligned
    return direct and run.engine.rounded(plan, X, Y, out, run.threads)


def both(
    run: Run, plan: Map, second: Map, X: Rows, Y: Rows | None, outs: tuple[FloatArray, FloatArray]
) -> None:
    """Write two kernels in one pass: of two profiles, or NTK and NNGP of a `LayerMap`."""
    other = None if isinstance(plan, LayerMap) else second
    run.engine.run(plan, other, X, Y, outs, run.threads)
