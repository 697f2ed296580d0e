"""Codes, records and limits are the same in Python and in the compiled engines."""

from __future__ import annotations

from enum import IntEnum
from types import ModuleType

import numpy as np
import pytest

from ntkfast.engines import codes

ENUMS = (codes.ActivationKind, codes.ImageOperation, codes.NeuronKind, codes.Answer, codes.Kept)
RECORDS = ("LAYER_ROW", "IMAGE_STEP", "IMAGE_LEVEL")


@pytest.fixture(params=["_core", "_cuda", "_cuda_emulated"])
def compiled(request: pytest.FixtureRequest) -> ModuleType:
    """Give each compiled module that is here; all of them may be loaded at once."""
    module = pytest.importorskip(f"ntkfast.{request.param}", exc_type=ImportError)
    assert isinstance(module, ModuleType)
    return module


@pytest.mark.parametrize("enum", ENUMS, ids=lambda enum: enum.__name__)
def test_codes_are_the_same(compiled: ModuleType, enum: type[IntEnum]) -> None:
    assert compiled.codes()[enum.__name__] == {code.name: code.value for code in enum}


def test_sizes_and_limits_are_the_same(compiled: ModuleType) -> None:
    found = compiled.codes()
    assert found["sizes"] == {
        name: getattr(codes, name)
        for name in ("SLOTS", "PIECES", "MIDDLE_BYTES", "RATES", "MOVES", "DIRECTIONS")
    }
    names = ("REFINE_LAYERS", "REFINE_SPHERE", "REFINE_DISTANCE", "NEAR_TANGENT")
    assert found["limits"] == {name: getattr(codes, name) for name in names}


def test_nothing_is_left_out(compiled: ModuleType) -> None:
    assert set(compiled.codes()) == {enum.__name__ for enum in ENUMS} | {"sizes", "limits"}
    assert set(compiled.records()) == set(RECORDS)


@pytest.mark.parametrize("name", RECORDS)
def test_records_are_the_same(compiled: ModuleType, name: str) -> None:
    ours, theirs = getattr(codes, name), compiled.records()[name]
    assert isinstance(theirs, np.dtype)
    assert theirs == ours
    assert theirs.fields == ours.fields
    assert theirs.itemsize == ours.itemsize
