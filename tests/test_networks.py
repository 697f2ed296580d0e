"""Values of every network and kernel family against the oracle, on every engine and dtype."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest

import cases
import ntkfast as nf
import oracle
from cases import Case, expected, parametrize, special_pairs
from ntkfast.activations.quadrature import CallableActivation
from tolerances import epsilon, tolerance

DIMENSION = 7


def inputs(case: Case, dtype: Any) -> tuple[np.ndarray, np.ndarray]:
    return special_pairs(dtype, DIMENSION, case.radius)


@pytest.mark.grid(1)
@parametrize(cases.CASES)
def test_values(case: Case, engine: dict[str, Any], dtype: Any) -> None:
    """All pairs: generic, orthogonal, zero, duplicate, antipodal, scaled, near-duplicate."""
    x, y = inputs(case, dtype)
    computed = case.kernel(x, y, **engine)
    assert computed.dtype == dtype
    expected(case.name, dtype, DIMENSION).check(computed)


@pytest.mark.grid(1)
@parametrize(cases.CASES)
def test_symmetric_values(case: Case, engine: dict[str, Any], dtype: Any) -> None:
    """K(X) is symmetric bit for bit, has the diagonal of ``diag`` and the values of K(X, Y)."""
    x, y = inputs(case, dtype)
    both = np.concatenate([x, y])
    gram = case.kernel(both, **engine)
    assert np.array_equal(gram, gram.T)
    assert np.array_equal(gram, case.kernel(both, both, **engine))
    expected(case.name, dtype, DIMENSION).check(gram[: len(x), len(x) :])
    exact = case.oracle(DIMENSION)
    cases.check_diagonal(case.kernel, gram, both, 0 if exact.homogeneous else exact.depth)


@pytest.mark.grid(1)
@parametrize(cases.CASES)
def test_diagonal(case: Case, dtype: Any) -> None:
    """``diag`` is K(x, x): no angle is involved, only the norm is rounded."""
    x, _ = inputs(case, dtype)
    diagonal = case.kernel.diag(x)
    assert diagonal.shape == (len(x),)
    assert diagonal.dtype == dtype
    exact = case.oracle(DIMENSION)
    for row, value in zip(x, diagonal, strict=True):
        wanted = exact(row, row)
        condition = exact.condition(row, row)
        allowed = tolerance(
            dtype,
            float(abs(wanted)),
            float(condition),
            dimension=DIMENSION,
            layers=0 if exact.homogeneous else exact.depth,
        )
        assert abs(float(oracle.error(value, wanted))) <= allowed


@parametrize(cases.CASES)
def test_duplicates_give_the_diagonal(case: Case, engine: dict[str, Any], dtype: Any) -> None:
    """Equal rows, in one set or in two, give K(x, x) bit for bit."""
    x, _ = inputs(case, dtype)
    twice = np.concatenate([x, x])
    gram = case.kernel(twice, **engine)
    diagonal = np.diag(gram)[: len(x)]
    assert np.array_equal(np.diag(gram)[len(x) :], diagonal)
    assert np.array_equal(np.diagonal(gram, len(x)), diagonal)
    assert np.array_equal(np.diagonal(case.kernel(x, x.copy(), **engine)), diagonal)


NETWORKS = [
    nf.FullyConnected(3),
    nf.FullyConnected(2, bias=0.5),
    nf.FullyConnected(2, activation="erf", parameterization="ntk", w_std=1.5, b_std=0.25),
    nf.ResNet(4, alpha=0.5, trained="all"),
    nf.ResNet(4, alpha=0.5, normalize=True),
]


@pytest.mark.parametrize("network", NETWORKS, ids=repr)
def test_both(network: Any, engine: dict[str, Any], dtype: Any) -> None:
    """``both`` returns (nngp, ntk), each as if computed alone up to rounding."""
    x, y = special_pairs(dtype, DIMENSION, 1.0)
    for arguments in ((x, y), (x,)):
        nngp, ntk = network.both(*arguments, **engine)
        for value, kernel in ((nngp, network.nngp), (ntk, network.ntk)):
            assert value.dtype == dtype
            alone = kernel(*arguments, **engine)
            scale = np.sqrt(np.outer(kernel.diag(x), kernel.diag(arguments[-1])))
            assert np.all(np.abs(value - alone) <= 8 * epsilon(dtype) * scale)


def test_both_is_the_same_from_either_kernel(dtype: Any) -> None:
    x, y = special_pairs(dtype, DIMENSION, 1.0)
    network = nf.FullyConnected(3)
    for a, b in zip(network.both(x, y), network.both(x, y), strict=True):
        assert np.array_equal(a, b)


@pytest.mark.grid(1)
@pytest.mark.parametrize(
    "name", ["fc3", "fc10", "bias3", "ntk-relu3", "ntk-gelu2", "resnet5", "laplace-euclidean"]
)
@pytest.mark.parametrize("dimension", [1, 2, 3, 8, 9, 100, 785])
def test_dimensions(name: str, dimension: int, engine: dict[str, Any], dtype: Any) -> None:
    """Every width of the inner loop: 785 leaves a remainder after any block."""
    case = cases.BY_NAME[name]
    scale = case.radius * np.sqrt(dimension / DIMENSION) if "ntk-" in name else case.radius
    x = (scale * cases.rows(4, dimension, seed=5)).astype(dtype)
    y = (scale * cases.rows(3, dimension, seed=6)).astype(dtype)
    y[0] = x[1]
    _dimension_case(name, dimension, dtype, x, y).check(case.kernel(x, y, **engine))


_MEMO: dict[Any, cases.Expected] = {}


def _dimension_case(
    name: str, dimension: int, dtype: Any, x: np.ndarray, y: np.ndarray
) -> cases.Expected:
    key = (name, dimension, dtype)
    if key not in _MEMO:
        _MEMO[key] = cases.compare(cases.BY_NAME[name].oracle(dimension), x, y)
    return _MEMO[key]


@pytest.mark.grid(2)
def test_positive_data(engine: dict[str, Any], dtype: Any) -> None:
    """Rows like images, where no cancellation hides errors of the inner product."""
    generator = np.random.default_rng(11)
    x = generator.uniform(0, 1, (5, 784)).astype(dtype)
    y = generator.uniform(0, 1, (4, 784)).astype(dtype)
    key = ("positive", dtype)
    if key not in _MEMO:
        _MEMO[key] = cases.compare(oracle.fully_connected(3), x, y)
    _MEMO[key].check(nf.FullyConnected(3).ntk(x, y, **engine))


@pytest.mark.parametrize("exponent", [-60, -10, 10, 60])
def test_extreme_norms(exponent: int, engine: dict[str, Any], dtype: Any) -> None:
    """Norms whose squares underflow or overflow: the kernel is their product times k(u)."""
    if dtype is np.float64:
        exponent *= 8
    x, y = cases.rows(4, 5, dtype, seed=7), cases.rows(3, 5, dtype, seed=8)
    kernel = nf.FullyConnected(3).ntk
    plain = kernel(x, y, **engine)
    factor = dtype(2) ** dtype(exponent)
    scaled = kernel(x * factor, y / factor, **engine)
    assert np.all(np.abs(scaled - plain) <= 4 * epsilon(dtype) * np.abs(plain).max())


@pytest.mark.slow
@pytest.mark.grid(1)
@pytest.mark.parametrize(
    ("network", "exact"),
    [
        (nf.FullyConnected(100), oracle.fully_connected(100)),
        (nf.FullyConnected(100, bias=0.5), oracle.fully_connected(100, bias=0.5)),
        (
            nf.ResNet(100, alpha=1.0, normalize=True),
            oracle.resnet(100, 1.0, normalize=True),
        ),
        (nf.ResNet(100, alpha=0.1), oracle.resnet(100, 0.1)),
    ],
    ids=["fc100", "fc100-bias", "resnet100", "resnet100-small-alpha"],
)
def test_deep(network: Any, exact: oracle.Kernel, engine: dict[str, Any], dtype: Any) -> None:
    """A hundred layers cost no accuracy: the angle is carried with relative precision."""
    x = cases.rows(3, 4, dtype, seed=9)
    y = np.stack([cases.rows(1, 4, dtype, seed=10)[0], x[1], (x[2] * dtype(1.01)).astype(dtype)])
    y[2, 0] *= dtype(1.001)
    key = (repr(network), dtype)
    if key not in _MEMO:
        _MEMO[key] = cases.compare(exact, x, y)
    _MEMO[key].check(network.ntk(x, y, **engine))


DENSE: dict[str, tuple[Any, oracle.Kernel]] = {
    "fc1": (lambda: nf.FullyConnected(1).ntk, oracle.fully_connected(1)),
    "fc3": (lambda: nf.FullyConnected(3).ntk, oracle.fully_connected(3)),
    "fc3-nngp": (
        lambda: nf.FullyConnected(3).nngp,
        oracle.fully_connected(3, which="nngp"),
    ),
    "fc10": (lambda: nf.FullyConnected(10).ntk, oracle.fully_connected(10)),
    "fc30": (lambda: nf.FullyConnected(30).ntk, oracle.fully_connected(30)),
    "resnet10": (lambda: nf.ResNet(10, alpha=1.0).ntk, oracle.resnet(10, 1.0)),
    "resnet10-small": (
        lambda: nf.ResNet(10, alpha=0.05, normalize=True).ntk,
        oracle.resnet(10, 0.05, normalize=True),
    ),
    "arccos3": (lambda: nf.ArcCosine(3), oracle.arc_cosine(3)),
    "laplace": (
        lambda: nf.Laplace(40.0, inputs="homogeneous"),
        oracle.laplace(40, "homogeneous"),
    ),
}


@pytest.mark.grid(1)
@pytest.mark.parametrize("name", DENSE)
def test_every_piece_of_the_profile(name: str, engine: dict[str, Any], dtype: Any) -> None:
    """Many angles, denser towards both ends, hit all pieces of a compiled profile."""
    ends = np.logspace(-4, np.log10(np.pi / 2), 32)
    angles = np.concatenate([ends, np.pi - ends])
    x = np.array([[1.0, 0.0]], dtype)
    y = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(dtype)
    key = ("dense", name, dtype)
    if key not in _MEMO:
        _MEMO[key] = cases.compare(DENSE[name][1], x, y)
    _MEMO[key].check(DENSE[name][0]()(x, y, **engine))


SPIKY: dict[str, tuple[Any, oracle.Kernel]] = {
    "fc1000": (lambda: nf.FullyConnected(1000).ntk, oracle.fully_connected(1000)),
    "laplace1000": (lambda: nf.Laplace(1000.0, inputs="sphere"), oracle.laplace(1000)),
    "resnet300": (
        lambda: nf.ResNet(300, alpha=0.5, normalize=True).ntk,
        oracle.resnet(300, 0.5, normalize=True),
    ),
}


@pytest.mark.slow
@pytest.mark.grid(1)
@pytest.mark.parametrize("name", SPIKY)
def test_spiky_kernels(name: str, engine: dict[str, Any], dtype: Any) -> None:
    """Very deep and very narrow kernels meet the same bound."""
    angles = np.array([4e-4, 5e-3, 3.0])
    x = np.array([[1.0, 0.0]], dtype)
    y = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(dtype)
    key = ("spiky", name, dtype)
    if key not in _MEMO:
        _MEMO[key] = cases.compare(SPIKY[name][1], x, y)
    _MEMO[key].check(SPIKY[name][0]()(x, y, **engine))


@pytest.mark.grid(1)
@pytest.mark.parametrize("depth", [100, 1000])
def test_depth_limit(depth: int, dtype: Any) -> None:
    """T_L(u)/(L + 1) tends to 1/4 for every u < 1 and stays 1 on the diagonal."""
    angles = np.array([0.0, np.pi / 4, np.pi / 2, 3 * np.pi / 4, np.pi])
    x = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(dtype)
    row = nf.FullyConnected(depth).ntk(x[:1], x)[0] / (depth + 1)
    assert row[0] == pytest.approx(1, rel=4 * epsilon(dtype))
    if depth == 1000:
        assert row[1:] == pytest.approx([0.2544, 0.2533, 0.2531, 0.2530], abs=6e-5)
    assert np.all(np.abs(row[1:] - 0.25) < 5 / depth)


def _elu_slope(x: np.ndarray) -> np.ndarray:
    return np.where(x > 0, 1, np.exp(np.minimum(x, 0)))


SMOOTH: dict[str, tuple[Any, Any, tuple[float, ...]]] = {
    "tanh": (np.tanh, lambda x: 1 / np.cosh(x) ** 2, ()),
    "softplus": (lambda x: np.logaddexp(0, x), lambda x: 0.5 * (1 + np.tanh(x / 2)), ()),
}
KINKED: dict[str, tuple[Any, Any, tuple[float, ...]]] = {
    "elu": (lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))), _elu_slope, (0.0,)),
    "hard-sigmoid": (
        lambda x: np.clip(x, 0, 1),
        lambda x: 1.0 * ((x > 0) & (x < 1)),
        (0.0, 1.0),
    ),
}


@cache
def callable_network(name: str, given: bool) -> Any:
    """Two hidden layers of a Python function, with or without its derivative and kinks."""
    function, derivative, kinks = (SMOOTH | KINKED)[name]
    activation: Any = function
    if given:
        activation = CallableActivation(function, derivative=derivative, kinks=kinks)
    return nf.FullyConnected(
        2, activation=activation, parameterization="ntk", w_std=1.25, b_std=0.25
    )


def callable_expected(
    name: str, which: str, x: np.ndarray, y: np.ndarray, place: str
) -> cases.Expected:
    """Tolerance: the quadrature promises 1e-12 for each of the layers, on top of rounding."""
    key = (name, which, x.dtype, place)
    if key not in _MEMO:
        exact = oracle.fully_connected_ntk(
            2,
            oracle.numeric_dual(*(SMOOTH | KINKED)[name]),
            dimension=4,
            w_std=1.25,
            b_std=0.25,
            which=which,
        )
        scale = oracle.scales(exact, x, y)
        # slopes are at most one here: the condition is a few times the scale
        allowed = tolerance(x.dtype, scale, 4 * scale, dimension=4, layers=2) + 4e-12 * scale
        _MEMO[key] = cases.Expected(oracle.matrix(exact, x, y), scale, allowed)
    return _MEMO[key]


@pytest.mark.grid(1)
@pytest.mark.parametrize("which", ["ntk", "nngp"])
@pytest.mark.parametrize("name", SMOOTH)
def test_smooth_callable(name: str, which: str, engine_name: str, dtype: Any) -> None:
    """Functions without a closed form, rows of any norms."""
    x = (2 * cases.rows(3, 4, dtype, seed=12)).astype(dtype)
    y = (2 * cases.rows(2, 4, dtype, seed=13)).astype(dtype)
    y[1] = x[0]
    wanted = callable_expected(name, which, x, y, "anywhere")
    for given in (True, False):
        wanted.check(getattr(callable_network(name, given), which)(x, y, engine=engine_name))


@pytest.mark.slow
@pytest.mark.grid(1)
@pytest.mark.filterwarnings("ignore:activation. a profile of")  # kinks cost some digits, told so
@pytest.mark.parametrize("which", ["ntk", "nngp"])
@pytest.mark.parametrize("name", [*SMOOTH, *KINKED])
def test_callable_on_a_sphere(name: str, which: str, engine_name: str, dtype: Any) -> None:
    """Kinks are handled to full accuracy where the rows have one norm."""
    x, y = (2 * cases.rows(count, 4, seed=count) for count in (3, 2))
    x, y = ((2 * a / np.linalg.norm(a, axis=1)[:, None]).astype(dtype) for a in (x, y))
    y[1] = x[0]
    wanted = callable_expected(name, which, x, y, "sphere")
    for given in (True, False):
        wanted.check(getattr(callable_network(name, given), which)(x, y, engine=engine_name))


@pytest.mark.parametrize("name", KINKED)
def test_kinked_callable_at_unequal_norms(name: str) -> None:
    """By tables where the only kink is 0, else by a quadrature for each of a few pairs."""
    x, y = 2 * cases.rows(3, 4, seed=12), 2 * cases.rows(2, 4, seed=13)
    callable_expected(name, "nngp", x, y, "anywhere").check(callable_network(name, True).nngp(x, y))
