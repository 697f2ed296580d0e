"""All steps on all planes of pairs of images: displacement by displacement; after image.hpp."""

from __future__ import annotations

from ntkfast.engines.numba.compiling import cached, compiled
from ntkfast.engines.numba.cpu.image.convolve import convolve
from ntkfast.engines.numba.cpu.image.deviations import next_norms, put_norm
from ntkfast.engines.numba.cpu.image.geometry import (
    CONV,
    LANES,
    RELU,
    SAVE,
    Net,
    Pair,
    Pixels,
    Work,
    copy_planes,
    extent,
    find,
    frame,
    multiplicity,
    next_pool,
    plane_at,
    slot_at,
)
from ntkfast.engines.numba.cpu.image.pairs import add_plane, relu_row, start_plane
from ntkfast.engines.numba.cpu.image.pool import fetch_plane, pool_plane, read_plane
from ntkfast.engines.numba.formulas.simd import load
from ntkfast.engines.numba.problem import Array


@compiled
def run_steps(pair: Pair, k: int, end: int, di: int, dj: int) -> None:
    """Apply the steps from k to before `end` to a plane."""
    net, plane, saved = pair.net, pair.work.plane, pair.work.saved
    while k < end:
        op, f = net.op[k], frame(net, k, di, dj)
        if op == RELU and (k + 1 == end or net.op[k + 1] != CONV):
            for i in range(f.rows):
                relu_row(pair, k, di, dj, i, plane, i * f.columns * LANES)
        elif op == RELU or op == CONV:
            relu = op == RELU
            k += 1 if relu else 0
            convolve(pair, k, relu, di, dj)
        elif op == SAVE:
            copy_planes(plane, 0, saved, slot_at(net, saved, k), f.rows * f.columns * LANES)
        else:
            add_plane(pair, k, di, dj)
        k += 1


@cached
def run_pair(
    net: Net, work: Work, x: Pixels, y: Pixels, own: bool, whole: bool, cancelled: Array
) -> None:
    """Apply all steps to all planes; `own`, `whole`: see the C++ engine."""
    count, pair = len(net.op), Pair(net, work, x, y)
    pools = next_pool(net, 0) < count
    for lane in range(2 * LANES):
        work.total[lane] = 0
    k, turn = 0, 0
    while True:
        end = next_pool(net, k)
        if own:
            for step in range(k, end):
                next_norms(net, step, x)
        if end == count and not whole:
            return
        source, to = work.store[turn], work.store[1 - turn]
        first_a, count_a, first_b, count_b, _, _ = extent(net, k, whole)
        if end < count:
            _, _, _, _, rows, columns = extent(net, end + 1, whole)
            to[: 2 * rows * columns * LANES] = 0
        for a in range(count_a):
            for b in range(count_b):
                if cancelled[0]:
                    return
                factor = 1
                if own and not pools:
                    factor = multiplicity(net, k, a, b)
                if factor == 0:
                    continue
                di, dj = first_a + a, first_b + b
                if k == 0:
                    start_plane(pair, di, dj)
                else:
                    fetch_plane(pair, k, whole, a, b, source)
                run_steps(pair, k, end, di, dj)
                if end < count:
                    pool_plane(pair, end, whole, di, dj, to)
                else:
                    read_plane(net, work, di, dj, factor)
        if end == count:
            return
        k, turn = end + 1, 1 - turn
        if own:
            first_a, count_a, first_b, count_b, _, _ = extent(net, k, whole)
            h, w, offset = net.levels[k, 0], net.levels[k, 1], net.levels[k, 6]
            zero_a = find(first_a, count_a, 0, h, net.circular)
            zero_b = find(first_b, count_b, 0, w, net.circular)
            start = plane_at(net, k, whole, zero_a, zero_b) * LANES
            for j in range(h * w * LANES):
                put_norm(x, offset * LANES + j, load(to, start + j))
