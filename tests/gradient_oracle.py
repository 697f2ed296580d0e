"""Gradients of the oracle's kernels by one input, from differences in 100 digits."""

from __future__ import annotations

import numpy as np
from mpmath import mp, mpf

import oracle

STEP = mpf(10) ** -35  # relative: its square is far below what is compared


@oracle.precise
def gradient(
    kernel: oracle.Kernel,
    x: np.ndarray,
    y: np.ndarray,
    smooth_at_zero: bool = False,
    grown: tuple[float, float] = (0.0, 0.0),
) -> list[mpf]:
    """Return dK(x, y)/dx; the part across parallel rows, and that of rows of zeros, counts as 0.

    At a row of zeros some kernels have a derivative. Rows are `grown` by these shares of
    themselves.
    """
    a, b = (
        [(1 + mpf(share)) * mpf(float(value)) for value in row]
        for row, share in zip((x, y), grown, strict=True)
    )
    if kernel.euclidean:
        return _by_coordinates(kernel, a, b)
    q, p, theta = oracle.pair_statistics(x, y)
    if q == 0 and smooth_at_zero:
        return _by_coordinates(kernel, a, b)
    if q == 0 or (p == 0 and kernel.homogeneous):
        return [mpf(0)] * len(a)
    r, s = mp.sqrt(q), mp.sqrt(p)
    h = r * STEP
    radial = (kernel.pair((r + h) ** 2, p, theta) - kernel.pair((r - h) ** 2, p, theta)) / (2 * h)
    along = [radial * value / r for value in a]
    sine = mp.sin(theta)
    if p == 0 or sine < mpf(10) ** -40:
        return along
    h = min(theta, mp.pi - theta) * STEP
    turn = -(kernel.pair(q, p, theta + h) - kernel.pair(q, p, theta - h)) / (2 * h * r)
    u = mp.cos(theta)
    return [
        part + turn * (other / s - u * value / r) / sine
        for part, value, other in zip(along, a, b, strict=True)
    ]


def _by_coordinates(kernel: oracle.Kernel, x: list[mpf], y: list[mpf]) -> list[mpf]:
    def at(point: list[mpf]) -> mpf:
        q, p, c = (mp.fdot(i, j) for i, j in ((point, point), (y, y), (point, y)))
        theta = mp.atan2(mp.sqrt(max(q * p - c * c, mpf(0))), c) if q and p else mp.pi / 2
        return kernel.pair(q, p, theta)

    found = []
    for k in range(len(x)):
        ends = [[value + sign * STEP * (j == k) for j, value in enumerate(x)] for sign in (1, -1)]
        found.append((at(ends[0]) - at(ends[1])) / (2 * STEP))
    return found


@oracle.precise
def condition(kernel: oracle.Kernel, x: np.ndarray, y: np.ndarray, smooth_at_zero: bool) -> mpf:
    """Return by how much a gradient moves when either row grows by one unit of relative error."""
    h, total = 1e-12, mpf(0)
    value = gradient(kernel, x, y, smooth_at_zero)
    for grown in ((h, 0.0), (0.0, h)):
        other = gradient(kernel, x, y, smooth_at_zero, grown)
        total += mp.norm([(p - q) / h for p, q in zip(other, value, strict=True)])
    return total
