"""Pairs of images walked back through a convolutional network, in NumPy.

What lies behind a pool was kept on the way forth (`image_forth`), and planes before it are walked a
second time. Back go derivatives by S, by T, and by the variances of the first image: see
`image_gradients`.

Functions with a kink have derivatives with a pole at angle 0, by the cosine alone. It goes back by
itself as in `sequence_slopes`: a cosine is a sum over parts, and moves with them, and as the shares
of a variance turn. What meets the pole is as small as the angle, and as exact as the images. Behind
a pool, and behind a function without a kink, cosines are differences, and their poles derivatives
by S and by variances.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ntkfast.activations.polynomials import Masking
from ntkfast.arrays.decimals import is_decimal, rounded
from ntkfast.kernels.close_pairs import Doubles
from ntkfast.kernels.image_forth import Forth, Images
from ntkfast.kernels.image_losses import Losses
from ntkfast.kernels.image_pairs import CLOSE, By, Pair, rough, share_of
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
    Links,
    Shift,
    with_margin,
)


class Walk(Forth):
    """Pairs of images, as many on either side, forth and back.

    Attributes
    ----------
    by_q : list of (n, height, width) arrays
        Derivatives by the variances of the first image of each pair.
    by_data : (n, channels, height, width) array
        And by its pixels, without what comes by the variances.
    by_steps : (steps + 1, 2, rows) array
        If they are counted, by the halves of gains and biases that the first images have, as
        logarithms and summed over the pairs of a row: see `each_pair`. The last are those of the
        read-out.
    """

    def __init__(
        self,
        at: Geometry,
        x: Images,
        y: Images,
        same: NDArray[np.bool_],
        rows: int,
        counts: bool = False,
    ) -> None:
        super().__init__(at, x, y, same, rows)
        count = len(y.data)
        self.by_q = [np.zeros_like(y.data, shape=(count, *size)) for size in at.sizes]
        self.by_data = np.zeros_like(y.data)
        self.by_pooled: dict[int, dict[Shift, list[Any]]] = {}
        self.counts, shape = counts, (len(at.operations) + 1, 2, rows)
        self.by_steps = np.zeros_like(y.data, shape=shape)
        self.losses = Losses(at, rounded(x.data), rounded(y.data))

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
            elif operation == MULTIPLY:
                saved = at.saved(step)
                one, other = pair, states[saved - k]
                by, more[saved] = by.by_factor(other), by.by_factor(one)
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
        if not close.any():
            return By(by.s + moved, by.t)
        rest = np.where(close, by.u, 0)
        return By(by.s + moved, by.t, rest if rest.any() else 0.0)

    def _by_convolved(self, k: int, d: Shift, pair: Pair, after: Pair, by: By) -> By:
        if self.counts:
            self._count(k, d, after, by)
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
            for (rows, columns), x, y, rest in self._patches(d, whole, near):
                moved = whole.apart(x, y, rest) + lean * x
                found[..., rows[:, None], columns] += scale * (by_u * whole.n)[:, None] * moved
            self.by_data[near] += found[..., :-1, :-1]
            return By(by_s, by_t)
        planes = [with_margin(np.zeros_like(pair.s[near])) for _ in range(2)]
        by_q = with_margin(np.zeros_like(self.by_q[k][near]))
        for (rows, columns), (i, j), q, p, part in self._parts(k, d, pair.part(near), near):
            share = share_of(gain, q, p, part, whole)
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

    def _count(self, k: int, d: Shift, after: Pair, by: By) -> None:
        """Add the derivatives by gain and bias of convolution k."""
        bias, trained = (float(self.at.plan.steps[k][name]) for name in ("bias", "trained"))
        by_s, grown = by.s + trained * by.t, after.t - trained * after.s
        self.by_steps[k, 0] += self.summed(by_s * (after.s - bias) + by.t * grown) / 2
        self.by_steps[k, 1] += bias * self.summed(by_s + np.zeros_like(after.s)) / 2
        if bias and np.ndim(by.u):  # both together turn nothing
            whole = self._whole(k + 1, d, after)
            turned = bias * self.summed(whole.bias(bias).back(by.u, whole)[1])
            self.by_steps[k] += (-turned, turned)

    def summed(self, a: Doubles) -> Doubles:
        """Return sums over all that belongs to a row."""
        return np.asanyarray(a.reshape(self.rows, -1).sum(axis=1))

    def _by_added(
        self, k: int, d: Shift, pair: Pair, saved: Pair, after: Pair, by: By
    ) -> tuple[By, By]:
        if not np.ndim(by.u):
            return by, by
        whole, found = self._whole(k + 1, d, after), []
        for level, variances, part in self._ways(k, d, (pair, saved)):
            share = share_of(1.0, *variances, part, whole)
            turned, by_own = share.back(by.u, whole)
            self.at.left(self.by_q[level], level, d)[...] += by_own
            moved = np.where(share.q > 0, 0, by.u * whole.n * whole.m)
            found.append(By(by.s + moved, by.t, turned))
        return found[0], found[1]

    def _by_activated(self, k: int, d: Shift, pair: Pair, by: By) -> By:
        one = self.at.activations[k]
        if isinstance(one, Masking):
            gain = self._mask_gain(one.kept, d)
            return By(gain * by.s, gain * by.t, gain * one.kept * by.u)
        q, p = self._variances(k, d)
        v, vc = self._angle(pair)
        n, m = self._deviations(k, d)
        slopes, roots, bent = one.dual_slopes(q, p, v, vc), n * m, by.t * pair.t
        by_s, by_q, by_u = by.s * slopes.by_c, by.s * slopes.by_q, 0.0
        if one.degree is None:
            by_t = by.t * one.derivative_dual(q, p, roots * (vc - v))
            by_s = by_s + bent * slopes.slope_by_c
            by_q = by_q + bent * slopes.slope_by_q
        else:
            n, m = self._inverses(k + 1, d)
            pole = bent * slopes.slope_by_c if one.degree else by_s
            if self.at.rough[k]:
                plain = Pair(*map(rounded, pair))
                sides, size = (rounded(q), rounded(p)), rounded(roots)
                by_value, by_slope = rounded(by.s), rounded(bent)

                def kink(v: Doubles) -> tuple[Doubles, Doubles]:
                    turned = one.dual_slopes(*sides, *self._angle(plain._replace(v=v)))
                    bend = size * turned.slope_by_c
                    pole = bend * by_slope if one.degree else size * turned.by_c * by_value
                    return np.abs(pole), np.abs(size * bend * by_value)

                exact = is_decimal(pair.v)
                self.losses.add(k, d, plain, rough(pair.v), kink, exact=exact)
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
        shape = len(self.y.data), *self.at.shape(k, d)
        by_s, by_t = np.zeros_like(self.y.data, shape=(2, *shape))
        for to, rows, columns in links:
            if to in self.by_pooled.get(k + 1, {}):
                one, two = self.by_pooled[k + 1][to]
                by_s += gain * (rows.T @ one @ columns)
                by_t += gain * (rows.T @ two @ columns)
        return By(by_s, by_t)
