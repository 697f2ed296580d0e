"""Results that are tables: columns by their names, and text in CSV."""

from __future__ import annotations

import csv
import io
import os
from abc import abstractmethod
from typing import Any, TextIO

import numpy as np

from ntkfast.support.files import appearing


class Table:
    """Base of results with columns of equal length."""

    __slots__ = ()

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
