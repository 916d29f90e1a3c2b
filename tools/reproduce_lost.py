#!/usr/bin/env python3
"""Print what pruning costs beyond test accuracy: prune potential, excess error and noise similarity of pruned families.

    python tools/reproduce_lost.py --data DATA [--networks ResNet-20 ResNet-56 VGG-16] [--limit 500] [--search]

DATA holds cifar10/ and models/. Families are made from 1,024 training images without labels; labels of the test images
serve for errors. The first table is of families, the second of the potential on each distribution, corruptions at
severity 3; with --search on networks of other ratios, too, made where they say most. Published, with retraining: the
nominal potential of filters of ResNet-20 is 52.1 % of the weights, and potentials under corruption are lower, some of
them zero (Liebenwein et al. 2021).
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from reproduce_accuracy import IMAGENET, NETWORKS, Network

from onnxprune.compare.comparing import compare_files
from onnxprune.compare.comparison import Comparison
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
    parser.add_argument("--search", action="store_true", help="look for potentials at other ratios, too")
    parser.add_argument("--trials", type=int, default=12, help="networks made for that (default: %(default)s)")
    args = parser.parse_args(argv)
    for name in args.networks:
        told(name, args)
    return 0


def told(name: str, args: argparse.Namespace) -> None:
    """Print the tables of one network."""
    network = SEARCHED[name]
    path = args.data / "models" / network.model
    images, labels = network.test_set(args.data, args.limit)
    with np.load(args.data / "cifar10/calib.npz") as stored:
        calibration = network.normalised(stored["x"][:SAMPLES])
    print("| network | family | error, clean | potential, clean | under corruption: mean, lowest | under noise "
          "| excess error per network removed | equal classes at ±0.1, ±0.7 |")  # fmt: skip
    print("|---|---|---|---|---|---|---|---|")
    found = {}
    for method in args.methods:
        with tempfile.TemporaryDirectory() as folder:
            options = Options(method=method, calib=calibration, refit="on", distill="off")
            made = make_family(path, Path(folder), sorted(args.ratios), options)
            others = [Path(member["path"]) for member in made["members"]]
            asked = Comparison(
                data=images, labels=labels, potential=True, noise=True, inputs=args.inputs, draws=args.draws
            )
            found[method] = compare_files(path, others, asked)
        print(row(name, method, found[method]), flush=True)
    columns = {method: potentials(facts) for method, facts in found.items()}
    if args.search:
        for method in args.methods:
            making = Options(method=method, calib=calibration, refit="on", distill="off")
            asked = Comparison(data=images, labels=labels, potential=True, making=making, trials=args.trials)
            columns[f"{method}, by search"] = potentials(compare_files(path, [], asked))
    print(f"\n| {name}: potential on | {' | '.join(columns)} |\n|---|{'---|' * len(columns)}")
    for distribution in columns[args.methods[0]]:
        print(f"| {distribution} | {' | '.join(f'{own[distribution]:.1%}' for own in columns.values())} |")
    for what, part in (("all corruptions", "/"), ("all noise", "noise ")):
        means = (np.mean([value for name, value in own.items() if part in name]) for own in columns.values())
        print(f"| mean of {what} | {' | '.join(f'{mean:.1%}' for mean in means)} |")
    print(f"\n{keeps_most(found, sorted(args.ratios))}\n", flush=True)


def potentials(facts: dict[str, Any]) -> dict[str, float]:
    """Potential on each distribution."""
    return {name: entry["potential"] for name, entry in facts["potential"]["distributions"].items()}


def keeps_most(found: dict[str, dict[str, Any]], ratios: Sequence[float]) -> str:
    """Tell which method's networks err least under shift, mean of all shifted distributions."""
    parts = []
    for number, ratio in enumerate(ratios):
        means = {
            method: 100 * np.mean([entry["errors"][number] for name, entry in distributions.items() if name != "clean"])
            for method, distributions in ((own, facts["potential"]["distributions"]) for own, facts in found.items())
        }
        order = sorted(means, key=lambda method: means[method])
        parts.append(f"-{ratio:.0%}: {', '.join(f'{method} {means[method]:.1f} %' for method in order)}")
    return f"Mean error under shift, least first. {'; '.join(parts)}"


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
