"""A matrix cut into tiles."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Grid:
    """The tiles of a matrix, by block row and block column."""

    shape: tuple[int, int]
    tile: tuple[int, int]
    symmetric: bool

    def tiles(self) -> Iterator[tuple[int, int]]:
        """All tiles to compute: row panel by row panel, from the diagonal on if symmetric."""
        for i in range(math.ceil(self.shape[0] / self.tile[0])):
            for j in range(i if self.symmetric else 0, math.ceil(self.shape[1] / self.tile[1])):
                yield i, j

    @property
    def count(self) -> int:
        """Number of tiles."""
        return sum(1 for _ in self.tiles())

    def span(self, i: int, j: int) -> tuple[slice, slice]:
        """Rows and columns of a tile."""
        (n, m), (rows, columns) = self.shape, self.tile
        return (
            slice(i * rows, min(n, (i + 1) * rows)),
            slice(j * columns, min(m, (j + 1) * columns)),
        )

    def pairs(self, i: int, j: int) -> int:
        """Count the entries of a tile."""
        rows, columns = self.span(i, j)
        return int((rows.stop - rows.start) * (columns.stop - columns.start))

    @property
    def total(self) -> int:
        """The entries of all tiles."""
        return sum(self.pairs(i, j) for i, j in self.tiles())
