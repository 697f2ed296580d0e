"""The Walsh-Hadamard transform against a copy of the same array, and its peers.

A transform that is as fast as the memory reads an array once and writes it once; so does the copy.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import hadamard

from ntkfast.features import fwht
from race import Call, Race, Size, Times

SHORT = 1024  # entries of a row up to which NumPy is timed
LONG = 4096  # entries of a row from which on pyfwht, which takes single rows, is timed
GOAL, LARGEST = 2.0, 10  # times the copy, up to this power


def numpy_stages(X: np.ndarray, out: np.ndarray) -> None:
    """Transform with NumPy: one pass over memory for each stage."""
    np.copyto(out, X)
    h = 1
    while h < X.shape[1]:
        blocks = out.reshape(len(X), -1, 2, h)
        a, b = blocks[:, :, 0], blocks[:, :, 1]
        difference = a - b
        a += b
        b[...] = difference
        h *= 2


def contender(name: str, X: np.ndarray, out: np.ndarray, threads: int) -> Call:
    """Return the call of one contender, or skip it."""
    width = X.shape[1]
    if name == "into out":
        return lambda: fwht(X, out=out)
    if name == "in place":
        return lambda: fwht(out, out=out, normalize=True)
    if name in ("NumPy stages", "X @ H"):
        if width > SHORT:
            pytest.skip(f"NumPy is timed on rows of up to {SHORT} entries")
        if name == "NumPy stages":
            return lambda: numpy_stages(X, out)
        H = hadamard(width, dtype=X.dtype)
        return lambda: np.matmul(X, H, out=out)
    if name.startswith("fht-cpu"):
        fht = pytest.importorskip("fht_cpu").fht
        if name == "fht-cpu":
            return lambda: fht(X, out=out, num_threads=threads)
        return lambda: fht(out, num_threads=threads)
    pyfwht = pytest.importorskip("pyfwht")
    if X.dtype != np.float64 or width < LONG:
        pytest.skip(f"pyfwht takes single rows of float64; timed from {LONG} entries on")
    return lambda: [pyfwht.transform(row, backend=pyfwht.Backend.CPU) for row in out]


PEERS = ("NumPy stages", "X @ H", "fht-cpu", "fht-cpu in place", "pyfwht in place")


@pytest.mark.parametrize("name", ["into out", "in place", *PEERS])
@pytest.mark.parametrize("power", [1, 3, 4, 6, 8, 10, 12, 16, 20])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_hadamard(race: Race, size: Size, threads: int, dtype: str, power: int, name: str) -> None:
    """Every way to the same numbers, on 64 MB of rows of 2^power entries."""
    power = size(min(power, LARGEST), power)
    width = 1 << power
    n = max(1, size(2**14, 64 * 2**20) // (width * np.dtype(dtype).itemsize))
    X = np.random.default_rng(power).standard_normal((n, width), dtype)
    out = X.copy()
    call = contender(name, X, out, threads)
    call()
    scale = width**-0.5 if name == "in place" else 1
    tolerance = 1e-3 * width**0.5
    np.testing.assert_allclose(out[:1], scale * fwht(X[:1]), rtol=1e-3, atol=tolerance)

    def facts(times: Times) -> dict[str, float]:
        return {"copy, GB/s": 2e-9 * X.nbytes / times["copy"].median}

    race(
        call,
        "hadamard",
        {"dtype": dtype, "power": power},
        name,
        against={"copy": lambda: np.copyto(out, X)},  # and transforms in place cannot overflow
        facts=facts,
        at_most={"into out / copy": GOAL} if (name, power <= LARGEST) == ("into out", True) else {},
    )
