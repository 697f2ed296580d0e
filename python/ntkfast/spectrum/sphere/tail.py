"""Eigenvalues of high degree from the expansions at the ends of the range.

The Funk-Hecke integral of one power is a quotient of Gamma functions: with lam = (d - 2) / 2,

    N(d, k) mu_k[s^(2 nu)] = 2 (k + lam) / Gamma(-nu) * G(nu + lam + 1/2) / G(lam + 1/2)
                             * G(k + 2 lam) / G(k + 2 lam + nu + 1) * G(k - nu) / G(k + 1),

and c^(2 nu) gives (-1)^k times that. Summed over the expansion this is an inverse factorial
series, uniform in the dimension, where the usual powers of 1/k would fail for d of order k.
(Follows from Rodrigues' formula and the beta integral; leading term in Bietti & Bach 2021.)
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import rgamma

from ntkfast.kernels.jets import Array, Ends
from ntkfast.spectrum.sphere.harmonics import log_gamma_ratio, log_gamma_step

TARGET = 2e-17  # relative size of the first term left out
FIRST = 8  # no tail below this degree
LAST = 1 << 17  # nor a search beyond this one
ALTERNATING = 24  # terms of an accelerated alternating sum: its error is 5.8^-24


class Tail(NamedTuple):
    """Masses a_k = N mu_k and their relative truncation errors."""

    mass: NDArray[np.float64]
    error: NDArray[np.float64]


def _chains(nu: NDArray[np.float64]) -> list[NDArray[np.intp]]:
    """Group exponents that differ by integers: neighbours in a group have rational ratios."""
    fraction = np.round(nu % 1, 9)
    return [np.flatnonzero(fraction == one) for one in np.unique(fraction)]


def leading(k: Array, lam: float, nu: float) -> Array:
    """Return the mass of s^(2 nu) at degrees k > nu."""
    constant = 2 * float(rgamma(-nu)) * math.exp(log_gamma_step(lam + 0.5, nu))
    ratio = log_gamma_ratio(k + 2 * lam, nu + 1) + log_gamma_ratio(k - nu, nu + 1)
    return np.asarray(constant * (k + lam) * np.exp(-ratio))


def terms(k: Array, lam: float, nu: NDArray[np.float64]) -> Iterator[tuple[int, Array]]:
    """Yield (index, mass of s^(2 nu[index]) at all k), chain by chain while nu < k - 1."""
    least = float(np.min(k))
    for chain in _chains(nu):
        value: Array | None = None
        at = 0.0
        for index in chain:
            if nu[index] >= least - 1:
                break
            if value is None:
                value, at = leading(k, lam, float(nu[index])), float(nu[index])
            while at < nu[index] - 0.5:
                value = value * (
                    -(at + 1) * (at + lam + 0.5) / ((k - at - 1) * (k + (at + 2 * lam + 1)))
                )
                at += 1
            yield int(index), value


def _table(k: Array, lam: float, nu: NDArray[np.float64], coefficients: Array) -> Array:
    """Terms of the series, one row per exponent; those beyond k - 1 are missing (NaN)."""
    table = np.full((len(nu), len(k)), np.nan)
    for column, degree in enumerate(k):
        for index, value in terms(np.array([degree]), lam, nu):
            table[index, column] = float(coefficients[index]) * value[0]
    return table


def _usable(table: Array) -> tuple[Array, Array]:
    """Return per degree the number of terms before the smallest and the relative size left out."""
    size = np.where(np.isnan(table), np.inf, np.abs(table))
    # a vanishing coefficient is no sign of convergence: look at the larger of neighbours
    pairs = np.maximum(size[:-1], size[1:])
    total = np.abs(np.cumsum(np.where(np.isnan(table), 0, table), axis=0))
    pairs = np.where(total[1:] > 0, pairs, np.inf)  # before the leading term
    count = np.argmin(pairs, axis=0)
    columns = np.arange(table.shape[1])
    with np.errstate(divide="ignore", invalid="ignore"):
        left = pairs[count, columns] / total[count, columns]
    enough = np.argmax(pairs <= TARGET * np.max(total, axis=0), axis=0)
    return np.where(enough > 0, enough, count) + 1, left


def start(ends: Ends, lam: float) -> int | None:
    """Return the first degree from which the series has full accuracy; None if there is none."""
    grid = np.unique(np.round(np.geomspace(FIRST, LAST, 113)).astype(int)).astype(float)
    first = FIRST
    for odd in (False, True):
        if ends.vanishes(odd):
            continue
        low, high = 0, len(grid) - 1
        while low < high:  # the error decreases with the degree
            middle = (low + high) // 2
            good = _good(grid[middle], lam, ends, odd)
            low, high = (low, middle) if good else (middle + 1, high)
        if not _good(grid[low], lam, ends, odd):
            return None
        first = max(first, int(grid[low]))
    return first


def _good(degree: float, lam: float, ends: Ends, odd: bool) -> bool:
    table = _table(np.array([degree]), lam, ends.nu, ends.parity(odd))
    return bool(_usable(table)[1][0] <= TARGET)


def masses(ends: Ends, lam: float, first: int, last: int) -> Tail:
    """Return the masses for degrees first ... last.

    The higher the degree the fewer terms it takes: ranges of a factor of four share a number.
    """
    mass, error = (np.zeros(last - first + 1) for _ in range(2))
    for odd in (False, True):
        if ends.vanishes(odd):
            continue
        coefficients = ends.parity(odd)
        low = first
        while low <= last:
            high = min(last, 4 * low)
            begin = low + (low % 2 != odd)
            if begin <= high:
                k = np.arange(begin, high + 1, 2, dtype=np.float64)
                part = slice(begin - first, high - first + 1, 2)
                mass[part], error[part] = _sum(k, lam, ends.nu, coefficients)
            low = high + 1
    return Tail(mass, error)


def _sum(k: Array, lam: float, nu: NDArray[np.float64], coefficients: Array) -> tuple[Array, Array]:
    """Sum as many terms as the smallest degree needs, small ones first where it matters."""
    counts, left = _usable(_table(k[:1], lam, nu, coefficients))
    kept = int(counts[0])
    total = np.zeros_like(k)
    for index, value in terms(k, lam, nu[:kept]):
        total += float(coefficients[index]) * value
    rounding = np.finfo(float).eps * (8 + 2 * np.log(k + 2 * lam))
    return total, left[0] + rounding


def partial_sum(nu: float, lam: float, degree: int) -> float:
    """Return the sum of the masses of s^(2 nu) over degrees 0 ... `degree`; to infinity it is 0.

    From 1 = P_k(1) the sum telescopes to a quotient of Gamma functions.
    """
    log = log_gamma_step(lam + 0.5, nu) - log_gamma_step(degree + 1 + 2 * lam, nu)
    if degree + 1 - nu > 0:
        log -= log_gamma_step(degree + 1 - nu, nu)
        return float(rgamma(1 - nu)) * math.exp(log)
    raise ValueError("degree: expected more than nu")


def remainder(ends: Ends, lam: float, degree: int) -> float:
    """Return the sum of all masses beyond `degree`, from the expansions.

    Right terms telescope; left terms alternate and are summed by the method of Cohen, Rodriguez
    Villegas and Zagier (Experimental Mathematics 9, 2000).
    """
    k = np.arange(degree + 1, degree + 1 + ALTERNATING, dtype=np.float64)
    right, left = np.full((len(ends.nu), 1), np.nan), np.zeros((len(ends.nu), ALTERNATING))
    for index, value in terms(k, lam, ends.nu):
        left[index] = float(ends.left[index]) * value
        right[index] = -float(ends.right[index]) * partial_sum(float(ends.nu[index]), lam, degree)
    if np.all(np.nan_to_num(right) == 0):
        return 0.0
    kept = int(_usable(right)[0][0])
    sign = 1 if degree % 2 else -1
    alternating = np.dot(_alternating_weights(), left[:kept].sum(axis=0))
    return float(np.nansum(right[:kept])) + sign * float(alternating)


def _alternating_weights() -> NDArray[np.float64]:
    """Weights that sum an alternating series from its first terms with error 5.8^-n."""
    n = ALTERNATING
    d = ((3 + math.sqrt(8)) ** n + (3 - math.sqrt(8)) ** n) / 2
    b, c = -1.0, -d
    weights = []
    for k in range(n):
        c = b - c
        weights.append(c / d)
        b = (k + n) * (k - n) * b / ((k + 0.5) * (k + 1))
    return np.array(weights)
