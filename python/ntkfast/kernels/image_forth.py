"""Pairs of images walked forth through a convolutional network, in NumPy.

They are walked one displacement (a plane) at a time, as in csrc/formulas/image_walk.hpp. Pools join
planes: what lies behind a pool is kept. `image_slopes` walks them back.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ntkfast.activations.polynomials import Masking
from ntkfast.kernels.close_pairs import Doubles, exact_product, inverse, ratio_of, told_apart
from ntkfast.kernels.image_pairs import CLOSE, PARALLEL, Pair, Whole, rough, share_of
from ntkfast.kernels.image_planes import (
    ACTIVATE,
    ADD,
    CONV,
    MULTIPLY,
    NORMALIZE,
    RELU,
    SWAP,
    Geometry,
    Indices,
    Links,
    Shift,
    taken,
    with_margin,
)

Place: TypeAlias = tuple[Indices, Indices]  # rows and columns
# In a plane and in the first image; variances of both images, and the pair.
Part: TypeAlias = tuple[Place, Place, Doubles, Doubles, Pair]


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


class Forth:
    """Pairs of images, as many on either side, forth.

    Attributes
    ----------
    same : (n, 1, 1) array of bool
        Which pairs are equal; with masks, which are an image with itself.
    rows : int
        How many images there are on the left, each with as many pairs, one after the other.
    """

    def __init__(
        self, at: Geometry, x: Images, y: Images, same: NDArray[np.bool_], rows: int
    ) -> None:
        self.at, self.x, self.y, self.rows = at, x, y, rows
        self.same = same[:, None, None]
        self.pooled: dict[int, dict[Shift, list[Any]]] = {}
        self.moved: dict[int, Doubles] = {}  # mean differences of variances before steps
        self.roots: dict[int, list[tuple[Doubles, Doubles]]] = {}  # deviations and inverses
        self.sides: dict[int, tuple[Any, Doubles, Doubles]] = {}  # what `between` asks

    def pool_all(self) -> None:
        """Walk all segments before the last one."""
        for (k, end), planes in zip(self.at.segments, self.at.planes, strict=False):
            for d, links in planes.items():
                self.pool(end, d, self.forth(k, end, d)[-1], links)

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
            elif operation == MULTIPLY:
                now = self._multiplied(step, d, now, states[at.saved(step) - k])
            least = rough(now.v) if at.rough[step + 1] else PARALLEL
            states.append(now._replace(v=told_apart(now.v, least)))
        return states

    def _variances(self, k: int, d: Shift) -> tuple[Doubles, Doubles]:
        return self.at.left(self.x.q[k], k, d), self.at.right(self.y.q[k], k, d)

    def _deviations(self, k: int, d: Shift) -> tuple[Doubles, Doubles]:
        return self._sides_of(k, d, 0)

    def _inverses(self, k: int, d: Shift) -> tuple[Doubles, Doubles]:
        return self._sides_of(k, d, 1)

    def _sides_of(self, k: int, d: Shift, number: int) -> tuple[Doubles, Doubles]:
        """Return deviations of both images, or their inverses."""
        if k not in self.roots:
            roots = [np.sqrt(side.q[k]) for side in (self.x, self.y)]
            self.roots[k] = [(root, inverse(root)) for root in roots]
        x, y = (side[number] for side in self.roots[k])
        return self.at.left(x, k, d), self.at.right(y, k, d)

    def _whole(self, k: int, d: Shift, pair: Pair, near: Any = slice(None)) -> Whole:
        q, (n, m) = self.at.left(self.x.q[k], k, d), self._inverses(k, d)
        return Whole(q[near], n[near], m[near], pair.part(near))

    def _start(self, d: Shift) -> Pair:
        at, scale = self.at, self.at.plan.input_scale
        a, b = at.left(self.x.data, 0, d), at.right(self.y.data, 0, d)
        s = scale * (a * b).sum(axis=1)
        return Pair(s, np.zeros_like(s), *3 * [np.ones_like(s)])

    def _ratio(self, k: int, d: Shift) -> tuple[Doubles, Doubles]:
        """Return ratios of deviations, and what is lost by subtraction; if they are asked for."""
        q, p = self._variances(k, d)
        if not self.at.kinked:
            return q, q
        return ratio_of(*self._deviations(k, d)), np.where((q > 0) & (p > 0), 0, q - p)

    def _pooled(self, k: int, d: Shift) -> Pair:
        s, t = self.pooled[k][d]
        n, m = self._inverses(k, d)
        v = np.maximum(1 - np.abs(s) * n * m, 0)
        v = told_apart(np.where(self.same & (d == (0, 0)), 0, v), rough(v))
        return Pair(s, t, v, *self._ratio(k, d))

    def _convolved(self, k: int, d: Shift, pair: Pair) -> Pair:
        at, step = self.at, self.at.plan.steps[k]
        gain, bias = float(step["gain"]), float(step["bias"])
        s = gain * at.window(pair.s, k, d) + bias
        t = gain * at.window(pair.t, k, d) + step["trained"] * s
        n, m = self._inverses(k + 1, d)
        v = np.maximum(1 - np.abs(s) * n * m, 0)
        found = Pair(s, t, v, *self._ratio(k + 1, d))
        near = np.flatnonzero((v < CLOSE).any(axis=(1, 2))) if at.kinked else np.zeros(0, int)
        if near.size:
            whole, ratio = self._whole(k + 1, d, found, near), found.ratio[near]
            lost, total = bias * (1 - ratio) * (1 + ratio), np.zeros(())
            if k:
                parts = list(self._parts(k, d, pair.part(near), near))
                lost += gain * sum(part.gap(p, ratio) for *_, p, part in parts)
                whole = whole.losing(lost)
                for *_, q, p, part in parts:
                    total = total + share_of(gain, q, p, part, whole).defect()
            else:
                scale = gain * at.plan.input_scale
                for _, x, y, rest in self._patches(d, whole, near):
                    lost += scale * (((x - y) - rest) * ((x + y) + rest)).sum(axis=1)
                whole = whole.losing(lost)
                for _, *pixels in self._patches(d, whole, near):
                    total = total + scale / 2 * (whole.apart(*pixels) ** 2).sum(axis=1)
            found.lost[near] = lost
            total = total + whole.bias(bias).defect()
            v[near] = np.where(v[near] < CLOSE, total, v[near])
        return found

    def _parts(self, k: int, d: Shift, pair: Pair, near: Indices) -> Iterator[Part]:
        """Yield what a window of convolution k adds up: one pair of pixels at a time."""
        at = self.at
        rows, columns = (at.taps(k, axis, d[axis]) for axis in (0, 1))
        q, p = with_margin(self.x.q[k][near]), with_margin(self.y.q[k][near])
        planes = [with_margin(a) for a in (pair.s, pair.v, pair.ratio, pair.lost)]
        for i, j in np.ndindex(len(rows.x), len(columns.x)):
            of_x, of_y, place = ((a[i], b[j]) for a, b in zip(rows, columns, strict=True))
            one, two = taken(q, *of_x), taken(p, *of_y)
            s, v, ratio, lost = (taken(plane, *place) for plane in planes)
            both = (place[0] >= 0)[:, None] & (place[1] >= 0)
            # A pixel beside none: its own variance is lost, or that of the second image times 0.
            yield place, of_x, one, two, Pair(s, s, v, ratio, np.where(both, lost, one))

    def _patches(
        self, d: Shift, whole: Whole, near: Indices
    ) -> Iterator[tuple[Place, Doubles, Doubles, Doubles]]:
        """Yield places in the first image, its pixels, and those of the second times the ratio.

        These as products and their rounding errors, of the windows of the first convolution.
        """
        rows, columns = (self.at.taps(0, axis, d[axis]) for axis in (0, 1))
        x, y = with_margin(self.x.data[near]), with_margin(self.y.data[near])
        for i, j in np.ndindex(len(rows.x), len(columns.x)):
            of_x, of_y = (rows.x[i], columns.x[j]), (rows.y[i], columns.y[j])
            yield of_x, taken(x, *of_x), *exact_product(whole.pair.ratio[:, None], taken(y, *of_y))

    def _angle(self, pair: Pair) -> tuple[Doubles, Doubles]:
        """Return sin^2 and cos^2 of half the angle."""
        back, half = pair.s < 0, pair.v / 2
        return np.where(back, 1 - half, half), np.where(back, half, 1 - half)

    def _activated(self, k: int, d: Shift, pair: Pair) -> Pair:
        one = self.at.activations[k]
        if isinstance(one, Masking):
            return pair.masked(one.kept, self._mask_gain(one.kept, d))
        v, vc = self._angle(pair)
        roots = np.multiply(*self._deviations(k + 1, d))
        if one.degree is None:
            s, slope = self._between(k, d, v, vc)
            v = np.maximum(1 - np.abs(s) * inverse(roots), 0)
            if d == (0, 0):  # equal pixels
                after = self._variances(k + 1, d)[0]
                s, v = np.where(self.same, after, s), np.where(self.same, 0, v)
            return Pair(s, pair.t * slope, v, *self._ratio(k + 1, d))
        defect, slope, _ = one.on_sphere(1.0, v, vc)
        rest = one.on_sphere(1.0, vc, v)[0] if one.is_odd else 2 - defect
        gain = float(one.variance(1.0))
        s = roots * np.where(defect < rest, 1 - defect, rest - 1)
        if one.degree == 0:
            return Pair(s, 0 * s, np.minimum(defect, rest), np.ones_like(s), 0 * s)
        v, t = np.minimum(defect, rest), pair.t * slope * gain
        if one.degree == 1:
            return Pair(s, t, v, pair.ratio, gain * pair.lost)
        q, p = self._variances(k, d)
        t *= (np.sqrt(q) * np.sqrt(p)) ** (one.degree - 1)
        return Pair(s, t, v, *self._ratio(k + 1, d))

    def _mask_gain(self, kept: float, d: Shift) -> Any:
        """Return what masks multiply covariances by: more than 1 where there is one mask."""
        return np.where(self.same, 1 / kept, 1.0) if d == (0, 0) else 1.0

    def _between(self, k: int, d: Shift, v: Doubles, vc: Doubles) -> tuple[Doubles, Doubles]:
        """Return both duals before step k, of sin^2 and cos^2 of half the angles."""
        one, pairs = self.at.activations[k], len(v) // max(self.rows, 1)
        if k not in self.sides:  # of distinct images: with one pair in a row others are its own
            p = self.y.q[k][:pairs] if pairs > 1 else self.y.q[k]
            self.sides[k] = one.sides(self.x.q[k][::pairs], p)
        shared, left, right = self.sides[k]
        left = self.at.left(left, k, d)[:, None]
        right = self.at.right(right, k, d)
        right = right[None] if pairs > 1 else right[:, None]
        shape = self.rows, pairs, *v.shape[1:]
        s, slope = one.between(shared, left, right, v.reshape(shape), vc.reshape(shape))
        return s.reshape(v.shape), slope.reshape(v.shape)

    def _normalized(self, k: int, d: Shift, pair: Pair) -> Pair:
        (n, m), (q, p) = self._scales(k, d), self._variances(k, d)
        ratio, lost = np.ones_like(pair.s), q * n * n - p * m * m
        if self.at.kinked and self.at.plan.steps[k]["whole"]:
            whole = ratio_of(m, n)
            if d == (0, 0):  # the plane that comes first in any walk
                self.moved[k] = pair.gap(p, whole).mean(axis=(1, 2), keepdims=True) * m * m
            ratio = pair.ratio * inverse(whole)
            multiple, rest = exact_product(ratio, whole)
            lost = pair.lost + ((pair.ratio - multiple) - rest) * (pair.ratio + multiple) * p
            lost = n * n * (lost - ratio**2 * self.moved[k] * p)
        return Pair(pair.s * n * m, pair.t * n * m, pair.v, ratio, lost)

    def _scales(self, k: int, d: Shift) -> tuple[Doubles, Doubles]:
        """Return what normalization k multiplies by: inverse deviations."""
        if not self.at.plan.steps[k]["whole"]:
            return self._inverses(k, d)
        n, m = (
            inverse(np.sqrt(one.q[k].mean(axis=(1, 2), keepdims=True))) for one in (self.x, self.y)
        )
        return n, m

    def _added(self, k: int, d: Shift, pair: Pair, saved: Pair) -> Pair:
        s, t, v = pair.s + saved.s, pair.t + saved.t, np.zeros_like(pair.s)
        if not self.at.kinked:
            n, m = self._inverses(k + 1, d)
            return Pair(s, t, np.maximum(1 - np.abs(s) * n * m, 0), pair.lost, pair.ratio)
        (ratio, lost), ways = self._ratio(k + 1, d), (pair, saved)
        whole = self._whole(k + 1, d, Pair(s, t, v, ratio, lost))
        whole = whole.losing(sum(part.gap(p, ratio) for _, (_, p), part in self._ways(k, d, ways)))
        for _, variances, part in self._ways(k, d, ways):
            v += share_of(1.0, *variances, part, whole).defect()
        return whole.pair

    def _multiplied(self, k: int, d: Shift, pair: Pair, saved: Pair) -> Pair:
        (q, _), (_, other) = (self._variances(level, d) for level in (self.at.saved(k), k))
        ratio, lost = self._ratio(k + 1, d)
        if self.at.kinked:
            p = self._variances(k + 1, d)[1]
            ratio, rest = exact_product(pair.ratio, saved.ratio)
            lost = pair.lost * q + pair.ratio**2 * other * saved.lost
            lost = lost + (2 * ratio + rest) * rest * p
        v = pair.v * (1 - saved.v) + saved.v
        return Pair(pair.s * saved.s, pair.t * saved.s + pair.s * saved.t, v, ratio, lost)

    def _ways(
        self, k: int, d: Shift, ways: tuple[Pair, Pair]
    ) -> Iterator[tuple[int, tuple[Doubles, Doubles], Pair]]:
        """Yield the levels and variances of the ways that step k adds."""
        for level, part in zip((k, self.at.saved(k)), ways, strict=True):
            yield level, self._variances(level, d), part

    def pool(self, k: int, d: Shift, pair: Pair, links: Links) -> None:
        """Add a plane to those behind pool k."""
        gain = float(self.at.plan.steps[k]["gain"])
        found = self.pooled.setdefault(k + 1, defaultdict(lambda: [0.0, 0.0]))
        for to, rows, columns in links:
            for number, part in enumerate((pair.s, pair.t)):
                found[to][number] = found[to][number] + gain * (rows @ part @ columns.T)

    def read(self) -> tuple[Doubles, Doubles]:
        """Return the sums of S and T over the weights of the read-out, without its bias."""
        s, t = np.zeros_like(self.y.data, shape=(2, len(self.y.data)))
        for d, weights in self.at.weights.items():
            pair = self.forth(*self.at.segments[-1], d)[-1]
            s += (weights * pair.s).sum(axis=(1, 2))
            t += (weights * pair.t).sum(axis=(1, 2))
        return s, t
