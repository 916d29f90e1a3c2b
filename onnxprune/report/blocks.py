"""What a page is put together from, as plain values: tables, figures, pictures, sentences, in sections.

The templates give each of them its looks. A cell of a table is a text or a bar; all text is shown as it is, never read
as markup. A value that is missing is a dash.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from rich.text import Text

from onnxprune.report.plots import look

__all__ = [
    "LONG",
    "Bar",
    "Block",
    "Figure",
    "Grid",
    "Key",
    "Lines",
    "Page",
    "Picture",
    "Pictures",
    "Section",
    "Table",
    "Tile",
    "count",
    "finite",
    "keyed",
    "lines",
    "pair",
    "section",
    "share",
    "short",
]

MISSING = "–"
LONG = 40
"""Rows from which on a table is folded."""
_ROWS = 1000
"""Rows that a page shows of a table."""


@dataclass(frozen=True)
class Bar:
    """A share of something, drawn, and in words; with what is left of the whole, or without."""

    share: float
    words: str
    whole: bool = True


Cell = str | Bar


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows under headings.

    Attributes
    ----------
    columns : sequence of str
    rows : sequence of rows of cells
    words : int
        How many columns at the left are words; those after them are numbers.
    notes : int
        How many columns at the right are words.
    title : str
        What a folded table says of itself.
    """

    kind: ClassVar[str] = "table"

    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    words: int = 1
    notes: int = 0
    title: str = ""
    folded: bool = False

    @property
    def shown(self) -> Sequence[Sequence[Cell]]:
        """Rows that a page has room for."""
        return self.rows[:_ROWS]

    def side(self, column: int) -> str:
        """How a column is set: as words, as numbers, or as many words."""
        if column >= len(self.columns) - self.notes:
            return "notes"
        return "words" if column < self.words else "number"


@dataclass(frozen=True)
class Key:
    """What a colour in a figure stands for: a variable of the style sheet, and how it is drawn."""

    words: str
    colour: str
    form: str = "dash-0"


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A drawing.

    Attributes
    ----------
    title : str
    drawings : sequence of str
        SVG: for wide pages, and, where there is a second one, for narrow pages.
    label : str
        What is seen, for who cannot see it.
    keys : sequence of Key
    note : str
    """

    kind: ClassVar[str] = "figure"

    title: str
    drawings: Sequence[str]
    label: str
    keys: Sequence[Key] = ()
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Small figures side by side, and the key that they share."""

    kind: ClassVar[str] = "grid"

    figures: Sequence[Figure]
    keys: Sequence[Key] = ()


@dataclass(frozen=True)
class Lines:
    """Sentences; those that warn are marked."""

    kind: ClassVar[str] = "lines"

    texts: Sequence[tuple[str, bool]]


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A picture as the base64 of a PNG, with words."""

    data: str
    title: str
    details: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """Pictures side by side."""

    kind: ClassVar[str] = "pictures"

    title: str
    pictures: Sequence[Picture]
    note: str = ""


Block = Table | Figure | Grid | Lines | Pictures


@dataclass(frozen=True)
class Section:
    """A part of a page."""

    key: str
    title: str
    blocks: Sequence[Block]


@dataclass(frozen=True)
class Tile:
    """One number that matters."""

    label: str
    value: str
    detail: str = ""


@dataclass(frozen=True, kw_only=True)
class Page:
    """All of it: what was asked and done in a sentence, what matters in a few numbers, and the sections."""

    title: str
    sentence: str
    tiles: Sequence[Tile]
    sections: Sequence[Section] = field(default_factory=tuple)


def section(key: str, title: str, *blocks: Block | None) -> list[Section]:
    """Make a section of the blocks that there are; none where there are no blocks."""
    found = [block for block in blocks if block is not None]
    return [Section(key, title, found)] if found else []


def lines(texts: Iterable[Text | str]) -> Lines | None:
    """Make sentences, as a terminal shows them, a block; none where there are none."""
    found = [(text, False) if isinstance(text, str) else (text.plain, _warns(text)) for text in texts]
    return Lines(found) if found else None


def _warns(text: Text) -> bool:
    return bool(text.style) or bool(text.spans)


def keyed(style: int, words: str, *, dots: bool = False) -> Key:
    """Say what lines, or dots, of a style stand for."""
    colour, dash = look(style)
    return Key(words, colour, "dot" if dots else f"dash-{dash}")


def finite(value: Any) -> bool:
    """Tell whether there is a number."""
    return isinstance(value, int | float) and math.isfinite(value)


def count(value: Any) -> str:
    """A whole number, with commas."""
    return f"{round(value):,}" if finite(value) else MISSING


def share(value: Any, digits: int = 1) -> str:
    """A share, in percent."""
    return f"{value:.{digits}%}" if finite(value) else MISSING


def short(value: Any) -> str:
    """A number, to three digits."""
    return f"{value:.3g}" if finite(value) else MISSING


def pair(values: Any, form: Any) -> str:
    """A number before and after."""
    return " → ".join(map(form, values)) if values else MISSING
