"""The main job in half a minute: Gram matrices of real data, their cost, and what they predict."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ntkfast.command.bench import (
    PRODUCT,
    Timing,
    format_table,
    limited,
    measure,
    milliseconds,
)
from ntkfast.datasets import load_digits
from ntkfast.support.files import require_folder

if TYPE_CHECKING:
    from ntkfast.kernels.base import Kernel

__all__ = ["accuracy", "run"]

TRAIN = 1200
RIDGE = 1e-4
DEPTHS = (1, 3, 10)
ALPHA = 0.3
SHOWN = 3  # images of each kind
PICTURES = ".png", ".pdf", ".svg"


def run(
    *,
    picture: str | Path | None = "ntkfast-predictions.png",
    threads: int | None = None,
    repeats: int = 7,
) -> None:
    """Print the demonstration and draw its picture.

    Parameters
    ----------
    picture : path, optional
        Where predictions with error bars are drawn (matplotlib, the extra "plot"); None draws
        nothing.
    threads : int, optional
        For the kernels and for the product that they are compared with.
    repeats : int
        Rounds of the timing.

    Raises
    ------
    FileNotFoundError, ValueError
        If the picture's folder is not there, or its suffix is no format.

    Examples
    --------
    >>> from ntkfast.command import demo
    >>> demo.run(picture=None, repeats=3)  # doctest: +SKIP
    """
    if picture is not None:
        _check(Path(picture))
    X, y = _data()
    print(
        "\n  Handwritten digits: 1797 images of 8 x 8 pixels, scaled to unit length"
        f"\n  The first {TRAIN} to learn from, the last {len(y) - TRAIN} to test;"
        " kernel regression, float64\n"
    )
    kernels = _kernels()
    with limited(threads):
        times = measure(
            {PRODUCT: lambda: X @ X.T, **{name: _bound(k, X) for name, k in kernels.items()}},
            repeats=repeats,
            spinning=(PRODUCT,),
        )
        right = {PRODUCT: accuracy(X @ X.T, y, TRAIN)}
        right |= {name: accuracy(k(X), y, TRAIN) for name, k in kernels.items()}
    print(_table(times, right))
    print(
        "\n  accuracy: share of the test images that are named correctly\n"
        "  ratio:    time of the Gram matrix over the time of NumPy's X @ X.T,"
        f" medians of {repeats} interleaved runs\n"
    )
    predictions = _predict(X, y)
    print(_told(predictions))
    if picture is not None:
        _draw(predictions, Path(picture))


def _check(picture: Path) -> None:
    """Refuse a place where no picture can be, before the work."""
    require_folder("picture", picture)
    if picture.suffix.lower() not in PICTURES:
        known = ", ".join(PICTURES)
        raise ValueError(f"picture: expected a path ending in {known}, got {picture}")


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
            name.replace(PRODUCT, "NumPy product X @ X.T"),
            f"{100 * share:.1f} %",
            milliseconds(times[name].median),
            f"{times[name].ratio(times[PRODUCT]):.2f}",
        ]
        for name, share in right.items()
    ]
    return format_table(["1797 x 1797 matrix", "accuracy", "time", "ratio"], rows)


@dataclass(frozen=True)
class Predictions:
    """Scores (m, classes) of the test images and their standard deviations, and the truth (m,)."""

    images: NDArray[np.float64]
    mean: NDArray[np.float64]
    std: NDArray[np.float64]
    truth: NDArray[np.int64]

    def shown(self) -> NDArray[np.intp]:
        """Return the images that are told apart best, and those that are told apart least."""
        two = np.sort(self.mean, axis=1)[:, -2:]
        order = np.argsort((two[:, 0] - two[:, 1]) / self.std.mean(axis=1))
        return np.concatenate([order[:SHOWN], order[-SHOWN:]])


def _predict(X: NDArray[np.float64], y: NDArray[np.int64]) -> Predictions:
    """Learn one score per class by a Gaussian process, its noise and scale fitted."""
    from ntkfast import FullyConnected
    from ntkfast.regression import GaussianProcess

    targets = np.equal.outer(y, np.arange(y.max() + 1)).astype(float)
    model = GaussianProcess(FullyConnected(3), normalize_y=True).fit(X[:TRAIN], targets[:TRAIN])
    mean, std = model.predict(X[TRAIN:], return_std=True, with_noise=True)
    return Predictions(X[TRAIN:].reshape(-1, 8, 8), mean, std, y[TRAIN:])


def _told(found: Predictions) -> str:
    """Say what some images are taken for, how surely, and whether error bars are to be trusted."""
    rows = []
    for i in found.shown():
        first, second = np.argsort(found.mean[i])[:-3:-1]
        scores = [
            f"{k}: {found.mean[i, k]:+.2f} +- {2 * found.std[i, k]:.2f}" for k in (first, second)
        ]
        rows.append([f"{TRAIN + i}", f"{found.truth[i]}", *scores])
    targets = np.equal.outer(found.truth, np.arange(found.mean.shape[1]))
    inside = np.abs(found.mean - targets) < 2 * found.std
    share = 100 * inside.mean()
    return (
        "  The same images by a Gaussian process of depth 3 whose noise is fitted: a score per\n"
        f"  class, with two standard deviations. The {SHOWN} surest and the {SHOWN} least sure:\n\n"
        + format_table(["image", "is a", "taken for", "or for"], rows)
        + f"\n\n  {share:.0f} % of all {inside.size} scores are within their error bars\n"
    )


def _draw(found: Predictions, path: Path) -> None:
    """Draw these; without matplotlib say what is missing, the rest of the demo stands."""
    from ntkfast import plot

    shown = found.shown()
    titles = [f"image {TRAIN + i}, a {found.truth[i]}" for i in shown]
    try:
        figure = plot.classes(
            found.images[shown], found.mean[shown], found.std[shown], titles=titles
        )
    except ImportError as error:
        print(f"  No picture: {error}", file=sys.stderr)
        return
    plot.save(figure, path)
    print(f"  Picture: {path.resolve()}\n")
