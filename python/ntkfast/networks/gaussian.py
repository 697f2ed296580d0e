"""Where the signals of a composed network are Gaussian, which the recursion takes for granted.

The dual of an activation is an average over Gaussian inputs with mean zero. Weights make such
signals of anything, and averages over pixels keep them; an activation does not. A branch is added
to what it starts from as if the two were uncorrelated, channel by channel: they are if weights lie
between them and one of the two has mean zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from ntkfast.activations.base import Activation
from ntkfast.kernels.layers import IDENTITY


class Weights:
    """A step that multiplies by fresh random weights."""


class Normalization:
    """A step that divides by standard deviations, which are constants of a wide layer."""


class Branch:
    """A step that adds what its steps, its attribute `branch`, make of the signal.

    They are added to the signal itself, or to what the steps of `shortcut` make of it.
    """

    branch: tuple[Any, ...]
    shortcut: tuple[Any, ...] = ()


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
        elif isinstance(step, Branch):
            signal = _sum(step, signal, weights)
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


def _sum(step: Branch, start: _Signal, weights: str) -> _Signal:
    name = type(step).__name__
    if start.other == INPUTS:
        raise ValueError(f"expected a {weights} before the first {name}, which makes a wide layer")
    end = _after(step.branch, start._replace(mixed=False), weights)
    other = _after(step.shortcut, start._replace(mixed=False), weights)
    if not end.mixed and not other.mixed:
        raise ValueError(
            f"expected a {weights} on each way through a branch, got {step!r}, which is correlated "
            f"with {'its shortcut' if step.shortcut else 'the identity that it is added to'}"
        )
    if other.other and end.other:
        raise ValueError(
            f"expected a {weights} at the end of {step!r}, got {end.other}, to be added to a "
            f"signal that holds {other.other}: the products of their means would be missing"
        )
    return _Signal(other.other or end.other, start.mixed or (end.mixed and other.mixed))
