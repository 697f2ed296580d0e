"""How fits went: loss over time, error over the ridge, residuals of the solver."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from ntkfast.plot.style import INK, cover, legend, panel, shades

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

POINTS = 200  # of a curve
DASHES = (0, (4, 2))


def learning_curves(
    models: Any,
    times: ArrayLike | None = None,
    *,
    test: tuple[Any, ArrayLike] | None = None,
    ensemble: bool = False,
    ax: Axes | None = None,
) -> Figure:
    """Draw the loss over the time of training, from the eigenvalues of the kernel.

    Parameters
    ----------
    models : GradientFlow or mapping of labels to them
        Fitted, under squared loss.
    times : (t,) array, optional
        Positive. Default: from a tenth of what the largest eigenvalue takes to a hundred times what
        the smallest does, at most ten decades.
    test : pair of arrays, optional
        Inputs and targets that were held out: the loss of the mean prediction there, dashed.
    ensemble : bool, default False
        Draw the mean loss of single networks on the training set, not that of the mean prediction.
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
        If times are not positive, or not given for a model without eigenvalues.

    Examples
    --------
    >>> import numpy as np, ntkfast as nf
    >>> X = np.random.default_rng(0).normal(size=(40, 3))
    >>> model = nf.regression.GradientFlow(nf.FullyConnected(2)).fit(X, X[:, 0] ** 2)
    >>> figure = nf.plot.learning_curves(model)
    """
    named = dict(models) if isinstance(models, Mapping) else {"": models}
    at = _times(list(named.values())) if times is None else np.asarray(times, np.float64)
    if at.ndim != 1 or not len(at) or not np.all(at > 0):
        raise ValueError("times: expected positive numbers")
    figure, axes = panel(
        6.4, 4.4, ax, xscale="log", yscale="log", xlabel="time, in steps", ylabel="loss"
    )
    for (label, model), shade in zip(named.items(), shades(len(named)), strict=True):
        losses = model.training_loss(at, ensemble=ensemble)
        axes.plot(at, losses, color=shade, linewidth=1.8, label=f"{label} training".strip())
        if test is not None:
            targets = np.asarray(test[1], np.float64)
            wrong = model.predict(test[0], at) - targets
            held_out = np.mean(wrong.reshape(len(at), -1) ** 2, axis=1) / 2
            axes.plot(
                at, held_out, color=shade, lw=1.8, ls=DASHES, label=f"{label} held out".strip()
            )
    cover(axes, "x", [at])
    share = 1e-14 if test is None else 1e-4
    losses = np.concatenate([np.asarray(line.get_ydata()) for line in axes.lines])
    cover(axes, "y", [losses[losses >= share * losses.max()]])
    legend(axes, "lower left")
    return figure


def _times(models: list[Any]) -> Any:
    """Return times on a logarithmic line from before anything happens to after everything has."""
    ends = []
    for model in models:
        training = model.training_
        if not training.is_dense:
            raise ValueError('times: expected numbers for a model with method="lanczos", got None')
        values = training.eigen.values[training.eigen.values > training.eigen.cutoff]
        ends.append(1 / (training.descent.rate * values[[-1, 0]]))
    first = 0.1 * min(float(one[0]) for one in ends)
    last = 100 * max(float(one[1]) for one in ends)
    return np.geomspace(first, min(last, 1e10 * first), POINTS)


def ridge_path(found: Any, *, title: str = "", ax: Axes | None = None) -> Figure:
    """Draw the error over the ridge, and mark the best.

    Parameters
    ----------
    found : object
        With the arrays `ridges` and `errors`, (k,) each, or a fitted estimator that has gone along
        a path: `ridges_` and `scores_`.
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
    TypeError, ValueError
        If `found` is neither, or not fitted; if the shapes differ, or no error is finite.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> import ntkfast as nf
    >>> path = SimpleNamespace(ridges=[0.01, 0.1, 1.0], errors=[0.3, 0.2, 0.4])
    >>> figure = nf.plot.ridge_path(path)
    """
    fitted = hasattr(found, "ridges_")
    if not fitted and not hasattr(found, "errors"):
        wanted = "a fitted KernelRidgeCV or KernelClassifier, or an object with ridges and errors"
        raise TypeError(f"found: expected {wanted}, got {found!r}")
    ridges = np.asarray(found.ridges_ if fitted else found.ridges, np.float64)
    errors = np.asarray(found.scores_ if fitted else found.errors, np.float64)
    if ridges.ndim != 1 or ridges.shape != errors.shape:
        raise ValueError(f"found: expected as many errors as ridges, got {errors.shape}")
    seen = np.isfinite(errors)
    if not seen.any():
        raise ValueError("found: expected a finite error, got none")
    order = np.argsort(ridges[seen])
    across, heights = ridges[seen][order], errors[seen][order]
    figure, axes = panel(5.6, 4.0, ax, title, xscale="log", xlabel="ridge", ylabel="error")
    if 0 < 10 * heights.min() < heights.max():
        axes.set_yscale("log")
        cover(axes, "y", [heights])
    cover(axes, "x", [across])
    shade = shades(2)[0]
    axes.plot(across, heights, "o-", color=shade, markersize=4, linewidth=1.6)
    best = int(np.argmin(heights))
    axes.axvline(across[best], color=INK, linewidth=0.9, linestyle=DASHES, zorder=1)
    label = f"best: {across[best]:.3g}"
    axes.plot(across[best], heights[best], "o", color=shades(2)[1], markersize=8, label=label)
    legend(axes, "best")
    return figure


def residuals(
    solutions: Any,
    *,
    tol: float | None = None,
    over: str = "iteration",
    ax: Axes | None = None,
) -> Figure:
    """Draw how the residuals of the iterative solver fell.

    Parameters
    ----------
    solutions : Solution or mapping of labels to them
        What `ntkfast.regression.solve` returns with ``method="cg"``.
    tol : float, optional
        Where it was to stop, drawn as a line.
    over : {"iteration", "seconds"}
    ax : matplotlib axes, optional
        Where to draw. Default: a figure of its own.

    Returns
    -------
    matplotlib.figure.Figure
        The worst column as a line, all of them as a band. Dots are residuals of the float64 matrix,
        the others those of the recurrence.

    Raises
    ------
    ImportError
        Without matplotlib, the extra "plot".
    ValueError
        If a history is empty, or `over` is another word.

    Examples
    --------
    >>> import numpy as np, ntkfast as nf
    >>> X = np.random.default_rng(0).normal(size=(200, 5))
    >>> found = nf.regression.solve(nf.FullyConnected(2).ntk, X, X, 1e-3, method="cg")
    >>> figure = nf.plot.residuals(found, tol=1e-6)
    """
    named = dict(solutions) if isinstance(solutions, Mapping) else {"": solutions}
    label = {"iteration": "iterations", "seconds": "seconds"}.get(over)
    if label is None:
        raise ValueError(f"over: expected 'iteration' or 'seconds', got {over!r}")
    figure, axes = panel(6.4, 4.2, ax, yscale="log", xlabel=label, ylabel="relative residual")
    for (name, one), shade in zip(named.items(), shades(len(named)), strict=True):
        entries = one.history.entries
        if not entries:
            raise ValueError(f"solutions: {one!r} has no history")
        across = np.array([getattr(entry, over) for entry in entries])
        low, high = (
            np.array([end(entry.residuals) for entry in entries]) for end in (np.min, np.max)
        )
        exact = np.array([entry.exact for entry in entries])
        if np.any(low < high):
            axes.fill_between(across, low, high, color=shade, alpha=0.2, linewidth=0)
        axes.plot(across, high, color=shade, linewidth=1.8, label=name or "worst column")
        axes.plot(across[exact], high[exact], "o", color=shade, markersize=5)
    axes.plot([], [], "o", color=INK, markersize=5, label="computed afresh")
    drawn: list[Any] = [line.get_ydata() for line in axes.lines]
    drawn += [np.min(e.residuals) for one in named.values() for e in one.history.entries]
    cover(axes, "y", drawn if tol is None else [*drawn, tol])
    if tol is not None:
        axes.axhline(tol, color=INK, linewidth=0.9, linestyle=DASHES, label=f"tol {tol:g}")
    if over == "iteration":
        axes.locator_params(axis="x", integer=True)
    legend(axes, "best")
    return figure
