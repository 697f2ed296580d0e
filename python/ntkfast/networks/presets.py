"""Convolutional networks of the literature, by their names."""

from __future__ import annotations

from typing import Any

from ntkfast.arrays.collections import Shape
from ntkfast.networks.convolutional import ConvNet
from ntkfast.networks.steps import SQRT2, AvgPool, Conv, Readout


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
