"""What calibration data is used for: evidence of what channels are worth, and readers that are solved anew."""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, numpy_helper

from onnxprune.analysis import Analysis, analyse
from onnxprune.coupling import Group
from onnxprune.graph.index import Index
from onnxprune.graph.model import Model
from onnxprune.graph.tensors import holders, payload_bytes
from onnxprune.options import Options
from onnxprune.prepare.precision import has_other_floats, widen
from onnxprune.reconstruct.evidence import Data, Evidence, gather
from onnxprune.reconstruct.readers import find_readers, give_biases
from onnxprune.reconstruct.sequence import Reconstruction, Select, Workpiece, reconstruct
from onnxprune.shapes.infer import infer_shapes

__all__ = ["LARGEST", "Refiner", "write_solved"]

_log = logging.getLogger(__name__)

LARGEST = 1.5e9
"""Bytes of weights up to which a network is refined: it is held in memory, in float32, three times."""

_WIDEST = 6144
"""Columns up to which a reader is solved anew: its moments are a matrix of that order."""


@dataclass(frozen=True)
class Refiner:
    """A network, and data to run it on.

    Attributes
    ----------
    model : Model
        As it was analysed; not changed.
    options : Options
    data : Data
    """

    model: Model
    options: Options
    data: Data

    @cached_property
    def work(self) -> Workpiece:
        """A copy in float32, with biases, and its readers."""
        model = self.model.copy()
        index = Index(model.proto)
        give_biases(model.proto, index, infer_shapes(index, model.skeleton(), self.options.input_shapes))
        proto = _plain(model)
        own = analyse(Model(proto), self.options)
        readers = [r for r in find_readers(own.index, own.shapes, own.coupling) if r.units.shape[1] <= _WIDEST]
        return Workpiece(own.model.proto, own.index, own.shapes, own.coupling, readers)

    def evidence(self) -> Iterator[tuple[Group, Evidence]]:
        """Yield what the data says of each group, in the groups' order."""
        work = self.work
        weights = {reader.weight: work.stored(reader.weight) for reader in work.readers}
        return gather(work.proto, work.coupling, work.readers, weights, self.data)

    def reconstruct(self, kept: Mapping[str, NDArray[np.int64]], selects: Mapping[str, Select]) -> Reconstruction:
        """Solve readers anew; see `reconstruct`."""
        return reconstruct(self.work, kept, selects, self.data)


def _plain(model: Model) -> ModelProto:
    """Make all floats float32, and put all weights into the protobuf."""
    if has_other_floats(model.proto):
        weights = widen(model)
        for tensor in model.proto.graph.initializer:
            if tensor.name in weights:
                tensor.CopyFrom(numpy_helper.from_array(np.asarray(weights[tensor.name]), tensor.name))
    return model.materialise()


def is_small(model: Model) -> bool:
    """Tell whether a network can be refined at all."""
    return sum(payload_bytes(holder.tensor) for holder in holders(model.proto)) <= LARGEST


def write_solved(model: Model, analysis: Analysis, result: Reconstruction) -> None:
    """Give a network, in place, the weights and biases that its readers have been solved for.

    Parameters
    ----------
    model : Model
        As it was analysed.
    analysis : Analysis
        Of it.
    result : Reconstruction
    """
    index = Index(model.proto)
    give_biases(model.proto, index, analysis.shapes, result.solved.keys())
    stored = {tensor.name: tensor for tensor in model.proto.graph.initializer}
    stored |= {name: tensor for name, tensor in Index(model.proto).weights.items() if name not in stored}
    for solved in result.solved.values():
        values = {solved.reader.weight: solved.weight}
        if solved.bias is not None:
            values[solved.reader.bias] = solved.bias
        for name, value in values.items():
            tensor = stored[name]
            cast = value.reshape(tuple(tensor.dims)).astype(model.array(tensor).dtype)
            model.replace(tensor, cast.shape, partial(np.asarray, cast))
