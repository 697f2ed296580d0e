"""Write coefficients.hpp: the polynomials behind the elementary functions of the lane loops.

Run ``python csrc/formulas/make_coefficients.py`` (needs mpmath); a test derives the numbers again.
Every polynomial interpolates at Chebyshev nodes in 60-digit arithmetic, with the smallest degree
whose relative error stays below half the unit roundoff.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import mpmath as mp

mp.mp.dps = 60
ROUNDOFF = {"double": mp.mpf(2) ** -53, "float": mp.mpf(2) ** -24}


def asin_ratio(m: mp.mpf) -> mp.mpf:
    """asin(sqrt m) / sqrt m."""
    return mp.asin(mp.sqrt(m)) / mp.sqrt(m) if m else mp.mpf(1)


def turn_ratio(m: mp.mpf) -> mp.mpf:
    """asin(sqrt m) / (pi sqrt m)."""
    return asin_ratio(m) / mp.pi


def chord_ratio(m: mp.mpf) -> mp.mpf:
    """(sin t - t cos t) / (pi sin(t/2)^3) with m = sin^2(t/2)."""
    if m < mp.mpf("1e-20"):
        return mp.mpf(8) / 3 / mp.pi
    t = 2 * mp.asin(mp.sqrt(m))
    return (mp.sin(t) - t * mp.cos(t)) / mp.sqrt(m) ** 3 / mp.pi


def arc_ratio(v: mp.mpf) -> mp.mpf:
    """Arc over sine, t / (pi sin t), with v = 1 - cos t."""
    return turn_ratio(v / 2) / mp.sqrt(1 - v / 2)


def exp_ratio(r: mp.mpf) -> mp.mpf:
    """exp(r)."""
    return mp.exp(r)


def log_ratio(m: mp.mpf) -> mp.mpf:
    """log((1+z)/(1-z)) / z with m = z^2."""
    z = mp.sqrt(m)
    return 2 * mp.atanh(z) / z if z > mp.mpf("1e-15") else mp.mpf(2)


HALF_LOG2 = mp.log(2) / 2
LOG_END = ((mp.sqrt(2) - 1) / (mp.sqrt(2) + 1)) ** 2
FUNCTIONS: dict[str, tuple[Callable[[mp.mpf], mp.mpf], mp.mpf, mp.mpf]] = {
    "Asin": (asin_ratio, mp.mpf(0), mp.mpf(1) / 4),
    "Turn": (turn_ratio, mp.mpf(0), mp.mpf(1) / 4),
    "Chord": (chord_ratio, mp.mpf(0), mp.mpf(1) / 4),
    "Arc": (arc_ratio, mp.mpf(0), mp.mpf(1)),
    "Exp": (exp_ratio, -HALF_LOG2 * mp.mpf("1.001"), HALF_LOG2 * mp.mpf("1.001")),
    "Log": (log_ratio, mp.mpf(0), LOG_END),
}


def interpolate(f: Callable[[mp.mpf], mp.mpf], a: mp.mpf, b: mp.mpf, degree: int) -> list[mp.mpf]:
    """Monomial coefficients of the interpolant at the Chebyshev nodes of [a, b]."""
    count = degree + 1
    nodes = [
        (a + b) / 2 + (b - a) / 2 * mp.cos(mp.pi * (2 * k + 1) / (2 * count)) for k in range(count)
    ]
    divided = [f(x) for x in nodes]
    for level in range(1, count):
        for k in range(count - 1, level - 1, -1):
            divided[k] = (divided[k] - divided[k - 1]) / (nodes[k] - nodes[k - level])
    coefficients = [mp.mpf(0)]
    for k in range(degree, -1, -1):
        shifted = [mp.mpf(0), *coefficients]
        for i, c in enumerate(coefficients):
            shifted[i] -= nodes[k] * c
        shifted[0] += divided[k]
        coefficients = shifted
    return coefficients[:count]


def relative_error(
    f: Callable[[mp.mpf], mp.mpf], a: mp.mpf, b: mp.mpf, coefficients: list[mp.mpf]
) -> mp.mpf:
    """Largest relative error on 201 points."""
    points = [a + (b - a) * k / 200 for k in range(201)]
    return max(abs(mp.polyval(coefficients[::-1], x) / f(x) - 1) for x in points)


def smallest(name: str, kind: str) -> list[mp.mpf]:
    """Coefficients of the polynomial of smallest sufficient degree."""
    f, a, b = FUNCTIONS[name]
    for degree in range(2, 30):
        coefficients = interpolate(f, a, b, degree)
        if relative_error(f, a, b, coefficients) < ROUNDOFF[kind] / 2:
            return coefficients
    raise ArithmeticError(f"{name}: no degree below 30 suffices for {kind}")


MACRO = r"""
// An array inside a function, which device code can read too.
#define NTK_POLYNOMIAL(name, T, terms, ...)         \
    struct name {                                   \
        static constexpr int kTerms = terms;        \
        NTK_FN static constexpr T at(int k) {       \
            constexpr T c[terms] = {__VA_ARGS__};   \
            return c[k];                            \
        }                                           \
    }
""".strip().split("\n")


def render() -> str:
    """Return the text of coefficients.hpp."""
    lines = [
        "// Polynomial coefficients, constant term first; written by make_coefficients.py.",
        "#pragma once",
        "",
        '#include "formulas/simd.hpp"',
        "",
        "// clang-format off",
        *MACRO,
        "",
        "namespace {",
        "",
        "template <class T>",
        "struct Coefficients;",
    ]
    for kind, digits, suffix in (("double", 17, ""), ("float", 9, "f")):
        lines += ["template <>", f"struct Coefficients<{kind}> {{"]
        for name in FUNCTIONS:
            values = [mp.nstr(c, digits) + suffix for c in smallest(name, kind)]
            arguments = ", ".join([name, kind, str(len(values)), *values])
            lines.append(f"    NTK_POLYNOMIAL({arguments});")
        lines.append("};")
    return "\n".join([*lines, "", "}  // namespace", "// clang-format on", ""])


if __name__ == "__main__":
    Path(__file__).with_name("coefficients.hpp").write_text(render())
