"""The part of a grid that runs by default, and what waits for ``--all``."""

from __future__ import annotations

import itertools

import pytest

from covering import covering

GRID = [
    dict(zip(("case", "engine", "dtype"), point, strict=True))
    for point in itertools.product(range(14), ("native", "numba"), ("float32", "float64"))
]


@pytest.mark.parametrize(("strength", "size"), [(1, 14), (2, 28), (3, 56)])
def test_every_combination_of_so_many_parameters_is_there(strength: int, size: int) -> None:
    kept = [GRID[index] for index in covering(GRID, strength)]
    for names in itertools.combinations(GRID[0], strength):
        assert {tuple(point[name] for name in names) for point in kept} == {
            tuple(point[name] for name in names) for point in GRID
        }
    assert len(kept) <= 1.25 * size


def test_the_same_part_each_time() -> None:
    assert covering(GRID, 2) == covering(list(GRID), 2)
    assert covering(GRID[:1], 2) == {0}
    assert covering([], 2) == set()


def test_fewer_parameters_than_the_strength_are_kept_in_full() -> None:
    points = [{"case": index} for index in range(5)]
    assert covering(points, 2) == set(range(5))
