"""How functions are compiled, and when the cache on disk is out of date."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

from numba import njit, types
from numba.core.options import DefaultOptions

Function = TypeVar("Function", bound=Callable[..., Any])
_OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": {"contract"}}
# The callers keep all arrays alive: counting references took most of the time of a short row.
if hasattr(DefaultOptions, "_nrt"):
    _OPTIONS["_nrt"] = False


def compiled(function: Function) -> Function:
    """Compile a function called from compiled code; products and sums may be fused."""
    wrappers = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}  # half of the time
    result = njit(**wrappers, **_OPTIONS)(function)
    # Numba compiles a function anew for every literal that it is called with: 0, 1 and a variable.
    resolve = result.get_call_template

    def for_all_numbers(args: tuple[types.Type, ...], kws: dict[str, types.Type]) -> Any:
        named = {name: types.unliteral(kind) for name, kind in kws.items()}
        return resolve(tuple(map(types.unliteral, args)), named)

    result.get_call_template = for_all_numbers
    return cast(Function, result)


def inlined(function: Function) -> Function:
    """Compile a function as a part of its caller: passing tuples of arrays costs compile time.

    It stores nothing itself, and calls functions that do: Numba does not know that the arrays of an
    argument outlive the function, and may drop ``argument.array[i] = x`` as dead code.
    """
    result: Function = njit(inline="always", **_OPTIONS)(function)
    return result


@cache
def _sources() -> str:
    """Return a digest of this package and of the codes, to which cached code belongs."""
    package = Path(__file__).parent
    files = [*sorted(package.rglob("*.py")), package.with_name("codes.py")]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:12]


def cached(function: Function) -> Function:
    """Compile a function called from Python, with a cache on disk if there is a place for it."""
    # Numba compares only the file of the function with that of the cache, not those of its callees.
    function.__qualname__ = f"{function.__name__}_{_sources()}"
    try:
        result: Function = njit(cache=True, no_cfunc_wrapper=True, **_OPTIONS)(function)
    except RuntimeError:  # neither __pycache__ nor the user's cache directory can be written
        result = njit(no_cfunc_wrapper=True, **_OPTIONS)(function)
    return result
