"""Fixtures shared by all tests: the engines and instruction sets at hand, and the two dtypes."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

# The tests are no package: their oracle, cases and tolerances are imported by name.
sys.path.insert(0, str(Path(__file__).parent))

# A shell starts background jobs with SIGINT ignored, and children inherit that: the tests of Ctrl-C
# need it.
signal.signal(signal.SIGINT, signal.default_int_handler)

REQUIRE_NATIVE = os.environ.get("NTKFAST_REQUIRE_NATIVE") == "1"


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


def _engines() -> list[Any]:
    from ntkfast.engines import cuda

    isas = _instruction_sets()
    if isas:
        native = [pytest.param(Engine("native", isa), id=f"native-{isa}") for isa in isas]
    else:
        native = [pytest.param(Engine("native"), id="native")]
    found = [*native, pytest.param(Engine("numba"), id="numba")]
    if not cuda.unavailable():  # a device, or the host playing it: see tests/test_cuda_device.py
        found.append(pytest.param(Engine("cuda"), id="cuda"))
    return found


# Every instruction set runs these; the others run on the best one, and all of them on all with
# NTKFAST_TEST_ISAS=all. The C++ tests cover every map on every set as well.
EVERY_ISA = ("test_zonal", "test_near_duplicates", "test_hadamard")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the instruction sets below the best one where that is enough."""
    if os.environ.get("NTKFAST_TEST_ISAS") == "all":
        return
    others = [f"native-{isa}-" for isa in _instruction_sets()[1:]]
    others += [other[:-1] + "]" for other in others]
    dropped = [
        item
        for item in items
        if not any(name in item.nodeid for name in EVERY_ISA)
        and any(other in item.nodeid for other in others)
    ]
    kept = set(dropped)
    items[:] = [item for item in items if item not in kept]
    config.hook.pytest_deselected(items=dropped)


def _require(engine: Engine) -> None:
    if engine.name == "native" and engine.isa is None:
        reason = "the compiled extension ntkfast._core is not installed"
        if REQUIRE_NATIVE:
            pytest.fail(reason + " and NTKFAST_REQUIRE_NATIVE=1")
        pytest.skip(reason)


@pytest.fixture(params=_engines())
def engine(request: pytest.FixtureRequest) -> Iterator[dict[str, Any]]:
    """Keyword arguments that choose one engine and instruction set, for every one available."""
    _require(request.param)
    with request.param.active() as keywords:
        yield keywords


@pytest.fixture(params=[Engine("native"), Engine("numba")], ids=str)
def engine_name(request: pytest.FixtureRequest) -> str:
    """Name of each engine with its default instruction set."""
    if request.param.name == "native" and not _instruction_sets():
        _require(request.param)
    return request.param.name


@pytest.fixture(params=[np.float32, np.float64], ids=["float32", "float64"])
def dtype(request: pytest.FixtureRequest) -> type[np.floating]:
    """Both precisions."""
    return request.param
