"""Cases of operators on sequences of tensors, and on tensors that may be missing."""

from collections.abc import Callable, Sequence

from net import Net
from onnx import ModelProto

from cases.case import Case, chain, row

__all__ = ["CASES"]


def _parts(
    sizes: Sequence[int], *, given: int | Sequence[int], axis: int = 1, order: Sequence[int] | None = None
) -> Callable[[], ModelProto]:
    """Parts of a layer, as exporters write `chunk` and `split`, each with a reader of its own."""

    def make() -> ModelProto:
        net = Net()
        hidden = net.conv(net.input("n", 3, 4, 4), sum(sizes), 3)
        parts = net.add("SplitToSequence", hidden, net.constant(given), axis=axis)
        read = []
        for place, size in enumerate(sizes):
            number = place if order is None else order[place]
            part = net.add("SequenceAt", parts, net.constant(number))
            read.append(net.conv(net.add("Relu", part), 4, size))
        return net.done(net.add("Sum", *read))

    return make


def _parts_of_positions(*, loose: bool) -> Callable[[], ModelProto]:
    """Two halves of the rows are added."""

    def make() -> ModelProto:
        net = Net()
        hidden = net.conv(net.input("n", 3, "rows" if loose else 4, 4), 6, 3)
        parts = net.add("SplitToSequence", hidden, net.constant(2), axis=-2)
        first, last = (net.add("SequenceAt", parts, net.constant(place)) for place in (0, 1))
        return net.done(net.conv(net.add("Add", first, last), 4, 6))

    return make


def _singles(keep: int, axis: int = 2) -> Callable[[Net, str], str]:
    """Every row is a tensor of its own."""

    def middle(net: Net, x: str) -> str:
        part = net.add("SequenceAt", net.add("SplitToSequence", x, axis=axis, keepdims=keep), net.constant(1))
        return part if keep else net.add("Unsqueeze", part, net.constant([axis]))

    return middle


def _built() -> ModelProto:
    """Two layers and a weight in a sequence, to which a third layer is added, and of which the first is taken away."""
    net = Net()
    x = net.input("n", 3, 4, 4)
    first, second, third = (net.conv(x, size, 3) for size in (5, 6, 7))
    built = net.add("SequenceConstruct", first, second, net.weight(1, 6, 1, 1))
    longer = net.add("SequenceInsert", built, third, net.constant(1))
    shorter = net.add("Identity", net.add("SequenceErase", longer, net.constant(0)))
    parts = [net.add("SequenceAt", shorter, net.constant(place)) for place in (0, 1, -1)]
    both = net.conv(net.add("Mul", parts[1], parts[2]), 4, 6)
    return net.done(net.add("Add", net.conv(parts[0], 4, 7), both), net.conv(first, 4, 5))


def _collected(net: Net, x: str) -> str:
    """A list that begins empty."""
    longer = net.add("SequenceInsert", net.add("SequenceEmpty"), x)
    count = net.add("Cast", net.add("SequenceLength", longer), to=1)
    return net.add("Mul", net.add("SequenceAt", longer, net.constant(0)), count)


def _at_run_time() -> ModelProto:
    """Which tensor is taken is told by an input."""
    net = Net()
    hidden = net.conv(net.input("n", 3, 4, 4), 6, 3)
    chosen = net.add("SequenceAt", net.add("SequenceConstruct", hidden, hidden), net.input(kind=7))
    return net.done(net.conv(chosen, 4, 6))


def _joined(*sizes: int, axis: int = 1, new_axis: int = 0, with_input: bool = False) -> Callable[[], ModelProto]:
    """Layers side by side, or one behind the other."""

    def make() -> ModelProto:
        net = Net()
        x = net.input("n", 3, 4, 4)
        more = [x] if with_input else []
        built = net.add("SequenceConstruct", *(net.conv(x, size, 3) for size in sizes), *more)
        joined = net.add("ConcatFromSequence", built, axis=axis, new_axis=new_axis)
        if new_axis:
            joined = net.add("ReduceMax", joined, axes=[axis], keepdims=0)
        return net.done(net.conv(joined, 4, sizes[0] if new_axis or axis != 1 else sum(sizes) + 3 * with_input))

    return make


def _cut_at_run_time() -> ModelProto:
    net = Net()
    hidden = net.conv(net.input("n", 3, 4, 4), 6, 3)
    parts = net.add("SplitToSequence", hidden, net.input(2, kind=7), axis=1)
    return net.done(net.add("ReduceMax", net.add("SequenceAt", parts, net.constant(0)), keepdims=0))


def _perhaps(net: Net, x: str) -> str:
    """A tensor that is certainly there."""
    there = net.add("OptionalGetElement", net.add("Optional", x))
    return net.add("Mul", there, net.add("Cast", net.add("OptionalHasElement", x), to=1))


_SPLIT = row("SplitToSequence")

CASES: tuple[Case, ...] = (
    Case(_SPLIT, "sizes", _parts([4, 6, 5], given=[4, 6, 5]), (4, 5, 6)),
    Case(_SPLIT, "one size", _parts([5, 5, 4], given=5), (4, 5, 5)),
    Case(_SPLIT, "negative axis and numbers", _parts([4, 6], given=[4, 6], axis=-3, order=[-2, -1]), (4, 6)),
    Case(_SPLIT, "a part of one channel", _parts([1, 6], given=[1, 6]), (6,), (("POSITION", 1),)),
    Case(_SPLIT, "rows", _parts_of_positions(loose=False), (6,)),
    Case(_SPLIT, "as many rows as there are", _parts_of_positions(loose=True), (6,), runs=False),
    Case(_SPLIT, "every row", chain(_singles(1)), (6,)),
    Case(_SPLIT, "every row, which goes", chain(_singles(0)), (6,)),
    Case(_SPLIT, "every channel", chain(_singles(1, axis=1), read=1), (), (("POSITION", 6),)),
    Case(_SPLIT, "sizes known at run time", _cut_at_run_time, (), (("UNSHAPED", 6),), runs=False),
    Case(row("SequenceAt"), "parts in another order", _parts([5, 6], given=[6, 5], order=[1, 0]), (5, 6)),
    Case(row("SequenceAt"), "known at run time", _at_run_time, (), (("RUNTIME", 6),)),
    Case(row("SequenceConstruct"), "layers and a weight", _built, (5, 6, 7), scaled=False),
    Case(row("SequenceInsert"), "before another", _built, (5, 6, 7)),
    Case(row("SequenceErase"), "the first", _built, (5, 6, 7)),
    Case(row("SequenceEmpty"), "filled", chain(_collected), (6,)),
    Case(row("SequenceLength"), "of one", chain(_collected), (6,)),
    Case(row("ConcatFromSequence"), "layers", _joined(5, 6), (5, 6)),
    Case(row("ConcatFromSequence"), "layers and the input", _joined(5, 6, with_input=True), (5, 6)),
    Case(row("ConcatFromSequence"), "rows", _joined(6, 6, axis=-1), (6,)),
    Case(row("ConcatFromSequence"), "stacked", _joined(6, 6, axis=0, new_axis=1), (6,)),
    Case(row("ConcatFromSequence"), "stacked behind", _joined(6, 6, axis=-1, new_axis=1), (6,)),
    *(
        Case(row(name), "there", chain(_perhaps, opset=18), (6,))
        for name in ("Optional", "OptionalGetElement", "OptionalHasElement")
    ),
)
