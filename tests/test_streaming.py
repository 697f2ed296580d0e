"""Ridge regression on features of more rows than memory: in parts, merged, and through dask."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import sparse

import ntkfast as nf

pytest.importorskip("sklearn")

from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import Ridge, RidgeCV

from ntkfast import places
from ntkfast.features import (
    CountSketch,
    DualActivationFeatures,
    FeatureRidge,
    NystromFeatures,
    stream,
)

Array = NDArray[Any]


def gaussian(n: int, d: int, seed: int = 0) -> NDArray[np.float64]:
    return np.random.default_rng(seed).normal(size=(n, d))


@pytest.mark.parametrize("targets", [None, 2])
def test_ridge_in_parts_is_ridge_at_once(targets: int | None, dtype: type) -> None:
    X = gaussian(500, 4).astype(dtype)
    y = np.abs(X[:, 0]) + 100
    y = y if targets is None else np.stack([y, X[:, 1]], axis=1)
    features = DualActivationFeatures(n_components=64, random_state=0)
    model = FeatureRidge(features, alpha=0.1)
    for part in (slice(0, 7), slice(7, 300), slice(300, 500)):
        model.partial_fit(X[part], y[part])
    F = features.fit_transform(X).astype(np.float64)
    wanted = Ridge(0.1, solver="svd").fit(F, y)
    # Normal equations: rounding, of y in float32, times the condition number.
    np.testing.assert_allclose(model.predict(X), wanted.predict(F), atol=1e-7)
    assert model.n_samples_seen_ == 500 and model.predict(X).shape == y.shape
    assert model.coef_.T.shape == wanted.coef_.shape
    np.testing.assert_allclose(model.intercept_, wanted.intercept_, atol=1e-6)
    np.testing.assert_allclose(model.fit(X, y).predict(X), wanted.predict(F), atol=1e-7)
    assert model.n_samples_seen_ == 500


def test_ridge_bad_input() -> None:
    X = gaussian(20, 4)
    model = FeatureRidge(DualActivationFeatures(n_components=16))
    with pytest.raises(NotFittedError, match="this FeatureRidge is not fitted yet"):
        model.predict(X)
    with pytest.raises(ValueError, match=r"y: expected shape \(20,\), got \(19,\)"):
        model.partial_fit(X, X[:19, 0])
    with pytest.raises(ValueError, match="alpha: expected a finite number > 0, got -1"):
        clone(model).set_params(alpha=-1).fit(X, X[:, 0])
    model.fit(X, X[:, 0])
    with pytest.raises(ValueError, match=r"y: expected targets shaped like before, got \(20, 2\)"):
        model.partial_fit(X, X[:, :2])
    with pytest.raises(ValueError, match="is expecting 4 features"):
        model.partial_fit(X[:, :3], X[:, 0])
    before, bad = model.predict(X), X.copy()
    bad[-1, 0] = np.nan
    with pytest.raises(ValueError, match="X: expected finite numbers, row 19 holds NaN"):
        model.partial_fit(bad, X[:, 0])
    assert np.array_equal(model.predict(X), before)


def test_targets_that_make_no_sense() -> None:
    X, bad = gaussian(20, 4), gaussian(20, 2)
    bad[7, 1] = np.nan
    model = FeatureRidge(DualActivationFeatures(n_components=16))
    with pytest.raises(ValueError, match="y: expected one target per row of X, got None"):
        model.fit(X)
    with pytest.raises(ValueError, match="y: expected finite numbers, row 7 holds NaN"):
        model.fit(X, bad)
    twice = np.repeat(X, 2, axis=1)[:, :4]
    with pytest.raises(np.linalg.LinAlgError, match=r"alpha: expected more than .* got 1e-300"):
        model.set_params(alpha=1e-300).fit(twice[:3], twice[:3, 0]).predict(X)


def test_far_from_zero_the_penalty_is_the_same() -> None:
    """Sums of squares around zero would lose all of their digits in 1e16."""
    X, alphas = gaussian(500, 4), (1e-3, 1e-1, 10.0)
    y = np.abs(X[:, 0]) + 0.1 * gaussian(500, 1, 1)[:, 0]
    features = DualActivationFeatures(n_components=64, random_state=0)
    here = FeatureRidge(features, alphas).fit(X[:200], y[:200]).partial_fit(X[200:], y[200:])
    there = FeatureRidge(features, alphas)
    there.fit(X[:200], y[:200] + 1e8).partial_fit(X[200:], y[200:] + 1e8)
    # y + 1e8 itself is rounded to 1.5e-8.
    np.testing.assert_allclose(there.scores_, here.scores_, rtol=1e-6)
    np.testing.assert_allclose(there.predict(X) - 1e8, here.predict(X), atol=1e-6)


def test_maps_are_fitted_to_some_rows_of_the_first_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ntkfast.features.streaming.FIT_ROWS", 100)
    kernel = nf.FullyConnected(2).ntk
    recorded: list[int] = []

    class Recording(NystromFeatures):
        def fit(self, X: Any, y: Any = None) -> Any:
            recorded.append(len(X))
            return super().fit(X, y)

    FeatureRidge(Recording(kernel, 20, random_state=0)).fit(X, Y)
    assert recorded == [100]


FEATURES = DualActivationFeatures(nf.FullyConnected(2).ntk, 60, random_state=0)
X = gaussian(900, 4)
Y = np.abs(X[:, :1]) + X[:, 1:3]


def assert_same(one: FeatureRidge, other: FeatureRidge) -> None:
    assert one.n_samples_seen_ == other.n_samples_seen_
    np.testing.assert_allclose(one.predict(X), other.predict(X), rtol=1e-8, atol=1e-8)


def test_memory_maps_sparse_rows_and_iterables(tmp_path: Path) -> None:
    wanted = FeatureRidge(FEATURES).fit(X, Y)
    np.save(tmp_path / "X.npy", X)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    assert_same(FeatureRidge(FEATURES).fit(mapped, Y), wanted)
    assert_same(FeatureRidge(FEATURES).fit(sparse.csr_array(X), Y), wanted)
    parts = ((X[k : k + 100], Y[k : k + 100]) for k in range(0, 900, 100))
    assert_same(FeatureRidge(FEATURES).fit(parts), wanted)
    assert_same(FeatureRidge(FEATURES).fit(X.tolist(), Y.tolist()), wanted)
    with pytest.raises(ValueError, match="X: expected at least one part, got an empty iterable"):
        FeatureRidge(FEATURES).fit(iter([]))


def test_zarr_arrays(tmp_path: Path) -> None:
    zarr = pytest.importorskip("zarr")
    rows = zarr.create_array(tmp_path / "X.zarr", data=X, chunks=(100, 4))
    targets = zarr.create_array(tmp_path / "y.zarr", data=Y, chunks=(100, 2))
    assert_same(FeatureRidge(FEATURES).fit(rows, targets), FeatureRidge(FEATURES).fit(X, Y))


def test_features_that_are_sparse_sketches() -> None:
    sketch = CountSketch(50, random_state=0)
    wanted = FeatureRidge(sketch).fit(X, Y)
    assert_same(FeatureRidge(sketch).fit(sparse.csr_array(X), Y), wanted)


def test_a_row_that_is_not_finite_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ntkfast.features.streaming.PART_BYTES", 8 * 4 * 100)
    bad = X.copy()
    bad[456, 2] = np.inf
    with pytest.raises(ValueError, match="X: expected finite numbers, row 456 holds NaN"):
        failed = FeatureRidge(FEATURES)
        failed.fit(bad, Y)
    with pytest.raises(NotFittedError):
        failed.predict(X)
    with pytest.raises(ValueError, match=r"y: expected shape \(900, \*\), got \(899, 2\)"):
        FeatureRidge(FEATURES).fit(X, Y[1:])


def test_merged_sums_of_two_processes_are_those_of_all_rows() -> None:
    wanted = FeatureRidge(FEATURES).fit(X, Y)
    one = FeatureRidge(FEATURES).fit(X[:200], Y[:200])
    other = pickle.loads(pickle.dumps(FeatureRidge(FEATURES).fit(X[200:], Y[200:])))
    assert_same(one.merge(other), wanted)
    with pytest.raises(ValueError, match=r"other: expected sums of shape \(60, 2\), got \(60, 1\)"):
        one.merge(FeatureRidge(FEATURES).fit(X, Y[:, :1]))
    with pytest.raises(NotFittedError):
        one.merge(FeatureRidge(FEATURES))
    drawn = FeatureRidge(clone(FEATURES).set_params(random_state=1)).fit(X, Y)
    with pytest.raises(ValueError, match="other: expected the features of this model"):
        one.merge(drawn)
    assert one.n_samples_seen_ == 900


def test_an_error_in_a_later_chunk_adds_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    model = FeatureRidge(FEATURES).fit(X, Y)
    monkeypatch.setattr(places.HOST, "feature_bytes", 8 * 60 * 100)
    calls: list[int] = []
    transform = type(model.features_).transform

    def failing(self: Any, rows: Any) -> Any:
        calls.append(len(rows))
        if len(calls) > 3:
            raise MemoryError
        return transform(self, rows)

    monkeypatch.setattr(type(model.features_), "transform", failing)
    with pytest.raises(MemoryError):
        model.partial_fit(X, Y)
    assert len(calls) == 4 and model.n_samples_seen_ == 900


def test_features_of_other_packages() -> None:
    from sklearn.kernel_approximation import RBFSampler

    sampler = RBFSampler(gamma=0.1, n_components=50, random_state=0)
    model = FeatureRidge(sampler, alpha=0.1).fit(X, Y)
    F = sampler.fit(X).transform(X)
    np.testing.assert_allclose(model.predict(X), Ridge(0.1).fit(F, Y).predict(F), atol=1e-7)
    with pytest.raises(TypeError, match=r"features: expected a feature map.*FullyConnected\(2\)"):
        FeatureRidge(nf.FullyConnected(2)).fit(X, Y)


def test_pickled_in_the_middle() -> None:
    wanted = FeatureRidge(FEATURES).fit(X, Y)
    half = pickle.loads(pickle.dumps(FeatureRidge(FEATURES).partial_fit(X[:500], Y[:500])))
    assert_same(half.partial_fit(X[500:], Y[500:]), wanted)


def test_the_penalty_has_the_best_generalised_cross_validation_score() -> None:
    """Against the hat matrix, formed with all rows."""
    generator = np.random.default_rng(1)
    y = np.abs(X[:300, 0]) + 0.3 * generator.normal(size=300)
    alphas = [1e-4, 1e-2, 1.0, 1e2]
    model = FeatureRidge(FEATURES, alpha=alphas).fit(X[:300], y)
    F = model.features_.transform(X[:300])
    F, rest = F - F.mean(axis=0), y - y.mean()
    for alpha, score in zip(alphas, model.scores_, strict=True):
        hat = F @ np.linalg.solve(F.T @ F + alpha * np.eye(F.shape[1]), F.T)
        residual = rest - hat @ rest
        wanted = np.mean(residual**2) / (1 - (1 + np.trace(hat)) / 300) ** 2
        assert score == pytest.approx(wanted, rel=1e-6)
    assert model.alpha_ == alphas[int(np.argmin(model.scores_))]
    loo = RidgeCV(alphas).fit(F, y)
    assert model.alpha_ in (loo.alpha_ / 100, loo.alpha_, loo.alpha_ * 100)
    np.testing.assert_allclose(
        model.predict(X[:300]),
        FeatureRidge(FEATURES, alpha=model.alpha_).fit(X[:300], y).predict(X[:300]),
        atol=1e-8,
    )
    # Another weight needs no other pass.
    model.set_params(alpha=5.0)
    wanted = FeatureRidge(FEATURES, alpha=5.0).fit(X[:300], y).predict(X)
    np.testing.assert_allclose(model.predict(X), wanted, atol=1e-8)
    with pytest.raises(ValueError, match="alpha: expected at least one number, got none"):
        FeatureRidge(FEATURES, alpha=[]).fit(X, Y)


def test_features_part_by_part(tmp_path: Path) -> None:
    features = clone(FEATURES).fit(X)
    out = np.lib.format.open_memmap(tmp_path / "F.npy", "w+", shape=(900, 60))
    parts = []
    for part, F in stream(features, X, rows=128):
        out[part] = F
        parts.append(part)
    assert parts[-1] == slice(896, 900)
    np.testing.assert_array_equal(out, features.transform(X))
    with pytest.raises(NotFittedError):
        next(stream(clone(FEATURES), X))
    with pytest.raises(ValueError, match="rows: expected an integer >= 1"):
        next(stream(features, X, rows=0))


def test_progress(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tqdm")
    FeatureRidge(FEATURES, progress=True).fit(X, Y)
    assert "900" in capsys.readouterr().err
    FeatureRidge(FEATURES).fit(X, Y)  # nobody asked, and there is no terminal
    assert capsys.readouterr().err == ""
    monkeypatch.setitem(sys.modules, "tqdm", None)
    FeatureRidge(FEATURES).fit(X, Y)
    with pytest.raises(ImportError, match=r"this needs tqdm: pip install .ntkfast\[cli\]."):
        FeatureRidge(FEATURES, progress=True).fit(X, Y)


def test_the_bar_moves_within_a_part(monkeypatch: pytest.MonkeyPatch) -> None:
    """One read of a million rows takes minutes."""
    told: list[int] = []
    monkeypatch.setattr(
        "ntkfast.support.progress.Bar.update", lambda bar, count: told.append(count)
    )
    monkeypatch.setattr(type(places.HOST), "feature_bytes", 8 * 60 * 100)
    weights = np.ones(900)
    weights[5:9] = 0
    FeatureRidge(FEATURES, progress=False).fit(X, Y, sample_weight=weights)
    assert sum(told) == 900
    assert max(told) <= 100


@pytest.mark.parametrize(
    "scheduler", ["synchronous", "threads", pytest.param("processes", marks=pytest.mark.slow)]
)
def test_dask_gives_what_the_local_fit_gives(scheduler: str) -> None:
    array = pytest.importorskip("dask.array")
    import dask

    rows = array.from_array(X, chunks=(130, 3))
    targets = array.from_array(Y, chunks=(200, 1))
    wanted = FeatureRidge(FEATURES).fit(X, Y)
    with dask.config.set(scheduler=scheduler, num_workers=2):
        found = FeatureRidge(FEATURES).fit(rows, targets)
        assert_same(found, wanted)
        again = FeatureRidge(FEATURES).fit(rows, targets)
        assert np.array_equal(found.sums_.gram, again.sums_.gram)  # the order of sums is fixed
        lazy = found.predict(rows)
        assert lazy.shape == Y.shape and lazy.dtype == np.float64
        np.testing.assert_allclose(lazy.compute(), wanted.predict(X), atol=1e-8)
    single = FeatureRidge(FEATURES).fit(X, Y[:, 0])
    np.testing.assert_allclose(single.predict(rows).compute(), single.predict(X), atol=1e-12)
    assert single.predict(rows).shape == (900,)


def test_dask_features_are_lazy(dtype: Any) -> None:
    array = pytest.importorskip("dask.array")
    features = clone(FEATURES).fit(X)
    rows = array.from_array(X.astype(dtype), chunks=(250, 2))
    F = features.transform(rows)
    assert F.shape == (900, 60) and F.dtype == dtype and F.chunks == ((250, 250, 250, 150), (60,))
    np.testing.assert_array_equal(F.compute(), features.transform(X.astype(dtype)))
    nystrom = NystromFeatures(nf.FullyConnected(2).ntk, 20, random_state=0).fit(X)
    np.testing.assert_allclose(
        nystrom.transform(rows).compute(), nystrom.transform(X.astype(dtype)), atol=1e-5
    )


def test_dask_rows_are_taken_from_the_head_for_a_fit(capsys: pytest.CaptureFixture[str]) -> None:
    array = pytest.importorskip("dask.array")
    rows = array.from_array(X, chunks=(250, 2))
    kernel = nf.FullyConnected(2).ntk
    found = NystromFeatures(kernel, 20, random_state=0).fit(rows)
    wanted = NystromFeatures(kernel, 20, random_state=0).fit(X)
    np.testing.assert_array_equal(found.transform(X), wanted.transform(X))
    assert capsys.readouterr().err == ""
    FeatureRidge(FEATURES, progress=True).fit(rows, Y)
    assert "100%" in capsys.readouterr().err


def test_dask_errors() -> None:
    array = pytest.importorskip("dask.array")
    bad = X.copy()
    bad[456, 2] = np.nan
    with pytest.raises(ValueError, match="row 456 holds NaN"):
        failed = FeatureRidge(FEATURES)
        failed.fit(array.from_array(bad, chunks=(100, 4)), Y)
    with pytest.raises(NotFittedError):
        failed.predict(X)
    rows = array.from_array(X, chunks=(100, 4))
    with pytest.raises(ValueError, match=r"y: expected shape \(900,\) or \(900, \*\), got \(899,"):
        FeatureRidge(FEATURES).fit(rows, Y[1:, 0])
    with pytest.raises(ValueError, match=r"y: .*got None"):
        FeatureRidge(FEATURES).fit(rows)
    some = rows[rows[:, 0] > 0]
    with pytest.raises(ValueError, match="X: expected known numbers of rows"):
        FeatureRidge(FEATURES).fit(some, Y)
    with pytest.raises(ValueError, match=r"X: expected shape \(rows, features\), got \(900,\)"):
        clone(FEATURES).fit(X).transform(rows[:, 0])


MEMORY = """
import resource, sys
import numpy as np
from ntkfast.features import DualActivationFeatures, FeatureRidge

features = DualActivationFeatures(n_components=512, random_state=0)
X = np.load(sys.argv[1], mmap_mode="r")
y = np.zeros(len(X))
FeatureRidge(features).fit(X[:1000], y[:1000])  # loads and compiles
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
model = FeatureRidge(features).fit(X, y)
fitted = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
rows = np.array(X[:20000])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
model.features_.transform(rows)
print(fitted, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss has other units elsewhere")
def test_memory_does_not_grow_with_the_rows(tmp_path: Path) -> None:
    """200,000 x 512 features would be 410 MB; those of 20,000 rows are 41 MB by themselves."""
    np.save(tmp_path / "X.npy", gaussian(200_000, 8).astype(np.float32))
    command = [sys.executable, "-c", MEMORY, str(tmp_path / "X.npy")]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    fitted, transformed = (int(word) / 1024 for word in done.stdout.split())
    assert fitted < 150
    assert transformed < 41 + 60
