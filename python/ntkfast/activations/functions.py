"""Common activations without closed duals, stable in both tails."""

from __future__ import annotations

from typing import Any

import numpy as np

from ntkfast.activations.base import (
    Activation,
)
from ntkfast.activations.quadrature import CallableActivation


def _sigmoid(x: Any) -> Any:
    return 0.5 + 0.5 * np.tanh(0.5 * x)


def _sigmoid_slope(x: Any) -> Any:
    small = np.exp(-np.abs(x))
    return small / (1 + small) ** 2


def _tanh_slope(x: Any) -> Any:
    return 4 * _sigmoid_slope(2 * x)


def _silu(x: Any) -> Any:
    return x * _sigmoid(x)


def _silu_slope(x: Any) -> Any:
    return _sigmoid(x) + x * _sigmoid_slope(x)


def _softplus(x: Any) -> Any:
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def _elu(x: Any) -> Any:
    return np.where(x > 0, x, np.expm1(np.minimum(x, 0)))


def _elu_slope(x: Any) -> Any:
    return np.exp(np.minimum(x, 0))


NAMED: dict[str, Activation] = {
    "tanh": CallableActivation(np.tanh, _tanh_slope, (), name="tanh"),
    "sigmoid": CallableActivation(_sigmoid, _sigmoid_slope, (), name="sigmoid"),
    "silu": CallableActivation(_silu, _silu_slope, (), name="silu"),
    "softplus": CallableActivation(_softplus, _sigmoid, (), name="softplus"),
    "elu": CallableActivation(_elu, _elu_slope, (0.0,), name="elu"),
}
