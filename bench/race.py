"""Times a call in turn with what it is compared with, and notes the figures of a table.

Round after round pytest-benchmark times the call, and before each round, outside its clock, the
others are timed here. So a slow moment hits all of them. A ratio is that of two medians of one such
series, with the quartiles of the ratio within a round beside it. `tables.py` reads `extra_info`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ntkfast.command.bench import Timing

Call = Callable[[], object]
Cells = Mapping[str, Any]
Times = Mapping[str, Timing]


@dataclass(frozen=True)
class Size:
    """The choice of --size: `size(10, 4000)` is 10 in a smoke run, else 4000."""

    name: str

    @property
    def small(self) -> bool:
        """Whether this is a smoke run."""
        return self.name == "small"

    def __call__(self, small: int, full: int) -> int:
        """Return the number for this run."""
        return small if self.small else full


@dataclass(frozen=True)
class Race:
    """The fixture `race`: the benchmark of one test, which may be called once."""

    benchmark: Any
    size: Size
    options: Any

    def __call__(
        self,
        call: Call,
        table: str,
        row: Mapping[str, Any],
        column: str,
        *,
        against: Mapping[str, Call] | None = None,
        beside: Mapping[str, Call] | None = None,
        facts: Cells | Callable[[Times], Cells] | None = None,
        at_most: Mapping[str, float] | None = None,
        at_least: Mapping[str, float] | None = None,
        rounds: int | None = None,
        warmup: bool = True,
    ) -> None:
        """Time `call` in turn with others and note its cells.

        Parameters
        ----------
        call : function
            What pytest-benchmark times.
        table, row, column
            Where the figures stand. Table and row are the group of pytest-benchmark.
        against : mapping, optional
            What runs before it in every round, by name: the cells are the ratios
            ``"<column> / <name>"``, and the times of the others. Without it the time of the call.
        beside : mapping, optional
            Runs in every round too, for `facts` only.
        facts : mapping or function, optional
            More cells, from the times of everybody by name, of the call itself by ``"own"``.
        at_most, at_least : mapping, optional
            Goals, by cell.
        rounds : int, optional
            Default: as many whole rounds as fit ``--benchmark-max-time``, but no fewer than
            ``--benchmark-min-rounds``. A smoke run has one or two.
        warmup : bool
            Whether one round runs before the clock counts.
        """
        others = {**(against or {}), **(beside or {})}
        seconds: dict[str, list[float]] = {}

        def setup() -> None:
            for name, other in others.items():
                start = time.perf_counter()
                result = other()
                seconds[name].append(time.perf_counter() - start)
                del result  # freed outside every clock

        def clear() -> None:
            seconds.update({name: [] for name in others})

        clear()
        rounds = rounds or int(self.options.benchmark_min_rounds)
        if self.size.small:
            rounds = 2 if others else 1
        elif warmup:
            start = time.perf_counter()
            setup()
            call()
            once = time.perf_counter() - start
            rounds = max(rounds, int(float(self.options.benchmark_max_time) / once))
            clear()
        self.benchmark.group = f"{table}: " + ", ".join(f"{key} {row[key]}" for key in row)
        self.benchmark.pedantic(call, setup=setup, rounds=rounds)
        if self.benchmark.stats is None:  # --benchmark-disable: it ran once, untimed
            return
        times = {name: Timing(tuple(values)) for name, values in seconds.items()}
        times["own"] = Timing(tuple(self.benchmark.stats.stats.data))
        cells, spread = ratios(column, times, list(against or {}))
        cells |= facts(times) if callable(facts) else facts or {}
        goals = [(cell, goal, 1) for cell, goal in (at_most or {}).items()]
        goals += [(cell, goal, -1) for cell, goal in (at_least or {}).items()]
        missed = [
            f"{cell}: {cells[cell]:.3g}, goal {goal:g}"
            for cell, goal, sign in goals
            if not self.size.small and sign * cells[cell] > sign * goal
        ]
        noted = {"table": table, "row": dict(row), "cells": cells, "spread": spread}
        self.benchmark.extra_info.update(noted, missed=missed)


def ratios(
    column: str, times: Times, against: list[str]
) -> tuple[dict[str, Any], dict[str, tuple[float, float]]]:
    """Return the cells of a call, and the quartiles of its ratios."""
    own = times["own"]
    if not against:
        return {f"{column}, ms": 1e3 * own.median}, {}
    cells, spread = {}, {}
    for name in against:
        cells[f"{name}, ms"] = 1e3 * times[name].median
        cells[f"{column} / {name}"] = own.ratio(times[name])
        if len(own.seconds) > 1:
            spread[f"{column} / {name}"] = own.spread(times[name])
    return cells, spread
