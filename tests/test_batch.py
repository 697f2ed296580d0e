"""Batch Gram matrices: right values, and nothing lost or half-written whatever interrupts them."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections import namedtuple
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import ntkfast as nf
from ntkfast import batch
from ntkfast.batch import grid, run, sinks
from ntkfast.batch.sinks import SINKS
from ntkfast.kernels import pace

N, TILE = 300, 64  # 5 x 5 blocks, the last of 44 rows; 15 on or above the diagonal
TILES = 15


class Watched:
    """A kernel that counts tiles and can do something before one of them."""

    def __init__(self, kernel: Any = None, *, at: int = -1, action: Any = None) -> None:
        self.kernel = nf.FullyConnected(3).ntk if kernel is None else kernel
        self.at, self.action, self.tiles = at, action, 0

    def __repr__(self) -> str:
        """Pass for the kernel inside."""
        return repr(self.kernel)

    def __call__(
        self, X: NDArray[Any], Y: NDArray[Any] | None = None, *, out: Any = None, **options: Any
    ) -> NDArray[Any]:
        """Act and count, then let the kernel inside do the work."""
        if out is not None:  # tiles have an output, the probe of a job has none
            if self.action is not None and self.at in (-1, self.tiles):
                self.action()
            self.tiles += 1
        result: NDArray[Any] = self.kernel(X, Y, out=out, **options)
        return result


def stop() -> None:
    raise KeyboardInterrupt


def interrupt(out: Path, X: NDArray[Any], after: int = 6, **options: Any) -> KeyboardInterrupt:
    """Leave behind what an interrupted job leaves; the last of `after` tiles is written too."""
    with pytest.raises(KeyboardInterrupt) as caught:
        batch.gram(Watched(at=after, action=stop), X, out=out, tile=TILE, **options)
    return caught.value


def interrupt_and_damage(out: Path, X: NDArray[Any], tail: bytes) -> None:
    """Leave behind an interrupted job of three tiles, whose journal ends in what it did not say."""
    interrupt(out, X, after=3)
    with open(journal_of(out), "ab") as file:
        file.write(tail)


def journal_of(out: Path) -> Path:
    return Path(f"{out}.journal")


def partial_of(out: Path) -> Path:
    return Path(f"{out}.partial")


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def left(out: Path) -> set[str]:
    """Name what a finished job leaves."""
    return {out.name, journal_of(out).name}


@pytest.fixture(scope="module")
def X() -> NDArray[np.float64]:
    return np.random.default_rng(0).normal(size=(N, 7))


@pytest.fixture(scope="module")
def wanted(X: NDArray[Any], tmp_path_factory: pytest.TempPathFactory) -> NDArray[Any]:
    """Give the matrix of an undisturbed job."""
    out = tmp_path_factory.mktemp("undisturbed") / "K.npy"
    return np.array(batch.gram(nf.FullyConnected(3).ntk, X, out=out, tile=TILE))


@pytest.fixture(params=["npy", "zarr", "h5"])
def out(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    if request.param != "npy":
        pytest.importorskip({"zarr": "zarr", "h5": "h5py"}[request.param])
    return tmp_path / f"K.{request.param}"


# --- Values --------------------------------------------------------------------------------------


@pytest.mark.parametrize("tile", [None, 64, 300, 1000])
def test_symmetric_job_gives_the_gram_matrix(out: Path, X: NDArray[Any], tile: int | None) -> None:
    kernel = nf.FullyConnected(3).ntk
    K = batch.gram(kernel, X, out=out, tile=tile)[:]
    assert np.array_equal(K, K.T)
    assert np.array_equal(np.diagonal(K), kernel.diag(X))
    np.testing.assert_allclose(K, kernel(X), rtol=1e-13, atol=1e-13)
    assert names(out.parent) == left(out)


@pytest.mark.parametrize("tile", [None, (64, 128), (7, 300), (300, 7)])
def test_rectangular_job_gives_the_gram_matrix(
    out: Path, X: NDArray[Any], tile: tuple[int, int] | None
) -> None:
    kernel = nf.FullyConnected(3).ntk
    K = batch.gram(kernel, X, X[:101] + 0.5, out=out, tile=tile)[:]
    np.testing.assert_allclose(K, kernel(X, X[:101] + 0.5), rtol=1e-13, atol=1e-13)


def test_symmetric_and_rectangular_jobs_agree(
    tmp_path: Path, X: NDArray[Any], wanted: NDArray[Any]
) -> None:
    K = batch.gram(nf.FullyConnected(3).ntk, X, X.copy(), out=tmp_path / "K.npy", tile=TILE)
    off = ~np.eye(N, dtype=bool)
    np.testing.assert_allclose(K[off], wanted[off], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("given", "asked", "found"),
    [
        ("f4", None, "f4"),
        ("f8", None, "f8"),
        (">f8", None, "f8"),
        ("i2", None, "f8"),
        ("f8", "float32", "f4"),
        ("f4", np.float64, "f8"),
    ],
)
def test_dtype(tmp_path: Path, X: NDArray[Any], given: str, asked: Any, found: str) -> None:
    inputs = (4 * X).astype(given)
    K = batch.gram(nf.FullyConnected(1).ntk, inputs, out=tmp_path / "K.npy", dtype=asked, tile=TILE)
    assert K.dtype == np.dtype(found)
    plain = nf.FullyConnected(1).ntk(inputs.astype(found))
    np.testing.assert_allclose(K, plain, rtol=20 * np.finfo(found).eps, atol=1e-4)


@pytest.mark.parametrize("suffix", SINKS)
def test_files_of_half_the_size(tmp_path: Path, X: NDArray[Any], suffix: str) -> None:
    """float16 is computed in the type of the inputs and rounded once, interrupted or not."""
    out, kernel = tmp_path / f"K{suffix}", nf.FullyConnected(3).ntk
    interrupt(out, X, dtype="float16")
    K = batch.gram(kernel, X, out=out, dtype="float16", tile=TILE)
    assert K.dtype == np.float16
    plain = batch.gram(kernel, X, out=tmp_path / "L.npy", tile=TILE)
    assert np.array_equal(K[:], plain.astype("f2"))
    narrow = batch.gram(kernel, X[:9].astype("f4"), out=tmp_path / "M.npy", dtype="float16")
    assert np.array_equal(narrow, kernel(X[:9].astype("f4")).astype("f2"))
    with pytest.raises(ValueError, match="dtype: a value of the kernel"):
        batch.gram(kernel, 1e4 * X, out=tmp_path / "N.npy", dtype="float16")


def test_inputs_may_be_memory_maps(tmp_path: Path, X: NDArray[Any], wanted: NDArray[Any]) -> None:
    np.save(tmp_path / "X.npy", X)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    K = batch.gram(nf.FullyConnected(3).ntk, mapped, out=tmp_path / "K.npy", tile=TILE)
    assert np.array_equal(K, wanted)


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("shape", [(10, 10), (600, 600), (10**6, 10**6), (10**6, 10), (10, 10**6)])
@pytest.mark.parametrize("width", [1, 784, 10**5])
def test_default_tile_is_bounded(shape: tuple[int, int], width: int, symmetric: bool) -> None:
    rows, columns = grid.default_tile(shape, width, 8, symmetric)
    assert rows >= 1
    assert columns >= 1
    assert not symmetric or rows == columns
    large = max(rows, columns) > grid.TILE_MIN
    if large and shape != (10, 10**6):
        bound = grid.TILE_BYTES + 8 * grid.TILE_STEP * (rows + columns + 2 * width)
        assert 8 * (rows * columns + (rows + columns) * width) <= bound
    assert rows * columns <= grid.TILE_BYTES  # at most 8 times the room, for the widest inputs


class PerPair(Watched):
    """A kernel whose pairs take a millisecond each, and that notes the shapes of its calls."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.shapes: list[tuple[int, int]] = []

    def __call__(self, X: Any, Y: Any = None, *, out: Any = None, **options: Any) -> Any:  # noqa: D102
        rows, columns = len(X), len(X if Y is None else Y)
        time.sleep(1e-3 * rows * columns)
        if out is not None:
            self.shapes.append((rows, columns))
        return super().__call__(X, Y, out=out, **options)


def test_tiles_of_slow_kernels_are_small_and_kept_by_the_next_run(
    tmp_path: Path, X: NDArray[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "TILE_SECONDS", 0.4)
    monkeypatch.setattr(pace, "STEP_SECONDS", 0.04)
    monkeypatch.setattr(pace, "TRIAL_SECONDS", 0.01)
    out, inputs = tmp_path / "K.npy", X[:40]
    with pytest.raises(KeyboardInterrupt):
        batch.gram(PerPair(at=5, action=stop), inputs, out=out, threads=1)
    header, *done = map(json.loads, journal_of(out).read_text().splitlines())
    tile, step = header["tile"][0], header["step"]
    assert 8 <= tile <= 21  # of 20, where the machine is not busy
    assert 2 <= step < tile
    kernel = PerPair()
    monkeypatch.setattr(pace, "STEP_SECONDS", 4.0)
    K = batch.gram(kernel, inputs, out=out)
    assert max(max(shape) for shape in kernel.shapes) == step
    assert set(map(tuple, done)) <= {(0, 0), (0, 1)}
    assert np.array_equal(K, nf.FullyConnected(3).ntk(inputs))


@pytest.mark.parametrize("given", [None, True])
def test_a_bar_moves_inside_a_tile(
    tmp_path: Path,
    X: NDArray[Any],
    given: bool | None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("tqdm")
    monkeypatch.setattr(pace, "STEP_SECONDS", 0.02)
    batch.gram(PerPair(), X[:20], out=tmp_path / "K.npy", tile=20, progress=given)
    shown = capsys.readouterr().err
    assert (shown == "") == (given is None)  # there is no terminal
    assert not given or (shown.count("pairs/s") > 3 and "400/400" in shown)


# --- Interruption --------------------------------------------------------------------------------


def test_final_name_appears_only_at_the_end(out: Path, X: NDArray[Any]) -> None:
    kernel = Watched(action=lambda: seen.append(out.exists()))
    seen: list[bool] = []
    batch.gram(kernel, X, out=out, tile=TILE)
    assert seen == [False] * TILES
    assert out.exists()


def test_interrupted_job_resumes_without_redoing_tiles(
    out: Path, X: NDArray[Any], wanted: NDArray[Any]
) -> None:
    error = interrupt(out, X, after=6)
    assert f"6 of {TILES} tiles are done" in error.__notes__[0]
    assert names(out.parent) == {partial_of(out).name, journal_of(out).name}
    kernel = Watched()
    K = batch.gram(kernel, X, out=out)  # the tile is that of the journal
    assert kernel.tiles == TILES - 6
    assert np.array_equal(K[:], wanted)
    assert names(out.parent) == left(out)


KILLED = """
import sys, time
import numpy as np
import ntkfast as nf
from ntkfast import batch

class Slow:
    kernel = nf.FullyConnected(3).ntk
    def __repr__(self):
        return repr(self.kernel)
    def __call__(self, X, Y=None, **options):
        if "out" in options:  # else a kernel is only looked at
            time.sleep(0.1)
        return self.kernel(X, Y, **options)

batch.gram(Slow(), np.load(sys.argv[1]), out=sys.argv[2], tile=64)
"""


def wait_for_tiles(journal: Path, count: int, process: subprocess.Popen[Any]) -> None:
    limit = time.monotonic() + 60
    while time.monotonic() < limit:
        if journal.exists() and journal.read_bytes().count(b"\n") > count:  # one line is the header
            return
        assert process.poll() is None, "the job ended before it could be stopped"
        time.sleep(0.01)
    raise AssertionError("the job did not come to its first tiles")


def test_killed_job_resumes_bit_for_bit(
    out: Path, X: NDArray[Any], wanted: NDArray[Any], tmp_path: Path
) -> None:
    np.save(tmp_path / "X.npy", X)
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path / "X.npy"), str(out)])
    wait_for_tiles(journal_of(out), 4, process)
    process.kill()
    process.wait()
    assert not out.exists()
    done = [json.loads(line) for line in journal_of(out).read_text().splitlines()[1:]]
    assert 4 <= len(done) < TILES
    kernel = Watched()
    K = batch.gram(kernel, X, out=out)
    assert kernel.tiles == TILES - len(done)
    assert np.array_equal(K[:], wanted)


@pytest.mark.parametrize("tail", [b"[4, ", b"[4, 4]", b"\0\0\0\0\n[4, 4]\n", b"[2, 3\n[4, 4]\n"])
def test_torn_journal_lines_are_ignored(
    tmp_path: Path, X: NDArray[Any], wanted: NDArray[Any], tail: bytes
) -> None:
    out = tmp_path / "K.npy"
    interrupt_and_damage(out, X, tail)
    interrupt(out, X, after=4)  # writes behind the torn line
    kernel = Watched()
    K = batch.gram(kernel, X, out=out)
    assert kernel.tiles == TILES - 7
    assert np.array_equal(K, wanted)


def test_torn_header_means_a_fresh_start(
    tmp_path: Path, X: NDArray[Any], wanted: NDArray[Any]
) -> None:
    out = tmp_path / "K.npy"
    interrupt(out, X)
    journal_of(out).write_bytes(journal_of(out).read_bytes()[:40])
    kernel = Watched()
    assert np.array_equal(batch.gram(kernel, X, out=out, tile=TILE), wanted)
    assert kernel.tiles == TILES


def test_lost_partial_file_means_a_fresh_start(out: Path, X: NDArray[Any]) -> None:
    interrupt(out, X)
    partial = partial_of(out)
    shutil.rmtree(partial) if partial.is_dir() else partial.unlink()
    kernel = Watched()
    K = batch.gram(kernel, X, out=out)
    assert kernel.tiles == TILES
    assert np.array_equal(K[:], K[:].T)


@pytest.mark.parametrize("renamed", [False, True])
def test_killed_before_or_after_the_rename(
    out: Path, X: NDArray[Any], renamed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = SINKS[out.suffix]
    publish = kind.publish

    def killed(partial: Path, path: Path) -> None:
        if renamed:
            publish(partial, path)
        stop()

    with monkeypatch.context() as patch:
        patch.setattr(kind, "publish", staticmethod(killed))
        with pytest.raises(KeyboardInterrupt):
            batch.gram(Watched(), X, out=out, tile=TILE)
    assert names(out.parent) == {
        out.name if renamed else partial_of(out).name,
        f"{out.name}.journal",
    }
    kernel = Watched()
    K = batch.gram(kernel, X, out=out)
    assert kernel.tiles == 0
    assert np.array_equal(K[:], K[:].T)
    assert names(out.parent) == left(out)


# --- Finished jobs -------------------------------------------------------------------------------


def test_finished_job_is_not_repeated(out: Path, X: NDArray[Any]) -> None:
    first = batch.gram(Watched(), X, out=out, tile=TILE)[:]
    again = Watched()
    assert np.array_equal(batch.gram(again, X, out=out)[:], first)
    assert np.array_equal(batch.gram(again, X, out=out, tile=32, overwrite=True)[:], first)
    assert again.tiles == 0
    batch.gram(again, X, out=out, tile=TILE, resume=False, overwrite=True)
    assert again.tiles == TILES


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("X", "the contents of X changed"),
        ("kernel", "kernel was .*3.*, is now .*4"),
        ("dtype", "dtype"),
    ],
)
def test_finished_matrix_of_another_job_is_kept(
    out: Path, X: NDArray[Any], change: str, message: str
) -> None:
    first = batch.gram(Watched(), X, out=out)[:]
    inputs = -X if change == "X" else X
    kernel = nf.FullyConnected(4 if change == "kernel" else 3).ntk
    options: dict[str, Any] = {"dtype": "float32"} if change == "dtype" else {}
    with pytest.raises(FileExistsError, match=f"exists already, of another job .*{message}"):
        batch.gram(kernel, inputs, out=out, **options)
    assert np.array_equal(batch.load_matrix(out)[:], first)
    assert batch.gram(Watched(), X, out=out).shape == (N, N)  # its journal is still believed


def test_a_file_of_somebody_else_is_not_taken_for_the_finished_matrix(
    tmp_path: Path, X: NDArray[Any]
) -> None:
    out = tmp_path / "K.npy"
    batch.gram(Watched(), X, out=out)
    np.save(out, np.zeros((N, N)))
    with pytest.raises(FileExistsError, match="exists already; choose"):
        batch.gram(Watched(), X, out=out)
    out.unlink()  # then the journal speaks of nothing, to this job and to any other
    kernel = Watched(nf.FullyConnected(4).ntk)
    assert np.array_equal(batch.gram(kernel, X, out=out), nf.FullyConnected(4).ntk(X))


# --- Refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"X": "sign"}, "the contents of X changed"),
        ({"X": "fewer"}, r"shape of X was \[300, 7\], is now \[299, 7\]"),
        ({"Y": "same"}, r"shape of Y was None, is now \[300, 7\]"),
        ({"kernel": nf.FullyConnected(4).ntk}, "kernel was .*3.*, is now .*4"),
        ({"dtype": "float32"}, "dtype was float64, is now float32"),
        ({"tile": 32}, r"tile was \[64, 64\], is now \[32, 32\]"),
    ],
)
def test_other_job_is_refused_and_restart_helps(
    tmp_path: Path, X: NDArray[Any], change: dict[str, Any], message: str
) -> None:
    out = tmp_path / "K.npy"
    interrupt(out, X, after=3)
    before = journal_of(out).read_bytes()
    inputs = {"sign": -X, "fewer": X[1:]}.get(change.get("X", ""), X)
    others = X.copy() if "Y" in change else None
    options = {name: change[name] for name in ("dtype", "tile") if name in change}
    kernel = change.get("kernel", nf.FullyConnected(3).ntk)
    with pytest.raises(batch.BatchError, match=f"{message}.*--no-resume.*3 finished tiles"):
        batch.gram(kernel, inputs, others, out=out, **options)
    assert journal_of(out).read_bytes() == before
    K = batch.gram(kernel, inputs, others, out=out, resume=False, **options)
    np.testing.assert_allclose(K, kernel(inputs, others), rtol=1e-4)
    assert names(tmp_path) == left(out)


def test_kernels_with_equal_names_are_told_apart(tmp_path: Path, X: NDArray[Any]) -> None:
    class Nameless(Watched):
        def __repr__(self) -> str:
            return "<kernel at 0x7f00>"

    out = tmp_path / "K.npy"
    with pytest.raises(KeyboardInterrupt):
        batch.gram(Nameless(at=3, action=stop), X, out=out, tile=TILE)
    with pytest.raises(batch.BatchError, match="other values on the first rows"):
        batch.gram(Nameless(nf.FullyConnected(2).ntk), X, out=out)


def test_foreign_journal_is_left_alone(tmp_path: Path, X: NDArray[Any]) -> None:
    out = tmp_path / "K.npy"
    journal_of(out).write_text("my diary\n")
    with pytest.raises(batch.BatchError, match="not a journal of ntkfast"):
        batch.gram(Watched(), X, out=out)
    assert journal_of(out).read_text() == "my diary\n"


@pytest.mark.parametrize(
    "damage",
    [
        {"job": None},
        {"tile": None},
        {"tile": [64]},
        {"tile": [0, 0]},
        {"probe": None},
        {"probe": "x"},
        {"step": 0},
        {"job": []},
    ],
)
def test_damaged_journal_says_so(tmp_path: Path, X: NDArray[Any], damage: dict[str, Any]) -> None:
    out = tmp_path / "K.npy"
    interrupt(out, X)
    header, *rest = journal_of(out).read_text().splitlines(keepends=True)
    wrong = {
        name: value for name, value in {**json.loads(header), **damage}.items() if value is not None
    }
    journal_of(out).write_text("".join([json.dumps(wrong) + "\n", *rest]))
    message = r"K\.npy\.journal: this journal is damaged; remove it and K\.npy\.partial"
    with pytest.raises(batch.BatchError, match=message):
        batch.gram(Watched(), X, out=out)


@pytest.mark.parametrize(
    "line", [b'"24"', b"[4.2, 4.7]", b"[true, true]", b"[4, 4, 4]", b'["4", "4"]']
)
def test_damaged_lines_speak_of_no_tile(
    tmp_path: Path, X: NDArray[Any], wanted: NDArray[Any], line: bytes
) -> None:
    out = tmp_path / "K.npy"
    interrupt_and_damage(out, X, line + b"\n")
    kernel = Watched()
    assert np.array_equal(batch.gram(kernel, X, out=out), wanted)
    assert kernel.tiles == TILES - 3


@pytest.mark.parametrize("value", [9.0, np.nan])
def test_inputs_that_change_on_the_way_give_no_matrix(
    out: Path, X: NDArray[Any], wanted: NDArray[Any], value: float
) -> None:
    moving = X.copy()

    def change() -> None:
        moving[150, 2] = value

    with pytest.raises(batch.BatchError, match=r"changed while the job ran.*discarded"):
        batch.gram(Watched(at=5, action=change), moving, out=out, tile=TILE)
    assert names(out.parent) == set()
    assert np.array_equal(batch.gram(Watched(), X, out=out, tile=TILE)[:], wanted)


def test_a_first_tile_of_zeros_is_written_like_any_other(out: Path, X: NDArray[Any]) -> None:
    inputs = X.copy()
    inputs[:TILE] = 0
    interrupt(out, inputs, after=2)
    kernel = Watched()
    K = batch.gram(kernel, inputs, out=out)[:]
    assert kernel.tiles == TILES - 2
    np.testing.assert_allclose(K, nf.FullyConnected(3).ntk(inputs), rtol=1e-13, atol=1e-13)
    assert not K[:TILE].any()


def test_edges_of_tiles_are_integers_of_any_kind(tmp_path: Path, X: NDArray[Any]) -> None:
    kernel = Watched()
    batch.gram(kernel, X, out=tmp_path / "K.npy", tile=np.int64(TILE))  # type: ignore[arg-type]
    assert kernel.tiles == TILES


@pytest.mark.skipif(sys.platform == "win32", reason="symbolic links need rights there")
def test_symbolic_links_are_written_through(
    out: Path, X: NDArray[Any], wanted: NDArray[Any]
) -> None:
    (out.parent / "far").mkdir()
    far = out.parent / "far" / f"matrix{out.suffix}"
    out.symlink_to(far)
    interrupt(out, X)
    assert names(far.parent) == {partial_of(far).name, journal_of(far).name}
    assert np.array_equal(batch.gram(Watched(), X, out=out)[:], wanted)
    shallow = nf.FullyConnected(1).ntk
    batch.gram(Watched(shallow), X, out=out, overwrite=True)
    assert out.is_symlink()
    assert names(far.parent) == left(far)
    np.testing.assert_allclose(batch.load_matrix(far)[:], shallow(X), rtol=1e-13, atol=1e-13)
    out.unlink()
    out.symlink_to(out.parent / "far" / "matrix.bin")
    with pytest.raises(ValueError, match=r"out: expected a path ending in .* -> .*matrix\.bin"):
        batch.gram(Watched(), X, out=out)


@pytest.mark.parametrize("name", ["X", "Y"])
def test_inputs_are_not_overwritten(out: Path, X: NDArray[Any], name: str) -> None:
    if out.suffix == ".npy":
        np.save(out, X)
    elif out.suffix == ".h5":
        with pytest.importorskip("h5py").File(out, "w") as file:
            file["X"] = X
    else:
        pytest.importorskip("zarr").create_array(store=str(out), data=X)
    inputs = batch.load_matrix(out)
    sides: Any = (inputs, None) if name == "X" else (X, inputs)
    with pytest.raises(ValueError, match=f"out: expected another file than that of {name}"):
        batch.gram(Watched(), *sides, out=out, overwrite=True)
    if out.suffix == ".npy":  # a part of the map is the same file
        with pytest.raises(ValueError, match=f"out: expected another file than that of {name}"):
            batch.gram(
                Watched(), *(None if s is None else np.asarray(s)[3:] for s in sides), out=out
            )
    assert np.array_equal(batch.load_matrix(out)[:], X)
    assert names(out.parent) == {out.name}


def test_existing_output_is_kept_unless_overwrite(out: Path, X: NDArray[Any]) -> None:
    first = batch.gram(Watched(), X, out=out)[:]
    with pytest.raises(FileExistsError, match=r"exists already.*--overwrite"):
        batch.gram(Watched(), 2 * X, out=out)
    assert names(out.parent) == left(out)
    interrupt(out, 2 * X, after=6, overwrite=True)
    assert np.array_equal(batch.load_matrix(out)[:], first)  # the old one is whole until the end
    second = batch.gram(Watched(), 2 * X, out=out, overwrite=True)[:]
    np.testing.assert_allclose(second, 4 * first, rtol=1e-12, atol=1e-12)
    assert names(out.parent) == left(out)


def test_two_jobs_cannot_share_an_output(tmp_path: Path, X: NDArray[Any]) -> None:
    out = tmp_path / "K.npy"

    def rival() -> None:
        with pytest.raises(batch.BatchError, match="another process is writing"):
            batch.gram(Watched(), X, out=out)

    kernel = Watched(at=2, action=rival)
    batch.gram(kernel, X, out=out, tile=TILE)
    assert kernel.tiles == TILES


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        ((np.zeros(3),), {}, ValueError, r"X: expected shape \(\*, d\), got \(3,\)"),
        ((np.zeros((0, 3)),), {}, ValueError, "X: expected at least one row"),
        ((np.ones((4, 3)), np.ones((4, 2))), {}, ValueError, r"Y: expected shape \(\*, 3\), got"),
        ((np.ones((4, 3)) * 1j,), {}, TypeError, "X: expected float32 or float64 .*complex128"),
        ((np.ones((4, 3), "f2"),), {}, TypeError, "X: expected float32 or float64 .*float16"),
        (
            (np.ones((4, 3)),),
            {"dtype": "int32"},
            TypeError,
            "dtype: .* or float16",
        ),
        ((np.ones((4, 3)),), {"tile": 0}, ValueError, "tile: expected an integer >= 1"),
        ((np.ones((4, 3)),), {"tile": 2.5}, TypeError, "tile: expected an integer, got float"),
        ((np.ones((4, 3)),), {"tile": (2, 2, 2)}, ValueError, "tile: expected an integer or two"),
        ((np.ones((4, 3)),), {"tile": (2, 3)}, ValueError, "tile: expected a square"),
        ((np.ones((4, 3)),), {"out": "K.txt"}, ValueError, r"out: expected .*\.npy or \.zarr or"),
        ((np.ones((4, 3)),), {"out": "no/K.npy"}, FileNotFoundError, "no such folder"),
        ((np.array([[1.0], [np.nan]]),), {}, ValueError, "X: expected finite numbers, row 1 holds"),
        (
            (np.ones((2, 1)), np.array([[np.inf]])),
            {},
            ValueError,
            "Y: expected finite numbers, row 0 holds",
        ),
    ],
)
def test_wrong_arguments(
    tmp_path: Path, arguments: Any, options: dict[str, Any], error: Any, message: str
) -> None:
    options = {"out": "K.npy", **options}
    options["out"] = tmp_path / options["out"]
    with pytest.raises(error, match=message):
        batch.gram(nf.FullyConnected(1).ntk, *arguments, **options)
    assert names(tmp_path) == set()


def test_kernels_are_called_and_networks_have_two(tmp_path: Path, X: NDArray[Any]) -> None:
    for wrong, message in (
        (nf.FullyConnected(1), "kernel: expected a Kernel, got FullyConnected; a network has two"),
        ("ntk", "kernel: expected a Kernel, got str"),
    ):
        with pytest.raises(TypeError, match=message):
            batch.gram(wrong, X, out=tmp_path / "K.npy")  # type: ignore[arg-type]


# --- The disk ------------------------------------------------------------------------------------

Usage = namedtuple("Usage", "total used free")


def test_free_disk_is_checked_first(
    out: Path, X: NDArray[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**6, 10**6 - 5000, 5000))
    kernel = Watched()
    with pytest.raises(batch.DiskSpaceError, match=r"720\.\d kB .*got 5\.0 kB \(5000 bytes\)"):
        batch.gram(kernel, X, out=out)
    assert kernel.tiles == 0
    assert names(out.parent) == set()


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="space is not allocated at once")
def test_allocated_space_is_not_asked_for_twice(
    tmp_path: Path, X: NDArray[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "K.npy"
    interrupt(out, X)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**6, 10**6, 0))
    assert batch.gram(Watched(), X, out=out).shape == (N, N)


def test_full_disk_keeps_finished_tiles(
    tmp_path: Path, X: NDArray[Any], wanted: NDArray[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "K.npy"
    rows_of_six_tiles = 64 + 5 * 2 * 64

    def write(descriptor: int, data: Any) -> int:
        nonlocal rows_of_six_tiles
        if len(data) == 64 * 8:  # one row of a tile
            rows_of_six_tiles -= 1
            if rows_of_six_tiles < 0:
                raise OSError(errno.ENOSPC, "No space left on device")
        return plain(descriptor, data)

    plain = os.write
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", write)
        with pytest.raises(batch.DiskSpaceError, match=r"became full.*finished tiles are kept"):
            batch.gram(Watched(), X, out=out, tile=TILE)
    done = journal_of(out).read_bytes().count(b"\n") - 1
    assert 3 <= done < TILES
    kernel = Watched()
    assert np.array_equal(batch.gram(kernel, X, out=out), wanted)
    assert kernel.tiles == TILES - done


@pytest.fixture
def small_disk(tmp_path: Path) -> Any:
    """Make a real file system of half a megabyte, which only root can."""
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(folder)]
    if sys.platform == "win32" or shutil.which("mount") is None or os.geteuid() != 0:
        pytest.skip("only root can mount a small disk")
    if subprocess.run(command, capture_output=True).returncode != 0:
        pytest.skip("this system does not allow to mount a small disk")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("spare", [0, 1])
def test_disk_too_full_for_the_journal(
    small_disk: Path, spare: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = small_disk / "K.npy"  # of 125 pages; 128 are there
    (small_disk / "ballast").write_bytes(bytes(4096 * (3 - spare)))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**9, 0, 10**9))
    if spare:
        assert batch.gram(Watched(), np.eye(252), out=out).shape == (252, 252)
        return
    message = r"K\.npy: the disk became full .*; nothing is kept: make room"
    with pytest.raises(batch.DiskSpaceError, match=message):
        batch.gram(Watched(), np.eye(252), out=out)
    assert names(small_disk) == {"ballast"}


def test_a_failing_disk_names_the_file(
    tmp_path: Path, X: NDArray[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(descriptor: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    out = tmp_path / "K.npy"
    with monkeypatch.context() as patch:
        patch.setattr(sinks, "sync_data", broken)
        message = r"K\.npy: writing failed \(Input/output error\); finished tiles are kept"
        with pytest.raises(batch.BatchError, match=message):
            batch.gram(Watched(), X, out=out)
    assert batch.gram(Watched(), X, out=out).shape == (N, N)


@pytest.mark.parametrize("suffix", ["npy", "zarr", "h5"])
def test_really_full_disk(
    small_disk: Path, X: NDArray[Any], suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if suffix != "npy":
        pytest.importorskip({"zarr": "zarr", "h5": "h5py"}[suffix])
    out = small_disk / f"K.{suffix}"
    with pytest.raises(batch.DiskSpaceError, match="expected 720"):
        batch.gram(Watched(), X, out=out, tile=TILE)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**9, 0, 10**9))
    with pytest.raises(batch.DiskSpaceError, match="became full"):
        batch.gram(Watched(), X, out=out, tile=TILE)
    assert not out.exists()
    assert names(small_disk) == (
        set() if suffix != "zarr" else {"K.zarr.partial", "K.zarr.journal"}
    )


MEMORY = """
import resource, sys
import numpy as np
import ntkfast as nf
from ntkfast import batch

kernel = nf.FullyConnected(1).ntk
X = np.random.default_rng(0).normal(size=(4000, 5))
batch.gram(kernel, X[:600], out=sys.argv[1] + "/small.npy", tile=512)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
batch.gram(kernel, X, out=sys.argv[1] + "/large.npy", tile=512)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="maxrss has other units elsewhere")
def test_memory_does_not_grow_with_the_matrix(tmp_path: Path) -> None:
    command = [sys.executable, "-c", MEMORY, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert (tmp_path / "large.npy").stat().st_size > 128_000_000
    assert int(done.stdout) < 40_000  # kB


@pytest.mark.parametrize("tile", [None, 10])
@pytest.mark.parametrize("symmetric", [True, False])
def test_errors_say_which_rows_are_meant(symmetric: bool, tile: int | None, tmp_path: Path) -> None:
    X = np.ones((50, 3))
    X[33] *= 1e200
    Y = None if symmetric else X[:3]
    with pytest.raises(ValueError, match=r"[XY]: row \d+ has norm 1.73e\+200") as caught:
        nf.batch.gram(nf.FullyConnected(1).ntk, X, Y, out=tmp_path / "K.npy", tile=tile)
    side, row = str(caught.value).split()[0][0], int(str(caught.value).split()[2])
    for note in getattr(caught.value, "__notes__", []):
        begins = dict(zip("XY", (int(word) for word in re.findall(r"\d+", note)), strict=True))
        row += begins[side]
    assert row == 33
