"""Sketch of a polynomial of the cosine: NTKSketch, and the tree of products under it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from ntkfast import inputs
from ntkfast.features.base import directions_of
from ntkfast.features.sketches import PRODUCTS, HadamardSketch, power_of_two
from ntkfast.features.zonal import SphereFeatures
from ntkfast.kernel import Kernel
from ntkfast.maps import FloatArray
from ntkfast.spectrum.curve import Curve, on_sphere

Array = NDArray[np.float64]

ANGLES = 400  # samples of the kernel that a polynomial is fitted to
NEGLIGIBLE = 1e-6  # coefficients relative to k(1) that are left out


class PolySketch:
    """Sketches of all powers x (tensor) ... (tensor) x up to a degree, from one binary tree.

    The leaves are x or the first unit vector e_1; a power below the number of leaves has e_1 in
    the other ones, whose inner product is 1. Going to the next power changes one leaf and the path
    from it to the root.
    """

    def __init__(
        self, dim: int, degree: int, m: int, product: Any, generator: np.random.Generator
    ) -> None:
        self.dim, self.degree, self.m = dim, degree, m
        self.leaves = max(2, power_of_two(degree))
        self.levels = []
        size, count = dim, self.leaves // 2
        while count:
            self.levels.append([product(size, size, m, generator) for _ in range(count)])
            size, count = m, count // 2

    def __call__(self, X: FloatArray) -> Iterator[FloatArray]:
        """Yield (n, m) arrays Q_j with E[Q_j(x).Q_j(y)] = (x.y)^j for j = 1 ... degree."""
        unit = np.zeros((1, self.dim), X.dtype)
        unit[0, 0] = 1
        nodes = [[unit] * self.leaves]
        for level in self.levels:
            below = nodes[-1]
            nodes.append([node(*below[2 * i : 2 * i + 2]) for i, node in enumerate(level)])
        for power in range(self.degree):
            nodes[0][power] = X
            i = power
            for below, level, above in zip(nodes, self.levels, nodes[1:], strict=False):
                i //= 2
                above[i] = level[i](*below[2 * i : 2 * i + 2])
            yield nodes[-1][0]


def fit_polynomial(curve: Curve, degree: int) -> tuple[Array, float]:
    """Fit non-negative coefficients to a kernel on a sphere, by least squares at uniform angles.

    Returns
    -------
    coefficients : (degree + 1,) array
    error : float
        Largest error at the samples, relative to k(1).
    """
    half = np.linspace(0, np.pi / 2, ANGLES)
    v, vc = np.sin(half) ** 2, np.cos(half) ** 2
    values = 1 - curve.missing(v, vc)
    powers = np.vander(vc - v, degree + 1, increasing=True)
    coefficients, _ = nnls(powers, values)
    coefficients[coefficients < NEGLIGIBLE] = 0
    error = float(np.max(np.abs(powers @ coefficients - values)))
    return coefficients * curve.top, error


class NTKSketch(SphereFeatures):
    """Sketch of a polynomial with non-negative coefficients that approximates the whole kernel.

    k(u) is fitted by sum_j c_j u^j, c_j >= 0; the powers are sketched by a tree of tensor products,
    and their concatenation is sketched down. The constant and linear terms are exact where they
    take at most half of the features.

    Parameters
    ----------
    kernel : Kernel, optional
        A zonal kernel, or any kernel for rows of one norm; default
        ``ntkfast.FullyConnected(1).ntk``.
    n_components : int, default 1024
        Number of features. Fewer if the exact ones are all there is.
    degree : int, default 8
        Degree of the polynomial, at least 2; the tree has the next power of two of leaves.
    coefficients : sequence of float, optional
        c_0, c_1, ... to take instead of the fit, for the kernel at unit rows (or rows of norm
        `radius`).
    inner : int, optional
        Size of the sketches in the tree; default `n_components`.
    sketch : {"srht", "countsketch"}, default "srht"
        See `TensorSRHT` and `TensorSketch`.
    radius : float, optional
        Norm of all rows, for kernels that are not zonal; default: that of the training rows.
    random_state : int, RandomState or None
        As everywhere in scikit-learn.

    Attributes
    ----------
    coefficients_ : array
        c_0, c_1, ...
    fit_error_ : float
        Largest error of the polynomial relative to k(1); 0 for given coefficients. The kink of
        ReLU kernels at u = 1 limits every polynomial: a few percent at degree 8.

    Raises
    ------
    TypeError, ValueError
        In `fit`, if a coefficient is negative (the polynomial is not positive definite) or another
        parameter has the wrong type or range.

    Notes
    -----
    Unbiased for the polynomial. `DualActivationFeatures` has no such bias, smaller errors, and is
    faster; this class is here for comparison and for polynomials themselves.

    References
    ----------
    .. [1] A. Zandieh et al., "Scaling neural tangent kernels via sketching and random features",
       NeurIPS 2021.
    .. [2] T. Ahle et al., "Oblivious sketching of high-degree polynomial kernels", SODA 2020.

    Examples
    --------
    >>> import numpy as np
    >>> from ntkfast.features import NTKSketch
    >>> NTKSketch(n_components=64, random_state=0).fit_transform(np.eye(5)).shape
    (5, 64)
    """

    def __init__(
        self,
        kernel: Kernel | None = None,
        n_components: int = 1024,
        *,
        degree: int = 8,
        coefficients: Sequence[float] | None = None,
        inner: int | None = None,
        sketch: str = "srht",
        radius: float | None = None,
        random_state: Any = None,
    ) -> None:
        self.kernel = kernel
        self.n_components = n_components
        self.degree = degree
        self.coefficients = coefficients
        self.inner = inner
        self.sketch = sketch
        self.radius = radius
        self.random_state = random_state

    def _draw(self, X: FloatArray, generator: np.random.Generator) -> int:
        dim, total = X.shape[1], int(self.n_components)
        degree = inputs.count("degree", self.degree, least=2)
        inner = total if self.inner is None else inputs.count("inner", self.inner, least=1)
        product = PRODUCTS[inputs.choice("sketch", self.sketch, tuple(PRODUCTS))]
        self._prepare(X)
        if self.coefficients is None:
            curve = on_sphere(self.kernel_, dim, self.radius_)
            self.coefficients_, self.fit_error_ = fit_polynomial(curve, degree)
        else:
            self.coefficients_, self.fit_error_ = _checked(self.coefficients), 0.0
        self.exact_ = 2 * (1 + dim) <= total
        # Without exact terms one feature still is the constant, if there are two or more.
        self.first_ = 1 + dim if self.exact_ else min(1, total - 1)
        powers = np.flatnonzero(self.coefficients_)
        self.powers_ = [int(j) for j in powers if j > self.exact_]
        self.tree_ = self.down_ = None
        if not self.powers_:
            return max(self.first_, 1)
        self.tree_ = PolySketch(dim, self.powers_[-1], inner, product, generator)
        size = inner * len(self.powers_)
        self.down_ = HadamardSketch(size, total - self.first_, generator)
        return total

    def _width(self) -> int:
        if self.tree_ is None or self.down_ is None:
            return 0
        return max(self.tree_.leaves * self.tree_.m, self.down_.rotate.size)

    def _write(self, X: FloatArray, out: FloatArray) -> None:
        directions, norms = directions_of(X)
        roots = np.sqrt(self.coefficients_).astype(X.dtype)
        out[:, :1] = roots[0]
        if self.exact_:
            out[:, 1 : self.first_] = roots[1] * directions
        if self.tree_ is not None and self.down_ is not None:
            kept = [
                roots[j] * sketch
                for j, sketch in enumerate(self.tree_(directions), start=1)
                if j in self.powers_
            ]
            out[:, self.first_ :] = self.down_(np.hstack(kept))
        out *= self._scale(norms).astype(X.dtype)[:, None]


def _checked(coefficients: Sequence[float]) -> Array:
    result = np.asarray(coefficients, np.float64)
    if result.ndim != 1 or len(result) < 2 or not np.isfinite(result).all():
        raise ValueError("coefficients: expected at least two finite numbers c_0, c_1, ...")
    if np.any(result < 0):
        j = int(np.argmin(result))
        raise ValueError(
            f"coefficients: expected non-negative numbers, c_{j} is {result[j]:.3g}: the "
            "polynomial is not positive definite in all dimensions and has no features"
        )
    return result
