"""Mercer spectra over the degree, and ratios of two of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ntkfast.plot.style import FAINT, INK, cover, legend, log_ticks, panel, set_ticks, shades

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ntkfast.spectrum import MercerSpectrum, RkhsComparison

MARKED = 32  # degrees with a mark of their own; the lines go on alone
DRAWN = 400  # points of a line
PARITY = ("even degrees", "odd degrees")
LOG10 = math.log(10)
DASHES = (0, (6, 4))
BELOW = 12  # decades that are shown below the lowest value of the slowest decay
FEW_DECADES = 2.2  # with ticks between the powers of ten


def spectrum(
    spectra: MercerSpectrum | Sequence[MercerSpectrum] | Mapping[str, MercerSpectrum],
    *,
    labels: Sequence[str] | None = None,
    asymptotes: bool = True,
    ax: Axes | None = None,
) -> Figure:
    """Draw Mercer eigenvalues over the degree of the spherical harmonics, on logarithmic axes.

    Even degrees have full marks and a solid line, odd degrees hollow marks and a dotted one.
    Exact zeros and degree 0, which a logarithm cannot show, are left out, and marks
    beyond degree 32.

    Parameters
    ----------
    spectra : MercerSpectrum, sequence of them, or mapping of labels to them
        What `ntkfast.spectrum.mercer` returns. Colour goes from dark (first) to light (last).
    labels : sequence of str, optional
        Names of the lines. Default: the kernels' reprs.
    asymptotes : bool
        Draw the leading terms C k^-p where they are known, thin and dashed.
    ax : matplotlib axes, optional
        Where to draw. Default: a figure of its own.

    Returns
    -------
    matplotlib.figure.Figure
        Save it with ``figure.savefig("spectrum.png")``. It needs no display.

    Raises
    ------
    ImportError
        Without matplotlib, the extra "plot".
    ValueError
        If a spectrum has no degree above 0, or the number of labels is wrong.

    Examples
    --------
    >>> import ntkfast as nf
    >>> s = nf.spectrum.mercer(nf.FullyConnected(3).ntk, dim=3, max_degree=1000)
    >>> figure = nf.plot.spectrum(s)
    >>> len(figure.axes)
    1
    """
    named = _named(spectra, labels)
    figure, axes = panel(7.2, 4.8, ax, xscale="log", xlabel="degree k", ylabel="eigenvalue μ")
    for (label, one), shade in zip(named, shades(len(named)), strict=True):
        _draw(axes, one, label, shade, asymptotes)
    last = max(one.max_degree for _, one in named)
    cover(axes, "x", [1, last])
    _keep_in_view(axes, named)
    _explain(axes)
    legend(axes, "lower left")
    return figure


def _named(spectra: Any, labels: Sequence[str] | None) -> list[tuple[str, MercerSpectrum]]:
    if isinstance(spectra, Mapping):
        several = list(spectra.values())
    else:
        several = list(spectra) if isinstance(spectra, Sequence) else [spectra]
    for one in several:
        if not hasattr(one, "eigenvalues"):
            raise TypeError(f"spectra: expected what ntkfast.spectrum.mercer returns, got {one!r}")
    if isinstance(spectra, Mapping):
        named = list(spectra.items())
    else:
        named = [(f"{one.kernel!r}, d = {one.dim}", one) for one in several]
    if labels is not None:
        if len(labels) != len(named):
            raise ValueError(f"labels: expected {len(named)} of them, got {len(labels)}")
        named = list(zip(labels, (one for _, one in named), strict=True))
    if any(one.max_degree < 1 for _, one in named):
        raise ValueError("spectra: expected degrees above 0, got max_degree=0")
    return named


def _draw(axes: Axes, one: MercerSpectrum, label: str, shade: Any, asymptotes: bool) -> None:
    """Draw both parities of one spectrum, and its leading terms."""
    height = one.log_eigenvalues / LOG10
    seen = np.isfinite(height) & (one.error < 1)
    for odd in (0, 1):
        k = one.degrees[1:][seen[1:] & (one.degrees[1:] % 2 == odd)]
        if not len(k):
            continue
        thin = _thin(k)
        style: dict[str, Any] = {"color": shade, "linewidth": 1.6, "linestyle": ":" if odd else "-"}
        axes.plot(thin, height[thin], label=None if odd else label, **style)
        marked = k[k <= MARKED]
        face = "white" if odd else shade
        axes.plot(marked, height[marked], "o", markersize=4, markerfacecolor=face, color=shade)
        branch = one.decay.odd if odd else one.decay.even
        if asymptotes and branch is not None and branch.sign:
            line = (branch.log_constant - branch.exponent * np.log(thin)) / LOG10
            axes.plot(thin, line, color=INK, linewidth=0.7, linestyle=DASHES, zorder=1)


def _keep_in_view(axes: Axes, named: Sequence[tuple[str, MercerSpectrum]]) -> None:
    """Limit the height to the eigenvalues: asymptotes rise far above them at low degrees.

    One that falls far below all others, as those of smooth kernels do, leaves the picture.
    """
    drawn = [one.log_eigenvalues[1:] / LOG10 for _, one in named]
    drawn = [heights[np.isfinite(heights)] for heights in drawn]
    drawn = [heights for heights in drawn if len(heights)]
    if not drawn:
        return
    high = float(max(heights.max() for heights in drawn))
    lowest = [float(heights.min()) for heights in drawn]
    low = max(min(lowest), max(lowest) - BELOW)
    if high - low <= FEW_DECADES:  # their powers of ten are numbers
        ticks, labels = log_ticks(10**low, 10**high)
        places = [math.log10(tick) for tick in ticks]
    else:
        step = math.ceil((high - low) / 8)
        places = list(range(math.floor(low / step) * step, math.ceil(high / step) * step + 1, step))
        labels = [f"$10^{{{place}}}$" for place in places]
    set_ticks(axes, "y", places, labels)
    low, high = min(low, places[0]), max(high, places[-1])
    air = 0.03 * (high - low)
    axes.set_ylim(low - air, high + air)


def _explain(axes: Axes) -> None:
    """Say what full and hollow marks, and solid, dotted and dashed lines are, of those drawn."""
    styles = {str(line.get_linestyle()) for line in axes.lines}
    for style, face, name in (("-", INK, PARITY[0]), (":", "white", PARITY[1])):
        if style in styles:
            options: dict[str, Any] = {"markersize": 4, "markerfacecolor": face, "label": name}
            axes.plot([], [], "o", color=INK, linestyle=style, linewidth=1.6, **options)
    if "--" in styles:
        axes.plot(
            [], [], color=INK, linewidth=0.7, linestyle=DASHES, label="$C\\,k^{-p}$, the limit"
        )


def ratio(comparison: RkhsComparison, *, ax: Axes | None = None) -> Figure:
    """Draw the ratio of two Mercer spectra over the degree, with its bounds and limits.

    Parameters
    ----------
    comparison : RkhsComparison
        What `ntkfast.spectrum.same_rkhs` returns.
    ax : matplotlib axes, optional
        Where to draw. Default: a figure of its own.

    Returns
    -------
    matplotlib.figure.Figure
        The band between the smallest and the largest ratio is shaded; thin lines are the limits
        for growing degrees.

    Raises
    ------
    ImportError
        Without matplotlib, the extra "plot".

    Examples
    --------
    >>> import ntkfast as nf
    >>> found = nf.spectrum.same_rkhs(nf.FullyConnected(2).ntk, nf.FullyConnected(5).ntk, dim=3)
    >>> figure = nf.plot.ratio(found)
    """
    title = f"{comparison.first.kernel!r} / {comparison.second.kernel!r}"
    named = {"xlabel": "degree k", "ylabel": "ratio of the eigenvalues"}
    figure, axes = panel(7.2, 4.2, ax, title, xscale="log", yscale="log", **named)
    degrees, values = comparison.first.degrees, comparison.ratio
    if 0 < comparison.lower <= comparison.upper < math.inf:
        axes.axhspan(comparison.lower, comparison.upper, color=FAINT, alpha=0.5, linewidth=0)
    limits = comparison.even_limit, comparison.odd_limit
    for odd, (shade, limit) in enumerate(zip(shades(2), limits, strict=True)):
        seen = np.isfinite(values) & (values > 0) & (degrees % 2 == odd) & (degrees > 0)
        k = _thin(degrees[seen])
        axes.plot(k, values[k], color=shade, linewidth=1.4, label=PARITY[odd])
        marked = k[k <= MARKED]
        axes.plot(marked, values[marked], "o", color=shade, markersize=4)
        if 0 < limit < math.inf:
            axes.axhline(limit, color=shade, linewidth=0.8, linestyle=DASHES)
    cover(axes, "x", [1, degrees[-1]])
    cover(axes, "y", [line.get_ydata() for line in axes.lines])
    axes.plot([], [], color=INK, linewidth=0.8, linestyle=DASHES, label="limits")
    legend(axes, "best")
    return figure


def _thin(k: NDArray[np.int64]) -> NDArray[np.int64]:
    """Leave out degrees that would fall on one another on a logarithmic axis."""
    if not len(k):
        return k
    return k[np.unique(np.searchsorted(k, np.geomspace(k[0], k[-1], DRAWN)))]
