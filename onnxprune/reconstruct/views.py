"""What readers get and are to make of it, batch by batch, as the original and the pruned network run along."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, numpy_helper

from onnxprune.coupling import Coupling
from onnxprune.graph.index import Index
from onnxprune.reconstruct.moments import Moments
from onnxprune.reconstruct.partners import Partner, partner_of
from onnxprune.reconstruct.pooled import Pooled, pooled_of
from onnxprune.reconstruct.readers import Reader
from onnxprune.reconstruct.rectifier import Rectifier, rectifier_of
from onnxprune.reconstruct.stages import Stages
from onnxprune.reconstruct.wide import WIDEST, WideMoments
from onnxprune.shapes.infer import Shapes

__all__ = ["Measured", "Rows", "Stage", "Views", "Workpiece"]


@dataclass(frozen=True)
class Workpiece:
    """A network in float32, every product of which has a bias where it can, and what was found out about it."""

    proto: ModelProto
    index: Index
    shapes: Shapes
    coupling: Coupling
    readers: Sequence[Reader]

    def stored(self, name: str) -> NDArray[Any]:
        """Value of an initializer."""
        return numpy_helper.to_array(self.index.weights[name])

    def product(self, reader: Reader) -> str:
        """First output of a reader's node."""
        name: str = self.index.nodes[reader.node].output[0]
        return name

    def old(self, reader: Reader) -> NDArray[np.float64]:
        """Weight of a reader as matrices (g, n, k)."""
        return reader.form.matrix(self.stored(reader.weight)).astype(np.float64)

    def bias(self, reader: Reader) -> NDArray[Any]:
        """What a reader adds to its rows' products, (g, 1, k)."""
        if not reader.bias:
            return np.zeros((1, 1, 1), dtype=np.float32)
        bias: NDArray[Any] = self.stored(reader.bias).reshape(reader.form.groups, 1, -1)
        return bias


@dataclass(frozen=True)
class Stage:
    """Readers that are reached together; by their results, what these are added to, the rectifiers behind, and what
    their inputs are means of."""

    number: int
    readers: Sequence[Reader]
    partners: Mapping[str, Partner | None]
    rectifiers: Mapping[str, Rectifier]
    pooled: Mapping[str, Pooled]


@dataclass(frozen=True)
class Rows:
    """What a reader gets of a batch, what it is to make of it, what is lacking there, and what the original adds to it.

    `beside` is None where the original's cannot be told. `spread` are further rows and targets, where the reader gets
    a mean.
    """

    reader: Reader
    rows: NDArray[Any]
    targets: NDArray[Any]
    lacking: NDArray[Any] | float
    beside: NDArray[Any] | float | None
    spread: tuple[NDArray[Any], NDArray[Any]] | None = None


_Item = TypeVar("_Item")


def _present(found: Mapping[str, _Item | None]) -> dict[str, _Item]:
    """What was found."""
    return {name: item for name, item in found.items() if item is not None}


Measured = dict[str, Moments | WideMoments]
"""Moments of readers by their results."""


class Views:
    """Two networks on their way, seen from the readers.

    Parameters
    ----------
    work : Workpiece
        The original.
    form : str
        See `reconstruct`.
    seed : int
        Of which rows are looked at.
    original, pruned : Stages
    """

    def __init__(self, work: Workpiece, form: str, seed: int, original: Stages, pruned: Stages) -> None:
        self.work, self.form, self.seed = work, form, seed
        self.original, self.pruned = original, pruned

    def stage(self, number: int, readers: Sequence[Reader]) -> Stage:
        """Find what readers' results go into, where that matters to what they are solved towards."""
        index, stored, repairs = self.work.index, self.work.stored, self.form == "repair"
        partners = {r.result: partner_of(r, index, stored) if repairs else None for r in readers}
        narrow = [r for r in readers if repairs and r.units.shape[1] <= WIDEST]
        found = {r.result: rectifier_of(r, partners[r.result], index, stored) for r in narrow}
        pooled = {r.result: pooled_of(r, index, self.work.shapes, stored) for r in narrow}
        return Stage(number, readers, partners, _present(found), _present(pooled))

    def rows(self, stage: Stage, readers: Sequence[Reader], moments: Measured, *, stay: bool) -> Iterator[Rows]:
        """Run both networks up to a stage, and look at some of its readers batch by batch: the same rows every time."""
        partners = [stage.partners[reader.result] for reader in readers]
        others = [partner.other for partner in partners if partner is not None]
        products = {r.result: self.work.product(r) for r in readers}
        sources = [reader.source for reader in readers]
        sources += [stage.pooled[r.result].name for r in readers if r.result in stage.pooled]
        rngs = {r.result: np.random.default_rng([self.seed, 6, stage.number, k]) for k, r in enumerate(stage.readers)}
        before = self.pruned.advance([*sources, *others], stay=stay)
        after = self.original.advance([*products.values(), *sources, *others], stay=stay)
        for now, wanted in zip(before, after, strict=True):
            for reader in readers:
                made = wanted[products[reader.result]]
                # How many rows there are may depend on what is computed: then they are not the same ones.
                if not made.size or now[reader.source].shape != wanted[reader.source].shape:
                    continue
                chosen = moments[reader.result].places(made.shape, rngs[reader.result])
                source = (wanted if self.form == "layer" else now)[reader.source]
                rows = reader.form.rows(source, made.shape, chosen)
                with np.errstate(over="ignore", invalid="ignore"):
                    targets = self._targets(reader, rows, made, chosen)
                    added = self._added(reader, stage.partners[reader.result], (now, wanted, made), chosen)
                    spread = self._spread(reader, stage, moments[reader.result], (now, wanted))
                yield Rows(reader, rows, targets, *added, spread)

    def _spread(
        self,
        reader: Reader,
        stage: Stage,
        moments: Moments | WideMoments,
        values: tuple[Mapping[str, NDArray[Any]], Mapping[str, NDArray[Any]]],
    ) -> tuple[NDArray[Any], NDArray[Any]] | None:
        """Further rows of a reader that gets a mean, and targets."""
        now, wanted = values
        pooled = stage.pooled.get(reader.result)
        if pooled is None or isinstance(moments, WideMoments) or not all(pooled.name in each for each in values):
            return None
        if now[pooled.name].shape != wanted[pooled.name].shape:
            return None
        rows, right = (
            pooled.rows(each[pooled.name], moments.wanted, np.random.default_rng([self.seed, 8])) for each in values
        )
        return rows, right @ self.work.old(reader).astype(np.float32)

    def _targets(
        self, reader: Reader, rows: NDArray[Any], made: NDArray[Any], places: NDArray[np.int64] | None
    ) -> NDArray[Any]:
        """What a reader is to make of its rows: what the original made, or what the old weights make of them."""
        if self.form == "seq":
            made_of_them: NDArray[Any] = rows @ self.work.old(reader).astype(np.float32) + self.work.bias(reader)
            return made_of_them
        apart = self.work.product(reader) != reader.result
        targets = reader.form.targets(made, places)
        return targets + self.work.bias(reader) if apart else targets

    def _added(
        self,
        reader: Reader,
        partner: Partner | None,
        values: tuple[Mapping[str, NDArray[Any]], Mapping[str, NDArray[Any]], NDArray[Any]],
        places: NDArray[np.int64] | None,
    ) -> tuple[NDArray[Any] | float, NDArray[Any] | float | None]:
        """What the tensor that a result is added to lacks by now, before what lies between; and what it was."""
        now, wanted, made = values
        if partner is None:
            return 0.0, 0.0
        if partner.other not in now or partner.other not in wanted:
            return 0.0, None
        lacking = wanted[partner.other] - now[partner.other]
        if lacking.shape != made.shape:
            return 0.0, None
        scale = partner.scale.reshape(reader.form.groups, 1, -1).astype(np.float32)
        return reader.form.targets(lacking, places) / scale, reader.form.targets(wanted[partner.other], places)
