"""Gradients of a finite network at random weights, the features every other map is measured by."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ntkfast import inputs
from ntkfast.features.base import FeatureMap
from ntkfast.features.sketches import HadamardSketch
from ntkfast.maps import FloatArray


class GradientFeatures(FeatureMap):
    """Gradients of a finite ReLU network by its weights: the empirical NTK of one random network.

    The baseline: the error is of order 1/sqrt(width), and the features number as many as the
    parameters, about width^2.

    Parameters
    ----------
    depth : int, default 1
        Hidden layers L of ``ntkfast.FullyConnected(L)``, whose NTK is approximated.
    n_components : int, default 1024
        At most so many features: the width is the largest one with no more parameters. If even
        width 1 has more they are sketched down by `SRHT`.
    random_state : int, RandomState or None
        As everywhere in scikit-learn.

    Attributes
    ----------
    width_ : int
        Neurons of each hidden layer.

    Examples
    --------
    >>> import numpy as np
    >>> from ntkfast.features import GradientFeatures
    >>> GradientFeatures(2, n_components=100, random_state=0).fit_transform(np.eye(5)).shape
    (5, 91)
    """

    def __init__(
        self, depth: int = 1, *, n_components: int = 1024, random_state: Any = None
    ) -> None:
        self.depth = depth
        self.n_components = n_components
        self.random_state = random_state

    def _draw(self, X: FloatArray, generator: np.random.Generator) -> int:
        depth, dim = inputs.count("depth", self.depth, least=1), X.shape[1]
        width = 1
        while parameters(dim, depth, width + 1) <= self.n_components:
            width += 1
        self.width_ = width
        sizes = [dim, *[width] * depth]
        self.weights_: list[NDArray[Any]] = [
            generator.normal(size=pair) for pair in pairwise(sizes)
        ]
        self.readout_ = generator.normal(size=width)
        self.count_ = parameters(dim, depth, width)
        self.down_ = None
        if self.count_ > self.n_components:
            self.down_ = HadamardSketch(self.count_, self.n_components, generator)
        return min(self.count_, int(self.n_components))

    def _width(self) -> int:
        return self.count_

    def _write(self, X: FloatArray, out: FloatArray) -> None:
        if self.down_ is None:
            self._gradients(X, out)
            return
        full = np.empty((len(X), self.count_), X.dtype)
        self._gradients(X, full)
        out[...] = self.down_(full)

    def _gradients(self, X: FloatArray, out: FloatArray) -> None:
        """Write the gradients of the read-out, then of the layers from the last to the first."""
        gain = X.dtype.type(np.sqrt(2 / self.width_))
        weights = [W.astype(X.dtype, copy=False) for W in self.weights_]
        values = [X]
        for W in weights:
            values.append(np.maximum(values[-1] @ W, 0) * gain)
        out[:, : self.width_] = values[-1]
        back = np.broadcast_to(self.readout_.astype(X.dtype), values[-1].shape)
        first = self.width_
        for W, before, after in zip(weights[::-1], values[-2::-1], values[:0:-1], strict=True):
            back = back * (after > 0) * gain
            count = W.size
            block = before[:, :, None] * back[:, None, :]
            out[:, first : first + count] = block.reshape(len(X), count)
            back, first = back @ W.T, first + count


def parameters(dim: int, depth: int, width: int) -> int:
    """Return the number of weights of a network without biases."""
    return dim * width + (depth - 1) * width**2 + width
