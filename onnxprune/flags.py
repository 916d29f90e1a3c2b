"""The command's flags: what can be written on the command line, and what `--help` says of it."""

import argparse
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

from onnxprune.budget import ALLOCATIONS
from onnxprune.coupling.costs import MEASURES
from onnxprune.errors import UsageError
from onnxprune.methods import METHODS
from onnxprune.methods.sparsity import SPARSIFIERS
from onnxprune.options import LAYER_ORDERS, REFITS, Options
from onnxprune.parsing import Parser, new_parser, parse_input_shape, parse_numbers, parse_round_to

__all__ = [
    "REPORT",
    "add_data",
    "family_options",
    "family_parser",
    "input_shapes",
    "inspect_parser",
    "prune_options",
    "prune_parser",
    "run_flags",
]

_DESCRIPTION = """Make an ONNX network structurally smaller, and prove what was done.

`onnxprune inspect IN` shows what can be removed from a network and what is pinned, with the reasons;
`onnxprune family IN OUTDIR` writes several sizes of one network; `onnxprune compare ORIGINAL PRUNED` judges files."""
_FAMILY = """Prune a network by several ratios at once: it is looked at once, every member is a part of the one
before, and one table says what each is worth."""
REPORT = "write every number to FILE.json, or a page to look at to FILE.html, with FILE.json beside it"
_EPILOG = """--ratio is the share that is REMOVED: 0.6 leaves 40 % of the parameters. Half the channels of every layer
is about three quarters of the parameters. Exit codes: 0 done, 1 refused or failed, 2 usage, 3 validation
failed (nothing written) or --fail-if of `onnxprune compare` holds, 130 interrupted."""


def _add_common(parser: Parser) -> None:
    parser.names(
        "--include", "NAME", "prune only what these nodes or tensors touch; a name, or a pattern that matches all of it"
    )
    parser.names("--exclude", "NAME", "leave what these nodes or tensors touch as it is")
    parser.switch(
        "--prune-normalized",
        text="open the channels that LayerNormalization and its kin take statistics over (streams of transformers): "
        "statistics are then over the kept ones, so the function changes before any weight does",
    )
    parser.switch(
        "--head-dim", text="prune within attention heads, equally many positions of each, in place of whole heads"
    )
    parser.names(
        "--state",
        "IN:OUT",
        "an input and the output that is handed back there: units that they are states of may go too; both keep their "
        "shapes, slots of what went are not read and are handed out as zero",
    )
    parser.names(
        "--input-shape",
        "NAME:SIZES",
        "sizes of an input with symbolic dimensions, for MACs and validation: x:1,3,224,224",
    )
    parser.value("--report", "FILE", REPORT, type=Path)


def add_data(parser: Parser, flag: str = "--calib") -> None:
    """Add the flags about inputs: those of a flag, or made up ones."""
    most, held = "all" if flag == "--data" else "up to 4096", " on a quarter at least, held out"
    parser.value(
        flag,
        "DATA",
        "inputs like those the network will see, no labels needed: .npz (arrays by the inputs' names), .npy, a JSON of "
        "polygraphy, or a folder of them, of pictures or of test_data_set_* (default: inputs are made up)",
    )
    parser.value(
        "--samples",
        "N",
        f"samples of {flag} used at most, evenly spread (default: 1024, with classes {most})",
        type=int,
    )
    parser.value(
        "--synthetic",
        "N",
        f"samples made up without {flag}: pictures with natural statistics, texts that the network writes itself, or "
        "numbers (default: as many as fit five minutes)",
        type=int,
    )
    parser.value(
        "--input-range",
        "LOW,HIGH",
        "what black and white of a picture are fed as, as in =0,1 or =-1,1 or =0,255 (default: found by trying)",
        default="",
    )
    parser.value("--mean", "NUMBERS", "what is subtracted from pictures, one number or one per colour", default="")
    parser.value("--std", "NUMBERS", "what they are divided by then, one number or one per colour", default="")
    parser.value(
        "--labels",
        "FILE",
        f"classes of the samples of {flag}, whole numbers in an .npy or .npz; arrays 'labels' and folders of pictures "
        f"in folders have them: accuracy before and after is then measured{'' if flag == '--data' else held}",
    )


def _add_choice(parser: Parser) -> None:
    """Flags about what goes: those that a prune and a family have in common."""
    methods = "; ".join(f"{name}: {recipe.summary}" for name, recipe in METHODS.items()).replace("%", "%%")
    measures, allocations, refits, orders = map(", ".join, (MEASURES, ALLOCATIONS, REFITS, LAYER_ORDERS))
    parser.value("--measure", "M", f"share of what: {measures} (default: params)", default="params")
    parser.value("--method", "M", f"how channels are chosen (default: auto). {methods}", default="auto")
    parser.value(
        "--rank",
        "N",
        "dimensions that lowner reduces the n channels of a group to (default: half the root of n / 2; up to the root "
        "of n / 2 its ellipsoids tell channels apart)",
        type=int,
    )
    parser.value(
        "--layer-order",
        "O",
        f"whether layers are looked at as they are, or one after the other, each without what went before: {orders} "
        "(default: together; the others are for methods that learn nothing from data)",
        default="together",
    )
    parser.value(
        "--allocation",
        "A",
        f"how the share is spread: auto, {allocations} (default: auto; error: so that what is lost is least, by data; "
        "global: by normalised scores; uniform: every group alike; accuracy: every group as far as one accuracy "
        "allows, told by up to 512 samples with classes, at eight runs of them from each group's readers on; auto: "
        "error where there is data, else global)",
        default="auto",
    )
    parser.value(
        "--refit",
        "R",
        f"solve the readers' weights anew on calibration data, or on synthetic inputs: {refits} (default: auto: unless "
        "the method brings weights of its own)",
        default="auto",
    )
    parser.value(
        "--distill",
        "D",
        f"move all weights together then, by derivatives of onnxprune's own, until the answers on those inputs are the "
        f"original's: {refits} (default: auto: where readers are solved anew and it costs little; kept where inputs "
        "that are not learnt from say so)",
        default="auto",
    )
    parser.switch(
        "--reinit",
        text="draw all weights of the pruned network anew (by --seed, each as its operator is usually begun with), for "
        "training from scratch: the architecture is what is kept",
    )
    parser.value(
        "--round-to",
        "N",
        "kept counts go up to a multiple: off, auto, or a number; the attained share is then reported, not promised "
        "(default: off)",
        default="off",
    )
    parser.value(
        "--min-keep",
        "N",
        "channels of each group that stay at least, a share where below 1 (default: 1 for --allocation uniform, else "
        "0.1, or less where the ratio needs it)",
        type=float,
    )
    parser.switch("--best-effort", text="take the nearest share where the ratio cannot be reached")
    _add_common(parser)
    parser.names(
        "--providers",
        "P",
        "onnxruntime providers for validation: cpu, cuda or a full name (default: CUDA where it works, else CPU)",
    )
    add_data(parser)
    parser.value(
        "--input-bound",
        "B",
        "largest magnitude of the network's inputs: how large what each layer reads can be follows, for the scores of "
        "the coreset methods and for certificates (default: vectors of length 1, or as measured)",
        type=float,
    )
    parser.switch(
        "--certify",
        text="measure the error of every thinned group beside its bound, and bound that of the whole, whatever it "
        "costs (small networks: always)",
    )
    parser.value("--seed", "N", "seed of everything random (default: 0)", type=int, default=0)
    parser.switch("--save-as-external-data", text="weights go to OUT.data")
    parser.switch("-q", "--quiet", text="print nothing but errors")
    parser.switch("-v", "--verbose", text="print groups, what is pinned and times too")
    parser.add_argument("--version", action="version", version=f"onnxprune {metadata.version('onnxprune')}")


def prune_parser() -> argparse.ArgumentParser:
    """Return the parser of `onnxprune IN OUT`."""
    parser = new_parser("onnxprune", _DESCRIPTION, _EPILOG)
    parser.add_argument("input", metavar="IN", type=Path, help="the ONNX file to prune")
    parser.add_argument("output", metavar="OUT", type=Path, nargs="?", help="the file to write")
    parser.value("--ratio", "R", "share to REMOVE, between 0 and 1; met within one percentage point", type=float)
    parser.value(
        "--max-drop",
        "P",
        "points of top-1 accuracy that may be lost, as in =1: finds the largest share that keeps to it, on samples of "
        "--calib with classes that are held out; --ratio is then the largest tried",
        type=float,
    )
    sparse = "; ".join(f"{name}: {method.summary}" for name, method in SPARSIFIERS.items())
    parser.switch(
        "--sparse",
        text="write zeros in place of single weights: shapes stay, and --ratio is the share of zeros. --method is then "
        f"synflow (by default) or another of these, by what goes first. {sparse}",
    )
    _add_choice(parser)
    parser.value("--plan", "FILE", "write what is kept of each group to FILE (JSON)", type=Path)
    parser.value("--profile", "FILE", "write the widths of all layers, before and after, to FILE (JSON)", type=Path)
    parser.value("--replay", "FILE", "carry out a plan in place of --ratio and --method", type=Path)
    parser.switch(
        "--dry-run",
        text="say what would be done, but write no network and run nothing (--plan and --report are written)",
    )
    return parser


def family_parser() -> argparse.ArgumentParser:
    """Return the parser of `onnxprune family IN OUTDIR`."""
    parser = new_parser("onnxprune family", _FAMILY)
    parser.add_argument("input", metavar="IN", type=Path, help="the ONNX file to prune")
    parser.add_argument("folder", metavar="OUTDIR", type=Path, help="where the members go, as IN-0.2.onnx")
    parser.value(
        "--ratios", "R,R", "shares to REMOVE, between 0 and 1 (default: 0.2,0.4,0.6,0.8)", default="0.2,0.4,0.6,0.8"
    )
    _add_choice(parser)
    return parser


def inspect_parser() -> argparse.ArgumentParser:
    """Return the parser of `onnxprune inspect IN`."""
    parser = new_parser(
        "onnxprune inspect", "Show groups of channels, what is pinned and why, and how far one could go."
    )
    parser.add_argument("input", metavar="IN", type=Path, help="the ONNX file to look at")
    parser.value(
        "--min-keep",
        "N",
        "channels of each group that stay at least, a share where below 1 (default: 1)",
        type=float,
        default=1.0,
    )
    _add_common(parser)
    return parser


def input_shapes(arguments: argparse.Namespace) -> dict[str, tuple[int, ...]]:
    """Read --input-shape."""
    return dict(parse_input_shape(text) for text in arguments.input_shape)


def run_flags(arguments: argparse.Namespace) -> dict[str, Any]:
    """Read the flags about how networks are run, which all commands that run any have in common."""
    return {
        "input_range": arguments.input_range,
        "mean": parse_numbers("--mean", arguments.mean),
        "std": parse_numbers("--std", arguments.std),
        "input_shapes": input_shapes(arguments),
        "providers": tuple(name for text in arguments.providers for name in text.split(",")),
        "seed": arguments.seed,
    }


def prune_options(arguments: argparse.Namespace) -> Options:
    """Read the flags of `onnxprune IN OUT` that are about the network.

    Raises
    ------
    UsageError
        If a flag, or a combination of flags, is wrong by itself.
    """
    if (arguments.ratio is None and arguments.max_drop is None) == (arguments.replay is None):
        raise UsageError(
            "give the share to remove with --ratio R, the accuracy to lose with --max-drop P, or a plan with --replay "
            "FILE (a plan alone)"
        )
    if arguments.output is None and not arguments.dry_run:
        raise UsageError("name the file to write, as in `onnxprune IN OUT --ratio 0.6`, or add --dry-run")
    for flag, value in (("--plan", arguments.plan), ("--profile", arguments.profile)):
        if arguments.sparse and value is not None:
            raise UsageError(f"{flag} is about channels, and --sparse zeroes single weights: leave one of them out")
    asked = _options(arguments)
    return replace(asked, ratio=arguments.ratio, max_drop=arguments.max_drop, sparse=arguments.sparse)


def family_options(arguments: argparse.Namespace) -> tuple[Options, tuple[float, ...]]:
    """Read the flags of `onnxprune family IN OUTDIR`, and the ratios.

    Raises
    ------
    UsageError
        If a flag is wrong by itself.
    """
    return _options(arguments), parse_numbers("--ratios", arguments.ratios)


def _options(arguments: argparse.Namespace) -> Options:
    """Flags that a prune and a family have in common."""
    return Options(
        measure=arguments.measure,
        method=arguments.method,
        rank=arguments.rank,
        layer_order=arguments.layer_order,
        allocation=arguments.allocation,
        refit=arguments.refit,
        distill=arguments.distill,
        reinit=arguments.reinit,
        include=tuple(arguments.include),
        exclude=tuple(arguments.exclude),
        prune_normalized=arguments.prune_normalized,
        head_dim=arguments.head_dim,
        state=tuple(arguments.state),
        round_to=parse_round_to(arguments.round_to),
        min_keep=arguments.min_keep,
        input_bound=arguments.input_bound,
        certify=arguments.certify,
        best_effort=arguments.best_effort,
        calib=arguments.calib,
        samples=arguments.samples,
        synthetic=arguments.synthetic,
        labels=arguments.labels,
        **run_flags(arguments),
    )
