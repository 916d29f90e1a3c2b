"""The report as plain data: every number that any form of it shows."""

import hashlib
import platform
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune.analysis import Analysis
from onnxprune.coupling import Held
from onnxprune.coupling.kinds import KindReader
from onnxprune.graph.index import weights_of
from onnxprune.graph.model import Model
from onnxprune.graph.save import EMBEDDED_LIMIT
from onnxprune.graph.tensors import weight_bytes
from onnxprune.ops.labels import Purpose
from onnxprune.ops.trace import Role
from onnxprune.rewrite import Plan
from onnxprune.validate import Accuracy, Fidelity, Validation

__all__ = ["Place", "describe", "fidelity_facts", "inspection", "place_of", "placed", "searched", "versions"]

_PACKAGES = ("onnxprune", "onnx", "numpy", "scipy", "onnxruntime", "onnxruntime-gpu", "onnx-graphsurgeon")

_PLAIN = ("functions", "branches", "weights", "dropped")


@dataclass(frozen=True)
class Place:
    """Where a network is, and what it takes there.

    Attributes
    ----------
    path : Path or None
        None for a network in memory, or one that was planned only.
    sha256 : str
        Of the ONNX file, without its external data; of the serialised network where it is in memory, empty where it is
        too large for that.
    bytes : int or None
        Size, with the external data.
    params : int or None
        Parameters, where they have been counted in the network itself.
    """

    path: Path | None = None
    sha256: str = ""
    bytes: int | None = None
    params: int | None = None


def place_of(model: Model) -> Place:
    """Look at a network: at its file, or at its bytes where it has none."""
    params = sum(weights_of(model.proto))
    if model.path is None:
        size = weight_bytes(model.proto)
        if size > EMBEDDED_LIMIT:
            return Place(None, "", size, params)
        data = model.proto.SerializeToString(deterministic=True)
        return Place(None, hashlib.sha256(data).hexdigest(), len(data), params)
    size = sum(file.stat().st_size for file in (model.path, *model.data_files))
    with model.path.open("rb") as file:
        return Place(model.path, hashlib.file_digest(file, "sha256").hexdigest(), size, params)


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that had a say in the result."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _worth(analysis: Analysis, held: Held) -> int:
    """Parameters in the slices of held units; a weight that is held along two axes counts for both."""
    trace = analysis.coupling.trace
    total = 0.0
    for number, often in zip(held.blocks, held.times, strict=True):
        block = trace.blocks[number]
        if block.use is not None:
            total += np.prod(block.use.view) / block.size * often * len(held.units)
    return round(total)


def _group_facts(analysis: Analysis) -> list[dict[str, Any]]:
    """Describe every group; what it is worth is what goes when all of it does, and all others stay."""
    index, sizes = analysis.index, analysis.sizes
    kinds = KindReader(analysis.coupling, index)
    opened = _under_statistics(analysis)
    worth = {name: analysis.costs[name].worth(sizes) for name in ("params", "macs")}
    facts = []
    for number, group in enumerate(analysis.coupling.groups):
        facts.append(
            {
                "name": group.name,
                "kind": kinds.kind(group).value,
                "normalized": bool(opened[group.units].any()),
                "channels": group.size,
                "step": group.step,
                "params": round(worth["params"][number]),
                "macs": round(worth["macs"][number]),
                "nodes": [index.nodes[node].name or index.nodes[node].output[0] for node in group.nodes],
            }
        )
    return facts


def _under_statistics(analysis: Analysis) -> NDArray[np.bool_]:
    """Tell of each unit whether a statistic is taken over it that changes when any of them goes."""
    coupling = analysis.coupling
    found = np.zeros(int(coupling.unit_of.max(initial=-1)) + 1, dtype=bool)
    for statistic in coupling.trace.statistics.values():
        for bundle in statistic.bundles if not statistic.exact else ():
            found[coupling.unit_of[bundle.array]] = True
    return found


def _pinned_facts(analysis: Analysis) -> list[dict[str, Any]]:
    """Say what is held, per site and reason, with the parameters it holds; positions and lone scalars are left out."""
    totals: dict[tuple[str, Purpose, str], list[int]] = defaultdict(lambda: [0, 0])
    for held in analysis.coupling.held:
        if not _is_channel(analysis, held):
            continue
        entry = totals[held.name, held.fixed.purpose, held.fixed.site]
        entry[0] += len(held.units)
        entry[1] += _worth(analysis, held)
    return [
        {
            "site": name,
            "reason": f"{purpose.value}: {site}",
            "purpose": purpose.value,
            "channels": count,
            "params": params,
        }
        for (name, purpose, site), (count, params) in totals.items()
    ]


def _is_channel(analysis: Analysis, held: Held) -> bool:
    trace = analysis.coupling.trace
    roles = {trace.blocks[block].role for block in held.blocks if trace.blocks[block].use is not None}
    return bool(roles & {Role.WRITES, Role.READS}) and held.fixed.purpose is not Purpose.SINGLE


def _validation_facts(validation: Validation) -> dict[str, Any]:
    twin = validation.twin
    return {
        "provider": validation.provider,
        "inputs": validation.inputs,
        "twin": {
            "passed": twin.passed,
            "max_abs": twin.max_abs,
            "max_rel": twin.max_rel,
            "relative_l2": twin.relative_l2,
            "tolerance": twin.tolerance,
            "compared": twin.compared,
            "worst": twin.worst,
        },
        **fidelity_facts(validation.fidelity, validation.accuracy),
        "unproved": list(validation.unproved),
        "widened": validation.widened,
        "unrounded": validation.unrounded,
    }


def fidelity_facts(fidelity: Iterable[Fidelity], accuracy: Accuracy | None) -> dict[str, Any]:
    """Describe how far outputs are from the original's.

    Parameters
    ----------
    fidelity : iterable of Fidelity
    accuracy : Accuracy or None

    Returns
    -------
    dict
    """
    return {
        "fidelity": {
            item.output: {
                "relative_l2": item.relative_l2,
                "cosine": item.cosine,
                "top1_agreement": item.top1_agreement,
            }
            for item in fidelity
        },
        "accuracy": None if accuracy is None else _accuracy_facts(accuracy),
    }


def _accuracy_facts(accuracy: Accuracy) -> dict[str, Any]:
    return {
        "output": accuracy.output,
        "samples": accuracy.samples,
        "before": accuracy.before,
        "after": accuracy.after,
        "drop": accuracy.drop,
        "standard_error": accuracy.standard_error,
    }


def searched(tried: Iterable[tuple[float, float, Accuracy]]) -> list[dict[str, Any]]:
    """Describe ratios that were tried.

    Parameters
    ----------
    tried : iterable of (float, float, Accuracy)
        Ratio, share that went for it, and accuracy.

    Returns
    -------
    list of dict
    """
    return [{"ratio": ratio, "removed": removed, **_accuracy_facts(found)} for ratio, removed, found in tried]


def _found(analysis: Analysis) -> dict[str, Any]:
    return {
        "groups": _group_facts(analysis),
        "pinned": _pinned_facts(analysis),
        "no_rule": dict(analysis.coupling.trace.unruled),
        "assumed_shapes": {name: list(shape) for name, shape in analysis.shapes.assumed.items()},
        "made_plain": {name: getattr(analysis.prepared, name) for name in _PLAIN},
    }


def inspection(analysis: Analysis, floors: NDArray[np.int64], source: Place) -> dict[str, Any]:
    """Describe what can be removed from a network, what cannot, and how far one could go.

    Parameters
    ----------
    analysis : Analysis
    floors : ndarray of int (g,)
        Channels that stay at least.
    source : Place
        Of the network.

    Returns
    -------
    dict
    """
    return {
        "input": placed(source, {name: round(analysis.total(name)) for name in analysis.costs}),
        "reachable": {name: analysis.removed(name, floors) for name in analysis.costs},
        **_found(analysis),
        "versions": versions(),
    }


def describe(
    analysis: Analysis,
    plan: Plan,
    validation: Validation | None,
    places: tuple[Place, Place],
    certified: Mapping[str, dict[str, Any]],
) -> dict[str, Any]:
    """Put everything that is known of a prune into one dictionary.

    Parameters
    ----------
    analysis : Analysis
        Of the original.
    plan : Plan
    validation : Validation or None
        None for a dry run.
    places : tuple of Place
        Of the original and the pruned network.
    certified : mapping of str to dict
        What is certain, promised and measured of each thinned group; of the whole under "".

    Returns
    -------
    dict
    """
    source, result = places
    counts = plan.counts(analysis.coupling)
    before = {name: round(analysis.total(name)) for name in analysis.costs}
    after = {name: round(cost.value(counts)) for name, cost in analysis.costs.items()}
    if result.params is not None:
        after["params"] = result.params
    found = _found(analysis)
    if plan.changes_nothing:
        after, found["made_plain"] = before, dict.fromkeys(_PLAIN, 0)
    notes = {planned.name: list(planned.notes) for planned in plan.groups}
    for entry, count in zip(found["groups"], counts, strict=True):
        entry["kept"] = int(count)
        entry["notes"] = notes.get(entry["name"], [])
        entry["certificate"] = certified.get(entry["name"])
    return {
        "input": placed(source, before),
        "output": placed(result, after),
        "achieved": {name: 1.0 - after[name] / before[name] if before[name] else 0.0 for name in before},
        **found,
        "end_to_end": certified.get("", {"none": "not asked for"}),
        "validation": None if validation is None else _validation_facts(validation),
        "versions": versions(),
    }


def placed(place: Place, counts: Mapping[str, int | None]) -> dict[str, Any]:
    """Describe where a network is, and what it counts.

    Parameters
    ----------
    place : Place
    counts : mapping of str to int

    Returns
    -------
    dict
    """
    path = None if place.path is None else str(place.path)
    return {"path": path, "sha256": place.sha256, "bytes": place.bytes, **counts}
