"""Bounds by Schur's inequality and Hermite powers, and for random data (Nguyen et al. 2021)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ntkfast.activations.names import relu
from ntkfast.kernels.dense import NetworkKernel
from ntkfast.kernels.layers import IDENTITY, Layer, Layers, carry
from ntkfast.networks.base import DenseNetwork
from ntkfast.spectrum.gram.bound_case import Case, least, relu_chain
from ntkfast.spectrum.gram.bound_table import EXACT, UNIT, Bound, Check

Values = NDArray[np.float64]

POWERS = 9  # Hermite terms r = 0 ... 8
NGUYEN = "Nguyen, Mondelli & Montufar 2021, arXiv:2012.11654"


class _Prefix(DenseNetwork):
    """The first layers of a network."""

    def __init__(self, layers: Layers) -> None:
        self._layers = tuple(layers)

    def layers(self, dim: int) -> Layers:
        """Return the layers, made for the right number of features already."""
        return self._layers


def _nngp(layers: Layers, X: Values) -> Values:
    """NNGP matrix after these layers."""
    return np.asarray(NetworkKernel(_Prefix(layers), "nngp")(X), np.float64)


class _Least(NamedTuple):
    """Variances, and lower bounds of the smallest eigenvalues of NNGP and NTK."""

    q: Values
    c: float
    t: float


def _lower_bound(layers: Layers, X: Values, smallest: dict[int, float], first: float) -> float:
    """Carry lower bounds of lambda_min(NNGP) and lambda_min(NTK) through the layers.

    `smallest` has lower bounds of lambda_min of the NNGP matrix behind the activation of a layer
    (0 where absent: it is positive semidefinite), `first` that of X X^T.
    """
    known = iter(
        [smallest.get(k, 0.0) for k, layer in enumerate(layers) if layer.activation != IDENTITY]
    )

    def activate(layer: Layer, state: _Least) -> _Least:
        t = state.t * float(np.min(layer.activation.derivative_variance(state.q)))
        q = np.asarray(layer.activation.variance(state.q), np.float64)
        return _Least(q, next(known), t)

    def affine(layer: Layer, state: _Least) -> _Least:
        q, c, t = state
        return _Least(layer.w * q + layer.e, layer.w * c, layer.w * t + layer.x * c)

    def join(a: _Least, b: _Least) -> _Least:
        return _Least(a.q + b.q, a.c + b.c, a.t + b.t)

    def multiply(a: _Least, b: _Least) -> _Least:  # of a Hadamard product: Schur
        one, two = (float(np.min(side.q)) for side in (a, b))
        return _Least(a.q * b.q, max(a.c * two, b.c * one), a.t * two + b.t * one)

    start = _Least(np.sum(X * X, axis=1), first, 0.0)
    return carry(layers, start, activate, affine, join, multiply).t


def schur(case: Case) -> Iterator[Bound]:
    """Yield the sum over the layers, and the bounds by Hermite terms of the first hidden one."""
    layers, X = case.layers, case.X
    if not layers:
        return
    first = least(X @ X.T)
    smallest = {
        # the activation of this layer alone, without its affine step
        index: least(_nngp((*layers[:index], Layer(layer.activation)), X))
        for index, layer in enumerate(layers)
        if layer.activation != IDENTITY
    }
    value = case.scale * _lower_bound(layers, X, smallest, first)
    yield case.row("Schur sum", "lower", value, EXACT, f"{NGUYEN}, Schur's inequality")
    yield from _powers(case, min(smallest, default=0))


def _powers(case: Case, index: int) -> Iterator[Bound]:
    """One Hermite term of the first hidden layer, and the first nine together."""
    layers, X = case.layers, case.X
    if not index:
        return
    before = _nngp(layers[:index], X)
    q = np.diagonal(before).copy()
    if not q.min() > 0:
        return
    U = before / np.sqrt(np.outer(q, q))
    D = np.asarray(layers[index].activation.hermite(q, POWERS), np.float64)
    terms = [least(np.outer(a, a) * U**r) for r, a in enumerate(D.T)]
    for r in range(2, POWERS):
        if np.any(np.abs(D[:, r]) > 1e-12 * np.abs(D).max()):  # ReLU has even powers only
            value = case.scale * _lower_bound(layers, X, {index: terms[r]}, 0.0)
            yield case.row(f"power {r}", "lower", value, EXACT, f"{NGUYEN}, Khatri-Rao")
    value = case.scale * _lower_bound(layers, X, {index: sum(terms)}, 0.0)
    yield case.row("all powers", "lower", value, EXACT, f"{NGUYEN}, and Weyl's inequality")


def random_data(case: Case) -> Iterator[Bound]:
    """Evaluate the theorem for random data: between mu_r^2 d and L d, for N below about d^{r/2}."""
    check = relu_chain(case)
    if not check.holds:
        return
    n, d = case.X.shape
    r = next((r for r in range(2, 41, 2) if n ** (2 / (r - 0.5)) <= d), None)
    if r is None:
        return
    coefficient = float(relu.hermite(np.ones(1), r + 1)[0, r]) ** 2
    squares = np.sum(case.X**2, axis=1)
    checks = (
        check,
        Check("rows are independent draws of a Lipschitz-concentrated law", None),
        Check(
            "squared norms of the rows are within a factor of 4", squares.max() <= 4 * squares.min()
        ),
    )
    note = f"constant not given by the theorem; r = {r}, the least even r with n^(2/(r-1/2)) <= d"
    # mu_r^2 d for K_ii = L |x_i|^2, the scale of the paper
    value = coefficient * float(case.K_diagonal.mean()) / len(case.layers)
    yield case.row("data in d dimensions", "lower", value, UNIT, NGUYEN, checks, note)
