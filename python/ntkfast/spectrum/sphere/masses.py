"""Masses N mu_k / k(1) of a kernel on the sphere, by the method that suits it."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ntkfast.kernels.curve import Curve
from ntkfast.kernels.jets import Ends
from ntkfast.spectrum.sphere import contour, gauss, rodrigues, tail, taylor
from ntkfast.spectrum.sphere.decay import FAST, Branch, leading_term

Array = NDArray[np.float64]

PARITY_ZERO = 1e-12  # of k(1): what rounding leaves of masses that vanish by symmetry
OVERLAP = 4  # degrees computed in both ways
AGREEMENT = 1e-13  # relative difference allowed there, besides the estimated errors
ATTEMPTS = 12  # degrees at which they may meet, each half as high again
POOR = 1e-6  # a difference that is too large to go on with
MOST_LOW = 1 << 14  # degrees the contour is asked for
SHARP = 1e-13  # relative error of the contour from which Laplace kernels go another way


class Found(NamedTuple):
    """Masses relative to k(1), and what else the methods know."""

    mass: Array
    log_mass: Array
    error: Array
    residual: float
    method: str
    branches: tuple[Branch, Branch] | None


def find_masses(curve: Curve, dim: int, last: int) -> Found:
    """Return the masses of the degrees to `last` by the first method that knows them."""
    return (
        _from_powers(curve, dim, last)
        or _from_ends(curve, dim, last)
        or _from_rodrigues(curve, dim, last)
        or _by_quadrature(curve, dim, last)
    )


def _padded(values: Array, count: int, fill: float) -> Array:
    return np.append(values[:count], np.full(max(0, count - len(values)), fill))


def _log_abs(mass: Array) -> Array:
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(np.abs(mass)))


def _from_powers(curve: Curve, dim: int, last: int) -> Found | None:
    powers = curve.powers()
    if powers is None:
        return None
    found = taylor.masses(powers, dim, max(last + 1, 512))
    log_mass, error = (
        _padded(found.log_mass, last + 1, math.nan),
        _padded(found.error, last + 1, math.inf),
    )
    residual = float(np.exp(found.log_mass).sum()) - 1
    return Found(np.exp(log_mass), log_mass, error, residual, "power series in u", (FAST, FAST))


def _from_ends(curve: Curve, dim: int, last: int) -> Found | None:
    ends = curve.ends()
    if ends is None:
        return None
    lam = (dim - 2) / 2
    joined = _join(curve, ends, dim, last)
    if joined is None:
        return None
    first, low, error, method, high = joined
    mass, error = np.append(low, high.mass), np.append(error, high.error)
    for odd in (False, True):
        part = slice(int(odd), None, 2)
        if ends.vanishes(odd):
            tiny = np.abs(mass[part]) <= PARITY_ZERO
            mass[part][tiny] = 0.0
            error[part][tiny] = 0.0
        else:  # an underflow is no exact zero
            lost = mass[part] == 0
            mass[part][lost] = math.nan
            error[part][lost] = math.inf
    residual = float(np.nansum(mass)) + tail.remainder(ends, lam, len(mass) - 1) - 1
    mass, error = mass[: last + 1], error[: last + 1]
    branches = leading_term(ends, lam, False), leading_term(ends, lam, True)
    method += f" below degree {first}, end-point series from there"
    return Found(mass, _log_abs(mass), error, residual, method, branches)


def _join(
    curve: Curve, ends: Ends, dim: int, last: int
) -> tuple[int, Array, Array, str, tail.Tail] | None:
    """Return where the tail begins, the masses below with errors and method, and the tail.

    Both methods must agree where they meet. Singularities inside the strip of angles contribute
    terms that decrease exponentially with the degree; mostly, but not always, the coefficients of
    the expansions betray them: then the tail begins later. A difference that stays is an error.
    """
    lam = (dim - 2) / 2
    first = tail.start(ends, lam)
    best, least = None, POOR
    for _ in range(ATTEMPTS):
        if first is None or first > MOST_LOW:
            break
        low, error, method = _low(curve, dim, first + OVERLAP)
        high = tail.masses(ends, lam, first, max(last, first + OVERLAP - 1))
        gap = _gap(low[first:], error[first:], high)
        if gap < least:
            error = error + np.where(low == 0, 0, gap)
            best, least = (first, low[:first], error[:first], method, high), gap
        if gap == 0:
            break
        first += first // 2
    return best


def _gap(low: Array, error: Array, high: tail.Tail) -> float:
    """Return the largest relative difference beyond the estimated errors where two methods meet."""
    mass, rest = high.mass[:OVERLAP], high.error[:OVERLAP]
    present = (mass != 0) & ~np.isnan(low)
    with np.errstate(divide="ignore", invalid="ignore"):
        gap = np.abs(low / mass - 1) - 8 * (np.minimum(error, 1) + rest)
    found = float(np.max(gap[present], initial=0.0))
    return found if found > AGREEMENT else 0.0


def _low(curve: Curve, dim: int, count: int) -> tuple[Array, Array, str]:
    """Return the masses of low degree by the most accurate method, and its name."""
    path = contour.find(curve)
    choices = []
    if path is not None:
        choices.append((*contour.masses(path, dim, count), "contour integral"))
    rate = curve.laplace_rate
    if rate is not None and (path is None or np.max(choices[0][1]) > SHARP):
        log_mass, error = rodrigues.log_masses(rate, dim, count)
        choices.append((np.exp(log_mass), error, "Rodrigues' formula"))
    if not choices:
        mass, error = gauss.masses(curve, dim, count)
        choices.append(
            (_padded(mass, count, math.nan), _padded(error, count, math.inf), "quadrature")
        )
    return min(choices, key=lambda choice: float(np.max(choice[1])))


def _from_rodrigues(curve: Curve, dim: int, last: int) -> Found | None:
    """Return all masses of a Laplace kernel so sharp that its tail begins out of reach."""
    ends, rate = curve.ends(), curve.laplace_rate
    if rate is None or ends is None:
        return None
    log_mass, error = rodrigues.log_masses(rate, dim, min(last + 1, MOST_LOW))
    residual = float(np.exp(log_mass).sum()) - 1
    log_mass, error = _padded(log_mass, last + 1, math.nan), _padded(error, last + 1, math.inf)
    lam = (dim - 2) / 2
    branches = leading_term(ends, lam, False), leading_term(ends, lam, True)
    return Found(np.exp(log_mass), log_mass, error, residual, "Rodrigues' formula", branches)


def _by_quadrature(curve: Curve, dim: int, last: int) -> Found:
    mass, error = gauss.masses(curve, dim, last + 1)
    residual = float(mass[error < 1].sum()) - 1
    mass = _padded(mass, last + 1, math.nan)
    error = _padded(error, last + 1, math.inf)
    return Found(mass, _log_abs(mass), error, residual, "quadrature", None)
