"""The twin sees faults: each rule is broken on purpose, and the comparison, the checker or onnxruntime must object."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from cases import CASES
from net import Net
from onnx import ModelProto
from oracle import TOLERANCE, analyse, assert_sound, prune, random_plan, twin_gap

from onnxprune.coupling.walk import _Walk
from onnxprune.errors import ModelError
from onnxprune.ops import RULES, shape
from onnxprune.ops.labels import Array, Bundle, Labels
from onnxprune.ops.op import Op
from onnxprune.ops.rule import Rule
from onnxprune.rewrite.cut import Cut

Patch = pytest.MonkeyPatch
BIG = 1e-3


def network(name: str) -> ModelProto:
    return next(case for case in CASES if case.identifier == name).make()


def _answer(patch: Patch, operator: str, change: Callable[[Op, list[Labels]], list[Labels]]) -> None:
    """Change what the rule of an operator answers."""
    rules = RULES["", operator]

    def broken(original: Rule) -> Rule:
        def rule(op: Op) -> list[Labels]:
            answer = original.apply(op)
            return change(op, [answer] if isinstance(answer, Labels) else list(answer))

        return replace(original, apply=rule)

    patch.setitem(RULES, ("", operator), tuple(broken(rule) for rule in rules))


def _arrays(change: Callable[[Array], Array]) -> Callable[[Op, list[Labels]], list[Labels]]:
    """Change the labels of every axis of every output."""

    def changed(op: Op, answer: list[Labels]) -> list[Labels]:
        return [
            replace(labels, bundles=tuple(Bundle(b.axes, change(b.array)) for b in labels.bundles)) for labels in answer
        ]

    return changed


def _spelled(patch: Patch, change: Callable[[Any], Any]) -> None:
    """Change the numbers that are spelled anew."""
    original = Op.spell

    def spell(self: Op, slot: Any, value: Any, arrays: Any, **more: Any) -> None:
        original(self, slot, lambda kept: change(value(kept)), arrays, **more)

    patch.setattr(Op, "spell", spell)


def _flatten_tiles(patch: Patch) -> None:
    """(C, H, W) → C·H·W as if positions came first."""
    _answer(patch, "Flatten", _arrays(lambda array: array.reshape(6, -1).T.ravel() if array.size == 24 else array))


def _reshape_tiles(patch: Patch) -> None:
    _answer(patch, "Reshape", _arrays(lambda array: array.reshape(6, -1).T.ravel() if array.size == 24 else array))


def _concat_swaps(patch: Patch) -> None:
    """The parts of a Concat in the wrong order."""
    _answer(patch, "Concat", _arrays(lambda array: np.roll(array, 6)))


def _concat_reverses(patch: Patch) -> None:
    _answer(patch, "Concat", _arrays(lambda array: array[::-1].copy()))


def _add_ties_nothing(patch: Patch) -> None:
    """The two branches of an Add live and die apart."""
    rule = Rule("Add", lambda op: op.labels(0), since=7)
    patch.setitem(RULES, ("", "Add"), (rule,))


def _add_ties_shifted(patch: Patch) -> None:
    """Channel i of one branch is tied to channel i + 1 of the other."""

    def rule(op: Op) -> Labels:
        first, second = (op.labels(place).bundles[0] for place in (0, 1))
        op.trace.tie(first.array, np.roll(second.array, 1))
        return op.labels(0)

    patch.setitem(RULES, ("", "Add"), (Rule("Add", rule, since=7),))


def _gemm_forgets_transposition(patch: Patch) -> None:
    """W is read as if transB were not set."""
    original = Op.attribute

    def attribute(self: Op, name: str, default: Any = None) -> Any:
        return 0 if name == "transB" else original(self, name, default)

    patch.setattr(Op, "attribute", attribute)


def _transpose_inverts(patch: Patch) -> None:
    """The permutation is taken for its inverse."""

    def rule(op: Op) -> Labels:
        order = op.attribute("perm")
        return op.carry(0, dict(enumerate(order)))

    patch.setitem(RULES, ("", "Transpose"), (Rule("Transpose", rule),))


def _positions_shift(patch: Patch) -> None:
    """Spelled positions and sizes are one too high where they can be."""
    _spelled(patch, lambda value: value + 1)


def _positions_stay(patch: Patch) -> None:
    """Gathered positions keep their old order of size instead of being numbered anew."""
    _spelled(patch, lambda value: value[::-1].copy())


def _sizes_swap(patch: Patch) -> None:
    _spelled(patch, lambda value: np.roll(value, 1))


def _slice_labels_shift(patch: Patch) -> None:
    """A Slice is taken to hand on the positions one further on."""
    original = Op.out

    def out(self: Op, *arguments: Any) -> Labels:
        labels = original(self, *arguments)
        if self.node.op_type != "Slice":
            return labels
        bundles = tuple(Bundle(b.axes, np.roll(b.array, 1)) for b in labels.bundles)
        return replace(labels, bundles=bundles)

    patch.setattr(Op, "out", out)


def _tile_repeats(patch: Patch) -> None:
    _answer(patch, "Tile", _arrays(lambda array: np.repeat(array[: array.size // 2], 2)))


def _space_to_depth_repeats(patch: Patch) -> None:
    _answer(patch, "SpaceToDepth", _arrays(lambda array: np.repeat(array[: array.size // 4], 4)))


def _depth_to_space_mistakes_its_mode(patch: Patch) -> None:
    original = Op.attribute

    def attribute(self: Op, name: str, default: Any = None) -> Any:
        return b"CRD" if name == "mode" else original(self, name, default)

    patch.setattr(Op, "attribute", attribute)


def _bundles_turn(patch: Patch) -> None:
    """An axis is split into rows and columns the wrong way round."""
    original = shape._laid_out

    def laid_out(*arguments: Any) -> Bundle:
        bundle = original(*arguments)
        turned = bundle.array.reshape(bundle.array.shape[::-1]).T if bundle.array.ndim == 2 else bundle.array
        return Bundle(bundle.axes, np.ascontiguousarray(turned))

    patch.setattr(shape, "_laid_out", laid_out)


def _bias_ties_shifted(patch: Patch) -> None:
    """The bias of a convolution is tied to its neighbour's channel."""
    original = Op.axis

    def axis(self: Op, place: int, number: int) -> Array | None:
        array = original(self, place, number)
        return np.roll(array, 1) if array is not None and self.node.op_type == "Conv" and place == 2 else array

    patch.setattr(Op, "axis", axis)


def _weights_shift(patch: Patch) -> None:
    """The slicing itself takes the neighbours of what it should take."""
    original = Cut.gather

    def gather(self: Any, array: Any) -> Any:
        masks = tuple((axes, np.roll(mask, 1)) for axes, mask in self.masks)
        return original(replace(self, masks=masks), array)

    patch.setattr(Cut, "gather", gather)


def _one_weight_shifts(patch: Patch) -> None:
    """Only biases and other vectors are cut wrongly."""
    original = Cut.gather

    def gather(self: Any, array: Any) -> Any:
        masks = tuple((axes, np.roll(mask, 1) if array.ndim == 1 else mask) for axes, mask in self.masks)
        return original(replace(self, masks=masks), array)

    patch.setattr(Cut, "gather", gather)


def _groups_swap(patch: Patch) -> None:
    """A grouped convolution is tied to the channels of the other group."""
    original = Op.view

    def view(self: Op, *arguments: Any) -> list[Array]:
        outputs, inputs = original(self, *arguments)
        return [outputs, np.roll(inputs, 1, axis=0)]

    patch.setattr(Op, "view", view)


def _sizes_are_not_frozen(patch: Patch) -> None:
    """A size that reaches arithmetic follows what is kept."""
    patch.setattr(_Walk, "_freeze_sizes", lambda self: None)


def square() -> ModelProto:
    """Fully connected layers whose weights could be read either way."""
    net = Net()
    hidden = net.add("Sigmoid", net.add("Gemm", net.input("n", 6), net.weight(6, 6), transB=1))
    hidden = net.add("Sigmoid", net.add("Gemm", hidden, net.weight(6, 6), transB=1))
    return net.done(net.dense(hidden, 2, 6))


def cube() -> ModelProto:
    """All axes are of one size, and the permutation is not its own inverse."""
    net = Net()
    turned = net.add("Transpose", net.dense(net.input(6, 6, 6), 6, 6), perm=[1, 2, 0])
    return net.done(net.add("ReduceSum", turned, net.constant([0, 1]), keepdims=0))


FAULTS: tuple[tuple[str, Callable[[], ModelProto], Callable[[Patch], None]], ...] = (
    ("Flatten", lambda: network("Flatten-default axis"), _flatten_tiles),
    ("Reshape", lambda: network("Reshape-0, -1"), _reshape_tiles),
    ("order of Concat", lambda: network("Concat-three layers"), _concat_swaps),
    ("direction of Concat", lambda: network("dense blocks"), _concat_reverses),
    ("tie of Add", lambda: network("Add-7-two layers"), _add_ties_nothing),
    ("shifted tie of Add", lambda: network("Add-7-two layers"), _add_ties_shifted),
    ("transposed kernel", square, _gemm_forgets_transposition),
    ("Transpose", cube, _transpose_inverts),
    ("position of Slice", lambda: network("Slice-inputs"), _positions_shift),
    ("labels of Slice", lambda: network("Slice-inputs"), _slice_labels_shift),
    ("order of Gather", lambda: network("Gather-some channels"), _positions_stay),
    ("sizes of Split", lambda: network("Split-input"), _sizes_swap),
    ("groups of a depthwise layer", lambda: network("Conv-depthwise"), _positions_shift),
    ("Tile", lambda: network("Tile-channels"), _tile_repeats),
    ("SpaceToDepth", lambda: network("SpaceToDepth-of layers"), _space_to_depth_repeats),
    ("DepthToSpace", lambda: network("DepthToSpace-DCR"), _depth_to_space_mistakes_its_mode),
    ("channel shuffle", lambda: network("Reshape-shuffled"), _bundles_turn),
    ("bias", lambda: network("BatchNormalization-pictures"), _bias_ties_shifted),
    ("slicing", lambda: network("residual"), _weights_shift),
    ("slicing of vectors", lambda: network("residual"), _one_weight_shifts),
    ("grouped convolution", lambda: network("Conv-grouped"), _groups_swap),
    ("size in arithmetic", lambda: network("Shape-in arithmetic"), _sizes_are_not_frozen),
)


def objects(proto: ModelProto) -> bool:
    """Tell whether anything objects to some plan: the engine's own assertions, the checker, onnxruntime, the twin."""
    rng = np.random.default_rng(1)
    for share in (0.3, 0.5, 0.7):
        try:
            plan = random_plan(analyse(proto).coupling, rng, share)
            gap, _ = twin_gap(proto, plan, prune(proto, plan), rng)
        except (ModelError, AssertionError, IndexError, ValueError):
            return True
        if gap > BIG:
            return True
        assert gap <= TOLERANCE, "a fault is either plain or not there"
    return False


@pytest.mark.parametrize(("make", "fault"), [pytest.param(make, fault, id=name) for name, make, fault in FAULTS])
def test_a_broken_rule_is_found(
    make: Callable[[], ModelProto], fault: Callable[[Patch], None], monkeypatch: Patch
) -> None:
    proto = make()
    assert_sound(proto, np.random.default_rng(1), shares=(0.3, 0.6))
    fault(monkeypatch)
    assert objects(proto)


def test_by_numbers_alone() -> None:
    """Faults that neither the checker nor onnxruntime can see are seen by the twin."""
    with Patch.context() as patch:
        proto = network("Flatten-default axis")
        _flatten_tiles(patch)
        rng = np.random.default_rng(1)
        plan = random_plan(analyse(proto).coupling, rng, 0.5)
        gap, _ = twin_gap(proto, plan, prune(proto, plan), rng)
    assert gap > BIG
