#!/usr/bin/env python3
"""Is what pruning finds weights or an architecture? Fine-tune pruned networks, and train their widths from scratch.

    python tools/reproduce_fisher.py --data DATA [--networks LeNet-5 ResNet-8] [--ratios 0.5 0.8 0.9]

DATA holds mnist/mnist.npz and models/. `fisher` sees 1,024 training images with their classes and prunes at one go,
where the paper tunes between channels; readers keep their weights, but for the row "refit". What is tuned and what is
trained from scratch sees the same images for the same number of epochs; `--longer` trains from scratch as long as
the trained network was that is begun with. Means over seeds. Needs torch.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto
from torch import Tensor
from training import fresh, images_of, right, trained

import onnxprune

SEEN = 1024
OWN = Path(__file__).resolve().parent.parent / "models"
ROWS = (
    "fisher, not tuned",
    "fisher + refit, not tuned",
    "fisher, fine-tuned",
    "fisher's widths, from scratch",
    "thinner, from scratch",
    "thinner, fine-tuned",
)
LONGER = ("fisher's widths, from scratch, longer", "thinner, from scratch, longer")


@dataclass(frozen=True)
class Network:
    """A trained network, how it is trained here, and how many passes over all images it has had before."""

    path: Callable[[Path], Path]
    images: int | None
    epochs: int
    before: int
    rate: float


NETWORKS = {
    # Of LeNet-5 it is not known: as many as LeNet-300-100 had in models/README.md.
    "LeNet-5": Network(lambda data: data / "models/mnist-lenet5.onnx", None, 3, 12, 2e-3),
    "ResNet-8": Network(lambda data: OWN / "resnet8-mnist.onnx", 20_000, 4, 4, 1e-2),
}


@dataclass(frozen=True)
class Course:
    """A network, and the images that it is trained and tested on."""

    proto: ModelProto
    images: Tensor
    labels: Tensor
    tested: tuple[Any, Any]
    epochs: int
    rate: float
    seen: dict[str, Any]

    def reached(self, row: str, ratio: float, seed: int) -> float:
        """Make a row's network, train it as the row says, and return top-1."""
        method = "fisher" if row.startswith("fisher") else "thinner"
        request: dict[str, Any] = {"ratio": ratio, "method": method, "seed": seed}
        request |= {"refit": "on" if "refit" in row else "off", "distill": "off"}
        if method == "fisher":
            request |= self.seen
        made = onnxprune.prune(self.proto, **request).model
        if "scratch" in row:
            made = fresh(made, seed)
        if "not tuned" not in row:
            made = trained(made, self.images, self.labels, epochs=self.epochs, rate=self.rate, seed=seed)
        return right(made, self.tested)


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, metavar="DATA")
    parser.add_argument("--networks", nargs="+", default=tuple(NETWORKS), choices=tuple(NETWORKS))
    parser.add_argument("--ratios", nargs="+", type=float, default=(0.5, 0.8, 0.9))
    parser.add_argument("--epochs", type=int, help="(default: 3 of all images for LeNet-5, 4 of 20,000 for ResNet-8)")
    parser.add_argument("--longer", action="store_true", help="from scratch as long as before, in place of all rows")
    parser.add_argument("--seeds", type=int, default=3, help="(default: %(default)s)")
    args = parser.parse_args(argv)
    print("| network (before) | | " + " | ".join(f"{ratio:.0%} removed" for ratio in args.ratios) + " |")
    print("|---|---|" + "---|" * len(args.ratios))
    for name in args.networks:
        network = NETWORKS[name]
        proto = onnx.load(network.path(args.data))
        (images, labels), tested = images_of(args.data / "mnist/mnist.npz", network.images)
        seen = {"calib": images[:SEEN].numpy(), "labels": labels[:SEEN].numpy()}
        epochs, before = network.epochs, right(proto, tested)
        if args.longer:
            (images, labels), epochs = images_of(args.data / "mnist/mnist.npz", None)[0], network.before
        course = Course(proto, images, labels, tested, args.epochs or epochs, network.rate, seen)
        for which in LONGER if args.longer else ROWS:
            cells = []
            for ratio in args.ratios:
                seeds = range(1 if "not tuned" in which else args.seeds)
                found = [course.reached(which, ratio, seed) for seed in seeds]
                spread = f" ± {np.std(found, ddof=1):.2f}" if len(found) > 1 else ""
                cells.append(f"{np.mean(found):.2f}{spread}")
            print(f"| {name} ({before:.2f}) | {which} | {' | '.join(cells)} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
