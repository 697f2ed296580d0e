"""Distance of finite networks from their limit, over the width."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ntkfast.plot.style import INK, cover, legend, panel, set_ticks, shades

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ntkfast.finite import Convergence


def convergence(found: Convergence, *, ax: Axes | None = None) -> Figure:
    """Draw the distance of empirical kernels from the limit over the width, logarithmically.

    Parameters
    ----------
    found : Convergence
        What `ntkfast.finite.convergence` returns.
    ax : matplotlib axes, optional
        Where to draw. Default: a figure of its own.

    Returns
    -------
    matplotlib.figure.Figure
        Bars are standard errors; the dashed line falls like one over the root of the width.

    Raises
    ------
    ImportError
        Without matplotlib, the extra "plot".

    Examples
    --------
    >>> import numpy as np
    >>> import ntkfast as nf
    >>> figure = nf.plot.convergence(nf.finite.convergence(np.eye(3), (8, 16, 32)))
    """
    name = found.kind.upper()
    title = f"{name}, mean of {found.n_draws}" if found.n_draws > 1 else ""
    figure, axes = panel(
        5.6, 4.2, ax, title, yscale="log", xlabel="width", ylabel=f"relative error of the {name}"
    )
    for (label, errors), shade in zip(found.errors.items(), shades(len(found.errors)), strict=True):
        text, bars = f"{label}, slope {found.slopes[label]:.2f}", found.standard_errors[label]
        axes.errorbar(found.widths, errors, bars, color=shade, marker="o", ms=4, label=text)
    first = next(iter(found.errors.values()))
    reference = first[0] * (found.widths / found.widths[0]) ** -0.5
    axes.plot(found.widths, reference, color=INK, lw=0.8, ls=(0, (6, 4)), label="width$^{-1/2}$")
    axes.set_xscale("log", base=2)
    set_ticks(axes, "x", found.widths, [f"{width:g}" for width in found.widths])
    spread = found.standard_errors
    cover(
        axes, "y", [reference, *(found.errors[k] + s * spread[k] for k in spread for s in (-1, 1))]
    )
    legend(axes, "lower left")
    return figure
