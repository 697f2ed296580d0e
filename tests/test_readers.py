"""The files that batch jobs read: arrays, archives, groups of arrays and tables of text."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import ntkfast as nf
from ntkfast import batch


@pytest.fixture(scope="module")
def X() -> NDArray[np.float64]:
    return np.random.default_rng(0).normal(size=(300, 7))


# --- Tables of text ------------------------------------------------------------------------------
# --- Reading -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", "1,2\n3,4\n"),
        ("a.csv", "x,y\n1,2\n3,4\n"),
        ("a.csv", "\n# made by hand\n'x', 'y'\n1, 2\n\n3, 4"),
        ("a.csv", "\ufeffx,y\r\n1,2\r\n3,4\r\n"),
        ("a.tsv", "x\ty\n1\t2\n3e0\t4\n"),
        ("a.tsv", "1,2\n3,4\n"),
        ("a.csv", "1;2\n3;4\n"),
        ("a.csv", "x;y\r\n1;2\r\n3;4\r\n"),
        ("a.csv", "1\t2\n3\t4\n"),
        ("a.csv", "1|2\n3|4\n"),
        ("a.csv", "1 2\n3   4\n"),
        ("a.csv", "x  y\n 1 2\n3   4 \n"),
        ("a.csv", '"x","y"\n"1","2"\n"3","4"\n'),
        ("a.csv", '"Breite; Höhe";"a # b"\n1;"2"\n3;4\n'),
        ("a.csv", '"two\nlines",y\n1,2\n3,4\n'),
        ("a.csv", "x,y\n1,2 # the first\n\n# between\n3,4\n"),
        ("a.csv", "x,y\n1,2\n   \n3,4\n"),
        ("a.csv", "x,NA\n1,2\n3,4\n"),
    ],
)
def test_text_tables(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8", newline="")
    assert np.array_equal(batch.load_matrix(tmp_path / name), [[1, 2], [3, 4]])


@pytest.mark.parametrize(
    ("text", "options", "wanted"),
    [
        ("0,1\n2,3\n", {"header": False}, [[0, 1], [2, 3]]),
        ("0,1\n2,3\n", {"header": True}, [[2, 3]]),
        ("1,2\n3,4\n", {"header": True}, [[3, 4]]),
        ("0\n2\n", {"header": False}, [[0], [2]]),
        (",x\n0,1\n", {"header": True}, [[0, 1]]),
        ("1:2\n3:4\n", {"delimiter": ":"}, [[1, 2], [3, 4]]),
        ("1,2;3,4\n", {"delimiter": ";"}, "line 1, column 1: .* got '1,2'; numbers have points"),
        ("1,2;3,4\n5;6\n", {"delimiter": ";"}, "line 1, column 1: .* got '1,2'; numbers have"),
        ("a;b\n1,5;2,5\n", {}, "line 2, column 1: .* got '1,5'; numbers have points"),
        ("1;-2,5e3\n", {}, "line 1, column 2: .* got '-2,5e3'; numbers have points"),
        ("?,-\n1,2\n", {}, "line 1, column 1: expected a number, got '\\?'; say --header"),
        ("0,1,2\n.5,1.5,2.5\n", {}, "line 1: 0, 1, 2 can be column names or data; say --header or"),
        ('"0","1"\n.5,1.5\n', {}, "can be column names or data"),
        ("0\n1\n", {}, "can be column names or data"),
        ("NA,NA\n1,2\n", {}, "line 1, column 1: expected a number, got 'NA'; say --header"),
        (",\n1,2\n", {}, "line 1, column 1: expected a number, got ''"),
        (",x,y\n0,1,2\n", {}, "line 1: the first column has no name, like an index"),
        ("\n,0,1\n0,1,2\n", {}, "line 2: the first column has no name, like an index"),
        ("Unnamed: 0,x\n0,1\n", {}, "the first column has no name"),
        ("x,y\n1,2,3\n", {}, "line 1 has 2 column names, and there are 3 columns"),
        ("a title\n1,2\n", {}, "line 1 has 1 column names.*begins with '#'"),
        ("x,y\n1,2\n\n# no\n3,NA\n", {}, "line 5, column 2: expected a number, got 'NA'"),
        ("x,y\n1,2\n\n3,4,5\n", {}, "line 4: expected 2 columns like the lines before, got 3"),
        ('"a\nb",y\n1,2\n3,z\n', {}, "line 4, column 2: expected a number, got 'z'"),
        ("1,2,\n3,4,\n", {}, "line 1, column 3: expected a number, got ''"),
        ("1,5;2,5\n", {}, "line 1, column 1: .* got '1,5'; numbers have points"),
        ("1_0,2\n", {"header": False}, "line 1, column 1: expected a number, got '1_0'"),
        ("1,2\n", {"delimiter": "::"}, "delimiter: expected one character, got '::'"),
        ("x,y\n", {"header": True}, "no data"),
        ("", {}, "no data"),
        ("# only this\n", {"header": False}, "no data"),
    ],
)
def test_tables_that_can_be_misread(
    tmp_path: Path, text: str, options: dict[str, Any], wanted: Any
) -> None:
    (tmp_path / "a.csv").write_text(text, newline="")
    if isinstance(wanted, str):
        with pytest.raises(ValueError, match=rf"a\.csv: .*{wanted}"):
            batch.load_matrix(tmp_path / "a.csv", **options)
    else:
        assert np.array_equal(batch.load_matrix(tmp_path / "a.csv", **options), wanted)


def test_tables_of_pandas_are_read_or_asked_about(tmp_path: Path, X: NDArray[Any]) -> None:
    pandas = pytest.importorskip("pandas")
    file = tmp_path / "a.csv"
    frame = pandas.DataFrame(X, columns=list("abcdefg"))
    frame.to_csv(file, index=False)
    assert np.array_equal(batch.load_matrix(file), X)
    frame.to_csv(file)
    with pytest.raises(ValueError, match="like an index that pandas writes"):
        batch.load_matrix(file)
    pandas.DataFrame(X).to_csv(file, index=False)
    with pytest.raises(ValueError, match="can be column names or data"):
        batch.load_matrix(file)
    assert np.array_equal(batch.load_matrix(file, header=True), X)


def test_tables_are_read_to_the_last_bit(tmp_path: Path, X: NDArray[Any]) -> None:
    lines = [",".join(map(repr, row)) for row in (X * 10.0 ** np.arange(-290, 10, 45)).tolist()]
    (tmp_path / "a.csv").write_text("\n".join(lines))
    wanted = [[float(cell) for cell in line.split(",")] for line in lines]
    assert np.array_equal(batch.load_matrix(tmp_path / "a.csv"), wanted)
    (tmp_path / "a.csv").write_text("\n  \n".join(lines))  # what takes the slow path
    assert np.array_equal(batch.load_matrix(tmp_path / "a.csv"), wanted)


def test_lengths(tmp_path: Path) -> None:
    (tmp_path / "n.csv").write_text("0\n5\n7\n")
    assert batch.load_lengths(tmp_path / "n.csv", header=True).tolist() == [5, 7]
    (tmp_path / "n.csv").write_text("5;7\n")
    assert batch.load_lengths(tmp_path / "n.csv").tolist() == [5, 7]


# --- Arrays --------------------------------------------------------------------------------------


def test_binary_files(tmp_path: Path, X: NDArray[Any]) -> None:
    np.save(tmp_path / "a.npy", X.astype("f4"))
    np.savez(tmp_path / "one.npz", X)
    np.savez(tmp_path / "two.npz", images=X, labels=np.zeros((3, 1)))
    assert isinstance(batch.load_matrix(tmp_path / "a.npy"), np.memmap)
    assert batch.load_matrix(tmp_path / "a.npy").dtype == np.float32
    assert np.array_equal(batch.load_matrix(tmp_path / "one.npz"), X)
    assert np.array_equal(batch.load_matrix(tmp_path / "two.npz", key="images"), X)
    assert np.array_equal(batch.load_matrix(f"{tmp_path}/two.npz:images"), X)


def test_zarr_files_are_inputs_too(tmp_path: Path, X: NDArray[Any]) -> None:
    zarr = pytest.importorskip("zarr")
    zarr.create_array(store=str(tmp_path / "X.zarr"), data=X, chunks=(50, 7))
    inputs = batch.load_matrix(tmp_path / "X.zarr")
    kernel = nf.FullyConnected(3).ntk
    K = batch.gram(kernel, inputs, out=tmp_path / "K.npy", tile=64)
    assert np.array_equal(K, batch.gram(kernel, X, out=tmp_path / "L.npy", tile=64))


@pytest.mark.parametrize("suffix", ["zarr", "h5", "hdf5"])
def test_groups_of_arrays(tmp_path: Path, X: NDArray[Any], suffix: str) -> None:
    file = tmp_path / f"data.{suffix}"
    if suffix == "zarr":
        root = pytest.importorskip("zarr").open_group(str(file), mode="w")
        root.create_array("train/X", data=X)
    else:
        root = pytest.importorskip("h5py").File(file, "w")
        root["train/X"] = X
    assert np.array_equal(batch.load_matrix(file)[:], X)  # the only one
    if suffix == "zarr":
        root.create_array("flat", data=np.zeros(3))
    else:
        root["flat"] = np.zeros(3)
        root.close()
    assert np.array_equal(batch.load_matrix(f"{file}:train/X")[:], X)
    assert np.array_equal(batch.load_matrix(file, key="/train/X")[:], X)
    with pytest.raises(ValueError, match=r"got flat, train/X; choose one as .*:flat"):
        batch.load_matrix(file)
    with pytest.raises(ValueError, match="expected one of flat, train/X, got the name 'X'"):
        batch.load_matrix(f"{file}:X")
    inputs = batch.load_matrix(f"{file}:train/X")
    kernel = nf.FullyConnected(3).ntk
    K = batch.gram(kernel, inputs, out=tmp_path / "K.npy")
    assert np.array_equal(K, kernel(X))
    with pytest.raises(ValueError, match="out: expected another file than that of X"):
        batch.gram(kernel, inputs, out=file, overwrite=True)
    if suffix == "zarr":
        with pytest.raises(ValueError, match="out: expected another file than that of X"):
            batch.gram(kernel, inputs, out=file, overwrite=True)
    del inputs


@pytest.mark.parametrize("kind", ["f4", "f8"])
def test_hdf5_outputs_are_read_by_the_library(tmp_path: Path, X: NDArray[Any], kind: str) -> None:
    h5py = pytest.importorskip("h5py")
    kernel = nf.FullyConnected(3).ntk
    K = batch.gram(kernel, X.astype(kind), X[:50].astype(kind), out=tmp_path / "K.h5", tile=64)
    del K
    with h5py.File(tmp_path / "K.h5", "r") as file:
        assert list(file) == ["K"]
        assert (file["K"].dtype, file["K"].shape) == (np.dtype(kind), (300, 50))
        wanted = kernel(X.astype(kind), X[:50].astype(kind))
        np.testing.assert_allclose(file["K"][:], wanted, rtol=1e-5 if kind == "f4" else 1e-13)


@pytest.mark.parametrize(
    ("name", "content", "error", "message"),
    [
        ("missing.npy", None, FileNotFoundError, "no such file"),
        ("a.txt", b"1 2", ValueError, r"expected one of \.npy, .*, got '\.txt'"),
        ("a.npy", b"not an array", ValueError, r"cannot be read as \.npy"),
        ("a.npy", b"", ValueError, r"cannot be read as \.npy"),
        ("a.npz", b"not an archive", ValueError, r"cannot be read as \.npz"),
        ("a.h5", b"not HDF5", ValueError, r"cannot be opened as HDF5"),
        ("a.csv", b"x,y\n1,2\n3,four\n", ValueError, "table of numbers.*line 3.*four"),
        ("a.csv", b"x,y\n1,2\n3\n", ValueError, "table of numbers.*line 3: expected 2 columns"),
        ("a.csv", b"1,two\n3,4\n", ValueError, "table of numbers.*two"),
        ("a.csv", b"x,y\n", ValueError, "no data"),
        ("a.csv", b"\xff\xfe\x00", ValueError, "table of numbers"),
    ],
)
def test_unreadable_files(
    tmp_path: Path, name: str, content: bytes | None, error: Any, message: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(error, match=re.escape(name) + ".*" + message):
        batch.load_matrix(tmp_path / name)


def test_wrong_contents(tmp_path: Path) -> None:
    np.save(tmp_path / "flat.npy", np.zeros(3))
    np.save(tmp_path / "words.npy", np.array([["a"]]))
    np.savez(tmp_path / "two.npz", images=np.zeros((2, 2)), labels=np.zeros((2, 1)))
    with pytest.raises(
        ValueError, match=r"flat\.npy: expected a matrix \(n, d\), or 3 or 4 axes, got shape \(3,\)"
    ):
        batch.load_matrix(tmp_path / "flat.npy")
    with pytest.raises(ValueError, match=r"words\.npy: expected real numbers, got dtype <U1"):
        batch.load_matrix(tmp_path / "words.npy")
    with pytest.raises(ValueError, match=r"got images, labels; choose one as .*two\.npz:images"):
        batch.load_matrix(tmp_path / "two.npz")
    with pytest.raises(ValueError, match="expected one of images, labels, got the name 'x'"):
        batch.load_matrix(f"{tmp_path}/two.npz:x")
    with pytest.raises(ValueError, match=r"only \.npz archives, zarr groups and HDF5 files have"):
        batch.load_matrix(tmp_path / "flat.npy", key="x")
    with pytest.raises(ValueError, match=r"header: expected a table, \.csv or \.tsv, got .*flat"):
        batch.load_matrix(tmp_path / "flat.npy", header=True)
