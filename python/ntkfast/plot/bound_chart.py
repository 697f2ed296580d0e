"""Bounds on the smallest eigenvalue of a Gram matrix, beside the eigenvalue itself."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from ntkfast.plot.style import FAINT, INK, cover, legend, panel, shades
from ntkfast.spectrum.gram.bound_table import EXACT

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ntkfast.spectrum import Bound, BoundTable

# Lower bounds point right and upper ones left, at the eigenvalue.
MARKS = {"lower": (">", 0), "upper": ("<", 1), "limit": ("D", 2)}


def bounds(table: BoundTable, *, ax: Axes | None = None) -> Figure:
    """Draw bounds on the smallest eigenvalue beside the computed one, on a logarithmic axis.

    Full marks are bounds; hollow ones have a constant that the theorem leaves open, or are
    asymptotic laws. Bounds whose assumptions fail on these data are drawn faint.

    Parameters
    ----------
    table : BoundTable
        What `ntkfast.spectrum.bounds` returns.
    ax : matplotlib axes, optional
        Where to draw. Default: a figure of its own.

    Returns
    -------
    matplotlib.figure.Figure
        From the highest bound down; those that are zero or do not exist have no mark, but a word.

    Raises
    ------
    ImportError
        Without matplotlib, the extra "plot".

    Examples
    --------
    >>> import numpy as np, ntkfast as nf
    >>> X = np.random.default_rng(0).normal(size=(50, 20))
    >>> figure = nf.plot.bounds(nf.spectrum.bounds(nf.FullyConnected(2), X))
    """
    rows = sorted(table.rows, key=lambda row: row.value if row.value > 0 else -math.inf)
    figure, axes = panel(
        8.4,
        1.4 + 0.34 * len(rows),
        ax,
        xscale="log",
        xlabel=f"bounds; the line is the smallest eigenvalue, {table.lambda_min:.4g}",
    )
    colours = shades(3)
    for place, row in enumerate(rows):
        _mark(axes, place, row, colours)
    shown = [row.value for row in rows if _has_mark(row)]
    if table.lambda_min > 0:
        axes.axvline(table.lambda_min, color=INK, linewidth=1.2)
        shown.append(table.lambda_min)
    cover(axes, "x", [shown])
    axes.set_yticks(range(len(rows)), [row.name for row in rows])
    axes.set_ylim(-0.7, len(rows) - 0.3)
    drawn = [row for row in rows if _has_mark(row)]
    for side, (mark, colour) in MARKS.items():
        if any(row.direction == side for row in drawn):
            axes.plot([], [], mark, color=colours[colour], label=side)
    if any(row.constant != EXACT for row in drawn):
        axes.plot([], [], "o", color=INK, markerfacecolor="white", label="up to a constant")
    if not all(row.applies for row in drawn):
        axes.plot([], [], "o", color=FAINT, label="assumptions fail")
    legend(axes, "lower right")
    return figure


def _has_mark(row: Bound) -> bool:
    return 0 < row.value < math.inf


def _mark(axes: Axes, place: int, row: Bound, colours: Any) -> None:
    if not _has_mark(row):
        word = "0" if row.value == 0 else "undefined"
        axes.annotate(
            word,
            (0, place),
            xycoords=("axes fraction", "data"),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            color=INK,
        )
        return
    mark, number = MARKS[row.direction]
    colour = colours[number] if row.applies else FAINT
    face = colour if row.constant == EXACT else "white"
    axes.plot(row.value, place, mark, color=colour, markerfacecolor=face, markersize=8)
