"""Extreme eigenvalues and effective dimension of Gram matrices against dense and exact spectra."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from mpmath import mp
from numpy.typing import NDArray

import ntkfast as nf
import oracle
from ntkfast.kernels.evaluation import Evaluation
from ntkfast.spectrum import effective_dimension, extremes
from ntkfast.spectrum.gram import cholesky
from ntkfast.spectrum.gram.lobpcg import lobpcg
from ntkfast.spectrum.gram.vecchia import vecchia

NTK = nf.FullyConnected(3).ntk
METHODS = ["dense", "cholesky", "iterative"]


def points(n: int, d: int, *, unit: bool = True, seed: int = 0) -> NDArray[np.float64]:
    X = np.random.default_rng(seed).normal(size=(n, d))
    return X / np.linalg.norm(X, axis=1, keepdims=True) if unit else X


KERNELS = [
    NTK,
    nf.FullyConnected(2, bias=0.5).ntk,
    nf.ResNet(4, alpha=0.5).ntk,
    nf.FullyConnected(2, activation="erf", parameterization="ntk", b_std=0.3).nngp,
    nf.Laplace(1.0),
]


@pytest.mark.grid(1)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kernel", KERNELS, ids=repr)
@pytest.mark.parametrize("d", [3, 8, 20])
def test_against_dense(kernel: nf.Kernel, method: str, d: int) -> None:
    X = points(400, d, unit=False)
    exact = np.linalg.eigvalsh(kernel(X))
    found = extremes(kernel, X, k=3, method=method, tol=3e-2 if method == "iterative" else None)
    assert found.method == method
    assert found.definite
    assert not found.proven
    for values, errors, wanted in (
        (found.smallest, found.smallest_error, exact[:3]),
        (found.largest, found.largest_error, exact[::-1][:3]),
    ):
        assert np.all(np.abs(values - wanted) <= errors)
        np.testing.assert_allclose(values, wanted, rtol=1e-2 if method == "iterative" else 1e-7)
    assert np.all(found.smallest >= exact[0] - found.rounding)
    assert np.all(found.largest <= exact[-1] + found.rounding)
    for V in (found.smallest_vectors, found.largest_vectors):
        assert V.shape == (400, 3)
        np.testing.assert_allclose(V.T @ V, np.eye(3), atol=1e-12)
    assert found.condition == pytest.approx(exact[-1] / exact[0], rel=1e-2)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["dense", "cholesky"])
@pytest.mark.parametrize("gap", [1e-3, 1e-6, 1e-9])
def test_near_duplicates_against_exact_arithmetic(method: str, gap: float) -> None:
    """The smallest eigenvalue is about gap L (L+1) / (2 pi) here, far below rounding of cosines."""
    X = points(30, 5)
    X[7] = X[3]
    X[7, 0] += gap
    kernel = oracle.fully_connected(3)
    with mp.workdps(40):
        K = mp.matrix(30, 30)
        for i in range(30):
            for j in range(i + 1):
                K[i, j] = K[j, i] = kernel(X[i], X[j])
        exact = [float(value) for value in mp.eigsy(K, eigvals_only=True)]
    found = extremes(NTK, X, method=method)
    assert abs(found.smallest[0] - exact[0]) <= found.smallest_error[0]
    assert abs(found.smallest[0] - exact[0]) <= 1e-4 * exact[0] + 1e-14
    assert abs(found.largest[0] - exact[-1]) <= found.largest_error[0]
    assert set(np.argsort(-np.abs(found.smallest_vectors[:, 0]))[:2]) == {3, 7}


def test_near_duplicates_without_the_matrix() -> None:
    X = points(500, 6)
    X[250:275] = X[:25] + 1e-5 * points(25, 6, seed=1)
    exact = np.linalg.eigvalsh(NTK(X))
    found = extremes(NTK, X, k=2, method="iterative")
    np.testing.assert_allclose(found.smallest, exact[:2], rtol=1e-3)
    assert found.iterations <= 20


@pytest.mark.parametrize("method", METHODS)
def test_seeds(method: str) -> None:
    X = points(200, 4)
    first, second = (extremes(NTK, X, method=method, rng=5) for _ in range(2))
    assert first.smallest == second.smallest
    assert np.array_equal(first.smallest_vectors, second.smallest_vectors)
    other = extremes(NTK, X, method=method, rng=6)
    assert other.smallest == pytest.approx(first.smallest, rel=1e-3)


@pytest.mark.parametrize("method", METHODS)
def test_float32_rows_are_exact_numbers(method: str) -> None:
    X = points(400, 10).astype(np.float32)
    exact = np.linalg.eigvalsh(NTK(X.astype(np.float64)))
    found = extremes(NTK, X, method=method)
    assert found.smallest.dtype == np.float64
    assert abs(found.smallest[0] - exact[0]) <= found.smallest_error[0]
    assert found.smallest[0] == pytest.approx(exact[0], rel=1e-3)


def test_noise_of_float32_passes_shows_in_the_error() -> None:
    X = points(400, 3).astype(np.float32)
    X[1] = X[0] + np.float32(1e-6)
    exact = np.linalg.eigvalsh(NTK(X.astype(np.float64)))
    with pytest.warns(RuntimeWarning):
        found = extremes(NTK, X, method="iterative", tol=1e-8, max_iterations=20)
    assert not found.converged
    assert abs(found.smallest[0] - exact[0]) <= found.smallest_error[0]


@pytest.mark.parametrize("method", ["dense", "cholesky"])
def test_duplicates_are_reported(method: str) -> None:
    X = points(60, 4)
    X[41] = X[12]
    with pytest.warns(RuntimeWarning, match="rests mainly on rows 12 and 41"):
        found = extremes(NTK, X, method=method)
    assert not found.definite
    assert abs(found.smallest[0]) <= found.smallest_error[0]


def test_many_eigenvalues_within_rounding() -> None:
    X = points(300, 2, unit=False)
    with pytest.warns(RuntimeWarning, match="not positive definite beyond rounding"):
        found = extremes(nf.Gaussian(0.1), X, method="cholesky")
    assert not found.definite
    assert abs(found.smallest[0]) <= found.smallest_error[0] < 1e-9


def test_indefinite_beyond_rounding() -> None:
    class Wrong(nf.Laplace):
        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            K = super().__call__(*args, **kwargs)
            K[0, 1] = K[1, 0] = 1 + 1e-6
            return K

    with pytest.raises(np.linalg.LinAlgError, match="numerically indefinite"):
        extremes(Wrong(1.0), points(200, 3), method="cholesky")


def test_proof() -> None:
    X = points(300, 4)
    exact = np.linalg.eigvalsh(NTK(X))[0]
    for method in ("dense", "cholesky"):
        plain, found = (extremes(NTK, X, method=method, verify=v) for v in (False, True))
        assert found.proven
        assert not plain.proven
        # the bound covers rounding of entries twice, of the factor, and stays close
        least = plain.smallest_error[0] + 8 * np.finfo(float).eps * NTK.diag(X).sum()
        assert least < found.smallest_error[0] < least + 4 * 300 * 2.3e-16 * NTK.diag(X).sum()
        assert found.smallest[0] - found.smallest_error[0] < exact
    with pytest.raises(ValueError, match="verify"):
        extremes(NTK, X, method="iterative", verify=True)


@pytest.mark.parametrize("scale", [1e-140, 1e-100, 1e70])
@pytest.mark.parametrize("method", METHODS)
def test_scales(scale: float, method: str) -> None:
    """Squares of values that vanish or overflow do not: a certificate holds at any scale."""
    X = points(400, 3)
    exact = np.linalg.eigvalsh(NTK(X))
    for rows in (X, scale * X):
        found = extremes(NTK, rows, k=2, method=method, verify=method != "iterative")
        square = (np.linalg.norm(rows[0]) / np.linalg.norm(X[0])) ** 2
        assert np.all(np.abs(found.smallest / square - exact[:2]) <= found.smallest_error / square)
        assert np.all(
            np.abs(found.largest / square - exact[:-3:-1]) <= found.largest_error / square
        )
        assert found.proven == (method != "iterative")
        assert found.converged
    with pytest.raises(ValueError, match="X: expected rows whose kernel values are normal"):
        extremes(NTK, 1e-148 * X)


@pytest.mark.parametrize("k", [1, 5])
def test_largest_and_smallest_together(k: int) -> None:
    """All eigenvalues from either end, and the trace."""
    X = points(k, 3)
    found = extremes(NTK, X, k=k)
    np.testing.assert_allclose(found.smallest[::-1], found.largest, rtol=1e-13)
    assert found.smallest.sum() == pytest.approx(4 * k)


def test_one_row() -> None:
    found = extremes(NTK, np.ones((1, 3)))
    assert found.smallest == found.largest == pytest.approx(12)
    assert found.condition == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"k": 0}, "k: expected an integer >= 1, got 0"),
        ({"k": 51}, "k: expected at most 50 for 50 rows"),
        ({"k": 50, "method": "cholesky"}, 'k: expected at most 49 .* use method="dense"'),
        ({"k": 1, "method": "iterative"}, 'method: expected "dense" for 50 rows'),
        ({"method": "lanczos"}, "method: expected one of 'auto', "),
        ({"tol": 0.0}, "tol: expected a finite number > 0"),
        ({"max_iterations": 0}, "max_iterations: expected an integer >= 1"),
        ({"neighbours": 0}, "neighbours: expected an integer >= 1"),
        ({"deflate": 40}, "deflate: expected at most 12 for 50 rows, got 40"),
    ],
)
def test_bad_arguments(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        extremes(NTK, points(50, 3), **arguments)  # type: ignore[arg-type]


def test_bad_rows() -> None:
    X = points(20, 3)
    X[5, 1] = np.nan
    with pytest.raises(ValueError, match="X: expected finite numbers, row 5"):
        extremes(NTK, X)
    with pytest.raises(ValueError, match=r"X: expected shape \(rows, features\)"):
        extremes(NTK, X[0])
    with pytest.raises(ValueError, match="X: expected finite numbers, row 5"):
        effective_dimension(NTK, X, 1.0)


def test_progress(capsys: pytest.CaptureFixture[str]) -> None:
    """A bar that nobody asked for needs a terminal; passes are counted with and without it."""
    pytest.importorskip("tqdm")
    X = points(200, 3)
    first, second = (extremes(NTK, X, method="iterative", progress=p) for p in (False, None))
    assert capsys.readouterr().err == ""
    third = extremes(NTK, X, method="iterative", progress=True)
    assert first.passes == second.passes == third.passes > 0
    assert f"{third.passes:.2f} passes" in capsys.readouterr().err


def test_interrupt() -> None:
    class Interrupted(nf.Laplace):
        def matmul(self, *args: object, **kwargs: object) -> NDArray[np.float64]:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        extremes(Interrupted(1.0), points(200, 3), method="iterative", progress=True)


# The parts ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("d", [3, 20])
def test_vecchia_is_exact_with_all_neighbours(d: int) -> None:
    """Both searches: by a tree and through the kernel."""
    X = points(60, d)
    inverse = vecchia(Evaluation(NTK), X, 59, np.random.default_rng(0))
    np.testing.assert_allclose(inverse(np.asarray(NTK(X), float)), np.eye(60), atol=1e-9)


@pytest.mark.parametrize("d", [3, 20])
def test_vecchia_neighbours(d: int) -> None:
    """Every column has a unit residual: u^T K u = 1, and at most m + 1 entries."""
    X = points(300, d)
    U = vecchia(Evaluation(NTK), X, 10, np.random.default_rng(0)).factor
    assert np.diff(U.indptr).max() == 11
    np.testing.assert_allclose(np.diag((U.T @ NTK(X)) @ U), 1, rtol=1e-8)


@pytest.mark.parametrize("largest", [False, True])
def test_lobpcg(largest: bool) -> None:
    rng = np.random.default_rng(0)
    values = np.geomspace(1e-3, 1, 200)
    Q = np.linalg.qr(rng.normal(size=(200, 200)))[0]
    A = (Q * values) @ Q.T
    found = lobpcg(
        lambda V: A @ V,
        rng.normal(size=(200, 8)),
        3,
        largest=largest,
        tol=1e-9,
        max_iterations=400,
        precondition=None if largest else lambda V: (Q / (values + 1e-3)) @ (Q.T @ V),
    )
    assert found.converged
    np.testing.assert_allclose(found.values, values[::-1][:3] if largest else values[:3], rtol=1e-9)


def test_lobpcg_stays_orthonormal_far_below_convergence() -> None:
    A = np.diag(np.arange(1.0, 101.0))
    found = lobpcg(
        lambda V: A @ V,
        np.random.default_rng(0).normal(size=(100, 6)),
        2,
        tol=1e-30,
        max_iterations=200,
    )
    np.testing.assert_allclose(found.values, [1, 2], rtol=1e-13)
    np.testing.assert_allclose(found.vectors.T @ found.vectors, np.eye(2), atol=1e-13)


# Effective dimension -----------------------------------------------------------------------------


def test_effective_dimension() -> None:
    X, path = points(400, 6), np.geomspace(1e-2, 1e3, 6)
    eigenvalues = np.linalg.eigvalsh(NTK(X))
    exact = np.sum(eigenvalues / (eigenvalues + path[:, None]), axis=1)
    dense = effective_dimension(NTK, X, path)
    assert dense.method == "dense"
    np.testing.assert_allclose(dense.values, exact, rtol=1e-10)
    assert np.all(np.abs(dense.values - exact) <= dense.truncation + 1e-10 * exact)
    for dtype in (np.float64, np.float32):
        found = effective_dimension(NTK, X.astype(dtype), path, method="lanczos", n_probes=32)
        assert np.all(np.abs(found.values - exact) <= 4 * found.standard_error + found.truncation)
        np.testing.assert_allclose(found.values, exact, rtol=0.1)
        assert np.all(found.truncation <= 0.1 * found.standard_error + 1e-9 * exact)
    again = effective_dimension(NTK, X, path, method="lanczos", rng=3)
    assert np.array_equal(
        again.values, effective_dimension(NTK, X, path, method="lanczos", rng=3).values
    )
    assert not np.array_equal(again.values, found.values)


def test_truncation_brackets_each_probe() -> None:
    """Few steps: the interval is wide, and it holds the value of these probes."""
    X = points(300, 4)
    few, many = (
        effective_dimension(NTK, X, 0.1, method="lanczos", max_steps=steps, rng=0)
        for steps in (10, 120)
    )
    assert few.truncation[0] > 10 * many.truncation[0]
    assert abs(few.values[0] - many.values[0]) <= few.truncation[0] + many.truncation[0]


@pytest.mark.parametrize("path", [0.0, [-1.0], [np.nan], [[1.0]]])
def test_bad_ridges(path: object) -> None:
    with pytest.raises(ValueError, match="ridges: expected positive"):
        effective_dimension(NTK, points(10, 3), path)  # type: ignore[arg-type]


def test_bad_probes() -> None:
    with pytest.raises(ValueError, match="probes: expected an integer >= 2"):
        effective_dimension(NTK, points(10, 3), 1.0, method="lanczos", n_probes=1)


# Factors of several blocks -----------------------------------------------------------------------


def test_cholesky_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cholesky, "BLOCK", 37)
    A = np.asarray(NTK(points(150, 6)), float)
    b = np.random.default_rng(0).normal(size=(150, 2))
    factor = cholesky.Cholesky(A.copy())
    np.testing.assert_allclose(factor.solve(b), np.linalg.solve(A, b), rtol=1e-9)
    np.testing.assert_allclose(factor.solve(b[:, 0]), np.linalg.solve(A, b[:, 0]), rtol=1e-9)
    A[140, 140] = 0
    with pytest.raises(np.linalg.LinAlgError):
        cholesky.Cholesky(A)


def test_networks_are_not_kernels() -> None:
    network: Any = nf.FullyConnected(2)
    wanted = r"kernel: expected a Kernel, got FullyConnected.*\.ntk"
    with pytest.raises(TypeError, match=wanted):
        extremes(network, points(9, 3))
    with pytest.raises(TypeError, match=wanted):
        effective_dimension(network, points(9, 3), [1.0])


@pytest.mark.parametrize("rank", [1, 2, 3, 6])
@pytest.mark.parametrize("scale", [1.0, 1e-90])
def test_effective_dimension_of_low_rank(rank: int, scale: float) -> None:
    """Lanczos ends after some steps: then both bounds are the value of each probe."""
    X = np.random.default_rng(rank).normal(size=(200, rank))
    kernel, ridges = nf.FullyConnected(0).ntk, np.array([0.1, 10.0])
    found = effective_dimension(
        kernel, scale * X, ridges * scale**2, method="lanczos", n_probes=400
    )
    U, s, _ = np.linalg.svd(X, full_matrices=False)
    signs = np.random.default_rng(0).choice(np.array([-1.0, 1.0]), (200, 400))
    forms = (U.T @ signs) ** 2
    for value, ridge, cut in zip(found.values, ridges, found.truncation, strict=True):
        wanted = np.mean(np.sum(forms * (s**2 / (s**2 + ridge))[:, None], axis=0))
        assert abs(value - wanted) <= cut + 1e-9 * wanted
        assert cut <= (1e-9 if rank <= 3 else 1e-2) * wanted
    np.testing.assert_array_equal(found.ridges, ridges * scale**2)
