"""Kernels as functions of PyTorch tensors, with first derivatives (extra "torch")."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from ntkfast.arrays import checks
from ntkfast.kernels.base import Kernel
from ntkfast.kernels.pullback import TWICE, Pullback, chosen
from ntkfast.support.optional import require

require("torch", "torch")
import torch  # noqa: E402

__all__ = ["NTKModule", "TorchKernel", "kernel"]

BLOCK = 32  # rows whose Gram matrix gives some of a diagonal


def __dir__() -> list[str]:
    """Return the public names."""
    return __all__


def kernel(
    network: Any, *, kind: str = "ntk", engine: str | None = None, threads: int | None = None
) -> TorchKernel:
    """Return a kernel as a function of tensors that `backward` goes through.

    Parameters
    ----------
    network : network or kernel
    kind : {"ntk", "nngp"}
        Which kernel of a network.
    engine, threads
        As for calling the kernel.

    Returns
    -------
    TorchKernel

    Examples
    --------
    >>> import torch, ntkfast as nf  # doctest: +SKIP
    >>> k = nf.torch.kernel(nf.FullyConnected(3))  # doctest: +SKIP
    >>> X = torch.randn(5, 2, dtype=torch.float64, requires_grad=True)  # doctest: +SKIP
    >>> w_std = torch.tensor(1.2, requires_grad=True)  # doctest: +SKIP
    >>> k(X, w_std=w_std).sum().backward()  # doctest: +SKIP
    >>> X.grad.shape, w_std.grad.shape  # doctest: +SKIP
    (torch.Size([5, 2]), torch.Size([]))
    """
    return TorchKernel(chosen(network, kind), engine, threads)


class TorchKernel:
    """A kernel of tensors; see `ntkfast.torch.kernel`.

    Tensors lie on the CPU or on a CUDA device, and gradients with them.
    Gradients are first derivatives, those of `Kernel.vjp` and `Kernel.parameter_gradient`: exact,
    and never NaN at equal rows. A second derivative raises a RuntimeError.

    Attributes
    ----------
    kernel : Kernel
    """

    def __init__(self, kernel: Kernel, engine: str | None, threads: int | None) -> None:
        self.kernel, self.engine, self.threads = kernel, engine, threads

    def __call__(
        self,
        X: Any,
        Y: Any = None,
        *,
        parameters: Mapping[str, Any] | None = None,
        **named: Any,
    ) -> Any:
        """Return the Gram matrix K(X, Y).

        Parameters
        ----------
        X : (n, d) tensor, or other inputs of the kernel as one
        Y : (m, d) tensor, optional
            Left out, or the same object as `X`: K(X, X).
        parameters : mapping, optional
            From names of `Kernel.parameters` to numbers or tensors of one number.
        **named
            The same, for names that are words.

        Returns
        -------
        (n, m) tensor

        Raises
        ------
        TypeError, ValueError
            As for calling the kernel, and in `backward` as for `Kernel.vjp`.
        """
        return self._apply(_Gram, X, Y, {**(parameters or {}), **named})

    def matmul(
        self,
        X: Any,
        Y: Any,
        V: Any,
        *,
        parameters: Mapping[str, Any] | None = None,
        **named: Any,
    ) -> Any:
        """Return K(X, Y) @ V, without the matrix on the way forth or back.

        Parameters
        ----------
        X, Y, parameters, **named
            As for calling it; None for `Y`: K(X, X).
        V : (m,) or (m, c) tensor

        Returns
        -------
        (n,) or (n, c) tensor

        Raises
        ------
        TypeError, ValueError
            As for calling it.
        """
        columns = V[:, None] if V.ndim == 1 else V
        found = self._apply(_Product, X, Y, {**(parameters or {}), **named}, columns)
        return found[:, 0] if V.ndim == 1 else found

    def diag(self, X: Any, *, parameters: Mapping[str, Any] | None = None, **named: Any) -> Any:
        """Return the diagonal of K(X, X).

        Parameters
        ----------
        X, parameters, **named
            As for calling it.

        Returns
        -------
        (n,) tensor
        """
        given = {**(parameters or {}), **named}
        parts = [self(some, parameters=given).diagonal() for some in X.split(BLOCK)]
        return torch.cat(parts)

    def _apply(self, function: Any, X: Any, Y: Any, given: dict[str, Any], *V: Any) -> Any:
        Y = None if Y is X else Y
        names, values = tuple(given), None
        if names:
            flat = [_number(value) for value in given.values()]
            for name, number in zip(names, flat, strict=True):
                if len(number) != 1:
                    raise ValueError(f"{name}: expected one number, got {len(number)}")
            values = torch.cat(flat)
        host = Pullback(self.kernel, names, self.engine, self.threads)
        for name, one in zip(("X", "Y", "V"), (X, Y, *V), strict=False):
            if one is not None and not isinstance(one, torch.Tensor):
                raise TypeError(f"{name}: expected a tensor, got {type(one).__name__}")
            if one is not None and (place := one.device.type) not in ("cpu", "cuda"):
                raise TypeError(f"{name}: expected a tensor on the CPU or CUDA, got one on {place}")
        return function.apply(host, X, Y, values, *V)


def _number(value: Any) -> Any:
    tensor = value if isinstance(value, torch.Tensor) else torch.tensor(value, dtype=torch.float64)
    return tensor.to("cpu", torch.float64).reshape(-1)


def _array(tensor: Any) -> Any:
    """Return an array of the host, or a tensor elsewhere as it is."""
    if tensor is None:
        return None
    own = tensor.detach()
    return own.numpy() if own.device.type == "cpu" else own


def _tensor(found: Any) -> Any:
    if isinstance(found, torch.Tensor):
        return found
    return torch.from_numpy(np.ascontiguousarray(found))


def _tensors(found: Iterable[Any], like: Iterable[Any]) -> tuple[Any, ...]:
    """Return gradients as tensors of the dtypes of what they are by."""
    return tuple(
        None if one is None else _tensor(one).to(by.dtype)
        for one, by in zip(found, like, strict=True)
    )


class _Gram(torch.autograd.Function):  # type: ignore[misc]
    @staticmethod
    def forward(ctx: Any, host: Pullback, X: Any, Y: Any, values: Any) -> Any:
        ctx.host = host
        ctx.save_for_backward(X, Y, values)
        return _tensor(host.gram(_array(X), _array(Y), _array(values)))

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        return None, *_GramBack.apply(ctx.host, ctx.needs_input_grad[1:], grad, *ctx.saved_tensors)


class _Product(torch.autograd.Function):  # type: ignore[misc]
    @staticmethod
    def forward(ctx: Any, host: Pullback, X: Any, Y: Any, values: Any, V: Any) -> Any:
        ctx.host = host
        ctx.save_for_backward(X, Y, values, V)
        return _tensor(host.product(_array(X), _array(Y), _array(values), _array(V)))

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        return None, *_ProductBack.apply(
            ctx.host, ctx.needs_input_grad[1:], grad, *ctx.saved_tensors
        )


class _Once(torch.autograd.Function):  # type: ignore[misc]
    """A gradient that has none itself."""

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        raise RuntimeError(TWICE)


class _GramBack(_Once):
    @staticmethod
    def forward(
        ctx: Any, host: Pullback, wanted: Any, grad: Any, X: Any, Y: Any, values: Any
    ) -> Any:
        weights = _array(grad.contiguous())
        found = host.gradients(_array(X), _array(Y), _array(values), weights, wanted)
        return _tensors(found, (X, Y, values))


class _ProductBack(_Once):
    @staticmethod
    def forward(
        ctx: Any, host: Pullback, wanted: Any, grad: Any, X: Any, Y: Any, values: Any, V: Any
    ) -> Any:
        left, right, at = _array(X), _array(Y), _array(values)
        G = _array(grad.contiguous())
        found = host.gradients(left, right, at, (G, _array(V)), wanted[:3])
        back = None
        if wanted[3]:
            back = host.product(
                left if right is None else right, None if right is None else left, at, G
            )
        return _tensors((*found, back), (X, Y, values, V))


class NTKModule(torch.nn.Module):  # type: ignore[misc]
    """A kernel as a module whose parameters are learned, in their logarithms.

    Parameters
    ----------
    network : network or kernel
    learn : iterable of str, optional
        Names of `Kernel.parameters`; default: all that are not 0.
    kind : {"ntk", "nngp"}
        Which kernel of a network.
    engine, threads
        As for calling the kernel.

    Attributes
    ----------
    logs : torch.nn.ParameterDict
        Logarithms in float64, with two underscores for the points of a name.

    Raises
    ------
    TypeError, ValueError
        If the kernel has no such parameter, or its value is 0.

    Examples
    --------
    >>> import torch, ntkfast as nf  # doctest: +SKIP
    >>> model = nf.torch.NTKModule(nf.Gaussian(0.3).ard([1.0, 2.0]))  # doctest: +SKIP
    >>> sorted(model.logs)  # doctest: +SKIP
    ['kernel__c', 'length_scales__0', 'length_scales__1']
    """

    def __init__(
        self,
        network: Any,
        *,
        learn: Iterable[str] | None = None,
        kind: str = "ntk",
        engine: str | None = None,
        threads: int | None = None,
    ) -> None:
        super().__init__()
        self._kernel = kernel(network, kind=kind, engine=engine, threads=threads)
        known = self._kernel.kernel.parameters()
        self._names = {}
        self.logs = torch.nn.ParameterDict()
        for name in [one for one, value in known.items() if value] if learn is None else learn:
            start = checks.number(
                f"learn: {checks.choice('learn', name, tuple(known))}", known[name], above=0.0
            )
            self._names[name.replace(".", "__")] = name
            log = torch.tensor(start, dtype=torch.float64).log()
            self.logs[name.replace(".", "__")] = torch.nn.Parameter(log)

    def values(self) -> dict[str, Any]:
        """Return the parameters that are learned, by their names: tensors of one number."""
        return {name: self.logs[key].exp() for key, name in self._names.items()}

    @property
    def kernel(self) -> Kernel:
        """The kernel with the present values, for arrays."""
        numbers = {name: value.item() for name, value in self.values().items()}
        return self._kernel.kernel.with_parameters(numbers)

    def forward(self, X: Any, Y: Any = None) -> Any:
        """Return the Gram matrix K(X, Y); see `TorchKernel`."""
        return self._kernel(X, Y, parameters=self.values())

    def matmul(self, X: Any, Y: Any, V: Any) -> Any:
        """Return K(X, Y) @ V; see `TorchKernel.matmul`."""
        return self._kernel.matmul(X, Y, V, parameters=self.values())

    def diag(self, X: Any) -> Any:
        """Return the diagonal of K(X, X)."""
        return self._kernel.diag(X, parameters=self.values())

    def extra_repr(self) -> str:
        """Show the kernel at present."""
        return repr(self.kernel)
