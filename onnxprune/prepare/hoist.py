"""Branches laid open: the nodes of an If's branches among those of the main graph, and put back afterwards.

An If whose condition is known only at run time may hold whole networks. Laid open, both branches are computed and one
result is chosen, which is the same as long as neither branch fails where it would not be taken: whoever lays a network
open has to try. What is done to the nodes meanwhile stays done when they are put back.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from onnx import GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, helper

from onnxprune.graph.index import Index, attributes, graphs_of
from onnxprune.graph.model import Model
from onnxprune.prepare.rename import FreeNames, defined, rename
from onnxprune.shapes.infer import infer_shapes

__all__ = ["Hoisted", "hoist", "is_worth_hoisting", "lower"]

_BRANCHES = ("then_branch", "else_branch")
# What the names of operators that read weights have in them, those of quantised and fused ones too.
_LAYERS = ("Attention", "Conv", "Einsum", "GRU", "Gemm", "LSTM", "MatMul", "RNN")
_WHERE = 9  # the first operator set that has it
_CHOSEN = frozenset({TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16})

Home = tuple[int, int]
"""Number of an If that was laid open, and of its branch."""


@dataclass(frozen=True)
class _Open:
    """An If that was laid open: the node with empty branches, their outputs, and the names that had to change.

    `tensors` and `nodes` are the names that were there before, by those that are there while the branch is open.
    """

    node: NodeProto
    outputs: tuple[tuple[ValueInfoProto, ...], tuple[ValueInfoProto, ...]]
    tensors: dict[str, str]
    nodes: dict[str, str]


@dataclass(frozen=True)
class Hoisted:
    """What is needed to put branches back.

    Attributes
    ----------
    ifs : tuple
        The Ifs that were laid open, outer ones first.
    home : dict of str to (int, int)
        The branch that a tensor is made or stored in, of those that are not the main graph's.
    made : frozenset of str
        All tensors that nodes made when everything was open.
    """

    ifs: tuple[_Open, ...] = ()
    home: dict[str, Home] = field(default_factory=dict)
    made: frozenset[str] = frozenset()

    def __bool__(self) -> bool:
        """Tell whether any If was laid open."""
        return bool(self.ifs)


def hoist(model: Model, given: dict[str, tuple[int, ...]] | None = None) -> Hoisted:
    """Lay open every If of the main graph in whose branches there are layers, in place.

    Parameters
    ----------
    model : Model
    given : dict of str to tuple of int, optional
        Shapes for inputs with symbolic dimensions.

    Returns
    -------
    Hoisted
        For `lower`.
    """
    proto = model.proto
    if not is_worth_hoisting(model):
        return Hoisted()
    opener = _Opener(proto)
    while (number := next((k for k, n in enumerate(proto.graph.node) if _is_worth_it(n)), None)) is not None:
        opener.open(number)
    _choose_by_where(model, opener.ifs, given)
    made = frozenset(name for node in proto.graph.node for name in node.output)
    return Hoisted(tuple(opener.ifs), opener.home, made)


def is_worth_hoisting(model: Model) -> bool:
    """Tell whether any If of the main graph has layers in its branches."""
    return model.proto.ir_version >= 4 and any(map(_is_worth_it, model.proto.graph.node))


def _is_worth_it(node: NodeProto) -> bool:
    if node.op_type != "If" or node.domain:
        return False
    sparse = any(graph.sparse_initializer for graph in graphs_of(node))
    return not sparse and any(_is_layer(inner) for graph in graphs_of(node) for inner in _all_nodes(graph))


def _is_layer(node: NodeProto) -> bool:
    return any(part in node.op_type for part in _LAYERS)


def _all_nodes(graph: GraphProto) -> Iterator[NodeProto]:
    for node in graph.node:
        yield node
        for inner in graphs_of(node):
            yield from _all_nodes(inner)


def _all_defined(graph: GraphProto) -> Iterator[str]:
    yield from defined(graph)
    for node in graph.node:
        for inner in graphs_of(node):
            yield from _all_defined(inner)


class _Opener:
    def __init__(self, proto: ModelProto) -> None:
        self.graph = proto.graph
        self.free = FreeNames(proto)
        self.tensors = Counter(_all_defined(proto.graph))
        self.nodes = Counter(node.name for node in _all_nodes(proto.graph))
        self.ifs: list[_Open] = []
        self.home: dict[str, Home] = {}

    def open(self, number: int) -> None:
        """Put the nodes of an If's branches before it, and leave of it nothing but the choice."""
        node, place = _copy(self.graph.node[number]), len(self.ifs)
        branches = [attributes(node)[name].g for name in _BRANCHES]
        tensors: dict[str, str] = {}
        nodes: dict[str, str] = {}
        for key, branch in zip(_BRANCHES, branches, strict=True):
            self._separate(branch, f"{node.name}/{key}", tensors, nodes)
        inner = [_copy(item) for branch in branches for item in branch.node]
        for branch_number, branch in enumerate(branches):
            self.home |= dict.fromkeys(defined(branch), (place, branch_number))
            self.graph.initializer.extend(branch.initializer)
            self.graph.value_info.extend(branch.value_info)
            self.graph.value_info.extend(value for value in branch.output if value.name in self.home)
        outputs = [tuple(branch.output) for branch in branches]
        found = (_choice(node, *names) for names in zip(node.output, *outputs, strict=True))
        choices = [choice for choice in found if choice is not None]
        before, after = self.graph.node[:number], self.graph.node[number + 1 :]
        kept = [*map(_copy, before), *inner, *choices, *map(_copy, after)]
        del self.graph.node[:]
        self.graph.node.extend(kept)
        copies = [tuple(map(_copy_value, values)) for values in outputs]
        for branch in branches:
            for content in ("node", "initializer", "value_info", "output"):
                branch.ClearField(content)
        self.ifs.append(_Open(node, (copies[0], copies[1]), tensors, nodes))

    def _separate(self, branch: GraphProto, site: str, tensors: dict[str, str], nodes: dict[str, str]) -> None:
        """Give the tensors and nodes of a branch other names where others have them too, and note the old ones."""
        names = {}
        for name in dict.fromkeys(defined(branch)):
            if self.tensors[name] > 1:
                self.tensors[name] -= 1
                names[name] = self.free.take(f"{site}/{name}")
        _rename_all(branch, names)
        tensors |= {new: old for old, new in names.items()}
        for node in branch.node:
            if node.name and self.nodes[node.name] > 1:
                self.nodes[node.name] -= 1
                old, node.name = node.name, self.free.take(f"{site}/{node.name}")
                nodes[node.name] = old


def _rename_all(branch: GraphProto, names: dict[str, str]) -> None:
    rename(branch.node, names)
    for values in (branch.output, branch.initializer, branch.value_info):
        for value in values:
            value.name = names.get(value.name, value.name)


def _copy_value(value: ValueInfoProto) -> ValueInfoProto:
    copied = ValueInfoProto()
    copied.CopyFrom(value)
    return copied


def _copy(node: NodeProto) -> NodeProto:
    copied = NodeProto()
    copied.CopyFrom(node)
    return copied


def _choice(node: NodeProto, name: str, first: ValueInfoProto, second: ValueInfoProto) -> NodeProto | None:
    """An If that does nothing but choose."""
    if not name:
        return None
    graphs = {}
    for key, value in zip(_BRANCHES, (first, second), strict=True):
        chosen = ValueInfoProto()
        chosen.CopyFrom(value)
        chosen.name = f"{name}/{key}"
        chosen.type.tensor_type.ClearField("shape")
        graphs[key] = helper.make_graph([helper.make_node("Identity", [value.name], [chosen.name])], key, [], [chosen])
    return helper.make_node("If", [node.input[0]], [name], name=f"{node.name}/{name}", **graphs)


def _choose_by_where(model: Model, opened: list[_Open], given: dict[str, tuple[int, ...]] | None) -> None:
    """Let Where choose between floats of one shape: channels can be followed through it."""
    index = Index(model.proto)
    if index.opsets.get("", 1) < _WHERE:
        return
    shapes = infer_shapes(index, model.skeleton(), given)
    for item in opened:
        condition = item.node.input[0]
        for name, one, other in zip(item.node.output, *item.outputs, strict=True):
            first, second = one.name, other.name
            same = first in shapes.shapes and shapes.shapes[first] == shapes.shapes.get(second)
            typed = shapes.types.get(first) in _CHOSEN and shapes.types.get(first) == shapes.types.get(second)
            if name and same and typed and len(shapes.shapes.get(condition, shapes.shapes[first])) <= 1:
                node = index.nodes[index.producer[name]]
                del node.attribute[:]
                node.op_type = "Where"
                node.input.extend([first, second])


def lower(model: Model, hoisted: Hoisted) -> None:
    """Put the branches that were laid open back, in place.

    Parameters
    ----------
    model : Model
        The network that was laid open, or what has become of it; nodes that are new belong where their readers do.
    hoisted : Hoisted
    """
    if not hoisted:
        return
    graph = model.proto.graph
    nodes = list(zip(map(_copy, graph.node), _homes(graph, hoisted), strict=True))
    for number in range(len(hoisted.ifs) - 1, -1, -1):
        nodes = _put_back(graph, nodes, hoisted, number)
    del graph.node[:]
    graph.node.extend(node for node, _ in nodes)


def _homes(graph: GraphProto, hoisted: Hoisted) -> list[Home | None]:
    """The branch of each node, None for the main graph."""
    readers: dict[str, Home | None] = {}
    homes: list[Home | None] = []
    for node in reversed(graph.node):
        names = [name for name in node.output if name]
        home = next((hoisted.home[name] for name in names if name in hoisted.home), None)
        if hoisted.made.isdisjoint(names):
            home = next((readers[name] for name in names if name in readers), None)
        homes.append(home)
        readers |= dict.fromkeys(node.input, home)
    return homes[::-1]


def _put_back(
    graph: GraphProto, nodes: list[tuple[NodeProto, Home | None]], hoisted: Hoisted, number: int
) -> list[tuple[NodeProto, Home | None]]:
    """Gather what belongs to the branches of one If, and let the If stand where the choices were."""
    opened = hoisted.ifs[number]
    choices = {node.output[0]: node for node, _ in nodes if node.output and node.output[0] in opened.node.output}
    left = [place for place, name in enumerate(opened.node.output) if name in choices]
    whole = _copy(opened.node)
    del whole.output[:]
    whole.output.extend(opened.node.output[place] for place in left)
    for branch_number, key in enumerate(_BRANCHES):
        mine = number, branch_number
        branch = attributes(whole)[key].g
        branch.node.extend(node for node, own in nodes if own == mine)
        _take(graph.initializer, branch.initializer, hoisted, mine)
        _take(graph.value_info, branch.value_info, hoisted, mine)
        del branch.output[:]
        for place in left:
            value = branch.output.add()
            value.CopyFrom(opened.outputs[branch_number][place])
            choice = choices[opened.node.output[place]]
            name = choice.input[1 + branch_number] if choice.op_type == "Where" else value.name
            _declare(branch, value, name)
        _rename_all(branch, opened.tensors)
        for inner in branch.node:
            if inner.name in opened.nodes:
                inner.name = opened.nodes[inner.name]
    rest: list[tuple[NodeProto, Home | None]] = []
    for node, home in nodes:
        if node.output and node.output[0] in choices:
            if node.output[0] == whole.output[0]:
                rest.append((whole, home))
        elif home is None or home[0] != number:
            rest.append((node, home))
    return rest


def _take(source: Any, target: Any, hoisted: Hoisted, home: Home) -> None:
    """Move what belongs to a branch from the main graph's list to the branch's."""
    for place in [k for k, item in enumerate(source) if hoisted.home.get(item.name) == home]:
        target.add().CopyFrom(source[place])
    for place in range(len(source) - 1, -1, -1):
        if hoisted.home.get(source[place].name) == home:
            del source[place]


def _declare(branch: GraphProto, value: ValueInfoProto, name: str) -> None:
    """Let a branch hand out a tensor, with the shape that is noted of it."""
    for place, noted in enumerate(branch.value_info):
        if noted.name == name:
            value.type.CopyFrom(noted.type)
            del branch.value_info[place]
            break
    if name not in set(defined(branch)):
        branch.node.append(helper.make_node("Identity", [name], [value.name]))
    else:
        value.name = name
