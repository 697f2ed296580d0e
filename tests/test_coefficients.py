"""The polynomial coefficients of the C++ code, derived again from the functions they stand for."""

import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "csrc" / "formulas"


@pytest.mark.slow
def test_coefficients_are_what_their_script_derives():
    if not SOURCE.is_dir():
        pytest.skip("the C++ sources are not beside the tests")
    # in a process of its own: the precision of mpmath is global, and other tests set it
    code = "import make_coefficients; print(make_coefficients.render(), end='')"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=SOURCE, capture_output=True, text=True, check=True
    )
    assert done.stdout == (SOURCE / "coefficients.hpp").read_text()
