"""Measure the rate of false alarms of ChangePoint, on fresh references and streams.

    python bench/change_point_level.py --reference 200 400 --inputs normal t3 lognormal --runs 2000

Prints a table after every 100 runs of all cases. The lower end of a 95 % confidence interval
(Clopper and Pearson) is above the level, 0.05, where the level does not hold.
"""

from __future__ import annotations

import argparse
import itertools
from collections import Counter
from collections.abc import Callable

import numpy as np
from scipy import stats

import ntkfast as nf

Draw = Callable[[np.random.Generator, int], np.ndarray]
INPUTS: dict[str, Draw] = {
    "normal": lambda g, n: g.normal(size=(n, 4)),
    "t3": lambda g, n: g.standard_t(3, size=(n, 4)),
    "lognormal": lambda g, n: np.exp(g.normal(size=(n, 4))),
}


def alarm(draw: Draw, reference: int, window: int, horizon: int, seed: int) -> bool:
    """Return whether a stream without a change has an alarm."""
    g = np.random.default_rng(seed)
    watch = nf.statistics.ChangePoint(
        nf.FullyConnected(1).ntk,
        draw(g, reference),
        window=window,
        horizon=horizon,
        rng=g,
        threads=1,
        progress=False,
    )
    return watch.first_alarm(draw(g, horizon)) is not None


def main() -> None:
    """Print the rates."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--reference", type=int, nargs="+", default=[200, 400])
    parser.add_argument("--window", type=int, default=50)
    parser.add_argument("--horizon", type=int, default=1000)
    parser.add_argument("--inputs", choices=INPUTS, nargs="+", default=list(INPUTS))
    parser.add_argument("--runs", type=int, default=2000)
    a = parser.parse_args()
    cases = list(itertools.product(a.inputs, a.reference))
    alarms: Counter[tuple[str, int]] = Counter()
    for run in range(1, a.runs + 1):
        for inputs, reference in cases:
            case = inputs, reference
            alarms[case] += alarm(INPUTS[inputs], reference, a.window, a.horizon, run)
        if run % 100 and run < a.runs:
            continue
        print(
            f"\n| inputs | reference | false alarms of {run} | rate | 95 % |\n|---|---|---|---|---|"
        )
        for case in cases:
            low, high = stats.binomtest(alarms[case], run).proportion_ci()
            rate = alarms[case] / run
            print(f"| {case[0]} | {case[1]} | {alarms[case]} | {rate:.4f} | {low:.4f}-{high:.4f} |")
        print(end="", flush=True)


if __name__ == "__main__":
    main()
