"""A pair of pixels of two images on the way through a network, as its derivatives ask for it.

A pair is carried as its covariance S, its tangent kernel T and v = 1 - |u|, u the cosine, from
small quantities where it is small: see csrc/formulas/pixel_pairs.hpp. What a step makes of several
pairs is a sum of parts: with shares e and f of the deviations of both images,

    1 - u = sum e f (1 - u_a) + 1/2 sum (e - f)^2,
    du = sum e f du_a + sum e (f u_a - e u) dq_a / (2 q_a)

as the first image moves. Differences of shares are those of variances, which are carried too.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ntkfast.arrays.decimals import epsilon
from ntkfast.kernels.close_pairs import Doubles, inverse, lost_at

CLOSE = 0.01  # v below which it is summed from small quantities
PARALLEL = 1e-28  # v below which a pair differs by rounding, and counts as parallel


def rough(v: Doubles) -> float:
    """Return what v counts as parallel below where it is a difference: its rounding."""
    return 64 * epsilon(v.dtype)


class Pair(NamedTuple):
    """The pairs of pixels of one displacement, (pairs of images, rows, columns).

    Attributes
    ----------
    s, t, v : arrays
    ratio, lost : arrays
        Some number close to the ratio of deviations, and the variance of the first image less that
        of the second times its square: known where v is small, to the rounding of this difference.
        Pixels that are multiples of each other have none.
    """

    s: Doubles
    t: Doubles
    v: Doubles
    ratio: Doubles
    lost: Doubles

    def part(self, which: Any) -> Pair:
        """Return those of some images."""
        return Pair(*(a[which] for a in self))

    def masked(self, kept: float, gain: Any) -> Pair:
        """Return pairs behind masks that multiply covariances by `gain`, and variances by more."""
        v = 1 - gain * kept * (1 - self.v)
        return Pair(gain * self.s, gain * self.t, v, self.ratio, self.lost / kept)

    def gap(self, p: Doubles, ratio: Doubles) -> Doubles:
        """Return `lost` for another ratio, `p` the variances of the second image."""
        return lost_at(self.lost, self.ratio, p, ratio)


class By(NamedTuple):
    """Derivatives by covariances, tangent kernels, and cosines: what has a pole."""

    s: Any
    t: Any
    u: Any = 0.0

    def plus(self, other: By) -> By:
        """Return the sum."""
        return By(self.s + other.s, self.t + other.t, self.u + other.u)

    def by_factor(self, other: Pair) -> By:
        """Return the derivatives by one of two factors."""
        u = np.where(other.s < 0, other.v - 1, 1 - other.v)
        return By(self.s * other.s + self.t * other.t, self.t * other.s, self.u * u)


class Whole(NamedTuple):
    """Pairs behind a step, as their parts ask for them; n and m are inverse deviations."""

    q: Doubles
    n: Doubles
    m: Doubles
    pair: Pair

    @property
    def sign(self) -> Doubles:
        """Those of the covariances."""
        return np.where(self.pair.s < 0, -1.0, 1.0)

    def losing(self, lost: Any) -> Whole:
        """Return the same with other differences of variances."""
        return self._replace(pair=self.pair._replace(lost=lost))

    def apart(self, x: Doubles, y: Doubles, rest: Doubles) -> Doubles:
        """Return parts of the unit vector of the second image less those of the first.

        Of the opposite of the first one where the cosine is negative. `x` are its pixels, `y` and
        `rest` those of the second one times the ratio, with the rounding error of the product.
        """
        sign, n, m = self.sign, self.n, self.m / self.pair.ratio
        shift = sign * self.pair.lost * (n * m) ** 2 * inverse(n + m)  # sign (m - n)
        return ((y - sign[:, None] * x) + rest) * m[:, None] + shift[:, None] * x

    def bias(self, e: float) -> Share:
        """Return the part of a bias of variance `e`."""
        one, ones = np.asarray(e), np.ones_like(self.q)
        return share_of(1.0, one, one, Pair(ones, ones, 0 * ones, ones, 0 * ones), self)


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
        return by_u * self.e * self.f, by_u * self.e * whole.sign * rest / 2 * inverse(self.q)


def share_of(gain: float, q: Doubles, p: Doubles, part: Pair, whole: Whole) -> Share:
    """Return a part of pairs, of variances `q` and `p`, that a step multiplies by `gain`."""
    e, f = np.sqrt(gain * q) * whole.n, np.sqrt(gain * p) * whole.m
    lost = gain * part.gap(p, whole.pair.ratio) - f * f * whole.pair.lost
    turned = lost * inverse(whole.q * (e + f))
    return Share(e, f, turned, (part.s < 0) == (whole.pair.s < 0), part.v, q)
