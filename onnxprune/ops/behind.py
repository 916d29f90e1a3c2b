"""Weights behind operators that work element by element: a grouped convolution sees the stored one group by group.

Such a weight was labelled axis by axis where it was read first. Seen as (g, n, m), its first axis keeps its labels; the
second gets new ones, some for each group, in place of those that all groups shared.
"""

from bisect import bisect_right

import numpy as np

from onnxprune.graph.index import Index
from onnxprune.ops.labels import Array, Bundle, Labels
from onnxprune.ops.trace import Block, Trace, Use

__all__ = ["Behind", "find_behind"]

_POINTWISE = frozenset({"Cast", "DequantizeLinear", "Identity", "QuantizeLinear"})


class Behind:
    """A stored weight, the tensors made from it for one reader, and its labels along its first two axes."""

    def __init__(self, trace: Trace, names: list[str], first: Block, second: Block) -> None:
        assert first.use is not None
        self.trace = trace
        self.names = names
        self.first = first
        self.second = second
        self.use: Use = first.use

    def view(self, shape: tuple[int, ...]) -> tuple[Array, Array]:
        """See the weight as (g, n, m, …); returns labels (g, n) of the first axis and (g, m) of the second."""
        trace, old, (groups, rows, columns) = self.trace, self.use, shape[:3]
        new = Use(old.tensor, old.node, old.input, shape)
        trace.uses[old.node, old.input] = new
        for block in _born_with(trace, self.first):
            block.use, block.axes = new, tuple(axis + 1 for axis in block.axes)
        self.first.axes = (0, 1)
        self.second.use = None
        first = np.arange(self.first.start, self.first.start + self.first.size).reshape(groups, rows)
        second = trace.fresh((groups, columns), old.node, new, (0, 2))
        for name in self.names:
            trace.labels[name] = self._labels(trace.labels[name], first, second)
        return first, second

    def _labels(self, labels: Labels, first: Array, second: Array) -> Labels:
        """Every group loses as many of its second axis: those of the first one count for all."""
        own = (Bundle((0,), first.ravel()), Bundle((1,), second[0]))
        rest = tuple(bundle for bundle in labels.bundles if not {0, 1} & set(bundle.axes))
        return Labels(labels.shape, own + rest, labels.fixed)


def find_behind(trace: Trace, index: Index, name: str) -> Behind | None:
    """Find the stored weight that a tensor is made from, element by element, for one reader.

    Parameters
    ----------
    trace : Trace
    index : Index
    name : str

    Returns
    -------
    Behind or None
        None where there is no such weight, or something else has been said of its second axis.
    """
    names = []
    while not index.is_weight(name):
        number = index.producer.get(name)
        alone = index.is_private(name)
        if number is None or not alone or index.nodes[number].op_type not in _POINTWISE:
            return None
        names.append(name)
        name = index.nodes[number].input[0]
    if not names:
        return None
    blocks = [_block(trace, trace.labels[names[0]], axis) for axis in (0, 1)]
    if blocks[0] is None or blocks[1] is None or blocks[0].use is not blocks[1].use:
        return None
    return None if _is_said(trace, blocks[1]) else Behind(trace, names, blocks[0], blocks[1])


def _block(trace: Trace, labels: Labels, axis: int) -> Block | None:
    """The block that an axis's labels make, of a weight of the same shape."""
    bundle = labels.bundle_at(axis)
    if bundle is None or bundle.axes != (axis,):
        return None
    block = trace.block_of(int(bundle.array[0]))
    whole = np.array_equal(bundle.array, np.arange(block.start, block.start + block.size))
    fits = block.use is not None and block.use.view == labels.shape and block.axes == (axis,)
    return block if whole and fits else None


def _is_said(trace: Trace, block: Block) -> bool:
    """Tell whether labels of a block are tied or pinned; what was said is looked at once, however often one asks."""
    said = trace.said
    if len(said.mask) < trace.count:
        # By half at least, so that growing often takes no longer than growing once.
        said.mask = np.concatenate([said.mask, np.zeros(trace.count, dtype=np.bool_)])
    for tie in trace.ties[said.ties :]:
        for array in tie:
            said.mask[array] = True
    for pin in trace.pins[said.pins :]:
        said.mask[pin.array] = True
    said.ties, said.pins = len(trace.ties), len(trace.pins)
    return bool(said.mask[block.start : block.start + block.size].any())


def _born_with(trace: Trace, block: Block) -> list[Block]:
    """Blocks of one use of a weight, which are born one after another."""
    start = stop = bisect_right(trace.starts, block.start) - 1
    while start > 0 and trace.blocks[start - 1].use is block.use:
        start -= 1
    while stop < len(trace.blocks) and trace.blocks[stop].use is block.use:
        stop += 1
    return trace.blocks[start:stop]
