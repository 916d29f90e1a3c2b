"""The oracle of every rewriting test: random plans carried out, and compared with the twin of the original."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper

from onnxprune.calibrate.feeds import Feeds, random_feeds
from onnxprune.coupling import Coupling, Group, couple, walk
from onnxprune.graph import io
from onnxprune.graph.index import Index
from onnxprune.graph.model import Model
from onnxprune.graph.runtime import CPU, Session
from onnxprune.ops.labels import Labels, Purpose
from onnxprune.ops.trace import Kept, Opened, Role
from onnxprune.rewrite.apply import apply
from onnxprune.rewrite.plan import GroupPlan, Plan
from onnxprune.shapes.infer import Shapes, infer_shapes
from onnxprune.validate.bypass import bypass
from onnxprune.validate.compare import difference
from onnxprune.validate.twin import build_twin

__all__ = [
    "SHARES",
    "TOLERANCE",
    "Analysis",
    "analyse",
    "assert_sound",
    "prune",
    "prune_random",
    "random_plan",
    "twin_gap",
    "weight_count",
    "written_and_held",
]

TOLERANCE = 1e-5
SHARES = (0.3, 0.6, 1.0)
NOTHING = Opened()


@dataclass(frozen=True)
class Analysis:
    """A copy of a network, and all that the engine found out about it."""

    model: Model
    index: Index
    shapes: Shapes
    coupling: Coupling

    @property
    def sizes(self) -> list[int]:
        """Sizes of the groups, ascending."""
        return sorted(group.size for group in self.coupling.groups)

    @property
    def purposes(self) -> set[str]:
        """Purposes for which weights with more than one channel are held."""
        blocks = self.coupling.trace.blocks
        return {
            item.fixed.purpose.name
            for item in self.coupling.held
            if len(item.units) > 1 and any(blocks[block].use is not None for block in item.blocks)
        }


def analyse(
    proto: ModelProto,
    *,
    given: dict[str, tuple[int, ...]] | None = None,
    barred: frozenset[int] = frozenset(),
    opened: Opened = NOTHING,
) -> Analysis:
    """Label and couple a copy of a network."""
    model = io.from_proto(proto)
    index = Index(model.proto)
    shapes = infer_shapes(index, model.skeleton(), given)

    def is_uniform(name: str) -> bool:
        value = model.array(index.weights[name])
        return bool(value.size == 0 or (value == value.flat[0]).all())

    return Analysis(model, index, shapes, couple(walk(index, shapes, is_uniform, barred, opened), index))


def _draw(group: Group, rng: np.random.Generator, share: float) -> tuple[int, ...]:
    rows = np.zeros(group.size, dtype=np.int64) if group.rows is None else group.rows
    size = group.size // group.step
    count = max(1, size - round(share * size))
    kept = [rng.choice(np.flatnonzero(rows == row), count, replace=False) for row in range(group.step)]
    return tuple(sorted(int(position) for position in np.concatenate(kept)))


def random_plan(coupling: Coupling, rng: np.random.Generator, share: float) -> Plan:
    """Remove this share of every group, at random, at most all but one channel (one of each row)."""
    return Plan("", tuple(GroupPlan(group.name, group.size, _draw(group, rng, share)) for group in coupling.groups))


def prune(proto: ModelProto, plan: Plan, *, barred: frozenset[int] = frozenset(), opened: Opened = NOTHING) -> Model:
    """Carry a plan out on a copy of a network, and check the result's structure and signature."""
    found = analyse(proto, barred=barred, opened=opened)
    plan.check(found.coupling)
    apply(found.model, found.index, found.shapes, found.coupling, plan)
    io.check(found.model)
    assert _envelope(found.model.proto) == _envelope(proto), "metadata or signature changed"
    return found.model


def prune_random(proto: ModelProto, rng: np.random.Generator, share: float) -> Model:
    """Remove this share of every group, at random."""
    return prune(proto, random_plan(analyse(proto).coupling, rng, share))


def _envelope(proto: ModelProto) -> ModelProto:
    """Everything of a network but its nodes, weights and notes on intermediate tensors."""
    copy = ModelProto()
    copy.CopyFrom(proto)
    weights = {tensor.name for tensor in proto.graph.initializer}
    kept = [value for value in proto.graph.input if value.name not in weights]
    for field in ("node", "initializer", "value_info", "input"):
        copy.graph.ClearField(field)
    copy.graph.input.extend(kept)
    return copy


def _selected(value: NDArray[np.generic], labels: Labels, kept: Kept, *, whole: bool) -> NDArray[np.generic]:
    """Lay out what is kept of a tensor (of a pruned one, all of it), each bundle's axes as one axis at the end."""
    for bundle in sorted(labels.bundles, key=lambda item: item.axes):
        mask = kept.of(bundle.array)
        rest = [axis for axis in range(value.ndim) if axis not in bundle.axes]
        order = [*rest, *bundle.axes]
        moved = value.transpose(order)
        flat = moved.reshape(*moved.shape[: len(rest)], -1)
        flat = flat if whole else flat[..., mask.ravel()]
        # The bundle's positions lie along its first axis from now on, the other axes keep their numbers at size one.
        shape = [value.shape[axis] for axis in rest] + [flat.shape[-1]] + [1] * (len(bundle.axes) - 1)
        value = flat.reshape(shape).transpose(np.argsort(order))
    return value


def _scaled(plan: Plan, rng: np.random.Generator) -> Plan:
    groups = tuple(
        GroupPlan(item.name, item.channels, item.kept, tuple((0.5 + rng.random(len(item.kept))).tolist()))
        for item in plan.groups
    )
    return Plan(plan.source, groups)


def twin_gap(
    proto: ModelProto,
    plan: Plan,
    pruned: Model,
    rng: np.random.Generator,
    *,
    sizes: Mapping[str, tuple[int, ...]] | None = None,
    barred: frozenset[int] = frozenset(),
    opened: Opened = NOTHING,
    rounded: bool = False,
) -> tuple[float, set[str]]:
    """Compare a pruned network with the twin, at the outputs and at what readers compute.

    `sizes` are shapes of inputs to run with, in place of those that the analysis assumed; with `rounded`, activations
    are rounded as in the original. Returns the largest relative
    L2 difference, and the groups of which a channel stays that some reader sees other than zero.
    """
    found = analyse(proto, barred=barred, opened=opened)
    coupling, trace = found.coupling, found.coupling.trace
    factors = plan.unit_factors(coupling)
    copy = found.model.copy().proto
    twin = build_twin(copy, found.index, found.shapes, coupling, scaled=factors is not None, rounded=rounded)
    kept = coupling.kept(plan.removed_units(coupling))
    feeds = _feeds(found, rng, sizes or {})
    expected = Session(twin.proto.SerializeToString(), (CPU,)).run(
        {**feeds, **twin.feeds(kept, coupling.unit_of, factors)}
    )
    shown = pruned.materialise()
    for name in twin.compared:
        if name not in found.index.outputs:
            shown.graph.output.append(helper.make_tensor_value_info(name, found.shapes.types[name], None))
    bypass(shown, twin.roundings)
    values = Session(shown.SerializeToString(), (CPU,)).run(feeds)
    gaps = []
    for name in twin.compared:
        labels = trace.labels[name]
        reference = _selected(expected[name], labels, kept, whole=False)
        gap = difference(_selected(values[name], labels, kept, whole=True), reference)
        gaps.append(gap.relative_l2)
    assert gaps, "nothing was compared"
    arrays = [mask.read.array for mask in twin.masks if mask.activity]
    return max(gaps), _active(found, plan, [expected[name] for name in twin.activities], arrays)


def _feeds(found: Analysis, rng: np.random.Generator, sizes: Mapping[str, tuple[int, ...]]) -> Feeds:
    inputs = dict(found.shapes.inputs)
    inputs.update(sizes)
    shapes = replace(found.shapes, inputs=inputs)
    return random_feeds(found.index, shapes, rng)


def _active(
    found: Analysis, plan: Plan, activities: Sequence[NDArray[np.generic]], arrays: Sequence[NDArray[np.int64]]
) -> set[str]:
    unit_of = found.coupling.unit_of
    active = np.zeros(int(unit_of.max(initial=-1)) + 1, dtype=bool)
    for activity, array in zip(activities, arrays, strict=True):
        active[unit_of[array[np.asarray(activity > 0)]]] = True  # type: ignore[operator]
    groups = found.coupling.group_of
    return {item.name for item in plan.groups if active[groups[item.name].units[list(item.kept)]].any()}


def assert_sound(
    proto: ModelProto,
    rng: np.random.Generator,
    *,
    shares: Sequence[float] = SHARES,
    sizes: Sequence[Mapping[str, tuple[int, ...]]] = ({},),
    barred: frozenset[int] = frozenset(),
    scaled: bool = False,
    powerful: bool = True,
    tolerance: float = TOLERANCE,
    opened: Opened = NOTHING,
) -> None:
    """Prune a network by random plans, and prove each result by the twin; a plan that keeps all changes nothing.

    With `powerful`, some channel of each group has to be seen to be other than zero.
    """
    before = proto.SerializeToString(deterministic=True)
    coupling = analyse(proto, barred=barred, opened=opened).coupling
    everything = prune(proto, random_plan(coupling, rng, 0.0), barred=barred, opened=opened)
    assert everything.proto.SerializeToString(deterministic=True) == before, "a plan that keeps all changed the file"
    active: set[str] = set()
    for share in shares:
        plan = random_plan(coupling, rng, share)
        plan = _scaled(plan, rng) if scaled else plan
        pruned = prune(proto, plan, barred=barred, opened=opened)
        if any(len(item.kept) < item.channels for item in plan.groups):
            assert weight_count(pruned.proto) < weight_count(proto), "nothing was removed"
        for shapes in sizes:
            gap, seen = twin_gap(proto, plan, pruned, rng, sizes=shapes, barred=barred, opened=opened)
            active |= seen
            assert gap <= tolerance, f"the pruned network differs from its twin by {gap:.3g} ({share:.0%}, {shapes})"
    powerless = {group.name for group in coupling.groups} - active
    assert not (powerful and powerless), f"no kept channel of {powerless} is ever active: the comparison shows nothing"
    assert proto.SerializeToString(deterministic=True) == before, "the input was modified"


def weight_count(proto: ModelProto) -> int:
    """Elements of the floating tensors that are stored in the main graph and that its nodes read."""
    read = {name for node in proto.graph.node for name in node.input}
    tensors = [tensor for tensor in proto.graph.initializer if tensor.name in read]
    tensors += [item.t for node in proto.graph.node if node.op_type == "Constant" for item in node.attribute]
    floats = (TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16)
    return sum(int(np.prod(tensor.dims)) for tensor in tensors if tensor.data_type in floats)


def written_and_held(found: Analysis) -> list[tuple[str, int]]:
    """Purpose and number of the channels that a layer writes and that cannot go, those of the outputs aside."""
    blocks = found.coupling.trace.blocks
    return sorted(
        (item.fixed.purpose.name, len(item.units))
        for item in found.coupling.held
        if item.fixed.purpose is not Purpose.GRAPH_OUTPUT and any(blocks[b].role is Role.WRITES for b in item.blocks)
    )
