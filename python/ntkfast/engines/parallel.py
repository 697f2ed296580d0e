"""Shares tasks among threads, which live for one call: nothing to break on fork, no idle pool."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import Any

from numpy.typing import NDArray

POLL = 0.02  # seconds between looks for Ctrl-C
WORTH_THREADS = 2e6  # about a millisecond of work: below it a thread costs more than it gains

Task = Callable[[int], None]


def share(
    make: Callable[[], Task], cancelled: NDArray[Any], tasks: int, threads: int, cost: float
) -> None:
    """Do the tasks here if they cost little, else on threads.

    Each thread calls `make`, which allocates its scratch memory, for what does one task.
    """

    def work(numbers: Iterator[int]) -> None:
        do = make()
        for number in numbers:
            if cancelled[0]:
                return
            do(number)

    if cost < WORTH_THREADS:
        work(iter(range(tasks)))
    else:
        _in_threads(work, cancelled, tasks, min(threads, tasks))


def _in_threads(
    work: Callable[[Iterator[int]], None], cancelled: NDArray[Any], tasks: int, threads: int
) -> None:
    """Share the tasks among threads; this one waits, and is open to Ctrl-C."""
    shared = iter(range(tasks))  # `next` is atomic
    with ThreadPoolExecutor(threads, "ntkfast") as pool:
        try:
            team = [pool.submit(work, shared) for _ in range(threads)]
            while wait(team, timeout=POLL, return_when=FIRST_EXCEPTION).not_done:
                if any(one.done() and one.exception() for one in team):
                    break
        except BaseException:
            cancelled[0] = 1
            raise
        cancelled[0] = 1
    for one in team:
        one.result()
