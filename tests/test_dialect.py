"""One dialect: a word means the same in every public signature, and so does its default."""

from __future__ import annotations

import importlib
import inspect
import io
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

import ntkfast as nf
from ntkfast.support import progress, randomness

pytest.importorskip("sklearn")

PARTS = (
    "batch features finite regression spectrum statistics statistics.rkhs_norm statistics.penalties"
)
DEFAULTS: dict[str, Any] = {"rng": 0, "engine": None, "threads": None, "progress": None}
OLD = {"seed", "seeds", "draws", "runs", "repeats", "probes", "permutations", "streams", "level"}
OLD |= {"confidence", "p_value", "lambdas", "regularization", "verbose", "n_jobs", "num_threads"}
NETWORK = nf.FullyConnected(1)
X = np.random.default_rng(0).normal(size=(80, 3))


def callables() -> Iterator[tuple[str, Any]]:
    """Yield public functions, classes and their methods."""
    for part in PARTS.split():
        module = importlib.import_module(f"ntkfast.{part}")
        for name in module.__all__:
            one = getattr(module, name)
            if isinstance(one, type) and issubclass(one, BaseException):
                continue
            if inspect.isfunction(one) or inspect.isclass(one):
                yield f"{part}.{name}", one
            if inspect.isclass(one):
                for method, function in inspect.getmembers(one, inspect.isfunction):
                    if not method.startswith("_"):
                        yield f"{part}.{name}.{method}", function


@pytest.mark.parametrize(("name", "function"), list(callables()))
def test_words_and_defaults(name: str, function: Any) -> None:
    parameters = inspect.signature(function).parameters
    assert not OLD & set(parameters)
    estimators = name.startswith(("features.", "regression."))  # the word of scikit-learn
    assert "random_state" not in parameters or estimators
    for word, default in DEFAULTS.items():
        if word in parameters and parameters[word].default is not inspect.Parameter.empty:
            assert parameters[word].default == default


def mmd(rng: Any) -> Any:
    return nf.statistics.ntk_mmd_test(X[:20], X[20:], n_permutations=19, rng=rng).null_distribution


REPEATED: dict[str, Callable[[Any], Any]] = {
    "MLP": lambda rng: nf.finite.MLP((3, 4, 1), rng=rng).weights[0],
    "mean_kernel": lambda rng: (
        nf.finite.mean_kernel(nf.finite.MLP((3, 4, 1)), X[:4], n_draws=2, rng=rng).mean
    ),
    "convergence": lambda rng: nf.finite.convergence(X[:4], (4, 8), n_repeats=2, rng=rng).errors[
        "gaussian"
    ],
    "ntk_mmd_test": mmd,
    "extremes": lambda rng: (
        nf.spectrum.extremes(NETWORK.ntk, X, method="cholesky", rng=rng).smallest_vectors
    ),
    "effective_dimension": lambda rng: (
        nf.spectrum.effective_dimension(NETWORK.ntk, X, 1.0, method="lanczos", rng=rng).values
    ),
}


@pytest.mark.parametrize("function", REPEATED.values(), ids=REPEATED)
def test_rng(function: Callable[[Any], Any]) -> None:
    """An int and a fresh generator repeat themselves, a used one and None do not."""
    assert np.array_equal(function(3), function(3))
    generator = np.random.default_rng(3)
    first = function(generator)
    assert np.array_equal(first, function(np.random.default_rng(3)))
    assert not np.array_equal(first, function(generator))
    assert not np.array_equal(function(None), function(None))


def test_streams_differ_and_stay() -> None:
    numbers = [g.random() for g in randomness.streams(0, 1, count=3)]
    assert len(set(numbers)) == 3
    assert numbers[1] == np.random.default_rng([0, 1, 1]).random()


@pytest.mark.parametrize("engine", [pytest.param("numba", marks=pytest.mark.slow), "abacus"])
def test_engine_reaches_the_kernel(engine: str) -> None:
    """Where a caller names an engine it is the one that evaluates the pairs, or an error."""
    kernel, y = NETWORK.ntk, X[:, 0]
    calls = [
        lambda **options: nf.spectrum.extremes(kernel, X, **options).smallest,
        lambda **options: nf.spectrum.extremes(kernel, X, method="iterative", **options).smallest,
        lambda **options: nf.spectrum.effective_dimension(kernel, X, 1.0, **options).values,
        lambda **options: nf.spectrum.bounds(kernel, X, **options)["pair"].value,
        lambda **options: nf.statistics.rkhs_norm.interpolant(kernel, X, y, **options).norm,
        lambda **options: nf.statistics.rkhs_norm.of_coefficients(kernel, X, y, **options),
        lambda **options: (
            nf.statistics.ChangePoint(
                kernel, X, window=5, horizon=20, n_streams=19, **options
            ).maxima
        ),
        lambda **options: nf.features.NystromFeatures(
            kernel, 9, random_state=0, **options
        ).fit_transform(X),
    ]
    for call in calls:
        if engine == "abacus":
            with pytest.raises(ValueError, match="abacus"):
                call(engine=engine)
        else:
            np.testing.assert_allclose(call(engine=engine, threads=1), call(), rtol=1e-6, atol=1e-8)


def test_progress(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("tqdm")
    for wanted in (None, False):
        assert list(progress.track(range(3), wanted, "work", "items")) == [0, 1, 2]
    assert capsys.readouterr().err == ""
    assert list(progress.track(range(3), True, "work", "items")) == [0, 1, 2]
    assert "work: 100%" in capsys.readouterr().err


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:  # noqa: D102
        return True


def test_a_bar_nobody_asked_for_comes_late(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tqdm")
    for delay, shown in ((60.0, False), (0.0, True)):
        terminal = Terminal()
        monkeypatch.setattr("sys.stderr", terminal)
        monkeypatch.setattr(progress, "DELAY", delay)
        list(progress.track(range(3), None, "work", "items"))
        assert bool(terminal.getvalue().strip()) == shown


def test_tables() -> None:
    kernel = NETWORK.ntk
    tables = [
        nf.spectrum.mercer(kernel, 3, 4),
        nf.spectrum.same_rkhs(kernel, nf.FullyConnected(2).ntk, 3, 10),
        nf.spectrum.effective_dimension(kernel, X, [1.0, 2.0]),
        nf.spectrum.bounds(kernel, X),
        nf.finite.convergence(X[:4], (4, 8), n_repeats=2),
        nf.features.choose(kernel, X, 8, n_draws=1),
    ]
    for table in tables:
        columns = table.to_dict()
        head, *lines = (table.to_csv() or "").splitlines()
        assert head == ",".join(columns)
        assert {len(column) for column in columns.values()} == {len(lines)}
        file = io.StringIO()
        assert table.to_csv(file) is None
        assert file.getvalue().splitlines()[1:] == lines
        check_html(table, columns, len(lines))


def check_html(result: Any, names: Iterable[str], count: int) -> None:
    """Check that what a notebook shows is well-formed, and has these columns and rows."""
    table = ElementTree.fromstring(result._repr_html_())
    assert [cell.text for cell in table.iterfind("thead/tr/th")] == [name or None for name in names]
    assert len(list(table.iterfind("tbody/tr"))) == count


def test_results_in_notebooks() -> None:
    kernel = NETWORK.ntk
    check_html(nf.spectrum.extremes(kernel, X, 2), ["end", "eigenvalue", "within"], 4)
    found = nf.regression.solve(kernel, X, X[:, 0], 0.1)
    check_html(found, ["", "value"], len(found.summary().splitlines()) - 1)
    check_html(found.history, found.history.to_dict(), len(found.history))
    many = nf.spectrum.mercer(kernel, 3, 500)
    check_html(many, many.to_dict(), 41)
    assert "<td>...</td>" in many._repr_html_()
    assert f"<td>{many.eigenvalues[500]:.6g}</td>" in many._repr_html_()
