"""How often a network is still right when a single group is thinned, its readers solved anew and all else as it was.

What readers that are not solved get of the channels that go is zero, as in the twin: masks and new weights are inputs
of it, so that one session serves every number of channels. The network is run up to the group's first reader once, and
from there on once more for every number.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, ValueInfoProto
from onnx.helper import make_graph, make_tensor_value_info

from onnxprune.coupling import Group
from onnxprune.graph.runtime import Effort, Session
from onnxprune.graph.sections import Sections
from onnxprune.reconstruct.stages import described
from onnxprune.reconstruct.trial import Changed
from onnxprune.reconstruct.views import Workpiece
from onnxprune.validate import Exam
from onnxprune.validate.twin import Twin, build_twin

__all__ = ["Thinned"]

_WEIGHTS = 4e8
"""Bytes of new weights that are held at once; beyond that the network is run up to the group once more."""


class Thinned:
    """A network, and samples whose classes are known.

    Parameters
    ----------
    work : Workpiece
        Not changed.
    exam : Exam
        Its batches are as the workpiece takes them.
    """

    def __init__(self, work: Workpiece, exam: Exam) -> None:
        self.work, self.exam = work, exam

    def right(
        self,
        number: int,
        kept: Sequence[NDArray[np.int64]],
        solved: Callable[[NDArray[np.int64]], Changed] | None = None,
    ) -> NDArray[np.float64]:
        """Share of the samples that are answered rightly where only some channels of a group stay.

        Parameters
        ----------
        number : int
            Of the group.
        kept : sequence of ndarray of int
            Channels that stay, one array for each case.
        solved : callable, optional
            Gives the readers' new weights and biases; without it they keep theirs.

        Returns
        -------
        ndarray of float64 (len(kept),)

        Raises
        ------
        ModelError
            If onnxruntime cannot run it.
        """
        coupling, group = self.work.coupling, self.work.coupling.groups[number]
        first = _changed(solved, kept[0])
        twin, network = _opened(self.work, group, first.keys())
        halves = _Halves(network, self.exam)
        together = max(1, int(_WEIGHTS // max(sum(value.nbytes for value in first.values()), 1)))
        found = []
        for start in range(0, len(kept), together):
            cases = []
            for some in kept[start : start + together]:
                masks = twin.feeds(coupling.kept(np.delete(group.units, some)), coupling.unit_of, None)
                cases.append({**_changed(solved, some), **masks})
            found.append(halves.right(cases))
        return np.concatenate(found)


def _changed(solved: Callable[[NDArray[np.int64]], Changed] | None, kept: NDArray[np.int64]) -> Changed:
    new = {} if solved is None else solved(np.sort(kept))
    return {name: np.ascontiguousarray(value, dtype=np.float32) for name, value in new.items()}


def _opened(work: Workpiece, group: Group, weights: Collection[str]) -> tuple[Twin, ModelProto]:
    """The twin of a network of which one group alone can go, and the same with some weights as inputs."""
    proto = ModelProto()
    proto.CopyFrom(work.proto)
    coupling = work.coupling.without([other for other in work.coupling.groups if other.name != group.name])
    twin = build_twin(proto, work.index, work.shapes, coupling, scaled=False, rounded=True, budget=0)
    graph = proto.graph
    stored = [tensor for tensor in graph.initializer if tensor.name not in weights]
    inputs = [value for value in graph.input if value.name not in weights]
    nodes = [node for node in graph.node if node.op_type != "Constant" or node.output[0] not in weights]
    inputs += [make_tensor_value_info(n, TensorProto.FLOAT, list(work.index.weights[n].dims)) for n in weights]
    opened = ModelProto(ir_version=proto.ir_version, opset_import=proto.opset_import, functions=proto.functions)
    opened.graph.CopyFrom(make_graph(nodes, graph.name, inputs, graph.output, stored))
    opened.graph.sparse_initializer.extend(graph.sparse_initializer)
    return twin, opened


class _Halves:
    """A network up to the first node that reads any mask or new weight, and from there on.

    Parameters
    ----------
    network : ModelProto
        Its outputs are changed.
    exam : Exam
    """

    def __init__(self, network: ModelProto, exam: Exam) -> None:
        self.exam = exam
        graph = network.graph
        scores = next(value for value in graph.output if value.name == exam.scores.output)
        kept = ValueInfoProto.FromString(scores.SerializeToString())
        del graph.output[:]
        graph.output.append(kept)
        changed = {value.name for value in graph.input} - exam.batches[0].keys()
        first = next((place for place, node in enumerate(graph.node) if changed.intersection(node.input)), 0)
        for place in (first, 0):
            sections = Sections(network, (place,))
            head, tail = sections[0], sections[1]
            self._head = self._session(sections.proto(head, []))
            ends = [self._run(self._head, exam.batches[end]) for end in (0, -1)]
            if all(name in end for end in ends for name in head.hands_on):  # no lists
                break
        incoming = [described(name, [end[name] for end in ends]) for name in head.hands_on]
        self._tail = self._session(sections.proto(tail, incoming))

    def _session(self, part: ModelProto) -> Session | None:
        """A part ready to run, None where it has nothing to give."""
        if not part.graph.output:
            return None
        return Session(part.SerializeToString(), self.exam.providers, effort=Effort(fast=True))

    @staticmethod
    def _run(session: Session | None, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        return {} if session is None else session.run(feeds)

    def right(self, cases: Sequence[Mapping[str, NDArray[Any]]]) -> NDArray[np.float64]:
        """Share of the samples answered rightly with each of several values of the masks and weights."""
        answers: list[list[NDArray[np.int64]]] = [[] for _ in cases]
        for batch in self.exam.batches:
            handed = self._run(self._head, batch)
            for case, given in zip(answers, cases, strict=True):
                found = {**handed, **self._run(self._tail, {**batch, **handed, **given})}
                case.append(self.exam.scores.answers(found[self.exam.scores.output]))
        return np.array([np.mean(np.concatenate(case) == self.exam.labels) for case in answers])
