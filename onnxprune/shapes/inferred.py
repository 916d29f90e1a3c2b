"""What ONNX's inference says of a tensor, in plain values: its protobuf is slow to ask, and says much the same."""

from functools import lru_cache
from typing import NamedTuple

from onnx import TypeProto

__all__ = ["Inferred", "inferred"]

# Types that are remembered: those of a network's tensors are few.
_REPEATED = 4096


class Inferred(NamedTuple):
    """A tensor's shape, None where a size is not a number; its element type, 0 if unknown; which sizes are numbers."""

    shape: tuple[int, ...] | None
    kind: int
    static: tuple[bool, ...] | None


def inferred(kind: TypeProto) -> Inferred:
    """Read what inference says of a tensor."""
    return _inferred(kind.SerializeToString())


@lru_cache(_REPEATED)
def _inferred(data: bytes) -> Inferred:
    """Types of a network's tensors are few, and each is slower to ask than its bytes are."""
    kind = TypeProto.FromString(data).tensor_type
    if not kind.HasField("shape"):
        return Inferred(None, kind.elem_type, None)
    static = tuple(dim.HasField("dim_value") for dim in kind.shape.dim)
    return Inferred(tuple(dim.dim_value for dim in kind.shape.dim) if all(static) else None, kind.elem_type, static)
