"""Kernels and networks as parameters of estimators: which one is meant, and others like it."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
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


def parameters_of(value: Any) -> dict[str, Any]:
    """Return the parameters of a network, or of a kernel or its network, by their names.

    There are none where the class is not made with one keyword for each.
    """
    core = _core(value)
    names = tuple(inspect.signature(type(core)).parameters) if is_dataclass(core) else ()
    known = {field.name for field in fields(core)} if names else set()
    return {name: getattr(core, name) for name in names} if known.issuperset(names) else {}


def changed(value: Any, changes: Mapping[str, Any], prefix: str = "") -> Any:
    """Return the network or kernel like this one of which some parameters are others.

    Raises
    ------
    ValueError
        If there is no such parameter; the error puts the prefix before its name.
    """
    value = or_default(value)
    core, known = _core(value), parameters_of(value)
    for name in changes:
        if name not in known:
            names = ", ".join(known) or "none"
            raise ValueError(f"{prefix}{name}: expected one of {names}, of {value!r}")
    made = type(core)(**known | dict(changes))
    return made if core is value else getattr(made, value.kind)


def _core(value: Any) -> Any:
    """Return what has the parameters: the network of a kernel that has one, else the value."""
    value = or_default(value)
    network = value.network if isinstance(value, Kernel) else None
    return value if network is None else network


def _is_network(value: Any) -> bool:
    return all(isinstance(getattr(value, kind, None), Kernel) for kind in KINDS)
