"""Recurrent tangent kernels on time series (Alemohammad et al., arXiv:2006.10246).

Support vector machines with the recurrent kernel over the hyperparameters of the paper, and with
one that reads out all steps in both directions, beside an RBF kernel, the kernel of a fully
connected network, and the nearest neighbour. Everything is chosen on the training series alone, by
stratified cross-validation of ten folds (fewer where a class is smaller); kernels that are equal
there vote, and the test series are looked at once.

With NTKFAST_DATA naming a folder that holds UCR sets under ucr/ (arrays X_train, y_train, X_test,
y_test) it runs on these, smallest first, else on two small sets of its own: cylinder, bell and
funnel (Saito 1994), drawn from their definition, and the digits of the package as sequences of
eight rows of pixels. The picture of the gallery shows 72 sets of the archive, from the table in
bench/RESULTS_UCR.md.

    NTKFAST_DATA=data python examples/ucr_rntk.py --seconds 20 --results ucr.jsonl --out ucr.png
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import rankdata
from sklearn import config_context
from sklearn.model_selection import KFold, StratifiedKFold
from sklearn.svm import SVC

import ntkfast as nf
from ntkfast import datasets
from ntkfast.plot.style import FAINT, INK, dress, figure_of

METHODS = ("RNTK", "RNTK average", "RBF", "NTK", "1-NN")
PENALTIES = (0.01, 0.1, 1.0, 10.0, 100.0)
W_STD = (*np.arange(1.34, 1.475, 0.01).round(2), 2.0)
B_STD = (0, 0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 0.9, 1, 2)
H_STD = (0, 0.01, 0.1, 0.5, 1)
FOLDS = 10  # or as many as the smallest class has series, but at least two
VOTERS = 50  # at most that many equals are asked

Kernel = Callable[..., np.ndarray]


class Data(NamedTuple):
    """Series (n, T, m) and labels."""

    X: np.ndarray
    y: np.ndarray
    X_test: np.ndarray
    y_test: np.ndarray


# ---- data ----------------------------------------------------------------------------------------


def names() -> list[str]:
    """Return the names of all sets, those that cost least first."""
    try:
        root = Path(datasets.find("ucr/INDEX.csv")).parent
    except FileNotFoundError:
        return ["digits", "cylinder-bell-funnel"]
    sizes = {path.stem: load(path.stem) for path in root.glob("*.npz")}
    cost = {key: len(d.X) ** 2 * d.X.shape[1] for key, d in sizes.items()}
    return sorted(cost, key=lambda key: cost[key])


def load(name: str) -> Data:
    """Return a set whose series have mean 0 and deviation 1, as the archive compares them."""
    if name == "digits":
        return digits()
    if name == "cylinder-bell-funnel":
        return Data(*cylinder_bell_funnel(30, 0), *cylinder_bell_funnel(300, 1))
    with np.load(datasets.find(f"ucr/{name}.npz")) as file:
        X, y, X_test, y_test = (file[key] for key in ("X_train", "y_train", "X_test", "y_test"))
    return Data(normalised(X), y, normalised(X_test), y_test)


def normalised(X: np.ndarray) -> np.ndarray:
    """Return series (n, T, 1) of mean 0 and deviation 1; constant ones become 0."""
    X = X.astype(np.float64)
    X = X - X.mean(axis=1, keepdims=True)
    deviation = X.std(axis=1, keepdims=True)
    return (X / np.where(deviation > 1e-9, deviation, 1))[..., None].astype(np.float32)


def digits() -> Data:
    """Return 100 and 300 digits as sequences of 8 rows of 8 pixels."""
    X, y = datasets.load_digits()
    X = ((X - X.mean()) / X.std()).reshape(-1, 8, 8).astype(np.float32)
    return Data(X[:100], y[:100], X[1000:1300], y[1000:1300])


def cylinder_bell_funnel(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw noisy plateaus, ramps up and ramps down of random place, length and height."""
    random, steps = np.random.default_rng(seed), np.arange(1, 129)
    labels = np.arange(count) % 3
    first, length = random.integers(16, 33, count), random.integers(32, 97, count)
    inside = (steps >= first[:, None]) & (steps <= (first + length)[:, None])
    ramp = (steps - first[:, None]) / length[:, None]
    shape = np.select([labels[:, None] == 0, labels[:, None] == 1], [1 + 0 * ramp, ramp], 1 - ramp)
    height = 6 + random.standard_normal((count, 1))
    return normalised(height * shape * inside + random.standard_normal((count, 128))), labels


# ---- kernels -------------------------------------------------------------------------------------


def recurrent(steps: int) -> Iterator[tuple[str, Kernel]]:
    """Yield kernels over the grid of the paper in random order: any part is a fair sample."""
    grid = list(itertools.product(W_STD, B_STD, H_STD))
    for k in np.random.default_rng(0).permutation(len(grid)):
        w, b, h = grid[k]
        growth = steps * np.log2(max(w * w / 2, 1))  # of the variances
        if growth > 900:  # beyond the range of float64
            continue

        def kernel(
            X: Any, Y: Any = None, w: Any = w, b: Any = b, h: Any = h, g: Any = growth
        ) -> np.ndarray:
            return nf.Recurrent(1, w_std=w, b_std=b, h_std=h, v_std=2.0 ** (-g / 2)).ntk(X, Y)

        yield f"w_std={w:g}, b_std={b:g}, h_std={h:g}", kernel


def averaged() -> Iterator[tuple[str, Kernel]]:
    """Yield kernels in both directions whose read-out takes all steps, not the last one alone."""
    for w, b in itertools.product((0.7, 1.0, 1.2, 1.41), (0.0, 0.1, 0.5, 1.0)):
        options = {"direction": "bidirectional", "readout": "average"}
        yield f"w_std={w:g}, b_std={b:g}", nf.Recurrent(1, w_std=w, b_std=b, **options).ntk


def dense() -> Iterator[tuple[str, Kernel]]:
    """Yield kernels of fully connected networks, which see a series as a vector."""
    for depth, b in itertools.product((1, 2, 3, 5), (0.0, 0.3, 1.0)):
        kernel = nf.FullyConnected(depth, parameterization="ntk", b_std=b).ntk
        yield f"depth={depth}, b_std={b:g}", flat(kernel)


def radial() -> Iterator[tuple[str, Kernel]]:
    """Yield RBF kernels exp(-rate |x - y|^2 / numbers)."""
    for rate in 10.0 ** np.arange(-3, 2.5, 0.5):
        yield f"rate={rate:.3g}", flat(lambda X, Y, rate=rate: np.exp(-rate * squares(X, Y)))


def flat(kernel: Kernel) -> Kernel:
    """Give a kernel of rows the series as rows."""

    def of_rows(X: np.ndarray, Y: np.ndarray | None = None) -> np.ndarray:
        rows = [a.reshape(len(a), -1).astype(np.float64) for a in (X, X if Y is None else Y)]
        return kernel(rows[0], rows[1])

    return of_rows


def squares(X: np.ndarray, Y: np.ndarray) -> np.ndarray:
    """Return mean squared differences of rows."""
    sums = (X * X).sum(1)[:, None] + (Y * Y).sum(1) - 2 * X @ Y.T
    return np.maximum(sums, 0) / X.shape[1]


# ---- choice and test -----------------------------------------------------------------------------


def best(
    data: Data, kernels: Iterable[tuple[str, Kernel]], most: int, seconds: float
) -> dict[str, Any]:
    """Choose kernel and penalty by cross-validation and test them once; equals vote."""
    start, tried, top = time.perf_counter(), 0, 0
    equals: list[tuple[str, Kernel, float]] = []
    folds = splits(data.y)
    for label, kernel in itertools.islice(kernels, most):
        hits = cross_validated(scaled(kernel(data.X)), data.y, folds, top)
        tried += 1
        k = int(np.argmax(hits))
        if hits[k] > top:
            top, equals = int(hits[k]), []
        if hits[k] == top:
            equals.append((f"{label}, C={PENALTIES[k]:g}", kernel, PENALTIES[k]))
        if time.perf_counter() - start > seconds:
            break
    answers = vote([answer(data, kernel, C) for _, kernel, C in equals[:VOTERS]], data.y)
    return {
        "accuracy": float(np.mean(answers == data.y_test)),
        "validation": top / len(data.y),
        "chosen": equals[0][0],
        "equals": len(equals),
        "tried": tried,
    }


def answer(data: Data, kernel: Kernel, penalty: float) -> np.ndarray:
    """Return the labels that a machine gives the test series."""
    K, cross = kernel(data.X), kernel(data.X_test, data.X)
    model = machine(penalty).fit(scaled(K), data.y)
    answers: np.ndarray = model.predict(cross / np.diag(K).astype(float).mean())
    return answers


def vote(answers: list[np.ndarray], labels: np.ndarray) -> np.ndarray:
    """Return the most frequent label of each series."""
    classes = np.unique(labels)
    counts = np.stack([np.sum(np.stack(answers) == c, axis=0) for c in classes])
    return classes[np.argmax(counts, axis=0)]


def splits(y: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return training and validation indices."""
    sizes = np.unique(y, return_counts=True)[1]
    # Where every class has one series, nothing can be chosen: all scores are 0.
    kind = KFold if sizes.max() == 1 else StratifiedKFold
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a class of one series among larger ones
        folds = kind(int(np.clip(sizes.min(), 2, FOLDS)), shuffle=True, random_state=0)
        return list(folds.split(y, y))


def scaled(K: np.ndarray) -> np.ndarray:
    """Return the matrix over the mean of its diagonal, so that a penalty means the same for all."""
    return K.astype(float) / np.diag(K).astype(float).mean()


def machine(penalty: float) -> SVC:
    """Return a support vector machine that stops even where it separates badly."""
    return SVC(C=penalty, kernel="precomputed", max_iter=100_000)


def cross_validated(
    K: np.ndarray, y: np.ndarray, folds: list[tuple[np.ndarray, np.ndarray]], least: int
) -> np.ndarray:
    """Return the right answers for each penalty, or -1 where `least` is out of reach.

    A penalty is given up after the fold that puts `least` out of reach, which cannot change the
    choice; and a machine none of whose coefficients reaches its penalty is that of all larger ones.
    """
    hits, left = np.zeros(len(PENALTIES), int), len(y)
    with warnings.catch_warnings(), config_context(skip_parameter_validation=True):
        warnings.simplefilter("ignore")  # of machines that were stopped
        for train, rest in folds:
            inner, outer = K[np.ix_(train, train)], K[np.ix_(rest, train)]
            left -= len(rest)
            binds, right = True, 0
            for k in np.flatnonzero(hits >= 0):  # in rising order
                if binds:
                    model = machine(PENALTIES[k]).fit(inner, y[train])
                    right = int(np.sum(model.predict(outer) == y[rest]))
                    binds = bool(np.abs(model.dual_coef_).max() >= PENALTIES[k])
                hits[k] += right
                if hits[k] + left < least:
                    hits[k] = -1
    return hits


def nearest(data: Data) -> float:
    """Return the accuracy of the nearest neighbour in Euclidean distance."""
    distances = flat(squares)(data.X_test, data.X)
    return float(np.mean(data.y[np.argmin(distances, axis=1)] == data.y_test))


def compare(name: str, points: int, seconds: float) -> dict[str, Any]:
    """Return all that is known of a set."""
    data, start = load(name), time.perf_counter()
    found = {
        "RNTK": best(data, recurrent(data.X.shape[1]), points, seconds),
        "RNTK average": best(data, averaged(), 99, seconds),
        "RBF": best(data, radial(), 99, seconds),
        "NTK": best(data, dense(), 99, seconds),
        "1-NN": {"accuracy": nearest(data)},
    }
    n, steps, _ = data.X.shape
    sizes = {"n": n, "test": len(data.X_test), "T": steps, "classes": len(np.unique(data.y))}
    return {"set": name, **sizes, "seconds": time.perf_counter() - start, **found}


# ---- results -------------------------------------------------------------------------------------


def table(rows: list[dict[str, Any]]) -> str:
    """Return Markdown: a line per set, and means."""
    lines = [
        "| set | n | test | T | classes | " + " | ".join(METHODS) + " | grid points | equals |",
        "|" + "---|" * (7 + len(METHODS)),
    ]
    for row in sorted(rows, key=lambda row: str(row["set"])):
        values = " | ".join(f"{100 * row[method]['accuracy']:.1f}" for method in METHODS)
        sizes = " | ".join(str(row[key]) for key in ("set", "n", "test", "T", "classes"))
        rntk = row["RNTK"]
        lines.append(f"| {sizes} | {values} | {rntk['tried']} | {rntk['equals']} |")
    accuracy, ranks = summary(rows)
    lines += [
        "",
        f"| of {len(rows)} sets | {' | '.join(METHODS)} |",
        "|" + "---|" * (1 + len(METHODS)),
    ]
    measures = {
        "mean accuracy, %": [f"{100 * value:.2f}" for value in accuracy.mean(axis=0)],
        "mean rank": [f"{value:.2f}" for value in ranks.mean(axis=0)],
        "best, ties included": [str(value) for value in np.sum(unbeaten(accuracy), axis=0)],
        "mean of accuracy over the best": [
            f"{100 * value:.2f}"
            for value in np.mean(accuracy / accuracy.max(axis=1, keepdims=True), axis=0)
        ],
    }
    lines += [f"| {name} | {' | '.join(values)} |" for name, values in measures.items()]
    return "\n".join(lines)


def summary(rows: list[dict[str, Any]]) -> tuple[np.ndarray, np.ndarray]:
    """Return accuracies and ranks (1 is best, ties share the mean), sets by methods."""
    accuracy = np.array([[row[method]["accuracy"] for method in METHODS] for row in rows])
    return accuracy, rankdata(-accuracy, axis=1)


def unbeaten(accuracy: np.ndarray) -> np.ndarray:
    """Tell which methods nobody beats."""
    return accuracy >= accuracy.max(axis=1, keepdims=True) - 1e-12


def draw(rows: list[dict[str, Any]], out: str) -> None:
    """Draw the accuracy of the recurrent kernel over those of the others."""
    accuracy = summary(rows)[0]
    figure = figure_of(12.0, 3.4)
    for k, panel in enumerate(figure.subplots(1, len(METHODS) - 1), start=1):
        wins = np.sum(accuracy[:, 0] > accuracy[:, k]), np.sum(accuracy[:, 0] < accuracy[:, k])
        dress(panel, f"against {METHODS[k]}\n{wins[0]} better, {wins[1]} worse")
        low = 100 * accuracy.min() - 2
        panel.plot([low, 100], [low, 100], color=FAINT, linewidth=2)
        panel.plot(100 * accuracy[:, k], 100 * accuracy[:, 0], "o", color=INK, markersize=3.5)
        panel.set_xlabel(f"{METHODS[k]}, test accuracy, %", color=INK)
        panel.set_ylabel("RNTK, test accuracy, %" if k == 1 else "", color=INK)
    nf.plot.save(figure, out)


def earlier(path: str | None) -> list[dict[str, Any]]:
    """Return what an earlier run has left."""
    if path is None or not Path(path).exists():
        return []
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


def main() -> None:
    """Print the table and draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", nargs="+", help="default: all")
    parser.add_argument("--points", type=int, help="of the grid (default: all 900; own sets: 20)")
    parser.add_argument(
        "--seconds", type=float, default=np.inf, help="after which a set tries no more points"
    )
    parser.add_argument("--results", help="a file that keeps finished sets and adds new ones")
    parser.add_argument("--out", default="ucr.png", help="the picture (default: ucr.png)")
    arguments = parser.parse_args()
    rows = earlier(arguments.results)
    done = {row["set"] for row in rows}
    every = names()
    points = arguments.points or (20 if every[0] == "digits" else 900)
    for name in arguments.sets or every:
        if name in done:
            continue
        rows.append(compare(name, points, arguments.seconds))
        if arguments.results:
            with open(arguments.results, "a") as file:
                file.write(json.dumps(rows[-1]) + "\n")
    print(table(rows))
    draw(rows, arguments.out)
    print(f"\npicture: {arguments.out}")


if __name__ == "__main__":
    main()
