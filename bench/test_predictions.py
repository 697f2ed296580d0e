"""Fits and predictions beside those of others.

scikit-learn gets the same Gram matrices from ntkfast; `predict` of neural-tangents gets its own,
compiled before the clock runs, and is skipped where it does not import.

Targets are a sum of absolute values of projections with noise. Times hold the Gram matrices, the
solution and the predictions of a tenth as many rows. "path" finds the best of 28 ridges by leaving
one out, which scikit-learn does for a linear kernel in as many columns as rows (`RidgeCV`).
"""

from __future__ import annotations

import warnings
from functools import partial
from typing import Any

import numpy as np
import pytest

import ntkfast as nf
from peers import neural_tangents_predict, versions_of
from race import Race, Size

pytest.importorskip("sklearn")
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import WhiteKernel
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import RidgeCV

from ntkfast.sklearn import NTKKernel

NET = nf.FullyConnected(3)
COLUMNS, RIDGE = 10, 0.1
RIDGES = np.logspace(-8, 1, 28)


def data(n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return rows, targets, and rows to predict."""
    generator = np.random.default_rng(0)
    X, Z = generator.normal(size=(n, COLUMNS)), generator.normal(size=(n // 10, COLUMNS))
    y = np.abs(X @ generator.normal(size=(COLUMNS, 4))).sum(axis=1)
    return X, y + generator.normal(size=n), Z


def same(ours: Any, theirs: Any, tolerance: float) -> None:
    """Check that both compute the same thing."""
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("n", [1000, 4000])
def test_ridge(race: Race, size: Size, n: int) -> None:
    """Kernel ridge regression."""
    X, y, Z = data(size(n // 10, n))

    def ours() -> Any:
        return [nf.regression.KernelRidge(NET, RIDGE).fit(X, y).predict(Z)]

    def theirs() -> Any:
        model = KernelRidge(kernel="precomputed", alpha=RIDGE).fit(NET.ntk(X), y)
        return [model.predict(NET.ntk(Z, X))]

    same(ours(), theirs(), 1e-8)
    row = {"model": "ridge", "n": len(X)}
    race(ours, "predictions", row, "ntkfast", against={"scikit-learn": theirs})


@pytest.mark.parametrize("n", [500, 2000])
def test_path(race: Race, size: Size, n: int) -> None:
    """The ridge by leave-one-out; the features of the peer are those of a Cholesky factor."""
    X, y, _ = data(size(n // 10, n))
    scale = float(np.mean(NET.ntk.diag(X)))

    def ours() -> float:
        return float(nf.regression.KernelRidgeCV(NET, scale * RIDGES).fit(X, y).ridge_)

    def theirs() -> float:
        features = np.linalg.cholesky(NET.ntk(X))
        model = RidgeCV(scale * RIDGES, fit_intercept=False, gcv_mode="svd").fit(features, y)
        return float(model.alpha_)

    same([ours()], [theirs()], 1e-8)
    row = {"model": "path", "n": len(X)}
    race(ours, "predictions", row, "ntkfast", against={"scikit-learn": theirs})


@pytest.mark.parametrize("tuned", [False, True], ids=["fixed", "tuned"])
@pytest.mark.parametrize("n", [500, 2000])
def test_gaussian_process(race: Race, size: Size, n: int, tuned: bool) -> None:
    """Mean and standard deviation, with given or fitted noise and scale."""
    X, y, Z = data(size(n // 10, n))

    def ours() -> Any:
        tune = ("noise", "scale") if tuned else ()
        model = nf.regression.GaussianProcess(NET, noise=RIDGE, tune=tune).fit(X, y)
        return model.predict(Z, return_std=True)

    def theirs() -> Any:
        kernel = NTKKernel(NET) + WhiteKernel(RIDGE)
        if not tuned:
            kernel.set_params(k1__scale_bounds="fixed", k2__noise_level_bounds="fixed")
        model = GaussianProcessRegressor(kernel, alpha=0.0, optimizer="fmin_l_bfgs_b")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model.fit(X, y)
        mean, std = model.predict(Z, return_std=True)
        return mean, np.sqrt(std**2 - model.kernel_.k2.noise_level)

    same(ours(), theirs(), 1e-2 if tuned else 1e-7)
    row = {"model": "GP, tuned" if tuned else "GP", "n": len(X)}
    race(ours, "predictions", row, "ntkfast", against={"scikit-learn": theirs})


TASKS: dict[str, dict[str, Any]] = {
    "end": {"get": "ntk", "cov": False, "times": None},
    "posterior": {"get": "nngp", "cov": True, "times": None},
    "five times": {"get": "ntk", "cov": False, "times": (1.0, 10.0, 100.0, 1e3, 1e4)},
}


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("n", [1000, 4000])
def test_neural_tangents(race: Race, size: Size, n: int, task: str) -> None:
    """Means and covariances of the ensemble of networks, in training and at its end."""
    X, y, Z = data(size(n // 10, n))
    wanted = TASKS[task]
    try:
        theirs = neural_tangents_predict(X, y, Z, NET.depth, RIDGE, **wanted)
    except ImportError as error:
        pytest.skip(f"neural-tangents: {error}")
    times = np.inf if wanted["times"] is None else wanted["times"]

    def ours() -> Any:
        model = nf.regression.GradientFlow(NET, kind=wanted["get"], ridge=RIDGE).fit(X, y)
        found = model.predict(Z, times, return_cov=wanted["cov"])
        return found if wanted["cov"] else [found]

    same(ours(), theirs(), 1e-6)
    versions = versions_of(("neural-tangents", "jax"))
    race(
        ours,
        "predictions",
        {"model": task, "n": len(X)},
        "ntkfast",
        against={"neural-tangents": theirs},
        facts={"versions": " ".join(" ".join(one) for one in versions.items())},
    )


@pytest.mark.parametrize("n", [5000, 20_000])
def test_solver(race: Race, size: Size, n: int) -> None:
    """Conjugate gradients beside a Cholesky factorisation in memory, ten targets, 1e-6."""
    X = data(size(n // 10, n))[0]
    Y = np.random.default_rng(1).normal(size=(len(X), 10))
    ridge = 1e-4 * float(np.mean(NET.ntk.diag(X)))
    solve = partial(nf.regression.solve, NET.ntk, X, Y, ridge, memory=16 << 30)
    found: list[Any] = []

    def call() -> None:
        found[:] = [solve(method="cg")]

    def facts(_: Any) -> dict[str, Any]:
        one = found[0]
        outside = one.seconds / one.seconds_of_products
        return {"products": one.products, "time / own products": outside}

    race(
        call,
        "solver",
        {"n": len(X), "columns": COLUMNS},
        "cg",
        against={"cholesky": partial(solve, method="cholesky")},
        facts=facts,
        rounds=1 if n > 5000 else None,
        warmup=n <= 5000,
    )
