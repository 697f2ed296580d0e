"""Bayesian optimisation with neural tangent kernels, beside a Matern kernel.

The function of Hartmann in six dimensions has its least value, -3.322, in one of six valleys. Each
round a Gaussian process is fitted to all values so far, and the next point is where the expected
improvement of its prediction is largest. Kernels of networks give that by gradients alone: mean and
variance at a point z are made of K(z, X) and K(z, z), and the gradient of whatever is made of them
is `kernel.vjp`, here of all starting points together. Length scales are fitted by
`GaussianProcess`, every few rounds. The peer is scikit-learn's Gaussian process with the Matern
kernel of smoothness 5/2, in the same loop: with the same first points, candidates, bounds of length
scales, noise and refits. Networks do not win here: all models beat random points, and the Matern
kernel ends as low in the median, with runs that differ less. Left: the median over the runs of how
far the best value so far lies above the least one, and the middle half of the runs. Right: where
each run ended.

    python examples/bayesian_optimisation.py --runs 10 --out bayesian_optimisation.png
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import minimize
from scipy.stats import norm
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor, kernels

import ntkfast as nf
from ntkfast.plot.style import INK, dress, figure_of, legend, save, shades
from ntkfast.regression import GaussianProcess

Values = NDArray[np.float64]
COLUMNS, FIRST, LEAST = 6, 10, -3.32236801
REFIT, CANDIDATES, STARTS = 5, 500, 5
SCALES = (0.2, 5.0)  # within which length scales are looked for, of points in [-1, 1]^6
NOISE = 1e-6  # of targets of variance 1: there is none, and matrices stay regular


def hartmann(X: Values) -> Values:
    """Return the function of Hartmann on rows in [0, 1]^6 (Dixon and Szego, 1978)."""
    alpha = np.array([1.0, 1.2, 3.0, 3.2])
    A = np.array(
        [
            [10, 3, 17, 3.5, 1.7, 8],
            [0.05, 10, 17, 0.1, 8, 14],
            [3, 3.5, 1.7, 10, 17, 8],
            [17, 8, 0.05, 10, 0.1, 14],
        ]
    )
    P = 1e-4 * np.array(
        [
            [1312, 1696, 5569, 124, 8283, 5886],
            [2329, 4135, 8307, 3736, 1004, 9991],
            [2348, 1451, 3522, 2883, 3047, 6650],
            [4047, 8828, 8732, 5743, 1091, 381],
        ]
    )
    return np.asarray(-np.exp(-np.sum(A * (X[:, None] - P) ** 2, axis=2)) @ alpha)


def improvement(mean: Values, spread: Values, best: float) -> tuple[Values, Values, Values]:
    """Return the expected improvement, and its derivatives by the mean and by the spread."""
    z = (best - mean) / spread
    below, density = norm.cdf(z), norm.pdf(z)
    return (best - mean) * below + spread * density, -below, density


class OfNetwork:
    """A Gaussian process with a kernel of ntkfast; points are moved to [-1, 1]^6."""

    def __init__(self, kernel: Any) -> None:
        self.kernel, self.scale = kernel.ard([1.0] * COLUMNS), 1.0

    def fit(self, X: Values, y: Values, tune: bool) -> None:
        """Fit to values, length scales and the scale as well if asked to."""
        self.X, self.middle, self.size = 2 * X - 1, y.mean(), y.std()
        targets = (y - self.middle) / self.size
        if tune:
            model = GaussianProcess(
                self.kernel,
                noise=NOISE,
                scale=self.scale,
                tune=("scale", "length_scales"),
                bounds={f"length_scales.{k}": SCALES for k in range(COLUMNS)},
            ).fit(self.X, targets)
            self.kernel, self.scale = model.kernel_, model.scale_
        self.factor = cho_factor(self.scale * self.kernel(self.X) + NOISE * np.eye(len(y)))
        self.weights = cho_solve(self.factor, targets)
        self.best = targets.min()

    def improvement(self, Z: Values) -> tuple[Values, Values]:
        """Return the expected improvement at some points, and its gradients by them."""
        T = 2 * Z - 1
        K = self.scale * self.kernel(T, self.X)
        solved = cho_solve(self.factor, K.T).T
        variance = self.scale * self.kernel.diag(T) - np.sum(K * solved, axis=1)
        spread = np.sqrt(np.maximum(variance, 1e-12))
        value, by_mean, by_spread = improvement(K @ self.weights, spread, self.best)
        by_variance = by_spread / (2 * spread)
        V = np.outer(by_mean, self.weights) - 2 * by_variance[:, None] * solved
        slope = self.kernel.vjp(T, self.X, self.scale * V)
        slope += self.kernel.vjp(T, None, np.diag(self.scale * by_variance))
        return value, 2 * slope

    def refined(self, Z: Values) -> tuple[Values, Values]:
        """Return where some points end that climb together, and the improvement there."""

        def objective(flat: Values) -> tuple[float, Values]:
            value, slope = self.improvement(flat.reshape(Z.shape))
            return -float(value.sum()), -slope.ravel()

        box = [(0.0, 1.0)] * Z.size
        found = minimize(objective, Z.ravel(), jac=True, bounds=box, options={"maxiter": 50})
        points = found.x.reshape(Z.shape)
        return points, self.improvement(points)[0]


class OfMatern:
    """The same with the Matern kernel of scikit-learn, whose points have no gradients."""

    def __init__(self) -> None:
        self.kernel = kernels.ConstantKernel() * kernels.Matern([1.0] * COLUMNS, SCALES, nu=2.5)

    def fit(self, X: Values, y: Values, tune: bool) -> None:
        """Fit to values, length scales and the scale as well if asked to."""
        targets = (y - y.mean()) / y.std()
        self.model = GaussianProcessRegressor(
            self.kernel, alpha=NOISE, optimizer="fmin_l_bfgs_b" if tune else None
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # a length scale at its bound
            self.model.fit(2 * X - 1, targets)
        self.kernel, self.best = self.model.kernel_, targets.min()

    def improvement(self, Z: Values) -> tuple[Values, None]:
        """Return the expected improvement at some points."""
        mean, spread = self.model.predict(2 * Z - 1, return_std=True)
        return improvement(mean, np.maximum(spread, 1e-6), self.best)[0], None

    def refined(self, Z: Values) -> tuple[Values, Values]:
        """Return where some points end that climb, by differences, and the improvement there."""
        box, points = [(0.0, 1.0)] * COLUMNS, []
        for z in Z:
            found = minimize(
                lambda z: -float(self.improvement(z[None])[0][0]),
                z,
                bounds=box,
                options={"maxiter": 50},
            )
            points.append(found.x)
        return np.array(points), self.improvement(np.array(points))[0]


MODELS: dict[str, Callable[[], Any] | None] = {
    "NTK of ReLU": lambda: OfNetwork(nf.FullyConnected(2, parameterization="ntk", b_std=0.5).ntk),
    "NTK of erf": lambda: OfNetwork(
        nf.FullyConnected(2, activation="erf", parameterization="ntk", b_std=0.5).ntk
    ),
    "Matern 5/2": OfMatern,
    "random points": None,
}


def search(make: Callable[[], Any] | None, seed: int, steps: int) -> Values:
    """Return the best value after each step."""
    rng = np.random.default_rng(seed)  # the first points are the same for all
    X, model = rng.uniform(size=(FIRST, COLUMNS)), make() if make else None
    y = hartmann(X)
    for step in range(steps):
        Z = rng.uniform(size=(CANDIDATES, COLUMNS))
        if model is None:
            new = Z[:1]
        else:
            model.fit(X, y, tune=step % REFIT == 0)
            starts = Z[np.argsort(-model.improvement(Z)[0])[:STARTS]]
            points, values = model.refined(starts)
            new = points[np.argmax(values)][None]
        X, y = np.vstack([X, new]), np.append(y, hartmann(new))
    return np.asarray(np.minimum.accumulate(y)[FIRST - 1 :])


def main() -> None:
    """Search with every model from the same first points, and draw how far each has come."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", default="bayesian_optimisation.png")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--steps", type=int, default=30)
    options = parser.parse_args()
    figure = figure_of(10.0, 4.4)
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    dress(left, "best value so far, above the least one")
    dress(right, f"after {options.steps} steps, each run")
    for k, (name, make) in enumerate(MODELS.items()):
        shade, began = shades(len(MODELS))[k], time.perf_counter()
        found = np.array([search(make, seed, options.steps) for seed in range(options.runs)])
        regret = found - LEAST
        low, middle, high = np.quantile(regret, [0.25, 0.5, 0.75], axis=0)
        left.plot(middle, color=shade, label=name)
        left.fill_between(np.arange(len(middle)), low, high, color=shade, alpha=0.15, lw=0)
        right.plot(np.full(len(regret), k), regret[:, -1], "o", color=shade, alpha=0.7)
        print(
            f"{name:14s}: above the least value by {middle[-1]:.3f} (median of {options.runs} "
            f"runs, {regret[:, -1].min():.3f} to {regret[:, -1].max():.3f}), "
            f"{time.perf_counter() - began:.0f} s"
        )
    left.set_yscale("log")
    right.set_yscale("log")
    right.set_xticks(range(len(MODELS)), [name.replace(" ", "\n", 1) for name in MODELS])
    left.set_xlabel("steps", color=INK)
    legend(left, "lower left")
    save(figure, options.out)
    print(f"wrote {options.out}")


if __name__ == "__main__":
    main()
