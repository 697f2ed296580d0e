"""What is done to images before a kernel sees them: flips, and features of random patches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ntkfast.arrays import checks
from ntkfast.support.randomness import RNG

__all__ = ["RandomPatches", "flips"]

Images = NDArray[Any]
PANEL_BYTES = 1 << 26  # of the patches that are held at a time


def __dir__() -> list[str]:
    """Return the public names."""
    return __all__


def flips(X: ArrayLike, *others: ArrayLike) -> Any:
    """Return images followed by their mirror images, and what belongs to them twice.

    Kernel methods learn from both, as Li et al. do for CIFAR-10 [1]_.

    Parameters
    ----------
    X : (n, height, width, channels) array
    *others : arrays
        Labels, targets or weights of the images, n each along the first axis.

    Returns
    -------
    (2 n, height, width, channels) array, or a tuple of it and the others

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type or shape.

    References
    ----------
    .. [1] Z. Li et al., "Enhanced convolutional neural tangent kernels", arXiv:1911.00809.

    Examples
    --------
    >>> import numpy as np
    >>> from ntkfast.preprocessing import flips
    >>> X, y = flips(np.arange(6.0).reshape(1, 2, 3, 1), ["cat"])
    >>> X[1, :, :, 0], y
    (array([[2., 1., 0.],
           [5., 4., 3.]]), array(['cat', 'cat'], dtype='<U3'))
    """
    images = checks.images("X", X, None)
    found: list[Images] = [np.concatenate([images, images[:, :, ::-1]])]
    for k, value in enumerate(others):
        array = np.asarray(value)
        if array.ndim == 0 or len(array) != len(images):
            size = "a scalar" if array.ndim == 0 else len(array)
            raise ValueError(f"others[{k}]: expected {len(images)}, one per image, got {size}")
        found.append(np.concatenate([array, array]))
    return tuple(found) if others else found[0]


@dataclass(frozen=True, eq=False)
class RandomPatches:
    """Features of an image by patches of other images: Coates and Ng (2012).

    Every patch p of an image is normalised, ``(p - mean) / sqrt(variance + normalize)``, whitened
    by the covariance of random patches, and compared with `filters` of these, w, of unit length.
    Its features are ``max(w p - bias, 0)`` and ``max(-w p - bias, 0)``; averages over blocks of
    `pool` x `pool` patches make images with 2 `filters` channels of them, inputs of any network.

    Parameters
    ----------
    filters : int, default 256
    size : int, default 6
        Rows and columns of a patch.
    bias : float, default 1
        What a patch must exceed.
    pool : int, default 1
        Of the blocks of patches; those that do not fill one are left out.
    normalize : float, default 10
        Added to variances, for pixels of 0 to 255.
    whiten : float, default 0.1
        Added to the eigenvalues of the covariance.
    samples : int, default 10,000
        Random patches for the covariance.
    rng : int, Generator or None

    References
    ----------
    .. [1] A. Coates, A. Ng, "Learning feature representations with k-means", 2012: random patches
       as filters, constants of its whitening.
    .. [2] Z. Li et al., arXiv:1911.00809, who put such a layer before convolutional kernels; their
       constants could not be read, and are not promised here.

    Examples
    --------
    >>> import numpy as np
    >>> from ntkfast.preprocessing import RandomPatches
    >>> X = np.random.default_rng(0).uniform(0, 255, size=(20, 8, 8, 3))
    >>> RandomPatches(16, size=5, pool=2).fit(X).transform(X).shape
    (20, 2, 2, 32)
    """

    filters: int = 256
    size: int = 6
    bias: float = 1.0
    pool: int = 1
    normalize: float = 10.0
    whiten: float = 0.1
    samples: int = 10_000
    rng: RNG = 0

    fitted_: ClassVar[Any]  # weights, offsets and the shape of images, behind `fit`

    def __post_init__(self) -> None:
        checks.store(
            self,
            filters=checks.count("filters", self.filters, least=1),
            size=checks.count("size", self.size, least=1),
            bias=checks.number("bias", self.bias, least=0.0),
            pool=checks.count("pool", self.pool, least=1),
            normalize=checks.number("normalize", self.normalize, above=0.0),
            whiten=checks.number("whiten", self.whiten, above=0.0),
            samples=checks.count("samples", self.samples, least=2),
        )

    def fit(self, X: ArrayLike) -> RandomPatches:
        """Draw patches of these images; those of other images come from `transform`.

        Parameters
        ----------
        X : (n, height, width, channels) array

        Raises
        ------
        TypeError, ValueError
            If they are no images, or smaller than a patch.
        """
        images, rng = self._images(X), np.random.default_rng(self.rng)
        n, height, width, _ = images.shape
        rows, columns = height - self.size + 1, width - self.size + 1
        places = [rng.integers(size, size=self.samples) for size in (n, rows, columns)]
        windows = self._windows(images)
        seen = self._normalised(windows[tuple(places)].reshape(self.samples, -1))
        mean = seen.mean(axis=0)
        values, vectors = np.linalg.eigh(np.cov(seen, rowvar=False).reshape(seen.shape[1], -1))
        matrix = (vectors / np.sqrt(np.maximum(values, 0) + self.whiten)) @ vectors.T
        chosen = rng.choice(self.samples, self.filters, replace=self.filters > self.samples)
        white = (seen[chosen] - mean) @ matrix
        lengths = np.linalg.norm(white, axis=1, keepdims=True)
        directions = white / np.where(lengths > 0, lengths, 1)
        # w (M (p - mean)) as one matrix and a constant
        weights = matrix @ directions.T
        checks.store(self, fitted_=(weights, mean @ weights, images.shape[1:]))
        return self

    def transform(self, X: ArrayLike) -> Images:
        """Return the features as images.

        Parameters
        ----------
        X : (n, height, width, channels) array
            Images of the shape that was fitted.

        Returns
        -------
        (n, rows, columns, 2 filters) array

        Raises
        ------
        TypeError, ValueError
            If they are no such images, or nothing was fitted.
        """
        if not hasattr(self, "fitted_"):
            raise ValueError("transform: expected fit before it")
        weights, offsets, shape = self.fitted_
        images = self._images(X, shape)
        windows = self._windows(images)
        n, rows, columns = windows.shape[:3]
        rows, columns = rows // self.pool, columns // self.pool
        out = np.empty((n, rows, columns, 2 * self.filters), images.dtype)
        row_bytes = 8 * windows.shape[1] * windows.shape[2] * (3 * self.filters + len(weights))
        step = max(1, PANEL_BYTES // row_bytes)
        for start in range(0, n, step):
            part = windows[start : start + step]
            seen = self._normalised(part.reshape(*part.shape[:3], -1))
            along = seen @ weights - offsets
            both = np.concatenate([along - self.bias, -along - self.bias], axis=-1)
            np.maximum(both, 0, out=both)
            both = both[:, : rows * self.pool, : columns * self.pool]
            blocks = both.reshape(len(part), rows, self.pool, columns, self.pool, -1)
            out[start : start + step] = blocks.mean(axis=(2, 4))
        return out

    def _images(self, X: ArrayLike, shape: Any = None) -> Images:
        images = checks.images("X", X, shape)
        if min(images.shape[1:3]) - self.size + 1 < self.pool:
            raise ValueError(
                f"size: expected images of at least {self.size + self.pool - 1} rows and columns "
                f"for patches of {self.size} and blocks of {self.pool}, got {images.shape[1:3]}"
            )
        return images

    def _windows(self, images: Images) -> Images:
        """Return all patches, (n, rows, columns, channels, size, size), a view."""
        shape = self.size, self.size
        return np.lib.stride_tricks.sliding_window_view(images, shape, axis=(1, 2))

    def _normalised(self, patches: Images) -> NDArray[np.float64]:
        wide = patches.astype(np.float64)
        wide -= wide.mean(axis=-1, keepdims=True)
        wide /= np.sqrt(np.mean(wide**2, axis=-1, keepdims=True) + self.normalize)
        return np.asarray(wide)
