"""What zeroing single weights did, for a terminal."""

from typing import Any

from rich.console import RenderableType
from rich.text import Text

from onnxprune.report.outputs import accuracy_lines, fidelity_lines, learnt_lines
from onnxprune.report.rows import DRY, many, new_table, row, seconds

__all__ = ["sparse_view"]

Facts = dict[str, Any]


def sparse_view(facts: Facts, *, verbose: bool = False) -> list[RenderableType]:
    """Show where zeros were written.

    Parameters
    ----------
    facts : dict
        From `sparsify`.
    verbose : bool
        Every weight, and times too.
    """
    found = facts["sparse"]
    kept, total = found["kept"], found["elements"]
    said = f"Of {total:,} weights of {many(len(found['layers']), 'layer', 'layers')} {kept:,} stay"
    parts: list[RenderableType] = [Text(f"{said} ({kept / total:.4%}), by {found['method']}; the others are zero.")]
    if verbose:
        table = new_table("weight", "node", "shape", "elements", "kept", "density", title="Weights")
        for layer in found["layers"]:
            size, left = layer["elements"], layer["kept"]
            shape = "x".join(map(str, layer["shape"]))
            row(table, layer["weight"], layer["node"], shape, f"{size:,}", f"{left:,}", f"{left / size:.4%}")
        parts += [table, seconds(facts)]
    if found["idle"]:
        parts.append(Text(f"Nothing passes any more through {', '.join(found['idle'])}.", style="yellow"))
    validation = facts["validation"]
    if validation is None:
        return [*parts, Text(DRY)]
    checked = f"All else is as it was, to the bit; run on {validation['provider']}."
    if not validation["fidelity"]:
        checked = "All else is as it was, to the bit; it could not be run on inputs that are made up."
    return [
        *parts,
        Text(checked),
        *fidelity_lines(facts),
        *accuracy_lines(validation["accuracy"]),
        *learnt_lines(facts),
    ]
