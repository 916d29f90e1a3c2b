"""How far a pruned network is from the original at its outputs, on inputs that stand for what it will see."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from onnxprune.calibrate.feeds import Feeds
from onnxprune.errors import ModelError
from onnxprune.graph.model import Model
from onnxprune.graph.staged import open_session
from onnxprune.prepare.precision import has_other_floats, widen
from onnxprune.validate.compare import agreement, difference, looks_like_scores
from onnxprune.validate.judge import Outputs

__all__ = ["Fidelity", "fidelity_of", "fidelity_on", "outputs_of"]


@dataclass(frozen=True)
class Fidelity:
    """The pruned network compared with the original at one output; means over the inputs."""

    output: str
    relative_l2: float
    cosine: float
    top1_agreement: float | None


def fidelity_of(outputs: Iterable[str], before: list[Outputs], after: list[Outputs]) -> tuple[Fidelity, ...]:
    """Compare what two networks gave for the same inputs.

    Parameters
    ----------
    outputs : iterable of str
        Names of the outputs; those that are no numbers, or of another shape, are left out.
    before, after : list of dict of str to ndarray
        Outputs of the original and of the pruned network, input by input.

    Returns
    -------
    tuple of Fidelity
    """
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


def fidelity_on(
    original: Model, pruned: Model, batches: Sequence[Feeds], providers: Sequence[str]
) -> tuple[Fidelity, ...]:
    """Run two networks on the same batches and compare them.

    Parameters
    ----------
    original, pruned : Model
        Used up.
    batches : sequence of dict of str to ndarray
    providers : sequence of str

    Returns
    -------
    tuple of Fidelity
        Of each output; none where one of them cannot be run.
    """
    names = [value.name for value in original.proto.graph.output]
    try:
        before, after = (outputs_of(model, names, batches, providers) for model in (original, pruned))
    except ModelError:
        return ()
    return fidelity_of(names, before, after)


def outputs_of(model: Model, names: Sequence[str], batches: Sequence[Feeds], providers: Sequence[str]) -> list[Outputs]:
    """Run a network, which is used up, on batches; in float32 where onnxruntime cannot run it in its own type.

    Raises
    ------
    ModelError
        If it cannot be run at all.
    """
    spare = model.copy()
    weights = model.detach()
    try:
        return list(open_session(model, providers, weights).run_each([(batch, names) for batch in batches]))
    except ModelError:
        if not has_other_floats(spare.proto):
            raise
    weights = widen(spare)
    return list(open_session(spare, providers, weights).run_each([(_narrow(batch), names) for batch in batches]))


def _narrow(batch: Feeds) -> Feeds:
    return {name: value.astype(np.float32) if value.dtype.kind == "f" else value for name, value in batch.items()}
