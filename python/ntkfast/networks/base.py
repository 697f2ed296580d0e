"""What all networks share, and how they are written."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import fields
from typing import Any, NoReturn, Self, TypeAlias

from numpy.typing import ArrayLike

from ntkfast.activations.base import Activation
from ntkfast.activations.names import resolve
from ntkfast.arrays.collections import FloatArray
from ntkfast.kernels.base import KernelOfNetwork, both_kernels
from ntkfast.kernels.dense import NetworkKernel
from ntkfast.kernels.layers import Layers
from ntkfast.kernels.parameters import changed, parameters_of

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

    positional = ""  # the field of arguments without a name, as steps are

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the arguments that make an equal network, by name, as scikit-learn asks for them.

        Parameters
        ----------
        deep : bool
            Without meaning: scikit-learn passes it.

        Returns
        -------
        dict
        """
        return parameters_of(self)

    def set_params(self, **params: Any) -> Self:
        """Return this network where nothing changes, else say how another one is made.

        Estimators of this package and `ntkfast.sklearn.NTKKernel` put another network in its place:
        ``GridSearchCV`` searches over ``kernel__network__depth``.

        Parameters
        ----------
        **params
            As `get_params` returns them.

        Raises
        ------
        ValueError
            If there is no such parameter.
        TypeError
            If one changes: a network is a value, and who asks would go on with the old one.
        """
        other = changed(self, params)
        if other != self:
            raise TypeError(
                f"a network is a value that does not change: {other!r} is another one, "
                "dataclasses.replace makes it"
            )
        return self

    def __sklearn_clone__(self) -> Self:
        """Return the network: a value needs no copy."""
        return self

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
        shown = [*map(_name, value)] if isinstance(value, tuple) else _name(value)
        if field.name == "depth":
            parts.append(repr(value))
        elif shown != field.default:
            parts.append(f"{field.name}={shown!r}")
    return f"{type(network).__name__}({', '.join(parts)})"


def _name(activation: Any) -> Any:
    """Return the name that stands for an activation; itself if there is none, or it is none."""
    if not isinstance(activation, Activation):
        return activation
    try:
        return activation.name if resolve(activation.name) == activation else activation
    except (TypeError, ValueError):
        return activation
