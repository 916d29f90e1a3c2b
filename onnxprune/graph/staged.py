"""Running a network too big for one session in sections, one session at a time.

The session of a section is made when the section before it has run on all inputs and is gone, so that memory holds the
weights of one section and the tensors that cross a cut. A session takes onnxruntime more than twice the time for twice
the nodes, so that sections are faster too where there are very many.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper
from onnxruntime import OrtValue

from onnxprune.graph.model import Model
from onnxprune.graph.runtime import Effort, Request, Session, hold, look_at, trim
from onnxprune.graph.sections import Limits, Section, Sections

__all__ = ["LIMITS", "StagedSession", "open_session"]

LIMITS = Limits(weights=1 << 28, nodes=4096)
"""What one session may have: external weights that are in memory together, and nodes."""

# Nodes up to which onnxruntime looks for tensors that can share memory, which takes it quadratic time.
_FEW = 512


class StagedSession:
    """A network ready to run in sections, used as a `Session` is.

    Parameters
    ----------
    proto : ModelProto
        Not to be modified while the session is in use. Its inputs are no strings.
    providers : sequence of str
        From `choose_providers`.
    folder : Path, optional
        Where the external data lies.
    weights : mapping of str to ndarray, optional
        Initializers whose data is in memory, though the protobuf says that it is elsewhere.
    limits : Limits
        What a section may have.
    """

    def __init__(
        self,
        proto: ModelProto,
        providers: Sequence[str],
        folder: Path | None = None,
        weights: Mapping[str, NDArray[Any]] | None = None,
        *,
        limits: Limits,
    ) -> None:
        self._sections = Sections(proto, limits)
        self._providers, self._folder, self._weights = providers, folder, weights or {}
        self.provider: str = providers[0]
        self.outputs: list[str] = [value.name for value in proto.graph.output]

    def run(self, feeds: Mapping[str, NDArray[Any]], outputs: Sequence[str] | None = None) -> dict[str, NDArray[Any]]:
        """Run once; see `Session.run`."""
        return next(self.run_each([(feeds, self.outputs if outputs is None else outputs)]))

    def run_each(self, requests: Sequence[Request]) -> Iterator[dict[str, NDArray[Any]]]:
        """Run once per request, all of them on each section before the next one; see `Session.run`.

        Yields
        ------
        dict of str to ndarray

        Raises
        ------
        ModelError
            If onnxruntime cannot load or run a section.
        """
        states = [_State(*request) for request in requests]
        place = 0
        while place < len(self._sections):
            section = self._sections[place]
            made = self._made(section, states)
            trim()
            crossing = [values[name] for values in made for name in section.hands_on]
            if not all(value.is_tensor() for value in crossing):
                # A sequence of tensors stays where it is made and read.
                self._sections.join(place)
                continue
            for state, values in zip(states, made, strict=True):
                state.keep(values, section)
            place += 1
        for state in states:
            yield state.found

    def _made(self, section: Section, states: Sequence["_State"]) -> list[dict[str, OrtValue]]:
        """What a section makes of every request so far."""
        given = [{name: state.values[name] for name in section.reads if name in state.values} for state in states]
        incoming = [
            helper.make_tensor_value_info(name, value.element_type(), [None] * len(value.shape()))
            for name, value in given[0].items()
        ]
        weights = {name: self._weights[name] for name in section.stored if name in self._weights}
        proto = self._sections.proto(section, incoming)
        effort = Effort(share=len(section.nodes) <= _FEW, fold=False)
        session = Session(proto.SerializeToString(), self._providers, self._folder, weights, effort=effort)
        wanted = [dict.fromkeys([*section.hands_on, *state.wanted(section)]) for state in states]
        return [session.relay(values, list(names)) for values, names in zip(given, wanted, strict=True)]


class _State:
    """How far one request has come: the tensors that are still to be read, and the outputs found."""

    def __init__(self, feeds: Mapping[str, NDArray[Any]], outputs: Sequence[str]) -> None:
        self.values = {name: hold(value) for name, value in feeds.items()}
        self.outputs = frozenset(outputs)
        self.found = {name: value for name, value in feeds.items() if name in self.outputs}

    def wanted(self, section: Section) -> list[str]:
        """Outputs of a section that were asked for."""
        return [name for name in section.outputs if name in self.outputs]

    def keep(self, made: Mapping[str, OrtValue], section: Section) -> None:
        """Take what a section has made, and let go of what nobody reads after it."""
        self.found |= {name: look_at(made[name]) for name in self.wanted(section) if made[name].is_tensor()}
        self.values |= {name: made[name] for name in section.hands_on}
        for name in section.drops:
            self.values.pop(name, None)


def open_session(
    model: Model,
    providers: Sequence[str],
    weights: Mapping[str, NDArray[Any]] | None = None,
    *,
    fast: bool = False,
) -> Session | StagedSession:
    """Make a session of a model; one that is too big for that runs in sections.

    Parameters
    ----------
    model : Model
    providers : sequence of str
        From `choose_providers`.
    weights : mapping of str to ndarray, optional
        Initializers that were detached from the model.
    fast : bool
        Whether it is run often; see `Effort`. Not heeded in sections.
    """
    folder = model.folder if model.data_files else None
    texts = any(value.type.tensor_type.elem_type == TensorProto.STRING for value in model.proto.graph.input)
    if not texts and not LIMITS.allow(model.proto):
        return StagedSession(model.proto, providers, folder, weights, limits=LIMITS)
    effort = Effort(share=len(model.proto.graph.node) <= _FEW, fast=fast)
    return Session(model.proto.SerializeToString(), providers, folder, weights, effort=effort)
