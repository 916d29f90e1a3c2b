"""The Python door: `prune` and `inspect` for a path, a ModelProto or a `gs.Graph`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from onnx import ModelProto

from onnxprune.analysis import analyse
from onnxprune.choose import floors
from onnxprune.errors import UsageError
from onnxprune.facts import inspection, place_of
from onnxprune.graph import io
from onnxprune.graph.model import Model
from onnxprune.graph.surgeon import from_surgeon, is_surgeon, to_surgeon
from onnxprune.options import Options, names
from onnxprune.pipeline import prune_model
from onnxprune.rewrite import Plan
from onnxprune.sparsify import sparsify_model

__all__ = ["Result", "inspect", "prune"]


@dataclass(frozen=True)
class Result:
    """What `prune` returns.

    Attributes
    ----------
    model : ModelProto or gs.Graph
        The pruned network; a `gs.Graph` where one was given.
    plan : Plan
        What stays of each group; `prune(model, replay=plan)` carries it out again.
    report : dict
        Every number, as `--report` writes it.
    """

    model: Any
    plan: Plan
    report: dict[str, Any]


def _open(model: Any) -> Model:
    if isinstance(model, str | PathLike):
        return io.load(Path(model))
    if isinstance(model, ModelProto):
        return io.from_proto(model)
    if is_surgeon(model):
        return io.from_proto(from_surgeon(model))
    raise UsageError(
        f"a network is a path, an onnx.ModelProto or an onnx_graphsurgeon.Graph, not {type(model).__name__}"
    )


def prune(
    model: Any,
    *,
    ratio: float | None = None,
    max_drop: float | None = None,
    method: str = "auto",
    sparse: bool = False,
    rank: int | None = None,
    layer_order: str = "together",
    measure: str = "params",
    allocation: str = "auto",
    refit: str = "auto",
    distill: str = "auto",
    reinit: bool = False,
    include: str | Sequence[str] = (),
    exclude: str | Sequence[str] = (),
    prune_normalized: bool = False,
    head_dim: bool = False,
    state: str | Sequence[str] = (),
    round_to: int | str = "off",
    min_keep: float | None = None,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    providers: str | Sequence[str] = (),
    seed: int = 0,
    input_bound: float | None = None,
    certify: bool = False,
    best_effort: bool = False,
    calib: Any = None,
    samples: int | None = None,
    synthetic: int | None = None,
    input_range: str = "",
    mean: float | Sequence[float] = (),
    std: float | Sequence[float] = (),
    labels: Any = None,
    replay: Plan | None = None,
) -> Result:
    """Remove a share of a network's channels, and prove that nothing else happened.

    Parameters
    ----------
    model : path, ModelProto or gs.Graph
        Never modified. A file or protobuf keeps all that is not pruned: names, metadata, opsets. A `gs.Graph` goes
        through onnx-graphsurgeon's own export and import, which know nothing of metadata, doc strings of nodes, the
        model's version and quantization annotations.
    ratio : float
        Share to remove of `measure`, between 0 and 1, met within one percentage point.
    max_drop : float, optional
        Points of top-1 accuracy that may be lost on samples of `calib` that are held out: the largest share that keeps
        to it is removed, no more than `ratio` where that is given.
    method, sparse, rank, layer_order, measure, allocation, refit, distill, reinit, include, exclude, prune_normalized
    head_dim, state, round_to, min_keep, input_shapes, providers, seed, input_bound, certify, best_effort
        As the flags of the command; `onnxprune --help` explains them. One name stands for a sequence of one.
    calib : path, array, mapping of str to ndarray, iterable of those, or anything with `get_next`, optional
        Inputs like those that the network will see, such as an onnxruntime `CalibrationDataReader`; made up by default.
    samples, synthetic, input_range, mean, std
        As the flags.
    labels : path or ndarray of int, optional
        One class per sample of `calib`; accuracy before and after is then measured on those held out.
    replay : Plan, optional
        Carry out this plan in place of `ratio`.

    Returns
    -------
    Result

    Raises
    ------
    UsageError
        A value is wrong by itself.
    DataError
        Samples or classes cannot be read, or do not fit the network.
    ModelError
        The network cannot be read or run.
    RefusedError
        What was asked cannot be done with this network.
    ValidationError
        The result is not what was planned.

    Examples
    --------
    >>> import onnxprune
    >>> result = onnxprune.prune("models/lenet-300-100.onnx", ratio=0.6)  # doctest: +SKIP
    >>> result.report["validation"]["twin"]["passed"]  # doctest: +SKIP
    True
    """
    if (ratio is None and max_drop is None) == (replay is None):
        raise UsageError(
            "give ratio=, the share to remove, max_drop=, the accuracy to lose, or replay=, a plan (a plan alone)"
        )
    options = Options(
        ratio=ratio,
        max_drop=max_drop,
        method=method,
        sparse=sparse,
        rank=rank,
        layer_order=layer_order,
        measure=measure,
        allocation=allocation,
        refit=refit,
        distill=distill,
        reinit=reinit,
        include=names(include),
        exclude=names(exclude),
        prune_normalized=prune_normalized,
        head_dim=head_dim,
        state=names(state),
        round_to=round_to,
        min_keep=min_keep,
        input_shapes=_shapes(input_shapes),
        providers=names(providers),
        seed=seed,
        input_bound=input_bound,
        certify=certify,
        best_effort=best_effort,
        calib=calib,
        samples=samples,
        synthetic=synthetic,
        input_range=input_range,
        mean=_numbers(mean),
        std=_numbers(std),
        labels=labels,
    )
    opened = _open(model)
    pruned, outcome = sparsify_model(opened, options) if sparse else prune_model(opened, options, replay=replay)
    return Result(to_surgeon(pruned) if is_surgeon(model) else pruned, outcome.plan, outcome.report)


def inspect(
    model: Any,
    *,
    include: str | Sequence[str] = (),
    exclude: str | Sequence[str] = (),
    prune_normalized: bool = False,
    head_dim: bool = False,
    state: str | Sequence[str] = (),
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    min_keep: float = 1.0,
) -> dict[str, Any]:
    """Describe what can be removed from a network and what is pinned, as plain data.

    Parameters
    ----------
    model : path, ModelProto or gs.Graph
    include, exclude, prune_normalized, head_dim, state, input_shapes, min_keep
        As the flags of `onnxprune inspect`.

    Returns
    -------
    dict
    """
    options = Options(
        include=names(include),
        exclude=names(exclude),
        prune_normalized=prune_normalized,
        head_dim=head_dim,
        state=names(state),
        input_shapes=_shapes(input_shapes),
        min_keep=min_keep,
    )
    opened = _open(model)
    io.check(opened)
    place = place_of(opened)
    analysis = analyse(opened, options)
    return inspection(analysis, floors(analysis, options.keep_at_least[-1]), place)


def _shapes(given: Mapping[str, Sequence[int]] | None) -> dict[str, tuple[int, ...]]:
    return {name: tuple(shape) for name, shape in (given or {}).items()}


def _numbers(value: float | Sequence[float]) -> tuple[float, ...]:
    return tuple(value) if isinstance(value, Sequence) else (value,)
