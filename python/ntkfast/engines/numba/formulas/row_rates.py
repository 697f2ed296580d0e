"""How variances grow with the norm of a data row; mirrors row_rates.hpp."""

from __future__ import annotations

import math

import numpy as np
from numba.cpython.unsafe.tuple import tuple_setitem

from ntkfast.engines.codes import RATES
from ntkfast.engines.numba.compiling import compiled
from ntkfast.engines.numba.formulas.activation import (
    ERF,
    EXP,
    GAUSSIAN,
    GELU,
    HERMITE,
    IDENTITY,
    SINE,
    STEP,
)
from ntkfast.engines.numba.formulas.row_stats import (
    EMPTY,
    emit,
    root_share,
    slope_after,
    variance_after,
)
from ntkfast.engines.numba.problem import Array


@compiled
def growth(kind: int, a: float, b: float, q: float, after: float, slope: float) -> float:
    """Return E[a s'(a) s(a)] / E[s^2]."""
    if not after > 0:
        return 1.0
    if kind == STEP:
        return 0.0
    if kind == ERF:
        z = 2 * b * b * q
        return a * a * 2 / math.pi * z / ((1 + z) * math.sqrt(1 + 2 * z)) / after
    if kind == GELU:
        e2 = 1 + 2 * q
        e, n = math.sqrt(e2), 1 + q
        part = q / (2 * e * n) + q * (2 + q) / (n * n * e) - q * q / (n * e2 * e)
        return q * (0.25 + math.atan2(q, e) / (2 * math.pi) + part / math.pi) / after
    if kind == SINE:
        return q * slope / after - b * b * q
    if kind == EXP:
        return 2 * b * b * q
    if kind == GAUSSIAN:
        return 2 * b * q / (1 - 4 * b * q)
    return 1.0


@compiled
def row_rates(layers: Array, size: float, series: Array, row: int, out: Array, at: int) -> None:
    """Write RATES numbers per layer, and the rate of the last variance."""
    q, rate = size * size, 1.0
    slots = slots_rate = EMPTY
    for layer in range(len(layers)):
        here = layers[layer]
        kind, save, add, times = here["kind"], here["save"], here["add"], here["times"]
        a, b, c = here["parameter"][0], here["parameter"][1], here["parameter"][2]
        if save >= 0:
            slots = tuple_setitem(slots, save, q)
            slots_rate = tuple_setitem(slots_rate, save, rate)
        after, slope = variance_after(kind, a, b, c, q), slope_after(kind, a, b, c, q)
        share, grown = root_share(slope * q, after, 1.0), 1.0
        if kind == HERMITE:
            first, terms, total, grown = here["offset"], here["count"], 0.0, 0.0
            for k in range(terms):
                number = np.float64(series[row, first + k])
                following = np.float64(series[row, first + k + 2]) if k + 2 < terms else 0.0
                total += k * number * number
                grown += number * (math.sqrt((k + 1) * (k + 2)) * following + k * number)
            share, after = math.sqrt(total), np.float64(series[row, first + terms]) ** 2
        elif kind != IDENTITY:
            grown = growth(kind, a, b, q, after, slope)
        part = here["w"] * after
        whole = part + here["e"]
        own = rate * grown * (part / whole if whole > 0 else 1.0)
        q, other, before = whole, 0.0, rate
        rate = own
        if add >= 0:
            q, other = whole + slots[add], slots_rate[add]
            rate = (whole * own + slots[add] * other) / q if q > 0 else own
        if times >= 0:
            q, other = whole * slots[times], slots_rate[times]
            rate = own + other
        at = emit(share, out, at, 1)
        at = emit(before, out, at, 1)
        at = emit(grown, out, at, 1)
        at = emit(own, out, at, 1)
        at = emit(other, out, at, 1)
    emit(rate, out, at, 1)


def count_rates(layers: int) -> int:
    """Count the rates of a data row."""
    return RATES * layers + 1
