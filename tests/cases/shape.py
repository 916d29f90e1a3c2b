"""Cases of operators that rearrange axes."""

from collections.abc import Callable

import numpy as np
from net import Net
from onnx import ModelProto, numpy_helper

from cases.case import Case, chain, row

__all__ = ["CASES"]


def _features(
    middle: Callable[[Net, str], str], *, opset: int = 17, shape: tuple[int, ...] = (2, 2), read: int = 24
) -> Callable[[], ModelProto]:
    """Six channels of 2×2 positions become features of a fully connected layer."""

    def make() -> ModelProto:
        net = Net(opset)
        x = net.input("n", 3, *shape)
        hidden = net.add("Relu", net.conv(x, 6, 3, kernel=[1] * len(shape)))
        return net.done(net.gemm(middle(net, hidden), 4, read))

    return make


def _reshape(*target: int, **attributes: int) -> Callable[[Net, str], str]:
    return lambda net, x: net.add("Reshape", x, net.constant(target), **attributes)


def _computed_target(net: Net, x: str) -> str:
    """The sizes of the input, multiplied in the network."""
    shape = net.add("Shape", x)
    batch = net.add("Gather", shape, net.constant([0]), axis=0)
    sizes = [net.add("Gather", shape, net.constant(axis), axis=0) for axis in (1, 2, 3)]
    product = net.add("Mul", net.add("Mul", sizes[0], sizes[1]), sizes[2])
    return net.add("Reshape", x, net.add("Concat", batch, net.add("Unsqueeze", product, net.constant([0])), axis=0))


def _copied_target(net: Net, x: str) -> str:
    """As PyTorch exports x.view(x.size(0), -1)."""
    batch = net.add("Unsqueeze", net.add("Gather", net.add("Shape", x), net.constant(0), axis=0), net.constant([0]))
    return net.add("Reshape", x, net.add("Concat", batch, net.constant([-1]), axis=0))


def _split_and_merged(net: Net, x: str) -> str:
    """Six channels are seen as 2 × 3 and merged in the same order: nothing is tied."""
    seen = net.add("Relu", net.add("Reshape", x, net.constant([0, 2, 3, 4, 4])))
    return net.add("Reshape", seen, net.constant([0, 6, 4, 4]))


def _shuffled(net: Net, x: str) -> str:
    """A channel shuffle: what is left has to be a rectangle."""
    seen = net.add("Reshape", x, net.constant([0, 2, 3, 4, 4]))
    turned = net.add("Transpose", seen, perm=[0, 2, 1, 3, 4])
    return net.add("Reshape", turned, net.constant([0, 6, 4, 4]))


def _shuffled_by_size(net: Net, x: str) -> str:
    """A channel shuffle whose numbers are computed from the tensor's sizes."""
    shape = net.add("Shape", x)
    batch, channels, height, width = (net.add("Gather", shape, net.constant([axis]), axis=0) for axis in range(4))
    two = net.constant([2])
    target = net.add("Concat", batch, two, net.add("Div", channels, two), height, width, axis=0)
    turned = net.add("Transpose", net.add("Reshape", x, target), perm=[0, 2, 1, 3, 4])
    return net.add("Reshape", turned, net.add("Concat", batch, channels, height, width, axis=0))


def _scaled_halves(net: Net, x: str) -> str:
    """A factor per half of the channels uses one axis of the bundle by itself."""
    seen = net.add("Mul", net.add("Reshape", x, net.constant([0, 2, 3, 4, 4])), net.weight(2, 1, 1, 1))
    return net.add("Reshape", seen, net.constant([0, 6, 4, 4]))


def _scaled_columns(net: Net, x: str) -> str:
    """A factor per position in the half."""
    seen = net.add("Mul", net.add("Reshape", x, net.constant([0, 2, 3, 4, 4])), net.weight(1, 3, 1, 1))
    return net.add("Reshape", seen, net.constant([0, 6, 4, 4]))


def _scaled_all(net: Net, x: str) -> str:
    """A factor per channel, stored as (2, 3)."""
    seen = net.add("Mul", net.add("Reshape", x, net.constant([0, 2, 3, 4, 4])), net.weight(2, 3, 1, 1))
    return net.add("Reshape", seen, net.constant([0, 6, 4, 4]))


def _mixed_with_positions(net: Net, x: str) -> str:
    """Channels and rows turned round and merged: (n, 4, 6, 4) → (n, 24, 4) → back."""
    turned = net.add("Transpose", x, perm=[0, 2, 1, 3])
    merged = net.add("Relu", net.add("Reshape", turned, net.constant([0, 24, 4])))
    return net.add("Transpose", net.add("Reshape", merged, net.constant([0, 4, 6, 4])), perm=[0, 2, 1, 3])


def _copied_elsewhere() -> ModelProto:
    """(n, 4, C, 3, 2) → (n, 4·C, 3·2), where the last size is copied from that of the channels, as many by chance."""
    net = Net()
    hidden = net.add("Transpose", net.dense(net.input("n", 4, 3, 2, 5), 6, 5), perm=[0, 1, 4, 2, 3])
    merged = net.add("Relu", net.add("Reshape", hidden, net.constant([0, 24, 0])))
    seen = net.add("Reshape", merged, net.constant([0, 4, 6, 3, 2]))
    return net.done(net.dense(net.add("Transpose", seen, perm=[0, 1, 3, 4, 2]), 2, 6))


def _tokens() -> ModelProto:
    """Pictures become sequences, as in a vision transformer, at any batch size."""
    net = Net()
    x = net.input("n", 3, 4, 4)
    hidden = net.add("Reshape", net.conv(x, 6, 3), net.constant([0, 6, 16]))
    return net.done(net.dense(net.add("Transpose", hidden, perm=[0, 2, 1]), 2, 6))


def _attention() -> ModelProto:
    """Four heads of three: whole heads go, of queries, keys and values."""
    net = Net()
    x = net.input("n", 5, 7)
    query, key, value = (net.add("Reshape", net.dense(x, 12, 7), net.constant([0, 0, 4, 3])) for _ in range(3))
    query, value = (net.add("Transpose", part, perm=[0, 2, 1, 3]) for part in (query, value))
    scores = net.add("MatMul", query, net.add("Transpose", key, perm=[0, 2, 3, 1]))
    mixed = net.add("MatMul", net.add("Softmax", scores, axis=-1), value)
    merged = net.add("Reshape", net.add("Transpose", mixed, perm=[0, 2, 1, 3]), net.constant([0, 0, 12]))
    return net.done(net.dense(merged, 7, 12))


def _squeezed(opset: int) -> Callable[[], ModelProto]:
    """Pooled channels lose their spatial axes and get them back."""

    def middle(net: Net, x: str) -> str:
        pooled = net.add("GlobalAveragePool", x)
        if opset < 13:
            flat = net.add("Squeeze", pooled, axes=[2, -1] if opset >= 11 else [2, 3])
            return net.add("Unsqueeze", flat, axes=[2, 3])
        flat = net.add("Squeeze", pooled, net.constant([2, -1]))
        return net.add("Unsqueeze", flat, net.constant([2, -1]))

    return chain(middle, opset=opset)


def _squeeze_all() -> ModelProto:
    net = Net()
    x = net.input(2, 3, 4, 4)
    flat = net.add("Squeeze", net.add("GlobalMaxPool", net.conv(x, 6, 3)))
    return net.done(net.gemm(flat, 4, 6))


def _expand(*target: int) -> Callable[[Net, str], str]:
    return lambda net, x: net.add("Expand", net.add("GlobalAveragePool", x), net.constant(target))


def _expand_by_size(net: Net, x: str) -> str:
    """Pooled channels are spread over the picture again, to the shape of another tensor."""
    return net.add("Expand", net.add("GlobalAveragePool", x), net.add("Shape", x))


def _expand_channels(net: Net, x: str) -> str:
    """A plane becomes as many channels as are told."""
    plane = net.add("ReduceMax", x, axes=[1])
    return net.add("Add", x, net.add("Expand", plane, net.constant([1, 6, 1, 1])))


def _tile(*repeats: int) -> Callable[[Net, str], str]:
    return lambda net, x: net.add("Tile", x, net.constant(repeats))


def _tile_by_batch() -> ModelProto:
    """One token for each of the batch, at any batch size."""
    net = Net()
    hidden = net.dense(net.input("n", 5, 3), 6, 3)
    repeats = net.add("Concat", net.add("Shape", hidden, start=0, end=1), net.constant([1, 1]), axis=0)
    token = net.add("Tile", net.weight(1, 1, 6), repeats)
    return net.done(net.dense(net.add("Concat", token, hidden, axis=1), 2, 6))


def _scaled_by_size(net: Net, x: str) -> str:
    """The number of channels reaches arithmetic: it keeps its original value."""
    channels = net.add("Gather", net.add("Shape", x), net.constant(1), axis=0)
    return net.add("Div", x, net.add("Sqrt", net.add("Cast", channels, to=1)))


def _divided_by_elements(net: Net, x: str) -> str:
    """The number of elements reaches arithmetic, and depends on the batch: the channels have to stay."""
    return net.add("Div", x, net.add("Cast", net.add("Size", x), to=1))


def _size_of_positions(net: Net, x: str) -> str:
    """The number of positions is none of the channels' business."""
    plane = net.add("Slice", net.add("Shape", x), net.constant([2]), net.constant([4]))
    return net.add("Div", x, net.add("Cast", net.add("ReduceProd", plane, keepdims=0), to=1))


def _size_of_a_part(net: Net, x: str) -> str:
    return net.add("Mul", x, net.add("Cast", net.add("Shape", x, start=1, end=2), to=1))


def _numbered_positions(net: Net, x: str) -> str:
    """Positions are numbered as far as the picture is wide, and looked up in a table."""
    width = net.add("Gather", net.add("Shape", x), net.constant(3))
    numbers = net.add("Range", net.constant(0), width, net.constant(1))
    return net.add("Add", x, net.add("Gather", net.weight(9), numbers))


def _zeros(net: Net, x: str) -> str:
    """A tensor of zeros of the same shape is added."""
    return net.add("Add", x, net.add("ConstantOfShape", net.add("Shape", x)))


def _zeros_of_six(net: Net, x: str) -> str:
    return net.add("Add", x, net.add("ConstantOfShape", net.constant([6, 1, 1])))


def _zeros_joined(net: Net, x: str) -> str:
    """Constant channels are joined, as many as there are."""
    half = numpy_helper.from_array(np.array([0.5], dtype=np.float32))
    return net.add("Concat", x, net.add("ConstantOfShape", net.add("Shape", x), value=half), axis=1)


_RESHAPE = row("Reshape")
_FLATTEN = row("Flatten")

CASES: tuple[Case, ...] = (
    Case(_RESHAPE, "0, -1", _features(_reshape(0, -1)), (6,)),
    Case(_RESHAPE, "-1, 24", _features(_reshape(-1, 24)), (6,)),
    Case(_RESHAPE, "0, 24", _features(_reshape(0, 24)), (6,)),
    Case(_RESHAPE, "-1, 24, allowzero", _features(_reshape(-1, 24, allowzero=1)), (6,)),
    Case(_RESHAPE, "opset 5", _features(_reshape(0, -1), opset=7), (6,)),
    Case(_RESHAPE, "sizes multiplied", _features(_computed_target), (6,)),
    Case(_RESHAPE, "size of the batch copied", _features(_copied_target), (6,)),
    Case(_RESHAPE, "split and merged", chain(_split_and_merged, size=4), (6,)),
    Case(_RESHAPE, "shuffled", chain(_shuffled, size=4), (3,)),
    Case(_RESHAPE, "shuffled by computed sizes", chain(_shuffled_by_size, size=4), (3,)),
    Case(_RESHAPE, "a factor per row of a bundle", chain(_scaled_halves, size=4), (3,)),
    Case(_RESHAPE, "a factor per column of a bundle", chain(_scaled_columns, size=4), (2,)),
    Case(_RESHAPE, "a factor per place of a bundle", chain(_scaled_all, size=4), (2,)),
    Case(_RESHAPE, "merged with positions", chain(_mixed_with_positions, size=4), (6,)),
    Case(_RESHAPE, "size copied from another axis", _copied_elsewhere, (6,)),
    Case(_RESHAPE, "tokens", _tokens, (6,)),
    Case(_RESHAPE, "heads of attention", _attention, (4,), scaled=False),
    Case(_FLATTEN, "default axis", _features(lambda net, x: net.add("Flatten", x)), (6,)),
    Case(_FLATTEN, "axis -3", _features(lambda net, x: net.add("Flatten", x, axis=-3)), (6,)),
    Case(
        _FLATTEN,
        "axis 2",
        _features(lambda n, x: n.add("Flatten", n.add("Transpose", x, perm=[0, 2, 3, 1]), axis=3), read=6),
        (6,),
    ),
    Case(_FLATTEN, "opset 8", _features(lambda net, x: net.add("Flatten", x, axis=1), opset=8), (6,)),
    Case(
        _FLATTEN, "three spatial axes", _features(lambda net, x: net.add("Flatten", x), shape=(2, 1, 3), read=36), (6,)
    ),
    Case(
        _FLATTEN,
        "channels last",
        _features(lambda n, x: n.add("Flatten", n.add("Transpose", x, perm=[0, 2, 3, 1]))),
        (6,),
    ),
    Case(
        row("Transpose"),
        "channels last and back",
        chain(
            lambda n, x: n.add("Transpose", n.add("Relu", n.add("Transpose", x, perm=[0, 2, 3, 1])), perm=[0, 3, 1, 2])
        ),
        (6,),
    ),
    Case(
        row("Transpose"),
        "default order",
        chain(lambda n, x: n.add("Transpose", n.add("Relu", n.add("Transpose", x)))),
        (6,),
    ),
    *(
        Case(row(name), f"opset {opset}", _squeezed(opset), (6,))
        for name in ("Squeeze", "Unsqueeze")
        for opset in (9, 11, 13)
    ),
    Case(row("Squeeze"), "all axes of size one", _squeeze_all, (6,)),
    Case(row("Expand"), "positions", chain(_expand(1, 6, 6, 6)), (6,)),
    Case(row("Expand"), "positions, channels not named", chain(_expand(1, 1, 6, 6)), (6,)),
    Case(row("Expand"), "positions, lower rank", chain(_expand(6, 6)), (6,)),
    Case(row("Expand"), "to the shape of another", chain(_expand_by_size), (6,)),
    Case(row("Expand"), "a plane to channels", chain(_expand_channels), (), (("MIXED", 6),)),
    Case(row("Tile"), "positions", chain(_tile(1, 1, 2, 2)), (6,)),
    Case(row("Tile"), "for each of the batch", _tile_by_batch, (6,)),
    Case(row("Tile"), "channels", chain(_tile(1, 2, 1, 1), read=12), (6,)),
    Case(row("Shape"), "in arithmetic", chain(_scaled_by_size), (6,)),
    Case(row("Shape"), "of positions", chain(_size_of_positions), (6,)),
    Case(row("Shape"), "a part, in arithmetic", chain(_size_of_a_part), (6,)),
    Case(row("Size"), "in arithmetic, with the batch", chain(_divided_by_elements), (), (("RUNTIME", 6),)),
    Case(row("Range"), "positions looked up", chain(_numbered_positions), (6,)),
    Case(row("ConstantOfShape"), "of the same shape", chain(_zeros), (6,)),
    Case(row("ConstantOfShape"), "of a stored shape", chain(_zeros_of_six), (6,)),
    Case(row("ConstantOfShape"), "joined", chain(_zeros_joined, read=12), (6, 6)),
)
