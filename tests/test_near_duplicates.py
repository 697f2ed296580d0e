"""Rows that almost coincide (or almost oppose each other): the angle must not come from 1 - cos."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import pytest
import scipy.linalg

import cases
import ntkfast as nf
import oracle
from tolerances import eigenvalue_tolerance, epsilon

KERNELS: dict[str, tuple[Any, Any]] = {
    "fc1": (lambda: nf.FullyConnected(1).ntk, lambda d: oracle.fully_connected(1)),
    "fc3": (lambda: nf.FullyConnected(3).ntk, lambda d: oracle.fully_connected(3)),
    "fc10": (lambda: nf.FullyConnected(10).ntk, lambda d: oracle.fully_connected(10)),
    "fc30": (lambda: nf.FullyConnected(30).ntk, lambda d: oracle.fully_connected(30)),
    "fc3-nngp": (
        lambda: nf.FullyConnected(3).nngp,
        lambda d: oracle.fully_connected(3, which="nngp"),
    ),
    "bias3": (
        lambda: nf.FullyConnected(3, bias=0.5).ntk,
        lambda d: oracle.fully_connected(3, bias=0.5),
    ),
    "resnet10": (
        lambda: nf.ResNet(10, alpha=0.5, normalize=True).ntk,
        lambda d: oracle.resnet(10, 0.5, normalize=True),
    ),
    "ntk-relu3": (
        lambda: nf.FullyConnected(3, parameterization="ntk", w_std=1.5, b_std=0.25).ntk,
        lambda d: oracle.fully_connected_ntk(3, oracle.relu, dimension=d, w_std=1.5, b_std=0.25),
    ),
    "abs3": (
        lambda: nf.FullyConnected(3, activation="abs").ntk,
        lambda d: oracle.fully_connected(3, oracle.absolute),
    ),
    "ntk-erf2": (
        lambda: (
            nf.FullyConnected(
                2, activation="erf", parameterization="ntk", w_std=3.0, b_std=0.25
            ).ntk
        ),
        lambda d: oracle.fully_connected_ntk(2, oracle.erf, dimension=d, w_std=3.0, b_std=0.25),
    ),
    "arccos0": (lambda: nf.ArcCosine(0), lambda d: oracle.arc_cosine(0)),
    "step2-nngp": (
        lambda: nf.FullyConnected(2, activation="step").nngp,
        lambda d: oracle.fully_connected(2, oracle.step, which="nngp"),
    ),
    "laplace-sphere": (lambda: nf.Laplace(10.0, inputs="sphere"), lambda d: oracle.laplace(10)),
    "laplace-euclidean": (
        lambda: nf.Laplace(3.0, inputs="euclidean"),
        lambda d: oracle.laplace(3, "euclidean"),
    ),
}


def distances(dtype: Any) -> np.ndarray:
    """From a tenth down to the last bit of the dtype."""
    return np.logspace(-1, -7, 7) if dtype is np.float32 else np.logspace(-1, -15, 15)


@lru_cache(maxsize=64)
def near_pairs(dtype: Any, dimension: int, direction: int) -> tuple[np.ndarray, np.ndarray]:
    """One row and rows close to it (or to its negative), changed in direction and in norm."""
    generator = np.random.default_rng([dimension, 3])
    base = generator.standard_normal(dimension)
    base /= np.linalg.norm(base)
    steps = distances(dtype)
    noise = generator.standard_normal((len(steps), dimension))
    noise /= np.linalg.norm(noise, axis=1)[:, None]
    base = base.astype(dtype)
    near = (direction * (base + steps[:, None] * noise)).astype(dtype)
    near[1::3] *= dtype(1.25)  # other norms as well: not only the distance of the rows counts
    return base[None], near


@lru_cache(maxsize=128)
def expected(name: str, dtype: Any, dimension: int, direction: int) -> cases.Expected:
    base, near = near_pairs(dtype, dimension, direction)
    return cases.compare(KERNELS[name][1](dimension), base, near)


@pytest.mark.grid(2)
@pytest.mark.parametrize("direction", [1, -1], ids=["duplicate", "antipode"])
@pytest.mark.parametrize("dimension", [3, 10, 100])
@pytest.mark.parametrize("name", KERNELS)
def test_near_pairs(
    name: str, dimension: int, direction: int, engine: dict[str, Any], dtype: Any
) -> None:
    """Each value is right to rounding of the inputs, down to angles of one unit."""
    base, near = near_pairs(dtype, dimension, direction)
    computed = KERNELS[name][0]()(base, near, **engine)
    expected(name, dtype, dimension, direction).check(computed)


@pytest.mark.grid(2)
@pytest.mark.parametrize("name", ["fc3", "fc10", "bias3", "ntk-relu3", "laplace-sphere"])
@pytest.mark.parametrize("dimension", [3, 40])
def test_near_pairs_inside_a_large_matrix(
    name: str, dimension: int, engine: dict[str, Any], dtype: Any
) -> None:
    """The same pairs scattered over many tiles, in K(X, Y), K(X) and K(X) V."""
    base, near = near_pairs(dtype, dimension, 1)
    generator = np.random.default_rng(5)
    x = cases.rows(301, dimension, dtype, seed=21)
    places = generator.permutation(301)[: len(near) + 1]
    x[places[0]], x[places[1:]] = base[0], near
    kernel, wanted = KERNELS[name][0](), expected(name, dtype, dimension, 1)
    wanted.check(kernel(base, x, **engine)[:, places[1:]])
    gram = kernel(x, **engine)
    wanted.check(gram[None, places[0], places[1:]])
    wanted.check(gram[places[1:], places[0]][None])
    unit = np.zeros((301, len(near)), dtype)
    unit[places[1:], np.arange(len(near))] = 1
    wanted.check(kernel.matmul(x, x, unit, **engine)[None, places[0]])


def test_defect_keeps_relative_accuracy(engine: dict[str, Any]) -> None:
    """K(x,x) - K(x,y) of near-duplicates has digits of its own in float64."""
    base, near = near_pairs(np.float64, 10, 1)
    kernel, exact = nf.FullyConnected(3).ntk, oracle.fully_connected(3)
    value = kernel(base, near, **engine)[0]
    steps = distances(np.float64)
    same_norm = [i for i in range(len(steps)) if i % 3 != 1 and steps[i] > 1e-9]
    for i in same_norm:
        wanted = exact(base[0], near[i])
        top = oracle.mp.sqrt(exact(base[0], base[0]) * exact(near[i], near[i]))
        defect = float(top - wanted)
        error = abs(float(oracle.error(value[i], wanted)))
        assert error <= 1e-6 * defect


@pytest.mark.parametrize("depth", [3, 10])
@pytest.mark.parametrize("dimension", [3, 10, 100])
def test_gram_with_near_duplicates_is_positive(
    depth: int, dimension: int, engine: dict[str, Any], dtype: Any
) -> None:
    """Half the rows are near-duplicates or duplicates; no eigenvalue falls below rounding."""
    generator = np.random.default_rng([depth, dimension])
    count = 120
    x = generator.standard_normal((count, dimension))
    x /= np.linalg.norm(x, axis=1)[:, None]
    half = count // 2
    steps = np.logspace(-1, -7 if dtype is np.float32 else -15, half)[:, None]
    noise = generator.standard_normal((half, dimension)) / np.sqrt(dimension)
    x[half:] = x[:half] + steps * noise
    x[-4:] = x[:4]
    x = x.astype(dtype)
    gram = nf.FullyConnected(depth).ntk(x, **engine)
    smallest = scipy.linalg.eigvalsh(gram.astype(np.float64), subset_by_index=[0, 0])[0]
    assert smallest >= -eigenvalue_tolerance(dtype, gram)


def test_small_eigenvalues_of_close_pairs(engine: dict[str, Any]) -> None:
    """The smallest eigenvalues measure the angles of the closest pairs: (K11 - K12) for each.

    With rows e_i and e_i + t e_(i+20), the Gram matrix has an eigenvalue near L/(2 pi) t ... for
    each pair; angles from 1 - cos would destroy it below t = 1e-8.
    """
    count, dimension = 8, 16
    steps = np.logspace(-3, -10, count)
    x = np.zeros((2 * count, dimension))
    x[:count, :count] = np.eye(count)
    x[count:, :count] = np.eye(count)
    x[count:, count:] = np.diag(steps)
    gram = nf.FullyConnected(3).ntk(x, **engine)
    exact = oracle.fully_connected(3)
    with oracle.mp.workdps(40):
        matrix = oracle.mp.matrix([[exact(a, b) for b in x] for a in x])
        eigenvalues = oracle.mp.eigsy(matrix, eigvals_only=True)
        smallest = np.sort([float(v) for v in eigenvalues])
    computed = scipy.linalg.eigvalsh(gram)
    assert np.all(np.abs(computed - smallest) <= 64 * epsilon(np.float64) * smallest[-1])
    assert computed[0] > 0
    assert computed[:count] == pytest.approx(smallest[:count], rel=2e-4)
