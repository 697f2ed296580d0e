"""The command line: ``ntkfast gram``, ``spectrum``, ``demo``, ``bench`` and ``info``."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

# Nothing heavy here: each command imports what it needs, so that --help answers at once.

EPILOG = """\
examples:
  ntkfast gram X.npy --network fc --depth 3 --out K.npy
  ntkfast gram X.npy --network resnet --depth 10 --alpha 0.3 --y Y.npy --out K.npy
  ntkfast spectrum --network resnet --depth 10 --alpha 0.3 --dim 3 --out spectrum.png
  ntkfast demo
  ntkfast bench --threads 2
  ntkfast gram --help
"""

GRAM_EPILOG = """\
examples:
  the 10-layer residual kernel between two data sets, in single precision:
    ntkfast gram X.npy --network resnet --depth 10 --alpha 0.3 --y Y.npy --dtype float32 --out K.npy
  a table of numbers, with or without a line of column names:
    ntkfast gram points.csv --network laplace --rate 1 --out K.npy
  one array of an archive, the conventions of neural-tangents, another activation:
    ntkfast gram data.npz:images --network fc --depth 2 --parameterization ntk \\
        --w-std 1.5 --b-std 0.1 --activation erf --kernel nngp --out K.zarr

  the convolutional kernel with global average pooling, of images (n, height, width, channels):
    ntkfast gram images.npy --network cntk --depth 3 --readout gap --dtype float32 --out K.npy
  the recurrent kernel of sequences (n, steps) or (n, steps, channels), padded at their ends:
    ntkfast gram series.npy --lengths lengths.npy --network rntk --depth 1 --b-std 0.1 --out K.npy

An interrupted or killed job goes on where it stopped when the same command is run again.
K.npy appears when it is complete; until then there are K.npy.partial and K.npy.journal.

exit status: 0 done, 2 wrong usage or data, 130 interrupted
"""

SPECTRUM_EPILOG = """\
examples:
  a picture of the eigenvalues over the degree, on the sphere in three dimensions:
    ntkfast spectrum --network resnet --depth 10 --alpha 0.3 --dim 3 --out spectrum.png
  a table of 100,000 eigenvalues:
    ntkfast spectrum --network fc --depth 3 --dim 10 --max-degree 100000 --out spectrum.csv
  a kernel that depends on the norms, on the sphere of radius 1, to standard output:
    ntkfast spectrum --network laplace --rate 1 --dim 3 --radius 1 --max-degree 20
"""


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
    arguments = _parser().parse_args(argv)
    try:
        arguments.run(arguments)
    except KeyboardInterrupt as error:
        notes = getattr(error, "__notes__", ["stopped"])
        print(f"\nntkfast: interrupted; {'; '.join(notes)}", file=sys.stderr)
        return 130
    except (ImportError, MemoryError, OSError, RuntimeError, TypeError, ValueError) as error:
        print(f"ntkfast {arguments.command}: error: {_one_line(error)}", file=sys.stderr)
        return 2
    return 0


# --- Commands ------------------------------------------------------------------------------------


def _gram(arguments: argparse.Namespace) -> None:
    from ntkfast import batch

    kernel = _kernel(arguments)
    X, Y = _inputs(arguments)
    K = batch.gram(
        kernel,
        X,
        Y,
        out=arguments.out,
        dtype=arguments.dtype,
        tile=arguments.tile,
        engine=arguments.engine,
        threads=arguments.threads,
        progress=not arguments.no_progress,
        resume=not arguments.restart,
        overwrite=arguments.overwrite,
    )
    print(f"{arguments.out}: {K.shape[0]} x {K.shape[1]} {K.dtype}, {K.nbytes / 1e6:.1f} MB")


def _inputs(arguments: argparse.Namespace) -> tuple[Any, Any]:
    """Open X and Y; padded sequences if they have lengths."""
    from ntkfast import batch, sequences

    if arguments.y_lengths is not None and arguments.y is None:
        raise ValueError("--y-lengths needs --y")
    found: list[Any] = []
    for name, file, lengths in (
        ("--lengths", arguments.x, arguments.lengths),
        ("--y-lengths", arguments.y, arguments.y_lengths),
    ):
        if lengths is not None and arguments.network != "rntk":
            raise ValueError(f"--network {arguments.network} has no {name}")
        X = None if file is None else batch.load_matrix(file)
        found.append(X if lengths is None else sequences(X, batch.load_lengths(lengths)))
    return found[0], found[1]


def _spectrum(arguments: argparse.Namespace) -> None:
    from ntkfast import plot, spectrum

    out = arguments.out
    found = spectrum.mercer(
        _kernel(arguments), arguments.dim, arguments.max_degree, radius=arguments.radius
    )
    if out is None:
        spectrum.write_csv(found, sys.stdout)
        return
    if Path(out).suffix.lower() == ".csv":
        spectrum.write_csv(found, out)
    else:
        plot.save(plot.spectrum(found), out)
    print(f"{out}: {found!r}")


def _demo(arguments: argparse.Namespace) -> None:
    from ntkfast.command import demo

    picture = None if arguments.no_picture else arguments.picture
    demo.run(picture=picture, threads=arguments.threads)


def _bench(arguments: argparse.Namespace) -> None:
    from ntkfast.command import bench

    rows = bench.compare(
        n=arguments.size,
        dims=arguments.dims,
        depths=arguments.depths,
        dtypes=arguments.dtypes,
        threads=arguments.threads,
        repeats=arguments.repeats,
        report=lambda row: print(".", end="", file=sys.stderr, flush=True),
    )
    print(file=sys.stderr)
    print(f"\n  NTK of a fully connected ReLU network, {arguments.size} x {arguments.size} matrix")
    print(f"  ratio: time over that of the product, medians of {arguments.repeats} rounds\n")
    print(bench.table(rows) + "\n")


def _info(arguments: argparse.Namespace) -> None:
    from ntkfast import show_config

    show_config()


# --- From options to a kernel --------------------------------------------------------------------


@dataclass(frozen=True)
class _Network:
    """Which options a network takes, by the name of the constructor's parameter."""

    constructor: str
    required: tuple[str, ...]
    optional: tuple[str, ...] = ()
    is_kernel: bool = False


_NETWORKS = {
    "fc": _Network(
        "FullyConnected",
        ("depth",),
        ("activation", "parameterization", "w_std", "b_std", "bias"),
    ),
    "resnet": _Network(
        "ResNet",
        ("depth", "alpha"),
        ("trained", "normalize", "activation", "parameterization", "w_std", "v_std"),
    ),
    "cntk": _Network(
        "Convolutional",
        ("depth",),
        (
            "filter_size",
            "readout",
            "window",
            "padding",
            "parameterization",
            "w_std",
            "b_std",
            "shape",
        ),
    ),
    "rntk": _Network(
        "Recurrent",
        ("depth",),
        (
            "w_std",
            "u_std",
            "b_std",
            "h_std",
            "v_std",
            "activation",
            "direction",
            "readout",
            "fixed_layers",
        ),
    ),
    "arccosine": _Network("ArcCosine", ("order",), is_kernel=True),
    "laplace": _Network("Laplace", ("c",), ("inputs",), is_kernel=True),
    "exponential": _Network("ExponentialPower", ("gamma", "c"), ("inputs",), is_kernel=True),
    "gaussian": _Network("Gaussian", ("c",), ("inputs",), is_kernel=True),
}
_OPTIONS = {"c": "--rate", "gamma": "--power"}


def _kernel(arguments: argparse.Namespace) -> Any:
    """Make the kernel; an option that the network does not have is an error, not ignored."""
    import ntkfast

    network = _NETWORKS[arguments.network]
    known = {name for one in _NETWORKS.values() for name in one.required + one.optional}
    values = {name: getattr(arguments, name) for name in sorted(known)}
    given = {name: one for name, one in values.items() if one is not None and one is not False}
    for name in network.required:
        if name not in given:
            raise ValueError(f"--network {arguments.network} needs {_option(name)}")
    for name in given:
        if name not in network.required + network.optional:
            raise ValueError(f"--network {arguments.network} has no {_option(name)}")
    made = getattr(ntkfast, network.constructor)(**given)
    if not network.is_kernel:
        return getattr(made, arguments.kernel or "ntk")
    if arguments.kernel is not None:
        raise ValueError(f"--network {arguments.network} has no --kernel")
    return made


def _option(name: str) -> str:
    return _OPTIONS.get(name, "--" + name.replace("_", "-"))


# --- The parser ----------------------------------------------------------------------------------


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


class _Version(argparse.Action):
    """Prints the version."""

    def __init__(self, option_strings: Sequence[str], dest: str, **options: Any) -> None:
        super().__init__(option_strings, dest, nargs=0, help="print the version and stop")

    def __call__(self, parser: argparse.ArgumentParser, *rest: object) -> None:
        from ntkfast._version import __version__

        print(f"ntkfast {__version__}")
        parser.exit(0)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="ntkfast",
        description="Exact neural tangent and NNGP kernel matrices of infinitely wide networks.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action=_Version)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_gram(commands)
    _add_spectrum(commands)
    _add_demo(commands)
    _add_bench(commands)
    info = commands.add_parser("info", help="version, engines, instruction sets, threads")
    info.set_defaults(run=_info)
    return parser


def _add_gram(commands: Any) -> None:
    parser = commands.add_parser(
        "gram",
        help="write a Gram matrix to a file",
        description="Write the Gram matrix of a data set to a file, which may exceed memory.",
        epilog=GRAM_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=_gram)
    parser.add_argument(
        "x",
        metavar="X",
        help="inputs (n, d), images or sequences: .npy, .npz, .csv, .tsv or .zarr",
    )
    parser.add_argument("--y", metavar="Y", help="other inputs (m, d); default: X again")
    parser.add_argument(
        "--lengths", metavar="N", help="rntk: file with the steps that count of each sequence of X"
    )
    parser.add_argument("--y-lengths", metavar="N", help="rntk: the same for Y")
    parser.add_argument("--out", required=True, metavar="K", help="output, .npy or .zarr")
    _add_network(parser)
    job = parser.add_argument_group("the job")
    job.add_argument("--dtype", choices=("float32", "float64"), help="default: that of the inputs")
    job.add_argument("--tile", type=_tile, metavar="N", help="edge of a tile, or ROWSxCOLUMNS")
    job.add_argument("--engine", help="native or numba; default: the best one")
    job.add_argument("--threads", type=_positive, metavar="N", help="default: all cores")
    job.add_argument("--restart", action="store_true", help="discard what an earlier run has left")
    job.add_argument("--overwrite", action="store_true", help="replace the output if it exists")
    job.add_argument("--no-progress", action="store_true", help="show no bar")


def _add_spectrum(commands: Any) -> None:
    parser = commands.add_parser(
        "spectrum",
        help="Mercer eigenvalues on the sphere, as a table or a picture",
        description="Compute the eigenvalues of a kernel on the uniform sphere of any dimension.",
        epilog=SPECTRUM_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=_spectrum)
    parser.add_argument("--dim", type=_positive, required=True, metavar="D", help="of the inputs")
    parser.add_argument("--max-degree", type=int, default=1000, metavar="K", help="default: 1000")
    parser.add_argument("--radius", type=float, help="norm of the inputs; default: 1 if it is free")
    parser.add_argument(
        "--out", metavar="FILE", help=".csv, or a picture: .png, .pdf, .svg; default: CSV, printed"
    )
    _add_network(parser)


def _add_network(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("the network and its kernel")
    group.add_argument("--network", required=True, choices=tuple(_NETWORKS))
    group.add_argument("--kernel", choices=("ntk", "nngp"), help="default: ntk")
    group.add_argument(
        "--depth", type=int, metavar="L", help="fc, resnet, cntk, rntk: hidden layers"
    )
    group.add_argument("--alpha", type=float, help="resnet: factor of the residual branch")
    group.add_argument(
        "--trained", choices=("residual", "all", "last"), help="resnet: which layers are trained"
    )
    group.add_argument("--normalize", action="store_true", help="resnet: k(1) = 1")
    group.add_argument(
        "--activation",
        metavar="NAME",
        help='fc, resnet, rntk: relu, erf, tanh, "leaky_relu(0.1)", ...',
    )
    group.add_argument(
        "--parameterization",
        choices=("unit", "ntk"),
        help="fc, resnet, cntk: theory or neural-tangents",
    )
    group.add_argument(
        "--w-std", type=float, metavar="W", help="fc, resnet, cntk, rntk: scale of the weights"
    )
    group.add_argument("--u-std", type=float, metavar="U", help="rntk: scale of weights from below")
    group.add_argument(
        "--v-std", type=float, metavar="V", help="resnet, rntk: scale of outer weights, read-out"
    )
    group.add_argument(
        "--b-std", type=float, metavar="B", help="fc, ntk, cntk, rntk: scale of the biases"
    )
    group.add_argument("--h-std", type=float, metavar="H", help="rntk: scale of the initial state")
    group.add_argument(
        "--bias", type=float, metavar="BETA", help="fc, unit: trained biases, zero at the start"
    )
    group.add_argument("--filter-size", type=int, metavar="Q", help="cntk: odd; default: 3")
    group.add_argument(
        "--readout",
        metavar="NAME",
        help="cntk: flatten, gap or lap; rntk: last, average, average_normalized, average_released",
    )
    group.add_argument(
        "--direction",
        choices=("forward", "bidirectional"),
        help="rntk: bidirectional adds reversed ones",
    )
    group.add_argument(
        "--fixed-layers", type=int, metavar="K", help="rntk: lower layers that are not trained"
    )
    group.add_argument("--window", type=int, metavar="N", help="cntk, lap: pixels of an average")
    group.add_argument(
        "--padding", choices=("zero", "valid", "circular"), help="cntk: at the edges of images"
    )
    group.add_argument(
        "--shape", type=_shape, metavar="HxWxC", help="cntk: of the images in rows of numbers"
    )
    group.add_argument("--order", type=int, metavar="N", help="arccosine: 0, 1, 2 or 3")
    group.add_argument(
        "--rate", dest="c", type=float, metavar="C", help="laplace, exponential, gaussian: the rate"
    )
    group.add_argument(
        "--power", dest="gamma", type=float, metavar="G", help="exponential: the power of |x - y|"
    )
    group.add_argument(
        "--inputs",
        choices=("sphere", "homogeneous", "euclidean"),
        help="laplace, exponential, gaussian: how the kernel continues off the sphere",
    )


def _add_demo(commands: Any) -> None:
    parser = commands.add_parser(
        "demo",
        help="kernel regression on real digits, with timings and a picture",
        description="Learn handwritten digits with some kernels, time them, draw their profiles.",
    )
    parser.set_defaults(run=_demo)
    parser.add_argument("--picture", default="ntkfast-profiles.png", metavar="FILE")
    parser.add_argument("--no-picture", action="store_true", help="draw nothing")
    parser.add_argument("--threads", type=_positive, metavar="N", help="default: all cores")


def _add_bench(commands: Any) -> None:
    parser = commands.add_parser(
        "bench",
        help="time the kernel against the matrix product on this machine",
        description="Time ntk(X, Y) and NumPy's X @ Y.T in turn and print the ratios.",
    )
    parser.set_defaults(run=_bench)
    parser.add_argument("--size", type=_positive, default=2000, metavar="N", help="default: 2000")
    parser.add_argument("--dims", type=_positive, nargs="+", default=[10, 100, 784], metavar="D")
    parser.add_argument("--depths", type=_positive, nargs="+", default=[1, 3, 10, 100], metavar="L")
    parser.add_argument(
        "--dtypes", nargs="+", default=["float32", "float64"], choices=("float32", "float64")
    )
    parser.add_argument(
        "--threads", type=_positive, metavar="N", help="for both; default: all cores"
    )
    parser.add_argument("--repeats", type=_positive, default=7, metavar="N", help="default: 7")


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a positive integer, got {text}")
    return int(text)


def _tile(text: str) -> int | tuple[int, int]:
    match = re.fullmatch(r"(\d+)(?:[x,](\d+))?", text)
    if not match:
        raise argparse.ArgumentTypeError(f"expected N or ROWSxCOLUMNS, got {text}")
    return int(match[1]) if match[2] is None else (int(match[1]), int(match[2]))


def _shape(text: str) -> tuple[int, ...]:
    match = re.fullmatch(r"(\d+)[x,](\d+)[x,](\d+)", text)
    if not match:
        raise argparse.ArgumentTypeError(f"expected HEIGHTxWIDTHxCHANNELS, got {text}")
    return tuple(int(size) for size in match.groups())


def _one_line(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return " ".join(str(error).split()) or type(error).__name__


if __name__ == "__main__":
    sys.exit(main())
