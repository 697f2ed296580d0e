"""Gradients by inputs against differences in 100 digits, at every special position of a pair."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import pytest

import cases
import gradient_oracle
import ntkfast as nf
import oracle
from interrupting import assert_interrupted
from ntkfast.engines.native import force_isa
from tolerances import epsilon

# Rounding of a gradient, in units of eps times the sum of |V_ij| times the size of gradients and of
# layers, what they move by when either row grows by one unit of relative error: a handful of
# roundings, and cosines whose error is amplified by at most 1 / sin t = 5, where rows are not
# subtracted.
ROUNDING = 24.0
# Profiles are exact relative to their largest value: smaller gradients, at opposite rows, count as
# this share of the largest.
FLOOR = 0.1
RADIAL = [case for case in cases.GENERAL if "euclidean" in case.name]
LAYERS = [case for case in cases.GENERAL if case not in RADIAL and "step" not in case.name]
# Where a random bias, or nothing, comes before a kink.
SMOOTH_AT_ZERO = {"erf2", "gelu2", "sin2-nngp", "cos1"}
SMOOTH_AT_ZERO |= {case.name for case in LAYERS if case.name.startswith("ntk-")}
SMOOTH = [case for case in cases.ZONAL if case.name not in ("step2-nngp", "sign2")] + RADIAL


def angles(dimension: int, dtype: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return rows, and one row per angle from 1e-12 to pi from the first of them."""
    x = cases.rows(2, dimension, np.float64, seed=5)
    first = x[0] / np.linalg.norm(x[0])
    other = x[1] - first * (first @ x[1])
    other /= np.linalg.norm(other)
    found = [1e-12, 1e-9, 1e-6, 1e-3, 0.05, 0.3, 1.0, 2.0, 3.0, np.pi - 1e-3, np.pi - 1e-8, np.pi]
    y = [(np.cos(t) * first + np.sin(t) * other) * (1 + 0.5 * (k % 3)) for k, t in enumerate(found)]
    return x.astype(dtype), np.array(y, dtype)


@lru_cache(maxsize=128)
def expected(name: str, dtype: Any, special: bool) -> tuple[np.ndarray, ...]:
    """Return rows, the gradient of every pair, and the size of gradients."""
    case = cases.BY_NAME[name]
    x, y = cases.special_pairs(dtype, 4, case.radius) if special else angles(4, dtype)
    exact, smooth = case.oracle(4), name in SMOOTH_AT_ZERO
    pairs = [[gradient_oracle.gradient(exact, a, b, smooth) for b in y] for a in x]
    values = np.array(pairs, object).astype(np.float64)
    size = np.linalg.norm(values, axis=-1)
    if case in LAYERS:
        moved = [[gradient_oracle.condition(exact, a, b, smooth) for b in y] for a in x]
        size += np.array(moved, object).astype(np.float64)
    return x, y, values, np.maximum(size, FLOOR * size.max(axis=1, keepdims=True))


def check(found: np.ndarray, V: np.ndarray, values: np.ndarray, size: np.ndarray) -> None:
    exact = np.einsum("ij,ijk->ik", V.astype(np.float64), values)
    allowed = ROUNDING * epsilon(found.dtype) * np.einsum("ij,ij->i", np.abs(V), size)
    assert np.all(np.isfinite(found))
    error = np.linalg.norm(found - exact, axis=1)
    assert np.all(error <= allowed), (error / np.where(allowed > 0, allowed, 1)).max()


def quick(found: list[Any], names: set[str]) -> Any:
    """Parametrise over cases, all but some of them slow."""
    marks = {case.name: () if case.name in names else pytest.mark.slow for case in found}
    return pytest.mark.parametrize(
        "case", [pytest.param(case, id=case.name, marks=marks[case.name]) for case in found]
    )


def against_the_oracle(case: Any, special: bool, engine: str, dtype: Any) -> None:
    x, y, values, size = expected(case.name, dtype, special)
    for j in range(len(y)):  # pair by pair: nothing hides behind other pairs
        V = np.full((len(x), 1), dtype(1.5))
        found = case.kernel.vjp(x, y[j : j + 1], V, engine=engine)
        check(found, V, values[:, j : j + 1], size[:, j : j + 1])
    V = cases.rows(len(x), len(y), dtype, seed=2)
    check(case.kernel.vjp(x, y, V, engine=engine), V, values, size)


positions = pytest.mark.parametrize("special", [True, False], ids=["special", "angles"])
precisions = pytest.mark.parametrize(
    ("special", "dtype"),
    [(True, np.float64), (False, np.float64), (True, np.float32)],
    ids=["special", "angles", "float32"],
)


@quick(SMOOTH + LAYERS, {"fc3", "laplace-euclidean"})
@precisions
def test_against_the_oracle(case: Any, special: bool, dtype: Any) -> None:
    against_the_oracle(case, special, "native", dtype)


def test_layers_at_angles() -> None:
    against_the_oracle(cases.BY_NAME["bias3"], False, "native", np.float64)


@precisions
def test_without_fused_multiply_add(special: bool, dtype: Any) -> None:
    with force_isa("baseline"):
        against_the_oracle(cases.BY_NAME["fc3"], special, "native", dtype)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["native", "numba"])
@pytest.mark.parametrize("scale", [1e3, 1e4])
def test_gelu_of_large_variances(engine: str, scale: float) -> None:
    """It is nearly ReLU there: its derivatives by variances are differences of larger terms."""
    case, (x, y) = cases.BY_NAME["gelu2"], angles(4, np.float64)
    for row in y:
        wanted = np.array(gradient_oracle.gradient(case.oracle(4), scale * x[0], scale * row))
        found = case.kernel.vjp(scale * x[:1], scale * row[None], [[1.0]], engine=engine)[0]
        size = np.linalg.norm(wanted.astype(np.float64))
        assert np.linalg.norm(found - wanted.astype(np.float64)) <= 2e-12 * size


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fc3", "resnet5", "laplace-homogeneous", "laplace-euclidean"])
@positions
def test_numba_against_the_oracle(name: str, special: bool) -> None:
    against_the_oracle(cases.BY_NAME[name], special, "numba", np.float64)


COMPILED = (
    "relu leaky_relu(0.2) abs step erf sigmoid_like gelu sin cos rbf exp gaussian monomial(3)"
)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ntk", "nngp"])
@pytest.mark.parametrize("name", COMPILED.split())
def test_engines_agree_on_layers(name: str, kind: str) -> None:
    """Every formula of layers, of rows of all sizes: both engines round, neither differs."""
    network = nf.FullyConnected(2, activation=name, parameterization="ntk", b_std=0.5)
    kernel = getattr(network, kind)
    rng = np.random.default_rng(3)
    x, y, dX, V = (rng.standard_normal(shape) for shape in [(3, 4), (5, 4), (3, 4), (3, 5)])
    x, y = x * np.geomspace(0.3, 3, 3)[:, None], y * np.geomspace(2, 0.5, 5)[:, None]
    parts = [(kernel.vjp, V), (kernel.jvp, dX), (kernel.parameter_jvp, {"w_std": 1, "b_std": 2})]
    for part, moved in parts:
        native, numba = (part(x, y, moved, engine=engine) for engine in ("native", "numba"))
        bound = ROUNDING * epsilon(np.float64) * np.abs(native).max()
        assert np.abs(native - numba).max() <= bound
    for Y, weights in ((y, V), (None, V @ V.T), (y, (V, np.eye(5)))):
        native, numba = (
            kernel.parameter_gradient(x, Y, weights, engine=engine)
            for engine in ("native", "numba")
        )
        size = np.abs(kernel(x, Y)).max() * np.abs(V).sum() * 10
        assert all(
            abs(native[k] - numba[k]) <= ROUNDING * epsilon(np.float64) * size for k in native
        )


KERNELS = {
    "profile": nf.FullyConnected(3).ntk,
    "Laplace": nf.Laplace(0.5),
    "sphere": nf.Gaussian(0.5, inputs="homogeneous"),
    "layers": nf.FullyConnected(2, activation="erf", parameterization="ntk", b_std=0.5).ntk,
    "nngp": nf.FullyConnected(2, parameterization="ntk", b_std=0.5).nngp,
}
every_kernel = pytest.mark.parametrize("kernel", KERNELS.values(), ids=KERNELS)


def rows(n: int, dimension: int = 30, seed: int = 0) -> np.ndarray:
    x = cases.rows(n, dimension, seed=seed)
    if n > 20:
        x[3], x[7], x[-1] = 0, x[2], -2 * x[5]
    return x


@every_kernel
@pytest.mark.parametrize(("n", "m"), [(1, 1), (95, 193), (97, 200)])
def test_forms_of_v(kernel: Any, n: int, m: int) -> None:
    """Factors, parts of the columns, and both places moving give sums of the same pairs."""
    x, y = rows(n), rows(m, seed=1)
    A, B = np.random.default_rng(0).normal(size=(n, 3)), rows(m, 3, seed=2)
    whole = kernel.vjp(x, y, A @ B.T)
    size = np.abs(kernel.vjp(x, y, (np.abs(A), np.abs(B)))).max()
    np.testing.assert_allclose(kernel.vjp(x, y, (A, B)), whole, rtol=0, atol=1e-12 * size)
    parts = [
        kernel.vjp(x, y[part], (A, B[part])) for part in (slice(m // 2), slice(m // 2, m))[m == 1 :]
    ]
    np.testing.assert_allclose(sum(parts), whole, rtol=0, atol=1e-12 * size)
    V = np.random.default_rng(1).normal(size=(n, n))
    both, apart = kernel.vjp(x, None, V), x.copy()
    exact = kernel.vjp(x, apart, V) + kernel.vjp(apart, x, V.T)
    scale = np.abs(V).sum() * np.abs(exact).max() / np.sqrt(n)
    np.testing.assert_allclose(both, exact, rtol=0, atol=1e-13 * scale)
    assert np.array_equal(both, kernel.vjp(x, x, V))
    factored = kernel.vjp(x, None, (V, np.eye(n)))
    np.testing.assert_allclose(factored, exact, rtol=0, atol=1e-13 * scale)


@every_kernel
def test_threads_and_strides(kernel: Any) -> None:
    x, y, V = rows(230), rows(210, seed=1), rows(230, 210, seed=2)
    one = kernel.vjp(x, y, V, threads=1)
    assert np.array_equal(one, kernel.vjp(x, y, V, threads=3))
    out = np.empty((30, 230)).T
    assert kernel.vjp(np.asfortranarray(x), y, np.asfortranarray(V), out=out) is out
    assert np.array_equal(one, out)


@every_kernel
def test_jvp_is_the_adjoint(kernel: Any) -> None:
    x, y, V = rows(110), rows(100, seed=1), rows(110, 100, seed=2)
    dx, dy = rows(110, seed=3), rows(100, seed=4)
    moved = kernel.jvp(x, y, dx)
    gradient = kernel.vjp(x, y, V)
    size = np.sum(np.abs(gradient * dx)) + np.sum(np.abs(V * moved))
    assert abs(np.sum(gradient * dx) - np.sum(V * moved)) <= 1e-13 * size
    both = kernel.jvp(x, y, dx, dy)
    np.testing.assert_allclose(both, moved + kernel.jvp(x, y, None, dy), rtol=0, atol=1e-13 * size)
    np.testing.assert_allclose(kernel.jvp(y, x, dy).T, kernel.jvp(x, y, None, dy), rtol=0, atol=0)
    symmetric = kernel.jvp(x, None, dx)
    assert np.array_equal(symmetric, symmetric.T)
    np.testing.assert_allclose(
        symmetric, kernel.jvp(x, x.copy(), dx, dx), rtol=0, atol=1e-13 * size
    )


def biased(activation: str, dual: Any, kind: str, name: str) -> tuple[Any, str, Any]:
    """Return a kernel that takes no profile, a parameter, and the oracle for its values."""
    known = {"w_std": 0.9, "b_std": 0.4}
    network = nf.FullyConnected(2, activation=activation, parameterization="ntk", **known)

    def make(value: Any) -> oracle.Kernel:
        return oracle.fully_connected_ntk(2, dual, dimension=4, which=kind, **known | {name: value})

    return getattr(network, kind), name, make


PARAMETERS = [
    (nf.ResNet(3, alpha=0.3).ntk, "alpha", lambda value: oracle.resnet(3, value)),
    (nf.Laplace(2.0, inputs="sphere"), "c", oracle.laplace),
    (nf.Laplace(0.5), "c", lambda value: oracle.laplace(value, "euclidean")),
    (nf.FullyConnected(2, bias=0.5).ntk, "bias", lambda v: oracle.fully_connected(2, bias=v)),
    *(
        biased(activation, dual, kind, name)
        for activation, dual, kind, name in (
            ("relu", oracle.relu, "ntk", "w_std"),
            ("relu", oracle.relu, "ntk", "b_std"),
            ("erf", oracle.erf, "nngp", "w_std"),
            ("gelu", oracle.gelu, "ntk", "b_std"),
            ("hermite(3)", oracle.hermite(3), "ntk", "w_std"),
        )
    ),
    (
        nf.FullyConnected(2, parameterization="ntk", w_std=1.5).ntk,
        "w_std",
        lambda value: oracle.fully_connected_ntk(
            2, oracle.relu, dimension=4, w_std=value, b_std=0.0
        ),
    ),
]


@pytest.mark.parametrize(("kernel", "name", "make"), PARAMETERS, ids=lambda one: None)
def test_parameters_against_the_oracle(kernel: Any, name: str, make: Any) -> None:
    x, y, V = cases.rows(4, 4), cases.rows(3, 4, seed=1), cases.rows(4, 3, seed=2)
    x[3], y[0], y[1] = 0, x[0], -2 * x[1]
    p = kernel.parameters()[name]
    with oracle.mp.workdps(oracle.DIGITS):
        h = oracle.mpf(10) ** -30
        ends = [oracle.matrix(make(oracle.mpf(p) + step), x, y) for step in (h, -h)]
        exact = ((ends[0] - ends[1]) / (2 * h)).astype(np.float64)
    size = np.sum(np.abs(V * exact))
    for weights in (V, (V, np.eye(3))):
        found = kernel.parameter_gradient(x, y, weights)
        assert set(found) == set(kernel.parameters())
        assert abs(found[name] - np.sum(V * exact)) <= 1e-12 * size
    W = cases.rows(4, 4, seed=3)
    symmetric = kernel.parameter_gradient(x, None, W)[name]
    assert symmetric == pytest.approx(kernel.parameter_gradient(x, x.copy(), W)[name], rel=1e-10)
    narrow = kernel.parameter_gradient(x.astype(np.float32), y.astype(np.float32), V)
    assert abs(narrow[name] - np.sum(V * exact)) <= 1e-5 * size


@pytest.mark.parametrize("gamma", [0.5, 1.0, 1.3, 2.0])
@pytest.mark.parametrize("form", ["euclidean", "sphere", "homogeneous"])
@pytest.mark.parametrize("c", [0.5, 300.0])
def test_rates(gamma: float, form: str, c: float) -> None:
    """The derivative by a rate is -r^gamma K, without a profile where roots of angles have none."""
    kernel = nf.ExponentialPower(gamma, c, form)
    x, y = np.random.default_rng(5).standard_normal((2, 6, 3)) / c**0.5
    x[0], y[1] = y[0], 0
    V = np.random.default_rng(6).uniform(1, 2, (6, 6))
    size = np.linalg.norm(x, axis=1)[:, None] * np.linalg.norm(y, axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        apart = np.sqrt(np.maximum(2 - 2 * np.where(size > 0, x @ y.T / size, 0), 0))
    r = np.linalg.norm(x[:, None] - y, axis=2) if form == "euclidean" else apart
    r[0, 0] = 0
    factor = size if form == "homogeneous" else 1.0
    slope = -(r**gamma) * factor * np.exp(-c * r**gamma)
    found = kernel.parameter_gradient(x, y, V)["c"]
    assert found == pytest.approx(np.sum(V * slope), rel=1e-11)
    assert found == pytest.approx(kernel.parameter_gradient(x, y, (V, np.eye(6)))["c"], rel=1e-13)
    moved = kernel.parameter_jvp(x, y, {"c": 2.0})
    np.testing.assert_allclose(moved, 2 * slope, rtol=1e-11, atol=1e-15 * np.max(size) / c)


@pytest.mark.slow
def test_parameters_where_no_profile_serves() -> None:
    """A residual network that is nearly linear is evaluated by layers; its alpha moves as well."""
    net = nf.ResNet(2, alpha=1e-3).ntk
    x = np.random.default_rng(7).standard_normal((5, 3))
    V, h = np.ones((5, 5)), 1e-5
    ends = [np.sum(V * net.with_parameters({"alpha": 1e-3 + s})(x)) for s in (h, -h)]
    found = net.parameter_gradient(x, None, V)["alpha"]
    assert found == pytest.approx((ends[0] - ends[1]) / (2 * h), rel=1e-6)


def test_parameters_of_composed_networks() -> None:
    net = nf.compose(nf.Dense(1.5, 0.1), "relu", nf.Residual(nf.Dense(1.2), "relu", nf.Dense(0.7)))
    names = net.ntk.parameters()
    assert names["0.w_std"] == 1.5
    assert names["2.branch.2.w_std"] == 0.7
    other = net.ntk.with_parameters({"2.branch.2.w_std": 0.8, "0.b_std": 0.2})
    assert other.parameters() == names | {"2.branch.2.w_std": 0.8, "0.b_std": 0.2}
    x, V, h = cases.rows(5, 3), cases.rows(5, 5, seed=1), 1e-5
    found = net.ntk.parameter_gradient(x, None, V)
    for name, p in names.items():
        if p == 0:
            assert found[name] == 0
            continue
        ends = [np.sum(V * net.ntk.with_parameters({name: p + s})(x)) for s in (h, -h)]
        assert found[name] == pytest.approx((ends[0] - ends[1]) / (2 * h), abs=1e-7)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kernel", "shape"),
    [
        (nf.Recurrent(1, h_std=0.5, b_std=0.2).ntk, (4, 5, 2)),
        (nf.Convolutional(2).ntk, (3, 4, 4, 1)),
    ],
    ids=["sequences", "images"],
)
def test_parameters_of_other_inputs(kernel: Any, shape: tuple[int, ...]) -> None:
    x = np.random.default_rng(0).normal(size=shape)
    V, h = cases.rows(len(x), len(x), seed=1), 1e-5
    found = kernel.parameter_gradient(x, None, V)
    for name, p in kernel.parameters().items():
        if p:
            ends = [np.sum(V * kernel.with_parameters({name: p + s})(x)) for s in (h, -h)]
            assert found[name] == pytest.approx((ends[0] - ends[1]) / (2 * h), rel=1e-6, abs=1e-8)


def test_errors() -> None:
    kernel, x, y = nf.FullyConnected(1).ntk, cases.rows(4, 3), cases.rows(5, 3, seed=1)
    V = np.ones((4, 5))
    with pytest.raises(ValueError, match=r"V: expected shape \(4, 5\), got \(4, 4\)"):
        kernel.vjp(x, y, np.ones((4, 4)))
    with pytest.raises(ValueError, match=r"V\[1\]: expected shape"):
        kernel.vjp(x, y, (np.ones((4, 2)), np.ones((4, 2))))
    with pytest.raises(ValueError, match="as many columns"):
        kernel.vjp(x, y, (np.ones((4, 2)), np.ones((5, 3))))
    with pytest.raises(ValueError, match="row 2 holds NaN"):
        kernel.vjp(x, y, np.where(np.arange(4)[:, None] == 2, np.nan, V))
    with pytest.raises(ValueError, match="overlaps X"):
        kernel.vjp(x, y, V, out=x)
    with pytest.raises(ValueError, match="dX: expected shape"):
        kernel.jvp(x, y, np.ones((4, 2)))
    with pytest.raises(ValueError, match="dY: expected none"):
        kernel.jvp(x, None, x, x)
    with pytest.raises(ValueError, match="overflows"):
        kernel.vjp(x, y, np.full((4, 5), 1e308))
    with pytest.raises(ValueError, match="got 'alpha'"):
        kernel.with_parameters({"alpha": 1.0})


@pytest.mark.slow
def test_interrupt() -> None:
    assert_interrupted(
        """
        import numpy as np, ntkfast as nf
        x = np.random.default_rng(0).normal(size=(60000, 64))
        V = np.ones((len(x), 1))
        small = nf.FullyConnected(3).ntk.vjp(x[:10], None, (V[:10], V[:10]))
        print("ready", flush=True)
        try:
            nf.FullyConnected(3).ntk.vjp(x, None, (V, V))
        except KeyboardInterrupt:
            again = nf.FullyConnected(3).ntk.vjp(x[:10], None, (V[:10], V[:10]))
            print("interrupted", np.array_equal(small, again))
        """
    )


@pytest.mark.parametrize(
    "kernel",
    [
        nf.ResNet(3, alpha=0.4).ntk,
        nf.compose(
            nf.Dense(1.5), "relu", nf.Residual(nf.Dense(1.2), "relu", nf.Dense(0.7)), nf.Dense(0.9)
        ).ntk,
    ],
    ids=["one product", "two products"],
)
def test_parameters_that_enter_as_one_product(kernel: Any) -> None:
    """They share an evaluation: each by itself, and differences, say the same."""
    x, y, V = cases.rows(4, 4), cases.rows(3, 4, seed=1), cases.rows(4, 3, seed=2)
    found, size = kernel.parameter_gradient(x, y, V), np.sum(np.abs(V * kernel(x, y)))
    for name, value in kernel.parameters().items():
        alone = kernel.parameter_gradient(x, y, V, names=[name])[name]
        assert found[name] == pytest.approx(alone, rel=1e-13)
        total = 0.0
        for k, c in ((1, 45), (-1, -45), (2, -9), (-2, 9), (3, 1), (-3, -1)):
            total += c * np.sum(V * kernel.with_parameters({name: value * (1 + k * 1e-3)})(x, y))
        if value:
            assert abs(found[name] * value - total / 60e-3) < 1e-10 * size


def test_parameters_of_many_layers() -> None:
    """More than one pass has room for, of a residual network with biases, by both forms of V."""
    layers = [nf.Dense(1.1, 0.3), nf.Residual("relu", nf.Dense(0.8, 0.2))]
    kernel = nf.compose(*layers * 3, nf.Dense(0.9, 0.1)).ntk
    x, y, V = cases.rows(5, 3), 2 * cases.rows(4, 3, seed=1), cases.rows(5, 4, seed=2)
    found = kernel.parameter_gradient(x, y, V)
    pair = kernel.parameter_gradient(x, y, (V, np.eye(4)), threads=2)
    assert len(found) == 14
    for name, value in kernel.parameters().items():
        total, size = 0.0, 0.0
        for k, c in ((1, 45), (-1, -45), (2, -9), (-2, 9), (3, 1), (-3, -1)):
            near = V * kernel.with_parameters({name: value * (1 + k * 1e-3)})(x, y)
            total, size = total + c * np.sum(near), np.sum(np.abs(near))
        assert abs(found[name] * value - total / 60e-3) < 1e-11 * size
        assert found[name] == pytest.approx(pair[name], rel=1e-12)
        moved = kernel.parameter_jvp(x, y, {name: 1.0})
        assert abs(np.sum(V * moved) - found[name]) * value < 1e-13 * size
        moved = kernel.parameter_jvp(x, None, {name: 1.0})
        assert np.array_equal(moved, moved.T)
