"""Recurrent networks put together at random, states and directions handled in as many ways as exporters know."""

from collections.abc import Callable

import numpy as np
from cases.recurrent import Layer, merged
from hypothesis import HealthCheck, given, settings
from net import Net
from onnx import ModelProto
from oracle import assert_sound, prune_random
from test_fuzz_graphs import SEEDS, Choose, Stream, chooser

SIZES = {"x0": (5, 3, 7)}


def linear(s: Stream, x: str, read: int, made: int) -> str:
    """A layer whose outputs are about one in size, so that no gate is far out."""
    return s.net.add("MatMul", x, s.net.constant(s.net.rng.standard_normal((read, made)) / read**0.5, np.float32))


def layer(s: Stream) -> Layer:
    operator = s.choose(("LSTM", "GRU", "RNN"))
    more = {"linear_before_reset": s.pick(0, 1)} if operator == "GRU" else {}
    return Layer(
        operator,
        s.choose(("forward", "reverse", "bidirectional")),
        read=s.channels,
        made=s.pick(3, 4, 6),
        bias=bool(s.pick(0, 1)),
        peepholes=operator == "LSTM" and bool(s.pick(0, 1)),
        more=more,
    )


def state(s: Stream, own: Layer) -> str:
    """An initial state of (directions, batch, hidden): none, zeros, a learned one, one that is computed."""
    form, count = s.pick(0, 1, 2, 3, 4), own.directions
    batch = s.net.add("Slice", s.net.add("Shape", s.name), s.net.constant([1]), s.net.constant([2]))
    sizes = s.net.add("Concat", s.net.constant([count]), batch, s.net.constant([own.made]), axis=0)
    if form == 0:
        return ""
    if form == 1:
        return s.net.add("ConstantOfShape", sizes)
    if form == 2:
        return s.net.add("Expand", s.net.weight(count, 1, own.made), sizes)
    summed = s.net.add("Tanh", s.net.add("ReduceMean", s.name, axes=[0], keepdims=0))
    if form == 3:
        wide = s.net.add(
            "Reshape", linear(s, summed, s.channels, count * own.made), s.net.constant([0, count, own.made])
        )
        return s.net.add("Transpose", wide, perm=[1, 0, 2])
    each = [s.net.add("Unsqueeze", linear(s, summed, s.channels, own.made), s.net.constant([0])) for _ in range(count)]
    return s.net.add("Concat", *each, axis=0)


def outputs(s: Stream) -> tuple[Layer, list[str]]:
    own = layer(s)
    states = [state(s, own) for _ in range(2 if own.operator == "LSTM" else 1)]
    return own, own.apply(s.net, s.name, states=states)


def apart(s: Stream, y: str, axis: int) -> list[str]:
    """Both directions of a tensor that has them along an axis."""
    form = s.pick(0, 1, 2)
    if form == 0:
        return [s.net.add("Gather", y, s.net.constant(place), axis=axis) for place in (0, 1)]
    if form == 1:
        parts = s.net.many("Split", 2, y, axis=axis)
    else:
        cut = [[s.net.constant([value]) for value in (place, place + 1, axis)] for place in (0, 1)]
        parts = [s.net.add("Slice", y, *numbers) for numbers in cut]
    return [s.net.add("Squeeze", part, s.net.constant([axis])) for part in parts]


def over_time(s: Stream) -> Stream:
    """All steps, of both directions in one of several ways."""
    own, (y, *_) = outputs(s)
    if own.directions == 1:
        made = s.net.add("Squeeze", y, s.net.constant([1])) if s.pick(0, 1) else merged(s.net, y)
        return s.moved(made, own.made)
    form = s.pick(0, 0, 1, 2, 3)
    if form == 0:
        return s.moved(merged(s.net, y), 2 * own.made)
    if form == 1:
        return s.moved(s.net.add("ReduceSum", y, s.net.constant([1]), keepdims=0), own.made)
    parts = apart(s, y, 1)
    if form == 2:
        return s.moved(s.net.add("Concat", *parts[:: s.pick(1, -1)], axis=-1), 2 * own.made)
    return s.moved(s.net.add("Mul", *parts), own.made)


def spread(s: Stream) -> Stream:
    """The last state or cells, added to every step."""
    own, (_, *ends) = outputs(s)
    last = ends[s.pick(0, len(ends) - 1)]
    turned = s.net.add("Reshape", s.net.add("Transpose", last, perm=[1, 0, 2]), s.net.constant([0, -1]))
    told = linear(s, turned, own.directions * own.made, s.channels)
    return s.moved(s.net.add("Add", s.name, told))


def handed_on(s: Stream) -> Stream:
    """The last states of one layer are the first ones of the next."""
    own, (y, *ends) = outputs(s)
    inner = s.moved(merged(s.net, y), own.directions * own.made)
    same = Layer(own.operator, own.direction, read=inner.channels, made=own.made, bias=own.bias, more=own.more)
    made = same.apply(s.net, inner.name, states=ends)[0]
    return s.moved(merged(s.net, made), inner.channels)


def dense(s: Stream) -> Stream:
    made = s.pick(4, 6)
    return s.moved(s.net.add("Tanh", linear(s, s.name, s.channels, made)), made)


def added(s: Stream) -> Stream:
    """A layer beside the stream."""
    inner = over_time(s)
    return s.moved(s.net.add("Add", s.name, linear(s, inner.name, inner.channels, s.channels)))


def joined(s: Stream) -> Stream:
    inner = over_time(s)
    return s.moved(s.net.add("Concat", s.name, inner.name, axis=-1), s.channels + inner.channels)


PIECES: tuple[Callable[[Stream], Stream], ...] = (
    over_time, over_time, spread, handed_on, dense, added, joined,
)  # fmt: skip


def drawn(choose: Choose) -> ModelProto:
    net = Net(17, seed=choose(range(10)))
    stream = Stream(net, net.dense(net.input("t", "n", 7), 6, 7), 6, choose)
    for _ in range(choose(range(1, 4))):
        stream = choose(PIECES)(stream)
    return net.done(linear(stream, stream.name, stream.channels, 3))


@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(seed=SEEDS)
def test_any_plan_is_sound(seed: int) -> None:
    rng = np.random.default_rng(seed)
    proto = drawn(chooser(rng))
    share = float(rng.choice([0.3, 0.6, 1.0]))
    assert_sound(proto, rng, shares=(share,), sizes=({}, SIZES), powerful=False)


@settings(max_examples=10, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(seed=SEEDS)
def test_what_was_pruned_can_be_pruned_again(seed: int) -> None:
    rng = np.random.default_rng(seed)
    proto = drawn(chooser(rng))
    once = prune_random(proto, rng, 0.3).proto
    assert_sound(once, rng, shares=(0.5,), sizes=(SIZES,), powerful=False)
