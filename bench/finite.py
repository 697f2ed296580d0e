"""Times the empirical NTK of a finite network beside its matrix products, and the two-sample test.

    python bench/finite.py ntk [--width 4096 --depth 3 --rows 2000]
    python bench/finite.py mmd [--rows 20000]

"products" are the matrix products that the decomposition consists of, in NumPy, on arrays that
exist already: forward, backward, F F^T and B B^T. "torch.func" contracts Jacobians of batches, as
its tutorial does; it is timed on few rows, and the table gives time per pair of rows.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import ntkfast as nf
from ntkfast.finite import MLP, empirical_ntk


def seconds(run: Callable[[], Any]) -> float:
    """Return the time of one call; threads of BLAS have come to rest before."""
    time.sleep(0.2)
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def products(net: MLP, X: Any) -> Callable[[], None]:
    """Return a function that runs the bare matrix products."""
    rows = len(X)
    weights = [W.astype(X.dtype) for W in net.weights]
    F = [np.ascontiguousarray(one) for one in net.features(X)]
    B = [np.ascontiguousarray(one.reshape(rows, -1)) for one in net.backward(X)]

    def run() -> None:
        for f, W in zip(F, weights, strict=True):
            f @ W
        for b, W in zip(B[1:], weights[1:], strict=True):
            b @ W.T
        for f in F:
            f @ f.T
        for b in B[:-1]:
            b @ b.T

    return run


def torch_model(net: MLP) -> Any:
    """Return a network of the same shape in PyTorch."""
    import torch

    layers: list[Any] = []
    for W in net.weights:
        layers += [torch.nn.Linear(*W.shape, bias=False), torch.nn.ReLU()]
    return torch.nn.Sequential(*layers[:-1])


def ntk(options: argparse.Namespace) -> None:
    """Time the kernel, its products, and torch.func on fewer rows."""
    widths = (options.dim, *[options.width] * options.depth, 1)
    net = MLP(widths, "relu", rng=0)
    X = np.random.default_rng(0).normal(size=(options.rows, options.dim)).astype(np.float32)
    bare = products(net, X)
    runs = [(seconds(lambda: net.ntk(X)), seconds(bare)) for _ in range(options.repeats)]
    kernel, base = (float(np.median(column)) for column in zip(*runs, strict=True))
    pairs = options.rows**2
    print(f"{widths}, {options.rows} rows, float32")
    print(f"products    {base:8.3f} s")
    print(f"net.ntk     {kernel:8.3f} s   {kernel / base:5.2f} x products, "
          f"{kernel / pairs * 1e9:.3g} ns per pair")  # fmt: skip
    if options.torch_rows:
        model, part = torch_model(net), X[: options.torch_rows]
        empirical_ntk(model, part[:2], batch_size=2)
        taken = seconds(lambda: empirical_ntk(model, part, batch_size=options.torch_rows))
        per_pair = taken / len(part) ** 2
        print(f"torch.func  {taken:8.3f} s on {len(part)} rows, {per_pair * 1e9:.3g} ns per pair, "
              f"{per_pair / (kernel / pairs):.0f} x net.ntk")  # fmt: skip


def mmd(options: argparse.Namespace) -> None:
    """Time a test with 400 permutations and one bare product with the kernel."""
    X, Y = np.random.default_rng(0).normal(size=(2, options.rows, options.dim)).astype(np.float32)
    Z, w = np.concatenate([X, Y]), np.ones(2 * options.rows, np.float32)
    for name, kernel in (
        ("NTK, 1 hidden layer", nf.FullyConnected(1).ntk),
        ("finite NTK, 512 units", nf.statistics.softplus_network(options.dim).ntk),
    ):
        one = seconds(lambda k=kernel: k.matmul(Z, None, w))
        test = seconds(lambda k=kernel: nf.statistics.ntk_mmd_test(X, Y, kernel=k))
        print(f"{name:24s} {options.rows} + {options.rows} rows: one vector {one:6.2f} s, "
              f"400 permutations {test:6.2f} s")  # fmt: skip


def main() -> None:
    """Run one of the two."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("ntk", "mmd"))
    parser.add_argument("--width", type=int, default=4096)
    parser.add_argument("--depth", type=int, default=3)
    parser.add_argument("--dim", type=int, default=100)
    parser.add_argument("--rows", type=int)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--torch-rows", type=int, default=8)
    options = parser.parse_args()
    options.rows = options.rows or (2000 if options.what == "ntk" else 20_000)
    (ntk if options.what == "ntk" else mmd)(options)


if __name__ == "__main__":
    main()
