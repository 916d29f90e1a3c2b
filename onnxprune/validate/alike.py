"""Whether a network that was made plain still computes what it did as it came, on random inputs."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune.calibrate.feeds import Feeds, jittered, random_feeds, shape_attempts
from onnxprune.coupling import Coupling
from onnxprune.errors import ModelError
from onnxprune.graph.index import Index
from onnxprune.graph.model import Model
from onnxprune.graph.staged import open_session
from onnxprune.ops.trace import Kept
from onnxprune.prepare.precision import has_other_floats, rounded, widen, widened_shapes
from onnxprune.shapes.infer import Shapes
from onnxprune.validate.cut import behind, cut, foreign_nodes
from onnxprune.validate.judge import NOISE, Judge, Outputs, TwinResult, noise_of

__all__ = ["compare_plain"]


def compare_plain(
    original: Model,
    plain: Model,
    shapes: Shapes,
    coupling: Coupling,
    *,
    providers: Sequence[str],
    rng: np.random.Generator,
) -> TwinResult:
    """Run a network as it came, and as it was made plain, on one random input.

    Parameters
    ----------
    original, plain : Model
        Both are used up.
    shapes, coupling
        What was found out about the plain network.
    providers : sequence of str
        onnxruntime providers.
    rng : numpy.random.Generator

    Returns
    -------
    TwinResult
        Of the outputs.

    Raises
    ------
    ModelError
        If onnxruntime cannot run the network as it came.
    """
    index = Index(plain.proto)
    for model, own in ((original, Index(original.proto)), (plain, index)):
        cut(model.proto, own, shapes, behind(own, foreign_nodes(own)))
    weights, made, wide = original.detach(), plain.detach(), False
    try:
        provider, feeds, expected = _run(original, weights, index, shapes, providers, rng)
    except ModelError:
        if not has_other_floats(original.proto):
            raise
        wide = True
        weights, made = widen(original, weights, rounded(shapes)), widen(plain, made, rounded(shapes))
        provider, feeds, expected = _run(original, weights, index, shapes, providers, rng)
    session = open_session(plain, providers, made)
    found = session.run(feeds, [name for name in session.outputs if name in expected])
    everything = Kept(np.ones(coupling.trace.count, dtype=bool))
    judge = Judge(provider, {}, coupling, widened_shapes(shapes, exact=False) if wide else shapes, everything)
    result, _ = judge.compare(list(found), expected, found)
    if not result.passed:
        moved = session.run(jittered(feeds, rng, NOISE), list(found))
        judge = replace(judge, noise=noise_of(moved, found))
        result, _ = judge.compare(list(found), expected, found)
    return result


def _run(
    model: Model,
    weights: Mapping[str, NDArray[Any]],
    index: Index,
    shapes: Shapes,
    providers: Sequence[str],
    rng: np.random.Generator,
) -> tuple[str, Feeds, Outputs]:
    """Run on the first inputs that the network takes; returns the provider, the inputs and the outputs."""
    failure: ModelError | None = None
    session = open_session(model, providers, weights)
    for sizes in shape_attempts(index, shapes):
        feeds = random_feeds(index, shapes, rng, sizes)
        try:
            return session.provider, feeds, session.run(feeds)
        except ModelError as error:
            failure = failure or error
    assert failure is not None
    raise failure
