"""Writes tests/data/neural_tangents_images.npz: kernels of small networks on images, in float64.

Run once with the environment that ``bench/make_neural_tangents_fixtures.py`` describes, from the
repository root: ``peers/bin/python bench/make_image_fixtures.py``. The file holds ``X`` and ``Y``,
3 and 2 images of (6, 4, 2), exactly representable in float32; ``names``, and for each the NNGP and
NTK ``values`` (cases, 2, 3, 2); ``pins``, the versions. `tests/test_convolutional.py` rebuilds the
networks by name.
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
    pins = {name: version(name) for name in ("neural-tangents", "jax", "jaxlib", "numpy")}
    np.savez_compressed(
        TARGET, X=x, Y=y, names=names, values=np.array(values), pins=json.dumps(pins)
    )
    print(f"wrote {TARGET.name}: {len(names)} cases")


if __name__ == "__main__":
    main()
