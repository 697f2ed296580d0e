"""A Mercer spectrum as a table of numbers."""

from __future__ import annotations

import csv
import os
from typing import TextIO

from ntkfast.spectrum.sphere.mercer import MercerSpectrum
from ntkfast.support.files import appearing

COLUMNS = ("degree", "eigenvalue", "log_eigenvalue", "mass", "log_multiplicity", "relative_error")


def write_csv(spectrum: MercerSpectrum, file: str | os.PathLike[str] | TextIO) -> None:
    """Write degree, eigenvalue, its logarithm, mass, log multiplicity and error, a line each.

    Parameters
    ----------
    spectrum : MercerSpectrum
        What `mercer` returns.
    file : path or open text file
        A path appears when it is complete; an existing file is replaced.

    Notes
    -----
    Numbers have 17 digits, so that they are read back exactly. Exact zeros have the logarithm
    ``-inf``; degrees that could not be resolved are ``nan`` with the error ``inf``.
    """
    if not isinstance(file, (str, os.PathLike)):
        _write(spectrum, file)
        return
    with appearing(file) as partial, partial.open("w", newline="", encoding="utf-8") as stream:
        _write(spectrum, stream)


def _write(spectrum: MercerSpectrum, stream: TextIO) -> None:
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(COLUMNS)
    columns = (
        spectrum.eigenvalues,
        spectrum.log_eigenvalues,
        spectrum.mass,
        spectrum.log_multiplicities,
        spectrum.error,
    )
    for degree, *numbers in zip(spectrum.degrees, *columns, strict=True):
        writer.writerow([int(degree), *(repr(float(x)) for x in numbers)])
