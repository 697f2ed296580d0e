"""The CUDA engine: the maps of the native one, evaluated on a graphics card.

NTKFAST_CUDA_MODULE names another extension module than ``ntkfast._cuda``: tests let the host play
the card by ``ntkfast._cuda_emulated``, which runs the very sources of the kernels.
"""

from __future__ import annotations

import importlib
import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from ntkfast.engines import native
from ntkfast.engines.card_array import CardArray, dense
from ntkfast.engines.compiled import Compiled
from ntkfast.maps import FloatArray, SequenceMap, SequenceSide

_device: ContextVar[int] = ContextVar("ntkfast_cuda_device", default=0)
_precision: ContextVar[str] = ContextVar("ntkfast_cuda_precision", default="strict")
_stream: ContextVar[int] = ContextVar("ntkfast_cuda_stream", default=0)

T = TypeVar("T")

PRECISIONS = ("strict", "3xtf32", "tf32")


def _module() -> Any:
    return importlib.import_module(os.environ.get("NTKFAST_CUDA_MODULE") or "ntkfast._cuda")


def unavailable() -> str:
    """Return why the engine cannot run here, or an empty string."""
    try:
        count, reason = _module().devices()
    except ImportError as error:
        return f"the extension ntkfast._cuda is not there ({error})"
    if not count:
        return f"no CUDA device: {reason}"
    if why := native.unavailable():  # it computes what belongs to single inputs
        return why
    return ""


@contextmanager
def device(ordinal: int) -> Iterator[None]:
    """Compute on the card of this number inside a ``with`` block; 0 is the default.

    Raises
    ------
    ValueError
        If there is no such card.
    """
    count = _module().devices()[0]
    if not 0 <= ordinal < count:
        raise ValueError(f"ordinal: expected a CUDA device below {count}, got {ordinal}")
    with _set(_device, ordinal):
        yield


@contextmanager
def precision(name: str) -> Iterator[None]:
    """Form the inner products of float32 rows in this precision inside a ``with`` block.

    Products of float64 are those of float64 in all of them, on tensor cores or not. Cards before
    the generation sm_80 compute strictly whatever is asked.

    Parameters
    ----------
    name : {"strict", "3xtf32", "tf32"}
        ``strict``, the default: every product and every sum is rounded to float32. An inner product
        of d terms is off by at most d 2^-24 of the product of the norms, about sqrt(d) 2^-25 in
        practice. ``3xtf32``: tensor cores multiply numbers split in two, for an error of at most
        2^-21 besides that of the sums. ``tf32``: factors are rounded to 11 bits. Cosines are off
        by at most 2^-10, about 2^-11 / sqrt(d) in practice.

    Raises
    ------
    ValueError
        If there is no such precision.

    Notes
    -----
    An error of the cosine reaches the kernel multiplied by its slope, at most by the few units of
    strict precision: the angles of pairs closer than that are recomputed from the differences
    of their rows, in float32. So a row gets the same value with itself as strictly, and so do
    near duplicates, to a distance of about 0.04 of their norm under tf32 and more for kernels with
    a cusp, as those of ReLU networks.

    Examples
    --------
    >>> import ntkfast as nf
    >>> with nf.engines.cuda.precision("3xtf32"):  # doctest: +SKIP
    ...     K = nf.FullyConnected(3).ntk(X, engine="cuda")
    """
    if name not in PRECISIONS:
        raise ValueError(f"name: expected one of {PRECISIONS}, got {name!r}")
    with _set(_precision, name):
        yield


@contextmanager
def _set(variable: ContextVar[T], value: T) -> Iterator[None]:
    """Give a variable a value inside a ``with`` block."""
    token = variable.set(value)
    try:
        yield
    finally:
        variable.reset(token)


class _Cards(Compiled):
    """Computes on the card of the arrays in a call that lie on one, in their stream."""

    def _compute(self, name: str, dtype: np.dtype[Any], *arguments: object, threads: int) -> None:
        cards = [a for a in arguments if isinstance(a, CardArray)]
        seen = [a.described() if isinstance(a, CardArray) else a for a in arguments]
        with on_card_of(cards):
            super()._compute(name, dtype, *seen, threads=threads)

    def sequences(
        self,
        plan: SequenceMap,
        X: SequenceSide,
        Y: SequenceSide | None,
        out: FloatArray | CardArray,
        threads: int,
    ) -> None:
        """Work in the stream of the sequences, though the host has read them already."""
        if not isinstance(out, CardArray):
            super().sequences(plan, X, Y, out, threads)
            return
        given = cast(CardArray, X.memory)
        with on_card_of([given, out]):
            there = cast(FloatArray, replace(out, stream=given.stream))
            super().sequences(plan, X, Y, there, threads)


def _place(ordinal: int, stream: int) -> str:
    return f"{ordinal}:{_precision.get()}:{stream}"


def _here() -> str:
    """Return where this context computes."""
    return _place(_device.get(), _stream.get())


_engine = _Cards(_module, _here)
run = _engine.run
matmul = _engine.matmul
hadamard = _engine.hadamard
sketch = _engine.sketch
structured = _engine.structured
images = _engine.images
sequences = _engine.sequences


def device_of(array: CardArray) -> int:
    """Return the number of the card that an array lies on.

    Raises
    ------
    ValueError
        If its memory belongs to no card.
    """
    found = int(_module().device_of(array.pointer))
    if found < 0:
        raise ValueError(f"expected memory of a CUDA device, got the address {array.pointer:#x}")
    return found


@contextmanager
def on_card_of(arrays: Sequence[CardArray]) -> Iterator[None]:
    """Compute on the card of the first array in its stream, after what the others wait for.

    Where another stream is in play, or a library does not say which one is, nothing would make it
    wait for the results: then they are waited for here.
    """
    if not arrays:
        yield
        return
    ordinal, stream = device_of(arrays[0]), arrays[0].stream or 0
    others = {a.stream or 0 for a in arrays} - {stream}
    for other in others:
        _module().finish(_place(ordinal, other))
    with _set(_device, ordinal), _set(_stream, stream):
        yield
    if others or any(a.stream is None for a in arrays):
        _module().finish(_place(ordinal, stream))


def row_norms(X: FloatArray | CardArray) -> FloatArray:
    """Return the Euclidean norms of rows: by the host, unless they lie on a card."""
    if not isinstance(X, CardArray):
        return native.row_norms(X)
    with on_card_of([X]):
        norms: FloatArray = _engine.call("row_norms", X.dtype, X.described(), _here())
    return norms


def put(array: FloatArray, to: CardArray) -> None:
    """Copy an array without gaps to a card, between arrays of one size."""
    with on_card_of([to]):
        _module().copy(to.described(), array, _here())


def numbers(array: CardArray) -> FloatArray:
    """Return a copy on the host of an array without gaps."""
    result = np.empty(array.shape, array.dtype)
    with on_card_of([array]):
        _module().copy(result, array.described(), _here())
    return result


def scratch(like: CardArray, shape: tuple[int, ...]) -> CardArray:
    """Return memory on the card and in the stream of an array; anything may be in it."""
    size = max(1, math.prod(shape)) * like.itemsize
    with on_card_of([like]):
        memory = _module().Memory(size, _here())
    return replace(
        like,
        pointer=memory.pointer,
        shape=shape,
        strides=dense(shape, like.itemsize),
        writeable=True,
        source=memory,
        owner=memory,
    )


def multiply(
    A: CardArray, V: CardArray, out: CardArray, diagonal: FloatArray | None, shift: int
) -> None:
    """Write A V, sums in float64; entries (i, i + shift) of A are those of `diagonal`, if given."""
    arrays = [A, V, out]
    with on_card_of(arrays):
        seen = (array.described() for array in arrays)
        _engine.call("multiply", A.dtype, *seen, diagonal, shift, _here())


def scale_rows(
    X: CardArray | None,
    out: CardArray,
    *,
    factors: FloatArray | None = None,
    divisors: FloatArray | None = None,
    scale: float = 1.0,
) -> None:
    """Write scale factors X / divisors, numbers per row of the host; X = None stands for ones."""
    with on_card_of([out] if X is None else [out, X]):
        given = None if X is None else X.described()
        rows = (given, divisors, factors, out.described())
        _engine.call("scale_rows", out.dtype, *rows, scale, _here())


def pair_products(
    X: CardArray,
    left: NDArray[np.intp],
    right: NDArray[np.intp],
    shifts: FloatArray,
    factors: FloatArray,
    out: CardArray,
) -> None:
    """Write (X[:, left] X[:, right] - shifts) factors."""
    with on_card_of([X, out]):
        columns = (left.astype(np.int64), right.astype(np.int64), shifts, factors)
        _engine.call("pair_products", X.dtype, X.described(), *columns, out.described(), _here())
