"""Convolutional networks of the literature, by their names."""

from __future__ import annotations

from typing import Any

from ntkfast.arrays import checks
from ntkfast.arrays.collections import Shape
from ntkfast.networks.convolutional import ConvNet
from ntkfast.networks.steps import SQRT2, AvgPool, Conv, Readout, Skip


def myrtle(
    depth: int = 5,
    *,
    readout: str = "gap",
    w_std: float = SQRT2,
    b_std: float = 0.0,
    shape: Shape | None = None,
    channels: str | None = None,
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
    channels : {"last", "first"}, optional
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
    last = Readout(readout, None, w_std, b_std)
    return ConvNet(*steps, readout=last, shape=shape, channels=channels)


def _blocks(depth: object, rest: int) -> int:
    """Return n of a depth of 6 n + rest."""
    layers = checks.count("depth", depth, least=1)
    if layers <= rest or layers % 6 != rest:
        few = ", ".join(str(6 * n + rest) for n in range(1, 4))
        raise ValueError(f"depth: expected {few}, ..., 6 n + {rest}, got {layers}")
    return layers // 6


def resnet(
    depth: int = 20,
    *,
    w_std: float = SQRT2,
    b_std: float = 0.0,
    shape: Shape | None = None,
    channels: str | None = None,
) -> ConvNet:
    """Return the residual network of He et al. for small images, with activations before weights.

    Parameters
    ----------
    depth : int
        20, 32, 44, 56, 110, ...: 6 n + 2 for three groups of n blocks of two 3 x 3 convolutions.
        The second and the third group begin with a stride of 2.
    w_std, b_std : float
        Standard deviations of weights and biases, the read-out included.
    shape : (height, width, channels), optional
    channels : {"last", "first"}, optional
        As for `ConvNet`.

    Returns
    -------
    ConvNet
        With global average pooling.

    Raises
    ------
    ValueError
        If there is no such depth.

    Notes
    -----
    Where a stride changes the size, the shortcut is a 1 x 1 convolution of that stride, of the
    activated signal (option B of [1]_, placed as in [2]_). There is no batch normalisation: its
    statistics are those of a batch, and a kernel has none.

    References
    ----------
    .. [1] K. He et al., "Deep residual learning for image recognition", CVPR 2016.
    .. [2] K. He et al., "Identity mappings in deep residual networks", ECCV 2016.

    Examples
    --------
    >>> import numpy as np, ntkfast as nf
    >>> nf.resnet(8).nngp(np.ones((1, 8, 8, 3))).round(2)
    array([[4.63]])
    """
    conv, down = Conv(3, w_std, b_std), Conv(3, w_std, b_std, stride=2)
    block = Skip("relu", conv, "relu", conv)
    narrow = "relu", Skip(down, "relu", conv, shortcut=Conv(1, w_std, b_std, stride=2))
    rest = (block,) * (_blocks(depth, 2) - 1)
    steps: tuple[Any, ...] = (conv, block, *rest, *narrow, *rest, *narrow, *rest, "relu")
    last = Readout("gap", None, w_std, b_std)
    return ConvNet(*steps, readout=last, shape=shape, channels=channels)


def wide_resnet(
    depth: int = 28,
    *,
    w_std: float = 1.0,
    b_std: float = 0.0,
    shape: Shape | None = None,
    channels: str | None = None,
) -> ConvNet:
    """Return the WideResnet of the README of neural-tangents.

    Parameters
    ----------
    depth : int
        10, 16, 22, 28, ...: 6 n + 4 for three groups of n blocks of two 3 x 3 convolutions, the
        ``block_size`` n of the README. How wide its layers are, k in "WRN-28-k", makes no
        difference to the limit.
    w_std, b_std : float
        Standard deviations of weights and biases of convolutions; the read-out has 1 and 0.
    shape : (height, width, channels), optional
    channels : {"last", "first"}, optional
        As for `ConvNet`.

    Returns
    -------
    ConvNet
        With global average pooling, which is ``AvgPool((8, 8))`` for images of 32 x 32.

    Raises
    ------
    ValueError
        If there is no such depth.

    Notes
    -----
    The first block of each group has a 3 x 3 convolution on its shortcut, with the stride of the
    group: 1, 2 and 2. Nothing is activated before the read-out.

    References
    ----------
    .. [1] S. Zagoruyko and N. Komodakis, "Wide residual networks", BMVC 2016.
    .. [2] R. Novak et al., "Neural tangents: fast and easy infinite neural networks in Python",
       ICLR 2020.

    Examples
    --------
    >>> import numpy as np, ntkfast as nf
    >>> nf.wide_resnet(10).nngp(np.ones((1, 8, 8, 3))).round(4)
    array([[0.4822]])
    """
    conv = Conv(3, w_std, b_std)
    block = Skip("relu", conv, "relu", conv)
    rest = (block,) * (_blocks(depth, 4) - 1)
    steps: list[Any] = [conv]
    for stride in (1, 2, 2):
        first = Conv(3, w_std, b_std, stride=stride)
        steps += [Skip("relu", first, "relu", conv, shortcut=first), *rest]
    return ConvNet(*steps, readout=Readout("gap"), shape=shape, channels=channels)
