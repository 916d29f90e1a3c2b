"""Results of a long comparison as they come, in a file, so that an interrupted one goes on where it was."""

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from onnxprune.graph.save import stage_text

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
        self._path, self._key = path, key
        self._done: dict[str, Any] = {}
        if path is not None and path.is_file():
            with suppress(ValueError, OSError, AttributeError):  # of another version, or cut off: begun anew
                found = json.loads(path.read_text(encoding="utf-8"))
                self._done = found["done"] if found.get("key") == key else {}

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
            if self._path is not None:
                with stage_text(self._path, json.dumps({"key": self._key, "done": self._done})) as staged:
                    staged.commit()
        return self._done[name]

    def close(self) -> None:
        """Forget all, once everything is done."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)
