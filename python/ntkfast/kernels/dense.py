"""The NTK and NNGP of dense networks: which map of rows they are, a profile or layers."""

from __future__ import annotations

import math
import warnings
from dataclasses import replace
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from ntkfast import engines
from ntkfast.arrays import checks
from ntkfast.arrays.collections import Collection, FloatArray, Rows
from ntkfast.engines.maps import LayerMap, Map, ProfileMap
from ntkfast.kernels.base import KernelOfNetwork
from ntkfast.kernels.layers import Layers, diagonal, has_kinks, homogeneity, numbers, sphere
from ntkfast.kernels.profile import Reals, compile_profile
from ntkfast.kernels.rows import RowKernel

# Norms that differ by rounding only count as equal: the kernel is then a profile.
EQUAL_NORMS = 4.0
PROFILE_ERROR = 16.0  # a profile worse than this many eps is not used
MAX_TERMS = 1024  # Hermite coefficients of an activation without a closed form


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
        value, missing = self._on_sphere(squared, (1 - flat) / 2, (1 + flat) / 2, 1)
        return np.asarray((value - missing).reshape(cosine.shape), np.float64)

    def _on_sphere(self, q: float, v: Reals, vc: Reals, dim: int) -> tuple[Any, Reals]:
        """Value at equal inputs, and what is missing from it at an angle."""
        state, scale = sphere(self.network.layers(dim), q, v, vc), self.network.scale(self.kind)
        if self.kind == "nngp":
            return scale * state.q, scale * state.q * state.defect
        return scale * state.t, scale * state.t_missing

    def _diagonal(self, norms: FloatArray, dim: int) -> NDArray[np.float64]:
        values = diagonal(self.network.layers(dim), norms.astype(np.float64) ** 2)
        chosen = values.nngp if self.kind == "nngp" else values.ntk
        return np.asarray(self.network.scale(self.kind) * chosen)

    def _map(self, X: Rows, Y: Rows) -> tuple[Map, Rows, Rows]:
        dim, dtype = X.data.shape[1], X.data.dtype
        layers = self.network.layers(dim)
        degree = homogeneity(layers, self.kind)
        radius = 1.0 if degree is not None else _common_norm(X.norms, Y.norms)
        if radius is not None:
            profile = _compiled(self, dtype.str, radius, degree or 0.0, dim)
            # Composed steps behave like a root of the angle, which no polynomial follows; nothing
            # is better than a profile where an activation has only a quadrature.
            closed = all(layer.activation.code[0] != 8 for layer in layers)
            if not closed or profile.error <= PROFILE_ERROR * float(np.finfo(dtype).eps):
                return profile, X, Y
        scales = self.network.scale("ntk"), self.network.scale("nngp")
        return _layer_map(layers, self.kind, scales, X, Y)

    def _both(
        self,
        X: Collection,
        Y: Collection | None,
        outs: tuple[FloatArray, FloatArray],
        engine: engines.Engine,
        threads: int,
    ) -> None:
        (plan, left, right), (second, *_) = (kernel._plan(X, Y) for kernel in self._pair())
        if _share_factors(plan, second):
            right_or_none = None if Y is None else right
            engines.both(engine, plan, second, left, right_or_none, outs, threads)
            return
        super()._both(X, Y, outs, engine, threads)


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


@lru_cache(maxsize=256)
def _compiled(
    kernel: NetworkKernel, dtype: str, radius: float, degree: float, dim: int
) -> ProfileMap:
    """Compile the kernel on the sphere of a radius; cached, since it takes milliseconds."""
    squared = radius * radius
    ends = np.zeros(1, np.longdouble)
    top = kernel._on_sphere(squared, ends, 1 - ends, dim)[0]

    def curve(v: Reals, vc: Reals) -> Reals:
        return np.asarray(kernel._on_sphere(squared, v, vc, dim)[1] / top)

    return compile_profile(curve, np.dtype(dtype), degree=degree, scale=float(top))


def _layer_map(
    layers: Layers, kind: str, scales: tuple[float, float], X: Rows, Y: Rows
) -> tuple[Map, Rows, Rows]:
    """Constants of the layers, and Hermite coefficients of the rows where an activation asks."""
    chosen: list[int] = []
    blocks: list[list[FloatArray]] = [[], []]
    variances = [side.norms.astype(np.float64) ** 2 for side in (X, Y)]
    slots: dict[int, list[NDArray[np.float64]]] = {}
    # Variances are needed as far as the last such activation only: mostly not at all.
    asking = [k for k, layer in enumerate(layers) if layer.activation.code[0] == 8]
    for layer in layers[: asking[-1] + 1 if asking else 0]:
        if layer.save >= 0:
            slots[layer.save] = variances
        if layer.activation.code[0] == 8:
            coefficients = _series(layer.activation, variances, X.data.dtype)
            chosen.append(coefficients[0].shape[1] - 1)
            for block, part in zip(blocks, coefficients, strict=True):
                block.append(part)
        variances = [
            layer.w * np.asarray(layer.activation.variance(q), np.float64) + layer.e
            for q in variances
        ]
        if layer.add >= 0:
            variances = [a + b for a, b in zip(variances, slots[layer.add], strict=True)]
    plan = LayerMap(numbers(layers, chosen), has_kinks(layers), kind == "nngp", scales)
    values = diagonal(layers, X.norms.astype(np.float64) ** 2)
    both = np.stack([scales[0] * values.ntk, scales[1] * values.nngp], axis=1).astype(X.data.dtype)
    if not chosen:
        return plan, replace(X, diagonal=both), Y
    series = [np.hstack(block).astype(X.data.dtype) for block in blocks]
    return plan, replace(X, series=series[0], diagonal=both), replace(Y, series=series[1])


def _series(
    activation: Any, variances: list[NDArray[np.float64]], dtype: DTypeLike
) -> list[FloatArray]:
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
            stacklevel=5,
        )
    scale = np.where(top > 0, 1 / np.sqrt(np.where(top > 0, top, 1)), 0)
    block = np.hstack([found * scale[:, None], top[:, None]])
    count = len(variances[0])
    return [block[inverse[:count]], block[inverse[count:]]]
