"""K(X, X) V with each pair of inputs evaluated once, and the operator of SciPy made of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.sparse.linalg import LinearOperator, cg, eigsh, lobpcg

import cases
import ntkfast as nf
from ntkfast.engines.groups import Groups, block_pair, count_pairs, group_rows
from ntkfast.engines.numba.cpu.turns import count_in_groups, pair_in_groups
from ntkfast.kernels import base
from ntkfast.kernels.group_products import of_groups, validated
from tolerances import PRODUCT, epsilon

KERNELS = {
    "profile": nf.FullyConnected(3).ntk,
    "layers": nf.FullyConnected(2, bias=0.5).ntk,
    "nngp of layers": nf.FullyConnected(2, bias=0.5).nngp,
    "Laplace": nf.Laplace(0.5, inputs="euclidean"),
    "Gaussian": nf.Gaussian(0.3),
}
# About the sides of tiles (96, 192, 256, 384), of blocks (384, 768), and of more of them.
SIZES = (1, 2, 95, 96, 97, 191, 192, 193, 383, 384, 385, 769)
OTHERS = {
    "sequences": (nf.Recurrent(2, b_std=0.5).ntk, (5, 2)),
    "NNGP of sequences": (nf.Recurrent(1).nngp, (5, 2)),
    "images": (nf.Convolutional(2).ntk, (4, 5, 2)),
    "NNGP of images": (nf.Convolutional(2).nngp, (4, 5, 2)),
    "pairs": (nf.FullyConnected(1, activation=np.tanh, bias=0.5).ntk, (7,)),
}
every_kernel = pytest.mark.parametrize("name", KERNELS)
every_other = pytest.mark.parametrize(  # tables of tanh take seconds
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] * (name == "pairs")) for name in OTHERS],
)


def special_rows(n: int, dtype: Any) -> np.ndarray:
    """Return rows with duplicates, near duplicates, antipodes and zeros near either end."""
    x = cases.rows(n, 7, dtype, seed=n)
    if n > 20:
        x[3] = x[-4] = 0
        x[-1] = x[0]
        x[-2] = -x[1]
        x[-3] = x[2] * (1 + 8 * np.finfo(dtype).eps)
        x[5] = x[6]
    return x


def check_product(
    K: np.ndarray, V: np.ndarray, product: np.ndarray, tolerance: float = 0.0
) -> None:
    """Compare with the dense product in float64 of the same values, by the rounding of a sum.

    Values of pairs that are averaged by quadrature are known to a tolerance.
    """
    assert product.dtype == K.dtype
    assert product.shape == V.shape
    size, factor = K.astype(np.float64), V.astype(np.float64)
    bound = (PRODUCT + np.sqrt(len(K))) * epsilon(K.dtype) * (np.abs(size) @ np.abs(factor))
    length = np.sqrt(size.diagonal())
    bound += tolerance * np.outer(length, length @ np.abs(factor))
    assert np.all(np.abs(product - size @ factor) <= bound)


@every_kernel
def test_against_the_dense_product(name: str, engine_name: str, dtype: Any) -> None:
    kernel = KERNELS[name]
    for n in SIZES:
        x, columns = special_rows(n, dtype), (1, 3, 10, 49)[n % 4]
        V = cases.rows(n, columns, dtype, seed=1)
        product = kernel.matmul(x, None, V, engine=engine_name)
        check_product(kernel(x, engine=engine_name), V, product)
        assert np.array_equal(product, kernel.matmul(x, x, V, engine=engine_name))


@every_kernel
def test_of_unit_vectors_it_is_the_matrix(name: str, engine_name: str, dtype: Any) -> None:
    """All values, the diagonal and the mirror image, are those of Gram matrices to the bit."""
    kernel = KERNELS[name]
    for n in (5, 193, 385):
        x = special_rows(n, dtype)
        product = kernel.matmul(x, None, np.eye(n, dtype=dtype), engine=engine_name)
        assert np.array_equal(product, kernel(x, engine=engine_name))
        assert np.array_equal(product.diagonal(), kernel.diag(x))


def test_more_columns_than_are_done_at_once(engine_name: str, dtype: Any) -> None:
    n = 1537
    x, kernel = special_rows(n, dtype), KERNELS["profile"]
    product = kernel.matmul(x, None, np.eye(n, dtype=dtype), engine=engine_name)
    assert np.array_equal(product, kernel(x, engine=engine_name))


@pytest.mark.parametrize("name", ["profile", "layers", "Laplace"])
def test_same_bits_for_any_number_of_threads(name: str, engine_name: str, dtype: Any) -> None:
    n = 2500  # 7 blocks of the native engine, 4 of the other
    x, V = special_rows(n, dtype), cases.rows(n, 3, dtype, seed=1)
    one, *more = (
        KERNELS[name].matmul(x, None, V, engine=engine_name, threads=threads)
        for threads in (1, 2, 7)
    )
    for other in more:
        assert np.array_equal(other, one)


def test_large_blocks(engine_name: str, dtype: Any) -> None:
    n, kernel = 6500, KERNELS["profile"]
    x, V = cases.rows(n, 3, dtype, seed=1), cases.rows(n, 2, dtype, seed=2)
    one, many = (kernel.matmul(x, None, V, engine=engine_name, threads=k) for k in (1, 3))
    assert np.array_equal(one, many)
    rows = np.array([0, 1535, 1536, 3000, 4608, n - 1])
    K = kernel(x[rows], x, engine=engine_name).astype(np.float64)
    bound = (PRODUCT + np.sqrt(n)) * epsilon(dtype) * (np.abs(K) @ np.abs(V))
    # a pair the other way round is off by the rounding of an inner product
    assert np.all(np.abs(one[rows] - K @ V) <= bound)


@pytest.mark.parametrize("groups", range(1, 8))
@pytest.mark.parametrize("of", range(1, 5))
def test_turns(groups: int, of: int) -> None:
    """Tasks are all pairs, each once; a task's turn is the number of those before at its blocks."""
    blocks = groups * of
    before, seen = [0] * blocks, set()
    assert count_in_groups(groups, of) == count_pairs(blocks)
    for task in range(count_pairs(blocks)):
        pair = pair_in_groups(task, groups, of)
        assert pair.first <= pair.second
        seen.add((pair.first, pair.second))
        assert before[pair.first] == pair.turn_first
        assert before[pair.second] == pair.turn_second
        for block in {pair.first, pair.second}:
            before[block] += 1
    assert len(seen) == count_pairs(blocks)
    assert before == [blocks] * blocks


@pytest.mark.parametrize("name", ["profile", "nngp of layers", "Laplace"])
def test_pairs_of_groups_make_the_product(name: str, engine_name: str, dtype: Any) -> None:
    """What they add to it, in their order, to the bit: for processes that share a product."""
    kernel = KERNELS[name]
    for n, columns in ((385, 3), (3100, 2)):  # one group; three, the last one short
        x, V = special_rows(n, dtype), cases.rows(n, columns, dtype, seed=1)
        inputs, height = validated(kernel, x), group_rows(n)
        count, sums = -(-n // height), np.zeros(V.shape)
        for task in range(count_pairs(count)):
            first, second = block_pair(task, count)[:2]
            rows, others = (slice(k * height, min((k + 1) * height, n)) for k in (first, second))
            part = of_groups(kernel, inputs, V, Groups(rows, others, n), engine_name)
            sums[rows] += part[rows]
            if first != second:
                sums[others] += part[others]
        wanted = kernel.matmul(x, None, V, engine=engine_name)
        assert np.array_equal(sums.astype(dtype), wanted)


def test_layouts(engine_name: str, dtype: Any) -> None:
    """Any strides of X, V and the result, and a vector V."""
    n, kernel = 201, KERNELS["layers"]
    x, V = special_rows(n, dtype), cases.rows(n, 3, dtype, seed=1)
    wanted = kernel.matmul(x, None, V, engine=engine_name)
    wide = np.empty((n, 20), dtype)
    wide[:, 2:16:2], wide[:, 16:19] = x, V
    for one, other in (
        (np.asfortranarray(x), np.asfortranarray(V)),
        (wide[:, 2:16:2], wide[:, 16:19]),
        (np.ascontiguousarray(x[::-1])[::-1], np.ascontiguousarray(V[:, ::-1])[:, ::-1]),
    ):
        assert np.array_equal(kernel.matmul(one, None, other, engine=engine_name), wanted)
    whole = np.full((2 * n, 9), -7, dtype)
    for out in (whole[::2, 1:4], whole[::-2, ::4], np.empty((3, n), dtype).T):
        assert kernel.matmul(x, None, V, out=out, engine=engine_name) is out
        assert np.array_equal(out, wanted)
    assert np.all(whole[:, 5:8] == -7)
    vector = kernel.matmul(x, None, V[:, 1], engine=engine_name)
    assert vector.shape == (n,)
    assert np.array_equal(vector, kernel.matmul(x, None, V[:, 1:2], engine=engine_name)[:, 0])


@every_other
@pytest.mark.parametrize("panel_bytes", [1 << 22, 3000])
def test_by_panels(
    name: str, panel_bytes: int, dtype: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sequences, images, and rows of which pairs are walked: panels of the upper half."""
    kernel, shape = OTHERS[name]
    n = 75
    monkeypatch.setattr(base, "PANEL_BYTES", panel_bytes)
    X = np.random.default_rng(0).standard_normal((n, *shape)).astype(dtype)
    X[-1] = X[0]
    X[4] = 0
    V = cases.rows(n, 3, dtype, seed=1)
    K = kernel(X)
    # tables of averages serve the whole matrix, single quadratures serve low panels
    tolerance = kernel.network.activation.tolerance if name == "pairs" else 0.0
    check_product(K, V, kernel.matmul(X, None, V), tolerance)
    if name != "pairs":  # whose products are by BLAS, and depend on the height of a panel
        product = kernel.matmul(X, None, np.eye(n, dtype=dtype))
        assert np.array_equal(product, K)
        assert np.array_equal(product.diagonal(), kernel.diag(X))


@every_other
def test_each_pair_once(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Panels hold about half of the matrix."""
    kernel, shape = OTHERS[name]
    n = 160
    monkeypatch.setattr(base, "PANEL_BYTES", 1)
    pairs = []
    gram = type(kernel)._gram

    def counted(self: Any, X: Any, Y: Any, out: Any, run: Any) -> None:
        pairs.append(out.size)
        gram(self, X, Y, out, run)

    monkeypatch.setattr(type(kernel), "_gram", counted)
    kernel.matmul(np.random.default_rng(0).standard_normal((n, *shape)), None, np.ones(n))
    assert sum(pairs) == n * (n + base.LEAST_ROWS) // 2


# ------------------------------------------------------------------------------------- operator


@pytest.fixture
def operator() -> tuple[LinearOperator, np.ndarray]:
    """Return an operator and its matrix, in float64."""
    X, kernel = cases.rows(90, 5, seed=1), KERNELS["layers"]
    return kernel.operator(X, ridge=0.5), kernel(X) + 0.5 * np.eye(90)


def test_operator_is_the_matrix(operator: Any) -> None:
    A, dense = operator
    V = cases.rows(90, 3, seed=2)
    assert A.shape == dense.shape
    assert A.dtype == np.float64
    tolerance = 100 * epsilon(np.float64) * (np.abs(dense) @ np.abs(V)).max()
    for found in (A @ V, A.H @ V, A.T @ V, np.stack([A @ v for v in V.T], axis=1), A.matmat(V)):
        np.testing.assert_allclose(found, dense @ V, rtol=0, atol=tolerance)
    assert (A @ V[:, :1]).shape == (90, 1)
    np.testing.assert_allclose(A.rmatvec(V[:, 0]), dense @ V[:, 0], rtol=0, atol=tolerance)


def test_operator_in_solvers(operator: Any) -> None:
    A, dense = operator
    y = cases.rows(90, 1, seed=3)[:, 0]
    found, info = cg(A, y, rtol=1e-12)
    assert info == 0
    assert np.linalg.norm(dense @ found - y) <= 1e-11 * np.linalg.norm(y)
    wanted = np.linalg.eigvalsh(dense)[-3:]
    some = eigsh(A, k=3, which="LA", return_eigenvectors=False, v0=y)
    np.testing.assert_allclose(np.sort(some), wanted, rtol=1e-12)
    start = cases.rows(90, 3, seed=4)
    some, _ = lobpcg(A, start, tol=1e-7, maxiter=200)  # errors of values: squares of residuals
    np.testing.assert_allclose(np.sort(some), wanted, rtol=1e-12)


def test_operator_of_other_inputs(dtype: Any) -> None:
    """Sequences, in either precision; the ridge is added in that of V if it is larger."""
    kernel, shape = OTHERS["sequences"]
    X = np.random.default_rng(0).standard_normal((12, *shape)).astype(dtype)
    A = kernel.operator(X, ridge=2)
    v = np.random.default_rng(1).standard_normal(12)
    assert A.dtype == dtype
    assert (A @ v.astype(dtype)).dtype == dtype
    plain = kernel.operator(X)
    assert np.array_equal(plain @ v, kernel.matmul(X, None, v))
    assert np.array_equal(A @ v, kernel.matmul(X, None, v) + 2 * v)


def test_operator_arguments() -> None:
    kernel, X = KERNELS["profile"], np.ones((3, 2))
    with pytest.raises(ValueError, match=r"^X: "):
        kernel.operator(np.array([[np.nan, 1.0]]))
    with pytest.raises(ValueError, match=r"^ridge: "):
        kernel.operator(X, ridge=-1.0)
    with pytest.raises(TypeError, match=r"^ridge: "):
        kernel.operator(X, ridge="1")
    with pytest.raises(ValueError, match=r"^engine: "):
        kernel.operator(X, engine="none")
    with pytest.raises(ValueError, match=r"^threads: "):
        kernel.operator(X, threads=0)
