"""What kernels made of kernels have in common: parts by name, and how they are shown."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, ClassVar, TypeAlias

from numpy.typing import NDArray

#: A value at equal inputs, and what is missing from it at others.
Split: TypeAlias = tuple[Any, NDArray[Any]]
CALL = 2  # binds as strongly as a name or a call


class Named:
    """A kernel made of kernels and numbers; ``MAKERS[word](**named())`` makes an equal one.

    Attributes
    ----------
    word : str
        What it is, in files too.
    binds : int
        0 for a sum, 1 for products, `CALL` for the rest.
    """

    word: ClassVar[str]
    binds: ClassVar[int] = CALL

    def named(self) -> dict[str, Any]:
        """Return by their names what it is made of."""
        return {field.name: getattr(self, field.name) for field in fields(self)}  # type: ignore[arg-type]


def wrapped(kernel: object) -> str:
    """Return how a kernel is shown as a factor, or before a method."""
    weak = isinstance(kernel, Named) and kernel.binds < CALL
    return f"({kernel!r})" if weak else repr(kernel)
