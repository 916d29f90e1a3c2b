"""Small housekeeping on a graph being edited: names that are free, and parts that nobody reads any more."""

from onnx import ModelProto

from onnxprune.graph.index import outer_reads
from onnxprune.graph.unread import drop_unread

__all__ = ["drop_dead", "free_name"]


def free_name(name: str, taken: set[str]) -> str:
    """Return a name that no tensor has, made from `name`, and take it."""
    number = 0
    fresh = f"{name}_pruned"
    while fresh in taken:
        number += 1
        fresh = f"{name}_pruned{number}"
    taken.add(fresh)
    return fresh


def drop_dead(model: ModelProto, before: list[list[str]]) -> None:
    """Remove nodes and initializers that lost their last reader by the edit; those unread before stay.

    Parameters
    ----------
    model : ModelProto
        Edited in place.
    before : list of list of str
        The inputs of the nodes before the edit.
    """
    read = {name for node in model.graph.node for name in (*node.input, *outer_reads(node))}
    read.update(value.name for value in model.graph.output)
    drop_unread(model, {name for inputs in before for name in inputs if name} - read)
