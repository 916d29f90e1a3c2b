#!/usr/bin/env python3
"""Prune networks before training, weight by weight, train what is left, and print what it reaches.

    python tools/reproduce_synflow.py --data DATA [--networks LeNet-300-100 LeNet-5] [--compressions 10 100 1000]

DATA holds mnist/mnist.npz and models/. Weights are drawn anew, the share 1 − 1/compression of them is zeroed
(`--sparse`), and the rest is trained on all 60,000 images, zeros staying zeros; top-1 on the test images, means of
several seeds. snip sees 1,024 training images with their classes. A network is cut where no path of weights leads from
the images to the classes any more, whether or not a layer has lost all of its own. Needs torch.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from reproduce_accuracy import NETWORKS
from training import connected, fresh, images_of, right, trained

import onnxprune

METHODS = ("synflow", "magnitude", "snip", "random")
SEEN = 1024
RATES = {"LeNet-300-100": 2e-3, "LeNet-5": 2e-3}
PUBLISHED = """Published, not reproduced here (Tanaka et al. 2020; VGG-16 on CIFAR-10, 93.5 unpruned): synflow 93.3 at
10, 90.1 at 100, 80.4 at 1000; magnitude collapses to 10."""


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, metavar="DATA")
    parser.add_argument("--networks", nargs="+", default=tuple(RATES), choices=tuple(RATES))
    parser.add_argument("--compressions", nargs="+", type=float, default=(10, 100, 1000))
    parser.add_argument("--methods", nargs="+", default=METHODS, choices=METHODS)
    parser.add_argument("--epochs", type=int, default=3, help="(default: %(default)s)")
    parser.add_argument("--seeds", type=int, default=3, help="(default: %(default)s)")
    args = parser.parse_args(argv)
    (images, labels), tested = images_of(args.data / "mnist/mnist.npz", None)
    seen = {"calib": images[:SEEN].numpy(), "labels": labels[:SEEN].numpy()}
    print("| network | method | " + " | ".join(f"{c:g}x" for c in args.compressions) + " |")
    print("|---|---|" + "---|" * len(args.compressions))
    for network in args.networks:
        proto, rate = onnx.load(args.data / "models" / NETWORKS[network].model), RATES[network]
        whole = [
            right(trained(fresh(proto, seed), images, labels, epochs=args.epochs, rate=rate, seed=seed), tested)
            for seed in range(args.seeds)
        ]
        print(f"| {network} | none | {_told(whole)} |" + " |" * (len(args.compressions) - 1), flush=True)
        for method in args.methods:
            cells = []
            for compression in args.compressions:
                found, cut = [], 0
                for seed in range(args.seeds):
                    drawn = fresh(proto, seed)
                    more = seen if method == "snip" else {}
                    result = onnxprune.prune(
                        drawn, ratio=1 - 1 / compression, sparse=True, method=method, seed=seed, **more
                    )
                    cut += not connected(result.model, images)
                    made = trained(result.model, images, labels, epochs=args.epochs, rate=rate, seed=seed, sparse=True)
                    found.append(right(made, tested))
                cells.append(_told(found) + (f" ({cut} of {args.seeds} cut)" if cut else ""))
            print(f"| {network} | {method} | {' | '.join(cells)} |", flush=True)
    print(PUBLISHED)
    return 0


def _told(found: list[float]) -> str:
    spread = f" ± {np.std(found, ddof=1):.1f}" if len(found) > 1 else ""
    return f"{np.mean(found):.1f}{spread}"


if __name__ == "__main__":
    sys.exit(main())
