"""Results of a long comparison as they come, in a file, so that an interrupted one goes on where it was."""

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from onnxprune.graph.save import append_text, stage_text

__all__ = ["Journal"]


class Journal:
    """Remembers results by name.

    Parameters
    ----------
    path : Path or None
        Where they are kept; None keeps none.
    key : str
        What they are results of; those of anything else are not looked at.
    """

    def __init__(self, path: Path | None, key: str) -> None:
        self._path, self._head = path, _line({"key": key})
        self._done: dict[str, Any] = {}
        self._begun = False
        if path is not None and path.is_file():
            with suppress(ValueError, OSError, TypeError):  # of another version, or cut off: what is whole counts
                head, *lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
                self._done.update(json.loads(line) for line in (lines if head == self._head else ()))

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
            self._note(name)
        return self._done[name]

    def _note(self, name: str) -> None:
        """Add a line; before the first one, all that is known, since the last line that was read may be cut off."""
        if self._path is None:
            return
        if self._begun:
            append_text(self._path, _line([name, self._done[name]]))
            return
        with stage_text(self._path, self._head + "".join(map(_line, self._done.items()))) as staged:
            staged.commit()
        self._begun = True

    def close(self) -> None:
        """Forget all, once everything is done."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)


def _line(value: Any) -> str:
    return json.dumps(value) + "\n"
