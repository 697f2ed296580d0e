"""Strides, shapes, shortcuts, pools, activations, LayerNorm and heads of networks on images.

Against the recursion on the full covariance (image_oracle.py), tables of neural-tangents, and what
must hold whatever the numbers are. Wide finite networks: test_realization.py.
"""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

import ntkfast as nf
from image_oracle import Double, Oracle
from ntkfast.kernels.parameters import changed
from test_convolutional import EPS, FILE, LAST, ROUNDINGS, B, W

Conv, Skip = nf.Conv, nf.Skip
DOWN = Skip(
    *("relu", Conv(3, 1.2, 0.1, stride=2), "relu", Conv(3, 0.9)),
    shortcut=Conv(1, 1.1, stride=2),
)
BLOCK = Skip("relu", Conv(3, 1.2, 0.1), "relu", Conv(3, 0.9))
FLAT: dict[str, Any] = {"readout": "flatten"}
NETWORKS: dict[str, Any] = {
    "stride": nf.ConvNet(Conv(3, 1.3, 0.2, stride=2), "relu", Conv(3, 1.2, 0.1), "relu"),
    "strides": nf.ConvNet(
        *(Conv(3, 1.3, 0.2), "relu", Conv(3, 1.2, 0.1, stride=2), "relu"),
        *(Conv(2, 1.0, stride=2), "relu"),
    ),
    "even": nf.ConvNet(Conv(2, 1.3, 0.2), "relu", Conv(4, 1.2, 0.1), "relu"),
    "unequal": nf.ConvNet(
        *(Conv((2, 3), 1.3, 0.2, stride=(1, 2)), "relu"),
        *(Conv((3, 1), 1.2, 0.1, stride=(2, 1)), "relu"),
    ),
    "valid": nf.ConvNet(
        Conv((2, 3), 1.3, 0.2, "valid", stride=2), "relu", Conv((1, 2), 1.2, 0.1), "relu"
    ),
    "numbers": nf.ConvNet(
        *(Conv(3, 1.3, 0.2, ((1, 2), (0, 3))), "relu", Conv(2, 1.2, 0.1, 2, stride=2), "relu")
    ),
    "grows": nf.ConvNet(
        *(Conv(2, 1.3, 0.2, 4), "relu", Conv(1, 1.2, 0.1, 1), "relu"),
        *(Conv(2, 1.1, stride=2), "relu"),
    ),
    "leaves-out": nf.ConvNet(Conv(1, 1.3, 0.2, stride=3), "relu", Conv(3), "relu"),
    "circular": nf.ConvNet(
        *(Conv(3, 1.3, 0.2, "circular"), "relu"),
        *(Conv(3, 1.2, 0.1, "circular", stride=(2, 3)), "relu"),
    ),
    "lap": nf.ConvNet(
        Conv(3, 1.3, 0.2, stride=2), "relu", Conv(), "relu", readout=nf.Readout("lap", 3)
    ),
    "shortcut": nf.ConvNet(Conv(3, 1.3, 0.2), DOWN, BLOCK, "relu"),
    "shortcuts": nf.ConvNet(
        *(Conv(3, 1.3, 0.2), Skip("relu", Conv(3, 1.0), shortcut=("relu", Conv(1, 0.7, 0.3)))),
        *("relu", Skip(Conv(2, 1.0, stride=2), shortcut=Conv(2, 1.0, stride=2)), "relu"),
        **FLAT,
    ),
    "nested": nf.ConvNet(
        Conv(3, 1.3, 0.2),
        Skip("relu", Conv(3, 1.0), DOWN, shortcut=(Skip("relu", Conv()), Conv(3, stride=2))),
        "relu",
    ),
    "overlap": nf.ConvNet(
        Conv(3, 1.3, 0.2), "relu", nf.AvgPool(3, 2, "zero"), Conv(3, 1.2, 0.1), "relu"
    ),
    "pools": nf.ConvNet(
        *(Conv(3, 1.3, 0.2), "relu", nf.AvgPool((2, 3), 1), Conv(3, 1.2, 0.1, stride=2), "relu"),
        *(nf.SumPool((2, 1), (1, 1)),),
        **FLAT,
    ),
    "sums": nf.ConvNet(
        *(Conv(3, 1.3, 0.2), "relu", nf.SumPool(3, 2, 1), Conv(3, 1.2, 0.1, stride=2), "relu")
    ),
    "layernorm": nf.ConvNet(
        *(Conv(3, 1.3, 0.2, stride=2), nf.LayerNorm(), "relu", Conv(3, 1.2, 0.1)),
        *(nf.LayerNorm("all"), "relu", Conv()),
    ),
    "series": nf.ConvNet(Conv((1, 3), 1.3, 0.2, stride=(1, 2)), "relu", Conv((1, 3)), "relu"),
}
ACTIVATIONS = {
    **{name: (1.1, 0.8) for name in ("leaky_relu(0.2)", "abs", "erf", "sigmoid_like", "gelu")},
    **{name: (1.1, 0.8) for name in ("sin", "cos", "rbf(0.5)", "gaussian")},
    "exp": (0.3, 0.2),
}
for _name, (_one, _two) in ACTIVATIONS.items():
    NETWORKS[_name] = nf.ConvNet(
        Conv(3, _one, 0.2), _name, Conv(3, _two, 0.1, stride=2), _name, Conv(2, 0.5), _name
    )
NETWORKS["step"] = nf.ConvNet(Conv(3, 1.1, 0.2), "step", Conv(3, 0.8, 0.1, stride=2), "relu")
NETWORKS["all-of-it"] = nf.ConvNet(
    *(Conv(3, 1.1, 0.2), Skip("gelu", Conv(3, 0.8, stride=2), shortcut=Conv(1, 0.5, stride=2))),
    *(nf.LayerNorm(), "erf", nf.AvgPool(2, 1), Conv(2, 0.8, 0.1), "sin"),
    **FLAT,
)
NETWORKS["gates"] = nf.ConvNet(
    Conv(3, 1.1, 0.2),
    nf.Multiply((Conv(3, 0.8, 0.1, stride=2), "relu"), Conv(2, 1.3, stride=2)),
    *(Conv(3, 0.9), nf.Multiply((), ("relu", Conv(2)), Conv(1, 0.5))),
    *(Conv(2, 1.2, 0.1), "relu"),
)
NETWORKS["branches"] = nf.ConvNet(
    Conv(3, 1.1, 0.2),
    nf.Add(("erf", Conv(3, 0.8, stride=2)), Conv(1, 0.5, stride=2), ("relu", Conv(2, stride=2))),
    nf.Concatenate(
        *("relu", ("erf", Conv(3), nf.Add("relu", (Conv(2, 0.7, 0.1), nf.LayerNorm())))),
        shares=(1, 3),
    ),
    *(Conv(2, 0.9), nf.Add((), ("relu", Conv()), ("relu", Conv(2, 0.4))), "relu"),
)
SHAPES = {"circular": (4, 6), "series": (1, 7), "strides": (6, 5), "sums": (6, 5), "nested": (5, 4)}
QUICK = ("stride", "shortcut", "overlap", "gelu")
# All formulas of activations are compiled for each dtype, half a minute on the Numba engine: one of
# the two does there, as they do not differ in images.
SMOOTH = (*ACTIVATIONS, "step", "all-of-it", "branches")


def case(name: str) -> tuple[np.ndarray, dict[str, tuple[float, float]]]:
    """Two images, the second the first but for some pixels, and all their kernels."""
    h, w = SHAPES.get(name, (4, 3))
    X = np.random.default_rng(len(name)).standard_normal((2, h, w, 2))
    X[1, : h // 2] = X[0, : h // 2]
    X = X.astype(np.float32).astype(np.float64)
    return X, Oracle().all(NETWORKS[name], X[0], X[1])


@pytest.fixture(scope="module")
def cases() -> dict[str, Any]:
    """Keep what the oracle found, once for all engines."""
    return {}


@pytest.mark.grid(1)
@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] * (n not in QUICK)) for n in NETWORKS]
)
def test_oracle(
    engine: dict[str, Any],
    name: str,
    dtype: Any,
    cases: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Pairs, Gram matrices and diagonals against 40 digits."""
    if engine["engine"] == "numba" and name in SMOOTH and dtype is np.float32:
        pytest.skip("compiled for float64")
    if name not in cases:
        cases[name] = case(name)
    X, exact = cases[name]
    net, images = NETWORKS[name], X.astype(dtype)
    steps = len(net.plan(X.shape[1:]).steps)
    crossed = net.both(images[:1], images[1:], **engine)
    grams = net.both(images, **engine)
    monkeypatch.setenv("NTKFAST_ENGINE", engine["engine"])
    for k, kernel in enumerate((net.nngp, net.ntk)):
        own = np.array([exact["xx"][k], exact["yy"][k]])
        allowed = ROUNDINGS * steps * EPS[dtype] * np.sqrt(np.outer(own, own))
        if any(isinstance(step, nf.AvgPool) for step in net.steps()):  # angles are differences
            allowed[0, 1] = allowed[1, 0] = allowed[0, 1] * 64
        wanted = np.array([[own[0], exact["xy"][k]], [exact["xy"][k], own[1]]])
        assert np.all(np.abs(grams[k] - wanted) <= allowed), np.abs(grams[k] - wanted) / allowed
        assert abs(crossed[k][0, 0] - wanted[0, 1]) <= allowed[0, 1]
        assert np.all(np.abs(kernel.diag(images) - own) <= np.diag(allowed))
        assert np.array_equal(grams[k], grams[k].T)


# ---- neural-tangents ----------------------------------------------------------------------------


def _c(size: Any = 3, stride: Any = 1, padding: Any = "zero") -> nf.Conv:
    return Conv(size, W, B, padding, stride=stride)


def _last(kind: str = "gap") -> nf.Readout:
    return nf.Readout(kind, **LAST)


RESIDUAL = Skip("relu", _c(), "relu", _c())
DENSE = nf.Dense(W, B)
PEERS: dict[str, Any] = {
    "stride": nf.ConvNet(_c(3, 2), "relu", _c((2, 3), (1, 2)), "relu", readout=_last()),
    "even": nf.ConvNet(_c((2, 4)), "relu", _c((4, 2), (2, 1)), "relu", readout=_last()),
    "valid-stride": nf.ConvNet(
        _c((3, 2), (2, 1), "valid"), "relu", _c((1, 2), (1, 2)), readout=_last()
    ),
    "circular-stride": nf.ConvNet(
        _c(3, 1, "circular"), "relu", _c(3, 2, "circular"), "relu", readout=_last()
    ),
    "projection": nf.ConvNet(
        _c(),
        Skip("relu", _c(3, 2), "relu", _c(), shortcut=_c(1, 2)),
        *(RESIDUAL, "relu"),
        readout=_last(),
    ),
    "wide-resnet": nf.wide_resnet(10),
    "overlapping-pool": nf.ConvNet(
        _c(), "relu", nf.AvgPool(3, 2, "zero"), _c(), "relu", readout=_last()
    ),
    "sum-pool": nf.ConvNet(
        _c(), "relu", nf.SumPool((2, 3), 1), _c(), "relu", readout=_last("flatten")
    ),
    "layernorm": nf.ConvNet(
        *(_c(), nf.LayerNorm(), "relu", _c(), nf.LayerNorm("all"), "relu"), readout=_last()
    ),
    "head": nf.ConvNet(_c(), "relu", readout=_last("flatten"), head=("erf", DENSE, "relu", DENSE)),
    "head-gap": nf.ConvNet(_c(), "gelu", readout=_last(), head=("relu", DENSE)),
    "gate": nf.ConvNet(
        *(_c(), nf.Multiply(_c(3, (2, 1)), ("relu", _c((2, 3), (2, 1)))), _c(), "relu"),
        readout=_last(),
    ),
    "branches": nf.ConvNet(
        *(_c(), nf.Add(("relu", _c(3, 2)), _c(1, 2), ("erf", _c(2, 2)))),
        *(nf.Concatenate("relu", "erf"), _c(), "relu"),
        readout=_last(),
    ),
} | {
    name: nf.ConvNet(_c(), word, _c(3, 2), word, readout=_last())
    for name, word in {
        "leaky": "leaky_relu(0.3)",
        "rbf": "rbf(0.5)",
        **{same: same for same in ("erf", "gelu", "sin", "abs")},
    }.items()
}


@pytest.mark.parametrize("name", PEERS)
def test_neural_tangents(name: str) -> None:
    """The file that bench/make_image_fixtures.py wrote with neural-tangents 0.6.5.

    Its LayerNorm adds 1e-12 to variances.
    """
    with np.load(FILE) as file:
        X, Y, values = file["X"], file["Y"], file["values"]
        nngp, ntk = values[list(file["names"]).index(name)]
    limit = 1e-11 if name == "layernorm" else 3e-13
    for kernel, expected in ((PEERS[name].nngp, nngp), (PEERS[name].ntk, ntk)):
        np.testing.assert_allclose(kernel(X, Y), expected, rtol=limit)


def test_parameters_have_names() -> None:
    net = nf.ConvNet(Conv(3, 1.2), "relu", head=("relu", nf.Dense()))
    assert list(net.get_params())[:2] == ["elements", "readout"]
    assert changed(net, {"readout": nf.Readout("flatten")}).readout.kind == "flatten"
    assert type(net)(*net.get_params()["elements"], head=net.head) == net
    model = nf.regression.KernelRidge(net).set_params(kernel__network__channels="first")
    assert model.kernel.channels == "first"


# ---- properties ---------------------------------------------------------------------------------

X = np.random.default_rng(0).standard_normal((3, 6, 4, 2))


def test_stride_of_one_pixel_picks_pixels() -> None:
    """A stride in a 1 x 1 convolution is the same as leaving pixels out before."""
    for kind in ("gap", "flatten"):
        strided = nf.ConvNet(Conv(1, 1.2, 0.1, stride=2), "relu", Conv(), "relu", readout=kind)
        plain = nf.ConvNet(Conv(1, 1.2, 0.1), "relu", Conv(), "relu", readout=kind)
        np.testing.assert_allclose(strided.ntk(X), plain.ntk(X[:, ::2, ::2]), rtol=1e-13)


def test_pool_of_the_whole_image_is_global() -> None:
    """As are sums of all pixels, but for their number."""
    conv = (Conv(), "relu")
    pool = nf.ConvNet(*conv, nf.AvgPool((6, 4)), readout="flatten")
    mean = nf.ConvNet(*conv, readout="gap")
    total = nf.ConvNet(*conv, nf.SumPool((6, 4)), readout="flatten")
    np.testing.assert_allclose(pool.ntk(X), mean.ntk(X), rtol=1e-13)
    np.testing.assert_allclose(total.ntk(X), 24**2 * mean.ntk(X), rtol=1e-13)


def test_pools_and_strides_commute() -> None:
    """Means of means, pools of one pixel, and images that are turned around a circle."""
    first = (Conv(1, 1.2, 0.1), "relu")
    Z = X[:, :4, :4]
    for pool in (nf.AvgPool, nf.SumPool):
        twice = nf.ConvNet(*first, pool(2), pool(2), Conv(1), "erf").ntk
        once = nf.ConvNet(*first, pool(4), Conv(1), "erf").ntk
        np.testing.assert_allclose(twice(Z), once(Z), rtol=1e-12)
    picked = nf.ConvNet(*first, nf.AvgPool(1, 2), Conv(), "relu").ntk
    strided = nf.ConvNet(Conv(1, 1.2, 0.1, stride=2), "relu", Conv(), "relu").ntk
    np.testing.assert_allclose(picked(Z), strided(Z), rtol=1e-12)
    circle = nf.ConvNet(Conv(3, 1.2, 0.1, "circular"), "relu", Conv(3, padding="circular"), "gelu")
    turned = np.roll(Z, (1, 2), axis=(1, 2))
    np.testing.assert_allclose(circle.ntk(turned), circle.ntk(Z), rtol=1e-12)
    np.testing.assert_allclose(circle.ntk(turned, Z), circle.ntk(Z), rtol=1e-12)


def test_layernorm_forgets_sizes() -> None:
    """Multiples of an image, or of pixels, have one kernel."""
    whole = nf.ConvNet(Conv(), nf.LayerNorm("all"), "gelu", Conv(), "erf")
    pixels = nf.ConvNet(Conv(1), nf.LayerNorm(), "gelu", Conv(), "erf")
    sizes = np.random.default_rng(1).uniform(0.2, 5, X.shape[:3])[..., None]
    # the NTK alone has no reason to: its first layer divides the tangents too
    np.testing.assert_allclose(whole.nngp(3.0 * X), whole.nngp(X), rtol=1e-12)
    np.testing.assert_allclose(pixels.nngp(sizes * X), pixels.nngp(X), rtol=1e-12)
    assert np.all(np.isfinite(whole.ntk(np.zeros_like(X))))


def test_equal_pixels_have_equal_entries() -> None:
    """Equal images to the bit, in both dtypes, through all kinds of steps."""
    for name in ("shortcut", "pools", "all-of-it"):
        for kind in (np.float32, np.float64):
            images = np.stack([X[0, :4, :3], X[1, :4, :3], X[0, :4, :3]]).astype(kind)
            K = NETWORKS[name].ntk(images)
            assert K[0, 2] == K[0, 0] == K[2, 2]
            # not K[0, 1] == K[1, 2]: pools add the planes of an image and another in reverse there
            one, other = NETWORKS[name].ntk(images[::2], images[1:2])
            assert one == other


def test_head_is_dense() -> None:
    """On images of one pixel all is a dense network, whatever the read-out; and its diagonal."""
    Z = np.random.default_rng(2).standard_normal((5, 1, 1, 7))
    head = ("erf", nf.Dense(0.9, 0.2), nf.Residual("relu", nf.Dense()), nf.Dense(1.2))
    net = nf.ConvNet(Conv(1, 1.3, 0.1), "gelu", readout=nf.Readout("gap", None, 1.1), head=head)
    dense = nf.compose(nf.Dense(1.3, 0.1), "gelu", nf.Dense(1.1), *head)
    rows = Z.reshape(5, 7)
    for one, other in ((net.ntk, dense.ntk), (net.nngp, dense.nngp)):
        np.testing.assert_allclose(one(Z), other(rows), rtol=1e-11)
        np.testing.assert_allclose(one.diag(Z), np.diag(one(Z)), rtol=1e-12)
        np.testing.assert_allclose(one(Z[:2], Z[1:]), other(rows[:2], rows[1:]), rtol=1e-11)
        single = one(Z.astype(np.float32))
        assert np.array_equal(single, single.T)
        np.testing.assert_allclose(single, one(Z), rtol=2e-5)
    assert pickle.loads(pickle.dumps(net)) == net
    assert "head=(Erf" in repr(net)


@pytest.mark.slow
def test_head_of_a_function() -> None:
    """A function without a closed form has its average taken behind the read-out."""
    Z = np.random.default_rng(2).standard_normal((4, 1, 1, 7))
    head = (np.tanh, nf.Dense(1.2, 0.1))
    net = nf.ConvNet(Conv(1, 1.3, 0.1), "gelu", head=head)
    dense = nf.compose(nf.Dense(1.3, 0.1), "gelu", nf.Dense(), *head)
    np.testing.assert_allclose(net.ntk(Z), dense.ntk(Z.reshape(4, 7)), rtol=1e-9)


@pytest.mark.parametrize(
    ("make", "counts"), [(nf.resnet, {20: 19 + 2}), (nf.wide_resnet, {16: 13 + 3, 28: 25 + 3})]
)
def test_presets(make: Any, counts: dict[int, int]) -> None:
    """As many convolutions as the depth says without its read-out, and those of shortcuts."""
    from ntkfast.networks.steps import each_step

    for depth, count in counts.items():
        net = make(depth)
        assert sum(isinstance(step, Conv) for step in each_step(net.elements)) == count
        levels = net.plan((32, 32, 3)).levels
        assert (levels["height"][-1], levels["width"][-1]) == (8, 8)
    with pytest.raises(ValueError, match="depth: expected"):
        make(21)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Conv(2, padding="circular"), "filter_size: expected odd numbers for padding="),
        (lambda: Conv((2, 3, 4)), "filter_size: expected one integer or two"),
        (lambda: Conv(stride=0), "stride: expected an integer >= 1"),
        (lambda: Conv(padding="same"), "padding: expected one of"),
        (lambda: Conv(padding=((1, 1),)), "padding: expected pairs for rows and for columns"),
        (lambda: Conv(padding=-1), "padding: expected an integer >= 0"),
        (lambda: nf.LayerNorm("pixels"), "over: expected one of"),
        (lambda: Skip("relu", nf.AvgPool()), "Skip: expected no pool in a branch"),
        (lambda: nf.ConvNet(Conv(), "tanhh"), "steps: expected Conv, AvgPool, SumPool"),
        (lambda: nf.ConvNet(Conv(), "relu", nf.LayerNorm()), "steps: expected a Conv before Layer"),
        (
            lambda: nf.ConvNet(Conv(), Skip("relu", Conv(), shortcut="relu"), "relu"),
            "before relu, got a signal that holds the output of relu",
        ),
        (
            lambda: nf.ConvNet(Conv(), Skip("relu", shortcut="erf"), Conv()),
            "is correlated with its shortcut",
        ),
        (lambda: nf.ConvNet(Conv(), head=("relu", "relu")), "elements: expected a Dense before"),
    ],
)
def test_bad_networks(make: Any, message: str) -> None:
    """Errors name the parameter."""
    with pytest.raises((TypeError, ValueError), match=message):
        make()


@pytest.mark.parametrize(
    ("net", "message"),
    [
        (nf.ConvNet(Conv(5, padding="valid")), "expected windows of at most 4 columns"),
        (nf.ConvNet(Conv(3, padding="circular", stride=4)), "stride: expected a divisor of 6"),
        (
            nf.ConvNet(Conv(), Skip("relu", Conv(stride=2))),
            "makes the pixels that the identity has, got 3 x 2 beside 6 x 4",
        ),
        (
            nf.ConvNet(Conv(), Skip("relu", Conv(stride=2), shortcut=Conv(1, stride=3))),
            "that the shortcut makes, got 3 x 2 beside 2 x 2",
        ),
        (
            nf.ConvNet(Conv(), Skip(Conv(stride=2), shortcut=Conv((4, 3), padding="valid"))),
            "Skip: expected equal strides on both ways, got 2 in the branch and 1 in the shortcut",
        ),
        (nf.ConvNet(Conv(), nf.AvgPool(7, 1)), "AvgPool: expected windows of at most 6 rows"),
    ],
)
def test_bad_images(net: Any, message: str) -> None:
    """What does not fit is refused with the numbers."""
    with pytest.raises(ValueError, match=message):
        net.ntk(X)


def test_larger_images() -> None:
    """Strides and shortcuts on images of more rows and columns than windows, in float64."""
    x, y = np.random.default_rng(5).standard_normal((2, 9, 6, 1))
    for name in ("shortcut",):
        wanted = Oracle(Double())(NETWORKS[name], x, y)
        assert NETWORKS[name].ntk(x[None], y[None])[0, 0] == pytest.approx(wanted[1], rel=1e-12)
