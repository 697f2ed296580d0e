"""Kernels as power series in the cosine: of networks of smooth activations, and of the Gaussian."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ntkfast.activations.base import Activation
from ntkfast.activations.polynomials import HermiteSeries, Identity, Polynomial
from ntkfast.activations.rectified import ABReLU
from ntkfast.activations.smooth import GELU, Erf, Exp, Gaussian, Sine
from ntkfast.kernels.layers import MAX_SLOTS, Layer, Layers

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


POLYNOMIAL = (Identity, Polynomial, HermiteSeries)
SMOOTH = (*POLYNOMIAL, Erf, Exp, Gaussian, GELU, Sine)  # Hermite coefficients in closed form


def _is_one_of(activation: Activation, kinds: tuple[type, ...]) -> bool:
    """Whether an activation is of these kinds, or a linear function in disguise."""
    if isinstance(activation, ABReLU):
        return activation.negative == activation.positive
    return isinstance(activation, kinds)


def of_layers(layers: Layers, kind: str, q: float) -> Powers | None:
    """Return the power series of a network; None if it does not converge fast enough."""
    if not all(_is_one_of(layer.activation, SMOOTH) for layer in layers):
        return None
    complete = all(_is_one_of(layer.activation, POLYNOMIAL) for layer in layers)
    for order in ORDERS if complete else ORDERS[1:]:
        b = _compose(layers, kind, q, order)
        if b is None or not np.all(np.isfinite(b)):
            continue
        total, rest = float(b.sum()), float(b[order // 2 :].sum())
        if total > 0 and rest <= (0 if complete else NEGLIGIBLE * total):
            used = int(np.flatnonzero(b)[-1]) + 1
            with np.errstate(divide="ignore"):
                return Powers(np.log(b[:used] / total), complete)
    return None


def _compose(layers: Layers, kind: str, q: float, order: int) -> Array | None:
    """Carry the power series of NNGP and NTK through the layers."""
    c, t = np.zeros(order), np.zeros(order)
    c[1] = q
    slots: list[Any] = [(c, t, q)] * MAX_SLOTS
    for layer in layers:
        if layer.save >= 0:
            slots[layer.save] = c, t, q
        if layer.activation != Identity():
            applied = _activate(layer.activation, c, t, q, order)
            if applied is None:
                return None
            c, t, q = applied
        c, t, q = _affine(layer, c, t, q)
        if layer.add >= 0:
            c, t, q = (a + b for a, b in zip((c, t, q), slots[layer.add], strict=True))
    return c if kind == "nngp" else t


def _affine(layer: Layer, c: Array, t: Array, q: float) -> tuple[Array, Array, float]:
    t = layer.w * t + layer.x * c
    c = layer.w * c
    t[0] += layer.y
    c[0] += layer.e
    return c, t, layer.w * q + layer.e


def _activate(
    activation: Activation, c: Array, t: Array, q: float, order: int
) -> tuple[Array, Array, float] | None:
    """Apply K(c) = sum_j a_j^2 (c/q)^j, and its derivative to the NTK."""
    weights = np.asarray(activation.hermite(np.array([q]), order)[0], np.float64) ** 2
    if not weights.sum() > 0 or weights[order // 2 :].sum() > NEGLIGIBLE * weights.sum():
        return None
    inner = c / q
    slopes = weights[1:] * np.arange(1, order) / q
    value, slope = (_horner(w, inner, order) for w in (weights, slopes))
    return value, np.convolve(slope, t)[:order], float(weights.sum())


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
