"""What may be passed and what comes back: layouts, dtypes, shapes, ``out``, parameters, errors."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from typing import Any

import numpy as np
import pytest

import cases
import ntkfast as nf
from ntkfast import engines
from ntkfast.engines import native
from tolerances import PRODUCT, epsilon

KERNELS = {
    "profile": nf.FullyConnected(3).ntk,
    "layers": nf.FullyConnected(2, bias=0.5).ntk,
    "radial": nf.Laplace(0.5, inputs="euclidean"),
}
SHAPES = [(1, 1), (1, 131), (67, 1), (2, 3), (13, 17), (33, 64), (67, 131)]


@pytest.fixture(params=KERNELS.values(), ids=KERNELS.keys())
def kernel(request: pytest.FixtureRequest) -> Any:
    """One kernel for each kind of map."""
    return request.param


# ----------------------------------------------------------------------------- layouts and dtypes


def _layouts(x: np.ndarray) -> dict[str, np.ndarray]:
    """Return the same numbers in every memory layout NumPy knows."""
    n, d = x.shape
    wide = np.zeros((2 * n, 3 * d), x.dtype)
    wide[::2, ::3] = x
    readonly = x.copy()
    readonly.setflags(write=False)
    padded = np.full(x.nbytes + 1, 255, np.uint8)
    unaligned = padded[1:].view(x.dtype).reshape(n, d)
    unaligned[...] = x
    return {
        "fortran": np.asfortranarray(x),
        "strided": wide[::2, ::3],
        "reversed": np.ascontiguousarray(x[::-1, ::-1])[::-1, ::-1],
        "read-only": readonly,
        "big-endian": x.astype(x.dtype.newbyteorder(">")),
        "unaligned": unaligned,
    }


@pytest.mark.parametrize(
    "layout", ["fortran", "strided", "reversed", "read-only", "big-endian", "unaligned"]
)
def test_layouts(layout: str, kernel: Any, engine: dict[str, Any], dtype: Any) -> None:
    """Neither the values nor the dtype depend on how the input lies in memory."""
    x, y = cases.rows(9, 5, dtype, seed=1), cases.rows(7, 5, dtype, seed=2)
    other_x, other_y = _layouts(x)[layout], _layouts(y)[layout]
    assert np.array_equal(other_x, x)
    before = other_x.copy()
    result = kernel(other_x, other_y, **engine)
    assert result.dtype == dtype
    assert result.dtype.isnative
    assert np.array_equal(result, kernel(x, y, **engine))
    assert np.array_equal(kernel(other_x, **engine), kernel(x, **engine))
    assert np.array_equal(kernel.diag(other_x), kernel.diag(x))
    v = cases.rows(7, 3, dtype, seed=3)
    other_v = _layouts(v)[layout]
    product = kernel.matmul(other_x, other_y, other_v, **engine)
    assert np.array_equal(product, kernel.matmul(x, y, v, **engine))
    assert np.array_equal(other_x, before)


@pytest.mark.skipif(bool(native.unavailable()), reason="ntkfast._core is not installed")
def test_only_plain_matrices_skip_the_checks(dtype: Any) -> None:
    x, y = cases.rows(9, 5, dtype, seed=1), cases.rows(20, 5, dtype, seed=2)
    one, two = engines.measured_rows(x, None), engines.measured_rows(x, y)
    assert one is not None
    assert two is not None
    for (norms, least, top), rows in ((one, x), (two[:3], x), (two[3:], y)):
        assert np.allclose(norms, engines.reference_row_norms(rows), rtol=2 * epsilon(dtype))
        assert (norms.dtype, least, top) == (dtype, norms.min(), norms.max())
    layouts = _layouts(x)
    assert engines.measured_rows(layouts.pop("read-only"), y) is not None
    other = np.float64 if dtype == np.float32 else np.float32
    odd = [*layouts.values(), x.tolist(), x[0], x[None], x[:0], x[:, :0], x[:, :4], x.astype(other)]
    odd += [x.astype(int), x.astype(object), x.view(np.matrix), np.ma.masked_array(x), None]
    for wrong in odd:
        assert engines.measured_rows(y, wrong) is None or wrong is None
        assert engines.measured_rows(wrong, y) is None


@pytest.mark.parametrize("kind", [np.int8, np.uint8, np.int32, np.int64, np.uint64, np.bool_])
def test_integers_become_float64(kind: Any, kernel: Any, engine: dict[str, Any]) -> None:
    x = np.array([[0, 1, 1], [1, 0, 1], [1, 1, 1], [0, 0, 1]]).astype(kind)
    result = kernel(x, x[:2], **engine)
    assert result.dtype == np.float64
    assert np.array_equal(result, kernel(x.astype(float), x[:2].astype(float), **engine))


def test_lists_are_arrays(kernel: Any) -> None:
    x = [[1.0, 2.0], [3.0, -1.0]]
    assert np.array_equal(kernel(x), kernel(np.array(x)))
    assert np.array_equal(
        kernel.matmul(x, x, [[1.0], [2.0]]), kernel.matmul(*map(np.array, (x, x, [[1.0], [2.0]])))
    )


def test_mixed_precision_is_float64(kernel: Any, engine: dict[str, Any]) -> None:
    """As in NumPy: float32 with float64 gives float64, and loses nothing."""
    x, y = cases.rows(5, 4, np.float32, seed=1), cases.rows(3, 4, np.float64, seed=2)
    result = kernel(x, y, **engine)
    assert result.dtype == np.float64
    assert np.array_equal(result, kernel(x.astype(np.float64), y, **engine))


@pytest.mark.parametrize("kind", [np.float16, np.complex64, np.complex128, object, "U3", "M8[s]"])
@pytest.mark.parametrize("name", ["X", "Y"])
def test_other_dtypes_are_refused(kind: Any, name: str, kernel: Any) -> None:
    good = np.ones((3, 2))
    bad = np.ones((3, 2), int).astype(kind)
    arguments = {"X": good, "Y": good} | {name: bad}
    with pytest.raises(TypeError, match=rf"^{name}: "):
        kernel(**arguments)
    with pytest.raises(TypeError, match=rf"^{name}: "):
        kernel.matmul(**arguments, V=np.ones((3, 1)))
    if name == "X":
        with pytest.raises(TypeError, match=r"^X: "):
            kernel.diag(bad)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["X", "Y"])
def test_not_finite(bad: float, name: str, kernel: Any, engine: dict[str, Any], dtype: Any) -> None:
    """NaN and infinity are found wherever they hide, and the argument is named."""
    for place in ((0, 0), (40, 2), (66, 4)):
        arguments = {"X": cases.rows(67, 5, dtype), "Y": cases.rows(67, 5, dtype, seed=2)}
        arguments[name][place] = bad
        with pytest.raises(ValueError, match=rf"^{name}: .*(finite|NaN|inf)"):
            kernel(**arguments, **engine)
        with pytest.raises(ValueError, match=rf"^{name}: "):
            kernel.matmul(**arguments, V=np.ones((67, 1), dtype), **engine)
        if name == "X":
            with pytest.raises(ValueError, match=r"^X: "):
                kernel(arguments["X"], **engine)
            with pytest.raises(ValueError, match=r"^X: "):
                kernel.diag(arguments["X"])


@pytest.mark.parametrize(
    ("x", "y", "match"),
    [
        ((0, 3), (2, 3), "^X: "),
        ((2, 3), (0, 3), "^Y: "),
        ((2, 0), (2, 0), "^X: "),
        ((3,), (2, 3), "^X: "),
        ((2, 3), (3,), "^Y: "),
        ((2, 3, 1), (2, 3), "^X: "),
        ((), (2, 3), "^X: "),
        ((2, 3), (2, 4), r"^Y: expected shape \(\*, 3\), got \(2, 4\)"),
    ],
)
def test_wrong_shapes(x: tuple, y: tuple, match: str, kernel: Any) -> None:
    with pytest.raises(ValueError, match=match):
        kernel(np.ones(x), np.ones(y))
    with pytest.raises(ValueError, match=match):
        kernel.matmul(np.ones(x), np.ones(y), np.ones((2, 1)))
    if match == "^X: ":
        with pytest.raises(ValueError, match=match):
            kernel(np.ones(x))
        with pytest.raises(ValueError, match=match):
            kernel.diag(np.ones(x))


@pytest.mark.parametrize(("n", "m"), SHAPES)
def test_odd_shapes(n: int, m: int, kernel: Any, engine: dict[str, Any], dtype: Any) -> None:
    """No row or column is lost at the edge of a tile: every entry equals the one computed alone."""
    x, y = cases.rows(n, 6, dtype, seed=4), cases.rows(m, 6, dtype, seed=5)
    result = kernel(x, y, **engine)
    assert result.shape == (n, m)
    assert result.flags.c_contiguous
    scale = np.sqrt(np.outer(kernel.diag(x), kernel.diag(y)))
    for i in {0, n // 2, n - 1}:
        for j in {0, m // 2, m - 1}:
            alone = kernel(x[i : i + 1], y[j : j + 1], **engine)[0, 0]
            assert abs(result[i, j] - alone) <= 8 * epsilon(dtype) * scale[i, j]
    transposed = kernel(y, x, **engine).T
    assert np.all(np.abs(result - transposed) <= 8 * epsilon(dtype) * scale)
    both = kernel(np.concatenate([x, y]), **engine)
    assert np.all(np.abs(both[:n, n:] - result) <= 8 * epsilon(dtype) * scale)
    assert np.array_equal(both, both.T)


def test_single_row_and_column(kernel: Any, engine: dict[str, Any], dtype: Any) -> None:
    """N = 1 and d = 1."""
    x = np.array([[2.0]], dtype)
    gram = kernel(x, **engine)
    assert gram.shape == (1, 1)
    cases.check_diagonal(kernel, gram, x, 2)
    line = np.array([[-3.0], [0.5], [4.0]], dtype)
    cases.check_diagonal(kernel, kernel(line, **engine), line, 2)


# -------------------------------------------------------------------------------------------- out


def test_out(kernel: Any, engine: dict[str, Any], dtype: Any) -> None:
    """``out`` is filled and returned, whatever its strides; its gaps are left alone."""
    x, y = cases.rows(13, 4, dtype, seed=1), cases.rows(9, 4, dtype, seed=2)
    plain, symmetric = kernel(x, y, **engine), kernel(x, **engine)
    for wanted, arguments in ((plain, (x, y)), (symmetric, (x,))):
        n, m = wanted.shape
        out = np.full((n, m), 7, dtype)
        assert kernel(*arguments, out=out, **engine) is out
        assert np.array_equal(out, wanted)
        buffer = np.full((2 * n + 1, 3 * m + 2), 7, dtype)
        views = {
            "rows": buffer[::2, :m][:n],
            "columns": buffer[:n, 1 : 3 * m + 1 : 3],
            "reversed": buffer[n - 1 :: -1, m - 1 :: -1],
            "upside down": buffer[n - 1 :: -1, :m],
            "transposed": np.full((m, n), 7, dtype).T,
        }
        for name, view in views.items():
            buffer[...] = 7
            assert kernel(*arguments, out=view, **engine) is view, name
            assert np.array_equal(view, wanted), name
            assert np.count_nonzero(buffer != 7) <= np.count_nonzero(wanted != 7), name


def test_large_strided_out(engine: dict[str, Any]) -> None:
    """Results of many megabytes that go to scattered places, symmetric and rectangular."""
    kernel = nf.FullyConnected(2).ntk
    x = cases.rows(1100, 3, seed=1)
    for arguments in ((x,), (x, x[:900].copy())):
        wanted = kernel(*arguments, **engine)
        out = np.zeros((wanted.shape[1], wanted.shape[0])).T
        assert kernel(*arguments, out=out, **engine) is out
        assert np.array_equal(out, wanted)


def test_matmul_out(kernel: Any, engine: dict[str, Any], dtype: Any) -> None:
    x, y = cases.rows(13, 4, dtype, seed=1), cases.rows(9, 4, dtype, seed=2)
    v = cases.rows(9, 3, dtype, seed=3)
    wanted = kernel.matmul(x, y, v, **engine)
    out = np.full((13, 3), np.nan, dtype)
    assert kernel.matmul(x, y, v, out=out, **engine) is out
    assert np.array_equal(out, wanted)
    buffer = np.full((26, 9), 7, dtype)
    view = buffer[::2, 2::3]
    assert kernel.matmul(x, y, v, out=view, **engine) is view
    assert np.array_equal(view, wanted)
    assert np.count_nonzero(buffer != 7) == np.count_nonzero(wanted != 7)


def test_wrong_out(kernel: Any, dtype: Any) -> None:
    x, y = np.ones((3, 2), dtype), np.ones((4, 2), dtype)
    other = np.float64 if dtype is np.float32 else np.float32
    readonly = np.empty((3, 4), dtype)
    readonly.setflags(write=False)
    for bad, error in (
        (np.empty((4, 3), dtype), ValueError),
        (np.empty((3, 4, 1), dtype), ValueError),
        (np.empty((3, 4), other), TypeError),
        (np.empty((3, 4), np.int64), TypeError),
        (np.empty((3, 4), np.dtype(dtype).newbyteorder(">")), TypeError),
        (readonly, ValueError),
        ([[0.0] * 4] * 3, TypeError),
    ):
        with pytest.raises(error, match=r"^out: "):
            kernel(x, y, out=bad)
    with pytest.raises(ValueError, match=r"^out: expected shape \(3, 1\), got \(3, 4\)"):
        kernel.matmul(x, y, np.ones((4, 1), dtype), out=np.empty((3, 4), dtype))


def test_out_may_overlap_the_input(kernel: Any, engine: dict[str, Any], dtype: Any) -> None:
    """Writing the result over X gives the right result or an error, never garbage."""
    x = cases.rows(80, 80, dtype, seed=1)
    wanted = kernel(x, **engine)
    overlapping = x.copy()
    try:
        kernel(overlapping, out=overlapping, **engine)
    except ValueError as error:
        assert str(error).startswith("out: ")
    else:
        assert np.array_equal(overlapping, wanted)


# ----------------------------------------------------------------------------------------- matmul


@pytest.mark.parametrize("columns", [1, 3, 10, 33])
def test_matmul(columns: int, kernel: Any, engine: dict[str, Any], dtype: Any) -> None:
    """matmul(X, Y, V) is K(X, Y) @ V within the rounding of a sum."""
    x, y = cases.rows(203, 6, dtype, seed=1), cases.rows(151, 6, dtype, seed=2)
    generator = np.random.default_rng(0)
    for rectangular in (True, False):
        right = y if rectangular else x
        v = generator.standard_normal((len(right), columns)).astype(dtype)
        gram = kernel(x, y, **engine) if rectangular else kernel(x, **engine)
        wanted = gram.astype(np.float64) @ v.astype(np.float64)
        product = kernel.matmul(x, y if rectangular else None, v, **engine)
        assert product.dtype == dtype
        assert product.shape == (len(x), columns)
        bound = np.abs(gram).astype(np.float64) @ np.abs(v).astype(np.float64)
        growth = PRODUCT + np.sqrt(len(right))
        assert np.all(np.abs(product - wanted) <= growth * epsilon(dtype) * bound)


def test_matmul_with_a_vector(kernel: Any, engine: dict[str, Any]) -> None:
    """A one-dimensional V gives a one-dimensional product."""
    x, y = cases.rows(7, 3, seed=1), cases.rows(5, 3, seed=2)
    v = np.arange(5.0)
    product = kernel.matmul(x, y, v, **engine)
    assert product.shape == (7,)
    assert np.array_equal(product, kernel.matmul(x, y, v[:, None], **engine)[:, 0])
    out = np.zeros(7)
    assert kernel.matmul(x, y, v, out=out, **engine) is out
    assert np.array_equal(out, product)


def test_wrong_v(kernel: Any) -> None:
    x, y = np.ones((3, 2)), np.ones((4, 2))
    for shape in ((3, 1), (4, 1, 1), (), (4, 0)):
        with pytest.raises(ValueError, match=r"^V: "):
            kernel.matmul(x, y, np.ones(shape))
    with pytest.raises(TypeError, match=r"^V: "):
        kernel.matmul(x, y, np.ones((4, 1), complex))


@pytest.mark.slow
def test_products_beyond_31_bits(engine_name: str) -> None:
    """2.8e9 pairs of the linear network: K(X, Y) v is X (Y^T v)."""
    n, m = 70_000, 40_000
    generator = np.random.default_rng(0)
    x = generator.uniform(0, 1, (n, 2)).astype(np.float32)
    y = generator.uniform(0, 1, (m, 2)).astype(np.float32)
    v = generator.uniform(0, 1, (m, 1)).astype(np.float32)
    product = nf.FullyConnected(0).ntk.matmul(x, y, v, engine=engine_name)
    wanted = x.astype(float) @ (y.astype(float).T @ v.astype(float))
    growth = PRODUCT + np.sqrt(m)
    assert np.all(np.abs(product - wanted) <= growth * epsilon(np.float32) * wanted)


@pytest.mark.skipif(sys.platform == "win32", reason="needs sparse files")
def test_out_with_offsets_beyond_31_bits(engine_name: str, tmp_path: Any) -> None:
    """Rows of ``out`` a gigabyte apart, in a sparse file of which only a few pages exist."""
    n, m, stride = 5, 70, 1 << 28
    file = np.memmap(tmp_path / "sparse", np.float32, "w+", shape=((n - 1) * stride + m,))
    out = np.lib.stride_tricks.as_strided(file, (n, m), (4 * stride, 4))
    x, y = cases.rows(n, 3, np.float32, seed=1), cases.rows(m, 3, np.float32, seed=2)
    kernel = nf.FullyConnected(3).ntk
    assert kernel(x, y, out=out, engine=engine_name) is out
    assert np.array_equal(out, kernel(x, y, engine=engine_name))


# ------------------------------------------------------------------------------------- parameters


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: nf.FullyConnected(-1), "depth"),
        (lambda: nf.FullyConnected(3, bias=-0.5), "bias"),
        (lambda: nf.FullyConnected(3, bias=np.nan), "bias"),
        (lambda: nf.FullyConnected(3, bias=np.inf), "bias"),
        (lambda: nf.FullyConnected(3, parameterization="ntk", w_std=-1.0), "w_std"),
        (lambda: nf.FullyConnected(3, parameterization="ntk", w_std=0.0), "w_std"),
        (lambda: nf.FullyConnected(3, parameterization="ntk", w_std=1.0, b_std=-1.0), "b_std"),
        (lambda: nf.FullyConnected(3, parameterization="mean-field"), "parameterization"),
        (lambda: nf.FullyConnected(3, activation="rleu"), "activation"),
        (lambda: nf.ResNet(-2, alpha=0.5), "depth"),
        (lambda: nf.ResNet(0, alpha=0.5), "depth"),
        (lambda: nf.FullyConnected(3, b_std=0.5), "b_std"),
        (lambda: nf.FullyConnected(3, parameterization="ntk", bias=0.5), "bias"),
        (lambda: nf.ResNet(2, alpha=-0.5), "alpha"),
        (lambda: nf.ResNet(2, alpha=np.nan), "alpha"),
        (lambda: nf.ResNet(2, alpha=0.5, trained="none"), "trained"),
        (lambda: nf.ArcCosine(4), "order"),
        (lambda: nf.ArcCosine(-1), "order"),
        (lambda: nf.Laplace(-1.0), "c"),
        (lambda: nf.Laplace(1.0, inputs="torus"), "inputs"),
        (lambda: nf.ExponentialPower(2.5, 1.0), "gamma"),
        (lambda: nf.ExponentialPower(0.0, 1.0), "gamma"),
        (lambda: nf.ExponentialPower(1.0, -1.0), "c"),
    ],
)
def test_wrong_parameters(make: Any, name: str) -> None:
    with pytest.raises(ValueError, match=rf"^{name}: "):
        make()


@pytest.mark.parametrize("depth", [2.5, "3", None])
def test_depth_is_an_integer(depth: Any) -> None:
    for make in (nf.FullyConnected, lambda depth: nf.ResNet(depth, alpha=0.5)):
        with pytest.raises(TypeError, match=r"^depth: "):
            make(depth)


def test_numpy_integers_are_depths() -> None:
    assert nf.FullyConnected(np.int64(3)) == nf.FullyConnected(3)


@pytest.mark.parametrize("threads", [0, -1])
def test_wrong_threads(threads: int) -> None:
    with pytest.raises(ValueError, match=r"^threads: "):
        nf.FullyConnected(1).ntk(np.ones((2, 2)), threads=threads)
    with pytest.raises(ValueError):
        nf.set_num_threads(threads)


def test_unknown_engine() -> None:
    with pytest.raises(ValueError, match=r"engine.*'abacus'"):
        nf.FullyConnected(1).ntk(np.ones((2, 2)), engine="abacus")


# ------------------------------------------------------------------------------------ environment


def run_python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a snippet in a fresh interpreter with changed environment variables."""
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.parametrize(
    "environment",
    [{"NTKFAST_ENGINE": "abacus"}, {"NTKFAST_ISA": "mmx", "NTKFAST_ENGINE": "native"}],
)
def test_wrong_environment_fails_closed(environment: dict[str, str]) -> None:
    """A forced engine or instruction set that does not exist is an error, not a silent default."""
    pytest.importorskip("ntkfast._core")
    done = run_python(
        "import numpy as np, ntkfast as nf; print(nf.FullyConnected(1).ntk(np.ones((2, 2))))",
        **environment,
    )
    assert done.returncode != 0
    assert next(iter(environment.values())) in done.stderr


def test_environment_chooses_the_engine() -> None:
    done = run_python(
        """
        import sys
        import numpy as np, ntkfast as nf
        nf.FullyConnected(1).ntk(np.ones((2, 2)))
        print("numba" in sys.modules)
        """,
        NTKFAST_ENGINE="numba",
    )
    assert done.stdout.strip() == "True", done.stderr


def test_import_is_light() -> None:
    """``import ntkfast`` loads none of the slow packages."""
    done = run_python(
        """
        import sys, ntkfast
        slow = {"numba", "scipy.linalg", "scipy.special", "sklearn", "matplotlib", "mpmath"}
        print(sorted(slow & set(sys.modules)))
        """
    )
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


# --- Results beside inputs -----------------------------------------------------------------------


def test_out_may_lie_between_the_inputs() -> None:
    """Columns of one array: their ends overlap, their numbers do not."""
    buffer = np.random.default_rng(0).normal(size=(4, 12))
    X, kernel = buffer[:, :3], nf.FullyConnected(2).ntk
    wanted = kernel(X.copy())
    product = kernel.matmul(X.copy(), None, buffer[:, 8:10].copy())
    before = buffer.copy()
    out = buffer[:, 4:8]
    assert kernel(X, out=out) is out
    assert np.array_equal(out, wanted)
    assert np.array_equal(kernel.matmul(X, None, buffer[:, 8:10], out=buffer[:, 10:]), product)
    changed = (buffer != before).any(axis=0)
    assert not changed[[0, 1, 2, 3, 8, 9]].any()
    for overlapping in (buffer[:, 2:6], buffer[:, :4], buffer[::-1, 1:5], buffer.T[:4, :4]):
        with pytest.raises(ValueError, match="out: expected memory of its own, it overlaps X"):
            kernel(X, out=overlapping)


# --- What does not fit ---------------------------------------------------------------------------


@pytest.mark.parametrize("value", [1e300, -1e39, 4e38])
def test_factors_outside_the_type_of_the_inputs(value: float) -> None:
    V = np.ones((5, 2))
    V[3, 1] = value
    kernel, x = nf.FullyConnected(2).ntk, np.ones((5, 3))
    assert np.isfinite(kernel.matmul(x, None, V)).all()
    message = rf"V: expected numbers within float32, .* row 3 holds {re.escape(f'{value:.3g}')}"
    with pytest.raises(ValueError, match=message):
        kernel.matmul(x.astype(np.float32), None, V)
    ints = np.full(5, 3)
    assert kernel.matmul(x.astype(np.float32), None, ints).dtype == np.float32


def test_overflow_of_float32_is_an_error_and_no_warning() -> None:
    for kernel in (nf.FullyConnected(2).ntk, nf.ArcCosine(2)):
        with pytest.raises(
            ValueError, match=r"X: the kernel of a row with norm .* overflows float32"
        ):
            kernel(np.full((2, 3), 1e25, np.float32))
        with pytest.raises(
            ValueError, match=r"Y: the kernel of a row with norm .* overflows float32"
        ):
            kernel(np.ones((2, 3), np.float32), np.full((2, 3), 1e25, np.float32))


# --- What to call instead ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "network",
    [nf.FullyConnected(1), nf.ResNet(1, alpha=0.5), nf.Recurrent(1), nf.Convolutional(1)],
)
def test_networks_say_that_their_kernels_are_called(network: Any) -> None:
    with pytest.raises(TypeError, match=r"is no kernel; its kernels are \.ntk and \.nngp"):
        network(np.ones((2, 3)))


def test_estimators_that_call_a_kernel_row_by_row() -> None:
    pytest.importorskip("sklearn")
    from sklearn.decomposition import KernelPCA
    from sklearn.kernel_ridge import KernelRidge

    from ntkfast.sklearn import NTKKernel

    X = np.random.default_rng(0).normal(size=(20, 3))
    for make in (KernelRidge, KernelPCA):
        for network in (nf.FullyConnected(2), nf.Recurrent(1)):
            with pytest.raises(ValueError, match=r"take ntkfast\.sklearn\.NTKKernel\(network\)"):
                make(kernel=network.ntk).fit(X, X[:, 0])
        made = make(kernel=NTKKernel(nf.FullyConnected(2))).fit(X, X[:, 0])
        assert made is not None


def test_spectra_of_few_rows() -> None:
    kernel, X = nf.FullyConnected(2).ntk, np.random.default_rng(0).normal(size=(50, 3))
    message = 'method: expected "dense" for 50 rows, got "iterative", which needs 72 rows or more'
    with pytest.raises(ValueError, match=message):
        nf.spectrum.extremes(kernel, X, method="iterative")
    with pytest.raises(ValueError, match='method: expected "dense" for 1 rows, got "cholesky"'):
        nf.spectrum.extremes(kernel, X[:1], method="cholesky")
    with pytest.raises(ValueError, match="k: expected at most 1 for 72 rows"):
        nf.spectrum.extremes(kernel, np.vstack([X, X])[:72], 2, method="iterative")
    for ridge in (1e-3, 1.0):
        found = nf.spectrum.effective_dimension(kernel, X[:1], ridge, method="lanczos")
        value = float(kernel.diag(X[:1])[0])
        assert found.values[0] == pytest.approx(value / (value + ridge), rel=1e-12)
    step = nf.spectrum.effective_dimension(kernel, X, 1.0, method="lanczos", max_steps=1)
    exact = nf.spectrum.effective_dimension(kernel, X, 1.0).values[0]
    assert abs(step.values[0] - exact) <= step.truncation[0] + 4 * step.standard_error[0]
