"""Empirical NTKs of any network in PyTorch or JAX, by their automatic differentiation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ntkfast.arrays import checks
from ntkfast.support.optional import require
from ntkfast.support.progress import track

Blocks = list[NDArray[Any]]  # per parameter an (n, outputs, size) array


def empirical_ntk(
    model: Any,
    X: Any,
    Y: Any = None,
    *,
    params: Any = None,
    parameters: Sequence[str] | Callable[[str], bool] | None = None,
    outputs: str = "mean",
    batch_size: int = 32,
    progress: bool | None = None,
) -> NDArray[Any]:
    """Return the empirical NTK of a network written in PyTorch or JAX.

    Parameters
    ----------
    model : torch.nn.Module or callable
        A module that maps (n, ...) to (n, outputs), each input on its own; or a JAX function of
        ``(params, x)`` that maps *one* input to an (outputs,) array.
    X : (n, ...) array or tensor
        Cast to the dtype of the parameters.
    Y : (m, ...) array or tensor, optional
    params : pytree, optional
        Parameters of a JAX function; it says that `model` is one.
    parameters : sequence of str, or callable, optional
        Names of the parameters that count, or whether a name does; default: all, of a module those
        that require gradients. Names of JAX parameters are their paths, ``"['dense']['w']"``.
    outputs : {"mean", "all"}, default "mean"
        Mean over the outputs, or all pairs of them.
    batch_size : int, default 32
        Inputs whose Jacobians are held at once, of X and of Y.
    progress : bool, optional
        Whether to show a bar. Default: on a terminal, after some seconds.

    Returns
    -------
    (n, m) array, or (n, m, outputs, outputs) array
        Of the dtype of the parameters.

    Raises
    ------
    ImportError
        Without torch or jax, the extras of these names.
    TypeError, ValueError
        If the model is neither, has no such parameters, or an argument has the wrong range.

    Notes
    -----
    Jacobians of a batch are formed and contracted. For the networks that `MLP` can describe its
    own kernel needs none and is faster by orders of magnitude.

    Examples
    --------
    >>> import numpy as np
    >>> import ntkfast as nf
    >>> def network(params, x):
    ...     return params["v"] @ (params["W"] @ x)
    >>> params = {"W": np.eye(3, dtype=np.float32), "v": np.ones((1, 3), np.float32)}
    >>> nf.finite.empirical_ntk(network, np.eye(3)[:2], params=params)  # doctest: +SKIP
    array([[4., 0.],
           [0., 4.]], dtype=float32)
    """
    checks.choice("outputs", outputs, ("mean", "all"))
    size = checks.count("batch_size", batch_size, least=1)
    jacobian = (
        _torch_jacobian(model, parameters)
        if params is None
        else _jax_jacobian(model, params, parameters)
    )
    symmetric = Y is None or Y is X
    rows: list[Any] = []
    total = -(-len(X) // size)
    for first, left in track(_batches(jacobian, X, size), progress, "NTK", "batches", total):
        parts = []
        for start, right in _batches(jacobian, X if symmetric else Y, size):
            # The lower half of a symmetric matrix is the transpose of the upper one.
            above = symmetric and start < first
            parts.append(None if above else _contract(left, right, outputs))
        rows.append(parts)
    if symmetric:
        _mirror(rows)
    return np.concatenate([np.concatenate(parts, axis=1) for parts in rows], axis=0)


def _batches(jacobian: Any, X: Any, size: int) -> Iterator[tuple[int, Blocks]]:
    for first in range(0, len(X), size):
        yield first, jacobian(X[first : first + size])


def _contract(left: Blocks, right: Blocks, outputs: str) -> NDArray[Any]:
    """Sum the inner products of gradients over the parameters."""
    total: Any = 0
    for a, b in zip(left, right, strict=True):
        if outputs == "mean":
            total = total + a.reshape(len(a), -1) @ b.reshape(len(b), -1).T / a.shape[1]
        else:
            flat = a.reshape(-1, a.shape[2]) @ b.reshape(-1, b.shape[2]).T
            total = total + flat.reshape(*a.shape[:2], *b.shape[:2]).transpose(0, 2, 1, 3)
    return np.asarray(total)


def _mirror(rows: list[list[Any]]) -> None:
    for i, parts in enumerate(rows):
        for j in range(i):
            above = rows[j][i]
            axes = (1, 0, 3, 2) if above.ndim == 4 else (1, 0)
            parts[j] = above.transpose(axes)


def _chosen(
    names: Sequence[str], parameters: Sequence[str] | Callable[[str], bool] | None
) -> list[str]:
    """Return the names that count.

    Raises
    ------
    ValueError
        If there are none, or one is unknown.
    """
    if parameters is None:
        found = list(names)
    elif callable(parameters):
        found = [name for name in names if parameters(name)]
    else:
        unknown = sorted(set(parameters) - set(names))
        if unknown:
            raise ValueError(f"parameters: expected some of {list(names)}, got {unknown}")
        found = [name for name in names if name in set(parameters)]
    if not found:
        raise ValueError("parameters: expected at least one")
    return found


def _torch_jacobian(model: Any, parameters: Any) -> Callable[[Any], Blocks]:
    torch = require("torch", "torch")
    if not isinstance(model, torch.nn.Module):
        raise TypeError(
            "model: expected a torch.nn.Module, or a JAX function and its params, got "
            f"{type(model).__name__}"
        )
    everything = {name: p.detach() for name, p in model.named_parameters()}
    trained = [name for name, p in model.named_parameters() if p.requires_grad]
    names = _chosen(trained, parameters)
    fixed = {name: p for name, p in everything.items() if name not in names}
    fixed.update(dict(model.named_buffers()))
    first = everything[names[0]]

    def output(chosen: Any, x: Any) -> Any:
        return torch.func.functional_call(model, {**fixed, **chosen}, (x[None],))[0]

    each = torch.func.vmap(torch.func.jacrev(output), (None, 0))

    def jacobian(X: Any) -> Blocks:
        points = torch.as_tensor(X).to(first)
        found = each({name: everything[name] for name in names}, points)
        return [one.flatten(2).numpy(force=True) for one in found.values()]

    return jacobian


def _jax_jacobian(function: Any, params: Any, parameters: Any) -> Callable[[Any], Blocks]:
    jax = require("jax", "jax")
    if not callable(function):
        raise TypeError(f"model: expected a function, got {type(function).__name__}")
    leaves, structure = jax.tree_util.tree_flatten_with_path(params)
    names = [jax.tree_util.keystr(path) for path, _ in leaves]
    values = [jax.numpy.asarray(leaf) for _, leaf in leaves]
    places = [names.index(name) for name in _chosen(names, parameters)]

    def output(chosen: Any, x: Any) -> Any:
        merged = list(values)
        for place, value in zip(places, chosen, strict=True):
            merged[place] = value
        return function(jax.tree_util.tree_unflatten(structure, merged), x)

    each = jax.jit(jax.vmap(jax.jacrev(output), (None, 0)))
    chosen = [values[place] for place in places]

    def jacobian(X: Any) -> Blocks:
        found = each(chosen, jax.numpy.asarray(X, chosen[0].dtype))
        return [np.asarray(one).reshape(*one.shape[:2], -1) for one in found]

    return jacobian
