"""Empirical kernels of finite networks as kernels: Gram matrices and products, tile by tile."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import ArrayLike

from ntkfast import engines, inputs
from ntkfast.finite.factors import Factors
from ntkfast.kernel import KernelOfNetwork
from ntkfast.maps import Collection, FloatArray, Rows

if TYPE_CHECKING:
    from ntkfast.finite.mlp import MLP

# Features of a tile's inputs are computed once per tile: rows x fan_in x fan_out per layer beside
# rows^2 x (fan_in + fan_out) for the tile itself.
TILE_ROWS = 4096


class FiniteKernel(KernelOfNetwork):
    """The NTK or NNGP of a finite network with the weights it has (`MLP.ntk`, `MLP.nngp`).

    Gram matrices come from ``sum_l (F_l F_l^T) o (B_(l+1) B_(l+1)^T)`` with the products of BLAS;
    the Jacobian is never formed. `engine` and `threads` have no influence: BLAS has threads of
    its own. Memory beyond the result is some tiles of 4096 inputs, whatever their number.

    Attributes
    ----------
    network : MLP
    kind : {"ntk", "nngp"}
        "nngp" is ``w_std^2 F_L F_L^T / n_L + b_std^2``: the covariance of the output over draws of
        the last layer.
    """

    network: MLP

    def check_shapes(self, X: tuple[int, ...], Y: tuple[int, ...] | None = None) -> None:
        """Raise an error naming the array that is no matrix of d columns, by its shape."""
        inputs.matrix_shape("X", X, self.network.widths[0])
        if Y is not None:
            inputs.matrix_shape("Y", Y, self.network.widths[0])

    def collect(self, X: ArrayLike) -> FloatArray:
        """Validate a matrix once, for many calls; see `Kernel.collect`."""
        return self._pair(X, None)[0].data

    def _pair(self, X: ArrayLike, Y: ArrayLike | None) -> tuple[Rows, Rows | None]:
        left = inputs.matrix("X", X)
        right = None if Y is None or Y is X else inputs.matrix("Y", Y)
        self.check_shapes(left.shape, None if right is None else right.shape)
        if right is None:
            return inputs.rows("X", left, engines.row_norms(left)), None
        left, right = inputs.same_dtype(left, right)
        return (
            inputs.rows("X", left, engines.row_norms(left)),
            inputs.rows("Y", right, engines.row_norms(right)),
        )

    def factors(self, X: FloatArray) -> list[Factors]:
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
        for part in _tiles(len(data)):
            values[part] = _diagonal(self.factors(data[part]), part.stop - part.start, data.dtype)
        return values

    def _gram(
        self,
        X: Collection,
        Y: Collection | None,
        out: FloatArray,
        engine: engines.Engine,
        threads: int,
    ) -> None:
        for rows, columns, tile in self._tiles(X, Y):
            out[rows, columns] = tile
            if Y is None and rows != columns:
                out[columns, rows] = tile.T

    def _product(
        self,
        X: Collection,
        Y: Collection | None,
        V: FloatArray,
        out: FloatArray,
        engine: engines.Engine,
        threads: int,
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
        for rows in _tiles(len(left)):
            of_rows = self.factors(left[rows])
            for columns in _tiles(len(right), rows.start if Y is None else 0):
                same = Y is None and columns == rows
                of_columns = of_rows if same else self.factors(right[columns])
                shape = rows.stop - rows.start, columns.stop - columns.start
                yield rows, columns, _sum(of_rows, of_columns, shape, left.dtype)


def _tiles(count: int, first: int = 0) -> Iterator[slice]:
    for start in range(first, count, TILE_ROWS):
        yield slice(start, min(start + TILE_ROWS, count))


def _sum(
    left: list[Factors], right: list[Factors], shape: tuple[int, int], dtype: Any
) -> FloatArray:
    total = np.zeros(shape, dtype)
    for a, b in zip(left, right, strict=True):
        total += a.ntk(b)
    if left is right:  # the same bits as `diag`
        np.fill_diagonal(total, _diagonal(left, shape[0], dtype))
    return total


def _diagonal(layers: list[Factors], count: int, dtype: Any) -> FloatArray:
    values = np.zeros(count, dtype)
    for layer in layers:
        values += layer.diagonal()
    return values


def pair_factors(
    net: MLP, X: ArrayLike, Y: ArrayLike | None
) -> tuple[list[Factors], list[Factors]]:
    """Return the factors of both sides, the same objects if there is one."""
    left = net.factors(X)
    return left, left if Y is None or Y is X else net.factors(Y)
