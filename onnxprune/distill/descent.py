"""Gradient descent on the distance between a pruned network's answers and the original's, by all of its weights.

    w ← w − η √s · rms(w₀) / (√L ⁴√|w|) · Adam,   η growing to its peak and falling from it as half a cosine

|w| are the elements of a weight, L the weights that move and s the steps, or the samples where they are fewer: a step
changes what a layer makes by as much whatever its width and the depth of the network, and less where few steps are left
to mend what it breaks, or few samples say where to go. Derivatives are a network of their own (`gradient`), of which
weights are inputs.

References
----------
G. Hinton, O. Vinyals, J. Dean, "Distilling the knowledge in a neural network", arXiv 1503.02531; D. Kingma, J. Ba,
"Adam: a method for stochastic optimization", ICLR 2015, algorithm 1.
"""

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, ValueInfoProto

from onnxprune.calibrate.calibration import PER_ELEMENT, elements
from onnxprune.calibrate.feeds import Feeds
from onnxprune.distill.answers import Answer, answers_of, graded, with_distance
from onnxprune.distill.samples import Rows, Samples
from onnxprune.errors import ModelError
from onnxprune.gradient import Loss, differentiate, raised
from onnxprune.graph.index import Index
from onnxprune.graph.model import Model
from onnxprune.graph.runtime import Effort, Session
from onnxprune.rewrite import trained
from onnxprune.salience.slopes import as_inputs
from onnxprune.shapes.infer import Shapes, infer_shapes

__all__ = ["Distilled", "Lesson", "distill"]

Arrays = dict[str, NDArray[np.float32]]

_STEP, _FINE, _ROWS = 32, 32, 512
"""Samples per step at most, steps per pass at least, and rows of scores per step: a text has one per token."""
_RATE, _MEAN, _SQUARE, _TINY = 0.0125, 0.9, 0.999, 1e-12
"""The largest step, and Adam's constants."""
_WARM = 0.1
"""Share of the steps in which they grow to that."""
_PASSES, _FEWEST = 30, 64
"""Passes over the samples at most, and steps that are worth to be begun."""
_COST, _ASKED, _PER_WEIGHT = 6e11, 0.25, 20.0
"""What it may cost, in multiply-accumulates of the pruned network's forward pass; and what one of the original's takes
in terms of these, and a weight in a step."""
_SHARDS = 2
"""Parts that a step is run in side by side: nodes of derivatives are too small for several threads each."""
_ROOM = 6e7
"""Elements of the activations of a run."""
_HELD = 1 << 28
"""Bytes of answers of the original that are kept, in place of running it in every pass."""


@dataclass(frozen=True)
class Lesson:
    """What is learnt, and from what.

    Attributes
    ----------
    pruned, original : ModelProto
        In float32, without functions, all weights in them; not modified.
    samples : Samples
    examined : Samples
        Others, which tell whether it is kept.
    providers : sequence of str
    seed : int
    input_shapes : dict of str to tuple of int
        Sizes of the inputs.
    free : collection of str
        Weights that may be moved; others stay as they are.
    macs : tuple of float
        Multiply-accumulates of the pruned network's forward pass and of the original's, at `input_shapes`.
    mixed : bool
        Whether samples are mixed with each other, since there are no more of them.
    limited : bool
        Whether it is left where so few steps are affordable that little is to be had.
    """

    pruned: ModelProto
    original: ModelProto
    samples: Samples
    examined: Samples
    providers: Sequence[str]
    seed: int
    input_shapes: dict[str, tuple[int, ...]]
    free: Collection[str]
    macs: tuple[float, float]
    mixed: bool = False
    limited: bool = True


@dataclass(frozen=True)
class Distilled:
    """What came of it.

    Attributes
    ----------
    weights : dict of str to ndarray of float32
        New weights of the pruned network; none where the old ones are nearer to the original.
    steps, samples : int
        Steps, and samples learnt from in all of them.
    before, after : float
        Distance of the answers from the original's, on the samples examined.
    """

    weights: Arrays
    steps: int
    samples: int
    before: float
    after: float

    @property
    def facts(self) -> dict[str, Any]:
        """What the report says."""
        told = {"steps": self.steps, "samples": self.samples, "before": self.before, "after": self.after}
        finite = {name: value if math.isfinite(value) else None for name, value in told.items()}
        return {**finite, "kept": bool(self.weights)}


def distill(lesson: Lesson, start: Callable[[int], Callable[[], None]]) -> Distilled:
    """Move the weights of a pruned network until it answers as the original does.

    Parameters
    ----------
    lesson : Lesson
    start : callable
        Told how many steps there will be; returns what is called after each.

    Returns
    -------
    Distilled

    Raises
    ------
    ModelError
        If it cannot be done, with the reason: a node that cannot be differentiated, a network too large.
    """
    work = _Descent(lesson)
    return work.run(start(work.pace.steps))


class _Original:
    """The original, open, and where its answers are compared with those of the pruned network."""

    def __init__(self, lesson: Lesson, pruned: Shapes) -> None:
        proto = _copied(lesson.original)
        index, shapes = _looked_at(proto, lesson)
        found, sizes = answers_of(index, shapes), pruned.shapes
        there = [a for a in found if a.tensor in sizes and sizes[a.tensor] == shapes.shapes.get(a.tensor)]
        known = {value.name for value in proto.graph.output}
        proto.graph.output.extend(ValueInfoProto(name=each.tensor) for each in there if each.tensor not in known)
        self._session = Session(proto.SerializeToString(), lesson.providers, effort=Effort(fast=True))
        names, samples = [each.tensor for each in there], lesson.samples
        drawn, count = [], 0
        for rows in samples.drawn(_STEP):
            drawn.append(self._session.run(samples.take(rows), names))
            count += len(rows) * samples.per_run
            if count >= _STEP:
                break
        self.answers: list[Answer] = list(graded(there, drawn))
        if not self.answers:
            raise ModelError("no output of the original tells samples apart")
        scored = [
            sum(run[a.tensor].size // run[a.tensor].shape[a.axis] for run in drawn)
            for a in self.answers
            if a.axis is not None
        ]
        self.rows = max([1, *(each // count for each in scored)])
        """Rows of scores that there are of a sample."""

    def __call__(self, feeds: Feeds) -> dict[str, NDArray[Any]]:
        """Answers by their tensors."""
        return self._session.run(feeds, [answer.tensor for answer in self.answers])


@dataclass(frozen=True)
class _Pace:
    """Steps that are taken, samples of each of them, and samples of each run."""

    steps: int
    step: int
    run: int

    @classmethod
    def of(cls, lesson: Lesson, index: Index, shapes: Shapes, weights: int, rows: int) -> "_Pace":
        """What can be afforded for a network with so many elements in its weights."""
        given = lesson.samples.take(next(lesson.samples.drawn(1)))
        assumed = sum(math.prod(shapes.inputs[name]) for name in index.inputs if name in shapes.inputs)
        larger = sum(value.size for value in given.values()) / lesson.samples.per_run / max(assumed, 1)
        floats = larger * elements(index, shapes)
        step = int(np.clip(min(len(lesson.samples) // _FINE, _ROWS // rows), 1, _STEP))
        own, others = lesson.macs
        macs = larger * (own + _ASKED * others * lesson.mixed)
        each = macs + PER_ELEMENT * floats + _PER_WEIGHT * weights / step
        count, cost = max(len(lesson.samples), 1), _COST if lesson.limited else 10 * _COST
        steps = int(min(cost / (each * count), _PASSES) * count / step)
        if lesson.limited and steps < _FEWEST:
            raise ModelError(f"{steps} steps are all that it may cost, which is too few")
        return cls(max(steps, 1), step, int(np.clip(_ROOM / floats, 1, step)))


class _Descent:
    def __init__(self, lesson: Lesson) -> None:
        self.lesson = lesson
        if not len(lesson.examined):
            raise ModelError("no samples are left to tell whether it helps")
        proto = raised(_copied(lesson.pruned))
        index, shapes = _looked_at(proto, lesson)
        moved = [name for name in trained(index, shapes) if name in lesson.free]
        if not moved:
            raise ModelError("no weight of floats could be moved")
        self.weights = as_inputs(proto, set(moved))
        self._original = _Original(lesson, shapes)
        size = sum(weight.size for weight in self.weights.values())
        self.pace = _Pace.of(lesson, index, shapes, size, self._original.rows)
        self._far = min(self.pace.steps, len(lesson.samples) * self._original.rows)
        told, self._targets = with_distance(proto, self._original.answers, shapes)
        assumed = shapes.inputs | {name: shapes.shapes[tensor] for tensor, name in self._targets.items()}
        gradient = differentiate(proto, moved, loss=Loss("total", told), outputs=[], input_shapes=assumed)
        self._of, self._loss = gradient.of, gradient.loss
        self._samples = lesson.samples if lesson.mixed else self._answered(lesson.samples)
        self._session = Session(gradient.proto.SerializeToString(), lesson.providers, effort=Effort(fast=True))

    def _answered(self, samples: Samples) -> Samples:
        """Samples with what the original makes of them beside them, where so much may be kept."""
        made = list[Feeds]()
        for feeds in samples.batches:
            made.append({self._targets[tensor]: value for tensor, value in self._original(feeds).items()})
            if sum(value.nbytes for value in made[0].values()) * len(samples.batches) > _HELD:
                return samples
        return samples.beside(made)

    def _told(self, feeds: Feeds) -> Feeds:
        """Samples, and what the original makes of them."""
        if all(name in feeds for name in self._targets.values()):
            return feeds
        return {**feeds, **{self._targets[tensor]: value for tensor, value in self._original(feeds).items()}}

    def _distance(self, weights: Arrays) -> float:
        """Distance of the answers on the samples examined, each counted once."""
        total, count = 0.0, 0
        for rows in self.lesson.examined.drawn(self.pace.run):
            found = self._session.run({**self._told(self.lesson.examined.take(rows)), **weights}, [self._loss])
            total, count = total + len(rows) * float(found[self._loss]), count + len(rows)
        return total / count

    def _endless(self, rng: np.random.Generator) -> Iterator[Rows]:
        while True:
            yield from self._samples.drawn(self.pace.run, rng)

    def run(self, advance: Callable[[], None]) -> Distilled:
        """Go downhill; what was there before stays where that is nearer."""
        rng = np.random.default_rng([self.lesson.seed, 12])
        before = self._distance(self.weights)
        weights, adam, runs, seen = self.weights, _Adam(self.weights, self._far), self._endless(rng), 0
        with ThreadPoolExecutor(_SHARDS) as pool:
            for step in range(self.pace.steps):
                slopes, count = self._slopes(weights, runs, rng, pool)
                seen += count
                if not all(np.isfinite(slope).all() for slope in slopes.values()):
                    break
                weights = adam.step(weights, slopes, _rate(step, self.pace.steps))
                advance()
        finite = all(np.isfinite(weight).all() for weight in weights.values())
        after = self._distance(weights) if finite else math.inf
        better = math.isfinite(after) and after < before
        return Distilled(weights if better else {}, self.pace.steps, seen, before, after)

    def _slopes(
        self, weights: Arrays, runs: Iterator[Rows], rng: np.random.Generator, pool: Executor
    ) -> tuple[Arrays, int]:
        """Mean derivatives of the next samples, and how many they are; they are run in parts, side by side."""
        parts, count = list[tuple[Feeds, int]](), 0
        while count < self.pace.step:
            rows = next(runs)
            taken = self._samples.mixed(rows, rng) if self.lesson.mixed else self._samples.take(rows)
            parts += self._samples.split(taken, _SHARDS)
            count += len(rows) * self._samples.per_run

        def run(part: tuple[Feeds, int]) -> Arrays:
            return self._session.run({**self._told(part[0]), **weights}, list(self._of.values()))

        total: Arrays = {}
        for (_, own), found in zip(parts, pool.map(run, parts), strict=True):
            for name, output in self._of.items():
                mean = found[output] * np.float32(own / count)
                total[name] = total[name] + mean if name in total else mean
        return total, count


def _rate(step: int, steps: int) -> float:
    """How large a step is, of the largest: it grows first, and falls as half a cosine."""
    done = (step + 1) / steps
    return min(1.0, done / _WARM) * 0.5 * (1 + math.cos(math.pi * step / steps))


class _Adam:
    """Steps in terms of the weights as they were first."""

    def __init__(self, weights: Arrays, far: int) -> None:
        deep = _RATE * math.sqrt(far / max(sum(weight.ndim > 1 for weight in weights.values()), 1))
        self._sizes = {
            n: deep * math.sqrt(np.mean(np.square(w, dtype=np.float64))) / w.size**0.25 for n, w in weights.items()
        }
        self._mean, self._square = ({n: np.zeros_like(w) for n, w in weights.items()} for _ in range(2))
        self._steps = 0

    @np.errstate(over="ignore", invalid="ignore")
    def step(self, weights: Arrays, slopes: Mapping[str, NDArray[np.float32]], rate: float) -> Arrays:
        """Return weights a step further."""
        self._steps += 1
        made: Arrays = {}
        for name, weight in weights.items():
            mean, square, slope = self._mean[name], self._square[name], slopes[name]
            mean += np.float32(1 - _MEAN) * (slope - mean)
            square += np.float32(1 - _SQUARE) * (slope * slope - square)
            size = np.float32(rate * self._sizes[name] * math.sqrt(1 - _SQUARE**self._steps) / (1 - _MEAN**self._steps))
            made[name] = np.asarray(weight - size * mean / (np.sqrt(square) + np.float32(_TINY)), np.float32)
        return made


def _looked_at(proto: ModelProto, lesson: Lesson) -> tuple[Index, Shapes]:
    index = Index(proto)
    return index, infer_shapes(index, Model(proto).skeleton(), lesson.input_shapes)


def _copied(proto: ModelProto) -> ModelProto:
    copy = ModelProto()
    copy.CopyFrom(proto)
    return copy
