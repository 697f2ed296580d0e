"""Finite networks with Gaussian and orthogonal weights, figure 1 of Huang, Du and Xu (2020).

    python examples/huang_orthogonal.py [--out huang_orthogonal.png] [--largest 10]

20 points N(0, I) in 1024 dimensions, one hidden ReLU layer, w_std = 1.5, b_std = 0.1: relative
distance of the mean of M empirical kernels from the exact one. The paper goes to a width of 2^12
and draws M = 2^0 ... 2^5; the last panels here show both laws of the weights for deeper erf
networks, where orthogonal ones have the smaller constant at the same rate.
"""

from __future__ import annotations

import argparse

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from ntkfast.finite import convergence

BLUE, ORANGE = "#0072B2", "#E69F00"
DRAWS = (1, 4, 16)


def panel(axes: Axes, init: str, kind: str, widths: list[int]) -> None:
    """Draw the error against the width, for means of several networks."""
    X = np.random.default_rng(0).normal(size=(20, 1024))
    for draws, shade in zip(DRAWS, ("0.7", "0.4", "0.0"), strict=True):
        found = convergence(
            X, widths, inits=[init], kind=kind, n_draws=draws, n_repeats=2, w_std=1.5, b_std=0.1
        )
        axes.loglog(widths, found.errors[init], "o-", ms=4, color=shade, label=f"M = {draws}")
        print(f"{kind} {init} M = {draws}: slope {found.slopes[init]:.2f}")
    axes.loglog(widths, 2.0 * np.array(widths) ** -0.5, "k--", lw=0.8, label="$n^{-1/2}$")
    axes.set_title(f"{kind.upper()}, {init}", fontsize=10)


def constants(axes: Axes, depth: int) -> None:
    """Draw both laws of the weights for an erf network."""
    X, widths = np.random.default_rng(0).normal(size=(20, 64)), [32, 64, 128, 256, 512]
    found = convergence(X, widths, depth=depth, activation="erf", w_std=1.5, b_std=0.1)
    for (name, errors), colour in zip(found.errors.items(), (BLUE, ORANGE), strict=True):
        bars = found.standard_errors[name]
        axes.errorbar(widths, errors, bars, color=colour, marker="o", ms=4, label=name)
    ratio = found.errors["orthogonal"] / found.errors["gaussian"]
    print(f"erf, {depth} hidden layers: orthogonal / gaussian {ratio.round(2)}")
    axes.set_yscale("log")
    axes.set_title(f"NTK, erf, {depth} hidden layer{'s' * (depth > 1)}", fontsize=10)


def main() -> None:
    """Draw six panels."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", default="huang_orthogonal.png")
    parser.add_argument("--largest", type=int, default=9, help="exponent of the largest width")
    options = parser.parse_args()
    widths = [2**e for e in range(3, options.largest + 1)]
    figure, axes = plt.subplots(2, 3, figsize=(11, 6.5), sharey="col")
    for row, kind in zip(axes, ("nngp", "ntk"), strict=True):
        for one, init in zip(row[:2], ("gaussian", "orthogonal"), strict=True):
            panel(one, init, kind, widths)
    constants(axes[0, 2], 1)
    constants(axes[1, 2], 3)
    for one in axes.flat:
        one.legend(frameon=False, fontsize=7)
        one.set_xlabel("width n")
        one.set_xscale("log", base=2)
    axes[0, 0].set_ylabel("relative error")
    axes[1, 0].set_ylabel("relative error")
    figure.tight_layout()
    figure.savefig(options.out, dpi=150)
    print(f"wrote {options.out}")


if __name__ == "__main__":
    main()
