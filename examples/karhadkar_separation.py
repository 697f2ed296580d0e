"""The separation law of Karhadkar, Murray and Montufar (2024) for the smallest NTK eigenvalue.

    python examples/karhadkar_separation.py [--out karhadkar_separation.png] [--largest 800]

Left: one pair of rows approaches, all others stay. The smallest eigenvalue follows c delta' with
c = L (L + 1) / (2 pi), between delta^2 and delta' as the theorem has it for two layers. Right:
uniform points on spheres, where the least separation falls like n^{-2/(d-1)}, and the eigenvalue
with it: the upper bound of the paper has the sharp rate.
"""

from __future__ import annotations

import argparse

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

import ntkfast as nf
from ntkfast.spectrum import bounds

# Okabe and Ito's colours, distinct under all common kinds of colour blindness; markers tell too.
BLUE, ORANGE, GREEN, RED = "#0072B2", "#E69F00", "#009E73", "#D55E00"


def sphere(n: int, d: int, seed: int) -> NDArray[np.float64]:
    """Return uniform points on S^{d-1}."""
    X = np.random.default_rng(seed).normal(size=(n, d))
    return np.asarray(X / np.linalg.norm(X, axis=1, keepdims=True))


def with_close_pair(distance: float) -> NDArray[np.float64]:
    """Return 50 points in 10 dimensions of which the first two are this close."""
    X = sphere(50, 10, 0)
    aside = X[2] - (X[2] @ X[0]) * X[0]
    X[1] = X[0] + distance * aside / np.linalg.norm(aside)
    return X / np.linalg.norm(X, axis=1, keepdims=True)


def close_pair(axes: Axes) -> None:
    """Draw the smallest eigenvalue against the distance of one pair, for three depths."""
    distances = np.geomspace(1e-6, 0.5, 20)
    for hidden, colour, marker in ((1, BLUE, "o"), (3, ORANGE, "s"), (10, GREEN, "^")):
        network = nf.FullyConnected(hidden)
        axes.loglog(
            distances,
            [_least(network, with_close_pair(one)) for one in distances],
            marker,
            ms=5,
            color=colour,
            label=f"{hidden} hidden layer{'s' if hidden > 1 else ''}",
        )
        slope = hidden * (hidden + 1) / (2 * np.pi)
        axes.loglog(distances, slope * distances, "-", color=colour, lw=1)
        if hidden == 1:
            tables = [bounds(network, with_close_pair(one)) for one in distances]
            lower = [table["separation delta, shallow"].value for table in tables]
            axes.loglog(distances, lower, "--", color=RED, label="lower rate, constant set to 1")
    axes.plot([], [], "k-", lw=1, label=r"$L(L+1)\,\delta'/2\pi$")
    axes.set_xlabel(r"separation $\delta'$ of one pair   (n = 50, d = 10)")
    axes.set_ylabel("smallest eigenvalue")
    axes.set_ylim(1e-18, 1e3)


def uniform(axes: Axes, largest: int) -> None:
    """Draw the smallest eigenvalue of uniform points against their number, for four dimensions."""
    rows = np.array([n for n in (100, 200, 400, 800, 1600, 3200) if n <= largest])
    shallow = nf.FullyConnected(1)
    for d, colour, marker in ((3, BLUE, "o"), (4, ORANGE, "s"), (6, GREEN, "^"), (10, RED, "v")):
        draws = [[_least(shallow, sphere(n, d, seed)) for seed in range(5)] for n in rows]
        values = np.exp(np.mean(np.log(draws), axis=1))
        axes.loglog(rows, values, marker, color=colour, ms=6, label=f"d = {d}")
        rate = rows ** (-2.0 / (d - 1))
        axes.loglog(rows, rate * np.exp(np.mean(np.log(values / rate))), "-", color=colour, lw=1)
    axes.plot([], [], "k-", lw=1, label=r"$\propto n^{-2/(d-1)}$")
    axes.set_xlabel("uniform points n   (1 hidden layer, mean of 5 draws)")
    axes.set_xticks(rows, [str(n) for n in rows])
    axes.minorticks_off()


def _least(network: nf.FullyConnected, X: NDArray[np.float64]) -> float:
    return float(nf.spectrum.extremes(network.ntk, X).smallest[0])


def main() -> None:
    """Draw two panels."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", default="karhadkar_separation.png")
    parser.add_argument("--largest", type=int, default=800, help="points, up to 3200")
    arguments = parser.parse_args()
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.5))
    close_pair(left)
    uniform(right, arguments.largest)
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.legend(fontsize=9)
    figure.tight_layout()
    figure.savefig(arguments.out, dpi=150)
    print(f"wrote {arguments.out}")


if __name__ == "__main__":
    main()
