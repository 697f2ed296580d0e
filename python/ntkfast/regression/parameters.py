"""Kernels and networks as parameters of estimators: which one is meant."""

from __future__ import annotations

from typing import Any

from ntkfast.arrays import checks
from ntkfast.kernels.base import Kernel, checked_kernel
from ntkfast.networks.dense import FullyConnected

KINDS = ("ntk", "nngp")


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
