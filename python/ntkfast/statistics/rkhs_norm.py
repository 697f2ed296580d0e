"""Norms in the RKHS of a kernel: exact for kernel predictors, bounds for networks.

The norm of f measures how fast f varies: |f(x) - f(y)| <= |f|_H |Phi(x) - Phi(y)|. For a kernel
whose feature map is non-expansive, |Phi(x) - Phi(y)| <= |x - y|, it bounds gradients and the effect
of perturbations, and these bound it from below. The NNGP kernels of ReLU networks with unit inputs'
scaling (``nf.FullyConnected(depth).nngp``) have such maps. Their NTKs have not: near equal inputs
|Phi(x) - Phi(y)| falls like the root of |x - y| only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import linalg

from ntkfast.arrays import checks
from ntkfast.arrays.foreign import host_array
from ntkfast.finite import MLP
from ntkfast.kernels.base import Kernel, checked_kernel
from ntkfast.kernels.evaluation import Evaluation
from ntkfast.statistics import composition

__all__ = [
    "KernelFunction",
    "LowerBounds",
    "UpperBounds",
    "interpolant",
    "lower_bounds",
    "of_coefficients",
    "upper_bounds",
]

Values = NDArray[np.float64]
Function = Callable[[Any], Any]

GRID = np.linspace(-40, 40, 80_001)  # where slopes of activations are looked at
PAIR_ROWS = 512  # rows whose differences with all others are held at once


def __dir__() -> list[str]:
    """Return the public names."""
    return __all__


@dataclass(frozen=True, eq=False)
class KernelFunction:
    """``f(x) = sum_i alpha_i K(x, x_i)`` (`interpolant`).

    Attributes
    ----------
    kernel : Kernel
    X : (n, ...) array
    coefficients : (n, outputs) array
        alpha.
    norm : (outputs,) array
        ``sqrt(alpha^T K alpha)``.
    residual : float
        Largest absolute difference of f and the targets, relative to the largest target.
    """

    kernel: Kernel
    X: NDArray[Any]
    coefficients: Values
    norm: Values
    residual: float

    def __call__(
        self, Z: ArrayLike, *, engine: str | None = None, threads: int | None = None
    ) -> Values:
        """Return the values at inputs, an (m, outputs) array."""
        evaluation = Evaluation(self.kernel, engine, threads)
        return np.asarray(evaluation.matmul(Z, self.X, self.coefficients))


def interpolant(
    kernel: Kernel,
    X: ArrayLike,
    y: ArrayLike,
    *,
    ridge: float = 0.0,
    engine: str | None = None,
    threads: int | None = None,
) -> KernelFunction:
    """Return the function of least norm through targets, or the ridge solution, with its norm.

    Parameters
    ----------
    kernel : Kernel
    X : (n, ...) array
    y : (n,) or (n, outputs) array
    ridge : float, default 0
        lambda of ``sum_i (f(x_i) - y_i)^2 + lambda |f|_H^2``.
    engine, threads
        As for calling a kernel.

    Returns
    -------
    KernelFunction

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type, shape or range, or the Gram matrix is singular.

    Notes
    -----
    ``alpha = (K + lambda)^-1 y`` from a Cholesky factorisation in float64: memory and time of a
    dense solution. A lower bound of the norm of *any* function with values y is the norm for
    ``ridge=0``.

    Examples
    --------
    >>> import numpy as np
    >>> import ntkfast as nf
    >>> from ntkfast.statistics import rkhs_norm
    >>> f = rkhs_norm.interpolant(nf.FullyConnected(1).nngp, np.eye(3), [1.0, 0.0, -1.0])
    >>> f.norm.round(6), f(np.eye(3)).ravel().round(6) + 0.0
    (array([1.712859]), array([ 1.,  0., -1.]))
    """
    k, penalty = checked_kernel(kernel), checks.number("ridge", ridge, least=0.0)
    points = checks.real_array("X", host_array("X", X)).astype(np.float64, copy=False)
    targets, _ = checks.columns("y", y, len(points))
    K = Evaluation(k, engine, threads)(points)
    try:
        factor = linalg.cho_factor(K + penalty * np.eye(len(K)))
    except linalg.LinAlgError as error:
        raise ValueError("X: the Gram matrix is singular; take a ridge > 0") from error
    alpha = linalg.cho_solve(factor, targets.astype(np.float64))
    fitted = K @ alpha
    norm = np.sqrt(np.maximum(np.einsum("nc,nc->c", alpha, fitted), 0))
    size = np.abs(targets).max() or 1.0
    return KernelFunction(k, points, alpha, norm, float(np.abs(fitted - targets).max() / size))


def of_coefficients(
    kernel: Kernel,
    X: ArrayLike,
    coefficients: ArrayLike,
    *,
    engine: str | None = None,
    threads: int | None = None,
) -> Values:
    """Return the norm of ``sum_i alpha_i K(., x_i)`` in one pass that stores no matrix.

    Parameters
    ----------
    kernel : Kernel
    X : (n, ...) array
    coefficients : (n,) or (n, outputs) array
        alpha.
    engine, threads
        As for calling a kernel.

    Returns
    -------
    (outputs,) array
    """
    points = checked_kernel(kernel).collect(X)
    V, _ = checks.columns("coefficients", coefficients, len(points))
    product = Evaluation(kernel, engine, threads).matmul(points, None, V).astype(np.float64)
    return np.asarray(np.sqrt(np.maximum(np.einsum("nc,nc->c", V.astype(np.float64), product), 0)))


@dataclass(frozen=True, eq=False)
class LowerBounds:
    """Lower bounds of ``|f|_H`` for each output (`lower_bounds`).

    Attributes
    ----------
    gradient : (outputs,) array
        Largest norm of a gradient at the data.
    perturbation : (outputs,) array
        Largest change per distance that perturbations of the data reach.
    pairs : (outputs,) array
        Largest difference quotient of two data.
    interpolation : (outputs,) array or None
        Norm of the function of least norm with the same values; it needs the kernel.
    """

    gradient: Values
    perturbation: Values
    pairs: Values
    interpolation: Values | None

    @property
    def best(self) -> Values:
        """The largest of them."""
        found = [bound for bound in vars(self).values() if bound is not None]
        return np.asarray(np.max(found, axis=0))


def lower_bounds(
    function: MLP | Function,
    X: ArrayLike,
    *,
    gradient: Function | None = None,
    kernel: Kernel | None = None,
    radius: float = 1.0,
    steps: int = 5,
    lipschitz: float = 1.0,
    engine: str | None = None,
    threads: int | None = None,
) -> LowerBounds:
    """Bound the RKHS norm of a function from below, on data.

    Parameters
    ----------
    function : MLP or callable
        Maps (n, d) arrays to (n, outputs) arrays.
    X : (n, d) array
    gradient : callable, optional
        Maps (n, d) arrays to (n, outputs, d) arrays; not for an MLP, which has its own.
    kernel : Kernel, optional
        Of the RKHS, for the bound by interpolation.
    radius : float, default 1
        Largest norm of perturbations.
    steps : int, default 5
        Of projected gradient ascent, each of length ``1.5 radius / steps`` (Bietti et al.).
    lipschitz : float, default 1
        L of the feature map, ``|Phi(x) - Phi(y)| <= L |x - y|``.
    engine, threads
        As for calling the kernel.

    Returns
    -------
    LowerBounds
        They hold for every function of the RKHS; the first three are bounds of the Lipschitz
        constant of any function.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type, shape or range.

    References
    ----------
    .. [1] A. Bietti, G. Mialon, D. Chen, J. Mairal, "A kernel perspective for regularizing deep
       neural networks", arXiv:1810.00363. All four are bounds by the argument above; the tests
       check them against exact norms.

    Examples
    --------
    >>> import numpy as np
    >>> import ntkfast as nf
    >>> from ntkfast.statistics import rkhs_norm
    >>> net = nf.finite.MLP((3, 50, 1))
    >>> X = np.random.default_rng(0).normal(size=(20, 3))
    >>> found = rkhs_norm.lower_bounds(net, X)
    >>> bool(found.best[0] <= rkhs_norm.upper_bounds(net).lipschitz)
    True
    """
    points = checks.matrix("X", X).astype(np.float64, copy=False)
    slope = function.input_gradients if isinstance(function, MLP) else gradient
    if slope is None:
        raise ValueError("gradient: expected the gradient of a function that is no MLP")
    size = checks.number("radius", radius, above=0.0)
    factor = checks.number("lipschitz", lipschitz, above=0.0)
    count = checks.count("steps", steps, least=1)
    gradients, values = np.asarray(slope(points)), np.asarray(function(points))
    found = [
        np.linalg.norm(gradients, axis=2).max(axis=0),
        _perturbations(function, slope, points, values, size, count),
        _pairs(points, values),
    ]
    least = None
    if kernel is not None:
        least = interpolant(kernel, points, values, engine=engine, threads=threads).norm
    first, second, third = (np.asarray(one / factor) for one in found)
    return LowerBounds(first, second, third, least)


def _perturbations(
    f: Function, slope: Function, X: Values, values: Values, radius: float, steps: int
) -> Values:
    """Return the largest change per distance, for each output."""
    best = np.zeros(values.shape[1])
    for output in range(len(best)):
        moved = X
        for _ in range(steps):
            g = np.asarray(slope(moved))[:, output]
            lengths = np.linalg.norm(g, axis=1, keepdims=True)
            moved = moved + 1.5 * radius / steps * g / np.where(lengths == 0, 1, lengths)
            offset = moved - X
            far = np.linalg.norm(offset, axis=1, keepdims=True)
            moved = X + offset * np.minimum(1, radius / np.where(far == 0, 1, far))
            change = np.asarray(f(moved))[:, output] - values[:, output]
            distance = np.linalg.norm(moved - X, axis=1)
            best[output] = max(best[output], np.max(change[distance > 0] / distance[distance > 0]))
    return best


def _pairs(X: Values, values: Values) -> Values:
    """Return the largest difference quotient of two rows, for each output."""
    best, squares = np.zeros(values.shape[1]), np.einsum("nd,nd->n", X, X)
    for first in range(0, len(X), PAIR_ROWS):
        part = slice(first, first + PAIR_ROWS)
        square = squares[part, None] + squares - 2 * X[part] @ X.T
        # Rows too near for this form of the distance are left out: the bound stays one.
        near = square <= 1e-8 * (squares[part, None] + squares)
        distance = np.sqrt(np.where(near, np.inf, square))
        for output in range(len(best)):
            change = np.abs(values[part, output, None] - values[:, output])
            best[output] = max(best[output], float(np.max(change / distance)))
    return best


@dataclass(frozen=True, eq=False)
class UpperBounds:
    """Spectral norms of a network and what they bound (`upper_bounds`).

    Attributes
    ----------
    spectral_norms : (layers,) array
        Of the maps of the layers, scales included.
    lipschitz : float
        Bound of the Lipschitz constant of the network, from its inputs to all its outputs.
    norm : (outputs,) array or None
        Bound of the RKHS norm of each output on the unit sphere; it needs the kernel. Infinite
        where the argument gives none.
    norm_by_spectra : (outputs,) array or None
        A larger one, a function of the spectral norms that increases in each of them.
    """

    spectral_norms: Values
    lipschitz: float
    norm: Values | None
    norm_by_spectra: Values | None


def upper_bounds(net: MLP, *, kernel: Kernel | None = None) -> UpperBounds:
    """Bound how fast a network can vary, and its RKHS norm, by the weights of its layers.

    Parameters
    ----------
    net : MLP
    kernel : Kernel, optional
        Of the RKHS, ``nf.FullyConnected(net.depth, activation=...).nngp``, for bounds of the norm.
        The activation need not be that of `net`, but every power in the series of that needs one
        in the dual of this: "relu" serves gelu, silu and softplus, "step" serves sin, erf and tanh.

    Returns
    -------
    UpperBounds

    Raises
    ------
    ValueError
        If `kernel` is given and is another one or of another depth, or `net` has biases or
        residual branches then.

    Notes
    -----
    The Lipschitz bound is the product of the spectral norms and of the largest slopes of the
    activations, which are looked up on a grid; of a residual branch it is 1 plus that product.

    On the unit sphere an activation ``s(t) = sum_j a_j t^j`` turns functions whose inner products
    in the RKHS of one layer are at most P, as a matrix, into functions for which they are at most
    C(P) in that of the next, ``C(t) = sum_j a_j^2 / b_j t^j`` at every entry, b_j the coefficients
    of the dual: ``w^T C(W_L^T ... C(W_1^T W_1) ... W_L) w`` bounds the squared norm, and with
    ``|C(P)| <= C(|P|)`` so do the spectral norms. C grows like an exponential, once per layer:
    bounds of deep networks are finite and useful for small weights only. A network of ReLUs is not
    in the RKHS of its limit, its bounds are infinite; those of tanh, sigmoid, softplus and silu are
    once squared norms reach the radius of convergence. Rounding can change the last digits.

    References
    ----------
    .. [1] A. Bietti, G. Mialon, D. Chen, J. Mairal, arXiv:1810.00363 (that the norm is bounded by
       an increasing function of the spectral norms; the bounds were derived here, and are tested
       against norms from Fourier series).

    Examples
    --------
    >>> import numpy as np
    >>> import ntkfast as nf
    >>> net = nf.finite.MLP((4, 4, 4), init="orthogonal", w_std=2.0)
    >>> nf.statistics.rkhs_norm.upper_bounds(net).lipschitz.__round__(12)
    4.0
    >>> net = nf.finite.MLP((10, 30, 1), "gelu", init="orthogonal", w_std=1.0)
    >>> kernel = nf.FullyConnected(1).nngp
    >>> high = nf.statistics.rkhs_norm.upper_bounds(net, kernel=kernel).norm[0]
    >>> X = np.random.default_rng(0).normal(size=(300, 10))
    >>> X /= np.linalg.norm(X, axis=1, keepdims=True)
    >>> low = nf.statistics.rkhs_norm.lower_bounds(net, X, kernel=kernel).interpolation[0]
    >>> bool(low < high < 2 * low)
    True
    """
    maps = [net.scales(layer)[0] * W for layer, W in enumerate(net.weights)]
    norms = np.array([np.linalg.norm(W, 2) for W in maps])
    slope = float(np.max(np.abs(net.activation.derivative(GRID))))
    total = 1.0
    for layer, norm in enumerate(norms):
        gain = norm * (slope if layer else 1.0)
        total *= 1 + gain if net.is_skipped(layer) else gain
    found = (None, None) if kernel is None else composition.bounds(net, kernel, maps, norms)
    return UpperBounds(norms, float(total), *found)
