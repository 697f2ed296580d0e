"""Gradients of recurrent kernels by the steps of a sequence: pairs walked forth and back in NumPy.

Forth a pair is carried as 1 - u, 1 + u and the NTK, by sums of terms that are not negative, as in
csrc/formulas/sequence.hpp: angles keep their digits. Back go the derivatives by its covariances and
by the variances of the first sequence, both linear but for the activation.

Functions with a kink, which are homogeneous, have derivatives with a pole at angle 0, by the cosine
alone. It goes back by itself: a cosine is a sum over parts, and moves with them, and as the shares
of a variance turn. Differences of sequences, of variances and of shares are carried forth, so that
what meets the pole is as small as the angle and as exact as the sequences.

A parameter moves the variances of the parts of a step, and the first sequence has a half of these
constants, as in `each_pair`: it moves what its variances and shares move, and covariances.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ntkfast.activations.base import DualSlopes
from ntkfast.activations.pairs import covariance, root_share
from ntkfast.arrays.ragged import Sequences
from ntkfast.engines.maps import SequenceMap
from ntkfast.kernels.close_pairs import (
    Doubles,
    exact_product,
    inverse,
    lost_at,
    ratio_of,
    told_apart,
)
from ntkfast.kernels.pairwise import angles
from ntkfast.kernels.recurrence import Direction, Recursion

STEPS = ("w_std", "u_std", "b_std", "h_std", "v_std")  # what moves, in the order of `by_steps`
PARALLEL = 1e-26  # half of 1 - |u| below which a pair differs by rounding, and counts as parallel


class Apart(NamedTuple):
    """Pairs of steps of the inputs, from the difference of both.

    Attributes
    ----------
    w, co : (n, m) arrays
        1 - u and 1 + u, u the cosine.
    tangent : (n, m, channels) array
        What is left of the direction of the second without that of the first.
    ratio, squares : (n, m) arrays
        A ratio of norms, and the difference of their squares for it.
    """

    w: Doubles
    co: Doubles
    tangent: Doubles
    ratio: Doubles
    squares: Doubles


def apart(X: Doubles, Y: Doubles) -> Apart:
    """Compare all pairs of rows; a row of zeros has no direction."""
    r, s = (np.linalg.norm(side, axis=1) for side in (X, Y))
    back = np.where(X @ Y.T < 0, -1.0, 1.0)[..., None]
    ratio, one = ratio_of(r[:, None], s), inverse(r)[:, None]
    x, (y, rest) = X[:, None], exact_product(ratio[..., None], back * Y)
    gap = (y - x) + rest
    squares = np.einsum("ijc,ijc->ij", gap, x + y)
    size = ratio * s * (r[:, None] + ratio * s)
    across = (gap - y * (squares * inverse(size))[..., None]) * one[..., None]
    small = np.einsum("ijc,ijc->ij", across, across) / 2
    tangent = back * (across + (small * one)[..., None] * x)
    empty, other = r[:, None] == 0, s == 0
    small = np.where(empty & other, 0, np.where(empty | other, 1, small))
    unit = Y / np.where(s > 0, s, 1)[:, None]
    tangent = np.where(empty[..., None], unit, np.where(other[:, None], 0, tangent))
    front = back[..., 0] > 0
    return Apart(
        np.where(front, small, 2 - small),
        np.where(front, 2 - small, small),
        tangent,
        ratio,
        -squares,
    )


@dataclass(frozen=True, eq=False)
class Side:
    """Sequences in one direction, padded; steps are numbered from the end.

    Attributes
    ----------
    inputs : (steps, n, channels) array
    lengths : (n,) array
    q, v : (steps, layers, n) arrays
        Variances before the activation and behind it.
    parts, shares : (3, steps, layers, n) arrays
        Parts of variances: from the step before, from below, of the bias; and the unit vectors of
        their roots.
    """

    inputs: Doubles
    lengths: NDArray[np.int64]
    q: Doubles
    v: Doubles
    parts: Doubles
    shares: Doubles

    @property
    def past(self) -> Doubles:
        """The parts from the step before."""
        return np.asarray(self.parts[0])

    def __getitem__(self, part: slice) -> Side:
        rest = (a[..., part] for a in (self.q, self.v, self.parts, self.shares))
        return Side(self.inputs[:, part], self.lengths[part], *rest)


@dataclass(frozen=True, eq=False)
class Sides:
    """Sequences in each direction that is read."""

    sides: tuple[Side, ...]

    def __len__(self) -> int:
        return len(self.sides[0].lengths)

    def __getitem__(self, part: slice) -> Sides:
        return Sides(tuple(side[part] for side in self.sides))


def side_of(network: Recursion, X: Sequences, reverse: bool) -> Side:
    """Return what a walk asks of sequences by themselves."""
    order = np.argsort(X.lengths, kind="stable")
    lengths = X.lengths[order]
    first = np.cumsum(lengths) - lengths
    step = np.arange(int(lengths.sum())) - np.repeat(first, lengths)
    begin, stop = np.repeat(X.first[order], lengths), np.repeat(lengths, lengths)
    values = X.values[begin + step if reverse else begin + stop - 1 - step].astype(np.float64)
    own = Direction(network, values, first, lengths)
    at, steps = np.repeat(order, lengths), int(lengths[-1])
    inputs = np.zeros((steps, len(X), X.channels))
    inputs[step, at] = values
    padded = []
    for flat in (own.q, own.past, own.v):
        whole = np.zeros((steps, network.depth, len(X)))
        whole[step, :, at] = flat.T
        padded.append(whole)
    q, past, v = padded
    below = np.empty_like(q)
    below[:, 0] = network.u_std**2 / X.channels * np.einsum("kic,kic->ki", inputs, inputs)
    below[:, 1:] = network.u_std**2 * v[:, :-1]
    parts = np.array([past, below, np.full_like(q, network.b_std**2)])
    shares = [root_share(part, q, limit) for part, limit in zip(parts, (0, 0, 1.0), strict=True)]
    return Side(inputs, X.lengths, q, v, parts, np.array(shares))


class Walk:
    """All pairs of n sequences and m others.

    Attributes
    ----------
    by_c, by_q : (steps, layers, n, m) arrays
        Derivatives of each kernel by the covariances of its pair, and by the variances of the first
        sequence.
    by_u : (steps, n, m) array
        The rest of those by the first layer's cosines, of functions with a kink.
    by_steps : (5, n, m) array
        If they are counted, derivatives by the logarithms of the halves of variances that the first
        sequences have: of the weights of the step before, of those from below, of the bias, of the
        first state and of the read-out.
    """

    def __init__(
        self,
        network: Recursion,
        plan: SequenceMap,
        x: Side,
        Y: Side,
        own: Any,
        counts: bool = False,
    ) -> None:
        self.network, self.plan, self.x, self.Y, self.counts = network, plan, x, Y, counts
        self.count = min(len(x.q), len(Y.q))
        self.degree = network.activation.degree
        self.kinked = self.degree in (0, 1)
        steps = np.arange(self.count)[:, None, None]
        self.live = (steps < x.lengths[:, None]) & (steps < Y.lengths)
        self.shape = network.depth, len(x.lengths), len(Y.lengths)
        self.start = np.where(own, 0.0, 1.0)  # 1 - u of first states: its own is the same
        self.by_steps = np.zeros((len(STEPS), *self.shape[1:]))
        self._forth()
        self._back()
        self._settle()

    def _forth(self) -> None:
        net, one = self.network, self.network.activation
        w = np.broadcast_to(self.start, self.shape).copy()
        co, t = 2 - w, np.zeros(self.shape)
        self.theta, self.slope = (np.zeros((self.count, *self.shape)) for _ in range(2))
        self.duals: dict[tuple[int, int], DualSlopes] = {}
        self.shares: dict[tuple[int, int], tuple[Doubles, Doubles]] = {}
        self.inputs: dict[int, Apart] = {}
        # If parameters move: covariances and tangent kernels of both parts, and the NNGP on top.
        self.parts: dict[tuple[int, int], Doubles] = {}
        self.tops: dict[int, Doubles] = {}
        lost = np.zeros(self.shape)  # past of the first less that of the second, for some ratio
        ratio = np.ones(self.shape)
        before = np.zeros(self.shape[1:], bool)
        for k in reversed(range(self.count)):
            live, below, at = self.live[k], np.zeros(self.shape[1:]), np.ones(self.shape[1:])
            p_below: Any = 0.0
            w_below: Any
            co_below: Any
            if self.kinked:
                self.inputs[k] = apart(self.x.inputs[k], self.Y.inputs[k])
                w_below, co_below = self.inputs[k][:2]
                scale = net.u_std**2 / self.x.inputs.shape[2]
                below, at = scale * self.inputs[k].squares, self.inputs[k].ratio
                p_below = scale * np.einsum("jc,jc->j", self.Y.inputs[k], self.Y.inputs[k])
            else:
                w_below, co_below = angles(self.x.inputs[k], self.Y.inputs[k])
            t_below: Any = 0.0
            for layer in range(net.depth):
                q, p = self.x.q[k, layer], self.Y.q[k, layer]
                e, f = self.x.shares[:, k, layer, :, None], self.Y.shares[:, k, layer, None]
                both, apart_ = e * f, e - f
                if self.kinked:
                    own, past = ratio_of(np.sqrt(q)[:, None], np.sqrt(p)), self.Y.past[k, layer]
                    first = lost_at(lost[layer], ratio[layer], past, own)
                    other = self.x.past[k, layer, :, None] - past  # of sequences not begun
                    other = lost_at(other, 1.0, past, own)
                    first = np.where(before, first, other)
                    below = lost_at(below, at, p_below, own)
                    bias = net.b_std**2 * (1 - own) * (1 + own)
                    apart_ = _turned(e, f, np.array([first, below, bias]), q[:, None])
                gap = (apart_**2).sum(axis=0) / 2
                turned = ((apart_[:2] ** 2).sum(axis=0) + (e[2] + f[2]) ** 2) / 2
                defect = both[0] * w[layer] + both[1] * w_below + gap
                rest = both[0] * co[layer] + both[1] * co_below + turned
                near = defect < rest
                v = told_apart(np.where(near, defect, 2 - rest) / 2, PARALLEL)
                vc = told_apart(np.where(near, 2 - defect, rest) / 2, PARALLEL)
                theta = t[layer] + t_below
                if layer >= net.fixed_layers:
                    theta = theta + covariance(q[:, None], p, v, vc)
                if self.counts:
                    ways = (w[layer], co[layer], t[layer]), (w_below, co_below, t_below)
                    self.parts[k, layer] = self._parts(k, layer, *ways)
                if self.kinked:
                    same = np.zeros_like(v)  # of the bias
                    gaps = np.array([w[layer], w_below, same])
                    far = np.array([co[layer], co_below, same + 2])
                    front = f * (1 - gaps) - e * (1 - 2 * v)
                    front = np.where(v < 0.25, e * (2 * v) - f * gaps - apart_, front)
                    behind = apart_ + f * far - e * (2 * vc)
                    self.shares[k, layer] = both, np.where(vc < 0.25, behind, front)
                    gain = self.degree * self.x.v[k, layer] / np.where(q > 0, q, 1)
                    below_ = gain[:, None] * (first + below + bias)
                    at = own if self.degree else np.ones_like(own)
                defect, slope, _ = one.pair_duals(q, p, v, vc)
                rest = one.pair_duals(q, p, vc, v)[0] if one.is_odd else 2 - defect
                self.duals[k, layer] = one.dual_slopes(q[:, None], p, v, vc)
                self.theta[k, layer], self.slope[k, layer] = theta, slope
                t[layer] = np.where(live, net.w_std**2 * slope * theta, 0)
                w[layer] = np.where(live, defect, self.start)
                co[layer] = np.where(live, rest, 2 - self.start)
                w_below, co_below = defect, rest
                t_below = net.u_std**2 * slope * theta
                if self.kinked:
                    lost[layer], below = net.w_std**2 * below_, net.u_std**2 * below_
                    ratio[layer], p_below = at, net.u_std**2 * self.Y.v[k, layer]
            if self.counts:
                sizes = self.x.v[k, -1][:, None], self.Y.v[k, -1]
                self.tops[k] = np.asarray(covariance(*sizes, defect / 2, rest / 2), np.float64)
            before = live

    def _parts(self, k: int, layer: int, past: Any, below: Any) -> Doubles:
        """Return covariances and tangent kernels of the parts of a step, (2, 2, n, m) array."""
        both = self.x.parts[:2, k, layer, :, None], self.Y.parts[:2, k, layer, None]
        found = [
            (covariance(q, p, w / 2, co / 2), np.broadcast_to(t, self.shape[1:]))
            for q, p, (w, co, t) in zip(*both, (past, below), strict=True)
        ]
        return np.array(found)

    def _back(self) -> None:
        net, plan, x = self.network, self.plan, self.x
        self.by_c = np.zeros((self.count, *self.shape))
        self.by_q = np.zeros((len(x.q), *self.shape))
        self.by_u = np.zeros((self.count, *self.shape[1:]))
        value, tangent, turn = (np.zeros(self.shape) for _ in range(3))  # through the next step
        scale: Any = net.v_std**2
        if plan.mean:
            scale = scale / np.sqrt(x.lengths[:, None] * self.Y.lengths)
        for k in range(self.count):
            read = scale * plan.weights[int(k == 0)]
            above, above_t = read, 0.0 if plan.nngp else read
            if self.counts:
                ends = self.slope[k, -1] * self.theta[k, -1]
                self._count(k, 4, above * self.tops[k] + above_t * ends)
            above_u: Any = 0.0
            for layer in reversed(range(net.depth)):
                up, up_t = value[layer] + above, tangent[layer] + above_t
                slopes, theta = self.duals[k, layer], self.theta[k, layer]
                by_t = np.where(self.live[k], up_t * self.slope[k, layer], 0)
                by_c, by_q = up * slopes.by_c, up * slopes.by_q
                if self.kinked:
                    turn[layer], above_u = self._turn_back(
                        k, layer, up, up_t * theta, turn[layer] + above_u
                    )
                    if self.degree == 0:
                        by_c, by_q = 0 * by_c, 0 * by_q
                else:
                    by_c = by_c + up_t * theta * slopes.slope_by_c
                    by_q = by_q + up_t * theta * slopes.slope_by_q
                by_c = np.where(self.live[k], by_c, 0) + by_t * (layer >= net.fixed_layers)
                self.by_c[k, layer] = by_c
                self.by_q[k, layer] += np.where(self.live[k], by_q, 0)
                if self.counts:
                    bias = by_c * net.b_std**2
                    for part, (c, t) in enumerate(self.parts[k, layer]):
                        self._count(k, part, by_c * c + by_t * t)
                    self._count(k, 2, bias)
                value[layer], tangent[layer] = net.w_std**2 * by_c, net.w_std**2 * by_t
                above, above_t = net.u_std**2 * by_c, net.u_std**2 * by_t

    def _turn_back(self, k: int, layer: int, up: Any, up_t: Any, turn: Any) -> tuple[Any, Any]:
        """Return derivatives by the cosines of the step before and of the layer below.

        `turn` is that by the cosine behind the activation. What moves the variances of both goes to
        theirs, and what is left by the first cosines to `by_u`.
        """
        x, slopes = self.x, self.duals[k, layer]
        root, size = (
            np.sqrt(one[k, layer])[:, None] * np.sqrt(other[k, layer])
            for one, other in ((x.q, self.Y.q), (x.v, self.Y.v))
        )
        pole = up_t * slopes.slope_by_c if self.degree else up * slopes.by_c
        by_u = root * (pole + turn * slopes.by_c / np.where(size > 0, size, 1))
        by_u = np.where(self.live[k], by_u, 0)
        both, turned = self.shares[k, layer]
        past, below, _ = by_u * both
        moved = by_u * x.shares[:, k, layer, :, None] * turned
        if self.counts:
            for part, one in enumerate(moved):
                self._count(k, part, one)
        moved = moved * (self.degree / 2)
        if k + 1 < len(x.q):
            self.by_q[k + 1, layer] += moved[0] * inverse(x.q[k + 1, layer])[:, None]
        if layer:
            self.by_q[k, layer - 1] += moved[1] * inverse(x.q[k, layer - 1])[:, None]
        else:
            self.by_u[k] = by_u
        return past, below

    def _count(self, k: int, part: int, twice: Any) -> None:
        """Add the derivatives by the variance of one part of step k."""
        half = np.where(self.live[k], twice, 0) / 2
        self.by_steps[part] += half
        if part == 0:  # those of the first state are products of two variances
            self.by_steps[3] += np.where(self._first(k), half, 0)

    def _first(self, k: int) -> NDArray[np.bool_]:
        """Return whose first step k is."""
        return np.asarray(self.x.lengths == k + 1)[:, None]

    def _settle(self) -> None:
        """Carry the derivatives by variances of the first sequences to their first steps."""
        net, x, own, one = self.network, self.x, self.by_q, self.network.activation
        whole = one.dual_slopes(x.q, x.q, np.zeros(()), np.ones(()))
        rate = 2 * whole.by_q + whole.by_c  # of V(q) by q
        rate = np.where(np.arange(len(x.q))[:, None, None] < x.lengths, rate, 0)[..., None]
        for k in range(len(own)):
            for layer in reversed(range(net.depth)):
                if k:
                    own[k, layer] += rate[k, layer] * net.w_std**2 * own[k - 1, layer]
                if layer + 1 < net.depth:
                    own[k, layer] += rate[k, layer] * net.u_std**2 * own[k, layer + 1]
            if self.counts:
                moved = np.einsum("lij,pli->pij", own[k], x.parts[:, k])
                self.by_steps[:3] += moved
                self.by_steps[3] += np.where(self._first(k), moved[0], 0)

    def gradients(self) -> Doubles:
        """Return the gradient of each kernel by the steps of its first sequence.

        Returns
        -------
        (n, m, steps, channels) array
            Steps are numbered from the end, and those beyond a sequence are 0.
        """
        x, own = self.x, self.by_q
        scale = self.network.u_std**2 / x.inputs.shape[2]
        found = np.einsum("kij,kic->ijkc", 2 * own[:, 0], x.inputs)
        others = self.Y.inputs[: self.count]
        found[:, :, : self.count] += np.einsum("kij,kjc->ijkc", self.by_c[:, 0], others)
        found *= scale
        for k, inputs in self.inputs.items():
            size = self.by_u[k] * np.sqrt(scale * inverse(x.q[k, 0]))[:, None]
            unit = x.inputs[k] * inverse(np.linalg.norm(x.inputs[k], axis=1))[:, None]
            shares, turned = self.Y.shares[1, k, 0], self.shares[k, 0][1][1]
            found[:, :, k] += (size * shares)[..., None] * inputs.tangent
            found[:, :, k] += (size * turned)[..., None] * unit[:, None]
        return np.asarray(found)


def _turned(e: Doubles, f: Doubles, lost: Doubles, q: Doubles) -> Doubles:
    """Return the differences of shares, e - f, from those of parts of variances."""
    rest = lost - f * f * lost.sum(axis=0)
    both = q * (e + f)
    return np.asarray(rest / np.where(both > 0, both, 1))
