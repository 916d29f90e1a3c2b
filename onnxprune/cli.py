"""The command: flags in, tables on stdout, messages on stderr, an exit code.

Exit codes: 0 done; 1 refused or failed, with a message; 2 usage; 3 validation failed and nothing written; 130
interrupted.
"""

import gc
import io
import logging
import os
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NoReturn

from rich.console import Console, Group, RenderableType
from rich.text import Text

from onnxprune.api import inspect
from onnxprune.compare import Journal, compare_files, compare_parser, comparison, require_free
from onnxprune.delivery import Writing, check_report, commit_report
from onnxprune.errors import ConditionError, OnnxPruneError, OutputError, RefusedError, UsageError
from onnxprune.family import check_ratios, make_family
from onnxprune.flags import (
    family_options,
    family_parser,
    input_shapes,
    inspect_parser,
    prune_options,
    prune_parser,
)
from onnxprune.graph.runtime import installation_warning
from onnxprune.pipeline import prune_file
from onnxprune.progress import Bar, Clock
from onnxprune.report.compare import compare_view
from onnxprune.report.family import family_view
from onnxprune.report.sparse import sparse_view
from onnxprune.report.text import inspection_view, prune_view
from onnxprune.rewrite import Plan
from onnxprune.sparsify import sparsify_file

__all__ = ["entry", "main"]

_INTERRUPTED = 130


def _read_plan(path: Path | None) -> Plan | None:
    if path is None:
        return None
    try:
        if path.exists() and not path.is_file():
            raise RefusedError(f"--replay {path} is not a file; name one that --plan wrote")
        return Plan.from_json(path.read_text(encoding="utf-8"), str(path))
    except OSError as error:
        raise RefusedError(f"--replay: cannot read {path}: {error.strerror}; name a file that --plan wrote") from error
    except UnicodeDecodeError as error:
        raise RefusedError(f"--replay {path} is no text; name a file that --plan wrote") from error


def _prune(argv: Sequence[str]) -> None:
    arguments = prune_parser().parse_args(argv)
    options = prune_options(arguments)
    _require_page(arguments.report)
    errors = Console(stderr=True)
    warning = installation_warning()
    if warning and not arguments.quiet:
        errors.print(Text(f"onnxprune: warning: {warning}", style="yellow"))
    bar = Bar(errors, quiet=arguments.quiet)
    writing = Writing(
        external=True if arguments.save_as_external_data else None,
        plan=arguments.plan,
        profile=arguments.profile,
        report=arguments.report,
        groups=arguments.verbose,
    )
    target = None if arguments.dry_run else arguments.output
    with _logging(verbose=arguments.verbose), closing(bar):
        if options.sparse:
            outcome = sparsify_file(arguments.input, target, options, writing=writing, clock=Clock(bar))
        else:
            replay = _read_plan(arguments.replay)
            outcome = prune_file(arguments.input, target, options, replay=replay, writing=writing, clock=Clock(bar))
    if not arguments.quiet:
        view = sparse_view if options.sparse else prune_view
        _show(view(outcome.report, verbose=arguments.verbose))


def _family(argv: Sequence[str]) -> None:
    arguments = family_parser().parse_args(argv)
    options, wanted = family_options(arguments)
    ratios = check_ratios(wanted, options)
    _require_page(arguments.report)
    bar = Bar(Console(stderr=True), quiet=arguments.quiet)
    external = True if arguments.save_as_external_data else None
    with _logging(verbose=arguments.verbose), closing(bar):
        facts = make_family(
            arguments.input,
            arguments.folder,
            ratios,
            options,
            external=external,
            report=arguments.report,
            clock=Clock(bar),
        )
    if not arguments.quiet:
        _show(family_view(facts, verbose=arguments.verbose))


def _compare(argv: Sequence[str]) -> None:
    arguments = compare_parser().parse_args(argv)
    asked = comparison(arguments)
    _require_page(arguments.report)
    journal = None if arguments.report is None or not asked.shifts else arguments.report.with_suffix(".partial")
    if arguments.report is not None:
        check_report(arguments.report, (arguments.original, *arguments.others, *asked.files))
        require_free(journal)
    bar = Bar(Console(stderr=True), quiet=arguments.quiet)
    with _logging(verbose=arguments.verbose), closing(bar):
        facts = compare_files(arguments.original, arguments.others, asked, journal=journal, clock=Clock(bar))
    if arguments.report is not None:
        commit_report(arguments.report, facts)
    if journal is not None:
        Journal.close(journal)
    broken = [said for condition in asked.fail_if for said in condition.broken(facts)]
    if not arguments.quiet:
        _show(compare_view(facts, verbose=arguments.verbose))
    if broken:
        raise ConditionError("; ".join(broken))


def _inspect(argv: Sequence[str]) -> None:
    arguments = inspect_parser().parse_args(argv)
    _require_page(arguments.report)
    if arguments.report is not None:
        check_report(arguments.report, (arguments.input,))
    facts = inspect(
        arguments.input,
        include=arguments.include,
        exclude=arguments.exclude,
        prune_normalized=arguments.prune_normalized,
        head_dim=arguments.head_dim,
        state=arguments.state,
        input_shapes=input_shapes(arguments),
        min_keep=arguments.min_keep,
    )
    if arguments.report is not None:
        commit_report(arguments.report, facts)
    _show(inspection_view(facts))


def _require_page(path: Path | None) -> None:
    if path is not None and path.suffix not in (".json", ".html"):
        raise UsageError(f"--report {path}: give a name that ends in .json, or in .html for a page beside that")


def _show(parts: Sequence[RenderableType]) -> None:
    if sys.stdout is None:  # closed by the caller, who does not want to see it
        return
    console = Console()
    console = console if console.is_terminal else Console(width=160)
    try:
        console.print(Group(*parts))
        sys.stdout.flush()
    except OSError as error:
        # What is left in the buffer would fail again when Python exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise OutputError(f"cannot print the table: {error.strerror}; add -q, all else is done") from error


class _Handler(logging.Handler):
    """Writes to what stderr is at the moment: a progress bar takes it over for a while."""

    def emit(self, record: logging.LogRecord) -> None:
        print(f"onnxprune: {record.getMessage()}", file=sys.stderr)


@contextmanager
def _logging(*, verbose: bool) -> Iterator[None]:
    log = logging.getLogger("onnxprune")
    handler = _Handler()
    level = log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO if verbose else logging.WARNING)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(level)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Parameters
    ----------
    argv : sequence of str, optional
        The arguments, by default the process's.

    Returns
    -------
    int
        The exit code.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        if arguments[:1] == ["inspect"]:
            _inspect(arguments[1:])
        elif arguments[:1] == ["family"]:
            _family(arguments[1:])
        elif arguments[:1] == ["compare"]:
            _compare(arguments[1:])
        else:
            _prune(arguments)
    except OnnxPruneError as error:
        return _fail(str(error), error.exit_code)
    except KeyboardInterrupt:
        return _fail("interrupted; nothing is left half done", _INTERRUPTED)
    except MemoryError as error:
        return _fail(f"out of memory ({error}); take a smaller --input-shape, or a machine with more of it", 1)
    except SystemExit as stop:  # argparse leaves so after --help and --version, rich when nobody reads the output
        return int(stop.code or 0)
    except Exception as error:  # noqa: BLE001  a stranger gets a line that helps, the maintainers the rest
        place = traceback.extract_tb(error.__traceback__)[-1]
        site = f"{type(error).__name__} at {Path(place.filename).name}:{place.lineno}: {error}"
        return _fail(f"{site} - this is a fault of onnxprune, nothing was written: please report it", 1)
    return 0


def _fail(message: str, code: int) -> int:
    line = " ".join(message.split())
    print(f"onnxprune: error: {line}", file=sys.stderr)
    return code


def entry() -> NoReturn:
    """Run the command and leave with its exit code."""
    # A graph of many nodes makes millions of objects that stay, and hardly a cycle: looking for cycles as often as
    # Python does by default takes a fifth of the time.
    gc.set_threshold(100_000, 50, 1000)
    # A name that the terminal's encoding lacks is no reason to fail.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    sys.exit(main())
