"""The symmetric product, each pair of inputs once: tasks take turns to add; mirrors turns.hpp."""

from __future__ import annotations

import time
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ntkfast.engines.numba.problem import UNIT

WAIT = 1e-4  # seconds


class BlockPair(NamedTuple):
    """Blocks `first` <= `second` with each other, and how many tasks before add to either."""

    first: int
    second: int
    turn_first: int
    turn_second: int


def count_pairs(blocks: int) -> int:
    """Return the number of tasks."""
    return blocks * (blocks + 1) // 2


def block_pair(task: int, blocks: int) -> BlockPair:
    """Return what a task does.

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


def product_block(n: int, columns: int) -> int:
    """Return the rows of a block: many columns of sums take fewer; at least four if n allows it."""
    return UNIT * min(max(min(n // (4 * UNIT), 512 // columns), 1), 2)


class Turns:
    """The sums (n, columns), to which tasks add in their order: the same bits on any threads.

    Tasks begin in their order too: the first one at work waits for nobody.
    """

    def __init__(self, n: int, columns: int, block: int, cancelled: NDArray[Any]) -> None:
        self.sums = np.zeros((n, columns))
        self._block, self._cancelled = block, cancelled
        self._done = [0] * -(-n // block)  # tasks that have added to a block

    def add(self, pair: BlockPair, rows: NDArray[Any], columns: NDArray[Any]) -> None:
        """Add a task's sums, both (block, columns), when its turn has come."""
        if not self._await(pair.first, pair.turn_first):
            return
        self._add(pair.first, rows)
        if pair.first != pair.second:
            self._done[pair.first] += 1
            if not self._await(pair.second, pair.turn_second):
                return
        self._add(pair.second, columns)
        self._done[pair.second] += 1

    def _await(self, block: int, turn: int) -> bool:
        while self._done[block] != turn:
            if self._cancelled[0]:
                return False
            time.sleep(WAIT)
        return True

    def _add(self, block: int, part: NDArray[Any]) -> None:
        to = self.sums[block * self._block :][: self._block]
        to += part[: len(to)]
