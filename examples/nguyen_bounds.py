"""Bounds of Nguyen, Mondelli and Montufar (2021) beside the smallest eigenvalue: n, d and depth.

    python examples/nguyen_bounds.py [--out nguyen_bounds.png]

Gaussian rows with E|x|^2 = d, as in their theorem: the smallest eigenvalue of the NTK of deep ReLU
networks grows like d, as long as n is small against a power of d, and in proportion to the depth.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

import ntkfast as nf
from ntkfast.spectrum import BoundTable, bounds

# Okabe and Ito's colours, distinct under all common kinds of colour blindness; markers tell too.
CURVES = {
    "diagonal": ("diagonal", "#D55E00", "v"),
    "pair": ("pair of rows", "#E69F00", "D"),
    "Schur sum": ("Schur sum", "#0072B2", "^"),
    "all powers": ("all powers, first layer", "#009E73", "s"),
    "power 2": ("power 2, first layer", "#CC79A7", "o"),
}


def table(n: int, d: int, hidden: int) -> BoundTable:
    """Bounds for Gaussian rows."""
    return bounds(nf.FullyConnected(hidden), np.random.default_rng(n + d).normal(size=(n, d)))


def draw(axes: Axes, xs: Sequence[int], tables: Iterable[BoundTable], label: str) -> None:
    """Draw the bounds and the smallest eigenvalue against one parameter."""
    found = list(tables)
    for name, (legend, colour, marker) in CURVES.items():
        values = [one[name].value for one in found]
        kept = [(x, value) for x, value in zip(xs, values, strict=True) if value > 0]
        if kept:
            axes.loglog(*zip(*kept, strict=True), color=colour, marker=marker, label=legend, ms=5)
    axes.loglog(xs, [one.lambda_min for one in found], "k-", lw=2.5, label="smallest eigenvalue")
    axes.set_xlabel(label)
    axes.set_xticks(xs, [str(x) for x in xs])
    axes.minorticks_off()
    axes.grid(alpha=0.3)


def main() -> None:
    """Draw three panels and print one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", default="nguyen_bounds.png")
    out = parser.parse_args().out
    print(table(200, 50, 2))
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(12, 4), sharey=True)
    rows, dims, depths = (50, 100, 200, 400, 800), (10, 20, 40, 80, 160), (1, 2, 4, 8, 16)
    draw(left, rows, (table(n, 50, 2) for n in rows), "rows n   (d = 50, 2 hidden layers)")
    draw(
        middle, dims, (table(200, d, 2) for d in dims), "dimensions d   (n = 200, 2 hidden layers)"
    )
    draw(right, depths, (table(200, 50, h) for h in depths), "hidden layers   (n = 200, d = 50)")
    left.set_ylabel("smallest eigenvalue and bounds")
    handles, labels = left.get_legend_handles_labels()
    figure.legend(handles, labels, loc="upper center", ncols=6, frameon=False)
    figure.tight_layout(rect=(0, 0, 1, 0.93))
    figure.savefig(out, dpi=150)
    print(f"wrote {out}")


if __name__ == "__main__":
    main()
