"""Weights drawn anew, so that a network can be trained from scratch: which they are, and how each is drawn.

    behind which comes a rectifier          normal, 0 ± √(2 / fan-in)      (He et al. 2015)
    other products                          normal, 0 ± √(1 / fan-in)      (LeCun et al. 1998)
    recurrent layers                        uniform, ± 1/√hidden           (as PyTorch has it)
    tables that are looked up in            normal, 0 ± 0.02               (as BERT has it)
    normalisations                          scale 1, shift 0, mean 0, variance 1
    biases, and what is added to a product  0                slopes of PRelu    0.25

The fan-in is what an element of the result is summed over. What is none of these stays: tables of positions, masks,
factors, what inputs are normalised by.
"""

import math
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto

from onnxprune.errors import RefusedError
from onnxprune.graph.index import Index, attributes, node_site
from onnxprune.graph.model import Model
from onnxprune.graph.tensors import dtype_of
from onnxprune.shapes.infer import Shapes

__all__ = ["Fresh", "redraw", "trained"]

_FLOATS = frozenset({TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16})
_PRODUCTS = {
    **dict.fromkeys(("Conv", "ConvTranspose", "FusedConv", "DeformConv", "Gemm", "FusedGemm"), (1,)),
    **dict.fromkeys(("MatMul", "FusedMatMul", "TransposeMatMul"), (0, 1)),
}
_BIASES = {
    **dict.fromkeys(("Conv", "ConvTranspose", "FusedConv", "Gemm", "FusedGemm"), (2,)),
    **dict.fromkeys(("LSTM", "GRU", "RNN"), (3,)),
    "DeformConv": (3,),
    **dict.fromkeys(("BatchNormalization",), (2, 3)),
    **dict.fromkeys(("LayerNormalization", "InstanceNormalization", "GroupNormalization"), (2,)),
    "SkipLayerNormalization": (3, 4),
    **dict.fromkeys(("BiasGelu", "FastGelu", "BiasAdd"), (1,)),
}
_SCALES = {
    "BatchNormalization": (1, 4),
    **dict.fromkeys(("LayerNormalization", "InstanceNormalization", "GroupNormalization", "RMSNormalization"), (1,)),
    "SimplifiedLayerNormalization": (1,),
    "SkipLayerNormalization": (2,),
    "SkipSimplifiedLayerNormalization": (2,),
}
_COLLECTED = {"BatchNormalization": (3, 4)}
_RECURRENT = {"LSTM": (1, 2), "GRU": (1, 2), "RNN": (1, 2)}
_BENT = "Relu LeakyRelu PRelu Elu Selu Celu Clip HardSwish HardSigmoid Gelu FastGelu QuickGelu BiasGelu Mish Swish"
_BETWEEN = (
    """BatchNormalization InstanceNormalization Identity Add Dropout MaxPool AveragePool Reshape Transpose Cast"""
)
_RECTIFIERS, _HANDED_ON = frozenset(_BENT.split()), frozenset(_BETWEEN.split())
_MOVED = frozenset(["Cast", "Identity", "Transpose", "Reshape", "Squeeze", "Unsqueeze", "Flatten"])
_INTEGERS = ("QLinear", "MatMulInteger", "ConvInteger", "DequantizeLinear", "MatMulNBits", "QGemm", "QAttention")
_TABLE, _SLOPE = 0.02, 0.25
_WIDTH = 16
"""Nodes behind a product among which its activation is looked for."""

_Draw = Callable[[np.random.Generator, tuple[int, ...]], NDArray[np.float64]]


@dataclass(frozen=True)
class Fresh:
    """What was drawn anew.

    Attributes
    ----------
    drawn : dict of str to str
        How each weight was drawn.
    stays : tuple of str
        Floating-point weights of more than one element that are as they were.
    """

    drawn: Mapping[str, str]
    stays: tuple[str, ...]


def redraw(model: Model, index: Index, shapes: Shapes, seed: int) -> Fresh:
    """Draw the weights of a network anew, in place.

    Parameters
    ----------
    model : Model
    index, shapes
        Of it.
    seed : int
        Every weight is drawn by this and its name.

    Returns
    -------
    Fresh

    Raises
    ------
    RefusedError
        If weights are integers.

    References
    ----------
    K. He, X. Zhang, S. Ren, J. Sun, "Delving deep into rectifiers", ICCV 2015, arXiv 1502.01852, equation 10; Y. LeCun,
    L. Bottou, G. Orr, K.-R. Müller, "Efficient BackProp", 1998, section 4.6.
    """
    found = _Finder(index, shapes)
    found.require_floats()
    found.look()
    for name, (_, draw) in found.rules.items():
        tensor = index.weights[name]
        shape, dtype = tuple(tensor.dims), dtype_of(tensor)
        model.replace(tensor, shape, partial(_drawn, draw, [seed, zlib.crc32(name.encode())], shape, dtype))
    stays = [
        name
        for name, tensor in index.weights.items()
        if name not in found.rules and tensor.data_type in _FLOATS and math.prod(tensor.dims) > 1
    ]
    return Fresh({name: how for name, (how, _) in found.rules.items()}, tuple(stays))


def trained(index: Index, shapes: Shapes) -> list[str]:
    """Name the weights that training moves: those that `redraw` draws, without statistics that were collected.

    Parameters
    ----------
    index, shapes
        The network.

    Returns
    -------
    list of str
        Initializers of floats.
    """
    found = _Finder(index, shapes)
    found.look()
    collected = {node.input[place] for node in index.nodes for place in _COLLECTED.get(node.op_type, ())}
    return [name for name in found.rules if name not in collected]


def _drawn(draw: _Draw, seed: list[int], shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    return draw(np.random.default_rng(seed), shape).astype(dtype)


def _constant(value: float) -> _Draw:
    return lambda _, shape: np.full(shape, value)


def _normal(deviation: float) -> _Draw:
    return lambda rng, shape: rng.standard_normal(shape) * deviation


def _uniform(bound: float) -> _Draw:
    return lambda rng, shape: rng.uniform(-bound, bound, shape)


class _Finder:
    """Says of each weight how it is drawn, by who reads it first."""

    def __init__(self, index: Index, shapes: Shapes) -> None:
        self.index, self.shapes = index, shapes
        self.rules: dict[str, tuple[str, _Draw]] = {}

    def require_floats(self) -> None:
        """Make sure that no weights are integers."""
        for node in self.index.nodes:
            if node.op_type.startswith(_INTEGERS) and any(self._stored(name, floats=False) for name in node.input):
                raise RefusedError(
                    f"--reinit: {node_site(node)} has weights of integers, which nobody trains from scratch; give the "
                    "network before it was quantised"
                )

    def look(self) -> None:
        """Look at the weights of all nodes."""
        for node in self.index.nodes:
            self._look(node)

    def _look(self, node: NodeProto) -> None:
        for place in _PRODUCTS.get(node.op_type, ()):
            self._product(node, place)
        for place in _BIASES.get(node.op_type, ()):
            self._set(node, place, "0", _constant(0.0))
        for place in _SCALES.get(node.op_type, ()):
            self._set(node, place, "1", _constant(1.0))
        for place in _RECURRENT.get(node.op_type, ()):
            bound = 1 / math.sqrt(attributes(node)["hidden_size"].i)
            self._set(node, place, f"uniform ±{bound:.3g}", _uniform(bound))
        if node.op_type == "PRelu":
            self._set(node, 1, f"{_SLOPE}", _constant(_SLOPE))
        if node.op_type == "Gather" and len(self.shapes.shapes.get(node.input[0], ())) == 2:
            self._set(node, 0, f"normal ±{_TABLE}", _normal(_TABLE))
        if node.op_type in ("Add", "Sub"):
            self._added(node)

    def _product(self, node: NodeProto, place: int) -> None:
        name = node.input[place]
        sizes = self.shapes.shapes.get(name, ())
        if len(sizes) < 2:
            return
        given = attributes(node)
        if "Conv" in node.op_type:
            fan = math.prod(sizes[1:])
            if node.op_type == "ConvTranspose":
                groups = given["group"].i if "group" in given else 1
                steps = math.prod(given["strides"].ints) if "strides" in given else 1
                fan = max(sizes[0] // groups * math.prod(sizes[2:]) // steps, 1)
        elif "Gemm" in node.op_type:
            fan = sizes[1] if "transB" in given and given["transB"].i else sizes[0]
        else:
            fan = sizes[-2] if place else sizes[-1]
        bent = self._is_bent(node)
        deviation = math.sqrt((2 if bent else 1) / max(fan, 1))
        self._set(node, place, f"normal ±{deviation:.3g}", _normal(deviation))

    def _is_bent(self, node: NodeProto) -> bool:
        """Tell whether a rectifier is the first thing that bends what a product makes."""
        pending, seen = list(node.output), 0
        while pending and seen < _WIDTH:
            for edge in self.index.consumers.get(pending.pop(0), ()):
                seen += 1
                reader = self.index.nodes[edge.node]
                if reader.op_type in _RECTIFIERS:
                    return True
                if reader.op_type in _HANDED_ON:
                    pending += reader.output
        return False

    def _added(self, node: NodeProto) -> None:
        """What is added to a product right behind it is its bias."""
        for place, other in ((0, 1), (1, 0)):
            maker = self.index.producer.get(node.input[other])
            if maker is not None and self.index.nodes[maker].op_type in _PRODUCTS:
                self._set(node, place, "0", _constant(0.0))

    def _set(self, node: NodeProto, place: int, how: str, draw: _Draw) -> None:
        name = self._stored(node.input[place]) if place < len(node.input) else ""
        if name and self.index.weights[name].dims:
            self.rules.setdefault(name, (how, draw))

    def _stored(self, name: str, *, floats: bool = True) -> str:
        """The weight behind a name, through what moves its elements about; empty where there is none."""
        while name in self.index.producer and self.index.nodes[self.index.producer[name]].op_type in _MOVED:
            name = self.index.nodes[self.index.producer[name]].input[0]
        stored = self.index.weights.get(name)
        return name if stored is not None and (not floats or stored.data_type in _FLOATS) else ""
