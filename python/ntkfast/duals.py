"""Activations and their dual kernels: the Gaussian averages that every layer of a network applies.

For an activation ``s`` and jointly Gaussian ``(a, b)`` with variances ``q``, ``p`` and covariance
``c`` the *dual* is ``K(q, p, c) = E[s(a) s(b)]`` and the *derivative dual* is
``Kd(q, p, c) = E[s'(a) s'(b)] = dK/dc``.  All activations of this module have both in closed form;
`ntkfast.quadrature.CallableActivation` supplies them for any other Python function.

The second view, `Activation.on_sphere`, takes both inputs with the same variance and describes
their angle ``theta`` by ``v = sin(theta/2)**2`` and ``vc = cos(theta/2)**2``.  It returns
``1 - K/K(v=0)`` computed without subtracting nearly equal numbers, because a deep network
amplifies precisely that difference.
"""

# ruff: noqa: D102 - the methods are documented once, in the base class

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "GELU",
    "ABReLU",
    "Activation",
    "Erf",
    "Exp",
    "Gaussian",
    "HermiteSeries",
    "Identity",
    "Polynomial",
    "RectifiedMonomial",
    "Sine",
    "Step",
    "abs",
    "cos",
    "erf",
    "exp",
    "gaussian",
    "gelu",
    "hermite",
    "identity",
    "leaky_relu",
    "monomial",
    "polynomial",
    "rbf",
    "rectified_monomial",
    "relu",
    "resolve",
    "sigmoid_like",
    "sign",
    "sin",
    "step",
]

Array: TypeAlias = NDArray[np.floating[Any]]
SphereMap: TypeAlias = tuple[Array, Array, Array]

IDENTITY, RELU, STEP, ERF, GELU_CODE, SINE, EXP, GAUSSIAN, HERMITE = range(9)


# Numbers in the precision of the arguments ------------------------------------------------------


def _floats(*values: ArrayLike) -> tuple[Array, ...]:
    """Convert to arrays of one common floating type; integers become float64."""
    arrays = [np.asarray(value) for value in values]
    dtype = np.result_type(*arrays)
    if dtype.kind != "f":
        dtype = np.result_type(dtype, np.float64)
    return tuple(array.astype(dtype, copy=False) for array in arrays)


def _like(x: Array, *values: float) -> tuple[Array, ...]:
    """Scalars in the precision of `x`, so that longdouble formulas stay longdouble."""
    return tuple(np.asarray(value, x.dtype) for value in values)


def _pi(x: Array) -> Array:
    """Return pi in the precision of `x` (a Python float holds only 53 bits of it)."""
    zero, minus_one = _like(x, 0.0, -1.0)
    return np.arctan2(zero, minus_one)


@cache
def gauss_legendre(count: int, char: str = "d") -> tuple[Array, Array]:
    """Gauss-Legendre nodes and weights on [-1, 1] in the floating type with this `char`."""
    x = np.polynomial.legendre.leggauss(count)[0].astype(np.dtype(char))
    for _ in range(2):  # Newton steps: NumPy's nodes carry double precision only
        before, value = np.ones_like(x), x
        for n in range(1, count):
            before, value = value, ((2 * n + 1) * x * value - n * before) / (n + 1)
        slope = count * (before - x * value) / (1 - x * x)
        x = x - value / slope
    weights = 2 / ((1 - x * x) * slope * slope)
    x.flags.writeable = weights.flags.writeable = False
    return x, weights


# Geometry of a pair -----------------------------------------------------------------------------


def _geometric_mean(q: Array, p: Array) -> Array:
    """Return sqrt(q p), exactly q when p = q, without overflow of the product."""
    return np.where(q == p, q, np.sqrt(q) * np.sqrt(p))


def _half_chords(q: Array, p: Array, c: Array) -> tuple[Array, Array, Array]:
    """Return (sqrt(qp), v, vc) of a pair.

    A vanishing variance leaves the angle undefined: two zero inputs are the same input
    (theta = 0), a zero input against another one counts as orthogonal to it.
    """
    norm = _geometric_mean(q, p)
    safe = 2 * np.where(norm == 0, 1, norm)
    v = np.clip((norm - c) / safe, 0, 1)
    vc = np.clip((norm + c) / safe, 0, 1)
    half = v.dtype.type(0.5)
    degenerate = norm == 0
    v = np.where(degenerate, np.where(q == p, 0, half), v)
    return norm, v, np.where(degenerate, 1 - v, vc)


def _angles(v: Array, vc: Array) -> tuple[Array, Array]:
    """Return theta and pi - theta, the smaller of the two with full relative accuracy."""
    small = 2 * np.arcsin(np.sqrt(np.maximum(np.minimum(v, vc), 0)))
    large = _pi(small) - small
    acute = v <= vc
    return np.where(acute, small, large), np.where(acute, large, small)


def _excess(q: Array, p: Array, c: Array) -> Array:
    """Return q p - c^2 >= 0 from factors, which is exactly 0 when q = p = c."""
    norm = _geometric_mean(q, p)
    return np.maximum((norm - c) * (norm + c), 0)


def _arc1(t: Array) -> Array:
    """Return sin t - t cos t; its power series below t = 1, where the terms cancel."""
    result = np.sin(t) - t * np.cos(t)
    small = np.abs(t) < 1
    x = t[small]
    y = x * x
    series = np.ones_like(y)
    for j in range(9 if t.dtype.itemsize > 8 else 7, -1, -1):
        series = 1 - y / ((2 * j + 2) * (2 * j + 5)) * series
    result = np.asarray(result)
    result[small] = x * y / 3 * series
    return result


def _arc(n: int, t: Array) -> Array:
    """Return J_n(pi - t) of Cho and Saul, n! times the integral of (cos s - cos t)^n on [0, t].

    The integrand is positive, so that the result keeps its relative accuracy as t -> 0, where the
    textbook forms (sums of t and sines) cancel down to order t^(2n+1).
    """
    if n == 0:
        return t
    if n == 1:
        return _arc1(t)
    total = np.zeros_like(t)
    half = t / 2
    for x, weight in zip(*gauss_legendre(16 + 2 * n, t.dtype.char), strict=True):
        s = half * ((1 + x) / 2)
        total += weight * (2 * np.sin(half + s) * np.sin(half - s)) ** n
    return math.factorial(n) * half * total


def _powers_defect(weights: Array, v: Array, vc: Array) -> Array:
    """Return sum_l weights[l] (1 - u^l), u = vc - v, with the factor 1 - u = 2v taken out."""
    u = vc - v
    tails = np.cumsum(weights[:0:-1])  # tails[-1 - j] = sum of weights[l] over l > j
    total = np.zeros_like(u)
    for tail in tails:
        total = total * u + tail
    return 2 * v * total


def _power_sum(weights: Array, u: Array) -> Array:
    """Return sum_l weights[l] u^l."""
    total = np.zeros_like(u)
    for weight in weights[::-1]:
        total = total * u + weight
    return total


def _arcsine_gap(ratio: Array, v: Array, vc: Array) -> tuple[Array, Array, Array]:
    """Return arcsin(x1) - arcsin(x1 u) and both cosines, for x1 = ratio / (1 + ratio) < 1."""
    u = vc - v
    x1 = ratio / (1 + ratio)
    s1 = np.sqrt(1 + 2 * ratio) / (1 + ratio)
    s = np.sqrt((1 / (1 + ratio) + 2 * v * x1) * (1 + x1 * u))
    positive = np.where(u > 0, u, 0)
    sine = x1 * np.where(u > 0, 4 * v * vc / (s + positive * s1), s - u * s1)
    return np.arctan2(sine, s * s1 + x1 * x1 * u), s, s1


def _linear_limit(v: Array) -> SphereMap:
    """Return the map of s(x) = x, the limit of every s with s(0) = 0, s'(0) != 0 as q -> 0."""
    return 2 * v, np.ones_like(v), np.zeros_like(v)


# The interface ----------------------------------------------------------------------------------


class Activation(ABC):
    """A scalar function together with its dual kernels.

    Instances are immutable, hashable and picklable.  Subclasses give the function, its derivative,
    `dual` and `derivative_dual`; the other methods have defaults in terms of these.

    Attributes
    ----------
    name : str
        The text from which `resolve` makes the activation again.
    degree : float or None
        The ``k`` of ``s(t x) = t**k s(x)`` for all ``t > 0``; None if there is none.
    exact_defect : bool
        Whether `on_sphere` keeps the relative accuracy of the defects as ``v -> 0``.
    code : tuple
        ``(kind, parameters)`` for compiled code; kind 8 stands for "through `hermite`".
    """

    exact_defect: bool = True

    @property
    @abstractmethod
    def name(self) -> str:
        """The text from which `resolve` makes the activation again."""

    @property
    def degree(self) -> float | None:
        """Degree of positive homogeneity, or None."""
        return None

    @property
    def code(self) -> tuple[int, tuple[float, ...]]:
        """Kind and parameters for compiled layer maps."""
        return HERMITE, ()

    @abstractmethod
    def __call__(self, x: ArrayLike) -> Array:
        """Evaluate the function elementwise."""

    @abstractmethod
    def derivative(self, x: ArrayLike) -> Array:
        """Evaluate the derivative elementwise (one of the one-sided values at a kink)."""

    @abstractmethod
    def dual(self, q: ArrayLike, p: ArrayLike, c: ArrayLike) -> Array:
        """Return E[s(a) s(b)] for variances `q`, `p` and covariance `c`, which broadcast."""

    @abstractmethod
    def derivative_dual(self, q: ArrayLike, p: ArrayLike, c: ArrayLike) -> Array:
        """Return E[s'(a) s'(b)] for variances `q`, `p` and covariance `c`, which broadcast."""

    @abstractmethod
    def hermite(self, q: ArrayLike, count: int) -> Array:
        """Return the orthonormal Hermite coefficients a_j = E[s(sqrt(q) Z) h_j(Z)].

        Parameters
        ----------
        q : (n,) array
            Variances.
        count : int
            Number of coefficients, j = 0 ... count - 1.

        Returns
        -------
        (n, count) array
            With them K(q, p, rho sqrt(qp)) = sum_j a_j(q) a_j(p) rho^j.
        """

    def variance(self, q: ArrayLike) -> Array:
        """Return E[s(a)^2] for variance `q`."""
        return self.dual(q, q, q)

    def derivative_variance(self, q: ArrayLike) -> Array:
        """Return E[s'(a)^2] for variance `q`."""
        return self.derivative_dual(q, q, q)

    def hermite_tail(self, q: ArrayLike, count: int) -> Array:
        """Return E[s^2] - sum_{j < count} a_j(q)^2, which bounds the error of truncation.

        By Cauchy-Schwarz the series of K(q, p, rho) cut after `count` terms is wrong by at most
        sqrt(tail(q) tail(p)) at any rho.
        """
        (q,) = _floats(q)
        rest = self.variance(q) - np.sum(self.hermite(q, count) ** 2, axis=-1)
        return np.asarray(np.maximum(rest, 0))

    def on_sphere(self, q: ArrayLike, v: ArrayLike, vc: ArrayLike) -> SphereMap:
        """Describe the dual between inputs of one variance by its distance from the diagonal.

        Parameters
        ----------
        q : float
            The common variance.
        v, vc : arrays
            sin(theta/2)^2 and cos(theta/2)^2 of the angle; their dtype is kept.

        Returns
        -------
        defect, slope, slope_defect : arrays
            1 - K/K1, Kd q/K1 and slope(v=0) - slope, where K1 = K(q, q, q) and c = q (vc - v).
            At a variance for which K1 vanishes they are the limits for q -> 0.
        """
        scale, v, vc = _sphere(q, v, vc)
        return self._sphere_map(scale, v, vc)

    def _sphere_map(self, q: Array, v: Array, vc: Array) -> SphereMap:
        c = q * (vc - v)
        top = self.variance(q)
        if top == 0:
            return _linear_limit(v)
        slope = self.derivative_dual(q, q, c) * (q / top)
        return (
            1 - self.dual(q, q, c) / top,
            slope,
            self.derivative_variance(q) * (q / top) - slope,
        )


def _sphere(q: ArrayLike, v: ArrayLike, vc: ArrayLike) -> tuple[Array, Array, Array]:
    """Bring the arguments of `on_sphere` to the precision of v and vc."""
    v, vc = _floats(v, vc)
    variance = np.asarray(q)
    if variance.ndim:
        raise ValueError(f"q: expected a scalar, got shape {variance.shape}")
    if not variance >= 0:
        raise ValueError(f"q: expected a variance >= 0, got {variance}")
    return variance.astype(v.dtype), v, vc


def _column(q: ArrayLike) -> tuple[Array, Array]:
    """Return q as a floating (n,) array and its square root."""
    (q,) = _floats(q)
    return q, np.sqrt(q)


def _stack(columns: Sequence[Array], count: int) -> Array:
    """Put coefficient columns side by side, cut to `count`."""
    return np.stack(columns[:count], axis=-1)


def _check_count(count: int) -> None:
    if count < 1:
        raise ValueError(f"count: expected a positive integer, got {count}")


def _check_finite(name: str, *values: float) -> None:
    if not all(math.isfinite(value) for value in values):
        raise ValueError(f"{name}: expected finite numbers, got {values}")


def _arguments(*values: float) -> str:
    """Write call arguments as short as round-tripping allows."""
    return "(" + ", ".join(f"{float(value)!r}".removesuffix(".0") for value in values) + ")"


# The rectified family ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Identity(Activation):
    """The linear activation s(x) = x."""

    @property
    def name(self) -> str:
        return "identity"

    @property
    def degree(self) -> float | None:
        return 1.0

    @property
    def code(self) -> tuple[int, tuple[float, ...]]:
        return IDENTITY, ()

    def __call__(self, x: ArrayLike) -> Array:
        return np.array(x)

    def derivative(self, x: ArrayLike) -> Array:
        return np.ones_like(_floats(x)[0])

    def dual(self, q: ArrayLike, p: ArrayLike, c: ArrayLike) -> Array:
        q, p, c = np.broadcast_arrays(*_floats(q, p, c))
        return np.array(c)

    def derivative_dual(self, q: ArrayLike, p: ArrayLike, c: ArrayLike) -> Array:
        return np.ones_like(self.dual(q, p, c))

    def hermite(self, q: ArrayLike, count: int) -> Array:
        _check_count(count)
        q, root = _column(q)
        return _stack([0 * root, root] + [0 * root] * max(count - 2, 0), count)

    def _sphere_map(self, q: Array, v: Array, vc: Array) -> SphereMap:
        return _linear_limit(v)


@dataclass(frozen=True)
class ABReLU(Activation):
    """Two half lines, s(x) = negative min(x, 0) + positive max(x, 0): ReLU, leaky ReLU, abs.

    With A = (positive - negative)^2 / 2, B = negative positive and the arc-cosine functions
    kappa0, kappa1 of Cho and Saul, K = sqrt(qp) (A kappa1(u) + B u) and Kd = A kappa0(u) + B.
    """

    negative: float
    positive: float

    def __post_init__(self) -> None:
        _check_finite("negative, positive", self.negative, self.positive)
        if self.negative == self.positive == 0:
            raise ValueError("negative, positive: expected a function other than 0, got 0 and 0")

    @property
    def name(self) -> str:
        if (self.negative, self.positive) == (0, 1):
            return "relu"
        if (self.negative, self.positive) == (-1, 1):
            return "abs"
        if self.positive == 1:
            return "leaky_relu" + _arguments(self.negative)
        return "abrelu" + _arguments(self.negative, self.positive)

    @property
    def degree(self) -> float | None:
        return 1.0

    @property
    def code(self) -> tuple[int, tuple[float, ...]]:
        a, b = float(self.negative), float(self.positive)
        return RELU, ((a - b) ** 2 / 2, a * b)

    def _weights(self, x: Array) -> tuple[Array, Array]:
        a, b = _like(x, self.negative, self.positive)
        return (a - b) ** 2 / 2, a * b

    def __call__(self, x: ArrayLike) -> Array:
        (x,) = _floats(x)
        a, b = _like(x, self.negative, self.positive)
        if (self.negative, self.positive) == (0, 1):  # one pass over the array
            return np.asarray(np.maximum(x, 0))
        return np.where(x > 0, b * x, a * x)

    def derivative(self, x: ArrayLike) -> Array:
        (x,) = _floats(x)
        if (self.negative, self.positive) == (0, 1):
            return np.asarray((x > 0).astype(x.dtype))
        return np.where(x > 0, *_like(x, self.positive, self.negative))

    def dual(self, q: ArrayLike, p: ArrayLike, c: ArrayLike) -> Array:
        q, p, c = _floats(q, p, c)
        norm, v, vc = _half_chords(q, p, c)
        fold, line = self._weights(v)
        phi = _angles(v, vc)[1]
        kappa1 = np.where(v <= vc, 1 - _fold_defect(v, vc), _arc1(phi) / _pi(phi))
        return norm * (fold * kappa1 + line * (vc - v))

    def derivative_dual(self, q: ArrayLike, p: ArrayLike, c: ArrayLike) -> Array:
        q, p, c = _floats(q, p, c)
        _, v, vc = _half_chords(q, p, c)
        fold, line = self._weights(v)
        phi = _angles(v, vc)[1]
        return fold * (phi / _pi(phi)) + line

    def hermite(self, q: ArrayLike, count: int) -> Array:
        _check_count(count)
        q, root = _column(q)
        a, b = _like(q, self.negative, self.positive)
        mirror = np.where(np.arange(count) % 2, b + a, b - a)
        return root[..., None] * (mirror * _ramp_coefficients(1, count, q))

    def variance(self, q: ArrayLike) -> Array:
        (q,) = _floats(q)
        fold, line = self._weights(q)
        return (fold + line) * q

    def derivative_variance(self, q: ArrayLike) -> Array:
        (q,) = _floats(q)
        fold, line = self._weights(q)
        return np.full_like(q, fold + line)

    def _sphere_map(self, q: Array, v: Array, vc: Array) -> SphereMap:
        # The hot loop of compiling a deep network: one arcsine and one series per angle.
        fold, line = self._weights(v)
        total = fold + line
        acute = v <= vc
        angle = 2 * np.arcsin(np.sqrt(np.where(acute, v, vc)))
        pi = _pi(angle)
        turn, bend = angle / pi, _arc1(angle) / pi
        theta = np.where(acute, turn, 1 - turn)
        a, b = _like(v, self.negative, self.positive)
        near = fold * (2 * v - bend) + line * (2 * v)
        # 1 - K = (a+b)^2/2 - fold kappa1 - line (1+u): for abs this vanishes at u = -1 too.
        far = (a + b) ** 2 / 2 - fold * bend - line * (2 * vc)
        return (
            np.where(acute, near, far) / total,
            (fold * np.where(acute, 1 - turn, turn) + line) / total,
            fold * theta / total,
        )


def _fold_defect(v: Array, vc: Array) -> Array:
    """Return 1 - kappa1, a difference of order v and one of order v^1.5."""
    theta = _angles(v, vc)[0]
    return 2 * v - _arc1(theta) / _pi(theta)


@dataclass(frozen=True)
class Step(Activation):
    """A jump at the origin from `low` to `high` (their mean at 0): step (0, 1), sign (-1, 1).

    K = alpha + beta (1 - 2 theta/pi), alpha = mean^2, beta = (half the jump)^2.  The derivative is
    taken piecewise, hence 0: its weak part, a delta at the origin, is left out.
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        _check_finite("low, high", self.low, self.high)
        if self.low == self.high == 0:
            raise ValueError("low, high: expected a function other than 0, got 0 and 0")

    @property
    def name(self) -> str:
        if (self.low, self.high) == (0, 1):
            return "step"
        if (self.low, self.high) == (-1, 1):
            return "sign"
        return "step" + _arguments(self.low, self.high)

    @property
    def degree(self) -> float | None:
        return 0.0

    @property
    def code(self) -> tuple[int, tuple[float, ...]]:
        low, high = float(self.low), float(self.high)
        return STEP, (((high + low) / 2) ** 2, ((high - low) / 2) ** 2)

    def _levels(self, x: Array) -> tuple[Array, Array]:
        low, high = _like(x, self.low, self.high)
        return (high + low) / 2, (high - low) / 2

    def __call__(self, x: ArrayLike) -> Array:
        (x,) = _floats(x)
        mean, jump = self._levels(x)
        return mean + jump * np.sign(x)

    def derivative(self, x: ArrayLike) -> Array:
        return np.zeros_like(_floats(x)[0])

    def dual(self, q: ArrayLike, p: ArrayLike, c: ArrayLike) -> Array:
        _, v, vc = _half_chords(*_floats(q, p, c))
        mean, jump = self._levels(v)
        theta, phi = _angles(v, vc)
        return mean**2 + jump**2 * ((phi - theta) / _pi(phi))

    def derivative_dual(self, q: ArrayLike, p: ArrayLike, c: ArrayLike) -> Array:
        q, p, c = np.broadcast_arrays(*_floats(q, p, c))
        return np.zeros_like(c)

    def hermite(self, q: ArrayLike, count: int) -> Array:
        _check_count(count)
        (q,) = _floats(q)
        mean, jump = self._levels(q)
        odd = np.arange(count) % 2 == 1
        row = np.where(odd, 2 * jump * _ramp_coefficients(0, count, q), 0)
        row[0] = mean
        return np.ones_like(q)[..., None] * row

    def _sphere_map(self, q: Array, v: Array, vc: Array) -> SphereMap:
        mean, jump = self._levels(v)
        theta = _angles(v, vc)[0]
        defect = jump**2 * (2 * theta / _pi(theta)) / (mean**2 + jump**2)
        return defect, np.zeros_like(v), np.zeros_like(v)


@dataclass(frozen=True)
class RectifiedMonomial(Activation):
    """The power of a ReLU, s(x) = max(x, 0)^order with order >= 2; K = (qp)^(n/2) J_n / (2 pi)."""

    order: int

    def __post_init__(self) -> None:
        if self.order < 2:
            raise ValueError(f"order: expected at least 2 (use step or relu), got {self.order}")

    @property
    def name(self) -> str:
        return f"rectified_monomial({self.order})"

    @property
    def degree(self) -> float | None:
        return float(self.order)

    def __call__(self, x: ArrayLike) -> Array:
        (x,) = _floats(x)
        return np.maximum(x, 0) ** self.order

    def derivative(self, x: ArrayLike) -> Array:
        (x,) = _floats(x)
        return self.order * np.maximum(x, 0) ** (self.order - 1)

    def dual(self, q: ArrayLike, p: ArrayLike, c: ArrayLike) -> Array:
        norm, v, vc = _half_chords(*_floats(q, p, c))
        return norm**self.order * (_odd_factorial(self.order) / 2) * _arc_shape(self.order, v, vc)

    def derivative_dual(self, q: ArrayLike, p: ArrayLike, c: ArrayLike) -> Array:
        norm, v, vc = _half_chords(*_floats(q, p, c))
        n = self.order
        factor = n * n * (_odd_factorial(n - 1) / 2)
        return norm ** (n - 1) * factor * _arc_shape(n - 1, v, vc)

    def hermite(self, q: ArrayLike, count: int) -> Array:
        _check_count(count)
        q, root = _column(q)
        return (root**self.order)[..., None] * _ramp_coefficients(self.order, count, q)

    def _sphere_map(self, q: Array, v: Array, vc: Array) -> SphereMap:
        n = self.order
        top = v.dtype.type(n * n) / (2 * n - 1)
        return (
            _arc_defect(n, v, vc),
            top * _arc_shape(n - 1, v, vc),
            top * _arc_defect(n - 1, v, vc),
        )


def _odd_factorial(n: int) -> int:
    """Return (2n - 1)!! = J_n(0) / pi."""
    return math.prod(range(1, 2 * n, 2))


def _arc_defect(n: int, v: Array, vc: Array) -> Array:
    """Return 1 - J_n(theta) / J_n(0).

    J_n(theta) = pi m_n(cos theta) - (-1)^n J_n(pi - theta), where m_n is the dual of x^n at unit
    variance; the second term is of order theta^(2n+1) only.
    """
    theta = _angles(v, vc)[0]
    weights = _monomial_weights(n, v.dtype.char)
    rest = _arc(n, theta) / _pi(theta)
    sign = -1 if n % 2 else 1
    return (_powers_defect(weights, v, vc) + sign * rest) / _odd_factorial(n)


def _arc_shape(n: int, v: Array, vc: Array) -> Array:
    """Return J_n(theta) / J_n(0), exactly 1 at theta = 0 and relatively accurate at theta = pi."""
    phi = _angles(v, vc)[1]
    shape = _arc(n, phi) / (_pi(phi) * _odd_factorial(n))
    return np.where(v < 0.125, 1 - _arc_defect(n, v, vc), shape)


@cache
def _monomial_weights(n: int, char: str) -> Array:
    """Coefficients of the dual of x^n at unit variance in powers of u."""
    weights = np.zeros(n + 1, np.dtype(char))
    for low in range(n % 2, n + 1, 2):
        i = (n - low) // 2
        ratio = math.factorial(n) // (2**i * math.factorial(i))
        weights[low] = np.dtype(char).type(ratio) ** 2 / math.factorial(low)
    return weights


def _ramp_coefficients(n: int, count: int, like: Array) -> Array:
    """Orthonormal Hermite coefficients E[max(Z, 0)^n h_j(Z)], j < count.

    Integration by parts lowers both indices: a_j^(n) = n / sqrt(j) a_{j-1}^(n-1), and the chain
    ends at the step function, whose coefficients are h_{j-1}(0) / sqrt(2 pi j).
    """
    (one,) = _like(like, 1.0)
    row = np.empty(count, like.dtype)
    row[0], at_zero, before = one / 2, one, 0 * one  # at_zero = h_{j-1}(0)
    for j in range(1, count):
        row[j] = at_zero / np.sqrt(2 * _pi(like) * j)
        at_zero, before = -np.sqrt((j - 1) * one / j) * before, at_zero
    moments = [one / 2, 1 / np.sqrt(2 * _pi(like))]  # E[max(Z, 0)^m]
    for m in range(1, n + 1):
        shifted = np.empty_like(row)
        shifted[0] = moments[m]
        shifted[1:] = m * row[:-1] / np.sqrt(np.arange(1, count, dtype=like.dtype))
        row = shifted
        moments.append(m * moments[m - 1])
    return row


# Smooth activations -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Erf(Activation):
    """The error function, s(x) = a erf(b x) + c0."""

    a: float = 1.0
    b: float = 1.0
    c0: float = 0.0

    def __post_init__(self) -> None:
        _check_finite("a, b, c0", self.a, self.b, self.c0)
        _check_nonzero(a=self.a, b=self.b)

    @property
    def name(self) -> str:
        plain = (self.a, self.b, self.c0) == (1, 1, 0)
        return "erf" if plain else "erf" + _arguments(self.a, self.b, self.c0)

    @property
    def code(self) -> tuple[int, tuple[float, ...]]:
        return ERF, (float(self.a), float(self.b), float(self.c0))

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

    def _root(self, q: Array, p: Array, c: Array) -> Array:
        """Return sqrt((1 + 2 b^2 q)(1 + 2 b^2 p) - 4 b^4 c^2) as a sum of positive terms."""
        double = 2 * _like(q, self.b)[0] ** 2
        return np.sqrt(1 + double * (q + p) + double**2 * _excess(q, p, c))

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


def _at_most_double(x: Array) -> Array:
    """Convert longdouble to double for functions of SciPy, which know nothing longer."""
    return x.astype(np.float64) if x.dtype.itemsize > 8 else x


def _check_nonzero(**values: float) -> None:
    for name, value in values.items():
        if value == 0:
            raise ValueError(f"{name}: expected a number other than 0, got {value}")


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

    @property
    def name(self) -> str:
        return "gelu"

    @property
    def code(self) -> tuple[int, tuple[float, ...]]:
        return GELU_CODE, ()

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
        root = np.sqrt(1 + q + p + _excess(q, p, c))
        pi = _pi(q)
        tail = (c * c / root + q * p * root) / ((1 + q) * (1 + p))
        return c / 4 + (c * np.arctan2(c, root) + tail) / (2 * pi)

    def derivative_dual(self, q: ArrayLike, p: ArrayLike, c: ArrayLike) -> Array:
        q, p, c = _floats(q, p, c)
        square = 1 + q + p + _excess(q, p, c)
        root = np.sqrt(square)
        bracket = 1 / square + (2 + q + p) / ((1 + q) * (1 + p))
        return (1 + 2 / _pi(q) * (np.arctan2(c, root) + c / root * bracket)) / 4

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
        u, m = vc - v, 1 + q
        c = q * u
        gap, s, s1 = _arcsine_gap(q, v, vc)
        root, root1 = m * s, m * s1
        down = q * q * 4 * v * vc / (root + root1)  # root - root1
        angle1 = np.arctan2(q, root1)
        arcs = 2 * q * v * angle1 + c * gap
        tails = q * q * 4 * v * vc / root1 + down * (c * c / (root * root1) - q * q)
        loss = q * v / 2 + (arcs + tails / m**2) / (2 * _pi(v))
        ratio = 2 * q * v / root1 + c * down / (root * root1)  # q/root1 - c/root
        cubes = root * root + root * root1 + root1 * root1
        cubic = 2 * q * v / root1**3 + c * down * cubes / (root * root1) ** 3
        steep = (gap + cubic + 2 / m * ratio) / (2 * _pi(v))
        top = self.variance(q)
        return loss / top, self.derivative_dual(q, q, c) * (q / top), steep * (q / top)


@dataclass(frozen=True)
class Sine(Activation):
    """A sine wave, s(x) = a sin(b x + phase): sin, cos, and the RBF activation."""

    a: float = 1.0
    b: float = 1.0
    phase: float = 0.0

    def __post_init__(self) -> None:
        _check_finite("a, b, phase", self.a, self.b, self.phase)
        _check_nonzero(a=self.a, b=self.b)

    @property
    def name(self) -> str:
        if (self.a, self.b) == (1, 1) and self.phase in (0, math.pi / 2):
            return "cos" if self.phase else "sin"
        return "sine" + _arguments(self.a, self.b, self.phase)

    @property
    def code(self) -> tuple[int, tuple[float, ...]]:
        return SINE, (float(self.a), float(self.b), float(self.phase))

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

    def __post_init__(self) -> None:
        _check_finite("a, b", self.a, self.b)
        _check_nonzero(a=self.a, b=self.b)

    @property
    def name(self) -> str:
        return "exp" if (self.a, self.b) == (1, 1) else "exp" + _arguments(self.a, self.b)

    @property
    def code(self) -> tuple[int, tuple[float, ...]]:
        return EXP, (float(self.a), float(self.b))

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

    def hermite(self, q: ArrayLike, count: int) -> Array:
        _check_count(count)
        q, root = _column(q)
        t = self.b * root
        return self.a * _poisson_roots(t, t * t / 2, count)

    def _sphere_map(self, q: Array, v: Array, vc: Array) -> SphereMap:
        rate = _like(v, self.b)[0] ** 2 * q
        lost = -np.expm1(-2 * rate * v)
        return lost, rate * np.exp(-2 * rate * v), rate * lost


@dataclass(frozen=True)
class Gaussian(Activation):
    """The bell s(x) = a exp(b x^2) with b < 0 (neural-tangents' default is b = -1)."""

    a: float = 1.0
    b: float = -1.0

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
    def code(self) -> tuple[int, tuple[float, ...]]:
        return GAUSSIAN, (float(self.a), float(self.b))

    def __call__(self, x: ArrayLike) -> Array:
        (x,) = _floats(x)
        return self.a * np.exp(self.b * x * x)

    def derivative(self, x: ArrayLike) -> Array:
        (x,) = _floats(x)
        return 2 * self.b * x * self(x)

    def _square(self, q: Array, p: Array, c: Array) -> Array:
        """Return (1 - 2bq)(1 - 2bp) - 4 b^2 c^2 as a sum of positive terms."""
        rate = -2 * _like(q, self.b)[0]
        return 1 + rate * (q + p) + rate**2 * _excess(q, p, c)

    def dual(self, q: ArrayLike, p: ArrayLike, c: ArrayLike) -> Array:
        q, p, c = _floats(q, p, c)
        return _like(q, self.a)[0] ** 2 / np.sqrt(self._square(q, p, c))

    def derivative_dual(self, q: ArrayLike, p: ArrayLike, c: ArrayLike) -> Array:
        q, p, c = _floats(q, p, c)
        a, b = _like(q, self.a, self.b)
        square = self._square(q, p, c)
        return 4 * a**2 * b**2 * c / (square * np.sqrt(square))

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


# Polynomials ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Series(Activation):
    """A finite sum of powers or Hermite polynomials; K = sum_l R_l(q) R_l(p) c^l.

    R_l(q) = sum_i w_{l+2i} m(l, i) (q - origin)^i: for powers of x the origin is 0; for Hermite
    polynomials it is 1, so that at unit variance every h_n stays exactly orthogonal to the others.
    """

    coefficients: tuple[float, ...]

    def __post_init__(self) -> None:
        values = tuple(float(value) for value in self.coefficients)
        _check_finite("coefficients", *values)
        if not any(values):
            raise ValueError(f"coefficients: expected one other than 0, got {values}")
        while values[-1] == 0:
            values = values[:-1]
        object.__setattr__(self, "coefficients", values)

    @abstractmethod
    def _moment(self, low: int, i: int, like: Array) -> Array:
        """Return the factor m(l, i) in the precision of `like`."""

    @property
    @abstractmethod
    def _origin(self) -> int:
        """The variance at which only i = 0 remains."""

    def _radial(self, q: Array) -> list[Array]:
        """Return [R_0(q), R_1(q), ...]."""
        size = len(self.coefficients)
        shifted = q - self._origin
        rows = []
        for low in range(size):
            total = np.zeros_like(q)
            for i in range((size - 1 - low) // 2, -1, -1):
                weight = _like(q, self.coefficients[low + 2 * i])[0]
                total = total * shifted + weight * self._moment(low, i, q)
            rows.append(total)
        return rows

    def dual(self, q: ArrayLike, p: ArrayLike, c: ArrayLike) -> Array:
        q, p, c = _floats(q, p, c)
        total = np.zeros_like(q * p * c)
        for left, right in zip(self._radial(q)[::-1], self._radial(p)[::-1], strict=True):
            total = total * c + left * right
        return total

    def derivative_dual(self, q: ArrayLike, p: ArrayLike, c: ArrayLike) -> Array:
        q, p, c = _floats(q, p, c)
        total = np.zeros_like(q * p * c)
        rows = list(enumerate(zip(self._radial(q), self._radial(p), strict=True)))
        for low, (left, right) in rows[:0:-1]:
            total = total * c + low * (left * right)
        return total

    def hermite(self, q: ArrayLike, count: int) -> Array:
        _check_count(count)
        q, root = _column(q)
        columns = [radial * root**low for low, radial in enumerate(self._radial(q))]
        return _stack(columns + [0 * q] * max(count - len(columns), 0), count)

    def _sphere_map(self, q: Array, v: Array, vc: Array) -> SphereMap:
        powers = np.arange(len(self.coefficients), dtype=v.dtype)
        weights = np.array(self._radial(q), v.dtype) ** 2 * q**powers
        total = weights.sum()
        if total == 0:
            return _linear_limit(v)
        weights = weights / total
        slopes = (powers * weights)[1:]
        return (
            _powers_defect(weights, v, vc),
            _power_sum(slopes, vc - v),
            _powers_defect(slopes, v, vc),
        )


@dataclass(frozen=True)
class Polynomial(_Series):
    """The polynomial s(x) = sum_j coefficients[j] x^j, for inputs of any variance."""

    @property
    def name(self) -> str:
        degree = self.degree
        if degree is not None and self.coefficients[-1] == 1:
            return f"monomial({degree:.0f})"
        return "polynomial" + _arguments(*self.coefficients)

    @property
    def degree(self) -> float | None:
        return None if any(self.coefficients[:-1]) else float(len(self.coefficients) - 1)

    def __call__(self, x: ArrayLike) -> Array:
        (x,) = _floats(x)
        return _power_sum(np.array(self.coefficients, x.dtype), x)

    def derivative(self, x: ArrayLike) -> Array:
        (x,) = _floats(x)
        lowered = [j * value for j, value in enumerate(self.coefficients)]
        return _power_sum(np.array(lowered[1:], x.dtype), x)

    @property
    def _origin(self) -> int:
        return 0

    def _moment(self, low: int, i: int, like: Array) -> Array:
        whole = math.factorial(low + 2 * i) // (2**i * math.factorial(i))
        whole_like, factorial = _like(like, whole, math.factorial(low))
        return whole_like / np.sqrt(factorial)

    def _sphere_map(self, q: Array, v: Array, vc: Array) -> SphereMap:
        if self.degree is not None:  # the normalised map of a homogeneous s is the same at every q
            weights = _monomial_weights(int(self.degree), v.dtype.char)
            weights = weights / weights.sum()
            slopes = (np.arange(len(weights), dtype=v.dtype) * weights)[1:]
            return (
                _powers_defect(weights, v, vc),
                _power_sum(slopes, vc - v),
                _powers_defect(slopes, v, vc),
            )
        if q == 0:  # only the lowest power counts
            lowest = next(j for j, value in enumerate(self.coefficients) if value)
            return monomial(lowest)._sphere_map(q, v, vc)
        return super()._sphere_map(q, v, vc)


@dataclass(frozen=True)
class HermiteSeries(_Series):
    """The sum s(x) = sum_j coefficients[j] h_j(x) of orthonormal Hermite polynomials.

    h_j = He_j / sqrt(j!) with the probabilists' He_j.  At unit variance the dual is
    sum_j coefficients[j]^2 c^j; other variances follow from the multiplication theorem.
    """

    @property
    def name(self) -> str:
        if self.coefficients[-1] == 1 and not any(self.coefficients[:-1]):
            return f"hermite({len(self.coefficients) - 1})"
        return "hermite_series" + _arguments(*self.coefficients)

    @property
    def degree(self) -> float | None:
        size = len(self.coefficients)
        return float(size - 1) if size == 1 or (size == 2 and not self.coefficients[0]) else None

    def __call__(self, x: ArrayLike) -> Array:
        return self._sum(self.coefficients, x)

    def derivative(self, x: ArrayLike) -> Array:
        lowered = [value * math.sqrt(j) for j, value in enumerate(self.coefficients)]
        return self._sum(lowered[1:], x)

    @staticmethod
    def _sum(weights: Sequence[float], x: ArrayLike) -> Array:
        (x,) = _floats(x)
        before, value, total = np.zeros_like(x), np.ones_like(x), np.zeros_like(x)
        for j, weight in enumerate(weights):
            total = total + _like(x, weight)[0] * value
            root, above = np.sqrt(_like(x, j, j + 1))
            before, value = value, (x * value - root * before) / above
        return total

    @property
    def _origin(self) -> int:
        return 1

    def _moment(self, low: int, i: int, like: Array) -> Array:
        ratio = math.factorial(low + 2 * i) // math.factorial(low)
        ratio_like, whole = _like(like, ratio, 2**i * math.factorial(i))
        return np.sqrt(ratio_like) / whole


# Names ------------------------------------------------------------------------------------------

identity = Identity()
relu = ABReLU(0.0, 1.0)
abs = ABReLU(-1.0, 1.0)
step = Step(0.0, 1.0)
sign = Step(-1.0, 1.0)
erf = Erf()
sigmoid_like = Erf(0.5, 1 / 2.4020563531719796, 0.5)
gelu = GELU()
sin = Sine()
cos = Sine(1.0, 1.0, math.pi / 2)
exp = Exp()
gaussian = Gaussian()


def leaky_relu(slope: float = 0.01) -> ABReLU:
    """Return s(x) = x for x > 0 and slope x otherwise."""
    return ABReLU(slope, 1.0)


def rbf(gamma: float = 1.0) -> Sine:
    """Return sqrt(2) sin(sqrt(2 gamma) x + pi/4), whose dual is exp(-gamma (q + p - 2c))."""
    if not gamma > 0:
        raise ValueError(f"gamma: expected a positive number, got {gamma}")
    return Sine(math.sqrt(2), math.sqrt(2 * gamma), math.pi / 4)


def monomial(n: int) -> Polynomial:
    """Return s(x) = x^n."""
    return Polynomial((0.0,) * _order("n", n) + (1.0,))


def rectified_monomial(n: int) -> Activation:
    """Return s(x) = x^n for x > 0 and 0 otherwise; n = 0 is the step and n = 1 the ReLU."""
    return (step, relu)[n] if _order("n", n) < 2 else RectifiedMonomial(int(n))


def hermite(n: int) -> HermiteSeries:
    """Return the orthonormal probabilists' Hermite polynomial h_n."""
    return HermiteSeries((0.0,) * _order("n", n) + (1.0,))


def polynomial(coefficients: Sequence[float]) -> Polynomial:
    """Return s(x) = sum_j coefficients[j] x^j."""
    return Polynomial(tuple(coefficients))


def _order(name: str, n: float) -> int:
    if n != int(n) or n < 0:
        raise ValueError(f"{name}: expected an integer >= 0, got {n}")
    return int(n)


_CONSTANTS: dict[str, Activation] = {
    one.name: one for one in (identity, relu, abs, step, sign, erf, gelu, sin, cos, exp, gaussian)
}
_CONSTANTS |= {"linear": identity, "sigmoid_like": sigmoid_like}

_FACTORIES: dict[str, Callable[..., Activation]] = {
    "leaky_relu": leaky_relu,
    "abrelu": ABReLU,
    "step": Step,
    "erf": Erf,
    "sine": Sine,
    "rbf": rbf,
    "exp": Exp,
    "gaussian": Gaussian,
    "monomial": lambda n: monomial(n),
    "rectified_monomial": lambda n: rectified_monomial(n),
    "hermite": lambda n: hermite(n),
    "polynomial": lambda *values: Polynomial(values),
    "hermite_series": lambda *values: HermiteSeries(values),
}


def resolve(spec: str | Activation | Callable[[Array], Array]) -> Activation:
    """Turn a name, an activation or a Python function into an `Activation`.

    Parameters
    ----------
    spec : str, Activation or callable
        A name such as ``"relu"``, ``"leaky_relu(0.1)"`` or ``"tanh"``, an activation, or any
        function that works elementwise on arrays.

    Raises
    ------
    ValueError
        For an unknown name.
    TypeError
        For anything else.

    Examples
    --------
    >>> import ntkfast as nf
    >>> nf.Activation("leaky_relu(0.1)")
    ABReLU(negative=0.1, positive=1.0)
    >>> nf.Activation("relu").dual(1.0, 1.0, 1.0)
    np.float64(0.5)
    """
    if isinstance(spec, Activation):
        return spec
    if isinstance(spec, str):
        return _by_name(spec)
    if callable(spec):
        from ntkfast.quadrature import CallableActivation

        return CallableActivation(spec)
    raise TypeError(
        f"activation: expected a name, an Activation or a callable, got {type(spec).__name__}"
    )


def _by_name(text: str) -> Activation:
    match = re.fullmatch(r"\s*(\w+)\s*(?:\(([^()]*)\))?\s*", text)
    name, arguments = match.groups() if match else (text, None)
    if not arguments and name in _CONSTANTS:
        return _CONSTANTS[name]
    if name in _FACTORIES:
        try:
            values = [float(part) for part in (arguments or "").split(",") if part.strip()]
            return _FACTORIES[name](*values)
        except (TypeError, ValueError) as error:
            raise ValueError(f"activation: cannot make {text!r}: {error}") from error
    from ntkfast import quadrature

    if not arguments and name in quadrature.NAMED:
        return quadrature.NAMED[name]
    known = sorted({*_CONSTANTS, *_FACTORIES, *quadrature.NAMED})
    raise ValueError(f"activation: expected one of {', '.join(known)}, got {text!r}")
