"""Duals of smooth functions between unequal norms, tabulated in both norms and the angle.

A Hermite series in u = cos(theta) of J terms is exact to rounding while J (1 - |u|) is large.
Nearer to u = 1 and u = -1, where it may need millions of terms, the average is taken instead over

    a = r (C x + S y),   b = +-t (C x - S y),   C = cos(theta/2), S = sin(theta/2),

whose panels in x shrink towards the lines a = 0 and b = 0, as far as the mesh of the function asks
for the largest r and t in question, and whose y varies slowly since S is small.  One set of panels
serves all pairs of a block of root variances r and t, so that a block is a product of matrices.

Between the nodes of a block the normalised duals are interpolated by Chebyshev polynomials: in r
up to a fraction of the scale of the function, in log(r) beyond, and in theta on pieces that double.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, NamedTuple, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ntkfast.activations.averages import BELL, PANEL
from ntkfast.activations.base import Array
from ntkfast.activations.mesh import Doubles, Function, Resolution, _chebyshev, _evaluate
from ntkfast.activations.pairs import _angles, gauss_legendre
from ntkfast.support.progress import track

Whole: TypeAlias = NDArray[np.intp]

TERMS = 2048  # Hermite coefficients
NEAR = 0.19  # angle from which on these suffice: NEAR^2 / 2 = 37 / TERMS
NODES = 18  # per stretch of root variances
ANGLES = 16  # per piece of angles
STRETCH = 4.0  # ratio of the ends of a stretch
NODES_AT_ONCE = 1 << 12
PANEL_NODES = 12  # Gauss nodes on an interval of the mesh, where degree 23 is enough
SMALL = 1e-14  # what a series may lose


class Resolved(Hashable, Protocol):
    """A function with a mesh, averages over one Gaussian, and no kinks other than 0."""

    # ruff: noqa: D102 - see `Activation`

    @property
    def name(self) -> str: ...
    @property
    def function(self) -> Function: ...
    def variance(self, q: Doubles) -> Any: ...
    def derivative_variance(self, q: Doubles) -> Any: ...
    def hermite(self, q: Doubles, count: int) -> Any: ...
    def _bound(self, root: float) -> float: ...
    def _slope(self, reach: float) -> Callable[[Doubles], Doubles]: ...
    def _resolution(self, reach: float) -> Resolution: ...


class Stretches(NamedTuple):
    """Stretches of root variances: [0, first], then factors of STRETCH."""

    first: float

    def of(self, root: Doubles) -> NDArray[np.intp]:
        """Return which stretch each root lies on."""
        with np.errstate(divide="ignore"):
            place = np.ceil(np.log(root / self.first) / np.log(STRETCH))
        return np.asarray(np.maximum(place, 0), np.intp)

    def position(self, root: Doubles, stretch: int) -> Doubles:
        """Return the variable in [-1, 1] of each root."""
        if stretch == 0:
            return np.asarray(2 * root / self.first - 1)
        high = np.log(self.first) + stretch * np.log(STRETCH)
        return np.asarray(2 * (np.log(root) - high) / np.log(STRETCH) + 1)

    def nodes(self, stretch: int, z: Doubles) -> Doubles:
        """Return the roots at positions in [-1, 1]."""
        if stretch == 0:
            return np.asarray(self.first * (z + 1) / 2)
        return np.asarray(self.first * STRETCH ** (stretch + (z - 1) / 2))

    def top(self, stretch: int) -> float:
        """Return the largest root of a stretch."""
        return self.first * STRETCH**stretch


class Piece(NamedTuple):
    """Normalised duals for the roots of two stretches and the angles of one piece.

    Attributes
    ----------
    series : (2, 2, ANGLES, NODES, NODES) array
        Chebyshev coefficients: near and far side; dual and derivative dual.
    error : float
        Largest difference from a finer rule, in units of the root of both variances.
    """

    series: Doubles
    error: float


@lru_cache(maxsize=64)
def root_stretches(one: Resolved) -> Stretches:
    """Return how root variances are cut for a function, by the finest part of its mesh."""
    return Stretches(0.25 * min(float(np.diff(one._resolution(16.0).edges).min()), 1.0))


def pair_duals(
    one: Resolved, first: Doubles, second: Doubles, v: Array, vc: Array
) -> tuple[Doubles, float]:
    """Return normalised duals of all pairs, and their errors.

    Parameters
    ----------
    one : Resolved
        Without kinks other than 0.
    first, second : (n,) and (m,) arrays
        Root variances.
    v, vc : (n, m) arrays
        sin^2 and cos^2 of half the angles.

    Returns
    -------
    found : (2, n, m) array
        K / sqrt(K(q, q) K(p, p)) and the same of the derivative dual.
    error : float
        Of both, the largest of the pieces that were used.
    """
    cut = root_stretches(one)
    lines, columns = cut.of(first), cut.of(second)
    both = np.minimum(*(angles := _angles(v, vc)))
    far = angles[0] > angles[1]
    found, error = np.empty((2, *both.shape)), 0.0
    work = list(_work(one, lines, columns, both))
    for i, j, k, low, high in track(work, None, f"duals of {one.name}", "pieces"):
        series, missed = _piece(one, min(i, j), max(i, j), k)
        error = max(error, missed)
        rows, across = np.flatnonzero(lines == i), np.flatnonzero(columns == j)
        left = _basis(cut.position(first[rows], i), NODES)
        right = _basis(cut.position(second[across], j), NODES)
        for row, weights in zip(rows, left, strict=True):
            angle, side = both[row, across], far[row, across].astype(int)
            here = np.flatnonzero((angle >= low) & (angle < high))
            if here.size:
                mixed = series if i <= j else series.swapaxes(-1, -2)
                z = (2 * angle[here] - low - high) / (high - low)
                found[:, row, across[here]] = _mixed(mixed, weights, right[here], z, side[here])
    return found, error


def _work(
    one: Resolved, lines: Whole, columns: Whole, angle: Doubles
) -> Iterator[tuple[int, int, int, float, float]]:
    """Yield the stretches and the pieces of angles that hold a pair."""
    for i in np.unique(lines):
        for j in np.unique(columns):
            edges = _edges(one, int(max(i, j)))
            there = angle[np.ix_(lines == i, columns == j)]
            for k in np.unique(np.searchsorted(edges, there.ravel(), side="right") - 1):
                yield int(i), int(j), int(k), *_ends(edges, int(k))


def _mixed(series: Doubles, left: Doubles, right: Doubles, z: Doubles, side: Whole) -> Doubles:
    """Interpolate for pairs of one row."""
    mixed = np.einsum("sfaij,i->sfaj", series, left)
    basis = _basis(z, ANGLES)
    result = np.empty((2, z.size))
    for far in np.unique(side):
        here = side == far
        for which in range(2):
            terms = right[here] @ mixed[far, which].T
            result[which, here] = np.einsum("pa,pa->p", terms, basis[here])
    return result


def _basis(z: Doubles, count: int) -> Doubles:
    return np.asarray(np.polynomial.chebyshev.chebvander(z, count - 1))


def _edges(one: Resolved, stretch: int) -> Doubles:
    """Edges of the pieces of angles, as fine as the function is for the largest root variance."""
    top = root_stretches(one).top(stretch)
    edges = [0.0, min(NEAR, 2 * root_stretches(one).first / top)]
    while edges[-1] < NEAR:
        edges.append(min(2 * edges[-1], NEAR))
    return np.array([*edges, 2 * NEAR, 4 * NEAR, 1.571])  # pi/2 is inside


def _ends(edges: Doubles, k: int) -> tuple[float, float]:
    return float(edges[k]), float(edges[k + 1])


@lru_cache(maxsize=2048)
def _piece(one: Resolved, i: int, j: int, k: int) -> Piece:
    """Tabulate the duals between stretches i <= j on a piece of angles."""
    low, high = _ends(_edges(one, j), k)
    z, matrix = _chebyshev(NODES)
    rule = _Rule(_side(one, i, tuple(z)), _side(one, j, tuple(z)))
    points, angles = _chebyshev(ANGLES)
    theta = (low + high) / 2 + (high - low) / 2 * points
    series = low >= NEAR or np.sqrt(_lost(one, i) * _lost(one, j)).max() < SMALL
    values = np.stack([(rule.sum if series else rule.quadrature)(float(x)) for x in theta])
    table = np.einsum("asfij,ba,ki,lj->sfbkl", values, angles, matrix, matrix, optimize=True)
    # Between the nodes, by a finer rule, at the ends and elsewhere.
    between = (-0.97, 0.05, 0.96)
    finer = _Rule(*(_side(one, stretch, between) for stretch in (i, j)))
    basis, error = _basis(np.array(between), NODES), 0.0
    for x in (-1.0, 0.03, 0.98):
        want = finer.quadrature((low + high) / 2 + (high - low) / 2 * x, 1.5)
        for far, row in np.ndindex(2, basis.shape[0]):
            got = _mixed(table, basis[row], basis, np.full(3, x), np.full(3, far))
            error = max(error, float(np.abs(got - want[far, :, row]).max()))
    return Piece(np.asarray(table), error)


@dataclass(frozen=True, eq=False)
class Side:
    """One side of a block: root variances, and what depends on nothing else.

    Attributes
    ----------
    bound : float
        Range of x with a part in any average.
    edges : (k + 1,) array
        Mesh of the function.
    sizes : (2, n) array
        Root mean squares of s and s'.
    grid : (k,) array
        Edges of panels around 0 on which s(r x) is resolved for all roots r.
    """

    one: Resolved
    roots: Doubles
    bound: float
    edges: Doubles
    sizes: Doubles
    grid: Doubles

    @cached_property
    def series(self) -> Doubles:
        """Normalised Hermite coefficients of s and s', (2, n, TERMS - 1)."""
        values = self.one.hermite(self.roots**2, TERMS)
        slopes = values[:, 1:] * np.sqrt(np.arange(1, TERMS)) / self.roots[:, None]
        return np.asarray(np.stack([values[:, :-1], slopes]) / self.sizes[:, :, None])


@lru_cache(maxsize=64)
def _side(one: Resolved, stretch: int, positions: tuple[float, ...]) -> Side:
    """Return one side of a block."""
    roots = root_stretches(one).nodes(stretch, np.array(positions))
    q, top = roots**2, float(roots.max())
    bound = one._bound(top)
    edges = one._resolution(1.5 * bound * top).edges
    sizes = np.sqrt([one.variance(q), one.derivative_variance(q)])
    return Side(one, roots, bound, edges, sizes, _panels(edges, roots, bound))


@lru_cache(maxsize=64)
def _lost(one: Resolved, stretch: int) -> Doubles:
    """Return what series lack of the mean squares of s and s' on a stretch, (2,)."""
    series: Doubles = _side(one, stretch, (1.0,)).series
    return np.asarray(np.maximum(1 - np.sum(series**2, axis=2)[:, 0], 0))


def _panels(edges: Doubles, roots: Doubles, bound: float) -> Doubles:
    span = np.geomspace(max(float(roots.min()), 1e-3 * float(roots.max())), float(roots.max()), 9)
    widths = np.diff(edges)

    def allowed(x: float) -> float:
        at = np.concatenate([span * x, -span * x])
        near = np.clip(np.searchsorted(edges, at) - 1, 0, widths.size - 1)
        return float((widths[near] / np.tile(span, 2)).min())

    grid = [0.0]
    while grid[-1] < 2 * bound:
        width = allowed(grid[-1] * (1 + 1e-9) + 1e-12)
        width = min(width, allowed(grid[-1] + width), PANEL)
        grid.append(grid[-1] + width)
    return np.union1d(grid, -np.array(grid))


class _Rule:
    """Normalised duals between all pairs of two sets of root variances at one angle."""

    def __init__(self, first: Side, second: Side) -> None:
        self.sides = sides = first, second
        self.one = sides[0].one
        self.bound = max(s.bound for s in sides)
        top = max(float(s.roots.max()) for s in sides)
        self.width = min(1.0, *(float(np.diff(s.edges).min()) for s in sides)) / top
        self.slope = self.one._slope(1.5 * self.bound * top)
        self.kinked = bool(self.one._resolution(1.5 * self.bound * top).kinks)

    def sum(self, theta: float) -> Doubles:
        """Return the dual and derivative dual at theta and pi - theta by series, (2, 2, n, m)."""
        powers = np.cos(theta) ** np.arange(TERMS - 1)
        signs = (-1.0) ** np.arange(TERMS - 1)
        left, right = (s.series for s in self.sides)
        near = (left * powers) @ right.swapaxes(1, 2)
        far = (left * (powers * signs)) @ right.swapaxes(1, 2)
        return np.stack([near, far])

    def quadrature(self, theta: float, finer: float = 1.0) -> Doubles:
        """Return the same by quadrature, with rules finer by a factor."""
        C, S = np.cos(theta / 2), np.sin(theta / 2)
        first, second = self.sides
        total = np.zeros((2, 2, first.roots.size, second.roots.size))
        for x, y, weight in self._points(C, S, finer):
            left = (C * x + S * y)[:, None] * first.roots
            right = (C * x - S * y)[:, None] * second.roots
            for which, function in enumerate((self.one.function, self.slope)):
                a = (_evaluate(function, left) * weight[:, None]).T
                total[0, which] += a @ _evaluate(function, right)
                total[1, which] += a @ _evaluate(function, -right)
        return np.asarray(total / (first.sizes[:, :, None] * second.sizes[:, None, :]))

    def _points(
        self, C: float, S: float, finer: float
    ) -> Iterator[tuple[Doubles, Doubles, Doubles]]:
        """Yield nodes x, y and their weights with the density, some at once."""
        count = int(PANEL_NODES * finer)
        points, weights = gauss_legendre(count)
        ys, outer = self._outer(S, finer)
        shift = (S / C) * ys[:, None]
        ends = np.broadcast_to([-self.bound, self.bound], (ys.size, 2))
        cuts = [ends, self.sides[0].grid - shift, self.sides[1].grid + shift]
        edges = np.clip(np.concatenate(cuts, axis=1), -self.bound, self.bound)
        edges.sort(axis=1)
        half = np.diff(edges, axis=1) / 2
        owner, k = np.nonzero(half > 1e-14)
        half, middle = half[owner, k], edges[owner, k] + half[owner, k]
        step = NODES_AT_ONCE // count
        for start in range(0, owner.size, step):
            part = slice(start, start + step)
            x = (middle[part, None] + half[part, None] * points).ravel()
            y = np.repeat(ys[owner[part]], count)
            w = (half[part, None] * weights).ravel() * np.repeat(outer[owner[part]], count)
            yield x, y, w * BELL * np.exp(-x * x / 2)

    def _outer(self, S: float, finer: float) -> tuple[Doubles, Doubles]:
        """Nodes and weights in y, with the density.

        The function is analytic at least as far from the real line as its mesh is fine, which tells
        the step of the trapezoidal rule; where that is short, panels shrink towards y = 0.
        """
        width = self.width / max(S, 1e-300)
        step = min(0.6, 0.18 * width) / finer
        if width > 0.5 and not self.kinked:
            y = step * np.arange(-int(self.bound / step), int(self.bound / step) + 1)
            return np.asarray(y, np.float64), np.asarray(step * BELL * np.exp(-y * y / 2))
        grid = [0.0]
        while grid[-1] < self.bound:
            grid.append(min(grid[-1] + min(max(width, grid[-1]), PANEL), self.bound))
        edges = np.union1d(grid, -np.array(grid))
        points, weights = gauss_legendre(int(PANEL_NODES * finer))
        half = np.diff(edges)[:, None] / 2
        y, weight = (edges[:-1, None] + half + half * points).ravel(), (half * weights).ravel()
        return y, np.asarray(weight * BELL * np.exp(-y * y / 2))
