"""Activations with a kink or a jump at the origin: ReLU, its relatives and powers, and steps."""

# ruff: noqa: D102 - the methods are documented once, in the base class

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ntkfast.activations.base import (
    Activation,
    Angle,
    Array,
    Code,
    Complex,
    DualSlopes,
    SphereMap,
    _arguments,
    _check_count,
    _check_finite,
    _column,
    _floats,
    _like,
)
from ntkfast.activations.pairs import (
    _angles,
    _arc_defect,
    _half_chords,
    _pi,
    arc_shape,
    complex_cosines,
    inverse_root,
    odd_factorial,
    smaller_arc,
)
from ntkfast.arrays.decimals import number
from ntkfast.engines.codes import ActivationKind


@dataclass(frozen=True)
class ABReLU(Activation):
    """Two half lines, s(x) = negative min(x, 0) + positive max(x, 0): ReLU, leaky ReLU, abs.

    With A = (positive - negative)^2 / 2, B = negative positive and the arc-cosine functions
    kappa0, kappa1 of Cho and Saul, K = sqrt(qp) (A kappa1(u) + B u) and Kd = A kappa0(u) + B.
    """

    negative: float
    positive: float
    is_arc_cosine = True

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
    def polynomial_degree(self) -> int | None:
        return 1 if self.negative == self.positive else None

    @property
    def is_smooth(self) -> bool:  # type: ignore[override] # of an instance: a line has no kink
        return self.negative == self.positive

    @property
    def code(self) -> Code:
        a, b = float(self.negative), float(self.positive)
        return ActivationKind.RELU, ((a - b) ** 2 / 2, a * b)

    def _weights(self, x: Array) -> tuple[Array, Array]:
        return _fold_and_line(self.negative, self.positive, x.dtype)

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
        bend = smaller_arc(v, vc)[1] / _pi(v)
        kappa1 = np.where(v <= vc, 1 - (2 * v - bend), bend)
        return norm * (fold * kappa1 + line * (vc - v))

    def derivative_dual(self, q: ArrayLike, p: ArrayLike, c: ArrayLike) -> Array:
        q, p, c = _floats(q, p, c)
        _, v, vc = _half_chords(q, p, c)
        fold, line = self._weights(v)
        phi = _angles(v, vc)[1]
        return fold * (phi / _pi(phi)) + line

    def dual_slopes(self, q: Array, p: Array, v: Array, vc: Array) -> DualSlopes:
        fold, line = self._weights(v)
        phi, root, other = _angles(v, vc)[1], np.sqrt(q), np.sqrt(p)
        sine = 2 * np.sqrt(v * vc)
        apart = root * other * sine
        turn = np.where(apart > 0, fold / _pi(v) / np.where(apart > 0, apart, 1), 0)
        inverse = np.where(root > 0, 1 / np.where(root > 0, root, 1), 0)
        return DualSlopes(
            fold * (phi / _pi(phi)) + line,
            fold / _pi(v) / 2 * sine * other * inverse,
            turn,
            -turn * (vc - v) * other * inverse / 2,
        )

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

    def complex_duals(self, q: Array, p: Array, c: Complex) -> tuple[Complex, Complex]:
        fold, line = self.code[1]
        norm, u, kappa0 = complex_cosines(q, p, c)
        kappa1 = np.sqrt(1 - u * u) / np.pi + u * kappa0
        return norm * (fold * kappa1 + line * u), fold * kappa0 + line

    def arc_cosine_map(self, angle: Angle) -> tuple[Any, Any]:
        (kappa0, _), (kappa1, defect1) = angle.ramps(1)
        fold, line = self.code[1]
        total, opposite = fold + line, (self.negative + self.positive) ** 2 / 2
        near = fold * defect1 + line * angle.D
        far = opposite - (fold * kappa1 + line * angle.E)  # for abs this vanishes at u = -1 too
        return angle.choose(near, far) / total, (fold * kappa0 + line) / total

    def _sphere_map(self, q: Array, v: Array, vc: Array) -> SphereMap:
        # The hot loop of compiling a deep network: one arcsine and one series per angle.
        fold, line = self._weights(v)
        total = fold + line
        acute = v <= vc
        angle, arc = smaller_arc(v, vc)
        pi = _pi(angle)
        turn, bend = angle / pi, arc / pi
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


@lru_cache(maxsize=256)
def _fold_and_line(negative: float, positive: float, dtype: np.dtype[Any]) -> tuple[Any, Any]:
    """Return the weights of the fold and of the line whose sum a bent line is."""
    a, b = number(negative, dtype), number(positive, dtype)
    return (a - b) ** 2 / 2, a * b


@dataclass(frozen=True)
class Step(Activation):
    """A jump at the origin from `low` to `high` (their mean at 0): step (0, 1), sign (-1, 1).

    K = alpha + beta (1 - 2 theta/pi), alpha = mean^2, beta = (half the jump)^2.  The derivative is
    taken piecewise, hence 0: its weak part, a delta at the origin, is left out.
    """

    low: float
    high: float
    is_arc_cosine = True

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
    def is_odd(self) -> bool:
        return self.low == -self.high

    @property
    def degree(self) -> float | None:
        return 0.0

    @property
    def code(self) -> Code:
        low, high = float(self.low), float(self.high)
        return ActivationKind.STEP, (((high + low) / 2) ** 2, ((high - low) / 2) ** 2)

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

    def dual_slopes(self, q: Array, p: Array, v: Array, vc: Array) -> DualSlopes:
        jump = self._levels(v)[1]
        apart = np.sqrt(q) * np.sqrt(p) * np.sqrt(v * vc)
        by_c = np.where(apart > 0, jump**2 / _pi(v) / np.where(apart > 0, apart, 1), 0)
        by_q = -by_c * (vc - v) * np.sqrt(p) * inverse_root(q) / 2
        return DualSlopes(by_c, by_q, np.zeros_like(by_c), np.zeros_like(by_c))

    def hermite(self, q: ArrayLike, count: int) -> Array:
        _check_count(count)
        (q,) = _floats(q)
        mean, jump = self._levels(q)
        odd = np.arange(count) % 2 == 1
        row = np.where(odd, 2 * jump * _ramp_coefficients(0, count, q), 0)
        row[0] = mean
        return np.ones_like(q)[..., None] * row

    def complex_duals(self, q: Array, p: Array, c: Complex) -> tuple[Complex, Complex]:
        constant, line = self.code[1]
        _, u, kappa0 = complex_cosines(q, p, c)
        return constant + line * (2 * kappa0 - 1), np.zeros_like(u)

    def arc_cosine_map(self, angle: Angle) -> tuple[Any, Any]:
        mean2, jump2 = self.code[1]
        return angle.ramps(0)[0][1] * (2 * jump2 / (mean2 + jump2)), None

    def _sphere_map(self, q: Array, v: Array, vc: Array) -> SphereMap:
        mean, jump = self._levels(v)
        theta = _angles(v, vc)[0]
        defect = jump**2 * (2 * theta / _pi(theta)) / (mean**2 + jump**2)
        return defect, np.zeros_like(v), np.zeros_like(v)


@dataclass(frozen=True)
class RectifiedMonomial(Activation):
    """The power of a ReLU, s(x) = max(x, 0)^order with order >= 2; K = (qp)^(n/2) J_n / (2 pi)."""

    order: int
    is_arc_cosine = True

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
        return norm**self.order * (odd_factorial(self.order) / 2) * arc_shape(self.order, v, vc)

    def derivative_dual(self, q: ArrayLike, p: ArrayLike, c: ArrayLike) -> Array:
        norm, v, vc = _half_chords(*_floats(q, p, c))
        n = self.order
        factor = n * n * (odd_factorial(n - 1) / 2)
        return norm ** (n - 1) * factor * arc_shape(n - 1, v, vc)

    def hermite(self, q: ArrayLike, count: int) -> Array:
        _check_count(count)
        q, root = _column(q)
        return (root**self.order)[..., None] * _ramp_coefficients(self.order, count, q)

    def arc_cosine_map(self, angle: Angle) -> tuple[Any, Any]:
        n = self.order
        ramps = angle.ramps(n)
        return ramps[n][1], ramps[n - 1][0] * (n * n / (2 * n - 1))

    def _sphere_map(self, q: Array, v: Array, vc: Array) -> SphereMap:
        n = self.order
        top = v.dtype.type(n * n) / (2 * n - 1)
        return (
            _arc_defect(n, v, vc),
            top * arc_shape(n - 1, v, vc),
            top * _arc_defect(n - 1, v, vc),
        )


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
