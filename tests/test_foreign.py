"""What users pass in: other libraries' arrays read whole or refused, and where channels are."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import sparse

import ntkfast as nf
from ntkfast import batch
from ntkfast.command import cli

ROWS = nf.FullyConnected(2).ntk
X = np.random.default_rng(0).normal(size=(6, 3))


# --- Masks, sparse matrices, other objects -------------------------------------------------------


def masked(shape: tuple[int, ...]) -> Any:
    hidden = np.zeros(shape, bool)
    hidden.flat[1] = True
    return np.ma.masked_array(np.ones(shape), mask=hidden)


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda folder: ROWS(masked((3, 2))), "X"),
        (lambda folder: ROWS(np.ones((3, 2)), masked((3, 2))), "Y"),
        (lambda folder: ROWS.diag(masked((3, 2))), "X"),
        (lambda folder: ROWS([masked((2,)), masked((2,))]), "X"),
        (lambda folder: ROWS.matmul(np.ones((3, 2)), None, masked((3,))), "V"),
        (lambda folder: nf.Recurrent(1).ntk(masked((3, 2))), "X"),
        (lambda folder: nf.Recurrent(1).ntk([masked((3, 2))]), r"X\[0\]"),
        (lambda folder: nf.sequences(masked((3, 2)), [2, 2, 2]), "X"),
        (lambda folder: nf.Convolutional(1).ntk(masked((2, 4, 4, 1))), "X"),
        (lambda folder: nf.FullyConnected(1).both(masked((3, 2))), "X"),
        (lambda folder: batch.gram(ROWS, masked((3, 2)), out=folder / "K.npy"), "X"),
        (lambda folder: nf.spectrum.extremes(ROWS, masked((8, 2))), "X"),
        (lambda folder: nf.statistics.ntk_mmd_test(masked((8, 2)), np.ones((8, 2))), "X"),
        (lambda folder: nf.features.fwht(masked((3, 2))), "X"),
    ],
)
def test_masks_are_not_ignored(call: Any, name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"{name}: expected no masked entries, got 1; leave"):
        call(tmp_path)


def test_an_empty_mask_hides_nothing() -> None:
    assert np.array_equal(ROWS(np.ma.masked_array(X, mask=False)), ROWS(X))


@pytest.mark.parametrize("kind", [sparse.csr_array, sparse.coo_matrix])
def test_sparse_rows_say_what_to_do(kind: Any, tmp_path: Path) -> None:
    rows = kind(np.eye(3))
    for call in (
        lambda: ROWS(rows),
        lambda: nf.Recurrent(1).ntk(rows),
        lambda: batch.gram(ROWS, rows, out=tmp_path / "K.npy"),
    ):
        with pytest.raises(TypeError, match=r"X: expected a dense array, got .*toarray\(\) is one"):
            call()


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (None, TypeError, "got NoneType"),
        ({"a": 1}, TypeError, "got dict"),
        ((x for x in [[1.0]]), TypeError, "got generator"),
        (np.array([[1, 2]], object), TypeError, "got object"),
        ([["a", 1.0]], TypeError, "expected float32 or float64"),
        ([[1.0, 2.0], [3.0]], ValueError, "expected rows of one length, got different ones"),
    ],
)
def test_errors_name_what_was_found(value: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=f"^X: .*{message}"):
        ROWS(value)


# --- Frames and tensors --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kinds", "dtype"),
    [
        (["Float64"] * 3, "f8"),
        (["Float32"] * 3, "f4"),
        (["float32"] * 3, "f4"),
        (["Float32", "float32", "float32"], "f4"),
        (["Int64", "float64", "boolean"], "f8"),
        (["int64", "float64", "bool"], "f8"),
        (["int64", "Float32", "bool"], "f8"),
    ],
)
def test_frames_of_pandas(kinds: list[str], dtype: str) -> None:
    pandas = pytest.importorskip("pandas")
    whole = np.array([[1, 2.5, 1], [3, -1, 0], [2, 2, 1]])
    columns = [whole[:, i] if "loat" in kind else whole[:, i] > 1 for i, kind in enumerate(kinds)]
    frame = pandas.DataFrame({str(i): c for i, c in enumerate(columns)})
    frame = frame.astype({str(i): kind for i, kind in enumerate(kinds)})
    K = ROWS(frame)
    assert K.dtype == dtype
    assert np.array_equal(K, ROWS(np.stack(columns, 1).astype(dtype)))


def test_what_frames_of_pandas_lack_is_named(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"a": [1, None, 3], "b": [1, 2, 3]}, dtype="Float64")
    missing = "X: expected finite numbers, row 1 holds NaN in column 'a'; leave such rows out"
    with pytest.raises(ValueError, match=missing):
        ROWS(frame)
    with pytest.raises(ValueError, match=missing):
        ROWS(frame.astype("float64"))
    with pytest.raises(ValueError, match=missing):
        batch.gram(ROWS, frame, out=tmp_path / "K.npy")
    with pytest.raises(
        ValueError, match="V: expected finite numbers, row 0 holds NaN in column 'v'"
    ):
        ROWS.matmul(np.eye(2), None, pandas.Series([None, 1], dtype="Int64", name="v"))
    for column in (["x", "y", "z"], pandas.Categorical([1, 2, 3]), [1j, 2, 3]):
        with pytest.raises(TypeError, match="X: expected columns of numbers, column 'w' has dtype"):
            ROWS(pandas.DataFrame({"v": [1.0, 2, 3], "w": column}))


def test_frames_of_polars() -> None:
    polars = pytest.importorskip("polars")
    frame = polars.DataFrame({"a": [1, 2, 3], "b": [0.5, 1.5, 2.5], "c": [True, False, True]})
    assert np.array_equal(ROWS(frame), ROWS(np.array([[1, 0.5, 1], [2, 1.5, 0], [3, 2.5, 1]])))
    with pytest.raises(
        ValueError, match="X: expected finite numbers, row 1 holds NaN in column 'a'"
    ):
        ROWS(polars.DataFrame({"a": [1, None, 3]}))
    with pytest.raises(TypeError, match="X: expected columns of numbers, column 'w' has dtype Str"):
        ROWS(polars.DataFrame({"v": [1, 2], "w": ["x", "y"]}))
    with pytest.raises(TypeError, match=r"X: expected a DataFrame, got LazyFrame; collect\(\) it"):
        ROWS(frame.lazy())
    with pytest.raises(TypeError, match="X: expected numbers, got bools with nulls"):
        ROWS(polars.DataFrame({"a": [True, None]}))


def test_tensors_of_the_host() -> None:
    torch = pytest.importorskip("torch")
    assert np.array_equal(ROWS(torch.from_numpy(X)), ROWS(X))
    assert ROWS(torch.from_numpy(X).float()).dtype == np.float32
    with pytest.raises(TypeError, match=r"X: expected a tensor without gradient.*detach\(\)"):
        ROWS(torch.from_numpy(X.copy()).requires_grad_())
    for wrong in (torch.ones((2, 2), dtype=torch.bfloat16), torch.eye(2).to_sparse()):
        with pytest.raises(TypeError, match=r"^X: expected an array of the host, got Tensor"):
            ROWS(wrong)


# --- Where channels are --------------------------------------------------------------------------


def series(count: int) -> list[NDArray[Any]]:
    rng = np.random.default_rng(1)
    return [rng.normal(size=(9 + i, 3)) for i in range(count)]


@pytest.mark.parametrize("kind", ["f4", "f8"])
def test_fortran_ordered_sequences(kind: str, engine: Any) -> None:
    kernel = nf.Recurrent(2).ntk
    parts = [part.astype(kind) for part in series(4)]
    wanted = kernel(parts, **engine)
    for other in (
        [np.asfortranarray(part) for part in parts],
        [np.ascontiguousarray(part.T).T for part in parts],
        [np.repeat(part, 2, axis=1)[:, ::2] for part in parts],
        [part[::-1].copy()[::-1] for part in parts],
    ):
        assert np.array_equal(kernel(other, **engine), wanted)
        assert np.array_equal(kernel(nf.sequences(other), **engine), wanted)
    whole = np.stack([part[:9] for part in parts])
    assert np.array_equal(kernel(np.asfortranarray(whole)), kernel(whole.copy()))


def test_sequences_with_channels_first(tmp_path: Path) -> None:
    last, first = nf.Recurrent(1).ntk, nf.Recurrent(1, channels="first").ntk
    parts = series(4)
    turned: Any = [part.T for part in parts]
    assert np.array_equal(first(turned), last(parts))
    assert np.array_equal(first(turned[:2], turned[1:]), last(parts[:2], parts[1:]))
    assert np.array_equal(first(nf.sequences(parts)), last(parts))  # collected are what they are
    assert np.array_equal(last(nf.sequences(turned, channels="first")), last(parts))
    whole = np.stack([part[:9] for part in parts])
    swapped = whole.swapaxes(1, 2)
    assert np.array_equal(first(swapped), last(whole))
    assert np.array_equal(first.diag(swapped), last.diag(whole))
    assert np.array_equal(first(swapped[:, :1]), last(whole[:, :, :1]))
    assert np.array_equal(first(whole[:, :, 0]), last(whole[:, :, 0]))  # without channels
    padded = nf.sequences(swapped, [5, 6, 7, 9], channels="first")
    assert np.array_equal(last(padded), last(nf.sequences(whole, [5, 6, 7, 9])))
    for X, Y in ((swapped, swapped[:2].copy()), (nf.sequences(parts), nf.sequences(parts[:2]))):
        out = tmp_path / f"{type(X).__name__}.npy"
        assert np.array_equal(batch.gram(first, X, Y, out=out), first(X, Y))


@pytest.mark.parametrize("readout", ["flatten", "gap"])
def test_images_with_channels_first(readout: str, tmp_path: Path, monkeypatch: Any) -> None:
    images = np.random.default_rng(2).normal(size=(4, 6, 5, 3))
    turned = np.ascontiguousarray(np.moveaxis(images, 3, 1))
    plain = nf.Convolutional(2, readout=readout, channels="last").ntk
    first = nf.Convolutional(2, readout=readout, channels="first").ntk
    assert np.array_equal(first(turned), plain(images))
    assert np.array_equal(first(turned, turned[:2]), plain(images, images[:2]))
    assert np.array_equal(batch.gram(first, turned, out=tmp_path / "K.npy"), first(turned))
    rows = nf.Convolutional(2, readout=readout, shape=(6, 5, 3), channels="first").ntk
    assert np.array_equal(rows(turned.reshape(4, -1)), plain(images))
    steps = nf.Conv(), "relu", nf.AvgPool(1)
    composed = nf.ConvNet(*steps, readout=readout, channels="first")
    assert np.array_equal(composed.ntk(turned), nf.ConvNet(*steps, readout=readout).ntk(images))
    assert "channels='first'" in repr(composed)
    with pytest.raises(ValueError, match="Y: expected images of shape"):
        first(turned, images)
    monkeypatch.chdir(tmp_path)
    np.save("X.npy", turned)
    command = f"gram X.npy --network cntk --depth 2 --readout {readout} --out L.npy"
    assert cli.main([*command.split(), "--channels", "first"]) == 0
    assert np.array_equal(np.load("L.npy"), first(turned))


LOOKS = "X: its shape looks like channels first, and is read as channels last"


@pytest.mark.parametrize(
    ("network", "shape", "suspect"),
    [
        (nf.Recurrent, (2, 3, 50), True),
        (nf.Recurrent, (2, 1, 50), True),
        (nf.Recurrent, (2, 50, 3), False),
        (nf.Recurrent, (2, 5, 5), False),
        (nf.Recurrent, (2, 50), False),
        (nf.Convolutional, (2, 3, 8, 8), True),
        (nf.Convolutional, (2, 1, 8, 9), True),
        (nf.Convolutional, (2, 8, 8, 3), False),
        (nf.Convolutional, (2, 8, 8, 16), False),
        (nf.Convolutional, (2, 3, 3, 16), False),
    ],
)
def test_shapes_that_look_turned_are_told(network: Any, shape: Any, suspect: bool) -> None:
    inputs = np.random.default_rng(3).normal(size=shape)
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        network(1).ntk(inputs)
        network(1, channels="last").ntk(inputs)
    assert [str(one.message)[: len(LOOKS)] for one in found] == [LOOKS] * suspect
    assert all(one.filename == __file__ for one in found)
    if network is nf.Recurrent and suspect:
        with pytest.warns(UserWarning, match=LOOKS):
            nf.Recurrent(1).ntk(list(inputs))
        with pytest.warns(UserWarning, match=LOOKS):
            nf.sequences(inputs)


def test_wrong_channels() -> None:
    with pytest.raises(ValueError, match="channels: expected one of 'first', 'last'; got 'middle'"):
        nf.Recurrent(1, channels="middle")
    with pytest.raises(ValueError, match='those with channels first need channels="first"'):
        nf.Recurrent(1).ntk([part.T for part in series(2)])


def test_the_command_line_tells_a_turned_shape(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "X.npy", np.random.default_rng(4).normal(size=(3, 2, 9)))
    names = ["gram", str(tmp_path / "X.npy"), "--network", "rntk", "--depth", "1", "--out"]
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        assert cli.main([*names, str(tmp_path / "K.npy")]) == 0
    assert capfd.readouterr().err.startswith(f"ntkfast gram: warning: {LOOKS}")
    assert cli.main([*names, str(tmp_path / "L.npy"), "--channels", "first"]) == 0
    assert capfd.readouterr().err == ""
