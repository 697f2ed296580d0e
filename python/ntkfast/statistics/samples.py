"""Two samples as one pool with labels: halves for training and testing, permuted weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from ntkfast.arrays import checks
from ntkfast.arrays.foreign import host_array
from ntkfast.kernels.base import Kernel

Weights = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Pool:
    """Inputs of both samples and their labels, True for the first.

    Attributes
    ----------
    Z : (N, ...) array, or a collection of inputs
    labels : (N,) array of bool
    """

    Z: Any
    labels: NDArray[np.bool_]

    def weights(self) -> Weights:
        """Return 1/n for the first sample and -1/m for the second: the difference of means."""
        first = int(self.labels.sum())
        return np.where(self.labels, 1 / first, -1 / (len(self.labels) - first))

    def permuted(self, count: int, generator: Generator) -> Weights:
        """Return weights of the true labels and of `count` permutations, as columns."""
        columns = np.repeat(self.weights()[:, None], count + 1, axis=1)
        columns[:, 1:] = generator.permuted(columns[:, 1:], axis=0)
        return columns

    def split(self, share: float, generator: Generator) -> tuple[Pool, Pool]:
        """Return a part with this share of both samples, and the rest.

        Raises
        ------
        ValueError
            If a part would lack one of the samples.
        """
        chosen = np.zeros(len(self.labels), bool)
        for label in (True, False):
            members = np.flatnonzero(self.labels == label)
            count = round(share * len(members))
            if not 0 < count < len(members):
                raise ValueError(
                    f"split: a share of {share:g} of {len(members)} inputs leaves a part empty"
                )
            chosen[generator.choice(members, count, replace=False)] = True
        parts = (np.flatnonzero(some) for some in (chosen, ~chosen))
        part, rest = (Pool(self.Z[some], self.labels[some]) for some in parts)
        return part, rest


def pool(X: Any, Y: Any, kernel: Kernel | None = None) -> Pool:
    """Join two samples; lists and sequences as the kernel reads them, if its inputs are no rows.

    Raises
    ------
    TypeError, ValueError
        If they are no arrays of numbers, or inputs of X and of Y have different shapes.
    """
    if (
        kernel is not None
        and not kernel.of_rows
        and not (hasattr(X, "ndim") and hasattr(Y, "ndim"))
    ):
        return Pool(kernel.collect([*X, *Y]), np.arange(len(X) + len(Y)) < len(X))
    first, second = (checks.real_array(n, host_array(n, a)) for n, a in (("X", X), ("Y", Y)))
    if first.ndim < 2 or 0 in first.shape:
        raise ValueError(f"X: expected shape (inputs, features), got {first.shape}")
    if second.shape[1:] != first.shape[1:] or not len(second):
        wanted = ", ".join(["*", *map(str, first.shape[1:])])
        raise ValueError(f"Y: expected shape ({wanted}), got {second.shape}")
    labels = np.arange(len(first) + len(second)) < len(first)
    return Pool(np.concatenate([first, second]), labels)
