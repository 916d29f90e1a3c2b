"""Gemm and MatMul: y[…, m, n] = Σ_k a[…, m, k] b[…, k, n] (+ c)."""

from onnxprune.ops.op import Op
from onnxprune.ops.product import Term, product
from onnxprune.ops.rule import Answer, Rule
from onnxprune.ops.trace import Role

__all__ = ["RULES", "gemm", "matmul"]


def gemm(op: Op) -> Answer:
    """y = alpha · A' B' + beta · C, where ' is an optional transposition."""
    a_k, a_m = (0, 1) if op.attribute("transA", 0) else (1, 0)
    b_n, b_k = (0, 1) if op.attribute("transB", 0) else (1, 0)
    inner = op.contract((0, a_k), (1, b_k))
    m, n = op.shape(0)[a_m], op.shape(1)[b_n]
    columns, rows = op.axis(1, b_n), op.axis(0, a_m)
    if op.is_constant(1):
        op.role(columns, Role.WRITES)
    if op.is_constant(0) and not op.is_constant(1):
        op.role(rows, Role.WRITES)
    k = 1 if inner is not None else op.shape(0)[a_k]
    op.macs(k * (1 if rows is not None else m) * (1 if columns is not None else n), inner, rows, columns)
    parts = [(0, {a_m: 0}), (1, {b_n: 1})]
    if op.has(2):
        rank = len(op.shape(2))
        parts.append((2, {axis: axis + 2 - rank for axis in range(rank)}))
    return op.merge(parts, op.out_shape())


def matmul(op: Op) -> Answer:
    """y[…, m, n] = Σ_k a[…, m, k] b[…, k, n]; vectors stand for a missing m or n."""
    a, b = len(op.shape(0)), len(op.shape(1))
    batch = [str(number) for number in range(max(a - 2, b - 2, 0))]
    first = (*batch[len(batch) - max(a - 2, 0) :], "m", "k")[-a:]
    second = (*batch[len(batch) - max(b - 2, 0) :], "k", "n") if b >= 2 else ("k",)
    tail = (["m"] if a >= 2 else []) + (["n"] if b >= 2 else [])
    return product(op, [Term(0, first), Term(1, second)], [*batch, *tail])


RULES: tuple[Rule, ...] = (Rule("Gemm", gemm), Rule("MatMul", matmul))
