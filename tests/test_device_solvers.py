"""Solvers of `ntkfast.regression` with arrays on a device, or with an engine that is one.

``emulated`` runs where the CUDA engine is played by the host, ``device`` on a device.
"""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

import ntkfast as nf
from ntkfast.engines import cuda
from ntkfast.kernels import resident
from ntkfast.regression import KernelRidge, solve
from test_cuda_device import module  # noqa: F401
from test_device_arrays import Array, library  # noqa: F401
from test_device_calls import counted

KERNELS = {
    "profile": nf.FullyConnected(2).ntk,
    "biases": nf.FullyConnected(2, parameterization="ntk", b_std=0.3).ntk,
}


def problem(n: int, dtype: Any, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Rows and two targets."""
    X = np.random.default_rng(seed).standard_normal((n, 4)).astype(dtype)
    return X, np.stack([np.abs(X[:, 0]), np.sin(X[:, 1])], axis=1).astype(dtype)


def assert_solves(kernel: Any, X: np.ndarray, B: np.ndarray, ridge: Any, A: np.ndarray) -> None:
    """Check the residual of the float64 matrix, but for what A was rounded to."""
    K = kernel(X.astype(float), engine="native")
    residual = np.linalg.norm(B - K @ A - (np.broadcast_to(ridge, len(X)) * A.T).T, axis=0)
    rounding = np.finfo(A.dtype).eps * np.linalg.norm(np.abs(K) @ np.abs(A), axis=0)
    assert (residual <= 2e-6 * np.linalg.norm(B, axis=0) + rounding).all()


@pytest.mark.parametrize("method", ["cg", "cholesky"])
@pytest.mark.parametrize("name", KERNELS)
def test_device_in_and_out(
    library: Any,  # noqa: F811
    dtype: Any,
    name: str,
    method: str,
) -> None:
    """Coefficients are an array of the library, in the type of the rows, and solve the system."""
    kernel, (X, B) = KERNELS[name], problem(90, dtype)
    ridge = np.linspace(0.05, 0.2, 90)
    x, b, rank = library.asarray(X), library.asarray(B), 20 if method == "cg" else None
    found = solve(kernel, x, b, ridge, method=method, rank=rank)
    A = found.coefficients
    assert isinstance(A, Array)
    assert A.dtype == dtype
    assert found.converged
    assert ("recomputed" in found.storage) == (method == "cg")  # a device is faster than memory
    assert_solves(kernel, X, B, ridge, A.get())
    vector = solve(kernel, x, library.asarray(B[:, 0].copy()), 0.1, method=method)
    assert_solves(kernel, X, B[:, :1], 0.1, vector.coefficients.get()[:, None])


def test_rows_stay_on_the_device(library: Any, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    """A product takes V there and its result back, and norms; of the rows nothing moves."""
    kernel, (X, B) = KERNELS["profile"], problem(300, np.float64)
    evaluation = resident.evaluated(kernel, "cuda", None, False)
    wanted = kernel.matmul(X, None, B, engine="native")
    size = np.abs(kernel(X)) @ np.abs(B)
    evaluation.matmul(X, None, B)
    moved: list[int] = []
    copy = library.cuda.copy

    def watched(to: Any, source: Any, where: str) -> None:
        moved.append(to.nbytes)
        copy(to, source, where)

    monkeypatch.setattr(library.cuda, "copy", watched)
    counts = counted(library.cuda, lambda: evaluation.matmul(X, None, B))
    assert moved == [B.nbytes, B.nbytes]
    assert counts["uploads"] <= 2  # of V, and of the table of the profile
    moved.clear()
    columns = evaluation(X, X[5:8].copy())
    assert moved == [3 * X[0].nbytes, columns.nbytes]
    limit = 32 * np.finfo(float).eps
    np.testing.assert_array_less(np.abs(evaluation.matmul(X, None, B) - wanted), limit * size)
    np.testing.assert_allclose(columns, kernel(X, X[5:8]), rtol=1e-13)
    vector = evaluation.matmul(X, X[:100].copy(), B[:100, 0])
    np.testing.assert_allclose(vector, kernel.matmul(X, X[:100], B[:100, 0]), rtol=1e-11)


def test_rows_without_room_are_taken_block_by_block(
    library: Any,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kernel, (X, B) = KERNELS["profile"], problem(80, np.float64)
    wanted = solve(kernel, X, B, 0.1, method="cg", engine="native").coefficients
    monkeypatch.setattr(cuda, "ALWAYS", 0)
    monkeypatch.setattr(cuda, "_room", lambda: X.nbytes)
    found = solve(kernel, X, B, 0.1, method="cg", engine="cuda")
    assert found.converged
    np.testing.assert_allclose(found.coefficients, wanted, rtol=1e-3, atol=1e-5)


def test_the_iteration_takes_its_arguments_from_the_device(library: Any) -> None:  # noqa: F811
    """A start, a validation set, and a callback, whose numbers are of the host."""
    kernel, (X, B), (Z, targets) = KERNELS["biases"], problem(120, np.float32), problem(20, "f4", 1)
    there = [library.asarray(one) for one in (X, B, Z, targets)]
    steps: list[Any] = []
    first = solve(kernel, *there[:2], 0.1, method="cg", callback=steps.append)
    assert steps and isinstance(steps[-1].coefficients, np.ndarray)
    again = solve(kernel, *there[:2], 0.1, start=first.coefficients)
    assert again.iterations <= 2 < first.iterations
    seen = solve(kernel, *there[:2], 0.1, validation=(there[2], there[3]))
    assert np.isfinite(seen.history.to_dict()["validation"]).any()


def test_wrong_arrays_are_named(library: Any) -> None:  # noqa: F811
    kernel, (X, B) = KERNELS["profile"], problem(20, np.float64)
    x, b = library.asarray(X), library.asarray(B)
    for given, error in (
        ({"B": B}, "B: expected an array on a CUDA device, got a NumPy array"),
        ({"B": library.asarray(B.astype(np.float32))}, "B: expected dtype float64 as X"),
        ({"start": B}, "start: expected an array on a CUDA device"),
        ({"engine": "native"}, "engine: 'native' cannot read an array on a CUDA device"),
        ({"client": "tcp://nowhere:1"}, "client: expected None with arrays on a CUDA device"),
    ):
        with pytest.raises((TypeError, ValueError), match=error):
            solve(kernel, x, **{"B": b, "ridge": 0.1, "method": "cg", **given})


def test_kernel_ridge(library: Any, dtype: Any) -> None:  # noqa: F811
    """It goes on where it was fitted, and predictions lie where their inputs do."""
    (X, y), (Z, _) = problem(60, dtype), problem(30, dtype, 1)
    x, targets, z = (library.asarray(one) for one in (X, y, Z))
    wanted = KernelRidge(nf.FullyConnected(2), ridge=0.1).fit(X, y).predict(Z)
    model = KernelRidge(nf.FullyConnected(2), ridge=0.1).fit(x, targets)
    uploads = library.cuda.counts()["allocations"]
    for one in (model, pickle.loads(pickle.dumps(model))):
        found, here = one.predict(z), one.predict(Z)
        assert isinstance(found, Array) and isinstance(here, np.ndarray)
        np.testing.assert_array_equal(found.get(), here)
        np.testing.assert_allclose(here, wanted, rtol=0, atol=1e-4)
    assert library.cuda.counts()["allocations"] > uploads
    assert model.fit(X, y)._chosen is None
    with pytest.raises(ValueError, match="engine: 'native' cannot read"):
        KernelRidge(engine="native").fit(x, targets)
    with pytest.raises(TypeError, match="GaussianProcess takes arrays of the host, got one on a"):
        nf.regression.GaussianProcess().fit(x, targets)
