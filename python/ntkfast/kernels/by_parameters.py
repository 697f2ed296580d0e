"""Derivatives of kernels by their parameters: what all kernels share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from typing import Any, Self, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from ntkfast import places
from ntkfast.arrays import checks
from ntkfast.arrays.collections import FloatArray, Weights
from ntkfast.engines import Run
from ntkfast.kernels.gradients import (
    Differentiable,
    WeightsLike,
    check_finite,
    on_host,
    weights_of,
)
from ntkfast.kernels.moving import REACH, Stencil, contracted, enters_by_square, stencil
from ntkfast.support.telling import did_you_mean

ALIASES = {"b_std": "bias", "bias": "b_std"}  # in the two parameterisations


class Collected:
    """X and Y as `Kernel.collect` returns them, once they are asked for; None where there is no Y.

    Derivatives by most parameters need no more than what `Kernel._inputs` has validated.
    """

    def __init__(self, kernel: Differentiable, X: Any, Y: Any) -> None:
        self._kernel, self._inputs = kernel, (X, Y)

    @cached_property
    def _found(self) -> tuple[Any, Any]:
        X, Y = (None if one is None else self._kernel.collect(one) for one in self._inputs)
        return X, Y

    def __getitem__(self, side: int) -> Any:
        return self._found[side]

    def __iter__(self) -> Iterator[Any]:
        return iter(self._found)


Given: TypeAlias = tuple[Any, Any] | Collected


class Parametrised(Differentiable):
    """A function of pairs of inputs and of numbers that can move, by default of none."""

    def parameters(self) -> dict[str, float]:
        """Return the parameters that can move, with their values.

        Returns
        -------
        dict
            Of a network ``w_std``, ``b_std``, ``bias``, ``alpha``, ``u_std``, ``h_std`` and
            ``v_std``, those that it has; in one that is composed after the position of the layer,
            ``"0.w_std"``. Of exponential kernels ``c``; of a multiple its ``factor``, of kernels
            made of kernels those of the parts after their names, ``"k1.c"``. Of others nothing.

        Examples
        --------
        >>> import ntkfast as nf
        >>> nf.ResNet(2, alpha=0.5).ntk.parameters()
        {'alpha': 0.5, 'w_std': 1.4142135623730951, 'v_std': 1.0}
        """
        return {}

    def with_parameters(self, parameters: Mapping[str, float]) -> Self:
        """Return the kernel with other values of some parameters.

        Parameters
        ----------
        parameters : mapping
            From names of `parameters` to numbers.

        Raises
        ------
        ValueError
            If there is no such parameter, or a value is out of range.
        """
        known = self.parameters()
        kernel = self
        for name in _known("parameters", known, parameters):
            kernel = kernel._moved(name, parameters[name])
        return kernel

    def _moved(self, name: str, value: float) -> Self:
        """Return the kernel with another value of one parameter."""
        return self

    @places.through_host
    def parameter_gradient(
        self,
        X: ArrayLike,
        Y: ArrayLike | None,
        V: WeightsLike,
        *,
        names: Iterable[str] | None = None,
        engine: str | None = None,
        threads: int | None = None,
    ) -> dict[str, float]:
        """Return the derivatives of sum_ij V_ij K(X_i, Y_j) by parameters.

        Parameters
        ----------
        X, Y : (n, d) and (m, d) arrays, or other inputs of the kernel
            None for Y, or the same object as `X`: K(X, X).
        V : (n, m) array, or pair of (n, r) and (m, r) arrays
            A pair (A, B) means A @ B.T, which is never formed.
        names : iterable of str, optional
            Of `parameters`; default: all.
        engine, threads
            As for calling the kernel.

        Returns
        -------
        dict
            A deviation of 0 has the derivative 0: it enters by its square.

        Raises
        ------
        TypeError, ValueError
            As for `vjp`; or if there is no parameter of a name.

        Notes
        -----
        Zonal kernels take one more evaluation of a polynomial per pair and parameter, other
        networks of rows one walk along their layers for up to eight parameters together. Networks
        on images and sequences take one walk of their pairs for all parameters, and a Gram matrix
        for those that multiply all values of images by the same, such as weights without biases.
        Length scales take one `vjp`, all together, and parts of kernels of kernels what they take
        by themselves. Errors are some eps of sum_ij abs(V_ij dK_ij).

        Others, those with functions whose dual kernels have no derivatives in closed form, are
        evaluated in float64 at twelve values of each parameter, of which the polynomial through
        them is differentiated. That multiplies what values lose by some hundred: errors are 1e-14
        of the largest derivative by weights, and by small deviations of biases 1e-12 to 1e-11.

        Examples
        --------
        >>> import numpy as np, ntkfast as nf
        >>> kernel = nf.FullyConnected(1, w_std=1.5).ntk
        >>> found = kernel.parameter_gradient(np.eye(2), None, np.eye(2))
        >>> {name: round(value, 6) for name, value in found.items()}
        {'w_std': 6.0, 'bias': 0.0}
        """
        Y = None if Y is X else Y
        place, run = self._place(X, engine, threads)
        left, right = self._inputs(place, X, Y)
        weights = weights_of(place, V, left, right, False)
        known = self.parameters()
        wanted = list(known) if names is None else _known("names", known, names)
        given = Collected(self, X, Y)
        with np.errstate(over="ignore", invalid="ignore"):
            found = self._by_parameters(wanted, given, left, right, weights, run)
        check_finite(places.HOST, np.array([list(found.values())]))
        return found

    def _by_parameters(
        self, names: Sequence[str], given: Given, X: Any, Y: Any, V: Weights, run: Run
    ) -> dict[str, float]:
        """Return the derivatives for inputs as they were collected, and in the form for engines."""
        found = dict.fromkeys(names, 0.0)
        moving = [name for name in names if self._moves(name)]
        if not moving:  # before V is copied
            return found
        on_host(places.of(X.memory))
        parts = (V.matrix, V.left, V.right)
        weights = Weights(*(None if a is None else a.astype(np.float64) for a in parts))
        for name in moving:
            values = []
            for kernel, left, right in self._neighbours(name, given):
                ways = partial(kernel._gram, run=run), partial(kernel._product, run=run)
                values.append(contracted(*ways, left, right, weights))
            found[name] = float(np.dot(self._stencil(name)[1], np.array(values, np.longdouble)))
        return found

    @places.through_host
    def parameter_jvp(
        self,
        X: ArrayLike,
        Y: ArrayLike | None,
        steps: Mapping[str, float],
        *,
        engine: str | None = None,
        threads: int | None = None,
    ) -> FloatArray:
        """Return the derivative of K(X, Y) as parameters move along steps.

        Parameters
        ----------
        X, Y : (n, d) and (m, d) arrays, or other inputs of the kernel
            None for Y, or the same object as `X`: K(X, X).
        steps : mapping
            From names of `parameters` to numbers; what is left out stays.
        engine, threads
            As for calling the kernel.

        Returns
        -------
        (n, m) array of the common dtype of X and Y

        Raises
        ------
        TypeError, ValueError
            As for `parameter_gradient`.

        Notes
        -----
        As exact as `parameter_gradient`, each pair by itself relative to its terms: a value that is
        normalised moves by a difference, next to equal inputs one of nearly equal numbers.

        Examples
        --------
        >>> import numpy as np, ntkfast as nf
        >>> nf.Gaussian(2.0).parameter_jvp(np.eye(2), None, {"c": 1.0}).round(6)
        array([[ 0.      , -0.036631],
               [-0.036631,  0.      ]])
        """
        Y = None if Y is X else Y
        place, run = self._place(X, engine, threads)
        on_host(place)
        left, right = self._inputs(place, X, Y)
        given = Collected(self, X, Y)
        result = np.zeros((len(left), len(left if right is None else right)), left.dtype)
        moving = {
            name: checks.number(f"steps[{name!r}]", steps[name])
            for name in _known("steps", self.parameters(), steps)
        }
        with np.errstate(over="ignore", invalid="ignore"):
            self._add_slopes(moving, given, left, right, result, run)
        check_finite(place, result, "steps")
        return result

    def _add_slopes(
        self, steps: Mapping[str, float], given: Given, X: Any, Y: Any, out: FloatArray, run: Run
    ) -> None:
        """Add the derivative along steps to a matrix."""
        moving = [name for name in steps if self._moves(name)]
        if not moving:
            return
        total, part = np.zeros(out.shape), np.empty(out.shape)
        for name in moving:
            neighbours = self._neighbours(name, given)
            for weight, (kernel, left, right) in zip(
                self._stencil(name)[1], neighbours, strict=True
            ):
                kernel._gram(left, right, part, run)
                part *= steps[name] * float(weight)
                total += part
        out += total

    def _moves(self, name: str) -> bool:
        """Whether the derivative by a parameter is not 0 by symmetry."""
        return not (enters_by_square(name) and self.parameters()[name] == 0)

    def _stencil(self, name: str) -> Stencil:
        return stencil(self.parameters()[name], REACH / self.parameter_depth)

    def _neighbours(self, name: str, given: Given) -> Iterator[tuple[Any, Any, Any]]:
        """Yield kernels with other values of a parameter, and their inputs in float64."""
        wide = [None if one is None else one.astype(np.float64) for one in given]
        for node in self._stencil(name)[0]:
            kernel = self._moved(name, node)
            yield kernel, *kernel._inputs(places.HOST, *wide)

    @property
    def parameter_depth(self) -> int:
        """How often a parameter multiplies a value, about: the depth of a network."""
        return 1


def _known(argument: str, known: Mapping[str, float], names: Iterable[str]) -> list[str]:
    """Return names of parameters, or raise an error saying which there are."""
    listed = list(names)
    for name in listed:
        if name not in known:
            there = ", ".join(map(repr, known)) or "none"
            other = ALIASES.get(name)
            meant = f"; did you mean {other!r}?" if other in known else did_you_mean(name, known)
            raise ValueError(f"{argument}: expected some of {there}; got {name!r}{meant}")
    return list(dict.fromkeys(listed))
