"""All steps on all planes of pairs of images: displacement by displacement; after image.hpp."""

from __future__ import annotations

from ntkfast.engines.numba.compiling import cached, compiled
from ntkfast.engines.numba.cpu.image.activate import activate_plane
from ntkfast.engines.numba.cpu.image.convolve import convolve
from ntkfast.engines.numba.cpu.image.deviations import activated_norms, next_norms, put_norm
from ntkfast.engines.numba.cpu.image.geometry import (
    ACTIVATE,
    CONV,
    LANES,
    MULTIPLY,
    NORMALIZE,
    OFFSET,
    RELU,
    SAVE,
    SWAP,
    Net,
    Pair,
    Pixels,
    Work,
    axis_of,
    copy_planes,
    find,
    frame,
    next_pool,
    opposite,
    plane_at,
    slot_at,
    store_of,
    store_size,
    swap_planes,
)
from ntkfast.engines.numba.cpu.image.pairs import (
    add_plane,
    multiply_plane,
    normalize_plane,
    relu_row,
    start_plane,
)
from ntkfast.engines.numba.cpu.image.pool import fetch_plane, pool_plane, read_plane
from ntkfast.engines.numba.formulas.simd import load
from ntkfast.engines.numba.problem import Array


@compiled
def run_steps(
    pair: Pair, k: int, end: int, di: int, dj: int, own: bool, smooth: bool | None
) -> None:
    """Apply the steps from k to before `end` to a plane."""
    net, plane, saved = pair.net, pair.work.plane, pair.work.saved
    while k < end:
        op, f = net.op[k], frame(net, k, di, dj)
        if op == RELU and (k + 1 == end or net.op[k + 1] != CONV):
            for i in range(f.rows):
                relu_row(pair, plane, k, di, dj, i, plane, i * f.columns * LANES)
        elif op == RELU or op == CONV:
            relu = op == RELU
            k += 1 if relu else 0
            convolve(pair, k, relu, di, dj)
        elif op == SAVE:
            copy_planes(plane, 0, saved, slot_at(net, saved, k), f.rows * f.columns * LANES)
        elif op == SWAP:
            g = frame(net, k + 1, di, dj)
            size = max(f.rows * f.columns, g.rows * g.columns) * LANES
            swap_planes(plane, saved, slot_at(net, saved, k), size)
        elif op == NORMALIZE:
            normalize_plane(pair, k, di, dj)
        elif op == MULTIPLY:
            multiply_plane(pair, k, di, dj)
        elif op == ACTIVATE:
            if smooth is not None:
                activate_plane(pair, k, di, dj, own)
        else:
            add_plane(pair, k, di, dj)
        k += 1


@cached
def run_pair(
    net: Net,
    work: Work,
    x: Pixels,
    y: Pixels,
    own: bool,
    whole: bool,
    cancelled: Array,
    smooth: bool | None,
) -> None:
    """Apply all steps to all planes; `own`, `whole`: see the C++ engine.

    `smooth` is None where ReLU is the only activation: the others take long to compile.
    """
    count, pair = len(net.op), Pair(net, work, x, y)
    pools = next_pool(net, 0) < count
    for lane in range(2 * LANES):
        work.total[lane] = 0
    k, turn = 0, 0
    while True:
        end = next_pool(net, k)
        if own:
            for step in range(k, end):
                if net.op[step] == ACTIVATE:
                    if smooth is not None:
                        activated_norms(net, step, x)
                else:
                    next_norms(net, step, x)
        if end == count and not whole:
            return
        source, to = work.store[turn], work.store[1 - turn]
        rows, columns = axis_of(net, k, whole, 0, False), axis_of(net, k, whole, 1, False)
        if end < count:
            kept_rows, kept_columns = store_of(net, end + 1, whole)
            to[: 2 * store_size(kept_rows, kept_columns) * LANES] = 0
        for a in range(rows.number):
            for b in range(columns.number):
                if cancelled[0]:
                    return
                factor = 1
                if own and not pools:  # a displacement of an image and itself has an opposite one
                    here = a * columns.number + b
                    other = opposite(rows, a) * columns.number + opposite(columns, b)
                    factor = 2 if here < other else 1 if here == other else 0
                if factor == 0:
                    continue
                di, dj = rows.first + a, columns.first + b
                if k == 0:
                    start_plane(pair, di, dj)
                else:
                    fetch_plane(pair, k, whole, di, dj, source)
                run_steps(pair, k, end, di, dj, own, smooth)
                if end < count:
                    pool_plane(pair, end, whole, di, dj, to)
                else:
                    read_plane(net, work, di, dj, factor)
        if end == count:
            return
        k, turn = end + 1, 1 - turn
        if own:
            kept_rows, kept_columns = store_of(net, k, whole)
            zero = find(kept_rows, 0), find(kept_columns, 0)
            start = plane_at(kept_rows, kept_columns, zero[0], zero[1]) * LANES
            for j in range(kept_rows.size * kept_columns.size * LANES):
                put_norm(x, net.levels[k, OFFSET] * LANES + j, load(to, start + j))
