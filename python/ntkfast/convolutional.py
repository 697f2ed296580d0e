"""Infinitely wide convolutional networks on images, and what an engine must know of them.

A network is a tuple of steps, `Conv`, ReLU, `AvgPool` and `Skip`, and a `Readout`. Presets spell
the tuples of the literature; `image_plan` turns any of them into the constants of
`ntkfast.maps.ImagePlan` for images of one shape.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ntkfast import inputs
from ntkfast.engines.codes import IMAGE_LEVEL, IMAGE_STEP
from ntkfast.image_kernel import ImageKernel
from ntkfast.layers import MAX_SLOTS
from ntkfast.maps import ImagePlan, Shape

PADDINGS = ("zero", "valid", "circular")
READOUTS = ("flatten", "gap", "lap")
PARAMETERIZATIONS = ("unit", "ntk")
SQRT2 = math.sqrt(2.0)

CONV, RELU, POOL, SAVE, ADD = range(5)  # codes of csrc/formulas/codes.hpp


def _odd(name: str, value: object) -> int:
    size = inputs.count(name, value, least=1)
    if size % 2 == 0:
        raise ValueError(f"{name}: expected an odd integer, got {size}")
    return size


@dataclass(frozen=True)
class Conv:
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
        _set(
            self,
            filter_size=_odd("filter_size", self.filter_size),
            w_std=inputs.number("w_std", self.w_std, above=0.0),
            b_std=inputs.number("b_std", self.b_std, least=0.0),
            padding=inputs.choice("padding", self.padding, PADDINGS),
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
        _set(self, size=inputs.count("size", self.size, least=1))


@dataclass(frozen=True, init=False)
class Skip:
    """A residual branch: the identity plus the branch, which keeps the shape of images.

    Attributes
    ----------
    branch : tuple
        Steps, as `ConvNet` takes them.
    """

    branch: tuple[Any, ...]

    def __init__(self, *branch: Conv | Skip | str) -> None:
        if not branch:
            raise ValueError("branch: expected at least one step")
        _set(self, branch=_checked_steps(branch))

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
        kind = inputs.choice("readout", self.kind, READOUTS)
        if (kind == "lap") != (self.window is not None):
            raise ValueError(
                f'window: belongs to readout="lap", got {self.window} with readout={kind!r}'
            )
        _set(
            self,
            kind=kind,
            window=None if self.window is None else _odd("window", self.window),
            w_std=inputs.number("w_std", self.w_std, above=0.0),
            b_std=inputs.number("b_std", self.b_std, least=0.0),
            trained=bool(self.trained),
            mean=bool(self.mean),
        )


def _set(value: object, **attributes: object) -> None:
    for name, attribute in attributes.items():
        object.__setattr__(value, name, attribute)


def _checked_steps(steps: Sequence[Any]) -> tuple[Any, ...]:
    for step in steps:
        if not isinstance(step, (Conv, AvgPool, Skip)) and step != "relu":
            raise ValueError(f'steps: expected Conv, AvgPool, Skip or "relu"; got {step!r}')
    return tuple(steps)


def _checked_shape(shape: object) -> Shape | None:
    if shape is None:
        return None
    if not isinstance(shape, (tuple, list)) or len(shape) != 3:
        raise ValueError(f"shape: expected (height, width, channels), got {shape!r}")
    height, width, channels = (inputs.count("shape", size, least=1) for size in shape)
    return height, width, channels


class ImageNetwork(ABC):
    """An infinitely wide convolutional network; subclasses give its steps and read-out."""

    shape: Shape | None

    @abstractmethod
    def steps(self) -> tuple[Step, ...]:
        """Return the steps from the image to the read-out."""

    @abstractmethod
    def last(self) -> Readout:
        """Return the read-out."""

    @property
    @abstractmethod
    def divides_by_channels(self) -> bool:
        """Whether inner products of pixels are divided by the number of channels."""

    @property
    def ntk(self) -> ImageKernel:
        """The neural tangent kernel."""
        return ImageKernel(self, "ntk")

    @property
    def nngp(self) -> ImageKernel:
        """The kernel of the Gaussian process that the network is at initialisation."""
        return ImageKernel(self, "nngp")

    def plan(self, shape: Shape) -> ImagePlan:
        """Return what an engine needs for images of this shape.

        Raises
        ------
        ValueError
            If a filter does not fit in the image or a pool does not divide it.
        """
        return image_plan(self.steps(), self.last(), self.divides_by_channels, shape)


@dataclass(frozen=True, init=False)
class ConvNet(ImageNetwork):
    """A convolutional network composed by hand.

    Parameters
    ----------
    *steps : Conv, AvgPool, Skip or "relu"
        Applied in order, the first one a convolution.
    readout : Readout or str, default "gap"
    parameterization : {"ntk", "unit"}, default "ntk"
        Whether inner products of pixels are divided by the number of channels.
    shape : (height, width, channels), optional
        Of the images in the rows of 2-D input.

    Raises
    ------
    ValueError
        If a step is unknown, or circular padding stands beside another.

    Notes
    -----
    ``Conv(q, w, b), "relu"`` is ``Conv(1, (q, q), W_std=w, b_std=b, padding="SAME"), Relu()`` of
    neural-tangents, ``readout=Readout("gap", w_std=w)`` its ``GlobalAvgPool(), Dense(1, w)``.

    Examples
    --------
    >>> import numpy as np, ntkfast as nf
    >>> block = nf.Skip("relu", nf.Conv(), "relu", nf.Conv())
    >>> net = nf.ConvNet(nf.Conv(), block, nf.AvgPool(), block, "relu", readout="flatten")
    >>> net.ntk(np.ones((2, 4, 4, 3))).round(4)
    array([[2.9891, 2.9891],
           [2.9891, 2.9891]])
    """

    elements: tuple[Step, ...]
    readout: Readout
    parameterization: str
    shape: Shape | None

    def __init__(
        self,
        *steps: Step,
        readout: Readout | str = "gap",
        parameterization: str = "ntk",
        shape: Shape | None = None,
    ) -> None:
        _set(
            self,
            elements=_checked_steps(steps),
            readout=readout if isinstance(readout, Readout) else Readout(readout),
            parameterization=inputs.choice("parameterization", parameterization, PARAMETERIZATIONS),
            shape=_checked_shape(shape),
        )
        if not steps or not isinstance(steps[0], Conv):
            raise ValueError("steps: expected a Conv first")
        _is_circular(self.elements)
        _nesting(self.elements, 0)

    def __repr__(self) -> str:
        parts = [*map(repr, self.elements), f"readout={self.readout!r}"]
        parts += [f"parameterization={self.parameterization!r}"] * (self.parameterization != "ntk")
        parts += [f"shape={self.shape}"] * (self.shape is not None)
        return f"ConvNet({', '.join(parts)})"

    def steps(self) -> tuple[Step, ...]:
        """Return the steps from the image to the read-out."""
        return self.elements

    def last(self) -> Readout:
        """Return the read-out."""
        return self.readout

    @property
    def divides_by_channels(self) -> bool:
        """Whether inner products of pixels are divided by the number of channels."""
        return self.parameterization == "ntk"


@dataclass(frozen=True, repr=False)
class Convolutional(ImageNetwork):
    """An infinitely wide convolutional network of equal ReLU layers: the CNTK.

    Parameters
    ----------
    depth : int
        Number of convolutions, each followed by ReLU.
    filter_size : int, default 3
        Rows and columns of the windows, odd.
    readout : {"flatten", "gap", "lap"}
        Every pixel with weights of its own (CNTK-V), global average pooling (CNTK-GAP), or local
        average pooling over windows of ``window`` x ``window`` pixels.
    window : int, optional
        For "lap", odd; zeros outside the image.
    padding : {"zero", "valid", "circular"}
    parameterization : {"unit", "ntk"}, default "unit"
        "unit" are the conventions of Arora et al. [1]_: the first window sum is not divided by
        anything, every later one and the read-out are multiplied by w_std^2 / q^2, a flat read-out
        sums over pixels. "ntk" is ``Conv(1, (q, q), w_std, b_std, padding="SAME"), Relu()`` of
        neural-tangents, depth times, then ``Flatten()`` or ``GlobalAvgPool()`` and
        ``Dense(1, w_std, b_std)``, all trained.
    w_std : float, default sqrt(2)
        Standard deviation of the weights; in "unit" the root of the paper's c_sigma.
    b_std : float, default 0
        Standard deviation of the biases, for "ntk".
    train_first, train_last : bool, default True
        Whether the first convolution and the read-out contribute to the NTK. The authors' results
        with global average pooling have both fixed.
    shape : (height, width, channels), optional
        Of the images in the rows of 2-D input, as scikit-learn and `ntkfast.features` pass them.

    Raises
    ------
    TypeError, ValueError
        If a parameter has the wrong type or range, an even filter or a window without "lap" among
        them; on calling a kernel, if images do not fit.

    Notes
    -----
    With S_0[ij, i'j'] = tr x[ij] . x'[i'j'], tr the sum over windows of q x q pixels of both
    images, N the root of the variances, and c = w_std^2::

        K_h = c / q^2 N kappa1(u) / 2,   K'_h = c / q^2 kappa0(u) / 2,   u = S_{h-1} / N,
        S_h = tr K_h,   T_h = tr (K'_h T_{h-1} + K_h),   T_0 = S_0,
        T_L = K'_L T_{L-1} + K_L   for the last.

    "flatten" is the sum of T_L over equal pixels, "gap" its mean over all pairs of pixels. The
    recursion was derived and checked against finite networks and the golden numbers of the tests.
    Networks with orthogonal weights have the same limit (Huang, Du and Xu, arXiv:2004.05867, whose
    theorem for convolutions could not be read).

    Work per pair of images: one arc-cosine step per layer and pair of pixels, of equal pixels for
    "flatten", (height width)^2 for "gap". A few units of roundoff of sqrt(K(x,x) K(y,y)), exact
    for equal images; pixels without variance have K = 0.

    References
    ----------
    .. [1] S. Arora et al., "On exact computation with an infinitely wide neural net", NeurIPS 2019.
    .. [2] R. Novak et al., "Bayesian deep convolutional networks with many channels are Gaussian
       processes", ICLR 2019.

    Examples
    --------
    >>> import numpy as np, ntkfast as nf
    >>> images = np.eye(4).reshape(2, 2, 4, 1)
    >>> nf.Convolutional(2, readout="gap").ntk(images).round(6)
    array([[0.063615, 0.051452],
           [0.051452, 0.063615]])
    """

    depth: int
    filter_size: int = 3
    readout: str = "flatten"
    window: int | None = None
    padding: str = "zero"
    parameterization: str = "unit"
    w_std: float = SQRT2
    b_std: float = 0.0
    train_first: bool = True
    train_last: bool = True
    shape: Shape | None = None

    def __init__(
        self,
        depth: int,
        *,
        filter_size: int = 3,
        readout: str = "flatten",
        window: int | None = None,
        padding: str = "zero",
        parameterization: str = "unit",
        w_std: float = SQRT2,
        b_std: float = 0.0,
        train_first: bool = True,
        train_last: bool = True,
        shape: Shape | None = None,
    ) -> None:
        checked = Conv(filter_size, w_std, b_std, padding)
        last = Readout(readout, window)
        _set(
            self,
            depth=inputs.count("depth", depth, least=1),
            filter_size=checked.filter_size,
            readout=last.kind,
            window=last.window,
            padding=checked.padding,
            parameterization=inputs.choice("parameterization", parameterization, PARAMETERIZATIONS),
            w_std=checked.w_std,
            b_std=checked.b_std,
            train_first=bool(train_first),
            train_last=bool(train_last),
            shape=_checked_shape(shape),
        )
        if self.parameterization == "unit" and self.b_std:
            raise ValueError('b_std: belongs to parameterization="ntk"')

    def __repr__(self) -> str:
        parts = [
            f"{field.name}={getattr(self, field.name)!r}"
            for field in fields(self)[1:]
            if getattr(self, field.name) != field.default
        ]
        return f"Convolutional({', '.join([repr(self.depth), *parts])})"

    def steps(self) -> tuple[Step, ...]:
        """Return the steps from the image to the read-out."""
        q, w, b = self.filter_size, self.w_std, self.b_std
        # Weights of variance 1: the first window sum of "unit" is not divided by q^2.
        first = Conv(
            q, q if self.parameterization == "unit" else w, b, self.padding, self.train_first
        )
        return (first, "relu", *(Conv(q, w, b, self.padding), "relu") * (self.depth - 1))

    def last(self) -> Readout:
        """Return the read-out."""
        unit = self.parameterization == "unit"
        w = self.w_std / self.filter_size if unit else self.w_std
        return Readout(self.readout, self.window, w, self.b_std, self.train_last, mean=not unit)

    @property
    def divides_by_channels(self) -> bool:
        """Whether inner products of pixels are divided by the number of channels."""
        return self.parameterization == "ntk"


def myrtle(
    depth: int = 5,
    *,
    readout: str = "gap",
    w_std: float = SQRT2,
    b_std: float = 0.0,
    shape: Shape | None = None,
) -> ConvNet:
    """Return a Myrtle network: 3 x 3 convolutions with 2 x 2 average pools between them.

    Parameters
    ----------
    depth : {5, 7, 10}
        5 stands for 2, 1, 1 convolutions with ReLU in three groups, 7 for 2, 2, 2 and 10 for
        3, 3, 3; a pool follows each of the first two groups. The read-out counts as a layer.
    readout : {"gap", "flatten"}
        After the last group; "gap" is the pool over 8 x 8 pixels of the reference, whose images
        have 32 x 32.
    w_std, b_std : float
        Standard deviations of weights and biases, the read-out included.
    shape : (height, width, channels), optional
        As for `ConvNet`.

    Returns
    -------
    ConvNet

    Raises
    ------
    ValueError
        If the depth is none of the three.

    Notes
    -----
    Checked against the authors' release (modestyachts/neural_kernels_code, configs/myrtle5.yaml,
    myrtle7.yaml and myrtle10.yaml): the numbers of convolutions, zero padding, and the places and
    sizes of the pools. Not checked: their scales of weights, and their preprocessing (which this
    function leaves to the caller). They use the kernel without tangents, ``nngp``.

    References
    ----------
    .. [1] V. Shankar et al., "Neural kernels without tangents", ICML 2020.

    Examples
    --------
    >>> import numpy as np, ntkfast as nf
    >>> nf.myrtle(5).nngp(np.ones((1, 8, 8, 3))).round(4)
    array([[0.243]])
    """
    groups = {5: (2, 1, 1), 7: (2, 2, 2), 10: (3, 3, 3)}
    if depth not in groups:
        raise ValueError(f"depth: expected 5, 7 or 10, got {depth!r}")
    layer = (Conv(3, w_std, b_std), "relu")
    first, second, third = (layer * count for count in groups[depth])
    steps = (*first, AvgPool(2), *second, AvgPool(2), *third)
    return ConvNet(*steps, readout=Readout(readout, None, w_std, b_std), shape=shape)


# ---- from steps to constants --------------------------------------------------------------------


def _convolutions(steps: Sequence[Step]) -> list[Conv]:
    found: list[Conv] = []
    for step in steps:
        if isinstance(step, Conv):
            found.append(step)
        elif isinstance(step, Skip):
            found += _convolutions(step.branch)
    return found


def _is_circular(steps: Sequence[Step]) -> bool:
    circular = {conv.padding == "circular" for conv in _convolutions(steps)}
    if len(circular) > 1:
        raise ValueError('padding: expected "circular" for all convolutions or for none')
    return True in circular


def _nesting(steps: Sequence[Step], slot: int) -> None:
    for step in steps:
        if isinstance(step, Skip):
            if slot >= MAX_SLOTS:
                raise ValueError(f"Skip: expected at most {MAX_SLOTS} nested branches")
            _nesting(step.branch, slot + 1)


class _Table:
    """Rows of numbers, one per step, and the shapes between them."""

    def __init__(self, height: int, width: int) -> None:
        self.rows: list[tuple[float, ...]] = []
        self.shapes = [(height, width)]

    def add(self, steps: Sequence[Step], slot: int = 0) -> None:
        for step in steps:
            shape = self.shapes[-1]
            if isinstance(step, Skip):
                self._put(SAVE, slot=slot)
                self.add(step.branch, slot + 1)
                if self.shapes[-1] != shape:
                    raise ValueError(
                        f"Skip: expected a branch that keeps the shape {shape}, "
                        f"got {self.shapes[-1]}"
                    )
                self._put(ADD, slot=slot)
            elif isinstance(step, Conv):
                self._convolve(step)
            elif isinstance(step, AvgPool):
                if any(size % step.size for size in shape):
                    raise ValueError(
                        f"AvgPool: expected a size that divides the image, "
                        f"got {step.size} for {shape[0]} x {shape[1]} pixels"
                    )
                after = shape[0] // step.size, shape[1] // step.size
                self._put(POOL, size=step.size, shape=after)
            else:
                self._put(RELU)

    def _convolve(self, step: Conv) -> None:
        q, shape = step.filter_size, self.shapes[-1]
        if step.padding != "zero" and q > min(shape):
            raise ValueError(
                f"filter_size: expected at most {min(shape)} for images of {shape[0]} x {shape[1]} "
                f"pixels and padding={step.padding!r}, got {q}"
            )
        valid = step.padding == "valid"
        after = (shape[0] - q + 1, shape[1] - q + 1) if valid else shape
        self._put(
            CONV,
            size=q,
            valid=valid,
            gain=step.w_std**2 / q**2,
            bias=step.b_std**2,
            trained=float(step.trained),
            shape=after,
        )

    def _put(
        self,
        op: int,
        *,
        size: int = 1,
        slot: int = 0,
        valid: bool = False,
        gain: float = 1.0,
        bias: float = 0.0,
        trained: float = 0.0,
        shape: tuple[int, int] | None = None,
    ) -> None:
        self.rows.append((op, size, slot, valid, gain, bias, trained))
        self.shapes.append(shape or self.shapes[-1])


def _reaches(table: _Table, last: tuple[int, int], end: int) -> list[tuple[int, int]]:
    """Return the largest displacements at each level that `last` at level `end` asks for."""
    found = [(-1, -1)] * len(table.shapes)
    found[end] = last
    for k in range(end - 1, -1, -1):
        size = int(table.rows[k][1]) if table.rows[k][0] == POOL else 1
        h, w = (
            min(size * reach + size - 1, limit - 1)
            for reach, limit in zip(found[k + 1], table.shapes[k], strict=True)
        )
        found[k] = h, w
    return found


def _weights(readout: Readout, size: int) -> NDArray[np.float64]:
    """Weights of the read-out along one axis, for each pair of pixels."""
    if readout.kind == "gap":
        return np.full((size, size), 1.0 / size**2)
    share = 1.0 / size if readout.mean else 1.0
    if readout.kind == "flatten":
        return np.eye(size) * share
    assert readout.window is not None
    distance = np.abs(np.subtract.outer(np.arange(size), np.arange(size)))
    inside = (distance <= readout.window // 2).astype(np.float64) / readout.window
    return np.asarray(inside.T @ inside) * share


@lru_cache(maxsize=256)
def image_plan(
    steps: tuple[Step, ...], readout: Readout, divides_by_channels: bool, shape: Shape
) -> ImagePlan:
    """Return the constants of a network for images of one shape (height, width, channels)."""
    height, width, channels = shape
    table = _Table(height, width)
    table.add(steps)
    end = len(table.rows)
    reach = {"gap": 1 << 30, "flatten": 0, "lap": (readout.window or 1) - 1}[readout.kind]
    sizes = table.shapes[-1]
    reaches = _reaches(table, (min(reach, sizes[0] - 1), min(reach, sizes[1] - 1)), end)
    pools = [k + 1 for k, row in enumerate(table.rows) if row[0] == POOL]
    own = _reaches(table, (0, 0), pools[-1]) if pools else [(-1, -1)] * (end + 1)
    levels = [(*a, *b, *c) for a, b, c in zip(table.shapes, reaches, own, strict=True)]
    circular = _is_circular(steps)
    convolutions = _convolutions(steps)
    return ImagePlan(
        steps=np.array(table.rows, IMAGE_STEP),
        levels=np.array(levels, IMAGE_LEVEL),
        channels=channels,
        circular=circular,
        weight_h=_weights(readout, sizes[0]) * readout.w_std**2,
        weight_w=_weights(readout, sizes[1]),
        trained=float(readout.trained),
        bias=readout.b_std**2,
        input_scale=1.0 / channels if divides_by_channels else 1.0,
        homogeneous=not readout.b_std and not any(conv.b_std for conv in convolutions),
    )
