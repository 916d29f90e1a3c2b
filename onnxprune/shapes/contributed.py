"""Shapes that onnx does not infer: of what onnxruntime's own operators (com.microsoft) and a few others make."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, helper

__all__ = ["OPSET", "missing_shapes", "stand_in"]

Shape = tuple[int, ...]
Numbers = tuple[int, ...]
_Rule = Callable[[NodeProto, Sequence[Shape], Sequence[Numbers]], Sequence[Shape]]

OPSET = 17
"""Version of ONNX whose operators stand in for others."""

_STANDARD = {"FusedConv": "Conv", "FusedGemm": "Gemm"}
_SAME = "Trilu GridSample Pad GatherND"
_STANDARD |= {name: name for name in _SAME.split()}
_ALIKE = """Gelu QuickGelu FastGelu BiasGelu ScaledSiLU SampleOp BiasAdd GatedAdd Inverse GroupNorm GatedRMSNorm
    BranchwiseRMSNorm"""
_STANDARD |= dict.fromkeys(_ALIKE.split(), "Identity")
_INPUTS = {"Conv": 3, "Identity": 1}


def stand_in(node: NodeProto) -> NodeProto:
    """Return the node of ONNX whose output has the same shape, the node itself where there is none.

    Parameters
    ----------
    node : NodeProto

    Returns
    -------
    NodeProto
    """
    operator = _STANDARD.get(node.op_type) if node.domain == "com.microsoft" else None
    if operator is None:
        return node
    same = NodeProto()
    same.CopyFrom(node)
    same.op_type, same.domain = operator, ""
    del same.input[_INPUTS.get(operator, len(node.input)) :]
    del same.output[1:]
    kept = [item for item in same.attribute if not item.name.startswith("activation") and operator != "Identity"]
    del same.attribute[:]
    same.attribute.extend(kept)
    return same


def _attribute(node: NodeProto, name: str, default: int) -> int:
    found = next((item for item in node.attribute if item.name == name), None)
    return default if found is None else int(helper.get_attribute_value(found))


def _product(node: NodeProto, shapes: Sequence[Shape], values: Sequence[Numbers]) -> list[Shape]:
    """Matrices, each perhaps transposed, with its rows before the batch or behind it."""
    sides: list[Shape] = []
    for side, shape in zip("AB", shapes, strict=False):
        if len(shape) > 2 and _attribute(node, f"transBatch{side}", 0):
            shape = (*shape[1:-1], shape[0], shape[-1])
        if len(shape) > 1 and _attribute(node, f"trans{side}", 0):
            shape = (*shape[:-2], shape[-1], shape[-2])
        sides.append(shape)
    first, second = sides
    batch = np.broadcast_shapes(first[:-2], second[:-2])
    return [(*batch, *first[-2:-1], *(second[-1:] if len(second) > 1 else ()))]


def _packed_product(node: NodeProto, shapes: Sequence[Shape], values: Sequence[Numbers]) -> list[Shape]:
    return [(*shapes[0][:-1], _attribute(node, "N", 0))]


def _halved(node: NodeProto, shapes: Sequence[Shape], values: Sequence[Numbers]) -> list[Shape]:
    return [(*shapes[0][:-1], shapes[0][-1] // 2)]


def _skip(node: NodeProto, shapes: Sequence[Shape], values: Sequence[Numbers]) -> list[Shape]:
    """Result, mean, deviation, and the sum that is normalised."""
    statistics = (*shapes[0][:-1], 1)
    return [shapes[0], statistics, statistics, shapes[0]]


def _skip_group(node: NodeProto, shapes: Sequence[Shape], values: Sequence[Numbers]) -> list[Shape]:
    return [shapes[0], shapes[0]]


def _embedding(node: NodeProto, shapes: Sequence[Shape], values: Sequence[Numbers]) -> list[Shape]:
    made = (*shapes[0], shapes[2][-1])
    return [made, shapes[0][:1], made]


def _crops(node: NodeProto, shapes: Sequence[Shape], values: Sequence[Numbers]) -> list[Shape]:
    return [(shapes[1][0], shapes[0][1], *values[3])]


def _expanded(node: NodeProto, shapes: Sequence[Shape], values: Sequence[Numbers]) -> list[Shape]:
    axis = values[1][0] % (len(shapes[0]) + 1)
    return [(*shapes[0][:axis], 1, *shapes[0][axis:])]


def _transformed(node: NodeProto, shapes: Sequence[Shape], values: Sequence[Numbers]) -> list[Shape]:
    return [(*shapes[0][:-1], shapes[0][-1] // 2 + 1, 2)]


def _transformed_back(node: NodeProto, shapes: Sequence[Shape], values: Sequence[Numbers]) -> list[Shape]:
    return [(*shapes[0][:-2], (shapes[0][-2] - 1) * 2)]


def _windows(node: NodeProto, shapes: Sequence[Shape], values: Sequence[Numbers]) -> list[Shape]:
    axis = _attribute(node, "dim", -1) % len(shapes[0])
    size, step = _attribute(node, "size", 1), _attribute(node, "step", 1)
    count = (shapes[0][axis] - size) // step + 1
    return [(*shapes[0][:axis], count, *shapes[0][axis + 1 :], size)]


def _pairs(node: NodeProto, shapes: Sequence[Shape], values: Sequence[Numbers]) -> list[Shape]:
    return [(shapes[0][0], shapes[1][0])]


def _told(node: NodeProto, shapes: Sequence[Shape], values: Sequence[Numbers]) -> list[Shape]:
    return [values[2]] if len(values) > 2 and values[2] else []


_CONTRIBUTED: Mapping[str, _Rule] = {
    "FusedMatMul": _product,
    "FusedMatMulActivation": _product,
    "TransposeMatMul": _product,
    "GemmFastGelu": _product,
    "MatMulBnb4": _packed_product,
    "BiasSplitGelu": _halved,
    "SkipLayerNormalization": _skip,
    "SkipSimplifiedLayerNormalization": _skip,
    "SkipGroupNorm": _skip_group,
    "EmbedLayerNormalization": _embedding,
    "CropAndResize": _crops,
    "ExpandDims": _expanded,
    "Rfft": _transformed,
    "Irfft": _transformed_back,
    "UnfoldTensor": _windows,
    "CDist": _pairs,
}


def _same(node: NodeProto, shapes: Sequence[Shape], values: Sequence[Numbers]) -> list[Shape]:
    return [shapes[0]]


def _masked(node: NodeProto, shapes: Sequence[Shape], values: Sequence[Numbers]) -> list[Shape]:
    """Dropout, whose mask onnx forgets before opset 10."""
    return [shapes[0], shapes[0]]


def _cropped(node: NodeProto, shapes: Sequence[Shape], values: Sequence[Numbers]) -> list[Shape]:
    """Borders are left, top, right, bottom."""
    found = {item.name: list(item.ints) for item in node.attribute}
    left, top, right, bottom = found.get("border", [0] * 4)
    height, width = found.get("scale", [shapes[0][2] - top - bottom, shapes[0][3] - left - right])
    return [(*shapes[0][:2], height, width)]


_STANDING = {"MaxUnpool": _told, "Dropout": _masked, "Crop": _cropped}
_STANDING |= dict.fromkeys(("Affine", "ImageScaler", "ParametricSoftplus", "Scale", "ScaledTanh"), _same)
_RULES = {("com.microsoft", name): rule for name, rule in _CONTRIBUTED.items()}
_RULES |= {("", name): rule for name, rule in _STANDING.items()}


def missing_shapes(
    node: NodeProto, shapes: Sequence[Shape], values: Sequence[NDArray[np.generic] | None]
) -> Sequence[Shape]:
    """Find the shapes of a node's outputs where onnx does not.

    Parameters
    ----------
    node : NodeProto
    shapes : sequence of tuple of int
        Shapes of the inputs; empty for one that is not given.
    values : sequence of ndarray
        Values of the inputs that spell sizes, None where they are not known.

    Returns
    -------
    sequence of tuple of int
        Shapes of the outputs, in order; empty where they are not known.
    """
    rule = _RULES.get((node.domain, node.op_type))
    if rule is None:
        return ()
    numbers = [() if value is None or value.dtype.kind not in "iu" else tuple(map(int, value.flat)) for value in values]
    try:
        return rule(node, shapes, numbers)
    except (IndexError, ValueError):
        return ()
