"""Dual kernels of arbitrary Python functions by error-controlled Gaussian quadrature.

Two steps.  First the function is *resolved*: an adaptive mesh of intervals on which a Chebyshev
interpolant of degree 23 reproduces it to rounding.  Where the mesh shrinks to a point, or where
the pieces on the two sides of an edge disagree in value, slope or curvature, there is a kink.

Then averages over a pair of Gaussians are taken in the coordinates

    a = sqrt(q) (C x + S y),   b = sqrt(p) (C x - S y),   C = cos(theta/2), S = sin(theta/2),

with x, y independent.  The kinks of s(a) and s(b) are straight lines there; the inner integral
over x is split where it meets a line, and the outer integral over y where two lines cross, so that
Gauss-Legendre panels converge as fast as for smooth functions.  (For obtuse angles x and y
exchange their roles.)  Defects are averages of squares, (s(a) - s(b))^2, so that nothing cancels.
"""

# ruff: noqa: D102 - the methods are documented once, in the base class

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import cache, cached_property, lru_cache
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.polynomial import chebyshev
from numpy.typing import ArrayLike, NDArray

from ntkfast.duals import (
    Activation,
    Array,
    SphereMap,
    _check_count,
    _floats,
    _half_chords,
    _linear_limit,
    _power_sum,
    _powers_defect,
    gauss_legendre,
)

__all__ = ["NAMED", "CallableActivation", "Resolution", "resolution"]

Function: TypeAlias = Callable[[Any], Any]
Doubles: TypeAlias = NDArray[np.float64]

NODES = 24  # Chebyshev points per interval of the mesh
GAUSS = 16  # Gauss-Legendre nodes per panel
TABLE_EDGES = np.array([0.02, 0.06, 0.15, 0.3, 0.5, 0.7072])  # pieces of a sphere table
TABLE_PIECES, TABLE_NODES, WORTH_A_TABLE = TABLE_EDGES.size - 1, 18, 50
FEW = 24  # variances that are worth a quadrature each
PANEL = 2.3  # widest panel in units of the standard deviation
CHUNK = 1 << 18  # function values held at once
MOST = 4000  # intervals after which a mesh is given up
EPS = float(np.finfo(np.float64).eps)
BELL = 1 / np.sqrt(2 * np.pi)


# The function on the line -----------------------------------------------------------------------


def _evaluate(function: Function, x: Doubles) -> Doubles:
    """Evaluate any callable on an array; scalar functions are looped over."""
    try:
        values = np.asarray(function(x), np.float64)
    except (TypeError, ValueError):
        values = np.empty(0)
    if values.shape != x.shape and values.ndim:
        values = np.vectorize(function, otypes=[np.float64])(x) if x.size else np.zeros(x.shape)
    return np.broadcast_to(values, x.shape)


class Resolution(NamedTuple):
    """A function resolved on an interval.

    Attributes
    ----------
    edges : (m + 1,) array
        Ends of the intervals on which the interpolants hold.
    domains : (2, m) array
        Where the interpolants of the derivative live: the intervals and some space around them.
    slopes : (m, n) array
        Chebyshev coefficients of the derivative on each interval.
    kinks : tuple of float
        Points where value, slope or curvature jump.
    jumps, bends : bool
        Whether the function, or its slope, is discontinuous somewhere.
    """

    edges: Doubles
    domains: Doubles
    slopes: Doubles
    kinks: tuple[float, ...]
    jumps: bool
    bends: bool

    def derivative(self, x: Doubles) -> Doubles:
        """Evaluate the derivative of the interpolant."""
        piece = np.searchsorted(self.edges[1:-1], x, side="right")
        left, right = self.domains
        center, scale = (left + right) / 2, 2 / (right - left)
        t = (x - center.take(piece)) * scale.take(piece)
        last, previous = np.zeros_like(t), np.zeros_like(t)
        rows = self.slopes.T
        for row in rows[:0:-1]:  # Clenshaw
            last, previous = row.take(piece) + 2 * t * last - previous, last
        return np.asarray(rows[0].take(piece) + t * last - previous)


@cache
def _chebyshev(nodes: int) -> tuple[Doubles, Doubles]:
    """Chebyshev points and the matrix from values to coefficients."""
    odd = 2 * np.arange(nodes) + 1
    cosines = np.cos(np.pi * np.arange(4 * nodes) / (2 * nodes))
    matrix = 2 / nodes * cosines[np.outer(np.arange(nodes), odd) % (4 * nodes)]
    matrix[0] /= 2
    return cosines[odd], matrix


def _fit(function: Function, left: Doubles, right: Doubles, nodes: int = NODES) -> Doubles:
    """Chebyshev coefficients of the function on each interval [left, right]."""
    points, matrix = _chebyshev(nodes)
    x = (left + right)[:, None] / 2 + (right - left)[:, None] / 2 * points
    values = _evaluate(function, x)
    if not np.isfinite(values).all():
        where = x[~np.isfinite(values)][0]
        raise ValueError(f"activation: expected finite values, got none at {where:.6g}")
    return np.asarray(values @ matrix.T)


def _roughness(coefficients: Doubles, scale: float) -> Doubles:
    """Trailing coefficients relative to the size of the function on the interval."""
    size = np.maximum(np.abs(coefficients).sum(axis=-1), scale)
    return np.asarray(np.abs(coefficients[..., -4:]).max(axis=-1) / size)


SMOOTH = 2e-15


def _bisect(function: Function, edges: Doubles, scale: float) -> Doubles:
    """Halve intervals until each is resolved, or too short, or shows rounding noise only."""
    left, right = edges[:-1], edges[1:]
    parent = np.full(left.size, np.inf)
    done = [edges]
    for _ in range(64):
        rough = _roughness(_fit(function, left, right), scale)
        noise = (rough < 1e-10) & (rough > 0.7 * parent)
        short = right - left < 8 * EPS * np.maximum(np.maximum(np.abs(left), np.abs(right)), 1e-3)
        split = ~((rough < SMOOTH) | noise | short)
        if not split.any() or sum(part.size for part in done) > MOST:
            break  # a function too rough for the mesh shows in the error of the averages
        left, right, rough = left[split], right[split], rough[split]
        middle = (left + right) / 2
        done.append(middle)
        left, right = np.concatenate([left, middle]), np.concatenate([middle, right])
        parent = np.concatenate([rough, rough])
    return np.unique(np.concatenate(done))


def _starting_edges(reach: float, kinks: Iterable[float]) -> Doubles:
    """0, +-1, +-2, +-4, ... up to the reach, and the kinks that are known."""
    powers = 2.0 ** np.arange(0, np.ceil(np.log2(reach)) + 1)
    powers = np.append(powers[powers < reach], reach)
    known = [kink for kink in kinks if -reach < kink < reach]
    return np.unique(np.concatenate([-powers, [0.0], powers, known]))


def _merge(function: Function, edges: Doubles, scale: float, fixed: Doubles) -> Doubles:
    """Join neighbouring intervals wherever one interpolant serves both; `fixed` edges stay."""
    for _ in range(40):
        union = _fit(function, edges[:-2], edges[2:])
        joins = _alternate((_roughness(union, scale) < SMOOTH) & ~np.isin(edges[1:-1], fixed))
        if not joins.any():
            break
        edges = edges[~np.concatenate([[False], joins, [False]])]
    return edges


def _alternate(flags: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Keep every other flag of each run, so that no two neighbours remain."""
    kept = flags.copy()
    for i in range(1, kept.size):
        kept[i] &= not kept[i - 1]
    return kept


def _gather(function: Function, edges: Doubles, scale: float) -> Doubles:
    """Replace each cluster of tiny intervals by the kink it surrounds, where there is one."""
    for _ in range(64):
        widths = np.diff(edges)
        tiny = int(np.argmin(widths))
        if widths[tiny] > 2.0**-9:
            break
        center = (edges[tiny] + edges[tiny + 1]) / 2
        kink = _locate(function, edges, center, widths[tiny], scale)
        if kink is None:
            break
        point, radius = kink
        keep = np.abs(edges - point) >= radius
        edges = np.unique(np.concatenate([edges[keep], [point - radius, point, point + radius]]))
    return edges


def _locate(
    function: Function, edges: Doubles, center: float, width: float, scale: float
) -> tuple[float, float] | None:
    """Find the kink near `center` as the point where the two sides, continued, separate."""
    gap = 4 * width
    for radius in (2.0**-4, 2.0**-6, 2.0**-8):
        if gap > radius / 4:
            return None
        left = np.array([center - radius, center + gap])
        right = np.array([center - gap, center + radius])
        sides = _fit(function, left, right)
        if (_roughness(sides, scale) > 1e-13).any():
            continue
        point = _separation(sides, left, right, center, scale)
        ends = np.array([point - radius, point, point + radius])
        pieces = _fit(function, ends[:-1], ends[1:])
        if (_roughness(pieces, scale) < 10 * SMOOTH).all():
            return point, radius
    return None


def _separation(
    sides: Doubles, left: Doubles, right: Doubles, center: float, scale: float
) -> float:
    """Root of the lowest derivative in which the continuations of both sides differ."""
    gaps = []
    for order in range(3):
        values = []
        for side, a, b in zip(sides, left, right, strict=True):
            series = chebyshev.Chebyshev(side, domain=[a, b])
            values.append((series.deriv(order) if order else series)(center))
        gaps.append(float(values[1] - values[0]))
    size = max(float(np.abs(sides).sum(axis=-1).max()), scale)
    point = center
    if abs(gaps[0]) < 1e-6 * size:
        order = 0 if abs(gaps[1]) > 1e-5 * size else 1
        if gaps[order + 1]:
            point = center - gaps[order] / gaps[order + 1]
    if abs(point - center) > 1e-3:  # the sides hardly differ: nothing to locate
        point = center
    rounded = round(point, 6)  # a kink is seldom meant to be at 0.30000000000000004
    return rounded if abs(rounded - point) < 1e-10 else point


def _mismatch(edges: Doubles, coefficients: Doubles, floor: float) -> Doubles:
    """Jumps of value, slope and curvature at inner edges, in units of the neighbours' size."""
    widths = np.diff(edges)
    size = np.abs(coefficients).sum(axis=1)
    near = np.minimum(widths[:-1], widths[1:])
    scale = np.maximum(np.maximum(size[:-1], size[1:]), max(floor, 1e-300))
    rows = []
    for order in range(3):
        series = chebyshev.chebder(coefficients, order, axis=1) if order else coefficients
        series = series * (2 / widths[:, None]) ** order
        signs = (-1.0) ** np.arange(series.shape[1])
        gap = (series * signs).sum(axis=1)[1:] - series.sum(axis=1)[:-1]
        rows.append(np.abs(gap) * near**order / scale)
    return np.array(rows)


@lru_cache(maxsize=128)
def resolution(function: Function, kinks: tuple[float, ...] | None, reach: float) -> Resolution:
    """Resolve a function on [-reach, reach] and find its kinks.

    Parameters
    ----------
    function : callable
        Elementwise function.
    kinks : tuple of float or None
        Known kinks; None looks for them.
    reach : float
        Half width of the interval.

    Returns
    -------
    Resolution
        Mesh, interpolants and kinks.
    """
    scale = 0.01 * float(np.abs(_evaluate(function, np.linspace(-1, 1, 33))).max())
    edges = _bisect(function, _starting_edges(reach, kinks or ()), scale)
    if kinks is None:
        edges = _gather(function, edges, scale)
    gaps = _gaps(function, edges, scale)
    found = edges[1:-1][gaps.any(axis=0)] if kinks is None else np.intersect1d(edges, kinks)
    edges = _merge(function, edges, scale, found)
    at_kinks = _gaps(function, edges, scale)[:, np.isin(edges[1:-1], found)]
    domains = _overlapping(edges, found)
    slopes = _differentiate(
        _fit(function, domains[0], domains[1], NODES + 6), domains[1] - domains[0]
    )
    points = tuple(float(x) for x in found)
    return Resolution(
        edges, domains, slopes, points, bool(at_kinks[0].any()), bool(at_kinks[:2].any())
    )


def _overlapping(edges: Doubles, kinks: Doubles) -> Doubles:
    """Widen each interval by a tenth on both sides, not across a kink.

    Interpolation error and rounding make the derivative of an interpolant worst at the ends.
    """
    widths = np.diff(edges)
    free = ~np.isin(edges, kinks) & (edges > edges[0]) & (edges < edges[-1])
    left = 0.1 * np.minimum(widths, np.append(np.inf, widths[:-1]))  # no farther than a neighbour
    right = 0.1 * np.minimum(widths, np.append(widths[1:], np.inf))
    return np.stack([edges[:-1] - left * free[:-1], edges[1:] + right * free[1:]])


def _differentiate(coefficients: Doubles, widths: Doubles) -> Doubles:
    """Chebyshev coefficients of the derivative, up to the highest degree in use anywhere."""
    size = np.abs(coefficients).sum(axis=1, keepdims=True)
    used = np.abs(coefficients) > EPS * size
    degree = max(1, int(np.flatnonzero(used.any(axis=0)).max(initial=0)))
    slopes = chebyshev.chebder(coefficients[:, : degree + 1], axis=1)
    return np.asarray(slopes * (2 / widths)[:, None], np.float64)


def _gaps(function: Function, edges: Doubles, scale: float) -> NDArray[np.bool_]:
    """Whether value, slope or curvature jump at the inner edges, shape (3, edges - 2)."""
    coefficients = _fit(function, edges[:-1], edges[1:])
    mismatch = _mismatch(edges, coefficients, scale)
    return np.asarray(mismatch > np.array([[1e-10], [1e-9], [1e-7]]))


# Averages over pairs ----------------------------------------------------------------------------


@dataclass
class _Pairs:
    """Pairs of variances and angles in the rotated coordinates, one per entry.

    a = root_q (along x + across y), b = turn root_p (along x - across y) with along >= across.
    """

    root_q: Doubles
    root_p: Doubles
    along: Doubles
    across: Doubles
    turn: Doubles
    mirror: bool = False  # whether the integrand is even in y

    @classmethod
    def make(cls, root_q: Doubles, root_p: Doubles, v: Doubles, vc: Doubles) -> _Pairs:
        turn = np.where(v <= vc, 1.0, -1.0)
        along, across = np.sqrt(np.maximum(v, vc)), np.sqrt(np.minimum(v, vc))
        return cls(root_q, root_p, along, across, turn)

    def __getitem__(self, index: Any) -> _Pairs:
        return _Pairs(
            self.root_q[index],
            self.root_p[index],
            self.along[index],
            self.across[index],
            self.turn[index],
            self.mirror,
        )

    def split(self, lines: Doubles, y: Doubles) -> Doubles:
        """Where the lines a = tau and b = tau meet the line y = const."""
        shift = (self.across * y)[:, None]
        with np.errstate(divide="ignore", invalid="ignore"):
            first = (lines / self.root_q[:, None] - shift) / self.along[:, None]
            second = self.turn[:, None] * (lines / self.root_p[:, None]) + shift
            second = second / self.along[:, None]
        return np.asarray(np.nan_to_num(np.concatenate([first, second], axis=1)))

    def crossings(self, kinks: Doubles) -> list[Doubles]:
        """Values of y at which two kink lines cross, for each pair."""
        with np.errstate(divide="ignore", invalid="ignore"):
            first = kinks / self.root_q[:, None]
            second = self.turn[:, None] * (kinks / self.root_p[:, None])
            gaps = (first[:, :, None] - second[:, None, :]).reshape(len(self.root_q), -1)
            points = gaps / (2 * self.across[:, None])
        return [row[np.isfinite(row)] for row in points]


@dataclass(frozen=True)
class _Rule:
    """What the averages need to know of the function: s, s', lines to split at, and the range."""

    function: Function
    derivative: Function
    lines: Doubles
    kinks: Doubles
    bound: float
    panels: int
    squares: bool  # average (s(a) - s(b))^2 instead of s(a) s(b), and the same of s'
    noise: tuple[float, float] = (0.0, 0.0)  # of s and s', in units of the tolerance
    mirror: bool = False  # integrate over x >= 0 only and double
    nodes: int = GAUSS

    @cached_property
    def grid(self) -> Doubles:
        if self.mirror:
            return np.linspace(0.0, self.bound, (self.panels + 1) // 2 + 1)
        return np.linspace(-self.bound, self.bound, self.panels + 1)

    def yardstick(self, scale: Doubles, pairs: _Pairs) -> Doubles:
        """Return what errors are relative to: the values, and for squares what is behind them.

        The slope's defect matters relative to the defect; and of a difference of rounded numbers
        no more can be asked than their rounding allows.
        """
        if not self.squares:
            return scale
        per_q = np.maximum(pairs.root_q * pairs.root_p, 1e-300)
        scale = np.stack([scale[0], np.maximum(scale[1], 0.1 * scale[0] / per_q)])
        return np.asarray(scale + np.array(self.noise)[:, None] * np.sqrt(scale))

    def inner(self, pairs: _Pairs, y: Doubles) -> Doubles:
        """Integrate over x at given y, with the density of y: two numbers per pair."""
        cuts = np.clip(pairs.split(self.lines, y), self.grid[0], self.grid[-1])
        edges = np.concatenate([np.broadcast_to(self.grid, (y.size, self.grid.size)), cuts], axis=1)
        edges.sort(axis=1)
        points, weights = gauss_legendre(self.nodes)
        half = np.diff(edges, axis=1)[..., None] / 2
        x = ((edges[:, :-1, None] + half) + half * points).reshape(y.size, -1)
        factor = BELL**2 * (1 + self.mirror)
        density = (half * (factor * weights)).reshape(x.shape) * np.exp(-(x * x) / 2)
        density *= np.exp(-(y * y) / 2)[:, None]
        x *= pairs.along[:, None]
        shift = (pairs.across * y)[:, None]
        a = pairs.root_q[:, None] * (x + shift)
        b = (pairs.turn * pairs.root_p)[:, None] * (x - shift)
        return np.stack([self._combine(f, a, b, density) for f in (self.function, self.derivative)])

    def _combine(self, f: Function, a: Doubles, b: Doubles, density: Doubles) -> Doubles:
        left, right = _evaluate(f, a), _evaluate(f, b)
        product = np.square(left - right) if self.squares else left * right
        return np.asarray(np.einsum("ij,ij->i", product, density))

    def outer(self, pairs: _Pairs, low: Doubles, high: Doubles) -> tuple[Doubles, Doubles]:
        """Integrate over panels [low, high] in y; return values and error estimates, (2, tasks).

        The last Legendre coefficients of the integrand stand for the error of interpolation.
        """
        points, weights = gauss_legendre(self.nodes)
        y = (low + high)[:, None] / 2 + (high - low)[:, None] / 2 * points
        owner = np.repeat(np.arange(low.size), self.nodes)
        flat = y.ravel()
        cost = self.nodes * (self.grid.size - 1 + 2 * self.lines.size)
        step = max(1, CHUNK // cost)
        parts = [
            self.inner(pairs[owner[i : i + step]], flat[i : i + step])
            for i in range(0, flat.size, step)
        ]
        values = np.concatenate(parts, axis=1).reshape(2, low.size, self.nodes)
        half = (high - low) / 2
        total = half * (values @ weights)
        tail = np.abs(values @ _last_legendre(self.nodes)).sum(axis=-1) * half
        return total, tail


@cache
def _last_legendre(nodes: int) -> Doubles:
    """Matrix from values at Gauss nodes to the last three Legendre coefficients."""
    points, weights = gauss_legendre(nodes)
    table = np.polynomial.legendre.legvander(points, nodes - 1)
    return np.asarray((table * weights[:, None] * (np.arange(nodes) + 0.5))[:, -3:])


def _average(rule: _Rule, pairs: _Pairs, size: Doubles, tolerance: float) -> tuple[Doubles, float]:
    """Average over each pair adaptively; return (2, pairs) values and the relative error.

    Errors count relative to the result or to `size`, (2, pairs), if that is larger.
    """
    owner, low, high = _first_panels(rule, pairs)
    count = pairs.root_q.size
    total, missed = np.zeros((2, count)), np.zeros((2, count))
    scale = np.zeros((2, count))
    for level in range(40):
        values, tail = rule.outer(pairs[owner], low, high)
        if level == 0:
            for row in range(2):
                np.add.at(scale[row], owner, np.abs(values[row]))
            scale = np.maximum(scale, size)
            scale = rule.yardstick(scale, pairs)
        error = tail / scale[:, owner]
        error = np.minimum(error, (100 * error) ** 2)  # Gauss is exact to twice the degree
        good = (error < tolerance / 10).all(axis=0) | (high - low < 1e-13 * rule.bound)
        if level == 39 or good.size > 200 + 40 * count:  # too rough: take it as it is
            good[:] = True
        for row in range(2):
            np.add.at(total[row], owner[good], values[row, good])
            np.add.at(missed[row], owner[good], error[row, good])
        if good.all():
            break
        owner, low, high = owner[~good], low[~good], high[~good]
        middle = (low + high) / 2
        owner = np.concatenate([owner, owner])
        low, high = np.concatenate([low, middle]), np.concatenate([middle, high])
    if pairs.mirror:
        total *= 2
    return total, float(missed.max(initial=0.0))


def _first_panels(rule: _Rule, pairs: _Pairs) -> tuple[NDArray[np.intp], Doubles, Doubles]:
    """Panels in y, split where kink lines cross; half the range where the integrand is even."""
    crossings = pairs.crossings(rule.kinks)
    owners, lows, highs = [], [], []
    for index, points in enumerate(crossings):
        start = 0.0 if pairs.mirror else -rule.bound
        count = int(np.ceil((rule.bound - start) / PANEL))
        grid = np.linspace(start, rule.bound, count + 1)
        inside = points[(points > start) & (points < rule.bound)]
        edges = np.unique(np.concatenate([grid, inside]))
        owners.append(np.full(edges.size - 1, index))
        lows.append(edges[:-1])
        highs.append(edges[1:])
    return np.concatenate(owners), np.concatenate(lows), np.concatenate(highs)


# The activation ---------------------------------------------------------------------------------


@dataclass(frozen=True, init=False)
class CallableActivation(Activation):
    """Any elementwise function as an activation; its duals are computed by quadrature.

    Parameters
    ----------
    function : callable
        Maps an array to an array of the same shape (functions of one number work, slowly).
    derivative : callable, optional
        Its derivative.  Without it a piecewise Chebyshev interpolant of `function`, accurate to
        about 1e-13 of the size of the function, is differentiated.
    kinks : sequence of float, optional
        Where value, slope or curvature jump.  Found automatically when not given.
    tolerance : float
        Error asked of every result, relative to it (duals: to the root of the product of both
        variances; `on_sphere`, obtuse angles: to 1; slope defects: at least to a tenth of the
        defect), as far as the rounding of `function` and of its derivative permits.  A
        RuntimeWarning tells when it is missed.

    Notes
    -----
    Results are double precision whatever the dtype of the arguments.  At a point where the function
    itself jumps, the derivative is the piecewise one, as for the step function: its weak part, a
    delta, is left out of the derivative dual.

    Equality and hash are those of the callables, kinks and tolerance; instances can be pickled when
    the callables can.

    Examples
    --------
    >>> import numpy as np
    >>> tanh = CallableActivation(np.tanh)
    >>> round(float(tanh.dual(1.0, 1.0, 0.5)), 12)
    0.186324413203
    """

    function: Function
    slope: Function | None = None
    kinks: tuple[float, ...] | None = None
    tolerance: float = 1e-12
    label: str = field(default="", compare=False)

    def __init__(
        self,
        function: Function,
        derivative: Function | None = None,
        kinks: Iterable[float] | None = None,
        *,
        tolerance: float = 1e-12,
        name: str | None = None,
    ) -> None:
        if not callable(function):
            raise TypeError(f"function: expected a callable, got {type(function).__name__}")
        if not tolerance > 0:
            raise ValueError(f"tolerance: expected a positive number, got {tolerance}")
        points = None if kinks is None else tuple(sorted(float(kink) for kink in kinks))
        object.__setattr__(self, "function", function)
        object.__setattr__(self, "slope", derivative)
        object.__setattr__(self, "kinks", points)
        object.__setattr__(self, "tolerance", float(tolerance))
        label = name or getattr(function, "__name__", type(function).__name__)
        object.__setattr__(self, "label", label)

    @property
    def name(self) -> str:
        return self.label

    def __call__(self, x: ArrayLike) -> Array:
        (x,) = _floats(x)
        return _evaluate(self.function, x.astype(np.float64)).astype(x.dtype)

    def derivative(self, x: ArrayLike) -> Array:
        (x,) = _floats(x)
        doubles = x.astype(np.float64)
        reach = float(np.abs(doubles).max(initial=1.0))
        return self._slope(reach)(doubles).astype(x.dtype)

    def found_kinks(self, reach: float = 16.0) -> tuple[float, ...]:
        """Return the kinks on [-reach, reach], given or detected."""
        return self._resolution(reach).kinks

    def _resolution(self, reach: float) -> Resolution:
        size = 2.0 ** np.ceil(np.log2(max(reach, 16.0)))
        return resolution(self.function, self.kinks, float(size))

    def _slope(self, reach: float) -> Callable[[Doubles], Doubles]:
        slope = self.slope
        if slope is None:
            return self._resolution(reach).derivative
        return lambda x: _evaluate(slope, x)

    def _bound(self, root: float, digits: float = 18.0) -> float:
        """Range of x beyond which s(root x)^2 exp(-x^2/2) has dropped by that many digits."""
        x = np.arange(0.0, 38.0, 0.25)
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            both = [_evaluate(self.function, sign * root * x) for sign in (1.0, -1.0)]
            size = np.abs(both[0]) + np.abs(both[1])
            logs = np.where(np.isfinite(size), 2 * np.log(size), np.inf) - x * x / 2
        peak = np.max(logs[x < 9])
        large = x[(logs > peak - 2.3 * digits) & np.isfinite(logs)]
        return float(max(9.25, large.max(initial=0.0) + 0.25))

    def _rule(self, root: float, squares: bool) -> _Rule:
        bound = self._bound(root)
        reach = 1.5 * bound * root
        mesh = self._resolution(reach)
        kinks = np.array(mesh.kinks)
        panels, lines = _panels(mesh, root, bound)
        return _Rule(self.function, self._slope(reach), lines, kinks, bound, panels, squares)

    def _checked(self, rule: _Rule, pairs: _Pairs, size: Doubles) -> Doubles:
        """Average, compare a few entries with a finer rule, and warn if they differ too much."""
        size = np.maximum(size, 1e-300)
        values, error = _average(rule, pairs, size, self.tolerance)
        count = values.shape[1]
        sample = np.unique([0, count // 2, count - 1])
        fine = replace(rule, nodes=GAUSS + 6)
        again, _ = _average(fine, pairs[sample], size[:, sample], self.tolerance)
        scale = np.maximum(np.abs(again), size[:, sample])
        scale = rule.yardstick(scale, pairs[sample])
        error = max(error, float((np.abs(again - values[:, sample]) / scale).max()))
        if error > self.tolerance:
            warnings.warn(
                f"{self.name}: quadrature reached a relative error of {error:.1e}, "
                f"not the tolerance {self.tolerance:.1e}",
                RuntimeWarning,
                stacklevel=4,
            )
        return values

    def _duals(self, q: ArrayLike, p: ArrayLike, c: ArrayLike) -> tuple[Array, Array]:
        q, p, c = np.broadcast_arrays(*_floats(q, p, c))
        flat = [part.astype(np.float64).ravel() for part in (q, p, c)]
        angle = _half_chords(flat[0], flat[1], flat[2])[1:]
        v, vc = (part.astype(np.float64) for part in angle)
        if not flat[0].size:
            return np.zeros_like(q), np.zeros_like(q)
        roots = np.sqrt(flat[0]), np.sqrt(flat[1])
        rule = self._rule(float(max(roots[0].max(), roots[1].max())), squares=False)
        size = self._sizes(flat[0]) * self._sizes(flat[1])
        values = self._checked(rule, _Pairs.make(roots[0], roots[1], v, vc), size)
        shaped = values.astype(q.dtype).reshape(2, *q.shape)
        return shaped[0], shaped[1]

    def _sizes(self, q: Doubles) -> Doubles:
        """Root mean squares of s and s' at each variance, shape (2, n)."""
        values, back = np.unique(q, return_inverse=True)
        moments = np.stack([self.variance(values), self.derivative_variance(values)])
        return np.asarray(np.sqrt(moments)[:, back])

    def dual(self, q: ArrayLike, p: ArrayLike, c: ArrayLike) -> Array:
        return self._duals(q, p, c)[0]

    def derivative_dual(self, q: ArrayLike, p: ArrayLike, c: ArrayLike) -> Array:
        return self._duals(q, p, c)[1]

    def _moments(self, q: ArrayLike, which: int) -> Array:
        (q,) = _floats(q)

        def moment(variance: float) -> float:
            root = float(np.sqrt(variance))
            z, weights = self._line(root, PANEL / 2, self._bound(root))
            function = self.function if which == 0 else self._slope(root * float(np.abs(z).max()))
            density = weights * BELL * np.exp(-z * z / 2)
            return float(density @ _evaluate(function, root * z) ** 2)

        return _over_variances(moment, q)

    def variance(self, q: ArrayLike) -> Array:
        return self._moments(q, 0)

    def derivative_variance(self, q: ArrayLike) -> Array:
        return self._moments(q, 1)

    def _line(self, root: float, panel: float, bound: float) -> tuple[Doubles, Doubles]:
        """Gauss-Legendre nodes and weights on [-bound, bound], split at the mesh of s(root z)."""
        edges = np.linspace(-bound, bound, int(np.ceil(2 * bound / panel)) + 1)
        if root > 0:
            cuts = self._resolution(root * bound).edges / root
            edges = np.union1d(edges, cuts[np.abs(cuts) < bound])
        points, weights = gauss_legendre(GAUSS)
        half = np.diff(edges)[:, None] / 2
        return (edges[:-1, None] + half + half * points).ravel(), (half * weights).ravel()

    def hermite(self, q: ArrayLike, count: int) -> Array:
        _check_count(count)
        (q,) = _floats(q)
        return _over_variances(lambda variance: self._coefficients(np.sqrt(variance), count), q)

    def _coefficients(self, root: float, count: int) -> Doubles:
        """Hermite coefficients by the recurrence of h_j(z) exp(-z^2/4), which never overflows."""
        bound = self._bound(root, 2 * 18.0)  # half of the Gaussian belongs to h_j
        z, weights = self._line(root, min(1.0, 8 / np.sqrt(count)), bound)
        quarter = np.exp(-z * z / 4)
        mass = weights * BELL * quarter * _evaluate(self.function, root * z)
        before, value, row = np.zeros_like(z), quarter, np.empty(count)
        for j in range(count):
            row[j] = mass @ value
            before, value = value, (z * value - np.sqrt(j) * before) / np.sqrt(j + 1)
        return row

    def _sphere_map(self, q: Array, v: Array, vc: Array) -> SphereMap:
        variance, top = float(q), float(self.variance(float(q)))
        if top == 0 or variance == 0:
            return _linear_limit(v) if top == 0 else (0 * v, 0 * v, 0 * v)
        root = float(np.sqrt(variance))
        weights = _series_weights(self, root)
        if weights is not None:
            return _series_map(weights.astype(v.dtype), v, vc)
        near, far = (part.astype(np.float64).ravel() for part in (v, vc))
        squares = np.empty((2, near.size))
        table = _sphere_table(self, root) if near.size > WORTH_A_TABLE else None
        tabulated = np.zeros(near.size, bool)
        if table is not None:
            tabulated = np.minimum(near, far) >= TABLE_EDGES[0] ** 2
            squares[:, tabulated] = table(near[tabulated], far[tabulated])
        if not tabulated.all():
            squares[:, ~tabulated] = self._squares(root, near[~tabulated], far[~tabulated])
        defect, lost = squares[0] / (2 * top), squares[1] * (variance / (2 * top))
        start = float(self.derivative_variance(variance)) * variance / top
        maps = (defect, start - lost, lost)
        first, second, third = (part.reshape(v.shape).astype(v.dtype) for part in maps)
        return first, second, third

    def _squares(self, root: float, v: Doubles, vc: Doubles) -> Doubles:
        """Return E[(s(a) - s(b))^2] and the same of s', shape (2, n).

        Below a small angle the differences drown in rounding; there they follow from the values at
        larger angles.
        """
        size = self._sizes(np.array([root**2]))[:, 0] / self.tolerance
        noise = (4 * EPS * size[0], 4 * EPS * size[1] if self.slope else 2e-14 * size.sum())
        rule = replace(self._rule(root, squares=True), noise=noise)
        mesh = self._resolution(1.5 * rule.bound * root)
        theta = 2 * np.arctan2(np.sqrt(v), np.sqrt(vc))
        limit = min(0.3, 0.15 * _shortest(rule, mesh) / root)
        small = theta < limit
        result = np.empty((2, v.size))
        result[:, ~small] = self._direct(rule, root, v[~small], vc[~small])
        if small.any():
            result[:, small] = self._small_squares(rule, mesh, root, limit, theta[small])
        return result

    def _small_squares(
        self, rule: _Rule, mesh: Resolution, root: float, limit: float, theta: Doubles
    ) -> Doubles:
        """Continue the averages of squares to small angles by interpolation.

        They are power series in theta^2 for smooth functions and in theta for others, starting with
        theta^2 or, where the function itself is discontinuous, with theta.
        """
        power = 1 if mesh.kinks else 2
        low, high = (0.08 * limit) ** power, limit**power
        points = (high + low) / 2 + (high - low) / 2 * _chebyshev(10)[0]
        nodes = points ** (1 / power)
        samples = self._direct(rule, root, np.sin(nodes / 2) ** 2, np.cos(nodes / 2) ** 2)
        result = np.empty((2, theta.size))
        limits = self._small_limits(mesh, root)
        for row, (jumps, known) in enumerate(zip((mesh.jumps, mesh.bends), limits, strict=True)):
            order = 1 if jumps else 2
            ratios, places = samples[row] / nodes**order, points
            if known is not None:
                ratios, places = np.append(ratios, known), np.append(points, 0.0)
            result[row] = _interpolate(places, ratios, theta**power) * theta**order
        return result

    def _small_limits(self, mesh: Resolution, root: float) -> tuple[float | None, float | None]:
        """Leading coefficients of both series at theta = 0, where they are known.

        E[(s(a) - s(b))^2] = q theta^2 E[s'^2] for continuous s.  A jump of s' by h at x adds h^2
        times the probability that x lies between a and b.
        """
        first = None if mesh.jumps else root**2 * float(self.derivative_variance(root**2))
        if not mesh.bends:
            return first, None
        kinks = np.array(mesh.kinks)
        steps = mesh.derivative(kinks) - mesh.derivative(np.nextafter(kinks, -np.inf))
        density = BELL * np.exp(-((kinks / root) ** 2) / 2)
        return first, float(steps**2 @ density) * 2 * BELL

    def _direct(self, rule: _Rule, root: float, v: Doubles, vc: Doubles) -> Doubles:
        result = np.empty((2, v.size))
        for acute in (True, False):
            chosen = (v <= vc) == acute
            if chosen.any():
                roots = np.full(int(chosen.sum()), root)
                pairs = _Pairs.make(roots, roots, v[chosen], vc[chosen])
                pairs.mirror = acute
                size = np.zeros((2, roots.size)) if acute else self._sizes(roots**2) ** 2
                folded = replace(rule, mirror=not acute)
                result[:, chosen] = self._checked(folded, pairs, size)
        return result


def _over_variances(compute: Callable[[float], Any], q: Array) -> Array:
    """Evaluate a function of the variance at many variances, which for data sets are all different.

    Averages over a Gaussian are analytic in log q: on stretches of a factor of 16 they are
    interpolated at Chebyshev nodes, as many as rounding error asks for.
    """
    unique, inverse = np.unique(q, return_inverse=True)
    if unique.size <= FEW:
        values = np.array([compute(float(x)) for x in unique])
    else:
        first = np.asarray(compute(float(unique[0])))
        values = np.empty((unique.size, *first.shape))
        values[0] = first  # may be 0
        low = 1
        while low < unique.size:
            high = int(np.searchsorted(unique, 16 * unique[low], side="right"))
            values[low:high] = _stretch(compute, unique[low:high])
            low = high
    return np.asarray(values[inverse].reshape(q.shape + values.shape[1:]).astype(q.dtype))


def _stretch(compute: Callable[[float], Any], q: Array) -> Doubles:
    """Evaluate on sorted variances within a factor of 16."""
    if q.size <= FEW:
        return np.array([compute(float(x)) for x in q])
    logs = np.log(q.astype(np.float64))
    middle, half = (logs[-1] + logs[0]) / 2, (logs[-1] - logs[0]) / 2 + 1e-12
    for count in (FEW, 2 * FEW, 4 * FEW):
        z, matrix = _chebyshev(count)
        samples = np.array([compute(float(np.exp(middle + half * x))) for x in z])
        flat = samples.reshape(count, -1)
        series = matrix @ flat
        if np.abs(series[-3:]).max() < 1e-15 * np.abs(flat).max():
            break
    basis = np.polynomial.chebyshev.chebvander((logs - middle) / half, count - 1)
    return np.asarray((basis @ series).reshape(q.size, *samples.shape[1:]))


class _SphereTable(NamedTuple):
    """Averages of squares over s = sin(theta/2), then over cos(theta/2), piece by piece.

    They are analytic in these variables. Angles below the first edge are left to quadrature, which
    keeps their relative accuracy.
    """

    series: Doubles  # (2 sides, pieces, nodes, 2)

    def __call__(self, v: Doubles, vc: Doubles) -> Doubles:
        result = np.empty((2, v.size))
        for side, here in enumerate((v <= 0.5, v > 0.5)):
            s = np.sqrt((vc if side else v)[here])
            piece = np.clip(np.searchsorted(TABLE_EDGES, s, side="right") - 1, 0, TABLE_PIECES - 1)
            left, right = TABLE_EDGES[piece], TABLE_EDGES[piece + 1]
            basis = np.polynomial.chebyshev.chebvander(
                (2 * s - left - right) / (right - left), TABLE_NODES - 1
            )
            result[:, here] = np.einsum("ij,ijk->ki", basis, self.series[side, piece])
        return result


@lru_cache(maxsize=64)
def _sphere_table(activation: CallableActivation, root: float) -> _SphereTable | None:
    """Tabulate an activation with kinks at one variance; None if that is not accurate enough."""
    z, matrix = _chebyshev(TABLE_NODES)
    left, right = TABLE_EDGES[:-1, None], TABLE_EDGES[1:, None]
    s = ((left + right) / 2 + (right - left) / 2 * z).ravel()
    small, large = s * s, 1 - s * s
    found = activation._squares(root, np.append(small, large), np.append(large, small))
    values = found.reshape(2, 2, TABLE_PIECES, TABLE_NODES)
    series = np.einsum("kspn,jn->spjk", values, matrix)
    scale = np.abs(found).max(axis=1)
    if np.any(np.abs(series[:, :, -2:]).max(axis=(0, 1, 2)) > activation.tolerance * scale):
        return None
    return _SphereTable(series)


@lru_cache(maxsize=64)
def _series_weights(activation: CallableActivation, root: float) -> Doubles | None:
    """Return squared Hermite coefficients with sum 1, or None if they decay too slowly.

    Smooth functions need a hundred; with these an angle costs a polynomial and no quadrature.
    """
    if activation.found_kinks(activation._bound(root) * root):
        return None
    count = 64
    while count <= 512:
        weights = activation._coefficients(root, count) ** 2
        slopes = np.arange(count) * weights
        if slopes[-8:].max() < 1e-18 * slopes.sum():
            return np.asarray(weights / weights.sum())
        count *= 2
    return None


def _series_map(weights: Array, v: Array, vc: Array) -> SphereMap:
    """Return the sphere map of sum_j weights[j] u^j."""
    slopes = (np.arange(len(weights)) * weights)[1:]
    return (
        _powers_defect(weights, v, vc),
        _power_sum(slopes, vc - v),
        _powers_defect(slopes, v, vc),
    )


def _panels(mesh: Resolution, root: float, bound: float) -> tuple[int, Doubles]:
    """Return the number of uniform panels and the lines to split at, in the cheaper way.

    Gauss panels may be 1.5 times as long as the intervals of the mesh, since they are exact to a
    higher degree.  Either all panels are that short, or they end at the edges of short intervals.
    """
    widths = np.diff(mesh.edges)
    shortest = 1.5 * float(widths.min()) / max(root, 1e-300)
    wide = int(np.ceil(2 * bound / PANEL))
    fine = np.minimum(widths[:-1], widths[1:]) * 1.5 < PANEL * root
    lines = np.union1d(mesh.edges[1:-1][fine], mesh.kinks)
    uniform = max(wide, 2 * bound / shortest)
    if min(uniform, 2 * lines.size) > 300:  # too rough for any mesh; the error estimate will tell
        return wide, np.array(mesh.kinks)
    if uniform <= wide + 2 * (lines.size - len(mesh.kinks)):
        return int(np.ceil(uniform)), np.array(mesh.kinks)
    return wide, lines


def _shortest(rule: _Rule, mesh: Resolution) -> float:
    """Shortest length on which the function changes: a gap of kinks or an interval of the mesh."""
    gaps = np.diff(rule.kinks)
    return float(min(gaps.min(initial=np.inf), np.diff(mesh.edges).min()))


def _interpolate(nodes: Doubles, values: Doubles, x: Doubles) -> Doubles:
    """Barycentric interpolation, also at the nodes themselves."""
    spread = nodes[:, None] - nodes[None, :]
    np.fill_diagonal(spread, 1.0)
    weights = 1 / np.prod(spread / np.ptp(nodes), axis=1)
    gaps = x[:, None] - nodes
    terms = weights / np.where(gaps == 0, 1e-200, gaps)
    return np.asarray((terms @ values) / terms.sum(axis=1))


# Common functions, stable in both tails ---------------------------------------------------------


def _sigmoid(x: Any) -> Any:
    return 0.5 + 0.5 * np.tanh(0.5 * x)


def _sigmoid_slope(x: Any) -> Any:
    small = np.exp(-np.abs(x))
    return small / (1 + small) ** 2


def _tanh_slope(x: Any) -> Any:
    return 4 * _sigmoid_slope(2 * x)


def _silu(x: Any) -> Any:
    return x * _sigmoid(x)


def _silu_slope(x: Any) -> Any:
    return _sigmoid(x) + x * _sigmoid_slope(x)


def _softplus(x: Any) -> Any:
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def _elu(x: Any) -> Any:
    return np.where(x > 0, x, np.expm1(np.minimum(x, 0)))


def _elu_slope(x: Any) -> Any:
    return np.exp(np.minimum(x, 0))


NAMED: dict[str, Activation] = {
    "tanh": CallableActivation(np.tanh, _tanh_slope, (), name="tanh"),
    "sigmoid": CallableActivation(_sigmoid, _sigmoid_slope, (), name="sigmoid"),
    "silu": CallableActivation(_silu, _silu_slope, (), name="silu"),
    "softplus": CallableActivation(_softplus, _sigmoid, (), name="softplus"),
    "elu": CallableActivation(_elu, _elu_slope, (0.0,), name="elu"),
}
