"""Every kernel family under test next to its oracle, and the inputs on which they are compared."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pytest

import ntkfast as nf
import oracle
from ntkfast import activations
from tolerances import DIAGONAL, LAYER, epsilon, tolerance


@dataclass(frozen=True)
class Case:
    """A kernel of the package, its oracle for inputs of a given dimension, and a typical norm."""

    name: str
    make: Callable[[], Any]
    oracle: Callable[[int], oracle.Kernel]
    radius: float = 1.0

    @property
    def kernel(self) -> Any:
        """The package's kernel, compiled once per process by its own cache."""
        return self.make()


def fully_connected(name: str, depth: int, *, which: str = "ntk", bias: float = 0.0) -> Case:
    """ReLU network in the unit parameterisation."""
    return Case(
        name,
        lambda: getattr(nf.FullyConnected(depth, bias=bias), which),
        lambda dimension: oracle.fully_connected(depth, which=which, bias=bias),
    )


def activated(
    name: str,
    activation: Any,
    dual: oracle.Dual,
    depth: int,
    *,
    which: str = "ntk",
    homogeneous: bool = False,
    bias: float = 0.0,
) -> Case:
    """Network with another activation in the unit parameterisation."""
    return Case(
        name,
        lambda: getattr(nf.FullyConnected(depth, activation=activation, bias=bias), which),
        lambda dimension: oracle.fully_connected(
            depth, dual, which=which, bias=bias, homogeneous=homogeneous
        ),
    )


def dense(
    name: str,
    activation: Any,
    dual: oracle.Dual,
    depth: int,
    w_std: float,
    b_std: float,
    which: str = "ntk",
    homogeneous: bool = False,
) -> Case:
    """Network in the NTK parameterisation; its inputs are of norm sqrt(d), that is 2.6."""
    return Case(
        name,
        lambda: getattr(
            nf.FullyConnected(
                depth, activation=activation, parameterization="ntk", w_std=w_std, b_std=b_std
            ),
            which,
        ),
        lambda dimension: oracle.fully_connected_ntk(
            depth,
            dual,
            dimension=dimension,
            w_std=w_std,
            b_std=b_std,
            which=which,
            homogeneous=homogeneous,
        ),
        radius=2.5,
    )


def resnet(name: str, depth: int, alpha: float, which: str = "ntk", **options: Any) -> Case:
    """Residual network."""
    return Case(
        name,
        lambda: getattr(nf.ResNet(depth, alpha=alpha, **options), which),
        lambda dimension: oracle.resnet(depth, alpha, which=which, **options),
    )


def radial(name: str, make: Callable[[], Any], exact: oracle.Kernel) -> Case:
    """Laplace and its relatives."""
    return Case(name, make, lambda dimension: exact)


ZONAL = [
    fully_connected("fc0", 0),
    fully_connected("fc1", 1),
    fully_connected("fc3", 3),
    fully_connected("fc10", 10),
    fully_connected("fc3-nngp", 3, which="nngp"),
    activated("leaky3", activations.leaky_relu(0.25), oracle.leaky_relu(0.25), 3, homogeneous=True),
    activated("abs3", "abs", oracle.absolute, 3, homogeneous=True),
    activated("step2-nngp", "step", oracle.step, 2, which="nngp", homogeneous=True),
    activated("sign2", "sign", oracle.sign, 2, homogeneous=True),
    activated(
        "rectified-square2",
        activations.rectified_monomial(2),
        oracle.rectified_monomial(2),
        2,
        homogeneous=True,
    ),
    activated("square2", activations.monomial(2), oracle.monomial(2), 2, homogeneous=True),
    dense("ntk-relu3-no-bias", "relu", oracle.relu, 3, 1.5, 0.0, homogeneous=True),
    resnet("resnet5", 5, 0.3),
    resnet("resnet5-last", 5, 0.3, trained="last"),
    resnet("resnet5-all", 5, 0.3, trained="all"),
    resnet("resnet10-normalized", 10, 1.0, normalize=True),
    resnet("resnet10-all-normalized", 10, 0.1, trained="all", normalize=True),
    resnet("resnet5-nngp", 5, 0.3, which="nngp"),
    *(
        Case(
            f"arccos{order}",
            lambda order=order: nf.ArcCosine(order),
            lambda dimension, order=order: oracle.arc_cosine(order),
        )
        for order in range(4)
    ),
    radial("laplace-sphere", lambda: nf.Laplace(2.0, inputs="sphere"), oracle.laplace(2.0)),
    radial(
        "laplace-homogeneous",
        lambda: nf.Laplace(0.5, inputs="homogeneous"),
        oracle.laplace(0.5, "homogeneous"),
    ),
    radial(
        "exponential-power-sphere",
        lambda: nf.ExponentialPower(0.5, 1.5, inputs="sphere"),
        oracle.exponential_power(0.5, 1.5),
    ),
    radial(
        "gaussian-sphere",
        lambda: nf.Gaussian(0.75, inputs="sphere"),
        oracle.exponential_power(2, 0.75),
    ),
]

GENERAL = [
    fully_connected("bias3", 3, bias=0.5),
    fully_connected("bias10", 10, bias=1.0),
    activated("leaky2-bias", activations.leaky_relu(0.25), oracle.leaky_relu(0.25), 2, bias=0.5),
    activated("erf2", "erf", oracle.erf, 2),
    activated("gelu2", "gelu", oracle.gelu, 2),
    activated("sin2-nngp", "sin", oracle.sin, 2, which="nngp"),
    activated("cos1", "cos", oracle.cos, 1),
    activated("hermite3", activations.hermite(3), oracle.hermite(3), 1),
    dense("ntk-relu3", "relu", oracle.relu, 3, 1.5, 0.25),
    dense("ntk-relu10", "relu", oracle.relu, 10, 1.4, 0.25),
    dense("ntk-relu3-nngp", "relu", oracle.relu, 3, 1.5, 0.25, "nngp"),
    dense("ntk-abs2", "abs", oracle.absolute, 2, 1.0, 0.5),
    dense("ntk-step2-nngp", "step", oracle.step, 2, 1.0, 0.5, "nngp"),
    dense("ntk-erf3", "erf", oracle.erf, 3, 1.5, 0.25),
    dense("ntk-erf2-no-bias", "erf", oracle.erf, 2, 1.5, 0.0),
    dense("ntk-gelu2", "gelu", oracle.gelu, 2, 1.25, 0.25),
    dense("ntk-sin2", "sin", oracle.sin, 2, 1.0, 0.25),
    dense("ntk-cos2", "cos", oracle.cos, 2, 1.0, 0.25),
    dense("ntk-rbf1", activations.rbf(0.5), oracle.rbf(0.5), 1, 1.0, 0.25),
    dense("ntk-exp1", "exp", oracle.exp(), 1, 0.75, 0.25),
    dense("ntk-gaussian2", "gaussian", oracle.gaussian(1, -1), 2, 1.0, 0.25),
    dense(
        "ntk-polynomial1",
        activations.polynomial((0.5, 1.0, 0.25)),
        oracle.polynomial((0.5, 1.0, 0.25)),
        1,
        1.0,
        0.25,
    ),
    radial(
        "laplace-euclidean",
        lambda: nf.Laplace(0.5, inputs="euclidean"),
        oracle.laplace(0.5, "euclidean"),
    ),
    radial(
        "exponential-power-euclidean",
        lambda: nf.ExponentialPower(1.5, 0.5, inputs="euclidean"),
        oracle.exponential_power(1.5, 0.5, "euclidean"),
    ),
    radial(
        "gaussian-euclidean",
        lambda: nf.Gaussian(0.25, inputs="euclidean"),
        oracle.exponential_power(2, 0.25, "euclidean"),
    ),
]

CASES = ZONAL + GENERAL
BY_NAME = {case.name: case for case in CASES}


def parametrize(cases: list[Case]) -> pytest.MarkDecorator:
    """Parametrise a test over cases by their names."""
    return pytest.mark.parametrize("case", cases, ids=lambda case: case.name)


# --------------------------------------------------------------------------------------- inputs


def rows(count: int, dimension: int, dtype: Any = np.float64, seed: int = 0) -> np.ndarray:
    """Gaussian rows of norms about one, spread over a factor of four."""
    generator = np.random.default_rng([seed, count, dimension])
    data = generator.standard_normal((count, dimension))
    data *= np.exp2(generator.uniform(-1, 1, (count, 1))) / np.linalg.norm(data, axis=1)[:, None]
    return data.astype(dtype)


@lru_cache(maxsize=32)
def special_pairs(dtype: Any, dimension: int, radius: float) -> tuple[np.ndarray, np.ndarray]:
    """Two sets of rows whose pairs hit every special position at least once.

    Generic, orthogonal, zero, duplicate, antipodal, scaled by two (exactly) and by three (rounded),
    near-duplicate in direction and norm, very different norms.
    """
    x = (radius * rows(9, dimension, seed=1)).astype(dtype)
    x[3:5] = 0
    x[4, 0] = radius
    x[5] = x[0]
    x[6] = -x[1]
    x[7] = 2 * x[2]
    x[8] *= dtype(1 / 64)
    y = (radius * rows(7, dimension, seed=3)).astype(dtype)
    y[0], y[1], y[2] = x[0], -x[1], 3 * x[2]
    y[3] = 0
    y[4] = x[1] + (1e-2 * radius * rows(1, dimension, seed=4)[0]).astype(dtype)
    y[5] = 0
    y[5, 1] = -radius
    y[6] *= dtype(1.5)
    for array in (x, y):
        array.setflags(write=False)
    return x, y


@dataclass(frozen=True)
class Expected:
    """Oracle values of one pair of inputs with their scale and tolerance."""

    values: np.ndarray
    scale: np.ndarray
    tolerance: np.ndarray

    def check(self, computed: np.ndarray, part: Any = slice(None)) -> None:
        """Fail with the worst pair unless every entry is within its tolerance."""
        assert computed.shape == self.values[part].shape
        assert np.all(np.isfinite(computed))
        error = np.abs(oracle.error(computed, self.values[part]))
        ratio = error / self.tolerance[part]
        worst = np.unravel_index(np.argmax(ratio), ratio.shape)
        assert ratio[worst] <= 1, (
            f"entry {tuple(int(i) for i in worst)}: got {computed[worst]!r}, want "
            f"{oracle.mp.nstr(self.values[part][worst], 20)}, error {error[worst]:.2e} is "
            f"{ratio[worst]:.1f} times the tolerance; {int(np.sum(ratio > 1))} of "
            f"{ratio.size} entries are off"
        )


def check_diagonal(kernel: Any, gram: np.ndarray, x: np.ndarray, layers: int = 0) -> None:
    """Fail unless the diagonal of a Gram matrix is what ``kernel.diag`` says, up to rounding.

    A kernel that grows like a power of the norm passes on as many times the rounding of the norm.
    """
    diagonal, doubled = np.abs(kernel.diag(x)), np.abs(kernel.diag(2 * x))
    positive = diagonal > 0
    growth = 1.0 + np.log2(np.max(doubled[positive] / diagonal[positive], initial=1.0))
    allowed = (DIAGONAL * growth + LAYER * layers) * epsilon(gram.dtype) * diagonal
    assert np.all(np.abs(np.diag(gram) - kernel.diag(x)) <= allowed)


def compare(
    exact: oracle.Kernel, x: np.ndarray, y: np.ndarray, dtype: Any | None = None
) -> Expected:
    """Oracle values and tolerances of all pairs."""
    return Expected(
        oracle.matrix(exact, x, y),
        scale := oracle.scales(exact, x, y),
        tolerance(
            dtype or x.dtype,
            scale,
            oracle.conditions(exact, x, y),
            dimension=x.shape[1],
            layers=0 if exact.homogeneous else exact.depth,
        ),
    )


@lru_cache(maxsize=256)
def expected(name: str, dtype: Any, dimension: int) -> Expected:
    """Oracle values of one case on its special pairs, computed once for all engines."""
    case = BY_NAME[name]
    x, y = special_pairs(dtype, dimension, case.radius)
    return compare(case.oracle(dimension), x, y)


def record_kernel(spec: dict) -> Any:
    """Kernel of a record of the reference files."""
    if spec["name"] in ("ntk", "nngp"):
        return getattr(nf.FullyConnected(spec["L"], bias=spec.get("beta", 0)), spec["name"])
    if spec["name"] == "resntk":
        return nf.ResNet(spec["L"], alpha=spec["alpha"], normalize=True).ntk
    return nf.Laplace(spec["c"] / np.sqrt(2))  # the file's rate multiplies sqrt(1 - u)
