"""How the eigenvalues of a kernel on the sphere decrease: by its expansions, and by a fit."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln, gammasgn

from ntkfast.kernels.jets import Ends
from ntkfast.spectrum.sphere.harmonics import log_gamma_step, log_multiplicities

Array = NDArray[np.float64]

FITTED = 200  # degrees, at most, that a line is fitted to


@dataclass(frozen=True)
class Branch:
    """Decay of the eigenvalues of one parity, mu_k ~ sign exp(log_constant) k^-exponent.

    Attributes
    ----------
    exponent : float
        Infinite if they fall faster than any power, or vanish.
    log_constant : float
        Logarithm of the absolute value of the constant; minus infinity with an infinite exponent.
    sign : int
        +1 or -1, 0 with an infinite exponent.
    """

    exponent: float
    log_constant: float
    sign: int

    @property
    def constant(self) -> float:
        """The constant itself; 0 or infinity where it does not fit a float."""
        return self.sign * math.exp(min(self.log_constant, 710.0)) if self.sign else 0.0


@dataclass(frozen=True)
class Decay:
    """Asymptotic decay of a spectrum.

    Attributes
    ----------
    even, odd : Branch or None
        From the expansions of the kernel at u = 1 and u = -1; None if these are not known.
    fitted : float
        Exponent of a least-squares line in log mu_k over log(k + lam), over the last octave of
        degrees of the slower parity; NaN if there are fewer than four eigenvalues to fit.
    """

    even: Branch | None
    odd: Branch | None
    fitted: float

    @property
    def exponent(self) -> float:
        """The smaller of the two exact exponents, or the fitted one if they are not known."""
        if self.even is None or self.odd is None:
            return self.fitted
        return min(self.even.exponent, self.odd.exponent)


FAST = Branch(math.inf, -math.inf, 0)


def leading_term(ends: Ends, lam: float, odd: bool) -> Branch:
    """Leading term of mu_k: Gamma(lam+1) 2^(2 lam) Gamma(nu+lam+1/2) / (sqrt pi Gamma(-nu))."""
    coefficients = ends.parity(odd)
    present = np.flatnonzero(np.abs(coefficients) > 0)
    if not len(present):
        return FAST
    nu, coefficient = float(ends.nu[present[0]]), float(coefficients[present[0]])
    log_constant = (
        gammaln(lam + 1)
        + 2 * lam * math.log(2)
        - 0.5 * math.log(math.pi)
        + float(gammaln(lam + 0.5))
        + log_gamma_step(lam + 0.5, nu)
        - gammaln(-nu)
        + math.log(abs(coefficient))
    )
    sign = int(math.copysign(1, coefficient) * gammasgn(-nu))
    return Branch(2 * nu + 2 * lam + 1, float(log_constant), sign)


def fitted_exponent(log_mass: Array, error: Array, dim: int) -> float:
    """Fit the exponent on the last octave of degrees, for the parity whose line ends higher."""
    last = len(log_mass) - 1
    lines = []
    for odd in (0, 1):
        k = np.arange(last // 2 + (last // 2 + odd) % 2, last + 1, 2)
        k = k[np.isfinite(log_mass[k]) & (error[k] < 1e-3)]
        if len(k) < 4:
            continue
        k = k[:: math.ceil(len(k) / FITTED)]
        log_mu = np.asarray(log_mass[k] - log_multiplicities(dim, k), np.float64)
        x = np.log(k + (dim - 2) / 2)
        x -= x.mean()
        lines.append((float(log_mu[-1]), -float(np.dot(x, log_mu) / np.dot(x, x))))
    return max(lines)[1] if lines else math.nan
