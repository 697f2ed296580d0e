"""How far training moves weights and NTK, figure 2 of Huang, Du and Xu (2020).

    python examples/huang_training.py [--out huang_training.png] [--largest 12]

Three-hidden-layer erf networks with Gaussian and orthogonal weights on 20 digits, gradient descent
on the mean of squares, against the width: relative change of the empirical NTK and of the weights
of each layer. The paper trains widths 2^4 ... 2^12; slopes fitted to its data from width 64 on are
-0.87 and -0.90 for the NTK, -0.5 for the first, -1 for the second and third and -0.6 for the last
layer. Steps are one over the largest eigenvalue of the NTK, until time 100.
"""

from __future__ import annotations

import argparse

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from numpy.typing import NDArray

from ntkfast.datasets import load_digits
from ntkfast.finite import MLP

COLOURS = ("k", "#0072B2", "#E69F00", "#009E73", "#CC79A7")
TIME = 100.0
NAMES = ("NTK", "$W_1$", "$W_2$", "$W_3$", "$W_4$")


def changes(width: int, init: str, seed: int) -> NDArray[np.float64]:
    """Return the relative changes of the NTK and of the weights."""
    images, labels = load_digits()
    X, y = images[:20] / 16, np.where(labels[:20] % 2, 1.0, -1.0)
    net = MLP((64, width, width, width, 1), "erf", init=init, w_std=1.5, b_std=0.1, rng=seed)
    steps, after = int(TIME * np.linalg.norm(net.ntk(X), 2) / len(X)), net
    for _ in range(steps):
        after = after.step(X, TIME / steps / len(X) * (y[:, None] - after(X)))
    pairs = [(after.ntk(X), net.ntk(X)), *zip(after.weights, net.weights, strict=True)]
    return np.array([np.linalg.norm(a - b) / np.linalg.norm(b) for a, b in pairs])


def main() -> None:
    """Draw a panel for each law of the weights."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", default="huang_training.png")
    parser.add_argument("--largest", type=int, default=8, help="exponent of the largest width")
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    widths = 2 ** np.arange(4, options.largest + 1)
    figure, panels = plt.subplots(1, 2, figsize=(9, 4), sharey=True)
    for axes, init in zip(panels, ("gaussian", "orthogonal"), strict=True):
        runs = [[changes(int(w), init, s) for s in range(options.seeds)] for w in widths]
        for name, values, colour in zip(NAMES, np.mean(runs, axis=1).T, COLOURS, strict=True):
            late = widths >= 64
            slope = np.polyfit(np.log(widths[late]), np.log(values[late]), 1)[0]
            axes.loglog(widths, values, "o-", ms=4, color=colour, label=f"{name}, {slope:.2f}")
            print(f"{init} {name}: slope {slope:.2f}, at the largest width {values[-1]:.3g}")
        axes.set_title(init, fontsize=10)
        axes.set_xscale("log", base=2)
        axes.set_xlabel("width")
        axes.legend(frameon=False, fontsize=8)
    panels[0].set_ylabel("relative change by training")
    figure.tight_layout()
    figure.savefig(options.out, dpi=150)
    print(f"wrote {options.out}")


if __name__ == "__main__":
    main()
