"""What the original network says of its channels: layers of moments for every group, gathered in a few passes."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, ValueInfoProto

from onnxprune.calibrate.feeds import Feeds
from onnxprune.coreset.layer import Layer
from onnxprune.coupling import Coupling, Group
from onnxprune.graph.runtime import Effort, Session
from onnxprune.reconstruct.moments import TO_CHOOSE, Moments
from onnxprune.reconstruct.packing import passes
from onnxprune.reconstruct.partners import partner_of, scale_behind
from onnxprune.reconstruct.pooled import pooled_of
from onnxprune.reconstruct.readers import Reader, shared
from onnxprune.reconstruct.thinned import Thinned
from onnxprune.reconstruct.trial import Changed, Trial
from onnxprune.reconstruct.views import Workpiece
from onnxprune.reconstruct.wide import WIDEST

__all__ = [
    "NOTHING",
    "Data",
    "Evidence",
    "Gathered",
    "gather",
    "members_of",
    "readers_of",
    "trial_of",
]

_TRIED = 2e10
"""Bytes of weights that are handed to onnxruntime to try single groups, all together."""

_ENOUGH = 512
"""Samples that channels are chosen on: a ranking needs fewer than weights do."""


@dataclass(frozen=True)
class Data:
    """Batches of inputs, the number of samples in them, where they are run, and the seed of what is drawn of them.

    `counts` are the samples of each batch, `classes` theirs where they are known. `alike` tells whether they are what
    the network sees, or much like it.
    """

    batches: Sequence[Feeds]
    samples: int
    providers: Sequence[str]
    seed: int = 0
    counts: tuple[int, ...] = ()
    classes: tuple[NDArray[np.int64], ...] = ()
    alike: bool = True


@dataclass(frozen=True)
class Evidence:
    """Layers that read a group, and what a unit of the loss of each is worth.

    That is one over its targets' variance, times the share of a residual stream's variance that they bring to it.
    `solved` gives the weights and biases that the readers have where some of the group's channels stay.
    `salience` is what derivatives say of the group's channels, (n,), where a method asks for it. `alike` is the data's.
    """

    layers: tuple[Layer, ...]
    worth: tuple[float, ...]
    solved: Callable[[NDArray[np.int64]], Changed] | None = None
    salience: NDArray[np.float64] | None = None
    alike: bool = True


@dataclass(frozen=True)
class Gathered:
    """What the original says of all groups, each in its turn, and what to try changed weights with, if anything.

    `thinned` tells accuracy of a network of which one group is thinned.
    """

    groups: Iterator[Evidence]
    trial: Trial | None = None
    thinned: Thinned | None = None


NOTHING = Evidence((), ())


def readers_of(coupling: Coupling, readers: Sequence[Reader]) -> dict[str, list[Reader]]:
    """Sort readers by the names of the groups that they read; a reader of several is in several lists.

    Those that are too wide for a matrix of their order are in none.
    """
    owner: dict[int, str] = {int(unit): group.name for group in coupling.groups for unit in group.units}
    found: dict[str, list[Reader]] = defaultdict(list)
    for reader in readers:
        if reader.units.shape[1] > WIDEST:
            continue
        names = dict.fromkeys(owner[unit] for unit in map(int, np.unique(reader.units)) if unit in owner)
        for name in names:
            found[name].append(reader)
    return found


def members_of(group: Group, units: int) -> NDArray[np.int64]:
    """Number of each unit within a group, −1 for those of others; (units,)."""
    members = np.full(units, -1, dtype=np.int64)
    members[group.units] = np.arange(group.size)
    return members


def gather(work: Workpiece, data: Data) -> Iterator[Evidence]:
    """Gather what is known of every group.

    Parameters
    ----------
    work : Workpiece
    data : Data

    Yields
    ------
    Evidence
        Of each group in their order; without layers where no reader of the group is a product by a stored matrix.
    """
    coupling, index = work.coupling, work.index
    found = readers_of(coupling, work.readers)
    units = int(coupling.unit_of.max(initial=-1)) + 1
    for groups in passes(coupling.groups, found):
        wanted = {reader.result: reader for group in groups for reader in found.get(group.name, ())}
        moments, shares = _measured(work, list(wanted.values()), data) if wanted else ({}, {})
        for group in groups:
            members, nothing = members_of(group, units), np.zeros(units, dtype=bool)
            layers, worth = [], []
            parts: list[_Part] = []
            for reader in found.get(group.name, ()):
                if not moments[reader.result].usable:
                    continue
                scale = scale_behind(reader, index, work.stored)
                made = moments[reader.result].layers(work.old(reader), members, nothing, scale)
                parts.append((reader, moments[reader.result], made, scale))
                total = sum(layer.energy for layer in made)
                layers += [layer for layer in made if layer.members.size]
                worth += [shares[reader.result] / max(total, 1e-30) for layer in made if layer.members.size]
            solved = partial(_solved, parts) if layers else None
            yield Evidence(tuple(layers), tuple(worth), solved, alike=data.alike)


_Part = tuple[Reader, Moments, list[Layer], NDArray[np.float64]]


def _solved(parts: Sequence[_Part], kept: NDArray[np.int64]) -> Changed:
    """New weights and biases of a group's readers where some of its channels stay."""
    changed: Changed = {}
    for reader, moments, layers, scale in parts:
        solved = np.stack([layer.solve(kept) for layer in layers]) / scale[:, None]
        changed[reader.weight] = reader.form.weight(solved)
        if reader.bias:
            changed[reader.bias] = moments.biases(solved).reshape(-1)
    return changed


def trial_of(proto: ModelProto, data: Data, groups: int) -> Trial | None:
    """What single groups of so many are tried with; None where that would take long."""
    return Trial(proto, data.batches[0], data.providers) if proto.ByteSize() * groups <= _TRIED else None


class _Variance:
    """Variance of a tensor over some rows, summed over its columns."""

    def __init__(self) -> None:
        self.count, self.sums, self.squares = 0, np.zeros(1), 0.0

    def add(self, rows: NDArray[Any]) -> None:
        """Add rows (g, R, k)."""
        self.count += rows.shape[1]
        self.sums = self.sums + rows.sum(axis=1, dtype=np.float64)
        self.squares += float(np.square(rows, dtype=np.float64).sum())

    @property
    def value(self) -> float:
        return self.squares / self.count - float(np.square(self.sums / self.count).sum())


def _measured(work: Workpiece, readers: Sequence[Reader], data: Data) -> tuple[dict[str, Moments], dict[str, float]]:
    """Moments of some readers in the original network, and the share of the variance of a sum that each brings."""
    partners = {r.result: partner_of(r, work.index, work.stored) for r in readers}
    pooled = {r.result: pooled_of(r, work.index, work.shapes, work.stored) for r in readers}
    added = {name: partner for name, partner in partners.items() if partner is not None}
    names = dict.fromkeys(name for reader in readers for name in (reader.source, reader.result))
    names |= dict.fromkeys(name for partner in added.values() for name in (partner.branch, partner.total))
    names |= dict.fromkeys(before.name for before in pooled.values() if before is not None)
    variances = {name: (_Variance(), _Variance()) for name in added}
    opened = ModelProto()
    opened.CopyFrom(work.proto)
    del opened.graph.output[:]
    opened.graph.output.extend(ValueInfoProto(name=name) for name in names if name not in data.batches[0])
    session = Session(opened.SerializeToString(), data.providers, effort=Effort(fast=True))
    each = data.samples / len(data.batches)
    batches = data.batches[-max(1, round(_ENOUGH / each)) :]
    samples = round(each * len(batches))
    moments = shared(readers, lambda r: Moments(r, samples, centred=bool(r.bias), rows=TO_CHOOSE, leaves_out=False))
    rng = np.random.default_rng([data.seed, 5])
    for batch in batches:
        values = {**batch, **session.run(batch)}
        for reader in readers:
            own, result, before = moments[reader.result], values[reader.result], pooled[reader.result]
            if not result.size:
                continue
            places = own.places(result.shape, rng)
            own.add(reader.form.rows(values[reader.source], result.shape, places), reader.form.targets(result, places))
            if before is not None:
                rows = before.rows(values[before.name], own.wanted, rng)
                own.widen(rows, rows @ work.old(reader).astype(np.float32))
            if (partner := added.get(reader.result)) is not None:
                for variance, name in zip(variances[reader.result], (partner.branch, partner.total), strict=True):
                    variance.add(reader.form.targets(values[name], places))
    for own in moments.values():
        own.guess()
    return moments, {reader.result: _share(variances.get(reader.result)) for reader in readers}


def _share(variances: tuple[_Variance, _Variance] | None) -> float:
    """Share of the variance of a sum that a part of it has, one at most; one of what is not added to anything."""
    if variances is None or variances[1].value <= 0:
        return 1.0
    return min(variances[0].value / variances[1].value, 1.0)
