"""Activations other than ReLU on the pixel pairs of a plane; mirrors `activated` of the header.

The formulas are those of dense layers, on the last lanes of a row of pairs.
"""

from __future__ import annotations

from ntkfast.engines.numba.compiling import compiled
from ntkfast.engines.numba.cpu.image.geometry import LANES, NUMBERS, OFFSET, Pair, frame, pixels
from ntkfast.engines.numba.formulas.activation import activate
from ntkfast.engines.numba.formulas.simd import load, real, select, store
from ntkfast.engines.numba.problem import ROWS, WIDTH


@compiled
def activate_plane(pair: Pair, k: int, di: int, dj: int, own: bool) -> None:
    """Apply step k. `own`: the lanes of x are images too, so that lanes are taken one by one."""
    f = frame(pair.net, k, di, dj)
    for i in range(f.rows):
        for j in range(f.columns):
            p, q = pixels(f, i, j)
            at = (i * f.columns + j) * LANES
            if own:
                for lane in range(LANES):
                    activate_lanes(pair, k, p, q, at, lane, 1)
            else:
                activate_lanes(pair, k, p, q, at, 0, LANES)


@compiled
def activate_lanes(pair: Pair, k: int, p: int, q: int, at: int, lane: int, count: int) -> None:
    """Apply step k to `count` lanes of a pair of pixels from `lane` on."""
    net, work, x, y = pair.net, pair.work, pair.x, pair.y
    plane, rows, columns, state = work.plane, work.rows, work.columns, work.state
    numbers, first = net.per_pixel[k], net.levels[k, NUMBERS]
    start = WIDTH - count
    for number in range(numbers):  # not by `store`: the formulas read them by `fetch`
        rows[number * ROWS] = x.numbers[(first + p * numbers + number) * LANES + lane]
        for c in range(count):
            value = y.numbers[(first + q * numbers + number) * LANES + lane + c]
            columns[number * WIDTH + start + c] = value
    for c in range(count):
        s, v = load(plane.s, at + lane + c), load(plane.v, at + lane + c)
        back, far = s < real(s, 0), real(s, 2) - v
        store(state, start + c, select(back, far, v))
        store(state, WIDTH + start + c, select(back, v, far))
        store(state, 2 * WIDTH + start + c, load(plane.t, at + lane + c))
    activate(net.layers, k, rows, 0, columns, 0, state, start)
    after = net.levels[k + 1, OFFSET]
    last = numbers - 1
    for c in range(count):
        w, co, t = (
            load(state, start + c),
            load(state, WIDTH + start + c),
            load(state, 2 * WIDTH + start + c),
        )
        front, one = w < co, real(w, 1)
        size = load(x.norm, (after + p) * LANES + lane + c)
        size *= load(y.norm, (after + q) * LANES + lane + c)
        store(plane.s, at + lane + c, size * select(front, one - w, co - one))
        store(plane.v, at + lane + c, select(front, w, co))
        slope = rows[last * ROWS] * columns[last * WIDTH + start + c]
        store(plane.t, at + lane + c, t * slope)
