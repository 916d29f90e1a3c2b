"""Cases of operators that take positions by number, or put them there."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from net import Net
from onnx import ModelProto

from cases.case import Case, chain, row

__all__ = ["CASES"]


# ---- GatherElements, ScatterElements --------------------------------------------------------------------------------


def _spread(net: Net, x: str, numbers: Any, target: Sequence[int]) -> str:
    """Numbers spread over the axes of x; a zero in `target` stands for the size of x there."""
    shape = net.add("Shape", x)
    sizes = [
        net.constant([size]) if size else net.add("Slice", shape, net.constant([axis]), net.constant([axis + 1]))
        for axis, size in enumerate(target)
    ]
    return net.add("Expand", net.constant(numbers), net.add("Concat", *sizes, axis=0))


def _elements(numbers: Any, target: Sequence[int], axis: int) -> Callable[[Net, str], str]:
    return lambda net, x: net.add("GatherElements", x, _spread(net, x, numbers, target), axis=axis)


def _stored(operator: str, *shape: int, axis: int = -1, read: int = 6) -> Callable[[], ModelProto]:
    """Numbers that are stored."""

    def make() -> ModelProto:
        net = Net()
        hidden = net.conv(net.input(2, 3, 6, 6), 6, 3)
        numbers = np.argsort(net.rng.random(shape), axis=axis)
        put = [net.weight(*shape)] if operator.startswith("Scatter") else []
        return net.done(net.conv(net.add(operator, hidden, net.constant(numbers), *put, axis=axis), 4, read))

    return make


def _put(operator: str, axis: int, *, made: int = 6, **attributes: str) -> Callable[[Net, str], str]:
    """What another layer writes is put into a layer's positions, in another order."""

    def middle(net: Net, x: str) -> str:
        numbers = np.array([3, 1, 0, 2, 5, 4]).reshape([6 if k == axis else 1 for k in range(4)])
        put = net.add("Relu", net.conv(x, made, 6))
        return net.add(operator, x, _spread(net, put, numbers, [0, 0, 0, 0]), put, axis=axis, **attributes)

    return middle


# ---- GatherND, ScatterND --------------------------------------------------------------------------------------------

_PLACES = [[0, 1], [0, 3]]


def _at_places(domain: str = "") -> Callable[[], ModelProto]:
    """Features of two places of a sequence."""

    def make() -> ModelProto:
        net = Net()
        hidden = net.dense(net.input("n", 5, 3), 6, 3)
        return net.done(net.dense(net.add("GatherND", hidden, net.constant(_PLACES), domain=domain), 2, 6))

    return make


def _at_places_of_each() -> ModelProto:
    """Two places, others for each of the batch."""
    net = Net()
    hidden = net.dense(net.input("n", 5, 3), 6, 3)
    return net.done(net.dense(net.add("GatherND", hidden, net.input("n", 2, 1, kind=7), batch_dims=1), 2, 6))


def _channel_by_number() -> ModelProto:
    net = Net()
    hidden = net.conv(net.input("n", 3, 4, 4), 6, 3)
    taken = net.add("GatherND", hidden, net.constant([[0, 2]]))
    return net.done(net.add("Add", net.conv(hidden, 4, 6), taken))


def _heads_of_a_table() -> ModelProto:
    """A table of biases, one column per channel, is looked up at the places of a sequence."""
    net = Net()
    hidden = net.dense(net.input("n", 5, 3), 6, 3)
    rows = net.add("GatherND", net.weight(9, 6), net.constant([[2], [4], [0], [8], [2]]))
    return net.done(net.dense(net.add("Add", hidden, rows), 2, 6))


def _where_it_is_bright() -> ModelProto:
    """As many places as are found are looked at closer."""
    net = Net()
    hidden = net.conv(net.input("n", 3, 4, 4), 6, 3)
    plane = net.add("Squeeze", net.conv(hidden, 1, 6), net.constant([1]))
    bright = net.add("Greater", plane, net.add("ReduceMean", plane, axes=[1, 2]))
    found = net.add("Transpose", net.add("NonZero", bright))
    places = net.add("GatherND", net.add("Transpose", hidden, perm=[0, 2, 3, 1]), found)
    return net.done(net.gemm(net.add("Relu", net.gemm(places, 7, 6)), 2, 7))


def _put_at_places(**attributes: str) -> Callable[[], ModelProto]:
    def make() -> ModelProto:
        net = Net(18)
        hidden = net.dense(net.input("n", 5, 3), 6, 3)
        put = net.dense(net.add("GatherND", hidden, net.constant([[0, 0], [0, 2]])), 6, 6)
        made = net.add("ScatterND", hidden, net.constant(_PLACES), put, **attributes)
        return net.done(net.dense(made, 2, 6))

    return make


def _put_into_channels() -> ModelProto:
    net = Net()
    hidden = net.conv(net.input("n", 3, 4, 4), 6, 3)
    made = net.add("ScatterND", hidden, net.constant([[0, 2]]), net.weight(1, 4, 4))
    return net.done(net.conv(made, 4, 6))


def _cache() -> ModelProto:
    """Features are written into a cache of nine positions."""
    net = Net(24, ir=10)
    hidden = net.dense(net.input("n", 5, 3), 6, 3)
    cache = net.add("Expand", net.weight(1, 9, 1), net.add("Concat", _batch(net, hidden), net.constant([9, 6]), axis=0))
    made = net.add("TensorScatter", cache, hidden, net.input("n", kind=7))
    return net.done(net.dense(made, 2, 6))


def _batch(net: Net, x: str) -> str:
    return net.add("Shape", x, start=0, end=1)


# ---- OneHot, Compress, NonZero, Unique, ReverseSequence -------------------------------------------------------------


def _marked_words() -> ModelProto:
    """An embedding as a product with marks."""
    net = Net()
    marks = net.add("OneHot", net.input("n", 5, kind=7), net.constant(9), net.constant([0, 1], "f"))
    return net.done(net.dense(net.add("Relu", net.dense(marks, 6, 9)), 2, 6))


def _marked_levels(axis: int) -> Callable[[Net, str], str]:
    """Each channel's level is marked along a new axis, and the marks are weighed."""

    def middle(net: Net, x: str) -> str:
        level = net.add("Cast", net.add("Mul", net.add("Sigmoid", x), net.constant(4, "f")), to=7)
        marks = net.add("OneHot", level, net.constant(4), net.constant([0.5, 2], "f"), axis=axis)
        weighed = net.add("Mul", marks, net.weight(*([4] + [1] * (axis % 5 == 0) * 4)))
        return net.add("ReduceMax", weighed, axes=[axis], keepdims=0)

    return middle


def _compressed(named: list[bool]) -> Callable[[], ModelProto]:
    def make() -> ModelProto:
        net = Net()
        hidden = net.add("Sigmoid", net.conv(net.input("n", 3, 4, 4), 8, 3))
        taken = net.add("Compress", hidden, net.constant(named, bool), axis=1)
        pooled = net.add("GlobalMaxPool", net.conv(taken, 4, sum(named)))
        return net.done(net.add("Add", pooled, net.conv(hidden, 4, 8)))

    return make


def _compressed_at_run_time(axis: int) -> Callable[[], ModelProto]:
    """The first always stays."""

    def make() -> ModelProto:
        net = Net()
        hidden = net.conv(net.input("n", 3, 6, 6), 6, 3)
        named = net.add("Concat", net.constant([True], bool), net.input(5, kind=9), axis=0)
        taken = net.add("Compress", hidden, named, axis=axis)
        pooled = net.add("ReduceMax", taken, axes=[axis], keepdims=1)
        return net.done(net.conv(pooled, 4, 1 if axis == 1 else 6))

    return make


def _largest_place(operator: str, place: int, **attributes: int) -> Callable[[Net, str], str]:
    """Something is computed from the places that an operator finds."""

    def middle(net: Net, x: str) -> str:
        rounded = net.add("Round", x)
        found = net.many(operator, place + 1, rounded, **attributes)[place] if place else net.add(operator, rounded)
        return net.add("Add", x, net.add("ReduceMax", net.add("Cast", found, to=1), keepdims=0))

    return middle


def _largest_element(net: Net, x: str) -> str:
    flat = net.add("Reshape", x, net.constant([-1]))
    positive = net.add("Compress", x, net.add("Greater", flat, net.constant(0, "f")))
    return net.add("Add", x, net.add("ReduceMax", positive, keepdims=0))


def _turned(net: Net, x: str) -> str:
    """Each picture's first rows are turned round, some of one and more of the next."""
    lengths = net.add("Expand", net.constant([4]), _batch(net, x))
    rows = net.add("Transpose", x, perm=[2, 0, 1, 3])
    return net.add("Transpose", net.add("ReverseSequence", rows, lengths), perm=[1, 2, 0, 3])


def _turned_channels(net: Net, x: str) -> str:
    lengths = net.add("Expand", net.constant([4]), _batch(net, x))
    return net.add("ReverseSequence", x, lengths, time_axis=1, batch_axis=0)


_RUNTIME = (("RUNTIME", 6),)
_FEWER = (("POSITION", 4), ("POSITION", 6))

CASES: tuple[Case, ...] = (
    Case(row("GatherElements"), "positions", chain(_elements([[[[0, 3]]]], [0, 0, 0, 2], -1)), (6,)),
    Case(row("GatherElements"), "stored numbers", _stored("GatherElements", 2, 6, 6, 6), (6,)),
    Case(row("GatherElements"), "of a part", _stored("GatherElements", 2, 4, 3, 2, read=4), (), (("POSITION", 6),)),
    Case(
        row("GatherElements"),
        "channels",
        chain(_elements([[[[1]], [[5]]]], [0, 2, 0, 0], 1), read=2),
        (),
        _RUNTIME,
    ),
    *(
        case
        for name, opset in (("Scatter", 10), ("ScatterElements", 17))
        for case in (
            Case(row(name), "positions", chain(_put(name, 2), opset=opset), (6,)),
            Case(row(name), "channels", chain(_put(name, 1), opset=opset), (), (("RUNTIME", 6),) * 2),
            Case(row(name), "fewer channels", chain(_put(name, 3, made=4), opset=opset), (), _FEWER),
        )
    ),
    Case(row("ScatterElements"), "added", chain(_put("ScatterElements", 2, reduction="add")), (6,)),
    Case(row("ScatterElements"), "stored numbers", _stored("ScatterElements", 2, 6, 6, 3), (6,)),
    Case(row("GatherND"), "places", _at_places(), (6,)),
    Case(row("GatherND", domain="com.microsoft"), "contributed", _at_places("com.microsoft"), (6,)),
    Case(row("GatherND"), "places of each", _at_places_of_each, (6,)),
    Case(row("GatherND"), "a channel", _channel_by_number, (), _RUNTIME),
    Case(row("GatherND"), "a table", _heads_of_a_table, (6,)),
    Case(row("ScatterND"), "places", _put_at_places(), (6,)),
    Case(row("ScatterND"), "added", _put_at_places(reduction="add"), (6,)),
    Case(row("ScatterND"), "channels", _put_into_channels, (), _RUNTIME),
    Case(row("TensorScatter"), "cache", _cache, (6,)),
    Case(row("OneHot"), "words", _marked_words, (6,)),
    Case(row("OneHot"), "levels of channels", chain(_marked_levels(-1)), (6,)),
    Case(row("OneHot"), "levels of channels, first axis", chain(_marked_levels(0)), (6,)),
    Case(row("Compress"), "stored condition", _compressed([True, False, True, False, False, True]), (3, 5)),
    Case(row("Compress"), "positions", _compressed_at_run_time(2), (6,)),
    Case(row("Compress"), "channels", _compressed_at_run_time(1), (), _RUNTIME),
    Case(row("Compress"), "elements", chain(_largest_element), (), _RUNTIME),
    Case(row("NonZero"), "of channels", chain(_largest_place("NonZero", 0)), (), _RUNTIME),
    Case(row("NonZero"), "of a plane", _where_it_is_bright, (6, 7)),
    Case(row("Unique"), "elements", chain(_largest_place("Unique", 3)), (), (("MIXED", 6),)),
    Case(row("Unique"), "rows", chain(_largest_place("Unique", 3, axis=2)), (), (("MIXED", 6),)),
    Case(row("ReverseSequence"), "positions", chain(_turned), (6,)),
    Case(row("ReverseSequence"), "channels", chain(_turned_channels), (), _RUNTIME),
)
