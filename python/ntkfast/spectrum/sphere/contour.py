"""Eigenvalues of low degree by a contour integral with nearly full relative accuracy.

Plain quadrature of k(u) P_k(u) loses all digits of an eigenvalue that is small against k(1). By
Cauchy's formula the integral moves to a path around [-1, 1],

    mu_k = 1/(2 pi i) * closed integral of k(z) Q_k(z) dz,   Q_k(z) = int P_k(t) w(t) dt / (z - t),

where Q_k, the Gegenbauer function of the second kind, decreases with k like the eigenvalues do.
On the cuts beyond z = +-1, z = +-cosh y, the integrand is the jump of the kernel times a positive
function; an arc from iY to pi + iY' in the angle, below the next branch points, closes the path
(a Froissart-Gribov representation).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ntkfast.activations.base import Complex
from ntkfast.activations.pairs import gauss_legendre
from ntkfast.kernels.curve import Curve
from ntkfast.spectrum.sphere.harmonics import log_multiplicities

FloatArray = NDArray[np.float64]

PANEL = 16  # Gauss nodes per panel
PACE = 0.35  # length of a panel of the arc over its height
HALVINGS = 18  # panels of a leg, geometric towards the end of the range
HEIGHTS = (1.2, 0.6, 0.3)  # of the right leg; the left one is that over a power of two
LEFT_HALVINGS = 7
CLOSED = 1e-13  # how well the integral of an analytic function around the region must vanish
DEEPEST = 600.0  # logarithms of masses below minus this are left out


@dataclass(frozen=True, eq=False)
class Contour:
    """Nodes on the two legs (common) and the arc, and weights that include the kernel.

    Attributes
    ----------
    height : float
        End of the legs.
    right, left : (n,) arrays
        Weights at the nodes of `leg_nodes(height)`.
    theta, arc : (m,) complex arrays
        Angles and weights of the arc.
    """

    height: float
    right: FloatArray
    left: FloatArray
    theta: Complex
    arc: Complex


def _panels(edges: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return Gauss nodes and weights on the panels between (complex) edges."""
    x, w = gauss_legendre(PANEL)
    half = np.diff(edges)[:, None] / 2
    return (edges[:-1, None] + half * (1 + x)).ravel(), (half * w).ravel()


def leg_nodes(height: float) -> tuple[FloatArray, FloatArray]:
    """Nodes and weights on [0, height], panels doubling from the end of the range."""
    return _panels(np.append(0, height * 0.5 ** np.arange(HALVINGS, -1, -1)))


def _arc_nodes(height: float, left: float) -> tuple[Complex, Complex]:
    """Nodes and weights on a path from i height to pi + i left, panels as long as it is high.

    |cos(theta)| decreases linearly from cosh(height) to cosh(left). It must not fall below 1, where
    the functions of the second kind would grow exponentially in high dimension.
    """
    ends = math.cosh(height), math.cosh(left)
    slope = (ends[1] - ends[0]) / math.pi

    def sinh(x: Any) -> Any:
        return np.sqrt((ends[0] + slope * x) ** 2 - np.cos(x) ** 2)

    at, edges = 0.0, [0.0]  # distance from the left end
    while at < math.pi:
        at += PACE * float(np.arcsinh(sinh(math.pi - at)))
        edges.append(at)
    x, w = _panels(math.pi * (1 - np.array(edges) / at)[::-1])
    height_slope = (slope * (ends[0] + slope * x) + np.cos(x) * np.sin(x)) / sinh(x)
    return x + 1j * np.arcsinh(sinh(x)), w * (1 + 1j * height_slope / np.sqrt(1 + sinh(x) ** 2))


def _half_angle(theta: Complex) -> tuple[Complex, Complex]:
    return np.sin(theta / 2) ** 2, np.cos(theta / 2) ** 2


def _legs(curve: Curve, y: FloatArray) -> tuple[Complex, Complex]:
    """Kernel at i y and at pi + i y."""
    near, far = (-(np.sinh(y / 2) ** 2)).astype(complex), (np.cosh(y / 2) ** 2).astype(complex)
    right, left = curve.complex(near, far), curve.complex(far, near)
    assert right is not None
    assert left is not None
    return right, left.conj()  # the square root continued it to pi - i y


def find(curve: Curve) -> Contour | None:
    """Return the highest contour inside of which the kernel is analytic.

    That is tested, not assumed: the integral of k sin^2 around the region must vanish (the sine
    takes the singularities at the ends of the range away from the quadrature).
    """
    for height in HEIGHTS:
        y, w = leg_nodes(height)
        right, left = _legs(curve, y)
        for halvings in range(1, LEFT_HALVINGS + 1):
            lower = y < height * 0.5**halvings
            theta, weights = _arc_nodes(height, height * 0.5**halvings)
            values = curve.complex(*_half_angle(theta))
            assert values is not None
            legs = np.dot(w * np.sinh(y) ** 2, np.where(lower, left, 0) - right)
            around = np.dot(weights * np.sin(theta) ** 2, values) + 1j * legs - _real_side(curve)
            if abs(around) <= CLOSED:
                jump = w * np.sinh(y) / math.pi
                return Contour(
                    height,
                    -jump * right.imag,
                    np.where(lower, jump * left.imag, 0),
                    theta,
                    weights * values * np.sin(theta) / math.pi,
                )
    return None


@lru_cache(maxsize=8)
def _real_side(curve: Curve) -> float:
    """Integral of k sin^2 over real angles, with panels graded towards both ends."""
    theta, w = _panels(math.pi / 2 * np.append(0, 0.5 ** np.arange(HALVINGS, -1, -1)))
    s2, c2 = np.sin(theta / 2) ** 2, np.cos(theta / 2) ** 2
    values = 2 - curve.missing(s2, c2) - curve.missing(c2, s2)
    return float(np.dot(w * np.sin(theta) ** 2, values))


def masses(contour: Contour, dim: int, count: int) -> tuple[FloatArray, FloatArray]:
    """Return the masses N mu_k for k < count, and estimates of their relative rounding errors."""
    legs = second_kind(dim, contour.height, count)
    signs = (-1.0) ** np.arange(count)
    right, left = legs @ contour.right, legs @ contour.left
    arc, arc_size = _arc_sum(contour, dim, count)
    mass = right + signs * left + arc
    size = legs @ (np.abs(contour.right) + np.abs(contour.left)) + arc_size
    with np.errstate(divide="ignore", invalid="ignore"):
        error = np.finfo(float).eps * (8 + np.arange(count) + dim) * size / np.abs(mass)
    return mass, error


def _ratios(lam: float, last: int) -> FloatArray:
    """N(k-1) / N(k) for k = 0 ... last (the first is not used)."""
    k = np.arange(last + 1, dtype=np.float64)
    if lam == 0:
        return np.where(k == 1, 0.5, 1.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray((k - 1 + lam) * k / ((k + lam) * (k - 1 + 2 * lam)))


def _descend(
    lam: float,
    count: int,
    first: NDArray[np.intp],
    defect: NDArray[Any],
    value: NDArray[Any],
    step: NDArray[Any],
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Recur downwards in A_k = N Q_k and its differences, from degree first[i] at node i.

    All quantities are positive on the legs, so that nothing is lost; defect = z - 1. Returns the
    table A_k (k < count) and, per node, the sum of all A_k.
    """
    order = np.argsort(-first, kind="stable")
    first, defect, A, D = first[order], defect[order], value[order], step[order]
    table = np.zeros((count, len(first)), A.dtype)
    total = np.zeros_like(A)
    ratio = _ratios(lam, int(first[0]) + 1)
    active = np.searchsorted(-first, -np.arange(int(first[0]) + 1), side="right")
    for k in range(int(first[0]), -1, -1):
        n = active[k]
        total[:n] += A[:n]
        if k < count:
            table[k, :n] = A[:n]
        if k:
            # D is N_k (Q_k - Q_{k+1}) on entry, N_{k-1} (Q_{k-1} - Q_k) on exit
            D[:n] = ratio[k] * (
                (2 * (k + lam) / k) * defect[:n] * A[:n] + ((k + 2 * lam) / k) * D[:n]
            )
            A[:n] = ratio[k] * A[:n] + D[:n]
    back = np.argsort(order, kind="stable")
    return table[:, back], total[back]


def second_kind(dim: int, height: float, count: int) -> FloatArray:
    """Return A_k(cosh y) = N(d, k) Q_k(cosh y) for k < count at the nodes of the legs."""
    y, _ = leg_nodes(height)
    first = np.minimum(count, (DEEPEST / y).astype(np.intp))
    lam = (dim - 2) / 2
    value, step = _legs_start(dim, y, first)
    table, _ = _descend(lam, count, first, 2 * np.sinh(y / 2) ** 2, value, step)
    return table


def _legs_start(dim: int, y: FloatArray, k: NDArray[np.intp]) -> tuple[FloatArray, FloatArray]:
    """Return A_k and N_k (Q_k - Q_{k+1}) at cosh y by the integral of Heine, in logarithms.

    Q_k = 2 lam sinh(y)^(2 lam - 1) int_0^inf x^(-k - 2 lam) sinh(w)^(2 lam - 1) dw with
    x = cosh y + sinh y cosh w, by the trapezoidal rule in v, w = log(1 + e^v).
    """
    if dim == 2:
        A = 2 * np.exp(-k * y) / np.sinh(y)
        return A, -A * np.expm1(-y)
    lam = (dim - 2) / 2
    step = min(0.09, 0.35 / math.sqrt(lam + 1))
    low = 0.5 * math.log(2 * lam / (2 * lam + float(k.max()))) - 42 / (2 * lam) - 1
    high = math.log(2 * (1 + 2 * lam / float(k.min())) / float(y.min())) + 42 / float(k.min()) + 2
    v = low + step * np.arange(math.ceil((high - low) / step))
    w = np.logaddexp(0, v)
    weight = (2 * lam - 1) * (w + np.log(-np.expm1(-2 * w)) - math.log(2)) - np.logaddexp(0, -v)
    beyond = (2 * np.sinh(y / 2) ** 2)[:, None] + np.sinh(y)[:, None] * np.cosh(w)  # x - 1
    logs = weight - (k + 2 * lam)[:, None] * np.log1p(beyond)
    peak = logs.max(axis=1)
    integrand = np.exp(logs - peak[:, None])
    scale = np.exp(
        np.asarray(log_multiplicities(dim, k.astype(np.float64)), np.float64)
        + peak
        + (2 * lam - 1) * np.log(np.sinh(y))
    ) * (2 * lam * step)
    return scale * integrand.sum(axis=1), scale * (integrand * (beyond / (1 + beyond))).sum(axis=1)


def _arc_sum(contour: Contour, dim: int, count: int) -> tuple[FloatArray, FloatArray]:
    """Return the part of the arc, and the sum of the absolute values of its terms.

    The recurrence starts anywhere far up (Miller) and is normalised by sum_k A_k = 1 / (z - 1).
    Nodes with negative real part are reflected: A_k(-z) = (-1)^(k+1) A_k(z).
    """
    lam, theta = (dim - 2) / 2, contour.theta
    s2, c2 = _half_angle(theta)
    mirrored = s2.real > c2.real
    defect = -2 * np.where(mirrored, c2, s2)
    first = _miller_start(lam, defect, theta.imag, count)
    value = np.full(theta.shape, 1e-300, complex)
    table, total = _descend(lam, count, first, defect, value, value.copy())
    weights = contour.arc / (total * defect)
    signs = (-1.0) ** np.arange(count)
    plain = (table[:, ~mirrored] @ weights[~mirrored]).imag
    other = (table[:, mirrored] @ weights[mirrored]).imag
    size = np.abs(table) @ np.abs(weights)
    return plain - signs * other, size


def _miller_start(lam: float, defect: Complex, height: FloatArray, count: int) -> NDArray[np.intp]:
    """Return degrees beyond which |A_k| can be neglected, in the sum and at degrees < count.

    Locally in k the recurrence has constant coefficients; the smaller root is the decrease of Q_k.
    """
    z = (1 + defect)[:, None]
    k = np.append(0, np.geomspace(1, 1e7, 141))
    t = k / lam if lam else k * 1e9
    root = np.sqrt((t + 1) ** 2 * z * z - t * (t + 2))
    bottom = (t + 1) * z
    bottom = bottom + np.where((bottom * root.conj()).real < 0, -root, root)
    rate = np.log(np.abs(bottom)) - np.log(t + 2)  # of |A_k|: log of N_k/N_{k+1} over the root
    decay = np.cumsum(np.diff(k) * (rate[:, 1:] + rate[:, :-1]) / 2, axis=1)
    small, tiny = (k[1:][np.argmax(decay > bound, axis=1)] for bound in (45.0, DEEPEST))
    return np.asarray(np.minimum(np.maximum(count, small) + 25 / height, tiny) + 2, np.intp)
