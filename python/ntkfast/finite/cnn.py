"""Finite convolutional networks: a dense layer at every pixel, on the patch around it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ntkfast.arrays import checks
from ntkfast.arrays.collections import FloatArray, Shape
from ntkfast.finite.factors import Factors, PixelFactors
from ntkfast.finite.network import FiniteNetwork
from ntkfast.finite.weights import Init
from ntkfast.networks.base import ActivationLike
from ntkfast.networks.convolutional import ConvNet, checked_shape
from ntkfast.networks.steps import PADDINGS, Conv, Readout, odd
from ntkfast.support.randomness import RNG

TILE_BYTES = 1 << 28  # of the gradients of a tile of images
Pixels = NDArray[Any]  # (..., height, width, channels)


@dataclass(frozen=True, eq=False, repr=False, init=False)
class CNN(FiniteNetwork):
    """A convolutional network of finite width with random weights, as a value.

    With ``z_0 = x``, ``z_l = s(h_l)`` and P(z) the patches of filter_size x filter_size pixels,
    the convolutions l = 0 ... L-1 are::

        h_(l+1) = w_std[l] / sqrt(filter_size^2 channels[l]) W_l^T P(z_l) + b_std[l] b_l

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
    filter_size : int, default 3
        Odd.
    padding : {"zero", "valid", "circular"}
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
        The infinitely wide network, of ReLUs. Orthogonal and sparse weights have the same.
    ntk, nngp : Kernel
        The empirical kernels of these very weights.

    Raises
    ------
    TypeError, ValueError
        If a parameter has the wrong type, range or length, or valid padding leaves no pixels.

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
    filter_size: int
    padding: str
    readout: str
    zero_bias = False

    def __init__(
        self,
        shape: Shape,
        channels: Sequence[int],
        outputs: int = 1,
        activation: ActivationLike = "relu",
        *,
        filter_size: int = 3,
        padding: str = "zero",
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
        checks.store(
            self,
            shape=checked,
            channels=wide,
            outputs=checks.count("outputs", outputs, least=1),
            filter_size=odd("filter_size", filter_size),
            padding=checks.choice("padding", padding, PADDINGS),
            readout=checks.choice("readout", readout, ("gap", "flatten")),
        )
        self._initialize(len(wide) + 1, activation, init, w_std, b_std, trained)
        if self.padding == "valid" and min(self._pixels(self.depth)) < 1:
            raise ValueError(
                f"shape: {self.depth} valid convolutions with filter_size={self.filter_size} "
                f"leave no pixels of {checked[0]} x {checked[1]}"
            )
        self._draw(np.random.default_rng(rng))

    def __repr__(self) -> str:
        return f"CNN({self.shape}, {self.channels}, {self.outputs}, {self.activation.name!r})"

    @property
    def depth(self) -> int:
        """Number of convolutions."""
        return len(self.channels)

    def _pixels(self, layer: int) -> tuple[int, int]:
        lost = layer * (self.filter_size - 1) if self.padding == "valid" else 0
        return self.shape[0] - lost, self.shape[1] - lost

    def _sizes(self) -> list[tuple[int, int]]:
        """Return fan-in and fan-out of the layers."""
        wide = (self.shape[2], *self.channels)
        sizes = [(self.filter_size**2 * before, after) for before, after in pairwise(wide)]
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
            return self._patches(z.reshape(len(z), *self._pixels(layer), -1))
        flat = z.reshape(len(z), -1) if self.readout == "flatten" else z.mean(axis=(1, 2))
        return np.asarray(flat, z.dtype)

    def _unread(self, layer: int, back: Pixels) -> Pixels:
        """Return the transpose of `_read`: (n, outputs, height, width, channels)."""
        return self._from_patches(back, layer) if layer < self.depth else self._to_pixels(back)

    def _gradients(self, layer: int) -> Callable[..., Factors | PixelFactors]:
        return PixelFactors.of if layer < self.depth else Factors

    def _patches(self, z: Pixels) -> Pixels:
        """Return (n, height, width, filter_size^2 channels)."""
        q = self.filter_size
        if self.padding != "valid":
            edge = (q // 2, q // 2)
            mode: Any = "constant" if self.padding == "zero" else "wrap"
            z = np.pad(z, ((0, 0), edge, edge, (0, 0)), mode)
        views = np.lib.stride_tricks.sliding_window_view(z, (q, q), axis=(1, 2))
        return np.moveaxis(views, 3, 5).reshape(*views.shape[:3], -1)

    def _from_patches(self, patches: Pixels, layer: int) -> Pixels:
        """Return the transpose of `_patches`: (n, outputs, height, width, channels) of z_l."""
        q, (height, width) = self.filter_size, self._pixels(layer)
        rows, columns = patches.shape[2:4]
        parts = patches.reshape(*patches.shape[:4], q, q, -1)
        whole = np.zeros(
            (*patches.shape[:2], rows + q - 1, columns + q - 1, parts.shape[-1]), patches.dtype
        )
        for i in range(q):
            for j in range(q):
                whole[:, :, i : i + rows, j : j + columns] += parts[:, :, :, :, i, j]
        if self.padding == "valid":
            return whole
        edge = q // 2
        if self.padding == "zero":
            return whole[:, :, edge : edge + height, edge : edge + width]
        return _folded(_folded(whole, 2, edge, height), 3, edge, width)

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
            If the activation is not ReLU.
        """
        if self.activation.name != "relu":
            raise ValueError(
                f"activation: expected relu for the limit of images, got {self.activation.name!r}"
            )
        steps: list[Any] = []
        for w, b, trained in zip(self.w_std, self.b_std, self.trained[:-1], strict=False):
            steps += [Conv(self.filter_size, w, b, self.padding, trained), "relu"]
        last = Readout(
            self.readout, w_std=self.w_std[-1], b_std=self.b_std[-1], trained=self.trained[-1]
        )
        return ConvNet(*steps, readout=last, shape=self.shape)


def _folded(whole: Pixels, axis: int, edge: int, size: int) -> Pixels:
    """Add the edges of a circle to where they were copied from."""
    index = (np.arange(whole.shape[axis]) - edge) % size
    result = np.zeros((*whole.shape[:axis], size, *whole.shape[axis + 1 :]), whole.dtype)
    np.add.at(np.moveaxis(result, axis, 0), index, np.moveaxis(whole, axis, 0))
    return result
