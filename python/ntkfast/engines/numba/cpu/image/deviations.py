"""Images in lanes and the standard deviations of their pixels, level by level; after image.hpp."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ntkfast.engines.numba.compiling import cached, compiled
from ntkfast.engines.numba.cpu.image.geometry import (
    ADD,
    CONV,
    LANES,
    MULTIPLY,
    NORMALIZE,
    NUMBERS,
    OFFSET,
    RELU,
    SWAP,
    Net,
    Pixels,
    Work,
    saved_level,
    window_at,
    wrap,
)
from ntkfast.engines.numba.formulas.row_stats import (
    activation_numbers,
    slope_after,
    variance_after,
)
from ntkfast.engines.numba.formulas.simd import load, real, select, store
from ntkfast.engines.numba.problem import Array


@compiled
def put_norm(side: Pixels, at: int, square: Any) -> None:
    """Write the deviation of a pixel in a lane, given its square."""
    norm = math.sqrt(square)
    inverse = real(norm, 1) / norm
    store(side.norm, at, norm)
    store(side.inverse, at, select(inverse < real(norm, math.inf), inverse, real(norm, 0)))


@compiled
def first_norms(net: Net, side: Pixels) -> None:
    """Deviations of the pixels of images."""
    for k in range(net.levels[0, 0] * net.levels[0, 1]):
        for lane in range(LANES):
            total = real(side.data[0], 0)
            for c in range(net.channels):
                a = load(side.data, (k * net.channels + c) * LANES + lane)
                total += a * a
            put_norm(side, k * LANES + lane, total)


@compiled
def activated_norms(net: Net, k: int, side: Pixels) -> None:
    """Deviations after an activation, and the numbers that pairs of pixels ask for."""
    here, count = net.layers[k], net.per_pixel[k]
    kind = here["kind"]
    a, b, c = here["parameter"][0], here["parameter"][1], here["parameter"][2]
    now, after, first = net.levels[k, OFFSET], net.levels[k + 1, OFFSET], net.levels[k, NUMBERS]
    for pixel in range(net.levels[k, 0] * net.levels[k, 1]):
        for lane in range(LANES):
            size = np.float64(side.norm[(now + pixel) * LANES + lane])
            q = size * size
            variance, slope = variance_after(kind, a, b, c, q), slope_after(kind, a, b, c, q)
            at = (first + pixel * count) * LANES + lane
            at = activation_numbers(kind, a, b, c, q, variance, slope, side.numbers, at, LANES)
            side.numbers[at] = math.sqrt(slope)
            put_norm(side, (after + pixel) * LANES + lane, real(side.norm[0], variance))


@compiled
def normal_norms(net: Net, k: int, side: Pixels) -> None:
    """Deviations after a normalisation."""
    now, after = net.levels[k, OFFSET], net.levels[k + 1, OFFSET]
    size = net.levels[k, 0] * net.levels[k, 1]
    for lane in range(LANES):
        mean = real(side.norm[0], 0)
        for pixel in range(size):
            n = load(side.norm, (now + pixel) * LANES + lane)
            mean += n * n
        mean /= real(mean, size)
        for pixel in range(size):
            n = load(side.norm, (now + pixel) * LANES + lane)
            square = mean if net.whole[k] else n * n
            share = n * n / square if square > real(n, 0) else real(n, 0)
            put_norm(side, (after + pixel) * LANES + lane, share)


@compiled
def next_norms(net: Net, k: int, side: Pixels) -> None:
    """Deviations after step k, which is no pool and no activation but ReLU."""
    op = net.op[k]
    if op == NORMALIZE:
        normal_norms(net, k, side)
        return
    h, w, now = net.levels[k, 0], net.levels[k, 1], net.levels[k, OFFSET]
    next_h, next_w, after = net.levels[k + 1, 0], net.levels[k + 1, 1], net.levels[k + 1, OFFSET]
    gain, bias = net.gain[k], net.bias[k]
    saved = saved_level(net, k) if op == ADD or op == SWAP or op == MULTIPLY else 0
    if op == SWAP:
        now = saved
    for i in range(next_h):
        for j in range(next_w):
            pixel = i * next_w + j
            for lane in range(LANES):
                total = real(gain, 0)
                if op != CONV:
                    n = load(side.norm, (now + pixel) * LANES + lane)
                    total = n * n
                    if op == RELU:
                        total *= real(gain, 0.5)
                    if op == ADD:
                        n = load(side.norm, (saved + pixel) * LANES + lane)
                        total += n * n
                    if op == MULTIPLY:
                        n = load(side.norm, (saved + pixel) * LANES + lane)
                        total *= n * n
                else:
                    top, left = window_at(net, k, 0, i), window_at(net, k, 1, j)
                    for a in range(top, top + net.window[k, 0]):
                        for b in range(left, left + net.window[k, 1]):
                            r, c = (wrap(a, h), wrap(b, w)) if net.circular else (a, b)
                            if 0 <= r < h and 0 <= c < w:
                                n = load(side.norm, (now + r * w + c) * LANES + lane)
                                total += n * n
                    total = total * gain + bias
                put_norm(side, (after + pixel) * LANES + lane, total)


@cached
def read_images(
    net: Net, work: Work, side: Pixels, data: Array, scale: Array, first: int, last: int
) -> None:
    """Read images into the lanes of a side, the last one repeatedly; `run_pair` does the rest."""
    size = net.levels[0, 0] * net.levels[0, 1] * net.channels
    for lane in range(LANES):
        i = min(first + lane, last - 1)
        for k in range(size):
            side.data[k * LANES + lane] = data[i, k] * scale[i]
    first_norms(net, side)
    work.differ[:] = 0


@cached
def pick_image(net: Net, work: Work, lane: int) -> None:
    """Copy the left image of one lane to all of `one`, and compare it with those on the right."""
    many, one = work.left, work.one
    work.differ[:] = 0
    for k in range(net.levels[0, 0] * net.levels[0, 1] * net.channels):
        value = many.data[k * LANES + lane]
        for other in range(LANES):
            one.data[k * LANES + other] = value
            if value != work.right.data[k * LANES + other]:
                work.differ[other] = 1
    last = net.levels[len(net.op)]
    for k in range(last[OFFSET] + last[0] * last[1]):
        for other in range(LANES):
            one.norm[k * LANES + other] = many.norm[k * LANES + lane]
            one.inverse[k * LANES + other] = many.inverse[k * LANES + lane]
    for k in range(last[NUMBERS]):
        for other in range(LANES):
            one.numbers[k * LANES + other] = many.numbers[k * LANES + lane]
