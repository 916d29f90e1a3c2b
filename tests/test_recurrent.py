"""Recurrent layers beyond their cases: exact costs, every method, layouts, states left out, and faults that show."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from cases import CASES
from cases.recurrent import GATES, Layer, merged
from doors import prune_plain
from net import Net
from onnx import ModelProto, TensorProto
from oracle import analyse, assert_sound, prune, prune_random, random_plan
from test_twin_power import objects

import onnxprune
from onnxprune.coupling.costs import measure
from onnxprune.errors import ModelError
from onnxprune.graph.index import Index, weights_of
from onnxprune.methods import METHODS
from onnxprune.ops import recurrent
from onnxprune.ops.labels import Array, Bundle, Fixed, Labels, Purpose
from onnxprune.ops.op import Op
from onnxprune.ops.trace import Kept
from onnxprune.validate import foreign_nodes
from onnxprune.validate.judge import _kept_part

Patch = pytest.MonkeyPatch
BOTH = "bidirectional"
ENDS = ("reverse", BOTH)


def network(name: str) -> ModelProto:
    return next(case for case in CASES if case.identifier == name).make()


def wide(operator: str, direction: str, **more: Any) -> ModelProto:
    """Two layers that are worth pruning."""
    net = Net()
    first = Layer(operator, direction, read=8, made=12, **more)
    second = Layer(operator, read=12 * first.directions, made=10)
    x = net.dense(net.input(7, 3, 5), 8, 5)
    y = second.apply(net, merged(net, first.apply(net, x)[0]))[0]
    return net.done(net.dense(net.add("Squeeze", y, net.constant([1])), 4, 10))


@pytest.mark.parametrize("direction", ENDS)
@pytest.mark.parametrize("operator", GATES)
@pytest.mark.parametrize("share", [0.0, 0.3, 0.6])
def test_costs_are_those_of_the_pruned_file(operator: str, direction: str, share: float) -> None:
    proto = wide(operator, direction, peepholes=operator == "LSTM")
    found = analyse(proto)
    plan = random_plan(found.coupling, np.random.default_rng(3), share)
    pruned = prune(proto, plan).proto
    counts = plan.counts(found.coupling)
    assert measure("params", found.coupling, found.index).value(counts) == pytest.approx(sum(weights_of(pruned)))
    again = analyse(pruned)
    sizes = np.array([group.size for group in again.coupling.groups])
    macs = measure("macs", again.coupling, again.index).value(sizes)
    assert measure("macs", found.coupling, found.index).value(counts) == pytest.approx(macs)


def test_multiply_accumulates() -> None:
    found = analyse(wide("LSTM", BOTH))
    sizes = np.array([group.size for group in found.coupling.groups])
    steps = 7 * 3
    first, second = 2 * 4 * 12 * (8 + 12), 4 * 10 * (24 + 10)
    assert measure("macs", found.coupling, found.index).value(sizes) == steps * (5 * 8 + first + second + 10 * 4)


@pytest.mark.parametrize("method", [name for name, method in METHODS.items() if not method.salience])
@pytest.mark.parametrize("operator", GATES)
def test_every_method_prunes_them(operator: str, method: str) -> None:
    result = prune_plain(wide(operator, BOTH), ratio=0.4, method=method, best_effort=True, synthetic=16)
    assert result.report["validation"]["twin"]["passed"]
    assert result.report["achieved"]["params"] > 0.2
    assert not result.report["validation"]["unproved"]


@pytest.mark.parametrize("operator", GATES)
def test_methods_that_differentiate_say_that_they_cannot(operator: str) -> None:
    with pytest.raises(ModelError, match=rf"no rule for {operator}"):
        prune_plain(wide(operator, BOTH), ratio=0.4, method="fisher", synthetic=16)


@pytest.mark.parametrize("operator", GATES)
def test_rounded_to_a_multiple_in_each_direction(operator: str) -> None:
    result = prune_plain(wide(operator, BOTH), ratio=0.4, round_to=4)
    for node in (node for node in result.model.graph.node if node.op_type == operator):
        size = next(item.i for item in node.attribute if item.name == "hidden_size")
        assert size % 4 == 0 or size == 10


def _of_layout(operator: str, direction: str, layout: int) -> ModelProto:
    layer = Layer(operator, direction, more={"layout": layout} if layout else {})
    net = Net()
    first = (lambda x: x) if layout else (lambda x: net.add("Transpose", x, perm=[1, 0, 2]))
    states = 2 if operator == "LSTM" else 1
    given = [net.add("Tanh", net.dense(net.input(4, layer.directions, 3), 6, 3)) for _ in range(states)]
    x = first(net.dense(net.input(4, 7, 3), 5, 3))
    y, last, *_ = layer.apply(net, x, states=[first(state) for state in given])
    turned = y if layout else net.add("Transpose", y, perm=[2, 0, 1, 3])
    flat = net.add("Reshape", turned, net.constant([0, 0, -1]))
    told = net.add("Reshape", first(last), net.constant([0, -1]))
    width = 6 * layer.directions
    return net.done(net.dense(flat, 2, width), net.dense(told, 2, width))


@pytest.mark.parametrize("direction", ENDS)
@pytest.mark.parametrize("operator", GATES)
def test_the_batch_may_come_first(operator: str, direction: str) -> None:
    """onnxruntime does not run `layout` 1: its weights are cut as those of a layer that is proved."""
    pruned = []
    for layout in (0, 1):
        proto = _of_layout(operator, direction, layout)
        if not layout:
            assert_sound(proto, np.random.default_rng(0), shares=(0.5,))
        model = prune_random(proto, np.random.default_rng(5), 0.5)
        weights = [item for item in model.proto.graph.initializer if item.data_type == TensorProto.FLOAT]
        pruned.append([model.array(item) for item in weights])
    assert len(pruned[0]) == len(pruned[1])
    assert all(np.array_equal(first, second) for first, second in zip(*pruned, strict=True))


def test_a_layer_that_onnxruntime_cannot_run_is_kept() -> None:
    proto = _of_layout("GRU", BOTH, 1)
    assert not analyse(proto, barred=foreign_nodes(Index(proto))).coupling.groups
    with pytest.raises(onnxprune.RefusedError, match="onnxruntime cannot run the operator"):
        prune_plain(proto, ratio=0.3)


@pytest.mark.parametrize("operator", GATES)
def test_states_of_zeros_are_left_out(operator: str) -> None:
    proto = network(f"{operator}-7-zeros of a computed shape, both ways")
    rng = np.random.default_rng(0)
    graph = prune_random(proto, rng, 0.5).proto.graph
    node = next(node for node in graph.node if node.op_type == operator)
    assert len(node.input) == 4 and not {"ConstantOfShape", "Shape"} & {node.op_type for node in graph.node}
    assert prune_random(proto, rng, 0.0).proto == proto


@pytest.mark.parametrize("value", [0.0, 0.5])
def test_stored_states_are_zeros_or_not(value: float) -> None:
    """More numbers than sizes have; they are expanded over the batch."""
    net = Net()
    layer = Layer("GRU", BOTH, made=20)
    state = net.add("Expand", net.constant(np.full((2, 1, 20), value), np.float32), net.constant([2, 3, 20]))
    y, _ = layer.apply(net, net.dense(net.input(4, 3, 5), 5, 5), states=[state])
    proto = net.done(net.dense(merged(net, y), 2, 40))
    assert analyse(proto).sizes == ([5, 20] if value else [5, 40])
    assert_sound(proto, np.random.default_rng(0), shares=(0.5,))


def test_rows_of_equal_length_are_compared() -> None:
    """What is kept of each direction is not at the same places."""
    array = np.arange(6).reshape(2, 3)
    kept = Kept(np.array([True, False, True, False, True, True]))
    value = np.random.default_rng(0).standard_normal((4, 2, 5, 3))
    labels = Labels(value.shape, (Bundle((1, 3), array),), Fixed(Purpose.POSITION, "y"))
    part = _kept_part(value, labels, kept)
    assert part is not None
    assert np.array_equal(part, np.stack([value[:, 0][..., [0, 2]], value[:, 1][..., [1, 2]]], axis=1))
    assert _kept_part(value, labels, Kept(np.array([True, True, False, False, False, True]))) is None


# ---- faults ---------------------------------------------------------------------------------------------------------


def _gates_interleaved(patch: Patch) -> None:
    """The rows of a gate are taken to lie apart."""
    original = Op.view

    def view(self: Op, place: int, shape: tuple[int, ...], axes: Any) -> list[Array]:
        if place == 2 and len(shape) == 4:
            shape, axes = (shape[0], shape[2], shape[1], shape[3]), [(0, 1), *axes[1:]]
        return original(self, place, shape, axes)

    patch.setattr(Op, "view", view)


def _bias_shifts(patch: Patch) -> None:
    original = recurrent._per_unit

    def per_unit(op: Op, place: int, parts: int) -> Any:
        array, fixed = original(op, place, parts)
        return None if array is None else np.roll(array, 1, axis=1), fixed

    patch.setattr(recurrent, "_per_unit", per_unit)


def _state_shifts(patch: Patch) -> None:
    original = recurrent._state

    def state(op: Op, place: int, *, batch_first: bool) -> Any:
        array, fixed = original(op, place, batch_first=batch_first)
        return None if array is None else np.roll(array, 1, axis=1), fixed

    patch.setattr(recurrent, "_state", state)


def _directions_swap(patch: Patch) -> None:
    original = recurrent._output

    def output(op: Op, place: int, units: Any, fixed: Fixed, *, batch_first: bool) -> Labels:
        return original(op, place, None if units is None else units[::-1], fixed, batch_first=batch_first)

    patch.setattr(recurrent, "_output", output)


def _recurrence_is_not_read(patch: Patch) -> None:
    """Removed units go on feeding the others in the twin."""
    original = Op.read_at

    def read_at(self: Op, place: int, axes: Any, array: Array) -> None:
        if place != 2:
            original(self, place, axes, array)

    patch.setattr(Op, "read_at", read_at)


def _states_count_as_zero(patch: Patch) -> None:
    patch.setattr(Op, "is_zero", lambda self, place: self.has(place))


def _directions_differ(patch: Patch) -> None:
    """Unequal numbers of units stay."""
    patch.setattr(Op, "balance", lambda self, array: None)


FAULTS: tuple[tuple[str, str, Callable[[Patch], None]], ...] = (
    ("gates", "LSTM-7-forward", _gates_interleaved),
    ("bias", "GRU-7-bidirectional", _bias_shifts),
    ("peepholes", "LSTM-7-peepholes without bias, both ways", _bias_shifts),
    ("state", "RNN-7-computed by a layer", _state_shifts),
    ("state, both ways", "LSTM-7-stored state, bidirectional", _state_shifts),
    ("order of directions", "GRU-7-bidirectional", _directions_swap),
    ("recurrence", "RNN-7-opset 14", _recurrence_is_not_read),
    ("states that are not zero", "GRU-7-numbers of a computed shape", _states_count_as_zero),
    ("counts of directions", "LSTM-7-bidirectional", _directions_differ),
)


@pytest.mark.parametrize(("name", "fault"), [pytest.param(name, fault, id=what) for what, name, fault in FAULTS])
def test_a_broken_rule_is_found(name: str, fault: Callable[[Patch], None], monkeypatch: Patch) -> None:
    proto = network(name)
    fault(monkeypatch)
    assert objects(_long(proto))


def _long(proto: ModelProto) -> ModelProto:
    """The same with several steps, so that the recurrence matters."""
    for value in proto.graph.input:
        for dim, size in zip(value.type.tensor_type.shape.dim, (5, 4), strict=False):
            if dim.dim_param:
                dim.dim_value = size
    return proto
