"""Reports to look at: pages that refer to nothing else, with every number that they say they have."""

import importlib
import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from doors import MODELS, Command
from net import Net

from onnxprune import prune
from onnxprune.report.html import to_html

RESNET = MODELS / "resnet8-mnist.onnx"


class Page(HTMLParser):
    """What a page holds."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.refers: list[str] = []
        self.words = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "link", "br", "img", "input", "hr", "col", "path", "use", "wbr"):
            self.open.append(tag)
        self.refers += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href")]

    def handle_endtag(self, tag: str) -> None:
        if tag in self.open:
            assert self.open.pop() == tag, tag

    def handle_data(self, data: str) -> None:
        self.words += data


def checked(text: str) -> str:
    page = Page(text)
    assert not page.open, page.open
    assert all(value.startswith(("#", "data:")) for value in page.refers), page.refers
    assert "http://" not in text.replace("http://www.w3.org", "") and "https://" not in text
    assert len(text) < 3_000_000 and "<script" not in text
    return page.words


@pytest.mark.parametrize("asked", [(), ("--refit", "off", "--method", "l1"), ("--reinit",)])
def test_a_prune(asked: tuple[str, ...], command: Command, tmp_path: Path) -> None:
    page, plain = tmp_path / "r.html", tmp_path / "r.json"
    command.done(RESNET, tmp_path / "out.onnx", "--ratio", "0.5", "--synthetic", "64", *asked, "--report", page)
    words, facts = checked(page.read_text(encoding="utf-8")), json.loads(plain.read_text(encoding="utf-8"))
    for key in ("params", "macs", "bytes"):
        assert f"{facts['input'][key]:,}" in words and f"{facts['output'][key]:,}" in words
    assert all(group["name"] in words for group in facts["groups"])
    assert facts["input"]["sha256"] in words


def test_a_family_a_comparison_and_an_inspection(command: Command, tmp_path: Path) -> None:
    page = tmp_path / "f.html"
    flags = ("--method", "l2", "--refit", "off")
    command.done("family", RESNET, tmp_path / "sizes", "--ratios", "0.3,0.6", *flags, "--report", page)
    assert "resnet8-mnist-0.6" in checked(page.read_text(encoding="utf-8")) and page.with_suffix(".json").exists()
    page = tmp_path / "c.html"
    member = tmp_path / "sizes" / "resnet8-mnist-0.6.onnx"
    asked = ("--synthetic", "32", "--noise", "--draws", "1", "--inputs", "4", "--potential", "--report", page)
    command.done("compare", RESNET, member, *asked)
    words = checked(page.read_text(encoding="utf-8"))
    facts = json.loads(page.with_suffix(".json").read_text(encoding="utf-8"))
    assert f"{facts['networks'][0]['params']:,}" in words
    assert "potential" in words.lower() and "noise" in words.lower()
    page = tmp_path / "i.html"
    command.done("inspect", RESNET, "--report", page)
    assert "78,426" in checked(page.read_text(encoding="utf-8"))
    page = tmp_path / "s.html"
    command.done(RESNET, tmp_path / "s.onnx", "--sparse", "--ratio", "0.9", "--report", page)
    assert "synflow" in checked(page.read_text(encoding="utf-8"))


def test_names_that_look_like_markup_are_words() -> None:
    net = Net(seed=1)
    x = net.add("Relu", net.gemm(net.input("n", 6), 8, 6))
    net.nodes[0].name = "<script>alert(1)</script>&amp;"
    proto = net.done(net.gemm(x, 3, 8))
    text = to_html(prune(proto, ratio=0.3, method="l1", refit="off", best_effort=True).report)
    assert "<script" not in text and "<script>alert(1)</script>&amp;" in checked(text)


def test_many_groups_stay_small() -> None:
    net = Net(seed=1)
    x = net.gemm(net.input("n", 6), 4, 6)
    for _ in range(200):
        x = net.gemm(net.add("Relu", x), 4, 4)
    report = prune(net.done(x), ratio=0.2, method="l1", refit="off", best_effort=True).report
    assert len(report["groups"]) == 200
    assert "gemm" in checked(to_html(report))


def test_what_is_missing_is_said_before_the_work(
    command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    found = importlib.import_module

    def missing(name: str, *more: Any) -> Any:
        if name.startswith("matplotlib"):
            raise ImportError("no such module")
        return found(name, *more)

    monkeypatch.setattr(importlib, "import_module", missing)
    ran = command(RESNET, tmp_path / "out.onnx", "--ratio", "0.5", "--report", tmp_path / "r.html")
    assert ran.code == 1 and "onnxprune[report]" in ran.err and not list(tmp_path.iterdir())


def test_a_page_and_its_numbers_are_written_together(command: Command, tmp_path: Path) -> None:
    (tmp_path / "r.json").mkdir()
    ran = command(RESNET, tmp_path / "out.onnx", "--ratio", "0.5", "--method", "l1", "--report", tmp_path / "r.html")
    assert ran.code == 1 and not (tmp_path / "r.html").exists() and not (tmp_path / "out.onnx").exists()
    ran = command(RESNET, tmp_path / "out.onnx", "--ratio", "0.5", "--report", tmp_path / "r.txt")
    assert ran.code == 2 and ".html" in ran.err
