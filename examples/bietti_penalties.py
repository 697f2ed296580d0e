"""Robust accuracy with and without penalties of the RKHS norm, on handwritten digits.

    python examples/bietti_penalties.py [--out bietti_penalties.png] [--epochs 100]

After Bietti, Mialon, Chen and Mairal (arXiv:1810.00363), who train convolutional networks on a few
images of CIFAR-10 and MNIST: here a small network on 300 digits of 8 x 8 pixels from 0 to 1. Bars
are accuracies on 1,000 other digits, clean and under attacks of projected gradient ascent on the
loss within Euclidean balls. It needs torch.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import torch

from ntkfast.datasets import load_digits
from ntkfast.statistics import penalties

RADII = (0.0, 0.5, 1.0, 1.5)
COLOURS = ("0.5", "#0072B2", "#E69F00", "#009E73", "#CC79A7")
Penalty = Callable[[Any, Any], Any]
METHODS: dict[str, tuple[Penalty | None, float | None]] = {
    "none": (None, None),
    "gradient": (lambda model, X: 0.02 * penalties.gradient(model, X), None),
    "perturbation": (lambda model, X: 0.02 * penalties.perturbation(model, X, radius=0.5), None),
    "spectral norms": (lambda model, X: 0.01 * penalties.spectral(model), None),
    "gradient, norms below 1.5": (lambda model, X: 0.02 * penalties.gradient(model, X), 1.5),
}


def train(penalty: Penalty | None, tau: float | None, X: Any, y: Any, epochs: int) -> Any:
    """Return a network trained on the cross-entropy and a penalty."""
    torch.manual_seed(0)
    layers = [torch.nn.Linear(64, 128), torch.nn.ReLU(), torch.nn.Linear(128, 128)]
    model = torch.nn.Sequential(*layers, torch.nn.ReLU(), torch.nn.Linear(128, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    for _ in range(epochs):
        for part in torch.randperm(len(X)).split(75):
            loss = torch.nn.functional.cross_entropy(model(X[part]), y[part])
            if penalty is not None:
                loss = loss + penalty(model, X[part])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if tau is not None:
                penalties.project(model, tau)
    return model


def attacked(model: Any, X: Any, y: Any, radius: float, steps: int = 20) -> float:
    """Return the accuracy under perturbations of at most this norm."""
    moved = X.clone()
    for _ in range(steps if radius else 0):
        moved.requires_grad_(True)
        loss = torch.nn.functional.cross_entropy(model(moved), y, reduction="sum")
        (slope,) = torch.autograd.grad(loss, moved)
        slope = slope / slope.norm(dim=1, keepdim=True).clamp(min=1e-12)
        offset = moved.detach() - X + 2.5 * radius / steps * slope
        moved = X + offset * (radius / offset.norm(dim=1, keepdim=True)).clamp(max=1)
    return float((model(moved).argmax(1) == y).float().mean())


def main() -> None:
    """Train five networks, print a table and draw it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", default="bietti_penalties.png")
    parser.add_argument("--epochs", type=int, default=20)
    options = parser.parse_args()
    images, labels = load_digits()
    order = np.random.default_rng(0).permutation(len(images))[:1300]
    X = torch.from_numpy((images[order] / 16).astype(np.float32))
    y = torch.from_numpy(labels[order])
    figure, axes = plt.subplots(figsize=(7.5, 4))
    for place, (name, (penalty, tau)) in enumerate(METHODS.items()):
        model = train(penalty, tau, X[:300], y[:300], options.epochs)
        rates = [attacked(model, X[300:], y[300:], radius) for radius in RADII]
        print(f"{name:28s}", *(f"{r:g}: {a:.3f}" for r, a in zip(RADII, rates, strict=True)))
        at = np.arange(len(RADII)) + 0.16 * (place - 2)
        axes.bar(at, rates, 0.15, color=COLOURS[place], label=name)
    axes.set_xticks(range(len(RADII)), [f"{r:g}" for r in RADII])
    axes.set_xlabel("norm of perturbations")
    axes.set_ylabel("accuracy")
    axes.legend(frameon=False, fontsize=8)
    figure.tight_layout()
    figure.savefig(options.out, dpi=150)
    print(f"wrote {options.out}")


if __name__ == "__main__":
    main()
