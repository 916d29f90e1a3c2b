"""What a network's parameters, multiply-accumulates and channels are, as functions of how many channels groups keep."""

import math

import numpy as np
from numpy.typing import NDArray

from onnxprune.budget import Axis, Cost, Term, make_cost
from onnxprune.coupling.groups import Coupling
from onnxprune.graph.index import Index, weights_of
from onnxprune.ops.labels import Array
from onnxprune.ops.trace import Block, Use

__all__ = ["MEASURES", "group_of_label", "measure"]

MEASURES = ("params", "macs", "channels")


def group_of_label(coupling: Coupling) -> NDArray[np.int64]:
    """Number of the group of each label, −1 where it cannot go."""
    of_unit = np.full(int(coupling.unit_of.max(initial=-1)) + 1, -1, dtype=np.int64)
    for number, group in enumerate(coupling.groups):
        of_unit[group.units] = number
    return of_unit[coupling.unit_of]


def _axis(own: Array, coupling: Coupling) -> Axis:
    """Describe an axis by the group of each of its positions."""
    if own.size and own.tobytes() == own[:1].tobytes() * own.size:  # as on almost every axis
        group = int(own[0])
        return Axis(0.0, (group,), (own.size / coupling.groups[group].size,)) if group >= 0 else Axis(float(own.size))
    groups, counts = np.unique(own, return_counts=True)
    fixed = float(counts[groups < 0].sum())
    chosen = groups[groups >= 0]
    times = counts[groups >= 0] / [coupling.groups[group].size for group in chosen]
    return Axis(fixed, tuple(int(group) for group in chosen), tuple(float(time) for time in times))


def _params(coupling: Coupling, index: Index, group_of: NDArray[np.int64]) -> Cost:
    first: dict[str, Use] = {}
    for use in coupling.trace.uses.values():
        first.setdefault(use.tensor, use)
    blocks: dict[Use, list[Block]] = {}
    for block in coupling.trace.blocks:
        if block.use is not None and first[block.use.tensor] is block.use:
            blocks.setdefault(block.use, []).append(block)
    terms, constant = [], float(sum(weights_of(index.proto)))
    for use, own in blocks.items():
        axes = tuple([_axis(group_of[block.start : block.start + block.size], coupling) for block in own])
        if not any(axis.groups for axis in axes):
            continue
        size = float(math.prod(use.view))
        terms.append(Term(size / float(math.prod(block.size for block in own)), axes))
        constant -= size
    return make_cost(terms, constant=constant, groups=len(coupling.groups))


def _macs(coupling: Coupling, group_of: NDArray[np.int64]) -> Cost:
    # Most layers share the labels of their inputs with what made them.
    arrays = {id(array): array for item in coupling.trace.macs for array in item.arrays}
    axes = {key: _axis(group_of[array.ravel()], coupling) for key, array in arrays.items()}
    terms = [Term(item.factor, tuple([axes[id(array)] for array in item.arrays])) for item in coupling.trace.macs]
    return make_cost(terms, constant=0.0, groups=len(coupling.groups))


def measure(name: str, coupling: Coupling, index: Index) -> Cost:
    """Return a network's cost.

    Parameters
    ----------
    name : {"params", "macs", "channels"}
        Elements of all weight tensors; multiply-accumulates of a run at the assumed input shapes; channels that can go.
    coupling, index
        The network.
    """
    group_of = group_of_label(coupling)
    if name == "params":
        return _params(coupling, index, group_of)
    if name == "macs":
        return _macs(coupling, group_of)
    terms = [Term(1.0, (Axis(0.0, (number,), (1.0,)),)) for number in range(len(coupling.groups))]
    return make_cost(terms, constant=0.0, groups=len(coupling.groups))
