"""Losses, as nodes behind a network's output; the gradient then needs no formula of its own for them.

    entropy    −Σ log p(class), p = softmax of the scores      targets: classes, whole numbers
    prediction −Σ log max p, the class being that which the network itself gives
    kl         Σ q (log q − log p), q = softmax of the targets  targets: scores
    square     Σ (y − t)²                                        targets: values
    total      Σ y

All are sums over the samples, so that the gradient of one sample does not depend on the others. Where a target is no
class, such as −1 or 255, there is no loss.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from onnx import ModelProto, TensorProto, helper

from onnxprune.errors import UsageError
from onnxprune.gradient.builder import Builder

__all__ = ["KINDS", "Loss", "with_loss"]

KINDS = ("entropy", "prediction", "kl", "square", "total")
_TINY = 1e-30


@dataclass(frozen=True)
class Loss:
    """What is differentiated.

    Attributes
    ----------
    kind : {"entropy", "prediction", "kl", "square", "total"}
    output : str
        The tensor that it is of.
    axis : int
        Of the classes, for the first three.
    probabilities : bool
        Whether the output is softmax of scores already.
    """

    kind: str
    output: str
    axis: int = -1
    probabilities: bool = False


def with_loss(proto: ModelProto, loss: Loss, builder: Builder, sizes: Sequence[int | str]) -> tuple[str, str]:
    """Put a loss behind a network, in place.

    Parameters
    ----------
    proto : ModelProto
    loss : Loss
    builder : Builder
        Of it.
    sizes : sequence of int or str
        Of the output, names for those that follow the inputs'.

    Returns
    -------
    str
        Name of the loss, a number.
    str
        Name of the input for targets; empty where there are none.

    Raises
    ------
    UsageError
        If there is no such loss.
    """
    if loss.kind not in KINDS:
        raise UsageError(f"no loss {loss.kind!r}: choose from {', '.join(KINDS)}")
    b, output = builder, loss.output
    rank = len(sizes)
    if loss.kind == "total":
        return b.total(output), ""
    axis, kind = loss.axis % max(rank, 1), b.types[output]
    if loss.kind == "prediction":
        return b.op("Neg", b.total(b.largest(_logarithms(b, loss, axis), [axis]))), ""
    targets = b.fresh("targets")
    number = TensorProto.INT64 if loss.kind == "entropy" else kind
    own = [size for place, size in enumerate(sizes) if loss.kind != "entropy" or place != axis]
    proto.graph.input.append(helper.make_tensor_value_info(targets, number, own))
    b.types[targets] = number
    if loss.kind == "square":
        return b.total(b.square(b.sub(output, targets))), targets
    certain = _logarithms(b, loss, axis)
    if loss.kind == "entropy":
        return b.op("Neg", b.total(_of_classes(b, certain, b.unsqueeze(targets, [axis]), axis))), targets
    wanted = b.op("LogSoftmax", targets, axis=axis)
    return b.total(b.mul(b.op("Exp", wanted), b.sub(wanted, certain))), targets


def _logarithms(b: Builder, loss: Loss, axis: int) -> str:
    """Logarithms of the probabilities."""
    if loss.probabilities:
        return b.op("Log", b.op("Max", loss.output, _TINY))
    return b.op("LogSoftmax", loss.output, axis=axis)


def _of_classes(b: Builder, values: str, classes: str, axis: int) -> str:
    """What stands at the classes, zero where there is no such class."""
    above, below = b.compare("GreaterOrEqual", classes, 0), b.compare("Less", classes, b.size(values, axis))
    known = b.compare("And", above, below)
    return b.where(known, b.op("GatherElements", values, b.where(known, classes, 0), axis=axis), 0.0)
