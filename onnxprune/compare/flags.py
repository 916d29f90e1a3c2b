"""The flags of `onnxprune compare`: what can be written on the command line, and what `--help` says of it."""

import argparse
from pathlib import Path

from onnxprune.compare.comparison import Comparison
from onnxprune.errors import UsageError
from onnxprune.evaluate import MEASURABLE, parse_condition
from onnxprune.flags import REPORT, add_data, run_flags
from onnxprune.options import Options
from onnxprune.parsing import new_parser

__all__ = ["compare_parser", "comparison"]

_COMPARE = """Judge networks by their original: how far each output is, which inputs changed their class, what it costs
and how long it takes."""


def compare_parser() -> argparse.ArgumentParser:
    """Return the parser of `onnxprune compare ORIGINAL PRUNED…`."""
    parser = new_parser("onnxprune compare", _COMPARE)
    parser.add_argument("original", metavar="ORIGINAL", type=Path, help="the ONNX file that the others are judged by")
    others = "files of any origin, same inputs; with --potential networks are made where none is given"
    parser.add_argument("others", metavar="PRUNED", type=Path, nargs="*", help=others)
    add_data(parser, "--data")
    parser.switch("--corruptions", text="see how often answers are right on corrupted pictures: 19 kinds, 5 severities")
    parser.switch("--noise", text="see how alike networks answer under noise, in 15 levels")
    parser.switch(
        "--potential",
        text="say up to which of the networks' ratios the error stays within half a point, for clean, corrupted and "
        "noisy inputs, and how the excess error grows with the ratio; without PRUNED networks are made, ratio by ratio",
    )
    parser.switch(
        "--features",
        text="find the tenth of the pixels that each network goes by, and show it to the others: up to 4,616 runs of "
        "each input and network",
    )
    parser.value("--method", "M", "how networks are made where none is given (default: auto); see `onnxprune --help`")
    parser.value("--calib", "DATA", "inputs that they are made with, other ones than --data (default: made up)")
    parser.value("--trials", "N", "how many are made at most (default: 12)", type=int, default=12)
    parser.value("--control", "FILE", "a network trained apart, for --noise and --features to compare with", type=Path)
    parser.value("--inputs", "N", "inputs that get noise (default: 200)", type=int, default=200)
    parser.value("--draws", "N", "times that they do, for each level (default: 10)", type=int, default=10)
    parser.value("--shown", "N", "inputs that --features takes apart (default: 50)", type=int, default=50)
    parser.names(
        "--fail-if",
        "CONDITION",
        "exit with 3 where this holds of any network and output, or of one, as in =agreement<0.97, =top1_drop>1 or "
        "=top1@logits<0.9, and where an output is not finite; one of "
        f"{', '.join(MEASURABLE)}",
    )
    parser.names("--input-shape", "NAME:SIZES", "sizes of an input with symbolic dimensions: x:1,3,224,224")
    parser.names("--providers", "P", "onnxruntime providers: cpu, cuda or a full name (default: CUDA where it works)")
    parser.value("--seed", "N", "seed of everything random (default: 0)", type=int, default=0)
    parser.value("--report", "FILE", REPORT, type=Path)
    parser.switch("-q", "--quiet", text="print nothing but errors")
    parser.switch("-v", "--verbose", text="print inputs that changed their class, classes that lost most, and times")
    return parser


def comparison(arguments: argparse.Namespace) -> Comparison:
    """Read the flags of `onnxprune compare ORIGINAL PRUNED…`.

    Raises
    ------
    UsageError
        If a flag is wrong by itself.
    """
    if arguments.others and (arguments.method or arguments.calib):
        raise UsageError("--method and --calib are for networks that are made; leave them out where files are given")
    return Comparison(
        data=arguments.data,
        labels=arguments.labels,
        samples=arguments.samples,
        synthetic=arguments.synthetic,
        corruptions=arguments.corruptions,
        noise=arguments.noise,
        potential=arguments.potential,
        features=arguments.features,
        inputs=arguments.inputs,
        draws=arguments.draws,
        shown=arguments.shown,
        control=arguments.control,
        fail_if=tuple(parse_condition(text) for text in arguments.fail_if),
        making=None if arguments.others else _making(arguments),
        trials=arguments.trials,
        **run_flags(arguments),
    )


def _making(arguments: argparse.Namespace) -> Options:
    """How networks are made where none is given."""
    return Options(method=arguments.method or "auto", calib=arguments.calib, **run_flags(arguments))
