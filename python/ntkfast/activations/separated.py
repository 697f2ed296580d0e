"""Duals of functions without closed form between any two variances, for many pairs in NumPy.

The normalised dual of root variances r and r' at the angle theta is a sum of products

    K(r, r', theta) = sum_abj core[a, b, j] f_a(r) f_b(r') T_j(2 theta / pi - 1).

It is analytic in log(1 + r / first), by whose Chebyshev polynomials it is interpolated first; a
singular value decomposition leaves some ten functions f_a of these. It is analytic in theta too,
with a kink of the function at 0 as well, whose averages are those over sectors. A pair then costs
a product of short matrices: `pair_tables` has rows, of which many share one variance.
"""

# ruff: noqa: D102 - what activations do is documented once, in the base class

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from ntkfast.activations.averages import GAUSS
from ntkfast.activations.base import Activation, Array
from ntkfast.activations.mesh import Doubles, _chebyshev
from ntkfast.activations.pair_tables import (
    MOST_EVALUATIONS,
    Resolved,
    _at_roots,
    _beside_zero,
    _Rule,
    refuse_dear,
    root_stretches,
)
from ntkfast.activations.pairs import _angles

ROOTS = (16, 20, 24, 28, 32, 40, 48)  # nodes in root variances, as many as it takes
ANGLES = (24, 32, 40, 48, 64, 80, 96)
TAIL = 1e-12  # of a series that is long enough, relative to the roots of values at equal inputs
WORST = 1e-9  # error that is refused
SMALL = 1e-15  # singular values that are left out
LEAST = 2.0**-20  # of largest root variances
AT_ONCE = 1 << 17  # numbers of a product of matrices


class Separated(NamedTuple):
    """The duals of one function up to some root variance.

    Attributes
    ----------
    first, top : float
        Where roots begin to count by their logarithms, and the largest one.
    basis : (nodes, d) array
        Functions f_a, by Chebyshev polynomials.
    core : (d, 2 J d) array
        Of a, and of the dual and the derivative dual, j and b.
    angles : int
        J.
    """

    first: float
    top: float
    basis: Doubles
    core: Doubles
    angles: int

    def sides(self, root: Doubles) -> Doubles:
        """Return the functions f_a at roots, one more axis."""
        z = 2 * np.log1p(root / self.first) / np.log1p(self.top / self.first) - 1
        return np.asarray(np.polynomial.chebyshev.chebvander(z, len(self.basis) - 1) @ self.basis)

    def __call__(self, left: Array, right: Array, theta: Doubles) -> Doubles:
        """Return normalised duals and derivative duals.

        Parameters
        ----------
        left : (n, d) array
            Of `sides`.
        right : (n, m, d) array
        theta : (n, m) array

        Returns
        -------
        (2, n, m) array
        """
        found = np.empty((2, *theta.shape))
        size = max(1, AT_ONCE // (2 * self.angles * theta.shape[1]))
        for start in range(0, len(left), size):
            part = slice(start, start + size)
            mixed = (left[part] @ self.core).reshape(-1, 2 * self.angles, left.shape[-1])
            terms = mixed @ right[part].swapaxes(1, 2)
            waves = _waves(2 / np.pi * theta[part] - 1, self.angles)
            shaped = terms.reshape(-1, 2, self.angles, theta.shape[1])
            found[:, part] = np.einsum("nfjm,jnm->fnm", shaped, waves)
        return found

    def between(self, left: Array, right: Array, v: Array, vc: Array) -> Doubles:
        """Return normalised duals and derivative duals of pixels.

        Parameters
        ----------
        left, right : (n, 1, d, height, width) and (n or 1, m, d, height, width) arrays
            Of `sides`.
        v, vc : (n, m, height, width) arrays
            sin^2 and cos^2 of half the angles.

        Returns
        -------
        (2, n, m, height, width) array
        """
        n, m, *shape = v.shape
        theta: Doubles = np.moveaxis(_angles(v, vc)[0], 1, -1).reshape(-1, m).astype(np.float64)
        one = np.moveaxis(left[:, 0], 1, -1).reshape(len(theta), -1)
        other = np.moveaxis(right, (1, 2), (-2, -1))
        other = np.broadcast_to(other, (n, *other.shape[1:])).reshape(len(theta), m, -1)
        found = self(one, other, theta).reshape(2, n, *shape, m)
        return np.asarray(np.moveaxis(found, -1, 2))


class BetweenPixels(Activation):
    """Functions whose duals between pixels are tabulated: see `Activation.sides`."""

    def sides(self: Any, q: Array, p: Array) -> tuple[Any, Array, Array]:
        largest = float(np.sqrt(max(q.max(initial=0.0), p.max(initial=0.0))))
        table = separated(self, 2.0 ** float(np.ceil(np.log2(max(largest, LEAST)))))
        left, right = (
            np.concatenate(
                [
                    np.moveaxis(table.sides(np.sqrt(side)), -1, 1),
                    self._sizes(side.ravel()).reshape(2, *side.shape).swapaxes(0, 1),
                ],
                axis=1,
            )
            for side in (q, p)
        )
        return table, left, right

    def between(
        self, shared: Any, left: Array, right: Array, v: Array, vc: Array
    ) -> tuple[Array, Array]:
        found = shared.between(left[:, :, :-2], right[:, :, :-2], v, vc)
        value, slope = (found[k] * left[:, :, k - 2] * right[:, :, k - 2] for k in range(2))
        return value, slope


def _waves(x: Doubles, count: int) -> Doubles:
    """Return T_j(x), the first axis is j."""
    found = np.empty((count, *x.shape))
    found[0], found[1] = 1, x
    for j in range(2, count):
        np.multiply(found[j - 1], 2 * x, out=found[j])
        found[j] -= found[j - 2]
    return found


@lru_cache(maxsize=64)
def separated(one: Resolved, top: float) -> Separated:
    """Tabulate the duals of root variances up to `top`."""
    first = root_stretches(one).first

    def nodes(count: int) -> Doubles:
        positions = (_chebyshev(count)[0] + 1) / 2
        return np.asarray(first * np.expm1(positions * np.log1p(top / first)))

    def sides(roots: Doubles, finer: int = 0) -> _Rule:
        side = _at_roots(one, np.maximum(roots, _beside_zero(one)))
        return _Rule(side, side, GAUSS + finer)

    def by_roots(values: Doubles) -> Doubles:
        matrix = _chebyshev(values.shape[-1])[1]
        return np.asarray(np.einsum("...ij,ki,lj->...kl", values, matrix, matrix, optimize=True))

    def tail(series: Doubles) -> float:
        return float(np.abs(series[-3:]).max())

    # How many nodes: of roots at two angles, of angles for a few roots.
    for count in ROOTS:
        rule = sides(nodes(count))
        refuse_dear(one.name, rule.cost(0.8) * ANGLES[0] / 2, MOST_EVALUATIONS)
        some = by_roots(np.stack([rule.quadrature(theta) for theta in (0.3, 1.2)]))
        if tail(np.moveaxis(some, -1, 0)) < TAIL:
            break
    few = sides(top * np.array([1.0, 0.6, 0.2, 0.01]))
    for angles in ANGLES:
        if tail(_by_angles(few, angles)) < TAIL:
            break
    series = np.moveaxis(by_roots(_by_angles(rule, angles)), -2, 0)  # roots, angles, kind, roots
    modes, sizes, _ = np.linalg.svd(series.reshape(count, -1), full_matrices=False)
    modes = modes[:, sizes > SMALL * sizes[0]]
    core = np.einsum("kjfl,ka,lb->afjb", series, modes, modes, optimize=True)
    table = Separated(first, top, modes, core.reshape(modes.shape[1], -1), angles)
    error = _error(table, sides(between := top * np.array([0.97, 0.41, 0.03]), 6), between)
    if error > WORST:
        raise ValueError(
            f"activation: expected a function whose averages a table holds to {WORST:.0e}, got "
            f"{error:.0e} for {one.name} at variances up to {top**2:.3g}; scale images or weights "
            "down, or pass what it resembles in closed form (a step as 'sign', a smooth one as "
            "'erf', a wave as Sine), or its duals as ntkfast.Dual"
        )
    return table


def _by_angles(rule: _Rule, count: int) -> Doubles:
    """Return Chebyshev coefficients in theta, the first axis, of all pairs of a rule's roots."""
    points, matrix = _chebyshev(count)  # in falling order: the second half are acute
    acute = np.pi / 2 * (1 + points[count // 2 :])
    near, far = np.stack([rule.quadrature(float(theta)) for theta in acute], axis=1)
    values = np.concatenate([far[::-1], near])
    return np.asarray(np.einsum("afij,ba->bfij", values, matrix))


def _error(table: Separated, rule: _Rule, roots: Doubles) -> float:
    """Return the largest difference from a finer rule, between the nodes."""
    side, error = table.sides(roots), 0.0
    right = np.broadcast_to(side, (len(roots), *side.shape))
    for theta in (1e-3, 0.4, 1.5):
        wanted = rule.quadrature(theta)
        for angle, want in zip((theta, np.pi - theta), wanted, strict=True):
            found = table(side, right, np.full(2 * (len(roots),), angle))
            error = max(error, float(np.abs(found - want).max()))
    return error
