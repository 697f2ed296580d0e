"""``ntkfast fit`` and ``ntkfast predict``, from files to files."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import ntkfast as nf

pytest.importorskip("sklearn")

from ntkfast.batch import BatchError, load_targets
from ntkfast.batch.parts import write_parts
from ntkfast.command import cli
from ntkfast.command.models import _end_of_path
from ntkfast.regression import KernelClassifier, KernelRidgeCV, load

generator = np.random.default_rng(3)
X, Z = generator.normal(size=(60, 4)), generator.normal(size=(25, 4))
Y = np.abs(X[:, 0]) + 0.1 * generator.normal(size=60)
LABELS = np.where(X[:, 0] * X[:, 1] > 0, "same", "other")
FC = "--network fc --depth 2".split()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name, values in {"X": X, "Z": Z, "y": Y, "labels": LABELS}.items():
        np.save(f"{name}.npy", values)
    return tmp_path


def ran(capfd: pytest.CaptureFixture[str], *arguments: str, status: int = 0) -> str:
    """Run a command and return what it prints, or its message."""
    assert cli.main(list(arguments)) == status
    found = capfd.readouterr()
    assert status or not found.err
    return found.err if status else found.out


def test_regression(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    said = ran(capfd, "fit", "X.npy", "y.npy", *FC, "--ridge", "auto", "--out", "model.npz")
    wanted = KernelRidgeCV(nf.FullyConnected(2)).fit(X, Y)
    error = np.sqrt(wanted.scores_.min())
    assert said.splitlines()[0] == (
        "y.npy: float64 are taken as numbers to predict; --task says otherwise"
    )
    assert f"model.npz: 60 rows, ridge {wanted.ridge_:.4g}, " in said
    assert f"leave-one-out root mean square error {error:.4g}, standard deviation of y" in said
    said = ran(capfd, "predict", "model.npz", "Z.npy", "--out", "f.npy", "--rows", "7")
    assert said == "f.npy: 25 float64\n"
    assert_allclose(np.load("f.npy"), wanted.predict(Z), rtol=1e-12)
    assert not (folder / "f.npy.partial").exists()
    again = ran(capfd, "predict", "model.npz", "Z.npy", "--out", "f.npy")
    assert again == "f.npy: complete already, 25 float64\n"
    said = ran(capfd, "predict", "model.npz", "X.npy", "--out", "f.npy", status=2)
    assert "f.npy: exists already, of another job (shape of X was [25, 4], is now [60, 4])" in said


def test_ridge_of_ones_own_and_weights(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    weights = np.arange(60) % 4
    np.save("w.npy", weights)
    targets = np.stack([Y, -Y], axis=1)
    np.savez("data.npz", y=targets, other=Y)
    options = ["--ridge", "0.5", "--sample-weight", "w.npy", "--out", "m.npz"]
    said = ran(capfd, "fit", "X.npy", "data.npz:y", *FC, *options)
    assert "m.npz: 45 rows, ridge 0.5" in said
    wanted = KernelRidgeCV(nf.FullyConnected(2), [0.5]).fit(X, targets, weights)
    assert_array_equal(load("m.npz").predict(Z), wanted.predict(Z))
    assert "m.npz: exists already" in ran(
        capfd, "fit", "X.npy", "y.npy", *FC, "--out", "m.npz", status=2
    )
    ran(capfd, "fit", "X.npy", "y.npy", *FC, "--out", "m.npz", "--overwrite")


@pytest.mark.parametrize("suffix", ["npy", "csv"])
def test_classes(folder: Path, capfd: pytest.CaptureFixture[str], suffix: str) -> None:
    Path("labels.csv").write_text("\n".join(LABELS))
    np.savetxt("X.csv", X, delimiter=",", fmt="%.17g")
    np.savetxt("Z.csv", Z, delimiter=",", fmt="%.17g")
    said = ran(capfd, "fit", f"X.{suffix}", f"labels.{suffix}", *FC, "--out", "model.npz")
    wanted = KernelClassifier(nf.FullyConnected(2)).fit(X, LABELS)
    right = wanted.classes_[(wanted.held_out_ > 0).astype(int)] == LABELS
    assert "strings are taken as classes" in said
    assert f"leave-one-out accuracy {100 * right.mean():.2f} %, 2 classes" in said
    assert ran(capfd, "predict", "model.npz", f"Z.{suffix}", "--out", "c.npy") == (
        "c.npy: 25 strings\n"
    )
    assert_array_equal(np.load("c.npy"), wanted.predict(Z), strict=True)
    options = ["--method", "predict_proba", "--rows", "9"]
    ran(capfd, "predict", "model.npz", f"Z.{suffix}", *options, "--out", "p.npy")
    assert_allclose(np.load("p.npy"), wanted.predict_proba(Z), rtol=1e-12)


def test_task_is_said(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    np.savetxt("y.csv", np.arange(60) % 3, fmt="%d")
    np.save("y.npy", np.arange(60) % 3)
    common = ["X.npy", "y.csv", *FC, "--overwrite", "--out", "m.npz"]
    assert "float64 are taken as numbers" in ran(capfd, "fit", *common)
    assert "3 classes" in ran(capfd, "fit", *common, "--task", "classification")
    common[1] = "y.npy"
    assert "int64 are taken as classes" in ran(capfd, "fit", *common)
    assert "root mean square" in ran(capfd, "fit", *common, "--task", "regression")


def test_whole_numbers_of_a_table_may_be_classes(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    np.savetxt("y.csv", np.arange(60) % 3, fmt="%d")
    common = ["X.npy", "y.csv", *FC, "--overwrite", "--out", "m.npz"]
    said = ran(capfd, "fit", *common)
    assert "the values are whole numbers; for classes: --task classification\n" in said
    said = ran(capfd, "fit", *common, "--task", "classification")
    assert "whole" not in said
    assert_array_equal(load("m.npz").classes_, [0, 1, 2], strict=True)
    np.savetxt("y.csv", np.arange(60) % 3 + 0.5)
    assert "; --task says otherwise\n" in ran(capfd, "fit", *common)


# --- Tables of predictions -----------------------------------------------------------------------


def test_predictions_are_tables(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    table("two.csv", np.stack([Y, 2 * Y], axis=1), "height", '"twice, really"')
    ran(capfd, "fit", "X.npy", "two.csv", *FC, "--out", "m.npz")
    said = ran(capfd, "predict", "m.npz", "Z.npy", "--rows", "7", "--out", "f.csv")
    assert said == "f.csv: 25 rows\n"
    said = ran(capfd, "predict", "m.npz", "Z.npy", "--out", "f.csv")
    assert said == "f.csv: complete already, 25 rows\n"
    assert Path("f.csv").read_text().splitlines()[0] == '"height","twice, really"'
    ran(capfd, "predict", "m.npz", "Z.npy", "--rows", "7", "--out", "f.npy")
    assert_array_equal(load_targets("f.csv"), np.load("f.npy"), strict=True)  # to the last bit
    ran(capfd, "fit", "X.npy", "y.npy", *FC, "--out", "plain.npz")
    ran(capfd, "predict", "plain.npz", "Z.npy", "--out", "g.csv")
    assert_array_equal(load_targets("g.csv"), load("plain.npz").predict(Z))
    np.save("short.npy", Z.astype(np.float32))
    ran(capfd, "predict", "plain.npz", "short.npy", "--out", "h.csv")
    found, wanted = load_targets("h.csv"), load("plain.npz").predict(Z.astype(np.float32))
    assert_array_equal(found.astype(np.float32), wanted, strict=True)
    assert max(map(len, Path("h.csv").read_text().split())) < 14  # no digits of float64


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (LABELS, ["other", "same"]),
        (np.arange(60) % 3, ["class 0", "class 1", "class 2"]),
    ],
    ids=["strings", "numbers"],
)
def test_columns_of_classes_have_their_names(
    folder: Path, capfd: pytest.CaptureFixture[str], labels: Any, names: list[str]
) -> None:
    table("kinds.csv", labels[:, None], "kind")
    options = "--y-header --task classification --out m.npz".split()
    ran(capfd, "fit", "X.npy", "kinds.csv", *FC, *options)
    model = load("m.npz")
    for method in "predict", "predict_proba", "decision_function":
        ran(capfd, "predict", "m.npz", "Z.npy", "--method", method, "--out", f"{method}.csv")
        head, *_ = Path(f"{method}.csv").read_text().splitlines()
        kept = {"predict": ["kind"], "predict_proba": names}.get(
            method, names[-1:] if len(names) == 2 else names
        )
        assert head == ",".join(f'"{name}"' for name in kept)
        header = True if method == "predict" else None
        found, wanted = load_targets(f"{method}.csv", header=header), getattr(model, method)(Z)
        (assert_array_equal if wanted.dtype.kind == "U" else assert_allclose)(found, wanted)


# --- Column names --------------------------------------------------------------------------------


def table(name: str, values: Any, *names: str) -> None:
    """Write a table, with a line of names if there are any."""
    lines = [",".join(map(str, row)) for row in np.asarray(values).tolist()]
    Path(name).write_text("\n".join([",".join(names), *lines] if names else lines))


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ("dcba", "X: expected the columns of fit, a, b, c, d, in this order; column 1 is d, was a"),
        ("abcz", "in this order; unknown: z; missing: d"),
        ("abdc", "column 3 is d, was c"),
    ],
)
def test_columns_are_those_of_fit(
    folder: Path, capfd: pytest.CaptureFixture[str], columns: str, message: str
) -> None:
    table("X.csv", X, *"abcd")
    table("Z.csv", Z, *columns)
    ran(capfd, "fit", "X.csv", "y.npy", *FC, "--out", "m.npz")
    assert message in ran(capfd, "predict", "m.npz", "Z.csv", "--out", "f.npy", status=2)
    assert not Path("f.npy").exists()
    table("Z.csv", Z, *"abcd")
    ran(capfd, "predict", "m.npz", "Z.csv", "--out", "f.npy")
    assert_allclose(np.load("f.npy"), KernelRidgeCV(nf.FullyConnected(2)).fit(X, Y).predict(Z))


def test_names_are_compared_with_those_of_data_frames(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    pandas = pytest.importorskip("pandas")
    table("X.csv", X, *"abcd")
    ran(capfd, "fit", "X.csv", "y.npy", *FC, "--out", "m.npz")
    with pytest.raises(ValueError, match="Feature names must be in the same order"):
        load("m.npz").predict(pandas.DataFrame(Z, columns=list("dcba")))
    KernelRidgeCV(nf.FullyConnected(2)).fit(pandas.DataFrame(X, columns=list("abcd")), Y).save(
        "frame.npz"
    )
    table("Z.csv", Z, *"dcba")
    said = ran(capfd, "predict", "frame.npz", "Z.csv", "--out", "f.npy", status=2)
    assert "column 1 is d, was a" in said


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize(
    ("names", "of_z", "message"),
    [
        ("abcd", "", "Z.csv has no column names; its columns are taken for those of fit, a, b, c"),
        ("", "abcd", "Z.csv has column names, the model was fitted without"),
    ],
)
def test_names_on_one_side_are_said_once(
    folder: Path, capfd: pytest.CaptureFixture[str], names: str, of_z: str, message: str
) -> None:
    table("X.csv", X, *names)
    table("Z.csv", Z, *of_z)
    ran(capfd, "fit", "X.csv", "y.npy", *FC, "--out", "m.npz")
    assert cli.main(["predict", "m.npz", "Z.csv", "--rows", "3", "--out", "f.npy"]) == 0
    said = capfd.readouterr().err
    assert said.startswith(f"ntkfast predict: warning: {message}")
    assert said.count("\n") == 1


def test_gram_compares_the_names_of_both_tables(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    table("X.csv", X, *"abcd")
    table("Z.csv", Z, *"abdc")
    common = ["gram", "X.csv", "--Y", "Z.csv", "--out", "K.npy"]
    said = ran(capfd, *common, *FC, status=2)
    assert "--Y: expected the columns of X, a, b, c, d, in this order; column 3 is d, was c" in said
    # of sequences they are steps
    ran(capfd, *common, *"--network rntk --depth 1".split())


def test_each_table_has_its_own_line_of_names(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    table("X.csv", X)
    table("kinds.csv", LABELS[:, None], "kind")
    table("Y.csv", Y[:, None], "height")
    fitted = ["X.csv", "kinds.csv", *FC, "--out", "m.npz"]
    said = ran(capfd, "fit", *fitted, status=2)
    assert "'kind' can be a name or a class; say --y-header or --no-y-header" in said
    ran(capfd, "fit", *fitted, "--y-header")
    assert_array_equal(load("m.npz").classes_, ["other", "same"])
    said = ran(capfd, "fit", *fitted, "--y-header", "--header", "--overwrite", status=2)
    assert (
        "y: expected 59 targets, one for each row of X, got 60; X.csv is read with a line of "
        "names, --no-header says otherwise; kinds.csv is read with a line of names, "
        "--no-y-header says otherwise"
    ) in said
    said = ran(capfd, "fit", "X.npy", "kinds.csv", *FC, "--header", "--out", "n.npz", status=2)
    assert "--header is for tables of text, .csv or .tsv; of y: --y-header" in said
    ran(capfd, "fit", "X.csv", "Y.csv", *FC, "--no-header", "--out", "n.npz")
    table("w.csv", np.arange(60)[:, None])
    weighed = ["fit", "X.csv", "Y.csv", *FC, "--sample-weight", "w.csv", "--out", "w.npz"]
    assert "w.csv" in (said := ran(capfd, *weighed, status=2))
    assert "0 can be column names or data; write a name above it" in said
    table("Z.csv", Z, "1", "2", "3", "4")
    compared = ["gram", "X.csv", "--Y", "Z.csv", *FC, "--out", "K.npy"]
    ran(capfd, *compared, "--no-header", "--Y-header")
    assert np.load("K.npy").shape == (60, 25)


def test_images_and_sequences(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    h5py = pytest.importorskip("h5py")
    zarr = pytest.importorskip("zarr")
    with h5py.File("images.h5", "w") as file:
        file["images"] = X.reshape(60, 2, 2, 1)
    options = ["--network", "cntk", "--depth", "1", "--out", "cnn.npz"]
    ran(capfd, "fit", "images.h5:images", "y.npy", *options)
    ran(capfd, "predict", "cnn.npz", "images.h5", "--rows", "50", "--out", "f.npy")
    wanted = KernelRidgeCV(nf.Convolutional(1)).fit(X.reshape(60, 2, 2, 1), Y)
    assert_allclose(np.load("f.npy"), wanted.predict(X.reshape(60, 2, 2, 1)), atol=1e-10)
    zarr.save_array("series.zarr", X)
    steps = 1 + np.arange(60) % 4
    np.save("steps.npy", steps)
    options = ["--network", "rntk", "--depth", "1", "--b-std", "0.1", "--lengths", "steps.npy"]
    ran(capfd, "fit", "series.zarr", "y.npy", *options, "--out", "rnn.npz")
    ran(capfd, "predict", "rnn.npz", "X.npy", "--lengths", "steps.npy", "--out", "g.npy")
    ragged = nf.sequences(X, steps)
    model = KernelRidgeCV(nf.Recurrent(1, b_std=0.1)).fit(ragged, Y)
    assert_allclose(np.load("g.npy"), model.predict(ragged), atol=1e-10)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("fit X.npy y.npy --network fc --depth 1 --out model.pkl", "--out: expected a path ending"),
        ("fit X.npy y.npy --network fc --out model.npz", "--network fc needs --depth"),
        ("fit X.npy Z.npy --network fc --depth 1 --out m.npz", "y: expected shape (60, *)"),
        ("fit X.npy no.npy --network fc --depth 1 --out m.npz", "no.npy: no such file"),
        ("fit X.npy name.csv --network fc --depth 1 --out m.npz", "'cat' can be a name or a class"),
        ("fit bad.npy y.npy --network fc --depth 1 --out m.npz", "X: expected finite numbers, row"),
        ("fit X.npy y.npy --network fc --depth 1 --out no/m.npz", "--out: no such folder: no"),
        ("predict X.npy Z.npy --out f.npy", "X.npy: expected a model that save wrote"),
        ("predict model.npz Z.npy --out f.tsv", "--out: expected a path ending in .npy or .csv"),
        ("predict model.npz bad.npy --out f.npy", "X: expected finite numbers, row 5 holds NaN"),
        ("predict model.npz Z.npy --out Z.npy --overwrite", "--out: expected another file"),
        (
            "fit both.npz:X y.npy --network fc --depth 1 --out both.npz --overwrite",
            "--out: expected another file than the inputs, got both.npz",
        ),
        ("predict model.npz y2.npy --out f.npy", "X has 2 features"),
        ("predict model.npz Z.npy --lengths y.npy --out f.npy", "--lengths is for models of seq"),
        ("predict model.npz Z.npy --method predict_proba --out f.npy", "this is a regression"),
        ("predict model.npz Z.npy --header --out f.npy", "--header is for tables of text"),
    ],
)
def test_what_is_wrong_is_said(
    folder: Path, capfd: pytest.CaptureFixture[str], arguments: str, message: str
) -> None:
    KernelRidgeCV(nf.FullyConnected(1), [0.1]).fit(X, Y).save("model.npz")
    np.save("bad.npy", np.where(np.arange(60)[:, None] == 5, np.nan, X))
    np.save("y2.npy", X[:, :2])
    np.savez("both.npz", X=X)
    Path("name.csv").write_text("cat\n" + "dog\n" * 59)
    before = {path.name for path in folder.iterdir()}
    assert message in ran(capfd, *arguments.split(), status=2)
    assert {path.name for path in folder.iterdir()} == before


@pytest.mark.parametrize("ridge", ["-1", "nan", "inf", "few"])
def test_ridge_is_a_number_or_auto(ridge: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["fit", "X.npy", "y.npy", *FC, f"--ridge={ridge}", "--out", "m.npz"])
    assert "expected a number >= 0 or auto" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("kernel", "targets", "told"),
    [
        (FC, "noise", "this ridge, 10 times the mean of K_ii, is the largest that was tried"),
        (FC, "y", ""),
        (
            ["--network", "gaussian", "--c", "0.03"],
            "smooth",
            "1e-08 times the mean of K_ii, is the",
        ),
        ([*FC, "--ridge", "1e-9"], "smooth", ""),
    ],
)
def test_a_ridge_at_an_end_of_the_path_is_told(
    folder: Path, capfd: pytest.CaptureFixture[str], kernel: list[str], targets: str, told: str
) -> None:
    np.save("noise.npy", np.random.default_rng(0).normal(size=60))
    np.save("smooth.npy", np.sin(X[:, 0] / 3))
    said = ran(capfd, "fit", "X.npy", f"{targets}.npy", *kernel, "--out", "m.npz")
    assert told in said
    assert bool(told) == ("that was tried" in said)


def test_no_smaller_ridge_is_asked_for_in_vain() -> None:
    model = KernelRidgeCV(nf.FullyConnected(1))
    model.ridges_, model.scores_ = np.geomspace(1e-8, 10, 28), 1 + np.arange(28.0)
    for rows, told in ((100, True), (4900, False)):
        model.X_fit_ = np.zeros((rows, 1))
        assert bool(_end_of_path(model)) == told
    model.X_fit_, model.scores_ = np.zeros((100, 1)), 1 + 1e-4 * np.arange(28.0)
    assert not _end_of_path(model)  # nothing to gain


# --- A job that stops ----------------------------------------------------------------------------


class Work:
    """A job that can be interrupted, and says what it computes."""

    def __init__(self, stop: int = 1000) -> None:
        self.stop, self.rows, self.facts = stop, list[int](), {"contents": "1"}

    def __call__(self, part: slice) -> Any:
        """Compute two columns, and keep the rows in mind."""
        if part.stop > self.stop:
            raise KeyboardInterrupt
        self.rows += range(part.start, part.stop)
        return np.arange(part.start, part.stop)[:, None] * [1.0, 10.0]

    def run(self, out: Path, **options: Any) -> Any:
        """Write 20 rows."""
        return write_parts(self, 20, lambda: self.facts, out=out, **{"rows": 6, **options})


def test_an_interrupted_fit_says_that_nothing_is_kept(
    folder: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(KernelRidgeCV, "fit", stop)
    said = ran(capfd, "fit", "X.npy", "y.npy", *FC, "--out", "m.npz", status=130)
    assert "interrupted; m.npz: nothing is kept, fit begins anew when it is run again" in said
    assert not Path("m.npz").exists()


def test_an_interrupted_job_goes_on(tmp_path: Path) -> None:
    out = tmp_path / "f.npy"
    with pytest.raises(KeyboardInterrupt) as caught:
        Work(13).run(out)
    assert "2 parts of 6 rows are done and kept" in caught.value.__notes__[0]
    assert not out.exists()
    work = Work()
    assert not work.run(out, rows=7)
    assert work.rows == list(range(12, 20))
    assert_array_equal(np.load(out), np.arange(20)[:, None] * [1.0, 10.0])
    work = Work()
    assert work.run(out)
    assert not work.rows
    work.facts = {"contents": "2"}
    with pytest.raises(FileExistsError, match="of another job"):
        work.run(out)
    work.run(out, overwrite=True)
    assert set(work.rows) == set(range(20))


def test_an_interrupted_job_of_another_kind_is_in_the_way(tmp_path: Path) -> None:
    out = tmp_path / "f.npy"
    with pytest.raises(KeyboardInterrupt):
        Work(13).run(out)
    work = Work()
    work.facts = {"model": "other"}
    with pytest.raises(BatchError, match="model was None, is now other"):
        work.run(out)
    work.run(out, resume=False)
    assert set(work.rows) == set(range(20))


@pytest.mark.parametrize("at", ["parts", "text", "end"])
def test_an_interrupted_table_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    out, names = tmp_path / "f.csv", ["one", "ten"]
    note = "2 parts of 6 rows are done" if at == "parts" else "all parts are done and kept"
    if at == "text":

        def half(path: Path, *_: object) -> None:
            path.write_text("0.0,0")
            raise KeyboardInterrupt

        monkeypatch.setattr("ntkfast.batch.parts.write_table", half)
    elif at == "end":
        monkeypatch.setattr("os.replace", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError if at == "end" else KeyboardInterrupt) as caught:
        Work(13 if at == "parts" else 1000).run(out, names=names)
    assert at == "end" or note in caught.value.__notes__[0]
    assert not out.exists()
    monkeypatch.undo()
    work = Work()
    assert not work.run(out, names=names)
    assert work.rows == (list(range(12, 20)) if at == "parts" else [])
    lines = [f"{float(i)},{10.0 * i}" for i in range(20)]
    assert out.read_text().splitlines() == ['"one","ten"', *lines]
    assert {path.name for path in tmp_path.iterdir()} == {"f.csv", "f.csv.journal"}
    assert Work().run(out, names=names)


def test_inputs_that_change_on_the_way_give_no_file(tmp_path: Path) -> None:
    changes = iter("abc")
    with pytest.raises(BatchError, match="the inputs changed"):
        write_parts(Work(), 20, lambda: {"contents": next(changes)}, out=tmp_path / "f.npy", rows=9)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_killed_prediction_goes_on(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    KernelRidgeCV(nf.FullyConnected(2), [0.1]).fit(X, Y).save("model.npz")
    np.save("Z.npy", generator.normal(size=(400, 4)))
    arguments = ["predict", "model.npz", "Z.npy", "--rows", "1", "--out", "f.npy"]
    paths = {**os.environ, "PYTHONPATH": str(Path(nf.__file__).parents[1])}
    process = subprocess.Popen([sys.executable, "-m", "ntkfast", *arguments], env=paths)
    journal = folder / "f.npy.journal"
    while process.poll() is None and not (
        journal.exists() and journal.read_bytes().count(b"\n") > 20
    ):
        time.sleep(0.01)
    process.kill()
    assert process.wait() == -9
    assert (folder / "f.npy.partial").exists()
    assert cli.main(arguments) == 0
    told = r"ntkfast predict: f.npy: goes on, \d+ parts are there already\n"
    assert re.fullmatch(told, capfd.readouterr().err)
    assert_allclose(np.load("f.npy"), load("model.npz").predict(np.load("Z.npy")), rtol=1e-12)


# --- Targets -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "header", "wanted"),
    [
        ("1\n2.5\n", None, [1.0, 2.5]),
        ("0\n1\n0\n", None, [0.0, 1.0, 0.0]),  # 0 alone could be a name
        ("height\n1\n2\n", None, [1.0, 2.0]),
        ("a,b\n1,2\n3,4\n", None, [[1.0, 2.0], [3.0, 4.0]]),
        ("cat\ndog\ncat\n", None, ["cat", "dog", "cat"]),
        ('"a cat"\n\n# no class\n"a cat"\n', None, ["a cat", "a cat"]),
        ("kind\ncat\ndog\n", True, ["cat", "dog"]),
        ("kind\ncat\ndog\n", False, ["kind", "cat", "dog"]),
        ("cat\n", False, ["cat"]),
    ],
)
def test_targets_of_tables(tmp_path: Path, text: str, header: Any, wanted: Any) -> None:
    file = tmp_path / "y.csv"
    file.write_text(text)
    assert_array_equal(load_targets(file, header=header), np.array(wanted), strict=True)


def test_targets_that_make_no_sense(tmp_path: Path) -> None:
    file = tmp_path / "y.csv"
    file.write_text("kind\ncat\ndog\n")
    with pytest.raises(ValueError, match=r"y\.csv: 'kind' can be a name or a class; say --header"):
        load_targets(file)
    for values, message in (
        (np.ones((2, 2, 2)), r"expected targets \(n,\) or \(n, c\), got shape \(2, 2, 2\)"),
        (np.ones(3) * 1j, "expected real numbers or strings, got dtype complex128"),
    ):
        np.save(tmp_path / "y.npy", values)
        with pytest.raises(ValueError, match=message):
            load_targets(tmp_path / "y.npy")
