"""Waves and exponentials, whose duals are exponentials of the covariance."""

# ruff: noqa: D102 - the methods are documented once, in the base class

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from ntkfast.activations.base import (
    Activation,
    Array,
    Code,
    Continuation,
    DualSlopes,
    SphereMap,
    _arguments,
    _check_count,
    _check_finite,
    _check_nonzero,
    _column,
    _floats,
    _like,
    _linear_limit,
    _stack,
)
from ntkfast.activations.pairs import covariance, root_share
from ntkfast.engines.codes import ActivationKind


@dataclass(frozen=True)
class Sine(Activation):
    """A sine wave, s(x) = a sin(b x + phase): sin, cos, and the RBF activation."""

    a: float = 1.0
    b: float = 1.0
    phase: float = 0.0
    is_smooth = True

    def __post_init__(self) -> None:
        _check_finite("a, b, phase", self.a, self.b, self.phase)
        _check_nonzero(a=self.a, b=self.b)

    @property
    def name(self) -> str:
        if (self.a, self.b) == (1, 1) and self.phase in (0, math.pi / 2):
            return "cos" if self.phase else "sin"
        return "sine" + _arguments(self.a, self.b, self.phase)

    @property
    def code(self) -> Code:
        return ActivationKind.SINE, (float(self.a), float(self.b), float(np.cos(2 * self.phase)))

    @property
    def is_odd(self) -> bool:
        return self.phase == 0

    @property
    def continuation(self) -> Continuation | None:
        return lambda z: self.a * np.sin(self.b * z + self.phase), np.inf

    def pair_numbers(self, q: Array, after: Array, slope: Array) -> list[Array]:
        half, rate, turn = self.a**2 / 2, self.b**2, self.code[1][2]
        twice, root = 2 * rate * q, np.sqrt(after)
        value = [root_share((1 - turn) * half, after), root_share(twice * half, after, 1.0)]
        steep = [
            root_share((1 + turn) * rate * half, slope),
            root_share(twice * rate * half, slope, 1.0),
        ]
        return [np.sqrt(q), *value, *steep, root, 1 / root, -np.expm1(-rate * q)]

    def _constants(self, x: Array) -> tuple[Array, Array, Array, Array]:
        """Return a^2/2, b^2, cos(2 phase) and 1 - cos(2 phase)."""
        a, b = _like(x, self.a, self.b)
        cosine = math.cos(2 * self.phase)
        if math.fabs(cosine) < 1e-15:  # phase = pi/4 up to its rounding: the RBF kernel exactly
            cosine = 0.0
        rest = 1 - cosine if cosine < 0.5 else 2 * math.sin(self.phase) ** 2
        cosine_like, rest_like = _like(x, cosine, rest)
        return a**2 / 2, b**2, cosine_like, rest_like

    def __call__(self, x: ArrayLike) -> Array:
        (x,) = _floats(x)
        a, b, phase = _like(x, self.a, self.b, self.phase)
        return a * np.sin(b * x + phase)

    def derivative(self, x: ArrayLike) -> Array:
        (x,) = _floats(x)
        a, b, phase = _like(x, self.a, self.b, self.phase)
        return a * b * np.cos(b * x + phase)

    def dual(self, q: ArrayLike, p: ArrayLike, c: ArrayLike) -> Array:
        q, p, c = _floats(q, p, c)
        half, square, cosine, rest = self._constants(q)
        return half * _wave_difference(square * (q + p) / 2, square * c, cosine, rest)

    def derivative_dual(self, q: ArrayLike, p: ArrayLike, c: ArrayLike) -> Array:
        q, p, c = _floats(q, p, c)
        half, square, cosine, rest = self._constants(q)
        waves = _wave_difference(square * (q + p) / 2, square * c, -cosine, 2 - rest)
        return half * square * waves

    def dual_slopes(self, q: Array, p: Array, v: Array, vc: Array) -> DualSlopes:
        c, rate = covariance(q, p, v, vc), _like(q, self.b)[0] ** 2
        value, slope = self.dual(q, p, c), self.derivative_dual(q, p, c)
        return DualSlopes(slope, -rate / 2 * value, rate**2 * value, -rate / 2 * slope)

    def hermite(self, q: ArrayLike, count: int) -> Array:
        _check_count(count)
        q, root = _column(q)
        sine, cosine = math.sin(self.phase), math.cos(self.phase)
        if self.phase == math.pi / 2:
            cosine = 0.0
        cycle = np.array([sine, cosine, -sine, -cosine], q.dtype)[np.arange(count) % 4]
        t = self.b * root
        return self.a * cycle * _poisson_roots(t, -t * t / 2, count)

    def _sphere_map(self, q: Array, v: Array, vc: Array) -> SphereMap:
        _, square, cosine, rest = self._constants(v)
        rate = 2 * square * q
        top = rest - cosine * np.expm1(-rate)  # 1 - cos(2 phase) exp(-rate)
        if top == 0:
            return _linear_limit(v)
        far = np.expm1(-rate * vc)  # less 1: cos and small sin waves cancel at the antipode
        lost = -np.expm1(-rate * v)
        steepness = square * q / top
        slope = steepness * _wave_difference(square * q, square * q * (vc - v), -cosine, 2 - rest)
        bend = steepness * lost * (rest - cosine * far)
        return lost * (2 - rest + cosine * far) / top, slope, bend


def _wave_difference(mean: Array, c: Array, cosine: Array, rest: Array) -> Array:
    """Return exp(c - mean) - cosine exp(-c - mean); `rest` is 1 - cosine.

    When cosine is near 1 the two terms cancel at small c, which expm1 avoids; the exponents are
    never positive, so that nothing overflows.
    """
    near, far = np.exp(c - mean), np.exp(-c - mean)
    if cosine <= 0.5:
        return near - cosine * far
    odd: Array = np.sign(c) * np.maximum(near, far) * -np.expm1(-2 * np.abs(c))
    return odd + rest * far


def _poisson_roots(t: Array, log_scale: Array, count: int) -> Array:
    """Return exp(log_scale) t^j / sqrt(j!), j < count, along a new last axis."""
    columns = [np.exp(log_scale)]
    for j in range(1, count):
        columns.append(columns[-1] * t / np.sqrt(j + 0 * t))
    return _stack(columns, count)


@dataclass(frozen=True)
class Exp(Activation):
    """The exponential s(x) = a exp(b x)."""

    a: float = 1.0
    b: float = 1.0
    is_smooth = True

    def __post_init__(self) -> None:
        _check_finite("a, b", self.a, self.b)
        _check_nonzero(a=self.a, b=self.b)

    @property
    def name(self) -> str:
        return "exp" if (self.a, self.b) == (1, 1) else "exp" + _arguments(self.a, self.b)

    @property
    def code(self) -> Code:
        return ActivationKind.EXP, (float(self.a), float(self.b))

    @property
    def continuation(self) -> Continuation | None:
        return lambda z: self.a * np.exp(self.b * z), np.inf

    def pair_numbers(self, q: Array, after: Array, slope: Array) -> list[Array]:
        return [np.sqrt(q)]

    def __call__(self, x: ArrayLike) -> Array:
        (x,) = _floats(x)
        a, b = _like(x, self.a, self.b)
        return a * np.exp(b * x)

    def derivative(self, x: ArrayLike) -> Array:
        return self.b * self(x)

    def dual(self, q: ArrayLike, p: ArrayLike, c: ArrayLike) -> Array:
        q, p, c = _floats(q, p, c)
        a, b = _like(q, self.a, self.b)
        return a**2 * np.exp(b**2 * ((q + p) / 2 + c))

    def derivative_dual(self, q: ArrayLike, p: ArrayLike, c: ArrayLike) -> Array:
        return self.b**2 * self.dual(q, p, c)

    def dual_slopes(self, q: Array, p: Array, v: Array, vc: Array) -> DualSlopes:
        value, rate = self.dual(q, p, covariance(q, p, v, vc)), _like(q, self.b)[0] ** 2
        return DualSlopes(rate * value, rate / 2 * value, rate**2 * value, rate**2 / 2 * value)

    def hermite(self, q: ArrayLike, count: int) -> Array:
        _check_count(count)
        q, root = _column(q)
        t = self.b * root
        return self.a * _poisson_roots(t, t * t / 2, count)

    def _sphere_map(self, q: Array, v: Array, vc: Array) -> SphereMap:
        rate = _like(v, self.b)[0] ** 2 * q
        lost = -np.expm1(-2 * rate * v)
        return lost, rate * np.exp(-2 * rate * v), rate * lost
