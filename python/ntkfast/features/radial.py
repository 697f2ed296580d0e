"""Kernels as power series in the cosine when the norms of the rows differ.

A kernel that is invariant under rotations is

    K(x, y) = r(|x|) r(|y|) sum_l b_l(|x|, |y|) u^l,    r(|x|)^2 = K(x, x), u the cosine,

and each b_l is a positive semidefinite function of the norms if K is one in every dimension
(Schoenberg). It is smooth, so that a few functions of the norm carry it: b_l = sum_j f_lj(|x|)
f_lj(|y|). For one hidden layer it is one function: the r_l of Han, Zandieh et al. (2022).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import BarycentricInterpolator

from ntkfast.activations.base import Activation
from ntkfast.activations.rectified import ABReLU, Step
from ntkfast.kernels.dense import NetworkKernel
from ntkfast.kernels.layers import IDENTITY, MAX_SLOTS
from ntkfast.kernels.named import ExponentialPower
from ntkfast.kernels.rows import RowKernel

Array = NDArray[np.float64]
Complex = NDArray[np.complex128]

CIRCLE, POINTS = 0.95, 1024  # Cauchy's integral: radius and number of points
MOST_POWERS = 200  # CIRCLE^-200 is 3e4: rounding stays below 1e-11
TERMS = 256  # Hermite coefficients of activations without a closed form for complex cosines
RANK = 8  # functions of the norm per degree, at most
NEGLIGIBLE = 1e-4  # share of a degree that may be left out
MARGIN = 2.0  # how far beyond the norms of the training rows the functions of the norm go
STEP = 0.05  # of the logarithm of the norm between two rows of a table


@dataclass(frozen=True)
class Grid:
    """Norms at which functions are known, equidistant in their logarithm.

    Attributes
    ----------
    logs : (rows,) array
    """

    logs: Array

    def place(self, norms: NDArray[Any]) -> Array:
        """Return where norms lie among the rows; those beyond the ends count as the ends."""
        with np.errstate(divide="ignore"):
            logs = np.log(norms.astype(np.float64))
        step = self.logs[1] - self.logs[0]
        last = len(self.logs) - 1
        return np.asarray(np.clip((logs - self.logs[0]) / step, 0, last * (1 - 1e-7)))


def nodes(norms: NDArray[Any]) -> tuple[Array, Grid]:
    """Return Chebyshev nodes for the logarithms of norms like these, and a fine grid."""
    positive = norms[norms > 0].astype(np.float64)
    low, high = np.log(positive.min() / MARGIN), np.log(positive.max() * MARGIN)
    count = int(np.clip(10 + 3 * (high - low), 12, 48))
    angles = (np.arange(count) + 0.5) * (np.pi / count)
    rows = int(np.clip(np.ceil((high - low) / STEP) + 1, 2, 65))
    return (low + high) / 2 - (high - low) / 2 * np.cos(angles), Grid(np.linspace(low, high, rows))


def power_series(kernel: RowKernel, dim: int, logs: Array) -> Array:
    """Return b_l at pairs of norms, (MOST_POWERS + 1, n, n) for n logarithms of norms.

    Raises
    ------
    TypeError
        If the kernel is of a kind whose continuation to complex cosines is not known.
    """
    return _power_series(kernel, dim, logs.tobytes())


@lru_cache(maxsize=16)
def _power_series(kernel: RowKernel, dim: int, logs: bytes) -> Array:
    """Compute once what several draws for the same rows share."""
    radii = np.exp(np.frombuffer(logs))
    left, right = np.triu_indices(len(radii))
    u = CIRCLE * np.exp(2j * np.pi / POINTS * np.arange(POINTS // 2 + 1))
    values = at(kernel, dim, radii[left, None], radii[right, None], u[None, :])
    top = np.sqrt(np.asarray(kernel._diagonal(radii, dim), np.float64))
    values /= (top[left] * top[right])[:, None]
    # Coefficients are real, so that half of the circle is enough.
    found = np.fft.irfft(values.conj(), POINTS, axis=1)[:, : MOST_POWERS + 1]
    found *= CIRCLE ** -np.arange(MOST_POWERS + 1.0)
    result = np.empty((MOST_POWERS + 1, len(radii), len(radii)))
    result[:, left, right] = result[:, right, left] = found.T
    result.flags.writeable = False
    return result


def at(kernel: RowKernel, dim: int, p: Array, q: Array, u: Complex) -> Complex:
    """Return the kernel of inputs with norms p and q at complex cosines, abs(u) < 1."""
    if isinstance(kernel, NetworkKernel):
        return _network(kernel, dim, p, q, u)
    if isinstance(kernel, ExponentialPower):  # "euclidean": the others are zonal
        squared = p * p + q * q - 2 * p * q * u
        return np.asarray(np.exp(-kernel.c * squared ** (kernel.gamma / 2)))
    raise TypeError(
        f"kernel: expected a network's kernel, an exponential one, or rows of one norm, "
        f"got {kernel!r} and rows of different norms"
    )


class State(NamedTuple):
    """NNGP, NTK and both variances of pairs of inputs, at one point of a network."""

    c: Complex
    t: Complex
    q: Array
    p: Array


def _network(kernel: NetworkKernel, dim: int, p: Array, q: Array, u: Complex) -> Complex:
    """Carry (c, t) through the layers (`ntkfast.kernels.layers`), and both variances."""
    layers = kernel.network.layers(dim)
    c: Complex = p * q * u
    state = State(c, np.zeros_like(c), p * p, q * q)
    slots = [state] * MAX_SLOTS
    for layer in layers:
        if layer.save >= 0:
            slots[layer.save] = state
        c, t, a, b = state
        if layer.activation != IDENTITY:
            c, slope = _dual(layer.activation, c, a, b)
            t = slope * t
            a, b = (np.asarray(layer.activation.variance(v), np.float64) for v in (a, b))
        state = State(
            layer.w * c + layer.e,
            layer.w * t + layer.x * c + layer.y,
            layer.w * a + layer.e,
            layer.w * b + layer.e,
        )
        if layer.add >= 0:
            other = slots[layer.add]
            state = State(
                state.c + other.c, state.t + other.t, state.q + other.q, state.p + other.p
            )
    scale = kernel.network.scale(kernel.kind)
    return np.asarray(scale * (state.c if kernel.kind == "nngp" else state.t))


def _dual(activation: Activation, c: Complex, q: Array, p: Array) -> tuple[Complex, Complex]:
    """Return E[s(a) s(b)] and E[s'(a) s'(b)], continued to complex covariances."""
    norm = np.sqrt(q * p)
    z = c / norm
    if isinstance(activation, (ABReLU, Step)):
        fold, line = activation.code[1]
        kappa0 = 1 - np.asarray(np.arccos(z), np.complex128) / np.pi
        if isinstance(activation, Step):  # `fold` is a constant and `line` that of 1 - 2 theta / pi
            levels: Complex = fold + line * (2 * kappa0 - 1)
            return levels, np.zeros_like(z)
        kappa1 = np.sqrt(1 - z * z) / np.pi + z * kappa0
        bent: Complex = norm * (fold * kappa1 + line * z)
        slope: Complex = fold * kappa0 + line
        return bent, slope
    left = activation.hermite(q.ravel(), TERMS).T[:, :, None]
    right = activation.hermite(p.ravel(), TERMS).T[:, :, None]
    value, slope = np.zeros_like(z), np.zeros_like(z)
    for a, b in zip(left[::-1], right[::-1], strict=True):
        slope = slope * z + value
        value = value * z + a * b
    return value, np.asarray(slope / norm)


def multiples(dim: int, count: int) -> Array:
    """Return c with u^l = sum_k c[l, k] P_k(u), all non-negative, for l <= MOST_POWERS, k < count.

    From u P_k = ((k + 2 lam) P_{k+1} + k P_{k-1}) / (2 (k + lam)), the recurrence of Gegenbauer
    polynomials with P_k(1) = 1 and lam = (dim - 2) / 2.
    """
    lam = (dim - 2) / 2
    k = np.arange(MOST_POWERS + 1)
    bottom = np.where(k + lam == 0, 1.0, 2 * (k + lam))
    up = np.where(k + lam == 0, 1.0, (k + 2 * lam) / bottom)
    result = np.zeros((MOST_POWERS + 1, MOST_POWERS + 1))
    result[0, 0] = 1
    for before, after in pairwise(result):
        after[1:] = (up * before)[:-1]
        after[:-1] += (k / bottom * before)[1:]
    return result[:, :count]


def functions(series: Array, logs: Array, grid: Grid) -> tuple[list[Array], float]:
    """Factor symmetric positive semidefinite matrices over the norms: F F^T on the fine grid.

    Parameters
    ----------
    series : (degrees, n, n) array
        For the nodes `logs`.

    Returns
    -------
    factors : list of (rows, rank) arrays
        One for each degree, with ranks from 1 to RANK.
    missing : float
        The largest part of the diagonal sum, over the nodes, that was left out.

    Raises
    ------
    ValueError
        If a matrix has a negative eigenvalue: the kernel is not positive definite.
    """
    factors, lost = [], np.zeros(len(logs))
    for degree, matrix in enumerate(series):
        values, vectors = np.linalg.eigh(matrix)
        if values[0] < -1e-7 * len(logs):
            raise ValueError(
                f"kernel: expected a positive definite kernel, the coefficient of degree {degree} "
                f"has the eigenvalue {values[0]:.3g}"
            )
        kept = np.flatnonzero(values > max(NEGLIGIBLE * values[-1], 1e-12))[::-1][:RANK]
        kept = kept if len(kept) else np.array([len(values) - 1])
        root = vectors[:, kept] * np.sqrt(np.maximum(values[kept], 0))
        lost += np.maximum(np.diagonal(matrix) - np.sum(root**2, axis=1), 0)
        factors.append(np.asarray(BarycentricInterpolator(logs, root)(grid.logs)))
    return factors, float(lost.max())
