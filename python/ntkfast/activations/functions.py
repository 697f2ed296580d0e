"""Common activations without closed duals, stable in both tails."""

from __future__ import annotations

from typing import Any

import numpy as np

from ntkfast.activations.base import Activation, Continuation
from ntkfast.activations.mesh import Function
from ntkfast.activations.quadrature import CallableActivation


def _sigmoid(x: Any) -> Any:
    return 0.5 + 0.5 * np.tanh(0.5 * x)


def _sigmoid_slope(x: Any) -> Any:
    small = np.exp(-np.abs(x))
    return small / (1 + small) ** 2


def _tanh_slope(x: Any) -> Any:
    return 4 * _sigmoid_slope(2 * x)


def _complex_sigmoid(z: Any) -> Any:
    return 1 / (1 + np.exp(-z))


def _silu(x: Any) -> Any:
    return x * _sigmoid(x)


def _silu_slope(x: Any) -> Any:
    return _sigmoid(x) + x * _sigmoid_slope(x)


def _complex_silu(z: Any) -> Any:
    return z / (1 + np.exp(-z))


def _softplus(x: Any) -> Any:
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def _complex_softplus(z: Any) -> Any:
    return np.log(1 + np.exp(z))


def _elu(x: Any) -> Any:
    return np.where(x > 0, x, np.expm1(np.minimum(x, 0)))


def _elu_slope(x: Any) -> Any:
    return np.exp(np.minimum(x, 0))


def _named(
    name: str,
    function: Function,
    derivative: Function,
    kinks: tuple[float, ...] = (),
    continuation: Continuation | None = None,
) -> Activation:
    return CallableActivation(function, derivative, kinks, name=name, continuation=continuation)


NAMED: dict[str, Activation] = {
    one.name: one
    for one in (
        _named("tanh", np.tanh, _tanh_slope, continuation=(np.tanh, np.pi / 2)),
        _named("sigmoid", _sigmoid, _sigmoid_slope, continuation=(_complex_sigmoid, np.pi)),
        _named("silu", _silu, _silu_slope, continuation=(_complex_silu, np.pi)),
        _named("softplus", _softplus, _sigmoid, continuation=(_complex_softplus, np.pi)),
        _named("elu", _elu, _elu_slope, (0.0,)),
    )
}
