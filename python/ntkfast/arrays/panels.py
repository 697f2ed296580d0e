"""Work cut into panels of rows, so that memory does not grow with their number."""

from __future__ import annotations

from collections.abc import Iterator

PANEL_BYTES = 1 << 22  # of the buffer for results that pass through one


def panels(count: int, row_bytes: int, most: int = PANEL_BYTES, least: int = 1) -> Iterator[slice]:
    """Yield slices of `count` rows that take about `most` bytes, and hold at least `least` rows."""
    height = max(least, most // max(row_bytes, 1))
    for first in range(0, count, height):
        yield slice(first, min(first + height, count))
