#!/usr/bin/env python3
"""Measure time and memory of the command on networks that are big: in bytes, or in nodes.

    python tools/bench_size.py bytes --gigabytes 3 [--mlp gelu] [--tied] [--method coreset]
    python tools/bench_size.py nodes --nodes 50000

The networks are made on the spot (big_networks.py), in a temporary folder or in --folder, where they are kept.
`bytes`: a causal language model whose weights are external data, beside a plain copy of its files. Memory is the peak
of the whole process (what the kernel says at its end, mapped files included) and, sampled while it runs, of what is its
own (anonymous) and of what is mapped from files. `nodes`: chains of many nodes, time per stage.
Exit code 1 if a bound is missed.
"""

# The standard library only: the peak memory of a child process includes what its parent had when it was forked.
from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

MEGABYTE = 1e6
# What is promised, on a disk of any speed and on two cores.
PEAK_MEMORY, TIMES_A_COPY = 1500.0, 3.0
ANALYSIS, WHOLE = 5.0, 60.0
SAMPLE = 0.01
COPY = 1 << 24
COLUMNS = "{:34} {:>10} {:>10} {:>10}"


@dataclass(frozen=True)
class Run:
    """One finished process: seconds, and its peaks in MB: of all memory, of its own, and of mapped files."""

    seconds: float
    peak: float
    own: float
    mapped: float


def memory(pid: int) -> tuple[float, float]:
    """Return what a process has by itself and mapped from files, in MB; zeros where the system does not tell."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0, 0.0
    found = {line.split(":")[0]: line.split()[1] for line in lines if line.startswith("Rss")}
    own, mapped = (int(found.get(name, "0")) * 1024 / MEGABYTE for name in ("RssAnon", "RssFile"))
    return own, mapped


def run(*arguments: str) -> Run:
    """Run Python with these arguments and measure the process."""
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, *arguments])
    own = mapped = 0.0
    while True:
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        if pid:
            break
        now = memory(process.pid)
        own, mapped = max(own, now[0]), max(mapped, now[1])
        time.sleep(SAMPLE)
    seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(arguments)[:100]} failed with exit code {process.returncode}")
    scale = 1 if sys.platform == "darwin" else 1024
    return Run(seconds, usage.ru_maxrss * scale / MEGABYTE, own, mapped)


def make(folder: Path, kind: str, *options: str) -> Path:
    """Write a network unless it is there."""
    path = folder / f"{'-'.join([kind, *(option.lstrip('-') for option in options)])}.onnx"
    if not path.exists():
        run(str(Path(__file__).with_name("big_networks.py")), kind, str(path), *options)
    return path


def forget(path: Path) -> None:
    """Let the system forget what it has read of a file, so that it is read from the disk again."""
    if hasattr(os, "posix_fadvise"):
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def copy(source: Path, target: Path) -> float:
    """Copy a file to the disk; returns seconds."""
    start = time.perf_counter()
    with source.open("rb") as reader, target.open("wb") as writer:
        while chunk := reader.read(COPY):
            writer.write(chunk)
        writer.flush()
        os.fsync(writer.fileno())
    seconds = time.perf_counter() - start
    target.unlink()
    return seconds


def prune(source: Path, folder: Path, ratio: float, method: str) -> tuple[Run, dict[str, float]]:
    """Run the command; returns the process and its seconds per stage."""
    report, target = folder / "report.json", folder / "out.onnx"
    options = ["--ratio", str(ratio), "--method", method, "--refit", "off", "--report", str(report), "--quiet"]
    done = run("-m", "onnxprune", str(source), str(target), *options)
    stages = json.loads(report.read_text())["time"]
    for path in (report, target, target.with_name("out.onnx.data")):
        path.unlink(missing_ok=True)
    return done, stages


def judge(name: str, value: float, bound: float, unit: str) -> bool:
    """Print a verdict; returns whether it is kept."""
    fine = value <= bound
    print(f"{'ok    ' if fine else 'MISSED'} {name}: {value:.1f} {unit}, wanted at most {bound:g}")
    return fine


def show_stages(stages: dict[str, float]) -> None:
    """Print seconds per stage."""
    print("  " + ", ".join(f"{stage} {seconds:.1f}" for stage, seconds in stages.items()) + " s")


def big(args: argparse.Namespace, folder: Path) -> bool:
    """Measure a network of many bytes."""
    tied = ["--tied"] if args.tied else []
    source = make(folder, "decoder", "--gigabytes", f"{args.gigabytes:g}", "--mlp", args.mlp, *tied)
    data = source.with_name(f"{source.name}.data")
    size = data.stat().st_size / 1e9
    print(f"{source.name}: {size:.2f} GB, --ratio {args.ratio:g} --method {args.method} --refit off\n")
    print(COLUMNS.format("", "s", "peak MB", "own MB"))
    start = run("-c", "import onnxprune.cli")
    print(COLUMNS.format("interpreter and imports", f"{start.seconds:.1f}", f"{start.peak:.0f}", f"{start.own:.0f}"))
    fine = True
    for state in ("cold", "warm"):
        if state == "cold":
            forget(data)
        plain = copy(data, folder / "copy.data")
        if state == "cold":
            forget(data)
        done, stages = prune(source, folder, args.ratio, args.method)
        print(COLUMNS.format(f"copy of the data, {state} cache", f"{plain:.1f}", "", ""))
        peaks = f"{done.peak:.0f}", f"{done.own:.0f}"
        print(COLUMNS.format(f"the whole command, {state} cache", f"{done.seconds:.1f}", *peaks))
        show_stages(stages)
        fine &= judge("peak memory, mapped files included", done.peak, PEAK_MEMORY, "MB")
        fine &= judge("the whole command, in copies of the data", done.seconds / plain, TIMES_A_COPY, "x")
    return fine


def many(args: argparse.Namespace, folder: Path) -> bool:
    """Measure networks of many nodes."""
    fine = True
    for kind in ("residual", "attention"):
        source = make(folder, kind, "--nodes", str(args.nodes))
        done, stages = prune(source, folder, args.ratio, args.method)
        print(f"{kind}, {args.nodes} nodes: {done.seconds:.1f} s, peak {done.peak:.0f} MB")
        show_stages(stages)
        fine &= judge("analysis", stages["analyse"], ANALYSIS, "s")
        fine &= judge("the whole command", done.seconds, WHOLE, "s")
    return fine


def main(argv: Sequence[str] | None = None) -> int:
    """Make, measure, judge."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("what", choices=("bytes", "nodes"))
    parser.add_argument("--gigabytes", type=float, default=3.0, help="size of the network (default: %(default)s)")
    parser.add_argument("--mlp", choices=("gated", "gelu"), default="gated", help="(default: %(default)s)")
    parser.add_argument("--tied", action="store_true", help="the head is the embedding, transposed")
    parser.add_argument("--nodes", type=int, default=50000, help="nodes of the networks (default: %(default)s)")
    parser.add_argument("--ratio", type=float, default=0.3, help="share to remove (default: %(default)s)")
    parser.add_argument("--method", default="l2", help="(default: %(default)s)")
    parser.add_argument("--folder", type=Path, help="where the networks are made, and kept")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder or Path(temporary)
        folder.mkdir(exist_ok=True)
        fine = big(args, folder) if args.what == "bytes" else many(args, folder)
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
