"""What is said where an activation has no closed form and a kernel loses digits by it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from ntkfast.activations.base import Activation
from ntkfast.kernels.pairwise import MAX_TERMS
from ntkfast.support.telling import warn

ROUNDING = 64.0  # errors up to so many eps go without saying
TABLE_ERROR = 1e-10  # and so do these of tabulated averages
GRADIENT_ERROR = 1e-5  # of gradients that goes without saying
DECIMAL_SECONDS = 2e-4  # of a pair of images of close patches, times its pixels squared, about
HOPELESS = 0.1  # relative error of which no digit is right
SERIES_ADVICE = "scale the rows to one norm for full accuracy"


def tell_profile(activations: Iterable[Activation], error: float, dtype: np.dtype[Any]) -> None:
    """Warn of a profile that follows these activations badly.

    Raises
    ------
    ValueError
        If no digit is right.
    """
    asking = _asking(activations)
    if not asking or error <= _expected(asking, dtype):  # which NaN is not
        return
    text = f"a profile of {_names(asking)} has an error of {error:.0e}"
    if not error <= HOPELESS:
        raise ValueError(
            f"activation: expected one that a profile can follow, {text}; "
            "pass one that changes more slowly"
        )
    warn(f"activation: {text}, relative to the value at equal inputs")


def tell_tables(activations: Iterable[Activation], error: float, dtype: np.dtype[Any]) -> None:
    """Warn of tables of pair averages with more than their usual error."""
    asking = _asking(activations)
    if asking and error > _expected(asking, dtype):
        warn(
            f"activation: averages of {_names(asking)} over pairs have a relative error of up to "
            f"{error:.0e}"
        )


def tell_series(
    activations: Iterable[Activation], error: float | None, dtype: np.dtype[Any]
) -> None:
    """Warn of Hermite series that are too short, where the error is not known (None) or large.

    Raises
    ------
    ValueError
        If no digit is right.
    """
    text = f"activation: {MAX_TERMS} Hermite coefficients of {_names(activations)}"
    if error is None:
        warn(f"{text} are too few; {SERIES_ADVICE}")
        return
    where = "where inputs are nearly parallel"
    if error > HOPELESS:
        raise ValueError(f"{text} leave no digit {where}, an error of {error:.1g}; {SERIES_ADVICE}")
    if error > ROUNDING * float(np.finfo(dtype).eps):
        warn(f"{text} leave an error of about {error:.0e} {where}; {SERIES_ADVICE}")


def tell_decimals(pairs: int, pixels: int) -> None:
    """Warn where images so close that they take decimals will take long."""
    minutes = pairs * DECIMAL_SECONDS * pixels**2 / 60
    if minutes > 1:
        warn(
            f"{pairs} pairs of images are so close that their derivatives are computed in "
            f"decimals of fifty digits, which may take some {minutes:.0f} minutes; leave near "
            "duplicates out to avoid it"
        )


def tell_close_images(lost: float) -> None:
    """Warn of images whose gradients lose digits, a share of their size."""
    if lost > GRADIENT_ERROR:
        warn(
            f"X: gradients of images lose up to {lost:.0e} of their size beside others of which "
            "parts are nearly the same: this network has a kink behind a pool, a smooth "
            "activation or a read-out"
        )


def _asking(activations: Iterable[Activation]) -> list[Activation]:
    return [one for one in activations if not one.is_compiled]


def _names(activations: Iterable[Activation]) -> str:
    return ", ".join(sorted({one.name for one in activations}))


def _expected(asking: list[Activation], dtype: np.dtype[Any]) -> float:
    """Return the error that goes without saying, or that an activation has told of itself."""
    told = max(getattr(one, "noise_error", 0.0) for one in asking)
    return max(TABLE_ERROR, ROUNDING * float(np.finfo(dtype).eps), told)
