"""One pass over the graph that lets every operator's rule speak, and keeps whatever no rule speaks for."""

from collections import defaultdict
from collections.abc import Callable, Iterable

import numpy as np
from onnx import NodeProto

from onnxprune.graph.index import Index, node_site, outer_reads
from onnxprune.ops import find_rule
from onnxprune.ops.labels import Bundle, Door, Fixed, Labels, Purpose
from onnxprune.ops.op import Op
from onnxprune.ops.rule import Rule
from onnxprune.ops.trace import Block, Opened, Read, Spelling, Trace, Use
from onnxprune.shapes.fold import Size
from onnxprune.shapes.infer import Shapes

__all__ = ["walk"]


class _Walk:
    def __init__(
        self,
        index: Index,
        shapes: Shapes,
        is_uniform: Callable[[str], bool],
        barred: frozenset[int],
        opened: Opened,
    ) -> None:
        self.index = index
        self.shapes = shapes
        self.is_uniform = is_uniform
        self.barred = barred
        self.trace = Trace(opened)
        self.rules: dict[tuple[str, str], Rule | None] = {}
        self.spelled: set[tuple[int, int | str]] = set()
        self.entering, self.leaving = _doors(index, opened)

    def run(self) -> Trace:
        for name in self.index.inputs:
            self._fix([name], Purpose.GRAPH_INPUT, name)
        for name in self.index.weights:
            self._fix([name], Purpose.POSITION, name)
        for number, node in enumerate(self.index.nodes):
            if self.index.operators[number] != "Constant" or node.domain:
                self._visit(number, node)
            elif node.output[0] not in self.index.weights:
                self._fix(node.output, Purpose.POSITION, node_site(node))
        self._tie_states()
        self._pin_outputs()
        self._pin_weights()
        self._tie_shared()
        self._freeze_sizes()
        return self.trace

    def _fix(self, names: Iterable[str], purpose: Purpose, site: str) -> None:
        for name in names:
            if name and name in self.shapes.shapes:
                self.trace.labels[name] = Labels(self.shapes.shapes[name], (), Fixed(purpose, site))

    def _visit(self, number: int, node: NodeProto) -> None:
        rule = self._rule(node.domain, self.index.operators[number])
        reads, makes, labels = self.index.reads[number], self.index.makes[number], self.trace.labels
        if number in self.entering and makes[0] in self.shapes.shapes:
            self._enter(number)
        elif number in self.leaving and reads[0] in labels:
            self._leave(number)
        elif number in self.index.nested:
            self._opaque(number, Purpose.SUBGRAPH)
        elif number in self.barred:
            self._opaque(number, Purpose.CUSTOM)
        elif rule is None:
            self.trace.unruled[node_site(node)] = node.op_type
            self._opaque(number, Purpose.NO_RULE)
        elif not all(name in labels or not name for name in reads) or not all(
            name in self.shapes.shapes or not name for name in makes
        ):
            self._opaque(number, Purpose.UNSHAPED)
        else:
            answer = rule.apply(Op(number, self.index, self.shapes, self.trace))
            answers = [answer] if isinstance(answer, Labels) else list(answer)
            labels.update((name, own) for name, own in zip(makes, answers, strict=False) if name)
            left = [name for name in makes if name and name not in labels]
            if left:
                self._fix(left, Purpose.POSITION, node_site(node))

    def _enter(self, number: int) -> None:
        """Label what comes in at a door."""
        inner, outer = self.index.makes[number][0], self.index.reads[number][0]
        shape = self.shapes.shapes[inner]
        axes = [axis for axis, size in enumerate(shape) if size > 1 and self.shapes.is_static((inner, axis))]
        bundles = tuple(Bundle((axis,), self.trace.fresh((shape[axis],), number)) for axis in axes)
        self.trace.labels[inner] = Labels(shape, bundles, Fixed(Purpose.GRAPH_INPUT, outer))
        self.trace.doors[outer] = Door(number, inward=True, bundles=bundles)

    def _leave(self, number: int) -> None:
        """Let a door read what goes out, as zero where it is removed."""
        inner, outer = self.index.reads[number][0], self.index.makes[number][0]
        alone = [bundle for bundle in self.trace.labels[inner].bundles if len(bundle.axes) == 1]
        for bundle in self.trace.labels[inner].bundles:
            if len(bundle.axes) == 1:
                self.trace.reads.append(Read(number, 0, bundle.axes, bundle.array))
            else:
                self.trace.pin(bundle.array, Fixed(Purpose.GRAPH_OUTPUT, outer))
        self._fix([outer], Purpose.GRAPH_OUTPUT, outer)
        self.trace.doors[outer] = Door(number, inward=False, bundles=tuple(alone))

    def _tie_states(self) -> None:
        """Tie what goes out, slot by slot, to what comes in next; where one side is fixed, nothing goes."""
        for names in self.trace.opened.states:
            doors = [self.trace.doors.get(name, Door(-1, inward=False, bundles=())) for name in names]
            source, target = ({bundle.axes: bundle.array for bundle in door.bundles} for door in doors)
            for axes in source.keys() | target.keys():
                first, second = source.get(axes), target.get(axes)
                if first is not None and second is not None and first.shape == second.shape:
                    self.trace.tie(first, second)
                    continue
                if first is not None:
                    self.trace.pin(first, Fixed(Purpose.GRAPH_INPUT, names[0]))
                if second is not None:
                    self.trace.pin(second, Fixed(Purpose.GRAPH_OUTPUT, names[1]))

    def _rule(self, domain: str, operator: str) -> Rule | None:
        if (domain, operator) not in self.rules:
            self.rules[domain, operator] = find_rule(self.index, domain, operator)
        return self.rules[domain, operator]

    def _has_labels(self, name: str) -> bool:
        return name in self.trace.labels

    def _opaque(self, number: int, purpose: Purpose) -> None:
        """Keep everything that a node touches."""
        node = self.index.nodes[number]
        op = Op(number, self.index, self.shapes, self.trace)
        inner = [name for name in sorted(outer_reads(node)) if name in self.trace.labels]
        for place in op.inputs:
            if self._has_labels(node.input[place]):
                self.trace.pin_all(op.labels(place), purpose, op.site)
        for name in inner:
            self.trace.pin_all(self.trace.labels[name], purpose, op.site)
        self._fix(node.output, purpose, op.site)

    def _pin_outputs(self) -> None:
        for name in self.index.outputs:
            if name in self.trace.labels:
                self.trace.pin_all(self.trace.labels[name], Purpose.GRAPH_OUTPUT, name)

    def _pin_weights(self) -> None:
        """Keep a weight whole that subgraphs read too, or that is handed out: a smaller copy would only add to it."""
        outputs = set(self.index.outputs)
        for block in self.trace.blocks:
            name = "" if block.use is None else block.use.tensor
            given, read = name in outputs, self.index.captured.get(name)
            if (given or read) and not self.is_uniform(name):
                site = name if given or not read else node_site(self.index.nodes[read[0]])
                purpose = Purpose.GRAPH_OUTPUT if given else Purpose.SUBGRAPH
                self.trace.pin(np.arange(block.start, block.start + block.size), Fixed(purpose, site))

    def _tie_shared(self) -> None:
        """Keep a weight that is shared on purpose shared; equal tensors that an exporter merged go their own ways."""
        by_tensor: dict[str, list[Use]] = defaultdict(list)
        for use in self.trace.uses.values():
            by_tensor[use.tensor].append(use)
        shared = {name for name, uses in by_tensor.items() if len(uses) > 1 and not self.is_uniform(name)}
        found: dict[str, dict[tuple[int, ...], list[Block]]] = defaultdict(lambda: defaultdict(list))
        for block in self.trace.blocks:
            if block.use is not None and block.use.tensor in shared:
                found[block.use.tensor][block.axes].append(block)
        for name, by_axes in found.items():
            alike = len({use.view for use in by_tensor[name]}) == 1
            for blocks in by_axes.values():
                arrays = [np.arange(block.start, block.start + block.size) for block in blocks]
                for array in arrays:
                    if alike:
                        self.trace.tie(arrays[0], array)
                    else:
                        self.trace.pin(array, Fixed(Purpose.CONFLICT, name))

    def _freeze_sizes(self) -> None:
        """A size that reaches arithmetic keeps its original value; one that cannot be told pins what it counts."""
        known = self.shapes.known
        self.spelled = {(spelling.node, spelling.slot) for spelling in self.trace.spellings}
        moving = {name for name, value in known.items() if not value.constant}
        for number, (reads, makes) in enumerate(zip(self.index.reads, self.index.makes, strict=True)):
            if moving.isdisjoint(reads):
                continue
            inside = all(not name or name in known for name in makes) and any(makes)
            for place, name in enumerate(reads):
                if name in moving and not inside:
                    self._freeze(number, place, name)
        for name in self.index.outputs:
            if name in known:
                self._pin_sources(name, Fixed(Purpose.GRAPH_OUTPUT, name), None)
        for name in self.index.captured:
            if name in known and self.index.captured[name]:
                self._pin_sources(name, Fixed(Purpose.SUBGRAPH, name), None)

    def _pin_sources(self, name: str, fixed: Fixed, entries: Iterable[int] | None) -> None:
        sources = self.shapes.known[name].sources.ravel()
        chosen = range(len(sources)) if entries is None else entries
        for size in {size for entry in chosen for size in sources[entry]}:
            labels = self.trace.labels.get(size[0])
            bundle = None if labels is None else labels.bundle_at(size[1])
            if bundle is not None:
                self.trace.pin(bundle.array, fixed)

    def _counts_labels(self, sources: Iterable[tuple[str, int]]) -> bool:
        labels = self.trace.labels
        return any(name in labels and labels[name].bundle_at(axis) is not None for name, axis in sources)

    def _freeze_at_source(self, size: Size, site: str) -> None:
        """Let a tensor's Shape tell its original size, so that what is computed from it at run time stays as it was."""
        readers = {self.index.nodes[edge.node].op_type for edge in self.index.consumers[size[0]]}
        told = self.shapes.is_static(size) or self.shapes.is_multiple(size)
        if "Size" not in readers and told and not self.index.captured.get(size[0]):
            self.trace.frozen.add(size[0])
            return
        bundle = self.trace.labels[size[0]].bundle_at(size[1])
        assert bundle is not None, "only sizes that labels count are frozen"
        self.trace.pin(bundle.array, Fixed(Purpose.RUNTIME, site))

    def _freeze(self, number: int, place: int, name: str) -> None:
        value = self.shapes.known[name]
        sources = value.sources.ravel()
        touched = [entry for entry, group in enumerate(sources) if self._counts_labels(group)]
        if not touched:
            return
        loose = [entry for entry in touched if not all(self.shapes.is_static(size) for size in sources[entry])]
        if value.value.ndim != 1 and loose:
            loose = touched
        for size in {size for entry in loose for size in sources[entry] if self._counts_labels([size])}:
            self._freeze_at_source(size, node_site(self.index.nodes[number]))
        if (number, place) not in self.spelled:
            self.trace.spellings.append(Spelling(number, place, lambda kept: value.value, entries=()))


def _doors(index: Index, opened: Opened) -> tuple[set[int], set[int]]:
    """Numbers of the nodes where states come in, and where they go out."""
    sources, targets = {source for source, _ in opened.states}, {target for _, target in opened.states}
    found = [k for k, operator in enumerate(index.operators) if operator == "Identity" and opened.states]
    entering = {k for k in found if index.reads[k][0] in sources}
    return entering, {k for k in found if index.makes[k][0] in targets} - entering


def walk(
    index: Index,
    shapes: Shapes,
    is_uniform: Callable[[str], bool],
    barred: frozenset[int] = frozenset(),
    opened: Opened = Opened(),  # noqa: B008  a frozen value
) -> Trace:
    """Label every tensor of a graph.

    Parameters
    ----------
    index, shapes
        The graph and its shapes.
    is_uniform : callable
        Tells of a stored tensor whether all its elements are equal (an exporter may then have merged it).
    barred : frozenset of int
        Nodes that onnxruntime cannot run; what they touch is kept.
    opened : Opened
        What is pinned by default and shall not be.

    Returns
    -------
    Trace
    """
    return _Walk(index, shapes, is_uniform, barred, opened).run()
