"""Gradients of convolutional kernels by the pixels of an image, in NumPy.

A window keeps the displacement of a pair of pixels, so that pairs of images are walked one
displacement (a plane) at a time, forth and back, as in csrc/formulas/image_walk.hpp. Pools join
planes: what lies behind a pool is kept, and planes before it are walked a second time.

A pair of pixels is carried as its covariance S, its tangent kernel T and v = 1 - |u|, u the cosine,
from small quantities where it is small: see csrc/formulas/pixel_pairs.hpp. Back go derivatives by
S, by T, and by the variances of the first image, whose way from the pixels is differentiated once.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ntkfast.activations import resolve
from ntkfast.engines.codes import ImageOperation
from ntkfast.engines.maps import ImagePlan
from ntkfast.kernels.sequence_slopes import PARALLEL, told_apart

Doubles = NDArray[np.float64]
Shift = tuple[int, int]  # displacement of the pixels of a pair
CLOSE = 0.01  # v below which it is summed from small quantities
POOLED = 64 * float(np.finfo(np.float64).eps)  # the rounding of v behind a pool, a difference there
CONV, RELU_STEP, POOL, SAVE, ADD, *_ = ImageOperation
RELU: Any = resolve("relu")


class Pair(NamedTuple):
    """The pairs of pixels of one displacement, (pairs of images, rows, columns)."""

    s: Doubles
    v: Doubles
    t: Doubles


class Images(NamedTuple):
    """Images with the variances of their pixels before each step and after the last.

    Attributes
    ----------
    data : (n, channels, height, width) array
    q : list of (n, height, width) arrays
    """

    data: Doubles
    q: list[Doubles]

    def part(self, which: Any) -> Images:
        """Return some of them."""
        return Images(self.data[which], [q[which] for q in self.q])


@dataclass(frozen=True, eq=False)
class Alone:
    """What walks ask of images by themselves; of homogeneous networks they have mean square 1."""

    geometry: Geometry
    images: Images
    size: Doubles

    def __len__(self) -> int:
        return len(self.size)

    def __getitem__(self, which: Any) -> Alone:
        return Alone(self.geometry, self.images.part(which), self.size[which])


class Geometry:
    """Where pixels of a plane lie in both images, and sums over their windows."""

    def __init__(self, plan: ImagePlan) -> None:
        self.plan, self.circular = plan, plan.circular
        self.sizes = [(int(level["height"]), int(level["width"])) for level in plan.levels]
        steps = [int(step["operation"]) for step in plan.steps]
        self.pools = [k for k, step in enumerate(steps) if step == POOL]
        starts = [0, *(k + 1 for k in self.pools)]
        self.segments = list(zip(starts, [*self.pools, len(steps)], strict=True))

    def size(self, k: int) -> int:
        """Return the rows of the windows of step k."""
        return int(self.plan.steps[k]["window"][0])

    def left(self, a: Doubles, k: int, d: Shift) -> Doubles:
        """Return what belongs to the pixels of the first image of a plane before step k."""
        if self.circular:
            return a
        rows, columns = (
            slice(max(0, -e), n - max(0, e)) for e, n in zip(d, self.sizes[k], strict=True)
        )
        return a[..., rows, columns]

    def right(self, a: Doubles, k: int, d: Shift) -> Doubles:
        """Return the same of the second image."""
        if self.circular:
            return np.roll(a, (-d[0], -d[1]), (-2, -1))
        return self.left(a, k, (-d[0], -d[1]))

    def every(self, k: int) -> Iterator[Shift]:
        """Yield all displacements before step k."""
        h, w = self.sizes[k]
        low = (0, 0) if self.circular else (1 - h, 1 - w)
        return itertools.product(range(low[0], h), range(low[1], w))

    def before_pool(self, k: int, later: set[Shift]) -> set[Shift]:
        """Return the displacements that a pool joins to these."""
        size, (h, w) = self.size(k), self.sizes[k]
        around = range(1 - size, size)
        found = {(size * a + i, size * b + j) for a, b in later for i in around for j in around}
        if self.circular:
            return {(a % h, b % w) for a, b in found}
        return {(a, b) for a, b in found if abs(a) < h and abs(b) < w}

    def blocks(self, k: int, d: Shift) -> Iterator[tuple[Shift, tuple[Any, ...]]]:
        """Yield the displacements behind pool k to which a plane adds, and which of its pixels."""
        size = self.size(k)
        for corner in itertools.product(range(size), range(size)):
            to, where = [], []
            for o, e, n in zip(corner, d, self.sizes[k + 1], strict=True):
                behind = (o + e) // size
                to.append(behind % n if self.circular else behind)
                first = 0 if self.circular else size * max(0, -behind) - max(0, -e)
                where.append(slice(first + o, None, size))
            yield (to[0], to[1]), (..., *where)

    def taps(self, a: Doubles, k: int) -> Doubles:
        """Surround an image or a plane before convolution k by what its windows see there."""
        reach = int(self.plan.steps[k]["before"][0])
        if self.circular:
            return np.pad(a, [(0, 0)] * (a.ndim - 2) + [(reach, reach)] * 2, mode="wrap")
        return _surrounded(a, reach)

    def window(self, a: Doubles, k: int) -> Doubles:
        """Return the sums over the windows of convolution k."""
        return _sums(self.taps(a, k), self.size(k))

    def turned_window(self, a: Doubles, k: int) -> Doubles:
        """Apply the transpose of `window`."""
        if self.plan.steps[k]["before"][0]:
            return self.window(a, k)
        return _sums(_surrounded(a, self.size(k) - 1), self.size(k))

    def saved(self, k: int) -> int:
        """Return the level that step k adds."""
        slot = self.plan.steps[k]["slot"]
        steps = self.plan.steps[:k]
        return int(np.flatnonzero((steps["operation"] == SAVE) & (steps["slot"] == slot))[-1])


def _sums(a: Doubles, size: int) -> Doubles:
    h, w = a.shape[-2] - size + 1, a.shape[-1] - size + 1
    rows: Any = sum(a[..., i : i + h, :] for i in range(size))
    found: Any = sum(rows[..., j : j + w] for j in range(size))
    return np.asarray(found)


def _surrounded(a: Doubles, reach: int) -> Doubles:
    """Put zeros around images."""
    found = np.zeros((*a.shape[:-2], a.shape[-2] + 2 * reach, a.shape[-1] + 2 * reach))
    found[..., reach : reach + a.shape[-2], reach : reach + a.shape[-1]] = a
    return found


class Walk:
    """Pairs of images, as many on either side, forth and back.

    Attributes
    ----------
    by_q : list of (n, height, width) arrays
        Derivatives by the variances of the first image of each pair.
    by_data : (n, channels, height, width) array
        And by its pixels, without what comes by the variances.
    """

    def __init__(self, at: Geometry, x: Images, y: Images, same: NDArray[np.bool_]) -> None:
        self.at, self.x, self.y = at, x, y
        self.same = same[:, None, None]
        count = len(y.data)
        self.by_q = [np.zeros((count, *size)) for size in at.sizes]
        self.by_data = np.zeros((count, *y.data.shape[1:]))
        self.pooled: dict[int, dict[Shift, list[Any]]] = {}
        self.by_pooled: dict[int, dict[Shift, list[Any]]] = {}

    # ---- forth -----------------------------------------------------------------------------------

    def forth(self, k: int, end: int, d: Shift) -> list[Pair]:
        """Return the pairs of a plane before each step of a segment and after the last."""
        states = [self._start(k, d)]
        for step in range(k, end):
            operation = self.at.plan.steps[step]["operation"]
            now = states[-1]._replace(v=told_apart(states[-1].v, POOLED if k else PARALLEL))
            states[-1] = now
            if operation == CONV:
                now = self._convolved(step, d, now)
            elif operation == RELU_STEP:
                now = self._rectified(step, d, now)
            elif operation == ADD:
                now = self._added(step, d, now, states[self.at.saved(step) - k])
            states.append(now)
        return states

    def _norms(self, k: int, d: Shift) -> tuple[Doubles, Doubles]:
        at = self.at
        return np.sqrt(at.left(self.x.q[k], k, d)), np.sqrt(at.right(self.y.q[k], k, d))

    def _start(self, k: int, d: Shift) -> Pair:
        n, m = self._norms(k, d)
        if k:
            s, t = self.pooled[k][d]
            v = np.maximum(1 - np.abs(s) * _inverse(n) * _inverse(m), 0)
            return Pair(s, np.where(self.same & (d == (0, 0)), 0, v), t)
        scale = self.at.plan.input_scale
        a, b = self.at.left(self.x.data, 0, d), self.at.right(self.y.data, 0, d)
        s = scale * (a * b).sum(axis=1)
        sign = np.where(s < 0, -1, 1)[:, None]
        gap = a * _inverse(n)[:, None] - sign * b * _inverse(m)[:, None]
        v = np.where((n > 0) & (m > 0), scale / 2 * (gap**2).sum(axis=1), 1)
        return Pair(s, v, np.zeros_like(s))

    def _convolved(self, k: int, d: Shift, pair: Pair) -> Pair:
        step = self.at.plan.steps[k]
        s = step["gain"] * self.at.window(pair.s, k) + step["bias"]
        t = step["gain"] * self.at.window(pair.t, k) + step["trained"] * s
        n, m = self._norms(k + 1, d)
        v = np.maximum(1 - np.abs(s) * _inverse(n) * _inverse(m), 0)
        if (v < CLOSE).any():
            v = np.where(v < CLOSE, self._window_defect(k, d, pair, s, n, m), v)
        return Pair(s, v, t)

    def _window_defect(
        self, k: int, d: Shift, pair: Pair, s: Doubles, n: Doubles, m: Doubles
    ) -> Doubles:
        at, step, size = self.at, self.at.plan.steps[k], self.at.size(k)
        back = s < 0
        norms = at.taps(np.sqrt(self.x.q[k]), k), at.taps(np.sqrt(self.y.q[k]), k)
        planes = [at.taps(a, k) for a in (pair.s, pair.v, np.ones_like(pair.v))]
        h, w = at.sizes[k + 1]
        inverse, other = _inverse(n), _inverse(m)
        total = np.zeros_like(s)
        for i, j in itertools.product(range(size), range(size)):
            a, b = (norm[..., i : i + h, j : j + w] for norm in norms)
            a, b = at.left(a, k + 1, d) * inverse, at.right(b, k + 1, d) * other
            sums, v, inside = (p[..., i : i + s.shape[1], j : j + s.shape[2]] for p in planes)
            total += inside * a * b * np.where((sums < 0) == back, v, 2 - v) + (a - b) ** 2 / 2
        bias = step["bias"]
        apart = bias / 2 * (inverse - other) ** 2 + np.where(back, 2 * bias * inverse * other, 0)
        return np.asarray(step["gain"] * total + apart)

    def _angle(self, pair: Pair) -> tuple[Doubles, Doubles]:
        """Return sin^2 and cos^2 of half the angle."""
        back, half = pair.s < 0, pair.v / 2
        return np.where(back, 1 - half, half), np.where(back, half, 1 - half)

    def _rectified(self, k: int, d: Shift, pair: Pair) -> Pair:
        n, m = self._norms(k, d)
        defect, slope, _ = RELU.on_sphere(1.0, *self._angle(pair))
        return Pair(n * m / 2 * (1 - defect), defect, pair.t * slope / 2)

    def _added(self, k: int, d: Shift, pair: Pair, saved: Pair) -> Pair:
        n, m = (_inverse(side) for side in self._norms(k + 1, d))
        s, v = pair.s + saved.s, np.zeros_like(pair.s)
        for part, level in ((pair, k), (saved, self.at.saved(k))):
            a, b = self._norms(level, d)
            a, b = a * n, b * m
            v += a * b * np.where((part.s < 0) == (s < 0), part.v, 2 - part.v) + (a - b) ** 2 / 2
        return Pair(s, v, pair.t + saved.t)

    def pool(self, k: int, d: Shift, pair: Pair) -> None:
        """Add a plane to those behind pool k."""
        share = 1 / float(self.at.size(k)) ** 4
        found = self.pooled.setdefault(k + 1, defaultdict(lambda: [0.0, 0.0]))
        for to, where in self.at.blocks(k, d):
            h, w = self._plane(k + 1, to)
            for sums, part in zip((0, 1), (pair.s, pair.t), strict=True):
                found[to][sums] = found[to][sums] + share * part[where][:, :h, :w]

    def _plane(self, k: int, d: Shift) -> tuple[int, int]:
        h, w = self.at.sizes[k]
        return (h, w) if self.at.circular else (h - abs(d[0]), w - abs(d[1]))

    # ---- back ------------------------------------------------------------------------------------

    def back(self, k: int, d: Shift, states: list[Pair], by_s: Any, by_t: Any) -> None:
        """Take derivatives by the end of a segment to its start."""
        at, saved = self.at, dict[int, list[Any]]()
        for step in reversed(range(k, k + len(states) - 1)):
            row, pair = at.plan.steps[step], states[step - k]
            if row["operation"] == CONV:
                by_s = at.turned_window(row["gain"] * (by_s + row["trained"] * by_t), step)
                by_t = at.turned_window(row["gain"] * by_t, step)
            elif row["operation"] == RELU_STEP:
                by_s, by_t = self._by_rectified(step, d, pair, by_s, by_t)
            elif row["operation"] == ADD:
                saved[at.saved(step)] = [by_s, by_t]
            elif row["operation"] == SAVE:
                one, two = saved[step]
                by_s, by_t = by_s + one, by_t + two
        if k:
            found = self.by_pooled.setdefault(k, defaultdict(lambda: [0.0, 0.0]))
            found[d] = [found[d][0] + by_s, found[d][1] + by_t]
        else:
            moved = at.right(self.y.data, 0, d) * by_s[:, None]
            at.left(self.by_data, 0, d)[...] += at.plan.input_scale * moved

    def _by_rectified(
        self, k: int, d: Shift, pair: Pair, by_s: Doubles, by_t: Doubles
    ) -> tuple[Doubles, Doubles]:
        q, p = self.at.left(self.x.q[k], k, d), self.at.right(self.y.q[k], k, d)
        slopes = RELU.dual_slopes(q, p, *self._angle(pair))
        bent = by_t * pair.t
        self.at.left(self.by_q[k], k, d)[...] += by_s * slopes.by_q + bent * slopes.slope_by_q
        return by_s * slopes.by_c + bent * slopes.slope_by_c, by_t * slopes.by_c

    def by_plane(self, k: int, d: Shift) -> tuple[Doubles, Doubles]:
        """Return the derivatives by a plane before pool k from those behind it."""
        share = 1 / float(self.at.size(k)) ** 4
        shape = (len(self.y.data), *self._plane(k, d))
        by_s, by_t = np.zeros(shape), np.zeros(shape)
        for to, where in self.at.blocks(k, d):
            if to not in self.by_pooled.get(k + 1, {}):
                continue
            h, w = self._plane(k + 1, to)
            one, two = self.by_pooled[k + 1][to]
            by_s[where][:, :h, :w] += share * one
            by_t[where][:, :h, :w] += share * two
        return by_s, by_t


def alone(at: Geometry, data: Doubles) -> tuple[Images, Walk]:
    """Return images with their variances, and the walk of each image with itself."""
    plan = at.plan
    images = Images(data, [plan.input_scale * (data**2).sum(axis=1)])
    walk = Walk(at, images, images, np.ones(len(data), bool))
    needed = _own_planes(at)
    for (k, end), planes in zip(at.segments, needed, strict=True):
        for step in range(k, end):
            row, q = plan.steps[step], images.q[-1]
            if row["operation"] == CONV:
                q = row["gain"] * at.window(q, step) + row["bias"]
            elif row["operation"] == RELU_STEP:
                q = q / 2
            elif row["operation"] == ADD:
                q = q + images.q[at.saved(step)]
            images.q.append(q)
        for d in planes:
            walk.pool(end, d, walk.forth(k, end, d)[-1])
        if planes:
            images.q.append(walk.pooled[end + 1][0, 0][0])
    return images, walk


def _own_planes(at: Geometry) -> list[list[Shift]]:
    """Return the displacements of an image and itself that variances behind pools ask for."""
    found, later = [list[Shift]()], {(0, 0)}
    for k in reversed(at.pools):
        later = at.before_pool(k, later | {(0, 0)})
        found.append(sorted(later))
    return found[::-1]


def pair_gradients(
    at: Geometry, x: Images, y: Images, same: NDArray[np.bool_], nngp: bool
) -> Doubles:
    """Return the gradients of the kernels of pairs of images by the pixels of the first ones."""
    plan, last = at.plan, len(at.segments) - 1
    walk = Walk(at, x, y, same)
    final = at.segments[-1][1]
    weights = {}
    for d in at.every(final):
        rows, columns = (
            _diagonal(weight, e, at.circular)
            for weight, e in zip((plan.weight_h, plan.weight_w), d, strict=True)
        )
        if rows.any() and columns.any():
            weights[d] = rows[:, None] * columns
    planes = [set(weights)]
    for k in reversed(at.pools):
        planes.insert(0, at.before_pool(k, planes[0]))
    for (k, end), some in zip(at.segments[:-1], planes, strict=False):
        for d in sorted(some):
            walk.pool(end, d, walk.forth(k, end, d)[-1])
    for number in reversed(range(last + 1)):
        k, end = at.segments[number]
        for d in sorted(planes[number]):
            states = walk.forth(k, end, d)
            if number == last:
                by_t = np.broadcast_to(weights[d], states[-1].s.shape)
                by_s, by_t = by_t * (1.0 if nngp else plan.trained), by_t * (not nngp)
            else:
                by_s, by_t = walk.by_plane(end, d)
            walk.back(k, d, states, by_s, by_t)
    return walk.by_data + by_variances(at, x.data, walk.by_q)


def by_variances(at: Geometry, data: Doubles, by_q: list[Doubles]) -> Doubles:
    """Return the gradients by pixels, from derivatives by the variances before all steps."""
    plan = at.plan
    walk = alone(at, data)[1] if at.pools else None
    found, needed = np.zeros_like(data), _own_planes(at)
    saved: dict[int, Doubles] = {}
    for number in reversed(range(len(at.segments))):
        k, end = at.segments[number]
        if number + 1 < len(at.segments) and walk:  # both images move
            behind = walk.by_pooled.setdefault(end + 1, defaultdict(lambda: [0.0, 0.0]))
            behind[0, 0] = [behind[0, 0][0] + by_q[end + 1], np.zeros_like(by_q[end + 1])]
            for d in needed[number]:
                walk.back(k, d, walk.forth(k, end, d), *walk.by_plane(end, d))
            for level in range(k, end):
                by_q[level] += 2 * walk.by_q[level]
        carried = np.zeros_like(by_q[end])
        for step in reversed(range(k, end)):
            row, carried = plan.steps[step], carried + by_q[step + 1] * (step + 1 < end)
            if row["operation"] == CONV:
                carried = row["gain"] * at.turned_window(carried, step)
            elif row["operation"] == RELU_STEP:
                carried = carried / 2
            elif row["operation"] == ADD:
                saved[at.saved(step)] = carried
            elif row["operation"] == SAVE:
                carried = carried + saved[step]
        by_q[k] = by_q[k] + carried
    if walk:
        found += 2 * walk.by_data
    return found + 2 * plan.input_scale * by_q[0][:, None] * data


def _diagonal(weight: Doubles, d: int, circular: bool) -> Doubles:
    """Return weights of the pairs of pixels of a displacement along one axis."""
    if not circular:
        return np.diagonal(weight, d)
    at = np.arange(len(weight))
    return np.asarray(weight[at, (at + d) % len(weight)])


def _inverse(a: Doubles) -> Doubles:
    return np.where(a > 0, 1 / np.where(a > 0, a, 1), 0)
