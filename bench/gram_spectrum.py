"""Times the extreme eigenvalues of Gram matrices, method by method, against dense eigh.

    python bench/gram_spectrum.py                                # n = 2,000 and 8,000
    python bench/gram_spectrum.py --rows 20000 --methods cholesky,iterative
    python bench/gram_spectrum.py --rows 100000 --dims 3,10 --limit 60

Rows are uniform on the sphere S^{d-1}, the kernel is the NTK of three hidden ReLU layers. A run of
`--limit` passes stops there and shows the certified error it has reached: at 100,000 rows one pass
is 10^10 kernel values. The last column extrapolates a pass to 10^6 rows, by (10^6 / n)^2.
"""

from __future__ import annotations

import argparse
import resource
import time
import warnings
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

import ntkfast as nf
from ntkfast.spectrum import extremes

NTK = nf.FullyConnected(3).ntk
DIRECT = 20_000  # rows up to which a matrix is formed
EIGH = 8_000  # rows up to which the baseline runs


def sphere(n: int, d: int, dtype: str) -> NDArray[np.floating]:
    """Return uniform points."""
    X = np.random.default_rng(0).normal(size=(n, d))
    return (X / np.linalg.norm(X, axis=1, keepdims=True)).astype(dtype)


def baseline(X: NDArray[np.floating]) -> str:
    """Time all eigenvalues and vectors by LAPACK."""
    start = time.perf_counter()
    values = linalg.eigh(NTK(X.astype(np.float64)), overwrite_a=True)[0]
    return f"{time.perf_counter() - start:8.1f}  {values[0]:.6e}  {'':8}"


def run(X: NDArray[np.floating], method: str, tol: float | None, limit: int) -> str:
    """Time one method."""
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # the table shows what was reached
        found = extremes(NTK, X, method=method, tol=tol, max_iterations=limit, progress=True)
    seconds = time.perf_counter() - start
    relative = found.smallest_error[0] / found.smallest[0]
    line = f"{seconds:8.1f}  {found.smallest[0]:.6e}  {relative:8.1e}  {found.condition:9.1e}"
    return line + f"  {found.iterations:10d}  {found.passes:6d}"


def one_pass(X: NDArray[np.floating]) -> float:
    """Seconds of one product with nine vectors."""
    V = np.ones((len(X), 9), X.dtype)
    start = time.perf_counter()
    NTK.matmul(X, None, V)
    return time.perf_counter() - start


def table(args: argparse.Namespace) -> Iterator[str]:
    """Yield the lines."""
    yield (
        "      n    d  method       seconds  smallest      rel.err.  condition  iterations  passes"
        "  pass s  GB  10^6 rows: hours a pass"
    )
    for n in args.rows:
        for d in args.dims:
            X = sphere(n, d, args.dtype)
            unit = one_pass(X)
            for method in args.methods:
                if method == "eigh":
                    if n <= EIGH:
                        yield f"{n:7d} {d:4d}  {method:9}  {baseline(X)}"
                elif method == "iterative" or n <= DIRECT:
                    line = f"{n:7d} {d:4d}  {method:9}  {run(X, method, args.tol, args.limit)}"
                    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
                    hours = unit * (1e6 / n) ** 2 / 3600
                    yield f"{line}  {unit:6.2f}  {memory:.1f}  {hours:.2f}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    numbers = lambda text: [int(part) for part in text.split(",")]  # noqa: E731
    parser.add_argument("--rows", type=numbers, default=[2000, 8000])
    parser.add_argument("--dims", type=numbers, default=[3, 10])
    parser.add_argument(
        "--methods", type=lambda text: text.split(","), default=["cholesky", "iterative", "eigh"]
    )
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float64")
    parser.add_argument("--tol", type=float, help="relative residual wanted")
    parser.add_argument("--limit", type=int, default=200, help="iterations at most, at each end")
    for line in table(parser.parse_args()):
        print(line, flush=True)


if __name__ == "__main__":
    main()
