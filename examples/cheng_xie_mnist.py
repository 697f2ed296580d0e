"""Two-sample tests on images of digits, after Cheng and Xie (2021), who use MNIST too.

The first sample has every digit with probability 1/10; in the second a share of the images is
replaced by images of one digit, a departure that is concentrated in a small part of the space.
Left: power at level 5 % against the share, for 200 + 200 images, of the NTK of the paper's finite
network with and without its split, of the NTK and NNGP of infinite width, a Gaussian kernel with
the median distance as its width, and the linear kernel, which compares means. Right: the share
0.1 against the number of images. With NTKFAST_DATA naming a folder that holds mnist.npz images
have 28 x 28 pixels, else they are the 8 x 8 digits of the package.

    NTKFAST_DATA=data python examples/cheng_xie_mnist.py --runs 200 --out cheng_xie_mnist.png
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray
from scipy.spatial.distance import pdist

import ntkfast as nf
from ntkfast import datasets
from ntkfast.plot.style import INK, dress, figure_of, legend, save, shades
from ntkfast.statistics import power

DIGIT = 1  # of which there are too many
Images = NDArray[np.float32]
Draw = Callable[[np.random.Generator], tuple[Any, Any]]


def load() -> tuple[str, Images, NDArray[np.int64]]:
    """Return a name, images as rows with pixels from 0 to 1, and labels."""
    try:
        with np.load(datasets.find("mnist")) as file:
            X, y = file["X_train"].reshape(-1, 784) / np.float32(255), file["y_train"]
        return "MNIST", X.astype(np.float32), y.astype(np.int64)
    except FileNotFoundError:
        X, y = datasets.load_digits()
        return "digits", (X / 16).astype(np.float32), y


def variants(X: Images) -> dict[str, dict[str, Any]]:
    """Return the options of the tests by name."""
    width = float(np.median(pdist(X[:500])))
    return {
        "finite NTK, split": {"split": 0.5, "bootstrap": "test"},
        "finite NTK": {},
        "NTK, 3 layers": {"kernel": nf.FullyConnected(3).ntk},
        "NNGP, 3 layers": {"kernel": nf.FullyConnected(3).nngp},
        "Gaussian": {"kernel": nf.Gaussian(c=1 / (2 * width**2))},
        "linear": {"kernel": nf.FullyConnected(0).nngp},
    }


def departure(X: Images, y: NDArray[np.int64], share: float, size: int) -> Draw:
    """Return how to draw both samples, from disjoint images."""
    digits = [np.flatnonzero(y == digit) for digit in range(10)]

    def draw(g: np.random.Generator) -> tuple[Images, Images]:
        labels = g.integers(10, size=2 * size)
        labels[size:][g.random(size) < share] = DIGIT
        chosen = np.empty(2 * size, int)
        for digit, members in enumerate(digits):
            places = np.flatnonzero(labels == digit)
            chosen[places] = g.choice(members, len(places), replace=False)
        return X[chosen[:size]], X[chosen[size:]]

    return draw


def curves(axes: Axes, draws: dict[float, Draw], tests: dict[str, Any], runs: int) -> None:
    """Print and draw the power of all tests."""
    for (name, options), shade in zip(tests.items(), shades(len(tests)), strict=True):
        found = [power(draw, n_runs=runs, **options) for draw in draws.values()]
        rates, errors = [f.rate for f in found], [f.standard_error for f in found]
        rows = zip(draws, rates, strict=True)
        print(f"{name:20s}", *(f"{x:g}: {rate:.3f}" for x, rate in rows))
        axes.errorbar(
            list(draws), rates, errors, color=shade, marker="o", ms=4, capsize=2, label=name
        )
    axes.axhline(0.05, color=INK, lw=0.8, ls=(0, (6, 4)))
    axes.set_ylim(0, 1.02)


def main() -> None:
    """Draw two panels."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", default="cheng_xie_mnist.png")
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--sizes", type=int, nargs="+", default=[100, 200])
    parser.add_argument("--shares", type=float, nargs="+", default=[0.0, 0.1, 0.2])
    options = parser.parse_args()
    name, X, y = load()
    most = np.bincount(y).min() // 2  # images of one digit in both samples
    figure = figure_of(10.5, 4.4)
    left, right = figure.subplots(1, 2)
    tests = variants(X)
    dress(left, f"{name}, 200 + 200 images")
    sharing = {s: departure(X, y, s, 200) for s in options.shares if 200 * s < most}
    curves(left, sharing, tests, options.runs)
    dress(right, f"{name}, share 0.1")
    growing = {float(n): departure(X, y, 0.1, n) for n in options.sizes}
    curves(right, growing, tests, options.runs)
    left.set_xlabel(f"share of the digit {DIGIT} that is added", color=INK)
    left.set_ylabel(f"power ({options.runs} runs)", color=INK)
    right.set_xlabel("images of each sample", color=INK)
    legend(left, "lower right")
    save(figure, options.out)
    print(f"wrote {options.out}")


if __name__ == "__main__":
    main()
