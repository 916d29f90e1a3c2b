"""What stands between the layer that writes a group's channels and those that read them: is each channel φ of one sum?

Bounds of what leaving channels out does hold where one layer y = W x + b writes them, at most one activation follows
(a BatchNormalization before it is folded), then nothing but moving, averaging or taking the largest of values, and
layers with weights read them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from onnx import NodeProto

from onnxprune.coupling.costs import group_of_label
from onnxprune.coupling.groups import Coupling, Group
from onnxprune.graph.index import Edge, Index, attributes, node_site
from onnxprune.ops.pointwise import ACTIVATIONS
from onnxprune.ops.trace import Read, Role

__all__ = ["Way", "reads_of", "way_of"]

_LAYERS = frozenset({"Conv", "Gemm", "MatMul"})

# Operators whose results are values of what goes in, means of them, or zero.
_CARRIES = """AveragePool Cast Dropout Expand Flatten GlobalAveragePool GlobalMaxPool Identity MaxPool ReduceMax
    ReduceMean Reshape Slice Split Squeeze Transpose Unsqueeze"""
_CARRYING = frozenset(_CARRIES.split())
_FOLDED = frozenset({"Add", "BatchNormalization"})


@dataclass(frozen=True)
class Way:
    """How a group's channels come to their readers.

    Attributes
    ----------
    writer : int
        The node that writes them; −1 where there is not exactly one.
    obstacle : str
        Why a channel is not φ of one sum on its way; "" where it is.
    """

    writer: int
    obstacle: str = ""


def reads_of(coupling: Coupling) -> dict[str, list[Read]]:
    """Sort what is read by the names of the groups whose channels are: what reads several is in several lists.

    Parameters
    ----------
    coupling : Coupling

    Returns
    -------
    dict of str to list of Read
    """
    group_of = group_of_label(coupling)
    found: dict[str, list[Read]] = {group.name: [] for group in coupling.groups}
    for read in coupling.trace.reads:
        for number in np.unique(group_of[read.array]):
            if number >= 0:
                found[coupling.groups[number].name].append(read)
    return found


def way_of(coupling: Coupling, index: Index, group: Group, reads: Sequence[Read]) -> Way:
    """Follow a group's channels from the layer that writes them to all that read them.

    Parameters
    ----------
    coupling, index
        The network.
    group : Group
    reads : sequence of Read
        What reads it, from `reads_of`.

    Returns
    -------
    Way
    """
    blocks = [coupling.trace.blocks[number] for number in group.blocks]
    used = [block for block in blocks if block.use is not None]
    writers = sorted({block.layer for block in used if block.role is Role.WRITES})
    readers = {block.layer for block in used if block.role is Role.READS}
    if len(writers) != 1:
        return Way(-1, f"{len(writers)} layers write them" if writers else "no layer with weights writes them")
    edges = {Edge(read.node, read.input) for read in reads}
    for number in sorted({*writers, *readers, *(edge.node for edge in edges)}):
        if reason := _is_no_layer(index.nodes[number], index):
            return Way(writers[0], reason)
    weightless = sorted({edge.node for edge in edges} - readers)
    if weightless:
        return Way(writers[0], f"{node_site(index.nodes[weightless[0]])} reads them without weights")
    return Way(writers[0], _between(index, writers[0], edges))


def _is_no_layer(node: NodeProto, index: Index) -> str:
    """Say why a node is no layer y = W x + b of its first input; "" where it is one."""
    if node.op_type not in _LAYERS or len(node.input) < 2 or node.input[1] not in index.constants:
        return f"{node_site(node)} is no plain layer"
    found = attributes(node)
    scales = [found[name].f for name in ("alpha", "beta") if name in found]
    if any(scale != 1.0 for scale in scales) or ("transA" in found and found["transA"].i):
        return f"{node_site(node)} scales or transposes"
    return ""


def _between(index: Index, writer: int, reads: set[Edge]) -> str:
    """Say what stands between a layer and its readers that is no activation, and moves no values; "" for nothing."""
    pending, seen = [(index.nodes[writer].output[0], False)], set[str]()
    while pending:
        name, active = pending.pop()
        if name in index.captured or name in index.outputs:
            return f"{name} is read elsewhere"
        edges = index.consumers.get(name, [])
        for edge in edges:
            node = index.nodes[edge.node]
            if edge in reads or node.op_type == "Shape":
                continue
            before = not active and len(edges) == 1
            if node.op_type in _CARRYING and edge.input == 0:
                then = active
            elif before and node.op_type in ACTIVATIONS and edge.input == 0:
                then = True
            elif (
                before
                and node.op_type in _FOLDED
                and all(other in index.constants for place, other in enumerate(node.input) if place != edge.input)
            ):
                then = False
            else:
                return f"{node_site(node)} stands between"
            pending += [(output, then) for output in node.output if output and output not in seen]
            seen.update(node.output)
    return ""
