#!/usr/bin/env python3
"""Print what coresets keep of trained networks: error of the next pre-activation per layer, and top-1 of the whole.

    python tools/reproduce_coresets.py --data DATA

DATA holds mnist/mnist.npz, cifar10/test.npz, cifar10/calib.npz and models/. Nothing is fine-tuned. Channels that one
Conv or Gemm reads are thinned, the same share of each layer; every selection is shown

    published   with the factors that the paper gives the readers' weights, for `coreset-split` one for positive and one
                for negative weights; for `random` n / kept, which makes it uniform sampling;
    plain       the same channels, weights as they are;
    refit       the same channels, the readers' weights and biases solved anew by least squares on calibration images
                (training images, no labels; --images of them). Of one layer: W̃ = (G_SS + λI)⁻¹ G_S· W, G the centred
                moments of what the reader reads, λ = 0.001 of their mean diagonal. Of the whole: what `onnxprune`
                itself does with `--calib` and `--refit on` for the same plan, reader after reader on what the pruned
                ones give it; with --alone every layer by the formula, from moments of the original: worse, but gathered
                once for all plans, for networks of which a refit takes minutes.

Per layer the rest of the network is whole: relative error ‖Y' − Y‖ / ‖Y‖ of what the reader computes, on test images.
With --layer-order the layers of the whole are looked at one after the other. Selections that depend on chance are
repeated with several seeds: mean ± standard deviation. --quick takes 3 seeds, 3 shares and 500 images, and --whole
leaves out single layers. What rows and seeds have in common is done once: analysis, moments, peeling, calibration data.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper
from reproduce_accuracy import NETWORKS, Array, Network, session_of, single_readers, top1
from scipy.linalg import cho_factor, cho_solve

from onnxprune.analysis import Analysis, analyse
from onnxprune.coupling import Group
from onnxprune.graph import io
from onnxprune.graph.index import attributes
from onnxprune.methods import METHODS, Channels, Choice
from onnxprune.methods.mussay import sampled
from onnxprune.ops.trace import Read
from onnxprune.options import LAYER_ORDERS, Options
from onnxprune.pipeline import Decision
from onnxprune.refine import Refiner, open_refiner
from onnxprune.rewrite import GroupPlan, Plan, apply
from onnxprune.score import Scorer

CALIBRATION = {"mnist/mnist.npz": ("mnist/mnist.npz", "x_train"), "cifar10/test.npz": ("cifar10/calib.npz", "x")}
ROWS, RIDGE, BATCH = 6000, 1e-3, 50
VARIANTS = ("published", "plain", "refit")
QUICK = {"seeds": 3, "shares": [0.1, 0.3, 0.5], "limit": 500}


@dataclass(frozen=True)
class Moments:
    """Of what a reader reads: centred second moments over the calibration images, and their means."""

    centred: Array
    mean: Array


class Layer:
    """A group of channels and its reader y = W x + b, x the reader's input or a patch of it.

    `place` is the channel of each coordinate of x.
    """

    def __init__(self, analysis: Analysis, group: Group, read: Read) -> None:
        self.group, self.node = group, analysis.index.nodes[read.node]
        self.source, self.convolution = self.node.input[0], self.node.op_type == "Conv"
        stored = {tensor.name: tensor for tensor in analysis.model.proto.graph.initializer}
        self.weight, self.bias = (numpy_helper.to_array(stored[name]) for name in self.node.input[1:3])
        found = attributes(self.node)
        self.by_columns = not self.convolution and not found["transB"].i if "transB" in found else not self.convolution
        unit_of = analysis.coupling.unit_of
        number = np.full(int(unit_of.max()) + 1, -1)
        number[group.units] = np.arange(group.size)
        self.place = number[unit_of[read.array.ravel()]]
        if self.convolution:
            self.kernel = tuple(self.weight.shape[2:])
            self.strides = tuple(found["strides"].ints) if "strides" in found else (1, 1)
            self.pads = tuple(found["pads"].ints) if "pads" in found else (0, 0, 0, 0)
            self.place = np.repeat(self.place, int(np.prod(self.kernel)))
        name = self.node.name or self.node.output[0]
        self.name = f"{group.name} ({group.size}) read by {name}"

    @property
    def matrix(self) -> Array:
        """W as (coordinates of x, outputs)."""
        return self.weight if self.by_columns else self.weight.reshape(len(self.weight), -1).T

    def stored(self, matrix: Array) -> Array:
        """The same as the node wants it."""
        return np.ascontiguousarray(matrix if self.by_columns else matrix.T).reshape(self.weight.shape)

    def rows(self, values: Array, rng: np.random.Generator, count: int) -> Array:
        """Some x of a batch of the reader's inputs: all of them, or patches at random positions."""
        if not self.convolution:
            return values
        top, left, bottom, right = self.pads
        padded = np.pad(values, ((0, 0), (0, 0), (top, bottom), (left, right)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, self.kernel, axis=(2, 3))
        windows = windows[:, :, :: self.strides[0], :: self.strides[1]]
        each = max(1, count // len(values))
        down, across = (rng.integers(0, size, (len(values), each)) for size in windows.shape[2:4])
        taken = windows[np.arange(len(values))[:, None], :, down, across]
        return taken.reshape(len(values) * each, -1)


def with_biases(path: Path) -> onnx.ModelProto:
    """Return a network whose convolutions all have a bias, to be refitted too."""
    proto = onnx.load(path)
    shapes = {tensor.name: tensor.dims for tensor in proto.graph.initializer}
    for node in proto.graph.node:
        if node.op_type == "Conv" and len(node.input) == 2 and node.input[1] in shapes:
            name = f"{node.output[0]}_bias"
            zeros = np.zeros(shapes[node.input[1]][0], dtype=np.float32)
            proto.graph.initializer.append(numpy_helper.from_array(zeros, name))
            node.input.append(name)
    return proto


def rows_of(analysis: Analysis, layers: list[Layer], images: Array, count: int) -> list[Array]:
    """Return about `count` x for every layer, taken evenly from the images."""
    proto = onnx.ModelProto()
    proto.CopyFrom(analysis.model.proto)
    sources = list(dict.fromkeys(layer.source for layer in layers))
    present = {value.name for value in proto.graph.output}
    proto.graph.output.extend(
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in sources if name not in present
    )
    session, rng = session_of(proto), np.random.default_rng(0)
    name = session.get_inputs()[0].name
    parts: list[list[Array]] = [[] for _ in layers]
    for start in range(0, len(images), BATCH):
        batch = images[start : start + BATCH]
        values = dict(zip(sources, session.run(sources, {name: batch}), strict=True))
        for layer, found in zip(layers, parts, strict=True):
            found.append(layer.rows(values[layer.source], rng, max(1, count * len(batch) // len(images))))
    return [np.concatenate(found) for found in parts]


def moments_of(rows: Array) -> Moments:
    """Return the moments of some x."""
    mean = rows.mean(axis=0)
    centred = rows - mean
    return Moments(centred.T @ centred / np.float32(len(rows)), mean)


# ---- selections ------------------------------------------------------------------------------------------------------


class Selections:
    """Chooses channels of a network's layers, and remembers what methods say.

    Parameters
    ----------
    analysis : Analysis
    layers : sequence of Layer
    order : str
        As of --layer-order.
    """

    def __init__(self, analysis: Analysis, layers: Sequence[Layer], order: str) -> None:
        self.analysis, self.order = analysis, order
        names = [group.name for group in analysis.coupling.groups]
        self.numbers = sorted(names.index(layer.group.name) for layer in layers)
        self._known: dict[tuple[str, int, int], Choice] = {}

    def of_layer(self, layer: Layer, method: str, share: float, seed: int) -> GroupPlan:
        """Choose a share of the channels of one layer, all else whole."""
        number = self.analysis.coupling.groups.index(layer.group)
        return self._planned(number, method, share, self._choice(number, method, seed))

    def of_all(self, method: str, share: float, seed: int) -> Plan:
        """Choose that share of every layer, in the order of layers."""
        scorer = Scorer(self.analysis, Options(method=method, seed=seed, layer_order=self.order))
        planned: dict[str, GroupPlan] = {}
        for number in self.numbers[::-1] if self.order == "backward" else self.numbers:
            as_they_are = self.order == "together"
            choice = self._choice(number, method, seed) if as_they_are else scorer.choice(number, planned=planned)
            found = self._planned(number, method, share, choice)
            planned[found.name] = found
        return Plan("", tuple(planned.values()))

    def _choice(self, number: int, method: str, seed: int) -> Choice:
        """What a method says of a group by the weights as they are; a sample's probabilities are found once."""
        if (method, number, seed) not in self._known:
            first = self._known.get((method, number, 0))
            if first is None or first.guarantee is None or first.guarantee.probabilities.ndim > 1:
                made = Scorer(self.analysis, Options(method=method, seed=seed)).choice(number)
            else:
                made = sampled(first.guarantee.probabilities, None, np.random.default_rng([seed, number]))
            self._known[method, number, seed] = made
        return self._known[method, number, seed]

    def _planned(self, number: int, method: str, share: float, choice: Choice) -> GroupPlan:
        group = self.analysis.coupling.groups[number]
        count = max(1, round(share * group.size))
        if choice.sample is None:
            factors = (group.size / count,) * count if method == "random" else ()
            return GroupPlan(group.name, group.size, tuple(np.sort(choice.order[:count]).tolist()), factors)
        sample = choice.sample(count)
        kept, factors, negative = (tuple(part.tolist()) for part in (sample.kept, sample.factors, sample.negative))
        return GroupPlan(group.name, group.size, kept, factors, (), sample.draws, negative)


def without_factors(planned: GroupPlan) -> GroupPlan:
    """The same channels, weights as they are."""
    return GroupPlan(planned.name, planned.channels, planned.kept)


def scaled(layer: Layer, planned: GroupPlan) -> Array:
    """Return the old weights (coordinates, outputs) times their factors, zero for what is gone."""
    factors = np.zeros((2, layer.group.size), dtype=np.float32)
    factors[:, list(planned.kept)] = planned.by_sign
    positive, negative = factors[:, layer.place, None]
    return np.asarray(layer.matrix * np.where(layer.matrix < 0, negative, positive))


def solved(layer: Layer, moments: Moments, planned: GroupPlan, variant: str) -> tuple[Array, Array]:
    """Return weights (coordinates, outputs), zero where a channel has gone, and bias, by one of the variants."""
    if variant != "refit":
        return scaled(layer, planned if variant == "published" else without_factors(planned)), layer.bias
    matrix = np.zeros_like(layer.matrix)
    inside = np.isin(layer.place, planned.kept)
    own = moments.centred[np.ix_(inside, inside)].astype(np.float64)
    own[np.diag_indices_from(own)] += RIDGE * np.diag(moments.centred).mean()
    target = moments.centred[inside] @ layer.matrix
    matrix[inside] = cho_solve(cho_factor(own, lower=True, overwrite_a=True), target.astype(np.float64))
    return matrix, layer.bias + moments.mean @ (layer.matrix - matrix)


def chance_in(method: str) -> bool:
    """Tell whether seeds matter."""
    alike = Channels((np.ones((4, 2)),), None, (np.ones((4, 2, 1)),), "Relu")
    recipe = METHODS[method]
    return recipe.random_order or recipe(alike, np.random.default_rng(0)).sample is not None


def shown(values: list[float], form: str) -> str:
    """Return the mean, with the spread where there are several."""
    spread = f" ± {np.std(values, ddof=1):{form}}" if len(values) > 1 else ""
    return f"{np.mean(values):{form}}{spread}"


def table(
    args: argparse.Namespace, measure: Callable[[str, float, int, str], float], form: str
) -> Iterator[tuple[str, str]]:
    """Yield the rows of a table: measure(method, share, seed, variant) in every cell."""
    for method in args.methods:
        for variant in args.variants:
            if variant == "published" and not chance_in(method):
                continue
            seeds = range(args.seeds if chance_in(method) else 1)
            cells = [shown([measure(method, share, seed, variant) for seed in seeds], form) for share in args.shares]
            yield f"{method}, {variant}", " | ".join(cells)


def show(title: str, args: argparse.Namespace, rows: Iterator[tuple[str, str]]) -> None:
    """Print a table as it is made."""
    print(f"\n{title}\n\n| | {' | '.join(f'{share:.0%} kept' for share in args.shares)} |")
    print(f"|---|{'---|' * len(args.shares)}")
    for name, cells in rows:
        print(f"| {name} | {cells} |", flush=True)


# ---- one layer, and the whole ----------------------------------------------------------------------------------------


def per_layer(selections: Selections, layer: Layer, moments: Moments, rows: Array, args: argparse.Namespace) -> None:
    """Print how far what the reader computes is from the original."""
    reference = rows @ layer.matrix + layer.bias
    norm = float(np.linalg.norm(reference))

    def measure(method: str, share: float, seed: int, variant: str) -> float:
        matrix, bias = solved(layer, moments, selections.of_layer(layer, method, share, seed), variant)
        used = matrix.any(axis=1)
        found = rows[:, used] @ matrix[used] + bias
        return float(np.linalg.norm(found - reference)) / norm

    show(f"{layer.name}: relative error of the next pre-activation", args, table(args, measure, ".3f"))


@dataclass(frozen=True)
class Whole:
    """A network to be thinned in all of its layers: what is known of it, calibration images, and a test set."""

    analysis: Analysis
    images: Array
    test: tuple[Array, Array]
    alone: Sequence[tuple[Layer, Moments]] = ()
    known: dict[tuple[bool, tuple[GroupPlan, ...]], float] = field(default_factory=dict)

    @cached_property
    def options(self) -> Options:
        """What is asked of the library."""
        return Options(calib=self.images, samples=len(self.images), refit="on")

    @cached_property
    def refiner(self) -> Refiner:
        """The network with calibration data."""
        found = open_refiner(self.analysis, self.options)
        assert found is not None, "data is given"
        return found

    def thinned(self, plan: Plan, *, refit: bool) -> onnx.ModelProto:
        """Return the network with these channels, readers solved anew or with the plan's factors."""
        decision, model = Decision(self.analysis, plan), self.analysis.model.copy()
        if refit and self.alone:
            stored, planned = {t.name: t for t in model.proto.graph.initializer}, {p.name: p for p in plan.groups}
            for layer, moments in self.alone:
                matrix, bias = solved(layer, moments, planned[layer.group.name], "refit")
                for name, value in zip(layer.node.input[1:3], (layer.stored(matrix), bias), strict=True):
                    stored[name].CopyFrom(numpy_helper.from_array(value.astype(np.float32), name))
        elif refit:
            kept = {item.name: np.array(item.kept) for item in plan.groups if len(item.kept) < item.channels}
            decision = Decision(self.analysis, plan, solved=self.refiner.reconstruct(kept, {}))
        decision.renewed(model, self.options)
        ready = analyse(model, self.options)
        apply(model, ready.index, ready.shapes, ready.coupling, plan)
        return model.materialise()

    def top1(self, plan: Plan, variant: str) -> float:
        """Return what is classified right, by one of the variants."""
        groups = plan.groups if variant == "published" else tuple(map(without_factors, plan.groups))
        key = variant == "refit", groups
        if key not in self.known:
            self.known[key] = top1(self.thinned(Plan("", groups), refit=key[0]), *self.test)
        return self.known[key]


def whole(network: Whole, selections: Selections, args: argparse.Namespace) -> None:
    """Print top-1 with every layer thinned."""

    def measure(method: str, share: float, seed: int, variant: str) -> float:
        return network.top1(selections.of_all(method, share, seed), variant)

    title = f"whole network, {len(selections.numbers)} layers thinned: top-1 of {len(network.test[1])} test images"
    show(title, args, table(args, measure, ".1f"))


def calibration(network: Network, args: argparse.Namespace) -> Array:
    """Return training images, normalised."""
    file, name = CALIBRATION[network.images]
    with np.load(args.data / file) as stored:
        return network.normalised(stored[name][: args.images])


def study(name: str, args: argparse.Namespace) -> None:
    """Print all tables of one network."""
    network, start = NETWORKS[name], time.perf_counter()
    proto = with_biases(args.data / "models" / network.model)
    analysis = analyse(io.from_proto(proto))
    test = network.test_set(args.data, args.limit)
    print(f"\n### {name}: top-1 {top1(proto, *test):.1f} % of {len(test[1])} test images before pruning")
    layers = [Layer(analysis, group, read) for group, read in single_readers(analysis)]
    images = calibration(network, args)
    chosen = sorted({0, len(layers) // 2, len(layers) - 1}) if len(layers) > 4 else range(len(layers))
    few: list[Layer] = [] if args.whole else [layers[number] for number in chosen]
    selections = Selections(analysis, layers, args.layer_order)
    if few:
        moments = [moments_of(rows) for rows in rows_of(analysis, few, images, ROWS)]
        test_rows = rows_of(analysis, few, test[0], ROWS // 3)
        for layer, own, rows in zip(few, moments, test_rows, strict=True):
            per_layer(selections, layer, own, rows, args)
    every = rows_of(analysis, layers, images, ROWS) if args.alone else []
    alone = [(layer, moments_of(rows)) for layer, rows in zip(layers, every, strict=False)]
    whole(Whole(analysis, images, test, alone), selections, args)
    print(f"\n({name}: {time.perf_counter() - start:.0f} s)", flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, metavar="DATA", help="folder of mnist/, cifar10/, models/")
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS), help="(default: all)")
    blind = [name for name, recipe in METHODS.items() if not recipe.needs_data]
    parser.add_argument("--methods", nargs="+", choices=blind, default=blind, help="(default: all that need no data)")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS), help="(default: all)")
    shares = [0.05, 0.1, 0.3, 0.5, 0.75]
    parser.add_argument(
        "--shares", nargs="+", type=float, default=shares, help="of channels kept (default: %(default)s)"
    )
    parser.add_argument("--seeds", type=int, default=10, metavar="N", help="where chance plays (default: %(default)s)")
    parser.add_argument("--limit", type=int, default=1000, metavar="N", help="test images (default: %(default)s)")
    parser.add_argument(
        "--images", type=int, default=1024, metavar="N", help="calibration images (default: %(default)s)"
    )
    parser.add_argument(
        "--layer-order", choices=LAYER_ORDERS, default="together", help="of whole networks (default: %(default)s)"
    )
    parser.add_argument("--alone", action="store_true", help="refit layers of the whole by the original's moments")
    parser.add_argument("--whole", action="store_true", help="whole networks only")
    parser.add_argument("--quick", action="store_true", help="3 seeds, 3 shares, 500 images")
    args = parser.parse_args(argv)
    if args.quick:
        vars(args).update(QUICK)
    for name in args.networks:
        study(name, args)
    return 0


if __name__ == "__main__":
    sys.exit(main())
