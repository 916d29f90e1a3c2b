"""Solving a network's readers anew, one after the other: each on what the pruned network hands it by then.

    reader r:   min over W, b of  E‖ y + e − (aᵀW + b) ‖²  + λ‖W − W₀‖²

a is what r gets where all that lies before it is pruned and solved, y what it made in the original. Where r's result is
added to another tensor, e is what that other tensor lacks by now (original minus pruned), so that a later layer makes
up for errors of earlier ones; a BatchNormalization in between is looked through. Where a rectifier reads what comes of
it, r is solved once more towards what is as good before that (`rectifier`).

References
----------
The asymmetric form is AsymInChange of El Halabi et al., arXiv 2203.04940, section 5.
"""

import logging
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, numpy_helper

from onnxprune.coreset.layer import Layer
from onnxprune.coupling import Group
from onnxprune.coupling.paths import reads_of
from onnxprune.graph.index import Index
from onnxprune.methods import Select
from onnxprune.ops.trace import Kept
from onnxprune.reconstruct.evidence import Data, members_of, readers_of
from onnxprune.reconstruct.moments import Moments
from onnxprune.reconstruct.packing import parts
from onnxprune.reconstruct.partners import scale_behind
from onnxprune.reconstruct.readers import Reader, by_weight, shared
from onnxprune.reconstruct.stages import Order, Stages, in_order, reached_together
from onnxprune.reconstruct.views import Measured, Stage, Views, Workpiece
from onnxprune.reconstruct.wide import WIDEST, Corrected, WideMoments
from onnxprune.threads import blas_threads
from onnxprune.validate.twin import Twin, build_twin

__all__ = ["Reconstruction", "Solved", "reconstruct"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Solved:
    """A reader's new weight and bias, and the share of its targets' variance that they miss; with the old ones, too.

    Both shares are told by so many rows, positions of samples, with the error that drawing these leaves.
    """

    reader: Reader
    weight: NDArray[np.float32]
    bias: NDArray[np.float32] | None
    missed: float
    missed_before: float
    rows: int

    @property
    def facts(self) -> dict[str, float]:
        """What the report says; the error, over the shares, is that of a variance, √(2 / rows) of normal numbers."""
        error = math.sqrt(2.0 / self.rows)
        shares = {"missed": self.missed, "missed_before": self.missed_before}
        return {**shares, "rows": self.rows, "relative_error": error}


@dataclass
class Reconstruction:
    """What came of it.

    Attributes
    ----------
    kept : dict of str to ndarray of int
        Channels that stay of each thinned group.
    solved : dict of str to Solved
        By the first outputs of the nodes.
    """

    kept: dict[str, NDArray[np.int64]]
    solved: dict[str, Solved] = field(default_factory=dict)


def reconstruct(
    work: Workpiece,
    kept: Mapping[str, NDArray[np.int64]],
    selects: Mapping[str, Select],
    data: Data,
    form: str = "repair",
    advance: Callable[[], None] = lambda: None,
) -> Reconstruction:
    """Solve every reader that lies behind a thinned group anew.

    Parameters
    ----------
    work : Workpiece
    kept : mapping of str to ndarray of int
        Channels that are to stay of each group, ascending; all where it is not named.
    selects : mapping of str to callable
        Groups whose channels may be picked anew when their readers are reached, as many as before.
    data : Data
    form : {"repair", "asym", "seq", "layer"}
        What readers are solved towards, on what the pruned prefix gives: what the original makes and what is lacking
        elsewhere, the first alone, or what the old weights make of it; or on the original's activations alone, those
        readers only that lose columns.
    advance : callable
        Called after every stage.

    Returns
    -------
    Reconstruction

    Raises
    ------
    ModelError
        If onnxruntime cannot run the network in stages.
    """
    return _Sequence(work, kept, selects, data, form).run(advance)


class _Sequence:
    def __init__(
        self,
        work: Workpiece,
        kept: Mapping[str, NDArray[np.int64]],
        selects: Mapping[str, Select],
        data: Data,
        form: str,
    ) -> None:
        self.work, self.selects, self.data, self.form = work, selects, data, form
        self.result = Reconstruction(dict(kept))
        self.reads = reads_of(work.coupling)
        self.units = int(work.coupling.unit_of.max(initial=-1)) + 1
        self.gone = np.zeros(self.units, dtype=bool)
        for name, chosen in kept.items():
            self._decide(work.coupling.group_of[name], chosen)
        behind = self._behind()
        self.readers = {
            work.index.nodes[reader.node].output[0]: reader for reader in work.readers if reader.node in behind
        }
        together = self._tie()
        order = in_order(work.proto, self.readers.keys(), together)
        self.twin, masked = _masked(work, list(self.readers.values()))
        original = Stages(work.proto, order, order.after, data.batches, data.providers)
        again = in_order(masked, self.readers.keys(), together)
        assert again.readers == order.readers, "masks change no stage"
        self.pruned = Stages(masked, again, again.before, data.batches, data.providers)
        self.views = Views(work, form, data.seed, original, self.pruned)
        self.order: Order = order

    def _tie(self) -> list[Collection[str]]:
        """Leave out readers of one weight that cannot be solved together: one depends on another, or is not here.

        Returns those that can be, by the first outputs of their nodes.
        """
        every = by_weight(self.work.readers)
        here = [
            [self.work.product(reader) for reader in alike]
            for weight, alike in by_weight(self.readers.values()).items()
            if len(alike) == len(every[weight])
        ]
        together = reached_together(self.work.proto, self.readers.keys(), [names for names in here if len(names) > 1])
        able = {name for names in here if len(names) == 1 or names in together for name in names}
        self.readers = {name: reader for name, reader in self.readers.items() if name in able}
        return together

    def _behind(self) -> set[int]:
        """Nodes that read thinned groups, and all that depends on what they make."""
        index, coupling = self.work.index, self.work.coupling
        reading = {r.node for r in coupling.trace.reads if self.gone[coupling.unit_of[r.array]].any()}
        reading |= {number for number, item in coupling.trace.statistics.items() if not item.exact}
        touched: set[str] = set()
        found: set[int] = set()
        for number, node in enumerate(index.nodes):
            if number in reading or any(name in touched for name in node.input):
                found.add(number)
                touched.update(name for name in node.output if name)
        return found

    def _decide(self, group: Group, chosen: NDArray[np.int64]) -> None:
        self.result.kept[group.name] = chosen
        self.gone[group.units] = True
        self.gone[group.units[chosen]] = False

    def run(self, advance: Callable[[], None]) -> Reconstruction:
        """Go through all stages, each as often as memory for moments asks for."""
        for number, names in enumerate(self.order.readers):
            stage = self.views.stage(number, [self.readers[name] for name in names])
            bound = ([read.node for read in self.reads[group.name]] for group in self._to_select(stage.readers))
            each = parts(stage.readers, bound)
            for part in each:
                self._work_on(stage, part, stay=part is not each[-1])
            advance()
        return self.result

    def _work_on(self, stage: Stage, readers: Sequence[Reader], *, stay: bool) -> None:
        """Pick the channels of groups that are read here, and solve their readers; `stay` says that others follow."""
        groups = self._to_select(readers)
        again = any(reader.result in stage.rectifiers for reader in readers)
        moments, plain = self._measure(stage, readers, choosing=bool(groups), stay=stay or again)
        for group in groups:
            self._select(group, readers, plain)
        usable = []
        for reader in readers:
            if moments[reader.result].usable:
                usable.append(reader)
            else:
                _log.warning("%s keeps its weights: what it reads on this data is infinite or none", reader.site)
                self._leave(reader)
        self._solve(usable, moments)
        if again:
            self._rectify(stage, readers, moments, stay=stay)

    # ---- what readers get, and what they are to make of it ----------------------------------------------------------

    def _measure(
        self, stage: Stage, readers: Sequence[Reader], *, choosing: bool, stay: bool
    ) -> tuple[Measured, Measured]:
        """Gather moments of some of a stage's readers: to solve with, and to choose by.

        Channels are chosen by what they are worth to the reader's own result; what is lacking elsewhere is no matter.
        """
        self.pruned.shared.update(self.twin.feeds(Kept(~self.gone[self._labels]), self._labels, None))
        moments = shared(readers, self._moments)
        apart = [r for r in readers if choosing and stage.partners[r.result] is not None]
        others = shared(apart, self._moments)
        for found in self.views.rows(stage, readers, moments, stay=stay):
            name = found.reader.result
            for each, targets in ((moments, found.targets + found.lacking), (others, found.targets)):
                own = each.get(name)
                if own is None:
                    continue
                own.add(found.rows, targets)
                if found.spread is not None and isinstance(own, Moments):
                    own.widen(*found.spread)
        for own in (*moments.values(), *others.values()):
            if isinstance(own, Moments):
                own.guess()
        return moments, moments | others

    def _rectify(self, stage: Stage, readers: Sequence[Reader], moments: Measured, *, stay: bool) -> None:
        """Solve readers with a rectifier behind them once more, towards what is as good before it."""
        solved = {reader.result: self.result.solved.get(self.work.product(reader)) for reader in readers}
        again = [r for r in readers if r.result in stage.rectifiers and solved[r.result] is not None]
        for found in self.views.rows(stage, again, moments, stay=stay):
            reader, targets = found.reader, found.targets + found.lacking
            own, first = moments[reader.result], solved[reader.result]
            if found.beside is None or first is None or isinstance(own, WideMoments):
                continue
            made = found.rows @ reader.form.matrix(first.weight)
            if first.bias is not None:
                made += first.bias.reshape(reader.form.groups, 1, -1)
            moved = stage.rectifiers[reader.result].moved(found.targets, found.beside, made - targets)
            own.move(found.rows, targets, moved)
        weights = {reader.weight for reader in again}
        self._solve([reader for reader in readers if reader.weight in weights], moments)

    def _moments(self, reader: Reader) -> Moments | WideMoments:
        if reader.units.shape[1] > WIDEST:
            return WideMoments(reader, self.data.samples, self._masked_weights(reader))
        return Moments(reader, self.data.samples, centred=bool(reader.bias))

    def _masked_weights(self, reader: Reader) -> NDArray[np.float64]:
        """A reader's old weights, zero where a column is gone."""
        stays = (reader.units < 0) | ~self.gone[reader.units]
        return np.asarray(self.work.old(reader) * stays[:, :, None])

    @property
    def _labels(self) -> NDArray[np.int64]:
        labels: NDArray[np.int64] = self.work.coupling.unit_of
        return labels

    # ---- what stays, and with which weights -------------------------------------------------------------------------

    def _to_select(self, readers: Sequence[Reader]) -> list[Group]:
        """Groups that may be picked anew here: thinned, and read by readers of this stage only."""
        coupling = self.work.coupling
        here = {reader.node for reader in readers if reader.units.shape[1] <= WIDEST}
        found = []
        for name in readers_of(coupling, readers):
            alone = all(read.node in here for read in self.reads[name])
            if alone and name in self.selects and name in self.result.kept:
                found.append(coupling.group_of[name])
        return found

    def _select(self, group: Group, readers: Sequence[Reader], moments: Mapping[str, Moments | WideMoments]) -> None:
        members = members_of(group, self.units)
        others = self.gone & (members < 0)
        layers: list[Layer] = []
        worth: list[float] = []
        for reader in readers:
            own = moments[reader.result]
            if isinstance(own, WideMoments) or not own.usable:
                continue
            scale = scale_behind(reader, self.work.index, self.work.stored)
            made = own.layers(self.work.old(reader), members, others, scale)
            total = max(sum(layer.energy for layer in made), 1e-30)
            layers += [layer for layer in made if layer.members.size]
            worth += [1.0 / total for layer in made if layer.members.size]
        if layers:
            with blas_threads(max(len(layer.gram) for layer in layers)):
                self._decide(group, self.selects[group.name](layers, worth, self.result.kept[group.name]))

    def _solve(self, readers: Sequence[Reader], moments: Measured) -> None:
        """Solve readers, those of one weight once."""
        losing = [r for r in readers if self.form != "layer" or self.gone[r.units[r.units >= 0]].any()]
        found = shared(losing, lambda reader: self._corrected(reader, moments[reader.result]))
        for reader in losing:
            self._take_over(reader, found[reader.result], moments[reader.result].count)

    def _corrected(self, reader: Reader, moments: Moments | WideMoments) -> Corrected:
        with blas_threads(reader.units.shape[1]):
            return moments.solve() if isinstance(moments, WideMoments) else self._solved(reader, moments)

    def _take_over(self, reader: Reader, found: Corrected, rows: int) -> None:
        weight = np.ascontiguousarray(reader.form.weight(found.weights.astype(np.float32)))
        bias = found.biases.reshape(-1).astype(np.float32) if reader.bias else None
        if bias is not None and reader.bias_grid is not None:
            bias = reader.bias_grid.nearest(bias)
        solved = Solved(reader, weight, bias, found.missed, found.missed_before, rows)
        self.result.solved[self.work.product(reader)] = solved
        self._write(reader.weight, weight)
        if bias is not None:
            self._write(reader.bias, bias.reshape(self.work.stored(reader.bias).shape))

    def _solved(self, reader: Reader, moments: Moments) -> Corrected:
        none, old, plain = np.full(self.units, -1, dtype=np.int64), self.work.old(reader), self._masked_weights(reader)
        moments.tighten(old, self.gone)
        layers = moments.layers(old, none, self.gone)
        new = np.stack([layer.solve(none[:0]) for layer in layers])
        if reader.grid is not None:
            new = reader.form.matrix(reader.grid.nearest(reader.form.weight(new))).astype(np.float64)
        total = max(sum(layer.energy for layer in layers), 1e-30)
        missed = [sum(layer.loss(w) for layer, w in zip(layers, each, strict=True)) / total for each in (new, plain)]
        if not missed[0] <= missed[1]:
            new, missed = plain, [missed[1], missed[1]]
        return Corrected(new, moments.biases(new), *missed)

    def _leave(self, reader: Reader) -> None:
        """Let a reader keep its weights, in the network with masks, where none stands in front of it."""
        self._write(reader.weight, reader.form.weight(self._masked_weights(reader)))

    def _write(self, name: str, value: NDArray[Any]) -> None:
        self.pruned.stored(name).CopyFrom(numpy_helper.from_array(value.astype(np.float32), name))


def _masked(work: Workpiece, readers: Sequence[Reader]) -> tuple[Twin, ModelProto]:
    """The network with masks as further inputs, and nothing else added to it."""
    proto = ModelProto()
    proto.CopyFrom(work.proto)
    twin = build_twin(proto, Index(proto), work.shapes, work.coupling, scaled=False, rounded=True)
    del proto.graph.output[len(work.proto.graph.output) :]
    # A weight that is zero where a channel is gone needs no mask, and what is gone may change until it is solved.
    sources = {work.index.nodes[reader.node].output[0]: reader.source for reader in readers}
    for node in proto.graph.node:
        if node.output[0] in sources:
            node.input[0] = sources[node.output[0]]
    activities = set(twin.activities)
    nodes = [node for node in proto.graph.node if not activities & set(node.output)]
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)
    return twin, proto
