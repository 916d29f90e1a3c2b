#!/usr/bin/env python3
"""Measure time and memory of the command on one file, beside onnx.load + onnx.save and beside Torch-Pruning.

    python tools/bench.py resnet50.ts.onnx --torch-pruning

Everything is measured in fresh processes, in turn, so that each pays for its own imports and page faults. Torch-Pruning
prunes the torchvision network that the file is named after (torch_pruning_share.py). Exit code 1 if a bound is missed.
"""

# The standard library only: the peak memory of a child process includes what its parent had when it was forked.
from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

IMPORT = "import onnxprune.cli"
LOAD_SAVE = """
import json, sys, time
import onnx
start = time.perf_counter()
model = onnx.load(sys.argv[1])
loaded = time.perf_counter()
onnx.save(model, sys.argv[2])
print(json.dumps([loaded - start, time.perf_counter() - loaded]))
"""
# Channels by their weights alone, which stay: what is measured is the way from file to file.
PLAIN = ("--method", "coreset", "--allocation", "global", "--refit", "off")
# The pipeline without its proof, from the library's own functions.
UNPROVED = """
import sys
from pathlib import Path
import onnxprune.cli
from onnxprune import pipeline
from onnxprune.graph import io, save
from onnxprune.options import Options
from onnxprune.progress import Clock
source, target, ratio = Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3])
model = io.load(source)
options = Options(ratio=ratio, method="coreset", allocation="global", refit="off")
decision = pipeline.plan_model(model, options, Clock())
analysis = decision.analysis
pipeline.apply(model, analysis.index, analysis.shapes, analysis.coupling, decision.plan)
io.check(model)
with save.stage(model, target) as staged:
    staged.commit()
"""


@dataclass(frozen=True)
class Run:
    """One finished process: wall time, peak memory in bytes, and what it printed."""

    seconds: float
    peak: int
    output: str


def run(*arguments: str) -> Run:
    """Run Python with these arguments and measure the process."""
    with tempfile.TemporaryFile("w+") as output:
        start = time.perf_counter()
        process = subprocess.Popen([sys.executable, *arguments], stdout=output)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(f"{arguments[0]} {arguments[1][:40]!r} failed with exit code {process.returncode}")
        output.seek(0)
        scale = 1 if sys.platform == "darwin" else 1024
        return Run(seconds, usage.ru_maxrss * scale, output.read())


def spread(values: Sequence[float], unit: str = "s") -> str:
    """Write median, smallest and largest."""
    return f"{statistics.median(values):7.2f} {unit}  ({min(values):.2f} to {max(values):.2f})"


@dataclass
class Bench:
    """All processes run on one file."""

    source: Path
    ratio: float
    folder: Path

    def __post_init__(self) -> None:
        """Start with no measurement."""
        self.target = str(self.folder / "out.onnx")
        self.imports: list[Run] = []
        self.files: list[tuple[float, float]] = []
        self.commands: list[Run] = []
        self.stages: list[dict[str, float]] = []
        self.unproved: list[Run] = []
        self.peers: list[Run] = []

    def measure(self) -> None:
        """Run everything of ours once."""
        report = self.folder / "report.json"
        self.imports.append(run("-c", IMPORT))
        load, save = json.loads(run("-c", LOAD_SAVE, str(self.source), self.target).output)
        self.files.append((load, save))
        options = [*PLAIN, "--ratio", str(self.ratio), "--report", str(report)]
        self.commands.append(run("-m", "onnxprune", str(self.source), self.target, *options))
        self.stages.append(json.loads(report.read_text())["time"])
        self.unproved.append(run("-c", UNPROVED, str(self.source), self.target, str(self.ratio)))

    def measure_peer(self) -> None:
        """Run Torch-Pruning once."""
        script = str(Path(__file__).with_name("torch_pruning_share.py"))
        name = self.source.name.partition(".")[0]
        self.peers.append(run(script, name, "--export", str(self.folder)))
        found = json.loads(self.peers[-1].output)[name]
        if "error" in found:
            raise SystemExit(f"Torch-Pruning fails on {name}: {found['error']}")

    def verdicts(self) -> list[tuple[str, list[float], float]]:
        """Return what is promised: what it is, the number found in each round, and the bound of its median."""
        size = self.source.stat().st_size
        bare = [rest / sum(files) for rest, files in zip(self._without_start(1.0), self.files, strict=True)]
        libraries = statistics.median(each.peak for each in self.imports)
        memory = [(each.peak - libraries) / size for each in self.unproved]
        found = [
            ("all but validation and start-up, in load + save", bare, 2.5),
            ("peak memory without validation beyond the libraries', in files", memory, 3.0),
        ]
        if self.peers:
            times = [ours.seconds / peer.seconds for ours, peer in zip(self.commands, self.peers, strict=True)]
            found.append(("the whole command, in Torch-Pruning's time", times, 0.5))
        return found

    def show(self) -> None:
        """Print medians with their spread."""
        size = self.source.stat().st_size
        print(f"{self.source.name}, {size / 1e6:.1f} MB, --ratio {self.ratio:g}, {len(self.commands)} runs each\n")
        print(f"interpreter and imports     {spread([each.seconds for each in self.imports])}")
        for stage in self.stages[0]:
            print(f"  stage {stage:19} {spread([each[stage] for each in self.stages])}")
        rest = [sum(each.values()) - each["validate"] for each in self.stages]
        print(f"  all stages but validate   {spread(rest)}")
        print(f"the whole command           {spread([each.seconds for each in self.commands])}")
        print(f"  without start-up          {spread(self._without_start(0.0))}")
        print(f"  without validate either   {spread(self._without_start(1.0))}")
        print(f"onnx.load                   {spread([load for load, _ in self.files])}")
        print(f"onnx.save                   {spread([save for _, save in self.files])}")
        print(f"onnx.load + onnx.save       {spread([load + save for load, save in self.files])}")
        if self.peers:
            print(f"Torch-Pruning, export       {spread([each.seconds for each in self.peers])}")
            laps = [
                next(v for k, v in json.loads(each.output).items() if k[0] != "_")["seconds"] for each in self.peers
            ]
            for step in laps[0]:
                print(f"  step {step:20} {spread([each[step] for each in laps])}")
        libraries = statistics.median(each.peak for each in self.imports)
        print(f"\npeak memory of the libraries {libraries / 1e6:.0f} MB; beyond that, in sizes of the file:")
        for label, runs in (("the whole command", self.commands), ("without validation", self.unproved)):
            print(f"  {label:25} {spread([(each.peak - libraries) / size for each in runs], 'x')}")

    def _without_start(self, proof: float) -> list[float]:
        rounds = zip(self.commands, self.imports, self.stages, strict=True)
        return [whole.seconds - start.seconds - proof * stages["validate"] for whole, start, stages in rounds]


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("file", type=Path, metavar="FILE", help="the network; meant: ResNet-50 with random weights")
    parser.add_argument("--ratio", type=float, default=0.6, help="share to remove (default: %(default)s)")
    parser.add_argument("--runs", type=int, default=5, help="runs of each (default: %(default)s)")
    parser.add_argument("--torch-pruning", action="store_true", help="measure Torch-Pruning too")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(args.file, args.ratio, Path(folder))
        for _ in range(args.runs):
            bench.measure()
            if args.torch_pruning:
                bench.measure_peer()
        bench.show()
        verdicts = bench.verdicts()
    print()
    missed = 0
    for name, values, bound in verdicts:
        fine = statistics.median(values) <= bound
        missed += not fine
        print(f"{'ok    ' if fine else 'MISSED'} {name}: {spread(values, 'x')}, wanted at most {bound:g}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
