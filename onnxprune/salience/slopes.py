"""Derivatives by weights: of a network's flow, where some of them are gone, and of its loss on data."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper

from onnxprune.calibrate.feeds import Feeds, random_feeds, shape_attempts
from onnxprune.errors import ModelError
from onnxprune.gradient import differentiate
from onnxprune.graph.index import Index
from onnxprune.graph.model import Model
from onnxprune.graph.runtime import Effort, Session
from onnxprune.reconstruct.evidence import Data
from onnxprune.salience.ends import ends
from onnxprune.salience.flow import FLOWS_IN, flow_of
from onnxprune.salience.seeds import seeds_of
from onnxprune.shapes.infer import Shapes, infer_shapes

__all__ = ["FlowSlopes", "as_inputs", "loss_slopes", "ones_for", "ways"]

Arrays = Mapping[str, NDArray[np.float32]]

_SHARP, _BOOST = 4, 2.0**80
"""Power that magnitudes are raised to where one way is looked for, and what those that it has to pass are times."""
_SHARE, _SURE = 0.05, 0.999
"""Share of the flow that is on the way, and that is on one element alone."""


def ones_for(index: Index, shapes: Shapes, seed: int, run: Callable[[Feeds], object]) -> Feeds:
    """Ones wherever a network takes numbers, of sizes that it runs at; what it looks up is any.

    Parameters
    ----------
    index, shapes
        The network.
    seed : int
    run : callable
        Runs it.

    Returns
    -------
    dict of str to ndarray

    Raises
    ------
    ModelError
        If it runs at no sizes that are tried.
    """
    failed: ModelError | None = None
    for sizes in shape_attempts(index, shapes):
        drawn = random_feeds(index, shapes, np.random.default_rng([seed, 11]), sizes)
        ones = {n: np.ones_like(value) if shapes.types[n] in FLOWS_IN else value for n, value in drawn.items()}
        try:
            run(ones)
        except ModelError as error:
            failed = failed or error
        else:
            return ones
    assert failed is not None
    raise failed


class FlowSlopes:
    """Derivatives of a network's flow by weights, whatever is left of these: they are inputs of one session.

    Parameters
    ----------
    proto : ModelProto
        In float32, without functions, all weights in it; not modified.
    weights : sequence of str
        Initializers.
    providers : sequence of str
    input_shapes : dict of str to tuple of int
    seed : int
        Of what is looked up.

    Raises
    ------
    ModelError
        If nothing is known of how a node passes on what flows into it.
    """

    def __init__(
        self,
        proto: ModelProto,
        weights: Sequence[str],
        providers: Sequence[str],
        input_shapes: dict[str, tuple[int, ...]],
        seed: int = 0,
    ) -> None:
        index = Index(proto)
        shapes = infer_shapes(index, Model(proto).skeleton(), input_shapes)
        flow = flow_of(_ended(proto, index, shapes), index.inputs, shapes.inputs).proto
        given = as_inputs(flow, set(weights))
        gradient = differentiate(flow, list(weights), input_shapes=shapes.inputs)
        self._of = gradient.of
        self._session = Session(gradient.proto.SerializeToString(), providers, effort=Effort(fast=True))
        forward = Session(flow.SerializeToString(), providers, effort=Effort(fast=True))
        self._ones = ones_for(index, shapes, seed, lambda ones: forward.run({**ones, **given}))
        seeds = gradient.seeds or {}
        outputs = forward.run({**self._ones, **given}, list(seeds))
        self._seeds = {seed_: np.ones_like(outputs[output]) for output, seed_ in seeds.items()}

    def __call__(self, weights: Arrays) -> Arrays:
        """Derivatives by the weights' magnitudes at these values, over a power of two that all have in common.

        Parameters
        ----------
        weights : mapping of str to ndarray of float32

        Returns
        -------
        mapping of str to ndarray of float32
        """
        magnitudes = {name: np.abs(value) for name, value in weights.items()}
        found = self._session.run({**self._ones, **self._seeds, **magnitudes}, list(self._of.values()))
        return {name: np.abs(found[output]) for name, output in self._of.items()}


def ways(slopes: FlowSlopes, weights: Arrays) -> dict[str, NDArray[np.bool_]]:
    """Find a way through every weight, so that something flows though nothing else is left.

    Of the weight that a way is looked for through, magnitudes count for so much more that it takes nearly all of the
    flow; where that is not on one element of a weight already, its largest is taken, and the flow is looked at anew.

    Parameters
    ----------
    slopes : FlowSlopes
    weights : mapping of str to ndarray of float32

    Returns
    -------
    dict of str to ndarray of bool
        Elements of the ways; none of weights that nothing flows through.
    """
    found = {name: np.zeros(weight.shape, dtype=bool) for name, weight in weights.items()}
    largest = {name: max(float(np.abs(weight).max()), 1e-30) for name, weight in weights.items()}
    sharp: dict[str, NDArray[np.float32]] = {
        name: ((np.abs(weight) / largest[name]) ** _SHARP).astype(np.float32) for name, weight in weights.items()
    }
    for name in weights:
        if found[name].any():
            continue
        values = {**sharp, name: sharp[name] * np.float32(_BOOST)}
        taken: dict[str, int] = {}
        while True:
            slope = slopes(values)
            flow = {key: (value.astype(np.float64) * slope[key]).ravel() for key, value in values.items()}
            total = float(flow[name].sum())
            on_way = [key for key, own in flow.items() if total > 0 and own.sum() >= _SHARE * total]
            left = [key for key in on_way if key not in taken]
            if not left:
                break
            sure = [key for key in left if flow[key].max() >= _SURE * flow[key].sum()] or left[:1]
            for key in sure:
                taken[key] = int(flow[key].argmax())
                alone = np.zeros_like(values[key]).ravel()
                alone[taken[key]] = values[key].ravel()[taken[key]]
                values[key] = alone.reshape(values[key].shape)
        for key in on_way:
            found[key].reshape(-1)[taken[key]] = True
    return found


def _ended(proto: ModelProto, index: Index, shapes: Shapes) -> ModelProto:
    """A copy with all outputs that a loss is told at."""
    copy = ModelProto()
    copy.CopyFrom(proto)
    copy.graph.output.extend(ends(index, shapes))
    return copy


def as_inputs(proto: ModelProto, names: set[str]) -> Feeds:
    """Turn initializers into inputs, in place; returns their values."""
    graph, index = proto.graph, Index(proto)
    given = {name: Model(proto).array(index.weights[name]) for name in names}
    left = [TensorProto.FromString(t.SerializeToString()) for t in graph.initializer if t.name not in names]
    del graph.initializer[:]
    graph.initializer.extend(left)
    declared = {value.name for value in graph.input}
    graph.input.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, value.shape)
        for name, value in given.items()
        if name not in declared
    )
    return given


def loss_slopes(
    proto: ModelProto, weights: Sequence[str], data: Data, input_shapes: dict[str, tuple[int, ...]], scores: str = ""
) -> Arrays:
    """Derivatives of the loss by weights, summed over all samples.

    Parameters
    ----------
    proto : ModelProto
        In float32, without functions, all weights in it; not modified.
    weights : sequence of str
        Initializers.
    data : Data
    input_shapes : dict of str to tuple of int
    scores : str
        The output that classes are read off, where it is known.

    Returns
    -------
    mapping of str to ndarray of float32

    Raises
    ------
    ModelError
        If a node cannot be differentiated, or the network does not run.
    """
    index = Index(proto)
    proto = _ended(proto, index, infer_shapes(index, Model(proto).skeleton(), input_shapes))
    gradient = differentiate(proto, list(weights), input_shapes=input_shapes)
    session = Session(gradient.proto.SerializeToString(), data.providers, effort=Effort(fast=True))
    forward = Session(proto.SerializeToString(), data.providers, effort=Effort(fast=True))
    seeds, rng = gradient.seeds or {}, np.random.default_rng([data.seed, 10])
    classes: Sequence[NDArray[np.int64] | None] = data.classes or [None] * len(data.batches)
    total: dict[str, NDArray[np.float32]] = {}
    for batch, own in zip(data.batches, classes, strict=True):
        given = seeds_of(forward.run(batch, list(seeds)), rng, scores=scores, classes=own)
        feeds = {**batch, **{seed: given[output] for output, seed in seeds.items()}}
        found = session.run(feeds, list(gradient.of.values()))
        for name, output in gradient.of.items():
            total[name] = total[name] + found[output] if name in total else found[output]
    return total
