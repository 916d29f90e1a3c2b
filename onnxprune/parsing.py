"""How command lines are read: a parser that fails with a message and no usage, and help as wide as the terminal."""

import argparse
import os
from typing import Any, NoReturn

from onnxprune.errors import UsageError

__all__ = ["Parser", "new_parser"]


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
