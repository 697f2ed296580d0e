"""Gradients of drawn networks and pairs of rows against differences in hundreds of digits.

For hours, by hand: ``NTKFAST_FUZZ=10000 python -m pytest tests/test_fuzz_gradients.py --all``.
"""

from __future__ import annotations

import warnings

import hypothesis
import numpy as np
import pytest
from mpmath import mp, mpf

import ntkfast as nf
import test_fuzz as values

# In units of eps of the size of a gradient, and of what it moves by for one unit of error of norms
# and of the angle: 1e-12 in float64.
ALLOWED = 4500.0
LEAST_ANGLE = 1e-150  # its square is a number
STEP, NUDGE = mpf(10) ** -45, mpf(10) ** -15  # of first and of second differences


def gradient(drawn: values.Drawn, q: mpf, p: mpf, theta: mpf) -> tuple[mpf, mpf]:
    """Return the derivatives by x along x, and across it towards y."""

    def ends(squared: mpf, angle: mpf) -> mpf:
        return values.exact(drawn, squared, p, angle)

    r = mp.sqrt(q)
    up, down = ends(q * (1 + STEP) ** 2, theta), ends(q * (1 - STEP) ** 2, theta)
    if p == 0 or mp.sin(theta) < mpf(10) ** -40:  # parallel: a cusp, whose mean is 0
        return (up - down) / (2 * STEP * r), mpf(0)
    h = min(theta, mp.pi - theta) * STEP
    return (up - down) / (2 * STEP * r), (ends(q, theta - h) - ends(q, theta + h)) / (2 * h * r)


def share_of_bound(drawn: values.Drawn) -> float:
    """Return the error of a gradient over the bound that its condition gives; 0 if refused."""
    kernel, dtype = getattr(drawn.network, drawn.kind), drawn.x.dtype
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            found = kernel.vjp(drawn.x, drawn.y, np.ones((1, 1), dtype), engine=drawn.engine)[0]
        except (TypeError, ValueError) as error:
            assert "overflows" in str(error) or "is too long" in str(error)
            return 0.0
    assert np.all(np.isfinite(found))
    norms = [float(np.linalg.norm(row.astype(float))) for row in (drawn.x, drawn.y)]
    smallest = min(norm for norm in norms if norm)
    with mp.workdps(int(180 + 4 * abs(np.log10(max(smallest, 1e-80))))):
        x, y = drawn.x, drawn.y
        q, p, c = (values.inner(a, b) for a, b in ((x, x), (y, y), (x, y)))
        theta = mp.atan2(mp.sqrt(max(q * p - c * c, mpf(0))), c) if q * p else mp.pi / 2
        if 0 < min(theta, mp.pi - theta) < LEAST_ANGLE:
            return 0.0
        wanted = gradient(drawn, q, p, theta)
        turn = min(theta, mp.pi - theta) if mp.sin(theta) < 0.28 else 1 / mp.sin(theta)
        inputs = [(q * (1 + NUDGE) ** 2, p, theta), (q, p * (1 + NUDGE) ** 2, theta)]
        if p and mp.sin(theta) > mpf(10) ** -40:
            inputs.append((q, p, theta + NUDGE * turn * (1 if theta < mp.pi / 2 else -1)))
        size = mp.norm(wanted)
        for one in inputs:
            moved = [a - b for a, b in zip(gradient(drawn, *one), wanted, strict=True)]
            size += mp.norm(moved) / NUDGE
        # The kernel where it is flat, and rounding is all that is left; near 0 it is smooth.
        tops = values.exact(drawn, q, q, mpf(0)), values.exact(drawn, p, p, mpf(0))
        size += mp.sqrt(abs(tops[0] * tops[1])) * min(mp.sqrt(q), 1 / mp.sqrt(q))
        if kernel.is_zonal:  # profiles are exact relative to their largest value
            size += abs(gradient(drawn, q, q, mpf(0))[0]) * mp.sqrt(p / q) / 2
        across = found[1] * (1 if y[0, 1] >= 0 else -1)
        error = mp.norm([mpf(float(found[0])) - wanted[0], mpf(float(across)) - wanted[1]])
        tiny = 4 * float(np.finfo(dtype).smallest_normal)
        return float(error / (ALLOWED * float(np.finfo(dtype).eps) * size + tiny))


def check(drawn: values.Drawn) -> None:
    """Compare one gradient with the oracle."""
    assert share_of_bound(drawn) <= 1


def moved(drawn: values.Drawn, w: mpf, b: mpf, q: mpf, p: mpf, theta: mpf) -> mpf:
    """Return the recursion of Jacot et al. (2018), its deviations multiplied by w and b."""
    net, dual = drawn.network, values.ACTIVATIONS[drawn.name][0]
    unit, known = net.parameterization == "unit", net.ntk.parameters()
    w2 = (w * mpf(known["w_std"])) ** 2
    b2 = (b * mpf(known["bias" if unit else "b_std"])) ** 2
    if net.activation.degree == 1:  # it sees the direction of rows however short
        q, p = max(q, values.VANISHING), max(p, values.VANISHING)
    c, t = mp.sqrt(q * p) * mp.cos(theta), mpf(0)
    for k in range(net.depth + 1):
        if k:
            value, slope = dual(q, p, c)
            q, p, c, t = dual(q, q, q)[0], dual(p, p, p)[0], value, slope * t
        gain = w2 if k else mpf(1) if unit else w2 / drawn.x.shape[1]
        random = mpf(0) if unit else b2
        q, p, c, t = gain * q + random, gain * p + random, gain * c, gain * t
        c, t = c + random, t + c + b2
    return mpf(net.scale(drawn.kind)) * (t if drawn.kind == "ntk" else c)


def share_of_parameter_bound(drawn: values.Drawn) -> float:
    """Return the same of the derivatives by the logarithms of deviations, at one pair."""
    kernel, dtype = getattr(drawn.network, drawn.kind), drawn.x.dtype
    known = kernel.parameters()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            found = kernel.parameter_gradient(
                drawn.x, drawn.y, np.ones((1, 1), dtype), engine=drawn.engine
            )
        except ValueError as error:
            assert "overflows" in str(error)
            return 0.0
    norms = [float(np.linalg.norm(row.astype(float))) for row in (drawn.x, drawn.y)]
    smallest = min(norm for norm in norms if norm)
    worst = 0.0
    with mp.workdps(int(180 + 4 * abs(np.log10(max(smallest, 1e-80))))):
        x, y = drawn.x, drawn.y
        q, p, c = (values.inner(a, b) for a, b in ((x, x), (y, y), (x, y)))
        theta = mp.atan2(mp.sqrt(max(q * p - c * c, mpf(0))), c) if q * p else mp.pi / 2
        turn = min(theta, mp.pi - theta) if mp.sin(theta) < 0.28 else 1 / mp.sin(theta)
        turned = theta + NUDGE * turn * (1 if theta < mp.pi / 2 else -1)
        places = [
            (q * (1 + NUDGE) ** 2, p, theta),
            (q, p * (1 + NUDGE) ** 2, theta),
            (q, p, turned),
        ]
        one = mpf(1)
        for name, value in known.items():
            if value == 0:
                continue
            ends = [(one + s, one) if name == "w_std" else (one, one + s) for s in (STEP, -STEP)]

            def slope(*place: mpf, ends: list[tuple[mpf, mpf]] = ends) -> mpf:
                up, down = (moved(drawn, *end, *place) for end in ends)
                return (up - down) / (2 * STEP)

            wanted = slope(q, p, theta)
            size = mp.sqrt(abs(slope(q, q, mpf(0)) * slope(p, p, mpf(0))))
            size += mp.sqrt(
                abs(moved(drawn, one, one, q, q, mpf(0)))
                * abs(moved(drawn, one, one, p, p, mpf(0)))
            )
            size += sum(abs(slope(*place) - wanted) for place in places) / NUDGE
            tiny = 4 * float(np.finfo(dtype).smallest_normal)
            allowed = ALLOWED * float(np.finfo(dtype).eps) * size + tiny
            worst = max(worst, float(abs(mpf(found[name]) * value - wanted) / allowed))
    return worst


@values.fuzz(3)
@hypothesis.given(values.cases(values.ENGINES[:1]))
def test_gradients(drawn: values.Drawn) -> None:
    check(drawn)


@pytest.mark.slow
@values.fuzz(12)
@hypothesis.given(values.cases(values.ENGINES[:1]))
def test_many_gradients(drawn: values.Drawn) -> None:
    check(drawn)


@values.fuzz(3)
@hypothesis.given(values.cases(values.ENGINES[:1]))
def test_parameters(drawn: values.Drawn) -> None:
    assert share_of_parameter_bound(drawn) <= 1


@pytest.mark.slow
@values.fuzz(12)
@hypothesis.given(values.cases(values.ENGINES[:1]))
def test_many_parameters(drawn: values.Drawn) -> None:
    assert share_of_parameter_bound(drawn) <= 1


# Layers that drive inputs apart, or make variances large: name, depth, deviation of the weights.
WIDE = [("gelu", 5, 3.0), ("cos", 20, 3.0), ("rbf", 20, 1.5), ("gaussian", 10, 3.0)]
WIDE += [("cubic", 3, 3.0), ("erf", 10, 3.0), ("exp", 3, 0.5)]


def wide(name: str, depth: int, w_std: float, engine: str) -> None:
    """Check close rows of both kernels."""
    activation = values.ACTIVATIONS[name][1]
    network = nf.FullyConnected(
        depth, activation=activation, parameterization="ntk", w_std=w_std, b_std=0.1
    )
    x, y = np.array([[1.0, 0.0]]), np.array([[1.000001, 1e-6]])
    for kind in ("ntk", "nngp"):
        drawn = values.Drawn(name, network, kind, x, y, engine)
        check(drawn)
        assert share_of_parameter_bound(drawn) <= 1


@pytest.mark.parametrize(
    "case",
    [pytest.param(case, marks=() if case[0] == "gelu" else pytest.mark.slow) for case in WIDE],
)
def test_wide_layers(case: tuple[str, int, float]) -> None:
    wide(*case, values.ENGINES[0])


@pytest.mark.slow
def test_wide_layers_on_numba() -> None:
    for case in WIDE:
        wide(*case, values.ENGINES[-1])


@pytest.mark.slow
@values.fuzz(8)
@hypothesis.given(values.cases(values.ENGINES[-1:]))
def test_numba(drawn: values.Drawn) -> None:
    """Derivatives by rows and by parameters, on the engine that compiles for long."""
    drawn = drawn._replace(x=drawn.x.astype(np.float64), y=drawn.y.astype(np.float64))
    check(drawn)
    assert share_of_parameter_bound(drawn) <= 1
