"""Other packages over ntkfast in time, with the largest difference of values beside it.

`bench/requirements-peers.txt` says how to set them up; one that does not import is skipped.
100 columns; scikit-ntk takes its cheap call, k(X), and so do we beside it.
"""

from __future__ import annotations

import time
from functools import partial

import numpy as np
import pytest

import ntkfast as nf
from peers import PEERS, gaussian_rows, versions_of
from race import Race, Size

GOAL = {
    ("neural-tangents", "float32", 3): 20,
    ("neural-tangents", "float32", 10): 80,
    ("torch.compile", "float32", None): 4,
    ("torch.compile", "float64", None): 3,
}


@pytest.mark.parametrize("depth", [1, 3, 10])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", PEERS)
def test_peers(race: Race, size: Size, name: str, dtype: str, depth: int) -> None:
    """The Gram matrix of 5000 by 5000 rows by another package, over ours."""
    n = size(32, 5000)
    X, Y = (gaussian_rows(n, 100, dtype, seed=seed) for seed in (1, 2))
    build, packages = PEERS[name]
    start = time.perf_counter()
    try:
        their = build(X, Y, depth)
    except ImportError as error:
        pytest.skip(f"{name}: {error}")
    result = np.asarray(their())
    first = time.perf_counter() - start
    own = partial(nf.FullyConnected(depth).ntk, X, *([] if name == "scikit-ntk" else [Y]))
    columns = X if name == "scikit-ntk" else Y
    exact = nf.FullyConnected(depth).ntk(X[:4].astype(float), columns[4:8].astype(float))
    scale = depth + 1.0 if name == "scikit-ntk" else 1.0  # its kernel is the mean over the layers
    error = float(np.max(np.abs(scale * result[:4, 4:8] / exact - 1)))
    del result
    versions = versions_of(packages)
    goal = GOAL.get((name, dtype, depth)) or GOAL.get((name, dtype, None))
    race(
        their,
        "peers",
        {"peer": name, "dtype": dtype, "depth": depth},
        "peer",
        against={"ntkfast": own, "X @ Y.T": lambda: X @ columns.T},
        facts={
            "first call, s": first,
            "largest difference": error,
            "versions": " ".join(f"{package} {number}" for package, number in versions.items()),
        },
        at_least={"peer / ntkfast": goal} if goal else {},
    )
