"""Gradients of convolutional kernels by the pixels of an image, pair after pair.

A kernel depends on the pixels of the first image by covariances and by its variances; their way
from the pixels is differentiated once for all pairs of pixels. Behind a pool a variance is a sum of
covariances of an image with itself, which are walked back like others.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ntkfast.activations.base import Activation
from ntkfast.activations.polynomials import Masking
from ntkfast.arrays.decimals import decimals, is_decimal, rounded
from ntkfast.engines.maps import ImagePlan
from ntkfast.kernels.close_pairs import Doubles, inverse
from ntkfast.kernels.image_forth import Images
from ntkfast.kernels.image_heads import head_slopes
from ntkfast.kernels.image_pairs import By
from ntkfast.kernels.image_planes import (
    ACTIVATE,
    ADD,
    CONV,
    MULTIPLY,
    NORMALIZE,
    RELU,
    SAVE,
    SWAP,
    Geometry,
)
from ntkfast.kernels.image_slopes import Walk
from ntkfast.kernels.layers import Layers
from ntkfast.kernels.lost_digits import tell_decimals

AGAIN = 1e-11  # share of a gradient whose loss makes a pair be walked again, as float64 shows it
# What pairs are walked again in, until that is enough: long doubles are some ten times as slow as
# float64, decimals a hundred times.
NUMBERS: tuple[Callable[[Doubles], Any], ...] = (decimals,)
if np.finfo(np.longdouble).eps < np.finfo(np.float64).eps:
    NUMBERS = (partial(np.asarray, dtype=np.longdouble), decimals)
# From NNGP and NTK of pairs to the derivatives by both.
Weigh: TypeAlias = Callable[[Doubles, Doubles], tuple[Doubles, Doubles]]


class Own(NamedTuple):
    """The NNGP of images with themselves, and its derivatives by pixels and by constants."""

    value: Doubles
    gradient: Doubles
    by_steps: Doubles


@dataclass(frozen=True, eq=False)
class Alone:
    """What walks ask of images by themselves, which were divided by `size`.

    `eps` is the rounding of what they were given in, and `own` what dense layers behind the
    read-out ask for, or None.
    """

    geometry: Geometry
    images: Images
    size: Doubles
    eps: float
    own: Own | None = None

    def __len__(self) -> int:
        return len(self.size)

    def __getitem__(self, which: Any) -> Alone:
        own = None if self.own is None else Own(*(one[which] for one in self.own))
        return Alone(self.geometry, self.images.part(which), self.size[which], self.eps, own)

    @property
    def variance(self) -> Doubles:
        """The NNGP of the images themselves with themselves, where dense layers ask for it."""
        assert self.own is not None
        return self.size**2 * self.own.value


class Pairs(NamedTuple):
    """Pairs of images.

    Attributes
    ----------
    x, y : Alone
    same : (n,) array
        Which pairs are equal; with masks, which are an image with itself.
    weights : (n,) array
        What derivatives are multiplied by.
    """

    x: Alone
    y: Alone
    same: NDArray[np.bool_]
    weights: Doubles

    def part(self, which: Any) -> Pairs:
        """Return some of them."""
        return Pairs(self.x[which], self.y[which], self.same[which], self.weights[which])

    def widened(self, numbers: Callable[[Doubles], Any]) -> Pairs:
        """Return the same in numbers of more digits."""
        return self._replace(x=widened(self.x, numbers), y=widened(self.y, numbers))


class Back(NamedTuple):
    """Derivatives of kernels of pairs of images over the size of the first one, summed by rows.

    Attributes
    ----------
    gradient : (rows, channels, height, width) array
        By the pixels of the first images.
    by_steps : (rows, steps + 1, 2) array
        By gains and biases, if they are counted: `Walk.by_steps`.
    heads : (rows, k) array
        Those of `image_heads.head_slopes`, not over sizes.
    lost : (n,) array
        How much of the gradients of pairs is lost: see `image_losses`.
    told : (n,) array
        The share of them that dense layers lose.
    """

    gradient: Doubles
    by_steps: Doubles
    heads: Doubles
    lost: Doubles
    told: Doubles

    def shares(self) -> Doubles:
        """Return what pairs lose of the gradients of their rows; these may be lost altogether."""
        size = np.sqrt((self.gradient**2).sum(axis=(1, 2, 3)))
        each = np.repeat(size, len(self.lost) // len(size))
        return np.maximum(np.where(self.lost > 0, self.lost / each, 0), self.told)

    def share(self) -> float:
        """Return the largest share of a gradient that is lost."""
        size = np.sqrt((self.gradient**2).sum(axis=(1, 2, 3)))
        lost = self.lost.reshape(len(size), -1).sum(axis=1) * inverse(size)
        return float(max(np.minimum(lost, 1).max(), self.told.max()))


@lru_cache(maxsize=4)
def geometry_of(plan: ImagePlan, activations: tuple[Activation, ...]) -> Geometry:
    """Return the geometry of a plan."""
    return Geometry(plan, activations)


def alone(at: Geometry, data: Doubles) -> tuple[Images, Walk]:
    """Return images with their variances, and the walk of each image with itself."""
    plan = at.plan
    images = Images(data, [plan.input_scale * (data**2).sum(axis=1)])
    walk = Walk(at, images, images, np.ones(len(data), bool), len(data))
    for (k, end), planes in zip(at.segments, at.own, strict=True):
        for step in range(k, end):
            row, q, operation = plan.steps[step], images.q[-1], at.operations[step]
            if operation == CONV:
                q = row["gain"] * at.window(q, step) + row["bias"]
            elif operation in (RELU, ACTIVATE):
                q = np.asanyarray(at.activations[step].variance(q))
            elif operation == NORMALIZE:
                size = q.mean(axis=(1, 2), keepdims=True) if row["whole"] else q
                q = q * inverse(size)
                if not row["whole"]:
                    q = np.where(q > 0, np.ones_like(q), 0)
            elif operation == SWAP:
                q = images.q[at.saved(step)]
            elif operation == ADD:
                q = q + images.q[at.saved(step)]
            elif operation == MULTIPLY:
                q = q * images.q[at.saved(step)]
            images.q.append(q)
        for d, links in planes.items():
            walk.pool(end, d, walk.forth(k, end, d)[-1], links)
        if planes:
            images.q.append(walk.pooled[end + 1][0, 0][0])
    return images, walk


def with_own(one: Alone, parts: list[slice]) -> Alone:
    """Add the NNGP of images with themselves, part by part."""
    values: list[Doubles] = []

    def weigh(nngp: Doubles, ntk: Doubles) -> tuple[Doubles, Doubles]:
        values.append(nngp)
        return np.ones_like(nngp), np.zeros_like(ntk)

    gradients, by_steps = [], []
    for part in parts:
        images = one.images.part(part)
        count = len(images.data)
        same = np.ones(count, bool)
        found = pair_gradients(one.geometry, images, images, same, weigh, count, counts=True)
        gradients.append(2 * found[0])  # both images move
        by_steps.append(2 * found[1])
    return replace(one, own=Own(*map(np.concatenate, (values, gradients, by_steps))))


def widened(one: Alone, numbers: Callable[[Doubles], Any]) -> Alone:
    """Return images in numbers of more digits."""
    data = numbers(one.images.data)
    at = one.geometry.plain() if is_decimal(data) else one.geometry
    found = replace(one, geometry=at, images=alone(at, data)[0])
    return found if one.own is None else with_own(found, [slice(None)])


def derivatives(pairs: Pairs, rows: int, layers: Layers, *, nngp: bool, counts: bool) -> Back:
    """Return the derivatives of kernels of pairs of images.

    Pairs that lose digits are walked again in numbers that have more: what is lost is their
    rounding then.

    Parameters
    ----------
    pairs : Pairs
    rows : int
        How many first images there are, each with as many pairs, one after the other.
    layers : Layers
        Dense ones behind the read-out.
    nngp : bool
        Whether it is the NNGP, not the NTK.
    counts : bool
        Whether constants move.
    """
    ask = partial(_walked_back, layers=layers, nngp=nngp, counts=counts)
    limit = max(AGAIN, pairs.x.eps)

    def again(some: Pairs, numbers: Sequence[Callable[[Doubles], Any]]) -> Back:
        """Walk pairs one by one in the first of these numbers that is enough."""
        if numbers[0] is decimals:
            tell_decimals(len(some.same), math.prod(some.x.images.data.shape[2:]))
        found = ask(some.widened(numbers[0]), len(some.same))
        near = np.flatnonzero(found.shares() > limit)
        if near.size and numbers[1:]:
            for total, part in zip(found, again(some.part(near), numbers[1:]), strict=True):
                total[near] = part
        return found

    found = ask(pairs, rows)
    near = np.flatnonzero(found.shares() > limit)
    if near.size and NUMBERS:
        # What they lack is of the order of a pole: it must not be in sums, to be taken out again.
        weights = pairs.weights.copy()
        weights[near] = 0
        found = ask(pairs._replace(weights=weights), rows)
        after = again(pairs.part(near), NUMBERS)
        for total, one in zip(found[:3], after, strict=False):
            np.add.at(total, near // (len(pairs.same) // rows), one)
        found.lost[near], found.told[near] = after.lost, after.told
    return found


def _walked_back(pairs: Pairs, rows: int, layers: Layers, *, nngp: bool, counts: bool) -> Back:
    x, y, same, weights = pairs
    heads = np.zeros_like(x.images.data, shape=(rows, 3 + 4 * len(layers) * counts))
    told = np.zeros(len(same))

    def weigh(s: Doubles, t: Doubles) -> tuple[Any, Any]:
        factor = y.size * weights
        if not layers:
            return factor * nngp, factor * (not nngp)
        size = x.size * y.size
        values = x.variance, y.variance, size * s, size * t
        jumps = x.geometry.jumps
        slopes, told[:] = head_slopes(layers, *values, same, nngp=nngp, counts=counts, jumps=jumps)
        heads[:] = (weights * slopes).reshape(len(slopes), rows, -1).sum(axis=2).T
        return factor * slopes[0], factor * slopes[1]

    images, seen = (x.images, y.images), bool(layers)
    found = pair_gradients(x.geometry, *images, same, weigh, rows, seen=seen, counts=counts)
    gradient, by_steps, lost = found
    if x.own is not None:  # the first images move their own NNGP too
        first = slice(None, None, len(same) // rows)
        moved = heads[:, 2] * x.size[first]
        gradient = gradient + moved[:, None, None, None] * x.own.gradient[first]
        by_steps = by_steps + moved[:, None, None] * x.own.by_steps[first]
    return Back(*map(rounded, (gradient, by_steps, heads, lost, told)))


def pair_gradients(
    at: Geometry,
    x: Images,
    y: Images,
    same: NDArray[np.bool_],
    weigh: Weigh,
    rows: int,
    *,
    seen: bool = True,
    counts: bool = False,
) -> tuple[Doubles, Doubles, Doubles]:
    """Return the derivatives of functions of both kernels of pairs of images by the first images.

    Parameters
    ----------
    same : (n,) array
        Which pairs are equal; with masks, which are an image with itself.
    weigh : callable
        From the NNGP and the NTK of pairs to the derivatives by both.
    rows : int
        How many first images there are, each with as many pairs, one after the other: derivatives
        are summed over these.
    seen : bool
        Whether it looks at them: pairs are walked forth once more for that.
    counts : bool
        Whether gains and biases move.

    Returns
    -------
    gradient, by_steps, lost : arrays
        As in `Back`.
    """
    walk, final = Walk(at, x, y, same, rows, counts), at.segments[-1]
    walk.pool_all()
    s, t = walk.read() if seen else np.zeros_like(x.data, shape=(2, len(same)))
    bias, trained = at.plan.bias, at.plan.trained
    by_nngp, by_ntk = weigh(s + bias, t + trained * (s + bias))
    by_s = by_nngp + trained * by_ntk
    by_value, by_tangent = (a[:, None, None] for a in (by_s, by_ntk))
    for d, weights in at.weights.items():
        states, by_end = walk.forth(*final, d), By(by_value * weights, by_tangent * weights)
        walk.back(final[0], d, states, by_end)
        if counts:
            read = walk.summed(by_end.s * states[-1].s + by_end.t * states[-1].t)
            walk.by_steps[-1, 0] += read / 2
    walk.by_steps[-1, 1] = bias * walk.summed(by_s) / 2
    for (k, end), planes in zip(at.segments[-2::-1], at.planes[::-1], strict=True):
        for d, links in planes.items():
            walk.back(k, d, walk.forth(k, end, d), walk.by_plane(end, d, links))

    def summed(a: Doubles) -> Doubles:
        return np.asanyarray(a.reshape(rows, -1, *a.shape[1:]).sum(axis=1))

    distinct = x.data[:: max(len(same) // max(rows, 1), 1)]
    by_q = [summed(a) for a in walk.by_q]
    found = summed(walk.by_data) + by_variances(at, distinct, by_q, walk)
    return found, walk.by_steps.transpose(2, 0, 1).copy(), walk.losses.sizes()


def by_variances(at: Geometry, data: Doubles, by_q: list[Doubles], pairs: Walk) -> Doubles:
    """Return the gradients by pixels, from derivatives by the variances before all steps."""
    plan, more = at.plan, defaultdict[int, Any](float)
    images, walk = alone(at, data)
    walk.counts = pairs.counts
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
                part, bias = carried * (images.q[step + 1] - row["bias"]), row["bias"] * carried
                pairs.by_steps[step, 0] += walk.summed(part)
                pairs.by_steps[step, 1] += walk.summed(bias)
                carried = row["gain"] * at.turned_window(carried, step)
            elif isinstance(at.activations[step], Masking):
                carried = carried / at.activations[step].kept
            elif operation in (RELU, ACTIVATE):
                ends = np.zeros_like(q), np.ones_like(q)
                whole = at.activations[step].dual_slopes(q, q, *ends)
                carried = (2 * whole.by_q + whole.by_c) * carried
            elif operation == NORMALIZE and row["whole"]:
                size = inverse(q.mean(axis=(1, 2), keepdims=True))
                mean = (carried * q).mean(axis=(1, 2), keepdims=True)
                carried = size * (carried - size * mean)
            elif operation == NORMALIZE:
                carried = np.zeros_like(carried)
            elif operation == ADD:
                more[at.saved(step)] = carried
            elif operation == MULTIPLY:
                saved = at.saved(step)
                carried, more[saved] = carried * images.q[saved], carried * q
            elif operation == SWAP:
                saved = at.saved(step)
                carried, more[saved] = more.pop(step), more[saved] + carried
            elif operation == SAVE:
                carried = carried + more.pop(step)
            carried = carried + by_q[step]
        by_q[k] = carried
    pairs.by_steps += 2 * walk.by_steps
    return 2 * walk.by_data + 2 * plan.input_scale * by_q[0][:, None] * data
