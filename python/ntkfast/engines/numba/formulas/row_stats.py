"""The numbers of one data row that layers multiply pairwise; mirrors row_stats.hpp."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ntkfast.engines.numba.compiling import compiled
from ntkfast.engines.numba.formulas.activation import (
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


def activation_stats(kind: int, terms: int) -> int:
    """Count the numbers of an activation."""
    return {ERF: 3, GELU: 5, SINE: 2, EXP: 1, GAUSSIAN: 3, HERMITE: terms}.get(kind, 0)


def count_stats(layers: NDArray[np.void]) -> int:
    """Count the numbers of all layers, and the root of the final variance."""
    total = 1
    for layer in layers:
        total += activation_stats(int(layer["kind"]), int(layer["count"]))
        total += 4 * (layer["e"] != 0 or layer["y"] != 0) + 4 * (layer["add"] >= 0)
    return int(total)


@compiled
def row_stats(
    layers: Array, size: float, series: Array, row: int, out: Array, at: int, stride: int
) -> None:
    """Write the numbers of a data row, in the order of the layers."""
    q = size * size
    slot0 = slot1 = slot2 = slot3 = q
    for layer in range(len(layers)):
        here = layers[layer]
        kind, save, add = here["kind"], here["save"], here["add"]
        a, b, c = here["parameter"][0], here["parameter"][1], here["parameter"][2]
        w, e = here["w"], here["e"]
        if save == 0:
            slot0 = q
        elif save == 1:
            slot1 = q
        elif save == 2:
            slot2 = q
        elif save == 3:
            slot3 = q
        after = variance_after(kind, a, b, c, q)
        z = 2 * abs(b * b if kind == ERF else b) * q
        if kind == ERF:
            out[at] = math.sqrt(z / (1 + z))
            out[at + stride] = inverse_root(after)
            out[at + 2 * stride] = 1 / (1 + z)
            at += 3 * stride
        elif kind == GELU:
            out[at] = math.sqrt(q / (1 + q))
            out[at + stride] = 1 / math.sqrt(1 + q)
            out[at + 2 * stride] = math.sqrt(q)
            out[at + 3 * stride] = inverse_root(after)
            out[at + 4 * stride] = 1 / (1 + q)
            at += 5 * stride
        elif kind == SINE:
            out[at] = math.sqrt(q)
            out[at + stride] = inverse_root(after)
            at += 2 * stride
        elif kind == EXP:
            out[at] = math.sqrt(q)
            at += stride
        elif kind == GAUSSIAN:
            out[at] = math.sqrt(z / (1 + z))
            out[at + stride] = abs(a) / math.sqrt(1 + z) * inverse_root(after)
            out[at + 2 * stride] = 1 / (1 + z)
            at += 3 * stride
        elif kind == HERMITE:
            first, terms = here["offset"], here["count"]
            for k in range(terms):
                out[at] = series[row, first + k]
                at += stride
            after = float(series[row, first + terms])
        q = w * after + e
        if e != 0 or here["y"] != 0:
            inverse = inverse_root(q)
            share = math.sqrt(w * after) * inverse
            out[at] = share
            out[at + stride] = inverse
            at = put_shares(share, math.sqrt(e) * inverse, out, at + 2 * stride, stride)
        if add >= 0:
            slot = slot0 if add == 0 else slot1 if add == 1 else slot2 if add == 2 else slot3
            inverse = inverse_root(q + slot)
            share, rest = math.sqrt(q) * inverse, math.sqrt(slot) * inverse
            out[at] = share
            out[at + stride] = rest
            at = put_shares(share, rest, out, at + 2 * stride, stride)
            q += slot
    out[at] = math.sqrt(q)


@compiled
def variance_after(kind: int, a: float, b: float, c: float, q: float) -> float:
    """Return K(q, q, q) of an activation with a closed form."""
    if kind == RELU:
        return (a + b) * q
    if kind == STEP:
        return a + b
    if kind == ERF:
        z = 2 * b * b * q
        return a * a * 2 / math.pi * math.atan2(z, math.sqrt(1 + 2 * z)) + c * c
    if kind == GELU:
        e = math.sqrt(1 + 2 * q)
        return q / 4 + q / (2 * math.pi) * math.atan2(q, e) + q * q / (math.pi * (1 + q) * e)
    if kind == SINE:
        return a * a / 2 * ((1 - c) - c * math.expm1(-2 * b * b * q))
    if kind == EXP:
        return a * a * math.exp(2 * b * b * q)
    if kind == GAUSSIAN:
        return a * a / math.sqrt(1 - 4 * b * q)
    return q


@compiled
def inverse_root(q: float) -> float:
    """1/sqrt(q), or 0."""
    return 1 / math.sqrt(q) if q > 0 else 0.0


@compiled
def put_shares(share: float, rest: float, out: Array, at: int, stride: int) -> int:
    """Write sine and cosine of half the angle whose cosine and sine are given."""
    cosine = math.sqrt((1 + share) / 2) if share + rest > 0 else 1.0
    out[at] = rest / (2 * cosine)
    out[at + stride] = cosine
    return at + 2 * stride
