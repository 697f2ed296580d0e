"""Which signals of composed networks are Gaussian: what is refused, and wide finite networks."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any

import numpy as np
import pytest

import ntkfast as nf

D, R, C, S, POOL = nf.Dense, nf.Residual, nf.Conv, nf.Skip, nf.AvgPool

REFUSED = {
    "twice": (
        lambda: nf.compose(D(2**0.5), "relu", "relu", D()),
        "elements: .* before relu, .* of r",
    ),
    "erf-of-erf": (
        lambda: nf.compose(D(), "erf", "erf", D()),
        "elements: .* Dense before erf, .* of erf",
    ),
    "callable": (lambda: nf.compose(D(), np.tanh, "sin"), "elements: .* Dense before sin, got"),
    "first": (lambda: nf.compose("relu", D()), "before relu, .* inputs of the network"),
    "linear-first": (
        lambda: nf.compose("identity", "relu"),
        "before relu, .* inputs of the network",
    ),
    "in-branch": (
        lambda: nf.compose(D(), "relu", R("erf", D()), D()),
        "before erf, .* output of relu",
    ),
    "after-sum": (
        lambda: nf.compose(D(), "relu", R(D(), "relu", D()), "abs"),
        "before abs, .* of relu",
    ),
    "branch-of-activation": (
        lambda: nf.compose(D(), R(D(), "relu"), "relu"),
        "before relu, .* of relu",
    ),
    "correlated": (lambda: nf.compose(D(), R("relu"), D()), "on each way through a branch"),
    "doubled": (lambda: nf.compose(D(), R("identity"), D()), "on each way through a branch"),
    "nested": (lambda: nf.compose(D(), R(R(D())), D()), "on each way through a branch"),
    "means": (lambda: nf.compose(D(), "relu", R(D(), "relu"), D()), "at the end of Residual"),
    "inputs": (lambda: nf.compose(R(D(), "relu", D()), D()), "Dense before the first Residual"),
    "images": (
        lambda: nf.ConvNet(C(), "relu", "relu"),
        "steps: .* Conv before relu, .* output of relu",
    ),
    "pool": (
        lambda: nf.ConvNet(C(), "relu", POOL(), "relu"),
        "Conv before relu, .* output of relu",
    ),
    "skip": (
        lambda: nf.ConvNet(C(), "relu", S("relu", C())),
        "Conv before relu, .* output of relu",
    ),
    "skip-correlated": (
        lambda: nf.ConvNet(C(), S("relu"), C()),
        "Conv on each way through a branch",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    make, message = REFUSED[name]
    with pytest.raises(ValueError, match=message):
        make()


ACCEPTED = {
    "identity": ["identity", D(1.2), "identity", "relu", "identity", D()],
    "sum-of-gaussians": [D(), R("relu", D(1.5)), R(D(0.7)), "erf", D()],
    "sum-with-an-activation": [D(), "relu", R(D(), "relu", D(0.8)), R(D()), D(), "relu"],
    "branch-of-activation": [D(), R(D(1.5), "relu"), D(1.2), "relu", D()],
    "nested": [D(), R(D(), "relu", R(D(), "erf", D()), D()), R(D(), R(D(0.5))), "relu", D()],
    "last": [D(), R(D(), "relu")],
}


Back = Callable[[np.ndarray], np.ndarray]
WIDTH, OUTPUTS = 512, 16


def forward(
    elements: Any, h: np.ndarray, g: np.random.Generator, ntk: list[np.ndarray]
) -> tuple[np.ndarray, Back]:
    """Return the signals of a random network, and how derivatives by them come back."""
    backs: list[Back] = []
    for part in elements:
        if isinstance(part, D):
            h, back = dense(part, h, g, ntk)
        elif isinstance(part, R):
            branch, inner = forward(part.branch, h, g, ntk)
            h, back = h + branch, lambda b, inner=inner: b + inner(b)
        else:
            slope = part.derivative(h)
            h, back = part(h), lambda b, slope=slope: b * slope
        backs.append(back)
    return h, lambda b: reduce(lambda b, back: back(b), backs[::-1], b)


def dense(
    part: nf.Dense, h: np.ndarray, g: np.random.Generator, ntk: list[np.ndarray]
) -> tuple[np.ndarray, Back]:
    """Return the same for one layer, which adds its derivatives to the NTK."""
    scale = part.w_std / h.shape[1] ** 0.5
    W = g.normal(size=(h.shape[1], WIDTH))

    def back(b: np.ndarray) -> np.ndarray:
        ntk.append(scale**2 * (h @ h.T) * np.einsum("oiw,ojw->ij", b, b) / OUTPUTS)
        return scale * b @ W.T

    return scale * h @ W, back


@pytest.mark.slow
@pytest.mark.parametrize("name", ACCEPTED)
def test_accepted(name: str) -> None:
    """Kernels of wide networks: five standard errors, and what the width takes."""
    g, draws = np.random.default_rng(1), 40
    X = np.random.default_rng(0).normal(size=(3, 20))
    X[1] = 0.8 * X[0] + 0.3 * X[1]
    net, found = nf.compose(*ACCEPTED[name]), []
    for _ in range(draws):
        ntk: list[np.ndarray] = []
        h, back = forward(net.elements, X, g, ntk)
        back(np.eye(OUTPUTS, WIDTH)[:, None].repeat(3, axis=1))  # (outputs, inputs, width)
        found.append([h @ h.T / WIDTH, np.sum(ntk, axis=0)])
    mean, error = np.mean(found, axis=0), np.std(found, axis=0) / draws**0.5
    for wanted, got, bar in zip(net.both(X), mean, error, strict=True):
        assert np.all(np.abs(got - wanted) <= 5 * bar + 0.01 * wanted.max())
        assert np.all(bar <= 0.05 * wanted.max())
