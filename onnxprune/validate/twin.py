"""The twin: the original network in which every reader of a removed channel sees zero there.

A pruned network has to compute what its twin computes, on any input. The twin is made from the original graph by
putting a mask before every reader; no slicing code takes part, so that a fault in slicing cannot hide in both. Masks
are inputs of the twin, so that one session serves every plan.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper

from onnxprune.coupling import Coupling
from onnxprune.graph.index import Index
from onnxprune.graph.shapes import Shapes
from onnxprune.ops.trace import Kept, Read
from onnxprune.validate.statistics import MaskedStatistic, laid_out

__all__ = ["Twin", "build_twin"]

_PREFIX = "onnxprune_twin_"


@dataclass(frozen=True)
class _Mask:
    """One masked edge: names of the mask, of the readers' factors ("" for none), and of what is read's activity."""

    name: str
    factor: str
    activity: str
    read: Read
    rank: int

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
    """

    proto: ModelProto
    masks: tuple[_Mask, ...]
    compared: tuple[str, ...]
    activities: tuple[str, ...]
    statistics: tuple[MaskedStatistic, ...] = ()

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
    masked = f"{mask.name}_masked"
    if opset >= 9:
        nodes = [helper.make_node("Where", [mask.name, name, f"{_PREFIX}zero_{kind}"], [masked])]
    else:
        nodes = [
            helper.make_node("Cast", [mask.name], [f"{mask.name}_number"], to=kind),
            helper.make_node("Mul", [name, f"{mask.name}_number"], [masked]),
        ]
    axes = [axis for axis in range(mask.rank) if axis not in mask.read.axes]
    if not axes:
        nodes.append(helper.make_node("Abs", [masked], [mask.activity]))
    elif opset < 18:
        nodes.append(helper.make_node("ReduceL1", [masked], [mask.activity], axes=axes, keepdims=0))
    else:
        nodes.append(helper.make_node("ReduceL1", [masked, _axes_name(mask)], [mask.activity], keepdims=0))
    if not mask.factor:
        return nodes, masked
    typed, scaled = f"{mask.factor}_typed", f"{mask.name}_scaled"
    nodes.append(helper.make_node("Cast", [mask.factor], [typed], to=kind))
    nodes.append(helper.make_node("Mul", [masked, typed], [scaled]))
    return nodes, scaled


def _axes_name(mask: _Mask) -> str:
    return f"{_PREFIX}axes_{mask.rank}_{'_'.join(map(str, mask.read.axes))}"


def _constants(masks: Iterable[tuple[_Mask, int]]) -> list[TensorProto]:
    """Zeros of each type, and the axes that activities are summed over."""
    found: dict[str, TensorProto] = {}
    for mask, kind in masks:
        zero = f"{_PREFIX}zero_{kind}"
        found.setdefault(zero, helper.make_tensor(zero, kind, [], [0]))
        axes = [axis for axis in range(mask.rank) if axis not in mask.read.axes]
        found.setdefault(_axes_name(mask), helper.make_tensor(_axes_name(mask), TensorProto.INT64, [len(axes)], axes))
    return list(found.values())


def build_twin(
    proto: ModelProto, index: Index, shapes: Shapes, coupling: Coupling, *, scaled: bool, budget: int = 1 << 24
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
    names = [index.nodes[read.node].input[read.input] for read in reads]
    for number, (read, original) in enumerate(zip(reads, names, strict=True)):
        kind, rank = shapes.types[original], len(shapes.shapes[original])
        base = f"{_PREFIX}{number}"
        mask = _Mask(f"{base}_keep", f"{base}_factor" if scaled else "", f"{base}_activity", read, rank)
        nodes, result = _mask_edge(mask, graph.node[read.node].input[read.input], kind, index.opsets.get("", 1))
        before[read.node] += nodes
        graph.node[read.node].input[read.input] = result
        shape = mask.shaped(read.array).shape
        graph.input.append(helper.make_tensor_value_info(mask.name, TensorProto.BOOL, shape))
        if mask.factor:
            graph.input.append(helper.make_tensor_value_info(mask.factor, TensorProto.FLOAT, shape))
        graph.output.append(helper.make_tensor_value_info(mask.activity, kind, None))
        masks.append((mask, kind))
    graph.initializer.extend(_constants(masks))
    if proto.ir_version < 4:
        proto.ir_version = 4
    _insert(proto, before, after)
    compared = _compared(index, shapes, reads, budget)
    for name in compared:
        if name not in index.outputs:
            graph.output.append(helper.make_tensor_value_info(name, shapes.types[name], None))
    edges = tuple(mask for mask, _ in masks)
    return Twin(proto, edges, tuple(compared), tuple(mask.activity for mask in edges), tuple(statistics))


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


def _compared(index: Index, shapes: Shapes, reads: list[Read], budget: int) -> list[str]:
    """Outputs of the network and of its readers, as far as the budget goes; small tensors first."""
    floats = (TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16)
    names = dict.fromkeys(index.nodes[read.node].output[0] for read in reads)
    found = [name for name in names if name not in index.outputs and shapes.types.get(name) in floats]
    size = {name: int(np.prod(shapes.shapes[name])) for name in found}
    chosen, spent = [], 0
    for name in sorted(found, key=lambda item: size[item]):
        spent += size[name]
        if spent > budget:
            break
        chosen.append(name)
    return [*index.outputs, *(name for name in found if name in set(chosen))]
