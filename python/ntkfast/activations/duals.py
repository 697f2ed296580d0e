"""Activations of which only the dual kernels are known, as functions that a user states."""

# ruff: noqa: D102 - the methods are documented once, in the base class

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any, NoReturn, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ntkfast.activations.base import Activation, Array, SphereMap, _floats, _linear_limit
from ntkfast.arrays import checks

Function: TypeAlias = Callable[..., Any]
VARIANCES = (0.49, 1.0, 2.25)  # at which functions are tried
AGREE = 1e-6  # relative to the value at equal inputs
NODES, FIRST, DEGREES = 30, 6, 30  # of a series about u = 0: samples, terms; and on the sphere
HALF = 0.7  # that series is read off from |u| <= 0.7
MOVED = 4.0  # eps by which a cosine is uncertain


@dataclass(frozen=True, init=False, repr=False)
class Dual(Activation):
    """An activation given by its dual kernels, E[s(a) s(b)] and E[s'(a) s'(b)].

    The function s itself is not asked for, and there need not be one: a kernel that is positive
    definite for vectors of any length will do, such as a mean of duals.

    Parameters
    ----------
    nngp, derivative : callables
        Elementwise functions of NumPy arrays. Without `degree` of ``(cov, x_var, y_var)``, the
        covariance of both inputs and their variances, as ``nngp_fn`` and ``d_nngp_fn`` of
        neural-tangents' ``Elementwise``: E[s(a) s(b)] and its derivative by cov, which is
        E[s'(a) s'(b)]. With `degree` of the cosine u alone.
    degree : float, optional
        k of a positively homogeneous function, s(t x) = t^k s(x) for t > 0. The duals then are
        (x_var y_var)^(k/2) nngp(u) and (x_var y_var)^((k-1)/2) derivative(u).

    Raises
    ------
    TypeError
        If a function cannot be called, or returns something else than float64 numbers.
    ValueError
        If what they return cannot be duals: not finite, not symmetric, not positive at equal
        inputs, larger between two inputs than at them, with a power series that has negative
        coefficients (as far as the first ones tell), or if `derivative` is not that of `nngp`.

    Notes
    -----
    Gram matrices of rows of one norm, or of networks that are homogeneous, cost as much as with any
    other activation. Between other rows the functions are called for all pairs in each layer.
    The functions are called in extended precision if they take it. For rows of one norm, and with
    `degree`, small angles keep their digits. Elsewhere rounding errors of the covariance count by
    the slope of `derivative`: smooth ones do not mind, one like that of ReLU is off by 1e-8 at
    angles of 1e-8, of which a warning tells. Derivatives by inputs are those of the angle, of
    networks that are homogeneous; those by parameters are as elsewhere. Networks on images
    call the functions for all pairs of pixels; those on sequences take activations with a built-in
    closed form only.

    Examples
    --------
    >>> import numpy as np, ntkfast as nf
    >>> smooth = nf.Dual(nngp=lambda u: np.exp(u - 1), derivative=lambda u: np.exp(u - 1), degree=1)
    >>> nf.FullyConnected(2, activation=smooth).ntk(np.eye(2)).round(6)
    array([[3.      , 0.726978],
           [0.726978, 3.      ]])
    """

    nngp: Function
    slope: Function
    degree: float | None = None

    has_series = False

    def __init__(
        self, nngp: Function, derivative: Function, *, degree: float | None = None
    ) -> None:
        for name, function in (("nngp", nngp), ("derivative", derivative)):
            if not callable(function):
                found = type(function).__name__
                raise TypeError(f"{name}: expected a function of NumPy arrays, got {found}")
        if degree is not None:
            degree = checks.number("degree", degree, least=0.0)
        checks.store(self, nngp=nngp, slope=derivative, degree=degree)
        _check(self)

    def __repr__(self) -> str:
        degree = "" if self.degree is None else f", degree={self.degree}"
        return f"Dual({self.nngp!r}, {self.slope!r}{degree})"

    @property
    def name(self) -> str:
        return f"Dual({getattr(self.nngp, '__name__', 'nngp')})"

    def __call__(self, x: ArrayLike) -> NoReturn:
        raise TypeError(f"activation: {self.name} states kernels, the function itself is not known")

    def derivative(self, x: ArrayLike) -> NoReturn:
        self(x)

    def hermite(self, q: ArrayLike, count: int) -> NoReturn:
        raise TypeError(
            f"activation: the Hermite series of {self.name} is not known, which states kernels "
            "only; rows of one norm and homogeneous networks do without"
        )

    def dual(self, q: ArrayLike, p: ArrayLike, c: ArrayLike) -> Array:
        return self._at("nngp", *_floats(q, p, c))

    def derivative_dual(self, q: ArrayLike, p: ArrayLike, c: ArrayLike) -> Array:
        return self._at("derivative", *_floats(q, p, c))

    def _at(self, name: str, q: Array, p: Array, c: Array) -> Array:
        q, p, c = np.broadcast_arrays(q, p, c)
        if self.degree is None:
            return self._ask(name, c, q, p)
        power = (self.degree - (name == "derivative")) / 2
        size = np.sqrt(q) * np.sqrt(p)
        u = np.where(size > 0, np.clip(c / np.where(size > 0, size, 1), -1, 1), 0)
        u = np.where((q == p) & (c == q) & (q > 0), 1, u)
        with np.errstate(divide="ignore"):
            return np.asarray((q * p) ** power * self._ask(name, u))

    def _function(self, name: str) -> Function:
        return self.nngp if name == "nngp" else self.slope

    def _ask(self, name: str, *arguments: Array) -> Array:
        """Call a function; in float64 where it knows nothing wider."""
        function = self._function(name)
        try:
            found = function(*arguments)
        except TypeError:
            if arguments[0].dtype == np.float64:
                raise
            found = function(*(one.astype(np.float64) for one in arguments))
        return np.asarray(np.broadcast_to(found, arguments[0].shape), arguments[0].dtype)

    def pair_duals(self, q: Array, p: Array, v: Array, vc: Array) -> tuple[Array, Array, float]:
        defect, slope, error = super().pair_duals(q, p, v, vc)
        if self.degree is not None:
            return defect, slope, error
        moved = v + np.where(v < vc, MOVED, -MOVED) * np.finfo(v.dtype).eps
        apart = (v > 0) & (vc > 0)
        other = super().pair_duals(q, p, moved, 1 - moved)[1]
        tops = np.sqrt(self.derivative_variance(q))[:, None] * np.sqrt(self.derivative_variance(p))
        change = np.where(apart, np.abs(other - slope), 0) / np.where(tops > 0, tops, 1)
        return defect, slope, float(np.max(change, initial=0.0))

    def _sphere_map(self, q: Array, v: Array, vc: Array) -> SphereMap:
        if self.degree is not None:
            q = np.ones_like(q)  # only the angle counts
        top = self._at("nngp", q, q, q)
        if top == 0:
            return _linear_limit(v)

        def slopes(u: Array) -> Array:
            return np.asarray(self._at("derivative", q, q, q * u) * (q / top))

        u = np.clip(vc - v, -1, 1)
        steepest, slope = slopes(np.ones_like(q)), slopes(u)
        defect, slope_defect = 1 - self._at("nngp", q, q, q * u) / top, steepest - slope
        # Near both ends functions of the cosine lose the angle. The slope is a polynomial in the
        # root s of v or vc there, and the value its integral, du = 4 s ds.
        for sign, distance, first in ((1, v, 0), (-1, vc, 1 - self._at("nngp", q, q, -q) / top)):
            powers, reach = _expansion(partial(_at_root, slopes, sign), v.dtype)
            if sign > 0:
                powers[0] = steepest
            near = distance < reach**2
            s = np.sqrt(distance[near])
            moved = _horner(powers[1:], s) * s
            areas = 4 * powers / np.arange(2, len(powers) + 2)
            defect[near] = first + sign * _horner(areas, s) * distance[near]
            slope[near] = powers[0] + moved
            slope_defect[near] = (steepest - powers[0]) - moved
        return defect, slope, slope_defect


def _at_root(slopes: Callable[[Array], Array], sign: int, s: Array) -> Array:
    return slopes(sign * (1 - 2 * s * s))


def _expansion(function: Callable[[Array], Array], dtype: Any) -> tuple[Array, float]:
    """Return powers of a function near 0, and how far they reach: where they are best known.

    Farther out the series has not converged, nearer to 0 the function has rounding errors.
    """
    last = len(SHIFTED) - 1
    angles = np.arange(last + 1, dtype=dtype) * (np.arctan2(dtype.type(0), dtype.type(-1)) / last)
    x = (1 - np.cos(angles)) / 2  # the ends are nodes
    k = np.arange(last + 1)
    weights = np.cos(np.outer(k, angles)) * np.where(k % 2, -1, 1)[:, None] * dtype.type(2) / last
    weights[[0, -1]] /= 2
    weights[:, [0, -1]] /= 2
    found: list[tuple[float, Array, float]] = []
    for reach in 0.5 ** np.arange(1, 9):
        series = weights @ function(reach * x)
        powers = (series @ SHIFTED.astype(dtype)) / dtype.type(reach) ** k
        found.append((float(np.max(np.abs(series[-3:]))), powers, float(reach)))
    return min(found, key=lambda one: one[0])[1:]


def _horner(powers: Array, s: Array) -> Array:
    """Return sum_k powers[k] s^k."""
    total = np.zeros_like(s)
    for power in powers[::-1]:
        total = total * s + power
    return total


def _shifted(count: int) -> NDArray[np.float64]:
    """Return the powers of x in the Chebyshev polynomials T_n(2 x - 1), (count, count)."""
    rows = [np.polynomial.Chebyshev.basis(n) for n in range(count)]
    moved = [row(np.polynomial.Polynomial([-1, 2])).coef for row in rows]
    return np.array([np.pad(row, (0, count - len(row))) for row in moved])


SHIFTED = _shifted(13)


# ---- what is checked -----------------------------------------------------------------------------


def _check(dual: Dual) -> None:
    """Raise an error if functions cannot be duals."""
    variances = VARIANCES if dual.degree is None else (1.0,)
    q, p = (side[..., None] for side in np.meshgrid(variances, variances, indexing="ij"))
    size = np.sqrt(q * p)
    u = HALF * np.cos((np.arange(NODES) + 0.5) * np.pi / NODES)
    ends = np.array([-1.0, 1.0])
    inside, outside = _tried(dual, "nngp", q, p, u), _tried(dual, "nngp", q, p, ends)
    tops = _tried(dual, "nngp", q, q, ends[1:])[..., 0]
    steepest = _tried(dual, "derivative", q, q, ends[1:])
    if not np.all(tops > 0):
        raise ValueError(f"nngp: expected positive values at equal inputs, got {tops.min():.3g}")
    bound = np.sqrt(tops * tops.T)[..., None]
    for values in (inside, outside):
        if np.any(np.abs(values - values.swapaxes(0, 1)) > AGREE * bound):
            raise ValueError("nngp: expected a symmetric function, of (cov, x_var, y_var)")
        if np.any(np.abs(values) > bound * (1 + AGREE)):
            raise ValueError(
                "nngp: expected |nngp(cov, q, p)| <= sqrt(nngp(q, q, q) nngp(p, p, p)), got "
                f"{np.max(np.abs(values) / bound):.4g} times that"
            )
    if np.any(steepest < -AGREE * tops[..., None]):
        raise ValueError("derivative: expected positive values at equal inputs")
    _check_derivative(dual, q, p, size, bound)
    _check_series(dual, inside, u, tops[:, 0])


def _tried(dual: Dual, name: str, q: Array, p: Array, u: Array) -> Array:
    """Return values, which must be finite float64 numbers, one for each argument."""
    c = np.sqrt(q * p) * u
    c = np.where((u == 1) & (q == p), q, c)
    arguments = (c, *np.broadcast_arrays(q, p, c)[:2]) if dual.degree is None else (u + 0 * c,)
    wanted = "(cov, x_var, y_var)" if dual.degree is None else "the cosine, as degree is given"
    try:
        with np.errstate(all="ignore"):
            raw = np.asarray(dual._function(name)(*arguments))
            np.broadcast_to(raw, c.shape)
    except Exception as error:
        raise TypeError(
            f"{name}: expected an elementwise function of {wanted}, which are NumPy arrays; "
            f"it raises {type(error).__name__}: {error}"
        ) from error
    if raw.dtype != np.float64:
        raise TypeError(f"{name}: expected numbers in float64, got {raw.dtype}")
    with np.errstate(all="ignore"):
        values = dual._at(name, *np.broadcast_arrays(q, p, c))
    if not np.all(np.isfinite(values)):
        bad = np.argwhere(~np.isfinite(values))[0]
        at = np.broadcast_to(u, values.shape)[tuple(bad)]
        hint = "; without a derivative there is no NTK" if name == "derivative" else ""
        raise ValueError(
            f"{name}: expected finite numbers, got {values[tuple(bad)]} at cosine {at:.3g}{hint}"
        )
    return values


def _check_derivative(dual: Dual, q: Array, p: Array, size: Array, bound: Array) -> None:
    """Compare integrals of the derivative with differences, which loses no digits."""
    nodes, weights = np.polynomial.legendre.leggauss(16)
    edges = np.linspace(-0.9, 0.9, 4)
    for left, right in pairwise(edges):
        half = (right - left) / 2
        slopes = _tried(dual, "derivative", q, p, left + half * (nodes + 1))
        grown = half * size[..., 0] * (slopes @ weights)
        wanted = np.diff(_tried(dual, "nngp", q, p, np.array([left, right])))[..., 0]
        error = np.abs(grown - wanted) / bound[..., 0]
        if np.any(error > AGREE):
            a, b = np.unravel_index(np.argmax(error), error.shape)
            raise ValueError(
                f"derivative: expected that of nngp by the covariance; between cosines {left:.1f} "
                f"and {right:.1f}, at variances {q[a, b, 0]} and {p[a, b, 0]}, nngp grows by "
                f"{wanted[a, b]:.6g}, the integral of derivative is {grown[a, b]:.6g}"
            )


def _check_series(dual: Dual, values: Array, u: Array, tops: Array) -> None:
    """Look for negative coefficients of the series in u, between all variances at once.

    The first terms are read off from Chebyshev coefficients; higher ones would be rounding errors,
    and are looked for in the Legendre series, which they make negative.
    """
    angle = np.arccos(np.clip(u / HALF, -1, 1))
    waves = np.cos(np.arange(NODES)[:, None] * angle) * (2.0 / NODES)
    waves[0] /= 2
    series = values @ waves.T
    powers = np.array([_powers(row) for row in series.reshape(-1, NODES)])
    powers = powers.reshape(*series.shape[:2], FIRST) / np.sqrt(np.outer(tops, tops))[..., None]
    for j in range(FIRST):
        least = float(np.linalg.eigvalsh(powers[..., j])[0])
        if least < -AGREE:
            raise ValueError(
                f"nngp: expected a positive definite function, whose power series in the cosine "
                f"has no negative coefficients, got {least:.3g} for u^{j}"
            )
    nodes, weights = np.polynomial.legendre.leggauss(200)
    basis = np.polynomial.legendre.legvander(nodes, DEGREES) * (np.arange(DEGREES + 1) + 0.5)
    for k, q in enumerate(VARIANCES if dual.degree is None else (1.0,)):
        own = np.full((1, 1), q)
        masses = (_tried(dual, "nngp", own, own, nodes)[0] * weights) @ basis / tops[k]
        if np.min(masses) < -AGREE:
            raise ValueError(
                "nngp: expected a positive definite function, got one whose Legendre coefficient "
                f"of degree {int(np.argmin(masses))} is negative at variance {q}"
            )


def _powers(series: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the first power coefficients of a Chebyshev series on [-HALF, HALF]."""
    found = np.polynomial.chebyshev.cheb2poly(series)[:FIRST]
    return np.asarray(np.pad(found, (0, FIRST - len(found))) / HALF ** np.arange(FIRST))
