"""Smooth activations with duals in closed form: erf, GELU and bells."""

# ruff: noqa: D102 - the methods are documented once, in the base class

from __future__ import annotations

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
)
from ntkfast.activations.pairs import _excess, _pi, covariance, inverse_root, root_share
from ntkfast.engines.codes import ActivationKind


def _arcsine_gap(ratio: Array, v: Array, vc: Array) -> tuple[Array, Array, Array]:
    """Return arcsin(x1) - arcsin(x1 u) and both cosines, for x1 = ratio / (1 + ratio) < 1."""
    u = vc - v
    x1 = ratio / (1 + ratio)
    s1 = np.sqrt(1 + 2 * ratio) / (1 + ratio)
    rest = 1 / (1 + ratio)
    s = np.sqrt(rest + 2 * v * x1) * np.sqrt(rest + 2 * vc * x1)
    positive = np.where(u > 0, u, 0)
    sine = x1 * np.where(u > 0, 4 * v * vc / (s + positive * s1), s - u * s1)
    return np.arctan2(sine, s * s1 + x1 * x1 * u), s, s1


@dataclass(frozen=True)
class Erf(Activation):
    """The error function, s(x) = a erf(b x) + c0."""

    a: float = 1.0
    b: float = 1.0
    c0: float = 0.0
    is_smooth = True

    def __post_init__(self) -> None:
        _check_finite("a, b, c0", self.a, self.b, self.c0)
        _check_nonzero(a=self.a, b=self.b)

    @property
    def name(self) -> str:
        plain = (self.a, self.b, self.c0) == (1, 1, 0)
        return "erf" if plain else "erf" + _arguments(self.a, self.b, self.c0)

    @property
    def code(self) -> Code:
        return ActivationKind.ERF, (float(self.a), float(self.b), float(self.c0))

    @property
    def is_odd(self) -> bool:
        return self.c0 == 0

    @property
    def continuation(self) -> Continuation | None:
        from scipy import special

        return lambda z: self.a * special.erf(self.b * z) + self.c0, np.inf

    def pair_numbers(self, q: Array, after: Array, slope: Array) -> list[Array]:
        r = np.maximum(2 * self.b**2 * q, 1e-36)  # see row_stats.hpp
        odd = 2 * self.a**2 / np.pi * (r / (1 + r))
        share = root_share(odd, np.maximum(after, odd), 1.0)
        root = np.sqrt(after)
        quarter = np.sqrt(np.sqrt(1 + 2 * r) / (1 + r))  # (1 - h^4)^(1/4)
        return [*_angle(r), quarter, share, root_share(self.c0**2, after), root, 1 / root]

    def __call__(self, x: ArrayLike) -> Array:
        from scipy import special

        (x,) = _floats(x)
        return np.asarray(
            self.a * special.erf(self.b * _at_most_double(x)).astype(x.dtype) + self.c0
        )

    def derivative(self, x: ArrayLike) -> Array:
        (x,) = _floats(x)
        a, b = _like(x, self.a, self.b)
        return 2 * a * b / np.sqrt(_pi(x)) * np.exp(-((b * x) ** 2))

    def dual(self, q: ArrayLike, p: ArrayLike, c: ArrayLike) -> Array:
        q, p, c = _floats(q, p, c)
        a, b, c0 = _like(q, self.a, self.b, self.c0)
        angle = np.arctan2(2 * b**2 * c, self._root(q, p, c))
        return 2 * a**2 / _pi(q) * angle + c0**2

    def derivative_dual(self, q: ArrayLike, p: ArrayLike, c: ArrayLike) -> Array:
        q, p, c = _floats(q, p, c)
        a, b = _like(q, self.a, self.b)
        return 4 * a**2 * b**2 / _pi(q) / self._root(q, p, c)

    def dual_slopes(self, q: Array, p: Array, v: Array, vc: Array) -> DualSlopes:
        a, b = _like(q, self.a, self.b)
        c, rate = covariance(q, p, v, vc), 2 * b**2
        root, own, other = self._root(q, p, c), 1 + rate * q, 1 + rate * p
        size = 2 * a**2 / _pi(q) * rate / root
        steep = size * (rate / root)
        by_q = -size * (rate * c / own) / 2
        return DualSlopes(size, by_q, steep * (rate * c / root), -steep * (other / root) / 2)

    def _root(self, q: Array, p: Array, c: Array) -> Array:
        """Return sqrt((1 + 2 b^2 q)(1 + 2 b^2 p) - 4 b^4 c^2) as a sum of positive terms."""
        double = 2 * _like(q, self.b)[0] ** 2
        return np.hypot(np.sqrt(1 + double * (q + p)), double * _excess(q, p, c))

    def hermite(self, q: ArrayLike, count: int) -> Array:
        _check_count(count)
        q, root = _column(q)
        a, b, c0 = _like(q, self.a, self.b, self.c0)
        bells = _bell_coefficients(2 * b**2 * q, count)
        row = np.zeros((*q.shape, count), q.dtype)
        j = np.arange(1, count)
        factor = 2 * a * b / np.sqrt(_pi(q)) * root[..., None]
        row[..., 1:] = factor * bells[..., :-1] / np.sqrt(j.astype(q.dtype))
        row[..., 0] = c0
        return row

    def _sphere_map(self, q: Array, v: Array, vc: Array) -> SphereMap:
        a, b = _like(v, self.a, self.b)
        top = self.variance(q)
        if top == 0:
            return _linear_limit(v)
        ratio = 2 * b**2 * q
        gap, s, s1 = _arcsine_gap(ratio, v, vc)
        scale = 2 * a**2 / _pi(v) / top
        slope = scale * (ratio / (1 + ratio))
        lost = (ratio / (1 + ratio)) ** 2 * 4 * v * vc / (s + s1)  # s - s1
        return scale * gap, slope / s, slope * lost / (s * s1)


def _angle(r: Array) -> tuple[Array, Array]:
    """Return sine and cosine of the angle whose squared tangent is r."""
    return np.sqrt(r / (1 + r)), 1 / np.sqrt(1 + r)


def _at_most_double(x: Array) -> Array:
    """Convert longdouble to double for functions of SciPy, which know nothing longer."""
    return x.astype(np.float64) if x.dtype.itemsize > 8 else x


def _bell_coefficients(t: Array, count: int) -> Array:
    """Orthonormal Hermite coefficients of exp(-t z^2 / 2), t >= 0."""
    row = np.zeros((*t.shape, count), t.dtype)
    row[..., 0] = 1 / np.sqrt(1 + t)
    for j in range(2, count, 2):
        row[..., j] = -row[..., j - 2] * (t / (1 + t)) * np.sqrt((j - 1) / (j + 0 * t))
    return row


@dataclass(frozen=True)
class GELU(Activation):
    """The Gaussian error linear unit s(x) = x Phi(x), Phi the normal distribution function."""

    is_smooth = True

    @property
    def name(self) -> str:
        return "gelu"

    @property
    def code(self) -> Code:
        return ActivationKind.GELU, ()

    @property
    def continuation(self) -> Continuation | None:
        from scipy import special

        return lambda z: z / 2 * (1 + special.erf(z / np.sqrt(2))), np.inf

    def pair_numbers(self, q: Array, after: Array, slope: Array) -> list[Array]:
        before, root = np.sqrt(q), np.sqrt(after)
        shares = [root_share(q, after, 2.0), inverse_root(slope)]
        return [*_angle(q), before, 1 / before, np.sqrt(1 + 2 * q), *shares, root, 1 / root]

    def __call__(self, x: ArrayLike) -> Array:
        from scipy import special

        (x,) = _floats(x)
        return np.asarray(x * special.ndtr(_at_most_double(x)).astype(x.dtype))

    def derivative(self, x: ArrayLike) -> Array:
        from scipy import special

        (x,) = _floats(x)
        density = np.exp(-x * x / 2) / np.sqrt(2 * _pi(x))
        return np.asarray(special.ndtr(_at_most_double(x)).astype(x.dtype) + x * density)

    def dual(self, q: ArrayLike, p: ArrayLike, c: ArrayLike) -> Array:
        q, p, c = _floats(q, p, c)
        root = np.hypot(np.sqrt(1 + q + p), _excess(q, p, c))
        pi = _pi(q)
        tail = c / (1 + q) * (c / (1 + p)) / root + q / (1 + q) * (p / (1 + p)) * root
        return c / 4 + (c * np.arctan2(c, root) + tail) / (2 * pi)

    def derivative_dual(self, q: ArrayLike, p: ArrayLike, c: ArrayLike) -> Array:
        q, p, c = _floats(q, p, c)
        root = np.hypot(np.sqrt(1 + q + p), _excess(q, p, c))
        bracket = 1 / root / root + 1 / (1 + q) + 1 / (1 + p)
        return (1 + 2 / _pi(q) * (np.arctan2(c, root) + c / root * bracket)) / 4

    def dual_slopes(self, q: Array, p: Array, v: Array, vc: Array) -> DualSlopes:
        c, own, other = covariance(q, p, v, vc), 1 + q, 1 + p
        sine2, cosine2 = 4 * v * vc, (vc - v) ** 2
        root = np.hypot(np.sqrt(1 + q + p), np.sqrt(q) * np.sqrt(p) * np.sqrt(sine2))
        x, z, high = 1 / root, c / root, other / root
        bracket = x * x + 1 / own + 1 / other
        lost = sine2 / 2 - cosine2 * (1 / own / other + x * x / 2)  # large q drop out of q p - c^2
        by_q = p / own * (root / own / other + q * x * lost)
        by_c = x + (x + z * z * x) * bracket + 2 * z * z * x**3
        slope_by_q = -z * (1 / own / 2 + high * x / 2 * bracket + high * x**3 + 1 / own / own)
        pi = _pi(q)
        value = (1 + 2 / pi * (np.arctan2(c, root) + z * bracket)) / 4
        return DualSlopes(value, *(part / (2 * pi) for part in (by_q, by_c, slope_by_q)))

    def hermite(self, q: ArrayLike, count: int) -> Array:
        _check_count(count)
        q, root = _column(q)
        bells = _bell_coefficients(q, count)
        row = np.zeros((*q.shape, max(count, 2)), q.dtype)
        row[..., 0] = q * bells[..., 0] / np.sqrt(2 * _pi(q))
        row[..., 1] = root / 2
        for j in range(2, count, 2):  # through s'' = (2 - x^2) phi(x)
            factor = q * (q + j) / (1 + q) / np.sqrt(2 * _pi(q) * j * (j - 1))
            row[..., j] = factor * bells[..., j - 2]
        return row[..., :count]

    def _sphere_map(self, q: Array, v: Array, vc: Array) -> SphereMap:
        if q == 0:
            return _linear_limit(v)
        u, m, size = vc - v, 1 + q, q / (1 + q)  # no product here outgrows its factors
        c = q * u
        gap, s, s1 = _arcsine_gap(q, v, vc)
        root, root1 = m * s, m * s1
        down = q / (root + root1) * 4 * v * vc * q  # root - root1
        angle1 = np.arctan2(q, root1)
        arcs = 2 * q * v * angle1 + c * gap
        tails = size * size * (4 * v * vc / root1 + down * (u / root * (u / root1) - 1))
        loss = q * v / 2 + (arcs + tails) / (2 * _pi(v))
        x, x1 = 1 / root, 1 / root1
        apart = 2 * q * x1 * v
        ratio = apart + c * x * (down * x1)  # q/root1 - c/root
        cubic = apart * x1 * x1 + c * x * (down * x1) * (x * x + x * x1 + x1 * x1)
        steep = (gap + cubic + 2 / m * ratio) / (2 * _pi(v))
        top = self.variance(q)
        return loss / top, self.derivative_dual(q, q, c) * (q / top), steep * (q / top)


@dataclass(frozen=True)
class Gaussian(Activation):
    """The bell s(x) = a exp(b x^2) with b < 0 (neural-tangents' default is b = -1)."""

    a: float = 1.0
    b: float = -1.0
    is_smooth = True

    def __post_init__(self) -> None:
        _check_finite("a, b", self.a, self.b)
        _check_nonzero(a=self.a)
        if self.b >= 0:
            raise ValueError(f"b: expected a negative number, got {self.b}")

    @property
    def name(self) -> str:
        plain = (self.a, self.b) == (1, -1)
        return "gaussian" if plain else "gaussian" + _arguments(self.a, self.b)

    @property
    def code(self) -> Code:
        return ActivationKind.GAUSSIAN, (float(self.a), float(self.b))

    @property
    def continuation(self) -> Continuation | None:
        return lambda z: self.a * np.exp(self.b * z**2), np.inf

    def pair_numbers(self, q: Array, after: Array, slope: Array) -> list[Array]:
        r = 2 * abs(self.b) * q
        return [*_angle(r), np.sqrt(1 + 2 * r) / (1 + r)]

    def __call__(self, x: ArrayLike) -> Array:
        (x,) = _floats(x)
        return self.a * np.exp(self.b * x * x)

    def derivative(self, x: ArrayLike) -> Array:
        (x,) = _floats(x)
        return 2 * self.b * x * self(x)

    def _square(self, q: Array, p: Array, c: Array) -> Array:
        """Return (1 - 2bq)(1 - 2bp) - 4 b^2 c^2 as a sum of positive terms."""
        rate = -2 * _like(q, self.b)[0]
        return 1 + rate * (q + p) + (rate * _excess(q, p, c)) ** 2

    def dual(self, q: ArrayLike, p: ArrayLike, c: ArrayLike) -> Array:
        q, p, c = _floats(q, p, c)
        return _like(q, self.a)[0] ** 2 / np.sqrt(self._square(q, p, c))

    def derivative_dual(self, q: ArrayLike, p: ArrayLike, c: ArrayLike) -> Array:
        q, p, c = _floats(q, p, c)
        a, b = _like(q, self.a, self.b)
        square = self._square(q, p, c)
        return 4 * a**2 * b**2 * c / (square * np.sqrt(square))

    def dual_slopes(self, q: Array, p: Array, v: Array, vc: Array) -> DualSlopes:
        a, b = _like(q, self.a, self.b)
        c, rate = covariance(q, p, v, vc), -2 * b
        square = self._square(q, p, c)
        value, other = a**2 / np.sqrt(square), (1 + rate * p) / square
        z = rate * c / square
        by_c = value * rate * z
        slope_by_c = value * rate**2 / square + 3 * by_c * rate * z
        return DualSlopes(by_c, -value * rate * other / 2, slope_by_c, -1.5 * by_c * rate * other)

    def hermite(self, q: ArrayLike, count: int) -> Array:
        _check_count(count)
        (q,) = _floats(q)
        return self.a * _bell_coefficients(-2 * self.b * q, count)

    def _sphere_map(self, q: Array, v: Array, vc: Array) -> SphereMap:
        ratio = -2 * _like(v, self.b)[0] * q
        u = vc - v
        root1 = np.sqrt(1 + 2 * ratio)
        root = np.sqrt(1 + 2 * ratio + ratio**2 * 4 * v * vc)
        down = ratio**2 * 4 * v * vc / (root + root1)  # root - root1
        cubes = root * root + root * root1 + root1 * root1
        steep = 2 * v / root1**3 + u * down * cubes / (root * root1) ** 3
        return down / root, ratio**2 * u * root1 / root**3, ratio**2 * root1 * steep
