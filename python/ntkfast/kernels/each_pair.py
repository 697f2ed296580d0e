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
Parts = Iterator[tuple[slice, NDArray[np.float64]]]


class EachPair(KernelOfNetwork):
    """A kernel whose pairs are walked forth and back, one input against some others at a time.

    Gradients have one row per input, which ends in zeros where an input is shorter than others.
    """

    @abstractmethod
    def _alone(self, X: Any) -> Any:
        """Return what walks ask of inputs by themselves; it can be sliced like them."""

    @abstractmethod
    def _pair_bytes(self, X: Any) -> int:
        """How much a walk keeps of a pair, about."""

    @abstractmethod
    def _each_gradient(self, x: Any, Y: Any, own: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Return the gradients of the kernels of one input and some others by the one.

        Parameters
        ----------
        x, Y
            As `_alone` returned them.
        own : (m,) array
            Which of the others are the very input, of a symmetric matrix.

        Returns
        -------
        (m, numbers of the input) array
        """

    def _gradient(self, X: Any, Y: Any, V: Weights, out: FloatArray, run: Run) -> None:
        weights = (row for _, part in gradient_weights(X, Y, V) for row in part)
        for to, row, parts in zip(out, weights, self._gradients(X, Y), strict=True):
            total: Any = sum(row[columns].astype(np.float64) @ each for columns, each in parts)
            to[: total.size], to[total.size :] = total, 0

    def _moving(self, X: Any, Y: Any, dX: FloatArray, out: FloatArray, run: Run) -> None:
        for to, step, parts in zip(out, dX, self._gradients(X, None if Y is X else Y), strict=True):
            for columns, each in parts:
                to[columns] = each @ step[: each.shape[1]].astype(np.float64)

    def _gradients(self, X: Any, Y: Any) -> Iterator[Parts]:
        """Yield for each input the others, part by part, with the gradients of their kernels."""
        left, number = self._alone(X), np.arange(len(X if Y is None else Y))
        right = left if Y is None else self._alone(Y)

        def parts(i: int) -> Parts:
            for columns in panels(len(number), self._pair_bytes(X), PANEL_BYTES):
                own = (number[columns] == i) & (Y is None)
                yield columns, self._each_gradient(left[i : i + 1], right[columns], own)

        yield from map(parts, range(len(X)))
