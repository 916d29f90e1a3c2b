"""The report to look at: one page that holds all it needs, from plain data, through templates."""

import itertools
import re
from typing import Any

from onnxprune.extras import jinja
from onnxprune.report.compare_page import compare_page
from onnxprune.report.family_page import family_page
from onnxprune.report.prune_page import inspection_page, prune_page
from onnxprune.report.sparse_page import sparse_page

__all__ = ["to_html"]

_PAGES = {"compare": compare_page, "family": family_page}


def to_html(facts: dict[str, Any]) -> str:
    """Return a page that shows what was done.

    Parameters
    ----------
    facts : dict
        Of a prune, an inspection, a comparison or a family: what `to_json` writes.

    Returns
    -------
    str
        HTML that refers to no other file.

    Raises
    ------
    OutputError
        If a library that draws or fills in pages is missing.
    """
    library = jinja()
    page = _page_of(facts)(facts)
    environment = library.Environment(
        loader=library.PackageLoader("onnxprune.report"),
        autoescape=True,
        undefined=library.StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    numbers = itertools.count()
    environment.filters["placed"] = lambda drawing: _placed(drawing, next(numbers))
    return str(environment.get_template("page.html").render(page=page))


def _page_of(facts: dict[str, Any]) -> Any:
    """What makes the page for facts of this kind."""
    if "kind" in facts:
        return _PAGES[facts["kind"]]
    if "sparse" in facts:
        return sparse_page
    return prune_page if "output" in facts else inspection_page


def _placed(drawing: str, number: int) -> str:
    """Give what a drawing refers to names that are its own in the page."""
    return re.sub(r'( id="|url\(#|href="#)', rf"\1d{number}-", drawing)
