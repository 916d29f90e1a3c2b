"""Operators that rearrange axes: Reshape, Flatten, Transpose, Squeeze, Unsqueeze, Expand, Tile, Shape.

A Reshape is cut into the shortest runs of input axes and output axes of equal size. Within a run, the labels of the
input axes are laid out as one array, reshaped, and cut into a bundle over the output axes: (C, H, W) → C·H·W repeats
each label H·W times, H·D → (H, D) leaves one bundle over both. Merged again in the same order nothing is tied; in
another order (a channel shuffle) what is left must be a rectangle, so that rows or columns are tied.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from onnxprune.ops.labels import Array, Bundle, Fixed, Labels, Purpose
from onnxprune.ops.op import Op
from onnxprune.ops.rule import Answer, Rule

__all__ = [
    "RULES",
    "expand",
    "flatten",
    "made_of_a_shape",
    "reshape",
    "sizes_only",
    "squeeze",
    "tile",
    "transpose",
    "unsqueeze",
]


@dataclass(frozen=True)
class _Run:
    """Input axes and output axes of the same number of elements; axes of size one are left out."""

    before: tuple[int, ...]
    after: tuple[int, ...]


def _runs(before: Sequence[int], after: Sequence[int]) -> list[_Run]:
    first = [axis for axis, size in enumerate(before) if size != 1]
    second = [axis for axis, size in enumerate(after) if size != 1]
    runs = []
    i = j = 0
    while i < len(first) and j < len(second):
        start_i, start_j = i, j
        left, right = before[first[i]], after[second[j]]
        i, j = i + 1, j + 1
        while left != right:
            if left < right:
                left, i = left * before[first[i]], i + 1
            else:
                right, j = right * after[second[j]], j + 1
        runs.append(_Run(tuple(first[start_i:i]), tuple(second[start_j:j])))
    return runs


def _in_order(axes: Sequence[int]) -> bool:
    return list(axes) == sorted(axes)


def _varying(bundle: Bundle, runs: list[_Run]) -> int:
    """The axis to keep of a bundle: the outermost, as heads laid beside a batch or copied, else the longest."""
    touched = [run.before for run in runs if set(run.before) & set(bundle.axes)]
    if _in_order(bundle.axes) and len(touched) > 1:
        return bundle.axes[0]
    return bundle.axes[int(np.argmax(bundle.array.shape))]


def _reshaped(op: Op, place: int, after: tuple[int, ...]) -> Labels:
    """Labels of input `place`, seen with the shape `after`."""
    before = op.shape(place)
    if 0 in before or int(np.prod(before)) != int(np.prod(after)):
        return op.unknown()
    runs = _runs(before, after)
    _settle(op, place, runs)
    bundles = []
    for bundle in op.labels(place).bundles:
        touched = [run for run in runs if set(run.before) & set(bundle.axes)]
        if all(len(run.before) == len(run.after) == 1 for run in touched):
            renamed = {run.before[0]: run.after[0] for run in touched}
            bundles.append(Bundle(tuple(renamed[axis] for axis in bundle.axes), bundle.array))
        else:
            bundles.append(_laid_out(bundle, touched, before, after))
    return op.out(after, bundles, op.fixed(place))


def _settle(op: Op, place: int, runs: list[_Run]) -> None:
    """Reduce bundles until each can be laid out: in order, whole runs only, one bundle to a run."""
    for run in runs:
        if len(run.before) == len(run.after) == 1:
            continue
        labels = op.labels(place)
        inside = [bundle for bundle in labels.bundles if set(bundle.axes) & set(run.before)]
        for bundle in inside:
            stray = [axis for axis in bundle.axes if axis not in run.before]
            whole = all(set(other.before) <= set(bundle.axes) for other in runs if set(other.before) & set(bundle.axes))
            if stray and not whole and _keeps_rows(op, bundle, runs):
                continue
            if not _in_order(bundle.axes) or (stray and not whole):
                kept = _varying(bundle, runs)
                op.hold(place, [axis for axis in bundle.axes if axis != kept])
        inside = [bundle for bundle in op.labels(place).bundles if set(bundle.axes) & set(run.before)]
        for bundle in sorted(inside, key=lambda item: _worth(op, item, run))[:-1]:
            op.hold(place, bundle.axes, Purpose.CONFLICT)


def _worth(op: Op, bundle: Bundle, run: _Run) -> tuple[bool, bool, int]:
    """Which of several bundles in a run is to go on varying: a layer's channels first, heads before their features."""
    written = op.is_written(bundle.array)
    outermost = run.before[0] in bundle.axes and not op.trace.opened.inside_heads
    return written, written and outermost, bundle.array.size


def _keeps_rows(op: Op, bundle: Bundle, runs: list[_Run]) -> bool:
    """Let positions within rows go, on request, where only axes of rows are seen anew: equally many of each row."""
    last = bundle.axes[-1]
    alone = any(run.before == (last,) and len(run.after) == 1 for run in runs)
    if not (op.trace.opened.inside_heads and alone and _in_order(bundle.axes)):
        return False
    op.balance(np.unique(bundle.array.reshape(-1, bundle.array.shape[-1]), axis=0), whole=True)
    return True


def _laid_out(bundle: Bundle, runs: list[_Run], before: Sequence[int], after: Sequence[int]) -> Bundle:
    axes = [axis for run in runs for axis in run.before]
    sizes = [before[axis] if axis in bundle.axes else 1 for axis in axes]
    full = np.broadcast_to(bundle.array.reshape(sizes), [before[axis] for axis in axes])
    new_axes = tuple(axis for run in runs for axis in run.after)
    return Bundle(new_axes, full.reshape([after[axis] for axis in new_axes])).without_constant_axes()


def reshape(op: Op) -> Answer:
    """y has the shape that input 1 spells; −1 stands for what is left, 0 for the size before (unless `allowzero`)."""
    target = op.known(1, partly=True)
    if target is None:
        return op.unknown()
    labels = _reshaped(op, 0, op.out_shape())
    given = [int(size) for size in target.value]
    copied = [] if op.attribute("allowzero", 0) else [axis for axis, size in enumerate(given) if size == 0]
    stay = [axis for axis in copied if _arrays_at(op.labels(0), axis) is _arrays_at(labels, axis)]
    return op.spell_sizes(1, labels, range(len(given)), but=[*stay, *(k for k, size in enumerate(given) if size == -1)])


def _arrays_at(labels: Labels, axis: int) -> Array | None:
    bundle = labels.bundle_at(axis)
    return None if bundle is None else bundle.array


def flatten(op: Op) -> Answer:
    """Axes before `axis` become one, those from it on another."""
    return _reshaped(op, 0, op.out_shape())


def transpose(op: Op) -> Answer:
    """y's axis k is x's axis perm[k]."""
    rank = len(op.shape(0))
    order = op.attribute("perm", range(rank - 1, -1, -1))
    return op.carry(0, {axis: place for place, axis in enumerate(order)})


def squeeze(op: Op) -> Answer:
    """Axes of size one go; where none are named, those of which one channel is left must not go with them."""
    before = op.shape(0)
    if op.has(1) or op.attribute("axes") is not None:
        return _reshaped(op, 0, op.out_shape())
    ones = [axis for axis, size in enumerate(before) if size == 1]
    if not all(op.is_static((op.node.input[0], axis)) for axis in ones):
        return op.unknown()
    labels = _reshaped(op, 0, op.out_shape())
    arrays = [bundle.array for bundle in labels.bundles]
    op.spell(1 if op.version >= 13 else "axes", lambda kept: np.array(ones, dtype=np.int64), arrays)
    return labels


def unsqueeze(op: Op) -> Answer:
    """Axes of size one come."""
    return _reshaped(op, 0, op.out_shape())


def expand(op: Op) -> Answer:
    """x is broadcast to a shape; an axis that grows from one makes positions that can be made fewer."""
    before, after = op.shape(0), op.out_shape()
    known = op.known(1, partly=True)
    if known is None:
        return op.unknown()
    offset = len(after) - len(before)
    carried = op.broadcast([0])
    grown = [axis for axis, size in enumerate(after) if axis < offset or before[axis - offset] == 1]
    fresh = []
    for axis in grown:
        entry = axis - (len(after) - known.value.size)
        static = entry >= 0 and all(op.is_static(source) for source in known.sources[entry])
        if (static or op.is_batch((op.node.output[0], axis))) and op.can_generate(after[axis]):
            fresh.append(Bundle((axis,), op.generated(after[axis])))
    labels = op.out(after, carried.bundles + tuple(fresh), carried.fixed)
    # A one leaves the size of the input as it is.
    ones = [entry for entry, size in enumerate(known.value) if size == 1]
    return op.spell_sizes(1, labels, range(len(after) - known.value.size, len(after)), but=ones)


def tile(op: Op) -> Answer:
    """x repeated along its axes."""
    known = op.known(1, partly=True)
    after = op.out_shape()
    if known is None or op.version < 6:
        return op.unknown()
    repeats = known.value
    loose = [axis for axis, sizes in enumerate(known.sources) if not all(map(op.is_static, sizes))]
    heads = [axis for axis in loose if repeats[axis] == 1 and op.is_batch((op.node.output[0], axis))]
    op.hold(0, [axis for axis in loose if axis not in heads], Purpose.RUNTIME)
    # All of a bundle is repeated as a whole along its outermost axis alone, as are rows of features by heads.
    op.hold(0, [axis for bundle in op.labels(0).bundles for axis in bundle.axes[1:] if repeats[axis] > 1])
    bundles = []
    for bundle in op.labels(0).bundles:
        times = (int(repeats[bundle.axes[0]]),) + (1,) * (len(bundle.axes) - 1)
        bundles.append(Bundle(bundle.axes, np.tile(bundle.array, times)))
    return op.out(after, bundles, op.fixed(0))


def sizes_only(op: Op) -> Answer:
    """Shape, Size, Range: sizes of x and numbers made from them; who reads them is followed value by value."""
    return op.nothing()


def made_of_a_shape(op: Op) -> Answer:
    """ConstantOfShape: a constant of the spelled shape; its positions can be made fewer where the size is static."""
    known = op.known(0, partly=True)
    if known is None:
        return op.nothing()
    bundles = [
        Bundle((axis,), op.generated(size))
        for axis, size in enumerate(op.out_shape())
        if op.can_generate(size) and all(op.is_static(source) for source in known.sources[axis])
    ]
    labels = op.out(op.out_shape(), bundles, Fixed(Purpose.POSITION, op.site))
    return op.spell_sizes(0, labels, range(len(labels.shape)))


RULES: tuple[Rule, ...] = (
    Rule("Reshape", reshape),
    Rule("Flatten", flatten),
    Rule("Transpose", transpose),
    Rule("Squeeze", squeeze),
    Rule("Unsqueeze", unsqueeze),
    Rule("Expand", expand),
    Rule("Tile", tile),
    Rule("Shape", sizes_only),
    Rule("Size", sizes_only),
    Rule("Range", sizes_only),
    Rule("Range", sizes_only, domain="com.microsoft"),
    Rule("ConstantOfShape", made_of_a_shape),
)
