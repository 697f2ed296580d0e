"""The scikit-learn kernel: conventions, gradients, and Gaussian processes that use it."""

from __future__ import annotations

import pickle
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import ntkfast as nf

pytest.importorskip("sklearn")

from scipy.optimize import minimize
from sklearn.base import clone
from sklearn.gaussian_process import GaussianProcessClassifier, GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, WhiteKernel
from sklearn.kernel_ridge import KernelRidge
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.svm import SVC

from ntkfast.datasets import load_digits
from ntkfast.sklearn import NTKKernel

X = np.random.default_rng(0).normal(size=(40, 3))
NTK = nf.FullyConnected(2, parameterization="ntk", w_std=1.4, b_std=0.2)

KERNELS = [
    NTKKernel(nf.FullyConnected(3)),
    NTKKernel(nf.FullyConnected(2), kind="nngp", scale=0.5),
    NTKKernel(nf.FullyConnected(2), bias=0.3),
    NTKKernel(NTK, w_std=1.3, b_std=0.2, scale=2.0),
    NTKKernel(NTK, w_std=1.3, b_std=0.2, b_std_bounds="fixed"),
    NTKKernel(nf.ResNet(3, alpha=0.5), alpha=0.4),
    NTKKernel(nf.Laplace(1.0), c=0.7, scale_bounds="fixed"),
    NTKKernel(nf.Recurrent(1, b_std=0.1), u_std=0.8, h_std=0.3, w_std=1.3),
]


@pytest.mark.parametrize("kernel", KERNELS, ids=repr)
def test_conventions_of_scikit_learn(kernel: NTKKernel) -> None:
    copy = clone(kernel)
    assert copy is not kernel
    assert copy == kernel
    assert pickle.loads(pickle.dumps(kernel)) == kernel
    names = [one.name for one in kernel.hyperparameters if not one.fixed]
    assert names == sorted(names)
    np.testing.assert_allclose(kernel.theta, [np.log(getattr(kernel, name)) for name in names])
    assert kernel.bounds.shape == (len(names), 2)
    moved = kernel.clone_with_theta(kernel.theta + 0.1)
    for name in names:
        assert getattr(moved, name) == pytest.approx(np.exp(0.1) * getattr(kernel, name))
    assert copy == kernel  # the original has not moved
    assert kernel.set_params(**kernel.get_params()) is kernel
    assert not kernel.is_stationary()


@pytest.mark.parametrize("kernel", KERNELS, ids=repr)
def test_values(kernel: NTKKernel) -> None:
    K = kernel(X)
    assert np.array_equal(K, K.T)
    np.testing.assert_allclose(kernel.diag(X), np.diagonal(K), rtol=1e-14)
    np.testing.assert_allclose(kernel(X, X[:7] + 1), kernel(X[:7] + 1, X).T, rtol=1e-12)


def test_values_are_those_of_the_network() -> None:
    kernel = NTKKernel(NTK, w_std=1.1, b_std=0.3, scale=2.0)
    network = nf.FullyConnected(2, parameterization="ntk", w_std=1.1, b_std=0.3)
    np.testing.assert_allclose(kernel(X), 2 * network.ntk(X), rtol=1e-14)
    np.testing.assert_allclose(NTKKernel(network.nngp)(X), network.nngp(X), rtol=1e-14)
    laplace = NTKKernel(nf.Laplace(1.0), c=3.0)
    np.testing.assert_allclose(laplace(X), nf.Laplace(3.0)(X), rtol=1e-14)


@pytest.mark.parametrize("kernel", KERNELS, ids=repr)
def test_gradient(kernel: NTKKernel) -> None:
    """Against differences of another order and step, whose own error is below 1e-9."""
    K, gradient = kernel(X, eval_gradient=True)
    assert np.array_equal(K, kernel(X))
    assert gradient.shape == (40, 40, len(kernel.theta))

    def at(column: int, step: float) -> NDArray[Any]:
        theta = kernel.theta.copy()
        theta[column] += step
        values: NDArray[Any] = kernel.clone_with_theta(theta)(X)
        return values

    h = 2e-3
    for k in range(len(kernel.theta)):
        wanted = (8 * (at(k, h) - at(k, -h)) - (at(k, 2 * h) - at(k, -2 * h))) / (12 * h)
        np.testing.assert_allclose(gradient[..., k], wanted, rtol=0, atol=1e-8 * np.abs(K).max())


def test_gradient_by_a_known_power() -> None:
    """Without biases every layer multiplies the kernel by w_std^2: the exact answer is 6 K."""
    network = nf.FullyConnected(2, parameterization="ntk", w_std=1.4)
    K, gradient = NTKKernel(network, w_std=1.4, scale_bounds="fixed")(X, eval_gradient=True)
    np.testing.assert_allclose(gradient[..., 0], 6 * K, rtol=0, atol=1e-12 * K.max())


@pytest.mark.parametrize(
    ("kernel", "message"),
    [
        (NTKKernel(nf.FullyConnected(2), alpha=0.3), "alpha: expected one of .*FullyConnected"),
        (NTKKernel(nf.FullyConnected(2).ntk, c=0.3), "c: expected one of .*FullyConnected"),
    ],
)
def test_parameters_that_the_network_lacks(kernel: NTKKernel, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        kernel(X)


def test_gradient_wants_one_set_of_inputs() -> None:
    with pytest.raises(ValueError, match="Y: expected None"):
        NTKKernel(nf.FullyConnected(2))(X, X, eval_gradient=True)


def few_steps(objective: Any, start: NDArray[Any], bounds: Any) -> tuple[NDArray[Any], float]:
    """Make a few steps: each new alpha costs the compilation of a profile."""
    options = {"maxiter": 5}
    found = minimize(objective, start, jac=True, method="L-BFGS-B", bounds=bounds, options=options)
    return found.x, found.fun


@pytest.mark.parametrize(
    ("kernel", "optimizer"),
    [
        (NTKKernel(nf.FullyConnected(2), bias=0.3) + WhiteKernel(0.1), "fmin_l_bfgs_b"),
        (
            ConstantKernel(2.0)
            * NTKKernel(nf.ResNet(2, alpha=1.0), alpha=0.5, scale_bounds="fixed")
            + WhiteKernel(0.1),
            few_steps,
        ),
    ],
    ids=["bias", "alpha"],
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_regression_finds_better_parameters(kernel: Any, optimizer: Any) -> None:
    noise = np.random.default_rng(1).normal(size=len(X))
    y = np.sin(X[:, 0]) + 0.05 * noise
    model = GaussianProcessRegressor(kernel, optimizer=optimizer).fit(X, y)
    start = model.log_marginal_likelihood(kernel.theta)
    assert model.log_marginal_likelihood_value_ > start + 1
    assert model.kernel_ != kernel
    mean, deviation = model.predict(X[:5] + 0.01, return_std=True)
    assert np.abs(mean - np.sin(X[:5, 0] + 0.01)).max() < 0.3
    assert (deviation > 0).all()


def test_likelihood_gradient_agrees_with_differences() -> None:
    kernel = NTKKernel(NTK, w_std=1.3, b_std=0.2) + WhiteKernel(0.1)
    model = GaussianProcessRegressor(kernel, optimizer=None).fit(X, np.sin(X[:, 0]))
    _, gradient = model.log_marginal_likelihood(kernel.theta, eval_gradient=True)
    h = 1e-4
    for k in range(len(kernel.theta)):
        step = h * np.eye(len(kernel.theta))[k]
        ends = [model.log_marginal_likelihood(kernel.theta + sign * step) for sign in (1, -1)]
        assert gradient[k] == pytest.approx((ends[0] - ends[1]) / (2 * h), rel=1e-5, abs=1e-5)


def test_classification_of_digits() -> None:
    images, labels = load_digits()
    two = np.isin(labels, (3, 8))
    images, labels = images[two] / 16, labels[two]
    model = GaussianProcessClassifier(NTKKernel(nf.FullyConnected(1)), optimizer=None)
    model.fit(images[:60], labels[:60])
    assert model.score(images[60:160], labels[60:160]) > 0.9


def test_kernels_serve_other_estimators_directly() -> None:
    images, labels = load_digits()
    images, kernel = images / 16, nf.FullyConnected(2).ntk
    machine = SVC(kernel=kernel).fit(images[:300], labels[:300])
    assert machine.score(images[300:500], labels[300:500]) > 0.85
    ridge = KernelRidge(alpha=1e-2, kernel="precomputed")
    ridge.fit(kernel(images[:300]), labels[:300] == 3)
    scores = ridge.predict(kernel(images[300:500], images[:300]))
    assert np.mean((scores > 0.5) == (labels[300:500] == 3)) > 0.95


@pytest.mark.parametrize(
    ("model", "name"),
    [
        (GaussianProcessRegressor(NTKKernel(NTK), optimizer=None), "kernel__network"),
        (GaussianProcessRegressor(NTKKernel(NTK) + WhiteKernel(1.0)), "kernel__k1__network"),
        (KernelRidge(kernel=NTKKernel(NTK)), "kernel__network"),
        (SVC(kernel=NTKKernel(NTK)), "kernel__network"),
        (nf.regression.KernelRidge(NTK.nngp), "kernel__network"),
        (nf.regression.KernelRidge(NTK), "kernel__network"),
        (nf.regression.KernelRidge(NTK), "kernel"),
    ],
)
def test_grids_reach_the_network(model: Any, name: str) -> None:
    other = clone(model).set_params(**{f"{name}__depth": 5, f"{name}__w_std": 1.0})
    wanted = replace(NTK, depth=5, w_std=1.0)
    assert repr(other) == repr(model).replace(repr(NTK), repr(wanted))
    assert repr(wanted) not in repr(model)
    with pytest.raises(ValueError, match="width: expected one of depth, activation"):
        clone(model).set_params(**{f"{name}__width": 5})


def test_grid_search_over_the_depth() -> None:
    y = np.sin(X[:, 0])
    depths = [1, 6]
    search = GridSearchCV(
        KernelRidge(kernel=NTKKernel(NTK)), {"kernel__network__depth": depths}, cv=2
    ).fit(X, y)
    wanted = [
        cross_val_score(KernelRidge(kernel=NTKKernel(replace(NTK, depth=k))), X, y, cv=2).mean()
        for k in depths
    ]
    np.testing.assert_allclose(search.cv_results_["mean_test_score"], wanted)
    assert wanted[0] != wanted[1]


def test_networks_are_values_with_parameters() -> None:
    given = NTK.get_params()
    assert (given["depth"], given["w_std"]) == (2, 1.4)
    assert type(NTK)(**given) == NTK
    assert clone(NTK) is NTK
    assert NTK.set_params(depth=2) is NTK
    with pytest.raises(TypeError, match=r"does not change: FullyConnected\(3, .*dataclasses"):
        NTK.set_params(depth=3)


def test_sequences_of_several_lengths() -> None:
    ragged, y = [[1.0, 2.0], [1.0, 2.0, 3.0], [2.0, 0.0]], [0, 1, 0]
    kernel = nf.Recurrent(1).ntk
    theirs = SVC(kernel=kernel).fit(ragged, y)
    wanted = SVC(kernel="precomputed").fit(kernel(ragged), y)
    np.testing.assert_array_equal(
        theirs.decision_function(ragged), wanted.decision_function(kernel(ragged))
    )
    for model in (
        nf.regression.KernelRidge(NTK),
        nf.features.NTKRandomFeatures(nf.FullyConnected(1)),
    ):
        with pytest.raises(ValueError, match="X: expected rows of one length, got different ones"):
            model.fit(ragged, y)
