"""A kernel that is evaluated on a cluster, for work that calls it again and again."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike

from ntkfast.arrays.collections import FloatArray
from ntkfast.arrays.grid import Grid
from ntkfast.dask import tasks
from ntkfast.dask.blocks import Blocks, collected
from ntkfast.dask.matrices import rectangular, symmetric
from ntkfast.dask.session import Session
from ntkfast.kernels.evaluation import Evaluation

SMALL = 1 << 24  # pairs that are evaluated here: less than a second
KEPT = 2  # inputs whose blocks stay on the cluster: those of fast and of exact products


@dataclass(frozen=True)
class ClusterEvaluation(Evaluation):
    """A kernel whose large matrices and products come from the workers of a client.

    Attributes
    ----------
    session : Session
    """

    is_remote: ClassVar[bool] = True

    session: Session | None = None
    _blocks: list[tuple[Any, Blocks]] = field(default_factory=list, compare=False, repr=False)

    def __call__(self, X: ArrayLike, Y: ArrayLike | None = None) -> FloatArray:
        """Return K(X, Y), computed here if it is small."""
        left: Any = X
        right: Any = X if Y is None else Y
        if len(left) * len(right) <= SMALL:
            return super().__call__(X, Y)
        session, rows = self._on(), self._blocks_of(left)
        K = np.empty((len(left), len(right)), np.result_type(left.dtype, right.dtype))
        columns = rows if Y is None else self._blocks_of(right)
        grid = Grid(K.shape, (rows.height, columns.height), Y is None)

        def arguments(i: int, j: int) -> tuple[Any, ...]:
            other = None if grid.symmetric and i == j else columns.parts[j]
            return self.kernel, rows.parts[i], other, self.engine

        tiles = session.ordered(tasks.tile, (arguments(i, j) for i, j in grid.tiles()))
        for (i, j), tile in zip(grid.tiles(), tiles, strict=True):
            down, across = grid.span(i, j)
            K[down, across] = tile
            if grid.symmetric and i != j:
                K[across, down] = tile.T
        if self.factor != 1:
            K *= self.factor
        return K

    def matmul(self, X: ArrayLike, Y: ArrayLike | None, V: Any) -> FloatArray:
        """Return K(X, Y) @ V, computed here if there are few pairs."""
        left: Any = X
        right: Any = X if Y is None else Y
        if len(left) * len(right) <= SMALL:
            return super().matmul(X, Y, V)
        session, rows, columns = self._on(), self._blocks_of(left), self._blocks_of(right)
        dtype = np.result_type(rows.dtype, columns.dtype)
        factor = np.asarray(V, dtype).reshape(len(right), -1)
        if Y is None:
            product = symmetric(session, self.kernel, rows, factor, self.engine).astype(dtype)
        else:
            product = rectangular(session, self.kernel, rows, columns, factor, self.engine)
        shaped: FloatArray = product.reshape(len(left), *np.shape(V)[1:])
        return shaped if self.factor == 1 else shaped * self.factor

    def _on(self) -> Session:
        assert self.session is not None
        return self.session

    def _blocks_of(self, inputs: Any) -> Blocks:
        """Bring inputs to the cluster, unless they are there."""
        for known, blocks in self._blocks:
            if known is inputs:
                return blocks
        blocks = collected(self._on(), inputs)
        self._blocks.append((inputs, blocks))
        del self._blocks[:-KEPT]
        return blocks
