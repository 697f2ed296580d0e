"""Kernels of rows of a matrix: by profiles and layer maps on tiles of pairs; zonal kernels."""

from __future__ import annotations

import math
import warnings
from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from ntkfast import card, engines, inputs
from ntkfast.engines.card_array import CardArray
from ntkfast.kernel import PANEL_BYTES, Kernel, KernelOfNetwork, checked_kernel
from ntkfast.layers import Layers, diagonal, has_kinks, homogeneity, numbers, sphere
from ntkfast.maps import Collection, FloatArray, LayerMap, Map, ProfileMap, Rows
from ntkfast.profile import Reals, compile_profile

if TYPE_CHECKING:
    from ntkfast.networks import Network

# Norms that differ by rounding only count as equal: the kernel is then a profile.
EQUAL_NORMS = 4.0
PROFILE_ERROR = 16.0  # a profile worse than this many eps is not used
MAX_TERMS = 1024  # Hermite coefficients of an activation without a closed form


class RowKernel(Kernel):
    """A kernel whose inputs are rows of a matrix and enter by their norms and their angle."""

    @property
    @abstractmethod
    def is_zonal(self) -> bool:
        """Whether K(x, y) = |x|^p |y|^p k(u) for all inputs, u the cosine of their angle."""

    @abstractmethod
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
        """

    @abstractmethod
    def _diagonal(self, norms: FloatArray, dim: int) -> NDArray[np.float64]:
        """Values at pairs of equal inputs with these norms."""

    @abstractmethod
    def _map(self, X: Rows, Y: Rows) -> tuple[Map, Rows, Rows]:
        """Return what the engine needs: the map, and the rows with what it needs of them."""

    def check_shapes(self, X: tuple[int, ...], Y: tuple[int, ...] | None = None) -> None:
        """Raise an error naming the array that is no matrix, or has other columns than X."""
        inputs.matrix_shape("X", X)
        if Y is not None:
            inputs.matrix_shape("Y", Y, X[1])

    def collect(self, X: ArrayLike) -> FloatArray:
        """Validate a matrix once, for many calls; see `Kernel.collect`."""
        return _rows(X, None)[0].data

    def _pair(self, X: ArrayLike, Y: ArrayLike | None) -> tuple[Rows, Rows | None]:
        return _rows(X, Y)

    def _pair_on_card(self, X: CardArray, Y: CardArray | None) -> tuple[Rows, Rows | None]:
        return card.rows(X, Y)

    def _values(self, X: Collection) -> FloatArray:
        rows = cast(Rows, X)
        return self._diagonal(rows.norms, rows.data.shape[1]).astype(rows.dtype)

    def _gram(
        self,
        X: Collection,
        Y: Collection | None,
        out: FloatArray,
        engine: engines.Engine,
        threads: int,
    ) -> None:
        plan, left, right = self._plan(X, Y)
        if Y is None:
            _symmetric(engine, plan, left, out, threads)
        elif inputs.unit_stride(out):
            engines.gram(engine, plan, left, right, out, threads)
        else:
            for part, panel in _panels(out):
                engines.gram(engine, plan, left[part], right, panel, threads)

    def _product(
        self,
        X: Collection,
        Y: Collection | None,
        V: FloatArray,
        out: FloatArray,
        engine: engines.Engine,
        threads: int,
    ) -> None:
        plan, left, right = self._plan(X, Y)
        engine.matmul(plan, left, right, V, out, threads)

    def _plan(self, X: Collection, Y: Collection | None) -> tuple[Map, Rows, Rows]:
        left, right = cast(Rows, X), cast("Rows | None", Y)
        self._check_range(left, right)
        return self._map(left, left if right is None else right)

    def _check_range(self, X: Rows, Y: Rows | None) -> None:
        """Raise an error where the largest values do not fit the dtype."""
        for name, side in (("X", X), ("Y", Y)):
            if side is None:
                continue
            top, dim = float(np.max(side.norms)), side.data.shape[1]
            limit = np.finfo(side.data.dtype).max
            # The next power of two settles nearly every call, and its value is remembered.
            if _at_power(self, math.frexp(top)[1], dim) <= limit:
                continue
            if not _at_equal(self, top, dim) <= limit:
                raise ValueError(
                    f"{name}: the kernel of a row with norm {top:.3g} overflows "
                    f"{side.data.dtype}; scale the rows or the weights down"
                )


def checked_row_kernel(kernel: object) -> RowKernel:
    """Return `kernel`, or raise an error saying why it has no profile or angles."""
    found = checked_kernel(kernel)
    if not isinstance(found, RowKernel):
        raise TypeError(
            f"kernel: expected a kernel of rows of a matrix, which depends on norms and an angle; "
            f"got {found!r}"
        )
    return found


def _panels(out: FloatArray) -> Iterator[tuple[slice, FloatArray]]:
    """Yield row ranges of `out` and buffers for them, which are copied when they are full."""
    height = max(1, PANEL_BYTES // (out.shape[1] * out.itemsize))
    for first in range(0, len(out), height):
        part = slice(first, min(first + height, len(out)))
        panel = np.empty((part.stop - first, out.shape[1]), out.dtype)
        yield part, panel
        out[part] = panel


def _symmetric(engine: engines.Engine, plan: Map, X: Rows, out: FloatArray, threads: int) -> None:
    """Write K(X, X) to an array of any strides, with the same bits for all of them."""
    if inputs.unit_stride(out):
        engines.gram(engine, plan, X, None, out, threads)
    elif inputs.unit_stride(out.T):
        engines.gram(engine, plan, X, None, out.T, threads)
    else:
        height = max(1, PANEL_BYTES // (out.shape[1] * out.itemsize))
        for first in range(0, len(out), height):
            part, rest = slice(first, first + height), slice(first + height, None)
            square = np.empty((len(out[part]),) * 2, out.dtype)
            engines.gram(engine, plan, X[part], None, square, threads)
            out[part, part] = square
            if first + height < len(out):
                panel = np.empty((len(square), len(out) - first - height), out.dtype)
                engines.gram(engine, plan, X[part], X[rest], panel, threads)
                out[part, rest], out[rest, part] = panel, panel.T


def _rows(X: ArrayLike, Y: ArrayLike | None) -> tuple[Rows, Rows | None]:
    """Validate the inputs; Y = None or Y = X asks for the symmetric matrix."""
    left = inputs.matrix("X", X)
    if Y is None or Y is X:
        return inputs.rows("X", left, engines.row_norms(left)), None
    right = inputs.matrix("Y", Y)
    inputs.same_features(left, right)
    left, right = inputs.same_dtype(left, right)
    return (
        inputs.rows("X", left, engines.row_norms(left)),
        inputs.rows("Y", right, engines.row_norms(right)),
    )


class NetworkKernel(KernelOfNetwork, RowKernel):
    """The NTK or NNGP of an infinitely wide network (`Network.ntk`, `Network.nngp`).

    Attributes
    ----------
    network : Network
    kind : {"ntk", "nngp"}
    """

    network: Network

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
        cosine = inputs.cosines("u", u).astype(np.longdouble)
        squared = inputs.number("radius", radius, above=0.0) ** 2
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

    def both(
        self,
        X: ArrayLike,
        Y: ArrayLike | None = None,
        *,
        engine: str | None = None,
        threads: int | None = None,
    ) -> tuple[FloatArray, FloatArray]:
        """Return the NNGP and NTK Gram matrices of the network from one pass over the data.

        Parameters
        ----------
        X, Y, engine, threads
            As for calling the kernel.

        Returns
        -------
        nngp, ntk : (n, m) arrays
        """
        if card.lies_on_card(X):
            return card.both(self, X, Y, engine)
        left, right = _rows(X, Y)
        shape = len(left), len(left if right is None else right)
        nngp, ntk = (np.empty(shape, left.data.dtype) for _ in range(2))
        self._both(left, right, (ntk, nngp), engines.select(engine), engines.count(threads))
        return nngp, ntk

    def _both(
        self,
        X: Rows,
        Y: Rows | None,
        outs: tuple[FloatArray, FloatArray],
        engine: engines.Engine,
        threads: int,
    ) -> None:
        """Write NTK and NNGP to arrays whose rows have unit stride."""
        pair = self.network.ntk, self.network.nngp
        (plan, left, right), (second, *_) = (kernel._plan(X, Y) for kernel in pair)
        if _share_factors(plan, second):
            right_or_none = None if Y is None else right
            engines.both(engine, plan, second, left, right_or_none, outs, threads)
            return
        for kernel, out in zip(pair, outs, strict=True):
            kernel._gram(X, Y, out, engine, threads)


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


def _at_equal(kernel: RowKernel, norm: float, dim: int) -> float:
    """Value at two equal inputs of a norm; infinity where it overflows."""
    with np.errstate(over="ignore", invalid="ignore"):
        return float(kernel._diagonal(np.array([norm]), dim)[0])


@lru_cache(maxsize=1024)
def _at_power(kernel: RowKernel, exponent: int, dim: int) -> float:
    """Return the same at the norm 2**exponent."""
    return _at_equal(kernel, 2.0 ** min(exponent, 1023), dim)


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
