"""Window sums, and 1 - |u| after them from what is small: the convolutions of image.hpp.

The plain form of the same steps: windows of any size are summed directly, ReLU takes the arc-cosine
functions of dense layers, and every step writes its plane.
"""

from __future__ import annotations

from typing import Any

from ntkfast.engines.numba.compiling import compiled
from ntkfast.engines.numba.cpu.image.geometry import (
    LANES,
    Net,
    Pixels,
    Planes,
    Work,
    copy,
    copy_planes,
    frame,
    pairs_at,
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
    net: Net,
    work: Work,
    x: Pixels,
    y: Pixels,
    k: int,
    relu: bool,
    di: int,
    dj: int,
    i: int,
    at: int,
    stride: int,
) -> None:
    """Put row i of the plane, with margins, into row `at` of the ring, after ReLU if there is."""
    ring, q, start = work.ring, net.size[k], window_start(net, k)
    h = pairs_at(di, net.levels[k, 0], net.circular)[2]
    w = pairs_at(dj, net.levels[k, 1], net.circular)[2] * LANES
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
        relu_row(net, work.plane, x, y, k - 1, di, dj, source, ring, inner)
    else:
        copy_planes(work.plane, source * w, ring, inner, w)
    if net.circular:
        copy_planes(ring, inner + w - margin, ring, line, margin)
        copy_planes(ring, inner, ring, inner + w, margin)
        if 0 <= i < q // 2:
            copy_planes(ring, line, ring, (q + i) * stride, width)
    else:
        clear(ring, line, margin)
        clear(ring, inner + w, margin)


@compiled
def accurate(
    net: Net,
    work: Work,
    x: Pixels,
    y: Pixels,
    k: int,
    p: tuple[int, int],
    o: tuple[int, int],
    at: tuple[int, int],
    stride: int,
    lane: int,
    s: Any,
    inverse_x: Any,
    inverse_y: Any,
) -> Any:
    """1 - |u| after step k, a convolution, at pixels p and o and place `at` of the plane."""
    h, w, offset = net.levels[k, 0], net.levels[k, 1], net.levels[k, 6]
    q, zero, two, half = net.size[k], real(s, 0), real(s, 2), real(s, 0.5)
    start, back = window_start(net, k), s < zero
    inner, gap = zero, zero
    for a in range(q):
        for b in range(q):
            xr, xc, yr, yc = p[0] + start + a, p[1] + start + b, o[0] + start + a, o[1] + start + b
            if net.circular:
                xr, xc, yr, yc = wrap(xr, h), wrap(xc, w), wrap(yr, h), wrap(yc, w)
            n, m = zero, zero
            if 0 <= xr < h and 0 <= xc < w:
                n = load(x.norm, (offset + xr * w + xc) * LANES + lane) * inverse_x
            if 0 <= yr < h and 0 <= yc < w:
                m = load(y.norm, (offset + yr * w + yc) * LANES + lane) * inverse_y
            gap += (n - m) * (n - m)
            place = (at[0] + a) % q * stride + (at[1] + b) * LANES + lane
            v = load(work.ring.v, place)
            same = (load(work.ring.s, place) < zero) == back
            inner += n * m * (v if same else two - v)
    gain, bias = net.numbers[k, 0], net.numbers[k, 1]
    apart = inverse_x - inverse_y
    v = gain * (inner + half * gap) + half * bias * apart * apart
    return v + two * bias * inverse_x * inverse_y if back else v


@compiled
def sum_row(
    net: Net, work: Work, x: Pixels, y: Pixels, k: int, di: int, dj: int, i: int, stride: int
) -> None:
    """Sum the windows of row i of the result of step k."""
    q, offset = net.size[k], net.levels[k + 1, 6]
    f = frame(net.levels, net.circular, k + 1, di, dj)
    plane, ring, sums, tangents = work.plane, work.ring, work.sums, work.tangents
    copy(ring.s, 0, sums, 0, stride)
    copy(ring.t, 0, tangents, 0, stride)
    for a in range(1, q):
        for j in range(stride):
            store(sums, j, load(sums, j) + load(ring.s, a * stride + j))
            store(tangents, j, load(tangents, j) + load(ring.t, a * stride + j))
    gain, bias, trained = net.numbers[k, 0], net.numbers[k, 1], net.numbers[k, 2]
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
                    better = accurate(
                        net,
                        work,
                        x,
                        y,
                        k,
                        (f.xi + i, f.xj + j),
                        (wrap(f.yi + i, f.h), wrap(f.yj + j, f.w)),
                        (i, j),
                        stride,
                        lane,
                        load(plane.s, at + lane),
                        load(x.inverse, left + lane),
                        load(y.inverse, right + lane),
                    )
                    store(plane.v, at + lane, better)


@compiled
def convolve(
    net: Net, work: Work, x: Pixels, y: Pixels, k: int, relu: bool, di: int, dj: int
) -> None:
    """Apply step k, a convolution, together with the ReLU before it if there is one."""
    q, start = net.size[k], window_start(net, k)
    rows = pairs_at(di, net.levels[k + 1, 0], net.circular)[2]
    columns = pairs_at(dj, net.levels[k + 1, 1], net.circular)[2]
    if rows == 0 or columns == 0:
        return
    stride = (columns + q - 1) * LANES
    for t in range(rows + q - 1):
        take_row(net, work, x, y, k, relu, di, dj, start + t, t % q, stride)
        if t >= q - 1:
            sum_row(net, work, x, y, k, di, dj, t - q + 1, stride)
