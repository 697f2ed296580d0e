"""Kernels as functions of collections of inputs: Gram matrices, diagonals, products."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ntkfast import card, engines, inputs
from ntkfast.engines.card_array import CardArray
from ntkfast.maps import Collection, FloatArray

PANEL_BYTES = 1 << 22  # buffer for results that pass through one


class Kernel(ABC):
    """A positive semidefinite function of two inputs.

    Kernels are immutable, hashable and picklable. Calling one gives a Gram matrix::

        K = kernel(X)       # (n, n), symmetric to the bit, exact diagonal
        K = kernel(X, Y)    # (n, m)

    What an input is depends on the kernel: a row of a matrix for most, a sequence for those of
    recurrent networks. float32 and float64 are kept; integers and bools become float64; other
    types are refused.

    Kernels of rows, images and sequences of one length take arrays on a CUDA device too (CuPy,
    PyTorch, anything with ``__cuda_array_interface__`` or ``__dlpack__``): all arrays of a call lie
    on one device then and have one type and rows of unit stride, and the result is an array of the
    same library there, computed in its current stream. Nothing but norms, numbers per row and the
    sequences themselves passes the host.
    """

    @abstractmethod
    def _pair(self, X: ArrayLike, Y: ArrayLike | None) -> tuple[Collection, Collection | None]:
        """Validate inputs and bring them to one dtype; None for Y: the symmetric matrix."""

    def _pair_on_card(
        self, X: CardArray, Y: CardArray | None
    ) -> tuple[Collection, Collection | None]:
        """Validate inputs that lie on a graphics card; their memory is a `CardArray`."""
        raise TypeError(f"X: {self!r} takes arrays of the host, got one on a CUDA device")

    @abstractmethod
    def _gram(
        self,
        X: Collection,
        Y: Collection | None,
        out: FloatArray,
        engine: engines.Engine,
        threads: int,
    ) -> None:
        """Write the Gram matrix to an array of any strides."""

    @abstractmethod
    def _values(self, X: Collection) -> FloatArray:
        """Kernel of each input with itself."""

    @abstractmethod
    def check_shapes(self, X: tuple[int, ...], Y: tuple[int, ...] | None = None) -> None:
        """Raise an error naming the array that cannot hold inputs of this kernel, by its shape.

        Parameters
        ----------
        X, Y : tuples of int
            Shapes of arrays whose first axis counts inputs.

        Raises
        ------
        ValueError
            If the number of axes is wrong, an axis is empty, or the two do not fit.
        """

    def collect(self, X: ArrayLike) -> Any:
        """Validate inputs once, for many calls.

        Parameters
        ----------
        X : inputs of the kernel

        Returns
        -------
        collection
            With a length, a dtype and `astype`; slices and integer arrays pick inputs; kernels
            take it in place of `X`. An array, where the inputs are rows of one.

        Raises
        ------
        TypeError, ValueError
            As for calling the kernel.
        """
        return self._pair(X, None)[0]

    def __call__(
        self,
        X: ArrayLike,
        Y: ArrayLike | None = None,
        *,
        out: FloatArray | None = None,
        engine: str | None = None,
        threads: int | None = None,
    ) -> FloatArray:
        """Return the Gram matrix K(X, Y).

        Parameters
        ----------
        X : (n, d) array, or other inputs of the kernel
            Rows are inputs.
        Y : (m, d) array, or other inputs of the kernel, optional
            Left out, or the same object as `X`: the symmetric matrix K(X, X), at half the work.
        out : (n, m) array, optional
            Where to write the result, with any strides; `numpy.memmap` included.
        engine : {"native", "numba", "cuda"}, optional
            Default: the fastest one installed, see `ntkfast.show_config`.
        threads : int, optional
            Default: `ntkfast.get_num_threads`.

        Returns
        -------
        (n, m) array of the common dtype of X and Y
            `out` if it was given.

        Raises
        ------
        TypeError, ValueError
            If an argument has the wrong type, shape or range, or holds NaN or infinity.
        """
        if card.lies_on_card(X):
            on_card: FloatArray = card.gram(self, X, Y, out, engine)
            return on_card
        left, right = self._pair(X, Y)
        shape = len(left), len(left if right is None else right)
        result = inputs.output("out", out, shape, left.dtype)
        inputs.disjoint("out", result, X=left, Y=right)
        self._gram(left, right, result, engines.select(engine), engines.count(threads))
        return result

    def diag(self, X: ArrayLike) -> FloatArray:
        """Return the diagonal of K(X, X) without the matrix.

        Parameters
        ----------
        X : (n, d) array, or other inputs of the kernel

        Returns
        -------
        (n,) array of the dtype of X
        """
        if card.lies_on_card(X):
            on_card: FloatArray = card.diag(self, X)
            return on_card
        return self._values(self._pair(X, None)[0])

    def matmul(
        self,
        X: ArrayLike,
        Y: ArrayLike | None,
        V: ArrayLike,
        *,
        out: FloatArray | None = None,
        engine: str | None = None,
        threads: int | None = None,
    ) -> FloatArray:
        """Return K(X, Y) @ V; the Gram matrix exists one cache-sized tile at a time.

        Parameters
        ----------
        X : (n, d) array, or other inputs of the kernel
        Y : (m, d) array, or other inputs of the kernel, or None
            None stands for X.
        V : (m,) or (m, c) array
        out : array of the result's shape, optional
        engine, threads
            As for calling the kernel.

        Returns
        -------
        (n,) or (n, c) array of the common dtype of X and Y
            Sums over tiles are kept in float64.
        """
        if card.lies_on_card(X):
            on_card: FloatArray = card.matmul(self, X, Y, V, out, engine)
            return on_card
        left, right = self._pair(X, Y)
        matrix, vector = inputs.columns("V", V, len(left if right is None else right))
        matrix = matrix.astype(left.dtype, copy=False)
        shape = len(left), matrix.shape[1]
        column = out[:, None] if vector and isinstance(out, np.ndarray) and out.ndim == 1 else out
        result = inputs.output("out", column, shape, left.dtype)
        inputs.disjoint("out", result, X=left, Y=right, V=matrix)
        run, count = engines.select(engine), engines.count(threads)
        contiguous = result if result.strides[1] == result.itemsize else np.empty(shape, left.dtype)
        self._product(left, right, matrix, contiguous, run, count)
        if contiguous is not result:
            result[...] = contiguous
        if out is not None:
            return out
        return result[:, 0] if vector else result

    def _product(
        self,
        X: Collection,
        Y: Collection | None,
        V: FloatArray,
        out: FloatArray,
        engine: engines.Engine,
        threads: int,
    ) -> None:
        """Write K(X, Y) V to an array whose rows have unit stride, panel by panel."""
        if isinstance(V, CardArray) and isinstance(out, CardArray):
            card.product(self, X, Y, V, out, engine, threads)
            return
        right, wide = X if Y is None else Y, V.astype(np.float64, copy=False)
        height = max(1, PANEL_BYTES // (len(right) * V.itemsize))
        for first in range(0, len(X), height):
            part = X[first : first + height]
            panel = np.empty((len(part), len(right)), X.dtype)
            self._gram(part, right, panel, engine, threads)
            if Y is None:  # an input with itself may be more than a pair of equal inputs
                np.einsum("ii->i", panel[:, first : first + len(part)])[:] = self._values(part)
            out[first : first + height] = panel @ wide


class KernelOfNetwork(Kernel):
    """One of the two kernels of a network, as a value: equal for equal networks and kinds.

    Attributes
    ----------
    network : network
    kind : {"ntk", "nngp"}
    """

    __slots__ = ("kind", "network")

    network: Any
    kind: str

    def __init__(self, network: Any, kind: str) -> None:
        object.__setattr__(self, "network", network)
        object.__setattr__(self, "kind", inputs.choice("kind", kind, ("ntk", "nngp")))

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"kernels are immutable, cannot set {name!r}")

    def __repr__(self) -> str:
        return f"{self.network!r}.{self.kind}"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, type(self)):
            return NotImplemented
        return (self.kind, self.network) == (other.kind, other.network)

    def __hash__(self) -> int:
        return hash((self.kind, self.network))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.network, self.kind)


def checked_kernel(kernel: object) -> Kernel:
    """Return `kernel`, or raise an error saying what it is instead."""
    if not isinstance(kernel, Kernel):
        hint = "; a network has two: .ntk and .nngp" if hasattr(kernel, "ntk") else ""
        raise TypeError(f"kernel: expected a Kernel, got {type(kernel).__name__}{hint}")
    return kernel
