"""Results that are tables: columns by their names, text in CSV, and HTML for notebooks."""

from __future__ import annotations

import csv
import html
import io
import os
from abc import abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any, TextIO

import numpy as np

from ntkfast.support.files import appearing

SHOWN = 40  # rows of a table in a notebook


class Table:
    """Base of results with columns of equal length."""

    __slots__ = ()

    def _caption(self) -> str:
        """Return what a notebook shows above the table."""
        return ""

    def _repr_html_(self) -> str:
        """Show the table in a notebook."""
        return html_table(self.to_dict(), self._caption())

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """Return the columns by their names, as ``pandas.DataFrame`` takes them."""

    def to_csv(self, file: str | os.PathLike[str] | TextIO | None = None) -> str | None:
        """Write the table as CSV, with a line of names.

        Parameters
        ----------
        file : path or open text file, optional
            A path appears when it is complete; an existing file is replaced.

        Returns
        -------
        str or None
            The text, if no file is given.

        Notes
        -----
        Numbers have the digits with which they are read back exactly.
        """
        if file is None:
            text = io.StringIO()
            self._write(text)
            return text.getvalue()
        if isinstance(file, (str, os.PathLike)):
            with appearing(file) as path, path.open("w", newline="", encoding="utf-8") as stream:
                self._write(stream)
        else:
            self._write(file)
        return None

    def _write(self, stream: TextIO) -> None:
        columns = self.to_dict()
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(columns)
        for row in zip(*columns.values(), strict=True):
            # Python's own numbers: those of NumPy write their type.
            writer.writerow([x.item() if isinstance(x, np.generic) else x for x in row])


def html_table(columns: Mapping[str, Any], caption: str = "") -> str:
    """Return columns of equal length as HTML; the middle of a long table is left out."""
    rows = list(zip(*columns.values(), strict=True))
    gap = [("...",) * len(columns)] if len(rows) > SHOWN else []
    shown = [*rows[: SHOWN // 2], *gap, *rows[-(SHOWN // 2) :]] if gap else rows
    lines = [f"<caption>{html.escape(caption)}</caption>"] if caption else []
    lines += ["<thead>" + _line(columns, "th") + "</thead>", "<tbody>"]
    lines += [_line(row, "td") for row in shown]
    return "<table>" + "\n".join([*lines, "</tbody></table>"])


def _line(cells: Iterable[Any], tag: str) -> str:
    return (
        "<tr>" + "".join(f"<{tag}>{html.escape(_text(cell))}</{tag}>" for cell in cells) + "</tr>"
    )


def _text(cell: Any) -> str:
    """Return a cell as it is read: six digits of a number."""
    return f"{cell:.6g}" if isinstance(cell, (float, np.floating)) else str(cell)
