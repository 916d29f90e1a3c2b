"""What scale of pictures a network expects, found from what it keeps of its training and from how it answers.

Every scale that is in use is tried on some pictures. Where BatchNormalization is kept in the graph, that is taken whose
pictures have the means and variances m, v that it has stored as μ, σ²: the mean of ``½ log²(v/σ²) + (m − μ)²/σ²`` is
the least. Else a network at the right scale gives many different answers, is not sure of all of them, and its layers
are balanced: the entropy of its mean prediction is high, and |mean| / deviation of what its layers compute is low.
"""

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto

from onnxprune.calibrate.calibration import Network, Slot, Slots
from onnxprune.calibrate.feeds import Feeds, random_feeds
from onnxprune.calibrate.layout import channel_axis, picture_sizes
from onnxprune.calibrate.scale import COLOURED, GREY, Scale
from onnxprune.errors import ModelError
from onnxprune.graph.staged import open_session

__all__ = ["answers_of", "fed", "find_scale", "misfit", "scaled", "shares"]

# Layers that are looked at, and positions of each in a batch.
_LAYERS, _POSITIONS = 6, 4096
# What imbalance, and what all answers together say of each, count against the entropy of the mean prediction; how sure
# of made-up pictures a network is only where the scale is wrong; and how much a scale of whole bytes, which is rare and
# drowns the biases that keep layers balanced, has to fit better. Chosen on fifteen trained networks.
_IMBALANCE, _INFORMATION, _OVERSURE, _RARE = 2.0, 0.25, 0.1, 0.6
_FAR = 3.0
# ImageNet's classes and one for the background.
_WITH_BACKGROUND = 1001
_AFFINE = ("Sub", "Add", "Mul", "Div")
_CARRIED = ("Cast", "Transpose", "Identity", "Reshape")


def scaled(pictures: NDArray[np.float32], slot: Slot, scale: Scale) -> NDArray[np.generic]:
    """Turn pictures of 0 to 255, colours first, into what an input takes."""
    values = scale.apply(pictures, -3)
    if channel_axis(slot) == -1:
        values = np.moveaxis(values, 1, -1)
    return np.ascontiguousarray(values.reshape(-1, *slot.one[1:]), dtype=slot.dtype)


def fed(network: Network, slot: Slot, pictures: NDArray[np.generic], scale: Scale) -> Iterator[Feeds]:
    """Yield pictures of 0 to 255 as a network takes them, in its batches, with random values for its other inputs."""
    slots = Slots.of(network)
    beside = _others(network, slots, slot)
    for first in range(0, len(pictures) - slots.batch + 1 if slots.fixed else len(pictures), slots.batch):
        batch = pictures[first : first + slots.batch].astype(np.float32)
        yield beside | {slot.name: scaled(batch, slot, scale)}


def _others(network: Network, slots: Slots, slot: Slot) -> Feeds:
    if len(slots.inputs) == 1:
        return {}
    one = {other.name: other.one for other in slots.inputs}
    return random_feeds(network.index, network.shapes, np.random.default_rng(0), one)


def answers_of(network: Network) -> list[str]:
    """Return the first output that is a list of numbers per sample, as scores of classes are; none where none is."""
    return [name for name in network.index.outputs if len(network.shapes.shapes.get(name, ())) == 2][:1]


def find_scale(network: Network, slot: Slot, pictures: NDArray[np.float32]) -> tuple[Scale, str]:
    """Choose a scale for the pictures of an input.

    Parameters
    ----------
    network : Network
    slot : Slot
        The input.
    pictures : ndarray (n, colours, height, width)
        From 0 to 255.

    Returns
    -------
    Scale
    str
        What was found, for the report.
    """
    candidates = COLOURED if pictures.shape[1] == 3 else GREY
    told = _told(network, slot, candidates) or _quantised(network, slot, candidates)
    if told is not None:
        return told, f"pictures are fed as {told.name}: the graph's first operators tell"
    if [network.shapes.shapes.get(name, ())[-1:] for name in network.index.outputs] == [(_WITH_BACKGROUND,)]:
        usual = next(scale for scale in candidates if scale.name == "-1 to 1")
        return usual, f"pictures are fed as {usual.name}, as networks of 1001 classes take them: TensorFlow's"
    try:
        judged = list(_judged(network, slot, pictures, candidates))
    except ModelError:
        # It may not run at all; who runs it for its result says so.
        return candidates[0], f"pictures are fed as {candidates[0].name}, as most networks take them"
    values = [value for value, _ in judged]
    best = candidates[int(np.argmin(values))]
    if not np.isfinite(min(values)):
        return candidates[0], f"pictures are fed as {candidates[0].name}, as most networks take them"
    return best, f"pictures are fed as {best.name}: {judged[0][1]} fit best of {len(candidates)} scales in use"


def misfit(network: Network, slot: Slot, pictures: NDArray[np.float32], scale: Scale) -> float | None:
    """Tell how far pictures are from the statistics that BatchNormalization has stored; None where there are none.

    Parameters
    ----------
    network : Network
    slot : Slot
        The input.
    pictures : ndarray (n, colours, height, width)
        From 0 to 255.
    scale : Scale

    Returns
    -------
    float or None
    """
    if not any(_keeps_statistics(network, node) for node in network.index.nodes):
        return None
    ((found, _),) = _judged(network, slot, pictures, (scale,))
    return found


def _told(network: Network, slot: Slot, candidates: tuple[Scale, ...]) -> Scale | None:
    """Read the scale off operators that shift and divide an input before anything else is done to it."""
    index, name, low, high, found = network.index, slot.name, 0.0, 255.0, False
    while True:
        readers = index.consumers.get(name, [])
        node = index.nodes[readers[0].node] if len(readers) == 1 else None
        if node is None or node.op_type not in (*_AFFINE, *_CARRIED):
            break
        if node.op_type in _AFFINE:
            other = node.input[1 - readers[0].input]
            if other not in index.weights or readers[0].input != 0:
                break
            value = float(np.mean(network.model.array(index.weights[other])))
            low, high = (_affine(node, x, value) for x in (low, high))
            found = True
        name = node.output[0]
    if not found:
        return None
    wanted = "0 to 255" if max(abs(low), abs(high)) < 8 else "0 to 1"
    return next(scale for scale in candidates if scale.name == wanted)


def _quantised(network: Network, slot: Slot, candidates: tuple[Scale, ...]) -> Scale | None:
    """Take the scale whose black and white are nearest to the ends of what an input is quantised to, if it is."""
    index, stored = network.index, network.index.weights
    nodes = [index.nodes[edge.node] for edge in index.consumers.get(slot.name, [])]
    if (
        len(nodes) != 1
        or nodes[0].op_type != "QuantizeLinear"
        or not all(name in stored for name in nodes[0].input[1:])
    ):
        return None
    step, *zero = (network.model.array(stored[name]).ravel() for name in nodes[0].input[1:])
    if step.size != 1 or (zero and zero[0].dtype.itemsize != 1):
        return None
    offset = int(zero[0][0]) if zero else 0
    kinds = np.iinfo(zero[0].dtype if zero else np.uint8)
    ends = np.array([float(step[0]) * (bound - offset) for bound in (kinds.min, kinds.max)])
    colours = picture_sizes(slot)[0] if channel_axis(slot) is not None else 1
    black_and_white = np.broadcast_to(np.array([0.0, 255.0])[:, None, None, None], (2, colours, 1, 1))

    def gap(scale: Scale) -> float:
        made = scale.apply(black_and_white, -3).reshape(2, -1)
        return float(np.abs(np.array([made[0].min(), made[1].max()]) - ends).sum() / (ends[1] - ends[0]))

    return min(candidates, key=gap)


def _affine(node: NodeProto, x: float, value: float) -> float:
    match node.op_type:
        case "Sub":
            return x - value
        case "Add":
            return x + value
        case "Mul":
            return x * value
    return x / value if value else math.inf


def _judged(
    network: Network, slot: Slot, pictures: NDArray[np.float32], candidates: tuple[Scale, ...]
) -> Iterator[tuple[float, str]]:
    """Yield for each scale how little it fits, and by what that was judged."""
    norms = [node for node in network.index.nodes if _keeps_statistics(network, node)][:_LAYERS]
    layers = [node.output[0] for node in network.index.nodes if node.op_type in ("Conv", "Gemm", "MatMul")]
    taps = [node.input[0] for node in norms]
    if not norms:
        inner = [name for name in layers if name not in network.index.outputs and name in network.shapes.shapes]
        taps = [inner[number * len(inner) // min(_LAYERS, len(inner))] for number in range(min(_LAYERS, len(inner)))]
    answers = answers_of(network)
    model = network.model.copy()
    known = {value.name for value in model.proto.graph.output}
    for name in dict.fromkeys(taps):
        if name not in known:
            model.proto.graph.output.add(name=name)
    session = open_session(model, network.providers)
    for scale in candidates:
        runs = []
        for feeds in fed(network, slot, pictures, scale):
            found = session.run(feeds, list(dict.fromkeys([*taps, *answers])))
            runs.append({**found, **{name: _columns(found[name]) for name in taps}})
        if norms:
            yield _distance(network, norms, runs), "the statistics that BatchNormalization has stored"
        else:
            rare = _RARE if max(scale.std) < 0.01 else 0.0
            yield _unlikely(runs, taps, answers) + rare, "the balance of its layers and the variety of its answers"


def _keeps_statistics(network: Network, node: NodeProto) -> bool:
    return node.op_type == "BatchNormalization" and all(name in network.index.weights for name in node.input[3:5])


def _columns(value: NDArray[np.generic]) -> NDArray[np.float64]:
    """What a layer computed, one column per channel, at some positions where there are many."""
    if value.ndim > 2:
        flat = value.reshape(*value.shape[:2], -1)
        flat = flat[:, :, :: -(-len(flat) * flat.shape[2] // _POSITIONS)]
        value = flat.transpose(0, 2, 1).reshape(-1, flat.shape[1])
    return value.astype(np.float64)


def _together(runs: list[Feeds], name: str) -> NDArray[np.float64]:
    return np.concatenate([np.asarray(run[name], np.float64) for run in runs])


def _distance(network: Network, norms: list[NodeProto], runs: list[Feeds]) -> float:
    far = []
    for node in norms:
        mean, variance = (network.model.array(network.index.weights[name]) for name in node.input[3:5])
        columns = _together(runs, node.input[0])
        ratio = np.log((columns.var(axis=0) + 1e-5) / (variance + 1e-5))
        far.append(np.mean(ratio**2 / 2 + (columns.mean(axis=0) - mean) ** 2 / (variance + 1e-5)))
    return float(np.mean(far))


def _unlikely(runs: list[Feeds], taps: list[str], answers: list[str]) -> float:
    imbalance = [0.0]
    for name in taps:
        columns = _together(runs, name)
        # Channels that never change say nothing of the scale, however far from zero they are.
        shift = np.abs(columns.mean(axis=0)) / (columns.std(axis=0) + 1e-9)
        imbalance.append(float(np.minimum(shift, _FAR).mean()))
    value = _IMBALANCE * float(np.mean(imbalance[1:] or imbalance))
    for name in answers:
        every = _together(runs, name)
        if not every.size:  # a list of what was found, which is nothing
            continue
        found = shares(every)
        most = max(math.log(min(found.shape)), 1e-9)
        together, alone = _entropy(found.mean(axis=0)) / most, _entropy(found).mean() / most
        value += (alone < _OVERSURE) - together - _INFORMATION * (together - alone)
    return float(value) if math.isfinite(value) else math.inf


def _entropy(found: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(-(found * np.log(found + 1e-12)).sum(axis=-1))


def shares(answers: NDArray[np.float64]) -> NDArray[np.float64]:
    """Probabilities of classes; answers that are some already stay as they are."""
    if answers.min() >= 0 and np.allclose(answers.sum(axis=1), 1, atol=1e-3):
        return answers
    powers = np.exp(answers - answers.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))
