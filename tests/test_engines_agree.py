"""The Numba engine against the C++ engine: the same mathematics, the same promises."""

from __future__ import annotations

import _thread
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cases
import ntkfast as nf
from ntkfast import activations
from ntkfast.engines import native
from ntkfast.engines.maps import LayerMap
from tolerances import LAYER, VALUE, epsilon, inner_product_error

pytest.importorskip("numba")

from ntkfast.engines.numba import bind_gram, compiling
from ntkfast.engines.numba.cpu.tile import gram_task
from ntkfast.engines.numba.formulas.coefficients import COEFFICIENTS

both_engines = pytest.mark.skipif(
    bool(native.unavailable()), reason="the compiled extension ntkfast._core is not installed"
)

# Pairs whose inner product would be amplified by more than about this are computed from
# differences by both engines (profile.AMPLIFICATION; the layer map has the same thresholds).
AMPLIFICATION = 3.4


def nested(inner: str) -> nf.Residual:
    """Nest two branches."""
    return nf.Residual("erf", nf.Dense(), nf.Residual(inner, nf.Dense(1.5)))


OTHERS = [
    (
        "abs-residual",
        lambda: nf.compose(nf.Dense(), nf.Residual("relu", nf.Dense(1.5, 0.1)), "abs").ntk,
    ),
    ("nested", lambda: nf.compose(nf.Dense(), nested("gelu")).ntk),
    ("nested-nngp", lambda: nf.compose(nf.Dense(), nested("sin")).nngp),
    ("deep-resnet", lambda: nf.ResNet(30, alpha=0.5).ntk),
    ("deep", lambda: nf.FullyConnected(100).ntk),
]
ALL = [pytest.param(case.make, id=case.name) for case in cases.CASES]
ALL += [pytest.param(make, id=name) for name, make in OTHERS]


@pytest.fixture(
    params=[pytest.param(np.float32, marks=pytest.mark.slow), np.float64],
    ids=["float32", "float64"],
)
def dtype(request: pytest.FixtureRequest) -> type[np.floating]:
    """Both precisions; what is compiled for one of them takes as long for the other."""
    return request.param


def layers_of(kernel: Any, dtype: Any) -> int:
    """Depth of the layer map on rows of different norms, 0 for the other maps."""
    if not hasattr(kernel, "network"):
        return 0
    plan = kernel._map(*[_rows(cases.rows(3, 5, dtype))] * 2)[0]
    return len(plan.numbers) if isinstance(plan, LayerMap) else 0


def _rows(x: np.ndarray) -> Any:
    from ntkfast import engines
    from ntkfast.arrays import checks

    return checks.rows("X", x, engines.row_norms(x))


def check(kernel: Any, x: np.ndarray, y: np.ndarray, one: np.ndarray, two: np.ndarray) -> None:
    """Both engines round the inner product and the value, in different orders: twice each."""
    scale = np.sqrt(np.multiply.outer(np.abs(kernel.diag(x)), np.abs(kernel.diag(y))))
    layers = layers_of(kernel, x.dtype)
    units = VALUE + LAYER * layers + AMPLIFICATION * inner_product_error(x.shape[1])
    smallest = float(np.finfo(x.dtype).smallest_subnormal)
    allowed = 2 * units * epsilon(x.dtype) * scale.astype(np.float64) + smallest
    error = np.abs(one.astype(np.float64) - two.astype(np.float64))
    assert np.all(np.isfinite(one))
    assert np.all(error <= allowed), f"{np.max(error / allowed):.2f} times the tolerance"


@both_engines
@pytest.mark.parametrize("make", ALL)
def test_special_pairs(make: Any, dtype: Any) -> None:
    """Duplicates, antipodes, zero rows, multiples and near-duplicates."""
    kernel = make()
    x, y = cases.special_pairs(dtype, 7, 1.0)
    check(kernel, x, y, kernel(x, y, engine="numba"), kernel(x, y, engine="native"))


POLYNOMIAL = activations.polynomial((0.5, 1.0, 0.25))
SOME = [
    pytest.param(lambda: nf.FullyConnected(3).ntk, id="profile"),
    pytest.param(lambda: nf.FullyConnected(2, bias=0.5).ntk, id="layers"),
    pytest.param(lambda: nf.FullyConnected(2, bias=0.5).nngp, id="layers-nngp"),
    pytest.param(lambda: nf.FullyConnected(2, activation=POLYNOMIAL).ntk, id="series"),
    pytest.param(lambda: nf.Laplace(0.5, inputs="euclidean"), id="euclidean"),
    pytest.param(lambda: nf.ExponentialPower(1.5, inputs="homogeneous"), id="homogeneous"),
]
DISTANCES = ("euclidean", "homogeneous")
SHAPES = [(1, 1, 1), (2, 1, 3), (97, 257, 5), (260, 131, 130)]


@both_engines
@pytest.mark.parametrize("make", SOME)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_shapes(make: Any, shape: tuple[int, int, int], dtype: Any) -> None:
    kernel, (n, m, d) = make(), shape
    x, y = cases.rows(n, d, dtype, seed=1), cases.rows(m, d, dtype, seed=2)
    one, two = (kernel(x, y, engine=name) for name in ("numba", "native"))
    check(kernel, x, y, one, two)


@both_engines
@pytest.mark.parametrize("make", SOME)
def test_symmetric(make: Any, dtype: Any) -> None:
    """Symmetric to the bit over several tiles; duplicates have the values of the diagonal."""
    kernel = make()
    x = cases.rows(300, 9, dtype, seed=1)
    x[280], x[17], x[200] = x[3], -x[5], 0
    result = kernel(x, engine="numba")
    assert np.array_equal(result, result.T)
    check(kernel, x, x, result, kernel(x, engine="native"))
    assert result[3, 280] == result[3, 3] == result[280, 280]


@both_engines
@pytest.mark.parametrize("bias", [0.0, 0.5])
@pytest.mark.parametrize("symmetric", [False, True])
def test_both(bias: float, symmetric: bool, dtype: Any) -> None:
    network = nf.FullyConnected(3, bias=bias)
    x = cases.rows(101, 6, dtype, seed=1)
    y = None if symmetric else cases.rows(270, 6, dtype, seed=2)
    nngp, ntk = network.both(x, y, engine="numba")
    wanted = network.both(x, y, engine="native")
    check(network.nngp, x, x if y is None else y, nngp, wanted[0])
    check(network.ntk, x, x if y is None else y, ntk, wanted[1])
    assert np.array_equal(ntk, network.ntk(x, y, engine="numba"))
    assert np.array_equal(nngp, network.nngp(x, y, engine="numba"))


# Products in float32 with every map: test_threads.py. Each map costs seconds of compilation: by
# default those of distances only.
PRODUCTS = [
    pytest.param(*param.values, id=param.id, marks=[pytest.mark.slow] * (param.id not in DISTANCES))
    for param in SOME
]
PRODUCTS_OF_DTYPES = [
    *(pytest.param(*p.values, np.float64, id=p.id, marks=p.marks) for p in PRODUCTS),
    pytest.param(*SOME[0].values, np.float32, id="profile-float32", marks=pytest.mark.slow),
]


@both_engines
@pytest.mark.parametrize(("make", "dtype"), PRODUCTS_OF_DTYPES)
@pytest.mark.parametrize("columns", [1, 3, 70])
def test_matmul(make: Any, columns: int, dtype: Any) -> None:
    kernel = make()
    x, y = cases.rows(205, 11, dtype, seed=1), cases.rows(530, 11, dtype, seed=2)
    v = cases.rows(530, columns, dtype, seed=3)
    result = kernel.matmul(x, y, v, engine="numba")
    matrix = kernel(x, y, engine="numba").astype(np.float64)
    # A sum of 256 products in the data's precision, and of those sums in float64.
    allowed = 256 / 2 * epsilon(dtype) * (np.abs(matrix) @ np.abs(v.astype(np.float64)))
    assert np.all(np.abs(result - matrix @ v.astype(np.float64)) <= allowed)
    other = kernel.matmul(x, y, v, engine="native")
    assert np.allclose(result, other, rtol=0, atol=1e3 * epsilon(dtype) * np.max(np.abs(other)))


@pytest.mark.parametrize("make", PRODUCTS)
def test_same_bits_for_any_number_of_threads(make: Any) -> None:
    kernel = make()
    x, y = cases.rows(1700, 4, seed=1), cases.rows(600, 4, seed=2)
    results = [kernel(x, y, engine="numba", threads=count) for count in (1, 2, 7)]
    assert np.array_equal(results[0], results[1])
    assert np.array_equal(results[0], results[2])
    v = cases.rows(600, 2, seed=3)
    products = [kernel.matmul(x, y, v, engine="numba", threads=count) for count in (1, 2, 7)]
    assert np.array_equal(products[0], products[1])
    assert np.array_equal(products[0], products[2])


@both_engines
def test_fine_table(dtype: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Processors without a permutation that looks up coefficients use more, shorter pieces."""
    monkeypatch.setattr(bind_gram, "permutes", lambda: False)
    x = cases.rows(150, 3, dtype, seed=1)
    makers = [nf.FullyConnected(1).ntk, nf.FullyConnected(100).ntk, nf.ResNet(5, alpha=1.0).ntk]
    makers += [nf.FullyConnected(3, activation="abs").ntk, nf.ArcCosine(0)]
    for kernel in makers:
        x[7] = -x[3]
        check(kernel, x, x, kernel(x, engine="numba"), kernel(x, engine="native"))


@pytest.mark.parametrize("make", SOME)
def test_strides(make: Any) -> None:
    """Inputs that are read-only, and rows in any order and distance, on both sides."""
    kernel = make()
    x, y = cases.rows(90, 12, seed=1), cases.rows(31, 12, seed=2)
    wanted = kernel(x, y, engine="numba")
    frame = np.zeros((180, 20))
    frame[::2, 3:15] = x
    frame.setflags(write=False)
    out = np.full((180, 40), np.nan)
    kernel(frame[::2, 3:15][::-1], y[::-1], out=out[::2, 4:35][::-1], engine="numba")
    assert np.array_equal(out[::2, 4:35], wanted[:, ::-1])
    assert np.isnan(out[1::2]).all()
    assert np.isnan(out[:, :4]).all()
    assert np.isnan(out[:, 35:]).all()


def test_huge_and_tiny_rows(dtype: Any) -> None:
    """Products of normalised columns cannot overflow."""
    size = 1e15 if dtype == np.float32 else 1e100
    x = cases.rows(20, 6, dtype, seed=1)
    kernel = nf.ArcCosine(0)
    big, small = (x * dtype(s) for s in (size, 1 / size))
    assert np.allclose(kernel(big, small, engine="numba"), kernel(x, engine="numba"), atol=1e-3)


def test_keyboard_interrupt() -> None:
    """Ctrl-C stops a computation of minutes between tiles; the engine works afterwards."""
    kernel = nf.FullyConnected(2000, bias=0.5).ntk
    x = cases.rows(6000, 4)
    few = kernel(x[:5], engine="numba")
    timer = threading.Timer(0.3, _thread.interrupt_main)
    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        timer.start()
        kernel(x, engine="numba")
    timer.join()
    assert threading.active_count() <= before
    assert np.array_equal(kernel(x[:5], engine="numba"), few)


def test_a_failing_thread_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object) -> None:
        raise MemoryError("no scratch")

    monkeypatch.setattr(bind_gram, "scratch_of", fail)
    with pytest.raises(MemoryError, match="no scratch"):
        nf.Laplace(1.0)(cases.rows(2000, 4), engine="numba", threads=2)


def test_without_a_place_for_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """A read-only installation without a writable home compiles in memory."""
    from numba import njit
    from numba.core import caching

    monkeypatch.setattr(caching.CacheImpl, "_locator_classes", [])
    with pytest.raises(RuntimeError, match="no locator"):
        njit(cache=True)(_next)
    assert compiling.cached(_next)(1) == 2


def _next(a: int) -> int:
    return a + 1


def test_cached_code_belongs_to_all_its_sources(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Numba itself would not see that a function in another file than the cached one changed."""
    shutil.copytree(Path(compiling.__file__).parents[1], tmp_path / "engines")
    monkeypatch.setattr(compiling, "__file__", str(tmp_path / "engines/numba/compiling.py"))
    sources = compiling._sources.__wrapped__
    assert gram_task.__qualname__ == f"gram_task_{sources()}"
    for file in ("codes.py", "numba/formulas/radial.py"):
        before = sources()
        (tmp_path / "engines" / file).write_text("changed")
        assert sources() != before


def test_numba_is_imported_by_the_first_call_only() -> None:
    code = """if True:
        import sys
        import numpy as np, ntkfast as nf
        from ntkfast.engines import numba
        assert numba.unavailable() == ""
        assert "numba" not in sys.modules and "llvmlite" not in sys.modules
    """
    subprocess.run([sys.executable, "-c", code], check=True)


def test_coefficients_are_those_of_the_native_engine() -> None:
    header = Path(__file__).parents[1] / "csrc" / "formulas" / "coefficients.hpp"
    if not header.exists():
        pytest.skip("the sources of the native engine are not here")
    text = header.read_text()
    for kind, size in (("double", 64), ("float", 32)):
        found = re.findall(rf"NTK_POLYNOMIAL\((\w+), {kind}, \d+, ([^)]*)\)", text)
        numbers = {
            name.lower(): tuple(float(c.strip().removesuffix("f")) for c in row.split(","))
            for name, row in found
        }
        del numbers["arc"]  # images: the Numba engine takes the functions of dense networks there
        assert numbers == {name: by[size] for name, by in COEFFICIENTS.items()}
