"""One spelling for what ONNX lets one say in several ways, and back where the file's own is the smaller.

The standard domain is the empty one, nodes stand in the order in which they can run, and a constant is a dense tensor.
"""

from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter

import numpy as np
import onnx
from onnx import AttributeProto, GraphProto, NodeProto, SparseTensorProto, TensorProto, numpy_helper

from onnxprune.graph.index import graphs_of, outer_reads
from onnxprune.graph.model import Model

__all__ = ["respell", "respell_domains", "sort_nodes", "sparsify"]

_DENSE = "value"


def respell(model: Model) -> tuple[bool, frozenset[str]]:
    """Spell a network plainly, in place.

    Parameters
    ----------
    model : Model

    Returns
    -------
    bool
        Whether anything was spelled otherwise.
    frozenset of str
        Stored tensors of the main graph that were sparse.
    """
    domains = respell_domains(model.proto)
    order = sort_nodes(model.proto.graph)
    lists = _respell_lists(model.proto.graph)
    sparse = frozenset(_densify(model))
    return domains or order or lists or bool(sparse), sparse


def _all_nodes(graph: GraphProto) -> Iterator[NodeProto]:
    for node in graph.node:
        yield node
        for inner in graphs_of(node):
            yield from _all_nodes(inner)


def respell_domains(proto: onnx.ModelProto) -> bool:
    """Write the standard domain as the empty one on all nodes, in place; returns whether any was written out."""
    changed = False
    for body in (proto.graph, *proto.functions):
        for node in _all_nodes(body):
            if node.domain == "ai.onnx":
                node.domain = ""
                changed = True
    return changed


def sort_nodes(graph: GraphProto) -> bool:
    """Put each node behind those whose outputs it reads, in place, here and in subgraphs; returns whether any moved."""
    changed = sum(sort_nodes(inner) for node in graph.node for inner in graphs_of(node)) > 0
    producer = {name: number for number, node in enumerate(graph.node) for name in node.output if name}
    reads = [_reads(node, producer) for node in graph.node]
    if all(max(numbers, default=-1) < number for number, numbers in enumerate(reads)):
        return changed
    sorter = TopologicalSorter({number: numbers - {number} for number, numbers in enumerate(reads)})
    try:
        sorter.prepare()
    except CycleError:
        return changed
    order: list[int] = []
    while sorter.is_active():
        ready = sorted(sorter.get_ready())
        order += ready
        sorter.done(*ready)
    nodes = [graph.node[number] for number in order]
    del graph.node[:]
    graph.node.extend(nodes)
    return True


def _reads(node: NodeProto, producer: dict[str, int]) -> set[int]:
    """Numbers of the nodes whose outputs a node or its subgraphs read."""
    names = {*node.input, *outer_reads(node)} if node.attribute else set(node.input)
    return {producer[name] for name in names if name in producer}


def _respell_lists(graph: GraphProto) -> bool:
    """Write Constants of a list of floats as tensors."""
    changed = False
    for node in graph.node:
        for attribute in node.attribute if node.op_type == "Constant" else ():
            if attribute.name == "value_floats":
                value = np.array(attribute.floats, dtype=np.float32)
                attribute.CopyFrom(onnx.helper.make_attribute(_DENSE, numpy_helper.from_array(value)))
                changed = True
    return changed


# ---- sparse tensors -----------------------------------------------------------------------------------------------


def _densify(model: Model) -> Iterator[str]:
    """Write sparse tensors of the main graph as dense ones; yields their names."""
    graph = model.proto.graph
    for sparse in graph.sparse_initializer:
        name = sparse.values.name
        graph.initializer.append(numpy_helper.from_array(_dense(model, sparse), name))
        if model.proto.ir_version < 4 and name not in {value.name for value in graph.input}:
            kind = graph.initializer[-1].data_type
            graph.input.append(onnx.helper.make_tensor_value_info(name, kind, list(sparse.dims)))
        yield name
    del graph.sparse_initializer[:]
    for node in graph.node:
        for attribute in node.attribute if node.op_type == "Constant" else ():
            if attribute.name == "sparse_value":
                value = numpy_helper.from_array(_dense(model, attribute.sparse_tensor))
                attribute.CopyFrom(onnx.helper.make_attribute(_DENSE, value))
                yield node.output[0]


def _dense(model: Model, sparse: SparseTensorProto) -> np.ndarray:
    values, places = model.array(sparse.values), model.array(sparse.indices)
    dense = np.zeros(tuple(sparse.dims), dtype=values.dtype)
    if places.ndim == 1:
        dense.reshape(-1)[places] = values
    else:
        dense[tuple(places.T)] = values
    return dense


def sparsify(model: Model, names: frozenset[str]) -> None:
    """Write some stored tensors of the main graph as sparse ones, in place, where they take less room so.

    Parameters
    ----------
    model : Model
    names : frozenset of str
        From `respell`.
    """
    if not names:
        return
    graph = model.proto.graph
    for place in range(len(graph.initializer) - 1, -1, -1):
        tensor = graph.initializer[place]
        found = _sparse(model, tensor, tensor.name) if tensor.name in names else None
        if found is not None:
            graph.sparse_initializer.append(found)
            del graph.initializer[place]
    for node in graph.node:
        for attribute in node.attribute if node.op_type == "Constant" and node.output[0] in names else ():
            found = _sparse(model, attribute.t, "") if attribute.name == _DENSE else None
            if found is not None:
                sparse = AttributeProto(name="sparse_value", type=AttributeProto.SPARSE_TENSOR)
                sparse.sparse_tensor.CopyFrom(found)
                attribute.CopyFrom(sparse)


def _sparse(model: Model, tensor: TensorProto, name: str) -> SparseTensorProto | None:
    """Return a tensor as a sparse one, None where that is no smaller."""
    value = model.array(tensor)
    places = np.flatnonzero(value)
    values = value.reshape(-1)[places]
    if not places.size or values.nbytes + places.nbytes >= value.nbytes:
        return None
    return onnx.helper.make_sparse_tensor(
        numpy_helper.from_array(values, name), numpy_helper.from_array(places.astype(np.int64)), list(tensor.dims)
    )
