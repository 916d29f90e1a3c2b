"""How what stays of a weight is gathered: keep masks over sets of the axes of a view, factors along some of them.

A view may have two axes in one set, of which the second has as many positions left in every row: the channels of the
groups of a convolution, the units of the directions of a recurrent layer.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune.coupling import Coupling
from onnxprune.graph.index import Index
from onnxprune.ops.trace import Block, Kept, Role, Use

__all__ = ["Cut", "cuts_of", "is_private", "sorted_by_cut"]


@dataclass(frozen=True)
class Cut:
    """How one use of a weight is gathered: keep masks over sets of its view's axes, factors along some of them."""

    view: tuple[int, ...]
    masks: tuple[tuple[tuple[int, ...], NDArray[np.bool_]], ...]
    factors: tuple[tuple[tuple[int, ...], NDArray[np.float64]], ...]

    @property
    def key(self) -> tuple[Any, ...]:
        """Equal for uses that are cut alike."""
        masks = tuple((axes, mask.tobytes()) for axes, mask in self.masks)
        return self.view, masks, tuple((axes, factor.tobytes()) for axes, factor in self.factors)

    @property
    def is_whole(self) -> bool:
        """Tell whether nothing changes."""
        return not self.factors and all(mask.all() for _, mask in self.masks)

    def shape(self, original: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of the gathered weight, folded back from the view as the original is."""
        sizes = list(self.view)
        for axes, mask in self.masks:
            for axis in axes:
                others = tuple(dim for dim, other in enumerate(axes) if other != axis)
                sizes[axis] = min(sizes[axis], int(mask.any(axis=others).sum()))
        for axes, mask in self.masks:
            if len(axes) > 1:
                # (g, O/g): the count of a group, not of positions used by any group.
                sizes[axes[1]] = int(mask.sum()) // sizes[axes[0]]
        return _fold(sizes, self.view, original)

    def gather(self, array: NDArray[Any]) -> NDArray[Any]:
        """Return what stays of the weight, in its own number of dimensions."""
        shape = self.shape(array.shape)
        seen = array.reshape(self.view)
        for axes, factor in self.factors:
            wide = factor.reshape([self.view[axis] if axis in axes else 1 for axis in range(len(self.view))])
            seen = (seen.astype(np.float64) * wide).astype(array.dtype)
        if all(len(axes) == 1 for axes, _ in self.masks):
            for axes, mask in self.masks:
                if not mask.all():
                    seen = seen.take(np.flatnonzero(mask), axis=axes[0])
            return np.ascontiguousarray(seen).reshape(shape)
        whole = np.ones(self.view, dtype=bool)
        for axes, mask in self.masks:
            whole &= mask.reshape([self.view[axis] if axis in axes else 1 for axis in range(len(self.view))])
        return np.ascontiguousarray(seen[whole]).reshape(shape)


def _fold(sizes: list[int], view: tuple[int, ...], original: tuple[int, ...]) -> tuple[int, ...]:
    """Multiply the sizes of the view's axes that make one axis of the original."""
    folded, place = [], 0
    for size in original:
        product, new = view[place], sizes[place]
        place += 1
        while product < size:
            product, new, place = product * view[place], new * sizes[place], place + 1
        folded.append(new)
    return tuple(folded)


def cuts_of(
    coupling: Coupling, kept: Kept, factors: NDArray[np.float64] | None = None
) -> dict[str, list[tuple[Use, Cut]]]:
    """Tell of every weight with channels how each of its uses is cut.

    Parameters
    ----------
    coupling : Coupling
    kept : Kept
        What stays.
    factors : ndarray of float (units,), optional
        What readers' weights are multiplied by.

    Returns
    -------
    dict of str to list of (Use, Cut)
    """
    blocks: dict[Use, list[Block]] = defaultdict(list)
    for block in coupling.trace.blocks:
        if block.use is not None:
            blocks[block.use].append(block)
    found: dict[str, list[tuple[Use, Cut]]] = defaultdict(list)
    for use, own in blocks.items():
        masks, times = [], []
        for block in own:
            labels = np.arange(block.start, block.start + block.size)
            sizes = tuple(use.view[axis] for axis in block.axes)
            masks.append((block.axes, kept.of(labels).reshape(sizes)))
            if factors is not None and block.role is Role.READS:
                factor = factors[coupling.unit_of[labels]].reshape(sizes)
                if (factor != 1).any():
                    times.append((block.axes, factor))
        found[use.tensor].append((use, Cut(use.view, tuple(masks), tuple(times))))
    return found


def sorted_by_cut(uses: Sequence[tuple[Use, Cut]]) -> list[list[tuple[Use, Cut]]]:
    """Put those together that are cut alike."""
    found: dict[tuple[Any, ...], list[tuple[Use, Cut]]] = defaultdict(list)
    for use, cut in uses:
        found[cut.key].append((use, cut))
    return list(found.values())


def is_private(index: Index, name: str, uses: Sequence[Use]) -> bool:
    """Tell whether nothing reads a weight but these."""
    readers = {(edge.node, edge.input) for edge in index.consumers.get(name, [])}
    private = readers == {(use.node, use.input) for use in uses}
    return private and not index.captured.get(name) and name not in index.outputs
