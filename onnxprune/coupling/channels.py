"""A group's weights as plain arrays, the way methods see channels: rows that write them, slices that read them.

The scale and shift of a BatchNormalization that follows a writer are folded into its rows: w·γ/σ, (b − μ)·γ/σ + β.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto

from onnxprune.coreset.norms import Reals
from onnxprune.coupling.dequantise import Dequantiser
from onnxprune.coupling.groups import Coupling, Group
from onnxprune.coupling.scales import multiplied
from onnxprune.errors import ModelError
from onnxprune.graph.index import Index, attributes, node_site
from onnxprune.graph.tensors import is_external
from onnxprune.methods import Channels
from onnxprune.ops.pointwise import ACTIVATIONS
from onnxprune.ops.trace import Block, Role, Use

__all__ = ["ChannelReader", "activation_parameters"]

Floats = NDArray[np.float64]
_PART = 1 << 18
_FOLLOWED = 8
_TRANSPARENT = frozenset({"Cast", "DequantizeLinear", "Identity", "QuantizeLinear"})

# Parameters of activations that the operators define by attributes, in the order of `coreset.activations.PARAMETERS`.
_DEFAULTS: dict[str, dict[str, float]] = {
    "LeakyRelu": {"alpha": 0.01},
    "Elu": {"alpha": 1.0},
    "Celu": {"alpha": 1.0},
    "HardSigmoid": {"alpha": 0.2, "beta": 0.5},
    "Selu": {"alpha": 1.6732632423543772, "gamma": 1.0507009873554805},
    "ThresholdedRelu": {"alpha": 1.0},
    "Swish": {"alpha": 1.0},
}


@dataclass(frozen=True)
class _Tail:
    """What follows a writer: scale and shift per output channel, and the activation with its parameters."""

    scale: Floats | None
    shift: Floats | None
    activation: str = ""
    parameters: tuple[float, ...] = ()


class _OnDemand(Sequence[Reals]):
    """Arrays made whenever they are asked for, so that no more of them are in memory than are in use."""

    def __init__(self, makers: Sequence[Callable[[], Reals]]) -> None:
        self._makers = makers

    def __len__(self) -> int:
        return len(self._makers)

    @overload
    def __getitem__(self, place: int) -> Reals: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[Reals]: ...
    def __getitem__(self, place: int | slice) -> Reals | Sequence[Reals]:
        return _OnDemand(self._makers[place]) if isinstance(place, slice) else self._makers[place]()


class ChannelReader:
    """Turns groups into arrays.

    Parameters
    ----------
    coupling, index
        The network.
    read : callable
        Value of a stored tensor by name.
    """

    def __init__(self, coupling: Coupling, index: Index, read: Callable[[str], NDArray[Any]]) -> None:
        self.coupling = coupling
        self.index = index
        self.read = read
        self.quantised = Dequantiser(coupling.trace, index, read)
        self.place = np.zeros(int(coupling.unit_of.max(initial=-1)) + 1, dtype=np.int64)
        for group in coupling.groups:
            self.place[group.units] = np.arange(group.size)
        self.finite: set[tuple[str, bool]] = set()
        self.by_use: dict[Use, list[Block]] = defaultdict(list)
        for block in coupling.trace.blocks:
            if block.use is not None:
                self.by_use[block.use].append(block)

    def channels(self, group: Group, scales: Floats | None = None) -> Channels:
        """Collect everything that writes and reads the channels of a group.

        Parameters
        ----------
        group : Group
        scales : ndarray (2, units), optional
            What has become of other groups: factors of the positive and the negative weights that read each unit, zero
            where it is gone. Rows have lost its columns then, and readers their outputs.

        Returns
        -------
        Channels

        Raises
        ------
        ModelError
            If a weight is not finite.
        """
        incoming: list[Callable[[], Reals]] = []
        outgoing: list[Callable[[], Reals]] = []
        biases = []
        activation, parameters = "", tuple[float, ...]()
        seen: set[tuple[str, tuple[int, ...], tuple[int, ...], Role]] = set()
        for number in group.blocks:
            block = self.coupling.trace.blocks[number]
            # What is used twice is one weight: a stored tensor of which parts are put together in another order.
            if block.use is None or (key := (block.use.tensor, block.use.view, block.axes, block.role)) in seen:
                continue
            seen.add(key)
            read = self._checked(block)
            numbers = partial(self._numbers, block, read, scales)
            if block.role is Role.READS:
                outgoing.append(partial(self._reads, group, block, numbers))
            elif block.role is Role.WRITES:
                tail = self._tail(block)
                incoming.append(partial(self._writes, group, block, numbers, tail.scale))
                if tail.shift is not None and tail.shift.size == block.size:
                    biases.append(tail.shift[self._positions(group, block)].sum(axis=1))
                if not activation:
                    activation, parameters = tail.activation, tail.parameters
        bias = np.sum(biases, axis=0) if biases else None
        return Channels(_OnDemand(incoming), bias, _OnDemand(outgoing), activation, group.rows, parameters)

    def _checked(self, block: Block) -> Callable[[], NDArray[Any]]:
        """Return what reads a weight; it is checked once here, whatever groups it belongs to.

        −∞ is harmless in what is added per channel. What lies on disk is read again whenever it is needed.
        """
        assert block.use is not None
        name, added = block.use.tensor, block.role is Role.CHANNEL
        stays = is_external(self.index.weights[name])
        if stays and (name, added) in self.finite:
            return partial(self.read, name)
        array = self.read(name)
        if (name, added) not in self.finite and not all(_is_sound(part, added=added) for part in _parts(array)):
            raise ModelError(
                f"the weight {name!r} of {node_site(self.index.nodes[block.node])} holds NaN or infinity: repair it, "
                "or leave the node out with --exclude"
            )
        self.finite.add((name, added))
        return partial(self.read, name) if stays else lambda: array

    def _positions(self, group: Group, block: Block) -> NDArray[np.int64]:
        """Positions of a block that belong to the group, unit by unit, (n, times)."""
        units = self.coupling.unit_of[block.start : block.start + block.size]
        chosen = np.flatnonzero(np.isin(units, group.units))
        order = chosen[np.argsort(self.place[units[chosen]], kind="stable")]
        return order.reshape(group.size, -1)

    def _numbers(self, block: Block, read: Callable[[], NDArray[Any]], scales: Floats | None) -> NDArray[Any]:
        """What a weight stands for, as its layer sees it; of integers that share bytes the last axis is longer."""
        assert block.use is not None
        array = self.quantised.numbers(block.use, read())
        array = array.reshape(block.use.view) if array.size == np.prod(block.use.view) else array
        return array if scales is None else self._thinned(array, block.use, scales)

    def _thinned(self, array: NDArray[Any], use: Use, scales: Floats) -> NDArray[Any]:
        """A weight without what has become zero in it, times the factors of what it reads."""
        for block in self.by_use[use]:
            units = self.coupling.unit_of[block.start : block.start + block.size]
            own = scales[:, units]
            if block.role is not Role.READS:
                own = np.broadcast_to(own.any(axis=0), own.shape).astype(np.float64)
            if (own != 1.0).any() and block.size == math.prod(array.shape[axis] for axis in block.axes):
                array = multiplied(array, block.axes, own)
        return array

    def _writes(self, group: Group, block: Block, numbers: Callable[[], NDArray[Any]], scale: Floats | None) -> Reals:
        array = numbers()
        rest = [axis for axis in range(array.ndim) if axis not in block.axes]
        positions = self._positions(group, block)
        rows = _taken(array.transpose([*block.axes, *rest]), (block.size, -1), positions)
        if scale is not None and scale.size == block.size:
            rows = np.multiply(rows, scale[positions][..., None], dtype=rows.dtype, casting="same_kind")
        return rows.reshape(group.size, -1)

    def _reads(self, group: Group, block: Block, numbers: Callable[[], NDArray[Any]]) -> Reals:
        array = numbers()
        assert block.use is not None
        written = [a for other in self.by_use[block.use] if other.role is Role.WRITES for a in other.axes]
        outputs = [axis for axis in written if axis not in block.axes]
        rest = [axis for axis in range(array.ndim) if axis not in block.axes and axis not in outputs]
        table = array.transpose([*block.axes, *outputs, *rest])
        wide = int(np.prod([array.shape[axis] for axis in outputs]))
        slices = _taken(table, (block.size, wide, -1), self._positions(group, block))
        return np.moveaxis(slices, 1, 2).reshape(group.size, wide, -1)

    def _tail(self, block: Block) -> _Tail:
        """Follow a writer to its activation, folding bias and BatchNormalization on the way."""
        scale: Floats | None = None
        shift = self.quantised.bias(block.layer)
        name = self.index.nodes[block.layer].output[0]
        for _ in range(_FOLLOWED):
            edges = self.index.consumers.get(name, [])
            if len(edges) != 1:
                break
            follower = self.index.nodes[edges[0].node]
            if follower.op_type in ACTIVATIONS:
                return _Tail(scale, shift, follower.op_type, activation_parameters(follower, self.quantised.vector))
            if follower.op_type == "BatchNormalization" and scale is None:
                scale, shift = self._fold(block, shift, list(follower.input), attributes(follower))
            elif follower.op_type == "Add" and shift is None and scale is None:
                shift = self.quantised.vector(follower.input[1 - edges[0].input])
            elif follower.op_type not in _TRANSPARENT:
                break
            name = follower.output[0]
        return _Tail(scale, shift)

    def _fold(
        self, block: Block, shift: Floats | None, inputs: list[str], found: dict[str, Any]
    ) -> tuple[Floats | None, Floats | None]:
        vectors = [self.quantised.vector(name) for name in inputs[1:5]]
        if any(vector is None or vector.size != block.size for vector in vectors):
            return None, shift
        gamma, beta, mean, variance = (vector for vector in vectors if vector is not None)
        epsilon = found["epsilon"].f if "epsilon" in found else 1e-5
        scale = gamma / np.sqrt(np.maximum(variance, 0.0) + epsilon)
        own = np.zeros(block.size) if shift is None or shift.size != block.size else shift
        return scale, (own - mean) * scale + beta


def activation_parameters(node: NodeProto, vector: Callable[[str], Floats | None]) -> tuple[float, ...]:
    """Read the parameters of an activation, as `coreset.activations.PARAMETERS` names them.

    Parameters
    ----------
    node : NodeProto
    vector : callable
        Value of a stored vector by name, None for anything else.

    Returns
    -------
    tuple of float
        Limits of a Clip are infinite where they are computed; empty for a PRelu whose slopes are.
    """
    found = attributes(node)
    if node.op_type == "PRelu":
        slopes = vector(node.input[1])
        return () if slopes is None else (float(slopes[np.abs(slopes).argmax()]),)
    if node.op_type == "Clip":
        ends = (("min", 1, -np.inf), ("max", 2, np.inf))
        return tuple(_limit(node, found, vector, *end) for end in ends)
    defaults = _DEFAULTS.get(node.op_type, {})
    return tuple(float(found[name].f) if name in found else value for name, value in defaults.items())


def _limit(
    node: NodeProto,
    found: dict[str, Any],
    vector: Callable[[str], Floats | None],
    name: str,
    place: int,
    unlimited: float,
) -> float:
    """One end of a Clip: an attribute before opset 11, an input since."""
    if name in found:
        return float(found[name].f)
    given = node.input[place] if place < len(node.input) else ""
    values = vector(given) if given else None
    return unlimited if values is None or values.size != 1 else float(values[0])


def _parts(array: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """Pieces of a contiguous array of floats that fit into a processor's cache; nothing of one of integers."""
    flat = array.reshape(-1)
    for start in range(0, flat.size if array.dtype.kind not in "iub" else 0, _PART):
        yield flat[start : start + _PART]


def _is_sound(part: NDArray[Any], *, added: bool) -> bool:
    if np.isfinite(part.astype(np.float32, copy=False)).all():
        return True
    wide = part.astype(np.float64)
    return added and not (np.isnan(wide).any() or np.isposinf(wide).any())


def _taken(table: NDArray[Any], shape: tuple[int, ...], positions: NDArray[np.int64]) -> Reals:
    """Rows of a table, seen with a shape, by number: (n, times, …); a view where all are in order, float32 at least."""
    real = table if table.dtype in (np.float32, np.float64) else table.astype(np.float32)
    rows: Reals = real.reshape(shape)
    if positions.shape[1] == 1 and np.array_equal(positions[:, 0], np.arange(shape[0])):
        return rows[:, None]
    return rows[positions]
