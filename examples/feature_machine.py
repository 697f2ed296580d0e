"""Recursive feature machines with the neural tangent kernel: which columns matter, from gradients.

A recursive feature machine (Radhakrishnan, Beaglehole, Pandit and Belkin, "Mechanism for feature
learning in neural networks and backpropagation-free machine learning models", Science 2024) fits
kernel ridge regression, takes the average outer product of the gradients of its prediction as a
metric for the rows, and fits again. The gradients of a prediction f(x) = sum_j K(x, x_j) a_j are
`kernel.vjp(X, X', (ones, a))`, with no matrix of their size. Left: errors on new rows, of the NTK
and the Laplace kernel, for targets that depend on two directions of many columns, where learning
them helps, and for targets that depend on all of them alike, where it harms: what columns differ
in by chance is taken for structure, and grows. Right: how much of the metric of the NTK lies in
the two directions.

    python examples/feature_machine.py --rows 1000 --out feature_machine.png
"""

from __future__ import annotations

import argparse

import numpy as np
from numpy.typing import NDArray

import ntkfast as nf
from ntkfast.plot.style import INK, dress, figure_of, legend, save, shades
from ntkfast.regression import KernelRidgeCV

Values = NDArray[np.float64]
COLUMNS, NOISE, ROUNDS = 20, 0.05, 5
KERNELS = {"NTK": nf.FullyConnected(2, bias=0.5).ntk, "Laplace": nf.Laplace(0.2)}
RIDGES = np.geomspace(1e-6, 1, 13)


def few(X: Values) -> Values:
    """Return targets of two directions."""
    return np.asarray(np.sign(X[:, 0] + X[:, 1]) * np.abs(X[:, 2] - X[:, 3]))


def many(X: Values) -> Values:
    """Return targets of all columns alike."""
    return np.asarray(np.linalg.norm(X, axis=1))


def root(M: Values) -> Values:
    """Return the root of a positive semidefinite matrix, of mean 1 on the diagonal of M."""
    values, vectors = np.linalg.eigh(M * (len(M) / np.trace(M)))
    return np.asarray(vectors * np.sqrt(np.maximum(values, 0)) @ vectors.T)


def rounds(kernel: nf.Kernel, X: Values, y: Values, T: Values, t: Values) -> tuple[list, list]:
    """Return the error on new rows and the metric, before each round of learning it."""
    errors, metrics, M = [], [], np.eye(X.shape[1])
    for _ in range(ROUNDS + 1):
        W = root(M)
        Z = X @ W
        model = KernelRidgeCV(kernel, RIDGES).fit(Z, y)
        errors.append(float(np.sqrt(np.mean((model.predict(T @ W) - t) ** 2) / np.var(t))))
        metrics.append(M)
        ones = np.ones((len(Z), 1))
        # of both places of K the first moves: rows are compared with copies
        slopes = kernel.vjp(Z, Z.copy(), (ones, model.dual_coef_.reshape(-1, 1))) @ W
        M = slopes.T @ slopes
    return errors, metrics


def main() -> None:
    """Learn the metrics, and draw what they bring."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", default="feature_machine.png")
    parser.add_argument("--rows", type=int, default=400)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    X, T = rng.standard_normal((options.rows, COLUMNS)), rng.standard_normal((1000, COLUMNS))
    figure = figure_of(10.0, 4.4)
    left, right = figure.subplots(1, 2)
    dress(left, "error on new rows, of the spread of the targets")
    dress(right, "share of the metric of the NTK in the two directions")
    plane = np.zeros((COLUMNS, 2))
    plane[:2, 0], plane[2:4, 1] = 2**-0.5, [2**-0.5, -(2**-0.5)]
    for target, style in ((few, "o-"), (many, "s--")):
        y = target(X) + NOISE * rng.standard_normal(len(X))
        for (name, kernel), shade in zip(KERNELS.items(), shades(len(KERNELS)), strict=True):
            errors, metrics = rounds(kernel, X, y, T, target(T))
            label = f"{name}, {'two directions' if target is few else 'all alike'}"
            left.plot(errors, style, ms=4, color=shade, label=label)
            print(f"{label:24s}: error " + ", ".join(f"{error:.3f}" for error in errors))
            if name == "NTK":
                shares = [float(np.trace(plane.T @ M @ plane) / np.trace(M)) for M in metrics]
                right.plot(shares, style, ms=4, color=shade, label=label)
    for axes in (left, right):
        axes.set_xlabel("rounds", color=INK)
    left.set_ylim(0, 1.5)
    right.set_ylim(0, 1)
    legend(left, "upper left")
    legend(right, "center right")
    save(figure, options.out)
    print(f"wrote {options.out}")


if __name__ == "__main__":
    main()
