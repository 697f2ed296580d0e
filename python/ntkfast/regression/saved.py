"""Fitted models as .npz files: arrays, and a description in JSON. No code is stored or run."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ntkfast._version import __version__
from ntkfast.activations import Activation
from ntkfast.arrays.collections import Images
from ntkfast.arrays.ragged import Sequences
from ntkfast.kernels.base import Kernel
from ntkfast.networks.base import Network
from ntkfast.regression.description import described, functions_in, rebuilt
from ntkfast.regression.dynamics import Dynamics
from ntkfast.regression.solution import Solution
from ntkfast.regression.training_time import Descent
from ntkfast.support.files import appearing

FORMAT = 1
MODEL = "model"  # the array that holds the description
OF_THE_RUN = "client", "engine", "progress", "threads"  # parameters that no file holds
RECORDS: dict[str, tuple[type, tuple[str, ...]]] = {  # by their parts
    "images": (Images, ("data", "shape", "norms")),
    "sequences": (Sequences, ("values", "first", "lengths")),
    "training": (Dynamics, tuple(field.name for field in fields(Dynamics))),
    "descent": (Descent, tuple(field.name for field in fields(Descent))),
}


def save(model: Any, path: str | os.PathLike[str]) -> None:
    """Write a fitted estimator to a file that appears when it is complete.

    The description has the class, the parameters, the attributes that are numbers, and what the
    arrays are. What belongs to a run and its machine is left out: solutions, and the parameters
    that say how the work is done.
    """
    if Path(path).suffix.lower() != ".npz":
        raise ValueError(f"path: expected one of .npz, got {os.fspath(path)!r}")
    arrays: dict[str, NDArray[Any]] = {}
    fitted = {
        name: _described(name, value, arrays)
        for name, value in vars(model).items()
        if name.endswith("_") and not isinstance(value, Solution)
    }
    parameters = {
        name: _parameter(name, value)
        for name, value in model.get_params(deep=False).items()
        if name not in OF_THE_RUN
    }
    description = {
        "format": FORMAT,
        "version": __version__,
        "class": type(model).__name__,
        "parameters": parameters,
        "fitted": fitted,
    }
    text = np.frombuffer(json.dumps(description).encode(), np.uint8)
    with appearing(path) as partial, open(partial, "wb") as file:
        np.savez(file, allow_pickle=False, **{MODEL: text}, **arrays)


def restore(classes: dict[str, type], path: str | os.PathLike[str], network: Any = None) -> Any:
    """Read a file and make the estimator, which must be one of the classes.

    Python functions are those of a network or kernel.
    """
    if not Path(path).exists():
        raise FileNotFoundError(f"{path}: no such file")
    if not zipfile.is_zipfile(path):
        raise ValueError(f"{path}: expected a model that save wrote, got no archive")
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
            description = json.loads(arrays.pop(MODEL).tobytes())
    except (ValueError, EOFError, KeyError, AttributeError, OSError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path}: expected a model that save wrote ({error})") from error
    found = description.get("format")
    if found != FORMAT:
        raise ValueError(
            f"{path}: expected format {FORMAT}, got {found}, of ntkfast {description['version']}"
        )
    try:
        kind = classes[description["class"]]
        functions = functions_in(network)
        given = {name: rebuilt(one, functions) for name, one in description["parameters"].items()}
        model = kind(**given)
        for name, value in description["fitted"].items():
            setattr(model, name, _rebuilt(value, arrays, functions))
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: this model cannot be restored ({error})") from error
    return model


def _parameter(name: str, value: Any) -> Any:
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, (Kernel, Network, Mapping)):
        return described(value)
    try:
        return json.loads(json.dumps(value))
    except TypeError as error:
        raise TypeError(
            f"{name}: expected a number or a name, to be saved, got {type(value).__name__}"
        ) from error


def _described(name: str, value: Any, arrays: dict[str, NDArray[Any]]) -> Any:
    """Describe an attribute; arrays are put aside."""
    for kind, (record, parts) in RECORDS.items():
        if isinstance(value, record):
            inner = {part: getattr(value, part) for part in parts}
            return {kind: {p: _described(f"{name}.{p}", v, arrays) for p, v in inner.items()}}
    if isinstance(value, np.ndarray):
        known = next((one for one, array in arrays.items() if array is value), None)
        if known is not None:
            return {"array": known, "object": False}
        is_object = value.dtype == object  # strings, of pandas for example
        if is_object and not all(isinstance(item, str) for item in value.ravel()):
            raise TypeError(f"{name}: expected numbers or strings, to be saved, got objects")
        arrays[name] = value.astype(str) if is_object else value
        return {"array": name, "object": is_object}
    if isinstance(value, np.generic):
        value = value.item()
    return {"value": described(value)}


def _rebuilt(
    value: dict[str, Any], arrays: dict[str, NDArray[Any]], functions: list[Activation]
) -> Any:
    """Undo `_described`."""
    if "array" in value:
        array = arrays[value["array"]]
        return array.astype(object) if value["object"] else array
    for kind, (record, _) in RECORDS.items():
        if kind in value:
            parts = {p: _rebuilt(v, arrays, functions) for p, v in value[kind].items()}
            return record(**parts)
    return rebuilt(value["value"], functions)
