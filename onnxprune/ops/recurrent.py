"""LSTM, GRU and RNN: h[t] = f(W x[t] + R h[t−1] + b), gate by gate, forward, backward or both.

A hidden unit is a row of each gate of W, R, b and the peepholes P, a column of R, and a position of the states and of
the outputs. Each direction has its own: their labels are one array over (directions, hidden), and equally many of each
direction stay. W is seen as (directions, gates, hidden, input), R as (directions, gates, hidden, hidden).

R reads the hidden state: a removed unit's column of it counts as zero, so that what the unit holds reaches nobody.
"""

from collections.abc import Sequence

import numpy as np

from onnxprune.ops.labels import Array, Bundle, Fixed, Labels, Purpose
from onnxprune.ops.op import Op
from onnxprune.ops.rule import Answer, Rule
from onnxprune.ops.trace import Role

__all__ = ["RULES", "gru", "lstm", "rnn"]

_X, _W, _R, _B, _LENGTHS, _H, _C, _P = range(8)

_Side = tuple[Array | None, Fixed]
"""Labels along some axes of one input, None where nothing goes there, and where its fixed axes come from."""


def lstm(op: Op) -> Answer:
    """Gates i, o, f, c; states h and c; peepholes i, o, f."""
    return _recurrent(op, gates=4, states=(_H, _C))


def gru(op: Op) -> Answer:
    """Gates z, r, h; the reset gate acts unit by unit, before or after R."""
    return _recurrent(op, gates=3, states=(_H,))


def rnn(op: Op) -> Answer:
    """One gate."""
    return _recurrent(op, gates=1, states=(_H,))


def _recurrent(op: Op, *, gates: int, states: Sequence[int]) -> Answer:
    batch_first = bool(op.attribute("layout", 0))
    op.hold(_X, [0, 1])
    if op.has(_LENGTHS):
        op.hold(_LENGTHS, [0])
    writes, reads = _weight(op, _W, gates, (3,))
    inputs = op.tie(op.axis(_X, 2), reads[0], op.fixed(_X) if reads[0] is not None else reads[1])
    op.read(_X, 2)
    sides = [writes, *_weight(op, _R, gates, (0, 3))]
    sides += [_per_unit(op, place, parts) for place, parts in ((_B, 2 * gates), (_P, 3)) if op.has(place)]
    given = [place for place in states if op.has(place)]
    zero = [place for place in given if not op.is_stored(place) and op.is_zero(place)]
    sides += [_state(op, place, batch_first=batch_first) for place in given if place not in zero]
    units, fixed = _joined(op, sides)
    for place in zero:
        own = [bundle.array for bundle in op.labels(place).bundles]
        op.leave_out(place, own if units is None else [units, *own])
    if units is not None:
        op.balance(units)
        op.read_at(_R, (0, 2), units)
        op.spell("hidden_size", lambda kept: np.array(kept.count(units) // len(units), dtype=np.int64), [units])
    _macs(op, gates, inputs, units)
    outputs = range(len(op.node.output))
    return [_output(op, place, units, fixed, batch_first=batch_first) for place in outputs]


def _weight(op: Op, place: int, gates: int, columns: tuple[int, ...]) -> tuple[_Side, _Side]:
    """What W or R writes, and what it reads; `columns` are the axes of its view that it reads along."""
    directions, rows, wide = op.shape(place)
    if op.is_stored(place):
        writes, reads = op.view(place, (directions, gates, rows // gates, wide), [(0, 2), columns])
        sides: tuple[_Side, _Side] = (writes, op.fixed(place)), (reads, op.fixed(place))
    else:
        found = op.axis(place, 2)
        wide_reads = found if found is None or len(columns) == 1 else np.tile(found, (directions, 1))
        sides = _alike(op, place, gates), (wide_reads, op.fixed(place))
    if op.is_constant(place):
        op.role(sides[0][0], Role.WRITES)
        op.role(sides[1][0], Role.READS)
    return sides


def _per_unit(op: Op, place: int, parts: int) -> _Side:
    """B and P hold `parts` numbers for each unit."""
    directions, width = op.shape(place)
    if not op.is_stored(place):
        return _alike(op, place, parts)
    (units,) = op.view(place, (directions, parts, width // parts), [(0, 2)])
    return units, op.fixed(place)


def _alike(op: Op, place: int, parts: int) -> _Side:
    """Axis 1 of a weight that is computed: the same units of each part, and of each direction."""
    op.hold(place, [0])
    array = op.axis(place, 1)
    if array is None:
        return None, op.fixed(place)
    table = array.reshape(parts, -1)
    op.trace.tie(np.tile(table[0], (parts, 1)), table)
    return np.tile(table[0], (op.shape(place)[0], 1)), op.fixed(place)


def _state(op: Op, place: int, *, batch_first: bool) -> _Side:
    """Initial state: (directions, batch, hidden), or (batch, directions, hidden)."""
    own = (1, 2) if batch_first else (0, 2)
    if op.is_stored(place):
        (units,) = op.view(place, op.shape(place), [own])
        return units, op.fixed(place)
    op.hold(place, [0 if batch_first else 1])
    bundle = op.labels(place).bundle_at(2)
    if bundle is not None and set(bundle.axes) == set(own):
        return bundle.array if bundle.axes == own else bundle.array.T, op.fixed(place)
    op.hold(place, own[:1])
    array = op.axis(place, 2)
    return None if array is None else np.tile(array, (op.shape(place)[own[0]], 1)), op.fixed(place)


def _joined(op: Op, sides: Sequence[_Side]) -> _Side:
    """Tie what all inputs have of the hidden units; where one is fixed, nothing goes from the others."""
    bare = next((fixed for array, fixed in sides if array is None), None)
    bare = Fixed(Purpose.SINGLE, op.site) if op.shape(_R)[2] == 1 else bare
    arrays = [array for array, _ in sides if array is not None]
    for array in arrays:
        op.trace.tie(arrays[0], array)
    if bare is None:
        return arrays[0], op.positions
    if arrays:
        op.trace.pin(arrays[0], bare)
    return None, bare


def _macs(op: Op, gates: int, inputs: Array | None, units: Array | None) -> None:
    directions, _, hidden = op.shape(_R)
    steps, batch, size = op.shape(_X)
    made = gates * steps * batch
    width = 1 if units is not None else directions * hidden
    op.macs(made * width * (1 if inputs is not None else size), inputs, units)
    op.macs(made * width**2 / directions, units, units)


def _output(op: Op, place: int, units: Array | None, fixed: Fixed, *, batch_first: bool) -> Labels:
    """Y is (time, directions, batch, hidden), the last states are as the initial ones; the batch may come first."""
    shape = op.out_shape(place) if op.node.output[place] else ()
    if units is None or not shape:
        return op.out(shape, fixed=fixed)
    last = len(shape) - 1
    bundle = Bundle((last,), units[0]) if len(units) == 1 else Bundle((last - 2 + batch_first, last), units)
    return op.out(shape, [bundle], fixed)


RULES: tuple[Rule, ...] = (Rule("LSTM", lstm, since=7), Rule("GRU", gru, since=7), Rule("RNN", rnn, since=7))
