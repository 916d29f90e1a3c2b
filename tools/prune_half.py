#!/usr/bin/env python3
"""Prune half of every group of channels of one ONNX file, and print what came of it as one line of JSON.

    python tools/prune_half.py resnet18.ts.onnx

Which half is drawn by a fixed seed. The result is proved as the command proves it, compared in its signature and run
on an image of zeros; the pruned network itself is thrown away.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
import traceback
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from check_models import signature

from onnxprune.analysis import Analysis, analyse
from onnxprune.choose import floors
from onnxprune.coupling import Group
from onnxprune.errors import OnnxPruneError, ValidationError
from onnxprune.facts import inspection, place_of
from onnxprune.graph import io
from onnxprune.options import Options
from onnxprune.pipeline import prune_file
from onnxprune.rewrite import GroupPlan, Plan

REASONS = 12


@dataclass
class Half:
    """What came of pruning half of every group.

    `state` is "sound", "unsound" (the proof failed, or the outputs changed), "nothing" (no channel can go), "refused"
    or "crashed". `pins` adds up the parameters of what cannot go, per purpose; a weight that is pinned along two axes
    counts twice. `reasons` are the largest single sites.
    """

    file: str
    state: str = "crashed"
    message: str = ""
    seconds: float = 0.0
    params: float = 0.0
    macs: float = 0.0
    total_params: int = 0
    total_macs: int = 0
    twin: float | None = None
    worst: str = ""
    compared: int = 0
    outputs: str = ""
    groups: int = 0
    channels: int = 0
    nodes: int = 0
    pins: dict[str, int] = field(default_factory=dict)
    reasons: list[dict[str, Any]] = field(default_factory=list)
    no_rule: dict[str, int] = field(default_factory=dict)
    unproved: list[str] = field(default_factory=list)
    trace: list[str] = field(default_factory=list)


def kept_half(group: Group, rng: np.random.Generator) -> tuple[int, ...]:
    """Draw the channels of a group that stay: half of them, equally many of each row, and at least one."""
    rows = np.zeros(group.size, dtype=np.int64) if group.rows is None else group.rows
    places = [np.flatnonzero(rows == row) for row in range(int(rows.max()) + 1)]
    chosen = [rng.choice(place, max(1, len(place) // 2), replace=False) for place in places]
    return tuple(sorted(int(channel) for channel in np.concatenate(chosen)))


def outputs_of(source: Path, target: Path) -> str:
    """Return "same" where the pruned network's outputs are declared and sized as the original's, else what is not."""
    before, after = (onnx.load(path, load_external_data=False) for path in (source, target))
    if signature(before) != signature(after):
        return "signature changed"
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(str(target), options, providers=["CPUExecutionProvider"])
    if len(session.get_inputs()) != 1 or session.get_inputs()[0].type != "tensor(float)":
        return "same"
    (image,) = session.get_inputs()
    shape = [1 if axis == 0 else size for axis, size in enumerate(image.shape)]
    if not isinstance(image.shape[0], str) or not all(isinstance(size, int) for size in shape):
        return "same"
    found = session.run(None, {image.name: np.zeros(shape, dtype=np.float32)})
    for value, declared in zip(found, session.get_outputs(), strict=True):
        if any(isinstance(size, int) and size != real for size, real in zip(declared.shape, value.shape, strict=True)):
            return "size changed"
    return "same"


def _describe(half: Half, analysis: Analysis) -> None:
    """Write down what can go and what cannot."""
    found = inspection(analysis, floors(analysis, 1.0), place_of(analysis.model))
    half.total_params, half.total_macs = found["input"]["params"], found["input"]["macs"]
    half.groups, half.channels = len(found["groups"]), sum(entry["channels"] for entry in found["groups"])
    half.nodes = len(analysis.index.nodes)
    sums: defaultdict[str, int] = defaultdict(int)
    for entry in found["pinned"]:
        sums[entry["purpose"]] += entry["params"]
    half.pins = dict(sorted(sums.items(), key=lambda item: -item[1]))
    half.reasons = sorted(found["pinned"], key=lambda entry: -entry["params"])[:REASONS]
    half.no_rule = dict(Counter(found["no_rule"].values()))


def prune_half(path: Path, options: Options) -> Half:
    """Prune half of every group of a file, in a way drawn by the options' seed."""
    half = Half(path.name)
    start = time.perf_counter()
    try:
        analysis = _analysis(path, options)
        _describe(half, analysis)
        if not analysis.coupling.groups:
            half.state = "nothing"
            return half
        rng = np.random.default_rng(options.seed)
        groups = analysis.coupling.groups
        plan = Plan("", tuple(GroupPlan(group.name, group.size, kept_half(group, rng)) for group in groups))
        del analysis
        with tempfile.TemporaryDirectory() as folder:
            target = Path(folder, "pruned.onnx")
            start = time.perf_counter()
            report = prune_file(path, target, options, replay=plan).report
            half.seconds = time.perf_counter() - start
            half.outputs = outputs_of(path, target)
        half.params, half.macs = report["achieved"]["params"], report["achieved"]["macs"]
        twin = report["validation"]["twin"]
        half.twin, half.worst, half.compared = twin["relative_l2"], twin["worst"], twin["compared"]
        half.unproved = report["validation"]["unproved"]
        half.state = "sound" if twin["passed"] and twin["compared"] and half.outputs == "same" else "unsound"
    except ValidationError as error:
        half.state, half.message = "unsound", str(error)
    except OnnxPruneError as error:
        half.state, half.message = "refused", str(error)
    except Exception as error:  # noqa: BLE001  a crash is what is looked for
        half.message = f"{type(error).__name__}: {error}"
        half.trace = traceback.format_exc().splitlines()[-9:]
    half.seconds = half.seconds or time.perf_counter() - start
    return half


def _analysis(path: Path, options: Options) -> Analysis:
    model = io.load(path)
    io.check(model)
    return analyse(model, options)


def main(argv: Sequence[str] | None = None) -> int:
    """Print one line of JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("file", type=Path, metavar="FILE")
    parser.add_argument("--seed", type=int, default=0, help="seed of the half that stays (default: %(default)s)")
    parser.add_argument("--prune-normalized", action="store_true", help="prune what LayerNormalization reads too")
    parser.add_argument("--head-dim", action="store_true", help="prune within attention heads, not whole heads")
    args = parser.parse_args(argv)
    options = Options(seed=args.seed, prune_normalized=args.prune_normalized, head_dim=args.head_dim)
    print(json.dumps(asdict(prune_half(args.file, options))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
