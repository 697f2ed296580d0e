"""Writes tests/data/neural_tangents_images.npz: kernels of small networks on images, in float64.

Run once with the environment that ``bench/make_neural_tangents_fixtures.py`` describes, from the
repository root: ``peers/bin/python bench/make_image_fixtures.py``. The file holds ``X`` and ``Y``,
3 and 2 images of (6, 4, 2), exactly representable in float32; ``names``, and for each the NNGP and
NTK ``values`` (cases, 2, 3, 2); ``pins``, the versions; of networks with dropout, ``dropout NAME``,
the NNGP and NTK of X with itself, (2, 3, 3). `tests/test_convolutional.py` and
`tests/test_dropout.py` rebuild the networks by name.
"""

from __future__ import annotations

import json
import sys
import types
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import numpy as np

sys.modules["neural_tangents.experimental"] = types.ModuleType("neural_tangents.experimental")
from neural_tangents import stax  # noqa: E402

TARGET = Path(__file__).resolve().parent.parent / "tests" / "data" / "neural_tangents_images.npz"
W, B = 1.3, 0.2


def networks() -> dict[str, Any]:
    """Return the networks of neural-tangents by name."""
    conv = partial(stax.Conv, 1, (3, 3), padding="SAME", W_std=W, b_std=B)
    plain = partial(stax.Conv, 1, (3, 3), padding="SAME", W_std=2.0**0.5)
    pool = stax.AvgPool((2, 2), strides=(2, 2))
    residual = stax.serial(
        stax.FanOut(2),
        stax.parallel(stax.serial(stax.Relu(), conv(), stax.Relu(), conv()), stax.Identity()),
        stax.FanInSum(),
    )
    flat, mean = (stax.Flatten(), stax.GlobalAvgPool())

    def shaped(size: tuple[int, int], strides: tuple[int, int], padding: str = "SAME") -> Any:
        return stax.Conv(1, size, strides, padding=padding, W_std=W, b_std=B)

    def block(main: Any, shortcut: Any) -> Any:
        return stax.serial(stax.FanOut(2), stax.parallel(main, shortcut), stax.FanInSum())

    def group(strides: tuple[int, int]) -> Any:  # of the WideResnet of the README, one block
        main = (stax.Relu(), stax.Conv(1, (3, 3), strides, "SAME"))
        main += (stax.Relu(), stax.Conv(1, (3, 3), padding="SAME"))
        return block(stax.serial(*main), stax.Conv(1, (3, 3), strides, "SAME"))

    projection = block(
        stax.serial(stax.Relu(), shaped((3, 3), (2, 2)), stax.Relu(), conv()),
        shaped((1, 1), (2, 2)),
    )
    gate = stax.serial(stax.Relu(), shaped((2, 3), (2, 1)))
    three = stax.parallel(
        stax.serial(stax.Relu(), shaped((3, 3), (2, 2))),
        shaped((1, 1), (2, 2)),
        stax.serial(stax.Erf(), shaped((2, 2), (2, 2))),
    )
    activations = {
        "erf": stax.Erf(),
        "gelu": stax.Gelu(),
        "sin": stax.Sin(),
        "leaky": stax.LeakyRelu(0.3),
        "abs": stax.Abs(),
        "rbf": stax.Rbf(0.5),
    }
    last, last_plain = stax.Dense(1, W, B), stax.Dense(1, 2.0**0.5)
    return {
        "flatten": stax.serial(conv(), stax.Relu(), conv(), stax.Relu(), flat, last),
        "gap": stax.serial(conv(), stax.Relu(), conv(), stax.Relu(), mean, last),
        "gap-plain": stax.serial(*[plain(), stax.Relu()] * 3, mean, last_plain),
        "valid": stax.serial(conv(padding="VALID"), stax.Relu(), conv(), stax.Relu(), mean, last),
        "circular": stax.serial(*[conv(padding="CIRCULAR"), stax.Relu()] * 2, mean, last),
        "residual": stax.serial(conv(), residual, residual, stax.Relu(), mean, last),
        "pool": stax.serial(conv(), stax.Relu(), pool, conv(), stax.Relu(), flat, last),
        "pool-gap": stax.serial(
            conv(), stax.Relu(), conv(), pool, stax.Relu(), conv(), stax.Relu(), mean, last
        ),
        "stride": stax.serial(
            shaped((3, 3), (2, 2)), stax.Relu(), shaped((2, 3), (1, 2)), stax.Relu(), mean, last
        ),
        "even": stax.serial(
            shaped((2, 4), (1, 1)), stax.Relu(), shaped((4, 2), (2, 1)), stax.Relu(), mean, last
        ),
        "valid-stride": stax.serial(
            shaped((3, 2), (2, 1), "VALID"), stax.Relu(), shaped((1, 2), (1, 2)), mean, last
        ),
        "circular-stride": stax.serial(
            *[shaped((3, 3), (1, 1), "CIRCULAR"), stax.Relu()],
            *[shaped((3, 3), (2, 2), "CIRCULAR"), stax.Relu(), mean, last],
        ),
        "projection": stax.serial(conv(), projection, residual, stax.Relu(), mean, last),
        "wide-resnet": stax.serial(
            stax.Conv(1, (3, 3), padding="SAME"),
            *[group((1, 1)), group((2, 2)), group((2, 2)), mean, stax.Dense(1, 1.0, 0.0)],
        ),
        "overlapping-pool": stax.serial(
            *[conv(), stax.Relu(), stax.AvgPool((3, 3), (2, 2), "SAME")],
            *[conv(), stax.Relu(), mean, last],
        ),
        "sum-pool": stax.serial(
            conv(), stax.Relu(), stax.SumPool((2, 3)), conv(), stax.Relu(), flat, last
        ),
        "layernorm": stax.serial(
            *[conv(), stax.LayerNorm(), stax.Relu(), conv(), stax.LayerNorm((1, 2, 3))],
            *[stax.Relu(), mean, last],
        ),
        "head": stax.serial(
            conv(), stax.Relu(), flat, last, stax.Erf(), stax.Dense(1, W, B), stax.Relu(), last
        ),
        "head-gap": stax.serial(conv(), stax.Gelu(), mean, last, stax.Relu(), last),
        "gate": stax.serial(
            *[conv(), stax.FanOut(2), stax.parallel(shaped((3, 3), (2, 1)), gate)],
            *[stax.FanInProd(), conv(), stax.Relu(), mean, last],
        ),
        "branches": stax.serial(
            *[conv(), stax.FanOut(3), three, stax.FanInSum(), stax.FanOut(2)],
            *[stax.parallel(stax.Relu(), stax.Erf()), stax.FanInConcat(-1), conv()],
            *[stax.Relu(), mean, last],
        ),
    } | {
        name: stax.serial(conv(), one, shaped((3, 3), (2, 2)), one, mean, last)
        for name, one in activations.items()
    }


def with_dropout() -> dict[str, Any]:
    """Return networks with masks, of which images with themselves have one."""
    conv = partial(stax.Conv, 1, (3, 3), padding="SAME")
    last = stax.GlobalAvgPool(), stax.Dense(1, 1.0, 0.0)
    return {
        "kinks": stax.serial(
            *(conv(W_std=1.3, b_std=0.1), stax.Relu(), stax.Dropout(0.7)),
            *(conv(W_std=1.2, b_std=0.0), stax.Relu(), *last),
        ),
        "pools": stax.serial(
            *(conv(W_std=1.3, b_std=0.1), stax.Gelu(), stax.Dropout(0.7), stax.AvgPool((2, 2))),
            *(conv(strides=(2, 2), W_std=1.2, b_std=0.0), stax.Erf(), stax.Dropout(0.8), *last),
        ),
    }


def main() -> None:
    """Compute and write all cases."""
    jax.config.update("jax_enable_x64", True)
    random = np.random.default_rng(20240902)
    images = random.standard_normal((5, 6, 4, 2)).astype(np.float32).astype(np.float64)
    x, y = images[:3], images[3:]
    names, values = [], []
    for name, (_, _, kernel) in networks().items():
        found = kernel(x, y, ("nngp", "ntk"))
        names.append(name)
        values.append([np.asarray(found.nngp), np.asarray(found.ntk)])
    dropped = {}
    for name, (_, _, kernel) in with_dropout().items():
        found = kernel(x, None, ("nngp", "ntk"))
        dropped[f"dropout {name}"] = np.array([found.nngp, found.ntk])
    pins = {name: version(name) for name in ("neural-tangents", "jax", "jaxlib", "numpy")}
    np.savez_compressed(
        TARGET, X=x, Y=y, names=names, values=np.array(values), pins=json.dumps(pins), **dropped
    )
    print(f"wrote {TARGET.name}: {len(names)} cases")


if __name__ == "__main__":
    main()
