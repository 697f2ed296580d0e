"""The numbers of one data row that layers multiply pairwise; mirrors row_stats.hpp."""

from __future__ import annotations

import math

import numpy as np
from numba.cpython.unsafe.tuple import tuple_setitem
from numpy.typing import NDArray

from ntkfast.engines.codes import SLOTS
from ntkfast.engines.numba.compiling import compiled
from ntkfast.engines.numba.formulas.activation import (
    DROPOUT,
    ERF,
    EXP,
    GAUSSIAN,
    GELU,
    HERMITE,
    RELU,
    SINE,
    STEP,
)
from ntkfast.engines.numba.problem import Array

EMPTY = (0.0,) * SLOTS


def activation_stats(kind: int, terms: int) -> int:
    """Count the numbers of an activation."""
    return {ERF: 7, GELU: 9, SINE: 8, EXP: 1, GAUSSIAN: 3, HERMITE: terms + 1}.get(kind, 0)


def count_stats(layers: NDArray[np.void]) -> int:
    """Count the numbers of all layers, and the roots of the kernels of a row with itself."""
    total = 2
    for layer in layers:
        total += activation_stats(int(layer["kind"]), int(layer["count"]))
        total += 2 * (layer["e"] != 0) + 3 * (layer["x"] != 0 or layer["y"] != 0)
        total += 4 * (layer["add"] >= 0) + 2 * (layer["times"] >= 0)
    return int(total)


@compiled
def row_stats(
    layers: Array,
    exponent: int,
    size: float,
    series: Array,
    row: int,
    out: Array,
    at: int,
    stride: int,
) -> None:
    """Write the numbers of a data row, in the order of the layers."""
    q, own = size * size, 0.0  # NNGP and NTK of the row with itself
    slots = slots_own = EMPTY
    for layer in range(len(layers)):
        here = layers[layer]
        kind, save, add, times = here["kind"], here["save"], here["add"], here["times"]
        a, b, c = here["parameter"][0], here["parameter"][1], here["parameter"][2]
        w, e, x, y = here["w"], here["e"], here["x"], here["y"]
        if save >= 0:
            slots = tuple_setitem(slots, save, q)
            slots_own = tuple_setitem(slots_own, save, own)
        after, slope = variance_after(kind, a, b, c, q), slope_after(kind, a, b, c, q)
        if kind == HERMITE:
            first, terms, total = here["offset"], here["count"], 0.0
            for k in range(terms):
                number = np.float64(series[row, first + k])
                total += k * number * number
                at = emit(number, out, at, stride)
            at = emit(inverse_root(total), out, at, stride)
            after = np.float64(series[row, first + terms]) ** 2
            slope = np.float64(series[row, first + terms + 1]) ** 2
        else:
            at = activation_numbers(kind, a, b, c, q, after, slope, out, at, stride)
        scaled = w * slope * own if own > 0 else 0.0
        gain = x * after
        q, own, part = w * after + e, scaled + gain + y, w * after
        if e != 0:
            at = emit(root_share(part, q, 0.0), out, at, stride)
            at = emit(root_share(e, q, 0.0), out, at, stride)
        if x != 0 or y != 0:
            at = emit(root_share(scaled, own, 0.0), out, at, stride)
            at = emit(root_share(gain, own, 0.0), out, at, stride)
            at = emit(root_share(y, own, 0.0), out, at, stride)
        if add >= 0:
            part, part_own, slot, slot_own = q, own, slots[add], slots_own[add]
            q, own = part + slot, part_own + slot_own
            at = emit(root_share(part, q, 1.0), out, at, stride)
            at = emit(root_share(slot, q, 0.0), out, at, stride)
            at = emit(root_share(part_own, own, 0.0), out, at, stride)
            at = emit(root_share(slot_own, own, 0.0), out, at, stride)
        if times >= 0:
            kept, gained = own * slots[times], q * slots_own[times]
            q, own = q * slots[times], kept + gained
            at = emit(root_share(kept, own, 0.0), out, at, stride)
            at = emit(root_share(gained, own, 0.0), out, at, stride)
    at = emit(math.sqrt(math.ldexp(q, exponent)), out, at, stride)
    emit(math.sqrt(math.ldexp(own, exponent)), out, at, stride)


@compiled
def emit(value: float, out: Array, at: int, stride: int) -> int:
    """Write a number, which must stay finite; returns the place of the next one."""
    out[at] = min(value, 1e37 if out.itemsize == 4 else 1e300)
    return at + stride


@compiled
def emit_angle(r: float, out: Array, at: int, stride: int) -> int:
    """Write h = sqrt(r / (1+r)) and c = 1/sqrt(1+r)."""
    at = emit(math.sqrt(r / (1 + r)), out, at, stride)
    return emit(1 / math.sqrt(1 + r), out, at, stride)


@compiled
def emit_root(value: float, out: Array, at: int, stride: int) -> int:
    """Write a root and its inverse."""
    at = emit(math.sqrt(value), out, at, stride)
    return emit(1 / math.sqrt(value) if value > 0 else math.inf, out, at, stride)


@compiled
def activation_numbers(
    kind: int,
    a: float,
    b: float,
    c: float,
    q: float,
    after: float,
    slope: float,
    out: Array,
    at: int,
    stride: int,
) -> int:
    """Write what an activation with a closed form asks for, in the order of its formula."""
    rate = abs(b) if kind == GAUSSIAN else b * b
    r, half = 2 * rate * q, a * a / 2
    if kind == ERF:
        r = max(r, 1e-36)
        odd = a * a * 2 / math.pi * (r / (1 + r))
        at = emit_angle(r, out, at, stride)
        at = emit(math.sqrt(math.sqrt(1 + 2 * r) / (1 + r)), out, at, stride)
        at = emit(root_share(odd, max(after, odd), 1.0), out, at, stride)
        at = emit(root_share(c * c, after, 0.0), out, at, stride)
        at = emit_root(after, out, at, stride)
    elif kind == GELU:
        at = emit_angle(q, out, at, stride)
        at = emit_root(q, out, at, stride)
        at = emit(math.sqrt(1 + 2 * q), out, at, stride)
        at = emit(root_share(q, after, 2.0), out, at, stride)
        at = emit(inverse_root(slope), out, at, stride)
        at = emit_root(after, out, at, stride)
    elif kind == SINE:
        at = emit(math.sqrt(q), out, at, stride)
        at = emit(root_share((1 - c) * half, after, 0.0), out, at, stride)
        at = emit(root_share(r * half, after, 1.0), out, at, stride)
        at = emit(root_share((1 + c) * rate * half, slope, 0.0), out, at, stride)
        at = emit(root_share(r * rate * half, slope, 1.0), out, at, stride)
        at = emit_root(after, out, at, stride)
        at = emit(-math.expm1(-rate * q), out, at, stride)
    elif kind == EXP:
        at = emit(math.sqrt(q), out, at, stride)
    elif kind == GAUSSIAN:
        at = emit_angle(r, out, at, stride)
        at = emit(math.sqrt(1 + 2 * r) / (1 + r), out, at, stride)
    return at


@compiled
def variance_after(kind: int, a: float, b: float, c: float, q: float) -> float:
    """Return E[s^2] of an activation with a closed form."""
    if kind == RELU:
        return (a + b) * q
    if kind == STEP:
        return a + b
    if kind == ERF:
        z = 2 * b * b * q
        return a * a * 2 / math.pi * math.atan2(z, math.sqrt(1 + 2 * z)) + c * c
    if kind == GELU:
        e = math.sqrt(1 + 2 * q)
        return q * (0.25 + (math.atan2(q, e) / 2 + q / (1 + q) / e) / math.pi)
    if kind == SINE:
        return a * a / 2 * ((1 - c) - c * math.expm1(-2 * b * b * q))
    if kind == EXP:
        return a * a * math.exp(2 * b * b * q)
    if kind == GAUSSIAN:
        return a * a / math.sqrt(1 - 4 * b * q)
    if kind == DROPOUT:
        return q / a
    return q


@compiled
def slope_after(kind: int, a: float, b: float, c: float, q: float) -> float:
    """Return E[s'^2] of an activation with a closed form."""
    if kind == RELU:
        return a + b
    if kind == STEP:
        return 0.0
    if kind == ERF:
        return 4 * a * a * b * b / math.pi / math.sqrt(1 + 4 * b * b * q)
    if kind == GELU:
        e = math.sqrt(1 + 2 * q)
        return 0.25 + (math.atan2(q, e) + q / e * (1 / (e * e) + 2 / (1 + q))) / (2 * math.pi)
    if kind == SINE:
        return a * a / 2 * b * b * ((1 + c) + c * math.expm1(-2 * b * b * q))
    if kind == EXP:
        return a * a * b * b * math.exp(2 * b * b * q)
    if kind == GAUSSIAN:
        square = 1 - 4 * b * q
        return 4 * a * a * b * b * q / (square * math.sqrt(square))
    if kind == DROPOUT:
        return 1 / a
    return 1.0


@compiled
def inverse_root(q: float) -> float:
    """1/sqrt(q), or 0."""
    return 1 / math.sqrt(q) if q > 0 else 0.0


@compiled
def root_share(part: float, whole: float, limit: float) -> float:
    """Root of part / whole; `limit` where both vanish."""
    return math.sqrt(part / whole) if whole > 0 else limit
