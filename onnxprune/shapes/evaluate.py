"""Values of single nodes by ONNX's reference implementation; arithmetic that every layer repeats is done once."""

import logging
import warnings
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TypeProto
from onnx.reference import ReferenceEvaluator

from onnxprune.graph.index import Index

__all__ = ["Evaluator"]

_log = logging.getLogger(__name__)


class Evaluator:
    """Runs single nodes of a graph.

    Parameters
    ----------
    index : Index
        Its operator sets count.
    """

    def __init__(self, index: Index) -> None:
        self._imports = list(index.proto.opset_import)
        self._seen: dict[Hashable, list[NDArray[Any]]] = {}

    def values(self, node: NodeProto, inputs: Sequence[NDArray[Any] | None]) -> list[NDArray[Any]]:
        """Run a node that draws nothing at random.

        Parameters
        ----------
        node : NodeProto
        inputs : sequence of ndarray or None
            None for an optional one that is not given.

        Returns
        -------
        list of ndarray
            Its outputs, read-only; an empty list where the reference cannot run it.
        """
        if any(value is not None and value.dtype.hasobject for value in inputs):
            return self._run(node, inputs)
        key = (
            node.domain,
            node.op_type,
            tuple(map(bool, node.input)),
            tuple(map(bool, node.output)),
            tuple(attribute.SerializeToString(deterministic=True) for attribute in node.attribute),
            tuple(None if value is None else (value.dtype.str, value.shape, value.tobytes()) for value in inputs),
        )
        if key not in self._seen:
            self._seen[key] = self._run(node, inputs)
        return self._seen[key]

    def _run(self, node: NodeProto, inputs: Sequence[NDArray[Any] | None]) -> list[NDArray[Any]]:
        # Inputs of one name may have values of their own here, as when elements are followed by their numbers.
        alone = NodeProto()
        alone.CopyFrom(node)
        alone.input[:] = [f"{name}_{place}" if name else "" for place, name in enumerate(node.input)]
        given = {name: value for name, value in zip(alone.input, inputs, strict=False) if name and value is not None}
        graph = onnx.helper.make_graph(
            [alone],
            "one",
            [onnx.helper.make_value_info(name, TypeProto()) for name in given],
            [onnx.helper.make_value_info(name, TypeProto()) for name in node.output if name],
        )
        model = onnx.helper.make_model(graph, opset_imports=self._imports)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found = ReferenceEvaluator(model).run(None, given)
        except Exception as error:  # noqa: BLE001  the reference may fail in any way on odd nodes: the value is unknown
            _log.debug("cannot fold %s: %s", node.name, error)
            return []
        values = [np.asarray(value) for value in found]
        for value in values:
            value.setflags(write=False)
        return values
