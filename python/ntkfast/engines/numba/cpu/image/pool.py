"""From plane to plane: pools, which mix displacements, and the read-out; after image.hpp."""

from __future__ import annotations

from ntkfast.engines.numba.compiling import compiled
from ntkfast.engines.numba.cpu.image.geometry import (
    LANES,
    Net,
    Pair,
    Work,
    extent,
    find,
    frame,
    pairs_at,
    pixels,
    plane_at,
    put,
    wrap,
)
from ntkfast.engines.numba.cpu.image.pairs import defect
from ntkfast.engines.numba.formulas.simd import load, real, store
from ntkfast.engines.numba.problem import Array


@compiled
def pool_plane(pair: Pair, k: int, whole: bool, di: int, dj: int, to: Array) -> None:
    """Add the plane to those of the level after step k, a pool."""
    net, plane = pair.net, pair.work.plane
    block, f = net.size[k], frame(net, k, di, dj)
    next_h, next_w = net.levels[k + 1, 0], net.levels[k + 1, 1]
    first_a, count_a, first_b, count_b, all_rows, all_columns = extent(net, k + 1, whole)
    half = all_rows * all_columns * LANES
    part = real(to[0], 1) / real(to[0], block**4)
    for i in range(f.rows):
        xr, yr = (f.xi + i) // block, wrap(f.yi + i, f.h) // block
        a = find(first_a, count_a, yr - xr, next_h, net.circular)
        for j in range(f.columns):
            xc, yc = (f.xj + j) // block, wrap(f.yj + j, f.w) // block
            b = find(first_b, count_b, yc - xc, next_w, net.circular)
            if a < 0 or b < 0:
                continue
            x0 = pairs_at(first_a + a, next_h, net.circular)[0]
            y0, _, length = pairs_at(first_b + b, next_w, net.circular)
            place = plane_at(net, k + 1, whole, a, b) + (xr - x0) * length + xc - y0
            put_at, at = place * LANES, (i * f.columns + j) * LANES
            for lane in range(LANES):
                s, t = load(plane.s, at + lane), load(plane.t, at + lane)
                store(to, put_at + lane, load(to, put_at + lane) + part * s)
                store(to, half + put_at + lane, load(to, half + put_at + lane) + part * t)


@compiled
def fetch_plane(pair: Pair, k: int, whole: bool, a: int, b: int, sums: Array) -> None:
    """Read the plane at a level after a pool."""
    net, work, x, y = pair.net, pair.work, pair.x, pair.y
    first_a, _, first_b, _, all_rows, all_columns = extent(net, k, whole)
    di, dj, offset = first_a + a, first_b + b, net.levels[k, 6]
    f = frame(net, k, di, dj)
    start = plane_at(net, k, whole, a, b) * LANES
    half = all_rows * all_columns * LANES
    for i in range(f.rows):
        for j in range(f.columns):
            p, o = pixels(f, i, j)
            left, right = (offset + p) * LANES, (offset + o) * LANES
            at = (i * f.columns + j) * LANES
            for lane in range(LANES):
                s = load(sums, start + at + lane)
                v = defect(s, load(x.inverse, left + lane) * load(y.inverse, right + lane))
                if di == 0 and dj == 0:
                    v *= load(work.differ, lane)
                put(work.plane, at + lane, s, v, load(sums, half + start + at + lane))


@compiled
def read_plane(net: Net, work: Work, di: int, dj: int, factor: float) -> None:
    """Add the weighted sums of T and S over the plane to the totals."""
    f, sums, tangents = frame(net, len(net.op), di, dj), work.sums, work.tangents
    for i in range(f.rows):
        for lane in range(LANES):
            store(sums, lane, real(sums[0], 0))
            store(tangents, lane, real(sums[0], 0))
        for j in range(f.columns):
            weight = net.weight_w[f.xj + j, wrap(f.yj + j, f.w)]
            at = (i * f.columns + j) * LANES
            for lane in range(LANES):
                s, t = load(work.plane.s, at + lane), load(work.plane.t, at + lane)
                store(sums, lane, load(sums, lane) + weight * s)
                store(tangents, lane, load(tangents, lane) + weight * t)
        weight = net.weight_h[f.xi + i, wrap(f.yi + i, f.h)]
        for lane in range(LANES):
            work.total[lane] += factor * (weight * tangents[lane])
            work.total[LANES + lane] += factor * (weight * sums[lane])
