#!/usr/bin/env python3
"""Prune every ONNX file of a folder through the command, and check what it must never break.

    python tools/check_models.py FOLDER

Each file is pruned with `--ratio 0.3` and with `--ratio 0.6 --best-effort`. A pruned file has to load in onnxruntime,
if the original does, with unchanged signature, metadata and operator sets; a refusal is one line (warnings may come
before it), and leaves nothing behind. Exit code 1 if any file breaks a rule; a refusal breaks none, but has to be read.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onnx
import onnxruntime

from onnxprune.cli import main as onnxprune

REQUESTS = (("--ratio", "0.3"), ("--ratio", "0.6", "--best-effort"))
FILE_FIELDS = ("ir_version", "producer_name", "producer_version", "domain", "model_version", "doc_string")


@dataclass
class Finding:
    """What came of one command."""

    state: str
    text: str
    seconds: float
    problems: list[str] = field(default_factory=list)
    stderr: list[str] = field(default_factory=list)


def signature(model: onnx.ModelProto) -> dict[str, list[bytes]]:
    """Return names, types and shapes of the inputs that are not initializers and of the outputs, serialised."""
    stored = {tensor.name for tensor in model.graph.initializer}
    inputs = [value.SerializeToString() for value in model.graph.input if value.name not in stored]
    return {"inputs": inputs, "outputs": [value.SerializeToString() for value in model.graph.output]}


def facts(path: Path) -> dict[str, Any]:
    """Return everything about a file that pruning has to leave as it is."""
    model = onnx.load(path, load_external_data=False)
    opsets = sorted((entry.domain, entry.version) for entry in model.opset_import)
    metadata = [(entry.key, entry.value) for entry in model.metadata_props]
    fields = {name: getattr(model, name) for name in FILE_FIELDS}
    return {**signature(model), "opset imports": opsets, "metadata": metadata, "graph": model.graph.name, **fields}


def load_error(path: Path) -> str:
    """Return what onnxruntime says against a file, empty for nothing."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # noqa: BLE001  whatever it is, the file does not load
        return str(error).splitlines()[0]
    return ""


@contextmanager
def captured(folder: Path) -> Iterator[Path]:
    """Send stdout and stderr, those of C++ libraries too, to two files `out` and `err` of a folder."""
    saved = {number: os.dup(number) for number in (1, 2)}
    sys.stdout.flush()
    try:
        for number, name in ((1, "out"), (2, "err")):
            with (folder / name).open("wb") as file:
                os.dup2(file.fileno(), number)
        yield folder
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for number, copy in saved.items():
            os.dup2(copy, number)
            os.close(copy)


def run(path: Path, request: Sequence[str]) -> Finding:
    """Prune one file, and look for everything that has gone wrong."""
    with tempfile.TemporaryDirectory() as name:
        folder, logs = Path(name, "written"), Path(name, "logs")
        folder.mkdir()
        logs.mkdir()
        target, report = folder / "pruned.onnx", logs / "report.json"
        start, code, crash = time.perf_counter(), -1, ""
        with captured(logs):
            try:
                code = onnxprune([str(path), str(target), *request, "--report", str(report)])
            except Exception:  # noqa: BLE001  the very thing that is looked for
                crash = traceback.format_exc()
        seconds = time.perf_counter() - start
        stderr = (logs / "err").read_text(errors="replace").splitlines()
        problems = [f"traceback: {crash.splitlines()[-1]}"] if crash else []
        written = sorted(file.name for file in folder.iterdir())
        if code == 0:
            text, found = _pruned(path, target, json.loads(report.read_text()))
            extra = [file for file in written if file not in ("pruned.onnx", "pruned.onnx.data")]
            return Finding("pruned", text, seconds, problems + found + [f"left behind: {e}" for e in extra], stderr)
        problems += [f"written though refused: {', '.join(written)}"] if written else []
        problems += [] if code == 1 or crash else [f"exit code {code}"]
        said = [line for line in stderr if line.startswith("onnxprune: error: ") or not line.startswith("onnxprune: ")]
        problems += [] if len(said) == 1 or crash else [f"{len(said)} lines on stderr besides warnings, not one"]
        text = crash if crash else " ".join(said).removeprefix("onnxprune: error: ")
        state = "crashed" if crash else "refused" if code == 1 else "failed"
        return Finding(state, text, seconds, problems)


def _pruned(source: Path, target: Path, report: dict[str, Any]) -> tuple[str, list[str]]:
    before, after = facts(source), facts(target)
    problems = [f"changed: {key}" for key in before if before[key] != after[key]]
    error = load_error(target)
    problems += [f"does not load: {error}"] if error and not load_error(source) else []
    validation, achieved = report["validation"], report["achieved"]
    twin = validation["twin"]
    problems += [] if twin["passed"] else ["the twin differs"]
    problems += [] if twin["compared"] else ["the twin compared nothing"]
    text = (
        f"parameters -{achieved['params']:.1%}  MACs -{achieved['macs']:.1%}  twin {twin['relative_l2']:.1e} "
        f"({twin['compared']} tensors)  groups {len(report['groups'])}"
    )
    if validation["unproved"]:
        text += f"  unproved: {', '.join(validation['unproved'])}"
    if report["no_rule"]:
        text += f"  no rule: {', '.join(sorted(set(report['no_rule'].values())))}"
    return text, problems


def main(argv: Sequence[str] | None = None) -> int:
    """Check every file of a folder."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="folder of .onnx files")
    parser.add_argument("--match", default="*.onnx", metavar="GLOB", help="files to check (default: %(default)s)")
    args = parser.parse_args(argv)
    paths = sorted(args.folder.glob(args.match))
    if not paths:
        parser.error(f"no {args.match} in {args.folder}")
    states: Counter[str] = Counter()
    broken = []
    for path in paths:
        print(path.name, flush=True)
        error = load_error(path)
        if error:
            print(f"    the original does not load in onnxruntime: {error}")
        for request in REQUESTS:
            finding = run(path, request)
            states[finding.state] += 1
            print(f"    {' '.join(request[1:]):18} {finding.state:8} {finding.seconds:5.1f} s  {finding.text}")
            for line in finding.stderr:
                print(f"    stderr: {line}")
            for problem in finding.problems:
                print(f"    BROKEN: {problem}", flush=True)
            broken += [f"{path.name} {' '.join(request)}"] if finding.problems else []
    counts = ", ".join(f"{count} {state}" for state, count in states.items())
    print(f"{len(paths)} files: {counts}; {len(broken)} commands broke a rule")
    for name in broken:
        print(f"    {name}")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
