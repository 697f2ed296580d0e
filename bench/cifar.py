"""`KernelClassifier` with convolutional kernels on CIFAR-10: accuracy and time.

    NTKFAST_DATA=... python bench/cifar.py

The folder holds ``cifar10/cifar10_a.npz``: 3,200 training and 1,000 test images. Colours are
standardised; global pooling takes means of 2 x 2 pixels, a sixteenth of the pairs of pixels, and
has its first and last layer fixed. The ridge is chosen by leaving one out, which costs no further
kernel value; the probabilities are judged by their mean logarithm (chance: 2.30).
"""

from __future__ import annotations

import argparse
import time

import numpy as np

import ntkfast as nf
from published import folder

CLASSES = 10


def images() -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return training images and labels, and those of the test."""
    with np.load(folder() / "cifar10" / "cifar10_a.npz") as file:
        parts = [(file[f"X_{part}"] / 255.0, file[f"y_{part}"]) for part in ("train", "test")]
    mean, deviation = (f(parts[0][0], axis=(0, 1, 2)) for f in (np.mean, np.std))
    train, test = ([(X - mean) / deviation, y] for X, y in parts)
    return train, test


def drawn(X: np.ndarray, y: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return as many images of each class, the first ones."""
    rank = np.array([np.sum(y[:i] == label) for i, label in enumerate(y)])
    chosen = np.flatnonzero(rank < count // CLASSES)
    return X[chosen], y[chosen]


def halved(X: np.ndarray) -> np.ndarray:
    """Return means of 2 x 2 pixels."""
    n, height, width, colours = X.shape
    return X.reshape(n, height // 2, 2, width // 2, 2, colours).mean(axis=(2, 4))


def main() -> None:
    """Print a line per kernel and number of images."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--flat", type=int, nargs="+", default=[640, 3200], help="images")
    parser.add_argument("--pooled", type=int, nargs="+", default=[320, 640], help="images")
    parser.add_argument("--test", type=int, default=1000, help="images of the flat kernels")
    parser.add_argument("--test-pooled", type=int, default=200, help="images of global pooling")
    parser.add_argument("--only", nargs="+", help="kernels by the names in the table")
    options = parser.parse_args()
    fixed = {"train_first": False, "train_last": False}
    layers, train, test = options.layers, *images()
    flat, pooled = (options.flat, options.test), (options.pooled, options.test_pooled)
    networks = {
        "NTK": (nf.FullyConnected(layers), lambda X: X.reshape(len(X), -1), *flat),
        "CNTK-V": (nf.Convolutional(layers), lambda X: X, *flat),
        "CNTK-V, 16 x 16": (nf.Convolutional(layers), halved, *pooled),
        "CNTK-GAP, 16 x 16": (
            nf.Convolutional(layers, readout="gap", **fixed),
            halved,
            *pooled,
        ),
    }
    print(
        "| kernel | images | accuracy, % | log loss | ridge / K_ii | fit, s | predict, s | CPU s |"
    )
    print("|" + "---|" * 8)
    for label, (network, shaped, sizes, asked) in networks.items():
        if options.only and label not in options.only:
            continue
        Z, wanted = drawn(*test, asked)
        for n in sizes:
            X, y = drawn(*train, n)
            X, model = shaped(X), nf.regression.KernelClassifier(network)
            model.fit(X[:20], y[:20] % 2)  # compiles and loads first
            cpu, start = time.process_time(), time.perf_counter()
            model.fit(X, y)
            fitted = time.perf_counter()
            f = model.decision_function(shaped(Z))
            seconds = fitted - start, time.perf_counter() - fitted, time.process_time() - cpu
            right = np.mean(model.classes_[f.argmax(axis=1)] == wanted)
            logits = f / model.temperature_
            logits -= np.log(np.exp(logits).sum(axis=1, keepdims=True))
            loss = -np.mean(logits[np.arange(len(Z)), wanted])
            relative = model.ridge_ / np.mean(model.kernel_.diag(X))
            times = " | ".join(f"{one:.1f}" for one in seconds)
            print(
                f"| {label} | {len(X)} | {100 * right:.1f} | {loss:.3f} | {relative:.1e} | "
                f"{times} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
