"""Derivatives of kernels of images and sequences by their inputs: pair after pair, in NumPy."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ntkfast.arrays.collections import FloatArray, Weights
from ntkfast.arrays.panels import panels
from ntkfast.engines import Run
from ntkfast.kernels.base import KernelOfNetwork
from ntkfast.kernels.moving import gradient_weights

PANEL_BYTES = 1 << 23  # of what a walk keeps of its pairs
# Rows and columns, and their inputs: which of them are one and the same.
Block = tuple[slice, slice, tuple[Any, Any, NDArray[np.bool_]]]


class EachPair(KernelOfNetwork):
    """A kernel whose pairs are walked forth and back, a block of them at a time.

    Gradients have one row per input, which ends in zeros where an input is shorter than others.
    """

    @abstractmethod
    def _alone(self, X: Any) -> Any:
        """Return what walks ask of inputs by themselves; it can be sliced like them."""

    @abstractmethod
    def _pair_bytes(self, X: Any) -> int:
        """How much a walk keeps of a pair, about."""

    @abstractmethod
    def _each_gradient(self, X: Any, Y: Any, own: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Return the gradients of the kernels of all pairs by the first of them.

        Parameters
        ----------
        X, Y
            n and m inputs, as `_alone` returned them.
        own : (n, m) array
            Which pairs are an input and itself, of a symmetric matrix.

        Returns
        -------
        (n, m, numbers of the longest input) array
        """

    def _weighted(
        self, X: Any, Y: Any, own: NDArray[np.bool_], V: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Return the sums over Y of these gradients with weights V, (n, numbers) array."""
        return np.asarray(np.einsum("ij,ijk->ik", V, self._each_gradient(X, Y, own)))

    @np.errstate(all="ignore")  # results that are not finite are told
    def _gradient(self, X: Any, Y: Any, V: Weights, out: FloatArray, run: Run) -> None:
        left = self._alone(X)
        right = left if Y is None else self._alone(Y)
        for part, weights in gradient_weights(X, Y, V):
            total = np.zeros(out[part].shape)
            for rows, columns, block in self._blocks(X, left[part], right, part.start, Y is None):
                weight = weights[rows, columns].astype(np.float64)
                each = self._weighted(*block, weight)
                total[rows, : each.shape[1]] += each
            out[part] = total

    @np.errstate(all="ignore")
    def _moving(self, X: Any, Y: Any, dX: FloatArray, out: FloatArray, run: Run) -> None:
        left = self._alone(X)
        right = left if Y is X else self._alone(Y)
        for rows, columns, block in self._blocks(X, left, right, 0, Y is X):
            each = self._each_gradient(*block)
            steps = dX[rows, : each.shape[2]].astype(np.float64)
            out[rows, columns] = np.einsum("ijk,ik->ij", each, steps)

    def _blocks(
        self, X: Any, left: Any, right: Any, start: int, symmetric: bool
    ) -> Iterator[Block]:
        """Yield blocks of pairs; `start` is the number of the first row on the left."""
        size = self._pair_bytes(X) + 16 * self._movable(X, None)[1]
        for columns in panels(len(right), size, PANEL_BYTES):
            others = right[columns]
            for rows in panels(len(left), size * len(others), PANEL_BYTES):
                numbers = np.arange(start + rows.start, start + rows.stop)
                own = numbers[:, None] == np.arange(columns.start, columns.stop)
                yield rows, columns, (left[rows], others, own & symmetric)
