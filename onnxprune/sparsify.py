"""From file to file where single weights go and shapes stay: score, zero, write, compare; the whole way on a page."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from onnxprune.analysis import analyse, matching
from onnxprune.calibrate.feeds import Feeds, random_feeds
from onnxprune.delivery import Outcome, Writing, check_targets, commit, require_embeddable
from onnxprune.errors import ModelError, RefusedError, ValidationError
from onnxprune.facts import Place, fidelity_facts, place_of, placed, versions
from onnxprune.gradient.rule import FLOATS
from onnxprune.graph import io
from onnxprune.graph.index import Index, node_site
from onnxprune.graph.model import Model
from onnxprune.graph.runtime import choose_providers
from onnxprune.graph.save import stage
from onnxprune.methods.sparsity import Masks, masks
from onnxprune.options import Options
from onnxprune.prepare.branches import take_branches
from onnxprune.prepare.inline import inline_functions
from onnxprune.prepare.precision import widened
from onnxprune.progress import Clock
from onnxprune.refine import Refiner, open_refiner
from onnxprune.rewrite import Plan
from onnxprune.salience import FlowSlopes, loss_slopes, ways
from onnxprune.shapes.infer import infer_shapes
from onnxprune.validate import fidelity_on

__all__ = ["sparsify_file", "sparsify_model"]

_FACTORS = {
    **dict.fromkeys(("Conv", "ConvTranspose", "Gemm", "MatMul", "FusedMatMul", "FusedConv", "FusedGemm"), (0, 1)),
    **dict.fromkeys(("LSTM", "GRU", "RNN"), (1, 2)),
}
"""Inputs of operators at which something is multiplied by weights."""
_MOVED = frozenset(["Cast", "Identity", "Transpose", "Reshape", "Squeeze", "Unsqueeze", "Flatten"])
_INPUTS = 8
"""Random inputs that fidelity is measured on where there is no data."""


@dataclass(frozen=True)
class _Thinned:
    """What stays of each weight, who reads it, where nothing flows by what is left, and the data that was used."""

    kept: Masks
    readers: dict[str, str]
    idle: tuple[str, ...]
    refiner: Refiner | None = None


def sparsify_file(
    source: Path, target: Path | None, options: Options, *, writing: Writing | None = None, clock: Clock | None = None
) -> Outcome:
    """Zero a share of the weights of a file into another; all that is written is moved into place together.

    Parameters
    ----------
    source : Path
    target : Path or None
        None writes no network.
    options : Options
        With `sparse`.
    writing : Writing, optional
    clock : Clock, optional

    Returns
    -------
    Outcome
        With a plan of no groups.

    Raises
    ------
    OnnxPruneError
        Nothing has been written then.
    """
    writing, clock = writing or Writing(), clock or Clock()
    with clock.stage("load"):
        choose_providers(options.providers)
        check_targets(target, writing, (source,))
        model = io.load(source)
        check_targets(target, writing, (source, *model.data_files))
        before = place_of(model)
    thinned = _thinned(model, options, clock)
    with ExitStack() as stack:
        staged, validation, after = None, None, Place()
        if target is not None:
            _zero(model, thinned.kept)
            with clock.stage("write"):
                staged = stack.enter_context(stage(model, target, external=writing.external))
                written = io.load(staged.path)
                after = replace(place_of(written), path=target)
            validation = _compared(io.load(source), written, thinned, options, clock)
        facts = _described(thinned, (before, after), options, validation, clock)
        outcome = Outcome(Plan(before.sha256, (), options.request()), facts)
        commit(stack, staged, outcome, writing)
    return outcome


def sparsify_model(work: Model, options: Options, *, clock: Clock | None = None) -> tuple[ModelProto, Outcome]:
    """Zero a share of the weights of a network in memory.

    Parameters
    ----------
    work : Model
        Edited in place.
    options, clock
        See `sparsify_file`.

    Returns
    -------
    ModelProto
    Outcome
    """
    clock = clock or Clock()
    original, before = work.copy(), place_of(work)
    thinned = _thinned(work, options, clock)
    _zero(work, thinned.kept)
    require_embeddable(work)
    result = work.materialise()
    written = io.from_proto(result)
    validation = _compared(original, written.copy(), thinned, options, clock)
    facts = _described(thinned, (before, place_of(written)), options, validation, clock)
    return result, Outcome(Plan(before.sha256, (), options.request()), facts)


def _thinned(model: Model, options: Options, clock: Clock) -> _Thinned:
    """Decide which weights stay."""
    with clock.stage("analyse"):
        io.check(model)
        index, method = Index(model.proto), options.sparsifier
        readers = _selected(_multiplied(index), index, options)
        weights = {name: model.array(index.weights[name]) for name in readers}
        total = sum(weight.size for weight in weights.values())
        assert options.ratio is not None
        count = round(total * (1 - options.ratio))
        if method.spares and count < len(weights):
            raise RefusedError(
                f"--ratio {options.ratio:g} cannot be reached: it leaves {count} of {total:,} weights, and one of each "
                f"of {len(weights)} layers stays; ask for {1 - len(weights) / total:.6g} at most"
            )
        for name, weight in weights.items():
            if not np.isfinite(weight.astype(np.float32)).all():
                raise ModelError(f"the weight {name!r} holds NaN or infinity; repair the network first")
    refiner = None
    if method.derivative == "loss" or options.calib is not None:
        with clock.stage("calibrate"):
            refiner = open_refiner(analyse(model.copy(), options), options)
    with clock.stage("score", method.rounds):
        slopes, spared = _slopes(model, weights, options, refiner, count)
        rng = np.random.default_rng([options.seed, 12])
        kept = masks(weights, count, method, slopes, rng, clock.progress.advance, spared)
        idle = [name for name, mask in kept.items() if not mask.any()]
        if method.derivative == "flow":
            idle = [name for name, slope in slopes(kept).items() if not slope[kept[name]].any()]
    return _Thinned(kept, readers, tuple(idle), refiner)


def _multiplied(index: Index) -> dict[str, str]:
    """Float weights of two axes or more that something is multiplied by, and the nodes that do so."""
    found: dict[str, str] = {}
    for node in index.nodes:
        for place in _FACTORS.get(node.op_type, ()):
            name = node.input[place] if place < len(node.input) else ""
            while name in index.producer and index.nodes[index.producer[name]].op_type in _MOVED:
                name = index.nodes[index.producer[name]].input[0]
            stored = index.weights.get(name)
            if stored is not None and stored.data_type in FLOATS and len(stored.dims) > 1 and 0 not in stored.dims:
                found.setdefault(name, node_site(node))
    return found


def _selected(readers: dict[str, str], index: Index, options: Options) -> dict[str, str]:
    """Leave out what the options do; see that something is left."""
    included = matching(options.include, "--include", index)
    excluded = matching(options.exclude, "--exclude", index)

    def is_named(name: str, names: set[str]) -> bool:
        return name in names or any(index.nodes[edge.node].name in names for edge in index.consumers.get(name, ()))

    left = {
        name: site
        for name, site in readers.items()
        if (not options.include or is_named(name, included)) and not is_named(name, excluded)
    }
    if not left:
        raise RefusedError(
            "there is nothing to zero: the network has no floating-point weights of layers"
            + (" that --include and --exclude leave" if readers else "; of integers, --sparse zeroes none")
        )
    return left


def _slopes(
    model: Model, weights: Mapping[str, NDArray[Any]], options: Options, refiner: Refiner | None, count: int
) -> tuple[Callable[[Masks], Mapping[str, NDArray[Any]]], Masks | None]:
    """What gives derivatives by the weights, for those that stay; elements that stay in any case, if so many may."""
    method, names = options.sparsifier, list(weights)
    if not method.derivative:
        return lambda kept: {}, None
    work = model.copy()
    inline_functions(work)
    take_branches(work, options.input_shapes)
    proto, providers = widened(work), choose_providers(options.providers)
    if method.derivative == "flow":
        flow = FlowSlopes(proto, names, providers, options.input_shapes, options.seed)
        wide = {name: weight.astype(np.float32) for name, weight in weights.items()}
        spared = ways(flow, wide)
        enough = sum(max(int(mask.sum()), 1) for mask in spared.values()) <= count
        given = spared if enough else None
        return lambda kept: flow({name: np.where(kept[name], wide[name], np.float32(0)) for name in names}), given
    if refiner is None:
        raise RefusedError(f"--method {method.name} learns from data, and none could be made up: give some by --calib")
    scores = "" if refiner.exam is None else refiner.exam.scores.output
    found = loss_slopes(proto, names, refiner.data, options.input_shapes, scores)
    return lambda kept: found, None


def _zero(model: Model, kept: Masks) -> None:
    """Write zeros, in place."""
    index = Index(model.proto)
    for name, mask in kept.items():
        tensor = index.weights[name]
        model.replace(tensor, mask.shape, partial(_masked, model, tensor, mask))


def _masked(model: Model, tensor: Any, mask: NDArray[np.bool_]) -> NDArray[Any]:
    value = model.array(tensor)
    return np.where(mask, value, np.zeros((), value.dtype))


def _compared(original: Model, written: Model, thinned: _Thinned, options: Options, clock: Clock) -> dict[str, Any]:
    """See that nothing but zeros is new, and how far the outputs are from the original's."""
    providers = choose_providers(options.providers)
    with clock.stage("validate"):
        before, after = Index(original.proto), Index(written.proto)
        for name, tensor in before.weights.items():
            value, found = original.array(tensor), written.array(after.weights[name])
            mask = thinned.kept.get(name)
            wanted = value if mask is None else np.where(mask, value, np.zeros((), value.dtype))
            if wanted.tobytes() != found.tobytes():
                raise ValidationError(
                    f"the weight {name!r} is not what was planned; nothing was written. This is a fault of onnxprune: "
                    "please report it"
                )
        if [node.SerializeToString(deterministic=True) for node in before.nodes if node.op_type != "Constant"] != [
            node.SerializeToString(deterministic=True) for node in after.nodes if node.op_type != "Constant"
        ]:
            raise ValidationError(
                "the network has other nodes than before; nothing was written. This is a fault of onnxprune: please "
                "report it"
            )
        inputs: tuple[Feeds, ...] = () if thinned.refiner is None else thinned.refiner.held_out
        if not inputs:
            rng, shapes = np.random.default_rng([options.seed, 1]), _shapes(original, options)
            inputs = tuple(random_feeds(before, shapes, rng) for _ in range(_INPUTS))
        exam = None if thinned.refiner is None else thinned.refiner.exam
        accuracy = None if exam is None else exam.accuracy(written.copy())
        fidelity = fidelity_on(original, written, inputs, providers)
    return {"provider": providers[0], "inputs": len(inputs), **fidelity_facts(fidelity, accuracy)}


def _shapes(model: Model, options: Options) -> Any:
    return infer_shapes(Index(model.proto), model.skeleton(), options.input_shapes)


def _described(
    thinned: _Thinned, places: tuple[Place, Place], options: Options, validation: dict[str, Any] | None, clock: Clock
) -> dict[str, Any]:
    """Put everything that is known into one dictionary."""
    layers = [
        {
            "weight": name,
            "node": thinned.readers[name],
            "shape": list(mask.shape),
            "elements": mask.size,
            "kept": int(mask.sum()),
        }
        for name, mask in thinned.kept.items()
    ]
    total = sum(mask.size for mask in thinned.kept.values())
    kept = sum(int(mask.sum()) for mask in thinned.kept.values())
    return {
        "input": placed(places[0], {"params": places[0].params}),
        "output": placed(places[1], {"params": places[0].params}),
        "sparse": {
            "method": options.sparsifier.name,
            "elements": total,
            "kept": kept,
            "density": kept / total,
            "layers": layers,
            "idle": list(thinned.idle),
        },
        "validation": validation,
        "request": options.request(),
        "data": None if thinned.refiner is None else thinned.refiner.facts,
        "time": clock.rounded(),
        "versions": versions(),
    }
