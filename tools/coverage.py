#!/usr/bin/env python3
"""Export the networks of the zoo, prune half of every group of each, and count what is sound and what is missed.

    python tools/coverage.py FOLDER
    python tools/coverage.py FOLDER transformers timm_vit_tiny_patch16_224 --exporter both --prune-normalized

FOLDER keeps the exported files, so that only what is missing is exported; an export that failed is kept as a text, and
tried again with --retry. Each network is exported and pruned in processes of its own, with a limit of time. With
--torch-pruning, Torch-Pruning's share is measured too, once, and kept in FOLDER/tp.json. Names are those of
zoo_names.py, or of a library: torchvision, timm, transformers, huge (more than 2 GB each), readme (those that the
README shows); torchvision, transformers and timm by default.

One row per file: the shares of parameters and multiply-accumulates that went, seconds, relative L2 of the difference
from the twin, Torch-Pruning's share, and the shares of the parameters that cannot go, per purpose (a weight that is
pinned along two axes counts twice). Exit code 1 if anything is unsound or crashes.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zoo_names import LIBRARIES

TOOLS = Path(__file__).parent
MARGIN = 0.005
WORST = ("unsound", "crashed", "timeout")
SHOWN, SMALL = 3, 0.01


@dataclass(frozen=True)
class Limits:
    """Seconds that each step may take."""

    export: int
    prune: int
    torch_pruning: int


@dataclass
class Row:
    """One file, or the reason why there is none."""

    network: str
    kind: str
    state: str
    message: str = ""
    half: dict[str, Any] = field(default_factory=dict)
    torch_pruning: dict[str, Any] = field(default_factory=dict)

    @property
    def theirs(self) -> float | None:
        """Torch-Pruning's share, of a network that still runs."""
        share: float | None = self.torch_pruning.get("removed") if self.torch_pruning.get("runs") == "yes" else None
        return share

    @property
    def is_below(self) -> bool:
        """Tell whether Torch-Pruning removes more."""
        return self.theirs is not None and self.half.get("params", 0.0) < self.theirs - MARGIN

    @property
    def pins(self) -> str:
        """Write the largest purposes of pins with their shares of the parameters."""
        total = self.half.get("total_params") or 1
        shares = [(purpose, params / total) for purpose, params in self.half.get("pins", {}).items()]
        return ", ".join(f"{purpose} {share:.0%}" for purpose, share in shares[:SHOWN] if share >= SMALL)

    def cells(self) -> tuple[str, ...]:
        """Return the row of the table."""
        peer = self.torch_pruning
        theirs = "–" if not peer else "fails" if "error" in peer else f"{peer['removed']:.1%}"
        theirs += "" if self.theirs is not None or theirs in ("–", "fails") else " (does not run)"
        half = self.half
        if self.state not in ("sound", "unsound") or half.get("twin") is None:
            return (f"{self.network}.{self.kind}", self.state, "", "", "", "", theirs, self.message[:120] or self.pins)
        return (
            f"{self.network}.{self.kind}",
            self.state,
            f"{half['params']:.1%}",
            f"{half['macs']:.1%}",
            f"{half['seconds']:.1f}",
            f"{half['twin']:.1e}",
            theirs,
            self.pins,
        )


def python(script: str, arguments: Sequence[str], seconds: int) -> tuple[str, str]:
    """Run a tool in a process of its own; return what it printed, and what is wrong if anything is."""
    command = [sys.executable, str(TOOLS / script), *arguments]
    try:
        ran = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        return "", f"timeout after {seconds} s"
    if ran.returncode and not ran.stdout.strip():
        lines = ran.stderr.strip().splitlines()
        return "", f"exit code {ran.returncode}: {lines[-1] if lines else ''}"
    return ran.stdout, ""


def _read(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text())) if path.exists() else {}


@dataclass
class Coverage:
    """What is done with every network."""

    folder: Path
    limits: Limits
    options: tuple[str, ...] = ()
    retry: bool = False
    torch_pruning: bool = False

    def export(self, network: str, kind: str) -> str:
        """Export a network, unless it has been; return what went wrong."""
        path = self.folder / f"{network}.{kind}.onnx"
        failure = path.with_suffix(".failed")
        if path.exists():
            return ""
        if failure.exists() and not self.retry:
            return failure.read_text()
        exporter, _, zero = kind.partition(".")
        arguments = [str(self.folder), network, "--exporter", exporter, *(["--zero-bias"] if zero else [])]
        printed, problem = python("zoo_export.py", arguments, self.limits.export)
        failure.unlink(missing_ok=True)
        if path.exists():
            if "too large" in printed:
                print(f"<!-- {printed.strip()} -->", flush=True)
            return ""
        problem = " ".join((problem or printed).split())[:600] or "no file was written"
        failure.write_text(problem)
        return problem

    def prune(self, network: str, kind: str) -> Row:
        """Prune an exported network."""
        path = self.folder / f"{network}.{kind}.onnx"
        printed, problem = python("prune_half.py", [str(path), *self.options], self.limits.prune)
        if problem:
            return Row(network, kind, "timeout" if problem.startswith("timeout") else "crashed", problem)
        half = json.loads(printed.strip().splitlines()[-1])
        return Row(network, kind, half["state"], half["message"], half)

    def peer(self, network: str) -> dict[str, Any]:
        """Return what Torch-Pruning makes of a network; measured once."""
        path = self.folder / "tp.json"
        known = _read(path)
        if network not in known and self.torch_pruning:
            printed, problem = python("torch_pruning_share.py", [network], self.limits.torch_pruning)
            found = {"error": problem} if problem else json.loads(printed)[network]
            known = {**_read(path), network: found}
            path.write_text(json.dumps(known, indent=1) + "\n")
        return dict(known.get(network, {}))

    def rows(self, network: str, kinds: Sequence[str], fallback: dict[str, str]) -> Iterator[Row]:
        """Export and prune a network in every kind; where a kind cannot be exported, in the one that replaces it."""
        for kind in kinds:
            problem = self.export(network, kind)
            other = fallback.get(kind)
            if problem and other is not None:
                also = self.export(network, other)
                row = Row(network, other, "not exported", f"{problem}; {also}") if also else self.prune(network, other)
            else:
                row = Row(network, kind, "not exported", problem) if problem else self.prune(network, kind)
            row.torch_pruning = self.peer(network)
            yield row


def kinds_of(exporter: str, zero_bias: bool) -> tuple[list[str], dict[str, str]]:
    """Return the kinds of files that are wanted, and what replaces one that cannot be exported."""
    kinds = ["ts", "dynamo"] if exporter == "both" else [exporter]
    fallback = {"ts": "dynamo", "ts.zero": "dynamo.zero"} if exporter == "ts" else {}
    return kinds + ([f"{kind}.zero" for kind in kinds] if zero_bias else []), fallback


def chosen(names: Sequence[str], parser: argparse.ArgumentParser) -> list[str]:
    """Return the networks that names of networks and libraries stand for."""
    known = [name for library in LIBRARIES.values() for name in library]
    found: list[str] = []
    for name in names or ("torchvision", "transformers", "timm"):
        if name not in LIBRARIES and name not in known:
            parser.error(f"{name}: no network and no library of the zoo")
        found += LIBRARIES.get(name, (name,))
    return list(dict.fromkeys(found))


def summary(rows: Sequence[Row]) -> str:
    """Count what came of all networks."""
    states = Counter(row.state for row in rows)
    exported = [row for row in rows if row.state != "not exported"]
    compared = [row for row in exported if row.theirs is not None]
    lines = [
        f"{len({row.network for row in rows})} networks tried, {len({row.network for row in exported})} exported to "
        f"{len(exported)} files: {states['sound']} pruned and sound, {states['unsound']} unsound, "
        f"{states['crashed']} crashed, {states['timeout']} out of time, {states['refused']} refused, "
        f"{states['nothing']} with nothing to prune",
        f"{sum(row.is_below for row in compared)} of {len(compared)} files below Torch-Pruning by more than "
        f"{MARGIN:.1%} of the parameters, where its network still runs",
    ]
    for row in rows:
        name = f"{row.network}.{row.kind}"
        if row.state != "sound":
            lines.append(f"MISSED {name}: {row.state}: {row.message or row.pins}")
        elif row.is_below:
            lines.append(f"BELOW {name}: {row.half['params']:.1%}, Torch-Pruning {row.theirs:.1%}: {row.pins}")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Print a table, and count."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="where exported networks are kept")
    parser.add_argument("names", nargs="*", metavar="NAME", help="networks or libraries (default: all but the huge)")
    parser.add_argument("--exporter", choices=["ts", "dynamo", "both"], default="ts", help="(default: %(default)s)")
    parser.add_argument("--zero-bias", action="store_true", help="files with all-zero biases too")
    parser.add_argument("--torch-pruning", action="store_true", help="measure Torch-Pruning where it has not been")
    parser.add_argument("--prune-normalized", action="store_true", help="prune what LayerNormalization reads too")
    parser.add_argument("--head-dim", action="store_true", help="prune within attention heads, not whole heads")
    parser.add_argument("--retry", action="store_true", help="try exports again that failed")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every number")
    parser.add_argument("--seconds", type=int, nargs=3, default=(600, 600, 200), metavar=("EXPORT", "PRUNE", "PEER"))
    args = parser.parse_args(argv)
    names = chosen(args.names, parser)
    args.folder.mkdir(parents=True, exist_ok=True)
    flags = {"--prune-normalized": args.prune_normalized, "--head-dim": args.head_dim}
    options = tuple(flag for flag, wanted in flags.items() if wanted)
    coverage = Coverage(args.folder, Limits(*args.seconds), options, args.retry, args.torch_pruning)
    kinds, fallback = kinds_of(args.exporter, args.zero_bias)

    print("| file | state | parameters | MACs | seconds | twin | Torch-Pruning | what cannot go |")
    print("|---|---|---|---|---|---|---|---|")
    rows = []
    for name in names:
        for row in coverage.rows(name, kinds, fallback):
            rows.append(row)
            print(f"| {' | '.join(row.cells())} |", flush=True)
            if args.json is not None:
                found = [{**vars(each), "below": each.is_below} for each in rows]
                args.json.write_text(json.dumps({"options": options, "rows": found}, indent=1) + "\n")
    print(f"\n{summary(rows)}")
    return 1 if any(row.state in WORST for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
