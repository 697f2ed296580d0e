"""The polynomial coefficients of the C++ code, derived again from the functions they stand for."""

import importlib.util
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "csrc"


def test_coefficients_are_what_their_script_derives():
    if not SOURCE.is_dir():
        pytest.skip("the C++ sources are not beside the tests")
    spec = importlib.util.spec_from_file_location("make", SOURCE / "make_coefficients.py")
    make = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(make)
    assert make.render() == (SOURCE / "coefficients.hpp").read_text()
