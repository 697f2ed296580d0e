"""Holds results of two versions together bit for bit: every kernel of the tests, engine and dtype.

    python bench/bits.py --save before.json      # with the version before a change installed
    python bench/bits.py --compare before.json   # with the version after it

A file has one digest for each result: Gram matrices, products and diagonals of all cases of
``tests/cases.py`` on their special pairs, sequences, images, spectra, features, what kernels print,
and the fingerprints by which batch jobs know their input. Digests are comparable on one machine.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import cases
import ntkfast as nf
from ntkfast.batch.job import Job
from ntkfast.engines import native

DTYPES = (np.float32, np.float64)
DIMENSIONS = (7, 100)

Result = tuple[str, Any]


def digest(value: Any) -> str:
    """Digest of the bytes of an array, or of a text."""
    if isinstance(value, str):
        return hashlib.sha256(value.encode()).hexdigest()[:16]
    array = np.ascontiguousarray(value)
    head = f"{array.dtype.str}{array.shape}".encode()
    return hashlib.sha256(head + array.tobytes()).hexdigest()[:16]


def engines() -> Iterator[tuple[str, Any, dict[str, str]]]:
    """Yield a name, a context and the keywords of each engine and instruction set."""
    for isa in native.available_isas():
        yield f"native-{isa}", native.force_isa(isa), {"engine": "native"}
    yield "numba", nf.threadpool_limits(2), {"engine": "numba"}


def matrices(kernel: Any, x: Any, y: Any, keywords: dict[str, str]) -> Iterator[Result]:
    """Yield what a kernel gives for two collections of inputs."""
    yield "symmetric", kernel(x, **keywords)
    yield "rectangular", kernel(x, y, **keywords)
    v = np.random.default_rng(7).standard_normal((len(y), 3)).astype(x.dtype)
    yield "product", kernel.matmul(x, y, v, **keywords)


def rows() -> Iterator[Result]:
    """Kernels of rows: every case, dimension, dtype and engine."""
    for case in cases.CASES:
        yield f"{case.name}/repr", repr(case.kernel)
        yield f"{case.name}/profile", case.kernel.profile(np.linspace(-1, 1, 41), 1.25)
        for dimension in DIMENSIONS:
            for dtype in DTYPES:
                x, y = cases.special_pairs(dtype, dimension, case.radius)
                place = f"{case.name}/{dimension}/{np.dtype(dtype)}"
                yield f"{place}/diag", case.kernel.diag(x)
                job = Job(case.kernel, x, y, np.dtype(dtype), "native", 1)
                yield f"{place}/fingerprint", json.dumps(job.fingerprint(Path("K.npy")))
                for name, context, keywords in engines():
                    with context:
                        for what, found in matrices(case.kernel, x, y, keywords):
                            yield f"{place}/{name}/{what}", found


def sequences() -> Iterator[Result]:
    """Kernels of sequences: activations, read-outs, directions."""
    generator = np.random.default_rng(3)
    for activation in ("relu", "erf", "gelu", "sin", "leaky_relu(0.1)", "gaussian"):
        for readout in ("last", "average", "average_normalized", "average_released"):
            network = nf.Recurrent(
                2,
                activation=activation,
                readout=readout,
                direction="bidirectional",
                u_std=0.5,
                b_std=0.1,
                h_std=0.2,
            )
            for kind in ("ntk", "nngp"):
                yield from others(
                    f"rnn-{activation}-{readout}-{kind}",
                    getattr(network, kind),
                    generator.standard_normal((6, 5, 2)),
                    generator.standard_normal((4, 7, 2)),
                )


def images() -> Iterator[Result]:
    """Kernels of images: read-outs, paddings, pools and branches."""
    generator = np.random.default_rng(5)
    x, y = generator.standard_normal((5, 8, 8, 3)), generator.standard_normal((4, 8, 8, 3))
    networks: dict[str, Any] = {"myrtle": nf.myrtle(5)}
    for readout, window in (("flatten", None), ("gap", None), ("lap", 3)):
        for padding in ("zero", "valid", "circular"):
            networks[f"{readout}-{padding}"] = nf.Convolutional(
                2, readout=readout, window=window, padding=padding
            )
        networks[f"{readout}-bias"] = nf.Convolutional(
            3, readout=readout, window=window, parameterization="ntk", b_std=0.2
        )
    block = nf.Skip("relu", nf.Conv(), "relu", nf.Conv())
    networks["skip"] = nf.ConvNet(nf.Conv(), block, nf.AvgPool(), block, "relu")
    for name, network in networks.items():
        for kind in ("ntk", "nngp"):
            yield from others(f"cnn-{name}-{kind}", getattr(network, kind), x, y)


def others(name: str, kernel: Any, x: Any, y: Any) -> Iterator[Result]:
    """Kernels of something else than rows."""
    yield f"{name}/repr", repr(kernel)
    for dtype in DTYPES:
        left, right = x.astype(dtype), y.astype(dtype)
        yield f"{name}/{np.dtype(dtype)}/diag", kernel.diag(left)
        for engine, context, keywords in engines():
            with context:
                for what, found in matrices(kernel, left, right, keywords):
                    yield f"{name}/{np.dtype(dtype)}/{engine}/{what}", found


def spectra() -> Iterator[Result]:
    """Mercer spectra of every case, in three dimensions."""
    for case in cases.CASES:
        for dim in (2, 3, 10):
            try:
                found = nf.spectrum.mercer(case.kernel, dim, 60, radius=1.0)
            except ValueError as error:
                yield f"mercer/{case.name}/{dim}", str(error)
                continue
            yield f"mercer/{case.name}/{dim}", found.log_mass
            yield f"mercer/{case.name}/{dim}/error", found.error


def features() -> Iterator[Result]:
    """Feature maps whose draws are reproducible bit for bit."""
    X = np.random.default_rng(11).standard_normal((40, 70))
    maps: dict[str, Callable[[], Any]] = {
        "arccosine": lambda: nf.features.ArcCosineFeatures(1, n_components=64, random_state=0),
        "ntk": lambda: nf.features.NTKRandomFeatures(depth=2, n_components=128, random_state=0),
        "gegenbauer": lambda: nf.features.GegenbauerFeatures(
            nf.FullyConnected(3).ntk, 64, random_state=0
        ),
        "dual": lambda: nf.features.DualActivationFeatures(
            nf.FullyConnected(3).ntk, 128, random_state=0
        ),
        "srht": lambda: nf.features.SRHT(32, random_state=0),
    }
    for name, make in maps.items():
        yield f"features/{name}", make().fit_transform(X)


def everything() -> dict[str, str]:
    """Digests of all results by their names."""
    parts = (rows, sequences, images, spectra, features)
    return {name: digest(value) for part in parts for name, value in part()}


def main() -> int:
    """Save digests, or compare with saved ones."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    choice = parser.add_mutually_exclusive_group(required=True)
    choice.add_argument("--save", type=Path, metavar="FILE")
    choice.add_argument("--compare", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    found = everything()
    if arguments.save:
        arguments.save.write_text(json.dumps(found, indent=0))
        print(f"{arguments.save}: {len(found)} results")
        return 0
    before = json.loads(arguments.compare.read_text())
    differing = sorted(name for name in before if found.get(name) != before[name])
    for name in differing:
        print(f"{name}: {'differs' if name in found else 'is gone'}")
    print(f"{len(before) - len(differing)} of {len(before)} results are the same bit for bit")
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
