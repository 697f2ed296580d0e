"""`regression.solve` against dense float64 and mpmath: every method, storage, stop and refusal."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import mpmath
import numpy as np
import pytest
from scipy.sparse.linalg import aslinearoperator, cg

import ntkfast as nf
from ntkfast.kernels.evaluation import Evaluation
from ntkfast.regression import Solution, solve
from ntkfast.regression.direct import PanelCholesky, choices
from ntkfast.regression.solution import SolverWarning
from ntkfast.regression.system import System
from ntkfast.spectrum.gram.pivoted_cholesky import pivoted_cholesky
from ntkfast.support.progress import Bar

KERNEL = nf.FullyConnected(2).ntk
EPS = float(np.finfo(np.float64).eps)


def data(n: int, d: int = 5, c: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    return generator.normal(size=(n, d)), generator.normal(size=(n, c))


def matrix(X: Any, ridge: float, kernel: Any = KERNEL) -> np.ndarray:
    return kernel(X.astype(np.float64)) + ridge * np.eye(len(X))


def residuals(A: np.ndarray, found: np.ndarray, B: np.ndarray) -> np.ndarray:
    return np.linalg.norm(B - A @ found, axis=0) / np.linalg.norm(B, axis=0)


def check(found: Solution, A: np.ndarray, B: np.ndarray, tol: float = 1e-6) -> None:
    """Residuals are true; the answer is as near as residual and condition say."""
    true = residuals(A, found.coefficients, B)
    sizes = np.linalg.norm(found.coefficients, axis=0) / np.linalg.norm(B, axis=0)
    # Two ways to evaluate a residual differ by roundings of its largest term.
    values = np.abs(np.linalg.eigvalsh(A))
    rounding = 8 * EPS * len(A) * (1 + values.max() * sizes)
    assert np.all(np.abs(true - found.residuals) <= rounding)
    assert found.converged
    assert np.all(found.residuals <= tol)
    exact = np.linalg.solve(A, B)
    error = np.linalg.norm(found.coefficients - exact, axis=0) / np.linalg.norm(exact, axis=0)
    assert np.all(error <= values.max() / values.min() * (tol + len(A) * EPS))


@pytest.mark.parametrize("method", ["cg", "cholesky", "eigh"])
@pytest.mark.parametrize("ridge", [10.0, 1e-2, 1e-5, 0.0])
def test_against_dense(method: str, ridge: float, dtype: type[np.floating]) -> None:
    X, B = data(90)
    X = X.astype(dtype)
    check(solve(KERNEL, X, B, ridge, method=method), matrix(X, ridge), B)


@pytest.mark.parametrize("method", ["cg", "cholesky", "eigh"])
def test_against_many_digits(method: str) -> None:
    """The arc-cosine formulas and the solution of the system in 40 digits."""
    X, B = data(4, 2, 1)
    with mpmath.workdps(40):
        rows = [[mpmath.mpf(float(v)) for v in row] for row in X]

        def entry(x: list[Any], y: list[Any], same: bool) -> Any:
            norms = mpmath.sqrt(sum(v * v for v in x)), mpmath.sqrt(sum(v * v for v in y))
            u = mpmath.mpf(1) if same else mpmath.fdot(x, y) / (norms[0] * norms[1])
            angle = mpmath.acos(u)
            zero = (mpmath.pi - angle) / mpmath.pi
            one = (mpmath.sin(angle) + (mpmath.pi - angle) * u) / mpmath.pi
            return norms[0] * norms[1] * (one + u * zero)

        A = mpmath.matrix([[entry(x, y, x is y) for y in rows] for x in rows])
        for i in range(4):
            A[i, i] += mpmath.mpf("0.125")
        wanted = mpmath.lu_solve(A, mpmath.matrix([float(b) for b in B[:, 0]]))
    kernel = nf.FullyConnected(1).ntk
    found = solve(kernel, X, B[:, 0], 0.125, method=method, tol=1e-13)
    dense = matrix(X, 0.125, kernel)
    assert found.coefficients.shape == (4,)
    error = np.abs(found.coefficients - np.array(wanted.tolist(), float).ravel()).max()
    assert error <= np.linalg.cond(dense) * (1e-13 + 16 * EPS) * np.abs(found.coefficients).max()


@pytest.mark.parametrize("method", ["cg", "cholesky", "eigh"])
@pytest.mark.parametrize(("n", "c"), [(1, 1), (1, 3), (2, 1), (7, 40)])
def test_small_shapes(method: str, n: int, c: int) -> None:
    X, B = data(n, 3, c)
    check(solve(KERNEL, X, B, 0.1, method=method), matrix(X, 0.1), B)


def test_rank_above_the_rows_and_none() -> None:
    X, B = data(50)
    whole = solve(KERNEL, X, B, 1e-3, rank=200)
    check(whole, matrix(X, 1e-3), B)
    assert whole.rank <= 50
    assert whole.iterations <= 2
    bare = solve(KERNEL, X, B, 1e-3, rank=0)
    check(bare, matrix(X, 1e-3), B)
    assert bare.iterations > whole.iterations


def test_preconditioner_saves_steps() -> None:
    """The mean of the remainder in the shift makes steps nearly independent of the ridge."""
    X, B = data(200)
    steps = [solve(KERNEL, X, B, ridge, rank=60).iterations for ridge in (1e-4, 1e-8)]
    assert steps[1] <= steps[0] + 3
    assert steps[0] < solve(KERNEL, X, B, 1e-4, rank=0, max_iter=2000).iterations / 2


BUDGETS = {
    "float64 stored": (np.float64, 10**7),
    "float32 stored": (np.float32, 10**7),
    "float32 recomputed": (np.float32, 120_000),
}


@pytest.mark.parametrize("storage", BUDGETS)
def test_memory_chooses_the_storage(storage: str) -> None:
    kind, memory = BUDGETS[storage]
    X, B = data(150)
    X = X.astype(kind)
    found = solve(KERNEL, X, B, 1e-2, method="cg", memory=memory)
    assert found.storage == storage
    assert found.memory <= memory
    check(found, matrix(X, 1e-2), B)


def test_float64_rows_may_work_in_float32() -> None:
    X, B = data(150)
    found = solve(KERNEL, X, B, 1e-2, method="cg", memory=120_000)
    assert found.storage == "float32 recomputed"
    check(found, matrix(X, 1e-2), B)


@pytest.mark.parametrize("memory", [10**7, 120_000])
def test_refinement_reaches_what_float32_does_not(memory: int) -> None:
    X, B = data(150)
    X = X.astype(np.float32)
    A = matrix(X, 1e-3)
    rounded = np.linalg.solve(A.astype(np.float32), B.astype(np.float32))
    assert residuals(A, rounded.astype(np.float64), B).max() > 1e-8
    found = solve(KERNEL, X, B, 1e-3, method="cg", memory=memory, tol=1e-8)
    assert "float32" in found.storage
    check(found, A, B, 1e-8)


def test_blocks_of_rows_in_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    """Products whose rows never exist in float64 as a whole."""
    monkeypatch.setattr("ntkfast.regression.system.WIDTH", 16)
    X, B = data(50)
    X = X.astype(np.float32)
    system = System(Evaluation(KERNEL), X, 0.5)
    A = matrix(X, 0.5)
    rounding = 8 * EPS * len(X) * np.abs(A).sum(axis=1).max() * np.abs(B).max()
    assert np.abs(system.exact(B) - A @ B).max() <= rounding


@pytest.mark.parametrize("on_disk", [False, True])
@pytest.mark.parametrize("single", [False, True])
def test_panels(monkeypatch: pytest.MonkeyPatch, on_disk: bool, single: bool) -> None:
    for name in ("WIDTH", "WIDTH_ON_DISK"):
        monkeypatch.setattr(f"ntkfast.regression.direct.{name}", 16)
    X, B = data(50)
    system, kind = System(Evaluation(KERNEL), X, 0.5), np.float32 if single else np.float64
    A = matrix(X, 0.5)
    bar = Bar(False, "", None, "")
    factor = PanelCholesky(system.columns, 50, kind, on_disk, bar)
    rounding = float(np.finfo(kind).eps) * 50 * np.linalg.cond(A)
    assert residuals(A, factor.solve(B), B).max() <= rounding
    assert np.abs(factor.times(B) - A @ B).max() <= 50 * np.finfo(kind).eps * np.abs(A @ B).max()
    assert np.linalg.cond(A) / 4 <= factor.condition() <= 1.01 * np.linalg.cond(A)


def test_the_rate_of_a_bar_is_that_of_this_run(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    tqdm = pytest.importorskip("tqdm").tqdm
    monkeypatch.setattr("tqdm.std.time", lambda: now[0])
    bar = Bar(True, "K", 2_000_000, "pairs")
    assert isinstance(shown := bar._bar, tqdm)
    for done in (0, 500_000, 500_000):  # by an earlier run: at first, and among the others
        bar.skip(done)
        now[0] += 2
        bar.update(8)
        assert shown.n == shown.last_print_n
        assert shown.format_dict["rate"] == pytest.approx(4)
    assert shown.n == 1_000_024
    bar.__exit__()


def test_memory_chooses_the_factor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ntkfast.regression.direct.WIDTH", 16)
    X, B = data(100)
    for memory, storage in ((10**6, "float64 factor in memory"), (30_000, "float32 factor in")):
        found = solve(KERNEL, X, B, 1e-2, method="cholesky", memory=memory, tol=1e-10)
        assert found.storage.startswith(storage)
        check(found, matrix(X, 1e-2), B, 1e-10)
    assert found.iterations > 0  # float32 was refined
    found = solve(KERNEL, X, B, 1e-2, method="cholesky", memory=10_000, tol=1e-10)
    assert found.storage == "float64 factor on disk"
    check(found, matrix(X, 1e-2), B, 1e-10)


def test_choices() -> None:
    assert list(choices(100, 10**6)) == [(np.float64, False)]
    assert list(choices(100, 10)) == [(np.float64, True)]


def test_a_disk_without_room(monkeypatch: pytest.MonkeyPatch) -> None:
    usage = type("Usage", (), {"free": 10})()
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    with pytest.raises(OSError, match=r"memory: the factor needs \d+ bytes of disk"):
        solve(KERNEL, *data(30), 1.0, method="cholesky", memory=10)


# ---- singular and nearly so ----------------------------------------------------------------------


def test_duplicates_without_ridge() -> None:
    X, B = data(20)
    twice, targets = np.vstack([X, X]), np.vstack([B, B])
    for method in ("cholesky", "auto"):
        with pytest.raises(np.linalg.LinAlgError, match=r'ridge: expected .* method="eigh"'):
            solve(KERNEL, twice, targets, 0.0, method=method)
    found = solve(KERNEL, twice, targets, 0.0, method="eigh")
    wanted = np.linalg.pinv(matrix(twice, 0.0), hermitian=True, rcond=40 * EPS) @ targets
    assert found.converged
    assert found.rank == 20
    assert "minimum norm: 20 of 40" in found.reason
    condition = np.linalg.cond(matrix(X, 0.0))
    assert np.abs(found.coefficients - wanted).max() <= 100 * EPS * condition * np.abs(wanted).max()
    with pytest.warns(SolverWarning, match="not solved"):  # targets contradict each other
        assert not solve(KERNEL, twice, np.vstack([B, -B]), 0.0, method="eigh").converged


def test_rows_of_zeros() -> None:
    X, B = data(30)
    X[:4] = 0
    for method in ("cg", "cholesky", "eigh"):
        check(solve(KERNEL, X, B, 0.1, method=method), matrix(X, 0.1), B)
    nothing = np.zeros((5, 2))
    check(solve(KERNEL, nothing, B[:5], 0.5, method="cg"), 0.5 * np.eye(5), B[:5])
    with pytest.raises(np.linalg.LinAlgError, match="ridge"):
        solve(KERNEL, nothing, B[:5], 0.0, method="cg")


def adversarial() -> dict[str, tuple[Any, np.ndarray]]:
    X = data(80)[0]
    X /= np.linalg.norm(X, axis=1, keepdims=True)
    generator = np.random.default_rng(1)
    pairs = np.repeat(X[:40], 2, axis=0)
    return {
        "decaying": (nf.Gaussian(0.3), X),
        "low rank": (nf.FullyConnected(1, activation="identity").ntk, X),
        "duplicates": (KERNEL, pairs),
        "near": (KERNEL, pairs + 1e-7 * generator.normal(size=pairs.shape)),
        "scales": (KERNEL, X * 10.0 ** generator.uniform(-6, 6, size=(80, 1))),
        "outlier": (KERNEL, np.vstack([X, 1e6 * X[:1]])),
        "large": (KERNEL, 1e25 * X),
        "small": (KERNEL, 1e-40 * X),
    }


@pytest.mark.parametrize("relative", [1e-4, 1e-10, 1e-15])
@pytest.mark.parametrize("name", adversarial())
def test_never_a_wrong_answer_silently(name: str, relative: float) -> None:
    """What is said to be solved is, and what is not comes with a warning or an error."""
    kernel, X = adversarial()[name]
    B = data(len(X))[1]
    ridge = relative * float(np.mean(kernel.diag(X)))
    A = matrix(X, ridge, kernel)
    for method in ("cg", "cholesky", "eigh"):
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            try:
                found = solve(kernel, X, B, ridge, method=method, max_iter=150)
            except np.linalg.LinAlgError as error:
                assert "ridge" in str(error)
                assert method == "cholesky"
                continue
        sizes = np.linalg.norm(found.coefficients, axis=0) / np.linalg.norm(B, axis=0)
        rounding = 8 * EPS * len(A) * (1 + np.linalg.norm(A, 2) * sizes)
        true = residuals(A, found.coefficients, B)
        assert np.all(np.abs(true - found.residuals) <= 1e-3 * true + rounding)
        assert found.converged == bool(np.all(found.residuals <= 1e-6))
        assert found.converged != any(w.category is SolverWarning for w in told)


def test_float32_is_given_up_where_it_does_not_serve() -> None:
    X, B = data(100, 2)
    X = X.astype(np.float32)
    X[50:] = X[:50] * np.float32(1 + 1e-6)
    found = solve(KERNEL, X, B, 1e-8, method="cg", tol=1e-6)
    assert found.storage == "float32 stored, then float64 recomputed"
    assert found.converged
    assert residuals(matrix(X, 1e-8), found.coefficients, B).max() <= 2e-6


def test_not_solved_is_said() -> None:
    X, B = data(100)
    with pytest.warns(SolverWarning, match=r"3 of 3 columns .*max_iter reached"):
        found = solve(KERNEL, X, B, 1e-6, method="cg", rank=0, max_iter=3)
    assert not found.converged
    assert found.iterations == 3
    assert found.residuals == pytest.approx(residuals(matrix(X, 1e-6), found.coefficients, B))
    assert "NOT SOLVED" in repr(found)
    assert "NOT SOLVED" in found.summary()
    with pytest.warns(SolverWarning, match="stagnation"):  # below rounding
        solve(KERNEL, X, B, 1e-6, method="cg", tol=1e-18)


# ---- columns -------------------------------------------------------------------------------------


def test_columns_of_any_size() -> None:
    X, B = data(60, c=4)
    B *= [1e-200, 1.0, 1e200, 0.0]
    for method in ("cg", "cholesky", "eigh"):
        found = solve(KERNEL, X, B, 0.1, method=method)
        check(
            Solution(
                *(found.coefficients[:, :3] / [1e-200, 1, 1e200], 0.1, method, 0),
                found.residuals[:3],
                found.converged,
            ),
            matrix(X, 0.1),
            B[:, :3] / [1e-200, 1, 1e200],
        )
        assert not found.coefficients[:, 3].any()
        assert found.residuals[3] == 0


def test_dependent_columns() -> None:
    """A block of directions that loses rank at once."""
    X, B = data(80)
    B = np.hstack([B, B, B[:, :1] + B[:, 1:2]])
    check(solve(KERNEL, X, B, 1e-3, method="cg", rank=10), matrix(X, 1e-3), B)


def test_start() -> None:
    X, B = data(80)
    first = solve(KERNEL, X, B, 1e-2, method="cg", tol=1e-4)
    again = solve(KERNEL, X, B, 1e-2, start=first.coefficients, tol=1e-8)
    check(again, matrix(X, 1e-2), B, 1e-8)
    whole = solve(KERNEL, X, B, 1e-2, method="cg", tol=1e-8)
    assert again.iterations < whole.iterations
    done = solve(KERNEL, X, B, 1e-2, start=whole.coefficients, tol=1e-7)
    assert done.iterations == 0
    assert done.products == 1


def test_sequences_and_images() -> None:
    generator = np.random.default_rng(0)
    sequences = [generator.normal(size=(t, 2)) for t in generator.integers(2, 5, size=12)]
    images = generator.normal(size=(12, 4, 4, 1))
    B = generator.normal(size=12)
    net = nf.Convolutional(1)
    for kernel, X in ((nf.Recurrent(1).ntk, sequences), (net.ntk, images)):
        A = kernel(X) + 0.1 * np.eye(12)
        for method in ("cg", "cholesky", "eigh"):
            found = solve(kernel, X, B, 0.1, method=method)
            assert found.converged
            assert residuals(A, found.coefficients[:, None], B[:, None]) <= 1.01e-6


def test_memory_map_is_not_copied(tmp_path: Path) -> None:
    X, B = data(60)
    np.save(tmp_path / "X.npy", X.astype(np.float32))
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    assert np.shares_memory(KERNEL.collect(mapped), mapped)
    check(solve(KERNEL, mapped, B, 0.1, method="cg"), matrix(np.array(mapped), 0.1), B)


# ---- stops and callbacks -------------------------------------------------------------------------


def test_validation_stops_at_the_best() -> None:
    X, B = data(120, c=1)
    Z, targets = data(40, c=1, seed=1)
    found = solve(KERNEL, X, B, 1e-8, rank=5, tol=1e-12, validation=(Z, targets), patience=2)
    assert found.reason == "validation error rose"
    looks = [e.validation for e in found.history.entries if not np.isnan(e.validation)]
    error = np.linalg.norm(KERNEL(Z, X) @ found.coefficients - targets) / np.linalg.norm(targets)
    assert error == pytest.approx(min(looks), rel=1e-6)
    assert min(looks[-2:]) >= min(looks)
    assert found.residuals == pytest.approx(residuals(matrix(X, 1e-8), found.coefficients, B))


@pytest.mark.parametrize("method", ["cg", "cholesky", "eigh"])
def test_a_ridge_for_each_input(method: str) -> None:
    X, B = data(150)
    ridges = np.geomspace(1e-4, 1e6, 150)  # weights over ten decades
    A = KERNEL(X) + np.diag(ridges)
    found = solve(KERNEL, X, B, ridges, method=method)
    if method == "eigh":  # eigenvectors mix the scales of the rows
        assert np.all(found.residuals <= 1e-6)
        return
    # Scaled to a diagonal of ones, as Cholesky and the preconditioner see it.
    roots = np.sqrt(np.diag(A))
    condition = np.linalg.cond(A / np.outer(roots, roots))
    wanted = np.linalg.solve(A, B)
    error = np.linalg.norm(roots[:, None] * (found.coefficients - wanted), axis=0)
    assert found.converged
    assert np.all(error <= 1e-6 * condition * np.linalg.norm(B, axis=0) / roots.min())
    if method == "cg":
        assert found.iterations < 30
    assert "ridge 0.0001 to 1e+06" in found.summary()


def test_equal_ridges_are_one() -> None:
    X, B = data(30)
    one, many = (solve(KERNEL, X, B, ridge) for ridge in (0.5, np.full(30, 0.5)))
    assert many.ridge == 0.5
    assert np.array_equal(one.coefficients, many.coefficients)


def test_an_interrupted_validation_goes_on(tmp_path: Path) -> None:
    X, B = data(120, c=1)
    options: dict[str, Any] = {"rank": 5, "tol": 1e-12, "validation": data(40, c=1, seed=1)}
    whole = solve(KERNEL, X, B, 1e-8, **options)
    best = int(np.nanargmin([e.validation for e in whole.history.entries]))
    last = whole.history.entries[best].iteration + 5  # one look later

    def stop(step: Any) -> None:
        if step.iteration == last:
            raise KeyboardInterrupt

    path = tmp_path / "state.npz"
    with pytest.raises(KeyboardInterrupt):
        solve(KERNEL, X, B, 1e-8, checkpoint=path, callback=stop, **options)
    for _ in range(2):  # the second has nothing left to do
        found = solve(KERNEL, X, B, 1e-8, checkpoint=path, **options)
        assert found.reason == "validation error rose"
        assert np.array_equal(found.coefficients, whole.coefficients)
        assert found.iterations == whole.iterations
    other = options | {"validation": data(40, c=1, seed=2)}  # knows nothing of the first one
    again = solve(KERNEL, X, B, 1e-8, checkpoint=path, **other)
    assert again.iterations >= whole.iterations


def test_time_limit() -> None:
    X, B = data(100)
    with pytest.warns(SolverWarning, match="time_limit reached"):
        found = solve(KERNEL, X, B, 1e-6, rank=0, time_limit=1e-9)
    assert found.iterations == 1


def test_callback_and_history() -> None:
    X, B = data(100)
    steps: list[Any] = []
    found = solve(KERNEL, X, B, 1e-6, rank=0, callback=lambda step: steps.append(step))
    assert [step.iteration for step in steps] == list(range(1, len(steps) + 1))
    assert found.converged
    table = found.history.to_dict()
    assert max(table["iteration"]) == found.iterations
    assert table["residual"][-1] <= 1e-6
    stopped = solve(KERNEL, X, B, 1e-6, rank=0, callback=lambda step: step.iteration == 4)
    assert stopped.reason == "callback said so"
    assert np.array_equal(stopped.coefficients, steps[3].coefficients)


# ---- checkpoints ---------------------------------------------------------------------------------

CHILD = """
import os, signal, sys
import numpy as np, ntkfast as nf
generator = np.random.default_rng(0)
X, B = generator.normal(size=(100, 5)), generator.normal(size=(100, 3))
def callback(step):
    if step.iteration == 6:
        os.kill(os.getpid(), getattr(signal, sys.argv[2]))
nf.regression.solve(nf.FullyConnected(2).ntk, X, B, 1e-6, rank=10, checkpoint=sys.argv[1],
                    callback=callback)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no such signals there")
@pytest.mark.parametrize("name", ["SIGKILL", pytest.param("SIGINT", marks=pytest.mark.slow)])
def test_goes_on_after_a_kill(tmp_path: Path, name: str) -> None:
    path = tmp_path / "state.npz"
    command = [sys.executable, "-c", CHILD, str(path), name]
    killed = subprocess.run(command, check=False, capture_output=True, text=True)
    assert killed.returncode == -getattr(signal, name) or "KeyboardInterrupt" in killed.stderr
    X, B = data(100)
    steps: list[int] = []
    found = solve(
        *(KERNEL, X, B, 1e-6),
        rank=10,
        checkpoint=path,
        callback=lambda step: steps.append(step.iteration),
    )
    assert 1 < steps[0] <= 7
    check(found, matrix(X, 1e-6), B)
    whole = solve(KERNEL, X, B, 1e-6, rank=10)
    assert found.iterations == whole.iterations
    # The same steps in the same order; another process may align memory otherwise.
    sizes = np.abs(whole.coefficients).max()
    assert np.abs(found.coefficients - whole.coefficients).max() <= 1e-9 * sizes
    again = solve(KERNEL, X, B, 1e-6, rank=10, checkpoint=path)
    assert np.array_equal(again.coefficients, found.coefficients)


def test_other_settings_start_from_the_coefficients(tmp_path: Path) -> None:
    X, B = data(80)
    path = tmp_path / "state.npz"
    solve(KERNEL, X, B, 1e-4, checkpoint=path, rank=10, tol=1e-4)
    found = solve(KERNEL, X, B, 1e-4, checkpoint=path, rank=20, tol=1e-9)
    check(found, matrix(X, 1e-4), B, 1e-9)
    assert found.iterations < solve(KERNEL, X, B, 1e-4, rank=20, tol=1e-9).iterations


def test_foreign_and_damaged_checkpoints(tmp_path: Path) -> None:
    X, B = data(40)
    path = tmp_path / "state.npz"
    solve(KERNEL, X, B, 0.1, checkpoint=path)
    other = nf.FullyConnected(3).ntk
    for arguments in ((KERNEL, 2 * X, B, 0.1), (KERNEL, X, -B, 0.1), (KERNEL, X, B, 0.2)):
        with pytest.raises(ValueError, match=r"checkpoint: .*inputs, targets or ridge"):
            solve(*arguments, checkpoint=path)
    with pytest.raises(ValueError, match=r"checkpoint: .*other kernel"):
        solve(other, X, B, 0.1, checkpoint=path)
    whole = path.read_bytes()
    middle = len(whole) // 2
    flipped = whole[:middle] + bytes([whole[middle] ^ 255]) + whole[middle + 1 :]
    for content in (whole[:middle], flipped, b"", b"something else"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"checkpoint: .* is damaged"):
            solve(KERNEL, X, B, 0.1, checkpoint=path)
        assert path.read_bytes() == content


# ---- refusals ------------------------------------------------------------------------------------

REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "NaN": ({"B": np.array([1.0, np.nan, 1.0])}, "B: expected finite numbers, row 1"),
    "rows": ({"B": np.ones(4)}, r"B: expected shape \(3,\), got \(4,\)"),
    "ridge": ({"ridge": -1.0}, "ridge: expected a finite number >= 0"),
    "ridges": ({"ridge": [1.0, 2.0]}, r"ridge: expected a number or shape \(3,\), got \(2,\)"),
    "one ridge": (
        {"ridge": [1.0, 2.0, -1.0]},
        "ridge: expected finite numbers >= 0, got -1.0 at 2",
    ),
    "tol": ({"tol": 0}, "tol: expected a finite number > 0"),
    "method": ({"method": "lu"}, "method: expected one of"),
    "memory": ({"memory": 0}, "memory: expected an integer >= 1"),
    "eigh": ({"method": "eigh", "memory": 100}, "memory: expected at least 288 bytes"),
    "rank": ({"rank": 3, "memory": 100}, "memory: expected at least .* rank 3"),
    "direct": ({"method": "eigh", "rank": 2}, 'rank: expected method="cg"'),
    "start": ({"start": np.ones((3, 2))}, "start: expected 1 columns like B, got 2"),
    "validation": ({"validation": (np.ones((2, 2)), np.ones((2, 2)))}, "validation: expected 1"),
    "max_iter": ({"method": "cg", "max_iter": 0}, "max_iter: expected an integer >= 1"),
    "time": ({"time_limit": 0}, "time_limit: expected a finite number > 0"),
    "patience": ({"validation": (np.ones((2, 2)), np.ones(2)), "patience": 0}, "patience"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusals(name: str) -> None:
    arguments, message = REFUSED[name]
    given = {"B": np.ones(3), "ridge": 1.0} | arguments
    with pytest.raises(ValueError, match=message):
        solve(KERNEL, np.eye(3)[:, :2], **given)


def test_validation_is_a_pair() -> None:
    with pytest.raises(TypeError, match="validation: expected a pair"):
        solve(KERNEL, np.eye(3), np.ones(3), 1.0, validation=np.ones(3))  # type: ignore[arg-type]


# ---- other solvers -------------------------------------------------------------------------------


def test_operator_serves_other_solvers(dtype: type[np.floating]) -> None:
    X, B = data(60)
    A = KERNEL.operator(X.astype(dtype))
    K = matrix(X.astype(dtype), 0.0)
    rounding = 8 * np.finfo(dtype).eps * 60 * np.abs(K).sum(axis=1).max() * np.abs(B).max()
    assert A.shape == (60, 60)
    assert A.dtype == dtype
    for found in (A @ B, A.T @ B, A.H @ B):
        assert np.abs(found - K @ B).max() <= rounding
    assert np.abs(A @ B[:, 0] - K @ B[:, 0]).max() <= rounding
    shifted = A + 0.5 * aslinearoperator(np.eye(60))
    x, failed = cg(shifted, B[:, 0], rtol=1e-5)
    assert not failed
    assert residuals(K + 0.5 * np.eye(60), x[:, None], B[:, :1]) <= 1e-4


# ---- the factor ----------------------------------------------------------------------------------


def test_pivoted_cholesky(dtype: type[np.floating]) -> None:
    """Exact in the rows of pivots, never too large elsewhere; whole at full rank."""
    X = data(80)[0]
    K = KERNEL(X)
    generator = np.random.default_rng(0)
    for count in (10, 80):
        found = pivoted_cholesky(Evaluation(KERNEL), X.astype(dtype), count, generator, dtype=dtype)
        F = found.factor.astype(np.float64)
        rounding = 64 * np.finfo(dtype).eps * K.diagonal().max()
        assert F.shape == (80, count)
        assert len(set(found.pivots.tolist())) == count
        assert np.abs((K - F @ F.T)[found.pivots]).max() <= 8 * rounding
        assert np.abs(np.diagonal(K - F @ F.T) - found.rest).max() <= 8 * rounding


def test_pivoted_cholesky_ends_early() -> None:
    X = np.repeat(data(9)[0], 4, axis=0)
    generator = np.random.default_rng(0)
    found = pivoted_cholesky(Evaluation(KERNEL), X, 30, generator)
    assert len(found.pivots) == 9
    whole = pivoted_cholesky(Evaluation(KERNEL), X, 30, generator, enough=1e9)
    assert len(whole.pivots) == 0


@pytest.mark.slow
def test_thousands_of_rows() -> None:
    X, B = data(3000, 10, 10)
    X = X.astype(np.float32)
    began = time.perf_counter()
    found = solve(KERNEL, X, B, 1e-2, method="cg", memory=40 * 10**6)
    assert found.storage == "float32 recomputed"
    assert found.seconds <= time.perf_counter() - began
    check(found, matrix(X, 1e-2), B)
