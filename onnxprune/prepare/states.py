"""Doors for states that a network hands out and is handed back, so that units behind them can go and the states stay.

The signature is kept: of a state that comes in, only the slots of kept units are read; of one that is handed out, the
slots of removed units are zero. An Identity at each is where that is done.
"""

from collections.abc import Iterable, Sequence

from onnx import NodeProto, TensorProto, helper

from onnxprune.errors import RefusedError
from onnxprune.graph.index import Index
from onnxprune.graph.model import Model
from onnxprune.prepare.rename import FreeNames, rename

__all__ = ["open_states"]

_FLOATS = frozenset({TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16})


def open_states(model: Model, named: Sequence[str]) -> frozenset[tuple[str, str]]:
    """Put an Identity behind inputs and before outputs that are states, in place, where none is there.

    Parameters
    ----------
    model : Model
    named : sequence of str
        "IN:OUT", an input and the output that is handed back there.

    Returns
    -------
    frozenset of (str, str)
        Inputs and outputs that have a door each; without those that are no numbers, or that a subgraph reads.

    Raises
    ------
    RefusedError
        If the network has no such input and output, or a state is named twice.
    """
    if not named:
        return frozenset()
    index = Index(model.proto)
    states = [_found(text, index) for text in named]
    if len({name for pair in states for name in pair}) < 2 * len(states):
        raise RefusedError(f"--state {' --state '.join(named)}: an input or an output is named twice")
    kinds = {v.name: v.type.tensor_type.elem_type for v in (*model.proto.graph.input, *model.proto.graph.output)}
    free = [(source, target) for source, target in states if not (index.captured[source] or index.captured[target])]
    opened = frozenset(pair for pair in free if {kinds[name] for name in pair} <= _FLOATS)
    free_names, nodes = FreeNames(model.proto), model.proto.graph.node
    for source, target in sorted(opened):
        if [index.nodes[edge.node].op_type for edge in index.consumers[source]] != ["Identity"]:
            inner = _renamed(nodes, source, free_names)
            nodes.insert(0, helper.make_node("Identity", [source], [inner], name=inner))
        if index.nodes[index.producer[target]].op_type != "Identity" or index.consumers[target]:
            inner = _renamed(nodes, target, free_names)
            nodes.append(helper.make_node("Identity", [inner], [target], name=inner))
    return opened


def _found(text: str, index: Index) -> tuple[str, str]:
    """Split a text into the input and the output; names may have colons."""
    inputs, outputs = set(index.inputs), index.producer.keys() & index.outputs
    parts = text.split(":")
    for number in range(1, len(parts)):
        source, target = ":".join(parts[:number]), ":".join(parts[number:])
        if source in inputs and target in outputs:
            return source, target
    raise RefusedError(
        f"--state {text!r}: give IN:OUT, an input and the output that is handed back there; the inputs are "
        f"{', '.join(index.inputs)}, the outputs {', '.join(index.outputs)}"
    )


def _renamed(nodes: Iterable[NodeProto], name: str, free: FreeNames) -> str:
    """Give what lies behind a door a name of its own."""
    inner = free.take(f"{name}_inner")
    rename(nodes, {name: inner})
    return inner
