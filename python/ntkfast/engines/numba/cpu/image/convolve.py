"""Window sums, and 1 - |u| after them from what is small: the convolutions of image.hpp.

The plain form of the same steps: windows of any size are summed directly, ReLU takes the arc-cosine
functions of dense layers, and every step writes its plane.
"""

from __future__ import annotations

from typing import Any

from ntkfast.engines.numba.compiling import compiled
from ntkfast.engines.numba.cpu.image.geometry import (
    LANES,
    Frame,
    Pair,
    Planes,
    copy,
    copy_planes,
    frame,
    pixels,
    put,
    window_start,
    wrap,
)
from ntkfast.engines.numba.cpu.image.pairs import defect, relu_row
from ntkfast.engines.numba.formulas.simd import load, real, select, store

CLOSE = 0.01  # 1 - |u| below which it is summed from what is small


@compiled
def clear(ring: Planes, to: int, size: int) -> None:
    """Set a part of the ring to zero."""
    zero = real(ring.s[0], 0)
    for j in range(size):
        put(ring, to + j, zero, zero, zero)


@compiled
def take_row(
    pair: Pair, k: int, relu: bool, di: int, dj: int, i: int, at: int, stride: int
) -> None:
    """Put row i of the plane, with margins, into row `at` of the ring, after ReLU if there is."""
    net, ring = pair.net, pair.work.ring
    q, start = net.size[k], window_start(net, k)
    f = frame(net, k, di, dj)
    h, w = f.rows, f.columns * LANES
    line, margin = at * stride, -start * LANES
    inner, width = line + margin, w + 2 * margin
    if net.circular and i >= h:
        copy_planes(ring, (q + i - h) * stride, ring, line, width)
        return
    if not net.circular and (i < 0 or i >= h):
        clear(ring, line, width)
        return
    source = i + h if i < 0 else i
    if relu:
        relu_row(pair, k - 1, di, dj, source, ring, inner)
    else:
        copy_planes(pair.work.plane, source * w, ring, inner, w)
    if net.circular:
        copy_planes(ring, inner + w - margin, ring, line, margin)
        copy_planes(ring, inner, ring, inner + w, margin)
        if 0 <= i < q // 2:
            copy_planes(ring, line, ring, (q + i) * stride, width)
    else:
        clear(ring, line, margin)
        clear(ring, inner + w, margin)


@compiled
def accurate(pair: Pair, k: int, f: Frame, i: int, j: int, stride: int, lane: int, at: Any) -> Any:
    """1 - |u| after step k, a convolution, in row i and column j of the plane."""
    net, x, y, ring = pair.net, pair.x, pair.y, pair.work.ring
    h, w, offset = net.levels[k, 0], net.levels[k, 1], net.levels[k, 6]
    s, inverse_x, inverse_y = at
    q, zero, two, half = net.size[k], real(s, 0), real(s, 2), real(s, 0.5)
    start, back = window_start(net, k), s < zero
    xi, xj = f.xi + i + start, f.xj + j + start
    yi, yj = wrap(f.yi + i, f.h) + start, wrap(f.yj + j, f.w) + start
    inner, gap = zero, zero
    for a in range(q):
        for b in range(q):
            xr, xc, yr, yc = xi + a, xj + b, yi + a, yj + b
            if net.circular:
                xr, xc, yr, yc = wrap(xr, h), wrap(xc, w), wrap(yr, h), wrap(yc, w)
            n, m = zero, zero
            if 0 <= xr < h and 0 <= xc < w:
                n = load(x.norm, (offset + xr * w + xc) * LANES + lane) * inverse_x
            if 0 <= yr < h and 0 <= yc < w:
                m = load(y.norm, (offset + yr * w + yc) * LANES + lane) * inverse_y
            gap += (n - m) * (n - m)
            place = (i + a) % q * stride + (j + b) * LANES + lane
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
    q, offset = net.size[k], net.levels[k + 1, 6]
    f = frame(net, k + 1, di, dj)
    plane, ring, sums, tangents = work.plane, work.ring, work.sums, work.tangents
    copy(ring.s, 0, sums, 0, stride)
    copy(ring.t, 0, tangents, 0, stride)
    for a in range(1, q):
        for j in range(stride):
            store(sums, j, load(sums, j) + load(ring.s, a * stride + j))
            store(tangents, j, load(tangents, j) + load(ring.t, a * stride + j))
    gain, bias, trained = net.gain[k], net.bias[k], net.trained[k]
    for j in range(f.columns):
        p, o = pixels(f, i, j)
        left, right = (offset + p) * LANES, (offset + o) * LANES
        at, least = (i * f.columns + j) * LANES, real(gain, 1)
        for lane in range(LANES):
            s, t = load(sums, j * LANES + lane), load(tangents, j * LANES + lane)
            for b in range(1, q):
                s += load(sums, (j + b) * LANES + lane)
                t += load(tangents, (j + b) * LANES + lane)
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
    q, start, f = pair.net.size[k], window_start(pair.net, k), frame(pair.net, k + 1, di, dj)
    if f.rows == 0 or f.columns == 0:
        return
    stride = (f.columns + q - 1) * LANES
    for t in range(f.rows + q - 1):
        take_row(pair, k, relu, di, dj, start + t, t % q, stride)
        if t >= q - 1:
            sum_row(pair, k, di, dj, t - q + 1, stride)
