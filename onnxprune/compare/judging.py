"""Networks run side by side: where their classes are, and what is known of each beside the original."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune.calibrate.calibration import Batch, Calibration, Network, Slots
from onnxprune.compare.comparison import Comparison
from onnxprune.errors import DataError
from onnxprune.evaluate import CLASSES, DECISIONS, NUMBERS, Detections, Pair, Runner, kind_of, rows_of
from onnxprune.progress import Clock

__all__ = ["Judged", "Scored", "judged_by", "scored_outputs"]


@dataclass(frozen=True)
class Scored:
    """Where classes are.

    Attributes
    ----------
    classes : str or None
        The output that classes of samples are read off.
    labelled : str or None
        The one that the labels are about.
    """

    classes: str | None
    labelled: str | None


def scored_outputs(
    original: Runner, data: Calibration, network: Network, asked: Comparison
) -> tuple[Scored, Calibration]:
    """Find where classes are.

    Parameters
    ----------
    original : Runner
    data : Calibration
    network : Network
    asked : Comparison

    Returns
    -------
    Scored
        Labels are about the output with the fewest scores that has one for every class.
    Calibration
        Without labels where they came with the data and are about nothing.

    Raises
    ------
    DataError
        If labels that were given are about nothing.
    """
    batch = next(data.start(np.arange(data.count)), None) if asked.shifts or data.labels is not None else None
    if batch is None:  # nobody asks, or there is none
        return Scored(None, None), data
    found, samples, detections = original.run(batch.feeds), len(batch.numbers), Detections()
    detections.add(found, found, samples)
    kinds = {
        name: kind_of(value, samples=samples, sequence=_is_sequence(network))
        for name, value in found.items()
        if name not in detections.names and value.size and value.dtype.kind in "fiub"
    }
    rows = {name: rows_of(found[name], kind) for name, kind in kinds.items() if kind not in (NUMBERS, DECISIONS)}
    classes = next((name for name, kind in kinds.items() if kind == CLASSES), None)
    if data.labels is None:
        return Scored(classes, None), data
    labels = data.labels[batch.numbers]
    fitting = {name: each.shape[1] for name, each in rows.items() if len(each) == labels.size}
    able = {name: count for name, count in fitting.items() if count > data.labels.max()}
    if able:
        best = min(able, key=lambda name: able[name])
        return Scored(best if kinds[best] == CLASSES else classes, best), data
    each = "sample" if labels.ndim == 1 else f"{list(labels.shape[1:])} positions of each sample"
    said = f"no output has a row of scores for each {each}"
    if fitting:
        name = max(fitting, key=lambda name: fitting[name])
        said = (
            f"they hold class {data.labels.max()}, but output '{name}' has {fitting[name]} scores, for the classes 0 "
            f"to {fitting[name] - 1}; number the classes as the network does"
        )
    if asked.labels is not None:
        raise DataError(f"--labels: {said}")
    notes = (*data.notes, f"the classes in the data are left out: {said}")
    return Scored(classes, None), replace(data, labels=None, notes=notes)


def _is_sequence(network: Network) -> bool:
    """Tell whether a network reads tokens."""
    return any(slot.dtype.kind in "iu" for slot in Slots.of(network).inputs)


@dataclass
class Judged:
    """What is known of a network beside the original.

    Attributes
    ----------
    labelled : str or None
        The output that the labels are about.
    sequence : bool
        Whether the network reads tokens.
    pairs : dict of str to Pair
        Figures of each output.
    detections : Detections
    left : dict of str to (int, str)
        Outputs of which something was left out: in how many samples, and why.
    """

    labelled: str | None
    sequence: bool
    pairs: dict[str, Pair] = field(default_factory=dict)
    detections: Detections = field(default_factory=Detections)
    left: dict[str, tuple[int, str]] = field(default_factory=dict)

    def add(
        self,
        before: Mapping[str, NDArray[Any]],
        after: Mapping[str, NDArray[Any]],
        batch: Batch,
        wanted: NDArray[np.int64] | None,
    ) -> None:
        """Add what both made of a batch."""
        samples = len(batch.numbers)
        self.detections.add(before, after, samples)
        for name, reference in before.items():
            value = after.get(name)
            if value is None:
                continue
            why = ""
            if reference.dtype.kind not in "fiub":
                why = "of no numbers"
            elif reference.shape != value.shape:  # how many there are is what networks found: boxes, for instance
                why = f"of shape {list(value.shape)}, the original's {list(reference.shape)}"
            if why:
                count, first = self.left.get(name, (0, why))
                self.left[name] = (count + samples, first)
                continue
            if name not in self.pairs:
                found = name in self.detections.names
                kind = NUMBERS if found else kind_of(reference, samples=samples, sequence=self.sequence)
                self.pairs[name] = Pair(kind)
            self.pairs[name].add(reference, value, batch.numbers, wanted if name == self.labelled else None)

    def skipped(self, samples: int) -> dict[str, str]:
        """Say what of which outputs was left out."""
        return {
            name: f"{why}, in {count:,} of {samples:,} samples" if name in self.pairs else why
            for name, (count, why) in self.left.items()
        }


def judged_by(
    runners: Sequence[Runner], data: Calibration, network: Network, labelled: str | None, clock: Clock
) -> tuple[list[Judged], Batch]:
    """Run all networks on all samples, and add up.

    Parameters
    ----------
    runners : sequence of Runner
        The original's first.
    data : Calibration
    network : Network
    labelled : str or None
        The output that the labels are about.
    clock : Clock

    Returns
    -------
    list of Judged
        Of all but the original.
    Batch
        The first.

    Raises
    ------
    DataError
        If nothing fills a batch.
    """
    judged = [Judged(labelled, _is_sequence(network)) for _ in runners[1:]]
    first: Batch | None = None
    for batch in data.start(np.arange(data.count)):
        first = first or batch
        wanted = None if data.labels is None else data.labels[batch.numbers]
        before = runners[0].run(batch.feeds)
        for runner, found in zip(runners[1:], judged, strict=True):
            found.add(before, runner.run(batch.feeds), batch, wanted)
        for _ in batch.numbers:
            clock.progress.advance()
    if first is None:
        raise DataError("there are no samples of one size that fill a batch; give more")
    return judged, first
