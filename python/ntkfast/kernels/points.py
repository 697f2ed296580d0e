"""The layers of a network on numbers other than angles: complex angles and power series.

`ntkfast.kernels.layers.sphere` is the recursion on real angles. Here it is carried on a `Point` of
any kind that knows the arc-cosine functions of its angle, so that one walk gives the analytic
continuation of a kernel (`ComplexPoint`) and its expansions at u = 1 and u = -1 (`SeriesPoint`).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ntkfast.activations.base import Activation
from ntkfast.activations.pairs import (
    _arc,
    _arc_shape,
    _monomial_weights,
    _odd_factorial,
    _powers_defect,
)
from ntkfast.activations.polynomials import Identity
from ntkfast.activations.rectified import ABReLU, RectifiedMonomial, Step
from ntkfast.kernels.jets import Jet
from ntkfast.kernels.layers import MAX_SLOTS, Layers

Complex: TypeAlias = NDArray[np.complex128]
CLOSED = (ABReLU, Identity, RectifiedMonomial, Step)


def is_closed(layers: Layers) -> bool:
    """Whether every activation is made of arc-cosine functions."""
    return all(isinstance(layer.activation, CLOSED) for layer in layers)


class Point(ABC):
    """An angle, given by D = 1 - u and E = 1 + u, numbers or series.

    kappa_m = J_m(theta) / J_m(0) are the arc-cosine functions of Cho and Saul (2009).
    """

    D: Any
    E: Any

    @abstractmethod
    def ramps(self, order: int) -> list[tuple[Any, Any]]:
        """Return (kappa_m, 1 - kappa_m) for m = 0 ... order."""

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
            rest = _arc(m, angle) / (math.pi * _odd_factorial(m))
            if m == 0:
                polynomial = np.zeros_like(v)
            elif m == 1:
                polynomial = self.D
            else:
                weights = _monomial_weights(m, "D")
                polynomial = _powers_defect(weights, v, vc) / _odd_factorial(m)
            defect = polynomial - rest if m % 2 else polynomial + rest
            pairs.append((np.where(acute, 1 - defect, rest), np.where(acute, defect, 1 - rest)))
        return pairs


class NeedsRootError(ArithmeticError):
    """The expansion goes in a root of the variable: start again with a finer one."""


class SeriesPoint(Point):
    """Power series in z of an angle, for real z near 0."""

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
            value = _arc_shape(m, start, 1 - start)[0]
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
    """NNGP (value at angle 0, and what is missing from it) and NTK."""

    q: Any
    missing: Any
    t: Any


def walk(layers: Layers, q: float, point: Point) -> State:
    """Carry a point through the layers, for inputs of squared norm `q`.

    Parameters
    ----------
    layers : sequence of Layer
        Activations must be among `CLOSED`.
    q : float
        Common squared norm.
    point : Point
        The angles of the inputs.
    """
    start: Any = np.longdouble(q) if isinstance(point, SeriesPoint) else float(q)
    state = State(start, point.D * start, point.D * 0)
    slots, points = [state] * MAX_SLOTS, [point] * MAX_SLOTS
    for layer in layers:
        if layer.save >= 0:
            slots[layer.save], points[layer.save] = state, point
        if layer.activation != Identity():
            state, point = _activate(layer.activation, state, point)
        value = layer.w * state.q + layer.e
        missing = layer.w * state.missing
        t = layer.w * state.t + layer.x * (state.q - state.missing) + layer.y
        if layer.add >= 0:
            saved = slots[layer.add]
            value, missing, t = value + saved.q, missing + saved.missing, t + saved.t
        if layer.e or layer.add >= 0:
            point = point.next(missing / value)
        state = State(value, missing, t)
    return state


def _activate(activation: Activation, state: State, point: Point) -> tuple[State, Point]:
    top = activation.variance(state.q)
    defect, slope = _sphere_map(activation, point)
    t = state.t * 0 if slope is None else slope * state.t * (top / state.q)
    return State(top, defect * top, t), point.next(defect)


def _sphere_map(activation: Activation, point: Point) -> tuple[Any, Any]:
    """Return 1 - K/K1 and Kd q/K1 (None for 0), as `Activation.on_sphere` does for real angles."""
    if isinstance(activation, ABReLU):
        (kappa0, _), (kappa1, defect1) = point.ramps(1)
        fold, line = activation.code[1]
        total, opposite = fold + line, (activation.negative + activation.positive) ** 2 / 2
        near = fold * defect1 + line * point.D
        far = opposite - (fold * kappa1 + line * point.E)  # for abs this vanishes at u = -1 too
        return point.choose(near, far) / total, (fold * kappa0 + line) / total
    if isinstance(activation, Step):
        ((_, defect0),) = point.ramps(0)
        mean2, jump2 = activation.code[1]
        return defect0 * (2 * jump2 / (mean2 + jump2)), None
    assert isinstance(activation, RectifiedMonomial)
    n = activation.order
    ramps = point.ramps(n)
    return ramps[n][1], ramps[n - 1][0] * (n * n / (2 * n - 1))
