"""Networks judged beside their original: read, run side by side, add up, describe. This page is the whole way."""

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune.analysis import analyse
from onnxprune.calibrate.calibration import Batch, Calibration, Network, Slots
from onnxprune.calibrate.given import open_calibration
from onnxprune.calibrate.synthetic import synthesise
from onnxprune.compare.comparison import Comparison
from onnxprune.compare.journal import Journal
from onnxprune.compare.judging import judged_by, scored_outputs
from onnxprune.compare.seeking import sought
from onnxprune.compare.shifts import SHIFTED, open_shifts, shifts_of
from onnxprune.compare.thumbnails import thumbnails
from onnxprune.errors import OnnxPruneError
from onnxprune.evaluate import (
    latencies,
    runner_of,
)
from onnxprune.facts import place_of, placed, versions
from onnxprune.graph import io
from onnxprune.graph.index import Index
from onnxprune.graph.model import Model
from onnxprune.graph.runtime import choose_providers
from onnxprune.options import Options
from onnxprune.progress import Clock
from onnxprune.shapes.infer import infer_shapes

__all__ = ["compare_files"]

_SAMPLES = 1024
"""Samples of given data that are looked at where nobody says how many; of labelled ones all."""
_ALL = 1 << 40
_MACS, _BYTES, _FEWEST, _MOST = 3e11, 1 << 28, 32, 1024
"""What inputs that are made up may cost, and how many there are."""


_ROOM = 1 << 30
"""Bytes of all tensors of a batch: few of them are held at a time, since outputs alone are asked for."""
_PICTURES = 96
"""Inputs that are drawn, of all networks together."""


@dataclass(frozen=True)
class _Opened:
    """A network that was read: its name, what it is and what is known of it."""

    name: str
    model: Model
    facts: dict[str, Any]


def compare_files(
    original: Path,
    others: Sequence[Path],
    asked: Comparison,
    *,
    journal: Path | None = None,
    clock: Clock | None = None,
) -> dict[str, Any]:
    """Compare networks with an original.

    Parameters
    ----------
    original : Path
    others : sequence of Path
        None where `asked.making` says how they are made.
    asked : Comparison
    journal : Path, optional
        Where results under shift are kept as they come: an interrupted comparison goes on from there. Whoever gave it
        closes it.
    clock : Clock, optional

    Returns
    -------
    dict
        Every figure; see the README.

    Raises
    ------
    OnnxPruneError
        If a network cannot be read or run, takes or gives something else, or data do not fit.
    """
    clock = clock or Clock()
    with clock.stage("load", 1 + len(others)):
        providers = choose_providers(asked.providers)
        opened = [
            _opened(path, name, asked, clock) for path, name in zip((original, *others), _names(others), strict=True)
        ]
        apart = [] if asked.control is None else [_opened(asked.control, "control", asked, clock)]
    network = _network(opened[0].model, asked, providers)
    with clock.stage("data"):
        data = _data(network, opened[0].facts["macs"], asked)
    open_runner = partial(runner_of, like=opened[0].model, providers=providers)
    with clock.stage("open", len(opened)):
        runners = [open_runner(each.model.copy(), name=each.name) for each in opened]
        controls = [open_runner(each.model, name=each.name) for each in apart]
    scored, data = scored_outputs(runners[0], data, network, asked)
    inputs = open_shifts(runners[0], scored.classes, data, network, asked) if asked.shifts else None
    key = [inputs.inputs.digest if inputs else "", _key((*opened, *apart), asked, providers)]
    notes = Journal(journal if asked.shifts else None, json.dumps(key, sort_keys=True))
    if inputs is not None and asked.making is not None:
        for made in sought(opened[0].model, inputs, partial(open_runner, name="a pruned network"), asked, notes, clock):
            runners.append(made.runner)
            model = io.from_proto(made.model.materialise())  # it is in no file
            opened.append(_described(model, f"pruned-{made.ratio:.4g}", asked))
    with clock.stage("compare", data.count):
        judged, first = judged_by(runners, data, network, scored.labelled, clock)
    told = [{name: pair.facts() for name, pair in found.pairs.items()} for found in judged]
    _shown(told, data, network)
    with clock.stage("time"):
        times = latencies(runners, _alone(first, network), Slots.of(network).batch if Slots.of(network).fixed else 1)
    for each, latency in zip(opened, times, strict=True):
        each.facts["latency"] = latency.facts
    before = opened[0].facts["params"]
    removed = [1 - each.facts["params"] / before if before else 0.0 for each in opened[1:]]
    shifted: dict[str, Any] = dict.fromkeys(SHIFTED)
    if inputs is not None:
        names = [each.name for each in (*opened, *apart)]
        shifted = shifts_of(inputs.of([*runners, *controls], names), removed, asked, notes, clock)
    return {
        "kind": "compare",
        "original": opened[0].facts,
        "networks": [
            {
                **each.facts,
                "removed": share,
                "outputs": outputs,
                "skipped": found.skipped(data.count),
                "detections": found.detections.facts(),
            }
            for each, outputs, found, share in zip(opened[1:], told, judged, removed, strict=True)
        ],
        "data": {
            "origin": data.origin,
            "samples": data.count,
            "labelled": data.labels is not None,
            "notes": list(data.notes),
        },
        **shifted,
        "request": asked.request(),
        "time": clock.rounded(),
        "versions": versions(),
    }


def _key(opened: Sequence[_Opened], asked: Comparison, providers: Sequence[str]) -> list[Any]:
    """What results depend on beside the inputs."""
    files = [file for each in opened for file in each.model.data_files]
    learnt = None if asked.making is None else asked.making.calib
    if isinstance(learnt, str | PathLike):
        with suppress(OSError):
            files += [Path(learnt), *sorted(Path(learnt).rglob("*"))]
    stamps = []
    for file in files:
        with suppress(OSError):  # what is missing is said by whoever reads it
            stat = file.stat()
            stamps.append((str(file), stat.st_size, stat.st_mtime_ns))
    request = {name: value for name, value in asked.request().items() if name != "fail_if"}
    return [[each.facts["sha256"] for each in opened], stamps, request, list(providers), versions()]


def _shown(told: Sequence[dict[str, Any]], data: Calibration, network: Network) -> None:
    """Name inputs that changed their class by their place in the data, and draw those that are pictures, some each."""
    changed = [figures["flipped"] for outputs in told for figures in outputs.values() if figures["flipped"]]
    some = max(_PICTURES // max(len(changed), 1), 4)
    drawn = thumbnails(data, network, [entry["sample"] for flipped in changed for entry in flipped[:some]])
    for flipped in changed:
        for number, entry in enumerate(flipped):
            entry["thumbnail"] = drawn.get(entry["sample"]) if number < some else None
            entry["sample"] = data.place(entry["sample"])


def _names(others: Sequence[Path]) -> list[str]:
    """Names for messages and tables: of the files, with their folders where those alone tell them apart."""
    short = [path.stem for path in others]
    names = [str(path) if short.count(path.stem) > 1 else path.stem for path in others]
    # One file may be given twice, or be called as those that have a name.
    again = [["original", "control", *names[:number]].count(name) for number, name in enumerate(names)]
    return ["original", *(f"{name} ({count + 1})" if count else name for name, count in zip(names, again, strict=True))]


def _opened(path: Path, name: str, asked: Comparison, clock: Clock) -> _Opened:
    model = io.load(path)
    io.check(model)
    clock.progress.advance()
    return _described(model, name, asked)


def _described(model: Model, name: str, asked: Comparison) -> _Opened:
    place = place_of(model)
    macs: int | None = None
    with suppress(OnnxPruneError):  # of another tool's making, and not to be looked into: all else can be told
        macs = round(analyse(model.copy(), Options(input_shapes=asked.input_shapes)).total("macs"))
    return _Opened(name, model, {"name": name, **placed(place, {"params": place.params, "macs": macs})})


def _network(model: Model, asked: Comparison, providers: tuple[str, ...]) -> Network:
    index = Index(model.proto)
    return Network(model, index, infer_shapes(index, model.skeleton(), asked.input_shapes), providers, _ROOM)


def _data(network: Network, macs: int | None, asked: Comparison) -> Calibration:
    if asked.data is not None:
        limit = asked.samples or _SAMPLES
        return open_calibration(
            asked.data,
            network,
            limit=limit,
            limit_labelled=asked.samples or _ALL,
            scale=asked.scale,
            labels=asked.labels,
            positions=True,
        )
    shapes = list(network.shapes.inputs.values())
    batch = max((shape[0] for shape in shapes if shape), default=1)
    each = 4.0 * sum(float(np.prod(shape)) for shape in shapes) / batch
    affordable = min(_MACS * batch / max(macs or 1e9, 1), _BYTES / max(each, 1.0))
    count = asked.synthetic or int(np.clip(affordable, _FEWEST, _MOST))
    return synthesise(network, count=count, seed=asked.seed, scale=asked.scale)


def _alone(batch: Batch, network: Network) -> dict[str, NDArray[Any]]:
    """One sample of a batch, or all of it where the network takes so many."""
    slots = Slots.of(network)
    if slots.fixed:
        return batch.feeds
    return {
        slot.name: batch.feeds[slot.name] if slot.axis is None else np.take(batch.feeds[slot.name], [0], axis=slot.axis)
        for slot in slots.inputs
    }
