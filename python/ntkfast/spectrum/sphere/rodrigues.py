"""Low-degree eigenvalues of sharp Laplace kernels, by Rodrigues' formula.

exp(-c r) with c >> 1 is tiny over most of the sphere: what a contour integral adds up cancels. But
all derivatives of exp(-b sqrt(1 - t)) are positive, and

    mu_k = c_lam / (2^k (lam + 1/2)_k) int f^(k)(t) (1 - t^2)^(k + lam - 1/2) dt,
    f^(k)(t) = (b / 2r)^k e^(-b r) G_k(b r),  r = sqrt(1 - t),
    G_0 = G_1 = 1,  G_{k+1}(x) = G_{k-1}(x) + (2k - 1) / x G_k(x)

(modified Bessel functions of half-integer order) is an integral of positive numbers.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ntkfast.spectrum.sphere.harmonics import log_gamma_ratio, log_gamma_step, log_multiplicities

Array = NDArray[np.float64]


def log_masses(rate: float, dim: int, count: int) -> tuple[Array, Array]:
    """Return log(N mu_k) of exp(-rate sin(theta/2)) for k < count, and relative errors of N mu_k.

    The integral over q = (1 - t) / 2 is done by the double exponential rule.
    """
    lam = (dim - 2) / 2
    step = 0.02 if dim < 500 else 0.01
    x = step * np.arange(-round(4.6 / step), round(4.6 / step) + 1)
    tail = np.pi * np.sinh(x)
    log_q, log_p = -np.logaddexp(0, -tail), -np.logaddexp(0, tail)  # of q and 1 - q
    s = np.exp(log_q / 2)  # sin(theta/2)
    # r = sqrt(2 q), b r = rate s; (b / 2r)^k = (rate / (4 q^(1/2)) / ...)^k
    log_bend = math.log(rate / 4) - log_q / 2
    base = -rate * s + (lam + 0.5) * (log_q + log_p) + np.log(np.cosh(x))
    constant = 2 * lam * math.log(2) + math.log(math.pi * step)
    constant += log_gamma_step(lam + 0.5, 0.5) - 0.5 * math.log(math.pi)
    k = np.arange(count, dtype=np.longdouble)
    rising = log_gamma_ratio(np.array([lam + 0.5], np.longdouble), 0.0) + np.append(
        0, np.cumsum(np.log(k[:-1] + lam + 0.5))
    )
    outer = np.asarray(log_multiplicities(dim, k) - rising + k * math.log(2), np.float64)
    log_mass = np.empty(count)
    log_g, ratio = np.zeros_like(s), np.ones_like(s)  # G_k, G_{k+1} / G_k
    for degree in range(count):
        logs = base + degree * (log_bend + log_q + log_p) + log_g
        peak = float(logs.max())
        log_mass[degree] = peak + math.log(float(np.exp(logs - peak).sum()))
        log_g = log_g + np.log(ratio)
        ratio = 1 / ratio + (2 * degree + 1) / (rate * s)
    log_mass += constant + outer
    error = np.finfo(float).eps * (64 + 4 * (np.arange(count) + dim))
    return log_mass, np.asarray(error, np.float64)
