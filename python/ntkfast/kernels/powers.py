"""Kernels as power series in the cosine: of networks of smooth activations, and of the Gaussian."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ntkfast.kernels.layers import Layer, Layers, carry

Array = NDArray[np.float64]

ORDERS = (64, 512)  # coefficients: of a polynomial, or of anything
NEGLIGIBLE = 1e-17  # share of the sum of coefficients that may be cut off
RESOLVED = 1e-10  # degrees that miss more than this share of their series are left out
MOST_TERMS = 100_000
LOG_ROUNDING = -42.0  # logarithm of the relative size of a term that does not matter


class Powers(NamedTuple):
    """Coefficients b_n of k(u) / k(1) as logarithms.

    Attributes
    ----------
    log_b : (n,) array
        log b_n, minus infinity for zeros.
    complete : bool
        Whether all further coefficients vanish.
    rate : float or None
        Mean x of b_n = e^-x x^n / n! if that is what they are; `log_b` is then not used.
    """

    log_b: Array
    complete: bool
    rate: float | None = None

    def up_to(self, count: int) -> Array:
        """Return log b_n for n < count, as far as they are known."""
        if self.rate is None:
            zeros = np.full(max(0, count - len(self.log_b)), -np.inf)
            return np.append(self.log_b, zeros) if self.complete else self.log_b[:count]
        from scipy.special import gammaln

        n = np.arange(count, dtype=np.float64)
        return np.asarray(n * np.log(self.rate) - self.rate - gammaln(n + 1))


def poisson(rate: float) -> Powers:
    """Power series of exp(rate (u - 1))."""
    return Powers(np.zeros(0), False, rate)


class _SlowError(ArithmeticError):
    """The Hermite series of an activation does not converge fast enough."""


class _Series(NamedTuple):
    """Coefficients of NNGP and NTK, and the variance."""

    c: Array
    t: Array
    q: float


def of_layers(layers: Layers, kind: str, q: float) -> Powers | None:
    """Return the power series of a network; None if it does not converge fast enough."""
    if not all(layer.activation.is_smooth for layer in layers):
        return None
    complete = all(layer.activation.polynomial_degree is not None for layer in layers)
    for order in ORDERS if complete else ORDERS[1:]:
        try:
            b = _compose(layers, kind, q, order)
        except _SlowError:
            continue
        if not np.all(np.isfinite(b)):
            continue
        total, rest = float(b.sum()), float(b[order // 2 :].sum())
        if total > 0 and rest <= (0 if complete else NEGLIGIBLE * total):
            used = int(np.flatnonzero(b)[-1]) + 1
            with np.errstate(divide="ignore"):
                return Powers(np.log(b[:used] / total), complete)
    return None


def _compose(layers: Layers, kind: str, q: float, order: int) -> Array:
    """Carry the power series of NNGP and NTK through the layers."""

    def activate(layer: Layer, state: _Series) -> _Series:
        """Apply K(c) = sum_j a_j^2 (c/q)^j, and its derivative to the NTK."""
        c, t, q = state
        weights = np.asarray(layer.activation.hermite(np.array([q]), order)[0], np.float64) ** 2
        if not weights.sum() > 0 or weights[order // 2 :].sum() > NEGLIGIBLE * weights.sum():
            raise _SlowError
        slopes = weights[1:] * np.arange(1, order) / q
        value, slope = (_horner(w, c / q, order) for w in (weights, slopes))
        return _Series(value, np.convolve(slope, t)[:order], float(weights.sum()))

    def affine(layer: Layer, state: _Series) -> _Series:
        c, t, q = state
        c, t = layer.w * c, layer.w * t + layer.x * c
        t[0] += layer.y
        c[0] += layer.e
        return _Series(c, t, layer.w * q + layer.e)

    def join(a: _Series, b: _Series) -> _Series:
        return _Series(a.c + b.c, a.t + b.t, a.q + b.q)

    def multiply(a: _Series, b: _Series) -> _Series:
        c, one, two = (np.convolve(*pair)[:order] for pair in ((a.c, b.c), (a.t, b.c), (a.c, b.t)))
        return _Series(c, one + two, a.q * b.q)

    first, none = np.zeros(order), np.zeros(order)
    first[1] = q
    found = carry(layers, _Series(first, none, q), activate, affine, join, multiply)
    return found.c if kind == "nngp" else found.t


def _horner(weights: Array, inner: Array, order: int) -> Array:
    """Return sum_j weights[j] inner^j, cut to `order` coefficients."""
    used = np.flatnonzero(weights)
    total = np.zeros(order)
    if not len(used):
        return total
    if inner[1] == 1 and not np.any(inner[2:]) and inner[0] == 0:  # inner = u
        total[: len(weights)] = weights
        return total
    for weight in weights[used[-1] :: -1]:
        total = np.convolve(total, inner)[:order]
        total[0] += weight
    return total
