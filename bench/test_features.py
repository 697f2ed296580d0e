"""Feature maps: their transforms over one plain matrix product, and the released algorithms.

Those of Han et al. (2021) are written anew in plain NumPy (`released.py`), so that the ratio
compares algorithms, not two libraries. Errors: `features.py`, `released.py`, `published.py`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="the released algorithms are estimators of scikit-learn")
import features
import released
from ntkfast.features import ArcCosineFeatures
from race import Race, Size

DEPTH, GOAL = 3, 5.0
MAPS = tuple(features.methods(DEPTH, 16))
ARC_COSINE = [
    (order, weights, d)
    for d in (64, 512, 2048)
    for order, weights in ((0, "orthogonal"), (1, "orthogonal"), (1, "structured"))
]
RELEASED = tuple(name for name, *_ in released.pairs(1, 16))


def over_product(race: Race, map_: Any, row: dict[str, Any], rows: int, d: int) -> None:
    """Time `transform` against X @ W; Gram-based maps are fitted to few rows."""
    generator = np.random.default_rng(0)
    X = generator.normal(size=(rows, d)).astype(np.float32)
    fitted = map_.set_params(random_state=0).fit(X[:2000])
    W = generator.normal(size=(d, map_.n_components)).astype(np.float32)
    call, product = partial(fitted.transform, X), partial(np.matmul, X, W)
    race(call, "features", row, "transform", against={"X @ W": product})


@pytest.mark.parametrize("name", MAPS)
def test_maps(race: Race, size: Size, name: str) -> None:
    """All maps of the NTK of depth 3: 20,000 rows of 64 columns to 1024 features."""
    m = size(64, 1024)
    row = {"columns": 64, "map": name, "features": m}
    over_product(race, features.methods(DEPTH, m)[name], row, size(200, 20_000), 64)


@pytest.mark.parametrize(("order", "weights", "d"), ARC_COSINE)
def test_arc_cosine(race: Race, size: Size, order: int, weights: str, d: int) -> None:
    """Arc-cosine features, 2048 of them."""
    m = size(64, 2048)
    map_ = ArcCosineFeatures(order, n_components=m, weights=weights)
    row = {"columns": d, "map": f"ArcCosine {order}, {weights}", "features": m}
    over_product(race, map_, row, size(200, 20_000 if d == 64 else 4000), d)


def seconds(work: Callable[[], object]) -> float:
    """Time one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


@pytest.mark.parametrize("name", RELEASED)
@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_released(race: Race, size: Size, dtype: str, depth: int, name: str) -> None:
    """The released algorithms over ours: transforms of 4,000 rows of 100 columns, and one fit."""
    X = np.random.default_rng(0).normal(size=(size(100, 4000), 100)).astype(dtype)
    maps = {key: both for key, *both in released.pairs(depth, size(64, 2048))}
    theirs, own = maps[name]
    own.set_params(random_state=0)
    own.fit(X).transform(X[:100])  # compiles, and loads the caches
    facts = {
        "released fit, ms": 1e3 * seconds(partial(theirs.fit, X)),
        "ours fit, ms": 1e3 * seconds(partial(own.fit, X)),
    }
    race(
        partial(theirs.transform, X),
        "released",
        {"dtype": dtype, "depth": depth, "method": name},
        "released",
        against={"ours": partial(own.transform, X)},
        facts=facts,
        at_least={} if name == "GradRF" else {"released / ours": GOAL},
    )
