"""Draws the pictures of pages with the package itself, before pages are read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

import ntkfast as nf
from ntkfast.plot.style import INK, dress, figure_of, shades

FOLDER = Path(__file__).parents[1] / "_pictures"  # no part of the repository
SOLVER = Path(__file__).parents[1] / "guide" / "solver.md"  # holds what was measured


def learning() -> Any:
    """Draw a network of infinite width that learns nine points, at three times of training."""
    generator = np.random.default_rng(1)
    X = np.sort(generator.uniform(-2, 2, (9, 1)), axis=0)
    y = np.sin(2 * X[:, 0]) + 0.2 * X[:, 0]
    net = nf.FullyConnected(3, activation="erf", parameterization="ntk", w_std=1.5, b_std=0.3)
    model = nf.regression.GradientFlow(net, ridge=1e-3).fit(X, y)
    Z = np.linspace(-3, 3, 301)[:, None]
    times = [3.0, 30.0, np.inf]
    figure = figure_of(10.5, 2.9)
    panels = figure.subplots(1, 3, sharey=True)
    means, stds = model.predict(Z, time=times, return_std=True)
    for axes, time, mean, std in zip(panels, times, means, stds, strict=True):
        _bare(axes)
        for width, alpha in ((2, 0.18), (1, 0.28)):
            axes.fill_between(
                Z[:, 0], mean - width * std, mean + width * std, color="#3b7fb5", alpha=alpha, lw=0
            )
        axes.plot(Z[:, 0], mean, color="#1d5c8f", lw=2)
        axes.plot(X[:, 0], y, "o", color=INK, ms=5)
        label = "fully trained" if np.isinf(time) else f"after {time:.0f} units of time"
        axes.set_title(label, loc="left", fontsize=11, color=INK)
    return figure


def matrix() -> Any:
    """Draw the Gram matrix of handwritten digits, sorted by class."""
    X, y = nf.datasets.load_digits()
    order = np.argsort(y[:300], kind="stable")
    figure, axes = _card()
    axes.imshow(nf.FullyConnected(3).ntk(X[:300][order] / 64), cmap="viridis", aspect="auto")
    return figure


def prediction() -> Any:
    """Draw a prediction with its error bars."""
    X = np.linspace(-2, 2, 30)[:, None]
    y = np.sin(3 * X[:, 0]) + 0.2 * np.random.default_rng(0).normal(size=30)
    net = nf.FullyConnected(2, activation="erf", parameterization="ntk", w_std=2.0, b_std=0.5)
    Z = np.linspace(-2.6, 2.6, 200)[:, None]
    mean, std = nf.regression.GaussianProcess(net).fit(X, y).predict(Z, return_std=True)
    figure, axes = _card()
    axes.fill_between(Z[:, 0], mean - 2 * std, mean + 2 * std, color="#3b7fb5", alpha=0.3, lw=0)
    axes.plot(Z[:, 0], mean, color="#1d5c8f", lw=2)
    axes.plot(X[:, 0], y, "o", color=INK, ms=3)
    return figure


def spectrum() -> Any:
    """Draw eigenvalues over the degree for three networks."""
    figure, axes = _card()
    networks = nf.FullyConnected(1, bias=1.0), nf.FullyConnected(3), nf.ResNet(10, alpha=1.0)
    for network, shade in zip(networks, shades(3), strict=True):
        found = nf.spectrum.mercer(network.ntk, 3, 200, radius=1.0)
        axes.loglog(found.degrees[1:], found.eigenvalues[1:], color=shade, lw=2)
    axes.minorticks_off()
    return figure


def growth() -> Any:
    """Draw processor time and accuracy over the number of rows, from the table of the page."""
    lines = SOLVER.read_text(encoding="utf-8").partition("| images |")[2].splitlines()[2:]
    rows = [line.replace(",", "").strip("| ").split(" | ") for line in lines[: lines.index("")]]
    n, seconds, right = (np.array([float(row[i]) for row in rows]) for i in (0, 4, 6))
    power, level = np.polyfit(np.log(n), np.log(seconds), 1)
    figure = figure_of(9.0, 3.2)
    left, other = figure.subplots(1, 2)
    for axes, title in ((left, "Processor time, s"), (other, "Accuracy on 10,000 test images, %")):
        dress(axes, title)
        axes.set(xscale="log", xticks=n, xlabel="training images")
        axes.set_xticklabels([f"{one:,.0f}" for one in n])
        axes.minorticks_off()
    left.plot(n, np.exp(level) * n**power, color="#3b7fb5", lw=1.5, label=f"$n^{{{power:.2f}}}$")
    left.plot(n, seconds, "o", color="#1d5c8f", label="measured")
    left.set_yscale("log")
    left.legend(frameon=False)
    other.plot(n, right, "o-", color="#1d5c8f", lw=1.5)
    return figure


def _card() -> tuple[Any, Any]:
    figure = figure_of(3.4, 2.0)
    axes = figure.subplots()
    _bare(axes)
    return figure, axes


def _bare(axes: Any) -> None:
    """Leave nothing but the lines: these pictures are read from afar."""
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_color("#d9dce1")


def draw(app: Any) -> None:
    """Write all pictures, unless they are there already."""
    FOLDER.mkdir(exist_ok=True)
    changed = max(path.stat().st_mtime for path in (Path(__file__), SOLVER))
    for make in (learning, matrix, prediction, spectrum, growth):
        path = FOLDER / f"{make.__name__}.png"
        if not path.exists() or path.stat().st_mtime < changed:
            nf.plot.save(make(), path)


def setup(app: Any) -> dict[str, bool]:
    """Draw when a build begins."""
    app.connect("builder-inited", draw)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
