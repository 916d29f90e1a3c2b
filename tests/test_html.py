"""What is on a page: whole in itself, safe from names, small; a section for all that there is, and no other."""

import json
import re
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import report_samples as samples
from doors import Command

import onnxprune.report
from onnxprune.extras import matplotlib
from onnxprune.report.blocks import Table
from onnxprune.report.data import to_json
from onnxprune.report.html import to_html
from onnxprune.report.plots import Axes, Series, depth, fan, lines, look, pairs, scatter, style_of

EVERY: dict[str, Callable[[], dict[str, Any]]] = {
    "prune": lambda: samples.pruned(5),
    "inspection": lambda: samples.inspected(5),
    "sparse": lambda: samples.zeroed(5),
    "comparison": samples.comparison,
    "family": samples.family,
}
KINDS = pytest.mark.parametrize("kind", EVERY)
VOID = {"meta", "link", "br", "hr", "img", "input"}
EVIL = "<script>alert('$x^2$ & {{ 7 * 7 }}')</script>"
SIZE = 3_000_000
SHIFTED = ("corruptions", "noise", "potential", "excess", "features")


class Page(HTMLParser):
    """Reads a page: fails where an element is not closed in its order, and gathers what the page is made of."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.words: list[str] = []
        self.cells: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        if tag not in VOID:
            self.open.append(tag)
        if tag in ("td", "th"):
            self.cells.append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if {"td", "th"} & set(self.open):
            self.cells[-1] += data
        if "style" not in self.open:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def values(self, name: str) -> list[str]:
        return [value for own, value in self.attributes if own == name]


def sections(facts: dict[str, Any]) -> set[str]:
    """Keys of the sections of a page."""
    return set(re.findall(r'<section id="([a-z-]+)"', to_html(facts)))


# --- what every page is


@KINDS
def test_a_page_is_well_formed_and_what_it_refers_to_is_there_once(kind: str) -> None:
    page = Page(to_html(EVERY[kind]()))
    ids = page.values("id")
    assert len(ids) == len(set(ids))
    targets = [value[1:] for name in ("href", "xlink:href") for value in page.values(name) if value.startswith("#")]
    targets += [value[len("url(#") : -1] for value in page.values("clip-path")]
    targets += [key for value in page.values("aria-labelledby") for key in value.split()]
    assert "content" in targets and set(targets) <= set(ids)


@KINDS
def test_a_page_refers_to_no_other_file(kind: str) -> None:
    text = to_html(EVERY[kind]())
    page = Page(text)
    for name in ("src", "href", "xlink:href", "srcset", "data", "action"):
        for value in page.values(name):
            assert value.startswith(("#", "data:")), value
    assert "script" not in page.tags
    assert not re.search(r"@import|https?:|url\((?!#)", text)


@KINDS
def test_a_page_reads_in_order_and_says_what_is_seen(kind: str) -> None:
    page = Page(to_html(EVERY[kind]()))
    assert page.values("lang") == ["en"]
    levels = [int(tag[1]) for tag in page.tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    figures = page.tags.count("figure")
    assert page.values("role").count("img") == figures == page.tags.count("figcaption")
    assert all(page.values("aria-label"))
    assert len(page.values("alt")) == page.tags.count("img") and all(page.values("alt"))


@KINDS
def test_the_same_facts_make_the_same_page_and_stay_as_they_are(kind: str) -> None:
    facts = EVERY[kind]()
    before = repr(facts)
    assert to_html(facts) == to_html(facts)
    assert repr(facts) == before


@KINDS
def test_a_report_that_was_read_again_makes_the_same_page(kind: str) -> None:
    facts = EVERY[kind]()
    assert to_html(json.loads(to_json(facts))) == to_html(facts)


def evil(value: Any) -> Any:
    """The same facts, with markup in every name."""
    if isinstance(value, dict):
        return {key: evil(item) for key, item in value.items()}
    if isinstance(value, list):
        return [evil(item) for item in value]
    names = ("/", "smaller", "original", "w.")
    return value + EVIL if isinstance(value, str) and value.startswith(names) else value


@KINDS
def test_names_are_shown_and_never_read_as_markup(kind: str) -> None:
    page = Page(to_html(evil(EVERY[kind]())))
    assert "script" not in page.tags
    assert EVIL in page.text


def test_a_thumbnail_cannot_leave_its_attribute() -> None:
    facts = samples.comparison((0.5,))
    facts["networks"][0]["outputs"]["logits"]["flipped"][0]["thumbnail"] = 'x" onerror="alert(1)'
    page = Page(to_html(facts))
    assert 'data:image/png;base64,x" onerror="alert(1)' in page.values("src")
    assert not page.values("onerror")


# --- what is on them


def test_a_prune_shows_every_number_of_before_and_after() -> None:
    facts = samples.pruned(5)
    cells = Page(to_html(facts)).cells
    for name in ("params", "macs", "channels", "bytes"):
        before, after = facts["input"][name], facts["output"][name]
        place = cells.index(f"{before:,}")
        assert cells[place + 1 : place + 3] == [f"{after:,}", f"{1 - after / before:.1%}"]


def test_a_prune_shows_its_groups_pins_bounds_and_where_it_is_from() -> None:
    facts = samples.pruned(5)
    page = Page(to_html(facts))
    for group in facts["groups"]:
        shown = page.cells[page.cells.index(group["name"]) :][:6]
        assert shown[2] == f"{group['kept']:,} of {group['channels']:,}"
        assert shown[4:] == [f"{group['params']:,}", f"{group['macs']:,}"]
    assert {pin["reason"] for pin in facts["pinned"]} <= set(page.cells)
    assert f"{facts['groups'][0]['certificate']['error']:.3g}" in page.cells
    assert facts["input"]["sha256"] in page.cells and facts["output"]["sha256"] in page.cells
    assert "Asked to remove as much of original.onnx as costs at most 2 points of accuracy" in page.text
    assert "no distance from the original can be given" in page.text


def test_sections_are_there_for_what_there_is() -> None:
    facts = samples.pruned(5)
    full = {"before-after", "proof", "search", "groups", "errors", "certificates", "pins", "notes", "provenance"}
    assert sections(facts) == full
    facts |= {"search": [], "pinned": [], "refit": {}, "no_rule": {}, "assumed_shapes": {}, "data": None}
    facts["made_plain"] = dict.fromkeys(facts["made_plain"], 0)
    for group in facts["groups"]:
        group["certificate"] = None
    assert sections(facts) == {"before-after", "proof", "groups", "provenance"}


def test_sections_of_a_comparison_are_there_for_what_was_looked_at() -> None:
    facts = samples.comparison()
    base = {"networks", "outputs", "classes", "flipped", "data", "provenance"}
    assert sections(facts) == base | {*SHIFTED}
    assert sections(facts | dict.fromkeys(SHIFTED)) == base
    assert sections({key: value for key, value in facts.items() if key not in SHIFTED}) == base


def test_a_comparison_of_numbers_alone() -> None:
    facts = samples.comparison((0.5,)) | dict.fromkeys(SHIFTED)
    figures = facts["networks"][0]["outputs"]["logits"]
    unknown = ("agreement", "softmax_distance", "kl", "top1", "top5", "calibration_error", "psnr")
    figures |= dict.fromkeys(unknown) | {"kind": "numbers", "flips": 0, "flipped": [], "worst_classes": []}
    facts["networks"][0]["macs"] = None
    page = Page(to_html(facts))
    assert "1 network was compared with original.onnx" in page.text
    assert "the farthest, smaller-0.5, is 25.0% away" in page.text
    assert "top-1" not in page.text and "flipped" not in page.values("id")


def test_a_comparison_shows_its_numbers() -> None:
    facts = samples.comparison()
    cells = Page(to_html(facts)).cells
    for network in facts["networks"]:
        assert f"{network['params']:,}" in cells and f"{network['removed']:.1%}" in cells
        figures = network["outputs"]["logits"]
        assert f"{figures['agreement']:.1%}" in cells
        assert " → ".join(f"{value:.1%}" for value in figures["top1"]) in cells
    for name, entry in facts["potential"]["distributions"].items():
        place = cells.index(name)
        potential = "–" if entry["potential"] is None else f"{entry['potential']:.1%}"
        assert cells[place + 1 : place + 3] == [potential, f"{entry['original_error']:.1%}"]


def test_a_family_bare_of_all_that_can_be_missing() -> None:
    members = [{"name": f"m-{n}", "ratio": 0.2 * n, "params": 10, "sha256": "ab"} for n in (1, 2, 3)]
    bare = {"kind": "family", "original": {"name": "o", "path": None, "params": 20}, "members": members}
    assert sections(samples.family()) == {"members", "accuracy", "speed", "groups", "data", "provenance"}
    assert sections(bare) == {"members", "provenance"}


# --- how big they are


@pytest.mark.parametrize("number", [1, 500, 3000])
def test_pages_of_many_groups_stay_small(number: int) -> None:
    text = to_html(samples.pruned(number))
    assert len(text.encode()) < SIZE
    cells = Page(text).cells
    assert ("/stages/blocks.499/conv/Conv" in cells) == (number > 499)
    assert ("The first 1000 of 3000" in text) == (number == 3000)


def test_a_network_without_groups_has_a_page() -> None:
    facts = samples.inspected(1) | {"groups": [], "pinned": []}
    assert "Found nothing that can go." in Page(to_html(facts)).text


def test_pages_of_many_pictures_stay_small() -> None:
    facts = samples.huge_comparison()
    text = to_html(facts)
    pictures = [value for value in Page(text).values("src") if value.startswith("data:image/png;base64,")]
    assert 24 < len(pictures) < sum(len(network["outputs"]["logits"]["flipped"]) for network in facts["networks"])
    assert len(text.encode()) < SIZE


def test_a_table_says_which_columns_are_words() -> None:
    table = Table(columns=("a", "b", "c", "d"), rows=[], words=1, notes=1)
    assert [table.side(place) for place in range(4)] == ["words", "number", "number", "notes"]


# --- drawings


def test_drawings_have_the_colours_of_the_page() -> None:
    shares = Axes("removed", "right", percent="xy")
    drawn = [
        *lines([Series([0.1, 0.3], [0.9, float("nan")]), Series([0.1, 0.3], [0.8, 0.7], 9)], shares),
        *lines([Series([1, 2], [0.5, 0.6], joined=False)], shares, small=True),
        *scatter([Series([1e-3, 10.0], [1e-4, 2.0], 1)], Axes("predicted", "measured", log="xy")),
        *pairs(Series([1, 2], [0.1, 0.2], 1), Series([1, 2], [0.01, 0.02]), Axes(log="y", percent="y")),
        *fan(Series([0.3, 0.5], [0.01, 0.03]), 0.05, (0.04, 0.06), shares),
        *depth([3, 4], [8, 4], Axes("group", "channels"))[0],
    ]
    for drawing in drawn:
        assert drawing.startswith('<svg viewBox="0 0 ')
        assert not re.search(r"#[0-9a-fA-F]{6}\b", drawing), "a colour that the page does not know"
        assert "currentColor" in drawing and "nan" not in drawing.lower()
    assert "var(--line-0)" in drawn[0] and "var(--line-1)" in drawn[0]
    assert ">10%<" in drawn[0]


def test_networks_that_share_a_colour_differ_in_dashes() -> None:
    looks = [look(style_of(number)) for number in range(20)]
    assert len(set(looks)) == len(looks)
    assert all(colour != "--line-7" for colour, _ in looks), "that is the original's"


@pytest.mark.parametrize(("number", "runs"), [(5, [1, 1]), (200, [1, 2]), (500, [3, 5])])
def test_bars_are_of_several_groups_where_there_are_many(number: int, runs: list[int]) -> None:
    drawings, found = depth([1] * number, [2] * number, Axes("group", "channels"))
    assert found == runs
    for drawing, run in zip(drawings, runs, strict=True):
        bars = -(-number // run)
        paths = re.findall(r' d="([^"]*)"[^>]*fill: var\(--(kept|gone)\)', drawing)
        assert [(path.count("M"), name) for path, name in paths] == [(bars, "kept"), (bars, "gone")] * 2


def test_drawing_leaves_settings_as_they_are() -> None:
    settings = dict(matplotlib().rcParams)
    lines([Series([1, 2], [1, 2])], Axes())
    assert dict(matplotlib().rcParams) == settings


def colours(scheme: str) -> dict[str, list[float]]:
    """Colours of the style sheet, each as red, green and blue from 0 to 1; those of the dark one come second."""
    sheet = (Path(onnxprune.report.__file__).parent / "templates" / "page.css").read_text()
    blocks = re.findall(r":root \{(.*?)\}", sheet, flags=re.DOTALL)
    own = re.findall(r"(--[a-z0-9-]+): #([0-9a-f]{6});", blocks[["light", "dark"].index(scheme)])
    return {name: [int(value[place : place + 2], 16) / 255 for place in (0, 2, 4)] for name, value in own}


def contrast(first: list[float], second: list[float]) -> float:
    """Contrast as WCAG 2 defines it."""

    def luminance(colour: list[float]) -> float:
        linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in colour]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted(map(luminance, (first, second)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_and_lines_stand_out_from_the_paper(scheme: str) -> None:
    found = colours(scheme)
    assert contrast([0, 0, 0], [1, 1, 1]) == pytest.approx(21)
    for paper in ("--paper", "--sheet"):
        for name in ("--ink", "--soft", "--accent"):
            assert contrast(found[name], found[paper]) >= 4.5, (name, paper)
        drawn = [name for name in found if name.startswith("--line-")]
        assert len(drawn) == 8
        for name in (*drawn, "--kept", "--gone"):
            assert contrast(found[name], found[paper]) >= 3, (name, paper)
    assert contrast(found["--warning"], found["--warned"]) >= 4.5
    assert contrast(found["--kept"], found["--gone"]) >= 1.5


# --- the command


FEW = ("--ratio", "0.5", "--method", "coreset", "--refit", "off", "-q")


def test_a_page_shows_what_the_numbers_beside_it_say(command: Command) -> None:
    path = command.model("lenet-300-100.onnx")
    out, report = command.folder / "out.onnx", command.folder / "report.html"
    command.done(path, out, *FEW, "--report", report)
    facts = json.loads(report.with_suffix(".json").read_text())
    assert report.read_text() == to_html(facts)
    names = {path.name for path in command.folder.iterdir()}
    assert names == {path.name, "out.onnx", "report.html", "report.json"}


def test_a_dry_run_writes_a_page(command: Command) -> None:
    report = command.folder / "r.html"
    command.done(command.model("lenet-300-100.onnx"), *FEW, "--dry-run", "--report", report)
    assert "onnxprune would remove" in Page(report.read_text()).text


def test_a_page_takes_the_place_of_no_other_file(command: Command) -> None:
    path, folder = command.model("lenet-300-100.onnx"), command.folder
    flags = ("--plan", folder / "r.json", "--report", folder / "r.html")
    command.refused(path, folder / "out.onnx", *FEW, *flags, words=["r.json", "it is the file of --plan"])
    (folder / "taken.json").mkdir()
    command.refused("inspect", path, "--report", folder / "taken.html", words=["taken.json", "name a file"])


@pytest.mark.parametrize("module", ["jinja2", "matplotlib.figure"])
def test_a_missing_library_is_named_before_the_work(
    command: Command, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    path, report = command.model("lenet-300-100.onnx"), command.folder / "r.html"
    words = ["pip install 'onnxprune[report]'", ".json"]
    command.refused(path, command.folder / "out.onnx", *FEW, "--report", report, words=words)
    command.done(path, *FEW, "--dry-run", "--plan", command.folder / "plan.html")


def test_templates_are_part_of_the_package() -> None:
    folder = Path(onnxprune.report.__file__).parent / "templates"
    assert {path.name for path in folder.iterdir()} == {"blocks.html", "page.css", "page.html"}
    settings = (Path(onnxprune.__file__).parents[1] / "pyproject.toml").read_text()
    assert "report/templates/*" in settings
