"""The layer map: biases, unequal norms, other activations, and the identities between networks."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import pytest

import cases
import ntkfast as nf
import oracle
from ntkfast import activations
from tolerances import epsilon

WIDE: dict[str, tuple[Any, oracle.Kernel]] = {
    "bias": (
        lambda: nf.FullyConnected(3, bias=0.5).ntk,
        oracle.fully_connected(3, bias=0.5),
    ),
    "ntk-relu": (
        lambda: nf.FullyConnected(3, parameterization="ntk", w_std=1.5, b_std=0.25).ntk,
        oracle.fully_connected_ntk(3, oracle.relu, dimension=4, w_std=1.5, b_std=0.25),
    ),
    "ntk-relu-nngp": (
        lambda: nf.FullyConnected(3, parameterization="ntk", w_std=1.5, b_std=0.25).nngp,
        oracle.fully_connected_ntk(
            3, oracle.relu, dimension=4, w_std=1.5, b_std=0.25, which="nngp"
        ),
    ),
    "erf": (
        lambda: nf.FullyConnected(2, activation="erf").ntk,
        oracle.fully_connected(2, oracle.erf, homogeneous=False),
    ),
    "ntk-gelu": (
        lambda: (
            nf.FullyConnected(
                2, activation="gelu", parameterization="ntk", w_std=1.25, b_std=0.5
            ).ntk
        ),
        oracle.fully_connected_ntk(2, oracle.gelu, dimension=4, w_std=1.25, b_std=0.5),
    ),
}


@lru_cache(maxsize=32)
def wide_rows(dtype: Any, exponent: int) -> np.ndarray:
    """Rows whose norms span 10^-exponent to 10^exponent, two of them parallel."""
    x = cases.rows(9, 4, seed=31)
    x[8] = x[4]
    return (x * np.logspace(-exponent, exponent, 9)[:, None]).astype(dtype)


@lru_cache(maxsize=32)
def wide_expected(name: str, dtype: Any) -> cases.Expected:
    x = wide_rows(dtype, 4)
    return cases.compare(WIDE[name][1], x, x)


@pytest.mark.grid(1)
@pytest.mark.parametrize("name", WIDE)
def test_very_unequal_norms(name: str, engine: dict[str, Any], dtype: Any) -> None:
    """Norms from 1e-4 to 1e4 in one matrix: saturated, linear and all between."""
    x = wide_rows(dtype, 4)
    kernel = WIDE[name][0]()
    wide_expected(name, dtype).check(kernel(x, x.copy(), **engine))
    wide_expected(name, dtype).check(kernel(x, **engine))


def assert_close(a: np.ndarray, b: np.ndarray, factor: float = 16) -> None:
    """Equal within a few roundings of the largest entry."""
    assert np.all(np.abs(a - b) <= factor * epsilon(a.dtype) * np.abs(b).max())


@pytest.mark.parametrize("depth", [0, 1, 4])
def test_negligible_bias(depth: int, engine: dict[str, Any], dtype: Any) -> None:
    """A bias too small to matter takes the other code path to the same numbers."""
    x, y = cases.rows(20, 5, dtype, seed=1), cases.rows(11, 5, dtype, seed=2)
    without, tiny = nf.FullyConnected(depth).ntk, nf.FullyConnected(depth, bias=1e-12).ntk
    assert without.is_zonal
    assert not tiny.is_zonal
    assert_close(tiny(x, y, **engine), without(x, y, **engine))
    assert_close(tiny(x, **engine), without(x, **engine))


@pytest.mark.parametrize("depth", [0, 1, 3])
def test_parameterisations_of_relu(depth: int, engine: dict[str, Any], dtype: Any) -> None:
    """Weights of variance 2 everywhere: the unit kernel times 2/d."""
    x = cases.rows(20, 5, dtype, seed=1)
    ntk = nf.FullyConnected(depth, parameterization="ntk", w_std=np.sqrt(2), b_std=0.0)
    unit = nf.FullyConnected(depth)
    assert_close(ntk.ntk(x, **engine), unit.ntk(x, **engine) * dtype(2 / 5))
    assert_close(ntk.nngp(x, **engine), unit.nngp(x, **engine) * dtype(2 / 5))


def test_gain_of_bias_free_relu(engine: dict[str, Any], dtype: Any) -> None:
    """Multiplying every weight variance by s multiplies the bias-free kernel by s^(L+1)."""
    x = cases.rows(20, 5, dtype, seed=1)
    one = nf.FullyConnected(3, parameterization="ntk", w_std=1.0, b_std=0.0).ntk(x, **engine)
    two = nf.FullyConnected(3, parameterization="ntk", w_std=2.0, b_std=0.0).ntk(x, **engine)
    assert_close(two, one * dtype(4.0**4))


def test_a_linear_activation_leaves_the_inner_product(engine: dict[str, Any], dtype: Any) -> None:
    """leaky_relu(1) is the identity: NTK (L+1) x.y, with bias as for a linear network."""
    x = cases.rows(20, 5, dtype, seed=1)
    linear = nf.FullyConnected(3, activation=activations.leaky_relu(1.0))
    exact = (x.astype(float) @ x.astype(float).T).astype(dtype)
    assert_close(linear.nngp(x, **engine), exact)
    assert_close(linear.ntk(x, **engine), 4 * exact)
    biased = nf.FullyConnected(3, activation="identity", bias=0.5)
    assert_close(biased.ntk(x, **engine), 4 * (exact + dtype(0.25)))


@pytest.mark.parametrize("which", ["ntk", "nngp"])
def test_scaled_activation_is_normalised_away(which: str) -> None:
    """In the unit parameterisation 2 erf(x) and erf(x) are the same network."""
    x = cases.rows(20, 5)
    plain = nf.FullyConnected(2, activation=activations.erf)
    doubled = nf.FullyConnected(2, activation=activations.Erf(2.0))
    assert_close(getattr(doubled, which)(x), getattr(plain, which)(x))


def test_default_weights_of_the_ntk_parameterisation() -> None:
    """w_std defaults to sqrt(2) for ReLU, which keeps the variances."""
    x = cases.rows(5, 4)
    default = nf.FullyConnected(2, parameterization="ntk", b_std=0.1)
    given = nf.FullyConnected(2, parameterization="ntk", w_std=float(np.sqrt(2)), b_std=0.1)
    assert_close(default.ntk(x), given.ntk(x), factor=8)  # sqrt(2)^2 is not 2


def test_tirer(engine: dict[str, Any], dtype: Any) -> None:
    """The kernel of Tirer et al.: all layers trained, alpha scaled by the weights, inputs by d."""
    x, y = cases.rows(7, 3, dtype, seed=1), cases.rows(5, 3, dtype, seed=2)
    exact = cases.compare(oracle.tirer(5, 0.25, dimension=3), x, y)
    network = nf.ResNet(5, alpha=0.25 / np.sqrt(2), trained="all")
    exact.check(network.ntk(x, y, **engine) / dtype(3))


NORMALISED = ["bias3", "erf2", "gelu2", "ntk-relu3", "ntk-erf3", "hermite3", "cos1"]


@lru_cache(maxsize=64)
def normalised(name: str, dtype: Any) -> tuple[np.ndarray, cases.Expected]:
    """Rows of one norm up to rounding, with duplicates and near-duplicates, and their kernel."""
    case = cases.BY_NAME[name]
    x = cases.rows(10, 5, seed=41)
    x[6] = x[0]
    x[7] = -x[1]
    x[8] = x[2] + 1e-3 * cases.rows(1, 5, seed=42)[0]
    x[9] = x[3] + 1e-6 * cases.rows(1, 5, seed=43)[0]
    x = (case.radius * x / np.linalg.norm(x, axis=1)[:, None]).astype(dtype)
    return x, cases.compare(case.oracle(5), x, x)


@pytest.mark.grid(1)
@pytest.mark.parametrize("name", NORMALISED)
def test_rows_of_one_norm(name: str, engine: dict[str, Any], dtype: Any) -> None:
    """On a sphere the package may use a profile for any network; the values are the same."""
    x, wanted = normalised(name, dtype)
    kernel = cases.BY_NAME[name].kernel
    gram = kernel(x, **engine)
    wanted.check(gram)
    wanted.check(kernel(x, x.copy(), **engine))
    assert np.array_equal(gram, gram.T)
    cases.check_diagonal(kernel, gram, x, 3)
    nudged = x.copy()
    nudged[5] *= dtype(1.5)  # now the norms differ
    rest = np.r_[0:5, 6:10]
    wanted.check(kernel(nudged, nudged.copy(), **engine)[np.ix_(rest, rest)], np.ix_(rest, rest))


# ---------------------------------------------------------------------------------------- compose


def dense_block(count: int, w_std: float, b_std: float, activation: Any) -> list[Any]:
    return [nf.Dense(w_std, b_std), activation] * count + [nf.Dense(w_std, b_std)]


@pytest.mark.parametrize("which", ["ntk", "nngp"])
def test_composing_a_fully_connected_network(
    which: str, engine: dict[str, Any], dtype: Any
) -> None:
    x, y = cases.rows(9, 4, dtype, seed=1), cases.rows(7, 4, dtype, seed=2)
    for activation in ("relu", "erf", activations.leaky_relu(0.25)):
        network = nf.FullyConnected(
            2, activation=activation, parameterization="ntk", w_std=1.5, b_std=0.25
        )
        same = nf.compose(*dense_block(2, 1.5, 0.25, activation))
        a, b = getattr(network, which), getattr(same, which)
        assert_close(b(x, y, **engine), a(x, y, **engine), factor=4)
        assert_close(b(x, **engine), a(x, **engine), factor=4)


@pytest.mark.parametrize(
    ("trained", "first", "last"),
    [("residual", False, False), ("last", False, True), ("all", True, True)],
)
def test_composing_a_residual_network(
    trained: str, first: bool, last: bool, engine: dict[str, Any], dtype: Any
) -> None:
    x, y = cases.rows(9, 4, dtype, seed=1), cases.rows(7, 4, dtype, seed=2)
    block = nf.Residual(nf.Dense(float(np.sqrt(2))), "relu", nf.Dense(0.5))
    same = nf.compose(
        nf.Dense(trained=first), *[block] * 4, nf.Dense(trained=last), parameterization="unit"
    )
    network = nf.ResNet(4, alpha=0.5, trained=trained)
    assert same.ntk.is_zonal
    assert_close(same.ntk(x, y, **engine), network.ntk(x, y, **engine), factor=4)
    assert_close(same.nngp(x, y, **engine), network.nngp(x, y, **engine), factor=4)


COMPOSED: dict[str, tuple[list[Any], list[tuple]]] = {
    "mixed": (
        [nf.Dense(1.5, 0.25), nf.Residual("erf", nf.Dense(1.25)), "relu", nf.Dense(0.75, 0.5)],
        [
            ("dense", 1.5, 0.25, True),
            ("residual", [("activation", oracle.erf), ("dense", 1.25, 0, True)]),
            ("activation", oracle.relu),
            ("dense", 0.75, 0.5, True),
        ],
    ),
    "fixed-layers": (
        [nf.Dense(1.5, 0.25, trained=False), "gelu", nf.Dense(1.25, 0.5), "abs", nf.Dense()],
        [
            ("dense", 1.5, 0.25, False),
            ("activation", oracle.gelu),
            ("dense", 1.25, 0.5, True),
            ("activation", oracle.absolute),
            ("dense", 1, 0, True),
        ],
    ),
    "nested": (
        [
            nf.Dense(1.0, 0.5),
            nf.Residual(
                nf.Dense(1.25),
                "relu",
                nf.Residual(nf.Dense(), "relu", nf.Dense(0.5, 0.25)),
                nf.Dense(0.5),
            ),
            "sin",
            nf.Dense(1.0),
        ],
        [
            ("dense", 1, 0.5, True),
            (
                "residual",
                [
                    ("dense", 1.25, 0, True),
                    ("activation", oracle.relu),
                    (
                        "residual",
                        [
                            ("dense", 1, 0, True),
                            ("activation", oracle.relu),
                            ("dense", 0.5, 0.25, True),
                        ],
                    ),
                    ("dense", 0.5, 0, True),
                ],
            ),
            ("activation", oracle.sin),
            ("dense", 1, 0, True),
        ],
    ),
    "no-last-layer": (
        [nf.Dense(1.5, 0.25), "relu", nf.Dense(1.25, 0.25), "erf"],
        [
            ("dense", 1.5, 0.25, True),
            ("activation", oracle.relu),
            ("dense", 1.25, 0.25, True),
            ("activation", oracle.erf),
        ],
    ),
    "activation-in-a-branch": (
        [
            nf.Dense(),
            nf.Residual(nf.Dense(1.25, 0.5), "relu"),
            nf.Dense(1.25),
            "relu",
            nf.Dense(1.5),
        ],
        [
            ("dense", 1, 0, True),
            ("residual", [("dense", 1.25, 0.5, True), ("activation", oracle.relu)]),
            ("dense", 1.25, 0, True),
            ("activation", oracle.relu),
            ("dense", 1.5, 0, True),
        ],
    ),
}


@lru_cache(maxsize=64)
def composed_expected(name: str, which: str, dtype: Any) -> cases.Expected:
    x, y = cases.special_pairs(dtype, 4, 2.0)
    return cases.compare(oracle.composed(COMPOSED[name][1], which=which, dimension=4), x, y)


@pytest.mark.grid(1)
@pytest.mark.parametrize("which", ["ntk", "nngp"])
@pytest.mark.parametrize("name", COMPOSED)
def test_composed_networks(name: str, which: str, engine: dict[str, Any], dtype: Any) -> None:
    """Mixed activations, untrained layers, nested branches and open ends against the oracle."""
    x, y = cases.special_pairs(dtype, 4, 2.0)
    kernel = getattr(nf.compose(*COMPOSED[name][0]), which)
    composed_expected(name, which, dtype).check(kernel(x, y, **engine))
    cases.check_diagonal(kernel, kernel(x, **engine), x, len(COMPOSED[name][0]))


def test_wrong_compositions() -> None:
    with pytest.raises(ValueError, match=r"^elements: "):
        nf.compose()
    with pytest.raises(ValueError, match=r"^branch: "):
        nf.Residual()
    with pytest.raises(ValueError, match=r"^w_std: "):
        nf.Dense(-1.0)
    with pytest.raises(TypeError):
        nf.compose(nf.Dense(), 3.0)
    deep: Any = "relu"
    for _ in range(9):
        deep = nf.Residual(deep, nf.Dense())
    with pytest.raises(ValueError, match="nested"):
        nf.compose(nf.Dense(), deep).ntk(np.ones((2, 2)))


def test_zero_rows_are_the_documented_limit(engine: dict[str, Any], dtype: Any) -> None:
    """A zero row counts as orthogonal to every other row, and equals other zero rows."""
    x = cases.rows(6, 3, dtype)
    x[2] = x[4] = 0
    plain = nf.FullyConnected(3).ntk(x, **engine)
    assert not plain[2].any()
    biased = nf.FullyConnected(3, bias=0.5).ntk
    gram = biased(x, **engine)
    assert np.array_equal(gram[2], gram[4][[0, 1, 4, 3, 2, 5]])
    assert gram[2, 4] == gram[2, 2]
    cases.check_diagonal(biased, gram, x, 3)
    nothing = biased(np.zeros((3, 4), dtype), **engine)
    assert np.all(nothing == nothing[0, 0])
    # four biases of variance 1/4, between equal rows with slopes 1
    assert nothing[0, 0] == pytest.approx(1.0)
    # else as for a row that shrinks to zero at a right angle: cosines 0, 1/pi, kappa1(1/pi)
    first = 1 / np.pi
    second = (np.sqrt(1 - first**2) + (np.pi - np.arccos(first)) * first) / np.pi
    slopes = [1 - np.arccos(u) / np.pi for u in (0, first, second)]
    limit = 0.25 * (((slopes[0] + 1) * slopes[1] + 1) * slopes[2] + 1)
    assert gram[2, 0] == pytest.approx(limit)


def test_a_network_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small calls would spend most of their time on what the network alone says."""
    asked, layers = [], nf.FullyConnected.layers

    def counted(network: Any, dim: int) -> Any:
        asked.append(dim)
        return layers(network, dim)

    monkeypatch.setattr(nf.FullyConnected, "layers", counted)
    kernel, X = nf.FullyConnected(3, bias=0.123).ntk, np.eye(6)[:, :5] + 1.0
    for _ in range(3):
        kernel(X), kernel.diag(X), kernel.matmul(X, None, X)
    assert asked == [5]
