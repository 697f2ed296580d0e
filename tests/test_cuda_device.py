"""The CUDA engine against the native one, on a device or with the host playing it.

``emulated`` runs the sources of the kernels on the host (built with the CMake option
NTKFAST_CUDA_EMULATE), ``device`` needs a device.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ntkfast as nf
from clusters import workers
from ntkfast.engines import cuda
from ntkfast.engines.groups import Groups
from ntkfast.kernels.group_products import of_groups, validated
from tolerances import PRODUCT

EPS = {np.float32: 2.0**-23, np.float64: 2.0**-52}


def played_by(name: str) -> Any:
    """Return an extension module as a parameter, which is skipped where it cannot run."""
    reason = f"{name} is not built"
    if importlib.util.find_spec(name) is not None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("NTKFAST_CUDA_MODULE", name)
            reason = cuda.unavailable()
    return pytest.param(name, marks=[pytest.mark.skip(reason=reason)] if reason else [])


@pytest.fixture(
    params=map(played_by, ["ntkfast._cuda_emulated", "ntkfast._cuda"]), ids=["emulated", "device"]
)
def module(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Make the engine use an extension module; what it finds is compared with the native one."""
    name = request.param
    monkeypatch.setenv("NTKFAST_CUDA_MODULE", name)
    found = importlib.import_module(name)
    yield found
    found.set_chunk(1 << 27)


def rows(n: int, d: int, dtype: Any, seed: int = 0) -> np.ndarray:
    """Rows with zeros, duplicates, antipodes, close pairs and very unequal norms."""
    X = np.random.default_rng(seed).standard_normal((n, d))
    if n >= 6:
        X[1] = X[0]
        X[2] = -X[0]
        X[3] = 0
        X[4] = X[0] * 1e3 + 1e-4
    return X.astype(dtype)


def assert_close(found: np.ndarray, wanted: np.ndarray, scale: Any, units: float) -> None:
    """Both within `units` of rounding of `scale`."""
    error = np.abs(found.astype(float) - wanted.astype(float))
    limit = units * EPS[wanted.dtype.type] * np.broadcast_to(scale, error.shape) + 1e-300
    assert np.isfinite(found).all()
    assert (error <= limit).all(), f"{(error / limit).max():.3g} times the tolerance"


# ---- transforms ----------------------------------------------------------------------------------


@pytest.mark.parametrize("p", [0, 1, 2, 3, 5, 7, 10, 12, 13, 14, 16])
def test_fwht_has_the_bits_of_the_cpu(module: Any, dtype: Any, p: int) -> None:
    X = np.random.default_rng(p).standard_normal((5, 2**p)).astype(dtype)
    signs = np.sign(np.random.default_rng(1).standard_normal(2**p)).astype(dtype)
    wanted = nf.features.fwht(X, signs=signs, engine="native")
    found = nf.features.fwht(X, signs=signs, engine="cuda")
    np.testing.assert_array_equal(found, wanted)


def test_fwht_in_chunks_strided_and_in_place(module: Any, dtype: Any) -> None:
    module.set_chunk(200)
    whole = np.random.default_rng(0).standard_normal((23, 100)).astype(dtype)
    X = whole[:, 3:67]
    wanted = nf.features.fwht(X, engine="native")
    np.testing.assert_array_equal(nf.features.fwht(X, engine="cuda"), wanted)
    out = X.copy()
    nf.features.fwht(out, out=out, engine="cuda")
    np.testing.assert_array_equal(out, wanted)


# ---- features ------------------------------------------------------------------------------------

FEATURES = {
    "arccosine": lambda: nf.features.ArcCosineFeatures(n_components=70, random_state=0),
    "arccosine-0": lambda: nf.features.ArcCosineFeatures(0, n_components=70, random_state=0),
    "structured": lambda: nf.features.ArcCosineFeatures(
        n_components=70, weights="structured", random_state=0
    ),
    "dual": lambda: nf.features.DualActivationFeatures(
        nf.FullyConnected(2, b_std=0.3, parameterization="ntk").ntk, n_components=64, random_state=0
    ),
    "ntk-random": lambda: nf.features.NTKRandomFeatures(
        nf.FullyConnected(2), n_components=64, random_state=0
    ),
    "sketch": lambda: nf.features.NTKSketch(
        nf.FullyConnected(2).ntk, n_components=64, random_state=0
    ),
}


@pytest.mark.parametrize("name", FEATURES)
def test_features(module: Any, name: str, dtype: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    X = rows(9, 21, dtype)
    X[4] = X[5] / 3
    wanted = FEATURES[name]().fit_transform(X)
    module.set_chunk(300)
    monkeypatch.setenv("NTKFAST_ENGINE", "cuda")
    found = FEATURES[name]().fit_transform(X)
    norms = np.linalg.norm(wanted, axis=1, keepdims=True).astype(float)
    assert_close(found, wanted, norms + np.abs(X).max(), 64)


# ---- rows ----------------------------------------------------------------------------------------

ROWS = {
    "profile": nf.FullyConnected(3),
    "residual": nf.ResNet(4, alpha=0.3),
    "biases": nf.FullyConnected(3, parameterization="ntk", b_std=0.2),
    "erf": nf.FullyConnected(2, activation="erf", b_std=0.3, parameterization="ntk"),
    "gelu": nf.FullyConnected(2, activation="gelu", b_std=0.3, parameterization="ntk"),
    "zero-bias": nf.FullyConnected(3, bias=0.5),
    "laplace": nf.Laplace(c=0.7),
}


def kernel_of(network: Any) -> Any:
    return getattr(network, "ntk", network)


@pytest.mark.parametrize("shape", [(1, 1, 3), (66, 71, 17), (9, 130, 1)])
@pytest.mark.parametrize("name", ROWS)
def test_rows(module: Any, name: str, shape: tuple[int, int, int], dtype: Any) -> None:
    n, m, d = shape
    kernel, X, Y = kernel_of(ROWS[name]), rows(n, d, dtype), rows(m, d, dtype, seed=1)
    module.set_chunk(70 * m)
    scale = np.sqrt(np.outer(kernel.diag(X).astype(float), kernel.diag(Y).astype(float)))
    # Products are summed in another order: their rounding, and what the angle makes of it.
    units = 64 * np.sqrt(d)
    out = np.full((n, m), np.nan, dtype)
    kernel(X, Y, out=out, engine="cuda")
    if name != "laplace":  # whose error is that of a distance
        assert_close(out, kernel(X, Y, engine="native"), scale, units)
    else:
        assert_close(out, kernel(X, Y, engine="native"), 1.0, units)
    square = kernel(X, engine="cuda")
    np.testing.assert_array_equal(square, square.T)
    np.testing.assert_allclose(
        square.diagonal(), kernel(X, engine="native").diagonal(), rtol=8 * EPS[dtype]
    )
    V = np.random.default_rng(2).standard_normal((m, 3)).astype(dtype)
    exact = out.astype(float) @ V.astype(float)
    bound = scale @ np.abs(V.astype(float)) + np.abs(exact)
    assert_close(kernel.matmul(X, Y, V, engine="cuda"), exact.astype(dtype), bound, PRODUCT)


# ---- products of rows ----------------------------------------------------------------------------

# What multiplies rows: the dtype, the device (the emulated device 1 has no tensor cores), the
# precision, and the error of a cosine by engines/cuda.py, besides that of strict precision.
PRODUCTS = {
    "f32": (np.float32, 0, "strict", 0.0),
    "f32-3xtf32": (np.float32, 0, "3xtf32", 3 * 2.0**-22),
    "f32-tf32": (np.float32, 0, "tf32", 2.0**-10),
    "f64-tensor": (np.float64, 0, "strict", 0.0),
    "f64-plain": (np.float64, 1, "strict", 0.0),
}

# The slope of a kernel in the cosine, over its scale, is at most AMPLIFICATION of profile.py where
# angles are not recomputed; of Laplace kernels it is c |x - y| / 2 or so, with their value.
SLOPE = 4.0


@pytest.fixture(params=PRODUCTS)
def product(module: Any, request: pytest.FixtureRequest) -> Iterator[tuple[Any, float]]:
    """Multiply in one of `PRODUCTS`; gives the dtype and the error of a cosine."""
    dtype, device, precision, error = PRODUCTS[request.param]
    if device >= module.devices()[0]:
        pytest.skip(f"there is no device {device}")
    with cuda.device(device), cuda.precision(precision):
        yield dtype, error


def assert_kernel(
    kernel: Any, X: np.ndarray, Y: np.ndarray, found: np.ndarray, error: float
) -> None:
    """Within rounding, and the error of a cosine, of what float64 gives."""
    left, right = X.astype(float), Y.astype(float)
    wanted = kernel(left, right, engine="native")
    scale = np.sqrt(np.outer(kernel.diag(left), kernel.diag(right)))
    units = 64 * np.sqrt(X.shape[1]) + SLOPE * error / EPS[X.dtype.type]
    assert_close(found, wanted.astype(X.dtype), scale, units)


@pytest.mark.parametrize(
    "shape", [(1, 1, 1), (63, 65, 3), (65, 64, 16), (20, 129, 17), (3, 9, 784)]
)
@pytest.mark.parametrize("name", ROWS)
def test_products(
    module: Any, product: tuple[Any, float], name: str, shape: tuple[int, int, int]
) -> None:
    (n, m, d), (dtype, error) = shape, product
    kernel, rng = kernel_of(ROWS[name]), np.random.default_rng(0)
    X, Y = (rng.standard_normal((k, d)).astype(dtype) for k in (n, m))
    wide = np.full((n, m + 5), np.nan, dtype)
    kernel(X, Y, out=wide[:, 2 : m + 2], engine="cuda")
    assert_kernel(kernel, X, Y, wide[:, 2 : m + 2], error)
    assert np.isnan(wide[:, :2]).all() and np.isnan(wide[:, m + 2 :]).all()


def test_large_tiles(module: Any, product: tuple[Any, float]) -> None:
    """As many tiles of 128 rows as they are used for, the last ones partly filled."""
    dtype, error = product
    kernel, rng = nf.FullyConnected(2).ntk, np.random.default_rng(0)
    X, Y = (rng.standard_normal((k, 21)).astype(dtype) for k in (259, 8200))
    found = kernel(X, Y, engine="cuda")
    assert_kernel(kernel, X, Y, found, error)
    V = rng.standard_normal((8200, 6)).astype(dtype)
    exact = found.astype(float) @ V.astype(float)
    bound = np.abs(found.astype(float)) @ np.abs(V.astype(float))
    assert_close(kernel.matmul(X, Y, V, engine="cuda"), exact.astype(dtype), bound, PRODUCT)


@pytest.mark.parametrize("name", ROWS)
def test_near_duplicates(module: Any, product: tuple[Any, float], name: str) -> None:
    """Whatever multiplies them, close rows and opposite ones get what strict precision gives."""
    dtype, _ = product
    kernel, rng = kernel_of(ROWS[name]), np.random.default_rng(0)
    distances = np.repeat(10.0 ** -np.arange(2.0, 8.0), 3)[:, None]
    X = rng.standard_normal((18, 40))
    X /= np.linalg.norm(X, axis=1, keepdims=True)
    Y = X + distances * np.linalg.qr(rng.standard_normal((40, 18)))[0].T
    Y[::3] *= -1 if name in ("profile", "residual") else 1  # others have no cusp there
    X, Y = X.astype(dtype), Y.astype(dtype)
    found = kernel(X, Y, engine="cuda").diagonal()
    wanted = kernel(X.astype(float), Y.astype(float), engine="native").diagonal()
    assert_close(found, wanted.astype(dtype), kernel.diag(X), 64)
    square = kernel(X, engine="cuda")
    np.testing.assert_allclose(square.diagonal(), kernel.diag(X), rtol=8 * EPS[dtype])


def test_precisions_differ(module: Any) -> None:
    rng = np.random.default_rng(0)
    X, Y = (rng.standard_normal((30, 50)).astype(np.float32) for _ in range(2))
    kernel = nf.FullyConnected(1).nngp
    found = {}
    for name in cuda.PRECISIONS:
        with cuda.precision(name):
            found[name] = kernel(X, Y, engine="cuda")
    error = {name: np.abs(K - found["strict"]).max() / K.max() for name, K in found.items()}
    assert 0 < error["3xtf32"] < 2.0**-20 < 2.0**-15 < error["tf32"] < 2.0**-10
    with pytest.raises(ValueError, match="name: expected one of"), cuda.precision("half"):
        pass


def test_devices_without_tensor_cores_compute_strictly(module: Any) -> None:
    if not module.__name__.endswith("emulated"):
        pytest.skip("needs the old device among the emulated ones")
    X = np.random.default_rng(0).standard_normal((30, 50)).astype(np.float32)
    kernel = nf.FullyConnected(1).ntk
    wanted = kernel(X, engine="cuda")
    with cuda.device(1), cuda.precision("tf32"):
        np.testing.assert_array_equal(kernel(X, engine="cuda"), wanted)


def test_large_rows(module: Any, product: tuple[Any, float]) -> None:
    """Products of long rows do not overflow in float32."""
    dtype, error = product
    X = np.random.default_rng(0).standard_normal((70, 19)).astype(dtype) * dtype(1e25)
    kernel = nf.FullyConnected(1, activation="erf", parameterization="ntk", b_std=0.3).nngp
    assert_kernel(kernel, X, X, kernel(X, engine="cuda"), error)


def test_matmul_on_a_cluster(module: Any, dtype: Any) -> None:
    """A worker with a device does both products of two groups, and agrees with processors."""
    distributed = pytest.importorskip("distributed")
    pytest.importorskip("dask.array")
    X, V = rows(70, 5, dtype), rows(70, 2, dtype, seed=1)
    kernel = nf.FullyConnected(2).ntk
    size = np.abs(kernel(X).astype(float)) @ np.abs(V)
    inputs, sums = validated(kernel, X), np.zeros(V.shape)
    first, second = slice(0, 40), slice(40, 70)
    for pair in (first, first), (second, second), (first, second):
        sums += of_groups(kernel, inputs, V, Groups(*pair, 70), "cuda")
    wanted = kernel.matmul(X, None, V, engine="native")
    assert_close(sums.astype(dtype), wanted, size, PRODUCT)
    options = {"processes": False, "n_workers": 1, "threads_per_worker": 1}
    with distributed.Client(**options, dashboard_address=":0") as client:
        for Y in (None, X[:30]):
            factor = V if Y is None else V[:30]
            found = nf.dask.matmul(kernel, X, Y, factor, client=client, engine="cuda")
            here = kernel.matmul(X, Y, factor, engine="cuda")
            assert_close(found, here, size, PRODUCT)


@pytest.mark.slow
def test_a_cluster_with_and_without_a_device(module: Any, tmp_path: Path) -> None:
    """Each worker computes with what its environment says, and a warning tells of it."""
    pytest.importorskip("distributed")
    X, V = (rows(1700, d, np.float32, seed=d) for d in (5, 2))
    kernel = nf.FullyConnected(2).ntk
    norms = np.sqrt(kernel.diag(X.astype(float)))[:, None]
    size = norms * (norms.T @ np.abs(V))
    device = {"NTKFAST_ENGINE": "cuda", "NTKFAST_CUDA_MODULE": module.__name__}
    processor = {"NTKFAST_ENGINE": "native", "NTKFAST_CUDA_MODULE": "none"}
    unlike = r"workers compute with cuda and native"
    with workers(device=device, processor=processor) as client:
        with pytest.warns(nf.dask.ClusterWarning, match=unlike):
            found = nf.dask.matmul(kernel, X, None, V, client=client)
        known, units = kernel.matmul(X, None, V, engine="native"), 64 * np.sqrt(5)
        assert_close(found, known, size, PRODUCT + units)  # of sums, and of kernels
        with pytest.warns(nf.dask.ClusterWarning, match=unlike):
            K = nf.dask.gram(kernel, X[:300], out=tmp_path / "K.npy", tile=60, client=client)
        assert_kernel(kernel, X[:300], X[:300], np.asarray(K), 0.0)
        told = nf.dask.matmul(kernel, X, None, V, client=client, engine="native")
        np.testing.assert_array_equal(told, known)
        with pytest.raises(RuntimeError, match="engine: 'cuda' cannot run here"):
            nf.dask.matmul(kernel, X, None, V, client=client, engine="cuda")


@pytest.mark.parametrize("columns", [1, 3, 8, 130])
@pytest.mark.parametrize("name", ["profile", "biases"])
def test_matmul(module: Any, product: tuple[Any, float], name: str, columns: int) -> None:
    """Several pieces of rows, ranges of columns, and passes over V; the same bits again."""
    dtype, _ = product
    module.set_chunk(300)
    kernel, rng = kernel_of(ROWS[name]), np.random.default_rng(0)
    X, Y = (rng.standard_normal((k, 9)).astype(dtype) for k in (70, 200))
    V = rng.standard_normal((200, columns + 2)).astype(dtype)[:, 1:-1]
    values = kernel(X, Y, engine="cuda").astype(float)
    exact, bound = values @ V.astype(float), np.abs(values) @ np.abs(V.astype(float))
    found = kernel.matmul(X, Y, V, engine="cuda")
    assert_close(found, exact.astype(dtype), bound, PRODUCT)
    np.testing.assert_array_equal(kernel.matmul(X, Y, V, engine="cuda"), found)


def test_both(module: Any, dtype: Any) -> None:
    X = rows(20, 5, dtype)
    for network in (nf.FullyConnected(2), nf.FullyConnected(2, b_std=0.1, parameterization="ntk")):
        nngp, ntk = network.both(X, engine="cuda")
        np.testing.assert_array_equal(ntk, network.ntk(X, engine="cuda"))
        np.testing.assert_array_equal(nngp, network.nngp(X, engine="cuda"))


# ---- sequences -----------------------------------------------------------------------------------

SEQUENCES = {
    "one": nf.Recurrent(1, u_std=0.5, b_std=0.1),
    "deep": nf.Recurrent(3, b_std=0.2, h_std=0.4, readout="average"),
    "bidirectional": nf.Recurrent(2, direction="bidirectional", readout="average_normalized"),
    "erf": nf.Recurrent(2, activation="erf", b_std=0.1, fixed_layers=1),
    "gelu": nf.Recurrent(1, activation="gelu", b_std=0.1),
}


@pytest.mark.parametrize("channels", [1, 4, 5, 37])
@pytest.mark.parametrize("name", SEQUENCES)
def test_sequences(module: Any, name: str, channels: int, dtype: Any) -> None:
    rng = np.random.default_rng(3)
    items = [rng.normal(size=(t, channels)) for t in (1, 2, 3, 3, 5, 6, *rng.integers(1, 9, 13))]
    items += [items[4].copy(), -items[4], 0 * items[2], 1e2 * items[3], items[4] + 1e-6]
    X, Y = [a.astype(dtype) for a in items], [a.astype(dtype) for a in items[3:20]]
    module.set_chunk(16 * len(X))
    for kernel in (SEQUENCES[name].ntk, SEQUENCES[name].nngp):
        scale = np.sqrt(np.outer(kernel.diag(X).astype(float), kernel.diag(Y).astype(float)))
        units = 8.0 * 9 * SEQUENCES[name].depth
        assert_close(kernel(X, Y, engine="cuda"), kernel(X, Y, engine="native"), scale, units)
        square = kernel(X, engine="cuda")
        np.testing.assert_array_equal(square, square.T)
        np.testing.assert_array_equal(square.diagonal(), kernel(X, engine="native").diagonal())


def test_sequences_of_many_layers(module: Any, dtype: Any) -> None:
    """More layers than shared memory holds."""
    X = np.random.default_rng(0).standard_normal((5, 3, 2)).astype(dtype)
    kernel = nf.Recurrent(40, w_std=1.0, b_std=0.2).ntk
    wanted = kernel(X, engine="native")
    assert_close(kernel(X, engine="cuda"), wanted, wanted.max(), 8.0 * 3 * 40)


# ---- images --------------------------------------------------------------------------------------

BLOCK = nf.Skip("relu", nf.Conv(3, 1.2, 0.1), "relu", nf.Conv(3, 0.9))
IMAGES = {
    "flatten": (nf.Convolutional(2), (5, 6, 3)),
    "gap": (nf.Convolutional(3, readout="gap"), (5, 4, 2)),
    "fixed": (
        nf.Convolutional(2, readout="gap", train_first=False, train_last=False),
        (4, 3, 1),
    ),
    "lap": (nf.Convolutional(2, readout="lap", window=3), (5, 4, 2)),
    "wide": (nf.Convolutional(2, filter_size=5, readout="gap", parameterization="ntk"), (5, 3, 2)),
    "valid": (
        nf.Convolutional(2, padding="valid", parameterization="ntk", b_std=0.3, readout="gap"),
        (6, 7, 2),
    ),
    "circular": (nf.Convolutional(2, padding="circular", readout="gap"), (4, 5, 2)),
    "circular-lap": (
        nf.Convolutional(2, padding="circular", readout="lap", window=3, parameterization="ntk"),
        (5, 4, 1),
    ),
    "residual": (nf.ConvNet(nf.Conv(3, 1.1, 0.2), BLOCK, BLOCK, "relu", readout="gap"), (4, 3, 2)),
    "nested": (
        nf.ConvNet(nf.Conv(), nf.Skip("relu", nf.Conv(), BLOCK), "relu", readout="flatten"),
        (4, 5, 2),
    ),
    "pool": (
        nf.ConvNet(nf.Conv(), "relu", nf.AvgPool(2), nf.Conv(3, 1.2, 0.1), "relu", readout="gap"),
        (4, 6, 2),
    ),
    "two-pools": (nf.myrtle(5, b_std=0.1), (8, 8, 1)),
    "pool-circular": (
        nf.ConvNet(
            nf.Conv(padding="circular"),
            "relu",
            nf.AvgPool(2),
            nf.Conv(1, padding="circular"),
            "relu",
            readout="flatten",
        ),
        (4, 6, 2),
    ),
}
DOWN = nf.Skip(
    *("relu", nf.Conv(3, 1.2, 0.1, stride=2), "relu", nf.Conv(3, 0.9)),
    shortcut=nf.Conv(1, 1.1, stride=2),
)
IMAGES |= {
    "stride": (
        nf.ConvNet(nf.Conv((2, 3), 1.3, 0.2, stride=(1, 2)), "relu", nf.Conv(stride=2), "relu"),
        (5, 6, 2),
    ),
    "circular-stride": (
        nf.ConvNet(nf.Conv(3, 1.3, 0.2, "circular", stride=2), "relu"),
        (4, 6, 1),
    ),
    "grows": (
        nf.ConvNet(nf.Conv(2, 1.3, 0.2, 4), "relu", nf.Conv(2, 1.1, stride=2), "relu"),
        (3, 4, 1),
    ),
    "shortcut": (nf.ConvNet(nf.Conv(3, 1.1, 0.2), DOWN, BLOCK, "relu"), (5, 4, 2)),
    "overlap": (
        nf.ConvNet(
            *(nf.Conv(3, 1.1, 0.2), "relu", nf.AvgPool(3, 2, "zero"), nf.Conv(stride=2), "relu")
        ),
        (5, 6, 2),
    ),
    "layernorm": (
        nf.ConvNet(
            *(nf.Conv(), nf.LayerNorm(), "relu", nf.Conv(3, 1.2, 0.1), nf.LayerNorm("all")),
            "relu",
        ),
        (4, 4, 2),
    ),
    "head": (nf.ConvNet(nf.Conv(3, 1.1, 0.2), "relu", head=("erf", nf.Dense(1.2))), (4, 4, 2)),
}
POOLS = ("pool", "two-pools", "pool-circular", "overlap", "head")


def pictures(count: int, shape: tuple[int, int, int], seed: int = 0) -> np.ndarray:
    """Images with a zero, an equal, an opposite, a scaled and a constant one."""
    x = np.random.default_rng(seed).standard_normal((count, *shape))
    if count >= 6:
        x[1], x[2], x[3], x[4], x[5] = x[0], -x[0], 0, 2.5 * x[0], 1
    return x


@pytest.mark.parametrize("name", IMAGES)
def test_images(module: Any, name: str, dtype: Any) -> None:
    network, shape = IMAGES[name]
    small = name == "two-pools"
    X = pictures(6 if small else 7, shape).astype(dtype)
    Y = pictures(2 if small else 3, shape, seed=1).astype(dtype)
    steps = 20
    for kernel in (network.ntk, network.nngp):
        scale = np.sqrt(np.outer(kernel.diag(X).astype(float), kernel.diag(Y).astype(float)))
        units = 16.0 * steps
        if name in POOLS:  # angles after a pool are differences: the root of rounding
            units = 16.0 * steps / np.sqrt(EPS[dtype])
        assert_close(kernel(X, Y, engine="cuda"), kernel(X, Y, engine="native"), scale, units)
        square = kernel(X, engine="cuda")
        np.testing.assert_array_equal(square, square.T)
        own = kernel.diag(X).astype(float)
        rest = np.sqrt(np.outer(own, own))
        assert_close(square, kernel(X, engine="native"), rest, units)


def test_images_with_other_activations(module: Any) -> None:
    """Their numbers are computed by the host alone: the error says which engine has them."""
    kernel = nf.ConvNet(nf.Conv(), "gelu").ntk
    with pytest.raises(ValueError, match='engine: expected "native" or "numba" for images'):
        kernel(pictures(2, (3, 3, 1)), engine="cuda")


def test_images_outside_shared_memory(module: Any) -> None:
    """Planes that do not fit into shared memory, and the diagonal through NTKFAST_ENGINE."""
    X = pictures(2, (34, 34, 1))
    kernel = nf.ConvNet(nf.Conv(), BLOCK, "relu").ntk
    wanted = kernel(X, engine="native")
    assert_close(kernel(X, engine="cuda"), wanted, wanted.max(), 16.0 * 8)


def test_diagonal_of_images(module: Any, dtype: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    X = pictures(6, (4, 5, 2)).astype(dtype)
    kernel = nf.Convolutional(3, readout="gap").ntk
    wanted = kernel.diag(X)
    monkeypatch.setenv("NTKFAST_ENGINE", "cuda")
    assert_close(kernel.diag(X), wanted, wanted, 16.0 * 6)


# ---- errors --------------------------------------------------------------------------------------


def test_wrong_device(module: Any) -> None:
    with pytest.raises(ValueError, match="ordinal: expected a CUDA device below"):
        with cuda.device(99):
            pass
