"""The files that the options name, opened: inputs, their lengths, and how tables are written."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import zip_longest
from pathlib import Path
from typing import Any

from ntkfast.command.networks import flag
from ntkfast.networks import Recurrent

HEADERS = {"X": "header", "Y": "Y_header", "y": "y_header"}  # whose first line an option speaks of
SHOWN = 6  # column names in a message


def check_tables(arguments: argparse.Namespace, *names: str) -> None:
    """Refuse options of tables where the arguments of these names are none."""
    from ntkfast.batch.readers import is_text

    files = {name: getattr(arguments, name) for name in names}
    tables = {name for name, file in files.items() if file and is_text(file)}
    wanted = {header: tables & {name} for name, header in HEADERS.items()}
    wanted["header"] = tables & {"X", "Y"}  # Y is taken to be written as X is
    for option, found in {"delimiter": tables, **wanted}.items():
        if getattr(arguments, option, None) is not None and not found:
            other = "; of y: --y-header" if option == "header" and "y" in tables else ""
            raise ValueError(f"{flag(option)} is for tables of text, .csv or .tsv{other}")


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
    if file is None:
        return None
    if steps is not None and is_same(steps, arguments.out):
        raise ValueError(f"out: expected another file than {flag(lengths)}, got {steps}")
    with _own_option(name):
        padded = batch.load_matrix(file, **table_options(arguments, name))
    if steps is None:
        return padded
    with _own_option(lengths):
        counts = batch.load_lengths(steps, **table_options(arguments, lengths))
    try:
        return sequences(padded, counts, channels=network.channels)
    except ValueError as error:
        argument, colon, rest = str(error).partition(": ")
        argument = {"X": name, "lengths": lengths}.get(argument, argument)
        raise ValueError(argument + colon + rest) from error


def targets(arguments: argparse.Namespace, name: str) -> tuple[Any, list[str] | None]:
    """Read targets or weights, and the names of their columns if they have any."""
    from ntkfast.batch.readers import named_targets

    with _own_option(name):
        return named_targets(getattr(arguments, name), **table_options(arguments, name))


def table_options(arguments: argparse.Namespace, name: str) -> dict[str, Any]:
    """Return how a table of text is to be read; nothing for other files."""
    from ntkfast.batch.readers import is_text

    if not is_text(getattr(arguments, name)):
        return {}
    header = getattr(arguments, HEADERS[name], None) if name in HEADERS else None
    if name == "Y" and header is None:
        header = arguments.header
    return {"delimiter": arguments.delimiter, "header": header}


def column_names(arguments: argparse.Namespace, name: str) -> list[str] | None:
    """Return the names of the columns of a table, None without."""
    from ntkfast.batch.readers import is_text
    from ntkfast.batch.tables import read_names

    file = getattr(arguments, name)
    if file is None or not is_text(file):
        return None
    return read_names(Path(file), **table_options(arguments, name))


def check_names(name: str, found: Sequence[str], wanted: Sequence[str], of: str) -> None:
    """Refuse columns that have other names than those of X, or another order.

    Raises
    ------
    ValueError
        With what is unknown, missing or elsewhere.
    """
    found, wanted = list(found), list(wanted)
    if found == wanted:
        return
    parts = {
        "unknown": [one for one in found if one not in wanted],
        "missing": [one for one in wanted if one not in found],
    }
    told = [f"{what}: {listed(names)}" for what, names in parts.items() if names]
    if not told:
        pairs = enumerate(zip_longest(found, wanted), 1)
        told = [next(f"column {i} is {is_}, was {was}" for i, (is_, was) in pairs if is_ != was)]
    raise ValueError(
        f"{name}: expected the columns of {of}, {listed(wanted)}, in this order; {'; '.join(told)}"
    )


def listed(names: Sequence[str]) -> str:
    """Return column names for a message, the first ones of many."""
    more = f", ... ({len(names)} columns)" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


@contextmanager
def _own_option(name: str) -> Iterator[None]:
    """Name the option of this very file where a message has that of X."""
    from ntkfast.batch.tables import ASK

    try:
        yield
    except ValueError as error:
        message = str(error)
        if name not in HEADERS:
            message = message.replace(ASK, "write a name above it")
        else:
            own = flag(HEADERS[name]).removeprefix("--")
            message = message.replace("--header", f"--{own}").replace("no-header", f"no-{own}")
        raise ValueError(message) from error


def is_same(file: str, out: str) -> bool:
    """Whether two names are those of one file that exists."""
    from ntkfast.batch.readers import file_of

    read, written = file_of(file), Path(out)
    return read.exists() and written.exists() and os.path.samefile(read, written)
