"""Draws the figures of a page as SVG, in colours that the page defines, so that they are right in light and in dark.

Colours are given to Matplotlib as placeholders, and each becomes a variable of the style sheet. Nothing that comes from
a file is written into a drawing: names are in the page's legend, beside it.
"""

import io
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune.extras import matplotlib

__all__ = ["OTHER", "REFERENCE", "Axes", "Series", "depth", "fan", "lines", "look", "pairs", "scatter", "style_of"]

_STYLES = 8
REFERENCE, OTHER = _STYLES - 1, 2 * _STYLES - 1
"""Styles of what others are compared with, and of a second such: the last colour, which no network has, and dashed."""

_INK, _FAINT, _KEPT, _GONE = "#0a0a01", "#0a0a02", "#0a0a03", "#0a0a04"
_LINES = [f"#0b0b{number:02x}" for number in range(_STYLES)]
_COLOURS = {_INK: "currentColor", _FAINT: "var(--faint)", _KEPT: "var(--kept)", _GONE: "var(--gone)"} | {
    colour: f"var(--line-{number})" for number, colour in enumerate(_LINES)
}
_DASHES = ("solid", (0, (5, 2)), (0, (1.5, 1.5)))
_WIDE, _NARROW, _SMALL = (720, 250), (350, 250), (250, 165)
"""Sizes in points, which are a page's pixels."""
_BAR = 3.0
"""Points that a bar takes at least."""
_SETTINGS = {
    "svg.fonttype": "none",
    "svg.hashsalt": "onnxprune",
    "font.size": 11,
    "font.family": "DejaVu Sans",
    "text.color": _INK,
    "axes.labelcolor": _INK,
    "axes.edgecolor": _FAINT,
    "axes.linewidth": 1.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.facecolor": "none",
    "xtick.color": _FAINT,
    "ytick.color": _FAINT,
    "xtick.labelcolor": _INK,
    "ytick.labelcolor": _INK,
    "grid.color": _FAINT,
    "grid.linewidth": 0.6,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "figure.facecolor": "none",
    "path.simplify": False,
}


@dataclass(frozen=True)
class Axes:
    """What a figure's axes are, and how they are told.

    Attributes
    ----------
    x, y : str
        What is along them.
    percent : str
        Those that are shares: "", "x", "y" or "xy".
    log : str
        Those that are logarithmic.
    """

    x: str = ""
    y: str = ""
    percent: str = ""
    log: str = ""


@dataclass(frozen=True)
class Series:
    """Points of a line, in the style of that number, or points alone; one that is missing is NaN."""

    x: Sequence[float]
    y: Sequence[float]
    style: int = 0
    joined: bool = True


def style_of(number: int) -> int:
    """Style of the network of that number: its colour, and dashes where colours do not suffice."""
    return number + number // (_STYLES - 1)


def look(style: int) -> tuple[str, int]:
    """A style's variable of the style sheet, and the number of its dashes."""
    return f"--line-{style % _STYLES}", style // _STYLES % len(_DASHES)


def lines(series: Sequence[Series], axes: Axes, *, small: bool = False) -> list[str]:
    """Draw lines.

    Parameters
    ----------
    series : sequence of Series
    axes : Axes
    small : bool
        Whether the figure is one of many side by side.

    Returns
    -------
    list of str
        SVG for wide pages and for narrow ones; one where it is small.
    """

    def draw(figure: Any) -> None:
        panel = figure.subplots()
        for own in series:
            marker = "o" if len(own.x) < 30 or not own.joined else ""
            colour, dash = _LINES[own.style % _STYLES], _DASHES[look(own.style)[1]] if own.joined else "none"
            size = 3 if small else 4.5
            panel.plot(own.x, own.y, color=colour, linestyle=dash, marker=marker, markersize=size, linewidth=1.8)
        _count(panel, series)
        _tell(panel, axes)

    return _drawn(draw, (_SMALL,) if small else (_WIDE, _NARROW))


def pairs(before: Series, after: Series, axes: Axes) -> list[str]:
    """Draw two points at each place, and what is between them.

    Returns
    -------
    list of str
    """

    def draw(figure: Any) -> None:
        panel = figure.subplots()
        _add_strokes(panel, (before, after), _FAINT, 1)
        for own in (before, after):
            _add_strokes(panel, (own, own), _LINES[own.style], 4)
        _count(panel, (before, after))
        _tell(panel, axes)

    return _drawn(draw, (_WIDE, _NARROW))


def scatter(series: Sequence[Series], axes: Axes) -> list[str]:
    """Draw points, and the line on which both are equal.

    Returns
    -------
    list of str
    """

    def draw(figure: Any) -> None:
        panel = figure.subplots()
        for own in series:
            _add_strokes(panel, (own, own), _LINES[own.style], 5)
        every = np.array([value for own in series for value in (*own.x, *own.y)])
        every = every[np.isfinite(every) & ((every > 0) | ("x" not in axes.log))]
        if every.size:
            ends = [float(every.min()), float(every.max())]
            panel.plot(ends, ends, color=_INK, linewidth=1, linestyle=(0, (4, 3)))
        _tell(panel, axes)

    return _drawn(draw, (_WIDE, _NARROW))


def fan(points: Series, slope: float, band: tuple[float, float], axes: Axes) -> list[str]:
    """Draw points, a line through the origin, and the band that other lines through it are in.

    Returns
    -------
    list of str
    """

    def draw(figure: Any) -> None:
        panel = figure.subplots()
        end = max([1e-9, *points.x]) * 1.05
        panel.fill([0, end, end], [0, band[0] * end, band[1] * end], color=_LINES[points.style], alpha=0.2, linewidth=0)
        panel.plot([0, end], [0, slope * end], color=_LINES[points.style], linewidth=1.8)
        _add_strokes(panel, (points, points), _LINES[points.style], 4)
        panel.axhline(0, color=_FAINT, linewidth=1)
        _tell(panel, axes)

    return _drawn(draw, (_WIDE, _NARROW))


def depth(kept: Sequence[int], total: Sequence[int], axes: Axes) -> tuple[list[str], list[int]]:
    """Draw a bar per group along the depth of a network: what stays of it and what goes, and the share that stays.

    Where there are more groups than bars fit, a bar is of several that follow each other.

    Parameters
    ----------
    kept, total : sequence of int (groups,)
    axes : Axes
        What is along the depth, and what is counted.

    Returns
    -------
    list of str
        SVG for wide pages and for narrow ones.
    list of int
        Groups per bar of each.
    """
    runs = [max(1, math.ceil(len(total) * _BAR / width)) for width, _ in (_WIDE, _NARROW)]

    def draw(figure: Any, run: int) -> None:
        own, every = (_summed(values, run) for values in (kept, total))
        upper, lower = figure.subplots(2, sharex=True, height_ratios=(2, 1))
        left = np.arange(len(own)) * run + 1.0
        gap = 0.22 if len(own) <= 80 else 0.0
        sides = left - run / 2 + gap * run / 2, left + run - run / 2 - gap * run / 2
        for panel, heights, tops in ((upper, own, every), (lower, own / np.maximum(every, 1), np.ones(len(own)))):
            _add_bars(panel, sides, np.zeros(len(own)), heights, _KEPT)
            _add_bars(panel, sides, heights, tops, _GONE)
        upper.set_xlim(0.5, max(len(total), 1) + 0.5)
        upper.set_ylim(0, float(every.max(initial=1)) * 1.05)
        lower.set_ylim(0, 1)
        lower.set_yticks([0, 0.5, 1])
        lower.xaxis.get_major_locator().set_params(integer=True)
        _tell(upper, Axes("", axes.y))
        _tell(lower, Axes(axes.x, "kept", percent="y"))

    found = []
    for (width, height), run in zip((_WIDE, _NARROW), runs, strict=True):
        found += _drawn(partial(draw, run=run), ((width, height + 60),))
    return found, runs


def _summed(values: Sequence[int], run: int) -> NDArray[np.float64]:
    """Sums of every so many numbers."""
    padded = np.zeros(math.ceil(len(values) / run) * run)
    padded[: len(values)] = values
    return np.asarray(padded.reshape(-1, run).sum(axis=1))


def _add_bars(panel: Any, sides: tuple[Any, Any], low: NDArray[Any], high: NDArray[Any], colour: str) -> None:
    """Draw all bars as one path, which is short."""
    (left, right), path = sides, matplotlib().path.Path
    corners = np.stack([np.stack(each, axis=1) for each in ((left, low), (left, high), (right, high), (right, low))], 1)
    vertices = np.concatenate([corners, corners[:, :1]], axis=1).reshape(-1, 2)
    codes = np.tile([path.MOVETO, path.LINETO, path.LINETO, path.LINETO, path.CLOSEPOLY], len(left))
    panel.add_patch(matplotlib().patches.PathPatch(path(vertices, codes), facecolor=colour, linewidth=0))


def _add_strokes(panel: Any, ends: tuple[Series, Series], colour: str, width: float) -> None:
    """Draw strokes from points to points as one path, which is short; strokes without a length are dots."""
    starts, stops = (np.stack([own.x, own.y], axis=1).astype(np.float64) for own in ends)
    told = np.isfinite(starts).all(axis=1) & np.isfinite(stops).all(axis=1)
    vertices, path = np.stack([starts[told], stops[told]], axis=1).reshape(-1, 2), matplotlib().path.Path
    codes = np.tile([path.MOVETO, path.LINETO], int(told.sum()))
    looks = {"fill": False, "edgecolor": colour, "linewidth": width, "capstyle": "round"}
    panel.add_patch(matplotlib().patches.PathPatch(path(vertices, codes), **looks))


def _count(panel: Any, series: Sequence[Series]) -> None:
    """Where what is along the axis is counted, tell whole numbers."""
    if all(isinstance(value, int) for own in series for value in own.x):
        panel.xaxis.get_major_locator().set_params(integer=True)


def _tell(panel: Any, axes: Axes) -> None:
    """Give axes their names, scales and numbers."""
    panel.set_xlabel(axes.x)
    panel.set_ylabel(axes.y)
    for name, axis in (("x", panel.xaxis), ("y", panel.yaxis)):
        panel.tick_params(axis=name, length=3)
        if name in axes.log:
            (panel.set_xscale if name == "x" else panel.set_yscale)("log")
            axis.set_minor_formatter(lambda value, place: "")
            axis.set_major_formatter(lambda value, place: f"{value:g}")
        if name in axes.percent:
            axis.set_major_formatter(lambda value, place: f"{100 * value:g}%")
    panel.autoscale_view()


def _drawn(draw: Callable[[Any], None], sizes: Sequence[tuple[int, int]]) -> list[str]:
    """Draw once per size."""
    library, found = matplotlib(), []
    with library.rc_context(_SETTINGS):
        for width, height in sizes:
            figure = library.figure.Figure(figsize=(width / 72, height / 72), layout="constrained")
            draw(figure)
            text = io.StringIO()
            unsaid = dict.fromkeys(("Creator", "Date", "Format", "Type"))
            figure.savefig(text, format="svg", metadata=unsaid)
            found.append(_inline(text.getvalue()))
    return found


def _inline(text: str) -> str:
    """Cut a drawing out of its file, and give it the page's colours."""
    text = text[text.index("<svg") :]
    text = re.sub(r"<style.*?</style>", "", text, flags=re.DOTALL)
    text = re.sub(r'<g id="[^"]*"', "<g", text)  # which nothing refers to
    text = re.sub(r"(#[0-9a-f]{6})\b", lambda match: _COLOURS.get(match[1], match[1]), text)
    text = re.sub(r' d="[^"]*"', lambda match: re.sub(r"(\.\d)\d+", r"\1", match[0]), text)
    text = re.sub(r"\s+", " ", text)
    return re.sub(r'<svg [^>]*viewBox="([^"]*)"[^>]*>', r'<svg viewBox="\1" aria-hidden="true">', text, count=1)
