"""Power of two-sample tests with the NTK, as in Cheng and Xie (2021), and on handwritten digits.

    python examples/cheng_xie_power.py [--runs 500] [--out cheng_xie_power.png]

Left: N(0, I) against N(0, I + rho 1 1^T) in 100 dimensions, 200 inputs each, at level 5 %. The
time-zero NTK of a softplus network of width 512, half of the inputs for training and labels of the
test half permuted, is the experiment of the paper, whose rates are the black crosses. Without the
split the same kernel finds more, and so does the NTK of the infinitely wide network. Right: digits
3 to 5 against a sample of which a share is replaced by other digits.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

import ntkfast as nf
from ntkfast.datasets import load_digits
from ntkfast.statistics import power

PUBLISHED = {0.0: 0.058, 0.04: 0.130, 0.08: 0.430, 0.12: 0.824, 0.16: 0.960}
BLUE, ORANGE, GREEN = "#0072B2", "#E69F00", "#009E73"
Draw = Callable[[np.random.Generator], tuple[Any, Any]]
VARIANTS: dict[str, tuple[dict[str, Any], str, str]] = {
    "finite NTK, split, test labels permuted": ({"split": 0.5, "bootstrap": "test"}, BLUE, "o"),
    "finite NTK, all inputs, all labels": ({}, ORANGE, "s"),
    "NTK of infinite width, all inputs": ({"kernel": nf.FullyConnected(1).ntk}, GREEN, "^"),
}


def correlated(rho: float) -> Draw:
    """Return samples of the experiment in 100 dimensions."""

    def draw(g: np.random.Generator) -> tuple[Any, Any]:
        common = np.sqrt(rho) * g.normal(size=(200, 1))
        return g.normal(size=(200, 100)), g.normal(size=(200, 100)) + common

    return draw


def digits(share: float) -> Draw:
    """Return 80 images of 3, 4 and 5, and 80 of which a share are other digits."""
    X, y = load_digits()
    usual, other = X[(y >= 3) & (y <= 5)] / 16, X[(y < 3) | (y > 5)] / 16

    def draw(g: np.random.Generator) -> tuple[Any, Any]:
        chosen = usual[g.choice(len(usual), 160, replace=False)]
        count = round(80 * share)
        chosen[80 : 80 + count] = other[g.choice(len(other), count, replace=False)]
        return chosen[:80], chosen[80:]

    return draw


def curves(axes: Axes, draw: Callable[[float], Draw], xs: list[float], runs: int) -> None:
    """Draw the power of all variants."""
    for name, (options, colour, marker) in VARIANTS.items():
        found = [power(draw(x), n_runs=runs, **options) for x in xs]
        rates, errors = [f.rate for f in found], [f.standard_error for f in found]
        print(f"{name:42s}", *(f"{x:g}: {f.rate:.3f}" for x, f in zip(xs, found, strict=True)))
        axes.errorbar(xs, rates, errors, color=colour, marker=marker, ms=5, capsize=2, label=name)
    axes.axhline(0.05, color="0.6", lw=0.8, ls="--")
    axes.set_ylim(0, 1.02)


def main() -> None:
    """Draw two panels."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", default="cheng_xie_power.png")
    parser.add_argument("--runs", type=int, default=40)
    options = parser.parse_args()
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), sharey=True)
    curves(left, correlated, list(PUBLISHED), options.runs)
    left.plot(*zip(*PUBLISHED.items(), strict=True), "kx", ms=8, label="published", zorder=5)
    curves(right, digits, [0.0, 0.2, 0.4, 0.6, 0.8], options.runs)
    left.set_xlabel(r"$\rho$")
    right.set_xlabel("share of other digits")
    left.set_ylabel(f"power ({options.runs} runs)")
    left.legend(frameon=False, fontsize=8)
    figure.tight_layout()
    figure.savefig(options.out, dpi=150)
    print(f"wrote {options.out}")


if __name__ == "__main__":
    main()
