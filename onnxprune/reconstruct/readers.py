"""Which nodes read channels through a stored matrix that can be solved anew, and the biases they are given for it."""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from onnxprune.coupling import Coupling
from onnxprune.graph.index import Index, node_site
from onnxprune.ops.labels import Labels
from onnxprune.reconstruct.forms import Form, form_of
from onnxprune.reconstruct.grids import Grid
from onnxprune.shapes.infer import Shapes

__all__ = ["Reader", "by_weight", "find_readers", "give_biases", "shared"]

_FLOATS = frozenset({TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16})
_BIASED = ("Conv", "ConvTranspose", "Gemm")


@dataclass(frozen=True)
class Reader:
    """A node that computes y = aᵀW + b of an activation, a stored weight and, unless `bias` is empty, a stored bias.

    Attributes
    ----------
    node : int
    site : str
        Its name for a message.
    source, weight, bias, result : str
        Tensors: a's, W, b, and y.
    form : Form
        How a, W and y are rows and matrices.
    units : ndarray of int (g, n)
        Unit of each column of each product, −1 where it has none.
    width : int
        Outputs k of each product.
    is_deep : bool
        Whether its result has its outputs along the last of three axes or more.
    grid, bias_grid : Grid or None
        What W and b can be, where they are stored as integers.
    """

    node: int
    site: str
    source: str
    weight: str
    bias: str
    result: str
    form: Form
    units: NDArray[np.int64]
    width: int
    is_deep: bool = False
    grid: Grid | None = None
    bias_grid: Grid | None = None


_Item = TypeVar("_Item")


def by_weight(readers: Iterable[Reader]) -> dict[str, list[Reader]]:
    """Sort readers by their weights."""
    found: dict[str, list[Reader]] = defaultdict(list)
    for reader in readers:
        found[reader.weight].append(reader)
    return found


def shared(readers: Sequence[Reader], make: Callable[[Reader], _Item]) -> dict[str, _Item]:
    """Make something of each reader, once for those of one weight; by their results."""
    made = {weight: make(alike[0]) for weight, alike in by_weight(readers).items()}
    return {reader.result: made[reader.weight] for reader in readers}


def _linear(index: Index, shapes: Shapes) -> Iterator[tuple[int, NodeProto, Form]]:
    """Yield the nodes that multiply by a stored float matrix which nothing else uses but others like them."""
    for number, node in enumerate(index.nodes):
        if len(node.input) < 2 or node.input[0] in index.constants:
            continue
        weight = index.weights.get(node.input[1])
        names = (node.input[0], node.output[0])
        if weight is None or weight.data_type not in _FLOATS or any(name not in shapes.shapes for name in names):
            continue
        form = form_of(node, tuple(weight.dims), shapes.shapes[node.input[0]])
        if form is not None and _is_of(node, index):
            yield number, node, form


def _is_of(node: NodeProto, index: Index) -> bool:
    """Tell whether all that reads a node's weight is spelled as the node is."""
    name = node.input[1]
    alike = [index.nodes[edge.node] for edge in index.consumers[name] if edge.input == 1]
    attributes = sorted(item.SerializeToString() for item in node.attribute)
    same = all(
        (each.op_type, each.domain) == (node.op_type, node.domain)
        and sorted(item.SerializeToString() for item in each.attribute) == attributes
        and each.input[0] not in index.constants
        for each in alike
    )
    return (
        same and len(alike) == len(index.consumers[name]) and name not in index.captured and name not in index.outputs
    )


def _is_vector(name: str, width: int, index: Index) -> bool:
    tensor = index.weights.get(name)
    return tensor is not None and tensor.data_type in _FLOATS and tensor.dims[-1:] == [width] == [_count(tensor)]


def _count(tensor: TensorProto) -> int:
    return int(np.prod(tensor.dims))


def _width(node: NodeProto, shapes: Shapes) -> int:
    return shapes.shapes[node.output[0]][1 if node.op_type.startswith("Conv") else -1]


def _addition(node: NodeProto, shapes: Shapes, index: Index) -> tuple[str, str]:
    """Vector that a product's only reader adds to it, and the sum; both empty where there is no such reader."""
    name = node.output[0]
    if index.is_private(name):
        (edge,) = index.consumers[name]
        reader = index.nodes[edge.node]
        if reader.op_type == "Add" and not reader.domain:
            other = reader.input[1 - edge.input]
            known = _is_vector(other, _width(node, shapes), index)
            if known and len(index.weights[other].dims) <= len(shapes.shapes[name]):
                return other, reader.output[0]
    return "", ""


def _bias(node: NodeProto, shapes: Shapes, index: Index) -> tuple[str, str] | None:
    """Bias and result of a product; None where what is added is no stored vector."""
    if node.op_type not in _BIASED:
        bias, result = _addition(node, shapes, index)
        return bias, result or node.output[0]
    given = node.input[2] if len(node.input) > 2 else ""
    if given and not _is_vector(given, _width(node, shapes), index):
        return None
    return given, node.output[0]


def give_biases(model: ModelProto, index: Index, shapes: Shapes, wanted: Collection[str] | None = None) -> None:
    """Give products without a bias one of zeros, and those that share one with others their own; in place.

    Parameters
    ----------
    model : ModelProto
    index, shapes
        Of this very model; of no use any more once this is done.
    wanted : collection of str, optional
        First outputs of the nodes to look at; all by default. Node numbers change where an Add is put behind a MatMul.
    """
    additions: list[tuple[int, NodeProto]] = []
    for number, node, _ in _linear(index, shapes):
        found = _bias(node, shapes, index) if wanted is None or node.output[0] in wanted else None
        if found is None or (found[0] and index.is_private(found[0])):
            continue
        name = f"{node.output[0]}_own_bias"
        weight = index.weights[node.input[1]]
        stored = np.zeros(_width(node, shapes)) if not found[0] else numpy_helper.to_array(index.weights[found[0]])
        fresh = numpy_helper.from_array(stored.reshape(-1).astype(_dtype(weight)), name)
        if node.op_type in _BIASED:
            del node.input[2:]
            node.input.append(name)
        elif found[0]:
            adder = index.nodes[index.consumers[node.output[0]][0].node]
            adder.input[list(adder.input).index(found[0])] = name
        elif node.output[0] in index.outputs or node.output[0] in index.captured:
            continue
        else:
            result = f"{node.output[0]}_with_bias"
            for edge in index.consumers[node.output[0]]:
                index.nodes[edge.node].input[edge.input] = result
            additions.append((number, helper.make_node("Add", [node.output[0], name], [result], name=result)))
        model.graph.initializer.append(fresh)
        if model.ir_version < 4:
            model.graph.input.append(helper.make_tensor_value_info(name, fresh.data_type, list(fresh.dims)))
    for number, added in reversed(additions):
        model.graph.node.insert(number + 1, added)


def _dtype(tensor: TensorProto) -> "np.dtype[np.generic]":
    return np.dtype(helper.tensor_dtype_to_np_dtype(tensor.data_type))


def find_readers(
    index: Index, shapes: Shapes, coupling: Coupling, grids: Mapping[str, Grid] | None = None
) -> list[Reader]:
    """Find the nodes that can be solved anew.

    Parameters
    ----------
    index, shapes, coupling
        The network.
    grids : mapping of str to Grid, optional
        Weights and biases that are stored as integers.

    Returns
    -------
    list of Reader
        In the order of their nodes. Left out are weights that are computed or that other nodes share, and products
        of activations of which positions other than those that are summed over can go.
    """
    free = np.zeros(int(coupling.unit_of.max(initial=-1)) + 1, dtype=bool)
    for group in coupling.groups:
        free[group.units] = True
    readers = []
    for number, node, form in _linear(index, shapes):
        found, labels = _bias(node, shapes, index), coupling.trace.labels.get(node.input[0])
        if found is None or labels is None:
            continue
        axis = 1 if node.op_type.startswith("Conv") else len(labels.shape) - 1
        units = _units(labels, axis, coupling, free)
        if units is not None:
            columns = np.repeat(units.reshape(form.groups, -1), form.offsets, axis=1)
            names = node_site(node), node.input[0], node.input[1], *found
            deep = not node.op_type.startswith("Conv") and len(labels.shape) > 2
            width = _width(node, shapes) // form.groups
            own = (grids or {}).get(node.input[1]), (grids or {}).get(found[0])
            readers.append(Reader(number, *names, form, columns, width, deep, *own))
    return _whole(readers, index)


def _whole(readers: list[Reader], index: Index) -> list[Reader]:
    """Leave out those whose weight is also read by a node that is none, or reads other channels through it."""

    def is_whole(alike: list[Reader]) -> bool:
        first = alike[0]
        same = all(
            each.form == first.form and np.array_equal(each.units, first.units) and bool(each.bias) == bool(first.bias)
            for each in alike
        )
        return same and len(alike) == len(index.consumers[first.weight])

    whole = {weight for weight, alike in by_weight(readers).items() if is_whole(alike)}
    return [reader for reader in readers if reader.weight in whole]


def _units(labels: Labels, axis: int, coupling: Coupling, free: NDArray[np.bool_]) -> NDArray[np.int64] | None:
    """Units of the positions of an axis, None where others of the tensor can go."""
    found = np.full(labels.shape[axis], -1, dtype=np.int64)
    for bundle in labels.bundles:
        if bundle.axes == (axis,):
            found = coupling.unit_of[bundle.array]
        elif free[coupling.unit_of[bundle.array]].any():
            return None
    return found
