"""Residual networks interpolate more smoothly (Tirer, Bruna, Giryes, arXiv:2009.10008).

Kernels of a plain and of residual networks with five layers on the circle: their profiles, the
interpolants of a few samples of 0.5 cos x + sin 4x, and three measures of smoothness.  The last
table shows that the ranking of the interpolants turns round when the samples follow the
oscillation.

    python examples/tirer_smoothness.py --out tirer.png
"""

from __future__ import annotations

import argparse

import numpy as np

import ntkfast as nf
from ntkfast.plot.style import FAINT, INK, dress, figure_of, legend, shades

DEPTH = 5
ALPHAS = (0.1, 0.3, 1.0)
SAMPLES = (5, 8, 12)


def kernels() -> dict[str, nf.Kernel]:
    """Return the plain network and the residual ones, from the spikiest to the smoothest."""
    residual = {
        f"ResNet, α = {alpha}": nf.ResNet(DEPTH, alpha=alpha, trained="all", w_std=1.0).ntk
        for alpha in reversed(ALPHAS)
    }
    return {"MLP": nf.FullyConnected(DEPTH).ntk, **residual}


def target(x: np.ndarray) -> np.ndarray:
    """Return the function of the paper's experiment."""
    return 0.5 * np.cos(x) + np.sin(4 * x)


def samples(count: int) -> np.ndarray:
    """Return angles spread evenly over the circle."""
    return -np.pi + 2 * np.pi * np.arange(count) / count


def interpolant(kernel: nf.Kernel, count: int) -> nf.spectrum.CircleInterpolant:
    """Interpolate the target at `count` angles."""
    x = samples(count)
    return nf.spectrum.interpolate_on_circle(kernel, x, target(x))


def print_measures() -> None:
    """Print the measures of the kernels and of their interpolants."""
    head = " | ".join(f"TV(f'), {count} samples" for count in SAMPLES)
    print(f"| kernel | slope at 0 | energy at k >= 4 | {head} |")
    print("|" + "---|" * (3 + len(SAMPLES)))
    for name, kernel in kernels().items():
        slope = nf.spectrum.shape(kernel).rate
        energy = nf.spectrum.high_frequency_energy(kernel)
        variation = " | ".join(f"{interpolant(kernel, n).variation:.2f}" for n in SAMPLES)
        print(f"| {name} | {slope:.4f} | {energy:.1e} | {variation} |")


def draw(out: str) -> None:
    """Draw the profiles, and the interpolants for two numbers of samples."""
    figure = figure_of(13.0, 4.2)
    left, *panels = figure.subplots(1, 3, width_ratios=[1, 1.2, 1.2])
    names = kernels()
    dress(left, "Kernels")
    degrees = np.linspace(0, 180, 721)
    for (name, kernel), shade in zip(names.items(), shades(len(names)), strict=True):
        values = kernel.profile(np.cos(np.deg2rad(degrees))) / kernel.profile(1.0)
        left.plot(degrees, values, color=shade, label=name)
    left.set_xticks(range(0, 181, 45), [f"{angle}°" for angle in range(0, 181, 45)])
    left.set_xlabel("angle θ", color=INK)
    left.set_ylabel("k(θ) / k(0)", color=INK)
    legend(left, "upper right")
    for panel, count in zip(panels, (SAMPLES[0], SAMPLES[-1]), strict=True):
        dress(panel, f"Interpolants of {count} samples")
        grid = np.linspace(-np.pi, np.pi, 1001)
        panel.plot(np.rad2deg(grid), target(grid), color=FAINT, linewidth=3, label="target")
        for (_, kernel), shade in zip(names.items(), shades(len(names)), strict=True):
            found = interpolant(kernel, count)
            panel.plot(np.rad2deg(found.angles), found.values, color=shade)
        x = samples(count)
        panel.plot(np.rad2deg(x), target(x), "o", color=INK, label="samples")
        panel.set_xticks(range(-180, 181, 90), [f"{angle}°" for angle in range(-180, 181, 90)])
        panel.set_xlabel("x", color=INK)
    legend(panels[0], "upper right")
    nf.plot.save(figure, out)


def main() -> None:
    """Print the table and draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", default="tirer.png", help="the picture (default: tirer.png)")
    arguments = parser.parse_args()
    print_measures()
    draw(arguments.out)
    print(f"\npicture: {arguments.out}")


if __name__ == "__main__":
    main()
