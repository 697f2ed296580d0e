"""Sketch of a polynomial of the cosine: NTKSketch, and the tree of products under it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.optimize import nnls

from ntkfast.arrays import checks
from ntkfast.arrays.collections import FloatArray
from ntkfast.features import radial
from ntkfast.features.base import directions_of
from ntkfast.features.sketches import PRODUCTS, HadamardSketch, power_of_two
from ntkfast.features.spherical import Expansion, SphereFeatures, tell_missing
from ntkfast.features.zonal import exact_count, write_exact
from ntkfast.kernels.curve import Curve
from ntkfast.kernels.rows import RowKernel, on_sphere
from ntkfast.places import blocks

Array = NDArray[np.float64]

ANGLES = 400  # samples of the kernel that a polynomial is fitted to
NEGLIGIBLE = 1e-6  # coefficients relative to k(1) that are left out


class PolySketch:
    """Sketches of all powers x (tensor) ... (tensor) x up to a degree, from one binary tree.

    The leaves are x or the first unit vector e_1; a power below the number of leaves has e_1 in
    the other ones, whose inner product is 1. Going to the next power changes one leaf and the path
    from it to the root.
    """

    def __init__(self, dim: int, degree: int, m: int, product: Any, generator: Generator) -> None:
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


def fit_functions(
    kernel: RowKernel, dim: int, degree: int, norms: NDArray[Any]
) -> tuple[Expansion, float]:
    """Fit powers of the cosine times functions of the norms, for rows of different norms.

    The power series of the kernel is cut at `degree` and each power gets a factor, fitted to the
    mean over the norms, that makes up for what was cut off.
    """
    logs, grid = radial.nodes(norms)
    series = radial.power_series(kernel, dim, logs)
    mean = series.mean(axis=(1, 2))
    cosines = np.cos(np.linspace(0, np.pi, ANGLES))
    values = np.polynomial.polynomial.polyval(cosines, mean)
    powers = np.vander(cosines, degree + 1, increasing=True) * mean[: degree + 1]
    factors, _ = nnls(powers, values)
    exact = np.einsum("ul,lij->uij", np.vander(cosines, len(series), increasing=True), series)
    kept = series[: degree + 1] * factors[:, None, None]
    fitted = np.einsum("ul,lij->uij", np.vander(cosines, degree + 1, increasing=True), kept)
    found, lost = radial.functions(kept, logs, grid)
    # The series ends, too; between two norms it lacks no more than the mean at equal inputs.
    rest = np.sqrt(np.maximum(1 - np.diagonal(series.sum(axis=0)), 0))
    tail = np.abs(cosines[:, None, None]) ** len(series) * np.outer(rest, rest)
    error = float(np.max(np.abs(fitted - exact) + tail)) + lost
    return Expansion(found, grid, error), error


@dataclass(eq=False, repr=False)
class NTKSketch(SphereFeatures):
    """Sketch of a polynomial with non-negative coefficients that approximates the whole kernel.

    k(u) is fitted by sum_j c_j u^j, c_j >= 0; the powers are sketched by a tree of tensor products,
    and their concatenation is sketched down. The constant and linear terms are exact where they
    take at most half of the features. Where the kernel depends on norms that differ, c_j is a sum
    of a few products of functions of one norm: activations of any kind, biases included ([3]_ has
    this for one layer, where it is a single product).

    Parameters
    ----------
    kernel : Kernel, optional
        A network's kernel or any other of the cosine and the norms; default
        ``ntkfast.FullyConnected(1).ntk``.
    n_components : int, default 1024
        Number of features. Fewer if the exact ones are all there is.
    degree : int, default 8
        Degree of the polynomial, at least 2; the tree has the next power of two of leaves.
    coefficients : sequence of float, optional
        c_0, c_1, ... to take instead of the fit, for the kernel at unit rows (or rows of norm
        `radius`).
    inner : int, optional
        Size of the sketches in the tree; default a fourth of `n_components`, but no less than 256
        (or than `n_components`, if that is fewer). Larger ones have smaller errors.
    sketch : {"srht", "countsketch"}, default "srht"
        See `TensorSRHT` and `TensorSketch`.
    radius : float, optional
        Norm of all rows, for kernels that are not zonal; default: that of the training rows if they
        have one.
    random_state : int, RandomState or None
        As everywhere in scikit-learn.

    Attributes
    ----------
    coefficients_ : array
        c_0, c_1, ...; relative to k(1), and a mean over the norms, where they depend on the norms.
    fit_error_ : float
        Largest error of the polynomial relative to k(1), over all norms if they differ; 0 for given
        coefficients. The kink of ReLU kernels at u = 1 limits every polynomial: a few percent at
        degree 8 for some layers, more for deep and for chaotic networks, with a warning from a
        fifth on.

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
    .. [3] I. Han, A. Zandieh et al., "Fast neural kernel embeddings for general activations",
       NeurIPS 2022.

    Examples
    --------
    >>> import numpy as np
    >>> from ntkfast.features import NTKSketch
    >>> NTKSketch(n_components=64, random_state=0).fit_transform(np.eye(5)).shape
    (5, 64)
    """

    _: KW_ONLY
    degree: int = 8
    coefficients: Sequence[float] | None = None
    inner: int | None = None
    sketch: str = "srht"

    def _draw(self, X: Any, generator: Generator) -> int:
        dim, total = X.shape[1], int(self.n_components)
        degree = checks.count("degree", self.degree, least=2)
        # Below 256 the error of the tree dominates, and a wider one costs next to nothing.
        default = max(total // 4, min(total, 256))
        inner = default if self.inner is None else checks.count("inner", self.inner, least=1)
        product = PRODUCTS[checks.choice("sketch", self.sketch, tuple(PRODUCTS))]
        self._prepare(X)
        self.expansion_, self.fit_error_ = self._polynomial(dim, degree)
        self.coefficients_ = self.expansion_.masses
        tell_missing(f"degree: powers up to the one of {degree}", self.fit_error_)
        ranks = [f.shape[1] for f in self.expansion_.factors]
        # The constant is exact if two features or more leave room for it, linear terms if they take
        # at most half of all.
        counts = exact_count(dim, ranks[:1]), exact_count(dim, ranks[:2])
        fits = counts[0] < total, 2 * counts[1] <= total
        self.exact_ = 1 if all(fits) else 0 if fits[0] else -1
        self.first_ = counts[self.exact_] if self.exact_ >= 0 else 0
        used = np.flatnonzero(self.coefficients_)
        self.powers_ = [int(j) for j in used if j > max(self.exact_, 0)]
        self.tree_ = self.down_ = None
        if not self.powers_:
            return max(self.first_, 1)
        self.tree_ = PolySketch(dim, self.powers_[-1], inner, product, generator)
        size = inner * sum(ranks[j] for j in self.powers_)
        self.down_ = HadamardSketch(size, total - self.first_, generator)
        return total

    def _polynomial(self, dim: int, degree: int) -> tuple[Expansion, float]:
        """Return non-negative coefficients of powers of the cosine, and the error of the fit."""
        if self.coefficients is not None:
            coefficients, error = _checked(self.coefficients), 0.0
        elif self._norms is not None:
            return fit_functions(self.kernel_, dim, degree, self._norms)
        else:
            curve = on_sphere(self.kernel_, dim, self.radius_)
            coefficients, error = fit_polynomial(curve, degree)
        return Expansion([np.full((1, 1), np.sqrt(c)) for c in coefficients], None, error), error

    def _check_device(self) -> None:
        if self.sketch != "srht":
            raise self._host_only(f" with sketch={self.sketch!r}")

    def _width(self) -> int:
        if self.tree_ is None or self.down_ is None:
            return 0
        return max(self.tree_.leaves * self.tree_.m, self.down_.size)

    def _write(self, X: FloatArray, out: FloatArray) -> None:
        directions, norms = directions_of(X)
        scale = self._lengths(norms).astype(X.dtype)
        place = self.expansion_.place(norms)
        factors = [self.expansion_.at(j, place) for j in range(len(self.expansion_.factors))]
        ones = np.ones(len(X), X.dtype)
        write_exact(directions, factors[: self.exact_ + 1], ones, out)  # P_0 = 1, P_1 = u
        if self.tree_ is not None and self.down_ is not None:
            kept = [
                (column, sketch)
                for j, sketch in enumerate(self.tree_(directions), start=1)
                if j in self.powers_
                for column in factors[j].astype(X.dtype).T
            ]
            self.down_(blocks.beside(kept), out[:, self.first_ :])
        elif not self.first_:
            blocks.write(out, blocks.ones(X), factors[0].astype(X.dtype)[:, 0])
        blocks.write(out, out, scale)


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
