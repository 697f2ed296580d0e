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
CONV, RELU, POOL, SAVE, ADD = map(int, ImageOperation)


class Net(NamedTuple):
    """A network: see `engines.maps.ImagePlan`; `levels` has the pixels before each level too."""

    op: Array
    size: Array
    slot: Array
    valid: Array
    gain: Array
    bias: Array
    trained: Array
    levels: Array  # h, w, reach (2), self reach (2), offset per level
    channels: int
    circular: bool
    weight_h: Array
    weight_w: Array


class Pixels(NamedTuple):
    """Images, the deviations of their pixels by levels, and the inverses of these."""

    data: Array
    norm: Array
    inverse: Array


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
    saved: Planes  # by slots
    ring: Planes  # rows of windows
    sums: Array
    tangents: Array
    store: tuple[Array, Array]
    differ: Array
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


@compiled
def pairs_at(d: int, size: int, circular: bool) -> Any:
    """First pixel of x, first pixel of y and number of the pairs at a displacement."""
    if circular:
        return 0, d + size if d < 0 else d, size
    x = -d if d < 0 else 0
    return x, x + d, max(size - abs(d), 0)


@compiled
def within(reach: int, size: int, circular: bool) -> Any:
    """First displacement and number of displacements of an axis."""
    if circular and 2 * reach + 1 >= size:
        return 0, size
    return -reach, 2 * reach + 1


@compiled
def before(first: int, count: int, size: int, circular: bool) -> int:
    """Pixel pairs of the displacements before one."""
    total = 0
    for k in range(count):
        total += pairs_at(first + k, size, circular)[2]
    return total


@compiled
def find(first: int, count: int, d: int, size: int, circular: bool) -> int:
    """Return the number of a displacement, or -1."""
    k = d - first
    if circular:
        k = k + size if k < 0 else k - size if k >= size else k
    return k if 0 <= k < count else -1


@compiled
def wrap(i: int, size: int) -> int:
    """Go round an edge once."""
    return i + size if i < 0 else i - size if i >= size else i


# ---- levels -------------------------------------------------------------------------------------


@compiled
def extent(net: Net, k: int, whole: bool) -> Any:
    """First and number of the displacements of both axes at a level, and all pairs of both."""
    h, w = net.levels[k, 0], net.levels[k, 1]
    column = 2 if whole else 4
    a, count_a = within(net.levels[k, column], h, net.circular)
    b, count_b = within(net.levels[k, column + 1], w, net.circular)
    rows = before(a, count_a, h, net.circular)
    return a, count_a, b, count_b, rows, before(b, count_b, w, net.circular)


@compiled
def frame(net: Net, k: int, di: int, dj: int) -> Frame:
    """Return the pixel pairs of a displacement at a level."""
    h, w = net.levels[k, 0], net.levels[k, 1]
    xi, yi, rows = pairs_at(di, h, net.circular)
    xj, yj, columns = pairs_at(dj, w, net.circular)
    return Frame(h, w, xi, yi, rows, xj, yj, columns)


@compiled
def pixels(f: Frame, i: int, j: int) -> Any:
    """Return the pixels of x and y of the pair in row i and column j of a plane."""
    return (f.xi + i) * f.w + f.xj + j, wrap(f.yi + i, f.h) * f.w + wrap(f.yj + j, f.w)


@compiled
def window_start(net: Net, k: int) -> int:
    """Return where the windows of step k begin, from their pixel."""
    return 0 if net.valid[k] else -(net.size[k] // 2)


@compiled
def saved_level(net: Net, k: int) -> int:
    """Return the offset of the level that step k, an addition, adds."""
    slot = net.slot[k]
    while net.op[k] != SAVE or net.slot[k] != slot:
        k -= 1
    return int(net.levels[k, 6])


@compiled
def next_pool(net: Net, k: int) -> int:
    """Return the number of the next pool, or of steps."""
    while k < len(net.op) and net.op[k] != POOL:
        k += 1
    return k


@compiled
def plane_at(net: Net, k: int, whole: bool, a: int, b: int) -> int:
    """Return where the plane of the displacements number a and b begins."""
    first_a, _, first_b, _, _, columns = extent(net, k, whole)
    h, w = net.levels[k, 0], net.levels[k, 1]
    height = pairs_at(first_a + a, h, net.circular)[2]
    above = before(first_a, a, h, net.circular) * columns
    return int(above + height * before(first_b, b, w, net.circular))


@compiled
def multiplicity(net: Net, k: int, a: int, b: int) -> int:
    """Return how often a displacement of an image and itself counts, of it and its opposite."""
    first_a, count_a, first_b, count_b, _, _ = extent(net, k, True)
    other = find(first_a, count_a, -(first_a + a), net.levels[k, 0], net.circular) * count_b
    other += find(first_b, count_b, -(first_b + b), net.levels[k, 1], net.circular)
    own = a * count_b + b
    return 2 if own < other else 1 if own == other else 0


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
def slot_at(net: Net, saved: Planes, k: int) -> int:
    """Return where the slot of step k begins."""
    return int(net.slot[k] * (len(saved.s) // SLOTS))
