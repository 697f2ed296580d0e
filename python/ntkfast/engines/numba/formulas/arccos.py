"""The arc-cosine functions of order 0 and 1, and the arc sine; mirrors arccos.hpp."""

from __future__ import annotations

import math
from typing import Any

from ntkfast.engines.numba.compiling import compiled
from ntkfast.engines.numba.formulas.simd import polynomial, real, select


@compiled
def arc_cosine(w: Any, co: Any) -> Any:
    """kappa0, 1 - kappa0, kappa1 for u < 1/2 and 1 - kappa1 at w = 1-u, co = 1+u."""
    half, one, inverse_pi = real(w, 0.5), real(w, 1), real(w, 0.31830988618379067154)
    near = w < co
    small = select(near, w, co)
    middle = small > half
    u, m = one - w, half * small
    argument = select(middle, u * u, m)
    r = math.sqrt(select(middle, one - argument, m))
    a = polynomial("turn", argument)
    g = polynomial("chord", m) * (m * r)
    angle = (r + r) * a
    mid0 = half + u * a
    kappa0 = select(middle, mid0, select(near, one - angle, angle))
    turn = select(middle, half - u * a, select(near, angle, one - angle))
    kappa1 = select(middle, r * inverse_pi + mid0 * u, g)
    top = select(middle, one, select(near, w, one))
    return kappa0, turn, kappa1, top - kappa1


@compiled
def arc_sine(z: Any, one_minus_square: Any) -> Any:
    """asin(z), given 1 - z^2 too."""
    half, one, size = real(z, 0.5), real(z, 1), abs(z)
    middle = size < half
    m = half * one_minus_square / (one + size)
    a = polynomial("asin", select(middle, z * z, m))
    outer = real(z, 1.57079632679489661923) - (one + one) * math.sqrt(m) * a
    value = select(middle, size * a, outer)
    return select(z < real(z, 0), -value, value)


@compiled
def arc_sine_ratio(z: Any, one_minus_square: Any) -> Any:
    """asin(z)/z for 0 <= z <= 1, which is 1 at 0."""
    one = real(z, 1)
    tiny = z < real(z, 1e-9)
    return select(tiny, one, arc_sine(z, one_minus_square) / select(tiny, one, z))


@compiled
def arc_sine_excess(z: Any) -> Any:
    """asin(z) - z for 0 <= z <= 1/2."""
    square = z * z
    return polynomial("asin_excess", square) * square * z
