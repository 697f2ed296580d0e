"""Images in lanes and the standard deviations of their pixels, level by level; after image.hpp."""

from __future__ import annotations

import math
from typing import Any

from ntkfast.engines.numba.compiling import cached, compiled
from ntkfast.engines.numba.cpu.image.geometry import (
    ADD,
    CONV,
    LANES,
    RELU,
    Net,
    Pixels,
    Work,
    saved_level,
    window_start,
    wrap,
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
def next_norms(net: Net, k: int, side: Pixels) -> None:
    """Deviations after step k, which is no pool."""
    h, w, now = net.levels[k, 0], net.levels[k, 1], net.levels[k, 6]
    next_h, next_w, after = net.levels[k + 1, 0], net.levels[k + 1, 1], net.levels[k + 1, 6]
    op, q, start = net.op[k], net.size[k], window_start(net, k)
    gain, bias = net.gain[k], net.bias[k]
    saved = saved_level(net, k) if op == ADD else 0
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
                else:
                    for a in range(i + start, i + start + q):
                        for b in range(j + start, j + start + q):
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
    for k in range(last[6] + last[0] * last[1]):
        for other in range(LANES):
            one.norm[k * LANES + other] = many.norm[k * LANES + lane]
            one.inverse[k * LANES + other] = many.inverse[k * LANES + lane]
