"""Operators on integers q that stand for (q − zero) · scale.

QuantizeLinear and DequantizeLinear work element by element; where scale and zero point are lists, they live and die
with the positions of one axis, and where they are given block by block, blocks do. Operators of integers do what their
floating counterparts do: what is removed reads as the zero point. The scale of DynamicQuantizeLinear spans the range of
all its input and of zero, so that a removed channel counts as one of zeros.
"""

from functools import partial

import numpy as np

from onnxprune.ops.convolution import conv
from onnxprune.ops.labels import Array, Bundle, Fixed, Labels, Purpose
from onnxprune.ops.linear import gemm, matmul
from onnxprune.ops.op import Op
from onnxprune.ops.pointwise import broadcast
from onnxprune.ops.rule import Answer, Rule
from onnxprune.ops.select import concat
from onnxprune.ops.trace import Kept, Role
from onnxprune.shapes.standins import QONNX

__all__ = [
    "RULES",
    "arbitrary",
    "conv_integer",
    "dequantize",
    "dynamic_matmul",
    "dynamic_quantize",
    "linear_broadcast",
    "linear_concat",
    "linear_conv",
    "linear_gemm",
    "linear_matmul",
    "linear_pool",
    "linear_reduce",
    "linear_softmax",
    "linear_unary",
    "linear_where",
    "matmul_in_blocks",
    "matmul_integer",
    "matmul_to_float",
    "quantize",
]

_MICROSOFT = "com.microsoft"


# ---- scales and zero points ------------------------------------------------------------------------------------------


def _is_list(op: Op, place: int) -> bool:
    return op.has(place) and int(np.prod(op.shape(place))) > 1


def _beside(op: Op, place: int, *parameters: int) -> None:
    """Tie lists of scales and zero points to the axes of an input that they are laid over, aligned at the last one."""
    for parameter in filter(partial(_is_list, op), parameters):
        offset = len(op.shape(place)) - len(op.shape(parameter))
        for axis, size in enumerate(op.shape(parameter)):
            if size > 1:
                op.tie_axes((place, axis + offset), (parameter, axis))


def _along(op: Op, array: Array | None, fixed: Fixed, *parameters: int) -> None:
    """Tie lists of scales, zero points and biases to positions."""
    for parameter in filter(partial(_is_list, op), parameters):
        op.tie(op.axis(parameter, 0), array, fixed)


def _tie(op: Op, site: tuple[int, int], array: Array | None, fixed: Fixed) -> Array | None:
    """Tie an axis, given as (input, axis), to positions that are fixed where there are no labels of them."""
    own = op.axis(*site)
    return op.tie(own, array, fixed if array is None else op.fixed(site[0]))


def _has_lists(op: Op, *parameters: int) -> bool:
    """Tell whether one of these is a list where onnxruntime takes numbers only."""
    return any(_is_list(op, parameter) for parameter in parameters)


def _keep_all(op: Op) -> Answer:
    for place in op.inputs:
        op.trace.pin_all(op.labels(place), Purpose.POSITION, op.site)
    return op.nothing()


def _channels(answer: Answer, axis: int) -> tuple[Array | None, Fixed]:
    """Labels of an axis of the first output, and why it has none."""
    assert isinstance(answer, Labels)
    bundle = answer.bundle_at(axis)
    return (None if bundle is None else bundle.array), answer.fixed


# ---- between floating numbers and integers ---------------------------------------------------------------------------


def _in_blocks(op: Op, axis: int, block: int) -> None:
    """Scales of as many dimensions as x: whole blocks of an axis go, and single positions of the others."""
    for parameter in (1, 2):
        if not op.has(parameter):
            continue
        for other in range(len(op.shape(0))):
            if other != axis:
                op.tie_axes((0, other), (parameter, other))
        if op.shape(parameter)[axis] > 1:
            size, blocks = op.shape(0)[axis], op.axis(parameter, axis)
            _tie(op, (0, axis), None if blocks is None else np.repeat(blocks, block)[:size], op.fixed(parameter))


def _scaled(op: Op, axis: int, block: int) -> Labels:
    if block and len(op.shape(1)) == len(op.shape(0)):
        _in_blocks(op, axis, block)
    else:
        for parameter in filter(partial(_is_list, op), (1, 2)):
            op.tie_axes((0, axis), (parameter, 0))
    return op.same()


def quantize(op: Op) -> Answer:
    """y = saturate(round(x / scale) + zero)."""
    return _scaled(op, op.axis_of(0, op.attribute("axis", 1)), op.attribute("block_size", 0))


def dequantize(op: Op) -> Answer:
    """y = (x − zero) · scale."""
    axis, block = op.axis_of(0, op.attribute("axis", 1)), op.attribute("block_size", 0)
    op.quantised(0, 1, 2, axis=axis, block=block)
    return _scaled(op, axis, block)


def dynamic_quantize(op: Op) -> Answer:
    """Scale and zero point span the range of x and of zero: channels of zeros, or none, make no difference."""
    for bundle in op.labels(0).bundles:
        op.read_at(0, bundle.axes, bundle.array)
    return [op.same(), op.nothing(1), op.nothing(2)]


def arbitrary(op: Op) -> Answer:
    """Quant, BipolarQuant of QONNX: y = (round(x / scale + zero) within some bits − zero) · scale, laid over x."""
    return op.broadcast(op.inputs)


# ---- layers of integers ----------------------------------------------------------------------------------------------


def linear_conv(op: Op) -> Answer:
    """QLinearConv: (x, scale, zero), (w, scales, zeros), (y's scale, zero), bias."""
    if _has_lists(op, 1, 2, 6, 7):
        return _keep_all(op)
    return _conv(op, data=(0, 1, 2), weight=(3, 4, 5), bias=8)


def conv_integer(op: Op) -> Answer:
    """ConvInteger: x, w, x's zero, w's zeros."""
    if _has_lists(op, 2):
        return _keep_all(op)
    return _conv(op, data=(0, None, 2), weight=(1, None, 3), bias=4)


def _conv(op: Op, *, data: tuple[int, int | None, int], weight: tuple[int, int | None, int], bias: int) -> Answer:
    op.quantised(*data)
    op.quantised(*weight, axis=0)
    lists = [place for place in weight[1:] if place is not None]
    if not op.is_constant(weight[0]) and _has_lists(op, *lists):
        return _keep_all(op)
    answer = conv(op.seen_as(data[0], weight[0], bias))
    _along(op, *_channels(answer, 1), *lists)
    return answer


def linear_matmul(op: Op) -> Answer:
    """QLinearMatMul: (a, scale, zero), (b, scales, zeros), (y's scale, zero)."""
    if _has_lists(op, 1, 2, 6, 7):
        return _keep_all(op)
    return _matmul(op, first=(0, 1, 2), second=(3, 4, 5))


def matmul_integer(op: Op) -> Answer:
    """MatMulInteger: a, b, a's zero, b's zeros."""
    if _has_lists(op, 2):
        return _keep_all(op)
    return _matmul(op, first=(0, None, 2), second=(1, None, 3))


def matmul_to_float(op: Op) -> Answer:
    """MatMulIntegerToFloat: a, b, a's scale, b's scales, a's zero, b's zeros, bias."""
    if _has_lists(op, 2, 4):
        return _keep_all(op)
    return _matmul(op, first=(0, 2, 4), second=(1, 3, 5), bias=6)


def dynamic_matmul(op: Op) -> Answer:
    """DynamicQuantizeMatMul: a is quantised by its range, which zeros do not change; b, scales, zeros, bias."""
    return _matmul(op, first=None, second=(1, 2, 3), bias=4)


def _matmul(
    op: Op, *, first: tuple[int, int | None, int] | None, second: tuple[int, int | None, int], bias: int | None = None
) -> Answer:
    if first is not None:
        op.quantised(*first)
    op.quantised(*second, axis=len(op.shape(second[0])) - 1)
    _beside(op, second[0], *(place for place in second[1:] if place is not None))
    answer = matmul(op.seen_as(0 if first is None else first[0], second[0]))
    if bias is not None:
        _along(op, *_channels(answer, len(op.out_shape()) - 1), bias)
    return answer


def linear_gemm(op: Op) -> Answer:
    """QGemm: (a, scale, zero), (b, scales, zeros), bias, (y's scale, zero)."""
    if _has_lists(op, 1, 2, 7, 8):
        return _keep_all(op)
    transposed = op.attribute("transB", 0)
    op.quantised(0, 1, 2)
    op.quantised(3, 4, 5, axis=0 if transposed else 1)
    answer = gemm(op.seen_as(0, 3, 6))
    _along(op, *_channels(answer, 1), 4, 5)
    return answer


# ---- other operators of integers -------------------------------------------------------------------------------------


def linear_unary(op: Op) -> Answer:
    """QLinearLeakyRelu, QLinearSigmoid: y[i] = f(x[i])."""
    return op.same()


def linear_broadcast(op: Op) -> Answer:
    """QLinearAdd, QLinearMul: (a, scale, zero), (b, scale, zero), (y's scale, zero)."""
    return broadcast(op.seen_as(0, 3))


def linear_where(op: Op) -> Answer:
    """QLinearWhere: condition, (x, scale, zero), (y, scale, zero), (z's scale, zero)."""
    return broadcast(op.seen_as(0, 1, 4))


def linear_concat(op: Op) -> Answer:
    """QLinearConcat: y's scale, zero, and (x, scale, zero) of each part."""
    return concat(op.seen_as(*range(2, len(op.node.input), 3)))


def linear_pool(op: Op) -> Answer:
    """QLinearAveragePool, QLinearGlobalAveragePool: batch and channel axes stay."""
    axis = len(op.shape(0)) - 1 if op.attribute("channels_last", 0) else 1
    return op.carry(0, {0: 0, axis: axis})


def linear_softmax(op: Op) -> Answer:
    """QLinearSoftmax along one axis; as of an opset before 13 over all axes from `axis` on."""
    rank = len(op.shape(0))
    axis = op.attribute("axis", -1) % rank
    op.hold(0, range(axis, rank) if op.attribute("opset", 13) < 13 else [axis], Purpose.MIXED)
    return op.same()


def linear_reduce(op: Op) -> Answer:
    """QLinearReduceMean: the mean of integers over channels is rounded, so that it cannot be scaled afterwards."""
    rank = len(op.shape(0))
    axes = [axis % rank for axis in op.attribute("axes", range(rank))]
    op.hold(0, axes, Purpose.MIXED)
    stay = [axis for axis in range(rank) if axis not in axes]
    keep = op.attribute("keepdims", 1)
    return op.carry(0, {axis: axis if keep else place for place, axis in enumerate(stay)})


# ---- weights of a few bits -------------------------------------------------------------------------------------------


def matmul_in_blocks(op: Op) -> Answer:
    """MatMulNBits: y[…, n] = Σ_k a[…, k] b[n, k], b stored as (N, blocks, bytes) with scales and zeros per block.

    Columns go one by one, what is read in whole blocks (of whose zero points several may share a byte).
    """
    count, block = op.attribute("N"), op.attribute("block_size")
    if not op.is_stored(1) or op.has(4) or op.attribute("weight_prepacked", 0) or len(op.shape(1)) != 3:
        return _keep_all(op)
    op.quantised(1, 2, 3, axis=1, block=block, bits=op.attribute("bits", 4))
    columns, inner = op.axis(1, 0), op.axis(1, 1)
    op.role(columns, Role.WRITES)
    op.role(inner, Role.READS)
    op.hold(1, [2])
    for place in filter(op.has, (2, 3)):
        _tie_table(op, place, columns, inner)
    _along(op, columns, op.positions, 5)
    last = len(op.shape(0)) - 1
    size = op.shape(0)[last]
    read = _tie(op, (0, last), None if inner is None else np.repeat(inner, block)[:size], op.positions)
    for name, array in (("N", columns), ("K", read)):
        if array is not None:
            op.spell(name, partial(_counted, array), [array])
    rows = int(np.prod(op.shape(0)[:-1]))
    op.macs(rows * (1 if read is not None else size) * (1 if columns is not None else count), read, columns)
    op.read(0, last)
    carried = op.carry(0, {axis: axis for axis in range(last)})
    own = () if columns is None else (Bundle((last,), columns),)
    return op.out(op.out_shape(), carried.bundles + own, carried.fixed)


def _counted(array: Array, kept: Kept) -> Array:
    return np.array(kept.count(array), dtype=np.int64)


def _tie_table(op: Op, place: int, columns: Array | None, inner: Array | None) -> None:
    """Tie a table of scales or zero points, which may be stored as one list, to columns and blocks."""
    count, blocks = op.shape(1)[:2]
    entries = int(np.prod(op.shape(place))) // count
    rows: Array | None
    parts: Array | None
    if len(op.shape(place)) == 1 and op.is_stored(place):
        rows, parts = op.view(place, (count, entries), [(0,), (1,)])
    else:
        rows, parts = op.axis(place, 0), op.axis(place, 1) if len(op.shape(place)) == 2 else None
    op.tie(rows, columns, op.positions)
    if blocks > 1:
        share = 1 if entries == blocks else 8 // op.attribute("bits", 4)
        shared = None if parts is None or entries == 1 else np.repeat(parts, share)[:blocks]
        op.tie(shared, inner, op.positions)


RULES: tuple[Rule, ...] = (
    Rule("QuantizeLinear", quantize, since=10),
    Rule("DequantizeLinear", dequantize, since=10),
    Rule("QuantizeLinear", quantize, domain=_MICROSOFT),
    Rule("DequantizeLinear", dequantize, domain=_MICROSOFT),
    Rule("DynamicQuantizeLinear", dynamic_quantize, since=11),
    Rule("QLinearConv", linear_conv, since=10),
    Rule("ConvInteger", conv_integer, since=10),
    Rule("QLinearMatMul", linear_matmul, since=10),
    Rule("MatMulInteger", matmul_integer, since=10),
    Rule("MatMulIntegerToFloat", matmul_to_float, domain=_MICROSOFT),
    Rule("DynamicQuantizeMatMul", dynamic_matmul, domain=_MICROSOFT),
    Rule("QGemm", linear_gemm, domain=_MICROSOFT),
    Rule("QLinearAdd", linear_broadcast, domain=_MICROSOFT),
    Rule("QLinearMul", linear_broadcast, domain=_MICROSOFT),
    Rule("QLinearWhere", linear_where, domain=_MICROSOFT),
    Rule("QLinearConcat", linear_concat, domain=_MICROSOFT),
    Rule("QLinearAveragePool", linear_pool, domain=_MICROSOFT),
    Rule("QLinearGlobalAveragePool", linear_pool, domain=_MICROSOFT),
    Rule("QLinearLeakyRelu", linear_unary, domain=_MICROSOFT),
    Rule("QLinearSigmoid", linear_unary, domain=_MICROSOFT),
    Rule("QLinearSoftmax", linear_softmax, domain=_MICROSOFT),
    Rule("QLinearReduceMean", linear_reduce, domain=_MICROSOFT),
    Rule("MatMulNBits", matmul_in_blocks, domain=_MICROSOFT),
    *(Rule(name, arbitrary, domain=domain) for domain in QONNX for name in ("Quant", "BipolarQuant")),
)
