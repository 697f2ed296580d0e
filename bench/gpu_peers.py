"""Other packages that compute kernels of networks on a device, each in a process of its own.

    python bench/gpu_peers.py "neural-tangents, depth 3" '[8192, 784, 3, 0]'

prints one line of JSON: seconds of calls and versions, or why there are none. It must not import
ntkfast. All inputs lie on the device; the call has ended when it returns.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from peers import gaussian_rows, numpy_recursion, versions_of

Call = Callable[[], Any]
RUNS = 7


class Shape(NamedTuple):
    """Rows, columns, hidden layers, and vectors of a product (none: the Gram matrix)."""

    n: int
    d: int
    depth: int
    columns: int

    def quick(self) -> Shape:
        """Return a shape that shows whether it runs."""
        return self._replace(n=40, d=6)


def neural_tangents(X: np.ndarray, Y: np.ndarray, shape: Shape) -> Call:
    """Prepare neural-tangents, jit-compiled."""
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    import jax

    if jax.default_backend() != "gpu":
        raise RuntimeError(f"JAX computes on {jax.default_backend()}, not on a device")
    # The experimental sub-package needs TensorFlow and none of it is used here.
    sys.modules["neural_tangents.experimental"] = types.ModuleType("neural_tangents.experimental")
    from neural_tangents import stax

    gains = [shape.d**0.5] + [2**0.5] * shape.depth
    layers = [layer for gain in gains for layer in (stax.Dense(1, gain), stax.Relu())][:-1]
    kernel = stax.serial(*layers)[2]
    compiled = jax.jit(lambda x, y: kernel(x, y, "ntk"))
    x, y = jax.numpy.asarray(X), jax.numpy.asarray(Y)
    return lambda: compiled(x, y).block_until_ready()


def pykeops(X: np.ndarray, Y: np.ndarray, shape: Shape) -> Call:
    """Prepare a reduction of PyKeOps over the same recursion, in tensors of PyTorch."""
    import torch
    from pykeops.torch import LazyTensor

    if not torch.cuda.is_available():
        raise RuntimeError("PyTorch has no device")
    x, y = (torch.from_numpy(a).cuda() for a in (X, Y))
    V = torch.from_numpy(gaussian_rows(len(Y), shape.columns, "float32", seed=3)).cuda()
    kernel = keops_kernel(x, y, shape.depth, LazyTensor)

    def call() -> Any:
        out = kernel @ V
        torch.cuda.synchronize()
        return out

    return call


def keops_kernel(x: Any, y: Any, depth: int, tensor: Any) -> Any:
    """Return the NTK of a ReLU network as a symbolic matrix of PyKeOps."""
    pi = float(np.pi)
    norms = [a.norm(dim=1, keepdim=True) for a in (x, y)]
    left, right = tensor((x / norms[0])[:, None, :]), tensor((y / norms[1])[None, :, :])
    u = (left | right).clamp(-1, 1)
    ntk = u
    for _ in range(depth):
        angle = u.acos()
        u, slope = ((1 - u * u).relu().sqrt() + u * (pi - angle)) / pi, 1 - angle / pi
        ntk = ntk * slope + u
    return ntk * tensor(norms[0][:, None, :]) * tensor(norms[1][None, :, :])


# KeOps writes out a formula, with no name for what occurs twice: every layer multiplies its length.
SHAPES = {
    "neural-tangents, depth 3": Shape(8192, 784, 3, 0),
    "neural-tangents, depth 10": Shape(8192, 784, 10, 0),
    "PyKeOps, depth 1": Shape(20_000, 784, 1, 10),
    "PyKeOps, d = 16, depth 1": Shape(50_000, 16, 1, 10),
}
PEERS = {
    "neural-tangents": (neural_tangents, ("neural-tangents", "jax", "jaxlib")),
    "PyKeOps": (pykeops, ("pykeops", "torch")),
}


def ask(python: str, case: str, shape: Shape, limit: float) -> dict[str, Any]:
    """Return the answer of a process that evaluates a peer, or why there is none."""
    command = [python, __file__, case, json.dumps(shape)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit, check=False)
        answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    except subprocess.TimeoutExpired:
        return {"error": f"not done in {limit:.0f} s"}
    except OSError as error:
        return {"error": str(error)}
    except (IndexError, ValueError):
        tail = done.stderr.strip().splitlines()[-1:]
        return {"error": f"exit status {done.returncode}: {' '.join(tail)}"}
    return answer


def check(found: np.ndarray, X: np.ndarray, Y: np.ndarray, shape: Shape) -> None:
    """Stop if a peer computes something else."""
    rows = X[:4]
    wanted = numpy_recursion(rows, Y, shape.depth)
    if shape.columns:
        wanted = wanted @ gaussian_rows(len(Y), shape.columns, "float32", seed=3)
    # TF32, which JAX takes where nobody says otherwise, is off by 2^-11 of a cosine.
    np.testing.assert_allclose(found, wanted, rtol=0, atol=0.02 * np.abs(wanted).max())


def evaluate(case: str, shape: Shape) -> dict[str, Any]:
    """Time a peer."""
    prepare, packages = PEERS[case.split(",")[0]]
    X, Y = (gaussian_rows(shape.n, shape.d, "float32", seed=seed) for seed in (1, 2))
    call = prepare(X, Y, shape)
    result = call()
    head = result[:4]
    check(np.asarray(head.cpu() if hasattr(head, "cpu") else head), X, Y, shape)
    del result, head
    seconds = []
    for _ in range(RUNS):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return {"seconds": seconds, "versions": versions_of(packages)}


def main() -> None:
    """Answer in one line."""
    try:
        answer = evaluate(sys.argv[1], Shape(*json.loads(sys.argv[2])))
    except Exception as error:  # what is missing or broken is a line in the table, not an end
        answer = {"error": f"{type(error).__name__}: {error}".splitlines()[0]}
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
