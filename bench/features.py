"""Errors and times of all feature maps at one size, beside one plain matrix product.

    python bench/features.py errors
    python bench/features.py times
    python bench/features.py errors times --json features.json

Errors are means over seeds on 1,797 rows: relative Frobenius and spectral norms of F F^T - K, and
the eps of (1 - eps)(K + l) <= F F^T + l <= (1 + eps)(K + l) with l = trace(K) / 1000. Times are
medians of `transform` on 20,000 rows in float32, and their ratio to X @ W with W of d by
n_components, measured in turn with it.
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
from ntkfast.command.bench import limited, measure
from ntkfast.datasets import load_digits
from ntkfast.features import (
    ArcCosineFeatures,
    DualActivationFeatures,
    GegenbauerFeatures,
    GradientFeatures,
    NTKRandomFeatures,
    NTKSketch,
    NystromFeatures,
    error,
)

ROWS, TIMED_ROWS, REPEATS = 1797, 20_000, 5
ARC_COSINE_DIMS = (64, 512, 2048)


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


def times(args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield a row per map; Gram-based maps are fitted to few rows, random ones do not care."""
    m = args.components
    cases = [(64, name, map_) for name, map_ in methods(args.depth, m).items()]
    for d in ARC_COSINE_DIMS:
        for order, weights in ((0, "orthogonal"), (1, "orthogonal"), (1, "structured")):
            map_ = ArcCosineFeatures(order, n_components=2048, weights=weights)
            cases.append((d, f"ArcCosine {order}, {weights}", map_))
    for d, name, map_ in cases:
        generator = np.random.default_rng(0)
        rows = TIMED_ROWS if d == 64 else 4000
        X = generator.normal(size=(rows, d)).astype(np.float32)
        fitted = map_.set_params(random_state=0).fit(X[:2000])
        fitted.transform(X[:100])  # compiles, and loads the caches
        W = generator.normal(size=(d, map_.n_components)).astype(np.float32)
        found = measure(
            {"own": lambda f=fitted, X=X: f.transform(X), "product": lambda X=X, W=W: X @ W},
            repeats=REPEATS,
        )
        yield {
            "d": d,
            "method": name,
            "rows": rows,
            "n_components": map_.n_components,
            "seconds": found["own"].median,
            "over_matrix_product": found["own"].ratio(found["product"]),
        }


def show(rows: Iterator[dict[str, Any]]) -> list[dict[str, Any]]:
    """Print rows as they come."""
    kept = []
    for row in rows:
        if not kept:
            print("  ".join(f"{key:>12}" for key in row))
        cells = (f"{v:12.4g}" if isinstance(v, float) else f"{v!s:>12}" for v in row.values())
        print("  ".join(cells), flush=True)
        kept.append(row)
    return kept


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("tables", nargs="+", choices=("errors", "times"))
    parser.add_argument("--depth", type=int, default=3)
    parser.add_argument("--components", type=int, default=512)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--data", nargs="+", default=["digits", "centred", "uniform"])
    parser.add_argument("--threads", type=int, help="for all; default: all cores")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    with limited(args.threads):
        found = {name: show({"errors": errors, "times": times}[name](args)) for name in args.tables}
    if args.json:
        args.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
