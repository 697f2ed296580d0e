"""Kernel ridge regression and classification, against the formulas and scikit-learn."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import ntkfast as nf

pytest.importorskip("sklearn")

import sklearn.kernel_ridge
from scipy import sparse
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax
from sklearn.base import clone
from sklearn.exceptions import DataConversionWarning, NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from ntkfast.arrays.panels import panels
from ntkfast.regression import (
    GaussianProcess,
    GradientFlow,
    KernelClassifier,
    KernelRidge,
    KernelRidgeCV,
    held_out,
    load,
)
from ntkfast.regression.description import described, rebuilt

EPS = np.finfo(np.float64).eps
generator = np.random.default_rng(17)
X = generator.normal(size=(40, 3))
Z = generator.normal(size=(15, 3))
Y = np.stack([np.abs(X[:, 0]), X[:, 1] * X[:, 2]], axis=1) + 0.1 * generator.normal(size=(40, 2))
W = generator.uniform(0.1, 3, size=40)
LABELS = np.array(["cat", "dog", "owl"])[np.digitize(X[:, 0] + X[:, 1] ** 2, [0.2, 1.3])]
NET = nf.FullyConnected(2)
K, KZ = NET.ntk(X), NET.ntk(Z, X)
ESTIMATORS = KernelRidge, KernelRidgeCV, KernelClassifier

LEFT_OUT = {
    "check_sample_weight_equivalence_on_dense_data": "an input is left out with all its weight, "
    "a repeated one is still there"
}


def close(found: Any, wanted: Any, ridge: float, size: float = 1.0) -> None:
    """Compare up to what the condition of K + ridge I lets rounding do."""
    condition = np.linalg.norm(K, 2) / ridge + 1
    assert_allclose(found, wanted, rtol=0, atol=50 * EPS * condition * size)


@pytest.mark.slow
@parametrize_with_checks(
    [KernelRidge(), KernelRidgeCV(), KernelClassifier()],
    expected_failed_checks=lambda one: {} if isinstance(one, KernelRidge) else LEFT_OUT,
)
def test_conventions_of_scikit_learn(estimator: Any, check: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check(estimator)


# --- Ridge regression ----------------------------------------------------------------------------


@pytest.mark.parametrize("ridge", [1e-3, 1.0])
@pytest.mark.parametrize("columns", [0, slice(None)], ids=["vector", "matrix"])
def test_ridge_follows_the_formula(ridge: float, columns: Any) -> None:
    y = Y[:, columns]
    model = KernelRidge(NET, ridge).fit(X, y)
    A = np.linalg.solve(K + ridge * np.eye(40), y)
    close(model.dual_coef_, A, ridge, np.abs(A).max())
    close(model.predict(Z), KZ @ A, ridge, 10)
    assert model.predict(Z).shape == KZ.shape[:1] + y.shape[1:]
    assert model.solution_ is not None
    assert model.solution_.converged


def test_a_mean_that_is_lost_is_said() -> None:
    y = 100 + np.sin(X[:, 0])
    with pytest.warns(UserWarning, match=r"y: column 0 has mean 100 .*no constant term"):
        KernelRidgeCV(NET).fit(X, y)
    KernelRidgeCV(NET).fit(X, y - y.mean())  # warnings are errors


@pytest.mark.parametrize("progress", [True, False])
def test_predictions_show_a_bar(progress: bool, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("tqdm")
    model = KernelRidge(NET).fit(X, Y)
    wanted = model.predict(Z)
    capsys.readouterr()
    assert_array_equal(model.set_params(progress=progress).predict(Z), wanted)
    assert ("predict" in capsys.readouterr().err) == progress


@pytest.mark.parametrize("method", ["cholesky", "eigh", "cg"])
@pytest.mark.parametrize("weights", [W, np.full(40, 3.0), 0.5, W * (np.arange(40) % 4 > 0)])
def test_weights_are_those_of_scikit_learn(weights: Any, method: str) -> None:
    ridge = 0.01
    other = sklearn.kernel_ridge.KernelRidge(alpha=ridge, kernel="precomputed")
    wanted = other.fit(K, Y, sample_weight=weights).predict(KZ)
    model = KernelRidge(NET, ridge, method=method, tol=1e-13).fit(X, Y, sample_weight=weights)
    close(model.predict(Z), wanted, ridge / 3, 10)


def test_weight_zero_is_leaving_out_and_two_is_repeating() -> None:
    counts = np.arange(40) % 3
    repeated = np.repeat(np.arange(40), counts)
    for model in (KernelRidge(NET, 0.1), KernelRidgeCV(NET, [0.1])):
        weighted = model.fit(X, Y, sample_weight=counts).predict(Z)
        assert len(model.X_fit_) == np.count_nonzero(counts)
        close(weighted, model.fit(X[repeated], Y[repeated]).predict(Z), 0.1, 10)


@pytest.mark.parametrize(
    ("network", "kind"),
    [(nf.ResNet(3, alpha=0.3), "nngp"), (nf.Laplace(1.0, inputs="euclidean"), "ntk")],
)
def test_kinds_and_kernels(network: Any, kind: str) -> None:
    kernel = getattr(network, kind, network)
    model = KernelRidge(network, 0.1, kind=kind).fit(X, Y)
    wanted = kernel(Z, X) @ np.linalg.solve(kernel(X) + 0.1 * np.eye(40), Y)
    assert_allclose(model.predict(Z), wanted, atol=1e-11)
    assert_array_equal(KernelRidge(kernel, 0.1, kind=kind).fit(X, Y).predict(Z), model.predict(Z))


def test_single_precision_is_kept_and_computed_in_double() -> None:
    single = X.astype("f4"), Z.astype("f4")
    double = KernelRidge(NET, 1e-4).fit(single[0].astype("f8"), Y).predict(single[1].astype("f8"))
    found = KernelRidge(NET, 1e-4).fit(single[0], Y).predict(single[1])
    assert found.dtype == np.float32
    assert_array_equal(found, double.astype("f4"))


def test_images_and_sequences() -> None:
    images = generator.normal(size=(12, 4, 4, 2))
    ragged = nf.sequences([generator.normal(size=(k, 2)) for k in (3, 5, 2, 4, 6, 3, 3, 2)])
    for network, inputs in ((nf.Convolutional(1), images), (nf.Recurrent(1), ragged)):
        y = np.arange(len(inputs)) % 3
        A = np.linalg.solve(network.ntk(inputs) + 0.1 * np.eye(len(y)), y)
        model = KernelRidge(network, 0.1).fit(inputs, y)
        few = inputs[np.array([0, 2, 5])]
        assert_allclose(model.predict(few), network.ntk(few, inputs) @ A, rtol=1e-9)
        found = np.concatenate([f for _, f in model.predict_chunks(inputs, rows=5)])
        assert_allclose(found, model.predict(inputs), rtol=1e-12)
        classes = KernelClassifier(network).fit(inputs, y).predict(few)
        assert set(classes) <= {0, 1, 2}
    with pytest.raises(ValueError, match=r"X: expected sequences of 2 channels .* 1"):
        model.predict([np.ones(3)])


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_one_row_duplicates_and_constants(estimator: Any) -> None:
    if estimator is not KernelClassifier:
        one = estimator(NET).fit(X[:1], [3.0])
        assert one.predict(X[:1]).shape == (1,)
        zeros = estimator(NET).fit(X, np.zeros(40))
        assert_array_equal(zeros.predict(Z), np.zeros(15))
        twice = estimator(NET).fit(np.repeat(X, 2, axis=0), np.repeat(Y, 2, axis=0))
        assert np.isfinite(twice.predict(Z)).all()
    else:
        twice = estimator(NET).fit(np.repeat(X, 2, axis=0), np.repeat(LABELS, 2))
        assert_array_equal(twice.predict(X[:5]), LABELS[:5])


def test_ridge_zero() -> None:
    assert_allclose(KernelRidge(NET, 0.0).fit(X, Y).predict(X), Y, atol=1e-9)
    copies = np.repeat(X[:5], 2, axis=0)
    with pytest.raises(np.linalg.LinAlgError):
        KernelRidgeCV(NET, [0.0]).fit(copies, np.arange(10.0))
    path = KernelRidgeCV(NET, [0.0, 0.1]).fit(copies, np.arange(10.0))
    assert path.ridge_ == 0.1
    assert path.scores_[0] == np.inf


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: KernelRidge(NET, -1.0).fit(X, Y), ValueError, "ridge: expected a finite number"),
        (lambda: KernelRidge("fc").fit(X, Y), TypeError, "kernel: expected a Kernel, got str"),
        (lambda: KernelRidge(NET, kind="x").fit(X, Y), ValueError, "kind: expected one of"),
        (lambda: KernelRidge(NET.ntk, kind="nngp").fit(X, Y), ValueError, "kind: expected 'ntk'"),
        (lambda: KernelRidge(NET).fit(X, Y[:9]), ValueError, r"y: expected shape \(40, \*\)"),
        (lambda: KernelRidge(NET).fit(X, None), ValueError, "requires y to be passed"),
        (
            lambda: KernelRidge(NET).fit(X, np.where(X == X[7], np.nan, X)),
            ValueError,
            "y: expected finite numbers, row 7",
        ),
        (lambda: KernelRidge(NET).fit(sparse.csr_array(X), Y), TypeError, "X: .* got a sparse"),
        (lambda: KernelRidge(NET).fit(X, Y, -W), ValueError, "sample_weight: expected weights >="),
        (lambda: KernelRidge(NET).fit(X, Y, 0 * W), ValueError, "not all of them zero"),
        (lambda: KernelRidge(NET).fit(X, Y, Y), ValueError, r"sample_weight: expected shape"),
        (lambda: KernelRidgeCV(NET, []).fit(X, Y), ValueError, "ridges: expected at least one"),
        (lambda: KernelRidgeCV(NET, criterion="x").fit(X, Y), ValueError, "criterion: expected"),
        (lambda: KernelClassifier(NET, "x").fit(X, LABELS), ValueError, "ridge: expected a number"),
        (lambda: KernelClassifier(NET, None).fit(X, LABELS), TypeError, "ridge: expected a number"),
        (lambda: KernelClassifier(NET).predict(X), NotFittedError, "not fitted"),
        (lambda: KernelClassifier(NET).predict_proba(X), NotFittedError, "not fitted"),
        (lambda: KernelClassifier(NET).fit(X, np.ones(40, int)), ValueError, "got one class, .*1"),
        (lambda: KernelClassifier(NET).fit(X, Y[:, 0] * np.nan), ValueError, "y: .* NaN"),
        (lambda: KernelClassifier(NET).fit(X, Y[:, 0]), ValueError, "continuous"),
        (lambda: KernelRidge(NET).predict(X), NotFittedError, "not fitted"),
        (lambda: KernelRidge(NET).fit(X, Y).predict(X[:, :2]), ValueError, "features"),
        (lambda: KernelRidge(NET).set_params(kernel__width=3), ValueError, "kernel__width"),
    ],
)
def test_what_is_wrong_is_said(make: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()


# --- The path of ridges --------------------------------------------------------------------------


def brute_force(ridge: float, y: Any, weights: Any) -> Any:
    """Predict each input by a model that is fitted to all others."""
    found = np.empty_like(y)
    for i in range(len(y)):
        rest = np.arange(len(y)) != i
        A = K[np.ix_(rest, rest)] + ridge * np.diag(1 / weights[rest])
        found[i] = K[i, rest] @ np.linalg.solve(A, y[rest])
    return found


@pytest.mark.parametrize("weights", [None, W, np.full(40, 2.5)], ids=["none", "unequal", "equal"])
def test_leave_one_out_is_that_of_refits(weights: Any) -> None:
    ridges = [1e-3, 0.03, 1.0]
    model = KernelRidgeCV(NET, ridges).fit(X, Y, sample_weight=weights)
    shares = np.ones(40) if weights is None else weights
    left = [brute_force(ridge, Y, shares) for ridge in ridges]
    scores = [np.average((Y - one) ** 2, axis=0, weights=shares).mean() for one in left]
    close(model.scores_, scores, ridges[0], 10)
    best = int(np.argmin(scores))
    assert model.ridge_ == ridges[best]
    close(model.held_out_, left[best], ridges[best] / 3, 10)
    fixed = KernelRidge(NET, model.ridge_).fit(X, Y, sample_weight=weights)
    close(model.predict(Z), fixed.predict(Z), ridges[best] / 3, 10)


def test_paths_in_parts_leave_out_what_rounding_hides(monkeypatch: pytest.MonkeyPatch) -> None:
    twice, ridges = np.repeat(X[:20], 2, axis=0), [0.0, 1e-3, 1e-20, 0.1, 1.0]
    whole = KernelRidgeCV(NET, ridges).fit(twice, Y)
    monkeypatch.setattr(held_out, "panels", lambda count, size: panels(count, 1, 2))
    parts = KernelRidgeCV(NET, ridges).fit(twice, Y)
    assert np.isinf(whole.scores_).tolist() == [True, False, True, False, False]
    close(parts.scores_, whole.scores_, 1e-3, 10)
    close(parts.dual_coef_, whole.dual_coef_, parts.ridge_, 10)


def test_generalised_cross_validation_follows_the_formula() -> None:
    ridges = np.array([1e-3, 0.03, 1.0])
    model = KernelRidgeCV(NET, ridges, criterion="gcv").fit(X, Y)
    for score, ridge in zip(model.scores_, ridges, strict=True):
        hat = K @ np.linalg.inv(K + ridge * np.eye(40))
        rest = np.sum((Y - hat @ Y) ** 2) / 2
        close(score, 40 * rest / (40 - np.trace(hat)) ** 2, ridge, 100)
    assert model.ridge_ == ridges[np.argmin(model.scores_)]


def test_default_path_follows_the_diagonal() -> None:
    model = KernelRidgeCV(NET).fit(X, Y)
    mean = np.trace(K) / 40
    assert_allclose(model.ridges_[[0, -1]] / mean, [1e-8, 10])
    assert model.ridges_[0] < model.ridge_ < model.ridges_[-1]


def test_estimates_above_exact_rows_come_near() -> None:
    options: dict[str, Any] = {"exact_rows": 30, "n_probes": 2000, "random_state": 0}
    ridges = [0.01, 1.0, 100.0]
    for criterion in ("loo", "gcv"):
        exact = KernelRidgeCV(NET, ridges, criterion=criterion).fit(X, Y)
        found = KernelRidgeCV(NET, ridges, criterion=criterion, **options).fit(X, Y)
        # Off-diagonal entries of the inverse are no larger than diagonal ones: 1 / sqrt(2000) each.
        assert_allclose(found.scores_, exact.scores_, rtol=0.1)
        assert found.ridge_ == exact.ridge_
        close(found.predict(Z), exact.predict(Z), 0.01, 10)
        exact = KernelRidgeCV(NET, ridges, criterion=criterion).fit(X, Y, W)
        found = KernelRidgeCV(NET, ridges, criterion=criterion, **options).fit(X, Y, W)
        assert_allclose(found.scores_, exact.scores_, rtol=0.1)
        assert found.ridge_ == exact.ridge_
        close(found.predict(Z), exact.predict(Z), 0.01 / 3, 10)
    assert len(KernelRidgeCV(NET, **options).fit(X, Y).ridges_) == 7
    with pytest.raises(ValueError, match="ridges: expected a finite number > 0"):
        KernelRidgeCV(NET, [0.0], **options).fit(X, Y)


def test_a_path_starts_from_what_it_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    """The guess is the minimum of the energy over all combinations, and saves steps."""
    g = np.random.default_rng(3)
    ridges, B = g.uniform(0.1, 1, 40), g.normal(size=(40, 3))
    known = [(one, np.linalg.solve(K + np.diag(one), B)) for one in g.uniform(1, 9, (2, 40))]
    found, A = held_out._guess(known, ridges, B), K + np.diag(ridges)
    assert found is not None
    for c in range(3):
        basis = np.stack([solution[:, c] for _, solution in known], axis=1)
        wanted = basis @ np.linalg.solve(basis.T @ A @ basis, basis.T @ B[:, c])
        assert_allclose(found[:, c], wanted, rtol=0, atol=1e-9 * np.abs(wanted).max())

    many = g.normal(size=(400, 5))

    def products() -> tuple[int, Any]:
        count: list[int] = []

        class Counted(KernelRidgeCV):
            def _solve(self, *args: Any) -> Any:
                solution = super()._solve(*args)
                count.append(solution.products)
                return solution

        model = Counted(NET, exact_rows=1, method="cg", n_probes=8, random_state=0)
        predicted = model.fit(many, np.abs(many[:, 0])).predict(many[:9])
        return sum(count), predicted

    monkeypatch.setattr("ntkfast.regression.preconditioner.RANK", 1)
    warm = products()
    monkeypatch.setattr(held_out, "_guess", lambda *_: None)
    cold = products()
    assert_allclose(warm[1], cold[1], rtol=0, atol=1e-4)
    assert warm[0] < 0.85 * cold[0]


# --- Classes -------------------------------------------------------------------------------------


@pytest.mark.parametrize("ridge", ["auto", 0.1])
def test_classifier_is_ridge_on_classes(ridge: Any) -> None:
    model = KernelClassifier(NET, ridge).fit(X, LABELS)
    assert_array_equal(model.classes_, ["cat", "dog", "owl"])
    hot = (LABELS[:, None] == model.classes_).astype(float)
    values = KernelRidge(NET, model.ridge_).fit(X, hot - 1 / 3).predict(Z)
    close(model.decision_function(Z), values, model.ridge_, 10)
    plain = KernelRidge(NET, model.ridge_).fit(X, hot).predict(Z)
    assert_array_equal(model.predict(Z), model.classes_[plain.argmax(axis=1)])
    if ridge == "auto":
        assert model.ridge_ == KernelRidgeCV(NET).fit(X, hot - 1 / 3).ridge_
    close(model.held_out_, brute_force(model.ridge_, hot - 1 / 3, np.ones(40)), model.ridge_, 10)
    proba = model.predict_proba(Z)
    assert_allclose(proba, softmax(values / model.temperature_, axis=1), rtol=1e-8)
    assert_array_equal(model.classes_[proba.argmax(axis=1)], model.predict(Z))


def test_two_classes_are_their_difference() -> None:
    y = LABELS == "dog"
    model = KernelClassifier(NET, 0.1).fit(X, y)
    wanted = KernelRidge(NET, 0.1).fit(X, np.where(y, 1.0, -1.0)).predict(Z)
    close(model.decision_function(Z), wanted, 0.1, 10)
    assert_array_equal(model.predict(Z), wanted > 0)
    assert_allclose(model.predict_proba(Z)[:, 1], 1 / (1 + np.exp(-wanted / model.temperature_)))
    single = model.predict_proba(Z.astype("f4"))
    assert single.dtype == np.float32


def test_temperature_has_the_largest_likelihood() -> None:
    model = KernelClassifier(NET, 0.1).fit(X, LABELS)
    right = model.classes_ == LABELS[:, None]
    smooth = np.where(right, 41 / 43, 1 / 43)

    def loss(factor: float) -> float:
        return -float(np.sum(smooth * log_softmax(factor * model.held_out_, axis=1)))

    wanted = minimize_scalar(loss, bracket=(0.1, 10)).x
    assert_allclose(1 / model.temperature_, wanted, rtol=1e-4)


def test_probabilities_keep_the_order_where_held_out_values_mislead() -> None:
    model = KernelClassifier(NET, 0.1).fit(X[:2], [0, 1])  # each is predicted from the other class
    proba = model.predict_proba(X[:2])
    assert_array_equal(proba.argmax(axis=1), [0, 1])
    assert_allclose(proba, 0.5, atol=0.01)


def test_column_of_classes_warns() -> None:
    with pytest.warns(DataConversionWarning):
        KernelClassifier(NET).fit(X, LABELS[:, None])


# --- Parameters ----------------------------------------------------------------------------------


def test_parameters_of_networks_are_parameters() -> None:
    model = KernelRidge(nf.ResNet(2, alpha=0.3).nngp)
    assert model.get_params()["kernel__alpha"] == 0.3
    assert "kernel__alpha" not in model.get_params(deep=False)
    copy = clone(model).set_params(kernel__alpha=0.5, ridge=2.0)
    assert copy.kernel == nf.ResNet(2, alpha=0.5).nngp
    assert model.kernel == nf.ResNet(2, alpha=0.3).nngp
    copy.set_params(kernel=nf.FullyConnected(1), kernel__parameterization="ntk", kernel__b_std=0.2)
    assert copy.kernel == nf.FullyConnected(1, parameterization="ntk", b_std=0.2)
    assert KernelRidge().set_params(kernel__depth=4).kernel == nf.FullyConnected(4)
    assert KernelRidge(nf.Laplace(1.0)).set_params(kernel__c=2.0).kernel == nf.Laplace(2.0)
    conv = KernelRidge(nf.ConvNet(nf.Conv(), "relu")).set_params(kernel__readout="flatten")
    assert clone(conv).kernel == nf.ConvNet(nf.Conv(), "relu", readout="flatten")


def test_grid_search() -> None:
    net = nf.FullyConnected(1, parameterization="ntk")
    grid = {"kernel__depth": [1, 3], "kernel__w_std": [1.0, 2.0], "kernel__b_std": [0.0, 0.1]}
    found = GridSearchCV(KernelRidgeCV(net), grid, cv=3).fit(X, Y)
    assert found.best_estimator_.kernel == nf.FullyConnected(
        parameterization="ntk",
        **{name.removeprefix("kernel__"): value for name, value in found.best_params_.items()},
    )
    residual = GridSearchCV(KernelClassifier(nf.ResNet(2, alpha=1.0)), {"kernel__alpha": [0.1, 1]})
    process = GridSearchCV(GaussianProcess(net, tune=()), grid | {"noise": [0.01, 0.1]}, cv=2)
    assert process.fit(X, Y).best_params_["noise"] in (0.01, 0.1)
    flow = GridSearchCV(GradientFlow(net), {"network__depth": [1, 2], "ridge": [0.1, 1.0]}, cv=2)
    assert flow.fit(X, Y).best_params_["network__depth"] in (1, 2)
    assert residual.fit(X, LABELS).best_estimator_.kernel.alpha in (0.1, 1)


def test_pipelines_and_images_in_cross_validation() -> None:
    model = make_pipeline(StandardScaler(), KernelRidge(NET, 0.1)).fit(X, Y)
    assert model.score(X, Y) > 0.9
    images = generator.normal(size=(12, 4, 4, 1))
    y = images.mean(axis=(1, 2, 3))
    assert len(cross_val_score(KernelRidge(nf.Convolutional(1), 0.1), images, y, cv=3)) == 3


# --- Parts, files --------------------------------------------------------------------------------


def test_chunks_of_memory_maps_and_iterables(tmp_path: Path) -> None:
    model = KernelClassifier(NET).fit(X, LABELS)
    np.save(tmp_path / "Z.npy", Z)
    mapped = np.load(tmp_path / "Z.npy", mmap_mode="r")
    wanted = model.predict_proba(Z)
    for source in (mapped, iter([Z[:6], Z[6:]])):
        parts = list(model.predict_chunks(source, rows=6, method="predict_proba"))
        assert parts[0][0] == slice(0, 6)
        assert_allclose(np.concatenate([values for _, values in parts]), wanted, rtol=1e-12)
    bad = np.where(np.arange(15)[:, None] == 13, np.nan, Z)
    with pytest.raises(ValueError, match="row 1 holds NaN") as caught:
        list(model.predict_chunks(bad, rows=6))
    assert caught.value.__notes__ == ["rows are counted from row 12 of X on"]
    with pytest.raises(NotFittedError):
        next(KernelRidge().predict_chunks(Z))


BLOCK = nf.Skip("relu", nf.Conv())
SAVED = [
    (nf.FullyConnected(2, activation="leaky_relu(0.1)").nngp, X),
    (nf.compose(nf.Dense(1.5), nf.Residual("gelu", nf.Dense()), "erf", nf.Dense()), X),
    (nf.Gaussian(0.5, inputs="euclidean"), X),
    (None, X.astype("f4")),
    (nf.ConvNet(nf.Conv(), BLOCK, nf.AvgPool(), "relu", readout="flatten"), X[:, :1, None, None]),
    (nf.Convolutional(1, shape=(1, 3, 1)), X),
    (nf.Recurrent(1, b_std=0.1), nf.sequences(list(X[:, :, None]))),
]


@pytest.mark.parametrize(("kernel", "inputs"), SAVED, ids=lambda one: type(one).__name__)
def test_saved_models_predict_the_same_bits(kernel: Any, inputs: Any, tmp_path: Path) -> None:
    if isinstance(kernel, nf.ConvNet):
        inputs = np.broadcast_to(inputs, (40, 2, 2, 1)).copy()
    file = tmp_path / "model.npz"
    for model in (
        KernelRidge(kernel, 0.1).fit(inputs, Y),
        KernelClassifier(kernel).fit(inputs, LABELS.astype(object)),
    ):
        model.save(file)
        again = load(file)
        assert type(again) is type(model)
        assert again.get_params() == model.get_params()
        assert again.kernel_ == model.kernel_
        assert_array_equal(again.predict(inputs), model.predict(inputs), strict=True)
        assert [path.name for path in tmp_path.iterdir()] == ["model.npz"]


def test_files_hold_nothing_of_the_run(tmp_path: Path) -> None:
    model = KernelRidge(NET, 0.1, progress=False, engine="numba", threads=1, tol=1e-3)
    model.fit(X, Y).save(tmp_path / "model.npz")
    again = load(tmp_path / "model.npz")
    assert (again.progress, again.engine, again.threads) == (None, None, None)
    assert (again.ridge, again.tol) == (0.1, 1e-3)
    again.set_params(engine="numba")
    assert_array_equal(again.predict(X), model.predict(X))


def test_activations_with_a_name_are_described_by_it() -> None:
    network = nf.compose(nf.Dense(), "tanh", nf.Dense())
    text = json.dumps(described(network.nngp))
    assert '"tanh"' in text
    assert rebuilt(json.loads(text)) == network.nngp


class Own(nf.Laplace):
    """A kernel of somebody else."""


def square(u: np.ndarray) -> np.ndarray:
    return u * u


def test_functions_come_with_the_network(tmp_path: Path) -> None:
    """Files name them, and know if they are others."""
    file = tmp_path / "model.npz"
    stated = nf.Dual(square, lambda u: 2 * u, degree=1)
    for one, other in (
        (np.arctan, lambda x: np.arctan(2 * x)),
        (stated, nf.Dual(square, lambda u: 2 * u, degree=2)),
    ):
        if not isinstance(other, nf.Dual):
            other.__name__ = "arctan"
        net = nf.compose(nf.Dense(1.2), nf.Residual(one, nf.Dense()), one, nf.Dense())
        model = KernelRidge(net, ridge=0.1).fit(X, Y)
        model.save(file)
        again = load(file, network=net.nngp + nf.Laplace())
        np.testing.assert_array_equal(again.predict(X), model.predict(X))
        assert again.kernel == net
        name = "arctan" if one is np.arctan else r"Dual\(square\)"
        with pytest.raises(ValueError, match=f"network: expected one with the activation {name}"):
            load(file)
        with pytest.raises(ValueError, match="got another function of this name"):
            load(file, network=nf.FullyConnected(1, activation=other))


def test_what_a_file_cannot_hold_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "model.npz"
    model = KernelRidge().fit(X, Y)
    with pytest.raises(TypeError, match=r"kernel: expected .*, got the class Own"):
        model.set_params(kernel=Own(1.0)).save(file)
    with pytest.raises(ValueError, match=r"path: expected one of \.npz"):
        KernelRidge().fit(X, Y).save(tmp_path / "model.pickle")
    with pytest.raises(TypeError, match="random_state: expected a number"):
        KernelRidgeCV(random_state=np.random.RandomState(0)).fit(X, Y).save(file)
    with pytest.raises(NotFittedError):
        KernelRidge().save(file)
    assert not list(tmp_path.iterdir())


def test_files_that_are_no_models_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "model.npz"
    with pytest.raises(FileNotFoundError, match="no such file"):
        load(file)
    file.write_bytes(b"PK no archive")
    with pytest.raises(ValueError, match="expected a model that save wrote"):
        load(file)
    np.savez(file, X=X)
    with pytest.raises(ValueError, match="expected a model that save wrote"):
        load(file)
    model = KernelRidge(NET).fit(X, Y)
    for change, message in (
        ({"format": 99}, "expected format 1, got 99"),
        ({"class": "Popen"}, "cannot be restored"),
        ({"parameters": {"kernel": {"class": "os.system", "command": "true"}}}, "description of a"),
        ({"parameters": {"kernel": {"class": "kernel", "network": 3, "kind": "ntk"}}}, "no kernel"),
    ):
        model.save(file)
        with np.load(file) as archive:
            arrays = dict(archive)
        text = json.loads(arrays["model"].tobytes()) | change
        arrays["model"] = np.frombuffer(json.dumps(text).encode(), np.uint8)
        np.savez(file, **arrays)
        with pytest.raises(ValueError, match=message):
            load(file)


@pytest.mark.slow
def test_solve_works_without_scikit_learn() -> None:
    code = (
        "import sys; sys.modules['sklearn'] = None\n"
        "import numpy as np, ntkfast as nf\n"
        "X = np.eye(3)\n"
        "assert nf.regression.solve(nf.FullyConnected(1).ntk, X, X, 0.1).converged\n"
        "try:\n"
        "    nf.regression.KernelRidge\n"
        "except ImportError as error:\n"
        "    print(error)\n"
    )
    paths = {**os.environ, "PYTHONPATH": str(Path(nf.__file__).parents[1])}
    command = [sys.executable, "-c", code]
    found = subprocess.run(command, env=paths, capture_output=True, text=True, timeout=100)
    assert found.stdout == "this needs scikit-learn: pip install 'ntkfast[sklearn]'\n", found.stderr
