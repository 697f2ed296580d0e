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

    root = staticmethod(mpmath.sqrt)

    def dual(self, activation: Any, s: Any, q: Any, p: Any) -> tuple[Any, Any]:
        """E[s(a) s(b)] and E[s'(a) s'(b)] from the closed forms of the literature."""
        return closed_form(activation, s, q, p)

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

    root = staticmethod(math.sqrt)

    def relu(self, s: float, q: float, p: float) -> tuple[float, float]:
        """E[relu(a) relu(b)] and E[relu'(a) relu'(b)]."""
        if q == 0 or p == 0:
            return 0.0, 0.0
        n = math.sqrt(q * p)
        angle = math.acos(max(-1.0, min(1.0, s / n)))
        turn = (math.pi - angle) / (2 * math.pi)
        return n * math.sin(angle) / (2 * math.pi) + s * turn, turn


def pair(value: Any) -> tuple[int, int]:
    """Rows and columns."""
    return value if isinstance(value, tuple) else (value, value)


def geometry(size: int, window: int, stride: int, padding: Any, axis: int) -> tuple[int, int]:
    """Return the number of windows along an axis, and the pixels before it, as XLA has them."""
    if padding in ("zero", "circular"):
        count = math.ceil(size / stride)
        return count, max((count - 1) * stride + window - size, 0) // 2
    before, after = (0, 0) if padding == "valid" else padding[axis]
    return len(range(0, size + before + after - window + 1, stride)), before


def closed_form(activation: Any, s: Any, q: Any, p: Any) -> tuple[Any, Any]:
    """E[s(a) s(b)] and E[s'(a) s'(b)] for covariance s and variances q, p, by mpmath.

    ReLU and relatives: Cho and Saul 2009; erf: Williams 1996; GELU: Tsuchida et al. 2021; waves,
    exp and Gaussian: integrals of exponentials.
    """
    m, pi, name = mpmath, mpmath.pi, type(activation).__name__
    if name in ("ABReLU", "Step"):
        n = m.sqrt(q * p)
        angle = m.acos(max(min(s / n, m.mpf(1)), m.mpf(-1))) if n else pi / 2
        if name == "Step":
            low, high = m.mpf(activation.low), m.mpf(activation.high)
            same = 1 - angle / pi
            return (low**2 + high**2) / 2 * same + low * high * (1 - same), m.mpf(0)
        a, b = m.mpf(activation.negative), m.mpf(activation.positive)
        turn = (pi - angle) / (2 * pi)
        half = n * m.sin(angle) / (2 * pi)
        return (
            (a * a + b * b) * (half + s * turn) + 2 * a * b * (s / 2 - half - s * turn),
            (a * a + b * b) * turn + 2 * a * b * (m.mpf(1) / 2 - turn),
        )
    if name == "Erf":
        a, b, c = (m.mpf(float(v)) for v in (activation.a, activation.b, activation.c0))
        s, q, p = (b * b * v for v in (s, q, p))
        rest = m.sqrt((1 + 2 * q) * (1 + 2 * p) - 4 * s * s)
        return (
            a * a * 2 / pi * m.atan2(2 * s, rest) + c * c,
            4 * a * a * b * b / pi / rest,
        )
    if name == "GELU":
        e = m.sqrt((1 + q) * (1 + p) - s * s)
        turn = m.atan2(s, e) / (2 * pi)
        both = (1 + q) * (1 + p)
        return (
            s / 4 + s * turn + (s * s + q * p * e * e) / (2 * pi * both * e),
            m.mpf(1) / 4 + turn + s / (2 * pi * e) * (1 / e**2 + (1 - q * p) / both + 1),
        )
    if name == "Sine":
        a, b, f = (m.mpf(float(v)) for v in (activation.a, activation.b, activation.phase))
        near, far = m.exp(b * b * (s - (q + p) / 2)), m.exp(-b * b * (s + (q + p) / 2))
        return (
            a * a / 2 * (near - m.cos(2 * f) * far),
            a * a * b * b / 2 * (near + m.cos(2 * f) * far),
        )
    if name == "Exp":
        a, b = m.mpf(float(activation.a)), m.mpf(float(activation.b))
        value = a * a * m.exp(b * b * ((q + p) / 2 + s))
        return value, b * b * value
    assert name == "Gaussian"
    a, b = m.mpf(float(activation.a)), m.mpf(float(activation.b))
    rest = (1 - 2 * b * q) * (1 - 2 * b * p) - 4 * b * b * s * s
    return a * a / m.sqrt(rest), 4 * a * a * b * b * s / m.sqrt(rest) ** 3


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
        found = {pair: self.read(net.last(), *state[pair]) for pair in PAIRS}
        head = getattr(net, "head", ())
        if not head:
            return found
        one = {
            pair: tuple(np.full((1, 1, 1, 1), value, self.numbers.dtype) for value in both)
            for pair, both in found.items()
        }
        return {pair: (s.item(), t.item()) for pair, (s, t) in self.dense(head, one).items()}

    def dense(self, head: Any, state: Any) -> Any:
        """Apply dense layers to the kernels of one unseen pixel."""
        for layer in head:
            if isinstance(layer, nf.Dense):
                w, e = (self.numbers.number(a) ** 2 for a in (layer.w_std, layer.b_std))
                state = {k: (w * s + e, w * t + (w * s + e)) for k, (s, t) in state.items()}
            elif isinstance(layer, nf.Residual):
                branch = self.dense(layer.branch, state)
                state = {k: (s + branch[k][0], t + branch[k][1]) for k, (s, t) in state.items()}
            else:
                state = self.activate(layer, state)
        return state

    def steps(self, steps: Any, state: Any) -> Any:
        """Apply steps to the covariances and tangent kernels of x, x; x, y; y, y."""
        for step in steps:
            if isinstance(step, nf.Skip):
                branch, other = (self.steps(way, state) for way in (step.branch, step.shortcut))
                state = {k: (other[k][0] + branch[k][0], other[k][1] + branch[k][1]) for k in PAIRS}
            elif isinstance(step, nf.Add):
                state = self.join(step, state)
            elif isinstance(step, nf.Conv):
                state = {k: self.convolve(step, *state[k]) for k in PAIRS}
            elif isinstance(step, nf.AvgPool):
                state = {k: tuple(self.pool(step, a) for a in state[k]) for k in PAIRS}
            elif isinstance(step, nf.Dropout):
                state = self.drop(step.rate, state)
            elif isinstance(step, nf.LayerNorm):
                state = self.normalize(step.over == "all", state)
            else:
                state = self.activate(step, state)
        return state

    def drop(self, rate: float, state: Any) -> Any:
        """Multiply the covariances of pixels with themselves, which have one mask."""
        found = {k: tuple(a.copy() for a in state[k]) for k in PAIRS}
        for k in ("xx", "yy"):
            for a in found[k]:
                for i, j in itertools.product(*map(range, a.shape[:2])):
                    a[i, j, i, j] = a[i, j, i, j] / (1 - self.numbers.number(rate))
        return found

    def join(self, step: Any, state: Any) -> Any:
        """Add what branches make of a state, or their means weighted by shares, or multiply it."""
        ways = [self.steps(one.elements, state) for one in step.branches]
        if isinstance(step, nf.Multiply):
            product = ways[0]
            for way in ways[1:]:
                product = {
                    k: (s * way[k][0], s * way[k][1] + t * way[k][0])
                    for k, (s, t) in product.items()
                }
            return product
        weights = [1] * len(ways)
        if isinstance(step, nf.Concatenate):
            shares = step.shares or weights
            weights = [self.numbers.number(one) / int(sum(shares)) for one in shares]
        found = {}
        for which in PAIRS:
            parts = [[w * a for a in way[which]] for w, way in zip(weights, ways, strict=True)]
            found[which] = tuple(sum(one[k] for one in parts) for k in range(2))
        return found

    def variances(self, state: Any) -> dict[str, dict[tuple[int, int], Any]]:
        """Return those of the pixels of x and of y."""
        own = {}
        for name in "xy":
            s = state[2 * name][0]
            own[name] = {p: s[p + p] for p in np.ndindex(*s.shape[:2])}
        return own

    def activate(self, activation: Any, state: Any) -> Any:
        """Apply the dual kernels."""
        own = self.variances(state)
        found = {}
        for which in PAIRS:
            s, t = state[which]
            after, tangent = np.zeros_like(s), np.zeros_like(t)
            for p in np.ndindex(*s.shape):
                both = own[which[0]][p[:2]], own[which[1]][p[2:]]
                if activation in ("relu", nf.Activation("relu")):
                    value, slope = self.numbers.relu(s[p], *both)
                else:
                    value, slope = self.numbers.dual(activation, s[p], *both)
                after[p], tangent[p] = value, slope * t[p]
            found[which] = (after, tangent)
        return found

    def normalize(self, whole: bool, state: Any) -> Any:
        """Divide by the deviations of pixels, or of images."""
        scale = {}
        for name, own in self.variances(state).items():
            mean = sum(own.values()) / len(own)
            size = {p: mean if whole else value for p, value in own.items()}
            scale[name] = {p: 1 / self.numbers.root(q) if q else q for p, q in size.items()}
        found = {}
        for which in PAIRS:
            share = np.zeros_like(state[which][0])
            for p in np.ndindex(*share.shape):
                share[p] = scale[which[0]][p[:2]] * scale[which[1]][p[2:]]
            found[which] = tuple(share * a for a in state[which])
        return found

    def convolve(self, step: Any, s: Array, t: Array) -> tuple[Array, Array]:
        """Window sums, with weights and biases that may be trained."""
        make, size = self.numbers.number, pair(step.filter_size)
        gain, bias = make(step.w_std) ** 2 / (size[0] * size[1]), make(step.b_std) ** 2
        after = gain * self.windows(step, s) + bias
        return after, gain * self.windows(step, t) + (after if step.trained else 0)

    def windows(self, step: Any, a: Array) -> Array:
        """Sum a[s i + k - before, ..., s i' + k - before, ...] over the window."""
        (h, w), size, stride = a.shape[:2], pair(step.filter_size), pair(step.stride)
        (rows, top), (columns, left) = (
            geometry(*one, step.padding, axis)
            for axis, one in enumerate(zip((h, w), size, stride, strict=True))
        )
        total = np.zeros((rows, columns, rows, columns), a.dtype)
        for k, m in itertools.product(range(size[0]), range(size[1])):
            for p in np.ndindex(*total.shape):
                at = (
                    stride[0] * p[0] + k - top,
                    stride[1] * p[1] + m - left,
                    stride[0] * p[2] + k - top,
                    stride[1] * p[3] + m - left,
                )
                if step.padding == "circular":
                    at = at[0] % h, at[1] % w, at[2] % h, at[3] % w
                elif not all(0 <= e < size for e, size in zip(at, (h, w, h, w), strict=True)):
                    continue
                total[p] = total[p] + a[at]
        return total

    def pool(self, step: Any, a: Array) -> Array:
        """Means or sums over windows of both images."""
        (h, w), size = a.shape[:2], pair(step.size)
        stride = size if step.stride is None else pair(step.stride)
        (rows, top), (columns, left) = (
            geometry(*one, step.padding, axis)
            for axis, one in enumerate(zip((h, w), size, stride, strict=True))
        )
        total = np.zeros((rows, columns, rows, columns), a.dtype)
        for p in np.ndindex(*total.shape):
            for k in itertools.product(*map(range, (*size, *size))):
                at = tuple(stride[e % 2] * p[e] + k[e] - (top, left)[e % 2] for e in range(4))
                if all(0 <= e < size for e, size in zip(at, (h, w, h, w), strict=True)):
                    total[p] = total[p] + a[at]
        return total if isinstance(step, nf.SumPool) else total / (size[0] * size[1]) ** 2

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
