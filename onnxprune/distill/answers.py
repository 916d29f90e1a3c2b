"""What a network answers, and how far the answers of another are from it, as nodes behind that other.

    numbers  E (y − t)² / Var t
    scores   E Σ q (log q − log p) · 2 / Var,  p and q softmax of y/τ and t/τ, τ half the deviation of t's scores

y are the answers and t the original's. Scores are what Softmax makes probabilities of, or what a network gives for
every entry of a table that its inputs are looked up in. At such a temperature the second best counts, too (Hinton et
al. 2015): what the original is sure of tells little else.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, ValueInfoProto, helper

from onnxprune.calibrate.feeds import looked_up
from onnxprune.gradient.builder import Builder
from onnxprune.gradient.rule import FLOATS
from onnxprune.graph.index import Index, attributes
from onnxprune.salience.ends import ends
from onnxprune.shapes.infer import Shapes

__all__ = ["Answer", "answers_of", "graded", "with_distance"]

_HANDED_ON = frozenset(["Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Cast"])
_SOFTMAX = frozenset(["Softmax", "LogSoftmax"])
_COERCED = 13
"""Operator set from which on Softmax is taken along one axis, and not over all from one on."""
_TEMPERATURE = 0.5
"""Of scores, in terms of their deviation."""


@dataclass(frozen=True)
class Answer:
    """A tensor that tells what a network makes of its inputs.

    Attributes
    ----------
    tensor : str
    axis : int or None
        Of the scores; None for other numbers.
    spread : float
        Standard deviation of the original's: of scores within a row, of numbers over all.
    """

    tensor: str
    axis: int | None
    spread: float = 1.0


def answers_of(index: Index, shapes: Shapes) -> list[Answer]:
    """Find where a network's answers are compared.

    Parameters
    ----------
    index, shapes
        The network.

    Returns
    -------
    list of Answer
        One per output of floats, or number that a decision is made of.
    """
    told = [name for name in index.outputs if shapes.types.get(name) in FLOATS]
    told += [value.name for value in ends(index, shapes)]
    sizes = {looked_up(index, shapes, name) for name in index.inputs} - {None}
    found = dict[str, Answer]()
    for name in told:
        answer = _scores_behind(name, index, shapes)
        if answer is None:
            shape = shapes.shapes.get(name, ())
            answer = Answer(name, len(shape) - 1 if len(shape) > 2 and shape[-1] in sizes else None)
        found.setdefault(answer.tensor, answer)
    return list(found.values())


def _scores_behind(name: str, index: Index, shapes: Shapes) -> Answer | None:
    """The scores that an output is probabilities of, if it is."""
    while name in index.producer:
        node = index.nodes[index.producer[name]]
        if node.op_type in _SOFTMAX:
            rank, given = len(shapes.shapes.get(node.input[0], ())), attributes(node)
            first = 1 if index.opsets.get("", _COERCED) < _COERCED else -1
            axis = (given["axis"].i if "axis" in given else first) % max(rank, 1)
            along = index.opsets.get("", _COERCED) >= _COERCED or axis == rank - 1
            return Answer(node.input[0], axis) if along and rank else None
        if node.op_type not in _HANDED_ON:
            return None
        name = node.input[0]
    return None


def graded(answers: Sequence[Answer], runs: Sequence[Mapping[str, NDArray[Any]]]) -> Iterator[Answer]:
    """Find out how far the original's answers spread; those that are always the same, or not finite, tell nothing.

    Parameters
    ----------
    answers : sequence of Answer
    runs : sequence of mapping of str to ndarray
        What the original gives for some samples, batch by batch.

    Yields
    ------
    Answer
    """
    for answer in answers:
        values = [run[answer.tensor].astype(np.float64) for run in runs]
        flat = np.concatenate([value.ravel() for value in values])
        if flat.size and np.isfinite(flat).all():
            axis = answer.axis
            rows = [] if axis is None else [value.std(axis=axis).ravel() for value in values]
            spread = float(flat.std() if axis is None else np.concatenate(rows).mean())
            if spread > 1e-6 * np.abs(flat).max():
                yield Answer(answer.tensor, axis, spread)


def with_distance(proto: ModelProto, answers: Sequence[Answer], shapes: Shapes) -> tuple[str, dict[str, str]]:
    """Put the distance of a network's answers from others behind it, in place.

    Parameters
    ----------
    proto : ModelProto
        Of operator set 17 or above.
    answers : sequence of Answer
    shapes : Shapes
        Of it.

    Returns
    -------
    str
        Name of the distance, a number.
    dict of str to str
        Input for the other answers, by the tensor that they are compared with.
    """
    index, types = Index(proto), dict(shapes.types)
    taken = {*types, *index.weights, *(name for node in index.nodes for name in (*node.input, *node.output, node.name))}
    b = Builder(index.opsets.get("", 0), taken, types, "distill/")
    targets, parts = dict[str, str](), list[str]()
    for answer in answers:
        targets[answer.tensor] = target = b.fresh(f"target_{answer.tensor}")
        key, sizes = answer.tensor, shapes.shapes[answer.tensor]
        named = [size if shapes.is_static((key, axis)) else f"{target}_{axis}" for axis, size in enumerate(sizes)]
        proto.graph.input.append(helper.make_tensor_value_info(target, types[answer.tensor], named))
        types[target] = types[answer.tensor]
        if answer.axis is None:
            parts.append(
                b.mul(b.op("ReduceMean", b.square(b.sub(answer.tensor, target)), keepdims=0), answer.spread**-2)
            )
            continue
        heat = 1.0 / (_TEMPERATURE * answer.spread)
        wanted, certain = (b.op("LogSoftmax", b.mul(name, heat), axis=answer.axis) for name in (target, answer.tensor))
        rows = b.reduce_sum(b.mul(b.op("Exp", wanted), b.sub(wanted, certain)), [answer.axis], keep=False)
        parts.append(b.mul(b.op("ReduceMean", rows, keepdims=0), 2 * _TEMPERATURE**2))
    name = b.add(*parts) if len(parts) > 1 else b.op("Identity", *parts)
    proto.graph.node.extend(b.nodes)
    proto.graph.initializer.extend(b.constants.values())
    proto.graph.output.append(ValueInfoProto(name=name))
    return name, targets
