"""The progress bar of a batch job."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tqdm import tqdm


class Bar:
    """A tqdm bar in pairs, or nothing at all where tqdm or a terminal is missing."""

    def __init__(self, wanted: bool, name: str, total: int) -> None:
        self._bar: tqdm[Any] | None = None
        if not wanted:
            return
        try:
            from tqdm import tqdm
        except ImportError:
            return
        self._bar = tqdm(
            total=total, desc=name, unit=" pairs", unit_scale=True, disable=None, smoothing=0.05
        )

    def update(self, pairs: int) -> None:
        """Count pairs that have been written."""
        if self._bar is not None:
            self._bar.update(pairs)

    def skip(self, pairs: int) -> None:
        """Count pairs of an earlier run, which must not flatter the rate."""
        if self._bar is not None and not self._bar.disable:
            self._bar.initial += pairs
            self._bar.n += pairs
            self._bar.refresh()

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._bar is not None:
            self._bar.close()
