"""Eigenvalues from the power series in u, for kernels without singularities on the sphere.

Positive semidefinite in every dimension means non-negative coefficients b_n (Schoenberg 1942), and

    N mu_k = c_k sum_j b_{k+2j} prod_{i<j} (k+2i+1)(k+2i+2) / (4 (i+1) (k+i+lam+1)),
    c_k = prod_{i<k} (i + 2 lam) / (2 (i + lam)),

is a sum of positive terms: every eigenvalue has the relative accuracy of the coefficients, however
small it is. Networks of smooth activations compose their Hermite series in the same arithmetic.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ntkfast.kernels.powers import Powers

Array = NDArray[np.float64]

ORDERS = (64, 512)  # coefficients: of a polynomial, or of anything
NEGLIGIBLE = 1e-17  # share of the sum of coefficients that may be cut off
RESOLVED = 1e-10  # degrees that miss more than this share of their series are left out
MOST_TERMS = 100_000
LOG_ROUNDING = -42.0  # logarithm of the relative size of a term that does not matter


class Masses(NamedTuple):
    """Logarithms of N mu_k / k(1) for the degrees that could be resolved, and relative errors."""

    log_mass: Array
    error: Array


def masses(powers: Powers, dim: int, count: int) -> Masses:
    """Return the masses for k < count, fewer if the series is cut off before that."""
    extra = 64 + (0 if powers.rate is None else int(4 * powers.rate**0.5 + 2 * powers.rate))
    log_b = powers.up_to(count + 2 * extra)
    if powers.rate is None and not powers.complete:
        count = min(count, len(log_b))
    lam = (dim - 2) / 2
    k = np.arange(count, dtype=np.float64)
    log_sum, log_last, terms = _log_sum(log_b, k, lam, rises_once=powers.rate is not None)
    log_mass = log_sum + _log_prefactor(k, lam)
    zero = np.isneginf(log_sum)
    cut = np.zeros(count)
    if not powers.complete:
        cut[~zero] = 4 * np.exp(log_last[~zero] - log_sum[~zero])
    size = 0.0 if powers.rate is None else powers.rate * np.log1p(powers.rate)  # of log b_n
    units = 16 + terms + size + k + np.abs(np.where(zero, 0, log_mass))
    error = cut + np.finfo(float).eps * units
    resolved = int(np.argmax(cut > RESOLVED)) if np.any(cut > RESOLVED) else count
    return Masses(log_mass[:resolved], np.where(zero, 0, error)[:resolved])


def _log_sum(log_b: Array, k: Array, lam: float, *, rises_once: bool) -> tuple[Array, Array, int]:
    """Return the logarithms of the sums over j and of their last terms, and how many there are."""
    log_sum, log_last = np.full(len(k), -np.inf), np.full(len(k), -np.inf)
    log_ratio = np.zeros(len(k))
    for j in range(MOST_TERMS):
        n = min(len(k), len(log_b) - 2 * j)  # degrees with a coefficient left
        if n <= 0:
            break
        log_term = log_b[2 * j : 2 * j + n] + log_ratio[:n]
        log_sum[:n] = np.logaddexp(log_sum[:n], log_term)
        falling = log_term < log_last[:n]
        log_last[:n] = log_term
        if rises_once and np.all(falling & (log_term < log_sum[:n] + LOG_ROUNDING)):
            break
        log_ratio += np.log((k + 2 * j + 1) * (k + 2 * j + 2) / (4 * (j + 1) * (k + j + lam + 1)))
    return log_sum, log_last, j


def _log_prefactor(k: Array, lam: float) -> Array:
    """Return log c_k."""
    i = k[:-1]
    with np.errstate(divide="ignore", invalid="ignore"):
        steps = np.log((i + 2 * lam) / (2 * (i + lam)))
    if lam == 0 and len(steps):
        steps[0] = 0.0
    return np.append(0.0, np.cumsum(steps))[: len(k)]
