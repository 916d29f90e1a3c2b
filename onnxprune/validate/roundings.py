"""Which roundings of activations are taken out of a proof: those of sums of floats, and all that depends on them.

Sums of floats differ in their last digit between a network and its twin, and a rounding makes whole steps of that.
Sums of integers are exact, and so is what is computed from the inputs element by element: there, roundings stay, and
integers are compared as they are.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from onnx import NodeProto, TensorProto

from onnxprune.graph.index import Index, attributes
from onnxprune.shapes.infer import Shapes
from onnxprune.shapes.standins import is_qonnx

__all__ = ["NOTHING", "PRODUCTS", "Linear", "Roundings", "Site", "find_roundings", "input_of", "linear_of"]

_MOVING = "DepthToSpace Flatten Gather Identity MaxPool Reshape Slice SpaceToDepth Split Squeeze Transpose Unsqueeze"
_MOVES = frozenset(_MOVING.split())
_ROUNDING = frozenset({"DynamicQuantizeLinear", "QuantizeLinear"})
# What computes the same from the same numbers, whatever else is beside them.
_ELEMENTWISE = """Abs Add Cast Ceil Clip Concat Constant ConstantOfShape ConvInteger DequantizeLinear Div
    DynamicQuantizeMatMul Equal Expand Floor Greater LeakyRelu Less MatMulInteger MatMulIntegerToFloat Max Min Mul Neg
    BipolarQuant Not Pad PRelu Quant Range Relu Round Shape Sign Sub Tile Where"""
_EXACT = _MOVES | _ROUNDING | frozenset(_ELEMENTWISE.split())
PRODUCTS = {"ConvInteger": 2, "MatMulInteger": 2, "MatMulIntegerToFloat": 4}
"""Products of integers whose result is not rounded, and where they have the zero point of their first input."""

_RANGES: dict[int, tuple[int, int]] = {
    TensorProto.INT4: (-8, 7),
    TensorProto.UINT4: (0, 15),
    TensorProto.INT8: (-128, 127),
    TensorProto.UINT8: (0, 255),
    TensorProto.INT16: (-(1 << 15), (1 << 15) - 1),
    TensorProto.UINT16: (0, (1 << 16) - 1),
}


@dataclass(frozen=True)
class Linear:
    """An operator of integers that rounds what a standard one computes.

    Attributes
    ----------
    operator : str
        The standard one.
    operands : tuple of (int, int, int)
        Inputs that hold integers, their scales and their zero points.
    result : tuple of (int, int)
        Inputs that hold scale and zero point of what it computes.
    others : tuple of int
        Inputs that the standard one has before the operands.
    """

    operator: str
    operands: tuple[tuple[int, int, int], ...]
    result: tuple[int, int]
    others: tuple[int, ...] = ()


_ONE, _TWO = ((0, 1, 2),), ((0, 1, 2), (3, 4, 5))
_LINEAR = {
    "QGemm": Linear("Gemm", _TWO, (7, 8)),
    "QLinearAdd": Linear("Add", _TWO, (6, 7)),
    "QLinearAveragePool": Linear("AveragePool", _ONE, (3, 4)),
    "QLinearConv": Linear("Conv", _TWO, (6, 7)),
    "QLinearGlobalAveragePool": Linear("GlobalAveragePool", _ONE, (3, 4)),
    "QLinearLeakyRelu": Linear("LeakyRelu", _ONE, (3, 4)),
    "QLinearMatMul": Linear("MatMul", _TWO, (6, 7)),
    "QLinearMul": Linear("Mul", _TWO, (6, 7)),
    "QLinearSigmoid": Linear("Sigmoid", _ONE, (3, 4)),
    "QLinearSoftmax": Linear("Softmax", _ONE, (3, 4)),
    "QLinearWhere": Linear("Where", ((1, 2, 3), (4, 5, 6)), (7, 8), (0,)),
}


@dataclass(frozen=True)
class Site:
    """What has to be known of a node to rewrite it.

    Attributes
    ----------
    rank : int
        Of the node's input 0.
    listed : bool
        Whether its input 1, the scale, is a list.
    range : tuple of (int, int) or None
        Of the type of its first output, where that is one of integers.
    kind : int
        Element type that its first output has in the end.
    root : str
        The integers whose zero point its input 0 has.
    floats : frozenset of int
        Inputs that are floats in place of integers.
    exact : bool
        Whether what it rounds depends on no sum of floats.
    """

    rank: int
    listed: bool
    range: tuple[int, int] | None
    kind: int
    root: str
    floats: frozenset[int]
    exact: bool


@dataclass(frozen=True)
class Roundings:
    """What is taken out of a network, by the names of tensors, which pruning leaves alone.

    Attributes
    ----------
    integers : frozenset of str
        Tensors of integers that become floats.
    sites : mapping of str to Site
        The nodes that are rewritten, by their first output.
    loose : frozenset of str
        Tensors that depend on sums of floats, so that their integers may differ by steps.
    needed : bool
        Whether onnxruntime cannot run the network as it is.
    """

    integers: frozenset[str] = frozenset()
    sites: Mapping[str, Site] = field(default_factory=dict)
    loose: frozenset[str] = frozenset()
    needed: bool = False

    def __bool__(self) -> bool:
        return bool(self.sites)


NOTHING = Roundings()
"""Of a network whose roundings stay."""


def linear_of(node: NodeProto) -> Linear | None:
    """Return what an operator of integers stands for, None for any other."""
    if node.op_type == "QLinearConcat":
        operands = tuple((place, place + 1, place + 2) for place in range(2, len(node.input), 3))
        return Linear("Concat", operands, (0, 1))
    if "channels_last" in attributes(node) and attributes(node)["channels_last"].i:
        return None
    return _LINEAR.get(node.op_type)


def input_of(node: NodeProto, place: int) -> str:
    """Name of an optional input, empty where it is not given."""
    return str(node.input[place]) if place < len(node.input) else ""


def find_roundings(index: Index, shapes: Shapes) -> Roundings:
    """Find the roundings that have to be taken out, as far as they can be.

    Parameters
    ----------
    index, shapes
        Of the original.

    Returns
    -------
    Roundings
    """
    loose = _loose(index)
    free = _Free(index, shapes, loose)
    sites, sums = {}, set()
    for node in index.nodes:
        name = node.output[0] if node.output else ""
        if not (_rounds(node) and name in free.integers) and not free.reads(node):
            continue
        kind = shapes.types.get(name, TensorProto.FLOAT)
        if kind == TensorProto.INT32:
            sums.add(name)
        floating = TensorProto.FLOAT if name in free.integers or kind == TensorProto.INT32 else kind
        data = node.input[0]
        root = free.roots[data].output[0] if data in free.integers and not _rounds(node) else name
        listed = len(node.input) > 1 and shapes.shapes.get(node.input[1], ()) not in ((), (1,))
        floats = frozenset(place for place, item in enumerate(node.input) if item in free.integers)
        rank, exact = len(shapes.shapes.get(data, ())), data not in loose
        sites[name] = Site(rank, listed, _RANGES.get(kind), floating, root, floats, exact)
    needed = any(is_qonnx(node) for node in index.nodes)
    return Roundings(frozenset(free.integers | sums), sites, loose, needed)


def _loose(index: Index) -> frozenset[str]:
    """Tensors that depend on anything but exact operators."""
    found: set[str] = set()
    for node in index.nodes:
        exact = node.op_type in _EXACT or node.op_type.startswith("QLinear") or node.op_type == "QGemm"
        if not exact or any(name in found for name in node.input):
            found.update(name for name in node.output if name and name not in index.constants)
    return frozenset(found)


def _rounds(node: NodeProto) -> bool:
    """Tell whether a node makes integers of numbers, or of other integers by way of numbers."""
    linear = linear_of(node)
    if linear is None:
        return node.op_type in _ROUNDING and _is_simple(node) and all(node.output)
    return bool(input_of(node, linear.result[0]))


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


def _zero_of(root: NodeProto) -> str:
    """Name of the zero point of what a node makes, empty for none."""
    if root.op_type == "DynamicQuantizeLinear":
        return str(root.output[2])
    linear = linear_of(root)
    return input_of(root, 2 if linear is None else linear.result[1])


class _Free:
    """Loose integers that only what can read floats reads: others are left out until none is found any more."""

    def __init__(self, index: Index, shapes: Shapes, loose: frozenset[str]) -> None:
        self.index = index
        self.shapes = shapes
        self.loose = loose
        self.integers: set[str] = set()
        self.makers: dict[str, NodeProto] = {}
        self.roots: dict[str, NodeProto] = {}
        for node in index.nodes:
            rounds = _rounds(node)
            if node.output and node.output[0] in loose and (rounds or self._moves(node)):
                names = list(filter(None, node.output[:1] if rounds else node.output))
                self.integers.update(names)
                self.makers |= dict.fromkeys(names, node)
                self.roots |= dict.fromkeys(names, node if rounds else self.roots[_moved(node)[0]])
        while lost := {name for name in self.integers if not self._is_free(name)}:
            self.integers -= lost

    def reads(self, node: NodeProto) -> bool:
        """Tell whether a node has to be rewritten because it reads floats in place of integers."""
        linear = linear_of(node)
        if linear is not None:
            return any(input_of(node, operand[0]) in self.integers for operand in linear.operands)
        if node.op_type == "DynamicQuantizeMatMul":
            return node.input[0] in self.loose
        if is_qonnx(node):
            return True
        return node.op_type in (*PRODUCTS, "DequantizeLinear") and node.input[0] in self.integers

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
        linear, zero = linear_of(node), _zero_of(self.roots[name])
        if linear is not None:
            return any(operand[0] == place and input_of(node, operand[2]) == zero for operand in linear.operands)
        if node.op_type == "DequantizeLinear":
            # A list of zero points lies along an axis that moves may have moved.
            single = self.shapes.shapes.get(zero, ()) in ((), (1,)) or self.makers[name] is self.roots[name]
            return place == 0 and single and _is_simple(node)
        if node.op_type not in PRODUCTS or place != 0 or input_of(node, PRODUCTS[node.op_type]) != zero:
            return False
        return node.op_type == "MatMulIntegerToFloat" or self._is_cast(node.output[0])

    def _is_cast(self, name: str) -> bool:
        """Tell whether sums are made floating at once."""
        index = self.index
        readers = [index.nodes[edge.node].op_type for edge in index.consumers.get(name, [])]
        return set(readers) == {"Cast"} and name not in index.outputs and not index.captured.get(name)
