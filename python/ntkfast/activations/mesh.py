"""A function of one variable resolved by piecewise Chebyshev interpolants, with its kinks."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache, lru_cache
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.polynomial import chebyshev
from numpy.typing import NDArray

from ntkfast.support.telling import warn

Function: TypeAlias = Callable[[Any], Any]
Doubles: TypeAlias = NDArray[np.float64]
NODES = 24  # Chebyshev points per interval of the mesh
MOST = 4000  # intervals after which a mesh is given up
NOISY = 1e-12  # relative noise of values beyond rounding
EPS = float(np.finfo(np.float64).eps)


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
        _refuse_infinite(x[~np.isfinite(values)][0])
    return np.asarray(values @ matrix.T)


def _refuse_infinite(x: float) -> None:
    raise ValueError(
        f"activation: expected finite values, got none at {x:.6g}; "
        "pass a function that is finite for all real numbers"
    )


def _roughness(coefficients: Doubles, scale: float) -> Doubles:
    """Trailing coefficients relative to the size of the function on the interval."""
    size = np.maximum(np.abs(coefficients).sum(axis=-1), scale)
    return np.asarray(np.abs(coefficients[..., -4:]).max(axis=-1) / size)


SMOOTH = 2e-15
PROBES = 33  # short intervals on which noise is looked for
PROBE = 0.004  # their length: a wave of frequency 300 is smooth on it
CLUSTER = 2.0**-20  # intervals as short as this surround a singular point


@lru_cache(maxsize=256)
def noise_floor(function: Function) -> float:
    """Return the relative accuracy of the values of a function, EPS if it is as good as that.

    On short intervals a smooth function is a polynomial to rounding.  What the highest Chebyshev
    coefficients hold is noise, except on those few intervals on which there is a kink.
    """
    left = np.linspace(-7.93, 7.91, PROBES)
    fits = _fit(function, left, left + PROBE)
    size = np.maximum(np.abs(fits).sum(axis=1), 1e-2 * np.abs(fits).sum(axis=1).max())
    rough = np.abs(fits[:, -8:]).max(axis=1) / np.where(size > 0, size, 1)
    typical = float(np.sort(rough)[int(0.8 * PROBES)])  # of a mean of NODES values, weighted
    return max(EPS, 6 * typical)


def smooth_level(function: Function) -> float:
    """Return the relative size of trailing coefficients that counts as nothing."""
    return max(SMOOTH, 4 * noise_floor(function))


def _bisect(function: Function, edges: Doubles, scale: float) -> Doubles:
    """Halve intervals until each is resolved, or too short, or shows rounding noise only."""
    smooth = smooth_level(function)
    left, right = edges[:-1], edges[1:]
    parent = np.full(left.size, np.inf)
    done = [edges]
    for _ in range(64):
        rough = _roughness(_fit(function, left, right), scale)
        noise = (rough < max(1e-10, 8 * smooth)) & (rough > 0.7 * parent)
        short = right - left < 8 * EPS * np.maximum(np.maximum(np.abs(left), np.abs(right)), 1e-3)
        split = ~((rough < smooth) | noise | short)
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


def _narrow(function: Function, edges: Doubles) -> Doubles:
    """Return finer edges about 0 where the mesh does not hold there, or none.

    Functions are narrow at 0 above all, and wide intervals may miss it.
    """
    fine = 2.0 ** -np.arange(1.0, 15.0)
    x = np.concatenate([-0.7 * fine, 0.7 * fine])
    piece = np.clip(np.searchsorted(edges, x) - 1, 0, edges.size - 2)
    left, right = edges[piece], edges[piece + 1]
    series = _fit(function, left, right)
    found = chebyshev.chebval((2 * x - left - right) / (right - left), series.T, tensor=False)
    missed = np.abs(found - _evaluate(function, x)).max() > 1e-6 * np.abs(series).sum(axis=1).max()
    return np.concatenate([-fine, fine]) if missed else np.empty(0)


def _merge(function: Function, edges: Doubles, scale: float, fixed: Doubles) -> Doubles:
    """Join neighbouring intervals wherever one interpolant serves both; `fixed` edges stay."""
    smooth = smooth_level(function)
    for _ in range(40):
        union = _fit(function, edges[:-2], edges[2:])
        good = (_roughness(union, scale) < smooth) & ~np.isin(edges[1:-1], fixed)
        ends = (part[good] for part in (edges[:-2], edges[1:-1], edges[2:]))
        good[good] = _agrees(function, union[good], *ends)
        joins = _alternate(good)
        if not joins.any():
            break
        edges = edges[~np.concatenate([[False], joins, [False]])]
    return edges


def _agrees(
    function: Function, union: Doubles, left: Doubles, middle: Doubles, right: Doubles
) -> NDArray[np.bool_]:
    """Whether interpolants on [left, right] are the function on either part.

    Their own nodes may miss all that happens on a part which is much shorter than the other.
    """
    points = _chebyshev(NODES)[0]
    good = np.ones(left.size, bool)
    for low, high in ((left, middle), (middle, right)):
        x = ((low + high) / 2)[:, None] + ((high - low) / 2)[:, None] * points
        t = (2 * x - (left + right)[:, None]) / (right - left)[:, None]
        found = chebyshev.chebval(t.T, union.T[:, None, :], tensor=False).T if left.size else t
        gap = np.abs(found - _evaluate(function, x)).max(axis=1)
        good &= gap < 10 * smooth_level(function) * np.abs(union).sum(axis=1)
    return good


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
    gap, smooth = 4 * width, smooth_level(function)
    for radius in (2.0**-4, 2.0**-6, 2.0**-8):
        if gap > radius / 4:
            return None
        left = np.array([center - radius, center + gap])
        right = np.array([center - gap, center + radius])
        sides = _fit(function, left, right)
        if (_roughness(sides, scale) > max(1e-13, smooth)).any():
            continue
        point = _separation(sides, left, right, center, scale)
        ends = np.array([point - radius, point, point + radius])
        pieces = _fit(function, ends[:-1], ends[1:])
        if (_roughness(pieces, scale) < 10 * smooth).all():
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

    Raises
    ------
    ValueError
        If the function is not finite, or singular somewhere.
    """
    with np.errstate(all="ignore"):
        x = np.linspace(-1, 1, 33)
        sizes = np.abs(_evaluate(function, x))
    if not np.isfinite(sizes).all():
        _refuse_infinite(x[~np.isfinite(sizes)][0])
    scale = 0.01 * float(sizes.max())
    edges = _bisect(function, _starting_edges(reach, kinks or ()), scale)
    narrow = _narrow(function, edges)
    if narrow.size:
        edges = _bisect(function, np.union1d(edges, narrow), scale)
    if kinks is None:
        edges = _gather(function, edges, scale)
    _refuse_singular(function, edges)
    gaps = _gaps(function, edges, scale)
    found = edges[1:-1][gaps.any(axis=0)] if kinks is None else np.intersect1d(edges, kinks)
    edges = _merge(function, edges, scale, found)
    at_kinks = _gaps(function, edges, scale)[:, np.isin(edges[1:-1], found)]
    domains = _overlapping(edges, found)
    slopes = _differentiate(
        _fit(function, domains[0], domains[1], NODES + 6),
        domains[1] - domains[0],
        noise_floor(function),
    )
    points = tuple(float(x) for x in found)
    return Resolution(
        edges, domains, slopes, points, bool(at_kinks[0].any()), bool(at_kinks[:2].any())
    )


def _refuse_singular(function: Function, edges: Doubles) -> None:
    """Raise an error where the function has a pole, or no slope on either side of a point."""
    offsets = np.array([2.0**-50, -(2.0**-50), 1.3 * 2.0**-30, -1.3 * 2.0**-30])
    with np.errstate(all="ignore"):
        sizes = np.abs(_evaluate(function, (edges[:, None] + offsets).ravel())).reshape(-1, 2, 2)
    poles = ~(sizes[:, 0] <= 2.0**9 * sizes[:, 1] + 1e-300)  # |x|^-1/2 has no mean square
    widths = np.diff(edges)
    tiny = int(np.argmin(widths))
    if poles.any():
        place, what = edges[poles.any(axis=1)][0], "a pole"
    elif widths[tiny] < CLUSTER:
        place, what = (edges[tiny] + edges[tiny + 1]) / 2, "a root or another singular point"
    else:
        return
    raise ValueError(
        f"activation: expected a function that is smooth between kinks, found {what} at "
        f"{place:.6g}; pass one with a finite slope there, as sqrt(abs(x) + 1e-3)"
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


def _differentiate(coefficients: Doubles, widths: Doubles, noise: float) -> Doubles:
    """Chebyshev coefficients of the derivative, up to the highest degree in use anywhere."""
    size = np.abs(coefficients).sum(axis=1, keepdims=True)
    used = np.abs(coefficients) > noise * size
    if noise > EPS:
        coefficients = np.where(used, coefficients, 0)
    degree = max(1, int(np.flatnonzero(used.any(axis=0)).max(initial=0)))
    slopes = chebyshev.chebder(coefficients[:, : degree + 1], axis=1)
    return np.asarray(slopes * (2 / widths)[:, None], np.float64)


def _gaps(function: Function, edges: Doubles, scale: float) -> NDArray[np.bool_]:
    """Whether value, slope or curvature jump at the inner edges, shape (3, edges - 2)."""
    coefficients = _fit(function, edges[:-1], edges[1:])
    mismatch = _mismatch(edges, coefficients, scale)
    # The derivatives of an interpolant multiply noise by the square of its degree.
    # Where the function is steep, so do rounded arguments.
    size = np.maximum(np.abs(coefficients).sum(axis=1), max(scale, 1e-300))
    steep = np.abs(chebyshev.chebder(coefficients, axis=1)).sum(axis=1) * 2 / np.diff(edges) / size
    own = np.maximum(
        noise_floor(function), EPS * np.abs(edges[1:-1]) * np.maximum(steep[1:], steep[:-1])
    )
    noise = own * np.array([[30.0], [30 * NODES**2], [NODES**4]])
    return np.asarray(mismatch > np.maximum(np.array([[1e-10], [1e-9], [1e-7]]), noise))


@lru_cache(maxsize=256)
def _tell_noise(function: Function, name: str) -> None:
    """Say once how accurate a function is."""
    noise = noise_floor(function)
    warn(
        f"{name}: values have a relative error of about {noise:.0e}, and kernels of up to "
        f"{NODES**2 * noise:.0e}; pass a function that computes in float64 for more digits"
    )
