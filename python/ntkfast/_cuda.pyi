"""Types of the extension for CUDA devices; see csrc/bind/cuda.cpp.

Functions that are named as those of ntkfast._core take the same arguments, but for `isa`, which is
"ordinal:precision:stream" here. Classes have the same members; an object of one module is nothing
to the other.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ntkfast._core import _F32, _F64, _Int
from ntkfast._core import ImageNet as ImageNet
from ntkfast._core import Layers as Layers
from ntkfast._core import Neuronf32 as Neuronf32
from ntkfast._core import Neuronf64 as Neuronf64
from ntkfast._core import Profilef32 as Profilef32
from ntkfast._core import Profilef64 as Profilef64
from ntkfast._core import Radial as Radial
from ntkfast._core import Sectorsf32 as Sectorsf32
from ntkfast._core import Sectorsf64 as Sectorsf64
from ntkfast._core import by_parameters_f32 as by_parameters_f32
from ntkfast._core import by_parameters_f64 as by_parameters_f64
from ntkfast._core import codes as codes
from ntkfast._core import gram_f32 as gram_f32
from ntkfast._core import gram_f64 as gram_f64
from ntkfast._core import hadamard_f32 as hadamard_f32
from ntkfast._core import hadamard_f64 as hadamard_f64
from ntkfast._core import images_f32 as images_f32
from ntkfast._core import images_f64 as images_f64
from ntkfast._core import jvp_f32 as jvp_f32
from ntkfast._core import jvp_f64 as jvp_f64
from ntkfast._core import matmul_f32 as matmul_f32
from ntkfast._core import matmul_f64 as matmul_f64
from ntkfast._core import products_f32 as products_f32
from ntkfast._core import products_f64 as products_f64
from ntkfast._core import records as records
from ntkfast._core import sequences_f32 as sequences_f32
from ntkfast._core import sequences_f64 as sequences_f64
from ntkfast._core import sketch_f32 as sketch_f32
from ntkfast._core import sketch_f64 as sketch_f64
from ntkfast._core import structured_f32 as structured_f32
from ntkfast._core import structured_f64 as structured_f64
from ntkfast._core import vjp_f32 as vjp_f32
from ntkfast._core import vjp_f64 as vjp_f64

class Memory:
    def __init__(self, bytes: _Int, where: str) -> None: ...
    @property
    def pointer(self) -> int: ...

def devices() -> tuple[int, str]: ...
def device_of(pointer: _Int) -> int: ...
def finish(where: str) -> None: ...
def copy(to: NDArray[Any], source: NDArray[Any], where: str) -> None: ...
def set_chunk(numbers: _Int) -> None: ...
def free_bytes(where: str) -> int: ...
def counts() -> dict[str, int]: ...
def measure_f32(
    matrices: list[_F32], scale: float, where: str
) -> tuple[Memory, list[tuple[float, float, float, float]]]: ...
def measure_f64(
    matrices: list[_F64], scale: float, where: str
) -> tuple[Memory, list[tuple[float, float, float, float]]]: ...
def multiply_f32(
    a: _F32, v: _F32, out: _F32, diagonal: _F32 | None, shift: _Int, where: str
) -> None: ...
def multiply_f64(
    a: _F64, v: _F64, out: _F64, diagonal: _F64 | None, shift: _Int, where: str
) -> None: ...
def scale_rows_f32(
    x: _F32 | None,
    divisors: _F32 | None,
    factors: _F32 | None,
    out: _F32,
    scale: float,
    where: str,
) -> None: ...
def pair_products_f32(
    x: _F32,
    left: NDArray[np.int64],
    right: NDArray[np.int64],
    shifts: _F32,
    factors: _F32,
    out: _F32,
    where: str,
) -> None: ...
def scale_rows_f64(
    x: _F64 | None,
    divisors: _F64 | None,
    factors: _F64 | None,
    out: _F64,
    scale: float,
    where: str,
) -> None: ...
def pair_products_f64(
    x: _F64,
    left: NDArray[np.int64],
    right: NDArray[np.int64],
    shifts: _F64,
    factors: _F64,
    out: _F64,
    where: str,
) -> None: ...
def add_turned_f32(part: _F32 | None, out: _F32, where: str) -> None: ...
def weigh_f32(
    x: _F32,
    norm_x: _F32,
    y: _F32 | None,
    norm_y: _F32 | None,
    map: Any,
    series_x: _F32 | None,
    series_y: _F32 | None,
    diagonal_x: _F32 | None,
    v: _F32 | None,
    left: _F32 | None,
    right: _F32 | None,
    sums: _F64,
    threads: _Int,
    where: str,
) -> None: ...
def add_turned_f64(part: _F64 | None, out: _F64, where: str) -> None: ...
def weigh_f64(
    x: _F64,
    norm_x: _F64,
    y: _F64 | None,
    norm_y: _F64 | None,
    map: Any,
    series_x: _F64 | None,
    series_y: _F64 | None,
    diagonal_x: _F64 | None,
    v: _F64 | None,
    left: _F64 | None,
    right: _F64 | None,
    sums: _F64,
    threads: _Int,
    where: str,
) -> None: ...
