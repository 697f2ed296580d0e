"""Derivatives of kernels of images and sequences: pair after pair, in NumPy.

A parameter moves the constants of a network and nothing else. Pairs are symmetric, and each input
has a half of these constants: those of a pair are roots of products of both. What a half moves are
covariances, by half of what the constant does, and the variances of its input. The other half is
that of the pair turned around.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ntkfast import places
from ntkfast.arrays.collections import FloatArray, Weights
from ntkfast.arrays.panels import panels
from ntkfast.engines import Run
from ntkfast.kernels.base import KernelOfNetwork
from ntkfast.kernels.by_parameters import Given
from ntkfast.kernels.gradients import on_host
from ntkfast.kernels.moving import contracted, gradient_weights

PANEL_BYTES = 1 << 23  # of what a walk keeps of its pairs
# Rows and columns, and their inputs: which of them are one and the same.
Block = tuple[slice, slice, tuple[Any, Any, NDArray[np.bool_]]]


class EachPair(KernelOfNetwork):
    """A kernel whose pairs are walked forth and back, a block of them at a time.

    Gradients have one row per input, which ends in zeros where an input is shorter than others.
    """

    @abstractmethod
    def _alone(self, X: Any) -> Any:
        """Return what walks ask of inputs by themselves; it can be sliced like them."""

    @abstractmethod
    def _pair_bytes(self, X: Any) -> int:
        """How much a walk keeps of a pair, about."""

    @abstractmethod
    def _each_gradient(self, X: Any, Y: Any, own: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Return the gradients of the kernels of all pairs by the first of them.

        Parameters
        ----------
        X, Y
            n and m inputs, as `_alone` returned them.
        own : (n, m) array
            Which pairs are an input and itself, of a symmetric matrix.

        Returns
        -------
        (n, m, numbers of the longest input) array
        """

    @abstractmethod
    def _by_constants(
        self, X: Any, Y: Any, own: NDArray[np.bool_], V: NDArray[np.float64] | None
    ) -> NDArray[np.float64]:
        """Return derivatives by the logarithms of the constants that the first inputs have.

        Returns
        -------
        (constants, n, m) array
            With weights V the sums over Y of it, (constants, n).
        """

    @abstractmethod
    def _constant_steps(self, name: str, X: Any) -> NDArray[np.float64]:
        """Return the derivatives of these logarithms by a parameter."""

    def _constant_rate(self, name: str, X: Any) -> float | None:
        """Return the logarithmic derivative by a parameter, where it is the same of all pairs."""
        return None

    @abstractmethod
    def _has_slopes(self) -> bool:
        """Whether the derivatives of its dual kernels are known."""

    def _weighted(
        self, X: Any, Y: Any, own: NDArray[np.bool_], V: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Return the sums over Y of these gradients with weights V, (n, numbers) array."""
        return np.asarray(np.einsum("ij,ijk->ik", V, self._each_gradient(X, Y, own)))

    @np.errstate(all="ignore")  # results that are not finite are told
    def _gradient(self, X: Any, Y: Any, V: Weights, out: FloatArray, run: Run) -> None:
        left = self._alone(X)
        right = left if Y is None else self._alone(Y)
        for part, weights in gradient_weights(X, Y, V):
            total = np.zeros(out[part].shape)
            for rows, columns, block in self._blocks(X, left[part], right, part.start, Y is None):
                weight = weights[rows, columns].astype(np.float64)
                each = self._weighted(*block, weight)
                total[rows, : each.shape[1]] += each
            out[part] = total

    @np.errstate(all="ignore")
    def _moving(self, X: Any, Y: Any, dX: FloatArray, out: FloatArray, run: Run) -> None:
        left = self._alone(X)
        right = left if Y is X else self._alone(Y)
        for rows, columns, block in self._blocks(X, left, right, 0, Y is X):
            each = self._each_gradient(*block)
            steps = dX[rows, : each.shape[2]].astype(np.float64)
            out[rows, columns] = np.einsum("ijk,ik->ij", each, steps)

    def _by_parameters(
        self, names: Sequence[str], given: Given, X: Any, Y: Any, V: Weights, run: Run
    ) -> dict[str, float]:
        rates, rest = self._rates(names, X)
        found = dict.fromkeys(names, 0.0)
        if rates or (rest and self._has_slopes()):
            on_host(places.of(X.memory))
        if any(rates.values()):
            ways = partial(self._gram, run=run), partial(self._product, run=run)
            total = contracted(*ways, X, Y, V)
            found |= {name: rate * total for name, rate in rates.items()}
        if rest and self._has_slopes():
            with np.errstate(all="ignore"):
                sums = self._by_halves(X, Y, V)
            found |= {name: float(sums @ self._constant_steps(name, X)) for name in rest}
        elif rest:
            found |= super()._by_parameters(rest, given, X, Y, V, run)
        return found

    def _rates(self, names: Iterable[str], X: Any) -> tuple[dict[str, float], list[str]]:
        """Return the rates of parameters that have one, and the others that move."""
        moving = {name: self._constant_rate(name, X) for name in names if self._moves(name)}
        rates = {name: rate for name, rate in moving.items() if rate is not None}
        return rates, [name for name in moving if name not in rates]

    def _by_halves(self, X: Any, Y: Any, V: Weights) -> NDArray[np.float64]:
        """Return the derivatives of sum_ij V_ij K(X_i, Y_j) by the logarithms of constants."""
        left = self._alone(X)
        right = left if Y is None else self._alone(Y)
        halves: list[tuple[Any, ...]] = [(X, left, Y, right, V)]
        if Y is not None:
            turned = Weights(None if V.matrix is None else V.matrix.T, V.right, V.left)
            halves.append((Y, right, X, left, turned))
        elif V.left is not None and V.right is not None:  # as for `vjp`
            both = np.hstack([V.left, V.right]), np.hstack([V.right, V.left])
            halves = [(X, left, None, left, Weights(None, *both))]
        total: Any = 0.0
        for one, mine, other, others, weights in halves:
            for part, some in gradient_weights(one, other, weights):
                for rows, columns, block in self._blocks(
                    one, mine[part], others, part.start, Y is None
                ):
                    weight = some[rows, columns].astype(np.float64)
                    total = total + self._by_constants(*block, weight).sum(axis=1)
        return np.asarray(total)

    def _add_slopes(
        self, steps: Mapping[str, float], given: Given, X: Any, Y: Any, out: FloatArray, run: Run
    ) -> None:
        rates, rest = self._rates(steps, X)
        if any(rates.values()):
            part = np.empty(out.shape, out.dtype)
            self._gram(X, Y, part, run)
            part *= sum(steps[name] * rate for name, rate in rates.items())
            out += part
        if not rest or not self._has_slopes():
            super()._add_slopes({name: steps[name] for name in rest}, given, X, Y, out, run)
            return
        along = sum(steps[name] * self._constant_steps(name, X) for name in rest)
        left = self._alone(X)
        right = left if Y is None else self._alone(Y)

        def half(one: Any, mine: Any, others: Any) -> NDArray[np.float64]:
            part = np.empty((len(mine), len(others)))
            for rows, columns, block in self._blocks(one, mine, others, 0, Y is None):
                part[rows, columns] = np.tensordot(along, self._by_constants(*block, None), 1)
            return part

        with np.errstate(all="ignore"):
            part = half(X, left, right)
            out += part + (part if Y is None else half(Y, right, left)).T

    def _blocks(
        self, X: Any, left: Any, right: Any, start: int, symmetric: bool
    ) -> Iterator[Block]:
        """Yield blocks of pairs; `start` is the number of the first row on the left."""
        size = self._pair_bytes(X) + 16 * self._movable(X, None)[1]
        for columns in panels(len(right), size, PANEL_BYTES):
            others = right[columns]
            for rows in panels(len(left), size * len(others), PANEL_BYTES):
                numbers = np.arange(start + rows.start, start + rows.stop)
                own = numbers[:, None] == np.arange(columns.start, columns.stop)
                yield rows, columns, (left[rows], others, own & symmetric)
