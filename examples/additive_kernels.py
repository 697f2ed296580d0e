"""Additive kernels: a sum of functions of a few columns each is learned from few data.

    python examples/additive_kernels.py [--out additive_kernels.png] [--largest 800]

The targets are a sum over five pairs of the ten columns of X, with a little noise. The kernel of
all columns has to learn a function of ten variables. A sum of kernels, one for each pair, learns
five functions of two variables; one kernel for each column misses that pairs act together. The
prediction of the additive kernel is a sum itself: its first term is compared with what it should
be, up to a constant, which no sum tells.
"""

from __future__ import annotations

import argparse

import numpy as np

import ntkfast as nf
from ntkfast.plot.style import INK, dress, figure_of, legend, save, shades
from ntkfast.regression import KernelRidgeCV

PAIRS = [(k, k + 1) for k in range(0, 10, 2)]
NOISE = 0.05


def term(x: np.ndarray) -> np.ndarray:
    """Return the function of one pair of columns."""
    return np.asarray(np.sin(3 * x[..., 0] * x[..., 1]) + np.abs(x[..., 0] - x[..., 1]))


def data(count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw rows and the sum of the terms."""
    X = rng.uniform(-1, 1, (count, 10))
    return X, np.sum([term(X[:, pair]) for pair in PAIRS], axis=0)


def main() -> None:
    """Draw learning curves, and the first term."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", default="additive_kernels.png")
    parser.add_argument("--largest", type=int, default=800)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    net = nf.FullyConnected(2, bias=0.5).ntk
    kernels = {
        "all columns": net,
        "sum over columns": sum(net.on(column) for column in range(10)),
        "sum over pairs": sum(net.on(pair) for pair in PAIRS),
    }
    sizes = [size for size in (50, 100, 200, 400, 800, 1600) if size <= options.largest]
    Z, f = data(max(sizes), rng)
    y = f + NOISE * rng.standard_normal(len(f))
    T, wanted = data(2000, rng)

    figure = figure_of(10.0, 4.4)
    left, right = figure.subplots(1, 2)
    dress(left, "root mean square error")
    for (name, kernel), shade in zip(kernels.items(), shades(len(kernels)), strict=True):
        errors = []
        for size in sizes:
            model = KernelRidgeCV(kernel, np.geomspace(1e-6, 10, 30)).fit(Z[:size], y[:size])
            errors.append(float(np.sqrt(np.mean((model.predict(T) - wanted) ** 2))))
        left.loglog(sizes, errors, "o-", ms=4, color=shade, label=name)
        print(
            f"{name:16s}: error {errors[0]:.3f} with {sizes[0]} rows, "
            f"{errors[-1]:.3f} with {sizes[-1]}"
        )
    left.set_xlabel("training rows", color=INK)
    left.set_xticks(sizes, sizes)
    left.minorticks_off()
    left.set_yticks([0.2, 0.3, 0.5, 0.8], ["0.2", "0.3", "0.5", "0.8"])
    legend(left, "lower left")

    dress(right, "first term of the prediction")
    found = net.on(PAIRS[0]).matmul(T, Z, model.dual_coef_)
    exact = term(T[:, PAIRS[0]])
    found, exact = found - found.mean(), exact - exact.mean()
    right.plot(exact, found, ".", ms=2, color=shade)
    ends = exact.min(), exact.max()
    right.plot(ends, ends, color=INK, lw=1)
    right.set_xlabel("the term", color=INK)
    print(f"first term: correlation {np.corrcoef(found, exact)[0, 1]:.4f}")
    save(figure, options.out)
    print(f"wrote {options.out}")


if __name__ == "__main__":
    main()
