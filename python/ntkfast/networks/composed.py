"""Dense networks composed by hand."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from ntkfast.activations.base import Activation
from ntkfast.activations.names import resolve
from ntkfast.activations.polynomials import Standardization
from ntkfast.arrays import checks
from ntkfast.engines.codes import SLOTS
from ntkfast.kernels.layers import Layer, Layers, merge
from ntkfast.networks.base import PARAMETERIZATIONS, ActivationLike, DenseNetwork
from ntkfast.networks.dense import affine
from ntkfast.networks.gaussian import Branch, Weights, check_gaussian
from ntkfast.networks.steps import LayerNorm

STANDARD = "standard"
STANDARDIZED = Standardization()


@dataclass(frozen=True, repr=False)
class Dense(Weights):
    """A dense layer of `compose`: weights w_std / sqrt(fan-in) and biases b_std, both trained.

    Attributes
    ----------
    w_std, b_std : float
        Standard deviations.
    trained : bool, default True
        Whether its parameters contribute to the NTK.
    width : int, optional
        Number of neurons, for ``parameterization="standard"``: the fan-in of the next layer.

    Raises
    ------
    TypeError, ValueError
        If an attribute has the wrong type or range.
    """

    w_std: float = 1.0
    b_std: float = 0.0
    trained: bool = True
    width: int | None = None

    def __post_init__(self) -> None:
        checks.store(
            self,
            w_std=checks.deviation("w_std", self.w_std),
            b_std=checks.deviation("b_std", self.b_std, zero=True),
            width=None if self.width is None else checks.count("width", self.width, least=1),
        )

    def __repr__(self) -> str:
        shown = [f"w_std={self.w_std}", f"b_std={self.b_std}", f"trained={self.trained}"]
        shown += [] if self.width is None else [f"width={self.width}"]
        return f"Dense({', '.join(shown)})"


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

    def __init__(self, *branch: Dense | Residual | LayerNorm | ActivationLike) -> None:
        if not branch:
            raise ValueError("branch: expected at least one element")
        checks.store(self, branch=tuple(_element(part) for part in branch))

    def __repr__(self) -> str:
        return f"Residual({', '.join(repr(part) for part in self.branch)})"


Element: TypeAlias = Dense | Residual | LayerNorm | Activation


def _element(part: Any) -> Element:
    if isinstance(part, LayerNorm) and part.over != "channels":
        raise ValueError(f"over: expected LayerNorm() in a dense network, got {part!r}")
    return part if isinstance(part, (Dense, Residual, LayerNorm)) else resolve(part)


@dataclass(frozen=True, init=False)
class Composed(DenseNetwork):
    """A network composed by `compose`."""

    elements: tuple[Element, ...]
    parameterization: str

    def __init__(self, elements: Sequence[Any], parameterization: str = "ntk") -> None:
        checks.store(
            self,
            elements=tuple(_element(part) for part in elements),
            parameterization=checks.choice(
                "parameterization", parameterization, (*PARAMETERIZATIONS, STANDARD)
            ),
        )
        check_gaussian("elements", self.elements, "Dense")
        if self.parameterization != STANDARD and any(
            one.width is not None for one in _dense(self.elements)
        ):
            raise ValueError('width: belongs to parameterization="standard"')
        self.layers(1)  # for what it refuses

    def __repr__(self) -> str:
        parts = [repr(part) for part in self.elements]
        if self.parameterization != "ntk":
            parts.append(f"parameterization={self.parameterization!r}")
        return f"compose({', '.join(parts)})"

    def layers(self, dim: int) -> Layers:
        """Return the recursion for inputs with `dim` features."""
        scale = 1.0 if self.parameterization == "unit" else 1.0 / dim
        layers, _ = _lower(self.elements, 0, dim if self.parameterization == STANDARD else None)
        return merge([Layer(w=scale), *layers])


def dense_layers(elements: Sequence[Element]) -> Layers:
    """Return the layers of elements that follow on a dense layer."""
    return merge(_lower(elements, 0, None)[0])


def _dense(elements: Sequence[Element]) -> Iterator[Dense]:
    for part in elements:
        if isinstance(part, Residual):
            yield from _dense(part.branch)
        elif isinstance(part, Dense):
            yield part


UNKNOWN = 0  # the width of a layer that does not say it


def _lower(
    elements: Sequence[Element], slot: int, fan_in: int | None
) -> tuple[list[Layer], int | None]:
    """Return layers of a sequence whose branches may use the slots from `slot` on.

    Parameters
    ----------
    fan_in : int or None
        Number of neurons before the sequence, where it counts; that behind it is the second result.
    """
    layers: list[Layer] = []
    for part in elements:
        if isinstance(part, Dense):
            layers.append(_weights(part, fan_in))
            fan_in = None if fan_in is None else part.width or UNKNOWN
        elif isinstance(part, Residual):
            if slot >= SLOTS:
                raise ValueError(f"Residual: expected at most {SLOTS} nested branches")
            branch, width = _lower(part.branch, slot + 1, fan_in)
            if width != fan_in:
                raise ValueError(
                    f"width: expected that of the layer before {part!r} at its end, {fan_in}; "
                    f"got {width or None}"
                )
            layers += [Layer(save=slot), *branch, Layer(add=slot)]
        else:
            layers.append(Layer(STANDARDIZED if isinstance(part, LayerNorm) else part))
    return layers, fan_in


def _weights(part: Dense, fan_in: int | None) -> Layer:
    """Return the affine step of a dense layer."""
    w, b, trained = part.w_std**2, part.b_std**2, float(part.trained)
    if fan_in is None:
        return affine(w, b, trained)
    if fan_in == UNKNOWN:
        raise ValueError(
            f"width: expected a number of neurons for each Dense that another one follows, in "
            f"parameterization={STANDARD!r}"
        )
    # Weights themselves are trained, not multiples of them: a sum over the neurons before.
    return Layer(w=w, e=b, x=trained * fan_in, y=trained * (b > 0))


def compose(
    *elements: Dense | Residual | LayerNorm | ActivationLike, parameterization: str = "ntk"
) -> Composed:
    """Compose a dense network in the vocabulary of neural-tangents' stax.

    Parameters
    ----------
    *elements : Dense, Residual, LayerNorm, or an activation
        Applied in order; activations by name, as `ntkfast.Activation`, or as a Python function.
        ``Residual(...)`` is ``serial(FanOut(2), parallel(serial(...), Identity()), FanInSum())``.
    parameterization : {"ntk", "unit", "standard"}, default "ntk"
        "unit": the inner product of the inputs is not divided by d. "standard": as in most code,
        weights have the variance w_std^2 / fan-in and are trained themselves [1]_, so that the NTK
        is a sum over the neurons of each layer, as many as its `Dense` has by ``width``: the kernel
        of a network of finite, large widths, whose learning rate is smaller by as much. There,
        biases are trained where b_std is not 0. **The default is not that of**
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
        branch is correlated with the identity that it is added to. If a width is missing.

    References
    ----------
    .. [1] J. Sohl-Dickstein, R. Novak, S. Schoenholz, J. Lee, "On the infinite width limit of
       neural networks with a standard parameterization", arXiv:2001.07301.

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
