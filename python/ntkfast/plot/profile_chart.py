"""Profiles of kernels over the angle between two inputs, by depth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ntkfast.kernels.rows import checked_row_kernel
from ntkfast.plot.style import INK, dress, figure_of, legend, shades

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def profiles(
    networks: Sequence[Any] | Mapping[str, Sequence[Any]],
    *,
    kind: str = "ntk",
    normalize: bool = True,
    labels: Sequence[str] | None = None,
    points: int = 721,
) -> Figure:
    """Draw kernels of unit vectors over their angle, one line per network.

    Parameters
    ----------
    networks : sequence of networks or kernels, or mapping of titles to such sequences
        A mapping gives one panel per title, side by side. Give the networks in the order of their
        depth: colour goes from dark (first) to light (last).
    kind : {"ntk", "nngp"}
        Which kernel of a network is drawn.
    normalize : bool
        Divide each kernel by its value at angle zero.
    labels : sequence of str, optional
        Names of the lines, the same in every panel. Default: "depth 3", or the kernel's repr.
    points : int
        Number of angles between 0 and 180 degrees.

    Returns
    -------
    matplotlib.figure.Figure
        Save it with ``figure.savefig("profiles.png")``. It needs no display.

    Raises
    ------
    ImportError
        Without matplotlib, the extra "plot".
    ValueError
        If a kernel is not zonal: it then has no profile.

    Examples
    --------
    >>> import ntkfast as nf
    >>> from ntkfast import plot
    >>> figure = plot.profiles([nf.FullyConnected(depth) for depth in (1, 3, 10)])
    >>> len(figure.axes[0].lines) >= 3
    True
    """
    groups = networks if isinstance(networks, Mapping) else {"": networks}
    for members in groups.values():
        if not isinstance(members, Sequence):
            raise TypeError(f"networks: expected a list of networks, got {members!r}")
    figure = figure_of(1.2 + 4.9 * len(groups), 4.4)
    panels = figure.subplots(1, len(groups), sharey=True, squeeze=False)[0]
    degrees = np.linspace(0.0, 180.0, points)
    cosines = np.cos(np.deg2rad(degrees))
    for axes, (title, members) in zip(panels, groups.items(), strict=True):
        _dress(axes, title)
        for number, (member, shade) in enumerate(zip(members, shades(len(members)), strict=True)):
            kernel = checked_row_kernel(getattr(member, kind, member))
            values = np.asarray(kernel.profile(cosines))
            label = labels[number] if labels is not None else _label(member)
            scale = values[0] if normalize else 1.0
            axes.plot(degrees, values / scale, color=shade, linewidth=2.0, label=label)
    _add_legends(panels)
    name = {"ntk": "neural tangent kernel", "nngp": "NNGP kernel"}[kind]
    panels[0].set_ylabel(f"{name}, k(θ) / k(0)" if normalize else name)
    if normalize:
        _limit_the_height(panels)
    return figure


def _add_legends(panels: Sequence[Axes]) -> None:
    """Name the lines in the empty upper right corner; once only, if all panels have the same."""
    names = [panel.get_legend_handles_labels()[1] for panel in panels]
    for number, panel in enumerate(panels):
        if names[number] not in names[number + 1 :]:
            legend(panel, "upper right")


def _dress(axes: Axes, title: str) -> None:
    dress(axes, title)
    axes.set(xlabel="angle θ between the inputs", xlim=(0, 180))
    axes.set_xticks(range(0, 181, 45), [f"{degrees}°" for degrees in range(0, 181, 45)])
    axes.axhline(0.0, color=INK, linewidth=0.8)


def _label(member: Any) -> str:
    depth = getattr(member, "depth", None)
    return repr(member) if depth is None else f"depth {depth}"


def _limit_the_height(panels: Sequence[Axes]) -> None:
    """Leave a little air above 1 and below the deepest line; the panels share the axis."""
    low = min(float(np.min(line.get_ydata())) for panel in panels for line in panel.lines)
    panels[0].set_ylim(min(low, 0.0) - 0.05, 1.04)
