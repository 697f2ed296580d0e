"""Agreement with neural-tangents 0.6.5 on 115 networks, from the file it wrote once.

``bench/make_neural_tangents_fixtures.py`` describes and writes the file.  Off the diagonal the
values of neural-tangents were found within 3e-13 (relative) of a 100-digit evaluation of the same
recursion.  On the diagonal neural-tangents takes the angle from ``qp - c^2``, where an error in
the last place costs half the digits; this file is right there too, because inner products of five
terms round alike for both factors.  The diagonal of the rectified monomial is 0/0 in
neural-tangents: NaN in the file, skipped here.
"""

from __future__ import annotations

import json
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ntkfast as nf

with np.load(Path(__file__).parent / "data" / "neural_tangents.npz") as file:
    DATA = dict(file)
CASES: list[dict[str, Any]] = json.loads(bytes(DATA["cases"]))
KINDS = ("nngp", "ntk")
X, Y = DATA["X"], DATA["Y"]
PAIRS = len(X) * len(Y)
WITH_DIAGONAL = [i for i, v in enumerate(DATA["values"]) if np.all(np.isfinite(v[:, PAIRS:]))]

# What neural-tangents itself is good for off the diagonal, relative to the value.
REFERENCE = 3e-13
# Roundings of a unit of sqrt(K(x,x) K(y,y)) per layer, and of the inputs' inner products; the
# latter count as often as the kernel's condition says, measured on neural-tangents itself.
ROUNDINGS = 2


def name_of(case: dict[str, Any]) -> str:
    """Return the test id of a case."""
    numbers = [
        f"{key}={case[key]:.3g}" for key in ("w_std", "alpha", "b_std", "rate") if key in case
    ]
    return "-".join([case["network"], activation_of(case), f"depth={case['depth']}", *numbers])


def activation_of(case: dict[str, Any]) -> str:
    """Return the activation as the text that `ntkfast` reads."""
    arguments = ", ".join(f"{value:g}" for value in case["args"])
    return case["activation"] + (f"({arguments})" if arguments else "")


def network(case: dict[str, Any]) -> Any:
    """Build the ntkfast network of a case."""
    if case["network"] == "fully_connected":
        return nf.FullyConnected(
            case["depth"],
            activation=activation_of(case),
            parameterization="ntk",
            w_std=case["w_std"],
            b_std=case["b_std"],
        )
    if case["network"] == "dropout":
        dense = nf.Dense(case["w_std"], case["b_std"])
        block = dense, activation_of(case), nf.Dropout(case["rate"])
        return nf.compose(*block * case["depth"], dense)
    if case["activation"] == "relu" and case["b_std"] == 0:
        return nf.ResNet(case["depth"], alpha=case["alpha"], trained="all")
    return composed(case)


def composed(case: dict[str, Any]) -> Any:
    """Build a residual network whose branches have biases or another activation."""
    branch = nf.Residual(
        nf.Dense(2**0.5, case["b_std"]), activation_of(case), nf.Dense(case["alpha"], case["b_std"])
    )
    return nf.compose(nf.Dense(X.shape[1] ** 0.5), *[branch] * case["depth"], nf.Dense())


def tolerance(index: int, which: int, scale: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Return the error that each entry may have in the precision of `scale`."""
    moved = DATA["condition"][index, which] * np.abs(wanted)
    rounded = (CASES[index]["depth"] + 1) * scale.astype(np.float64) + moved
    return REFERENCE * np.abs(wanted) + ROUNDINGS * np.finfo(scale.dtype).eps * rounded


def check(computed: np.ndarray, wanted: np.ndarray, allowed: np.ndarray) -> None:
    """Fail with the worst entry unless all errors are allowed."""
    assert np.all(np.isfinite(computed))
    excess = np.abs(computed.astype(np.float64) - wanted) / allowed
    worst = int(np.argmax(excess))
    assert excess[worst] <= 1, (
        f"entry {worst}: got {float(computed[worst])!r}, neural-tangents has {wanted[worst]!r}; "
        f"the error is {excess[worst]:.1f} times the tolerance"
    )


def test_file_holds_what_its_script_says() -> None:
    """The inputs are exact in float32, every case has a value for every pair, pins are there."""
    assert np.array_equal(X, X.astype(np.float32)) and np.array_equal(Y, Y.astype(np.float32))
    assert DATA["values"].shape == (len(CASES), len(KINDS), PAIRS + len(X))
    assert np.all(np.isfinite(DATA["values"][:, :, :PAIRS]))
    pins = json.loads(bytes(DATA["pins"]))
    assert (pins["neural-tangents"], pins["jax"]) == ("0.6.5", "0.5.3")


@pytest.mark.grid(2)
@pytest.mark.parametrize("index", range(len(CASES)), ids=map(name_of, CASES))
def test_values(index: int, engine: dict[str, Any], dtype: Any) -> None:
    """NNGP and NTK of X and Y: through profiles without bias, through the layer map otherwise."""
    net = network(CASES[index])
    x, y = X.astype(dtype), Y.astype(dtype)
    for which, kind in enumerate(KINDS):
        kernel = getattr(net, kind)
        wanted = DATA["values"][index, which, :PAIRS]
        scale = np.sqrt(np.outer(kernel.diag(x), kernel.diag(y))).ravel()
        allowed = tolerance(index, which, scale, wanted)
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            computed = kernel(x, y, **engine).ravel()
        for warning in told:  # a series that is cut off says what that costs
            claim = re.search(r"relative error of up to (\S+) for", str(warning.message))
            assert claim, warning.message
            assert "rectified_monomial" in name_of(CASES[index])
            allowed = allowed + float(claim[1]) * scale
        check(computed, wanted, allowed)


@pytest.mark.grid(2)
@pytest.mark.parametrize("index", WITH_DIAGONAL, ids=[name_of(CASES[i]) for i in WITH_DIAGONAL])
def test_diagonal(index: int, engine: dict[str, Any], dtype: Any) -> None:
    """K(x, x) of a symmetric matrix and of ``diag``."""
    net = network(CASES[index])
    x = X.astype(dtype)
    for which, kind in enumerate(KINDS):
        kernel = getattr(net, kind)
        wanted = DATA["values"][index, which, PAIRS:]
        for computed in (np.diag(kernel(x, **engine)), kernel.diag(x)):
            check(computed, wanted, tolerance(index, which, computed, wanted))
