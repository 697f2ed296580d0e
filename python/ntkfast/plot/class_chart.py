"""Images with a score per class and its error bar."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from ntkfast.plot.style import INK, dress, panels, shades

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def classes(
    images: ArrayLike,
    mean: ArrayLike,
    std: ArrayLike,
    *,
    names: Sequence[str] | None = None,
    titles: Sequence[str] | None = None,
    ax: Any = None,
) -> Figure:
    """Draw images, and below each one the scores of the classes with two standard deviations.

    Parameters
    ----------
    images : (m, height, width) array
        In grey, dark where values are large.
    mean : (m, c) array
        Scores of the classes: predictions of one-hot targets, say. The largest one is dark.
    std : (m,) or (m, c) array
        Half of an error bar.
    names : sequence of str, optional
        Of the classes. Default: their numbers.
    titles : sequence of str, optional
        Of the images.
    ax : (2, m) array of matplotlib axes, optional
        Where to draw: images above, scores below. Default: a figure of its own.

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
    >>> X, y = nf.datasets.load_digits()
    >>> gp = nf.regression.GaussianProcess().fit(X[:99], (y[:99, None] == range(10)) - 0.1)
    >>> mean, std = gp.predict(X[99:102], return_std=True)
    >>> figure = nf.plot.classes(X[99:102].reshape(-1, 8, 8), mean, std)
    """
    pictures, scores = np.asarray(images), np.asarray(mean, np.float64)
    if pictures.ndim != 3 or not len(pictures):
        raise ValueError(f"images: expected shape (m, height, width), got {pictures.shape}")
    if scores.ndim != 2 or len(scores) != len(pictures):
        raise ValueError(f"mean: expected shape ({len(pictures)}, c), got {scores.shape}")
    bars = np.asarray(std, np.float64)
    if bars.shape not in (scores.shape[:1], scores.shape):
        raise ValueError(
            f"std: expected shape {scores.shape[:1]} or {scores.shape}, got {bars.shape}"
        )
    bars = np.broadcast_to(bars if bars.ndim == 2 else bars[:, None], scores.shape)
    labels = [str(i) for i in range(scores.shape[1])] if names is None else list(names)
    width, shape = 2.0 * len(pictures), (2, len(pictures))
    figure, axes = panels(width, 4.0, ax, shape, sharey="row", height_ratios=(1, 1.1))
    axes = axes.reshape(shape)
    dark, light = shades(2)
    for i, (picture, values) in enumerate(zip(pictures, scores, strict=True)):
        above, below = axes[:, i]
        above.imshow(picture, cmap="gray_r")
        above.axis("off")
        above.set_title("" if titles is None else titles[i], fontsize=10, color=INK)
        dress(below)
        colours = [dark if k == values.argmax() else light for k in range(len(values))]
        below.bar(
            range(len(values)), values, yerr=2 * bars[i], color=colours, ecolor=INK, capsize=2
        )
        below.set_xticks(range(len(values)), labels)
        below.tick_params(labelleft=i == 0)
    limits = np.array([below.get_ylim() for below in axes[1]])
    for below in axes[1]:  # axes that were given need not share theirs
        below.set_ylim(limits[:, 0].min(), limits[:, 1].max())
    axes[1, 0].set_ylabel("score")
    return figure
