"""The Numba engine: mirrors the C++ engine in Python for installations without the extension.

Numba is imported and the code compiled at the first call; compiled code is kept in Numba's cache.
The compiled functions are in `ntkfast.engines.numba_kernels`, `numba_hadamard` and
`numba_image`; here are the preparation of their arguments and the threads, which live for one call:
nothing to break on fork, no idle pool.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from functools import lru_cache, partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.lib.recfunctions import structured_to_unstructured
from numpy.typing import NDArray

from ntkfast.arrays.collections import FloatArray, Rows
from ntkfast.engines.maps import (
    ANSWERS,
    NEURONS,
    PIECES,
    ImagePlan,
    LayerMap,
    Map,
    NeuronMap,
    ProfileMap,
    RadialMap,
    Rotation,
    ScaledImages,
    SequenceMap,
    SequenceSide,
    StructuredMap,
)
from ntkfast.engines.norms import reference_row_norms as row_norms
from ntkfast.kernels.profile import REFINE_LEAST

if TYPE_CHECKING:
    from ntkfast.engines import numba_image
    from ntkfast.engines import numba_kernels as kernels

__all__ = [
    "hadamard",
    "images",
    "matmul",
    "row_norms",
    "run",
    "sequences",
    "sketch",
    "structured",
    "unavailable",
]

POLL = 0.02  # seconds between looks for Ctrl-C
WORTH_THREADS = 2e6  # about a millisecond of work: below it a thread costs more than it gains
HADAMARD_TASK = 1 << 16  # entries
SUMS_BYTES = 1 << 20  # of a product's sums that a thread keeps


def unavailable() -> str:
    """Return why the engine cannot run here, or an empty string."""
    return "" if find_spec("numba") is not None else "the package numba is not installed"


# ---- views --------------------------------------------------------------------------------------


class _Memory:
    """The memory that a matrix spans as a flat array; writable by type, so that one type does."""

    def __init__(self, matrix: FloatArray, offset: int = 0) -> None:
        height, width = matrix.shape
        item = matrix.itemsize
        span = (height - 1) * matrix.strides[0]
        self.owner = matrix
        self.__array_interface__ = {
            "version": 3,
            "data": (matrix.ctypes.data + min(span, 0) + offset, False),
            "typestr": matrix.dtype.str,
            "shape": (abs(span) // item + width,),
        }


def _flat(matrix: FloatArray) -> tuple[FloatArray, int, int]:
    """Return flat memory, the position of entry (0, 0) and the stride of rows."""
    if not matrix.size:
        return np.empty(0, matrix.dtype), 0, 0
    stride = matrix.strides[0] // matrix.itemsize if len(matrix) > 1 else matrix.shape[1]
    first = max(0, -stride) * (len(matrix) - 1)
    return np.asarray(_Memory(matrix)), first, stride


def _zeros(count: int, dtype: Any) -> NDArray[Any]:
    """Allocate a buffer that starts at a cache line."""
    size = np.dtype(dtype).itemsize
    raw = np.zeros(count + 64 // size, dtype)
    skip = -raw.ctypes.data % 64 // size
    return raw[skip : skip + count]


# ---- plans --------------------------------------------------------------------------------------


@lru_cache(maxsize=64)
def _fine_table(plan: ProfileMap) -> tuple[NDArray[Any], int, int]:
    """Cut the pieces of a profile until a few coefficients suffice.

    Looking up coefficients costs more here than in C++, where a table row fits in registers. The
    pieces are those of the profile, cut in 2^k equal parts by k more bits of the mantissa.

    Returns
    -------
    table, shift, pieces
        See `numba_kernels.ProfilePlan`.
    """
    from ntkfast.engines import numba_kernels as kernels

    dtype = plan.table.dtype
    size = 8 * dtype.itemsize
    degree, row = kernels.FINE_DEGREE[size], kernels.FINE_STRIDE[size]
    mantissa = 52 if size == 64 else 23
    per_octave = 1 << plan.sub_bits
    order = np.arange(PIECES)
    octave = np.longdouble(2) ** (order // per_octave)
    width = octave / per_octave
    left = octave * (1 + (order % per_octave) / np.longdouble(per_octave)) - 1
    placed = ((1023 << plan.sub_bits) + order) % PIECES
    exact = plan.table.astype(np.longdouble)
    for bits in range(1, 9):
        fine = np.zeros((2, PIECES << bits, row), dtype)
        error = 0.0
        for side in range(2):
            part, lost = _cut(exact[:, 8 * side + placed], width, 1 << bits, degree)
            at = (placed[:, None] << bits) + np.arange(1 << bits)
            fine[side, at, : degree + 1] = part
            right = (left + width) / plan.stretch[side]
            error = max(error, float(np.max(lost * right)))
        if error < float(np.finfo(dtype).eps) / 8:
            break
    return fine.ravel(), mantissa - plan.sub_bits - bits, PIECES << bits


def _cut(
    table: NDArray[Any], width: NDArray[Any], parts: int, degree: int
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Cut every polynomial on [0, width] into `parts` of `degree`; and the largest errors."""
    count = degree + 1
    angle = (np.arange(count) + np.longdouble(0.5)) * (np.longdouble(np.pi) / count)
    nodes = np.concatenate([(np.cos(angle) + 1) / 2, [0, 1]])
    h = (width / parts)[:, None, None]
    x = h * (np.arange(parts)[:, None] + nodes)
    values = np.zeros_like(x)
    for coefficient in table:
        values = values * x + coefficient[:, None, None]
    # Divided differences, then Newton's form to powers of the distance to the left edge.
    points = nodes[:count]
    newton = values[..., :count].copy()
    for level in range(1, count):
        step = points[level:] - points[: count - level]
        newton[..., level:] = (newton[..., level:] - newton[..., level - 1 : -1]) / step
    powers = np.zeros_like(newton)
    for k in range(degree, -1, -1):
        shifted = np.zeros_like(powers)
        shifted[..., 1:] = powers[..., :-1]
        powers = shifted - powers * points[k]
        powers[..., 0] += newton[..., k]
    check = np.zeros_like(values[..., count:])
    for k in range(degree, -1, -1):
        check = check * nodes[count:] + powers[..., k, None]
    lost = np.max(np.abs(check - values[..., count:]), axis=(1, 2))
    powers /= h ** np.arange(count)
    return powers[..., ::-1], lost


def _table(plan: ProfileMap) -> tuple[NDArray[Any], int, int, int]:
    """Return table, degree, shift and pieces of `numba_kernels.ProfilePlan`."""
    from ntkfast.engines import numba_kernels as kernels

    degree = len(plan.table) - 1
    if not kernels.permutes():
        table, shift, pieces = _fine_table(plan)
        return table, degree, shift, pieces
    mantissa = 52 if plan.table.itemsize == 8 else 23
    aligned = _zeros(plan.table.size, plan.table.dtype)
    aligned[:] = plan.table.ravel()
    return aligned, degree, mantissa - plan.sub_bits, PIECES


def _numbers(plan: ProfileMap) -> NDArray[Any]:
    return np.array([*plan.stretch, *plan.base, plan.scale], plan.table.dtype)


def _prepared(plan: Map, second: Map | None, dtype: np.dtype[Any]) -> Any:
    """Return the plan as compiled code wants it."""
    from ntkfast.engines import numba_kernels as kernels

    if isinstance(plan, ProfileMap):
        other = second if isinstance(second, ProfileMap) else plan
        return kernels.ProfilePlan(*_table(plan), _numbers(plan), *_table(other), _numbers(other))
    if isinstance(plan, RadialMap):
        power = int(plan.gamma) if plan.gamma in (1, 2) else 0
        return kernels.RadialPlan(np.array([plan.c, plan.gamma], dtype), power, plan.euclidean)
    if isinstance(plan, NeuronMap):
        kind, (rows, knots) = NEURONS.index(plan.kind), plan.table.shape
        return kernels.NeuronPlan(kind, plan.table.ravel(), knots, rows > 1, dtype.type(plan.scale))
    layers = structured_to_unstructured(plan.numbers, np.float64)
    stats = kernels.count_stats(layers)
    # A trained bias that starts at 0 (y without e) gives an NTK to inputs of zero variance, which
    # t / sqrt(q p) cannot carry: they count as inputs of a norm far below rounding.
    floor = np.any((plan.numbers["y"] != 0) & (plan.numbers["e"] == 0))
    return kernels.LayersPlan(
        layers,
        stats,
        1e-18 if floor else 0.0,
        np.array(plan.scales, dtype),
    )


def _power(norms: FloatArray, power: float) -> FloatArray:
    """Return powers computed in float64; an inverse that overflows is 0, like that of zero."""
    with np.errstate(divide="ignore", over="ignore"):
        result = (norms.astype(np.float64) ** power).astype(norms.dtype)
    return np.where(np.isfinite(result), result, 0) if power < 0 else result


def _side(rows: Rows, degree: float) -> kernels.Side:
    """Return a side's rows and what depends on them alone."""
    from ntkfast.engines import numba_kernels as kernels

    norms = np.array(rows.norms)
    series = np.empty((1, 1), norms.dtype) if rows.series is None else rows.series
    diagonal = np.empty((0, 2), norms.dtype) if rows.diagonal is None else rows.diagonal
    return kernels.Side(
        *_flat(rows.data),
        len(rows),
        norms,
        _power(norms, -1.0),
        _power(norms, degree),
        np.array(series, order="C"),
        np.array(diagonal, order="C"),
    )


def _sides(plan: Map, X: Rows, Y: Rows | None) -> tuple[kernels.Side, kernels.Side]:
    degree = 0.0 if isinstance(plan, LayerMap) else plan.degree
    left = _side(X, degree)
    return left, left if Y is None else _side(Y, degree)


def _refine(plan: Map, second: Map | None, dtype: np.dtype[np.floating]) -> tuple[float, float]:
    """Return the (1-|u|)/2 below which pairs are recomputed from differences, at either end."""
    if isinstance(plan, NeuronMap):
        return 0.0, 0.0
    if isinstance(plan, RadialMap):
        return (0.02 if plan.euclidean else 0.005), 0.0
    if isinstance(plan, LayerMap):
        # Smooth activations gain nothing from small angles: only equal rows must come out equal.
        limit = 0.02 if plan.refine else REFINE_LEAST[dtype]
        return limit, limit
    front, back = plan.refine_below
    if isinstance(second, ProfileMap):
        front, back = max(front, second.refine_below[0]), max(back, second.refine_below[1])
    return front, back


def _is_euclidean(plan: Map) -> bool:
    return isinstance(plan, RadialMap) and plan.euclidean


# ---- running ------------------------------------------------------------------------------------


def _target(out: FloatArray | None, dtype: np.dtype[Any]) -> kernels.Target:
    from ntkfast.engines import numba_kernels as kernels

    if out is None:
        return kernels.Target(False, np.empty(0, dtype), 0, 0)
    return kernels.Target(True, *_flat(out))


def _scratch(problem: kernels.Problem, plan: Any) -> kernels.Scratch:
    from ntkfast.engines import numba_kernels as kernels

    dtype = problem.x.data.dtype
    width, columns = kernels.WIDTH, problem.right.shape[1]
    stats = plan.stats if isinstance(plan, kernels.LayersPlan) else 0
    tile = kernels.ROWS * width
    panels = -(-columns // kernels.PANEL)
    return kernels.Scratch(
        packed=_zeros(width * problem.dimension, dtype),
        products=_zeros(tile, dtype),
        values=_zeros(tile if columns else 0, dtype),
        factors=_zeros(3 * width, dtype),
        lines=_zeros(kernels.EQUAL + width, dtype),
        columns=_zeros(stats * width, dtype),
        rows=_zeros(stats * kernels.ROWS, dtype),
        packed_right=_zeros(panels * kernels.PANEL * width, dtype),
        sums=_zeros(problem.chunk * columns, np.float64),
    )


def run(
    plan: Map,
    second: Map | None,
    X: Rows,
    Y: Rows | None,
    outs: tuple[FloatArray | None, FloatArray | None],
    threads: int,
    right: FloatArray | None = None,
    product: FloatArray | None = None,
) -> None:
    """Compute one or two Gram matrices, or the product of one with `right`."""
    from ntkfast.engines import numba_kernels as kernels

    dtype = X.data.dtype
    x, y = _sides(plan, X, Y)
    columns = 0 if right is None else right.shape[1]
    chunk = kernels.CHUNK
    if columns:
        fit = SUMS_BYTES // (8 * columns) // kernels.ROWS * kernels.ROWS
        chunk = min(max(fit, kernels.ROWS), chunk)
    front, back = _refine(plan, second, dtype)
    problem = kernels.Problem(
        x=x,
        y=y,
        dimension=X.data.shape[1],
        symmetric=Y is None,
        scaled=not (_is_euclidean(plan) or isinstance(plan, NeuronMap)),
        refine_front=dtype.type(front),
        refine_back=dtype.type(back),
        out=_target(outs[0], dtype),
        out_second=_target(outs[1], dtype),
        right=np.empty((0, 0), dtype) if right is None else np.array(right, order="C"),
        use_second=isinstance(plan, LayerMap) and plan.second,
        product=_target(product, dtype),
        chunk=chunk,
        cancelled=np.zeros(1, np.uint8),
    )
    prepared = _prepared(plan, second, dtype)
    tasks = -(-len(X) // chunk) * (1 if columns else -(-y.height // kernels.WIDTH))
    depth = 8 * len(plan.numbers) if isinstance(plan, LayerMap) else 0
    cost = len(X) * y.height * (problem.dimension + columns + depth + 16.0)
    _share(partial(_work, problem, prepared), problem.cancelled, tasks, threads, cost)


def _work(problem: kernels.Problem, plan: Any, tasks: Iterator[int]) -> None:
    """Do tasks until there are none."""
    from ntkfast.engines import numba_kernels as kernels

    run = kernels.product_task if problem.product.wanted else kernels.gram_task
    scratch, packed = _scratch(problem, plan), -1
    for task in tasks:
        if problem.cancelled[0]:
            return
        packed = run(problem, plan, scratch, task, packed)


Work = Callable[[Iterator[int]], None]


def _share(work: Work, cancelled: NDArray[Any], tasks: int, threads: int, cost: float) -> None:
    """Do the tasks here if they cost little, else on threads."""
    if cost < WORTH_THREADS:
        work(iter(range(tasks)))
    else:
        _in_threads(work, cancelled, tasks, min(threads, tasks))


def _in_threads(work: Work, cancelled: NDArray[Any], tasks: int, threads: int) -> None:
    """Share the tasks among threads; this one waits, and is open to Ctrl-C."""
    shared = iter(range(tasks))  # `next` is atomic
    with ThreadPoolExecutor(threads, "ntkfast") as pool:
        try:
            team = [pool.submit(work, shared) for _ in range(threads)]
            while wait(team, timeout=POLL, return_when=FIRST_EXCEPTION).not_done:
                if any(one.done() and one.exception() for one in team):
                    break
        except BaseException:
            cancelled[0] = 1
            raise
        cancelled[0] = 1
    for one in team:
        one.result()


def matmul(plan: Map, X: Rows, Y: Rows, V: FloatArray, out: FloatArray, threads: int) -> None:
    """Write K(X, Y) V to `out`."""
    run(plan, None, X, Y, (None, None), threads, V, out)


def hadamard(
    X: FloatArray, out: FloatArray, signs: FloatArray | None, scale: float, threads: int
) -> None:
    """Write scale (X * signs) H to `out`, which may be X."""
    from ntkfast.engines.numba_hadamard import transform_rows

    dtype, (height, width) = X.dtype, X.shape
    rows = max(1, HADAMARD_TASK // width)
    cancelled = np.zeros(1, np.uint8)
    views = (*_flat(X), *_flat(out))
    diagonal = np.ones(width, dtype) if signs is None else np.array(signs)

    def work(tasks: Iterator[int]) -> None:
        for task in tasks:
            if cancelled[0]:
                return
            begin, end = task * rows, min(task * rows + rows, height)
            transform_rows(*views, width, diagonal, dtype.type(scale), begin, end)

    _share(work, cancelled, -(-height // rows), threads, 8.0 * height * width)


def sketch(
    X: FloatArray,
    Y: FloatArray | None,
    out: FloatArray,
    left: Rotation,
    right: Rotation | None,
    scale: float,
    threads: int,
    step: bool = False,
) -> None:
    """Write scale times the rotation of the rows of X, or its product with that of Y, to `out`."""
    from ntkfast.engines import numba_hadamard

    run: Callable[..., None] = numba_hadamard.sketch_rows
    dtype, (height, width) = X.dtype, out.shape
    none = Rotation(np.empty(0, dtype), np.empty(0, np.int32 if dtype == np.float32 else np.int64))
    factors = [(X, left), (np.empty((1, 0), dtype) if Y is None else Y, right or none)]
    arguments: list[Any] = [
        part
        for rows, rotation in factors
        for part in (*_shared(rows), rows.shape[1], np.array(rotation.signs), rotation.index)
    ]
    size = sum(len(rotation.signs) for _, rotation in factors)
    ones = np.ones(max(len(rotation.signs) for _, rotation in factors), dtype)
    rows = max(1, HADAMARD_TASK // (size + width))
    cancelled = np.zeros(1, np.uint8)
    target = _flat(out)

    def work(tasks: Iterator[int]) -> None:
        scratch = _zeros(size, dtype)
        for task in tasks:
            if cancelled[0]:
                return
            begin, end = task * rows, min(task * rows + rows, height)
            run(*arguments, step, *target, ones, dtype.type(scale), scratch, begin, end)

    _share(work, cancelled, -(-height // rows), threads, 8.0 * height * (size + width))


def structured(plan: StructuredMap, X: FloatArray, out: FloatArray, threads: int) -> None:
    """Write the answers of structured neurons."""
    from ntkfast.engines import numba_hadamard

    run: Callable[..., None] = numba_hadamard.structured_rows
    dtype, (height, width), size = X.dtype, out.shape, plan.flips.shape[2]
    rows, cancelled = max(1, HADAMARD_TASK // width), np.zeros(1, np.uint8)
    lengths = np.asarray(plan.lengths * dtype.type(plan.scale)).ravel()
    flips = np.ascontiguousarray(plan.flips).reshape(-1, size)
    unit, answer = dtype.type(1) / np.sqrt(dtype.type(size)), ANSWERS.index(plan.answer)
    views = (*_flat(X), X.shape[1], *_flat(out), width)
    ones = np.ones(size, dtype)

    def work(tasks: Iterator[int]) -> None:
        scratch = _zeros(size, dtype)
        for task in tasks:
            if cancelled[0]:
                return
            begin, end = task * rows, min(task * rows + rows, height)
            numbers = dtype.type(plan.scale), unit, answer
            run(*views, flips, lengths, ones, *numbers, scratch, begin, end)

    _share(work, cancelled, -(-height // rows), threads, 24.0 * height * width)


def _shared(rows: FloatArray) -> tuple[FloatArray, int, int]:
    """Return a flat view in which a single row stands for all."""
    flat, first, stride = _flat(rows)
    return flat, first, 0 if len(rows) == 1 else stride


# ---- images -------------------------------------------------------------------------------------


def _net(plan: ImagePlan, dtype: np.dtype[Any]) -> numba_image.Net:
    """Return the plan as compiled code wants it."""
    from ntkfast.engines import numba_image

    steps = structured_to_unstructured(plan.steps, np.float64)
    op, size, slot, valid = steps[:, :4].astype(np.int64).T.copy()
    areas = plan.levels["height"] * plan.levels["width"]
    return numba_image.Net(
        op,
        size,
        slot,
        valid,
        steps[:, 4:].astype(dtype),
        np.column_stack([structured_to_unstructured(plan.levels), np.cumsum(areas) - areas]),
        plan.channels,
        plan.circular,
        plan.weight_h.astype(dtype),
        plan.weight_w.astype(dtype),
        plan.trained,
        plan.bias,
    )


def _pairs(plan: ImagePlan, level: int, reach: int) -> int:
    """At least the pixel pairs of all planes at a level; `reach` is the column of `levels`."""
    row = plan.levels[level]
    return int(np.prod([row[a] * min(2 * max(row[reach + a], 0) + 1, 2 * row[a]) for a in (0, 1)]))


def _image_work(plan: ImagePlan, dtype: np.dtype[Any]) -> numba_image.Work:
    """Return scratch memory of one thread."""
    from ntkfast.engines import numba_image

    lanes, height, width = numba_image.LANES, plan.levels["height"], plan.levels["width"]
    area, pixels = int(height[0] * width[0]), int(np.sum(height * width))
    kinds, sizes = plan.steps["operation"], plan.steps["size"]
    widest = int(max(1, *sizes[kinds == numba_image.CONV]))
    row = (int(width[0]) + widest) * lanes
    levels = np.flatnonzero(kinds == numba_image.POOL) + 1
    pooled = max(
        (_pairs(plan, int(level), reach) for level in levels for reach in (2, 4)), default=0
    )
    slots = numba_image.SLOTS * (area if numba_image.SAVE in kinds else 0)

    def side() -> numba_image.Pixels:
        shapes = area * plan.channels, pixels, pixels
        return numba_image.Pixels(*(_zeros(size * lanes, dtype) for size in shapes))

    plane, saved, ring = area * lanes, slots * lanes, (widest + widest // 2) * row
    s, v, t, *rest = (_zeros(size, dtype) for size in 3 * [plane] + 3 * [saved] + 3 * [ring])
    saved_s, saved_v, saved_t, ring_s, ring_v, ring_t = rest
    return numba_image.Work(
        left=side(),
        one=side(),
        right=side(),
        s=s,
        v=v,
        t=t,
        saved_s=saved_s,
        saved_v=saved_v,
        saved_t=saved_t,
        ring_s=ring_s,
        ring_v=ring_v,
        ring_t=ring_t,
        sums=_zeros(row, dtype),
        tangents=_zeros(row, dtype),
        store=(_zeros(2 * pooled * lanes, dtype), _zeros(2 * pooled * lanes, dtype)),
        differ=_zeros(lanes, dtype),
        total=np.zeros(2 * lanes),
    )


def images(
    plan: ImagePlan,
    X: ScaledImages,
    Y: ScaledImages | None,
    outs: tuple[FloatArray | None, FloatArray | None],
    diagonal: bool,
    threads: int,
) -> None:
    """Write NTK and NNGP of images, or of images with themselves as one column."""
    from ntkfast.engines import numba_image

    dtype, lanes, other = X.data.dtype, numba_image.LANES, X if Y is None else Y
    net, cancelled = _net(plan, dtype), np.zeros(1, np.uint8)
    left, right = (numba_image.Images(s.data, s.scale, s.factor) for s in (X, other))
    rows, columns = lanes, 1 if diagonal else -(-len(other) // lanes)
    while rows > 1 and not diagonal and -(-len(X) // rows) * columns < 8 * threads:
        rows //= 2
    blocks = -(-len(X) // rows)

    def write(scratch: numba_image.Work, i: Any, j: slice) -> None:
        """Write the results in the lanes to row i, or rows i of the diagonal."""
        count = j.stop - j.start
        tangent, total = np.split(scratch.total, 2)
        total = total[:count] + plan.bias
        values = tangent[:count] + plan.trained * total, total
        factors = X.factor[i].astype(np.float64) * other.factor[j].astype(np.float64)
        for out, value in zip(outs, values, strict=True):
            if out is None:
                continue
            if diagonal:
                out[j, 0] = factors * value
                continue
            first = max(i - j.start, 0) if Y is None else 0
            out[i, j.start + first : j.stop] = (factors * value)[first:]
            if Y is None:
                out[j.start + first : j.stop, i] = out[i, j.start + first : j.stop]

    def side(
        scratch: numba_image.Work, to: numba_image.Pixels, x: Any, part: slice, whole: bool
    ) -> None:
        numba_image.read_images(net, scratch, to, x, part.start, part.stop)
        numba_image.run_pair(net, scratch, to, to, True, whole, cancelled)

    def work(tasks: Iterator[int]) -> None:
        scratch, packed = _image_work(plan, dtype), -1
        for task in tasks:
            tile, begin = task // blocks, task % blocks * rows
            ours = slice(begin, min(begin + rows, len(X)))
            if diagonal:
                side(scratch, scratch.left, left, ours, True)
                write(scratch, ours, ours)
                continue
            theirs = slice(tile * lanes, min(tile * lanes + lanes, len(other)))
            if Y is None and begin >= theirs.stop:
                continue
            if packed != tile:
                side(scratch, scratch.right, right, theirs, False)
                packed = tile
            side(scratch, scratch.left, left, ours, False)
            for i in range(ours.start, ours.stop):
                if cancelled[0] or (Y is None and i >= theirs.stop):
                    break
                numba_image.pick_image(net, scratch, i - begin)
                pair = scratch.one, scratch.right
                numba_image.run_pair(net, scratch, *pair, False, True, cancelled)
                write(scratch, i, theirs)

    pairs = float(len(X)) * (1 if diagonal else len(other))
    cost = 16.0 * pairs * _pairs(plan, 0, 2) * len(plan.steps)
    _share(work, cancelled, blocks * columns, threads, cost)


# ---- sequences ----------------------------------------------------------------------------------


def _sequences_side(side: SequenceSide) -> kernels.SequencesSide:
    from ntkfast.engines import numba_kernels as kernels

    numbers = np.concatenate([part.ravel() for part in side.numbers])
    return kernels.SequencesSide(numbers, side.numbers[0].size, *map(np.array, side.layout))


def sequences(
    plan: SequenceMap, X: SequenceSide, Y: SequenceSide | None, out: FloatArray, threads: int
) -> None:
    """Write the kernel of a recurrent network to an array of any strides."""
    from ntkfast.engines import numba_kernels as kernels

    dtype, fields = X.dtype, X.numbers[0].shape[1]
    x = _sequences_side(X)
    y = x if Y is None else _sequences_side(Y)
    memory, first = _any_strides(out)
    problem = kernels.SequencesProblem(
        x=x,
        y=y,
        activation=structured_to_unstructured(plan.activation, np.float64),
        asked=kernels.activation_stats(int(plan.activation["kind"][0]), 0),
        layers=plan.layers,
        fixed=plan.fixed,
        channels=plan.channels,
        fields=fields,
        directions=len(X.numbers),
        every=plan.every,
        nngp=plan.nngp,
        symmetric=Y is None,
        diagonal=np.array(X.diagonal),
        out=memory,
        first=first,
        row=out.strides[0] // out.itemsize,
        column=out.strides[1] // out.itemsize,
        cancelled=np.zeros(1, np.uint8),
    )
    per_step = len(X.numbers) * fields

    def work(tasks: Iterator[int]) -> None:
        scratch, packed = (
            kernels.SequencesScratch(
                left=_zeros(per_step * kernels.ROWS * int(x.length[-1]), dtype),
                right=_zeros(per_step * kernels.WIDTH * int(y.length[-1]), dtype),
                lengths=np.zeros(kernels.WIDTH, np.int64),
                state=_zeros(kernels.EQUAL + kernels.WIDTH, dtype),
                lines=_zeros(2 * plan.layers * kernels.WIDTH, dtype),
                sums=_zeros(kernels.WIDTH, dtype),
            ),
            -1,
        )
        for task in tasks:
            if problem.cancelled[0]:
                return
            packed = kernels.sequences_task(problem, scratch, task, packed)

    count = -(-len(x.length) // kernels.ROWS) * -(-len(y.length) // kernels.WIDTH)
    cost = float(x.length.sum()) * len(y.length) * (8.0 * plan.layers + plan.channels)
    _share(work, problem.cancelled, count, threads, cost)


def _any_strides(out: FloatArray) -> tuple[FloatArray, int]:
    """Return the memory that an array spans as a flat one, and the position of entry (0, 0)."""
    spans = [(n - 1) * step for n, step in zip(out.shape, out.strides, strict=True)]
    low = sum(min(span, 0) for span in spans)
    view = np.lib.stride_tricks.as_strided(
        out, (1, 1 + sum(map(abs, spans)) // out.itemsize), (0, out.itemsize), writeable=True
    )
    moved = _Memory(view, low)
    return np.asarray(moved), -low // out.itemsize
