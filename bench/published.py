"""The published experiments on random features for the NTK: accuracy, error and time on real data.

    NTKFAST_DATA=... python bench/published.py mnist cifar uci ct --picture pictures/

`mnist`, `cifar`: number of features against test accuracy; one-hot targets minus 0.1, rows of
norm 1. `uci`: nine regression sets with their published splits, RMSE in original units, columns
and targets standardised by the training part, a constant column appended. `ct`: 681 rows of CT
slices in four folds in their order, columns and targets centred, MSE; the published table has
53,500 rows and is another experiment. `kernel`: error of the kernel itself on test images, for maps
fitted to others. The ridge, and the depth (for Fourier features the width of
the Gaussian) on the small sets, are chosen on a fifth of the training part and nowhere else. Times
are of fitting the map and of its features, normal equations and all ridges, with depths tried.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, cho_factor, cho_solve
from scipy.spatial.distance import pdist
from sklearn.kernel_approximation import RBFSampler
from sklearn.model_selection import KFold

import ntkfast as nf
from ntkfast.features import (
    DualActivationFeatures,
    FeatureRidge,
    GegenbauerFeatures,
    GradientFeatures,
    NTKRandomFeatures,
    NTKSketch,
    NystromFeatures,
)
from released import ReleasedNTKSketch, ReleasedRandomFeatures, show

Array = NDArray[Any]
RIDGES = np.logspace(-9, -2, 8)  # relative to the trace of the (feature) Gram matrix
WIDTHS = (0.5, 2.0)  # of the Gaussian, as squares relative to the median distance


@dataclass(frozen=True)
class Task:
    """Training rows, of which `held` are for choices, and test rows."""

    X: Array
    Y: Array
    held: Array
    X_test: Array
    Y_test: Array


def folder() -> Path:
    """Return the folder of the data sets."""
    if "NTKFAST_DATA" not in os.environ:
        raise SystemExit(
            "NTKFAST_DATA: expected the folder that holds mnist/, cifar10/, uci_regression/ and "
            "uci_regression_subsets/; the variable is not set"
        )
    path = Path(os.environ["NTKFAST_DATA"])
    if not path.is_dir():
        raise SystemExit(f"NTKFAST_DATA: expected a folder, got {path}")
    return path


def fifth(n: int, seed: int = 0) -> Array:
    """Choose a fifth of rows by a mask."""
    held = np.zeros(n, bool)
    held[np.random.default_rng(seed).permutation(n)[: n // 5]] = True
    return held


def methods(
    m: int, X: Array, depths: tuple[int, ...], seed: int, widths: tuple[float, ...] = WIDTHS
) -> dict[str, list[Any]]:
    """Return the candidates of every method: one per depth, or per width of the Gaussian."""
    sample = X[np.random.default_rng(0).permutation(len(X))[:1000]]
    scale = 1 / (2 * np.median(pdist(sample, "sqeuclidean")))
    ntk = {depth: nf.FullyConnected(depth).ntk for depth in depths}
    seeded: dict[str, Any] = {"random_state": seed}
    return {
        "Nystrom": [NystromFeatures(k, m, **seeded) for k in ntk.values()],
        "DualActivation": [DualActivationFeatures(k, m, **seeded) for k in ntk.values()],
        "NTKSketch": [NTKSketch(k, m, degree=4, **seeded) for k in ntk.values()],
        "NTKRandomFeatures": [NTKRandomFeatures(depth=d, n_components=m, **seeded) for d in depths],
        "Gegenbauer": [GegenbauerFeatures(k, m, **seeded) for k in ntk.values()],
        "Gradient": [GradientFeatures(d, n_components=m, **seeded) for d in depths],
        "Fourier": [RBFSampler(gamma=scale / w, n_components=m, **seeded) for w in widths],
        "released NTKRF": [ReleasedRandomFeatures(d, m, **seeded) for d in depths],
        "released NTKSketch": [ReleasedNTKSketch(d, m, 4, **seeded) for d in depths],
    }


def with_ridge(model: FeatureRidge, ridge: float) -> FeatureRidge:
    """Return the model with another ridge and the same sums."""
    other = copy.copy(model)
    other.alpha = ridge * float(np.trace(model.sums_.gram))
    other.__dict__.pop("solution_", None)
    return other


def mistakes(prediction: Array, Y: Array) -> float:
    """Return what is minimised: the share of wrong classes, or the mean squared error."""
    if Y.ndim == 2:
        return float(np.mean(prediction.argmax(axis=1) != Y.argmax(axis=1)))
    return float(np.mean((prediction - Y) ** 2))


def by_features(candidates: list[Any], task: Task) -> tuple[float, float]:
    """Return the test mistakes of the best candidate and ridge, and the seconds of all of it."""
    start = time.perf_counter()
    X_held, Y_held, best = task.X[task.held], task.Y[task.held], (np.inf, 0.0, None)
    for features in candidates:
        model = FeatureRidge(features).fit(task.X[~task.held], task.Y[~task.held])
        if not model.sums_.gram.any():  # gradients of a network so narrow that no neuron is active
            continue
        F = model.features_.transform(X_held)
        for ridge in RIDGES:
            one = with_ridge(model, ridge)
            try:
                found = mistakes(F @ one.coef_ + one.intercept_, Y_held)
            except LinAlgError:  # too small a ridge for the rounding of the Gram matrix
                continue
            if found < best[0]:
                best = (found, ridge, model)
    final = with_ridge(best[2].partial_fit(X_held, Y_held), best[1])
    return mistakes(final.predict(task.X_test), task.Y_test), time.perf_counter() - start


def by_kernel(depths: tuple[int, ...], task: Task) -> tuple[float, float]:
    """Do the same with exact kernel ridge regression."""
    start = time.perf_counter()
    best = (np.inf, 0.0, depths[0])
    fit, held = task.X[~task.held], task.X[task.held]
    for depth in depths:
        kernel = nf.FullyConnected(depth).ntk
        K, C = kernel(fit), kernel(held, fit)
        for ridge in RIDGES:
            try:
                prediction = solved(K, C, task.Y[~task.held], ridge)
            except LinAlgError:
                continue
            best = min(best, (mistakes(prediction, task.Y[task.held]), ridge, depth))
    kernel = nf.FullyConnected(best[2]).ntk
    prediction = solved(kernel(task.X), kernel(task.X_test, task.X), task.Y, best[1])
    return mistakes(prediction, task.Y_test), time.perf_counter() - start


def solved(K: Array, C: Array, Y: Array, ridge: float) -> Array:
    """Predict with kernel ridge regression on centred targets."""
    K = K + ridge * np.trace(K) * np.eye(len(K))
    mean = Y.mean(axis=0)
    return np.asarray(C @ cho_solve(cho_factor(K, overwrite_a=True), Y - mean) + mean)


def images(name: str) -> tuple[Array, Array, Array, Array]:
    """Return flattened training and test images of norm 1 and their one-hot classes minus 0.1."""
    file = "cifar10/cifar10_a.npz" if name == "cifar" else "mnist/mnist.npz"
    with np.load(folder() / file) as data:
        X, y, X_test, y_test = (data[k] for k in ("X_train", "y_train", "X_test", "y_test"))
    rows = [A.reshape(len(A), -1).astype(np.float32) / 255 for A in (X, X_test)]
    if name == "cifar":
        mean = rows[0].mean(axis=0)
        rows = [A - mean for A in rows]
    rows = [A / np.linalg.norm(A, axis=1)[:, None] for A in rows]
    return rows[0], np.eye(10)[y] - 0.1, rows[1], np.eye(10)[y_test] - 0.1


def classify(name: str, args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield accuracies per method and number of features; of the exact kernel on a subset too."""
    X, Y, X_test, Y_test = images(name)
    task = Task(X, Y, fifth(len(X)), X_test, Y_test)
    for m in args.dims:
        for method, candidates in methods(m, X, (args.depth,), 0).items():
            if args.methods and method not in args.methods:
                continue
            wrong, spent = by_features(candidates, task)
            yield row(name, method, len(X), m, 100 * (1 - wrong), spent)
    n = min(len(X), args.exact_rows)
    few = Task(X[:n].astype(float), Y[:n], fifth(n), X_test.astype(float), Y_test)
    if not args.methods or "exact" in args.methods:
        wrong, spent = by_kernel((args.depth,), few)
        yield row(name, "exact", n, n, 100 * (1 - wrong), spent)


def row(data: str, method: str, rows: int, m: int, score: float, spent: float) -> dict[str, Any]:
    """Name the figures of one fit."""
    return {
        "data": data,
        "method": method,
        "training rows": rows,
        "features": m,
        "score": score,
        "seconds": spent,
    }


def standardised(X: Array, y: Array, test: Array, divide: bool) -> tuple[Task, float]:
    """Centre by the training part, divide where asked, drop constant columns, append ones."""
    train = ~test
    spread = X[train].std(axis=0)
    used = spread > 1e-9 * np.abs(X[train]).max(axis=0)
    Z = X[:, used] - X[train][:, used].mean(axis=0)
    unit = float(y[train].std()) if divide else 1.0
    if divide:
        Z = np.c_[Z / spread[used], np.ones(len(Z))]
    t = (y - y[train].mean()) / unit
    return Task(Z[train], t[train], fifth(int(train.sum())), Z[test], t[test]), unit


def uci(args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield the RMSE over splits per set and method."""
    for path in sorted((folder() / "uci_regression").glob("*.npz")):
        if args.sets and path.stem not in args.sets:
            continue
        with np.load(path) as data:
            X, y = data["X"].astype(float), data["y"]
            masks = np.unpackbits(data["test_mask"], axis=1)[:, : len(y)].astype(bool)
        pieces = [standardised(X, y, mask, True) for mask in masks[: args.splits]]
        yield from regress(path.stem, pieces, args, root=True)


def ct(args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield the MSE over four folds in the order of the rows, per method."""
    with np.load(folder() / "uci_regression_subsets" / "ct_slices_first_rows.npz") as data:
        X, y = data["X"].astype(float), data["y"].astype(float)
    masks = [np.isin(np.arange(len(y)), test) for _, test in KFold(4).split(X)]
    yield from regress("ct", [standardised(X, y, mask, False) for mask in masks], args, root=False)


def regress(
    name: str, pieces: list[tuple[Task, float]], args: argparse.Namespace, root: bool
) -> Iterator[dict[str, Any]]:
    """Yield the mean score of every method over the splits, with its standard error."""
    found: dict[str, list[tuple[float, float]]] = {}
    rows = len(pieces[0][0].X)
    for seed, (task, unit) in enumerate(pieces):
        maps = methods(args.components, task.X, tuple(args.depths), seed)
        results = {method: by_features(each, task) for method, each in maps.items()}
        if rows <= args.exact_limit:
            results["exact"] = by_kernel(tuple(args.depths), task)
        for method, (loss, spent) in results.items():
            loss *= unit**2
            found.setdefault(method, []).append((loss**0.5 if root else loss, spent))
    for method, values in found.items():
        score, spent = np.mean(values, axis=0)
        m = rows if method == "exact" else args.components
        error = float(np.std([v[0] for v in values], ddof=1) / len(values) ** 0.5)
        one = row(name, method, rows, m, float(score), float(spent))
        yield {**one, "standard error": error, "splits": len(values)}


def kernel(args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield the error of the kernel on 1,000 test rows, for maps fitted to 5,000 others."""
    exact = nf.FullyConnected(args.depth).ntk
    for name in ("mnist", "cifar"):
        X, _, X_test, _ = images(name)
        fit, test = X[:5000], X_test[:1000]
        K = exact(test.astype(float))
        for m in args.dims:
            for method, (features,) in methods(m, fit, (args.depth,), 0, WIDTHS[:1]).items():
                if method == "Fourier":  # another kernel
                    continue
                features.fit(fit)
                start = time.perf_counter()
                F = features.transform(test).astype(float)
                spent = time.perf_counter() - start
                found = float(np.linalg.norm(F @ F.T - K) / np.linalg.norm(K))
                yield row(name, method, len(fit), m, found, spent)


def draw(name: str, rows: list[dict[str, Any]], path: Path) -> None:
    """Draw accuracy over features, or the score relative to the best method per set."""
    from ntkfast.plot.style import dress, figure_of, legend, save, shades

    figure = figure_of(7.5, 4.5)
    axes = figure.subplots()
    names = list(dict.fromkeys(r["method"] for r in rows))
    sets = list(dict.fromkeys(r["data"] for r in rows))
    best = {s: min(r["score"] for r in rows if r["data"] == s) for s in sets}
    for method, colour in zip(names, shades(len(names)), strict=True):
        own = [r for r in rows if r["method"] == method]
        if name in ("mnist", "cifar"):
            x, y = [r["features"] for r in own], [r["score"] for r in own]
        else:
            x, y = [r["data"] for r in own], [r["score"] / best[r["data"]] for r in own]
        style = "o" if len(sets) > 1 else "o-"
        axes.plot(x, y, style, color=colour, label=method, markersize=4)
    if name in ("mnist", "cifar"):
        axes.set_xscale("log", base=2)
        axes.set_xlabel("features")
    else:
        axes.tick_params(axis="x", rotation=60)
    dress(axes, "test accuracy, %" if name in ("mnist", "cifar") else "error over the smallest one")
    legend(axes, "best")
    save(figure, path)


def main() -> None:
    """Print the tables."""
    sections = {
        "mnist": lambda args: classify("mnist", args),
        "cifar": lambda args: classify("cifar", args),
        "uci": uci,
        "ct": ct,
        "kernel": kernel,
    }
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("sections", nargs="+", choices=tuple(sections))
    parser.add_argument("--dims", type=int, nargs="+", default=[256, 512, 1024, 2048])
    parser.add_argument("--depth", type=int, default=2, help="of the networks for images")
    parser.add_argument("--methods", nargs="+", help="for images; default: all")
    parser.add_argument("--exact-rows", type=int, default=5000)
    parser.add_argument("--sets", nargs="+", help="of uci; default: all")
    parser.add_argument("--depths", type=int, nargs="+", default=[1, 3])
    parser.add_argument("--components", type=int, default=512, help="for regression")
    parser.add_argument("--splits", type=int, default=20, help="of uci")
    parser.add_argument("--exact-limit", type=int, default=2000)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--picture", type=Path, help="folder for one picture per section")
    args = parser.parse_args()
    found = {}
    for name in args.sections:
        found[name] = show(sections[name](args))
        if args.picture and name != "kernel":
            args.picture.mkdir(parents=True, exist_ok=True)
            draw(name, found[name], args.picture / f"{name}.png")
    if args.json:
        args.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
