"""Products with a Gram matrix that is never stored, counted and shown on a progress bar."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ntkfast.arrays.collections import FloatArray
from ntkfast.kernels.base import Kernel

if TYPE_CHECKING:
    from tqdm import tqdm

Vectors = NDArray[np.float64]


class Passes:
    """K(X, X) as an operator on blocks of vectors; a pass over all pairs costs n^2 kernel values.

    Parameters
    ----------
    kernel : Kernel
    X : (n, d) array
        Passes run in its dtype; blocks go in and come out as float64.
    progress : bool
        Show a bar on a terminal; needs the extra "cli", without which there is no bar.

    Attributes
    ----------
    count : int
        Passes so far.
    """

    def __init__(self, kernel: Kernel, X: FloatArray, progress: bool = False) -> None:
        self.kernel, self.X, self.count = kernel, X, 0
        self._bar: tqdm[Any] | None = _bar() if progress else None

    def __call__(self, V: Vectors) -> Vectors:
        """Return K @ V."""
        self.count += 1
        product = self.kernel.matmul(self.X, None, V).astype(np.float64, copy=False)
        if self._bar is not None:
            self._bar.update()
        return product

    def exact(self, V: Vectors) -> Vectors:
        """Return K @ V from a float64 pass, whatever the dtype of X."""
        double = Passes(self.kernel, self.X.astype(np.float64, copy=False))
        double._bar, self.count = self._bar, self.count + 1
        return double(V)

    def show(self, stage: str, residual: float | None = None) -> None:
        """Say on the bar what is going on."""
        if self._bar is not None:
            self._bar.set_description(stage, refresh=residual is None)
            if residual is not None:
                self._bar.set_postfix_str(f"residual {residual:.1e}")

    def __enter__(self) -> Passes:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._bar is not None:
            self._bar.close()


def _bar() -> tqdm[Any] | None:
    try:
        from tqdm import tqdm
    except ImportError:
        return None
    return tqdm(unit=" passes", disable=None, smoothing=0.3)
