"""Levels of a network of images, and the pixel pairs of a displacement; mirrors image_pairs.hpp.

All pairs of a pixel p of x and the pixel p + d of y form one plane. All arrays are flat, with
`LANES` images side by side for every number; an image of x stands in all of its lanes.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from ntkfast.engines.codes import SLOTS, ImageOperation
from ntkfast.engines.numba.compiling import compiled
from ntkfast.engines.numba.formulas.simd import load, store
from ntkfast.engines.numba.problem import Array

LANES = 16
CONV, RELU, POOL, SAVE, ADD, SWAP, ACTIVATE, NORMALIZE, MULTIPLY = map(int, ImageOperation)
OFFSET, NUMBERS = 8, 9  # columns of `levels` behind those of LEVEL


class Net(NamedTuple):
    """A network: see `engines.maps.ImagePlan`."""

    op: Array
    slot: Array
    window: Array  # (steps, 2), like the next two
    stride: Array
    before: Array
    whole: Array
    layers: Array  # of LAYER_ROW, the activations of the steps
    per_pixel: Array  # numbers of the activations
    gain: Array
    bias: Array
    trained: Array
    levels: Array  # LEVEL, then the pixels before and the numbers before
    channels: int
    circular: bool
    weight_h: Array
    weight_w: Array


class Pixels(NamedTuple):
    """Images, the deviations of their pixels by levels, the inverses, numbers of activations."""

    data: Array
    norm: Array
    inverse: Array
    numbers: Array


class Planes(NamedTuple):
    """Covariance, 1 - |u| and tangent kernel of pixel pairs."""

    s: Array
    v: Array
    t: Array


class Work(NamedTuple):
    """Scratch memory of a thread."""

    left: Pixels
    one: Pixels
    right: Pixels
    plane: Planes
    spare: Planes
    saved: Planes  # by slots
    ring: Planes  # rows of windows
    sums: Array
    tangents: Array
    store: tuple[Array, Array]
    differ: Array
    columns: Array  # of pairs: their numbers for one activation
    rows: Array
    state: Array  # of pairs on their way through an activation
    total: Array  # of T, then of S


class Pair(NamedTuple):
    """Images of x and y, and what their pixel pairs are computed with."""

    net: Net
    work: Work
    x: Pixels
    y: Pixels


class Frame(NamedTuple):
    """The pixel pairs of a displacement: first pixels of x and y, and numbers, of both axes."""

    h: int
    w: int
    xi: int
    yi: int
    rows: int
    xj: int
    yj: int
    columns: int


# ---- axes ---------------------------------------------------------------------------------------


class Axis(NamedTuple):
    """The displacements of an axis at a level: multiples of a scale, the first one and how many."""

    first: int
    number: int
    scale: int
    size: int
    circular: bool


@compiled
def pairs_at(d: int, size: int, circular: bool) -> Any:
    """First pixel of x, first pixel of y and number of the pairs at a displacement."""
    if circular:
        return 0, d + size if d < 0 else d, size
    x = -d if d < 0 else 0
    return x, x + d, max(size - abs(d), 0)


@compiled
def axis_of(net: Net, k: int, whole: bool, axis: int, kept: bool) -> Axis:
    """Return the displacements that planes begin with, or those of them that leave pairs."""
    size, scale = net.levels[k, axis], net.levels[k, 6 + axis]
    reach = net.levels[k, 2 + axis] if whole else net.levels[k, 4 + axis]
    if net.circular and 2 * reach + 1 >= size // scale:
        return Axis(0, size // scale, scale, size, True)
    if kept and not net.circular:
        reach = min(reach, (size - 1) // scale)
    return Axis(-reach, 2 * reach + 1, scale, size, net.circular)


@compiled
def opposite(axis: Axis, k: int) -> int:
    """Return the number of the opposite displacement."""
    if axis.first < 0:
        return int(axis.number - 1 - k)
    return int(axis.number - k) if k > 0 else 0


@compiled
def before(axis: Axis, count: int) -> int:
    """Pixel pairs of the displacements before one."""
    total = 0
    for k in range(count):
        total += pairs_at((axis.first + k) * axis.scale, axis.size, axis.circular)[2]
    return total


@compiled
def find(axis: Axis, d: int) -> int:
    """Return the number of a displacement in pixels, or -1."""
    if axis.circular and d < 0:
        d += axis.size
    if d % axis.scale:
        return -1
    k = d // axis.scale - axis.first
    if axis.circular and k * axis.scale >= axis.size:
        k -= axis.size // axis.scale
    return k if 0 <= k < axis.number else -1


@compiled
def wrap(i: int, size: int) -> int:
    """Go round an edge once."""
    return i + size if i < 0 else i - size if i >= size else i


# ---- levels -------------------------------------------------------------------------------------


@compiled
def store_of(net: Net, k: int, whole: bool) -> Any:
    """Return the kept displacements of both axes at a level."""
    return axis_of(net, k, whole, 0, True), axis_of(net, k, whole, 1, True)


@compiled
def store_size(rows: Axis, columns: Axis) -> int:
    """Return the number of all pairs that are kept."""
    return before(rows, rows.number) * before(columns, columns.number)


@compiled
def frame(net: Net, k: int, di: int, dj: int) -> Frame:
    """Return the pixel pairs of a displacement at a level."""
    h, w = net.levels[k, 0], net.levels[k, 1]
    xi, yi, rows = pairs_at(di * net.levels[k, 6], h, net.circular)
    xj, yj, columns = pairs_at(dj * net.levels[k, 7], w, net.circular)
    return Frame(h, w, xi, yi, rows, xj, yj, columns)


@compiled
def pixels(f: Frame, i: int, j: int) -> Any:
    """Return the pixels of x and y of the pair in row i and column j of a plane."""
    return (f.xi + i) * f.w + f.xj + j, wrap(f.yi + i, f.h) * f.w + wrap(f.yj + j, f.w)


@compiled
def window_at(net: Net, k: int, axis: int, i: int) -> int:
    """Return where window i of step k begins."""
    return int(i * net.stride[k, axis] - net.before[k, axis])


@compiled
def windows_with(net: Net, k: int, axis: int, pixel: int) -> Any:
    """First window of step k, a pool, that holds a pixel, and the one behind the last."""
    at, window, stride = pixel + net.before[k, axis], net.window[k, axis], net.stride[k, axis]
    first = 0 if at < window else (at - window) // stride + 1
    return first, min(at // stride + 1, net.levels[k + 1, axis])


@compiled
def saved_level(net: Net, k: int) -> int:
    """Return the offset of the level of what step k finds in its slot."""
    slot = net.slot[k]
    k -= 1
    while (net.op[k] != SAVE and net.op[k] != SWAP) or net.slot[k] != slot:
        k -= 1
    return int(net.levels[k, OFFSET])


@compiled
def next_pool(net: Net, k: int) -> int:
    """Return the number of the next pool, or of steps."""
    while k < len(net.op) and net.op[k] != POOL:
        k += 1
    return k


@compiled
def plane_at(rows: Axis, columns: Axis, a: int, b: int) -> int:
    """Return where the plane of the displacements number a and b begins."""
    height = pairs_at((rows.first + a) * rows.scale, rows.size, rows.circular)[2]
    above = before(rows, a) * before(columns, columns.number)
    return int(above + height * before(columns, b))


# ---- planes -------------------------------------------------------------------------------------


@compiled
def put(planes: Planes, at: int, s: Any, v: Any, t: Any) -> None:
    """Store a pair of pixels."""
    store(planes.s, at, s)
    store(planes.v, at, v)
    store(planes.t, at, t)


@compiled
def copy(source: Array, at: int, to: Array, first: int, size: int) -> None:
    """Copy numbers, the first one first."""
    for j in range(size):
        store(to, first + j, load(source, at + j))


@compiled
def copy_planes(source: Planes, at: int, to: Planes, first: int, size: int) -> None:
    """Copy pairs of pixels."""
    copy(source.s, at, to.s, first, size)
    copy(source.v, at, to.v, first, size)
    copy(source.t, at, to.t, first, size)


@compiled
def swap_planes(one: Planes, other: Planes, at: int, size: int) -> None:
    """Exchange pairs of pixels with those from a place on."""
    for first, second in ((one.s, other.s), (one.v, other.v), (one.t, other.t)):
        for j in range(size):
            kept = load(first, j)
            store(first, j, load(second, at + j))
            store(second, at + j, kept)


@compiled
def slot_at(net: Net, saved: Planes, k: int) -> int:
    """Return where the slot of step k begins."""
    return int(net.slot[k] * (len(saved.s) // SLOTS))
