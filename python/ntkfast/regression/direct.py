"""Direct solvers: a Cholesky factor in panels, in memory or on disk, and eigenvalues."""

from __future__ import annotations

import math
import shutil
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import DTypeLike
from scipy import linalg

from ntkfast.arrays.collections import FloatArray, Values
from ntkfast.regression.eigen import Eigen
from ntkfast.regression.system import System
from ntkfast.support.progress import Bar

WIDTH = 1024  # columns of a panel in memory
WIDTH_ON_DISK = 4096  # the file is read once per panel; SciPy's Cholesky crashes from 16,000 on
STEPS = 4  # of power iteration
ADVICE = 'add a ridge, or take method="eigh", which gives the minimum-norm solution'


class PanelCholesky:
    """The factor L of A = L L^T from the diagonal downwards, panel of columns by panel.

    Each panel is formed, reduced by the earlier ones and never touched again: A as a whole does not
    exist, L takes half of its memory, and on disk is written once.

    Parameters
    ----------
    columns : callable
        Returns the columns of a slice, from its first row on: an array that is overwritten.
    n : int
    dtype : float64 or float32
    on_disk : bool
        Whether panels lie in a temporary file, in the folder that `tempfile.gettempdir` names.
    bar : Bar
        Counts the panels.

    Raises
    ------
    numpy.linalg.LinAlgError
        If A is not positive definite to rounding: a pivot is below n eps times its entry of the
        diagonal. That is so of any D A D, D diagonal, if of one.
    OSError
        If the disk has no room.
    """

    def __init__(
        self,
        columns: Callable[[slice, DTypeLike], FloatArray],
        n: int,
        dtype: DTypeLike,
        on_disk: bool,
        bar: Bar,
    ) -> None:
        width = WIDTH_ON_DISK if on_disk else WIDTH
        self._blocks = [slice(k, min(k + width, n)) for k in range(0, n, width)]
        self._panels: list[FloatArray] = []
        self._dtype: np.dtype[Any] = np.dtype(dtype)
        keep = _on_disk(self._dtype, self._sizes(n)) if on_disk else _in_memory()
        share = n * float(np.finfo(self._dtype).eps)
        for block in self._blocks:
            panel = columns(block, self._dtype)
            wide = panel.shape[1]
            floor = share * np.diagonal(panel[:wide]).astype(np.float64)
            for before, done in zip(self._blocks, self._panels, strict=False):
                rows = done[block.start - before.start :]
                panel -= rows @ rows[:wide].T
            corner = linalg.cholesky(panel[:wide], lower=True, check_finite=False)
            if np.any(np.diagonal(corner).astype(np.float64) ** 2 <= floor):
                raise linalg.LinAlgError("a pivot is zero to rounding")
            panel[:wide] = corner
            if len(panel) > wide:
                panel[wide:] = linalg.solve_triangular(
                    corner, panel[wide:].T, lower=True, check_finite=False
                ).T
            self._panels.append(keep(panel))
            bar.update()

    def _sizes(self, n: int) -> int:
        return sum((n - block.start) * (block.stop - block.start) for block in self._blocks)

    @property
    def memory(self) -> int:
        """Bytes of the factor, wherever it lies."""
        return sum(panel.nbytes for panel in self._panels)

    def solve(self, B: Values) -> Values:
        """Return A^-1 B in the precision of the factor."""
        x = B.astype(self._dtype)
        for block, panel in zip(self._blocks, self._panels, strict=True):
            wide = panel.shape[1]
            x[block] = _solved(panel[:wide], x[block])
            x[block.stop :] -= panel[wide:] @ x[block]
        for block, panel in zip(reversed(self._blocks), reversed(self._panels), strict=True):
            wide = panel.shape[1]
            rest = x[block] - panel[wide:].T @ x[block.stop :]
            x[block] = _solved(panel[:wide], rest, 1)
        return x.astype(np.float64, copy=False)

    def times(self, V: Values) -> Values:
        """Return A V, rounding apart."""
        out = np.zeros(V.shape)
        for block, panel in zip(self._blocks, self._panels, strict=True):
            # The corner's upper triangle is zero.
            out[block.start :] += panel @ (panel.T @ V[block.start :])
        return out

    def condition(self) -> float:
        """Estimate the condition number by some steps of power iteration, from below."""
        generator = np.random.default_rng(0)
        sizes = []
        for apply in (self.times, self.solve):
            v = generator.normal(size=(sum(b.stop - b.start for b in self._blocks), 1))
            for _ in range(STEPS):
                v = apply(v / np.linalg.norm(v))
            sizes.append(float(np.linalg.norm(v)))
        return max(1.0, math.prod(sizes))


def _solved(corner: FloatArray, b: FloatArray, trans: int = 0) -> FloatArray:
    """Solve with a triangle, or its transpose, of numbers that are known to be finite."""
    return np.asarray(
        linalg.solve_triangular(corner, b, lower=True, trans=trans, check_finite=False)
    )


def _in_memory() -> Callable[[FloatArray], FloatArray]:
    return lambda panel: panel


def _on_disk(dtype: np.dtype[Any], size: int) -> Callable[[FloatArray], FloatArray]:
    """Return a function that moves panels to a file without a name, one after the other."""
    folder, needed = tempfile.gettempdir(), size * dtype.itemsize
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise OSError(
            f"memory: the factor needs {needed} bytes of disk, {folder} has {free}; raise memory, "
            'set TMPDIR to a folder with room, or take method="cg"'
        )
    with tempfile.TemporaryFile() as file:  # the map outlives it
        whole = np.memmap(file, dtype, "r+", 0, (size,))
    begun = 0

    def keep(panel: FloatArray) -> FloatArray:
        nonlocal begun
        place = whole[begun : begun + panel.size].reshape(panel.shape)
        place[...] = panel
        begun += panel.size
        return place

    return keep


def explained(error: linalg.LinAlgError, ridge: float | Values) -> linalg.LinAlgError:
    """Return the error of a factorisation with what to do."""
    return linalg.LinAlgError(
        "ridge: expected one that makes K + ridge I positive definite to rounding, got "
        f"{np.min(ridge)} "
        f"({error}): inputs are equal, or nearly so; {ADVICE}"
    )


def factorised(system: System, dtype: DTypeLike, on_disk: bool, bar: Bar) -> PanelCholesky:
    """Return the factor of a system."""
    return PanelCholesky(system.columns, len(system), dtype, on_disk, bar)


def by_eigenvalues(K: Values, B: Values, ridge: float | Values) -> tuple[Values, int, float]:
    """Return the minimum-norm least-squares solution, the rank and the condition number.

    Eigenvalues of K + diag(ridge) up to n eps times the largest one count as zero, as for
    `numpy.linalg.matrix_rank`. The Gram matrix is overwritten.
    """
    np.einsum("ii->i", K)[:] += ridge
    eigen = Eigen.of(K)
    factors = eigen.inverse()
    kept = eigen.values[factors > 0]
    rank = len(kept)
    condition = float(kept[-1] / kept[0]) if rank == len(K) else math.inf
    return eigen.times(factors, eigen.seen(B)), rank, condition


def choices(n: int, memory: int) -> Iterator[tuple[DTypeLike, bool]]:
    """Yield precisions and places of a factor, the best one first, as memory allows."""
    half = n * (n + WIDTH) // 2
    if 8 * half <= memory:
        yield np.float64, False
        return
    if 4 * half <= memory:
        yield np.float32, False
    yield np.float64, True
