"""Errors of all feature maps at one size: `python bench/features.py`.

Means over seeds on 1,797 rows: relative Frobenius and spectral norms of F F^T - K, and the eps of
(1 - eps)(K + l) <= F F^T + l <= (1 + eps)(K + l) with l = trace(K) / 1000. Times stand in
`bench/test_features.py`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import ntkfast as nf
from ntkfast.datasets import load_digits
from ntkfast.features import (
    DualActivationFeatures,
    GegenbauerFeatures,
    GradientFeatures,
    NTKRandomFeatures,
    NTKSketch,
    NystromFeatures,
    error,
)
from released import show

ROWS = 1797


def methods(depth: int, m: int) -> dict[str, Any]:
    """Return the maps for the NTK of a ReLU network."""
    k = nf.FullyConnected(depth).ntk
    return {
        "Nystrom, rpcholesky": NystromFeatures(k, m),
        "Nystrom, uniform": NystromFeatures(k, m, landmarks="uniform"),
        "DualActivation": DualActivationFeatures(k, m),
        "DualActivation, exact=-1": DualActivationFeatures(k, m, exact=-1),
        "NTKSketch, degree 4": NTKSketch(k, m, degree=4),
        "NTKSketch, degree 8": NTKSketch(k, m, degree=8),
        "NTKRandomFeatures": NTKRandomFeatures(depth=depth, n_components=m),
        "NTKRandomFeatures, gaussian": NTKRandomFeatures(
            depth=depth, n_components=m, weights="gaussian", leverage=False
        ),
        "Gegenbauer": GegenbauerFeatures(k, m),
        "Gradient": GradientFeatures(depth, n_components=m),
    }


def data(name: str) -> NDArray[np.float64]:
    """Return rows: digits, digits minus their mean, or uniform directions in 10 dimensions."""
    if name == "uniform":
        X = np.random.default_rng(0).normal(size=(ROWS, 10))
        return np.asarray(X / np.linalg.norm(X, axis=1)[:, None])
    X = load_digits()[0] / 16
    X = X - X.mean(axis=0) if name == "centred" else X
    return X[np.random.default_rng(0).permutation(len(X))[:ROWS]]


def errors(args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield a row per data set and map."""
    for name in args.data:
        X = data(name)
        for method, features in methods(args.depth, args.components).items():
            kernel = nf.FullyConnected(args.depth).ntk
            found = error(kernel, features, X, n_draws=args.seeds)
            yield {
                "data": name,
                "method": method,
                "frobenius": found.frobenius.mean,
                "spectral": found.spectral.mean,
                "ridge": found.whitened.mean,
                "n_features": found.n_features,
            }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--depth", type=int, default=3)
    parser.add_argument("--components", type=int, default=512)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--data", nargs="+", default=["digits", "centred", "uniform"])
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    found = show(errors(args))
    if args.json:
        args.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
