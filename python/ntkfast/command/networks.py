"""Networks on the command line: their options are the parameters of the classes, by name."""

from __future__ import annotations

import argparse
import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ntkfast.kernels import ArcCosine, ExponentialPower, Gaussian, Kernel, Laplace
from ntkfast.networks import Convolutional, FullyConnected, Recurrent, ResNet

NETWORKS: dict[str, Any] = {
    "fc": FullyConnected,
    "resnet": ResNet,
    "cntk": Convolutional,
    "rntk": Recurrent,
    "arccosine": ArcCosine,
    "laplace": Laplace,
    "exponential": ExponentialPower,
    "gaussian": Gaussian,
}
KINDS = ("ntk", "nngp")
HELP = {
    "depth": "hidden layers or blocks",
    "activation": 'erf, tanh, "leaky_relu(0.1)", ...',
    "parameterization": "unit (theory) or ntk (neural-tangents)",
    "w_std": "scale of the weights",
    "u_std": "scale of the weights from below",
    "v_std": "scale of outer weights, of the read-out",
    "b_std": "scale of the biases",
    "h_std": "scale of the initial state",
    "bias": "of biases that start at zero and are trained; for unit",
    "alpha": "factor of the residual branch",
    "trained": "which layers are: residual, all or last",
    "normalize": "divide by k(1)",
    "filter_size": "of convolutions, or ROWSxCOLUMNS",
    "readout": "flatten, gap or lap; last, average, average_normalized or average_released",
    "window": "pixels of an average, for lap",
    "padding": "zero, valid or circular, at the edges of images",
    "train_first": "whether the first layer counts",
    "train_last": "whether the read-out counts",
    "shape": "of the images in rows of numbers",
    "channels": "first or last: their axis in images and sequences",
    "direction": "forward, or bidirectional, which adds reversed ones",
    "fixed_layers": "lower layers that are not trained",
    "order": "0, 1, 2 or 3",
    "c": "the rate",
    "gamma": "the power of |x - y|",
    "inputs": "sphere, homogeneous or euclidean: how the kernel continues off the sphere",
}


@dataclass(frozen=True)
class _Option:
    """A parameter of some networks."""

    name: str
    type: str
    defaults: dict[str, Any]

    @property
    def help(self) -> str:
        """Who takes it, what it is, and its default where all have the same."""
        text = f"{', '.join(self.defaults)}: {HELP[self.name]}"
        values = set(self.defaults.values())
        one = values.pop() if len(values) == 1 else None
        one = f"{one:.4g}" if isinstance(one, float) else one
        return text if one in (None, inspect.Parameter.empty) else f"{text}; default: {one}"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that choose a network and its kernel."""
    group = parser.add_argument_group("the network and its kernel")
    chosen = group.add_mutually_exclusive_group(required=True)
    chosen.add_argument("--network", choices=tuple(NETWORKS))
    chosen.add_argument(
        "--network-file",
        metavar="FILE.py:NAME",
        help="a network or kernel that a Python file makes",
    )
    group.add_argument("--kind", choices=KINDS, help="of the kernel; default: ntk")
    for option in _options().values():
        group.add_argument(flag(option.name), help=option.help, **_TYPES[option.type])


def kernel_of(arguments: argparse.Namespace) -> Kernel:
    """Make the kernel; an option that the network does not have is an error, not ignored."""
    network = arguments.network
    values = {name: getattr(arguments, name) for name in _options()}
    given = {name: value for name, value in values.items() if value is not None}
    if network is None:
        from ntkfast.command.network_file import load

        for name in given:
            raise ValueError(f"--network-file has no {flag(name)}: the file states the network")
        return _of_kind(load(arguments.network_file), "--network-file", arguments.kind)
    parameters = _parameters(NETWORKS[network])
    for name, parameter in parameters.items():
        if parameter.default is parameter.empty and name not in given:
            raise ValueError(f"--network {network} needs {flag(name)}")
    for name in given:
        if name not in parameters:
            raise ValueError(f"--network {network} has no {flag(name)}")
    return _of_kind(NETWORKS[network](**given), f"--network {network}", arguments.kind)


def _of_kind(made: Any, option: str, kind: str | None) -> Kernel:
    """Return the kernel of a network, or a kernel, which is of no kind."""
    if isinstance(made, Kernel):
        if kind is not None:
            raise ValueError(f"{option} has no --kind: it is a kernel")
        return made
    kernel: Kernel = getattr(made, kind or KINDS[0])
    return kernel


def flag(name: str) -> str:
    """Return the option that stands for a Python argument."""
    return "--" + name.replace("_", "-")


def _options() -> dict[str, _Option]:
    """Return the parameters of all networks, in the order in which they first appear."""
    found: dict[str, _Option] = {}
    for network, constructor in NETWORKS.items():
        for name, parameter in _parameters(constructor).items():
            option = found.setdefault(name, _Option(name, _type(parameter), {}))
            option.defaults[network] = parameter.default
    return found


def _parameters(constructor: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """Return the parameters that can be written in a shell."""
    named = inspect.signature(constructor).parameters
    return {name: one for name, one in named.items() if _type(one) in _TYPES}


def _type(parameter: inspect.Parameter) -> str:
    return str(parameter.annotation).removesuffix(" | None")


def _shape(text: str) -> tuple[int, ...]:
    match = re.fullmatch(r"(\d+)[x,](\d+)[x,](\d+)", text)
    if not match:
        raise argparse.ArgumentTypeError(f"expected HEIGHTxWIDTHxCHANNELS, got {text}")
    return tuple(int(size) for size in match.groups())


def _sizes(text: str) -> int | tuple[int, int]:
    match = re.fullmatch(r"(\d+)(?:[x,](\d+))?", text)
    if not match:
        raise argparse.ArgumentTypeError(f"expected N or ROWSxCOLUMNS, got {text}")
    rows, columns = match.groups()
    return int(rows) if columns is None else (int(rows), int(columns))


def _numbers(text: str) -> float | tuple[float, ...]:
    numbers = tuple(float(part) for part in text.split(","))
    return numbers if len(numbers) > 1 else numbers[0]


def _names(text: str) -> str | list[str]:
    names = re.split(r",(?![^()]*\))", text)  # not within the arguments of a function
    return names if len(names) > 1 else text


_TYPES: dict[str, dict[str, Any]] = {
    "int": {"type": int, "metavar": "N"},
    "int | Pair": {"type": _sizes, "metavar": "N"},
    "float": {"type": float, "metavar": "X"},
    "float | Sequence[float]": {"type": _numbers, "metavar": "X[,X...]"},
    "str": {"metavar": "NAME"},
    "ActivationLike": {"metavar": "NAME"},
    "ActivationLike | Sequence[ActivationLike]": {"type": _names, "metavar": "NAME[,NAME...]"},
    "Shape": {"type": _shape, "metavar": "HxWxC"},
    "bool": {"action": argparse.BooleanOptionalAction},
}
