"""The command line from end to end, in processes of its own."""

from __future__ import annotations

import inspect
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import ntkfast as nf
from ntkfast import datasets
from ntkfast.command import bench, cli, demo, networks

X = np.random.default_rng(0).normal(size=(90, 6))


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ntkfast", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=100)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    np.save(tmp_path / "X.npy", X)
    return tmp_path


# --- gram ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "kernel"),
    [
        ("--network fc --depth 3", lambda: nf.FullyConnected(3).ntk),
        ("--network fc --depth 2 --kind nngp", lambda: nf.FullyConnected(2).nngp),
        ("--network fc --depth 2 --bias 0.5", lambda: nf.FullyConnected(2, bias=0.5).ntk),
        (
            "--network fc --depth 2 --parameterization ntk --w-std 1.5 --b-std 0.1",
            lambda: nf.FullyConnected(2, parameterization="ntk", w_std=1.5, b_std=0.1).ntk,
        ),
        (
            "--network fc --depth 1 --activation leaky_relu(0.1)",
            lambda: nf.FullyConnected(1, activation="leaky_relu(0.1)").ntk,
        ),
        (
            "--network fc --depth 2 --activation leaky_relu(0.1),abrelu(0.2,1)",
            lambda: nf.FullyConnected(2, activation=["leaky_relu(0.1)", "abrelu(0.2, 1)"]).ntk,
        ),
        ("--network resnet --depth 4 --alpha 0.3", lambda: nf.ResNet(4, alpha=0.3).ntk),
        (
            "--network resnet --depth 4 --alpha 0.3 --trained all --normalize",
            lambda: nf.ResNet(4, alpha=0.3, trained="all", normalize=True).ntk,
        ),
        ("--network arccosine --order 0", lambda: nf.ArcCosine(0)),
        (
            "--network laplace --c 2 --inputs euclidean",
            lambda: nf.Laplace(2, inputs="euclidean"),
        ),
    ],
)
def test_gram_writes_the_kernel_of_the_options(folder: Path, options: str, kernel: Any) -> None:
    arguments = ["gram", str(folder / "X.npy"), *options.split(), "--out", str(folder / "K.npy")]
    assert cli.main(arguments) == 0
    np.testing.assert_allclose(np.load(folder / "K.npy"), kernel()(X), rtol=1e-13, atol=1e-13)


def test_gram_end_to_end(folder: Path) -> None:
    np.savetxt(folder / "Y.csv", X[:20] + 1, delimiter=",", header="a,b,c,d,e,f", comments="")
    np.savez(folder / "data.npz", first=X, second=X + 1)
    base = ["--network", "fc", "--depth", "3", "--dtype", "float32"]
    done = run(
        folder, "gram", "data.npz:first", *base, "--Y", "Y.csv", "--tile", "64x7", "--out", "K.npy"
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "K.npy: 90 x 20 float32, 0.0 MB\n"
    K = np.load(folder / "K.npy")
    wanted = nf.FullyConnected(3).ntk(X.astype("f4"), (X[:20] + 1).astype("f4"))
    assert K.dtype == np.float32
    np.testing.assert_allclose(K, wanted, rtol=1e-5, atol=1e-5)
    half = ["gram", str(folder / "X.npy"), *FC.split(), "--dtype", "float16"]
    assert cli.main([*half, "--out", str(folder / "H.npy")]) == 0
    wanted = nf.FullyConnected(3).ntk(np.load(folder / "X.npy")).astype(np.float16)
    np.testing.assert_array_equal(np.load(folder / "H.npy"), wanted)
    again = run(folder, "gram", "data.npz:first", *base, "--Y", "Y.csv", "--out", "K.npy")
    assert (again.returncode, again.stderr) == (0, "")
    assert again.stdout == "K.npy: complete already, 90 x 20 float32, 0.0 MB\n"
    other = run(folder, "gram", "X.npy", *base, "--out", "K.npy")
    assert other.returncode == 2
    assert "K.npy: exists already, of another job" in other.stderr
    replaced = run(folder, "gram", "X.npy", *base, "--out", "K.npy", "--overwrite")
    assert replaced.returncode == 0
    assert np.load(folder / "K.npy").shape == (90, 90)


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ("X.npy --network fc --depth 1", "--out: expected another file than that of X"),
        ("T.npy --Y X.npy --network fc --depth 1", "--out: expected another file than that of Y"),
        (
            "T.npy --lengths X.npy --network rntk --depth 1",
            "--out: expected another file than --lengths",
        ),
    ],
)
def test_gram_overwrites_no_input(
    folder: Path,
    arguments: str,
    name: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(folder)
    np.save("T.npy", X)
    if "lengths" in arguments:
        np.save("X.npy", np.full(90, 6))
    before = (folder / "X.npy").read_bytes()
    assert cli.main(["gram", *arguments.split(), "--out", "X.npy", "--overwrite"]) == 2
    assert name in capfd.readouterr().err
    assert (folder / "X.npy").read_bytes() == before


@pytest.mark.parametrize(
    ("options", "rows"), [(["--header"], 1), (["--no-header", "--delimiter", ";"], 2)]
)
def test_gram_is_told_how_a_table_is_written(folder: Path, options: list[str], rows: int) -> None:
    (folder / "t.csv").write_text("0;1\n.5;1.5\n")
    arguments = ["gram", str(folder / "t.csv"), *FC.split(), "--out", str(folder / "K.npy")]
    assert cli.main(arguments) == 2
    assert cli.main([*arguments, *options]) == 0
    points = np.array([[0, 1], [0.5, 1.5]])[-rows:]
    np.testing.assert_allclose(np.load(folder / "K.npy"), nf.FullyConnected(3).ntk(points))


def test_gram_writes_zarr(folder: Path) -> None:
    zarr = pytest.importorskip("zarr")
    done = run(folder, "gram", "X.npy", "--network", "fc", "--depth", "1", "--out", "K.zarr")
    assert done.returncode == 0, done.stderr
    K = zarr.open_array(store=str(folder / "K.zarr"), mode="r")[:]
    np.testing.assert_allclose(K, nf.FullyConnected(1).ntk(X), rtol=1e-13, atol=1e-13)


FC = "--network fc --depth 3"
FILE = "--network-file net.py"
DUAL = """import numpy as np, ntkfast as nf
d = nf.Dual(lambda u: np.exp(u - 1), lambda u: np.exp(u - 1), degree=1)
a = nf.FullyConnected(1, activation=d)
"""
NET = """import ntkfast as nf
a = nf.compose(nf.Dense(1.5, 0.1), nf.Multiply((), ("erf", nf.Dense())), nf.Dense())
k = nf.Laplace(2.0) + a.ntk
n = 3
"""


def test_gram_of_a_network_in_a_file(folder: Path) -> None:
    (folder / "net.py").write_text(NET)
    made: dict[str, Any] = {}
    exec(NET, made)
    out = folder / "K.npy"
    for name, extra, kernel in (("a", "--kind nngp", made["a"].nngp), ("k", "", made["k"])):
        arguments = f"{folder / 'X.npy'} --network-file {folder / 'net.py'}:{name} {extra}"
        assert cli.main(["gram", *arguments.split(), "--out", str(out), "--overwrite"]) == 0
        np.testing.assert_allclose(np.load(out), kernel(X), rtol=1e-13, atol=1e-13)


def test_a_model_of_a_function_in_a_file(folder: Path) -> None:
    """The file of the model names the function, that of the network has it."""
    (folder / "dual.py").write_text(DUAL)
    np.save(folder / "y.npy", X[:, 0])
    model, out = folder / "M.npz", folder / "f.npy"
    state = f"--network-file {folder / 'dual.py'}:a"
    cli.main(f"fit {folder / 'X.npy'} {folder / 'y.npy'} {state} --out {model}".split())
    cli.main(f"predict {model} {folder / 'X.npy'} {state} --out {out}".split())
    made: dict[str, Any] = {}
    exec(DUAL, made)
    again = nf.regression.load(model, network=made["a"])
    np.testing.assert_allclose(np.load(out), again.predict(X), rtol=1e-12)
    assert cli.main(f"predict {model} {folder / 'X.npy'} --out {out} --overwrite".split()) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("", "the following arguments are required: COMMAND"),
        ("fly", "invalid choice: 'fly'"),
        ("gram X.npy", "required: --out"),
        ("gram X.npy --out K.npy", "one of the arguments --network --network-file is required"),
        (f"gram X.npy {FC} --network-file net.py:a --out K.npy", "not allowed with argument"),
        (f"gram X.npy {FILE}:a --depth 3 --out K.npy", "--network-file has no --depth"),
        (f"gram X.npy {FILE}:k --kind ntk --out K.npy", "--network-file has no --kind"),
        (f"gram X.npy {FILE} --out K.npy", "--network-file: expected FILE.py:NAME, got net.py"),
        ("gram X.npy --network-file no.py:a --out K.npy", "no.py: no such file (for --network-f"),
        (f"gram X.npy {FILE}:b --out K.npy", "has no b; its networks and kernels are: a, k"),
        (f"gram X.npy {FILE}:n --out K.npy", "expected n in net.py to be a network or a kernel"),
        ("gram X.npy --network-file bad.py:a --out K.npy", "bad.py, line 2: ZeroDivisionError"),
        ("gram X.npy --network-file odd.py:a --out K.npy", "odd.py, line 1: SyntaxError"),
        (f"gram X.npy {FILE}:a --lengths X.npy --out K.npy", "--lengths belongs to recurrent net"),
        ("gram X.npy --network rnn --out K.npy", "invalid choice: 'rnn'"),
        ("gram X.npy --network fc --out K.npy", "--network fc needs --depth"),
        ("gram X.npy --network resnet --depth 3 --out K.npy", "--network resnet needs --alpha"),
        (f"gram X.npy {FC} --alpha 0.3 --out K.npy", "--network fc has no --alpha"),
        (f"gram X.npy {FC} --c 1 --out K.npy", "--network fc has no --c"),
        ("gram X.npy --network arccosine --order 1 --kind ntk --out K.npy", "has no --kind"),
        (f"gram X.npy {FC} --activation wobble --out K.npy", "--activation: expected one of"),
        ("gram X.npy --network fc --depth -1 --out K.npy", "--depth: expected"),
        (f"gram X.npy {FC} --tile big --out K.npy", "--tile: expected N or ROWSxCOLUMNS, got big"),
        (f"gram X.npy {FC} --threads 0 --out K.npy", "expected a positive integer, got 0"),
        (f"gram X.npy {FC} --engine abacus --out K.npy", "abacus"),
        (f"gram no.npy {FC} --out K.npy", "no.npy: no such file"),
        (
            f"gram bad.csv {FC} --out K.npy",
            "bad.csv: cannot be read as a table of numbers (line 2, column 2: ",
        ),
        (f"gram X.npy {FC} --Y narrow.npy --out K.npy", "--Y: expected shape (*, 6), got (4, 5)"),
        (f"gram nan.npy {FC} --out K.npy", "error: X: expected finite numbers, row 0 holds NaN"),
        (f"gram X.npy {FC} --header --out K.npy", "--header is for tables of text, .csv or .tsv"),
        (f"gram X.npy {FC} --delimiter ab --out K.npy", "expected one character or tab, got ab"),
        (f"gram X.npy {FC} --out K.mat", "--out: expected a path ending in .npy or .zarr"),
        (f"gram X.npy {FC} --out no/K.npy", "--out: no such folder: no"),
        (f"gram X.npy {FC} --over --out K.npy", "unrecognized arguments: --over"),
        (f"gram X.npy {FC} --b-std .3 --out K.npy", 'ation ntk; use --bias in "unit"'),
        (f"spectrum {FC} --dim 3 --out no/s.csv", "--out: no such folder: no"),
        ("bench --repeats 1", "--repeats: expected an integer >= 2, got 1"),
        ("demo --repeats 1", "--repeats: expected an integer >= 2, got 1"),
        ("gram X.npy --network exponential --out K.npy", "--network exponential needs --gamma"),
    ],
)
def test_mistakes_give_one_line_and_status_2(
    folder: Path,
    arguments: str,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    (folder / "bad.csv").write_text("1,2\n3,x\n")
    for name, text in (
        ("net", NET),
        ("bad", "a = 1\nb = 1 / 0\n"),
        ("odd", "a = (\n"),
    ):
        (folder / f"{name}.py").write_text(text)
    np.save(folder / "narrow.npy", np.ones((4, 5)))
    np.save(folder / "nan.npy", np.full((4, 6), np.nan))
    before = {path.name for path in folder.iterdir()}
    monkeypatch.chdir(folder)
    try:
        status: Any = cli.main(arguments.split())
    except SystemExit as stop:  # argparse ends the program by itself
        status = stop.code
    output = capfd.readouterr()
    assert status == 2
    assert output.out == ""
    assert output.err.count("\n") == 1
    assert output.err.startswith("ntkfast")
    assert message in output.err
    assert {path.name for path in folder.iterdir()} == before


def test_a_mistake_in_a_process_shows_no_traceback(folder: Path) -> None:
    done = run(folder, "gram", "no.npy", *FC.split(), "--out", "K.npy")
    assert done.returncode == 2
    assert done.stderr == "ntkfast gram: error: no.npy: no such file\n"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for other processes")
def test_interrupt_gives_130_and_the_same_command_resumes(tmp_path: Path) -> None:
    inputs = np.random.default_rng(1).normal(size=(1000, 5))
    np.save(tmp_path / "X.npy", inputs)
    options = ["gram", "X.npy", *FC.split(), "--tile", "40", "--out", "K.npy"]  # 325 tiles
    process = subprocess.Popen(
        [sys.executable, "-m", "ntkfast", *options],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
    )
    journal = tmp_path / "K.npy.journal"
    limit = time.monotonic() + 60
    while not (journal.exists() and journal.read_bytes().count(b"\n") > 3):
        assert process.poll() is None
        assert time.monotonic() < limit
        time.sleep(0.002)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted" in errors
    assert "of 325 tiles are done" in errors
    assert "Traceback" not in errors
    assert not (tmp_path / "K.npy").exists()
    refused = run(tmp_path, *options, "--dtype", "float32")
    assert refused.returncode == 2
    assert "--no-resume" in refused.stderr
    done = run(tmp_path, *options)
    assert done.returncode == 0
    told = r"ntkfast gram: K.npy: goes on, \d+ of 325 tiles are there already\n"
    assert re.fullmatch(told, done.stderr)
    K = np.load(tmp_path / "K.npy")
    assert np.array_equal(K, K.T)
    np.testing.assert_allclose(K, nf.FullyConnected(3).ntk(inputs), rtol=1e-12, atol=1e-12)


# --- The other commands --------------------------------------------------------------------------


def test_help_is_quick_to_load_and_has_examples(tmp_path: Path) -> None:
    code = (
        "import sys; from ntkfast.command import cli\n"
        "try: cli.main(['gram', '--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'scipy', 'numba', 'matplotlib', 'zarr', 'tqdm', 'sklearn'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "ntkfast gram X.npy --network resnet --depth 10" in done.stdout
    assert run(tmp_path, "--version").stdout.startswith("ntkfast ")


def test_every_option_of_a_network_is_explained() -> None:
    constructors = [inspect.signature(one).parameters for one in networks.NETWORKS.values()]
    assert set(networks.HELP) == {name for one in constructors for name in one}


@pytest.mark.parametrize("command", ["bench", "demo"])
def test_help_says_the_least_number_of_rounds(
    command: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        cli.main([command, "--help"])
    assert "rounds, at least 2" in " ".join(capfd.readouterr().out.split())


def test_info_names_the_version(capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["info"]) == 0
    assert nf.__version__ in capfd.readouterr().out


def test_spectrum_prints_a_table(capfd: pytest.CaptureFixture[str]) -> None:
    options = "--network laplace --c 1 --dim 3 --max-degree 30"
    assert cli.main(["spectrum", *options.split()]) == 2
    assert "radius" in capfd.readouterr().err
    assert cli.main(["spectrum", *options.split(), "--radius", "1"]) == 0
    head, *lines = capfd.readouterr().out.splitlines()
    assert head.startswith("degree,eigenvalue,")
    wanted = nf.spectrum.mercer(nf.Laplace(1.0), 3, 30, radius=1.0)
    table = np.array([[float(x) for x in line.split(",")] for line in lines])
    assert np.array_equal(table[:, 0], wanted.degrees)
    assert np.array_equal(table[:, 1], wanted.eigenvalues)  # digits enough to read them back


@pytest.mark.parametrize("suffix", ["png", "csv", "svg"])
def test_spectrum_writes_whole_files(
    tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("matplotlib")
    out = tmp_path / f"s.{suffix}"
    command = ["spectrum", "--network", "resnet", "--depth", "3", "--alpha", "0.5"]
    command += ["--dim", "3", "--max-degree", "50", "--out", str(out)]
    assert cli.main(command) == 0
    before = out.read_bytes()
    assert len(before) > 1000

    def full(self: Path, target: Path) -> None:
        raise OSError(28, "No space left on device", str(target))

    monkeypatch.setattr(Path, "replace", full)
    assert cli.main(command) == 2
    assert out.read_bytes() == before  # an older result stays until there is a whole new one
    assert [path.name for path in tmp_path.iterdir()] == [out.name]


def test_spectrum_refuses_unknown_formats(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("matplotlib")
    monkeypatch.setattr("ntkfast.spectrum.mercer", lambda *_, **__: pytest.fail("before the work"))
    command = ["spectrum", "--network", "fc", "--depth", "3", "--dim", "3"]
    assert cli.main([*command, "--out", str(tmp_path / "s.npy")]) == 2
    said = capfd.readouterr().err
    assert "--out: expected a path ending in .csv, or for a picture in " in said
    assert ".png" in said
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_bench_prints_a_line_for_each_shape(capfd: pytest.CaptureFixture[str]) -> None:
    options = "--n 64 --dims 4 9 --depths 1 3 --dtypes float64 --repeats 3 --threads 1"
    assert cli.main(["bench", *options.split()]) == 0
    lines = [line.split() for line in capfd.readouterr().out.splitlines()]
    measured = [line for line in lines if line[:1] == ["float64"]]
    assert [line[1:3] for line in measured] == [["4", "1"], ["4", "3"], ["9", "1"], ["9", "3"]]
    for line in measured:
        product, mine, ratio = float(line[3]), float(line[5]), float(line[7])
        assert min(product, mine, ratio) >= 0


def test_timings_are_interleaved() -> None:
    calls: list[str] = []
    times = bench.measure(
        {name: lambda name=name: calls.append(name) for name in "ab"},  # type: ignore[misc]
        repeats=3,
        warmup=1,
    )
    assert "".join(calls) == "abababab"
    assert [len(times[name].seconds) for name in "ab"] == [3, 3]


def test_ratio_and_spread_of_timings() -> None:
    base, mine = bench.Timing((1.0, 2.0, 4.0)), bench.Timing((3.0, 4.0, 20.0))
    assert mine.median == 4.0
    assert mine.ratio(base) == 2.0
    assert mine.spread(base) == (2.5, 4.0)  # of 3, 2 and 5


def test_a_contender_may_decline() -> None:
    rows = bench.compare(
        n=8,
        dims=(2,),
        depths=(1, 2),
        dtypes=("float32",),
        repeats=2,
        contenders={"odd": lambda X, Y, depth: (lambda: X) if depth % 2 else None},
    )
    assert [sorted(row.times) for row in rows] == [["odd", "product"], ["product"]]
    assert "float32" in bench.table(rows)


@pytest.mark.slow
def test_demo_learns_digits_and_draws(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    picture = tmp_path / "predictions.png"
    assert cli.main(["demo", "--picture", str(picture)]) == 0
    output = capfd.readouterr().out
    shares = [float(line.split("%")[0].split()[-1]) for line in output.splitlines() if "%" in line]
    assert 90 < shares.pop() < 99  # within two standard deviations
    assert len(shares) == 6
    assert shares[0] == pytest.approx(88.1, abs=1.0)  # the linear kernel
    assert min(shares[1:]) > 95
    assert picture.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert str(picture) in output


def test_demo_without_matplotlib_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    one = demo.Predictions(*(np.ones(shape) for shape in ((1, 8, 8), (1, 10), (1, 10), (1,))))
    demo._draw(one, tmp_path / "predictions.png")
    assert "pip install 'ntkfast[plot]'" in capfd.readouterr().err


# --- Data ----------------------------------------------------------------------------------------


def test_digits_are_the_known_ones() -> None:
    images, labels = datasets.load_digits()
    assert images.shape == (1797, 64)
    assert (images.dtype, labels.dtype) == (np.float64, np.int64)
    assert images[0, :8].tolist() == [0, 0, 5, 13, 9, 1, 0, 0]
    assert np.bincount(labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    sklearn = pytest.importorskip("sklearn.datasets")
    theirs: tuple[NDArray[Any], NDArray[Any]] = sklearn.load_digits(return_X_y=True)
    assert np.array_equal(images, theirs[0])
    assert np.array_equal(labels, theirs[1])


def test_find(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("mnist/mnist.npz", "uci/abalone.npz", "uci/twice.csv", "ucr/twice.npz"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.setenv("NTKFAST_DATA", str(tmp_path))
    assert datasets.find("mnist") == tmp_path / "mnist" / "mnist.npz"
    assert datasets.find("abalone.npz") == tmp_path / "uci" / "abalone.npz"
    assert datasets.find("ucr/twice.npz") == tmp_path / "ucr" / "twice.npz"
    with pytest.raises(ValueError, match="twice: expected one file"):
        datasets.find("twice")
    with pytest.raises(FileNotFoundError, match=r"abalon: no such file.*near it are abalone"):
        datasets.find("abalon")
    monkeypatch.setenv("NTKFAST_DATA", str(tmp_path / "no"))
    with pytest.raises(FileNotFoundError, match="NTKFAST_DATA: expected a folder"):
        datasets.find("mnist")
    monkeypatch.delenv("NTKFAST_DATA")
    with pytest.raises(FileNotFoundError, match="NTKFAST_DATA: expected this environment variable"):
        datasets.find("mnist")
