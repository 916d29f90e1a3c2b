"""Running a network stage by stage on many batches: all of them to one point, a look at what is there, then on.

Every node is run once on every batch, however many stages there are. Between two stages are the tensors that later
ones read; beyond a number of bytes they lie on disk.
"""

import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, ValueInfoProto, helper

from onnxprune.calibrate.feeds import Feeds
from onnxprune.errors import ModelError
from onnxprune.graph.index import Index, outer_reads
from onnxprune.graph.runtime import Effort, Session
from onnxprune.graph.sections import Sections

__all__ = ["Order", "Stages", "described", "in_order", "reached_together"]

_IN_MEMORY = 1 << 29


@dataclass(frozen=True)
class Order:
    """Nodes sorted so that a stage is a run of them: what can be computed by then, last of all the stage's readers.

    Attributes
    ----------
    nodes : tuple of int
        All nodes of the network.
    readers : tuple of tuple of str
        Of each stage the readers, by their first outputs; none depends on another of its stage.
    before, after : tuple of int
        Where each stage's readers begin, and where they end.
    """

    nodes: tuple[int, ...]
    readers: tuple[tuple[str, ...], ...]
    before: tuple[int, ...]
    after: tuple[int, ...]


def in_order(proto: ModelProto, readers: Collection[str], together: Sequence[Collection[str]] = ()) -> Order:
    """Sort the nodes of a network into stages.

    Parameters
    ----------
    proto : ModelProto
    readers : collection of str
        First outputs of the nodes that end a stage.
    together : sequence of collection of str
        Readers that are to be in one stage; see `reached_together`.
    """
    keys = _stages(proto, readers, together)
    names = [proto.graph.node[number].output[0] if reads else "" for _, reads, number in keys]
    count = 1 + max((stage for stage, reads, _ in keys if reads), default=-1)
    own = [[place for place, (stage, reads, _) in enumerate(keys) if reads and stage == each] for each in range(count)]
    return Order(
        tuple(number for _, _, number in keys),
        tuple(tuple(names[place] for place in places) for places in own),
        tuple(places[0] for places in own),
        tuple(places[-1] + 1 for places in own),
    )


def reached_together(
    proto: ModelProto, readers: Collection[str], together: Sequence[Collection[str]]
) -> list[Collection[str]]:
    """Of readers that are to be in one stage those that can be: none depends on another."""
    able: list[Collection[str]] = []
    for some in together:
        if len(some) > 1 and _stages(proto, readers, [*able, some]):
            able.append(some)
    return able


def _stages(
    proto: ModelProto, readers: Collection[str], together: Sequence[Collection[str]]
) -> list[tuple[int, bool, int]]:
    """Stage of each node, whether it is a reader, and its number, sorted; nothing where readers cannot be together."""
    least: dict[str, int] = {}
    while True:
        stage_of: dict[str, int] = {}
        keys, own = [], dict[str, int]()
        for number, node in enumerate(proto.graph.node):
            stage = max((stage_of.get(name, 0) for name in (*node.input, *outer_reads(node))), default=0)
            reads = bool(node.output) and node.output[0] in readers
            if reads:
                stage = max(stage, least.get(node.output[0], 0))
                own[node.output[0]] = stage
            keys.append((stage, reads, number))
            stage_of.update(dict.fromkeys(node.output, stage + reads))
        late = {name: max(own[each] for each in some) for some in together for name in some}
        if all(own[name] == stage for name, stage in late.items()):
            return sorted(keys)
        if max(late.values()) > len(own):
            return []
        least = late


class Stages:
    """A network on its way through some batches.

    Parameters
    ----------
    proto : ModelProto
        Its nodes are put in order; initializers may be changed between stages.
    order : Order
    cuts : sequence of int
        The places of `order` up to which the stages go; a last one goes to the end.
    batches : sequence of dict of str to ndarray
    providers : sequence of str
    """

    def __init__(
        self, proto: ModelProto, order: Order, cuts: Sequence[int], batches: Sequence[Feeds], providers: Sequence[str]
    ) -> None:
        nodes = [proto.graph.node[number] for number in order.nodes]
        arranged = ModelProto()
        arranged.CopyFrom(proto)
        del arranged.graph.node[:]
        arranged.graph.node.extend(nodes)
        self.proto = arranged
        self.shared: Feeds = {}
        self._stored = Index(arranged).weights
        self._sections = Sections(arranged, tuple(cuts))
        self._providers = providers
        self._values = [dict(batch) for batch in batches]
        self._shelf = _Shelf(sum(value.nbytes for batch in batches for value in batch.values()))
        self._place = 0

    def advance(self, wanted: Sequence[str], *, stay: bool = False) -> Iterator[Mapping[str, NDArray[Any]]]:
        """Run the next stage on every batch.

        Parameters
        ----------
        wanted : sequence of str
            Tensors to look at, made by now and not yet dropped before this stage.
        stay : bool
            Whether the same stage is run again next.

        Yields
        ------
        mapping of str to ndarray
            What each batch has at the end of this stage: what was wanted, and what later stages read.

        Raises
        ------
        ModelError
            If onnxruntime cannot run it.
        """
        section = self._sections[self._place]
        self._place += not stay
        each = [{**self.shared, **values} for values in self._values]
        # What is not there, as an input that is a list, onnxruntime names.
        incoming = [described(name, [values[name] for values in each]) for name in section.reads if name in each[0]]
        part = self._sections.proto(section, incoming)
        made = {name for node in part.graph.node for name in node.output}
        declared = {value.name for value in part.graph.output}
        part.graph.output.extend(ValueInfoProto(name=name) for name in dict.fromkeys(wanted) if name in made - declared)
        outputs = [value.name for value in part.graph.output]
        session = Session(part.SerializeToString(), self._providers, effort=Effort(fast=True)) if outputs else None
        for values in self._values:
            found = {} if session is None else session.run({**self.shared, **values}, outputs)
            if missing := [name for name in outputs if name not in found]:
                raise ModelError(f"the tensor {missing[0]!r} is a list, which cannot be kept between two stages")
            yield {**values, **found}
            if stay:
                continue
            for name in section.drops:
                self._shelf.drop(values.pop(name, None))
            values.update({name: self._shelf.keep(found[name]) for name in section.hands_on})

    def stored(self, name: str) -> Any:
        """Return the initializer, or the value of the Constant node, of a name, to be changed."""
        return self._stored[name]


def described(name: str, values: Sequence[NDArray[Any]]) -> ValueInfoProto:
    """Declare a tensor with the sizes that it always has: onnxruntime gets the lengths of lists of sizes wrong."""
    first, ranks = values[0], {value.ndim for value in values}
    dims = [sizes[0] if len(set(sizes)) == 1 else None for sizes in zip(*(v.shape for v in values), strict=False)]
    shape = dims if len(ranks) == 1 else None
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(first.dtype), shape)


class _Shelf:
    """Keeps arrays in memory, and beyond a number of bytes on disk, in files without a name.

    Parameters
    ----------
    taken : int
        Bytes in memory to begin with.
    """

    def __init__(self, taken: int) -> None:
        self._bytes = taken

    def keep(self, value: NDArray[Any]) -> NDArray[Any]:
        """Return an array that holds the same."""
        if self._bytes + value.nbytes <= _IN_MEMORY or not value.nbytes or value.dtype.hasobject:
            self._bytes += value.nbytes
            return value
        with tempfile.TemporaryFile(prefix="onnxprune") as file:
            # Written, not mapped and filled: a full disk is then an error, and no broken memory.
            file.write(np.ascontiguousarray(value).data)
            file.flush()
            return np.memmap(file, dtype=value.dtype, mode="c", shape=value.shape)

    def drop(self, value: NDArray[Any] | None) -> None:
        """Let an array go."""
        if value is not None and not isinstance(value, np.memmap):
            self._bytes -= value.nbytes
