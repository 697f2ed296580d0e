"""Steps on the pixel pairs of a plane that look at one pair at a time; mirrors image_pairs.hpp."""

from __future__ import annotations

from typing import Any

from ntkfast.engines.numba.compiling import compiled
from ntkfast.engines.numba.cpu.image.geometry import (
    LANES,
    OFFSET,
    Pair,
    Planes,
    frame,
    pixels,
    put,
    saved_level,
    slot_at,
)
from ntkfast.engines.numba.formulas.arccos import arc_cosine
from ntkfast.engines.numba.formulas.simd import load, product, real, select, store


@compiled
def defect(s: Any, scale: Any) -> Any:
    """1 - |u| of a covariance and the product of inverse deviations: right up to rounding."""
    v = real(s, 1) - abs(s) * scale
    return select(v > real(s, 0), v, real(s, 0))


@compiled
def start_plane(pair: Pair, di: int, dj: int) -> None:
    """Covariances of the pixels of two images."""
    x, y, channels, f = pair.x, pair.y, pair.net.channels, frame(pair.net, 0, di, dj)
    for i in range(f.rows):
        for j in range(f.columns):
            p, q = pixels(f, i, j)
            at = (i * f.columns + j) * LANES
            for lane in range(LANES):
                dot, gap = real(x.data[0], 0), real(x.data[0], 0)
                for c in range(channels):
                    dot += load(x.data, (p * channels + c) * LANES + lane) * load(
                        y.data, (q * channels + c) * LANES + lane
                    )
                a, b = load(x.inverse, p * LANES + lane), load(y.inverse, q * LANES + lane)
                back = dot < real(dot, 0)
                for c in range(channels):
                    one = load(x.data, (p * channels + c) * LANES + lane)
                    other = load(y.data, (q * channels + c) * LANES + lane)
                    differ = product(one, a) - product(select(back, -other, other), b)
                    gap += differ * differ
                put(pair.work.plane, at + lane, dot, gap * real(dot, 0.5), real(dot, 0))


@compiled
def relu_row(
    pair: Pair, plane: Planes, k: int, di: int, dj: int, i: int, to: Planes, first: int
) -> None:
    """Apply step k to one row of a plane, and write it from `first` on."""
    x, y, offset = pair.x, pair.y, pair.net.levels[k + 1, OFFSET]
    f = frame(pair.net, k + 1, di, dj)
    for j in range(f.columns):
        p, q = pixels(f, i, j)
        left, right = (offset + p) * LANES, (offset + q) * LANES
        at, put_at = (i * f.columns + j) * LANES, first + j * LANES
        for lane in range(LANES):
            s, v, t = load(plane.s, at + lane), load(plane.v, at + lane), load(plane.t, at + lane)
            back = s < real(s, 0)
            far = real(s, 2) - v
            kappa0, _, kappa1, w = arc_cosine(select(back, far, v), select(back, v, far))
            kappa1 = select(w < real(s, 0.5), real(s, 1) - w, kappa1)
            scale = load(x.norm, left + lane) * load(y.norm, right + lane)
            put(to, put_at + lane, scale * kappa1, w, t * (kappa0 * real(s, 0.5)))


@compiled
def share(n: Any, inverse_x: Any, m: Any, inverse_y: Any, s: Any, v: Any, back: bool) -> Any:
    """1 - |u| of a sum: what one of its parts adds."""
    v = select((s < real(s, 0)) == back, v, real(s, 2) - v)
    n, m = product(n, inverse_x), product(m, inverse_y)
    return n * m * v + real(s, 0.5) * (n - m) * (n - m)


@compiled
def add_plane(pair: Pair, k: int, di: int, dj: int) -> None:
    """Add what is in a slot."""
    net, x, y, plane, slot = pair.net, pair.x, pair.y, pair.work.plane, pair.work.saved
    first = slot_at(net, slot, k)
    here, now, saved = net.levels[k + 1, OFFSET], net.levels[k, OFFSET], saved_level(net, k)
    f = frame(net, k, di, dj)
    for i in range(f.rows):
        for j in range(f.columns):
            p, o = pixels(f, i, j)
            at = (i * f.columns + j) * LANES
            for lane in range(LANES):
                inverse_x = load(x.inverse, (here + p) * LANES + lane)
                inverse_y = load(y.inverse, (here + o) * LANES + lane)
                s1, s2 = load(plane.s, at + lane), load(slot.s, first + at + lane)
                back = s1 + s2 < real(s1, 0)
                v = share(
                    load(x.norm, (now + p) * LANES + lane),
                    inverse_x,
                    load(y.norm, (now + o) * LANES + lane),
                    inverse_y,
                    s1,
                    load(plane.v, at + lane),
                    back,
                ) + share(
                    load(x.norm, (saved + p) * LANES + lane),
                    inverse_x,
                    load(y.norm, (saved + o) * LANES + lane),
                    inverse_y,
                    s2,
                    load(slot.v, first + at + lane),
                    back,
                )
                t = load(plane.t, at + lane) + load(slot.t, first + at + lane)
                put(plane, at + lane, s1 + s2, v, t)


@compiled
def multiply_plane(pair: Pair, k: int, di: int, dj: int) -> None:
    """Multiply by what is in a slot."""
    plane, slot, first = pair.work.plane, pair.work.saved, slot_at(pair.net, pair.work.saved, k)
    f = frame(pair.net, k, di, dj)
    for at in range(f.rows * f.columns * LANES):
        s, v, t = load(plane.s, at), load(plane.v, at), load(plane.t, at)
        s_, v_, t_ = (
            load(slot.s, first + at),
            load(slot.v, first + at),
            load(slot.t, first + at),
        )
        put(plane, at, s * s_, v * (real(s, 1) - v_) + v_, t * s_ + s * t_)


@compiled
def normalize_plane(pair: Pair, k: int, di: int, dj: int) -> None:
    """Divide by deviations."""
    net, x, y, plane = pair.net, pair.x, pair.y, pair.work.plane
    now, after, f = net.levels[k, OFFSET], net.levels[k + 1, OFFSET], frame(net, k, di, dj)
    for i in range(f.rows):
        for j in range(f.columns):
            p, q = pixels(f, i, j)
            at = (i * f.columns + j) * LANES
            for lane in range(LANES):
                scale = load(x.norm, (after + p) * LANES + lane)
                scale *= load(x.inverse, (now + p) * LANES + lane)
                scale *= load(y.norm, (after + q) * LANES + lane)
                scale *= load(y.inverse, (now + q) * LANES + lane)
                store(plane.s, at + lane, scale * load(plane.s, at + lane))
                store(plane.t, at + lane, scale * load(plane.t, at + lane))
