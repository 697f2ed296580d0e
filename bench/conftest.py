"""The benchmark suite: its options, what it sets before NumPy is loaded, and what it prints.

    pytest bench --benchmark-only                                       # everything, about an hour
    pytest bench --benchmark-only --size small                          # seconds: does it run?
    pytest bench/test_gram.py --benchmark-only --benchmark-json run.json
    python bench/tables.py run.json                                     # as Markdown

How it times: `race.py`. Between commits: ``--benchmark-autosave``, then ``--benchmark-compare``.
"""

from __future__ import annotations

import os
import platform
import sys
import warnings
from collections.abc import Iterator
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

# The suite is no package: its modules import their neighbours by name.
sys.path.append(str(Path(__file__).parent))

# Threads of OpenBLAS spin for 0.1 s after a product and take a core from whoever runs next; with
# this they sleep after 16 turns. Those of OpenMP (PyTorch, scikit-learn) have their own switch.
SET = {"OPENBLAS_THREAD_TIMEOUT": "4", "OMP_WAIT_POLICY": "PASSIVE"}
UNSET = ("OPENBLAS_CORETYPE",)  # the product runs the kernel that its library chooses
FOUND = {name: os.environ.get(name) for name in (*SET, *UNSET)}
LOADED = "numpy" in sys.modules
LATE = LOADED and any(FOUND[name] != SET.get(name) for name in FOUND)
os.environ.update(SET)
for name in UNSET:
    os.environ.pop(name, None)

SIZES = ("small", "full", "huge")
PACKAGES = ("numpy", "scipy", "numba", "pytest-benchmark")


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
    config.addinivalue_line("markers", "huge: runs with --size huge only")
    # A comparison with a run on another machine says so, and goes on.
    warnings.filterwarnings("default", "Benchmark machine_info is different")
    late, before = LATE, cores()
    if config.option.threads is None:
        config.option.threads = before
    elif config.option.threads < before and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: config.option.threads])
        late = LOADED
    if late:
        again(config)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what the size does not ask for; no time limit, and peers may warn."""

    def wanted(item: Any) -> bool:
        parameters = item.callspec.params if hasattr(item, "callspec") else {}
        if config.option.size == "small" and parameters.get("dtype") == "float32":
            return False
        return config.option.size == "huge" or item.get_closest_marker("huge") is None

    config.hook.pytest_deselected(items=[item for item in items if not wanted(item)])
    items[:] = filter(wanted, items)
    for item in items:
        item.add_marker(pytest.mark.timeout(0))
        item.add_marker(pytest.mark.filterwarnings("default"))


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
        "packages": ", ".join(f"{name} {version(name)}" for name in PACKAGES),
        "size": config.option.size,
    }


def load() -> str:
    """Return the load averages of 1, 5 and 15 minutes."""
    return " ".join(f"{x:.2f}" for x in os.getloadavg()) if hasattr(os, "getloadavg") else "unknown"


def pytest_report_header(config: pytest.Config) -> list[str]:
    """Print what the suite runs on, and what it found where it sets something."""
    from ntkfast import __version__

    facts = {"ntkfast": __version__, **pytest_benchmark_generate_machine_info(config)}
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
    from ntkfast.command.bench import limited

    with limited(threads):
        yield


@pytest.fixture(scope="session")
def size(request: pytest.FixtureRequest) -> Any:
    """Return what chooses between the numbers of a smoke run and of a full one."""
    from race import Size

    return Size(request.config.option.size)


@pytest.fixture
def race(benchmark: Any, size: Any, request: pytest.FixtureRequest) -> Any:
    """Return what times a call in turn with what it is compared with."""
    from race import Race

    return Race(benchmark, size, request.config.option)
