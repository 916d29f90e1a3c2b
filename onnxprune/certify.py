"""What is certain of each thinned group, what is promised, and what the error really is, side by side as plain data.

Bounds are read off the weights; errors are measured by running the readers once more (`validate.probe`), where that
costs little or is asked for. Where readers have been solved anew, no bound of the old weights is about the file that is
written: there is none then, for their groups and for the whole, and errors are measured with the old weights and with
the new. Nothing here changes a plan.
"""

import logging
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from onnxprune.analysis import Analysis
from onnxprune.calibrate.feeds import Feeds
from onnxprune.coupling import Group
from onnxprune.coupling.chain import propagate
from onnxprune.coupling.intervals import Radii
from onnxprune.coupling.paths import Way, reads_of, way_of
from onnxprune.errors import ModelError, UsageError
from onnxprune.graph.runtime import choose_providers
from onnxprune.methods import Channels, Guarantee, Sample
from onnxprune.methods.certificate import Certificate, certify
from onnxprune.ops.trace import Read
from onnxprune.options import Options
from onnxprune.reconstruct.grids import product_of
from onnxprune.reconstruct.sequence import Reconstruction, Solved
from onnxprune.rewrite import GroupPlan, Plan
from onnxprune.score import Scorer, channel_reader
from onnxprune.threads import with_one_blas_thread
from onnxprune.validate import Made, Measured, NewWeights, Probed, measure

__all__ = ["DISTILLED", "SOLVED", "Certified", "certificates"]

_log = logging.getLogger(__name__)

Facts = dict[str, Any]

_NO_LAYER, _INTEGERS = "no layer that could be run again", "new weights are stored as integers"
SOLVED = "weights solved anew on data: bounds of the old ones do not hold"
DISTILLED = "weights solved anew on data and then distilled: bounds of the old ones do not hold"
"""Why a group has no bound."""

# What of a request decides what samples are drawn with.
_ASKED = ("method", "rank", "input_bound", "layer_order")
# What is measured without being asked for: multiply-accumulates in all (a tenth of a second), and nodes.
_MACS, _NODES, _INPUTS = 1e9, 1000, 8
# Weights up to which bounds are read off them without being asked for: another pass takes tenths of a second.
_WEIGHTS = 1 << 26
# Weights up to which layers' norms are found: that takes a product of each weight with itself.
_FACTORED = 1 << 20


@dataclass(frozen=True)
class Certified:
    """What is written, besides the plan.

    Attributes
    ----------
    solved : Reconstruction or None
        New weights of readers, where they have any.
    inputs : sequence of dict of str to ndarray
        What errors are measured on; random inputs where there is none.
    moved : bool
        Whether all weights moved together then. What is measured of layers is what they are once solved: no layer is
        meant to make what it made in the original any more.
    """

    solved: Reconstruction | None = None
    inputs: Sequence[Feeds] = ()
    moved: bool = False

    @property
    def unbounded(self) -> str:
        """Why weights that were solved anew have no bound."""
        return DISTILLED if self.moved else SOLVED


@with_one_blas_thread
def certificates(
    analysis: Analysis, plan: Plan, options: Options, *, run: bool, written: Certified | None = None
) -> dict[str, Facts]:
    """Certify what a plan does to each group that it thins.

    Parameters
    ----------
    analysis : Analysis
        Of the network as it was, with its weights.
    plan : Plan
    options : Options
    run : bool
        Whether anything may be run.
    written : Certified, optional
        New weights, where readers have been solved anew, and data to measure on.

    Returns
    -------
    dict of str to dict
        By group; under "", what is known of the whole.
    """
    coupling, index = analysis.coupling, analysis.index
    thinned = [item for item in plan.groups if len(item.kept) < item.channels or item.factors]
    if not thinned:
        return {}
    written = written or Certified()
    reads = reads_of(coupling)
    ways = {n: way_of(coupling, index, coupling.group_of[n], reads[n]) for n in (item.name for item in thinned)}
    probed, unmeasured = _probed(analysis, plan, options, ways, written if run else None)
    heavy = analysis.total("params") > _WEIGHTS and not options.certify
    reader = channel_reader(analysis)
    radii = Radii(coupling, index, reader.read, options.input_bound)
    guarantees = _guarantees(analysis, plan)
    found: dict[str, Facts] = {}
    for item in thinned:
        name, group = item.name, coupling.group_of[item.name]
        own, anew = probed.groups.get(name), _solved(analysis, group, reads[name], written)
        integers = any(solved.reader.grid is not None for solved in anew)
        own, obscure = (None, _INTEGERS) if integers else (own, _NO_LAYER)
        beta, source = _beta(radii.of(group), own)
        obstacle = ways[name].obstacle or ("the network is big: --certify reads its weights again" if heavy else "")
        entry: Facts = {"none": written.unbounded if anew else obstacle}
        if anew:
            entry["missed"] = [max(each) for each in zip(*((s.missed_before, s.missed) for s in anew), strict=True)]
        if not entry["none"]:
            channels = replace(reader.channels(group), beta=beta)
            entry |= _bound(channels, item, guarantees.get(name)) | {"beta_from": source}
        entry["measured"] = {"none": unmeasured or obscure} if own is None else _plain(own)
        found[name] = entry
    return found | {
        "": _whole(analysis, plan, options, probed) if written.solved is None else {"none": written.unbounded}
    }


def _solved(analysis: Analysis, group: Group, reads: Sequence[Read], written: Certified) -> list[Solved]:
    """Layers that write or read a group and have new weights."""
    if written.solved is None:
        return []
    blocks = [analysis.coupling.trace.blocks[number] for number in group.blocks]
    nodes = {block.layer for block in blocks} | {read.node for read in reads}
    made = sorted(analysis.index.nodes[number].output[0] for number in nodes)
    names = [name for each in made for name in (each, product_of(each))]
    return [written.solved.solved[name] for name in names if name in written.solved.solved]


def _renewed(analysis: Analysis, solved: Reconstruction | None) -> dict[str, NewWeights]:
    """New weights as the stored tensors have them, and what they add to the biases, by the readers' first outputs."""
    found: dict[str, NewWeights] = {}
    for name, item in ({} if solved is None else solved.solved).items():
        if item.reader.grid is not None:
            continue
        stored = analysis.index.weights
        shift = None
        if item.bias is not None:
            bias = stored.get(item.reader.bias)
            before = 0.0 if bias is None else analysis.model.array(bias).astype(np.float32).ravel()
            shift = np.asarray(item.bias - before, dtype=np.float32)
        old = analysis.model.array(stored[item.reader.weight])
        found[name] = NewWeights(item.weight.reshape(old.shape).astype(old.dtype), shift)
    return found


def _whole(analysis: Analysis, plan: Plan, options: Options, probed: Probed) -> Facts:
    """Bound how far the output is from the original's, beside how large that is."""
    norm = probed.input_norm
    if options.input_bound is not None and len(analysis.index.inputs) == 1:
        norm = options.input_bound * math.sqrt(math.prod(analysis.shapes.shapes[analysis.index.inputs[0]]))
    if norm is None:
        return {"none": "nothing was measured, and no --input-bound is given"}
    if analysis.total("params") > _FACTORED and not options.certify:
        return {"none": "the network is big: --certify finds norms of its layers"}
    coupling = analysis.coupling
    read, scales = channel_reader(analysis).read, plan.scales(coupling)
    found = propagate(analysis.index, analysis.shapes, coupling, scales=scales, read=read, norm=norm)
    if found.obstacle:
        return {"none": found.obstacle}
    facts = {"none": "", "norm": found.norm, "error": found.error, "whole": found.whole}
    return facts | {"vacuous": found.error >= found.whole, "output_norm": probed.output_norm}


def _beta(known: float | None, own: Measured | None) -> tuple[float, str]:
    """Return the radius of the ball that bounds are for, and where it is from."""
    if known is not None:
        return known, "--input-bound"
    if own is not None and own.beta is not None and math.isfinite(own.beta):
        return own.beta, "the inputs measured on"
    return 1.0, "assumed"


def _guarantees(analysis: Analysis, plan: Plan) -> dict[str, Guarantee]:
    """Ask the method again what samples were drawn with, in the order of layers that they were drawn in."""
    asked = {name: plan.request[name] for name in _ASKED if name in plan.request}
    planned = {item.name: item for item in plan.groups}
    drawn = [number for number, group in enumerate(analysis.coupling.groups) if _is_drawn(planned.get(group.name))]
    if not drawn or "method" not in asked:
        return {}
    try:
        scorer = Scorer(analysis, Options(**asked))
    except UsageError:  # of a plan that was made by hand
        return {}
    names = [analysis.coupling.groups[number].name for number in drawn]
    found = [scorer.choice(number, planned=planned).guarantee for number in drawn]
    return {name: each for name, each in zip(names, found, strict=True) if each is not None}


def _is_drawn(planned: GroupPlan | None) -> bool:
    return planned is not None and planned.draws > 0


def _bound(channels: Channels, planned: GroupPlan, guarantee: Guarantee | None) -> Facts:
    factors, negative = np.array(planned.factors), np.array(planned.negative)
    sample = Sample(np.array(planned.kept, dtype=np.int64), factors, planned.draws, negative)
    return _certified(certify(channels, sample, guarantee))


def _certified(found: Certificate) -> Facts:
    return {**asdict(found), "vacuous": found.vacuous}


def _plain(found: Measured) -> Facts:
    return asdict(found)


def _probed(
    analysis: Analysis, plan: Plan, options: Options, ways: dict[str, Way], written: Certified | None
) -> tuple[Probed, str]:
    """Measure, or say why not."""
    macs, nodes = max(analysis.total("macs"), 1.0), len(analysis.index.nodes)
    if written is None:
        return Probed({}), "nothing was run"
    if not options.certify and (2 * macs > _MACS or nodes > _NODES):
        return Probed({}), "the network is big: --certify measures it"
    writers = {name: way.writer for name, way in ways.items() if not way.obstacle}
    made = Made(np.random.default_rng([options.seed, 3]), int(np.clip(_MACS / (2 * macs), 1, _INPUTS)))
    try:
        found = measure(
            analysis.model.copy(),
            analysis.shapes,
            analysis.coupling,
            plan,
            writers,
            providers=choose_providers(options.providers),
            inputs=written.inputs[: made.count] or made,
            renewed=_renewed(analysis, written.solved),
        )
    except ModelError as error:
        _log.info("errors of groups could not be measured: %s", error)
        return Probed({}), f"it cannot be run with readers put in again ({error})"
    return found, ""
