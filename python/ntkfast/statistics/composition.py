"""Upper bounds of the RKHS norm of a finite network with an analytic activation.

On the unit sphere the NNGP kernel of a network without biases is a composition of power series:
``K_(l+1)(x, y) = sum_j b_j K_l(x, y)^j``, where b_j are the squared Hermite coefficients of its
activation. If ``f = <F, Phi_l>`` is a function of the RKHS of K_l and ``s(t) = sum_j a_j t^j``,
then ``s(f)`` is represented in the RKHS of K_(l+1) by the vectors ``a_j / sqrt(b_j) F^(j)`` (tensor
powers), and the norm of a function is that of its shortest representation. With P the inner
products of some f, those of the s(f) are therefore at most, as matrices,

    C(P),   C(t) = sum_j (a_j^2 / b_j) t^j   at every entry,

and a larger P has a larger C(P) (Schur). Layer by layer this bounds the norm of a whole network: by
its matrices, or, with the spectral norm of C(P) bounded by that of P, by spectral norms alone.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ntkfast.activations.base import Activation
from ntkfast.finite import MLP
from ntkfast.kernels.base import Kernel
from ntkfast.networks.dense import FullyConnected

Values = NDArray[np.float64]

NODES = 512  # on the circle of Cauchy's integral; half as many terms are kept
ROUNDING = 1e-14  # terms of s below this part of the largest one are noise
ABSENT = 1e-22  # b_j below this part of their sum count as zero: noise over them must stay noise


class PowerMap:
    """What one activation does to squared norms: C(t) = sum_j (a_j^2 / b_j) t^j.

    Parameters
    ----------
    activation : Activation
        s, of the finite network.
    dual : Activation
        That of the kernel.
    """

    def __init__(self, activation: Activation, dual: Activation) -> None:
        self._series = activation.continuation
        masses = dual.gain() * dual.hermite(np.ones(1), NODES // 2)[0] ** 2
        self._masses: Values = np.where(masses > ABSENT, masses, 0.0)

    def terms(self, t: float) -> Values:
        """Return ``(a_j^2 / b_j) t^j``; infinite where s has a power that the kernel lacks."""
        root = np.sqrt(t)
        # Nodes must not be too near to a pole.
        if self._series is None or not root < 0.9 * self._series[1]:
            return np.array([np.inf])
        circle = root * np.exp(2j * np.pi * np.arange(NODES) / NODES)
        with np.errstate(all="ignore"):  # infinity is a bound, if a useless one
            values = self._series[0](circle)
            if not np.isfinite(values).all():
                return np.array([np.inf])
            powers = np.abs(np.fft.fft(values) / NODES)[: NODES // 2]
            powers[powers <= ROUNDING * powers.max()] = 0.0
            return np.asarray(np.where(powers > 0, powers**2 / self._masses, 0.0))

    def matrix(self, P: Values) -> Values:
        """Return C of every entry of a positive semidefinite matrix."""
        largest = float(np.max(np.diagonal(P)))
        terms = self.terms(largest)
        if not np.isfinite(terms).all():
            return np.full(P.shape, np.inf)
        return np.asarray(np.polynomial.polynomial.polyval(P / (largest or 1.0), terms))

    def spectral(self, norm: float, width: int) -> float:
        """Bound the spectral norm of C(P) by that of P: power 0 gives a matrix of ones."""
        terms = self.terms(norm)
        return float(terms[0] * width + terms[1:].sum())


def bounds(net: MLP, kernel: Kernel, maps: list[Values], norms: Values) -> tuple[Values, Values]:
    """Return the bounds of the norm of each output by the matrices and by their spectral norms.

    `maps` are those of the layers, scales included, and `norms` their spectral norms.

    Raises
    ------
    ValueError
        If the network or the kernel is not of the kind that the bounds are about.
    """
    if any(net.b_std) or net.residual:
        raise ValueError("net: expected no biases and no residual branches for bounds of the norm")
    squares = PowerMap(net.activation, _dual(kernel, net.depth))
    P: Values = maps[0].T @ maps[0]
    spectral = float(norms[0]) ** 2
    for W, norm in zip(maps[1:-1], norms[1:-1], strict=True):
        P = _sandwich(W, squares.matrix(P))
        spectral = float(norm) ** 2 * squares.spectral(spectral, len(W))
    if net.depth:
        last = maps[-1]
        spectral = squares.spectral(spectral, len(last))
        P = _sandwich(last, squares.matrix(P))
        return np.sqrt(np.diagonal(P)), np.linalg.norm(last, axis=0) * np.sqrt(spectral)
    exact = np.linalg.norm(maps[0], axis=0)
    return exact, exact


def _sandwich(W: Values, G: Values) -> Values:
    if not np.isfinite(G).all():
        return np.full((W.shape[1], W.shape[1]), np.inf)
    return np.asarray(W.T @ G @ W)


def _dual(kernel: Kernel, depth: int) -> Activation:
    """Return the activation of the kernel, whose composition must have the depth of the network."""
    activation = getattr(kernel.network, "activation", None)
    if kernel.kind == "nngp" and isinstance(activation, Activation):
        if kernel.network == FullyConnected(depth, activation=activation):
            return activation
    raise ValueError(
        f"kernel: expected FullyConnected({depth}, activation=...).nngp, as deep as the network, "
        f"for bounds of the norm, got {kernel!r}"
    )
