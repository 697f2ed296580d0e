"""Dense networks composed by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from ntkfast.activations.base import Activation
from ntkfast.activations.names import resolve
from ntkfast.arrays import checks
from ntkfast.engines.codes import SLOTS
from ntkfast.kernels.layers import Layer, Layers, merge
from ntkfast.networks.base import PARAMETERIZATIONS, ActivationLike, DenseNetwork
from ntkfast.networks.dense import affine
from ntkfast.networks.gaussian import Branch, Weights, check_gaussian


@dataclass(frozen=True)
class Dense(Weights):
    """A dense layer of `compose`: weights w_std / sqrt(fan-in) and biases b_std, both trained.

    Attributes
    ----------
    w_std, b_std : float
        Standard deviations.
    trained : bool, default True
        Whether its parameters contribute to the NTK.
    """

    w_std: float = 1.0
    b_std: float = 0.0
    trained: bool = True

    def __post_init__(self) -> None:
        checks.store(
            self,
            w_std=checks.deviation("w_std", self.w_std),
            b_std=checks.deviation("b_std", self.b_std, zero=True),
        )


@dataclass(frozen=True, init=False)
class Residual(Branch):
    """A residual branch of `compose`: the identity plus the branch.

    The branch needs weights on each of its ways: it is uncorrelated with the identity then.

    Attributes
    ----------
    branch : tuple
        What `compose` takes.
    """

    branch: tuple[Any, ...]

    def __init__(self, *branch: Dense | Residual | ActivationLike) -> None:
        if not branch:
            raise ValueError("branch: expected at least one element")
        checks.store(self, branch=tuple(_element(part) for part in branch))

    def __repr__(self) -> str:
        return f"Residual({', '.join(repr(part) for part in self.branch)})"


Element: TypeAlias = Dense | Residual | Activation


def _element(part: Any) -> Element:
    return part if isinstance(part, (Dense, Residual)) else resolve(part)


@dataclass(frozen=True, init=False)
class Composed(DenseNetwork):
    """A network composed by `compose`."""

    elements: tuple[Element, ...]
    parameterization: str

    def __init__(self, elements: Sequence[Any], parameterization: str = "ntk") -> None:
        checks.store(
            self,
            elements=tuple(_element(part) for part in elements),
            parameterization=checks.choice("parameterization", parameterization, PARAMETERIZATIONS),
        )
        check_gaussian("elements", self.elements, "Dense")

    def __repr__(self) -> str:
        parts = [repr(part) for part in self.elements]
        if self.parameterization != "ntk":
            parts.append(f"parameterization={self.parameterization!r}")
        return f"compose({', '.join(parts)})"

    def layers(self, dim: int) -> Layers:
        """Return the recursion for inputs with `dim` features."""
        scale = 1.0 / dim if self.parameterization == "ntk" else 1.0
        return merge([Layer(w=scale), *_lower(self.elements, 0)])


def dense_layers(elements: Sequence[Element]) -> Layers:
    """Return the layers of elements that follow on a dense layer."""
    return merge(_lower(elements, 0))


def _lower(elements: Sequence[Element], slot: int) -> list[Layer]:
    """Layers of a sequence whose residual branches may use the slots from `slot` on."""
    layers: list[Layer] = []
    for part in elements:
        if isinstance(part, Dense):
            layers.append(affine(part.w_std**2, part.b_std**2, float(part.trained)))
        elif isinstance(part, Residual):
            if slot >= SLOTS:
                raise ValueError(f"Residual: expected at most {SLOTS} nested branches")
            branch = _lower(part.branch, slot + 1)
            layers += [Layer(save=slot), *branch, Layer(add=slot)]
        else:
            layers.append(Layer(part))
    return layers


def compose(
    *elements: Dense | Residual | ActivationLike, parameterization: str = "ntk"
) -> Composed:
    """Compose a dense network in the vocabulary of neural-tangents' stax.

    Parameters
    ----------
    *elements : Dense, Residual, or an activation
        Applied in order; activations by name, as `ntkfast.Activation`, or as a Python function.
        ``Residual(...)`` is ``serial(FanOut(2), parallel(serial(...), Identity()), FanInSum())``.
    parameterization : {"ntk", "unit"}, default "ntk"
        Whether the inner product of the inputs is divided by d. **The default is not that of**
        `FullyConnected` **and** `ResNet`, which speak the language of theory, "unit": composition
        speaks that of neural-tangents, where every layer states its scales and the first one
        divides by d, so that networks can be carried over word by word.

    Returns
    -------
    network
        With `ntk` and `nngp` like any other.

    Raises
    ------
    ValueError
        If an activation follows another one, or the inputs, or a sum with the output of one, with
        no `Dense` between: its input is not Gaussian and its kernel has no closed form. If a
        branch is correlated with the identity that it is added to.

    Examples
    --------
    >>> import numpy as np, ntkfast as nf
    >>> net = nf.compose(nf.Dense(1.5, 0.1), nf.Residual("erf", nf.Dense(1.5)), "relu", nf.Dense())
    >>> net.nngp(np.ones((1, 3))).round(6)
    array([[1.817111]])
    """
    if not elements:
        raise ValueError("elements: expected at least one layer")
    return Composed(elements, parameterization)
