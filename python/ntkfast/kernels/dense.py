"""The NTK and NNGP of dense networks: which map of rows they are, a profile or layers."""

from __future__ import annotations

import math
import warnings
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from ntkfast import engines
from ntkfast.activations.base import Activation, Complex
from ntkfast.arrays import checks
from ntkfast.arrays.collections import Collection, FloatArray, Rows
from ntkfast.engines import Run
from ntkfast.engines.maps import LayerMap, Map, ProfileMap
from ntkfast.kernels.balance import Balanced, balanced, scaled
from ntkfast.kernels.base import KernelOfNetwork
from ntkfast.kernels.layers import Layer, Layers, carry, diagonal, homogeneity, numbers
from ntkfast.kernels.profile import Reals, compile_profile
from ntkfast.kernels.rows import RowKernel, at_power

if TYPE_CHECKING:  # analysis is loaded when it is asked for
    from ntkfast.kernels.network_curve import NetworkCurve

# Norms that differ by rounding only count as equal: the kernel is then a profile.
EQUAL_NORMS = 4.0
PROFILE_ERROR = 16.0  # a profile worse than this many eps is not used
MAX_TERMS = 1024  # Hermite coefficients of an activation without a closed form
Variances: TypeAlias = tuple[NDArray[np.float64], NDArray[np.float64]]  # of both sides of a pair


class StatesLayers(Protocol):
    """A dense network, as the list of its layers."""

    def layers(self, dim: int) -> Layers:
        """Return the recursion for inputs with `dim` features."""

    def scale(self, kind: str) -> float:
        """Return the factor of the NTK or NNGP of the layers that makes the kernel."""


class NetworkKernel(KernelOfNetwork, RowKernel):
    """The NTK or NNGP of an infinitely wide network (`Network.ntk`, `Network.nngp`).

    Attributes
    ----------
    network : Network
    kind : {"ntk", "nngp"}
    """

    network: Any  # that states layers, see `StatesLayers`

    @property
    def is_zonal(self) -> bool:
        """Whether K(x, y) = |x|^p |y|^p k(u): positively homogeneous activations and no bias."""
        return homogeneity(self.network.layers(1), self.kind) is not None

    def profile(self, u: ArrayLike, radius: float = 1.0) -> NDArray[np.float64]:
        """Evaluate the kernel between two inputs of one norm as a function of their cosine.

        Parameters
        ----------
        u : array
            Cosines in [-1, 1].
        radius : float, default 1
            Norm of both inputs; with ``parameterization="ntk"`` their norm over sqrt(d).

        Returns
        -------
        array of the shape of `u`, float64

        Examples
        --------
        >>> import ntkfast as nf
        >>> nf.FullyConnected(1).ntk.profile([1.0, 0.0, -1.0]).round(6)
        array([2.      , 0.31831 , 0.      ])
        """
        cosine = checks.cosines("u", u).astype(np.longdouble)
        squared = checks.number("radius", radius, above=0.0) ** 2
        flat = np.atleast_1d(cosine).ravel()
        value, missing = self._curve(1, squared).split((1 - flat) / 2, (1 + flat) / 2)
        if not abs(value) <= np.finfo(np.float64).max:
            raise ValueError(
                f"radius: the kernel of a row with norm {radius:.3g} overflows float64"
            )
        return np.asarray((value - missing).reshape(cosine.shape), np.float64)

    def curve(self, dim: int, radius: float) -> NetworkCurve:
        """Return the network on one sphere; see `RowKernel.curve`."""
        return self._curve(dim, radius**2)

    def _curve(self, dim: int, q: float) -> NetworkCurve:
        from ntkfast.kernels.network_curve import NetworkCurve

        layers, exponent = _balanced(self.network, dim)
        return NetworkCurve(layers, self.kind, q, self.network.scale(self.kind), exponent)

    def at_complex_cosines(
        self, dim: int, p: NDArray[np.float64], q: NDArray[np.float64], u: Complex
    ) -> Complex:
        """Return the kernel at complex cosines; see `RowKernel.at_complex_cosines`."""
        from ntkfast.kernels.points import at_complex_cosines

        layers, exponent = _balanced(self.network, dim)
        pair = at_complex_cosines(layers, p, q, u)
        scale = scaled(self.network.scale(self.kind), exponent)
        return np.asarray(scale * (pair.c if self.kind == "nngp" else pair.t))

    def diagonal_of(self, norms: FloatArray, dim: int) -> NDArray[np.float64]:
        """Return the values at pairs of equal inputs with these norms."""
        layers, exponent = _balanced(self.network, dim)
        values = diagonal(layers, norms.astype(np.float64) ** 2)
        chosen = self.network.scale(self.kind) * (
            values.nngp if self.kind == "nngp" else values.ntk
        )
        with np.errstate(over="ignore", under="ignore"):
            return np.asarray(np.ldexp(chosen, exponent))

    def _map(self, X: Rows, Y: Rows) -> tuple[Map, Rows, Rows]:
        dim, dtype = X.data.shape[1], X.data.dtype
        layers, exponent = _balanced(self.network, dim)
        degree = homogeneity(layers, self.kind)
        if degree:
            self._check_scale(X, Y)
        radius = 1.0 if degree is not None else _common_norm(X.norms, Y.norms)
        if radius is not None:
            profile = _compiled(self, dtype.str, radius, degree or 0.0, dim)
            # Composed steps behave like a root of the angle, which no polynomial follows; nothing
            # is better than a profile where an activation has only a quadrature.
            closed = all(layer.activation.is_compiled for layer in layers)
            if not closed or profile.error <= PROFILE_ERROR * float(np.finfo(dtype).eps):
                return profile, X, Y
        if self._vanishes(X) and self._vanishes(Y):
            return compile_profile(_nothing, dtype, degree=1.0, scale=0.0), X, Y
        for name, side in (("X", X), ("Y", Y)):
            _check_layers(name, layers, side)
        ntk, nngp = (scaled(self.network.scale(kind), exponent) for kind in ("ntk", "nngp"))
        return _layer_map(layers, self.kind, (ntk, nngp), X, Y)

    def _check_scale(self, X: Rows, Y: Rows) -> None:
        """Raise an error where long rows make up for a factor that is no normal number."""
        tiny, dim = np.finfo(X.data.dtype).tiny, X.data.shape[1]
        for name, side in (("X", X), ("Y", Y)) if at_power(self, 0, dim) < tiny else ():
            top = side.norms.max()
            if self.diagonal_of(np.array([top]), dim)[0] >= tiny:
                raise ValueError(
                    f"{name}: the kernel vanishes in {X.data.dtype} for unit rows, but not for one "
                    f"with norm {top:.3g}; scale the rows down and the weights up"
                )

    def _vanishes(self, rows: Rows) -> bool:
        """Whether no value at equal inputs is a normal number: other values are smaller."""
        tiny, dim = np.finfo(rows.data.dtype).tiny, rows.data.shape[1]
        top = rows.norms.max(keepdims=True)
        small = self.diagonal_of(top, dim)[0] < tiny
        return bool(small and np.all(self.diagonal_of(rows.norms, dim) < tiny))

    def _both(
        self, X: Collection, Y: Collection | None, outs: tuple[FloatArray, FloatArray], run: Run
    ) -> None:
        (plan, left, right), (second, *_) = (kernel._plan(X, Y) for kernel in self._pair())
        if _share_factors(plan, second):
            right_or_none = None if Y is None else right
            engines.both(run, plan, second, left, right_or_none, outs)
            return
        super()._both(X, Y, outs, run)


def _share_factors(first: Map, second: Map) -> bool:
    """Whether two maps can be evaluated in one pass."""
    if isinstance(first, ProfileMap) and isinstance(second, ProfileMap):
        return first.degree == second.degree
    return isinstance(first, LayerMap) and isinstance(second, LayerMap)


def _common_norm(*norms: FloatArray) -> float | None:
    """Return the norm that all rows share up to rounding, if it is not zero."""
    low, high = min(float(n.min()) for n in norms), max(float(n.max()) for n in norms)
    if low == 0 or high - low > EQUAL_NORMS * float(np.finfo(norms[0].dtype).eps) * high:
        return None
    if low == high:
        return high
    # A few ulps coarser than the mean, so that parts of one data set share a compiled profile.
    mean = float(np.mean([n.mean(dtype=np.float64) for n in norms]))
    mantissa, exponent = math.frexp(mean)
    grid = 2.0 ** (np.finfo(norms[0].dtype).nmant - 1)
    return math.ldexp(round(mantissa * grid) / grid, exponent)


def _nothing(v: Reals, vc: Reals) -> Reals:
    return np.zeros_like(v)


def _check_layers(name: str, layers: Layers, rows: Rows) -> None:
    """Raise an error if variances on the way overflow or vanish in the dtype of the rows."""
    norms = rows.norms[rows.norms > 0]
    if not len(norms):
        return

    def activate(layer: Layer, c: FloatArray) -> FloatArray:
        return within(np.asarray(layer.activation.variance(c), c.dtype))

    def within(c: FloatArray) -> FloatArray:
        wrong = np.flatnonzero(~((c > 0) & (c < np.inf)))
        if len(wrong):
            verb, way = ("overflows", "down") if c[wrong[0]] else ("vanishes in", "up")
            raise ValueError(
                f"{name}: a layer {verb} {c.dtype} for a row with norm {ends[wrong[0]]:.3g}; "
                f"scale the rows or the weights {way}"
            )
        return c

    ends = np.array([norms.min(), norms.max()])
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        carry(
            layers,
            ends * ends,
            activate,
            lambda layer, c: within(layer.w * c + layer.e),
            lambda a, b: a + b,
        )


@lru_cache(maxsize=256)
def _balanced(network: StatesLayers, dim: int) -> Balanced:
    """Return the layers of a network in the range of floating-point numbers."""
    return balanced(network.layers(dim))


@lru_cache(maxsize=256)
def _compiled(
    kernel: NetworkKernel, dtype: str, radius: float, degree: float, dim: int
) -> ProfileMap:
    """Compile the kernel on the sphere of a radius; cached, since it takes milliseconds."""
    curve = kernel._curve(dim, radius * radius)
    ends = np.zeros(1, np.longdouble)
    top = float(curve.split(ends, 1 - ends)[0])
    return compile_profile(curve.missing, np.dtype(dtype), degree=degree, scale=top)


def _layer_map(
    layers: Layers, kind: str, scales: tuple[float, float], X: Rows, Y: Rows
) -> tuple[Map, Rows, Rows]:
    """Constants of the layers, and Hermite coefficients of the rows where an activation asks."""
    blocks: list[list[FloatArray]] = []

    def activate(layer: Layer, variances: Variances) -> Variances:
        activation = layer.activation
        if not activation.is_compiled:
            blocks.append(_series(activation, variances, X.data.dtype))
        first, second = (np.asarray(activation.variance(q), np.float64) for q in variances)
        return first, second

    def affine(layer: Layer, variances: Variances) -> Variances:
        first, second = (layer.w * q + layer.e for q in variances)
        return first, second

    def join(a: Variances, b: Variances) -> Variances:
        return a[0] + b[0], a[1] + b[1]

    # Variances are needed as far as the last activation that asks only: mostly not at all.
    asking = [k for k, layer in enumerate(layers, 1) if not layer.activation.is_compiled]
    first, second = (side.norms.astype(np.float64) ** 2 for side in (X, Y))
    carry(layers[: max(asking, default=0)], (first, second), activate, affine, join)
    terms = [block[0].shape[1] - 1 for block in blocks]
    refine = any(layer.activation.refines for layer in layers)
    plan = LayerMap(numbers(layers, terms), refine, kind == "nngp", scales)
    values = diagonal(layers, X.norms.astype(np.float64) ** 2)
    both = np.stack([scales[0] * values.ntk, scales[1] * values.nngp], axis=1).astype(X.data.dtype)
    if not blocks:
        return plan, replace(X, diagonal=both), Y
    series = [np.hstack(side).astype(X.data.dtype) for side in zip(*blocks, strict=True)]
    return plan, replace(X, series=series[0], diagonal=both), replace(Y, series=series[1])


def _series(activation: Activation, variances: Variances, dtype: DTypeLike) -> list[FloatArray]:
    """Return normalised Hermite coefficients, one row per data row, then the variance after.

    The number of coefficients is doubled until what is cut off is rounding error.
    """
    eps = float(np.finfo(dtype).eps)
    unique, inverse = np.unique(np.concatenate(variances), return_inverse=True)
    top = np.asarray(activation.variance(unique), np.float64)
    terms = 8
    while True:
        found = np.asarray(activation.hermite(unique, terms), np.float64)
        sums = np.sum(found * found, axis=1)
        lost = float(np.max(np.maximum(top - sums, 0) / np.where(top > 0, top, 1)))
        if lost <= 16 * eps or terms >= MAX_TERMS:
            break
        terms *= 2
    if lost > 64 * eps:
        warnings.warn(
            f"activation: {terms} Hermite coefficients leave a relative error of up to {lost:.1e} "
            "for these norms; scale the rows to one norm for full accuracy",
            RuntimeWarning,
            stacklevel=9,
        )
    scale = np.where(top > 0, 1 / np.sqrt(np.where(top > 0, top, 1)), 0)
    block = np.hstack([found * scale[:, None], top[:, None]])
    count = len(variances[0])
    return [block[inverse[:count]], block[inverse[count:]]]
