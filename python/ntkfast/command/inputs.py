"""The files that the options name, opened: inputs, their lengths, and how tables are written."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from ntkfast.command.networks import flag
from ntkfast.networks import Recurrent

TABLE_OPTIONS = "delimiter", "header"


def check_tables(arguments: argparse.Namespace, *files: str | None) -> None:
    """Refuse options of tables where no file is one."""
    from ntkfast.batch.readers import is_text

    for name in TABLE_OPTIONS:
        if getattr(arguments, name) is not None and not any(is_text(f) for f in files if f):
            raise ValueError(f"{flag(name)} is for tables of text, .csv or .tsv")


def inputs(
    arguments: argparse.Namespace,
    name: str,
    lengths: str,
    kernel: Any,
) -> Any:
    """Open X or Y; padded sequences if they have lengths.

    Parameters
    ----------
    name, lengths : str
        The arguments that name the files.
    kernel : Kernel
        That of a recurrent network takes lengths.
    """
    from ntkfast import batch, sequences

    file, steps = getattr(arguments, name), getattr(arguments, lengths)
    network: Any = getattr(kernel, "network", None)
    if steps is not None and not isinstance(network, Recurrent):
        raise ValueError(f"{flag(lengths)} belongs to recurrent networks, got {kernel!r}")
    if file is None or steps is None:
        return None if file is None else batch.load_matrix(file, **table_options(arguments, file))
    if is_same(steps, arguments.out):
        raise ValueError(f"out: expected another file than {flag(lengths)}, got {steps}")
    padded = batch.load_matrix(file, **table_options(arguments, file))
    counts = batch.load_lengths(steps, **table_options(arguments, steps))
    try:
        return sequences(padded, counts, channels=network.channels)
    except ValueError as error:
        argument, colon, rest = str(error).partition(": ")
        argument = {"X": name, "lengths": lengths}.get(argument, argument)
        raise ValueError(argument + colon + rest) from error


def table_options(arguments: argparse.Namespace, file: str) -> dict[str, Any]:
    """Return how a table of text is to be read; nothing for other files."""
    from ntkfast.batch.readers import is_text

    return {name: getattr(arguments, name) for name in TABLE_OPTIONS} if is_text(file) else {}


def is_same(file: str, out: str) -> bool:
    """Whether two names are those of one file that exists."""
    from ntkfast.batch.readers import file_of

    read, written = file_of(file), Path(out)
    return read.exists() and written.exists() and os.path.samefile(read, written)
