"""The parameters of a network or a kernel, and others like it of which some are changed."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from ntkfast.kernels.base import Kernel
from ntkfast.kernels.combined import Named
from ntkfast.support.telling import did_you_mean


def parameters_of(value: Any) -> dict[str, Any]:
    """Return the parameters of a network, or of a kernel or its network, by their names.

    Those of kernels made of kernels are their parts, and what these have, as in ``k1__depth``.
    There are none where the class is not made with one keyword for each.
    """
    if isinstance(value, Named):
        inner = {
            f"{name}__{below}": parameter
            for name, kernel in value.named_kernels().items()
            for below, parameter in parameters_of(kernel).items()
        }
        return value.named() | inner
    core = _core(value)
    names: tuple[str, ...] = ()
    if is_dataclass(core):
        named = inspect.signature(type(core)).parameters.values()
        # Steps that a network is made of are an argument without a name: see `Network.positional`.
        names = tuple(
            getattr(core, "positional", one.name) if one.kind is one.VAR_POSITIONAL else one.name
            for one in named
        )
    known = {field.name for field in fields(core)} if names else set()
    return {name: getattr(core, name) for name in names} if known.issuperset(names) else {}


def changed(value: Any, changes: Mapping[str, Any], prefix: str = "") -> Any:
    """Return the network or kernel like this one of which some parameters are others.

    ``network__depth`` is the depth of its network, as for `ntkfast.sklearn.NTKKernel`.

    Raises
    ------
    ValueError
        If there is no such parameter; the error puts the prefix before its name.
    """
    core, known = _core(value), parameters_of(value)
    if not isinstance(value, Named):
        changes = {name.removeprefix("network__"): change for name, change in changes.items()}
    for name in changes:
        if name not in known:
            names = ", ".join(known) or "none"
            meant = did_you_mean(name, known)
            raise ValueError(f"{prefix}{name}: expected one of {names}, of {value!r}{meant}")
    if isinstance(value, Named):
        return _with_parts(value, changes)
    arguments = known | dict(changes)
    steps = arguments.pop(getattr(core, "positional", ""), ())
    made = type(core)(*steps, **arguments)
    return made if core is value else getattr(made, value.kind)


def _with_parts(value: Named, changes: Mapping[str, Any]) -> Any:
    """Make a kernel of other parts, or of parts with other parameters."""
    parts = value.named()
    parts |= {name: change for name, change in changes.items() if name in parts}
    inner: dict[str, dict[str, Any]] = {}
    for name, change in changes.items():
        part, _, below = name.partition("__")
        if below:
            inner.setdefault(part, {})[below] = change
    for part, some in inner.items():
        parts[part] = changed(parts[part], some, f"{part}__")
    return value.with_parts(parts)


def _core(value: Any) -> Any:
    """Return what has the parameters: the network of a kernel that has one, else the value."""
    network = value.network if isinstance(value, Kernel) else None
    return value if network is None else network
