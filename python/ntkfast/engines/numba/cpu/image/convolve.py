"""Window sums, and 1 - |u| after them from what is small: the convolutions of image.hpp.

The plain form of the same steps: windows of any size are summed directly, ReLU takes the arc-cosine
functions of dense layers, and every step writes its plane.
"""

from __future__ import annotations

from typing import Any

from ntkfast.engines.numba.compiling import compiled
from ntkfast.engines.numba.cpu.image.geometry import (
    LANES,
    OFFSET,
    Frame,
    Pair,
    Planes,
    copy,
    copy_planes,
    frame,
    pixels,
    put,
    window_at,
    wrap,
)
from ntkfast.engines.numba.cpu.image.pairs import defect, relu_row
from ntkfast.engines.numba.formulas.simd import load, product, real, select, store

CLOSE = 0.01  # 1 - |u| below which it is summed from what is small


@compiled
def clear(ring: Planes, to: int, size: int) -> None:
    """Set a part of the ring to zero."""
    zero = real(ring.s[0], 0)
    for j in range(size):
        put(ring, to + j, zero, zero, zero)


@compiled
def take_row(
    pair: Pair,
    plane: Planes,
    k: int,
    relu: bool,
    di: int,
    dj: int,
    i: int,
    at: int,
    below: int,
    stride: int,
) -> None:
    """Put row i of the plane, with margins, into row `at` of the ring, after ReLU if there is."""
    net, ring = pair.net, pair.work.ring
    q, f, g = net.window[k, 0], frame(net, k, di, dj), frame(net, k + 1, di, dj)
    h, w = f.rows, f.columns * LANES
    line, margin = at * stride, net.before[k, 1] * LANES
    width = ((g.columns - 1) * net.stride[k, 1] + net.window[k, 1]) * LANES
    inner, behind = line + margin, max(width - margin - w, 0)
    whole = margin + w + behind
    if net.circular and i >= h:
        copy_planes(ring, (q + i - h) * stride, ring, line, whole)
        return
    if not net.circular and (i < 0 or i >= h):
        clear(ring, line, whole)
        return
    source = i + h if i < 0 else i
    if relu:
        relu_row(pair, plane, k - 1, di, dj, source, ring, inner)
    else:
        copy_planes(plane, source * w, ring, inner, w)
    if net.circular:
        copy_planes(ring, inner + w - margin, ring, line, margin)
        copy_planes(ring, inner, ring, inner + w, behind)
        if 0 <= i < below:
            copy_planes(ring, line, ring, (q + i) * stride, whole)
    else:
        clear(ring, line, margin)
        clear(ring, inner + w, behind)


@compiled
def accurate(pair: Pair, k: int, f: Frame, i: int, j: int, stride: int, lane: int, at: Any) -> Any:
    """1 - |u| after step k, a convolution, in row i and column j of the plane."""
    net, x, y, ring = pair.net, pair.x, pair.y, pair.work.ring
    h, w, offset = net.levels[k, 0], net.levels[k, 1], net.levels[k, OFFSET]
    s, inverse_x, inverse_y = at
    zero, two, half = real(s, 0), real(s, 2), real(s, 0.5)
    rows, columns, back = net.window[k, 0], net.window[k, 1], s < zero
    xi, xj = window_at(net, k, 0, f.xi + i), window_at(net, k, 1, f.xj + j)
    yi = window_at(net, k, 0, wrap(f.yi + i, f.h))
    yj = window_at(net, k, 1, wrap(f.yj + j, f.w))
    inner, gap = zero, zero
    for a in range(rows):
        for b in range(columns):
            xr, xc, yr, yc = xi + a, xj + b, yi + a, yj + b
            if net.circular:
                xr, xc, yr, yc = wrap(xr, h), wrap(xc, w), wrap(yr, h), wrap(yc, w)
            n, m = zero, zero
            if 0 <= xr < h and 0 <= xc < w:
                n = load(x.norm, (offset + xr * w + xc) * LANES + lane)
            if 0 <= yr < h and 0 <= yc < w:
                m = load(y.norm, (offset + yr * w + yc) * LANES + lane)
            n, m = product(n, inverse_x), product(m, inverse_y)
            gap += (n - m) * (n - m)
            place = (i * net.stride[k, 0] + a) % rows * stride
            place += (j * net.stride[k, 1] + b) * LANES + lane
            v = load(ring.v, place)
            same = (load(ring.s, place) < zero) == back
            inner += n * m * (v if same else two - v)
    gain, bias = net.gain[k], net.bias[k]
    apart = inverse_x - inverse_y
    v = gain * (inner + half * gap) + half * bias * apart * apart
    return v + two * bias * inverse_x * inverse_y if back else v


@compiled
def sum_row(pair: Pair, k: int, di: int, dj: int, i: int, stride: int) -> None:
    """Sum the windows of row i of the result of step k."""
    net, work, x, y = pair.net, pair.work, pair.x, pair.y
    rows, columns, offset = net.window[k, 0], net.window[k, 1], net.levels[k + 1, OFFSET]
    apart = net.stride[k, 1]
    f = frame(net, k + 1, di, dj)
    plane, ring, sums, tangents = work.plane, work.ring, work.sums, work.tangents
    copy(ring.s, 0, sums, 0, stride)
    copy(ring.t, 0, tangents, 0, stride)
    for a in range(1, rows):
        for j in range(stride):
            store(sums, j, load(sums, j) + load(ring.s, a * stride + j))
            store(tangents, j, load(tangents, j) + load(ring.t, a * stride + j))
    gain, bias, trained = net.gain[k], net.bias[k], net.trained[k]
    for j in range(f.columns):
        p, o = pixels(f, i, j)
        left, right = (offset + p) * LANES, (offset + o) * LANES
        at, least = (i * f.columns + j) * LANES, real(gain, 1)
        for lane in range(LANES):
            first = j * apart
            s, t = load(sums, first * LANES + lane), load(tangents, first * LANES + lane)
            for b in range(1, columns):
                s += load(sums, (first + b) * LANES + lane)
                t += load(tangents, (first + b) * LANES + lane)
            s = gain * s + bias
            v = defect(s, load(x.inverse, left + lane) * load(y.inverse, right + lane))
            least = select(v < least, v, least)
            put(plane, at + lane, s, v, gain * t + trained * s)
        if least < real(gain, CLOSE):
            for lane in range(LANES):
                if load(plane.v, at + lane) < real(gain, CLOSE):
                    inverses = load(x.inverse, left + lane), load(y.inverse, right + lane)
                    here = load(plane.s, at + lane), *inverses
                    store(plane.v, at + lane, accurate(pair, k, f, i, j, stride, lane, here))


@compiled
def convolve(pair: Pair, k: int, relu: bool, di: int, dj: int) -> None:
    """Apply step k, a convolution, together with the ReLU before it if there is one."""
    net, work = pair.net, pair.work
    now, f = frame(net, k, di, dj), frame(net, k + 1, di, dj)
    if f.rows == 0 or f.columns == 0:
        return
    copy_planes(work.plane, 0, work.spare, 0, now.rows * now.columns * LANES)
    q, apart, before = net.window[k, 0], net.stride[k, 0], net.before[k, 0]
    rows = (f.rows - 1) * apart + q
    below = rows - before - now.rows
    width = max(
        now.columns + net.before[k, 1], (f.columns - 1) * net.stride[k, 1] + net.window[k, 1]
    )
    stride = width * LANES
    for t in range(rows):
        take_row(pair, work.spare, k, relu, di, dj, t - before, t % q, below, stride)
        top = t - q + 1
        if top >= 0 and top % apart == 0:
            sum_row(pair, k, di, dj, top // apart, stride)
