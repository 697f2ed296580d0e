"""The main job in half a minute: Gram matrices of real data, what they predict, what they cost."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ntkfast.command.bench import Timing, format_table, limited, measure, milliseconds
from ntkfast.datasets import load_digits

if TYPE_CHECKING:
    from ntkfast.kernels.base import Kernel

__all__ = ["accuracy", "run"]

TRAIN = 1200
RIDGE = 1e-4
DEPTHS = (1, 3, 10)
PLOTTED = (1, 2, 3, 5, 10, 30, 100)
ALPHA = 0.3


def run(
    *,
    picture: str | Path | None = "ntkfast-profiles.png",
    threads: int | None = None,
    repeats: int = 7,
) -> None:
    """Print the demonstration and draw its picture.

    Parameters
    ----------
    picture : path, optional
        Where the kernel profiles by depth are drawn (matplotlib, the extra "plot"); None draws
        nothing.
    threads : int, optional
        For the kernels and for the product that they are compared with.
    repeats : int
        Rounds of the timing.

    Examples
    --------
    >>> from ntkfast.command import demo
    >>> demo.run(picture=None, repeats=3)  # doctest: +SKIP
    """
    X, y = _data()
    print(
        "\n  Handwritten digits: 1797 images of 8 x 8 pixels, scaled to unit length"
        f"\n  The first {TRAIN} to learn from, the last {len(y) - TRAIN} to test;"
        " kernel regression, float64\n"
    )
    kernels = _kernels()
    with limited(threads):
        times = measure(
            {"product": lambda: X @ X.T, **{name: _bound(k, X) for name, k in kernels.items()}},
            repeats=repeats,
        )
        right = {"product": accuracy(X @ X.T, y, TRAIN)}
        right |= {name: accuracy(k(X), y, TRAIN) for name, k in kernels.items()}
    print(_table(times, right))
    print(
        "\n  accuracy: share of the test images that are named correctly\n"
        "  ratio:    time of the Gram matrix over the time of NumPy's X @ X.T,"
        f" medians of {repeats} interleaved runs\n"
    )
    if picture is not None:
        _draw(Path(picture))


def accuracy(K: NDArray[Any], y: NDArray[Any], train: int) -> float:
    """Learn from the first rows by kernel regression, and name the class of the others.

    Parameters
    ----------
    K : ndarray, shape (n, n)
        Gram matrix of all inputs.
    y : ndarray of int, shape (n,)
        Classes.
    train : int
        Rows to learn from.

    Returns
    -------
    float
        Share of the remaining rows that are named correctly.

    Examples
    --------
    >>> import numpy as np
    >>> from ntkfast.command.demo import accuracy
    >>> y = np.array([0, 1, 0, 1])
    >>> accuracy((y[:, None] == y).astype(float), y, 2)
    1.0
    """
    from scipy.linalg import cho_factor, cho_solve

    targets = np.equal.outer(y[:train], np.arange(y.max() + 1)).astype(K.dtype)
    mean = targets.mean(axis=0)
    inner = K[:train, :train].copy()
    inner[np.diag_indices(train)] += RIDGE * np.trace(inner) / train
    weights = cho_solve(cho_factor(inner, lower=True, overwrite_a=True), targets - mean)
    named = np.argmax(K[train:, :train] @ weights + mean, axis=1)
    return float(np.mean(named == y[train:]))


def _data() -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Scale to the unit sphere; no shuffling, for neighbours in the file have one writer."""
    X, y = load_digits()
    return X / np.linalg.norm(X, axis=1, keepdims=True), y


def _kernels() -> dict[str, Kernel]:
    from ntkfast import FullyConnected, ResNet

    kernels: dict[str, Kernel] = {}
    for depth in DEPTHS:
        kernels[f"FC-NTK, depth {depth}"] = FullyConnected(depth).ntk
    for depth in DEPTHS[1:]:
        kernels[f"ResNTK, depth {depth}"] = ResNet(depth, alpha=ALPHA).ntk
    return kernels


def _bound(kernel: Kernel, X: NDArray[Any]) -> Any:
    return lambda: kernel(X)


def _table(times: dict[str, Timing], right: dict[str, float]) -> str:
    rows = [
        [
            name.replace("product", "NumPy product X @ X.T"),
            f"{100 * share:.1f} %",
            milliseconds(times[name].median),
            f"{times[name].ratio(times['product']):.2f}",
        ]
        for name, share in right.items()
    ]
    return format_table(["1797 x 1797 matrix", "accuracy", "time", "ratio"], rows)


def _draw(path: Path) -> None:
    """Draw the profiles; without matplotlib say what is missing, the rest of the demo stands."""
    from ntkfast import FullyConnected, ResNet, plot

    panels: dict[str, Sequence[Any]] = {
        "Fully connected": [FullyConnected(depth) for depth in PLOTTED],
        rf"Residual, $\alpha$ = {ALPHA}": [ResNet(depth, alpha=ALPHA) for depth in PLOTTED],
    }
    try:
        figure = plot.profiles(panels)
    except ImportError as error:
        print(f"  No picture: {error}", file=sys.stderr)
        return
    plot.save(figure, path)
    print(f"  Kernel profiles by depth: {path.resolve()}\n")
