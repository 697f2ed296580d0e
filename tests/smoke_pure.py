"""A short check of the pure wheel: no compiled module, right values from the Numba engine.

Run as ``python smoke_pure.py DIRECTORY`` with DIRECTORY, where the wheel was unpacked, first on the
module path. It is no test module, because the tests run on the installation with the native engine.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np

import ntkfast as nf


def main(directory: str) -> None:
    """Check the installation in a directory."""
    assert nf.__file__ is not None
    assert Path(directory).resolve() in Path(nf.__file__).resolve().parents
    assert importlib.util.find_spec("ntkfast._core") is None
    nf.show_config()

    rng = np.random.default_rng(0)
    X, Y = rng.standard_normal((70, 5)), rng.standard_normal((60, 5))
    V = rng.standard_normal((60, 3))
    norms = np.outer(np.linalg.norm(X, axis=1), np.linalg.norm(Y, axis=1))
    u = X @ Y.T / norms
    theta = np.arccos(u)
    nngp = norms * (np.sin(theta) + (np.pi - theta) * u) / np.pi
    ntk = nngp + norms * u * (1 - theta / np.pi)

    kernel = nf.FullyConnected(1).ntk
    np.testing.assert_allclose(kernel(X, Y), ntk, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(kernel.network.both(X, Y)[0], nngp, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(kernel.matmul(X, Y, V), ntk @ V, rtol=1e-11, atol=1e-11)
    np.testing.assert_allclose(np.diag(kernel(X)), 2 * (X**2).sum(1), rtol=1e-14)
    single = kernel(X.astype(np.float32), Y.astype(np.float32))
    np.testing.assert_allclose(single, ntk, rtol=2e-5, atol=2e-5)
    biased = nf.FullyConnected(2, parameterization="ntk", w_std=1.5, b_std=0.1).ntk(X)
    assert np.linalg.eigvalsh(biased).min() > 0
    try:
        kernel(X, engine="native")
    except Exception as error:
        print(f"engine='native' is refused: {error}")
    else:
        raise AssertionError("engine='native' did not fail")
    print("pure wheel: all right")


if __name__ == "__main__":
    main(sys.argv[1])
