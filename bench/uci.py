"""Kernels of networks on 90 UCI classification sets: the published protocol, and ridge regression.

    NTKFAST_DATA=... python bench/uci.py ridge
    NTKFAST_DATA=... python bench/uci.py svm --workers 2 --json accuracies.json

Both choose among the 15 kernels of S. Arora et al., "Harnessing the power of infinitely wide deep
nets on small-data tasks" (ICLR 2020): up to four hidden layers, the first ones not trained. `svm`
is their protocol: support vector machines, the penalty from 1e-2 to 1e4, chosen by the accuracy on
the validation half, then the mean accuracy of four given splits. Where the folder of published
tables is there, the accuracies of their code stand beside ours, set by set. Machines that need more
iterations than ``--max-iter`` are stopped and counted; the reference has such a limit on 17 sets
only, so that others must be repeated without one where a machine was stopped. `ridge` puts one-hot
ridge regression in the place of the machines: "validation" chooses as they do, "leave-one-out"
never looks at the validation half: it takes the smallest squared error of the training half.

The validation half shares rows with the test parts, so that accuracies of both are those of the
published protocol and no estimates for new rows.
"""

from __future__ import annotations

import argparse
import csv
import json
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

import ntkfast as nf
from published import folder

Array = NDArray[Any]
Accuracies = dict[str, Any]

DEPTHS = 5  # numbers of dense layers
PENALTIES = 10.0 ** np.arange(-2, 5)
RIDGES = 10.0 ** np.arange(-8.0, 1.5, 0.5)  # over the mean of the diagonal
EIGEN_ROWS = 700  # above, a factorisation per ridge is cheaper than one decomposition
LARGE_RIDGES = RIDGES[::2]
PUBLISHED = "published_tables/uci90_ntk_reference_run_and_2014_baselines.csv"


@dataclass(frozen=True)
class Task:
    """Rows with classes, and the indices of the given splits."""

    name: str
    X: Array
    y: Array
    train: Array
    validation: Array
    folds: list[tuple[Array, Array]]

    @classmethod
    def read(cls, path: Path) -> Task:
        """Read a file of the folder uci_fd."""
        with np.load(path) as data:
            folds = [(data[f"fold{i}_train"], data[f"fold{i}_test"]) for i in range(4)]
            X, y = data["X"].astype(np.float64), data["y"].astype(np.int64)
            return cls(path.stem, X, y, data["train"], data["val"], folds)


def kernels() -> list[tuple[int, int, nf.Kernel]]:
    """Return (dense layers less one, layers that are not trained, kernel) of all candidates."""
    found = []
    for depth in range(DEPTHS):
        for fixed in range(depth + 1):
            parts: list[Any] = [nf.Dense(trained=fixed == 0)]
            for layer in range(1, depth + 1):
                parts += ["relu", nf.Dense(trained=layer >= fixed)]
            net = nf.compose(*parts, parameterization="unit")
            found.append((depth, fixed, net.ntk))
    return found


# ---- support vector machines ---------------------------------------------------------------------


def svm(path: Path, max_iter: int) -> Accuracies:
    """Run the published protocol on one set."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.svm import SVC

    task, capped = Task.read(path), 0

    def accuracy(K: Array, train: Array, test: Array, penalty: float, steps: int) -> float:
        nonlocal capped
        machine = SVC(kernel="precomputed", C=penalty, cache_size=1000, max_iter=steps)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # counted instead
            machine.fit(K[np.ix_(train, train)], task.y[train])
        capped += machine.fit_status_
        return float(np.mean(machine.predict(K[np.ix_(test, train)]) == task.y[test]))

    start = time.perf_counter()
    best: tuple[float, int, int, float, Array | None] = (0.0, 0, 0, 0.0, None)
    for depth, fixed, kernel in kernels():
        K = kernel(task.X)
        for penalty in PENALTIES:
            found = accuracy(K, task.train, task.validation, penalty, max_iter)
            if found > best[0]:
                best = found, depth, fixed, penalty, K
    found, depth, fixed, penalty, chosen = best
    assert chosen is not None
    folds = [accuracy(chosen, *fold, penalty, -1) for fold in task.folds]
    return {
        "dataset": task.name,
        "n": len(task.y),
        "accuracy": float(np.mean(folds)),
        "depth": depth,
        "fixed": fixed,
        "C": penalty,
        "capped": capped,
        "seconds": time.perf_counter() - start,
    }


# ---- ridge regression ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Choice:
    """A kernel and a ridge, with what speaks for them: larger is better."""

    score: tuple[float, float]
    kernel: int
    ridge: float


def ridge(path: Path) -> Accuracies:
    """Choose a kernel and a ridge in two ways, and test both."""
    task = Task.read(path)
    start = time.perf_counter()
    Y = (task.y[:, None] == np.unique(task.y)).astype(np.float64)
    candidates = [kernel for _, _, kernel in kernels()]
    both = np.concatenate([task.train, task.validation])
    rules: dict[str, list[Choice]] = {"validation": [], "leave-one-out": []}
    for index, kernel in enumerate(candidates):
        K = kernel(task.X[both])
        for rule, choice in _path(K, Y[both], len(task.train), index):
            rules[rule].append(choice)
    found: Accuracies = {"dataset": task.name, "n": len(task.y)}
    for rule, choices in rules.items():
        best = max(choices, key=lambda choice: choice.score)
        K = candidates[best.kernel](task.X)
        found[rule] = float(np.mean([_fold(K, Y, *fold, best.ridge) for fold in task.folds]))
    return found | {"seconds": time.perf_counter() - start}


def _path(K: Array, Y: Array, train: int, index: int) -> Iterator[tuple[str, Choice]]:
    """Yield what each rule says of one kernel's ridges."""
    own, cross = K[:train, :train], K[train:, :train]
    targets, held = Y[:train], Y[train:]
    for ridge, solution, inverse in _solutions(own, targets):
        predicted = cross @ solution
        hits = np.mean(predicted.argmax(axis=1) == held.argmax(axis=1))
        error = float(np.mean((predicted - held) ** 2))
        yield "validation", Choice((float(hits), -error), index, ridge)
        left_out = float(np.mean((solution / inverse[:, None]) ** 2))
        yield "leave-one-out", Choice((-left_out, 0.0), index, ridge)


def _solutions(K: Array, Y: Array) -> Iterator[tuple[float, Array, Array]]:
    """Yield (ridge, A^-1 Y, diagonal of A^-1), A = K + ridge."""
    scale = float(np.mean(np.diag(K)))
    if len(K) <= EIGEN_ROWS:
        values, vectors = linalg.eigh(K, check_finite=False)
        projected, squares = vectors.T @ Y, vectors**2
        for ridge in scale * RIDGES:
            weights = 1 / (np.maximum(values, 0) + ridge)
            yield ridge, vectors @ (weights[:, None] * projected), squares @ weights
        return
    for ridge in scale * LARGE_RIDGES:
        A = K.copy()
        np.einsum("ii->i", A)[:] += ridge
        factor = linalg.cholesky(A, lower=True, overwrite_a=True, check_finite=False)
        solution = linalg.cho_solve((factor, True), Y, check_finite=False)
        root = linalg.lapack.dtrtri(factor, lower=1, overwrite_c=1)[0]
        yield ridge, solution, np.einsum("ij,ij->j", root, root)


def _fold(K: Array, Y: Array, train: Array, test: Array, ridge: float) -> float:
    A = K[np.ix_(train, train)]
    np.einsum("ii->i", A)[:] += ridge
    found = K[np.ix_(test, train)] @ linalg.solve(A, Y[train], assume_a="pos", overwrite_a=True)
    return float(np.mean(found.argmax(axis=1) == Y[test].argmax(axis=1)))


# ---- tables --------------------------------------------------------------------------------------


def published() -> dict[str, float]:
    """Return accuracies of the authors' code by set, where the table is there."""
    path = folder() / PUBLISHED
    if not path.is_file():
        return {}
    with path.open() as file:
        return {line["dataset"]: float(line["test_acc"]) for line in csv.DictReader(file)}


def show(lines: list[Accuracies], columns: Sequence[str]) -> None:
    """Print a line per set, and means."""
    known = published()
    print(f"{'set':36s} {'n':>5s} {'reference':>10s}", *(f"{name:>14s}" for name in columns))
    for line in lines:
        mine = (f"{100 * line[name]:14.2f}" for name in columns)
        print(
            f"{line['dataset']:36s} {line['n']:5d} "
            f"{100 * known.get(line['dataset'], np.nan):10.2f}",
            *mine,
            f"{line['seconds']:8.1f} s",
        )
    reference = np.mean([known.get(line["dataset"], np.nan) for line in lines])
    means = (f"{100 * np.mean([line[name] for line in lines]):14.2f}" for name in columns)
    print(f"{'mean':36s} {len(lines):5d} {100 * reference:10.2f}", *means)


def main() -> None:
    """Run one of the protocols on all sets, or some."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("protocol", choices=("ridge", "svm"))
    parser.add_argument("--sets", nargs="+", help="default: all")
    parser.add_argument("--min-rows", type=int, default=0, help="leave out smaller sets")
    parser.add_argument("--max-rows", type=int, default=5000, help="leave out larger sets")
    parser.add_argument("--workers", type=int, default=nf.get_num_threads())
    parser.add_argument("--max-iter", type=int, default=300_000, help="of a machine; -1: no limit")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    sizes = {p: len(np.load(p)["y"]) for p in sorted((folder() / "uci_fd").glob("*.npz"))}
    paths = [
        path
        for path, size in sizes.items()
        if args.min_rows <= size <= args.max_rows and (not args.sets or path.stem in args.sets)
    ]
    paths.sort(key=lambda path: -sizes[path])  # the longest first
    task: Callable[[Path], Accuracies] = ridge
    if args.protocol == "svm":
        task = partial(svm, max_iter=args.max_iter)
    start = time.perf_counter()
    with ProcessPoolExecutor(args.workers, initializer=nf.set_num_threads, initargs=(1,)) as pool:
        lines = sorted(pool.map(task, paths), key=lambda line: str(line["dataset"]))
    seconds = time.perf_counter() - start
    show(lines, ("accuracy",) if args.protocol == "svm" else ("validation", "leave-one-out"))
    print(f"{seconds:.1f} s in {args.workers} processes")
    if args.json:
        args.json.write_text(json.dumps(lines, indent=1) + "\n")


if __name__ == "__main__":
    main()
