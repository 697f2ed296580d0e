"""The search for parameters of a Gaussian process: where its targets are most likely."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import minimize

from ntkfast.arrays.collections import Values
from ntkfast.kernels.base import Kernel
from ntkfast.kernels.evaluation import Evaluation
from ntkfast.kernels.parameters import changed, parameters_of
from ntkfast.regression.marginal_likelihood import Evidence, Fit
from ntkfast.regression.posterior import covariance


@dataclass(frozen=True, eq=False)
class Search:
    """The search for parameters of a kernel; scale and noise are the best ones at each."""

    kernel: Kernel
    inputs: Any
    targets: Values
    engine: str | None
    threads: int | None
    start: Fit
    own: set[str]
    ranges: dict[str, Sequence[float]]

    def run(self, restarts: int, random: Any) -> tuple[dict[str, Any], Fit]:
        """Return the best parameters, and scale and noise there."""
        depths = {name: tried for name, tried in self.ranges.items() if is_depth(name)}
        names = [name for name in self.ranges if name not in depths]
        limits = np.log([self.ranges[name] for name in names]).reshape(-1, 2)
        first = np.array([self._first(name) for name in names])
        best: tuple[dict[str, Any], Fit] | None = None
        for some in itertools.product(*depths.values()):
            fixed: dict[str, Any] = dict(zip(depths, some, strict=True))
            for start in [first, *random.uniform(*limits.T, (restarts, len(names)))]:
                found = self._climb(names, limits, start, fixed)
                if best is None or found[1].value > best[1].value:
                    best = found
        assert best is not None
        return best

    def _climb(
        self, names: list[str], limits: Values, start: Values, fixed: dict[str, Any]
    ) -> tuple[dict[str, Any], Fit]:
        def parameters(logs: Values) -> dict[str, Any]:
            return fixed | dict(zip(names, np.exp(logs).tolist(), strict=True))

        def loss(logs: Values) -> tuple[float, Values]:
            fit, slopes = self._fit(parameters(logs), names)
            return -fit.value, -slopes * np.exp(logs)

        if names:
            start = minimize(loss, start, method="L-BFGS-B", jac=True, bounds=limits).x
        found = parameters(start)
        return found, self._fit(found)[0]

    def _first(self, name: str) -> float:
        """Return the logarithm of the first value: the present one, or the middle of the range."""
        low, high = self.ranges[name]
        value = value_of(self.kernel, name)
        known = isinstance(value, (int, float)) and low <= value <= high
        return math.log(float(value) if known else math.sqrt(low * high))

    def _fit(self, parameters: dict[str, Any], names: Sequence[str] = ()) -> tuple[Fit, Values]:
        """Return the best scale and noise, and the slopes of the likelihood there."""
        kernel = with_values(self.kernel, parameters)
        K = covariance(Evaluation(kernel, self.engine, self.threads), self.inputs, 1.0, 0.0)
        evidence = Evidence.of(K, self.targets)
        found = evidence.best(self.start.scale, self.start.noise, self.own)
        if not math.isfinite(found.value):
            raise singular(found.noise)
        if not names:
            return found, np.zeros(0)
        slopes = kernel.parameter_gradient(
            self.inputs,
            None,
            evidence.weights(found, self.own),
            names=[dotted(name) for name in names],
            engine=self.engine,
            threads=self.threads,
        )
        return found, np.array([slopes[dotted(name)] for name in names])


# ---- names: of a keyword of a network or kernel, ``k1__c``, or of a parameter, ``k1.c`` ----------


def dotted(name: str) -> str:
    """Return the name as `Kernel.parameters` has it."""
    return name.replace("__", ".")


def is_depth(name: str) -> bool:
    """Whether all values are tried: a depth does not move."""
    return name.rpartition("__")[2] == "depth"


def value_of(kernel: Kernel, name: str) -> Any:
    """Return the present value of a parameter."""
    known = parameters_of(kernel)
    return known[name] if name in known else kernel.parameters()[dotted(name)]


def with_values(kernel: Kernel, values: Mapping[str, Any]) -> Kernel:
    """Return the kernel with other values of some parameters.

    Raises
    ------
    ValueError
        If there is no such parameter, or a value is out of range.
    """
    known, numbers = parameters_of(kernel), kernel.parameters()
    moves = {name for name in values if name not in known and dotted(name) in numbers}
    keywords = {name: value for name, value in values.items() if name not in moves}
    found: Kernel = changed(kernel, keywords) if keywords else kernel
    return found.with_parameters({dotted(name): values[name] for name in moves})


def tunable(kernel: Kernel, name: str) -> list[str]:
    """Return what a name stands for: a parameter, or all below it, as ``length_scales.0``."""
    if is_depth(name) or dotted(name) in kernel.parameters():
        return [name]
    return [one for one in kernel.parameters() if one.startswith(f"{dotted(name)}.")] or [name]


def singular(noise: float) -> np.linalg.LinAlgError:
    """Return the error of a covariance without an inverse."""
    return np.linalg.LinAlgError(
        f"noise: the covariance of the targets is singular to rounding with noise={noise:.3g} "
        "(inputs repeat, or nearly so); expected a larger one"
    )
