"""Arrays of real libraries on a real device: streams, producers that are late, threads, memory.

Nothing here can be played by the host.
"""

from __future__ import annotations

import ctypes
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import ntkfast as nf
from ntkfast.engines import cuda
from test_cuda_device import PRODUCTS, assert_kernel
from test_device_arrays import DeviceLibrary

if reason := cuda.unavailable():
    pytest.skip(f"real libraries: {reason}", allow_module_level=True)

KERNEL = nf.FullyConnected(3).ntk
X = np.random.default_rng(0).standard_normal((3000, 20))
SQUARE = KERNEL(X, engine="native")


def assert_same(found: np.ndarray, wanted: np.ndarray) -> None:
    """Equal but for the order of sums."""
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-12 * np.abs(wanted).max())


@pytest.fixture
def torch() -> Any:
    found = pytest.importorskip("torch")
    if not found.cuda.is_available():
        pytest.skip("this PyTorch has no CUDA")
    return found


@pytest.fixture
def cupy() -> Any:
    return pytest.importorskip("cupy")


# ---- a producer that is late ---------------------------------------------------------------------


def test_torch_on_another_stream(torch: Any) -> None:
    given, late = torch.from_numpy(X).cuda(), torch.zeros(X.shape, dtype=torch.float64).cuda()
    torch.cuda.synchronize()
    with torch.cuda.stream(torch.cuda.Stream()):
        torch.cuda._sleep(1 << 29)  # cycles
        late.copy_(given)
        gram = KERNEL(late)
        product = KERNEL.matmul(late, None, gram[:, :3].contiguous())
        host = gram.cpu().numpy()
        found = product.cpu().numpy()
    assert_same(host, SQUARE)
    assert_same(found, SQUARE @ SQUARE[:, :3])


def test_cupy_on_another_stream(cupy: Any) -> None:
    given, late = cupy.asarray(X), cupy.zeros(X.shape)
    big = cupy.ones((6000, 6000))
    cupy.cuda.Device().synchronize()
    with cupy.cuda.Stream(non_blocking=True):
        for _ in range(20):
            big = big @ big * 1e-4
        late[...] = given + 0 * big[0, 0]
        gram = KERNEL(late)
        host = cupy.asnumpy(gram)
    assert_same(host, SQUARE)


def test_jax_whose_arrays_are_not_ready() -> None:
    jax = pytest.importorskip("jax")
    if jax.default_backend() != "gpu":
        pytest.skip("this JAX has no CUDA")

    @jax.jit
    def slow(x: Any) -> Any:
        big = jax.numpy.ones((6000, 6000), x.dtype)
        return x + 0 * jax.lax.fori_loop(0, 20, lambda _, b: b @ b * 1e-4, big)[0, 0]

    given = jax.device_put(X.astype(np.float32))
    slow(given).block_until_ready()
    library = DeviceLibrary(cuda.module())
    out = library.empty((len(X), len(X)), dtype=np.dtype(np.float32), device="gpu")
    KERNEL(slow(given), out=out)
    assert_kernel(KERNEL, X.astype(np.float32), X.astype(np.float32), out.get(), 0.0)


def test_a_captured_stream_is_an_error(torch: Any) -> None:
    x = torch.from_numpy(X).cuda()
    KERNEL(x)
    with (
        pytest.raises(RuntimeError, match="is being captured into a graph"),
        torch.cuda.graph(torch.cuda.CUDAGraph(), capture_error_mode="relaxed"),
    ):
        KERNEL(x)
    assert_same(KERNEL(x).cpu().numpy(), SQUARE)


# ---- sizes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("product", PRODUCTS)
def test_symmetric_with_large_tiles(product: str) -> None:
    dtype, device, precision, error = PRODUCTS[product]
    if device >= cuda.module().devices()[0]:
        pytest.skip(f"there is no device {device}")
    x = X[:1550].astype(dtype)  # more pairs than tiles of 128 rows are wanted for
    with cuda.device(device), cuda.precision(precision):
        found = KERNEL(x, engine="cuda")
    np.testing.assert_array_equal(found, found.T)
    assert_kernel(KERNEL, x, x, found, error)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_streaming_back_by_the_default_pieces(dtype: Any) -> None:
    x = np.random.default_rng(1).standard_normal((6000, 3)).astype(dtype)
    found = KERNEL(x, engine="cuda")
    np.testing.assert_array_equal(found, found.T)
    assert_kernel(KERNEL, x, x, found, 0.0)
    assert_kernel(KERNEL, x, x[:4000], KERNEL(x, x[:4000], engine="cuda"), 0.0)


# ---- threads and memory --------------------------------------------------------------------------


def test_threads_on_streams_of_their_own(torch: Any) -> None:
    def work(number: int) -> bool:
        rows = X[200 * number : 200 * number + 1000]
        with torch.cuda.stream(torch.cuda.Stream()):
            x = torch.from_numpy(rows).cuda()
            for _ in range(30):
                found = KERNEL(x).cpu().numpy()
                part = slice(200 * number, 200 * number + 1000)
                assert_same(found, SQUARE[part, part])
        return True

    with ThreadPoolExecutor(2) as pool:
        assert all(pool.map(work, range(4)))


def test_memory_before_and_after(torch: Any) -> None:
    x = torch.from_numpy(X).cuda()

    def work() -> None:
        KERNEL.matmul(x, None, KERNEL(x))
        KERNEL(X, engine="cuda")
        with pytest.raises(ValueError, match="expected finite numbers"):
            KERNEL(x * torch.inf)

    def free() -> int:
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
        return int(torch.cuda.mem_get_info()[0])

    before = free()
    for _ in range(5):
        work()
    first = free()
    assert before - first <= 600 << 20  # what the pool keeps, and kernels as they are loaded
    for _ in range(30):
        work()
    assert abs(first - free()) <= 64 << 20


SECOND_DEVICE = """
import ctypes, numpy as np, ntkfast as nf
from ntkfast.engines import cuda
with cuda.device(1):
    nf.FullyConnected(2).ntk(np.ones((5, 3)), engine="cuda")
driver, flags, active = ctypes.CDLL("libcuda.so.1"), ctypes.c_uint(), ctypes.c_int()
driver.cuDevicePrimaryCtxGetState(0, ctypes.byref(flags), ctypes.byref(active))
print(active.value)
"""


def test_no_context_on_a_device_that_is_not_used() -> None:
    if cuda.module().devices()[0] < 2:
        pytest.skip("one CUDA device only")
    command = [sys.executable, "-c", SECOND_DEVICE]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["0"]


def test_the_context_of_the_thread_stays() -> None:
    driver, before, after = ctypes.CDLL("libcuda.so.1"), ctypes.c_void_p(), ctypes.c_void_p()

    def work() -> bool:
        driver.cuCtxGetCurrent(ctypes.byref(before))
        KERNEL(X[:9], engine="cuda")
        driver.cuCtxGetCurrent(ctypes.byref(after))
        return before.value == after.value

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(work).result()
