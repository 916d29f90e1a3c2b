"""Branches that are always taken: an If whose condition the file itself decides becomes the nodes of one branch.

A condition that follows from a symbolic size, or from an input's value, decides nothing: such an If stays.
"""

from onnx import GraphProto, NodeProto, helper

from onnxprune.graph.index import Index, attributes
from onnxprune.graph.model import Model
from onnxprune.graph.unread import drop_unread
from onnxprune.prepare.rename import FreeNames, defined, rename
from onnxprune.shapes.infer import Shapes, infer_shapes

__all__ = ["take_branches"]


def take_branches(model: Model, given: dict[str, tuple[int, ...]] | None = None) -> int:
    """Put the branch that is always taken in the place of each If of the main graph that is decided, in place.

    Parameters
    ----------
    model : Model
    given : dict of str to tuple of int, optional
        Shapes for inputs with symbolic dimensions; they decide nothing by themselves.

    Returns
    -------
    int
        How many have gone; an If in a branch that was taken may be one of them.
    """
    taken = 0
    while any(node.op_type == "If" for node in model.proto.graph.node):
        index = Index(model.proto)
        shapes = infer_shapes(index, model.skeleton(), given)
        found = {k: _branch(node, index, shapes) for k, node in enumerate(index.nodes) if node.op_type == "If"}
        chosen = {number: branch for number, branch in found.items() if branch is not None}
        if not chosen:
            break
        conditions = [index.nodes[number].input[0] for number in chosen]
        _replace(model, index.nodes, chosen)
        drop_unread(model.proto, conditions)
        taken += len(chosen)
    return taken


def _branch(node: NodeProto, index: Index, shapes: Shapes) -> GraphProto | None:
    """Return the branch that an If always takes, None where there is none."""
    condition = shapes.known.get(node.input[0])
    if node.domain not in ("", "ai.onnx") or condition is None or condition.value.size != 1:
        return None
    if not all(shapes.is_static(size) for size in condition.all_sources()) or _is_replaceable(node.input[0], index):
        return None
    return attributes(node)["then_branch" if condition.value.item() else "else_branch"].g


def _is_replaceable(name: str, index: Index) -> bool:
    """Tell whether a tensor follows from a stored one that whoever runs the network may give another value."""
    if index.proto.ir_version < 4:
        return False
    given = {value.name for value in index.proto.graph.input} & index.weights.keys()
    pending, seen = [name], set[str]()
    while pending:
        name = pending.pop()
        if name in given:
            return True
        if name in index.producer and name not in seen:
            seen.add(name)
            node = index.nodes[index.producer[name]]
            pending.extend(item for item in node.input if item and node.op_type not in ("Shape", "Size"))
    return False


def _replace(model: Model, nodes: list[NodeProto], chosen: dict[int, GraphProto]) -> None:
    graph = model.proto.graph
    names = FreeNames(model.proto)
    new = []
    for number, node in enumerate(nodes):
        new += [node] if number not in chosen else _written_out(model, node, chosen[number], names)
    del graph.node[:]
    graph.node.extend(new)


def _written_out(model: Model, node: NodeProto, branch: GraphProto, free: FreeNames) -> list[NodeProto]:
    """Nodes of a branch that write the outputs of the If; its initializers become the main graph's."""
    graph = model.proto.graph
    prefix = node.name or next(name for name in node.output if name)
    own = {name: free.take(f"{prefix}/{name}") for name in sorted(set(defined(branch)))}
    stored = {tensor.name for tensor in branch.initializer} | {item.values.name for item in branch.sparse_initializer}
    for inner, outer in zip(branch.output, node.output, strict=True):
        if outer and inner.name in own.keys() - stored and own[inner.name] not in node.output:
            own[inner.name] = outer
    for tensor in branch.initializer:
        graph.initializer.add().CopyFrom(tensor)
        graph.initializer[-1].name = own[tensor.name]
        if model.proto.ir_version < 4:
            shown = helper.make_tensor_value_info(own[tensor.name], tensor.data_type, list(tensor.dims))
            graph.input.append(shown)
    for sparse in branch.sparse_initializer:
        graph.sparse_initializer.add().CopyFrom(sparse)
        graph.sparse_initializer[-1].values.name = own[sparse.values.name]
    new = []
    for source in branch.node:
        new.append(NodeProto())
        new[-1].CopyFrom(source)
    rename(new, own)
    for inner, outer in zip(branch.output, node.output, strict=True):
        name = own.get(inner.name, inner.name)
        if outer and name != outer:
            new.append(helper.make_node("Identity", [name], [outer], free.take(f"{prefix}/Identity")))
    return new
