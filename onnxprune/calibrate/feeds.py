"""Inputs for a network when nobody gives any: random numbers of the right shapes, types and ranges."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, TypeProto, helper

from onnxprune.graph.index import Index
from onnxprune.shapes.infer import Shapes

__all__ = ["Feeds", "jittered", "looked_up", "other_shapes", "random_feeds", "shape_attempts"]

Feeds = dict[str, NDArray[Any]]
"""One value per input of the network; a list of one where the input is a sequence."""

_LOOK_UPS = ("Gather", "GatherElements")
_MOVES = ("Cast", "Reshape", "Unsqueeze", "Squeeze", "Identity", "Flatten", "Slice")
_LARGER: tuple[dict[int, int], ...] = ({}, {16: 64, 224: 256}, {16: 512, 224: 320}, {16: 4096, 224: 640})


def looked_up(index: Index, shapes: Shapes, name: str) -> int | None:
    """Rows of the smallest table that an integer input looks things up in; None where it looks up nothing."""
    pending, seen, sizes = [name], {name}, []
    while pending:
        current = pending.pop()
        for edge in index.consumers.get(current, []):
            node = index.nodes[edge.node]
            if node.op_type in _LOOK_UPS and edge.input == 1 and node.input[0] in shapes.shapes:
                axis = next((a.i for a in node.attribute if a.name == "axis"), 0)
                sizes.append(shapes.shapes[node.input[0]][axis])
            elif node.op_type in _MOVES:
                pending.extend(out for out in node.output if out and out not in seen)
                seen.update(node.output)
    return max(min(sizes), 1) if sizes else None


def shape_attempts(index: Index, shapes: Shapes) -> Iterator[dict[str, tuple[int, ...]]]:
    """Yield shapes for the inputs: the assumed ones, then larger ones for symbolic dimensions.

    A network that was exported with symbolic sizes often runs with some of them only.
    """
    for larger in _LARGER if shapes.assumed else _LARGER[:1]:
        yield _resized(index, shapes, larger)


def other_shapes(index: Index, shapes: Shapes, at: Mapping[str, tuple[int, ...]]) -> list[dict[str, tuple[int, ...]]]:
    """Return shapes that differ from those that a network runs at in all symbolic dimensions, then in batches alone.

    Parameters
    ----------
    index, shapes
        The network.
    at : mapping of str to tuple of int
        Shapes of the inputs that it is known to run at.
    """
    sizes = {size for shape in at.values() for size in shape}
    steps = {size: 2 if size == 1 else size + (32 if size >= 32 else 4) for size in sizes}
    here = replace(shapes, inputs=dict(at))
    return [_resized(index, here, steps), _resized(index, here, {1: 2})] if shapes.assumed else []


def _resized(index: Index, shapes: Shapes, larger: Mapping[int, int]) -> dict[str, tuple[int, ...]]:
    """Shapes of the inputs with other sizes for symbolic dimensions."""
    symbolic = {}
    for value in index.proto.graph.input:
        if value.name in shapes.assumed:
            dims = value.type.tensor_type.shape.dim
            loose = [not (dim.HasField("dim_value") and dim.dim_value > 0) for dim in dims]
            symbolic[value.name] = loose or [True] * len(shapes.assumed[value.name])
    return {
        name: tuple(
            larger.get(size, size) if loose else size
            for size, loose in zip(shape, symbolic.get(name, [False] * len(shape)), strict=True)
        )
        for name, shape in shapes.inputs.items()
    }


def random_feeds(
    index: Index, shapes: Shapes, rng: np.random.Generator, sizes: Mapping[str, tuple[int, ...]] | None = None
) -> Feeds:
    """Draw one set of inputs: normal numbers, integers within the tables they look up, coin flips.

    Parameters
    ----------
    index, shapes
        The network, and the shapes of its inputs.
    rng : numpy.random.Generator
    sizes : mapping, optional
        Shapes of the inputs in place of the assumed ones.

    Returns
    -------
    dict of str to ndarray
    """
    feeds: Feeds = {}
    for value in index.proto.graph.input:
        if value.type.HasField("sequence_type"):
            feeds[value.name] = _sequence(value.type.sequence_type.elem_type, rng)
        if value.name not in shapes.inputs:
            continue
        shape = (shapes.inputs if sizes is None else sizes)[value.name]
        kind = value.type.tensor_type.elem_type
        if kind == TensorProto.STRING:
            feeds[value.name] = np.full(shape, "", dtype=object)
            continue
        dtype = np.dtype(helper.tensor_dtype_to_np_dtype(kind))
        if kind == TensorProto.BOOL:
            feeds[value.name] = np.asarray(rng.random(shape) < 0.5)
        elif dtype.kind in "iu":
            # Integers of a byte are quantised numbers, others positions or choices.
            default = int(np.iinfo(dtype).max) + 1 if dtype.itemsize == 1 else 2
            bound = looked_up(index, shapes, value.name) or default
            feeds[value.name] = rng.integers(0, bound, size=shape).astype(dtype)
        else:
            feeds[value.name] = rng.standard_normal(shape).astype(dtype)
    return feeds


def _sequence(kind: TypeProto, rng: np.random.Generator) -> Any:
    """One tensor, in a list as onnxruntime wants it."""
    sizes = [dim.dim_value or 1 for dim in kind.tensor_type.shape.dim]
    drawn = rng.standard_normal(sizes)
    return [np.asarray(drawn).astype(helper.tensor_dtype_to_np_dtype(kind.tensor_type.elem_type))]


def jittered(feeds: Feeds, rng: np.random.Generator, share: float) -> Feeds:
    """Change the floats of some inputs in their last digits, by about this share of each."""
    return {
        name: (value * (1 + share * rng.standard_normal(value.shape))).astype(value.dtype)
        if isinstance(value, np.ndarray) and value.dtype.kind == "f"
        else value
        for name, value in feeds.items()
    }
