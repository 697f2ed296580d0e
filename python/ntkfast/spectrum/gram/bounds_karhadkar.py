"""Bounds by the separation of the rows (Karhadkar et al. 2024)."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from ntkfast.kernels.rows import on_sphere
from ntkfast.networks.dense import FullyConnected
from ntkfast.spectrum.gram.bound_case import Case, relu_chain
from ntkfast.spectrum.gram.bound_table import LAW, UNIT, Bound, Check

KARHADKAR = "Karhadkar, Murray & Montufar 2024, arXiv:2405.14630"


def separation(case: Case) -> Iterator[Bound]:
    """Yield the law of small angles, and the bounds by distances of spherical data."""
    pair = case.pairs
    t = pair.equal_norms
    if t is not None and case.kernel.network is not None:
        yield _small_angle(case, t)
    check = relu_chain(case)
    if not check.holds or not isinstance(case.network, FullyConnected):
        return
    dim, n = case.X.shape[1], len(case.X)
    checks = (
        check,
        Check("at least 3 dimensions", dim >= 3),
        Check("rows have norm 1", bool(np.all(np.abs(pair.norms - 1) <= 1e-6))),
        Check("no two rows are equal or opposite", pair.delta > 0),
    )
    unit = float(case.K_diagonal.max()) / (1 if case.network.depth == 1 else case.network.depth + 1)
    power, label = (2, "shallow") if case.network.depth == 1 else (4, "deep")
    note = "constant not given by the theorem"
    low = _log_factor(dim, pair.delta) * pair.delta**power
    yield case.row(
        f"separation delta, {label}",
        "lower",
        unit * low,
        UNIT,
        KARHADKAR,
        checks,
        note + f"; delta = {pair.delta:.3g}",
    )
    if case.network.depth == 1:
        yield case.row(
            "separation delta'",
            "upper",
            unit * pair.delta_prime,
            UNIT,
            KARHADKAR,
            checks,
            note + f"; delta' = {pair.delta_prime:.3g}",
        )
        uniform = (*checks, Check("rows are uniform on the sphere", None))
        eps = 0.05
        low = high = math.nan
        if dim > 1:
            low = (1 + math.log(n / eps) / math.log(dim)) ** -3 * (eps**2 / n**4) ** (1 / (dim - 1))
            high = (math.log(1 / eps) / n**2) ** (1 / (dim - 1))
        note += "; probability 0.95"
        yield case.row("uniform sphere, lower", "lower", unit * low, UNIT, KARHADKAR, uniform, note)
        yield case.row(
            "uniform sphere, upper", "upper", unit * high, UNIT, KARHADKAR, uniform, note
        )


def _log_factor(dim: int, delta: float) -> float:
    """(1 + d log(1/delta) / log d)^-3, NaN where it has no meaning."""
    if dim < 2 or not 0 < delta:
        return math.nan
    return float(max(1 + dim * math.log(1 / delta) / math.log(dim), 1.0) ** -3)


def _small_angle(case: Case, radius: float) -> Bound:
    """Slope of the kernel at equal inputs times the least angle."""
    h = 1e-7
    half = np.array([(h / 2) ** 2], np.longdouble)
    curve = on_sphere(case.kernel, case.X.shape[1], radius)
    slope = float(curve.split(half, 1 - half)[1][0]) / h
    smooth = slope <= 1e-5 * float(case.K_diagonal.max())
    checks = (
        Check("the kernel has a corner at equal inputs", not smooth),
        Check("one close pair, all other rows far away", None),
    )
    value = math.nan if smooth else slope * case.pairs.angle
    note = f"slope {slope:.6g}, least angle {case.pairs.angle:.3g}"
    return case.row("small angle", "limit", value, LAW, KARHADKAR + ", derived", checks, note)
