"""Kernels of convolutional networks on the full four-dimensional covariance, slow and plain.

Written from the papers and not from the package: covariances of all pairs of pixels of two images
are arrays S[i, j, i', j'], steps are loops over pixels, the arc-cosine step is the textbook one;
with 40 digits nothing needs care; in float64 it serves larger images.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import mpmath
import numpy as np
from numpy.typing import NDArray

import ntkfast as nf

mpmath.mp.dps = 40
Array = NDArray[Any]
PAIRS = ("xx", "xy", "yy")


class Exact:
    """Numbers of 40 digits."""

    dtype = object

    def number(self, value: float) -> Any:
        """Convert a number."""
        return value if isinstance(value, mpmath.mpf) else mpmath.mpf(float(value))

    def relu(self, s: Any, q: Any, p: Any) -> tuple[Any, Any]:
        """E[relu(a) relu(b)] and E[relu'(a) relu'(b)] for covariance s and variances q, p."""
        if q == 0 or p == 0:
            return mpmath.mpf(0), mpmath.mpf(0)
        n = mpmath.sqrt(q * p)
        u = max(min(s / n, mpmath.mpf(1)), mpmath.mpf(-1))
        angle = mpmath.acos(u)
        turn = (mpmath.pi - angle) / (2 * mpmath.pi)
        return n * mpmath.sin(angle) / (2 * mpmath.pi) + n * u * turn, turn


class Double:
    """Numbers in float64."""

    dtype = np.float64

    def number(self, value: float) -> float:
        """Convert a number."""
        return float(value)

    def relu(self, s: float, q: float, p: float) -> tuple[float, float]:
        """E[relu(a) relu(b)] and E[relu'(a) relu'(b)]."""
        if q == 0 or p == 0:
            return 0.0, 0.0
        n = math.sqrt(q * p)
        angle = math.acos(max(-1.0, min(1.0, s / n)))
        turn = (math.pi - angle) / (2 * math.pi)
        return n * math.sin(angle) / (2 * math.pi) + s * turn, turn


class Oracle:
    """The two kernels of one pair of images."""

    def __init__(self, numbers: Any = None) -> None:
        self.numbers = numbers or Exact()

    def __call__(self, net: Any, x: Array, y: Array) -> tuple[float, float]:
        """Return the NNGP and NTK of a network on two (h, w, c) images."""
        return self.all(net, x, y)["xy"]

    def all(self, net: Any, x: Array, y: Array) -> dict[str, tuple[float, float]]:
        """Return the NNGP and NTK of the pairs x, x; x, y; y, y."""
        return {k: (float(a), float(b)) for k, (a, b) in self.exact(net, x, y).items()}

    def exact(self, net: Any, x: Array, y: Array) -> dict[str, tuple[Any, Any]]:
        """Return the same in all digits."""
        images = {"x": x, "y": y}
        make = self.numbers.number
        h, w, c = x.shape
        share = make(1) / c if net.divides_by_channels else make(1)
        state = {}
        for pair in PAIRS:
            a, b = (images[name] for name in pair)
            s = np.zeros((h, w, h, w), self.numbers.dtype)
            for p in itertools.product(range(h), range(w), range(h), range(w)):
                terms = [make(a[p[0], p[1], k]) * make(b[p[2], p[3], k]) for k in range(c)]
                s[p] = sum(terms, make(0)) * share
            state[pair] = (s, s * make(0))
        state = self.steps(net.steps(), state)
        return {pair: self.read(net.last(), *state[pair]) for pair in PAIRS}

    def steps(self, steps: Any, state: Any) -> Any:
        """Apply steps to the covariances and tangent kernels of x, x; x, y; y, y."""
        for step in steps:
            if isinstance(step, nf.Skip):
                branch = self.steps(step.branch, state)
                state = {k: (state[k][0] + branch[k][0], state[k][1] + branch[k][1]) for k in PAIRS}
            elif isinstance(step, nf.Conv):
                state = {k: self.convolve(step, *state[k]) for k in PAIRS}
            elif isinstance(step, nf.AvgPool):
                state = {k: tuple(self.pool(step.size, a) for a in state[k]) for k in PAIRS}
            else:
                state = self.activate(state)
        return state

    def activate(self, state: Any) -> Any:
        """ReLU."""
        own = {}
        for name, pair in (("x", "xx"), ("y", "yy")):
            s = state[pair][0]
            own[name] = {
                (i, j): s[i, j, i, j] for i in range(s.shape[0]) for j in range(s.shape[1])
            }
        found = {}
        for pair in PAIRS:
            s, t = state[pair]
            after, tangent = np.zeros_like(s), np.zeros_like(t)
            for p in np.ndindex(*s.shape):
                value, slope = self.numbers.relu(s[p], own[pair[0]][p[:2]], own[pair[1]][p[2:]])
                after[p], tangent[p] = value, slope * t[p]
            found[pair] = (after, tangent)
        return found

    def convolve(self, step: Any, s: Array, t: Array) -> tuple[Array, Array]:
        """Window sums, with weights and biases that may be trained."""
        make, q = self.numbers.number, step.filter_size
        gain, bias = make(step.w_std) ** 2 / q**2, make(step.b_std) ** 2
        after = gain * self.windows(step, s) + bias
        return after, gain * self.windows(step, t) + (after if step.trained else 0)

    def windows(self, step: Any, a: Array) -> Array:
        """Sum a[i + k, j + l, i' + k, j' + l] over the window."""
        h, w = a.shape[:2]
        q = step.filter_size
        r = q // 2
        if step.padding == "valid":
            total = 0
            for k, m in itertools.product(range(q), range(q)):
                rows, columns = slice(k, k + h - q + 1), slice(m, m + w - q + 1)
                total = total + a[rows, columns, rows, columns]
            return total
        total = np.zeros_like(a)
        for k, m in itertools.product(range(-r, r + 1), range(-r, r + 1)):
            for p in np.ndindex(*a.shape):
                at = p[0] + k, p[1] + m, p[2] + k, p[3] + m
                if step.padding == "circular":
                    at = at[0] % h, at[1] % w, at[2] % h, at[3] % w
                elif not all(0 <= e < size for e, size in zip(at, (h, w, h, w), strict=True)):
                    continue
                total[p] = total[p] + a[at]
        return total

    def pool(self, size: int, a: Array) -> Array:
        """Means over blocks of both images."""
        total = 0
        for k in itertools.product(range(size), repeat=4):
            total = total + a[k[0] :: size, k[1] :: size, k[2] :: size, k[3] :: size]
        return total / size**4

    def read(self, last: Any, s: Array, t: Array) -> tuple[Any, Any]:
        """Return the NNGP and NTK after the last layer."""
        make = self.numbers.number
        gain, bias = make(last.w_std) ** 2, make(last.b_std) ** 2
        nngp, tangent = (gain * self.total(last, a) for a in (s, t))
        nngp = nngp + bias
        return nngp, tangent + (nngp if last.trained else 0)

    def total(self, last: Any, a: Array) -> Any:
        """Sum over pairs of pixels."""
        h, w = a.shape[:2]
        if last.kind == "gap":
            return a.sum() / (h * w) ** 2
        share = h * w if last.mean else 1
        pixels = list(itertools.product(range(h), range(w)))
        if last.kind == "flatten":
            return sum(a[i, j, i, j] for i, j in pixels) / share
        r, total = last.window // 2, 0
        around = range(-r, r + 1)
        for i, j in pixels:  # the mean over the window around (i, j) in both images, zeros outside
            window = [
                (i + k, j + m) for k in around for m in around if 0 <= i + k < h and 0 <= j + m < w
            ]
            total = total + sum(a[(*p, *o)] for p in window for o in window)
        return total / last.window**4 / share
