"""Tangent kernels of convolutional networks in Numba, after formulas/pixel_pairs.hpp.

The plain form of the same steps: windows of any size are summed directly, ReLU takes the arc-cosine
functions of dense layers, and every step writes its plane.

All arrays are flat, with `LANES` images side by side for every number; an image of x stands in all
of its lanes.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from ntkfast.engines.numba_kernels import Array, _cached, _compiled, load, real, store
from ntkfast.engines.numba_kernels.arccos import arc_cosine
from ntkfast.engines.numba_kernels.vectors import select

LANES = 16
CLOSE = 0.01  # 1 - |u| below which it is summed from what is small
SLOTS = 4
CONV, RELU, POOL, SAVE, ADD = range(5)


class Net(NamedTuple):
    """A network: see `engines.maps.ImagePlan`; `levels` has the pixels before each level too."""

    op: Array
    size: Array
    slot: Array
    valid: Array
    numbers: Array  # gain, bias, trained per step
    levels: Array  # h, w, reach (2), self reach (2), offset per level
    channels: int
    circular: bool
    weight_h: Array
    weight_w: Array
    trained: float
    bias: float


class Pixels(NamedTuple):
    """Images, the deviations of their pixels by levels, and the inverses of these."""

    data: Array
    norm: Array
    inverse: Array


class Work(NamedTuple):
    """Scratch memory of a thread; planes and rings have three parts: s, v, t."""

    left: Pixels
    one: Pixels
    right: Pixels
    s: Array
    v: Array
    t: Array
    saved_s: Array
    saved_v: Array
    saved_t: Array
    ring_s: Array
    ring_v: Array
    ring_t: Array
    sums: Array
    tangents: Array
    store: tuple[Array, Array]
    differ: Array
    total: Array  # of T, then of S


class Images(NamedTuple):
    """One side of a Gram matrix."""

    data: Array
    scale: Array
    factor: Array


# ---- displacements ------------------------------------------------------------------------------


@_compiled
def pairs_at(d: int, size: int, circular: bool) -> Any:
    """First pixel of x, first pixel of y and number of the pairs at a displacement."""
    if circular:
        return 0, d + size if d < 0 else d, size
    x = -d if d < 0 else 0
    return x, x + d, max(size - abs(d), 0)


@_compiled
def within(reach: int, size: int, circular: bool) -> Any:
    """First displacement and number of displacements of an axis."""
    if circular and 2 * reach + 1 >= size:
        return 0, size
    return -reach, 2 * reach + 1


@_compiled
def before(first: int, count: int, size: int, circular: bool) -> int:
    """Pixel pairs of the displacements before one."""
    total = 0
    for k in range(count):
        total += pairs_at(first + k, size, circular)[2]
    return total


@_compiled
def find(first: int, count: int, d: int, size: int, circular: bool) -> int:
    """Return the number of a displacement, or -1."""
    k = d - first
    if circular:
        k = k + size if k < 0 else k - size if k >= size else k
    return k if 0 <= k < count else -1


@_compiled
def wrap(i: int, size: int) -> int:
    """Go round an edge once."""
    return i + size if i < 0 else i - size if i >= size else i


@_compiled
def extent(net: Net, k: int, whole: bool) -> Any:
    """First and number of the displacements of both axes at a level, and all pairs of both."""
    h, w = net.levels[k, 0], net.levels[k, 1]
    column = 2 if whole else 4
    a, count_a = within(net.levels[k, column], h, net.circular)
    b, count_b = within(net.levels[k, column + 1], w, net.circular)
    rows = before(a, count_a, h, net.circular)
    return a, count_a, b, count_b, rows, before(b, count_b, w, net.circular)


# ---- images and deviations ----------------------------------------------------------------------


@_compiled
def put_norm(side: Pixels, at: int, square: Any) -> None:
    """Write the deviation of a pixel in a lane, given its square."""
    norm = math.sqrt(square)
    inverse = real(norm, 1) / norm
    store(side.norm, at, norm)
    store(side.inverse, at, select(inverse < real(norm, math.inf), inverse, real(norm, 0)))


@_compiled
def first_norms(net: Net, side: Pixels) -> None:
    """Deviations of the pixels of images."""
    for k in range(net.levels[0, 0] * net.levels[0, 1]):
        for lane in range(LANES):
            total = real(side.data[0], 0)
            for c in range(net.channels):
                a = load(side.data, (k * net.channels + c) * LANES + lane)
                total += a * a
            put_norm(side, k * LANES + lane, total)


@_compiled
def saved_level(net: Net, k: int) -> int:
    """Return the offset of the level that step k, an addition, adds."""
    slot = net.slot[k]
    while net.op[k] != SAVE or net.slot[k] != slot:
        k -= 1
    return int(net.levels[k, 6])


@_compiled
def next_norms(net: Net, k: int, side: Pixels) -> None:
    """Deviations after step k, which is no pool."""
    h, w, now = net.levels[k, 0], net.levels[k, 1], net.levels[k, 6]
    next_h, next_w, after = net.levels[k + 1, 0], net.levels[k + 1, 1], net.levels[k + 1, 6]
    op, q = net.op[k], net.size[k]
    start = 0 if net.valid[k] else -(q // 2)
    gain, bias = net.numbers[k, 0], net.numbers[k, 1]
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


# ---- steps on the plane of a displacement -------------------------------------------------------


@_compiled
def start_plane(net: Net, work: Work, x: Pixels, y: Pixels, di: int, dj: int) -> None:
    """Covariances of the pixels of two images."""
    h, w, channels = net.levels[0, 0], net.levels[0, 1], net.channels
    xi, yi, rows = pairs_at(di, h, net.circular)
    xj, yj, columns = pairs_at(dj, w, net.circular)
    for i in range(rows):
        for j in range(columns):
            p = (xi + i) * w + xj + j
            q = wrap(yi + i, h) * w + wrap(yj + j, w)
            at = (i * columns + j) * LANES
            for lane in range(LANES):
                dot, gap = real(x.data[0], 0), real(x.data[0], 0)
                for c in range(channels):
                    dot += load(x.data, (p * channels + c) * LANES + lane) * load(
                        y.data, (q * channels + c) * LANES + lane
                    )
                a, b = load(x.inverse, p * LANES + lane), load(y.inverse, q * LANES + lane)
                b = select(dot < real(dot, 0), -b, b)
                for c in range(channels):
                    difference = (
                        load(x.data, (p * channels + c) * LANES + lane) * a
                        - load(y.data, (q * channels + c) * LANES + lane) * b
                    )
                    gap += difference * difference
                store(work.s, at + lane, dot)
                store(work.v, at + lane, gap * real(dot, 0.5))
                store(work.t, at + lane, real(dot, 0))


@_compiled
def relu_row(
    net: Net,
    work: Work,
    x: Pixels,
    y: Pixels,
    k: int,
    di: int,
    dj: int,
    i: int,
    to: tuple[Array, Array, Array],
    first: int,
) -> None:
    """Apply step k to one row of the plane, and write it from `first` on."""
    h, w, offset = net.levels[k + 1, 0], net.levels[k + 1, 1], net.levels[k + 1, 6]
    xi, yi, _ = pairs_at(di, h, net.circular)
    xj, yj, columns = pairs_at(dj, w, net.circular)
    p, q = offset + (xi + i) * w + xj, offset + wrap(yi + i, h) * w
    to_s, to_v, to_t = to
    for j in range(columns):
        left, right = (p + j) * LANES, (q + wrap(yj + j, w)) * LANES
        at, put = (i * columns + j) * LANES, first + j * LANES
        for lane in range(LANES):
            s, v, t = load(work.s, at + lane), load(work.v, at + lane), load(work.t, at + lane)
            back = s < real(s, 0)
            far = real(s, 2) - v
            kappa0, kappa1, defect = arc_cosine(select(back, far, v), select(back, v, far))
            kappa1 = select(defect < real(s, 0.5), real(s, 1) - defect, kappa1)
            scale = load(x.norm, left + lane) * load(y.norm, right + lane)
            store(to_s, put + lane, scale * kappa1)
            store(to_v, put + lane, defect)
            store(to_t, put + lane, t * (kappa0 * real(s, 0.5)))


@_compiled
def copy_line(work: Work, source: int, to: int, size: int) -> None:
    """Copy a part of the ring."""
    for ring in (work.ring_s, work.ring_v, work.ring_t):
        for j in range(size):
            store(ring, to + j, load(ring, source + j))


@_compiled
def clear_line(work: Work, to: int, size: int) -> None:
    """Set a part of the ring to zero."""
    for ring in (work.ring_s, work.ring_v, work.ring_t):
        for j in range(size):
            store(ring, to + j, real(ring[0], 0))


@_compiled
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
    q = net.size[k]
    r = q // 2
    start = 0 if net.valid[k] else -r
    h = pairs_at(di, net.levels[k, 0], net.circular)[2]
    w = pairs_at(dj, net.levels[k, 1], net.circular)[2]
    line = at * stride
    width = w + (2 * r if start else 0)
    if net.circular and i >= h:
        copy_line(work, (q + i - h) * stride, line, width * LANES)
        return
    if not net.circular and (i < 0 or i >= h):
        clear_line(work, line, width * LANES)
        return
    source = i + h if i < 0 else i
    inner = line - start * LANES
    if relu:
        ring = (work.ring_s, work.ring_v, work.ring_t)
        relu_row(net, work, x, y, k - 1, di, dj, source, ring, inner)
    else:
        for j in range(w * LANES):
            store(work.ring_s, inner + j, load(work.s, source * w * LANES + j))
            store(work.ring_v, inner + j, load(work.v, source * w * LANES + j))
            store(work.ring_t, inner + j, load(work.t, source * w * LANES + j))
    margin = -start * LANES
    if net.circular:
        copy_line(work, inner + w * LANES - margin, line, margin)
        copy_line(work, inner, inner + w * LANES, margin)
        if 0 <= i < r:
            copy_line(work, line, (q + i) * stride, width * LANES)
    else:
        clear_line(work, line, margin)
        clear_line(work, inner + w * LANES, margin)


@_compiled
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
    start = 0 if net.valid[k] else -(q // 2)
    back = s < zero
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
            v = load(work.ring_v, place)
            same = (load(work.ring_s, place) < zero) == back
            inner += n * m * (v if same else two - v)
    gain, bias = net.numbers[k, 0], net.numbers[k, 1]
    apart = inverse_x - inverse_y
    v = gain * (inner + half * gap) + half * bias * apart * apart
    return v + two * bias * inverse_x * inverse_y if back else v


@_compiled
def sum_row(
    net: Net, work: Work, x: Pixels, y: Pixels, k: int, di: int, dj: int, i: int, stride: int
) -> None:
    """Sum the windows of row i of the result of step k."""
    q = net.size[k]
    h, w, offset = net.levels[k + 1, 0], net.levels[k + 1, 1], net.levels[k + 1, 6]
    xi, yi, _ = pairs_at(di, h, net.circular)
    xj, yj, columns = pairs_at(dj, w, net.circular)
    sums, tangents = work.sums, work.tangents
    for j in range((columns + q - 1) * LANES):
        store(sums, j, load(work.ring_s, j))
        store(tangents, j, load(work.ring_t, j))
    for a in range(1, q):
        for j in range((columns + q - 1) * LANES):
            store(sums, j, load(sums, j) + load(work.ring_s, a * stride + j))
            store(tangents, j, load(tangents, j) + load(work.ring_t, a * stride + j))
    gain, bias, trained = net.numbers[k, 0], net.numbers[k, 1], net.numbers[k, 2]
    for j in range(columns):
        row, other, column = xi + i, wrap(yi + i, h), wrap(yj + j, w)
        left, right = (offset + row * w + xj + j) * LANES, (offset + other * w + column) * LANES
        at, least = (i * columns + j) * LANES, real(gain, 1)
        for lane in range(LANES):
            s, t = load(sums, j * LANES + lane), load(tangents, j * LANES + lane)
            for b in range(1, q):
                s += load(sums, (j + b) * LANES + lane)
                t += load(tangents, (j + b) * LANES + lane)
            s = gain * s + bias
            scale = load(x.inverse, left + lane) * load(y.inverse, right + lane)
            v = real(s, 1) - abs(s) * scale
            v = select(v > real(s, 0), v, real(s, 0))
            least = select(v < least, v, least)
            store(work.s, at + lane, s)
            store(work.v, at + lane, v)
            store(work.t, at + lane, gain * t + trained * s)
        if least < real(gain, CLOSE):
            for lane in range(LANES):
                if load(work.v, at + lane) < real(gain, CLOSE):
                    better = accurate(
                        net,
                        work,
                        x,
                        y,
                        k,
                        (row, xj + j),
                        (other, column),
                        (i, j),
                        stride,
                        lane,
                        load(work.s, at + lane),
                        load(x.inverse, left + lane),
                        load(y.inverse, right + lane),
                    )
                    store(work.v, at + lane, better)


@_compiled
def convolve(
    net: Net, work: Work, x: Pixels, y: Pixels, k: int, relu: bool, di: int, dj: int
) -> None:
    """Apply step k, a convolution, together with the ReLU before it if there is one."""
    q = net.size[k]
    start = 0 if net.valid[k] else -(q // 2)
    rows = pairs_at(di, net.levels[k + 1, 0], net.circular)[2]
    columns = pairs_at(dj, net.levels[k + 1, 1], net.circular)[2]
    if rows == 0 or columns == 0:
        return
    stride = (columns + q - 1) * LANES
    for t in range(rows + q - 1):
        take_row(net, work, x, y, k, relu, di, dj, start + t, t % q, stride)
        if t >= q - 1:
            sum_row(net, work, x, y, k, di, dj, t - q + 1, stride)


@_compiled
def save_plane(net: Net, work: Work, k: int, di: int, dj: int) -> None:
    """Keep the plane in a slot."""
    rows = pairs_at(di, net.levels[k, 0], net.circular)[2]
    columns = pairs_at(dj, net.levels[k, 1], net.circular)[2]
    first = net.slot[k] * (len(work.saved_s) // SLOTS)
    for j in range(rows * columns * LANES):
        store(work.saved_s, first + j, load(work.s, j))
        store(work.saved_v, first + j, load(work.v, j))
        store(work.saved_t, first + j, load(work.t, j))


@_compiled
def share(n: Any, m: Any, s: Any, v: Any, back: bool) -> Any:
    """1 - |u| of a sum: what one of its parts adds."""
    v = select((s < real(s, 0)) == back, v, real(s, 2) - v)
    return n * m * v + real(s, 0.5) * (n - m) * (n - m)


@_compiled
def add_plane(net: Net, work: Work, x: Pixels, y: Pixels, k: int, di: int, dj: int) -> None:
    """Add what is in a slot."""
    h, w = net.levels[k, 0], net.levels[k, 1]
    xi, yi, rows = pairs_at(di, h, net.circular)
    xj, yj, columns = pairs_at(dj, w, net.circular)
    first = net.slot[k] * (len(work.saved_s) // SLOTS)
    here, now, saved = net.levels[k + 1, 6], net.levels[k, 6], saved_level(net, k)
    for i in range(rows):
        for j in range(columns):
            p = (xi + i) * w + xj + j
            o = wrap(yi + i, h) * w + wrap(yj + j, w)
            at = (i * columns + j) * LANES
            for lane in range(LANES):
                inverse_x = load(x.inverse, (here + p) * LANES + lane)
                inverse_y = load(y.inverse, (here + o) * LANES + lane)
                s1, s2 = load(work.s, at + lane), load(work.saved_s, first + at + lane)
                back = s1 + s2 < real(s1, 0)
                v = share(
                    load(x.norm, (now + p) * LANES + lane) * inverse_x,
                    load(y.norm, (now + o) * LANES + lane) * inverse_y,
                    s1,
                    load(work.v, at + lane),
                    back,
                ) + share(
                    load(x.norm, (saved + p) * LANES + lane) * inverse_x,
                    load(y.norm, (saved + o) * LANES + lane) * inverse_y,
                    s2,
                    load(work.saved_v, first + at + lane),
                    back,
                )
                store(work.s, at + lane, s1 + s2)
                store(work.v, at + lane, v)
                t = load(work.t, at + lane) + load(work.saved_t, first + at + lane)
                store(work.t, at + lane, t)


# ---- from plane to plane ------------------------------------------------------------------------


@_compiled
def plane_at(net: Net, k: int, whole: bool, a: int, b: int) -> int:
    """Return where the plane of the displacements number a and b begins."""
    first_a, _, first_b, _, _, columns = extent(net, k, whole)
    h, w = net.levels[k, 0], net.levels[k, 1]
    height = pairs_at(first_a + a, h, net.circular)[2]
    above = before(first_a, a, h, net.circular) * columns
    return int(above + height * before(first_b, b, w, net.circular))


@_compiled
def pool_plane(net: Net, work: Work, k: int, whole: bool, di: int, dj: int, to: Array) -> None:
    """Add the plane to those of the level after step k, a pool."""
    h, w, block = net.levels[k, 0], net.levels[k, 1], net.size[k]
    next_h, next_w = net.levels[k + 1, 0], net.levels[k + 1, 1]
    xi, yi, rows = pairs_at(di, h, net.circular)
    xj, yj, columns = pairs_at(dj, w, net.circular)
    first_a, count_a, first_b, count_b, all_rows, all_columns = extent(net, k + 1, whole)
    half = all_rows * all_columns * LANES
    part = real(to[0], 1) / real(to[0], block**4)
    for i in range(rows):
        xr, yr = (xi + i) // block, wrap(yi + i, h) // block
        a = find(first_a, count_a, yr - xr, next_h, net.circular)
        for j in range(columns):
            xc, yc = (xj + j) // block, wrap(yj + j, w) // block
            b = find(first_b, count_b, yc - xc, next_w, net.circular)
            if a < 0 or b < 0:
                continue
            x0 = pairs_at(first_a + a, next_h, net.circular)[0]
            y0, _, length = pairs_at(first_b + b, next_w, net.circular)
            place = plane_at(net, k + 1, whole, a, b) + (xr - x0) * length + xc - y0
            put, at = place * LANES, (i * columns + j) * LANES
            for lane in range(LANES):
                s, t = load(work.s, at + lane), load(work.t, at + lane)
                store(to, put + lane, load(to, put + lane) + part * s)
                store(to, half + put + lane, load(to, half + put + lane) + part * t)


@_compiled
def fetch_plane(
    net: Net, work: Work, x: Pixels, y: Pixels, k: int, whole: bool, a: int, b: int, sums: Array
) -> None:
    """Read the plane at a level after a pool."""
    h, w, offset = net.levels[k, 0], net.levels[k, 1], net.levels[k, 6]
    first_a, _, first_b, _, all_rows, all_columns = extent(net, k, whole)
    di, dj = first_a + a, first_b + b
    xi, yi, rows = pairs_at(di, h, net.circular)
    xj, yj, columns = pairs_at(dj, w, net.circular)
    start = plane_at(net, k, whole, a, b) * LANES
    half = all_rows * all_columns * LANES
    for i in range(rows):
        for j in range(columns):
            p = (offset + (xi + i) * w + xj + j) * LANES
            o = (offset + wrap(yi + i, h) * w + wrap(yj + j, w)) * LANES
            at = (i * columns + j) * LANES
            for lane in range(LANES):
                s = load(sums, start + at + lane)
                scale = load(x.inverse, p + lane) * load(y.inverse, o + lane)
                v = real(s, 1) - abs(s) * scale
                v = select(v > real(s, 0), v, real(s, 0))
                if di == 0 and dj == 0:
                    v *= load(work.differ, lane)
                store(work.s, at + lane, s)
                store(work.v, at + lane, v)
                store(work.t, at + lane, load(sums, half + start + at + lane))


@_compiled
def read_plane(net: Net, work: Work, di: int, dj: int, factor: float) -> None:
    """Add the weighted sums of T and S over the plane to the totals."""
    k = len(net.op)
    h, w = net.levels[k, 0], net.levels[k, 1]
    xi, yi, rows = pairs_at(di, h, net.circular)
    xj, yj, columns = pairs_at(dj, w, net.circular)
    sums, tangents = work.sums, work.tangents
    for i in range(rows):
        for lane in range(LANES):
            store(sums, lane, real(sums[0], 0))
            store(tangents, lane, real(sums[0], 0))
        for j in range(columns):
            weight = net.weight_w[xj + j, wrap(yj + j, w)]
            at = (i * columns + j) * LANES
            for lane in range(LANES):
                store(sums, lane, load(sums, lane) + weight * load(work.s, at + lane))
                store(tangents, lane, load(tangents, lane) + weight * load(work.t, at + lane))
        weight = net.weight_h[xi + i, wrap(yi + i, h)]
        for lane in range(LANES):
            work.total[lane] += factor * (weight * tangents[lane])
            work.total[LANES + lane] += factor * (weight * sums[lane])


@_compiled
def run_steps(
    net: Net, work: Work, x: Pixels, y: Pixels, k: int, end: int, di: int, dj: int
) -> None:
    """Apply the steps from k to before `end` to a plane."""
    while k < end:
        op = net.op[k]
        if op == RELU and (k + 1 == end or net.op[k + 1] != CONV):
            h = pairs_at(di, net.levels[k, 0], net.circular)[2]
            w = pairs_at(dj, net.levels[k, 1], net.circular)[2]
            for i in range(h):
                to = (work.s, work.v, work.t)
                relu_row(net, work, x, y, k, di, dj, i, to, i * w * LANES)
        elif op == RELU or op == CONV:
            relu = op == RELU
            k += 1 if relu else 0
            convolve(net, work, x, y, k, relu, di, dj)
        elif op == SAVE:
            save_plane(net, work, k, di, dj)
        else:
            add_plane(net, work, x, y, k, di, dj)
        k += 1


@_compiled
def next_pool(net: Net, k: int) -> int:
    """Return the number of the next pool, or of steps."""
    while k < len(net.op) and net.op[k] != POOL:
        k += 1
    return k


@_compiled
def multiplicity(net: Net, k: int, a: int, b: int) -> int:
    """Return how often a displacement of an image and itself counts, of it and its opposite."""
    first_a, count_a, first_b, count_b, _, _ = extent(net, k, True)
    other = find(first_a, count_a, -(first_a + a), net.levels[k, 0], net.circular) * count_b
    other += find(first_b, count_b, -(first_b + b), net.levels[k, 1], net.circular)
    own = a * count_b + b
    return 2 if own < other else 1 if own == other else 0


@_cached
def run_pair(
    net: Net, work: Work, x: Pixels, y: Pixels, own: bool, whole: bool, cancelled: Array
) -> None:
    """Apply all steps to all planes; `own`, `whole`: see the C++ engine."""
    count = len(net.op)
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
                    start_plane(net, work, x, y, di, dj)
                else:
                    fetch_plane(net, work, x, y, k, whole, a, b, source)
                run_steps(net, work, x, y, k, end, di, dj)
                if end < count:
                    pool_plane(net, work, end, whole, di, dj, to)
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


# ---- what tasks call ----------------------------------------------------------------------------


@_cached
def read_images(net: Net, work: Work, side: Pixels, x: Images, first: int, last: int) -> None:
    """Read images into the lanes of a side, the last one repeatedly; `run_pair` does the rest."""
    size = net.levels[0, 0] * net.levels[0, 1] * net.channels
    for lane in range(LANES):
        i = min(first + lane, last - 1)
        for k in range(size):
            side.data[k * LANES + lane] = x.data[i, k] * x.scale[i]
    first_norms(net, side)
    work.differ[:] = 0


@_cached
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
