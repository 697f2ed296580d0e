"""The geometry of a pair of Gaussians, and the arc-cosine functions of its angle."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np

from ntkfast.activations.base import Array, Complex, _like
from ntkfast.arrays.decimals import is_decimal, pi


def _pi(x: Array) -> Array:
    """Return pi in the precision of `x` (a Python float holds only 53 bits of it)."""
    pi: Array = _pi_of(x.dtype)
    return pi


@cache
def _pi_of(dtype: np.dtype[Any]) -> Any:
    return pi(dtype)


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


def inverse_root(q: Array) -> Array:
    """Return 1 / sqrt(q), and 0 at 0."""
    return np.where(q > 0, 1 / np.sqrt(np.where(q > 0, q, 1)), 0)


def root_share(part: Array | float, whole: Array, limit: float = 0.0) -> Array:
    """Return sqrt(part / whole), and `limit` where both vanish."""
    return np.where(whole > 0, np.sqrt(part / np.where(whole > 0, whole, 1)), limit)


def _geometric_mean(q: Array, p: Array) -> Array:
    """Return sqrt(q p), exactly q when p = q, without overflow of the product."""
    return np.where(q == p, q, np.sqrt(q) * np.sqrt(p))


def covariance(q: Array, p: Array, v: Array, vc: Array) -> Array:
    """Return the covariance of variances and half angles."""
    return np.sqrt(q) * np.sqrt(p) * (vc - v)


def _half_chords(q: Array, p: Array, c: Array) -> tuple[Array, Array, Array]:
    """Return (sqrt(qp), v, vc) of a pair.

    A vanishing variance leaves the angle undefined: two zero inputs are the same input
    (theta = 0), a zero input against another one counts as orthogonal to it.
    """
    norm = _geometric_mean(q, p)
    safe = 2 * np.where(norm == 0, 1, norm)
    v, vc = (np.maximum(np.minimum(a / safe, 1), 0) for a in (norm - c, norm + c))
    half = _like(v, 0.5)[0]
    degenerate = norm == 0
    v = np.where(degenerate, np.where(q == p, 0, half), v)
    return norm, v, np.where(degenerate, 1 - v, vc)


def _angles(v: Array, vc: Array) -> tuple[Array, Array]:
    """Return theta and pi - theta, the smaller of the two with full relative accuracy."""
    small = smaller_arc(v, vc)[0] if is_decimal(v) else _smaller(v, vc)
    large = _pi(small) - small
    acute = v <= vc
    return np.where(acute, small, large), np.where(acute, large, small)


def _excess(q: Array, p: Array, c: Array) -> Array:
    """Return sqrt(q p - c^2) from factors, without overflow and exactly 0 when q = p = c."""
    norm = _geometric_mean(q, p)
    return np.sqrt(np.maximum(norm - c, 0)) * np.sqrt(np.maximum(norm + c, 0))


def _arc1(t: Array) -> Array:
    """Return sin t - t cos t; its power series below t = 1, where the terms cancel."""
    t = np.asarray(t)
    small = np.abs(t) < 1
    x, far = t[small], t[~small]
    y = x * x
    series = np.ones_like(y)
    for j in range(9 if t.dtype.itemsize > 8 else 7, -1, -1):
        series *= y * (t.dtype.type(-1) / ((2 * j + 2) * (2 * j + 5)))
        series += 1
    result = np.empty_like(t)
    result[small] = x * y / 3 * series
    result[~small] = np.sin(far) - far * np.cos(far)
    return result


def _smaller(v: Array, vc: Array) -> Array:
    return 2 * np.arcsin(np.sqrt(np.maximum(np.minimum(v, vc), 0)))


def smaller_arc(v: Array, vc: Array) -> tuple[Array, Array]:
    """Return t and sin t - t cos t, t the smaller of theta and pi - theta."""
    if is_decimal(v):  # their roots are dear, and they have digits enough for the difference
        sine, cosine = 2 * np.sqrt(v * vc), np.abs(vc - v)
        t = np.arctan2(sine, cosine)
        return t, sine - t * cosine
    t = _smaller(v, vc)
    return t, _arc1(t)


def arc(n: int, t: Array) -> Array:
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


def powers_defect(weights: Array, v: Array, vc: Array) -> Array:
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


def odd_factorial(n: int) -> int:
    """Return (2n - 1)!! = J_n(0) / pi."""
    return math.prod(range(1, 2 * n, 2))


def complex_cosines(q: Array, p: Array, c: Complex) -> tuple[Array, Complex, Complex]:
    """Return sqrt(qp), u and kappa0(u) of complex covariances."""
    norm = np.sqrt(q * p)
    u = c / norm
    return norm, u, 1 - np.asarray(np.arccos(u), np.complex128) / np.pi


def _arc_defect(n: int, v: Array, vc: Array) -> Array:
    """Return 1 - J_n(theta) / J_n(0).

    J_n(theta) = pi m_n(cos theta) - (-1)^n J_n(pi - theta), where m_n is the dual of x^n at unit
    variance; the second term is of order theta^(2n+1) only.
    """
    theta = _angles(v, vc)[0]
    weights = monomial_weights(n, v.dtype.char)
    rest = arc(n, theta) / _pi(theta)
    sign = -1 if n % 2 else 1
    return (powers_defect(weights, v, vc) + sign * rest) / odd_factorial(n)


def arc_shape(n: int, v: Array, vc: Array) -> Array:
    """Return J_n(theta) / J_n(0), exactly 1 at theta = 0 and relatively accurate at theta = pi."""
    phi = _angles(v, vc)[1]
    shape = arc(n, phi) / (_pi(phi) * odd_factorial(n))
    return np.where(v < 0.125, 1 - _arc_defect(n, v, vc), shape)


@cache
def monomial_weights(n: int, char: str) -> Array:
    """Coefficients of the dual of x^n at unit variance in powers of u."""
    weights = np.zeros(n + 1, np.dtype(char))
    for low in range(n % 2, n + 1, 2):
        i = (n - low) // 2
        ratio = math.factorial(n) // (2**i * math.factorial(i))
        weights[low] = np.dtype(char).type(ratio) ** 2 / math.factorial(low)
    return weights
