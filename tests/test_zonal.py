"""Kernels of one variable: ``profile`` against the oracle and the reference file, ``is_zonal``."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mpmath import mp, mpf

import cases
import ntkfast as nf
import oracle
from cases import Case, parametrize
from tolerances import PROFILE, epsilon

# Exactly representable cosines, dense at both ends: only the polynomial is rounded.
COSINES = np.concatenate(
    [
        np.linspace(-1, 1, 33),
        1 - np.exp2(-np.arange(5, 54, 4.0)),
        [1 - 2.0**-53],
        np.exp2(-np.arange(5, 54, 4.0)) - 1,
        [2.0**-30, -(2.0**-52)],
    ]
)


def exact_angle(u: float) -> mpf:
    """Return the angle of a float cosine, from its exact defect."""
    with mp.workdps(oracle.DIGITS):
        return 2 * mp.atan2(mp.sqrt(1 - mpf(u)), mp.sqrt(1 + mpf(u)))


@lru_cache(maxsize=256)
def exact_profile(name: str, radius: float) -> tuple[np.ndarray, float]:
    kernel = cases.BY_NAME[name].oracle(1)
    values = [kernel.profile(exact_angle(u), radius) for u in COSINES]
    return np.array(values, dtype=object), float(kernel.profile(mpf(0), radius))


@parametrize([case for case in cases.ZONAL if "ntk-" not in case.name])
def test_profile(case: Case) -> None:
    """``profile(u)`` at unit vectors is right to the last bits over the whole interval."""
    assert case.kernel.is_zonal
    values, top = exact_profile(case.name, 1.0)
    computed = case.kernel.profile(COSINES)
    assert computed.shape == COSINES.shape
    error = np.abs(oracle.error(computed, values))
    assert np.max(error) <= PROFILE * epsilon(np.float64) * abs(top), COSINES[np.argmax(error)]


@parametrize(cases.ZONAL + cases.GENERAL)
def test_is_zonal(case: Case) -> None:
    """A kernel is zonal when a function of the angle (times powers of the norms) describes it."""
    assert case.kernel.is_zonal is (case in cases.ZONAL)


@pytest.mark.parametrize(
    ("name", "radius"), [("bias3", 2.0), ("erf2", 0.5), ("gelu2", 1.5), ("fc3", 3.0), ("cos1", 1.0)]
)
def test_profile_at_a_radius(name: str, radius: float) -> None:
    """Any network is a function of the angle on a sphere of its own radius."""
    values, top = exact_profile(name, radius)
    computed = cases.BY_NAME[name].kernel.profile(COSINES, radius=radius)
    error = np.abs(oracle.error(computed, values))
    assert np.max(error) <= 2 * PROFILE * epsilon(np.float64) * abs(top), COSINES[np.argmax(error)]


def test_profile_shapes() -> None:
    kernel = nf.FullyConnected(2).ntk
    assert np.ndim(kernel.profile(0.5)) == 0
    assert kernel.profile(np.zeros((2, 3))).shape == (2, 3)
    assert float(kernel.profile(1.0)) == 3.0
    for bad in (1.5, -1.0000001, np.nan):
        with pytest.raises(ValueError, match="u: "):
            kernel.profile(bad)


@pytest.mark.parametrize("depth", [0, 1, 3, 10, 100])
def test_profile_at_the_ends(depth: int) -> None:
    """T_L(1) = L + 1 exactly; u = -1 is an ordinary point of the left branch."""
    kernel = nf.FullyConnected(depth).ntk
    assert float(kernel.profile(1.0)) == depth + 1
    exact = oracle.fully_connected(depth).profile(exact_angle(-1.0))
    assert abs(float(kernel.profile(-1.0)) - float(exact)) <= 4 * epsilon(np.float64) * (depth + 1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "exact"),
    [
        (lambda: nf.FullyConnected(1000).ntk, oracle.fully_connected(1000)),
        (lambda: nf.Laplace(1000.0), oracle.laplace(1000)),
        (
            lambda: nf.ResNet(1000, alpha=0.03, normalize=True).ntk,
            oracle.resnet(1000, 0.03, normalize=True),
        ),
        (
            lambda: nf.ResNet(50, alpha=0.05, normalize=True).ntk,
            oracle.resnet(50, 0.05, normalize=True),
        ),
    ],
    ids=["fc1000", "laplace1000", "resnet1000", "resnet50-cut-at-minus-one"],
)
def test_spiky_profiles(make: Any, exact: oracle.Kernel) -> None:
    """Very deep and very narrow kernels meet the same bound."""
    chosen = np.concatenate([[-1, -0.5, 0.0, 0.75], 1 - np.exp2(-np.array([4.0, 9, 14, 20, 40]))])
    values = np.array([exact.profile(exact_angle(u)) for u in chosen], dtype=object)
    error = np.abs(oracle.error(make().profile(chosen), values))
    top = float(exact.profile(mpf(0)))
    assert np.max(error) <= 2 * PROFILE * epsilon(np.float64) * top


def test_profile_describes_the_gram_matrix(engine: dict[str, Any], dtype: Any) -> None:
    """K(x, y) = |x||y| k(u): profile and engine are one function."""
    angles = np.linspace(0.2, 3.0, 40)
    x = np.array([[2.0, 0.0]], dtype)
    y = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(dtype)
    kernel = nf.ResNet(3, alpha=0.5).ntk
    cosines = y[:, 0].astype(float) / np.linalg.norm(y.astype(float), axis=1)
    wanted = 2 * kernel.profile(cosines) * np.linalg.norm(y.astype(float), axis=1)
    assert kernel(x, y, **engine)[0] == pytest.approx(wanted, abs=40 * epsilon(dtype))


def _cosine(kind: str, text: str) -> float | None:
    """Return the input as a float cosine where it is one exactly."""
    if kind == "u":
        top, bottom = text.split("/")
        return int(top) / int(bottom)
    power = int(text.split("^")[1])
    if power < -53:
        return None
    return 1 - 2.0**power if kind == "1-u" else 2.0**power - 1


def _check_records(records: list[dict]) -> int:
    checked = 0
    for record in records:
        kernel, top = cases.record_kernel(record["spec"]), float(mpf(record["kappa1"]))
        with mp.workdps(60):
            pairs = [
                (u, mpf(row[2]))
                for row in record["values"]
                if (u := _cosine(row[0], row[1])) is not None
            ]
        computed = kernel.profile(np.array([u for u, _ in pairs]))
        error = np.abs(oracle.error(computed, np.array([v for _, v in pairs], dtype=object)))
        bound = PROFILE * epsilon(np.float64) * top
        if record["spec"]["name"] == "laplace":
            bound += record["spec"]["c"] * epsilon(np.float64)  # of the rounded rate
        if record["spec"]["name"] == "resntk":
            bound += record["spec"]["L"] * epsilon(np.float64) / 4  # of the rounded alpha
        assert np.max(error) <= bound, (record["label"], pairs[int(np.argmax(error))][0])
        checked += len(pairs)
    return checked


def test_committed_reference_values() -> None:
    """The 30-digit values in tests/data, made by tests/make_reference.py."""
    path = Path(__file__).parent / "data" / "kernel_values.json"
    assert _check_records(json.loads(path.read_text())["records"]) > 100


def test_reference_directory(reference_files: Path) -> None:
    """All values of a larger reference, where NTKFAST_REFERENCE names its directory."""
    records = json.loads((reference_files / "kernel_values.json").read_text())["records"]
    assert _check_records(records) > 500
