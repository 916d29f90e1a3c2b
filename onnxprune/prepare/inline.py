"""Local functions written out: each call becomes the nodes of the function's body, with names of their own.

A function that means something else at the model's operator sets, or that calls itself, stays as it is. Onnx's own
inliner is not used: it serialises the whole model with its weights, loses the defaults of a function's attributes, and
repeats a function's constants at every call.
"""

from collections.abc import Collection, Iterable

import onnx
from onnx import AttributeProto, FunctionProto, GraphProto, NodeProto, TensorProto, helper

from onnxprune.graph.index import graphs_of
from onnxprune.graph.model import SMALL, Model
from onnxprune.graph.tensors import count
from onnxprune.prepare.rename import FreeNames, defined, rename

__all__ = ["inline_functions"]

_Key = tuple[str, str, str]


def inline_functions(model: Model, kept: Collection[tuple[str, str]] = ()) -> int:
    """Write out the local functions of a model, in place.

    Parameters
    ----------
    model : Model
    kept : collection of (str, str)
        Domain and name of operators that are known by themselves: a function of that name stays a call.

    Returns
    -------
    int
        How many functions were called and are gone.
    """
    if not model.proto.functions:
        return 0
    return _Inliner(model, kept).run()


def _domain(name: str) -> str:
    return "" if name == "ai.onnx" else name


def _key(node: NodeProto) -> _Key:
    return _domain(node.domain), node.op_type, node.overload


class _Inliner:
    def __init__(self, model: Model, kept: Collection[tuple[str, str]]) -> None:
        self.proto = model.proto
        self.opsets = {_domain(item.domain): item.version for item in self.proto.opset_import}
        self.all: dict[_Key, FunctionProto] = {(_domain(f.domain), f.name, f.overload): f for f in self.proto.functions}
        self.open = {key for key in self.all if key[:2] not in kept}
        self.open &= {key for key in self.open if self._fits(self.all[key]) and not self._calls_itself(key)}
        self.names = FreeNames(self.proto)
        self.stored: dict[tuple[_Key, str], str] = {}
        self.done: set[_Key] = set()

    def run(self) -> int:
        if not self.open:
            return 0
        self._write_out(self.proto.graph)
        functions = self.proto.functions
        called = self._called([self.proto.graph, *(self.all[key] for key in self.all.keys() - self.done)])
        for place in range(len(functions) - 1, -1, -1):
            key = _domain(functions[place].domain), functions[place].name, functions[place].overload
            if key in self.done and key not in called:
                del functions[place]
        return len(self.done)

    def _called(self, roots: Iterable[GraphProto | FunctionProto]) -> set[_Key]:
        """Functions that are called below these bodies."""
        pending, found = list(roots), set[_Key]()
        while pending:
            new = {_key(node) for node in _nodes(pending.pop())} & self.all.keys() - found
            found |= new
            pending += [self.all[key] for key in new]
        return found

    # ---- which functions --------------------------------------------------------------------------------------------

    def _fits(self, function: FunctionProto) -> bool:
        """Tell whether every operator of a body means at the model's operator sets what it means at the function's."""
        theirs = {_domain(item.domain): item.version for item in function.opset_import}
        for node in _nodes(function):
            domain = _domain(node.domain)
            ours = self.opsets.get(domain, theirs.get(domain))
            if _key(node) not in self.all and _meaning(node, ours) != _meaning(node, theirs.get(domain, ours)):
                return False
        return True

    def _calls_itself(self, key: _Key) -> bool:
        return key in self._called([self.all[key]])

    # ---- writing out ------------------------------------------------------------------------------------------------

    def _write_out(self, graph: GraphProto) -> None:
        """Put bodies in the place of calls, in a graph and in all below it."""
        if any(_key(node) in self.open for node in graph.node):
            nodes = [new for node in graph.node for new in self._expanded(node)]
            del graph.node[:]
            graph.node.extend(nodes)
        for node in graph.node:
            for inner in graphs_of(node):
                self._write_out(inner)

    def _expanded(self, node: NodeProto) -> list[NodeProto]:
        if _key(node) not in self.open:
            return [node]
        return [new for inner in self._body(node) for new in self._expanded(inner)]

    def _body(self, call: NodeProto) -> list[NodeProto]:
        """Nodes that do what one call does."""
        key = _key(call)
        function = self.all[key]
        self.done.add(key)
        for item in function.opset_import:
            if _domain(item.domain) not in self.opsets:
                self.opsets[_domain(item.domain)] = item.version
                self.proto.opset_import.add(domain=item.domain, version=item.version)
        given = {formal: call.input[k] if k < len(call.input) else "" for k, formal in enumerate(function.input)}
        wanted = [(formal, name) for formal, name in zip(function.output, call.output, strict=False) if name]
        first = dict(reversed(wanted))
        prefix = call.name or next((name for name in call.output if name), function.name)
        made = {name for node in function.node for name in node.output if name}
        names = given | {name: first.get(name) or self.names.take(f"{prefix}/{name}") for name in sorted(made)}
        stored = {name for node in function.node for name in self._stored(key, node, names)}
        nodes = []
        for source in function.node:
            if stored.intersection(source.output):
                continue
            node = NodeProto()
            node.CopyFrom(source)
            node.name = self.names.take(f"{prefix}/{source.name or source.op_type}")
            _bind(node, function, call)
            self._separate(node, prefix)
            nodes.append(node)
        rename(nodes, names)
        # An output that the function takes from its inputs, or names twice, has no node that could write it.
        for formal, name in wanted:
            if names.get(formal, "") != name:
                nodes.append(helper.make_node("Identity", [names[formal]], [name], self.names.take(f"{name}/Identity")))
        return nodes

    def _stored(self, key: _Key, node: NodeProto, names: dict[str, str]) -> list[str]:
        """Make an initializer of a big constant, one for all calls of its function; the names that it answers for."""
        value = next((item.t for item in node.attribute if item.name == "value" and item.HasField("t")), None)
        formals = self.all[key].output
        if node.op_type != "Constant" or value is None or count(value) <= SMALL or node.output[0] in formals:
            return []
        name = node.output[0]
        if (key, name) not in self.stored:
            fresh = self.stored[key, name] = self.names.take(f"{key[1]}/{name}")
            added: TensorProto = self.proto.graph.initializer.add()
            added.CopyFrom(value)
            added.name = fresh
            if self.proto.ir_version < 4:
                shown = helper.make_tensor_value_info(fresh, added.data_type, list(added.dims))
                self.proto.graph.input.append(shown)
        names[name] = self.stored[key, name]
        return [name]

    def _separate(self, node: NodeProto, prefix: str) -> None:
        """Give the tensors that a body's subgraphs define names that no other call has."""
        for graph in graphs_of(node):
            names = {name: self.names.take(f"{prefix}/{name}") for name in sorted(set(defined(graph)))}
            rename(graph.node, names)
            for values in (graph.input, graph.output, graph.initializer, graph.value_info):
                for value in values:
                    value.name = names.get(value.name, value.name)
            for sparse in graph.sparse_initializer:
                sparse.values.name = names[sparse.values.name]
            for inner in graph.node:
                self._separate(inner, prefix)


def _bind(node: NodeProto, function: FunctionProto, call: NodeProto) -> None:
    """Give the attributes that refer to the function's their values, in a node and in its subgraphs."""
    values = {item.name: item for item in function.attribute_proto} | {item.name: item for item in call.attribute}
    for place in range(len(node.attribute) - 1, -1, -1):
        attribute = node.attribute[place]
        if not attribute.ref_attr_name:
            continue
        value, name = values.get(attribute.ref_attr_name), attribute.name
        if value is None:
            del node.attribute[place]
            continue
        bound = AttributeProto()
        bound.CopyFrom(value)
        bound.name = name
        attribute.CopyFrom(bound)
    for graph in graphs_of(node):
        for inner in graph.node:
            _bind(inner, function, call)


def _nodes(container: GraphProto | FunctionProto) -> list[NodeProto]:
    """All nodes of a graph or function, those of subgraphs too."""
    found, pending = [], [list(container.node)]
    while pending:
        for node in pending.pop():
            found.append(node)
            pending.extend(list(graph.node) for graph in graphs_of(node))
    return found


def _meaning(node: NodeProto, version: int | None) -> tuple[int, bool]:
    """Return the version that an operator has had since, at an operator set, and whether ONNX knows it."""
    domain = _domain(node.domain)
    if version is None or not onnx.defs.has(node.op_type, version, domain):
        return version or 0, False
    return onnx.defs.get_schema(node.op_type, version, domain).since_version, True
