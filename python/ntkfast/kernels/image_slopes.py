"""Gradients of convolutional kernels by the pixels of an image, in NumPy.

Pairs of images are walked one displacement (a plane) at a time, forth and back, as in
csrc/formulas/image_walk.hpp. Pools join planes: what lies behind a pool is kept, and planes before
it are walked a second time.

A pair of pixels is carried as its covariance S, its tangent kernel T and v = 1 - |u|, u the cosine,
from small quantities where it is small: see csrc/formulas/pixel_pairs.hpp. Back go derivatives by
S, by T, and by the variances of the first image, whose way from the pixels is differentiated once.

Functions with a kink have derivatives with a pole at angle 0, by the cosine alone. It goes back by
itself as in `sequence_slopes`: a cosine is a sum over parts, and moves with them, and as the shares
of a variance turn. Differences of variances are carried forth, from those of pixels, so that what
meets the pole is as small as the angle and as exact as the images. Behind a pool, and behind a
function without a kink, cosines are differences, and their poles derivatives by S and variances.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ntkfast.activations.base import Activation
from ntkfast.engines.maps import ImagePlan
from ntkfast.kernels.image_planes import (
    ACTIVATE,
    ADD,
    CONV,
    NORMALIZE,
    RELU,
    SAVE,
    SWAP,
    Doubles,
    Geometry,
    Indices,
    Links,
    Shift,
    taken,
    with_margin,
)
from ntkfast.kernels.sequence_slopes import told_apart

CLOSE = 0.01  # v below which it is summed from small quantities
PARALLEL = 1e-28  # v below which a pair differs by rounding, and counts as parallel
ROUGH = 64 * float(np.finfo(np.float64).eps)  # the rounding of v where it is a difference


class Pair(NamedTuple):
    """The pairs of pixels of one displacement, (pairs of images, rows, columns).

    `lost` is the variance of the first less that of the second times the square of `ratio`, (pairs
    of images, 1, 1): multiples of an image have none.
    """

    s: Doubles
    t: Doubles
    v: Doubles
    lost: Doubles
    ratio: Doubles

    @property
    def short(self) -> Doubles:
        """What the square of the ratio lacks of 1."""
        return (1 - self.ratio) * (1 + self.ratio)

    def part(self, which: Any) -> Pair:
        """Return those of some images."""
        return Pair(*(a[which] for a in self))


class By(NamedTuple):
    """Derivatives by covariances, tangent kernels, and cosines: what has a pole."""

    s: Any
    t: Any
    u: Any = 0.0

    def plus(self, other: By) -> By:
        """Return the sum."""
        return By(self.s + other.s, self.t + other.t, self.u + other.u)


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
    """What walks ask of images by themselves, which were divided by `size`."""

    geometry: Geometry
    images: Images
    size: Doubles

    def __len__(self) -> int:
        return len(self.size)

    def __getitem__(self, which: Any) -> Alone:
        return Alone(self.geometry, self.images.part(which), self.size[which])


class Whole(NamedTuple):
    """Pairs behind a step, as their parts ask for them; n and m are inverse deviations."""

    q: Doubles
    n: Doubles
    m: Doubles
    pair: Pair

    @property
    def unlike(self) -> NDArray[np.bool_]:
        """Where the variances are no neighbours, so that differences are no help."""
        return np.abs(self.pair.lost) > 2 * self.q

    @property
    def sign(self) -> Doubles:
        """Those of the covariances."""
        return np.where(self.pair.s < 0, -1.0, 1.0)

    def bias(self, p: Doubles) -> Doubles:
        """Return what a bias of variance 1 adds to v, `p` the variances of the second image."""
        lost = self.pair.lost - self.pair.short * p
        back = np.where(self.pair.s < 0, 2 * self.n * self.m, 0)
        return np.asarray(_inverse_gap(self.n, self.m, lost) ** 2 / 2 + back)


@lru_cache(maxsize=16)
def geometry_of(plan: ImagePlan, activations: tuple[Activation, ...]) -> Geometry:
    """Return the geometry of a plan."""
    return Geometry(plan, activations)


class Share(NamedTuple):
    """One part of pairs: shares e and f of both deviations, and what the part is.

    Attributes
    ----------
    turned : array
        e - f.
    same : array of bool
        Whether the covariance has the sign of the whole.
    v, q : arrays
        That of the part, and its variance in the first image.
    """

    e: Doubles
    f: Doubles
    turned: Doubles
    same: NDArray[np.bool_]
    v: Doubles
    q: Doubles

    def defect(self) -> Doubles:
        """Return what it adds to v of the whole."""
        v = np.where(self.same, self.v, 2 - self.v)
        return np.asarray(self.e * self.f * v + self.turned**2 / 2)

    def back(self, by_u: Doubles, whole: Whole) -> tuple[Doubles, Doubles]:
        """Return derivatives by the cosine of the part, and by the variance of the first image."""
        v = whole.pair.v
        near = self.e * v - self.f * self.v - self.turned
        rest = np.where(self.same, near, -self.f * (1 - self.v) - self.e * (1 - v))
        return by_u * self.e * self.f, by_u * self.e * whole.sign * rest / 2 * _inverse(self.q)


def _share(gain: float, q: Doubles, p: Doubles, part: Pair, whole: Whole) -> Share:
    e, f = np.sqrt(gain * q) * whole.n, np.sqrt(gain * p) * whole.m
    both = whole.q * (e + f)
    turned = (gain * part.lost - f * f * whole.pair.lost) * _inverse(both)
    turned = np.where(whole.unlike, e - f, turned)
    return Share(e, f, turned, (part.s < 0) == (whole.pair.s < 0), part.v, q)


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
        self.moved: dict[int, Doubles] = {}  # mean differences of variances before steps
        if at.kinked:
            n, m = (np.sqrt(one.q[0].sum(axis=(1, 2))) for one in (x, y))
            ratio = np.where((n > 0) & (m > 0), n * _inverse(m), 1)
            self.ratio = ratio[:, None, None]
            self.multiple, self.rest = _product(self.ratio[:, None], y.data)

    # ---- forth -----------------------------------------------------------------------------------

    def forth(self, k: int, end: int, d: Shift) -> list[Pair]:
        """Return the pairs of a plane before each step of a segment and after the last."""
        at, states = self.at, [self._pooled(k, d) if k else self._start(d)]
        for step in range(k, end):
            operation, now = at.operations[step], states[-1]
            if operation == CONV:
                now = self._convolved(step, d, now)
            elif operation in (RELU, ACTIVATE):
                now = self._activated(step, d, now)
            elif operation == NORMALIZE:
                now = self._normalized(step, d, now)
            elif operation == SWAP:
                now = states[at.saved(step) - k]
            elif operation == ADD:
                now = self._added(step, d, now, states[at.saved(step) - k])
            least = ROUGH if at.rough[step + 1] else PARALLEL
            states.append(now._replace(v=told_apart(now.v, least)))
        return states

    def _variances(self, k: int, d: Shift) -> tuple[Doubles, Doubles]:
        return self.at.left(self.x.q[k], k, d), self.at.right(self.y.q[k], k, d)

    def _inverses(self, k: int, d: Shift) -> tuple[Doubles, Doubles]:
        q, p = self._variances(k, d)
        return _inverse(np.sqrt(q)), _inverse(np.sqrt(p))

    def _whole(self, k: int, d: Shift, pair: Pair, near: Any = slice(None)) -> Whole:
        q, (n, m) = self.at.left(self.x.q[k], k, d), self._inverses(k, d)
        return Whole(q[near], n[near], m[near], pair.part(near))

    def _start(self, d: Shift) -> Pair:
        at, scale = self.at, self.at.plan.input_scale
        a, b = at.left(self.x.data, 0, d), at.right(self.y.data, 0, d)
        s = scale * (a * b).sum(axis=1)
        lost = ratio = np.zeros((len(s), 1, 1))
        if at.kinked:
            ratio = self.ratio
            multiple, rest = (at.right(end, 0, d) for end in (self.multiple, self.rest))
            lost = ((a - multiple) - rest) * ((a + multiple) + rest)
            lost = scale * lost.sum(axis=1)
        return Pair(s, np.zeros_like(s), np.ones_like(s), lost, ratio)

    def _pooled(self, k: int, d: Shift) -> Pair:
        (s, t), (q, p) = self.pooled[k][d], self._variances(k, d)
        n, m = self._inverses(k, d)
        v = np.maximum(1 - np.abs(s) * n * m, 0)
        v = told_apart(np.where(self.same & (d == (0, 0)), 0, v), ROUGH)
        return Pair(s, t, v, q - p, np.ones((len(s), 1, 1)))

    def _convolved(self, k: int, d: Shift, pair: Pair) -> Pair:
        at, step = self.at, self.at.plan.steps[k]
        gain, bias = float(step["gain"]), float(step["bias"])
        s = gain * at.window(pair.s, k, d) + bias
        t = gain * at.window(pair.t, k, d) + step["trained"] * s
        n, m = self._inverses(k + 1, d)
        v = np.maximum(1 - np.abs(s) * n * m, 0)
        if not at.kinked:
            return Pair(s, t, v, pair.lost, pair.ratio)
        lost = at.window(pair.lost, k, d) + at.unpaired(self.x.q[k], k, d, 0)
        lost = gain * (lost - pair.ratio**2 * at.unpaired(self.y.q[k], k, d, 1))
        found = Pair(s, t, v, lost + bias * pair.short, pair.ratio)
        near = np.flatnonzero((v < CLOSE).any(axis=(1, 2)))
        if near.size:
            whole = self._whole(k + 1, d, found, near)
            total = bias * whole.bias(at.right(self.y.q[k + 1], k + 1, d)[near])
            if k:
                for *_, share in self._parts(k, d, pair.part(near), whole, near):
                    total += share.defect()
            else:
                for *_, gap in self._patches(d, whole, near):
                    total += gain * at.plan.input_scale / 2 * (gap**2).sum(axis=1)
            v[near] = np.where(v[near] < CLOSE, total, v[near])
        return found

    def _parts(
        self, k: int, d: Shift, pair: Pair, whole: Whole, near: Indices
    ) -> Iterator[tuple[tuple[Indices, Indices], tuple[Indices, Indices], Share]]:
        """Yield places in a plane and in the first image, and shares, of a window before step k."""
        at, gain = self.at, float(self.at.plan.steps[k]["gain"])
        rows, columns = (at.taps(k, axis, d[axis]) for axis in (0, 1))
        q, p = with_margin(self.x.q[k][near]), with_margin(self.y.q[k][near])
        planes = [with_margin(a) for a in (pair.s, pair.v, pair.lost)]
        for i, j in np.ndindex(len(rows.x), len(columns.x)):
            of_x, of_y, place = ((a[i], b[j]) for a, b in zip(rows, columns, strict=True))
            one, two = taken(q, *of_x), taken(p, *of_y)
            s, v, lost = (taken(plane, *place) for plane in planes)
            both = (place[0] >= 0)[:, None] & (place[1] >= 0)
            part = Pair(s, s, v, np.where(both, lost, one - pair.ratio**2 * two), pair.ratio)
            yield place, of_x, _share(gain, one, two, part, whole)

    def _patches(
        self, d: Shift, whole: Whole, near: Indices
    ) -> Iterator[tuple[tuple[Indices, Indices], Doubles, Doubles]]:
        """Yield places in the first image, its pixels and differences, of the first windows.

        They are those of unit vectors, up to a factor: of both images where the cosine is positive,
        of the second one and the opposite of the first one elsewhere.
        """
        at, m = self.at, whole.m / whole.pair.ratio
        rows, columns = (at.taps(0, axis, d[axis]) for axis in (0, 1))
        x, multiple, rest = (
            with_margin(a[near]) for a in (self.x.data, self.multiple, self.rest)
        )
        sign, scale = whole.sign[:, None], m[:, None]
        shift = whole.sign * _inverse_gap(whole.n, m, whole.pair.lost)
        unlike, other = (np.abs(shift) > 2 * whole.n)[:, None], (whole.sign * whole.n)[:, None]
        for i, j in np.ndindex(len(rows.x), len(columns.x)):
            of_x, of_y = (rows.x[i], columns.x[j]), (rows.y[i], columns.y[j])
            one = taken(x, *of_x)
            two = taken(multiple, *of_y)
            gap = ((two - sign * one) + taken(rest, *of_y)) * scale + shift[:, None] * one
            yield of_x, one, np.where(unlike, two * scale - other * one, gap)

    def _angle(self, pair: Pair) -> tuple[Doubles, Doubles]:
        """Return sin^2 and cos^2 of half the angle."""
        back, half = pair.s < 0, pair.v / 2
        return np.where(back, 1 - half, half), np.where(back, half, 1 - half)

    def _activated(self, k: int, d: Shift, pair: Pair) -> Pair:
        one: Activation = self.at.activations[k]
        (q, p), (after, other) = self._variances(k, d), self._variances(k + 1, d)
        v, vc = self._angle(pair)
        roots = np.sqrt(after) * np.sqrt(other)
        if one.degree is None:
            c = np.sqrt(q) * np.sqrt(p) * (vc - v)
            s, t = one.dual(q, p, c), pair.t * one.derivative_dual(q, p, c)
            v = np.maximum(1 - np.abs(s) * _inverse(roots), 0)
            return Pair(s, t, v, after - other, np.ones_like(pair.ratio))
        defect, slope, _ = one.on_sphere(1.0, v, vc)
        rest = one.on_sphere(1.0, vc, v)[0] if one.is_odd else 2 - defect
        gain = float(one.variance(1.0))
        s = roots * np.where(defect < rest, 1 - defect, rest - 1)
        if one.degree == 0:
            return Pair(s, 0 * s, np.minimum(defect, rest), 0 * s, np.ones_like(pair.ratio))
        v = np.minimum(defect, rest)
        return Pair(s, pair.t * slope * gain, v, gain * pair.lost, pair.ratio)

    def _normalized(self, k: int, d: Shift, pair: Pair) -> Pair:
        at, (n, m) = self.at, self._scales(k, d)
        p, ones, lost = at.right(self.y.q[k], k, d), np.ones_like(pair.ratio), pair.lost
        if at.kinked and at.plan.steps[k]["whole"]:
            # Planes of other displacements are walked after this one, in any walk.
            if d == (0, 0):
                self.moved[k] = lost.mean(axis=(1, 2), keepdims=True)
            size = self.y.q[k].mean(axis=(1, 2), keepdims=True)
            lost = n * n * (lost - p * self.moved[k] * _inverse(size))
        elif at.kinked:
            q, p = self._variances(k + 1, d)
            lost = q - p
        return Pair(pair.s * n * m, pair.t * n * m, pair.v, lost, ones)

    def _scales(self, k: int, d: Shift) -> tuple[Doubles, Doubles]:
        """Return what normalization k multiplies by: inverse deviations."""
        if not self.at.plan.steps[k]["whole"]:
            return self._inverses(k, d)
        n, m = (
            _inverse(np.sqrt(one.q[k].mean(axis=(1, 2), keepdims=True))) for one in (self.x, self.y)
        )
        return n, m

    def _added(self, k: int, d: Shift, pair: Pair, saved: Pair) -> Pair:
        s, t, v = pair.s + saved.s, pair.t + saved.t, np.zeros_like(pair.s)
        if not self.at.kinked:
            n, m = self._inverses(k + 1, d)
            return Pair(s, t, np.maximum(1 - np.abs(s) * n * m, 0), pair.lost, pair.ratio)
        pair, saved = self._alike(k, d, pair, saved)
        whole = self._whole(k + 1, d, Pair(s, t, v, pair.lost + saved.lost, pair.ratio))
        for _, share in self._ways(k, d, pair, saved, whole):
            v += share.defect()
        return whole.pair

    def _alike(self, k: int, d: Shift, *ways: Pair) -> list[Pair]:
        """Return the ways that step k adds with one ratio."""
        if np.array_equal(ways[0].ratio, ways[1].ratio):
            return list(ways)
        found = []
        for level, way in zip((k, self.at.saved(k)), ways, strict=True):
            lost = way.lost - way.short * self.at.right(self.y.q[level], level, d)
            found.append(way._replace(lost=lost, ratio=np.ones_like(way.ratio)))
        return found

    def _ways(
        self, k: int, d: Shift, pair: Pair, saved: Pair, whole: Whole
    ) -> Iterator[tuple[int, Share]]:
        """Yield the levels and shares of the ways that step k adds."""
        for level, part in ((k, pair), (self.at.saved(k), saved)):
            yield level, _share(1.0, *self._variances(level, d), part, whole)

    def pool(self, k: int, d: Shift, pair: Pair, links: Links) -> None:
        """Add a plane to those behind pool k."""
        gain = float(self.at.plan.steps[k]["gain"])
        found = self.pooled.setdefault(k + 1, defaultdict(lambda: [0.0, 0.0]))
        for to, rows, columns in links:
            for number, part in enumerate((pair.s, pair.t)):
                found[to][number] = found[to][number] + gain * (rows @ part @ columns.T)

    # ---- back ------------------------------------------------------------------------------------

    def back(self, k: int, d: Shift, states: list[Pair], by: By) -> None:
        """Take derivatives by the end of a segment to its start."""
        at, more = self.at, defaultdict[int, By](lambda: By(0.0, 0.0))
        for step in reversed(range(k, k + len(states) - 1)):
            operation, pair, after = at.operations[step], states[step - k], states[step + 1 - k]
            by = self._settled(step + 1, d, after, by)
            if operation == CONV:
                by = self._by_convolved(step, d, pair, after, by)
            elif operation in (RELU, ACTIVATE):
                by = self._by_activated(step, d, pair, by)
            elif operation == NORMALIZE:
                by = self._by_normalized(step, d, after, by)
            elif operation == ADD:
                saved = at.saved(step)
                by, more[saved] = self._by_added(step, d, pair, states[saved - k], after, by)
            elif operation == SWAP:
                saved = at.saved(step)
                by, more[saved] = more.pop(step), more[saved].plus(by)
            elif operation == SAVE:
                by = by.plus(more.pop(step))
        if k:
            by = self._settled(k, d, states[0], by)
            found = self.by_pooled.setdefault(k, defaultdict(lambda: [0.0, 0.0]))
            found[d] = [found[d][0] + by.s, found[d][1] + by.t]
        else:
            moved = at.right(self.y.data, 0, d) * by.s[:, None]
            at.left(self.by_data, 0, d)[...] += at.plan.input_scale * moved

    def _settled(self, k: int, d: Shift, pair: Pair, by: By) -> By:
        """Keep derivatives by cosines where v is small and exact, and make others of the rest."""
        if not np.ndim(by.u):
            return by
        close = (pair.v < CLOSE) & (not self.at.rough[k])
        n, m = self._inverses(k, d)
        moved = np.where(close, 0, by.u) * n * m
        self.at.left(self.by_q[k], k, d)[...] -= moved * pair.s * n * n / 2
        rest = np.where(close, by.u, 0)
        return By(by.s + moved, by.t, rest if rest.any() else 0.0)

    def _by_convolved(self, k: int, d: Shift, pair: Pair, after: Pair, by: By) -> By:
        at, step = self.at, self.at.plan.steps[k]
        gain, turned = float(step["gain"]), np.zeros_like(pair.s)
        by_s = gain * at.turned_window(by.s + step["trained"] * by.t, k, d)
        by_t = gain * at.turned_window(by.t, k, d)
        if not np.ndim(by.u):
            return By(by_s, by_t)
        near = np.flatnonzero(by.u.any(axis=(1, 2)))
        whole, by_u = self._whole(k + 1, d, after, near), by.u[near]
        if not k:
            scale = gain * at.plan.input_scale
            found = with_margin(np.zeros_like(self.by_data[near]))
            lean = (whole.sign * whole.pair.v * whole.n)[:, None]
            for (rows, columns), pixels, gap in self._patches(d, whole, near):
                part = scale * (by_u * whole.n)[:, None] * (gap + lean * pixels)
                found[..., rows[:, None], columns] += part
            self.by_data[near] += found[..., :-1, :-1]
            return By(by_s, by_t)
        planes = [with_margin(np.zeros_like(pair.s[near])) for _ in range(2)]
        by_q = with_margin(np.zeros_like(self.by_q[k][near]))
        for (rows, columns), (i, j), share in self._parts(k, d, pair.part(near), whole, near):
            by_part, by_own = share.back(by_u, whole)
            planes[0][..., rows[:, None], columns] += by_part
            by_q[..., i[:, None], j] += by_own
            # Where the first image has no variance, the covariance alone moves.
            moved = np.where(share.q > 0, 0, gain * by_u * whole.n * whole.m)
            planes[1][..., rows[:, None], columns] += moved
        self.by_q[k][near] += by_q[..., :-1, :-1]
        turned[near] = planes[0][..., :-1, :-1]
        by_s[near] += planes[1][..., :-1, :-1]
        return By(by_s, by_t, turned)

    def _by_added(
        self, k: int, d: Shift, pair: Pair, saved: Pair, after: Pair, by: By
    ) -> tuple[By, By]:
        if not np.ndim(by.u):
            return by, by
        whole, found = self._whole(k + 1, d, after), []
        for level, share in self._ways(k, d, *self._alike(k, d, pair, saved), whole):
            turned, by_own = share.back(by.u, whole)
            self.at.left(self.by_q[level], level, d)[...] += by_own
            moved = np.where(share.q > 0, 0, by.u * whole.n * whole.m)
            found.append(By(by.s + moved, by.t, turned))
        return found[0], found[1]

    def _by_activated(self, k: int, d: Shift, pair: Pair, by: By) -> By:
        one: Activation = self.at.activations[k]
        q, p = self._variances(k, d)
        v, vc = self._angle(pair)
        slopes, roots, bent = one.dual_slopes(q, p, v, vc), np.sqrt(q) * np.sqrt(p), by.t * pair.t
        by_s, by_q, by_u = by.s * slopes.by_c, by.s * slopes.by_q, 0.0
        if one.degree is None:
            by_t = by.t * one.derivative_dual(q, p, roots * (vc - v))
            by_s = by_s + bent * slopes.slope_by_c
            by_q = by_q + bent * slopes.slope_by_q
        else:
            n, m = self._inverses(k + 1, d)
            pole = bent * slopes.slope_by_c if one.degree else by_s
            by_u = roots * (pole + by.u * slopes.by_c * n * m)
            by_s, by_q, by_t = (one.degree * a for a in (by_s, by_q, by.t * slopes.by_c))
        self.at.left(self.by_q[k], k, d)[...] += by_q
        return By(by_s, by_t, by_u)

    def _by_normalized(self, k: int, d: Shift, after: Pair, by: By) -> By:
        at, (n, m) = self.at, self._scales(k, d)
        moved = -(by.s * after.s + by.t * after.t) * n * n / 2
        if at.plan.steps[k]["whole"]:
            self.by_q[k] += moved.sum(axis=(1, 2), keepdims=True) / np.prod(at.sizes[k])
        else:
            at.left(self.by_q[k], k, d)[...] += moved
        return By(by.s * n * m, by.t * n * m, by.u)

    def by_plane(self, k: int, d: Shift, links: Links) -> By:
        """Return the derivatives by a plane before pool k from those behind it."""
        gain = float(self.at.plan.steps[k]["gain"])
        by_s, by_t = (np.zeros((len(self.y.data), *self.at.shape(k, d))) for _ in range(2))
        for to, rows, columns in links:
            if to in self.by_pooled.get(k + 1, {}):
                one, two = self.by_pooled[k + 1][to]
                by_s += gain * (rows.T @ one @ columns)
                by_t += gain * (rows.T @ two @ columns)
        return By(by_s, by_t)


def alone(at: Geometry, data: Doubles) -> tuple[Images, Walk]:
    """Return images with their variances, and the walk of each image with itself."""
    plan = at.plan
    images = Images(data, [plan.input_scale * (data**2).sum(axis=1)])
    walk = Walk(at, images, images, np.ones(len(data), bool))
    for (k, end), planes in zip(at.segments, at.own, strict=True):
        for step in range(k, end):
            row, q, operation = plan.steps[step], images.q[-1], at.operations[step]
            if operation == CONV:
                q = row["gain"] * at.window(q, step) + row["bias"]
            elif operation in (RELU, ACTIVATE):
                q = np.asarray(at.activations[step].variance(q))
            elif operation == NORMALIZE:
                size = q.mean(axis=(1, 2), keepdims=True) if row["whole"] else q
                q = q * _inverse(size)
                if not row["whole"]:
                    q = np.where(q > 0, 1.0, 0.0)
            elif operation == SWAP:
                q = images.q[at.saved(step)]
            elif operation == ADD:
                q = q + images.q[at.saved(step)]
            images.q.append(q)
        for d, links in planes.items():
            walk.pool(end, d, walk.forth(k, end, d)[-1], links)
        if planes:
            images.q.append(walk.pooled[end + 1][0, 0][0])
    return images, walk


def pair_gradients(
    at: Geometry, x: Images, y: Images, same: NDArray[np.bool_], by: tuple[Doubles, Doubles]
) -> Doubles:
    """Return the gradients of sums of both kernels of pairs of images by the first ones' pixels.

    Parameters
    ----------
    same : (n,) array
        Which pairs are equal.
    by : pair of (n,) arrays
        What the NNGP and the NTK of each are multiplied by.
    """
    walk, final = Walk(at, x, y, same), at.segments[-1]
    nngp, ntk = (a[:, None, None] for a in by)
    for (k, end), planes in zip(at.segments, at.planes, strict=False):
        for d, links in planes.items():
            walk.pool(end, d, walk.forth(k, end, d)[-1], links)
    for d, weights in at.weights.items():
        by_end = By((nngp + at.plan.trained * ntk) * weights, ntk * weights)
        walk.back(final[0], d, walk.forth(*final, d), by_end)
    for (k, end), planes in zip(at.segments[-2::-1], at.planes[::-1], strict=True):
        for d, links in planes.items():
            walk.back(k, d, walk.forth(k, end, d), walk.by_plane(end, d, links))
    return walk.by_data + by_variances(at, x.data, walk.by_q)


def by_variances(at: Geometry, data: Doubles, by_q: list[Doubles]) -> Doubles:
    """Return the gradients by pixels, from derivatives by the variances before all steps."""
    plan, more = at.plan, defaultdict[int, Any](float)
    images, walk = alone(at, data)
    for (k, end), planes in zip(at.segments[::-1], at.own[::-1], strict=True):
        if planes:  # both images move
            behind = walk.by_pooled.setdefault(end + 1, defaultdict(lambda: [0.0, 0.0]))
            behind[0, 0] = [behind[0, 0][0] + by_q[end + 1], np.zeros_like(by_q[end + 1])]
            for d, links in planes.items():
                walk.back(k, d, walk.forth(k, end, d), walk.by_plane(end, d, links))
            for level in range(k, end + 1):
                by_q[level] += 2 * walk.by_q[level]
        carried: Any = by_q[end]
        for step in reversed(range(k, end)):
            row, q, operation = plan.steps[step], images.q[step], at.operations[step]
            if operation == CONV:
                carried = row["gain"] * at.turned_window(carried, step)
            elif operation in (RELU, ACTIVATE):
                whole = at.activations[step].dual_slopes(q, q, np.zeros(()), np.ones(()))
                carried = (2 * whole.by_q + whole.by_c) * carried
            elif operation == NORMALIZE and row["whole"]:
                size = _inverse(q.mean(axis=(1, 2), keepdims=True))
                mean = (carried * q).mean(axis=(1, 2), keepdims=True)
                carried = size * (carried - size * mean)
            elif operation == NORMALIZE:
                carried = np.zeros_like(carried)
            elif operation == ADD:
                more[at.saved(step)] = carried
            elif operation == SWAP:
                saved = at.saved(step)
                carried, more[saved] = more.pop(step), more[saved] + carried
            elif operation == SAVE:
                carried = carried + more.pop(step)
            carried = carried + by_q[step]
        by_q[k] = carried
    return 2 * walk.by_data + 2 * plan.input_scale * by_q[0][:, None] * data


def _inverse_gap(n: Doubles, m: Doubles, lost: Doubles) -> Doubles:
    """Return m - n of inverse deviations, from the difference of the variances."""
    both = n * m
    return np.asarray(lost * both * both * _inverse(n + m))


def _product(a: Doubles, b: Doubles) -> tuple[Doubles, Doubles]:
    """Return a product and its rounding error: Dekker, Numerische Mathematik 18 (1971)."""
    value = a * b
    (one, two), (three, four) = (_halves(part) for part in (a, b))
    return value, two * four - (((value - one * three) - two * three) - one * four)


def _halves(a: Doubles) -> tuple[Doubles, Doubles]:
    scaled = 134217729.0 * a
    high = scaled - (scaled - a)
    return high, a - high


def _inverse(a: Doubles) -> Doubles:
    return np.where(a > 0, 1 / np.where(a > 0, a, 1), 0)
