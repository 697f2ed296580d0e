"""Writes tests/data/neural_tangents.npz: kernels of small networks by neural-tangents in float64.

neural-tangents 0.6.5 does not import with current JAX and drags in TensorFlow, so the test
suite does not depend on it: this script runs once, in an environment of its own, and its
result is committed.  From the repository root::

    python -m venv peers
    peers/bin/pip install -r bench/requirements-peers.txt
    peers/bin/pip install --no-deps neural-tangents==0.6.5
    peers/bin/python bench/make_neural_tangents_fixtures.py

The file holds

- ``X`` (7, 5) and ``Y`` (6, 5): float64 numbers that are exactly representable in float32, so
  that a float32 engine sees the same inputs; norms from 0.5 to 3, no two rows nearly parallel;
- ``cases``: JSON text, one entry per network with the parameters that rebuild it;
- ``values`` (cases, 2, 49): for NNGP and NTK the 7 x 6 kernel of X and Y by rows, then the 7
  entries K(x, x);
- ``condition`` (cases, 2): the largest relative change of an entry of the kernel per relative
  change of the inputs, measured by differences, which is what a float32 tolerance must know;
- ``pins``: JSON text with the versions that computed the values.

Conventions: ``serial(Dense(1, w, b), Act(), ..., Act(), Dense(1, w, b))`` in the "ntk"
parameterisation, the same ``w`` and ``b`` in every layer, the read-out included; the first layer
divides the inner product by the input dimension; all layers are trained.
"""

from __future__ import annotations

import argparse
import itertools
import json
import platform
import sys
import types
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import numpy as np

# The experimental sub-package needs TensorFlow and none of it is used here.
sys.modules["neural_tangents.experimental"] = types.ModuleType("neural_tangents.experimental")
from neural_tangents import stax  # noqa: E402

Case = dict[str, Any]
SQRT2 = 2.0**0.5
TARGET = Path(__file__).resolve().parent.parent / "tests" / "data" / "neural_tangents.npz"

# name in ntkfast -> (layer of neural-tangents, arguments of the activation)
ACTIVATIONS: dict[str, tuple[Callable[..., Any], tuple[float, ...]]] = {
    "relu": (stax.Relu, ()),
    "leaky_relu": (stax.LeakyRelu, (0.2,)),
    "abs": (stax.Abs, ()),
    "sign": (stax.Sign, ()),
    "erf": (stax.Erf, ()),
    "gelu": (stax.Gelu, ()),
    "sin": (stax.Sin, ()),
    "cos": (stax.Cos, ()),
    "rbf": (stax.Rbf, (0.5,)),
    "exp": (stax.Exp, ()),
    "gaussian": (stax.Gaussian, ()),
    "monomial": (stax.Monomial, (3,)),
    "rectified_monomial": (stax.RectifiedMonomial, (2,)),
}
DEPTHS = (1, 3, 10)
FULL_GRID = tuple(itertools.product((SQRT2, 1.3), (0.0, 0.1, 0.5)))
SHORT_GRID = ((SQRT2, 0.0), (SQRT2, 0.1), (1.3, 0.5))


def inputs() -> tuple[np.ndarray, np.ndarray]:
    """Return X (7, 5) and Y (6, 5) of generic norms, exactly representable in float32."""
    random = np.random.default_rng(20240901)
    rows = random.standard_normal((13, 5))
    rows *= (np.geomspace(0.5, 3.0, 13)[random.permutation(13)] / np.linalg.norm(rows, axis=1))[
        :, None
    ]
    rows = rows.astype(np.float32).astype(np.float64)
    unit = rows / np.linalg.norm(rows, axis=1)[:, None]
    cosine = np.abs(unit @ unit.T - np.eye(13)).max()
    if cosine > 0.95:
        raise RuntimeError(f"two rows are nearly parallel: |cosine| = {cosine:.3f}")
    return rows[:7], rows[7:]


def fully_connected_cases() -> Iterator[Case]:
    """Yield every fully connected case."""
    for name, (_, args) in ACTIVATIONS.items():
        grid: tuple[tuple[float, float], ...] = SHORT_GRID
        depths: tuple[int, ...] = DEPTHS
        if name == "relu":
            grid = FULL_GRID
        elif name == "exp":  # its variances explode at larger gains: q -> w^2 exp(2 q)
            grid = ((0.4, 0.0), (0.4, 0.1))
        elif name in ("monomial", "rectified_monomial"):  # powers of powers of the norms
            grid, depths = ((SQRT2, 0.0), (1.3, 0.5)), (1,)
        elif name == "sign":  # its NTK is its NNGP kernel; depth 10 adds nothing
            depths = (1, 3)
        for depth, (w_std, b_std) in itertools.product(depths, grid):
            yield {
                "network": "fully_connected",
                "activation": name,
                "args": list(args),
                "depth": depth,
                "w_std": w_std,
                "b_std": b_std,
            }


def residual_cases() -> Iterator[Case]:
    """Yield residual networks x + alpha V relu(W x), all layers trained.

    Without biases these are the networks of Huang et al. (2020) and Belfer et al. (2021): the
    first layer has ``w_std = sqrt(d)`` so that it starts from the plain inner product.
    """
    for depth, alpha in itertools.product((1, 3, 10), (0.3, 1.0)):
        yield {"network": "residual", "activation": "relu", "args": [], "depth": depth,
               "alpha": alpha, "b_std": 0.0}  # fmt: skip
    for name, b_std in (("relu", 0.1), ("erf", 0.0), ("gelu", 0.5)):
        yield {"network": "residual", "activation": name, "args": [], "depth": 3,
               "alpha": 0.5, "b_std": b_std}  # fmt: skip


def dropout_cases() -> Iterator[Case]:
    """Yield fully connected networks with dropout behind each activation."""
    for name, rate, b_std in (("relu", 0.3, 0.0), ("relu", 0.1, 0.2), ("erf", 0.5, 0.0),
                              ("gelu", 0.02, 0.1), ("leaky_relu", 0.2, 0.5)):  # fmt: skip
        args = list(ACTIVATIONS[name][1])
        yield {"network": "dropout", "activation": name, "args": args, "depth": 3,
               "w_std": 1.3, "b_std": b_std, "rate": rate}  # fmt: skip


def layers_of(case: Case, dimension: int) -> list[Any]:
    """Return the neural-tangents layers of a case."""
    layer, _ = ACTIVATIONS[case["activation"]]
    args, depth, b_std = case["args"], case["depth"], case["b_std"] or None
    if case["network"] in ("fully_connected", "dropout"):
        w_std, drop = case["w_std"], ()
        if "rate" in case:  # it takes the share that is kept
            drop = (stax.Dropout(1 - case["rate"]),)
        hidden = [(stax.Dense(1, w_std, b_std), layer(*args), *drop) for _ in range(depth)]
        return [*itertools.chain.from_iterable(hidden), stax.Dense(1, w_std, b_std)]

    def block() -> Any:
        branch = stax.serial(
            stax.Dense(1, SQRT2, b_std), layer(*args), stax.Dense(1, case["alpha"], b_std)
        )
        return stax.serial(stax.FanOut(2), stax.parallel(stax.Identity(), branch), stax.FanInSum())

    blocks = [block() for _ in range(depth)]
    return [stax.Dense(1, dimension**0.5), *blocks, stax.Dense(1, 1.0)]


def evaluate(case: Case, X: np.ndarray, Y: np.ndarray) -> np.ndarray:
    """Return (2, 49): NNGP and NTK, the cross kernel by rows followed by the diagonal of X."""
    kernel_fn = stax.serial(*layers_of(case, X.shape[1]))[2]
    cross = kernel_fn(X, Y, ("nngp", "ntk"))
    square = kernel_fn(X, None, ("nngp", "ntk"))
    return np.stack(
        [
            np.concatenate([np.ravel(getattr(cross, get)), np.diag(getattr(square, get))])
            for get in ("nngp", "ntk")
        ]
    ).astype(np.float64)


def condition_of(case: Case, X: np.ndarray, Y: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return (2,): relative change of an off-diagonal entry per relative change of an input.

    The diagonal is left out: neural-tangents itself has only half the digits there.
    """
    random = np.random.default_rng(7)
    step = 2.0**-20
    change = np.zeros(2)
    for _ in range(2):
        moved = evaluate(
            case,
            X * (1 + step * random.choice([-1.0, 1.0], X.shape)),
            Y * (1 + step * random.choice([-1.0, 1.0], Y.shape)),
        )
        relative = np.abs(moved - values)[:, :42] / np.abs(values[:, :42])
        change = np.maximum(change, relative.max(axis=1) / step)
    return change


def main() -> None:
    """Compute every case and write the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=TARGET)
    out = parser.parse_args().out
    jax.config.update("jax_enable_x64", True)
    jax.config.update("jax_platforms", "cpu")
    X, Y = inputs()
    cases = [*fully_connected_cases(), *residual_cases(), *dropout_cases()]
    values, conditions = [], []
    for case in cases:
        values.append(evaluate(case, X, Y))
        conditions.append(condition_of(case, X, Y, values[-1]))
        # RectifiedMonomial is 0/0 at angle 0: its diagonal is NaN here and the test skips it.
        checked = values[-1][:, :42] if case["activation"] == "rectified_monomial" else values[-1]
        if not np.isfinite(checked).all():
            raise RuntimeError(f"neural-tangents returned NaN or infinity for {case}")
    packages = ("neural-tangents", "jax", "jaxlib", "numpy", "scipy", "ml_dtypes", "frozendict")
    pins = {name: version(name) for name in packages} | {"python": platform.python_version()}
    np.savez_compressed(
        out,
        X=X,
        Y=Y,
        values=np.array(values),
        condition=np.array(conditions),
        cases=np.bytes_(json.dumps(cases)),
        pins=np.bytes_(json.dumps(pins)),
    )
    print(f"{out}: {len(cases)} networks, {out.stat().st_size / 1000:.1f} kB, {pins}")


if __name__ == "__main__":
    main()
