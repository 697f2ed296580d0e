"""Gradients of a finite network at random weights, the features every other map is measured by."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Any

import numpy as np
from numpy.random import Generator

from ntkfast.arrays import checks
from ntkfast.arrays.collections import FloatArray
from ntkfast.features.base import FeatureMap
from ntkfast.features.sketches import HadamardSketch
from ntkfast.finite import MLP


@dataclass(eq=False, repr=False)
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
    net_ : ntkfast.finite.MLP
        The network.

    Examples
    --------
    >>> import numpy as np
    >>> from ntkfast.features import GradientFeatures
    >>> GradientFeatures(2, n_components=100, random_state=0).fit_transform(np.eye(5)).shape
    (5, 91)
    """

    depth: int = 1
    _: KW_ONLY
    n_components: int = 1024
    random_state: Any = None

    def _draw(self, X: FloatArray, generator: Generator) -> int:
        depth, dim = checks.count("depth", self.depth, least=1), X.shape[1]
        width = 1
        while parameters(dim, depth, width + 1) <= self.n_components:
            width += 1
        self.width_ = width
        # sqrt(2 / width) after each ReLU, and plain inner products with the inputs
        gains = [np.sqrt(dim), *[np.sqrt(2)] * depth]
        self.net_ = MLP([dim, *[width] * depth, 1], w_std=gains, rng=generator)
        self.count_ = parameters(dim, depth, width)
        self.down_ = None
        if self.count_ > self.n_components:
            self.down_ = HadamardSketch(self.count_, self.n_components, generator)
        return min(self.count_, int(self.n_components))

    def _width(self) -> int:
        return self.count_

    def _write(self, X: FloatArray, out: FloatArray) -> None:
        found = self.net_.gradients(X)[:, 0]
        out[...] = found if self.down_ is None else self.down_(np.ascontiguousarray(found))


def parameters(dim: int, depth: int, width: int) -> int:
    """Return the number of weights of a network without biases."""
    return dim * width + (depth - 1) * width**2 + width
