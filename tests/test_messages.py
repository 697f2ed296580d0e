"""What users are told: the word that they may have meant, the file, the option, what is kept."""

from __future__ import annotations

import argparse
import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ntkfast as nf
from ntkfast.batch import load_matrix
from ntkfast.command import cli
from ntkfast.support.files import appearing

FC = "--network fc --depth 1 --out K.npy"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("grem", "ntkfast: error: argument COMMAND: invalid choice: 'grem'"),
        ("grem", "did you mean 'gram'? (see ntkfast --help)"),
        (
            f"gram X.npy {FC} --dtyp float32",
            "unrecognized arguments: --dtyp; did you mean '--dtype'",
        ),
        (
            "gram X.npy --netwrk fc --depth 1",
            "--netwrk; did you mean '--network'? (see ntkfast gram",
        ),
        (f"gram X.npy {FC} --w_std 1", "--w_std; did you mean '--w-std'?"),
        (f"gram X.npy {FC} --w_std=1", "--w_std; did you mean '--w-std'?"),
        ("gram X.npy --network fcc --out K.npy", "did you mean 'fc'?"),
        (f"gram X.npy {FC} --activation leakyrelu(0.1)", "did you mean 'leaky_relu'?"),
        (f"gram X.npy {FC} --engine nativ", "--engine: expected one of"),
        (f"gram images.npy {FC}", "--network cntk"),
        (f"gram X.npy {FC} --over", "unrecognized arguments: --over"),
    ],
)
def test_a_mistake_on_the_command_line(
    arguments: str,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("X.npy", np.ones((4, 3)))
    np.save("images.npy", np.ones((2, 4, 4, 3)))
    try:
        status = cli.main(arguments.split())
    except SystemExit as stop:
        status = stop.code
    told = capsys.readouterr().err
    assert status == 2
    assert told.count("\n") == 1
    assert message in told


def test_python_arguments_are_left_out_on_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "X.npy", np.ones((4, 3)))
    (tmp_path / "K.npy").write_bytes(b"mine")
    names = str(tmp_path / "X.npy"), str(tmp_path / "K.npy")
    assert cli.main(["gram", names[0], "--network", "fc", "--depth", "1", "--out", names[1]]) == 2
    told = capsys.readouterr().err
    assert "(--overwrite)" in told
    assert "overwrite=True" not in told


@pytest.mark.parametrize(
    ("told", "wanted"),
    [
        ("radius: expected", "--radius: expected"),
        ("X: expected", "X: expected"),
        ("give it, for example radius=1.0", "give it, for example --radius 1.0"),
        ('too large; take method="cg"', "too large; take --method cg"),
        ("got Laplace(radius=1.0)", "got Laplace(radius=1.0)"),
        ("--no-header (header=True or False)", "--no-header"),
        ("(--overwrite, overwrite=True)", "(--overwrite)"),
        ("write it without (index=False)", "write it without (index=False)"),
        ('use bias in "unit"', 'use --bias in "unit"'),
    ],
)
def test_arguments_have_their_names_of_the_shell(told: str, wanted: str) -> None:
    options = dict.fromkeys(("X", "command", "radius", "method", "header", "overwrite", "bias"))
    assert cli._for_shell(told, argparse.Namespace(**options)) == wanted


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "it is empty"),
        (b"garbage!", "it begins with b'garbag'"),
        (b"PK\x03\x04rest", "it is a .npz archive by its content"),
        (None, "it is cut off after 300 bytes"),
    ],
    ids=["empty", "garbage", "archive", "cut off"],
)
def test_a_damaged_npy_file(content: bytes | None, message: str, tmp_path: Path) -> None:
    file = tmp_path / "X.npy"
    np.save(file, np.ones((50, 3)))
    file.write_bytes(file.read_bytes()[:300] if content is None else content)
    with pytest.raises(ValueError, match=r"X\.npy: cannot be read as \.npy") as error:
        load_matrix(file)
    assert message in str(error.value)


@pytest.mark.parametrize("older", [False, True])
def test_a_full_disk_names_the_file_and_what_is_kept(older: bool, tmp_path: Path) -> None:
    file = tmp_path / "model.npz"
    if older:
        file.write_bytes(b"older")
    with pytest.raises(OSError, match="No space left") as error:
        with appearing(file) as partial:
            partial.write_bytes(b"half")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert error.value.errno == errno.ENOSPC
    assert error.value.filename == str(file)  # not that of the temporary file
    assert ("the older file is kept" if older else "nothing is kept") in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["model.npz"] * older


def environment(**variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ntkfast", "info"],
        capture_output=True,
        text=True,
        env={**os.environ, **variables},
    )


def test_info_survives_its_environment() -> None:
    done = environment(NTKFAST_ISA="avx9", NTKFAST_ENGINE="numb", NTKFAST_NUM_THREADS="many")
    assert (done.returncode, done.stderr) == (0, "")
    assert "NTKFAST_ENGINE: expected one of" in done.stdout
    assert "did you mean 'numba'?" in done.stdout
    assert "NTKFAST_NUM_THREADS: expected a positive integer, got 'many'" in done.stdout
    if nf.engines.load("native").unavailable() == "":
        assert "NTKFAST_ISA: expected one of" in done.stdout


@pytest.mark.skipif(sys.platform == "win32", reason="pipes of POSIX")
def test_a_reader_that_has_seen_enough() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "ntkfast", "info"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    process.stdout.close()  # before anything is printed
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, "")


def of_tensors(x: object) -> object:
    raise TypeError(f"must be Tensor, not {type(x).__name__}")


class Module:
    """A class that makes a function, where the function is wanted."""

    def __init__(self, inplace: object = False) -> None: ...


@pytest.mark.parametrize("function", [of_tensors, Module])
def test_functions_of_something_else_than_arrays(function: object) -> None:
    with pytest.raises(TypeError, match="activation: expected a function of NumPy arrays, got"):
        nf.FullyConnected(2, activation=function)  # type: ignore[arg-type]


def test_a_network_is_no_kernel() -> None:
    with pytest.raises(TypeError, match=r"its kernels are \.ntk and \.nngp"):
        nf.FullyConnected(2)(np.ones((2, 2)))


def test_pictures_say_what_they_take() -> None:
    pytest.importorskip("matplotlib")
    with pytest.raises(TypeError, match=r"expected a list of networks, got FullyConnected\(2\)"):
        nf.plot.profiles(nf.FullyConnected(2))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"expected what ntkfast\.spectrum\.mercer returns"):
        nf.plot.spectrum(nf.FullyConnected(2))  # type: ignore[arg-type]


ROWS = np.arange(12.0).reshape(4, 3) / 7


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: nf.FullyConnected(1).ntk(ROWS[0]),
            ValueError,
            r"X\[:, None\], for one row X\[None",
        ),
        (
            lambda: nf.FullyConnected(1, bias=0.1).ntk.with_parameters({"b_std": 1.0}),
            ValueError,
            "parameters: expected some of .*; got 'b_std'; did you mean 'bias'",
        ),
        (
            lambda: nf.batch.gram(nf.FullyConnected(1).ntk, "X.npy", out="K.npy"),
            TypeError,
            r"X: .* name of a file; pass ntkfast.batch.load_matrix\('X.npy'\)",
        ),
        (
            lambda: nf.plot.prediction(ROWS, ROWS[:, 0]),
            ValueError,
            r"x: expected shape \(m,\), one coordinate, got \(4, 3\)",
        ),
        (
            lambda: nf.plot.ridge_path(nf.regression.KernelRidgeCV()),
            TypeError,
            "found: expected a fitted KernelRidgeCV",
        ),
        (
            lambda: nf.regression.KernelRidge().fit(ROWS, list("abab")),
            TypeError,
            "y: .*; words as classes: KernelClassifier",
        ),
        (
            lambda: nf.regression.KernelRidge().fit(ROWS, ROWS[:, 0] * 1e200),
            ValueError,
            "y: the squares overflow",
        ),
        (
            lambda: nf.regression.GaussianProcess(nf.FullyConnected(1), tune="dept").fit(
                ROWS, ROWS[:, 0]
            ),
            ValueError,
            "dept: expected one of depth, .*; did you mean 'depth'",
        ),
    ],
)
def test_what_a_newcomer_tries(call: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        call()


def test_a_misspelt_name_of_the_package_is_suggested() -> None:
    with pytest.raises(AttributeError) as error:
        nf.FullyConected  # type: ignore[attr-defined]  # noqa: B018
    assert (error.value.name, error.value.obj) == ("FullyConected", nf)  # Python does the rest


@pytest.mark.parametrize(
    ("name", "meant"), [("relo", "'relu'"), ("Tanh", "'tanh'"), ("leakyrelu", "'leaky_relu'")]
)
def test_misspelt_activations(name: str, meant: str) -> None:
    with pytest.raises(ValueError, match=f"did you mean {meant}"):
        nf.FullyConnected(2, activation=name)


@pytest.mark.parametrize("picture", ["no/picture.png", "picture.foo"])
def test_the_demo_looks_at_its_path_before_it_works(
    picture: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["demo", "--picture", picture]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert "picture" in told.err
