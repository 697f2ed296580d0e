"""Progress bars of long work: tqdm draws them, one argument says when.

``progress=None``, the default of every function that may take long, shows a bar on a terminal once
the work has taken some seconds, if tqdm is installed. True shows it always and at once, and
needs tqdm (the extra "cli"); False never.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sized
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, TypeVar

from ntkfast.support.optional import require

if TYPE_CHECKING:
    from tqdm import tqdm

DELAY = 1.5  # seconds before a bar that nobody asked for
T = TypeVar("T")


class Bar(AbstractContextManager["Bar"]):
    """A tqdm bar, or nothing at all where none is shown.

    Parameters
    ----------
    progress : bool, optional
        None: on a terminal, after some seconds, if tqdm is there; True: always; False: never.
    name : str
    total : int, optional
        Left out where it is not known.
    unit : str
        What is counted, in the plural.
    """

    def __init__(self, progress: bool | None, name: str, total: int | None, unit: str) -> None:
        kind = _tqdm(progress)
        self._bar: tqdm[Any] | None = kind and kind(
            total=total, unit=f" {unit}", unit_scale=True, **_options(progress, name)
        )

    def update(self, count: int = 1) -> None:
        """Count what has been done."""
        if self._bar is not None:
            self._bar.update(count)

    def skip(self, count: int) -> None:
        """Count what an earlier run has done, which must not flatter the rate."""
        if self._bar is not None and not self._bar.disable:
            self._bar.initial += count
            self._bar.n += count
            self._bar.last_print_n += count  # else the next step counts as that much more

    def show(self, stage: str, residual: float | None = None) -> None:
        """Say what is going on."""
        if self._bar is not None:
            self._bar.set_description(stage, refresh=False)
            if residual is not None:
                self._bar.set_postfix_str(f"residual {residual:.1e}", refresh=False)

    def __exit__(self, *exception: object) -> None:
        if self._bar is not None:
            self._bar.close()


def track(
    items: Iterable[T], progress: bool | None, name: str, unit: str, total: int | None = None
) -> Iterator[T]:
    """Yield the items, counting them on a bar; see `Bar`."""
    total = len(items) if isinstance(items, Sized) else total
    with Bar(progress, name, total, unit) as bar:
        for item in items:
            yield item
            bar.update()


def is_shown(progress: bool | None) -> bool:
    """Whether there will be a bar, if the work takes long enough.

    Raises
    ------
    ImportError
        If one is asked for and tqdm is missing.
    """
    return _tqdm(progress) is not None and (bool(progress) or sys.stderr.isatty())


def dask_bar(progress: bool | None, name: str) -> AbstractContextManager[Any]:
    """Return a context in which a bar counts the tasks of dask's schedulers of this machine."""
    kind = _tqdm(progress)
    if kind is None:
        return nullcontext()
    from tqdm.dask import TqdmCallback

    callback: AbstractContextManager[Any] = TqdmCallback(
        tqdm_class=kind, unit=" tasks", **_options(progress, name)
    )
    return callback


def _tqdm(progress: bool | None) -> Any:
    """Return the class of bars, or None where there shall be none."""
    if progress is False:
        return None
    try:
        return require("tqdm", "cli").tqdm
    except ImportError:
        if progress:
            raise
        return None


def _options(progress: bool | None, name: str) -> dict[str, Any]:
    """Return tqdm's options for a policy; `disable=None` is silent where there is no terminal."""
    return {
        "desc": name,
        "smoothing": 0.05,
        "miniters": 1,  # else a bar waits for as many items as it once had in a moment
        "disable": False if progress else None,
        "delay": 0.0 if progress else DELAY,
    }
