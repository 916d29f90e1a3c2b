"""Token ids, and what goes with them: masks, positions, segments; text that a language model writes by itself.

Ids are drawn half evenly and half by Zipf's law, ``p(rank) ∝ 1 / (rank + 2.7)``, which words follow; the lowest ids,
where tokenizers put padding, beginning and end, are left out. A network that gives one score per id and position, and
whose scores do not depend on later positions, is a language model: its own predictions are sampled one by one.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from onnxprune.calibrate.calibration import Network, Slot, Slots
from onnxprune.calibrate.feeds import Feeds, looked_up
from onnxprune.errors import ModelError
from onnxprune.graph.staged import open_session

__all__ = ["Tokens", "companion", "draw_tokens", "written"]

# Ids of padding, beginning, end and unknown, where the vocabulary is large enough to have such.
_SPECIAL, _LEAST = 4, 64
# Multiply-accumulates that writing may take: half a minute of one core.
_EFFORT = 1e12
_SHIFT = 2.7


@dataclass(frozen=True)
class Tokens:
    """An input of token ids.

    Attributes
    ----------
    slot : Slot
    vocabulary : int
        Rows of the table that they are looked up in.
    """

    slot: Slot
    vocabulary: int

    @classmethod
    def of(cls, slot: Slot, network: Network) -> "Tokens | None":
        """Tell whether an input looks things up in a table, and is no companion of one that does."""
        if slot.dtype.kind not in "iu" or slot.dtype.itemsize == 1 or companion(slot, slot.shape) is not None:
            return None
        rows = looked_up(network.index, network.shapes, slot.name)
        return None if rows is None or rows < 2 else cls(slot, rows)

    @property
    def lowest(self) -> int:
        """First id that is no special one."""
        return _SPECIAL if self.vocabulary >= _LEAST else 0


def companion(slot: Slot, shape: tuple[int, ...]) -> NDArray[np.generic] | None:
    """Return what an input that goes with token ids holds, by its name; None for any other."""
    name = slot.name.lower()
    if slot.dtype.kind not in "iub" and "mask" not in name:
        return None
    if "mask" in name:
        return np.ones(shape, slot.dtype)
    if "position" in name and "ids" in name:
        return np.broadcast_to(np.arange(shape[-1] if shape else 1), shape or (1,)).reshape(shape).astype(slot.dtype)
    if "type" in name or "segment" in name:
        return np.zeros(shape, slot.dtype)
    return None


def draw_tokens(tokens: Tokens, shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.generic]:
    """Draw ids, half of them evenly and half by Zipf's law, in an order of frequency that is that of the ids."""
    ids = tokens.vocabulary - tokens.lowest
    even = rng.integers(0, ids, shape)
    # Inverse of the distribution function of 1 / (rank + shift), which is logarithmic.
    zipf = _SHIFT * ((ids + _SHIFT) / _SHIFT) ** rng.random(shape) - _SHIFT
    chosen = np.where(rng.random(shape) < 0.5, even, np.minimum(zipf, ids - 1))
    return (chosen.astype(np.int64) + tokens.lowest).astype(tokens.slot.dtype)


def written(
    network: Network, slots: Slots, tokens: Tokens, shape: tuple[int, int], rng: np.random.Generator
) -> NDArray[np.int64]:
    """Let a language model write.

    Parameters
    ----------
    network : Network
    slots : Slots
    tokens : Tokens
    shape : tuple of int
        Sequences and their length.
    rng : numpy.random.Generator

    Returns
    -------
    ndarray of int (m, length)
        Fewer sequences than asked for where more would take long; none where it is no language model, or has other
        inputs than tokens and what goes with them.
    """
    writer = _Writer.of(network, slots, tokens, shape[1])
    none = np.zeros((0, shape[1]), np.int64)
    if writer is None:
        return none
    weights = sum(math.prod(tensor.dims) for tensor in network.index.weights.values())
    count = int(min(shape[0], _EFFORT / max(weights * shape[1] ** 2 / 2, 1)))
    try:
        if count == 0 or not writer.is_causal(rng):
            return none
        rows = [writer.write(min(slots.batch, count - first), rng) for first in range(0, count, slots.batch)]
    except ModelError:
        # Some run at one length only; whatever keeps this one from running shows elsewhere.
        return none
    return np.concatenate(rows)


class _Writer:
    """Samples a network's own predictions."""

    def __init__(self, network: Network, slots: Slots, tokens: Tokens, output: str, length: int) -> None:
        self._session = open_session(network.model.copy(), network.providers)
        self._slots, self._tokens, self._output, self._length = slots, tokens, output, length
        self._grows = tokens.slot.dims[-1] is None

    @classmethod
    def of(cls, network: Network, slots: Slots, tokens: Tokens, length: int) -> "_Writer | None":
        shapes = network.shapes.shapes
        scores = [name for name in network.index.outputs if shapes.get(name, ())[-1:] == (tokens.vocabulary,)]
        scores = [name for name in scores if len(shapes[name]) == 3]
        sides = [slot for slot in slots.inputs if slot.name != tokens.slot.name]
        known = all(len(slot.shape) == 2 and companion(slot, slot.shape) is not None for slot in sides)
        if len(tokens.slot.shape) != 2 or not scores or not known or tokens.slot.axis != 0:
            return None
        try:
            return cls(network, slots, tokens, scores[0], length)
        except ModelError:
            return None

    def _scores(self, ids: NDArray[np.int64]) -> NDArray[np.generic]:
        """Scores at all positions; a network of one length or batch is given zeros for the rest."""
        rows, length = ids.shape
        whole = self._slots.batch if self._slots.fixed else rows
        padded = np.zeros((whole, length if self._grows else self._length), np.int64)
        padded[:rows, :length] = ids
        feeds: Feeds = {}
        for slot in self._slots.inputs:
            beside = companion(slot, padded.shape)
            feeds[slot.name] = padded.astype(slot.dtype) if beside is None else beside
        found = self._session.run(feeds, [self._output])
        return found[self._output][:rows, :length]

    def is_causal(self, rng: np.random.Generator) -> bool:
        """Tell whether scores stay when a later token changes."""
        ids = rng.integers(self._tokens.lowest, self._tokens.vocabulary, (1, min(8, self._length)))
        before = np.asarray(self._scores(ids)[:, :-1], np.float64)
        ids[:, -1] = (ids[:, -1] + 1) % self._tokens.vocabulary
        after = np.asarray(self._scores(ids)[:, :-1], np.float64)
        return bool(np.allclose(before, after, atol=1e-3 * np.abs(before).max(initial=0)))

    def write(self, rows: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Write some sequences; half begin as most tokenizers begin a text, the others with any token."""
        ids = np.ones((rows, self._length), np.int64)
        ids[rows // 2 :, 0] = rng.integers(self._tokens.lowest, self._tokens.vocabulary, rows - rows // 2)
        for place in range(1, self._length):
            scores = np.asarray(self._scores(ids[:, :place])[:, -1], np.float64)
            # The largest of scores with Gumbel noise is a draw from their softmax.
            ids[:, place] = (scores + rng.gumbel(size=scores.shape)).argmax(axis=1)
        return ids
