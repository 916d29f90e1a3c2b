"""What reports for a terminal are laid out with: tables of plain text, numbers, and words for many."""

from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

__all__ = ["DRY", "many", "new_table", "number", "row", "seconds"]

DRY = "Dry run: no network was written, and nothing was run."


def number(value: float) -> str:
    """A whole number, with commas."""
    return f"{round(value):,}"


def new_table(*columns: str, title: str | None = None) -> Table:
    """A table whose first column is words and whose others are numbers."""
    table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", title_style="bold", pad_edge=False)
    for place, column in enumerate(columns):
        table.add_column(column, justify="left" if place == 0 else "right", overflow="fold")
    return table


def row(table: Table, *cells: object) -> None:
    """Add a row of plain text: a name from a file may look like a console's markup."""
    table.add_row(*(Text(str(cell)) for cell in cells))


def many(count: int, one: str, more: str) -> str:
    """So many of something, in words for one or for more."""
    return f"{count} {one if count == 1 else more}"


def seconds(facts: dict[str, Any]) -> Text:
    """Say how long each stage took."""
    return Text("Seconds: " + ", ".join(f"{name} {value:.2f}" for name, value in facts["time"].items()))
