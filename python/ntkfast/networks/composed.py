"""Dense networks composed by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from ntkfast.activations.base import Activation
from ntkfast.activations.polynomials import Standardization
from ntkfast.arrays import checks
from ntkfast.engines.codes import SLOTS
from ntkfast.kernels.base import KernelOfNetwork
from ntkfast.kernels.dense import NetworkKernel
from ntkfast.kernels.layers import Layer, Layers, merge
from ntkfast.networks.base import PARAMETERIZATIONS, ActivationLike, DenseNetwork
from ntkfast.networks.branches import Add, Concatenate, resolved
from ntkfast.networks.dense import affine
from ntkfast.networks.gaussian import (
    ROWS,
    Branch,
    Branches,
    Step,
    Weights,
    check_gaussian,
    each_step,
)
from ntkfast.networks.neurons import Dropout, LayerNorm

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
    of = ROWS

    def __post_init__(self) -> None:
        self._warn_of_width("w_std", self.w_std, 16)
        checks.store(
            self,
            w_std=checks.deviation("w_std", self.w_std),
            b_std=checks.deviation("b_std", self.b_std, zero=True),
            trained=checks.flag("trained", self.trained),
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
    of = ROWS

    def __init__(self, *branch: Dense | Residual | Add | LayerNorm | ActivationLike) -> None:
        if not branch:
            raise ValueError("branch: expected at least one element")
        checks.store(self, branch=tuple(_element(part) for part in branch))

    def __repr__(self) -> str:
        return f"Residual({', '.join(repr(part) for part in self.branch)})"


Element: TypeAlias = Dense | Residual | Add | LayerNorm | Dropout | Activation


def _element(part: Any) -> Element:
    """Return an element of a dense network."""
    found: Element = resolved(part)
    for one in each_step((found,)):
        if isinstance(one, LayerNorm) and one.over != "channels":
            raise ValueError(f"over: expected LayerNorm() in a dense network, got {one!r}")
        if isinstance(one, Step) and one.of not in ("", ROWS):
            raise TypeError(
                "elements: expected Dense, Residual, Add, Multiply, Concatenate, LayerNorm, "
                f"Dropout or an activation in a dense network, got {one!r}, a step of {one.of}"
            )
    return found


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
            isinstance(one, Dense) and one.width is not None for one in each_step(self.elements)
        ):
            raise ValueError('width: belongs to parameterization="standard"')
        self.layers(1)  # for what it refuses

    def __repr__(self) -> str:
        parts = [repr(part) for part in self.elements]
        if self.parameterization != "ntk":
            parts.append(f"parameterization={self.parameterization!r}")
        return f"compose({', '.join(parts)})"

    @property
    def ntk(self) -> Any:
        """The neural tangent kernel."""
        return self._kernel("ntk")

    @property
    def nngp(self) -> Any:
        """The kernel of the Gaussian process that the network is at initialisation."""
        return self._kernel("nngp")

    def _kernel(self, kind: str) -> KernelOfNetwork:
        drops = any(isinstance(one, Dropout) for one in each_step(self.elements))
        if not drops:
            return NetworkKernel(self, kind)
        from ntkfast.kernels.dropout import DropoutKernel  # rarely needed: imports stay few

        return DropoutKernel(self, kind)

    def layers(self, dim: int) -> Layers:
        """Return the recursion for inputs with `dim` features."""
        scale = 1.0 if self.parameterization == "unit" else 1.0 / dim
        layers, _ = _lower(self.elements, 0, dim if self.parameterization == STANDARD else None)
        return merge([Layer(w=scale), *layers])


def dense_layers(elements: Sequence[Element]) -> Layers:
    """Return the layers of elements that follow on a dense layer."""
    return merge(_lower(elements, 0, None)[0])


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
        elif isinstance(part, Branches):
            branches, fan_in = _lower_branches(part, slot, fan_in)
            layers += branches
        else:
            layers.append(Layer(_pointwise(part)))
    return layers, fan_in


def _pointwise(part: LayerNorm | Dropout | Activation) -> Activation:
    """Return what acts on neurons, as if it were a function of theirs."""
    if isinstance(part, LayerNorm):
        return STANDARDIZED
    return part.masking if isinstance(part, Dropout) else part


def _lower_branches(
    part: Residual | Add, slot: int, fan_in: int | None
) -> tuple[list[Layer], int | None]:
    """Return the layers of joined branches, and the width behind them.

    The start waits in the first slot, what has been joined of several branches in the second one.
    The identity, as first term or factor, needs no second one beside a single branch.
    """
    beside = isinstance(part, Concatenate)
    ways = part.ways if beside else tuple(sorted(part.ways, key=bool))
    identity = not beside and not ways[0]
    double = not (identity and len(ways) == 2)
    if slot + double >= SLOTS:
        twice = ", of which this one counts twice" if double else ""
        raise ValueError(f"{type(part).__name__}: expected at most {SLOTS} nested branches{twice}")
    lowered = [_lower(way, slot + 1 + double, fan_in) for way in ways]
    shares, width = _shares(part, [width for _, width in lowered])
    layers, joined = [Layer(save=slot)], slot
    for k, (branch, _) in enumerate(lowered):
        if identity and not k:
            continue
        if k > identity:
            layers += [Layer(save=slot + 1), Layer(w=0.0, add=slot)]
            joined = slot + 1
        layers += branch
        layers += [Layer(w=shares[k])] if beside else []
        if k:
            layers.append(Layer(times=joined) if part.joined == "product" else Layer(add=joined))
    return layers, width


def _shares(part: Residual | Add, widths: list[int | None]) -> tuple[tuple[float, ...], int | None]:
    """Return the shares of branches in the neurons behind them, and the number of these."""
    known = [width for width in widths if width is not None]
    if not isinstance(part, Concatenate):
        if len(set(widths)) > 1:
            found = " and ".join(str(width or None) for width in widths)
            raise ValueError(f"width: expected one for all branches of {part!r}, got {found}")
        return (), widths[0]
    if known and part.shares is not None:
        raise ValueError(f"shares: follow from widths in parameterization={STANDARD!r}")
    if UNKNOWN in known:
        raise ValueError(f"width: expected one at the end of each branch of {part!r}")
    parts = known or part.shares or (1.0,) * len(widths)
    total = sum(parts)
    return tuple(one / total for one in parts), sum(known) if known else None


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
