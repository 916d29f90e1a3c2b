"""Cases of operators over spatial positions: pooling, reductions, resizing, channels turned into positions and back."""

from collections.abc import Callable
from typing import Any

import numpy as np
from net import Net
from onnx import ModelProto

from cases.case import Case, chain, row

__all__ = ["CASES"]


def _pool(operator: str, **attributes: Any) -> Callable[[Net, str], str]:
    return lambda net, x: net.add(operator, x, **attributes)


def _pool_with_indices(net: Net, x: str) -> str:
    """Indices count channels: they cannot go."""
    value, indices = net.many("MaxPool", 2, x, kernel_shape=[2, 2])
    return net.add("Add", value, net.add("Cast", indices, to=1))


def _reduce(
    operator: str, opset: int, axes: list[int] | None, *, keep: int = 1, **more: Any
) -> Callable[[Net, str], str]:
    by_input = opset >= (13 if operator == "ReduceSum" else 18)

    def middle(net: Net, x: str) -> str:
        positive = net.add("Sigmoid", x)
        if axes is None:
            return net.add(operator, positive, keepdims=keep, **more)
        if by_input:
            return net.add(operator, positive, net.constant(axes), keepdims=keep, **more)
        return net.add(operator, positive, axes=axes, keepdims=keep, **more)

    return middle


def _positions(operator: str, opset: int, axes: list[int]) -> Callable[[], ModelProto]:
    return chain(_reduce(operator, opset, axes), opset=opset)


def _channels(operator: str, opset: int, axes: list[int] | None, *, keep: int = 1) -> Callable[[], ModelProto]:
    """Reduced over channels: the result is read by nobody but the network's output."""

    def make() -> ModelProto:
        net = Net(opset)
        x = net.input("n", 3, 4, 4)
        return net.done(_reduce(operator, opset, axes, keep=keep)(net, net.conv(x, 6, 3)))

    return make


def _rows_gone(net: Net, x: str) -> str:
    """Over both spatial axes, which go away."""
    return net.add("Unsqueeze", _reduce("ReduceMean", 17, [2, -1], keep=0)(net, x), net.constant([2, 3]))


def _no_axes(net: Net, x: str) -> str:
    return net.add("ReduceSum", x, net.constant([]), noop_with_empty_axes=1)


def _arg(operator: str, axis: int, keep: int = 1) -> Callable[[], ModelProto]:
    def middle(net: Net, x: str) -> str:
        found = net.add("Cast", net.add(operator, x, axis=axis, keepdims=keep), to=1)
        return found if keep else net.add("Unsqueeze", found, net.constant([axis]))

    return chain(middle, read=1 if axis == 1 else 6)


def _top(opset: int, axis: int) -> Callable[[], ModelProto]:
    def middle(net: Net, x: str) -> str:
        if opset < 10:
            return net.many("TopK", 2, x, axis=axis, k=3)[0]
        values, indices = net.many("TopK", 2, x, net.constant([3]), axis=axis)
        return net.add("Add", values, net.add("Cast", indices, to=1))

    return chain(middle, opset=opset, read=3 if axis == 1 else 6)


def _cumulated(axis: int) -> Callable[[], ModelProto]:
    return chain(lambda net, x: net.add("CumSum", x, net.constant(axis)))


def _resize(
    opset: int, *, by: str, mode: str = "nearest", read: int = 6, named: list[int] | None = None, **other: Any
) -> Callable[[], ModelProto]:
    def middle(net: Net, x: str) -> str:
        more = other if named is None else {"axes": named, **other}
        scales = net.constant([1, 1, 2, 2] if named is None else [2, 2], np.float32)
        if opset == 10:
            return net.add("Resize", x, scales, mode=mode)
        roi = net.constant(np.zeros(0), np.float32) if opset < 13 else ""
        if by == "scales":
            return net.add("Resize", x, roi, scales, mode=mode, **more)
        empty = net.constant(np.zeros(0), np.float32) if opset < 13 else ""
        if by == "sizes":
            sizes = net.constant([2, 6, 7, 8] if named is None else [7, 8])
        else:
            shape = net.add("Shape", x)
            head = net.add("Slice", shape, net.constant([0]), net.constant([2]))
            sizes = net.add("Concat", head, net.constant([7, 8]), axis=0)
        return net.add("Resize", x, roi, empty, sizes, mode=mode, **more)

    def make() -> ModelProto:
        net = Net(opset)
        x = net.input(2 if by == "sizes" and named is None else "n", 3, 6, 6)
        return net.done(net.conv(middle(net, net.conv(x, 6, 3)), 4, read))

    return make


def _upsample(opset: int) -> Callable[[], ModelProto]:
    def middle(net: Net, x: str) -> str:
        if opset < 9:
            return net.add("Upsample", x, scales=[1.0, 1.0, 2.0, 2.0], mode="nearest")
        return net.add("Upsample", x, net.constant([1, 1, 2, 2], np.float32), mode="linear")

    return chain(middle, opset=opset)


def _resized_in_shape(policy: str, *, axes: list[int] | None = None) -> Callable[[], ModelProto]:
    """Sizes that bound the result, whose proportions stay."""

    def make() -> ModelProto:
        net = Net(18)
        hidden = net.conv(net.input(2, 3, 6, 6), 6, 3)
        sizes = net.constant([2, 6, 7, 9] if axes is None else [7, 8])
        named = {} if axes is None else {"axes": axes}
        made = net.add("Resize", hidden, "", "", sizes, keep_aspect_ratio_policy=policy, **named)
        return net.done(net.conv(made, 4, 6))

    return make


def _resized_channels(scale: float, **more: Any) -> Callable[[], ModelProto]:
    """A scale so close to one that as many channels come out as went in."""

    def middle(net: Net, x: str) -> str:
        roi = net.constant([0, 0, 0, 0, 1, 0.9, 1, 1], np.float32) if more else ""
        return net.add(
            "Resize", x, roi, net.constant([1, scale, 2, 2], np.float32), mode="linear" if more else "nearest", **more
        )

    return chain(middle)


def _unpooled(opset: int, *, sizes: str = "", size: int = 6, **more: Any) -> Callable[[], ModelProto]:
    """Maxima go back to where they were."""

    def middle(net: Net, x: str) -> str:
        value, places = net.many("MaxPool", 2, x, kernel_shape=[2, 2], strides=[2, 2])
        shape = [net.add("Shape", x)] if sizes == "computed" else []
        return net.add("MaxUnpool", value, places, *shape, kernel_shape=[2, 2], strides=[2, 2], **more)

    return chain(middle, opset=opset, size=size)


def _unpooled_any(*, sizes: bool) -> Callable[[], ModelProto]:
    """Pictures of any size, which planes have again only where it is said."""

    def make() -> ModelProto:
        net = Net()
        hidden = net.conv(net.input("n", 3, "h", "w"), 6, 3)
        value, places = net.many("MaxPool", 2, hidden, kernel_shape=[2, 2], strides=[2, 2])
        shape = [net.add("Shape", hidden)] if sizes else []
        made = net.add("MaxUnpool", value, places, *shape, kernel_shape=[2, 2], strides=[2, 2])
        return net.done(net.conv(made, 4, 6))

    return make


def _unpooled_elsewhere(net: Net, x: str) -> str:
    """Other maxima than those that the places are of: still as many."""
    places = net.many("MaxPool", 2, x, kernel_shape=[2, 2], strides=[2, 2])[1]
    value = net.add("MaxPool", net.conv(x, 6, 6), kernel_shape=[2, 2], strides=[2, 2])
    return net.add("MaxUnpool", value, places, kernel_shape=[2, 2], strides=[2, 2])


def _centred(sizes: list[int], *, axes: list[int] | None, read: int = 6) -> Callable[[], ModelProto]:
    def middle(net: Net, x: str) -> str:
        named = {} if axes is None else {"axes": axes}
        return net.add("CenterCropPad", x, net.constant(sizes), **named)

    def make() -> ModelProto:
        net = Net(18)
        return net.done(net.conv(middle(net, net.conv(net.input(2, 3, 6, 6), 6, 3)), 4, read))

    return make


def _folded() -> ModelProto:
    """Columns of 2×3 blocks are added up to a picture."""
    net = Net(18)
    hidden = net.add("Relu", net.conv(net.input("n", 3, 20), 30, 3, kernel=[1]))
    made = net.add("Col2Im", hidden, net.constant([5, 7]), net.constant([2, 3]))
    return net.done(net.conv(made, 4, 5))


def _multiplied_up(axis: int) -> Callable[[], ModelProto]:
    return chain(lambda net, x: net.add("CumProd", net.add("Tanh", x), net.constant(axis)), opset=26)


def _to_space(opset: int = 17, size: int = 24, **more: Any) -> Callable[[], ModelProto]:
    return chain(lambda net, x: net.add("DepthToSpace", x, blocksize=2, **more), opset=opset, made=size, read=size // 4)


_POOLS = ["AveragePool", "MaxPool", "LpPool"]
_GLOBAL = ["GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"]
_EXACT = ["ReduceSum", "ReduceSumSquare", "ReduceL1", "ReduceL2"]
_OTHER = ["ReduceMax", "ReduceMin", "ReduceProd", "ReduceLogSum", "ReduceLogSumExp"]
_MIXED = (("MIXED", 6),)

CASES: tuple[Case, ...] = (
    *(Case(row(name), "two by two", chain(_pool(name, kernel_shape=[2, 2], strides=[2, 2])), (6,)) for name in _POOLS),
    *(Case(row(name), "whole picture", chain(_pool(name)), (6,)) for name in _GLOBAL),
    Case(
        row("AveragePool"),
        "ceil_mode and pads",
        chain(_pool("AveragePool", kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4, ceil_mode=1)),
        (6,),
    ),
    Case(row("MaxPool"), "with indices", chain(_pool_with_indices), (), _MIXED),
    *(
        case
        for name in (*_EXACT, *_OTHER)
        for case in (
            Case(row(name), "positions, axes attribute", _positions(name, 11, [2, 3]), (6,)),
            Case(row(name), "positions, axes input", _positions(name, 18, [-1, 2]), (6,)),
        )
    ),
    *(
        case
        for name in _EXACT
        for case in (
            Case(row(name), "channels", _channels(name, 17, [1]), (6,), scaled=False),
            Case(row(name), "channels, which go", _channels(name, 17, [-3], keep=0), (6,), scaled=False),
            Case(row(name), "channels and positions", _channels(name, 18, [1, 2, 3]), (6,), scaled=False),
            Case(row(name), "everything", _channels(name, 17, None), (6,), scaled=False),
        )
    ),
    *(Case(row(name), "channels", _channels(name, 17, [1]), (), _MIXED) for name in _OTHER),
    *(
        Case(row("ReduceMean"), f"channels, {opset}", _channels("ReduceMean", opset, [1]), (6,), scaled=False)
        for opset in (11, 18)
    ),
    Case(row("ReduceMean"), "channels, which go", _channels("ReduceMean", 18, [1], keep=0), (6,), scaled=False),
    Case(row("ReduceMean"), "everything", _channels("ReduceMean", 17, None, keep=0), (6,), scaled=False),
    Case(row("ReduceMean"), "positions, which go", chain(_rows_gone), (6,)),
    Case(row("ReduceSum"), "no axes, nothing done", chain(_no_axes), (6,)),
    *(
        case
        for name in ("ArgMax", "ArgMin")
        for case in (
            Case(row(name), "channels", _arg(name, 1), (), _MIXED),
            Case(row(name), "positions", _arg(name, -1), (6,)),
            Case(row(name), "positions, which go", _arg(name, 2, keep=0), (6,)),
        )
    ),
    Case(row("TopK"), "channels", _top(17, 1), (), _MIXED),
    Case(row("TopK"), "positions", _top(17, -1), (6,)),
    Case(row("TopK"), "positions, opset 9", _top(9, 3), (6,)),
    Case(row("CumSum"), "channels", _cumulated(1), (), _MIXED),
    Case(row("CumSum"), "positions", _cumulated(-1), (6,)),
    Case(row("Resize"), "scales, opset 10", _resize(10, by="scales"), (6,)),
    Case(row("Resize"), "scales, opset 11", _resize(11, by="scales"), (6,)),
    Case(row("Resize"), "scales, opset 13, linear", _resize(13, by="scales", mode="linear"), (6,)),
    Case(row("Resize"), "sizes", _resize(13, by="sizes"), (6,)),
    Case(row("Resize"), "sizes, opset 11", _resize(11, by="sizes"), (6,)),
    Case(row("Resize"), "sizes from the picture", _resize(13, by="shape", mode="linear"), (6,)),
    Case(row("Resize"), "scales of named axes", _resize(18, by="scales", named=[2, 3]), (6,)),
    Case(row("Resize"), "sizes of named axes", _resize(18, by="sizes", named=[2, 3]), (6,)),
    Case(row("Resize"), "not larger than sizes", _resized_in_shape("not_larger"), (6,)),
    Case(row("Resize"), "not smaller than sizes of named axes", _resized_in_shape("not_smaller", axes=[2, 3]), (6,)),
    Case(row("Resize"), "antialiased", _resize(18, by="scales", mode="linear", antialias=1), (6,)),
    Case(row("Resize"), "scales near one", _resized_channels(1.05), (), (("POSITION", 6),)),
    Case(
        row("Resize"),
        "a part of the channels",
        _resized_channels(1, coordinate_transformation_mode="tf_crop_and_resize"),
        (),
        (("POSITION", 6),),
    ),
    Case(row("MaxUnpool"), "opset 9", _unpooled(9), (6,)),
    Case(row("MaxUnpool"), "computed shape", _unpooled(17, sizes="computed", size=7), (6,)),
    Case(row("MaxUnpool"), "smaller than before", _unpooled(17, size=7), (), _MIXED, runs=False),
    Case(row("MaxUnpool"), "of any size", _unpooled_any(sizes=False), (), _MIXED, runs=False),
    Case(row("MaxUnpool"), "of any size, computed shape", _unpooled_any(sizes=True), (6,)),
    Case(row("MaxUnpool"), "of another layer", chain(_unpooled_elsewhere), (6,)),
    Case(row("CenterCropPad"), "all axes", _centred([2, 6, 4, 8], axes=None), (6,)),
    Case(row("CenterCropPad"), "named axes", _centred([4, 9], axes=[-1, 2]), (6,)),
    Case(row("CenterCropPad"), "channels", _centred([4], axes=[1], read=4), (), (("POSITION", 6),)),
    Case(row("Col2Im"), "of a layer", _folded, (5,)),
    Case(row("CumProd"), "channels", _multiplied_up(1), (), _MIXED),
    Case(row("CumProd"), "positions", _multiplied_up(-1), (6,)),
    Case(row("Upsample"), "attribute", _upsample(7), (6,)),
    Case(row("Upsample"), "input", _upsample(9), (6,)),
    Case(row("DepthToSpace"), "DCR", _to_space(), (6,)),
    Case(row("DepthToSpace"), "CRD", _to_space(mode="CRD"), (6,)),
    Case(row("DepthToSpace"), "opset 10", _to_space(opset=10), (6,)),
    Case(row("DepthToSpace"), "one channel is made", _to_space(size=4), (), (("POSITION", 1),)),
    Case(
        row("SpaceToDepth"), "of layers", chain(lambda net, x: net.add("SpaceToDepth", x, blocksize=2), read=24), (6,)
    ),
)
