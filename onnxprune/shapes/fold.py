"""Shape arithmetic, folded node by node: small integers whose value follows from the file and the input shapes.

Where ONNX's inference stops (a Reshape by a computed shape), the computed value is folded and inference goes on. Each
folded number remembers which tensor sizes it came from.
"""

import logging
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import GraphProto, NodeProto, TensorProto, numpy_helper

from onnxprune.graph.index import Index, attributes, graphs_of
from onnxprune.graph.tensors import is_external
from onnxprune.shapes.contributed import OPSET, missing_shapes, stand_in
from onnxprune.shapes.evaluate import Evaluator
from onnxprune.shapes.found import COUNTS, found_shapes
from onnxprune.shapes.heads import infer_heads
from onnxprune.shapes.inferred import Inferred, inferred
from onnxprune.shapes.sequences import Sequences
from onnxprune.shapes.standins import infer_standin

__all__ = ["Folder", "Known", "Size", "Stored"]

_log = logging.getLogger(__name__)

Size = tuple[str, int]
"""A tensor's name and one of its axes."""

_SMALL = 4096
_MOVING = "Gather Concat Unsqueeze Squeeze Slice Cast Identity Reshape Transpose Expand Flatten Tile Split"
_MOVES = frozenset(_MOVING.split())
_MAKERS = frozenset(["ConstantOfShape", "Expand", "NonZero", "OneHot", "Pad", "Range", "Tile"])
# Operators whose first output has the shape of their first input, where onnx has no shape inference for them.
_SHAPED = """GroupNormalization LayerNormalization SimplifiedLayerNormalization SkipLayerNormalization
    SkipSimplifiedLayerNormalization Gelu FastGelu QuickGelu BiasGelu"""
_ALIKE = frozenset(_SHAPED.split())
# The same of the domain ai.onnx.ml, where numbers of any type become 32-bit floats.
_LEARNED = frozenset(["Normalizer", "Scaler"])
_DRAWING = "RandomNormal RandomUniform RandomNormalLike RandomUniformLike Multinomial Bernoulli"
_RANDOM = frozenset(_DRAWING.split())
# Operators whose value follows from the shape of what they read.
_ASKING = frozenset(["Shape", "Size"])
_FLOATS = frozenset({TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE})
_INTEGERS = frozenset({TensorProto.INT32, TensorProto.INT64, TensorProto.BOOL})


@dataclass(frozen=True)
class Known:
    """A small tensor whose value follows from the file and the input shapes.

    Attributes
    ----------
    value : ndarray
        Its value at the assumed input shapes.
    sources : ndarray of frozenset, same shape
        The tensor sizes that each element was computed from; empty for plain constants.
    """

    value: NDArray[Any]
    sources: NDArray[np.object_]

    @property
    def constant(self) -> bool:
        """Tell whether no element depends on a tensor's size."""
        return not any(self.sources.flat)

    def all_sources(self) -> frozenset[Size]:
        """Return the sizes that any element was computed from."""
        return frozenset().union(*self.sources.flat)


def _plain(value: NDArray[Any], source: frozenset[Size] = frozenset()) -> Known:
    sources = np.empty(np.shape(value), dtype=object)
    sources.fill(source)
    return Known(np.asarray(value), sources)


@dataclass(frozen=True)
class Stored:
    """Shapes and types of stored tensors, and the values of those that may spell sizes."""

    shapes: dict[str, tuple[int, ...]]
    types: dict[str, int]
    known: dict[str, Known]

    @staticmethod
    def of(index: Index) -> "Stored":
        """Look at the stored tensors of a graph."""
        stored = Stored({}, {}, {})
        for name, tensor in index.weights.items():
            stored.shapes[name] = shape = tuple(tensor.dims)
            stored.types[name] = kind = tensor.data_type
            limit = 1 << 20 if kind in _INTEGERS else 16
            if math.prod(shape) <= limit and not is_external(tensor):
                stored.known[name] = _plain(numpy_helper.to_array(tensor))
        return stored


class Folder:
    """One forward pass: completes shapes and folds shape arithmetic."""

    def __init__(
        self,
        index: Index,
        found: Mapping[str, Inferred],
        claimed: Mapping[str, Inferred],
        *,
        count: int = COUNTS[0],
        stored: Stored | None = None,
    ) -> None:
        self.index = index
        self.evaluator = Evaluator(index)
        self.claimed = claimed
        self.count = count
        self.counted = False
        self.sequences = Sequences()
        stored = stored or Stored.of(index)
        self.shapes = dict(stored.shapes)
        self.types = dict(stored.types)
        self.known = dict(stored.known)
        for name, kind in found.items():
            self._learn(name, kind)

    def _learn(self, name: str, kind: Inferred) -> None:
        if kind.shape is not None:
            self.shapes.setdefault(name, kind.shape)
        if kind.kind:
            self.types.setdefault(name, kind.kind)

    def run(self) -> None:
        index, shapes, known = self.index, self.shapes, self.known
        for number, node in enumerate(index.nodes):
            for name in index.makes[number]:
                if name not in shapes and name:
                    self._complete(node)
                    break
            # Most nodes read something that is no shape arithmetic.
            for name in index.reads[number]:
                if name not in known and name and index.operators[number] not in _ASKING:
                    break
            else:
                self._fold(node)

    def _pass(self, nodes: Iterable[NodeProto]) -> None:
        for node in nodes:
            if any(name and name not in self.shapes for name in node.output):
                self._complete(node)
            self._fold(node)

    def _complete(self, node: NodeProto) -> None:
        """Find shapes that inference over the whole graph did not."""
        self._take_branch(node)
        self._run_loop(node)
        self._count_range(node)
        self._infer_node(node)

    def _count_range(self, node: NodeProto) -> None:
        """ONNX's inference gives up on a Range whose bounds are computed."""
        if node.op_type == "Range" and all(name in self.known for name in node.input):
            start, limit, step = (self.known[name].value.item() for name in node.input)
            if step:
                self.shapes[node.output[0]] = (max(0, math.ceil((limit - start) / step)),)
                self.types[node.output[0]] = self.types[node.input[0]]

    def _take_branch(self, node: NodeProto) -> None:
        """Look into the branch that an If takes at the assumed shapes (exporters write one for `squeeze`), or both."""
        if node.op_type != "If":
            return
        condition = self.known.get(node.input[0])
        taken = ["then_branch"] if condition is None or condition.value.all() else []
        taken += ["else_branch"] if condition is None or not condition.value.all() else []
        results = [self._look_into(attributes(node)[key].g, {}) for key in taken]
        for name, *found in zip(node.output, *results, strict=False):
            if name and found[0] is not None and found.count(found[0]) == len(found) and name not in self.shapes:
                self.shapes[name], self.types[name] = found[0]

    def _run_loop(self, node: NodeProto) -> None:
        """Let a Loop hand on the shapes of what it carries, where its body leaves them as they are."""
        if node.op_type != "Loop":
            return
        body = attributes(node)["body"].g
        kinds = [self._kind(name) for name in node.input[2:]]
        inner = [value.name for value in body.input[2:]]
        given = {name: kind for name, kind in zip(inner, kinds, strict=False) if kind is not None}
        for value in body.input[:2]:
            given[value.name] = (), value.type.tensor_type.elem_type
        left = self._look_into(body, given)[1 : 1 + len(kinds)]
        if any(before is None or before != after for before, after in zip(kinds, left, strict=False)):
            return
        for name, kind in zip(node.output, kinds, strict=False):
            if name and name not in self.shapes and kind is not None:
                self.shapes[name], self.types[name] = kind

    def _kind(self, name: str) -> tuple[tuple[int, ...], int] | None:
        return (self.shapes[name], self.types[name]) if name in self.shapes and name in self.types else None

    def _look_into(
        self, graph: GraphProto, given: Mapping[str, tuple[tuple[int, ...], int]]
    ) -> list[tuple[tuple[int, ...], int] | None]:
        """Shapes and types of a subgraph's outputs, given those of its inputs; None where they are not known."""
        own = {value.name for value in graph.input} | {tensor.name for tensor in graph.initializer}
        own |= {name for inner in graph.node for name in inner.output}
        tables: tuple[dict[str, Any], ...] = (self.shapes, self.types, self.known)
        # Another subgraph may use the same names.
        hidden = [{name: table.pop(name) for name in own & table.keys()} for table in tables]
        for name, (shape, kind) in given.items():
            self.shapes[name], self.types[name] = shape, kind
        for tensor in graph.initializer:
            self.shapes[tensor.name], self.types[tensor.name] = tuple(tensor.dims), tensor.data_type
            if tensor.data_type in _INTEGERS and tensor.data_location != TensorProto.EXTERNAL:
                self.known[tensor.name] = _plain(numpy_helper.to_array(tensor))
        self._pass(graph.node)
        found = [self._kind(value.name) for value in graph.output]
        for table, before in zip(tables, hidden, strict=True):
            for name in own:
                table.pop(name, None)
            table |= before
        return found

    def _infer_node(self, node: NodeProto) -> None:
        like = stand_in(node)
        schema = self.index.schema(node) if like is node else onnx.defs.get_schema(like.op_type, OPSET)
        names = [name for name in like.input if name]
        outer = any(True for _ in graphs_of(node))
        if schema is not None and not outer and all(name in self.shapes and name in self.types for name in names):
            kinds = {n: onnx.helper.make_tensor_type_proto(self.types[n], self.shapes[n]) for n in names}
            data = {
                n: numpy_helper.from_array(np.ascontiguousarray(self.known[n].value), n)
                for n in names
                if n in self.known and self.known[n].value.dtype.kind in "iufb"
            }
            try:
                found = onnx.shape_inference.infer_node_outputs(
                    schema, like, kinds, data, opset_imports=list(self.index.proto.opset_import)
                )
            except (
                onnx.shape_inference.InferenceError,
                onnx.checker.ValidationError,
                RuntimeError,
                ValueError,
            ) as error:
                _log.debug("shape inference stops at %s: %s", node.name, error)
                found = {}
            for name, kind in found.items():
                self._learn(name, inferred(kind))
        elif (standin := infer_standin(node, self.shapes, self.types)) is not None:
            self.shapes[node.output[0]], self.types[node.output[0]] = standin
        self._learn_missing(node)
        for name, shape in zip(node.output, infer_heads(node, self.shapes), strict=False):
            if name and name not in self.shapes:
                self.shapes[name], self.types[name] = shape, self.types.get(node.input[0], TensorProto.FLOAT)
        for name in node.output:
            if name and name not in self.shapes and name in self.claimed:
                self._learn(name, self.claimed[name])
        if node.op_type == "BatchNormalization" and node.input[1] in self.shapes:
            # Running and saved statistics, which inference leaves out before opset 14.
            for name in node.output[1:]:
                self.shapes.setdefault(name, self.shapes[node.input[1]])
                self.types.setdefault(name, self.types[node.input[1]])
        learned = node.domain == "ai.onnx.ml" and node.op_type in _LEARNED
        if learned or node.op_type in _ALIKE:
            self._learn_alike(node, TensorProto.FLOAT if learned else None)

    def _learn_alike(self, node: NodeProto, kind: int | None) -> None:
        """Give the first output the shape of the first input, and its type where no other is said."""
        source, target = node.input[0], node.output[0]
        if source in self.shapes and target not in self.shapes:
            self.shapes[target] = self.shapes[source]
            self.types.setdefault(target, self.types[source] if kind is None else kind)

    def _learn_missing(self, node: NodeProto) -> None:
        """What onnx does not infer: what depends on data, sequences, operators that it does not know."""
        values = {name: self.known[name].value for name in node.input if name in self.known}
        made = self.sequences.follow(node, self.shapes, values)
        if all(name in self.shapes for name in node.input if name):
            shapes = [self.shapes.get(name, ()) for name in node.input]
            known = [values.get(name) for name in node.input]
            made |= dict(zip(node.output, missing_shapes(node, shapes, known), strict=False))
        kinds = [self.types[name] for name in node.input if self.types.get(name) in _FLOATS]
        for name, shape in made.items():
            self.shapes.setdefault(name, shape)
            if kinds:
                self.types.setdefault(name, kinds[0])
        source = self.shapes.get(node.input[0]) if node.input else None
        for name, shape in zip(node.output, found_shapes(node, source, self.count), strict=False):
            if name and name not in self.shapes:
                self.shapes[name] = shape
                self.counted = True

    def _fold(self, node: NodeProto) -> None:
        if node.domain not in ("", "ai.onnx") or node.op_type in _RANDOM or any(True for _ in graphs_of(node)):
            return
        if node.op_type == "Constant":
            if node.output[0] not in self.index.weights:
                self._keep(node, self.evaluator.values(node, []))
        elif node.op_type == "Shape":
            self._fold_shape(node)
        elif node.op_type == "Size":
            name = node.input[0]
            if name in self.shapes:
                sources = frozenset((name, axis) for axis in range(len(self.shapes[name])))
                self.known[node.output[0]] = _plain(np.array(np.prod(self.shapes[name]), dtype=np.int64), sources)
        elif all(not name or name in self.known for name in node.input) and any(node.input):
            sizes = [math.prod(self.shapes.get(name, (_SMALL + 1,))) for name in node.output if name]
            if max(sizes, default=0) <= _SMALL:
                self._fold_values(node)

    def _fold_shape(self, node: NodeProto) -> None:
        name = node.input[0]
        if name not in self.shapes:
            return
        found = attributes(node)
        start = found["start"].i if "start" in found else 0
        stop = found["end"].i if "end" in found else None
        shape = self.shapes[name]
        sources = np.empty(len(shape), dtype=object)
        sources[:] = [frozenset({(name, axis)}) for axis in range(len(shape))]
        self.known[node.output[0]] = Known(np.array(shape, dtype=np.int64)[start:stop], sources[start:stop])

    def _keep(self, node: NodeProto, values: list[NDArray[Any]]) -> None:
        for name, value in zip(node.output, values, strict=False):
            if name and value.size <= _SMALL:
                self.known[name] = _plain(value)
                self.shapes[name] = value.shape
                if value.dtype != object:
                    self.types.setdefault(name, onnx.helper.np_dtype_to_tensor_dtype(value.dtype))

    def _fold_values(self, node: NodeProto) -> None:
        inputs = [self.known[name] if name else None for name in node.input]
        if node.op_type in _MAKERS and not all(item is None or self._is_plain(item) for item in inputs):
            return
        values = self.evaluator.values(node, [item.value if item else None for item in inputs])
        if not values:
            return
        self._keep(node, values)
        items = [item for item in inputs if item is not None]
        if all(item.constant for item in items):
            return
        if node.op_type in _MOVES and len(node.output) == 1:
            sources = self._moved(node, inputs)
        else:
            sources = _mixed(values[0], items)
        for name, value in zip(node.output, values, strict=False):
            if name in self.known:
                own = sources if sources is not None and sources.shape == value.shape else _mixed(value, items)
                self.known[name] = Known(value, own)

    def _is_plain(self, item: Known) -> bool:
        """Tell whether a value follows from no size of a tensor other than lists of sizes themselves."""
        return all(name in self.known for name, _ in item.all_sources())

    def _moved(self, node: NodeProto, inputs: list[Known | None]) -> NDArray[np.object_] | None:
        """Follow each element through an operator that only moves elements, by moving their numbers."""
        data = len(inputs) if node.op_type == "Concat" else 1
        pool: list[frozenset[Size]] = []
        numbered: list[NDArray[Any] | None] = []
        for place, item in enumerate(inputs):
            if item is not None and place < data:
                numbered.append(np.arange(len(pool), len(pool) + item.value.size).reshape(item.value.shape))
                pool.extend(item.sources.ravel().tolist())
            else:
                numbered.append(None if item is None else item.value)
        moved = [numbered[0]] if node.op_type == "Cast" else [*self.evaluator.values(node, numbered)]
        if not moved or moved[0] is None:
            return None
        rest = frozenset().union(*(item.all_sources() for item in inputs[data:] if item is not None))
        sources = np.empty(moved[0].shape, dtype=object)
        sources.ravel()[:] = [pool[int(number)] | rest for number in moved[0].flat]
        return sources


def _mixed(value: NDArray[Any], items: list[Known]) -> NDArray[np.object_]:
    """Sources of an elementwise result where shapes broadcast, of any other result: everything."""
    try:
        columns = [np.broadcast_to(item.sources, value.shape) for item in items]
    except ValueError:
        return _plain(value, frozenset().union(*(item.all_sources() for item in items))).sources
    sources = np.empty(value.shape, dtype=object)
    sources.ravel()[:] = [frozenset().union(*parts) for parts in zip(*(column.flat for column in columns), strict=True)]
    return sources
