"""A process that evaluates one peer of ntkfast whenever it is asked, for bench/compare.py.

Every peer lives in a process of its own, because their environments exclude each other (old JAX,
Torch) and so do their precisions (neural-tangents has one per process), yet their timings must
interleave with those of ntkfast.  So the process builds its function once and then answers one
line on standard output per line on standard input: ``run`` with the seconds of one call, ``quit``
by ending.  It must not import ntkfast.

The network is the same for all: fully connected, ReLU, c_sigma = 2, no bias, starting from the
inner product x.y (``ntkfast.FullyConnected(depth)``).
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import types
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

Array = np.ndarray
Evaluate = Callable[[], Any]


def gaussian_rows(n: int, d: int, dtype: str, seed: int) -> Array:
    """Return n rows in d dimensions with standard normal entries."""
    return np.random.default_rng(seed).standard_normal((n, d)).astype(dtype)


def numpy_recursion(X: Array, Y: Array, depth: int) -> Array:
    """Return the NTK by the textbook recursion in the cosine."""
    scale = np.linalg.norm(X, axis=1)[:, None] * np.linalg.norm(Y, axis=1)
    pi = X.dtype.type(np.pi)
    u = np.clip(X @ Y.T / scale, -1, 1)
    ntk = u
    for _ in range(depth):
        angle = np.arccos(u)
        kappa0 = 1 - angle / pi
        u = np.clip((np.sqrt(1 - u * u) + u * (pi - angle)) / pi, -1, 1)
        ntk = ntk * kappa0 + u
    return ntk * scale


def numpy_peer(X: Array, Y: Array, depth: int, threads: int) -> Evaluate:
    """Prepare NumPy: the recursion on whole arrays."""
    return lambda: numpy_recursion(X, Y, depth)


def scikit_ntk_peer(X: Array, Y: Array, depth: int, threads: int) -> Evaluate:
    """Prepare scikit-ntk on (X, X), its cheap call: k(X, Y) evaluates the (n + m)^2 square."""
    from skntk import NeuralTangentKernel

    kernel = NeuralTangentKernel(depth=depth, bias=0.0)
    return lambda: kernel(X)


def torch_peer(X: Array, Y: Array, depth: int, threads: int) -> Evaluate:
    """Prepare the same recursion as one fused function of torch.compile."""
    import torch

    torch.set_num_threads(threads)
    pi = float(np.pi)

    def recursion(x: Any, y: Any) -> Any:
        scale = torch.linalg.norm(x, dim=1)[:, None] * torch.linalg.norm(y, dim=1)
        u = torch.clamp(x @ y.T / scale, -1, 1)
        ntk = u
        for _ in range(depth):
            angle = torch.arccos(u)
            kappa0 = 1 - angle / pi
            u = torch.clamp((torch.sqrt(1 - u * u) + u * (pi - angle)) / pi, -1, 1)
            ntk = ntk * kappa0 + u
        return ntk * scale

    compiled = torch.compile(recursion, fullgraph=True, dynamic=False)
    x, y = torch.from_numpy(X), torch.from_numpy(Y)

    def evaluate() -> Any:
        with torch.no_grad():
            return compiled(x, y)

    return evaluate


def neural_tangents_peer(X: Array, Y: Array, depth: int, threads: int) -> Evaluate:
    """Prepare neural-tangents, jit-compiled, in the precision of X."""
    import jax

    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_enable_x64", X.dtype == np.float64)
    # The experimental sub-package needs TensorFlow and none of it is used here.
    sys.modules["neural_tangents.experimental"] = types.ModuleType("neural_tangents.experimental")
    from neural_tangents import stax

    gains = [X.shape[1] ** 0.5] + [2**0.5] * depth
    layers = [layer for gain in gains for layer in (stax.Dense(1, gain), stax.Relu())][:-1]
    kernel = stax.serial(*layers)[2]
    compiled = jax.jit(lambda x, y: kernel(x, y, "ntk"))
    x, y = jax.numpy.asarray(X), jax.numpy.asarray(Y)
    return lambda: compiled(x, y).block_until_ready()


PEERS: dict[str, tuple[Callable[..., Evaluate], tuple[str, ...]]] = {
    "numpy": (numpy_peer, ("numpy",)),
    "scikit-ntk": (scikit_ntk_peer, ("scikit-ntk", "scikit-learn", "numpy")),
    "torch.compile": (torch_peer, ("torch",)),
    "neural-tangents": (neural_tangents_peer, ("neural-tangents", "jax", "jaxlib")),
}


def versions_of(packages: tuple[str, ...]) -> dict[str, str]:
    """Return the installed versions of some packages."""
    found = {}
    for name in packages:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "unknown"
    return found


def normalisation(peer: str, depth: int) -> float:
    """Return the factor that turns a peer's value into T_L of the c_sigma = 2 network."""
    return depth + 1.0 if peer == "scikit-ntk" else 1.0


def limit_threads(threads: int) -> None:
    """Bind the process to as many cores as threads: JAX listens to nothing else."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])


def answer(message: dict[str, Any]) -> None:
    """Write one line for the process that asked."""
    print(json.dumps(message), flush=True)


def serve(peer: str, n: int, d: int, depth: int, dtype: str, threads: int) -> None:
    """Build a peer's function, warm it up, and run it once per line until told to quit."""
    X, Y = gaussian_rows(n, d, dtype, seed=1), gaussian_rows(n, d, dtype, seed=2)
    build, packages = PEERS[peer]
    started = time.perf_counter()
    try:
        evaluate = build(X, Y, depth, threads)
        result = np.asarray(evaluate())
    except Exception as error:  # a missing or broken peer is a line in the table, not an end
        answer({"error": f"{type(error).__name__}: {error}".splitlines()[0]})
        return
    first_call = time.perf_counter() - started
    sample = result[:4, 4:8] * normalisation(peer, depth)
    answer({"first_call": first_call, "versions": versions_of(packages), "sample": sample.tolist()})
    del result
    for line in sys.stdin:
        if line.strip() != "run":
            return
        started = time.perf_counter()
        result = evaluate()
        seconds = time.perf_counter() - started
        del result
        answer({"seconds": seconds})


def main() -> None:
    """Read the command line and serve."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("peer", choices=PEERS)
    for name in ("n", "d", "depth", "threads"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--dtype", choices=("float32", "float64"), required=True)
    arguments = parser.parse_args()
    limit_threads(arguments.threads)
    serve(**vars(arguments))


if __name__ == "__main__":
    main()
