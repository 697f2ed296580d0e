"""Infinitely wide convolutional networks on images."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from functools import lru_cache
from typing import Any

from ntkfast.activations.base import Activation
from ntkfast.arrays import checks, layout
from ntkfast.arrays.collections import Shape
from ntkfast.engines.maps import ImagePlan
from ntkfast.kernels.images import ImageKernel
from ntkfast.kernels.layers import Layers
from ntkfast.networks.base import PARAMETERIZATIONS, ActivationLike, Network, short_repr
from ntkfast.networks.composed import Composed, Dense, Residual, dense_layers
from ntkfast.networks.gaussian import check_gaussian
from ntkfast.networks.steps import (
    SQRT2,
    Conv,
    ImageStep,
    Pair,
    Readout,
    checked_steps,
    is_circular,
    nesting,
)


def checked_shape(shape: object) -> Shape | None:
    """Return (height, width, channels), or None."""
    if shape is None:
        return None
    if not isinstance(shape, (tuple, list)) or len(shape) != 3:
        raise ValueError(f"shape: expected (height, width, channels), got {shape!r}")
    height, width, channels = (checks.count("shape", size, least=1) for size in shape)
    return height, width, channels


class ImageNetwork(Network):
    """An infinitely wide convolutional network; subclasses give its steps and read-out."""

    parameterization: str
    shape: Shape | None
    channels: str | None

    @abstractmethod
    def steps(self) -> tuple[ImageStep, ...]:
        """Return the steps from the image to the read-out."""

    @abstractmethod
    def last(self) -> Readout:
        """Return the read-out."""

    def head_layers(self) -> Layers:
        """Return the dense layers behind the read-out: none, but for those of a head."""
        return ()

    def activations(self) -> tuple[Activation, ...]:
        """Return the activations among the steps of the plan, in its order."""
        return _activations_of(self)

    @property
    def divides_by_channels(self) -> bool:
        """Whether inner products of pixels are divided by the number of channels."""
        return self.parameterization == "ntk"

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
            If a filter or a pool does not fit in the image, or the shapes of two ways differ.
        """
        return _plan_of(self, shape)

    def least_variance(self, first: float) -> float:
        """Return the smallest variance of pixels on the way of one that begins with `first`."""
        return _least_variance(self, first)


# What small sets of images would spend their time on, asked for once.


@lru_cache(maxsize=256)
def _plan_of(network: ImageNetwork, shape: Shape) -> ImagePlan:
    from ntkfast.networks.image_plan import image_plan  # imports stay few

    return image_plan(network.steps(), network.last(), network.divides_by_channels, shape)


@lru_cache(maxsize=256)
def _activations_of(network: ImageNetwork) -> tuple[Activation, ...]:
    from ntkfast.networks.image_plan import activations_of

    return tuple(activations_of(network.steps()))


@lru_cache(maxsize=256)
def _least_variance(network: ImageNetwork, first: float) -> float:
    from ntkfast.networks.image_plan import least_variance

    return least_variance(network.steps(), first)


@dataclass(frozen=True, init=False)
class ConvNet(ImageNetwork):
    """A convolutional network composed by hand.

    Parameters
    ----------
    *steps : Conv, AvgPool, SumPool, LayerNorm, Dropout, Skip, Add, ..., or an activation
        Applied in order, the first one a convolution. Activations by name or as
        `ntkfast.Activation`, ReLU the fastest. Functions, and activations without a compiled dual,
        are walked in NumPy.
    readout : Readout or str, default "gap"
        That of `Convolutional` is "flatten", as in the paper that it follows.
    parameterization : {"ntk", "unit"}, default "ntk"
        Whether inner products of pixels are divided by the number of channels. **The default is
        not that of** `Convolutional`, the network of theory, which has "unit": composition speaks
        the language of neural-tangents, as `compose` does.
    shape : (height, width, channels), optional
        Of the images in the rows of 2-D input.
    channels : {"last", "first"}, optional
        Where images have their axis of channels: "first" takes (n, channels, height, width) arrays,
        and rows that hold one channel after the other. Default: "last", with a warning where the
        shape of an array looks otherwise.
    head : sequence, optional
        Behind the read-out, which is a dense layer: what `compose` takes, as in
        ``head=("relu", Dense(1.4))``, any activation included.

    Raises
    ------
    ValueError
        If a step is unknown, or circular padding stands beside another. If an activation or a
        `LayerNorm` follows an activation, or a sum with the output of one, with no `Conv` between:
        its input is not Gaussian. If a branch is correlated with what it is added to.

    Notes
    -----
    Behind an `AvgPool` nearly parallel pixels have lost their angle to the root of rounding, beside
    biases that dwarf the images too (docs/accuracy.md).

    ``Conv(q, w, b, stride=s), "relu"`` is ``Conv(1, (q, q), (s, s), W_std=w, b_std=b,
    padding="SAME"), Relu()`` of neural-tangents, ``readout=Readout("gap", w_std=w)`` its
    ``GlobalAvgPool(), Dense(1, w)``.

    Examples
    --------
    >>> import numpy as np, ntkfast as nf
    >>> block = nf.Skip("relu", nf.Conv(), "relu", nf.Conv())
    >>> net = nf.ConvNet(nf.Conv(), block, nf.AvgPool(), block, "relu", readout="flatten")
    >>> net.ntk(np.ones((2, 4, 4, 3))).round(4)
    array([[2.9891, 2.9891],
           [2.9891, 2.9891]])
    """

    positional = "elements"

    elements: tuple[ImageStep, ...]
    readout: Readout
    parameterization: str
    shape: Shape | None
    channels: str | None
    head: tuple[Any, ...]

    def __init__(
        self,
        *steps: ImageStep,
        readout: Readout | str = "gap",
        parameterization: str = "ntk",
        shape: Shape | None = None,
        channels: str | None = None,
        head: Sequence[Dense | Residual | ActivationLike] = (),
    ) -> None:
        checks.store(
            self,
            elements=checked_steps(steps),
            readout=readout if isinstance(readout, Readout) else Readout(readout),
            parameterization=checks.choice("parameterization", parameterization, PARAMETERIZATIONS),
            shape=checked_shape(shape),
            channels=layout.checked_channels(channels),
            head=Composed((Dense(), *head)).elements[1:] if head else (),
        )
        if not steps or not isinstance(steps[0], Conv):
            raise ValueError("steps: expected a Conv first")
        is_circular(self.elements)
        nesting(self.elements, 0)
        check_gaussian("steps", self.elements, "Conv")

    def __repr__(self) -> str:
        parts = [*map(repr, self.elements), f"readout={self.readout!r}"]
        parts += [f"parameterization={self.parameterization!r}"] * (self.parameterization != "ntk")
        parts += [f"shape={self.shape}"] * (self.shape is not None)
        parts += [f"channels={self.channels!r}"] * (self.channels is not None)
        parts += [f"head={self.head!r}"] * bool(self.head)
        return f"ConvNet({', '.join(parts)})"

    def steps(self) -> tuple[ImageStep, ...]:
        """Return the steps from the image to the read-out."""
        return self.elements

    def last(self) -> Readout:
        """Return the read-out."""
        return self.readout

    def head_layers(self) -> Layers:
        """Return the dense layers behind the read-out."""
        return dense_layers(self.head)


@dataclass(frozen=True, repr=False)
class Convolutional(ImageNetwork):
    """An infinitely wide convolutional network of equal ReLU layers: the CNTK.

    Parameters
    ----------
    depth : int
        Number of convolutions, each followed by ReLU.
    filter_size : int or (int, int), default 3
        Rows and columns of the windows.
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
        ``Dense(1, w_std, b_std)``, all trained. **Networks made with** `ConvNet` **have that
        default.**
    w_std : float, default sqrt(2)
        Standard deviation of the weights; in "unit" the root of the paper's c_sigma.
    b_std : float, default 0
        Standard deviation of the biases, for "ntk".
    train_first, train_last : bool, default True
        Whether the first convolution and the read-out contribute to the NTK. The authors' results
        with global average pooling have both fixed.
    shape : (height, width, channels), optional
        Of the images in the rows of 2-D input, as scikit-learn and `ntkfast.features` pass them.
    channels : {"last", "first"}, optional
        Where images have their axis of channels: "first" takes (n, channels, height, width) arrays,
        and rows that hold one channel after the other. Default: "last", with a warning where the
        shape of an array looks otherwise.

    Raises
    ------
    TypeError, ValueError
        If a parameter has the wrong type or range, a window without "lap" among them; on calling a
        kernel, if images do not fit.

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
    _: KW_ONLY
    filter_size: int | Pair = 3
    readout: str = "flatten"
    window: int | None = None
    padding: str = "zero"
    parameterization: str = "unit"
    w_std: float = SQRT2
    b_std: float = 0.0
    train_first: bool = True
    train_last: bool = True
    shape: Shape | None = None
    channels: str | None = None

    def __post_init__(self) -> None:
        conv = Conv(self.filter_size, self.w_std, self.b_std, self.padding)
        last = Readout(self.readout, self.window)
        checks.store(
            self,
            depth=checks.count("depth", self.depth, least=1),
            filter_size=conv.filter_size,
            readout=last.kind,
            window=last.window,
            padding=conv.padding,
            parameterization=checks.choice(
                "parameterization", self.parameterization, PARAMETERIZATIONS
            ),
            w_std=conv.w_std,
            b_std=conv.b_std,
            train_first=bool(self.train_first),
            train_last=bool(self.train_last),
            shape=checked_shape(self.shape),
            channels=layout.checked_channels(self.channels),
        )
        if self.parameterization == "unit" and self.b_std:
            raise ValueError('b_std: belongs to parameterization="ntk"')

    __repr__ = short_repr

    @property
    def _root(self) -> float:
        rows, columns = Conv(self.filter_size).window
        return float(rows) if rows == columns else math.sqrt(rows * columns)

    def steps(self) -> tuple[ImageStep, ...]:
        """Return the steps from the image to the read-out."""
        q, w, b = self.filter_size, self.w_std, self.b_std
        # Weights of variance 1: the first window sum of "unit" is not divided by its pixels.
        start = self._root if self.parameterization == "unit" else w
        first = Conv(q, start, b, self.padding, self.train_first)
        return (first, "relu", *(Conv(q, w, b, self.padding), "relu") * (self.depth - 1))

    def last(self) -> Readout:
        """Return the read-out."""
        unit = self.parameterization == "unit"
        w = self.w_std / self._root if unit else self.w_std
        return Readout(self.readout, self.window, w, self.b_std, self.train_last, mean=not unit)
