"""Products with a Gram matrix that is never stored, counted and shown on a progress bar."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ntkfast.arrays.collections import FloatArray
from ntkfast.kernels.evaluation import Evaluation
from ntkfast.support.progress import Bar

Vectors = NDArray[np.float64]


class Passes:
    """K(X, X) as an operator on blocks of vectors; a pass over all pairs costs n^2 kernel values.

    Parameters
    ----------
    kernel : Evaluation
    X : (n, d) array
        Passes run in its dtype; blocks go in and come out as float64.
    bar : Bar
        Counts them.

    Attributes
    ----------
    count : int
        Passes so far.
    """

    def __init__(self, kernel: Evaluation, X: FloatArray, bar: Bar) -> None:
        self.kernel, self.X, self.bar, self.count = kernel, X, bar, 0

    def __call__(self, V: Vectors) -> Vectors:
        """Return K @ V."""
        return self._product(self.X, V)

    def exact(self, V: Vectors) -> Vectors:
        """Return K @ V from a float64 pass, whatever the dtype of X."""
        return self._product(self.X.astype(np.float64, copy=False), V)

    def _product(self, X: FloatArray, V: Vectors) -> Vectors:
        product = self.kernel.matmul(X, None, V).astype(np.float64, copy=False)
        self.count += 1
        self.bar.update()
        return product
