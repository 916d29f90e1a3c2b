"""Changes of a loss, to first order, where readers see zero in a channel's place: sample by sample, at all readers.

    z_u(n) = Σ over the edges and places where unit u is read  a · ∂L_n/∂a

The network is its own twin: masks before all readers are inputs, so that one session serves however many channels are
gone. What enters a reader is differentiated by where it enters, so that several readers add up.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, ValueInfoProto, helper
from scipy.sparse import csr_array

from onnxprune.calibrate.feeds import Feeds
from onnxprune.gradient import differentiate
from onnxprune.graph.index import Index
from onnxprune.graph.runtime import Effort, Session
from onnxprune.ops.trace import Kept, Read
from onnxprune.reconstruct.views import Workpiece
from onnxprune.salience.ends import ends
from onnxprune.salience.flow import flow_of
from onnxprune.validate.twin import build_twin

__all__ = ["Edges"]


@dataclass(frozen=True)
class _Edge:
    """Where units are read: the output with what is summed up there, and how its positions are sorted by units."""

    output: str
    sort: csr_array
    apart: bool


class Edges:
    """All places where a network's channels are read.

    Parameters
    ----------
    work : Workpiece
        Not modified.
    providers : sequence of str
    flowing : bool
        Whether it is the network's flow that is looked at; see `flow_of`.

    Raises
    ------
    ModelError
        If a node cannot be differentiated.
    """

    def __init__(self, work: Workpiece, providers: Sequence[str], *, flowing: bool = False) -> None:
        self._labels = work.coupling.unit_of
        self.units = int(self._labels.max(initial=-1)) + 1
        proto = ModelProto()
        proto.CopyFrom(work.proto)
        self._twin = build_twin(proto, Index(proto), work.shapes, work.coupling, scaled=False, rounded=not flowing)
        del proto.graph.output[len(work.proto.graph.output) :]
        proto.graph.output.extend(ends(work.index, work.shapes))
        if flowing:
            proto = flow_of(proto, work.index.inputs, work.shapes.inputs).proto
        self._forward = Session(proto.SerializeToString(), providers, effort=Effort(fast=True))
        stored = work.index.constants
        reads = [
            (f"{mask.name}_masked", mask.read, mask.rank)
            for mask in self._twin.masks
            if mask.wide in (0, TensorProto.FLOAT)
            and work.index.nodes[mask.read.node].input[mask.read.input] not in stored
        ]
        gradient = differentiate(proto, [name for name, _, _ in reads], input_shapes=work.shapes.inputs)
        self._seeds = gradient.seeds or {}
        self._edges = [self._added(gradient.proto, gradient.of, name, read, rank) for name, read, rank in reads]
        del gradient.proto.graph.output[:]
        gradient.proto.graph.output.extend(ValueInfoProto(name=edge.output) for edge in self._edges)
        self._session = Session(gradient.proto.SerializeToString(), providers, effort=Effort(fast=True))

    def _added(self, proto: ModelProto, of: dict[str, str], name: str, read: Read, rank: int) -> _Edge:
        """Sum a · ∂L/∂a over all axes but those of the positions, and the first, which the samples lie along."""
        apart = 0 not in read.axes
        others = [axis for axis in range(rank) if axis not in read.axes and axis]
        product, summed = f"{of[name]}_times", f"{of[name]}_summed"
        axes = helper.make_tensor(f"{summed}_axes", TensorProto.INT64, [len(others)], others)
        proto.graph.initializer.append(axes)
        proto.graph.node.append(helper.make_node("Mul", [name, of[name]], [product]))
        proto.graph.node.append(
            helper.make_node("ReduceSum", [product, axes.name], [summed], keepdims=0, noop_with_empty_axes=1)
        )
        units = self._labels[read.array].ravel()
        shape = (units.size, self.units)
        sort = csr_array((np.ones(units.size), (np.arange(units.size), units)), shape=shape)
        return _Edge(summed, sort, apart)

    def changes(
        self,
        batch: Feeds,
        samples: int,
        gone: NDArray[np.bool_],
        seeds: Callable[[dict[str, NDArray[np.float32]]], dict[str, NDArray[np.float32]]],
    ) -> NDArray[np.float64]:
        """Change of the loss of each sample for each unit; (n, units).

        Parameters
        ----------
        batch : dict of str to ndarray
        samples : int
            How many are in it.
        gone : ndarray of bool (units,)
            What readers see as zero already.
        seeds : callable
            Gives derivatives by the outputs, given these.

        Raises
        ------
        ModelError
            If the network does not run on it.
        """
        feeds = {**batch, **self._twin.feeds(Kept(~gone[self._labels]), self._labels, None)}
        given = seeds(self._forward.run(feeds, list(self._seeds)))
        found = self._session.run({**feeds, **{seed: given[output] for output, seed in self._seeds.items()}})
        total = np.zeros((samples, self.units))
        for edge in self._edges:
            value = found[edge.output]
            count = edge.sort.shape[0]
            if edge.apart and len(value) % samples == 0:
                rows = value.reshape(samples, -1, count).sum(axis=1, dtype=np.float64)
            else:  # samples cannot be told apart there: each gets its share
                rows = np.broadcast_to(
                    value.reshape(-1, count).sum(axis=0, dtype=np.float64) / samples, (samples, count)
                )
            total += rows @ edge.sort
        return total
