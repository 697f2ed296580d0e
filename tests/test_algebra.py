"""Sums, products, multiples, normalised kernels and kernels of columns, against their parts.

Oracles combine what the formulas of the parts give in 50 digits, or float64 matrices of the parts.
"""

from __future__ import annotations

import copy
import pickle
import tracemalloc
from collections.abc import Callable
from functools import cache, reduce
from operator import add, mul
from typing import Any

import numpy as np
import pytest
from mpmath import mp, mpf
from scipy.special import roots_legendre

import cases
import ntkfast as nf
import oracle
from ntkfast import places
from test_near_duplicates import near_pairs
from test_zonal import COSINES, exact_angle
from tolerances import PROFILE, epsilon

NTK, NNGP, BIASED = (
    nf.FullyConnected(3).ntk,
    nf.ResNet(2, alpha=0.5).nngp,
    nf.FullyConnected(2, bias=0.5).ntk,
)
LAPLACE, SPHERE = nf.Laplace(0.5), nf.Laplace(2.0, inputs="sphere")
IMAGES = nf.Convolutional(1, filter_size=3, shape=(3, 4, 2)).ntk
SEQUENCES = nf.Recurrent(1).ntk
EXACT = {
    NTK: oracle.fully_connected(3),
    NNGP: oracle.resnet(2, 0.5, which="nngp"),
    BIASED: oracle.fully_connected(2, bias=0.5),
    SPHERE: oracle.laplace(2),
}


def combined(operation: Callable[[Any, Any], Any], *kernels: nf.Kernel) -> oracle.Kernel:
    """Return the oracle of a sum or product, with the care that its most careful part asks for."""
    parts = [EXACT[kernel] for kernel in kernels]
    return oracle.Kernel(
        lambda q, p, theta: reduce(operation, [part.pair(q, p, theta) for part in parts]),
        depth=sum(part.depth for part in parts),
        homogeneous=all(part.homogeneous for part in parts),
    )


def multiplied(factor: float, kernel: nf.Kernel) -> oracle.Kernel:
    part = EXACT[kernel]
    return oracle.Kernel(
        lambda q, p, theta: mpf(factor) * part.pair(q, p, theta), part.depth, part.homogeneous
    )


def normalised(kernel: nf.Kernel) -> oracle.Kernel:
    part = EXACT[kernel]

    def pair(q: mpf, p: mpf, theta: mpf) -> mpf:
        size = part.pair(q, q, mpf(0)) * part.pair(p, p, mpf(0))
        return part.pair(q, p, theta) / mp.sqrt(size)

    return oracle.Kernel(pair, part.depth, part.homogeneous)


FORMULAS: dict[str, tuple[Any, oracle.Kernel]] = {
    "sum": (NTK + NNGP, combined(add, NTK, NNGP)),
    "product": (NTK * NNGP, combined(mul, NTK, NNGP)),
    "product-with-laplace": (NTK * SPHERE, combined(mul, NTK, SPHERE)),
    "multiple": (0.3 * NTK, multiplied(0.3, NTK)),
    "normalised": (NTK.normalized(), normalised(NTK)),
    "sum-of-degrees": (NTK + SPHERE, combined(add, NTK, SPHERE)),
    "sum-with-bias": (NTK + BIASED, combined(add, NTK, BIASED)),
    "product-with-bias": (BIASED * NTK, combined(mul, BIASED, NTK)),
    "normalised-with-bias": (BIASED.normalized(), normalised(BIASED)),
}
ONE_PROFILE = [name for name, (kernel, _) in FORMULAS.items() if kernel.is_zonal]


def features(matrix: np.ndarray) -> np.ndarray:
    """Return a Gram matrix with ones on the diagonal, where that is possible."""
    size = np.sqrt(np.diag(matrix))
    return np.asarray(matrix / np.outer(size, size))


def rows(count: int = 60, dim: int = 6, dtype: Any = np.float64, seed: int = 0) -> np.ndarray:
    X = cases.rows(count, dim, dtype, seed)
    X[3] = X[5]
    return X


def check_all(kernel: Any, X: Any, Y: Any, wanted: np.ndarray, across: np.ndarray) -> None:
    """Whether everything that a kernel does agrees with its matrices."""
    dtype = kernel(X).dtype
    count, size = len(wanted), np.abs(wanted).max()
    atol = 16 * epsilon(dtype) * size
    K, C = kernel(X), kernel(X, Y)
    np.testing.assert_allclose(K, wanted, rtol=0, atol=atol)
    np.testing.assert_allclose(C, across, rtol=0, atol=atol)
    assert np.array_equal(K, K.T)
    assert np.array_equal(np.diag(K), kernel.diag(X))
    V = np.random.default_rng(1).standard_normal((count, 3))
    W = V[: across.shape[1], 0]
    bound = dict(rtol=0, atol=atol * count)
    np.testing.assert_allclose(kernel.matmul(X, None, V), K.astype(np.float64) @ V, **bound)
    np.testing.assert_allclose(kernel.matmul(X, Y, W), C.astype(np.float64) @ W, **bound)
    found = kernel.operator(X, ridge=0.5) @ V
    np.testing.assert_allclose(found, K.astype(np.float64) @ V + 0.5 * V, **bound)
    out = np.full((2 * count, count), np.nan, dtype).T  # columns of unit stride, and gaps
    assert kernel(X, out=out[:, ::2]) is not None
    assert np.array_equal(out[:, ::2], K)
    assert np.isnan(out[:, 1::2]).all()


@cache
def expected_near(name: str, direction: int, dtype: Any) -> cases.Expected:
    """Values of 50 digits, computed once for all engines."""
    return cases.compare(FORMULAS[name][1], *near_pairs(dtype, 3, direction))


@pytest.mark.grid(1)
@pytest.mark.parametrize("direction", [1, -1], ids=["duplicate", "antipode"])
@pytest.mark.parametrize("name", FORMULAS)
def test_near_pairs(name: str, direction: int, engine: dict[str, Any], dtype: Any) -> None:
    """Digits are kept down to angles of one unit, whichever way the kernel is evaluated."""
    base, near = near_pairs(dtype, 3, direction)
    expected_near(name, direction, dtype).check(FORMULAS[name][0](base, near, **engine))


@pytest.mark.slow
@pytest.mark.parametrize("name", FORMULAS)
def test_profile(name: str) -> None:
    kernel, exact = FORMULAS[name]
    wanted = np.array([exact.profile(exact_angle(u)) for u in COSINES], dtype=object)
    top = float(exact.profile(mpf(0)))
    error = np.abs(oracle.error(kernel.profile(COSINES), wanted))
    assert np.max(error) <= PROFILE * epsilon(np.float64) * top


@pytest.mark.parametrize("name", ["sum", "product", "multiple", "normalised"])
def test_what_is_missing_keeps_its_digits(name: str) -> None:
    """1 - k is relative to itself where a difference of values has no digits."""
    kernel, exact = FORMULAS[name]
    v = np.array([1e-24, 1e-12, 1e-4, 0.3])
    found = kernel.curve(3, 1.0).missing(v, 1 - v)
    with mp.workdps(60):
        top = exact.pair(mpf(1), mpf(1), mpf(0))
        wanted = [1 - exact.pair(mpf(1), mpf(1), 2 * mp.asin(mp.sqrt(mpf(one)))) / top for one in v]
        assert np.max(np.abs(found / np.array(wanted, dtype=float) - 1)) <= 1e-13


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ONE_PROFILE)
def test_zonal_combinations_are_one_profile(name: str, dtype: Any) -> None:
    kernel, X = FORMULAS[name][0], places.HOST.rows(rows(dtype=dtype), None)[0]
    assert kernel.is_zonal
    assert kernel._profile(X, X) is not None
    assert kernel.homogeneity == {"product": 2.0, "normalised": 0.0}.get(name, 1.0)


def test_of_one_norm_everything_is_one_profile() -> None:
    X = rows()
    X /= np.linalg.norm(X, axis=1, keepdims=True)
    some = places.HOST.rows(2 * X, None)[0]
    kernel = (NTK + BIASED) * SPHERE
    assert not kernel.is_zonal
    assert kernel._profile(some, some) is not None
    wanted = (NTK(2 * X) + BIASED(2 * X)) * SPHERE(2 * X)
    np.testing.assert_allclose(kernel(2 * X), wanted, rtol=0, atol=1e-14 * wanted.max())
    assert kernel.profile(0.3, radius=2.0) == pytest.approx(
        (NTK.profile(0.3, radius=2.0) + BIASED.profile(0.3, radius=2.0))
        * SPHERE.profile(0.3, radius=2.0),
        rel=1e-14,
    )


GENERAL: dict[str, tuple[Any, Callable[[Any], np.ndarray]]] = {
    "sum": (NTK + NNGP, lambda Z: NTK(Z) + NNGP(Z)),
    "three": (NTK + LAPLACE + BIASED, lambda Z: NTK(Z) + LAPLACE(Z) + BIASED(Z)),
    "product": (NTK * LAPLACE, lambda Z: NTK(Z) * LAPLACE(Z)),
    "weights": (2 * BIASED + np.float64(0.5) * LAPLACE, lambda Z: 2 * BIASED(Z) + LAPLACE(Z) / 2),
    "zero": (0 * NTK + LAPLACE, LAPLACE),
    "normalised": ((BIASED + LAPLACE).normalized(), lambda Z: features(BIASED(Z) + LAPLACE(Z))),
    "nested": (
        (2 * NTK + NNGP).normalized() * (BIASED + LAPLACE),
        lambda Z: features(2 * NTK(Z) + NNGP(Z)) * (BIASED(Z) + LAPLACE(Z)),
    ),
    "columns": (NTK.on([4, 0]) * LAPLACE.on(2), lambda Z: NTK(Z[:, [4, 0]]) * LAPLACE(Z[:, [2]])),
    "additive": (
        sum(0.5 * LAPLACE.on(range(k, k + 2)) for k in (0, 2, 4)),
        lambda Z: sum(0.5 * LAPLACE(Z[:, k : k + 2]) for k in (0, 2, 4)),
    ),
    "ard": (
        NTK.ard([1, 2, 4, 0.5, 1, 8]).normalized(),
        lambda Z: features(NTK(Z / [1, 2, 4, 0.5, 1, 8])),
    ),
    "rows-and-images": (
        nf.Convolutional(1, filter_size=1, shape=(1, 3, 2)).ntk + LAPLACE,
        lambda Z: nf.Convolutional(1, filter_size=1).ntk(Z.reshape(-1, 1, 3, 2)) + LAPLACE(Z),
    ),
}


@pytest.mark.grid(2)
@pytest.mark.parametrize("name", GENERAL)
def test_general(name: str, dtype: Any) -> None:
    kernel, formula = GENERAL[name]
    X, Y = rows(dtype=dtype), rows(20, seed=1, dtype=dtype)
    Y[7] = X[9]
    wanted = formula(np.vstack([X, Y]).astype(np.float64))
    check_all(kernel, X, Y, wanted[:60, :60], wanted[:60, 60:])


def test_panels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut into panels the matrix has the same bits, and half of each part is evaluated."""
    X, kernel = rows(200), (NTK + LAPLACE) * BIASED
    whole, products = kernel(X), kernel.matmul(X, None, np.ones(200))
    columns = kernel(X, X[:50])
    monkeypatch.setattr("ntkfast.kernels.algebra.PANEL_BYTES", 1 << 14)
    assert np.array_equal(kernel(X), whole)
    assert np.array_equal(kernel(X, X[:50]), columns)
    np.testing.assert_allclose(products, whole.sum(axis=1), rtol=1e-13)


def test_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside the result there is a part of it, not another matrix."""
    monkeypatch.setattr("ntkfast.kernels.algebra.PANEL_BYTES", 1 << 18)
    X = rows(1000, 3)
    kernel, out = LAPLACE + BIASED + NTK, np.empty((1000, 1000))
    kernel(X, out=out)
    tracemalloc.start()
    kernel(X, out=out)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < out.nbytes / 8


def test_images_and_sequences() -> None:
    generator = np.random.default_rng(0)
    images = generator.standard_normal((12, 3, 4, 2))
    other = nf.Convolutional(1, filter_size=1).nngp
    kernel = (IMAGES + 2 * other).normalized()
    wanted = features(IMAGES(images) + 2 * other(images))
    check_all(kernel, images, images[:5], wanted, wanted[:, :5])
    kernel.check_shapes((5, 3, 4, 2))
    some = [generator.standard_normal((n, 2)) for n in (3, 5, 4, 3, 7, 2)]
    kernel = SEQUENCES * nf.Recurrent(2).nngp
    wanted = SEQUENCES(some) * nf.Recurrent(2).nngp(some)
    check_all(kernel, some, some[:2], wanted, wanted[:, :2])
    check_all(kernel, kernel.collect(some), some[:2], wanted, wanted[:, :2])
    finite = nf.finite.MLP((6, 8, 1), rng=0).ntk
    X = rows(20)
    wanted = finite(X) + NTK(X)
    check_all(finite + NTK, X, X[:4], wanted, wanted[:, :4])


def test_rows_of_zeros_when_normalised() -> None:
    """Limits at right angles for zonal kernels; no direction, and so 0 and 1, for others."""
    X = rows(9)
    X[[2, 7]] = 0
    rough = nf.ExponentialPower(0.5, inputs="homogeneous")  # zonal, but no polynomial
    homogeneous = nf.FullyConnected(2, activation="gelu").ntk
    limits = {
        NTK: NTK.profile(0.0) / NTK.profile(1.0),
        rough: rough.profile(0.0),
        homogeneous: 0.0,
    }
    for kernel, limit in limits.items():
        K = kernel.normalized()(X)
        assert np.all(K[[2, 7]][:, [2, 7]] == 1)
        np.testing.assert_allclose(np.delete(K[[2, 7]], [2, 7], axis=1), limit, atol=1e-15)
        assert np.array_equal(K, K.T)
        assert np.all(np.diag(K) == 1)
        assert np.linalg.eigvalsh(K).min() >= -1e-14
        product = kernel.normalized().matmul(X, None, np.eye(9))
        np.testing.assert_allclose(product, K, rtol=0, atol=1e-15)
    blank = np.zeros((3, 3, 4, 2))
    blank[0] = 1
    np.testing.assert_allclose(IMAGES.normalized()(blank), [[1, 0, 0], [0, 1, 1], [0, 1, 1]])


@pytest.mark.parametrize("size", [1e-60, 1e60])
def test_normalised_kernels_of_any_size(size: float) -> None:
    """The norms cancel: neither small nor large rows matter."""
    X = rows()
    for kernel in (NTK, rough := nf.ExponentialPower(0.5, inputs="homogeneous")):
        scaled = X * np.where(np.arange(60) % 2, size, 1)[:, None]
        K, wanted = kernel.normalized()(scaled), kernel.normalized()(X)
        np.testing.assert_allclose(K, wanted, rtol=0, atol=1e-14)
    with pytest.raises(ValueError, match=r"X: the kernel of input 0 .* cannot be normalised"):
        (rough + 0 * NTK).normalized()((1e-30 * X).astype(np.float32))
    with pytest.raises(ValueError, match="X: the kernel of input 0"):
        (0 * LAPLACE).normalized()(X)


def test_factors_beyond_float32() -> None:
    X = (1e-4 * rows()).astype(np.float32)
    kernel, wanted = 1e45 * (1e-30 * BIASED * (1e-10 * LAPLACE)), 1e5 * (BIASED * LAPLACE)(X)
    with pytest.raises(ValueError, match=r"X: the kernel of a row with norm .* overflows float32"):
        (1e45 * LAPLACE)(X)
    np.testing.assert_allclose(
        (1e45 * (1e-10 * BIASED) * (1e-30 * LAPLACE))(X.astype(float)), wanted, 1e-6
    )
    assert kernel.factor == 1e45
    with pytest.raises(ValueError, match="X: the kernel, or a part of it, overflows float32"):
        (1e30 * BIASED * (1e30 * LAPLACE) * (1e-60 * LAPLACE))(X)


EXPRESSIONS = [*FORMULAS.values(), *GENERAL.values()]


@pytest.mark.parametrize("kernel", [kernel for kernel, _ in EXPRESSIONS], ids=repr)
def test_values(kernel: Any) -> None:
    """They are values: shown as what makes them, equal to copies, found in dictionaries."""
    made = eval(repr(kernel), vars(nf).copy())
    assert made == kernel
    assert {kernel: 1}[made] == 1
    for other in (pickle.loads(pickle.dumps(kernel)), copy.deepcopy(kernel)):
        assert other == kernel
        assert repr(other) == repr(kernel)
    assert kernel != 2 * kernel
    assert kernel.network is None
    assert kernel.of_rows is ("Convolutional" not in repr(kernel))


def test_equal_by_construction() -> None:
    assert (NTK + NNGP) + LAPLACE == NTK + (NNGP + LAPLACE)
    assert (NTK * NNGP) * LAPLACE == NTK * (NNGP * LAPLACE)
    assert 2 * (NTK * 3) == 6 * NTK
    assert sum([NTK, LAPLACE]) == NTK + LAPLACE
    assert NTK + LAPLACE != NTK * LAPLACE
    assert NTK.normalized().normalized() == NTK.normalized()
    assert NTK.on(2) == NTK.on([2])
    assert NTK.on([1, 2]).normalized() == NTK.normalized().on([1, 2])
    assert repr(2 * (NTK + LAPLACE).on([0])) == (
        "2.0 * (FullyConnected(3).ntk + Laplace(c=0.5)).on(0)"
    )


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: NTK + 1, TypeError, "expected a Kernel on the other side, got int"),
        (lambda: 1 + NTK, TypeError, "expected a Kernel on the other side, got int"),
        (lambda: NTK + nf.FullyConnected(1), TypeError, "a network has two: .ntk and .nngp"),
        (lambda: NTK * "2", TypeError, "expected a Kernel or a number >= 0 .*, got str"),
        (lambda: np.ones(2) * NTK, TypeError, "got ndarray"),
        (lambda: NTK * True, TypeError, "got bool"),
        (lambda: -1 * NTK, ValueError, "factor: expected a finite number >= 0, got -1"),
        (lambda: NTK * np.inf, ValueError, "factor: expected a finite number >= 0, got inf"),
        (lambda: NTK.on([]), ValueError, "columns: expected at least one"),
        (lambda: NTK.on([1, 1]), ValueError, "each at most once"),
        (lambda: NTK.on([-1]), ValueError, "columns: expected an integer >= 0, got -1"),
        (lambda: NTK.on(0.5), TypeError, "columns: expected numbers in a list, got 0.5"),
        (lambda: NTK.ard(2.0), TypeError, "length_scales: expected numbers in a list, got 2.0"),
        (lambda: NTK.ard([1.0, 0.0]), ValueError, "length_scales: expected a finite number > 0"),
        (lambda: NTK.ard([]), ValueError, "length_scales: expected one for each column"),
        (lambda: NTK.on([0, 6])(rows()), ValueError, r"X: expected at least 7 columns .*\(60, 6\)"),
        (lambda: NTK.ard([1, 2])(rows()), ValueError, r"X: expected shape \(\*, 2\)"),
        (lambda: NTK.on(0)(rows(), rows(9, 5)), ValueError, r"Y: expected shape \(\*, 6\)"),
        (lambda: NTK.on(0)(rows() * np.nan), ValueError, "X: .*row 0 holds NaN"),
        (lambda: (NTK + LAPLACE.on(0))(rows()[0]), ValueError, "X: expected shape"),
        (lambda: (NTK + SEQUENCES).check_shapes((3, 4), (3, 5)), ValueError, "Y: expected shape"),
        (lambda: nf.spectrum.mercer(NTK + LAPLACE, 3, 4), ValueError, "expected a zonal kernel"),
        (lambda: nf.spectrum.mercer(NTK.on(0), 3, 4), TypeError, "expected a kernel of rows"),
        (lambda: (0 * NTK).normalized().profile(0.5), ValueError, "overflows float64 or vanishes"),
    ],
)  # fmt: skip
def test_errors(make: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()


def test_results_do_not_overwrite_inputs() -> None:
    X = np.zeros((6, 6))
    for kernel in (NTK + LAPLACE, LAPLACE.on([0, 1]) + NTK):
        with pytest.raises(ValueError, match="out: expected memory of its own, it overlaps X"):
            kernel(X, out=X)


def test_batch(tmp_path: Any) -> None:
    kernel = NTK.normalized() + LAPLACE.on([0, 3])
    nf.batch.gram(kernel, rows(), out=tmp_path / "K.npy", tile=16)
    assert np.array_equal(np.load(tmp_path / "K.npy"), kernel(rows()))


@pytest.mark.slow
@pytest.mark.parametrize(
    "kernel",
    [
        NTK + nf.ArcCosine(1),
        NTK * nf.ArcCosine(1),
        3 * nf.Laplace(1.0, inputs="sphere"),
        nf.FullyConnected(1, activation="exp").nngp + nf.FullyConnected(1, activation="erf").nngp,
        nf.FullyConnected(1, activation="exp").nngp * nf.FullyConnected(1, activation="erf").nngp,
        NTK.normalized(),
    ],
    ids=repr,
)
def test_spectra(kernel: Any) -> None:
    """Eigenvalues of degree k are the integrals of the profile times Legendre polynomials."""
    found = nf.spectrum.mercer(kernel, 3, 6, radius=None if kernel.is_zonal else 1.0)
    u, w = roots_legendre(2000)
    values = kernel.profile(u)
    wanted = [w @ (values * np.polynomial.Legendre.basis(k)(u)) / 2 for k in range(7)]
    np.testing.assert_allclose(found.eigenvalues, wanted, rtol=0, atol=1e-9 * wanted[0])


def test_complex_cosines() -> None:
    """The continuation agrees with the kernel where it is real."""
    p, q = np.array([[1.0], [2.0]]), np.array([[0.5], [3.0]])
    u = np.array([[0.3], [-0.7]])
    x = np.hstack([p, 0 * p])
    y = q * np.hstack([u, np.sqrt(1 - u * u)])
    parts = BIASED, LAPLACE, NTK, nf.Gaussian(0.3, inputs="homogeneous"), SPHERE
    for kernel in (*parts, BIASED + SPHERE, 2 * BIASED * LAPLACE, (BIASED + NTK).normalized()):
        found = kernel.at_complex_cosines(2, p, q, u.astype(complex))
        np.testing.assert_allclose(found[:, 0], np.diag(kernel(x, y)), rtol=1e-13)
