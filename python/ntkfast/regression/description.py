"""Kernels and networks as plain values, for files: rebuilt from a closed list of classes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

from ntkfast import activations, kernels, networks
from ntkfast.activations import Activation, CallableActivation, resolve
from ntkfast.activations.duals import Dual
from ntkfast.kernels import Kernel, KernelOfNetwork, Named, makers
from ntkfast.kernels.parameters import parameters_of
from ntkfast.networks.branches import Serial
from ntkfast.networks.composed import Composed

# Names in files; what a class is made with, where that is not one keyword per field.
CLASSES: dict[str, type] = {
    f"{room.__name__.rpartition('.')[2]}.{name}": getattr(room, name)
    for room, names in (
        (kernels, "ArcCosine ExponentialPower Gaussian Laplace"),
        (networks, "AvgPool Conv ConvNet Convolutional Dense FullyConnected Readout Recurrent"),
        (networks, "Add Concatenate Dropout LayerNorm Multiply ResNet Residual Skip SumPool"),
        (activations, "ABReLU Erf Exp GELU Gaussian HermiteSeries Identity Polynomial"),
        (activations, "RectifiedMonomial Sine Step"),
    )
    for name in names.split()
} | {"networks.Composed": Composed, "networks.Serial": Serial}
ALGEBRA = "algebra."  # before the word of a kernel that is made of kernels
NAMES = {kind: name for name, kind in CLASSES.items()}
POSITIONAL = {
    "networks.Add": "branches",
    "networks.Concatenate": "branches",
    "networks.ConvNet": "elements",
    "networks.Multiply": "branches",
    "networks.Residual": "branch",
    "networks.Serial": "elements",
    "networks.Skip": "branch",
}


def described(value: Any) -> Any:
    """Return a value of numbers, strings, lists and dicts that `rebuilt` turns into an equal one.

    Raises
    ------
    TypeError
        If the value holds a class that is not of this package.

    Notes
    -----
    Of Python functions there are names and some values.
    """
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (tuple, list)):
        return [described(item) for item in value]
    if isinstance(value, Mapping):
        entries = [[described(name), described(item)] for name, item in value.items()]
        return {"class": "mapping", "entries": entries}
    if isinstance(value, KernelOfNetwork):
        return {"class": "kernel", "network": described(value.network), "kind": value.kind}
    if isinstance(value, Named):
        parts = {name: described(part) for name, part in value.named().items()}
        return {"class": f"{ALGEBRA}{value.word}"} | parts
    if isinstance(value, CallableActivation) and _has_name(value):
        return {"class": "activation", "name": value.name}
    if isinstance(value, (CallableActivation, Dual)):
        return {"class": "function", "name": value.name, "values": _values(value)}
    if type(value) not in NAMES:
        raise TypeError(
            "kernel: expected networks, kernels and activations of ntkfast, got the class "
            f"{type(value).__name__}, which a file without code cannot hold; pickle can"
        )
    content = parameters_of(value) or {one.name: getattr(value, one.name) for one in fields(value)}
    return {"class": NAMES[type(value)]} | {name: described(one) for name, one in content.items()}


def rebuilt(value: Any, functions: Sequence[Activation] = ()) -> Any:
    """Return what `described` was given; lists become tuples.

    Parameters
    ----------
    functions : sequence of activations
        Those that files name only.

    Raises
    ------
    ValueError
        If it names a class that is not on the list, or arguments that the class does not take, or
        a function that is not given.
    """
    if isinstance(value, list):
        return tuple(rebuilt(item, functions) for item in value)
    if not isinstance(value, dict):
        return value
    content = {name: rebuilt(item, functions) for name, item in value.items()}
    name = content.pop("class", None)
    try:
        if name == "mapping":
            return dict(content["entries"])
        if name == "kernel":
            return _kernel(**content)
        if name == "function":
            return _given(functions, **content)
        if name == "activation":
            return resolve(str(content["name"]))
        of_kernels = str(name).startswith(ALGEBRA)
        known: Mapping[str, Callable[..., Any]] = makers() if of_kernels else CLASSES
        make = known[str(name).removeprefix(ALGEBRA)]
        return make(*content.pop(POSITIONAL.get(name), ()), **content)
    except (KeyError, TypeError) as error:
        raise ValueError(f"expected the description of a class, got {value} ({error})") from error


def functions_in(value: Any) -> list[Activation]:
    """Return the activations in a network or kernel that a file can only name."""
    if isinstance(value, (CallableActivation, Dual)):
        return [value]
    if isinstance(value, Mapping):
        return functions_in(list(value.values()))
    if isinstance(value, (tuple, list)):
        return [one for part in value for one in functions_in(part)]
    if isinstance(value, KernelOfNetwork):
        return functions_in(value.network)
    if isinstance(value, Named):
        return functions_in(list(value.named().values()))
    if is_dataclass(value):
        return functions_in([getattr(value, one.name) for one in fields(value)])
    return []


def _values(one: Activation) -> list[float]:
    """Return some values by which a function is known again."""
    if isinstance(one, Dual):
        q, p, c = np.array([0.7, 1.3]), np.array([1.1, 0.6]), np.array([0.4, -0.3])
        found = [one.dual(q, p, c), one.derivative_dual(q, p, c)]
    else:
        found = [one(np.array([-2.1, -0.6, 0.0, 0.3, 1.7]))]
    return [float(value) for value in np.concatenate(found)]


def _given(functions: Sequence[Activation], name: str, values: Sequence[float]) -> Activation:
    """Return the one of some functions that a file names."""
    named = [one for one in functions if one.name == name]
    for one in named:
        found = _values(one)
        if len(found) == len(values) and np.allclose(found, values, rtol=1e-9, atol=1e-12):
            return one
    what = "another function of this name" if named else "none"
    raise ValueError(
        f"network: expected one with the activation {name}, a Python function that no file holds, "
        f"got {what}; pass the network or kernel of the model: load(path, network=net), on the "
        "command line --network-file net.py:name"
    )


def _kernel(network: Any, kind: str) -> Kernel:
    if not isinstance(network, networks.Network) or kind not in ("ntk", "nngp"):
        raise TypeError(f"no kernel {kind!r} of {network!r}")
    kernel: Kernel = getattr(network, kind)
    return kernel


def _has_name(activation: Activation) -> bool:
    """Whether its name stands for it."""
    try:
        return resolve(activation.name) == activation
    except (TypeError, ValueError):
        return False
