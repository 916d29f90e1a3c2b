#!/usr/bin/env python3
"""Write the README's tables of methods, operators and pins, which lie between `<!-- table:NAME -->` and `<!-- end -->`.

    python tools/readme_tables.py

Run it after adding a method or an operator; tests/test_readme.py fails where the README says something else than the
code does.
"""

from __future__ import annotations

import re
from pathlib import Path

from onnxprune.methods import METHODS
from onnxprune.methods.sparsity import SPARSIFIERS
from onnxprune.ops import RULES
from onnxprune.ops.labels import Purpose
from onnxprune.report.tables import methods_table, operators_table, purposes_table

README = Path(__file__).resolve().parent.parent / "README.md"


def tables() -> dict[str, str]:
    """Return each table by its name; an operator's family is the file that its rule is in."""
    rules = [rule for group in RULES.values() for rule in group]
    return {
        "methods": methods_table((name, recipe.summary) for name, recipe in METHODS.items()),
        "sparse": methods_table(((name, row.summary) for name, row in SPARSIFIERS.items()), "what goes first"),
        "operators": operators_table(
            (rule.apply.__module__.split(".")[-1], rule.domain, rule.operator) for rule in rules
        ),
        "purposes": purposes_table((purpose.value, purpose.explanation) for purpose in Purpose),
    }


def filled(text: str) -> str:
    """Return a text with its tables as they should be."""
    for name, table in tables().items():
        pattern = rf"(<!-- table:{name} -->\n).*?(<!-- end -->)"
        text = re.sub(pattern, lambda found, table=table: f"{found[1]}{table}\n{found[2]}", text, flags=re.DOTALL)
    return text


def main() -> None:
    """Write the tables."""
    README.write_text(filled(README.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
