"""Concrete shapes of all tensors, and which of their sizes are the same whatever the inputs' symbolic dimensions are.

Shapes come from ONNX's own inference on a copy without weights, with the symbolic dimensions of the inputs replaced by
numbers, and from folding shape arithmetic where it stops. A second run at other input sizes shows what follows them.
"""

import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

import onnx
from onnx import ModelProto, ValueInfoProto

from onnxprune.errors import RefusedError
from onnxprune.graph.index import Index, attributes
from onnxprune.shapes.fold import Folder, Known, Size, Stored
from onnxprune.shapes.found import COUNTS
from onnxprune.shapes.inferred import Inferred, inferred

__all__ = ["Shapes", "default_shape", "forget_claims", "infer_shapes"]


@dataclass
class Shapes:
    """Shapes and element types of all tensors of the main graph, known values, and which sizes are static.

    Sizes in `multiples` are not, but at other symbolic dimensions they are multiples of what they are here, as that of
    an axis that lays a batch and heads over one another. Those in `batches` grow as the batch does, and with nothing
    else.
    """

    shapes: dict[str, tuple[int, ...]]
    types: dict[str, int]
    known: dict[str, Known]
    static: dict[str, tuple[bool, ...]]
    multiples: dict[str, tuple[bool, ...]]
    batches: dict[str, tuple[bool, ...]]
    inputs: dict[str, tuple[int, ...]]
    assumed: dict[str, tuple[int, ...]]

    def is_static(self, size: Size) -> bool:
        """Tell whether a size is the same whatever the inputs' symbolic dimensions are."""
        flags = self.static.get(size[0])
        return flags is not None and size[1] < len(flags) and flags[size[1]]

    def is_batch(self, size: Size) -> bool:
        """Tell whether a size grows as the batch does, and with nothing else."""
        flags = self.batches.get(size[0])
        return flags is not None and size[1] < len(flags) and flags[size[1]]

    def is_multiple(self, size: Size) -> bool:
        """Tell whether a size is a multiple of what it is here, whatever the inputs' symbolic dimensions are."""
        flags = self.multiples.get(size[0])
        return flags is not None and size[1] < len(flags) and flags[size[1]]


def default_shape(dims: list[int | str], named: dict[str, int] | None = None) -> tuple[int, ...]:
    """Return the shape assumed for an input with symbolic dimensions: batch 1, pictures 224, sequences 16.

    A dimension whose name is in `named` has that size.
    """
    rank = len(dims)
    assumed = []
    for axis, dim in enumerate(dims):
        if isinstance(dim, int) and dim > 0:
            assumed.append(dim)
        elif named and dim in named:
            assumed.append(named[str(dim)])
        elif axis == 0:
            assumed.append(1)
        elif rank == 4:
            channels_last = isinstance(dims[3], int) and dims[3] in (1, 3, 4)
            assumed.append(3 if axis == 1 and not channels_last else 224)
        elif rank == 5:
            assumed.append(3 if axis == 1 else 32)
        else:
            assumed.append(16)
    return tuple(assumed)


def _dims(value: ValueInfoProto, index: Index, given: tuple[int, ...] | None) -> list[int | str] | None:
    """Declared sizes of an input; where it has no rank, those that the layer that reads it leaves it.

    A shape that is given for an input without a rank is taken as it is.
    """
    kind = value.type.tensor_type
    if not value.type.HasField("tensor_type"):
        return None
    if not kind.HasField("shape"):
        guessed = _guessed(index, value.name)
        return [""] * len(given) if given is not None and not _fits(given, guessed or []) else guessed
    return [dim.dim_value if dim.dim_value > 0 else dim.dim_param for dim in kind.shape.dim]


def _guessed(index: Index, name: str) -> list[int | str] | None:
    for edge in index.consumers.get(name, []):
        node = index.nodes[edge.node]
        weight = index.weights.get(node.input[1]) if len(node.input) > 1 and edge.input == 0 else None
        found = attributes(node)
        if weight is None or len(weight.dims) < 2:
            continue
        if node.op_type in ("Conv", "ConvTranspose"):
            groups = found["group"].i if "group" in found and node.op_type == "Conv" else 1
            read = weight.dims[1] * groups if node.op_type == "Conv" else weight.dims[0]
            return ["", read, *[""] * (len(weight.dims) - 2)]
        if node.op_type in ("Gemm", "MatMul"):
            turned = "transB" in found and found["transB"].i
            return ["", weight.dims[-1 if turned else -2]]
    return None


def _input_shapes(
    index: Index, given: dict[str, tuple[int, ...]]
) -> tuple[dict[str, tuple[int, ...]], dict[str, tuple[int, ...]]]:
    unknown = sorted(set(given) - set(index.inputs))
    if unknown:
        raise RefusedError(
            f"--input-shape names {unknown[0]!r}, which is not an input of the network; its inputs are {index.inputs}"
        )
    shapes: dict[str, tuple[int, ...]] = {}
    assumed: dict[str, tuple[int, ...]] = {}
    named: dict[str, int] = {}
    values = [value for value in index.proto.graph.input if value.name not in index.weights]
    for value in sorted(values, key=lambda item: item.name not in given):
        dims = _dims(value, index, given.get(value.name))
        if value.name in given:
            shape = given[value.name]
            if dims is not None and not _fits(shape, dims):
                raise RefusedError(
                    f"--input-shape gives {value.name!r} the shape {list(shape)}, the file declares {dims}; "
                    "give numbers for the symbolic dimensions only"
                )
            shapes[value.name] = shape
        elif dims is not None:
            shapes[value.name] = default_shape(dims, named)
            if any(isinstance(dim, str) for dim in dims):
                assumed[value.name] = shapes[value.name]
        for dim, size in zip(dims or (), shapes.get(value.name, ()), strict=False):
            if isinstance(dim, str) and dim not in ("", "?"):
                named.setdefault(dim, size)
    return shapes, assumed


def _fits(shape: tuple[int, ...], dims: list[int | str]) -> bool:
    return len(shape) == len(dims) and all(isinstance(d, str) or d == s for s, d in zip(shape, dims, strict=True))


def _prepare(skeleton: ModelProto, inputs: dict[str, tuple[int, ...]]) -> None:
    """Set the inputs' shapes and forget every shape that the file claims for other tensors."""
    graph = skeleton.graph
    for value in graph.input:
        if value.name in inputs:
            kind = value.type.tensor_type
            kind.shape.Clear()
            for size in inputs[value.name]:
                kind.shape.dim.add().dim_value = size
    forget_claims(skeleton)


def forget_claims(proto: ModelProto) -> None:
    """Leave out, in place, what a file says of shapes but of its inputs: onnxruntime takes wrong ones at their word."""
    for value in proto.graph.output:
        if value.type.HasField("tensor_type"):
            value.type.tensor_type.ClearField("shape")
    del proto.graph.value_info[:]


def _infer(model: ModelProto) -> dict[str, Inferred]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = onnx.shape_inference.infer_shapes(model, check_type=False, strict_mode=False, data_prop=True)
    return _read(found.graph.output, found.graph.value_info, found.graph.input)


def _read(*groups: Iterable[ValueInfoProto]) -> dict[str, Inferred]:
    return {value.name: inferred(value.type) for group in groups for value in group}


def infer_shapes(index: Index, skeleton: ModelProto, given: dict[str, tuple[int, ...]] | None = None) -> Shapes:
    """Find the shape of every tensor of the main graph, and the values of shape arithmetic.

    Parameters
    ----------
    index : Index
        Index over the model.
    skeleton : ModelProto
        A copy of the model without its big weights; modified here.
    given : dict of str to tuple of int, optional
        Shapes for inputs with symbolic dimensions; a stated default is assumed for the others.

    Returns
    -------
    Shapes
        Tensors whose shape cannot be found are missing from `shapes`.

    Raises
    ------
    RefusedError
        If `given` names no input or contradicts the file.
    """
    inputs, assumed = _input_shapes(index, given or {})
    claimed = _read(index.proto.graph.value_info, index.proto.graph.output)
    del skeleton.graph.value_info[:]
    for domain in {node.domain for node in index.nodes} - set(index.opsets):
        skeleton.opset_import.add(domain=domain, version=1)
    declared = [(value, _copy_of(value)) for value in (*skeleton.graph.input, *skeleton.graph.output)]
    stored = Stored.of(index)
    folder = _run(index, skeleton, inputs, claimed, stored)
    shapes = folder.shapes
    if not (assumed or given or folder.counted):
        static = {n: (True,) * len(s) for n, s in shapes.items()}
        return Shapes(shapes, folder.types, folder.known, static, static, {}, inputs, assumed)
    near, far = (
        _run(index, skeleton, _perturbed(index, inputs, step), claimed, stored, count=count).shapes
        for step, count in zip(_STEPS, COUNTS[1:], strict=True)
    )
    symbolic: dict[str, Inferred] = {}
    if (assumed or given) and not all(len(shape) == len(near.get(name, [])) for name, shape in shapes.items() if shape):
        for value, before in declared:
            value.CopyFrom(before)
        symbolic = _infer(skeleton)
    static = {
        name: _unmoved(shape, near.get(name), far.get(name), symbolic.get(name)) for name, shape in shapes.items()
    }
    multiples = {name: _growing(shape, near.get(name), far.get(name)) for name, shape in shapes.items()}
    batches = {name: _as_batch(shape, near.get(name), far.get(name)) for name, shape in shapes.items()}
    return Shapes(shapes, folder.types, folder.known, static, multiples, batches, inputs, assumed)


def _copy_of(value: ValueInfoProto) -> ValueInfoProto:
    copy = ValueInfoProto()
    copy.CopyFrom(value)
    return copy


def _run(
    index: Index,
    skeleton: ModelProto,
    inputs: dict[str, tuple[int, ...]],
    claimed: dict[str, Inferred],
    stored: Stored,
    *,
    count: int = COUNTS[0],
) -> "Folder":
    _prepare(skeleton, inputs)
    folder = Folder(index, _infer(skeleton), claimed, count=count, stored=stored)
    folder.run()
    return folder


# How far symbolic dimensions are moved to see which sizes follow them: sequences by more than the stride of most audio
# networks, then by more than that of all.
_STEPS = (1 << 10, 1 << 16)
_BATCHES, _PICTURES = (3, 5), (2, 4)
# Shapes that are remembered: those of a network's tensors are few.
_REPEATED = 4096


def _perturbed(index: Index, inputs: dict[str, tuple[int, ...]], step: int) -> dict[str, tuple[int, ...]]:
    """Other sizes for the symbolic dimensions: batch and pictures a few times as large, sequences longer by a step."""
    place = _STEPS.index(step)
    other = {}
    for value in index.proto.graph.input:
        dims = _dims(value, index, inputs[value.name]) if value.name in inputs else None
        if dims is not None:
            sizes = enumerate(zip(inputs[value.name], dims, strict=True))
            other[value.name] = tuple(
                size if isinstance(dim, int) else _moved(size, place, first=axis == 0) for axis, (size, dim) in sizes
            )
    return other


def _moved(size: int, place: int, *, first: bool) -> int:
    if first:
        return size * _BATCHES[place]
    return size * _PICTURES[place] if size >= 32 else size + _STEPS[place]


@lru_cache(_REPEATED)
def _as_batch(shape: tuple[int, ...], near: tuple[int, ...] | None, far: tuple[int, ...] | None) -> tuple[bool, ...]:
    """Tell which sizes grow with the batch alone."""
    if near is None or far is None or not len(near) == len(far) == len(shape):
        return (False,) * len(shape)
    return tuple((b, c) == tuple(a * times for times in _BATCHES) for a, b, c in zip(shape, near, far, strict=True))


@lru_cache(_REPEATED)
def _growing(shape: tuple[int, ...], near: tuple[int, ...] | None, far: tuple[int, ...] | None) -> tuple[bool, ...]:
    """Tell which sizes are multiples of what they are here, at other inputs too."""
    if near is None or far is None or not len(near) == len(far) == len(shape):
        return (False,) * len(shape)
    return tuple(a > 0 and b % a == 0 and c % a == 0 for a, b, c in zip(shape, near, far, strict=True))


@lru_cache(_REPEATED)
def _unmoved(
    shape: tuple[int, ...],
    near: tuple[int, ...] | None,
    far: tuple[int, ...] | None,
    symbolic: Inferred | None,
) -> tuple[bool, ...]:
    """Tell which sizes do not follow the symbolic dimensions: inference says so, or other inputs do not move them.

    Far away, arithmetic may be too long to be followed; what is not known there says nothing.
    """
    if shape == near and far in (shape, None):
        return (True,) * len(shape)
    flags = (None if symbolic is None else symbolic.static) or ()
    flags = flags if len(flags) == len(shape) else (False,) * len(shape)
    if near is None or len(near) != len(shape):
        return flags
    beyond = far if far is not None and len(far) == len(shape) else shape
    return tuple(flag or a == b == c for flag, a, b, c in zip(flags, shape, near, beyond, strict=True))
