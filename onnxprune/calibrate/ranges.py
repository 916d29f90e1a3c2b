"""How large the numbers are that an input takes, where the first operators or layers tell."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto

from onnxprune.calibrate.calibration import Network, Slot

__all__ = ["Range", "range_of"]

_MOVES = frozenset(["Cast", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Transpose"])


@dataclass(frozen=True)
class Range:
    """Numbers by a normal distribution, cut off at the ends of an interval.

    Attributes
    ----------
    mean, deviation : ndarray
        Of shapes that an input's spreads to.
    low, high : float
    note : str
        What tells, for the report.
    """

    mean: NDArray[np.float64]
    deviation: NDArray[np.float64]
    low: float
    high: float
    note: str

    def draw(self, shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.float64]:
        """Draw an array."""
        drawn = self.mean + self.deviation * rng.standard_normal(shape)
        return np.asarray(np.clip(drawn, self.low, self.high))


_STANDARD = Range(np.zeros(()), np.ones(()), -np.inf, np.inf, "normal numbers of mean 0 and deviation 1")


def range_of(network: Network, slot: Slot) -> Range:
    """Find the range of an input.

    A Clip in front of everything else gives the interval, and its middle; a shift and a divisor are taken for the mean
    and deviation that inputs were normalised by; so are the statistics of a BatchNormalization.
    """
    index, name = network.index, slot.name
    mean, deviation, found = np.zeros(()), np.ones(()), False
    for _ in range(8):
        readers = index.consumers.get(name, [])
        node = index.nodes[readers[0].node] if len(readers) == 1 and readers[0].input == 0 else None
        if node is None:
            break
        values = _values(network, node)
        if node.op_type == "Clip" and not found and len(values) == 2:
            return _interval(float(values[0].min()), float(values[1].max()))
        if node.op_type == "BatchNormalization" and len(values) == 4 and not found:
            return _stored(values[2], values[3], slot)
        if node.op_type not in ("Sub", "Add", "Mul", "Div") or len(values) != 1:
            if node.op_type not in _MOVES:
                break
        elif node.op_type in ("Sub", "Add"):
            shift = values[0] if node.op_type == "Sub" else -values[0]
            mean, found = mean + shift * deviation, True
        else:
            divisor = np.where(values[0] == 0, 1, values[0])
            deviation, found = deviation * (np.abs(divisor) if node.op_type == "Div" else 1 / np.abs(divisor)), True
        name = node.output[0]
    if not found or not _spreads(mean, slot) or not _spreads(deviation, slot):
        return _STANDARD
    return Range(
        mean, deviation, -np.inf, np.inf, "normal numbers that the first operators bring to mean 0 and deviation 1"
    )


def _values(network: Network, node: NodeProto) -> list[NDArray[np.float64]]:
    """What a node reads besides its first input, where all of it is stored."""
    others = [name for name in node.input[1:] if name]
    if not all(name in network.index.weights for name in others):
        return []
    return [np.asarray(network.model.array(network.index.weights[name]), np.float64) for name in others]


def _interval(low: float, high: float) -> Range:
    if not (np.isfinite(low) and np.isfinite(high) and low < high):
        return _STANDARD
    middle, deviation = np.asarray((low + high) / 2), np.asarray((high - low) / 4)
    return Range(middle, deviation, low, high, f"normal numbers within {low:g} and {high:g}, where the network clips")


def _stored(mean: NDArray[np.float64], variance: NDArray[np.float64], slot: Slot) -> Range:
    ends = (1,) * (len(slot.shape) - 2)
    if len(slot.shape) < 2 or mean.size != slot.shape[1]:
        return _STANDARD
    deviation = np.sqrt(np.maximum(variance, 0)).reshape(-1, *ends)
    note = "normal numbers of the means and deviations that BatchNormalization has stored"
    return Range(mean.reshape(-1, *ends), deviation, -np.inf, np.inf, note)


def _spreads(values: NDArray[np.float64], slot: Slot) -> bool:
    try:
        return np.broadcast_shapes(values.shape, slot.one) == slot.one and bool(np.isfinite(values).all())
    except ValueError:
        return False
