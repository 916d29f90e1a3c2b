"""The twin of a statistic: a mean, or an input made standard, over the kept positions alone, by the textbook formula.

    μ = Σ_kept x / n,    v = Σ_kept (x − μ)² / n,    y = s · (x − μ) / √(v + ε) + b

with n the number of kept positions. What stands at the others is put to zero before each sum; no slicing takes part.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

from onnxprune.graph.index import attributes
from onnxprune.ops.trace import Formula, Kept, Statistic

__all__ = ["MaskedStatistic", "laid_out"]

_DEFAULT_EPSILON = 1e-5


def laid_out(values: NDArray[Any], axes: tuple[int, ...], rank: int) -> NDArray[Any]:
    """Give an array over ascending axes as many dimensions as a tensor of some rank has."""
    sizes = dict(zip(axes, values.shape, strict=True))
    return values.reshape([sizes.get(axis, 1) for axis in range(rank)])


@dataclass(frozen=True)
class MaskedStatistic:
    """One statistic over what is kept.

    Attributes
    ----------
    name : str
        Prefix of all names; the mask and the kept share are inputs of the twin, by these names.
    statistic : Statistic
    rank : int
        Of the node's input.
    kind : int
        Its element type.
    opset : int
    """

    name: str
    statistic: Statistic
    rank: int
    kind: int
    opset: int

    @property
    def mask(self) -> str:
        """Name of the input that says which positions are kept."""
        return f"{self.name}_keep"

    @property
    def share(self) -> str:
        """Name of the input that says which share of the positions is kept."""
        return f"{self.name}_share"

    def feeds(self, kept: Kept) -> dict[str, NDArray[np.generic]]:
        """Values of mask and share."""
        mask = np.ones([1] * self.rank, dtype=bool)
        for bundle in self.statistic.bundles:
            order = np.argsort(bundle.axes)
            axes = tuple(bundle.axes[place] for place in order)
            mask = mask & laid_out(kept.of(bundle.array).transpose(order), axes, self.rank)
        return {self.mask: mask, self.share: np.array(self.statistic.share(kept), dtype=np.float32)}

    def shape(self) -> list[int]:
        """Shape of the mask."""
        sizes = [1] * self.rank
        for bundle in self.statistic.bundles:
            for axis, size in zip(bundle.axes, bundle.array.shape, strict=True):
                sizes[axis] = size
        return sizes

    def rewrite(self, node: NodeProto) -> tuple[list[NodeProto], list[NodeProto], list[TensorProto]]:
        """Change a node in place; return what has to stand before it and after it, and constants."""
        writer = _Writer(self, TensorProto.DOUBLE if self.kind == TensorProto.DOUBLE else TensorProto.FLOAT)
        if self.statistic.formula is Formula.MEAN:
            result = node.output[0]
            node.output[0] = f"{self.name}_of_all"
            writer.divide_by_share(node.output[0], result)
            return [], writer.nodes, writer.constants
        last = writer.standardise(node, centred=self.statistic.formula is Formula.STANDARD)
        del node.attribute[:]
        node.op_type, node.domain = "Cast", ""
        node.attribute.append(helper.make_attribute("to", self.kind))
        del node.input[:]
        node.input.append(last)
        return writer.nodes, [], writer.constants


class _Writer:
    """Writes nodes one by one."""

    def __init__(self, own: MaskedStatistic, kind: int) -> None:
        self.own = own
        self.kind = kind
        self.nodes: list[NodeProto] = []
        self.constants: list[TensorProto] = []

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        output = f"{self.own.name}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [output], name=output, **attributes))
        return output

    def constant(self, value: Any, kind: int) -> str:
        name = f"{self.own.name}_constant{len(self.constants)}"
        array = np.asarray(value, dtype=helper.tensor_dtype_to_np_dtype(kind))
        self.constants.append(numpy_helper.from_array(array, name))
        return name

    def divide_by_share(self, name: str, result: str) -> None:
        share = self.add("Cast", self.own.share, to=self.own.kind)
        self.nodes.append(helper.make_node("Div", [name, share], [result], name=f"{self.own.name}_of_kept"))

    def typed(self, name: str) -> str:
        return self.add("Cast", name, to=self.kind)

    def masked(self, name: str) -> str:
        if self.own.opset >= 9:
            return self.add("Where", self.own.mask, name, self.constant(0, self.kind))
        return self.add("Mul", name, self.typed(self.own.mask))

    def mean(self, name: str) -> str:
        axes = list(self.own.statistic.axes)
        if self.own.opset >= 18:
            mean = self.add("ReduceMean", name, self.constant(axes, TensorProto.INT64), keepdims=1)
        else:
            mean = self.add("ReduceMean", name, axes=axes, keepdims=1)
        return self.add("Div", mean, self.typed(self.own.share))

    def standardise(self, node: NodeProto, *, centred: bool) -> str:
        x = self.masked(self.typed(node.input[0]))
        if centred:
            x = self.masked(self.add("Sub", x, self.mean(x)))
        found = attributes(node)
        epsilon = found["epsilon"].f if "epsilon" in found else _DEFAULT_EPSILON
        spread = self.add("Add", self.mean(self.add("Mul", x, x)), self.constant(epsilon, self.kind))
        y = self.add("Div", x, self.add("Sqrt", spread))
        for operator, name in zip(("Mul", "Add"), node.input[1:3], strict=False):
            if name:
                y = self.add(operator, y, self.parameter(name))
        return y

    def parameter(self, name: str) -> str:
        name = self.typed(name)
        axes = list(range(1, self.own.rank - 1))
        if not self.own.statistic.per_channel or not axes:
            return name
        if self.own.opset >= 13:
            return self.add("Unsqueeze", name, self.constant(axes, TensorProto.INT64))
        return self.add("Unsqueeze", name, axes=axes)
