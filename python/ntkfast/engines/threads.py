"""How many threads a call uses."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache

from ntkfast.arrays.checks import count as _checked_count
from ntkfast.engines.interface import variable

MOST = 4096  # threads of a call: no machine gains from more, and systems refuse them
_limit: ContextVar[int | None] = ContextVar("ntkfast_threads", default=None)
_default: int | None = None


def _available() -> int:
    """Processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def get_num_threads() -> int:
    """Return how many threads a call uses unless it says otherwise.

    In this order: the innermost `threadpool_limits`, `set_num_threads`, the environment variable
    NTKFAST_NUM_THREADS, the processors this process may use.
    """
    limit = _limit.get()
    return process_threads() if limit is None else limit


def process_threads() -> int:
    """Return the same without the limits of the current thread or task."""
    return _environment_threads() if _default is None else _default


def _environment_threads() -> int:
    text = variable("NTKFAST_NUM_THREADS")
    return (_stated_threads(text) if text else None) or _available()


@lru_cache(maxsize=16)
def _stated_threads(text: str) -> int | None:
    """Return the number that the environment states, None if it states none."""
    text = text.strip()
    if not text:
        return None
    if not text.isdecimal() or int(text) < 1:
        raise ValueError(f"NTKFAST_NUM_THREADS: expected a positive integer, got {text!r}")
    return int(text)


def set_num_threads(threads: int | None) -> None:
    """Set how many threads calls of this process use; None goes back to the default.

    Raises
    ------
    TypeError, ValueError
        If `threads` is no positive integer.
    """
    global _default
    _default = None if threads is None else _checked_count("threads", threads, least=1)


def restore_num_threads(threads: int) -> None:
    """Set what `process_threads` has returned before, and follow the default again if it was it."""
    set_num_threads(None if threads == _environment_threads() else threads)


@contextmanager
def threadpool_limits(limits: int | None) -> Iterator[None]:
    """Limit the threads of calls inside a ``with`` block; None leaves them as they are.

    The limit holds for the current thread or task only, like `contextvars`. Those of
    ``threadpoolctl.threadpool_limits`` are honoured too, for the whole process.

    Examples
    --------
    >>> import ntkfast as nf
    >>> with nf.threadpool_limits(1):
    ...     nf.get_num_threads()
    1
    """
    wanted = None if limits is None else _checked_count("limits", limits, least=1)
    token = _limit.set(_limit.get() if wanted is None else wanted)
    try:
        yield
    finally:
        _limit.reset(token)


def count(threads: int | None) -> int:
    """Return the number of threads of a call; what is beyond all machines counts as `MOST`."""
    wanted = get_num_threads() if threads is None else _checked_count("threads", threads, least=1)
    return wanted if wanted < MOST else MOST
