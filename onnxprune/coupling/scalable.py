"""Which groups' readers can take a factor: those whose every read multiplies by a stored weight.

A sampled coreset multiplies what reads a channel by a factor, which is written into the readers' weights. A sum over
channels or a product of two activations has no weight to write it into. A factor that depends on a weight's sign is
written where the weight lies: nothing else may read it there.
"""

import numpy as np
from onnx import TensorProto

from onnxprune.coupling.groups import Coupling, Group
from onnxprune.graph.index import Index
from onnxprune.ops.labels import Array
from onnxprune.ops.trace import Block, Read, Role

__all__ = ["scalable_groups", "signed_groups"]

_FLOATS = frozenset({TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16})


def scalable_groups(coupling: Coupling, index: Index) -> frozenset[str]:
    """Find the groups whose readers' weights can be multiplied by a factor per channel.

    Parameters
    ----------
    coupling, index
        The network.

    Returns
    -------
    frozenset of str
        Names of groups of which every read has a stored, floating weight along the same channels.
    """
    weights: dict[int, list[Block]] = {}
    others: dict[int, list[Block]] = {}
    for block in coupling.trace.blocks:
        if block.use is not None:
            reads = block.role is Role.READS and index.weights[block.use.tensor].data_type in _FLOATS
            (weights if reads else others).setdefault(block.node, []).append(block)
    stuck = np.zeros(int(coupling.unit_of.max(initial=-1)) + 1, dtype=bool)
    for read in coupling.trace.reads:
        units, sources = coupling.unit_of[read.array], _sources(read, index)
        blocks = [block for node in sources for block in weights.get(node, ())]
        # A weight put together from several stored ones would need the factor in each.
        parts = [block for node in sources - {read.node} for block in others.get(node, ())]
        if not any(np.array_equal(_units(coupling, block), units.ravel()) for block in blocks) or any(
            np.isin(_units(coupling, block), units).any() for block in parts
        ):
            stuck[units] = True
    return frozenset(group.name for group in coupling.groups if not stuck[group.units].any())


def signed_groups(coupling: Coupling, index: Index, scalable: frozenset[str]) -> frozenset[str]:
    """Find those whose factors may depend on the sign of the weight.

    Parameters
    ----------
    coupling, index
        The network.
    scalable : frozenset of str
        From `scalable_groups`.

    Returns
    -------
    frozenset of str
        Names of groups whose readers' weights are each read once, by the node that multiplies by them.
    """
    reading = {read.node for read in coupling.trace.reads}
    once = {
        name
        for name in index.weights
        if [edge.node in reading for edge in index.consumers.get(name, ())] == [True]
        and not index.captured.get(name)
        and name not in index.outputs
    }
    return frozenset(name for name in scalable if _reading(coupling, coupling.group_of[name]) <= once)


def _reading(coupling: Coupling, group: Group) -> set[str]:
    """Names of the weights that read a group."""
    blocks = (coupling.trace.blocks[number] for number in group.blocks)
    return {block.use.tensor for block in blocks if block.use is not None and block.role is Role.READS}


def _units(coupling: Coupling, block: Block) -> Array:
    units: Array = coupling.unit_of[block.start : block.start + block.size]
    return units


def _sources(read: Read, index: Index) -> set[int]:
    """The reading node, and the nodes that compute its other inputs from stored weights alone."""
    pending = [name for place, name in enumerate(index.nodes[read.node].input) if place != read.input]
    found = {read.node}
    while pending:
        name = pending.pop()
        number = index.producer.get(name)
        if name in index.constants and number is not None and number not in found:
            found.add(number)
            pending.extend(index.nodes[number].input)
    return found
