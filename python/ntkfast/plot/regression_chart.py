"""How fits went: loss over time, error over the ridge, residuals of the solver."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from ntkfast.plot.style import FAINT, INK, legend, panel, shades

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
        6.4, 4.4, xscale="log", yscale="log", xlabel="time, in steps", ylabel="loss"
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
    _floor(axes, 1e-14 if test is None else 1e-4)
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


def _floor(axes: Axes, share: float) -> None:
    """Leave out losses below a share of the largest: rounding, or what held-out data never see."""
    top = max(float(np.max(line.get_ydata())) for line in axes.lines)
    low = min(float(np.min(line.get_ydata())) for line in axes.lines)
    if top > 0 and low < share * top:
        axes.set_ylim(share * top, 3 * top)


def ridge_path(found: Any, *, title: str = "") -> Figure:
    """Draw the error over the ridge, and mark the best.

    Parameters
    ----------
    found : object
        With the arrays `ridges` and `errors`, (k,) each, or a fitted estimator that has gone along
        a path: `ridges_` and `scores_`.
    title : str, optional

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ImportError
        Without matplotlib, the extra "plot".
    ValueError
        If the shapes differ, or no error is finite.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> import ntkfast as nf
    >>> path = SimpleNamespace(ridges=[0.01, 0.1, 1.0], errors=[0.3, 0.2, 0.4])
    >>> figure = nf.plot.ridge_path(path)
    """
    fitted = hasattr(found, "ridges_")
    ridges = np.asarray(found.ridges_ if fitted else found.ridges, np.float64)
    errors = np.asarray(found.scores_ if fitted else found.errors, np.float64)
    if ridges.ndim != 1 or ridges.shape != errors.shape:
        raise ValueError(f"found: expected as many errors as ridges, got {errors.shape}")
    seen = np.isfinite(errors)
    if not seen.any():
        raise ValueError("found: expected a finite error, got none")
    order = np.argsort(ridges[seen])
    across, heights = ridges[seen][order], errors[seen][order]
    figure, axes = panel(5.6, 4.0, title, xscale="log", xlabel="ridge", ylabel="error")
    if 0 < 10 * heights.min() < heights.max():
        axes.set_yscale("log")
    shade = shades(2)[0]
    axes.plot(across, heights, "o-", color=shade, markersize=4, linewidth=1.6)
    best = int(np.argmin(heights))
    axes.axvline(across[best], color=INK, linewidth=0.9, linestyle=DASHES, zorder=1)
    label = f"best: {across[best]:.3g}"
    axes.plot(across[best], heights[best], "o", color=shades(2)[1], markersize=8, label=label)
    axes.grid(which="minor", axis="y", color=FAINT, linewidth=0.4)
    legend(axes, "best")
    return figure


def residuals(solutions: Any, *, tol: float | None = None, over: str = "iteration") -> Figure:
    """Draw how the residuals of the iterative solver fell.

    Parameters
    ----------
    solutions : Solution or mapping of labels to them
        What `ntkfast.regression.solve` returns with ``method="cg"``.
    tol : float, optional
        Where it was to stop, drawn as a line.
    over : {"iteration", "seconds"}

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
    figure, axes = panel(6.4, 4.2, yscale="log", xlabel=label, ylabel="relative residual")
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
    if tol is not None:
        axes.axhline(tol, color=INK, linewidth=0.9, linestyle=DASHES, label=f"tol {tol:g}")
    if over == "iteration":
        axes.locator_params(axis="x", integer=True)
    legend(axes, "best")
    return figure
