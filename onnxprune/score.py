"""What a method says of each group: by the weights as they are, or once layers before it or behind it are thinned."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from onnxprune.analysis import Analysis
from onnxprune.coupling.channels import ChannelReader
from onnxprune.coupling.intervals import Radii
from onnxprune.methods import METHODS, Choice
from onnxprune.options import Options
from onnxprune.reconstruct.evidence import NOTHING, Evidence
from onnxprune.rewrite import GroupPlan, Plan

__all__ = ["Scorer", "channel_reader"]


class Scorer:
    """Asks a method about one group at a time.

    Parameters
    ----------
    analysis : Analysis
        Of the network, with its weights.
    options : Options
        The method, and the order of layers.
    """

    def __init__(self, analysis: Analysis, options: Options) -> None:
        method = METHODS[options.method]
        self.coupling, self.order, self.seed = analysis.coupling, options.layer_order, options.seed
        self.method = method if options.rank is None else method.with_rank(options.rank)
        self.reader = channel_reader(analysis)
        self.radii = Radii(analysis.coupling, analysis.index, self.reader.read, options.input_bound)

    def choice(self, number: int, known: Evidence = NOTHING, planned: Mapping[str, GroupPlan] | None = None) -> Choice:
        """Let the method choose.

        Parameters
        ----------
        number : int
            Of the group.
        known : Evidence
            What data says of it.
        planned : mapping of str to GroupPlan, optional
            What stays of groups, by name: those that are gone through earlier have lost the rest.

        Returns
        -------
        Choice

        Raises
        ------
        ModelError
            If a weight is not finite.
        """
        group = self.coupling.groups[number]
        earlier = None if planned is None or self.order == "together" else self._earlier(number, planned)
        channels = replace(
            self.reader.channels(group, earlier),
            beta=self.radii.of(group) or 1.0,
            layers=known.layers,
            worth=known.worth,
            salience=known.salience,
            alike=known.alike,
        )
        return self.method(channels, np.random.default_rng([self.seed, number]))

    def go_through(self, thin: Callable[[int, Choice], GroupPlan]) -> tuple[GroupPlan, ...]:
        """Thin all groups, each ranked once those that are gone through earlier have been thinned.

        Parameters
        ----------
        thin : callable
            Says what stays of a group, by its number and the method's choice.

        Returns
        -------
        tuple of GroupPlan
            In the groups' order.
        """
        planned: dict[str, GroupPlan] = {}
        for number in self._sequence:
            planned[self.coupling.groups[number].name] = thin(number, self.choice(number, planned=planned))
        return tuple(planned[group.name] for group in self.coupling.groups)

    @property
    def _sequence(self) -> Sequence[int]:
        """Groups are numbered as the graph first comes to them."""
        numbers = range(len(self.coupling.groups))
        return numbers[::-1] if self.order == "backward" else numbers

    def _earlier(self, number: int, planned: Mapping[str, GroupPlan]) -> NDArray[np.float64]:
        """Factors of all units, as `Plan.scales` has them, of what is gone through before a group."""
        before = self._sequence[: self._sequence.index(number)]
        names = [self.coupling.groups[other].name for other in before]
        return Plan("", tuple(planned[name] for name in names if name in planned)).scales(self.coupling)


def channel_reader(analysis: Analysis) -> ChannelReader:
    """Return what reads the weights of an analysed network group by group."""
    weights = analysis.index.weights
    return ChannelReader(analysis.coupling, analysis.index, lambda name: analysis.model.array(weights[name]))
