"""Branches that are added, multiplied or concatenated, in networks on rows and on images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ntkfast.activations.names import resolve
from ntkfast.arrays import checks
from ntkfast.networks.gaussian import Branches, Step


def resolved(part: Any) -> Any:
    """Return a step as it is, or the activation that a name or function stands for.

    Raises
    ------
    TypeError
        If it is none of them.
    """
    if isinstance(part, Step):
        return part
    try:
        return resolve(part)
    except TypeError:
        raise TypeError(
            "elements: expected a step like Dense, Conv, Add, Multiply, Concatenate, LayerNorm or "
            f"Dropout, or an activation, got {part!r}"
        ) from None


@dataclass(frozen=True, init=False)
class Serial:
    """One of several branches: elements in their order; none of them are the identity."""

    elements: tuple[Any, ...]

    def __init__(self, *elements: Any) -> None:
        checks.store(self, elements=tuple(map(resolved, elements)))

    def __repr__(self) -> str:
        return repr(self.elements[0] if len(self.elements) == 1 else self.elements)


@dataclass(frozen=True, init=False)
class Add(Branches):
    """The sum of branches of `compose`, on rows or on images.

    There need to be weights on all branches but one, so that they are uncorrelated, and behind the
    last activation of all of them but one.

    Attributes
    ----------
    branches : tuple
        Each is one element of `compose`, or a tuple of them; ``()`` is the identity.

    Examples
    --------
    >>> import ntkfast as nf
    >>> branches = nf.Add(("relu", nf.Dense()), ("erf", nf.Dense()))
    >>> nf.compose(nf.Dense(), branches, "relu", nf.Dense()).ntk([[1.0, 2.0]]).round(4)
    array([[2.982]])
    """

    branches: tuple[Serial, ...]

    def __init__(self, *branches: Any) -> None:
        self._keep(branches)

    def _keep(self, branches: tuple[Any, ...]) -> None:
        if len(branches) < 2:
            raise ValueError(f"branches: expected two or more, got {len(branches)}")
        found = []
        for one in branches:
            parts = one if isinstance(one, (tuple, list)) else (one,)
            found.append(one if isinstance(one, Serial) else Serial(*parts))
        checks.store(self, branches=tuple(found))

    @property
    def ways(self) -> tuple[tuple[Any, ...], ...]:
        """The elements of each branch."""
        return tuple(one.elements for one in self.branches)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(repr(one) for one in self.branches)})"


class Multiply(Add):
    """The product of branches of `compose`, neuron by neuron, as gates have it.

    There need to be weights on all branches but one, so that they are independent, and others
    behind the product, which is not Gaussian. With K and T the NNGP and NTK of the branches, those
    of the product are prod_b K_b and sum_b T_b prod_(c != b) K_c.

    Attributes
    ----------
    branches : tuple
        Each is one element of `compose`, or a tuple of them; ``()`` is the identity.

    Examples
    --------
    >>> import ntkfast as nf
    >>> gated = nf.Multiply(nf.Dense(), ("sigmoid_like", nf.Dense()))
    >>> nf.compose(nf.Dense(), gated, nf.Dense()).nngp([[1.0, 2.0]]).round(4)
    array([[0.8171]])
    """

    joined = "product"


@dataclass(frozen=True, init=False, repr=False)
class Concatenate(Add):
    """The neurons of branches of `compose` beside each other, as inputs of the next layer.

    Its kernels are the means of those of the branches, weighted by their shares of the neurons.
    They may be correlated. Their variances differ, so that an activation needs weights before it.

    Attributes
    ----------
    branches : tuple
        Each is one element of `compose`, or a tuple of them; ``()`` is the identity.
    shares : tuple of floats, optional
        In proportion to which the branches have neurons. Default: equal numbers; in
        ``parameterization="standard"`` their widths.

    Examples
    --------
    >>> import ntkfast as nf
    >>> both = nf.Concatenate("relu", "erf", shares=(3, 1))
    >>> nf.compose(nf.Dense(), both, nf.Dense()).nngp([[1.0, 2.0]]).round(4)
    array([[1.0943]])
    """

    shares: tuple[float, ...] | None
    joined = "concatenation"

    def __init__(self, *branches: Any, shares: Sequence[float] | None = None) -> None:
        self._keep(branches)
        if shares is not None:
            shares = tuple(checks.number("shares", one, above=0.0) for one in shares)
            if len(shares) != len(branches):
                raise ValueError(
                    f"shares: expected one for each of {len(branches)} branches, got {len(shares)}"
                )
        checks.store(self, shares=shares)

    def __repr__(self) -> str:
        shown = super().__repr__()
        return shown if self.shares is None else f"{shown[:-1]}, shares={self.shares})"
