"""How command lines are read: a parser that fails with a message and no usage, and help as wide as the terminal."""

import argparse
import os
import re
from typing import Any, NoReturn

from onnxprune.errors import UsageError

__all__ = ["Parser", "new_parser", "parse_input_shape", "parse_numbers", "parse_round_to"]

# ONNX keeps sizes in 64 bits.
_DIGITS = re.compile("[0-9]{1,18}")


class Parser(argparse.ArgumentParser):
    """argparse's, with errors of our own, and flags of three kinds."""

    def error(self, message: str) -> NoReturn:
        """Raise what argparse prints."""
        raise UsageError(f"{message}; `{self.prog} --help` lists the options")

    def value(self, flag: str, metavar: str, text: str, **more: Any) -> None:
        """Add a flag that takes a value."""
        self.add_argument(flag, metavar=metavar, help=text, **more)

    def names(self, flag: str, metavar: str, text: str) -> None:
        """Add a flag that takes a value and can be given several times."""
        self.value(flag, metavar, f"{text} (repeatable)", action="append", default=[])

    def switch(self, *flags: str, text: str) -> None:
        """Add a flag without a value."""
        self.add_argument(*flags, action="store_true", help=text)


def _formatter(prog: str) -> argparse.HelpFormatter:
    try:
        columns = os.get_terminal_size().columns
    except OSError:
        columns = 110
    return argparse.RawDescriptionHelpFormatter(prog, max_help_position=30, width=min(columns, 110))


def new_parser(prog: str, description: str, epilog: str = "") -> Parser:
    """Begin the parser of a command.

    Parameters
    ----------
    prog, description, epilog : str

    Returns
    -------
    Parser
    """
    return Parser(prog=prog, description=description, epilog=epilog, formatter_class=_formatter, allow_abbrev=False)


def parse_round_to(text: str) -> int | str:
    """Read off, auto or a number; what is none of them is left to `Options`.

    Examples
    --------
    >>> parse_round_to("8"), parse_round_to("auto")
    (8, 'auto')
    """
    return int(text) if _DIGITS.fullmatch(text) else text


def parse_numbers(flag: str, text: str) -> tuple[float, ...]:
    """Read one number or several with commas between.

    Raises
    ------
    UsageError

    Examples
    --------
    >>> parse_numbers("--mean", "0.485,0.456,0.406")
    (0.485, 0.456, 0.406)
    """
    try:
        return tuple(float(part) for part in text.split(",")) if text else ()
    except ValueError as error:
        raise UsageError(f"{flag} {text}: give one number, or three with commas between") from error


def parse_input_shape(text: str) -> tuple[str, tuple[int, ...]]:
    """Read `x:1,3,224,224`, `x:1x3x224x224` or `x:[1,3,224,224]`.

    Raises
    ------
    UsageError

    Examples
    --------
    >>> parse_input_shape("x:1x3x224x224")
    ('x', (1, 3, 224, 224))
    """
    name, colon, sizes = text.rpartition(":")
    parts = re.split(r"[,x]", sizes.strip().removeprefix("[").removesuffix("]"))
    if not colon or not name or not all(_DIGITS.fullmatch(part.strip()) for part in parts):
        raise UsageError(f"--input-shape {text}: write the input's name, a colon and its sizes, as in x:1,3,224,224")
    return name, tuple(int(part) for part in parts)
