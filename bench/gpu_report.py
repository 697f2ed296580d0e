"""What bench/gpu.py makes of its measurements: statistics, sizes, rooflines, goals, the table.

Nothing here measures, or needs a device.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

Results = Mapping[str, Sequence[Mapping[str, Any]]]

# Goals: ratios to the product of the same shape and precision at most, by (dtype, precision).
PRODUCT_GOAL = {
    ("float32", "strict"): 1.15,
    ("float32", "3xtf32"): 1.25,
    ("float64", "strict"): 1.2,
}
STORE_GOAL, STORE_COLUMNS = 0.75, 16  # of the store bandwidth at least, up to as many columns
DEPTH_GOAL = 1.1  # times depth 1 at most


# ---- statistics and sizes ------------------------------------------------------------------------


def summary(seconds: Sequence[float]) -> dict[str, Any]:
    """Return the median, the quartiles and all of some times."""
    lower, _, upper = statistics.quantiles(seconds, n=4, method="inclusive")
    return {
        "median": statistics.median(seconds),
        "quartiles": [lower, upper],
        "runs": len(seconds),
        "seconds": [float(f"{s:.4g}") for s in seconds],
    }


def rounds(first: float, budget: float, least: int = 5, most: int = 100) -> int:
    """Return how often to repeat what took `first` seconds, in so many seconds."""
    return max(least, min(most, int(budget / max(first, 1e-9))))


def rotations(set_bytes: int, cache_bytes: int, free_bytes: int) -> int:
    """Return how many sets of arrays take turns, so that none is in the cache when its turn comes.

    Raises
    ------
    MemoryError
        If there is no room for two.
    """
    room = free_bytes // (2 * set_bytes)
    if room < 2:
        raise MemoryError(f"{free_bytes} bytes are free, two sets of {set_bytes} were wanted")
    return min(room, max(2, 1 + math.ceil(2 * cache_bytes / set_bytes)))


def gram_rows(wanted: int, d: int, itemsize: int, free_bytes: int, factor: int = 1) -> int:
    """Return the largest number of rows, halving, so that two sets fit into half of the memory.

    A set is two inputs of d columns, the same with factor d columns, and a result.
    """
    n = wanted
    while n > 1 and 4 * gram_bytes(n, d, itemsize, factor) > free_bytes:
        n //= 2
    return n


def gram_bytes(n: int, d: int, itemsize: int, factor: int = 1) -> int:
    """Return the bytes of a set: inputs, those of the product it is compared with, result."""
    columns = d if factor == 1 else d * (1 + factor)
    return itemsize * (2 * n * columns + n * n)


def rows_in_time(wanted: int, tried: int, seconds: float, limit: float) -> int:
    """Return how many rows to take, where pairs of `tried` rows took so long."""
    affordable = tried * math.sqrt(limit / max(seconds, 1e-9))
    return wanted if affordable >= wanted else max(tried, int(affordable))


# ---- rooflines -----------------------------------------------------------------------------------


def gram_flops(n: int, m: int, d: int) -> float:
    """Return the operations of the inner products of all pairs, those that nothing avoids."""
    return 2.0 * n * m * d


def matmul_flops(n: int, d: int, columns: int) -> float:
    """Return the operations of K(X, X) V: pairs once, products with V twice; maps are extra."""
    return n * (n + 1.0) * d + 2.0 * n * n * columns


def matmul_bytes(n: int, d: int, columns: int, itemsize: int) -> float:
    """Return the bytes that must cross at least: the rows, the vectors and the result, once."""
    return float(itemsize) * n * (d + 2 * columns)


def fraction(amount: float, seconds: float, ceiling: float | None) -> float | None:
    """Return the share of a measured rate that an amount in a time is."""
    return None if not ceiling else amount / seconds / ceiling


def ceilings(results: Results) -> dict[str, float]:
    """Return the measured rates: bytes per second of stores and copies, operations of products."""
    return {row["case"]: row["amount"] / row["median"] for row in results.get("roofline", ())}


def product_ceiling(rates: Mapping[str, float], dtype: str, precision: str) -> float | None:
    """Return the operations per second of cuBLAS that a precision could reach."""
    if precision == "3xtf32":  # three products for one
        rate = rates.get("float32 tf32")
        return None if rate is None else rate / 3
    return rates.get(f"{dtype} {precision}")


# ---- lines of the table --------------------------------------------------------------------------


class Line(NamedTuple):
    """One number of the summary, its goal if it has one, and whether that is met."""

    what: str
    value: float | None
    unit: str
    goal: str = ""
    met: str = ""


def judged(what: str, value: float | None, goal: float, *, least: bool = False) -> Line:
    """Return a line with a goal: an upper bound, unless `least`."""
    sign = ">=" if least else "<="
    if value is None:
        return Line(what, None, "", f"{sign} {goal:g}", "not measured")
    met = value >= goal if least else value <= goal
    return Line(what, value, "", f"{sign} {goal:g}", "yes" if met else "NO")


def roofline_lines(results: Results) -> Iterator[Line]:
    """Yield what the device does at most."""
    for case, rate in ceilings(results).items():
        stream = case in ("store", "copy")
        unit = "GB/s" if stream else "TFLOP/s"
        yield Line(f"{case}, measured", rate / (1e9 if stream else 1e12), unit)


def gram_lines(results: Results) -> Iterator[Line]:
    """Yield the Gram matrices against the product, the stores, and their own depth."""
    rates = ceilings(results)
    for row in results.get("gram", ()):
        times = {name: t["median"] for name, t in row["times"].items()}
        name = f"gram, d = {row['d']}, {row['dtype']} {row['precision']}"
        call, kernels = times["depth 1"], times.get("depth 1, kernels")
        if row["d"] <= STORE_COLUMNS:
            stored = row["itemsize"] * row["n"] ** 2
            share = fraction(stored, call, rates.get("store"))
            yield judged(f"{name}: of the stores", share, STORE_GOAL, least=True)
        else:
            base = times.get("product")
            over = None if base is None else call / base
            goal = PRODUCT_GOAL.get((row["dtype"], row["precision"]))
            what = f"{name}: over {row['base']}"
            yield Line(what, over, "") if goal is None else judged(what, over, goal)
            if kernels is not None and goal is not None:
                yield Line(f"{name}: kernels alone, of the call", kernels / call, "")
        if row["d"] != STORE_COLUMNS:  # the ends are enough
            deep = times["depth 100"] / call
            yield judged(f"{name}: depth 100 over 1", deep, DEPTH_GOAL)


def matmul_lines(results: Results) -> Iterator[Line]:
    """Yield pairs per second and the shares of both ceilings."""
    rates, last = ceilings(results), []
    for row in results.get("matmul", ()):
        n, d, columns, seconds = row["n"], row["d"], row["columns"], row["median"]
        name = f"matmul, n = {n}, {row['dtype']} {row['precision']}"
        yield Line(f"{name}", n * n / seconds / 1e9, "Gpairs/s")
        ceiling = product_ceiling(rates, row["dtype"], row["precision"])
        flops = fraction(matmul_flops(n, d, columns), seconds, ceiling)
        yield Line(f"{name}: of the product ceiling", flops, "")
        moved = matmul_bytes(n, d, columns, row["itemsize"])
        share = fraction(moved, seconds, rates.get("copy"))
        last.append(Line(f"{name}: of the bytes ceiling", share, ""))
    yield from last


def rate_lines(results: Results) -> Iterator[Line]:
    """Yield the rates of everything else and their ratios to the native engine."""
    for section in ("fwht", "features", "sequences", "images"):
        for row in results.get(section, ()):
            name = f"{section}, {row['case']}, {row['dtype']}"
            yield Line(name, row["rate"], f"{row['unit']}/s")
            if row.get("of_copy") is not None:
                yield Line(f"{name}: time over a copy", row["of_copy"], "")
            if row.get("over_native") is not None:
                yield Line(f"{name}: rate over native", row["over_native"], "")


def peer_lines(results: Results) -> Iterator[Line]:
    """Yield how much longer peers take; a peer that does not run has no number."""
    for row in results.get("peers", ()):
        yield Line(f"{row['case']}: time over ours", row.get("over_ours"), "", "", row["note"])


def lines(results: Results) -> list[Line]:
    """Return the whole summary."""
    parts = (roofline_lines, gram_lines, matmul_lines, rate_lines, peer_lines)
    return [line for part in parts for line in part(results)]


def most_telling(rows: Sequence[Line], count: int) -> list[Line]:
    """Return so many lines at most, in their order: those with goals, then the first others."""
    chosen = sorted(range(len(rows)), key=lambda k: (not rows[k].goal, k))[:count]
    return [rows[k] for k in sorted(chosen)]


def number(value: float | None) -> str:
    """Write three significant digits."""
    if value is None:
        return "-"
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"


def table(rows: Sequence[Line]) -> str:
    """Write lines under one another, aligned."""
    cells = [("", "measured", "", "goal", "met")]
    cells += [(r.what, number(r.value), r.unit, r.goal, r.met) for r in rows]
    widths = [max(len(row[k]) for row in cells) for k in range(5)]
    text = (
        f"{row[0]:<{widths[0]}}  {row[1]:>{widths[1]}} {row[2]:<{widths[2]}}  "
        f"{row[3]:<{widths[3]}}  {row[4]}".rstrip()
        for row in cells
    )
    return "\n".join(text)
