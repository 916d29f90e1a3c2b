"""Cases of operators that join and take positions."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from net import Net
from onnx import ModelProto

from cases.case import Case, chain, row

__all__ = ["CASES"]

LAST = 2**63 - 1
FIRST = -(2**63)


# ---- Concat ---------------------------------------------------------------------------------------------------------


def _concat(*made: int, axis: int = 1) -> Callable[[], ModelProto]:
    def make() -> ModelProto:
        net = Net()
        x = net.input("n", 3, 4, 4)
        parts = [net.add("Relu", net.conv(x, size, 3)) for size in made]
        return net.done(net.conv(net.add("Concat", *parts, axis=axis), 4, sum(made)))

    return make


def _concat_with_input() -> ModelProto:
    """Channels of the input stand beside a layer's."""
    net = Net()
    x = net.input("n", 3, 4, 4)
    joined = net.add("Concat", net.conv(x, 6, 3), x, net.conv(x, 5, 3), axis=1)
    return net.done(net.conv(joined, 4, 14))


def _concat_of_positions() -> ModelProto:
    """Joined along a spatial axis: the channels of both live and die together."""
    net = Net()
    x = net.input("n", 3, 4, 4)
    joined = net.add("Concat", net.conv(x, 6, 3), net.conv(x, 6, 3), axis=2)
    return net.done(net.conv(joined, 4, 6))


def _concat_with_a_constant() -> ModelProto:
    """A class token: a weight stands before the positions."""
    net = Net()
    x = net.input(2, 5, 3)
    joined = net.add("Concat", net.weight(2, 1, 6), net.dense(x, 6, 3), axis=1)
    return net.done(net.dense(joined, 2, 6))


def _concat_twice() -> ModelProto:
    """The same tensor joined to itself."""
    net = Net()
    x = net.input("n", 3, 4, 4)
    hidden = net.conv(x, 6, 3)
    return net.done(net.conv(net.add("Concat", hidden, hidden, axis=1), 4, 12))


def _concat_positions_with_input() -> ModelProto:
    """Joined along a spatial axis with something that cannot go."""
    net = Net()
    x = net.input("n", 6, 4, 4)
    joined = net.add("Concat", net.conv(x, 6, 6), x, axis=2)
    return net.done(net.conv(joined, 4, 6))


# ---- Split ----------------------------------------------------------------------------------------------------------


def _split(
    opset: int, sizes: Sequence[int], *, given: bool = True, axis: int = 1, **attributes: Any
) -> Callable[[], ModelProto]:
    """Parts of a layer, each with a reader of its own."""

    def make() -> ModelProto:
        net = Net(opset)
        x = net.input("n", 3, 4, 4)
        hidden = net.conv(x, sum(sizes), 3)
        more = [net.constant(sizes)] if given and opset >= 13 else []
        named = {"split": list(sizes)} if given and opset < 13 else {}
        parts = net.many("Split", len(sizes), hidden, *more, axis=axis, **named, **attributes)
        read = [net.conv(net.add("Relu", part), 4, size) for part, size in zip(parts, sizes, strict=True)]
        return net.done(net.add("Sum", *read))

    return make


def _split_of_positions() -> ModelProto:
    net = Net()
    x = net.input("n", 3, 4, 4)
    parts = net.many("Split", 2, net.conv(x, 6, 3), axis=2)
    return net.done(net.conv(net.add("Add", *parts), 4, 6))


def _split_gate() -> ModelProto:
    """A gated linear unit: both halves are multiplied."""
    net = Net()
    x = net.input("n", 5, 3)
    value, gate = net.many("Split", 2, net.dense(x, 12, 3), axis=-1)
    return net.done(net.dense(net.add("Mul", value, net.add("Sigmoid", gate)), 2, 6))


def _split_and_joined() -> ModelProto:
    """Cut and joined again in the same order: nothing is tied, but no part may become empty."""
    net = Net()
    x = net.input("n", 3, 4, 4)
    first, second = net.many("Split", 2, net.conv(x, 10, 3), net.constant([4, 6]), axis=1)
    return net.done(net.conv(net.add("Concat", first, second, axis=1), 4, 10))


def _split_unused() -> ModelProto:
    """The first part has no name."""
    net = Net()
    x = net.input("n", 3, 4, 4)
    parts = net.many("Split", 2, net.conv(x, 10, 3), net.constant([4, 6]), axis=1)
    net.nodes[-1].output[0] = ""
    return net.done(net.conv(parts[1], 4, 6))


# ---- Slice ----------------------------------------------------------------------------------------------------------


def _sliced(
    opset: int, starts: list[int], ends: list[int], axes: list[int] | None, steps: list[int] | None
) -> Callable[[Net, str], str]:
    def middle(net: Net, x: str) -> str:
        if opset < 10:
            named = {} if axes is None else {"axes": axes}
            return net.add("Slice", x, starts=starts, ends=ends, **named)
        more = [net.constant(starts), net.constant(ends)]
        more += ["" if axes is None else net.constant(axes)] if axes is not None or steps is not None else []
        more += [] if steps is None else [net.constant(steps)]
        return net.add("Slice", x, *more)

    return middle


def _slice(
    starts: list[int],
    ends: list[int],
    axes: list[int] | None = None,
    steps: list[int] | None = None,
    *,
    opset: int = 17,
    made: int = 10,
) -> Callable[[], ModelProto]:
    """Some of ten channels go on by themselves; all of them have a second reader."""

    def make() -> ModelProto:
        net = Net(opset)
        x = net.input("n", 3, 4, 4)
        hidden = net.add("Sigmoid", net.conv(x, 10, 3))
        taken = _sliced(opset, starts, ends, axes, steps)(net, hidden)
        pooled = net.add("GlobalMaxPool", net.conv(net.add("Relu", taken), 4, made))
        return net.done(net.add("Add", pooled, net.conv(hidden, 4, 10)))

    return make


def _slice_positions(**options: Any) -> Callable[[], ModelProto]:
    return chain(lambda net, x: _sliced(17, [1, 0], [LAST, -1], [2, 3], None)(net, x))


def _slice_at_run_time() -> ModelProto:
    """A table is cut to the length of the input, which the file does not say: its rows are positions."""
    net = Net()
    x = net.input("n", "length", 3)
    length = net.add("Slice", net.add("Shape", x), net.constant([1]), net.constant([2]))
    rows = net.add("Slice", net.weight(64, 6), net.constant([0]), length, net.constant([0]))
    return net.done(net.dense(net.add("Add", net.dense(x, 6, 3), rows), 2, 6))


def _slice_half() -> ModelProto:
    """The bound is half the number of channels, computed in the network."""
    net = Net()
    x = net.input("n", 3, 4, 4)
    hidden = net.add("Sigmoid", net.conv(x, 10, 3))
    count = net.add("Gather", net.add("Shape", hidden), net.constant(1), axis=0)
    half = net.add("Unsqueeze", net.add("Div", count, net.constant(2)), net.constant([0]))
    whole = net.add(
        "Unsqueeze", net.add("Mul", net.add("Div", count, net.constant(2)), net.constant(2)), net.constant([0])
    )
    one = net.constant([1])
    first = net.add("Slice", hidden, net.constant([0]), half, one)
    second = net.add("Slice", hidden, half, whole, one)
    return net.done(net.add("Add", net.conv(first, 4, 5), net.conv(second, 4, 5)))


# ---- Gather, Pad ----------------------------------------------------------------------------------------------------


def _gather(indices: Any, *, axis: int = 1, dtype: Any = np.int64) -> Callable[[], ModelProto]:
    def make() -> ModelProto:
        net = Net()
        x = net.input("n", 3, 4, 4)
        hidden = net.add("Sigmoid", net.conv(x, 8, 3))
        taken = net.add("Gather", hidden, net.constant(indices, dtype), axis=axis)
        pooled = net.add("GlobalMaxPool", net.conv(taken, 4, len(indices) if axis == 1 else 8))
        return net.done(net.add("Add", pooled, net.conv(hidden, 4, 8)))

    return make


def _gather_in_a_row() -> ModelProto:
    """Indices of shape (1, 4), as exporters write a strided view."""
    net = Net()
    x = net.input("n", 3)
    hidden = net.gemm(x, 8, 3)
    taken = net.add("Gather", hidden, net.constant([[6, 0, 3, 1]]), axis=1)
    return net.done(
        net.add("Add", net.dense(taken, 2, 4), net.add("Unsqueeze", net.gemm(hidden, 2, 8), net.constant([1])))
    )


def _gather_one() -> ModelProto:
    """One channel is taken out, its axis goes away."""
    net = Net()
    x = net.input("n", 3, 4, 4)
    hidden = net.conv(x, 8, 3)
    single = net.add("Gather", hidden, net.constant(2), axis=1)
    wide = net.add("Unsqueeze", single, net.constant([1]))
    return net.done(net.add("Add", net.conv(hidden, 4, 8), wide))


def _embedding() -> ModelProto:
    net = Net()
    x = net.input("n", 5, kind=7)
    hidden = net.add("Gather", net.weight(9, 6), x, axis=0)
    return net.done(net.dense(net.add("Relu", hidden), 2, 6))


def _token() -> ModelProto:
    """One position of a sequence is taken: channels go on."""
    net = Net()
    x = net.input("n", 5, 3)
    return net.done(net.gemm(net.add("Gather", net.dense(x, 6, 3), net.constant(0), axis=1), 2, 6))


def _spread_look_up() -> ModelProto:
    """As many numbers as there are channels look up rows of a table: its rows meet the channels again."""
    net = Net()
    x = net.input("n", 3, 4, 4)
    hidden = net.conv(x, 6, 3)
    numbers = net.add("Expand", net.constant([1]), net.add("Shape", hidden, start=1, end=2))
    rows = net.add("Reshape", net.add("Gather", net.weight(3, 1), numbers), net.constant([1, -1, 1, 1]))
    return net.done(net.conv(net.add("Add", hidden, rows), 4, 6))


def _pad(
    opset: int, pads: list[int], *, axes: list[int] | None = None, mode: str = "constant", size: int = 6
) -> Callable[[], ModelProto]:
    def middle(net: Net, x: str) -> str:
        if opset < 11:
            return net.add("Pad", x, pads=pads, mode=mode, value=0.5)
        value = net.constant(0.5, "f") if mode == "constant" else ""
        more = [] if axes is None else [net.constant(axes)]
        return net.add("Pad", x, net.constant(pads), value, *more, mode=mode)

    return chain(middle, opset=opset, read=size)


def _pad_to_even(*, channels: int) -> Callable[[], ModelProto]:
    """Rows are added until their number is even, whatever it was; channels as told."""

    def make() -> ModelProto:
        net = Net()
        hidden = net.conv(net.input("n", 3, "rows", 4), 6, 3)
        odd = net.add("Mod", net.add("Shape", hidden, start=2, end=3), net.constant([2]))
        pads = net.add("Concat", net.constant([0, channels, 0, 0, 0, 0]), odd, net.constant([1]), axis=0)
        return net.done(net.conv(net.add("Pad", hidden, pads, net.constant(0.5, "f")), 4, 6 + channels))

    return make


_TEN = (10,)
_CUT = (3, 7)
_SLICE = row("Slice")

CASES: tuple[Case, ...] = (
    Case(row("Concat"), "three layers", _concat(5, 6, 7), (5, 6, 7)),
    Case(row("Concat"), "negative axis", _concat(5, 6, axis=-3), (5, 6)),
    Case(row("Concat"), "one layer", _concat(6), (6,)),
    Case(row("Concat"), "with the input", _concat_with_input, (5, 6)),
    Case(row("Concat"), "positions", _concat_of_positions, (6,)),
    Case(row("Concat"), "positions, with the input", _concat_positions_with_input, (), (("GRAPH_INPUT", 6),)),
    Case(row("Concat"), "a weight beside positions", _concat_with_a_constant, (6,)),
    Case(row("Concat"), "with itself", _concat_twice, (6,)),
    Case(row("Split"), "input", _split(13, [4, 6, 5]), (4, 5, 6)),
    Case(row("Split"), "attribute", _split(11, [4, 6, 5]), (4, 5, 6)),
    Case(row("Split"), "equal parts, opset 13", _split(13, [5, 5], given=False), (5, 5)),
    Case(row("Split"), "equal parts, opset 11", _split(11, [5, 5], given=False), (5, 5)),
    Case(row("Split"), "num_outputs", _split(18, [5, 5, 5], given=False, num_outputs=3), (5, 5, 5)),
    Case(row("Split"), "num_outputs, uneven", _split(18, [5, 5, 4], given=False, num_outputs=3), (4, 5, 5)),
    Case(row("Split"), "negative axis", _split(18, [4, 6], axis=-3), (4, 6)),
    Case(row("Split"), "a part of one channel", _split(13, [1, 6]), (6,), (("POSITION", 1),)),
    Case(row("Split"), "positions", _split_of_positions, (6,)),
    Case(row("Split"), "gate", _split_gate, (6,)),
    Case(row("Split"), "joined again", _split_and_joined, (4, 6)),
    Case(row("Split"), "a part without a name", _split_unused, (4, 6), runs=False),
    Case(_SLICE, "attributes", _slice([2], [9], [1], opset=9, made=7), _CUT),
    Case(_SLICE, "attributes without axes", _slice([0, 2], [LAST, 9], opset=9, made=7), _CUT),
    Case(_SLICE, "inputs", _slice([2], [9], [1], made=7), _CUT),
    Case(_SLICE, "without axes", _slice([0, 2], [LAST, 9], made=7), _CUT),
    Case(_SLICE, "negative bounds", _slice([-8], [-1], [1], made=7), _CUT),
    Case(_SLICE, "negative axis", _slice([2], [9], [-3], [1], made=7), _CUT),
    Case(_SLICE, "to the end", _slice([3], [LAST], [1], made=7), _CUT),
    Case(_SLICE, "beyond the end", _slice([-100], [7], [1], made=7), _CUT),
    Case(_SLICE, "two axes", _slice([2, 1], [9, 3], [1, 2], made=7), _CUT),
    Case(_SLICE, "the whole axis", _slice([0], [LAST], [1], made=10), _TEN),
    Case(_SLICE, "backwards", _slice([-1], [FIRST], [1], [-1], made=10), _TEN),
    Case(_SLICE, "backwards, part of it", _slice([8], [1], [1], [-1], made=7), _CUT),
    Case(_SLICE, "every second", _slice([1], [LAST], [1], [2], made=5), (5, 5)),
    Case(_SLICE, "every third, backwards", _slice([LAST], [FIRST], [1], [-3], made=4), (4, 6)),
    Case(_SLICE, "every second, beside a whole axis", _slice([0, 1], [LAST, LAST], [2, 1], [1, 2], made=5), (5, 5)),
    Case(_SLICE, "one channel", _slice([3], [4], [1], made=1), (9,), (("POSITION", 1),)),
    Case(_SLICE, "positions", _slice_positions(), (6,)),
    Case(_SLICE, "to a length known at run time", _slice_at_run_time, (6,)),
    Case(_SLICE, "bounds computed from the number of channels", _slice_half, (5, 5)),
    Case(row("Gather"), "some channels", _gather([6, 0, 3]), (3, 5)),
    Case(row("Gather"), "int32, negative", _gather([-1, -8, 3], dtype=np.int32), (3, 5)),
    Case(row("Gather"), "repeated", _gather([1, 1, 2, 5]), (2, 5), (("SINGLE", 1),)),
    Case(row("Gather"), "in a row", _gather_in_a_row, (4, 4)),
    Case(row("Gather"), "positions", _gather([1, 3], axis=2), (8,)),
    Case(row("Gather"), "one channel", _gather_one, (7,), (("POSITION", 1),)),
    Case(row("Gather"), "embedding", _embedding, (6,)),
    Case(row("Gather"), "one position", _token, (6,)),
    Case(row("Gather"), "as many numbers as channels", _spread_look_up, (6,)),
    Case(row("Pad"), "positions", _pad(17, [0, 0, 1, 1, 0, 0, 1, 1]), (6,)),
    Case(row("Pad"), "positions, reflected", _pad(17, [0, 0, 1, 1, 0, 0, 1, 1], mode="reflect"), (6,)),
    Case(row("Pad"), "positions, attribute", _pad(10, [0, 0, 1, 1, 0, 0, 1, 1]), (6,)),
    Case(row("Pad"), "positions, named axes", _pad(18, [1, 1, 1, 1], axes=[2, 3]), (6,)),
    Case(row("Pad"), "rows as many as are missing", _pad_to_even(channels=0), (6,)),
    Case(row("Pad"), "rows as many as are missing, and channels", _pad_to_even(channels=3), (3, 6)),
    Case(row("Pad"), "positions cut off", _pad(17, [0, 0, -1, -1, 0, 0, -1, -1]), (6,)),
    Case(row("Pad"), "channels", _pad(17, [0, 2, 0, 0, 0, 3, 0, 0], size=11), (2, 3, 6)),
    Case(row("Pad"), "channels, attribute", _pad(10, [0, 2, 0, 0, 0, 3, 0, 0], size=11), (2, 3, 6)),
    Case(row("Pad"), "channels, named axes", _pad(18, [2, 3], axes=[-3], size=11), (2, 3, 6)),
    Case(row("Pad"), "channels, on one side", _pad(17, [0, 0, 0, 0, 0, 3, 0, 0], size=9), (3, 6)),
)
