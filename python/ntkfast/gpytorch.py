"""Kernels of wide networks in GPyTorch and BoTorch (extra "gpytorch")."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

from ntkfast.arrays import checks
from ntkfast.support.optional import require

require("gpytorch", "gpytorch")
import torch  # noqa: E402
from gpytorch.constraints import Positive  # noqa: E402
from gpytorch.kernels import Kernel as GPyTorchKernel  # noqa: E402

from ntkfast.torch import kernel as kernel_of_tensors  # noqa: E402

__all__ = ["NTKKernel"]


def __dir__() -> list[str]:
    """Return the public names."""
    return __all__


class NTKKernel(GPyTorchKernel):  # type: ignore[misc]
    """A kernel of ntkfast for models of GPyTorch, on the CPU.

    Parameters
    ----------
    network : network or kernel
    kind : {"ntk", "nngp"}
        Which kernel of a network.
    learn : iterable of str
        Names of `ntkfast.Kernel.parameters` that are trained; the others stay.
    priors : mapping, optional
        From names in `learn` to priors of GPyTorch.
    constraints : mapping, optional
        From names in `learn` to constraints; default: `gpytorch.constraints.Positive`.
    engine, threads
        As for calling the kernel.
    **options
        Of every kernel of GPyTorch: `ard_num_dims`, `lengthscale_prior`, `lengthscale_constraint`,
        `active_dims`. Inputs are divided by length scales if one of the first three is given.

    Raises
    ------
    TypeError, ValueError
        If the kernel has no such parameter, or its value is 0.

    Examples
    --------
    >>> import gpytorch, ntkfast as nf  # doctest: +SKIP
    >>> net = nf.FullyConnected(2, bias=0.3)  # doctest: +SKIP
    >>> kernel = nf.gpytorch.NTKKernel(net, learn=["bias"], ard_num_dims=6)  # doctest: +SKIP
    >>> covariance = gpytorch.kernels.ScaleKernel(kernel)  # doctest: +SKIP
    """

    is_stationary = False

    def __init__(
        self,
        network: Any,
        *,
        kind: str = "ntk",
        learn: Iterable[str] = (),
        priors: Mapping[str, Any] | None = None,
        constraints: Mapping[str, Any] | None = None,
        engine: str | None = None,
        threads: int | None = None,
        **options: Any,
    ) -> None:
        scaled = ("ard_num_dims", "lengthscale_prior", "lengthscale_constraint")
        self.has_lengthscale = any(options.get(name) is not None for name in scaled)
        super().__init__(**options)
        self._kernel = kernel_of_tensors(network, kind=kind, engine=engine, threads=threads)
        known = self._kernel.kernel.parameters()
        self._names = tuple(checks.choice("learn", name, tuple(known)) for name in learn)
        priors, constraints = dict(priors or {}), dict(constraints or {})
        for argument, given in (("priors", priors), ("constraints", constraints)):
            for name in given:
                checks.choice(argument, name, self._names)
        for name in self._names:
            start = checks.number(f"learn: {name}", known[name], above=0.0)
            raw, constraint = _raw(name), constraints.get(name) or Positive()
            self.register_parameter(raw, torch.nn.Parameter(torch.zeros(1)))
            self.register_constraint(raw, constraint)
            self.initialize(**{raw: constraint.inverse_transform(torch.tensor([start]))})
            if name in priors:
                ways = partial(_value, name=name), partial(_set, name=name)
                self.register_prior(f"{raw}_prior", priors[name], *ways)

    def values(self) -> dict[str, Any]:
        """Return the parameters that are trained, by their names."""
        return {name: _value(self, name) for name in self._names}

    def forward(
        self, x1: Any, x2: Any, diag: bool = False, last_dim_is_batch: bool = False, **_: Any
    ) -> Any:
        """Return the covariance of (..., n, d) and (..., m, d) tensors, or its diagonal."""
        if last_dim_is_batch:
            raise ValueError("last_dim_is_batch: expected False, inputs are rows with all columns")
        same = x1 is x2 or (x1.shape == x2.shape and bool(torch.equal(x1, x2)))
        if self.has_lengthscale:
            x1, x2 = x1 / self.lengthscale, x2 / self.lengthscale
        batch = torch.broadcast_shapes(x1.shape[:-2], x2.shape[:-2])
        sides = [
            one.expand(*batch, *one.shape[-2:]).reshape(-1, *one.shape[-2:]) for one in (x1, x2)
        ]
        found = [self._pair(X, Y, diag, same) for X, Y in zip(*sides, strict=True)]
        return torch.stack(found).reshape(*batch, *found[0].shape)

    def _pair(self, X: Any, Y: Any, diag: bool, same: bool) -> Any:
        values = self.values()
        if not diag:
            # of inputs that ask for gradients each side has its own
            free = same and not (X.requires_grad or Y.requires_grad)
            return self._kernel(X, None if free else Y, parameters=values)
        if same:
            return self._kernel.diag(X, parameters=values)
        rows = zip(X[:, None], Y[:, None], strict=True)
        return torch.cat([self._kernel(x, y, parameters=values)[0] for x, y in rows])


def _raw(name: str) -> str:
    return f"raw_{name.replace('.', '_')}"


def _value(kernel: NTKKernel, name: str) -> Any:
    raw = _raw(name)
    return kernel.constraint_for_parameter_name(raw).transform(getattr(kernel, raw))


def _set(kernel: NTKKernel, value: Any, name: str) -> None:
    raw = _raw(name)
    number = torch.as_tensor(value).to(getattr(kernel, raw))
    kernel.initialize(**{raw: kernel.constraint_for_parameter_name(raw).inverse_transform(number)})
