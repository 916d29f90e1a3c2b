"""The flow of a network: the same graph with all weights positive, nothing that bends, and nothing that is added.

    R = 1ᵀ (Π |W|) 1        a · ∂R/∂a is what flows through a: as much leaves a channel as enters it

Activations are the identity, normalisations their factors (|γ|, of batches |γ|/√(σ² + ε)), biases and other constants
that are added are zero, tables that are looked up in give their rows' mean. A product of two activations is its root
√(ab), so that everything stays of degree one and each takes half of what leaves it. A maximum stays one.

However deep it is, nothing overflows: a tensor t stands for t · 2^e, where e is a whole number beside it, worked out as
the network runs; what meets is brought to the larger e. As derivatives do not go through whole numbers, a · ∂R/∂a is
that of the plain formula over the 2^e of R.

References
----------
H. Tanaka, D. Kunin, D. Yamins, S. Ganguli, "Pruning neural networks without any data by iteratively conserving synaptic
flow", NeurIPS 2020, arXiv 2006.05467, theorems 1 to 3.
"""

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper

from onnxprune.errors import ModelError
from onnxprune.gradient import raised
from onnxprune.gradient.builder import Builder
from onnxprune.gradient.rule import FLOATS
from onnxprune.graph.index import Index, attributes, node_site
from onnxprune.graph.model import Model
from onnxprune.ops import normalization, pointwise
from onnxprune.shapes.infer import infer_shapes

__all__ = ["FLOWS_IN", "Flow", "flow_of"]

_WEIGHTED = frozenset(["Conv", "ConvTranspose", "Gemm", "MatMul", "Einsum", "FusedMatMul", "TransposeMatMul"])
_NORMALISED = frozenset(rule.operator for rule in normalization.RULES) - {"ReduceMean"}
_BENDING = frozenset(rule.operator for rule in pointwise.RULES) | _NORMALISED | {"QuantizeLinear", "DequantizeLinear"}
"""Operators that leave what flows through them as it is, where no formula below says otherwise."""
_BY_CHANNEL = frozenset(["BatchNormalization", "InstanceNormalization", "GroupNormalization"])
_PLACED = {"Concat": None, "Where": (1, 2), "ScatterND": (0, 2), "ScatterElements": (0, 2), "Pad": (0,)}
"""Which inputs end up in the output, side by side; None for all."""
_SUMMED = {"ReduceSumSquare", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceProd"}
_PICTURES = frozenset([TensorProto.UINT8, TensorProto.INT8, TensorProto.UINT16])
FLOWS_IN = FLOATS | _PICTURES
"""Types of inputs that something flows in by; other whole numbers are looked up."""
_INT, _FLOAT = TensorProto.INT64, TensorProto.FLOAT
_NONE = -(1 << 40)
"""Exponent of a tensor of zeros: whatever it meets is larger."""
_TINY = 1e-30


@dataclass(frozen=True)
class Flow:
    """A network's flow.

    Attributes
    ----------
    proto : ModelProto
        Of the same names, outputs included, but for nodes and tensors in between.
    exponent : str
        Whole number e beside all outputs, a tensor of its own: they stand for what they are times 2^e.
    """

    proto: ModelProto
    exponent: str


def flow_of(proto: ModelProto, inputs: Collection[str], shapes: dict[str, tuple[int, ...]]) -> Flow:
    """Write the flow of a network.

    Parameters
    ----------
    proto : ModelProto
        Without functions, all weights in it; not modified.
    inputs : collection of str
        Inputs that something flows in by, where they are numbers.
    shapes : dict of str to tuple of int
        Sizes for inputs with symbolic dimensions.

    Returns
    -------
    Flow

    Raises
    ------
    ModelError
        If nothing is known of how a node passes on what flows into it.
    """
    made = ModelProto()
    made.CopyFrom(raised(proto))
    writer = _Writer(made, shapes)
    for name in inputs:
        writer.enters(name)
    for node in list(made.graph.node):
        writer.rewrite(node)
    exponent = writer.finish([value.name for value in made.graph.output])
    del made.graph.node[:]
    made.graph.node.extend(writer.b.nodes)
    made.graph.initializer.extend(writer.b.constants.values())
    del made.graph.value_info[:]
    return Flow(made, exponent)


class _Writer:
    """Writes the nodes of a flow, one of the network after the other, under the names of their outputs."""

    def __init__(self, proto: ModelProto, shapes: dict[str, tuple[int, ...]]) -> None:
        self.index = Index(proto)
        self.shapes = infer_shapes(self.index, Model(proto).skeleton(), shapes)
        types = self.shapes.types | {name: tensor.data_type for name, tensor in self.index.weights.items()}
        taken = {*types, *(name for node in proto.graph.node for name in (*node.input, *node.output))}
        self.b = Builder(self.index.opsets[""], taken, types, prefix="flow/")
        self.exponents: dict[str, str] = {}
        self.live: set[str] = set()

    def enters(self, name: str) -> None:
        """Begin at an input of the network."""
        self.live.add(name)
        if self.b.types.get(name) in FLOATS:
            self.exponents[name] = self.b.constant(0, _INT)

    def flows(self, node: NodeProto) -> list[str]:
        """What flows into a node."""
        return [name for name in node.input if name in self.exponents]

    def rewrite(self, node: NodeProto) -> None:
        """Write what passes through a node."""
        flowing, is_live = self.flows(node), any(name in self.live for name in node.input)
        kinds = {self.b.types.get(name, _FLOAT) for name in node.output if name}
        if is_live:
            self.live.update(node.output)
        if flowing and (kinds & FLOATS or node.op_type == "QuantizeLinear"):
            self._rule(node, flowing)(node)
        elif is_live and kinds & FLOATS and self._begins(node):
            self._source(node)
        else:
            self._keep(node)

    def _rule(self, node: NodeProto, flowing: Sequence[str]) -> Callable[[NodeProto], None]:
        operator = node.op_type
        if operator in _WEIGHTED:
            return self._weighted
        if operator in ("Mul", "Div"):
            return self._multiplied
        if operator in _PLACED:
            return self._placed
        if operator in _NORMALISED:
            return self._normalised
        if operator in _BENDING:
            return self._added
        if len(flowing) > 1:
            raise self._unknown(node)
        return self._passed

    def _unknown(self, node: NodeProto) -> ModelError:
        return ModelError(
            f"{node_site(node)}: nothing is known of how {node.op_type} passes on what flows into it from several "
            "sides; take another method, such as l1"
        )

    # ---- where it begins --------------------------------------------------------------------------------------------

    def _begins(self, node: NodeProto) -> bool:
        """Tell whether whole numbers become a flow here: looked up in a table, or as the levels of a picture."""
        if node.op_type == "Gather":
            return node.input[0] not in self.live
        return node.op_type in ("Cast", "DequantizeLinear") and self.b.types.get(node.input[0]) in _PICTURES

    def _source(self, node: NodeProto) -> None:
        b, (table, *others) = self.b, node.input
        if node.op_type == "Gather":
            axis = next((item.i for item in node.attribute if item.name == "axis"), 0)
            table = b.expand(b.mean(b.op("Abs", table), [axis]), table)
        self._scaled(self._raw(node, [table, *others]), node.output[0], b.constant(0, _INT))

    # ---- what stays as it is ----------------------------------------------------------------------------------------

    def _keep(self, node: NodeProto, inputs: Sequence[str] | None = None) -> NodeProto:
        """Copy a node, with other inputs."""
        copy = NodeProto()
        copy.CopyFrom(node)
        if inputs is not None:
            del copy.input[:]
            copy.input.extend(inputs)
        self.b.nodes.append(copy)
        return copy

    def _raw(self, node: NodeProto, inputs: Sequence[str]) -> str:
        """Copy a node, with other inputs and under another name: what it makes is still to be scaled."""
        copy = self._keep(node, inputs)
        copy.output[0] = self.b.fresh(f"raw_{node.output[0]}")
        self.b.types[copy.output[0]] = _FLOAT
        for item in copy.attribute:
            if item.name == "alpha":
                item.f = abs(item.f)
        return str(copy.output[0])

    def _passed(self, node: NodeProto) -> None:
        """Pools, reductions, and what moves elements about."""
        copy, exponent = self._keep(node), self.exponents[self.flows(node)[0]]
        if node.op_type in _SUMMED:  # of one sign, and like the others in how axes are given
            copy.op_type = "ReduceL1"
        self._mark(node, exponent)

    def _mark(self, node: NodeProto, exponent: str) -> None:
        self.exponents.update({name: exponent for name in node.output if name})

    # ---- what is added, side by side or on top of one another -----------------------------------------------------

    def _added(self, node: NodeProto) -> None:
        """Sums, what bends, and what is applied to one tensor with the help of others."""
        flowing = self.flows(node)
        terms, exponent = self._met(flowing)
        if node.op_type in ("Max", "Min", "Mean") and len(terms) > 1:
            self._keep(node, terms)
        else:
            self._name(self._spread(self.b.add(*terms), flowing, node), node.output[0])
        self._mark(node, exponent)

    def _spread(self, term: str, flowing: Sequence[str], node: NodeProto) -> str:
        """A sum in the shape that the network has there, though constants that it was laid over are gone."""
        sizes = [self.shapes.shapes.get(name) for name in (*flowing, node.output[0])]
        known = [size for size in sizes if size is not None]
        if len(known) < len(sizes) or np.broadcast_shapes(*known[:-1]) == known[-1]:
            return term
        for name in node.input:
            if name and name not in self.exponents:
                term = self.b.add(term, self.b.cast(self.b.zeros(name), _FLOAT))
        return term

    def _name(self, term: str, name: str) -> None:
        self.b.nodes.append(helper.make_node("Identity", [term], [name]))

    def _placed(self, node: NodeProto) -> None:
        """Concat, Where and their like."""
        places = _PLACED[node.op_type] or range(len(node.input))
        met, exponent = self._met(self.flows(node))
        moved = dict(zip(self.flows(node), met, strict=True))
        inputs = list(node.input)
        for place in places:
            name = inputs[place]
            inputs[place] = moved[name] if name in moved else self.b.zeros(name)
        if node.op_type == "Pad" and len(inputs) > 2:
            inputs[2] = ""
        self._keep(node, inputs)
        self._mark(node, exponent)

    def _met(self, names: Sequence[str]) -> tuple[list[str], str]:
        """Tensors brought to the largest of their exponents, and that."""
        b, own = self.b, [self.exponents[name] for name in names]
        if len(set(own)) == 1:
            return list(names), own[0]
        largest = b.op("Max", *dict.fromkeys(own), kind=_INT)
        return [b.mul(name, self._power(b.sub(each, largest))) for name, each in zip(names, own, strict=True)], largest

    # ---- what is multiplied -----------------------------------------------------------------------------------------

    def _weighted(self, node: NodeProto) -> None:
        """Products with weights, or with one another."""
        count = len(node.input) if node.op_type == "Einsum" else 2
        factors, made = list(node.input[:count]), node.output[0]
        own = [self.exponents[name] for name in factors if name in self.exponents]
        added = [name for name in node.input[count:] if name in self.exponents]
        raw = self._raw(node, [name if name in self.exponents else self.b.op("Abs", name) for name in factors])
        if not own or len(own) > 2:
            raise self._unknown(node)
        product = self.b.fresh(f"product_{made}") if added else made
        self._rooted(raw, product, own)
        if added:  # by Gemm
            terms, exponent = self._met([product, *added])
            self._name(self.b.add(*terms), made)
            self._mark(node, exponent)

    def _multiplied(self, node: NodeProto) -> None:
        """Mul and Div: gates, factors, and what is divided by a statistic."""
        b, (first, second), flowing = self.b, node.input, self.flows(node)
        if node.op_type == "Div" and second in self.exponents:
            passing = first if first in self.exponents else second
            self._name(self._spread(passing, [passing], node), node.output[0])
            return self._mark(node, self.exponents[passing])
        inputs = [name if name in self.exponents else b.op("Abs", name) for name in (first, second)]
        return self._rooted(self._raw(node, inputs), node.output[0], [self.exponents[name] for name in flowing])

    def _normalised(self, node: NodeProto) -> None:
        """The factor of a normalisation, without its statistic; of softmax none."""
        b, x, made = self.b, node.input[0], node.output[0]
        scale = node.input[1] if len(node.input) > 1 else ""
        if not scale or scale in self.exponents or "Norm" not in node.op_type:
            return self._added(node)
        factor = b.op("Abs", scale)
        if node.op_type in _BY_CHANNEL:
            factor = self._by_channel(node, factor)
        return self._scaled(b.mul(x, factor), made, self.exponents[x])

    def _by_channel(self, node: NodeProto, factor: str) -> str:
        """One factor per channel, the second axis."""
        b, sizes = self.b, self.shapes.shapes[node.input[0]]
        given = attributes(node)
        if node.op_type == "BatchNormalization":
            epsilon = given["epsilon"].f if "epsilon" in given else 1e-5
            factor = b.div(factor, b.op("Sqrt", b.add(node.input[4], epsilon)))
        if node.op_type == "GroupNormalization" and math.prod(self.shapes.shapes[node.input[1]]) != sizes[1]:
            groups = given["num_groups"].i
            wide = b.op("Expand", b.unsqueeze(factor, [1]), b.ints(groups, sizes[1] // groups))
            factor = b.reshape(wide, [-1])
        return b.unsqueeze(factor, list(range(1, len(sizes) - 1)))

    # ---- magnitudes -------------------------------------------------------------------------------------------------

    def _power(self, exponent: str) -> str:
        """2^e, zero far below one."""
        b = self.b
        least = b.op("Max", exponent, b.constant(-200, _INT), kind=_INT)
        return b.op("Pow", b.constant(2.0, _FLOAT), b.cast(least, _FLOAT), kind=_FLOAT)

    def _rooted(self, raw: str, made: str, exponents: Sequence[str]) -> None:
        """Scale a product of one or two that flow; of two, take the root."""
        b = self.b
        if len(exponents) == 1:
            return self._scaled(raw, made, exponents[0])
        total = b.add(exponents[0], exponents[1])
        half = b.op("Div", total, b.constant(2, _INT), kind=_INT)
        odd = b.mul(raw, self._power(b.sub(total, b.add(half, half))))
        there = b.compare("Greater", odd, b.constant(_TINY, _FLOAT))
        root = b.where(there, b.op("Sqrt", b.where(there, odd, 1.0)), 0.0)
        return self._scaled(root, made, half)

    def _scaled(self, raw: str, made: str, exponent: str) -> None:
        """Give a tensor its name, divided by a power of two so that its largest element is between one and two."""
        b = self.b
        largest = b.op("ReduceMax", raw, keepdims=0, kind=_FLOAT)
        there = b.compare("Greater", largest, b.constant(_TINY, _FLOAT))
        binary = b.div(b.op("Log", b.where(there, largest, 1.0)), b.constant(math.log(2.0), _FLOAT))
        own = b.cast(b.op("Floor", binary), _INT)
        factor = b.where(there, self._power(b.op("Neg", own)), 0.0)
        b.nodes.append(helper.make_node("Mul", [raw, factor], [made]))
        self.exponents[made] = b.add(exponent, b.where(there, own, b.constant(_NONE, _INT)))

    def finish(self, outputs: Sequence[str]) -> str:
        """Bring all outputs to one exponent, and name it."""
        flowing = [name for name in outputs if name in self.exponents]
        inner = {name: self.b.fresh(f"inner_{name}") for name in flowing}
        for node in self.b.nodes:
            for names in (node.input, node.output):
                for place, name in enumerate(names):
                    names[place] = inner.get(name, name)
        if not flowing:
            return self.b.constant(0, _INT)
        self.exponents |= {inner[name]: self.exponents[name] for name in flowing}
        self.b.types.update({inner[name]: _FLOAT for name in flowing})
        terms, exponent = self._met([inner[name] for name in flowing])
        for term, name in zip(terms, flowing, strict=True):
            self._name(term, name)
        return exponent
