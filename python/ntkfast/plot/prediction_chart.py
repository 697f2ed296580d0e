"""Predictions over one coordinate, with bands, at several times of training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from ntkfast.plot.style import INK, legend, panel, shades

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MARGIN = 0.25  # of the range of the inputs, on each side


def prediction(
    x: ArrayLike,
    mean: ArrayLike,
    std: ArrayLike | None = None,
    *,
    data: tuple[ArrayLike, ArrayLike] | None = None,
    labels: Sequence[str] | None = None,
    title: str = "",
    ax: Axes | None = None,
) -> Figure:
    """Draw predictions over one coordinate, with bands of two standard deviations.

    Parameters
    ----------
    x : (m,) array
        Increasing.
    mean : (m,) or (t, m) array
        One line for each prediction, from dark to light.
    std : array like `mean`, optional
        Half of the width of a band.
    data : pair of (n,) arrays, optional
        Inputs and targets, drawn as dots.
    labels : sequence of str, optional
        Names of the lines.
    title : str, optional
    ax : matplotlib axes, optional
        Where to draw. Default: a figure of its own.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ImportError
        Without matplotlib, the extra "plot".
    ValueError
        If shapes do not fit.

    Examples
    --------
    >>> import numpy as np, ntkfast as nf
    >>> X, Z = np.linspace(-1, 1, 8)[:, None], np.linspace(-2, 2, 99)[:, None]
    >>> gp = nf.regression.GaussianProcess().fit(X, X[:, 0] ** 2)
    >>> figure = nf.plot.prediction(Z[:, 0], *gp.predict(Z, return_std=True))
    """
    across, lines = np.asarray(x, np.float64), np.atleast_2d(np.asarray(mean, np.float64))
    bands = None if std is None else np.atleast_2d(np.asarray(std, np.float64))
    if across.ndim != 1:
        raise ValueError(f"x: expected shape (m,), one coordinate, got {across.shape}")
    if lines.ndim != 2 or lines.shape[1] != len(across):
        raise ValueError(f"mean: expected shape (t, {across.size}), got {np.shape(mean)}")
    if bands is not None and bands.shape != lines.shape:
        raise ValueError(f"std: expected shape {lines.shape}, got {bands.shape}")
    if labels is not None and len(labels) != len(lines):
        raise ValueError(f"labels: expected {len(lines)} of them, got {len(labels)}")
    figure, axes = panel(7.2, 4.4, ax, title, xlabel="x", ylabel="prediction")
    for i, (line, shade) in enumerate(zip(lines, shades(len(lines)), strict=True)):
        if bands is not None:
            low, high = line - 2 * bands[i], line + 2 * bands[i]
            axes.fill_between(across, low, high, color=shade, alpha=0.16, linewidth=0)
        name = None if labels is None else labels[i]
        axes.plot(across, line, color=shade, linewidth=1.8, label=name)
    if data is not None:
        axes.plot(*map(np.ravel, data), "o", color=INK, markersize=4.5, zorder=3, label="data")
    axes.set_xlim(across[0], across[-1])
    if labels is not None or data is not None:
        legend(axes, "best")
    return figure


def flow(
    model: Any,
    times: ArrayLike,
    *,
    steps: bool = False,
    x: ArrayLike | None = None,
    title: str = "",
    ax: Axes | None = None,
) -> Figure:
    """Draw what an ensemble of networks has learned after some times, over its only input.

    Parameters
    ----------
    model : GradientFlow
        Fitted to rows of one column and one column of targets, under squared loss.
    times : (t,) array
        Infinity is the end of training.
    steps : bool, default False
        Whether these are numbers of steps.
    x : (m,) array, optional
        Where to draw. Default: 300 points around the training inputs.
    title : str, optional
    ax : matplotlib axes, optional
        Where to draw. Default: a figure of its own.

    Returns
    -------
    matplotlib.figure.Figure
        Bands are two standard deviations of the ensemble.

    Raises
    ------
    ImportError
        Without matplotlib, the extra "plot".
    ValueError
        If the model has more than one input or target.

    Examples
    --------
    >>> import numpy as np, ntkfast as nf
    >>> X = np.linspace(-1, 1, 8)[:, None]
    >>> net = nf.FullyConnected(2, parameterization="ntk", b_std=0.5)
    >>> model = nf.regression.GradientFlow(net).fit(X, np.sin(3 * X[:, 0]))
    >>> figure = nf.plot.flow(model, [0, 30, 1000, np.inf])
    """
    known, targets = np.asarray(model.training_.inputs), model.training_.targets
    if known.ndim != 2 or known.shape[1] != 1 or targets.shape[1] != 1:
        raise ValueError(
            f"model: expected one input and one target, got shapes {known.shape} and "
            f"{targets.shape}"
        )
    low, high = float(known.min()), float(known.max())
    air = MARGIN * ((high - low) or 1.0)
    across = np.linspace(low - air, high + air, 300) if x is None else np.asarray(x, np.float64)
    at = np.atleast_1d(np.asarray(times))
    when: dict[str, Any] = {"steps": at} if steps else {"time": at}
    mean, std = model.predict(across[:, None], **when, return_std=True)
    word = "step" if steps else "t ="
    labels = ["end of training" if one == np.inf else f"{word} {one:g}" for one in at.tolist()]
    return prediction(
        across,
        mean.reshape(len(at), -1),
        std,
        data=(known, targets),
        labels=labels,
        title=title,
        ax=ax,
    )
