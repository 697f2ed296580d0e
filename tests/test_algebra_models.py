"""Kernels made of kernels in estimators, files, features, and next to scikit-learn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ntkfast as nf
from ntkfast.regression.description import described, rebuilt

pytest.importorskip("sklearn")

from sklearn.base import clone
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.model_selection import GridSearchCV

from ntkfast.features import DualActivationFeatures, NystromFeatures
from ntkfast.regression import GaussianProcess, KernelRidge, load, solve
from ntkfast.sklearn import NTKKernel

NTK, LAPLACE = nf.FullyConnected(2).ntk, nf.Laplace(0.5)
KERNELS: list[Any] = [
    NTK + nf.ArcCosine(1) + LAPLACE,
    NTK * LAPLACE.normalized(),
    NTK.on([0, 1]) + 0.3 * LAPLACE.on(3),
    (NTK + LAPLACE).ard([1, 2, 0.5, 4]).normalized(),
    sum(nf.Gaussian(0.5).on(k) for k in range(4)),
]
ADDITIVE = KERNELS[2]


@pytest.fixture(scope="module")
def data() -> tuple[np.ndarray, np.ndarray]:
    X = np.random.default_rng(0).standard_normal((60, 4))
    return X, np.sin(X[:, 0]) + X[:, 1] * X[:, 2]


@pytest.mark.parametrize("kernel", KERNELS, ids=repr)
def test_files(kernel: Any, data: Any, tmp_path: Path) -> None:
    model = KernelRidge(kernel, ridge=0.1).fit(*data)
    wanted = kernel(data[0]) @ np.linalg.solve(kernel(data[0]) + 0.1 * np.eye(60), data[1])
    np.testing.assert_allclose(model.predict(data[0]), wanted, rtol=1e-9, atol=1e-9)
    model.save(tmp_path / "model.npz")
    found = load(tmp_path / "model.npz")
    assert found.kernel == kernel
    assert np.array_equal(found.predict(data[0]), model.predict(data[0]))


@pytest.mark.parametrize(
    "description",
    [
        {"class": "algebra.power", "kernel": described(LAPLACE)},
        {"class": "algebra.sum", "k1": described(LAPLACE)},
        {"class": "algebra.sum", "k1": described(LAPLACE), "k2": 3},
        {"class": "algebra.multiple", "kernel": described(LAPLACE)},
        {"class": "algebra.multiple", "kernel": described(LAPLACE), "factor": -1},
        {"class": "algebra.columns", "kernel": described(LAPLACE), "columns": [0, 0]},
        {"class": "algebra.ard", "kernel": 2, "length_scales": [1.0]},
    ],
)
def test_descriptions_of_nothing(description: Any) -> None:
    with pytest.raises(ValueError, match=r"expected"):
        rebuilt(description)


@pytest.mark.slow
def test_parameters_in_a_grid(data: Any) -> None:
    grid = {"kernel__k1__kernel__depth": [1, 2], "kernel__k2__factor": [0.1, 1.0]}
    search = GridSearchCV(KernelRidge(ADDITIVE, ridge=0.1), grid, cv=2).fit(*data)
    assert set(search.best_params_) == set(grid)


def test_parameters() -> None:
    model = clone(KernelRidge(ADDITIVE, ridge=0.1))
    known = model.get_params()
    assert known["kernel__k1"] == NTK.on([0, 1])
    assert known["kernel__k1__columns"] == (0, 1)
    assert known["kernel__k1__kernel__depth"] == 2
    assert known["kernel__k2__factor"] == 0.3
    assert known["kernel__k2__kernel__kernel__c"] == 0.5
    model.set_params(kernel__k1__kernel__depth=3, kernel__k2__factor=2.0, kernel__k1__columns=[2])
    assert model.kernel == nf.FullyConnected(3).ntk.on(2) + 2 * LAPLACE.on(3)
    model.set_params(kernel__k2=LAPLACE)
    assert model.kernel == nf.FullyConnected(3).ntk.on(2) + LAPLACE
    with pytest.raises(ValueError, match="kernel__k1__kernel__width: expected one of k1, k2, k1__"):
        model.set_params(kernel__k1__kernel__width=3)
    with pytest.raises(ValueError, match="factor: expected a finite number >= 0"):
        KernelRidge(ADDITIVE).set_params(kernel__k2__factor=-1)


def test_gaussian_processes(data: Any) -> None:
    X, y = data
    model = GaussianProcess(NTK + LAPLACE, tune=("noise", "k2__c"), bounds={"k2__c": (0.1, 2.0)})
    model.fit(X, y)
    assert model.kernel_ == NTK + nf.Laplace(model.parameters_["k2__c"])
    theirs = GaussianProcessRegressor(NTKKernel(ADDITIVE, scale=2.0), alpha=0.1, optimizer=None)
    ours = 2 * ADDITIVE(X) @ np.linalg.solve(2 * ADDITIVE(X) + 0.1 * np.eye(60), y)
    np.testing.assert_allclose(theirs.fit(X, y).predict(X), ours, rtol=1e-9, atol=1e-9)
    with pytest.raises(ValueError, match="w_std: expected one of k1, k2, k1__"):
        NTKKernel(ADDITIVE, w_std=1.0)(X)


def test_solver_and_features(data: Any) -> None:
    X, y = data
    for method in ("cholesky", "cg"):
        found = solve(ADDITIVE, X, y, 0.1, method=method)
        np.testing.assert_allclose(
            ADDITIVE.operator(X, ridge=0.1) @ found.coefficients, y, atol=1e-6
        )
    F = NystromFeatures(ADDITIVE, 60, random_state=0).fit_transform(X)
    np.testing.assert_allclose(F @ F.T, ADDITIVE(X), rtol=0, atol=1e-9)
    zonal = NTK + 2 * nf.ArcCosine(1)
    F, K = DualActivationFeatures(zonal, 4096, random_state=0).fit_transform(X), zonal(X)
    assert np.linalg.norm(F @ F.T - K) < 0.05 * np.linalg.norm(K)
