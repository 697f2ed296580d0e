"""The symmetric product, each pair of inputs once: tasks take turns to add; mirrors turns.hpp."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ntkfast.engines.groups import BlockPair, block_pair, count_pairs
from ntkfast.engines.numba.problem import UNIT

WAIT = 1e-4  # seconds


def pair_across(task: int, blocks: int) -> BlockPair:
    """Return a block of one group and one of another, each with as many blocks."""
    k, i = divmod(task, blocks)
    return BlockPair(i, (i + k) % blocks, k, k)


def pair_in_groups(task: int, groups: int, blocks: int) -> BlockPair:
    """Return a pair of all blocks that are in groups of so many: two groups after each other."""
    apart, square = groups * (groups - 1) // 2, blocks * blocks
    own, each = task - apart * square, count_pairs(blocks)
    group = block_pair(task // square if own < 0 else apart + own // each, groups)
    pair = pair_across(task % square, blocks) if own < 0 else block_pair(own % each, blocks)
    return BlockPair(*(inner + blocks * outer for inner, outer in zip(pair, group, strict=True)))


def count_in_groups(groups: int, blocks: int) -> int:
    """Return the number of those pairs."""
    return groups * (groups - 1) // 2 * blocks * blocks + groups * count_pairs(blocks)


def product_block(n: int, columns: int) -> int:
    """Return the rows of a block: many columns of sums take fewer; at least four if n allows it."""
    return UNIT * min(max(min(n // (4 * UNIT), 512 // columns), 1), 2)


class Turns:
    """The sums (n, columns), to which tasks add in their order: the same bits on any threads.

    Tasks begin in their order too: the first one at work waits for nobody. What the tasks of two
    groups add is summed by itself first. Blocks beyond the rows have none, and their turns pass.
    """

    def __init__(
        self, n: int, columns: int, block: int, group: int, cancelled: NDArray[Any]
    ) -> None:
        self.sums = np.zeros((n, columns))
        self._parts = np.zeros((n, columns))
        self._block, self._group, self._cancelled = block, group, cancelled
        self._done = [0] * -(-n // block)  # turns of a block that have ended

    def has(self, block: int) -> bool:
        """Whether a block has rows."""
        return block < len(self._done)

    def add(self, block: int, turn: int, *parts: NDArray[Any]) -> bool:
        """Add a task's sums, (block, columns) each, when its turn has come; False: never."""
        while self._done[block] != turn:
            if self._cancelled[0]:
                return False
            time.sleep(WAIT)
        rows = slice(block * self._block, (block + 1) * self._block)
        to = self._parts[rows]
        for part in parts:
            to += part[: len(to)]
        if turn % self._group == self._group - 1:
            self.sums[rows] += to
            to[:] = 0
        self._done[block] += 1
        return True


def add_in_turn(left: Turns, right: Turns, pair: BlockPair, *sums: NDArray[Any]) -> None:
    """Add a task's sums, of its rows and of its columns, to those of either side; or none."""
    rows, columns = sums[:1], sums[1:]
    same = left is right and pair.first == pair.second
    if left.has(pair.first):
        some = sums if same else rows
        if not left.add(pair.first, pair.turn_first, *some):
            return
    if not same and right.has(pair.second):
        right.add(pair.second, pair.turn_second, *columns)
