"""Two-sample tests: statistics by their definition, false alarms, power, change points."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats

import ntkfast as nf
from ntkfast.statistics import ChangePoint, ntk_mmd_test, power, softplus_network, trained_mmd_test
from ntkfast.statistics.samples import pool

NTK = nf.FullyConnected(2).ntk
rng = np.random.default_rng(0)
X, Y = rng.normal(size=(30, 3)), rng.normal(size=(20, 3)) + 0.2


def test_statistic_is_the_squared_discrepancy() -> None:
    found = ntk_mmd_test(X, Y, kernel=NTK, n_permutations=99)
    wanted = NTK(X).mean() + NTK(Y).mean() - 2 * NTK(X, Y).mean()
    assert found.statistic == pytest.approx(wanted, rel=1e-12)
    W = pool(X, Y).permuted(99, np.random.default_rng(0))
    Z = np.concatenate([X, Y])
    np.testing.assert_allclose(found.null_distribution, np.diag(W.T @ NTK(Z) @ W)[1:], rtol=1e-10)
    for column in W.T:
        assert sorted(column) == pytest.approx([-1 / 20] * 20 + [1 / 30] * 30)


@pytest.mark.parametrize("bootstrap", ["full", "test"])
def test_split_statistic(bootstrap: str) -> None:
    found = ntk_mmd_test(X, Y, kernel=NTK, split=0.4, bootstrap=bootstrap, n_permutations=19)
    generator = np.random.default_rng(0)
    train, test = pool(X, Y).split(0.4, generator)
    assert [int(train.labels.sum()), len(train.labels)] == [12, 20]
    W = test.permuted(19, generator)
    before = np.repeat(train.weights()[:, None], 20, axis=1)
    if bootstrap == "full":
        before = train.permuted(19, generator)
    wanted = np.diag(W.T @ NTK(test.Z, train.Z) @ before)
    assert found.statistic == pytest.approx(wanted[0], rel=1e-10)
    np.testing.assert_allclose(found.null_distribution, wanted[1:], rtol=1e-9)


def test_one_pass_over_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    original = nf.Kernel.matmul

    def counted(self: Any, *arguments: Any, **options: Any) -> Any:
        calls.append(arguments[2].shape)
        return original(self, *arguments, **options)

    monkeypatch.setattr(nf.Kernel, "matmul", counted)
    ntk_mmd_test(X, Y, kernel=NTK, n_permutations=400)
    assert calls == [(50, 401)]


def test_threshold_and_p_value_agree() -> None:
    for seed in range(40):
        found = ntk_mmd_test(X, Y, kernel=NTK, n_permutations=59, significance_level=0.1, rng=seed)
        assert found.rejected == (found.pvalue <= 0.1)
        assert "level 0.1" in repr(found)
    with pytest.warns(UserWarning, match="cannot reject at level 0.05; expected at least 19"):
        few = ntk_mmd_test(X, Y + 9, kernel=NTK, n_permutations=10, significance_level=0.05)
    assert few.threshold == np.inf
    assert not few.rejected


@pytest.mark.parametrize("split", [None, 0.5])
def test_lists_of_sequences(split: float | None) -> None:
    """Of one length the test of the arrays; of several that of the collections."""
    kernel, steps = nf.Recurrent(1).ntk, np.random.default_rng(1).normal(size=(30, 5, 2))
    one, other = steps[:14], 2 * steps[14:]
    found = ntk_mmd_test(list(one), list(other), kernel=kernel, split=split, n_permutations=19)
    same = ntk_mmd_test(one, other, kernel=kernel, split=split, n_permutations=19)
    np.testing.assert_allclose(found.null_distribution, same.null_distribution, rtol=1e-12)
    short = [x[: 3 + i % 3] for i, x in enumerate(one)]
    for first in (short, nf.sequences(short)):
        ragged = ntk_mmd_test(first, list(other), kernel=kernel, split=split, n_permutations=19)
        assert ragged.statistic > 0
    w = np.repeat([1 / 14, -1 / 16], [14, 16])
    if split is None:
        wanted = w @ kernel([*short, *other]) @ w
        assert ragged.statistic == pytest.approx(wanted, rel=1e-12)


def null(generator: np.random.Generator) -> tuple[Any, Any]:
    return generator.normal(size=(20, 3)), generator.normal(size=(14, 3))


VARIANTS: dict[str, dict[str, Any]] = {
    "limit NTK": {"kernel": NTK},
    "finite NTK": {},
    "split": {"kernel": NTK, "split": 0.5},
    "test-only": {"kernel": NTK, "split": 0.5, "bootstrap": "test"},
    "trained": {"test": trained_mmd_test, "network": softplus_network(3, 16)},
}


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] * (n == "trained")) for n in VARIANTS]
)
def test_false_alarms(name: str) -> None:
    """At 5 % under the null; a correct test is outside of these binomial bounds once in 10,000."""
    runs = 300
    found = power(null, n_runs=runs, n_permutations=99, **VARIANTS[name])
    low, high = stats.binom.interval(1 - 1e-4, runs, 0.05)
    assert low <= round(found.rate * runs) <= high


@pytest.mark.slow
@pytest.mark.parametrize(("rho", "published"), [(0.0, 0.058), (0.08, 0.430), (0.16, 0.960)])
def test_power_curve_of_cheng_and_xie(rho: float, published: float) -> None:
    """N(0, I) against N(0, I + rho 11^T) in 100 dimensions; four standard errors of both."""

    def draw(g: np.random.Generator) -> tuple[Any, Any]:
        factor = np.sqrt(rho) * g.normal(size=(200, 1))
        return g.normal(size=(200, 100)), g.normal(size=(200, 100)) + factor

    found = power(draw, split=0.5, bootstrap="test", n_runs=100)
    error = np.sqrt(published * (1 - published) * (1 / 100 + 1 / 500))
    assert abs(found.rate - published) <= 4 * error


def test_training_finds_the_witness_of_the_kernel() -> None:
    """The trained statistic tends to that of the time-zero kernel, linearly in the step."""
    X, Y = rng.normal(size=(40, 6)), rng.normal(size=(40, 6)) + 0.3
    net = softplus_network(6, 64)
    exact = ntk_mmd_test(X, Y, kernel=net.ntk, split=0.5, bootstrap="test")
    errors = []
    for step in (1e-2, 1e-3, 1e-4):
        found = trained_mmd_test(X, Y, network=net, learning_rate=step)
        errors.append(
            np.abs(found.null_distribution - exact.null_distribution).max()
            / np.std(exact.null_distribution)
        )
    assert errors[0] < 0.2
    np.testing.assert_allclose(np.divide(errors[:2], errors[1:]), 10, rtol=0.3)


def scan(watch: ChangePoint, Z: np.ndarray) -> np.ndarray:
    """Statistics by their definition."""
    w, base, k = watch.window, watch._base, watch.kernel
    off = ~np.eye(len(base), dtype=bool)
    found = np.full(len(Z), np.nan)
    for end in range(w, len(Z) + 1):
        last = Z[end - w : end]
        inside = k(last)[~np.eye(w, dtype=bool)].mean()
        found[end - 1] = k(base)[off].mean() + inside - 2 * k(last, base).mean()
    return found


def test_change_point_statistic() -> None:
    reference, stream = rng.normal(size=(60, 3)), rng.normal(size=(40, 3))
    options: dict[str, Any] = {"window": 8, "horizon": 30, "n_streams": 20}
    watch = ChangePoint(NTK, reference, **options)
    wanted = scan(watch, stream)
    np.testing.assert_allclose(watch.update(stream), wanted, rtol=1e-9, atol=1e-12)
    again = ChangePoint(NTK, reference, **options)
    parts = [again.update(part) for part in np.split(stream, [1, 2, 9, 10, 33])]
    np.testing.assert_allclose(np.concatenate(parts), wanted, rtol=1e-9, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize(("inputs", "reference"), [("normal", 80), ("t3", 160)])
def test_change_point_level(inputs: str, reference: int) -> None:
    """The level holds, for the smallest reference too; a right one fails once in 10,000."""
    alarms = 0
    for seed in range(200):
        g = np.random.default_rng(seed)
        a, b = (
            g.normal(size=(n, 3)) if inputs == "normal" else g.standard_t(3, size=(n, 3))
            for n in (reference, 200)
        )
        watch = ChangePoint(nf.FullyConnected(1).ntk, a, window=20, horizon=200, rng=g)
        alarms += watch.first_alarm(b) is not None
    assert alarms <= stats.binom.ppf(1 - 1e-4, 200, 0.05)


@pytest.mark.slow
def test_change_point_alarms() -> None:
    """No more false alarms than stated, for fresh streams, and a change is found at once."""
    g = np.random.default_rng(1)
    options: dict[str, Any] = {"window": 20, "horizon": 150, "significance_level": 0.1}
    first = [
        ChangePoint(NTK, g.normal(size=(600, 3)), rng=seed, **options).first_alarm(
            g.normal(size=(150, 3))
        )
        for seed in range(60)
    ]
    alarms = sum(one is not None for one in first)
    assert alarms <= stats.binom.ppf(1 - 1e-4, len(first), 0.1)
    watch = ChangePoint(NTK, g.normal(size=(600, 3)), **options)
    stream = g.normal(size=(150, 3)) * np.where(np.arange(150) < 100, 1, 2)[:, None]
    alarm = watch.first_alarm(stream)
    assert alarm is not None
    assert 100 <= alarm < 120


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"significance_level": 1.5}, "significance_level: expected a number < 1, got 1.5"),
        ({"n_permutations": 0}, "n_permutations: expected an integer >= 1"),
        ({"bootstrap": "test"}, "bootstrap: .* give split=0.5"),
        ({"bootstrap": "all"}, "bootstrap: expected one of"),
        ({"split": 0.001}, "split: a share of 0.001 of 30 inputs leaves a part empty"),
    ],
)
def test_errors(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ntk_mmd_test(X, Y, kernel=NTK, **options)


def test_wrong_samples() -> None:
    with pytest.raises(ValueError, match=r"Y: expected shape \(\*, 3\), got \(20, 2\)"):
        ntk_mmd_test(X, Y[:, :2], kernel=NTK)
    with pytest.raises(TypeError, match="kernel: expected a Kernel"):
        ntk_mmd_test(X, Y, kernel=nf.FullyConnected(1))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="network: expected one output, got 2"):
        trained_mmd_test(X, Y, network=nf.finite.MLP((3, 4, 2)))
    with pytest.raises(ValueError, match="reference: expected at least 4 windows, 200 inputs"):
        ChangePoint(NTK, X)
    with pytest.raises(ValueError, match="n_streams: expected an integer >= 5019, got 99"):
        ChangePoint(NTK, rng.normal(size=(200, 3)), n_streams=99)
