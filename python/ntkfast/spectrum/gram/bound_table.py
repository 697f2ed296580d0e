"""Bounds on the smallest eigenvalue of a Gram matrix, beside the eigenvalue that was computed."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ntkfast.arrays import checks
from ntkfast.spectrum.gram.eigenpairs import Extremes
from ntkfast.support.columns import Table

COLUMNS = (
    *("name", "direction", "value", "lambda_min", "ratio", "constant", "fitted", "applies"),
    *("assumptions", "reference", "note"),
)
EXACT, UNIT, LAW = "exact", "constant set to 1", "asymptotic law"


@dataclass(frozen=True)
class Check:
    """An assumption of a bound, and whether these data satisfy it (None: data cannot tell)."""

    text: str
    holds: bool | None

    def __str__(self) -> str:
        return {True: "yes", False: "NO", None: "?"}[self.holds] + ": " + self.text


@dataclass(frozen=True)
class Bound:
    """One row of a table of bounds.

    Attributes
    ----------
    name : str
    direction : {"lower", "upper", "limit"}
    value : float
        NaN where the bound cannot be formed for this kernel or these data.
    constant : {"exact", "constant set to 1", "asymptotic law"}
        Whether the number is the bound. "constant set to 1": the constant is not given by the
        theorem, only the dependence on the data means something.
    ratio : float
        Value over the computed smallest eigenvalue; NaN where that is zero to rounding.
    reference : str
    assumptions : tuple of Check
    note : str
    """

    name: str
    direction: str
    value: float
    constant: str
    ratio: float
    reference: str
    assumptions: tuple[Check, ...] = ()
    note: str = ""

    @property
    def applies(self) -> bool:
        """Whether the value exists and no assumption is known to fail."""
        failed = any(check.holds is False for check in self.assumptions)
        return not failed and not math.isnan(self.value)

    @property
    def fitted(self) -> float:
        """The constant that would make it an equality on these data; NaN where one is given.

        It is fitted, and not the theorem's.
        """
        return 1 / self.ratio if self.constant == UNIT and self.ratio > 0 else math.nan


@dataclass(frozen=True)
class BoundTable(Table):
    """Bounds beside the computed smallest eigenvalue (`ntkfast.spectrum.bounds`).

    Iterating gives the rows; ``str`` a text table.

    Attributes
    ----------
    rows : tuple of Bound
    lambda_min, error : float
        The computed smallest eigenvalue and its certified error.
    extremes : Extremes
        All that was computed.
    """

    rows: tuple[Bound, ...]
    lambda_min: float
    error: float
    extremes: Extremes

    def __iter__(self) -> Iterator[Bound]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, name: str) -> Bound:
        """Return the row with this name."""
        for row in self.rows:
            if row.name == name:
                return row
        raise KeyError(name)

    def best(self, direction: str) -> Bound:
        """Return the tightest exact bound that applies, "lower" or "upper"."""
        checks.choice("direction", direction, ("lower", "upper"))
        rows = [
            row
            for row in self.rows
            if row.applies and row.constant == EXACT and row.direction == direction
        ]
        if not rows:
            raise ValueError(f"direction: expected one with an exact bound, got {direction!r}")
        return (max if direction == "lower" else min)(rows, key=lambda row: row.value)

    def to_dict(self) -> dict[str, list[Any]]:
        """Return the columns by their names, one line per bound."""
        own = "name direction value constant fitted applies reference note ratio".split()
        columns = {name: [getattr(row, name) for row in self.rows] for name in own}
        columns["lambda_min"] = [self.lambda_min] * len(self.rows)
        columns["assumptions"] = ["; ".join(map(str, row.assumptions)) for row in self.rows]
        return {name: columns[name] for name in COLUMNS}

    def _caption(self) -> str:
        return f"smallest eigenvalue {self.lambda_min:.6g} within {self.error:.1e}"

    def __repr__(self) -> str:
        head = self._caption()
        width = max(len(row.name) for row in self.rows)
        lines = [head, f"{'bound':<{width}}  side          value     ratio  constant"]
        for row in self.rows:
            line = f"{row.name:<{width}}  {row.direction}  {row.value:>13.6g}  {row.ratio:>8.3g}"
            line += f"  {row.constant}"
            line += "" if math.isnan(row.fitted) else f" (fitted: {row.fitted:.3g})"
            lines.append(line if row.applies else line + ", does not apply")
            lines += [f"    NO: {c.text}" for c in row.assumptions if c.holds is False]
            lines += [f"    {row.note}"] if row.note else []
        return "\n".join(lines)
