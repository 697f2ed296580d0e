"""Features of kernels on a sphere through their Mercer spectrum: dual activations, Gegenbauer."""

from __future__ import annotations

import math
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ntkfast import inputs
from ntkfast.features import lookup, projections
from ntkfast.features.base import FeatureMap, directions_of
from ntkfast.kernel import Kernel
from ntkfast.maps import FloatArray
from ntkfast.networks import FullyConnected
from ntkfast.rows import checked_row_kernel
from ntkfast.spectrum import mercer
from ntkfast.spectrum.curve import on_sphere
from ntkfast.spectrum.harmonics import log_multiplicities, polynomials

Array = NDArray[np.float64]

KNOTS = (1 << 14) + 1  # of the table of the activation
ONE_NORM = 1e-5  # relative difference up to which norms count as equal
NEGATIVE = 1e-9  # of k(1): negative masses up to here are rounding


def masses(kernel: Kernel, dim: int, max_degree: int, radius: float | None) -> tuple[Array, float]:
    """Return a_0 ... a_max of k(u) = sum_k a_k P_k(u), all non-negative, and k(1).

    Raises
    ------
    ValueError
        If one is negative: the kernel is not positive definite in this dimension.
    """
    if dim == 1:  # the sphere is {-1, 1} and has an even and an odd function
        curve = on_sphere(kernel, 1, radius)
        top, missing = curve.top, float(curve.missing(np.ones(1), np.zeros(1))[0])
        mass = top * np.array([1 - missing / 2, missing / 2])
    else:
        spectrum = mercer(kernel, dim, max_degree, radius=radius)
        known = np.isfinite(spectrum.mass) & (spectrum.error < 1)
        mass, top = np.where(known, spectrum.mass, 0.0), spectrum.trace
    worst = int(np.argmin(mass))
    if mass[worst] < -NEGATIVE * top:
        raise ValueError(
            f"kernel: expected non-negative Mercer masses, degree {worst} has {mass[worst]:.3g} in "
            f"dimension {dim}: {kernel!r} is not positive definite there and has no features"
        )
    return np.maximum(mass, 0), top


def homogeneity(kernel: Kernel, dim: int) -> int:
    """Return p of the zonal kernel |x|^p |y|^p k(u), from its values at equal inputs."""
    rows = np.zeros((2, dim))
    rows[:, 0] = 1, 2
    one, two = kernel.diag(rows)
    return round(math.log(two / one, 4))


class SphereFeatures(FeatureMap):
    """Base of features of K(x, y) = |x|^p |y|^p k(u), or of any kernel on rows of one norm."""

    kernel: Any
    radius: Any

    def _prepare(self, X: FloatArray) -> None:
        given = FullyConnected(1).ntk if self.kernel is None else self.kernel
        self.kernel_ = checked_row_kernel(given)
        self.radius_ = self._find_radius(X)
        self.power_ = homogeneity(self.kernel_, X.shape[1]) if self.radius_ is None else 0

    def _find_radius(self, X: FloatArray) -> float | None:
        """Return the norm of all rows if the kernel needs one."""
        if self.radius is not None:
            return inputs.number("radius", self.radius, above=0.0)
        if self.kernel_.is_zonal:
            return None
        norms = directions_of(X)[1].astype(np.float64)
        low, high = float(norms.min()), float(norms.max())
        if not high - low <= ONE_NORM * low:
            raise ValueError(
                f"kernel: expected a zonal kernel, K(x, y) = |x|^p |y|^p k(cos), or rows of one "
                f"norm, got {self.kernel_!r} and norms from {low:.6g} to {high:.6g}; scale the "
                "rows, or take NTKRandomFeatures or NystromFeatures"
            )
        return float(norms.mean())

    def _scale(self, norms: NDArray[Any]) -> NDArray[Any]:
        """Return |x|^p, having checked that the norms are among those the map is for."""
        if self.radius_ is not None:
            wrong = np.flatnonzero(np.abs(norms - self.radius_) > ONE_NORM * self.radius_)
            if len(wrong):
                raise ValueError(
                    f"X: expected rows of norm {self.radius_:.6g}, "
                    f"row {wrong[0]} has {norms[wrong[0]]:.6g}"
                )
        elif self.power_ == 0 and not norms.all():
            raise ValueError(
                f"X: expected rows that are not zero, row {int(np.argmin(norms))} is, and "
                f"{self.kernel_!r} depends on directions only"
            )
        return np.asarray(norms**self.power_)


class _ZonalFeatures(SphereFeatures):
    """Exact features of low degrees, and an activation of random directions for the others.

    Subclasses say up to which degree features are exact, what directions the others have, and the
    signs of their degrees.
    """

    max_degree: Any
    _paired: bool  # whether directions come in pairs w, -w

    def _draw(self, X: FloatArray, generator: np.random.Generator) -> int:
        dim, top_degree = X.shape[1], inputs.count("max_degree", self.max_degree, least=2)
        self._prepare(X)
        self.masses_, top = masses(self.kernel_, dim, top_degree, self.radius_)
        self.truncated_ = max(0.0, 1 - float(self.masses_.sum()) / top)
        self.exact_ = self._exact_degree(dim)
        rest = self.masses_.copy()
        rest[: self.exact_ + 1] = 0
        self.exact_count_ = exact_count(dim, self.exact_)
        count = self.n_components - self.exact_count_ if rest.any() else 0
        self.projection_ = None
        if count:
            drawn = (count + 1) // 2 if self._paired else count
            self.projection_ = projections.draw(
                self._directions(), dim, drawn, generator, length="unit"
            )
            self.table_ = dual_activation(rest, dim, self._signs(len(rest))) / math.sqrt(count)
        return self.exact_count_ + count

    def _exact_degree(self, dim: int) -> int:
        raise NotImplementedError

    def _directions(self) -> str:
        raise NotImplementedError

    def _signs(self, count: int) -> Array:
        raise NotImplementedError

    def _write(self, X: FloatArray, out: FloatArray) -> None:
        directions, norms = directions_of(X)
        scale = self._scale(norms).astype(X.dtype)
        write_exact(directions, self.masses_[: self.exact_ + 1], scale, out)
        if self.projection_ is not None:
            part = out[:, self.exact_count_ :]
            drawn = (part.shape[1] + 1) // 2 if self._paired else part.shape[1]
            self.projection_(directions, part[:, :drawn])
            np.negative(part[:, : part.shape[1] - drawn], out=part[:, drawn:])
            lookup.apply(self.table_.astype(X.dtype), part, scale)


def exact_count(dim: int, degree: int) -> int:
    """Return the number of exact features for degrees up to -1 (none), 0, 1 or 2."""
    return sum((1, dim, dim * (dim + 1) // 2)[: degree + 1])


def write_exact(X: FloatArray, mass: Array, scale: NDArray[Any], out: FloatArray) -> None:
    """Write exact features of degrees 0, 1, ... of unit rows to the first columns.

    P_0 = 1 and P_1(x.y) = x.y; P_2(x.y) = ((x.y)^2 - 1/d) d/(d-1) is d/(d-1) times the inner
    product of the traceless matrices x x^T - 1/d.
    """
    dim, column = X.shape[1], scale[:, None]
    roots = np.sqrt(mass).astype(X.dtype)
    if len(mass) > 0:
        out[:, 0] = roots[0] * scale
    if len(mass) > 1:
        np.multiply(X, roots[1] * column, out=out[:, 1 : 1 + dim])
    if len(mass) > 2:
        i, j = np.triu_indices(dim)
        factor = roots[2] * math.sqrt(dim / (dim - 1)) * np.where(i == j, 1, math.sqrt(2))
        products = X[:, i] * X[:, j] - np.where(i == j, 1 / dim, 0)
        out[:, 1 + dim : 1 + dim + len(i)] = products * (factor * column)


def dual_activation(mass: Array, dim: int, signs: Array) -> Array:
    """Tabulate g(t) = sum_k signs_k sqrt(a_k) p_k(t) on [-1, 1], p_k = sqrt(N) P_k.

    For uniform directions w, E[g(w.x) g(w.y)] = sum_k a_k P_k(x.y): the p_k are orthonormal, and
    E[N P_k(w.x) P_k(w.y)] = P_k(x.y) is the reproducing property of zonal harmonics.
    """
    knots = np.linspace(-1, 1, KNOTS)
    log_n = np.asarray(log_multiplicities(dim, np.arange(len(mass))), np.float64)
    table = np.zeros(KNOTS)
    for k, p in enumerate(islice(polynomials(dim, knots), len(mass))):
        if mass[k] > 0:
            table += signs[k] * np.exp((math.log(mass[k]) + log_n[k]) / 2) * p
    # In high dimension the ends are out of reach of float32, and of every direction.
    return np.clip(table, -1e36, 1e36)


def relu_signs(count: int) -> Array:
    """Return +, + for degrees 0 and 1, and the alternating signs that a ReLU has in each parity.

    With them the sums stay small at both ends; with equal signs all terms peak at t = 1, and the
    features have heavy tails.
    """
    k = np.arange(count)
    return np.where(k < 2, 1.0, np.where(k % 2 == 0, -((-1.0) ** (k // 2)), (-1.0) ** (k // 2)))


class DualActivationFeatures(_ZonalFeatures):
    """Features of the whole kernel at once: exact low degrees and one activation for the others.

    The kernel on the sphere is sum_k a_k P_k(u) with its Mercer masses a_k. Degrees 0 and 1 (and 2
    in low dimension) have few exact features. The rest is the dual of an activation,
    g(t) = sum_k s_k sqrt(a_k) p_k(t) with orthonormal Gegenbauer polynomials p_k and signs s_k
    that keep g small, so that g(w.x/|x|) |x|^p / sqrt(m) with random directions w are its
    features, whatever the depth. Directions come in pairs w and -w, which share their inner
    product: one matrix product of half the size, and one table lookup per feature.

    Parameters
    ----------
    kernel : Kernel, optional
        A zonal kernel (homogeneous networks without biases), or any kernel for rows of one norm;
        default ``ntkfast.FullyConnected(1).ntk``.
    n_components : int, default 1024
        Number of features, the exact ones included. Fewer if the exact ones are all there is.
    exact : {"auto", -1, 0, 1, 2}, default "auto"
        Highest degree with exact features, of which there are 1, d and d(d+1)/2; -1 stands for
        none. "auto" is the highest that takes at most half of `n_components`.
    weights : {"gaussian", "orthogonal"}, default "orthogonal"
        Independent directions, or orthogonal ones in blocks of d.
    max_degree : int, default 60
        Degrees beyond are left out: see `truncated_`.
    radius : float, optional
        Norm of all rows, for kernels that are not zonal; default: that of the training rows.
    random_state : int, RandomState or None
        As everywhere in scikit-learn.

    Attributes
    ----------
    masses_ : (max_degree + 1,) array
        a_k.
    truncated_ : float
        Part of k(1) that the degrees beyond `max_degree` had. It is missing on the diagonal of
        F F^T, and close to nothing elsewhere: a few percent for deep networks.
    exact_ : int
        Highest exact degree.

    Raises
    ------
    TypeError, ValueError
        In `fit`, if the kernel has negative masses (it is not positive definite), or is not zonal
        and the rows have different norms. In `transform`, for rows of another norm with such a
        kernel, and for rows of zeros with a kernel of the directions only.

    Notes
    -----
    Unbiased up to the truncation and linear interpolation in a table of 16,385 knots. Errors fall
    like 1/sqrt(m). A pair w, -w separates even from odd degrees exactly; in experiments m/2 pairs
    had the same error as m independent directions.

    References
    ----------
    .. [1] A. Daniely, R. Frostig, Y. Singer, "Toward deeper understanding of neural networks: the
       power of initialization and a dual view on expressivity", NeurIPS 2016 (dual activations).
    .. [2] J. Simon, S. Anand, M. DeWeese, "Reverse engineering the neural tangent kernel",
       ICML 2022 (an activation for a given kernel).

    Examples
    --------
    >>> import numpy as np, ntkfast as nf
    >>> from ntkfast.features import DualActivationFeatures
    >>> kernel, X = nf.FullyConnected(3).ntk, np.random.default_rng(0).normal(size=(50, 10))
    >>> F = DualActivationFeatures(kernel, 2048, random_state=0).fit_transform(X)
    >>> bool(np.linalg.norm(F @ F.T - kernel(X)) < 0.05 * np.linalg.norm(kernel(X)))
    True
    """

    _paired = True

    def __init__(
        self,
        kernel: Kernel | None = None,
        n_components: int = 1024,
        *,
        exact: str | int = "auto",
        weights: str = "orthogonal",
        max_degree: int = 60,
        radius: float | None = None,
        random_state: Any = None,
    ) -> None:
        self.kernel = kernel
        self.n_components = n_components
        self.exact = exact
        self.weights = weights
        self.max_degree = max_degree
        self.radius = radius
        self.random_state = random_state

    def _exact_degree(self, dim: int) -> int:
        highest = 1 if dim == 1 else 2
        if self.exact == "auto":
            fits = [e for e in range(highest + 1) if 2 * exact_count(dim, e) <= self.n_components]
            return max(fits, default=-1)
        if self.exact not in (-1, 0, 1, 2) or isinstance(self.exact, bool):
            raise ValueError(f"exact: expected 'auto', -1, 0, 1 or 2, got {self.exact!r}")
        degree = min(int(self.exact), highest)
        if exact_count(dim, degree) >= self.n_components:
            raise ValueError(
                f"n_components: expected more than {exact_count(dim, degree)} for exact features "
                f"up to degree {degree} of {dim} columns, got {self.n_components}"
            )
        return degree

    def _directions(self) -> str:
        return inputs.choice("weights", self.weights, projections.WEIGHTS[:2])

    def _signs(self, count: int) -> Array:
        return relu_signs(count)


class GegenbauerFeatures(_ZonalFeatures):
    """Random Gegenbauer features: the zonal expansion of the kernel in independent directions.

    sqrt(1/m) |x|^p sum_k sqrt(a_k N_k) P_k(w.x/|x|) for uniform directions w, with all signs
    positive: the published form, for comparison. `DualActivationFeatures` has several times smaller
    errors at the same cost.

    Parameters
    ----------
    kernel, n_components, max_degree, radius, random_state
        As for `DualActivationFeatures`.

    Attributes
    ----------
    masses_, truncated_
        As for `DualActivationFeatures`.

    Raises
    ------
    TypeError, ValueError
        As for `DualActivationFeatures`.

    References
    ----------
    .. [1] I. Han, A. Zandieh, H. Avron, "Random Gegenbauer features for scalable kernel methods",
       ICML 2022.

    Examples
    --------
    >>> import numpy as np
    >>> from ntkfast.features import GegenbauerFeatures
    >>> GegenbauerFeatures(n_components=64, random_state=0).fit_transform(np.eye(5)).shape
    (5, 64)
    """

    _paired = False

    def __init__(
        self,
        kernel: Kernel | None = None,
        n_components: int = 1024,
        *,
        max_degree: int = 60,
        radius: float | None = None,
        random_state: Any = None,
    ) -> None:
        self.kernel = kernel
        self.n_components = n_components
        self.max_degree = max_degree
        self.radius = radius
        self.random_state = random_state

    def _exact_degree(self, dim: int) -> int:
        return -1

    def _directions(self) -> str:
        return "gaussian"

    def _signs(self, count: int) -> Array:
        return np.ones(count)
