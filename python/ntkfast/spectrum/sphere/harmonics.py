"""Spherical harmonics on S^{d-1}: how many there are, and their zonal members P_k.

Throughout, lam = (d - 2) / 2 and P_k is the Gegenbauer polynomial of index lam with P_k(1) = 1
(Legendre for d = 3, Chebyshev for d = 2). The numbers N(d, k) of harmonics overflow early
(10^600 at d = k = 1000): everything here works with integers, logarithms or ratios.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ntkfast.arrays import checks

Array: TypeAlias = NDArray[np.floating[Any]]

# Bernoulli numbers B_2n / (2n (2n - 1)) of Stirling's series; at x >= 20 the next is below 1e-22.
_STIRLING = (
    (1, 12),
    (-1, 360),
    (1, 1260),
    (-1, 1680),
    (1, 1188),
    (-691, 360360),
    (1, 156),
    (-3617, 122400),
)
_STIRLING_LEAST = 20
_STIRLING_LARGE = 1000  # three terms suffice from here
_PRODUCT_MOST = 40  # dimension up to which N is multiplied out before the logarithm


def multiplicity(dim: int, degree: int) -> int:
    """Return N(dim, degree), the exact number of independent harmonics of one degree.

    Parameters
    ----------
    dim : int
        Dimension d >= 2 of the space around the sphere S^{d-1}.
    degree : int
        Degree k >= 0.

    Returns
    -------
    int
        C(k + d - 1, k) - C(k + d - 3, k - 2).

    Examples
    --------
    >>> from ntkfast import spectrum
    >>> [spectrum.multiplicity(3, k) for k in range(4)]
    [1, 3, 5, 7]
    """
    d, k = checks.count("dim", dim, least=2), checks.count("degree", degree)
    lower = math.comb(k + d - 3, k - 2) if k >= 2 else 0
    return math.comb(k + d - 1, k) - lower


def log_multiplicities(dim: int, degrees: NDArray[Any]) -> NDArray[np.longdouble]:
    """Return log N(dim, k) for an array of degrees, in extended precision."""
    k = np.asarray(degrees, np.longdouble)
    if dim == 2:
        return np.where(k == 0, k * 0, np.log(np.longdouble(2)))
    if dim == 1:  # the even and the odd function on {-1, 1}
        return np.where(k < 2, k * 0, -np.inf)
    lam2 = dim - 2
    if dim <= _PRODUCT_MOST:
        product = 1 + 2 * k / lam2
        for i in range(1, lam2):
            product *= (k + i) / i
        return np.asarray(np.log(product))
    growth = log_gamma_ratio(k + 1, lam2 - 1) - log_gamma_ratio(np.ones(1, np.longdouble), lam2 - 1)
    return np.asarray(np.log1p(np.asarray(2 * k / lam2, np.float64)) + growth)  # small: no loss


def log_gamma_ratio(x: Array, shift: float) -> Array:
    """Return log Gamma(x + shift) - log Gamma(x) for x > 0 and x + shift > 0.

    Stirling's series is subtracted analytically, so that the error is that of the result and not
    of the two large logarithms; arguments below 20 are first moved up by the recurrence.
    """
    x = np.atleast_1d(np.asarray(x))
    if shift == 0:
        return np.zeros_like(x)
    moved, correction = x, np.zeros_like(x)
    small = np.minimum(x, x + shift) < _STIRLING_LEAST
    if np.any(small):
        steps = math.ceil(_STIRLING_LEAST - float(np.min(np.minimum(x, x + shift))))
        part = x[small]
        product = np.ones_like(part)
        for i in range(steps):
            product *= (part + i) / (part + i + shift)
        correction[small] = np.log(product)
        moved = np.where(small, x + steps, x)
    y = moved + shift
    main = (moved - 0.5) * np.log1p(shift / moved) + shift * (np.log(y) - 1)
    return np.asarray(main + (_stirling(y) - _stirling(moved)) + correction)


def _stirling(x: Array) -> Array:
    if x.size > 1 and np.any(large := x >= _STIRLING_LARGE) and not np.all(large):
        result = np.empty_like(x)
        result[large], result[~large] = _stirling(x[large]), _stirling(x[~large])
        return result
    inverse = 1 / x
    square, total = inverse * inverse, np.zeros_like(x)
    count = 3 if x[0] >= _STIRLING_LARGE else len(_STIRLING)
    for top, bottom in reversed(_STIRLING[:count]):
        total = total * square + x.dtype.type(top) / bottom
    return np.asarray(total * inverse)


def log_gamma_step(x: float, shift: float) -> float:
    """Scalar form of `log_gamma_ratio`, rounded once."""
    return float(log_gamma_ratio(np.array([x], np.longdouble), shift)[0])


def polynomials(dim: int, u: Array) -> Iterator[Array]:
    """Yield P_0(u), P_1(u), ... for cosines `u`, without end.

    The forward recurrence in the differences P_{k-1} - P_k is used: near u = 1 the values are
    close to 1 and the plain three-term recurrence loses k^2 units of rounding there. Values at
    negative cosines follow from P_k(-u) = (-1)^k P_k(u).
    """
    lam2 = dim - 2
    negative = u < 0
    defect = 1 - np.abs(u)
    value, step = np.ones_like(u), np.zeros_like(u)
    k = 0
    while True:
        yield np.where(negative & (k % 2 == 1), -value, value)
        # (k + 2 lam)(P_k - P_{k+1}) = 2 (k + lam) (1 - u) P_k + k (P_{k-1} - P_k)
        bottom = k + lam2
        ratio = (2 * k + lam2) / bottom if bottom else 1.0
        step = ratio * defect * value + (k / bottom if bottom else 0.0) * step
        value = value - step
        k += 1
