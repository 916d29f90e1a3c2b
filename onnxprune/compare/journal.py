"""Results of a long comparison as they come, in a file, so that an interrupted one goes on where it was."""

import json
import logging
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from zlib import crc32

from onnxprune.errors import OutputError
from onnxprune.graph.save import append_text, stage_text

__all__ = ["Journal", "require_free"]

_log = logging.getLogger(__name__)
_OURS = '{"journal of": "onnxprune compare"'


class Journal:
    """Remembers results by name, line by line.

    Parameters
    ----------
    path : Path or None
        Where they are kept; None keeps none.
    key : str
        What they are results of; those of anything else are not looked at.

    Raises
    ------
    OutputError
        If something else is there.
    """

    def __init__(self, path: Path | None, key: str) -> None:
        self._path, self._head = path, json.dumps({"journal of": "onnxprune compare", "key": key}) + "\n"
        self._done: dict[str, Any] = {}
        self._begun = False
        head, *lines = require_free(path)
        for line in lines if head == self._head else ():
            with suppress(ValueError, TypeError, RecursionError):  # cut off, or damaged
                name, value, check = json.loads(line)
                if check == _check(name, value):
                    self._done[name] = value

    def __contains__(self, name: str) -> bool:
        """Tell whether a result is known."""
        return name in self._done

    def once(self, name: str, compute: Callable[[], Any]) -> Any:
        """Return what was computed before under this name, or compute it and remember it.

        Parameters
        ----------
        name : str
        compute : callable
            Returns plain data.

        Returns
        -------
        Any
        """
        if name not in self._done:
            self._done[name] = compute()
            try:
                self._note(name)
            except OutputError as error:
                _log.warning("%s; until then an interrupted comparison does not go on from here", error)
                self._path = None
        return self._done[name]

    def _note(self, name: str) -> None:
        """Add a line; before the first one, all that is known, since the last line that was read may be cut off."""
        if self._path is None:
            return
        if self._begun:
            append_text(self._path, self._line(name))
            return
        with stage_text(self._path, self._head + "".join(map(self._line, self._done))) as staged:
            staged.commit()
        self._begun = True

    def _line(self, name: str) -> str:
        value = self._done[name]
        return json.dumps([name, value, _check(name, value)]) + "\n"

    @staticmethod
    def close(path: Path) -> None:
        """Forget all, once everything is done; what is no journal stays.

        Parameters
        ----------
        path : Path
        """
        with suppress(OSError, OutputError):
            if any(require_free(path)):
                path.unlink()


def require_free(path: Path | None) -> list[str]:
    """Return the lines of a journal, an empty one where there is none.

    Raises
    ------
    OutputError
        If something else is there.
    """
    if path is None or not path.exists():
        return [""]
    lines = [""]
    with suppress(OSError, ValueError):
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.is_file() else lines
    if not lines or not lines[0].startswith(_OURS):
        raise OutputError(
            f"{path} is in the way: what is found is kept there until the report is written, and it holds something "
            "else; move it, or give --report another name"
        )
    return lines


def _check(name: str, value: Any) -> int:
    return crc32(json.dumps([name, value]).encode())
