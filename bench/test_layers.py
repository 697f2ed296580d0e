"""Layer maps: networks with biases on rows of unequal norms, whose cost grows with depth."""

from __future__ import annotations

from functools import partial

import pytest

import ntkfast as nf
from ntkfast.engines import native
from peers import gaussian_rows
from race import Race, Size, Times

SHALLOW, DEEP, COLUMNS = 3, 10, 10
GOAL = {"x86_64_v4": 1.5, "x86_64_v3": 3.0}  # core nanoseconds per pair and layer, ReLU, float64


@pytest.mark.parametrize("isa", native.available_isas())
@pytest.mark.parametrize("activation", ["relu", "erf", "gelu"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_layers(
    race: Race, size: Size, threads: int, dtype: str, activation: str, isa: str
) -> None:
    """Core nanoseconds per pair and layer, and those of one more layer."""
    X, Y = (gaussian_rows(size(64, 4000), COLUMNS, dtype, seed=seed) for seed in (1, 2))
    shallow, deep = (
        nf.FullyConnected(depth, activation=activation, parameterization="ntk", b_std=0.1).ntk
        for depth in (SHALLOW, DEEP)
    )
    share = 1e9 * threads / (len(X) * len(Y))

    def facts(times: Times) -> dict[str, float]:
        first, last = (times[name].median for name in (f"depth {SHALLOW}", "own"))
        return {
            f"ns, depth {SHALLOW}": share * first / SHALLOW,
            f"ns, depth {DEEP}": share * last / DEEP,
            "ns, one more layer": share * (last - first) / (DEEP - SHALLOW),
        }

    goal = GOAL.get(isa) if (activation, dtype) == ("relu", "float64") else None
    with native.force_isa(isa):
        race(
            partial(deep, X, Y),
            "layers",
            {"dtype": dtype, "activation": activation, "instruction set": isa},
            f"depth {DEEP}",
            against={f"depth {SHALLOW}": partial(shallow, X, Y)},
            facts=facts,
            at_most={f"ns, depth {DEEP}": goal} if goal else {},
        )
