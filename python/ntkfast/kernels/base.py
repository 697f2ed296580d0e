"""Kernels as functions of collections of inputs: Gram matrices, diagonals, products."""

from __future__ import annotations

from abc import abstractmethod
from functools import partial
from typing import TYPE_CHECKING, Any, Self, TypeVar

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from ntkfast import places
from ntkfast.arrays import checks, rounding
from ntkfast.arrays.collections import Collection, FloatArray
from ntkfast.arrays.panels import PANEL_BYTES, panels
from ntkfast.engines import Run
from ntkfast.kernels.arithmetic import Arithmetic
from ntkfast.kernels.by_parameters import Parametrised
from ntkfast.kernels.filling import fill
from ntkfast.kernels.moving import found_in, moved

if TYPE_CHECKING:
    from scipy.sparse.linalg import LinearOperator

LEAST_ROWS = 16  # of a panel: engines fill vectors with them


class Kernel(Arithmetic, Parametrised):
    """A positive semidefinite function of two inputs.

    Kernels are immutable, hashable and picklable. Calling one gives a Gram matrix::

        K = kernel(X)       # (n, n), symmetric to the bit, exact diagonal
        K = kernel(X, Y)    # (n, m)

    What an input is depends on the kernel: a row of a matrix for most, a sequence for those of
    recurrent networks. float32 and float64 are kept; integers and bools become float64; other
    types are refused.

    Sums ``k1 + k2``, products ``k1 * k2``, multiples ``c * k``, ``k.normalized()``,
    ``k.on(columns)`` and ``k.ard(length_scales)`` are kernels again.

    Kernels of rows, images and sequences of one length take arrays on a CUDA device too (CuPy,
    PyTorch, anything with ``__cuda_array_interface__`` or ``__dlpack__``): all arrays of a call lie
    on one device then and have one type and rows of unit stride, and the result is an array of the
    same library there, computed in its current stream. Nothing but norms, numbers per row and the
    sequences themselves passes the host.

    Attributes
    ----------
    of_rows : bool
        Whether inputs are rows of a matrix, which enter by their norms and their angle.
    network, kind
        The network whose NTK or NNGP it is, and which of the two; None for other kernels.
    """

    of_rows: bool = False
    network: Any = None
    kind: str | None = None

    @property
    def is_zonal(self) -> bool:
        """Whether K(x, y) = |x|^p |y|^p k(u) for all rows, u the cosine of their angle."""
        return False

    @abstractmethod
    def _inputs(self, place: places.Place, X: Any, Y: Any) -> tuple[Collection, Collection | None]:
        """Validate inputs and bring them to one dtype; None for Y: the symmetric matrix."""

    @abstractmethod
    def _gram(self, X: Collection, Y: Collection | None, out: FloatArray, run: Run) -> None:
        """Write the Gram matrix to an array of any strides."""

    def _rounded(self, X: Collection, Y: Collection | None, out: FloatArray, run: Run) -> None:
        """Write the Gram matrix to an array of a smaller type than that of the inputs."""
        fill(partial(self._gram, run=run), X, Y, out)

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
        return self._inputs(places.HOST, X, None)[0]

    @places.through_host
    def __call__(
        self,
        X: ArrayLike,
        Y: ArrayLike | None = None,
        *,
        out: FloatArray | None = None,
        dtype: DTypeLike | None = None,
        engine: str | None = None,
        threads: int | None = None,
        progress: bool | None = False,
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
        dtype : data type, optional
            float32, float16, or bfloat16 of the package ml_dtypes, where that is smaller than the
            type of the inputs: values are computed in the latter and rounded once, to nearest, on
            their way out. Memory beside the result is that of tiles. Not on a device.
        engine : {"native", "numba", "cuda"}, optional
            Default: the fastest one installed, see `ntkfast.show_config`.
        threads : int, optional
            Default: `ntkfast.get_num_threads`.
        progress : bool, optional
            True: a bar of the pairs, if it takes more than a moment; needs tqdm (the extra "cli").
            None: the same on a terminal alone, if tqdm is there. There is none on a device.

        Returns
        -------
        (n, m) array of the common dtype of X and Y, or of `dtype`
            `out` if it was given.

        Raises
        ------
        TypeError, ValueError
            If an argument has the wrong type, shape or range, or holds NaN or infinity; if a value
            does not fit `dtype`.
        """
        place = places.of(X)
        run = place.run(engine, threads)
        left, right = self._inputs(place, X, None if Y is X else Y)
        shape = len(left), len(left if right is None else right)
        computed = left.dtype
        kept = computed if dtype is None else places.result_type(place, dtype, computed)
        result = place.output(out, shape, left, kept, X=left, Y=right)
        write = self._gram if kept == computed else self._rounded
        if progress is False or place is not places.HOST:
            write(left, right, result.target, run)
        else:
            from ntkfast.kernels.pace import fill_with_bar  # rarely needed: imports stay few

            fill_with_bar(partial(write, run=run), left, right, result.target, threads, progress)
        gram: FloatArray = result.finish()
        return gram

    @places.through_host
    def diag(self, X: ArrayLike, *, dtype: DTypeLike | None = None) -> FloatArray:
        """Return the diagonal of K(X, X) without the matrix.

        Parameters
        ----------
        X : (n, d) array, or other inputs of the kernel
        dtype : data type, optional
            As for calling the kernel.

        Returns
        -------
        (n,) array of the dtype of X, or of `dtype`
        """
        place = places.of(X)
        inputs, _ = self._inputs(place, X, None)
        kept = places.result_type(place, dtype, inputs.dtype)
        values = rounding.rounded(self._values(inputs), kept)
        diagonal: FloatArray = place.values(values, inputs)
        return diagonal

    @places.through_host
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
            None, or the same object as `X`: K(X, X) @ V, at half the work.
        V : (m,) or (m, c) array
        out : array of the result's shape, optional
        engine, threads
            As for calling the kernel.

        Returns
        -------
        (n,) or (n, c) array of the common dtype of X and Y
            Sums over tiles are kept in float64; any number of threads gives the same bits.

        Raises
        ------
        ValueError
            If the product overflows, besides what calling the kernel raises.

        Notes
        -----
        K(X, X) @ V evaluates each pair of inputs once, with the values and the diagonal of
        ``kernel(X)``; on a CUDA device pairs within 128 rows twice, and those of kernels without a
        product there. It keeps two (n, c) sums in float64 beside the result, for up to 1024 columns
        at a time; each thread has a few megabytes, and there are no others.
        """
        place = places.of(X)
        run = place.run(engine, threads)
        left, right = self._inputs(place, X, None if Y is X else Y)
        factor, vector = place.factor(V, len(left if right is None else right), left)
        shape = len(left), factor.shape[1]
        result = place.product_output(out, shape, left, vector, X=left, Y=right, V=factor)
        self._product(left, right, factor, result.target, run)
        if not place.finite(result.target):
            raise ValueError(
                f"V: the product with the kernel overflows {factor.dtype}, or V is not finite; "
                "scale V down, or pass X as float64"
            )
        product: FloatArray = result.finish()
        return product

    def operator(
        self,
        X: ArrayLike,
        *,
        ridge: float = 0.0,
        engine: str | None = None,
        threads: int | None = None,
    ) -> LinearOperator:
        """Return K(X, X) + ridge I as a linear operator of SciPy, never stored.

        Solvers that ask for products alone take it: those of `scipy.sparse.linalg`, as `cg`,
        `eigsh` and `lobpcg`, and others.

        Parameters
        ----------
        X : (n, d) array, or other inputs of the kernel
            Checked once, and not copied where the engines can read it.
        ridge : float, default 0
            Added to the diagonal.
        engine, threads
            As for calling the kernel.

        Returns
        -------
        scipy.sparse.linalg.LinearOperator
            (n, n), symmetric, of the dtype of X. A product is one call of `matmul` with it: K V is
            in that dtype, `ridge` V in the larger one of X and V.

        Raises
        ------
        TypeError, ValueError
            If an argument has the wrong type, shape or range, or holds NaN or infinity.

        Examples
        --------
        >>> import numpy as np, ntkfast as nf
        >>> from scipy.sparse.linalg import cg
        >>> X, y = np.random.default_rng(0).standard_normal((40, 5)), np.ones(40)
        >>> kernel = nf.FullyConnected(3).ntk
        >>> alpha, _ = cg(kernel.operator(X, ridge=0.1), y, rtol=1e-10)
        >>> bool(np.allclose(kernel(X) @ alpha + 0.1 * alpha, y))
        True
        """
        from ntkfast.kernels.operator import symmetric_operator

        places.HOST.run(engine, threads)  # says at once what is wrong with them
        inputs, ridge = self.collect(X), checks.number("ridge", ridge, least=0.0)

        def product(V: Any) -> FloatArray:
            return self.matmul(inputs, None, V, engine=engine, threads=threads)

        return symmetric_operator(product, len(inputs), inputs.dtype, ridge)

    def _product(
        self, X: Collection, Y: Collection | None, V: FloatArray, out: FloatArray, run: Run
    ) -> None:
        """Write K(X, Y) V to an array whose rows have unit stride, panel by panel."""
        place, right = places.of(V), X if Y is None else Y
        if Y is None and place is places.HOST:
            if run.groups is None:
                out[...] = self._each_pair_once(X, V, run)
            else:
                from ntkfast.kernels.group_products import write_by_panels  # rarely needed

                write_by_panels(self, X, V, run.groups, out, run)
            return
        for rows in panels(len(X), len(right) * V.itemsize, place.panel_bytes):
            part = X[rows]
            panel = place.empty(V, (len(part), len(right)))
            self._gram(part, right, panel, run)
            # An input with itself may be more than a pair of equal inputs.
            own = self._values(part) if Y is None else None
            place.multiply(panel, V, out[rows], own, rows.start)

    def _each_pair_once(self, X: Collection, V: FloatArray, run: Run) -> NDArray[np.float64]:
        """Return K(X, X) V by panels of the upper half, with sums in float64."""
        factor, sums = V.astype(np.float64, copy=False), np.zeros(V.shape)
        start = 0
        while start < len(X):
            height = max(LEAST_ROWS, PANEL_BYTES // ((len(X) - start) * V.itemsize))
            rows, rest = slice(start, start + height), slice(start + height, None)
            part = X[rows]
            panel = np.empty((len(part), len(X) - start), V.dtype)
            self._gram(part, None, panel[:, : len(part)], run)
            if len(part) < panel.shape[1]:
                self._gram(part, X[rest], panel[:, len(part) :], run)
            values = panel.astype(np.float64, copy=False)
            sums[rows] += values @ factor[start:]
            sums[rest] += values[:, len(part) :].T @ factor[rows]
            start += len(part)
        return sums


Own = TypeVar("Own", bound="KernelOfNetwork")


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
    _hash: int | None = None

    def __init__(self, network: Any, kind: str) -> None:
        checks.store(self, network=network, kind=checks.choice("kind", kind, ("ntk", "nngp")))

    def parameters(self) -> dict[str, float]:
        """Return the deviations of the network; see `Kernel.parameters`."""
        return dict(found_in(self.network))

    def _moved(self, name: str, value: float) -> Self:
        return type(self)(moved(self.network, name, value), self.kind)

    @property
    def parameter_depth(self) -> int:
        """The depth of the network, or a guess."""
        return max(int(getattr(self.network, "depth", 4)), 1)

    def _pair(self: Own) -> tuple[Own, Own]:
        """Return the NTK and the NNGP of the network."""
        return type(self)(self.network, "ntk"), type(self)(self.network, "nngp")

    def _both(
        self, X: Collection, Y: Collection | None, outs: tuple[FloatArray, FloatArray], run: Run
    ) -> None:
        """Write NTK and NNGP of the network; kernels that share work do so here."""
        for kernel, out in zip(self._pair(), outs, strict=True):
            kernel._gram(X, Y, out, run)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"kernels are immutable, cannot set {name!r}")

    def __repr__(self) -> str:
        return f"{self.network!r}.{self.kind}"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, type(self)):
            return NotImplemented
        return (self.kind, self.network) == (other.kind, other.network)

    def __hash__(self) -> int:
        found = self._hash
        if found is None:  # kept: what is remembered of kernels is found by it
            found = hash((self.kind, self.network))
            checks.store(self, _hash=found)
        return found

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.network, self.kind)


@places.through_host
def both_kernels(
    kernel: KernelOfNetwork,
    X: ArrayLike,
    Y: ArrayLike | None,
    engine: str | None,
    threads: int | None,
) -> tuple[FloatArray, FloatArray]:
    """Return the NNGP and NTK Gram matrices of the network of a kernel, in one pass if it can."""
    place = places.of(X)
    run = place.run(engine, threads)
    left, right = kernel._inputs(place, X, None if Y is X else Y)
    shape = len(left), len(left if right is None else right)
    nngp, ntk = (place.output(None, shape, left) for _ in range(2))
    kernel._both(left, right, (ntk.target, nngp.target), run)
    return nngp.finish(), ntk.finish()


def checked_kernel(kernel: object) -> Kernel:
    """Return `kernel`, or raise an error saying what it is instead."""
    if not isinstance(kernel, Kernel):
        hint = "; a network has two: .ntk and .nngp" if hasattr(kernel, "ntk") else ""
        found = type(kernel).__name__
        if isinstance(kernel, type):
            found, hint = f"the class {kernel.__name__}", "; call it with its parameters"
        raise TypeError(f"kernel: expected a Kernel, got {found}{hint}")
    return kernel
