"""``ntkfast fit`` and ``ntkfast predict``: models from files to files."""

from __future__ import annotations

import argparse
import hashlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ntkfast import batch
from ntkfast.batch.matrices import digest, width_of
from ntkfast.batch.parts import write_parts
from ntkfast.command.cluster import client_of
from ntkfast.command.inputs import check_tables, inputs, is_same, table_options
from ntkfast.command.networks import kernel_of
from ntkfast.features.classifier import best_class
from ntkfast.networks import Recurrent
from ntkfast.regression import KernelClassifier, KernelRidgeCV, load
from ntkfast.regression.description import described
from ntkfast.support.files import require_folder

PART_BYTES = 1 << 26  # of inputs


def fit(arguments: argparse.Namespace) -> None:
    """Fit a model, save it, and say how well it predicts what it has not seen."""
    kernel = kernel_of(arguments)
    described(kernel)  # what no file can hold is told before the work
    files = [arguments.X, arguments.y, arguments.lengths, arguments.sample_weight]
    check_tables(arguments, *files)
    out = Path(arguments.out)
    if out.suffix.lower() != ".npz":
        raise ValueError(f"out: expected a path ending in .npz, got {out}")
    require_folder("out", out)
    if any(is_same(file, arguments.out) for file in files if file):
        raise ValueError(f"out: expected another file than the inputs, got {out}")
    if out.exists() and not arguments.overwrite:
        raise FileExistsError(
            f"{out}: exists already; choose another name or allow its replacement (--overwrite)"
        )
    X = inputs(arguments, "X", "lengths", kernel)
    y = batch.load_targets(arguments.y, **table_options(arguments, arguments.y))
    weights = _weights(arguments)
    options = {
        name: getattr(arguments, name)
        for name in ("exact_rows", "method", "memory", "tol", "progress", "engine", "threads")
    }
    classes = y.dtype.kind != "f" if arguments.task is None else arguments.task == "classification"
    if arguments.task is None:
        kind = "classes" if classes else "numbers to predict"
        print(f"{arguments.y}: {_kind(y)} are taken as {kind}; --task says otherwise")
    model: Any
    if classes:
        model = KernelClassifier(kernel, arguments.ridge, **options)
    else:
        ridges = None if arguments.ridge == "auto" else [arguments.ridge]
        model = KernelRidgeCV(kernel, ridges, **options)
    with client_of(arguments) as client:
        start = time.perf_counter()
        model.set_params(client=client).fit(X, y, sample_weight=weights)
        seconds = time.perf_counter() - start
    model.save(out)
    y = y if weights is None else y[weights > 0]
    estimated = "" if len(y) <= arguments.exact_rows else ", estimated"
    found = _accuracy(model, y) if classes else _error(model, y)
    print(f"{out}: {len(y)} rows, ridge {model.ridge_:.4g}, {seconds:.1f} s")
    print(f"leave-one-out {found}{estimated}")


def _kind(y: NDArray[Any]) -> str:
    return "strings" if y.dtype.kind == "U" else str(y.dtype)


def _weights(arguments: argparse.Namespace) -> NDArray[Any] | None:
    file = arguments.sample_weight
    return None if file is None else batch.load_targets(file, **table_options(arguments, file))


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
    model = load(arguments.model)
    check_tables(arguments, arguments.X, arguments.lengths)
    recurrent = isinstance(getattr(model.kernel_, "network", None), Recurrent)
    if arguments.lengths is not None and not recurrent:
        raise ValueError(f"--lengths is for models of sequences, got one of {model.kernel_!r}")
    X = inputs(arguments, "X", "lengths", model.kernel_)
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
        found, complete = write_parts(
            _part(model, arguments.method, X),
            X.shape[0],
            job,
            rows=arguments.rows or max(1, PART_BYTES // (8 * width_of(X))),
            is_most=arguments.rows is None,
            **{name: getattr(arguments, name) for name in names},
        )
    shape = " x ".join(map(str, found.shape))
    state = "complete already, " if complete else ""
    print(f"{arguments.out}: {state}{shape} {_kind(found)}")


def _part(model: Any, method: str, X: Any) -> Callable[[slice], NDArray[Any]]:
    """Return what predicts a part; classes that are strings have one length."""
    call = getattr(model, method)
    if method == "predict" and getattr(model, "classes_", np.zeros(0)).dtype == object:
        model.classes_ = model.classes_.astype(str)
    return lambda part: np.asarray(call(X[part]))
