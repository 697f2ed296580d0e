"""A dense network as a list of layers, and what the list says about variances and angles.

A pair of inputs is carried through the network as ``(c, t)``, the NNGP and the NTK at that point.
One `Layer` first applies an activation, ``(c, t) -> (K(c), K'(c) t)`` with the dual kernel K, and
then an affine step ``(c, t) -> (w c + e, w t + x c + y)``: a dense layer with weight variance w and
bias variance e adds what its own weights (x) and biases (y) contribute to the NTK. A residual
branch saves the state before its first layer and adds it after the last; branches that are
multiplied do so to a saved state, ``(c, t) (c', t') -> (c c', t c' + c t')``. Every network of the
package, plain, residual or composed by hand, is such a list; see Jacot et al. (2018) for the
recursion and `ntkfast.networks` for the constants.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from ntkfast.activations.base import Activation
from ntkfast.activations.polynomials import Identity
from ntkfast.engines.codes import LAYER_ROW, SLOTS

Array: TypeAlias = NDArray[np.floating[Any]]
IDENTITY = Identity()
SMALL = 1e-150
ANY = math.inf  # the degree of what vanishes


@dataclass(frozen=True)
class Layer:
    """An activation, an affine step, and slots: saved to before it, added or multiplied by after.

    -1 is none. With w = 0 and a slot to add the layer goes back to the saved state.
    """

    activation: Activation = IDENTITY
    w: float = 1.0
    e: float = 0.0
    x: float = 0.0
    y: float = 0.0
    save: int = -1
    add: int = -1
    times: int = -1

    @property
    def joins(self) -> bool:
        """Whether it ends in a sum or a product with a saved state."""
        return self.add >= 0 or self.times >= 0

    def then(self, after: Layer) -> Layer | None:
        """Merge with a purely affine layer that follows; None if that cannot be."""
        if after.activation != IDENTITY or after.save >= 0 or self.joins:
            return None
        return replace(
            self,
            w=after.w * self.w,
            e=after.w * self.e + after.e,
            x=after.w * self.x + after.x * self.w,
            y=after.w * self.y + after.x * self.e + after.y,
            add=after.add,
            times=after.times,
        )


Layers: TypeAlias = Sequence[Layer]


State = TypeVar("State")
One = TypeVar("One", bound=Layer)


def carry(
    layers: Sequence[One],
    state: State,
    activate: Callable[[One, State], State],
    affine: Callable[[One, State], State],
    join: Callable[[State, State], State],
    multiply: Callable[[State, State], State],
    settle: Callable[[One, State], State] = lambda _, state: state,
) -> State:
    """Carry a state of any kind through layers: the one walk that all of the package takes.

    Parameters
    ----------
    activate, affine : callables
        ``(layer, state) -> state`` for the two halves of a layer; `activate` is not called for the
        identity.
    join : callable
        The sum of the states of two branches.
    multiply : callable
        Their product.
    settle : callable, optional
        ``(layer, state) -> state``, what remains to be done when a layer is complete.
    """
    slots = [state] * SLOTS
    for layer in layers:
        if layer.save >= 0:
            slots[layer.save] = state
        if layer.activation != IDENTITY:
            state = activate(layer, state)
        state = affine(layer, state)
        if layer.add >= 0:
            state = join(state, slots[layer.add])
        if layer.times >= 0:
            state = multiply(state, slots[layer.times])
        state = settle(layer, state)
    return state


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

    def activate(layer: Layer, degree: float | None) -> float | None:
        power = layer.activation.degree
        return None if degree is None or power is None else degree * power

    def affine(layer: Layer, degree: float | None) -> float | None:
        if layer.add >= 0 and not (layer.w or layer.e or layer.x or layer.y):
            return ANY
        return None if layer.e or (layer.y and kind == "ntk") else degree

    def join(a: float | None, b: float | None) -> float | None:
        return b if a in (b, ANY) else None

    def multiply(a: float | None, b: float | None) -> float | None:
        return None if a is None or b is None else a + b

    start: float | None = 1.0
    return carry(layers, start, activate, affine, join, multiply)


class Diagonal(NamedTuple):
    """NNGP and NTK of inputs with themselves."""

    nngp: Array
    ntk: Array


def diagonal(layers: Layers, q: Array, t: Array | None = None) -> Diagonal:
    """Return the kernels of inputs with squared norms `q` with themselves.

    `t` is their NTK before the first layer, if it does not vanish.
    """

    def activate(layer: Layer, state: Diagonal) -> Diagonal:
        c, t = state
        t = np.where(t == 0, 0, layer.activation.derivative_variance(c) * t)
        return Diagonal(layer.activation.variance(c), t)

    def affine(layer: Layer, state: Diagonal) -> Diagonal:
        c, t = state
        return Diagonal(layer.w * c + layer.e, layer.w * t + layer.x * c + layer.y)

    def join(a: Diagonal, b: Diagonal) -> Diagonal:
        return Diagonal(a.nngp + b.nngp, a.ntk + b.ntk)

    def multiply(a: Diagonal, b: Diagonal) -> Diagonal:
        return Diagonal(a.nngp * b.nngp, a.ntk * b.nngp + a.nngp * b.ntk)

    start = Diagonal(q, np.zeros_like(q) if t is None else t)
    return carry(layers, start, activate, affine, join, multiply)


class Sphere(NamedTuple):
    """Kernels of two inputs of one norm: the value at angle 0, and what is missing from it.

    Differences from the diagonal are sums of non-negative terms in this form, so that they keep
    their relative accuracy however small the angle is and however deep the network.
    """

    q: Any  # NNGP of an input with itself
    defect: Array  # 1 - nngp / q
    t: Any  # NTK of an input with itself
    t_missing: Array  # t - ntk
    vc: Array  # cos^2 of half the angle: half of 1 + nngp / q


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
    start = Sphere(number(q), 2 * v, number(0), np.zeros_like(v), vc)
    return sphere_after(layers, start)


def sphere_after(layers: Layers, start: Sphere) -> Sphere:
    """Return what layers make of such kernels; `t` and `t_missing` may have more axes before."""
    number = start.defect.dtype.type

    def activate(layer: Layer, state: Sphere) -> Sphere:
        before, old, t, t_missing, vc = state
        activation = layer.activation
        q = number(activation.variance(before))
        top = number(activation.derivative_variance(before))
        # Of variances that vanish only the limit is known, and that is reached long before.
        at = number(SMALL) if activation.degree is None and before < SMALL else before
        defect, slope, slope_defect = activation.on_sphere(at, old / 2, vc)
        level = q if at is before else number(activation.variance(at))
        gain = level / at if at else top  # of ReLU and its relatives
        missing = gain * (slope_defect * t + slope * t_missing)
        if activation.is_odd:  # what is small at either end is computed there
            front, opposite = old / 2 <= vc, activation.on_sphere(at, vc, old / 2)[0]
            defect = np.where(front, defect, 2 - opposite)
            vc = np.where(front, 1 - defect / 2, opposite / 2)
        else:
            vc = 1 - defect / 2
        return Sphere(q, defect, top * t, missing, vc)

    def affine(layer: Layer, state: Sphere) -> Sphere:
        q, defect, t, t_missing, vc = state
        w, e, x, y = (number(a) for a in (layer.w, layer.e, layer.x, layer.y))
        after = w * q + e
        missing = w * t_missing + x * q * defect
        share, shift = (w * q / after, e / after) if after else (number(1), number(0))
        return Sphere(after, defect * share, w * t + x * q + y, missing, vc * share + shift)

    def join(a: Sphere, b: Sphere) -> Sphere:
        q = a.q + b.q
        one, other = (a.q / q, b.q / q) if q else (number(1), number(0))
        defect, vc = (one * x + other * y for x, y in ((a.defect, b.defect), (a.vc, b.vc)))
        return Sphere(q, defect, a.t + b.t, a.t_missing + b.t_missing, vc)

    def multiply(a: Sphere, b: Sphere) -> Sphere:
        va, vb = a.defect / 2, b.defect / 2
        defect = 2 * (va * b.vc + a.vc * vb)
        # For either factor t q - (t - m) q (1 - D) = q (m + (t - m) D).
        one = b.q * (a.t_missing + (a.t - a.t_missing) * b.defect)
        two = a.q * (b.t_missing + (b.t - b.t_missing) * a.defect)
        return Sphere(a.q * b.q, defect, a.t * b.q + a.q * b.t, one + two, a.vc * b.vc + va * vb)

    return carry(layers, start, activate, affine, join, multiply)


def numbers(layers: Layers, terms: Sequence[int]) -> NDArray[np.void]:
    """Return the table of constants of `ntkfast.engines.maps.LayerMap`.

    `terms` are the numbers of Hermite coefficients of the layers that need them, in order.
    """
    rows: list[tuple[object, ...]] = []
    counts, offset = iter(terms), 0
    for layer in layers:
        kind, parameters = layer.activation.code
        three = (*parameters, 0.0, 0.0, 0.0)[:3]
        first = count = 0
        if not layer.activation.is_compiled:
            first, count = offset, next(counts)
            offset += count + 2
        affine = layer.w, layer.e, layer.x, layer.y
        slots = layer.save, layer.add, layer.times
        rows.append((kind, *slots, three, *affine, first, count))
    return np.array(rows, LAYER_ROW)
