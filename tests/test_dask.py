"""Kernels on a cluster: the numbers of one machine from any number of workers, or an error."""

from __future__ import annotations

import errno
import pickle
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ntkfast as nf
from ntkfast.dask import dispatch, tasks
from ntkfast.dask.evaluation import ClusterEvaluation
from ntkfast.dask.parts import is_here
from ntkfast.dask.session import Session

distributed = pytest.importorskip("distributed")
pytest.importorskip("dask.array")

KERNELS = {
    "zonal": nf.FullyConnected(3).ntk,
    "biases": nf.FullyConnected(2, bias=0.3).ntk,
    "Laplace": nf.Laplace(0.5, inputs="euclidean"),
}


def local(**options: Any) -> Any:
    """Return a client of a cluster in this process, or of processes."""
    return distributed.Client(
        **{"processes": False, "threads_per_worker": 1, "dashboard_address": ":0", **options}
    )


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    with local(n_workers=2) as found:
        yield found


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let inputs of tests travel in blocks."""
    share_up_to(monkeypatch, 20_000)


def share_up_to(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """Let inputs of so many bytes travel as one."""
    for module in "parts", "blocks":
        monkeypatch.setattr(f"ntkfast.dask.{module}.SHARED_BYTES", size)


def data(n: int, dtype: Any = np.float64, d: int = 7) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(n)
    X, V = rng.normal(size=(n, d)), rng.normal(size=(n, 3))
    X[n // 2] = X[0]  # in another block
    X[1] = -X[0]
    X[2] = 0
    return X.astype(dtype), V.astype(dtype)


@pytest.mark.parametrize("name", KERNELS)
def test_products(client: Any, name: str, dtype: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """To the bit, whether all workers have all inputs or blocks of them."""
    kernel, (X, V) = KERNELS[name], data(1700, dtype)  # two groups
    Z = X[:600]
    there = nf.dask.matmul(kernel, Z, X, V, client=client)
    assert there.dtype == dtype
    np.testing.assert_array_equal(there, kernel.matmul(Z, X, V))
    np.testing.assert_array_equal(nf.dask.diag(kernel, X, client=client), kernel.diag(X))
    known = kernel.matmul(X, None, V)
    np.testing.assert_array_equal(nf.dask.matmul(kernel, X, None, V, client=client), known)
    share_up_to(monkeypatch, 1 << 20)
    np.testing.assert_array_equal(nf.dask.matmul(kernel, X, None, V, client=client), known)
    np.testing.assert_array_equal(nf.dask.matmul(kernel, Z, X, V, client=client), there)


def test_kernels_of_several_passes(client: Any) -> None:
    """Sums, multiples and normalised kernels: to the rounding of their parts."""
    one, other, _ = KERNELS.values()
    X, V = data(1700)
    for kernel in (one + 2.5 * other, other.normalized(), one.on([0, 2])):
        K = kernel(X)
        found = nf.dask.matmul(kernel, X, None, V, client=client)
        bound = 16 * np.finfo(float).eps * (np.abs(K) @ np.abs(V))
        assert np.all(np.abs(found - K @ V) <= bound)


def test_one_column_is_a_vector(client: Any) -> None:
    X, V = data(600)
    kernel = KERNELS["zonal"]
    found = nf.dask.matmul(kernel, X, None, V[:, 0], client=client)
    column = nf.dask.matmul(kernel, X, X, V[:, :1], client=client)
    np.testing.assert_array_equal(found, column[:, 0])


@pytest.mark.slow
def test_any_number_of_workers_has_the_same_bits(client: Any) -> None:
    X, V = data(5000, np.float32)
    known = nf.dask.matmul(KERNELS["biases"], X, None, V, client=client)
    np.testing.assert_array_equal(known, KERNELS["biases"].matmul(X, None, V))
    for workers in (1, 3):
        with local(n_workers=workers) as other:
            found = nf.dask.matmul(KERNELS["biases"], X, None, V, client=other)
        np.testing.assert_array_equal(found, known)


def test_inputs_of_all_kinds(client: Any, tmp_path: Any) -> None:
    """Arrays of dask in any blocks, memory maps and zarr are the array that they hold."""
    import dask.array as da

    X, V = data(1200)
    kernel = KERNELS["zonal"]
    known = nf.dask.matmul(kernel, X, None, V, client=client)
    np.save(tmp_path / "X.npy", X)
    kinds = [
        np.load(tmp_path / "X.npy", mmap_mode="r"),
        np.asfortranarray(X),
        da.from_array(X, chunks=(500, 3)),
    ]
    zarr = pytest.importorskip("zarr")
    stored = zarr.create_array(tmp_path / "X.zarr", shape=X.shape, dtype=X.dtype, chunks=(100, 7))
    stored[:] = X
    for kind in [*kinds, stored]:
        found = nf.dask.matmul(kernel, kind, None, V, client=client)
        np.testing.assert_array_equal(found, known)


def test_sequences_and_images(client: Any) -> None:
    rng = np.random.default_rng(0)
    S = nf.sequences([rng.normal(size=(1 + i % 4, 2)) for i in range(140)])
    images = rng.normal(size=(9, 4, 4, 2))
    for kernel, X in (nf.Recurrent(1).ntk, S), (nf.Convolutional(2).ntk, images):
        V = rng.normal(size=(len(X), 2))
        K = kernel(X)
        for Z, rows in (None, slice(None)), (X[:5], slice(5)):
            found = nf.dask.matmul(
                kernel, X if Z is None else Z, None if Z is None else X, V, client=client
            )
            wanted = K[rows] @ V
            assert np.all(np.abs(found - wanted) <= 1e-13 * (np.abs(K[rows]) @ np.abs(V)))


@pytest.mark.parametrize("suffix", [".npy", ".zarr", ".h5"])
def test_files(client: Any, tmp_path: Any, suffix: str) -> None:
    """Workers write the file that one machine writes, from where the other one stopped."""
    pytest.importorskip({".zarr": "zarr", ".h5": "h5py"}.get(suffix, "numpy"))
    X, _ = data(300)
    kernel, out, known = KERNELS["biases"], tmp_path / f"K{suffix}", KERNELS["biases"](X)
    for Y in (None, X[:100] + 1):
        wanted = kernel(X, Y)
        K = nf.dask.gram(kernel, X, Y, out=out, tile=128, client=client, overwrite=True)
        np.testing.assert_allclose(K[:], wanted, rtol=1e-13, atol=1e-13 * known.max())
        if Y is None:
            np.testing.assert_array_equal(K[:], K[:].T)
    half = {"out": out, "dtype": "float16", "overwrite": True}
    K = nf.dask.gram(kernel, X, tile=400, client=client, **half)
    assert K.dtype == np.float16
    np.testing.assert_array_equal(K[:], known.astype(np.float16))


@pytest.mark.parametrize("scheme", ["memory://", "file://"])
def test_stores(tmp_path: Any, monkeypatch: pytest.MonkeyPatch, scheme: str) -> None:
    """A store knows its tiles: a job goes on with those that are missing."""
    with local(n_workers=1) as client:  # files in memory are not for several threads
        check_store(client, f"{scheme}{tmp_path}/deep/K.zarr", monkeypatch)


def check_store(client: Any, out: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("zarr")
    from ntkfast.dask.stores import StoreSink

    X, _ = data(300)
    X[100:] *= 0  # whose tiles are nothing but zeros
    kernel = KERNELS["zonal"]
    write, written = StoreSink.write, []

    def counted(sink: StoreSink, rows: slice, columns: slice, block: np.ndarray) -> None:
        if full and len(written) >= 4:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(sink, rows, columns, block)
        written.append((rows.start, columns.start))

    monkeypatch.setattr(StoreSink, "write", counted)
    gram = partial(nf.dask.gram, kernel, client=client, out=out, tile=100)
    full = True
    with pytest.raises(OSError, match="No space left"):
        gram(X)
    full = False
    with pytest.raises(nf.batch.BatchError, match=r"another kind is in the way .*X changed"):
        gram(X + 1)
    np.testing.assert_array_equal(gram(X)[:], kernel(X))
    assert len(set(written)) == 9 and written.count((0, 0)) == 1
    count = len(written)
    gram(X)
    assert len(written) == count
    with pytest.raises(FileExistsError, match=r"exists already .*X changed"):
        gram(X + 1)
    wanted = kernel(X + 1, X)
    np.testing.assert_allclose(gram(X + 1, X, overwrite=True)[:], wanted, rtol=1e-12, atol=1e-12)
    with pytest.raises(ValueError, match=r"out: expected a URL ending in \.zarr"):
        nf.dask.gram(kernel, X, client=client, out="memory://K.npy")


def test_one_machine_goes_on_with_a_job_of_a_cluster(
    client: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ntkfast.batch.journal import Journal

    X, _ = data(300)
    kernel, out = KERNELS["zonal"], tmp_path / "K.npy"
    record, done = Journal.record, []

    def stop_after_two(journal: Journal, i: int, j: int) -> None:
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append((i, j))
        record(journal, i, j)

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "record", stop_after_two)
        with pytest.raises(KeyboardInterrupt):
            nf.dask.gram(kernel, X, out=out, tile=100, client=client)
    assert not out.exists()
    seen = []
    monkeypatch.setattr(
        Journal, "record", lambda journal, i, j: (seen.append((i, j)), record(journal, i, j))
    )
    K = nf.batch.gram(kernel, X, out=out, tile=100)
    assert len(seen) == 6 - 2 and not set(seen) & set(done)
    np.testing.assert_array_equal(K, kernel(X))


@pytest.mark.parametrize("out", ["{}/K.npy", "file://{}/K.zarr"])
def test_late_tiles_do_not_reach_another_job(client: Any, tmp_path: Any, out: str) -> None:
    """What is under way when a client dies must not write into the file of the next job."""
    pytest.importorskip("zarr")
    from ntkfast.arrays.grid import Grid
    from ntkfast.batch.sinks import SINKS
    from ntkfast.dask.files import write_tile
    from ntkfast.dask.stores import StoreSink

    X, _ = data(60)
    out = out.format(tmp_path)
    K = nf.dask.gram(KERNELS["zonal"], X, out=out, client=client)[:]
    kind, path = StoreSink, out
    if out.endswith(".npy"):
        kind, path = SINKS[".npy"], tmp_path / "K.npy.partial"
        path.write_bytes((tmp_path / "K.npy").read_bytes())
    late = kind, path, Grid(K.shape, K.shape, True), "of an older job"
    with pytest.raises(nf.batch.BatchError, match="a job that has ended"):
        write_tile(late, KERNELS["zonal"], -2 * X, -2 * X, (0, 0), (X.dtype, None), 60, None)


def test_two_jobs_on_one_path(client: Any, tmp_path: Any) -> None:
    """The second one is refused, as on one machine, until the first has ended."""
    from ntkfast.batch.journal import Journal

    X, _ = data(60)
    first = Journal.locked(tmp_path / "K.npy")
    with pytest.raises(nf.batch.BatchError, match="another process"):
        nf.dask.gram(KERNELS["zonal"], X, out=tmp_path / "K.npy", client=client)
    first.close()
    nf.dask.gram(KERNELS["zonal"], X, out=tmp_path / "K.npy", client=client)


@pytest.mark.slow
def test_two_jobs_on_one_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second one is refused as long as the first one lives; a dead one is in nobody's way."""
    pytest.importorskip("zarr")
    from ntkfast.dask import files, leases

    monkeypatch.setattr(leases, "BEAT", 0.04)
    monkeypatch.setattr(leases, "PATIENCE", 1.0)
    X, _ = data(60)
    lock, known = tmp_path / "K.zarr.lock", KERNELS["zonal"](X)
    url = f"file://{tmp_path}/K.zarr"
    with local(n_workers=1) as client:
        gram = partial(nf.dask.gram, KERNELS["zonal"], client=client, out=url)
        with leases.leased(url):
            with pytest.raises(nf.batch.BatchError, match=r"K\.zarr: another job \(process \d+ on"):
                gram(X)
        assert not lock.exists()
        for left in '{"job": "of a killed process", "beat": 7}', "":  # killed as it wrote
            lock.write_text(left)
            np.testing.assert_array_equal(gram(X, overwrite=True, resume=False)[:], known)
            assert not lock.exists()
        written = files._written

        def interrupted(*arguments: Any) -> Iterator[tuple[int, int]]:
            for tile in written(*arguments):
                lock.write_text('{"job": "of another process"}')
                time.sleep(0.3)
                yield tile

        with monkeypatch.context() as patch:
            patch.setattr(files, "_written", interrupted)
            with pytest.raises(nf.batch.BatchError, match="another job took this store over"):
                gram(X + 1, overwrite=True)
        assert "another process" in lock.read_text()
        np.testing.assert_array_equal(gram(X + 1)[:], KERNELS["zonal"](X + 1))


def test_gram_of_dask_arrays(client: Any, tmp_path: Any) -> None:
    import dask.array as da

    X, Y = data(60)[0], data(25)[0]
    rows, others = da.from_array(X, chunks=(17, 3)), da.from_array(Y, chunks=9)
    for one, other, lazy in ((X, None, None), (X, Y, others)):
        out = tmp_path / f"K{other is None}.npy"
        found = nf.dask.gram(KERNELS["zonal"], rows, lazy, out=out, client=client)
        np.testing.assert_array_equal(found, KERNELS["zonal"](one, other))


def test_files_that_workers_do_not_see(
    client: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ntkfast.dask import files

    X, _ = data(60)
    elsewhere = files.write_tile

    def from_afar(where: Any, *arguments: Any) -> None:
        elsewhere((where[0], tmp_path / "elsewhere" / "K.npy", *where[2:]), *arguments)

    monkeypatch.setattr(files, "write_tile", from_afar)
    with pytest.raises(FileNotFoundError, match="a worker does not see this file"):
        nf.dask.gram(KERNELS["zonal"], X, out=tmp_path / "K.npy", client=client)


@pytest.mark.slow
def test_command_line(
    client: Any, tmp_path: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from ntkfast.command import main

    monkeypatch.setattr("ntkfast.dask.evaluation.SMALL", 50_000)

    X, _ = data(300)
    np.save(tmp_path / "X.npy", X)
    job = ["gram", str(tmp_path / "X.npy"), "--network", "fc", "--depth", "3", "--tile", "100"]
    job += ["--out", str(tmp_path / "K.npy")]
    assert main([*job, "--local-cluster", "1"]) == 0
    np.testing.assert_array_equal(np.load(tmp_path / "K.npy"), KERNELS["zonal"](X))
    assert main(job) == 0
    assert "complete already" in capsys.readouterr().out
    np.save(tmp_path / "y.npy", X[:, 0])
    fit = ["fit", str(tmp_path / "X.npy"), str(tmp_path / "y.npy"), "--ridge", "0.1"]
    fit += ["--network", "fc", "--depth", "3"]
    predict = ["predict", str(tmp_path / "model.npz"), str(tmp_path / "X.npy"), "--overwrite"]
    found = []
    for where in [], ["--scheduler", client.scheduler.address]:
        assert main([*fit, "--out", str(tmp_path / "model.npz"), "--overwrite", *where]) == 0
        out = ["--out", str(tmp_path / "f.npy"), "--no-resume"]
        assert main([*predict, *out, *where]) == 0
        found.append(np.load(tmp_path / "f.npy"))
    np.testing.assert_allclose(*found, rtol=1e-4, atol=1e-4)
    capsys.readouterr()
    for wrong, told in (
        (["--local-cluster", "0"], "--local-cluster: expected a positive number"),
        (["--local-cluster", "1", "--threads", "2"], "--threads: workers compute on one thread"),
        (["--scheduler", "tcp://127.0.0.1:9"], "--scheduler: nobody answers at tcp://127.0.0.1:9"),
    ):
        assert main([*job, *wrong]) == 2
        assert told in capsys.readouterr().err


@pytest.mark.slow
def test_solver(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A system whose products and preconditioner come from workers has the same solution."""
    monkeypatch.setattr("ntkfast.dask.evaluation.SMALL", 100_000)
    monkeypatch.setattr("ntkfast.dask.parts.SHARED_BYTES", 1 << 20)
    X, V = data(600)
    for method in ("cg", "cholesky"):
        ours, theirs = (
            nf.regression.solve(KERNELS["biases"], X, V, 10.0, method=method, tol=1e-8, client=one)
            for one in (None, client)
        )
        assert theirs.converged
        size = np.abs(ours.coefficients).max()
        assert np.abs(theirs.coefficients - ours.coefficients).max() < 1e-6 * size


@pytest.mark.slow
def test_estimators(client: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """They compute where they are told to; copies share the client, pickles have its address."""
    base = pytest.importorskip("sklearn.base")
    regression = nf.regression
    asked = []
    ordered = Session.ordered

    def counted(session: Session, function: Any, *arguments: Any, **options: Any) -> Any:
        asked.append(function)
        return ordered(session, function, *arguments, **options)

    monkeypatch.setattr(Session, "ordered", counted)
    monkeypatch.setattr("ntkfast.dask.evaluation.SMALL", 50_000)
    monkeypatch.setattr("ntkfast.dask.parts.SHARED_BYTES", 1 << 20)
    X, V = data(400)
    kernel = KERNELS["biases"]
    models = (
        regression.KernelRidge(kernel, 10.0, method="cg", tol=1e-7),
        regression.KernelRidgeCV(kernel, [0.1, 1.0]),
        regression.KernelClassifier(kernel, 0.1),
    )
    for model in models:
        y = V[:, 0] > 0 if isinstance(model, regression.KernelClassifier) else V[:, 0]
        known = model.fit(X, y).predict(X[:200])
        there = base.clone(model).set_params(client=client)
        assert base.clone(there).client is client
        asked.clear()
        found = there.fit(X, y).predict(X[:200])
        assert tasks.products in asked and len(asked) > 1
        np.testing.assert_allclose(found, known, rtol=1e-5, atol=1e-5)
        again = pickle.loads(pickle.dumps(there))
        assert again.client == client.scheduler.address
        np.testing.assert_array_equal(again.predict(X[:200]), found)
    there.save(tmp_path / "model.npz")
    assert regression.load(tmp_path / "model.npz").client is None


def test_numbers_that_the_type_of_inputs_does_not_hold(
    client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A product on a cluster says of V what one here says."""
    monkeypatch.setattr("ntkfast.dask.evaluation.SMALL", 1000)
    X, V = data(600, np.float32)
    evaluation = ClusterEvaluation(KERNELS["zonal"], session=Session(client))
    with pytest.raises(ValueError, match=r"V: expected numbers within float32.*row 7 holds 1e"):
        V = V.astype(np.float64)
        V[7] = 1e60
        evaluation.matmul(X, None, V)


def test_blocks_travel_once(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The solver asks for products with one array again and again."""
    sent = []
    scatter = client.scatter

    def counted(values: Any, **options: Any) -> Any:
        sent.append(sum(value.nbytes for value in values))
        return scatter(values, **options)

    monkeypatch.setattr(client, "scatter", counted)
    monkeypatch.setattr("ntkfast.dask.evaluation.SMALL", 1000)
    X, V = data(1100)
    evaluation = ClusterEvaluation(KERNELS["zonal"], session=Session(client))
    for _ in range(3):
        evaluation.matmul(X, None, V)
    assert sum(sent) == X.nbytes + 3 * V.nbytes


def test_errors(client: Any) -> None:
    kernel, (X, V) = KERNELS["zonal"], data(700)
    with pytest.raises(TypeError, match=r"client: expected a distributed\.Client, got int"):
        nf.dask.matmul(kernel, X, None, V, client=8786)
    with pytest.raises(TypeError, match="kernel: expected a Kernel"):
        nf.dask.diag(nf.FullyConnected(1), X, client=client)
    with pytest.raises(ValueError, match="V: expected"):
        nf.dask.matmul(kernel, X, None, V[:-1], client=client)
    import dask.array as da

    X[650, 3] = np.nan
    for kind in (X, da.from_array(X, chunks=(200, 3))):
        for Y in (None, X[:40]):
            with pytest.raises(ValueError, match="X: expected finite numbers, row 650 holds"):
                nf.dask.matmul(kernel, kind, Y, V if Y is None else V[:40], client=client)
    with pytest.raises(ValueError, match="X: expected known numbers of rows"):
        nf.dask.matmul(kernel, da.from_array(V)[da.from_array(V)[:, 0] > 0], None, V, client=client)
    with pytest.raises(ValueError, match="overflows"):
        nf.dask.matmul(kernel, 1e140 * V, None, np.abs(1e100 * V), client=client)


def test_without_a_client(monkeypatch: pytest.MonkeyPatch) -> None:
    def current() -> None:
        raise ValueError("No clients found")

    monkeypatch.setattr(distributed.Client, "current", current)
    with pytest.raises(ValueError, match=r"distributed\.Client, and there is none"):
        nf.dask.diag(KERNELS["zonal"], data(5)[0])


def test_unlike_workers_are_told(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    names = iter(["native baseline", "native x86_64_v4"] * 50)
    monkeypatch.setattr(dispatch, "_named", lambda _: next(names))
    X, V = data(3500)
    with pytest.warns(nf.dask.ClusterWarning, match="native baseline and native x86_64_v4"):
        nf.dask.matmul(KERNELS["zonal"], X, None, V, client=client)


@pytest.mark.parametrize(
    ("raised", "told"),
    [
        (OSError(errno.ENOSPC, "No space left"), "the disk became full .* finished tiles are kept"),
        (ZeroDivisionError("of this tile"), "of this tile"),
    ],
    ids=["full disk", "bug"],
)
def test_a_tile_that_raises(
    client: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch, raised: Exception, told: str
) -> None:
    """A worker with a full disk, or a kernel with a bug: what is done is kept."""
    from ntkfast.batch.journal import Journal
    from ntkfast.dask import files

    X, _ = data(300)
    store, record, recorded = files.store, Journal.record, []

    def fails(sink: Any, grid: Any, i: int, j: int, block: Any) -> None:
        if (i, j) == (1, 2):
            raise raised
        store(sink, grid, i, j, block)

    def counted(journal: Journal, i: int, j: int) -> None:
        recorded.append((i, j))
        record(journal, i, j)

    monkeypatch.setattr(Journal, "record", counted)
    gram = partial(nf.dask.gram, KERNELS["zonal"], X, out=tmp_path / "K.npy", tile=100)
    with monkeypatch.context() as patch:
        patch.setattr(files, "store", fails)
        with pytest.raises((nf.batch.DiskSpaceError, ZeroDivisionError), match=told):
            gram(client=client)
    assert (1, 2) not in recorded
    np.testing.assert_array_equal(gram(client=client), KERNELS["zonal"](X))
    assert sorted(recorded) == [(i, j) for i in range(3) for j in range(i, 3)]  # each once


@pytest.mark.parametrize(
    ("address", "here"),
    [
        ("tcp://127.0.0.1:40001", True),
        ("tls://[::1]:40001", True),
        ("inproc://10.0.0.3/71/4", True),
        ("tcp://10.0.0.3:40001", False),
        ("tcp://127.example.org:40001", False),
    ],
)
def test_workers_of_this_machine_are_told_by_their_address(address: str, here: bool) -> None:
    assert is_here(address) is here


def test_workers_that_join_from_elsewhere_are_asked_by_the_scheduler(
    client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = dispatch.Dispatch(client, list, [], None, 1.0, None, lambda engine: None)
    work._hand_out()
    assert work._direct
    monkeypatch.setattr(dispatch, "is_here", lambda worker: False)
    work._looked = -dispatch.LOOK - time.monotonic()
    work._hand_out()
    assert work._direct is None
