"""What is certain of each thinned group, what is promised, and what the error really is, side by side as plain data.

Bounds are read off the weights; errors are measured by running the readers once more (`validate.probe`), where that
costs little or is asked for. Nothing here changes a plan.
"""

import logging
import math
from collections.abc import Collection
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from onnxprune.analysis import Analysis
from onnxprune.choose import channel_reader
from onnxprune.coupling.chain import propagate
from onnxprune.coupling.intervals import Radii
from onnxprune.coupling.paths import Way, way_of
from onnxprune.errors import ModelError
from onnxprune.graph.runtime import choose_providers
from onnxprune.methods import METHODS, Channels, Guarantee, Sample
from onnxprune.methods.certificate import Certificate, certify
from onnxprune.options import Options
from onnxprune.rewrite import GroupPlan, Plan
from onnxprune.validate import Measured, Probed, measure

__all__ = ["certificates"]

_log = logging.getLogger(__name__)

Facts = dict[str, Any]

# What is measured without being asked for: multiply-accumulates in all (a tenth of a second), and nodes.
_MACS, _NODES, _INPUTS = 1e9, 1000, 8
# Weights up to which bounds are read off them without being asked for: another pass takes tenths of a second.
_WEIGHTS = 1 << 26
# Weights up to which layers' norms are found: that takes a product of each weight with itself.
_FACTORED = 1 << 20


_SOLVED = "its readers' weights are solved anew: bounds are for weights that stay"


def certificates(
    analysis: Analysis, plan: Plan, options: Options, *, run: bool, solved: Collection[str] = ()
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
    solved : collection of str
        First outputs of the nodes whose weights are solved anew: nothing is certain of what they compute then.

    Returns
    -------
    dict of str to dict
        By group; under "", what is known of the whole.
    """
    coupling, index = analysis.coupling, analysis.index
    thinned = [item for item in plan.groups if len(item.kept) < item.channels or item.factors]
    if not thinned:
        return {}
    renewed = _renewed(analysis, thinned, solved)
    if len(renewed) == len(thinned):
        return {name: {"none": _SOLVED, "measured": {"none": _SOLVED}} for name in renewed} | {"": {"none": _SOLVED}}
    ways = {item.name: way_of(coupling, index, coupling.group_of[item.name]) for item in thinned}
    probed, unmeasured = _probed(analysis, plan, options, ways, run=run)
    heavy = analysis.total("params") > _WEIGHTS and not options.certify
    reader = channel_reader(analysis)
    radii = Radii(coupling, index, reader.read, options.input_bound)
    found: dict[str, Facts] = {}
    for item in thinned:
        name, group = item.name, coupling.group_of[item.name]
        if name in renewed:
            found[name] = {"none": _SOLVED, "measured": {"none": _SOLVED}}
            continue
        own = probed.groups.get(name)
        beta, source = _beta(radii.of(group), own)
        obstacle = ways[name].obstacle or ("the network is big: --certify reads its weights again" if heavy else "")
        entry: Facts = {"none": obstacle}
        if not obstacle:
            channels = replace(reader.channels(group), beta=beta)
            entry |= _bound(channels, item, str(plan.request.get("method", ""))) | {"beta_from": source}
        entry["measured"] = {"none": unmeasured or "no layer that could be run again"} if own is None else _plain(own)
        found[name] = entry
    return found | {"": {"none": _SOLVED} if solved else _whole(analysis, plan, options, probed)}


def _renewed(analysis: Analysis, thinned: list[GroupPlan], solved: Collection[str]) -> set[str]:
    """Names of the groups that some reader with new weights reads."""
    coupling, nodes = analysis.coupling, analysis.index.nodes
    read = np.zeros(int(coupling.unit_of.max(initial=-1)) + 1, dtype=bool)
    for each in coupling.trace.reads:
        if nodes[each.node].output[0] in solved:
            read[coupling.unit_of[each.array]] = True
    return {item.name for item in thinned if read[coupling.group_of[item.name].units].any()}


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
    factors = plan.unit_factors(coupling)
    scales = np.ones(int(coupling.unit_of.max(initial=-1)) + 1) if factors is None else factors.copy()
    scales[plan.removed_units(coupling)] = 0.0
    reader = channel_reader(analysis)
    found = propagate(analysis.index, analysis.shapes, coupling, scales=scales, read=reader.read, norm=norm)
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


def _bound(channels: Channels, planned: GroupPlan, method: str) -> Facts:
    """Certify one group; a sample's probabilities are asked of its method again."""
    guarantee: Guarantee | None = None
    if planned.draws and method in METHODS:
        guarantee = METHODS[method](channels, np.random.default_rng(0)).guarantee
    sample = Sample(np.array(planned.kept, dtype=np.int64), np.array(planned.factors), planned.draws)
    return _certified(certify(channels, sample, guarantee))


def _certified(found: Certificate) -> Facts:
    return {**asdict(found), "vacuous": found.vacuous}


def _plain(found: Measured) -> Facts:
    return asdict(found)


def _probed(analysis: Analysis, plan: Plan, options: Options, ways: dict[str, Way], *, run: bool) -> tuple[Probed, str]:
    """Measure, or say why not."""
    macs, nodes = max(analysis.total("macs"), 1.0), len(analysis.index.nodes)
    if not run:
        return Probed({}), "nothing was run"
    if not options.certify and (2 * macs > _MACS or nodes > _NODES):
        return Probed({}), "the network is big: --certify measures it"
    writers = {name: way.writer for name, way in ways.items() if not way.obstacle}
    try:
        found = measure(
            analysis.model.copy(),
            analysis.shapes,
            analysis.coupling,
            plan,
            writers,
            providers=choose_providers(options.providers),
            rng=np.random.default_rng([options.seed, 3]),
            inputs=int(np.clip(_MACS / (2 * macs), 1, _INPUTS)),
        )
    except ModelError as error:
        _log.info("errors of groups could not be measured: %s", error)
        return Probed({}), f"it cannot be run with readers put in again ({error})"
    return found, ""
