"""The vocabulary of channel labels: what a rule may say of a tensor's axes.

Every position of a prunable axis carries an integer label. Equal labels (after all ties) live and die together. A
`Bundle` labels the positions of one axis, or of several axes together where a Reshape has split one; an axis in no
bundle is *fixed*: nothing along it is ever removed.
"""

from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

__all__ = ["Array", "Bundle", "Door", "Fixed", "Labels", "Purpose", "Said"]

Array = NDArray[np.int64]


class Purpose(StrEnum):
    """Why positions cannot be removed; a closed list, weightiest first, reported with the parameters each one holds."""

    CUSTOM = "onnxruntime cannot run the operator"
    NOT_FINITE = "weights are not finite"
    GRAPH_INPUT = "graph input"
    GRAPH_OUTPUT = "graph output"
    NORMALIZED = "normalised over these channels"
    MIXED = "mixed by an operator"
    SUBGRAPH = "read by a subgraph"
    RUNTIME = "known only at run time"
    CONFLICT = "two channel axes in one"
    POSITION = "positions, not channels"
    NO_RULE = "no rule for the operator"
    UNSHAPED = "shape not known before run time"
    EXCLUDED = "excluded by the options"
    SINGLE = "one unit only"

    @property
    def explanation(self) -> str:
        """What it means, and what can be done about it; for the report's readers."""
        return _EXPLANATIONS[self]

    @property
    def is_miss(self) -> bool:
        """Tell whether it is for want of knowledge, not on purpose."""
        return self in (Purpose.NO_RULE, Purpose.UNSHAPED)


_EXPLANATIONS = {
    Purpose.GRAPH_INPUT: "the sizes of the network's inputs are its users' business",
    Purpose.GRAPH_OUTPUT: "and so are those of its outputs: classes, boxes, a vocabulary; `--state` opens those that "
    "are handed back as inputs, and keeps their shape",
    Purpose.POSITION: "rows, columns, tokens and tables of them are not channels: what is there is data, not width",
    Purpose.MIXED: "every result depends on every channel in a way that a zero does not leave alone: Softmax, a "
    "maximum, a product, LRN, sorting",
    Purpose.NORMALIZED: "LayerNormalization, RMSNormalization and GroupNormalization take statistics over these "
    "channels; `--prune-normalized` opens them (of GroupNormalization, whole groups go by default)",
    Purpose.NO_RULE: "a miss, not a purpose: the operator is not in the table above",
    Purpose.SUBGRAPH: "a Loop, a Scan, or an If whose branches cannot be laid open reads them",
    Purpose.RUNTIME: "which positions are taken, or how many, is known only when the network runs",
    Purpose.UNSHAPED: "a miss, not a purpose: no shape could be found; `--input-shape` may help",
    Purpose.CUSTOM: "the operator belongs to another runtime (a plugin): nothing could be proved",
    Purpose.EXCLUDED: "`--include` or `--exclude` says so",
    Purpose.SINGLE: "of each group one unit has to stay",
    Purpose.CONFLICT: "an operator lays two channel axes, or two views of one weight, over one another",
    Purpose.NOT_FINITE: "weights hold NaN or infinity",
}


@dataclass(frozen=True)
class Fixed:
    """An axis along which nothing is removed, and where that comes from."""

    purpose: Purpose
    site: str


@dataclass(frozen=True)
class Bundle:
    """Labels of the positions of `axes`; `array` has one dimension per axis, in the order they were split from."""

    axes: tuple[int, ...]
    array: Array

    def without_constant_axes(self) -> "Bundle":
        """Drop the axes along which the labels do not vary."""
        axes, array = list(self.axes), self.array
        for dim in range(len(axes) - 1, -1, -1):
            first = array[(slice(None),) * dim + (slice(0, 1),)]
            if len(axes) > 1 and bool((array == first).all()):
                array = first.squeeze(dim)
                axes.pop(dim)
        return Bundle(tuple(axes), array)


@dataclass(frozen=True)
class Labels:
    """The labels of one tensor: its shape, its bundles (disjoint axes), and the nature of all other axes."""

    shape: tuple[int, ...]
    bundles: tuple[Bundle, ...]
    fixed: Fixed

    def bundle_at(self, axis: int) -> Bundle | None:
        """Return the bundle that holds `axis`, None where it is fixed."""
        for bundle in self.bundles:
            if axis in bundle.axes:
                return bundle
        return None

    def replace(self, old: Bundle, new: Bundle | None) -> "Labels":
        """Return the same labels with bundle `old` exchanged for `new` (None: its axes become fixed)."""
        bundles = [new if bundle is old else bundle for bundle in self.bundles]
        return Labels(self.shape, tuple([bundle for bundle in bundles if bundle is not None]), self.fixed)


@dataclass(frozen=True)
class Door:
    """Node `node` is where a state comes in or goes out; bundles of one axis each tell its slots within the network."""

    node: int
    inward: bool
    bundles: tuple[Bundle, ...]


@dataclass
class Said:
    """Labels that are tied or pinned, as far as ties and pins have been looked at: so many of each."""

    mask: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, dtype=np.bool_))
    ties: int = 0
    pins: int = 0
