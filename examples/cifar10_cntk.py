"""Convolutional tangent kernels on few images (Arora et al., arXiv:1910.01663).

Kernel regression with 10 to 640 training images by the kernels of a plain and two convolutional
networks, the same for every size, on nested sets of one draw. With NTKFAST_DATA naming a folder
that holds cifar10_a.npz (3200 training and 1000 test images, as uint8) it runs on CIFAR-10, else on
the 8 x 8 digits of the package, which takes seconds.

    NTKFAST_DATA=data python examples/cifar10_cntk.py --largest 160 --test 200 --out cifar10.png
"""

from __future__ import annotations

import argparse
import time

import numpy as np

import ntkfast as nf
from ntkfast import datasets
from ntkfast.plot.style import INK, dress, figure_of, legend, shades

SIZES = (10, 20, 40, 80, 160, 320, 640)
RIDGE = 1e-6  # relative to the mean of the diagonal


def kernels() -> dict[str, nf.Kernel]:
    """Return the kernels by name; global pooling with first and last layer fixed, as the paper."""
    fixed = {"train_first": False, "train_last": False}
    return {
        "NTK, 3 layers": nf.FullyConnected(3).ntk,
        "CNTK-V, 3 layers": nf.Convolutional(3).ntk,
        "CNTK-GAP, 3 layers": nf.Convolutional(3, readout="gap", **fixed).ntk,
    }


def load() -> tuple[str, list[np.ndarray]]:
    """Return a name, training images and labels, test images and labels."""
    try:
        with np.load(datasets.find("cifar10_a")) as file:
            parts = [file[key] for key in ("X_train", "y_train", "X_test", "y_test")]
        mean, deviation = (f(parts[0] / 255.0, axis=(0, 1, 2)) for f in (np.mean, np.std))
        for k in (0, 2):
            parts[k] = ((parts[k] / 255.0 - mean) / deviation).astype(np.float32)
        return "CIFAR-10", parts
    except FileNotFoundError:
        X, y = datasets.load_digits()
        X = (X / 16).reshape(-1, 8, 8, 1).astype(np.float32)
        return "digits", [X[:1000], y[:1000], X[1000:], y[1000:]]


def nested(labels: np.ndarray, largest: int, seed: int) -> np.ndarray:
    """Return indices whose first 10, 20, 40... have as many of each of ten classes."""
    random = np.random.default_rng(seed)
    columns = [random.permutation(np.flatnonzero(labels == c))[: largest // 10] for c in range(10)]
    return np.stack(columns, axis=1).ravel()


def accuracy(K: np.ndarray, C: np.ndarray, labels: np.ndarray, wanted: np.ndarray) -> float:
    """Fit one-hot labels of 0.9 and -0.1 and return the share of right answers."""
    targets = np.where(labels[:, None] == np.arange(10), 0.9, -0.1)
    ridge = RIDGE * np.trace(K) / len(K) * np.eye(len(K))
    answers = np.argmax(C @ np.linalg.solve(K + ridge, targets), axis=1)
    return float(np.mean(answers == wanted))


def run(largest: int, test: int) -> tuple[str, dict[str, list[float]], list[int]]:
    """Print the table and return its numbers."""
    name, (X, y, X_test, y_test) = load()
    chosen = nested(y, largest, seed=0)
    X, y, asked = X[chosen], y[chosen], nested(y_test, test, seed=1)
    X_test, y_test = X_test[asked], y_test[asked]
    sizes = [size for size in SIZES if size <= len(X)]
    print(f"{name}: {len(X)} training and {len(X_test)} test images of {X.shape[1:]}\n")
    print(f"| kernel | {' | '.join(f'n = {n}' for n in sizes)} | seconds | per pair |")
    print("|" + "---|" * (3 + len(sizes)))
    rows = {}
    for label, kernel in kernels().items():
        flat = label.startswith("NTK")
        train, rest = (a.reshape(len(a), -1) if flat else a for a in (X, X_test))
        kernel(train[:2])  # compile and load first
        start = time.perf_counter()
        K, C = kernel(train), kernel(rest, train)
        seconds = time.perf_counter() - start
        pairs = len(X) * (len(X) + 1) / 2 + C.size
        rows[label] = [
            accuracy(K[:n, :n].astype(float), C[:, :n].astype(float), y[:n], y_test) for n in sizes
        ]
        found = " | ".join(f"{100 * value:.1f} %" for value in rows[label])
        print(f"| {label} | {found} | {seconds:.2f} | {1e6 * seconds / pairs:.3g} us |", flush=True)
    return name, rows, sizes


def draw(name: str, rows: dict[str, list[float]], sizes: list[int], out: str) -> None:
    """Draw accuracy over the number of training images."""
    figure = figure_of(6.0, 4.0)
    panel = figure.subplots()
    dress(panel, f"{name}: accuracy from few images")
    for (label, values), shade in zip(rows.items(), shades(len(rows)), strict=True):
        panel.semilogx(sizes, 100 * np.array(values), "o-", color=shade, label=label)
    panel.set_xticks(sizes, [str(size) for size in sizes])
    panel.set_xlabel("training images", color=INK)
    panel.set_ylabel("test accuracy, %", color=INK)
    legend(panel, "upper left")
    nf.plot.save(figure, out)


def main() -> None:
    """Print the table and draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--largest", type=int, default=160, help="training images (default: 160)")
    parser.add_argument("--test", type=int, default=200, help="test images (default: 200)")
    parser.add_argument("--out", default="cifar10.png", help="the picture (default: cifar10.png)")
    arguments = parser.parse_args()
    name, rows, sizes = run(arguments.largest, arguments.test)
    draw(name, rows, sizes, arguments.out)
    print(f"\npicture: {arguments.out}")


if __name__ == "__main__":
    main()
