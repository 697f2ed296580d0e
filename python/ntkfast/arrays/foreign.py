"""What users pass in as arrays of NumPy: nothing hidden in it is lost, and nothing is guessed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

_NUMBERS = "biuf"  # kinds of types


def host_array(name: str, value: Any) -> NDArray[Any]:
    """Return what a user passed as an array; its type and shape are checked elsewhere.

    Arrays of NumPy are not touched. Frames of pandas and polars give numbers, tensors of PyTorch on
    the host their memory.

    Raises
    ------
    TypeError
        If it is sparse, holds no numbers, or a tensor that asks for its gradient.
    ValueError
        If a mask hides entries, a frame misses a number, or rows have different lengths.
    """
    if type(value) is np.ndarray:
        return value
    take = _LIBRARIES.get(type(value).__module__.partition(".")[0])
    if take is not None:
        return take(name, value)
    for item in value if isinstance(value, (list, tuple)) else (value,):
        if isinstance(item, np.ma.MaskedArray) and np.ma.is_masked(item):
            hidden = int(np.count_nonzero(np.ma.getmaskarray(item)))
            raise ValueError(
                f"{name}: expected no masked entries, got {hidden}; leave them out or fill them"
            )
    array = _converted(name, value)
    if array.dtype == object:
        found = type(value).__name__
        if hasattr(value, "__cuda_array_interface__"):
            raise TypeError(
                f"{name}: expected an array of the host, got {found} on a CUDA device; copy it to "
                'the host, where engine="cuda" computes on the device'
            )
        raise TypeError(f"{name}: expected float32 or float64 (or integers), got {found}")
    return array


def is_foreign(value: object) -> bool:
    """Tell whether a value has the attributes of an array and needs to be taken with care."""
    library = type(value).__module__.partition(".")[0]
    return library in _LIBRARIES or isinstance(value, np.ma.MaskedArray)


def _converted(name: str, value: Any) -> NDArray[Any]:
    try:
        return np.asarray(value)
    except ValueError as error:
        if isinstance(value, (list, tuple)):
            raise ValueError(
                f"{name}: expected rows of one length, got different ones; {error}"
            ) from error
        raise ValueError(f"{name}: {error}") from error
    except (TypeError, RuntimeError) as error:
        raise TypeError(
            f"{name}: expected an array of the host, got {type(value).__name__}; {error}"
        ) from error


def _of_scipy(name: str, value: Any) -> NDArray[Any]:
    if not type(value).__module__.startswith("scipy.sparse"):
        return _converted(name, value)
    raise TypeError(
        f"{name}: expected a dense array, got {type(value).__name__}; its toarray() is one, and "
        "most maps of ntkfast.features take sparse rows"
    )


def _of_torch(name: str, value: Any) -> NDArray[Any]:
    if value.requires_grad:
        raise TypeError(
            f"{name}: expected a tensor without gradient, which would be lost; detach() gives one"
        )
    return _converted(name, value)


def _of_pandas(name: str, value: Any) -> NDArray[Any]:
    if not hasattr(value, "to_numpy"):
        return _converted(name, value)
    frame = hasattr(value, "columns")
    kinds = list(value.dtypes) if frame else [value.dtype]
    columns = list(value.columns) if frame else [getattr(value, "name", None)]
    _check_columns(name, columns, kinds, _is_number_of_pandas)
    plain = all(isinstance(kind, np.dtype) for kind in kinds)
    array: NDArray[Any] = value.to_numpy() if plain else np.empty(0, object)
    if array.dtype == object:  # columns that can miss a number, or numbers beside bools
        single = all(str(kind).lower().startswith("float32") for kind in kinds)
        array = value.to_numpy(dtype=np.float32 if single else np.float64, na_value=np.nan)
    return _whole(name, array, columns)


def _is_number_of_pandas(kind: Any) -> bool:
    return getattr(kind, "kind", "O") in _NUMBERS


def _of_polars(name: str, value: Any) -> NDArray[Any]:
    if not hasattr(value, "to_numpy"):
        raise TypeError(f"{name}: expected a DataFrame, got {type(value).__name__}; collect() it")
    frame = hasattr(value, "columns")
    kinds = value.dtypes if frame else [value.dtype]
    columns = value.columns if frame else [value.name]
    _check_columns(name, columns, kinds, _is_number_of_polars)
    array: NDArray[Any] = value.to_numpy()
    if array.dtype == object:  # bools
        raise TypeError(f"{name}: expected numbers, got bools with nulls")
    return _whole(name, array, columns)


def _is_number_of_polars(kind: Any) -> bool:
    return bool(kind.is_integer() or kind.is_float() or str(kind) == "Boolean")


def _check_columns(name: str, columns: Any, kinds: Any, is_number: Callable[[Any], bool]) -> None:
    for column, kind in zip(columns, kinds, strict=True):
        if not is_number(kind):
            raise TypeError(
                f"{name}: expected columns of numbers, column {column!r} has dtype {kind}"
            )


def _whole(name: str, array: NDArray[Any], columns: list[Any]) -> NDArray[Any]:
    """Return the numbers of a frame; of one that is missing say where, as the frame calls it."""
    missing = np.argwhere(np.isnan(array)) if array.dtype.kind == "f" else np.empty((0, 2), int)
    if len(missing):
        place = missing[0].tolist()
        column = columns[place[1]] if array.ndim == 2 else columns[0]
        raise ValueError(
            f"{name}: expected finite numbers, row {place[0]} holds NaN in column {column!r}; "
            "leave such rows out, or fill them"
        )
    return array


_LIBRARIES: dict[str, Callable[[str, Any], NDArray[Any]]] = {
    "pandas": _of_pandas,
    "polars": _of_polars,
    "scipy": _of_scipy,
    "torch": _of_torch,
}
