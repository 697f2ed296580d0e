"""Where the signals of a composed network are Gaussian, which the recursion takes for granted.

The dual of an activation is an average over Gaussian inputs with mean zero. Weights make such
signals of anything, and averages over pixels keep them; an activation does not. Branches are added
and multiplied as if they were independent, channel by channel: they are if weights lie between
them, and sums ask for means that are zero but for one. A product of two Gaussian signals is none,
and neither are concatenated ones, whose variances differ.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, NamedTuple

from ntkfast.activations.base import Activation
from ntkfast.kernels.layers import IDENTITY
from ntkfast.support.telling import warn

ROWS, IMAGES, SEQUENCES = "rows", "images", "sequences"


class Step:
    """A step of a network, that is no activation.

    Attributes
    ----------
    of : str
        Of which networks it is one, of those on rows, images or sequences; empty: of any.
    """

    of: ClassVar[str] = ""


class Weights(Step):
    """A step that multiplies by fresh random weights."""

    @staticmethod
    def _warn_of_width(name: str, value: object, least: int) -> None:
        """Warn of an integer so large that it was meant for a number of neurons."""
        if isinstance(value, int) and value >= least:
            warn(
                f"{name}: got {value}; layers of infinite width have no number of neurons or "
                "channels (the out_dim of neural-tangents): leave it out",
                UserWarning,
            )


class Normalization(Step):
    """A step that divides by standard deviations, which are constants of a wide layer."""


class Masks(Step):
    """A step that multiplies by fresh random numbers of mean 1, for every input."""


class Branches(Step):
    """A step that joins what several ways, tuples of steps, make of one signal."""

    joined = "sum"  # or "product", or "concatenation"

    @property
    def ways(self) -> tuple[tuple[Any, ...], ...]:
        """The steps of each way; none of them are the identity."""
        raise NotImplementedError


class Branch(Branches):
    """A step that adds what its steps, its attribute `branch`, make of the signal.

    They are added to the signal itself, or to what the steps of `shortcut` make of it.
    """

    branch: tuple[Any, ...]
    shortcut: tuple[Any, ...] = ()

    @property
    def ways(self) -> tuple[tuple[Any, ...], ...]:
        """The shortcut, and the branch."""
        return self.shortcut, self.branch


def each_step(steps: Sequence[Any]) -> Iterator[Any]:
    """Yield the steps of a network, those of all branches too."""
    for step in steps:
        yield step
        if isinstance(step, Branches):
            for way in step.ways:
                yield from each_step(way)


class _Signal(NamedTuple):
    """What it is if it is not Gaussian, and whether weights separate it from a branch's start."""

    other: str = ""
    mixed: bool = True


INPUTS = "the inputs of the network"


def check_gaussian(name: str, steps: Sequence[Any], weights: str) -> None:
    """Raise an error where an activation or a sum does not get what its kernel assumes.

    Parameters
    ----------
    name : str
        The argument that holds the steps.
    steps : sequence
        Of a network, from the inputs on.
    weights : str
        The step that cures it.

    Raises
    ------
    ValueError
        If the input of an activation is not Gaussian, or if a branch is correlated with its start.
    """
    try:
        _after(steps, _Signal(INPUTS), weights)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def _after(steps: Sequence[Any], signal: _Signal, weights: str) -> _Signal:
    for step in steps:
        if isinstance(step, Weights):
            signal = _Signal()
        elif isinstance(step, Branches):
            signal = _joined(step, signal, weights)
        elif isinstance(step, Masks):
            name = type(step).__name__
            if signal.other == INPUTS:
                raise ValueError(
                    f"expected a {weights} before {name}, got {signal.other}: over their few "
                    "features masks do not average out"
                )
            signal = signal._replace(other=f"the output of {name}")
        elif isinstance(step, (str, Activation, Normalization)) and step != IDENTITY:
            name = step if isinstance(step, str) else getattr(step, "name", type(step).__name__)
            if signal.other:
                raise ValueError(
                    f"expected a {weights} before {name}, got a signal that holds {signal.other} "
                    "and is not Gaussian: its kernel has no closed form"
                )
            if not isinstance(step, Normalization):
                signal = signal._replace(other=f"the output of {name}")
    return signal


def _joined(step: Branches, start: _Signal, weights: str) -> _Signal:
    name = type(step).__name__
    if start.other == INPUTS:
        raise ValueError(f"expected a {weights} before the first {name}, which makes a wide layer")
    ends = [_after(way, start._replace(mixed=False), weights) for way in step.ways]
    alike = sum(not end.mixed for end in ends)
    if alike > 1 and step.joined != "concatenation":
        other = "its shortcut" if getattr(step, "shortcut", ()) else "the identity"
        with_what = other if isinstance(step, Branch) else "another way"
        raise ValueError(
            f"expected a {weights} on each way through a branch, got {step!r}, which is correlated "
            f"with {with_what}"
        )
    others = [end.other for end in ends if end.other]
    if len(others) > 1 and step.joined == "sum":
        raise ValueError(
            f"expected a {weights} at the end of {step!r}, got {others[-1]}, to be added to a "
            f"signal that holds {others[0]}: the products of their means would be missing"
        )
    held = "".join(others[:1]) if step.joined == "sum" else f"the {step.joined} of {name}"
    return _Signal(held, start.mixed or not alike)
