"""Duals of named functions without closed form, with as many digits as asked for.

By trapezoidal rules, and for elu in polar coordinates.  For functions that are analytic in a strip
about the real axis, times a Gaussian, the rule of step h errs by exp(y^2 / 2 - 2 pi y / h), for any
shift y of the contour within the strip.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from mpmath import mp, mpf

from oracle import Dual


class Numbers(NamedTuple):
    """Arithmetic on arrays: NumPy's extended numbers, or objects of many digits."""

    digits: float
    number: Callable[[mpf], Any]
    exp: Callable[[Any], Any]
    expm1: Callable[[Any], Any]
    log1p: Callable[[Any], Any]


Function = Callable[[Any, Any, Numbers], Any]  # of x and exp(-|x|)
EXTENDED = Numbers(18, lambda x: np.longdouble(mp.nstr(x, 25)), np.exp, np.expm1, np.log1p)


@cache
def many(digits: int) -> Numbers:
    """Return numbers of gmpy2, which take a third of the time of mpmath's."""
    import gmpy2

    context = gmpy2.get_context()
    context.precision = max(context.precision, int(3.33 * digits) + 40)
    known = (np.frompyfunc(one, 1, 1) for one in (gmpy2.exp, gmpy2.expm1, gmpy2.log1p))
    return Numbers(digits, lambda x: gmpy2.mpfr(mp.nstr(x, digits + 10)), *known)


class Strip(NamedTuple):
    """A function, its derivative, and how far from the real axis their nearest poles are."""

    pole: float
    value: Function
    slope: Function


def _logistic(x: Any, small: Any, m: Numbers) -> Any:
    return np.where(x > 0, 1, small) / (1 + small)


def _bell(x: Any, small: Any, m: Numbers) -> Any:
    return small / (1 + small) ** 2


STRIPS = {
    "tanh": Strip(
        np.pi / 2,
        lambda x, small, m: np.where(x > 0, -1, 1) * m.expm1(-2 * abs(x)) / (1 + small**2),
        lambda x, small, m: 4 * small**2 / (1 + small**2) ** 2,
    ),
    "sigmoid": Strip(np.pi, _logistic, _bell),
    "silu": Strip(
        np.pi,
        lambda x, small, m: x * _logistic(x, small, m),
        lambda x, small, m: _logistic(x, small, m) + x * _bell(x, small, m),
    ),
    "softplus": Strip(np.pi, lambda x, small, m: np.where(x > 0, x, 0) + m.log1p(small), _logistic),
}


def _grid(pole: float, numbers: Numbers) -> tuple[Any, Any]:
    """Return nodes and weights of Gaussian averages of functions with a pole at a distance."""
    error = 2.31 * (numbers.digits + 3)
    y = min(pole, float(np.sqrt(2 * error)))
    h = 2 * np.pi * y / (error + y * y / 2)
    count = int(np.sqrt(2 * error) / h) + 1
    step = numbers.number(mpf(h))
    x = np.arange(-count, count + 1) * step
    return x, numbers.exp(-x * x / 2) * (step / numbers.number(mp.sqrt(2 * mp.pi)))


@cache
def strip_dual(name: str, numbers: Numbers = EXTENDED) -> Dual:
    """Return E[s(a) s(b)] and E[s'(a) s'(b)] of Gaussians of variances q, p and covariance c."""
    strip = STRIPS[name]

    def both(x: Any) -> list[Any]:
        small = numbers.exp(-abs(x))
        return [f(x, small, numbers) for f in (strip.value, strip.slope)]

    @cache
    def dual(q: mpf, p: mpf, c: mpf) -> tuple[mpf, mpf]:
        first, second = mp.sqrt(max(q, p)) or mpf(10) ** -60, min(q, p)
        along = c / first
        across = mp.sqrt(max(second - along**2, mpf(0)))
        x, weights = _grid(strip.pole / float(first), numbers)
        z, density = np.zeros(1), np.ones(1)
        if across > mp.sqrt(second) * mpf(10) ** -numbers.digits:
            z, density = _grid(strip.pole / float(across), numbers)
        root, along, across = (numbers.number(part) for part in (first, along, across))
        sides = zip(both(root * x), both((along * x)[:, None] + across * z), strict=True)
        found = [np.dot(f * weights, np.dot(g, density)) for f, g in sides]
        return tuple(mpf(str(one)) for one in found)  # type: ignore[return-value]

    return dual


def elu_dual(q: mpf, p: mpf, theta: mpf, digits: int = 30) -> tuple[mpf, mpf]:
    """E[elu(a) elu(b)] and E[elu'(a) elu'(b)] of two Gaussians with an angle.

    In polar coordinates the kinks are rays. Between them one radius after the other is averaged in
    closed form, by J_n(s), the integral of r^n exp(s r - r^2 / 2) over r > 0.
    """
    with mp.workdps(digits):

        def first(s: mpf) -> mpf:
            return 1 + s * zeroth(s)

        def zeroth(s: mpf) -> mpf:
            return mp.sqrt(mp.pi / 2) * mp.exp(s * s / 2) * mp.erfc(-s / mp.sqrt(2))

        def mixed(up: mpf, down: mpf) -> mpf:  # J_2(down) - J_2(0), times up
            return up * (down + (1 + down**2) * zeroth(down) - zeroth(mpf(0)))

        def values(a: mpf, b: mpf, signs: tuple[int, int]) -> tuple[mpf, mpf]:
            if signs == (1, 1):
                return 2 * a * b, mpf(1)
            if signs == (1, -1):
                return mixed(a, b), first(b)
            if signs == (-1, 1):
                return mixed(b, a), first(a)
            return first(a + b) - first(a) - first(b) + 1, first(a + b)

        def sector(signs: tuple[int, int], start: mpf, stop: mpf, which: int) -> mpf:
            def radius(t: mpf) -> mpf:
                a, b = mp.sqrt(q) * mp.cos(t), mp.sqrt(p) * mp.cos(t - theta)
                return values(a, b, signs)[which]

            return mp.quad(radius, [start, (start + stop) / 2, stop], method="gauss-legendre") / (
                2 * mp.pi
            )

        right = mp.pi / 2
        sectors = [
            ((1, -1), -right, theta - right),
            ((1, 1), theta - right, right),
            ((-1, 1), right, theta + right),
            ((-1, -1), theta + right, 3 * right),
        ]
        value, slope = (mp.fsum(sector(*one, which) for one in sectors) for which in (0, 1))
        return value, slope


def elu(q: mpf, p: mpf, c: mpf) -> tuple[mpf, mpf]:
    """Return the same of a covariance, in the digits of `DUALS`, to which small values cancel."""
    lost = int(-mp.log10(q * p) / 2) if 0 < q * p < 1 else 0
    return elu_dual(q, p, mp.atan2(mp.sqrt(max(q * p - c * c, mpf(0))), c), DIGITS + lost)


DIGITS = 42
DUALS: dict[str, Dual] = {
    "elu": elu,
    **{
        name: lambda q, p, c, name=name: strip_dual(name, many(DIGITS))(q, p, c)  # type: ignore
        for name in STRIPS
    },
}
