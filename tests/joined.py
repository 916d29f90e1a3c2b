"""Networks joined end to end: what one computes is what another one takes, through a layer that belongs to both."""

import numpy as np
from cases import CASES
from cases.case import Case
from onnx import ModelProto, ValueInfoProto, compose, helper, numpy_helper

__all__ = ["PARTS", "draw", "join"]

FLOAT = 1
PARTS = tuple(case for case in CASES if case.runs and case.groups)
"""Cases that can be a part of a joined network: onnxruntime runs them, and something of them can go."""


def _features(value: ValueInfoProto) -> tuple[int | str, list[int]] | None:
    """Batch and further sizes of a floating tensor; None where they are not known."""
    kind = value.type.tensor_type
    dims = [dim.dim_value or dim.dim_param for dim in kind.shape.dim]
    if kind.elem_type != FLOAT or len(dims) < 2 or not all(isinstance(dim, int) and dim for dim in dims[1:]):
        return None
    return ("n" if isinstance(dims[0], str) else dims[0]), [int(dim) for dim in dims[1:]]


def _inputs(model: ModelProto) -> list[ValueInfoProto]:
    stored = {tensor.name for tensor in model.graph.initializer}
    return [value for value in model.graph.input if value.name not in stored]


def join(first: ModelProto, second: ModelProto, rng: np.random.Generator) -> ModelProto | None:
    """Feed the second network with what the first one computes.

    Between them lies a fully connected layer over all features. None where the two do not fit: other operator sets,
    other batches, sizes that are not known.
    """
    if first.ir_version != second.ir_version or min(first.ir_version, second.ir_version) < 4 or first.functions:
        return None
    if {(i.domain, i.version) for i in first.opset_import} != {(i.domain, i.version) for i in second.opset_import}:
        return None
    made, taken = _features(first.graph.output[0]), _features(_inputs(second)[0])
    if made is None or taken is None or made[0] != taken[0]:
        return None
    front, back = compose.add_prefix(first, "first_"), compose.add_prefix(second, "second_")
    end, start = front.graph.output[0].name, _inputs(back)[0].name
    wide, needed = int(np.prod(made[1])), int(np.prod(taken[1]))
    weight = (rng.standard_normal((wide, needed)) / wide**0.5).astype(np.float32)
    shape = np.array([0, *taken[1]] if taken[0] == "n" else [taken[0], *taken[1]], dtype=np.int64)
    nodes = [
        helper.make_node("Flatten", [end], ["flat"], name="flat"),
        helper.make_node("MatMul", ["flat", "between"], ["features"], name="features"),
        helper.make_node("Reshape", ["features", "sizes"], [start], name="seen"),
    ]
    stored = [numpy_helper.from_array(weight, "between"), numpy_helper.from_array(shape, "sizes")]
    graph = helper.make_graph(
        [*front.graph.node, *nodes, *back.graph.node],
        "joined",
        [*front.graph.input, *(value for value in back.graph.input if value.name != start)],
        [*front.graph.output[1:], *back.graph.output],
        [*front.graph.initializer, *stored, *back.graph.initializer],
        value_info=[*front.graph.value_info, *back.graph.value_info],
    )
    return helper.make_model(graph, opset_imports=list(first.opset_import), ir_version=first.ir_version)


def draw(rng: np.random.Generator, first: Case | None = None) -> ModelProto:
    """Join cases at random, two or three of them; `first` is one of them if it is given."""
    proto = (first or PARTS[int(rng.integers(len(PARTS)))]).make()
    for number in range(int(rng.integers(1, 3))):
        for place in rng.permutation(len(PARTS))[:40]:
            other = PARTS[int(place)].make()
            joined = join(proto, other, rng) if (number + place) % 2 else join(other, proto, rng)
            if joined is not None:
                proto = joined
                break
    return proto
