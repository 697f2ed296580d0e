"""ReLU and its relatives, and the step, on a row of pairs; mirrors rectified.hpp."""

from __future__ import annotations

from ntkfast.engines.numba.compiling import compiled
from ntkfast.engines.numba.formulas.arccos import arc_cosine
from ntkfast.engines.numba.formulas.pair_state import put
from ntkfast.engines.numba.formulas.simd import load, real, select, wide
from ntkfast.engines.numba.problem import WIDTH, Array


@compiled
def relu_layer(a: float, b: float, state: Array, start: int) -> None:
    """Apply ReLU and its relatives: A kappa1 + B u and A kappa0 + B, over A + B."""
    wide()
    like = load(state, 0)
    a_, b_, two = real(like, a / (a + b)), real(like, b / (a + b)), real(like, 2)
    if b == 0:
        for j in range(start, WIDTH):
            kappa0, _, _, defect = arc_cosine(load(state, j), load(state, WIDTH + j))
            put(state, j, defect, two - defect, load(state, 2 * WIDTH + j) * kappa0)
        return
    is_even = b < 0
    for j in range(start, WIDTH):
        w, co = load(state, j), load(state, WIDTH + j)
        kappa0, _, kappa1, defect = arc_cosine(w, co)
        # Behind the right angle, where one end may be small: of abs, which is even, 1 - K; of a
        # nearly linear function 1 + K.
        even = (a_ + two * b_) - (kappa1 * a_ + co * b_)
        odd = a_ + (kappa1 * a_ + co * b_)
        behind = select(is_even, even, two - odd)
        front = w < co
        defect = select(front, defect * a_ + w * b_, behind)
        rest = select(is_even, two - defect, select(front, two - defect, odd))
        put(state, j, defect, rest, load(state, 2 * WIDTH + j) * (kappa0 * a_ + b_))


@compiled
def step_layer(a: float, b: float, state: Array, start: int) -> None:
    """Apply the step: a + b (2 kappa0 - 1), over a + b."""
    wide()
    like = load(state, 0)
    share, rest, zero = real(like, 2 * b / (a + b)), real(like, 2 * a / (a + b)), real(like, 0)
    for j in range(start, WIDTH):
        kappa0, turn, _, _ = arc_cosine(load(state, j), load(state, WIDTH + j))
        put(state, j, share * turn, rest + share * kappa0, zero)
