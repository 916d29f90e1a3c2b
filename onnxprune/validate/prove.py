"""The proof: the pruned network against its twin on random inputs, then against the original for what it is worth."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, helper

from onnxprune.calibrate.feeds import Feeds, random_feeds, shape_attempts
from onnxprune.coupling import Coupling
from onnxprune.errors import ModelError, RefusedError
from onnxprune.graph.index import Index
from onnxprune.graph.model import Model
from onnxprune.graph.runtime import Session
from onnxprune.graph.shapes import Shapes
from onnxprune.ops.trace import Kept
from onnxprune.rewrite.plan import Plan
from onnxprune.validate.compare import agreement, difference, looks_like_scores
from onnxprune.validate.cut import behind, cut, foreign_nodes
from onnxprune.validate.judge import NOISE, Judge, Outputs, TwinResult, noise_of
from onnxprune.validate.twin import Twin, build_twin

__all__ = ["Fidelity", "TwinResult", "Validation", "validate"]

PROVED = 2
"""Random inputs that the twin is compared on, one for a network too big for many; fidelity is measured on more."""


@dataclass(frozen=True)
class Fidelity:
    """The pruned network compared with the original at one output; means over the inputs."""

    output: str
    relative_l2: float
    cosine: float
    top1_agreement: float | None


@dataclass(frozen=True)
class Validation:
    """Everything found out by running the networks.

    Attributes
    ----------
    provider : str
        onnxruntime provider that ran them.
    inputs : int
        Number of random inputs.
    twin : TwinResult
    fidelity : tuple of Fidelity
    unproved : tuple of str
        Groups whose kept channels were never active where something was compared, and outputs that could not be run or
        that rounding alone moves beyond the tolerance.
    """

    provider: str
    inputs: int
    twin: TwinResult
    fidelity: tuple[Fidelity, ...]
    unproved: tuple[str, ...]


def _activity(twin: Twin, found: Outputs, kept: Kept, coupling: Coupling, active: NDArray[np.bool_]) -> None:
    """Mark the units that were not zero before some reader."""
    for mask in twin.masks:
        live = np.asarray(found.get(mask.activity, np.zeros(0))).reshape(-1).astype(np.float64) > 0
        if live.size == mask.read.array.size:
            array = mask.read.array.reshape(-1)
            active[coupling.unit_of[array[live & kept.of(array)]]] = True


def _fidelity(outputs: Iterable[str], before: list[Outputs], after: list[Outputs]) -> tuple[Fidelity, ...]:
    results = []
    for name in outputs:
        pairs = [(a[name], b[name]) for a, b in zip(after, before, strict=True) if name in a and name in b]
        pairs = [(a, b) for a, b in pairs if a.dtype.kind in "fiub" and a.shape == b.shape]
        if not pairs:
            continue
        gaps = [difference(a, b) for a, b in pairs]
        scores = looks_like_scores(pairs[0][1])
        top1 = float(np.mean([agreement(a, b) for a, b in pairs])) if scores else None
        results.append(
            Fidelity(
                name, float(np.mean([g.relative_l2 for g in gaps])), float(np.mean([g.cosine for g in gaps])), top1
            )
        )
    return tuple(results)


def _with_outputs(proto: ModelProto, names: Iterable[str], shapes: Shapes) -> None:
    made = {name for node in proto.graph.node for name in node.output}
    present = {value.name for value in proto.graph.output}
    for name in names:
        if name in made and name not in present:
            proto.graph.output.append(helper.make_tensor_value_info(name, shapes.types[name], None))


def validate(
    original: Model,
    pruned: Model,
    shapes: Shapes,
    coupling: Coupling,
    plan: Plan,
    *,
    providers: Sequence[str],
    rng: np.random.Generator,
    inputs: int,
    advance: Callable[[], None] = lambda: None,
) -> Validation:
    """Run the original, its twin and the pruned network on random inputs.

    Parameters
    ----------
    original : Model
        The network before pruning. It is used up: its protobuf becomes the twin.
    pruned : Model
        The network after pruning, as it was written; used up likewise.
    shapes, coupling, plan
        What was found out about the original, and what was done.
    providers : sequence of str
        onnxruntime providers.
    rng : numpy.random.Generator
    inputs : int
        How many random inputs.
    advance : callable
        Called after every run, for a progress bar.

    Returns
    -------
    Validation

    Raises
    ------
    ModelError
        If onnxruntime cannot load or run the original.
    RefusedError
        If nothing of it can be run.
    """
    trial = _Trial(original, shapes, coupling, plan, providers, rng)
    runs = trial.run_original(inputs, advance)
    try:
        found, after = trial.run_pruned(pruned, runs, advance)
    except ModelError as error:
        failed = TwinResult(False, math.inf, math.inf, math.inf, 0.0, 0, str(error))
        return Validation(runs.provider, inputs, failed, (), ())
    judge = Judge(runs.provider, {}, coupling, shapes, trial.kept)
    verdicts = [judge.compare(trial.compared, *pair) for pair in zip(runs.expected, found, strict=True)]
    if not all(result.passed for result, _ in verdicts):
        judge = replace(judge, noise=trial.noise(runs))
        verdicts = [judge.compare(trial.compared, *pair) for pair in zip(runs.expected, found, strict=True)]
    if not any(result.compared for result, _ in verdicts):
        raise RefusedError(
            "nothing could be compared: every output is empty, not finite, or moves as much when the inputs change in "
            "their last digits, as with random operators or a training-mode Dropout; export the network for inference"
        )
    worst = max((result for result, _ in verdicts), key=lambda item: (not item.passed, item.relative_l2))
    loose = set().union(*(names for _, names in verdicts))
    unproved = trial.idle(runs, plan) + tuple(name for name in trial.index.outputs if name in trial.lost | loose)
    return Validation(runs.provider, inputs, worst, _fidelity(trial.real, runs.before, after), unproved)


@dataclass(frozen=True)
class _Runs:
    """What the original and its twin gave: the inputs, the twin's tensors on the first of them, all real outputs."""

    provider: str
    feeds: list[Feeds]
    expected: list[Outputs]
    before: list[Outputs]


class _Trial:
    """The networks of one validation; their sessions are open one at a time."""

    def __init__(
        self,
        original: Model,
        shapes: Shapes,
        coupling: Coupling,
        plan: Plan,
        providers: Sequence[str],
        rng: np.random.Generator,
    ) -> None:
        self.original, self.shapes, self.coupling, self.providers, self.rng = original, shapes, coupling, providers, rng
        self.index = Index(original.proto)
        self.kept = coupling.kept(plan.removed_units(coupling))
        self.lost = behind(self.index, foreign_nodes(self.index))
        factors = plan.unit_factors(coupling)
        self.twin = build_twin(original.proto, self.index, shapes, coupling, scaled=factors is not None)
        cut(original.proto, self.index, shapes, self.lost)
        self.weights = original.detach()
        self.masks = self.twin.feeds(self.kept, coupling.unit_of, factors)
        outputs = [value.name for value in original.proto.graph.output]
        activities = set(self.twin.activities)
        self.activities = [name for name in outputs if name in activities]
        ends = [name for name in outputs if name not in activities]
        self.compared = list(dict.fromkeys([*(name for name in self.twin.compared if name not in self.lost), *ends]))
        self.real = [name for name in self.index.outputs if name in ends]
        if not self.compared:
            raise RefusedError(
                "onnxruntime can run no part of this network that pruning would change, so nothing could be proved; "
                "remove the foreign operators or register them with onnxruntime"
            )

    def run_original(self, inputs: int, advance: Callable[[], None]) -> _Runs:
        """Run the twin with its masks on the first inputs, and without any, as the original, on all."""
        session = _open(self.original, self.weights, self.providers)
        whole = self.twin.feeds(Kept(np.ones_like(self.kept.mask)), self.coupling.unit_of, None)
        wanted = [*self.compared, *self.activities]
        feeds, first = _first_run(session, self.index, self.shapes, self.rng, self.masks, wanted)
        sizes = {name: value.shape for name, value in feeds[0].items()}
        feeds += [random_feeds(self.index, self.shapes, self.rng, sizes) for _ in range(inputs - 1)]
        expected = [
            first,
            *(session.run({**feed, **self.masks}, wanted) for feed in feeds[1 : min(PROVED, inputs // 2)]),
        ]
        before = []
        for feed in feeds:
            before.append(session.run({**feed, **whole}, self.real))
            advance()
        return _Runs(session.provider, feeds, expected, before)

    def run_pruned(
        self, pruned: Model, runs: _Runs, advance: Callable[[], None]
    ) -> tuple[list[Outputs], list[Outputs]]:
        """Run the pruned network: what is compared on the first inputs, and real outputs on all."""
        cut(pruned.proto, self.index, self.shapes, self.lost)
        _with_outputs(pruned.proto, self.compared, self.shapes)
        session = _open(pruned, pruned.detach(), self.providers)
        compared = [name for name in self.compared if name in session.outputs]
        results = []
        for number, feed in enumerate(runs.feeds):
            results.append(session.run(feed, compared if number < len(runs.expected) else self.real))
            advance()
        return results[: len(runs.expected)], results

    def noise(self, runs: _Runs) -> dict[str, float]:
        """How far each of the twin's tensors moves when its inputs change in their last digits."""
        session = _open(self.original, self.weights, self.providers)
        jittered = _jittered(runs.feeds[0], self.rng)
        return noise_of(session.run({**jittered, **self.masks}, self.compared), runs.expected[0])

    def idle(self, runs: _Runs, plan: Plan) -> tuple[str, ...]:
        """Names of thinned groups of which no kept channel was ever active before a reader."""
        active = np.zeros(int(self.coupling.unit_of.max(initial=-1)) + 1, dtype=bool)
        for expected in runs.expected:
            _activity(self.twin, expected, self.kept, self.coupling, active)
        thinned = [planned.name for planned in plan.groups if len(planned.kept) < planned.channels]
        return tuple(name for name in thinned if not active[self.coupling.group_of[name].units].any())


def _jittered(feeds: Feeds, rng: np.random.Generator) -> Feeds:
    """Inputs changed in their last digits."""
    return {
        name: (value * (1 + NOISE * rng.standard_normal(value.shape))).astype(value.dtype)
        if value.dtype.kind == "f"
        else value
        for name, value in feeds.items()
    }


def _first_run(
    session: Session,
    index: Index,
    shapes: Shapes,
    rng: np.random.Generator,
    masks: Outputs,
    outputs: Sequence[str],
) -> tuple[list[Feeds], Outputs]:
    """Run once, with larger sizes for symbolic dimensions where the assumed ones do not do."""
    failure: ModelError | None = None
    for sizes in shape_attempts(index, shapes):
        feeds = random_feeds(index, shapes, rng, sizes)
        try:
            return [feeds], session.run({**feeds, **masks}, outputs)
        except ModelError as error:
            failure = failure or error
    assert failure is not None
    if not shapes.assumed:
        raise failure
    assumed = ", ".join(f"{name}:{'x'.join(map(str, shape))}" for name, shape in shapes.assumed.items())
    raise ModelError(
        f"{failure}; symbolic input sizes were assumed ({assumed}): give some that the network takes with --input-shape"
    ) from failure


def _open(model: Model, weights: Outputs, providers: Sequence[str]) -> Session:
    return Session(model.proto.SerializeToString(), providers, model.folder if model.data_files else None, weights)
