"""The algorithms of the code that Han et al. (2021) released, and their errors beside ours.

    python bench/released.py protocol
    python bench/released.py errors

Times stand in `bench/test_features.py`. They are written anew in plain NumPy from their
description: NTK random features (leverage-type directions by one Gibbs sweep,
products by TensorSRHT with complex FFTs, or by CountSketches), NTKSketch (one fitted polynomial, a
binary tree of complex TensorSRHT, an SRHT), and gradients of a finite network. `protocol` takes 40
unit points in 20 dimensions, 1024 directions of each kind, 2048 features; `errors` digits.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize, nnls
from scipy.special import ndtr
from sklearn.base import BaseEstimator

import ntkfast as nf
from ntkfast.datasets import load_digits

Array = NDArray[Any]
KNOTS = np.linspace(-9.0, 9.0, 1001)
SMALLEST_COEFFICIENT = 1e-5


def leverage_directions(d: int, m: int, generator: np.random.Generator) -> Array:
    """Draw (d, m) with columns of density |w|^2 exp(-|w|^2 / 2), by one Gibbs sweep.

    Given the others, a coordinate has distribution Phi(t) - t phi(t) / (1 + s), with s the sum of
    the other squares. It is inverted on a table of 1,001 knots; bisection finds the knot, which is
    kinder to the released algorithm than a scan of the table.
    """
    W = generator.normal(size=(d, m))
    normal, slope = ndtr(KNOTS), KNOTS * np.exp(-(KNOTS**2) / 2) / np.sqrt(2 * np.pi)
    total = (W**2).sum(axis=0)
    for i in range(d):
        others = np.maximum(total - W[i] ** 2, 0)
        wanted, scale = generator.random(m), 1 / (1 + others)
        low, high = np.zeros(m, int), np.full(m, len(KNOTS) - 1)
        while np.any(high - low > 1):
            middle = (low + high) // 2
            below = normal[middle] - slope[middle] * scale < wanted
            low, high = np.where(below, middle, low), np.where(below, high, middle)
        left, right = normal[low] - slope[low] * scale, normal[high] - slope[high] * scale
        share = np.clip((wanted - left) / np.maximum(right - left, 1e-300), 0, 1)
        W[i] = KNOTS[low] + share * (KNOTS[1] - KNOTS[0])
        total = others + W[i] ** 2
    return W


class TensorSRHT:
    """sqrt(1 / m) FFT(D1 x)[i1] * FFT(D2 y)[i2]: m complex numbers, E Re<., .> = (x.x') (y.y')."""

    def __init__(self, dims: tuple[int, int], m: int, generator: np.random.Generator) -> None:
        self.signs = [generator.choice([-1.0, 1.0], size=d) for d in dims]
        self.rows = [generator.integers(d, size=m) for d in dims]
        self.scale = 1 / np.sqrt(m)

    def __call__(self, x: Array, y: Array) -> Array:
        """Sketch the products of the rows of two matrices."""
        left, right = (
            np.fft.fft(z * signs.astype(z.real.dtype), axis=1)[:, rows]
            for z, signs, rows in zip((x, y), self.signs, self.rows, strict=True)
        )
        return left * right * left.real.dtype.type(self.scale)


class TensorCountSketch:
    """ifft(fft(CS1 x) * fft(CS2 y)): m real numbers."""

    def __init__(self, dims: tuple[int, int], m: int, generator: np.random.Generator) -> None:
        self.signs = [generator.choice([-1.0, 1.0], size=d) for d in dims]
        self.places = [generator.integers(m, size=d) for d in dims]
        self.m = m

    def __call__(self, x: Array, y: Array) -> Array:
        """Sketch the products of the rows of two matrices."""
        spectra = []
        for z, signs, places in zip((x, y), self.signs, self.places, strict=True):
            counts = np.zeros((self.m, len(z)), z.dtype)
            np.add.at(counts, places, (z * signs.astype(z.dtype)).T)
            spectra.append(np.fft.fft(counts.T, axis=1))
        return np.fft.ifft(spectra[0] * spectra[1], axis=1).real


def stacked(Z: Array) -> Array:
    """Return real and imaginary parts beside each other: inner products become Re<., .>."""
    return np.concatenate([Z.real, Z.imag], axis=1)


class Released(BaseEstimator):  # type: ignore[misc]
    """What a pipeline wants to know of every map."""

    def get_feature_names_out(self, input_features: None = None) -> Array:
        """Name the features."""
        return np.arange(self.transform(np.zeros((1, self.n_features_in_))).shape[1]).astype(str)


class ReleasedRandomFeatures(Released):
    """NTK random features: per layer A1, A0 and a sketch of psi (x) A0, n_components / 2 each."""

    def __init__(
        self,
        depth: int = 1,
        n_components: int = 2048,
        leverage: bool = True,
        sketch: str = "srht",
        random_state: int = 0,
    ) -> None:
        self.depth, self.n_components, self.leverage = depth, n_components, leverage
        self.sketch, self.random_state = sketch, random_state

    def fit(self, X: Array, y: None = None) -> ReleasedRandomFeatures:
        """Draw directions and sketches."""
        generator, self.n_features_in_ = np.random.default_rng(self.random_state), X.shape[1]
        m, phi, psi = self.n_components // 2, X.shape[1], X.shape[1]
        self.layers_ = []
        for _ in range(self.depth):
            step = generator.normal(size=(phi, m)).astype(X.dtype)
            if self.leverage:
                W = leverage_directions(phi, m, generator)
                W *= np.sqrt(2 * phi / m) / np.linalg.norm(W, axis=0)
            else:
                W = generator.normal(size=(phi, m)) * np.sqrt(2 / m)
            product: Any
            if self.sketch == "srht":
                product = TensorSRHT((psi, m), m // 2, generator)
            else:
                product = TensorCountSketch((psi, m), m, generator)
            self.layers_.append((step, W.astype(X.dtype), product))
            phi, psi = m, 2 * m
        return self

    def transform(self, X: Array) -> Array:
        """Compute the features of rows."""
        phi = psi = X
        for step, W, product in self.layers_:
            a0 = (phi @ step > 0) * X.dtype.type(np.sqrt(2 / step.shape[1]))
            phi = np.maximum(phi @ W, 0)
            sketched = product(psi, a0)
            if np.iscomplexobj(sketched):
                sketched = stacked(sketched)
            psi = np.concatenate([phi, sketched], axis=1)
        return psi


def fitted_polynomial(depth: int, degree: int) -> Array:
    """Fit the NTK on the unit sphere: least squares with coefficients >= 0 and a monotone fit.

    201 uniform points and 15 depth + 5 degree more with weights rising from 2 / depth to
    1 + 2 / depth. Where the additional points lie was not found out: here in [0.9, 1].
    """
    u = np.sort(np.r_[np.linspace(-1, 1, 201), np.linspace(0.9, 1, 15 * depth + 5 * degree)])
    weights = np.linspace(0, 1, len(u)) + 2 / depth
    powers = np.arange(degree + 1)
    A = weights[:, None] * u[:, None] ** powers
    b = weights * nf.FullyConnected(depth).ntk.profile(u)
    rising = powers[1:] * u[:, None] ** powers[:-1]
    found = minimize(
        lambda c: 0.5 * np.sum((A @ c - b) ** 2),
        nnls(A, b)[0],
        jac=lambda c: A.T @ (A @ c - b),
        bounds=[(0, None)] * (degree + 1),
        constraints={
            "type": "ineq",
            "fun": lambda c: rising @ c[1:],
            "jac": lambda c: np.c_[np.zeros(len(u)), rising],
        },
        method="SLSQP",
    )
    c = np.asarray(found.x)
    return np.where(c < SMALLEST_COEFFICIENT, 0, c)


class ReleasedNTKSketch(Released):
    """NTKSketch: powers by a tree of complex TensorSRHT, and an SRHT of all; one feature less."""

    def __init__(
        self, depth: int = 1, n_components: int = 2048, degree: int = 8, random_state: int = 0
    ) -> None:
        self.depth, self.n_components = depth, n_components
        self.degree, self.random_state = degree, random_state

    def fit(self, X: Array, y: None = None) -> ReleasedNTKSketch:
        """Fit the polynomial and draw the tree."""
        generator, self.n_features_in_ = np.random.default_rng(self.random_state), X.shape[1]
        self.coefficients_ = fitted_polynomial(self.depth, self.degree)
        size, count, inner = X.shape[1], self.degree // 2, self.n_components // 4
        self.levels_ = []
        while count:
            level = [TensorSRHT((size, size), inner, generator) for _ in range(count)]
            self.levels_.append(level)
            size, count = inner, count // 2
        self.kept_ = np.flatnonzero(self.coefficients_[1:]) + 1
        length = inner * len(self.kept_)
        self.signs_ = generator.choice([-1.0, 1.0], size=length)
        self.places_ = generator.integers(length, size=self.n_components // 2 - 1)
        return self

    def _powers(self, X: Array) -> dict[int, Array]:
        """Sketch x^j e^(degree - j) for all j: leaves become e one by one, paths are redone."""
        unit = np.zeros((1, X.shape[1]), X.dtype)
        unit[0, 0] = 1
        nodes = [[X] * self.degree]
        for level in self.levels_:
            below = nodes[-1]
            nodes.append([node(*below[2 * i : 2 * i + 2]) for i, node in enumerate(level)])
        powers = {self.degree: nodes[-1][0]}
        for leaf in range(self.degree - 1, 0, -1):
            nodes[0][leaf], i = unit, leaf
            for k, level in enumerate(self.levels_):
                i //= 2
                nodes[k + 1][i] = level[i](*nodes[k][2 * i : 2 * i + 2])
            powers[leaf] = nodes[-1][0]
        return powers

    def transform(self, X: Array) -> Array:
        """Compute the features of rows."""
        norms = np.linalg.norm(X, axis=1)[:, None]
        powers = self._powers(X / np.where(norms > 0, norms, 1))
        c = np.sqrt(self.coefficients_).astype(X.dtype)
        joined = np.concatenate([c[j] * powers[j] for j in self.kept_], axis=1)
        mixed = np.fft.fft(joined * self.signs_.astype(X.dtype), axis=1)[:, self.places_]
        mixed *= X.dtype.type(1 / np.sqrt(len(self.places_)))
        constant = np.full((len(X), 1), c[0])
        return np.concatenate([stacked(mixed), constant], axis=1) * norms


class ReleasedGradients(Released):
    """GradRF: the gradient of a random ReLU network, the widest with n_components parameters."""

    def __init__(self, depth: int = 1, n_components: int = 2048, random_state: int = 0) -> None:
        self.depth, self.n_components, self.random_state = depth, n_components, random_state

    def fit(self, X: Array, y: None = None) -> ReleasedGradients:
        """Draw the network."""
        generator, width = np.random.default_rng(self.random_state), 1
        self.n_features_in_ = X.shape[1]
        while self._parameters(X.shape[1], width + 1) <= self.n_components:
            width += 1
        sizes = [X.shape[1], *[width] * self.depth]
        pairs = zip(sizes[1:], sizes[:-1], strict=True)
        self.weights_ = [generator.normal(size=pair).astype(X.dtype) for pair in pairs]
        self.readout_ = generator.normal(size=width).astype(X.dtype)
        return self

    def _parameters(self, d: int, width: int) -> int:
        return width * (d + 1) + (self.depth - 1) * width**2

    def transform(self, X: Array) -> Array:
        """Compute the gradients of rows, forwards and back."""
        scale = X.dtype.type(np.sqrt(2 / len(self.readout_)))
        hidden, open_ = [X], []
        for W in self.weights_:
            before = hidden[-1] @ W.T
            open_.append(scale * (before > 0))
            hidden.append(scale * np.maximum(before, 0))
        parts, back = [hidden[-1]], np.broadcast_to(self.readout_, hidden[-1].shape)
        for W, gate, h in zip(self.weights_[::-1], open_[::-1], hidden[-2::-1], strict=True):
            back = back * gate
            parts.append((back[:, :, None] * h[:, None, :]).reshape(len(X), -1))
            back = back @ W
        return np.concatenate(parts, axis=1)


def pairs(depth: int, m: int) -> Iterator[tuple[str, Any, Any]]:
    """Yield name, released and own map for one depth and size."""
    kernel, own = nf.FullyConnected(depth).ntk, nf.features
    random = own.NTKRandomFeatures(depth=depth, n_components=m, hidden=m // 2)
    yield "NTKRF", ReleasedRandomFeatures(depth, m), random
    yield "NTKRF, plain", ReleasedRandomFeatures(depth, m, leverage=False), random
    yield "NTKRF, CountSketch", ReleasedRandomFeatures(depth, m, sketch="count"), random
    for degree in (4, 8):
        sketch = own.NTKSketch(kernel, m, degree=degree)
        yield f"NTKSketch {degree}", ReleasedNTKSketch(depth, m, degree), sketch
        thin = own.NTKSketch(kernel, m, degree=degree, inner=m // 8)
        yield f"NTKSketch {degree}, inner m/8", ReleasedNTKSketch(depth, m, degree), thin
    gradients = own.GradientFeatures(depth, n_components=m)
    yield "GradRF", ReleasedGradients(depth, m), gradients


def compared(X: Array, args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield the errors of both per depth and method."""
    for depth in args.depths:
        kernel = nf.FullyConnected(depth).ntk
        for name, released, own in pairs(depth, args.components):
            theirs, ours = (
                nf.features.error(kernel, one, X, n_draws=args.seeds) for one in (released, own)
            )
            yield {
                "depth": depth,
                "method": name,
                "released": theirs.frobenius.mean,
                "half width": theirs.frobenius.high - theirs.frobenius.mean,
                "ours": ours.frobenius.mean,
                "half width ": ours.frobenius.high - ours.frobenius.mean,
                "spectral": theirs.spectral.mean,
                "ours ": ours.spectral.mean,
            }


def protocol(args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Compare on 40 unit points in 20 dimensions."""
    X = np.random.default_rng(0).normal(size=(40, 20))
    return compared(X / np.linalg.norm(X, axis=1)[:, None], args)


def errors(args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Compare on 800 digits."""
    X = load_digits()[0] / 16
    return compared(X[np.random.default_rng(0).permutation(len(X))[:800]], args)


def show(rows: Iterator[dict[str, Any]]) -> list[dict[str, Any]]:
    """Print rows as they come, as a table in Markdown."""
    kept: list[dict[str, Any]] = []
    for row in rows:
        if not kept:
            print("| " + " | ".join(key.strip() for key in row) + " |")
            print("|" + "---|" * len(row))
        cells = (f"{v:.3g}" if isinstance(v, float) else str(v) for v in row.values())
        print("| " + " | ".join(cells) + " |", flush=True)
        kept.append(row)
    return kept


def main() -> None:
    """Print the tables."""
    sections = {"protocol": protocol, "errors": errors}
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("sections", nargs="+", choices=tuple(sections))
    parser.add_argument("--depths", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--components", type=int, default=2048)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    found = {name: show(sections[name](args)) for name in args.sections}
    if args.json:
        args.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
