"""The steps of convolutional networks, and their read-outs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from ntkfast.arrays import checks
from ntkfast.engines.codes import SLOTS
from ntkfast.networks.gaussian import Branch, Weights

PADDINGS = ("zero", "valid", "circular")
READOUTS = ("flatten", "gap", "lap")
SQRT2 = math.sqrt(2.0)


def odd(name: str, value: object) -> int:
    """Return an odd positive integer."""
    size = checks.count(name, value, least=1)
    if size % 2 == 0:
        raise ValueError(f"{name}: expected an odd integer, got {size}")
    return size


@dataclass(frozen=True)
class Conv(Weights):
    """A convolution of stride 1, with weights of variance w_std^2 / (channels filter_size^2).

    Attributes
    ----------
    filter_size : int, default 3
        Rows and columns of the window, odd.
    w_std, b_std : float
        Standard deviations of weights and biases.
    padding : {"zero", "valid", "circular"}
        Images keep their size with zeros or the other edge around them, or lose
        ``filter_size - 1`` rows and columns.
    trained : bool, default True
        Whether its parameters contribute to the NTK.

    Raises
    ------
    TypeError, ValueError
        If an attribute has the wrong type or range; an even filter has no centre.
    """

    filter_size: int = 3
    w_std: float = SQRT2
    b_std: float = 0.0
    padding: str = "zero"
    trained: bool = True

    def __post_init__(self) -> None:
        checks.store(
            self,
            filter_size=odd("filter_size", self.filter_size),
            w_std=checks.deviation("w_std", self.w_std),
            b_std=checks.deviation("b_std", self.b_std, zero=True),
            padding=checks.choice("padding", self.padding, PADDINGS),
            trained=bool(self.trained),
        )


@dataclass(frozen=True)
class AvgPool:
    """The mean over blocks of ``size`` x ``size`` pixels, which must divide the image.

    Attributes
    ----------
    size : int, default 2
    """

    size: int = 2

    def __post_init__(self) -> None:
        checks.store(self, size=checks.count("size", self.size, least=1))


@dataclass(frozen=True, init=False)
class Skip(Branch):
    """A residual branch: the identity plus the branch, which keeps the shape of images.

    The branch needs a convolution on each of its ways: it is uncorrelated with the identity then.

    Attributes
    ----------
    branch : tuple
        Steps, as `ConvNet` takes them.
    """

    branch: tuple[Any, ...]

    def __init__(self, *branch: Conv | Skip | str) -> None:
        if not branch:
            raise ValueError("branch: expected at least one step")
        checks.store(self, branch=checked_steps(branch))

    def __repr__(self) -> str:
        return f"Skip({', '.join(map(repr, self.branch))})"


Step: TypeAlias = Conv | AvgPool | Skip | str


@dataclass(frozen=True)
class Readout:
    """The last, linear layer: one output from all pixels and channels.

    Attributes
    ----------
    kind : {"gap", "flatten", "lap"}
        Global average pooling first; every pixel with weights of its own; or averages over windows
        with weights of their own (local average pooling, zeros outside the image).
    window : int, optional
        For "lap": rows and columns of the window, odd.
    w_std, b_std : float
        Standard deviations of weights and bias.
    trained : bool, default True
        Whether its parameters contribute to the NTK.
    mean : bool, default True
        Divide the variance of weights by the number of pixels, as a dense layer does; False is the
        trace of Arora et al. Global averages are averages either way.
    """

    kind: str = "gap"
    window: int | None = None
    w_std: float = 1.0
    b_std: float = 0.0
    trained: bool = True
    mean: bool = True

    def __post_init__(self) -> None:
        kind = checks.choice("readout", self.kind, READOUTS)
        if (kind == "lap") != (self.window is not None):
            raise ValueError(
                f'window: belongs to readout="lap", got {self.window} with readout={kind!r}'
            )
        checks.store(
            self,
            kind=kind,
            window=None if self.window is None else odd("window", self.window),
            w_std=checks.deviation("w_std", self.w_std),
            b_std=checks.deviation("b_std", self.b_std, zero=True),
            trained=bool(self.trained),
            mean=bool(self.mean),
        )


def checked_steps(steps: Sequence[Any]) -> tuple[Any, ...]:
    """Return steps of a convolutional network."""
    for step in steps:
        if not isinstance(step, (Conv, AvgPool, Skip)) and step != "relu":
            raise ValueError(f'steps: expected Conv, AvgPool, Skip or "relu"; got {step!r}')
    return tuple(steps)


def convolutions(steps: Sequence[Step]) -> list[Conv]:
    """Return the convolutions, those of branches too."""
    found: list[Conv] = []
    for step in steps:
        if isinstance(step, Conv):
            found.append(step)
        elif isinstance(step, Skip):
            found += convolutions(step.branch)
    return found


def is_circular(steps: Sequence[Step]) -> bool:
    """Whether images are continued by their other edge."""
    circular = {conv.padding == "circular" for conv in convolutions(steps)}
    if len(circular) > 1:
        raise ValueError('padding: expected "circular" for all convolutions or for none')
    return True in circular


def nesting(steps: Sequence[Step], slot: int) -> None:
    """Raise an error if branches are nested too deeply."""
    for step in steps:
        if isinstance(step, Skip):
            if slot >= SLOTS:
                raise ValueError(f"Skip: expected at most {SLOTS} nested branches")
            nesting(step.branch, slot + 1)
