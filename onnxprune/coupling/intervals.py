"""How large the tensors of a network can be, given how large its inputs are: one bound of |x| per tensor.

    layer        |y| ≤ max_i Σ_j |w_ij| · |x| + max |b|
    BatchNorm    |y| ≤ max |γ/σ| · |x| + max |β − μγ/σ|
    activation   |y| ≤ max |φ| on [−|x|, |x|]: what Clip, Sigmoid or Tanh give is bounded whatever goes in

Every other operator is either one that moves, averages or chooses values, a sum, a product, or has no bound.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto

from onnxprune.coreset.activations import activation_named
from onnxprune.coupling.channels import activation_parameters
from onnxprune.coupling.groups import Coupling, Group
from onnxprune.graph.index import Index, attributes
from onnxprune.ops.pointwise import ACTIVATIONS
from onnxprune.ops.trace import Role

__all__ = ["Radii", "magnitudes"]

Read = Callable[[str], NDArray[Any]]

_LAYERS = frozenset({"Conv", "Gemm", "MatMul"})
_MOVES = """AveragePool Cast Dropout Expand Flatten Gather GlobalAveragePool GlobalMaxPool Identity MaxPool ReduceMax
    ReduceMean ReduceMin Reshape Slice Split Squeeze Tile Transpose Unsqueeze Abs Neg"""
_MOVING = frozenset(_MOVES.split())
_AT_MOST_ONE = frozenset({"Softmax", "Sin", "Cos", "Erf"})
# Beyond it a bound is none: activations are asked at a finite place.
_UNBOUNDED = 1e30


def magnitudes(index: Index, read: Read, input_bound: float) -> dict[str, float]:
    """Bound every tensor of a network.

    Parameters
    ----------
    index : Index
    read : callable
        Value of a stored tensor by name.
    input_bound : float
        Bound of every element of every input; infinite where there is none.

    Returns
    -------
    dict of str to float
        max |x| of every tensor that is not stored; infinite where nothing is known.
    """
    bounds = dict.fromkeys(index.inputs, float(input_bound))

    def of(name: str) -> float:
        if name in bounds:
            return bounds[name]
        if name in index.weights and index.is_weight(name):
            values = read(name)
            bounds[name] = float(np.abs(values.astype(np.float64)).max(initial=0.0))
        return bounds.get(name, math.inf)

    for node in index.nodes:
        bound = _bound(node, [of(name) if name else 0.0 for name in node.input], index, read)
        bounds.update(dict.fromkeys((name for name in node.output if name), bound))
    return bounds


class Radii:
    """Bounds of √(‖x‖² + 1), x what the sums read that write a group's channels.

    Parameters
    ----------
    coupling, index
        The network.
    read : callable
        Value of a stored tensor by name.
    input_bound : float or None
        Bound of every element of every input; None knows nothing of any group.
    """

    def __init__(self, coupling: Coupling, index: Index, read: Read, input_bound: float | None) -> None:
        self.coupling, self.index, self.read = coupling, index, read
        self.bounds = None if input_bound is None else magnitudes(index, read, input_bound)

    def of(self, group: Group) -> float | None:
        """Bound what writes a group, all of its writers side by side; None where nothing is known of one of them."""
        blocks = [self.coupling.trace.blocks[number] for number in group.blocks]
        layers = {block.layer for block in blocks if block.use is not None and block.role is Role.WRITES}
        if self.bounds is None or not layers:
            return None
        squares = [self._square(self.index.nodes[number], self.bounds) for number in layers]
        total = sum(squares) + 1.0
        return math.sqrt(total) if math.isfinite(total) else None

    def _square(self, node: NodeProto, bounds: dict[str, float]) -> float:
        plain = node.op_type in _LAYERS and len(node.input) > 1 and self.index.is_weight(node.input[1])
        bound = bounds.get(node.input[0], math.inf)
        if not plain or bound >= _UNBOUNDED:
            return math.inf
        return float(np.prod(_sums(node, self.read(node.input[1])).shape[1:])) * bound**2


def _sums(node: NodeProto, weight: NDArray[Any]) -> NDArray[Any]:
    """The weight with its outputs along the first axis."""
    if node.op_type == "Conv":
        return weight
    found = attributes(node)
    transposed = "transB" in found and bool(found["transB"].i)
    return weight if transposed else np.moveaxis(weight, -1, 0).reshape(weight.shape[-1], -1)


def _bound(node: NodeProto, inputs: list[float], index: Index, read: Read) -> float:
    """Bound what a node computes from bounds of its inputs."""
    operator = node.op_type
    if node.domain not in ("", "ai.onnx") or not inputs:
        return math.inf
    if operator in ACTIVATIONS:
        found = activation_parameters(node, lambda name: _vector(name, index, read))
        place = np.array([min(inputs[0], _UNBOUNDED)])
        value = float(activation_named(operator, found).bound(place)[0])
        return value if value < _UNBOUNDED else math.inf
    if operator in _LAYERS and node.input[1] in index.weights:
        return _layer(node, inputs, read)
    if operator == "BatchNormalization":
        return _normalised(node, inputs[0], index, read)
    if operator in _MOVING:
        return inputs[0]
    if operator in _AT_MOST_ONE:
        return 1.0
    several: dict[str, Callable[[list[float]], float]] = {
        "Add": sum,
        "Sub": sum,
        "Sum": sum,
        "Mul": lambda values: math.prod(values) if all(values) else 0.0,
        "Concat": max,
        "Max": max,
        "Min": max,
        "Mean": max,
        "Pad": lambda values: max(values[0], values[2] if len(values) > 2 else 0.0),
    }
    return float(several[operator](inputs)) if operator in several else math.inf


def _layer(node: NodeProto, inputs: list[float], read: Read) -> float:
    found = attributes(node)
    scale = abs(found["alpha"].f) if "alpha" in found else 1.0
    rows = _sums(node, read(node.input[1]))
    widest = float(np.abs(rows).reshape(len(rows), -1).sum(axis=1, dtype=np.float64).max(initial=0.0))
    offset = inputs[2] * (abs(found["beta"].f) if "beta" in found else 1.0) if len(inputs) > 2 else 0.0
    return scale * widest * inputs[0] + offset if widest else offset


def _normalised(node: NodeProto, bound: float, index: Index, read: Read) -> float:
    vectors = [_vector(name, index, read) for name in node.input[1:5]]
    gamma, beta, mean, variance = vectors
    if gamma is None or beta is None or mean is None or variance is None:
        return math.inf
    found = attributes(node)
    epsilon = found["epsilon"].f if "epsilon" in found else 1e-5
    slope = gamma / np.sqrt(np.maximum(variance, 0.0) + epsilon)
    return float(np.abs(slope).max()) * bound + float(np.abs(beta - mean * slope).max())


def _vector(name: str, index: Index, read: Read) -> NDArray[np.float64] | None:
    return read(name).astype(np.float64).ravel() if name and index.is_weight(name) else None
