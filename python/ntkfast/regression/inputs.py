"""What estimators of this room take: kernels or networks, rows or other inputs, targets."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ntkfast.arrays import checks
from ntkfast.features.base import validate_data
from ntkfast.kernels.base import Kernel, checked_kernel
from ntkfast.networks.dense import FullyConnected

Values = NDArray[np.float64]
KINDS = ("ntk", "nngp")


def checked_network(network: Any) -> Any:
    """Return a network, the default one for None, or raise an error saying what it is instead."""
    if network is None:
        return FullyConnected(1)
    if not all(isinstance(getattr(network, kind, None), Kernel) for kind in KINDS):
        raise TypeError(
            f"network: expected a network, with the kernels .ntk and .nngp, got "
            f"{type(network).__name__}"
        )
    return network


def kernel_of(kernel: Any, kind: str) -> Kernel:
    """Return a kernel, or that one of the two of a network."""
    checks.choice("kind", kind, KINDS)
    if kernel is None or isinstance(getattr(kernel, kind, None), Kernel):
        found: Kernel = getattr(checked_network(kernel), kind)
        return found
    return checked_kernel(kernel)


def fitting(estimator: Any, kernel: Kernel, X: Any, y: Any) -> tuple[Any, Values, bool]:
    """Return inputs and targets in float64, (n, c), and whether these were a vector.

    Raises
    ------
    TypeError, ValueError
        As scikit-learn does for rows, as the kernel does for other inputs.
    """
    if kernel.of_rows:
        rows, targets = validate_data(
            estimator, X, y, dtype=np.float64, order="C", multi_output=True, y_numeric=True
        )
    else:
        if y is None:
            raise ValueError("y: expected one target per input of X, got None")
        rows, targets = kernel.collect(X), y
    matrix, vector = checks.columns("y", targets, len(rows))
    # copies: matrices are made later, and must be those of what was given here
    return rows.astype(np.float64), matrix.astype(np.float64), vector


def predicting(estimator: Any, kernel: Kernel, Z: Any) -> Any:
    """Return inputs in float64 that are like those of `fit`."""
    if kernel.of_rows:
        return validate_data(estimator, Z, reset=False, dtype=np.float64, order="C")
    return kernel.collect(Z).astype(np.float64, copy=False)


def parameter(kernel: Kernel, name: str) -> Any:
    """Return a parameter of a kernel, or of its network.

    Raises
    ------
    ValueError
        If there is no such parameter.
    """
    core = _core(kernel)
    names = inspect.signature(type(core)).parameters
    if name not in names:
        known = ", ".join(names) or "none"
        raise ValueError(f"{name}: {core!r} has no such parameter, expected one of: {known}")
    return getattr(core, name)


def changed(kernel: Kernel, **changes: Any) -> Kernel:
    """Return the kernel like this one of which some parameters, or its network's, are others.

    Raises
    ------
    ValueError
        If there is no such parameter.
    """
    for name in changes:
        parameter(kernel, name)
    core = _core(kernel)
    names = inspect.signature(type(core)).parameters
    new = type(core)(**({name: getattr(core, name) for name in names} | changes))
    found: Kernel = new if kernel.network is None else getattr(new, str(kernel.kind))
    return found


def _core(kernel: Kernel) -> Any:
    """Return what has the parameters."""
    return kernel if kernel.network is None else kernel.network
