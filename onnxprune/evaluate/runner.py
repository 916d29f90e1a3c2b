"""Networks that are run side by side on the same inputs: the original first, the others by its names.

A network that another tool made may call its inputs and outputs something else; where their number and shapes are the
same, they are taken in order.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ValueInfoProto

from onnxprune.calibrate.feeds import Feeds
from onnxprune.errors import ModelError
from onnxprune.graph.index import Index
from onnxprune.graph.model import Model
from onnxprune.graph.runtime import Effort, Session
from onnxprune.graph.staged import StagedSession, open_session
from onnxprune.graph.tensors import weight_bytes

__all__ = ["Latency", "Runner", "latencies", "runner_of"]

_LARGEST = 1 << 30
"""Bytes of weights up to which a network is one session, as onnxruntime is used by default."""
_WARM, _SECONDS, _RUNS, _FEWEST = 3, 2.0, 50, 5


@dataclass(frozen=True)
class Latency:
    """How long a run takes, in milliseconds: the median of runs after some, and the spread of nine in ten."""

    median_ms: float
    low_ms: float
    high_ms: float
    runs: int
    batch: int
    provider: str

    @property
    def facts(self) -> dict[str, Any]:
        """As plain data."""
        return vars(self).copy()


@dataclass(frozen=True)
class Runner:
    """A network ready to run.

    Attributes
    ----------
    session : Session or StagedSession
    inputs, outputs : dict of str to str
        Its own names by the original's.
    """

    session: Session | StagedSession
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]

    @property
    def provider(self) -> str:
        """What it runs on."""
        return self.session.provider

    def run(self, feeds: Feeds) -> dict[str, NDArray[Any]]:
        """Outputs by the original's names, given inputs by these.

        Raises
        ------
        ModelError
            If onnxruntime cannot run it.
        """
        own = {self.inputs[name]: value for name, value in feeds.items() if name in self.inputs}
        found = self.session.run(own, list(self.outputs.values()))
        return {name: found[other] for name, other in self.outputs.items() if other in found}


def runner_of(model: Model, like: Model, providers: Sequence[str], name: str) -> Runner:
    """Open a network.

    Parameters
    ----------
    model : Model
        Used up.
    like : Model
        The original, whose names are used; may be the same.
    providers : sequence of str
    name : str
        Of the network, for messages.

    Returns
    -------
    Runner

    Raises
    ------
    ModelError
        If onnxruntime cannot load it, or it has other inputs or outputs.
    """
    own, other = Index(model.proto), Index(like.proto)
    inputs = _paired(_values(like, other.inputs), _values(model, own.inputs), f"{name}: inputs")
    outputs = _paired(list(like.proto.graph.output), list(model.proto.graph.output), f"{name}: outputs")
    size = weight_bytes(model.proto)
    if size <= _LARGEST:
        folder = model.folder if model.data_files else None
        session: Session | StagedSession = Session(
            model.proto.SerializeToString(), providers, folder, effort=Effort(fast=True)
        )
    else:
        session = open_session(model, providers, model.detach())
    return Runner(session, inputs, outputs)


def _values(model: Model, names: Sequence[str]) -> list[ValueInfoProto]:
    values = {value.name: value for value in model.proto.graph.input}
    return [values[name] for name in names]


def _paired(wanted: Sequence[ValueInfoProto], found: Sequence[ValueInfoProto], what: str) -> dict[str, str]:
    """Own names by the original's: the same ones, or those in the same places."""
    names, own = [value.name for value in wanted], [value.name for value in found]
    named = {value.name: value for value in found}
    if set(names) <= set(own) and all(_fit(value, named[value.name]) for value in wanted):
        return dict(zip(names, names, strict=True))
    alike = (
        set(names) != set(own)
        and len(wanted) == len(found)
        and all(_fit(a, b) for a, b in zip(wanted, found, strict=True))
    )
    if not alike:
        shown, others = (", ".join(map(_shown, values)) for values in (found, wanted))
        raise ModelError(
            f"{what} are {shown}, those of the original {others}; networks that are compared take and give the same"
        )
    return dict(zip(names, own, strict=True))


def _shown(value: ValueInfoProto) -> str:
    sizes = [
        dim.dim_param or (str(dim.dim_value) if dim.dim_value else "?") for dim in value.type.tensor_type.shape.dim
    ]
    return f"{value.name!r} [{', '.join(sizes)}]"


def _fit(first: ValueInfoProto, second: ValueInfoProto) -> bool:
    """Tell whether two declarations allow the same tensors."""
    kinds = [value.type.tensor_type for value in (first, second)]
    ranks = [len(kind.shape.dim) for kind in kinds]
    if kinds[0].elem_type != kinds[1].elem_type or (all(ranks) and ranks[0] != ranks[1]):
        return False
    sizes = zip(*([dim.dim_value for dim in kind.shape.dim] for kind in kinds), strict=False)
    return all(a == b or 0 in (a, b) for a, b in sizes)


def latencies(runners: Sequence[Runner], feeds: Feeds, batch: int) -> list[Latency]:
    """Time networks on the same inputs, by turns, so that what disturbs the machine disturbs all.

    Parameters
    ----------
    runners : sequence of Runner
    feeds : dict of str to ndarray
    batch : int
        Samples in them.

    Returns
    -------
    list of Latency
    """
    for runner in runners:
        for _ in range(_WARM):
            runner.run(feeds)
    spent: list[list[float]] = [[] for _ in runners]
    start = time.perf_counter()
    while len(spent[0]) < _RUNS and (len(spent[0]) < _FEWEST or time.perf_counter() - start < _SECONDS * len(runners)):
        for runner, times in zip(runners, spent, strict=True):
            begun = time.perf_counter()
            runner.run(feeds)
            times.append(1e3 * (time.perf_counter() - begun))
    found = []
    for runner, times in zip(runners, spent, strict=True):
        middle, low, high = map(float, np.percentile(times, (50, 5, 95)))
        found.append(Latency(middle, low, high, len(times), batch, runner.provider))
    return found
