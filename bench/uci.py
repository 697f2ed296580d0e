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
never looks at the validation half: it takes the smallest squared error of the training half. One
eigendecomposition per kernel serves all ridges and both rules. Kernels of training halves of more
than ``--screen`` rows are first tried on so many of these, and each rule goes on with its best
``--shortlist``; ``--shortlist 15`` tries all on all rows.

The validation half shares rows with the test parts, so that accuracies of both are those of the
published protocol and no estimates for new rows.
"""

from __future__ import annotations

import argparse
import csv
import json
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import linalg
from threadpoolctl import threadpool_limits

import ntkfast as nf
from ntkfast.regression.held_out import exact_systems
from published import folder

Array = NDArray[Any]
Accuracies = dict[str, Any]

DEPTHS = 5  # numbers of dense layers
PENALTIES = 10.0 ** np.arange(-2, 5)
RIDGES = 10.0 ** np.arange(-8.0, 1.5, 0.5)  # over the mean of the diagonal
RULES = "validation", "leave-one-out"
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


def ridge(path: Path, screen: int, shortlist: int) -> Accuracies:
    """Choose a kernel and a ridge in two ways, and test both."""
    task = Task.read(path)
    start, clock = time.perf_counter(), time.process_time()
    Y = (task.y[:, None] == np.unique(task.y)).astype(np.float64)
    candidates = [kernel for _, _, kernel in kernels()]

    def judged(rows: Array, which: Iterable[int]) -> dict[str, list[Choice]]:
        found: dict[str, list[Choice]] = {rule: [] for rule in RULES}
        both = np.concatenate([rows, task.validation])
        for index in which:
            own, cross = (
                candidates[index](task.X[rows]),
                candidates[index](task.X[task.validation], task.X[rows]),
            )
            for rule, choice in _path(own, cross, Y[both], index):
                found[rule].append(choice)
        return found

    every: Iterable[int] = range(len(candidates))
    chosen: dict[str, Iterable[int]] = dict.fromkeys(RULES, every)
    if len(task.train) > screen:
        few = np.random.default_rng(0).choice(task.train, screen, replace=False)
        for rule, choices in judged(few, every).items():
            ranks = sorted(choices, key=lambda choice: choice.score, reverse=True)
            chosen[rule] = list(dict.fromkeys(choice.kernel for choice in ranks))[:shortlist]
    rules = judged(task.train, sorted(set().union(*chosen.values())))
    found: Accuracies = {"dataset": task.name, "n": len(task.y)}
    done: dict[tuple[int, float], float] = {}
    for rule, choices in rules.items():
        best = max(choices, key=lambda choice: choice.score)
        case = best.kernel, best.ridge
        if case not in done:
            kernel = candidates[best.kernel]
            hits = [_fold(kernel, task, Y, *fold, best.ridge) for fold in task.folds]
            done[case] = float(np.mean(hits))
        found[rule] = done[case]
    found["cpu"] = time.process_time() - clock
    return found | {"seconds": time.perf_counter() - start}


def _path(own: Array, cross: Array, Y: Array, index: int) -> Iterator[tuple[str, Choice]]:
    """Yield what each rule says of one kernel's ridges."""
    targets, held = Y[: len(own)], Y[len(own) :]
    ridges, classes = float(np.mean(np.diag(own))) * RIDGES, held.argmax(axis=1)
    systems = zip(ridges, exact_systems(own, targets, ridges), strict=True)
    kept = [(float(ridge), *system) for ridge, system in systems if system is not None]
    outputs = cross @ np.hstack([solution for _, solution, _ in kept])
    for (ridge, solution, inverse), predicted in zip(
        kept, np.hsplit(outputs, len(kept)), strict=True
    ):
        hits = np.mean(predicted.argmax(axis=1) == classes)
        error = float(np.mean((predicted - held) ** 2))
        yield "validation", Choice((float(hits), -error), index, ridge)
        left_out = float(np.mean((solution / inverse[:, None]) ** 2))
        yield "leave-one-out", Choice((-left_out, 0.0), index, ridge)


def _fold(
    kernel: nf.Kernel, task: Task, Y: Array, train: Array, test: Array, ridge: float
) -> float:
    A = kernel(task.X[train])
    np.einsum("ii->i", A)[:] += ridge
    factor = linalg.cho_factor(A.T, lower=True, overwrite_a=True, check_finite=False)
    found = kernel(task.X[test], task.X[train]) @ linalg.cho_solve(factor, Y[train])
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
    parser.add_argument("--screen", type=int, default=800, help="rows on which kernels are tried")
    parser.add_argument("--shortlist", type=int, default=3, help="kernels that go on")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    sizes = {p: len(np.load(p)["y"]) for p in sorted((folder() / "uci_fd").glob("*.npz"))}
    paths = [
        path
        for path, size in sizes.items()
        if args.min_rows <= size <= args.max_rows and (not args.sets or path.stem in args.sets)
    ]
    paths.sort(key=lambda path: -sizes[path])  # the longest first
    task: Callable[[Path], Accuracies] = partial(
        ridge, screen=args.screen, shortlist=args.shortlist
    )
    if args.protocol == "svm":
        task = partial(svm, max_iter=args.max_iter)
    start = time.perf_counter()
    with ProcessPoolExecutor(args.workers, initializer=threadpool_limits, initargs=(1,)) as pool:
        lines = sorted(pool.map(task, paths), key=lambda line: str(line["dataset"]))
    seconds = time.perf_counter() - start
    show(lines, ("accuracy",) if args.protocol == "svm" else RULES)
    cpu = sum(line.get("cpu", 0.0) for line in lines)
    print(f"{seconds:.1f} s in {args.workers} processes" + (f", {cpu:.1f} CPU s" if cpu else ""))
    if args.json:
        args.json.write_text(json.dumps(lines, indent=1) + "\n")


if __name__ == "__main__":
    main()
