"""Units and groups: which labels live and die together, what may go, and why the rest may not.

All ties are edges of one graph over labels; its connected components are the units. Units that occur equally often on
the same axes of the same tensors form a group, of which at least one stays; so no tensor becomes empty.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from onnxprune.graph.index import Index
from onnxprune.ops.labels import Array, Fixed, Purpose
from onnxprune.ops.trace import Balance, Block, Kept, Role, Trace

__all__ = ["Coupling", "Group", "Held", "couple"]


@dataclass(frozen=True)
class Group:
    """Units with the same footprint.

    Attributes
    ----------
    name : str
        Node that first writes the channels (or the tensor, where it has no name).
    units : ndarray of int (n,)
        Unit numbers, in the order of their positions.
    blocks : tuple of int
        Blocks of the trace that the units occur in.
    times : tuple of int
        How often each unit occurs in each block.
    nodes : tuple of int
        Nodes whose weights are sliced.
    rows : ndarray of int (n,) or None
        Rows of which equally many units have to stay.
    """

    name: str
    units: Array
    blocks: tuple[int, ...]
    times: tuple[int, ...]
    nodes: tuple[int, ...]
    rows: Array | None = None

    @property
    def size(self) -> int:
        """Number of units."""
        return len(self.units)

    @property
    def step(self) -> int:
        """Units can go only in multiples of this number."""
        return 1 if self.rows is None else int(self.rows.max()) + 1


@dataclass(frozen=True)
class Held:
    """Units that cannot go, with the reason."""

    name: str
    fixed: Fixed
    units: Array
    blocks: tuple[int, ...]
    times: tuple[int, ...]


@dataclass(frozen=True)
class Coupling:
    """Everything known about what can be removed from a graph.

    Attributes
    ----------
    trace : Trace
        What the rules said.
    unit_of : ndarray of int (labels,)
        Unit of each label.
    groups, held
        What can go, and what cannot.
    """

    trace: Trace
    unit_of: Array
    groups: tuple[Group, ...]
    held: tuple[Held, ...]
    group_of: dict[str, Group] = field(default_factory=dict)

    def kept(self, removed: NDArray[np.int64]) -> Kept:
        """Labels that stay when these units go."""
        gone = np.zeros(int(self.unit_of.max(initial=-1)) + 1, dtype=bool)
        gone[removed] = True
        return Kept(~gone[self.unit_of])

    def without(self, left: Sequence[Group]) -> "Coupling":
        """The same with some groups held, as if the options left them out."""
        names = {group.name for group in left}
        groups = tuple(group for group in self.groups if group.name not in names)
        held = tuple(Held(g.name, Fixed(Purpose.EXCLUDED, g.name), g.units, g.blocks, g.times) for g in left)
        return replace(self, groups=groups, held=self.held + held, group_of={group.name: group for group in groups})


def _components(trace: Trace, extra: list[tuple[Array, Array]]) -> Array:
    pairs = [*trace.ties, *extra]
    first = np.concatenate([pair[0] for pair in pairs] or [np.empty(0, dtype=np.int64)])
    second = np.concatenate([pair[1] for pair in pairs] or [np.empty(0, dtype=np.int64)])
    graph = coo_array((np.ones(len(first), dtype=np.int8), (first, second)), shape=(trace.count, trace.count))
    _, units = connected_components(graph, directed=False)
    numbers: Array = units.astype(np.int64)
    return numbers


def _column_ties(array: Array) -> tuple[Array, Array]:
    return np.broadcast_to(array[:1], array[1:].shape).ravel(), array[1:].ravel()


@dataclass(frozen=True)
class _Footprints:
    """Units sorted into classes of equal footprint."""

    of_unit: Array
    count: int


def _footprints(trace: Trace, unit_of: Array, reasons: Array) -> _Footprints:
    """Number the footprints: units of one number occur equally often in the same places, pinned for the same reason."""
    total = int(unit_of.max(initial=-1)) + 1
    starts = np.array([block.start for block in trace.blocks], dtype=np.int64)
    sizes = np.array([block.size for block in trace.blocks], dtype=np.int64)
    block_of = np.repeat(np.arange(len(starts)), sizes)
    rng = np.random.default_rng(0)
    keys = rng.integers(1, 2**62, size=(2, max(len(starts), 1)), dtype=np.uint64)
    sums = np.zeros((2, total), dtype=np.uint64)
    for row in range(2):
        np.add.at(sums[row], unit_of, keys[row][block_of])
    for section in trace.sections:
        sums[:, np.unique(unit_of[section])] += rng.integers(1, 2**62, size=(2, 1), dtype=np.uint64)
    table = np.stack([sums[0], sums[1], reasons.astype(np.uint64)])
    _, first, inverse = np.unique(table, axis=1, return_index=True, return_inverse=True)
    order = np.argsort(np.argsort(first))
    return _Footprints(order[inverse.ravel()].astype(np.int64), len(first))


def couple(trace: Trace, index: Index) -> Coupling:
    """Turn what the rules said into units and groups.

    Parameters
    ----------
    trace : Trace
    index : Index
        Names of nodes and tensors.

    Returns
    -------
    Coupling
    """
    extra: list[tuple[Array, Array]] = []
    while True:
        unit_of = _components(trace, extra)
        reasons = _pinned(trace, unit_of)
        prints = _footprints(trace, unit_of, reasons)
        rows, unfit = _rows(trace, unit_of, reasons, prints)
        if not unfit:
            return _assemble(trace, index, unit_of, reasons, prints, rows)
        extra += [_column_ties(balance.array) for balance in unfit]


def _pinned(trace: Trace, unit_of: Array) -> Array:
    """Number of the weightiest pin of each unit, the first of its purpose, plus one; zero where nothing pins it."""
    total = int(unit_of.max(initial=-1)) + 1
    reasons = np.zeros(total, dtype=np.int64)
    weight = {purpose: place for place, purpose in enumerate(Purpose)}
    for number in sorted(range(len(trace.pins)), key=lambda k: (weight[trace.pins[k].fixed.purpose], k), reverse=True):
        reasons[unit_of[trace.pins[number].array]] = number + 1
    return reasons


def _rows(trace: Trace, unit_of: Array, reasons: Array, prints: _Footprints) -> tuple[dict[int, Array], list[Balance]]:
    """Rows per unit for each footprint with a balance; balances that no footprint can carry are returned as unfit."""
    rows: dict[int, Array] = {}
    unfit = []
    sizes = np.bincount(prints.of_unit, minlength=prints.count)
    for balance in trace.balances:
        units = unit_of[balance.array]
        whole = balance.whole and bool((units == units[:, :1]).all())
        if whole or (units == units[:1]).all() or reasons[units].all():
            continue
        own = np.full(len(prints.of_unit), -1, dtype=np.int64)
        own[units] = np.arange(len(units))[:, None]
        apart = bool((own[units] == np.arange(len(units))[:, None]).all())
        found = {}
        for key in map(int, np.unique(prints.of_unit[units[reasons[units] == 0]])):
            of = prints.of_unit == key
            times = np.unique(np.bincount(units[of[units]], minlength=len(of))[of])
            even = len(times) == 1 and len(np.unique(np.bincount(own[of], minlength=len(units)))) == 1
            found[key] = _finer(rows.get(key, own), own, of) if apart and even and sizes[key] == of.sum() else None
        if any(finer is None for finer in found.values()):
            unfit.append(balance)
        rows |= {key: finer for key, finer in found.items() if finer is not None}
    return rows, unfit


def _finer(first: Array, second: Array, of: NDArray[np.bool_]) -> Array | None:
    """Return the finer of two divisions of some units into rows, None where neither divides the other's rows."""
    pairs = len(np.unique(np.stack([first[of], second[of]]), axis=1)[0])
    if pairs == len(np.unique(first[of])):
        return first
    return second if pairs == len(np.unique(second[of])) else None


def _assemble(
    trace: Trace, index: Index, unit_of: Array, reasons: Array, prints: _Footprints, rows: dict[int, Array]
) -> Coupling:
    """Collect the units of each footprint, name them, and sort those that can go from those that cannot."""
    total = len(prints.of_unit)
    order = np.argsort(prints.of_unit, kind="stable")
    first_label = np.full(total, np.iinfo(np.int64).max)
    np.minimum.at(first_label, unit_of, np.arange(len(unit_of)))
    members = np.split(order, np.cumsum(np.bincount(prints.of_unit, minlength=prints.count))[:-1])
    occurrences = _occurrences(trace, unit_of)
    groups: dict[str, Group] = {}
    held: list[Held] = []
    for number, units in enumerate(members):
        if not len(units):
            continue
        units = units[np.argsort(first_label[units], kind="stable")]
        blocks, times = occurrences(int(units[0]))
        name = _name(trace, index, blocks)
        weights = [trace.blocks[block] for block in blocks if trace.blocks[block].use is not None]
        own = rows[number][units] if number in rows else None
        spare = len(units) > 1 if own is None else bool((own == 0).sum() > 1)
        reason = int(reasons[units[0]])
        fixed = trace.pins[reason - 1].fixed if reason else _unfit(name, weights, spare=spare)
        if fixed is not None:
            held.append(Held(name, fixed, units, blocks, times))
            continue
        while name in groups:
            name += "'"
        groups[name] = Group(name, units, blocks, times, tuple(dict.fromkeys(block.layer for block in weights)), own)
    return Coupling(trace, unit_of, tuple(groups.values()), tuple(held), groups)


def _unfit(name: str, weights: list[Block], *, spare: bool) -> Fixed | None:
    """Return why units that nothing pins cannot go, None where they can."""
    if all(block.role is Role.CHANNEL for block in weights):
        return Fixed(Purpose.POSITION, name)
    return None if spare else Fixed(Purpose.SINGLE, name)


def _occurrences(trace: Trace, unit_of: Array) -> Callable[[int], tuple[tuple[int, ...], tuple[int, ...]]]:
    """Return a function that tells which blocks a unit occurs in, and how often in each."""
    sizes = [block.size for block in trace.blocks]
    keys = unit_of * max(len(sizes), 1) + np.repeat(np.arange(len(sizes)), sizes)
    pairs, counts = np.unique(keys, return_counts=True)
    owners, blocks = np.divmod(pairs, max(len(sizes), 1))
    bounds = np.searchsorted(owners, np.arange(int(unit_of.max(initial=-1)) + 2))

    def of(unit: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        own = slice(bounds[unit], bounds[unit + 1])
        return tuple(blocks[own].tolist()), tuple(counts[own].tolist())

    return of


def _name(trace: Trace, index: Index, blocks: tuple[int, ...]) -> str:
    """Name a footprint after the node that first writes it."""
    writers = [b for b in blocks if trace.blocks[b].role is Role.WRITES]
    chosen = trace.blocks[(writers or list(blocks))[0]]
    node = index.nodes[chosen.layer]
    return node.name or next((name for name in node.output if name), f"node {chosen.layer}")
