"""How variances grow with the norm of a data row; mirrors row_rates.hpp."""

from __future__ import annotations

import math

import numpy as np
from numba.cpython.unsafe.tuple import tuple_setitem

from ntkfast.engines.codes import DIRECTIONS, MOVES, RATES, SLOTS
from ntkfast.engines.numba.compiling import compiled
from ntkfast.engines.numba.formulas.activation import (
    DROPOUT,
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

NOTHING = (0.0,) * DIRECTIONS
NOTHINGS = (NOTHING,) * SLOTS


@compiled
def growth(kind: int, a: float, b: float, c: float, q: float, after: float) -> float:
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
        rate = b * b * q
        return a * a * rate * (c * math.exp(-2 * rate)) / after
    if kind == EXP:
        return 2 * b * b * q
    if kind == GAUSSIAN:
        return 2 * b * q / (1 - 4 * b * q)
    return 1.0


@compiled
def row_rates(
    layers: Array,
    steps: Array,
    directions: int,
    size: float,
    series: Array,
    row: int,
    out: Array,
    at: int,
) -> None:
    """Write RATES numbers per layer, MOVES per direction of each, and two per direction."""
    q, count = size * size, len(layers)
    slots, rates, slots_rates = EMPTY, NOTHING, NOTHINGS
    if not len(steps):
        rates = tuple_setitem(rates, 1, 1.0)  # by log |x|
    for layer in range(count):
        here = layers[layer]
        kind, save, add, times = here["kind"], here["save"], here["add"], here["times"]
        a, b, c = here["parameter"][0], here["parameter"][1], here["parameter"][2]
        if save >= 0:
            slots = tuple_setitem(slots, save, q)
            slots_rates = tuple_setitem(slots_rates, save, rates)
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
        elif kind not in (IDENTITY, DROPOUT):
            grown = growth(kind, a, b, c, q, after)
        at = emit(share, out, at, 1)
        at = emit(grown, out, at, 1)
        whole = here["w"] * after + here["e"]
        part, rest = (here["w"] * after / whole, here["e"] / whole) if whole > 0 else (1.0, 0.0)
        q = whole + slots[add] if add >= 0 else whole
        if times >= 0:
            q = whole * slots[times]
        for i in range(directions):
            w = e = x = y = other = 0.0
            if len(steps):
                step = (i * (count + 1) + layer) * 4
                w, e, x, y = steps[step], steps[step + 1], steps[step + 2], steps[step + 3]
            behind = rates[i] * grown
            rate = part * (behind + w) + rest * e
            if add >= 0 or times >= 0:
                other = slots_rates[add if add >= 0 else times][i]
            at = emit(rates[i], out, at, 1)
            at = emit(behind, out, at, 1)
            at = emit(e - w - behind, out, at, 1)
            at = emit(w, out, at, 1)
            at = emit(x, out, at, 1)
            at = emit(y, out, at, 1)
            at = emit(rate if times >= 0 else other - rate, out, at, 1)
            at = emit(other if times >= 0 else 0.0, out, at, 1)
            if add >= 0 and q > 0:
                rate = (whole * rate + slots[add] * other) / q
            if times >= 0:
                rate += other
            rates = tuple_setitem(rates, i, rate)
    for i in range(directions):
        at = emit(rates[i], out, at, 1)
        at = emit(steps[(i * (count + 1) + count) * 4] if len(steps) else 0.0, out, at, 1)


def count_rates(layers: int, directions: int) -> int:
    """Count the rates of a data row."""
    return layers * (RATES + MOVES * directions) + 2 * directions
