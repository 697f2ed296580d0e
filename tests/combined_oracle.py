"""Kernels made of kernels in 50 digits, written as their definitions, and derivatives of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from mpmath import mp, mpf

import ntkfast as nf
import oracle

STEP = mpf(10) ** -25  # relative: its square is far below what is compared
Row = tuple[float | mpf, ...]


def value(kernel: Any, x: Row, y: Row, at: Mapping[str, mpf]) -> mpf:
    """Return K(x, y) where the parameters are those of `at`."""

    def part(name: str, x: Row = x, y: Row = y) -> mpf:
        inside = {
            key.removeprefix(f"{name}."): one
            for key, one in at.items()
            if key.startswith(f"{name}.")
        }
        return value(kernel.named()[name], x, y, inside)

    word = getattr(kernel, "word", None)
    if word in ("sum", "product"):
        return (mp.fsum if word == "sum" else mp.fprod)(part(name) for name in kernel.named())
    if word == "multiple":
        return at["factor"] * part("kernel")
    if word == "normalized":
        return part("kernel") / mp.sqrt(part("kernel", y=x) * part("kernel", x=y))
    if word == "columns":
        return part("kernel", *(tuple(side[k] for k in kernel.columns) for side in (x, y)))
    if word == "ard":
        scales = [at[f"length_scales.{k}"] for k in range(len(x))]
        sides = (tuple(a / s for a, s in zip(side, scales, strict=True)) for side in (x, y))
        return part("kernel", *sides)
    return _leaf(kernel, len(x), tuple(at.items())).pair(*_statistics(x, y))


@lru_cache(maxsize=512)
def _leaf(kernel: Any, dimension: int, at: tuple[tuple[str, mpf], ...]) -> oracle.Kernel:
    if isinstance(kernel, nf.ExponentialPower):
        return oracle.exponential_power(kernel.gamma, dict(at)["c"], kernel.inputs)
    if isinstance(kernel, nf.ArcCosine):
        return oracle.arc_cosine(kernel.order)
    net = kernel.network
    assert net.parameterization == "ntk", "of other networks the oracle has no parameters"
    dual = getattr(oracle, net.activation.name)
    return oracle.fully_connected_ntk(
        net.depth, dual, dimension=dimension, which=kernel.kind, **dict(at)
    )


def _statistics(x: Row, y: Row) -> tuple[mpf, mpf, mpf]:
    """Return |x|^2, |y|^2 and the angle."""
    a, b = ([mpf(one) for one in side] for side in (x, y))
    q, p, c = mp.fdot(a, a), mp.fdot(b, b), mp.fdot(a, b)
    if q == 0 or p == 0:
        return q, p, mpf(0) if q == p else mp.pi / 2
    return q, p, mp.atan2(mp.sqrt(max(q * p - c * c, mpf(0))), c)


@oracle.precise
def slopes(kernel: Any, X: np.ndarray, Y: np.ndarray) -> dict[str, np.ndarray]:
    """Return dK(X, Y)/dp for each parameter, from differences in 100 digits."""
    at = {name: mpf(one) for name, one in kernel.parameters().items()}
    found = {}
    for name, one in at.items():
        h = one * STEP if one else STEP
        ends = [_matrix(kernel, X, Y, at | {name: one + step}) for step in (h, -h)]
        found[name] = ((ends[0] - ends[1]) / (2 * h)).astype(np.float64)
    return found


def _matrix(
    kernel: Any, X: np.ndarray, Y: np.ndarray, at: Mapping[str, mpf]
) -> np.ndarray[Any, Any]:
    def row(side: Sequence[float]) -> Row:
        return tuple(map(float, side))

    return np.array([[value(kernel, row(x), row(y), at) for y in Y] for x in X], dtype=object)
