"""Networks under shift: corrupted pictures, noise, few pixels; errors, potential, excess error, what networks go by."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune.calibrate.calibration import Calibration, Network, Slot, Slots
from onnxprune.calibrate.layout import channel_axis
from onnxprune.compare.comparison import Comparison
from onnxprune.compare.journal import Journal
from onnxprune.compare.thumbnails import shrunk
from onnxprune.errors import DataError
from onnxprune.evaluate import Runner, answers_of
from onnxprune.evaluate.corruptions import CORRUPTIONS, SEVERITIES, corrupted, left_out
from onnxprune.evaluate.features import FRACTION, Selection, back_select, blank_of, blocks_of, confidences
from onnxprune.evaluate.png import to_png
from onnxprune.evaluate.robustness import DELTA, LEVELS, Predict, excess_error, noise_similarity, potential
from onnxprune.progress import Clock

__all__ = ["CLEAN", "SHIFTED", "Change", "Shifts", "open_shifts", "shifts_of"]

SHIFTED = ("corruptions", "noise", "potential", "excess", "features")
"""What can be found out."""

CLEAN = "clean"
"""Inputs as they are."""
_BYTES = 1 << 29
"""Inputs that are held in memory."""
_CHUNK = 256
"""Pictures that are corrupted at once, whatever the batches are."""
_USUAL = 3
"""Severity that potentials and excess errors are told for, as published."""
_MAPS, _FEWEST_MAPS = 96, 4
"""Pictures of what networks go by, of all together, and inputs that there are some of in any case."""
_NOISES = LEVELS[2::3]
"""Levels of noise that errors are told for."""


Change = Callable[[NDArray[np.float32], int], NDArray[np.float32]]
"""Makes other inputs of some, given the number of the first."""


@dataclass(frozen=True)
class Shifts:
    """Networks, and inputs to shift.

    Attributes
    ----------
    predict : sequence of callable
        Scores of inputs by each network, the original's first.
    inputs : ndarray (n, c, h, w) or (n, …)
    truth : ndarray of int (n,)
        Classes, or the original's answers where those are not known.
    axis : int or None
        That of the channels, where inputs are pictures.
    low, high : ndarray
        Black and white of each channel: the least and the largest that there is.
    places : ndarray of int (n,)
        Where inputs are in the data.
    reads : callable
        How scores are read off a network.
    notes : tuple of str
        What was assumed.
    names : sequence of str
        Of the networks.
    """

    predict: Sequence[Predict]
    inputs: NDArray[np.float32]
    truth: NDArray[np.int64]
    axis: int | None
    low: NDArray[np.float32]
    high: NDArray[np.float32]
    places: NDArray[np.int64]
    reads: Callable[[Runner], Predict]
    notes: tuple[str, ...] = ()
    names: Sequence[str] = ()

    def of(self, runners: Sequence[Runner], names: Sequence[str] = ()) -> "Shifts":
        """The same inputs for other networks."""
        return replace(self, predict=[self.reads(runner) for runner in runners], names=names)

    def errors(self, change: Change) -> list[float]:
        """Share of wrong answers of each network on inputs that are changed, chunk by chunk."""
        wrong = np.zeros(len(self.predict))
        for start in range(0, len(self.inputs), _CHUNK):
            part = change(self.inputs[start : start + _CHUNK], start)
            truth = self.truth[start : start + _CHUNK]
            wrong += [(answers_of(predict(part)) != truth).sum() for predict in self.predict]
        return [float(value) for value in wrong / len(self.inputs)]

    def distributions(self, seed: int) -> dict[str, Change]:
        """What inputs are changed by for potentials: nothing, each corruption as published, and noise."""
        found: dict[str, Change] = {CLEAN: lambda part, _: part}
        if self.axis is not None:
            for kind in self.kinds:
                found[f"{kind}/{_USUAL}"] = partial(self.corrupted, kind, _USUAL, seed)
        return found | {f"noise {level:.2g}": partial(self.noisy, level, seed) for level in _NOISES}

    @property
    def kinds(self) -> list[str]:
        """Corruptions that can be made of the inputs."""
        assert self.axis is not None
        missing = left_out(self.inputs.shape[self.axis])
        return [name for name in CORRUPTIONS if name not in missing]

    def corrupted(
        self, kind: str, severity: int, seed: int, part: NDArray[np.float32], start: int
    ) -> NDArray[np.float32]:
        """Inputs as pictures between black and white, corrupted, and back."""
        rng = np.random.default_rng([seed, 14, list(CORRUPTIONS).index(kind), severity, start])
        pictures = np.ascontiguousarray(self.in_front((part - self.low) / (self.high - self.low)))
        changed = self.as_fed(corrupted(pictures, kind, severity, rng))
        return np.asarray(changed * (self.high - self.low) + self.low, dtype=np.float32)

    def in_front(self, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
        """Channels before rows and columns, as pictures have them here."""
        assert self.axis is not None
        return np.moveaxis(inputs, self.axis, 1)

    def as_fed(self, pictures: NDArray[np.float32]) -> NDArray[np.float32]:
        """Channels where the networks take them."""
        assert self.axis is not None
        return np.ascontiguousarray(np.moveaxis(pictures, 1, self.axis))

    def noisy(self, level: float, seed: int, part: NDArray[np.float32], start: int) -> NDArray[np.float32]:
        """Inputs with uniform noise."""
        rng = np.random.default_rng([seed, 15, start])
        added = rng.uniform(-1, 1, part.shape).astype(np.float32)
        return part + np.float32(level * self.inputs.std()) * added


def open_shifts(original: Runner, output: str | None, data: Calibration, network: Network, asked: Comparison) -> Shifts:
    """Read the inputs, as many as memory takes.

    Parameters
    ----------
    original : Runner
    output : str or None
        The one that classes are read off, where there is any.
    data : Calibration
    network : Network
    asked : Comparison

    Returns
    -------
    Shifts
        Of the original alone.

    Raises
    ------
    DataError
        If the network gives no classes, takes several inputs, no numbers, or no pictures where those are needed.
    """
    if output is None:
        raise DataError(
            "--corruptions, --noise, --potential and --features are about classes, "
            "and no output has a row of scores per input"
        )
    slots = Slots.of(network)
    if len(slots.inputs) != 1 or slots.inputs[0].dtype.kind != "f":
        raise DataError(
            "--corruptions, --noise, --potential and --features change the one input of numbers that a network has"
        )
    (slot,) = slots.inputs
    axis = channel_axis(slot) if len(slot.shape) == 4 else None
    for flag, wanted in (("--corruptions", asked.corruptions), ("--features", asked.features)):
        if wanted and axis is None:
            raise DataError(f"{flag} needs pictures of one or three colours, which the network does not take")
    each = int(np.prod(slot.shape)) * 4 // max(slots.batch if slots.fixed else 1, 1)
    chosen = _spread(max(_BYTES // max(each, 1), slots.batch), data.count)
    count = len(chosen)
    note = f"under shift {count:,} of {data.count:,} samples are used, evenly spread: more do not fit in memory"
    batches = list(data.start(chosen))
    shapes = {batch.feeds[slot.name].shape[1:] for batch in batches}
    if len(shapes) != 1:
        raise DataError("--corruptions, --noise, --potential and --features take samples of one size; give such")
    inputs = np.concatenate([batch.feeds[slot.name] for batch in batches]).astype(np.float32)
    numbers = np.concatenate([batch.numbers for batch in batches])
    reads = partial(_reader, slot, output, slots.batch)
    predict = reads(original)
    known = data.labels is not None and data.labels.ndim == 1
    truth = data.labels[numbers] if known and data.labels is not None else answers_of(predict(inputs))
    axis = None if axis is None else axis % inputs.ndim
    over = tuple(place for place in range(inputs.ndim) if place != axis)
    low, high = (each(inputs, axis=over, keepdims=True) for each in (np.min, np.max))
    high = np.where(high > low, high, low + 1).astype(np.float32)
    places = np.array([data.place(int(number)) for number in numbers])
    notes = (note,) if count < data.count else ()
    return Shifts([predict], inputs, truth, axis, low, high, places, reads, notes, ["original"])


def _reader(slot: Slot, output: str, batch: int, runner: Runner) -> Predict:
    return partial(_scores, slot, output, batch, runner)


def _scores(slot: Slot, output: str, batch: int, runner: Runner, inputs: NDArray[np.float32]) -> NDArray[Any]:
    """Scores of inputs, in batches that the network takes; the last one is filled up."""
    found = []
    for start in range(0, len(inputs), batch):
        part = inputs[start : start + batch].astype(slot.dtype)
        lacking = batch - len(part) if slot.axis is not None and slot.dims[slot.axis] is not None else 0
        wide = np.concatenate([part, np.repeat(part[-1:], lacking, axis=0)]) if lacking else part
        scores = runner.run({slot.name: wide})[output]
        found.append(scores.reshape(len(wide), -1)[: len(part)])
    return np.concatenate(found)


def shifts_of(
    shifts: Shifts, ratios: Sequence[float], asked: Comparison, journal: Journal, clock: Clock
) -> dict[str, Any]:
    """Find out what was asked for.

    Parameters
    ----------
    shifts : Shifts
        The control last, where there is one.
    ratios : sequence of float
        Shares of the parameters that the networks have lost.
    asked : Comparison
    journal : Journal
    clock : Clock

    Returns
    -------
    dict
        Those of `SHIFTED`, None for what was not asked for.

    """
    found: dict[str, Any] = dict.fromkeys(SHIFTED)
    own = replace(shifts, predict=shifts.predict[: 1 + len(ratios)])
    if asked.corruptions:
        found["corruptions"] = _corruptions(own, asked.seed, journal, clock)
    if asked.noise:
        found["noise"] = _noise(shifts, len(ratios), asked, journal, clock)
    if asked.potential:
        found |= _potential(own, ratios, asked, journal, clock)
    if asked.features:
        found["features"] = _features(shifts, asked.shown, journal, clock)
    return found


def _corruptions(shifts: Shifts, seed: int, journal: Journal, clock: Clock) -> dict[str, Any]:
    assert shifts.axis is not None
    errors: dict[str, list[list[float]]] = {}
    with clock.stage("corrupt", len(shifts.kinds) * len(SEVERITIES)):
        for kind in shifts.kinds:
            errors[kind] = []
            for severity in SEVERITIES:
                change = partial(shifts.corrupted, kind, severity, seed)
                errors[kind].append(journal.once(f"{kind}/{severity}", partial(shifts.errors, change)))
                clock.progress.advance()
    return {
        "severities": list(SEVERITIES),
        "kinds": {
            kind: {
                "original": [1 - error[0] for error in found],
                "networks": [[1 - error[1 + k] for error in found] for k in range(len(shifts.predict) - 1)],
            }
            for kind, found in errors.items()
        },
        "left_out": left_out(shifts.inputs.shape[shifts.axis]),
    }


def _noise(shifts: Shifts, networks: int, asked: Comparison, journal: Journal, clock: Clock) -> dict[str, Any]:
    inputs = shifts.inputs[_spread(asked.inputs, len(shifts.inputs))]
    total = np.zeros((len(shifts.predict) - 1, len(LEVELS), 2))
    with clock.stage("noise", asked.draws):
        for draw in range(asked.draws):

            def drawn(draw: int = draw) -> list[Any]:
                one = noise_similarity(shifts.predict[0], shifts.predict[1:], inputs, draws=[draw], seed=asked.seed)
                told: list[Any] = one.tolist()
                return told

            total += np.asarray(journal.once(f"noise/{draw}", drawn)) / asked.draws
            clock.progress.advance()
    every = [{"agreement": rows[:, 0].tolist(), "distance": rows[:, 1].tolist()} for rows in total]
    return {
        "levels": list(LEVELS),
        "inputs": len(inputs),
        "draws": asked.draws,
        "networks": every[:networks],
        "control": every[networks] if len(every) > networks else None,
    }


def _potential(
    shifts: Shifts, ratios: Sequence[float], asked: Comparison, journal: Journal, clock: Clock
) -> dict[str, Any]:
    """Potentials for clean inputs, each corruption and each level of noise; excess errors of all that is shifted."""
    changes = shifts.distributions(asked.seed)
    told = {}
    with clock.stage("potential", len(changes)):
        for name, change in changes.items():
            told[name] = journal.once(name, partial(shifts.errors, change))
            clock.progress.advance()
    clean = told[CLEAN]
    points = [
        (ratio, (errors[number] - clean[number]) - (errors[0] - clean[0]))
        for number, ratio in enumerate(ratios, 1)
        for name, errors in told.items()
        if name != CLEAN
    ]
    x, y = ([point[side] for point in points] for side in (0, 1))
    line = excess_error(x, y, np.random.default_rng([asked.seed, 16]))
    return {
        "potential": {
            "delta": 100 * DELTA,
            "distributions": {
                name: {
                    "original_error": errors[0],
                    "errors": errors[1:],
                    "potential": potential(ratios, errors[1:], errors[0]),
                }
                for name, errors in told.items()
            },
        },
        "excess": {"points": [list(point) for point in points], **vars(line)},
    }


def _features(shifts: Shifts, shown: int, journal: Journal, clock: Clock) -> dict[str, Any]:
    """What each network goes by, and how sure the others are of that alone."""
    chosen = _spread(shown, len(shifts.inputs))
    count = len(chosen)
    pictures, blank = shifts.in_front(shifts.inputs[chosen]), blank_of(shifts.in_front(shifts.inputs))
    networks = {
        name: lambda part, predict=predict: predict(shifts.as_fed(part))
        for name, predict in zip(shifts.names, shifts.predict, strict=True)
    }
    blocks = blocks_of(*pictures.shape[2:])
    selections = {}
    with clock.stage("features", count * len(networks)):
        for name, predict in networks.items():
            found = []
            for number in range(count):
                found.append(
                    journal.once(f"features/{name}/{number}", partial(_selected, predict, pictures[number], blank))
                )
                clock.progress.advance()
            classes, ranks = zip(*found, strict=True)
            selections[name] = Selection(np.array(classes), np.array(ranks), blocks)
        confidence = confidences(networks, pictures, selections, blank=blank)
    plain = np.clip(shifts.in_front((shifts.inputs[chosen] - shifts.low) / (shifts.high - shifts.low)), 0, 1)
    shown = min(count, max(_MAPS // len(networks), _FEWEST_MAPS))
    return {
        "fraction": FRACTION,
        "inputs": count,
        "confidence": confidence,
        "maps": [
            {
                "sample": int(shifts.places[chosen[k]]),
                "input": _drawn(plain[k]),
                "networks": {
                    name: {"class": int(own.classes[k]), "heat": _drawn(own.heat[k][None])}
                    for name, own in selections.items()
                },
            }
            for k in range(shown)
        ],
    }


def _spread(wanted: int, count: int) -> NDArray[np.int64]:
    """Numbers of some of so many, evenly spread: classes may come one after the other."""
    some = min(wanted, count)
    return np.arange(some) * count // some


def _selected(predict: Predict, picture: NDArray[np.float32], blank: NDArray[np.float32]) -> list[Any]:
    """Class and ranks, as plain data."""
    found = back_select(predict, picture[None], blank=blank)
    return [int(found.classes[0]), found.ranks[0].tolist()]


def _drawn(picture: NDArray[Any]) -> str:
    """A picture (c, h, w) between 0 and 1, as a small file."""
    small = shrunk(picture.transpose(1, 2, 0))
    return to_png(np.broadcast_to(small, (*small.shape[:2], 3)))
