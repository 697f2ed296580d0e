"""Flips and features of random patches, against loops over pixels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ntkfast.preprocessing import RandomPatches, flips

X = np.random.default_rng(0).uniform(0, 255, size=(5, 7, 6, 2))


def test_flips() -> None:
    both, y = flips(X, np.arange(5))
    assert np.array_equal(both[:5], X) and np.array_equal(both[5:], np.flip(X, axis=2))
    assert y.tolist() == [*range(5), *range(5)]
    assert flips(X.astype(np.float32)).dtype == np.float32
    with pytest.raises(ValueError, match=r"others\[0\]: expected 5, one per image, got 4"):
        flips(X, np.arange(4))


def slow(model: Any, image: np.ndarray) -> np.ndarray:
    """Return the features of one image, patch by patch."""
    weights, offsets, _ = model.fitted_
    rows, columns = (size - model.size + 1 for size in image.shape[:2])
    found = np.zeros((rows // model.pool, columns // model.pool, 2 * model.filters))
    for i in range(rows // model.pool * model.pool):
        for j in range(columns // model.pool * model.pool):
            patch = image[i : i + model.size, j : j + model.size]
            p = np.moveaxis(patch, 2, 0).ravel()
            p = (p - p.mean()) / np.sqrt(p.var() + model.normalize)
            along = p @ weights - offsets
            cell = found[i // model.pool, j // model.pool]
            cell[: model.filters] += np.maximum(along - model.bias, 0)
            cell[model.filters :] += np.maximum(-along - model.bias, 0)
    return found / model.pool**2


@pytest.mark.parametrize("pool", [1, 2])
def test_random_patches(pool: int) -> None:
    model = RandomPatches(9, size=3, pool=pool, bias=0.5, samples=500).fit(X)
    found = model.transform(X)
    np.testing.assert_allclose(found, [slow(model, image) for image in X], rtol=1e-10, atol=1e-12)
    assert np.array_equal(model.transform(X[2:3])[0], found[2])
    assert np.array_equal(RandomPatches(9, size=3, pool=pool, bias=0.5, samples=500).fit(X)
                          .transform(X), found)  # fmt: skip


def test_whitening() -> None:
    """Without a floor the covariance of whitened patches is the identity in all directions."""
    model = RandomPatches(40, size=2, bias=0.0, samples=4000, whiten=1e-9, normalize=1e-9).fit(X)
    windows = model._windows(X)
    rng = np.random.default_rng(0)
    places = tuple(rng.integers(size, size=4000) for size in windows.shape[:3])
    assert len(places[0]) == 4000  # the patches that `fit` drew, from the same numbers
    seen = model._normalised(windows[places].reshape(4000, -1))
    weights, offsets, _ = model.fitted_
    np.testing.assert_allclose(np.var(seen @ weights - offsets, axis=0), 1, rtol=1e-3)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RandomPatches(0), "filters: expected"),
        (lambda: RandomPatches(bias=-1.0), "bias: expected"),
        (lambda: RandomPatches().transform(X), "transform: expected fit before it"),
        (lambda: RandomPatches(4, size=7).fit(X), "size: expected images of at least 7 rows"),
        (
            lambda: RandomPatches(4, size=3).fit(X).transform(X[:, 1:]),
            "X: expected images of shape",
        ),
    ],
)
def test_bad_input(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
