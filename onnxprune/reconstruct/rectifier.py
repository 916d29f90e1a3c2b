"""What a rectifier behind a reader lets through: there alone the reader's result has to be right.

    z = s·y + c (+ what it is added to)      the rectifier gives min(max(z, low), high)

With d what a solved reader makes of its rows minus its targets t, the targets that are as good as t move by

    0                               where low < z < high
    d                               where z and z + s·d lie beyond the same bound: right as it is
    (bound − z) / s                 where z alone does

Squares towards the moved targets are never less than what the rectifier loses, and of the solved weights never more
than squares towards t: solving once more lowers the bound that least squares give of the rectifier's loss.

References
----------
The problem, and alternating for it, are those of Zhang et al., "Accelerating very deep convolutional networks",
arXiv 1505.06798, section 2.2.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto

from onnxprune.graph.index import Index, attributes
from onnxprune.reconstruct.partners import NEGLIGIBLE, Partner, Stored, way_of
from onnxprune.reconstruct.readers import Reader

__all__ = ["Rectifier", "rectifier_of"]


@dataclass(frozen=True)
class Rectifier:
    """A rectifier behind a reader.

    Attributes
    ----------
    scale, shift : ndarray of float32 (g, 1, k)
        What the reader's result is multiplied by and what is added to it till there, by BatchNormalizations.
    low, high : float
        What it gives at least and at most.
    """

    scale: NDArray[np.float32]
    shift: NDArray[np.float32]
    low: float
    high: float

    def moved(self, made: NDArray[Any], beside: NDArray[Any] | float, error: NDArray[Any]) -> NDArray[Any]:
        """How far targets move.

        Parameters
        ----------
        made : ndarray (g, R, k)
            What the original's reader made.
        beside : ndarray (g, R, k) or 0
            What the original added to that.
        error : ndarray (g, R, k)
            What the solved reader makes minus its targets.

        Returns
        -------
        ndarray (g, R, k)
        """
        before = self.scale * made + self.shift + beside
        after = before + self.scale * error
        bound = np.clip(before, np.float32(self.low), np.float32(self.high))
        beyond = (before != bound) | (before == self.low) | (before == self.high)
        same = np.where(before <= self.low, after <= self.low, after >= self.high)
        moved: NDArray[Any] = np.where(beyond, np.where(same, error, (bound - before) / self.scale), np.float32(0))
        return moved


def rectifier_of(reader: Reader, partner: Partner | None, index: Index, stored: Stored) -> Rectifier | None:
    """Find the rectifier that alone reads what comes of a reader.

    Parameters
    ----------
    reader : Reader
    partner : Partner or None
        What the result is added to first.
    index : Index
    stored : callable

    Returns
    -------
    Rectifier or None
        None where something else reads it, or a result nearly vanishes on the way.
    """
    way = way_of(reader, index, stored)
    name = way.name if partner is None else partner.total
    if not index.is_private(name):
        return None
    bounds = _bounds(index.nodes[index.consumers[name][0].node], index, stored)
    if bounds is None or not (np.abs(way.scale) > NEGLIGIBLE).all():
        return None
    scale, shift = (part.astype(np.float32).reshape(reader.form.groups, 1, -1) for part in (way.scale, way.shift))
    return Rectifier(scale, shift, *bounds)


def _bounds(node: NodeProto, index: Index, stored: Stored) -> tuple[float, float] | None:
    """What a rectifier gives at least and at most; None of another node."""
    if node.domain or node.op_type not in ("Relu", "Clip"):
        return None
    if node.op_type == "Relu":
        return 0.0, math.inf
    found, bounds = attributes(node), [-math.inf, math.inf]
    for place, key in enumerate(("min", "max")):
        name = node.input[place + 1] if len(node.input) > place + 1 else ""
        if name and name not in index.weights:
            return None
        if name or key in found:
            bounds[place] = float(stored(name).ravel()[0]) if name else found[key].f
    return bounds[0], bounds[1]
