"""Steps on the neurons of a layer, without weights: layer normalization and dropout."""

from __future__ import annotations

from dataclasses import dataclass

from ntkfast.activations.polynomials import Masking
from ntkfast.arrays import checks
from ntkfast.networks.gaussian import Masks, Normalization


@dataclass(frozen=True)
class LayerNorm(Normalization):
    """Layer normalization: division by the deviation of a layer's signals, input by input.

    It takes the mean off the neurons or channels and divides by their root mean square [1]_. In a
    wide layer the mean is zero and the variance that of the recursion, so that the layer divides by
    a constant of the input. Gains and shifts of neurons are not part of it: the next layer has
    weights and biases. Pixels without variance stay zero; of a dense layer without variance, of a
    row of zeros without biases, the NTK lacks what is trained before.

    Attributes
    ----------
    over : {"channels", "all"}, default "channels"
        In images every pixel by the deviation of its own channels, or all pixels by that of all
        pixels and channels: ``LayerNorm(axis=-1)`` and ``LayerNorm(axis=(1, 2, 3))`` of
        neural-tangents. In `compose` there are neurons only.

    References
    ----------
    .. [1] J. Ba, J. Kiros, G. Hinton, "Layer normalization", arXiv:1607.06450.

    Examples
    --------
    >>> import numpy as np, ntkfast as nf
    >>> net = nf.compose(nf.Dense(2.0), nf.LayerNorm(), "relu", nf.Dense(2**0.5))
    >>> net.nngp.diag(np.array([[3.0, 4.0], [6.0, 8.0]])).round(12)
    array([1., 1.])
    """

    over: str = "channels"

    def __post_init__(self) -> None:
        checks.store(self, over=checks.choice("over", self.over, ("channels", "all")))


@dataclass(frozen=True)
class Dropout(Masks):
    """Dropout, as in training: some neurons are zero, the others are larger.

    A neuron is zero with the probability `rate`, else it is divided by ``1 - rate``. Every input
    has a mask of its own in every such layer, drawn anew at every place where it is passed. An
    input with itself, on the diagonal of ``kernel(X)``, has one mask: its variance and NTK are
    divided by ``1 - rate``. Two inputs have two independent ones, which leave their covariance as
    it is, even if they are equal: two equal rows of X, and one row in X and in Y. In images every
    pixel has masks of its own, so that of an image with itself only the covariances of a pixel with
    itself grow. After training nothing is dropped: that is the network without this step.

    Attributes
    ----------
    rate : float
        The probability of being dropped, in [0, 1), as in PyTorch. ``Dropout`` of neural-tangents
        takes that of being kept, ``1 - rate``.

    Examples
    --------
    >>> import numpy as np, ntkfast as nf
    >>> net = nf.compose(nf.Dense(), "relu", nf.Dropout(0.5), nf.Dense())
    >>> net.nngp(np.ones((2, 3))).round(4)  # two masks for two equal rows
    array([[1. , 0.5],
           [0.5, 1. ]])
    """

    rate: float

    def __post_init__(self) -> None:
        checks.store(self, rate=checks.number("rate", self.rate, least=0.0))
        if self.rate >= 1:
            raise ValueError(
                f"rate: expected a probability below 1 of being dropped, got {self.rate}"
            )

    @property
    def masking(self) -> Masking:
        """What it does to kernels."""
        return Masking(1 - self.rate)
