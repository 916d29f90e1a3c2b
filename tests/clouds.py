"""Points of every kind that the mathematics has to cope with, made from a seed."""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def cloud(seed: int, count: int, width: int, *, rank: int | None = None, copies: int = 0, zeros: int = 0) -> Array:
    """Points of a heavy-tailed distribution about a mean away from zero, some twice, some zero, in any order."""
    rng = np.random.default_rng([seed, count, width])
    inner = width if rank is None else rank
    points = (rng.standard_t(4, size=(count, inner)) + rng.standard_normal(inner)) @ rng.standard_normal((inner, width))
    points = np.vstack([points, points[:copies], np.zeros((zeros, width))])
    return points[rng.permutation(len(points))]


CLOUDS: dict[str, Array] = {
    "plane": cloud(0, 40, 2),
    "many": cloud(1, 300, 5),
    "just enough": cloud(2, 7, 6),
    "duplicates": cloud(3, 30, 4, copies=30),
    "zero rows": cloud(4, 30, 3, zeros=9),
    "line": cloud(5, 12, 1),
    "flat": cloud(6, 50, 6, rank=3),
    "rank one": cloud(7, 20, 5, rank=1),
    "fewer than coordinates": cloud(8, 4, 9),
    "huge": cloud(9, 60, 3) * 1e200,
    "tiny": cloud(10, 60, 3) * 1e-200,
    "thin": cloud(11, 60, 3) * np.array([1.0, 1e-5, 1e-9]),
    "far away": cloud(12, 60, 3) + 1e6,
    "float32": cloud(13, 80, 4).astype(np.float32),
    "one": cloud(14, 1, 3),
    "all alike": np.repeat(cloud(15, 1, 3), 5, axis=0),
    "all zero": np.zeros((6, 2)),
    "no coordinates": np.zeros((6, 0)),
}
FULL = (
    "plane",
    "many",
    "just enough",
    "duplicates",
    "zero rows",
    "line",
    "huge",
    "tiny",
    "thin",
    "far away",
    "float32",
)
