"""Networks under shift: corrupted pictures, noise, few pixels; errors, potential, excess error, what networks go by."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from onnxprune.calibrate.calibration import Calibration, Network, Slot, Slots
from onnxprune.calibrate.layout import channel_axis
from onnxprune.compare.comparison import Comparison
from onnxprune.compare.inputs import Inputs, open_inputs, spread_of
from onnxprune.compare.journal import Journal
from onnxprune.compare.thumbnails import shrunk
from onnxprune.errors import DataError
from onnxprune.evaluate import Runner, answers_of
from onnxprune.evaluate.corruptions import CORRUPTIONS, SEVERITIES, corrupted, left_out
from onnxprune.evaluate.features import FRACTION, Selection, back_select, blocks_of, confidences
from onnxprune.evaluate.png import to_png
from onnxprune.evaluate.robustness import DELTA, LEVELS, Predict, excess_error, noise_similarity, potential
from onnxprune.graph.runtime import CPU
from onnxprune.progress import Clock

__all__ = ["CLEAN", "SHIFTED", "Change", "Shifts", "open_shifts", "shifts_of"]

SHIFTED = ("corruptions", "noise", "potential", "excess", "features")
"""What can be found out."""

CLEAN = "clean"
"""Inputs as they are."""
_USUAL = 3
"""Severity that potentials and excess errors are told for, as published."""
_HALF = float(np.finfo(np.float16).max)
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
    inputs : Inputs
    axis : int or None
        That of the channels, counted from the end, where inputs are pictures.
    reads : callable
        How scores are read off a network.
    names : sequence of str
        Of the networks.
    """

    predict: Sequence[Predict]
    inputs: Inputs
    axis: int | None
    reads: Callable[[Runner], Predict]
    names: Sequence[str] = ()

    def of(self, runners: Sequence[Runner], names: Sequence[str] = ()) -> "Shifts":
        """The same inputs for other networks."""
        return replace(self, predict=[self.reads(runner) for runner in runners], names=names)

    def errors(
        self, changes: Mapping[str, Change], journal: Journal, clock: Clock, *, stage: str, before: str = ""
    ) -> dict[str, list[float]]:
        """Share of wrong answers of each network on inputs that are changed in each way, in one pass over these."""
        left = [name for name in changes if before + name not in journal]
        wrong = {name: np.zeros(len(self.predict)) for name in left}
        with clock.stage(stage, self.inputs.steps(self.inputs.count) * len(left)):
            for start, part in self.inputs.chunks() if left else ():
                for name in left:
                    found = partial(self.wrong, changes[name], part, start)
                    wrong[name] += journal.once(f"{before}{name}/{start}", found)
                    clock.progress.advance()
        known = max(int((self.inputs.truth >= 0).sum()), 1)
        shares = {name: (count / known).tolist() for name, count in wrong.items()}
        return {name: journal.once(before + name, partial(shares.get, name)) for name in changes}

    def wrong(self, change: Change, part: NDArray[np.float32], start: int) -> list[int]:
        """Wrong answers of each network on a chunk of changed inputs, those left out whose class is not known."""
        changed, truth = change(part, start), self.inputs.truth[start : start + len(part)]
        known = truth >= 0
        return [int((answers_of(predict(changed)) != truth)[known].sum()) for predict in self.predict]

    def distributions(self, seed: int) -> dict[str, Change]:
        """What inputs are changed by for potentials: nothing, each corruption as published, and noise."""
        found: dict[str, Change] = {CLEAN: lambda part, _: part}
        found |= {f"{kind}/{_USUAL}": partial(self.corrupted, kind, _USUAL, seed) for kind in self.kinds}
        return found | {f"noise {level:.2g}": partial(self.noisy, level, seed) for level in _NOISES}

    @property
    def colours(self) -> int:
        """Channels of the pictures that inputs are; 0 where they are none."""
        return 0 if self.axis is None else self.inputs.mean.size

    @property
    def kinds(self) -> list[str]:
        """Corruptions that can be made of the inputs."""
        missing = left_out(self.colours)
        return [name for name in CORRUPTIONS if self.colours and name not in missing]

    def corrupted(
        self, kind: str, severity: int, seed: int, part: NDArray[np.float32], start: int
    ) -> NDArray[np.float32]:
        """Inputs as pictures between black and white, corrupted, and back."""
        rng = np.random.default_rng([seed, 14, list(CORRUPTIONS).index(kind), severity, start])
        changed = self.as_fed(corrupted(self.pictures(part), kind, severity, rng))
        return np.asarray(changed * (self.inputs.high - self.inputs.low) + self.inputs.low, dtype=np.float32)

    def pictures(self, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
        """Inputs as pictures between black, the least value of a channel that there is, and white."""
        return np.ascontiguousarray(self.in_front((inputs - self.inputs.low) / (self.inputs.high - self.inputs.low)))

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
        return part + np.float32(level * self.inputs.spread) * added


def open_shifts(original: Runner, output: str | None, data: Calibration, network: Network, asked: Comparison) -> Shifts:
    """Look through the inputs.

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
    if len(slots.inputs) != 1 or slots.inputs[0].dtype.kind != "f" or slots.inputs[0].axis != 0:
        takes = ", ".join(f"'{slot.name}' {slot.dtype} {list(slot.shape)}" for slot in slots.inputs)
        raise DataError(
            "--corruptions, --noise, --potential and --features change inputs of networks that take one tensor of "
            f"floats, samples along its first axis, and this one takes {takes}; leave them out"
        )
    (slot,) = slots.inputs
    axis = channel_axis(slot) if len(slot.shape) == 4 else None
    for flag, wanted in (("--corruptions", asked.corruptions), ("--features", asked.features)):
        if wanted and axis is None:
            raise DataError(f"{flag} needs pictures of one or three colours, which the network does not take")
    reads = partial(_reader, slot, output, slots.batch)
    predict = reads(original)
    inputs = open_inputs(data, slots, axis, lambda part: answers_of(predict(part)))
    return Shifts([predict], inputs, axis, reads, ["original"])


def _reader(slot: Slot, output: str, batch: int, runner: Runner) -> Predict:
    return partial(_scores, slot, output, batch, runner)


def _scores(slot: Slot, output: str, batch: int, runner: Runner, inputs: NDArray[np.float32]) -> NDArray[Any]:
    """Scores of inputs, in batches that the network takes; the last one is filled up where it has to be, and on
    devices, which make ready for each number of inputs anew."""
    full, found = slot.dims[0] is not None or runner.provider != CPU, []
    for start in range(0, len(inputs), batch):
        part = inputs[start : start + batch]
        if slot.dtype == np.float16:  # changed ones may be larger than there are numbers
            part = np.clip(part, -_HALF, _HALF)
        part = part.astype(slot.dtype)
        lacking = batch - len(part) if full else 0
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
    every = {(kind, severity): f"{kind}/{severity}" for kind in shifts.kinds for severity in SEVERITIES}
    changes = {name: partial(shifts.corrupted, *key, seed) for key, name in every.items()}
    told = shifts.errors(changes, journal, clock, stage="corrupt")
    errors = {kind: [told[every[kind, severity]] for severity in SEVERITIES] for kind in shifts.kinds}
    return {
        "severities": list(SEVERITIES),
        "kinds": {
            kind: {
                "original": [1 - error[0] for error in found],
                "networks": [[1 - error[1 + k] for error in found] for k in range(len(shifts.predict) - 1)],
            }
            for kind, found in errors.items()
        },
        "left_out": left_out(shifts.colours),
    }


def _noise(shifts: Shifts, networks: int, asked: Comparison, journal: Journal, clock: Clock) -> dict[str, Any]:
    count = min(asked.inputs, shifts.inputs.count)
    total, done = np.zeros((len(shifts.predict) - 1, len(LEVELS), 3)), 0
    spread = spread_of(part for _, part in shifts.inputs.some(count))
    with clock.stage("noise", shifts.inputs.steps(count) * asked.draws):
        for _, part in shifts.inputs.some(count):
            for draw in range(asked.draws):
                similar = partial(_similar, shifts, part, spread, done, draw, asked.seed)
                total += journal.once(f"noise/{draw}/{done}", similar)
                clock.progress.advance()
            done += len(part)
    told = total[:, :, :2] / np.maximum(total[:, :, 2:], 1)
    every = [{"agreement": rows[:, 0].tolist(), "distance": rows[:, 1].tolist()} for rows in told]
    return {
        "levels": list(LEVELS),
        "inputs": count,
        "draws": asked.draws,
        "networks": every[:networks],
        "control": every[networks] if len(every) > networks else None,
    }


def _similar(
    shifts: Shifts, part: NDArray[np.float32], spread: float, first: int, draw: int, seed: int
) -> list[list[list[float]]]:
    original, *others = shifts.predict
    found = noise_similarity(original, others, part, draws=[draw], seed=seed, spread=spread, first=first)
    return cast("list[list[list[float]]]", found.tolist())


def _potential(
    shifts: Shifts, ratios: Sequence[float], asked: Comparison, journal: Journal, clock: Clock
) -> dict[str, Any]:
    """Potentials for clean inputs, each corruption and each level of noise; excess errors of all that is shifted."""
    told = shifts.errors(shifts.distributions(asked.seed), journal, clock, stage="potential")
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
    numbers, samples = (np.concatenate(each) for each in zip(*shifts.inputs.some(shown), strict=True))
    count = len(numbers)
    pictures, blank = shifts.in_front(samples), shifts.in_front(shifts.inputs.mean)[0]
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
    plain = np.clip(shifts.pictures(samples), 0, 1)
    shown = min(count, max(_MAPS // len(networks), _FEWEST_MAPS))
    return {
        "fraction": FRACTION,
        "inputs": count,
        "confidence": confidence,
        "maps": [
            {
                "sample": shifts.inputs.data.place(int(numbers[k])),
                "input": _drawn(plain[k]),
                "networks": {
                    name: {"class": int(own.classes[k]), "heat": _drawn(own.heat[k][None])}
                    for name, own in selections.items()
                },
            }
            for k in range(shown)
        ],
    }


def _selected(predict: Predict, picture: NDArray[np.float32], blank: NDArray[np.float32]) -> list[Any]:
    """Class and ranks, as plain data."""
    found = back_select(predict, picture[None], blank=blank)
    return [int(found.classes[0]), found.ranks[0].tolist()]


def _drawn(picture: NDArray[Any]) -> str:
    """A picture (c, h, w) between 0 and 1, as a small file."""
    small = shrunk(picture.transpose(1, 2, 0))
    return to_png(np.broadcast_to(small, (*small.shape[:2], 3)))
