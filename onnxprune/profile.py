"""The widths of a network's layers before and after, for whoever builds the architecture again somewhere else."""

from typing import Any

from onnxprune.analysis import Analysis
from onnxprune.graph.index import Index
from onnxprune.graph.model import Model
from onnxprune.ops.trace import Role
from onnxprune.rewrite import Plan

__all__ = ["profile_of"]


def profile_of(analysis: Analysis, plan: Plan, pruned: Model | None = None) -> dict[str, Any]:
    """Describe widths.

    Parameters
    ----------
    analysis : Analysis
        Of the original.
    plan : Plan
    pruned : Model, optional
        The result, where it was made.

    Returns
    -------
    dict
        "groups": name, channels, kept and what has that width, as tensors and axes; "layers": each node with weights,
        and their shapes before and after (None where no network was made).
    """
    index, coupling = analysis.index, analysis.coupling
    counts = plan.counts(coupling)
    owner = {int(unit): number for number, group in enumerate(coupling.groups) for unit in group.units}
    widths: list[dict[str, None]] = [{} for _ in coupling.groups]
    for block in coupling.trace.blocks:
        if block.use is None or block.role not in (Role.WRITES, Role.READS):
            continue
        side = "made by" if block.role is Role.WRITES else "read by"
        for unit in set(coupling.unit_of[block.start : block.start + block.size].tolist()) & owner.keys():
            widths[owner[unit]][f"{side} {block.use.tensor}"] = None
    after = {} if pruned is None else {n: list(t.dims) for n, t in Index(pruned.proto).weights.items()}
    layers = []
    for node in index.nodes:
        weights = {
            name: {"before": list(index.weights[name].dims), "after": after.get(name)}
            for name in node.input
            if name in index.weights and len(index.weights[name].dims) > 0
        }
        if weights and node.op_type not in ("Reshape", "Slice", "Gather", "Unsqueeze", "Squeeze", "Pad", "Resize"):
            layers.append({"node": node.name or node.output[0], "operator": node.op_type, "weights": weights})
    return {
        "groups": [
            {"name": group.name, "channels": group.size, "kept": int(count), "width_of": list(width)}
            for group, count, width in zip(coupling.groups, counts, widths, strict=True)
        ],
        "layers": layers,
    }
