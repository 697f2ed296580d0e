"""Spectra: Mercer eigenvalues beside quadrature, extreme eigenvalues of Gram matrices by method.

A peer computes the Mercer eigenvalues the usual way: Gauss-Jacobi nodes for the weight of the
sphere and the three-term recurrence. The fact beside it says to which degree it has three digits.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
from scipy import linalg
from scipy.special import roots_jacobi

import ntkfast as nf
from race import Race, Size, Times

NTK = nf.FullyConnected(3).ntk
KERNELS: dict[str, Callable[[], Any]] = {
    "FC-NTK, depth 3": lambda: nf.FullyConnected(3).ntk,
    "FC-NTK, depth 10": lambda: nf.FullyConnected(10).ntk,
    "FC-NTK, depth 100": lambda: nf.FullyConnected(100).ntk,
    "ResNTK, depth 10, alpha 0.1": lambda: nf.ResNet(10, alpha=0.1).ntk,
    "Laplace, c 1": lambda: nf.Laplace(1.0, inputs="sphere"),
}
DIRECT, EIGH = 20_000, 8_000  # rows up to which a matrix is formed, and LAPACK finds everything


def mercer(kernel: Any, dim: int, degree: int) -> Any:
    """Eigenvalues and their logarithms from scratch."""
    found = nf.spectrum.mercer(kernel, dim, degree)
    _ = found.eigenvalues, found.log_eigenvalues
    return found


def quadrature(kernel: Any, dim: int, degrees: int, nodes: int) -> np.ndarray:
    """Eigenvalues by Gauss-Jacobi quadrature in u."""
    power = (dim - 3) / 2
    u, weights = roots_jacobi(nodes, power, power)
    values = kernel.profile(u) * weights / weights.sum()
    before, p = np.ones_like(u), u
    found = [values.sum(), values @ p]
    for k in range(1, degrees - 1):
        before, p = p, ((2 * k + dim - 2) * u * p - k * before) / (k + dim - 2)
        found.append(values @ p)
    return np.array(found)


@pytest.mark.parametrize("degree", [10_000, 100_000])
@pytest.mark.parametrize("dim", [3, 10, 100])
@pytest.mark.parametrize("name", KERNELS)
def test_mercer(race: Race, size: Size, name: str, dim: int, degree: int) -> None:
    """Eigenvalues to a degree, with the error that they state and the sum rule."""
    call = partial(mercer, KERNELS[name](), dim, size(degree // 100, degree))
    facts = {}
    if degree == 10_000:
        found = call()
        facts = {"error estimate": float(found.error.max()), "sum rule": found.sum_rule_residual}
    race(call, "mercer", {"kernel": name, "dim": dim}, f"to {degree}", facts=facts)


@pytest.mark.parametrize("dim", [3, 10, 100])
@pytest.mark.parametrize("name", KERNELS)
def test_mercer_quadrature(race: Race, size: Size, name: str, dim: int) -> None:
    """The quadrature, and up to which degree it has three digits."""
    kernel, degrees = KERNELS[name](), size(20, 500)
    call = partial(quadrature, kernel, dim, degrees, size(50, 2000))
    exact = mercer(kernel, dim, size(100, 10_000)).eigenvalues[:degrees]
    with np.errstate(divide="ignore", invalid="ignore"):
        wrong = np.abs(call() / exact - 1) > 1e-3
    good = {"quadrature good to degree": int(np.argmax(wrong)) - 1 if wrong.any() else degrees}
    race(call, "mercer", {"kernel": name, "dim": dim}, "quadrature", facts=good)


def sphere(n: int, d: int, dtype: str) -> np.ndarray:
    """Return uniform points."""
    X = np.random.default_rng(0).normal(size=(n, d))
    return (X / np.linalg.norm(X, axis=1, keepdims=True)).astype(dtype)


def extremes(X: np.ndarray, method: str) -> Any:
    """Find the extreme eigenvalues by one method, or what a limit of iterations leaves."""
    if method == "eigh":
        return linalg.eigh(NTK(X.astype(np.float64)), overwrite_a=True)[0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # the table shows what was reached
        limit = 200 if len(X) <= DIRECT else 60
        return nf.spectrum.extremes(NTK, X, method=method, max_iterations=limit)


def facts_of(found: Any, method: str) -> dict[str, Any]:
    """Say how good an answer is."""
    import resource

    unit = 2**30 if sys.platform == "darwin" else 2**20
    gigabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
    facts = {
        "smallest": float(found.smallest[0]),
        "relative error": float(found.smallest_error[0] / found.smallest[0]),
        "iterations": found.iterations,
        "passes": found.passes,
        "GB of the process": gigabytes,
    }
    return {f"{method}: {name}": value for name, value in facts.items()}


@pytest.mark.skipif(sys.platform == "win32", reason="no peak of the resident memory is at hand")
@pytest.mark.parametrize("method", ["eigh", "cholesky", "iterative"])
@pytest.mark.parametrize("d", [3, 10])
@pytest.mark.parametrize(
    ("n", "dtype"),
    [
        (1000, "float64"),
        (2000, "float64"),
        (8000, "float64"),
        pytest.param(20_000, "float64", marks=pytest.mark.huge),
        pytest.param(100_000, "float64", marks=pytest.mark.huge),
        pytest.param(100_000, "float32", marks=pytest.mark.huge),
    ],
)
def test_extremes(race: Race, size: Size, n: int, dtype: str, d: int, method: str) -> None:
    """The smallest and the largest eigenvalue of a Gram matrix, one run from 8,000 rows on."""
    limit = {"eigh": EIGH, "cholesky": DIRECT, "iterative": n}[method]
    if n > limit:
        pytest.skip(f"{method} runs up to {limit} rows")
    X, found = sphere(size(n // 10, n), d, dtype), []
    rounds = 1 if n >= EIGH else None

    def call() -> None:
        found[:] = [extremes(X, method)]

    def facts(times: Times) -> dict[str, Any]:
        return {} if method == "eigh" else facts_of(found[0], method)

    row = {"n": len(X), "dtype": dtype, "d": d}
    race(call, "extremes", row, method, facts=facts, rounds=rounds, warmup=rounds is None)


@pytest.mark.parametrize("d", [3, 10])
@pytest.mark.parametrize("n", [2000, 8000, pytest.param(100_000, marks=pytest.mark.huge)])
def test_pass(race: Race, size: Size, n: int, d: int) -> None:
    """One pass of the iterative method, nine vectors, and by extrapolation that of 10^6 rows."""
    X = sphere(size(n // 10, n), d, "float64")
    V = np.ones((len(X), 9))

    def facts(times: Times) -> dict[str, float]:
        return {"10^6 rows, hours": times["own"].median * (1e6 / len(X)) ** 2 / 3600}

    race(partial(NTK.matmul, X, None, V), "pass", {"n": len(X), "d": d}, "pass", facts=facts)
