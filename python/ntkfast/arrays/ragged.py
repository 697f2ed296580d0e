"""Collections of sequences of different lengths, as kernels of recurrent networks take them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from ntkfast.arrays import checks, layout
from ntkfast.arrays.collections import FloatArray, Images, Joint
from ntkfast.arrays.foreign import host_array, is_foreign

RAGGED = (
    "sequences of different lengths are a list of arrays, or ntkfast.sequences(array, lengths=...)"
)
SHORT = 1e-150  # a largest number whose square loses digits


class Sequences:
    """Sequences of vectors with one number of channels, stored end to end; made by `sequences`.

    An immutable list of ``(T_i, m)`` arrays: ``len``, indexing by an integer, and by slices and
    integer arrays, which share the memory.

    Attributes
    ----------
    values : (total, m) array
    first, lengths : (n,) arrays of int
        Sequence i is ``values[first[i] : first[i] + lengths[i]]``.
    shape : (int, int, int)
        Of the padded array that would hold them: sequences, steps of the longest one, channels.
    """

    __slots__ = ("first", "lengths", "values")

    values: FloatArray
    first: NDArray[np.int64]
    lengths: NDArray[np.int64]

    def __init__(
        self, values: FloatArray, first: NDArray[np.int64], lengths: NDArray[np.int64]
    ) -> None:
        self.values, self.first, self.lengths = values, first, lengths

    def __len__(self) -> int:
        return len(self.first)

    def __getitem__(self, part: Any) -> Any:
        if isinstance(part, (int, np.integer)):
            first = self.first[part]
            return self.values[first : first + self.lengths[part]]
        return Sequences(self.values, self.first[part], self.lengths[part])

    def __iter__(self) -> Iterator[FloatArray]:
        return (self[i] for i in range(len(self)))

    def __repr__(self) -> str:
        short, long = int(self.lengths.min()), int(self.lengths.max())
        span = f"length {short}" if short == long else f"lengths {short} to {long}"
        noun = "channel" if self.channels == 1 else "channels"
        return f"<{len(self)} sequences of {span}, {self.channels} {noun}, {self.dtype}>"

    @property
    def channels(self) -> int:
        """Numbers per step."""
        return int(self.values.shape[1])

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of the padded array that would hold them."""
        return len(self), int(self.lengths.max()), self.channels

    @property
    def dtype(self) -> np.dtype[Any]:
        """float32 or float64."""
        return self.values.dtype

    def astype(self, dtype: DTypeLike, copy: bool = True) -> Sequences:
        """Return the sequences in another precision."""
        return Sequences(self.values.astype(dtype, copy=copy), self.first, self.lengths)


def sequences(
    X: Any, lengths: ArrayLike | None = None, *, channels: str | None = None
) -> Sequences:
    """Collect sequences for the kernels of `Recurrent`.

    Parameters
    ----------
    X : list of (T_i, m) or (T_i,) arrays, or (n, T, m) array, or (n, T) array
        A matrix stands for n sequences of T numbers: its columns are scanned one after the other.
    lengths : (n,) array of int, optional
        For a padded array: how many steps of each sequence count, from its first one. What comes
        after them is ignored and may be NaN.
    channels : {"last", "first"}, optional
        "first": of (m, T_i) arrays, or an (n, m, T) array. Default: "last", with a warning where
        the shape looks otherwise.

    Returns
    -------
    Sequences

    Raises
    ------
    TypeError, ValueError
        If there are no sequences, one is empty, has other channels than the first or holds NaN or
        infinity: with its position.

    Examples
    --------
    >>> import numpy as np, ntkfast as nf
    >>> nf.sequences([np.ones((3, 2)), np.ones((5, 2))])
    <2 sequences of lengths 3 to 5, 2 channels, float64>
    >>> nf.sequences(np.array([[1.0, 2.0], [3.0, np.nan]]), lengths=[2, 1])
    <2 sequences of lengths 1 to 2, 1 channel, float64>
    """
    X = channels_last("X", X, layout.checked_channels(channels))
    if lengths is None:
        return checked("X", X)
    array = _array("X", X)
    count = np.asarray(lengths)
    if count.dtype.kind not in "iu" or count.shape != array.shape[:1]:
        raise ValueError(
            f"lengths: expected {len(array)} integers, got shape {count.shape} of {count.dtype}"
        )
    wrong = np.flatnonzero((count < 1) | (count > array.shape[1]))
    if len(wrong):
        raise ValueError(
            f"lengths: expected 1 to {array.shape[1]}, sequence {wrong[0]} has {count[wrong[0]]}"
        )
    found = _uniform(array)
    found.lengths = count.astype(np.int64)
    inside = np.arange(array.shape[1]) < count[:, None]
    finite = _finite(found)
    finite[~inside.ravel()] = True
    _check_finite("X", found, finite)
    return found


def joined(parts: Sequence[Any]) -> Any:
    """Return arrays, or what kernels have collected, as one in memory of its own."""
    first = parts[0]
    if isinstance(first, Sequences):
        return _ragged("parts", [one for part in parts for one in part])
    if isinstance(first, Joint):
        pieces = zip(*(part.parts for part in parts), strict=True)
        return Joint(tuple(joined(piece) for piece in pieces))
    if isinstance(first, Images):
        data, norms = (
            np.concatenate([getattr(p, name) for p in parts]) for name in ("data", "norms")
        )
        return Images(data, first.shape, norms)
    return np.concatenate(parts)


def channels_last(name: str, X: Any, channels: str | None) -> Any:
    """Return what a user passed as sequences with the axis of channels where it is expected."""
    return X if isinstance(X, Sequences) else layout.sequences_last(name, X, channels)


def checked(name: str, X: Any) -> Sequences:
    """Return what a user passed as sequences."""
    if isinstance(X, Sequences):
        return X
    if isinstance(X, np.ndarray) and X.dtype == object and X.ndim == 1:
        X = list(X)  # of arrays
    found = _ragged(name, X) if isinstance(X, (list, tuple)) else _uniform(_array(name, X))
    _check_finite(name, found, _finite(found))
    return found


def check_shape(name: str, shape: tuple[int, ...], channels: tuple[int, ...] | None = None) -> None:
    """Check the shape of an array of sequences without its numbers."""
    tail = shape[2:]
    if len(shape) not in (2, 3) or (channels is not None and (tail or (1,)) != (channels or (1,))):
        wanted = "(n, T, m) or (n, T)" if channels is None else f"(*, T, {(*channels, 1)[0]})"
        hint = checks.ONE_ROW if len(shape) == 1 else ""
        raise ValueError(f"{name}: expected shape {wanted}, got {shape}{hint}")
    if 0 in shape:
        raise ValueError(f"{name}: expected sequences with steps and channels, got shape {shape}")


def matched(X: Sequences, Y: Sequences) -> tuple[Sequences, Sequences]:
    """Check that two collections have the same channels, and bring them to one precision."""
    if X.channels != Y.channels:
        raise ValueError(f"Y: expected sequences of {X.channels} channels, got {Y.channels}")
    dtype = np.result_type(X.dtype, Y.dtype)
    return X.astype(dtype, copy=False), Y.astype(dtype, copy=False)


def _array(name: str, X: Any) -> FloatArray:
    try:
        array = _on_host(name, X)
    except ValueError as error:  # a list of lists of different lengths
        raise ValueError(f"{error}; {RAGGED}") from error
    array = checks.real_array(name, array)
    check_shape(name, array.shape)
    return array


def _on_host(name: str, value: Any) -> NDArray[Any]:
    foreign = hasattr(value, "__dlpack_device__") or hasattr(value, "__cuda_array_interface__")
    try:
        return host_array(name, value)
    except TypeError as error:  # as arrays of a device say that are no sequences
        if not foreign or is_foreign(value):
            raise
        raise TypeError(
            f"{name}: expected an array of the host, got one on a CUDA device, where sequences are "
            "one array (n, T, m) or (n, T) that a kernel is called with"
        ) from error


def _uniform(array: FloatArray) -> Sequences:
    n, steps = array.shape[:2]
    values = np.ascontiguousarray(array).reshape(n * steps, -1)
    return Sequences(values, np.arange(n, dtype=np.int64) * steps, np.full(n, steps, np.int64))


def _ragged(name: str, items: list[Any] | tuple[Any, ...]) -> Sequences:
    if not items:
        raise ValueError(f"{name}: expected at least one sequence, got an empty list")
    parts: list[FloatArray] = []
    for i, item in enumerate(items):
        part = checks.real_array(f"{name}[{i}]", _on_host(f"{name}[{i}]", item))
        part = part[:, None] if part.ndim == 1 else part
        if part.ndim != 2 or 0 in part.shape:
            raise ValueError(
                f"{name}[{i}]: expected a sequence (T, m) with T, m > 0, got shape {part.shape}"
            )
        if parts and part.shape[1] != parts[0].shape[1]:
            raise ValueError(
                f"{name}[{i}]: expected {parts[0].shape[1]} channels like the first sequence, "
                f'got {part.shape[1]}; those with channels first need channels="first"'
            )
        parts.append(part)
    lengths = np.array([len(part) for part in parts], np.int64)
    values = np.ascontiguousarray(np.concatenate(parts))  # which keeps an order of its own
    return Sequences(values, np.cumsum(lengths) - lengths, lengths)


def _finite(found: Sequences) -> NDArray[np.bool_]:
    return np.asarray(np.isfinite(found.values).all(axis=1))


def _check_finite(name: str, found: Sequences, finite: NDArray[np.bool_]) -> None:
    if not finite.all():
        item = int(np.searchsorted(found.first, int(np.argmin(finite)), side="right")) - 1
        raise ValueError(
            f"{name}: expected finite numbers, sequence {item} holds NaN or infinity; {RAGGED}"
        )
    if found.dtype == np.float64:  # squares of which are float64
        sizes = np.abs(found.values).max(axis=1)
        if ((sizes > 0) & (sizes < SHORT)).any():
            ends = zip(found.first, found.first + found.lengths, strict=True)
            largest = np.array([sizes[first:end].max() for first, end in ends])
            checks.directions(name, "sequence", largest, SHORT)
