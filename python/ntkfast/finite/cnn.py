"""Finite convolutional networks: a dense layer at every pixel, on the patch around it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ntkfast.arrays import checks
from ntkfast.arrays.collections import FloatArray, Shape
from ntkfast.finite.factors import Factors, PixelFactors
from ntkfast.finite.network import FiniteNetwork
from ntkfast.finite.weights import Init
from ntkfast.finite.windows import Pixels, Windows
from ntkfast.networks.base import ActivationLike
from ntkfast.networks.convolutional import ConvNet, checked_shape
from ntkfast.networks.steps import Conv, Padding, Pair, Readout
from ntkfast.support.randomness import RNG

TILE_BYTES = 1 << 28  # of the gradients of a tile of images


@dataclass(frozen=True, eq=False, repr=False, init=False)
class CNN(FiniteNetwork):
    """A convolutional network of finite width with random weights, as a value.

    With ``z_0 = x``, ``z_l = s(h_l)`` and P(z) the patches of rows x columns pixels of a filter,
    the convolutions l = 0 ... L-1 are::

        h_(l+1) = w_std[l] / sqrt(rows columns channels[l]) W_l^T P(z_l) + b_std[l] b_l

    at every pixel, as ``Conv`` of neural-tangents and of `ntkfast.ConvNet`; the read-out is a dense
    layer on all of z_L, or on its mean over pixels. Weights have variance 1.

    Parameters
    ----------
    shape : (height, width, channels)
        Of the images.
    channels : sequence of int
        Of the convolutions: ``(c_1, ..., c_L)``.
    outputs : int, default 1
    activation : str, Activation or callable, default "relu"
        See `ntkfast.Activation`.
    filter_size : int or (int, int), default 3
        Rows and columns of the windows.
    padding : {"zero", "valid", "circular"} or numbers
        As for `ntkfast.Conv`.
    stride : int, (int, int) or a list of these, default 1
        Rows and columns from one window to the next: of all convolutions, or one per convolution.
    readout : {"gap", "flatten"}
        The mean over pixels, or every pixel with weights of its own.
    init : {"gaussian", "orthogonal", "sparse"}, Sparse or Orthogonal
        Law of the weights, for convolutions of the matrix from patches to channels.
    w_std : float or sequence of float, optional
        One for all layers, or one per layer, the read-out last. Default:
        ``1 / sqrt(E[s(Z)^2])``, sqrt 2 for ReLU.
    b_std : float or sequence of float, default 0
        Of the Gaussian biases. 0: no biases.
    trained : bool or sequence of bool, default True
        Whether the weights and biases of the layers count as parameters.
    rng : int, Generator or None

    Attributes
    ----------
    weights : tuple of (fan_in, fan_out) arrays
        Of convolutions the rows are those of a patch: rows, columns, channels.
    biases : tuple of (fan_out,) arrays
    limit : ConvNet
        The infinitely wide network, if the dual of the activation has a closed form. Orthogonal
        and sparse weights have the same.
    ntk, nngp : Kernel
        The empirical kernels of these very weights.

    Raises
    ------
    TypeError, ValueError
        If a parameter has the wrong type, range or length, or a filter does not fit.

    Notes
    -----
    The gradient by a convolution adds up over pixels, so that it is no outer product: the NTK is
    formed from the gradients of one layer and one tile of images at a time.

    References
    ----------
    .. [1] S. Arora et al., "On exact computation with an infinitely wide neural net", NeurIPS 2019.
    .. [2] W. Huang, W. Du, R. Y. D. Xu, arXiv:2004.05867 (orthogonal weights; the limit is checked
       here by Monte Carlo).

    Examples
    --------
    >>> import numpy as np
    >>> import ntkfast as nf
    >>> net = nf.finite.CNN((4, 4, 3), (32, 32))
    >>> X = np.random.default_rng(0).normal(size=(5, 4, 4, 3))
    >>> net(X).shape, net.ntk(X).shape
    ((5, 1), (5, 5))
    """

    shape: Shape
    channels: tuple[int, ...]
    outputs: int
    filter_size: int | Pair
    padding: Padding
    stride: int | Pair | list[int | Pair]
    readout: str
    zero_bias = False

    def __init__(
        self,
        shape: Shape,
        channels: Sequence[int],
        outputs: int = 1,
        activation: ActivationLike = "relu",
        *,
        filter_size: int | Pair = 3,
        padding: Padding = "zero",
        stride: int | Pair | list[int | Pair] = 1,
        readout: str = "gap",
        init: str | Init = "gaussian",
        w_std: float | Sequence[float] | None = None,
        b_std: float | Sequence[float] = 0.0,
        trained: bool | Sequence[bool] = True,
        rng: RNG = 0,
    ) -> None:
        wide = tuple(checks.count("channels", width, least=1) for width in channels)
        if not wide:
            raise ValueError("channels: expected at least one convolution, got none")
        checked = checked_shape(shape)
        if checked is None:
            raise TypeError("shape: expected (height, width, channels), got None")
        strides = stride if isinstance(stride, list) else [stride] * len(wide)
        if len(strides) != len(wide):
            raise ValueError(
                f"stride: expected one value or {len(wide)}, one per convolution, "
                f"got {len(strides)}"
            )
        first = Conv(filter_size, padding=padding, stride=strides[0])
        checks.store(
            self,
            shape=checked,
            channels=wide,
            outputs=checks.count("outputs", outputs, least=1),
            filter_size=first.filter_size,
            padding=first.padding,
            stride=list(strides) if isinstance(stride, list) else first.stride,
            readout=checks.choice("readout", readout, ("gap", "flatten")),
        )
        assert self._windows[-1].counts  # so that a filter that does not fit is told here
        self._initialize(len(wide) + 1, activation, init, w_std, b_std, trained)
        self._draw(np.random.default_rng(rng))

    def __repr__(self) -> str:
        return f"CNN({self.shape}, {self.channels}, {self.outputs}, {self.activation.name!r})"

    @property
    def depth(self) -> int:
        """Number of convolutions."""
        return len(self.channels)

    def _pixels(self, layer: int) -> Pair:
        windows = self._windows
        return windows[layer].pixels if layer < self.depth else windows[-1].counts

    @property
    def _convs(self) -> tuple[Conv, ...]:
        strides = self.stride if isinstance(self.stride, list) else [self.stride] * self.depth
        return tuple(Conv(self.filter_size, padding=self.padding, stride=one) for one in strides)

    @property
    def _windows(self) -> list[Windows]:
        found: list[Windows] = []
        for conv in self._convs:
            found.append(Windows(conv, found[-1].counts if found else self.shape[:2]))
        return found

    def _sizes(self) -> list[tuple[int, int]]:
        """Return fan-in and fan-out of the layers."""
        wide = (self.shape[2], *self.channels)
        rows, columns = self._convs[0].window
        sizes = [(rows * columns * before, after) for before, after in pairwise(wide)]
        height, width = self._pixels(self.depth)
        last = wide[-1] if self.readout == "gap" else height * width * wide[-1]
        return [*sizes, (last, self.outputs)]

    @property
    def tile_rows(self) -> int:
        """Images whose gradients are held at a time."""
        parameters = sum((fan_in + 1) * fan_out for fan_in, fan_out in self._sizes())
        return max(1, TILE_BYTES // (8 * self.outputs * parameters))

    def check_shape(self, name: str, shape: tuple[int, ...]) -> None:
        """Raise an error if an array of this shape holds no images of the network."""
        checks.image_shape(name, shape, self.shape)

    def rows(self, X: ArrayLike, name: str = "X") -> FloatArray:
        """Return images as a matrix, one image per row.

        Parameters
        ----------
        X : (n, height, width, channels) array, or (n, height width channels) rows

        Raises
        ------
        TypeError, ValueError
            If they are none.
        """
        images = checks.images(name, X, self.shape)
        return np.ascontiguousarray(images).reshape(len(images), -1)

    def _read(self, layer: int, z: Pixels) -> Pixels:
        """Return patches, for the last layer the row that it is applied to."""
        if layer < self.depth:
            return self._windows[layer].read(z.reshape(len(z), *self._pixels(layer), -1))
        flat = z.reshape(len(z), -1) if self.readout == "flatten" else z.mean(axis=(1, 2))
        return np.asarray(flat, z.dtype)

    def _unread(self, layer: int, back: Pixels) -> Pixels:
        """Return the transpose of `_read`: (n, outputs, height, width, channels)."""
        return self._windows[layer].unread(back) if layer < self.depth else self._to_pixels(back)

    def _gradients(self, layer: int) -> Callable[..., Factors | PixelFactors]:
        return PixelFactors.of if layer < self.depth else Factors

    def _to_pixels(self, back: Pixels) -> Pixels:
        """Return the transpose of `_read` for the last layer."""
        pixels = self._pixels(self.depth)
        if self.readout == "flatten":
            return back.reshape(*back.shape[:2], *pixels, -1)
        return np.broadcast_to(
            back[:, :, None, None] / (pixels[0] * pixels[1]),
            (*back.shape[:2], *pixels, back.shape[2]),
        )

    @property
    def limit(self) -> ConvNet:
        """The network of infinite width with the same recursion.

        Raises
        ------
        ValueError
            If the dual of the activation has no closed form.
        """
        steps: list[Any] = []
        scales = zip(self._convs, self.w_std, self.b_std, self.trained, strict=False)
        for conv, w, b, trained in scales:
            steps += [replace(conv, w_std=w, b_std=b, trained=trained), self.activation]
        last = Readout(
            self.readout, w_std=self.w_std[-1], b_std=self.b_std[-1], trained=self.trained[-1]
        )
        return ConvNet(*steps, readout=last, shape=self.shape)
