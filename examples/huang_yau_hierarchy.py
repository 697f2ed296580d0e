"""Truncated tangent hierarchy beside real training, after Huang and Yau (2019).

    python examples/huang_yau_hierarchy.py [--out huang_yau_hierarchy.png] [--seeds 32]

Networks of two hidden tanh layers, four inputs in three dimensions, gradient flow to time 1. The
hierarchy truncated at p keeps the kernel K_p of the start. Left: medians of the error of the
outputs. Expected are 1/m for p = 2, the linearised network, and 1/m^2 for p = 4; the scatter
between networks is wide, and 32 of each width give slopes of -0.97 and -1.35. Right: sizes of the
kernels, both expected like 1/m. It needs torch.
"""

from __future__ import annotations

import argparse
import warnings

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import torch  # noqa: F401 - said here so that its absence is found at once

from ntkfast.finite import MLP, gradient_flow, hierarchy

WIDTHS = np.array([16, 32, 64, 128])
COLOURS = ("#0072B2", "#E69F00", "#009E73")


def measure(width: int, seed: int) -> tuple[list[float], list[float]]:
    """Return the errors for p = 2, 3, 4 and the root mean squares of K_3 and K_4."""
    g = np.random.default_rng(0)
    X, y = g.normal(size=(4, 3)), g.normal(size=4)
    net = MLP((3, width, width, 1), "tanh", w_std=(np.sqrt(3), 1, 1), rng=seed)
    exact, found = gradient_flow(net, X, y, [1.0])[0], hierarchy(net, X)
    errors = [float(np.linalg.norm(found.train(y, [1.0], p)[0] - exact)) for p in (2, 3, 4)]
    return errors, [float(np.sqrt(np.mean(K**2))) for K in found.kernels[1:]]


def main() -> None:
    """Draw two panels."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", default="huang_yau_hierarchy.png")
    parser.add_argument("--seeds", type=int, default=12)
    options = parser.parse_args()
    warnings.simplefilter("ignore", DeprecationWarning)  # torch's own, in forward differentiation
    runs = [[measure(int(width), seed) for seed in range(options.seeds)] for width in WIDTHS]
    errors = np.array([np.median([one[0] for one in row], axis=0) for row in runs])
    sizes = np.array([np.median([one[1] for one in row], axis=0) for row in runs])
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.8))
    for p, values, colour in zip((2, 3, 4), errors.T, COLOURS, strict=True):
        slope = np.polyfit(np.log(WIDTHS), np.log(values), 1)[0]
        left.loglog(WIDTHS, values, "o-", color=colour, label=f"p = {p}, slope {slope:.2f}")
        print(f"p = {p}: slope {slope:.2f}, errors {values}")
    for r, values, colour in zip((3, 4), sizes.T, COLOURS[1:], strict=True):
        slope = np.polyfit(np.log(WIDTHS), np.log(values), 1)[0]
        right.loglog(WIDTHS, values, "o-", color=colour, label=f"$K_{r}$, slope {slope:.2f}")
    left.set_ylabel("error of the outputs at time 1")
    right.set_ylabel("root mean square")
    for axes in (left, right):
        axes.set_xscale("log", base=2)
        axes.set_xlabel("width m")
        axes.legend(frameon=False, fontsize=8)
    figure.tight_layout()
    figure.savefig(options.out, dpi=150)
    print(f"wrote {options.out}")


if __name__ == "__main__":
    main()
