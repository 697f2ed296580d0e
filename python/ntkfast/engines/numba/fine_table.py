"""Profiles in many small pieces, for processors whose vectors do not hold a row of their table."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ntkfast.engines.codes import PIECES
from ntkfast.engines.maps import ProfileMap
from ntkfast.engines.numba.formulas.profile import FINE_DEGREE, FINE_STRIDE


@lru_cache(maxsize=64)
def fine_table(plan: ProfileMap) -> tuple[NDArray[Any], int, int]:
    """Cut the pieces of a profile until a few coefficients suffice.

    Looking up coefficients costs more here than in C++, where a table row fits in registers. The
    pieces are those of the profile, cut in 2^k equal parts by k more bits of the mantissa.

    Returns
    -------
    table, shift, pieces
        See `ntkfast.engines.numba.problem.Table`.
    """
    dtype = plan.table.dtype
    size = 8 * dtype.itemsize
    degree, row = FINE_DEGREE[size], FINE_STRIDE[size]
    mantissa = 52 if size == 64 else 23
    per_octave = 1 << plan.sub_bits
    order = np.arange(PIECES)
    octave = np.longdouble(2) ** (order // per_octave)
    width = octave / per_octave
    left = octave * (1 + (order % per_octave) / np.longdouble(per_octave)) - 1
    placed = ((1023 << plan.sub_bits) + order) % PIECES
    exact = plan.table.astype(np.longdouble)
    for bits in range(1, 9):
        fine = np.zeros((2, PIECES << bits, row), dtype)
        error = 0.0
        for side in range(2):
            part, lost = _cut(exact[:, 8 * side + placed], width, 1 << bits, degree)
            at = (placed[:, None] << bits) + np.arange(1 << bits)
            fine[side, at, : degree + 1] = part
            right = (left + width) / plan.stretch[side]
            error = max(error, float(np.max(lost * right)))
        if error < float(np.finfo(dtype).eps) / 8:
            break
    return fine.ravel(), mantissa - plan.sub_bits - bits, PIECES << bits


def _cut(
    table: NDArray[Any], width: NDArray[Any], parts: int, degree: int
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Cut every polynomial on [0, width] into `parts` of `degree`; and the largest errors."""
    count = degree + 1
    angle = (np.arange(count) + np.longdouble(0.5)) * (np.longdouble(np.pi) / count)
    nodes = np.concatenate([(np.cos(angle) + 1) / 2, [0, 1]])
    h = (width / parts)[:, None, None]
    x = h * (np.arange(parts)[:, None] + nodes)
    values = np.zeros_like(x)
    for coefficient in table:
        values = values * x + coefficient[:, None, None]
    # Divided differences, then Newton's form to powers of the distance to the left edge.
    points = nodes[:count]
    newton = values[..., :count].copy()
    for level in range(1, count):
        step = points[level:] - points[: count - level]
        newton[..., level:] = (newton[..., level:] - newton[..., level - 1 : -1]) / step
    powers = np.zeros_like(newton)
    for k in range(degree, -1, -1):
        shifted = np.zeros_like(powers)
        shifted[..., 1:] = powers[..., :-1]
        powers = shifted - powers * points[k]
        powers[..., 0] += newton[..., k]
    check = np.zeros_like(values[..., count:])
    for k in range(degree, -1, -1):
        check = check * nodes[count:] + powers[..., k, None]
    lost = np.max(np.abs(check - values[..., count:]), axis=(1, 2))
    powers /= h ** np.arange(count)
    return powers[..., ::-1], lost
