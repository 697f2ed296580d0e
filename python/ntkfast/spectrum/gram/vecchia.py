"""A sparse approximate inverse of a Gram matrix: U U^T with U the Vecchia factor of K^-1.

Column i of U explains row i by the nearest rows that come before it in a random order. It needs
the kernel of these few rows only, never a pass over all pairs.

References
----------
.. [1] A. V. Vecchia, "Estimation and model identification for continuous spatial processes",
   J. R. Stat. Soc. B 50 (1988).
.. [2] F. Schaefer, M. Katzfuss, H. Owhadi, "Sparse Cholesky factorization by Kullback-Leibler
   minimization", SIAM J. Sci. Comput. 43 (2021): the factor minimises the divergence of Gaussians.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.spatial import cKDTree

from ntkfast.arrays.collections import FloatArray
from ntkfast.kernels.base import Kernel
from ntkfast.kernels.evaluation import Evaluation

Indices: TypeAlias = NDArray[np.intp]
Preconditioner: TypeAlias = Callable[[NDArray[np.float64]], NDArray[np.float64]]

TREE_DIM = 12  # in more dimensions a k-d tree visits most rows, and the kernel is as fast
PANEL_BYTES = 64 << 20
BATCH = 256  # small systems solved at once
JITTER = 64 * float(np.finfo(np.float64).eps)  # keeps systems of duplicate rows solvable


@dataclass(frozen=True, eq=False)
class Vecchia:
    """The preconditioner V -> U (U^T V), a symmetric positive definite approximation of K^-1.

    Attributes
    ----------
    factor : (n, n) scipy.sparse CSC matrix
        U. Its rows are in the order of X, its columns in the random order of elimination.
    """

    factor: Any

    def __call__(self, V: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return U U^T V."""
        return np.asarray(self.factor @ (self.factor.T @ V))


def deflated(
    inverse: Vecchia, apply: Preconditioner, rank: int, rng: np.random.Generator
) -> Preconditioner:
    """Correct the preconditioner where U^T K U is farthest from the identity: at its top.

    Smooth functions of many dimensions are not explained by a few neighbours. With U^T K U w =
    mu w for the `rank` largest mu, U (1 + sum (1/mu - 1) w w^T) U^T takes these outliers away. The
    w come from a randomised subspace iteration of three products.

    Parameters
    ----------
    inverse : Vecchia
    apply : callable
        V -> K V.
    rank : int
    rng : numpy.random.Generator
    """
    U = inverse.factor
    W = rng.standard_normal((U.shape[0], rank))
    for _ in range(2):
        W = np.linalg.qr(U.T @ apply(U @ W))[0]
    T = W.T @ (U.T @ apply(U @ W))
    mu, C = np.linalg.eigh((T + T.T) / 2)
    W = W @ C[:, mu > 1]
    change = (1 / mu[mu > 1] - 1)[:, None]

    def corrected(V: NDArray[np.float64]) -> NDArray[np.float64]:
        Z = U.T @ V
        Z += W @ (change * (W.T @ Z))
        return np.asarray(U @ Z)

    return corrected


def vecchia(
    kernel: Evaluation, X: FloatArray, neighbours: int, rng: np.random.Generator
) -> Vecchia:
    """Build the preconditioner of K(X, X); time and memory are O(n neighbours) beside the search.

    Parameters
    ----------
    kernel : Evaluation
    X : (n, d) array
    neighbours : int
        Rows that each row is explained by. The work per row grows like its third power.
    rng : numpy.random.Generator
        Draws the order of elimination. A random order needed as few iterations as the maximin
        order, or fewer (uniform data on spheres, d = 3 to 20), and costs nothing.
    """
    X = X.astype(np.float64, copy=False)  # K^-1 amplifies rounding: the few values cost nothing
    n = len(X)
    order = rng.permutation(n)
    rows, sizes, values = [], [], []
    for near in _nearest_before(kernel, X[order], neighbours):
        for start in range(0, len(near), BATCH):
            few = near[start : start + BATCH]
            rows.append(order[few[few >= 0]])
            sizes.append((few >= 0).sum(axis=1))
            values.append(_columns(kernel, X, order, few)[few >= 0])
    ends = np.concatenate([[0], np.cumsum(np.concatenate(sizes))])
    parts = np.concatenate(values), np.concatenate(rows), ends
    return Vecchia(sparse.csc_matrix(parts, shape=(n, n)))


def _columns(
    kernel: Evaluation, X: FloatArray, order: Indices, near: Indices
) -> NDArray[np.float64]:
    """Entries of the columns of U whose rows are `near`, -1 where there are fewer.

    With K the matrix of a row (last) and its neighbours: u = K^-1 e / sqrt(e^T K^-1 e).
    """
    count, width = near.shape
    systems = np.zeros((count, width, width))
    one = replace(kernel, threads=1)  # a few rows at a time
    systems[:] = np.eye(width)  # a missing neighbour is a row of its own
    for system, members in zip(systems, near, strict=True):
        first = int(np.argmax(members >= 0))
        system[first:, first:] = one(X[order[members[first:]]])
    diagonal = np.einsum("kii->ki", systems)
    diagonal *= 1 + JITTER * width
    last = np.zeros((count, width, 1))
    last[:, -1] = 1
    columns = np.linalg.solve(systems, last)[:, :, 0]
    return np.asarray(columns / np.sqrt(columns[:, -1:]))


def _nearest_before(kernel: Evaluation, Z: FloatArray, count: int) -> Iterator[Indices]:
    """Yield, for ranges of rows of Z, their nearest rows among those before, then themselves.

    Each row has ``count + 1`` entries, the missing ones of the first rows are -1 and come first.
    """
    if kernel.kernel.of_rows and Z.shape[1] <= TREE_DIM:
        found = _by_tree(_places(kernel.kernel, Z), count)
    else:
        found = _by_kernel(kernel, Z, count)
    start = 0
    for near in found:
        own = np.arange(start, start + len(near))[:, None]
        yield np.hstack([np.sort(near, axis=1), own])
        start += len(near)


def _places(kernel: Kernel, Z: FloatArray) -> FloatArray:
    """Points whose distance tells how similar rows are: directions for a zonal kernel."""
    if not kernel.is_zonal:
        return Z
    norms = np.linalg.norm(Z, axis=1, keepdims=True)
    return np.asarray(Z / np.where(norms > 0, norms, 1))


def _by_tree(Z: FloatArray, count: int) -> Iterator[Indices]:
    """Search ranges that double in a tree of all rows up to their end: half of these come before.

    A row far back in its range may get fewer neighbours than asked for, which does no harm.
    """
    yield np.full((1, count), -1)
    start = 1
    while start < len(Z):
        stop = min(2 * start, len(Z))
        tree = cKDTree(Z[:stop])
        step = max(1, PANEL_BYTES // (32 * (count + 4)))
        for low in range(start, stop, step):
            high = min(low + step, stop)
            wanted = min(2 * count + 8, stop)
            near = tree.query(Z[low:high], k=wanted, workers=-1)[1].reshape(high - low, wanted)
            near = np.where(near < np.arange(low, high)[:, None], near, -1)
            first = np.argsort(near < 0, axis=1, kind="stable")[:, :count]
            near = np.take_along_axis(near, first, axis=1)
            yield np.pad(near, ((0, 0), (0, count - near.shape[1])), constant_values=-1)
        start = stop


def _by_kernel(kernel: Evaluation, Z: FloatArray, count: int) -> Iterator[Indices]:
    """Search by |K_ij| / sqrt(K_jj), panel by panel, in float32: a choice needs no digits."""
    single = Z.astype(np.float32)
    scale = np.sqrt(np.maximum(kernel.diag(single), np.finfo(np.float32).tiny))
    start = 0
    while start < len(Z):
        height = max(1, PANEL_BYTES // (4 * (start + 256)))
        stop = min(start + min(height, 4096), len(Z))
        likeness = np.abs(kernel(single[start:stop], single[:stop])) / scale[:stop]
        likeness[np.arange(stop) >= np.arange(start, stop)[:, None]] = -1
        kept = min(count, stop)
        near = np.argpartition(-likeness, kept - 1, axis=1)[:, :kept]
        near[np.take_along_axis(likeness, near, axis=1) < 0] = -1
        yield np.pad(near, ((0, 0), (0, count - kept)), constant_values=-1)
        start = stop
