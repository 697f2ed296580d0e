"""What a place does for a call: validation, results, and the work between products."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ntkfast.arrays.collections import Collection, FloatArray, Images, Rows, Shape
from ntkfast.arrays.ragged import Sequences
from ntkfast.engines import Engine, Run, count


class Output(NamedTuple):
    """A result in the making.

    Attributes
    ----------
    target : matrix
        What an engine writes.
    memory : matrix
        Where it has to be at the end: the target itself, unless that needed other strides.
    value : array
        What the caller gets.
    """

    target: FloatArray
    memory: FloatArray
    value: Any

    def finish(self) -> Any:
        """Return the result."""
        if self.target is not self.memory:
            self.memory[...] = self.target
        return self.value


class Place(ABC):
    """The host, or the CUDA device on which the arrays of a call lie.

    Arrays of a device are views that nobody reads here; engines write to their memory.
    """

    panel_bytes: int  # of a Gram matrix that is multiplied
    feature_bytes: int  # of an array between the steps of features

    @abstractmethod
    def engine(self, name: str | None) -> Engine:
        """Return the engine of this name, or the one to use, if it can read arrays that lie here.

        Raises
        ------
        ValueError, RuntimeError
            If there is none of that name, or it cannot.
        """

    def run(self, engine: str | None, threads: int | None = None) -> Run:
        """Return how a call computes here; raises as `engine`."""
        return Run(self.engine(engine), count(threads))

    # ---- inputs ----------------------------------------------------------------------------------

    @abstractmethod
    def matrix(self, name: str, value: Any) -> FloatArray:
        """Return a float32 or float64 matrix whose rows have unit stride.

        Raises
        ------
        TypeError, ValueError
            Naming the argument, if it is none or empty.
        """

    @abstractmethod
    def rows(self, X: Any, Y: Any) -> tuple[Rows, Rows | None]:
        """Return rows with finite norms, in one dtype; None for Y: the symmetric matrix.

        Raises
        ------
        TypeError, ValueError
            Naming the argument and the row.
        """

    @abstractmethod
    def images(
        self, X: Any, Y: Any, wanted: Shape | None, fits: Callable[[Shape], object]
    ) -> tuple[Images, Images | None]:
        """Return images of one shape, which `fits` accepts, in one dtype.

        Raises
        ------
        TypeError, ValueError
            Naming the argument and the image.
        """

    @abstractmethod
    def sequences(self, X: Any, Y: Any) -> list[tuple[Sequences, NDArray[Any]]]:
        """Return one or two collections of sequences in one dtype, and the arrays that hold them.

        Raises
        ------
        TypeError, ValueError
            Naming the argument and the sequence.
        """

    @abstractmethod
    def factor(
        self, V: Any, count: int, like: Collection, name: str = "V"
    ) -> tuple[FloatArray, bool]:
        """Return V of a product as a matrix of `count` rows, and whether it was a vector.

        Raises
        ------
        TypeError, ValueError
            If its type or shape is wrong, or it holds NaN or infinity.
        """

    # ---- results ---------------------------------------------------------------------------------

    @abstractmethod
    def output(
        self,
        out: Any,
        shape: tuple[int, int],
        like: Collection,
        dtype: np.dtype[Any] | None = None,
        **read: Collection | None,
    ) -> Output:
        """Check the `out` of a call, or make one, of the dtype of `like` or on the host another.

        Raises
        ------
        TypeError, ValueError
            If its type or shape is wrong, it is read-only, or overlaps what is read.
        """

    @abstractmethod
    def product_output(
        self, out: Any, shape: tuple[int, int], like: Collection, vector: bool, **read: Any
    ) -> Output:
        """Return the same for a product, whose target has rows of unit stride."""

    @abstractmethod
    def transformed(self, X: Any, out: Any) -> tuple[FloatArray, Output]:
        """Return a matrix and where its transform goes, row by row, which may be its own memory.

        Raises
        ------
        TypeError, ValueError
            If the type or shape of either is wrong, or `out` is read-only.
        """

    @abstractmethod
    def values(self, values: FloatArray, like: Collection) -> Any:
        """Return numbers of the host, one for each input, where the inputs lie."""

    @abstractmethod
    def row_norms(self, X: Any) -> FloatArray:
        """Return Euclidean norms of rows, on the host: NaN or inf if a row holds one."""

    @abstractmethod
    def finite(self, array: Any) -> bool:
        """Whether all numbers of a matrix are finite."""

    # ---- between products ------------------------------------------------------------------------

    @abstractmethod
    def empty(self, like: Any, shape: tuple[int, int]) -> FloatArray:
        """Return memory of the dtype of `like`, in which anything may be."""

    @abstractmethod
    def clear(self, array: Any) -> None:
        """Write zeros."""

    @abstractmethod
    def beside(self, left: Any, right: Any) -> FloatArray:
        """Return the columns of both matrices in one."""

    @abstractmethod
    def add_turned(self, matrix: Any, part: Any) -> None:
        """Add the transpose of `part` to a matrix."""

    @abstractmethod
    def add_mirrored(self, matrix: Any) -> None:
        """Add its transpose to a square matrix: the sum is symmetric to the bit."""

    @abstractmethod
    def multiply(self, A: Any, V: Any, out: Any, diagonal: FloatArray | None, shift: int) -> None:
        """Write A V, sums in float64; entries (i, i + shift) of A are `diagonal` first, if given.

        `A` may be overwritten.
        """
