"""How far thinning can move the output of a plain chain of layers, by propagation through their Lipschitz constants.

With n bounding ‖h‖₂ before a layer in the thinned network, E how far it is from the original there, W the layer, W̃ the
layer as it reads what stays (columns of removed channels zero, kept ones times their factors):

    layer        E ← ‖W‖ E + ‖W − W̃‖ n,   n ← ‖W̃‖ n + ‖b‖ √positions
    activation   E ← L E,                  n ← L n + |φ(0)| √size
    pooling      E ← √r E,                 n ← √r n          r windows at most have an element in common

since W h − W̃ h̃ = W (h − h̃) + (W − W̃) h̃. A convolution's norm is at most √r times that of its kernels as a matrix
(outputs, inputs · kernel), because every element of its input is in r patches at most.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto

from onnxprune.coreset.activations import activation_named
from onnxprune.coupling.channels import activation_parameters
from onnxprune.coupling.groups import Coupling
from onnxprune.coupling.scales import multiplied
from onnxprune.graph.index import Index, attributes, node_site
from onnxprune.ops.pointwise import ACTIVATIONS
from onnxprune.shapes.infer import Shapes

__all__ = ["Propagated", "propagate"]

_KEEPS = "Cast Dropout Flatten GlobalAveragePool Identity Reshape Squeeze Transpose Unsqueeze"
_SAME = frozenset(_KEEPS.split())
_POOLS = frozenset({"AveragePool", "MaxPool"})
# What rounding can do to an eigenvalue.
_SLACK = 1.0 + 1e-6


@dataclass(frozen=True)
class Propagated:
    """A bound of ‖y' − y‖₂ for inputs with ‖x‖₂ at most `norm`.

    Attributes
    ----------
    obstacle : str
        Why there is none; "" where there is.
    norm : float
    error : float
        The bound.
    whole : float
        Bound of ‖y‖₂ of the original: an output of zeros errs by no more.
    """

    obstacle: str = ""
    norm: float = math.inf
    error: float = math.inf
    whole: float = math.inf


@dataclass
class _State:
    error: float
    thin: float
    full: float

    def through(self, slope: float, offset: float = 0.0) -> None:
        """Pass something that thinning leaves as it is."""
        self.error *= slope
        self.thin, self.full = slope * self.thin + offset, slope * self.full + offset


class _Chain:
    def __init__(
        self, index: Index, shapes: Shapes, coupling: Coupling, scales: NDArray[np.float64], read: Callable[[str], Any]
    ) -> None:
        self.index, self.shapes, self.scales, self.read = index, shapes, scales, read
        self.units = {(item.node, item.input): coupling.unit_of[item.array].ravel() for item in coupling.trace.reads}

    def pass_node(self, number: int, state: _State) -> str:
        """Propagate through a node; returns why that cannot be done."""
        node = self.index.nodes[number]
        if node.op_type in _SAME:
            return ""
        if node.op_type in _POOLS:
            state.through(math.sqrt(_overlap(node, None)))
        elif node.op_type in ACTIVATIONS:
            found = activation_named(node.op_type, activation_parameters(node, self._vector))
            if not math.isfinite(found.lipschitz):
                return f"{node_site(node)} has no Lipschitz constant"
            size = math.prod(self.shapes.shapes[node.input[0]])
            state.through(found.lipschitz, float(found.bound(np.zeros(1))[0]) * math.sqrt(size))
        elif node.op_type == "Softmax":
            state.thin = state.full = math.sqrt(math.prod(self.shapes.shapes[node.input[0]]))
        elif node.op_type == "BatchNormalization":
            self._normalise(node, state)
        elif node.op_type in ("Conv", "Gemm", "MatMul"):
            return self._layer(number, node, state)
        else:
            return f"{node_site(node)} stands in the chain"
        return ""

    def _normalise(self, node: NodeProto, state: _State) -> None:
        gamma, beta, mean, variance = (self.read(name).astype(np.float64) for name in node.input[1:5])
        found = attributes(node)
        slope = gamma / np.sqrt(variance + (found["epsilon"].f if "epsilon" in found else 1e-5))
        shape = self.shapes.shapes[node.input[0]]
        offset = float(np.linalg.norm(beta - mean * slope)) * math.sqrt(math.prod(shape) / shape[1])
        state.through(float(np.abs(slope).max()), offset)

    def _layer(self, number: int, node: NodeProto, state: _State) -> str:
        found = attributes(node)
        odd = any(found[name].f != 1.0 for name in ("alpha", "beta") if name in found)
        if odd or ("transA" in found and found["transA"].i) or ("group" in found and found["group"].i != 1):
            return f"{node_site(node)} scales, transposes or has groups"
        weight = self.read(node.input[1]).astype(np.float64)
        if node.op_type == "Conv":
            matrix, spread = weight.reshape(len(weight), -1), math.sqrt(_overlap(node, weight.shape[2:]))
        else:
            matrix, spread = weight if "transB" in found and found["transB"].i else weight.T, 1.0
        if matrix.ndim != 2:
            return f"{node_site(node)} multiplies by several matrices"
        thinned = matrix
        if (units := self.units.get((number, 0))) is not None:
            thinned = multiplied(matrix, (1,), np.repeat(self.scales[:, units], matrix.shape[1] // units.size, axis=1))
        offset = self._offset(node)
        full = spread * _norm(matrix)
        changed = bool((thinned != matrix).any())
        thin = spread * _norm(thinned) if changed else full
        gap = spread * _norm(matrix - thinned) if changed else 0.0
        state.error = full * state.error + gap * state.thin
        state.thin, state.full = thin * state.thin + offset, full * state.full + offset
        return ""

    def _offset(self, node: NodeProto) -> float:
        """‖b‖ √positions."""
        if len(node.input) < 3 or not node.input[2]:
            return 0.0
        bias = self.read(node.input[2]).astype(np.float64)
        size = math.prod(self.shapes.shapes[node.output[0]])
        return float(np.linalg.norm(bias)) * math.sqrt(size / bias.size)

    def _vector(self, name: str) -> NDArray[np.float64] | None:
        return self.read(name).astype(np.float64).ravel() if self.index.is_weight(name) else None


def propagate(
    index: Index,
    shapes: Shapes,
    coupling: Coupling,
    *,
    scales: NDArray[np.float64],
    read: Callable[[str], NDArray[Any]],
    norm: float,
) -> Propagated:
    """Bound how far the output of a chain of layers is moved.

    Parameters
    ----------
    index, shapes, coupling
        The network, at the sizes that the bound is for.
    scales : ndarray (2, units)
        What every unit's readers are multiplied by where they are positive and where negative, zero for removed ones.
    read : callable
        Value of a stored tensor by name.
    norm : float
        Bound of ‖x‖₂ of the input.

    Returns
    -------
    Propagated
    """
    if len(index.inputs) != 1 or len(index.outputs) != 1:
        return Propagated("the network has several inputs or outputs")
    chain, state, current = _Chain(index, shapes, coupling, scales, read), _State(0.0, norm, norm), index.inputs[0]
    for number, node in enumerate(index.nodes):
        if all(name in index.constants for name in node.output if name):
            continue
        if node.input[:1] != [current] or any(name not in index.constants for name in node.input[1:] if name):
            return Propagated(f"the network is no chain: {node_site(node)}")
        if node.op_type not in _SAME and not all(index.is_weight(name) for name in node.input[1:] if name):
            return Propagated(f"weights of {node_site(node)} are computed")
        if obstacle := chain.pass_node(number, state):
            return Propagated(obstacle)
        current = node.output[0]
    return Propagated("", norm, state.error, state.full)


def _overlap(node: NodeProto, kernel: tuple[int, ...] | None) -> int:
    """How many windows an element can be in."""
    found = attributes(node)
    sizes = tuple(found["kernel_shape"].ints) if kernel is None else kernel
    strides = tuple(found["strides"].ints) if "strides" in found else (1,) * len(sizes)
    dilated = "dilations" in found and any(step != 1 for step in found["dilations"].ints)
    return math.prod(size if dilated else -(-size // stride) for size, stride in zip(sizes, strides, strict=True))


def _norm(matrix: NDArray[np.float64]) -> float:
    """Spectral norm, rounded up."""
    small = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    return math.sqrt(max(float(np.linalg.eigvalsh(small @ small.T)[-1]), 0.0)) * _SLACK
