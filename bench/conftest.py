"""The benchmark suite: what it sets before NumPy is loaded, what it prints, and how it times.

    pytest bench --benchmark-only                   # everything, about an hour
    pytest bench --benchmark-only --size small      # seconds: does it run?

A call and what it is compared with take turns, round after round: pytest-benchmark times the call,
and before each round, outside its clock, the fixture `race` times the others. So a slow moment hits
all of them. A ratio is that of two medians of one such series, with the quartiles of the ratio
within a round beside it. Ratios and facts go to `extra_info`; `bench/tables.py` makes tables of
a saved run.
"""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Protocol

import pytest

# The suite is no package: its modules import their neighbours by name.
sys.path.append(str(Path(__file__).parent))

# Threads of OpenBLAS spin for 0.1 s after a product and take a core from whoever runs next; with
# this they sleep after 16 turns. Those of OpenMP (PyTorch, scikit-learn) have their own switch.
SET = {"OPENBLAS_THREAD_TIMEOUT": "4", "OMP_WAIT_POLICY": "PASSIVE"}
UNSET = ("OPENBLAS_CORETYPE",)  # the product runs the kernel that its library chooses
FOUND = {name: os.environ.get(name) for name in (*SET, *UNSET)}
LATE = "numpy" in sys.modules and any(FOUND[name] != SET.get(name) for name in FOUND)
os.environ.update(SET)
for name in UNSET:
    os.environ.pop(name, None)

SIZES = ("small", "full", "huge")
PACKAGES = ("ntkfast", "numpy", "scipy", "numba", "pytest-benchmark")
Call = Callable[[], object]
Cells = Mapping[str, float | str]


# ---- options and environment ---------------------------------------------------------------------


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def found() -> str:
    """Write what the environment had of all this."""
    return ", ".join(f"{name}={value}" for name, value in FOUND.items() if value) or "none of these"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the options of the suite."""
    group = parser.getgroup("ntkfast")
    text = "small: does it run, in float64; huge: full, and rows that take hours or much memory"
    group.addoption("--size", choices=SIZES, default="full", help=f"{text} (default: full)")
    group.addoption("--threads", type=int, help="threads of everybody (default: all cores)")


def again(config: pytest.Config) -> None:
    """Start this process anew: a plugin of pytest (that of zarr is one) has loaded NumPy."""
    config.pluginmanager.getplugin("capturemanager").stop_global_capturing()
    print(f"environment found: {found()}; NumPy is loaded already, starting again", flush=True)
    os.execv(sys.executable, sys.orig_argv)


def pytest_configure(config: pytest.Config) -> None:
    """Bind the process to as many cores as threads: some peers listen to nothing else."""
    if LATE:
        again(config)
    config.addinivalue_line("markers", "huge: runs with --size huge only")
    if config.option.threads is None:
        config.option.threads = cores()
    elif hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: config.option.threads])


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what the size does not ask for, and the time limit of tests."""

    def wanted(item: Any) -> bool:
        parameters = item.callspec.params if hasattr(item, "callspec") else {}
        if config.option.size == "small" and parameters.get("dtype") == "float32":
            return False
        return config.option.size == "huge" or item.get_closest_marker("huge") is None

    config.hook.pytest_deselected(items=[item for item in items if not wanted(item)])
    items[:] = filter(wanted, items)
    for item in items:
        item.add_marker(pytest.mark.timeout(0))


def installed(package: str) -> str:
    """Return the version of a package."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def processor() -> str:
    """Return the name of the processor."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text().splitlines() if file.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


@cache
def blas() -> str:
    """Return the library and the kernels that multiply for NumPy; SciPy may load another later."""
    import numpy  # noqa: F401 - loads its BLAS
    from threadpoolctl import threadpool_info

    return ", ".join(
        f"{pool['internal_api']} {pool['version']}, kernels {pool.get('architecture', 'unknown')}, "
        f"{pool['num_threads']} threads"
        for pool in threadpool_info()
        if pool["user_api"] == "blas"
    )


def pytest_benchmark_generate_machine_info(config: pytest.Config) -> dict[str, Any]:
    """Return what the numbers depend on, in place of what pytest-benchmark would gather."""
    import ntkfast  # noqa: F401 - its engines are asked below
    from ntkfast.engines import native

    isas = native.available_isas()
    return {
        "processor": processor(),
        "cores": cores(),
        "threads": config.option.threads,
        "instruction sets": ", ".join(isas) or "none: the engine is Numba",
        "instruction set in use": native.active_isa() if isas else "",
        "BLAS": blas(),
        "environment": ", ".join(f"{name}={value}" for name, value in SET.items()),
        "system": platform.platform(),
        "python": platform.python_version(),
        "packages": ", ".join(f"{name} {installed(name)}" for name in PACKAGES),
        "size": config.option.size,
    }


def load() -> str:
    """Return the load averages of 1, 5 and 15 minutes."""
    return " ".join(f"{x:.2f}" for x in os.getloadavg()) if hasattr(os, "getloadavg") else "unknown"


def pytest_report_header(config: pytest.Config) -> list[str]:
    """Print what the suite runs on, and what it found where it sets something."""
    facts = pytest_benchmark_generate_machine_info(config)
    facts |= {"environment found": found(), "load average": load()}
    return [f"{name}: {value}" for name, value in facts.items()]


def pytest_benchmark_update_json(output_json: dict[str, Any]) -> None:
    """Keep the load at the end; as a fact of the machine it would differ in every comparison."""
    output_json["load average"] = load()


# ---- fixtures ------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def threads(request: pytest.FixtureRequest) -> int:
    """Threads of everybody."""
    return int(request.config.option.threads)


@pytest.fixture(scope="session", autouse=True)
def _limited(threads: int) -> Iterator[None]:
    from ntkfast.bench import limited

    with limited(threads):
        yield


class Size:
    """The choice of --size: `size(10, 4000)` is 10 in a smoke run, else 4000."""

    def __init__(self, name: str) -> None:
        self.small = name == "small"

    def __call__(self, small: int, full: int) -> int:
        """Return the number for this run."""
        return small if self.small else full


@pytest.fixture(scope="session")
def size(request: pytest.FixtureRequest) -> Size:
    """How large this run is."""
    return Size(request.config.option.size)


class Race(Protocol):
    """What the fixture `race` returns."""

    def __call__(
        self,
        call: Call,
        table: str,
        row: Mapping[str, Any],
        column: str,
        *,
        against: Mapping[str, Call] | None = None,
        beside: Mapping[str, Call] | None = None,
        facts: Cells | Callable[[Mapping[str, Any]], Cells] | None = None,
        at_most: Mapping[str, float] | None = None,
        at_least: Mapping[str, float] | None = None,
        rounds: int | None = None,
        warmup: bool = True,
    ) -> None:
        """Time `call` in turn with others and note a row of a table.

        Parameters
        ----------
        call : function
            What pytest-benchmark times.
        table, row, column
            Where the figures stand. Table and row are the group of pytest-benchmark.
        against : mapping, optional
            What runs before it in every round, by name. The cells are ``"<column> / <name>"``,
            and the times of the others; without it the time of the call is the cell.
        beside : mapping, optional
            Runs in every round too, for `facts` only.
        facts : mapping or function, optional
            More cells, from the ``Timing`` of everybody by name, of the call itself by ``"own"``.
        at_most, at_least : mapping, optional
            Goals, by cell.
        rounds : int, optional
            Default: as many as pytest-benchmark would take of whole rounds, see
            ``--benchmark-min-rounds`` and ``--benchmark-max-time``; fewer with ``--size small``.
        warmup : bool
            Whether one round runs before the clock counts.
        """


@pytest.fixture
def race(benchmark: Any, size: Size, request: pytest.FixtureRequest) -> Race:
    """Return the function that times a call in turn with what it is compared with."""
    from ntkfast.bench import Timing

    def run(
        call: Call,
        table: str,
        row: Mapping[str, Any],
        column: str,
        *,
        against: Mapping[str, Call] | None = None,
        beside: Mapping[str, Call] | None = None,
        facts: Any = None,
        at_most: Mapping[str, float] | None = None,
        at_least: Mapping[str, float] | None = None,
        rounds: int | None = None,
        warmup: bool = True,
    ) -> None:
        benchmark.group = f"{table}: " + ", ".join(f"{key} {value}" for key, value in row.items())
        others = {**(against or {}), **(beside or {})}
        seconds: dict[str, list[float]] = {name: [] for name in others}

        def setup() -> None:
            for name, other in others.items():
                start = time.perf_counter()
                result = other()
                seconds[name].append(time.perf_counter() - start)
                del result  # freed outside every clock

        warm = warmup and not size.small
        start = time.perf_counter()
        if warm:
            setup()
            call()
        options = request.config.option
        fitting = float(options.benchmark_max_time) / (time.perf_counter() - start)
        usual = max(int(options.benchmark_min_rounds), int(fitting) if warm else 0)
        smoke = 2 if others else 1
        for times in seconds.values():
            times.clear()
        benchmark.pedantic(call, setup=setup, rounds=smoke if size.small else rounds or usual)
        if benchmark.stats is None:  # --benchmark-disable: it ran once, untimed
            return
        timings = {name: Timing(tuple(times)) for name, times in seconds.items()}
        own = timings["own"] = Timing(tuple(benchmark.stats.stats.data))
        cells: dict[str, float | str] = {}
        spread: dict[str, tuple[float, float]] = {}
        if not against:
            cells[f"{column}, ms"] = 1e3 * own.median
        for name in against or {}:
            cells[f"{name}, ms"] = 1e3 * timings[name].median
            cells[f"{column} / {name}"] = own.ratio(timings[name])
            if len(own.seconds) > 1:
                spread[f"{column} / {name}"] = own.spread(timings[name])
        cells |= facts(timings) if callable(facts) else facts or {}
        goals = [(name, goal, 1) for name, goal in (at_most or {}).items()]
        goals += [(name, goal, -1) for name, goal in (at_least or {}).items()]
        missed = [
            f"{name}: {cells[name]:.3g}, goal {goal:g}"
            for name, goal, sign in goals
            if not size.small and sign * cells[name] > sign * goal
        ]
        benchmark.extra_info.update(
            table=table, row=dict(row), cells=cells, spread=spread, missed=missed
        )

    return run
