#!/usr/bin/env python3
"""Build networks at random out of every rule of the table, prune each by a random plan, and compare with its twin.

    python tools/fuzz.py --seeds 2000

Runs the tests' own fuzz targets on as many seeds as asked for: cases of all operators joined end to end, convolutional
networks, transformers, and recurrent networks put together piece by piece. Prints each seed that fails, and ends with
a count; the exit code is 1 where any did.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

from rich.progress import track

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

import test_fuzz_graphs
import test_fuzz_joined
import test_fuzz_recurrent
import test_fuzz_sequences

MODULES = (test_fuzz_joined, test_fuzz_graphs, test_fuzz_sequences, test_fuzz_recurrent)


def targets() -> dict[str, Callable[[int], None]]:
    """Return the fuzz targets of the tests: functions of a seed."""
    found = {}
    for module in MODULES:
        for name, test in vars(module).items():
            if name.startswith("test_") and hasattr(test, "hypothesis"):
                found[f"{module.__name__}.{name}"] = test.hypothesis.inner_test
    return found


def main() -> int:
    """Run every target on every seed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=1000, metavar="N", help="how many seeds (default: 1000)")
    parser.add_argument("--start", type=int, default=0, metavar="N", help="the first of them (default: 0)")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    failed = ran = 0
    for seed in track(range(arguments.start, arguments.start + arguments.seeds), description="seeds"):
        for name, target in targets().items():
            ran += 1
            try:
                target(seed=seed)
            except Exception as error:  # noqa: BLE001  whatever goes wrong is what is looked for
                failed += 1
                print(f"{name} seed {seed}: {type(error).__name__}: {str(error)[:300]}", flush=True)
    print(f"{ran} networks, {failed} failures")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
