"""Operators and methods that make kernels of kernels; who makes them says so in `MAKERS`."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import numpy as np

Maker = TypeVar("Maker", bound=Callable[..., Any])
MAKERS: dict[str, Callable[..., Any]] = {}


def maker(word: str) -> Callable[[Maker], Maker]:
    """Register what makes the kernels of a word, from the parts that `named` tells by name."""

    def register(make: Maker) -> Maker:
        MAKERS[word] = make
        return make

    return register


class Arithmetic:
    """What a kernel can become: a sum, a product, a multiple, of unit diagonal, of columns."""

    __array_ufunc__ = None  # NumPy's numbers and arrays leave the operations to this class

    def __add__(self, other: object) -> Any:
        return _made("sum", k1=self, k2=_kernel("+", other))

    def __radd__(self, other: object) -> Any:
        if type(other) is int and other == 0:  # where the sum() of Python begins
            return self
        raise _refused("+", other, "a Kernel")

    def __mul__(self, other: object) -> Any:
        if isinstance(other, Arithmetic):
            return _made("product", k1=self, k2=other)
        return self.__rmul__(other)

    def __rmul__(self, other: object) -> Any:
        if not _is_number(other):
            raise _refused("*", other, "a Kernel or a number >= 0")
        return _made("multiple", factor=other, kernel=self)

    def normalized(self) -> Any:
        """Return K(x, y) / sqrt(K(x, x) K(y, y)), the cosine of the features: ones on the diagonal.

        Returns
        -------
        Kernel
            Within [-1, 1]. An input with K(x, x) = 0, a row of zeros for example, has no direction
            among the features: values of a zonal kernel are limits as everywhere, those of rows
            at right angles; those of other kernels are 1 with inputs of this kind, 0 with others.

        Examples
        --------
        >>> import numpy as np, ntkfast as nf
        >>> kernel = nf.FullyConnected(2).ntk.normalized()
        >>> kernel(np.array([[3.0, 0.0], [0.0, 0.5]])).round(6)
        array([[1.     , 0.22857],
               [0.22857, 1.     ]])
        """
        return _made("normalized", kernel=self)

    def on(self, columns: int | Iterable[int]) -> Any:
        """Return the kernel of some columns of a matrix.

        Sums of such kernels are additive kernels: ``sum(kernel.on(group) for group in groups)``.

        Parameters
        ----------
        columns : int or iterable of int
            Numbers of columns, from 0, each at most once.

        Returns
        -------
        Kernel
            Of rows of a matrix with all columns; those left out have no influence.

        Raises
        ------
        TypeError, ValueError
            If these are no columns.

        Examples
        --------
        >>> import numpy as np, ntkfast as nf
        >>> X = np.random.default_rng(0).normal(size=(5, 4))
        >>> kernel = nf.Laplace().on([0, 2]) + nf.Gaussian().on([1, 3])
        >>> bool(np.all(kernel(X) == nf.Laplace()(X[:, [0, 2]]) + nf.Gaussian()(X[:, [1, 3]])))
        True
        """
        return _made("columns", kernel=self, columns=columns)

    def ard(self, length_scales: Iterable[float]) -> Any:
        """Return the kernel of columns that are divided by length scales, one each.

        This is automatic relevance determination: the larger its length scale is, the less a column
        matters.

        Parameters
        ----------
        length_scales : iterable of float
            Positive, one for each column.

        Returns
        -------
        Kernel
            K(x / length_scales, y / length_scales), the quotients rounded to the dtype of X.

        Raises
        ------
        TypeError, ValueError
            If a length scale is no positive number.

        Examples
        --------
        >>> import numpy as np, ntkfast as nf
        >>> X = np.random.default_rng(0).normal(size=(5, 2))
        >>> kernel = nf.Gaussian(0.5).ard([1.0, 10.0])
        >>> bool(np.all(kernel(X) == nf.Gaussian(0.5)(X / [1.0, 10.0])))
        True
        """
        return _made("ard", kernel=self, length_scales=length_scales)


def makers() -> Mapping[str, Callable[..., Any]]:
    """Return `MAKERS`, all of them: their modules are loaded with the first kernel of kernels."""
    for module in ("algebra_rows", "columns"):
        importlib.import_module(f"ntkfast.kernels.{module}")
    return MAKERS


def _made(word: str, **named: object) -> Any:
    return makers()[word](**named)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)


def _kernel(operator: str, value: object) -> object:
    if isinstance(value, Arithmetic):
        return value
    raise _refused(operator, value, "a Kernel")


def _refused(operator: str, value: object, wanted: str) -> TypeError:
    hint = "; a network has two: .ntk and .nngp" if hasattr(value, "ntk") else ""
    return TypeError(
        f"kernel {operator}: expected {wanted} on the other side, got {type(value).__name__}{hint}"
    )
