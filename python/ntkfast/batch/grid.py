"""The tiles of a Gram matrix, and how large they are."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

TILE_BYTES = 64 << 20
TILE_STEP = 512  # default tile edges are multiples of this: whole disk pages, whole zarr chunks
TILE_MIN = 256  # below this the matrix product of a tile is bound by reading its inputs


@dataclass(frozen=True)
class Grid:
    """The tiles of the matrix, by block row and block column."""

    shape: tuple[int, int]
    tile: tuple[int, int]
    symmetric: bool

    def tiles(self) -> Iterator[tuple[int, int]]:
        """All tiles to compute: row panel by row panel, from the diagonal on if symmetric."""
        for i in range(math.ceil(self.shape[0] / self.tile[0])):
            for j in range(i if self.symmetric else 0, math.ceil(self.shape[1] / self.tile[1])):
                yield i, j

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


def default_tile(
    shape: tuple[int, int], width: int, itemsize: int, symmetric: bool
) -> tuple[int, int]:
    """Choose edges so that a tile and its rows of inputs, r*c + (r + c)*d numbers, fit."""
    room = TILE_BYTES // itemsize
    square = math.isqrt(width * width + room) - width
    columns = _edge(square, shape[1])
    rows = columns if symmetric else _edge((room - columns * width) // (columns + width), shape[0])
    return rows, columns


def _edge(wanted: int, length: int) -> int:
    """Round to whole disk pages; an axis that fits is not cut."""
    if length <= max(wanted, TILE_MIN):
        return -(-length // TILE_STEP) * TILE_STEP if length > TILE_STEP else length
    return wanted // TILE_STEP * TILE_STEP if wanted >= TILE_STEP else max(wanted, TILE_MIN)
