"""How far each reader of a thinned group is from the original when nothing else is thinned, measured on some inputs.

Every reader is put into the original once more, its input masked and scaled as the plan has it, all before it whole:
Y and Y' come out of one run. Only ‖Y' − Y‖², ‖Y‖² and max |Y' − Y| leave the session, and with them the largest norm
of what the writer of the group reads. Where readers have been given weights of their own, they are put in twice: with
the old ones and with the new.
"""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

from onnxprune.calibrate.feeds import Feeds, random_feeds, shape_attempts
from onnxprune.coupling import Coupling
from onnxprune.coupling.paths import reads_of
from onnxprune.errors import ModelError
from onnxprune.graph.index import Index, attributes, graphs_of
from onnxprune.graph.model import Model
from onnxprune.graph.staged import open_session
from onnxprune.ops.trace import Read
from onnxprune.rewrite.plan import Plan
from onnxprune.rewrite.signs import signed_weights
from onnxprune.shapes.infer import Shapes
from onnxprune.validate.statistics import laid_out

__all__ = ["READERS", "Made", "Measured", "NewWeights", "Probed", "Renewed", "measure"]

_PREFIX = "onnxprune_probe_"
_FLOATS = frozenset({TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16})
_WRITERS = frozenset({"Conv", "Gemm", "MatMul"})
_PLANES = frozenset({"Conv", "ConvTranspose"})

READERS = 4
"""Readers of one group that are looked at: a stream has many, a dense block quadratically many in all."""


@dataclass(frozen=True)
class Renewed:
    """Errors of the readers that are written, their weights solved anew; as in `Measured`."""

    relative_l2: float
    max_abs: float


@dataclass(frozen=True)
class Measured:
    """What leaving channels of one group out does to its readers.

    Attributes
    ----------
    relative_l2 : float
        ‖Y' − Y‖ / ‖Y‖ over all inputs, of the reader where it is largest.
    max_abs : float
        max |Y' − Y| over all readers.
    readers : int
        How many were looked at.
    inputs : int
        On how many inputs.
    beta : float or None
        Largest √(‖x‖² + 1), x what the writer's sums read; None where one layer that could be looked at does not write
        the group.
    renewed : Renewed or None
        The same with the readers' new weights, where any of those that were looked at has some.
    """

    relative_l2: float
    max_abs: float
    readers: int
    inputs: int
    beta: float | None = None
    renewed: Renewed | None = None


@dataclass(frozen=True)
class NewWeights:
    """What a reader is given in place of what it has.

    Attributes
    ----------
    weight : ndarray
        In the stored tensor's shape and type.
    shift : ndarray or None
        New bias minus old one, (k,); None where there is none.
    """

    weight: NDArray[np.generic]
    shift: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class Made:
    """So many random inputs."""

    rng: np.random.Generator
    count: int


@dataclass(frozen=True)
class Probed:
    """All that was measured in one go.

    Attributes
    ----------
    groups : dict of str to Measured
        By group; those that keep all channels, or that no node with a floating result reads, are left out.
    input_norm : float or None
        Largest ‖x‖₂ of an input; None where the network has several.
    output_norm : float or None
        Smallest ‖y‖₂ of the original's output; None where it has several.
    """

    groups: dict[str, Measured]
    input_norm: float | None = None
    output_norm: float | None = None


class _Builder:
    """The original with readers put in once more, and the names of the numbers that they give."""

    def __init__(self, model: Model, shapes: Shapes, coupling: Coupling, plan: Plan) -> None:
        self.graph, self.shapes, self.coupling = model.proto.graph, shapes, coupling
        self.index = Index(model.proto)
        self.opset = self.index.opsets.get("", 1)
        self.kept = np.ones(int(coupling.unit_of.max(initial=-1)) + 1)
        self.number = 0
        self.readers: dict[str, list[str]] = {}
        self.renewed: dict[str, list[str]] = {}
        self.writers: dict[str, str] = {}
        factors = plan.unit_factors(coupling)
        if factors is not None:
            self.kept = factors.copy()
        self.kept[plan.removed_units(coupling)] = 0.0

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        name = f"{_PREFIX}{self.number}"
        self.number += 1
        self.graph.node.append(helper.make_node(operator, list(inputs), [name], name=name, **attributes))
        return name

    def constant(self, value: NDArray[np.generic]) -> str:
        name = f"{_PREFIX}{self.number}"
        self.number += 1
        self.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def put(self, name: str) -> str:
        """Make a scalar an output."""
        self.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, []))
        return name

    def float32(self, name: str) -> str:
        return (
            name if self.shapes.types.get(name) == TensorProto.FLOAT else self.add("Cast", name, to=TensorProto.FLOAT)
        )

    def masked(self, read: Read, own: NDArray[np.bool_]) -> str:
        """The input of a read, what has gone of the group being zero, what stays multiplied by its one factor."""
        name = self.index.nodes[read.node].input[read.input]
        kind, rank = self.shapes.types[name], len(self.shapes.shapes[name])
        units = self.coupling.unit_of[read.array]
        factor = laid_out(np.where(own[units], self.kept[units], 1.0), read.axes, rank)
        typed = self.add("Cast", self.constant(factor.astype(np.float32)), to=kind)
        if self.opset >= 9 and (factor == 0.0).any():
            zero = self.add("Cast", self.constant(np.zeros((), dtype=np.float32)), to=kind)
            name = self.add("Where", self.constant(factor != 0.0), name, zero)
        return self.add("Mul", name, typed)

    def reader(
        self,
        node: NodeProto,
        reads: Sequence[Read],
        own: NDArray[np.bool_],
        weights: Mapping[str, NDArray[Any]],
        new: NewWeights | None = None,
    ) -> str:
        """Put a reader in once more, given some weights by name; returns the base of the names of its three numbers."""
        again = NodeProto()
        again.CopyFrom(node)
        again.input[:] = [self.constant(weights[name]) if name in weights else name for name in node.input]
        for read in reads:
            again.input[read.input] = self.masked(read, own)
        if new is not None:
            again.input[1] = self.constant(new.weight)
        again.name = base = f"{_PREFIX}{self.number}_reader"
        self.number += 1
        again.output[:] = [f"{base}_{place}" if name else "" for place, name in enumerate(node.output)]
        self.graph.node.append(again)
        kind = self.shapes.types[node.output[0]]
        self.shapes.types[again.output[0]] = kind
        before, after = self.float32(node.output[0]), self.float32(again.output[0])
        if new is not None and new.shift is not None:
            wide = [-1, *[1] * (len(self.shapes.shapes[node.output[0]]) - 2)] if node.op_type in _PLANES else [-1]
            after = self.add("Add", after, self.constant(new.shift.reshape(wide)))
        gap = self.add("Sub", after, before)
        for what, name in (("gap", gap), ("norm", before)):
            squares = self.add("ReduceSumSquare", name, keepdims=0)
            self.graph.node.append(helper.make_node("Identity", [squares], [self.put(f"{base}_{what}")]))
        most = self.add("ReduceMax", self.add("Abs", gap), keepdims=0)
        self.graph.node.append(helper.make_node("Identity", [most], [self.put(f"{base}_most")]))
        return base

    def writer(self, node: NodeProto) -> str:
        """The largest ‖x‖² that a sum of a layer reads; of a grouped convolution, of all groups together."""
        name = self.float32(node.input[0])
        if node.op_type == "Conv":
            shape = self.shapes.shapes[node.input[0]]
            kernel = self.shapes.shapes[node.input[1]][2:]
            ones = self.constant(np.ones((1, shape[1], *kernel), dtype=np.float32))
            kept = {key: helper.get_attribute_value(value) for key, value in attributes(node).items()}
            sums = self.add("Conv", self.add("Mul", name, name), ones, **(kept | {"group": 1}))
        else:
            axes = [self.constant(np.array([-1], dtype=np.int64))] if self.opset >= 13 else []
            own = {} if axes else {"axes": [len(self.shapes.shapes[node.input[0]]) - 1]}
            sums = self.add("ReduceSum", self.add("Mul", name, name), *axes, keepdims=0, **own)
        return self.put(self.add("ReduceMax", sums, keepdims=0))


def measure(
    model: Model,
    shapes: Shapes,
    coupling: Coupling,
    plan: Plan,
    writers: Mapping[str, int],
    *,
    providers: Sequence[str],
    inputs: Sequence[Feeds] | Made,
    renewed: Mapping[str, NewWeights] | None = None,
) -> Probed:
    """Measure what a plan does to the readers of every group by itself.

    Parameters
    ----------
    model : Model
        A copy of the original; used up.
    shapes, coupling, plan
        What was found out about it, and what is to be done.
    writers : mapping of str to int
        The layer that writes each group, where there is one that it makes sense to look at.
    providers : sequence of str
        onnxruntime providers.
    inputs : sequence of dict of str to ndarray, or Made
        What it is run on: given inputs, or random ones.
    renewed : mapping of str to NewWeights, optional
        Of readers that have been solved anew, by their first output.

    Returns
    -------
    Probed

    Raises
    ------
    ModelError
        If onnxruntime cannot run it.
    """
    shapes = replace(shapes, types=dict(shapes.types))
    builder = _Builder(model, shapes, coupling, plan)
    planned = {item.name: item for item in plan.groups if len(item.kept) < item.channels or item.factors}
    by_group = _reads(builder, coupling, list(planned))
    nodes = builder.index.nodes
    for name, by_node in by_group.items():
        own = np.zeros(len(builder.kept), dtype=bool)
        own[coupling.group_of[name].units] = True
        chosen = sorted(by_node)[:READERS]
        signed = signed_weights(model, builder.index, coupling, planned[name])
        builder.readers[name] = [builder.reader(nodes[number], by_node[number], own, signed) for number in chosen]
        given = [(renewed or {}).get(nodes[number].output[0]) for number in chosen]
        if any(new is not None for new in given):
            builder.renewed[name] = [
                builder.reader(nodes[number], by_node[number], own, {}, new)
                for number, new in zip(chosen, given, strict=True)
            ]
        writer = nodes[writers[name]] if name in writers else None
        if writer is not None and writer.op_type in _WRITERS and shapes.types.get(writer.input[0]) in _FLOATS:
            builder.writers[name] = builder.writer(writer)
    all_readers = [*builder.readers.values(), *builder.renewed.values()]
    wanted = [f"{base}_{what}" for bases in all_readers for base in bases for what in _NUMBERS]
    wanted += builder.writers.values()
    ends = [names[0] for names in (builder.index.inputs, builder.index.outputs) if len(names) == 1]
    if len(ends) == 2 and all(shapes.types.get(name) in _FLOATS for name in ends):
        squares = [builder.add("ReduceSumSquare", builder.float32(name), keepdims=0) for name in ends]
        wanted += [builder.put(name) for name in squares]
    else:
        squares = []
    results = _run(model, shapes, wanted, providers, inputs)
    norms = [[math.sqrt(float(result[name])) for result in results] for name in squares]
    return Probed(_summed(builder, results), max(norms[0]) if norms else None, min(norms[1]) if norms else None)


_NUMBERS = ("gap", "norm", "most")


def _reads(builder: _Builder, coupling: Coupling, thinned: Sequence[str]) -> dict[str, dict[int, list[Read]]]:
    """Reads of every thinned group by node, those of nodes that can be put in once more."""
    found: dict[str, dict[int, list[Read]]] = {}
    reads = reads_of(coupling)
    for name in thinned:
        for read in reads[name]:
            node, types = builder.index.nodes[read.node], builder.shapes.types
            floating = {types.get(node.output[0]), types.get(node.input[read.input])} <= _FLOATS
            if floating and not any(graphs_of(node)):
                found.setdefault(name, defaultdict(list))[read.node].append(read)
    return found


def _run(
    model: Model,
    shapes: Shapes,
    wanted: list[str],
    providers: Sequence[str],
    inputs: Sequence[Feeds] | Made,
) -> list[Feeds]:
    """Run on given inputs, or on random ones of the first sizes that the network takes."""
    index = Index(model.proto)
    session = open_session(model, providers, model.detach())
    if not isinstance(inputs, Made):
        return list(session.run_each([(feed, wanted) for feed in inputs]))
    failure: ModelError | None = None
    for sizes in shape_attempts(index, shapes):
        feeds = [random_feeds(index, shapes, inputs.rng, sizes) for _ in range(inputs.count)]
        try:
            return list(session.run_each([(feed, wanted) for feed in feeds]))
        except ModelError as error:
            failure = failure or error
    assert failure is not None, "there is at least one set of sizes"
    raise failure


def _summed(builder: _Builder, results: list[Feeds]) -> dict[str, Measured]:
    found = {}
    for name, bases in builder.readers.items():
        share, most = _errors(bases, results)
        beta = renewed = None
        if name in builder.writers:
            beta = math.sqrt(max(float(result[builder.writers[name]]) for result in results) + 1.0)
        if name in builder.renewed:
            renewed = Renewed(*_errors(builder.renewed[name], results))
        found[name] = Measured(share, most, len(bases), len(results), beta, renewed)
    return found


def _errors(bases: Sequence[str], results: list[Feeds]) -> tuple[float, float]:
    """Return the largest ‖Y' − Y‖ / ‖Y‖ of some readers over all inputs, and the largest |Y' − Y|."""
    gaps, norms = (
        [sum(float(result[f"{base}_{what}"]) for result in results) for base in bases] for what in ("gap", "norm")
    )
    shares = [math.sqrt(gap / norm) if norm > 0 else math.inf for gap, norm in zip(gaps, norms, strict=True)]
    return max(shares), max(float(result[f"{base}_most"]) for result in results for base in bases)
