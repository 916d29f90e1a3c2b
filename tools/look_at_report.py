"""Photograph reports in headless Chromium: light and dark, as wide as a desk's screen and as narrow as a phone's.

    PYTHONPATH=tests python tools/look_at_report.py OUT [REPORT.json …] [--chromium PATH]

Of each report that onnxprune wrote, and of made-up ones with 5 and with 500 groups, it makes the page, says how big it
is and how long it took, whether anything is wider than the screen, and what the browser complained of.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from report_samples import huge_comparison, pruned

from onnxprune.report.html import to_html

WIDTHS = {"desk": 1280, "phone": 390, "small": 360}
SCHEMES = {"dark": 0, "light": 1}
QUIET = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--allow-file-access-from-files",
    "--enable-logging=stderr",
    "--force-device-scale-factor=1",
)
# A browser's window has a least width; a frame in it has none.
FRAME = """<!doctype html><meta charset="utf-8">
<style>body {{ margin: 0 }} iframe {{ border: 0; display: block }}</style>
<iframe src="{page}" width="{width}" height="{height}"></iframe>
<script>document.querySelector("iframe").onload = event => {{
  const root = event.target.contentDocument.documentElement
  document.title = root.scrollWidth + "x" + root.scrollHeight
}}</script>"""


def browse(chromium: str, page: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    """Run the browser once, with a profile of its own."""
    with tempfile.TemporaryDirectory() as profile:
        command = [chromium, *QUIET, f"--user-data-dir={profile}", "--virtual-time-budget=4000", *flags, page.as_uri()]
        return subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)


def look(chromium: str, page: Path, scheme: str, width: int) -> tuple[Path, bool, list[str]]:
    """Photograph a page from top to bottom; whether it is wider than the screen, and what the console says."""
    frame = page.with_name(f"{page.stem}-{scheme}-{width}.frame.html")
    setting = f"--blink-settings=preferredColorScheme={SCHEMES[scheme]}"
    frame.write_text(FRAME.format(page=page.name, width=width, height=800), encoding="utf-8")
    seen = browse(chromium, frame, setting, "--dump-dom")
    found = re.search(r"<title>(\d+)x(\d+)</title>", seen.stdout)
    assert found is not None, f"{page} did not load: {seen.stderr[-500:]}"
    across, down = map(int, found.groups())
    frame.write_text(FRAME.format(page=page.name, width=width, height=down), encoding="utf-8")
    photograph = page.with_name(f"{page.stem}-{scheme}-{width}.png")
    browse(chromium, frame, setting, f"--window-size={max(width, 500)},{down}", f"--screenshot={photograph}")
    frame.unlink()
    return photograph, across > width, [line for line in seen.stderr.splitlines() if "CONSOLE" in line]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="a folder for pages and photographs")
    parser.add_argument("reports", type=Path, nargs="*", help="what onnxprune wrote with --report FILE.json")
    parser.add_argument("--chromium", default="chromium")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    every: dict[str, dict[str, Any]] = {f"groups-{number}": pruned(number) for number in (5, 500)}
    every["huge-comparison"] = huge_comparison()
    every |= {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in arguments.reports}
    wrong = 0
    for name, facts in every.items():
        page, start = (arguments.out / f"{name}.html").resolve(), time.perf_counter()
        page.write_text(to_html(facts), encoding="utf-8")
        spent, size = time.perf_counter() - start, page.stat().st_size
        print(f"{name}: {size / 1e6:.2f} MB in {spent:.1f} s")
        browse(arguments.chromium, page, f"--print-to-pdf={page.with_suffix('.pdf')}", "--no-pdf-header-footer")
        for scheme in SCHEMES:
            for width in WIDTHS.values():
                photograph, wide, console = look(arguments.chromium, page, scheme, width)
                wrong += wide + len(console) + (size > 3e6) + (spent > 5)
                print(f"  {photograph.name}", "WIDER THAN THE SCREEN" if wide else "", *console)
    return min(wrong, 1)


if __name__ == "__main__":
    sys.exit(main())
