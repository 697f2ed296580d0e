"""Forks while another thread compiles: the child must not inherit a lock that nobody gives back."""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import Any

from llvmlite.binding import ffi
from numba.core.compiler_lock import global_compiler_lock

_held: list[ExitStack] = []


def register() -> None:
    """Let forks of this process wait until nobody compiles, and both sides go on unlocked."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(before=_lock, after_in_parent=_unlock, after_in_child=_unlock)


def _lock() -> None:
    stack = ExitStack()
    # in the order in which a compilation takes them
    locks: tuple[Any, ...] = (global_compiler_lock, getattr(ffi.lib, "_lock", None))
    for one in locks:
        if hasattr(one, "__enter__"):
            stack.enter_context(one)
    _held.append(stack)


def _unlock() -> None:
    _held.pop().close()
