"""How many inputs a network can memorise, after figure 2 of Bombari, Amani and Mondelli (2022).

    python examples/bombari_memorisation.py [--steps 5000 --dims 6 8 11 16 23 32 --rows 50 ... 1600]

ReLU networks d - d - d - d - 1 learn Gaussian targets at N Gaussian inputs by Adam on all of them,
rate 1/(10 sqrt N) as in the released script, which goes to N = 12,000 and d = 122; here both are
smaller. Left: logarithm of the loss that is left of the variance 1 of the targets. The lines are
where there are as many parameters as inputs, and four times as many. Right: the loss against the
parameters per input.
"""

from __future__ import annotations

import argparse

import numpy as np
from numpy.typing import NDArray

from ntkfast.finite import MLP
from ntkfast.plot.style import INK, dress, figure_of, legend, save, shades

FIRST, SECOND, TINY = 0.9, 0.999, 1e-8  # the constants of Adam
FLOOR = 1e-4  # training stops here: memorised
Values = NDArray[np.float64]


def loss_left(rows: int, dim: int, most: int, seed: int) -> float:
    """Return the mean of squares after Adam on all inputs."""
    g = np.random.default_rng([seed, rows, dim])
    X, y = g.normal(size=(rows, dim)), g.normal(size=(rows, 1))
    # Stored weights with variance 1 / fan-in, derivatives by them: scales are part of the weights.
    net = MLP((dim, dim, dim, dim, 1), "relu", w_std=np.sqrt([dim] * 4), rng=seed)
    net = net.with_parameters([W / np.sqrt(dim) for W in net.weights], net.biases)
    mean, square = ([np.zeros_like(W) for W in net.weights] for _ in range(2))
    rate, loss = 0.1 / np.sqrt(rows), np.inf
    for step in range(1, most + 1):
        residual = net(X) - y
        loss = float(np.mean(residual**2))
        if loss < FLOOR:
            break
        gradient, _ = net.pull_back(X, 2 / rows * residual)
        mean = [FIRST * m + (1 - FIRST) * g for m, g in zip(mean, gradient, strict=True)]
        square = [SECOND * s + (1 - SECOND) * g**2 for s, g in zip(square, gradient, strict=True)]
        size = rate * np.sqrt(1 - SECOND**step) / (1 - FIRST**step)
        moved = [
            W - size * m / (np.sqrt(s) + TINY)
            for W, m, s in zip(net.weights, mean, square, strict=True)
        ]
        net = net.with_parameters(moved, net.biases)
    return max(loss, FLOOR)


def parameters(dims: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the number of weights."""
    return 3 * dims**2 + dims


def main() -> None:
    """Print the losses and draw two panels."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", default="bombari_memorisation.png")
    parser.add_argument("--rows", type=int, nargs="+", default=[25, 50, 100, 200])
    parser.add_argument("--dims", type=int, nargs="+", default=[4, 6, 8, 11, 16])
    parser.add_argument("--steps", type=int, default=400, help="most steps of Adam")
    parser.add_argument("--seeds", type=int, default=1)
    options = parser.parse_args()
    rows, dims = np.array(options.rows), np.array(options.dims)
    losses = np.empty((len(rows), len(dims)))
    for i, n in enumerate(rows):
        for j, d in enumerate(dims):
            runs = [loss_left(int(n), int(d), options.steps, s) for s in range(options.seeds)]
            losses[i, j] = np.exp(np.mean(np.log(runs)))
        found = zip(parameters(dims) / n, losses[i], strict=True)
        print(f"N = {n:5d}, parameters / N: loss", *(f"{p:.2f}: {v:.1e}" for p, v in found))
    figure = figure_of(10.5, 4.4)
    left, right = figure.subplots(1, 2)
    dress(left, f"loss left after {options.steps} steps")
    left.grid(visible=False)
    image = left.pcolormesh(
        parameters(dims), rows, np.log10(losses), shading="nearest", cmap="viridis"
    )
    figure.colorbar(image, ax=left, label="log10 of the loss")
    left.set_xscale("log")
    left.set_yscale("log")
    limits = left.get_xlim(), left.get_ylim()
    for factor, line in ((1, "-"), (4, "--")):
        label = "parameters = " + (f"{factor} N" if factor > 1 else "N")
        left.plot(parameters(dims), parameters(dims) / factor, line, color="w", label=label)
    left.set(xlim=limits[0], ylim=limits[1])
    left.legend(labelcolor="w", framealpha=0.3, facecolor="k", edgecolor="none", loc="upper left")
    left.set_xlabel("parameters", color=INK)
    left.set_ylabel("inputs N", color=INK)
    dress(right, "against the parameters per input")
    for n, values, shade in zip(rows, losses, shades(len(rows)), strict=True):
        right.loglog(parameters(dims) / n, values, "o-", ms=4, color=shade, label=f"N = {n}")
    right.set_xlabel("parameters / N", color=INK)
    legend(right, "lower left")
    save(figure, options.out)
    print(f"wrote {options.out}")


if __name__ == "__main__":
    main()
