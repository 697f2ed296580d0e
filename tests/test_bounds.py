"""Bounds on the smallest eigenvalue: that they hold, and the numbers they are known to give."""

from __future__ import annotations

import csv
import io
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import ntkfast as nf
from ntkfast.spectrum import BoundTable, bounds


def points(n: int, d: int, *, unit: bool = False, seed: int = 0) -> NDArray[np.float64]:
    X = np.random.default_rng(seed).normal(size=(n, d))
    return X / np.linalg.norm(X, axis=1, keepdims=True) if unit else X


NETWORKS = [
    nf.FullyConnected(1),
    nf.FullyConnected(4),
    nf.FullyConnected(2, bias=0.7),
    nf.FullyConnected(3, parameterization="ntk", w_std=1.3, b_std=0.4),
    nf.FullyConnected(2, activation="erf"),
    nf.FullyConnected(2, activation="gelu"),
    nf.FullyConnected(2, activation="leaky_relu(0.3)"),
    nf.FullyConnected(1, activation="monomial(2)"),
    nf.ResNet(3, alpha=0.5),
    nf.ResNet(2, alpha=1.0, trained="all", normalize=True),
    nf.compose(nf.Dense(1.5, 0.1), nf.Residual("erf", nf.Dense(1.5)), "relu", nf.Dense()),
]


def assert_bounds(table: BoundTable) -> None:
    for row in table:
        if row.applies and row.constant == "exact":
            slack = 2 * table.error
            if row.direction == "lower":
                assert row.value <= table.lambda_min + slack, row
            else:
                assert row.value >= table.lambda_min - slack, row


@settings(deadline=None, max_examples=30, derandomize=True)
@given(
    network=st.sampled_from(NETWORKS),
    n=st.integers(2, 40),
    d=st.integers(1, 40),
    unit=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_they_hold(network: nf.Network, n: int, d: int, unit: bool, seed: int) -> None:
    assert_bounds(bounds(network, points(n, d, unit=unit, seed=seed)))


@pytest.mark.parametrize("network", NETWORKS, ids=repr)
def test_they_hold_with_near_duplicates(network: nf.Network) -> None:
    X = points(30, 12)
    X[20:25] = X[:5] * (1 + 1e-6)
    X[25:28] = -X[:3]
    X[28] = X[9] + 1e-7 * X[10]
    assert_bounds(bounds(network, X))


def test_values_of_the_chain() -> None:
    """Nguyen et al. for 2, 3 and 5 weight layers, 200 Gaussian rows in 50 dimensions.

    From an independent computation for another draw: lambda_min 15.8, 35.0, 73.0; sum 3.7, 8.5,
    17.9; one power of the Khatri-Rao product 0.90 (r = 2) and 0.012 (r = 4), in the form of the
    paper that divides by the largest norm.
    """
    X = points(200, 50)
    for depth, least, total in ((1, 15.8, 3.7), (2, 35.0, 8.5), (4, 73.0, 17.9)):
        table = bounds(nf.FullyConnected(depth), X)
        assert table.lambda_min == pytest.approx(least, rel=0.1)
        assert table["Schur sum"].value == pytest.approx(total, rel=0.1)
        squares = np.sum(X**2, axis=1)
        assert table["diagonal"].value == pytest.approx((depth + 1) * squares.min())
        for r, value in ((2, 0.90), (4, 0.012)):
            mu = {2: 0.28209, 4: -0.08143}[r]
            A = (X @ X.T) ** r
            paper = 2 * mu**2 * np.linalg.eigvalsh(A)[0] / squares.max() ** (r - 1)
            assert paper == pytest.approx(value, rel=0.7)
            assert table[f"power {r}"].value >= paper * (1 - 1e-3)
        assert table["all powers"].value >= table["power 2"].value


def test_schur_sum_is_the_sum_of_the_paper() -> None:
    X = points(60, 30)
    total = np.linalg.eigvalsh(X @ X.T)[0].clip(0)
    total += sum(np.linalg.eigvalsh(nf.FullyConnected(h).nngp(X))[0] for h in (1, 2, 3))
    assert bounds(nf.FullyConnected(3), X)["Schur sum"].value == pytest.approx(total, rel=1e-9)


@pytest.mark.parametrize("distance", [1e-2, 1e-3, 1e-5])
def test_small_angle_law(distance: float) -> None:
    """Karhadkar et al. with K = (u kappa0 + kappa1) / 2, one close pair: delta' / (2 pi)."""
    X = points(20, 10, unit=True)
    tangent = X[2] - (X[2] @ X[1]) * X[1]
    X[0] = X[1] + distance * tangent / np.linalg.norm(tangent)
    X[0] /= np.linalg.norm(X[0])
    table = bounds(nf.FullyConnected(1), X)
    law = table["small angle"]
    assert law.constant == "asymptotic law"
    assert law.value / 2 == pytest.approx(distance / (2 * math.pi), rel=distance)
    assert table.lambda_min == pytest.approx(law.value, rel=3 * distance + 1e-4)
    assert table["pair"].value == pytest.approx(law.value, rel=4 * distance)


@pytest.mark.parametrize("depth", [1, 3, 10])
def test_slope_of_the_profile(depth: int) -> None:
    """The slope at equal inputs is L (L + 1) / (2 pi)."""
    table = bounds(nf.FullyConnected(depth), points(10, 5, unit=True))
    u = points(10, 5, unit=True)
    angle = np.arccos(np.max((u @ u.T)[~np.eye(10, dtype=bool)]))
    slope = depth * (depth + 1) / (2 * math.pi)
    assert table["small angle"].value == pytest.approx(slope * angle, rel=1e-6)


def test_small_angle_needs_a_corner_and_a_sphere() -> None:
    X = points(10, 5, unit=True)
    law = bounds(nf.FullyConnected(2, activation="erf"), X)["small angle"]
    assert not law.applies
    names = [row.name for row in bounds(nf.FullyConnected(2), points(10, 5))]
    assert "small angle" not in names


def test_separation() -> None:
    X = points(30, 4, unit=True)
    X[4] = -X[5] + 1e-3 * X[6]
    X[4] /= np.linalg.norm(X[4])
    gaps = np.linalg.norm(X[:, None] - X, axis=2) + 9 * np.eye(30)
    sums = np.linalg.norm(X[:, None] + X, axis=2)
    table = bounds(nf.FullyConnected(1), X)
    above, low = table["separation delta'"], table["separation delta, shallow"]
    assert above.value == pytest.approx(2 * gaps.min())  # their kernel is half of this one
    delta = min(gaps.min(), sums.min())
    wanted = 2 * delta**2 / (1 + 4 * math.log(1 / delta) / math.log(4)) ** 3
    assert low.value == pytest.approx(wanted)
    for row in (above, low):
        assert row.constant == "constant set to 1"
        assert "constant not given by the theorem" in row.note
    # a pair of opposite rows does not make the matrix singular, only the lower bound small
    assert table.lambda_min > 100 * low.value


def test_separation_needs_unit_rows() -> None:
    row = bounds(nf.FullyConnected(1), points(30, 4))["separation delta'"]
    assert not row.applies
    assert any(c.holds is False and "norm 1" in c.text for c in row.assumptions)


@pytest.mark.parametrize(
    ("network", "reason"),
    [
        (nf.FullyConnected(2), "rows 3, 8 are proportional"),
        (nf.FullyConnected(2, parameterization="ntk", w_std=1.4, b_std=0.3), None),
        (nf.FullyConnected(2, bias=1.0), None),
        (nf.FullyConnected(2, activation="erf"), None),
    ],
    ids=repr,
)
def test_proportional_rows(network: nf.Network, reason: str | None) -> None:
    X = points(10, 3)
    X[8] = 2 * X[3]
    table = bounds(network, X)
    if reason is None:
        assert table["positivity"].note == ""
        assert table.lambda_min > 10 * table.error
    else:
        assert reason in table["positivity"].note
        assert not table["positivity"].applies
        assert abs(table.lambda_min) <= table.error


def test_three_multiples_defeat_a_bias_that_starts_at_zero() -> None:
    X = points(10, 3)
    X[8], X[9] = 2 * X[3], 4 * X[3]
    table = bounds(nf.FullyConnected(2, bias=1.0), X)
    assert "rows 3, 8, 9 are proportional" in table["positivity"].note
    assert abs(table.lambda_min) <= table.error
    assert bounds(nf.FullyConnected(2, parameterization="ntk", b_std=0.5), X)["positivity"].applies


def test_duplicates() -> None:
    X = points(10, 3)
    X[8] = X[3]
    for network in NETWORKS[:4]:
        note = bounds(network, X)["positivity"].note
        assert note == "singular: rows 3, 8 are equal"


@pytest.mark.parametrize(
    ("activation", "bias", "rank"),
    [("monomial(2)", 0, 3), ("monomial(2)", 1, 6), ("monomial(3)", 0, 4), ("monomial(3)", 1, 10)],
)
def test_rank_of_polynomial_networks(activation: str, bias: float, rank: int) -> None:
    network = nf.FullyConnected(1, activation=activation, parameterization="ntk", b_std=bias)
    X = points(12, 2)
    row = bounds(network, X)["positivity"]
    assert row.note == (
        "singular: 12 rows, but the kernel is a polynomial of degree "
        f"{activation[-2]} and of rank at most {rank}"
    )
    assert np.linalg.matrix_rank(network.ntk(X), tol=1e-9) == rank
    assert not row.applies
    assert bounds(network, X[:rank]).lambda_min > 0
    assert bounds(network, X[:rank])["positivity"].note == ""


def test_table() -> None:
    table = bounds(nf.FullyConnected(2), points(20, 15))
    text = repr(table)
    assert text.startswith(f"smallest eigenvalue {table.lambda_min:.6g} within")
    assert all(row.name in text for row in table)
    assert len(table) == len(table.rows) == len(table.to_dict()["name"])
    read = list(csv.DictReader(io.StringIO(table.to_csv() or "")))
    assert [float(row["value"]) for row in read] == pytest.approx(
        [row.value for row in table], nan_ok=True
    )
    assert table["pair"].ratio == table["pair"].value / table.lambda_min
    for row in table:
        if row.constant == "constant set to 1" and not np.isnan(row.value):
            assert row.fitted * row.value == pytest.approx(table.lambda_min, rel=1e-14)
        else:
            assert np.isnan(row.fitted)
    assert table.best("upper").value <= table["diagonal"].value
    assert table.best("lower").value >= table["Schur sum"].value
    with pytest.raises(KeyError):
        table["no such bound"]
    with pytest.raises(ValueError, match="direction"):
        table.best("limit")


def test_csv_file(tmp_path: object) -> None:
    table = bounds(nf.FullyConnected(2), points(20, 15))
    path = f"{tmp_path}/bounds.csv"
    assert table.to_csv(path) is None
    with open(path, encoding="utf-8") as file:
        assert file.read() == table.to_csv()


def test_kernels_without_layers() -> None:
    for kernel in (nf.Laplace(1.0), nf.FullyConnected(2).nngp):
        table = bounds(kernel, points(20, 4))
        assert [row.name for row in table] == ["diagonal", "pair", "companion"]
        assert_bounds(table)


def test_float32_rows() -> None:
    X = points(30, 6).astype(np.float32)
    single, double = bounds(nf.FullyConnected(2), X), bounds(nf.FullyConnected(2), X.astype(float))
    assert single.rows == double.rows


def test_bad_input() -> None:
    net = nf.FullyConnected(2)
    with pytest.raises(ValueError, match="X: expected 2 to 5000 rows, got 1"):
        bounds(net, np.ones((1, 3)))
    with pytest.raises(ValueError, match="X: expected finite numbers, row 0"):
        bounds(net, np.full((3, 3), np.nan))
    with pytest.raises(TypeError, match="kernel: expected a Kernel or a DenseNetwork, got str"):
        bounds("relu", np.ones((2, 3)))  # type: ignore[arg-type]
