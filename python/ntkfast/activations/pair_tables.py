"""Duals of smooth functions between unequal norms, tabulated in both norms and the angle.

A pair shares a Gaussian, on which the means of both functions depend (see `conditional`): one set
of nodes serves all pairs of a block of root variances r and t at an angle, so that a block is a
product of matrices.

Between the nodes of a block the normalised duals are interpolated by Chebyshev polynomials: in r
up to a fraction of the scale of the function, in log(r) beyond, and in theta on pieces that double.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ntkfast.activations.averages import GAUSS
from ntkfast.activations.base import Array
from ntkfast.activations.conditional import LEAST, STEP, Shared, shared_nodes
from ntkfast.activations.mesh import Doubles, Function, Resolution, _chebyshev
from ntkfast.activations.pairs import _angles
from ntkfast.support.progress import track

Whole: TypeAlias = NDArray[np.intp]

NEAR = 0.19  # angle up to which pieces double
NODES = 18  # per stretch of root variances
ANGLES = 16  # per piece of angles
STRETCH = 4.0  # ratio of the ends of a stretch
FEW = 50  # pairs that are not worth a table
OVERHEAD = 4.0  # of a pair alone, beside the values of the function
MOST_EVALUATIONS = 4e9  # of a function for one call: some minutes


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
    @property
    def noise_error(self) -> float: ...
    def _noise(self, root: float) -> Doubles: ...


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
        The largest of the pieces that were used, and what rounding of s and s' adds: of K relative
        to that root, of the derivative dual to its own or to that of K / sqrt(q p), if larger.
    """
    cut = root_stretches(one)
    lines, columns = cut.of(first), cut.of(second)
    both = np.minimum(*(angles := _angles(v, vc)))
    far = angles[0] > angles[1]
    found, error = np.empty((2, *both.shape)), 0.0
    work = list(_work(one, lines, columns, both))
    rounding = _rounding(one, first) + _rounding(one, second)
    alone = _cost_alone(one, first, second, both)
    if _is_symmetric(first, second, both, far):
        alone /= 2
    tables = (
        sum(_cost(one, min(i, j), max(i, j), k) for i, j, k, *_ in work)
        if both.size > FEW
        else np.inf
    )
    refuse_dear(one.name, min(alone, tables), MOST_EVALUATIONS)
    if alone <= tables:
        found, error = _pair_by_pair(one, first, second, both, far)
        return found, error + rounding
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
    return found, error + rounding


def _rounding(one: Resolved, roots: Doubles) -> float:
    """Return what rounding of s and of its slope makes of normalised duals: of some roots.

    Functions that are noisier than that tell of it themselves, once.
    """
    if one.noise_error:
        return 0.0
    largest = 0.0
    for root in np.unique(np.quantile(roots, (0, 0.5, 1), method="nearest")):
        sizes, noise = _at_roots(one, np.array([root])).sizes[:, 0], one._noise(float(root))
        slope = max(sizes[1], sizes[0] / max(root, 1e-300))
        largest = max(largest, noise[0] / sizes[0], noise[1] / slope)
    return float(largest)


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


def _pair_by_pair(
    one: Resolved, first: Doubles, second: Doubles, angle: Doubles, far: NDArray[np.bool_]
) -> tuple[Doubles, float]:
    """Return the same from the function itself; of a symmetric block one half is averaged."""
    left, right = ([_alone(one, r) for r in side] for side in (first, second))
    found, error = np.empty((2, *angle.shape)), 0.0
    mirrored = _is_symmetric(first, second, angle, far)
    pairs = [(i, j) for i, j in np.ndindex(angle.shape) if i <= j or not mirrored]
    checked = set(pairs[:: max(1, len(pairs) // 4)])
    for i, j in track(pairs, None, f"duals of {one.name}", "pairs"):
        rules = [_Rule(left[i], right[j], nodes) for nodes in (GAUSS, GAUSS + 6)]
        which = int(far[i, j]), slice(None), 0, 0
        found[:, i, j] = rules[0].quadrature(float(angle[i, j]))[which]
        if (i, j) in checked:
            again = rules[1].quadrature(float(angle[i, j]))[which]
            error = max(error, float(np.abs(again - found[:, i, j]).max()))
        if mirrored:
            found[:, j, i] = found[:, i, j]
    return found, error


def _is_symmetric(first: Doubles, second: Doubles, angle: Doubles, far: NDArray[np.bool_]) -> bool:
    """Whether a block is its own mirror image, as that of rows with themselves."""
    return np.array_equal(first, second) and all(
        np.array_equal(side, side.T) for side in (angle, far)
    )


def _alone(one: Resolved, root: float) -> Side:
    """Return one side of one pair; at 0 functions are as just beside it."""
    return _at_roots(one, np.array([max(root, _beside_zero(one))]))


@lru_cache(maxsize=256)
def _beside_zero(one: Resolved) -> float:
    """Return the root variance at which a function is as at 0.

    With a kink at 0 it differs from that by the root itself, else by its square. But a function
    that forms small values from a difference, as exp(x) - 1, has no digits left far below 1e-8.
    """
    first = root_stretches(one).first
    sizes = first * np.array([0.0, -1e-20, 1e-20, -1e-3, 1e-3])
    values = np.asarray(one.function(sizes), np.float64)
    keeps_digits = values[0] != 0 or bool(np.all((values[1:3] != 0) | (values[3:] == 0)))
    return float(first * (1e-16 if keeps_digits else 1e-8))


def _cost_alone(one: Resolved, first: Doubles, second: Doubles, angle: Doubles) -> float:
    """Return about how many values of the function all pairs take, one by one.

    Those of the largest roots at the smallest angle take the most.
    """
    rule = _Rule(_alone(one, float(first.max())), _alone(one, float(second.max())))
    return OVERHEAD * angle.size * rule.cost(float(angle.min()))


def refuse_dear(name: str, evaluations: float, most: float) -> None:
    """Raise an error where averages would take minutes."""
    if evaluations > most:
        raise ValueError(
            f"activation: expected a function whose averages take at most {most:.0e} values, found "
            f"that {name} takes {evaluations:.0e}; pass what it resembles in closed form (a step "
            "as 'sign', a smooth one as 'erf', a wave as Sine), rows of one norm, or a function "
            "that changes more slowly"
        )


@lru_cache(maxsize=2048)
def _cost(one: Resolved, i: int, j: int, k: int) -> float:
    """Return about how many values of the function a piece takes."""
    z = tuple(_chebyshev(NODES)[0])
    middle = sum(_ends(_edges(one, j), k)) / 2
    return (ANGLES + 2) * _Rule(_side(one, i, z), _side(one, j, z)).cost(middle)


@lru_cache(maxsize=2048)
def _piece(one: Resolved, i: int, j: int, k: int) -> Piece:
    """Tabulate the duals between stretches i <= j on a piece of angles."""
    low, high = _ends(_edges(one, j), k)
    z, matrix = _chebyshev(NODES)
    rule = _Rule(_side(one, i, tuple(z)), _side(one, j, tuple(z)))
    points, angles = _chebyshev(ANGLES)
    theta = (low + high) / 2 + (high - low) / 2 * points
    values = np.stack([rule.quadrature(float(x)) for x in theta])
    table = np.einsum("asfij,ba,ki,lj->sfbkl", values, angles, matrix, matrix, optimize=True)
    # Between the nodes, by a finer rule, at the ends and elsewhere.
    between = (-0.97, 0.05, 0.96)
    finer = _Rule(_side(one, i, between), _side(one, j, between), GAUSS + 6)
    basis, error = _basis(np.array(between), NODES), 0.0
    for x in (-1.0, 0.03, 0.98):
        want = finer.quadrature((low + high) / 2 + (high - low) / 2 * x)
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
    sizes : (2, n) array
        Root mean squares of s and s'.
    """

    one: Resolved
    roots: Doubles
    bound: float
    sizes: Doubles


@lru_cache(maxsize=64)
def _side(one: Resolved, stretch: int, positions: tuple[float, ...]) -> Side:
    return _at_roots(one, root_stretches(one).nodes(stretch, np.array(positions)))


def _at_roots(one: Resolved, roots: Doubles) -> Side:
    q = roots**2
    sizes = np.sqrt([one.variance(q), one.derivative_variance(q)])
    return Side(one, roots, one._bound(float(roots.max())), np.maximum(sizes, 1e-300))


class _Rule:
    """Normalised duals between all pairs of two sets of root variances at one angle."""

    def __init__(self, first: Side, second: Side, nodes: int = GAUSS) -> None:
        self.sides = first, second
        one = first.one
        bound = max(first.bound, second.bound)
        reach = 1.5 * bound * max(float(side.roots.max()) for side in self.sides)
        mesh, functions = one._resolution(reach), (one.function, one._slope(reach))
        kinks = np.array(mesh.kinks)
        self.shared = [
            [Shared(functions, float(r), mesh.edges, kinks, bound, nodes) for r in side.roots]
            for side in ((first,) if first is second else self.sides)
        ]

    def quadrature(self, theta: float) -> Doubles:
        """Return the same by conditioning."""
        C, S = _split(theta)
        t, weights = shared_nodes([one for side in self.shared for one in side], C, S)
        means = [
            np.stack([one.means(t, C, S) for one in side], axis=1) / sizes.sizes[:, :, None]
            for side, sizes in zip(self.shared, self.sides, strict=False)
        ]
        left, right = means[0], means[-1]
        weighted = left * weights
        near, far = weighted @ right.swapaxes(1, 2), weighted @ right[:, :, ::-1].swapaxes(1, 2)
        return np.stack([near, far])

    def cost(self, theta: float) -> float:
        """Return about how many values of s an angle takes."""
        C, S = _split(theta)
        whole = [one for side in self.shared for one in side]
        window = 2 * whole[0].bound / STEP + whole[0].edges.size * (S > 0.01)
        return float(shared_nodes(whole, C, S)[0].size * window * len(whole))


def _split(theta: float) -> tuple[float, float]:
    """Return the parts C and S of what two Gaussians share and do not share."""
    v = max(float(np.sin(theta / 2)) ** 2, LEAST)
    return float(np.sqrt(max(1 - 2 * v, 0))), float(np.sqrt(2 * v))
