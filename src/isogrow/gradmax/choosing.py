"""Which rows have the largest gradients: singular vectors, those of one block orthogonal to each other."""

from __future__ import annotations

import numpy as np

from isogrow.gradmax.sites import Floats

RANK = 1e-7  # singular values below this part of the largest count as zero


def directions(matrix: Floats, count: int, left: Floats, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """`count` rows of norm 1, and what they leave of `left`, an orthonormal basis (dims x dim) of where they
    may lie: those with the largest Σ |M r|², the right singular vectors there of the largest singular values.

    A basis that is used up starts anew, with rotated vectors, so that no two rows of one matrix are the same.

    >>> rows, left = directions(np.diag([3.0, 1.0, 2.0]), 2, np.eye(3), np.random.default_rng(0))
    >>> np.abs(rows).round(12).tolist(), np.abs(left).round(12).tolist()
    ([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]], [[0.0, 1.0, 0.0]])
    """
    found: list[Floats] = []
    while count:
        again = bool(found)
        left = left if len(left) else np.eye(matrix.shape[1])
        _, values, turn = np.linalg.svd(matrix @ left.T)
        rank = int((values > RANK * values.max()).sum())
        turn[rank:] = rotation(len(turn) - rank, rng) @ turn[rank:]  # else it is the coordinates, one by one
        if again:
            some = min(2 * count, len(turn))
            turn[:some] = rotation(some, rng) @ turn[:some]
        vectors = turn @ left
        found.append(vectors[:count])
        count, left = count - len(found[-1]), vectors[count:]
    return np.concatenate(found), left


def rotation(n: int, rng: np.random.Generator) -> Floats:
    """A random orthogonal matrix."""
    q, r = np.linalg.qr(rng.standard_normal((n, n)))
    return q * np.sign(np.diag(r))
