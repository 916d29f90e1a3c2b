"""Losses, as nodes behind a network's output; the gradient then needs no formula of its own for them.

    entropy    −Σ log p(class), p = softmax of the scores      targets: classes, whole numbers
    kl         Σ q (log q − log p), q = softmax of the targets  targets: scores
    square     Σ (y − t)²                                        targets: values
    total      Σ y

All are sums over the samples, so that the gradient of one sample does not depend on the others.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from onnx import ModelProto, TensorProto, helper

from onnxprune.errors import UsageError
from onnxprune.gradient.builder import Builder

__all__ = ["KINDS", "Loss", "with_loss"]

KINDS = ("entropy", "kl", "square", "total")
_TINY = 1e-30


@dataclass(frozen=True)
class Loss:
    """What is differentiated.

    Attributes
    ----------
    kind : {"entropy", "kl", "square", "total"}
    output : str
        The tensor that it is of.
    axis : int
        Of the classes, for the first two.
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
    every = list(range(rank))
    if loss.kind == "total":
        return b.reduce_sum(b.add(output, 0.0), every, keep=False), ""
    axis, kind = loss.axis % max(rank, 1), b.types[output]
    targets = b.fresh("targets")
    number = TensorProto.INT64 if loss.kind == "entropy" else kind
    own = [size for place, size in enumerate(sizes) if loss.kind != "entropy" or place != axis]
    proto.graph.input.append(helper.make_tensor_value_info(targets, number, own))
    b.types[targets] = number
    if loss.kind == "square":
        return b.reduce_sum(b.square(b.sub(output, targets)), every, keep=False), targets
    certain = b.op("Log", b.op("Max", output, _TINY)) if loss.probabilities else b.op("LogSoftmax", output, axis=axis)
    if loss.kind == "entropy":
        found = b.op("GatherElements", certain, b.unsqueeze(targets, [axis]), axis=axis)
        return b.op("Neg", b.reduce_sum(found, every, keep=False)), targets
    wanted = b.op("LogSoftmax", targets, axis=axis)
    gap = b.mul(b.op("Exp", wanted), b.sub(wanted, certain))
    return b.reduce_sum(gap, every, keep=False), targets
