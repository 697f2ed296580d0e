"""Classes, weights and error bars on features of rows that come in parts."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import ntkfast as nf

pytest.importorskip("sklearn")

from scipy import sparse
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import Ridge, RidgeClassifier
from sklearn.model_selection import cross_val_score
from sklearn.utils.estimator_checks import parametrize_with_checks

from ntkfast.features import (
    CountSketch,
    DualActivationFeatures,
    FeatureClassifier,
    FeatureRidge,
    NystromFeatures,
)

generator = np.random.default_rng(5)
X = generator.normal(size=(400, 4))
Y = np.stack([np.abs(X[:, 0]) + 50, X[:, 1] * X[:, 2]], axis=1) + 0.1 * generator.normal(
    size=(400, 2)
)
W = generator.uniform(0, 3, size=400) * (np.arange(400) % 5 > 0)
LABELS = np.array(["cat", "dog", "owl"])[np.digitize(X[:, 0] + X[:, 1] ** 2, [0.2, 1.3])]
FEATURES = DualActivationFeatures(nf.FullyConnected(2).ntk, 40, random_state=0)
F = FEATURES.fit_transform(X)
PARTS = slice(0, 30), slice(30, 310), slice(310, 400)


# --- Weights and error bars of FeatureRidge ------------------------------------------------------


def test_weights_are_those_of_scikit_learn() -> None:
    wanted = Ridge(0.1, solver="svd").fit(F, Y, sample_weight=W).predict(F)
    model = FeatureRidge(FEATURES, alpha=0.1)
    for part in PARTS:
        model.partial_fit(X[part], Y[part], W[part])
    halves = [
        FeatureRidge(FEATURES, 0.1).fit(X[h], Y[h], W[h]) for h in (slice(200), slice(200, 400))
    ]
    for one in (
        model,
        halves[0].merge(halves[1]),
        FeatureRidge(FEATURES, 0.1).fit(X, Y, sample_weight=W),
        FeatureRidge(FEATURES, 0.1).fit((X[p], Y[p], W[p]) for p in PARTS),
        FeatureRidge(FEATURES, 0.1).fit(sparse.csr_array(X), Y, W),
    ):
        assert_allclose(one.predict(X), wanted, rtol=0, atol=1e-8)
        assert one.n_samples_seen_ == np.count_nonzero(W)


def test_equal_weights_change_the_penalty_alone() -> None:
    wanted = FeatureRidge(FEATURES, [0.01, 0.1, 1.0]).fit(X, Y)
    model = FeatureRidge(FEATURES, [0.04, 0.4, 4.0]).fit(X, Y, np.full(400, 4.0))
    assert_allclose(model.scores_, wanted.scores_, rtol=1e-9)
    assert_allclose(model.predict(X), wanted.predict(X), atol=1e-8)


@pytest.mark.parametrize("weights", [None, W], ids=["none", "unequal"])
def test_error_bars_follow_the_formula(weights: Any) -> None:
    alpha, w = 0.3, np.ones(400) if weights is None else weights
    mean = np.average(F, axis=0, weights=w)
    G = (F - mean) * np.sqrt(w)[:, None]
    y = (Y - np.average(Y, axis=0, weights=w)) * np.sqrt(w)[:, None]
    inverse = np.linalg.inv(G.T @ G + alpha * np.eye(F.shape[1]))
    hat = G @ inverse @ G.T
    noise = np.sum((y - hat @ y) ** 2, axis=0) / (np.count_nonzero(w) - 1 - np.trace(hat))
    new = FEATURES.transform(X[:7] + 1) - mean
    wanted = np.sqrt((1 + 1 / w.sum() + np.sum(new @ inverse * new, axis=1))[:, None] * noise)
    for alphas in (alpha, [alpha, 1e6]):
        model = FeatureRidge(FEATURES, alphas).fit(X, Y, weights)
        f, std = model.predict(X[:7] + 1, return_std=True)
        assert_allclose(std, wanted, rtol=1e-7)
        assert_array_equal(f, model.predict(X[:7] + 1))
    model = FeatureRidge(FEATURES, alpha).fit(X, Y[:, 1], weights)
    f, std = model.predict(X[:7] + 1, return_std=True)
    assert f.shape == std.shape == (7,)
    assert_allclose(std, wanted[:, 1], rtol=1e-7)
    model.partial_fit(X, Y[:, 1] + 30 * (np.arange(400) % 2))  # the noise is that of all rows
    assert model.predict(X[:7] + 1, return_std=True)[1].min() > 5


def test_error_bars_cover_what_they_say() -> None:
    noise = np.random.default_rng(1).normal(size=(2, 400))
    X_new = np.random.default_rng(2).normal(size=(400, 4))
    model = FeatureRidge(FEATURES, 0.1).fit(X, X[:, 0] + noise[0])
    f, std = model.predict(X_new, return_std=True)
    inside = np.mean(np.abs(X_new[:, 0] + noise[1] - f) < std)
    assert abs(inside - 0.683) < 4 * np.sqrt(0.683 * 0.317 / 400)


def test_weights_and_error_bars_that_make_no_sense() -> None:
    model = FeatureRidge(FEATURES)
    for bad, message in (
        (-W, "sample_weight: expected weights >= 0, row"),
        (W[1:], r"sample_weight: expected shape \(400,\)"),
        (Y, r"sample_weight: expected shape \(400,\)"),
        (W * np.nan, "sample_weight: expected finite numbers"),
    ):
        with pytest.raises(ValueError, match=message):
            model.fit(X, Y, bad)
    with pytest.raises(ValueError, match="not all of them zero"):
        model.fit(X, Y, 0 * W)
    with pytest.raises(ValueError, match="triples of an iterable"):
        model.fit(iter([(X, Y)]), sample_weight=W)
    with pytest.raises(ValueError, match="alpha: expected one that leaves errors"):
        model.fit(X[:1], Y[:1]).predict(X, return_std=True)


@pytest.mark.slow
@parametrize_with_checks(
    [FeatureClassifier(DualActivationFeatures(n_components=40, random_state=0))]
)
def test_conventions_of_scikit_learn(estimator: Any, check: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check(estimator)


# --- Classes -------------------------------------------------------------------------------------


@pytest.mark.parametrize("weights", [None, W], ids=["none", "unequal"])
@pytest.mark.parametrize("two", [False, True])
def test_classes_are_those_of_scikit_learn(two: bool, weights: Any) -> None:
    y = LABELS == "dog" if two else LABELS
    other = RidgeClassifier(0.1, solver="svd").fit(F, y, sample_weight=weights)
    values = other.decision_function(F)
    wanted = values if two else (values + 1) / 2 - 1 / 3  # its targets are 1 and -1 throughout
    parted = FeatureClassifier(FEATURES, 0.1)
    for part in PARTS:
        some = None if weights is None else weights[part]
        parted.partial_fit(X[part], y[part], some, classes=np.unique(y))
    for model in (parted, FeatureClassifier(FEATURES, 0.1).fit(X, y, weights)):
        assert_allclose(model.decision_function(X), wanted, atol=1e-8)
        assert_array_equal(model.predict(X), other.predict(F))
        assert_array_equal(model.classes_, other.classes_)


def test_classes_of_iterables_sparse_rows_and_merged_models() -> None:
    alphas = [0.01, 1.0]
    wanted = FeatureClassifier(FEATURES, alphas).fit(X, LABELS)
    assert wanted.ridge_.alpha_ in alphas
    classes = np.unique(LABELS)
    streamed = FeatureClassifier(FEATURES, alphas)
    streamed.fit(((X[p], LABELS[p]) for p in PARTS), classes=classes)
    merged = FeatureClassifier(FEATURES, alphas).partial_fit(X[:90], LABELS[:90], classes=classes)
    rest = FeatureClassifier(FEATURES, alphas).partial_fit(X[90:], LABELS[90:], classes=classes)
    sketch = CountSketch(64, random_state=0)
    for one, other in (
        (streamed, wanted),
        (merged.merge(rest), wanted),
        (
            FeatureClassifier(sketch).fit(sparse.csr_array(X), LABELS),
            FeatureClassifier(sketch).fit(X, LABELS),
        ),
    ):
        assert_allclose(one.decision_function(X), other.decision_function(X), atol=1e-8)
    assert np.mean(cross_val_score(clone(wanted), X, LABELS, cv=3)) > 0.7


def test_classes_of_dask_arrays() -> None:
    dask_array = pytest.importorskip("dask.array")
    wanted = FeatureClassifier(FEATURES).fit(X, LABELS)
    rows = dask_array.from_array(X, chunks=(150, 4))
    model = FeatureClassifier(FEATURES).fit(rows, LABELS)
    assert_allclose(model.decision_function(rows).compute(), wanted.decision_function(X), atol=1e-8)
    assert_array_equal(model.predict(rows).compute(), wanted.predict(X))
    with pytest.raises(ValueError, match="sample_weight: expected None for dask arrays"):
        model.fit(rows, LABELS, W)


def test_classes_that_make_no_sense() -> None:
    model = FeatureClassifier(FEATURES)
    with pytest.raises(NotFittedError):
        model.predict(X)
    for y, message in (
        (LABELS[:9], r"y: expected shape \(400,\), got \(9,\)"),
        (np.ones(400), "got one class, np.float64"),
        (np.ones((400, 2), int), r"y: expected classes \(n,\), got shape"),
        (Y[:, 0], "y: expected classes, got continuous numbers"),
    ):
        with pytest.raises(ValueError, match=message):
            model.fit(X, y)
    with pytest.raises(ValueError, match="classes: expected all classes of an iterable"):
        model.fit(iter([(X, LABELS)]))
    model.partial_fit(X, LABELS, classes=["cat", "dog", "owl"])
    for y in (np.full(400, "cow"), np.zeros(400)):
        with pytest.raises(ValueError, match=r"y: expected classes .* got .*; the first"):
            model.partial_fit(X, y)
    with pytest.raises(ValueError, match="classes: expected those of the first call"):
        model.partial_fit(X, LABELS, classes=["cat", "dog"])
    with pytest.raises(ValueError, match="other: expected classes"):
        model.merge(FeatureClassifier(FEATURES).fit(X, LABELS == "cat"))


def test_inputs_that_are_no_rows() -> None:
    """Images as arrays and as rows of pixels give one model; sequences in all their forms."""
    pixels, y = X[:60].repeat(4, axis=1) * generator.normal(size=(60, 16)), X[:60, 0]
    found = []
    for shape, inputs in ((None, pixels.reshape(-1, 4, 4, 1)), ((4, 4, 1), pixels)):
        kernel = nf.Convolutional(1, readout="gap", shape=shape).ntk
        model = FeatureRidge(NystromFeatures(kernel, 20, random_state=0)).fit(inputs, y)
        found.append(model.predict(inputs))
        labels = FeatureClassifier(NystromFeatures(kernel, 20, random_state=0)).fit(inputs, y > 0)
        assert set(labels.predict(inputs)) <= {False, True}
    assert model.n_features_in_ == 16
    assert_allclose(found[0], found[1], rtol=1e-9)
    series = [row[: 8 + i % 5, None] for i, row in enumerate(pixels)]
    for inputs in (series, nf.sequences(series)):
        model = FeatureRidge(NystromFeatures(nf.Recurrent(1).ntk, 20, random_state=0))
        found.append(model.fit(inputs, y).predict(inputs))
    assert_array_equal(found[2], found[3])
    with pytest.raises(TypeError, match="X: expected rows, got sequences"):
        clone(model).set_params(features=FEATURES).fit(series, y)
    with pytest.raises(ValueError, match="X: expected rows of one length"):
        clone(model).set_params(features=FEATURES).fit([[1, 2], [3]], y[:2])
