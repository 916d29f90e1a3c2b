#!/usr/bin/env python3
"""Print what pruning costs beyond test accuracy: prune potential, excess error and noise similarity of pruned families.

    python tools/reproduce_lost.py --data DATA [--networks ResNet-20 ResNet-56 VGG-16] [--limit 500]

DATA holds cifar10/ and models/. Families are made from 1,024 training images without labels; labels of the test images
serve for errors. Published, with retraining: the nominal potential of filters of ResNet-20 is 52.1 % of the weights,
and potentials under corruption are lower, some of them zero (Liebenwein et al. 2021).
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from reproduce_accuracy import IMAGENET, NETWORKS, Network

from onnxprune.comparing import compare_files
from onnxprune.comparison import Comparison
from onnxprune.family import make_family
from onnxprune.options import Options

SAMPLES = 1024
SEARCHED = {
    "ResNet-20": Network("cifar10-resnet20_cifar10.onnx", "cifar10/test.npz", ("x", "y"), IMAGENET),
    "ResNet-56": NETWORKS["ResNet-56"],
    "VGG-16": NETWORKS["VGG-16"],
}
METHODS = ("submodular", "coreset", "l1")
RATIOS = (0.3, 0.5, 0.7)


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, metavar="DATA")
    parser.add_argument("--networks", nargs="+", default=tuple(SEARCHED), choices=tuple(SEARCHED))
    parser.add_argument("--methods", nargs="+", default=METHODS)
    parser.add_argument("--ratios", nargs="+", type=float, default=RATIOS)
    parser.add_argument("--limit", type=int, default=500, help="test images (default: %(default)s)")
    parser.add_argument("--inputs", type=int, default=200, help="inputs that get noise (default: %(default)s)")
    parser.add_argument("--draws", type=int, default=10, help="times that they do (default: %(default)s)")
    args = parser.parse_args(argv)
    print("| network | family | error, clean | potential, clean | under corruption: mean, lowest | under noise "
          "| excess error per network removed | equal classes at ±0.1, ±0.7 |")  # fmt: skip
    print("|---|---|---|---|---|---|---|---|")
    for name in args.networks:
        network = SEARCHED[name]
        path = args.data / "models" / network.model
        images, labels = network.test_set(args.data, args.limit)
        with np.load(args.data / "cifar10/calib.npz") as stored:
            calibration = network.normalised(stored["x"][:SAMPLES])
        for method in args.methods:
            with tempfile.TemporaryDirectory() as folder:
                options = Options(method=method, calib=calibration, refit="on")
                made = make_family(path, Path(folder), sorted(args.ratios), options)
                others = [Path(member["path"]) for member in made["members"]]
                asked = Comparison(
                    data=images, labels=labels, potential=True, noise=True, inputs=args.inputs, draws=args.draws
                )
                print(row(name, method, compare_files(path, others, asked)), flush=True)
    return 0


def row(name: str, method: str, facts: dict) -> str:  # type: ignore[type-arg]
    """One line of the table."""
    found, excess = facts["potential"]["distributions"], facts["excess"]
    corrupted = {key: entry["potential"] for key, entry in found.items() if "/" in key}
    noisy = [entry["potential"] for key, entry in found.items() if key.startswith("noise")]
    errors = " ".join(f"{100 * error:.1f}" for error in (found["clean"]["original_error"], *found["clean"]["errors"]))
    lowest = min(corrupted, key=lambda key: corrupted[key])
    alike = [network["agreement"] for network in facts["noise"]["networks"]]
    similar = " / ".join(f"{shares[2]:.1%} {shares[-1]:.1%}" for shares in alike)
    slope = f"{100 * excess['slope']:.1f} ({100 * excess['low']:.1f} to {100 * excess['high']:.1f})"
    under = f"{np.mean(list(corrupted.values())):.0%}, {corrupted[lowest]:.0%} ({lowest})"
    clean = f"{found['clean']['potential']:.0%}"
    return f"| {name} | {method} | {errors} | {clean} | {under} | {np.mean(noisy):.0%} | {slope} | {similar} |"


if __name__ == "__main__":
    sys.exit(main())
