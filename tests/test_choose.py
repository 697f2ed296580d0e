"""The choice of a feature map, and landmarks by leverage scores."""

from __future__ import annotations

import numpy as np
import pytest

import ntkfast as nf

pytest.importorskip("sklearn")

from ntkfast import features
from ntkfast.datasets import load_digits
from ntkfast.features.nystrom import leverage_scores, weighted_sample

KERNEL = nf.FullyConnected(2).ntk


def test_the_smallest_error_wins() -> None:
    X = load_digits()[0][:900] / 16
    found = features.choose(KERNEL, X, 128, n_draws=2)
    assert [one.name for one in found.table[:2]] == ["NystromFeatures", "DualActivationFeatures"]
    assert found.features is found.table[0].features
    assert len(found.table) == 4 and not any(one.reason for one in found.table)
    errors = [one.error.frobenius.mean for one in found.table if one.error]
    assert errors == sorted(errors)
    assert found.features.fit_transform(X).shape == (900, 128)
    lines = str(found).splitlines()
    assert len(lines) == 5 and lines[1].startswith("* NystromFeatures")


def test_maps_that_are_too_slow_get_fewer_features() -> None:
    X = np.random.default_rng(0).normal(size=(300, 5))
    slow = features.NTKSketch(KERNEL, 128)
    fast = features.DualActivationFeatures(KERNEL, 128)
    limit = features.choose(KERNEL, X, 128, candidates=[fast], n_draws=1).table[0].seconds * 20
    found = features.choose(KERNEL, X, 128, seconds=limit, candidates=[slow, fast], n_draws=1)
    by_name = {one.name: one for one in found.table}
    assert by_name["DualActivationFeatures"].features.n_components == 128
    sketch = by_name["NTKSketch"]
    assert sketch.features.n_components < 128 or sketch.reason or sketch.seconds <= limit
    assert slow.n_components == 128


def test_candidates_that_do_not_fit_are_named() -> None:
    X = np.random.default_rng(0).normal(size=(60, 5))
    wrong = features.DualActivationFeatures(KERNEL, 16, exact=2)
    large = features.ArcCosineFeatures(n_components=32)
    found = features.choose(
        KERNEL, X, 16, candidates=[wrong, large, features.NystromFeatures(KERNEL, 16)], n_draws=1
    )
    assert found.table[0].name == "NystromFeatures"
    reasons = {one.name: one.reason for one in found.table[1:]}
    assert "n_components: expected more than" in reasons["DualActivationFeatures"]
    assert reasons["ArcCosineFeatures"] == "has more than 16 features"
    with pytest.raises(ValueError, match=r"candidates: expected one that is eligible, but Arc"):
        features.choose(KERNEL, X, 16, candidates=[large], n_draws=1)


def test_bad_arguments() -> None:
    X = np.random.default_rng(0).normal(size=(60, 5))
    with pytest.raises(ValueError, match="X: expected at least 20 rows, got 19"):
        features.choose(KERNEL, X[:19])
    with pytest.raises(ValueError, match="criterion: expected one of 'frobenius'"):
        features.choose(KERNEL, X, criterion="x")
    with pytest.raises(ValueError, match="budget: expected an integer >= 1"):
        features.choose(KERNEL, X, 0)
    with pytest.raises(TypeError, match="candidates: expected a sequence of at least one feature"):
        features.choose(KERNEL, X, candidates=[])
    with pytest.raises(TypeError, match="kernel: expected a Kernel, got FullyConnected"):
        features.choose(nf.FullyConnected(2), X)


def test_errors_on_other_rows() -> None:
    X = np.random.default_rng(0).normal(size=(300, 8))
    nystrom = features.NystromFeatures(KERNEL, 60)
    seen = features.error(KERNEL, nystrom, X[:150], n_draws=2)
    unseen = features.error(KERNEL, nystrom, X[:150], test=X[150:], n_draws=2)
    assert unseen.frobenius.mean > 1.2 * seen.frobenius.mean


def test_leverage_scores_are_near_the_exact_ones() -> None:
    """From a sample of all rows they are exact; rare rows have the largest ones."""
    generator = np.random.default_rng(0)
    X = generator.normal(size=(200, 4)) * 0.05 + np.array([1.0, 0, 0, 0])
    X[:5] = generator.normal(size=(5, 4)) - np.array([2.0, 0, 0, 0])
    K = KERNEL(X)
    values = np.linalg.eigvalsh(K)
    ridge = values[: len(X) - 100].sum() / 100
    exact = np.diagonal(K @ np.linalg.inv(K + ridge * np.eye(len(X))))
    found = leverage_scores(KERNEL, X, 100, generator)
    np.testing.assert_allclose(found, exact, rtol=1e-6)
    assert found[:5].min() > 1.4 * np.median(found)


def test_weighted_samples_follow_the_weights() -> None:
    generator = np.random.default_rng(0)
    first = [
        int(weighted_sample(np.array([1.0, 2.0, 0.0, 5.0]), 1, generator)[0]) for _ in "x" * 4000
    ]
    shares = np.bincount(first, minlength=4) / 4000
    # Standard errors are below 0.008: five of them.
    np.testing.assert_allclose(shares, [0.125, 0.25, 0, 0.625], atol=0.04)
    assert len(set(weighted_sample(np.ones(10), 10, generator).tolist())) == 10
