"""The proof: the pruned network against its twin on random inputs, then against the original for what it is worth."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, helper

from onnxprune.calibrate.feeds import Feeds, jittered, other_shapes, random_feeds, shape_attempts
from onnxprune.coupling import Coupling
from onnxprune.errors import ModelError, RefusedError
from onnxprune.graph.index import Index
from onnxprune.graph.model import Model
from onnxprune.graph.runtime import LoadError, Request, Session
from onnxprune.graph.staged import StagedSession, open_session
from onnxprune.ops.trace import Kept
from onnxprune.prepare.precision import has_other_floats, rounded, widen, widened_shapes
from onnxprune.rewrite.plan import Plan
from onnxprune.shapes.infer import Shapes
from onnxprune.validate.accuracy import Accuracy
from onnxprune.validate.bypass import bypass
from onnxprune.validate.cut import behind, cut, foreign_nodes
from onnxprune.validate.fidelity import Fidelity, fidelity_of
from onnxprune.validate.judge import NOISE, Judge, Outputs, TwinResult, noise_of
from onnxprune.validate.twin import Twin, build_twin

__all__ = ["TwinResult", "Validation", "validate"]

JITTERS = 4
"""Times that the inputs are changed in their last digits; a tensor of few numbers often stays as it is."""

PROVED = 2
"""Random inputs that the twin is compared on, one for a network too big for many; fidelity is measured on more."""


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
    widened : bool
        Whether float32 copies were run, because onnxruntime cannot run the networks in their own type.
    unrounded : bool
        Whether activations were left as they are where the networks round them to integers; see `bypass`.
    accuracy : Accuracy or None
        Where classes of samples are known.
    """

    provider: str
    inputs: int
    twin: TwinResult
    fidelity: tuple[Fidelity, ...]
    unproved: tuple[str, ...]
    widened: bool = False
    unrounded: bool = False
    accuracy: Accuracy | None = None


def _activity(twin: Twin, found: Outputs, kept: Kept, coupling: Coupling, active: NDArray[np.bool_]) -> None:
    """Mark the units that were not zero before some reader."""
    for mask in twin.masks:
        live = np.asarray(found.get(mask.activity, np.zeros(0))).reshape(-1).astype(np.float64) > 0
        if live.size == mask.read.array.size:
            array = mask.read.array.reshape(-1)
            active[coupling.unit_of[array[live & kept.of(array)]]] = True


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
    try:
        runs = trial.run_original(inputs, advance)
    except ModelError:
        if not trial.widen():
            raise
        runs = trial.run_original(inputs, advance)
    try:
        found, after = trial.run_pruned(pruned, runs, advance)
    except ModelError as error:
        failed = TwinResult(False, math.inf, math.inf, math.inf, 0.0, 0, str(error))
        return Validation(runs.provider, inputs, failed, (), ())
    judge = Judge(runs.provider, {}, coupling, trial.judged_shapes(plan), trial.kept, trial.twin.integers)
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
    fidelity = fidelity_of(trial.real, runs.before, after)
    unrounded = bool(trial.twin.roundings)
    return Validation(runs.provider, inputs, worst, fidelity, unproved, widened=trial.widened, unrounded=unrounded)


@dataclass(frozen=True)
class _Runs:
    """What the original and its twin gave: the inputs, the twin's tensors on the first of them, all real outputs.

    Inputs of `other` sizes, where there are any, are the last that the twin's tensors are of.
    """

    provider: str
    feeds: list[Feeds]
    expected: list[Outputs]
    before: list[Outputs]
    other: Feeds | None = None


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
        self.widened = False
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

    def widen(self) -> bool:
        """Go on with float32 copies; returns whether that makes a difference."""
        if self.widened or not has_other_floats(self.original.proto):
            return False
        self.weights = widen(self.original, self.weights, rounded(self.shapes))
        self.widened = True
        return True

    def judged_shapes(self, plan: Plan) -> Shapes:
        """Types by which tensors are judged; what the pruned network rounds to a coarse one is judged by that."""
        means = (item for item in self.coupling.trace.statistics.values() if item.exact)
        exact = not any(group.factors for group in plan.groups) and all(item.share(self.kept) == 1.0 for item in means)
        return widened_shapes(self.shapes, exact=exact) if self.widened else self.shapes

    def run_original(self, inputs: int, advance: Callable[[], None]) -> _Runs:
        """Run the twin with its masks on the first inputs, and without any, as the original, on all."""
        session = open_session(self.original, self.providers, self.weights)
        whole = self.twin.feeds(Kept(np.ones_like(self.kept.mask)), self.coupling.unit_of, None)
        wanted, proving = [*self.compared, *self.activities], min(PROVED, inputs // 2)

        def requests(feeds: list[Feeds]) -> list[Request]:
            masked: list[Request] = [({**feed, **self.masks}, wanted) for feed in feeds[:proving]]
            return masked + [({**feed, **whole}, self.real) for feed in feeds]

        attempts = (
            [random_feeds(self.index, self.shapes, self.rng, sizes) for _ in range(inputs)]
            for sizes in shape_attempts(self.index, self.shapes)
        )
        feeds, results = _first_run(session, self.shapes, attempts, requests)
        expected = list(islice(results, proving))
        before = []
        for result in results:
            before.append(result)
            advance()
        runs = _Runs(session.provider, feeds, expected, before)
        return self._elsewhere(session, runs, wanted) if inputs > PROVED else runs

    def _elsewhere(self, session: Session | StagedSession, runs: _Runs, wanted: Sequence[str]) -> _Runs:
        """Run the twin at other sizes of symbolic dimensions too, where the network takes any."""
        at = {name: value.shape for name, value in runs.feeds[0].items() if name in self.shapes.inputs}
        for sizes in other_shapes(self.index, self.shapes, at):
            feeds = random_feeds(self.index, self.shapes, self.rng, sizes)
            try:
                found = session.run({**feeds, **self.masks}, wanted)
            except ModelError:
                continue
            return replace(runs, expected=[*runs.expected, found], other=feeds)
        return runs

    def run_pruned(
        self, pruned: Model, runs: _Runs, advance: Callable[[], None]
    ) -> tuple[list[Outputs], list[Outputs]]:
        """Run the pruned network: what is compared on the first inputs, and real outputs on all."""
        cut(pruned.proto, self.index, self.shapes, self.lost)
        _with_outputs(pruned.proto, self.compared, self.shapes)
        weights = pruned.detach()
        if self.twin.roundings:
            if not self.widened and not self.twin.roundings.needed:  # It has to run as it is, too.
                open_session(pruned, self.providers, weights).run(runs.feeds[0], self.real)
            bypass(pruned.proto, self.twin.roundings)
        weights = widen(pruned, weights, rounded(self.shapes)) if self.widened else weights
        session = open_session(pruned, self.providers, weights)
        present = set(session.outputs)
        compared = [name for name in self.compared if name in present]
        proving = len(runs.expected) - (runs.other is not None)
        wanted = [compared if number < proving else self.real for number in range(len(runs.feeds))]
        results = []
        for result in session.run_each(list(zip(runs.feeds, wanted, strict=True))):
            results.append(result)
            advance()
        elsewhere = [] if runs.other is None else [session.run(runs.other, compared)]
        return results[:proving] + elsewhere, results

    def noise(self, runs: _Runs) -> dict[str, float]:
        """How far each of the twin's tensors moves when its inputs change in their last digits."""
        session = open_session(self.original, self.providers, self.weights)
        found: dict[str, float] = {}
        for _ in range(JITTERS):
            moved = jittered(runs.feeds[0], self.rng, NOISE)
            noise = noise_of(session.run({**moved, **self.masks}, self.compared), runs.expected[0])
            found = {name: max(value, found.get(name, 0.0)) for name, value in noise.items()}
        return found

    def idle(self, runs: _Runs, plan: Plan) -> tuple[str, ...]:
        """Names of thinned groups of which no kept channel was ever active before a reader."""
        active = np.zeros(int(self.coupling.unit_of.max(initial=-1)) + 1, dtype=bool)
        for expected in runs.expected:
            _activity(self.twin, expected, self.kept, self.coupling, active)
        thinned = [planned.name for planned in plan.groups if len(planned.kept) < planned.channels]
        return tuple(name for name in thinned if not active[self.coupling.group_of[name].units].any())


def _first_run(
    session: Session | StagedSession,
    shapes: Shapes,
    attempts: Iterable[list[Feeds]],
    requests: Callable[[list[Feeds]], list[Request]],
) -> tuple[list[Feeds], Iterator[Outputs]]:
    """Find inputs that the network takes; returns them and the results of the requests made of them."""
    failure: ModelError | None = None
    for feeds in attempts:
        results = session.run_each(requests(feeds))
        try:
            first = next(results)
        except LoadError:
            raise
        except ModelError as error:
            failure = failure or error
        else:
            return feeds, chain([first], results)
    assert failure is not None
    if not shapes.assumed:
        raise failure
    assumed = ", ".join(f"{name}:{'x'.join(map(str, shape))}" for name, shape in shapes.assumed.items())
    raise ModelError(
        f"{failure}; symbolic input sizes were assumed ({assumed}): give some that the network takes with --input-shape"
    ) from failure
