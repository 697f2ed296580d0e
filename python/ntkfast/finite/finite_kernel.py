"""Empirical kernels of finite networks as kernels: Gram matrices and products, tile by tile."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike

from ntkfast import places
from ntkfast.arrays.collections import Collection, FloatArray, Rows
from ntkfast.engines import Run
from ntkfast.finite.factors import Factored, Factors, Layered
from ntkfast.kernels.base import KernelOfNetwork


class FiniteKernel(KernelOfNetwork):
    """The NTK or NNGP of a finite network with the weights it has (`MLP.ntk`, `CNN.nngp`).

    Gram matrices of dense layers come from ``sum_l (F_l F_l^T) o (B_(l+1) B_(l+1)^T)`` with the
    products of BLAS; the Jacobian is never formed. Gradients by convolutions are formed for one
    tile of images. `engine` and `threads` have no influence: BLAS has threads of its own. Memory
    beyond the result is some tiles of `network.tile_rows` inputs, whatever their number.

    Attributes
    ----------
    network : MLP or CNN
    kind : {"ntk", "nngp"}
        "nngp" is ``w_std^2 F_L F_L^T / n_L + b_std^2``: the covariance of the output over draws of
        the last layer.
    """

    network: Factored

    def check_shapes(self, X: tuple[int, ...], Y: tuple[int, ...] | None = None) -> None:
        """Raise an error naming the array that holds no inputs of the network, by its shape."""
        self.network.check_shape("X", X)
        if Y is not None:
            self.network.check_shape("Y", Y)

    def collect(self, X: ArrayLike) -> FloatArray:
        """Validate inputs once, for many calls; see `Kernel.collect`."""
        return self._inputs(places.HOST, X, None)[0].data

    def _inputs(self, place: places.Place, X: Any, Y: Any) -> tuple[Rows, Rows | None]:
        if place is not places.HOST:
            raise TypeError(f"X: {self!r} takes arrays of the host, got one on a CUDA device")
        left = self.network.rows(X)
        return place.rows(left, None if Y is None else self.network.rows(Y, "Y"))

    def factors(self, X: FloatArray) -> Layered:
        """Return the layers whose contributions add up to the kernel."""
        net = self.network
        if self.kind == "ntk":
            return net.factors(X)
        F, (scale, offset) = net.features(X)[-1], net.scales(net.depth)
        ones = np.broadcast_to(np.ones(1, F.dtype), (len(F), 1, 1))
        return [Factors(F, ones, scale, 0.0 if net.zero_bias else offset)]

    def _values(self, X: Collection) -> FloatArray:
        data = cast(Rows, X).data
        values = np.empty(len(data), data.dtype)
        for part in self._parts(len(data)):
            values[part] = _diagonal(self.factors(data[part]), part.stop - part.start, data.dtype)
        return values

    def _gram(self, X: Collection, Y: Collection | None, out: FloatArray, run: Run) -> None:
        for rows, columns, tile in self._tiles(X, Y):
            out[rows, columns] = tile
            if Y is None and rows != columns:
                out[columns, rows] = tile.T

    def _product(
        self, X: Collection, Y: Collection | None, V: FloatArray, out: FloatArray, run: Run
    ) -> None:
        total = np.zeros(out.shape, np.float64)
        for rows, columns, tile in self._tiles(X, Y):
            total[rows] += tile @ V[columns]
            if Y is None and rows != columns:
                total[columns] += tile.T @ V[rows]
        out[...] = total

    def _tiles(self, X: Collection, Y: Collection | None) -> Iterator[tuple[slice, slice, Any]]:
        """Yield the tiles of the matrix, of a symmetric one those on and above the diagonal."""
        left = cast(Rows, X).data
        right = left if Y is None else cast(Rows, Y).data
        for rows in self._parts(len(left)):
            of_rows = self.factors(left[rows])
            for columns in self._parts(len(right), rows.start if Y is None else 0):
                same = Y is None and columns == rows
                of_columns = of_rows if same else self.factors(right[columns])
                shape = rows.stop - rows.start, columns.stop - columns.start
                yield rows, columns, _sum(of_rows, of_columns, shape, left.dtype)

    def _parts(self, count: int, first: int = 0) -> Iterator[slice]:
        step = self.network.tile_rows
        for start in range(first, count, step):
            yield slice(start, min(start + step, count))


def _sum(left: Layered, right: Layered, shape: tuple[int, int], dtype: Any) -> FloatArray:
    parts = (a.ntk(b) for a, b in zip(left, right, strict=True))
    total = next(parts, np.zeros(shape, dtype))
    for part in parts:
        total += part
    if left is right:  # the same bits as `diag`
        np.fill_diagonal(total, _diagonal(left, shape[0], dtype))
    return total


def _diagonal(layers: Layered, count: int, dtype: Any) -> FloatArray:
    values = np.zeros(count, dtype)
    for layer in layers:
        values += layer.diagonal()
    return values
