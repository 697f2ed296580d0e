"""``ntkfast fit`` and ``ntkfast predict``: models from files to files."""

from __future__ import annotations

import argparse
import hashlib
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ntkfast.arrays.ragged import Sequences
from ntkfast.batch.matrices import digest, width_of
from ntkfast.batch.parts import write_parts
from ntkfast.batch.readers import is_text
from ntkfast.command.cluster import client_of
from ntkfast.command.inputs import (
    HEADERS,
    check_names,
    check_tables,
    column_names,
    inputs,
    is_same,
    listed,
    targets,
)
from ntkfast.command.networks import flag, kernel_of
from ntkfast.features.classifier import best_class
from ntkfast.networks import Recurrent
from ntkfast.regression import KernelClassifier, KernelRidgeCV, load
from ntkfast.regression.description import described
from ntkfast.regression.ridge_cv import RELATIVE, RELATIVE_FEW
from ntkfast.support.files import require_folder

PART_BYTES = 1 << 26  # of inputs
GAIN = 1e-3  # of a step to a smaller ridge, below which it is not worth a word
EXACT = 2.0**53  # whole numbers below are exact in float64


def fit(arguments: argparse.Namespace) -> None:
    """Fit a model, save it, and say how well it predicts what it has not seen."""
    kernel = kernel_of(arguments)
    described(kernel)  # what no file can hold is told before the work
    names = "X", "y", "lengths", "sample_weight"
    check_tables(arguments, *names)
    out = Path(arguments.out)
    if out.suffix.lower() != ".npz":
        raise ValueError(f"out: expected a path ending in .npz, got {out}")
    require_folder("out", out)
    if any(is_same(file, arguments.out) for file in map(vars(arguments).get, names) if file):
        raise ValueError(f"out: expected another file than the inputs, got {out}")
    if out.exists() and not arguments.overwrite:
        raise FileExistsError(
            f"{out}: exists already; choose another name or allow its replacement (--overwrite)"
        )
    X = inputs(arguments, "X", "lengths", kernel)
    columns = column_names(arguments, "X")
    y, target_names = targets(arguments, "y")
    _check_count(arguments, X.shape[0], len(y), columns, target_names)
    weights = None if arguments.sample_weight is None else targets(arguments, "sample_weight")[0]
    options = {
        name: getattr(arguments, name)
        for name in ("exact_rows", "method", "memory", "tol", "progress", "engine", "threads")
    }
    classes = y.dtype.kind != "f" if arguments.task is None else arguments.task == "classification"
    whole = y.dtype.kind == "f" and bool(np.all((np.trunc(y) == y) & (abs(y) < EXACT)))
    if arguments.task is None:
        kind = "classes" if classes else "numbers to predict"
        hint = "the values are whole numbers; for classes: --task classification"
        hint = hint if whole and not classes else "--task says otherwise"
        print(f"{arguments.y}: {_kind(y)} are taken as {kind}; {hint}")
    if whole and classes and is_text(arguments.y):  # which has floats only
        y = y.astype(np.int64)
    model: Any
    if classes:
        model = KernelClassifier(kernel, arguments.ridge, **options)
    else:
        ridges = None if arguments.ridge == "auto" else [arguments.ridge]
        model = KernelRidgeCV(kernel, ridges, **options)
    with _nothing_kept(out), client_of(arguments) as client:
        start = time.perf_counter()
        model.set_params(client=client).fit(X, y, sample_weight=weights)
        seconds = time.perf_counter() - start
    if columns is not None and not isinstance(model.X_fit_, Sequences):  # whose columns are steps
        model.feature_names_in_ = np.array(columns, object)
    if target_names is not None:
        model.target_names_ = np.array(target_names, object)
    model.save(out)
    y = y if weights is None else y[weights > 0]
    estimated = "" if len(y) <= arguments.exact_rows else ", estimated"
    found = _accuracy(model, y) if classes else _error(model, y)
    print(f"{out}: {len(y)} rows, ridge {model.ridge_:.4g}, {seconds:.1f} s")
    print(f"leave-one-out {found}{estimated}")
    if end := _end_of_path(model):
        print(end)


@contextmanager
def _nothing_kept(out: Path) -> Iterator[None]:
    """Say what an interruption costs."""
    try:
        yield
    except KeyboardInterrupt as error:
        error.add_note(f"{out}: nothing is kept, fit begins anew when it is run again")
        raise


def _end_of_path(model: Any) -> str:
    """Return what to do where a ridge beyond the path may be better, or nothing."""
    ridges, n = model.ridges_, len(model.X_fit_)
    best = int(np.argmin(model.scores_))
    if len(ridges) == 1 or best not in (0, len(ridges) - 1):
        return ""
    relative = RELATIVE_FEW if n > model.exact_rows else RELATIVE
    if best:
        return (
            f"this ridge, {relative[-1]:g} times the mean of K_ii, is the largest that was tried: "
            "the inputs say little about y; scale them, try another network, or give a larger "
            "--ridge"
        )
    # Rounding errors of the largest eigenvalue, at most n times the mean, hide smaller ridges.
    is_least = relative[0] < 2 * n * n * float(np.finfo(np.float64).eps)
    if is_least or model.scores_[1] < (1 + GAIN) * model.scores_[0]:
        return ""
    return (
        f"this ridge, {relative[0]:g} times the mean of K_ii, is the least that was tried, and "
        "errors still fall: a smaller --ridge may predict better"
    )


def _kind(y: NDArray[Any]) -> str:
    return "strings" if y.dtype.kind == "U" else str(y.dtype)


def _check_count(
    arguments: argparse.Namespace,
    rows: int,
    count: int,
    columns: list[str] | None,
    target_names: list[str] | None,
) -> None:
    """Say how tables were read where one line more or less would make them fit each other."""
    files = {"X": (arguments.X, columns), "y": (arguments.y, target_names)}
    tables = {name: found for name, found in files.items() if is_text(found[0])}
    if abs(rows - count) != 1 or not tables:
        return
    told = "; ".join(
        f"{file} is read {'without' if names is None else 'with'} a line of names, "
        f"{flag(HEADERS[name]) if names is None else flag('no_' + HEADERS[name])} says otherwise"
        for name, (file, names) in tables.items()
    )
    raise ValueError(f"y: expected {rows} targets, one for each row of X, got {count}; {told}")


def _accuracy(model: Any, y: NDArray[Any]) -> str:
    """Return the share of training inputs that the others classify rightly."""
    right = float(np.mean(model.classes_[best_class(model.held_out_)] == y.ravel()))
    return f"accuracy {100 * right:.2f} %, {len(model.classes_)} classes"


def _error(model: Any, y: NDArray[Any]) -> str:
    """Return the root mean square of what the others miss training targets by, beside their own."""
    error, deviation = float(np.sqrt(np.mean((y - model.held_out_) ** 2))), float(np.std(y))
    return f"root mean square error {error:.4g}, standard deviation of y {deviation:.4g}"


def predict(arguments: argparse.Namespace) -> None:
    """Predict part by part; an interrupted job goes on."""
    network = None
    if arguments.network_file is not None:
        from ntkfast.command.network_file import load as made

        network = made(arguments.network_file)
    model = load(arguments.model, network=network)
    check_tables(arguments, "X", "lengths")
    recurrent = isinstance(getattr(model.kernel_, "network", None), Recurrent)
    if arguments.lengths is not None and not recurrent:
        raise ValueError(f"--lengths is for models of sequences, got one of {model.kernel_!r}")
    X = inputs(arguments, "X", "lengths", model.kernel_)
    _check_columns(model, column_names(arguments, "X"), arguments.X)
    if not hasattr(model, arguments.method):
        raise ValueError(f"method: expected predict, got {arguments.method}: this is a regression")
    if any(is_same(file, arguments.out) for file in (arguments.model, arguments.X)):
        raise ValueError(f"out: expected another file than the inputs, got {arguments.out}")
    run = {"engine": arguments.engine, "threads": arguments.threads, "progress": False}
    model.set_params(**{name: value for name, value in run.items() if hasattr(model, name)})
    name = hashlib.sha256(Path(arguments.model).read_bytes()).hexdigest()

    def job() -> dict[str, Any]:
        return {
            "model": name,
            "method": arguments.method,
            "shape of X": list(X.shape),
            "contents of X": digest("X", X),
        }

    names = "out", "progress", "resume", "overwrite"
    with client_of(arguments) as client:
        if client is not None:
            if not hasattr(model, "client"):
                kind = type(model).__name__
                raise ValueError(f"--scheduler: a {kind} predicts on one machine; leave it out")
            model.client = client
        complete = write_parts(
            _part(model, arguments.method, X),
            X.shape[0],
            job,
            rows=arguments.rows or max(1, PART_BYTES // (8 * width_of(X))),
            is_most=arguments.rows is None,
            names=_output_names(model, arguments.method),
            **{name: getattr(arguments, name) for name in names},
        )
    state = "complete already, " if complete else ""
    print(f"{arguments.out}: {state}{_form(Path(arguments.out), X.shape[0])}")


def _form(out: Path, rows: int) -> str:
    if out.suffix == ".csv":
        return f"{rows} rows"
    found = np.load(out, mmap_mode="r")
    return f"{' x '.join(map(str, found.shape))} {_kind(found)}"


def _output_names(model: Any, method: str) -> list[str] | None:
    """Return what the columns of predictions are: targets, or classes, where they have names."""
    if method == "predict":
        names = getattr(model, "target_names_", None)
        return None if names is None else list(names)
    classes = model.classes_ if method == "predict_proba" else model.classes_[-_outputs(model) :]
    # Numbers alone would be read as data.
    return [one if isinstance(one, str) else f"class {one}" for one in classes.tolist()]


def _outputs(model: Any) -> int:
    """Return how many decision values there are: one for two classes, that of the second."""
    return 1 if model.dual_coef_.ndim == 1 else int(model.dual_coef_.shape[1])


def _check_columns(model: Any, found: list[str] | None, file: str) -> None:
    """Compare column names with those of `fit`, as scikit-learn does, once for all parts."""
    known = vars(model).pop("feature_names_in_", None)
    if known is not None and found is not None:
        check_names("X", found, list(known), "fit")
    elif known is not None:
        warnings.warn(
            f"{file} has no column names; its columns are taken for those of fit, "
            f"{listed(list(known))}",
            stacklevel=2,
        )
    elif found is not None and not isinstance(model.X_fit_, Sequences):
        warnings.warn(
            f"{file} has column names, the model was fitted without: they are not compared",
            stacklevel=2,
        )


def _part(model: Any, method: str, X: Any) -> Callable[[slice], NDArray[Any]]:
    """Return what predicts a part; classes that are strings have one length."""
    call = getattr(model, method)
    if method == "predict" and getattr(model, "classes_", np.zeros(0)).dtype == object:
        model.classes_ = model.classes_.astype(str)
    return lambda part: np.asarray(call(X[part]))
