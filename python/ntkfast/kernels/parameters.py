"""The parameters of a network or a kernel, and others like it of which some are changed."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from ntkfast.kernels.base import Kernel


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
    core, known = _core(value), parameters_of(value)
    for name in changes:
        if name not in known:
            names = ", ".join(known) or "none"
            raise ValueError(f"{prefix}{name}: expected one of {names}, of {value!r}")
    made = type(core)(**known | dict(changes))
    return made if core is value else getattr(made, value.kind)


def _core(value: Any) -> Any:
    """Return what has the parameters: the network of a kernel that has one, else the value."""
    network = value.network if isinstance(value, Kernel) else None
    return value if network is None else network
