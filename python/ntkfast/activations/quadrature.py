"""Dual kernels of arbitrary Python functions by error-controlled Gaussian quadrature.

Two steps.  First the function is *resolved*: an adaptive mesh of intervals on which a Chebyshev
interpolant of degree 23 reproduces it to rounding.  Where the mesh shrinks to a point, or where
the pieces on the two sides of an edge disagree in value, slope or curvature, there is a kink.

Then averages over a pair of Gaussians are taken in the coordinates

    a = sqrt(q) (C x + S y),   b = sqrt(p) (C x - S y),   C = cos(theta/2), S = sin(theta/2),

with x, y independent.  The kinks of s(a) and s(b) are straight lines there; the inner integral
over x is split where it meets a line, and the outer integral over y where two lines cross, so that
Gauss-Legendre panels converge as fast as for smooth functions.  (For obtuse angles x and y
exchange their roles.)  Defects are averages of squares, (s(a) - s(b))^2, so that nothing cancels:
see `conditional`.
"""

# ruff: noqa: D102 - documented once, in the base class
from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import ArrayLike

from ntkfast.activations.averages import (
    BELL,
    GAUSS,
    PANEL,
    _average,
    _Pairs,
    _panels,
    _Rule,
    hermite_moments,
)
from ntkfast.activations.base import (
    Array,
    Continuation,
    SphereMap,
    _check_count,
    _floats,
    _linear_limit,
)
from ntkfast.activations.conditional import Shared
from ntkfast.activations.mesh import (
    NODES,
    NOISY,
    Doubles,
    Function,
    Resolution,
    _chebyshev,
    _evaluate,
    _tell_noise,
    noise_floor,
    resolution,
)
from ntkfast.activations.pair_tables import pair_duals, refuse_dear
from ntkfast.activations.pairs import _half_chords, gauss_legendre
from ntkfast.activations.separated import BetweenPixels
from ntkfast.activations.sphere_tables import _series_weights, _sphere_table
from ntkfast.activations.tables import (
    WORTH_A_TABLE,
    _interpolate,
    _over_variances,
    _series_map,
)
from ntkfast.arrays import checks
from ntkfast.support.progress import track
from ntkfast.support.telling import warn

AT_ONCE = 64  # pairs
MOST_EVALUATIONS = 4e8  # of a function, for one set of averages: some ten seconds


@dataclass(frozen=True, init=False)
class CallableActivation(BetweenPixels):
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
        defect), as far as rounding of `function` and of its derivative permits: functions that
        compute in float32 are found.  A RuntimeWarning tells what is missed.
    continuation : (callable, float), optional
        The function at complex arguments and its radius of convergence about zero.

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
    >>> from ntkfast.activations import CallableActivation
    >>> tanh = CallableActivation(np.tanh)
    >>> round(float(tanh.dual(1.0, 1.0, 0.5)), 12)
    0.186324413203
    """

    function: Function
    slope: Function | None = None
    kinks: tuple[float, ...] | None = None
    tolerance: float = 1e-12
    label: str = field(default="", compare=False)
    continuation: Continuation | None = field(default=None, compare=False, repr=False)

    def __init__(
        self,
        function: Function,
        derivative: Function | None = None,
        kinks: Iterable[float] | None = None,
        *,
        tolerance: float = 1e-12,
        name: str | None = None,
        continuation: Continuation | None = None,
    ) -> None:
        if not callable(function):
            raise TypeError(f"function: expected a callable, got {type(function).__name__}")
        if not tolerance > 0:
            raise ValueError(f"tolerance: expected a positive number, got {tolerance}")
        points = None if kinks is None else tuple(sorted(float(kink) for kink in kinks))
        checks.store(
            self,
            function=function,
            slope=derivative,
            kinks=points,
            tolerance=float(tolerance),
            label=name or getattr(function, "__name__", type(function).__name__),
            continuation=continuation,
        )

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

    @property
    def reachable(self) -> float:
        """The error that can be asked of averages: the tolerance, or what noise of `s` leaves."""
        noise = noise_floor(self.function)
        return self.tolerance if noise < NOISY else max(self.tolerance, 64 * noise)

    @property
    def noise_error(self) -> float:
        """The error of kernels by noise of the function: of slopes, which multiply it most."""
        noise = noise_floor(self.function)
        return 0.0 if noise < NOISY else NODES**2 * noise

    def _resolution(self, reach: float) -> Resolution:
        if self.noise_error:
            _tell_noise(self.function, self.name)
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

    def _rule(self, root: float) -> _Rule:
        bound = self._bound(root)
        reach = 1.5 * bound * root
        mesh = self._resolution(reach)
        kinks = np.array(mesh.kinks)
        panels, lines = _panels(mesh, root, bound)
        return _Rule(self.function, self._slope(reach), lines, kinks, bound, panels)

    def _checked(self, rule: _Rule, pairs: _Pairs, size: Doubles) -> Doubles:
        """Average, compare a few entries with a finer rule, and warn if they differ too much."""
        size = np.maximum(size, 1e-300)
        count, tolerance = size.shape[1], self.reachable
        starts = range(0, count, AT_ONCE)
        parts = [
            _average(rule, pairs[i : i + AT_ONCE], size[:, i : i + AT_ONCE], tolerance)
            for i in track(starts, None, f"averages of {self.name}", "groups of pairs")
        ]
        values = np.concatenate([part for part, _ in parts], axis=1)
        error = max(part for _, part in parts)
        sample = np.unique([0, count // 2, count - 1])
        fine = replace(rule, nodes=GAUSS + 6)
        again, _ = _average(fine, pairs[sample], size[:, sample], tolerance)
        scale = np.maximum(np.abs(again), size[:, sample])
        self._tell_missed(max(error, float((np.abs(again - values[:, sample]) / scale).max())))
        return values

    def _tell_missed(self, error: float) -> None:
        if error > self.reachable:
            warn(
                f"{self.name}: quadrature reached a relative error of {error:.0e}, "
                f"not the tolerance {self.tolerance:.1e}"
            )

    def _both_duals(self, q: ArrayLike, p: ArrayLike, c: ArrayLike) -> tuple[Array, Array]:
        q, p, c = np.broadcast_arrays(*_floats(q, p, c))
        flat = [part.astype(np.float64).ravel() for part in (q, p, c)]
        angle = _half_chords(flat[0], flat[1], flat[2])[1:]
        v, vc = (part.astype(np.float64) for part in angle)
        if not flat[0].size:
            return np.zeros_like(q), np.zeros_like(q)
        roots = np.sqrt(flat[0]), np.sqrt(flat[1])
        rule = self._rule(float(max(roots[0].max(), roots[1].max())))
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
        return self._both_duals(q, p, c)[0]

    def derivative_dual(self, q: ArrayLike, p: ArrayLike, c: ArrayLike) -> Array:
        return self._both_duals(q, p, c)[1]

    @property
    def has_table(self) -> bool:
        """Whether the duals of any two variances are tabulated: without kinks other than 0."""
        return not any(self.found_kinks())

    def pair_duals(self, q: Array, p: Array, v: Array, vc: Array) -> tuple[Array, Array, float]:
        if v.size and 0 < q[0] == q.min() == p.min() == q.max() == p.max():
            defect, slope, _ = self.on_sphere(q[0], v, vc)
            return defect, slope * (self.variance(q[0]) / q[0]), self.reachable
        if not self.has_table:
            return super().pair_duals(q, p, v, vc)
        found, error = pair_duals(self, np.sqrt(q), np.sqrt(p), v, vc)
        left, right = (np.sqrt(self.derivative_variance(side)) for side in (q, p))
        return 1 - found[0], found[1] * (left[:, None] * right), error

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
        """Hermite coefficients: E[s h_j] = root E[s' h_(j-1)] / sqrt(j), by the better of the two.

        At small variances the coefficients behind the first are far below the rounding of s.
        """
        bound = self._bound(root, 2 * 18.0)  # half of the Gaussian belongs to h_j
        values, slopes = self._noise(root)
        mesh = self._resolution(root * bound)
        jumps = mesh.jumps and np.abs(mesh.kinks).min() < root * bound  # s' leaves them out
        if jumps or root * slopes >= values:
            return self._moments_of(self.function, root, bound, count)
        row = self._moments_of(self._slope(root * bound), root, bound, count)
        row[1:] = root * row[:-1] / np.sqrt(np.arange(1, count))
        row[0] = self._moments_of(self.function, root, bound, 1)[0]
        return row

    def _moments_of(self, function: Function, root: float, bound: float, count: int) -> Doubles:
        """E[f(root z) h_j(z)] for j < count."""
        z, weights = self._line(root, min(1.0, 8 / np.sqrt(count)), bound)
        return hermite_moments(weights * _evaluate(function, root * z), z, count)

    def _noise(self, root: float) -> Doubles:
        """Return what rounding makes of values of s and of s', (2,)."""
        sizes = self._sizes(np.array([root**2]))[:, 0]
        slopes = 4 * sizes[1] if self.slope else 90 * sizes.sum()
        return noise_floor(self.function) * np.array([4 * sizes[0], slopes])

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
            tabulated = table.serves(near)
            squares[:, tabulated] = table(near[tabulated], far[tabulated])
        if not tabulated.all():
            squares[:, ~tabulated] = self._squares(root, near[~tabulated], far[~tabulated])
        defect, lost = squares[0] / (2 * top), squares[1] * (variance / (2 * top))
        start = float(self.derivative_variance(variance)) * variance / top
        maps = (np.clip(defect, 0, 2), start - lost, lost)  # noise must not leave the circle
        first, second, third = (part.reshape(v.shape).astype(v.dtype) for part in maps)
        return first, second, third

    def _squares(self, root: float, v: Doubles, vc: Doubles) -> Doubles:
        """Return E[(s(a) - s(b))^2] and the same of s', shape (2, n).

        Below a small angle the differences drown in rounding; there they follow from the values at
        larger angles.
        """
        theta = 2 * np.arctan2(np.sqrt(v), np.sqrt(vc))
        limit = self._small_angle(root)
        small = theta < limit
        result = np.empty((2, v.size))
        result[:, ~small] = self._direct(root, v[~small], vc[~small])
        if small.any():
            result[:, small] = self._small_squares(root, limit, theta[small])
        return result

    def _mesh(self, root: float) -> Resolution:
        return self._resolution(1.5 * self._bound(root) * root)

    def _small_angle(self, root: float) -> float:
        """Below it averages of squares are a short power series."""
        mesh = self._mesh(root)
        gaps = np.diff(mesh.kinks)
        shortest = min(gaps.min(initial=np.inf), np.diff(mesh.edges).min())
        return float(min(0.3, 0.15 * shortest / root))

    def _small_squares(self, root: float, limit: float, theta: Doubles) -> Doubles:
        """Continue the averages of squares to small angles by interpolation.

        They are power series in theta^2 for smooth functions and in theta for others, starting with
        theta^2 or, where the function itself is discontinuous, with theta.
        """
        mesh = self._mesh(root)
        power = 1 if mesh.kinks else 2
        low, high = (0.08 * limit) ** power, limit**power
        points = (high + low) / 2 + (high - low) / 2 * _chebyshev(10)[0]
        nodes = points ** (1 / power)
        samples = self._direct(root, np.sin(nodes / 2) ** 2, np.cos(nodes / 2) ** 2)
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

    def _direct(self, root: float, v: Doubles, vc: Doubles) -> Doubles:
        """Return the averages of squares by conditioning, and warn if a finer rule disagrees."""
        if not v.size:
            return np.empty((2, 0))
        rule = self._rule(root)  # refuses what is too rough
        mesh, bound = self._mesh(root), rule.bound
        functions = self.function, rule.derivative
        shared = Shared(functions, root, mesh.edges, rule.kinks, bound, GAUSS)
        halves, back = np.unique(np.minimum(v, vc), return_inverse=True)
        refuse_dear(self.name, shared.cost(float(halves[0])) * halves.size, MOST_EVALUATIONS)
        parts = track(halves, None, f"averages of {self.name}", "angles")
        values = np.array([shared.squares(float(half)) for half in parts])
        sample = np.unique([0, halves.size // 2, halves.size - 1])
        finer = shared._replace(nodes=GAUSS + 6)
        again = np.array([finer.squares(float(half)) for half in halves[sample]])
        gaps = np.abs(again - values[sample]) / self._yardstick(root, again)
        side = (v > vc).astype(int)
        asked = np.zeros((halves.size, 2), bool)  # the other side may have no digits
        asked[back, side] = True
        self._tell_missed(float(gaps[asked[sample]].max()))
        return np.asarray(values[back, side].T)

    def _yardstick(self, root: float, squares: Doubles) -> Doubles:
        """Return what errors of averages of squares, (n, 2 sides, 2), are relative to.

        At acute angles the values: the slope's defect matters relative to the defect; and of a
        difference of rounded numbers no more can be asked than their rounding allows.
        """
        sizes = self._sizes(np.array([root**2]))[:, 0]
        scale = squares + self._noise(root) / self.reachable * np.sqrt(squares)
        scale[:, 0, 1] = np.maximum(scale[:, 0, 1], 0.1 * scale[:, 0, 0] / root**2)
        scale[:, 1] = np.maximum(scale[:, 1], sizes**2)
        return np.maximum(scale, 1e-300)
