"""Tables of numbers as text: delimiters found, column names told from data, faults by line."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ntkfast.arrays.panels import panels

DELIMITERS = ",;\t| "  # the order in which they are tried
_SAMPLE = 20  # lines that are looked at
_WRITTEN = 1 << 22  # bytes of an array that become text at a time
_MISSING = {"na", "n/a", "nan", "null", "none", "missing"}
ASK = "say --header or --no-header (header=True or False)"


def read_table(
    path: Path, *, delimiter: str | None = None, header: bool | None = None
) -> NDArray[np.float64]:
    """Read a table; `delimiter` and `header` say what would be guessed from its first lines.

    Raises
    ------
    ValueError, OSError
        With the line of what is no number, or what can be names as well as data.
    """
    delimiter = _delimiter(path, delimiter)
    skip, names = _head(path, delimiter, header)
    try:
        table = np.loadtxt(
            path,
            delimiter=None if delimiter == " " else delimiter,
            skiprows=skip,
            ndmin=2,
            encoding="utf-8-sig",
            comments="#",
            quotechar='"',
        )
    except ValueError:  # its message counts neither blank lines nor names
        table = _line_by_line(path, delimiter, skip)
    if names and len(names) != table.shape[1]:
        raise ValueError(
            f"line {skip} has {len(names)} column names, and there are {table.shape[1]} columns; "
            "a line of anything else begins with '#'"
        )
    return table


def read_names(
    path: Path, *, delimiter: str | None = None, header: bool | None = None
) -> list[str] | None:
    """Read the column names of a table that `read_table` reads; None if it has none."""
    return _head(path, _delimiter(path, delimiter), header)[1] or None


def read_words(path: Path) -> list[str] | None:
    """Read a column of cells as they are written; None where a line has several."""
    with open(path, encoding="utf-8-sig", newline="") as file:
        lines = [cells for _, cells in _records(file, ",")]
    return [cells[0] for cells in lines] if all(len(cells) == 1 for cells in lines) else None


def write_table(path: Path, values: NDArray[Any], names: Sequence[str] | None = None) -> None:
    """Write rows of numbers, with digits that give them back, or of strings, which get quotes."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n")
        if names is not None:
            writer.writerow(names)
        for part in panels(len(values), values[:1].nbytes, _WRITTEN):
            block = values[part].reshape(-1, values[0].size)
            if block.dtype == np.float32:  # the digits that are its own
                block = block.astype(str).astype(np.float64)
            writer.writerows(block.tolist())


def is_number(cell: str) -> bool:
    """Whether a cell of a table is a number."""
    try:
        float(cell)
    except ValueError:
        return False
    return "_" not in cell


def _records(lines: Iterable[str], delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Yield lines that are neither blank nor comments: the number of each, and its cells."""

    def cleaned() -> Iterator[str]:
        for line in lines:
            text = line if '"' in line and not line.lstrip().startswith("#") else line.split("#")[0]
            yield " ".join(text.split()) if delimiter == " " else text.rstrip("\r\n")

    reader = csv.reader(cleaned(), delimiter=delimiter, skipinitialspace=True)
    for cells in reader:
        if any(cells) or len(cells) > 1:
            yield reader.line_num, [cell.strip() for cell in cells]


def _delimiter(path: Path, given: str | None) -> str:
    """Choose the delimiter between whose cells a line of numbers stands; else one that is there."""
    if given is not None:
        if len(given) != 1 or given in '"#\r\n':
            raise ValueError(f"delimiter: expected one character, got {given!r}")
        return given
    tried = "\t,;| " if path.suffix.lower() == ".tsv" else DELIMITERS
    with open(path, encoding="utf-8-sig", newline="") as file:
        sample = list(islice(file, _SAMPLE))
    split = {one: [cells for _, cells in _records(sample, one) if len(cells) > 1] for one in tried}
    for is_cell in (is_number, _has_comma):
        for one, found in split.items():
            if any(all(map(is_cell, cells)) for cells in found):
                return one
    return next((one for one, found in split.items() if found and one != " "), tried[0])


def _has_comma(cell: str) -> bool:
    """Whether a cell is a number, perhaps with a comma in it."""
    return is_number(cell.replace(",", ""))


def _head(path: Path, delimiter: str, header: bool | None) -> tuple[int, list[str]]:
    """Count the lines up to and with a line of column names, and return the names."""
    with open(path, encoding="utf-8-sig", newline="") as file:
        records = _records(file, delimiter)
        number, first = next(records, (0, []))
        data = bool(first)
        if header is None:
            header = data and _are_names(number, first)
        if header:
            data = next(records, None) is not None
    if not data:
        raise ValueError("it has no data")
    return (number, first) if header else (0, [])


def _are_names(number: int, cells: list[str]) -> bool:
    """Tell column names from data; ask where they can be either."""
    if len(cells) > 1 and cells[0] in ("", "Unnamed: 0") and all(cells[1:]):
        raise ValueError(
            f"line {number}: the first column has no name, like an index that pandas writes; "
            "write the table without it (index=False), or say --header (header=True) if it is data"
        )
    if cells == [str(i) for i in range(len(cells))]:
        raise ValueError(f"line {number}: {', '.join(cells)} can be column names or data; {ASK}")
    # Names only: a line with some numbers is data, and its bad cell deserves an error. Names have
    # letters, and do not say that a number is missing.
    lettered = [cell.lower() for cell in cells if any(map(str.isalpha, cell))]
    return not any(map(is_number, cells)) and not set(lettered) <= _MISSING


def _line_by_line(path: Path, delimiter: str, skip: int) -> NDArray[np.float64]:
    """Read the numbers, or say which line has none."""
    rows: list[list[float]] = []
    with open(path, encoding="utf-8-sig", newline="") as file:
        for number, cells in _records(file, delimiter):
            if number <= skip:
                continue
            if rows and len(cells) != len(rows[0]):
                raise ValueError(
                    f"line {number}: expected {len(rows[0])} columns like the lines before, "
                    f"got {len(cells)}"
                )
            for column, cell in enumerate(cells, 1):
                if not is_number(cell):
                    hint = f"; {ASK}" if not rows and not skip else ""
                    if _has_comma(cell):
                        hint = "; numbers have points, not commas"
                    raise ValueError(
                        f"line {number}, column {column}: expected a number, got {cell!r}{hint}"
                    )
                if not math.isfinite(float(cell)):
                    raise ValueError(
                        f"line {number}, column {column}: expected a finite number, got {cell!r}"
                    )
            rows.append([float(cell) for cell in cells])
    return np.array(rows)
