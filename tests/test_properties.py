"""What must hold for any network and any data: symmetry, positivity, homogeneity, invariance."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest
import scipy.linalg
from hypothesis import given, settings
from hypothesis import strategies as st

import cases
import ntkfast as nf
from ntkfast import activations
from tolerances import LAYER, VALUE, eigenvalue_tolerance, epsilon, inner_product_error

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

derandomized = settings(max_examples=25, derandomize=True, deadline=None, database=None)

depths = st.integers(0, 6)
networks = st.one_of(
    st.builds(nf.FullyConnected, depths),
    st.builds(nf.FullyConnected, depths, bias=st.sampled_from([0.0, 0.25, 1.0])),
    st.builds(nf.FullyConnected, st.integers(1, 3), activation=st.sampled_from(["abs", "erf"])),
    st.builds(
        nf.FullyConnected,
        st.integers(1, 4),
        parameterization=st.just("ntk"),
        w_std=st.floats(0.5, 2),
        b_std=st.floats(0, 1),
    ),
    st.builds(
        nf.ResNet,
        depths.filter(bool),
        alpha=st.floats(0.05, 2),
        trained=st.sampled_from(["residual", "last", "all"]),
        normalize=st.booleans(),
    ),
)
kernels = st.one_of(
    networks.map(lambda network: network.ntk),
    networks.map(lambda network: network.nngp),
    st.builds(nf.ArcCosine, st.integers(0, 3)),
    st.builds(nf.Laplace, st.floats(0.1, 20), inputs=st.sampled_from(["sphere", "euclidean"])),
)
zonal_networks = st.one_of(
    st.builds(nf.FullyConnected, depths, activation=st.sampled_from(["relu", "abs"])),
    st.builds(nf.ResNet, depths.filter(bool), alpha=st.floats(0.05, 2)),
)


@st.composite
def data(draw: st.DrawFn, count: int = 40) -> np.ndarray:
    """Rows without zero rows, often with duplicates and near-duplicates."""
    n, d = draw(st.integers(2, count)), draw(st.integers(1, 12))
    seed, kind = draw(st.integers(0, 10**6)), draw(st.sampled_from([np.float32, np.float64]))
    x = cases.rows(n, d, seed=seed)
    closeness = draw(st.sampled_from([0.0, 1e-12, 1e-6, 1e-2]))
    half = n // 2
    x[half : 2 * half] = x[:half] * (1 + closeness * cases.rows(half, d, seed=seed + 1))
    return x.astype(kind)


def gram_scale(kernel: Any, x: np.ndarray) -> np.ndarray:
    diagonal = np.abs(kernel.diag(x))
    return np.sqrt(np.outer(diagonal, diagonal))


@derandomized
@given(kernel=kernels, x=data())
def test_gram_is_symmetric_and_positive(kernel: Any, x: np.ndarray) -> None:
    gram = kernel(x)
    assert np.array_equal(gram, gram.T)
    cases.check_diagonal(kernel, gram, x, 6)
    scale = gram_scale(kernel, x)
    assert np.all(np.abs(gram) <= scale * (1 + 16 * epsilon(x.dtype)))
    normalised = gram.astype(np.float64) / np.where(scale > 0, scale, 1)
    smallest = scipy.linalg.eigvalsh(normalised)[0]
    assert smallest >= -4 * eigenvalue_tolerance(x.dtype, normalised)


@derandomized
@given(kernel=kernels, x=data())
def test_symmetric_and_rectangular_agree(kernel: Any, x: np.ndarray) -> None:
    """K(X) and K(X, copy of X) differ by rounding at most; the diagonal not at all."""
    gram, rectangle = kernel(x), kernel(x, x.copy())
    assert np.array_equal(np.diag(gram), np.diag(rectangle))
    assert np.all(np.abs(gram - rectangle) <= 64 * epsilon(x.dtype) * gram_scale(kernel, x))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("depth", [1, 3, 30])
def test_neighbours_in_a_vector_change_nothing(depth: int, dtype: Any) -> None:
    """Angles near the ends and in the middle have tables of their own, side by side."""
    kernel = nf.FullyConnected(depth).ntk
    x, y = cases.rows(7, 3, dtype, seed=1), cases.rows(300, 3, dtype, seed=2)
    gram = kernel(x, y)
    alone = [[kernel(x[i : i + 1], y[j : j + 1])[0, 0] for j in range(0, 300, 7)] for i in range(7)]
    assert np.array_equal(gram[:, ::7], alone)


@pytest.mark.parametrize(("dtype", "n"), [(np.float32, 2950), (np.float64, 2101)])
@pytest.mark.parametrize("bias", [0.0, 0.3])
def test_large_results_have_the_bits_of_small_ones(dtype: Any, n: int, bias: float) -> None:
    """Results that caches cannot hold are written in another way."""
    network = nf.FullyConnected(2, bias=bias)
    x = cases.rows(n, 3, dtype, seed=1)
    y = x.copy()
    large = network.ntk(x, y)
    assert np.array_equal(large, np.concatenate([network.ntk(x[:999], y), network.ntk(x[999:], y)]))
    gram, order = network.ntk(x), np.triu_indices(n)
    assert np.array_equal(gram, gram.T)
    assert np.array_equal(gram[order], large[order])


@derandomized
@given(network=zonal_networks, x=data(), exponent=st.integers(-8, 8))
def test_homogeneous(network: Any, x: np.ndarray, exponent: int) -> None:
    """K(2^k x, y) = 2^k K(x, y) bit for bit; any other factor up to rounding."""
    kernel = network.ntk
    factor = x.dtype.type(2.0**exponent)
    plain = kernel(x, x.copy())
    assert np.array_equal(kernel(x * factor, x.copy()), plain * factor)
    third = x.dtype.type(3)
    scale = np.abs(kernel.diag(x).max()) * np.linalg.norm(x.max()) + 1
    difference = np.abs(kernel(x, x * third) - third * plain)
    angle = inner_product_error(x.shape[1]) * (1 + getattr(network, "depth", 0))
    assert np.all(difference <= 16 * (VALUE + angle) * epsilon(x.dtype) * scale)


@derandomized
@given(kernel=kernels, x=data(), seed=st.integers(0, 100))
def test_coordinate_symmetries(kernel: Any, x: np.ndarray, seed: int) -> None:
    """Permuting the coordinates and flipping their signs turns the sphere: nothing changes."""
    generator = np.random.default_rng(seed)
    order = generator.permutation(x.shape[1])
    turned = x[:, order] * generator.choice([-1, 1], x.shape[1]).astype(x.dtype)
    layers = VALUE + LAYER * 6
    allowed = 16 * (layers + inner_product_error(x.shape[1])) * epsilon(x.dtype)
    size = 1 + float(np.max(np.abs(x))) ** 2
    assert np.all(
        np.abs(kernel(turned) - kernel(x)) <= allowed * size * gram_scale(kernel, x).max()
    )


@derandomized
@given(kernel=kernels, seed=st.integers(0, 100))
def test_rotations(kernel: Any, seed: int) -> None:
    """An orthogonal matrix applied to all rows moves the inputs by rounding, and so the kernel."""
    generator = np.random.default_rng(seed)
    x = cases.rows(12, 6, seed=seed)
    rotation = np.linalg.qr(generator.standard_normal((6, 6)))[0]
    gram, turned = kernel(x), kernel(x @ rotation)
    assert np.all(np.abs(gram - turned) <= 1e-12 * np.abs(gram).max())


@derandomized
@given(kernel=kernels, x=data(), seed=st.integers(0, 100))
def test_order_of_rows(kernel: Any, x: np.ndarray, seed: int) -> None:
    """Reordering the rows reorders the matrix (up to the last bits: tiles fall differently)."""
    order = np.random.default_rng(seed).permutation(len(x))
    difference = np.abs(kernel(x[order]) - kernel(x)[np.ix_(order, order)])
    assert np.all(difference <= 64 * epsilon(x.dtype) * gram_scale(kernel, x).max())


@derandomized
@given(x=data(), depth=st.integers(1, 12))
def test_ntk_is_between_its_bounds(x: np.ndarray, depth: int) -> None:
    """NNGP <= NTK on the diagonal, and |K(x, y)| <= sqrt(K(x, x) K(y, y)) off it."""
    network = nf.FullyConnected(depth)
    nngp, ntk = network.both(x)
    assert np.all(np.diag(ntk) >= np.diag(nngp))
    assert np.diag(ntk) == pytest.approx((depth + 1) * np.diag(nngp), rel=4 * epsilon(x.dtype))


# -------------------------------------------------------------------------------- value semantics

VALUES = [
    nf.FullyConnected(3),
    nf.FullyConnected(3, bias=0.5),
    nf.FullyConnected(2, activation="erf", parameterization="ntk", w_std=1.5, b_std=0.1),
    nf.FullyConnected(2, activation=activations.leaky_relu(0.1)),
    nf.FullyConnected(1, activation="tanh"),
    nf.ResNet(10, alpha=0.3),
    nf.ResNet(10, alpha=0.3, trained="all", normalize=True),
    nf.ArcCosine(2),
    nf.Laplace(1.5),
    nf.Laplace(1.5, inputs="sphere"),
    nf.ExponentialPower(0.5, 2.0),
    nf.Gaussian(0.5),
]


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_repr_is_the_constructor(value: Any) -> None:
    names = {name: getattr(activations, name) for name in activations.__all__}
    names |= {name: getattr(nf, name) for name in nf.__all__}
    assert eval(repr(value), names) == value


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_pickle_copy_hash(value: Any) -> None:
    """Networks and kernels are values: equal after a round trip, with equal hashes."""
    for copied in (pickle.loads(pickle.dumps(value)), copy.deepcopy(value), copy.copy(value)):
        assert copied == value
        assert hash(copied) == hash(value)
    assert {value: 1}[pickle.loads(pickle.dumps(value))] == 1


def test_kernels_of_networks_are_values() -> None:
    network = nf.ResNet(4, alpha=0.5)
    x = cases.rows(6, 3)
    for kernel in (network.ntk, network.nngp):
        kernel(x)  # compiled state must neither break pickling nor equality
        again = pickle.loads(pickle.dumps(kernel))
        assert again == kernel
        assert hash(again) == hash(kernel)
        assert np.array_equal(again(x), kernel(x))
    assert network.ntk == nf.ResNet(4, alpha=0.5).ntk
    assert network.ntk != network.nngp
    assert network.ntk != nf.ResNet(4, alpha=0.25).ntk
    assert repr(network) in repr(network.ntk)


def test_different_networks_differ() -> None:
    assert len(set(VALUES)) == len(VALUES)
    assert nf.FullyConnected(3) != nf.FullyConnected(4)
    assert nf.FullyConnected(3) == nf.FullyConnected(3, bias=0)


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_frozen(value: Any) -> None:
    with pytest.raises(AttributeError):
        value.depth = 5


# ---------------------------------------------------------------------------------- scikit-learn


def test_support_vector_machine() -> None:
    """SVC(kernel=net.ntk) learns the digits, and equals the precomputed Gram matrix."""
    svm = pytest.importorskip("sklearn.svm")
    datasets = pytest.importorskip("sklearn.datasets")
    x, y = datasets.load_digits(return_X_y=True)
    x, y = x[:600], y[:600]
    kernel = nf.FullyConnected(3).ntk
    direct = svm.SVC(kernel=kernel, C=0.01).fit(x[:400], y[:400])
    gram = svm.SVC(kernel="precomputed", C=0.01).fit(kernel(x[:400]), y[:400])
    assert direct.score(x[400:], y[400:]) > 0.85
    assert np.array_equal(direct.predict(x[400:]), gram.predict(kernel(x[400:], x[:400])))


def test_kernel_ridge() -> None:
    """KernelRidge(kernel="precomputed") solves (K + a I) c = y with our K; the callable agrees."""
    kernel_ridge = pytest.importorskip("sklearn.kernel_ridge")
    x = cases.rows(80, 5)
    y = np.sin(x[:, 0]) + x[:, 1] ** 2
    kernel = nf.ResNet(4, alpha=0.5, normalize=True).ntk
    gram = kernel(x)
    model = kernel_ridge.KernelRidge(alpha=0.1, kernel="precomputed").fit(gram, y)
    coefficients = np.linalg.solve(gram + 0.1 * np.eye(80), y)
    assert model.dual_coef_ == pytest.approx(coefficients, rel=1e-9, abs=1e-12)
    test = cases.rows(9, 5, seed=3)
    assert model.predict(kernel(test, x)) == pytest.approx(kernel(test, x) @ coefficients)
