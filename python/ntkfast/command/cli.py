"""The command line: ``ntkfast gram``, ``fit``, ``predict``, ``spectrum``, ``demo`` and others."""

from __future__ import annotations

import argparse
import logging
import os
import re
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from ntkfast.command.inputs import check_names, check_tables, column_names, inputs
from ntkfast.command.networks import flag, kernel_of
from ntkfast.command.parser import make_parser

ALONE = "X", "y", "model"  # arguments that no option stands for

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
        with warnings.catch_warnings(), _what_goes_on_shown(arguments.command):
            warnings.showwarning = partial(_show_warning, arguments.command)
            COMMANDS[arguments.command](arguments)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader, `head` for instance, has seen enough
        os.dup2(
            os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno()
        )  # what Python flushes at exit
    except KeyboardInterrupt as error:
        notes = getattr(error, "__notes__", ["stopped"])
        print(f"\nntkfast: interrupted; {'; '.join(notes)}", file=sys.stderr)
        return 130
    except (ImportError, MemoryError, OSError, RuntimeError, TypeError, ValueError) as error:
        message = _for_shell(_one_line(error), arguments)
        print(f"ntkfast {arguments.command}: error: {message}", file=sys.stderr)
        return 2
    return 0


@contextmanager
def _what_goes_on_shown(command: str) -> Iterator[None]:
    logger, handler = logging.getLogger("ntkfast"), logging.StreamHandler()
    handler.setFormatter(logging.Formatter(f"ntkfast {command}: %(message)s"))
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(logging.NOTSET)


def _show_warning(command: str, message: Warning | str, *_: object, **__: object) -> None:
    print(f"ntkfast {command}: warning: {message}", file=sys.stderr)


def _one_line(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    told = "; ".join([str(error), *getattr(error, "__notes__", [])])
    return " ".join(told.split()) or type(error).__name__


def _for_shell(message: str, arguments: argparse.Namespace) -> str:
    """Name options where a message has the Python arguments that they stand for."""
    options = set(vars(arguments)) - {*ALONE, "command"}
    name, colon, rest = message.partition(": ")
    if name == "path":  # of what plots and models save
        name = "out"
    if colon and name in options:
        message = f"{flag(name)}: {rest}"

    def advice(found: re.Match[str]) -> str:
        return f"{found[1]}{flag(found[2])} {found[4]}" if found[2] in options else found[0]

    # "--overwrite, overwrite=True" says it for both, 'take method="cg"' for Python alone
    given = rf"(?:{'|'.join(options)})=(?:True|False)(?: or False)?"
    message = re.sub(rf", {given}(?=\))| \({given}\)", "", message)
    message = re.sub(rf"\buse ({'|'.join(options)})\b", lambda one: "use " + flag(one[1]), message)
    said = r'\b(take |example |with it, got |belongs to )(\w+)=("?)([\w.-]+)\3'
    return re.sub(said, advice, message)


def _gram(arguments: argparse.Namespace) -> None:
    from ntkfast import batch
    from ntkfast.batch.disk import stamp
    from ntkfast.command.cluster import client_of

    kernel = kernel_of(arguments)
    if arguments.Y_lengths is not None and arguments.Y is None:
        raise ValueError("--Y-lengths needs --Y")
    check_tables(arguments, "X", "Y", "lengths", "Y_lengths")
    X = inputs(arguments, "X", "lengths", kernel)
    Y = inputs(arguments, "Y", "Y_lengths", kernel)
    columns, others = (column_names(arguments, name) for name in "XY")
    if columns and others and kernel.of_rows:
        check_names("Y", others, columns, "X")
    names = "out", "dtype", "tile", "engine", "progress", "resume", "overwrite"
    options = {name: getattr(arguments, name) for name in names}
    before = stamp(Path(arguments.out))
    with client_of(arguments) as client:
        if client is None:
            K = batch.gram(kernel, X, Y, threads=arguments.threads, **options)
        else:
            from ntkfast import dask

            K = dask.gram(kernel, X, Y, client=client, **options)
    found = f"{K.shape[0]} x {K.shape[1]} {K.dtype}, {K.nbytes / 1e6:.1f} MB"
    same = stamp(Path(arguments.out)) == before
    print(f"{arguments.out}: {'complete already, ' if same else ''}{found}")


def _fit(arguments: argparse.Namespace) -> None:
    from ntkfast.command import models

    models.fit(arguments)


def _predict(arguments: argparse.Namespace) -> None:
    from ntkfast.command import models

    models.predict(arguments)


def _spectrum(arguments: argparse.Namespace) -> None:
    from ntkfast import plot, spectrum

    out = arguments.out
    if out is not None:
        _check_spectrum_file(Path(out))
    found = spectrum.mercer(
        kernel_of(arguments), arguments.dim, arguments.max_degree, radius=arguments.radius
    )
    if out is None or Path(out).suffix.lower() == ".csv":
        found.to_csv(out or sys.stdout)
    else:
        plot.save(plot.spectrum(found), out)
    if out is not None:
        print(f"{out}: {found!r}")


def _check_spectrum_file(out: Path) -> None:
    """Refuse what is neither a table nor a picture, before the work."""
    from ntkfast.support.files import require_folder
    from ntkfast.support.optional import require

    require_folder("out", out)
    if out.suffix.lower() != ".csv":
        canvas = require("matplotlib.backend_bases", "plot").FigureCanvasBase
        known = sorted(canvas.get_supported_filetypes())
        if out.suffix.lower().removeprefix(".") not in known:
            raise ValueError(
                "out: expected a path ending in .csv, or for a picture in "
                f".{', .'.join(known)}, got {out}"
            )


def _demo(arguments: argparse.Namespace) -> None:
    from ntkfast.command import demo

    demo.run(picture=arguments.picture, threads=arguments.threads, repeats=arguments.repeats)


def _bench(arguments: argparse.Namespace) -> None:
    from ntkfast.command import bench

    shape = f"{arguments.n} x {arguments.m or arguments.n}"
    print(f"\n  NTK of a fully connected ReLU network, {shape} matrix")
    print(f"  ratio: time over that of the product, medians of {arguments.repeats} rounds\n")
    shown = 0

    def report(row: bench.Row) -> None:
        nonlocal shown
        lines = bench.table([row]).splitlines()
        print("\n".join(lines[-1:] if shown else lines), flush=True)
        shown += 1

    names = "n", "m", "dims", "depths", "dtypes", "threads", "repeats"
    bench.compare(**{name: getattr(arguments, name) for name in names}, report=report)
    print()


def _info(arguments: argparse.Namespace) -> None:
    from ntkfast import show_config

    show_config()


COMMANDS = {
    "gram": _gram,
    "fit": _fit,
    "predict": _predict,
    "spectrum": _spectrum,
    "demo": _demo,
    "bench": _bench,
    "info": _info,
}


if __name__ == "__main__":
    sys.exit(main())
