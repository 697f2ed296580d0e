"""Planes of pairs of pixels of two images, and how windows link them: csrc/formulas/planes.hpp.

All pairs of a pixel p of x and the pixel p + d of y form the plane of displacement d. Linear steps
make a plane of sums over windows of planes before it, along rows and along columns by themselves:
R S C^T with matrices of counts. Back go the transposes.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from copy import copy
from functools import cache
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ntkfast.activations.base import Activation
from ntkfast.activations.polynomials import Masking
from ntkfast.engines.codes import ImageOperation
from ntkfast.engines.maps import ImagePlan

Doubles: TypeAlias = NDArray[np.float64]
Indices: TypeAlias = NDArray[np.intp]
Shift: TypeAlias = tuple[int, int]  # displacement behind the steps up to the next pool
# The planes that a pool makes of one, with the counts of rows and columns.
Links: TypeAlias = list[tuple[Shift, Doubles, Doubles]]
CONV, RELU, POOL, SAVE, ADD, SWAP, ACTIVATE, NORMALIZE, MULTIPLY = map(int, ImageOperation)


class Taps(NamedTuple):
    """Which pixels a place of a window meets along one axis, (window, pairs) arrays; -1: none.

    Attributes
    ----------
    x, y : arrays
        Pixels of the images.
    pair : array
        Pairs of the plane before, of a pixel of x and one of y.
    """

    x: Indices
    y: Indices
    pair: Indices


class Geometry:
    """Where pixels of a plane lie in both images, and sums over their windows.

    Attributes
    ----------
    operations : list of int
        Of the steps.
    activations : list
        Of the steps; None of others.
    segments : list of pairs of int
        Steps between pools.
    masked : bool
        Whether there is dropout.
    kinked : bool
        Whether some activation has a kink or a jump, for which small angles keep their digits.
    jumps : bool
        Whether some activation has a jump.
    rough : list of bool
        Whether cosines before a step, and after the last, are differences.
    weights : dict
        Those of the read-out, by planes.
    planes, own : lists of dicts
        Planes that are asked for at the end of each segment but the last, of pairs and of images
        with themselves, and what the pool behind it makes of them.
    """

    def __init__(self, plan: ImagePlan, activations: Sequence[Activation]) -> None:
        self.plan, self.circular = plan, plan.circular
        self.sizes = [(int(level["height"]), int(level["width"])) for level in plan.levels]
        self.scales = [(int(level["scale_h"]), int(level["scale_w"])) for level in plan.levels]
        self.operations = [int(step["operation"]) for step in plan.steps]
        some = iter(activations)
        curved = (RELU, ACTIVATE)
        self.activations: list[Any] = [
            next(some) if op in curved else None for op in self.operations
        ]
        self.masked = any(isinstance(one, Masking) for one in activations)
        self.kinked = any(
            one.degree is not None for one in activations if not isinstance(one, Masking)
        )
        self.jumps = any(one.degree == 0 for one in activations)
        self.pools = [k for k, op in enumerate(self.operations) if op == POOL]
        starts = [0, *(k + 1 for k in self.pools)]
        self.segments = list(zip(starts, [*self.pools, len(plan.steps)], strict=True))
        self.rough = [False]
        for k, (op, one) in enumerate(zip(self.operations, self.activations, strict=True)):
            also = self.rough[self.saved(k)] if op in (ADD, MULTIPLY, SWAP) else False
            smooth = one is not None and one.degree is None
            here = self.rough[k] and op != SWAP
            self.rough.append(here or also or smooth or op == POOL)
        # Of a geometry, not of all: it goes with its plan.
        self.taps, self.links = cache(self._taps), cache(self._links)
        self.counts, self.pixels = cache(self._counts), cache(self._pixels)
        self.weights = dict(self._weights())
        self.planes, self.own = self._asked(set(self.weights)), self._asked({(0, 0)})
        self.own.append({})

    def plain(self) -> Geometry:
        """Return the same for numbers with enough digits for differences: all cosines are."""
        found = copy(self)
        found.kinked, found.rough = False, [True] * len(self.rough)
        return found

    def _weights(self) -> Iterator[tuple[Shift, Doubles]]:
        plan, (h, w) = self.plan, self.sizes[-1]
        low = (0, 0) if self.circular else (1 - h, 1 - w)
        # The plane of no displacement comes first: see `image_forth.Forth._normalized`.
        for d in _ordered(itertools.product(range(low[0], h), range(low[1], w))):
            rows, columns = (
                _diagonal(weight, e, self.circular)
                for weight, e in zip((plan.weight_h, plan.weight_w), d, strict=True)
            )
            if rows.any() and columns.any():
                yield d, rows[:, None] * columns

    def _asked(self, planes: set[Shift]) -> list[dict[Shift, Links]]:
        found: list[dict[Shift, Links]] = []
        for k in reversed(self.pools):
            links: dict[Shift, Links] = {}
            for to in planes | {(0, 0)}:
                rows, columns = (self.links(k, axis, to[axis]) for axis in (0, 1))
                for e, f in itertools.product(rows, columns):
                    links.setdefault((e, f), []).append((to, rows[e], columns[f]))
            found.append({d: links[d] for d in _ordered(links)})
            planes = set(links)
        return found[::-1]

    def saved(self, k: int) -> int:
        """Return the level that step k, which joins or swaps, finds in its slot."""
        steps, slot = self.plan.steps, self.plan.steps[k]["slot"]
        kept = [
            j for j in range(k) if self.operations[j] in (SAVE, SWAP) and steps[j]["slot"] == slot
        ]
        return kept[-1]

    # ---- planes ----------------------------------------------------------------------------------

    def _along(self, k: int, axis: int, d: int) -> int:
        """Return a displacement before step k in pixels."""
        pixels = d * self.scales[k][axis]
        return pixels % self.sizes[k][axis] if self.circular else pixels

    def _first(self, k: int, axis: int, pixels: int) -> tuple[int, int]:
        """Return the first pixel of x in the pairs of a displacement, and how many there are."""
        size = self.sizes[k][axis]
        return (0, size) if self.circular else (max(0, -pixels), max(0, size - abs(pixels)))

    def shape(self, k: int, d: Shift) -> tuple[int, int]:
        """Return rows and columns of a plane before step k."""
        rows, columns = (self.pixels(k, axis, d[axis]) for axis in (0, 1))
        return rows.stop - rows.start, columns.stop - columns.start

    def _pixels(self, k: int, axis: int, d: int) -> slice:
        """Return the pixels of the first image in a plane before step k, along an axis."""
        first, count = self._first(k, axis, self._along(k, axis, d))
        return slice(first, first + count)

    def left(self, a: Doubles, k: int, d: Shift) -> Doubles:
        """Return what belongs to the pixels of the first image of a plane before step k."""
        if self.circular:
            return a
        return a[..., self.pixels(k, 0, d[0]), self.pixels(k, 1, d[1])]

    def right(self, a: Doubles, k: int, d: Shift) -> Doubles:
        """Return the same of the second image."""
        if self.circular:
            return np.roll(a, [-self._along(k, axis, d[axis]) for axis in (0, 1)], (-2, -1))
        return self.left(a, k, (-d[0], -d[1]))

    # ---- windows ---------------------------------------------------------------------------------

    def _met(self, k: int, axis: int, d: int) -> tuple[Indices, Indices]:
        """Return the pixels of x and of y in windows behind step k, (window, pairs) arrays."""
        step, (n, after) = self.plan.steps[k], (self.sizes[j][axis] for j in (k, k + 1))
        pixels = self._along(k + 1, axis, d)
        first, count = self._first(k + 1, axis, pixels)
        x = first + np.arange(count)
        y = (x + pixels) % after if self.circular else x + pixels
        begin, place = -int(step["before"][axis]), np.arange(step["window"][axis])[:, None]
        found = []
        for side in (x, y):
            at = int(step["stride"][axis]) * side + begin + place
            if self.circular and self.operations[k] == CONV:
                at %= n
            found.append(np.where((at >= 0) & (at < n), at, -1))
        return found[0], found[1]

    def _taps(self, k: int, axis: int, d: int) -> Taps:
        """Return the taps of convolution k."""
        x, y = self._met(k, axis, d)
        first, _ = self._first(k, axis, self._along(k, axis, d))
        return Taps(x, y, np.where((x >= 0) & (y >= 0), x - first, -1))

    def _counts(self, k: int, axis: int, d: int) -> Doubles:
        """Return how often windows of convolution k meet pairs."""
        return _counted(
            self.taps(k, axis, d).pair, self._first(k, axis, self._along(k, axis, d))[1]
        )

    def spread(self, k: int) -> float:
        """Return the root of how many parts like the one that a pixel before step k sees fit in."""
        found = 1.0
        for axis in (0, 1):
            seen, stride = 1, 1
            for step, operation in zip(self.plan.steps[:k], self.operations, strict=False):
                if operation in (CONV, POOL):
                    seen += stride * (int(step["window"][axis]) - 1)
                    stride *= int(step["stride"][axis])
            found *= max(1.0, self.sizes[0][axis] / seen)
        return float(np.sqrt(found))

    def aligned(self, k: int, d: Shift) -> Links:
        """Return the plane before pool k of pixels at one place of both windows."""
        strides = self.plan.steps[k]["stride"]
        e, f = (int(strides[axis]) * self._along(k + 1, axis, d[axis]) for axis in (0, 1))
        if self.circular:
            e, f = e % self.sizes[k][0], f % self.sizes[k][1]
        rows, columns = (self.links(k, axis, d[axis]) for axis in (0, 1))
        return [((e, f), rows[e], columns[f])] if e in rows and f in columns else []

    def _links(self, k: int, axis: int, d: int) -> dict[int, Doubles]:
        """Return how often windows of pool k meet pairs, by displacements before it."""
        x, y = self._met(k, axis, d)
        one, two = np.broadcast_arrays(x[:, None], y)
        inside = (one >= 0) & (two >= 0)
        apart, n = two - one, self.sizes[k][axis]
        if self.circular:
            apart = apart % n
        found = {}
        for e in np.unique(apart[inside]).tolist():
            first, count = self._first(k, axis, e)
            met = np.where(inside & (apart == e), one - first, -1)
            found[e] = _counted(met.reshape(-1, met.shape[-1]), count)
        return found

    def window(self, a: Doubles, k: int, d: Shift = (0, 0)) -> Doubles:
        """Return sums over the windows of convolution k."""
        rows, columns = (self.counts(k, axis, d[axis]) for axis in (0, 1))
        return _summed(a, rows, columns)

    def turned_window(self, a: Doubles, k: int, d: Shift = (0, 0)) -> Doubles:
        """Apply the transpose of `window`."""
        rows, columns = (self.counts(k, axis, d[axis]).T for axis in (0, 1))
        return _summed(a, rows, columns)


def _counted(at: Indices, size: int) -> Doubles:
    """Count places along the first axis: a matrix from `size` of them to the second axis."""
    found = np.zeros((at.shape[1], size))
    window, pair = np.nonzero(at >= 0)
    np.add.at(found, (pair, at[window, pair]), 1)
    return found


def _summed(a: Doubles, rows: Doubles, columns: Doubles) -> Doubles:
    return np.asanyarray(rows @ a @ columns.T)


def taken(a: Doubles, rows: Indices, columns: Indices) -> Doubles:
    """Return pixels of images with a margin behind, which -1 takes."""
    return a[..., rows[:, None], columns]


def with_margin(a: Doubles) -> Doubles:
    """Put zeros behind the rows and columns of images."""
    found = np.zeros_like(a, shape=(*a.shape[:-2], a.shape[-2] + 1, a.shape[-1] + 1))
    found[..., :-1, :-1] = a
    return found


def _ordered(planes: Iterable[Shift]) -> list[Shift]:
    """Return planes in order, that of no displacement first."""
    return sorted(planes, key=lambda d: (d != (0, 0), d))


def _diagonal(weight: Doubles, d: int, circular: bool) -> Doubles:
    """Return weights of the pairs of pixels of a displacement along one axis."""
    if not circular:
        return np.diagonal(weight, d)
    at = np.arange(len(weight))
    return np.asarray(weight[at, (at + d) % len(weight)])
