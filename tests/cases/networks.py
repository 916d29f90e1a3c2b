"""Cases of how whole networks are put together: branches that meet, weights that are shared or computed, subgraphs."""

from collections.abc import Callable
from typing import Any

import numpy as np
from net import Net
from onnx import ModelProto, TensorProto, helper

from cases.case import Case

__all__ = ["CASES"]

FLOAT = TensorProto.FLOAT


def _case(
    name: str, make: Callable[[], ModelProto], groups: tuple[int, ...], *pins: tuple[str, int], **more: Any
) -> Case:
    return Case(None, name, make, groups, pins, **more)


# ---- branches -------------------------------------------------------------------------------------------------------


def _norm(net: Net, x: str, size: int) -> str:
    positive = net.constant(net.rng.random(size) + 0.5, np.float32)
    return net.add("BatchNormalization", x, net.weight(size), net.weight(size), net.weight(size), positive)


def _residual() -> ModelProto:
    """Two blocks on one stream."""
    net = Net()
    stream = net.conv(net.input("n", 3, 4, 4), 8, 3)
    for _ in range(2):
        inner = net.add("Relu", _norm(net, net.conv(stream, 5, 8, kernel=(3, 3), pads=[1] * 4), 5))
        stream = net.add("Relu", net.add("Add", stream, _norm(net, net.conv(inner, 8, 5, bias=False), 8)))
    return net.done(net.gemm(net.add("Flatten", net.add("GlobalAveragePool", stream)), 4, 8))


def _projection() -> ModelProto:
    """The shortcut has a convolution of its own."""
    net = Net()
    stream = net.add("Relu", net.conv(net.input("n", 3, 4, 4), 6, 3))
    branch = net.conv(net.add("Relu", net.conv(stream, 5, 6)), 9, 5, strides=[2, 2])
    joined = net.add("Add", branch, net.conv(stream, 9, 6, strides=[2, 2]))
    return net.done(net.conv(net.add("Relu", joined), 4, 9))


def _residual_to_input() -> ModelProto:
    """A stream that begins at the network's input cannot lose channels."""
    net = Net()
    x = net.input("n", 6, 4, 4)
    stream = net.add("Add", x, net.conv(net.add("Relu", net.conv(x, 5, 6)), 6, 5))
    return net.done(net.conv(stream, 4, 6))


def _dense_blocks() -> ModelProto:
    """Each layer reads all before it."""
    net = Net()
    features = [net.conv(net.input("n", 3, 4, 4), 6, 3)]
    size = 6
    for made in (4, 5):
        joined = net.add("Concat", *features, axis=1) if len(features) > 1 else features[0]
        features.append(net.conv(net.add("Sigmoid", _norm(net, joined, size)), made, size))
        size += made
    return net.done(net.conv(net.add("Concat", *features, axis=1), 4, size))


def _squeeze_excite() -> ModelProto:
    net = Net()
    hidden = net.conv(net.input("n", 3, 4, 4), 8, 3)
    inner = net.add("Relu", net.conv(net.add("GlobalAveragePool", hidden), 4, 8))
    gate = net.add("Sigmoid", net.conv(inner, 8, 4))
    return net.done(net.conv(net.add("Mul", hidden, gate), 4, 8))


def _squeeze_excite_dense() -> ModelProto:
    """The gate is computed by fully connected layers and gets its spatial axes back."""
    net = Net()
    hidden = net.conv(net.input("n", 3, 4, 4), 8, 3)
    inner = net.add("Sigmoid", net.gemm(net.add("ReduceMean", hidden, axes=[2, 3], keepdims=0), 5, 8))
    gate = net.add("Reshape", net.add("Sigmoid", net.gemm(inner, 8, 5)), net.constant([-1, 8, 1, 1]))
    return net.done(net.conv(net.add("Mul", hidden, gate), 4, 8))


def _option_a() -> ModelProto:
    """ResNet20's shortcut: every second position, channels of zeros at both ends."""
    net = Net()
    stream = net.conv(net.input("n", 3, 8, 8), 4, 3)
    stream = net.add("Add", stream, net.conv(net.add("Relu", net.conv(stream, 5, 4)), 4, 5))
    inner = net.add("Relu", net.conv(stream, 7, 4, strides=[2, 2]))
    cut = net.add("Slice", stream, *(net.constant(v) for v in ([0, 0], [2**63 - 1] * 2, [2, 3], [2, 2])))
    padded = net.add("Pad", cut, net.constant([0, 2, 0, 0, 0, 2, 0, 0]), net.constant(0, np.float32))
    stream = net.add("Relu", net.add("Add", padded, net.conv(inner, 8, 7)))
    return net.done(net.conv(stream, 4, 8))


def _shuffle_net() -> ModelProto:
    """Grouped layers with a shuffle and a depthwise layer between them: what is left is a rectangle."""
    net = Net()
    hidden = net.conv(net.add("Relu", net.conv(net.input("n", 3, 4, 4), 8, 3)), 12, 8, group=2)
    seen = net.add("Transpose", net.add("Reshape", hidden, net.constant([0, 2, 6, 4, 4])), perm=[0, 2, 1, 3, 4])
    shuffled = net.add("Reshape", seen, net.constant([0, 12, 4, 4]))
    deep = net.conv(shuffled, 12, 12, kernel=(3, 3), group=12)
    return net.done(net.conv(net.conv(deep, 10, 12, group=2), 4, 10))


def _shuffle_net_2() -> ModelProto:
    """Half of the channels pass by, the halves are joined and shuffled, twice."""
    net = Net()
    stream = net.add("Relu", net.conv(net.input("n", 3, 4, 4), 8, 3))
    for _ in range(2):
        passed, worked = net.many("Split", 2, stream, net.constant([4, 4]), axis=1)
        worked = net.conv(net.add("Sigmoid", net.conv(worked, 5, 4)), 4, 5)
        joined = net.add("Concat", passed, worked, axis=1)
        seen = net.add("Transpose", net.add("Reshape", joined, net.constant([0, 2, 4, 4, 4])), perm=[0, 2, 1, 3, 4])
        stream = net.add("Reshape", seen, net.constant([0, 8, 4, 4]))
    return net.done(net.conv(stream, 4, 8))


def _pixel_shuffle() -> ModelProto:
    """As PyTorch exports it without DepthToSpace: channels become 2×2 positions, only whole ones can go."""
    net = Net()
    hidden = net.add("Reshape", net.conv(net.input("n", 3, 3, 3), 24, 3), net.constant([0, 6, 2, 2, 3, 3]))
    turned = net.add("Transpose", hidden, perm=[0, 1, 4, 2, 5, 3])
    return net.done(net.conv(net.add("Reshape", turned, net.constant([0, 6, 6, 6])), 4, 6))


def _generator() -> ModelProto:
    """Features become a picture: a channel is four columns of the first layer."""
    net = Net()
    hidden = net.add("Reshape", net.gemm(net.input("n", 5), 24, 5), net.constant([-1, 6, 2, 2]))
    made = net.add("ConvTranspose", net.add("Sigmoid", hidden), net.weight(6, 5, 2, 2), net.weight(5), strides=[2, 2])
    return net.done(net.conv(net.add("Relu", made), 3, 5))


def _channels_last() -> ModelProto:
    """Pictures with channels last, transposed for each convolution; biases are added with channels last."""
    net = Net()
    hidden, size = net.input("n", 6, 6, 3), 3
    for made in (6, 5):
        first = net.add("Transpose", hidden, perm=[0, 3, 1, 2])
        back = net.add("Transpose", net.conv(first, made, size, bias=False), perm=[0, 2, 3, 1])
        hidden, size = net.add("Sigmoid", net.add("Add", back, net.weight(made))), made
    mean = net.add("ReduceMean", hidden, axes=[1, 2], keepdims=0)
    return net.done(net.add("Add", net.dense(mean, 4, 5), net.weight(4)))


def _mlp() -> ModelProto:
    net = Net()
    hidden = net.input("n", 5)
    for read, made in ((5, 7), (7, 6)):
        hidden = net.add("Tanh", net.add("Add", net.weight(made), net.dense(hidden, made, read)))
    return net.done(net.dense(hidden, 3, 6))


def _two_heads() -> ModelProto:
    """Two outputs on one trunk; one output is the trunk itself."""
    net = Net()
    trunk = net.add("Sigmoid", net.conv(net.input("n", 3, 4, 4), 6, 3))
    other = net.add("Sigmoid", net.conv(trunk, 5, 6))
    return net.done(trunk, net.conv(other, 4, 5))


def _outer_sum() -> ModelProto:
    """Rows and columns are channels of two layers, and both are summed up."""
    net = Net()
    x = net.input("n", 5, 3)
    first = net.add("Transpose", net.dense(x, 6, 3), perm=[0, 2, 1])
    product = net.add("MatMul", first, net.dense(x, 7, 3))
    return net.done(net.add("ReduceSumSquare", product, axes=[1, 2]))


def _any_picture() -> ModelProto:
    """A picture of any size goes down and up again, to the size of what it is joined with."""
    net = Net()
    x = net.input("n", 3, "height", "width")
    large = net.add("Relu", net.conv(x, 6, 3, kernel=(3, 3), pads=[1] * 4))
    small = net.add("Relu", net.conv(net.add("MaxPool", large, kernel_shape=[2, 2], strides=[2, 2]), 5, 6))
    plane = net.add("Slice", net.add("Shape", large), net.constant([2]), net.constant([4]))
    front = net.add("Slice", net.add("Shape", small), net.constant([0]), net.constant([2]))
    size = net.add("Concat", front, plane, axis=0)
    grown = net.add("Resize", small, "", "", size, mode="nearest")
    joined = net.add("Concat", large, grown, axis=1)
    batch, channels, height, width = (net.add("Gather", net.add("Shape", joined), net.constant([k])) for k in range(4))
    flat = net.add("Reshape", joined, net.add("Concat", batch, channels, net.add("Mul", height, width), axis=0))
    wide = net.add("Reshape", net.add("Tanh", flat), net.add("Concat", batch, channels, height, width, axis=0))
    return net.done(net.conv(wide, 4, 11))


# ---- attention ------------------------------------------------------------------------------------------------------


def _layer_norm(net: Net, x: str, size: int) -> str:
    return net.add("LayerNormalization", x, net.weight(size), net.weight(size))


def _transformer() -> ModelProto:
    """A block: the stream is normalised and stays, heads and hidden features go."""
    net = Net()
    stream = net.dense(net.input("n", 5, 7), 8, 7)
    normal = _layer_norm(net, stream, 8)
    parts = [net.add("Add", net.dense(normal, 12, 8), net.weight(12)) for _ in range(3)]
    query, key, value = (net.add("Reshape", part, net.constant([0, -1, 4, 3])) for part in parts)
    query, value = (net.add("Transpose", part, perm=[0, 2, 1, 3]) for part in (query, value))
    scores = net.add("MatMul", query, net.add("Transpose", key, perm=[0, 2, 3, 1]))
    size = net.add("Gather", net.add("Shape", query), net.constant(-1), axis=0)
    scaled = net.add("Div", scores, net.add("Sqrt", net.add("Cast", size, to=FLOAT)))
    mixed = net.add("MatMul", net.add("Softmax", scaled, axis=-1), value)
    merged = net.add("Reshape", net.add("Transpose", mixed, perm=[0, 2, 1, 3]), net.constant([0, 0, 12]))
    stream = net.add("Add", stream, net.dense(merged, 8, 12))
    hidden = net.add("Erf", net.dense(_layer_norm(net, stream, 8), 9, 8))
    return net.done(net.dense(net.add("Add", stream, net.dense(hidden, 8, 9)), 2, 8))


def _one_head() -> ModelProto:
    """Without heads, queries and keys lose features of their own, and so do values; the divisor keeps its value."""
    net = Net()
    x = net.input("n", 5, 7)
    query, key, value = net.dense(x, 6, 7), net.dense(x, 6, 7), net.dense(x, 5, 7)
    scores = net.add("MatMul", query, net.add("Transpose", key, perm=[0, 2, 1]))
    size = net.add("Slice", net.add("Shape", query), net.constant([2]), net.constant([3]))
    scaled = net.add("Div", scores, net.add("Sqrt", net.add("Cast", size, to=FLOAT)))
    mixed = net.add("MatMul", net.add("Softmax", scaled, axis=-1), value)
    return net.done(net.dense(mixed, 2, 5))


def _grouped_query() -> ModelProto:
    """Four heads of queries, two of keys and values that are expanded to four: they are tied to those they share."""
    net = Net()
    x = net.input("n", 5, 7)
    query = net.add("Transpose", net.add("Reshape", net.dense(x, 12, 7), net.constant([0, 0, 4, 3])), perm=[0, 2, 1, 3])
    shared = []
    for _ in range(2):
        seen = net.add("Reshape", net.dense(x, 6, 7), net.constant([0, 0, 2, 1, 3]))
        turned = net.add("Transpose", seen, perm=[0, 2, 3, 1, 4])
        wide = net.add("Expand", turned, net.constant([1, 2, 2, 1, 3]))
        shared.append(net.add("Reshape", wide, net.constant([0, 4, -1, 3])))
    scores = net.add("MatMul", query, net.add("Transpose", shared[0], perm=[0, 1, 3, 2]))
    mixed = net.add("MatMul", net.add("Softmax", scores, axis=-1), shared[1])
    merged = net.add("Reshape", net.add("Transpose", mixed, perm=[0, 2, 1, 3]), net.constant([0, 0, 12]))
    return net.done(net.dense(merged, 7, 12))


def _heads_beside_the_batch() -> ModelProto:
    """As PyTorch's own attention: positions first, batch times heads on one axis, whose size is computed."""
    net = Net()
    x = net.input("t", "n", 7)
    shape = net.add("Shape", x)
    length, batch = (net.add("Gather", shape, net.constant([axis]), axis=0) for axis in (0, 1))
    target = net.add("Concat", length, net.add("Mul", batch, net.constant([2])), net.constant([3]), axis=0)
    query, key, value = (net.add("Reshape", net.dense(x, 6, 7), target) for _ in range(3))
    query, value = (net.add("Transpose", part, perm=[1, 0, 2]) for part in (query, value))
    scores = net.add("MatMul", query, net.add("Transpose", key, perm=[1, 2, 0]))
    mixed = net.add("Transpose", net.add("MatMul", net.add("Softmax", scores, axis=-1), value), perm=[1, 0, 2])
    merged = net.add("Reshape", mixed, net.add("Concat", length, batch, net.constant([6]), axis=0))
    return net.done(net.dense(merged, 2, 6))


def _folded_into_the_batch(*, counted: bool) -> ModelProto:
    """Patches as MobileViT takes them: batch, channels and rows of patches are one axis, whose size is computed.

    The number of channels is `counted` by a Shape, or written.
    """
    net = Net()
    x = net.input("n", 3, 4, 4)
    hidden = net.conv(x, 6, 3)
    shape = net.add("Shape", hidden)
    batch, channels = (net.add("Gather", shape, net.constant([axis]), axis=0) for axis in (0, 1))
    channels = channels if counted else net.constant([6])
    rows = net.add("Mul", net.add("Mul", batch, channels), net.constant([2]))
    patches = net.add("Reshape", hidden, net.add("Concat", rows, net.constant([2, 2, 2]), axis=0))
    turned = net.add("Transpose", patches, perm=[0, 2, 1, 3])
    seen = net.add("Reshape", turned, net.add("Concat", batch, channels, net.constant([4, -1]), axis=0))
    back = net.add("Reshape", net.add("Sigmoid", seen), net.add("Shape", hidden))
    return net.done(net.conv(back, 4, 6))


def _joined_projections() -> ModelProto:
    """One weight is joined of three, and its result cut into three."""
    net = Net()
    x = net.input("n", 5, 7)
    joined = net.add("Concat", *(net.weight(7, 6) for _ in range(3)), axis=1)
    query, key, value = net.many("Split", 3, net.add("MatMul", x, joined), axis=-1)
    scores = net.add("MatMul", query, net.add("Transpose", key, perm=[0, 2, 1]))
    return net.done(net.dense(net.add("MatMul", net.add("Softmax", scores, axis=-1), value), 2, 6))


# ---- weights --------------------------------------------------------------------------------------------------------


def _merged_biases() -> ModelProto:
    """An exporter has merged two biases of zeros: they go their own ways."""
    net = Net()
    zeros = net.constant(np.zeros(6), np.float32)
    hidden = net.input("n", 3, 4, 4)
    for read in (3, 6):
        hidden = net.add("Sigmoid", net.add("Conv", hidden, net.weight(6, read, 1, 1), zeros))
    return net.done(net.conv(hidden, 4, 6))


def _merged_with_a_held_one() -> ModelProto:
    """One of the merged biases is that of the output layer, which keeps its channels."""
    net = Net()
    ones = net.constant(np.ones(6), np.float32)
    hidden = net.add("Sigmoid", net.add("Conv", net.input("n", 3, 4, 4), net.weight(6, 3, 1, 1), ones))
    return net.done(net.add("Conv", hidden, net.weight(6, 6, 1, 1), ones))


def _siamese() -> ModelProto:
    """Two inputs go through the same weights, which stay shared."""
    net = Net()
    first, second = net.weight(6, 3, 1, 1), net.weight(6)
    last = net.weight(4, 6, 1, 1)
    parts = []
    for _ in range(2):
        hidden = net.add("Sigmoid", net.add("Conv", net.input("n", 3, 4, 4), first, second))
        parts.append(net.add("Conv", hidden, last))
    return net.done(net.add("Sub", *parts))


def _tied_embedding() -> ModelProto:
    """The table that looks words up is also the last layer."""
    net = Net()
    words = net.input("n", 5, kind=TensorProto.INT64)
    table = net.weight(9, 6)
    hidden = net.add("Relu", net.dense(net.add("Gather", table, words, axis=0), 6, 6))
    return net.done(net.add("MatMul", hidden, net.add("Transpose", table)))


def _transposed_twice() -> ModelProto:
    """One transposed weight serves two layers."""
    net = Net()
    weight = net.add("Transpose", net.weight(6, 6))
    hidden = net.dense(net.input("n", 5), 6, 5)
    for _ in range(2):
        hidden = net.add("Sigmoid", net.add("MatMul", hidden, weight))
    return net.done(net.dense(hidden, 3, 6))


def _cut_weight() -> ModelProto:
    """Two layers are stored in one tensor."""
    net = Net()
    first, second = net.many("Split", 2, net.weight(12, 3, 1, 1), axis=0)
    x = net.input("n", 3, 4, 4)
    made = [net.add("Sigmoid", net.add("Conv", x, part)) for part in (first, second)]
    return net.done(net.conv(made[0], 4, 6), net.conv(made[1], 4, 6))


def _flat_weight() -> ModelProto:
    """A kernel is stored flat, and gets its axes by Reshape and Unsqueeze."""
    net = Net()
    kernel = net.add("Reshape", net.weight(6, 3), net.constant([6, 3, 1, 1]))
    hidden = net.add("Sigmoid", net.add("Conv", net.input("n", 3, 4, 4), kernel))
    bias = net.add("Unsqueeze", net.weight(6), net.constant([1, 2]))
    return net.done(net.conv(net.add("Add", hidden, bias), 4, 6))


def _weight_to_output() -> ModelProto:
    """A weight is also an output of the network, and stays whole there."""
    net = Net()
    weight = net.weight(6, 3, 1, 1)
    hidden = net.add("Sigmoid", net.add("Conv", net.input("n", 3, 4, 4), weight))
    return net.done(net.conv(hidden, 4, 6), weight)


def _old_file() -> ModelProto:
    """IR version 3: initializers are inputs too."""
    net = Net(8, ir=3)
    hidden = net.conv(net.input("n", 3, 4, 4), 6, 3)
    first, second = net.many("Split", 2, net.add("Relu", hidden), axis=1)
    joined = net.add("Concat", net.conv(first, 5, 3), second, axis=1)
    flat = net.add("Reshape", joined, net.constant([-1, 128]))
    return net.done(net.gemm(flat, 4, 128))


def _old_merged() -> ModelProto:
    """IR version 3, with a tensor that is cut differently for two readers."""
    proto = _merged_biases()
    proto.ir_version = 3
    proto.graph.input.extend(
        helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
        for tensor in proto.graph.initializer
    )
    return proto


# ---- what cannot be seen through ------------------------------------------------------------------------------------


def _custom_branch() -> ModelProto:
    """An operator that nobody knows, beside the network: it keeps its own neighbours only."""
    net = Net()
    hidden = net.add("Relu", net.conv(net.input("n", 3, 4, 4), 6, 3))
    second = net.add("Relu", net.conv(hidden, 5, 6))
    side = net.add("Plugin", second, domain="vendor")
    return net.done(net.conv(net.conv(hidden, 7, 6), 4, 7), side)


def _custom_behind() -> ModelProto:
    """What comes behind an unknown operator has no shape, and is kept."""
    net = Net()
    hidden = net.add("Relu", net.conv(net.input("n", 3, 4, 4), 6, 3))
    unknown = net.add("Plugin", net.conv(hidden, 5, 6), domain="vendor")
    return net.done(net.conv(net.add("Relu", net.conv(unknown, 7, 5)), 4, 7))


def _unruled() -> ModelProto:
    """An operator that onnxruntime knows, without a rule."""
    net = Net()
    hidden = net.add("Binarizer", net.dense(net.input("n", 3), 6, 3), domain="ai.onnx.ml", threshold=0.5)
    return net.done(net.dense(net.add("Relu", net.dense(hidden, 7, 6)), 2, 7))


def _branches() -> ModelProto:
    """An If whose branches read a weight and an activation of the graph around it."""
    net = Net()
    choose = net.input(kind=TensorProto.BOOL)
    hidden = net.add("Sigmoid", net.conv(net.input(1, 3, 4, 4), 6, 3))
    shared = net.weight(5, 6, 1, 1)
    other = net.add("Sigmoid", net.add("Conv", net.add("Sigmoid", net.conv(hidden, 6, 6)), shared))
    result = helper.make_tensor_value_info("t", FLOAT, [1, 5, 4, 4])
    then = helper.make_graph([helper.make_node("Conv", ["inner", shared], ["t"])], "then", [], [result])
    then.node.insert(0, helper.make_node("Relu", [hidden], ["inner"]))
    result = helper.make_tensor_value_info("e", FLOAT, [1, 5, 4, 4])
    otherwise = helper.make_graph([helper.make_node("Neg", ["inner2"], ["e"])], "else", [], [result])
    otherwise.node.insert(0, helper.make_node("Conv", [hidden, shared], ["inner2"]))
    chosen = net.add("If", choose, then_branch=then, else_branch=otherwise)
    return net.done(net.add("Add", net.conv(net.add("Sigmoid", net.conv(other, 7, 5)), 5, 7), chosen))


def _constant_mask() -> ModelProto:
    """A mask stored as truth values has positions, not channels."""
    net = Net()
    hidden = net.conv(net.input("n", 3, 4, 4), 6, 3)
    mask = net.constant([[[True]], [[False]]] * 3, np.bool_)
    return net.done(net.conv(net.add("Where", mask, hidden, net.constant(0, np.float32)), 4, 6))


def _dead_end() -> ModelProto:
    """A branch that nobody reads stays as it is."""
    net = Net()
    hidden = net.conv(net.input("n", 3, 4, 4), 6, 3)
    net.add("Relu", hidden)
    return net.done(net.conv(hidden, 4, 6))


CASES: tuple[Case, ...] = (
    _case("residual", _residual, (5, 5, 8)),
    _case("residual with a projection", _projection, (5, 6, 9)),
    _case("residual to the input", _residual_to_input, (5,), ("GRAPH_INPUT", 6)),
    _case("dense blocks", _dense_blocks, (4, 5, 6)),
    _case("squeeze and excite", _squeeze_excite, (4, 8)),
    _case("squeeze and excite by dense layers", _squeeze_excite_dense, (5, 8)),
    _case("shortcut of zeros", _option_a, (2, 2, 4, 5, 7)),
    _case("ShuffleNet", _shuffle_net, (6, 8, 10)),
    _case("ShuffleNet v2", _shuffle_net_2, (2, 2, 4, 5, 5)),
    _case("pixel shuffle", _pixel_shuffle, (6,)),
    _case("generator", _generator, (5, 6)),
    _case("channels last", _channels_last, (5, 6)),
    _case("fully connected", _mlp, (6, 7)),
    _case("outer product, summed up", _outer_sum, (6, 7), scaled=False),
    _case("picture of any size", _any_picture, (5, 6)),
    _case("two heads", _two_heads, (5,)),
    _case("transformer", _transformer, (4, 9), ("NORMALIZED", 8), scaled=False),
    _case("attention with one head", _one_head, (5, 6), scaled=False),
    _case("grouped-query attention", _grouped_query, (2,), scaled=False),
    _case("heads beside the batch", _heads_beside_the_batch, (2,), scaled=False),
    _case("folded into the batch", lambda: _folded_into_the_batch(counted=False), (6,)),
    _case("folded into the batch, counted", lambda: _folded_into_the_batch(counted=True), (6,)),
    _case("joined projections", _joined_projections, (6, 6), scaled=False),
    _case("merged biases", _merged_biases, (6, 6)),
    _case("merged biases, one held", _merged_with_a_held_one, (6,)),
    _case("siamese", _siamese, (6,)),
    _case("tied embedding", _tied_embedding, (6,)),
    _case("transposed weight, twice", _transposed_twice, (6,)),
    _case("two layers in one tensor", _cut_weight, (6, 6)),
    _case("flat weight", _flat_weight, (6,)),
    _case("weight as an output", _weight_to_output, ()),
    _case("initializers as inputs", _old_file, (3, 3, 5)),
    _case("initializers as inputs, merged", _old_merged, (6, 6)),
    _case("unknown operator beside", _custom_branch, (6, 7), ("NO_RULE", 5), runs=False),
    _case("unknown operator within", _custom_behind, (6,), ("NO_RULE", 5), runs=False),
    _case("operator without a rule", _unruled, (7,), ("NO_RULE", 6)),
    _case("subgraphs", _branches, (7,), *[("SUBGRAPH", 5), ("SUBGRAPH", 6)] * 2),
    _case("stored mask", _constant_mask, (), ("POSITION", 6)),
    _case("dead end", _dead_end, (6,)),
)
