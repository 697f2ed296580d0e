"""Smallest NTK eigenvalue with few parameters, figure 1 of Bombari, Amani and Mondelli (2022).

    python examples/bombari_smallest.py [--rows 400 1000 2000 --largest 900000 --repeats 1]

Networks d - d - d - 1 with sigmoids, Gaussian inputs and weights, derivatives by stored weights.
The theorem says that lambda_min grows like d^2, about the number of parameters, as soon as that
exceeds the number N of inputs by logarithms. The released script takes the block of the middle
layer (left) although the text says the whole kernel (middle). Right: lambda_min / d^2 of the whole
kernel is not constant at these sizes; it still grows, most of all once d comes near N, where the
linear part of the features has full rank too.
"""

from __future__ import annotations

import argparse

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import NullFormatter
from numpy.typing import NDArray

from ntkfast.finite import MLP, smallest_eigenvalues

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7")


def measure(rows: int, d: int, seed: int) -> tuple[float, float]:
    """Return lambda_min of the block of the middle layer and of the whole kernel."""
    X = np.random.default_rng([seed, rows, d]).normal(size=(rows, d))
    net = MLP((d, d, d, 1), "sigmoid", w_std=(1, 1, np.sqrt(d)), rng=seed)
    found = smallest_eigenvalues(net, X, scaling="standard", n_probes=1)
    if rows > found.n_parameters:
        return 0.0, 0.0
    return max(float(found.layers[1]), 0.0), max(found.total, 0.0)


def curves(rows: int, dims: NDArray[np.int64], repeats: int) -> NDArray[np.float64]:
    """Return means over draws for each width."""
    found = [[measure(rows, int(d), seed) for seed in range(repeats)] for d in dims]
    return np.mean(found, axis=1)


def main() -> None:
    """Draw three panels."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", default="bombari_smallest.png")
    parser.add_argument("--rows", type=int, nargs="+", default=[100, 200, 400])
    parser.add_argument("--largest", type=int, default=40_000, help="d^2 of the largest network")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    dims = np.unique(np.sqrt(np.linspace(0.1, 1, 9) * options.largest).astype(int))
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(12, 3.8))
    for rows, colour in zip(options.rows, COLOURS, strict=False):
        block, whole = curves(rows, dims, options.repeats).T
        style = {"color": colour, "marker": "o", "ms": 4, "label": f"N = {rows}"}
        left.plot(dims**2, block, **style)
        middle.plot(dims**2, whole, **style)
        positive = whole > 0
        right.loglog(dims[positive] / rows, (whole / dims**2)[positive], **style)
        print(f"N = {rows}, middle layer and all layers over d^2:")
        for d, first, second in zip(dims, block / dims**2, whole / dims**2, strict=True):
            print(f"  d = {d:4d}  {first:.2e}  {second:.2e}")
    for axes, title in ((left, "middle layer"), (middle, "all layers")):
        axes.set_title(rf"$\lambda_{{\min}}$, {title}", fontsize=10)
        axes.set_xlabel("$d^2$")
    right.set_title(r"$\lambda_{\min} / d^2$, all layers", fontsize=10)
    right.set_xlabel("d / N")
    right.xaxis.set_minor_formatter(NullFormatter())  # less than two decades: labels would meet
    left.legend(frameon=False)
    figure.tight_layout()
    figure.savefig(options.out, dpi=150)
    print(f"wrote {options.out}")


if __name__ == "__main__":
    main()
