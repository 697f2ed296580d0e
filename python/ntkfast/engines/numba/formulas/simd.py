"""Operations that Python has no word for, as intrinsics; what simd.hpp is to C++.

LLVM vectorises a loop only if it can show that stores do not change what is loaded. Arrays that no
loop writes to while reading them (data, tables, packed columns) are therefore read by `fetch`,
whose loads are declared not to alias with any `store`; what a loop rewrites is read by `load`.
Scratch rows have the constant length WIDTH, so that their distances are known.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from ntkfast.engines.numba.formulas.coefficients import COEFFICIENTS

Code = tuple[Any, Callable[..., Any]]


# ---- for intrinsics -----------------------------------------------------------------------------


def input_scope(module: Any) -> Any:
    """Metadata: the memory that `fetch` reads and no `store` changes."""
    domain = module.add_metadata([ir.MetaDataString(module, "ntkfast")])
    scope = module.add_metadata([ir.MetaDataString(module, "ntkfast input"), domain])
    return module.add_metadata([scope])


def address(context: Any, builder: Any, kind: Any, array: Any, index: Any) -> Any:
    """Return a pointer to array[index]."""
    data = context.make_array(kind)(context, builder, array).data
    return builder.gep(data, [index], inbounds=True)


def fused(builder: Any, a: Any, b: Any, c: Any) -> Any:
    """Return a b + c, rounded once where the processor can."""
    product = builder.fmul(a, b, flags=("contract",))
    return builder.fadd(product, c, flags=("contract",))


def splat(builder: Any, value: Any, lanes: int) -> Any:
    """Return a vector with a number in all lanes."""
    none = ir.Constant(ir.VectorType(value.type, lanes), ir.Undefined)
    one = builder.insert_element(none, value, ir.Constant(ir.IntType(32), 0))
    zeros = ir.Constant(ir.VectorType(ir.IntType(32), lanes), [0] * lanes)
    return builder.shuffle_vector(one, none, zeros)


def resize(builder: Any, value: Any, size: Any) -> Any:
    """Drop the upper bits of an integer that is wider than `size`."""
    return builder.trunc(value, size) if size.width < value.type.width else value


# ---- memory -------------------------------------------------------------------------------------


def _read(array: Any, metadata: str) -> Code:
    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        value = builder.load(address(context, builder, signature.args[0], *arguments))
        value.set_metadata(metadata, input_scope(builder.module))
        return value

    return array.dtype(array, types.intp), code


@intrinsic
def fetch(typing: Any, array: Any, index: Any) -> Code:
    """Read array[index] of a flat array that `store` does not change meanwhile."""
    return _read(array, "alias.scope")


@intrinsic
def load(typing: Any, array: Any, index: Any) -> Code:
    """Read array[index] of a flat array; index is not negative."""
    return _read(array, "noalias")


@intrinsic
def store(typing: Any, array: Any, index: Any, value: Any) -> Code:
    """Write array[index] of a flat array that `fetch` does not read meanwhile."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        to = address(context, builder, signature.args[0], *arguments[:2])
        builder.store(arguments[2], to).set_metadata("noalias", input_scope(builder.module))
        return context.get_dummy_value()

    return types.void(array, types.intp, array.dtype), code


# ---- arithmetic ---------------------------------------------------------------------------------


@intrinsic
def real(typing: Any, like: Any, value: Any) -> Code:
    """Convert to the type of `like`: Numba would compute 0.5 * float32 in float64."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return context.cast(builder, arguments[1], signature.args[1], signature.args[0])

    return like(like, value), code


@intrinsic
def select(typing: Any, condition: Any, a: Any, b: Any) -> Code:
    """Choose a or b, computing both: a branch in a loop may keep it from vectorising."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.select(*arguments)

    return a(types.boolean, a, a), code


@intrinsic
def product(typing: Any, a: Any, b: Any) -> Code:
    """Return a b rounded by itself: fused into a sum, a b - a b need not be 0.

    Numba marks all products as free to be fused; a comparison is in between.
    """
    lowest = -3.4e38 if a.bitwidth == 32 else -1.79e308

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        result, least = builder.fmul(*arguments), context.get_constant(a, lowest)
        return builder.select(builder.fcmp_ordered(">", result, least), result, least)

    return a(a, b), code


@intrinsic
def plus(typing: Any, total: Any, value: Any) -> Code:
    """Add to a sum whose order does not matter: a loop may keep one per lane."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.fadd(*arguments, flags=("contract", "reassoc"))

    return total(total, total), code


@intrinsic(prefer_literal=True)
def polynomial(typing: Any, name: Any, x: Any) -> Code:
    """Evaluate one of COEFFICIENTS; "exp_excess" is "exp" without its constant term, over x."""
    full, _, cut = name.literal_value.partition("_")
    coefficients = COEFFICIENTS[full][x.bitwidth][1 if cut else 0 :]

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = context.get_value_type(x)
        total = ir.Constant(kind, coefficients[-1])
        for coefficient in coefficients[-2::-1]:
            total = fused(builder, total, arguments[1], ir.Constant(kind, coefficient))
        return total

    return x(name, x), code


@intrinsic
def wide(typing: Any) -> Code:
    """Let the calling function use the widest vectors; LLVM takes half of AVX-512 otherwise."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        # llvmlite's own `add` refuses attributes that it does not know.
        set.add(builder.function.attributes, '"prefer-vector-width"="512"')
        return context.get_dummy_value()

    return types.void(), code
