"""The progress bar of long work."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tqdm import tqdm


class Bar:
    """A tqdm bar, or nothing at all where it is not wanted or tqdm is missing.

    Parameters
    ----------
    wanted : bool
    name : str
    total : int, optional
        Left out where it is not known.
    unit : str
        What is counted, in the plural.
    terminal : bool
        Whether to show nothing where the output is not a terminal.
    """

    def __init__(
        self, wanted: bool, name: str, total: int | None, unit: str, *, terminal: bool = True
    ) -> None:
        self._bar: tqdm[Any] | None = None
        if not wanted:
            return
        try:
            from tqdm import tqdm
        except ImportError:
            return
        self._bar = tqdm(
            total=total,
            desc=name,
            unit=f" {unit}",
            unit_scale=True,
            disable=None if terminal else False,
            smoothing=0.05,
        )

    def update(self, count: int) -> None:
        """Count what has been done."""
        if self._bar is not None:
            self._bar.update(count)

    def skip(self, count: int) -> None:
        """Count what an earlier run has done, which must not flatter the rate."""
        if self._bar is not None and not self._bar.disable:
            self._bar.initial += count
            self._bar.n += count
            self._bar.refresh()

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._bar is not None:
            self._bar.close()
