"""How large the tiles of a Gram matrix on disk are: by memory, and by the time that they take."""

from __future__ import annotations

import math

TILE_BYTES = 64 << 20
TILE_STEP = 512  # default tile edges are multiples of this: whole disk pages, whole zarr chunks
TILE_MIN = 256  # below this the matrix product of a tile is bound by reading its inputs
TILE_SECONDS = 8.0  # of a tile, and what a killed job loses


def default_tile(
    shape: tuple[int, int], width: int, itemsize: int, symmetric: bool, most: float = math.inf
) -> tuple[int, int]:
    """Choose edges so that a tile and its rows of inputs, r*c + (r + c)*d numbers, fit.

    A tile has at most `most` pairs.
    """
    room = TILE_BYTES // itemsize
    square = math.isqrt(width * width + room) - width
    columns = _edge(square, shape[1])
    rows = columns if symmetric else _edge((room - columns * width) // (columns + width), shape[0])
    if rows * columns <= most:
        return rows, columns
    columns = min(columns, _even(math.isqrt(max(1, int(most)))))
    return columns if symmetric else min(rows, _even(max(1, int(most) // columns))), columns


def _edge(wanted: int, length: int) -> int:
    """Round to whole disk pages; an axis that fits is not cut."""
    if length <= max(wanted, TILE_MIN):
        return -(-length // TILE_STEP) * TILE_STEP if length > TILE_STEP else length
    return max(_even(wanted), TILE_MIN)


def _even(edge: int) -> int:
    """Round down to whole disk pages, where there are any."""
    return edge // TILE_STEP * TILE_STEP if edge >= TILE_STEP else edge
