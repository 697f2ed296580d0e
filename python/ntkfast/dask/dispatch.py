"""Calls on the workers of a client: in groups, for a task of Dask takes some milliseconds itself.

A group is what one task computes. Groups are long where calls are short, and short where few calls
are left, so that all workers end together. Each worker has one group to compute and one whose
inputs travel. How long calls take is measured for each worker: who is faster gets longer groups,
and more of them. Results do not depend on any of this.
"""

from __future__ import annotations

import time
from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass
from itertools import accumulate, takewhile
from typing import Any, Generic, TypeVar

from ntkfast._version import __version__
from ntkfast.dask.lending import OutOfReachError, can_read
from ntkfast.dask.parts import Calls, filled, is_here, numbered, send, without_scheduler

T = TypeVar("T")
LOSSES = 3  # times that one group may be lost with its workers
AHEAD = 2  # groups for each thread: one computes, the inputs of the other travel
HELD = 16  # groups for each thread whose results wait for one before them, at most
SHARE = 1.1  # times a group that each thread gets is all that is left, at least
SECONDS = 0.5  # of a group, at most; and for each thread of many,
TASK = 0.008  # twice what one group takes the processor of scheduler and client
ROUNDING = 1e-9  # of sums of costs, at most
LOOK = 5.0  # seconds after which workers are counted again


@dataclass
class Group:
    """Calls that one task makes.

    Attributes
    ----------
    calls : list of tuples
        Arguments.
    cost : float
        Of all of them.
    worker : str or None
        Who is to compute it; None: whom the scheduler chooses.
    future : Future
    is_done : bool
    losses : int
    """

    calls: Calls
    cost: float
    worker: str | None = None
    future: Any = None
    is_done: bool = False
    losses: int = 0


class Dispatch(Generic[T]):
    """An iterable of the results of calls, in their order.

    Parameters
    ----------
    client : distributed.Client
    function : callable
        Takes some calls and returns the list of their results.
    calls : list of tuples
        Arguments of each.
    costs : list of float, or None
        Of each, in any unit; None: 1.
    seconds : float
        Of a unit, until it is measured.
    engine : str or None
        That calls ask for; None: the best one of each worker.
    told : callable
        Called with the name of the engine of each group.
    """

    def __init__(
        self,
        client: Any,
        function: Callable[[Calls], list[T]],
        calls: Calls,
        costs: Sequence[float] | None,
        seconds: float,
        engine: str | None,
        told: Callable[[str], None],
    ) -> None:
        import distributed

        as_completed: Any = distributed.as_completed
        self._client, self._engine, self._told = client, engine, told
        self._function, self._calls, self._begun = function, calls, 0
        self._ends = [0.0, *accumulate([1.0] * len(calls) if costs is None else costs)]
        self._groups: deque[Group] = deque()  # in order, until they are given out
        self._by_future: dict[Any, Group] = {}  # those under way
        self._completed = as_completed(loop=client.loop)
        self._threads: dict[str | None, int] = {}
        self._direct: bool | None = None  # whether workers are reached past the scheduler
        self._lends = False  # whether they read what lies in the memory of this process
        self._looked = -LOOK
        self._guess = seconds
        self._taken, self._made = defaultdict[str, float](float), defaultdict[str, float](float)
        self._even, self._equal = 0.0, 0  # seconds of a group, and groups that get as many

    def __iter__(self) -> Iterator[T]:
        try:
            while self._hand_out():
                if self._by_future:
                    for future in self._completed.next_batch():  # of one at least
                        self._settle(self._by_future.pop(future))
                yield from self._results()
        finally:
            left = [group.future for group in self._groups if group.future is not None]
            if left and self._client.status == "running":  # an error, or Ctrl-C
                self._client.cancel(left)

    def _hand_out(self) -> bool:
        """Give each worker enough to do; returns whether anything is left."""
        if time.monotonic() - self._looked > LOOK:
            self._look()
        load = Counter(group.worker for group in self._by_future.values())
        fresh: defaultdict[tuple[str | None, int], list[Group]] = defaultdict(list)
        every = sum(self._threads.values())
        pace = {worker: self._pace(worker) for worker in self._threads}
        rate = sum(count / pace[worker] for worker, count in self._threads.items())
        quickest = min(pace.values())

        def fill(worker: str | None) -> float:
            return load[worker] / self._threads[worker]

        while self._begun < len(self._calls) and len(self._groups) < HELD * every:
            left = (self._ends[-1] - self._ends[self._begun]) / rate  # seconds
            useful = [w for w in pace if pace[w] <= left + AHEAD * quickest]  # others end too late
            worker = min(useful, key=fill)
            if fill(worker) >= AHEAD:
                break
            if not self._equal:
                self._even, self._equal = left / SHARE, every
            self._equal -= 1
            group = self._group(pace[worker], max(SECONDS, TASK * every))
            self._groups.append(group)
            fresh[worker, int(fill(worker))].append(group)
            load[worker] += 1
        self._submit(fresh)
        return bool(self._groups)

    def _look(self) -> None:
        """Learn who works, and how they are reached: as it is now."""
        try:
            self._threads = self._client.nthreads() or {None: 1}
        except OSError as error:
            raise without_scheduler() from error
        self._looked = time.monotonic()
        self._direct = self._client.direct_to_workers
        here = [worker for worker in self._threads if worker is not None and is_here(worker)]
        are_here = len(here) == len(self._threads)  # not if there is none yet
        if self._direct is None and are_here:
            self._direct = True
        self._lends = are_here and can_read(self._client, here)

    def _pace(self, worker: str | None) -> float:
        """Return the seconds that a unit takes a worker, as far as they are known."""
        taken, made = sum(self._taken.values()), sum(self._made.values())
        if worker is not None and worker in self._made:
            taken, made = self._taken[worker], self._made[worker]
        return max(taken / made, 1e-9) if made else self._guess

    def _group(self, pace: float, most: float) -> Group:
        """Return the next calls: a share of all, then less; of so many seconds at most."""
        done, first = self._ends[self._begun], self._begun
        enough = bisect_left(self._ends, done + self._even / pace * (1 - ROUNDING))
        allowed = bisect_right(self._ends, done + most / pace) - 1
        self._begun = min(max(min(enough, allowed), first + 1), len(self._calls))
        return Group(self._calls[first : self._begun], self._ends[self._begun] - done)

    def _submit(self, fresh: Mapping[tuple[str | None, int], list[Group]]) -> None:
        """Send groups to workers, and first what they need that is nowhere yet.

        By worker and turn: of tasks that arrive together an idle worker begins with any.
        """
        works = {key: [numbered(group.calls) for group in groups] for key, groups in fresh.items()}
        parts = [part for work in works.values() for _, needed in work for part in needed]
        send(self._client, list(dict.fromkeys(parts)), self._direct, self._lends)
        for (worker, turn), groups in fresh.items():
            work = works[worker, turn]
            futures = self._client.map(
                _run,
                [__version__] * len(groups),
                [self._engine] * len(groups),
                [self._function] * len(groups),
                [calls for calls, _ in work],
                [[part.future for part in needed] for _, needed in work],
                pure=False,
                workers=None if worker is None else [worker],
                allow_other_workers=worker is not None,  # should it be gone
            )
            for group, future in zip(groups, futures, strict=True):
                group.worker, group.future = worker, future
                self._by_future[future] = group
            self._completed.update(futures)

    def _settle(self, group: Group) -> None:
        """Note that a group has ended; what was lost, or could not read, begins again."""
        future = group.future
        unread = future.status == "error" and isinstance(future.exception(), OutOfReachError)
        if future.status in ("finished", "error") and not unread:
            group.is_done = True
        else:
            self._again(group)

    def _again(self, group: Group) -> None:
        """Let others compute a group whose inputs or results were lost with a worker."""
        if self._client.status != "running":
            raise without_scheduler()
        group.losses += 1
        if group.losses > LOSSES:
            raise _lost(f"{group.losses} times")
        group.is_done = False
        self._look()
        self._submit({(None, 0): [group]})

    def _results(self) -> Iterator[T]:
        """Yield the results before the first group that is under way; raise the error of one."""
        from distributed import KilledWorker

        ready = list(takewhile(lambda group: group.is_done, self._groups))
        good = list(takewhile(lambda group: group.future.status != "error", ready))
        if not ready:
            return
        try:
            found = self._client.gather([group.future for group in good], direct=self._direct)
            for results, seconds, worker, engine in found:
                group = self._groups.popleft()
                group.future = None  # let go of what the worker holds
                self._told(engine)
                self._taken[worker] += seconds
                self._made[worker] += group.cost
                yield from results
            if len(good) < len(ready):
                ready[len(good)].future.result()
        except KilledWorker as error:
            raise _lost(str(error)) from error
        except CancelledError:  # lost since then
            for group in ready:
                if group.future is not None:
                    self._again(group)


def _lost(how: str) -> RuntimeError:
    return RuntimeError(
        f"workers were lost while they computed a tile ({how}); the usual reason is memory: give "
        "each worker more"
    )


def one_by_one(function: Callable[..., T], calls: Calls) -> list[T]:
    """Call a function with each tuple of arguments."""
    return [function(*arguments) for arguments in calls]


def _run(
    version: str,
    engine: str | None,
    function: Callable[[Calls], list[T]],
    calls: Calls,
    parts: Sequence[Any],
) -> tuple[list[T], float, str, str]:
    """Compute a group, on a worker; and say how long it took, where, and with what."""
    if version != __version__:
        raise RuntimeError(
            f"a worker has ntkfast {__version__}, the client {version}: their numbers may differ; "
            "install the same version everywhere"
        )
    from distributed import get_worker

    began = time.perf_counter()
    results = function([tuple(filled(arguments, parts)) for arguments in calls])
    return results, time.perf_counter() - began, get_worker().address, _named(engine)


def _named(engine: str | None) -> str:
    """Return what computes here, if this engine is asked for."""
    from ntkfast import engines
    from ntkfast.engines import native

    chosen = engines.select(engine)
    name = next(name for name in engines.NAMES if engines.load(name) is chosen)
    return f"{name} {native.active_isa()}" if name == "native" else name
