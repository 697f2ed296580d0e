"""What an engine offers: maps and arrays handed to the functions of an extension module."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ntkfast.arrays.collections import FloatArray, Rows, Weights
from ntkfast.engines.codes import MIDDLE_DENSITY, SECTOR_UNIT, Answer, NeuronKind
from ntkfast.engines.maps import (
    ImagePlan,
    LayerMap,
    Map,
    NeuronMap,
    RadialMap,
    Rotation,
    ScaledImages,
    SectorMap,
    SequenceMap,
    SequenceSide,
    StructuredMap,
)

if TYPE_CHECKING:
    from ntkfast.engines.groups import Groups


class Engine:
    """An engine, whose functions an extension module computes.

    Parameters
    ----------
    unavailable : callable
        Returns why the engine cannot run here, or an empty string.
    module : callable
        Returns the extension module.
    where : callable
        Returns the text that says where to compute: an instruction set, or device and precision.
    """

    def __init__(
        self,
        unavailable: Callable[[], str],
        module: Callable[[], Any],
        where: Callable[[], str],
    ) -> None:
        self.unavailable = unavailable
        self._module = module
        self._where = where

    def call(self, name: str, dtype: np.dtype[Any], *arguments: object) -> Any:
        """Call the function of a dtype."""
        return _function(self._module(), name, dtype)(*arguments)

    def _compute(self, name: str, dtype: np.dtype[Any], *arguments: object, threads: int) -> Any:
        return _function(self._module(), name, dtype)(*arguments, threads, self._where())

    def _compute_rows(
        self, name: str, plan: Map, X: Rows, Y: Rows | None, *arguments: object, threads: int
    ) -> Any:
        """Call a function that takes rows, columns and a map before its own arguments."""
        norms, others = self._norms(name, plan, X, Y)
        return self._compute(
            name,
            X.data.dtype,
            X.data,
            norms,
            None if Y is None else Y.data,
            others,
            self.handed(plan),
            X.series,
            None if Y is None else Y.series,
            X.diagonal,
            *arguments,
            threads=threads,
        )

    def _norms(self, name: str, plan: Map, X: Rows, Y: Rows | None) -> tuple[Any, Any]:
        """Return the norms as a function of the module takes them."""
        return X.norms, None if Y is None else Y.norms

    def handed(self, plan: Map) -> Any:
        """Hand a map to C++; tables of neurons and sectors may be large, the others are kept."""
        large = isinstance(plan, NeuronMap) or (isinstance(plan, LayerMap) and plan.sectors)
        return (_compiled if large else _kept)(self._module(), plan)

    def run(
        self,
        plan: Map,
        second: Map | None,
        X: Rows,
        Y: Rows | None,
        outs: tuple[FloatArray | None, FloatArray | None],
        threads: int,
    ) -> None:
        """Write Gram matrices to arrays whose rows have unit stride; Y = None is symmetric.

        Two profiles give two matrices; a `LayerMap` by itself gives NTK and NNGP, a `NeuronMap`
        the features of the directions and of their negatives.
        """
        self._compute_rows(
            "gram",
            plan,
            X,
            Y,
            None if second is None else self.handed(second),
            *outs,
            threads=threads,
        )

    def rounded(self, plan: Map, X: Rows, Y: Rows | None, out: FloatArray, threads: int) -> bool:
        """Write a Gram matrix to an array of a smaller type, tile by tile, if the engine does.

        Returns whether it did, and no number became infinite. Rows of `out` have unit stride.
        """
        return False

    def matmul(
        self, plan: Map, X: Rows, Y: Rows | None, V: FloatArray, out: FloatArray, threads: int
    ) -> None:
        """Write K(X, Y) V to `out`; Y = None is symmetric: every pair is evaluated once."""
        self._compute_rows(
            "matmul",
            plan,
            X,
            Y,
            V,
            out,
            isinstance(plan, LayerMap) and plan.second,
            threads=threads,
        )

    def products(
        self, plan: Map, X: Rows, V: FloatArray, groups: Groups, out: FloatArray, threads: int
    ) -> None:
        """Write what two groups of rows add to K(X, X) V to their rows of `out`, in float64.

        `out` is contiguous.
        """
        rows, others, total = groups
        left, right = X[rows], None if rows == others else X[others]
        self._compute_rows(
            "products",
            plan,
            left,
            right,
            V[rows],
            V[others],
            out[rows],
            out[others],
            isinstance(plan, LayerMap) and plan.second,
            total,
            threads=threads,
        )

    def vjp(
        self,
        plan: Map,
        slope: Map | None,
        X: Rows,
        Y: Rows | None,
        V: Weights,
        out: FloatArray,
        threads: int,
    ) -> None:
        """Write sum_j V_ij dK(x_i, y_j)/dx_i to `out`; Y = None: of V + V^T, if V is a matrix.

        A profile comes with its derivative by the angle, `slope`.
        """
        self._compute_rows(
            "vjp",
            plan,
            X,
            Y,
            None if slope is None else self.handed(slope),
            isinstance(plan, LayerMap) and plan.second,
            V.matrix,
            V.left,
            V.right,
            out,
            threads=threads,
        )

    def jvp(
        self,
        plan: Map,
        slope: Map | None,
        X: Rows,
        Y: Rows,
        dX: FloatArray,
        out: FloatArray,
        threads: int,
    ) -> None:
        """Write dK(x_i, y_j)/dx_i . dX_i to `out`, whose rows have unit stride."""
        self._compute_rows(
            "jvp",
            plan,
            X,
            Y,
            None if slope is None else self.handed(slope),
            isinstance(plan, LayerMap) and plan.second,
            dX,
            out,
            threads=threads,
        )

    def by_parameters(
        self,
        plan: LayerMap,
        steps: NDArray[np.float64],
        X: Rows,
        Y: Rows,
        V: Weights,
        turned: FloatArray | None,
        out: FloatArray,
        threads: int,
    ) -> None:
        """Write the share of x_i in derivatives along p steps of layers.

        Steps, (p, layers + 1, 4), are half the logarithmic derivatives of w, e, x and y of each
        layer; the first number of the last row is that of the result. With weights `out` gets the
        sums over j, (n, p) in float64: weighed by V, by the transpose of the (m, n) matrix
        `turned`, or by their sum. Without weights it gets the matrix, of one step.
        """
        weighs = V.left is not None or V.matrix is not None or turned is not None
        self._compute_rows(
            "by_parameters",
            plan,
            X,
            Y,
            steps,
            plan.second,
            V.matrix,
            turned,
            V.left,
            V.right,
            out if weighs else None,
            None if weighs else out,
            threads=threads,
        )

    def hadamard(
        self, X: FloatArray, out: FloatArray, signs: FloatArray | None, scale: float, threads: int
    ) -> None:
        """Write scale (X * signs) H of 2^p columns to `out`, which may be X.

        H is the Hadamard matrix in natural order; rows of X and `out` have unit stride.
        """
        self._compute("hadamard", X.dtype, X, out, signs, scale, threads=threads)

    def sketch(
        self,
        X: FloatArray,
        Y: FloatArray | None,
        out: FloatArray,
        left: Rotation,
        right: Rotation | None,
        scale: float,
        threads: int,
        step: bool = False,
    ) -> None:
        """Write scale times the rotation of X, or its product with that of Y, to `out`.

        Rows have unit stride; one row of X or Y stands for as many as `out` has. With `step` the
        numbers of Y count as 1 where they are positive and as 0 elsewhere.
        """
        second = (None, None) if right is None else (right.signs, right.index)
        arguments = (X, Y, out, left.signs, left.index, *second, step, scale)
        self._compute("sketch", X.dtype, *arguments, threads=threads)

    def structured(self, plan: StructuredMap, X: FloatArray, out: FloatArray, threads: int) -> None:
        """Write the answers of structured neurons; rows have unit stride."""
        answer = int(Answer[plan.answer.upper()])
        arguments = (X, out, plan.flips, plan.lengths, answer, plan.scale)
        self._compute("structured", X.dtype, *arguments, threads=threads)

    def images(
        self,
        plan: ImagePlan,
        X: ScaledImages,
        Y: ScaledImages | None,
        outs: tuple[FloatArray | None, FloatArray | None],
        diagonal: bool,
        threads: int,
    ) -> None:
        """Write NTK and NNGP of images; Y = None is symmetric.

        With `diagonal` the kernels of images with themselves, to arrays of one column.
        """
        net = self._module().ImageNet(
            plan.steps,
            plan.levels,
            plan.channels,
            plan.circular,
            plan.weight_h,
            plan.weight_w,
            plan.trained,
            plan.bias,
        )
        right = (None,) * 3 if Y is None else (Y.data, Y.scale, Y.factor)
        left = X.data, X.scale, X.factor
        self._compute("images", X.data.dtype, net, *left, *right, diagonal, *outs, threads=threads)

    def sequences(
        self,
        plan: SequenceMap,
        X: SequenceSide,
        Y: SequenceSide | None,
        out: FloatArray,
        threads: int,
    ) -> None:
        """Write the kernel of a recurrent network to an array of any strides."""
        self._compute(
            "sequences",
            X.dtype,
            list(X.numbers),
            X.layout,
            None if Y is None else list(Y.numbers),
            None if Y is None else Y.layout,
            plan.activation,
            plan.layers,
            plan.fixed,
            plan.channels,
            plan.every,
            plan.nngp,
            X.diagonal,
            out,
            threads=threads,
        )


def _compiled(core: Any, plan: Map) -> Any:
    if isinstance(plan, RadialMap):
        return core.Radial(plan.c, plan.gamma, plan.euclidean, plan.degree)
    if isinstance(plan, LayerMap):
        sectors = None if plan.sectors is None else _compiled_sectors(core, plan.sectors)
        return core.Layers(plan.numbers, plan.scales, plan.exponent, sectors)
    if isinstance(plan, NeuronMap):
        made = getattr(core, f"Neuron{_suffix(plan.table.dtype)}")
        return made(int(NeuronKind[plan.kind.upper()]), plan.table, plan.scale, plan.degree)
    return getattr(core, f"Profile{_suffix(plan.table.dtype)}")(
        plan.table,
        plan.sub_bits,
        plan.stretch,
        plan.base,
        plan.degree,
        plan.scale,
        plan.refine_below,
        plan.middle,
        0.0 if plan.middle is None else MIDDLE_DENSITY * plan.middle.shape[1],
        plan.middle_ends,
        plan.inner_degree,
    )


def _compiled_sectors(core: Any, plan: SectorMap) -> Any:
    terms = [list(sector.terms) for sector in plan.sectors]
    angles = [(one.start, one.stop, *one.z) for one in plan.sectors]
    made = getattr(core, f"Sectors{_suffix(plan.table.dtype)}")
    pieces, degrees, _ = plan.table.shape  # rows walk through a unit of numbers of all pieces
    table = plan.table.reshape(pieces, degrees, -1, SECTOR_UNIT).transpose(2, 0, 1, 3)
    return made(
        np.ascontiguousarray(table), plan.sign, terms, angles, *plan.first, *plan.range, plan.second
    )


_kept = lru_cache(maxsize=256)(_compiled)


@cache
def _function(core: Any, name: str, dtype: np.dtype[Any]) -> Any:
    """Return the function of a dtype; small calls would spend their time in writing its name."""
    return getattr(core, f"{name}_{_suffix(dtype)}")


def _suffix(dtype: np.dtype[Any]) -> str:
    return "f32" if dtype.itemsize == 4 else "f64"
