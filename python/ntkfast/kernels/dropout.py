"""Kernels of networks with dropout: those of independent masks, but for inputs with themselves.

Every input has masks of its own. An input with itself has one mask, two inputs have two, be they
equal or not: so the diagonal of a symmetric matrix is another function than the rest. The rest is
a kernel of rows like that of any network, as continuous, and positive semidefinite by itself: that
of the means over the masks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ntkfast import places
from ntkfast.arrays.collections import Collection, FloatArray, Rows, Weights
from ntkfast.engines import Run
from ntkfast.kernels.balance import both_scaled, scaled
from ntkfast.kernels.base import KernelOfNetwork
from ntkfast.kernels.by_parameters import Given
from ntkfast.kernels.dense import NetworkKernel
from ntkfast.kernels.layer_rows import facts_of
from ntkfast.kernels.layers import Array, Layer, Layers, carry, diagonal
from ntkfast.kernels.moving import REACH, curve_stencil, gradient_weights, stencil
from ntkfast.kernels.network_curve import NetworkCurve

Way: TypeAlias = Callable[[Layers, Array], Any]  # from layers and squared norms to both kernels


class DropoutKernel(KernelOfNetwork):
    """The NTK or NNGP of a network with `Dropout`.

    Attributes
    ----------
    network : Network
    kind : {"ntk", "nngp"}
    """

    @property
    def _apart(self) -> Apart:
        return Apart(self.network, self.kind)

    def check_shapes(self, X: tuple[int, ...], Y: tuple[int, ...] | None = None) -> None:
        """Raise an error naming the array that is no matrix, or has other columns than X."""
        self._apart.check_shapes(X, Y)

    def collect(self, X: ArrayLike) -> FloatArray:
        """Validate a matrix once, for many calls; see `Kernel.collect`."""
        return self._apart.collect(X)

    def _inputs(self, place: places.Place, X: Any, Y: Any) -> tuple[Collection, Collection | None]:
        if place is not places.HOST:
            raise places.HostOnlyError("X: kernels with Dropout need NumPy arrays")
        return place.rows(X, Y)

    def _values(self, X: Collection) -> FloatArray:
        return self._own(cast(Rows, X))[self.kind == "nngp"]

    def _own(self, X: Rows) -> tuple[FloatArray, FloatArray]:
        """Return NTK and NNGP of rows with themselves, in their dtype."""
        both = NetworkKernel._own(self._apart, X.norms, X.data.shape[1])
        mine = both[:, self._apart._slot]
        if not mine.max() <= np.finfo(X.dtype).max:
            raise ValueError(
                f"X: the kernel of a row with norm {X.norms[mine.argmax()]:.3g} overflows "
                f"{X.dtype}; scale the rows or the weights down"
            )
        with np.errstate(over="ignore"):  # of the other one
            return both[:, 0].astype(X.dtype), both[:, 1].astype(X.dtype)

    def _gram(self, X: Collection, Y: Collection | None, out: FloatArray, run: Run) -> None:
        self._apart._gram(X, Y, out, run)
        if Y is None:
            np.fill_diagonal(out, self._values(X))

    def _both(
        self, X: Collection, Y: Collection | None, outs: tuple[FloatArray, FloatArray], run: Run
    ) -> None:
        self._apart._both(X, Y, outs, run)
        for out, own in zip(outs, self._own(cast(Rows, X)), strict=True):
            if Y is None:
                np.fill_diagonal(out, own)

    def _product(
        self, X: Collection, Y: Collection | None, V: FloatArray, out: FloatArray, run: Run
    ) -> None:
        if Y is None:
            super()._product(X, Y, V, out, run)
        else:
            self._apart._product(X, Y, V, out, run)

    # ---- derivatives -----------------------------------------------------------------------------

    def _movable(self, X: Any, Y: Any) -> tuple[int, int]:
        return self._apart._movable(X, Y)

    def _gradient(self, X: Any, Y: Any, V: Weights, out: FloatArray, run: Run) -> None:
        if Y is not None:
            self._apart._gradient(X, Y, V, out, run)
            return
        rates = self._own_rates(X)
        for rows, weights in gradient_weights(X, None, V):
            which = np.arange(len(weights)), np.arange(rows.start, rows.stop)
            own = weights[which] * rates[rows]
            weights[which] = 0
            self._apart._gradient(X[rows], X, Weights(weights), out[rows], run)
            out[rows] += own[:, None].astype(X.dtype) * X.data[rows]

    def _moving(self, X: Any, Y: Any, dX: FloatArray, out: FloatArray, run: Run) -> None:
        self._apart._moving(X, Y, dX, out, run)
        if Y is X:  # both places move: half of what rows with themselves do
            np.fill_diagonal(out, self._own_rates(X) * np.einsum("ij,ij->i", X.data, dX))

    def _own_rates(self, X: Rows) -> NDArray[np.float64]:
        """Return the derivatives of rows with themselves by their squared norms."""
        norms, dim = X.norms.astype(np.longdouble), X.data.shape[1]
        rates = sum(
            weight * self._wide(diagonal, share * norms, dim)
            for share, weight in zip(*stencil(1.0, REACH), strict=True)
        )
        return np.where(norms > 0, rates / np.where(norms > 0, 2 * norms**2, 1), 0).astype(float)

    def _by_parameters(
        self, names: Sequence[str], given: Given, X: Any, Y: Any, V: Weights, run: Run
    ) -> dict[str, float]:
        found = self._apart._by_parameters(names, given, X, Y, V, run)
        for name in names if Y is None else ():
            if self._moves(name):
                same, apart = (self._own_slope(name, X, way) for way in (diagonal, at_equal))
                found[name] += float(np.dot(_diagonal_of(V), same - apart))
        return found

    def _add_slopes(
        self, steps: Mapping[str, float], given: Given, X: Any, Y: Any, out: FloatArray, run: Run
    ) -> None:
        part = np.zeros(out.shape, out.dtype)
        self._apart._add_slopes(steps, given, X, Y, part, run)
        if Y is None:
            own = np.zeros(len(X))
            for name, step in steps.items():
                if self._moves(name):
                    own += step * self._own_slope(name, X, diagonal)
            np.fill_diagonal(part, own)
        out += part

    def _own_slope(self, name: str, X: Rows, way: Way) -> NDArray[np.float64]:
        """Return the derivatives of rows with themselves, or with equal ones, by a parameter."""
        norms, dim = X.norms.astype(np.longdouble), X.data.shape[1]
        total = sum(
            weight * self._moved(name, node)._wide(way, norms, dim)
            for node, weight in zip(*curve_stencil(self, name), strict=True)
        )
        return np.asarray(total, np.float64)

    def _wide(self, way: Way, norms: Array, dim: int) -> Array:
        """Return values at pairs of equal rows in extended precision."""
        facts = facts_of(self._apart, dim)
        values = way(facts.layers, norms**2)
        both = both_scaled(values, facts.scales, facts.exponent, norms.dtype)
        return both[:, self._apart._slot]


def _diagonal_of(V: Weights) -> FloatArray:
    if V.left is not None and V.right is not None:
        return np.asarray(np.einsum("ij,ij->i", V.left, V.right, dtype=np.float64))
    assert V.matrix is not None
    return np.asarray(np.diagonal(V.matrix), np.float64)


class Apart(NetworkKernel):
    """The kernel between inputs with masks of their own, equal inputs too."""

    def _curve(self, dim: int, q: float) -> NetworkCurve:
        facts = facts_of(self, dim)
        return ApartCurve(facts.layers, self.kind, q, facts.scales[self._slot], facts.exponent)

    def _own(self, norms: FloatArray, dim: int) -> NDArray[np.float64]:
        facts = facts_of(self, dim)
        values = at_equal(facts.layers, norms.astype(np.longdouble) ** 2)
        return both_scaled(values, facts.scales, facts.exponent)


class ApartCurve(NetworkCurve):
    """Such a kernel on a sphere, whose value at equal inputs is that of two masks."""

    @property
    def top(self) -> float:  # type: ignore[override]
        """k(1)."""
        values = at_equal(self.layers, np.array([self.q], np.longdouble))
        value = values.nngp if self.kind == "nngp" else values.ntk
        return scaled(float(self.scale * value[0]), self.exponent)

    def missing(self, v: NDArray[Any], vc: NDArray[Any]) -> NDArray[Any]:
        """Return 1 - k from the layers."""
        first = super().missing(np.zeros_like(v[:1]), np.ones_like(v[:1]))
        return np.asarray((super().missing(v, vc) - first) / (1 - first))

    def split(self, v: NDArray[Any], vc: NDArray[Any]) -> tuple[Any, NDArray[Any]]:
        """Return the value at equal inputs, and what is missing from it, in the precision of v."""
        return self.top, self.top * self.missing(v, vc)


class Equal(NamedTuple):
    """Variances of inputs, and NNGP and NTK of two equal ones with masks of their own."""

    variance: Array
    nngp: Array
    ntk: Array


def at_equal(layers: Layers, q: Array) -> Equal:
    """Return the kernels of equal inputs with squared norms `q` and independent masks."""

    def activate(layer: Layer, state: Equal) -> Equal:
        q, c, t = state
        one = layer.activation
        t = np.where(t == 0, 0, one.derivative_dual(q, q, c) * t)
        return Equal(one.variance(q), one.dual(q, q, c), t)

    def affine(layer: Layer, state: Equal) -> Equal:
        q, c, t = state
        w, e = layer.w, layer.e
        return Equal(w * q + e, w * c + e, w * t + layer.x * c + layer.y)

    def join(a: Equal, b: Equal) -> Equal:
        return Equal(*(one + other for one, other in zip(a, b, strict=True)))

    def multiply(a: Equal, b: Equal) -> Equal:
        t = a.ntk * b.nngp + a.nngp * b.ntk
        return Equal(a.variance * b.variance, a.nngp * b.nngp, t)

    return carry(layers, Equal(q, q, np.zeros_like(q)), activate, affine, join, multiply)
