"""The search for parameters of a Gaussian process: where its targets are most likely."""

from __future__ import annotations

import math
from collections.abc import Sequence
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
        names = [name for name in self.ranges if name != "depth"]
        limits = np.log([self.ranges[name] for name in names]).reshape(-1, 2)
        first = np.array([self._first(name) for name in names])
        best: tuple[dict[str, Any], Fit] | None = None
        for depth in self.ranges.get("depth", (None,)):
            fixed: dict[str, Any] = {} if depth is None else {"depth": depth}
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

        if names:
            start = minimize(
                lambda logs: -self._fit(parameters(logs)).value,
                start,
                method="L-BFGS-B",
                jac="3-point",
                bounds=limits,
            ).x
        found = parameters(start)
        return found, self._fit(found)

    def _first(self, name: str) -> float:
        """Return the logarithm of the first value: the present one, or the middle of the range."""
        low, high = self.ranges[name]
        value = parameters_of(self.kernel)[name]
        known = isinstance(value, (int, float)) and low <= value <= high
        return math.log(float(value) if known else math.sqrt(low * high))

    def _fit(self, parameters: dict[str, Any]) -> Fit:
        kernel = changed(self.kernel, parameters) if parameters else self.kernel
        K = covariance(Evaluation(kernel, self.engine, self.threads), self.inputs, 1.0, 0.0)
        evidence = Evidence.of(K, self.targets)
        found = evidence.best(self.start.scale, self.start.noise, self.own)
        if not math.isfinite(found.value):
            raise singular(found.noise)
        return found


def singular(noise: float) -> np.linalg.LinAlgError:
    """Return the error of a covariance without an inverse."""
    return np.linalg.LinAlgError(
        f"noise: the covariance of the targets is singular to rounding with noise={noise:.3g} "
        "(inputs repeat, or nearly so); expected a larger one"
    )
