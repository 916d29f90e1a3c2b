"""Roundings of activations, taken out of a proof: they turn differences in the last digit into whole steps.

What QuantizeLinear and DynamicQuantizeLinear make is x / s, neither rounded nor moved by the zero point, within the
range of the type less the zero point; what reads their integers computes the same of floats: DequantizeLinear, moves,
and products that are made floating at once. Saturation and scales stay. A rounding stays where anything else reads its
integers: sums of their products are exact.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from onnxprune.graph.index import Index, attributes
from onnxprune.graph.shapes import Shapes

__all__ = ["NOTHING", "Roundings", "bypass", "find_roundings"]

_PREFIX = "onnxprune_bypass_"
_FLOAT = TensorProto.FLOAT
_MOVING = "DepthToSpace Flatten Gather Identity MaxPool Reshape Slice SpaceToDepth Split Squeeze Transpose Unsqueeze"
_MOVES = frozenset(_MOVING.split())
_ROUNDING = frozenset({"DynamicQuantizeLinear", "QuantizeLinear"})
# Products of integers, and where they have the zero point of their first input.
_PRODUCTS = {"ConvInteger": 2, "MatMulInteger": 2, "MatMulIntegerToFloat": 4}
_RANGES: dict[int, tuple[int, int]] = {
    TensorProto.INT4: (-8, 7),
    TensorProto.UINT4: (0, 15),
    TensorProto.INT8: (-128, 127),
    TensorProto.UINT8: (0, 255),
    TensorProto.INT16: (-(1 << 15), (1 << 15) - 1),
    TensorProto.UINT16: (0, (1 << 16) - 1),
}


@dataclass(frozen=True)
class _Site:
    """What has to be known of a node to rewrite it.

    Rank of its input 0, whether its scale is a list, range and new type of its first output, and the integers whose
    zero point its input 0 has.
    """

    rank: int
    listed: bool
    range: tuple[int, int] | None
    kind: int
    root: str


@dataclass(frozen=True)
class Roundings:
    """What is bypassed of a network, by the names of tensors, which pruning leaves alone.

    Attributes
    ----------
    integers : frozenset of str
        Tensors of integers that become floats.
    sites : mapping of str
        The nodes that are rewritten, by their first output.
    """

    integers: frozenset[str] = frozenset()
    sites: Mapping[str, _Site] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.sites)


NOTHING = Roundings()
"""Of a network that rounds no activation."""


def find_roundings(index: Index, shapes: Shapes) -> Roundings:
    """Find the roundings that can be taken out.

    Parameters
    ----------
    index, shapes
        Of the original.

    Returns
    -------
    Roundings
    """
    free = _Free(index, shapes)
    integers, sites = free.integers, {}
    for node in index.nodes:
        name = node.output[0] if node.output else ""
        makes = node.op_type in _ROUNDING and name in integers
        reads = node.op_type in (*_PRODUCTS, "DequantizeLinear") and node.input[0] in integers
        if makes or reads or (node.op_type == "DynamicQuantizeMatMul" and node.input[0] in shapes.shapes):
            kind = shapes.types.get(name, _FLOAT)
            floating = kind if node.op_type not in ("MatMulInteger", "ConvInteger") and not makes else _FLOAT
            root = free.roots[node.input[0]].output[0] if reads else name
            listed = len(node.input) > 1 and shapes.shapes.get(node.input[1], ()) not in ((), (1,))
            sites[name] = _Site(len(shapes.shapes[node.input[0]]), listed, _RANGES.get(kind), floating, root)
    sums = {name for name in sites if shapes.types.get(name) == TensorProto.INT32}
    return Roundings(frozenset(integers | sums), sites)


class _Free:
    """Tensors of integers that nothing but what is bypassed reads: others are left out until none is found any more."""

    def __init__(self, index: Index, shapes: Shapes) -> None:
        self.index = index
        self.shapes = shapes
        self.integers: set[str] = set()
        self.makers: dict[str, NodeProto] = {}
        self.roots: dict[str, NodeProto] = {}
        for node in index.nodes:
            rounds = node.op_type in _ROUNDING and _is_simple(node) and all(node.output)
            if node.output and node.output[0] not in index.constants and (rounds or self._moves(node)):
                names = list(filter(None, node.output[:1] if rounds else node.output))
                self.integers.update(names)
                self.makers |= dict.fromkeys(names, node)
                self.roots |= dict.fromkeys(names, node if rounds else self.roots[_moved(node)[0]])
        while lost := {name for name in self.integers if not self._is_free(name)}:
            self.integers -= lost

    def _moves(self, node: NodeProto) -> bool:
        """Tell whether a node moves integers that all have one zero point."""
        names = _moved(node)
        known = bool(names) and all(name in self.integers for name in names)
        return known and len({_zero_of(self.roots[name]) for name in names}) == 1

    def _is_free(self, name: str) -> bool:
        index, maker = self.index, self.makers[name]
        if name in index.outputs or index.captured.get(name):
            return False
        beside = [*_moved(maker), *filter(None, maker.output)] if _moved(maker) else []
        readers = [(index.nodes[edge.node], edge.input) for edge in index.consumers.get(name, [])]
        return all(item in self.integers for item in beside) and all(self._takes(*reader) for reader in readers)

    def _takes(self, node: NodeProto, place: int) -> bool:
        """Tell whether a node can read floats in place of integers."""
        name = node.input[place]
        if name in _moved(node):
            return all(output in self.integers for output in filter(None, node.output))
        zero = _zero_of(self.roots[name])
        if node.op_type == "DequantizeLinear":
            # A list of zero points lies along an axis that moves may have moved.
            single = self.shapes.shapes.get(zero, ()) in ((), (1,)) or self.makers[name] is self.roots[name]
            return place == 0 and single and _is_simple(node)
        if node.op_type not in _PRODUCTS or place != 0 or _input(node, _PRODUCTS[node.op_type]) != zero:
            return False
        return node.op_type == "MatMulIntegerToFloat" or self._is_cast(node.output[0])

    def _is_cast(self, name: str) -> bool:
        """Tell whether sums are made floating at once."""
        index = self.index
        readers = [index.nodes[edge.node].op_type for edge in index.consumers.get(name, [])]
        return set(readers) == {"Cast"} and name not in index.outputs and not index.captured.get(name)


def _zero_of(root: NodeProto) -> str:
    """Name of the zero point of what a node makes, empty for none."""
    return str(root.output[2]) if root.op_type == "DynamicQuantizeLinear" else _input(root, 2)


def _is_simple(node: NodeProto) -> bool:
    """Tell whether scales are not given block by block."""
    found = attributes(node)
    return "block_size" not in found or found["block_size"].i == 0


def _moved(node: NodeProto) -> list[str]:
    """Tensors whose numbers a node moves as they are."""
    if node.op_type == "Concat":
        return list(node.input)
    if node.op_type == "MaxPool" and len(node.output) > 1:
        return []
    return list(node.input[:1]) if node.op_type in _MOVES else []


def bypass(proto: ModelProto, roundings: Roundings) -> None:
    """Take roundings out of a network, in place.

    Parameters
    ----------
    proto : ModelProto
        The original, its twin or the pruned network.
    roundings : Roundings
        From `find_roundings` of the original.
    """
    if not roundings:
        return
    graph = proto.graph
    writer = _Writer()
    for node in graph.node:
        site = roundings.sites.get(node.output[0] if node.output else "")
        writer.rewrite(node, site)
    del graph.node[:]
    graph.node.extend(writer.nodes)
    graph.initializer.extend(writer.constants)
    for place in range(len(graph.value_info) - 1, -1, -1):
        if graph.value_info[place].name in roundings.integers:
            del graph.value_info[place]
    for value in graph.output:
        if value.name in roundings.integers:
            value.type.tensor_type.elem_type = _FLOAT
    proto.ir_version = max(proto.ir_version, 4)


class _Writer:
    """Writes the nodes of a network without its roundings."""

    def __init__(self) -> None:
        self.nodes: list[NodeProto] = []
        self.constants: list[TensorProto] = []
        self.zeros: dict[str, tuple[str, str]] = {}

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        name = f"{_PREFIX}{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [name], name=name, **attributes))
        return name

    def constant(self, value: Any, dtype: Any) -> str:
        name = f"{_PREFIX}constant{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value, dtype=dtype), name))
        return name

    def floating(self, name: str) -> str:
        return self.add("Cast", name, to=_FLOAT)

    def rewrite(self, node: NodeProto, site: _Site | None) -> None:
        """Write a node, or what computes the same of floats, whose result has the node's name and type."""
        if site is None:
            self.nodes.append(node)
            return
        last = {
            "ConvInteger": self._conv,
            "DequantizeLinear": self._dequantize,
            "DynamicQuantizeLinear": self._quantize_by_range,
            "DynamicQuantizeMatMul": self._matmul_by_range,
            "MatMulInteger": self._matmul,
            "MatMulIntegerToFloat": self._matmul_to_float,
            "QuantizeLinear": self._quantize,
        }[node.op_type](node, site)
        name = f"{_PREFIX}{len(self.nodes)}"
        self.nodes.append(helper.make_node("Cast", [last], [node.output[0]], name=name, to=site.kind))

    def laid(self, name: str, node: NodeProto, site: _Site) -> str:
        """Lay scales or zero points along the node's axis."""
        if not site.listed:
            return self.floating(name)
        found = attributes(node)
        axis = (found["axis"].i if "axis" in found else 1) % site.rank
        shape = [-1 if other == axis else 1 for other in range(site.rank)]
        return self.add("Reshape", self.floating(name), self.constant(shape, np.int64))

    def less_zero(self, name: str, node: NodeProto, place: int) -> str:
        """Subtract the zero point that is input `place` of a product."""
        zero = _input(node, place)
        return self.add("Sub", self.floating(name), self.floating(zero)) if zero else self.floating(name)

    def _quantize(self, node: NodeProto, site: _Site) -> str:
        steps = self.add("Div", self.floating(node.input[0]), self.laid(node.input[1], node, site))
        zero, bounds = _input(node, 2), [self.constant(bound, np.float32) for bound in site.range or ()]
        if zero:
            laid = self.laid(zero, node, site)
            self.zeros[site.root] = zero, laid
            bounds = [self.add("Sub", bound, laid) for bound in bounds]
        for operator, bound in zip(("Max", "Min"), bounds, strict=False):
            steps = self.add(operator, steps, bound)
        return steps

    def _quantize_by_range(self, node: NodeProto, site: _Site) -> str:
        rounded = NodeProto()
        rounded.CopyFrom(node)
        rounded.output[0] = f"{node.output[0]}_rounded"
        self.nodes.append(rounded)
        self.zeros[site.root] = node.output[2], self.floating(node.output[2])
        return self.add("Div", node.input[0], node.output[1])

    def _dequantize(self, node: NodeProto, site: _Site) -> str:
        steps, zero = self.floating(node.input[0]), _input(node, 2)
        name, laid = self.zeros.get(site.root, ("", ""))
        if zero != name:
            none = self.constant(0, np.float32)
            offset = self.add("Sub", laid or none, self.laid(zero, node, site) if zero else none)
            steps = self.add("Add", steps, offset)
        return self.add("Mul", steps, self.laid(node.input[1], node, site))

    def _conv(self, node: NodeProto, site: _Site) -> str:
        weight = self.floating(node.input[1])
        if zero := _input(node, 3):
            shape = self.constant([-1] + [1] * (site.rank - 1), np.int64)
            weight = self.add("Sub", weight, self.add("Reshape", self.floating(zero), shape))
        name = self.add("Conv", self.floating(node.input[0]), weight)
        self.nodes[-1].attribute.extend(node.attribute)
        return name

    def _matmul(self, node: NodeProto, site: _Site) -> str:
        return self.add("MatMul", self.floating(node.input[0]), self.less_zero(node.input[1], node, 3))

    def _matmul_to_float(self, node: NodeProto, site: _Site) -> str:
        weight = self.add("Mul", self.less_zero(node.input[1], node, 5), self.floating(node.input[3]))
        product = self.add("MatMul", self.floating(node.input[0]), weight)
        return self._plus(self.add("Mul", product, self.floating(node.input[2])), _input(node, 6))

    def _matmul_by_range(self, node: NodeProto, site: _Site) -> str:
        weight = self.add("Mul", self.less_zero(node.input[1], node, 3), self.floating(node.input[2]))
        return self._plus(self.add("MatMul", self.floating(node.input[0]), weight), _input(node, 4))

    def _plus(self, name: str, bias: str) -> str:
        return self.add("Add", name, self.floating(bias)) if bias else name


def _input(node: NodeProto, place: int) -> str:
    """Name of an optional input, empty where it is not given."""
    return str(node.input[place]) if place < len(node.input) else ""
