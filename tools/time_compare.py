#!/usr/bin/env python3
"""Time a comparison of two networks of pictures beside the runs of onnxruntime that it cannot do without.

    python tools/time_compare.py ORIGINAL.onnx PRUNED.onnx [--count 1000] [--batch 8] [--provider cuda]

Prints seconds of both networks run alone, on one random picture after the other in batches of --batch, before and after
the comparison, and of the whole command, start of Python included.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from onnxprune.graph.runtime import choose_providers


def main(argv: Sequence[str] | None = None) -> int:
    """Print the seconds."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("networks", nargs=2, type=Path, metavar="NETWORK")
    parser.add_argument("--count", type=int, default=1000, help="pictures (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=8, help="pictures per bare run (default: %(default)s)")
    parser.add_argument("--provider", default="cpu", help="cpu or cuda (default: %(default)s)")
    args = parser.parse_args(argv)
    (entry,) = onnxruntime.InferenceSession(args.networks[0], providers=["CPUExecutionProvider"]).get_inputs()
    pictures = np.random.default_rng(0).standard_normal((args.count, *entry.shape[1:]), dtype=np.float32)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pictures.npy"
        np.save(path, pictures)
        before = bare(args.networks, pictures, args.batch, args.provider)
        start = time.perf_counter()
        flags = ["--data", str(path), "--samples", str(args.count), "--providers", args.provider, "-q"]
        subprocess.run([sys.executable, "-m", "onnxprune", "compare", *map(str, args.networks), *flags], check=True)
        whole = time.perf_counter() - start
        after = bare(args.networks, pictures, args.batch, args.provider)
    print(f"bare {before:.1f} and {after:.1f} s, compared {whole:.1f} s, {2 * whole / (before + after):.2f} times")
    return 0


def bare(networks: Sequence[Path], pictures: NDArray[np.float32], batch: int, provider: str) -> float:
    """Seconds of all runs of both, one network after the other, sessions open."""
    total = 0.0
    for path in networks:
        session = onnxruntime.InferenceSession(path, providers=list(choose_providers([provider])))
        name = session.get_inputs()[0].name
        session.run(None, {name: pictures[:batch]})
        start = time.perf_counter()
        for first in range(0, len(pictures), batch):
            session.run(None, {name: pictures[first : first + batch]})
        total += time.perf_counter() - start
    return total


if __name__ == "__main__":
    sys.exit(main())
