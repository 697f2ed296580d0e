"""Measure the rate of false alarms of ChangePoint, on fresh references and streams.

    python bench/change_point_level.py --reference 200 --inputs t3 --runs 2000

The rate must be at most the level, up to two standard errors, which are printed with it.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np

import ntkfast as nf

Draw = Callable[[np.random.Generator, int], np.ndarray]
INPUTS: dict[str, Draw] = {
    "normal": lambda g, n: g.normal(size=(n, 4)),
    "t3": lambda g, n: g.standard_t(3, size=(n, 4)),
    "lognormal": lambda g, n: np.exp(g.normal(size=(n, 4))),
}


def false_alarms(draw: Draw, reference: int, window: int, horizon: int, runs: int) -> float:
    """Return the share of runs with an alarm, without a change."""
    kernel, alarms = nf.FullyConnected(1).ntk, 0
    for seed in range(runs):
        g = np.random.default_rng(seed)
        watch = nf.statistics.ChangePoint(
            kernel, draw(g, reference), window=window, horizon=horizon, rng=g, progress=False
        )
        alarms += watch.first_alarm(draw(g, horizon)) is not None
    return alarms / runs


def main() -> None:
    """Print one rate."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--reference", type=int, default=200)
    parser.add_argument("--window", type=int, default=50)
    parser.add_argument("--horizon", type=int, default=1000)
    parser.add_argument("--inputs", choices=INPUTS, default="normal")
    parser.add_argument("--runs", type=int, default=2000)
    a = parser.parse_args()
    rate = false_alarms(INPUTS[a.inputs], a.reference, a.window, a.horizon, a.runs)
    error = (rate * (1 - rate) / a.runs) ** 0.5
    print(f"{a.inputs}, reference {a.reference}: {rate:.4f} +- {error:.4f} at level 0.05")


if __name__ == "__main__":
    main()
