"""Eigenvalues of any kernel on the sphere by quadrature: the way of last resort.

Composite Gauss-Legendre quadrature in the angle, with enough nodes for the highest degree. Its
error is absolute, eps k(1) in terms of the orthonormal coefficients, so that the relative error of
N mu_k is at least eps sqrt(N) k(1) / (N mu_k): it grows with the degree until nothing is left. The
estimate adds the change from quadrature with 1.5 times the nodes, for kernels with inner kinks.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ntkfast.activations.pairs import gauss_legendre
from ntkfast.kernels.curve import Curve
from ntkfast.spectrum.sphere.harmonics import log_gamma_step, log_multiplicities, polynomials

Array = NDArray[np.float64]

PANEL = 32
MOST = 4096  # degrees; the relative error of nearly every kernel exceeds 1 before that
NOISE = 64.0  # units of rounding allowed in kernel values


def masses(curve: Curve, dim: int, count: int) -> tuple[Array, Array]:
    """Return N mu_k / k(1) for k < min(count, MOST), and estimated relative errors."""
    count = min(count, MOST)
    panels = math.ceil((1.3 * (count + dim) + 300) / PANEL)
    fine = _integrate(curve, dim, count, math.ceil(1.5 * panels))
    coarse = _integrate(curve, dim, count, panels)
    log_n = np.asarray(log_multiplicities(dim, np.arange(count)), np.float64)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        noise = NOISE * np.finfo(float).eps * np.exp(log_n / 2)
        error = (noise + np.abs(fine - coarse)) / np.abs(fine)
    return fine, np.asarray(np.nan_to_num(error, nan=np.inf, posinf=np.inf))


def _integrate(curve: Curve, dim: int, count: int, panels: int) -> Array:
    """Return N_k c_lam int k(cos t) P_k(cos t) sin(t)^(2 lam) dt for k < count."""
    lam = (dim - 2) / 2
    x, w = gauss_legendre(PANEL)
    edges = math.pi * (1 - np.cos(math.pi * np.arange(panels + 1) / panels)) / 2
    half = np.diff(edges)[:, None] / 2
    theta, weight = (edges[:-1, None] + half * (1 + x)).ravel(), (half * w).ravel()
    v, vc = np.sin(theta / 2) ** 2, np.cos(theta / 2) ** 2
    constant = log_gamma_step(lam + 0.5, 0.5) - 0.5 * math.log(math.pi)
    log_density = constant + 2 * lam * np.log(np.sin(theta))
    values = (1 - np.asarray(curve.missing(v, vc), np.float64)) * weight * np.exp(log_density)
    log_n = np.asarray(log_multiplicities(dim, np.arange(count)), np.float64)
    mass = np.empty(count)
    for k, p in zip(range(count), polynomials(dim, vc - v), strict=False):
        mass[k] = np.dot(values, p)
    with np.errstate(over="ignore", invalid="ignore"):  # 0 times infinity: not resolved
        return np.asarray(mass * np.exp(log_n))
