"""Feature maps: unbiasedness, orthogonality, errors against published ones, scikit-learn, input.

Seeds are fixed. The tests of unbiasedness average over independent draws and compare the mean of
random projections of F F^T - K with zero by Student's t: a correct map fails one with probability
1e-6 (`FALSE_ALARM`, shared among the projections) for a fresh choice of seeds.
"""

from __future__ import annotations

import importlib
import pickle
import subprocess
import sys
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import sparse
from scipy.stats import t as student

import ntkfast as nf

pytest.importorskip("sklearn")

from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import check_estimator

from ntkfast.datasets import load_digits
from ntkfast.features import (
    SRHT,
    ArcCosineFeatures,
    CountSketch,
    DualActivationFeatures,
    GegenbauerFeatures,
    GradientFeatures,
    NTKRandomFeatures,
    NTKSketch,
    NystromFeatures,
    TensorSketch,
    TensorSRHT,
    error,
)
from ntkfast.features.polysketch import PolySketch
from ntkfast.features.projections import haar_blocks
from ntkfast.features.sketches import CountProduct, HadamardProduct, balanced
from ntkfast.features.spherical import masses
from ntkfast.features.zonal import dual_activation, relu_signs
from ntkfast.kernels.rows import RowKernel
from ntkfast.places import HOST

Array = NDArray[Any]
FALSE_ALARM = 1e-6


def gaussian(n: int, d: int, seed: int = 0) -> NDArray[np.float64]:
    return np.random.default_rng(seed).normal(size=(n, d))


def unit(X: Array) -> Array:
    return X / np.linalg.norm(X, axis=1)[:, None]


def relative(F: Array, K: Array) -> float:
    return float(np.linalg.norm(F @ F.T - K) / np.linalg.norm(K))


def assert_unbiased(
    draw: Callable[[int], Array], K: Array, *, draws: int = 60, allowed: float = 0.0
) -> None:
    """Test that draw(seed), features, have mean Gram matrix K; `allowed` is a known bias.

    The first projection is K itself, where an error of scale is seen, the second the diagonal.
    """
    projections = [K, np.diag(np.diagonal(K))]
    generator = np.random.default_rng(1)
    projections += [generator.normal(size=K.shape) for _ in range(6)]
    P = np.array([p / np.linalg.norm(p) for p in projections]).reshape(8, -1)
    samples = []
    for seed in range(draws):
        F = draw(seed)
        samples.append(P @ (F @ F.T - K).ravel())
    table = np.array(samples)
    limit = student.isf(FALSE_ALARM / 8 / 2, draws - 1)
    spread = table.std(axis=0, ddof=1) / np.sqrt(draws)
    # The test must be able to see an error of scale of a tenth.
    assert limit * spread[0] < 0.1 * np.linalg.norm(K)
    tolerance = limit * spread + allowed * np.linalg.norm(K) + 1e-12 * np.linalg.norm(K)
    assert np.all(np.abs(table.mean(axis=0)) <= tolerance)


# ---- building blocks -----------------------------------------------------------------------------

LINEAR = gaussian(12, 11)


@pytest.mark.slow
@pytest.mark.grid(1)
@pytest.mark.parametrize("m", [7, 16, 200], ids="m={}".format)
@pytest.mark.parametrize("sketch", [SRHT, CountSketch], ids=lambda one: one.__name__)
def test_linear_sketches_are_unbiased(sketch: Any, m: int) -> None:
    def draw(seed: int) -> Array:
        return np.asarray(sketch(m, random_state=seed).fit_transform(LINEAR))

    assert_unbiased(draw, LINEAR @ LINEAR.T, draws=2000)


@pytest.mark.slow
@pytest.mark.grid(1)
@pytest.mark.parametrize("m", [60, 64], ids="m={}".format)
@pytest.mark.parametrize("sketch", [TensorSketch, TensorSRHT], ids=lambda one: one.__name__)
def test_tensor_sketches_are_unbiased(sketch: Any, m: int) -> None:
    X = unit(LINEAR)

    def draw(seed: int) -> Array:
        return np.asarray(sketch(m, random_state=seed).fit_transform(X))

    assert_unbiased(draw, (X @ X.T) ** 2, draws=2000)


@pytest.mark.slow
@pytest.mark.parametrize("product", [HadamardProduct, CountProduct])
def test_products_of_vectors_of_different_sizes_are_unbiased(product: Any) -> None:
    X, Y = unit(gaussian(12, 5)), unit(gaussian(12, 20, 1))

    def draw(seed: int) -> Array:
        sketch = product(5, 20, 48, np.random.default_rng(seed))
        return np.asarray(sketch(X, Y))

    assert_unbiased(draw, (X @ X.T) * (Y @ Y.T), draws=2000)


@pytest.mark.parametrize("sketch", [TensorSketch, TensorSRHT], ids=lambda one: one.__name__)
def test_pair_is_the_square_for_equal_rows(sketch: Any) -> None:
    X, Y = gaussian(6, 5), gaussian(6, 5, 1)
    fitted = sketch(16, random_state=0).fit(X)
    np.testing.assert_allclose(fitted.pair(X, X), fitted.transform(X), rtol=1e-12)
    # Bilinear, which no function of x + y is.
    np.testing.assert_allclose(fitted.pair(2 * X, Y), 2 * fitted.pair(X, Y), rtol=1e-12)
    with pytest.raises(ValueError, match=r"Y: expected shape \(6, 5\), got \(5, 5\)"):
        fitted.pair(X, Y[:5])


def test_srht_with_all_coordinates_is_a_rotation() -> None:
    F = SRHT(16, random_state=0).fit_transform(LINEAR)
    np.testing.assert_allclose(F @ F.T, LINEAR @ LINEAR.T, atol=1e-13)


def test_indices_are_used_evenly() -> None:
    index = balanced(np.random.default_rng(0), 8, 21)
    counts = np.bincount(index, minlength=8)
    assert counts.min() == 2 and counts.max() == 3
    # Every single one is uniform: 8 cells, chi-square with 7 degrees of freedom, 1e-6 at 40.5.
    last = [balanced(np.random.default_rng(seed), 8, 21)[-1] for seed in range(4000)]
    assert np.sum((np.bincount(last, minlength=8) - 500) ** 2 / 500) < 40.5


def test_count_sketch_of_sparse_rows() -> None:
    from scipy import sparse

    X = sparse.random_array((30, 50), density=0.1, format="csr", rng=np.random.default_rng(0))
    sketch = CountSketch(16, random_state=0).fit(X)
    F = sketch.transform(X)
    assert sparse.issparse(F)
    np.testing.assert_allclose(F.toarray(), sketch.transform(X.toarray()), atol=1e-14)


@pytest.mark.slow
def test_powers_of_the_tree_are_unbiased() -> None:
    X = unit(gaussian(8, 4))
    for power in range(1, 6):

        def draw(seed: int, power: int = power) -> Array:
            tree = PolySketch(4, 5, 128, HadamardProduct, np.random.default_rng(seed))
            return list(tree(X))[power - 1]

        assert_unbiased(draw, (X @ X.T) ** power, draws=400)


# ---- directions and arc-cosine features ----------------------------------------------------------


def test_orthogonal_blocks() -> None:
    W = haar_blocks(7, 17, np.random.default_rng(0))
    for first in (0, 7, 14):
        block = W[:, first : first + 7]
        np.testing.assert_allclose(block.T @ block, np.eye(block.shape[1]), atol=1e-14)


def test_orthogonal_blocks_are_uniform() -> None:
    """Q of LAPACK has a first entry of one sign; that of a uniform rotation has mean 0."""
    first = [haar_blocks(3, 3, np.random.default_rng(seed))[0, 0] for seed in range(2000)]
    # Standard deviation 1/sqrt(3 * 2000); 4.9 of them are passed with probability 1e-6.
    assert abs(np.mean(first)) < 4.9 / np.sqrt(6000)


ARC_COSINE = [
    (order, weights, leverage)
    for order in (0, 1)
    for weights in ("gaussian", "orthogonal")
    for leverage in (False, True)[: order + 1]
]


@pytest.mark.parametrize(("order", "weights", "leverage"), ARC_COSINE)
def test_arc_cosine_features_are_unbiased(order: int, weights: str, leverage: bool) -> None:
    X = gaussian(12, 5)

    def draw(seed: int) -> Array:
        features = ArcCosineFeatures(
            order, n_components=320, weights=weights, leverage=leverage, random_state=seed
        )
        return np.asarray(features.fit_transform(X))

    assert_unbiased(draw, nf.ArcCosine(order)(X), draws=200)


@pytest.mark.parametrize("order", [0, 1])
def test_structured_features(order: int) -> None:
    """Unbiased in the limit of large dimension only: a bias of a percent is allowed."""
    X = gaussian(12, 48)

    def draw(seed: int) -> Array:
        features = ArcCosineFeatures(
            order, n_components=200, weights="structured", random_state=seed
        )
        return np.asarray(features.fit_transform(X))

    assert_unbiased(draw, nf.ArcCosine(order)(X), draws=300, allowed=0.01)


def test_leverage_and_orthogonality_reduce_the_error() -> None:
    X, K = gaussian(40, 20), nf.ArcCosine(1)(gaussian(40, 20))

    def mean_error(**options: Any) -> float:
        features = [
            ArcCosineFeatures(1, n_components=400, random_state=seed, **options)
            for seed in range(20)
        ]
        return float(np.mean([relative(one.fit_transform(X), K) for one in features]))

    plain = mean_error(weights="gaussian")
    assert mean_error(weights="gaussian", leverage=True) < plain
    assert mean_error(weights="orthogonal", leverage=True) < 0.9 * plain


def test_the_length_of_leverage_samples_cancels() -> None:
    """A feature relu(w.x) sqrt(d)/|w| with |w|^2 ~ chi^2_{d+2} is the one with |w| = sqrt(d)."""
    generator = np.random.default_rng(0)
    x, direction = generator.normal(size=6), unit(generator.normal(size=(1, 6)))[0]
    length = np.sqrt(generator.chisquare(8))
    w = length * direction
    weighted = max(w @ x, 0) * np.sqrt(6) / np.linalg.norm(w)
    assert weighted == pytest.approx(max(np.sqrt(6) * direction @ x, 0), rel=1e-14)


def test_rows_of_zeros() -> None:
    X = gaussian(5, 4)
    X[2] = 0
    for order in (0, 1):
        F = ArcCosineFeatures(order, n_components=5000, random_state=0).fit_transform(X)
        K = nf.ArcCosine(order)(X)
        K[2, 2] = 0.5 * (order == 0)  # each zero row counts as orthogonal to itself, too
        np.testing.assert_allclose(F @ F.T, K, atol=0.25)
        np.testing.assert_allclose((F @ F.T)[2], K[2], atol=0.03)
    for features in (
        DualActivationFeatures(),
        NTKRandomFeatures(),
        NTKSketch(),
        GradientFeatures(),
    ):
        F = features.set_params(n_components=64, random_state=0).fit_transform(X)
        assert np.all(F[2] == 0) and np.isfinite(F).all()
    with pytest.raises(ValueError, match="X: expected rows that are not zero, row 2 is"):
        DualActivationFeatures(nf.ArcCosine(0)).fit_transform(X)


# ---- neural tangent kernels ----------------------------------------------------------------------


@pytest.mark.parametrize(("depth", "limit"), [(1, 0.092), (2, 0.122), (3, 0.139)])
def test_errors_of_the_published_protocol(depth: int, limit: float) -> None:
    """40 unit points in 20 dimensions, 2048 features: the mean error of the published method."""
    errors = []
    for seed in range(10):
        X = unit(gaussian(40, 20, seed))
        features = NTKRandomFeatures(depth=depth, n_components=2048, random_state=seed)
        errors.append(relative(features.fit_transform(X), nf.FullyConnected(depth).ntk(X)))
    assert np.mean(errors) <= limit


NETWORKS = [
    nf.FullyConnected(2),
    nf.FullyConnected(1, bias=0.5),
    nf.FullyConnected(2, activation="erf", parameterization="ntk", b_std=0.3),
    nf.ResNet(2, alpha=0.5),
    nf.ResNet(2, alpha=0.7, trained="all", normalize=True),
    nf.compose(nf.Dense(1.5, 0.1), nf.Residual("erf", nf.Dense(1.5)), "relu", nf.Dense()),
]


@pytest.mark.grid(1)
@pytest.mark.parametrize("network", NETWORKS, ids=repr)
@pytest.mark.parametrize("sketch", ["srht", "countsketch"])
def test_networks_of_all_kinds(network: nf.Network, sketch: str) -> None:
    """Rows of different norms; the bias of nested features is below 2% here."""
    X = gaussian(15, 6)

    def draw(seed: int) -> Array:
        features = NTKRandomFeatures(
            network, n_components=512, sketch=sketch, random_state=seed
        ).fit(X)
        F = features.transform(X)
        assert F.shape == (15, 512)
        return F

    assert_unbiased(draw, network.ntk(X), draws=60, allowed=0.02)


@pytest.mark.parametrize("network", NETWORKS, ids=repr)
def test_random_features_of_networks_have_the_right_length(network: nf.Network) -> None:
    X = gaussian(15, 6)
    F = NTKRandomFeatures(network, n_components=100, random_state=0).fit_transform(X)
    np.testing.assert_allclose(np.sum(F * F, axis=1), network.ntk.diag(X), rtol=1e-12)


def test_random_features_of_deep_networks() -> None:
    """Not too small: the mean of draws is the kernel within its error, which is not large."""
    X, network = gaussian(4, 6), nf.ResNet(100, alpha=1.0)
    K = network.ntk(X)
    draws = np.array(
        [
            NTKRandomFeatures(network, n_components=512, random_state=seed).fit_transform(X)
            for seed in range(10)
        ]
    )
    found = draws @ draws.swapaxes(1, 2) / np.sqrt(np.outer(np.diag(K), np.diag(K)))
    wanted = K / np.sqrt(np.outer(np.diag(K), np.diag(K)))
    assert np.sqrt(np.mean((found - wanted) ** 2)) < 0.8 * np.sqrt(100 / 512)
    error = found.std(axis=0) / np.sqrt(len(draws)) + 1e-9
    assert np.all(np.abs(found.mean(axis=0) - wanted) < 5 * error + 0.02)
    with pytest.warns(UserWarning, match=r"n_components: 64 for 100 sketches.* about 1\.25 sqrt"):
        NTKRandomFeatures(network, n_components=64, random_state=0).fit(X)


@pytest.mark.slow
@pytest.mark.parametrize("Features", [NTKSketch, DualActivationFeatures, NTKRandomFeatures])
def test_features_say_what_overflows_and_vanishes(Features: Any) -> None:
    """Deep networks whose kernel leaves float32, or vanishes."""
    X = gaussian(20, 6).astype(np.float32)
    large = nf.FullyConnected(200, w_std=3.0, b_std=0.1, parameterization="ntk")
    if Features is NTKRandomFeatures:
        features = Features(large, n_components=900, random_state=0)
    else:
        features = Features(large.ntk, n_components=64, random_state=0)
        with pytest.raises(ValueError, match="kernel: expected positive numbers as the values"):
            Features(nf.FullyConnected(200, w_std=0.1).ntk).fit(X)
    with (
        pytest.raises(ValueError, match=r"X: .* overflows? float32"),
        warnings.catch_warnings(),
    ):
        warnings.filterwarnings("ignore", "max_degree|degree", RuntimeWarning)
        features.fit_transform(X)


def test_a_network_without_activation_is_exact() -> None:
    X = gaussian(10, 4)
    F = NTKRandomFeatures(depth=0, n_components=64).fit_transform(X)
    assert F.shape == (10, 4)
    np.testing.assert_allclose(F @ F.T, X @ X.T, rtol=1e-13)


@pytest.mark.slow
@pytest.mark.parametrize("depth", [1, 2])
def test_gradients_have_the_right_mean(depth: int) -> None:
    """The mean over networks of width h is the NTK up to a bias of order 1/h for two layers."""
    X = gaussian(10, 4)

    def draw(seed: int) -> Array:
        return np.asarray(
            GradientFeatures(depth, n_components=600, random_state=seed).fit_transform(X)
        )

    assert_unbiased(draw, nf.FullyConnected(depth).ntk(X), draws=2000, allowed=0.02 * (depth > 1))


def test_gradients_are_derivatives() -> None:
    X = gaussian(3, 4)
    features = GradientFeatures(2, n_components=60, random_state=0).fit(X)

    def output(weights: list[Array], readout: Array) -> Array:
        values = X
        for W in weights:
            values = np.maximum(values @ W, 0) * np.sqrt(2 / features.width_)
        return values @ readout

    *W, v = features.net_.weights
    gradient, h, first = features.transform(X), 1e-6, 0
    for layer in range(3):
        for index in np.ndindex(features.net_.weights[layer].shape):
            moved = [one.copy() for one in (*W, v)]
            moved[layer][index] += h
            slope = (output(moved[:2], moved[2]) - output(W, v))[:, 0] / h
            np.testing.assert_allclose(gradient[:, first], slope, atol=1e-4)
            first += 1
    assert first == gradient.shape[1]


# ---- features of kernels on the sphere -----------------------------------------------------------


@pytest.mark.parametrize("dim", [2, 3, 10, 200])
def test_the_dual_activation_has_the_kernel_as_its_dual(dim: int) -> None:
    """By quadrature: the norm of g, and its products with P_1 and P_2, give the masses."""
    kernel = nf.FullyConnected(2).ntk
    mass, _ = masses(kernel, dim, 30, None)
    g = dual_activation(np.sqrt(mass)[:, None], dim, relu_signs(len(mass)))[0]
    u = np.linspace(-1, 1, len(g))
    theta = (np.arange(4000) + 0.5) * np.pi / 4000
    t, weight = np.cos(theta), np.sin(theta) ** (dim - 2)
    weight /= weight.sum()
    values = np.interp(t, u, g)
    assert weight @ values**2 == pytest.approx(mass.sum(), rel=2e-3)
    assert (weight @ values) ** 2 == pytest.approx(mass[0], rel=1e-3)
    assert dim * (weight @ (values * t)) ** 2 == pytest.approx(mass[1], rel=1e-3)


ZONAL = [
    nf.FullyConnected(3).ntk,
    nf.FullyConnected(2, parameterization="ntk").nngp,
    pytest.param(nf.ResNet(3, alpha=0.5, trained="all").ntk, marks=pytest.mark.slow),
    nf.ArcCosine(1),
    pytest.param(nf.ArcCosine(2), marks=pytest.mark.slow),
    pytest.param(nf.Laplace(1.0, inputs="homogeneous"), marks=pytest.mark.slow),
    nf.Gaussian(1.0, inputs="sphere"),
]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kernel", "exact"),  # two of four for each kernel
    [
        (getattr(one, "values", (one,))[0], exact)
        for index, one in enumerate(ZONAL)
        for exact in ((-1, 1), (0, 2))[index % 2]
    ],
    ids=repr,
)
def test_dual_activation_features_are_unbiased(kernel: nf.Kernel, exact: int) -> None:
    X = gaussian(12, 6)

    def draw(seed: int) -> Array:
        features = DualActivationFeatures(kernel, 256, exact=exact, random_state=seed).fit(X)
        assert features.truncated_ < 0.04
        return features.transform(X)

    bias = DualActivationFeatures(kernel, 256).fit(X).truncated_
    assert_unbiased(draw, kernel(X), draws=40, allowed=bias + 1e-3)


@pytest.mark.slow
def test_gegenbauer_features_are_unbiased() -> None:
    X, kernel = gaussian(12, 6), nf.FullyConnected(2).ntk

    def draw(seed: int) -> Array:
        features = GegenbauerFeatures(kernel, 512, max_degree=20, random_state=seed)
        return np.asarray(features.fit_transform(X))

    bias = GegenbauerFeatures(kernel, 512, max_degree=20).fit(X).truncated_
    assert_unbiased(draw, kernel(X), draws=100, allowed=bias)


def test_kernels_that_are_polynomials_are_exact() -> None:
    X = gaussian(10, 4)
    for kernel in (nf.FullyConnected(0).ntk, nf.FullyConnected(1, activation="monomial(2)").nngp):
        features = DualActivationFeatures(kernel, 100, random_state=0)
        F = features.fit_transform(X)
        assert F.shape[1] < 100 and not features.groups_
        np.testing.assert_allclose(F @ F.T, kernel(X), rtol=1e-12, atol=1e-12)


def test_one_column() -> None:
    X, kernel = np.array([[1.0], [-2.0], [3.0]]), nf.FullyConnected(2).ntk
    F = DualActivationFeatures(kernel, 8).fit_transform(X)
    assert F.shape == (3, 2)
    np.testing.assert_allclose(F @ F.T, kernel(X), atol=1e-13)


@pytest.mark.parametrize("radius", [0.5, 3.0])
def test_kernels_that_are_not_zonal_on_rows_of_one_norm(radius: float) -> None:
    X = radius * unit(gaussian(30, 6))
    networks = [
        nf.FullyConnected(2, bias=0.5),
        nf.FullyConnected(2, activation="erf", parameterization="ntk", b_std=0.3),
    ]
    named = nf.Gaussian(0.3 / radius**2), nf.Laplace(0.5 / radius)
    for kernel in (networks[0].ntk, networks[1].ntk, *named):
        for features in (
            DualActivationFeatures(kernel, 2048, random_state=0),
            NTKSketch(kernel, 2048, degree=16, inner=2048, random_state=0),
        ):
            assert relative(features.fit_transform(X), kernel(X)) < 0.06
            given = clone(features).set_params(radius=radius).fit(X)
            np.testing.assert_allclose(given.transform(X), features.transform(X), rtol=1e-9)
            with pytest.raises(ValueError, match=r"X: expected rows of norm .*, row 0 has"):
                given.transform(2 * X)


def test_dual_activation_beats_random_features_on_digits() -> None:
    X = load_digits()[0][:1000] / 16
    kernel = nf.FullyConnected(3).ntk
    K = kernel(X)

    def mean_error(features: Any) -> float:
        draws = [clone(features).set_params(random_state=seed) for seed in range(3)]
        return float(np.mean([relative(one.fit_transform(X), K) for one in draws]))

    published = NTKRandomFeatures(depth=3, n_components=1024, weights="gaussian")
    assert 3 * mean_error(DualActivationFeatures(kernel, 1024)) < mean_error(published)
    assert 3 * mean_error(DualActivationFeatures(kernel, 1024)) < mean_error(
        NTKRandomFeatures(depth=3, n_components=1024)
    )


def test_sketches_of_polynomials_are_unbiased() -> None:
    X = unit(gaussian(10, 4))
    c, u = [0.1, 0.2, 0.3, 0.0, 0.4], X @ X.T
    K = sum(a * u**j for j, a in enumerate(c))

    def draw(seed: int) -> Array:
        features = NTKSketch(n_components=300, coefficients=c, random_state=seed)
        return np.asarray(features.fit_transform(X))

    assert_unbiased(draw, np.asarray(K), draws=200)


@pytest.mark.parametrize("n_components", [8, 9, 10, 64])
def test_polynomial_features_have_the_size_asked_for(n_components: int) -> None:
    """Ten and more leave room for the exact terms of four columns."""
    features = NTKSketch(n_components=n_components, random_state=0)
    F = features.fit_transform(gaussian(5, 4))
    assert F.shape == (5, n_components)
    assert features.exact_ == (n_components >= 10)


@pytest.mark.parametrize("scale", [1.0, 7.0])
def test_the_polynomial_fits_the_kernel(scale: float) -> None:
    kernel = nf.FullyConnected(2, parameterization="ntk").ntk
    X = scale * gaussian(30, 6)
    errors = [
        relative(
            NTKSketch(kernel, 4096, degree=q, inner=4096, random_state=0).fit_transform(X),
            kernel(X),
        )
        for q in (2, 16)
    ]
    assert errors[1] < 0.04
    fits = [NTKSketch(kernel, 64, degree=q).fit(X).fit_error_ for q in (2, 4, 8, 16)]
    assert fits == sorted(fits, reverse=True) and fits[0] > 2 * fits[-1]


@pytest.mark.parametrize("dim", [1, 4])
def test_norms_of_one_sphere_in_the_ntk_parameterization(dim: int) -> None:
    """The input variance is |x|^2 / d there, in one dimension, too."""
    X = 0.7 * unit(gaussian(9, dim))
    kernel = nf.FullyConnected(2, parameterization="ntk", b_std=0.4).ntk
    features = DualActivationFeatures(kernel, 4096, random_state=0)
    assert relative(features.fit_transform(X), kernel(X)) < 0.02


# ---- Nystrom -------------------------------------------------------------------------------------

LANDMARKS = ["uniform", "kmeans++", "rpcholesky"]


@pytest.mark.parametrize("landmarks", LANDMARKS)
def test_nystrom_is_exact_on_its_landmarks(landmarks: str) -> None:
    X, kernel = gaussian(200, 5), nf.FullyConnected(2, bias=0.3).ntk
    features = NystromFeatures(kernel, 40, landmarks=landmarks, random_state=0).fit(X)
    F, K = features.transform(X), kernel(X)
    chosen = features.indices_
    assert len(set(chosen.tolist())) == 40 == F.shape[1]
    assert np.array_equal(features.landmarks_, X[chosen])
    np.testing.assert_allclose((F @ F.T)[chosen], K[chosen], atol=1e-9 * K.max())
    # Never too large: K - F F^T is positive semidefinite.
    assert np.linalg.eigvalsh(K - F @ F.T)[0] > -1e-9 * K.max()


@pytest.mark.parametrize("landmarks", LANDMARKS)
def test_nystrom_with_all_rows_and_copies(landmarks: str) -> None:
    X, kernel = np.repeat(gaussian(20, 3), 3, axis=0), nf.FullyConnected(1).ntk
    features = NystromFeatures(kernel, 100, landmarks=landmarks, random_state=0)
    F = features.fit_transform(X)
    assert F.shape[1] == (60 if landmarks == "uniform" else 20)
    np.testing.assert_allclose(F @ F.T, kernel(X), atol=1e-6)
    single = features.fit_transform(X.astype(np.float32))
    assert single.dtype == np.float32
    np.testing.assert_allclose(single @ single.T, kernel(X), atol=1e-4)


@pytest.mark.parametrize("landmarks", ["kmeans++", "rpcholesky"])
def test_chosen_landmarks_find_what_is_rare(landmarks: str) -> None:
    """Five rows out of 500 point elsewhere: uniform landmarks miss most of them."""
    generator = np.random.default_rng(0)
    X = 0.01 * generator.normal(size=(500, 8)) + np.eye(8)[0]
    X[:5] = 5 * np.eye(8)[1:6]
    kernel = nf.FullyConnected(1).ntk
    features = NystromFeatures(kernel, 12, landmarks=landmarks, random_state=0).fit(X)
    assert set(range(5)) <= set(features.indices_.tolist())


@pytest.mark.slow
def test_pivots_have_the_distribution_of_the_method() -> None:
    """First pivot by the diagonal; second by what the first leaves of it. 1e-6 at these limits."""
    from ntkfast.features.nystrom import pivots

    X, kernel = gaussian(4, 3), nf.FullyConnected(1).ntk
    K, draws = kernel(X), 4000
    wanted = np.zeros((4, 4))
    for i in range(4):
        rest = np.diagonal(K) - K[:, i] ** 2 / K[i, i]
        rest[i] = 0
        wanted[i] = K[i, i] / np.trace(K) * rest / rest.sum()
    found = np.zeros((4, 4))
    for seed in range(draws):
        i, j = pivots(kernel, X, 2, np.random.default_rng(seed))
        found[i, j] += 1
    off = ~np.eye(4, dtype=bool)
    distance = np.sum((found[off] - draws * wanted[off]) ** 2 / (draws * wanted[off]))
    assert distance < 48.9  # chi-square with 11 degrees of freedom


# ---- diagnostics ---------------------------------------------------------------------------------


def test_error_against_its_definition() -> None:
    X, kernel = gaussian(40, 5), nf.FullyConnected(2).ntk
    features = DualActivationFeatures(kernel, 64)
    found = error(kernel, features, X, n_draws=4, relative_ridge=1e-2)
    K = kernel(X)
    F = clone(features).set_params(random_state=2).fit_transform(X)
    gap, weight = F @ F.T - K, 1e-2 * np.trace(K)
    assert found.n_features == 64 and found.ridge == pytest.approx(weight)
    assert found.frobenius.values[2] == pytest.approx(relative(F, K))
    assert found.spectral.values[2] == pytest.approx(np.linalg.norm(gap, 2) / np.linalg.norm(K, 2))
    eps = found.whitened.values[2]
    regular = K + weight * np.eye(40)
    for sign in (1, -1):  # (1 - eps)(K + l) <= F F^T + l <= (1 + eps)(K + l), and no less will do
        assert np.linalg.eigvalsh(eps * regular + sign * gap)[0] > -1e-10
    tight = min(np.linalg.eigvalsh(0.99 * eps * regular + sign * gap)[0] for sign in (1, -1))
    assert tight < 0
    mean, spread = found.frobenius.mean, found.frobenius.values.std(ddof=1) / 2
    assert found.frobenius.high - mean == pytest.approx(3.1824 * spread, rel=1e-4)
    assert not hasattr(features, "table_")  # the transformer is left alone


def test_error_of_exact_features_and_bad_arguments() -> None:
    X, kernel = gaussian(30, 3), nf.FullyConnected(1).ntk
    assert error(kernel, NystromFeatures(kernel, 30), X, n_draws=1).frobenius.mean < 1e-10
    with pytest.raises(ValueError, match="confidence_level: expected a number between 0 and 1"):
        error(kernel, NystromFeatures(), X, confidence_level=1.0)
    with pytest.raises(TypeError, match="kernel: expected a Kernel, got FullyConnected; a network"):
        error(nf.FullyConnected(1), NystromFeatures(), X)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="transformer: expected a feature map, got int"):
        error(kernel, 3, X)
    with pytest.raises(ValueError, match="X: expected rows whose kernel is not zero"):
        error(kernel, NystromFeatures(), np.zeros((3, 2)))


# ---- scikit-learn --------------------------------------------------------------------------------

MAPS = [
    SRHT(16),
    CountSketch(16),
    TensorSketch(16),
    TensorSRHT(16),
    *[ArcCosineFeatures(1, n_components=16, weights=w) for w in ("gaussian", "structured")],
    ArcCosineFeatures(0, n_components=16),
    NTKRandomFeatures(depth=2, n_components=16),
    NystromFeatures(n_components=8),
    NystromFeatures(n_components=8, landmarks="kmeans++"),
    DualActivationFeatures(n_components=16),
    GegenbauerFeatures(n_components=16),
    NTKSketch(n_components=16),
    GradientFeatures(2, n_components=16),
]


@pytest.mark.parametrize(
    "features",
    [pytest.param(m, marks=[pytest.mark.slow] * hasattr(m, "max_degree")) for m in MAPS],
    ids=repr,
)
@pytest.mark.filterwarnings("ignore")  # scikit-learn warns about the checks that it skips
def test_check_estimator(features: Any) -> None:
    check_estimator(features)


@pytest.mark.parametrize("features", MAPS, ids=repr)
def test_conventions(features: Any, dtype: type) -> None:
    X = gaussian(30, 5).astype(dtype)
    fitted = clone(features).set_params(random_state=3).fit(X)
    double = fitted.transform(X.astype(np.float64))
    F = fitted.transform(X)
    assert F.dtype == dtype and F.shape == (30, fitted.get_feature_names_out().size)
    assert fitted.get_feature_names_out()[0] == type(features).__name__.lower() + "0"
    assert np.array_equal(F, clone(features).set_params(random_state=3).fit_transform(X))
    assert not np.array_equal(F, clone(features).set_params(random_state=4).fit_transform(X))
    assert np.array_equal(pickle.loads(pickle.dumps(fitted)).transform(X), F)
    # Both precisions are the same map; a step may flip where it is nearly hit, but not here.
    np.testing.assert_allclose(F, double, atol=2e-4 * np.abs(double).max())
    assert np.array_equal(fitted.transform(X.astype(np.float64)), double)


@pytest.mark.parametrize("features", MAPS, ids=repr)
def test_bad_input(features: Any) -> None:
    X = gaussian(30, 5)
    with pytest.raises(NotFittedError):
        clone(features).transform(X)
    fitted = clone(features).fit(X)
    with pytest.raises(ValueError, match=r"4 features, but .* is expecting 5 features"):
        fitted.transform(X[:, :4])
    bad = X.copy()
    bad[3, 2] = np.nan
    for call in (fitted.transform, clone(features).fit):
        with pytest.raises(ValueError, match=r"(holds|contains) NaN"):
            call(bad)
    with pytest.raises(ValueError, match="n_components: expected an integer >= 1, got 0"):
        clone(features).set_params(n_components=0).fit(X)
    with pytest.raises(TypeError, match="n_components: expected an integer, got float"):
        clone(features).set_params(n_components=2.5).fit(X)


@pytest.mark.parametrize(
    ("features", "exception", "message"),
    [
        (ArcCosineFeatures(2), ValueError, "order: expected 0 or 1, got 2"),
        (ArcCosineFeatures(0, leverage=True), ValueError, "leverage: expected False with order=0"),
        (ArcCosineFeatures(weights="x"), ValueError, "weights: expected one of 'gaussian'"),
        (NTKRandomFeatures("relu"), TypeError, "network: expected a dense Network, got str"),
        (NTKRandomFeatures(hidden=0), ValueError, "hidden: expected an integer >= 1"),
        (NTKRandomFeatures(sketch="x"), ValueError, "sketch: expected one of 'srht', 'count"),
        (
            NTKRandomFeatures(nf.FullyConnected(1, activation="erf"), leverage=True),
            ValueError,
            "leverage: expected False for activations",
        ),
        (
            NTKRandomFeatures(nf.compose(nf.Dense(trained=False), "relu")),
            ValueError,
            "network: expected trained weights, its NTK is zero",
        ),
        (NystromFeatures(nf.FullyConnected(1)), TypeError, "kernel: expected a Kernel, got Fully"),
        (NystromFeatures(landmarks="x"), ValueError, "landmarks: expected one of 'uniform'"),
        (DualActivationFeatures(exact=3), ValueError, "exact: expected 'auto', -1, 0, 1 or 2"),
        (
            DualActivationFeatures(n_components=6, exact=1),
            ValueError,
            "n_components: expected more than 6 for exact features up to degree 1 of 5 columns",
        ),
        (DualActivationFeatures(max_degree=1), ValueError, "max_degree: expected an integer >= 2"),
        (NTKSketch(degree=1), ValueError, "degree: expected an integer >= 2, got 1"),
        (
            NTKSketch(coefficients=[1, 0, -0.5]),
            ValueError,
            "coefficients: expected non-negative numbers, c_2 is -0.5",
        ),
        (NTKSketch(coefficients=[1.0]), ValueError, "coefficients: expected at least two finite"),
        (GradientFeatures(0), ValueError, "depth: expected an integer >= 1, got 0"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_bad_parameters(features: Any, exception: type[Exception], message: str) -> None:
    with pytest.raises(exception, match=message):
        features.fit(gaussian(10, 5))


def test_a_kernel_that_is_not_positive_definite() -> None:
    class Bump(RowKernel):
        """1 - u^2, whose degree 2 is negative."""

        is_zonal = True  # type: ignore[assignment]

        def profile(self, u: Any, radius: float = 1.0) -> NDArray[np.float64]:
            return np.asarray(1.5 - np.asarray(u, np.float64) ** 2)

        def diagonal_of(self, norms: Array, dim: int) -> NDArray[np.float64]:
            return np.full(len(norms), 0.5)

        def _map(self, X: Any, Y: Any) -> Any:
            raise NotImplementedError

    with pytest.raises(
        ValueError, match=r"non-negative Mercer masses, degree 2 has -0\.667 in dim"
    ):
        DualActivationFeatures(Bump(), 64).fit(gaussian(10, 3))


SPARSE = [one for one in MAPS if not isinstance(one, NystromFeatures)]


@pytest.mark.parametrize("features", SPARSE, ids=repr)
def test_sparse_rows_have_the_same_features(features: Any, dtype: type) -> None:
    X = gaussian(30, 5).astype(dtype)
    X[np.abs(X) < 0.6] = 0
    X[:, 0] += X[:, 0] == 0  # no rows of zeros, which some kernels refuse
    fitted = clone(features).set_params(random_state=3).fit(X)
    rows = sparse.csr_array(X)
    F = fitted.transform(rows)
    F = F.toarray() if sparse.issparse(F) else F
    assert F.dtype == dtype
    eps = float(np.finfo(dtype).eps)
    np.testing.assert_allclose(F, fitted.transform(X), atol=2000 * eps * np.abs(F).max())
    again = clone(features).set_params(random_state=3).fit(rows).transform(rows)
    again = again.toarray() if sparse.issparse(again) else again
    np.testing.assert_allclose(again, F, atol=2000 * eps * np.abs(F).max())


def test_sparse_input_of_nystrom_is_refused() -> None:
    with pytest.raises(TypeError, match="Sparse data was passed"):
        NystromFeatures().fit(sparse.csr_array(gaussian(30, 5)))


def test_parts_of_the_rows_give_the_same_features() -> None:
    """More rows than fit one chunk."""
    X = gaussian(HOST.feature_bytes // 8 // 256 + 100, 5)
    for features in (DualActivationFeatures(n_components=256), NTKSketch(n_components=256)):
        fitted = features.set_params(random_state=0).fit(X)
        F = fitted.transform(X)
        np.testing.assert_allclose(F[-150:], fitted.transform(X[-150:]), rtol=1e-9, atol=1e-12)


def test_regression_on_digits() -> None:
    X, y = load_digits()
    X, labels = X / 16, (y % 2) * 2.0 - 1
    kernel = nf.FullyConnected(2).ntk
    model = make_pipeline(DualActivationFeatures(kernel, 1024, random_state=0), Ridge(1.0))
    exact = KernelRidge(alpha=1.0, kernel="precomputed").fit(kernel(X[:1200]), labels[:1200])

    def accuracy(predicted: Array) -> float:
        return float(np.mean(np.sign(predicted) == labels[1200:]))

    found = accuracy(model.fit(X[:1200], labels[:1200]).predict(X[1200:]))
    wanted = accuracy(exact.predict(kernel(X[1200:], X[:1200])))
    assert found > wanted - 0.03 and wanted > 0.9


def test_the_package_does_not_import_its_features() -> None:
    code = "import sys, ntkfast; print([m for m in sys.modules if 'ntkfast.features' in m])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_without_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "sklearn"]:
        monkeypatch.setitem(sys.modules, name, None)
    for name in [name for name in sys.modules if name.startswith("ntkfast.features")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(ImportError, match=r"pip install 'ntkfast\[sklearn\]'"):
        importlib.import_module("ntkfast.features")


@pytest.mark.parametrize(
    "kernel",
    [
        nf.FullyConnected(2).ntk,
        pytest.param(nf.FullyConnected(1, bias=0.5).ntk, marks=pytest.mark.slow),
    ],
)
def test_gegenbauer_features_of_one_column(kernel: nf.Kernel) -> None:
    """The sphere is {-1, 1}, with one even and one odd function: the mean over seeds is K."""
    X = np.array([[1.0], [-2.0], [1.5]])
    grams = []
    for seed in range(50):
        F = GegenbauerFeatures(kernel, 256, random_state=seed).fit_transform(X)
        grams.append(F @ F.T)
    error = np.std(grams, axis=0) / 50**0.5
    K = kernel(X)
    assert np.all(np.abs(np.mean(grams, axis=0) - K) <= 5 * error + 0.03 * K.max())


@pytest.mark.parametrize("map_", [DualActivationFeatures, NTKSketch])
def test_what_chaotic_kernels_lose_is_said(map_: Any) -> None:
    """K(x, x) is 4.5^200 here: tables were cut at 1e36, and a third of K was left."""
    X = np.random.default_rng(0).normal(size=(40, 8))
    kernel = nf.FullyConnected(200, parameterization="ntk", w_std=3.0).ntk
    with pytest.warns(RuntimeWarning, match="leave out up to (61|52)% of K"):
        features = map_(kernel, 2048, random_state=0).fit(X)
    F, K = features.transform(X), kernel(X)
    size = np.sqrt(np.outer(np.diag(K), np.diag(K)))
    error = (F @ F.T - K) / size
    lost = features.truncated_ if map_ is DualActivationFeatures else features.fit_error_
    assert np.diag(error).mean() == pytest.approx(-lost, abs=0.05)
    assert np.abs(error - np.diag(np.diag(error))).max() < 0.1


@pytest.mark.slow
def test_error_of_a_fit_counts_what_its_series_lacks() -> None:
    """Of rows of different norms, too: 201 powers hold nothing of this kernel but rounding."""
    X = np.random.default_rng(0).normal(size=(20, 4))
    kernel = nf.FullyConnected(20, activation="erf", parameterization="ntk", w_std=3.0).ntk
    with pytest.warns(RuntimeWarning, match="leave out up to 100% of K"):
        features = NTKSketch(kernel, 64, degree=2, random_state=0).fit(X)
    assert features.fit_error_ > 0.999
