"""Groups of rows whose pairs make a symmetric product, and the order they add in; as in turns.hpp.

Engines sum what the pairs of two groups add to a row by itself. So two groups at a time may be
computed anywhere: their sums, added in the order of `block_pair`, have the bits of one call.
"""

from __future__ import annotations

import math
from typing import NamedTuple

LARGEST_BLOCK = 1536  # rows that tasks of engines have at most


class BlockPair(NamedTuple):
    """Blocks `first` <= `second` with each other, and how many pairs before have either."""

    first: int
    second: int
    turn_first: int
    turn_second: int


class Groups(NamedTuple):
    """Two groups of inputs, or one twice, of a symmetric product.

    Attributes
    ----------
    rows, columns : slice
        Of the inputs that a call has; `rows` come first in the product.
    total : int
        Inputs of the whole product.
    """

    rows: slice
    columns: slice
    total: int


def count_pairs(blocks: int) -> int:
    """Return the number of pairs."""
    return blocks * (blocks + 1) // 2


def block_pair(task: int, blocks: int) -> BlockPair:
    """Return what a task does, or which pair of groups comes at its place.

    Blocks k apart, on a circle, for k = 1, 2, ...: tasks that are at work together have few blocks
    in common. The short ones, of blocks with themselves, come last and even out what threads do.
    """
    apart = blocks * (blocks - 1) // 2
    if task >= apart:
        return BlockPair(task - apart, task - apart, blocks - 1, blocks - 1)
    k, i = task // blocks + 1, task % blocks
    j = (i + k) % blocks
    before = 2 * (k - 1)
    turn_i, turn_j = before + (i >= k), before + (j < i)
    return BlockPair(i, j, turn_i, turn_j) if i < j else BlockPair(j, i, turn_j, turn_i)


def group_rows(n: int) -> int:
    """Return the rows of a group: about sqrt(n) / 20 groups, eight at least if n allows it."""
    groups = max(8, math.isqrt((n - 1) // 400) + 1)
    units = -(-n // LARGEST_BLOCK)
    return LARGEST_BLOCK * -(-units // groups)
