"""Activations by their names."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence

import numpy as np

from ntkfast.activations.base import Activation, Array
from ntkfast.activations.polynomials import HermiteSeries, Identity, Polynomial
from ntkfast.activations.rectified import ABReLU, RectifiedMonomial, Step
from ntkfast.activations.smooth import GELU, Erf, Gaussian
from ntkfast.activations.waves import Exp, Sine
from ntkfast.support.telling import did_you_mean

identity = Identity()
relu = ABReLU(0.0, 1.0)
abs = ABReLU(-1.0, 1.0)
step = Step(0.0, 1.0)
sign = Step(-1.0, 1.0)
erf = Erf()
sigmoid_like = Erf(0.5, 1 / 2.4020563531719796, 0.5)
gelu = GELU()
sin = Sine()
cos = Sine(1.0, 1.0, math.pi / 2)
exp = Exp()
gaussian = Gaussian()


def leaky_relu(slope: float = 0.01) -> ABReLU:
    """Return s(x) = x for x > 0 and slope x otherwise."""
    return ABReLU(slope, 1.0)


def rbf(gamma: float = 1.0) -> Sine:
    """Return sqrt(2) sin(sqrt(2 gamma) x + pi/4), whose dual is exp(-gamma (q + p - 2c))."""
    if not gamma > 0:
        raise ValueError(f"gamma: expected a positive number, got {gamma}")
    return Sine(math.sqrt(2), math.sqrt(2 * gamma), math.pi / 4)


def monomial(n: int) -> Polynomial:
    """Return s(x) = x^n."""
    return Polynomial((0.0,) * _order("n", n) + (1.0,))


def rectified_monomial(n: int) -> Activation:
    """Return s(x) = x^n for x > 0 and 0 otherwise; n = 0 is the step and n = 1 the ReLU."""
    return (step, relu)[n] if _order("n", n) < 2 else RectifiedMonomial(int(n))


def hermite(n: int) -> HermiteSeries:
    """Return the orthonormal probabilists' Hermite polynomial h_n."""
    return HermiteSeries((0.0,) * _order("n", n) + (1.0,))


def polynomial(coefficients: Sequence[float]) -> Polynomial:
    """Return s(x) = sum_j coefficients[j] x^j."""
    return Polynomial(tuple(coefficients))


def _order(name: str, n: float) -> int:
    if n != int(n) or n < 0:
        raise ValueError(f"{name}: expected an integer >= 0, got {n}")
    return int(n)


_CONSTANTS: dict[str, Activation] = {
    one.name: one for one in (identity, relu, abs, step, sign, erf, gelu, sin, cos, exp, gaussian)
}


_CONSTANTS |= {"linear": identity, "sigmoid_like": sigmoid_like}


_FACTORIES: dict[str, Callable[..., Activation]] = {
    "leaky_relu": leaky_relu,
    "abrelu": ABReLU,
    "step": Step,
    "erf": Erf,
    "sine": Sine,
    "rbf": rbf,
    "exp": Exp,
    "gaussian": Gaussian,
    "monomial": lambda n: monomial(n),
    "rectified_monomial": lambda n: rectified_monomial(n),
    "hermite": lambda n: hermite(n),
    "polynomial": lambda *values: Polynomial(values),
    "hermite_series": lambda *values: HermiteSeries(values),
}


def resolve(spec: str | Activation | Callable[[Array], Array]) -> Activation:
    """Turn a name, an activation or a Python function into an `Activation`.

    Parameters
    ----------
    spec : str, Activation or callable
        A name such as ``"relu"``, ``"leaky_relu(0.1)"`` or ``"tanh"``, an activation, or any
        function that works elementwise on arrays.

    Raises
    ------
    ValueError
        For an unknown name.
    TypeError
        For anything else, and for functions of something else than arrays.

    Examples
    --------
    >>> import ntkfast as nf
    >>> nf.Activation("leaky_relu(0.1)")
    ABReLU(negative=0.1, positive=1.0)
    >>> nf.Activation("relu").dual(1.0, 1.0, 1.0)
    np.float64(0.5)
    """
    if isinstance(spec, Activation):
        return spec
    if isinstance(spec, str):
        return _by_name(spec)
    if callable(spec):
        from ntkfast.activations.quadrature import CallableActivation

        _check_on_arrays(spec)
        return CallableActivation(spec)
    raise TypeError(
        f"activation: expected a name, an Activation or a callable, got {type(spec).__name__}"
    )


def _by_name(text: str) -> Activation:
    match = re.fullmatch(r"\s*(\w+)\s*(?:\(([^()]*)\))?\s*", text)
    name, arguments = match.groups() if match else (text, None)
    if not arguments and name in _CONSTANTS:
        return _CONSTANTS[name]
    if name in _FACTORIES:
        try:
            values = [float(part) for part in (arguments or "").split(",") if part.strip()]
            return _FACTORIES[name](*values)
        except (TypeError, ValueError) as error:
            raise ValueError(f"activation: cannot make {text!r}: {error}") from error
    from ntkfast.activations.functions import NAMED  # with quadrature, which few networks need

    if not arguments and name in NAMED:
        return NAMED[name]
    known = sorted({*_CONSTANTS, *_FACTORIES, *NAMED})
    meant = did_you_mean(name, known)
    raise ValueError(f"activation: expected one of {', '.join(known)}, got {text!r}{meant}")


def _check_on_arrays(function: Callable[..., object]) -> None:
    """Refuse functions of tensors, and classes that make such functions, before they are used."""
    try:
        np.asarray(function(np.array([0.25, 0.5])), np.float64)
    except TypeError as error:
        raise TypeError(
            f"activation: expected a function of NumPy arrays, got {function!r}, which raises "
            f"{type(error).__name__}: {error}; there are names too, such as 'relu' and 'tanh'"
        ) from error
