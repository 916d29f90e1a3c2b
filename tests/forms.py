"""Networks in the forms in which exporters write them: functions, branches, computed weights, other spellings."""

from collections.abc import Callable, Iterable

import numpy as np
from net import FLOAT, Net
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from onnxprune.graph.index import graphs_of, outer_reads
from onnxprune.prepare.rename import rename

__all__ = ["chosen", "copy", "other_floats", "outlined", "sparse", "two_branches"]


def copy(proto: ModelProto) -> ModelProto:
    """An independent copy of a network."""
    return ModelProto.FromString(proto.SerializeToString())


def _copied(nodes: Iterable[NodeProto]) -> list[NodeProto]:
    return [NodeProto.FromString(node.SerializeToString()) for node in nodes]


def outlined(proto: ModelProto, size: int) -> ModelProto:
    """The network with every `size` nodes in a function, each called by another function."""
    made = copy(proto)
    graph = made.graph
    made.ir_version = max(made.ir_version, 8)
    nodes = list(proto.graph.node)
    final = {value.name for value in graph.output}
    known = {name for node in nodes for name in node.output} | {tensor.name for tensor in graph.initializer}
    known |= {value.name for value in graph.input}
    reads = [{*node.input, *outer_reads(node)} & known for node in nodes]
    imports = list(proto.opset_import)
    del graph.node[:]
    for start in range(0, len(nodes), size):
        part = _copied(nodes[start : start + size])
        own = {name for node in part for name in node.output if name}
        needed = sorted(set().union(*reads[start : start + size]) - own)
        later = final.union(*reads[start + size :])
        given = sorted(own & later)
        if not given:
            continue
        names = {name: f"i{k}" for k, name in enumerate(needed)} | {name: f"t{k}" for k, name in enumerate(sorted(own))}
        rename(part, names)
        formals = [names[name] for name in needed], [names[name] for name in given]
        made.functions.append(helper.make_function("local", f"part{start}", *formals, part, imports))
        call = helper.make_node(f"part{start}", *formals, domain="local", name="inner")
        both = [*imports, helper.make_opsetid("local", 1)]
        made.functions.append(helper.make_function("local", f"outer{start}", *formals, [call], both))
        graph.node.append(helper.make_node(f"outer{start}", needed, given, domain="local", name=f"call{start}"))
    made.opset_import.append(helper.make_opsetid("local", 1))
    return made


def chosen(first: ModelProto, second: ModelProto, *, shared: bool) -> ModelProto:
    """Two networks with the same signature as branches of an If; weights in them, or `shared` around them."""
    made = copy(first)
    made.graph.Clear()
    made.graph.name = "chosen"
    branches = []
    for proto in (first, second):
        branch = GraphProto(name=proto.graph.name)
        branch.node.extend(proto.graph.node)
        branch.output.extend(proto.graph.output)
        branch.value_info.extend(proto.graph.value_info)
        (made.graph if shared else branch).initializer.extend(proto.graph.initializer)
        branches.append(branch)
    if shared:
        del made.graph.initializer[len(first.graph.initializer) :]
    made.graph.input.extend(first.graph.input)
    made.graph.input.append(helper.make_tensor_value_info("which", TensorProto.BOOL, []))
    for value in first.graph.output:
        made.graph.output.add().CopyFrom(value)
        made.graph.output[-1].name = f"{value.name}_chosen"
    names = [value.name for value in made.graph.output]
    both = {"then_branch": branches[0], "else_branch": branches[1]}
    made.graph.node.append(helper.make_node("If", ["which"], names, name="choice", **both))
    return made


def two_branches(condition: Callable[[Net, str], str], *, inner: int = 6) -> ModelProto:
    """A convolution, an If of which one branch is Relu and the other a convolution of its own, and a reader."""
    net = Net()
    x = net.input("n", 3, 4, 4)
    hidden = net.conv(x, inner, 3)
    weight = numpy_helper.from_array(net.rng.standard_normal((inner, inner, 1, 1)).astype(np.float32), "own")
    branches = {}
    for key, nodes, stored in (
        ("then_branch", [helper.make_node("Relu", [hidden], ["inner"])], []),
        ("else_branch", [helper.make_node("Conv", [hidden, "own"], ["inner"])], [weight]),
    ):
        value = helper.make_tensor_value_info("inner", FLOAT, None)
        branches[key] = helper.make_graph(nodes, key, [], [value], stored)
    result = net.add("If", condition(net, hidden), **branches)
    return net.done(net.conv(net.add("Sigmoid", result), 4, inner))


def other_floats(proto: ModelProto, kind: int) -> ModelProto:
    """The network with its floats of another type."""
    made = copy(proto)
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    for tensor in made.graph.initializer:
        if tensor.data_type == FLOAT:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(dtype), tensor.name))
    for node in made.graph.node:
        for attribute in node.attribute:
            if attribute.name == "to" and attribute.i == FLOAT:
                attribute.i = kind
            if attribute.HasField("t") and attribute.t.data_type == FLOAT:
                attribute.t.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(attribute.t).astype(dtype)))
        assert not any(graphs_of(node))
    for value in (*made.graph.input, *made.graph.output, *made.graph.value_info):
        if value.type.tensor_type.elem_type == FLOAT:
            value.type.tensor_type.elem_type = kind
    return made


def sparse(tensor: TensorProto, share: float) -> tuple[NDArray[np.float32], TensorProto, TensorProto]:
    """A tensor with this share of zeros: its value, and values and indices as sparse tensors have them."""
    value = numpy_helper.to_array(tensor).copy()
    value[np.random.default_rng(0).random(value.shape) < share] = 0
    places = np.flatnonzero(value)
    values = numpy_helper.from_array(value.reshape(-1)[places], tensor.name)
    return value, values, numpy_helper.from_array(places.astype(np.int64), "places")
