"""Kernels and networks as parameters of estimators: which one is meant."""

from __future__ import annotations

from typing import Any

from ntkfast.arrays import checks
from ntkfast.kernels import Kernel, checked_kernel
from ntkfast.networks.dense import FullyConnected
from ntkfast.regression.system import MEMORY

KINDS = ("ntk", "nngp")
METHODS = ("auto", "dense", "lanczos")


def budget_of(memory: object) -> int:
    """Return bytes that may be used, by default those of the solver."""
    return MEMORY if memory is None else checks.count("memory", memory, least=1)


def is_dense(method: str, cost: int, n: int, memory: int) -> bool:
    """Whether matrices of n x n numbers are made, which take cost n^2 bytes in all."""
    return cost * n * n <= memory if method == "auto" else method == "dense"


def or_default(value: Any) -> Any:
    """Return what was given, or the network that stands for nothing."""
    return FullyConnected(1) if value is None else value


def checked_network(network: Any) -> Any:
    """Return a network, the default one for None, or raise an error saying what it is instead."""
    network = or_default(network)
    if not _is_network(network):
        raise TypeError(
            f"network: expected a network, with the kernels .ntk and .nngp, got "
            f"{type(network).__name__}"
        )
    return network


def kernel_of(value: Any, kind: str) -> Kernel:
    """Return a kernel, or that one of the two of a network.

    Raises
    ------
    TypeError, ValueError
        If it is neither, or "nngp" is wanted of a kernel that is something else.
    """
    checks.choice("kind", kind, KINDS)
    value = or_default(value)
    if _is_network(value):
        found: Kernel = getattr(value, kind)
        return found
    kernel = checked_kernel(value)
    if kind == "nngp" and kernel.kind != kind:
        raise ValueError(f"kind: expected 'ntk' beside a kernel, got 'nngp' and {kernel!r}")
    return kernel


def _is_network(value: Any) -> bool:
    return all(isinstance(getattr(value, kind, None), Kernel) for kind in KINDS)
