"""Kernels as functions of JAX arrays, with first derivatives (extra "jax")."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from ntkfast.kernels.pullback import TWICE, Pullback, chosen
from ntkfast.support.optional import require

require("jax", "jax")
import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402

__all__ = ["kernel"]


def __dir__() -> list[str]:
    """Return the public names."""
    return __all__


def kernel(
    network: Any, *, kind: str = "ntk", engine: str | None = None, threads: int | None = None
) -> Callable[..., Any]:
    """Return a kernel as a function of arrays of JAX that `grad` and `jit` go through.

    It is computed on the host, in a callback. `jax.vmap` calls it once for each element.

    Parameters
    ----------
    network : network or kernel
    kind : {"ntk", "nngp"}
        Which kernel of a network.
    engine, threads
        As for calling the kernel.

    Returns
    -------
    callable
        ``k(X, Y=None, parameters=None)``: the Gram matrix of (n, d) and (m, d) arrays, of their
        dtype, with parameters from their names to numbers. Its derivatives are first ones, in
        reverse mode; a second derivative raises a TypeError.

    Examples
    --------
    >>> import jax, ntkfast as nf  # doctest: +SKIP
    >>> k = nf.jax.kernel(nf.FullyConnected(3))  # doctest: +SKIP
    >>> X = jax.numpy.eye(3)  # doctest: +SKIP
    >>> jax.grad(lambda w: k(X, parameters={"w_std": w}).sum())(1.2)  # doctest: +SKIP
    """
    found = chosen(network, kind)

    def call(X: Any, Y: Any = None, parameters: Mapping[str, Any] | None = None) -> Any:
        given = dict(parameters or {})
        host = Pullback(found, tuple(given), engine, threads)
        numbers = [jnp.asarray(value, float).reshape(()) for value in given.values()]
        values = jnp.stack(numbers) if numbers else jnp.zeros(0)
        sides = (X,) if Y is None or Y is X else (X, Y)
        dtype = jnp.result_type(*sides, jnp.float32)
        return _gram(host, tuple(jnp.asarray(side, dtype) for side in sides), values)

    return call


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _gram(host: Pullback, sides: tuple[Any, ...], values: Any) -> Any:
    """Return K(X, Y), or K(X, X) of one side."""
    shape = jax.ShapeDtypeStruct((len(sides[0]), len(sides[-1])), sides[0].dtype)

    def compute(sides: tuple[Any, ...], values: Any) -> Any:
        X, *Y = map(np.asarray, sides)
        return host.gram(X, Y[0] if Y else None, np.asarray(values))

    return jax.pure_callback(compute, shape, sides, values, vmap_method="sequential")


def _forward(host: Pullback, sides: tuple[Any, ...], values: Any) -> tuple[Any, Any]:
    return _gram(host, sides, values), (sides, values)


def _backward(host: Pullback, kept: tuple[Any, Any], V: Any) -> Any:
    return _gradients(host, kept, V)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _gradients(host: Pullback, kept: tuple[Any, Any], V: Any) -> Any:
    """Return the gradients of sum_ij V_ij K_ij by the sides and the values."""
    shapes = jax.tree.map(lambda one: jax.ShapeDtypeStruct(one.shape, one.dtype), kept)

    def compute(kept: tuple[Any, Any], V: Any) -> Any:
        X, *Y = map(np.asarray, kept[0])
        wanted = True, bool(Y), bool(host.names)
        given = X, Y[0] if Y else None, np.asarray(kept[1])
        by_x, by_y, by_values = host.gradients(*given, np.ascontiguousarray(V), wanted)
        sides = (by_x, by_y) if Y else (by_x,)
        return sides, np.zeros(0) if by_values is None else by_values.astype(kept[1].dtype)

    return jax.pure_callback(compute, shapes, kept, V, vmap_method="sequential")


def _refuse(*_: Any) -> Any:
    raise TypeError(TWICE)


_gram.defvjp(_forward, _backward)
_gradients.defvjp(_refuse, _refuse)
