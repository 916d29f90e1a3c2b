"""The widths of a network's layers before and after, for whoever builds the architecture again somewhere else."""

from typing import Any

from onnxprune.analysis import Analysis
from onnxprune.graph.index import Index, weights_of
from onnxprune.graph.model import Model
from onnxprune.graph.tensors import holders
from onnxprune.ops.trace import Block, Role
from onnxprune.rewrite import Plan

__all__ = ["completed", "profile_of"]


def profile_of(analysis: Analysis, plan: Plan) -> dict[str, Any]:
    """Describe widths.

    Parameters
    ----------
    analysis : Analysis
        Of the original, whose weights have their shapes still.
    plan : Plan

    Returns
    -------
    dict
        "groups": name, channels, kept and what has that width, as tensors and axes, these where the tensor is looked at
        as it is stored; "layers": each node that has weights or multiplies, its multiply-accumulates before and after,
        and its weights by name, with the input that they are, and shapes before and after (None until they are
        `completed`); "totals".
    """
    index, coupling = analysis.index, analysis.coupling
    counts = plan.counts(coupling)
    owner = {int(unit): number for number, group in enumerate(coupling.groups) for unit in group.units}
    widths: list[dict[str, None]] = [{} for _ in coupling.groups]
    for block in coupling.trace.blocks:
        if block.use is None or block.role not in (Role.WRITES, Role.READS):
            continue
        for unit in set(coupling.unit_of[block.start : block.start + block.size].tolist()) & owner.keys():
            widths[owner[unit]][_side(block, index)] = None
    macs = _macs(analysis, plan)
    layers = []
    for number, node in enumerate(index.nodes):
        weights = {
            name: {"input": place, "before": list(index.weights[name].dims), "after": None}
            for place, name in enumerate(node.input)
            if index.is_weight(name) and len(index.weights[name].dims) > 0
        }
        if weights or number in macs:
            before, after = macs.get(number, (0, 0))
            told = {"node": node.name or node.output[0], "operator": node.op_type, "makes": node.output[0]}
            layers.append({**told, "macs": {"before": before, "after": after}, "weights": weights})
    return {
        "groups": [
            {"name": group.name, "channels": group.size, "kept": int(count), "width_of": list(width)}
            for group, count, width in zip(coupling.groups, counts, widths, strict=True)
        ],
        "layers": layers,
        "totals": {
            name: {"before": round(analysis.total(name)), "after": round(analysis.costs[name].value(counts))}
            for name in ("params", "macs")
        },
    }


def completed(profile: dict[str, Any], pruned: Model) -> dict[str, Any]:
    """Add what only the pruned network tells: the shapes of its weights, and how many parameters they are.

    Parameters
    ----------
    profile : dict
        From `profile_of`.
    pruned : Model

    Returns
    -------
    dict
        Shapes after are None of weights that the network does without.
    """
    index = Index(pruned.proto)
    named = {holder.tensor.name: holder.tensor for holder in holders(pruned.proto)} | index.weights

    def shape(layer: dict[str, Any], name: str, place: int) -> list[int] | None:
        # A weight of several layers that are cut differently is several weights then, with names of their own.
        node = index.producer.get(layer["makes"])
        reads = [name] if node is None else index.reads[node][place : place + 1]
        return list(named[reads[0]].dims) if reads and reads[0] in named else None

    layers = []
    for layer in profile["layers"]:
        weights = {
            name: {**told, "after": shape(layer, name, told["input"])} for name, told in layer["weights"].items()
        }
        layers.append({**layer, "weights": weights})
    params = {**profile["totals"]["params"], "after": sum(weights_of(pruned.proto))}
    return {**profile, "layers": layers, "totals": {**profile["totals"], "params": params}}


def _side(block: Block, index: Index) -> str:
    """Say which side of which weight a width is."""
    assert block.use is not None
    name, stored = block.use.tensor, index.weights.get(block.use.tensor)
    side = f"{'made by' if block.role is Role.WRITES else 'read by'} {name}"
    if stored is None or tuple(stored.dims) != tuple(block.use.view):
        return side
    return f"{side}, {'axis' if len(block.axes) == 1 else 'axes'} {', '.join(map(str, block.axes))}"


def _macs(analysis: Analysis, plan: Plan) -> dict[int, tuple[int, int]]:
    """Multiply-accumulates of nodes by their numbers, before and after."""
    coupling = analysis.coupling
    kept = coupling.kept(plan.removed_units(coupling))
    found: dict[int, tuple[int, int]] = {}
    for item in coupling.trace.macs:
        before = after = item.factor
        for array in item.arrays:
            before, after = before * array.size, after * int(kept.of(array).sum())
        first, second = found.get(item.node, (0, 0))
        found[item.node] = first + round(before), second + round(after)
    return found
