"""The command line: ``ntkfast gram``, ``spectrum``, ``demo``, ``bench`` and ``info``."""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from ntkfast.command.networks import flag, kernel_of
from ntkfast.command.parser import make_parser

TABLE_OPTIONS = "delimiter", "header"

# Nothing heavy here: each command imports what it needs, so that --help answers at once.


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments without the program's name; default ``sys.argv[1:]``.

    Returns
    -------
    int
        Exit status: 0 done, 2 wrong usage or data, 130 interrupted.

    Examples
    --------
    >>> from ntkfast.command import main
    >>> main(["gram", "missing.npy", "--network", "fc", "--depth", "3", "--out", "K.npy"])
    2
    """
    arguments = make_parser().parse_args(argv)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = partial(_show_warning, arguments.command)
            COMMANDS[arguments.command](arguments)
    except KeyboardInterrupt as error:
        notes = getattr(error, "__notes__", ["stopped"])
        print(f"\nntkfast: interrupted; {'; '.join(notes)}", file=sys.stderr)
        return 130
    except (ImportError, MemoryError, OSError, RuntimeError, TypeError, ValueError) as error:
        message = _by_option(_one_line(error), arguments)
        print(f"ntkfast {arguments.command}: error: {message}", file=sys.stderr)
        return 2
    return 0


def _show_warning(command: str, message: Warning | str, *_: object, **__: object) -> None:
    print(f"ntkfast {command}: warning: {message}", file=sys.stderr)


def _one_line(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return " ".join(str(error).split()) or type(error).__name__


def _by_option(message: str, arguments: argparse.Namespace) -> str:
    """Name the option where a message begins with the Python argument that it stands for."""
    name, colon, rest = message.partition(": ")
    known = name in vars(arguments) and name != "X"  # which stands alone
    return f"{flag(name)}: {rest}" if colon and known else message


def _gram(arguments: argparse.Namespace) -> None:
    from ntkfast import batch
    from ntkfast.batch.disk import stamp
    from ntkfast.batch.readers import is_text

    kernel = kernel_of(arguments)
    if arguments.Y_lengths is not None and arguments.Y is None:
        raise ValueError("--Y-lengths needs --Y")
    files = [arguments.X, arguments.Y, arguments.lengths, arguments.Y_lengths]
    for name in TABLE_OPTIONS:
        if getattr(arguments, name) is not None and not any(is_text(f) for f in files if f):
            raise ValueError(f"{flag(name)} is for tables of text, .csv or .tsv")
    X = _inputs(arguments, "X", "lengths")
    Y = _inputs(arguments, "Y", "Y_lengths")
    names = "out", "dtype", "tile", "engine", "threads", "progress", "resume", "overwrite"
    before = stamp(Path(arguments.out))
    K = batch.gram(kernel, X, Y, **{name: getattr(arguments, name) for name in names})
    found = f"{K.shape[0]} x {K.shape[1]} {K.dtype}, {K.nbytes / 1e6:.1f} MB"
    same = stamp(Path(arguments.out)) == before
    print(f"{arguments.out}: {'complete already, ' if same else ''}{found}")


def _inputs(arguments: argparse.Namespace, name: str, lengths: str) -> Any:
    """Open X or Y; padded sequences if they have lengths."""
    from ntkfast import batch, sequences

    file, steps = getattr(arguments, name), getattr(arguments, lengths)
    if steps is not None and arguments.network != "rntk":
        raise ValueError(f"--network {arguments.network} has no {flag(lengths)}")
    if file is None or steps is None:
        return None if file is None else batch.load_matrix(file, **_table_options(arguments, file))
    if (
        Path(steps).exists()
        and Path(arguments.out).exists()
        and os.path.samefile(steps, arguments.out)
    ):
        raise ValueError(f"out: expected another file than {flag(lengths)}, got {steps}")
    padded = batch.load_matrix(file, **_table_options(arguments, file))
    counts = batch.load_lengths(steps, **_table_options(arguments, steps))
    try:
        return sequences(padded, counts, channels=arguments.channels)
    except ValueError as error:
        argument, colon, rest = str(error).partition(": ")
        argument = {"X": name, "lengths": lengths}.get(argument, argument)
        raise ValueError(argument + colon + rest) from error


def _table_options(arguments: argparse.Namespace, file: str) -> dict[str, Any]:
    """Return how a table of text is to be read; nothing for other files."""
    from ntkfast.batch.readers import is_text

    return {name: getattr(arguments, name) for name in TABLE_OPTIONS} if is_text(file) else {}


def _spectrum(arguments: argparse.Namespace) -> None:
    from ntkfast import plot, spectrum

    out = arguments.out
    found = spectrum.mercer(
        kernel_of(arguments), arguments.dim, arguments.max_degree, radius=arguments.radius
    )
    if out is None or Path(out).suffix.lower() == ".csv":
        found.to_csv(out or sys.stdout)
    else:
        plot.save(plot.spectrum(found), out)
    if out is not None:
        print(f"{out}: {found!r}")


def _demo(arguments: argparse.Namespace) -> None:
    from ntkfast.command import demo

    demo.run(picture=arguments.picture, threads=arguments.threads, repeats=arguments.repeats)


def _bench(arguments: argparse.Namespace) -> None:
    from ntkfast.command import bench

    names = "n", "m", "dims", "depths", "dtypes", "threads", "repeats"
    rows = bench.compare(
        **{name: getattr(arguments, name) for name in names},
        report=lambda row: print(".", end="", file=sys.stderr, flush=True),
    )
    print(file=sys.stderr)
    shape = f"{arguments.n} x {arguments.m or arguments.n}"
    print(f"\n  NTK of a fully connected ReLU network, {shape} matrix")
    print(f"  ratio: time over that of the product, medians of {arguments.repeats} rounds\n")
    print(bench.table(rows) + "\n")


def _info(arguments: argparse.Namespace) -> None:
    from ntkfast import show_config

    show_config()


COMMANDS = {"gram": _gram, "spectrum": _spectrum, "demo": _demo, "bench": _bench, "info": _info}


if __name__ == "__main__":
    sys.exit(main())
