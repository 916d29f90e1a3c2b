"""Roundings of activations, taken out of a network for its proof.

What QuantizeLinear and DynamicQuantizeLinear make is x / s, neither rounded nor moved by the zero point, within the
range of the type less the zero point; what reads their integers computes the same of floats. Saturation and scales
stay, of operators that compute integers from integers too.
"""

from typing import Any

import numpy as np
from onnx import AttributeProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from onnxprune.graph.index import attributes
from onnxprune.validate.roundings import Linear, Roundings, Site, input_of, linear_of

__all__ = ["bypass"]

_PREFIX = "onnxprune_bypass_"
_FLOAT = TensorProto.FLOAT


def bypass(proto: ModelProto, roundings: Roundings) -> None:
    """Take roundings out of a network, in place.

    Parameters
    ----------
    proto : ModelProto
        The original, its twin or the pruned network.
    roundings : Roundings
        What `find_roundings` found of the original.
    """
    if not roundings:
        return
    graph = proto.graph
    writer = _Writer(roundings)
    for node in graph.node:
        site = roundings.sites.get(node.output[0] if node.output else "")
        if site is None:
            writer.nodes.append(node)
        else:
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

    def __init__(self, roundings: Roundings) -> None:
        self.integers = roundings.integers
        self.nodes: list[NodeProto] = []
        self.constants: list[TensorProto] = []
        self.zeros: dict[str, tuple[str, str]] = {}

    def add(self, operator: str, *inputs: str, more: list[AttributeProto] | None = None, **attributes: Any) -> str:
        name = f"{_PREFIX}{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [name], name=name, **attributes))
        self.nodes[-1].attribute.extend(more or [])
        return name

    def constant(self, value: Any, dtype: Any) -> str:
        name = f"{_PREFIX}constant{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value, dtype=dtype), name))
        return name

    def floating(self, name: str) -> str:
        return self.add("Cast", name, to=_FLOAT)

    def rewrite(self, node: NodeProto, site: Site) -> None:
        """Write what computes the same of floats; the result has the node's name."""
        linear = linear_of(node)
        if linear is not None:
            self._linear(node, site, linear)
            return
        last = {
            "BipolarQuant": self._signs,
            "ConvInteger": self._conv,
            "DequantizeLinear": self._dequantize,
            "DynamicQuantizeLinear": self._quantize_by_range,
            "DynamicQuantizeMatMul": self._matmul_by_range,
            "MatMulInteger": self._matmul,
            "MatMulIntegerToFloat": self._matmul_to_float,
            "Quant": self._some_bits,
            "QuantizeLinear": self._quantize,
        }[node.op_type](node, site)
        self._finish(last, node, site)

    def _finish(self, last: str, node: NodeProto, site: Site) -> None:
        name = f"{_PREFIX}{len(self.nodes)}"
        self.nodes.append(helper.make_node("Cast", [last], [node.output[0]], name=name, to=site.kind))

    # ---- scales and zero points -------------------------------------------------------------------------------------

    def laid(self, name: str, axis: int, rank: int) -> str:
        """Lay a list of scales or zero points along an axis."""
        shape = [-1 if other == axis else 1 for other in range(rank)]
        return self.add("Reshape", self.floating(name), self.constant(shape, np.int64))

    def _along(self, name: str, node: NodeProto, site: Site) -> str:
        """Lay scales or zero points of QuantizeLinear and DequantizeLinear."""
        if not site.listed:
            return self.floating(name)
        found = attributes(node)
        return self.laid(name, (found["axis"].i if "axis" in found else 1) % site.rank, site.rank)

    def less_zero(self, name: str, zero: str) -> str:
        return self.add("Sub", self.floating(name), self.floating(zero)) if zero else self.floating(name)

    def _steps(self, numbers: str, scale: str, zero: tuple[str, str], site: Site) -> str:
        """Divide numbers by a scale, and keep them within the range of a type."""
        steps = self.add("Div", numbers, scale)
        bounds = [self.constant(bound, np.float32) for bound in site.range or ()]
        if zero[0]:
            self.zeros[site.root] = zero
            bounds = [self.add("Sub", bound, zero[1]) for bound in bounds]
        for operator, bound in zip(("Max", "Min"), bounds, strict=False):
            steps = self.add(operator, steps, bound)
        return steps

    # ---- between numbers and integers -------------------------------------------------------------------------------

    def _quantize(self, node: NodeProto, site: Site) -> str:
        zero = input_of(node, 2)
        laid = self._along(zero, node, site) if zero else ""
        return self._steps(self.floating(node.input[0]), self._along(node.input[1], node, site), (zero, laid), site)

    def _quantize_by_range(self, node: NodeProto, site: Site) -> str:
        rounded = NodeProto()
        rounded.CopyFrom(node)
        rounded.output[0] = f"{node.output[0]}_rounded"
        self.nodes.append(rounded)
        self.zeros[site.root] = node.output[2], self.floating(node.output[2])
        return self.add("Div", node.input[0], node.output[1])

    def _dequantize(self, node: NodeProto, site: Site) -> str:
        steps, zero = self.floating(node.input[0]), input_of(node, 2)
        name, laid = self.zeros.get(site.root, ("", ""))
        if zero != name:
            none = self.constant(0, np.float32)
            offset = self.add("Sub", laid or none, self._along(zero, node, site) if zero else none)
            steps = self.add("Add", steps, offset)
        return self.add("Mul", steps, self._along(node.input[1], node, site))

    def _signs(self, node: NodeProto, site: Site) -> str:
        """The sign of a number, that of zero being positive, times the scale."""
        one = self.constant(1.0, np.float32)
        positive = self.add("Less", self.floating(node.input[0]), self.constant(0.0, np.float32))
        sign = self.add("Where", positive, self.add("Neg", one), one)
        return self.add("Mul", sign, self.floating(node.input[1]))

    def _some_bits(self, node: NodeProto, site: Site) -> str:
        """Quant of QONNX: bits are given by an input; what is computed from weights alone is rounded."""
        x, scale, zero, bits = map(self.floating, node.input)
        signed, narrow = (self._flag(node, name, default) for name, default in (("signed", 1), ("narrow", 0)))
        count = self.add(
            "Pow", self.constant(2.0, np.float32), self.add("Sub", bits, self.constant(signed, np.float32))
        )
        high = self.add("Sub", count, self.constant(2.0 if narrow and not signed else 1.0, np.float32))
        low = self.add("Sub", self.constant(narrow, np.float32), count) if signed else self.constant(0.0, np.float32)
        steps = self.add("Add", self.add("Div", x, scale), zero)
        steps = self.add("Floor", self.add("Add", steps, self.constant(0.5, np.float32))) if site.exact else steps
        steps = self.add("Min", self.add("Max", steps, low), high)
        return self.add("Mul", self.add("Sub", steps, zero), scale)

    @staticmethod
    def _flag(node: NodeProto, name: str, default: int) -> int:
        found = attributes(node)
        return int(found[name].i) if name in found else default

    # ---- products that are not rounded ------------------------------------------------------------------------------

    def _conv(self, node: NodeProto, site: Site) -> str:
        weight = self.floating(node.input[1])
        if zero := input_of(node, 3):
            weight = self.add("Sub", weight, self.laid(zero, 0, site.rank))
        return self.add("Conv", self.floating(node.input[0]), weight, more=list(node.attribute))

    def _matmul(self, node: NodeProto, site: Site) -> str:
        return self.add("MatMul", self.floating(node.input[0]), self.less_zero(node.input[1], input_of(node, 3)))

    def _matmul_to_float(self, node: NodeProto, site: Site) -> str:
        weight = self.add("Mul", self.less_zero(node.input[1], input_of(node, 5)), self.floating(node.input[3]))
        product = self.add("MatMul", self.floating(node.input[0]), weight)
        return self._plus(self.add("Mul", product, self.floating(node.input[2])), input_of(node, 6))

    def _matmul_by_range(self, node: NodeProto, site: Site) -> str:
        weight = self.add("Mul", self.less_zero(node.input[1], input_of(node, 3)), self.floating(node.input[2]))
        return self._plus(self.add("MatMul", self.floating(node.input[0]), weight), input_of(node, 4))

    def _plus(self, name: str, bias: str) -> str:
        return self.add("Add", name, self.floating(bias)) if bias else name

    # ---- operators from integers to integers ------------------------------------------------------------------------

    def _linear(self, node: NodeProto, site: Site, linear: Linear) -> None:
        operands = [self._operand(node, site, place, *operand) for place, operand in enumerate(linear.operands)]
        names = [node.input[place] for place in linear.others] + operands
        chosen = [item for item in node.attribute if item.name not in ("channels_last", "opset")]
        numbers = self.add(linear.operator, *names, more=chosen)
        if node.op_type in ("QLinearConv", "QGemm"):
            numbers = self._with_bias(numbers, node, site)
        scale, zero = (input_of(node, place) for place in linear.result)
        if not scale:
            self._finish(numbers, node, site)
        elif node.output[0] in self.integers:
            laid = self.floating(zero) if zero else ""
            self._finish(self._steps(numbers, self.floating(scale), (zero, laid), site), node, site)
        else:
            parameters = [scale] + [zero] * bool(zero)
            self.nodes.append(helper.make_node("QuantizeLinear", [numbers, *parameters], [node.output[0]]))

    def _operand(self, node: NodeProto, site: Site, number: int, data: int, scale: int, zero: int) -> str:
        """Numbers that an input stands for; lists belong to the second one, a weight."""
        name, point = node.input[data], input_of(node, zero)
        steps = self.floating(name) if data in site.floats or not point else ""
        axis = self._weight_axis(node) if number == 1 else None
        if axis is None:
            steps = steps or self.less_zero(name, point)
            return self.add("Mul", steps, self.floating(node.input[scale]))
        steps = steps or self.add("Sub", self.floating(name), self.laid(point, axis, site.rank))
        return self.add("Mul", steps, self.laid(node.input[scale], axis, site.rank))

    @staticmethod
    def _weight_axis(node: NodeProto) -> int | None:
        """Axis of a weight that scales lie along, None where they are laid over it as they are."""
        if node.op_type == "QLinearConv":
            return 0
        found = attributes(node)
        return 0 if node.op_type == "QGemm" and "transB" in found and found["transB"].i else None

    def _with_bias(self, numbers: str, node: NodeProto, site: Site) -> str:
        bias = input_of(node, 8 if node.op_type == "QLinearConv" else 6)
        if not bias:
            return numbers
        alpha = attributes(node).get("alpha")
        scale = self.add("Mul", self.floating(node.input[1]), self.floating(node.input[4]))
        if alpha is not None:
            scale = self.add("Mul", scale, self.constant(alpha.f, np.float32))
        added = self.add("Mul", self.floating(bias), scale)
        if node.op_type == "QLinearConv":
            shape = [1, -1] + [1] * (site.rank - 2)
            added = self.add("Reshape", added, self.constant(shape, np.int64))
        return self.add("Add", numbers, added)
