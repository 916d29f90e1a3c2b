"""The gradient of a network as another network: reverse mode over the graph, node by node, by the table of rules."""

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import onnx
from onnx import ModelProto, TensorProto, ValueInfoProto, helper, version_converter

from onnxprune.errors import ModelError, UsageError
from onnxprune.gradient import convolution, linear, normalization, pointwise, pooling, reductions, shape
from onnxprune.gradient.builder import Builder
from onnxprune.gradient.losses import Loss, with_loss
from onnxprune.gradient.rule import FLOATS, Gradients, Op, Rule
from onnxprune.graph.index import Index, node_site, outer_reads
from onnxprune.graph.model import Model
from onnxprune.prepare.precision import widened
from onnxprune.shapes.infer import Shapes, forget_claims, infer_shapes

__all__ = ["OPSET", "RULES", "Gradient", "differentiate", "raised"]

OPSET = 17
"""Operator set that the nodes of gradients are written in at least."""


_PLACED = 11
"""Operator set from which on Resize says which place is which; the converter leaves out what it was before."""
_PLACES = (
    helper.make_attribute("coordinate_transformation_mode", "asymmetric"),
    helper.make_attribute("nearest_mode", "floor"),
)


def _table(*parts: dict[tuple[str, str], Rule]) -> dict[tuple[str, str], Rule]:
    found: dict[tuple[str, str], Rule] = {}
    for part in parts:
        assert not found.keys() & part.keys(), f"two rules for {found.keys() & part.keys()}"
        found |= part
    return found


RULES = _table(
    convolution.RULES,
    linear.RULES,
    normalization.RULES,
    pointwise.RULES,
    pooling.RULES,
    reductions.RULES,
    shape.RULES,
)
"""One rule per operator, by domain and name."""


@dataclass(frozen=True)
class Gradient:
    """A network that computes its own derivatives.

    Attributes
    ----------
    proto : ModelProto
        Outputs are those of the network that were asked for, the loss if there is one, and the derivatives.
    of : dict of str to str
        Output with the derivative for each tensor that it was asked for.
    loss : str
        Output with the loss, a number; empty where there are seeds.
    targets : str
        Input for what the loss compares with; empty where there is none.
    seeds : dict of str to str
        Input for the derivative by each output, where there is no loss.
    """

    proto: ModelProto
    of: dict[str, str]
    loss: str = ""
    targets: str = ""
    seeds: dict[str, str] | None = None


def raised(proto: ModelProto) -> ModelProto:
    """Return a network of an operator set in which gradients can be written.

    Raises
    ------
    ModelError
        If onnx cannot convert it.
    """
    opset = next((item.version for item in proto.opset_import if item.domain in ("", "ai.onnx")), OPSET)
    if opset >= OPSET:
        return proto
    plain = ModelProto()
    plain.CopyFrom(proto)
    forget_claims(plain)
    try:
        made = version_converter.convert_version(plain, OPSET)
    except Exception as error:  # what the converter raises has no common base
        fact = " ".join(str(error).split())[:200]
        raise ModelError(
            f"the network is of operator set {opset}, gradients need {OPSET}, and onnx cannot convert it ({fact}); "
            f"export it for operator set {OPSET} or above"
        ) from error
    for node in made.graph.node if opset < _PLACED else ():
        if node.op_type == "Resize":
            given = {item.name for item in node.attribute}
            node.attribute.extend(item for item in _PLACES if item.name not in given)
    return made


def differentiate(
    proto: ModelProto,
    by: Sequence[str],
    *,
    loss: Loss | None = None,
    outputs: Sequence[str] | None = None,
    input_shapes: dict[str, tuple[int, ...]] | None = None,
) -> Gradient:
    """Write the derivatives of a network behind it.

    Parameters
    ----------
    proto : ModelProto
        Without functions, all weights in it; not modified. Where it has floats of 16 bits, all floats are made float32:
        inputs and outputs, too.
    by : sequence of str
        Activations, inputs and initializers to differentiate by.
    loss : Loss, optional
        What is differentiated; else all outputs of floats are, each weighted by an input of its own ("seed").
    outputs : sequence of str, optional
        Outputs of the network to be computed, too; all by default.
    input_shapes : dict of str to tuple of int, optional
        Sizes for inputs with symbolic dimensions, which may be others when it runs.

    Returns
    -------
    Gradient

    Raises
    ------
    UsageError
        If the network has no tensor of a name.
    ModelError
        If a node between has no rule, or one that does not cover it.

    References
    ----------
    A. Griewank, A. Walther, "Evaluating Derivatives", 2nd edition, SIAM 2008, chapter 3.
    """
    made = ModelProto()
    made.CopyFrom(proto)
    made = raised(widened(Model(made)) if _has_narrow_floats(made) else made)
    if made.ir_version < 8:
        made.ir_version = 8
    sweep = _Sweep(made, input_shapes)
    sweep.require(by)
    targets, seeds = "", dict[str, str]()
    if loss is not None:
        sweep.require([loss.output])
        sizes = sweep.sizes(loss.output)
        named = [s if sweep.shapes.is_static((loss.output, k)) else f"{loss.output}_{k}" for k, s in enumerate(sizes)]
        name, targets = with_loss(made, loss, sweep.b, named)
        made.graph.node.extend(sweep.b.nodes)
        assumed = dict(sweep.shapes.inputs)
        if targets:
            own = [size for k, size in enumerate(sizes) if loss.kind != "entropy" or k != loss.axis % len(sizes)]
            assumed[targets] = tuple(own)
        sweep = _Sweep(made, assumed, sweep.b)
        start = {name: sweep.b.constant(1.0, sweep.b.types[name])}
    else:
        floats = [v.name for v in made.graph.output if sweep.b.types.get(v.name) in FLOATS]
        seeds = {output: sweep.b.fresh(f"seed_{output}") for output in floats}
        for output, seed in seeds.items():
            kind = sweep.b.types[output]
            made.graph.input.append(helper.make_tensor_value_info(seed, kind, [None] * len(sweep.sizes(output))))
            sweep.b.types[seed] = kind
        start, name = dict(seeds), ""
    found = sweep.run(by, start)
    kept = [value.name for value in made.graph.output] if outputs is None else list(outputs)
    sweep.finish([*kept, *([name] if name else []), *found.values()])
    return Gradient(made, found, name, targets, seeds if loss is None else None)


def _has_narrow_floats(proto: ModelProto) -> bool:
    """Tell whether a network computes with floats of 16 bits."""
    kinds = {tensor.data_type for tensor in proto.graph.initializer}
    kinds |= {value.type.tensor_type.elem_type for value in (*proto.graph.input, *proto.graph.output)}
    kinds |= {item.i for node in proto.graph.node for item in node.attribute if item.name == "to"}
    return bool(kinds & {TensorProto.FLOAT16, TensorProto.BFLOAT16})


class _Sweep:
    """One network on its way to have derivatives."""

    def __init__(
        self, proto: ModelProto, input_shapes: dict[str, tuple[int, ...]] | None, builder: Builder | None = None
    ) -> None:
        self.proto = proto
        self.like: dict[str, str] = {}
        if builder is not None:  # whose nodes are in the network by now
            proto.graph.initializer.extend(builder.constants.values())
        self.index = Index(proto)
        self.shapes: Shapes = infer_shapes(self.index, Model(proto).skeleton(), input_shapes)
        types = dict(self.shapes.types)
        types |= {name: tensor.data_type for name, tensor in self.index.weights.items()}
        taken = {*types, *(name for node in proto.graph.node for name in (*node.input, *node.output, node.name))}
        if builder is None:
            self.b = Builder(self.index.opsets.get("", OPSET), taken, types)
        else:
            self.b = builder
            self.b.types |= types
            self.b.nodes = []

    def require(self, names: Collection[str]) -> None:
        """Make sure that the network has tensors of these names."""
        known = {*self.index.weights, *self.index.inputs, *self.index.producer}
        for name in names:
            if name not in known:
                raise UsageError(f"the network has no tensor {name!r} to differentiate by")

    def sizes(self, output: str) -> tuple[int, ...]:
        """Sizes of an output where symbolic dimensions are as assumed."""
        if output not in self.shapes.shapes:
            raise ModelError(f"the shape of output {output!r} is not known; give --input-shape")
        return self.shapes.shapes[output]

    def run(self, by: Sequence[str], start: dict[str, str]) -> dict[str, str]:
        """Go backward from outputs whose derivatives are given; returns those that were asked for."""
        wanted = self._depending(by)
        parts: dict[str, list[str]] = defaultdict(list)
        for name, gradient in start.items():
            parts[name].append(gradient)
        for number in reversed(range(len(self.index.nodes))):
            node = self.index.nodes[number]
            if not any(name in wanted and parts.get(name) for name in node.output if name):
                continue
            if not any(name in wanted for name in node.input):
                if wanted & outer_reads(node):
                    raise self._unruled(number, start)
                continue
            made: Gradients = [self._total(parts, name) if name in wanted else None for name in node.output]
            for name, own in zip(list(node.input), self._through(number, made, wanted, start), strict=True):
                if own is not None and name in wanted:
                    parts[name].append(own)
        return {name: self._output(name, self._total(parts, name)) for name in dict.fromkeys(by)}

    def _depending(self, by: Sequence[str]) -> set[str]:
        """Tensors of floats that depend on those that are differentiated by."""
        found = set(by)
        for node in self.index.nodes:
            if any(name in found for name in (*node.input, *outer_reads(node))):
                found.update(name for name in node.output if self.b.types.get(name, TensorProto.FLOAT) in FLOATS)
        return found

    def _total(self, parts: dict[str, list[str]], name: str) -> str | None:
        """Sum of what came to a tensor."""
        own = parts.get(name)
        if not own:
            return None
        if len(own) > 1:
            parts[name] = own = [self.b.op("Sum", *own)]
        return own[0]

    def _through(self, number: int, made: Gradients, wanted: set[str], start: dict[str, str]) -> Gradients:
        """Gradients of what a node reads."""
        node = self.index.nodes[number]
        rule = RULES.get((node.domain if node.domain != "ai.onnx" else "", node.op_type))
        if rule is None:
            raise self._unruled(number, start)
        found = rule(Op(node, self.index, self.shapes, self.b, wanted), made)
        return (found + [None] * len(node.input))[: len(node.input)]

    def _unruled(self, number: int, start: dict[str, str]) -> ModelError:
        node = self.index.nodes[number]
        reached = set(node.output)
        for later in self.index.nodes[number + 1 :]:
            if reached & {*later.input, *outer_reads(later)}:
                reached.update(later.output)
        depends = ", ".join(name for name in start if name in reached)
        return ModelError(
            f"{node_site(node)} cannot be differentiated: there is no rule for {node.op_type}, and {depends} depends "
            "on it; export the network without it, or differentiate by what lies behind it"
        )

    def _output(self, name: str, gradient: str | None) -> str:
        """A derivative as an output of its own."""
        made = self.b.fresh(f"of_{name}")
        value = self.b.zeros(name) if gradient is None else gradient
        self.b.nodes.append(helper.make_node("Identity", [value], [made]))
        self.b.types[made] = self.b.types[value]
        self.like[made] = name
        return made

    def _declared(self, output: str, before: dict[str, ValueInfoProto]) -> ValueInfoProto:
        """Declare an output with the sizes that it always has."""
        if output in before:
            return before[output]
        name = self.like.get(output, output)
        static = self.shapes.static.get(name, ())
        sizes = [size if fixed else None for size, fixed in zip(self.shapes.shapes.get(name, ()), static, strict=True)]
        return helper.make_tensor_value_info(output, self.b.types[output], sizes)

    def finish(self, outputs: Sequence[str]) -> None:
        """Put it together, without what none of the outputs needs."""
        graph, needed = self.proto.graph, set(outputs)
        nodes = [*graph.node, *self.b.nodes]
        kept = []
        for node in reversed(nodes):
            if needed & set(node.output):
                needed.update(name for name in (*node.input, *outer_reads(node)) if name)
                kept.append(node)
        kept.reverse()
        copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in kept]
        del graph.node[:]
        graph.node.extend(copies)
        stored = {tensor.name for tensor in graph.initializer}
        graph.initializer.extend(tensor for tensor in self.b.constants.values() if tensor.name not in stored)
        left = [tensor for tensor in graph.initializer if tensor.name in needed]
        if len(left) < len(graph.initializer):
            gone = {tensor.name for tensor in graph.initializer} - needed
            copied = [onnx.TensorProto.FromString(tensor.SerializeToString()) for tensor in left]
            inputs = [ValueInfoProto.FromString(v.SerializeToString()) for v in graph.input if v.name not in gone]
            del graph.input[:]
            graph.input.extend(inputs)
            del graph.initializer[:]
            graph.initializer.extend(copied)
        before = {value.name: ValueInfoProto.FromString(value.SerializeToString()) for value in graph.output}
        declared = [self._declared(name, before) for name in dict.fromkeys(outputs)]
        del graph.output[:]
        graph.output.extend(declared)
        del graph.value_info[:]
