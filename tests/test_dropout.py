"""Dropout on rows and images: one mask for an input with itself, two for any two inputs."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

import cases
import ntkfast as nf
import oracle
from image_oracle import Oracle
from ntkfast import activations
from ntkfast.features import NTKRandomFeatures
from ntkfast.regression.description import described, rebuilt
from test_convolutional import FILE
from test_realization import check_limit

D, P = nf.Dense, nf.Dropout
ERF, RELU, GELU = (("activation", dual) for dual in (oracle.erf, oracle.relu, oracle.gelu))


def d(w: float = 1.0, b: float = 0.0) -> tuple[Any, ...]:
    """Return a dense layer of the oracle."""
    return ("dense", w, b, True)


NETWORKS: dict[str, tuple[Any, list[tuple[Any, ...]]]] = {
    "relu": (
        nf.compose(D(1.2), "relu", P(0.3), D(1.4), "relu", P(0.01), D(1.1)),
        [d(1.2), RELU, ("dropout", 0.3), d(1.4), RELU, ("dropout", 0.01), d(1.1)],
    ),
    "biases": (
        nf.compose(D(1.5, 0.1), "gelu", P(0.2), D(1.2, 0.2), "erf", P(0.04), D(0.9, 0.1)),
        [d(1.5, 0.1), GELU, ("dropout", 0.2), d(1.2, 0.2), ERF, ("dropout", 0.04), d(0.9, 0.1)],
    ),
    "branches": (
        nf.compose(
            *(D(1.5), nf.Residual("relu", P(0.5), D(0.7, 0.3)), "relu", P(0.1), D()),
            *(nf.Multiply(("erf", P(0.2)), (D(1.2), P(0.3))), D()),
        ),
        [
            d(1.5),
            ("residual", [RELU, ("dropout", 0.5), d(0.7, 0.3)]),
            *(RELU, ("dropout", 0.1), d()),
            ("product", [[ERF, ("dropout", 0.2)], [d(1.2), ("dropout", 0.3)]]),
            d(),
        ],
    ),
    "mixed": (
        nf.compose(D(1.5, 0.2), nf.Concatenate("relu", ("relu", P(0.4))), D(1.2), "erf", D()),
        [d(1.5, 0.2), ("mean", [[RELU], [RELU, ("dropout", 0.4)]], [0.5, 0.5]), d(1.2), ERF, d()],
    ),
}


def masked(parts: Any, shared: bool) -> Any:
    """Say of all masks in a network of the oracle whether both inputs have the same ones."""
    if isinstance(parts, list):
        return [masked(one, shared) for one in parts]
    if isinstance(parts, tuple) and parts[0] == "dropout":
        return (*parts, shared)
    return tuple(masked(one, shared) for one in parts) if isinstance(parts, tuple) else parts


@pytest.mark.grid(1)
@pytest.mark.parametrize("which", ["ntk", "nngp"])
@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] * (n == "mixed")) for n in NETWORKS]
)
def test_against_the_oracle(name: str, which: str, engine: dict[str, Any], dtype: Any) -> None:
    network, parts = NETWORKS[name]
    kernel = getattr(network, which)
    x, y = cases.special_pairs(dtype, 3, 1.5)
    apart, own = (
        oracle.composed(masked(parts, shared), which=which, dimension=3) for shared in (False, True)
    )
    cases.compare(apart, x, y).check(kernel(x, y, **engine))
    gram, some = kernel(x, **engine), slice(0, len(x), 5)
    np.testing.assert_array_equal(np.diagonal(gram), kernel.diag(x))
    wanted = [float(own(row, row)) for row in x[some]]
    np.testing.assert_allclose(kernel.diag(x)[some], wanted, rtol=20 * np.finfo(dtype).eps)
    off = ~np.eye(len(x), dtype=bool)
    size = np.sqrt(np.outer(*2 * [kernel.diag(x)]))
    rounding = 40 * np.finfo(dtype).eps * size
    assert np.all(np.abs(gram - kernel(x, x.copy(), **engine))[off] <= rounding[off])


@pytest.mark.parametrize("named", ["native", pytest.param("numba", marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", ["relu", "biases"])
def test_equal_rows_have_two_masks(name: str, named: str) -> None:
    """By place and not by value: the diagonal of a symmetric matrix alone has one mask."""
    x, engine = cases.rows(6, 3, seed=1), {"engine": named}
    x[4] = x[1]
    for kernel in (NETWORKS[name][0].ntk, NETWORKS[name][0].nngp):
        gram, across = kernel(x, **engine), kernel(x, x[1:2], **engine)[:, 0]
        assert gram[1, 4] == across[1] == across[4] < 0.9 * gram[1, 1]
        np.testing.assert_array_equal(gram, gram.T)
        assert np.linalg.eigvalsh(gram)[0] > 0
        V = cases.rows(6, 2, seed=2)
        np.testing.assert_allclose(kernel.matmul(x, None, V, **engine), gram @ V, rtol=1e-13)
        np.testing.assert_allclose(kernel.matmul(x, x[:3], V[:3], **engine),
                                   kernel(x, x[:3], **engine) @ V[:3], rtol=1e-13)  # fmt: skip
    nngp, ntk = NETWORKS[name][0].both(x, **engine)
    np.testing.assert_array_equal(ntk, NETWORKS[name][0].ntk(x, **engine))
    np.testing.assert_array_equal(nngp, NETWORKS[name][0].nngp(x, **engine))


def test_nothing_dropped() -> None:
    x = cases.rows(5, 3, seed=1)
    for b in (0.0, 0.3):
        dropped = nf.compose(D(1.2, b), "relu", P(0.0), D(1.4, b), "relu", D())
        plain = nf.compose(D(1.2, b), "relu", D(1.4, b), "relu", D())
        np.testing.assert_allclose(dropped.ntk(x), plain.ntk(x), rtol=1e-14)
        np.testing.assert_allclose(dropped.nngp(x), plain.nngp(x), rtol=1e-14)


@pytest.mark.slow
def test_a_function_without_a_closed_form() -> None:
    """Pairs are walked one by one, with variances that masks have made larger."""
    x = cases.rows(4, 3, seed=1)
    first, other = (
        nf.compose(D(1.2, 0.2), one, P(0.3), D(1.4, 0.2), one, D())
        for one in ("erf", lambda z: nf.Activation("erf")(z))
    )
    np.testing.assert_allclose(other.ntk(x), first.ntk(x), rtol=1e-6)


def test_elsewhere() -> None:
    """In sums and normalised, in estimators, files, and by parameters."""
    x, rng = cases.rows(8, 3, seed=1), np.random.default_rng(0)
    net = NETWORKS["biases"][0]
    K, L = net.ntk(x), nf.Laplace()(x)
    np.testing.assert_allclose((net.ntk + nf.Laplace())(x), K + L, rtol=1e-14)
    np.testing.assert_allclose(np.diag(net.ntk.normalized()(x)), 1, rtol=1e-14)
    model = nf.regression.KernelRidge(net.ntk, ridge=0.1).fit(x, x[:, 0])
    alpha = np.linalg.solve(K + 0.1 * np.eye(8), x[:, 0])
    np.testing.assert_allclose(model.predict(x[:3] + 0.1), net.ntk(x[:3] + 0.1, x) @ alpha)
    assert rebuilt(described(net.ntk)) == net.ntk == pickle.loads(pickle.dumps(net.ntk))
    assert eval(repr(net), vars(nf) | vars(activations)) == net
    V, step = rng.normal(size=(8, 8)), 1e-5
    found = net.ntk.parameter_gradient(x, None, V)
    for name, value in net.ntk.parameters().items():
        ends = [net.ntk.with_parameters({name: value + s})(x) for s in (step, -step)]
        assert found[name] == pytest.approx(np.sum(V * (ends[0] - ends[1])) / 2 / step, rel=1e-6)


@pytest.mark.parametrize(
    ("error", "make", "message"),
    [
        (ValueError, lambda: P(1.0), "rate: expected a probability below 1"),
        (ValueError, lambda: P(-0.1), "rate: expected a finite number >= 0"),
        (ValueError, lambda: nf.compose(P(0.1), D()), "a Dense before Dropout, .*average out"),
        (ValueError, lambda: nf.compose(D(), P(0.1), "erf"), "that holds the output of Dropout"),
        (ValueError, lambda: nf.compose(D(), nf.Residual(P(0.1)), D()), "correlated with the id"),
        (ValueError, lambda: nf.ConvNet(nf.Conv(), P(0.1), "relu"), "holds the output of Dropout"),
        (
            TypeError,
            lambda: NTKRandomFeatures(NETWORKS["relu"][0]).fit(np.eye(3)),
            "kernel of rows of a matrix",
        ),
        (TypeError, lambda: nf.spectrum.mercer(NETWORKS["relu"][0].ntk, 3), "kernel of rows"),
        (
            ValueError,
            lambda: NETWORKS["relu"][0].ntk(np.full((1, 2), 1e30, np.float32)),
            "overflows float32",
        ),
    ],
)
def test_errors(error: Any, make: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        make()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["biases", "mixed"])
def test_limits(name: str) -> None:
    net, x = NETWORKS[name][0], np.random.default_rng(1).normal(size=(3, 3))
    check_limit(net, x, nf.finite.Realization(net, 200, shape=3), 40, 0.03)


@pytest.mark.parametrize("named", ["native", pytest.param("numba", marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", ["relu", "biases", "branches"])
def test_derivatives(name: str, named: str) -> None:
    """By rows, whose pairs with themselves are another function, and by parameters."""
    rng, step, engine = np.random.default_rng(0), 1e-5, {"engine": named}
    X, Y, dX = rng.normal(size=(4, 3)), rng.normal(size=(5, 3)), rng.normal(size=(4, 3))
    for kernel in (NETWORKS[name][0].ntk, NETWORKS[name][0].nngp):
        for other, V in ((Y, rng.normal(size=(4, 5))), (None, rng.normal(size=(4, 4)))):

            def moved(by: float, other: Any = other, kernel: Any = kernel) -> np.ndarray:
                return np.asarray(kernel(X + by * dX, other))

            wanted = (moved(step) - moved(-step)) / 2 / step
            found = kernel.jvp(X, other, dX, **engine)
            np.testing.assert_allclose(found, wanted, rtol=1e-7, atol=1e-8)
            gradient = kernel.vjp(X, other, V, **engine)
            assert np.sum(gradient * dX) == pytest.approx(np.sum(V * found), rel=1e-10)
            factors = (V, np.eye(V.shape[1]))
            np.testing.assert_allclose(kernel.vjp(X, other, factors, **engine), gradient, rtol=1e-9)
        V = rng.normal(size=(4, 4))
        some = kernel.parameter_gradient(X, None, V, **engine)
        for key, value in some.items():
            assert value == pytest.approx(kernel.parameter_gradient(X, None, V)[key], rel=1e-8)


# ---- images -------------------------------------------------------------------------------------

C = nf.Conv
IMAGES = {
    "kinks": nf.ConvNet(C(3, 1.3, 0.1), "relu", P(0.3), C(3, 1.2), "relu"),
    "pools": nf.ConvNet(
        *(C(3, 1.3, 0.1), "gelu", P(0.3), nf.AvgPool(2, 1), C(3, 1.2, stride=2), "erf", P(0.2)),
    ),
    "norm": nf.ConvNet(
        *(C(2, 1.3), nf.Skip("relu", P(0.3), C()), nf.LayerNorm("all"), "relu", P(0.1)),
        readout="flatten",
    ),
    "head": nf.ConvNet(C(3, 1.3, 0.1), "relu", P(0.1), head=("relu", P(0.4), D(1.2))),
    "head alone": nf.ConvNet(C(3, 1.3, 0.1), "erf", readout="flatten", head=("relu", P(0.4), D())),
}


def pictures() -> np.ndarray:
    return 0.8 * np.random.default_rng(3).normal(size=(3, 3, 3, 2))


@pytest.mark.parametrize("name", ["kinks", "pools", "norm"])
def test_images_against_the_oracle(name: str) -> None:
    net, X = IMAGES[name], pictures()[:2, :2]
    every = [[Oracle().all(net, x, y) for y in X] for x in X]
    for place, kernel in enumerate((net.nngp, net.ntk)):
        wanted = np.array([[one["xy"][place] for one in row] for row in every])
        np.testing.assert_allclose(kernel(X, X.copy()), wanted, rtol=1e-12)
        own = [row[0]["xx"][place] for row in every]
        np.testing.assert_allclose(kernel.diag(X), own, rtol=1e-12)
        off = ~np.eye(2, dtype=bool)
        np.testing.assert_allclose(kernel(X)[off], wanted[off], rtol=1e-12)


@pytest.mark.parametrize("name", ["kinks", "pools"])
def test_neural_tangents(name: str) -> None:
    """The file that bench/make_image_fixtures.py wrote, X with itself."""
    with np.load(FILE) as file:
        X, (nngp, ntk) = file["X"], file[f"dropout {name}"]
    np.testing.assert_allclose(IMAGES[name].nngp(X), nngp, rtol=1e-13)
    np.testing.assert_allclose(IMAGES[name].ntk(X), ntk, rtol=1e-13)


@pytest.mark.parametrize("name", IMAGES)
def test_equal_images_have_two_masks(name: str) -> None:
    net, X = IMAGES[name], pictures()
    X[2] = X[0]
    for kernel in (net.nngp, net.ntk):
        gram, across = kernel(X), kernel(X, X.copy())
        np.testing.assert_array_equal(gram, gram.T)
        np.testing.assert_allclose(np.diag(gram), kernel.diag(X), rtol=1e-14)
        np.testing.assert_allclose(gram[0, 1:], across[0, 1:], rtol=1e-13)
        np.testing.assert_allclose(across[0, 0], gram[0, 2], rtol=1e-13)
        assert np.all(np.diag(across) < 0.99 * np.diag(gram))
    with pytest.raises(TypeError, match="kernel of rows"):
        nf.spectrum.mercer(net.ntk, 3)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*close")
@pytest.mark.parametrize("name", IMAGES)
def test_derivatives_by_pixels(name: str) -> None:
    rng, step, X = np.random.default_rng(0), 1e-6, pictures()
    Y, dX = rng.normal(size=(2, 3, 3, 2)), rng.normal(size=X.shape)
    for kernel in (IMAGES[name].ntk, IMAGES[name].nngp):
        for other, V in ((Y, rng.normal(size=(3, 2))), (None, rng.normal(size=(3, 3)))):
            wanted = (kernel(X + step * dX, other) - kernel(X - step * dX, other)) / 2 / step
            np.testing.assert_allclose(kernel.jvp(X, other, dX), wanted, rtol=1e-6, atol=1e-8)
            found = np.sum(kernel.vjp(X, other, V) * dX)
            assert found == pytest.approx(np.sum(V * wanted), rel=1e-6, abs=1e-7)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["pools", "norm", "head"])
def test_wide_networks_on_images(name: str) -> None:
    net = IMAGES[name]
    check_limit(net, pictures(), nf.finite.Realization(net, 150, shape=(3, 3, 2)), 40, 0.04)


# ---- finite networks ----------------------------------------------------------------------------


def test_masks_of_a_finite_network() -> None:
    """One for every input, wherever it stands; the mean over networks is that without masks."""
    net = nf.compose(D(1.2), "relu", P(0.5), D())
    one = nf.finite.Realization(net, 64, shape=3, rng=2)
    x = cases.rows(40, 3, seed=1)
    np.testing.assert_allclose(one(x)[7:9], one(x[7:9]), rtol=1e-13)
    np.testing.assert_allclose(one.ntk(x, x[:2])[:2], one.ntk(x)[:2, :2], rtol=1e-13)
    kept = one.features(x)[1].reshape(40, -1) != 0
    positive = one.preactivations(x)[0].reshape(40, -1) > 0
    assert not np.any(kept & ~positive)
    share = kept.sum() / positive.sum()
    assert abs(share - 0.5) < 4 * np.sqrt(0.25 / positive.sum())
    assert not np.array_equal(kept[0][positive[0]], kept[1][positive[0]])


def test_parameters_of_images() -> None:
    """Masks are no obstacle to the walk: as by differences."""
    layer = ("relu", nf.Dropout(0.2))
    layers = (one for w in (1.2, 1.1, 1.3, 0.9) for one in (nf.Conv(w_std=w, b_std=0.2), *layer))
    kernel = nf.ConvNet(*layers, readout="gap").ntk
    x, V = np.random.default_rng(8).normal(size=(2, 3, 3, 1)), np.array([[1.0, 0.5], [-0.3, 2.0]])
    walked = kernel.parameter_gradient(x, None, V)
    assert len(walked) == 8
    for name, value in walked.items():
        at, step = kernel.parameters()[name], 1e-4
        ends = [kernel.with_parameters({name: at + s})(x) for s in (step, -step)]
        wanted = np.sum(V * (ends[0] - ends[1])) / (2 * step)
        assert value == pytest.approx(wanted, rel=1e-6)
