"""Types of the C++ extension; see csrc/bind/core.cpp."""

from collections.abc import Sequence
from typing import Annotated, Any, SupportsFloat, SupportsIndex, SupportsInt, TypeAlias

import numpy as np
from numpy.typing import NDArray

_Float: TypeAlias = SupportsFloat | SupportsIndex
_Int: TypeAlias = SupportsInt | SupportsIndex
_Pair: TypeAlias = Annotated[Sequence[_Float], "FixedSize(2)"]
_F32: TypeAlias = NDArray[np.float32]
_F64: TypeAlias = NDArray[np.float64]
_Records: TypeAlias = NDArray[np.void]

class Radial:
    def __init__(self, c: _Float, gamma: _Float, euclidean: bool, degree: _Float) -> None: ...

class Layers:
    def __init__(
        self,
        numbers: _Records,
        scales: _Pair,
        exponent: _Int,
        sectors: Sectorsf32 | Sectorsf64 | None = None,
    ) -> None: ...

class ImageNet:
    def __init__(
        self,
        steps: _Records,
        levels: _Records,
        channels: _Int,
        circular: bool,
        weight_h: _F64,
        weight_w: _F64,
        trained: _Float,
        bias: _Float,
    ) -> None: ...

def codes() -> dict[str, dict[str, Any]]: ...
def records() -> dict[str, np.dtype[np.void]]: ...
def isas() -> list[tuple[str, bool]]: ...
def choose_isa(name: str) -> str: ...
def plain_rows(x: object, y: object) -> tuple[Any, ...] | None: ...

class Profilef32:
    def __init__(
        self,
        table: _F32,
        sub_bits: _Int,
        stretch: _Pair,
        base: _Pair,
        degree: _Float,
        scale: _Float,
        refine_below: _Pair,
        middle: _F32 | None,
        middle_rate: _Float,
        middle_ends: _Pair,
        inner_degree: _Int,
    ) -> None: ...

class Neuronf32:
    def __init__(self, kind: _Int, table: _F32, scale: _Float, degree: _Float) -> None: ...

class Sectorsf32:
    def __init__(
        self,
        table: _F32,
        sign: _F32,
        terms: Sequence[Sequence[_Int]],
        angles: Sequence[Annotated[Sequence[_Float], "FixedSize(6)"]],
        weight: _Float,
        bias: _Float,
        low: _Float,
        high: _Float,
        second: bool,
    ) -> None: ...

def row_norms_f32(x: _F32) -> tuple[_F32, float, float]: ...
def values_at_equal_f32(map: Layers, norms: _F32) -> _F64: ...
def gram_f32(
    x: _F32,
    norm_x: _F32,
    y: _F32 | None,
    norm_y: _F32 | None,
    map: Any,
    series_x: _F32 | None,
    series_y: _F32 | None,
    diagonal_x: _F32 | None,
    second: Any,
    out: _F32 | None,
    out_second: _F32 | None,
    threads: _Int,
    isa: str,
) -> None: ...
def rounded_f32(
    x: _F32,
    norm_x: _F32,
    y: _F32 | None,
    norm_y: _F32 | None,
    map: Any,
    series_x: _F32 | None,
    series_y: _F32 | None,
    diagonal_x: _F32 | None,
    out: NDArray[np.uint16],
    kept: _Int,
    second_output: bool,
    threads: _Int,
    isa: str,
) -> bool: ...
def matmul_f32(
    x: _F32,
    norm_x: _F32,
    y: _F32 | None,
    norm_y: _F32 | None,
    map: Any,
    series_x: _F32 | None,
    series_y: _F32 | None,
    diagonal_x: _F32 | None,
    v: _F32,
    product: _F32,
    second_output: bool,
    threads: _Int,
    isa: str,
) -> None: ...
def products_f32(
    x: _F32,
    norm_x: _F32,
    y: _F32 | None,
    norm_y: _F32 | None,
    map: Any,
    series_x: _F32 | None,
    series_y: _F32 | None,
    diagonal_x: _F32 | None,
    u: _F32,
    v: _F32,
    left: _F64,
    right: _F64,
    second_output: bool,
    total: _Int,
    threads: _Int,
    isa: str,
) -> None: ...
def sketch_f32(
    x: _F32,
    y: _F32 | None,
    out: _F32,
    signs_x: _F32,
    index_x: NDArray[np.int32],
    signs_y: _F32 | None,
    index_y: NDArray[np.int32] | None,
    step: bool,
    scale: _Float,
    threads: _Int,
    isa: str,
) -> None: ...
def structured_f32(
    x: _F32,
    out: _F32,
    flips: _F32,
    lengths: _F32,
    answer: _Int,
    scale: _Float,
    threads: _Int,
    isa: str,
) -> None: ...
def hadamard_f32(
    x: _F32, out: _F32, signs: _F32 | None, scale: _Float, threads: _Int, isa: str
) -> None: ...

class Profilef64:
    def __init__(
        self,
        table: _F64,
        sub_bits: _Int,
        stretch: _Pair,
        base: _Pair,
        degree: _Float,
        scale: _Float,
        refine_below: _Pair,
        middle: _F64 | None,
        middle_rate: _Float,
        middle_ends: _Pair,
        inner_degree: _Int,
    ) -> None: ...

class Neuronf64:
    def __init__(self, kind: _Int, table: _F64, scale: _Float, degree: _Float) -> None: ...

class Sectorsf64:
    def __init__(
        self,
        table: _F64,
        sign: _F64,
        terms: Sequence[Sequence[_Int]],
        angles: Sequence[Annotated[Sequence[_Float], "FixedSize(6)"]],
        weight: _Float,
        bias: _Float,
        low: _Float,
        high: _Float,
        second: bool,
    ) -> None: ...

def row_norms_f64(x: _F64) -> tuple[_F64, float, float]: ...
def values_at_equal_f64(map: Layers, norms: _F64) -> _F64: ...
def gram_f64(
    x: _F64,
    norm_x: _F64,
    y: _F64 | None,
    norm_y: _F64 | None,
    map: Any,
    series_x: _F64 | None,
    series_y: _F64 | None,
    diagonal_x: _F64 | None,
    second: Any,
    out: _F64 | None,
    out_second: _F64 | None,
    threads: _Int,
    isa: str,
) -> None: ...
def rounded_f64(
    x: _F64,
    norm_x: _F64,
    y: _F64 | None,
    norm_y: _F64 | None,
    map: Any,
    series_x: _F64 | None,
    series_y: _F64 | None,
    diagonal_x: _F64 | None,
    out: NDArray[np.uint16] | NDArray[np.uint32],
    kept: _Int,
    second_output: bool,
    threads: _Int,
    isa: str,
) -> bool: ...
def matmul_f64(
    x: _F64,
    norm_x: _F64,
    y: _F64 | None,
    norm_y: _F64 | None,
    map: Any,
    series_x: _F64 | None,
    series_y: _F64 | None,
    diagonal_x: _F64 | None,
    v: _F64,
    product: _F64,
    second_output: bool,
    threads: _Int,
    isa: str,
) -> None: ...
def products_f64(
    x: _F64,
    norm_x: _F64,
    y: _F64 | None,
    norm_y: _F64 | None,
    map: Any,
    series_x: _F64 | None,
    series_y: _F64 | None,
    diagonal_x: _F64 | None,
    u: _F64,
    v: _F64,
    left: _F64,
    right: _F64,
    second_output: bool,
    total: _Int,
    threads: _Int,
    isa: str,
) -> None: ...
def sketch_f64(
    x: _F64,
    y: _F64 | None,
    out: _F64,
    signs_x: _F64,
    index_x: NDArray[np.int64],
    signs_y: _F64 | None,
    index_y: NDArray[np.int64] | None,
    step: bool,
    scale: _Float,
    threads: _Int,
    isa: str,
) -> None: ...
def structured_f64(
    x: _F64,
    out: _F64,
    flips: _F64,
    lengths: _F64,
    answer: _Int,
    scale: _Float,
    threads: _Int,
    isa: str,
) -> None: ...
def hadamard_f64(
    x: _F64, out: _F64, signs: _F64 | None, scale: _Float, threads: _Int, isa: str
) -> None: ...
def images_f32(
    net: ImageNet,
    x: _F32,
    scale_x: _F32,
    factor_x: _F32,
    y: _F32 | None,
    scale_y: _F32 | None,
    factor_y: _F32 | None,
    diagonal: bool,
    out: _F32 | None,
    out_second: _F32 | None,
    threads: _Int,
    isa: str,
) -> None: ...
def images_f64(
    net: ImageNet,
    x: _F64,
    scale_x: _F64,
    factor_x: _F64,
    y: _F64 | None,
    scale_y: _F64 | None,
    factor_y: _F64 | None,
    diagonal: bool,
    out: _F64 | None,
    out_second: _F64 | None,
    threads: _Int,
    isa: str,
) -> None: ...
def sequence_numbers_f32(
    inputs: _F32,
    layout: NDArray[np.int64],
    activation: _Records,
    layers: _Int,
    fixed: _Int,
    scales: Sequence[_Float],
    weights: Sequence[_Float],
    mean: bool,
    reverse: bool,
    nngp: bool,
    threads: _Int,
) -> tuple[_F32, _F64]: ...
def sequence_numbers_f64(
    inputs: _F64,
    layout: NDArray[np.int64],
    activation: _Records,
    layers: _Int,
    fixed: _Int,
    scales: Sequence[_Float],
    weights: Sequence[_Float],
    mean: bool,
    reverse: bool,
    nngp: bool,
    threads: _Int,
) -> tuple[_F64, _F64]: ...
def sequences_f32(
    numbers_x: Sequence[_F32],
    layout_x: NDArray[np.int64],
    numbers_y: Sequence[_F32] | None,
    layout_y: NDArray[np.int64] | None,
    activation: _Records,
    layers: _Int,
    fixed: _Int,
    channels: _Int,
    every: bool,
    nngp: bool,
    diagonal: _F32 | None,
    out: _F32,
    threads: _Int,
    isa: str,
) -> None: ...
def sequences_f64(
    numbers_x: Sequence[_F64],
    layout_x: NDArray[np.int64],
    numbers_y: Sequence[_F64] | None,
    layout_y: NDArray[np.int64] | None,
    activation: _Records,
    layers: _Int,
    fixed: _Int,
    channels: _Int,
    every: bool,
    nngp: bool,
    diagonal: _F64 | None,
    out: _F64,
    threads: _Int,
    isa: str,
) -> None: ...
def vjp_f32(
    x: _F32,
    norm_x: _F32,
    y: _F32 | None,
    norm_y: _F32 | None,
    map: Any,
    series_x: _F32 | None,
    series_y: _F32 | None,
    diagonal_x: _F32 | None,
    slope: Any,
    second: bool,
    v: _F32 | None,
    left: _F32 | None,
    right: _F32 | None,
    out: _F32,
    threads: _Int,
    isa: str,
) -> None: ...
def jvp_f32(
    x: _F32,
    norm_x: _F32,
    y: _F32 | None,
    norm_y: _F32 | None,
    map: Any,
    series_x: _F32 | None,
    series_y: _F32 | None,
    diagonal_x: _F32 | None,
    slope: Any,
    second: bool,
    dx: _F32,
    out: _F32,
    threads: _Int,
    isa: str,
) -> None: ...
def by_parameters_f32(
    x: _F32,
    norm_x: _F32,
    y: _F32 | None,
    norm_y: _F32 | None,
    map: Any,
    series_x: _F32 | None,
    series_y: _F32 | None,
    diagonal_x: _F32 | None,
    steps: _F64,
    second: bool,
    v: _F32 | None,
    turned: _F32 | None,
    left: _F32 | None,
    right: _F32 | None,
    sums: _F64 | None,
    out: _F32 | None,
    threads: _Int,
    isa: str,
) -> None: ...
def vjp_f64(
    x: _F64,
    norm_x: _F64,
    y: _F64 | None,
    norm_y: _F64 | None,
    map: Any,
    series_x: _F64 | None,
    series_y: _F64 | None,
    diagonal_x: _F64 | None,
    slope: Any,
    second: bool,
    v: _F64 | None,
    left: _F64 | None,
    right: _F64 | None,
    out: _F64,
    threads: _Int,
    isa: str,
) -> None: ...
def jvp_f64(
    x: _F64,
    norm_x: _F64,
    y: _F64 | None,
    norm_y: _F64 | None,
    map: Any,
    series_x: _F64 | None,
    series_y: _F64 | None,
    diagonal_x: _F64 | None,
    slope: Any,
    second: bool,
    dx: _F64,
    out: _F64,
    threads: _Int,
    isa: str,
) -> None: ...
def by_parameters_f64(
    x: _F64,
    norm_x: _F64,
    y: _F64 | None,
    norm_y: _F64 | None,
    map: Any,
    series_x: _F64 | None,
    series_y: _F64 | None,
    diagonal_x: _F64 | None,
    steps: _F64,
    second: bool,
    v: _F64 | None,
    turned: _F64 | None,
    left: _F64 | None,
    right: _F64 | None,
    sums: _F64 | None,
    out: _F64 | None,
    threads: _Int,
    isa: str,
) -> None: ...
