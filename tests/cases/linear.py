"""Cases of Gemm and MatMul."""

from collections.abc import Callable

import numpy as np
from net import Net
from onnx import ModelProto

from cases.case import Case, row

__all__ = ["CASES"]


def _gemm(trans_a: int, trans_b: int, c: tuple[int, ...] | None, **scalars: float) -> Callable[[], ModelProto]:
    """The operator between two others; M is 4, K is 6, N is 5."""

    def make() -> ModelProto:
        net = Net()
        x = net.input(4, 3)
        hidden = net.add("Sigmoid", net.dense(x, 6, 3))
        if trans_a:
            hidden = net.add("Transpose", hidden, perm=[1, 0])
        parameters = [net.weight(*((5, 6) if trans_b else (6, 5)))]
        if c is not None:
            parameters.append(net.weight(*c))
        made = net.add("Gemm", hidden, *parameters, transA=trans_a, transB=trans_b, **scalars)
        return net.done(net.dense(net.add("Sigmoid", made), 2, 5))

    return make


def _gemm_of_input() -> ModelProto:
    net = Net()
    x = net.input("n", 3)
    return net.done(net.gemm(net.add("Tanh", net.gemm(x, 6, 3)), 2, 6))


def _gemm_of_activations() -> ModelProto:
    """Both factors are computed: the features that are summed over live and die together."""
    net = Net()
    x = net.input(4, 3)
    first, second = net.dense(x, 6, 3), net.dense(x, 6, 3)
    return net.done(net.add("Gemm", first, second, transB=1))


def _on_the_right() -> ModelProto:
    net = Net()
    x = net.input("n", 7, 3)
    return net.done(net.dense(net.add("Relu", net.dense(x, 6, 3)), 2, 6))


def _on_the_left() -> ModelProto:
    """Features lie along the rows: y = W x."""
    net = Net()
    x = net.input("n", 3, 7)
    hidden = net.add("Relu", net.add("MatMul", net.weight(6, 3), x))
    return net.done(net.add("MatMul", net.weight(2, 6), hidden))


def _batched_weights() -> ModelProto:
    """A matrix per head, (h, k, n)."""
    net = Net()
    x = net.input("n", 1, 7, 3)
    hidden = net.add("Relu", net.add("MatMul", x, net.weight(4, 3, 6)))
    summed = net.add("ReduceSum", net.add("MatMul", hidden, net.weight(4, 6, 2)), net.constant([1]), keepdims=0)
    return net.done(summed)


def _of_two_activations() -> ModelProto:
    """Scores of queries and keys: the features are summed over, the positions are the other axes."""
    net = Net()
    x = net.input("n", 5, 3)
    query, key = net.dense(x, 6, 3), net.dense(x, 6, 3)
    return net.done(net.add("MatMul", query, net.add("Transpose", key, perm=[0, 2, 1])))


def _outer() -> ModelProto:
    """Columns of both factors stay apart: y[n, i, j] = Σ_t a[n, t, i] b[n, t, j]."""
    net = Net()
    x = net.input("n", 5, 3)
    first = net.add("Transpose", net.dense(x, 6, 3), perm=[0, 2, 1])
    product = net.add("MatMul", first, net.dense(x, 7, 3))
    rows = net.add("MatMul", net.weight(2, 6), product)
    return net.done(net.dense(rows, 2, 7))


def _vector_right() -> ModelProto:
    """A vector sums the features up: (n, 6) · (6,)."""
    net = Net()
    x = net.input("n", 3)
    return net.done(net.add("MatMul", net.add("Relu", net.dense(x, 6, 3)), net.weight(6)))


def _vector_left() -> ModelProto:
    net = Net()
    x = net.input("n", 3, 5)
    hidden = net.add("Relu", net.add("MatMul", net.weight(6, 3), x))
    return net.done(net.add("MatMul", net.weight(6), hidden))


def _both_vectors() -> ModelProto:
    net = Net()
    x = net.input(3)
    hidden = net.add("Relu", net.add("MatMul", x, net.weight(3, 6)))
    return net.done(net.add("MatMul", hidden, net.weight(6)))


def _behind(*steps: str) -> Callable[[], ModelProto]:
    """The reader's weight comes through other operators."""

    def make() -> ModelProto:
        net = Net()
        x = net.input("n", 3)
        hidden = net.add("Relu", net.dense(x, 6, 3))
        weight = net.weight(2, 6) if "Transpose" in steps else net.weight(6, 2)
        for step in steps:
            weight = net.add(step, weight)
        return net.done(net.add("MatMul", hidden, weight))

    return make


def _constant_node() -> ModelProto:
    net = Net()
    x = net.input("n", 3)
    hidden = net.add("Relu", net.add("MatMul", x, net.constant_node(net.rng.standard_normal((3, 6)).astype("f"))))
    return net.done(net.add("MatMul", hidden, net.constant_node(np.ones((6, 2), dtype=np.float32))))


def _reshaped_weight() -> ModelProto:
    """Weights stored as (6, 1, 2) and (3, 6, 1)."""
    net = Net()
    x = net.input("n", 3)
    first = net.add("Reshape", net.weight(3, 6, 1), net.constant([3, 6]))
    second = net.add("Squeeze", net.weight(6, 1, 2), net.constant([1]))
    return net.done(net.add("MatMul", net.add("Relu", net.add("MatMul", x, first)), second))


_GEMM, _MATMUL = row("Gemm"), row("MatMul")

CASES: tuple[Case, ...] = (
    *(
        Case(_GEMM, f"transA {a}, transB {b}, C {c}", _gemm(a, b, c, **scalars), (5, 6))
        for a in (0, 1)
        for b in (0, 1)
        for c, scalars in (
            ((5,), {}),
            ((1, 5), {"alpha": 0.5}),
            ((4, 5), {"alpha": 0.5, "beta": 2.0}),
            ((1,), {"beta": 3.0}),
            ((), {}),
            ((4, 1), {}),
            (None, {}),
        )
    ),
    Case(_GEMM, "twice", _gemm_of_input, (6,)),
    Case(_GEMM, "two activations", _gemm_of_activations, (6,), scaled=False),
    Case(_MATMUL, "weight on the right", _on_the_right, (6,)),
    Case(_MATMUL, "weight on the left", _on_the_left, (6,)),
    Case(_MATMUL, "a weight per head", _batched_weights, (4, 6), scaled=False),
    Case(_MATMUL, "two activations", _of_two_activations, (6,), scaled=False),
    Case(_MATMUL, "columns of two activations", _outer, (6, 7)),
    Case(_MATMUL, "by a vector", _vector_right, (6,)),
    Case(_MATMUL, "of a vector", _vector_left, (6,)),
    Case(_MATMUL, "of two vectors", _both_vectors, (6,)),
    Case(_MATMUL, "weight in a Constant node", _constant_node, (6,)),
    Case(_MATMUL, "weight behind Identity", _behind("Identity"), (6,)),
    Case(_MATMUL, "weight behind Transpose", _behind("Transpose"), (6,)),
    Case(_MATMUL, "weight behind Transpose and Identity", _behind("Transpose", "Identity"), (6,)),
    Case(_MATMUL, "weights behind Reshape and Squeeze", _reshaped_weight, (6,)),
)
