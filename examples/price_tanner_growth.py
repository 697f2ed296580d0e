"""Length of a curve from layer to layer, after Price and Tanner (arXiv:1911.10651).

    python examples/price_tanner_growth.py [--out price_tanner_growth.png] [--width 200]

A circle goes through random ReLU networks, dense and sparse, with Gaussian, uniform and discrete
weights. Weights that are not zero keep their law when others are dropped, as in the paper: their
deviation, or largest absolute value, is 2 over the root of the width. Points are measured lengths
over that of the circle, solid lines the growth (density Var(w) k / 2)^(1/2) per layer of wide
networks, dashed ones the lower bound for every width. Bars are deviations over the draws.
"""

from __future__ import annotations

import argparse

import numpy as np

from ntkfast.finite import MLP, Sparse, trajectory_growth
from ntkfast.plot.style import INK, dress, figure_of, legend, save, shades

DENSITIES = (1.0, 0.5, 0.2)
# Deviation of a weight over 2 / sqrt(width); a uniform one is at most that much.
LAWS = {"gaussian": 1.0, "uniform": 1 / np.sqrt(3), "sign": 1.0}


def main() -> None:
    """Draw a panel for each law of the weights."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", default="price_tanner_growth.png")
    parser.add_argument("--width", type=int, default=200)
    parser.add_argument("--depth", type=int, default=8)
    parser.add_argument("--draws", type=int, default=8)
    options = parser.parse_args()
    layers, width = np.arange(options.depth + 1), options.width
    directions = np.random.default_rng(0).normal(size=(2, width)) / np.sqrt(width)

    def circle(t: np.ndarray) -> np.ndarray:
        return np.stack([np.cos(2 * np.pi * t), np.sin(2 * np.pi * t)], axis=1) @ directions

    figure = figure_of(11.0, 4.4)
    panels = figure.subplots(1, 3, sharey=True)
    for axes, (law, deviation) in zip(panels, LAWS.items(), strict=True):
        dress(axes, law)
        for density, shade in zip(DENSITIES, shades(len(DENSITIES)), strict=True):
            net = MLP(
                (width, *[width] * options.depth, 1),
                init=Sparse(density, law),
                w_std=2 * deviation * np.sqrt(density),
            )
            found = trajectory_growth(net, circle, n_draws=options.draws, rtol=2e-3)
            relative = found.lengths / found.lengths[:, :1]
            mean, spread = relative.mean(axis=0), relative.std(axis=0, ddof=1)
            bars = np.minimum(spread, 0.9 * mean), spread
            axes.errorbar(
                layers, mean, bars, fmt="o", ms=4, capsize=2, color=shade,
                label=f"density {density:g}: {found.rate:.2f} per layer",
            )  # fmt: skip
            axes.plot(layers, found.typical**layers, color=shade, lw=1.0)
            axes.plot(layers, found.lower**layers, color=shade, lw=1.0, ls=(0, (4, 3)))
            print(
                f"{law:8s} density {density:4g}: rate {found.rate:.3f}, typical "
                f"{found.typical:.3f}, lower bound {found.lower:.3f}"
            )
        axes.set_yscale("log")
        axes.set_xlabel("layer", color=INK)
        legend(axes, "lower left")
    panels[0].set_ylim(1e-12)
    panels[0].set_ylabel("length over that of the circle", color=INK)
    save(figure, options.out)
    print(f"wrote {options.out}")


if __name__ == "__main__":
    main()
