"""The end of every page: what was asked for, which files there were, how long it took, and with which versions."""

from collections.abc import Sequence
from pathlib import PurePath
from typing import Any

from onnxprune.report.blocks import Section, Table, count, section

__all__ = ["file_name", "provenance"]

Facts = dict[str, Any]


def provenance(facts: Facts, files: Sequence[tuple[str, Facts]]) -> list[Section]:
    """Make the section.

    Parameters
    ----------
    facts : dict
    files : sequence of (str, dict)
        What each network is, and its path, its sum and its size.

    Returns
    -------
    list of Section
    """
    rows = [
        (what, place.get("path") or "in memory", count(place.get("bytes")), place["sha256"])
        for what, place in files
        if place.get("sha256")
    ]
    asked = [(name.replace("_", " "), _told(value)) for name, value in facts.get("request", {}).items() if _says(value)]
    spent = [(name, f"{value:.2f}") for name, value in facts.get("time", {}).items()]
    return section(
        "provenance",
        "Provenance",
        _table(("file", "path", "bytes", "SHA-256"), rows, "Files", notes=1, words=2),
        _table(("asked for", "value"), asked, "What was asked for", notes=1, folded=True),
        _table(("stage", "seconds"), spent, "Time", folded=True),
        _table(("package", "version"), list(facts.get("versions", {}).items()), "Versions", notes=1, folded=True),
    )


def file_name(place: Facts, instead: str) -> str:
    """Name of a network's file, without its folder."""
    path = place.get("path")
    return PurePath(path).name if path else instead


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]], title: str, **looks: Any) -> Table | None:
    return Table(columns=columns, rows=rows, title=title, **looks) if rows else None


def _says(value: Any) -> bool:
    """Tell whether something was asked for: what is empty or off was not."""
    return value is not None and value is not False and value not in ("", [], {})


def _told(value: Any) -> str:
    if value is True:
        return "yes"
    if isinstance(value, dict):
        return "; ".join(f"{name}: {_told(item)}" for name, item in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
