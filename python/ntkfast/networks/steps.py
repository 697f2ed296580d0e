"""The steps of convolutional networks, and their read-outs."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any, TypeAlias

from ntkfast.activations.base import Activation
from ntkfast.activations.names import relu, resolve
from ntkfast.arrays import checks
from ntkfast.engines.codes import SLOTS
from ntkfast.networks.gaussian import (
    IMAGES,
    SEQUENCES,
    Branch,
    Branches,
    Step,
    Weights,
    each_step,
)
from ntkfast.networks.neurons import Dropout, LayerNorm

PADDINGS = ("zero", "valid", "circular")
POOL_PADDINGS = ("valid", "zero")
READOUTS = ("flatten", "gap", "lap")
SQRT2 = math.sqrt(2.0)
RELU = "relu"  # the one activation that stays a name

Pair: TypeAlias = tuple[int, int]
Padding: TypeAlias = str | int | Pair | tuple[Pair, Pair]


def odd(name: str, value: object) -> int:
    """Return an odd positive integer."""
    size = checks.count(name, value, least=1)
    if size % 2 == 0:
        raise ValueError(f"{name}: expected an odd integer, got {size}")
    return size


def _both(name: str, value: object, least: int) -> Pair:
    """Return the numbers for rows and columns, given both or one for either."""
    if not isinstance(value, (tuple, list)):
        one = checks.count(name, value, least=least)
        return one, one
    if len(value) != 2:
        raise ValueError(f"{name}: expected one integer or two, of rows and columns, got {value!r}")
    return checks.count(name, value[0], least=least), checks.count(name, value[1], least=least)


def _short(pair: Pair) -> int | Pair:
    return pair[0] if pair[0] == pair[1] else pair


def _padding(value: object, words: tuple[str, ...]) -> str | tuple[Pair, Pair]:
    """Return a word, or the numbers before and after rows, then columns."""
    if isinstance(value, str):
        return checks.choice("padding", value, words)
    if isinstance(value, (tuple, list)) and any(isinstance(one, (tuple, list)) for one in value):
        if len(value) != 2:
            raise ValueError(f"padding: expected pairs for rows and for columns, got {value!r}")
        return _both("padding", value[0], 0), _both("padding", value[1], 0)
    rows, columns = _both("padding", value, 0)
    return (rows, rows), (columns, columns)


class Windowed(Step, ABC):
    """A step that looks at windows of pixels: what `Conv` and pools have in common."""

    of = IMAGES
    padding: Any

    @property
    @abstractmethod
    def window(self) -> Pair:
        """Rows and columns of a window."""

    @property
    @abstractmethod
    def strides(self) -> Pair:
        """Rows and columns from one window to the next."""

    def along(self, axis: int, size: int) -> Pair:
        """Return the number of windows along an axis of `size` pixels, and the pixels before it.

        "zero" is "SAME" of XLA: as few zeros as give ``ceil(size / stride)`` windows, the smaller
        half of them before the image.
        """
        name = type(self).__name__
        window, stride = self.window[axis], self.strides[axis]
        if self.padding in ("zero", "circular"):
            after = -(-size // stride)
            return after, max((after - 1) * stride + window - size, 0) // 2
        before, behind = (0, 0) if self.padding == "valid" else self.padding[axis]
        if window > size + before + behind:
            raise ValueError(
                f"{name}: expected windows of at most {size + before + behind} "
                f"{('rows', 'columns')[axis]}, those of the image with its padding, got {window}"
            )
        return (size + before + behind - window) // stride + 1, before


@dataclass(frozen=True)
class Conv(Weights, Windowed):
    """A convolution, with weights of variance w_std^2 over the channels and pixels of a window.

    Attributes
    ----------
    filter_size : int or (int, int), default 3
        Rows and columns of the window.
    w_std, b_std : float
        Standard deviations of weights and biases.
    padding : {"zero", "valid", "circular"}, int, (int, int) or ((int, int), (int, int))
        What surrounds images. "zero" is "SAME" of neural-tangents: ``ceil(size / stride)`` windows,
        the odd zero behind the image. With "valid" windows stay in the image. "circular" continues
        it by its other edge, for filters of odd size and strides that divide the image. Numbers
        are those of zeros on all four sides, above and below and on both sides, or ``((above,
        below), (left, right))``.
    trained : bool, default True
        Whether its parameters contribute to the NTK.
    stride : int or (int, int), default 1
        Rows and columns from one window to the next.

    Raises
    ------
    TypeError, ValueError
        If an attribute has the wrong type or range. Calling a kernel: if a filter is larger than
        the image with its padding, or a stride does not divide a circle.

    Notes
    -----
    A series is an image of height 1: ``Conv((1, 3), stride=(1, 2))`` on arrays (n, 1, length,
    channels) is a convolution in one dimension.
    """

    filter_size: int | Pair = 3
    w_std: float = SQRT2
    b_std: float = 0.0
    padding: Padding = "zero"
    trained: bool = True
    _: KW_ONLY
    stride: int | Pair = 1

    def __post_init__(self) -> None:
        self._warn_of_width("filter_size", self.filter_size, 33)
        checks.store(
            self,
            filter_size=_short(_both("filter_size", self.filter_size, 1)),
            w_std=checks.deviation("w_std", self.w_std),
            b_std=checks.deviation("b_std", self.b_std, zero=True),
            padding=_padding(self.padding, PADDINGS),
            trained=checks.flag("trained", self.trained),
            stride=_short(_both("stride", self.stride, 1)),
        )
        if self.padding == "circular" and any(size % 2 == 0 for size in self.window):
            raise ValueError(
                f'filter_size: expected odd numbers for padding="circular", got {self.filter_size}'
            )

    @property
    def window(self) -> Pair:
        """Rows and columns of the filter."""
        return _both("filter_size", self.filter_size, 1)

    @property
    def strides(self) -> Pair:
        """Rows and columns from one window to the next."""
        return _both("stride", self.stride, 1)

    def along(self, axis: int, size: int) -> Pair:
        """Return the number of windows along an axis of `size` pixels, and the pixels before it."""
        if self.padding == "circular":
            if self.window[axis] > size:
                raise ValueError(
                    f"filter_size: expected at most {size} for images of {size} "
                    f'{("rows", "columns")[axis]} and padding="circular", got {self.window[axis]}'
                )
            if size % self.strides[axis]:
                raise ValueError(
                    f"stride: expected a divisor of {size}, the "
                    f"{('rows', 'columns')[axis]} of a circular image, got {self.strides[axis]}"
                )
        return super().along(axis, size)


@dataclass(frozen=True)
class AvgPool(Windowed):
    """The mean over windows of pixels.

    Attributes
    ----------
    size : int or (int, int), default 2
        Rows and columns of a window.
    stride : int or (int, int), optional
        Rows and columns from one window to the next. Default: the size; windows are blocks then,
        which must divide the image. ``AvgPool`` of neural-tangents has strides of 1 by default.
    padding : {"valid", "zero"}, int, (int, int) or ((int, int), (int, int))
        As for `Conv`. Zeros count: every window is divided by its size.
    """

    size: int | Pair = 2
    stride: int | Pair | None = None
    padding: Padding = "valid"

    def __post_init__(self) -> None:
        checks.store(
            self,
            size=_short(_both("size", self.size, 1)),
            stride=None if self.stride is None else _short(_both("stride", self.stride, 1)),
            padding=_padding(self.padding, POOL_PADDINGS),
        )

    @property
    def window(self) -> Pair:
        """Rows and columns of a window."""
        return _both("size", self.size, 1)

    @property
    def strides(self) -> Pair:
        """Rows and columns from one window to the next."""
        return self.window if self.stride is None else _both("stride", self.stride, 1)

    @property
    def gain(self) -> float:
        """What the sum over the pairs of pixels of two windows is multiplied by."""
        return 1.0 / (self.window[0] * self.window[1]) ** 2

    def along(self, axis: int, size: int) -> Pair:
        """Return the number of windows along an axis of `size` pixels, and the pixels before it."""
        if self.stride is None and self.padding == "valid" and size % self.window[axis]:
            raise ValueError(
                f"{type(self).__name__}: expected a size that divides the image, got "
                f"{self.window[axis]} for {size} {('rows', 'columns')[axis]}; with stride= given "
                "the rest is left out"
            )
        return super().along(axis, size)


@dataclass(frozen=True)
class SumPool(AvgPool):
    """The sum over windows of pixels, with the attributes of `AvgPool`."""

    @property
    def gain(self) -> float:
        """What the sum over the pairs of pixels of two windows is multiplied by."""
        return 1.0


@dataclass(frozen=True, init=False)
class Skip(Branch):
    """A residual branch: the identity plus the branch, or what a shortcut makes of the identity.

    Weights must lie on each way through the branch, or through the shortcut: the two are
    uncorrelated then. Both must have the same shape in the end.

    Attributes
    ----------
    branch : tuple
        Steps, as `ConvNet` takes them, but for pools.
    shortcut : tuple
        Steps that the start takes meanwhile, a projection ``Conv(1, stride=2)`` for example; empty:
        the identity.
    """

    branch: tuple[Any, ...]
    shortcut: tuple[Any, ...]
    of = IMAGES

    def __init__(self, *branch: ImageStep, shortcut: ImageStep | Sequence[ImageStep] = ()) -> None:
        if not branch:
            raise ValueError("branch: expected at least one step")
        other = tuple(shortcut) if isinstance(shortcut, (tuple, list)) else (shortcut,)
        ways: tuple[tuple[Any, ...], ...] = branch, other
        checks.store(self, branch=checked_steps(ways[0]), shortcut=checked_steps(ways[1]))
        _check_ways(self)

    def __repr__(self) -> str:
        parts = [*map(repr, self.branch)]
        if self.shortcut:
            one = len(self.shortcut) == 1
            parts.append(f"shortcut={self.shortcut[0] if one else self.shortcut!r}")
        return f"Skip({', '.join(parts)})"


ImageStep: TypeAlias = Conv | AvgPool | LayerNorm | Dropout | Branches | Activation | str


@dataclass(frozen=True)
class Readout(Step):
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
    of = IMAGES

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
            trained=checks.flag("trained", self.trained),
            mean=bool(self.mean),
        )


def checked_steps(steps: Sequence[Any]) -> tuple[Any, ...]:
    """Return steps of a convolutional network, activations by their names resolved but for ReLU."""
    return tuple(map(_checked, steps))


def _checked(step: Any) -> Any:
    if isinstance(step, Branches):
        _check_ways(step)
        return step
    if isinstance(step, (Conv, AvgPool, LayerNorm, Dropout)):
        return step
    if isinstance(step, Step) and step.of == SEQUENCES:
        raise ValueError(f"steps: expected steps on images, got {step!r}, one on sequences")
    if isinstance(step, Step):
        raise ValueError(
            f"steps: expected steps on images, got {step!r}; dense layers stand behind the "
            "read-out, and Conv(1) is one at every pixel"
        )
    try:
        found = resolve(step)
    except (TypeError, ValueError) as error:
        raise ValueError(
            "steps: expected Conv, AvgPool, SumPool, LayerNorm, Dropout, Skip, Add, ... or an "
            "activation; "
            f"{error}"
        ) from None
    if found == relu:
        return RELU
    if not getattr(found, "has_table", True):
        raise ValueError(
            f"steps: expected an activation with no kink other than at 0, found some in "
            f"{found.name}: on images its averages would cost a quadrature for each pair of "
            "pixels; pass its duals as ntkfast.Dual, or what it resembles in closed form (erf)"
        )
    return found


def _check_ways(step: Branches) -> None:
    """Raise an error if the steps of branches are not those of images."""
    name = type(step).__name__
    for way in step.ways:
        if any(isinstance(one, AvgPool) for one in way):
            raise ValueError(
                f"{name}: expected no pool in a branch, whose sums over pairs of pixels would "
                "have to be kept for all of them at once; put it before or behind, or give "
                "a Conv a stride"
            )
        checked_steps(way)


def is_circular(steps: Sequence[Any]) -> bool:
    """Whether images are continued by their other edge."""
    circular = {one.padding == "circular" for one in each_step(steps) if isinstance(one, Conv)}
    if len(circular) > 1:
        raise ValueError('padding: expected "circular" for all convolutions or for none')
    return True in circular


def is_homogeneous(steps: Sequence[Any]) -> bool:
    """Whether positive multiples of an image give the same multiples of its features."""
    return not any(
        (isinstance(step, Conv) and step.b_std)
        or isinstance(step, LayerNorm)
        or (isinstance(step, Activation) and step.degree != 1)
        or (isinstance(step, Branches) and step.joined == "product")
        for step in each_step(steps)
    )


def nesting(steps: Sequence[Any], slot: int) -> None:
    """Raise an error if branches are nested too deeply."""
    for step in steps:
        if isinstance(step, Branches):
            inner = slot + slots_of(step)
            if inner > SLOTS:
                twice = ", of which three ways or more count twice" if inner > slot + 1 else ""
                raise ValueError(
                    f"{type(step).__name__}: expected at most {SLOTS} nested branches{twice}"
                )
            for way in step.ways:
                nesting(way, inner)


def slots_of(step: Branches) -> int:
    """Return how many saved states branches on images need: where they begin, and their sum."""
    return 1 + (len(step.ways) > 2)
