"""Convolutional kernels: golden numbers, an independent oracle, neural-tangents, wide networks."""

from __future__ import annotations

import pickle
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ntkfast as nf
from image_oracle import Double, Oracle
from interrupting import assert_interrupted
from ntkfast.command.cli import main
from ntkfast.engines import native

EPS = {np.float32: 2.0**-23, np.float64: 2.0**-52}
# Roundings of the covariance and the tangent kernel per step, in units of the largest value: window
# sums of at most 25 terms, an arc-cosine step, a product and a sum. A pixel pair at angle t has an
# error of eps / sin t in kappa0; where 1 - |u| < 0.01 the angle itself is accurate.
ROUNDINGS = 8.0

GRID_X = ((3 * np.arange(3)[:, None] + np.arange(3)) / 4 - 1)[None, :, :, None]
GRID_Y = np.cos(3.0 * np.arange(3)[:, None] + np.arange(3))[None, :, :, None]


def tolerance(kernel: Any, X: np.ndarray, Y: np.ndarray, steps: int) -> np.ndarray:
    """Return the rounding error that a Gram matrix may have."""
    scale = np.sqrt(np.outer(kernel.diag(X).astype(float), kernel.diag(Y).astype(float)))
    return ROUNDINGS * steps * EPS[X.dtype.type] * scale


def images(count: int, h: int, w: int, c: int, seed: int = 0) -> np.ndarray:
    """Return images with zero, constant, duplicate, negated, scaled and nearly equal ones."""
    random = np.random.default_rng(seed)
    x = np.round(random.standard_normal((count, h, w, c)) * 2.0**12) / 2.0**12
    x[1, : h // 2 + 1] = 0  # windows without variance
    x[2] = x[0]
    x[3] = -x[0]
    x[4] = 0
    x[5] = 1
    x[6] = 2.5 * x[0]
    x[7] = x[0] * (1 + 2.0**-12 * np.sign(x[1] + 0.5))
    return x.astype(np.float32).astype(np.float64)  # changes the last of these only


BLOCK = nf.Skip("relu", nf.Conv(3, 1.2, 0.1), "relu", nf.Conv(3, 0.9))
NETWORKS: dict[str, Any] = {
    "flatten": nf.Convolutional(2),
    "gap": nf.Convolutional(3, readout="gap"),
    "gap-fixed": nf.Convolutional(2, readout="gap", train_first=False, train_last=False),
    "lap": nf.Convolutional(2, readout="lap", window=3),
    "wide-filter": nf.Convolutional(2, filter_size=5, readout="gap", parameterization="ntk"),
    "one-pixel": nf.Convolutional(3, filter_size=1, readout="gap"),
    "valid": nf.Convolutional(2, padding="valid", parameterization="ntk", b_std=0.3),
    "circular": nf.Convolutional(2, padding="circular", readout="gap"),
    "circular-lap": nf.Convolutional(
        2, padding="circular", readout="lap", window=3, parameterization="ntk"
    ),
    "bias": nf.Convolutional(2, readout="gap", parameterization="ntk", w_std=1.3, b_std=0.2),
    "residual": nf.ConvNet(nf.Conv(3, 1.1, 0.2), BLOCK, BLOCK, "relu", readout="gap"),
    "nested": nf.ConvNet(nf.Conv(), nf.Skip("relu", nf.Conv(), BLOCK), "relu", readout="flatten"),
    "linear": nf.ConvNet(nf.Conv(), nf.Conv(3, 0.8, trained=False), "relu"),
    "pool": nf.ConvNet(
        nf.Conv(), "relu", nf.AvgPool(2), nf.Conv(3, 1.2, 0.1), "relu", readout="flatten"
    ),
    "pool-first": nf.ConvNet(nf.Conv(), nf.AvgPool(2), BLOCK, "relu", readout="gap"),
    "two-pools": nf.myrtle(5, b_std=0.1),
    "two-pools-flat": nf.myrtle(5, readout="flatten"),
    "pool-circular": nf.ConvNet(
        nf.Conv(padding="circular"),
        "relu",
        nf.AvgPool(2),
        nf.Conv(1, padding="circular"),
        "relu",
        readout="flatten",
    ),
}
# Pools mix pixels of an image, and angles after them are differences: to the root of rounding where
# images are parallel (but not where they are equal).
CANCEL = ("pool", "pool-first", "two-pools", "two-pools-flat", "pool-circular", "linear")
SLOW_ORACLE = (
    *("two-pools-flat", "nested", "pool-circular", "two-pools", "circular-lap", "wide-filter"),
    *("gap-fixed", "pool-first", "one-pixel", "linear", "valid", "residual"),
    *("lap", "circular", "bias"),
)


def oracle_values(name: str, X: np.ndarray) -> np.ndarray:
    """Return NNGP and NTK of images with the first eight."""
    oracle, net = Oracle(), NETWORKS[name]
    return np.array([[oracle(net, X[0], y) for y in X], [oracle(net, X[1], y) for y in X]])


@pytest.fixture(scope="module")
def reference() -> dict[str, np.ndarray]:
    """Values of the oracle, computed once."""
    return {}


@pytest.mark.grid(1)
@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW_ORACLE)) for name in NETWORKS],
)
def test_oracle(
    engine: dict[str, Any], name: str, dtype: Any, reference: dict[str, np.ndarray]
) -> None:
    """All networks against 40-digit values, equal, negated, scaled and zero images among them."""
    X = images(8, 4, 4, 2) if "two" in name else images(8, 3, 3, 2)
    if name in CANCEL and "two" not in name:
        X = images(8, 4, 4, 1) if "circular" in name else images(8, 4, 2, 2)
    if name in ("valid",):
        X = images(8, 5, 6, 1)
    if name not in reference:
        reference[name] = oracle_values(name, X)
    net, expected = NETWORKS[name], reference[name]
    nngp, ntk = net.both(X[:2].astype(dtype), X.astype(dtype), **engine)
    steps = len(net.plan(X.shape[1:]).steps)
    for kernel, found, wanted in (
        (net.nngp, nngp, expected[..., 0]),
        (net.ntk, ntk, expected[..., 1]),
    ):
        error = np.abs(found - wanted)
        allowed = tolerance(kernel, X[:2].astype(dtype), X.astype(dtype), steps)
        if name in CANCEL:
            parallel = [3, 6, 7]
            allowed[:, parallel] /= np.sqrt(EPS[dtype])
        assert np.all(error <= allowed), (error / np.where(allowed > 0, allowed, 1)).max()


@pytest.mark.parametrize(
    ("depth", "options", "own", "other"),
    [
        (1, {}, 3.888888888889, 0.986201524156),
        (1, {"readout": "gap"}, 0.133940471917, 0.094105196712),
        (1, {"readout": "lap", "window": 3}, None, 0.367234133591),
        (2, {}, 3.935185185185, 1.166483794622),
        (2, {"readout": "gap"}, 0.135473094364, 0.097078426273),
        (
            2,
            {"readout": "gap", "train_first": False, "train_last": False},
            None,
            0.021339608063,
        ),
        (2, {"readout": "lap", "window": 3}, None, 0.394347111851),
    ],
)
def test_golden(depth: int, options: dict[str, Any], own: float | None, other: float) -> None:
    """Twelve digits written down from a separate derivation in the conventions of Arora et al."""
    kernel = nf.Convolutional(depth, **options).ntk
    assert kernel(GRID_X, GRID_Y)[0, 0] == pytest.approx(other, abs=6e-13)
    if own is not None:
        assert kernel(GRID_X)[0, 0] == pytest.approx(own, abs=6e-13)


# ---- neural-tangents ----------------------------------------------------------------------------

FILE = Path(__file__).parent / "data" / "neural_tangents_images.npz"
W, B = 1.3, 0.2
CONV, LAST = nf.Conv(3, W, B), {"w_std": W, "b_std": B}
RESIDUAL = nf.Skip("relu", CONV, "relu", CONV)
PEERS: dict[str, Any] = {
    "flatten": nf.Convolutional(2, parameterization="ntk", **LAST),
    "gap": nf.Convolutional(2, parameterization="ntk", readout="gap", **LAST),
    "gap-plain": nf.Convolutional(3, parameterization="ntk", readout="gap"),
    "valid": nf.ConvNet(
        nf.Conv(3, W, B, "valid"), "relu", CONV, "relu", readout=nf.Readout("gap", **LAST)
    ),
    "circular": nf.Convolutional(
        2, parameterization="ntk", readout="gap", padding="circular", **LAST
    ),
    "residual": nf.ConvNet(CONV, RESIDUAL, RESIDUAL, "relu", readout=nf.Readout("gap", **LAST)),
    "pool": nf.ConvNet(
        CONV, "relu", nf.AvgPool(2), CONV, "relu", readout=nf.Readout("flatten", **LAST)
    ),
    "pool-gap": nf.ConvNet(
        CONV, "relu", CONV, nf.AvgPool(2), "relu", CONV, "relu", readout=nf.Readout("gap", **LAST)
    ),
}


@pytest.mark.parametrize("name", PEERS)
def test_neural_tangents(name: str) -> None:
    """The file that bench/make_image_fixtures.py wrote with neural-tangents 0.6.5."""
    with np.load(FILE) as file:
        X, Y, values = file["X"], file["Y"], file["values"]
        nngp, ntk = values[list(file["names"]).index(name)]
    for kernel, expected in ((PEERS[name].nngp, nngp), (PEERS[name].ntk, ntk)):
        np.testing.assert_allclose(kernel(X, Y), expected, rtol=3e-13)


# ---- a finite network ---------------------------------------------------------------------------


def finite_ntk(x: np.ndarray, y: np.ndarray, width: int, seed: int) -> tuple[float, float]:
    """NNGP and NTK of one random network Conv, ReLU, Conv, ReLU, GAP, Dense on (h, w, c) images."""
    random = np.random.default_rng(seed)
    h, w, c = x.shape
    first = random.standard_normal((9 * c, width)) * np.sqrt(2 / (9 * c))
    second = random.standard_normal((9 * width, width)) * np.sqrt(2 / (9 * width))
    last = random.standard_normal(width) * np.sqrt(2 / width)

    def patches(a: np.ndarray) -> np.ndarray:
        padded = np.pad(a, ((1, 1), (1, 1), (0, 0)))
        parts = [padded[i : i + h, j : j + w] for i in range(3) for j in range(3)]
        return np.concatenate(parts, axis=2).reshape(h * w, -1)

    def back(g: np.ndarray) -> np.ndarray:  # of the gradient with respect to patches
        padded = np.zeros((h + 2, w + 2, g.shape[1] // 9))
        parts = np.split(g.reshape(h, w, -1), 9, axis=2)
        for k, (i, j) in enumerate(np.ndindex(3, 3)):
            padded[i : i + h, j : j + w] += parts[k]
        return padded[1:-1, 1:-1].reshape(h * w, -1)

    def run(a: np.ndarray) -> tuple[Any, ...]:
        p1 = patches(a)
        z1 = p1 @ first
        p2 = patches(np.maximum(z1, 0).reshape(h, w, -1))
        z2 = p2 @ second
        features = np.maximum(z2, 0).mean(axis=0)
        g2 = (z2 > 0) * last / (h * w)
        g1 = (z1 > 0) * back(g2 @ second.T)
        return p1, g1, p2, g2, features

    a, b = run(x), run(y)
    # Gradients in weights of unit variance: each layer's factor is its variance.
    factors = 2 / (9 * c), 2 / (9 * width), 2 / width
    nngp = factors[2] * float(a[4] @ b[4])
    ntk = nngp
    for k, factor in ((0, factors[0]), (2, factors[1])):
        ntk += factor * float(np.sum((a[k] @ b[k].T) * (a[k + 1] @ b[k + 1].T)))
    return nngp, ntk


def test_finite_network() -> None:
    """Random networks of width 192 average to the kernel within the error of the mean."""
    random = np.random.default_rng(3)
    x, y = random.standard_normal((2, 4, 4, 2))
    y = 0.7 * x + 0.5 * y
    net = nf.Convolutional(2, readout="gap", parameterization="ntk")
    draws = np.array([finite_ntk(x, y, 192, seed) for seed in range(24)])
    error = draws.std(axis=0, ddof=1) / np.sqrt(len(draws))
    wanted = [net.nngp(x[None], y[None])[0, 0], net.ntk(x[None], y[None])[0, 0]]
    bias = 0.01 * np.array(wanted)  # of order 1 / width
    assert np.all(np.abs(draws.mean(axis=0) - wanted) < 3.5 * error + bias)
    assert np.all(error < 0.05 * np.array(wanted))  # or the test says nothing


# ---- properties ---------------------------------------------------------------------------------

SOME = ("flatten", "gap", "lap", "residual", "two-pools", "circular", "bias")


@pytest.mark.parametrize("name", SOME)
def test_gram_matrix(
    engine: dict[str, Any], name: str, dtype: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Symmetric to the bit, positive semidefinite, equal rows equal, the diagonal that of diag."""
    X, net = images(19, 4, 4, 2).astype(dtype), NETWORKS[name]
    K = net.ntk(X, **engine)
    full = net.ntk(X, X.copy(), **engine)
    monkeypatch.setenv("NTKFAST_ENGINE", engine["engine"])
    diagonal = net.ntk.diag(X)
    assert np.array_equal(K, K.T)
    scale = float(np.max(K))
    steps = len(net.plan(X.shape[1:]).steps)
    bound = ROUNDINGS * steps * EPS[dtype] * scale
    np.testing.assert_allclose(np.diag(K), diagonal, rtol=0, atol=bound)
    some = np.delete(np.arange(19), 7) if name == "two-pools" else np.arange(19)  # see CANCEL
    np.testing.assert_allclose(full[some][:, some], K[some][:, some], rtol=0, atol=bound)
    assert K[0, 2] == K[0, 0] == K[2, 2]
    assert np.linalg.eigvalsh(K.astype(np.float64))[0] > -len(X) * bound
    if name != "residual" and name != "bias" and name != "two-pools":
        assert np.all(K[4] == 0)  # the zero image
        np.testing.assert_allclose(K[6], 2.5 * K[0], rtol=0, atol=3 * bound)


@pytest.mark.slow
@pytest.mark.parametrize("name", SOME)
def test_engines_agree(name: str, dtype: Any) -> None:
    """The Numba engine against the native one."""
    X, net = images(9, 4, 4, 2).astype(dtype), NETWORKS[name]
    if name == "two-pools":
        X = np.delete(X, [3, 6, 7], axis=0)  # see CANCEL
    results = [net.ntk(X, engine="numba")]
    for isa in native.available_isas():
        with native.force_isa(isa):
            results.append(net.ntk(X, engine="native"))
    bound = 4 * ROUNDINGS * EPS[dtype] * float(np.max(results[0]))
    for other in results[1:]:
        np.testing.assert_allclose(other, results[0], rtol=0, atol=bound)


@pytest.mark.parametrize("name", ["gap", "two-pools", "flatten"])
def test_threads(name: str, engine_name: str) -> None:
    """The same bits for any number of threads, and for a part of the images."""
    X, net = images(37, 8, 8, 2).astype(np.float32), NETWORKS[name]
    one = net.ntk(X, engine=engine_name, threads=1)
    for threads in (2, 7):
        assert np.array_equal(one, net.ntk(X, engine=engine_name, threads=threads))
    assert np.array_equal(one[3:4, 5:], net.ntk(X[3:4], X[5:], engine=engine_name))
    upper = np.triu_indices(37)  # of blocks on the diagonal, whose lanes hold other pairs
    assert np.array_equal(one[upper], net.ntk(X, X.copy(), engine=engine_name)[upper])


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_small_angles(seed: int) -> None:
    """Nearly equal images, and flat patches of unequal brightness, in float32."""
    random = np.random.default_rng(seed)
    x = random.standard_normal((3, 4, 1)).astype(np.float32)
    y = (x * (1 + 2.0**-18 * random.choice([-1, 0, 1], x.shape))).astype(np.float32)
    flat = np.linspace(0.25, 1.5, 12, dtype=np.float32).reshape(x.shape)
    flat = np.round(flat * 4) / 4
    for net in (nf.Convolutional(3), nf.Convolutional(2, filter_size=1), NETWORKS["residual"]):
        for a, b in ((x, y), (flat, flat[::-1].copy()), (x, -y)):
            wanted = Oracle()(net, a.astype(np.float64), b.astype(np.float64))
            steps = len(net.plan(x.shape).steps)
            for kernel, value in ((net.nngp, wanted[0]), (net.ntk, wanted[1])):
                allowed = tolerance(kernel, a[None], b[None], steps)[0, 0]
                assert abs(kernel(a[None], b[None])[0, 0] - value) <= allowed


def test_one_pixel_is_dense() -> None:
    """Filters of one pixel: per pixel the kernel of the fully connected network."""
    random = np.random.default_rng(5)
    x, y = random.standard_normal((2, 3, 4, 5))
    wide = nf.Convolutional(3, filter_size=1, readout="gap").ntk(x[None], y[None])[0, 0]
    pixels = nf.FullyConnected(3).ntk(x.reshape(12, 5), y.reshape(12, 5))
    # The read-out of Arora et al. has weights of variance 2, the dense one of variance 1, and the
    # tangent kernel of the layers below is multiplied by it too.
    nngp = nf.FullyConnected(3).nngp(x.reshape(12, 5), y.reshape(12, 5))
    assert wide == pytest.approx(float(pixels.mean()), rel=1e-13)
    nngp_wide = nf.Convolutional(3, filter_size=1, readout="gap").nngp(x[None], y[None])[0, 0]
    assert nngp_wide == pytest.approx(float(nngp.mean()), rel=1e-13)


def test_circular_shift() -> None:
    """With circular padding and global pooling the place of an image does not matter."""
    X = np.random.default_rng(6).standard_normal((3, 5, 6, 2))
    kernel = NETWORKS["circular"].ntk
    moved = np.roll(X, (2, -1), axis=(1, 2))
    np.testing.assert_allclose(kernel(moved, X), kernel(X), rtol=1e-13)


@pytest.mark.slow
def test_larger_images() -> None:
    """Images larger than the filters' margins, against the float64 oracle."""
    X = np.random.default_rng(7).standard_normal((2, 8, 7, 3))
    for name in ("gap", "lap", "wide-filter", "residual"):
        wanted = Oracle(Double())(NETWORKS[name], X[0], X[1])
        found = NETWORKS[name].ntk(X[:1], X[1:])[0, 0]
        assert found == pytest.approx(wanted[1], rel=1e-12)


WINDOWS = np.random.default_rng(8).standard_normal((2, 10, 9, 2))


@cache
def window_networks(padding: str) -> list[tuple[nf.ConvNet, tuple[float, float]]]:
    """Return networks with the values of the oracle, which serve all engines."""
    net = nf.ConvNet(nf.Conv(5, padding=padding), "relu", nf.Conv(1, padding=padding), "relu")
    wide = nf.ConvNet(nf.Conv(7, b_std=0.3, padding=padding), "relu", readout="flatten")
    return [(one, Oracle(Double())(one, *WINDOWS)) for one in (net, wide)]


@pytest.mark.grid(1)
@pytest.mark.parametrize(
    "padding", [*(pytest.param(p, marks=pytest.mark.slow) for p in ("zero", "circular")), "valid"]
)
def test_window_sums(engine: dict[str, Any], padding: str) -> None:
    """Windows of several sizes in images of more than one block of rows and columns."""
    X = WINDOWS
    for network, wanted in window_networks(padding):
        assert network.nngp(X[:1], X[1:], **engine)[0, 0] == pytest.approx(wanted[0], rel=1e-12)
        assert network.ntk(X[:1], X[1:], **engine)[0, 0] == pytest.approx(wanted[1], rel=1e-12)


@pytest.mark.parametrize(("depth", "groups"), [(5, (2, 1, 1)), (7, (2, 2, 2)), (10, (3, 3, 3))])
def test_myrtle(depth: int, groups: tuple[int, int, int]) -> None:
    """The layout of the authors' configurations: depth - 1 convolutions and two pools of 2 x 2."""
    first, second, third = ((nf.Conv(), "relu") * count for count in groups)
    pool = nf.AvgPool(2)
    assert sum(groups) == depth - 1
    assert nf.myrtle(depth).elements == (*first, pool, *second, pool, *third)


@pytest.mark.skipif(sys.platform == "win32", reason="sends a POSIX signal")
def test_keyboard_interrupt(engine_name: str) -> None:
    """Control-C in a computation of half an hour stops it; the engine works afterwards."""
    assert_interrupted(
        f"""
        import numpy as np, ntkfast as nf
        X = np.random.default_rng(0).standard_normal((1000, 32, 32, 3))
        net, options = nf.Convolutional(3, readout="gap"), dict(engine={engine_name!r})
        wanted = net.ntk(X[:3, :6, :6], **options)
        print("ready", flush=True)
        try:
            net.ntk(X, **options)
            print("finished", flush=True)
        except KeyboardInterrupt:
            same = np.array_equal(net.ntk(X[:3, :6, :6], **options), wanted)
            print("interrupted", same, flush=True)
        """
    )


MEMORY = """
import resource
import numpy as np, ntkfast as nf

X = np.random.default_rng(0).standard_normal((40, 32, 32, 3)).astype(np.float32)
kernel = nf.Convolutional(1, readout={readout!r}).ntk
kernel(X[:2, :4, :4])  # loads and compiles
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
kernel(X[:1], X, threads=2)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss has other units elsewhere")
@pytest.mark.parametrize("readout", ["gap", "flatten"])
def test_memory_is_that_of_planes(readout: str) -> None:
    """All pixel pairs of one pair of images are 12 MB in three numbers, of a vector of 16, 200."""
    command = [sys.executable, "-c", MEMORY.format(readout=readout)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert int(done.stdout) / 1024 < 30


def test_rows_and_memory() -> None:
    """Rows with a shape, strided input and output, products, pickles."""
    X = images(8, 4, 4, 2)
    flat = nf.Convolutional(2, shape=(4, 4, 2)).ntk
    K = nf.Convolutional(2).ntk(X)
    assert np.array_equal(flat(X.reshape(8, -1)), K)
    assert np.array_equal(flat(np.ascontiguousarray(X[:, :, ::-1])[:, :, ::-1]), K)
    for Y in (None, X.copy()):
        wide = np.zeros((8, 20))
        flat(X, Y, out=wide[:, ::2][:, :8])
        np.testing.assert_allclose(wide[:, :16:2], K, rtol=1e-13, atol=1e-15)
    assert np.array_equal(flat(flat.collect(X)[[1, 0]]), K[:2, :2][::-1, ::-1])
    V = np.random.default_rng(1).standard_normal((8, 3))
    np.testing.assert_allclose(flat.matmul(X, None, V), K @ V, rtol=0, atol=1e-12)
    assert flat.matmul(X, X, V[:, 0]).shape == (8,)
    nngp, ntk = flat.network.both(X)
    assert np.array_equal(ntk, K)
    assert np.array_equal(nngp, nf.Convolutional(2).nngp(X))
    assert pickle.loads(pickle.dumps(flat)) == flat
    assert hash(flat) != hash(nf.Convolutional(2).ntk)


def test_scales() -> None:
    """Without biases sizes of images do not matter, however small or large."""
    X = images(8, 3, 3, 1).astype(np.float32)
    kernel = NETWORKS["gap"].ntk
    K = kernel(X)
    np.testing.assert_allclose(kernel(X * np.float32(2.0**-60)) * 2.0**120, K, rtol=1e-6)
    with pytest.raises(ValueError, match="overflows float32"):
        kernel(X * np.float32(2.0**70))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nf.Convolutional(2, filter_size=0), "filter_size: expected an integer >= 1"),
        (lambda: nf.Convolutional(2, readout="lap"), "window: belongs to"),
        (lambda: nf.Convolutional(2, window=3), "window: belongs to"),
        (lambda: nf.Convolutional(2, b_std=1.0), 'b_std: belongs to parameterization="ntk"'),
        (lambda: nf.Convolutional(0), "depth: expected an integer >= 1"),
        (lambda: nf.ConvNet("relu"), "steps: expected a Conv first"),
        (lambda: nf.ConvNet(nf.Conv(), nf.Conv(padding="circular")), "padding: expected"),
        (lambda: nf.Skip(), "branch: expected at least one step"),
        (lambda: nf.myrtle(6), "depth: expected 5, 7 or 10"),
        (lambda: nf.Convolutional(1, shape=(2, 2)), "shape: expected"),
    ],
)
def test_bad_networks(make: Any, message: str) -> None:
    """Errors name the parameter."""
    with pytest.raises(ValueError, match=message):
        make()


def test_bad_images() -> None:
    """Errors name the argument and the image."""
    kernel, X = nf.Convolutional(2).ntk, np.ones((3, 4, 4, 2))
    with pytest.raises(ValueError, match="Y: expected images of shape"):
        kernel(X, np.ones((3, 4, 4, 1)))
    with pytest.raises(ValueError, match="X: expected at least one image"):
        kernel(X[:0])
    with pytest.raises(ValueError, match=r"X: expected shape \(images, height"):
        kernel(X[0, 0])
    with pytest.raises(ValueError, match=r"X: expected shape \(\*, 32\)"):
        nf.Convolutional(2, shape=(4, 4, 2)).ntk(np.ones((3, 31)))
    with pytest.raises(TypeError, match="X: expected float32 or float64"):
        kernel(X.astype(np.float16))
    bad = X.copy()
    bad[1, 2, 3, 0] = np.nan
    with pytest.raises(ValueError, match="image 1 holds NaN"):
        kernel(bad)
    with pytest.raises(ValueError, match="AvgPool: expected a size that divides"):
        nf.myrtle().ntk(np.ones((2, 6, 6, 1)))
    with pytest.raises(ValueError, match="filter_size: expected at most 4"):
        nf.Convolutional(1, filter_size=5, padding="circular").ntk(X)
    with pytest.raises(
        ValueError, match="Skip: expected a branch that makes the pixels that the identity"
    ):
        nf.ConvNet(nf.Conv(), nf.Skip(nf.Conv(padding="valid"))).ntk(X)
    with pytest.raises(ValueError, match="Y: expected images of shape"):
        kernel.check_shapes((3, 4, 4, 2), (3, 4, 4, 1))


def test_command_line(tmp_path: Path) -> None:
    """The batch job of images, and of rows with a shape."""
    X = images(9, 4, 4, 2)
    np.save(tmp_path / "X.npy", X)
    np.save(tmp_path / "rows.npy", X.reshape(9, -1))
    wanted = nf.Convolutional(2, readout="gap").ntk(X)
    for name, options in (("X", []), ("rows", ["--shape", "4x4x2"])):
        out = tmp_path / f"K-{name}.npy"
        command = ["gram", str(tmp_path / f"{name}.npy"), "--network", "cntk", "--depth", "2"]
        command += ["--readout", "gap", "--out", str(out), "--no-progress", "--tile", "4"]
        assert main(command + options) == 0
        np.testing.assert_allclose(np.load(out), wanted, rtol=0, atol=1e-13)
    assert main([*command, "--shape", "4x4x3", "--overwrite"]) == 2


def test_consumers() -> None:
    """Nystrom features and Gram spectra take rows of images."""
    pytest.importorskip("sklearn")
    X = images(24, 4, 4, 2).reshape(24, -1)[8:]
    kernel = nf.Convolutional(2, readout="gap", shape=(4, 4, 2)).ntk
    Z = nf.features.NystromFeatures(kernel, n_components=16, random_state=0).fit_transform(X)
    K = kernel(X)
    np.testing.assert_allclose(Z @ Z.T, K, atol=1e-8 * K.max())
    top = nf.spectrum.extremes(kernel, X, k=1)
    assert float(np.max(top.largest)) == pytest.approx(np.linalg.eigvalsh(K)[-1], rel=1e-8)
