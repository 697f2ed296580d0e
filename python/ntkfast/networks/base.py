"""What all networks share, and how they are written."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import fields
from typing import Any, NoReturn, TypeAlias

from numpy.typing import ArrayLike

from ntkfast.activations.base import Activation
from ntkfast.activations.names import resolve
from ntkfast.arrays.collections import FloatArray
from ntkfast.kernels.base import KernelOfNetwork, both_kernels
from ntkfast.kernels.dense import NetworkKernel
from ntkfast.kernels.layers import Layers

ActivationLike: TypeAlias = str | Activation | Callable[[Any], Any]
PARAMETERIZATIONS = ("unit", "ntk")


class Network(ABC):
    """An infinitely wide network, a frozen value with two kernels."""

    @property
    @abstractmethod
    def ntk(self) -> KernelOfNetwork:
        """The neural tangent kernel."""

    @property
    @abstractmethod
    def nngp(self) -> KernelOfNetwork:
        """The kernel of the Gaussian process that the network is at initialisation."""

    def __call__(self, *_: object, **__: object) -> NoReturn:
        """Say what to call: a network of infinite width has kernels, and no values of its own.

        Raises
        ------
        TypeError
            Always.
        """
        raise TypeError(
            f"{type(self).__name__} is no kernel; its kernels are .ntk and .nngp: net.ntk(X)"
        )

    def both(
        self,
        X: ArrayLike,
        Y: ArrayLike | None = None,
        *,
        engine: str | None = None,
        threads: int | None = None,
    ) -> tuple[FloatArray, FloatArray]:
        """Return the NNGP and NTK Gram matrices, in one pass over the data where that is possible.

        Parameters
        ----------
        X, Y, engine, threads
            As for calling a kernel.

        Returns
        -------
        nngp, ntk : (n, m) arrays
        """
        return both_kernels(self.ntk, X, Y, engine, threads)


class DenseNetwork(Network):
    """A network on rows of numbers; subclasses give its layers."""

    @abstractmethod
    def layers(self, dim: int) -> Layers:
        """Return the recursion for inputs with `dim` features (see `ntkfast.kernels.layers`)."""

    def scale(self, kind: str) -> float:
        """Return the factor of the NTK or NNGP of the layers that makes the kernel."""
        return 1.0

    @property
    def ntk(self) -> NetworkKernel:
        """The neural tangent kernel."""
        return NetworkKernel(self, "ntk")

    @property
    def nngp(self) -> NetworkKernel:
        """The kernel of the Gaussian process that the network is at initialisation."""
        return NetworkKernel(self, "nngp")


def short_repr(network: Any) -> str:
    """Write only the fields that differ from their defaults."""
    parts = []
    for field in fields(network):
        value = getattr(network, field.name)
        shown = _name(value) if isinstance(value, Activation) else value
        if field.name == "depth":
            parts.append(repr(value))
        elif shown != field.default:
            parts.append(f"{field.name}={shown!r}")
    return f"{type(network).__name__}({', '.join(parts)})"


def _name(activation: Activation) -> str | Activation:
    """Return the name that stands for an activation, or itself if there is none."""
    try:
        return activation.name if resolve(activation.name) == activation else activation
    except (TypeError, ValueError):
        return activation
