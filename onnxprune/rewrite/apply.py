"""Carrying a plan out: weights are gathered along every labelled axis, and sizes and positions are spelled anew.

No operator's name occurs here: what a node needs is in the trace.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import AttributeProto, NodeProto, TensorProto, helper, numpy_helper

from onnxprune.coupling import Coupling
from onnxprune.graph.index import Index, attributes
from onnxprune.graph.model import Model
from onnxprune.ops.labels import Labels
from onnxprune.ops.trace import Kept, Spelling, Use
from onnxprune.rewrite.cut import Cut, cuts_of, is_private, sorted_by_cut
from onnxprune.rewrite.plan import Plan
from onnxprune.rewrite.tidy import drop_dead, free_name
from onnxprune.shapes.infer import Shapes

__all__ = ["apply"]

_Step = tuple[str, NDArray[Any], dict[str, Any]]
"""An operator, its second input, and its attributes."""


class _Editor:
    def __init__(self, model: Model, index: Index, shapes: Shapes, coupling: Coupling, plan: Plan) -> None:
        self.model = model
        self.graph = model.proto.graph
        self.index = index
        self.shapes = shapes
        self.coupling = coupling
        self.trace = coupling.trace
        self.kept: Kept = coupling.kept(plan.removed_units(coupling))
        self.factors = plan.unit_factors(coupling)
        self.names = _all_names(index)

    def run(self) -> None:
        before = [list(node.input) for node in self.index.nodes]
        self._cut_weights()
        self._spell()
        self._leave_out()
        self._become_gathers()
        self._keep_means()
        self._keep_states()
        self._describe()
        drop_dead(self.model.proto, before)
        self._freeze_shapes()

    # ---- weights ----------------------------------------------------------------------------------------------------

    def _cut_weights(self) -> None:
        for name, uses in cuts_of(self.coupling, self.kept, self.factors).items():
            if not all(cut.is_whole for _, cut in uses):
                self._cut_tensor(name, uses)

    def _cut_tensor(self, name: str, uses: Sequence[tuple[Use, Cut]]) -> None:
        tensor = self.index.weights[name]
        alike = sorted_by_cut(uses)
        if len(alike) == 1 and is_private(self.index, name, [use for use, _ in uses]):
            self._replace(tensor, uses[0][1])
            return
        for members in alike:
            cut = members[0][1]
            if cut.is_whole:
                continue
            fresh = self._add_copy(tensor, name, cut)
            for use, _ in members:
                self.index.nodes[use.node].input[use.input] = fresh

    def _replace(self, tensor: TensorProto, cut: Cut) -> None:
        shape = cut.shape(tuple(tensor.dims))
        self.model.replace(tensor, shape, lambda: cut.gather(self.model.array(tensor)))
        for value in self.graph.input:
            dims = value.type.tensor_type.shape.dim
            if value.name == tensor.name and len(dims) == len(shape):
                for dim, size in zip(dims, shape, strict=True):
                    dim.dim_value = size

    def _add_copy(self, tensor: TensorProto, name: str, cut: Cut) -> str:
        """Give one role of a shared tensor a tensor of its own."""
        fresh = free_name(name, self.names)
        added = self.graph.initializer.add()
        added.CopyFrom(tensor)
        added.name = fresh
        self._replace(added, cut)
        if self.model.proto.ir_version < 4:
            self.graph.input.append(helper.make_tensor_value_info(fresh, added.data_type, list(added.dims)))
        return fresh

    # ---- sizes and positions ----------------------------------------------------------------------------------------

    def _spell(self) -> None:
        for spelling in self.trace.spellings:
            node = self.index.nodes[spelling.node]
            touched = any(not self.kept.of(array).all() for array in spelling.arrays)
            if isinstance(spelling.slot, str):
                if touched:
                    self._spell_attribute(node, spelling.slot, spelling)
            elif spelling.slot < len(node.input) and node.input[spelling.slot]:
                self._spell_input(spelling, spelling.slot, touched=touched)
            elif touched:
                self._add_input(node, spelling.slot, spelling)

    def _spell_attribute(self, node: NodeProto, name: str, spelling: Spelling) -> None:
        value = spelling.value(self.kept)
        if value is None:
            return
        found = next((attribute for attribute in node.attribute if attribute.name == name), None)
        if found is None:
            node.attribute.append(helper.make_attribute(name, value.tolist()))
        elif found.type == AttributeProto.INT:
            found.i = int(value)
        elif found.type == AttributeProto.FLOAT:
            found.f = float(value)
        else:
            old = np.array(found.ints, dtype=np.int64)
            found.ints[:] = _merged(old, value, _chosen(spelling, old)).tolist()

    def _add_input(self, node: NodeProto, place: int, spelling: Spelling) -> None:
        """Say what the node took for granted."""
        value = spelling.value(self.kept)
        if value is None:
            return
        for attribute in [item for item in node.attribute if item.name == spelling.instead]:
            node.attribute.remove(attribute)
        node.input.extend([""] * (place + 1 - len(node.input)))
        node.input[place] = self._add_constant(next(name for name in node.output if name), value)

    def _spell_input(self, spelling: Spelling, place: int, *, touched: bool) -> None:
        node = self.index.nodes[spelling.node]
        name = node.input[place]
        known = self.shapes.known[name]
        old, sources = known.value, known.sources.ravel()
        follows = np.array([self._follows(sizes) for sizes in sources], dtype=bool).reshape(old.shape)
        if not touched and not follows.any():
            return
        value = spelling.value(self.kept)
        assert value is not None, "an input that is given is spelled"
        entries = _chosen(spelling, old) & touched
        new = _merged(old, value, entries)
        loose = np.array([not all(map(self.shapes.is_static, sizes)) for sizes in sources], dtype=bool)
        loose = loose.reshape(old.shape)
        if not loose.any():
            node.input[place] = self._add_constant(name, new)
            return
        nodes: list[NodeProto] = []
        if (chosen := (entries | follows) & ~loose).any():
            nodes += self._override(name, chosen, new)
        if (entries & loose & (new != old)).any():
            last = nodes[-1].output[0] if nodes else name
            nodes += self._scale(last, np.where(loose, new, 1), np.where(loose, old, 1))
        if nodes:
            self._insert(nodes, before=spelling.node)
            node.input[place] = nodes[-1].output[0]

    def _follows(self, sources: frozenset[tuple[str, int]]) -> bool:
        """Tell whether any of these sizes changes."""
        for name, axis in sources:
            labels = self.trace.labels.get(name)
            bundle = None if labels is None else labels.bundle_at(axis)
            if bundle is not None and not self.kept.of(bundle.array).all():
                return True
        return False

    def _add_constant(self, name: str, value: NDArray[Any]) -> str:
        fresh = free_name(name, self.names)
        self.graph.initializer.append(numpy_helper.from_array(value, fresh))
        if self.model.proto.ir_version < 4:
            self.graph.input.append(
                helper.make_tensor_value_info(fresh, self.graph.initializer[-1].data_type, list(value.shape))
            )
        return fresh

    def _override(self, name: str, chosen: NDArray[np.bool_], value: NDArray[Any]) -> list[NodeProto]:
        """Put numbers in some places of a list that is otherwise computed at run time: take them from both, joined."""
        assert value.ndim == 1, "only lists are known in part"
        both, fresh = free_name(f"{name}_both", self.names), free_name(name, self.names)
        numbers = self._add_constant(f"{name}_value", value)
        places = self._add_constant(f"{name}_places", np.arange(value.size) + value.size * chosen)
        return [
            helper.make_node("Concat", [name, numbers], [both], name=both, axis=0),
            helper.make_node("Gather", [both, places], [fresh], name=fresh, axis=0),
        ]

    def _scale(self, name: str, share: NDArray[Any], of: NDArray[Any]) -> list[NodeProto]:
        """Multiply numbers that are computed at run time, and are multiples of `of`, by shares of it."""
        times, fresh = free_name(f"{name}_times", self.names), free_name(name, self.names)
        return [
            helper.make_node("Mul", [name, self._add_constant(f"{name}_share", share)], [times], name=times),
            helper.make_node("Div", [times, self._add_constant(f"{name}_of", of)], [fresh], name=fresh),
        ]

    def _insert(self, nodes: list[NodeProto], *, before: int) -> None:
        place = self._place(before)
        for node in reversed(nodes):
            self.graph.node.insert(place, node)

    def _place(self, number: int) -> int:
        """Where a node of the index is by now; most of what was inserted is before it."""
        moved = len(self.graph.node) - len(self.index.nodes)
        places = range(number + moved, number - 1, -1)
        return next(place for place in places if self.graph.node[place] == self.index.nodes[number])

    def _freeze_shapes(self) -> None:
        """Let the Shape of a tensor that has lost something tell its original sizes to what computes with them."""
        for name in sorted(self.trace.frozen):
            labels = self.trace.labels[name]
            new = np.array(labels.shape, dtype=np.int64)
            for axis, size in _new_sizes(labels, self.kept).items():
                new[axis] = size
            for edge in self.index.consumers[name] if (new != labels.shape).any() else ():
                if self.index.nodes[edge.node].op_type == "Shape":
                    self._freeze_shape(self.index.nodes[edge.node], name, new)

    def _freeze_shape(self, node: NodeProto, name: str, new: NDArray[np.int64]) -> None:
        place = next((k for k, other in enumerate(self.graph.node) if other == node), None)
        if place is None:  # nobody reads it any more
            return
        found = attributes(node)
        part = slice(found["start"].i if "start" in found else 0, found["end"].i if "end" in found else None)
        old = np.array(self.trace.labels[name].shape, dtype=np.int64)
        static = np.array([self.shapes.is_static((name, axis)) for axis in range(len(old))], dtype=bool)[part]
        old, new = old[part], new[part]
        result, nodes = node.output[0], list[NodeProto]()
        node.output[0] = free_name(result, self.names)
        if (static & (old != new)).any():
            nodes += self._override(node.output[0], static & (old != new), old)
        if (~static & (old != new)).any():
            last = nodes[-1].output[0] if nodes else node.output[0]
            nodes += self._scale(last, np.where(static, 1, old), np.where(static, 1, new))
        if not nodes:
            node.output[0] = result
            return
        nodes[-1].output[0] = result
        for other in reversed(nodes):
            self.graph.node.insert(place + 1, other)

    def _leave_out(self) -> None:
        for omission in self.trace.omissions:
            inputs = self.index.nodes[omission.node].input
            if not all(self.kept.of(array).all() for array in omission.arrays):
                inputs[omission.input] = ""
                while not inputs[-1]:
                    del inputs[-1]

    def _become_gathers(self) -> None:
        for number, taking in self.trace.gathers.items():
            if self.kept.of(taking.array).all():
                continue
            self._exchange(number, [("Gather", taking.positions(self.kept), {"axis": taking.axis})])

    def _keep_means(self) -> None:
        """A mean that loses zeros is multiplied by the share that is left."""
        for number, statistic in self.trace.statistics.items():
            share = statistic.share(self.kept)
            if not statistic.exact or share == 1.0:
                continue
            node = self.index.nodes[number]
            name = node.output[0]
            kind = helper.tensor_dtype_to_np_dtype(self.shapes.types[name])
            factor = self._add_constant(f"{name}_share", np.array(share).astype(kind))
            node.output[0] = free_name(f"{name}_of_kept", self.names)
            place = self._place(number)
            scaled = helper.make_node("Mul", [node.output[0], factor], [name], name=node.output[0])
            self.graph.node.insert(place + 1, scaled)

    def _keep_states(self) -> None:
        """A state that comes in is read at the slots that are left; of one that goes out, the others are zero."""
        for name, door in self.trace.doors.items():
            steps: list[_Step] = []
            for bundle in door.bundles:
                kept, (axis,) = self.kept.of(bundle.array), bundle.axes
                if kept.all():
                    continue
                if door.inward:
                    steps.append(("Gather", np.flatnonzero(kept), {"axis": axis}))
                    continue
                kind = helper.tensor_dtype_to_np_dtype(self.shapes.types[name])
                rest = (1,) * (len(self.shapes.shapes[name]) - axis - 1)
                steps.append(("Gather", np.where(kept, self.kept.ranks(bundle.array), 0), {"axis": axis}))
                steps.append(("Mul", kept.astype(kind).reshape(-1, *rest), {}))
            if steps:
                self._exchange(door.node, steps)

    def _exchange(self, number: int, steps: Sequence[_Step]) -> None:
        """Put operators that take a constant each in the place of a node, one after the other on its first input."""
        node = self.index.nodes[number]
        last, result = node.input[0], node.output[0]
        nodes: list[NodeProto] = []
        for operator, value, given in steps:
            made = free_name(result, self.names)
            second = self._add_constant(f"{result}_{'positions' if operator == 'Gather' else 'kept'}", value)
            nodes.append(helper.make_node(operator, [last, second], [made], name=made, **given))
            last = made
        end = nodes.pop()
        self._insert(nodes, before=number)
        node.op_type = end.op_type
        for values, new in ((node.input, end.input), (node.attribute, end.attribute)):
            del values[:]
            values.extend(new)

    # ---- what the file says of its tensors --------------------------------------------------------------------------

    def _describe(self) -> None:
        """Bring the recorded shapes of intermediate tensors up to date."""
        for value in self.graph.value_info:
            labels = self.trace.labels.get(value.name)
            kind = value.type.tensor_type
            if labels is not None and value.type.HasField("sequence_type"):
                if not all(self.kept.of(bundle.array).all() for bundle in labels.bundles):
                    value.type.sequence_type.elem_type.tensor_type.ClearField("shape")
                continue
            if labels is None or len(kind.shape.dim) != len(labels.shape):
                continue
            for axis, size in _new_sizes(labels, self.kept).items():
                kind.shape.dim[axis].dim_value = size


def _new_sizes(labels: Labels, kept: Kept) -> dict[int, int]:
    """Sizes of the axes along which something has gone."""
    sizes: dict[int, int] = {}
    for bundle in labels.bundles:
        if not kept.of(bundle.array).all():
            sizes.update(zip(bundle.axes, kept.sizes(bundle.array), strict=True))
    return sizes


def _chosen(spelling: Spelling, old: NDArray[Any]) -> NDArray[np.bool_]:
    """Which of the written numbers are spelled anew."""
    chosen = np.full(old.size, spelling.entries is None, dtype=bool)
    chosen[list(spelling.entries or ())] = True
    return chosen.reshape(old.shape)


def _merged(old: NDArray[Any], value: NDArray[Any], chosen: NDArray[np.bool_]) -> NDArray[Any]:
    """Put new numbers into the chosen places; where their count changes, they are all new."""
    if value.shape != old.shape:
        return value.astype(old.dtype)
    return np.where(chosen, value, old).astype(old.dtype)


def _all_names(index: Index) -> set[str]:
    names = set(index.weights) | set(index.inputs) | set(index.outputs) | set(index.captured) | set(index.consumers)
    names.update(name for node in index.nodes for name in node.output)
    return names


def apply(model: Model, index: Index, shapes: Shapes, coupling: Coupling, plan: Plan) -> None:
    """Remove from a model, in place, every channel that a plan does not keep.

    Parameters
    ----------
    model : Model
        Edited in place.
    index, shapes, coupling
        What was found out about this very model.
    plan : Plan
        What stays.
    """
    _Editor(model, index, shapes, coupling, plan).run()
