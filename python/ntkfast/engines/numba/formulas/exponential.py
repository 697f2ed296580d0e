"""exp and log for lane loops: no call, so that loops vectorise; mirrors exponential.hpp."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.extending import intrinsic

from ntkfast.engines.numba.compiling import compiled
from ntkfast.engines.numba.formulas.simd import Code, polynomial, real, select

# Numbers that belong to a format.
CONSTANTS: dict[str, dict[int, float]] = {
    "magic": {64: 1.5 * 2.0**52, 32: 1.5 * 2.0**23},  # adding it rounds to an integer
    "lowest": {64: -708.0, 32: -87.0},
    "highest": {64: 709.0, 32: 88.0},
    "log2_high": {64: 0.693147180369123816490, 32: 0.693359375},
    "log2_low": {64: 1.90821492927058770002e-10, 32: -2.12194440e-4},
    "tiny": {64: 2.2250738585072014e-308, 32: 1.17549435e-38},
    "rounding": {64: 2.0**-48, 32: 2.0**-19},
    "smallest": {64: 1e-290, 32: 1e-37},
}
MANTISSA = {64: 52, 32: 23}
ROOT_HALF_BITS = {64: 0x3FE6A09E667F3BCD, 32: 0x3F3504F3}


@intrinsic(prefer_literal=True)
def constant(typing: Any, name: Any, like: Any) -> Code:
    """Return one of CONSTANTS for the type of `like`."""
    value = CONSTANTS[name.literal_value][like.bitwidth]

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return ir.Constant(context.get_value_type(like), value)

    return like(name, like), code


@intrinsic
def times_power(typing: Any, value: Any, shifted: Any) -> Code:
    """Return value 2^n, where n is in the low bits of `shifted` = n + magic."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        whole = ir.IntType(value.bitwidth)
        left, right = (builder.bitcast(argument, whole) for argument in arguments)
        power = builder.shl(right, ir.Constant(whole, MANTISSA[value.bitwidth]))
        return builder.bitcast(builder.add(left, power), context.get_value_type(value))

    return value(value, value), code


def _exponent(builder: Any, value: Any, size: int) -> tuple[Any, Any]:
    """Bits of a number m 2^n with m in [sqrt 1/2, sqrt 2), and n."""
    whole = ir.IntType(size)
    all_bits = builder.bitcast(value, whole)
    shifted = builder.sub(all_bits, ir.Constant(whole, ROOT_HALF_BITS[size]))
    return all_bits, builder.ashr(shifted, ir.Constant(whole, MANTISSA[size]))


@intrinsic
def mantissa(typing: Any, value: Any) -> Code:
    """Return m of a number m 2^n with m in [sqrt 1/2, sqrt 2)."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        all_bits, n = _exponent(builder, arguments[0], value.bitwidth)
        power = builder.shl(n, ir.Constant(n.type, MANTISSA[value.bitwidth]))
        return builder.bitcast(builder.sub(all_bits, power), context.get_value_type(value))

    return value(value), code


@intrinsic
def exponent(typing: Any, value: Any) -> Code:
    """Return n of a number m 2^n with m in [sqrt 1/2, sqrt 2)."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        n = _exponent(builder, arguments[0], value.bitwidth)[1]
        return builder.sitofp(n, context.get_value_type(value))

    return value(value), code


@compiled
def exponential(x: Any) -> Any:
    """exp(x), 0 where that is subnormal; no call, so that loops vectorise."""
    lowest, highest, magic = constant("lowest", x), constant("highest", x), constant("magic", x)
    inside = select(x > lowest, x, lowest)
    inside = select(inside < highest, inside, highest)
    shifted = inside * real(x, 1.44269504088896340736) + magic
    n = shifted - magic
    rest = (inside - n * constant("log2_high", x)) - n * constant("log2_low", x)
    value = times_power(polynomial("exp", rest), shifted)
    return select(x < lowest, real(x, 0), value)


@compiled
def expm1_ratio(x: Any) -> Any:
    """(exp(x) - 1) / x for x <= 0, which is 1 at 0."""
    small, one = x > real(x, -0.3), real(x, 1)
    close = polynomial("exp_excess", select(small, x, real(x, 0)))
    return select(small, close, (exponential(x) - one) / select(small, one, x))


@compiled
def logarithm(x: Any) -> Any:
    """log(x) of normal x > 0."""
    one, m, n = real(x, 1), mantissa(x), exponent(x)
    z = (m - one) / (m + one)
    p = z * polynomial("log", z * z)
    return n * constant("log2_high", x) + (n * constant("log2_low", x) + p)
