"""Networks with recurrent layers, as exporters write them."""

from collections.abc import Callable

import numpy as np
from net import Net
from onnx import ModelProto

from cases.case import Case
from cases.recurrent import GATES, Layer, features, merged

__all__ = ["CASES"]

Make = Callable[[], ModelProto]
_BOTH = "bidirectional"


def _stacked(operator: str, direction: str) -> Make:
    """Two layers, and a head that reads the last state of each direction of the second."""
    first = Layer(operator, direction)
    second = Layer(operator, direction, read=6 * first.directions, made=7)

    def make() -> ModelProto:
        net = Net()
        heard = merged(net, first.apply(net, features(net))[0])
        last = second.apply(net, heard)[1]
        flat = net.add("Reshape", net.add("Transpose", last, perm=[1, 0, 2]), net.constant([0, -1]))
        return net.done(net.gemm(flat, 2, 7 * first.directions))

    return make


def _ends_of_all() -> ModelProto:
    """PyTorch's `h_n[-1]` where layers run both ways: of all layers' directions, the last one's state is taken."""
    net = Net()
    first, second = Layer("LSTM", _BOTH), Layer("LSTM", _BOTH, read=12, made=6)
    y, last, _ = first.apply(net, features(net))
    other = second.apply(net, merged(net, y))[1]
    taken = net.add("Gather", net.add("Concat", last, other, axis=0), net.constant(-1), axis=0)
    return net.done(net.gemm(taken, 2, 6))


def _last_of_all() -> ModelProto:
    """PyTorch's `h_n[-1]`: the last states of all layers are joined, and the last one is taken."""
    net = Net()
    y, last, _ = Layer("LSTM").apply(net, features(net))
    heard = net.add("Squeeze", y, net.constant([1]))
    _, second, _ = Layer("LSTM", read=6).apply(net, heard)
    taken = net.add("Gather", net.add("Concat", last, second, axis=0), net.constant(-1), axis=0)
    return net.done(net.gemm(taken, 2, 6))


def _keras() -> ModelProto:
    """One node per direction, batch first around each; the last states side by side, then a layer over all steps."""
    net = Net(11)
    x = net.dense(net.input("n", "t", 3), 5, 3)
    steps = net.add("Transpose", x, perm=[1, 0, 2])
    made = [Layer("LSTM", end).apply(net, steps) for end in ("forward", "reverse")]
    turned = [net.add("Transpose", y, perm=[2, 1, 0, 3]) for y, *_ in made]
    heard = net.add("Concat", *(net.add("Squeeze", y, axes=[1]) for y in turned), axis=-1)
    ends = net.add("Concat", *(net.add("Squeeze", last, axes=[0]) for _, last, _ in made), axis=1)
    y, _ = Layer("GRU", read=12, made=7).apply(net, net.add("Transpose", heard, perm=[1, 0, 2]))
    flat = net.add("Squeeze", net.add("Transpose", y, perm=[2, 1, 0, 3]), axes=[1])
    pooled = net.add("ReduceMax", net.dense(flat, 2, 7), axes=[1], keepdims=0)
    return net.done(net.add("Add", pooled, net.gemm(ends, 2, 12)))


def _paddle() -> ModelProto:
    """States of all layers and directions in one tensor of zeros, which is cut."""
    net = Net(11)
    steps = net.add("Transpose", net.dense(net.input("n", 7, 3), 5, 3), perm=[1, 0, 2])
    batch = net.add("Gather", net.add("Shape", steps), net.constant([1]), axis=0)
    sizes = net.add("Concat", net.constant([4]), batch, net.constant([6]), axis=0)
    zeros = net.add("Expand", net.constant(np.zeros((1, 1, 1)), np.float32), sizes)
    for number, read in enumerate((5, 12)):
        bounds = [net.constant([value]) for value in (2 * number, 2 * number + 2, 0)]
        own = net.add("Slice", zeros, *bounds)
        y, _ = Layer("GRU", _BOTH, read=read).apply(net, steps, states=[own])
        steps = merged(net, y)
    last = net.add("Slice", net.add("Transpose", steps, perm=[1, 0, 2]), *(net.constant([v]) for v in (6, 7, 1)))
    return net.done(net.gemm(net.add("Reshape", last, net.constant([0, -1])), 2, 12))


def _crnn() -> ModelProto:
    """A reader of lines: columns of a picture's features are steps."""
    net = Net()
    hidden = net.add("Relu", net.conv(net.input("n", 3, 4, "w"), 6, 3, kernel=(3, 3), pads=[1, 1, 1, 1]))
    pooled = net.add("MaxPool", hidden, kernel_shape=[2, 2], strides=[2, 2])
    columns = net.add("Reshape", net.add("Transpose", pooled, perm=[3, 0, 1, 2]), net.constant([0, 0, 12]))
    heard = merged(net, Layer("LSTM", _BOTH, read=12, made=5).apply(net, columns)[0])
    inner = net.dense(heard, 7, 10)
    second = merged(net, Layer("LSTM", _BOTH, read=7, made=4).apply(net, inner)[0])
    return net.done(net.add("Softmax", net.dense(second, 9, 8), axis=-1))


def _attended() -> ModelProto:
    """Attention over the steps of a layer that goes both ways."""
    net = Net()
    steps = net.add("Transpose", merged(net, Layer("GRU", _BOTH).apply(net, features(net))[0]), perm=[1, 0, 2])
    scores = net.add("Softmax", net.dense(net.add("Tanh", net.dense(steps, 7, 12)), 1, 7), axis=1)
    pooled = net.add("ReduceSum", net.add("Mul", steps, scores), net.constant([1]), keepdims=0)
    return net.done(net.gemm(pooled, 2, 12))


def _residual() -> ModelProto:
    """What a layer hears is added to what it says, scaled and shifted channel by channel."""
    net = Net()
    x = net.dense(net.input("t", "n", 3), 6, 3)
    said = net.add("Squeeze", Layer("GRU", read=6).apply(net, x)[0], net.constant([1]))
    total = net.add("Add", net.add("Mul", said, net.weight(6)), x)
    return net.done(net.dense(net.add("Add", total, net.weight(6)), 2, 6))


def _along_bands() -> ModelProto:
    """Dual-path: a layer over the bands of each frame, then one over the frames of each band."""
    net = Net()
    x = net.dense(net.input(1, 4, 3, 3), 6, 3)
    bands = net.add("Transpose", net.add("Reshape", x, net.constant([4, 3, 6])), perm=[1, 0, 2])
    inner = merged(net, Layer("LSTM", _BOTH, read=6, made=4).apply(net, bands)[0])
    x = net.add("Add", net.add("Transpose", bands, perm=[0, 1, 2]), net.dense(inner, 6, 8))
    frames = net.add("Transpose", x, perm=[1, 0, 2])
    outer = net.add("Squeeze", Layer("LSTM", read=6, made=5).apply(net, frames)[0], net.constant([1]))
    return net.done(net.dense(net.add("Add", frames, net.dense(outer, 6, 5)), 2, 6))


CASES: tuple[Case, ...] = (
    *(Case(None, f"stacked {name}", _stacked(name, "forward"), (5, 6, 7)) for name in GATES),
    *(Case(None, f"stacked {name}, both ways", _stacked(name, _BOTH), (5, 12, 14)) for name in GATES),
    Case(None, "last state of all layers", _last_of_all, (5, 6)),
    Case(None, "last state of all layers, both ways", _ends_of_all, (5, 6)),
    Case(None, "Keras, both ways", _keras, (5, 6, 6, 7)),
    Case(None, "PaddlePaddle, both ways, twice", _paddle, (5, 12, 12)),
    Case(None, "reader of lines", _crnn, (6, 7, 8, 10), (("MIXED", 9),)),
    Case(None, "attention over steps", _attended, (5, 7, 12)),
    Case(None, "residual recurrence", _residual, (6,)),
    Case(None, "dual path", _along_bands, (5, 6, 8)),
)
