"""Knows how a network is made ready to be looked into: all floats of 32 bits, biases given, integers laid open."""

from onnxprune.analysis import Analysis, analyse
from onnxprune.errors import ModelError
from onnxprune.graph.index import Index
from onnxprune.graph.model import Model
from onnxprune.options import Options
from onnxprune.prepare.precision import widened
from onnxprune.reconstruct.grids import lay_open
from onnxprune.reconstruct.readers import find_readers, give_biases
from onnxprune.reconstruct.views import Workpiece
from onnxprune.shapes.infer import forget_claims, infer_shapes

__all__ = ["require_alike", "workpiece"]


def workpiece(model: Model, options: Options) -> Workpiece:
    """Make ready to be looked into: a copy in float32, with biases, and what is found out about it.

    Parameters
    ----------
    model : Model
        As it was analysed; not changed.
    options : Options

    Returns
    -------
    Workpiece
    """
    model = model.copy()
    index = Index(model.proto)
    give_biases(model.proto, index, infer_shapes(index, model.skeleton(), options.input_shapes))
    proto = widened(model)
    grids = lay_open(proto)
    own = analyse(Model(proto), options)
    readers = find_readers(own.index, own.shapes, own.coupling, grids)
    forget_claims(own.model.proto)
    return Workpiece(own.model.proto, own.index, own.shapes, own.coupling, readers)


def require_alike(analysis: Analysis, work: Workpiece) -> None:
    """Make sure that a network has the same groups in float32 and with biases.

    Raises
    ------
    ModelError
        If it has others.
    """
    own, made = ([(group.name, group.size) for group in each.coupling.groups] for each in (analysis, work))
    if own != made:
        different = next(iter(dict.fromkeys([*own, *made]).keys() - (set(own) & set(made))), ("their order", 0))
        raise ModelError(f"in float32 the network has other groups of channels, as {different[0]!r} shows")
