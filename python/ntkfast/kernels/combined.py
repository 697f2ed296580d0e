"""What kernels made of kernels have in common: parts by name, and how they are shown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Any, ClassVar, Self, TypeAlias, cast

from numpy.typing import NDArray

from ntkfast.kernels.arithmetic import MAKERS, Arithmetic

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

    def with_parts(self, parts: Mapping[str, Any]) -> Self:
        """Return the kernel of which some parts are others."""
        return cast(Self, MAKERS[self.word](**{**self.named(), **parts}))

    def named_kernels(self) -> dict[str, Any]:
        """Return those that are kernels."""
        return {name: part for name, part in self.named().items() if isinstance(part, Arithmetic)}

    def parameters(self) -> dict[str, float]:
        """Return those of the parts after their names, ``"k1.w_std"``; see `Kernel.parameters`."""
        return {
            f"{name}.{below}": value
            for name, part in self.named_kernels().items()
            for below, value in part.parameters().items()
        }

    def _moved(self, name: str, value: float) -> Self:
        first, _, below = name.partition(".")
        part = self.named()[first]._moved(below, value) if below else value
        return self.with_parts({first: part})

    @property
    def parameter_depth(self) -> int:
        """That of the deepest part."""
        return max(int(part.parameter_depth) for part in self.named_kernels().values())


def wrapped(kernel: object) -> str:
    """Return how a kernel is shown as a factor, or before a method."""
    weak = isinstance(kernel, Named) and kernel.binds < CALL
    return f"({kernel!r})" if weak else repr(kernel)


def below(label: str, names: Iterable[str]) -> list[str]:
    """Return the names of parameters that are those of a part, without its own."""
    return [name.removeprefix(f"{label}.") for name in names if name.startswith(f"{label}.")]


def steps_below(label: str, steps: Mapping[str, float]) -> dict[str, float]:
    """Return the steps of parameters that are those of a part."""
    return {name: steps[f"{label}.{name}"] for name in below(label, steps)}
