"""From plane to plane: pools, which mix displacements, and the read-out; after image.hpp."""

from __future__ import annotations

from ntkfast.engines.numba.compiling import compiled
from ntkfast.engines.numba.cpu.image.geometry import (
    LANES,
    OFFSET,
    Net,
    Pair,
    Work,
    before,
    find,
    frame,
    pairs_at,
    pixels,
    plane_at,
    put,
    store_of,
    store_size,
    windows_with,
    wrap,
)
from ntkfast.engines.numba.cpu.image.pairs import defect
from ntkfast.engines.numba.formulas.simd import load, real, store
from ntkfast.engines.numba.problem import Array


@compiled
def pool_plane(pair: Pair, k: int, whole: bool, di: int, dj: int, to: Array) -> None:
    """Add the plane to those of the level after step k, a pool."""
    net, plane = pair.net, pair.work.plane
    f = frame(net, k, di, dj)
    rows, columns = store_of(net, k + 1, whole)
    all_columns = before(columns, columns.number)
    half, part = store_size(rows, columns) * LANES, net.gain[k]
    for i in range(f.rows):
        xr, x_end = windows_with(net, k, 0, f.xi + i)
        yr, y_end = windows_with(net, k, 0, wrap(f.yi + i, f.h))
        for r in range(xr, x_end):
            for o in range(yr, y_end):
                a = find(rows, o - r)
                if a < 0:
                    continue
                x0, _, height = pairs_at((rows.first + a) * rows.scale, rows.size, net.circular)
                first = before(rows, a) * all_columns
                for j in range(f.columns):
                    at = (i * f.columns + j) * LANES
                    xc, xc_end = windows_with(net, k, 1, f.xj + j)
                    yc, yc_end = windows_with(net, k, 1, wrap(f.yj + j, f.w))
                    for c in range(xc, xc_end):
                        for q in range(yc, yc_end):
                            b = find(columns, q - c)
                            if b < 0:
                                continue
                            d = (columns.first + b) * columns.scale
                            y0, _, length = pairs_at(d, columns.size, net.circular)
                            place = first + height * before(columns, b)
                            put_at = (place + (r - x0) * length + c - y0) * LANES
                            for lane in range(LANES):
                                s, t = load(plane.s, at + lane), load(plane.t, at + lane)
                                for number, shift in ((s, 0), (t, half)):
                                    old = load(to, shift + put_at + lane)
                                    store(to, shift + put_at + lane, old + part * number)


@compiled
def fetch_plane(pair: Pair, k: int, whole: bool, di: int, dj: int, sums: Array) -> None:
    """Read the plane at a level after a pool, if there are pairs at this displacement."""
    net, work, x, y = pair.net, pair.work, pair.x, pair.y
    rows, columns = store_of(net, k, whole)
    a, b = find(rows, di * rows.scale), find(columns, dj * columns.scale)
    if a < 0 or b < 0:
        return
    offset, half = net.levels[k, OFFSET], store_size(rows, columns) * LANES
    f = frame(net, k, di, dj)
    start = plane_at(rows, columns, a, b) * LANES
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
