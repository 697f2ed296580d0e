"""What bench/gpu.py measures: a section is a process, so that a broken kernel ends only that.

    python bench/gpu_sections.py SECTION FILE.json \
        '{"quick": false, "emulated": false, "seconds": 60, "peers_python": ""}'

Times on the device are those between CUDA events around a call, of contenders in turn, with inputs
and results that rotate through more memory than the second cache holds. Where arrays come from the
host and go there (``"input": "NumPy"``), the clock of the host counts, transfers included.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
import gpu_report as report
from cuda_runtime import Cublas, CudaError, Device, DeviceArray, HostDevice, HostProduct
from peers import gaussian_rows

Row = dict[str, Any]
Turn = Callable[[int], object]

PRECISIONS = ("strict", "3xtf32", "tf32")  # of inner products in float32

# What each is compared with: a precision of cuBLAS and the inner dimension in units of d. Three
# products in TF32 make one of 3xTF32; one product three times as long stores its result once.
BASES = {"strict": ("strict", 1), "tf32": ("tf32", 1), "3xtf32": ("tf32", 3)}


@dataclass(frozen=True)
class Setting:
    """Where a section runs, and how long it may."""

    device: Any
    quick: bool
    seconds: float
    peers_python: str

    def size(self, full: int, quick: int) -> int:
        """Return a size by the kind of run."""
        return quick if self.quick else full

    def room(self) -> int:
        """Return how many bytes arrays may take: half of what is free, the engine has the rest."""
        return int(self.device.free_bytes()) // 2

    def cases(self) -> list[tuple[str, str]]:
        """Return the types of numbers with the precisions of each."""
        return [("float32", name) for name in PRECISIONS] + [("float64", "strict")]


def setting(options: Mapping[str, Any]) -> Setting:
    """Return the setting that the command line describes."""
    device: Any
    if options["emulated"]:
        from ntkfast import _cuda_emulated

        device = HostDevice(_cuda_emulated)
    else:
        device = Device()
    python = options.get("peers_python") or sys.executable
    return Setting(device, options["quick"], options["seconds"], python)


@cache
def products(emulated: bool) -> Any:
    """Return what multiplies for comparison."""
    return HostProduct() if emulated else Cublas()


# ---- clocks --------------------------------------------------------------------------------------

WARM = 0.3  # seconds of warming up: clocks of devices rise slowly


def on_device(setting: Setting, calls: Mapping[str, Turn], budget: float) -> dict[str, Row]:
    """Time calls in turn between events; each gets the number of the turn."""
    device = setting.device
    begin, turn = time.perf_counter(), 0
    while turn < 2 or (time.perf_counter() - begin < WARM and not setting.quick):
        start = time.perf_counter()
        for call in calls.values():
            call(turn)
        device.finish()
        once, turn = time.perf_counter() - start, turn + 1
    marks: dict[str, list[Any]] = {name: [] for name in calls}
    for turn in range(5 if setting.quick else report.rounds(once, budget)):
        for name, call in calls.items():
            start = device.mark()
            call(turn)
            marks[name].append((start, device.mark()))
    device.finish()
    return {n: report.summary([device.seconds(*pair) for pair in m]) for n, m in marks.items()}


def on_host(call: Callable[[], object], budget: float, least: int = 3) -> Row:
    """Time a call that has finished when it returns."""
    call()
    start = time.perf_counter()
    call()
    seconds = []
    for _ in range(report.rounds(time.perf_counter() - start, budget, least, 50)):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return report.summary(seconds)


@contextmanager
def engine(name: str) -> Iterator[None]:
    """Compute with one engine, as NTKFAST_ENGINE says."""
    before = os.environ.get("NTKFAST_ENGINE")
    os.environ["NTKFAST_ENGINE"] = name
    try:
        yield
    finally:
        if before is None:
            del os.environ["NTKFAST_ENGINE"]
        else:
            os.environ["NTKFAST_ENGINE"] = before


def engines(setting: Setting, amounts: Mapping[str, float], work: Callable[[str], Any]) -> Row:
    """Time a task on the device and natively, NumPy to NumPy; `amounts` says how much it is."""
    share = setting.seconds / 12
    times = {}
    for name in amounts:
        call = work(name)
        with engine(name):
            times[name] = on_host(call, share)
    rate, native = (amounts[name] / times[name]["median"] for name in ("cuda", "native"))
    return {"input": "NumPy", "times": times, "rate": rate, "over_native": rate / native}


# ---- sections ------------------------------------------------------------------------------------


def roofline(setting: Setting) -> Iterator[Row]:
    """Measure stores, copies and products."""
    device = setting.device
    size = min(setting.size(1 << 30, 1 << 16), setting.room() // 4) // 8 * 8
    count = report.rotations(2 * size, device.l2_bytes, 2 * setting.room())
    arrays = [device.empty((size,), np.uint8) for _ in range(2 * count)]
    streams: dict[str, Turn] = {
        "store": lambda turn: device.fill(arrays[turn % count], turn),
        "copy": lambda turn: device.copy(arrays[turn % count], arrays[count + turn % count]),
    }
    times = on_device(setting, streams, setting.seconds / 10)
    for case, moved in (("store", size), ("copy", 2 * size)):
        yield {"case": case, "amount": moved, "unit": "bytes", **times[case]}
    arrays.clear()
    yield from product_rates(setting)


def product_rates(setting: Setting) -> Iterator[Row]:
    """Measure square products in every precision that cuBLAS has."""
    multiply = products(setting.device.emulated).multiply
    n = setting.size(8192, 32)
    for dtype, precision in (("float32", "strict"), ("float32", "tf32"), ("float64", "strict")):
        n = report.gram_rows(n, n, np.dtype(dtype).itemsize, 2 * setting.room())
        sets = [gram_set(setting, n, n, n, dtype, seed) for seed in range(2)]
        call = rotating(sets, lambda X, Y, out, p=precision: multiply(X, Y, out, p))
        times = on_device(setting, {"product": call}, setting.seconds / 10)["product"]
        amount = report.gram_flops(n, n, n)
        yield {"case": f"{dtype} {precision}", "amount": amount, "unit": "flops", "n": n, **times}


def gram_set(
    setting: Setting, n: int, m: int, d: int, dtype: str, seed: int
) -> tuple[DeviceArray, DeviceArray, DeviceArray]:
    """Return random X and Y and an array for the result."""
    sides = (gaussian_rows(rows, d, dtype, seed=2 * seed + k) for k, rows in enumerate((n, m)))
    X, Y = (setting.device.put(side) for side in sides)
    return X, Y, setting.device.empty((n, m), dtype)


def rotating(sets: Any, work: Callable[..., object]) -> Turn:
    """Return a function of the turn that works on the next set."""
    return lambda turn: work(*sets[turn % len(sets)])


def gram(setting: Setting) -> Iterator[Row]:
    """Measure Gram matrices of arrays on the device, beside the product of the same shape."""
    cases = [(d, *case) for d in (784, 16, 3) for case in setting.cases()]
    for d, dtype, precision in cases:
        yield gram_case(setting, d, dtype, precision, setting.seconds / len(cases) / 2)


def gram_case(setting: Setting, d: int, dtype: str, precision: str, budget: float) -> Row:
    """Measure one width, type and precision."""
    from ntkfast.engines import cuda

    itemsize, factor = np.dtype(dtype).itemsize, BASES[precision][1]
    n = report.gram_rows(setting.size(16384, 40), d, itemsize, 2 * setting.room(), factor)
    each = report.gram_bytes(n, d, itemsize, factor)
    count = report.rotations(each, setting.device.l2_bytes, 2 * setting.room())
    sets = [gram_set(setting, n, n, d, dtype, seed) for seed in range(count)]
    product, base = product_call(setting, sets, precision)
    with cuda.precision(precision):
        times = on_device(setting, gram_calls(sets) | product, budget)
        error = largest_error(setting, d, dtype)
    row = {"d": d, "dtype": dtype, "precision": precision, "n": n, "itemsize": itemsize}
    facts = {"sets": count, "base": base, "input": "on the device", "largest_error_eps": error}
    return {**row, **facts, "times": times}


def gram_calls(sets: Any) -> dict[str, Turn]:
    """Return the kernels that are timed."""
    import ntkfast as nf

    kernels = {f"depth {depth}": nf.FullyConnected(depth).ntk for depth in (1, 100)}
    kernels["biases, depth 3"] = nf.FullyConnected(3, parameterization="ntk", b_std=0.1).ntk
    calls = {
        name: rotating(sets, lambda X, Y, out, k=kernel: k(X, Y, out=out))
        for name, kernel in kernels.items()
    }
    one = kernels["depth 1"]
    calls["depth 1, kernels"] = rotating(
        [queued(one, *arrays) for arrays in sets], lambda run: run()
    )
    calls["symmetric, depth 1"] = rotating(sets, lambda X, Y, out: one(X, out=out))
    return calls


def queued(kernel: Any, X: Any, Y: Any, out: Any) -> tuple[Callable[[], None]]:
    """Return what is left of a call once its rows are checked: kernels are queued, no one waits."""
    from ntkfast import engines, places

    place = places.of(X)
    left, right = place.rows(X, Y)
    plan, *_ = kernel._plan(left, right)
    run, target = place.run(None), place.output(out, out.shape, left).target
    return (lambda: engines.gram(run, plan, left, right, target),)


def product_call(setting: Setting, sets: Any, precision: str) -> tuple[dict[str, Turn], str]:
    """Return the product that a precision is compared with, and its name or why there is none."""
    base, factor = BASES[precision]
    try:
        product = products(setting.device.emulated)
    except CudaError as error:
        return {}, str(error)
    if factor > 1:
        wide = [tuple(widened(setting, a, factor) for a in pair) for *pair, _ in sets]
        sets = [(*w, out) for w, (*_, out) in zip(wide, sets, strict=True)]
    call = rotating(sets, lambda X, Y, out: product.multiply(X, Y, out, base))
    return {"product": call}, f"{product.name} {base}" + (f", {factor} d" if factor > 1 else "")


def widened(setting: Setting, array: DeviceArray, factor: int) -> DeviceArray:
    """Return an array with its columns repeated."""
    return setting.device.put(np.tile(setting.device.get(array), factor))


def largest_error(setting: Setting, d: int, dtype: str) -> float:
    """Return the largest error of a small Gram matrix, in eps of its scale."""
    import ntkfast as nf

    X, Y, out = gram_set(setting, 64, 64, d, dtype, seed=7)
    kernel = nf.FullyConnected(10).ntk
    kernel(X, Y, out=out)
    x, y, found = (setting.device.get(a).astype(float) for a in (X, Y, out))
    scale = np.sqrt(np.outer(kernel.diag(x), kernel.diag(y)))
    error = np.abs(found - kernel(x, y, engine="native")) / scale
    return float(error.max() / np.finfo(dtype).eps)


def matmul(setting: Setting) -> Iterator[Row]:
    """Measure products of the Gram matrix of one set of rows with ten vectors."""
    import ntkfast as nf
    from ntkfast.engines import cuda

    d, depth, columns = setting.size(784, 20), 10, 10
    kernel = nf.FullyConnected(depth).ntk
    cases = setting.cases()
    share = setting.seconds / len(cases)
    for dtype, precision in cases:
        with cuda.precision(precision):
            n = matmul_rows(setting, kernel, dtype, d, columns, share / 12)
            sets = matmul_sets(setting, n, d, columns, dtype, 2)
            call = rotating(sets, lambda X, V, out: kernel.matmul(X, X, V, out=out))
            times = on_device(setting, {"own": call}, share / 2)["own"]
        facts = {"dtype": dtype, "precision": precision, "itemsize": np.dtype(dtype).itemsize}
        sizes = {"n": n, "d": d, "columns": columns, "depth": depth, "input": "on the device"}
        yield {**facts, **sizes, "pairs_per_second": n * n / times["median"], **times}
        del sets, call


def matmul_sets(
    setting: Setting, n: int, d: int, columns: int, dtype: str, count: int
) -> list[tuple[DeviceArray, DeviceArray, DeviceArray]]:
    """Return copies of random rows and vectors, each with an array for the result."""
    X, V = gaussian_rows(n, d, dtype, seed=1), gaussian_rows(n, columns, dtype, seed=3)
    device = setting.device
    return [(device.put(X), device.put(V), device.empty((n, columns), dtype)) for _ in range(count)]


def matmul_rows(
    setting: Setting, kernel: Any, dtype: str, d: int, columns: int, limit: float
) -> int:
    """Return how many rows one call can take in so many seconds."""
    wanted, tried = setting.size(100_000, 70), setting.size(12_500, 70)
    ((X, V, out),) = matmul_sets(setting, tried, d, columns, dtype, 1)
    kernel.matmul(X, X, V, out=out)
    setting.device.finish()
    start = time.perf_counter()
    kernel.matmul(X, X, V, out=out)
    setting.device.finish()
    return report.rows_in_time(wanted, tried, time.perf_counter() - start, limit)


def fwht(setting: Setting) -> Iterator[Row]:
    """Measure transforms on the device beside a copy, and from NumPy beside the native ones."""
    for dtype in ("float32", "float64"):
        for p in (4,) if setting.quick else (8, 12, 16):
            size = min(setting.size(1 << 28, 1 << 12), setting.room() // 8)
            n = max(1, size // np.dtype(dtype).itemsize >> p)
            X = gaussian_rows(n, 1 << p, dtype, seed=p)
            row = {"dtype": dtype, "unit": "rows", "n": n}
            yield {"case": f"2^{p} on the device", **row, **fwht_there(setting, X)}
            yield {"case": f"2^{p} from NumPy", **row, **fwht_here(setting, X)}


def fwht_there(setting: Setting, X: np.ndarray) -> Row:
    """Measure the transform of an array on the device."""
    from ntkfast.features import fwht

    device = setting.device
    sets = [(device.put(X), device.empty(X.shape, X.dtype)) for _ in range(2)]
    calls = {
        "own": rotating(sets, lambda x, out: fwht(x, out=out)),
        "copy": rotating(sets, lambda x, out: device.copy(out, x)),
    }
    times = on_device(setting, calls, setting.seconds / 40)
    own, copy = (times[name]["median"] for name in ("own", "copy"))
    return {"input": "on the device", "rate": len(X) / own, "of_copy": own / copy, "times": times}


def fwht_here(setting: Setting, X: np.ndarray) -> Row:
    """Measure the transform of an array of the host."""
    from ntkfast.features import fwht

    out, amount = np.empty_like(X), float(len(X))

    def work(name: str) -> Callable[[], object]:
        return lambda: fwht(X, out=out, engine=name)

    return engines(setting, {"cuda": amount, "native": amount}, work)


def features(setting: Setting) -> Iterator[Row]:
    """Measure random features of rows from NumPy to NumPy."""
    import ntkfast as nf
    from ntkfast.features import ArcCosineFeatures, NTKRandomFeatures, NTKSketch

    m, n, d = setting.size(4096, 32), setting.size(20_000, 30), setting.size(784, 20)
    maps = {
        "arc-cosine": ArcCosineFeatures(n_components=m, random_state=0),
        "structured": ArcCosineFeatures(n_components=m, weights="structured", random_state=0),
        "NTK random": NTKRandomFeatures(nf.FullyConnected(2), n_components=m, random_state=0),
        "sketch": NTKSketch(nf.FullyConnected(2).ntk, n_components=m, random_state=0),
    }
    X = gaussian_rows(n, d, "float32", seed=1)
    counts = {"cuda": n, "native": setting.size(n // 10, n)}
    sizes = {"counts": counts, "d": d, "n_components": m}
    for name, features in maps.items():
        fitted = features.fit(X[:10])
        work = transform_work(fitted, X, counts)
        found = engines(setting, {name: float(n) for name, n in counts.items()}, work)
        yield {"case": name, "dtype": "float32", "unit": "rows", **sizes, **found}


def transform_work(features: Any, X: np.ndarray, counts: Mapping[str, int]) -> Callable[[str], Any]:
    """Return what makes the call of an engine: the features of its number of rows."""
    return lambda name: lambda: features.transform(X[: counts[name]])


def sequences(setting: Setting) -> Iterator[Row]:
    """Measure recurrent kernels of sequences of 128 steps."""
    import ntkfast as nf

    steps = setting.size(128, 4)
    counts = {"cuda": setting.size(2000, 12), "native": setting.size(500, 12)}
    for channels, depth in ((1, 1), (16, 3)):
        for dtype in ("float32", "float64"):
            shape = counts["cuda"], steps * channels
            X = gaussian_rows(*shape, dtype, seed=1).reshape(-1, steps, channels)
            kernel = nf.Recurrent(depth, b_std=0.1).ntk
            amounts = {name: count * (count + 1) / 2 for name, count in counts.items()}
            found = engines(setting, amounts, gram_work(kernel, X, counts))
            name = f"{steps} steps, {channels} channels, depth {depth}"
            yield {"case": name, "dtype": dtype, "unit": "pairs", "counts": counts, **found}


def images(setting: Setting) -> Iterator[Row]:
    """Measure convolutional kernels of images of 32 x 32 x 3 with three layers."""
    import ntkfast as nf

    side = setting.size(32, 3)
    for readout, full in (("gap", (96, 16)), ("flatten", (1024, 512))):
        counts = dict(zip(("cuda", "native"), (2, 2) if setting.quick else full, strict=True))
        kernel = nf.Convolutional(3, readout=readout, parameterization="ntk").ntk
        for dtype in ("float32", "float64"):
            shape = counts["cuda"], side * side * 3
            X = gaussian_rows(*shape, dtype, seed=1).reshape(-1, side, side, 3)
            amounts = {name: count * (count + 1) / 2 for name, count in counts.items()}
            found = engines(setting, amounts, gram_work(kernel, X, counts))
            name = f"{side} x {side} x 3, {readout}"
            yield {"case": name, "dtype": dtype, "unit": "pairs", "counts": counts, **found}


def gram_work(kernel: Any, X: np.ndarray, counts: Mapping[str, int]) -> Callable[[str], Any]:
    """Return what makes the call of an engine: the Gram matrix of its number of inputs."""
    return lambda name: lambda: kernel(X[: counts[name]], engine=name)


def peers(setting: Setting) -> Iterator[Row]:
    """Measure other packages on the same device, where they import, beside our same call."""
    from gpu_peers import SHAPES, ask

    end = time.monotonic() + setting.seconds
    for left, (case, shape) in zip(range(len(SHAPES), 0, -1), SHAPES.items(), strict=True):
        size = shape.quick() if setting.quick else shape
        found = ask(setting.peers_python, case, size, (end - time.monotonic()) / left)
        row: Row = {"case": case, "n": size.n, "d": size.d, "depth": size.depth, **found}
        row["note"] = found.get("error", "")
        if "seconds" in found:
            own = own_time(setting, size)
            row |= {"own": own, "times": report.summary(found["seconds"])}
            row["over_ours"] = row["times"]["median"] / own["median"]
        yield row


def own_time(setting: Setting, size: Any) -> Row:
    """Return the time of what a peer was asked for."""
    import ntkfast as nf

    kernel = nf.FullyConnected(size.depth).ntk
    if size.columns:
        sets = matmul_sets(setting, size.n, size.d, size.columns, "float32", 1)
        call = rotating(sets, lambda X, V, out: kernel.matmul(X, X, V, out=out))
    else:
        sets = [gram_set(setting, size.n, size.n, size.d, "float32", seed=1)]
        call = rotating(sets, lambda X, Y, out: kernel(X, Y, out=out))
    return on_device(setting, {"own": call}, 2.0)["own"]


SECTIONS: dict[str, Callable[[Setting], Iterator[Row]]] = {
    "roofline": roofline,
    "gram": gram,
    "matmul": matmul,
    "fwht": fwht,
    "features": features,
    "sequences": sequences,
    "images": images,
    "peers": peers,
}


def main() -> None:
    """Measure one section and write what is there, row by row, so that a crash leaves the rest."""
    name, target, options = sys.argv[1], Path(sys.argv[2]), json.loads(sys.argv[3])
    where = setting(options)
    found: dict[str, Any] = {"device": where.device.facts(), "rows": []}
    target.write_text(json.dumps(found))
    for row in SECTIONS[name](where):
        found["rows"].append(row)
        target.write_text(json.dumps(found))
        print(
            f"{name}: {row.get('case', '')} {row.get('d', '')} {row.get('dtype', '')}", flush=True
        )


if __name__ == "__main__":
    main()
