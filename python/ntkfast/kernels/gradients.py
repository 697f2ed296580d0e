"""Derivatives of kernels by their inputs: what all kernels share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, TypeAlias

from numpy.typing import ArrayLike

from ntkfast import places
from ntkfast.arrays.collections import Collection, FloatArray, Weights
from ntkfast.arrays.panels import panels
from ntkfast.engines import Run, cuda

WeightsLike: TypeAlias = ArrayLike | tuple[ArrayLike, ArrayLike]


class Differentiable(ABC):
    """A function of pairs of inputs with derivatives, by default none."""

    _on_devices = False  # whether it has derivatives by inputs on a CUDA device

    @abstractmethod
    def _inputs(self, place: places.Place, X: Any, Y: Any) -> tuple[Any, Any]:
        """Validate inputs and bring them to one dtype; None for Y: the symmetric matrix."""

    @abstractmethod
    def collect(self, X: ArrayLike) -> Any:
        """Validate inputs once, for many calls."""

    def _like(self, X: Any, gradient: FloatArray) -> Any:
        """Return a gradient, one row per input, in the form in which inputs were given."""
        return gradient

    def _steps(self, name: str, value: Any, side: Any, columns: int) -> FloatArray:
        """Return directions in which inputs move, one row per input, in their dtype."""
        matrix, _ = places.of(side.memory).factor(value, len(side), side, name)
        if matrix.shape != (len(side), columns):
            raise ValueError(f"{name}: expected shape {(len(side), columns)}, got {matrix.shape}")
        return matrix

    def _movable(self, X: Any, Y: Any) -> tuple[int, int]:
        """Return the shape of a gradient by X, after all that may be wrong with these inputs.

        Raises
        ------
        TypeError
            If the kernel has no derivatives by them.
        """
        raise TypeError(f"kernel: derivatives by inputs are not known of {self!r}")

    def _gradient(self, X: Any, Y: Any, V: Weights, out: FloatArray, run: Run) -> None:
        """Write sum_j V_ij dK(x_i, y_j)/dx_i to an array whose rows have unit stride.

        None for Y stands for X: both places of a pair move then.
        """
        raise NotImplementedError  # not before `_movable` has returned

    @places.through_host
    def vjp(
        self,
        X: ArrayLike,
        Y: ArrayLike | None,
        V: WeightsLike,
        *,
        out: FloatArray | None = None,
        engine: str | None = None,
        threads: int | None = None,
    ) -> FloatArray:
        """Return the gradient of sum_ij V_ij K(X_i, Y_j) by X, a vector-Jacobian product.

        Parameters
        ----------
        X : (n, d) array
        Y : (m, d) array, or None
            None, or the same object as `X`: both places of X move. The gradient by Y is
            ``kernel.vjp(Y, X, V.T)``.
        V : (n, m) array, or pair of (n, r) and (m, r) arrays
            A pair (A, B) means A @ B.T, which is never formed.
        out : (n, d) array, optional
        engine, threads
            As for calling the kernel.

        Returns
        -------
        (n, d) array of the common dtype of X and Y
            Sums over pairs are kept in float64; any number of threads gives the same bits.

        Raises
        ------
        TypeError
            If the kernel has no derivatives by its inputs, or an argument has the wrong type.
        ValueError
            If an argument has the wrong shape or range, holds NaN or infinity, or the gradient
            overflows.

        Notes
        -----
        Neither the kernel nor anything of its size is stored: each thread has a few megabytes.

        On a CUDA device `V` and the result lie there too. Kernels of rows have derivatives there,
        those of one profile or of layers, with strict inner products (see
        `engines.cuda.precision`); those of other kernels are computed by the host, from copies.

        Kernels with a cusp, those of ReLU networks and the Laplace kernel among them, have no
        derivative where two rows are parallel: the part across the rows counts as 0 there, which
        is its mean over all directions, and the part along them is exact. The gradient by a row of
        zeros of a kernel that is homogeneous counts as 0, and so do its pairs. Nothing is NaN.

        Examples
        --------
        >>> import numpy as np, ntkfast as nf
        >>> X = np.array([[1.0, 0.0], [0.0, 2.0]])
        >>> nf.FullyConnected(1).ntk.vjp(X, None, np.ones((2, 2))).round(4)
        array([[5.2732, 4.    ],
               [2.    , 8.6366]])
        """
        place, run = self._place(X, engine, threads)
        left, right = self._inputs(place, X, None if Y is X else Y)
        shape = self._movable(left, right)
        weights = weights_of(place, V, left, right, right is None)
        result = place.product_output(
            out,
            shape,
            left,
            False,
            X=left,
            Y=right,
            V=weights.matrix,
            A=weights.left,
            B=weights.right,
        )
        self._gradient(left, right, weights, result.target, run)
        check_finite(place, result.target)
        gradient: FloatArray = self._like(X, result.finish())
        return gradient

    def _moving(self, X: Any, Y: Any, dX: FloatArray, out: FloatArray, run: Run) -> None:
        """Write dK(x_i, y_j)/dx_i . dX_i to an array whose rows have unit stride."""
        raise NotImplementedError  # not before `_movable` has returned

    @places.through_host
    def jvp(
        self,
        X: ArrayLike,
        Y: ArrayLike | None,
        dX: ArrayLike | None,
        dY: ArrayLike | None = None,
        *,
        out: FloatArray | None = None,
        engine: str | None = None,
        threads: int | None = None,
    ) -> FloatArray:
        """Return the derivative of K(X, Y) as its inputs move along dX and dY.

        Parameters
        ----------
        X : (n, d) array
        Y : (m, d) array, or None
            None, or the same object as `X`: K(X, X), in both places of which X moves along `dX`.
        dX : (n, d) array, or None
            None: X stays.
        dY : (m, d) array, optional
            Left out: Y stays.
        out : (n, m) array, optional
        engine, threads
            As for calling the kernel.

        Returns
        -------
        (n, m) array of the common dtype of X and Y

        Raises
        ------
        TypeError, ValueError
            As for `vjp`; what counts as 0 there does so here.

        Examples
        --------
        >>> import numpy as np, ntkfast as nf
        >>> X = np.array([[1.0, 0.0], [0.0, 2.0]])
        >>> nf.FullyConnected(1).ntk.jvp(X, None, np.ones((2, 2))).round(4)
        array([[4.    , 3.9549],
               [3.9549, 8.    ]])
        """
        place, run = self._place(X, engine, threads)
        symmetric = Y is None or Y is X
        if symmetric and dY is not None:
            raise ValueError("dY: expected none where Y is X, which moves along dX")
        left, right = self._inputs(place, X, None if symmetric else Y)
        columns = self._movable(left, right)[1]
        ways = [
            None if step is None else self._steps(name, step, side, columns)
            for name, step, side in (
                ("dX", dX, left),
                ("dY", dX if symmetric else dY, left if symmetric else right),
            )
        ]
        right = left if right is None else right
        result = place.product_output(
            out, (len(left), len(right)), left, False, X=left, Y=right, dX=ways[0], dY=ways[1]
        )
        if ways[0] is None:
            place.clear(result.target)
        else:
            self._moving(left, right, ways[0], result.target, run)
        if symmetric:
            place.add_mirrored(result.target)
        elif ways[1] is not None:
            for rows in panels(len(right), len(left) * left.dtype.itemsize, place.panel_bytes):
                part = place.empty(result.target, (len(right[rows]), len(left)))
                self._moving(right[rows], left, ways[1][rows], part, run)
                place.add_turned(result.target[:, rows], part)
        check_finite(place, result.target)
        derivative: FloatArray = result.finish()
        return derivative

    def _place(self, X: Any, engine: str | None, threads: int | None) -> tuple[places.Place, Run]:
        place = places.of(X)
        if not self._on_devices:
            on_host(place)
        run = place.run(engine, threads)
        if not self._on_devices and run.engine is cuda.engine:
            raise ValueError(
                f'engine: derivatives of {self!r} need "native" or "numba", got {engine!r}'
            )
        return place, run


def on_host(place: places.Place) -> None:
    """Leave what follows to the host, if inputs are elsewhere: `places.through_host`."""
    if place is not places.HOST:
        raise places.HostOnlyError


def check_finite(place: places.Place, result: FloatArray, name: str = "V") -> None:
    """Raise an error naming what to scale down, if a derivative overflows."""
    if 0 not in result.shape and not place.finite(result):
        raise ValueError(
            f"{name}: the derivative of the kernel overflows {result.dtype}; scale {name} down, or "
            "pass X as float64"
        )


def weights_of(
    place: places.Place, V: Any, X: Collection, Y: Collection | None, symmetric: bool
) -> Weights:
    """Return V in the dtype of the inputs; factors of V + V^T if both places move."""
    n, m = len(X), len(X if Y is None else Y)
    if not isinstance(V, tuple):
        matrix, vector = place.factor(V, n, X)
        if vector or matrix.shape[1] != m:
            got = (len(matrix),) if vector else matrix.shape
            raise ValueError(f"V: expected shape ({n}, {m}), got {got}")
        return Weights(matrix)
    if len(V) != 2:
        raise ValueError(f"V: expected a matrix or a pair of matrices, got a tuple of {len(V)}")
    sides = []
    for name, value, count in (("V[0]", V[0], n), ("V[1]", V[1], m)):
        sides.append(place.factor(value, count, X, name)[0])
    left, right = sides
    if left.shape[1] != right.shape[1]:
        raise ValueError(
            f"V: expected factors with as many columns, got {left.shape[1]} and {right.shape[1]}"
        )
    if symmetric:
        left, right = place.beside(left, right), place.beside(right, left)
    return Weights(None, left, right)
