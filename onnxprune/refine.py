"""What calibration data is used for: evidence of what channels are worth, and readers that are solved anew."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper

from onnxprune.analysis import Analysis
from onnxprune.budget import Cost
from onnxprune.calibrate.calibration import Batch, Calibration, Network, Slots
from onnxprune.calibrate.feeds import Feeds
from onnxprune.calibrate.given import open_calibration
from onnxprune.calibrate.synthetic import synthesise
from onnxprune.errors import DataError, ModelError, RefusedError
from onnxprune.graph.model import Model
from onnxprune.graph.runtime import choose_providers
from onnxprune.graph.tensors import count, holders, payload_bytes
from onnxprune.methods import METHODS, Select
from onnxprune.options import Options
from onnxprune.prepare.precision import OTHER_FLOATS, flush
from onnxprune.reconstruct.evidence import NOTHING, Data, Evidence, Gathered, gather, trial_of
from onnxprune.reconstruct.sequence import Reconstruction, reconstruct
from onnxprune.reconstruct.thinned import Thinned
from onnxprune.reconstruct.views import Workpiece
from onnxprune.salience import saliences
from onnxprune.validate import Exam, Scores, find_scores, set_exam
from onnxprune.workpiece import require_alike, workpiece

__all__ = ["Refiner", "known_without_data", "open_refiner"]

_log = logging.getLogger(__name__)

LARGEST = 1.5e9
"""Bytes of weights up to which a network is refined: it is held in memory, in float32, three times."""

_SAMPLES, _SAMPLES_LABELLED = 1024, 4096
"""Samples that are learnt from where nobody says how many, and where classes are known all that are read at most."""

_MACS, _BYTES, _FEWEST, _MOST = 3e11, 1 << 28, 32, 2048
"""What made-up inputs may cost: multiply-accumulates of one pass, bytes; and how many there are."""

_LESSON = 512
"""Samples that accuracy is told by while channels are chosen."""

_HELD_OUT = 8
"""One in so many samples is not learnt from: fidelity is measured on it."""

_EXAMINED = 4
"""One in so many samples at least is not learnt from where classes are known: accuracy has a large error on few."""

_MOST_EXAMINED = 128
"""Samples that distilled weights are examined on."""


class _Lesson(NamedTuple):
    """Samples that accuracy is told by while channels are chosen, and the others, which readers are solved on then."""

    exam: Exam
    others: Data


@dataclass(frozen=True)
class Refiner:
    """A network, and data to run it on.

    Attributes
    ----------
    model : Model
        As it was analysed; not changed.
    options : Options
    data : Data
        What is learnt from.
    held_out : tuple of dict of str to ndarray
        Batches that fidelity is measured on.
    examined : tuple of dict of str to ndarray
        Others, which nothing is learnt from either: they tell whether distilled weights are kept.
    facts : dict
        Where the data comes from and what was assumed, for the report.
    exam : Exam or None
        The same samples with their classes, where those are known.
    lesson : tuple or None
        What is learnt from in two, where budgets are found by accuracy.
    costs : dict of str to Cost
        Of the network, by what is measured.
    """

    model: Model
    options: Options
    data: Data
    held_out: tuple[Feeds, ...] = ()
    examined: tuple[Feeds, ...] = ()
    facts: dict[str, object] = field(default_factory=dict)
    exam: Exam | None = None
    lesson: _Lesson | None = None
    costs: dict[str, Cost] = field(default_factory=dict)

    @property
    def learns(self) -> bool:
        """Tell whether anything is learnt from data, and not only measured on it."""
        return bool(self.data.batches)

    @cached_property
    def work(self) -> Workpiece:
        """A copy in float32, with biases, and its readers."""
        return workpiece(self.model, self.options)

    def evidence(self) -> Gathered:
        """What the data says of each group, in the groups' order."""
        work, trial = self.work, None
        scores = "" if self.exam is None else self.exam.scores.output
        kind, cost = METHODS[self.options.method].salience, self.costs[self.options.measure]
        known = saliences(work, self.data, kind, cost, scores)
        try:
            if self.options.spread in ("", "error"):  # others do not look at losses
                trial = trial_of(work.proto, self.data, len(work.coupling.groups))
        except ModelError as error:
            self._excuse(error, "layers' losses are not weighed against each other")
        each = (replace(told, salience=found) for told, found in zip(self._each(), known, strict=True))
        return Gathered(each, trial, None if self.lesson is None else Thinned(work, self.lesson.exam))

    def _each(self) -> Iterator[Evidence]:
        """Evidence of each group.

        Raises
        ------
        ModelError
            If the network does not run on data that was given.
        """
        work, told = self.work, 0
        try:
            for evidence in gather(work, self.data if self.lesson is None else self.lesson.others):
                told += 1
                yield evidence
        except ModelError as error:
            self._excuse(error, "channels are chosen by their weights alone")
        yield from [NOTHING] * (len(work.coupling.groups) - told)

    def _excuse(self, error: ModelError, instead: str) -> None:
        """Say what is done instead of what failed on inputs that were made up; on others it is an error."""
        if self.options.calib is not None or self.options.refit == "on":
            raise error
        _log.warning("the network cannot be looked into (%s): %s", error, instead)

    def reconstruct(
        self,
        kept: Mapping[str, NDArray[np.int64]],
        selects: Mapping[str, Select],
        advance: Callable[[], None] = lambda: None,
    ) -> Reconstruction:
        """Solve readers anew; see `reconstruct`."""
        form = METHODS[self.options.method].sequence
        try:
            return reconstruct(self.work, kept, selects, self.data, form, advance)
        except ModelError as error:
            self._excuse(error, "readers keep their weights")
        return Reconstruction(dict(kept))


def known_without_data(analysis: Analysis, options: Options) -> Gathered | None:
    """What a method that needs no data says of all groups at once; None for those that take one after the other.

    Parameters
    ----------
    analysis : Analysis
        Of the network, with its weights; not changed.
    options : Options

    Returns
    -------
    Gathered or None

    Raises
    ------
    ModelError
        If the network cannot be differentiated.
    """
    recipe = METHODS[options.method]
    if not recipe.salience or recipe.needs_data:
        return None
    model = analysis.model.copy()
    flush(model)
    work = workpiece(model, options)
    require_alike(analysis, work)
    data = Data([], 0, choose_providers(options.providers), options.seed)
    found = saliences(work, data, recipe.salience, analysis.costs[options.measure])
    return Gathered(iter([replace(NOTHING, salience=each) for each in found]))


def open_refiner(analysis: Analysis, options: Options, *, learns: bool = True) -> Refiner | None:
    """Read calibration data, or make some up.

    Parameters
    ----------
    analysis : Analysis
        Of the network, with its weights; not changed.
    options : Options
    learns : bool
        Whether anything is to be learnt; else all samples are held out.

    Returns
    -------
    Refiner or None
        None where the network is too big, or takes none of the inputs that are made up for it.

    Raises
    ------
    OnnxPruneError
        If data that was given does not fit, or accuracy is asked for and cannot be told.
    """
    model = analysis.model.copy()
    size = sum(_wide_bytes(holder.tensor) for holder in holders(model.proto))
    if size > LARGEST and options.max_drop is not None:
        raise RefusedError(
            f"the network has {size / 1e9:.1f} GB of weights, so that ratios cannot be tried in memory; give --ratio "
            "in place of --max-drop"
        )
    if size > LARGEST:
        _log.warning("the network has %.1f GB of weights: no data is used, readers keep their weights", size / 1e9)
        return None
    flush(model)
    network = Network(model, analysis.index, analysis.shapes, choose_providers(options.providers))
    try:
        refiner = _opened(network, analysis, options, learns=learns)
        require_alike(analysis, refiner.work)
    except ModelError as error:
        if options.calib is not None:
            raise
        _log.warning("no inputs could be made up (%s): readers keep their weights; --calib gives some", error)
        return None
    return refiner


def _wide_bytes(tensor: TensorProto) -> int:
    """Bytes of a tensor once its floats are float32."""
    return 4 * count(tensor) if tensor.data_type in OTHER_FLOATS else payload_bytes(tensor)


def _calibration(network: Network, analysis: Analysis, options: Options) -> Calibration:
    shapes = analysis.shapes.inputs.values()
    each = 4.0 * sum(float(np.prod(shape)) for shape in shapes) / max((s[0] for s in shapes if s), default=1)
    macs = analysis.total("macs") / max((s[0] for s in shapes if s), default=1)
    affordable = min(_MACS / max(macs, 1.0), _BYTES / max(each, 1.0))
    if options.calib is None:
        number = options.synthetic or int(np.clip(affordable, _FEWEST, _MOST))
        return synthesise(network, count=number, seed=options.seed, scale=options.scale, macs=macs)
    return open_calibration(
        options.calib,
        network,
        limit=options.samples or _SAMPLES,
        limit_labelled=options.samples or int(np.clip(affordable, _SAMPLES, _SAMPLES_LABELLED)),
        scale=options.scale,
        labels=options.labels,
    )


def _opened(network: Network, analysis: Analysis, options: Options, *, learns: bool) -> Refiner:
    """Read the samples, tell what is learnt from and what is held out, and describe both."""
    calibration, scores = _graded(network, analysis, options)
    learnt, held, examined = _split(network, calibration, options, learns=learns)
    counts = [sum(batch.numbers.size for batch in batches) for batches in (learnt, held, examined)]
    facts: dict[str, object] = {
        "origin": calibration.origin,
        "samples": counts[0],
        "held_out": counts[1],
        "examined": counts[2],
        "notes": list(calibration.notes),
    }
    model, labels, exam = network.model.copy(), calibration.labels, None
    if scores is not None and not held:
        raise DataError("no samples of one size fill a batch to tell accuracy by; give more, or leave the labels out")
    if scores is not None and labels is not None:
        exam = set_exam(model.copy(), scores, held, labels, network.providers)
    data, lesson = replace(_data(learnt, network, options, labels), alike=calibration.alike), None
    if options.allocation == "accuracy" and learns and scores is not None:
        lesson = _lesson(network, calibration, options, scores, np.concatenate([batch.numbers for batch in learnt]))
    shown, seen = tuple(batch.feeds for batch in held), tuple(_narrow(batch.feeds) for batch in examined)
    return Refiner(model, options, data, shown, seen, facts, exam, lesson, analysis.costs)


def _data(
    batches: Sequence[Batch], network: Network, options: Options, labels: NDArray[np.int64] | None = None
) -> Data:
    counts = tuple(batch.numbers.size for batch in batches)
    classes = () if labels is None else tuple(labels[batch.numbers] for batch in batches)
    feeds = [_narrow(batch.feeds) for batch in batches]
    return Data(feeds, sum(counts), network.providers, options.seed, counts, classes)


def _lesson(
    network: Network, calibration: Calibration, options: Options, scores: Scores, learnt: NDArray[np.int64]
) -> _Lesson:
    """Draw the samples that accuracy is told by while channels are chosen: no more than half of what is learnt from.

    What readers are solved on is left out: they do better there than elsewhere.
    """
    unit, labels = _unit(network), calibration.labels
    assert labels is not None
    drawn = np.random.default_rng([options.seed, 9]).permutation(learnt)
    count = min(_LESSON, drawn.size // 2) // unit * unit
    if not count:
        raise DataError(f"--allocation accuracy: {drawn.size} samples to learn from are too few to divide; give more")
    told, others = (list(calibration.start(np.sort(part))) for part in (drawn[:count], drawn[count:]))
    exam = set_exam(network.model.copy(), scores, told, labels, network.providers)
    exam.require_right("--allocation accuracy")
    narrow = replace(exam, batches=tuple(map(_narrow, exam.batches)))
    return _Lesson(narrow, _data(others, network, options))


def _graded(network: Network, analysis: Analysis, options: Options) -> tuple[Calibration, Scores | None]:
    """Find the output that classes are read off; where they are not asked for and fit none, they are left out."""
    calibration = _calibration(network, analysis, options)
    labels = calibration.labels
    if labels is None and options.needs_labels:
        asked = "--allocation accuracy" if options.max_drop is None else f"--max-drop {options.max_drop:g}"
        raise DataError(
            f"{asked}: the calibration data have no classes to tell accuracy by; give one per "
            "sample with --labels FILE, as an array 'labels' in the .npz file, or as folders of pictures"
        )
    if labels is None:
        return calibration, None
    try:
        first = next(calibration.start(np.arange(calibration.count)), None)
        if first is None or calibration.count < 2 * _unit(network):
            raise DataError(f"{calibration.count} samples are too few to hold some out for accuracy; give more")
        return calibration, find_scores(network.model.copy(), first, labels, network.providers)
    except DataError as error:
        if options.examines:
            raise
        note = f"accuracy is not measured: {error}"
    plain = _calibration(network, analysis, replace(options, samples=options.samples or _SAMPLES))
    return replace(plain, labels=None, notes=(*plain.notes, note)), None


def _unit(network: Network) -> int:
    """Samples that the network takes at once at least."""
    slots = Slots.of(network)
    return slots.batch if slots.fixed else 1


def _split(
    network: Network, calibration: Calibration, options: Options, *, learns: bool
) -> tuple[list[Batch], list[Batch], list[Batch]]:
    """Batches to learn from, those held out, and those that distilled weights are examined on.

    The last samples are held out, or where classes are known some at random: those may be sorted by them. Examined are
    some of these; where accuracy is told, which has a large error on few, a quarter of all is held out besides.
    """
    count, unit, most = calibration.count, _unit(network), _MOST_EXAMINED if options.distills and learns else 0
    numbers = np.arange(count)
    if calibration.labels is None:
        out = max(count // _HELD_OUT // unit, 1) * unit if count >= 2 * unit else 0
        examined = min(out // 2, most) // unit * unit
    else:
        examined = min(count // (2 * _HELD_OUT), most) // unit * unit
        spare = count - _SAMPLES if options.samples is None else 0
        out = max(count // _EXAMINED + examined, spare, unit) // unit * unit if learns else count
        numbers = np.random.default_rng([options.seed, 7]).permutation(numbers)[::-1]
    parts = np.split(numbers, [count - out, count - out + examined])
    learnt, seen, held = (list(calibration.start(np.sort(part))) for part in parts)
    return learnt, held, seen


def _narrow(batch: Feeds) -> Feeds:
    """Floats of every kind as float32, as the network that is looked into takes them."""
    floats = {name: value for name, value in batch.items() if _kind_of(value) in OTHER_FLOATS}
    return {**batch, **{name: value.astype(np.float32) for name, value in floats.items()}}


def _kind_of(value: NDArray[Any]) -> int:
    return helper.np_dtype_to_tensor_dtype(value.dtype)
