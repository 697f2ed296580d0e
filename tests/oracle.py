"""High-precision oracle: every kernel written from the papers in mpmath, sharing no code.

The oracle sees a pair of inputs as exact numbers. It forms the inner products q = x.x, p = y.y and
x.y without rounding (floats are rationals), works with ``DIGITS`` digits from there on, and returns
both the kernel value and its *condition*: by how much the value moves when the inputs carry one
unit of relative rounding error. Tests compare with ``tolerances.tolerance`` of these two numbers.

References (equation numbers are avoided on purpose, the recursions are the ones of the text):
Cho & Saul 2009 (arc-cosine kernels), Jacot et al. 2018 and Lee et al. 2019 (NTK parameterisation),
Arora et al. 2019 (c_sigma = 2), Geifman et al. 2020 (zero-initialised bias), Huang et al. 2020,
Belfer et al. 2021 and Tirer et al. 2020 (residual networks), Williams 1997 (erf),
Tsuchida et al. 2021 (GELU), Pearce et al. 2020 and Louart et al. 2018 (sine, cosine, exp).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from mpmath import mp, mpf

# 50 digits for the answer and as many again for qp - c^2, which cancels by theta^2 = 1e-30.
DIGITS = 100

# Pairs closer than this factor are recomputed from differences by the package, so that an error of
# the inner product is amplified by at most 1/sin(theta) = 7.1 at 1 - cos(theta) = 0.01.
AMPLIFICATION_CAP = 8

Dual = Callable[[mpf, mpf, mpf], tuple[mpf, mpf]]  # (q, p, c) -> E[s(a)s(b)], E[s'(a)s'(b)]
PairFunction = Callable[[mpf, mpf, mpf], mpf]  # (q, p, theta) -> K


def precise(function: Callable) -> Callable:
    """Run a function with the working precision of the oracle."""

    def wrapped(*args, **kwargs):
        with mp.workdps(DIGITS):
            return function(*args, **kwargs)

    wrapped.__doc__ = function.__doc__
    wrapped.__name__ = function.__name__
    return wrapped


# ----------------------------------------------------------------------------- pairs of vectors


def inner(x: Sequence[float], y: Sequence[float]) -> mpf:
    """Exact inner product of two vectors of floats."""
    return _inner(_bytes(x), _bytes(y))


def _bytes(x: Sequence[float]) -> bytes:
    return np.asarray(x, np.float64).tobytes()


@lru_cache(maxsize=1024)  # all pairs of a matrix, and all their values, share those of its rows
@precise
def _inner(x: bytes, y: bytes) -> mpf:
    return mp.fdot(np.frombuffer(x).tolist(), np.frombuffer(y).tolist())


def pair_statistics(x: Sequence[float], y: Sequence[float]) -> tuple[mpf, mpf, mpf]:
    """Return q = |x|^2, p = |y|^2 and the angle theta.

    A zero vector has no direction; the convention is a right angle with every other vector, and
    no angle with another zero vector (it is then a duplicate).
    """
    return _pair_statistics(_bytes(x), _bytes(y))


@lru_cache(maxsize=1024)
@precise
def _pair_statistics(x: bytes, y: bytes) -> tuple[mpf, mpf, mpf]:
    q, p, c = _inner(x, x), _inner(y, y), _inner(x, y)
    if q == 0 or p == 0:
        return q, p, (mpf(0) if q == p else mp.pi / 2)
    return q, p, mp.atan2(mp.sqrt(max(q * p - c * c, mpf(0))), c)


# ------------------------------------------------------------------------- duals of activations


def _sine_of_pair(q: mpf, p: mpf, c: mpf) -> mpf:
    """D = sqrt(qp - c^2) = sqrt(qp) sin(theta)."""
    return mp.sqrt(max(q * p - c * c, mpf(0)))


def _angle(q: mpf, p: mpf, c: mpf) -> mpf:
    if q == 0 or p == 0:
        return mpf(0) if q == p else mp.pi / 2
    return mp.atan2(_sine_of_pair(q, p, c), c)


def identity(q: mpf, p: mpf, c: mpf) -> tuple[mpf, mpf]:
    """Linear layer."""
    return c, mpf(1)


def layer_norm(q: mpf, p: mpf, c: mpf) -> tuple[mpf, mpf]:
    """Signals over their root mean square: Ba et al. (2016) in a wide layer."""
    size = mp.sqrt(q * p)
    return (c / size, 1 / size) if size else (mpf(q == p), mpf(0))


def abrelu(a: float, b: float) -> Dual:
    """Dual of a min(x, 0) + b max(x, 0)."""

    def dual(q: mpf, p: mpf, c: mpf) -> tuple[mpf, mpf]:
        theta, sine = _angle(q, p, c), _sine_of_pair(q, p, c)
        odd, even = (mpf(a) - mpf(b)) ** 2 / (2 * mp.pi), (mpf(a) ** 2 + mpf(b) ** 2) / 2
        return odd * (sine - theta * c) + even * c, even - odd * theta

    return dual


relu = abrelu(0, 1)
absolute = abrelu(-1, 1)


def leaky_relu(slope: float) -> Dual:
    """Dual of max(x, 0) + slope min(x, 0)."""
    return abrelu(slope, 1)


def step(q: mpf, p: mpf, c: mpf) -> tuple[mpf, mpf]:
    """Heaviside step; its weak derivative is left out of the NTK."""
    return mpf(1) / 2 - _angle(q, p, c) / (2 * mp.pi), mpf(0)


def sign(q: mpf, p: mpf, c: mpf) -> tuple[mpf, mpf]:
    """Sign function, derivative left out likewise."""
    return 1 - 2 * _angle(q, p, c) / mp.pi, mpf(0)


def erf(q: mpf, p: mpf, c: mpf) -> tuple[mpf, mpf]:
    """Error function (Williams 1997)."""
    root = mp.sqrt((1 + 2 * q) * (1 + 2 * p) - 4 * c * c)
    return 2 / mp.pi * mp.atan2(2 * c, root), 4 / mp.pi / root


def gelu(q: mpf, p: mpf, c: mpf) -> tuple[mpf, mpf]:
    """Gaussian error linear unit x Phi(x)."""
    root = mp.sqrt((1 + q) * (1 + p) - c * c)
    both = (1 + q) * (1 + p)
    angle = mp.atan2(c, root) / (2 * mp.pi)
    value = c / 4 + c * angle + (c * c + q * p * root * root) / (2 * mp.pi * both * root)
    slope = mpf(1) / 4 + angle + c / (2 * mp.pi * root) * (1 / root**2 + (1 - q * p) / both + 1)
    return value, slope


def sine(amplitude: float = 1, frequency: float = 1, phase: float = 0) -> Dual:
    """Dual of amplitude sin(frequency x + phase)."""

    def dual(q: mpf, p: mpf, c: mpf) -> tuple[mpf, mpf]:
        f2 = mpf(frequency) ** 2
        even, odd = mp.exp(f2 * (c - (q + p) / 2)), mp.exp(-f2 * (c + (q + p) / 2))
        turn, half = mp.cos(2 * mpf(phase)), mpf(amplitude) ** 2 / 2
        return half * (even - turn * odd), half * f2 * (even + turn * odd)

    return dual


sin = sine()


def cos(q: mpf, p: mpf, c: mpf) -> tuple[mpf, mpf]:
    """Cosine."""
    even, odd = mp.exp(c - (q + p) / 2), mp.exp(-c - (q + p) / 2)
    return (even + odd) / 2, (even - odd) / 2


def rbf(gamma: float) -> Dual:
    """Dual of sqrt(2) sin(sqrt(2 gamma) x + pi/4): the Gaussian kernel of the pre-activations."""

    def dual(q: mpf, p: mpf, c: mpf) -> tuple[mpf, mpf]:
        value = mp.exp(-mpf(gamma) * (q + p - 2 * c))
        return value, 2 * mpf(gamma) * value

    return dual


def exp(amplitude: float = 1, rate: float = 1) -> Dual:
    """Dual of amplitude exp(rate x)."""

    def dual(q: mpf, p: mpf, c: mpf) -> tuple[mpf, mpf]:
        value = mpf(amplitude) ** 2 * mp.exp(mpf(rate) ** 2 * ((q + p) / 2 + c))
        return value, mpf(rate) ** 2 * value

    return dual


def gaussian(amplitude: float = 1, rate: float = -1) -> Dual:
    """Dual of amplitude exp(rate x^2), rate < 0."""

    def dual(q: mpf, p: mpf, c: mpf) -> tuple[mpf, mpf]:
        b, a2 = mpf(rate), mpf(amplitude) ** 2
        square = (1 - 2 * b * q) * (1 - 2 * b * p) - 4 * b * b * c * c
        return a2 / mp.sqrt(square), 4 * a2 * b * b * c / square / mp.sqrt(square)

    return dual


def _moment(i: int, j: int, q: mpf, p: mpf, c: mpf) -> mpf:
    """E[a^i b^j] by Isserlis' theorem: l cross pairs, the rest paired within a and within b."""
    total = mpf(0)
    for cross in range(min(i, j) + 1):
        if (i - cross) % 2 or (j - cross) % 2:
            continue
        within_a, within_b = (i - cross) // 2, (j - cross) // 2
        ways = mp.factorial(i) * mp.factorial(j)
        ways /= mp.factorial(cross) * mp.factorial(within_a) * mp.factorial(within_b)
        total += ways / mpf(2) ** (within_a + within_b) * c**cross * q**within_a * p**within_b
    return total


def polynomial(coefficients: Sequence[float | mpf]) -> Dual:
    """Dual of sum_j coefficients[j] x^j."""

    def expectation(poly: Sequence[mpf], q: mpf, p: mpf, c: mpf) -> mpf:
        return mp.fsum(
            mpf(a) * mpf(b) * _moment(i, j, q, p, c)
            for i, a in enumerate(poly)
            for j, b in enumerate(poly)
            if a and b
        )

    def dual(q: mpf, p: mpf, c: mpf) -> tuple[mpf, mpf]:
        slopes = [j * mpf(a) for j, a in enumerate(coefficients)][1:]
        return expectation(coefficients, q, p, c), expectation(slopes, q, p, c)

    return dual


def monomial(degree: int) -> Dual:
    """Dual of x^degree."""
    return polynomial([0] * degree + [1])


@precise
def hermite_coefficients(degree: int) -> list[mpf]:
    """Power coefficients of the orthonormal (probabilists') Hermite polynomial."""
    previous, current = [mpf(0)], [mpf(1)]
    for n in range(degree):
        shifted = [mpf(0), *current]
        padded = previous + [mpf(0)] * (len(shifted) - len(previous))
        previous, current = current, [a - n * b for a, b in zip(shifted, padded, strict=True)]
    return [a / mp.sqrt(mp.factorial(degree)) for a in current]


def hermite(degree: int) -> Dual:
    """Dual of the orthonormal Hermite polynomial h_degree, for any variances."""
    return polynomial(hermite_coefficients(degree))


def rectified_monomial(degree: int) -> Dual:
    """Dual of max(x, 0)^degree through the angular functions of Cho and Saul."""

    def dual(q: mpf, p: mpf, c: mpf) -> tuple[mpf, mpf]:
        theta, norm = _angle(q, p, c), mp.sqrt(q * p)
        value = norm**degree * cho_saul(degree, theta) / (2 * mp.pi)
        slope = mpf(degree) ** 2 * norm ** (degree - 1) * cho_saul(degree - 1, theta) / (2 * mp.pi)
        return value, slope

    return dual


def cho_saul(order: int, theta: mpf) -> mpf:
    """Angular function J_n of the arc-cosine kernels, n = 0..3."""
    sine_, cosine, rest = mp.sin(theta), mp.cos(theta), mp.pi - theta
    if order == 0:
        return rest
    if order == 1:
        return sine_ + rest * cosine
    if order == 2:
        return 3 * sine_ * cosine + rest * (1 + 2 * cosine**2)
    return rest * (9 * sine_**2 * cosine + 15 * cosine**3) + 4 * sine_**3 + 15 * sine_ * cosine**2


# ------------------------------------------------------------------ duals by direct integration


@lru_cache(maxsize=8)
def _legendre_panel(nodes: int) -> tuple[np.ndarray, np.ndarray]:
    """Gauss-Legendre rule on [0, 1] in long double, from mpmath's polynomials by Newton steps."""
    points, weights = [], []
    with mp.workdps(40):
        for k in range(1, nodes + 1):
            t = mp.cos(mp.pi * (k - mpf(1) / 4) / (nodes + mpf(1) / 2))
            for _ in range(8):
                before, value = mpf(1), t
                for n in range(2, nodes + 1):
                    before, value = value, ((2 * n - 1) * t * value - (n - 1) * before) / n
                slope = nodes * (t * value - before) / (t * t - 1)
                t -= value / slope
            points.append((1 + t) / 2)
            weights.append(1 / ((1 - t * t) * slope * slope))
        text = [mp.nstr(v, 30) for v in points], [mp.nstr(v, 30) for v in weights]
    return tuple(np.array([np.longdouble(s) for s in column]) for column in text)  # type: ignore


def _composite(breaks: np.ndarray, nodes: int) -> tuple[np.ndarray, np.ndarray]:
    """Composite rule for breaks of shape (..., k+1); returns points and weights (..., k*nodes)."""
    points, weights = _legendre_panel(nodes)
    left, width = breaks[..., :-1, None], np.diff(breaks, axis=-1)[..., None]
    shape = (*breaks.shape[:-1], -1)
    return (left + width * points).reshape(shape), (width * weights).reshape(shape)


def _gauss_density(z: np.ndarray) -> np.ndarray:
    two_pi = np.longdouble("6.283185307179586476925286766559005768")
    return np.exp(-z * z / 2) / np.sqrt(two_pi)


def expectation(
    function: Callable[[np.ndarray], np.ndarray],
    q: float,
    p: float,
    c: float,
    kinks: Sequence[float] = (),
) -> np.longdouble:
    """E[f(a) f(b)] by a composite Gauss rule in long double, split at the kinks (about 17 digits).

    The outer integral runs over a = sqrt(q) z, the inner one over the part of b independent of a.
    """
    root_q, root_p = np.sqrt(np.longdouble(q)), np.sqrt(np.longdouble(p))
    rho = np.longdouble(c) / (root_q * root_p)
    free = np.sqrt((1 - rho) * (1 + rho))
    edge = np.longdouble(11.5)  # the Gaussian tail beyond carries 1e-30
    kink = np.array(kinks, dtype=np.longdouble)

    def breaks(centres: np.ndarray, panels: int) -> np.ndarray:
        """Uniform panels on [-edge, edge] with the clipped centres merged in."""
        grid = np.linspace(-edge, edge, panels + 1, dtype=np.longdouble)
        grid = np.broadcast_to(grid, (*centres.shape[:-1], panels + 1))
        return np.sort(np.concatenate([grid, np.clip(centres, -edge, edge)], axis=-1), axis=-1)

    z, weight = _composite(breaks(kink / root_q, 16), 16)
    inner_breaks = breaks((kink[None, :] / root_p - rho * z[:, None]) / free, 12)
    w, inner_weight = _composite(inner_breaks, 16)
    b = root_p * (rho * z[:, None] + free * w)
    conditional = np.sum(inner_weight * _gauss_density(w) * function(b), axis=-1)
    return np.sum(weight * _gauss_density(z) * function(root_q * z) * conditional)


def numeric_dual(
    function: Callable[[np.ndarray], np.ndarray],
    derivative: Callable[[np.ndarray], np.ndarray],
    kinks: Sequence[float] = (),
) -> Dual:
    """Dual of any NumPy activation by direct integration; 17 digits, not 50."""

    def one(f: Callable, q: mpf, p: mpf, c: mpf) -> mpf:
        if abs(c) >= mp.sqrt(q * p) * (1 - mpf(10) ** -17):  # one-dimensional
            z, weight = _composite(_line_breaks(float(q), kinks), 24)
            mirrored = np.longdouble(math.copysign(1, c)) * np.sqrt(_long(p) / _long(q))
            first = np.sqrt(_long(q)) * z
            return _exact(np.sum(weight * _gauss_density(z) * f(first) * f(mirrored * first)))
        return _exact(expectation(f, _long(q), _long(p), _long(c), kinks))

    def dual(q: mpf, p: mpf, c: mpf) -> tuple[mpf, mpf]:
        return one(function, q, p, c), one(derivative, q, p, c)

    return dual


def _line_breaks(q: float, kinks: Sequence[float]) -> np.ndarray:
    grid = np.linspace(-11.5, 11.5, 25, dtype=np.longdouble)
    scaled = np.array([*kinks, *(-k for k in kinks)], dtype=np.longdouble) / np.sqrt(
        np.longdouble(q)
    )
    return np.unique(np.concatenate([grid, np.clip(scaled, -11.5, 11.5)]))


def _long(value: mpf) -> np.longdouble:
    return np.longdouble(mp.nstr(mpf(value), 30))


def _exact(value: np.longdouble) -> mpf:
    high = float(value)
    return mpf(high) + mpf(float(value - np.longdouble(high)))


@precise
def quad_dual(function: Callable[[mpf], mpf], q: float, p: float, c: float) -> mpf:
    """E[f(a) f(b)] of a smooth mpmath function by nested mp.quad, about 18 digits: spot checks."""
    with mp.workdps(22):
        root_q, root_p = mp.sqrt(mpf(q)), mp.sqrt(mpf(p))
        rho = mpf(c) / (root_q * root_p)
        free = mp.sqrt(1 - rho * rho)
        panels = mp.linspace(-10, 10, 9)

        def integral(f: Callable[[mpf], mpf]) -> mpf:
            def weighted(z: mpf) -> mpf:
                return mp.exp(-z * z / 2) * f(z)

            value = mp.quad(weighted, panels, method="gauss-legendre", maxdegree=4)
            return value / mp.sqrt(2 * mp.pi)

        def conditional(z: mpf) -> mpf:
            return integral(lambda w: function(root_p * (rho * z + free * w)))

        return integral(lambda z: function(root_q * z) * conditional(z))


# -------------------------------------------------------------------------------------- kernels


@dataclass(frozen=True)
class Kernel:
    """A kernel of the oracle: a function of (q, p, theta) and what its tolerance depends on.

    ``homogeneous``: K(x, y) = (|x||y|)^degree k(theta), so that rounding of the norms and of the
    angle act separately. ``euclidean``: K depends on |x - y| only.
    """

    pair: PairFunction
    depth: int = 0
    homogeneous: bool = True
    euclidean: bool = False

    @precise
    def __call__(self, x: Sequence[float], y: Sequence[float]) -> mpf:
        """Kernel value at two vectors."""
        return self._value(*pair_statistics(x, y))

    @cached_property
    def _value(self) -> PairFunction:
        """Values, and the conditions at the same pairs, share their numbers."""
        return lru_cache(maxsize=1024)(self.pair)

    @precise
    def profile(self, theta: mpf, radius: float = 1) -> mpf:
        """Kernel value at two vectors of one norm with the angle theta."""
        square = mpf(radius) ** 2
        return self.pair(square, square, mpf(theta))

    @precise
    def scale(self, x: Sequence[float], y: Sequence[float]) -> mpf:
        """sqrt(K(x,x) K(y,y)), the unit in which absolute errors are measured."""
        return mp.sqrt(abs(self(x, x) * self(y, y)))

    @precise
    def condition(self, x: Sequence[float], y: Sequence[float]) -> mpf:
        """First-order change of K for a relative error of one unit in each inner product.

        The angle enters with the amplification 1/sin(theta), capped where the package promises to
        go back to the differences of the rows.
        """
        q, p, theta = pair_statistics(x, y)
        if q == 0 or p == 0:
            return abs(self._value(q, p, theta))
        h = mpf(10) ** -12
        value = self._value(q, p, theta)
        if self.homogeneous and not self.euclidean:  # either norm contributes the same
            norms = abs(self.pair(q * (1 + h), p * (1 + h), theta) - value) / h
        else:
            norms = abs(self.pair(q * (1 + h), p, theta) - value) / h
            norms += abs(self.pair(q, p * (1 + h), theta) - value) / h
        if self.euclidean:
            return norms * self._distance_amplification(q, p, theta)
        turn = h if theta < mp.pi / 2 else -h
        if 0 < theta < mp.pi:
            turn *= min(theta, mp.pi - theta)
        angle = abs((self.pair(q, p, theta + turn) - value) / turn)
        amplification = min(1 / max(mp.sin(theta), mpf(10) ** -30), mpf(AMPLIFICATION_CAP))
        return norms * (1 if self.homogeneous else amplification) + angle * amplification

    @staticmethod
    def _distance_amplification(q: mpf, p: mpf, theta: mpf) -> mpf:
        squared = q + p - 2 * mp.sqrt(q * p) * mp.cos(theta)
        near = max(mp.sqrt(squared / (q + p)), mpf(10) ** -30)
        return min(1 / near, mpf(AMPLIFICATION_CAP))


def _products(q: mpf, p: mpf, theta: mpf) -> mpf:
    return mp.sqrt(q * p) * mp.cos(theta)


def _remembered(function: Callable[[mpf], mpf]) -> Callable[[mpf], mpf]:
    """Cache of variances: all pairs of a matrix share those of its rows."""
    return lru_cache(maxsize=4096)(function)


def _normalised_gain(dual: Dual) -> mpf:
    """c_sigma = 1/E[s(Z)^2]: keeps unit inputs at unit variance in every layer."""
    with mp.workdps(DIGITS):
        return 1 / dual(mpf(1), mpf(1), mpf(1))[0]


def fully_connected(
    depth: int, dual: Dual = relu, *, which: str = "ntk", bias: float = 0, homogeneous: bool = True
) -> Kernel:
    """Theory ("unit") parameterisation with the zero-initialised trained bias of Geifman et al."""
    gain = _normalised_gain(dual)
    variance = _remembered(lambda q: gain * dual(q, q, q)[0])

    def pair(q: mpf, p: mpf, theta: mpf) -> mpf:
        if bias and (q == 0) != (
            p == 0
        ):  # the limit of a row that shrinks to zero at a right angle
            q, p = q or mpf(10) ** -80, p or mpf(10) ** -80
        c, beta2 = _products(q, p, theta), mpf(bias) ** 2
        tangent = c + beta2
        for _ in range(depth):
            value, slope = dual(q, p, c)
            q, p = variance(q), variance(p)
            c = gain * value
            tangent = tangent * gain * slope + c + beta2
        return tangent if which == "ntk" else c

    return Kernel(pair, depth, homogeneous and not bias)


def fully_connected_ntk(
    depth: int,
    dual: Dual,
    *,
    dimension: int,
    w_std: float,
    b_std: float,
    which: str = "ntk",
    homogeneous: bool = False,
) -> Kernel:
    """NTK parameterisation: Dense(w_std, b_std) everywhere, 1/d in the first layer."""
    variance = _remembered(lambda q: mpf(w_std) ** 2 * dual(q, q, q)[0] + mpf(b_std) ** 2)

    def pair(q: mpf, p: mpf, theta: mpf) -> mpf:
        w2, b2 = mpf(w_std) ** 2, mpf(b_std) ** 2
        c = w2 * _products(q, p, theta) / dimension + b2
        q, p = w2 * q / dimension + b2, w2 * p / dimension + b2
        tangent = c
        for _ in range(depth):
            value, slope = dual(q, p, c)
            q, p = variance(q), variance(p)
            c = w2 * value + b2
            tangent = c + w2 * slope * tangent
        return tangent if which == "ntk" else c

    return Kernel(pair, depth, homogeneous)


def resnet(
    depth: int,
    alpha: float,
    *,
    trained: str = "residual",
    normalize: bool = False,
    which: str = "ntk",
) -> Kernel:
    """Residual network of Huang et al. and Belfer et al.; ``trained`` as in the package.

    "residual": only the matrices of the blocks; "last": also the read-out; "all": also the first.
    """

    def pair(q: mpf, p: mpf, theta: mpf) -> mpf:
        a = mpf(alpha) ** 2
        covariances, values, slopes = [_products(q, p, theta)], [], []
        for _ in range(depth):
            value, slope = relu(q, p, covariances[-1])
            values.append(2 * value)
            slopes.append(2 * slope)
            covariances.append(covariances[-1] + a * values[-1])
            q, p = q * (1 + a), p * (1 + a)
        if which == "nngp":
            return covariances[-1] / ((1 + a) ** depth if normalize else 1)
        backward, total = mpf(1), mpf(0)
        for value, slope, before in reversed(
            list(zip(values, slopes, covariances[:-1], strict=True))
        ):
            total += a * backward * (value + before * slope)
            backward *= 1 + a * slope
        at_one = 2 * depth * a * (1 + a) ** (depth - 1) if depth else mpf(0)
        if trained in ("last", "all"):
            total += covariances[-1]
            at_one += (1 + a) ** depth
        if trained == "all":
            total += backward * covariances[0]
            at_one += (1 + a) ** depth
        return total / at_one if normalize else total

    return Kernel(pair, depth)


def tirer(
    depth: int, alpha: float, *, dimension: int, w_std: float = 1, v_std: float = 1
) -> Kernel:
    """ResNet NTK of Tirer, Bruna and Giryes, written as their recursion (inputs divided by d)."""

    def pair(q: mpf, p: mpf, theta: mpf) -> mpf:
        variance, a = (mpf(w_std) * mpf(v_std)) ** 2, mpf(alpha) ** 2
        q, p = q / dimension, p / dimension
        kernels = [_products(q, p, theta)]
        sigmas, slopes = [], []
        for _ in range(depth):
            angle, norm = _angle(q, p, kernels[-1]), mp.sqrt(q * p)
            sigmas.append(
                variance * norm * (mp.sin(angle) + (mp.pi - angle) * mp.cos(angle)) / (2 * mp.pi)
            )
            slopes.append(variance * (mp.pi - angle) / (2 * mp.pi))
            kernels.append(kernels[-1] + a * sigmas[-1])
            q, p = q * (1 + a * variance / 2), p * (1 + a * variance / 2)
        total, product = kernels[-1], mpf(1)
        for layer in range(depth - 1, -1, -1):
            total += a * product * (sigmas[layer] + kernels[layer] * slopes[layer])
            product *= 1 + a * slopes[layer]
        return total + product * kernels[0]

    return Kernel(pair, depth)


SHORT = mpf(10) ** -700


def composed(elements: Sequence[tuple], *, which: str = "ntk", dimension: int = 1) -> Kernel:
    """Network of ("dense", w_std, b_std, trained), ("activation", dual), ("residual", elements).

    ("sum" or "product", branches) and ("mean", branches, weights) join branches, lists of elements.
    ("dropout", rate, shared) has one mask for both inputs if it is shared.

    The state of a pair is (q, p, c, t): two variances, the covariance and the NTK. A dense layer
    with a fan-in behind `trained` has the standard parameterization of Sohl-Dickstein et al.
    (2020): weights of variance w_std^2 / fan-in whose own gradients count. Inputs of norm 0 are the
    limit of short ones.
    """

    def apply(parts: Sequence[tuple], state: tuple) -> tuple:
        for kind, *arguments in parts:
            q, p, c, t = state
            if kind == "dense":
                w2, b2 = mpf(arguments[0]) ** 2, mpf(arguments[1]) ** 2
                new = w2 * c + b2
                own = new if len(arguments) == 3 else arguments[3] * c + (b2 > 0)
                state = w2 * q + b2, w2 * p + b2, new, w2 * t + (own if arguments[2] else 0)
            elif kind == "activation":
                (dual,) = arguments
                value, slope = dual(q, p, c)
                state = dual(q, q, q)[0], dual(p, p, p)[0], value, slope * t
            elif kind == "dropout":  # rate, and whether both inputs have one mask
                kept, shared = 1 - mpf(arguments[0]), 1 - mpf(arguments[0]) if arguments[1] else 1
                state = q / kept, p / kept, c / shared, t / shared
            elif kind == "residual":
                branch = apply(arguments[0], state)
                state = tuple(a + b for a, b in zip(state, branch, strict=True))
            else:
                ways = [apply(branch, state) for branch in arguments[0]]
                if kind == "product":
                    q, p, c = (mp.fprod(way[k] for way in ways) for k in range(3))
                    t = mp.fsum(
                        way[3] * mp.fprod(other[2] for other in ways if other is not way)
                        for way in ways
                    )
                    state = q, p, c, t
                else:
                    weights = [mpf(w) for w in arguments[1]] if kind == "mean" else [mpf(1)] * 9
                    state = tuple(
                        mp.fsum(w * way[k] for w, way in zip(weights, ways, strict=False))
                        for k in range(4)
                    )
        return state

    def pair(q: mpf, p: mpf, theta: mpf) -> mpf:
        if q * p == 0:
            q, p = max(q, SHORT), max(p, SHORT)
        start = q / dimension, p / dimension, _products(q, p, theta) / dimension, mpf(0)
        *_, c, t = apply(elements, start)
        return t if which == "ntk" else c

    return Kernel(pair, depth=len(elements), homogeneous=False)


def arc_cosine(order: int) -> Kernel:
    """k_n = (|x||y|)^n J_n(theta) / pi (Cho and Saul 2009)."""

    def pair(q: mpf, p: mpf, theta: mpf) -> mpf:
        return mp.sqrt(q * p) ** order * cho_saul(order, theta) / mp.pi

    return Kernel(pair)


def radial(function: Callable[[mpf], mpf], inputs: str) -> Kernel:
    """Kernel f(distance): "sphere" f(|x/|x| - y/|y||), "homogeneous" times |x||y|, "euclidean"."""

    def pair(q: mpf, p: mpf, theta: mpf) -> mpf:
        if inputs == "euclidean":
            squared = (mp.sqrt(q) - mp.sqrt(p)) ** 2 + 4 * mp.sqrt(q * p) * mp.sin(theta / 2) ** 2
            return function(mp.sqrt(squared))
        factor = mp.sqrt(q * p) if inputs == "homogeneous" else mpf(1)
        return factor * function(2 * mp.sin(theta / 2))

    return Kernel(pair, euclidean=inputs == "euclidean")


def laplace(c: float, inputs: str = "sphere") -> Kernel:
    """exp(-c |x - y|)."""
    return radial(lambda r: mp.exp(-mpf(c) * r), inputs)


def exponential_power(gamma: float, c: float, inputs: str = "sphere") -> Kernel:
    """exp(-c |x - y|^gamma)."""
    return radial(lambda r: mp.exp(-mpf(c) * r ** mpf(gamma)), inputs)


# -------------------------------------------------------------------------------------- matrices


@precise
def matrix(kernel: Kernel, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Kernel values at all pairs as an array of mpf."""
    return np.array([[kernel(x, y) for y in columns] for x in rows], dtype=object)


@precise
def conditions(kernel: Kernel, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Conditions at all pairs as float64 (only their size matters)."""
    return np.array([[float(kernel.condition(x, y)) for y in columns] for x in rows])


@precise
def scales(kernel: Kernel, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """sqrt(K(x,x) K(y,y)) at all pairs as float64."""
    left = [mp.sqrt(abs(kernel(x, x))) for x in rows]
    right = [mp.sqrt(abs(kernel(y, y))) for y in columns]
    return np.array([[float(a * b) for b in right] for a in left])


@precise
def error(computed: np.ndarray, exact: np.ndarray) -> np.ndarray:
    """Return computed - exact as float64, the subtraction being done exactly."""
    flat = [
        float(mpf(float(a)) - b)
        for a, b in zip(np.ravel(computed).tolist(), np.ravel(exact), strict=True)
    ]
    return np.array(flat).reshape(np.shape(computed))


__all__ = [name for name in dir() if not name.startswith("_") and name != "mpmath"]
