"""The page of a network whose single weights were zeroed."""

from typing import Any

from rich.text import Text

from onnxprune.report.blocks import LONG, Bar, Page, Table, Tile, lines, section, share
from onnxprune.report.layer_blocks import depth_figure
from onnxprune.report.provenance import file_name, provenance
from onnxprune.report.prune_page import fidelity_table, fidelity_tiles, sizes_table
from onnxprune.report.sparse import sparse_view

__all__ = ["sparse_page"]


def sparse_page(facts: dict[str, Any]) -> Page:
    """Make the page.

    Parameters
    ----------
    facts : dict
        From `sparsify`.

    Returns
    -------
    Page
    """
    found, name = facts["sparse"], file_name(facts["input"], "a network")
    layers, zeros = found["layers"], 1 - found["density"]
    validation = facts["validation"] or {"fidelity": {}, "accuracy": None}
    asked = f"{share(facts['request']['ratio'], 2)} of the weights of {name} were to be zero, by {found['method']}"
    done = "are" if facts["validation"] else "would be"
    rows = [
        (
            layer["weight"],
            layer["node"],
            Bar(layer["kept"] / layer["elements"], f"{layer['kept']:,} of {layer['elements']:,}"),
            "x".join(map(str, layer["shape"])),
        )
        for layer in layers
    ]
    return Page(
        title=f"{name}, single weights zeroed",
        sentence=f"{asked}: {found['elements'] - found['kept']:,} of {found['elements']:,} {done}, in {len(rows)} "
        "layers; shapes stay.",
        tiles=[
            Tile("weights that are zero", share(zeros, 2), f"{found['kept']:,} of {found['elements']:,} stay"),
            *fidelity_tiles(validation["fidelity"], validation["accuracy"]),
        ],
        sections=[
            *section("before-after", "Before and after", sizes_table(facts)),
            *section("proof", "Proof and fidelity", lines(_said(facts))),
            *section("outputs", "Outputs", fidelity_table(validation["fidelity"]) if validation["fidelity"] else None),
            *section(
                "weights",
                "Weights",
                depth_figure(
                    [layer["kept"] for layer in layers], [layer["elements"] for layer in layers], "weights", "layer"
                ),
                Table(
                    columns=("weight", "read by", "stay", "shape"),
                    rows=rows,
                    words=3,
                    title=f"All {len(rows):,} layers",
                    folded=len(rows) > LONG,
                ),
            ),
            *provenance(facts, [("original", facts["input"]), ("with zeros", facts["output"])]),
        ],
    )


def _said(facts: dict[str, Any]) -> list[Text]:
    """The sentences that a terminal shows."""
    return [part for part in sparse_view(facts) if isinstance(part, Text)]
