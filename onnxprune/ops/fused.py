"""Operators that onnxruntime contributes in the domain com.microsoft: what its optimizer fuses several nodes into."""

import numpy as np

from onnxprune.ops.convolution import conv, convolve
from onnxprune.ops.labels import Bundle, Labels, Purpose
from onnxprune.ops.linear import gemm, matmul
from onnxprune.ops.op import Op
from onnxprune.ops.pointwise import broadcast, unary
from onnxprune.ops.product import Term, product
from onnxprune.ops.rule import Answer, Rule
from onnxprune.ops.trace import Role

__all__ = [
    "RULES",
    "expand_dims",
    "fused_conv",
    "fused_matmul",
    "gemm_gelu",
    "held",
    "matmul_table",
    "normalized",
    "split_gelu",
    "unfold",
]


def _laid_over(op: Op, made: Labels, axis: int, place: int, other: int) -> Labels:
    """Add an input's axis to an axis of what was made."""
    bundle = made.bundle_at(axis)
    array = None if bundle is None else bundle.array
    joined = op.tie(array, op.axis(place, other), made.fixed if array is None else op.fixed(place))
    return made if bundle is None or joined is not None else made.replace(bundle, None)


def fused_conv(op: Op) -> Answer:
    """A convolution, what input 3 adds to it, and an activation."""
    if not op.has(3):
        return conv(op)
    op.hold(0, [0])
    op.hold(3, [0, *range(2, len(op.shape(3)))])
    made = convolve(op, out_axis=0, in_axis=1, positions=int(np.prod(op.out_shape()[2:])), bias=2, alone=[])
    return _laid_over(op, made, 1, 3, 1)


def _letters(op: Op, place: int, side: str) -> tuple[str, ...]:
    """Letters of a matrix's axes as it is stored: of the batch, m and n for what stays, k for what is summed over."""
    rank = len(op.shape(place))
    batch = tuple(str(number) for number in range(2 - rank, 0))
    rows, columns = ("m", "k") if side == "A" else ("k", "n")
    if op.attribute(f"trans{side}", 0):
        rows, columns = columns, rows
    return (rows, *batch, columns) if op.attribute(f"transBatch{side}", 0) else (*batch, rows, columns)


def fused_matmul(op: Op) -> Answer:
    """y[…, m, n] = α Σ_k a'[…, m, k] b'[…, k, n], where ' is an optional transposition."""
    if min(len(op.shape(0)), len(op.shape(1))) < 2:
        turned = any(op.attribute(name, 0) for name in ("transA", "transB", "transBatchA", "transBatchB"))
        return held(op) if turned else matmul(op)
    terms = [Term(place, _letters(op, place, side)) for place, side in enumerate("AB")]
    batch = [str(number) for number in range(2 - len(op.out_shape()), 0)]
    return product(op, terms, [*batch, "m", "n"])


def gemm_gelu(op: Op) -> Answer:
    """GemmFastGelu: a product with a matrix, a bias, and an activation."""
    rank = len(op.shape(0))
    batch = [str(number) for number in range(rank - 1)]
    made = product(op, [Term(0, (*batch, "k")), Term(1, ("k", "n"))], [*batch, "n"])
    return _laid_over(op, made, rank - 1, 2, 0) if op.has(2) else made


def split_gelu(op: Op) -> Answer:
    """BiasSplitGelu: y = u · gelu(v), where x + bias is u beside v along the last axis."""
    last = len(op.shape(0)) - 1
    bundle = op.labels(0).bundle_at(last)
    if bundle is not None and len(bundle.axes) > 1:
        op.hold(0, [last])
    joined = op.tie_axes((0, last), (1, 0))
    op.drop(0, last)
    carried = op.carry(0, {axis: axis for axis in range(last)})
    if joined is None:
        return carried
    left, right = np.split(joined, 2)
    op.tie(left, right)
    return op.out(op.out_shape(), (*carried.bundles, Bundle((last,), left)), carried.fixed)


def matmul_table(op: Op) -> Answer:
    """MatMulBnb4: y[…, n] = Σ_k x[…, k] w[n, k], where w is one list of four-bit numbers in blocks, each with a scale.

    Where each row is made of whole blocks, rows go one by one, and what is read by whole blocks.
    """
    n, k, size = op.attribute("N"), op.attribute("K"), op.attribute("block_size")
    if k % size or not op.attribute("transB", 1) or not (op.is_stored(1) and op.is_stored(2)):
        return held(op)
    rows, columns = op.view(1, (n, k // size, size // 2), [(0,), (1,)])
    scale_rows, scale_columns = op.view(2, (n, k // size), [(0,), (1,)])
    op.tie(rows, scale_rows)
    op.tie(columns, scale_columns)
    op.role(scale_rows, Role.WRITES)
    last = len(op.shape(0)) - 1
    inner = op.tie(op.cut(0, last), np.repeat(columns, size), op.fixed(0))
    if inner is not None:
        op.spell("K", lambda kept: np.array(kept.count(inner), dtype=np.int64), [inner])
    op.spell("N", lambda kept: np.array(kept.count(rows), dtype=np.int64), [rows])
    op.read(0, last)
    op.macs(int(np.prod(op.out_shape()[:-1])) * (1 if inner is not None else k), inner, rows)
    carried = op.carry(0, {axis: axis for axis in range(last)})
    return op.out(op.out_shape(), (*carried.bundles, Bundle((last,), rows)), carried.fixed)


def held(op: Op, purpose: Purpose = Purpose.POSITION) -> Answer:
    """Keep all of every input."""
    for place in op.inputs:
        op.trace.pin_all(op.labels(place), purpose, op.site)
    return [op.nothing(place) for place in range(len(op.node.output))]


def normalized(op: Op) -> Answer:
    """Fused normalisations: channels that statistics are taken over stay, and all that is laid over them."""
    return held(op, Purpose.NORMALIZED)


def expand_dims(op: Op) -> Answer:
    """An axis of size one comes."""
    rank, known = len(op.shape(0)), op.known(1)
    if known is None:
        return op.unknown()
    axis = int(known.value.item()) % (rank + 1)
    return op.carry(0, {other: other + (other >= axis) for other in range(rank)})


def unfold(op: Op) -> Answer:
    """UnfoldTensor: windows along one axis, whose positions lie along a new last one."""
    rank = len(op.shape(0))
    axis = op.attribute("dim", -1) % rank
    return op.carry(0, {other: other for other in range(rank) if other != axis})


_TABLE = (
    ("Gelu QuickGelu ScaledSiLU SampleOp", unary),
    ("BiasGelu FastGelu BiasAdd GatedAdd", broadcast),
    ("FusedConv", fused_conv),
    ("FusedGemm", gemm),
    ("FusedMatMul FusedMatMulActivation TransposeMatMul", fused_matmul),
    ("GemmFastGelu", gemm_gelu),
    ("MatMulBnb4", matmul_table),
    ("BiasSplitGelu", split_gelu),
    ("GroupNorm SkipGroupNorm EmbedLayerNormalization SkipSimplifiedLayerNormalization", normalized),
    ("GatedRMSNorm BranchwiseRMSNorm", normalized),
    ("ExpandDims", expand_dims),
    ("UnfoldTensor", unfold),
)

RULES: tuple[Rule, ...] = tuple(
    Rule(name, apply, domain="com.microsoft") for names, apply in _TABLE for name in names.split()
)
