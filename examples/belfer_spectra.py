"""Spectra and shapes of residual tangent kernels (Belfer, Geifman, Galun, Basri, arXiv:2104.03093).

Two statements of the paper, computed instead of fitted:

- on the sphere the eigenvalues of ResNTK, of the NTK of fully connected networks and of the
  Laplace kernel decay like k^-d, so that the three have the same RKHS;
- with depth the ResNTK becomes spiky for a constant alpha, as the fully connected one does, and
  keeps its shape for alpha = L^-gamma with gamma >= 1/2.

    python examples/belfer_spectra.py --out belfer.png
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np

import ntkfast as nf
from ntkfast.plot.style import INK, dress, figure_of, legend, shades

DIM, DEGREES = 3, 1000


def kernels() -> dict[str, nf.Kernel]:
    """Return the kernels whose spaces are compared."""
    return {
        "FC-NTK, 3 layers": nf.FullyConnected(3).ntk,
        "ResNTK, 5 blocks, α = 1": nf.ResNet(5, alpha=1.0).ntk,
        "ResNTK, 10 blocks, α = 0.3": nf.ResNet(10, alpha=0.3).ntk,
        "Laplace, c = 1": nf.Laplace(1.0, inputs="homogeneous"),
    }


def print_decays() -> None:
    """Print exponents and whether the spaces agree, dimension by dimension."""
    first = next(iter(kernels().values()))
    print("| kernel | d | exponent | fitted to k = 1000 | ratio to the first | same RKHS |")
    print("|---|---|---|---|---|---|")
    for dim in (3, 4, 6):
        for name, kernel in kernels().items():
            decay = nf.spectrum.mercer(kernel, dim, DEGREES).decay
            found = nf.spectrum.same_rkhs(kernel, first, dim, DEGREES)
            print(
                f"| {name} | {dim} | {decay.exponent:.4f} | {decay.fitted:.3f} "
                f"| {found.lower:.3g} to {found.upper:.3g} | {found.verdict} |"
            )


def print_shapes(depths: list[int]) -> None:
    """Print the values of the kernels at four angles, and their rates at the diagonal."""
    print("\n| kernel | c | θ = 45° | 90° | 135° | 180° |\n|---|---|---|---|---|---|")
    for title, rule in rules().items():
        for depth in depths:
            found = nf.spectrum.shape(rule(depth))
            values = " | ".join(f"{value:.4f}" for value in found.values)
            print(f"| {title}, L = {depth} | {found.rate:.4f} | {values} |")


def rules() -> dict[str, Callable[[int], nf.Kernel]]:
    """Return how alpha follows the depth."""
    return {
        "α = 1": lambda depth: nf.ResNet(depth, alpha=1.0).ntk,
        "α = 1/√L": lambda depth: nf.ResNet(depth, alpha=depth**-0.5).ntk,
        "α = 1/L": lambda depth: nf.ResNet(depth, alpha=1.0 / depth).ntk,
    }


def draw(depths: list[int], out: str) -> None:
    """Draw the spectra and, for each rule, the profiles by depth."""
    figure = figure_of(15.0, 4.2)
    left, *panels = figure.subplots(1, 4)
    dress(left, f"Spectra, d = {DIM}")
    for (name, kernel), shade in zip(kernels().items(), shades(4), strict=True):
        spectrum = nf.spectrum.mercer(kernel, DIM, DEGREES)
        left.loglog(
            spectrum.degrees[2:],
            spectrum.eigenvalues[2:] / spectrum.trace,
            color=shade,
            label=name,
        )
    left.set_xlabel("degree k", color=INK)
    left.set_ylabel("eigenvalue μ / k(1)", color=INK)
    left.set_ylim(bottom=1e-13)  # room for the names
    legend(left, "lower left")
    degrees = np.linspace(0, 180, 721)
    for panel, (title, rule) in zip(panels, rules().items(), strict=True):
        dress(panel, f"ResNTK, {title}")
        for depth, shade in zip(depths, shades(len(depths)), strict=True):
            kernel = rule(depth)
            values = kernel.profile(np.cos(np.deg2rad(degrees))) / kernel.profile(1.0)
            panel.plot(degrees, values, color=shade, label=f"L = {depth}")
        panel.set_xticks(range(0, 181, 45), [f"{angle}°" for angle in range(0, 181, 45)])
        panel.set_ylim(-0.1, 1.04)
        panel.set_xlabel("angle θ", color=INK)
    panels[0].set_ylabel("k(θ) / k(0)", color=INK)
    legend(panels[0], "upper right")
    nf.plot.save(figure, out)


def main() -> None:
    """Print both tables and draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", default="belfer.png", help="the picture (default: belfer.png)")
    parser.add_argument("--depths", type=int, nargs="+", default=[1, 10, 100, 1000])
    arguments = parser.parse_args()
    print_decays()
    print_shapes(arguments.depths)
    draw(arguments.depths, arguments.out)
    print(f"\npicture: {arguments.out}")


if __name__ == "__main__":
    main()
