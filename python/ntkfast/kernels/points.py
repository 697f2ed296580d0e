"""The layers of a network on numbers other than angles: complex angles and power series.

`ntkfast.kernels.layers.sphere` is the recursion on real angles. Here it is carried on a `Point` of
any kind that knows the arc-cosine functions of its angle, so that one walk gives the analytic
continuation of a kernel (`ComplexPoint`) and its expansions at u = 1 and u = -1 (`SeriesPoint`);
`at_complex_cosines` is the recursion for two norms.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ntkfast.activations.base import Angle, Complex
from ntkfast.activations.pairs import (
    arc,
    arc_shape,
    monomial_weights,
    odd_factorial,
    powers_defect,
)
from ntkfast.kernels.jets import Jet
from ntkfast.kernels.layers import Layer, Layers, carry

Array: TypeAlias = NDArray[np.float64]


def is_closed(layers: Layers) -> bool:
    """Whether every activation is made of arc-cosine functions."""
    return all(layer.activation.is_arc_cosine for layer in layers)


class Point(Angle, ABC):
    """An angle, given by D = 1 - u and E = 1 + u, numbers or series.

    kappa_m = J_m(theta) / J_m(0) are the arc-cosine functions of Cho and Saul (2009).
    """

    D: Any
    E: Any
    number: Any = float  # the type of numbers beside it

    def choose(self, near: Any, far: Any) -> Any:
        """Return the form that is accurate at this angle, of two that are equal."""
        return near

    @abstractmethod
    def next(self, D: Any) -> Point:
        """Return the angle with this defect."""


class ComplexPoint(Point):
    """Complex angles with real part in [0, pi]."""

    def __init__(self, D: Complex, E: Complex) -> None:
        self.D, self.E = D, E

    def choose(self, near: Complex, far: Complex) -> Complex:
        """Return `near` at acute angles and `far` at obtuse ones."""
        return np.where(self.D.real <= self.E.real, near, far)

    def next(self, D: Complex) -> ComplexPoint:
        """Return the angles with this defect."""
        return ComplexPoint(D, 2 - D)

    def ramps(self, order: int) -> list[tuple[Complex, Complex]]:
        """Return (kappa_m, 1 - kappa_m); the one that is small near an end is computed first."""
        v, vc = self.D / 2, self.E / 2
        acute = v.real <= vc.real
        angle = 2 * np.arcsin(np.sqrt(np.where(acute, v, vc)))
        pairs = []
        for m in range(order + 1):
            rest = arc(m, angle) / (math.pi * odd_factorial(m))
            if m == 0:
                polynomial = np.zeros_like(v)
            elif m == 1:
                polynomial = self.D
            else:
                weights = monomial_weights(m, "D")
                polynomial = powers_defect(weights, v, vc) / odd_factorial(m)
            defect = polynomial - rest if m % 2 else polynomial + rest
            pairs.append((np.where(acute, 1 - defect, rest), np.where(acute, defect, 1 - rest)))
        return pairs


class NeedsRootError(ArithmeticError):
    """The expansion goes in a root of the variable: start again with a finer one."""


class SeriesPoint(Point):
    """Power series in z of an angle, for real z near 0."""

    number = np.longdouble

    def __init__(self, D: Jet, E: Jet) -> None:
        self.D, self.E = D, E

    def next(self, D: Jet) -> SeriesPoint:
        """Return the angle with this defect; ends of the range that rounding misses are snapped."""
        eps = float(np.finfo(D.a.dtype).eps)
        for end in (0, 2):
            if 0 < abs(D.a[0] - end) < 64 * eps:
                D = Jet(np.concatenate([[D.a.dtype.type(end)], D.a[1:]]))
        return SeriesPoint(D, 2 - D)

    def ramps(self, order: int) -> list[tuple[Jet, Jet]]:
        """Integrate d kappa_0 = du / (pi sin theta), d kappa_m = m^2/(2m-1) kappa_{m-1} du."""
        number = self.D.a.dtype.type
        pi = np.arctan2(number(0), number(-1))
        slope = -self.D.derivative()
        start, density = self.D.a[:1] / 2, self._density(slope) / pi
        pairs = []
        for m in range(order + 1):
            value = arc_shape(m, start, 1 - start)[0]
            whole = density.integral(value)
            pairs.append((whole, 1 - whole))
            density = whole * slope * (number((m + 1) ** 2) / (2 * m + 1))
        return pairs

    def _density(self, slope: Jet) -> Jet:
        """Return u' / sqrt((1 - u)(1 + u)), whose singularities at the ends cancel."""
        product = self.D * self.E
        low = product.order()
        if low >= len(product.a):  # the angle does not vary
            return slope
        if low % 2:
            raise NeedsRootError
        density: Jet = slope * product.shift(-low).inverse_root()
        return density.shift(-(low // 2))


class State(NamedTuple):
    """NNGP (value at angle 0, and what is missing from it), NTK, and the angle."""

    q: Any
    missing: Any
    t: Any
    point: Any


def walk(layers: Layers, q: float, point: Point) -> State:
    """Carry a point through the layers, for inputs of squared norm `q`.

    Parameters
    ----------
    layers : sequence of Layer
        Activations must be made of arc-cosine functions.
    q : float
        Common squared norm.
    point : Point
        The angles of the inputs.
    """

    def activate(layer: Layer, state: State) -> State:
        top = layer.activation.variance(state.q)
        defect, slope = layer.activation.arc_cosine_map(state.point)
        t = state.t * 0 if slope is None else slope * state.t * (top / state.q)
        return State(top, defect * top, t, state.point.next(defect))

    def affine(layer: Layer, state: State) -> State:
        q, missing, t, point = state
        t = layer.w * t + layer.x * (q - missing) + layer.y
        return State(layer.w * q + layer.e, layer.w * missing, t, point)

    def join(a: State, b: State) -> State:
        return State(a.q + b.q, a.missing + b.missing, a.t + b.t, a.point)

    def multiply(a: State, b: State) -> State:
        left, right = a.q - a.missing, b.q - b.missing
        missing = a.missing * b.q + left * b.missing
        return State(a.q * b.q, missing, a.t * right + left * b.t, a.point)

    def settle(layer: Layer, state: State) -> State:
        bent = layer.e or layer.joins  # only then has the angle changed
        return state._replace(point=point.next(state.missing / state.q)) if bent else state

    start = point.number(q)
    state = State(start, point.D * start, point.D * 0, point)
    return carry(layers, state, activate, affine, join, multiply, settle)


class Pair(NamedTuple):
    """NNGP, NTK and both variances of pairs of inputs, at one point of a network."""

    c: Complex
    t: Complex
    q: Array
    p: Array


def at_complex_cosines(layers: Layers, p: Array, q: Array, u: Complex) -> Pair:
    """Return the kernels of inputs with norms `p` and `q`, (n, 1) arrays, at cosines (n, m)."""

    def activate(layer: Layer, pair: Pair) -> Pair:
        c, slope = layer.activation.complex_duals(pair.q, pair.p, pair.c)
        a, b = (np.asarray(layer.activation.variance(v), np.float64) for v in pair[2:])
        return Pair(c, slope * pair.t, a, b)

    def affine(layer: Layer, pair: Pair) -> Pair:
        w, e = layer.w, layer.e
        t = w * pair.t + layer.x * pair.c + layer.y
        return Pair(w * pair.c + e, t, w * pair.q + e, w * pair.p + e)

    def join(a: Pair, b: Pair) -> Pair:
        return Pair(a.c + b.c, a.t + b.t, a.q + b.q, a.p + b.p)

    def multiply(a: Pair, b: Pair) -> Pair:
        return Pair(a.c * b.c, a.t * b.c + a.c * b.t, a.q * b.q, a.p * b.p)

    c: Complex = p * q * u
    return carry(layers, Pair(c, np.zeros_like(c), p * p, q * q), activate, affine, join, multiply)
