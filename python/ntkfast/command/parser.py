"""The arguments of the commands; options have the names of the Python arguments they stand for."""

from __future__ import annotations

import argparse
import math
import re
from typing import Any, NoReturn

from ntkfast._version import __version__
from ntkfast.command import cluster
from ntkfast.command.networks import add_options
from ntkfast.support.telling import did_you_mean

EPILOG = """\
examples:
  ntkfast gram X.npy --network fc --depth 3 --out K.npy
  ntkfast gram X.npy --network resnet --depth 10 --alpha 0.3 --Y Y.npy --out K.npy
  ntkfast fit X.npy y.npy --network fc --depth 3 --ridge auto --out model.npz
  ntkfast predict model.npz Z.npy --out f.npy
  ntkfast spectrum --network resnet --depth 10 --alpha 0.3 --dim 3 --out spectrum.png
  ntkfast demo
  ntkfast bench --threads 2
  ntkfast gram --help
"""

GRAM_EPILOG = """\
examples:
  the 10-layer residual kernel between two data sets, in single precision:
    ntkfast gram X.npy --network resnet --depth 10 --alpha 0.3 --Y Y.npy --dtype float32 --out K.npy
  a table of numbers, with or without a line of column names:
    ntkfast gram points.csv --network laplace --c 2 --out K.npy
  one without such a line whose first row could be one, separated by semicolons:
    ntkfast gram points.csv --no-header --delimiter ";" --network laplace --c 2 --out K.npy
  one array of an archive (or data.zarr:images, data.h5:images), other conventions and activation:
    ntkfast gram data.npz:images --network fc --depth 2 --parameterization ntk \\
        --w-std 1.5 --b-std 0.1 --activation erf --kind nngp --out K.zarr

  the convolutional kernel with global average pooling, of images (n, height, width, channels):
    ntkfast gram images.npy --network cntk --depth 3 --readout gap --dtype float32 --out K.npy
  the recurrent kernel of sequences (n, steps) or (n, steps, channels), padded at their ends:
    ntkfast gram series.npy --lengths lengths.npy --network rntk --depth 1 --b-std 0.1 --out K.npy

An interrupted or killed job goes on where it stopped when the same command is run again.
K.npy appears when it is complete; until then there is K.npy.partial. K.npy.journal says what the
matrix is; the same command for a matrix that is complete has nothing to do.

exit status: 0 done, 2 wrong usage or data, 130 interrupted
"""

FIT_EPILOG = """\
examples:
  regression, with the ridge that predicts each row best from all others:
    ntkfast fit X.npy y.npy --network fc --depth 3 --out model.npz
  classes, from tables, of which the second has a name in its first line:
    ntkfast fit points.csv kinds.csv --y-header --network laplace --c 2 --out model.npz
  images, with a ridge of one's own:
    ntkfast fit data.npz:images data.npz:labels --network cntk --depth 3 --ridge 0.1 --out model.npz

Integers, bools and strings are classes, floats are numbers to predict, and so is all of a table of
numbers; --task says otherwise. The file has the column names of X, which predict compares. It has
no code: ntkfast.regression.load reads it in Python.

exit status: 0 done, 2 wrong usage or data, 130 interrupted
"""

PREDICT_EPILOG = """\
examples:
    ntkfast predict model.npz Z.npy --out f.npy
    ntkfast predict model.npz Z.csv --method predict_proba --out probabilities.csv

An interrupted or killed job goes on where it stopped when the same command is run again. f.npy
appears when it is complete; until then there is f.npy.partial, and f.npy.journal says what it is.
A table, .csv, has a column for each target or class, and their names where fit has seen them.

exit status: 0 done, 2 wrong usage or data, 130 interrupted
"""

SPECTRUM_EPILOG = """\
examples:
  a picture of the eigenvalues over the degree, on the sphere in three dimensions:
    ntkfast spectrum --network resnet --depth 10 --alpha 0.3 --dim 3 --out spectrum.png
  a table of 100,000 eigenvalues:
    ntkfast spectrum --network fc --depth 3 --dim 10 --max-degree 100000 --out spectrum.csv
  a kernel that depends on the norms, on the sphere of radius 1, to standard output:
    ntkfast spectrum --network laplace --c 2 --dim 3 --radius 1 --max-degree 20
"""

TASKS = "regression", "classification"
METHODS = "predict", "predict_proba", "decision_function"
EXACT_ROWS = "up to so many rows all is exact, beyond them leave-one-out is estimated"


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, with what may have been meant; abbreviates nothing."""

    def __init__(self, **options: Any) -> None:
        layout = argparse.RawDescriptionHelpFormatter
        super().__init__(formatter_class=layout, allow_abbrev=False, **options)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Refuse unknown options of a command here: what else is wrong may follow from them."""
        if self._subparsers is None:
            for word in args or ():
                name = word.partition("=")[0]
                if (
                    name.startswith("--")
                    and name != "--"
                    and name not in self._option_string_actions
                ):
                    meant = did_you_mean(name, self._option_string_actions)
                    self.error(f"unrecognized arguments: {name}{meant}")
            found, rest = super().parse_known_args(args, namespace)
            if rest:
                hint = "; the second input is --Y" if "--Y" in self._option_string_actions else ""
                self.error(f"unrecognized arguments: {' '.join(rest)}{hint}")
            return found, rest
        return super().parse_known_args(args, namespace)

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            known = ", ".join(map(str, action.choices))
            meant = did_you_mean(value, action.choices)
            message = f"invalid choice: {value!r} (choose from {known}){meant}"
            raise argparse.ArgumentError(action, message)

    def error(self, message: str) -> NoReturn:
        """Stop with status 2."""
        self.exit(2, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


def make_parser() -> Parser:
    """Make the parser of all commands."""
    parser = Parser(
        prog="ntkfast",
        description="Exact neural tangent and NNGP kernel matrices of infinitely wide networks.",
        epilog=EPILOG,
    )
    parser.add_argument("--version", action="version", version=f"ntkfast {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_gram(commands)
    _add_fit(commands)
    _add_predict(commands)
    _add_spectrum(commands)
    _add_demo(commands)
    _add_bench(commands)
    commands.add_parser("info", help="version, engines, instruction sets, threads")
    return parser


def _add_gram(commands: Any) -> None:
    parser = commands.add_parser(
        "gram",
        help="write a Gram matrix to a file",
        description="Write the Gram matrix of a data set to a file, which may exceed memory.",
        epilog=GRAM_EPILOG,
    )
    parser.add_argument(
        "X", help="inputs (n, d), images or sequences: .npy, .npz, .csv, .tsv, .h5 or .zarr"
    )
    parser.add_argument("--Y", metavar="Y", help="other inputs (m, d); default: X again")
    parser.add_argument(
        "--lengths", metavar="N", help="rntk: file with the steps that count of each sequence of X"
    )
    parser.add_argument("--Y-lengths", metavar="N", help="rntk: the same for Y")
    parser.add_argument("--out", required=True, metavar="K", help="output, .npy, .h5 or .zarr")
    add_options(parser)
    _add_table(parser, "Y")
    job = parser.add_argument_group("the job")
    job.add_argument(
        "--dtype",
        choices=("float32", "float64", "float16"),
        help="default: that of the inputs; float16 is computed in it, and rounded for the file",
    )
    job.add_argument("--tile", type=_tile, metavar="N", help="edge of a tile, or ROWSxCOLUMNS")
    _add_job(job, resume=True)
    cluster.add_options(job)


def _add_table(parser: argparse.ArgumentParser, other: str | None = None) -> None:
    """Add how tables are written, X and another argument."""
    table = parser.add_argument_group("tables of text")
    table.add_argument(
        "--delimiter", type=_character, metavar="C", help="default: , ; tab | or spaces"
    )
    table.add_argument(
        "--header",
        action=argparse.BooleanOptionalAction,
        help="whether column names come first in X; default: if no numbers do",
    )
    if other is not None:
        default = {"Y": "as for X", "y": "if no numbers do"}[other]
        table.add_argument(
            f"--{other}-header",
            action=argparse.BooleanOptionalAction,
            help=f"the same for {other}; default: {default}",
        )


def _add_job(job: Any, *, resume: bool) -> None:
    """Add how the work is done."""
    switch = argparse.BooleanOptionalAction
    job.add_argument("--engine", help="native or numba; default: the best one")
    job.add_argument("--threads", type=_positive, metavar="N", help="default: all cores")
    job.add_argument(
        "--progress", action=switch, help="show a bar; default: on a terminal, after some seconds"
    )
    if resume:
        job.add_argument(
            "--resume", action=switch, default=True, help="go on where an earlier run has stopped"
        )
    job.add_argument(
        "--overwrite", action=switch, default=False, help="replace the output if it exists"
    )


def _add_fit(commands: Any) -> None:
    parser = commands.add_parser(
        "fit",
        help="learn to predict, and write the model to a file",
        description="Fit kernel ridge regression, of numbers or of classes, and save the model.",
        epilog=FIT_EPILOG,
    )
    parser.add_argument(
        "X", help="inputs (n, d), images or sequences: .npy, .npz, .csv, .tsv, .h5 or .zarr"
    )
    parser.add_argument("y", help="targets (n,) or (n, targets), or classes (n,), the same kinds")
    parser.add_argument(
        "--lengths", metavar="N", help="rntk: file with the steps that count of each sequence"
    )
    parser.add_argument("--sample-weight", metavar="W", help="file with a weight >= 0 per input")
    parser.add_argument("--out", required=True, metavar="MODEL", help="output, .npz")
    parser.add_argument("--task", choices=TASKS, help="default: by the type of y")
    parser.add_argument(
        "--ridge",
        type=_ridge,
        default="auto",
        metavar="X",
        help="a number, or auto: by leave-one-out, the default",
    )
    add_options(parser)
    _add_table(parser, "y")
    job = parser.add_argument_group("the job")
    job.add_argument(
        "--exact-rows", type=int, default=5000, metavar="N", help=EXACT_ROWS + "; default: 5000"
    )
    job.add_argument("--method", default="auto", help="of the solver for more rows than these")
    job.add_argument("--memory", type=_positive, metavar="BYTES", help="of the solver")
    job.add_argument("--tol", type=float, default=1e-6, help="its residual; default: 1e-6")
    _add_job(job, resume=False)
    cluster.add_options(job)


def _add_predict(commands: Any) -> None:
    parser = commands.add_parser(
        "predict",
        help="predict with a model of fit",
        description="Predict part by part, from inputs that may exceed memory.",
        epilog=PREDICT_EPILOG,
    )
    parser.add_argument("model", help="a file that fit wrote")
    parser.add_argument("X", help="inputs like those of fit")
    parser.add_argument(
        "--lengths", metavar="N", help="rntk: file with the steps that count of each sequence"
    )
    parser.add_argument(
        "--network-file",
        metavar="FILE.py:NAME",
        help="that of fit, where the network has activations that are Python functions",
    )
    parser.add_argument("--out", required=True, metavar="F", help="output, .npy or .csv")
    parser.add_argument("--method", choices=METHODS, default=METHODS[0], help="default: predict")
    _add_table(parser)
    job = parser.add_argument_group("the job")
    job.add_argument("--rows", type=_positive, metavar="N", help="inputs of a part")
    _add_job(job, resume=True)
    cluster.add_options(job)


def _add_spectrum(commands: Any) -> None:
    parser = commands.add_parser(
        "spectrum",
        help="Mercer eigenvalues on the sphere, as a table or a picture",
        description="Compute the eigenvalues of a kernel on the uniform sphere of any dimension.",
        epilog=SPECTRUM_EPILOG,
    )
    parser.add_argument("--dim", type=_positive, required=True, metavar="D", help="of the inputs")
    parser.add_argument("--max-degree", type=int, default=1000, metavar="K", help="default: 1000")
    parser.add_argument("--radius", type=float, help="norm of the inputs; default: 1 if it is free")
    parser.add_argument(
        "--out", metavar="FILE", help=".csv, or a picture: .png, .pdf, .svg; default: CSV, printed"
    )
    add_options(parser)


def _add_demo(commands: Any) -> None:
    parser = commands.add_parser(
        "demo",
        help="predictions for real digits with error bars, timings and a picture",
        description="Learn handwritten digits with some kernels, time them, draw predictions.",
    )
    parser.add_argument(
        "--picture",
        default="ntkfast-predictions.png",
        metavar="FILE",
        help="where to draw predictions, .png, .pdf or .svg; default: ntkfast-predictions.png",
    )
    parser.add_argument(
        "--no-picture", dest="picture", action="store_const", const=None, help="draw nothing"
    )
    parser.add_argument("--threads", type=_positive, metavar="N", help="default: all cores")
    _add_repeats(parser)


def _add_bench(commands: Any) -> None:
    parser = commands.add_parser(
        "bench",
        help="time the kernel against the matrix product on this machine",
        description="Time ntk(X, Y) and NumPy's X @ Y.T in turn and print the ratios.",
    )
    parser.add_argument("--n", type=_positive, default=2000, help="rows of X; default: 2000")
    parser.add_argument("--m", type=_positive, help="rows of Y; default: as many")
    parser.add_argument("--dims", type=_positive, nargs="+", default=[10, 100, 784], metavar="D")
    parser.add_argument("--depths", type=_positive, nargs="+", default=[1, 3, 10, 100], metavar="L")
    parser.add_argument(
        "--dtypes", nargs="+", default=["float32", "float64"], choices=("float32", "float64")
    )
    parser.add_argument(
        "--threads", type=_positive, metavar="N", help="for both; default: all cores"
    )
    _add_repeats(parser)


def _add_repeats(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--repeats", type=_rounds, default=7, metavar="N", help="rounds, at least 2; default: 7"
    )


def _rounds(text: str) -> int:
    if not text.isdecimal() or int(text) < 2:  # quartiles need two
        raise argparse.ArgumentTypeError(f"expected an integer >= 2, got {text}")
    return int(text)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a positive integer, got {text}")
    return int(text)


def _ridge(text: str) -> float | str:
    if text == "auto":
        return text
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"expected a number >= 0 or auto, got {text}")
    return value


def _character(text: str) -> str:
    text = {"\\t": "\t", "tab": "\t"}.get(text, text)
    if len(text) != 1:
        raise argparse.ArgumentTypeError(f"expected one character or tab, got {text}")
    return text


def _tile(text: str) -> int | tuple[int, int]:
    match = re.fullmatch(r"(\d+)(?:[x,](\d+))?", text)
    if not match:
        raise argparse.ArgumentTypeError(f"expected N or ROWSxCOLUMNS, got {text}")
    return int(match[1]) if match[2] is None else (int(match[1]), int(match[2]))
