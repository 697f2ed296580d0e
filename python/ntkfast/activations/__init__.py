"""Activations and their dual kernels: the Gaussian averages that every layer of a network applies.

For an activation ``s`` and jointly Gaussian ``(a, b)`` with variances ``q``, ``p`` and covariance
``c`` the *dual* is ``K(q, p, c) = E[s(a) s(b)]`` and the *derivative dual* is
``Kd(q, p, c) = E[s'(a) s'(b)] = dK/dc``. Most activations have both in closed form;
`CallableActivation` integrates those of any other Python function.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ntkfast.activations.base import Activation
from ntkfast.activations.names import (
    abs,
    cos,
    erf,
    exp,
    gaussian,
    gelu,
    hermite,
    identity,
    leaky_relu,
    monomial,
    polynomial,
    rbf,
    rectified_monomial,
    relu,
    resolve,
    sigmoid_like,
    sign,
    sin,
    step,
)
from ntkfast.activations.polynomials import HermiteSeries, Identity, Polynomial
from ntkfast.activations.rectified import ABReLU, RectifiedMonomial, Step
from ntkfast.activations.smooth import GELU, Erf, Gaussian
from ntkfast.activations.waves import Exp, Sine

if TYPE_CHECKING:
    from ntkfast.activations.quadrature import CallableActivation

__all__ = [
    "GELU",
    "ABReLU",
    "Activation",
    "CallableActivation",
    "Erf",
    "Exp",
    "Gaussian",
    "HermiteSeries",
    "Identity",
    "Polynomial",
    "RectifiedMonomial",
    "Sine",
    "Step",
    "abs",
    "cos",
    "erf",
    "exp",
    "gaussian",
    "gelu",
    "hermite",
    "identity",
    "leaky_relu",
    "monomial",
    "polynomial",
    "rbf",
    "rectified_monomial",
    "relu",
    "resolve",
    "sigmoid_like",
    "sign",
    "sin",
    "step",
]


def __getattr__(name: str) -> Any:
    """Load quadrature when it is first used: few networks need it."""
    if name == "CallableActivation":
        from ntkfast.activations.quadrature import CallableActivation

        return CallableActivation
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
