"""The twin: the original network in which every reader of a removed channel sees zero there.

A pruned network has to compute what its twin computes, on any input. The twin is made from the original graph by
putting a mask before every reader; no slicing code takes part, so that a fault in slicing cannot hide in both. Masks
are inputs of the twin, so that one session serves every plan.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper

from onnxprune.coupling import Coupling
from onnxprune.graph.index import Index
from onnxprune.ops.trace import Kept, Read
from onnxprune.shapes.infer import Shapes
from onnxprune.validate.bypass import bypass
from onnxprune.validate.roundings import NOTHING, Roundings, find_roundings
from onnxprune.validate.statistics import MaskedStatistic, laid_out

__all__ = ["Twin", "build_twin"]

_PREFIX = "onnxprune_twin_"

_NARROW = frozenset({TensorProto.INT8, TensorProto.UINT8, TensorProto.INT16, TensorProto.UINT16})
"""Types whose tensors are masked as integers of 32 bits: onnxruntime's Where does not take all of them."""

_FLOATS = frozenset({TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16})


@dataclass(frozen=True)
class _Mask:
    """One masked edge: names of the mask, the readers' factors, and what is read's activity and zero ("" for none).

    Of integers, `wide` is the type that they are masked in; 0 for others.
    """

    name: str
    factor: str
    activity: str
    read: Read
    rank: int
    zero: str
    wide: int

    def shaped(self, values: NDArray[Any]) -> NDArray[Any]:
        """Lay one value per position along the edge's axes."""
        return laid_out(values, self.read.axes, self.rank)


@dataclass(frozen=True)
class Twin:
    """A masked copy of the original.

    Attributes
    ----------
    proto : ModelProto
        The original with masks as further inputs; its weights are those of the model it was built from.
    masks : tuple
        The masked edges.
    statistics : tuple of MaskedStatistic
        The statistics that are taken over what is kept.
    compared : tuple of str
        Tensors of the original to compare with the pruned network's: outputs, and what readers compute.
    activities : tuple of str
        How active each masked edge is, position by position.
    integers : frozenset of str
        Tensors that are sums of products of integers, which are the same to the last digit.
    roundings : Roundings
        What was taken out of it, and has to be taken out of what it is compared with.
    """

    proto: ModelProto
    masks: tuple[_Mask, ...]
    compared: tuple[str, ...]
    activities: tuple[str, ...]
    statistics: tuple[MaskedStatistic, ...] = ()
    integers: frozenset[str] = frozenset()
    roundings: Roundings = NOTHING

    def feeds(
        self, kept: Kept, unit_of: NDArray[np.int64], factors: NDArray[np.float64] | None
    ) -> dict[str, NDArray[np.generic]]:
        """Values of the masks (and of the readers' factors) for what is kept."""
        values: dict[str, NDArray[np.generic]] = {}
        for mask in self.masks:
            array = mask.read.array
            values[mask.name] = mask.shaped(kept.of(array))
            if mask.factor:
                own = np.ones(array.shape) if factors is None else factors[unit_of[array]]
                values[mask.factor] = mask.shaped(own.astype(np.float32))
        for statistic in self.statistics:
            values |= statistic.feeds(kept)
        return values


def _mask_edge(mask: _Mask, name: str, kind: int, opset: int) -> tuple[list[NodeProto], str]:
    """Nodes that put zero where the mask is false, and the name of their result."""
    if mask.wide:
        return _mask_integers(mask, name, kind, opset)
    masked = f"{mask.name}_masked"
    if opset >= 9:
        nodes = [helper.make_node("Where", [mask.name, name, f"{_PREFIX}zero_{kind}"], [masked])]
    else:
        nodes = [
            helper.make_node("Cast", [mask.name], [f"{mask.name}_number"], to=kind),
            helper.make_node("Mul", [name, f"{mask.name}_number"], [masked]),
        ]
    nodes += _measure(mask, masked, opset)
    if not mask.factor:
        return nodes, masked
    typed, scaled = f"{mask.factor}_typed", f"{mask.name}_scaled"
    nodes.append(helper.make_node("Cast", [mask.factor], [typed], to=kind))
    nodes.append(helper.make_node("Mul", [masked, typed], [scaled]))
    return nodes, scaled


def _mask_integers(mask: _Mask, name: str, kind: int, opset: int) -> tuple[list[NodeProto], str]:
    """The same for integers, of which their zero point stands for zero, or for what has taken their place."""
    wide, chosen, masked = f"{mask.name}_wide", f"{mask.name}_chosen", f"{mask.name}_masked"
    offset, number, zero = f"{mask.name}_offset", f"{mask.name}_number", f"{_PREFIX}zero_{mask.wide}"
    nodes = [helper.make_node("Cast", [name], [wide], to=mask.wide)]
    if mask.zero:
        zero = f"{mask.name}_zero"
        nodes.append(helper.make_node("Cast", [mask.zero], [zero], to=mask.wide))
    nodes += [
        helper.make_node("Where", [mask.name, wide, zero], [chosen]),
        helper.make_node("Cast", [chosen], [masked], to=kind),
        helper.make_node("Sub", [chosen, zero], [offset]),
        helper.make_node("Cast", [offset], [number], to=TensorProto.FLOAT),
    ]
    return nodes + _measure(mask, number, opset), masked


def _measure(mask: _Mask, name: str, opset: int) -> list[NodeProto]:
    """Nodes that sum the magnitudes of what is read at each position."""
    if not mask.activity:
        return []
    axes = [axis for axis in range(mask.rank) if axis not in mask.read.axes]
    if not axes:
        return [helper.make_node("Abs", [name], [mask.activity])]
    if opset < 18:
        return [helper.make_node("ReduceL1", [name], [mask.activity], axes=axes, keepdims=0)]
    return [helper.make_node("ReduceL1", [name, _axes_name(mask)], [mask.activity], keepdims=0)]


def _axes_name(mask: _Mask) -> str:
    return f"{_PREFIX}axes_{mask.rank}_{'_'.join(map(str, mask.read.axes))}"


def _constants(masks: Iterable[tuple[_Mask, int]]) -> list[TensorProto]:
    """Zeros of each type, and the axes that activities are summed over."""
    found: dict[str, TensorProto] = {}
    for mask, kind in masks:
        zero = f"{_PREFIX}zero_{mask.wide or kind}"
        found.setdefault(zero, helper.make_tensor(zero, mask.wide or kind, [], [0]))
        axes = [axis for axis in range(mask.rank) if axis not in mask.read.axes]
        found.setdefault(_axes_name(mask), helper.make_tensor(_axes_name(mask), TensorProto.INT64, [len(axes)], axes))
    return list(found.values())


def build_twin(
    proto: ModelProto,
    index: Index,
    shapes: Shapes,
    coupling: Coupling,
    *,
    scaled: bool,
    rounded: bool = False,
    budget: int = 1 << 24,
) -> Twin:
    """Turn a copy of the original into its twin.

    Parameters
    ----------
    proto : ModelProto
        A copy of the original; edited in place.
    index, shapes, coupling
        What was found out about the original.
    scaled : bool
        Whether readers' weights are multiplied by factors.
    rounded : bool
        Whether activations are rounded where the original rounds them; see `bypass`.
    budget : int
        Elements that the compared tensors may have together, outputs aside.

    Returns
    -------
    Twin
    """
    held = np.zeros(int(coupling.unit_of.max(initial=-1)) + 1, dtype=bool)
    for item in coupling.held:
        held[item.units] = True
    reads = [read for read in coupling.trace.reads if not held[coupling.unit_of[read.array]].all()]
    before: dict[int, list[NodeProto]] = defaultdict(list)
    after: dict[int, list[NodeProto]] = defaultdict(list)
    masks: list[tuple[_Mask, int]] = []
    graph = proto.graph
    statistics = _statistics(index, shapes, coupling, held)
    for found in statistics:
        node = found.statistic.node
        before[node], after[node], constants = found.rewrite(graph.node[node])
        graph.initializer.extend(constants)
        graph.input.append(helper.make_tensor_value_info(found.mask, TensorProto.BOOL, found.shape()))
        graph.input.append(helper.make_tensor_value_info(found.share, TensorProto.FLOAT, []))
    roundings = NOTHING if rounded else find_roundings(index, shapes)
    telling = _telling(index, coupling, reads)
    # Before any edge is masked: the index may be of this very protobuf, and an edge be read twice.
    named = [
        _mask_of(f"{_PREFIX}{number}", read, index, shapes, roundings, scaled=scaled)
        for number, read in enumerate(reads)
    ]
    for number, (read, (mask, kind)) in enumerate(zip(reads, named, strict=True)):
        mask = mask if number in telling else replace(mask, activity="")
        nodes, result = _mask_edge(mask, graph.node[read.node].input[read.input], kind, index.opsets.get("", 1))
        before[read.node] += nodes
        graph.node[read.node].input[read.input] = result
        shape = mask.shaped(read.array).shape
        graph.input.append(helper.make_tensor_value_info(mask.name, TensorProto.BOOL, shape))
        if mask.factor:
            graph.input.append(helper.make_tensor_value_info(mask.factor, TensorProto.FLOAT, shape))
        measured = TensorProto.FLOAT if mask.wide else kind
        if mask.activity:
            graph.output.append(helper.make_tensor_value_info(mask.activity, measured, None))
        masks.append((mask, kind))
    graph.initializer.extend(_constants(masks))
    if proto.ir_version < 4:
        proto.ir_version = 4
    _insert(proto, before, after)
    sums = _made(index, (read for read in reads if (read.node, read.input) in coupling.trace.quantised))
    stepped = roundings.loose - roundings.integers
    integers = frozenset(name for name in sums if shapes.types.get(name) not in _FLOATS and name not in stepped)
    compared = _compared(index, shapes, _made(index, reads), integers, budget)
    for name in compared:
        if name not in index.outputs:
            graph.output.append(helper.make_tensor_value_info(name, shapes.types[name], None))
    edges = tuple(mask for mask, _ in masks)
    activities = tuple(mask.activity for mask in edges if mask.activity)
    bypass(proto, roundings)
    return Twin(proto, edges, tuple(compared), activities, tuple(statistics), integers, roundings)


def _telling(index: Index, coupling: Coupling, reads: Sequence[Read]) -> set[int]:
    """Numbers of the reads at which one sees whether a unit is active.

    That a recurrent weight is not zero says nothing of the unit that it reads, unless nothing but weights reads it: an
    operator that makes queries and keys itself.
    """
    stored = [index.nodes[read.node].input[read.input] in index.constants for read in reads]
    seen = np.zeros(int(coupling.unit_of.max(initial=-1)) + 1, dtype=bool)
    for read, constant in zip(reads, stored, strict=True):
        seen[coupling.unit_of[read.array]] |= not constant
    return {
        number
        for number, (read, constant) in enumerate(zip(reads, stored, strict=True))
        if not constant or not seen[coupling.unit_of[read.array]].all()
    }


def _mask_of(
    base: str, read: Read, index: Index, shapes: Shapes, roundings: Roundings, *, scaled: bool
) -> tuple[_Mask, int]:
    """Name the mask of a reader's edge, and tell the type of what comes along it."""
    node = index.nodes[read.node]
    name = node.input[read.input]
    kind, rank = shapes.types[name], len(shapes.shapes[name])
    wide = TensorProto.INT32 if kind in _NARROW else 0
    if name in roundings.integers:
        kind = wide = TensorProto.FLOAT
    factor = f"{base}_factor" if scaled and kind in _FLOATS and not wide else ""
    activity = f"{base}_activity"
    zero = "" if read.zero is None or name in roundings.integers else node.input[read.zero]
    return _Mask(f"{base}_keep", factor, activity, read, rank, zero, wide), kind


def _statistics(index: Index, shapes: Shapes, coupling: Coupling, held: NDArray[np.bool_]) -> list[MaskedStatistic]:
    """The statistics that something could change."""
    found = []
    for number, statistic in coupling.trace.statistics.items():
        free = any(not held[coupling.unit_of[bundle.array]].all() for bundle in statistic.bundles)
        if free and not statistic.exact:
            name = index.nodes[number].input[0]
            prefix, rank, opset = f"{_PREFIX}statistic{number}", len(shapes.shapes[name]), index.opsets.get("", 1)
            found.append(MaskedStatistic(prefix, statistic, rank, shapes.types[name], opset))
    return found


def _insert(proto: ModelProto, before: dict[int, list[NodeProto]], after: dict[int, list[NodeProto]]) -> None:
    for number in sorted({*before, *after}, reverse=True):
        for node in reversed(after[number]):
            proto.graph.node.insert(number + 1, node)
        for node in reversed(before[number]):
            proto.graph.node.insert(number, node)


def _made(index: Index, reads: Iterable[Read]) -> dict[str, None]:
    """What readers compute, each name once."""
    return dict.fromkeys(index.nodes[read.node].output[0] for read in reads)


def _compared(index: Index, shapes: Shapes, made: Iterable[str], integers: frozenset[str], budget: int) -> list[str]:
    """Outputs of the network and of its readers, as far as the budget goes; small tensors first."""
    found = [
        name for name in made if name not in index.outputs and (shapes.types.get(name) in _FLOATS or name in integers)
    ]
    size = {name: math.prod(shapes.shapes[name]) for name in found}
    chosen, spent = set[str](), 0
    for name in sorted(found, key=lambda item: size[item]):
        spent += size[name]
        if spent > budget:
            break
        chosen.add(name)
    return [*index.outputs, *(name for name in found if name in chosen)]
