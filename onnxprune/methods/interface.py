"""What a method sees of a group of channels and what it answers; plain arrays, no network.

A *channel* is one unit of the group: a neuron, a convolution filter, a position of a residual stream. Everything that
writes it is a row of `incoming`, everything that reads it is a slice of `outgoing`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from onnxprune.coreset.layer import Layer
from onnxprune.coreset.norms import Reals

__all__ = ["Channels", "Choice", "Guarantee", "Method", "Sample", "Select"]

Select = Callable[[Sequence[Layer], Sequence[float], NDArray[np.int64]], NDArray[np.int64]]
"""Picks as many channels as are kept so far, ascending, by layers that read them and what each one's loss is worth."""


@dataclass(frozen=True)
class Channels:
    """One group of n channels as plain arrays, weights as they are stored (float32 or float64).

    Attributes
    ----------
    incoming : sequence of ndarray, each (n, d_i)
        Weights that produce the channel, one matrix per writer, a following BatchNormalization folded in. A filter is
        one row: its flattened kernel. Empty for channels without a weight of their own. A big network's weights are
        read when they are asked for: hold one at a time.
    bias : ndarray (n,) or None
        Bias of the writers (summed over writers), BatchNormalization folded in.
    outgoing : sequence of ndarray, each (n, k_j, s_j)
        Weights that read the channel, one array per reader: k_j outputs, s_j kernel positions. Read likewise.
    activation : str
        Operator between writer and readers ("Relu", "Sigmoid", …), "" where there is none or it is not known.
    rows : ndarray of int (n,) or None
        If given, any choice must keep equally many channels of every row (a grouped convolution's groups).
    parameters : tuple of float
        The activation's, as `coreset.activations.PARAMETERS` names them; a limit that is not known is infinite. Empty
        for the customary ones.
    beta : float
        Bound of ‖x‖₂, x what all writers of one channel read, side by side, with a 1 for the bias; 1 where it is not
        known: it cancels for Relu.
    layers : tuple of Layer
        What data says of the readers: moments of those that multiply by a stored matrix; empty without data.
    worth : tuple of float
        What a unit of the loss of each layer is worth.
    salience : ndarray (n,) or None
        What derivatives say of each channel, higher is more important; comparable between groups.
    alike : bool
        Whether the data is what the network sees, or much like it; else weights have a say, too.
    """

    incoming: Sequence[Reals]
    bias: NDArray[np.float64] | None
    outgoing: Sequence[Reals]
    activation: str = ""
    rows: NDArray[np.int64] | None = None
    parameters: tuple[float, ...] = ()
    beta: float = 1.0
    layers: tuple[Layer, ...] = ()
    worth: tuple[float, ...] = ()
    salience: NDArray[np.float64] | None = None
    alike: bool = True

    @property
    def count(self) -> int:
        """Number of channels n."""
        for arrays in (self.incoming, self.outgoing):
            if arrays:
                return int(arrays[0].shape[0])
        if self.bias is not None:
            return int(self.bias.shape[0])
        assert self.rows is not None, "a group of channels without any array has rows to count by"
        return int(self.rows.shape[0])


@dataclass(frozen=True)
class Sample:
    """Channels kept by sampling.

    Attributes
    ----------
    kept : ndarray of int (m,)
        Indices, ascending and distinct.
    factors : ndarray (m,)
        What each one's outgoing weights are multiplied by, positive.
    draws : int
        Number of independent draws behind it, where that was fixed before the first; else 0, and no theorem holds.
    negative : ndarray (m,)
        What the negative ones of these weights are multiplied by, where they are sampled apart: `factors` is for the
        positive ones then, and of a channel's two factors one may be zero. Empty where all have the same.
    """

    kept: NDArray[np.int64]
    factors: NDArray[np.float64]
    draws: int = 0
    negative: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))


@dataclass(frozen=True)
class Guarantee:
    """What the theorem behind a sample needs to know of how it was drawn, besides the number of draws.

    Attributes
    ----------
    probabilities : ndarray (n,) or (2, n)
        What every draw takes a channel with; the factor of one is its count / (draws · probability). Of positive and
        of negative weights, where they are sampled apart; zero where there are none.
    shares : ndarray (n,) or None
        Where sums are kept up to a factor 1 ± ε: the share of Σ_p ω(p) |pᵀx| that a channel can have, for any x.
    obstacle : str
        Why no such factor is promised for what the readers compute, whatever `shares` are; "" where it is.
    """

    probabilities: NDArray[np.float64]
    shares: NDArray[np.float64] | None = None
    obstacle: str = ""


@dataclass(frozen=True)
class Choice:
    """A method's answer for one group.

    Attributes
    ----------
    order : ndarray of int (n,)
        A permutation of the channels, the one to keep longest first.
    scores : ndarray (n,)
        Score of each channel, higher is more important, comparable between groups after normalisation.
    sample : callable or None
        For sampled methods: `sample(count)` gives what is kept, with the factors of the readers' weights, where the
        budget wants `count` channels; `order` is then only a preview. It is a function of `count` alone: asked again,
        it answers the same. With rows, `count` is a multiple of their number. None: keep the first `count` of `order`.
    notes : tuple of str
        Facts for the report, each a clause without a full stop: what the scores rest on, what does not hold.
    guarantee : Guarantee or None
        Of samples whose number of draws is fixed; None where there are none.
    select : callable or None
        Picks anew, as many as before, where all readers of the group are reached by a pruned prefix of the network.
    comparable : bool
        Whether scores mean the same in all groups as they are.
    """

    order: NDArray[np.int64]
    scores: NDArray[np.float64]
    sample: Callable[[int], Sample] | None = None
    notes: tuple[str, ...] = ()
    guarantee: Guarantee | None = None
    select: Select | None = None
    comparable: bool = False


class Method(Protocol):
    """Ranks the channels of one group."""

    def __call__(self, channels: Channels, rng: np.random.Generator) -> Choice: ...
