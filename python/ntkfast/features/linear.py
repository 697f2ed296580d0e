"""Sketches as transformers: SRHT, CountSketch, and the degree-2 TensorSketch and TensorSRHT."""

from __future__ import annotations

from typing import Any, ClassVar

from numpy.random import Generator

from ntkfast.arrays.collections import FloatArray
from ntkfast.features.base import FeatureMap, check_is_fitted
from ntkfast.features.sketches import Count, CountProduct, HadamardProduct, HadamardSketch


class _Sketch(FeatureMap):
    """A sketch that is drawn once for the columns of the rows."""

    _sketch: ClassVar[Any]
    _factors: ClassVar[int] = 1  # of the product that it sketches

    def __init__(self, n_components: int = 256, *, random_state: Any = None) -> None:
        self.n_components = n_components
        self.random_state = random_state

    def _draw(self, X: FloatArray, generator: Generator) -> int:
        self.sketch_ = self._sketch(*[X.shape[1]] * self._factors, self.n_components, generator)
        return int(self.n_components)


class SRHT(_Sketch):
    """Subsampled randomised Hadamard transform, a linear map that keeps inner products.

    Random signs, a Walsh-Hadamard transform, `n_components` of its coordinates:
    E[f(x).f(y)] = x.y, exactly so if `n_components` is a multiple of the next power of two of d.

    Parameters
    ----------
    n_components : int, default 256
        Number of features.
    random_state : int, RandomState or None
        As everywhere in scikit-learn.

    References
    ----------
    .. [1] J. Tropp, "Improved analysis of the subsampled randomized Hadamard transform", 2011.

    Examples
    --------
    >>> import numpy as np
    >>> from ntkfast.features import SRHT
    >>> X = np.eye(4)
    >>> F = SRHT(4, random_state=0).fit_transform(X)
    >>> np.allclose(F @ F.T, X)
    True
    """

    _sketch = HadamardSketch

    def _check_device(self) -> None:
        """Any device will do."""

    def _width(self) -> int:
        return int(self.sketch_.size)

    def _write(self, X: FloatArray, out: FloatArray) -> None:
        self.sketch_(X, out)


class CountSketch(_Sketch):
    """Adds every coordinate, with a random sign, to one random feature.

    E[f(x).f(y)] = x.y; the cost is one addition per entry that is not zero. Sparse matrices are
    taken and give sparse features.

    Parameters
    ----------
    n_components : int, default 256
        Number of features.
    random_state : int, RandomState or None
        As everywhere in scikit-learn.

    References
    ----------
    .. [1] M. Charikar, K. Chen, M. Farach-Colton, "Finding frequent items in data streams", 2002.

    Examples
    --------
    >>> import numpy as np
    >>> from ntkfast.features import CountSketch
    >>> CountSketch(2, random_state=0).fit_transform(np.ones((1, 6))).shape
    (1, 2)
    """

    _sketch = Count

    def transform(self, X: Any) -> Any:
        """Compute the features of rows, dense or sparse like `X`.

        Parameters
        ----------
        X : (n, d) array or sparse matrix

        Returns
        -------
        (n, n_components) array or sparse matrix
        """
        check_is_fitted(self)
        return self.sketch_(self._rows(X, reset=False))


class _TensorFeatures(_Sketch):
    """Sketch of x (tensor) x, and of x (tensor) y by `pair`."""

    _factors = 2

    def pair(self, X: Any, Y: Any) -> FloatArray:
        """Sketch the tensor products of the rows of two matrices.

        Parameters
        ----------
        X, Y : (n, d) arrays
            With as many columns as in `fit`.

        Returns
        -------
        (n, n_components) array
            E[f(x, y).f(x', y')] = (x.x') (y.y').

        Raises
        ------
        ValueError
            If the shapes differ.
        """
        check_is_fitted(self)
        left, right = self._rows(X, reset=False), self._rows(Y, reset=False)
        if left.shape != right.shape:
            raise ValueError(f"Y: expected shape {left.shape}, got {right.shape}")
        sketches: FloatArray = self.sketch_(left, right)
        return sketches

    def _width(self) -> int:
        return 2 * self.n_features_in_

    def _check_device(self) -> None:
        if self._sketch is not HadamardProduct:
            raise self._host_only()

    def _write(self, X: FloatArray, out: FloatArray) -> None:
        self.sketch_(X, X, out=out)


class TensorSketch(_TensorFeatures):
    """Count sketch of the tensor product: features of the kernel (x.y)^2.

    Two count sketches are convolved by FFT. Unbiased; the relative error falls like
    1/sqrt(n_components).

    Parameters
    ----------
    n_components : int, default 256
        Number of features.
    random_state : int, RandomState or None
        As everywhere in scikit-learn.

    References
    ----------
    .. [1] N. Pham, R. Pagh, "Fast and scalable polynomial kernels via explicit feature maps",
       KDD 2013.

    Examples
    --------
    >>> import numpy as np
    >>> from ntkfast.features import TensorSketch
    >>> TensorSketch(8, random_state=0).fit_transform(np.eye(3)).shape
    (3, 8)
    """

    _sketch = CountProduct


class TensorSRHT(_TensorFeatures):
    """Coordinates of the product of two randomised Hadamard transforms: features of (x.y)^2.

    Real-valued and unbiased, unlike the complex form with Fourier transforms of [1]_; indices are
    drawn without replacement as long as there are fresh ones.

    Parameters
    ----------
    n_components : int, default 256
        Number of features.
    random_state : int, RandomState or None
        As everywhere in scikit-learn.

    References
    ----------
    .. [1] T. Ahle et al., "Oblivious sketching of high-degree polynomial kernels", SODA 2020.

    Examples
    --------
    >>> import numpy as np
    >>> from ntkfast.features import TensorSRHT
    >>> TensorSRHT(8, random_state=0).fit_transform(np.eye(3)).shape
    (3, 8)
    """

    _sketch = HadamardProduct
