#!/usr/bin/env python3
"""Print what choosing channels costs: user CPU seconds of `coreset`, of an enclosing ellipsoid, and of peeling.

    OMP_NUM_THREADS=1 python tools/coreset_cost.py

n channels of d incoming weights and one reader of 100 outputs, drawn at random. For `coreset` all of that is looked at;
`lowner` reduces the points to r dimensions, lays ellipsoids around them and peels. Each number is the least of three.
"""

from __future__ import annotations

import argparse
import resource
import sys
from collections.abc import Callable, Sequence

import numpy as np

from onnxprune.coreset.ellipsoid import enclosing_ellipsoid
from onnxprune.coreset.peeling import peel
from onnxprune.coreset.reduction import reduced
from onnxprune.methods import METHODS, Channels

SIZES = ((64, 576), (300, 784), (512, 4608), (1024, 1024), (4096, 1024))
RANKS = (4, 8, 16)
OUTPUTS = 100


def seconds(work: Callable[[], object], times: int) -> float:
    """Return the user CPU seconds of some work, the least of several times."""
    found = []
    for _ in range(times):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_utime
        work()
        found.append(resource.getrusage(resource.RUSAGE_SELF).ru_utime - before)
    return min(found)


def row(count: int, width: int, rank: int, times: int) -> str:
    """Return a row of the table."""
    rng = np.random.default_rng(0)
    rows, reader = rng.standard_normal((count, width)), rng.standard_normal((count, OUTPUTS, 1))
    channels, ones = Channels((rows,), None, (reader,), "Relu"), np.ones(count)
    points = reduced([rows], ones, rank).coordinates
    found = [
        seconds(lambda: METHODS["coreset"](channels, rng), times),
        seconds(lambda: reduced([rows], ones, rank), times),
        seconds(lambda: enclosing_ellipsoid(points), times),
        seconds(lambda: peel(points), times),
    ]
    return f"| {count} | {width} | {rank} | {peel(points).rounds} | {' | '.join(f'{each:.3f}' for each in found)} |"


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--times", type=int, default=3, metavar="N", help="of which the least counts (default: 3)")
    args = parser.parse_args(argv)
    print(
        "| n | d | r | layers | `coreset` | reduction to r | ellipsoid | peeling |\n|---|---|---|---|---|---|---|---|"
    )
    for count, width in SIZES:
        for rank in RANKS:
            print(row(count, width, rank, args.times), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
