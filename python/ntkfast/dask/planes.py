"""Blocks in sets such that any two of them are together in one set: lines of a projective plane.

A plane of order q has q^2 + q + 1 points, and as many lines of q + 1 points each. With blocks of
inputs for points, K(X, X) V is a sum of products of K(S, S), S the inputs of a line: calls that all
engines do fast, on a worker that needs few of the blocks. Each block is on q + 1 lines, and its
pairs with itself count once: a share of 1 / q of the work is done in vain.
"""

from __future__ import annotations

from functools import cache
from itertools import product

ORDERS = 2, 3, 5, 7, 11, 13, 17, 23, 31, 43, 61


def points(q: int) -> int:
    """Count the points of a plane, and its lines; a plane of order 0 is one point."""
    return q * q + q + 1


@cache
def difference_set(q: int) -> tuple[int, ...]:
    """Return q + 1 numbers, with 0, of which the differences are all numbers modulo `points(q)`.

    Line t has the points t + d. These are the zeros of a linear recurrence over the integers modulo
    q, a prime; which ones will do, their differences tell.

    References
    ----------
    .. [1] J. Singer, "A theorem in finite projective geometry and some applications to number
       theory", Transactions of the AMS 43, 1938.
    """
    if q == 0:
        return (0,)
    count = points(q)
    for a, b, c in product(range(q), range(q), range(1, q)):
        terms = [0, 0, 1]
        while len(terms) < count:
            terms.append((a * terms[-1] + b * terms[-2] + c * terms[-3]) % q)
        zeros = tuple(i for i, term in enumerate(terms) if term == 0)
        if len(zeros) == q + 1 and len({(i - j) % count for i in zeros for j in zeros}) == count:
            return zeros
    raise AssertionError(f"{q} is not a prime")


def line(q: int, t: int) -> list[int]:
    """Return the points of a line, first point t."""
    return [(t + d) % points(q) for d in difference_set(q)]
