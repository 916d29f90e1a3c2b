"""What a person would call a group: heads of attention, hidden units, a residual stream, channels of a convolution."""

from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from onnxprune.coupling.groups import Coupling, Group
from onnxprune.graph.index import Index
from onnxprune.ops.trace import Role

__all__ = ["Kind", "KindReader"]

_RECURRENT = frozenset({"LSTM", "GRU", "RNN"})
_PRODUCTS = frozenset(
    {"MatMul", "Gemm", "Einsum", "FusedMatMul", "MatMulInteger", "MatMulIntegerToFloat", "QLinearMatMul"}
)
_ATTENDING = frozenset({"Attention", "MultiHeadAttention", "GroupQueryAttention", "PackedMultiHeadAttention"})
_CONVOLUTIONS = frozenset(
    ["Conv", "ConvTranspose", "ConvInteger", "QLinearConv", "FusedConv", "DeformConv", "NhwcConv"]
)
_SUMS = frozenset({"Add", "Sum", "QLinearAdd", "SkipLayerNormalization", "SkipSimplifiedLayerNormalization"})


class Kind(StrEnum):
    """A family of groups."""

    HEADS = "attention heads"
    INSIDE_HEADS = "positions in heads"
    RECURRENT = "recurrent units"
    STREAM = "residual stream"
    CHANNELS = "channels"
    HIDDEN = "hidden units"
    TIED = "tied channels"


class KindReader:
    """Tells the kinds of a network's groups.

    Parameters
    ----------
    coupling, index
        The network.
    """

    def __init__(self, coupling: Coupling, index: Index) -> None:
        self.coupling = coupling
        self.index = index
        self.attended = self._meeting(_PRODUCTS) | self._meeting(_ATTENDING, at_least=1)
        self.added = self._meeting(_SUMS)
        blocks = coupling.trace.blocks
        self.reading = {block.use for block in blocks if block.role is Role.READS}

    def _meeting(self, operators: frozenset[str], *, at_least: int = 2) -> NDArray[np.bool_]:
        """Tell of each unit whether it lies in one of several activations that such an operator takes."""
        coupling, index = self.coupling, self.index
        found = np.zeros(int(coupling.unit_of.max(initial=-1)) + 1, dtype=bool)
        for node in index.nodes:
            if node.op_type not in operators:
                continue
            names = [name for name in node.input if name and name not in index.constants]
            for name in names if len(names) >= at_least else ():
                for bundle in coupling.trace.labels[name].bundles if name in coupling.trace.labels else ():
                    found[coupling.unit_of[bundle.array]] = True
        return found

    def kind(self, group: Group) -> Kind:
        """Tell what a group is."""
        trace = self.coupling.trace
        found = [(trace.blocks[number], times) for number, times in zip(group.blocks, group.times, strict=True)]
        writes = [(block, times) for block, times in found if block.role is Role.WRITES and block.use is not None]
        operators = {self.index.nodes[block.layer].op_type for block, _ in writes}
        often = max((times for _, times in writes), default=1) > 1
        attended, added = self.attended[group.units].all(), self.added[group.units].all()
        if operators & _RECURRENT:
            return Kind.RECURRENT
        if attended and (often or operators & _ATTENDING):
            return Kind.HEADS
        if attended and group.rows is not None and trace.opened.inside_heads:
            return Kind.INSIDE_HEADS
        if added and len({block.layer for block, _ in writes if block.use in self.reading}) > 1:
            return Kind.STREAM
        if often:
            return Kind.TIED
        return Kind.CHANNELS if operators & _CONVOLUTIONS else Kind.HIDDEN
