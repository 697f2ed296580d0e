"""Other packages that compute the same kernels, each as a function that is ready to be timed.

Networks are those of ``ntkfast.FullyConnected(depth)`` (ReLU, c_sigma = 2, no bias, starting from
the inner product x.y) and ``ntkfast.Convolutional(3)``.  Must not import ntkfast: the benchmark of
the CUDA engine runs it in other environments.
"""

from __future__ import annotations

import sys
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


def numpy_peer(X: Array, Y: Array, depth: int) -> Evaluate:
    """Prepare NumPy: the recursion on whole arrays."""
    return lambda: numpy_recursion(X, Y, depth)


def scikit_ntk_peer(X: Array, Y: Array, depth: int) -> Evaluate:
    """Prepare scikit-ntk on (X, X), its cheap call: k(X, Y) evaluates the (n + m)^2 square."""
    from skntk import NeuralTangentKernel

    kernel = NeuralTangentKernel(depth=depth, bias=0.0)
    return lambda: kernel(X)


def torch_recursion(depth: int) -> tuple[Any, Any]:
    """Return PyTorch, and the same recursion as one fused function."""
    import torch

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

    return torch, torch.compile(recursion, fullgraph=True, dynamic=False)


def torch_peer(X: Array, Y: Array, depth: int) -> Evaluate:
    """Prepare the same recursion as one fused function of torch.compile."""
    torch, compiled = torch_recursion(depth)
    x, y = torch.from_numpy(X), torch.from_numpy(Y)

    def evaluate() -> Any:
        with torch.no_grad():
            return compiled(x, y)

    return evaluate


def torch_gradient(X: Array, Y: Array, V: Array, depth: int) -> Evaluate:
    """Prepare the gradient of sum_ij V_ij K_ij by X through that function, by autograd."""
    torch, compiled = torch_recursion(depth)
    x, y, v = (torch.from_numpy(one) for one in (X, Y, V))
    x.requires_grad_(True)
    return lambda: torch.autograd.grad((compiled(x, y) * v).sum(), x)[0]


def stax_of(dtype: Any) -> tuple[Any, Any]:
    """Return JAX and the networks of neural-tangents, in a precision."""
    import jax

    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_enable_x64", np.dtype(dtype) == np.float64)
    # The experimental sub-package needs TensorFlow and none of it is used here.
    sys.modules["neural_tangents.experimental"] = types.ModuleType("neural_tangents.experimental")
    from neural_tangents import stax

    return jax, stax


def neural_tangents_kernel(X: Array, depth: int) -> tuple[Any, Any]:
    """Return JAX and the kernel of neural-tangents, in the precision of X."""
    jax, stax = stax_of(X.dtype)
    gains = [X.shape[1] ** 0.5] + [2**0.5] * depth
    layers = [layer for gain in gains for layer in (stax.Dense(1, gain), stax.Relu())][:-1]
    return jax, stax.serial(*layers)[2]


def neural_tangents_peer(X: Array, Y: Array, depth: int) -> Evaluate:
    """Prepare neural-tangents, jit-compiled, in the precision of X."""
    jax, kernel = neural_tangents_kernel(X, depth)
    compiled = jax.jit(lambda x, y: kernel(x, y, "ntk"))
    x, y = jax.numpy.asarray(X), jax.numpy.asarray(Y)
    return lambda: compiled(x, y).block_until_ready()


def neural_tangents_gradient(X: Array, Y: Array, V: Array, depth: int) -> Evaluate:
    """Prepare the gradient of sum_ij V_ij K_ij by X: jax.grad of neural-tangents, jit-compiled."""
    jax, kernel = neural_tangents_kernel(X, depth)
    compiled = jax.jit(jax.grad(lambda x, y, v: (v * kernel(x, y, "ntk")).sum()))
    x, y, v = (jax.numpy.asarray(one) for one in (X, Y, V))
    return lambda: compiled(x, y, v).block_until_ready()


def neural_tangents_predict(
    X: Array, y: Array, Z: Array, depth: int, ridge: float, *, get: str, cov: bool, times: Any
) -> Evaluate:
    """Prepare its `predict`: Gram matrices, decomposition and answers at some times or the end."""
    jax, kernel = neural_tangents_kernel(X, depth)
    from neural_tangents import predict

    compiled = jax.jit(kernel, static_argnames="get")
    at = None if times is None else np.asarray(times)

    def evaluate() -> Any:
        answer = predict.gradient_descent_mse_ensemble(
            compiled, X, y[:, None], diag_reg=ridge, diag_reg_absolute_scale=True
        )
        found = jax.block_until_ready(answer(t=at, x_test=Z, get=get, compute_cov=cov))
        if not cov:
            return [np.asarray(found)[..., 0]]
        return [np.asarray(found.mean)[..., 0], np.asarray(found.covariance)]

    return evaluate


def neural_tangents_images(X: Array, Y: Array, readout: str) -> Evaluate:
    """Prepare three convolutions of neural-tangents, with global or flat read-out."""
    jax, stax = stax_of(X.dtype)
    last = stax.GlobalAvgPool() if readout == "gap" else stax.Flatten()
    layers = [stax.Conv(1, (3, 3), padding="SAME", W_std=2**0.5), stax.Relu()] * 3
    kernel = jax.jit(stax.serial(*layers, last, stax.Dense(1))[2], static_argnums=2)
    return lambda: jax.block_until_ready(kernel(X, Y, "ntk"))


def neural_tangents_wide_resnet(X: Array, Y: Array, block_size: int) -> Evaluate:
    """Prepare the WideResnet of the README of neural-tangents, with a global mean at its end."""
    jax, stax = stax_of(X.dtype)

    def conv(strides: tuple[int, int] = (1, 1)) -> Any:
        return stax.Conv(1, (3, 3), strides, "SAME")

    def block(strides: tuple[int, int], shortcut: Any) -> Any:
        main = stax.serial(stax.Relu(), conv(strides), stax.Relu(), conv())
        return stax.serial(stax.FanOut(2), stax.parallel(main, shortcut), stax.FanInSum())

    layers = [conv()]
    for strides in ((1, 1), (2, 2), (2, 2)):
        layers.append(block(strides, conv(strides)))
        layers += [block((1, 1), stax.Identity()) for _ in range(block_size - 1)]
    whole = stax.serial(*layers, stax.GlobalAvgPool(), stax.Dense(1))
    kernel = jax.jit(whole[2], static_argnums=2)
    return lambda: jax.block_until_ready(kernel(X, Y, "ntk"))


PEERS: dict[str, tuple[Callable[..., Evaluate], tuple[str, ...]]] = {
    "numpy": (numpy_peer, ("numpy",)),
    "scikit-ntk": (scikit_ntk_peer, ("scikit-ntk", "scikit-learn", "numpy")),
    "torch.compile": (torch_peer, ("torch",)),
    "neural-tangents": (neural_tangents_peer, ("neural-tangents", "jax", "jaxlib")),
}
GRADIENTS: dict[str, tuple[Callable[..., Evaluate], tuple[str, ...]]] = {
    "torch.autograd": (torch_gradient, ("torch",)),
    "jax.grad": (neural_tangents_gradient, ("neural-tangents", "jax", "jaxlib")),
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
