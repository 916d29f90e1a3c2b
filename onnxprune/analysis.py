"""Everything that can be said of a network before it is pruned: shapes, groups, what is pinned, and costs."""

import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx.shape_inference
from numpy.typing import NDArray

from onnxprune.budget import Cost
from onnxprune.calibrate.feeds import random_feeds, shape_attempts
from onnxprune.coupling import Coupling, couple, walk
from onnxprune.coupling.costs import MEASURES, measure
from onnxprune.errors import ModelError, RefusedError
from onnxprune.graph.index import Index
from onnxprune.graph.model import Model
from onnxprune.graph.runtime import CPU, Session
from onnxprune.graph.staged import open_session
from onnxprune.ops import RULES
from onnxprune.options import Options
from onnxprune.prepare.plain import Prepared, prepare
from onnxprune.prepare.precision import has_other_floats, widen
from onnxprune.shapes.infer import Shapes, infer_shapes
from onnxprune.validate import foreign_nodes

__all__ = ["Analysis", "analyse", "made_plain", "matching"]

_log = logging.getLogger(__name__)

_CONTRADICTIONS = (
    AssertionError,
    ArithmeticError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
    onnx.shape_inference.InferenceError,
)


@dataclass(frozen=True)
class Analysis:
    """A network and what was found out about it, before anything of it was changed.

    Attributes
    ----------
    model, index, shapes, coupling
        The network, its graph, and what its operators say.
    costs : dict of str to Cost
        Parameters, multiply-accumulates and channels as functions of what is kept.
    sizes : ndarray of int (g,)
        Channels of each group.
    prepared : Prepared
        What was made plain in the network first.
    """

    model: Model
    index: Index
    shapes: Shapes
    coupling: Coupling
    costs: dict[str, Cost]
    sizes: NDArray[np.int64]
    prepared: Prepared

    def total(self, name: str) -> float:
        """Cost of the whole network by one measure."""
        return self.costs[name].value(self.sizes)

    def removed(self, name: str, counts: NDArray[np.int64]) -> float:
        """Share of a cost that goes where group g keeps `counts[g]` channels; none of nothing."""
        total = self.total(name)
        return 1.0 - self.costs[name].value(counts) / total if total > 0 else 0.0


def _is_uniform(model: Model, index: Index) -> Callable[[str], bool]:
    def uniform(name: str) -> bool:
        array = model.array(index.weights[name]).reshape(-1)
        return array.size == 0 or bool((array == array[0]).all())

    return uniform


def _touching(names: set[str], coupling: Coupling, index: Index) -> NDArray[np.bool_]:
    """Tell of each unit whether it occurs in a node or tensor of one of these names."""
    labels = coupling.trace.labels
    nodes = {k for k, node in enumerate(index.nodes) if node.name in names or names & set(node.output)}
    tensors = names.union(*((*index.nodes[k].input, *index.nodes[k].output) for k in nodes))
    touched = np.zeros(int(coupling.unit_of.max(initial=-1)) + 1, dtype=bool)
    for name in tensors & labels.keys():
        for bundle in labels[name].bundles:
            touched[coupling.unit_of[bundle.array]] = True
    for block in coupling.trace.blocks:
        if {block.node, block.layer} & nodes or (block.use is not None and block.use.tensor in names):
            touched[coupling.unit_of[block.start : block.start + block.size]] = True
    return touched


def matching(patterns: tuple[str, ...], flag: str, index: Index) -> set[str]:
    """Names of nodes and tensors that patterns match.

    Parameters
    ----------
    patterns : tuple of str
        Names, or regular expressions that match a whole name.
    flag : str
        Where they come from, for messages.
    index : Index

    Returns
    -------
    set of str

    Raises
    ------
    RefusedError
        If one of them matches nothing.
    """
    names = {name for node in index.nodes for name in (node.name, *node.output) if name}
    names |= index.weights.keys() | set(index.inputs)
    found: set[str] = set()
    for pattern in patterns:
        matched = {name for name in names if name == pattern or re.fullmatch(pattern, name)}
        if not matched:
            raise RefusedError(
                f"{flag} {pattern!r} matches no node and no tensor of the network; `onnxprune inspect` lists the names"
            )
        found |= matched
    return found


def _select(coupling: Coupling, index: Index, include: tuple[str, ...], exclude: tuple[str, ...]) -> Coupling:
    """Hold every group that the options leave out."""
    if not include and not exclude:
        return coupling
    out = np.zeros(int(coupling.unit_of.max(initial=-1)) + 1, dtype=bool)
    if include:
        out = ~_touching(matching(include, "--include", index), coupling, index)
    if exclude:
        out |= _touching(matching(exclude, "--exclude", index), coupling, index)
    return coupling.without([group for group in coupling.groups if out[group.units].any()])


def made_plain(model: Model, options: Options, like: Prepared | None = None) -> Prepared:
    """Make a network plain, in place, as `analyse` does it: functions written out, weights computed.

    Whether branches are laid open is tried out, unless it is to be done `like` it was before.
    """

    def can_open(trial: Model) -> bool:
        return _runs(trial, options) if like is None else bool(like.hoisted)

    return prepare(model, options.input_shapes, states=options.state, known=RULES.keys(), can_open=can_open)


def _runs(model: Model, options: Options) -> bool:
    """Tell whether onnxruntime can run a network, which is used up, on some random inputs."""
    index = Index(model.proto)
    shapes = infer_shapes(index, model.skeleton(), options.input_shapes)
    weights = model.detach()
    if _runs_on(model, weights, index, shapes):
        return True
    return has_other_floats(model.proto) and _runs_on(model, widen(model, weights), index, shapes)


def _runs_on(model: Model, weights: Mapping[str, NDArray[Any]], index: Index, shapes: Shapes) -> bool:
    try:
        session = open_session(model, (CPU,), weights)
    except ModelError as error:
        _log.debug("cannot load with all branches open: %s", error)
        return False
    rng = np.random.default_rng(0)
    for sizes in shape_attempts(index, shapes):
        try:
            session.run(random_feeds(index, shapes, rng, sizes))
        except ModelError as error:
            _log.debug("cannot run with all branches open: %s", error)
        else:
            return True
    return False


def analyse(model: Model, options: Options | None = None) -> Analysis:
    """Find out what can be removed from a network.

    Parameters
    ----------
    model : Model
        Made plain in place.
    options : Options, optional
        What is left out, what is opened, and shapes for inputs with symbolic dimensions.

    Returns
    -------
    Analysis

    Raises
    ------
    RefusedError
        If a name matches nothing, or a shape contradicts the file.
    ModelError
        If the network is none that can be run.
    """
    options = options or Options()
    try:
        prepared = made_plain(model, options)
        opened = replace(options.opened, states=prepared.states)
        index = Index(model.proto)
        shapes = infer_shapes(index, model.skeleton(), options.input_shapes)
        trace = walk(index, shapes, _is_uniform(model, index), foreign_nodes(index), opened)
        coupling = couple(trace, index)
    except _CONTRADICTIONS:
        # Rules trust that operators fit their inputs. Where they do not, onnxruntime says it best.
        _require_runnable(model, options.input_shapes)
        raise
    coupling = _select(coupling, index, options.include, options.exclude)
    sizes = np.array([group.size for group in coupling.groups], dtype=np.int64)
    costs = {name: measure(name, coupling, index) for name in MEASURES}
    return Analysis(model, index, shapes, coupling, costs, sizes, prepared)


def _require_runnable(model: Model, input_shapes: dict[str, tuple[int, ...]] | None) -> None:
    session = Session(model.proto.SerializeToString(), (CPU,), model.folder if model.data_files else None)
    index = Index(model.proto)
    shapes = infer_shapes(index, model.skeleton(), input_shapes)
    session.run(random_feeds(index, shapes, np.random.default_rng(0)))
