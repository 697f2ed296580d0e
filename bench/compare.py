"""Prints what ntkfast costs: against the matrix product, against itself, and against its peers.

    python bench/compare.py                          # everything of this package, some 20 minutes
    python bench/compare.py --quick                  # small sizes: does it run?
    python bench/compare.py --sections product,peers --peers-python peers/bin/python

Each number is a median of interleaved runs (one of everybody per round), each ratio comes from one
such series, and the quartiles of the ratio within a round stand beside it.  Tables are Markdown on
standard output; all seconds go to a JSON file.  ``bench/requirements-peers.txt`` says how to set up
the peers; one that does not import becomes a line that says so.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

import ntkfast as nf
from ntkfast.command.bench import PRODUCT, Timing, limited, measure
from ntkfast.engines import native
from ntkfast.engines.interface import load as load_engine

sys.path.insert(0, str(Path(__file__).parent))
from peers import PEERS, gaussian_rows

Row = dict[str, Any]
Options = argparse.Namespace
HERE = Path(__file__).resolve().parent

# The goals of the project, in the units of the tables.
PRODUCT_GOAL = {784: 1.15, 100: 1.5, 10: 2.5}
SYMMETRIC_GOAL = 0.65
LAYER_GOAL = {"x86_64_v4": 1.5, "x86_64_v3": 3.0}
ENGINE_GOAL = 2.0
MATMUL_GOAL, MATMUL_MEGABYTES = 1.3, 200
MEMORY_GOAL = 0.05
PEER_GOAL = {
    ("neural-tangents", "float32", 3): 20,
    ("neural-tangents", "float32", 10): 80,
    ("torch.compile", "float32", None): 4,
    ("torch.compile", "float64", None): 3,
}


# ------------------------------------------------------------------------------------- helpers


def pair(n: int, d: int, dtype: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the X and Y of every benchmark, the same that the peers build."""
    return gaussian_rows(n, d, dtype, seed=1), gaussian_rows(n, d, dtype, seed=2)


def verdict(measured: float, goal: float | None, *, least: bool = False) -> Row:
    """Return the columns that hold a goal (an upper bound unless `least`) and whether it is met."""
    if goal is None:
        return {"goal": None, "met": None}
    met = measured >= goal if least else measured <= goal
    return {"goal": goal, "met": "yes" if met else "no"}


def milliseconds(timing: Timing) -> float:
    """Return the median in milliseconds."""
    return 1e3 * timing.median


def product_of(X: np.ndarray, Y: np.ndarray) -> Callable[[], object]:
    """Return the call that everything is compared with."""
    return lambda: X @ Y.T


def layered(depth: int, activation: str = "relu") -> Any:
    """Return an NTK that needs the layer map: biases, rows of unequal norm."""
    return nf.FullyConnected(depth, activation=activation, parameterization="ntk", b_std=0.1).ntk


# ------------------------------------------------------------------------------------ sections


def product(options: Options) -> Iterator[Row]:
    """Compare ntk(X, Y) of bias-free ReLU networks with X @ Y.T."""
    for dtype in options.dtypes:
        for d in options.dims:
            X, Y = pair(options.n, d, dtype)
            kernels = {depth: nf.FullyConnected(depth).ntk for depth in options.depths}
            calls = {str(depth): partial(kernel, X, Y) for depth, kernel in kernels.items()}
            times = measure({PRODUCT: product_of(X, Y), **calls}, repeats=options.repeats)
            for depth in options.depths:
                mine = times[str(depth)]
                yield {
                    "dtype": dtype,
                    "d": d,
                    "depth": depth,
                    "product ms": milliseconds(times[PRODUCT]),
                    "ntk ms": milliseconds(mine),
                    "ratio": mine.ratio(times[PRODUCT]),
                    "quartiles": mine.spread(times[PRODUCT]),
                    **verdict(mine.ratio(times[PRODUCT]), PRODUCT_GOAL.get(d)),
                    "over first depth": mine.ratio(times[str(options.depths[0])]),
                }


def symmetric(options: Options) -> Iterator[Row]:
    """Compare ntk(X) with ntk(X, Y), depth 3."""
    kernel = nf.FullyConnected(3).ntk
    for dtype in options.dtypes:
        for d in options.dims:
            X, Y = pair(options.n, d, dtype)
            calls = {
                PRODUCT: product_of(X, Y),
                "rectangular": partial(kernel, X, Y),
                "symmetric": partial(kernel, X),
            }
            times = measure(calls, repeats=options.repeats)
            ratio = times["symmetric"].ratio(times["rectangular"])
            yield {
                "dtype": dtype,
                "d": d,
                "rectangular ms": milliseconds(times["rectangular"]),
                "symmetric ms": milliseconds(times["symmetric"]),
                "ratio": ratio,
                "quartiles": times["symmetric"].spread(times["rectangular"]),
                **verdict(ratio, SYMMETRIC_GOAL if d == 784 else None),
                "over product": times["symmetric"].ratio(times[PRODUCT]),
            }


def layers(options: Options) -> Iterator[Row]:
    """Time the layer map (biases, unequal norms): core nanoseconds per pair and layer."""
    d, shallow, deep = 10, 3, 10
    for dtype in options.dtypes:
        X, Y = pair(options.n, d, dtype)
        for activation in ("relu", "erf", "gelu"):
            kernels = {depth: layered(depth, activation) for depth in (shallow, deep)}
            for isa in native.available_isas():
                with native.force_isa(isa):
                    calls = {str(depth): partial(k, X, Y) for depth, k in kernels.items()}
                    times = measure(calls, repeats=options.repeats)
                share = 1e9 * options.threads / (len(X) * len(Y))
                first, last = (times[str(depth)] for depth in (shallow, deep))
                per_layer = share * (last.median - first.median) / (deep - shallow)
                whole = share * last.median / deep
                relu64 = activation == "relu" and dtype == "float64"
                yield {
                    "dtype": dtype,
                    "activation": activation,
                    "isa": isa,
                    f"depth {shallow} ms": milliseconds(first),
                    f"depth {deep} ms": milliseconds(last),
                    f"ns, depth {shallow}": share * first.median / shallow,
                    f"ns, depth {deep}": whole,
                    "ns, one more layer": per_layer,
                    **verdict(whole, LAYER_GOAL.get(isa) if relu64 else None),
                }


def engines(options: Options) -> Iterator[Row]:
    """Compare every engine and instruction set with the best one, d = 100, depth 3."""
    numba_reason = load_engine("numba").unavailable()
    if numba_reason:
        print(f"engine numba: {numba_reason}", file=sys.stderr)
    maps = {"profile": nf.FullyConnected(3).ntk, "layers": layered(3)}
    for dtype in options.dtypes:
        X, Y = pair(options.n, 100, dtype)
        for name, kernel in maps.items():
            calls: dict[str, Callable[[], object]] = {PRODUCT: product_of(X, Y)}
            for isa in native.available_isas():
                calls[isa] = partial(forced, kernel, isa, X, Y)
            if not numba_reason:
                calls["numba"] = partial(kernel, X, Y, engine="numba")
            times = measure(calls, repeats=options.repeats)
            best = native.active_isa()
            for contender in list(calls)[1:]:
                ratio = times[contender].ratio(times[best])
                yield {
                    "dtype": dtype,
                    "map": name,
                    "engine": contender,
                    "ms": milliseconds(times[contender]),
                    "over product": times[contender].ratio(times[PRODUCT]),
                    f"over {best}": ratio,
                    "quartiles": times[contender].spread(times[best]),
                    **verdict(ratio, ENGINE_GOAL if contender == "numba" else None),
                }


def forced(kernel: Any, isa: str, X: np.ndarray, Y: np.ndarray) -> np.ndarray:
    """Evaluate with one instruction set."""
    with native.force_isa(isa):
        return kernel(X, Y, engine="native")


def tiled_product(X: np.ndarray, Y: np.ndarray, V: np.ndarray, tile: int = 2048) -> np.ndarray:
    """Return X Y' V by BLAS on tiles: the flops of a matrix-free product with no kernel in it."""
    out = np.zeros((len(X), V.shape[1]), V.dtype)
    buffer = np.empty((tile, tile), V.dtype)
    for i in range(0, len(X), tile):
        rows = X[i : i + tile]
        for j in range(0, len(Y), tile):
            columns = Y[j : j + tile]
            block = buffer.ravel()[: len(rows) * len(columns)].reshape(len(rows), len(columns))
            np.matmul(rows, columns.T, out=block)
            out[i : i + tile] += block @ V[j : j + tile]
    return out


def matmul(options: Options) -> Iterator[Row]:
    """Compare ntk.matmul(X, Y, V), d = 100, 10 columns, with the same flops by BLAS on tiles."""
    n, d, columns = options.matmul_n, 100, 10
    kernel = nf.FullyConnected(3).ntk
    for dtype in options.dtypes:
        X, Y = pair(n, d, dtype)
        V = gaussian_rows(n, columns, dtype, seed=3)
        calls = {
            "tiles": partial(tiled_product, X, Y, V),
            "matmul": partial(kernel.matmul, X, Y, V),
        }
        times = measure(calls, repeats=options.repeats, warmup=0 if n > 20_000 else 1)
        ratio = times["matmul"].ratio(times["tiles"])
        extra = probe("matmul", n, d, dtype, options)
        yield {
            "dtype": dtype,
            "n = m": n,
            "BLAS on tiles s": times["tiles"].median,
            "matmul s": times["matmul"].median,
            "ratio": ratio,
            "quartiles": times["matmul"].spread(times["tiles"]),
            **verdict(ratio, MATMUL_GOAL),
            "peak MB beyond input, output": extra,
            **{f"{key} (MB)": value for key, value in verdict(extra, MATMUL_MEGABYTES).items()},
        }


def memory(options: Options) -> Iterator[Row]:
    """Measure the peak memory of a Gram matrix beyond the inputs and the result."""
    d = 100
    for dtype in options.dtypes:
        result = options.peer_n**2 * np.dtype(dtype).itemsize / 1e6
        for task in ("gram", "symmetric", "layers"):
            extra = probe(task, options.peer_n, d, dtype, options)
            yield {
                "dtype": dtype,
                "task": task,
                "n = m": options.peer_n,
                "result MB": result,
                "beyond MB": extra,
                "share": extra / result,
                **verdict(extra / result, MEMORY_GOAL),
            }


def duplicates(options: Options) -> Iterator[Row]:
    """Time near-duplicate rows, depth 3: such pairs are recomputed from differences."""
    kernel = nf.FullyConnected(3).ntk
    for dtype in options.dtypes:
        for d in options.dims:
            data = near_duplicates(options.n, d, dtype)
            calls = {name: partial(kernel, *rows) for name, rows in data.items()}
            times = measure(calls, repeats=options.repeats)
            for name in list(data)[1:]:
                yield {
                    "dtype": dtype,
                    "d": d,
                    "rows": name,
                    "distinct ms": milliseconds(times["distinct"]),
                    "ms": milliseconds(times[name]),
                    "ratio": times[name].ratio(times["distinct"]),
                    "quartiles": times[name].spread(times["distinct"]),
                }


def near_duplicates(n: int, d: int, dtype: str) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return data without near-duplicates, with one for every row, and with nothing else."""
    X, Y = pair(n, d, dtype)
    noise = np.array(1e-4, dtype) * Y
    groups = X[: max(n // 100, 1)].repeat(-(-n // max(n // 100, 1)), axis=0)[:n]
    return {
        "distinct": (X, Y),
        "a twin of each": (X, X + noise),
        "100 of each": (groups, groups + noise),
        "all one cluster": (X[:1] + noise[::-1], X[:1] + noise),
    }


def peers(options: Options) -> Iterator[Row]:
    """Compare peers with ntkfast in time and value, d = 100 (scikit-ntk: both on (X, X))."""
    n, d = options.peer_n, 100
    for name in options.peers:
        for dtype in options.dtypes:
            X, Y = pair(n, d, dtype)
            for depth in options.peer_depths:
                with Peer(name, n, d, depth, dtype, options) as peer:
                    yield peer_row(peer, X, None if name == "scikit-ntk" else Y, options)


def peer_row(peer: Peer, X: np.ndarray, Y: np.ndarray | None, options: Options) -> Row:
    """Time one peer, interleaved with ntkfast and the product."""
    row: Row = {"peer": peer.name, "dtype": peer.dtype, "depth": peer.depth}
    if peer.error:
        return row | {"note": peer.error}
    kernel = nf.FullyConnected(peer.depth).ntk
    columns = X if Y is None else Y
    calls = {
        PRODUCT: product_of(X, columns),
        "ntkfast": partial(kernel, X, Y),
        "peer": peer.run,
    }
    times = measure(calls, repeats=options.repeats)
    exact = kernel(X[:4].astype(np.float64), columns[4:8].astype(np.float64))
    goal = PEER_GOAL.get((peer.name, peer.dtype, peer.depth))
    goal = goal or PEER_GOAL.get((peer.name, peer.dtype, None))
    slower = times["peer"].ratio(times["ntkfast"])
    return row | {
        "product ms": milliseconds(times[PRODUCT]),
        "ntkfast ms": milliseconds(times["ntkfast"]),
        "peer ms": milliseconds(times["peer"]),
        "times slower": slower,
        "quartiles": times["peer"].spread(times["ntkfast"]),
        **verdict(slower, goal, least=True),
        "first call s": peer.first_call,
        "largest difference": float(np.max(np.abs(peer.sample / exact - 1))),
        "note": " ".join(f"{package} {number}" for package, number in peer.versions.items()),
    }


SECTIONS: dict[str, Callable[[Options], Iterable[Row]]] = {
    "product": product,
    "symmetric": symmetric,
    "layers": layers,
    "engines": engines,
    "duplicates": duplicates,
    "memory": memory,
    "matmul": matmul,
    "peers": peers,
}


# ----------------------------------------------------------------------------- other processes


class Peer:
    """A running bench/peers.py: one peer that is evaluated when asked."""

    def __init__(self, name: str, n: int, d: int, depth: int, dtype: str, options: Options) -> None:
        self.name, self.depth, self.dtype = name, depth, dtype
        command = [str(options.peers_python), str(HERE / "peers.py"), name, "--dtype", dtype]
        numbers = {"n": n, "d": d, "depth": depth, "threads": options.threads}
        command += [text for key, value in numbers.items() for text in (f"--{key}", str(value))]
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        ready = self._read()
        self.error = ready.get("error", "")
        self.first_call = ready.get("first_call", 0.0)
        self.sample = np.array(ready.get("sample", []))
        self.versions: dict[str, str] = ready.get("versions", {})

    def __enter__(self) -> Peer:
        """Return the peer itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the process."""
        self.process.communicate("quit\n" if self.process.poll() is None else None)

    def run(self) -> float:
        """Evaluate once; the caller's clock sees the peer's own time plus one pipe round trip."""
        assert self.process.stdin is not None
        print("run", file=self.process.stdin, flush=True)
        answer = self._read()
        if "error" in answer:
            raise RuntimeError(f"{self.name}: {answer['error']}")
        return float(answer["seconds"])

    def _read(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            return {"error": f"the process ended with code {self.process.wait()}"}
        answer: dict[str, Any] = json.loads(line)
        return answer


def probe(task: str, n: int, d: int, dtype: str, options: Options) -> float:
    """Return the peak megabytes beyond input and output of a task, in a process of its own."""
    arguments = ["--probe", task, "--n", n, "--dims", d, "--dtypes", dtype]
    arguments += ["--threads", options.threads]
    command = [sys.executable, __file__, *map(str, arguments)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(done.stdout)


def run_probe(options: Options) -> None:
    """Print how far the resident memory rises above input and output while a task runs."""
    d, dtype, task = options.dims[0], options.dtypes[0], options.probe
    X, Y = pair(options.n, d, dtype)
    V = gaussian_rows(options.n, 10, dtype, seed=3)
    kernel = layered(3) if task == "layers" else nf.FullyConnected(3).ntk
    columns = V.shape[1] if task == "matmul" else options.n
    out = np.ones((options.n, columns), dtype)

    def run(rows: int) -> None:
        x, y, target = X[:rows], Y[:rows], out[:rows]
        if task == "matmul":
            kernel.matmul(x, y, V[:rows], out=target)
        elif rows < options.n:
            kernel(x, None if task == "symmetric" else y)
        else:
            kernel(x, None if task == "symmetric" else y, out=target)

    with limited(options.threads):
        run(64)  # libraries, thread stacks and the compiled profile are there once and for all
        before = peak_megabytes(reset=True)
        run(options.n)
        print(peak_megabytes() - before)


def peak_megabytes(reset: bool = False) -> float:
    """Return the peak of the resident memory, on Linux since the last reset."""
    status = Path("/proc/self/status")
    if not status.exists():
        import resource  # here: Windows has neither

        unit = 1e6 if sys.platform == "darwin" else 1e3
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1.024e-3


# -------------------------------------------------------------------------------------- output


def machine(options: Options) -> dict[str, Any]:
    """Return what the numbers depend on."""
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "cpu": cpu_model(),
        "cores": cores(),
        "threads": options.threads,
        "instruction sets": list(native.available_isas()),
        "system": platform.platform(),
        "python": platform.python_version(),
        "packages": {name: installed(name) for name in ("ntkfast", "numpy", "scipy", "numba")},
        "blas": blas(),
        "load average before": load(),
    }


def cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cpu_model() -> str:
    """Return the name of the processor."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text().splitlines() if file.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def installed(package: str) -> str:
    """Return the version of a package."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"


def blas() -> str:
    """Return which BLAS multiplies for NumPy."""
    try:
        from threadpoolctl import threadpool_info
    except ImportError:
        return "unknown (threadpoolctl is not installed)"
    pools = [pool for pool in threadpool_info() if pool["user_api"] == "blas"]
    return ", ".join(
        f"{pool['internal_api']} {pool['version']} ({pool.get('architecture', '?')})"
        for pool in pools
    )


def load() -> list[float]:
    """Return the load averages of 1, 5 and 15 minutes."""
    return [round(value, 2) for value in os.getloadavg()] if hasattr(os, "getloadavg") else []


def cell(value: Any) -> str:
    """Write one number, pair of quartiles or text of a table."""
    if value is None:
        return ""
    if isinstance(value, tuple):
        return " - ".join(map(cell, value))
    if isinstance(value, float):
        return f"{value:.0f}" if value >= 1000 else f"{value:.3g}"
    return str(value)


def markdown(rows: list[Row]) -> str:
    """Write rows as a Markdown table; every row may have columns of its own."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    lines = [columns, ["---"] * len(columns)]
    lines += [[cell(row.get(key)) for key in columns] for row in rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


# ---------------------------------------------------------------------------------------- main


def integers(text: str) -> list[int]:
    """Read ``1,3,10``."""
    return [int(part) for part in text.split(",")]


def names_of(known: Iterable[str]) -> Callable[[str], list[str]]:
    """Return a reader of comma-separated names."""
    allowed = list(known)

    def read(text: str) -> list[str]:
        chosen = text.split(",")
        unknown = [name for name in chosen if name not in allowed]
        if unknown:
            raise argparse.ArgumentTypeError(f"expected some of {','.join(allowed)}, got {text}")
        return chosen

    return read


def parse(arguments: list[str] | None = None) -> Options:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--sections", type=names_of(SECTIONS), default=list(SECTIONS), help=",".join(SECTIONS))
    add("--n", type=int, default=4000, help="rows of X and of Y (default: 4000)")
    add("--dims", type=integers, default=[10, 100, 784], help="default: 10,100,784")
    add("--depths", type=integers, default=[1, 3, 10, 100], help="default: 1,3,10,100")
    add("--dtypes", type=names_of(("float32", "float64")), default=["float32", "float64"])
    add("--repeats", type=int, default=7, help="rounds (default: 7)")
    add("--threads", type=int, default=2, help="threads of everybody (default: 2)")
    add("--matmul-n", type=int, default=100_000, help="rows in the section matmul")
    add("--peer-n", type=int, default=5000, help="rows in the sections peers and memory")
    add("--peer-depths", type=integers, default=[1, 3, 10], help="default: 1,3,10")
    add("--peers", type=names_of(PEERS), default=list(PEERS), help=",".join(PEERS))
    add("--peers-python", type=Path, default=Path(sys.executable), help="interpreter of the peers")
    add("--quick", action="store_true", help="n = 500, 3 rounds, one peer depth")
    add("--save", type=Path, help="JSON file (default: bench/results-<date>.json)")
    add("--probe", choices=("gram", "symmetric", "layers", "matmul"), help=argparse.SUPPRESS)
    if parser.parse_known_args(arguments)[0].quick:
        small = {"n": 500, "peer_n": 500, "matmul_n": 5000, "repeats": 3, "peer_depths": [3]}
        parser.set_defaults(**small)
    return parser.parse_args(arguments)


def main() -> None:
    """Measure the chosen sections, print their tables, save all numbers."""
    options = parse()
    if options.probe:
        run_probe(options)
        return
    facts = machine(options)
    for key, value in facts.items():
        print(f"- {key}: {value}")
    results: dict[str, list[Row]] = {}
    with limited(options.threads):
        for name in options.sections:
            section = SECTIONS[name]
            rows = list(section(options))
            results[name] = rows
            missed = sum("no" in row.values() for row in rows)
            print(f"\n### {name}\n\n{section.__doc__}\n\n{markdown(rows)}")
            print(f"\n{missed} of {len(rows)} rows miss their goal." if missed else "", flush=True)
    facts["load average after"] = load()
    print(f"\n- load average after: {facts['load average after']}")
    path = options.save or HERE / f"results-{datetime.date.today().isoformat()}.json"
    path.write_text(json.dumps({"machine": facts, "results": results}, indent=1) + "\n")
    print(f"- all numbers: {path}")


if __name__ == "__main__":
    main()
