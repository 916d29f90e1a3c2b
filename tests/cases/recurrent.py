"""Cases of LSTM, GRU and RNN: gates, directions, states, outputs, weights."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from net import Net
from onnx import ModelProto, TensorProto, helper

from cases.case import Case, Row, row

__all__ = ["CASES", "GATES", "Layer", "features", "merged"]

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
_BOTH = "bidirectional"
ENDS = ("forward", "reverse", _BOTH)

Make = Callable[[], ModelProto]


@dataclass(frozen=True)
class Layer:
    """One recurrent layer: what it is told besides its weights."""

    operator: str
    direction: str = "forward"
    read: int = 5
    made: int = 6
    bias: bool = True
    peepholes: bool = False
    more: dict[str, Any] = field(default_factory=dict)

    @property
    def directions(self) -> int:
        return 2 if self.direction == "bidirectional" else 1

    def weights(self, net: Net) -> list[str]:
        """W, R and B."""
        gates, count = GATES[self.operator], self.directions
        shapes = [(count, gates * self.made, self.read), (count, gates * self.made, self.made)]
        shapes += [(count, 2 * gates * self.made)] if self.bias else []
        # Small, so that gates are not saturated.
        return [net.constant(0.7 * net.rng.standard_normal(shape), np.float32) for shape in shapes]

    def apply(
        self, net: Net, x: str, *, states: Sequence[str] = (), lengths: str = "", weights: Sequence[str] = ()
    ) -> list[str]:
        """The node; returns Y, Y_h and, of an LSTM, Y_c."""
        given = [x, *(weights or self.weights(net))]
        if states or lengths or self.peepholes:
            given += [""] * (4 - len(given)) + [lengths, *states]
        if self.peepholes:
            given += [""] * (7 - len(given)) + [net.weight(self.directions, 3 * self.made)]
        outputs = 3 if self.operator == "LSTM" else 2
        return net.many(self.operator, outputs, *given, hidden_size=self.made, direction=self.direction, **self.more)


def merged(net: Net, y: str) -> str:
    """(time, directions, batch, hidden) → (time, batch, directions · hidden)."""
    return net.add("Reshape", net.add("Transpose", y, perm=[0, 2, 1, 3]), net.constant([0, 0, -1]))


def features(net: Net, batch: int | str = "n") -> str:
    """What a layer hears: five numbers, by another layer."""
    return net.dense(net.input("t", batch, 3), 5, 3)


def _plain(operator: str, direction: str = "forward", *, opset: int = 17, made: int = 6, **more: Any) -> Make:
    """A layer, its outputs over time, and what reads them."""
    names = ("bias", "peepholes")
    layer = Layer(
        operator,
        direction,
        made=made,
        more={name: value for name, value in more.items() if name not in names},
        **{name: more[name] for name in names if name in more},
    )

    def make() -> ModelProto:
        net = Net(opset)
        y = layer.apply(net, features(net))[0]
        return net.done(net.dense(merged(net, y), 2, made * layer.directions))

    return make


# ---- initial states -------------------------------------------------------------------------------------------------


def _sizes_of(net: Net, x: str, directions: int) -> str:
    """(directions, batch, 6), with the batch of x."""
    batch = net.add("Slice", net.add("Shape", x), net.constant([1]), net.constant([2]))
    return net.add("Concat", net.constant([directions]), batch, net.constant([6]), axis=0)


def _zeros(net: Net, x: str, directions: int) -> str:
    return net.add("ConstantOfShape", _sizes_of(net, x, directions))


def _halves(net: Net, x: str, directions: int) -> str:
    value = helper.make_tensor("value", TensorProto.FLOAT, [1], [0.5])
    return net.add("ConstantOfShape", _sizes_of(net, x, directions), value=value)


def _expanded(net: Net, x: str, directions: int) -> str:
    return net.add("Expand", net.constant(0, np.float32), _sizes_of(net, x, directions))


def _learned(net: Net, x: str, directions: int) -> str:
    return net.add("Expand", net.weight(directions, 1, 6), _sizes_of(net, x, directions))


def _stored(net: Net, x: str, directions: int) -> str:
    return net.weight(directions, 4, 6)


def _computed(net: Net, x: str, directions: int) -> str:
    """From the first step, by a layer whose outputs are the units of all directions."""
    first = net.add("Gather", x, net.constant(0), axis=0)
    flat = net.add("Tanh", net.gemm(first, 6 * directions, 5))
    apart = net.add("Reshape", flat, net.constant([-1, directions, 6]))
    return net.add("Transpose", apart, perm=[1, 0, 2])


def _given(net: Net, x: str, directions: int) -> str:
    return net.input(directions, "n", 6)


def _nothing(net: Net, x: str, directions: int) -> str:
    return ""


State = Callable[[Net, str, int], str]


def _with_states(operator: str, *makers: State, direction: str = "forward", batch: int | str = "n") -> Make:
    layer = Layer(operator, direction)

    def make() -> ModelProto:
        net = Net()
        x = features(net, batch)
        states = [state(net, x, layer.directions) for state in makers]
        y = layer.apply(net, x, states=states)[0]
        return net.done(net.dense(merged(net, y), 2, 6 * layer.directions))

    return make


def _shared_state(operator: str) -> Make:
    """Zeros that another operator reads too."""

    def make() -> ModelProto:
        net = Net()
        x = features(net)
        zeros = _zeros(net, x, 1)
        y, last, *_ = Layer(operator).apply(net, x, states=[zeros])
        told = net.dense(net.add("Add", last, net.add("Cos", zeros)), 2, 6)
        return net.done(net.add("Add", net.dense(merged(net, y), 2, 6), told))

    return make


def _encoder_decoder(operator: str, direction: str = "forward") -> Make:
    """The last states of one layer are the first ones of another."""
    layer = Layer(operator, direction)

    def make() -> ModelProto:
        net = Net()
        x = features(net)
        _, *states = layer.apply(net, x)
        y = layer.apply(net, net.add("Tanh", net.dense(x, 5, 5)), states=states)[0]
        return net.done(net.dense(merged(net, y), 2, 6 * layer.directions))

    return make


def _lengths(operator: str, *, constant: bool) -> Make:
    def make() -> ModelProto:
        net = Net()
        x = net.dense(net.input(3, 4, 3), 5, 3)
        lengths = net.constant([1, 3, 2, 0], np.int32) if constant else net.input(4, kind=TensorProto.INT32)
        y, last, *_ = Layer(operator, "bidirectional").apply(net, x, lengths=lengths)
        told = net.dense(net.add("ReduceSum", last, net.constant([0]), keepdims=0), 2, 6)
        return net.done(net.add("Add", net.dense(merged(net, y), 2, 12), told))

    return make


# ---- outputs --------------------------------------------------------------------------------------------------------


def _read_from(operator: str, *outputs: int, direction: str = "forward", shown: Sequence[int] = ()) -> Make:
    """Some of the outputs are read, some are the network's."""
    layer = Layer(operator, direction)
    width = 6 * layer.directions

    def make() -> ModelProto:
        net = Net()
        made = layer.apply(net, features(net))
        node = net.nodes[-1]
        for place, name in enumerate(made):
            if place not in (*outputs, *shown):
                node.output[node.output[:].index(name)] = ""
        read = []
        for place in outputs:
            if place == 0:
                read.append(net.add("ReduceMean", merged(net, made[0]), axes=[0], keepdims=0))
            else:
                turned = net.add("Transpose", made[place], perm=[1, 0, 2])
                read.append(net.add("Reshape", turned, net.constant([0, -1])))
        total = net.add("Sum", *(net.dense(net.add("Tanh", name), 2, width) for name in read))
        return net.done(total, *(made[place] for place in shown))

    return make


def _directions_apart(
    operator: str, take: Callable[[Net, str], list[str]], *, over_time: bool = False, width: int = 12
) -> Make:
    """The directions are taken apart and put side by side again."""

    def make() -> ModelProto:
        net = Net()
        y, last, *_ = Layer(operator, "bidirectional").apply(net, features(net))
        parts = take(net, y if over_time else last)
        return net.done(net.dense(net.add("Concat", *parts, axis=-1), 2, width))

    return make


def _gathered(net: Net, last: str) -> list[str]:
    return [net.add("Gather", last, net.constant(place), axis=0) for place in (0, -1)]


def _sliced(net: Net, last: str) -> list[str]:
    cut = [[net.constant([value]) for value in (place, place + 1, 0)] for place in (0, 1)]
    return [net.add("Squeeze", net.add("Slice", last, *numbers), net.constant([0])) for numbers in cut]


def _split(net: Net, last: str) -> list[str]:
    return [net.add("Squeeze", part, net.constant([0])) for part in net.many("Split", 2, last, axis=0)]


def _swapped(net: Net, last: str) -> list[str]:
    """Both, the second one first."""
    turned = net.add("Transpose", net.add("Gather", last, net.constant([1, 0]), axis=0), perm=[1, 0, 2])
    return [net.add("Reshape", turned, net.constant([0, 12]))]


def _only_one(net: Net, last: str) -> list[str]:
    return _gathered(net, last)[:1]


def _split_over_time(net: Net, y: str) -> list[str]:
    return [net.add("Squeeze", part, net.constant([1])) for part in net.many("Split", 2, y, axis=1)]


def _summed(net: Net, last: str) -> list[str]:
    return [net.add("ReduceSum", last, net.constant([0]), keepdims=0)]


def _one_direction_shown(operator: str) -> Make:
    """The states of one direction are the network's output: those of the other are as many."""

    def make() -> ModelProto:
        net = Net()
        _, last, *_ = Layer(operator, "bidirectional").apply(net, features(net))
        first, second = _gathered(net, last)
        return net.done(net.dense(second, 2, 6), first)

    return make


# ---- weights --------------------------------------------------------------------------------------------------------


def _cast_weights(operator: str, direction: str = "forward") -> Make:
    """Weights come through a Cast."""
    layer = Layer(operator, direction)

    def make() -> ModelProto:
        net = Net()
        x = features(net)
        stored = layer.weights(net)
        for tensor in net.initializers[-len(stored) :]:
            values = np.frombuffer(tensor.raw_data, dtype=np.float32).astype(np.float64)
            tensor.raw_data, tensor.data_type = values.tobytes(), TensorProto.DOUBLE
        y = layer.apply(net, x, weights=[net.add("Cast", name, to=1) for name in stored])[0]
        return net.done(net.dense(merged(net, y), 2, 6 * layer.directions))

    return make


def _reordered_gates() -> ModelProto:
    """PyTorch's gates i, f, c, o are put into ONNX's order in the graph."""
    net = Net()
    x = features(net)

    def ordered(name: str) -> str:
        bounds = ((0, 6), (18, 24), (6, 18))
        cut = [[net.constant([value]) for value in (*bound, 0)] for bound in bounds]
        return net.add("Concat", *(net.add("Slice", name, *numbers) for numbers in cut), axis=0)

    matrices = [net.add("Unsqueeze", ordered(net.weight(24, read)), net.constant([0])) for read in (5, 6)]
    biases = net.add("Concat", ordered(net.weight(24)), ordered(net.weight(24)), axis=0)
    weights = [*matrices, net.add("Unsqueeze", biases, net.constant([0]))]
    y = Layer("LSTM").apply(net, x, weights=weights)[0]
    return net.done(net.dense(merged(net, y), 2, 6))


def _dynamic_weights() -> ModelProto:
    """What reads the input is made from another input."""
    net = Net()
    x = features(net)
    made = net.add("Transpose", net.add("Tanh", net.dense(net.input(1, 5, 4), 6, 4)), perm=[0, 2, 1])
    y = Layer("RNN").apply(net, x, weights=[made, net.weight(1, 6, 6)])[0]
    return net.done(net.dense(merged(net, y), 2, 6))


def _shared_weights(operator: str) -> Make:
    """One layer hears two inputs."""
    layer = Layer(operator)

    def make() -> ModelProto:
        net = Net()
        weights = layer.weights(net)
        heard = [layer.apply(net, features(net), weights=weights)[1] for _ in range(2)]
        squeezed = [net.add("Squeeze", name, net.constant([0])) for name in heard]
        return net.done(net.dense(net.add("Sub", *squeezed), 2, 6))

    return make


def _batch_first(operator: str, direction: str = "forward") -> Make:
    """`layout` 1, which onnxruntime does not know."""
    layer = Layer(operator, direction, more={"layout": 1})

    def make() -> ModelProto:
        net = Net()
        x = net.dense(net.input("n", "t", 3), 5, 3)
        state = net.add("Tanh", net.dense(net.input("n", layer.directions, 3), 6, 3))
        y, last, *_ = layer.apply(net, x, states=[state])
        flat = net.add("Reshape", y, net.constant([0, 0, 6 * layer.directions]))
        ends = net.add("Reshape", last, net.constant([0, 6 * layer.directions]))
        width = 6 * layer.directions
        return net.done(net.add("ReduceMean", net.dense(flat, 2, width), axes=[1]), net.dense(ends, 2, width))

    return make


# ---- the table ------------------------------------------------------------------------------------------------------


ROWS: dict[str, Row] = {operator: row(operator, 7) for operator in GATES}
_LSTM, _GRU, _RNN = ROWS["LSTM"], ROWS["GRU"], ROWS["RNN"]
_STATES: tuple[tuple[str, State, tuple[int, ...], tuple[int, ...]], ...] = (
    ("zeros of a computed shape", _zeros, (5, 6), (5, 12)),
    ("zeros expanded", _expanded, (5, 6), (5, 12)),
    ("numbers of a computed shape", _halves, (5, 6), (5, 6)),
    ("learned and expanded", _learned, (5, 6), (5, 6)),
    ("computed by a layer", _computed, (5, 6), (5, 12)),
)

CASES: tuple[Case, ...] = (
    *(Case(ROWS[name], f"opset {opset}", _plain(name, opset=opset), (5, 6)) for name in GATES for opset in (7, 14, 22)),
    *(
        Case(ROWS[name], end, _plain(name, end, opset=opset), (5, 12 if end == _BOTH else 6))
        for name, opset in zip(GATES, (8, 17, 22), strict=True)
        for end in ENDS
    ),
    *(Case(ROWS[name], "without bias", _plain(name, _BOTH, bias=False), (5, 12)) for name in GATES),
    *(Case(ROWS[name], "one unit", _plain(name, made=1), (5,), (("SINGLE", 1),)) for name in GATES),
    *(Case(ROWS[name], "one unit each way", _plain(name, _BOTH, made=1), (5,), (("SINGLE", 2),)) for name in GATES),
    *(Case(ROWS[name], "clipped", _plain(name, clip=0.5), (5, 6)) for name in GATES),
    Case(_LSTM, "peepholes", _plain("LSTM", peepholes=True), (5, 6)),
    Case(_LSTM, "peepholes without bias, both ways", _plain("LSTM", _BOTH, peepholes=True, bias=False), (5, 12)),
    Case(_LSTM, "input and forget gates coupled", _plain("LSTM", input_forget=1), (5, 6)),
    Case(
        _LSTM,
        "activations",
        _plain("LSTM", _BOTH, activations=["HardSigmoid", "Softsign", "Tanh", "Sigmoid", "Tanh", "Relu"]),
        (5, 12),
    ),
    *(
        Case(_GRU, f"R before the reset gate, {end}", _plain("GRU", end, linear_before_reset=1), (5, size))
        for end, size in (("reverse", 6), (_BOTH, 12))
    ),
    Case(_GRU, "activations", _plain("GRU", activations=["Sigmoid", "Softplus"]), (5, 6)),
    Case(
        _RNN,
        "activations",
        _plain("RNN", _BOTH, activations=["LeakyRelu", "Affine"], activation_alpha=[0.1, 0.5], activation_beta=[0.2]),
        (5, 12),
    ),
    *(
        Case(ROWS[name], f"{what}{', both ways' * (end == _BOTH)}", _with_states(name, state, direction=end), groups)
        for name in GATES
        for what, state, one, two in _STATES
        for end, groups in (("forward", one), (_BOTH, two))
    ),
    *(
        Case(ROWS[name], f"stored state, {end}", _with_states(name, _stored, direction=end, batch=4), (5, size))
        for name in GATES
        for end, size in (("reverse", 6), (_BOTH, 12))
    ),
    *(Case(ROWS[name], "state given", _with_states(name, _given), (5,), (("GRAPH_INPUT", 6),)) for name in GATES),
    Case(_LSTM, "cells given", _with_states("LSTM", _zeros, _given, direction=_BOTH), (5,), (("GRAPH_INPUT", 12),)),
    Case(_LSTM, "cells of zeros", _with_states("LSTM", _computed, _expanded), (5, 6)),
    Case(_LSTM, "cells alone", _with_states("LSTM", _nothing, _computed, direction=_BOTH), (5, 12)),
    Case(_LSTM, "stored state and cells", _with_states("LSTM", _stored, _stored, batch=4), (5, 6)),
    *(Case(ROWS[name], "zeros that others read", _shared_state(name), (5, 6)) for name in GATES),
    *(Case(ROWS[name], "states handed on", _encoder_decoder(name), (5, 5, 6)) for name in GATES),
    *(Case(ROWS[name], "states handed on, both ways", _encoder_decoder(name, _BOTH), (5, 5, 12)) for name in GATES),
    *(Case(ROWS[name], "lengths", _lengths(name, constant=True), (5, 6)) for name in GATES),
    *(Case(ROWS[name], "lengths given", _lengths(name, constant=False), (5, 6)) for name in GATES),
    *(Case(ROWS[name], "last state", _read_from(name, 1), (5, 6)) for name in GATES),
    *(Case(ROWS[name], "all outputs", _read_from(name, 0, 1, direction=_BOTH), (5, 12)) for name in GATES),
    *(Case(ROWS[name], "state shown", _read_from(name, 0, shown=[1]), (5,)) for name in GATES),
    *(Case(ROWS[name], "steps shown", _read_from(name, 1, shown=[0], direction=_BOTH), (5,)) for name in GATES),
    Case(_LSTM, "last cells", _read_from("LSTM", 2), (5, 6)),
    Case(_LSTM, "all three outputs", _read_from("LSTM", 0, 1, 2, direction=_BOTH), (5, 12)),
    *(
        Case(_GRU, f"directions {what}", _directions_apart("GRU", take, width=width), (5, width))
        for what, take, width in (
            ("gathered", _gathered, 12),
            ("sliced", _sliced, 12),
            ("split", _split, 12),
            ("swapped", _swapped, 12),
            ("summed", _summed, 6),
            ("of which one is read", _only_one, 6),
        )
    ),
    Case(_GRU, "directions split over time", _directions_apart("GRU", _split_over_time, over_time=True), (5, 12)),
    Case(_GRU, "one direction shown", _one_direction_shown("GRU"), (5,)),
    *(Case(ROWS[name], "weights through a Cast", _cast_weights(name), (5, 6)) for name in GATES),
    Case(_GRU, "weights through a Cast, both ways", _cast_weights("GRU", _BOTH), (5, 6)),
    Case(_LSTM, "gates put in order", _reordered_gates, (5, 6)),
    Case(_RNN, "weight computed from the input", _dynamic_weights, (6,), (("GRAPH_INPUT", 5),), scaled=False),
    *(Case(ROWS[name], "shared weights", _shared_weights(name), (5, 6)) for name in GATES),
    *(Case(ROWS[name], "batch first", _batch_first(name), (5, 6), runs=False) for name in GATES),
    *(Case(ROWS[name], "batch first, both ways", _batch_first(name, _BOTH), (5, 6), runs=False) for name in GATES),
)
