#!/usr/bin/env python3
"""Print top-1 before and after pruning for each method and share; test that the sampled coreset is unbiased.

    python tools/reproduce_accuracy.py --data DATA

DATA holds mnist/mnist.npz, cifar10/test.npz and models/. Nothing is fine-tuned and no data is used for pruning; labels
serve for measuring only. Sampled and random methods are run with several seeds: mean and standard deviation. Exit code
1 if the sampled coreset is biased.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

import onnxprune
from onnxprune.analysis import Analysis, analyse
from onnxprune.coupling import Group
from onnxprune.coupling.channels import ChannelReader
from onnxprune.graph import io
from onnxprune.methods import METHODS, Choice
from onnxprune.ops.trace import Read

Array = NDArray[Any]
RATIOS = (0.3, 0.5, 0.7, 0.9)
BATCH = 250
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
MNIST = ((0.1307,), (0.3081,))


@dataclass(frozen=True)
class Network:
    """A trained network, its test images, and the mean and standard deviation that it was trained with."""

    model: str
    images: str
    arrays: tuple[str, str]
    normalisation: tuple[tuple[float, ...], tuple[float, ...]]

    def test_set(self, data: Path, limit: int | None) -> tuple[Array, Array]:
        """Return the normalised images, (n, channels, height, width), and the labels."""
        with np.load(data / self.images) as stored:
            images, labels = (stored[name][:limit] for name in self.arrays)
        return self.normalised(images), labels

    def normalised(self, images: Array) -> Array:
        """Return images (n, height, width[, channels]) of bytes as the network wants them."""
        images = images.reshape(*images.shape[:3], -1).transpose(0, 3, 1, 2).astype(np.float32) / 255
        mean, deviation = (np.array(v, dtype=np.float32).reshape(-1, 1, 1) for v in self.normalisation)
        return np.asarray((images - mean) / deviation, dtype=np.float32)


NETWORKS = {
    "LeNet-300-100": Network("mnist-lenet-300-100.onnx", "mnist/mnist.npz", ("x_test", "y_test"), MNIST),
    "LeNet-5": Network("mnist-lenet5.onnx", "mnist/mnist.npz", ("x_test", "y_test"), MNIST),
    "VGG-16": Network("cifar10-vgg16.onnx", "cifar10/test.npz", ("x", "y"), IMAGENET),
    "ResNet-56": Network("cifar10-resnet56_cifar10.onnx", "cifar10/test.npz", ("x", "y"), IMAGENET),
}


def session_of(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    """Return a session on the CPU."""
    return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


def top1(model: onnx.ModelProto, images: Array, labels: Array) -> float:
    """Return the percentage of images that are classified as labelled."""
    session = session_of(model)
    name = session.get_inputs()[0].name
    parts = [session.run(None, {name: images[k : k + BATCH]})[0] for k in range(0, len(images), BATCH)]
    return 100 * float((np.concatenate(parts).argmax(axis=1) == labels).mean())


# ---- accuracy --------------------------------------------------------------------------------------------------------


def cell(path: Path, images: Array, labels: Array, request: dict[str, Any], seeds: int) -> tuple[str, str]:
    """Prune and measure; return what the table shows, and the last refusal if there is one."""
    found: list[float] = []
    refusal, refused = "", 0
    for seed in range(seeds):
        try:
            result = onnxprune.prune(path, **request, seed=seed)
        except onnxprune.RefusedError as error:
            refusal, refused = str(error), refused + 1
            continue
        found.append(top1(result.model, images, labels))
        sampled = any(group.factors for group in result.plan.groups)
        if not (sampled or METHODS[request["method"]].random_order):
            break
    if not found:
        return "refused", refusal
    spread = f" ± {np.std(found, ddof=1):.1f}" if len(found) > 1 else ""
    return f"{np.mean(found):.1f}{spread}{f' ({refused} refused)' if refused else ''}", refusal


def accuracy(name: str, args: argparse.Namespace) -> None:
    """Print the table of one network."""
    network = NETWORKS[name]
    path = args.data / "models" / network.model
    images, labels = network.test_set(args.data, args.limit)
    start, refusals = time.perf_counter(), []
    before = top1(onnx.load(path), images, labels)
    seeds = f"{args.seeds} seeds where it matters"
    print(f"\n{name}: top-1 {before:.2f} % of {len(images)} test images before pruning, {seeds}")
    print(f"\n| method | allocation | {' | '.join(f'-{ratio:.0%} parameters' for ratio in RATIOS)} |")
    print(f"|---|---|{'---|' * len(RATIOS)}")
    for allocation in args.allocation:
        for method in args.methods:
            cells = []
            for ratio in RATIOS:
                request = {"ratio": ratio, "method": method, "allocation": allocation, "refit": "off"}
                shown, refusal = cell(path, images, labels, request, args.seeds)
                cells.append(shown)
                refusals += [f"{method}, {allocation}, {ratio:.0%}: {refusal}"] if refusal else []
            print(f"| {method} | {allocation} | {' | '.join(cells)} |", flush=True)
    print(f"\n({time.perf_counter() - start:.0f} s)")
    for refusal in refusals:
        print(f"refused {refusal}")


# ---- unbiasedness ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Bias:
    """How far the mean over seeds is from the original, in standard errors.

    `gain` is that of the projection on the original (a shrinkage or an excess shows there), `rms` and `worst` are those
    of all pre-activations; without bias `rms` is about 1 and `worst` below `bound`, one in a thousand times excepted.
    """

    gain: float
    rms: float
    worst: float
    bound: float
    shrinkage: float


class Layer:
    """One group of channels and the one node that reads it, on real inputs."""

    def __init__(self, analysis: Analysis, group: Group, read: Read, images: Array) -> None:
        index, model = analysis.index, analysis.model
        node = index.nodes[read.node]
        self.name, self.group, self.read = node.name or node.output[0], group, read
        whole = onnx.ModelProto()
        whole.CopyFrom(model.proto)
        source, kind = node.input[read.input], onnx.TensorProto.FLOAT
        whole.graph.output.append(onnx.helper.make_tensor_value_info(source, kind, None))
        session = session_of(whole)
        (self.values,) = session.run([source], {session.get_inputs()[0].name: images})
        weights = [index.weights[name] for name in node.input if name in index.weights]
        value, result = (onnx.helper.make_tensor_value_info(n, kind, None) for n in (source, node.output[0]))
        graph = onnx.helper.make_graph([node], "reader", [value], [result], weights)
        opsets = list(model.proto.opset_import)
        self.reader = session_of(onnx.helper.make_model(graph, opset_imports=opsets, ir_version=8))
        reader = ChannelReader(analysis.coupling, index, lambda name: model.array(index.weights[name]))
        self.channels = reader.channels(group)
        unit_of = analysis.coupling.unit_of
        place = np.full(int(unit_of.max()) + 1, -1)
        place[group.units] = np.arange(group.size)
        self.places = place[unit_of[read.array]]

    def pre_activations(self, factors: Array) -> Array:
        """Return what the reader computes where each channel is multiplied by its factor (0: removed)."""
        shape = [1] * self.values.ndim
        shape[self.read.axes[0]] = -1
        scaled = self.values * factors[self.places].reshape(shape).astype(np.float32)
        return np.asarray(self.reader.run(None, {self.reader.get_inputs()[0].name: scaled})[0], dtype=np.float64)

    def bias(self, method: str, count: int, seeds: int) -> Bias:
        """Sample `count` channels with many seeds."""
        original = self.pre_activations(np.ones(self.group.size))
        signal = original - self.pre_activations(np.zeros(self.group.size))
        total, squares = np.zeros_like(original), np.zeros_like(original)
        gains = np.zeros(seeds)
        for seed in range(seeds):
            choice: Choice = METHODS[method](self.channels, np.random.default_rng(seed))
            assert choice.sample is not None
            sample = choice.sample(count)
            factors = np.zeros(self.group.size)
            factors[sample.kept] = sample.factors
            change = self.pre_activations(factors) - original
            total, squares = total + change, squares + change**2
            gains[seed] = (change * signal).sum() / (signal**2).sum()
        mean = total / seeds
        error = np.sqrt((squares / seeds - mean**2) / (seeds - 1))
        deviations = np.abs(mean[error > 0] / error[error > 0])
        bound = NormalDist().inv_cdf(1 - 0.0005 / deviations.size)
        gain = gains.mean() / (gains.std(ddof=1) / np.sqrt(seeds))
        rms = float(np.sqrt((deviations**2).mean()))
        return Bias(float(gain), rms, float(deviations.max()), bound, float(gains.mean()))


def single_readers(analysis: Analysis) -> list[tuple[Group, Read]]:
    """Return the groups whose channels, and no others, one node reads, with that read."""
    found = []
    for group in analysis.coupling.groups:
        units = set(group.units.tolist())
        reads = [(set(analysis.coupling.unit_of[r.array].tolist()), r) for r in analysis.coupling.trace.reads]
        own = [(read_units, read) for read_units, read in reads if units & read_units]
        if len(own) == 1 and own[0][0] == units and group.rows is None:
            found.append((group, own[0][1]))
    return found


def layers(path: Path, images: Array) -> list[Layer]:
    """Return the first, the middle and the last layer whose channels are read by one node."""
    analysis = analyse(io.load(path))
    found = single_readers(analysis)
    chosen = sorted({0, len(found) // 2, len(found) - 1})
    return [Layer(analysis, *found[number], images) for number in chosen]


def unbiased(name: str, args: argparse.Namespace) -> bool:
    """Print how far sampled layers of one network are from the original in the mean over seeds."""
    network = NETWORKS[name]
    images, _ = network.test_set(args.data, 16)
    fine = True
    for layer in layers(args.data / "models" / network.model, images):
        for method in ("coreset-sampled", "coreset-distinct"):
            for count in (layer.group.size // 2, layer.group.size // 8):
                found = layer.bias(method, count, args.bias_seeds)
                passed = abs(found.gain) <= 4 and found.worst <= found.bound
                fine &= passed or method != "coreset-sampled"
                verdict = ("unbiased" if passed else "BIASED") if method == "coreset-sampled" else "(not claimed)"
                print(
                    f"| {name} | {layer.name} | {method} | {count} of {layer.group.size} | {found.shrinkage:+.4f} | "
                    f"{found.gain:+.2f} | {found.rms:.2f} | {found.worst:.2f} | {found.bound:.2f} | {verdict} |",
                    flush=True,
                )
    return fine


def main(argv: Sequence[str] | None = None) -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--data", type=Path, required=True, metavar="FOLDER", help="folder of mnist/, cifar10/, models/"
    )
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS), help="(default: all)")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS), help="(default: all)")
    parser.add_argument("--allocation", nargs="+", default=["uniform"], metavar="A", help="(default: uniform)")
    parser.add_argument("--limit", type=int, metavar="N", help="test images (default: all)")
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="of random methods (default: %(default)s)")
    parser.add_argument("--bias-seeds", type=int, default=2000, metavar="N", help="0: no test (default: %(default)s)")
    args = parser.parse_args(argv)
    for name in args.networks:
        accuracy(name, args)
    if not args.bias_seeds:
        return 0
    print(f"\nMean of the next pre-activation over {args.bias_seeds} seeds, against the original, 16 test images")
    print("\n| network | reader | method | channels kept | gain - 1 | its s.e. | rms s.e. | worst s.e. | bound | |")
    print(f"|{'---|' * 10}")
    verdicts = [unbiased(name, args) for name in args.networks]
    return 0 if all(verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())
