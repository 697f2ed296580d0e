"""What all pictures share: ink, grid, colours, and figures that need no display."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
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


def panel(
    width: float, height: float, ax: Any, title: str = "", **options: Any
) -> tuple[Figure, Axes]:
    """Make a figure of one panel, or take `ax`, and set properties of its axes; sizes in inches."""
    figure, (axes,) = panels(width, height, ax, (1, 1))
    dress(axes, title)
    axes.set(**options)
    return figure, axes


def panels(
    width: float, height: float, ax: Any, shape: tuple[int, int], **options: Any
) -> tuple[Figure, Any]:
    """Make a figure of some panels, or take those of `ax`: the figure, and its axes row by row.

    Raises
    ------
    TypeError, ValueError
        If `ax` is something else, or has another number of axes.
    """
    if ax is None:
        figure = figure_of(width, height)
        return figure, figure.subplots(*shape, squeeze=False, **options).ravel()
    found, count = np.array(ax, dtype=object).ravel(), shape[0] * shape[1]
    for one in found:
        if not hasattr(one, "set_xlabel"):
            raise TypeError(f"ax: expected axes of matplotlib, got {type(one).__name__}")
    if len(found) != count:
        raise ValueError(f"ax: expected {count} axes, one for each panel, got {len(found)}")
    figure = found[0].figure
    return figure.figure or figure, found  # the figure of a subfigure can be saved


def figure_of(width: float, height: float) -> Figure:
    """Make a figure that no window system and no global state knows of; sizes in inches."""
    require("matplotlib.figure", "plot")
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    from ntkfast.plot.picture import Picture

    return Picture(figsize=(width, height), dpi=160, layout=ConstrainedLayoutEngine(wspace=0.06))


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
    if title:  # else axes that were given keep theirs
        axes.set_title(title, loc="left", fontsize=11, fontweight="bold", color=INK)
    axes.xaxis.label.set_color(INK)
    axes.yaxis.label.set_color(INK)
    axes.grid(color=FAINT, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(colors=INK, length=0, which="both")
    axes.spines[:].set_visible(False)


def log_ticks(low: float, high: float) -> tuple[list[float], list[str]]:
    """Return ticks of a logarithmic axis from below numbers up to above them, and their labels."""
    span = math.log10(high / low)
    if span < 0.5:
        from matplotlib.ticker import MaxNLocator

        air = low * 1e-3 if low == high else 0.0
        ticks = [t for t in MaxNLocator(5).tick_values(low - air, high + air) if t > 0]
        return ticks, [f"{tick:g}" for tick in ticks]
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    if span <= 2.2:
        several = [float(f"{m}e{e}") for e in range(first, last + 1) for m in (1, 2, 5)]
        inner = [k for k, tick in enumerate(several) if low < tick < high]
        ticks = several[max(inner[0] - 1, 0) : inner[-1] + 2]
        return ticks, [f"{tick:g}" for tick in ticks]
    step = max(1, math.ceil((last - first) / 8))
    powers = range(first // step * step, -(-last // step) * step + 1, step)
    return [10.0**power for power in powers], [f"$10^{{{power}}}$" for power in powers]


def cover(axes: Axes, side: Literal["x", "y"], values: Iterable[Any]) -> None:
    """Give a logarithmic axis ticks on both sides of the positive values, and room for them."""
    known = np.concatenate([np.ravel(np.asarray(v, np.float64)) for v in values])
    known = known[np.isfinite(known) & (known > 0)]
    if not len(known):
        return
    low, high = float(known.min()), float(known.max())
    ticks, labels = log_ticks(low, high)
    set_ticks(axes, side, ticks, labels)
    first, last = min(low, ticks[0]), max(high, ticks[-1])
    air = max((last / first) ** 0.03, 1.001)
    axes.set(**{f"{side}lim": (first / air, last * air)})


def set_ticks(axes: Axes, side: Literal["x", "y"], ticks: Any, labels: Any) -> None:
    """Set ticks and their labels, and no smaller ones."""
    axis = axes.xaxis if side == "x" else axes.yaxis
    axis.set_ticks(ticks, labels)
    axis.set_ticks([], minor=True)


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
