"""How the layers of a dense network become constants for an engine, and numbers of rows."""

from __future__ import annotations

from collections.abc import Hashable
from functools import lru_cache
from typing import Any, NamedTuple, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from ntkfast.arrays.collections import FloatArray, Rows
from ntkfast.engines import native
from ntkfast.engines.maps import LayerMap
from ntkfast.kernels import pairwise
from ntkfast.kernels.balance import balanced, both_scaled, check_variances
from ntkfast.kernels.layers import Layer, carry, diagonal, homogeneity, numbers
from ntkfast.kernels.pairwise import Variances


class OfLayers(Hashable, Protocol):
    """A kernel of a network that states its layers."""

    @property
    def network(self) -> Any:
        """The network."""

    @property
    def kind(self) -> str:
        """Which of its kernels."""

    def _own(self, norms: FloatArray, dim: int) -> NDArray[np.float64]:
        """Return NTK and NNGP of rows with themselves."""


class Facts(NamedTuple):
    """What the network alone says of inputs with so many features.

    Attributes
    ----------
    layers : tuple of Layer
    degree : float or None
        Of homogeneity.
    scales : (float, float)
        Factors of the NTK and the NNGP of the layers, beside 2^exponent.
    exponent : int
        Of a factor of both that brings the layers to the range of floating-point numbers.
    asking : int
        Number of the last layer that asks for Hermite coefficients, or 0.
    """

    layers: tuple[Layer, ...]
    degree: float | None
    scales: tuple[float, float]
    exponent: int
    asking: int


@lru_cache(maxsize=256)
def facts_of(kernel: OfLayers, dim: int) -> Facts:
    """Ask the network; cached, since small calls would spend their time here."""
    network = kernel.network
    layers, exponent = balanced(network.layers(dim))
    asking = [k for k, layer in enumerate(layers, 1) if not layer.activation.is_compiled]
    scales = network.scale("ntk"), network.scale("nngp")
    degree = homogeneity(layers, kernel.kind)
    return Facts(layers, degree, scales, exponent, max(asking, default=0))


def on_host(X: Rows) -> bool:
    """Whether rows lie on the host."""
    return isinstance(cast(object, X.data), np.ndarray)


@lru_cache(maxsize=256)
def _table(kernel: OfLayers, dim: int, terms: tuple[int, ...]) -> LayerMap:
    """Return the constants of the layers, with these numbers of Hermite coefficients."""
    facts = facts_of(kernel, dim)
    second = kernel.kind == "nngp"
    return LayerMap(numbers(facts.layers, terms), second, facts.scales, facts.exponent)


@lru_cache(maxsize=1024)
def _in_range(kernel: OfLayers, dim: int, low: int, high: int) -> bool:
    """Whether no variance of norms from 2^(low - 1) to 2^high leaves the range of float64."""
    try:
        check_variances("X", facts_of(kernel, dim).layers, np.ldexp(1.0, [low - 1, high]))
    except ValueError:
        return False
    return True


def layer_map(kernel: OfLayers, X: Rows, Y: Rows) -> tuple[LayerMap, Rows, Rows]:
    """Return constants of layers, and Hermite coefficients of rows where an activation asks."""
    dim, dtype = X.data.shape[1], X.data.dtype
    layers, *_, asking = facts_of(kernel, dim)
    for name, side in (("X", X), ("Y", Y)):
        ends = side.least_positive, side.top
        if side.top > 0 and not _in_range(kernel, dim, *np.frexp(ends)[1]):
            check_variances(name, layers, side.norms[side.norms > 0])
    if not asking:
        return _table(kernel, dim, ()), with_diagonal(kernel, X, Y), Y
    blocks: list[list[FloatArray]] = []

    def activate(layer: Layer, variances: Variances) -> Variances:
        activation = layer.activation
        if not activation.is_compiled:
            blocks.append(pairwise.normalised_series(activation, variances, dtype))
        first, second = (np.asarray(activation.variance(q), np.float64) for q in variances)
        return first, second

    def affine(layer: Layer, variances: Variances) -> Variances:
        first, second = (layer.w * q + layer.e for q in variances)
        return first, second

    def join(a: Variances, b: Variances) -> Variances:
        return a[0] + b[0], a[1] + b[1]

    def multiply(a: Variances, b: Variances) -> Variances:
        return a[0] * b[0], a[1] * b[1]

    # Variances are needed as far as the last activation that asks only.
    first, second = (side.norms.astype(np.float64) ** 2 for side in (X, Y))
    carry(layers[:asking], (first, second), activate, affine, join, multiply)
    plan = _table(kernel, dim, tuple(block[0].shape[1] - 2 for block in blocks))
    series = [np.hstack(side).astype(dtype) for side in zip(*blocks, strict=True)]
    left = Rows(X.data, X.norms, series[0], _diagonal(kernel, X))
    return plan, left, Rows(Y.data, Y.norms, series[1])


def with_diagonal(kernel: OfLayers, X: Rows, Y: Rows) -> Rows:
    """Return X with its values at equal inputs, unless all inputs of Y have other norms.

    A device computes them itself, from norms that lie there.
    """
    if not on_host(X):
        return X
    if Y is not X and set(X.norms.tolist()).isdisjoint(Y.norms.tolist()):
        return X
    return Rows(X.data, X.norms, diagonal=_diagonal(kernel, X))


def values_at_equal(kernel: OfLayers, norms: FloatArray, dim: int) -> NDArray[np.float64]:
    """Return NTK and NNGP of rows with themselves, (n, 2); wide, for depth adds roundings."""
    facts = facts_of(kernel, dim)
    if not facts.asking and not native.unavailable():
        return native.values_at_equal(_table(kernel, dim, ()), norms)
    values = diagonal(facts.layers, norms.astype(np.longdouble) ** 2)
    return both_scaled(values, facts.scales, facts.exponent)


def _diagonal(kernel: OfLayers, X: Rows) -> FloatArray:
    with np.errstate(over="ignore"):  # of the one that is not asked for
        return kernel._own(X.norms, X.data.shape[1]).astype(X.dtype)
