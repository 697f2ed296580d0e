"""Gradients of the oracle's kernels by one input, from differences in 100 digits."""

from __future__ import annotations

from collections.abc import Sequence

from mpmath import mp, mpf

import oracle

STEP = mpf(10) ** -35  # relative: its square is far below what is compared
Row = Sequence[float | mpf]


def statistics(x: Row, y: Row) -> tuple[mpf, mpf, mpf]:
    """Return |x|^2, |y|^2 and the angle, as `oracle.pair_statistics` does of floats."""
    q, p, c = mp.fdot(x, x), mp.fdot(y, y), mp.fdot(x, y)
    if q == 0 or p == 0:
        return q, p, (mpf(0) if q == p else mp.pi / 2)
    return q, p, mp.atan2(mp.sqrt(max(q * p - c * c, mpf(0))), c)


@oracle.precise
def gradient(kernel: oracle.Kernel, x: Row, y: Row, smooth_at_zero: bool = False) -> list[mpf]:
    """Return dK(x, y)/dx; the part across parallel rows, and that of rows of zeros, counts as 0.

    At a row of zeros some kernels have a derivative.
    """
    a, b = ([one if isinstance(one, mpf) else mpf(float(one)) for one in row] for row in (x, y))
    q, p, theta = statistics(a, b)
    if kernel.euclidean or (q == 0 and smooth_at_zero):
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
    found = []
    for k in range(len(x)):
        ends = [[value + sign * STEP * (j == k) for j, value in enumerate(x)] for sign in (1, -1)]
        first, second = (kernel.pair(*statistics(end, y)) for end in ends)
        found.append((first - second) / (2 * STEP))
    return found


@oracle.precise
def condition(kernel: oracle.Kernel, x: Row, y: Row, smooth_at_zero: bool) -> mpf:
    """Return by how much a gradient moves for one unit of relative error of norms and product.

    The angle is that of the rows if it is 0 or pi: such rows are subtracted.
    """
    h = mpf(10) ** -12
    a, b = ([mpf(float(value)) for value in row] for row in (x, y))
    q, p, theta = statistics(a, b)
    value, total = gradient(kernel, a, b, smooth_at_zero), mpf(0)
    moved = [([(1 + h) * one for one in a], b), (a, [(1 + h) * one for one in b])]
    if q and p and h < theta < mp.pi - h:  # towards x, by the angle h sin(theta)
        ratio = h * mp.sqrt(p / q)
        moved.append((a, [two + ratio * one for one, two in zip(a, b, strict=True)]))
    for left, right in moved:
        other = gradient(kernel, left, right, smooth_at_zero)
        total += mp.norm([(one - two) / h for one, two in zip(other, value, strict=True)])
    return total
