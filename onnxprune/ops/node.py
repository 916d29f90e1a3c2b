"""What a rule sees of a node: its shapes and attributes, known values of its inputs, and the labels they carry."""

import copy
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any, Self

from onnx import NodeProto, helper, numpy_helper

from onnxprune.graph.index import Index, attributes, node_site
from onnxprune.graph.tensors import is_external
from onnxprune.ops.behind import Behind, find_behind
from onnxprune.ops.labels import Array, Bundle, Fixed, Labels, Purpose
from onnxprune.ops.trace import Role, Trace
from onnxprune.shapes.fold import Known, Size
from onnxprune.shapes.infer import Shapes

__all__ = ["NodeView"]

MOST_GENERATED = 1 << 20
"""Positions along one axis beyond which a node does not make channels but a picture, or is damaged."""

MOST_FOLLOWED = 16
"""Steps between a statistic and the positions that it scales; exporters write some eight."""

_LAID_OUT = "Cast Expand Flatten Gather Identity Reshape Slice Split Squeeze Tile Transpose Unsqueeze"
_LAYS_OUT = frozenset(_LAID_OUT.split())

_FOLLOWED = "Abs Add Cast Clip Div Expand Identity Max Mul Neg Pow Reciprocal Reshape Sqrt Sub Unsqueeze"
_STEPS = frozenset(_FOLLOWED.split())


class NodeView:
    """One node, as a rule sees it before it says anything."""

    def __init__(self, number: int, index: Index, shapes: Shapes, trace: Trace) -> None:
        self.number = number
        self.node: NodeProto = index.nodes[number]
        domain = self.node.domain
        self.version = index.opsets.get(domain if domain != "ai.onnx" else "", 1)
        self.trace = trace
        self._index = index
        self._shapes = shapes
        self._attributes = attributes(self.node)
        self._labels: dict[int, Labels] = {}
        self._names: list[str] = index.reads[number]
        self._seen = self._names
        self._places: Sequence[int] = range(len(self._names))

    def seen_as(self, *places: int) -> Self:
        """Return the same node as if it had only these inputs, in this order; what is said of one is said of both."""
        view = copy.copy(self)
        view._places = tuple(self.place_of(place) for place in places)
        names = self._names
        view._seen = [*(names[place] if place < len(names) else "" for place in view._places), *names[len(places) :]]
        return view

    def place_of(self, place: int) -> int:
        """Return the number of an input in the file, beside which a quantised operator has scales and zero points."""
        return self._places[place] if place < len(self._places) else place

    def name_of(self, place: int) -> str:
        """Name of input `place`."""
        return self._seen[place]

    # ---- what the node is -------------------------------------------------------------------------------------------

    def has(self, place: int) -> bool:
        """Tell whether the optional input `place` is given."""
        return place < len(self._places) and self._seen[place] != ""

    def has_output(self, place: int) -> bool:
        """Tell whether output `place` is asked for by anyone."""
        names = self._index.makes[self.number]
        if place >= len(names) or not names[place]:
            return False
        index, name = self._index, names[place]
        return bool(index.consumers.get(name) or index.captured.get(name) or name in index.outputs)

    @property
    def inputs(self) -> list[int]:
        """Numbers of the inputs that are given."""
        return [place for place in range(len(self._places)) if self.has(place)]

    def shape(self, place: int) -> tuple[int, ...]:
        """Shape of input `place`."""
        return self._shapes.shapes[self._seen[place]]

    def out_shape(self, place: int = 0) -> tuple[int, ...]:
        """Shape of output `place`."""
        return self._shapes.shapes[self._index.makes[self.number][place]]

    def attribute(self, name: str, default: Any = None) -> Any:
        """Value of an attribute, `default` where it is not given."""
        found = self._attributes.get(name)
        return default if found is None else helper.get_attribute_value(found)

    def known(self, place: int, *, partly: bool = False) -> Known | None:
        """Value of an input that spells sizes or positions, None where it is known only at run time.

        A number that follows from a symbolic size is not known; with `partly`, the caller looks at each by itself.
        """
        if not self.has(place):
            return None
        known = self._shapes.known.get(self.name_of(place))
        if known is None or partly or all(self.is_static(size) for size in known.all_sources()):
            return known
        return None

    def axis_of(self, place: int, axis: int) -> int:
        """Return `axis` of input `place`, counted from the front."""
        rank = len(self.shape(place))
        return axis % rank if rank else 0

    @cached_property
    def site(self) -> str:
        """How to call the node in a message."""
        site: str = node_site(self.node)
        return site

    @cached_property
    def positions(self) -> Fixed:
        """What this node's unlabelled axes are."""
        return Fixed(Purpose.POSITION, self.site)

    def is_static(self, size: Size) -> bool:
        """Tell whether a tensor's size does not depend on the inputs' symbolic dimensions."""
        return self._shapes.is_static(size)

    def is_batch(self, size: Size) -> bool:
        """Tell whether a tensor's size grows as the batch does, and with nothing else."""
        return self._shapes.is_batch(size)

    def is_zero(self, place: int) -> bool:
        """Tell whether an input is made of zeros, whatever goes into the network."""
        name = self.name_of(place) if self.has(place) else ""
        while name:
            known = self._shapes.known.get(name)
            if known is not None and known.constant:
                return not known.value.any()
            stored = self._index.weights.get(name)
            if stored is not None:
                return not is_external(stored) and not numpy_helper.to_array(stored).any()
            number = self._index.producer.get(name)
            node = None if number is None else self._index.nodes[number]
            if node is None or node.domain not in ("", "ai.onnx"):
                return False
            if node.op_type == "ConstantOfShape":
                value = attributes(node).get("value")
                return value is None or not numpy_helper.to_array(value.t).any()
            name = node.input[0] if node.op_type in _LAYS_OUT else ""
        return False

    # ---- labels of the inputs ---------------------------------------------------------------------------------------

    def labels(self, place: int) -> Labels:
        """Labels of input `place`; a weight gets labels of its own for this use."""
        key = self._places[place] if place < len(self._places) else place
        found = self._labels.get(key)
        if found is None:
            name = self._names[key]
            found = self._weight_labels(key) if self._index.is_weight(name) else self.trace.labels[name]
            self._labels[key] = found
        return found

    def relabel(self, place: int, labels: Labels) -> None:
        """Let input `place` have other labels for the rest of this rule."""
        self._labels[self.place_of(place)] = labels

    def _weight_labels(self, place: int) -> Labels:
        name = self._names[place]
        shape = self._shapes.shapes[name]
        use = self.trace.use(self.number, place, name, shape)
        return Labels(shape, self.trace.weight_bundles(use), Fixed(Purpose.POSITION, use.tensor))

    def is_stored(self, place: int) -> bool:
        """Tell whether an input is a stored weight itself, not something computed from one."""
        return self.has(place) and self._index.is_weight(self.name_of(place))

    def is_constant(self, place: int) -> bool:
        """Tell whether an input is computed from stored weights alone."""
        return self.has(place) and self._seen[place] in self._index.constants

    def is_written(self, array: Array) -> bool:
        """Tell whether labels are a layer's channels, not those of a table or positions that a node has made."""
        return self.trace.block_of(int(array.flat[0])).role is Role.WRITES

    def is_born_in_rows(self, bundle: Bundle) -> bool:
        """Tell whether rows are those of a weight itself, as directions are, not heads that a Reshape has cut."""
        born = self.trace.block_of(int(bundle.array.flat[0]))
        return len(bundle.axes) == len(born.axes) == 2 and born.size == bundle.array.size

    def behind(self, place: int) -> Behind | None:
        """Return the stored weight that an input is made from element by element, for this node alone."""
        return find_behind(self.trace, self._index, self.name_of(place))

    def view(self, place: int, shape: tuple[int, ...], axes: Sequence[tuple[int, ...]]) -> list[Array]:
        """See a stored weight as an array of another shape; returns labels over each of the given sets of its axes."""
        assert self.place_of(place) not in self._labels, "a weight is labelled once"
        use = self.trace.use(self.number, self.place_of(place), self.name_of(place), shape)
        self.relabel(place, Labels(self.shape(place), (), self.positions))
        sizes = [tuple(shape[axis] for axis in group) for group in axes]
        return self.trace.view_labels(use, list(zip(axes, sizes, strict=True)))

    def axis(self, place: int, axis: int) -> Array | None:
        """One-dimensional labels of one axis, None where it is fixed; ties the rest of a bundle so that they exist."""
        axis = self.axis_of(place, axis)
        labels = self.labels(place)
        bundle = labels.bundle_at(axis)
        if bundle is None:
            return None
        if len(bundle.axes) > 1:
            single = self.trace.collapse(bundle, [other for other in bundle.axes if other != axis])
            assert single is not None
            self.relabel(place, labels.replace(bundle, single))
            bundle = single
        return bundle.array

    def hold(self, place: int, axes: Iterable[int], purpose: Purpose = Purpose.POSITION) -> None:
        """Remove nothing along these axes of an input: rows of a bundle are tied, an axis of its own is pinned."""
        self.relabel(place, self._held(self.labels(place), axes, purpose))

    def _held(self, labels: Labels, axes: Iterable[int], purpose: Purpose) -> Labels:
        for axis in axes:
            bundle = labels.bundle_at(axis)
            if bundle is None:
                continue
            rest = self.trace.collapse(bundle, [axis])
            labels = labels.replace(bundle, rest)
            if rest is None:
                fixed = Fixed(purpose, self.site)
                self.trace.pin(bundle.array, fixed)
                labels = Labels(labels.shape, labels.bundles, fixed)
        return labels

    def fixed(self, place: int) -> Fixed:
        """Where the unlabelled axes of an input come from."""
        return self.labels(place).fixed

    def frozen(self, size: int, fixed: Fixed) -> Array:
        """Return new labels for positions that never go, so that they can stand beside labelled ones."""
        array = self.trace.fresh((size,), self.number)
        self.trace.pin(array, fixed)
        return array

    @staticmethod
    def can_generate(size: int) -> bool:
        """Tell whether positions that a node makes are channels that one might want fewer of."""
        return 1 < size <= MOST_GENERATED

    def generated(self, size: int) -> Array:
        """Return new labels for positions that this node makes itself, as many as it is told to."""
        return self.trace.fresh((size,), self.number)

    # ---- the nodes beside it ----------------------------------------------------------------------------------------

    def maker(self, place: int) -> "NodeView | None":
        """Return the node that makes input `place`, None where no node does."""
        number = self._index.producer.get(self.name_of(place))
        return None if number is None else NodeView(number, self._index, self._shapes, self.trace)

    def is_only_for(self, place: int, operator: str) -> bool:
        """Tell whether output `place` is asked for, by nodes of one operator and nobody else."""
        index, name = self._index, self.node.output[place] if place < len(self.node.output) else ""
        readers = {index.nodes[edge.node].op_type for edge in index.consumers.get(name, [])}
        return readers == {operator} and not index.captured.get(name) and name not in index.outputs

    # ---- what becomes of what the node makes ------------------------------------------------------------------------

    def normalises(self, axes: Iterable[int]) -> bool:
        """Tell whether what lies along some axes of input 0 is centred, or scaled to size, by a mean over these axes.

        It is followed through steps that a normalisation takes: ε is added, a root or reciprocal taken, a type changed.
        A mean that is subtracted centres, one whose root is taken scales to size.
        """
        sizes = {axis - len(self.shape(0)): self.shape(0)[axis] for axis in axes}
        pending, seen = [(self.node.output[0], False)], set[str]()
        while pending and len(seen) < MOST_FOLLOWED:
            name, rooted = pending.pop()
            for edge in self._index.consumers.get(name, []):
                node = self._index.nodes[edge.node]
                if node.op_type not in _STEPS or node.output[0] in seen:
                    continue
                shape = self._shapes.shapes.get(node.output[0], ())
                if any(size > 1 and -axis <= len(shape) and shape[axis] == size for axis, size in sizes.items()):
                    if rooted or node.op_type == "Sub":
                        return True
                    continue
                seen.add(node.output[0])
                pending.append((node.output[0], rooted or node.op_type in ("Sqrt", "Pow")))
        return False
