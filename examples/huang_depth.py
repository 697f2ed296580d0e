"""Steps to an accuracy against depth, after figure 4 of Huang, Du and Xu (2020).

Deep tanh networks near the edge of chaos (w_std^2 = 1.05, b_std^2 = 2.01e-5) with Gaussian and
orthogonal weights learn to classify images by stochastic gradient descent on squared errors, until
25 % of training images outside of the batches are right. The paper trains depths of 50 to 200 at
widths of 400 to 1600; width 100 with depths of 12, 25 and 50 has its ratios of depth and width at a
hundredth of the cost. Black crosses are the quotients of steps in the data of the paper, means over
the rates. At depth 50 orthogonal weights learn nearly as much faster as published; at 12 and 25 the
scatter hides the difference on CIFAR-10, but not on digits. With NTKFAST_DATA naming a folder that
holds cifar10_a.npz it runs on CIFAR-10, made smaller to 16 x 16 pixels, else, to an accuracy of
80 %, on the 8 x 8 digits of the package.

    NTKFAST_DATA=data python examples/huang_depth.py --depths 12 25 50 --rates 1 2 --seeds 10
"""

from __future__ import annotations

import argparse

import numpy as np
from numpy.typing import NDArray

from ntkfast import datasets
from ntkfast.finite import MLP
from ntkfast.plot.style import INK, dress, figure_of, legend, save, shades

INITS = ("gaussian", "orthogonal")
# Depth over width, and steps with Gaussian weights over those with orthogonal ones.
PUBLISHED = {50 / 1600: 1.38, 50 / 800: 1.63, 50 / 400: 2.00, 100 / 400: 2.54, 200 / 400: 3.03}
BATCH, HELD, EVERY = 128, 500, 2  # images of a step and of a test of accuracy, steps between
Values = NDArray[np.float64]
Images = NDArray[np.float32]


def load() -> tuple[str, float, Images, NDArray[np.int64]]:
    """Return a name, the accuracy to be reached, images as rows of norm sqrt(d), and labels."""
    try:
        with np.load(datasets.find("cifar10_a")) as file:
            images, y = file["X_train"] / 255.0, file["y_train"].astype(np.int64)
        X = images.reshape(-1, 16, 2, 16, 2, 3).mean(axis=(2, 4)).reshape(len(y), -1)
        name, wanted = "CIFAR-10", 0.25
    except FileNotFoundError:
        X, y = datasets.load_digits()
        name, wanted = "digits", 0.8
    X = X - X.mean(axis=0)
    X /= np.sqrt(np.mean(X**2, axis=1, keepdims=True))
    return name, wanted, X.astype(np.float32), y


def steps_to(
    wanted: float, net: MLP, X: Images, y: NDArray[np.int64], rate: float, most: int, seed: int
) -> float:
    """Return the steps until the accuracy is reached, or infinity."""
    order = np.random.default_rng(seed).permutation(len(X))
    held, train = order[:HELD], order[HELD:]
    targets = np.where(y[:, None] == np.arange(10), 0.9, -0.1)
    batches = np.random.default_rng([seed, 1])
    for step in range(most + 1):
        if step % EVERY == 0:
            answers = net(X[held])
            if not np.isfinite(answers).all():
                return np.inf
            if np.mean(np.argmax(answers, axis=1) == y[held]) >= wanted:
                return float(step)
        batch = batches.choice(train, BATCH, replace=False)
        net = net.step(X[batch], rate / BATCH * (targets[batch] - net(X[batch])))
    return np.inf


def measure(depth: int, init: str, rate: float, options: argparse.Namespace) -> Values:
    """Return the steps of every seed."""
    _, wanted, X, y = load()
    shape = (X.shape[1], *[options.width] * depth, 10)
    law = {"w_std": np.sqrt(1.05), "b_std": np.sqrt(2.01e-5)}
    found = np.empty(options.seeds)
    for seed in range(options.seeds):
        net = MLP(shape, "tanh", init=init, rng=seed, **law)
        found[seed] = steps_to(wanted, net, X, y, rate, options.steps, seed)
    return found


def quotient(steps: dict[str, Values]) -> float:
    """Return the mean over the rates of medians for Gaussian weights over those for orthogonal."""
    gaussian, orthogonal = (np.median(steps[init], axis=1) for init in INITS)
    common = np.isfinite(gaussian) & np.isfinite(orthogonal)
    return float(np.mean(gaussian[common] / orthogonal[common])) if common.any() else np.nan


def main() -> None:
    """Print the medians and draw them against the rate, and their quotients against the depth."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", default="huang_depth.png")
    parser.add_argument("--width", type=int, default=100)
    parser.add_argument("--depths", type=int, nargs="+", default=[12, 25])
    parser.add_argument("--rates", type=float, nargs="+", default=[1.0, 3.0])
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--steps", type=int, default=800, help="most steps of a run")
    options = parser.parse_args()
    name, wanted = load()[:2]
    figure = figure_of(10.0, 4.2)
    left, right = figure.subplots(1, 2)
    dress(left, f"{name}, steps to {wanted:.0%}")
    dress(right, "Gaussian over orthogonal")
    quotients = []
    for depth, shade in zip(options.depths, shades(len(options.depths)), strict=True):
        steps = {
            init: np.array([measure(depth, init, rate, options) for rate in options.rates])
            for init in INITS
        }
        for init, line in zip(INITS, ("--", "-"), strict=True):
            medians = np.median(steps[init], axis=1)
            reached = np.isfinite(medians)
            left.plot(
                np.array(options.rates)[reached], medians[reached],
                line, color=shade, marker="o", ms=4, label=f"depth {depth}, {init}",
            )  # fmt: skip
            rows = zip(options.rates, medians, strict=True)
            print(f"depth {depth:4d} {init:10s}", *(f"{rate:g}: {m:g}" for rate, m in rows))
        quotients.append(quotient(steps))
        print(f"depth {depth:4d} Gaussian over orthogonal: {quotients[-1]:.2f}")
    ratios = np.array(options.depths) / options.width
    right.plot(ratios, quotients, color=INK, marker="o", ms=5, label=f"width {options.width}")
    right.plot(*zip(*PUBLISHED.items(), strict=True), "kx", ms=7, label="published")
    left.set_yscale("log", base=2)
    for axes in (left, right):
        axes.set_xscale("log", base=2)
    left.set_xlabel("learning rate", color=INK)
    right.set_xlabel("depth / width", color=INK)
    left.set_ylabel("steps, median", color=INK)
    right.set_ylabel("quotient of steps", color=INK)
    for axes in (left, right):
        legend(axes, "best")
    save(figure, options.out)
    print(f"wrote {options.out}")


if __name__ == "__main__":
    main()
