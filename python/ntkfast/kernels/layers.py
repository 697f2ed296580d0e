"""A dense network as a list of layers, and what the list says about variances and angles.

A pair of inputs is carried through the network as ``(c, t)``, the NNGP and the NTK at that point.
One `Layer` first applies an activation, ``(c, t) -> (K(c), K'(c) t)`` with the dual kernel K, and
then an affine step ``(c, t) -> (w c + e, w t + x c + y)``: a dense layer with weight variance w and
bias variance e adds what its own weights (x) and biases (y) contribute to the NTK. A residual
branch saves the state before its first layer and adds it after the last. Every network of the
package, plain, residual or composed by hand, is such a list; see Jacot et al. (2018) for the
recursion and `ntkfast.networks` for the constants.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ntkfast.activations.base import SINE, Activation
from ntkfast.activations.polynomials import Identity
from ntkfast.engines.codes import LAYER_ROW

Array: TypeAlias = NDArray[np.floating[Any]]
MAX_SLOTS = 4
IDENTITY = Identity()


@dataclass(frozen=True)
class Layer:
    """An activation, an affine step, and the slots it saves to before or adds after (or -1)."""

    activation: Activation = IDENTITY
    w: float = 1.0
    e: float = 0.0
    x: float = 0.0
    y: float = 0.0
    save: int = -1
    add: int = -1

    def then(self, after: Layer) -> Layer | None:
        """Merge with a purely affine layer that follows; None if that cannot be."""
        if after.activation != IDENTITY or after.save >= 0 or self.add >= 0:
            return None
        return replace(
            self,
            w=after.w * self.w,
            e=after.w * self.e + after.e,
            x=after.w * self.x + after.x * self.w,
            y=after.w * self.y + after.x * self.e + after.y,
            add=after.add,
        )


Layers: TypeAlias = Sequence[Layer]


def merge(layers: Layers) -> tuple[Layer, ...]:
    """Join affine layers with the layer before them."""
    merged: list[Layer] = []
    for layer in layers:
        joined = merged[-1].then(layer) if merged else None
        if joined is None:
            merged.append(layer)
        else:
            merged[-1] = joined
    return tuple(merged)


def homogeneity(layers: Layers, kind: str) -> float | None:
    """Return p if the NTK or NNGP has K(ax, y) = a^p K(x, y) for all a > 0, else None."""
    degree, slots = 1.0, [0.0] * MAX_SLOTS
    for layer in layers:
        if layer.save >= 0:
            slots[layer.save] = degree
        if layer.activation.degree is None or layer.e or (layer.y and kind == "ntk"):
            return None
        degree *= layer.activation.degree
        if layer.add >= 0 and slots[layer.add] != degree:
            return None
    return degree


def has_kinks(layers: Layers) -> bool:
    """Whether the NTK has a kink at equal directions, so that small angles must be accurate."""
    return any(layer.activation.code[0] in (1, 2) for layer in layers)


class Diagonal(NamedTuple):
    """NNGP and NTK of inputs with themselves."""

    nngp: Array
    ntk: Array


def diagonal(layers: Layers, q: Array) -> Diagonal:
    """Return the kernels of inputs with squared norms `q` with themselves."""
    state = Diagonal(q, np.zeros_like(q))
    slots = [state] * MAX_SLOTS
    for layer in layers:
        if layer.save >= 0:
            slots[layer.save] = state
        c, t = state
        if layer.activation != IDENTITY:
            t = np.where(t == 0, 0, layer.activation.derivative_variance(c) * t)
            c = layer.activation.variance(c)
        state = Diagonal(layer.w * c + layer.e, layer.w * t + layer.x * c + layer.y)
        if layer.add >= 0:
            state = Diagonal(*(a + b for a, b in zip(state, slots[layer.add], strict=True)))
    return state


class Sphere(NamedTuple):
    """Kernels of two inputs of one norm: the value at angle 0, and what is missing from it.

    Differences from the diagonal are sums of non-negative terms in this form, so that they keep
    their relative accuracy however small the angle is and however deep the network.
    """

    q: Any  # NNGP of an input with itself
    defect: Array  # 1 - nngp / q
    t: Any  # NTK of an input with itself
    t_missing: Array  # t - ntk


def sphere(layers: Layers, q: float, v: Array, vc: Array) -> Sphere:
    """Return the kernels of two inputs with squared norm `q`.

    Parameters
    ----------
    q : float
        Common squared norm, positive.
    v, vc : arrays
        sin^2 and cos^2 of half the angle; their dtype is kept.
    """
    number = v.dtype.type
    state = Sphere(number(q), 2 * v, number(0), np.zeros_like(v))
    slots = [state] * MAX_SLOTS
    for layer in layers:
        if layer.save >= 0:
            slots[layer.save] = state
        state, vc = _activate(layer, state, vc)
        w, e, x, y = (number(a) for a in (layer.w, layer.e, layer.x, layer.y))
        q_new = w * state.q + e
        state = Sphere(
            q_new,
            state.defect * (w * state.q / q_new),
            w * state.t + x * state.q + y,
            w * state.t_missing + x * state.q * state.defect,
        )
        if layer.add >= 0:
            state = _sum(state, slots[layer.add])
        if e or layer.add >= 0:
            vc = 1 - state.defect / 2
    return state


def _activate(layer: Layer, state: Sphere, vc: Array) -> tuple[Sphere, Array]:
    """Apply the activation; `vc` is cos^2 of half the angle, before and after."""
    if layer.activation == IDENTITY:
        return state, vc
    defect, slope, slope_defect = layer.activation.on_sphere(state.q, state.defect / 2, vc)
    number = vc.dtype.type
    q = number(layer.activation.variance(state.q))
    ratio = q / state.q
    top = number(layer.activation.derivative_variance(state.q))
    after = Sphere(
        q,
        defect,
        top * state.t,
        ratio * (slope_defect * state.t + slope * state.t_missing),
    )
    return after, 1 - defect / 2


def _sum(a: Sphere, b: Sphere) -> Sphere:
    q = a.q + b.q
    return Sphere(q, (a.q * a.defect + b.q * b.defect) / q, a.t + b.t, a.t_missing + b.t_missing)


def numbers(layers: Layers, terms: Sequence[int]) -> NDArray[np.void]:
    """Return the table of constants of `ntkfast.engines.maps.LayerMap`.

    `terms` are the numbers of Hermite coefficients of the layers that need them, in order.
    """
    table = np.zeros(len(layers), LAYER_ROW)
    counts, offset = iter(terms), 0
    for row, layer in zip(table, layers, strict=True):
        kind, parameters = layer.activation.code
        row["kind"], row["save"], row["add"] = kind, layer.save, layer.add
        row["parameter"][: len(parameters)] = parameters
        if kind == SINE:
            row["parameter"][2] = np.cos(2 * parameters[2])
        for name in "wexy":
            row[name] = getattr(layer, name)
        if kind == 8:
            row["offset"], row["count"] = offset, next(counts)
            offset += row["count"] + 1
    return table
