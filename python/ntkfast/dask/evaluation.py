"""A kernel that is evaluated on a cluster, for work that calls it again and again."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike

from ntkfast.arrays.collections import FloatArray
from ntkfast.arrays.grid import Grid
from ntkfast.dask import tasks
from ntkfast.dask.blocks import (
    Blocks,
    Cutter,
    bytes_of,
    collected,
    groups_of,
    strips,
    wholes,
)
from ntkfast.dask.matrices import SECONDS, product
from ntkfast.dask.session import Session
from ntkfast.kernels.evaluation import Evaluation
from ntkfast.support.progress import Bar

SMALL = 1 << 24  # pairs that are evaluated here: less than a second
KEPT = 3  # inputs whose blocks stay on the cluster: of fast, exact and rectangular products


@dataclass(frozen=True)
class ClusterEvaluation(Evaluation):
    """A kernel whose large matrices and products come from the workers of a client.

    Attributes
    ----------
    session : Session
    """

    is_remote: ClassVar[bool] = True

    session: Session | None = None
    _kept: list[tuple[Any, Blocks]] = field(default_factory=list, compare=False, repr=False)

    def __call__(self, X: ArrayLike, Y: ArrayLike | None = None) -> FloatArray:
        """Return K(X, Y), computed here if it is small."""
        left: Any = X
        right: Any = X if Y is None else Y
        if len(left) * len(right) <= SMALL:
            return super().__call__(X, Y)
        rows = self._blocks(left, strips)
        columns = rows if Y is None else self._blocks(right, strips)
        K = np.empty((len(left), len(right)), np.result_type(left.dtype, right.dtype))
        edges = rows.slices[0].stop, columns.slices[0].stop
        grid = Grid(K.shape, edges, Y is None)

        def arguments(i: int, j: int) -> tuple[Any, ...]:
            other = None if grid.symmetric and i == j else columns.pieces[j]
            return self.kernel, rows.pieces[i], other, self.engine

        work = (arguments(i, j) for i, j in grid.tiles())
        tiles = self._on().ordered(tasks.tile, work, SECONDS, engine=self.engine)
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
        if Y is None:
            rows, columns = self._blocks(left, lambda n, _: groups_of(self.kernel, n)), None
        else:
            columns = self._blocks(right, wholes)  # first: predictions have the same again
            rows = self._blocks(left, strips)
        with Bar(False, "matmul", None, "pairs") as bar:
            found = product(self._on(), self.kernel, rows, columns, V, self.engine, bar)
        return found if self.factor == 1 else found * self.factor

    def _on(self) -> Session:
        assert self.session is not None
        return self.session

    def _blocks(self, inputs: Any, cut_by: Cutter) -> Blocks:
        """Return inputs in blocks; large ones stay on the cluster: they may come again."""
        slices = cut_by(len(inputs), bytes_of(inputs))
        for place, (known, blocks) in enumerate(self._kept):
            if known is inputs and blocks.slices == slices:
                self._kept.append(self._kept.pop(place))
                return blocks
        blocks = collected(inputs, slices)
        if all(len(inputs) >= len(known) for known, _ in self._kept):
            self._kept.append((inputs, blocks))
            del self._kept[:-KEPT]
        return blocks
