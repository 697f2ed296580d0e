"""Smallest eigenvalues of empirical NTKs, and the quantities that proofs bound them with."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import linalg

from ntkfast.arrays import checks
from ntkfast.arrays.collections import FloatArray
from ntkfast.finite.factors import Factors
from ntkfast.finite.mlp import MLP

Values = NDArray[np.float64]
SCALINGS = ("ntk", "standard")


@dataclass(frozen=True, eq=False)
class SmallestEigenvalues:
    """What `smallest_eigenvalues` found.

    Attributes
    ----------
    total : float
        lambda_min(J J^T); below `rounding` it is zero as far as can be told.
    layers : (trained layers,) array
        The same of the gradients by the weights and biases of one layer. Their sum is at most
        `total`.
    rounding : float
        Size of rounding errors in `total`.
    features : (L,) array
        sigma_min(F_l) of the features of the hidden layers l = 1 ... L as rows.
    lipschitz : (L,) array
        Largest spectral norm of the derivative of F_l by the input, at the probes: a lower bound
        of its Lipschitz constant.
    n_parameters : int
        Trained parameters: J has no more columns.
    """

    total: float
    layers: Values
    rounding: float
    features: Values
    lipschitz: Values
    n_parameters: int


def smallest_eigenvalues(
    net: MLP, X: ArrayLike, *, scaling: str = "ntk", n_probes: int = 8
) -> SmallestEigenvalues:
    """Return the smallest eigenvalues of the empirical NTK of a network and of its parts.

    Parameters
    ----------
    net : MLP
        With several outputs the NTK is their mean.
    X : (n, d) array
    scaling : {"ntk", "standard"}, default "ntk"
        "standard" differentiates by ``w_std / sqrt(fan_in) W_l``, the weights as most programs
        store them and as Nguyen et al. and Bombari et al. do: the block of layer l is then
        ``(F_l F_l^T) o (B_(l+1) B_(l+1)^T)`` without a factor. Biases must be absent then.
    n_probes : int, default 8
        Inputs, the first of X, where derivatives are taken.

    Returns
    -------
    SmallestEigenvalues

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type, shape or range.

    References
    ----------
    .. [1] Q. Nguyen, M. Mondelli, G. Montufar, "Tight bounds on the smallest eigenvalue of the
       neural tangent kernel for deep ReLU networks", arXiv:2012.11654.
    .. [2] S. Bombari, M. H. Amani, M. Mondelli, "Memorization and optimization in deep neural
       networks with minimum over-parameterization", arXiv:2205.10217.

    Examples
    --------
    >>> import numpy as np
    >>> import ntkfast as nf
    >>> X = np.random.default_rng(0).normal(size=(30, 20))
    >>> found = nf.finite.smallest_eigenvalues(nf.finite.MLP((20, 40, 40, 1)), X)
    >>> bool(found.total >= found.layers.sum() > 0)
    True
    """
    checks.choice("scaling", scaling, SCALINGS)
    count = checks.count("n_probes", n_probes, least=1)
    if scaling == "standard" and any(net.b_std):
        raise ValueError('scaling: "standard" is for networks without biases')
    points = net.rows(X).astype(np.float64)
    parts = net.factors(points)
    if scaling == "standard":
        parts = [part._replace(scale=1.0) for part in parts]
    blocks = [part.ntk(part) for part in parts]
    total = np.sum(blocks, axis=0)
    features = net.features(points)[1:]
    return SmallestEigenvalues(
        _smallest(total),
        np.array([_smallest(block) for block in blocks]),
        8 * float(np.finfo(np.float64).eps * np.trace(total)),
        np.array([_least_singular_value(F) for F in features]),
        _lipschitz(net, points[:count]),
        sum(_size(part) for part in parts),
    )


def _smallest(K: Values) -> float:
    return float(linalg.eigh(K, eigvals_only=True, subset_by_index=[0, 0])[0])


def _least_singular_value(F: FloatArray) -> float:
    """Return the least singular value of the rows: zero when there are more than columns."""
    if len(F) > F.shape[1]:
        return 0.0
    return float(np.linalg.svd(F, compute_uv=False)[-1])


def _lipschitz(net: MLP, X: Values) -> Values:
    """Return the largest spectral norms of derivatives of the features by the inputs."""
    h, largest = net.preactivations(X), np.zeros(net.depth)
    for row in range(len(X)):
        derivative = np.eye(X.shape[1])
        before = derivative
        for layer in range(net.depth):
            inner = net.scales(layer)[0] * net.weights[layer].T @ derivative
            before = before + inner if net.is_skipped(layer) else inner
            derivative = net.activation.derivative(h[layer][row])[:, None] * before
            largest[layer] = max(largest[layer], np.linalg.norm(derivative, 2))
    return largest


def _size(part: Factors) -> int:
    fan_in, fan_out = part.F.shape[1], part.B.shape[2]
    return int(fan_out * (fan_in + bool(part.offset)))
