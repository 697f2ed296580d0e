"""What all pictures share: ink, grid, colours, and figures that need no display."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from ntkfast.support.files import appearing
from ntkfast.support.optional import require

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK = "#33373d"
FAINT = "#d9dce1"


def panel(width: float, height: float, title: str = "", **options: Any) -> tuple[Figure, Axes]:
    """Make a figure of one panel, with these properties of its axes; sizes in inches."""
    figure = figure_of(width, height)
    axes = figure.subplots()
    dress(axes, title)
    axes.set(**options)
    return figure, axes


def figure_of(width: float, height: float) -> Figure:
    """Make a figure that no window system and no global state knows of; sizes in inches."""
    require("matplotlib.figure", "plot")
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    return Figure(figsize=(width, height), dpi=160, layout=ConstrainedLayoutEngine(wspace=0.06))


def save(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Write a figure to a file that appears when it is complete.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
    path : path
        Its suffix names the format: .png, .pdf, .svg.

    Raises
    ------
    ValueError
        If the suffix names no format that matplotlib can write.
    """
    known = figure.canvas.get_supported_filetypes()
    kind = Path(path).suffix.lower().lstrip(".")
    if kind not in known:
        raise ValueError(f"path: expected a suffix among .{', .'.join(sorted(known))}, got {path}")
    with appearing(path) as partial:
        figure.savefig(partial, format=kind)


def shades(count: int) -> Any:
    """Colours from dark to light: they read in grey and with every colour vision."""
    from matplotlib import colormaps

    return colormaps["viridis"](np.linspace(0.0, 0.86, count))  # the yellow end is too pale


def dress(axes: Axes, title: str = "") -> None:
    """Leave a faint grid and no frame."""
    axes.set_title(title, loc="left", fontsize=11, fontweight="bold", color=INK)
    axes.xaxis.label.set_color(INK)
    axes.yaxis.label.set_color(INK)
    axes.grid(color=FAINT, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(colors=INK, length=0, which="both")
    axes.spines[:].set_visible(False)


Place: TypeAlias = Literal["upper right", "lower left", "lower right", "best"]


def legend(axes: Axes, place: Place) -> None:
    """Name the lines of a panel."""
    axes.legend(
        loc=place,
        borderaxespad=0.2,
        labelcolor=INK,
        framealpha=1.0,
        edgecolor="none",
        facecolor="white",
    )
