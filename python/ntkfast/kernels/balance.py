"""Layers whose kernels leave the range of floating-point numbers, brought back to it.

Positively homogeneous activations let powers of two pass: if the NNGP c and the NTK t before one of
degree p are 2^g times what is computed, they are 2^(p g) times that behind it. So the constants of
the layers can be chosen such that c stays near 1, and one power of two is left at the end. Networks
of ordinary size keep their constants.
"""

from __future__ import annotations

import math
import operator
from dataclasses import replace
from functools import lru_cache
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ntkfast.activations.base import Activation
from ntkfast.arrays.collections import FloatArray
from ntkfast.kernels.layers import IDENTITY, Layer, Layers, carry

FREE = 64  # octaves around 1 in which nothing is done
MOST = 800  # octaves that the NTK may lie above the NNGP before the latter is given up
Wide: TypeAlias = tuple[float, int]  # m 2^k
Variances: TypeAlias = NDArray[np.float64]


class Balanced(NamedTuple):
    """Layers, and the power of two by which their kernels must be multiplied."""

    layers: tuple[Layer, ...]
    exponent: int


def balanced(layers: Layers) -> Balanced:
    """Return layers with the same kernels but for a power of two, and an NNGP near 1 on the way.

    Layers with activations that are not homogeneous are returned as they are: their results
    overflow or vanish with the numbers on the way.
    """
    if any(layer.activation.degree is None for layer in layers):
        return Balanced(tuple(layers), 0)
    found: list[Layer] = []
    c, t, g = (1.0, 0), (0.0, 0), 0
    saved: dict[int, tuple[Wide, Wide, int]] = {}
    for layer, waiting in zip(layers, waits(layers), strict=True):
        if layer.save >= 0:
            saved[layer.save] = c, t, g
        if layer.activation != IDENTITY:
            degree = int(layer.activation.degree or 0)
            value, slope = _at_one(layer.activation)
            size, octave = c
            slope *= size ** (degree - 1) if size or degree else 0.0
            t = _wide(slope * t[0], t[1] + (degree - 1) * octave)
            c = _wide(value * size**degree, degree * octave)
            g *= degree
        t = _add(_wide(layer.w * t[0], t[1]), _wide(layer.x * c[0], c[1]))
        c, t = _add(_wide(layer.w * c[0], c[1]), _wide(layer.e, 0)), _add(t, _wide(layer.y, 0))
        after = saved[layer.add][2] if layer.add >= 0 else _gauge(c, t, g)
        found.append(_shifted(layer, g - after, -after))
        g = after
        if layer.add >= 0:
            other_c, other_t, _ = saved[layer.add]
            c, t = _add(c, other_c), _add(t, other_t)
        if layer.times >= 0:
            other_c, other_t, more = saved[layer.times]
            c, t, g = _times(c, other_c), _add(_times(t, other_c), _times(c, other_t)), g + more
        if layer.joins and not waiting and (after := _gauge(c, t, g)) != g:
            found.append(Layer(w=scaled(1.0, g - after)))
            g = after
    return Balanced(tuple(found), g)


@lru_cache(maxsize=64)
def _at_one(activation: Activation) -> tuple[float, float]:
    """Return E[s^2] and E[s'^2] at variance 1."""
    return float(activation.variance(1.0)), float(activation.derivative_variance(1.0))


def waits(layers: Layers) -> list[bool]:
    """Return whether a state that was saved is wanted behind each layer."""
    wanted: set[int] = set()
    found = []
    for layer in reversed(layers):
        found.append(bool(wanted))
        wanted |= {slot for slot in (layer.add, layer.times) if slot >= 0}
        wanted.discard(layer.save)
    return found[::-1]


def scaled(value: float, exponent: int) -> float:
    """Return value 2^exponent: infinity where it overflows, 0 where it vanishes."""
    try:
        return math.ldexp(value, exponent)
    except OverflowError:
        return math.copysign(math.inf, value)


def both_scaled(
    values: Any, scales: tuple[float, float], exponent: int, dtype: DTypeLike = np.float64
) -> NDArray[Any]:
    """Return NTK and NNGP of inputs with themselves, (n, 2), from the values of the layers."""
    both = np.empty((len(values.nngp), 2), dtype)
    with np.errstate(over="ignore", under="ignore"):
        for k, value in enumerate((values.ntk, values.nngp)):
            both[:, k] = np.ldexp(scales[k] * value, exponent)
    return both


def _wide(value: float, exponent: int) -> Wide:
    mantissa, more = math.frexp(value)
    return mantissa, exponent + more


def _times(a: Wide, b: Wide) -> Wide:
    return _wide(a[0] * b[0], a[1] + b[1])


def _add(a: Wide, b: Wide) -> Wide:
    top = max(a[1] if a[0] else b[1], b[1] if b[0] else a[1])
    return _wide(scaled(a[0], a[1] - top) + scaled(b[0], b[1] - top), top)


def _gauge(c: Wide, t: Wide, g: int) -> int:
    """Return the power of two that is set aside from here on."""
    bounds = [c[1]] * (c[0] > 0) + [t[1] - MOST] * (t[0] > 0)
    best = max(bounds, default=g)
    return best if abs(best - g) > FREE else g


def _shifted(layer: Layer, factor: int, term: int) -> Layer:
    """Return a layer with other powers of two before and behind it."""
    if not factor and not term:
        return layer
    w, x = (scaled(value, factor) for value in (layer.w, layer.x))
    e, y = (scaled(value, term) for value in (layer.e, layer.y))
    return replace(layer, w=w, e=e, x=x, y=y)


def check_variances(name: str, layers: Layers, norms: FloatArray) -> None:
    """Raise an error if variances of rows with these norms, none 0, leave float64 on the way.

    Raises
    ------
    ValueError
        Naming the argument that holds the rows, and a norm.
    """
    # Angles outlive their variances, unless a function or a sum asks for these.
    asking = any(layer.activation.degree is None or layer.joins for layer in layers)

    def within(c: Variances) -> Variances:
        wrong = np.flatnonzero(~(c < np.inf) | ((c == 0) & asking))
        if len(wrong):
            verb, way = ("overflows", "down") if c[wrong[0]] else ("vanishes in", "up")
            raise ValueError(
                f"{name}: a layer {verb} float64 for a row with norm {ends[wrong[0]]:.3g}; "
                f"scale the rows or the weights {way}"
            )
        return c

    def activate(layer: Layer, c: Variances) -> Variances:
        return within(np.asarray(layer.activation.variance(c), np.float64))

    def affine(layer: Layer, c: Variances) -> Variances:
        after = layer.w * c + layer.e
        return within(after) if layer.w else after  # else a saved state takes its place

    ends = np.array([norms.min(), norms.max()], np.float64)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        carry(layers, ends * ends, activate, affine, operator.add, lambda a, b: within(a * b))
