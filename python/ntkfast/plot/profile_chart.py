"""Profiles of kernels over the angle between two inputs, by depth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ntkfast.kernels.parameters import parameters_of
from ntkfast.kernels.rows import checked_row_kernel
from ntkfast.plot.style import INK, dress, legend, panels, shades

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
    ax: Any = None,
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
        Names of the lines, the same in every panel. Default: the arguments that differ, as in
        "depth 3", or the kernel's repr.
    points : int
        Number of angles between 0 and 180 degrees.
    ax : matplotlib axes, optional
        Where to draw; as many as there are panels. Default: a figure of its own.

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
    shape = 1, len(groups)
    figure, places = panels(1.2 + 4.9 * len(groups), 4.4, ax, shape, sharey=True)
    names = _names(list(groups.values())) if labels is None else [labels] * len(groups)
    degrees = np.linspace(0.0, 180.0, points)
    cosines = np.cos(np.deg2rad(degrees))
    for axes, (title, members), known in zip(places, groups.items(), names, strict=True):
        _dress(axes, title)
        for number, (member, shade) in enumerate(zip(members, shades(len(members)), strict=True)):
            kernel = checked_row_kernel(getattr(member, kind, member))
            values = np.asarray(kernel.profile(cosines))
            scale = values[0] if normalize else 1.0
            axes.plot(degrees, values / scale, color=shade, linewidth=2.0, label=known[number])
    _add_legends(places)
    name = {"ntk": "neural tangent kernel", "nngp": "NNGP kernel"}[kind]
    places[0].set_ylabel(f"{name}, k(θ) / k(0)" if normalize else name)
    if normalize:
        _limit_the_height(places)
    return figure


def _add_legends(places: Sequence[Axes]) -> None:
    """Name the lines in the empty upper right corner; once only, if all panels have the same."""
    names = [panel.get_legend_handles_labels()[1] for panel in places]
    for number, panel in enumerate(places):
        if names[number] not in names[number + 1 :]:
            legend(panel, "upper right")


def _dress(axes: Axes, title: str) -> None:
    dress(axes, title)
    axes.set(xlabel="angle θ between the inputs", xlim=(0, 180))
    axes.set_xticks(range(0, 181, 45), [f"{degrees}°" for degrees in range(0, 181, 45)])
    axes.axhline(0.0, color=INK, linewidth=0.8)


def _names(groups: Sequence[Sequence[Any]]) -> list[list[str]]:
    """Name the members of each group by what differs, if they are otherwise alike."""
    known = [[parameters_of(member) for member in members] for members in groups]
    alike = [len({type(member) for member in members}) == 1 for members in groups]
    differing = {
        name
        for parameters, same in zip(known, alike, strict=True)
        if same
        for name in parameters[0]
        if any(one[name] != parameters[0][name] for one in parameters)
    }
    if len(groups) > 1:  # whose titles say the rest
        differing = differing or {"depth"}
    found = []
    for members, parameters, same in zip(groups, known, alike, strict=True):
        names = [_written(one, differing) if same else "" for one in parameters]
        tell = len(set(names)) == len(names) and all(names)
        found.append(names if tell else [repr(member) for member in members])
    return found


def _written(parameters: Mapping[str, Any], some: set[str]) -> str:
    """Return some parameters in words."""
    words = [
        f"depth {value}" if name == "depth" else f"{name} {getattr(value, 'name', value)}"
        for name, value in parameters.items()
        if name in some
    ]
    return ", ".join(words)


def _limit_the_height(places: Sequence[Axes]) -> None:
    """Leave a little air above 1 and below the deepest line; the same for all panels."""
    low = min(float(np.min(line.get_ydata())) for panel in places for line in panel.lines)
    for panel in places:
        panel.set_ylim(min(low, 0.0) - 0.05, 1.04)
