"""Fixtures shared by all tests: the engines and instruction sets at hand, and the two dtypes.

Also what runs: ``slow`` tests and most of every ``grid`` wait for ``-m slow`` or ``--all``; and
where: with pytest-xdist the tests of a file stay in one process.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Processes beside each other share the processors, and those they start do. Two threads, so that
# kernels meet threads.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("NTKFAST_NUM_THREADS", "2")
    for library in ("OMP", "OPENBLAS", "MKL", "VECLIB_MAXIMUM"):
        os.environ.setdefault(f"{library}_NUM_THREADS", "1")

# What Python compiles serves the processes that tests start, dozens: without it each one would
# compile NumPy, SciPy and Numba again in an environment that was installed with --no-compile.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# The tests are no package: their oracle, cases and tolerances are imported by name.
sys.path.insert(0, str(Path(__file__).parent))

import hypothesis
import numpy as np
import pytest
import threadpoolctl

from covering import covering

# A shell starts background jobs with SIGINT ignored, and children inherit that: the tests of Ctrl-C
# need it.
signal.signal(signal.SIGINT, signal.default_int_handler)

if "PYTEST_XDIST_WORKER" in os.environ:  # where a plugin has imported NumPy before this file
    threadpoolctl.threadpool_limits(1, user_api="blas")

# How long an example takes depends on what else the processors do.
hypothesis.settings.register_profile(
    "shared", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("shared")

REQUIRE_NATIVE = os.environ.get("NTKFAST_REQUIRE_NATIVE") == "1"
NO_NATIVE = "the compiled extension ntkfast._core is not installed"


def _instruction_sets() -> tuple[str, ...]:
    """Instruction sets this machine can run; empty without the compiled extension."""
    try:
        from ntkfast.engines import native

        return tuple(native.available_isas())
    except ImportError:
        return ()


@dataclass(frozen=True)
class Engine:
    """One way of computing: an engine and, for the native one, an instruction set."""

    name: str
    isa: str | None = None

    def __str__(self) -> str:
        """Name used in test ids."""
        return f"{self.name}-{self.isa}" if self.isa else self.name

    @contextlib.contextmanager
    def active(self) -> Iterator[dict[str, Any]]:
        """Force the instruction set; yields the keyword arguments that choose the engine."""
        if self.isa is None:
            yield {"engine": self.name}
        else:
            from ntkfast.engines import native

            with native.force_isa(self.isa):
                yield {"engine": self.name}


def _native(value: Any) -> Any:
    """Return a parameter for the native engine, which may be absent unless it must not be."""
    absent = not _instruction_sets() and not REQUIRE_NATIVE
    return pytest.param(value, id="native", marks=[pytest.mark.skip(reason=NO_NATIVE)] * absent)


def _engines() -> list[Any]:
    from ntkfast.engines import cuda

    isas = _instruction_sets()
    if isas:
        native = [pytest.param(Engine("native", isa), id=f"native-{isa}") for isa in isas]
    else:
        native = [_native(Engine("native"))]
    found = [*native, pytest.param(Engine("numba"), id="numba")]
    if not cuda.unavailable():  # a device, or the host playing it: see tests/test_cuda_device.py
        found.append(pytest.param(Engine("cuda"), id="cuda"))
    return found


# Every instruction set runs these; the others run on the best one, and all of them on all with
# NTKFAST_TEST_ISAS=all. The C++ tests cover every map on every set as well.
EVERY_ISA = ("test_zonal", "test_near_duplicates", "test_hadamard")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that leaves nothing out."""
    parser.addoption("--all", action="store_true", help="run the slow tests and whole grids too")


def pytest_configure(config: pytest.Config) -> None:
    """Let ``--all`` take back the default of pyproject.toml."""
    if config.option.all and config.option.markexpr == "not slow":
        config.option.markexpr = ""


# What Numba compiles for one of these serves the others, of the same dtype.
NUMBA = ("numba", "engines_agree", "test_hadamard")
# These would compile for themselves alone, and the next ones for tens of seconds: images,
# sequences, products, and layers in float32.
COMPILE_AGAIN = (
    "test_fork_after_use",
    "test_layouts",
    "test_matmul",
    "test_matmul_out",
    "test_out_with_offsets_beyond_31_bits",
    "test_same_bits_for_any_number_of_threads",
    "test_spawn",
    "test_tables",
    "test_the_ends_of_a_table",
    "test_threads_give_the_same_bits",
)
LONG_TO_COMPILE = (
    "test_convolutional",
    "test_corners",
    "test_foreign",
    "test_fuzz_sequences",
    "test_image_layers",
    "test_recurrent",
    "test_symmetric_product",
)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Keep each file in one process, and Numba in two, for the sake of caches; not the examples."""
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            stem = Path(file).stem
            if stem in ("test_examples", "test_pages"):
                return nodeid
            if stem in ("test_convolutional", "test_image_layers"):
                return "numba"  # all engines share an oracle, and Numba what it compiles for long
            if any(word in nodeid for word in NUMBA):
                return "numba, float32" if "float32" in nodeid else "numba"
            return file

    config.option.loadscopereorder = False  # by numbers of tests: the longest examples would end
    return Scheduling(config, log) if config.option.dist == "load" else None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out lower instruction sets and repeated skips, and mark as slow most of every grid."""
    dropped = {*_lower_instruction_sets(items), *_repeated_skips(items)}
    if dropped:
        config.hook.pytest_deselected(items=[item for item in items if item in dropped])
        items[:] = [item for item in items if item not in dropped]
    for item in items:
        if _waits_for_numba(item):
            item.add_marker(pytest.mark.slow)
    for kept, grid in _grids(items):
        for index, item in enumerate(grid):
            if index not in kept:
                item.add_marker(pytest.mark.slow)


def _lower_instruction_sets(items: list[pytest.Item]) -> Iterator[pytest.Item]:
    """Yield what runs on less than the best instruction set where that is enough."""
    if os.environ.get("NTKFAST_TEST_ISAS") == "all":
        return
    others = [f"native-{isa}-" for isa in _instruction_sets()[1:]]
    others += [other[:-1] + "]" for other in others]
    for item in items:
        if not any(name in item.nodeid for name in EVERY_ISA):
            if any(other in item.nodeid for other in others):
                yield item


def _repeated_skips(items: list[pytest.Item]) -> Iterator[pytest.Item]:
    """Yield what parameters skip for a reason that another test of the file gives already."""
    given = set()
    for item in items:
        for mark in item.iter_markers("skip"):
            key = (item.path, mark.kwargs["reason"])
            if key in given:
                yield item
            given.add(key)


def _engine_of(item: Any) -> str:
    """Return the name of the engine that a parameter chooses, or nothing."""
    parameters = item.callspec.params if hasattr(item, "callspec") else {}
    return str(parameters.get("engine", parameters.get("engine_name", "")))


def _waits_for_numba(item: pytest.Item) -> bool:
    """Whether Numba would compile for long what the default engine does as well.

    By default it is compared with the native engine, in float64; grids compare that with oracles.
    New processes compile again.
    """
    if _engine_of(item) != "numba" or not _instruction_sets():
        return False
    single = item.callspec.params.get("dtype") is np.float32
    long = item.path.stem in LONG_TO_COMPILE
    again = getattr(item, "originalname", "") in COMPILE_AGAIN
    return single or long or again or item.get_closest_marker("grid") is not None


def _grids(items: list[pytest.Item]) -> Iterator[tuple[set[int], list[Any]]]:
    """Yield which points of every grid stand for all, and its items that are not slow anyway.

    Those on a device are not among them: who has one tests all of it.
    """
    grids: dict[str, list[Any]] = {}
    for item in items:
        if not item.get_closest_marker("grid") or _engine_of(item) == "cuda":
            continue
        if not item.get_closest_marker("slow"):
            grids.setdefault(item.nodeid.partition("[")[0], []).append(item)
    for grid in grids.values():
        points = [
            {name: id(value) for name, value in item.callspec.params.items()} for item in grid
        ]
        yield covering(points, grid[0].get_closest_marker("grid").args[0]), grid


@pytest.fixture(params=_engines())
def engine(request: pytest.FixtureRequest) -> Iterator[dict[str, Any]]:
    """Keyword arguments that choose one engine and instruction set, for every one available."""
    with request.param.active() as keywords:
        yield keywords


@pytest.fixture(params=[_native("native"), "numba"])
def engine_name(request: pytest.FixtureRequest) -> str:
    """Name of each engine with its default instruction set."""
    return request.param


@pytest.fixture(params=[np.float32, np.float64], ids=["float32", "float64"])
def dtype(request: pytest.FixtureRequest) -> type[np.floating]:
    """Both precisions."""
    return request.param


@pytest.fixture(scope="session")
def reference_files() -> Path:
    """Directory of the larger reference files, which are no part of this repository."""
    directory = os.environ.get("NTKFAST_REFERENCE")
    if not directory:
        pytest.skip("NTKFAST_REFERENCE names no directory of reference files")
    return Path(directory)
